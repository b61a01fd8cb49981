package safety_test

import (
	"math"
	"strings"
	"testing"

	"labgate/lab"
	"labgate/safety"
)

func nanValue() float64 { return math.NaN() }

const hood = `rules:
  - id: hood
    permissive: pump_a.dose, pump_b.dose
    require: room.airflow >= 0.3 m/s
    grace: 1 s
`

const dose = "pump_a.dose volume=0.1 mL, rate=5 mL/min"

// S6: unknown denies, and the refusal says what is unknown, and why.
func TestUnknownDenies(t *testing.T) {
	mps := lab.Q(1, "m/s").Unit
	number := func(v float64) lab.Value { return lab.NumberValue(lab.Quantity{Value: v, Unit: mps}) }
	for name, c := range map[string]struct {
		reading lab.Reading
		say     string // empty: allowed
	}{
		"good":        {good(t0, number(0.5)), ""},
		"too little":  {good(t0, number(0.2)), "room.airflow >= 0.3 m/s is false (room.airflow is 0.2 m/s)"},
		"exactly":     {good(t0, number(0.3)), ""},
		"missing":     {lab.Reading{}, "is unknown (room.airflow is missing)"},
		"not a value": {lab.Reading{Quality: lab.Good, Source: t0, Received: t0}, "is unknown (room.airflow is missing)"},
		"bad":         {lab.Reading{Value: number(0.5), Source: t0, Received: t0}, "is unknown (room.airflow is bad)"},
		"uncertain":   {lab.Reading{Value: number(0.5), Quality: lab.Uncertain, Source: t0, Received: t0}, "is unknown (room.airflow is uncertain)"},
		"NaN":         {good(t0, number(math.NaN())), "is unknown (room.airflow is not finite)"},
		"infinite":    {good(t0, number(math.Inf(1))), "is unknown (room.airflow is not finite)"},
		"a word":      {good(t0, lab.TextValue("plenty")), "is unknown"},
		"a bool":      {good(t0, lab.BoolValue(true)), "is unknown"},
		"a length":    {good(t0, lab.NumberValue(lab.Q(0.5, "m"))), "is unknown"},
		"no unit":     {good(t0, lab.IntegerValue(1)), "is unknown"},
		"at its age":  {good(at(-3000), number(0.5)), ""},
		"stale":       {good(at(-4200), number(0.5)), "is unknown (room.airflow is stale, 4.2 s old)"},
		"measured long ago": {lab.Reading{Value: number(0.5), Quality: lab.Good, Source: at(-3500), Received: t0},
			"is unknown (room.airflow is stale, 3.5 s old)"},
		"from the future":   {good(at(1500), number(0.5)), "is unknown (room.airflow is from the future)"},
		"device clock fast": {lab.Reading{Value: number(0.5), Quality: lab.Good, Source: at(9000), Received: t0}, ""},
		"km/h":              {good(t0, lab.NumberValue(lab.Q(1.8, "km/h"))), ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, hood)
			d.put(t0, "room.airflow", c.reading)
			x := d.decide(t0, dose)
			if c.say == "" {
				d.allowed(x)
				return
			}
			if say := d.refused(x); !strings.HasPrefix(say, "hood: room.airflow >= 0.3 m/s ") || !strings.Contains(say, c.say) {
				t.Errorf("it says %q", say)
			}
			i := x.Refusals[0]
			if i.Rule != "hood" || len(i.Inputs) != 1 || i.Inputs[0].Signal != "room.airflow" {
				t.Errorf("%+v", i)
			}
			if name == "stale" && i.Inputs[0].AgeMS != 4200 {
				t.Errorf("%g ms old", i.Inputs[0].AgeMS)
			}
		})
	}
}

// Every reason is named at once, and every reading it stands on.
func TestEveryRefusalAtOnce(t *testing.T) {
	d := newDesk(t, hood+`  - {id: size, limit: pump_a.dose.volume, max: 0.05 mL}
  - {id: stirred, permissive: pump_a.dose, require: reactor.stirrer.speed > 100 rpm}
`)
	x := d.decide(t0, dose)
	d.refused(x)
	var rules []string
	for _, i := range x.Refusals {
		rules = append(rules, i.Rule)
	}
	if got := strings.Join(rules, " "); got != "hood size stirred" || len(x.Used()) != 2 {
		t.Errorf("refused by %s, from %d readings", got, len(x.Used()))
	}
	for _, c := range []*lab.Command{
		{ID: "x", Target: lab.CommandID{Instrument: "pump_z", Component: "pump", Command: "dose"}},
		{ID: "x", Target: lab.CommandID{Instrument: "pump_a", Component: "pump", Command: "empty"}},
		{ID: "x", Target: lab.CommandID{Instrument: "pump_a", Component: "", Command: "dose"}},
	} {
		if y := d.engine.Decide(t0, c, 1); y.Permit != nil || y.Refusals[0].Code != "undeclared" {
			t.Errorf("%s: %+v", c.Target, y.Refusals)
		}
	}
}

// A permissive holds until the command is done: lost for longer than its
// grace, it takes the permit back.
func TestLostInMidCommand(t *testing.T) {
	for name, c := range map[string]struct {
		spent bool
		steps []string // "ms what" in order; "ms tick" lets time pass
		want  string
		when  int
	}{
		"not lost":                 {true, []string{"500 0.5 m/s", "2000 0.5 m/s", "4000 0.4 m/s"}, "", 0},
		"lost for less than grace": {true, []string{"500 0.1 m/s", "1400 0.5 m/s", "2000 0.1 m/s", "2900 0.5 m/s"}, "", 0},
		"lost":                     {true, []string{"500 0.1 m/s", "1499 tick", "1500 tick"}, "lost c1 by hood", 1500},
		"unknown":                  {true, []string{"500 0.5 m/s", "3500 tick", "3501 tick", "4500 tick", "4501 tick"}, "lost c1 by hood", 4501},
		"bad":                      {true, []string{"500 NaN", "1500 tick"}, "lost c1 by hood", 1500},
		"before the first byte":    {false, []string{"500 0.1 m/s"}, "lost c1 by hood", 500},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, hood)
			d.see(t0, "room.airflow = 0.5 m/s")
			cmd := d.command(dose)
			p := d.allowed(d.engine.Decide(t0, cmd, 1))
			if c.spent {
				if err := p.Spend(cmd, 1, t0); err != nil {
					t.Fatal(err)
				}
			}
			got, when := "", 0
			for _, s := range c.steps {
				ms, what, _ := strings.Cut(s, " ")
				now := at(atoi(ms))
				var evs []safety.Event
				switch what {
				case "tick":
					evs = d.engine.Tick(now)
				case "NaN":
					evs = d.put(now, "room.airflow", good(now, lab.NumberValue(lab.Quantity{Value: math.NaN(), Unit: lab.Q(1, "m/s").Unit})))
				default:
					evs = d.see(now, "room.airflow = "+what)
				}
				if n := names(evs); n != "" {
					got, when = got+n, atoi(ms)
				}
			}
			if got != c.want || when != c.when {
				t.Errorf("%q at %d ms", got, when)
			}
			if c.want != "" {
				kind(t, p.Live(cmd), lab.KindDenied) // revoked before anybody is told
			}
		})
	}
	t.Run("the group of a trip", func(t *testing.T) {
		d := newDesk(t, "rules:\n  - {id: a, permissive: pump_a.dose, require: not tripped(room)}\n  - {id: b, trip: room, when: room.emergency, do: [pump_b.stop]}\n")
		d.see(t0, "room.emergency = false")
		d.allowed(d.decide(t0, dose))
		if got := names(d.see(at(10), "room.emergency = true")); got != "trip b first, lost c1 by a" {
			t.Error(got)
		}
	})
	t.Run("at start only", func(t *testing.T) {
		d := newDesk(t, "rules:\n  - {id: a, permissive: pump_a.dose, require: room.airflow > 0.3 m/s, at: start}\n")
		d.see(t0, "room.airflow = 0.5 m/s")
		d.allowed(d.decide(t0, dose))
		if got := names(d.see(at(10), "room.airflow = 0 m/s")); got != "" {
			t.Error(got)
		}
	})
}

func atoi(s string) int {
	n := 0
	for _, c := range s {
		n = 10*n + int(c-'0')
	}
	return n
}

// A permissive may remember: what it remembers is the lab's, not the command's.
func TestPermissiveWithMemory(t *testing.T) {
	d := newDesk(t, "rules:\n  - {id: a, permissive: pump_a.dose, require: 'held(room.airflow >= 0.3 m/s, 5 s)'}\n")
	for ms := 0; ms <= 4000; ms += 1000 {
		d.see(at(ms), "room.airflow = 0.5 m/s")
		d.refused(d.decide(at(ms), dose))
	}
	d.see(at(5000), "room.airflow = 0.5 m/s")
	d.allowed(d.decide(at(5000), dose))
	if got := names(d.see(at(5500), "room.airflow = 0.2 m/s")); got != "lost c6 by a" {
		t.Error(got)
	}
	d.see(at(5600), "room.airflow = 0.5 m/s")
	d.refused(d.decide(at(5600), dose))

	d = newDesk(t, "rules:\n  - {id: a, permissive: pump_a.dose, require: 'mean(args.volume + pump_a.dispensed, 2 s) < 99 mL'}\n")
	for ms := 0; ms <= 4000; ms += 500 {
		d.see(at(ms), "pump_a.dispensed = 1 mL")
		d.refused(d.decide(at(ms), dose)) // what a command brings was never measured
	}
}

// While a command is under way, another decision about it is no decision.
func TestSameCommandTwice(t *testing.T) {
	d := newDesk(t, "rules: []\n")
	cmd := d.command(dose)
	d.allowed(d.engine.Decide(t0, cmd, 1))
	if x := d.engine.Decide(t0, cmd, 1); x.Permit != nil || x.Refusals[0].Code != "duplicate" {
		t.Errorf("%+v", x)
	}
}

// A run's own limits tighten, for that run only, and are never loosened.
func TestRunLimits(t *testing.T) {
	d := newDesk(t, hood)
	d.see(t0, "room.airflow = 0.5 m/s", "reactor.probe.temperature = 60 degC")
	scope := func(limits ...string) error { return d.engine.Scope("run", limits) }
	if err := scope("reactor.probe.temperature <= 50 degC"); err != nil {
		t.Fatal(err)
	}
	if err := scope("reactor.probe.temperature <= 90 degC"); err != nil {
		t.Fatal(err)
	}
	if got := d.refused(d.decide(t0, dose)); !strings.Contains(got, "run limit 1: reactor.probe.temperature <= 50 degC is false") {
		t.Error(got)
	}
	other := d.command(dose)
	other.Run = "other"
	d.allowed(d.engine.Decide(t0, other, 1))
	d.allowed(d.decide(t0, "pump_a.stop")) // never in the way of the safe state
	d.engine.Unscope("run")
	d.allowed(d.decide(t0, dose))
	for _, bad := range []string{"reactor.probe.temperature", "args.volume < 1 mL", "x < 1", "tripped(moon)", "reactor.probe.temperature <= 50 mL"} {
		if scope(bad) == nil {
			t.Errorf("%q is a limit", bad)
		}
	}
	var many []string
	for i := range 65 {
		many = append(many, "reactor.probe.temperature <= "+itoa(100+i)+" degC")
	}
	if scope(many...) == nil {
		t.Error("65 limits")
	}
}

// An older reading does not overwrite a newer one.
func TestReadingsOutOfOrder(t *testing.T) {
	d := newDesk(t, hood)
	d.put(at(100), "room.airflow", good(at(90), value("0.5 m/s")))
	d.put(at(110), "room.airflow", good(at(50), value("0.1 m/s")))
	d.allowed(d.decide(at(110), dose))
	d.put(at(120), "room.airflow", good(at(115), value("0.1 m/s")))
	d.put(at(130), "room.airflow", good(at(90), value("0.5 m/s")))
	d.refused(d.decide(at(130), dose))
	if r := d.engine.Reading(d.property("room.airflow")); r.Value.Num != 0.1 {
		t.Errorf("%+v", r)
	}
	if r := d.engine.Reading(lab.PropertyID{Instrument: "x"}); r.Value.Kind != lab.Missing {
		t.Errorf("%+v", r)
	}
}

// A reading from the future counts when its time has come, by time alone.
func TestFutureReadingIsLookedAtInTime(t *testing.T) {
	d := newDesk(t, "rules:\n  - {id: a, trip: room, when: room.airflow < 0.3 m/s, unknown_for: 10 s, do: [pump_a.stop]}\n")
	d.see(t0, "room.airflow = 0.5 m/s")
	if got := names(d.put(t0, "room.airflow", good(at(2500), value("0.1 m/s")))); got != "" {
		t.Error(got)
	}
	if next := d.engine.Next(); !next.Equal(at(1500)) {
		t.Errorf("next is %s", next.Sub(t0))
	}
	if got := names(d.engine.Tick(at(1500))); got != "trip a first" {
		t.Error(got)
	}
}

func TestNeeds(t *testing.T) {
	d := newDesk(t, hood+"  - {id: b, permissive: pump_a.dose, require: reactor.stirrer.speed > 1 rpm and room.airflow < 9 m/s and args.volume < 1 mL}\n")
	var got []string
	for _, id := range d.engine.Needs(d.target("pump_a.dose")) {
		got = append(got, id.String())
	}
	if s := strings.Join(got, " "); s != "room.room.airflow reactor.stirrer.speed" {
		t.Error(s)
	}
	if len(d.engine.Needs(d.target("pump_a.stop"))) != 0 {
		t.Error("a stop needs nothing")
	}
}

// Rules of one command may name its arguments; those of several only what all
// of them have.
func TestArgumentsInRules(t *testing.T) {
	d := newDesk(t, "rules:\n  - {id: a, permissive: 'pump_a.dose, pump_b.dose', require: args.volume / args.rate <= 30 s}\n")
	d.allowed(d.decide(t0, "pump_a.dose volume=1 mL, rate=2 mL/min"))
	if got := d.refused(d.decide(t0, "pump_b.dose volume=1 mL, rate=1.9 mL/min")); got != "a: args.volume / args.rate <= 30 s is false" {
		t.Error(got)
	}
	// The first command's own arguments hold for it, whatever is decided later.
	if got := names(d.engine.Tick(at(10))); got != "" {
		t.Error(got)
	}
}
