package safety_test

import (
	"strings"
	"testing"

	"labgate/lab"
	"labgate/safety"
)

// limited is the demo lab with one more limit on an instrument, and no rules
// of a file.
func limited(t *testing.T, instrument string, lim lab.Limit) (*desk, lab.Issues) {
	t.Helper()
	l := demo(t).Lab
	in := l.Instrument(instrument)
	lim.Pos = lab.Pos{File: "lab.yaml", Line: 9, Column: 7}
	in.Limits = append(in.Limits, lim)
	r, is := safety.Parse("rules.yaml", []byte("interlocks: none\nrules: []\n"), l)
	if len(is) > 0 {
		return nil, is
	}
	return &desk{TB: t, lab: l, rules: r, engine: safety.NewEngine(l, r, t0)}, nil
}

func q(v float64, unit string) *lab.Quantity {
	x := lab.Q(v, unit)
	return &x
}

func TestRuleIDsAreUnique(t *testing.T) {
	c := demo(t)
	c.Lab.Instrument("stage").Limits = append(c.Lab.Instrument("stage").Limits, lab.Limit{Component: "xyz", Name: "x", Max: q(9, "mm")})
	c.Lab.Instrument("reactor").Limits = append(c.Lab.Instrument("reactor").Limits, lab.Limit{Component: "vessel", Name: "contents", Max: q(0.5, "mL")})
	r, is := safety.Parse("rules.yaml", c.Interlocks, c.Lab)
	if len(is) > 0 {
		t.Fatal(is)
	}
	seen := map[string]bool{}
	for _, x := range r.Rules {
		if seen[x.ID] {
			t.Errorf("two rules %s", x.ID)
		}
		seen[x.ID] = true
	}
	for _, want := range []string{"pump_a.pump.dose.rate.limit", "reactor.jacket.heat.target.limit", "stage.xyz.move.x.limit", "stage.xyz.x.limit@stage.xyz.move",
		"reactor.vessel.contents.limit@pump_a.pump.dose", "reactor.vessel.contents.limit@pump_b.pump.dose", "reactor.vessel.contents.limit@reactor.vessel.drain"} {
		if !seen[want] {
			t.Errorf("no rule %s", want)
		}
	}
}

// A limit on an argument refuses what is beyond it, and never moves it there.
func TestArgumentLimit(t *testing.T) {
	d := newDesk(t, "rules:\n  - {id: size, limit: pump_a.dose.volume, min: 10 uL, max: 450 uL}\n  - {id: films, limit: cell.coat.films, min: 1.5, max: 9.5}\n")
	for _, c := range []struct {
		command, refusal, nearest string
	}{
		{"pump_a.dose volume=0.45 mL, rate=1 mL/min", "", ""}, // exactly, in another unit
		{"pump_a.dose volume=0.01 mL, rate=1 mL/min", "", ""},
		{"pump_a.dose volume=0.4500001 mL, rate=1 mL/min", "size: volume is 0.4500001 mL; at most 450 uL is allowed", "0.45 mL"},
		{"pump_a.dose volume=0.009 mL, rate=1 mL/min", "size: volume is 0.009 mL; at least 10 uL is allowed", "0.01 mL"},
		{"pump_b.dose volume=3 mL, rate=1 mL/min", "", ""}, // another pump
		{"cell.coat films=10, speed=5 mm/s", "films: films is 10; at most 9.5 is allowed", "9"},
		{"cell.coat films=1, speed=5 mm/s", "films: films is 1; at least 1.5 is allowed", "2"},
	} {
		x := d.decide(t0, c.command)
		if c.refusal == "" {
			d.engine.Done(t0, "c"+itoa(d.n), safety.AllDone, nil)
			d.allowed(x)
			continue
		}
		if got := d.refused(x); got != c.refusal {
			t.Errorf("%s: %q", c.command, got)
		}
		i := x.Refusals[0]
		if i.Nearest == nil || i.Nearest.String() != c.nearest || !i.Repairable || i.Code != "limit" {
			t.Errorf("%s: %+v", c.command, i)
			continue
		}
		// What is named as the nearest legal value is legal.
		again := d.command(c.command)
		again.Args[strings.TrimPrefix(i.Path, "args.")] = *i.Nearest
		if y := d.engine.Decide(t0, again, 1); y.Permit == nil {
			t.Errorf("%s: %s is refused too: %v", c.command, i.Nearest, y.Refusals)
		}
		d.engine.Done(t0, again.ID, safety.AllDone, nil)
	}
	for _, v := range []lab.Value{{}, lab.TextValue("0.1"), lab.BoolValue(true)} {
		cmd := d.command("pump_a.dose volume=0.1 mL, rate=1 mL/min")
		cmd.Args["volume"] = v
		if x := d.engine.Decide(t0, cmd, 1); x.Permit != nil {
			t.Errorf("volume = %s passes", v)
		}
	}
}

// TestPropertyLimit: a limit on a property refuses what is declared to take it
// beyond, whosever command that is.
func TestPropertyLimit(t *testing.T) {
	t.Run("set to an argument", func(t *testing.T) {
		d, _ := limited(t, "pump_a", lab.Limit{Component: "pump", Name: "rate", Max: q(5, "mL/min")})
		x := d.decide(t0, "pump_a.dose volume=0.1 mL, rate=6 mL/min")
		if got := d.refused(x); got != "pump_a.pump.rate.limit@pump_a.pump.dose: rate is 6 mL/min; at most 5 mL/min is allowed" || x.Refusals[0].Nearest.String() != "5 mL/min" {
			t.Error(got)
		}
		d.allowed(d.decide(t0, "pump_a.dose volume=0.1 mL, rate=5 mL/min"))
		d.allowed(d.decide(t0, "pump_b.dose volume=0.1 mL, rate=6 mL/min"))
	})
	t.Run("added to by others", func(t *testing.T) {
		d, _ := limited(t, "reactor", lab.Limit{Component: "vessel", Name: "contents", Max: q(0.5, "mL")})
		d.refused(d.decide(t0, "pump_a.dose volume=0.1 mL, rate=5 mL/min")) // unknown contents
		d.see(t0, "reactor.vessel.contents = 0.3 mL")
		d.allowed(d.decide(t0, "pump_a.dose volume=0.1 mL, rate=5 mL/min"))
		got := d.refused(d.decide(t0, "pump_b.dose volume=0.25 mL, rate=5 mL/min"))
		if got != "reactor.vessel.contents.limit@pump_b.pump.dose: reactor.vessel.contents + (args.volume) <= 0.5 mL is false (reactor.vessel.contents is 0.3 mL) (a limit of the lab file on reactor.vessel.contents)" {
			t.Error(got)
		}
		d.refused(d.decide(at(2001), "pump_a.dose volume=0.1 mL, rate=5 mL/min")) // stale
		d.see(at(2001), "reactor.vessel.contents = 0.6 mL")
		d.allowed(d.decide(at(2001), "reactor.drain")) // the way back is open
		d.allowed(d.decide(at(2001), "reactor.stir speed=100 rpm"))
	})
	t.Run("within a range", func(t *testing.T) {
		d, _ := limited(t, "reactor", lab.Limit{Component: "jacket", Name: "temperature", Min: q(10, "degC"), Max: q(80, "degC")})
		d.see(t0, "reactor.jacket.temperature = 20 degC")
		d.allowed(d.decide(t0, "reactor.heat target=77 degC"))
		d.refused(d.decide(t0, "reactor.heat target=78 degC")) // its class says 3 K of overshoot
		d.allowed(d.decide(t0, "reactor.heat_off"))
	})
	t.Run("changed by nobody", func(t *testing.T) {
		_, is := limited(t, "room", lab.Limit{Component: "room", Name: "oxygen", Min: q(20.5, "%")})
		if got := is.Error(); got != "lab.yaml:9:7: no command is declared to change room.room.oxygen: a limit on it would bound nothing (write a permissive or a trip in the interlocks file)" {
			t.Error(got)
		}
	})
}
