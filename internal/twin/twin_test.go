package twin_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"labgate/internal/twin"
	"labgate/messages"
)

// One proposal becomes its measurement, through both cores and the world.
func TestGoldNanoparticles(t *testing.T) {
	w := makeTwin(t, 1, twin.Faults{})
	id := accepted(t, w, gold("one"))
	stop := ended(t, w, id, time.Minute)
	if stop.ExitStatus != messages.ExitSuccess {
		t.Fatalf("%+v\n%s", stop, tail(w.Trace(), 30))
	}
	peak := stop.Outputs["peak"].Quantity()
	if peak.Unit.String() != "nm" || !(peak.Value > 505 && peak.Value < 580) {
		t.Errorf("peak %v", peak)
	}
	if tab := stop.Outputs["spectrum"].Table; tab == nil || len(tab.Data[0]) != 256 {
		t.Errorf("spectrum %+v", stop.Outputs["spectrum"])
	}
	if b := stop.Outputs["image"].Blob; b == nil || len(w.Blob(b.Hash)) != b.Size || b.Size == 0 {
		t.Errorf("image %+v", stop.Outputs["image"])
	}
	for pump, want := range map[string]float64{"pump_a": 0.15, "pump_b": 0.18} {
		if c := w.World().Count(pump); c.Doses != 1 || c.DosesDone != 1 || math.Abs(c.Dispensed-want) > 1e-9 {
			t.Errorf("%s: %+v", pump, c)
		}
	}
	if c := w.World().Count("camera"); c.Exposures != 1 {
		t.Errorf("camera: %+v", c)
	}
	if s := w.Status(); len(s.Latches)+len(s.InDoubt) > 0 {
		t.Errorf("status %+v", s)
	}
	if v := w.Verdicts("planner"); len(v) != 1 {
		t.Errorf("%d verdicts", len(v))
	}
	if stop.Seconds < 3 || stop.Seconds > 20 {
		t.Errorf("the run took %.1f s", stop.Seconds)
	}
	if _, ok := w.Documents(id)[0].(messages.RunStart); !ok {
		t.Errorf("the first document is a %T", w.Documents(id)[0])
	}
}

func TestCoatFilms(t *testing.T) {
	w := makeTwin(t, 1, twin.Faults{})
	id := accepted(t, w, proposal("films", "coat-films", "1.0.0", "films", 4, "speed", "10 mm/s"))
	stop := ended(t, w, id, 3*time.Minute)
	if stop.ExitStatus != messages.ExitSuccess {
		t.Fatalf("%+v\n%s", stop, tail(w.Trace(), 30))
	}
	c := w.World().Count("cell")
	if c.Batches != 1 || c.Films != 4 || stop.Outputs["passed"].Num != float64(c.Films-c.Scrap) {
		t.Errorf("count %+v, outputs %+v", c, stop.Outputs)
	}
}

// Without the hood the dose is refused by its rule, and nothing comes out.
func TestHoodOff(t *testing.T) {
	w := makeTwin(t, 1, twin.Faults{})
	id := accepted(t, w, gold("one"))
	w.At(500*time.Millisecond, "the hood stops", func() {
		set(t, w, "room.airflow", 0)
	})
	stop := ended(t, w, id, time.Minute)
	if stop.ExitStatus != messages.ExitFail || stop.Rule != "dosing-needs-hood" {
		t.Errorf("%+v", stop)
	}
	for _, pump := range []string{"pump_a", "pump_b"} {
		if c := w.World().Count(pump); c.Doses != 0 || c.Dispensed != 0 {
			t.Errorf("%s: %+v", pump, c)
		}
	}
	if w.World().Reactor().Heating() {
		t.Error("the finally has not switched the heater off")
	}
}

// The hood stops while a dose runs that is longer than the grace: it is stopped after its grace, and the
// part that was delivered is on record.
func TestHoodOffWhileDosing(t *testing.T) {
	w := makeTwin(t, 1, twin.Faults{})
	id := accepted(t, w, inline("slow", `protocol: slow-dose
version: 1.0.0
about: One slow dose.
roles:
  reactor: {is: [thermostat/v1, stirrer/v1]}
  gold: {is: pump/v1, holds: {substance: HAuCl4, concentration: 1 mmol/L}}
steps:
  - {id: stir, do: reactor.stir, with: {speed: 400 rpm}}
  - {id: feed, do: gold.dose, with: {volume: 0.4 mL, rate: 4 mL/min}}
finally:
  - {do: gold.stop}
`))
	run(t, w, time.Minute, func(w *twin.Twin) bool { return w.World().Pump("pump_a").Running() })
	pass(t, w, time.Second)
	set(t, w, "room.airflow", 0)
	stop := ended(t, w, id, time.Minute)
	a := w.World().Count("pump_a")
	// 4 mL/min for 1 s, until the hood's reading (0.2 s), its grace (1 s) and
	// the stop.
	if stop.ExitStatus != messages.ExitFail || a.DosesDone != 0 || !(a.Dispensed > 0.13 && a.Dispensed < 0.17) {
		t.Errorf("%+v\n%+v", stop, a)
	}
	if list := outcomes(t, w); !has(list, "pump_a.dose partial") {
		t.Errorf("outcomes %v", list)
	}
}

// An exotherm in mid-run trips runaway: pumps stopped, heater off, quench
// flooded, latched; the run is aborted, and its finally ran.
func TestRunaway(t *testing.T) {
	for _, at := range []struct {
		name  string
		until func(*twin.Twin) bool
	}{
		{"while heating", func(w *twin.Twin) bool { return w.World().Reactor().Temperature("jacket") > 50 }},
		{"while dosing", dosing},
	} {
		t.Run(at.name, func(t *testing.T) {
			w := makeTwin(t, 1, twin.Faults{})
			id := accepted(t, w, gold("one"))
			run(t, w, time.Minute, at.until)
			set(t, w, "exotherm", 300) // less than 40 K/s: what trips is the temperature
			began := w.Now()
			stop := ended(t, w, id, time.Minute)
			if stop.ExitStatus != messages.ExitAbort || stop.Rule != "runaway" {
				t.Errorf("%+v", stop)
			}
			if took := w.Now().Sub(began); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
			for _, pump := range []string{"pump_a", "pump_b"} {
				if w.World().Pump(pump).Running() {
					t.Errorf("%s runs", pump)
				}
			}
			if w.World().Reactor().Heating() {
				t.Error("the heater is on")
			}
			if c := w.World().Count("quench"); c.Doses != 1 {
				t.Errorf("quench %+v", c)
			}
			if s := w.Status(); len(s.Latches) != 1 || s.Latches[0].Rule != "runaway" {
				t.Errorf("latches %+v", s.Latches)
			}
			if w.World().Count("reactor").Drains > 0 {
				t.Error("cleanup ran after a trip")
			}
			if list := outcomes(t, w); !has(list, "reactor confirmed") || !has(list, "pump_a confirmed") {
				t.Errorf("no finally in %v", list)
			}
			stillLatched(t, w)
		})
	}
}

// stillLatched: the next run waits for the reset of the latch, whatever has
// happened since, and its verdict says so; an agent can't reset it, an operator
// can.
func stillLatched(t *testing.T, w *twin.Twin) {
	t.Helper()
	set(t, w, "exotherm", 0)
	pass(t, w, 30*time.Second)
	before := w.World().Effects()
	next := accepted(t, w, gold("two"))
	if v := w.Verdicts("planner")[1]; !strings.Contains(v.Say, "; runaway is latched on ") {
		t.Error(v.Say)
	}
	pass(t, w, 2*time.Minute)
	if stop, over := w.Stopped(next); over {
		t.Errorf("in spite of the latch: %+v", stop)
	}
	w.Control("planner", messages.Control{ID: "cancel", Action: messages.ControlCancel, Run: next})
	if stop := ended(t, w, next, time.Minute); stop.ExitStatus != messages.ExitAbort {
		t.Errorf("%+v", stop)
	}
	after := w.World().Effects()
	if r := after["reactor"]; r.HeaterStarts != before["reactor"].HeaterStarts || r.StirrerStarts != before["reactor"].StirrerStarts || after["pump_a"] != before["pump_a"] {
		t.Errorf("something moved: %+v", after)
	}
	for _, by := range []string{"planner", "operator"} {
		w.Control(by, messages.Control{ID: by, Action: messages.ControlReset, Rule: "runaway", Reason: "it is cold again"})
		run(t, w, time.Second, func(w *twin.Twin) bool { _, ok := w.Reply(by); return ok })
		if r, _ := w.Reply(by); r.OK != (by == "operator") {
			t.Errorf("%s resets: %+v", by, r)
		}
	}
	// What is in the vessel is quenched, so there is no peak; but it is heated
	// and dosed again.
	id := accepted(t, w, gold("three"))
	if stop := ended(t, w, id, time.Minute); stop.Rule != "" || w.World().Count("pump_a").Doses != before["pump_a"].Doses+1 {
		t.Errorf("after the reset: %+v", stop)
	}
}

// A welded heater switch can't be switched off: both the run's own limit and
// the trip see it, the dose ends, the quench floods.
func TestHeaterStuck(t *testing.T) {
	w := makeTwin(t, 1, twin.Faults{})
	id := accepted(t, w, gold("one"))
	run(t, w, time.Minute, dosing)
	if err := w.World().Fault("reactor", "heater_stuck", true, nil); err != nil {
		t.Fatal(err)
	}
	stop := ended(t, w, id, time.Minute)
	if stop.ExitStatus == messages.ExitSuccess || w.World().Count("quench").Doses != 1 || len(w.Status().Latches) != 1 {
		t.Errorf("%+v, quench %+v", stop, w.World().Count("quench"))
	}
	if a := w.World().Count("pump_a"); a.Doses != 1 || a.DosesDone != 0 {
		t.Errorf("pump_a %+v", a)
	}
}

// A stop while both pumps run: a part was dispensed, and nothing restarts.
func TestStopWhileDosing(t *testing.T) {
	for _, instrument := range []string{"", "pump_a"} {
		t.Run("stop "+instrument, func(t *testing.T) {
			w := makeTwin(t, 1, twin.Faults{})
			id := accepted(t, w, gold("one"))
			run(t, w, time.Minute, dosing)
			pass(t, w, 300*time.Millisecond)
			asked := w.Now()
			w.Stop(instrument)
			run(t, w, time.Second, func(w *twin.Twin) bool { return !w.World().Pump("pump_a").Running() })
			if took := w.Now().Sub(asked); took > 50*time.Millisecond {
				t.Errorf("the stop took %s", took)
			}
			run(t, w, 5*time.Second, func(w *twin.Twin) bool { return len(w.Stops()) == 1 })
			if r := w.Stops()[0]; r.Instruments["pump_a"] != "confirmed" {
				t.Errorf("%+v", r)
			}
			stop := ended(t, w, id, time.Minute)
			if stop.ExitStatus != messages.ExitAbort {
				t.Errorf("%+v", stop)
			}
			a := w.World().Count("pump_a")
			if a.Doses != 1 || a.DosesDone != 0 || !(a.Dispensed > 0.02 && a.Dispensed < 0.13) {
				t.Errorf("pump_a %+v", a)
			}
			if list := outcomes(t, w); !has(list, "pump_a.dose partial") {
				t.Errorf("outcomes %v", list)
			}
			all := w.World().Effects()
			pass(t, w, time.Minute)
			for name, c := range w.World().Effects() {
				if name == "pump_a" && c != all[name] || c.Doses != all[name].Doses || c.HeaterStarts != all[name].HeaterStarts || c.Moves != all[name].Moves {
					t.Errorf("%s went on: %+v, then %+v", name, all[name], c)
				}
			}
		})
	}
}

// The same proposal delivered again is answered with the same verdict, and is
// one run; also when both deliveries come before the first is answered.
func TestDuplicateProposal(t *testing.T) {
	w := makeTwin(t, 1, twin.Faults{})
	w.Submit("planner", gold("one"))
	w.Submit("planner", gold("one"))
	run(t, w, time.Second, func(w *twin.Twin) bool { return len(w.Verdicts("planner")) > 0 })
	id := w.Verdicts("planner")[0].Run
	ended(t, w, id, time.Minute)
	w.Submit("planner", gold("one"))
	pass(t, w, time.Second)
	v := w.Verdicts("planner")
	if len(v) < 2 || v[len(v)-1].Run != id || len(w.Runs()) != 1 || w.World().Count("pump_a").Doses != 1 {
		t.Errorf("%d verdicts %+v, runs %+v", len(v), v, w.Runs())
	}
	w.Submit("planner", proposal("one", "gold-nanoparticles", "1.2.0", "temperature", "50 degC"))
	pass(t, w, time.Second)
	v = w.Verdicts("planner")
	if last := v[len(v)-1]; last.Decision != messages.RejectedDecision || last.Issues[0].Code != "key_reused" {
		t.Errorf("%+v", last)
	}
}

// Runs that need the same instruments wait for each other, oldest first, and
// nobody spins meanwhile.
func TestQueue(t *testing.T) {
	w := makeTwin(t, 1, twin.Faults{})
	one, two := accepted(t, w, gold("one")), accepted(t, w, gold("two"))
	three := accepted(t, w, proposal("films", "coat-films", "1.0.0", "films", 2, "speed", "10 mm/s"))
	for _, id := range []string{one, two, three} {
		if stop := ended(t, w, id, 2*time.Minute); stop.ExitStatus != messages.ExitSuccess {
			t.Errorf("%+v", stop)
		}
	}
	a, _ := w.Stopped(one)
	b, _ := w.Stopped(two)
	if b.Started.Before(a.Time) || w.World().Count("pump_a").DosesDone != 2 {
		t.Errorf("one until %s, two from %s; %+v", a.Time, b.Started, w.World().Count("pump_a"))
	}
}
