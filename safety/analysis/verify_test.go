package analysis_test

import (
	"slices"
	"strings"
	"testing"

	"labgate/lab"
	"labgate/safety"
	"labgate/safety/analysis"
)

// guards is what the rest of a test's rules look like: a rule for every
// command, of which nothing can be said.
const guards = `
  - {id: g, permissive: "a.heat, a.fill, b.heat, b.fill", require: a.state != fault and b.state != fault}
`

// findings are the ids of what Verify says, with the guards in place.
func findings(t *testing.T, rules string) []string {
	t.Helper()
	r := parse(t, tanks(t), "interlocks: test\n"+rules)
	var s []string
	for _, f := range analysis.Verify(r) {
		s = append(s, f.ID)
		if f.Say == "" || f.Code == "" || !strings.HasPrefix(f.ID, f.Code+":") || f.Pos.Line == 0 {
			t.Errorf("a finding without a place, a code or a sentence: %+v", f)
		}
	}
	return s
}

const tail = "    unknown_for: 1 s\n    respond_within: 5 s\n    do: [a.shut]\n"

func trip(id, group, when string) string {
	return "  - id: " + id + "\n    trip: " + group + "\n    when: " + when + "\n" + tail
}

func TestVerify(t *testing.T) {
	for _, c := range []struct {
		name, rules, want string // want: the ids, none for a negative case
	}{
		{"nothing odd", trip("hot", "t", "a.temperature > 120 degC"), ""},

		{"trip below absolute zero", trip("cold", "t", "a.temperature < -300 degC"), "never-fires:cold"},
		{"trip on a contradiction", trip("odd", "t", "a.speed > 100 rpm and a.speed < 50 rpm"), "never-fires:odd"},
		{"trip between two numbers", trip("odd", "t", "a.speed > 50 rpm and a.speed < 100 rpm"), ""},
		{"trip on a word and another", trip("odd", "t", "a.state == idle and a.state == busy"), "never-fires:odd"},
		{"trip on one of two words", trip("odd", "t", "a.state == idle or a.state == fault"), ""},
		{"trip on a rate", trip("fast", "t", "rate(a.temperature, 2 s) > 3 K/s"), ""},
		{"trip on everything", trip("all", "t", "a.speed > 100 rpm or a.speed <= 100 rpm"), "always-fires:all"},
		{"trip on almost everything", trip("all", "t", "a.speed > 100 rpm or a.speed < 100 rpm"), ""},
		{"permissive that the class makes superfluous", "  - {id: p, permissive: a.fill, require: args.volume <= 100 mL}\n", "never-fires:p"},
		{"permissive within the class", "  - {id: p, permissive: a.fill, require: args.volume <= 99 mL}\n", ""},
		{"permissive that refuses all", "  - {id: p, permissive: a.fill, require: args.volume > 100 mL}\n", "always-fires:p"},
		{"permissive on the lab's own limit", "  - {id: p, permissive: a.heat, require: args.target <= 150 degC}\n", "never-fires:p"},
		{"the same for the other tank", "  - {id: p, permissive: b.heat, require: args.target <= 150 degC}\n", ""},
		{"limit that the class makes superfluous", "  - {id: l, limit: a.fill.volume, max: 0.1 L}\n", "never-fires:l"},
		{"limit within the class", "  - {id: l, limit: a.fill.volume, max: 99 mL}\n", ""},

		{"permissives on one command", "  - {id: p, permissive: a.fill, require: a.speed >= 150 rpm}\n  - {id: q, permissive: a.fill, require: a.speed < 100 rpm}\n", "contradicts:q+p"},
		{"permissives in two units", "  - {id: p, permissive: a.fill, require: a.speed >= 3 1/s}\n  - {id: q, permissive: a.fill, require: a.speed < 180 rpm}\n", "contradicts:q+p"},
		{"permissives in two units that leave something", "  - {id: p, permissive: a.fill, require: a.speed >= 3 1/s}\n  - {id: q, permissive: a.fill, require: a.speed < 181 rpm}\n", ""},
		{"permissives on two commands", "  - {id: p, permissive: a.fill, require: a.speed >= 150 rpm}\n  - {id: q, permissive: a.heat, require: a.speed < 100 rpm}\n", ""},
		{"permissives that just meet", "  - {id: p, permissive: a.fill, require: a.speed >= 150 rpm}\n  - {id: q, permissive: a.fill, require: a.speed <= 150 rpm}\n", ""},
		{"permissive wants what a trip forbids", trip("hot", "t", "a.temperature > 80 degC") + "  - {id: p, permissive: a.fill, require: a.temperature >= 90 degC}\n", "contradicts:p+hot"},
		{"permissive wants what a trip leaves", trip("hot", "t", "a.temperature > 80 degC") + "  - {id: p, permissive: a.fill, require: a.temperature >= 70 degC}\n", ""},
		{"limits that exclude each other", "  - {id: l, limit: a.fill.volume, max: 20 mL}\n  - {id: m, limit: a.fill.volume, min: 30 mL}\n", "contradicts:m+l"},
		{"limits that meet", "  - {id: l, limit: a.fill.volume, max: 30 mL}\n  - {id: m, limit: a.fill.volume, min: 30 mL}\n", ""},

		{"wider limit", "  - {id: l, limit: a.fill.volume, max: 20 mL}\n  - {id: m, limit: a.fill.volume, max: 30 mL}\n", "shadowed:m+l"},
		{"equal limits", "  - {id: l, limit: a.fill.volume, max: 20 mL}\n  - {id: m, limit: a.fill.volume, max: 20 mL}\n", "shadowed:m+l"},
		{"wider limit for one of two", "  - {id: l, limit: a.fill.volume, max: 20 mL}\n  - {id: m, limit: \"a.fill.volume, b.fill.volume\", max: 30 mL}\n", ""},
		{"wider than the lab file", "  - {id: l, limit: a.heat.target, max: 160 degC}\n", "shadowed:l+a.tank.heat.target.limit"},
		{"narrower than the lab file", "  - {id: l, limit: a.heat.target, max: 140 degC}\n", ""},
		{"trip behind a trip", trip("warm", "t", "a.temperature > 80 degC") + trip("hot", "t", "a.temperature > 90 degC and a.speed < 10 rpm"), "shadowed:hot+warm"},
		{"trip behind a trip of another group", trip("warm", "t", "a.temperature > 80 degC") + trip("hot", "u", "a.temperature > 90 degC"), ""},
		{"trip beside a trip", trip("warm", "t", "a.temperature > 80 degC or a.speed < 10 rpm") + trip("hot", "t", "a.temperature > 70 degC and a.level > 50 %"), ""},
		{"implied permissive", "  - {id: p, permissive: a.fill, require: a.speed >= 150 rpm}\n  - {id: q, permissive: a.fill, require: a.speed >= 100 rpm}\n", "shadowed:q+p"},
		{"implied permissive that is asked for longer", "  - {id: p, permissive: a.fill, require: a.speed >= 150 rpm, at: start}\n  - {id: q, permissive: a.fill, require: a.speed >= 100 rpm}\n", ""},
		{"equal permissives", "  - {id: p, permissive: a.fill, require: a.speed >= 150 rpm}\n  - {id: q, permissive: a.fill, require: not (a.speed < 150 rpm)}\n", "shadowed:q+p"},
		{"permissives on two signals", "  - {id: p, permissive: a.fill, require: a.speed >= 150 rpm}\n  - {id: q, permissive: a.fill, require: b.speed >= 100 rpm}\n", ""},

		{"trip that leaves what it watches", trip("hot", "t", "b.temperature > 120 degC"), "no-safe-action:hot+b"},
		{"rescue that is refused", "  - {id: p, permissive: b.fill, require: not tripped(t) and b.level < 90 %}\n" + strings.Replace(trip("hot", "t", "a.temperature > 120 degC"), "[a.shut]", "[a.shut]\n    mitigates: [b.fill]", 1), "no-mitigation:hot+b.tank.fill"},
		{"rescue that passes", "  - {id: p, permissive: b.fill, require: b.level < 90 %}\n" + strings.Replace(trip("hot", "t", "a.temperature > 120 degC"), "[a.shut]", "[a.shut]\n    mitigates: [b.fill]", 1), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(findings(t, "rules:"+guards+c.rules), " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestVerifyNewKinds(t *testing.T) {
	for _, c := range []struct{ name, rules, want string }{
		{"alarm that never comes", "  - {id: x, alarm: {when: a.speed > 5 rpm and a.speed < 4 rpm, priority: low, response: look}}\n", "never-fires:x"},
		{"alarm", "  - {id: x, alarm: {when: a.speed > 5 rpm, priority: low, response: look}}\n", ""},
		{"after what can't be", "  - {id: x, sequence: a.fill, after: a.speed > 5 rpm and a.speed < 4 rpm}\n", "always-fires:x"},
		{"after what may be", "  - {id: x, sequence: a.fill, after: a.speed > 5 rpm}\n", ""},
		{"zone for ever", "  - {id: x, zone: z, claim: {a.fill: while a.speed > 5 rpm or a.speed < 6 rpm, b.fill: until done}}\n", "never-ends:x"},
		{"zone", "  - {id: x, zone: z, claim: {a.fill: while a.speed > 5 rpm, b.fill: until done}}\n", ""},
		{"no reset", "  - {id: x, trip: t, when: a.speed > 50 rpm, healthy: a.speed < 5 rpm and a.speed > 6 rpm, respond_within: 5 s, do: [a.shut]}\n", "never-ends:x"},
		{"healthy where it trips", "  - {id: x, trip: t, when: a.speed > 50 rpm, healthy: a.speed > 60 rpm, respond_within: 5 s, do: [a.shut]}\n", "contradicts:x"},
		{"healthy", "  - {id: x, trip: t, when: a.speed > 50 rpm, healthy: a.speed < 40 rpm, respond_within: 5 s, do: [a.shut]}\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(findings(t, "rules:"+guards+c.rules), " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestVerifyUnguarded(t *testing.T) {
	got := findings(t, "rules:\n  - {id: p, permissive: a.fill, require: a.speed > 5 rpm}\n")
	want := []string{"unguarded:b.tank.heat", "unguarded:b.tank.fill"} // a.heat has the lab file's limit
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestVerifyLab(t *testing.T) {
	text := "interlocks: test\nrules:" + guards
	l := tanks(t)
	for i := range l.Instrument("b").Profile.Components[0].Class.Properties {
		if p := &l.Instrument("b").Profile.Components[0].Class.Properties[i]; p.Name == "state" {
			p.MaxAge = 0
		}
	}
	l.Instrument("b").Gateway = "elsewhere"
	got := ids(analysis.Verify(parse(t, l, text)))
	for _, want := range []string{"no-max-age:b.tank.state", "other-gateway:g"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	if got := ids(analysis.Verify(parse(t, tanks(t), text))); got != "" {
		t.Errorf("as it is: %s", got)
	}
}

func TestExplained(t *testing.T) {
	rules := parse(t, tanks(t), "interlocks: test\nrules:"+guards+trip("cold", "t", "a.temperature < -300 degC"))
	rules.Explained = []safety.Explained{
		{Finding: "never-fires:cold", Because: "a drill", Pos: lab.Pos{File: "rules.yaml", Line: 9, Column: 1}},
		{Finding: "never-fires:gone", Because: "it went", Pos: lab.Pos{File: "rules.yaml", Line: 10, Column: 1}},
		{Finding: "mutant:cold:dropped:rule", Because: "no case can", Pos: lab.Pos{File: "rules.yaml", Line: 11, Column: 1}},
	}
	list := analysis.Verify(rules)
	if ids(list) != "never-fires:cold\nexplained-stale:never-fires:gone" || list[0].Explained != "a drill" || list[1].Pos.Line != 10 {
		t.Errorf("got %+v", list)
	}
	if got := ids(analysis.Stale(rules, map[string]bool{"mutant:cold:dropped:rule": true})); got != "" {
		t.Errorf("a mutant that lives: %s", got)
	}
	if got := ids(analysis.Stale(rules, nil)); got != "explained-stale:mutant:cold:dropped:rule" {
		t.Errorf("a mutant that was killed: %s", got)
	}
}
