package safety_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"labgate/lab"
	"labgate/safety"
)

// lasting are conditions that look back, and know less where less is known. A
// slope and a mean are not among them: they are made from those readings that
// are there.
var lasting = []string{"'held(room.airflow >= 0.3 m/s, 0.7 s)'", "'held(room.door_closed, 0.3 s)'", "age(room.airflow) < 1.5 s"}

// drawLasting adds rules that remember what conditions were, and places that
// are held while one is true.
func drawLasting(t *rapid.T) []string {
	list := drawRules(t, "r", append(slices.Clone(conditions), lasting...))
	plain := []string{"room.airflow >= 0.3 m/s", "reactor.stirrer.speed > 100 rpm", "room.door_closed"}
	if rapid.Bool().Draw(t, "sequence") {
		list = append(list, fmt.Sprintf("  - {id: seq, sequence: pump_a.dose, after: %s, not_since: [not (%s)], within: 2 s}",
			rapid.SampledFrom(plain).Draw(t, "after"), rapid.SampledFrom(plain).Draw(t, "not_since")))
	}
	if rapid.Bool().Draw(t, "zone") {
		list = append(list, fmt.Sprintf("  - {id: place, zone: z, claim: {stage.move: while %s, pump_a.dose: until done}}", rapid.SampledFrom(plain).Draw(t, "while")))
	}
	if rapid.Bool().Draw(t, "step") {
		list = append(list, "  - {id: step, limit: pump_a.dose.rate, step: 3 mL/min, from: pump_a.rate}")
	}
	return list
}

// S6, over time: of two gateways that go through the same, the one whose
// readings have holes never allows what the other refuses. A trip has its grace
// for what is unknown; here it has none.
func TestUnknownNeverAllowsMoreOverTime(t *testing.T) {
	l := demo(t).Lab
	move, _, err := l.ResolveCommand("stage.move")
	if err != nil {
		t.Fatal(err)
	}
	rate, _, err := l.ResolveProperty("pump_a.rate")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		rules := parse(t, l, atOnce.ReplaceAllString(file(drawLasting(t)), "unknown_for: 0 s"))
		known, holed := safety.NewEngine(l, rules, t0), safety.NewEngine(l, rules, t0)
		see := func(now time.Time, id lab.PropertyID, r lab.Reading, hole bool, other func() lab.Reading) {
			known.Observe(now, []lab.Sample{{ID: id, Reading: r}})
			if hole {
				r = other()
			}
			holed.Observe(now, []lab.Sample{{ID: id, Reading: r}})
		}
		ask := func(now time.Time, cmd *lab.Command) {
			a, b := known.Decide(now, cmd, 1), holed.Decide(now, cmd, 1)
			if a.Permit == nil && b.Permit != nil {
				t.Fatalf("with everything known %s is refused: %v; with less known it passes\n%s", cmd.Target, a.Refusals, ruleTexts(rules))
			}
			end := safety.AllDone
			if b.Permit == nil {
				end = safety.NothingDone // both go on from the same past
			}
			known.Done(now, cmd.ID, end, nil)
			holed.Done(now, cmd.ID, end, nil)
		}
		now := t0
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 50, 250, 400, 2500}).Draw(t, "ms")) * time.Millisecond)
			hole := rapid.IntRange(0, 3).Draw(t, "hole") == 0
			if i := rapid.IntRange(0, len(signals)).Draw(t, "signal"); i == len(signals) {
				see(now, rate, good(now, value("2 mL/min")), hole, func() lab.Reading { return lab.Reading{} })
			} else {
				id, _, _ := l.ResolveProperty(signals[i].path)
				see(now, id, drawReading(t, i, now, true), hole, func() lab.Reading { return drawReading(t, i, now, false) })
			}
			known.Tick(now)
			holed.Tick(now)
			cmd := doseOf(float64(rapid.IntRange(1, 3).Draw(t, "volume")))
			if rapid.IntRange(0, 2).Draw(t, "move") == 0 {
				cmd = &lab.Command{ID: "m", Target: move, NotAfter: t0.Add(time.Hour), Args: map[string]lab.Value{}}
				for _, a := range strings.Fields("x y z") {
					cmd.Args[a] = value("0 mm")
				}
			}
			ask(now, cmd)
		}
	})
}

// A reading without any time is no reading: it takes the place of the one
// before it, and makes the value unknown.
func TestReadingWithoutATime(t *testing.T) {
	d := newDesk(t, "rules:\n  - {id: a, permissive: pump_a.dose, require: room.airflow >= 0.3 m/s}\n")
	d.see(t0, "room.airflow = 0.5 m/s")
	d.allowed(d.decide(t0, dose))
	for _, r := range []lab.Reading{{}, {Value: value("0.5 m/s"), Quality: lab.Good}} {
		d.see(at(10), "room.airflow = 0.5 m/s")
		d.put(at(10), "room.airflow", r)
		d.refused(d.decide(at(10), dose))
	}
}

// A latch is reset only while its inputs are known and healthy, and have been
// known for as long as the rule may be without them: by a model of its own.
func TestResetIsHealthy(t *testing.T) {
	const age = 3 * time.Second // of the airflow
	l := demo(t).Lab
	id, _, err := l.ResolveProperty("room.airflow")
	if err != nil {
		t.Fatal(err)
	}
	resets := 0
	rapid.Check(t, func(t *rapid.T) {
		grace := time.Duration(rapid.SampledFrom([]int{0, 400, 1000, 5000}).Draw(t, "unknown_for")) * time.Millisecond
		e := safety.NewEngine(l, parse(t, l, fmt.Sprintf("rules:\n  - {id: a, trip: x, when: room.airflow < 0.3 m/s, unknown_for: %d ms, do: [pump_a.stop]}\n", grace.Milliseconds())), t0)
		now, since, last := t0, time.Time{}, time.Time{} // known since, last reading
		healthy := false
		for range rapid.IntRange(5, 60).Draw(t, "steps") {
			to := now.Add(time.Duration(rapid.SampledFrom([]int{0, 100, 350, 1000, 2900, 3100}).Draw(t, "ms")) * time.Millisecond)
			for next := e.Next(); !next.IsZero() && !next.After(to); next = e.Next() {
				e.Tick(next)
			}
			if now = to; now.Sub(last) > age {
				since = time.Time{}
			}
			switch rapid.IntRange(0, 5).Draw(t, "op") {
			case 0:
				e.Observe(now, []lab.Sample{{ID: id, Reading: drawReading(t, 0, now, false)}})
				since = time.Time{}
			case 1, 2, 3:
				r := drawReading(t, 0, now, true)
				e.Observe(now, []lab.Sample{{ID: id, Reading: r}})
				if last = now; since.IsZero() {
					since = now
				}
				healthy = r.Value.Num >= 0.3
			default:
				if e.Reset(now, "a") != nil {
					continue
				}
				resets++
				if since.IsZero() || !healthy || now.Sub(since) < grace && !since.Equal(t0) {
					t.Fatalf("at %s it is reset: known since %s, above 0.3 m/s: %t, of %s", now.Sub(t0), since.Sub(t0), healthy, grace)
				}
			}
		}
	})
	if resets < 10 {
		t.Errorf("%d resets: this shows nothing", resets)
	}
}
