package safety_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/safety"
)

func dosing(pump string, mL float64) string {
	return fmt.Sprintf("%s.dose volume=%v mL, rate=5 mL/min", pump, mL)
}

const perRun = `rules:
  - {id: total, budget: "sum(pump_a.dose.volume, pump_b.dose.volume) per run", max: 3 mL}
`

// A budget counts what is under way and in doubt in full, a part as that part,
// and nothing of what was not sent.
func TestBudgetByEnd(t *testing.T) {
	part := lab.Q(500, "uL")
	over := lab.Q(2.5, "mL")
	wrong := lab.Q(1, "s")
	nan := lab.Quantity{Value: math.NaN(), Unit: part.Unit}
	for name, c := range map[string]struct {
		end    func(e *safety.Engine, id string)
		nearly string // the largest dose that is left
	}{
		"under way":          {func(*safety.Engine, string) {}, "1 mL"},
		"in doubt":           {func(e *safety.Engine, id string) { e.Done(at(1), id, safety.MaybeDone, nil) }, "1 mL"},
		"done":               {func(e *safety.Engine, id string) { e.Done(at(1), id, safety.AllDone, nil) }, "1 mL"},
		"nothing":            {func(e *safety.Engine, id string) { e.Done(at(1), id, safety.NothingDone, nil) }, "3 mL"},
		"a part":             {func(e *safety.Engine, id string) { e.Done(at(1), id, safety.PartDone, &part) }, "2.5 mL"},
		"more than was said": {func(e *safety.Engine, id string) { e.Done(at(1), id, safety.PartDone, &over) }, "0.5 mL"},
		"a part unknown":     {func(e *safety.Engine, id string) { e.Done(at(1), id, safety.PartDone, nil) }, "1 mL"},
		"a part of time":     {func(e *safety.Engine, id string) { e.Done(at(1), id, safety.PartDone, &wrong) }, "1 mL"},
		"a part of NaN":      {func(e *safety.Engine, id string) { e.Done(at(1), id, safety.PartDone, &nan) }, "1 mL"},
		"doubt, then done": {func(e *safety.Engine, id string) {
			e.Done(at(1), id, safety.MaybeDone, nil)
			e.Settle(at(2), id, safety.AllDone, nil)
		}, "1 mL"},
		"doubt, then not": {func(e *safety.Engine, id string) {
			e.Done(at(1), id, safety.MaybeDone, nil)
			e.Settle(at(2), id, safety.MaybeDone, nil)
			e.Settle(at(3), id, safety.NothingDone, nil)
			e.Settle(at(4), id, safety.AllDone, nil) // it is settled
		}, "3 mL"},
		"settled without doubt": {func(e *safety.Engine, id string) { e.Settle(at(1), id, safety.NothingDone, nil) }, "1 mL"},
		"ended twice": {func(e *safety.Engine, id string) {
			e.Done(at(1), id, safety.NothingDone, nil)
			e.Done(at(1), id, safety.NothingDone, nil)
		}, "3 mL"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, perRun)
			id, x := d.ask(t0, "", "", dosing("pump_a", 2))
			d.allowed(x)
			c.end(d.engine, id)
			i := d.only(d.decide(at(9), dosing("pump_b", 3.5)), "total")
			if i.Nearest == nil || i.Nearest.String() != c.nearly || !i.Repairable || i.Path != "args.volume" || i.Code != "budget" {
				t.Fatalf("%+v, nearest %v", i, i.Nearest)
			}
			d.allowed(d.decide(at(9), "pump_b.dose volume="+c.nearly+", rate=5 mL/min"))
			d.only(d.decide(at(9), dosing("pump_b", 1e-9)), "total")
		})
	}
}

// Each of what a budget is for has a sum of its own.
func TestBudgetScopes(t *testing.T) {
	type who struct{ run, campaign, principal string }
	base := who{"r1", "k1", "p1"}
	for _, c := range []struct {
		per    string
		shares []who // which others count on the same sum
		others []who
	}{
		{"command", nil, []who{base}},
		{"run", []who{{"r1", "k2", "p2"}}, []who{{"r2", "k1", "p1"}}},
		{"campaign", []who{{"r2", "k1", "p2"}}, []who{{"r1", "k2", "p1"}}},
		{"principal", []who{{"r2", "k2", "p1"}}, []who{{"r1", "k1", "p2"}}},
		{"day", []who{{"r2", "k2", "p2"}}, nil},
		{"principal and day", []who{{"r2", "k2", "p1"}}, []who{{"r1", "k1", "p2"}}},
		{"run and principal", []who{{"r1", "k2", "p1"}}, []who{{"r2", "k1", "p1"}, {"r1", "k1", "p2"}}},
	} {
		t.Run(c.per, func(t *testing.T) {
			d := newDesk(t, "rules:\n  - {id: b, budget: \"sum(any pump/v1.dose.volume) per "+c.per+"\", max: 3 mL}\n")
			ask := func(now time.Time, w who, mL float64) safety.Decision {
				cmd := d.command(dosing("pump_a", mL))
				cmd.Run, cmd.Campaign, cmd.Principal = w.run, w.campaign, w.principal
				return d.engine.Decide(now, cmd, 1)
			}
			d.allowed(ask(t0, base, 2))
			d.engine.Done(t0, "c1", safety.AllDone, nil)
			for _, w := range c.shares {
				d.only(ask(t0, w, 1.5), "b")
			}
			for _, w := range c.others {
				d.allowed(ask(t0, w, 2))
			}
			d.only(ask(t0, who{"r9", "k9", "p9"}, 3.5), "b")
			x := ask(t0.Add(24*time.Hour-1), base, 1.5)
			if c.per != "command" {
				d.only(x, "b")
				if freed := strings.Contains(x.Refusals[0].Wait, "2026-11-23T09:00:00Z"); freed != strings.Contains(c.per, "day") {
					t.Errorf("it says to wait: %q", x.Refusals[0].Wait)
				}
			}
			if x := ask(t0.Add(24*time.Hour), base, 1.5); (x.Permit != nil) != (strings.Contains(c.per, "day") || c.per == "command") {
				t.Errorf("after a day: %v", x.Refusals)
			}
		})
	}
}

func TestBudgetTerms(t *testing.T) {
	d := newDesk(t, `rules:
  - {id: n, budget: "count(stage.move, camera.capture) per run", max: 3}
  - {id: energy, budget: "sum(pump_a.dose.volume / pump_a.dose.rate) per run", max: 1 min}
`)
	const move = "stage.move x=0 mm, y=0 mm, z=0 mm"
	d.run(t0, move)
	d.run(t0, move)
	d.run(t0, "camera.capture exposure=20 ms")
	if i := d.only(d.decide(t0, move), "n"); i.Nearest != nil {
		t.Errorf("the nearest to one move is %v", i.Nearest)
	}
	d.run(t0, "pump_a.dose volume=4 mL, rate=5 mL/min")
	i := d.only(d.decide(t0, "pump_a.dose volume=2 mL, rate=5 mL/min"), "energy")
	if i.Nearest != nil || i.Path != "" {
		t.Errorf("%+v", i)
	}
	d.allowed(d.decide(t0, "pump_a.dose volume=1 mL, rate=5 mL/min"))
}

// What many small doses add up to is what people add up to.
func TestManySmallDoses(t *testing.T) {
	d := newDesk(t, "rules:\n  - {id: b, budget: \"sum(pump_a.dose.volume) per run\", max: 30 mL}\n")
	for range 300 {
		d.run(t0, dosing("pump_a", 0.1))
	}
	d.only(d.decide(t0, "pump_a.dose volume=1e-12 mL, rate=5 mL/min"), "b")
}

func TestTotal(t *testing.T) {
	d := newDesk(t, `rules:
  - {id: each, limit: "pump_a.dose.volume, pump_b.dose.volume", total: 5 mL per 1 h}
  - {id: both, limit: "pump_a.dose.volume, pump_b.dose.volume", total: 8 mL per 1 h, together: true}
`)
	minute := func(n int) time.Time { return t0.Add(time.Duration(n) * time.Minute) }
	d.run(minute(0), dosing("pump_a", 3))
	d.run(minute(20), dosing("pump_a", 2))
	i := d.only(d.decide(minute(21), dosing("pump_a", 1)), "each")
	if i.Nearest != nil || i.Wait != "enough of it is free again at 2026-11-22T10:00:00Z" {
		t.Errorf("%+v", i)
	}
	if i := d.only(d.decide(minute(21), dosing("pump_b", 3.5)), "both"); i.Nearest == nil || i.Nearest.String() != "3 mL" {
		t.Errorf("%+v", i)
	}
	d.run(minute(22), dosing("pump_b", 3))
	d.refused(d.decide(minute(59), dosing("pump_a", 1)))
	d.allowed(d.decide(minute(60), dosing("pump_a", 3)))
	if i := d.only(d.decide(minute(61), dosing("pump_b", 1)), "both"); i.Wait == "" {
		t.Errorf("%+v", i)
	}
	if i := d.decide(minute(61), dosing("pump_b", 9)); len(i.Refusals) != 2 || i.Refusals[0].Wait != "" {
		t.Errorf("no time makes room for more than there is: %v", i.Refusals)
	}
}

// A command counts in a window from its decision until the window after its
// end is over: its effect may have come as late as that.
func TestWindowBeginsAtTheEnd(t *testing.T) {
	d := newDesk(t, "rules:\n  - {id: b, limit: pump_a.dose.volume, total: 5 mL per 1 h}\n")
	id, x := d.ask(t0, "", "", dosing("pump_a", 5))
	d.allowed(x)
	d.only(d.decide(t0.Add(2*time.Hour), dosing("pump_a", 1)), "b")
	d.engine.Done(t0.Add(2*time.Hour), id, safety.MaybeDone, nil)
	d.only(d.decide(t0.Add(9*time.Hour), dosing("pump_a", 1)), "b") // in doubt, it may happen yet
	d.engine.Settle(t0.Add(9*time.Hour), id, safety.AllDone, nil)
	d.only(d.decide(t0.Add(10*time.Hour-1), dosing("pump_a", 1)), "b")
	d.allowed(d.decide(t0.Add(10*time.Hour), dosing("pump_a", 1)))
}

const steps = `rules:
  - {id: step, limit: reactor.heat.target, step: 20 K}
`

func heat(degC float64) string { return fmt.Sprintf("reactor.heat target=%v degC", degC) }

// A step is from what is in force: what is read, and what commands under way,
// in doubt, or not shown by a reading yet may have set, whichever is worse.
func TestStep(t *testing.T) {
	d := newDesk(t, steps)
	set := func(now time.Time, degC float64) { d.see(now, fmt.Sprintf("reactor.jacket.setpoint = %v degC", degC)) }
	i := d.only(d.decide(t0, heat(40)), "step")
	if !strings.Contains(i.Say, "is unknown") || i.Wait == "" || i.Nearest != nil {
		t.Errorf("%+v", i)
	}
	set(t0, 40)
	for target, ok := range map[float64]bool{60: true, 20: true, 40: true, 60.001: false, 19.999: false, 92: false} {
		id, x := d.ask(t0, "", "", heat(target))
		if (x.Permit != nil) != ok {
			t.Errorf("to %v degC: %v", target, x.Refusals)
		}
		d.engine.Done(t0, id, safety.NothingDone, nil)
		if !ok {
			want := map[bool]string{true: "60 degC", false: "20 degC"}[target > 40]
			if n := x.Refusals[0].Nearest; n == nil || n.String() != want {
				t.Errorf("nearest to %v is %v", target, n)
			}
		}
	}
	first, x := d.ask(at(1), "", "", heat(60)) // 40 or 60 from now on
	d.allowed(x)
	if n := d.only(d.decide(at(2), heat(70)), "step").Nearest; n == nil || n.String() != "60 degC" {
		t.Errorf("between 40 and 60 the nearest to 70 is %v", n)
	}
	if n := d.only(d.decide(at(2), heat(30)), "step").Nearest; n == nil || n.String() != "40 degC" {
		t.Errorf("between 40 and 60 the nearest to 30 is %v", n)
	}
	d.engine.Done(at(3), first, safety.MaybeDone, nil)
	set(at(4), 60)
	d.only(d.decide(at(5), heat(30)), "step")
	set(at(6), 40)
	d.only(d.decide(at(7), heat(70)), "step") // in doubt: it may come yet
	d.engine.Settle(at(8), first, safety.AllDone, nil)
	d.only(d.decide(at(9), heat(20)), "step") // the reading is older than the end
	set(at(10), 60)
	d.allowed(d.decide(at(11), heat(80)))
}

// A reading from before a command was over does not say what is in force.
func TestStepAfterAnUnreadSetpoint(t *testing.T) {
	d := newDesk(t, steps)
	d.see(t0, "reactor.jacket.setpoint = 40 degC")
	d.run(at(100), heat(60))
	if got := d.engine.Needs(d.target("reactor.heat")); len(got) != 1 || got[0].Property != "setpoint" {
		t.Errorf("it needs %v", got)
	}
	d.only(d.decide(at(200), heat(20)), "step")
	d.see(at(300), "reactor.jacket.setpoint = 60 degC")
	d.only(d.decide(at(400), heat(20)), "step")
	d.allowed(d.decide(at(400), heat(75)))
}

// Steps are compared as people write them, to the last digit.
func TestStepsAreExact(t *testing.T) {
	d := newDesk(t, "rules:\n  - {id: step, limit: stage.move.x, step: 0.3 mm}\n  - {id: f, limit: reactor.heat.target, step: 20 K}\n")
	d.see(t0, "stage.x = 0.1 mm")
	d.allowed(d.decide(t0, "stage.move x=0.4 mm, y=0 mm, z=0 mm")) // 0.4 - 0.1 is 0.30000000000000004 in binary
	d.only(d.decide(t0, "stage.move x=0.40000000001 mm, y=0 mm, z=0 mm"), "step")
	d.see(t0, "reactor.jacket.setpoint = 22.1 degC")
	d.allowed(d.decide(t0, heat(42.1)))
	d.only(d.decide(t0, heat(42.1000001)), "f")
}

// Many small steps are one large one.
func TestChange(t *testing.T) {
	d := newDesk(t, "rules:\n  - {id: rate, limit: reactor.heat.target, step: 20 K, change: 40 K per 10 min}\n")
	now := t0
	to := func(degC float64) safety.Decision {
		now = now.Add(time.Second)
		id, x := d.ask(now, "", "", heat(degC))
		if x.Permit != nil {
			d.engine.Done(now, id, safety.AllDone, nil)
			now = now.Add(time.Second)
			d.see(now, fmt.Sprintf("reactor.jacket.setpoint = %v degC", degC))
		}
		return x
	}
	d.see(now, "reactor.jacket.setpoint = 30 degC")
	d.allowed(to(50)) // 20
	d.allowed(to(35)) // 35
	if i := d.only(to(45), "rate"); i.Nearest == nil || i.Nearest.String() != "40 degC" || !strings.HasPrefix(i.Wait, "enough of it is free again at") {
		t.Errorf("%+v, nearest %v", i, i.Nearest)
	}
	d.allowed(to(40)) // 40
	if x := to(61); len(x.Refusals) != 2 {
		t.Errorf("%v", x.Refusals)
	} else if n := x.Refusals[0].Nearest; n == nil || n.String() != "40 degC" {
		t.Errorf("one part of the rule would allow %v, the other not", n)
	}
	now = t0.Add(10*time.Minute + 2*time.Second)
	d.see(now, "reactor.jacket.setpoint = 40 degC")
	d.allowed(to(55)) // the first 20 are over
}

// After a restart, what was set counts by the journal.
func TestRestoredCounts(t *testing.T) {
	d := newDesk(t, perRun+"  - {id: rate, limit: reactor.heat.target, change: 40 K per 10 min}\n  - {id: seq, sequence: stage.move, after: reactor.heat, within: 1 min}\n")
	e := d.engine
	restore := func(now time.Time, text string, end safety.End) {
		c := d.command(text)
		e.Remember(now, c)
		e.Remember(now, c)
		e.Settle(now.Add(time.Second), c.ID, end, nil)
	}
	restore(t0, dosing("pump_a", 1), safety.AllDone)
	restore(t0, dosing("pump_a", 1), safety.NothingDone)
	restore(t0, dosing("pump_a", 1), safety.MaybeDone)
	restore(t0, heat(40), safety.AllDone) // from what, nobody knows: all there is
	d.only(d.decide(at(5000), dosing("pump_b", 1.5)), "total")
	d.allowed(d.decide(at(5000), dosing("pump_b", 1)))
	d.see(at(5000), "reactor.jacket.setpoint = 40 degC")
	d.only(d.decide(at(5000), heat(41)), "rate")
	d.allowed(d.decide(at(60000), "stage.move x=0 mm, y=0 mm, z=0 mm"))
	d.refused(d.decide(at(60002), "stage.move x=0 mm, y=0 mm, z=0 mm")) // a minute after its intent

	c := d.command(dosing("pump_a", 1))
	e.Remember(t0, c)
	if x := e.Decide(at(6000), c, 1); x.Permit != nil || x.Refusals[0].Code != "duplicate" {
		t.Errorf("what is in doubt is decided again: %v", x.Refusals)
	}
	e.Remember(t0, &lab.Command{ID: "gone", Target: lab.CommandID{Instrument: "sold"}})
	e.Settle(t0, "gone", safety.AllDone, nil)
}
