package safety_test

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"labgate/lab"
	"labgate/safety"
)

// signals are the readings that generated rules look at, with what they may be.
var signals = []struct {
	path   string
	unit   string
	values []float64 // without a unit: false and true
}{
	{"room.airflow", "m/s", []float64{0.1, 0.3, 0.5}},
	{"reactor.stirrer.speed", "rpm", []float64{0, 150, 400}},
	{"reactor.jacket.temperature", "degC", []float64{20, 60, 99}},
	{"reactor.probe.temperature", "degC", []float64{20, 62, 99}},
	{"reactor.wall.temperature", "degC", []float64{21, 64, 120}},
	{"room.emergency", "", []float64{0, 1}},
	{"room.door_closed", "", []float64{0, 1}},
}

// conditions are what generated rules ask; a window is in some of them.
var conditions = []string{
	"room.airflow >= 0.3 m/s", "not (room.airflow < 0.3 m/s)", "reactor.stirrer.speed > 100 rpm or room.door_closed",
	"room.door_closed and not room.emergency", "not tripped(hot)", "not tripped(hot) or reactor.stirrer.speed > 0 rpm",
	"'voted(2, 5 K, reactor.jacket.temperature, reactor.probe.temperature, reactor.wall.temperature) < 90 degC'",
	"'vote(2, room.door_closed, room.airflow > 0.2 m/s, reactor.stirrer.speed > 100 rpm)'",
	"'max(reactor.jacket.temperature, reactor.probe.temperature) < 90 degC'", "'abs(reactor.jacket.temperature - reactor.probe.temperature) < 10 K'",
	"args.volume * room.airflow / room.airflow < 1 mL",
}

var remembering = []string{
	"'held(room.airflow >= 0.3 m/s, 0.7 s)'", "'rate(reactor.probe.temperature, 0.5 s) < 40 K/s'", "'mean(room.airflow, 1 s) > 0.2 m/s'", "age(room.airflow) < 1.5 s",
}

// drawRules writes a file of rules.
func drawRules(t *rapid.T, label string, pool []string) []string {
	var list []string
	for i := range rapid.IntRange(0, 4).Draw(t, label) {
		cond := rapid.SampledFrom(pool).Draw(t, "condition")
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			list = append(list, fmt.Sprintf("  - {id: %s-%d, limit: pump_a.dose.volume, max: %d mL}", label, i, rapid.IntRange(1, 3).Draw(t, "max")))
		case 1:
			grace := rapid.SampledFrom([]string{"0 s", "0.3 s", "1 s"}).Draw(t, "grace")
			list = append(list, fmt.Sprintf("  - {id: %s-%d, permissive: pump_a.dose, require: %s, grace: %s}", label, i, cond, grace))
		default:
			if strings.Contains(cond, "args.") {
				cond = "room.airflow < 0.2 m/s"
			}
			list = append(list, fmt.Sprintf("  - {id: %s-%d, trip: %s, when: %s, unknown_for: %s, do: [pump_a.stop]}", label, i,
				rapid.SampledFrom([]string{"hot", "wet"}).Draw(t, "group"), "not ("+strings.Trim(cond, "'")+")", rapid.SampledFrom([]string{"0 s", "0.4 s", "1 s"}).Draw(t, "unknown_for")))
			list[len(list)-1] = quoteWhen(list[len(list)-1])
		}
	}
	return list
}

// quoteWhen puts the condition in quotes: it has commas.
func quoteWhen(rule string) string {
	a := strings.Index(rule, "when: ") + len("when: ")
	b := strings.Index(rule, ", unknown_for")
	return rule[:a] + "'" + rule[a:b] + "'" + rule[b:]
}

var atOnce = regexp.MustCompile(`unknown_for: [0-9.]+ s`)

const groups = "  - {id: hot-group, trip: hot, when: room.emergency, unknown_for: 30 s, do: [stage.halt]}\n"

func file(rules ...[]string) string {
	return "rules:\n" + groups + strings.Join(slices.Concat(rules...), "\n") + "\n"
}

// drawReading draws a reading that is good, or unknown in one of many ways.
func drawReading(t *rapid.T, i int, now time.Time, good bool) lab.Reading {
	s := signals[i]
	v := rapid.SampledFrom(s.values).Draw(t, s.path)
	value := lab.BoolValue(v == 1)
	if s.unit != "" {
		value = lab.NumberValue(lab.Q(v, s.unit))
	}
	r := lab.Reading{Value: value, Quality: lab.Good, Source: now, Received: now, Epoch: 1}
	if good {
		return r
	}
	switch rapid.IntRange(0, 6).Draw(t, "unknown") {
	case 0:
		return lab.Reading{}
	case 1:
		r.Quality = lab.Bad
	case 2:
		r.Quality = lab.Uncertain
	case 3:
		r.Source = now.Add(-time.Hour)
	case 4:
		r.Value = lab.Value{}
	case 5:
		r.Value = lab.NumberValue(lab.Quantity{Value: math.NaN(), Unit: value.Unit})
	default:
		r.Value = lab.TextValue("good")
	}
	return r
}

// S6: an unknown input never turns a refusal into an allowance. A trip has its
// grace for what is unknown; here it has none.
func TestUnknownNeverAllowsMore(t *testing.T) {
	l := demo(t).Lab
	rapid.Check(t, func(t *rapid.T) {
		rules := parse(t, l, atOnce.ReplaceAllString(file(drawRules(t, "r", conditions)), "unknown_for: 0 s"))
		known, holed := safety.NewEngine(l, rules, t0), safety.NewEngine(l, rules, t0)
		for i := range signals {
			id, _, err := l.ResolveProperty(signals[i].path)
			if err != nil {
				t.Fatal(err)
			}
			r := drawReading(t, i, t0, true)
			known.Observe(t0, []lab.Sample{{ID: id, Reading: r}})
			if rapid.Bool().Draw(t, "hole") {
				r = drawReading(t, i, t0, false)
			}
			holed.Observe(t0, []lab.Sample{{ID: id, Reading: r}})
		}
		cmd := doseOf(float64(rapid.IntRange(1, 3).Draw(t, "volume")))
		a, b := known.Decide(t0, cmd, 1), holed.Decide(t0, cmd, 1)
		if a.Permit == nil && b.Permit != nil {
			t.Fatalf("with everything known it is refused: %v; with less known it passes", a.Refusals)
		}
	})
}

// Adding a rule never allows more.
func TestMoreRulesNeverAllowMore(t *testing.T) {
	l := demo(t).Lab
	rapid.Check(t, func(t *rapid.T) {
		pool := append(slices.Clone(conditions), remembering...)
		some := drawRules(t, "a", pool)
		few := safety.NewEngine(l, parse(t, l, file(some)), at(500))
		many := safety.NewEngine(l, parse(t, l, file(some, drawRules(t, "b", pool))), at(500))
		for step := range 12 {
			now := at(step * 250)
			i := rapid.IntRange(0, len(signals)-1).Draw(t, "signal")
			id, _, _ := l.ResolveProperty(signals[i].path)
			s := []lab.Sample{{ID: id, Reading: drawReading(t, i, now, rapid.IntRange(0, 4).Draw(t, "good") > 0)}}
			few.Observe(now, s)
			many.Observe(now, s)
			few.Tick(now)
			many.Tick(now)
			cmd := doseOf(float64(rapid.IntRange(1, 3).Draw(t, "volume")))
			a, b := few.Decide(now, cmd, 1), many.Decide(now, cmd, 1)
			if a.Permit == nil && b.Permit != nil {
				t.Fatalf("with fewer rules it is refused: %v; with more it passes", a.Refusals)
			}
			if a.Permit != nil && b.Permit != nil && b.Permit.NotAfter().After(a.Permit.NotAfter()) {
				t.Fatal("with more rules the permit lasts longer")
			}
			few.Done(t0, cmd.ID, safety.AllDone, nil)
			many.Done(t0, cmd.ID, safety.AllDone, nil)
		}
	})
}

// Latches come by trips and stops, go by a reset that succeeded, and as long
// as they are there they deny.
func TestLatchesClearOnlyByReset(t *testing.T) {
	l := demo(t).Lab
	pumpA := lab.CommandID{Instrument: "pump_a", Component: "pump", Command: "dose"}
	rapid.Check(t, func(t *rapid.T) {
		e := safety.NewEngine(l, parse(t, l, file(drawRules(t, "r", conditions))), t0)
		model := map[string]bool{}
		note := func(evs []safety.Event) {
			for _, ev := range evs {
				if trip, ok := ev.(*safety.Trip); ok {
					if model[trip.Latch.Rule] {
						t.Fatalf("%s fires while it is latched", trip.Latch.Rule)
					}
					model[trip.Latch.Rule] = true
				}
			}
		}
		now := t0
		for range 25 {
			now = now.Add(time.Duration(rapid.IntRange(0, 900).Draw(t, "ms")) * time.Millisecond)
			switch rapid.IntRange(0, 9).Draw(t, "op") {
			case 0:
				note(e.Tick(now))
			case 1:
				e.Stop(now, "", "a person", "")
				model["stop"] = true
			case 2, 3:
				var all []string
				for _, x := range e.Latches() {
					all = append(all, x.Rule)
				}
				if len(all) == 0 {
					continue
				}
				if rule := rapid.SampledFrom(all).Draw(t, "rule"); e.Reset(now, rule) == nil {
					delete(model, rule)
				}
			default:
				i := rapid.IntRange(0, len(signals)-1).Draw(t, "signal")
				id, _, _ := l.ResolveProperty(signals[i].path)
				note(e.Observe(now, []lab.Sample{{ID: id, Reading: drawReading(t, i, now, rapid.IntRange(0, 3).Draw(t, "good") > 0)}}))
			}
			have := map[string]bool{}
			for _, x := range e.Latches() {
				have[x.Rule] = true
			}
			if fmt.Sprint(have) != fmt.Sprint(model) {
				t.Fatalf("latched are %v; %v is wanted", have, model)
			}
			for rule := range model {
				if rule == "hot-group" {
					continue // it is the stage's
				}
				if d := e.Decide(now, doseOf(1), 1); d.Permit != nil {
					t.Fatalf("%s passes while %s is latched", pumpA, rule)
				}
			}
		}
	})
}

// Next is enough: asked only when it says so, the engine tells the same, at
// the same ms, as when it is asked every ms.
func TestNextIsEnough(t *testing.T) {
	l := demo(t).Lab
	rapid.Check(t, func(t *rapid.T) {
		rules := parse(t, l, file(drawRules(t, "r", append(slices.Clone(conditions), remembering...))))
		start := at(rapid.SampledFrom([]int{0, 700}).Draw(t, "start by"))
		type step struct {
			ms     int
			sample lab.Sample
			decide bool
		}
		var steps []step
		for ms, n := 0, rapid.IntRange(1, 14).Draw(t, "steps"); n > 0; n-- {
			// Whoever looks every ms sees what grows stale up to 1 ms late, and with
			// it the end of a grace: no reading falls between the two.
			ms += 10 * rapid.IntRange(0, 40).Draw(t, "10 ms")
			i := rapid.IntRange(0, len(signals)-1).Draw(t, "signal")
			id, _, _ := l.ResolveProperty(signals[i].path)
			steps = append(steps, step{ms, lab.Sample{ID: id, Reading: drawReading(t, i, at(ms), rapid.IntRange(0, 5).Draw(t, "good") > 0)}, rapid.Bool().Draw(t, "decide")})
		}
		until := at(steps[len(steps)-1].ms + 5500)
		play := func(dense bool) (trace []string) {
			e := safety.NewEngine(l, rules, start)
			say := func(now time.Time, evs []safety.Event) {
				for _, ev := range evs {
					ms := (now.Sub(t0) + time.Millisecond - 1) / time.Millisecond
					trace = append(trace, fmt.Sprintf("%d %s", ms, names([]safety.Event{ev})))
				}
			}
			next, n := 0, 0
			for now := t0; !now.After(until); {
				for ; next < len(steps) && !now.Before(at(steps[next].ms)); next++ {
					say(now, e.Observe(now, []lab.Sample{steps[next].sample}))
					say(now, e.Tick(now)) // as the gateway does with every event
					if steps[next].decide {
						n++
						cmd := doseOf(1)
						cmd.ID = fmt.Sprint("c", n)
						d := e.Decide(now, cmd, 1)
						if d.Permit != nil && n%2 == 0 {
							_ = d.Permit.Spend(cmd, 1, now)
						}
						trace = append(trace, fmt.Sprintf("%d %t", steps[next].ms, d.Permit != nil))
					}
				}
				say(now, e.Tick(now))
				if dense {
					now = now.Add(time.Millisecond)
					continue
				}
				to := until.Add(1)
				if next < len(steps) {
					to = at(steps[next].ms)
				}
				if x := e.Next(); !x.IsZero() && x.Before(to) {
					to = x
				}
				if !to.After(now) {
					t.Fatalf("at %s Next is %s", now.Sub(t0), to.Sub(t0))
				}
				now = to
			}
			return trace
		}
		a, b := play(true), play(false)
		if !slices.Equal(sorted(a), sorted(b)) {
			t.Fatalf("every ms:\n%s\nby Next:\n%s\nrules:\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"), ruleTexts(rules))
		}
	})
}

// sorted: within one ms the two ways may see the same things in another order.
func sorted(list []string) []string {
	list = slices.Clone(list)
	for i, s := range list {
		list[i] = strings.TrimSuffix(s, " first")
	}
	slices.Sort(list)
	return list
}

func ruleTexts(r *safety.Rules) string {
	var list []string
	for _, x := range r.Rules {
		list = append(list, fmt.Sprintf("%s %v %+v", x.ID, x.Kind, x.Targets))
	}
	return strings.Join(list, "\n")
}

func parse(t *rapid.T, l *lab.Lab, text string) *safety.Rules {
	rules, is := safety.Parse("rules.yaml", []byte("interlocks: drawn\n"+text), l)
	if len(is) > 0 {
		t.Fatalf("%v\n%s", is, text)
	}
	return rules
}

func doseOf(volume float64) *lab.Command {
	return &lab.Command{ID: "c", Target: lab.CommandID{Instrument: "pump_a", Component: "pump", Command: "dose"}, NotAfter: t0.Add(time.Hour),
		Args: map[string]lab.Value{"volume": lab.NumberValue(lab.Q(volume, "mL")), "rate": lab.NumberValue(lab.Q(5, "mL/min"))}}
}
