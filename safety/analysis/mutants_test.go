package analysis_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/safety"
	"labgate/safety/analysis"
)

var t0 = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// mutantRules has every kind of place that can be weakened in the older kinds
// of rules, in block and flow style, with comments, quotes and folded lines.
const mutantRules = `interlocks: test   # ü: columns count characters
signals:
  warm: {vote: {of: [a.temperature, a.second, a.third], need: 2, within: 5 K}}
rules:
  # stirring
  - id: stirred
    about: Über alles gerührt.
    permissive: a.fill, b.fill
    require: a.speed >= 150 rpm and
      not (b.level > 90 % or b.open)   # folded
    grace: 2 s
  - {id: size, limit: "a.fill.volume", min: 1 mL, max: 50 mL}
  - {id: quoted, permissive: a.heat, require: "args.target <= 120 degC", at: start}
  - id: hot
    trip: t
    when: >-
      warm > 90 degC and
      vote(2, a.open, b.open, a.speed < 10 rpm)
    unknown_for: 1 s
    respond_within: 5 s
    do:
      - a.shut
      - b.shut   # both
    mitigates: [b.heat]
  - id: fast
    trip: t
    when: rate(a.temperature, 2 s) > 3 K/s or held(a.open, 10 s)
    unknown_for: 5 s
    respond_within: 8 s
    do: [a.shut, b.shut]
`

func mutantsOf(t *testing.T, text string) (*lab.Lab, *safety.Rules, []analysis.Mutant) {
	t.Helper()
	l := tanks(t)
	r := parse(t, l, text)
	return l, r, analysis.Mutants("rules.yaml", []byte(text), r)
}

func TestMutants(t *testing.T) {
	_, rules, list := mutantsOf(t, mutantRules)
	var b strings.Builder
	seen := map[string]bool{}
	for _, m := range list {
		fmt.Fprintf(&b, "%s %s: %s → %s\n", m.Pos, m.ID, m.From, m.To)
		if seen[m.ID] || m.Hint == "" || m.Rules == nil || string(m.Data) == mutantRules || m.Rules.Hash == rules.Hash {
			t.Errorf("twice, or nothing changed: %+v", m)
		}
		seen[m.ID] = true
	}
	golden(t, "testdata/mutants.golden", b.String())
}

// TestMutantsTouchOneRule compiles each mutant and compares rule by rule: all
// but the one that it is about are as they were.
func TestMutantsTouchOneRule(t *testing.T) {
	_, rules, list := mutantsOf(t, mutantRules)
	show := func(r *safety.Rule) string {
		s := fmt.Sprint(r.Targets, r.Grace, r.AtStart, r.OnDelay, r.UnknownFor, r.Do, r.Mitigates)
		for _, q := range []*lab.Quantity{r.Limit.Min, r.Limit.Max} {
			if q != nil {
				s += q.String() + ";"
			}
		}
		for _, f := range r.Formulas() {
			s += f.Program.Source().Text + ";"
		}
		return s[strings.Index(s, " "):]
	}
	for _, m := range list {
		if strings.HasPrefix(m.Rule, "signals.") {
			continue
		}
		changed := 0
		for _, r := range rules.Rules {
			other := m.Rules.Find(r.ID)
			if other != nil && len(other.Formulas()) == len(r.Formulas()) && formulasEqual(r, other) && show(r) == show(other) {
				continue
			}
			changed++
			if r.ID != m.Rule {
				t.Errorf("%s changed %s too", m.ID, r.ID)
			}
		}
		if changed != 1 {
			t.Errorf("%s changed %d rules", m.ID, changed)
		}
	}
}

func formulasEqual(a, b *safety.Rule) bool {
	x, y := a.Formulas(), b.Formulas()
	for i := range x {
		if x[i].Role != y[i].Role || x[i].Program.Source().Text != y[i].Program.Source().Text {
			return false
		}
	}
	return true
}

// bench is an engine over the tanks with everything good.
type bench struct {
	*testing.T
	lab    *lab.Lab
	engine *safety.Engine
}

func (b *bench) see(at time.Duration, readings ...string) (tripped string) {
	b.Helper()
	now := t0.Add(at)
	state := map[string]string{"temperature": "20 degC", "second": "20 degC", "third": "20 degC", "speed": "300 rpm", "level": "50 %", "open": "false", "state": "idle"}
	values := map[string]string{}
	for n, v := range state {
		values["a."+n], values["b."+n] = v, v
	}
	for _, r := range readings {
		path, v, _ := strings.Cut(r, " = ")
		values[path] = v
	}
	var samples []lab.Sample
	for path, text := range values {
		id, spec, err := b.lab.ResolveProperty(path)
		if err != nil {
			b.Fatal(err)
		}
		v, err := spec.Type.ParseText(text)
		if err != nil {
			b.Fatal(err)
		}
		samples = append(samples, lab.Sample{ID: id, Reading: lab.Reading{Value: v, Quality: lab.Good, Source: now, Received: now, Epoch: 1}})
	}
	for _, e := range b.engine.Observe(now, samples) {
		if trip, ok := e.(*safety.Trip); ok {
			tripped += trip.Latch.Rule + " "
		}
	}
	return tripped
}

func (b *bench) allows(at time.Duration, call string) bool {
	b.Helper()
	id, args, err := b.lab.ResolveCall(call)
	if err != nil {
		b.Fatal(err)
	}
	c := &lab.Command{ID: "c1", Target: id, Args: args, Principal: "planner_1", Run: "r1", Lease: 1, NotAfter: t0.Add(time.Hour)}
	return b.engine.Decide(t0.Add(at), c, 1).Permit != nil
}

// TestMutantsAreWeaker shows for mutants of each kind a state in which the
// true rules act and the mutant does not.
func TestMutantsAreWeaker(t *testing.T) {
	l, rules, list := mutantsOf(t, mutantRules)
	for _, c := range []struct {
		id, state, call string // without a call: the true rules trip
	}{
		{"stirred:dropped:rule", "a.speed = 0 rpm", "a.fill(volume = 5 mL, rate = 1 mL/min)"},
		{"stirred:flipped:require.join1", "a.speed = 0 rpm", "a.fill(volume = 5 mL, rate = 1 mL/min)"},
		{"stirred:flipped:require.compare1", "a.speed = 100 rpm", "a.fill(volume = 5 mL, rate = 1 mL/min)"},
		{"stirred:moved:require.number1", "a.speed = 140 rpm", "a.fill(volume = 5 mL, rate = 1 mL/min)"},
		{"stirred:moved:require.number2", "b.level = 95 %", "a.fill(volume = 5 mL, rate = 1 mL/min)"},
		{"stirred:flipped:require.join2", "b.open = true", "a.fill(volume = 5 mL, rate = 1 mL/min)"},
		{"stirred:flipped:require.name1", "b.open = true", "a.fill(volume = 5 mL, rate = 1 mL/min)"},
		{"stirred:dropped:require.part4", "b.open = true", "a.fill(volume = 5 mL, rate = 1 mL/min)"},
		{"size:moved:max.tenth", "", "a.fill(volume = 54 mL, rate = 1 mL/min)"},
		{"size:moved:max.double", "", "a.fill(volume = 99 mL, rate = 1 mL/min)"},
		{"size:moved:min.tenth", "", "a.fill(volume = 0.95 mL, rate = 1 mL/min)"},
		{"size:dropped:min", "", "a.fill(volume = 0.1 mL, rate = 1 mL/min)"},
		{"quoted:moved:require.number1", "", "a.heat(target = 125 degC)"},
		{"hot:dropped:rule", "a.temperature = 99 degC, a.second = 99 degC, a.third = 99 degC, a.open = true, b.open = true", ""},
		{"hot:moved:when.number1", "a.temperature = 95 degC, a.second = 95 degC, a.third = 95 degC, a.open = true, b.open = true", ""},
		{"hot:lowered:when.need1", "a.temperature = 95 degC, a.second = 95 degC, a.third = 95 degC, a.open = true, b.open = true", ""},
		{"hot:moved:when.number2", "a.temperature = 95 degC, a.second = 95 degC, a.third = 95 degC, a.open = true, a.speed = 9.5 rpm", ""},
	} {
		t.Run(c.id, func(t *testing.T) {
			var found *analysis.Mutant
			for i := range list {
				if list[i].ID == "mutant:"+c.id {
					found = &list[i]
				}
			}
			if found == nil {
				t.Fatal("no such mutant")
			}
			acts := func(r *safety.Rules) bool {
				b := &bench{t, l, safety.NewEngine(l, r, t0)}
				var state []string
				if c.state != "" {
					state = strings.Split(c.state, ", ")
				}
				at := time.Duration(0)
				for ; at < 12*time.Second; at += time.Second / 2 { // windows fill
					b.see(at)
				}
				tripped := b.see(at, state...)
				if c.call == "" {
					return strings.Contains(tripped, "hot")
				}
				return !b.allows(at, c.call)
			}
			if !acts(rules) {
				t.Error("the true rules let it pass")
			}
			if acts(found.Rules) {
				t.Error("the mutant is no weaker here")
			}
		})
	}
}

// TestMutantsNeverStricter: a permissive that is made of what the other one
// already wants can't be weakened by these, so they are not made.
func TestMutantsNeverStricter(t *testing.T) {
	_, _, list := mutantsOf(t, `interlocks: test
rules:
  - {id: p, permissive: a.fill, require: a.speed > 100 rpm or a.speed > 200 rpm}
`)
	for _, m := range list {
		switch strings.TrimPrefix(m.ID, "mutant:p:") {
		case "dropped:require.part1", "dropped:require.part2", // fewer ways to be allowed
			"flipped:require.join1", // and, for or
			"moved:require.number2": // hidden behind the first
			t.Errorf("%s is no weaker: %s → %s", m.ID, m.From, m.To)
		}
	}
	if len(list) < 3 {
		t.Errorf("only %d mutants", len(list))
	}
}

func TestMutantsOfNothing(t *testing.T) {
	l := tanks(t)
	for _, text := range []string{"", "{", "interlocks: x\nrules: []\n", "rules: 3"} {
		if got := analysis.Mutants("x.yaml", []byte(text), safety.NoRules(l)); len(got) > 0 {
			t.Errorf("%q has mutants: %v", text, got)
		}
	}
}

// newRules has the kinds of rules over time and between instruments.
const newRules = `interlocks: test
signals:
  quiet: {is: not a.open and b.speed < 10 rpm}
  both: {is: a.level + b.level}
rules:
  - id: steps
    limit: a.heat.target
    step: 20 K
    change: 40 K per 10 min
  - id: share
    limit: a.fill.volume, b.fill.volume
    total: 5 mL per 1 h
    together: true
  - id: order
    sequence: a.fill
    after: a.heat
    within: 30 min
    not_since: [b.fill, a.level > 90 %]
  - id: mouth
    zone: mouth
    claim: {a.fill: while a.open, b.fill: until done, a.heat: until end of run}
  - id: volume
    budget: sum(a.fill.volume, b.fill.volume) per run
    max: 30 mL
  - id: fills
    budget: count(a.fill, b.fill) per day
    max: 3
  - id: overfull
    alarm: {when: both > 150 %, priority: high, response: look}
    on_delay: 2 s
  - id: each
    for: any tank/v1
    permissive: self.fill
    require: self.level < 80 % and quiet
    at: start
  - id: hot
    trip: t
    when: a.temperature > 80 degC
    on_delay: 500 ms
    healthy: a.temperature < 60 degC
    respond_within: 5 s
    do: [a.shut, wait 2 s, a.vent]
    run: hold
    hold_for: 30 min
`

// TestMutantsOfNewKinds: of each key, one that weakens it.
func TestMutantsOfNewKinds(t *testing.T) {
	_, _, list := mutantsOf(t, newRules)
	got := map[string]string{}
	for _, m := range list {
		got[strings.TrimPrefix(m.ID, "mutant:")] = m.From + " → " + m.To
	}
	for id, want := range map[string]string{
		"steps:dropped:step":                     "20 K → nothing",
		"steps:moved:step.tenth":                 "20 K → 22 K",
		"steps:moved:change.tenth":               "40 K → 44 K",
		"steps:moved:change.double":              "40 K → 80 K",
		"steps:loosened:change.per":              "10 min → 5 min",
		"share:moved:total.tenth":                "5 mL → 5.5 mL",
		"share:loosened:together":                "together: true → each alone",
		"order:dropped:rule":                     "order → nothing",
		"order:lengthened:within":                "30 min → 300 min",
		"order:dropped:within":                   "30 min → ever",
		"order:dropped:not_since.1":              "b.fill → nothing",
		"order:dropped:not_since.2":              "a.level > 90 % → nothing",
		"order:moved:not_since.2.number1":        "90 % → 99 %",
		"mouth:dropped:claim.b.fill":             "b.fill → nothing",
		"mouth:loosened:claim.a.fill":            "while a.open → until done",
		"mouth:loosened:claim.a.heat":            "until end of run → until done",
		"volume:moved:max.tenth":                 "30 mL → 33 mL",
		"volume:dropped:term.1":                  "a.fill.volume → nothing",
		"volume:dropped:term.2":                  "b.fill.volume → nothing",
		"volume:loosened:per":                    "run → command",
		"fills:moved:max.tenth":                  "3 → 4",
		"fills:moved:max.double":                 "3 → 6",
		"overfull:moved:when.number1":            "150 % → 165 %",
		"overfull:lengthened:on_delay":           "2 s → 62 s",
		"each:moved:require.number1":             "80 % → 88 %",
		"each:dropped:require.part2":             "quiet → nothing",
		"hot:lengthened:on_delay":                "500 ms → 60.5 s",
		"hot:lengthened:hold_for":                "30 min → 300 min",
		"hot:dropped:healthy":                    "a.temperature < 60 degC → that when is false",
		"hot:moved:healthy.number1":              "60 degC → 66 degC",
		"hot:dropped:do.3":                       "a.vent → nothing",
		"signals.quiet:moved:is.number1":         "10 rpm → 11 rpm",
		"signals.quiet:dropped:is.part1":         "not a.open → nothing",
		"signals.both:nothing to weaken in sums": "",
	} {
		if got[id] != want {
			t.Errorf("%s: %q, want %q", id, got[id], want)
		}
	}
}

func TestMatrixOfNewKinds(t *testing.T) {
	table := analysis.Matrix(parse(t, tanks(t), newRules))
	text := table.Text() + table.CSV()
	for _, want := range []string{"SEQUENCES", "ZONES", "BUDGETS", "ALARMS", "each@a.tank", "each@b.tank", "step <= 20 K, change <= 40 K per 10 min",
		"<= 30 mL per run", "hold 30 min", "after a.heat within 30 min, not since b.fill or a.level > 90 %", "total <= 5 mL per 1 h, together"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
