package protocols_test

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"labgate/lab"
	"labgate/protocols"
)

// A file made to cost as much as it can is still answered at once.
func TestHostileFiles(t *testing.T) {
	c := demoLab(t)
	head := "protocol: hostile\nversion: 1.0.0\nroles: {reactor: {is: thermostat/v1}, gold: {is: pump/v1}}\nsteps:\n"
	name := strings.Repeat("x", 20)
	var slips, nested, memory strings.Builder
	for i := range 1500 {
		fmt.Fprintf(&slips, "  - {id: %s_%d, wait: {until: %s_%d.y > 1 and reactor.heating, timeout: 1 s}}\n", name, i, name, 9000+i)
		fmt.Fprintf(&nested, "  - {id: r%d, repeat: {max: 2}, steps: [{id: s%d, repeat: {max: 2}, steps: [{wait: {for: 1 s}}]}]}\n", i, i)
	}
	for i := range 100 {
		fmt.Fprintf(&memory, "  - {id: m%d, wait: {until: 'held(reactor.heating, 1 s)', timeout: 2 s}}\n", i)
	}
	for what, x := range map[string]struct {
		text, code string
		count      int
	}{
		"slips":    {head + slips.String(), "unknown_name", 1500},
		"nested":   {head + nested.String(), "too_many", 1},
		"memories": {head + memory.String(), "too_many", 100 - protocols.MaxMemories},
	} {
		_, issues := protocols.Parse("hostile.yaml", []byte(x.text), c.Classes)
		found := 0
		for _, i := range issues {
			if i.Code == x.code {
				found++
			}
		}
		if found != x.count {
			t.Errorf("%s: %d issues, %d of %s", what, len(issues), found, x.code)
		}
	}
	p := parse(t, withInputs)
	many := map[string]lab.Value{"volume": quantity(0.2, "mL")}
	for i := range 20000 {
		many[fmt.Sprintf("%s%d", name, i)] = lab.Value{}
	}
	if _, issues := p.CheckInputs(many); len(issues) != 101 || issues[100].Say != "and 19900 more inputs that inputs does not take" {
		t.Errorf("%d issues, %v", len(issues), issues[len(issues)-1])
	}
}

// Whatever the bytes, the answer is one clear issue or a few, in little memory:
// a file that is not YAML, one of 100 MB, one nested 10,000 deep, one whose
// aliases would explode.
func TestHostileBytes(t *testing.T) {
	c := demoLab(t)
	head := "protocol: hostile\nversion: 1.0.0\nroles: {gold: {is: pump/v1}}\n"
	bomb := "a: &a [" + strings.Repeat("x, ", 60) + "x]\n"
	for n := 'a'; n < 'k'; n++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", n+1, n+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", n), 60), ", "))
	}
	huge := append([]byte(head+"steps:\n"), bytes.Repeat([]byte("  - {wait: {for: 1 s}}\n"), 100<<20/23)...)
	for what, x := range map[string]struct {
		data []byte
		code string
	}{
		"zeros":        {make([]byte, 1<<20), "control_character"},
		"noise":        {bytes.Repeat([]byte{0xff, 0x00, 0x80, 0x1b}, 1000), "not_text"},
		"not yaml":     {[]byte(head + "steps: [}"), "broken_yaml"},
		"100 MB":       {huge, "too_large"},
		"deep lists":   {[]byte(head + "steps: " + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)), "too_deep"},
		"deep maps":    {[]byte(head + "steps: " + strings.Repeat("{a: ", 10_000) + strings.Repeat("}", 10_000)), "too_deep"},
		"deep indents": {[]byte(head + "steps:\n" + deepIndents(1200)), "too_deep"},
		"deep json":    {[]byte(strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000)), "too_deep"},
		"deep steps":   {[]byte(head + "steps: " + strings.Repeat("[{repeat: {max: 2}, steps: ", 30) + strings.Repeat("}]", 30)), "too_deep"},
		"bomb":         {[]byte(head + bomb + "steps: *k\n"), "anchor"},
		"deep math":    {[]byte(head + "steps:\n  - {wait: {until: '" + strings.Repeat("(", 1_500) + "true" + strings.Repeat(")", 1_500) + "', timeout: 1 s}}\n"), "too_deep"},
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		p, issues := protocols.Parse("hostile.yaml", x.data, c.Classes)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
			t.Errorf("%s: %d MB were used up", what, used>>20)
		}
		if !slices.ContainsFunc(issues, func(i lab.Issue) bool { return i.Code == x.code && i.Line > 0 }) || p != nil || len(issues) > 300 {
			t.Errorf("%s: %d issues, none of them %s: %.300v", what, len(issues), x.code, issues)
		}
	}
}

// deepIndents is maps in maps, one a line.
func deepIndents(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%sa:\n", strings.Repeat(" ", i+1))
	}
	return b.String()
}

// Two protocols of one name and version are one only with the same content; a
// copy is no second one.
func TestLoadTellsOfTwoContents(t *testing.T) {
	c := demoLab(t)
	mine := map[string][]byte{"lab/rinse.yaml": []byte(rinse), "lab/copy.yaml": []byte("# a copy\n" + rinse)}
	own := func(text string) map[string][]byte { return map[string][]byte{"lab/z.yaml": []byte(text)} }
	list, issues := protocols.Load(c.Classes, nil, mine)
	if len(issues) > 0 || len(list) != 1 {
		t.Fatalf("%d protocols, %v", len(list), issues)
	}
	list, issues = protocols.Load(c.Classes, nil, mine, own(strings.Replace(rinse, "max: 0.2", "max: 0.3", 1)))
	if len(list) != 1 || len(issues) != 1 || issues[0].Code != "duplicate_protocol" || issues[0].File != "lab/z.yaml" || issues[0].Line == 0 || !strings.Contains(issues[0].Say, "lab/copy.yaml") {
		t.Errorf("%d protocols, %v", len(list), issues)
	}
	list, issues = protocols.Load(c.Classes, nil, mine, own(strings.Replace(rinse, "version: 1.0.0", "version: 1.0.1", 1)))
	if len(list) != 2 || len(issues) > 0 {
		t.Errorf("%d protocols, %v", len(list), issues)
	}
	// Two folders hold a library's file and a lab's of the same name.
	_, issues = protocols.Load(c.Classes, protocols.Files(protocols.Library()), protocols.Library(), map[string][]byte{"mine.yaml": bytes.Replace(protocols.Library()["coat-films.yaml"], []byte("max: "), []byte("max: 1"), 1)})
	if len(issues) == 0 {
		t.Error("a changed copy of a library's protocol is taken")
	}
}
