package safety_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/safety"
)

const tripRules = `signals:
  temperature: {vote: {of: [reactor.jacket.temperature, reactor.probe.temperature, reactor.wall.temperature], need: 2, within: 5 K}}
rules:
  - id: hot
    trip: reactor
    when: temperature > 95 degC
    unknown_for: 3 s
    do: [pump_a.stop, reactor.jacket.heat_off, quench.quench.flood]
    mitigates: [quench.pump.dose]
  - id: rising
    trip: reactor
    when: rate(reactor.probe.temperature, 1 s) > 40 K/s
    unknown_for: 10 s
    do: [pump_b.stop]
    run: hold
  - id: button
    trip: room
    when: room.emergency
    unknown_for: 10 s
    do: [stage.halt]
`

// temperatures feeds the three sensors.
func (d *desk) temperatures(now time.Time, degC ...float64) []safety.Event {
	d.Helper()
	var samples []lab.Sample
	for i, n := range []string{"reactor.jacket.temperature", "reactor.probe.temperature", "reactor.wall.temperature"} {
		if i < len(degC) {
			samples = append(samples, lab.Sample{ID: d.property(n), Reading: good(now, lab.NumberValue(lab.Q(degC[i], "degC")))})
		}
	}
	return d.engine.Observe(now, samples)
}

// ready gives every trip something to decide on.
func (d *desk) ready(now time.Time) {
	d.Helper()
	for ms := 0; ms <= 1000; ms += 250 {
		d.temperatures(now.Add(time.Duration(ms-1000)*time.Millisecond), 60, 60, 60)
	}
	d.see(now, "room.emergency = false")
	if !d.engine.Ready(now) {
		d.Fatal("not ready")
	}
}

func TestTripLatches(t *testing.T) {
	d := newDesk(t, tripRules)
	d.ready(t0)
	evs := d.temperatures(at(100), 118, 120, 60) // two of three
	if names(evs) != "trip hot first, trip rising" {
		t.Fatal(names(evs))
	}
	hot := evs[0].(*safety.Trip)
	var do []string
	for _, o := range hot.Do {
		do = append(do, o.Target().String()+" "+string(o.Origin())+" "+o.Why())
	}
	if got := strings.Join(do, ", "); got != "pump_a.pump.stop trip hot, reactor.jacket.heat_off trip hot, quench.quench.flood trip hot" || hot.Run != safety.RunAbort {
		t.Errorf("it does %s and %s", got, hot.Run)
	}
	if l := hot.Latch; strings.Join(l.Instruments, " ") != "pump_a reactor quench" || l.Group != "reactor" || !l.Since.Equal(at(100)) || len(l.Inputs) != 3 || l.Say != "hot tripped: temperature > 95 degC" {
		t.Errorf("%+v", l)
	}
	if evs[1].(*safety.Trip).Run != safety.RunHold {
		t.Error("rising holds")
	}
	// Latched: it does not fire again, and nothing but its reset clears it.
	for ms := 200; ms < 30000; ms += 100 {
		if got := names(d.temperatures(at(ms), 20, 20, 20)); got != "" {
			t.Fatalf("%s at %d ms", got, ms)
		}
	}
	d.see(at(29900), "room.emergency = false")
	for command, ok := range map[string]bool{
		dose: false, "reactor.stir speed=100 rpm": false, "quench.flood": true, "pump_a.stop": true, "stage.halt": true, "spectrometer.spectrum": true,
		"pump_b.dose volume=0.1 mL, rate=1 mL/min": false, "stage.move x=0 mm, y=0 mm, z=0 mm": true,
	} {
		if x := d.decide(at(29900), command); (x.Permit != nil) != ok {
			t.Errorf("%s: %+v", command, x.Refusals)
		}
	}
	if x := d.decide(at(29900), dose); x.Refusals[0].Code != "latched" || x.Refusals[0].Rule != "hot" {
		t.Errorf("%+v", x.Refusals)
	}
}

// What mitigates a trip passes its latch, once; if nothing of it was sent, once
// more.
func TestMitigationPassesOnce(t *testing.T) {
	const quench = "quench.dose volume=0.1 mL, rate=5 mL/min"
	d := newDesk(t, tripRules)
	d.ready(t0)
	d.temperatures(at(10), 99, 99, 60)
	if !d.engine.Mitigates(d.target("quench.dose")) {
		t.Error("it mitigates")
	}
	d.allowed(d.decide(at(10), quench))
	d.engine.Done(t0, "c1", safety.AllDone, nil)
	if d.engine.Mitigates(d.target("quench.dose")) {
		t.Error("it has mitigated")
	}
	d.refused(d.decide(at(10), quench))
	d.engine.NotSent("c1")
	d.allowed(d.decide(at(10), quench))
	d.refused(d.decide(at(10), quench))
	d.engine.Stop(at(20), "", "a person", "")
	d.engine.NotSent("c3")
	d.refused(d.decide(at(20), quench)) // a stop is of everything
}

// The grace of what is unknown: only good data for as long clears it.
func TestUnknownTrips(t *testing.T) {
	for name, c := range map[string]struct {
		read  []int // ms at which all three sensors are read; each reading is good for 1 s
		fires int   // ms; 0: not within 20 s
	}{
		"one gap":                     {[]int{0}, 4001},
		"steady":                      {every(0, 20000, 900), 0},
		"steady with short gaps":      {every(0, 20000, 1000), 0},
		"a flicker does not clear it": {[]int{0, 3500}, 4501},
		"good for not quite as long":  {[]int{0, 3000, 3900, 4800}, 5801},
		"good for as long":            {[]int{0, 3000, 3900, 4800, 5700}, 9701},
	} {
		t.Run(name, func(t *testing.T) {
			for _, dense := range []bool{true, false} {
				d := newDesk(t, tripRules)
				got := d.play(dense, 20000, c.read, func(now time.Time) []safety.Event {
					return d.temperatures(now, 60, 60, 60)
				}, func(s string) bool { return strings.HasPrefix(s, "trip hot") })
				if got != c.fires {
					t.Errorf("every ms %t: it fires at %d ms", dense, got)
				}
			}
		})
	}
}

// play feeds readings at some ms and lets time pass, either ms by ms or only
// when the engine asks for it. It returns the first ms at which an event that
// is wanted had happened.
func (d *desk) play(dense bool, until int, when []int, feed func(time.Time) []safety.Event, want func(string) bool) int {
	d.Helper()
	found := func(evs []safety.Event, now time.Time) int {
		for _, e := range evs {
			if want(names([]safety.Event{e})) {
				return int((now.Sub(t0) + time.Millisecond - 1) / time.Millisecond)
			}
		}
		return 0
	}
	next := 0
	for now := t0; !now.After(at(until)); {
		var evs []safety.Event
		if next < len(when) && !now.Before(at(when[next])) {
			evs = feed(now)
			next++
		}
		if ms := found(append(evs, d.engine.Tick(now)...), now); ms > 0 {
			return ms
		}
		last := now
		switch {
		case dense:
			now = now.Add(time.Millisecond)
			continue
		case next < len(when):
			now = at(when[next])
		default:
			now = at(until + 1)
		}
		if n := d.engine.Next(); !n.IsZero() && n.Before(now) {
			now = n
		}
		if !now.After(last) {
			d.Fatalf("at %s Next is %s: the shell would spin", last.Sub(t0), now.Sub(t0))
		}
	}
	return 0
}

func every(from, to, step int) []int {
	var list []int
	for ms := from; ms <= to; ms += step {
		list = append(list, ms)
	}
	return list
}

// Until the inputs of every trip were good once, effects are refused and
// nothing latches for being unknown; when the time for that is up, it does.
func TestStarting(t *testing.T) {
	l := demo(t).Lab
	d := &desk{TB: t, lab: l, rules: rulesOf(t, l, "interlocks: test\n"+tripRules)}
	d.engine = safety.NewEngine(l, d.rules, at(30000))
	if next := d.engine.Next(); !next.Equal(at(30000)) {
		t.Errorf("next is %v", next)
	}
	for ms := 0; ms < 30000; ms += 100 {
		if got := names(d.engine.Tick(at(ms))); got != "" {
			t.Fatalf("%s at %d ms", got, ms)
		}
	}
	x := d.decide(at(29000), dose)
	if d.refused(x); x.Refusals[0].Code != "starting" || len(x.Refusals) != 3 {
		t.Errorf("%v", x.Refusals)
	}
	d.allowed(d.decide(at(29000), "pump_a.stop"))
	if got := names(d.engine.Tick(at(30000))); got != "" {
		t.Errorf("%s before its grace", got)
	}
	d.refused(d.decide(at(30001), dose)) // nothing has ever been known
	if got := names(d.engine.Tick(at(33000))); got != "trip hot first" {
		t.Errorf("%q", got)
	}
	if got := names(d.engine.Tick(at(40000))); got != "trip rising, trip button first" {
		t.Errorf("%q", got)
	}

	d.engine = safety.NewEngine(l, d.rules, at(30000))
	d.ready(at(1000))
	d.allowed(d.decide(at(1000), dose))
	// What was good once and is lost trips, start or not.
	for ms := 1000; ms < 9000; ms++ {
		if got := names(d.engine.Tick(at(ms))); got != "" {
			if got != "trip hot first" || ms != 5001 {
				t.Errorf("%s at %d ms", got, ms)
			}
			return
		}
	}
	t.Error("it never trips")
}

// A reset needs inputs that are known and no longer trip.
func TestReset(t *testing.T) {
	d := newDesk(t, tripRules)
	d.ready(t0)
	reset := func(now time.Time, rule string, want lab.Kind, say string) {
		t.Helper()
		err := d.engine.Reset(now, rule)
		kind(t, err, want)
		if err != nil && !strings.Contains(err.Error(), say) {
			t.Error(err)
		}
	}
	reset(t0, "hot", lab.KindInvalid, "hot is not latched")
	d.temperatures(at(10), 99, 99, 60)
	reset(at(10), "hot", lab.KindDenied, "hot can't be reset: temperature > 95 degC is still true")
	reset(at(10), "button", lab.KindInvalid, "button is not latched; latched are: hot")
	reset(at(10), "nothing", lab.KindInvalid, "nothing is not latched")
	reset(at(1011), "hot", lab.KindDenied, "is unknown")
	d.temperatures(at(2000), 60, math.NaN(), 99)
	reset(at(2000), "hot", lab.KindDenied, "is unknown")
	for ms := 2100; ms <= 5000; ms += 100 { // for as long as unknown has grace, it must be known again
		d.temperatures(at(ms), 60, 61, 99)
		reset(at(ms), "hot", lab.KindDenied, "not good again for 3 s yet")
	}
	d.temperatures(at(5100), 60, 61, 99)
	if err := d.engine.Reset(at(5100), "hot"); err != nil {
		t.Fatal(err)
	}
	reset(at(5100), "hot", lab.KindInvalid, "not latched")
	d.see(at(5100), "room.emergency = false")
	d.allowed(d.decide(at(5100), dose))
	// It is armed again.
	if got := names(d.temperatures(at(5200), 99, 99, 60)); got != "trip hot first" {
		t.Error(got)
	}
}

// Latches survive a restart; one whose rule is gone stays until it is reset.
func TestRestoredLatches(t *testing.T) {
	d := newDesk(t, tripRules)
	d.ready(t0)
	d.temperatures(at(10), 99, 99, 60)
	d.engine.Stop(at(20), "stage", "operator_1", "smoke")
	saved, err := json.Marshal(d.engine.Latches())
	if err != nil {
		t.Fatal(err)
	}
	var latches []safety.Latch
	if err := json.Unmarshal(saved, &latches); err != nil || len(latches) != 2 {
		t.Fatal(latches, err)
	}

	gone := newDesk(t, "rules:\n  - {id: a, permissive: pump_b.dose, require: not tripped(stop)}\n")
	for range 2 { // the journal may say it twice
		for _, l := range latches {
			gone.engine.RestoreLatch(l)
		}
	}
	if got := gone.engine.Latches(); len(got) != 2 || got[0].Rule != "hot" || !got[0].Since.Equal(at(10)) || got[1].Say != "stopped by operator_1: smoke" {
		t.Errorf("%+v", got)
	}
	gone.refused(gone.decide(at(30), dose))
	gone.refused(gone.decide(at(30), "pump_b.dose volume=0.1 mL, rate=1 mL/min")) // by tripped(stop)
	gone.refused(gone.decide(at(30), "stage.move x=0 mm, y=0 mm, z=0 mm"))
	gone.allowed(gone.decide(at(30), "quench.dose volume=0.1 mL, rate=1 mL/min")) // it mitigates, rule or not
	if err := gone.engine.Reset(at(40), "hot"); err != nil {
		t.Error(err)
	}
	gone.allowed(gone.decide(at(40), dose))
	if err := gone.engine.Reset(at(50), "stop/stage"); err != nil {
		t.Error(err)
	}
	gone.allowed(gone.decide(at(60), "stage.move x=0 mm, y=0 mm, z=0 mm"))
	gone.allowed(gone.decide(at(60), "pump_b.dose volume=0.1 mL, rate=1 mL/min"))
	gone.engine.DropLatch("never there")
}

// A stop latches one instrument or all of them, and only effects.
func TestStop(t *testing.T) {
	const move = "stage.move x=0 mm, y=0 mm, z=0 mm"
	d := newDesk(t, "rules: []\n")
	l := d.engine.Stop(t0, "pump_a", "operator_1", "")
	if l.Rule != "stop/pump_a" || l.Say != "stopped by operator_1" || !l.FirstOut {
		t.Errorf("%+v", l)
	}
	d.refused(d.decide(t0, dose))
	d.allowed(d.decide(t0, move))
	d.allowed(d.decide(t0, "pump_a.stop"))
	all := d.engine.Stop(at(5), "", "operator_1", "drill")
	if all.Rule != "stop" || all.FirstOut || len(all.Instruments) != 0 {
		t.Errorf("%+v", all)
	}
	d.engine.Stop(at(6), "", "operator_2", "")
	if n := len(d.engine.Latches()); n != 2 {
		t.Errorf("%d latches", n)
	}
	for _, c := range []string{dose, move, "spectrometer.spectrum", "reactor.stir speed=100 rpm"} {
		d.refused(d.decide(at(10), c))
	}
	d.allowed(d.decide(at(10), "stage.halt"))
	if err := d.engine.Reset(at(20), "stop"); err != nil {
		t.Fatal(err)
	}
	d.allowed(d.decide(at(20), move))
	d.refused(d.decide(at(20), dose))
}

// A trip may look at another one's group: the second falls with the first, in
// the same instant, and is not the first out.
func TestCascade(t *testing.T) {
	d := newDesk(t, `rules:
  - {id: c, trip: cell, when: tripped(line), do: [cell.stop]}
  - {id: b, trip: line, when: tripped(room), do: [stage.halt]}
  - {id: b2, trip: line, when: tripped(room) and tripped(stop), do: [stage.halt]}
  - {id: a, trip: room, when: room.emergency, do: [pump_a.stop]}
`)
	d.see(t0, "room.emergency = false")
	d.engine.Tick(t0)
	if got := names(d.see(at(10), "room.emergency = true")); got != "trip a first, trip b first, trip c first" {
		t.Error(got)
	}
	d.engine.Stop(at(20), "", "a person", "")
	if got := names(d.engine.Tick(at(20))); got != "trip b2" {
		t.Error(got)
	}
}

// Good data clear the time unknown when they have lasted, though nothing comes
// in at that moment.
func TestUnknownIsClearedByTimeAlone(t *testing.T) {
	for _, dense := range []bool{true, false} {
		d := newDesk(t, "rules:\n  - {id: a, trip: x, when: room.airflow < 0.3 m/s, unknown_for: 1 s, do: [pump_a.stop]}\n")
		got := d.play(dense, 9000, []int{300}, func(now time.Time) []safety.Event { return d.see(now, "room.airflow = 0.5 m/s") }, // good for 3 s
			func(s string) bool { return s == "trip a first" })
		if got != 4301 {
			t.Errorf("every ms %t: it fires at %d ms", dense, got)
		}
	}
}
