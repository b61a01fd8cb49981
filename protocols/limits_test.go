package protocols_test

import (
	"fmt"
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
