package expr

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"labgate/lab"
)

var update = flag.Bool("update", false, "rewrite golden files")

// bench is a scope as the safety engine has it: a lab's properties, groups
// and signals.
type bench struct {
	lab     *lab.Lab
	signals map[string]string
}

func (b bench) Lookup(name string) (Symbol, error) {
	id, p, err := b.lab.ResolveProperty(name)
	if err != nil {
		return Symbol{}, err
	}
	for i, other := range b.lab.Properties() {
		if other == id {
			return Symbol{Slot: i, Type: p.Type, MaxAge: p.MaxAge}, nil
		}
	}
	return Symbol{}, errors.New("not a property of this lab")
}

func (b bench) Tripped(group string) (int, error) {
	if group != "reactor" {
		return 0, fmt.Errorf("%s: no such trip group; did you mean reactor?", group)
	}
	return 100, nil
}

func (b bench) Define(name string) (lab.Source, bool) {
	s, ok := b.signals[name]
	return lab.Source{Text: s, Pos: lab.Pos{File: "interlocks.yaml", Line: 2, Column: 10}}, ok
}

func newBench() bench {
	thermo := &lab.Class{Name: "thermostat/v1", Properties: []lab.Property{
		{Name: "temperature", Type: numberType("degC"), MaxAge: time.Second}, {Name: "heating", Type: boolType, MaxAge: time.Second}}}
	stirrer := &lab.Class{Name: "stirrer/v1", Properties: []lab.Property{{Name: "stir_speed", Type: numberType("rpm"), MaxAge: time.Second}}}
	probe := &lab.Class{Name: "thermometer/v1", Properties: []lab.Property{{Name: "temperature", Type: numberType("degC"), MaxAge: time.Second}}}
	pump := &lab.Class{Name: "pump/v1", Properties: []lab.Property{{Name: "rate", Type: numberType("mL/min"), MaxAge: 2 * time.Second},
		{Name: "dispensed", Type: numberType("mL"), MaxAge: 2 * time.Second}, {Name: "name", Type: lab.Type{Kind: lab.Text}}}}
	cell := &lab.Class{Name: "cell/v1", Properties: []lab.Property{{Name: "state", Type: lab.Type{Kind: lab.Enum, Enum: []string{"idle", "execute"}}, MaxAge: time.Second}}}
	return bench{
		lab: &lab.Lab{Name: "demo", Instruments: []*lab.Instrument{
			{Name: "reactor", Profile: &lab.Profile{Components: []lab.Component{{Name: "jacket", Class: thermo}, {Name: "stirrer", Class: stirrer}, {Name: "probe", Class: probe}}}},
			{Name: "pump_a", Profile: &lab.Profile{Components: []lab.Component{{Name: "pump", Class: pump}}}},
			{Name: "cell", Profile: &lab.Profile{Components: []lab.Component{{Name: "line", Class: cell}}}},
		}},
		signals: map[string]string{
			"hot":     "voted(2, 5 K, reactor.jacket.temperature, reactor.probe.temperature)",
			"chicken": "egg > 1 K", "egg": "chicken - 1 K",
			"wrong": "reactor.stir_sped + 1",
		},
	}
}

// TestErrors compares all issues of wrong expressions with a golden file: one
// line for the text, then one for each issue with its column.
func TestErrors(t *testing.T) {
	const path = "testdata/errors.golden"
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for line := range strings.Lines(string(want)) {
		if strings.HasPrefix(line, "    ") || strings.TrimSpace(line) == "" {
			continue
		}
		if strings.HasPrefix(line, "#") {
			got.WriteString("\n" + line)
			continue
		}
		text := strings.TrimSuffix(line, "\n")
		got.WriteString("\n" + line)
		_, err := Compile(lab.Source{Text: text, Pos: lab.Pos{File: "e", Line: 1, Column: 1}}, newBench())
		var issues lab.Issues
		if !errors.As(err, &issues) {
			t.Errorf("%s: accepted, or no issues: %v", text, err)
		}
		for _, i := range issues {
			got.WriteString("    " + i.Error() + " [" + i.Code + "]\n")
		}
	}
	g := strings.TrimPrefix(got.String(), "\n")
	if *update {
		if err := os.WriteFile(path, []byte(g), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(string(want), g); d != "" && !*update {
		t.Error(d)
	}
}

// TestErrorPlace: the column is that of the source plus the offset in its line,
// counted in characters.
func TestErrorPlace(t *testing.T) {
	for _, c := range []struct {
		text string
		want lab.Pos
	}{
		{"1 mL > x", lab.Pos{File: "a.yaml", Line: 7, Column: 20 + 7}},
		{"5 µL > 1 °C", lab.Pos{File: "a.yaml", Line: 7, Column: 20 + 7}},
		{"true and\n  x", lab.Pos{File: "a.yaml", Line: 8, Column: 20 + 2}},
	} {
		_, err := Compile(lab.Source{Text: c.text, Pos: lab.Pos{File: "a.yaml", Line: 7, Column: 20}}, MapScope{})
		issues, ok := err.(lab.Issues)
		if !ok || issues[0].Pos != c.want {
			t.Errorf("%q: %v; want it at %s", c.text, err, c.want)
		}
	}
}

// TestLimits: what a file can make the loader do is bounded.
func TestLimits(t *testing.T) {
	scope := doubling{MapScope{"x": {0, numberType("1"), 0}, "on": {1, boolType, 0}}}
	for name, c := range map[string]struct{ text, code string }{
		"bytes":       {"x > 1" + strings.Repeat(" ", MaxSource), "too_long"},
		"parentheses": {strings.Repeat("(", 1000) + "x" + strings.Repeat(")", 1000), "too_deep"},
		"not":         {strings.Repeat("not ", 1000) + "on", "too_deep"},
		"minus":       {strings.Repeat("- ", 1000) + "x", "too_deep"},
		"calls":       {strings.Repeat("abs(", 200) + "x" + strings.Repeat(")", 200), "too_deep"},
		"sum":         {strings.Repeat("x + ", 200) + "x", "too_deep"},
		"definitions": {"d30", "too_long"},
		"endless":     {"e", "too_deep"},
		"windows":     {strings.Repeat("rate(x, 1 s) > 1 Hz and ", 65) + "on", "bad_window"},
		"long window": {"rate(x, 25 h) > 1 Hz", "bad_window"},
		"exponent":    {strings.Repeat("x * ", 5) + "1 m9 * 1 m9", "wrong_dimension"},
	} {
		_, err := Compile(lab.Source{Text: c.text}, scope)
		issues, ok := err.(lab.Issues)
		if !ok || issues[0].Code != c.code {
			t.Errorf("%s: %.200v; want %s", name, err, c.code)
		}
	}
	_, err := Compile(lab.Source{Text: strings.Repeat("? ", 2000)}, scope)
	if issues, ok := err.(lab.Issues); !ok || len(issues) != MaxIssues {
		t.Errorf("%d issues", len(issues))
	}
	// A long list of conditions is no depth, and exactly at the limits is fine.
	for _, text := range []string{
		strings.Repeat("on and ", 500) + "on",
		strings.Repeat("(", MaxDepth-1) + "x" + strings.Repeat(")", MaxDepth-1),
		"rate(x, 24 h) > 1 Hz", "rate(x, 1 ms) > 1 Hz",
	} {
		mustCompile(t, text, scope)
	}
}

// doubling defines d1 = d0 + d0, d2 = d1 + d1, …, and e = an ever longer name.
type doubling struct{ MapScope }

func (d doubling) Define(name string) (lab.Source, bool) {
	var n int
	if _, err := fmt.Sscanf(name, "d%d", &n); err == nil {
		if n == 0 {
			return lab.Source{Text: "x"}, true
		}
		return lab.Source{Text: fmt.Sprintf("d%d + d%d", n-1, n-1)}, true
	}
	if strings.HasPrefix(name, "e") {
		return lab.Source{Text: name + "e"}, true
	}
	return lab.Source{}, false
}
