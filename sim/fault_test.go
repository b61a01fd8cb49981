package sim

import (
	"math"
	"testing"
	"time"

	"labgate/lab"
)

func fail(t testing.TB, w *World, instrument, name string, args map[string]float64) {
	t.Helper()
	if err := w.Fault(instrument, name, true, args); err != nil {
		t.Fatal(err)
	}
}

func heal(t testing.TB, w *World, instrument, name string) {
	t.Helper()
	if err := w.Fault(instrument, name, false, nil); err != nil {
		t.Fatal(err)
	}
}

func TestEveryFaultSwitches(t *testing.T) {
	for in, names := range NewDemo(1, start).Faults() {
		for _, name := range names {
			w := NewDemo(1, start)
			fail(t, w, in, name, map[string]float64{"x": 1})
			a, on := w.FaultOn(in, name)
			if name == "reboot" {
				if on || w.Boot(in) != 2 {
					t.Errorf("%s: a reboot is once, not a state", in)
				}
				continue
			}
			if !on || a["x"] != 1 {
				t.Errorf("%s %s is not on", in, name)
			}
			heal(t, w, in, name)
			if _, on := w.FaultOn(in, name); on {
				t.Errorf("%s %s is still on", in, name)
			}
		}
	}
}

func TestUnknownFaults(t *testing.T) {
	w := NewDemo(1, start)
	for _, f := range [][2]string{{"nobody", "stuck"}, {"pump_a", "stucck"}, {"pump_a", ""}, {"pump_a", "stuck.jacket"}, {"pump_a", "stuck."},
		{"pump_a", "freeze.pump"}, {"pump_a", "heater_stuck"}, {"reactor", "stuck.jacket.speed"}} {
		if err := w.Fault(f[0], f[1], true, nil); lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("%v: %v", f, err)
		}
	}
	if err := w.Fault("pump_a", "delay", true, map[string]float64{"s": math.NaN()}); lab.KindOf(err) != lab.KindInvalid {
		t.Errorf("a NaN argument: %v", err)
	}
}

func TestSensorFaults(t *testing.T) {
	w := NewDemo(1, start)
	must(t, w, "reactor", "jacket", "heat", args("target", "70 degC"))
	run(w, ms(500))
	fail(t, w, "reactor", "stuck.probe", nil)
	fail(t, w, "reactor", "nan.wall.temperature", nil)
	stuck := w.Reactor().Temperature("probe")
	run(w, 5*time.Second)
	if got := w.Reactor().Temperature("probe"); got != stuck || read(t, w, "reactor", "probe", "temperature").Num != stuck {
		t.Errorf("stuck at %v, now %v", stuck, got)
	}
	if v := read(t, w, "reactor", "wall", "temperature"); !math.IsNaN(v.Num) || v.Usable() || v.Unit != lab.DegC {
		t.Errorf("the wall reads %v", v)
	}
	near(t, "the jacket, which is well", w.Reactor().Temperature("jacket"), 70, 1)
	heal(t, w, "reactor", "stuck.probe")
	near(t, "the probe, well again", w.Reactor().Temperature("probe"), 70, 5)

	fail(t, w, "room", "drift.room.oxygen", map[string]float64{"rate": -0.1})
	run(w, 10*time.Second)
	near(t, "drifting oxygen", w.Room().Oxygen(), 19.9, 0.1)
	near(t, "the airflow beside it", w.Room().Airflow(), 0.5, 0.03)
	fail(t, w, "pump_a", "stuck", nil)
	if err := dose(w, "pump_a", 0.4, 6); err != nil {
		t.Fatal(err)
	}
	run(w, time.Second)
	if got, _ := w.Pump("pump_a").Dispensed(); got != 0 || w.Pump("pump_a").Running() || w.Pump("pump_a").Status() != 'S' {
		t.Error("a stuck pump shows what it does")
	}
	near(t, "and does it", w.Count("pump_a").Dispensed, 0.1, 0.002)
}

// The controller believes its own sensor: a stuck one drives the heater, a
// broken one switches it off.
func TestControllerAndItsSensor(t *testing.T) {
	w := NewDemo(1, start)
	fail(t, w, "reactor", "stuck.jacket.temperature", nil)
	must(t, w, "reactor", "jacket", "heat", args("target", "60 degC"))
	run(w, 6*time.Second)
	if v := w.Reactor().Temperature("wall"); v < 95 {
		t.Errorf("%v degC", v)
	}
	w = NewDemo(1, start)
	must(t, w, "reactor", "jacket", "heat", args("target", "60 degC"))
	run(w, time.Second)
	fail(t, w, "reactor", "nan.jacket", nil)
	energy := w.Count("reactor").HeaterEnergy
	run(w, 5*time.Second)
	if w.Count("reactor").HeaterEnergy != energy {
		t.Error("a controller without a sensor heats")
	}
}

func TestRunaway(t *testing.T) {
	for _, name := range []string{"runaway", "exotherm"} {
		w := NewDemo(1, start)
		must(t, w, "reactor", "stirrer", "stir", args("speed", "400 rpm"))
		must(t, w, "reactor", "jacket", "heat", args("target", "60 degC"))
		run(w, 4*time.Second)
		fail(t, w, "reactor", name, nil)
		run(w, 3*time.Second)
		if v := w.Reactor().Temperature("probe"); v < 95 {
			t.Errorf("%s: %v degC", name, v)
		}
		must(t, w, "reactor", "jacket", "heat_off", nil)
		run(w, 30*time.Second)
		near(t, "after heat_off", w.Reactor().Temperature("probe"), 25, 1)
	}
}

func TestHeaterStuck(t *testing.T) {
	w := NewDemo(1, start)
	fail(t, w, "reactor", "heater_stuck", nil)
	before := w.Reactor().Temperature("wall")
	run(w, 2*time.Second)
	if rate := (w.Reactor().Temperature("wall") - before) / 2; rate < 30 {
		t.Errorf("%v K/s", rate)
	}
	must(t, w, "reactor", "jacket", "heat_off", nil)
	run(w, 3*time.Second)
	if v := w.Reactor().Temperature("wall"); v < 120 {
		t.Errorf("%v degC", v)
	}
	run(w, time.Hour)
	if w.reactor.body > hottest {
		t.Errorf("%v degC", w.reactor.body)
	}
	heal(t, w, "reactor", "heater_stuck")
	run(w, time.Minute)
	near(t, "after the repair", w.Reactor().Temperature("wall"), 25, 1)
}

func TestRefuse(t *testing.T) {
	w := NewDemo(1, start)
	for in, d := range w.devices {
		fail(t, w, in, "refuse", nil)
		for _, c := range d.commands() {
			_, err := w.Do(in, c.component, c.name, sensible(c))
			wantRefused(t, err, ErrRefused)
		}
		if w.Count(in) != (Count{}) {
			t.Errorf("%s: %+v", in, w.Count(in))
		}
	}
	heal(t, w, "reactor", "refuse")
	fail(t, w, "reactor", "refuse.stirrer", nil)
	_, err := w.Do("reactor", "stirrer", "stir", args("speed", "100 rpm"))
	wantRefused(t, err, ErrRefused)
	must(t, w, "reactor", "jacket", "heat", args("target", "40 degC"))
}

// sensible arguments for any command of the demo lab.
func sensible(c command) map[string]lab.Value {
	v := map[string]float64{"volume": 0.1, "rate": 6, "target": 60, "speed": 10, "films": 2, "x": 1, "y": 1, "z": 1, "exposure": 20}
	a := map[string]lab.Value{}
	for _, p := range c.args {
		if a[p.name] = number(v[p.name], p.unit); p.kind == lab.Integer {
			a[p.name] = lab.IntegerValue(int64(v[p.name]))
		}
	}
	return a
}

func TestActuatorDead(t *testing.T) {
	w := NewDemo(1, start)
	w.cell.enter(Idle)
	for in, d := range w.devices {
		fail(t, w, in, "actuator_dead", nil)
		for _, c := range d.commands() {
			_, err := w.Do(in, c.component, c.name, sensible(c))
			switch {
			case in == "spectrometer": // a dead lamp finds nothing
				wantRefused(t, err, ErrNoPeak)
			case c.name == "clear": // an idle cell does not take it
				wantRefused(t, err, ErrNotApplicable)
			case err != nil:
				t.Errorf("%s %s: %v", in, c.name, err)
			}
		}
	}
	run(w, 10*time.Second)
	for in, c := range w.Effects() {
		if c != (Count{}) {
			t.Errorf("%s: %+v", in, c)
		}
	}
	near(t, "the block", w.reactor.body, 25, 0)
	if w.Stage().Position(X) != 0 || w.Cell().State() != Idle {
		t.Error("something moved")
	}
}

// A stop that is acknowledged and does nothing.
func TestDeadStop(t *testing.T) {
	w := NewDemo(1, start)
	if err := dose(w, "pump_a", 0.4, 6); err != nil {
		t.Fatal(err)
	}
	fail(t, w, "pump_a", "actuator_dead", nil)
	must(t, w, "pump_a", "pump", "stop", nil)
	run(w, 10*time.Second)
	near(t, "dispensed in spite of the stop", w.Count("pump_a").Dispensed, 0.4, 1e-9)
}

func TestSlip(t *testing.T) {
	w := NewDemo(1, start)
	fail(t, w, "pump_a", "slip", map[string]float64{"fraction": 0.25})
	if err := dose(w, "pump_a", 0.4, 12); err != nil {
		t.Fatal(err)
	}
	run(w, 5*time.Second)
	said, _ := w.Pump("pump_a").Dispensed()
	near(t, "what it says", said, 0.4, 1e-9)
	near(t, "what it did", w.Count("pump_a").Dispensed, 0.1, 1e-9)
	near(t, "what arrived", w.reactor.contents, 0.1, 1e-9)
}

func TestFreeze(t *testing.T) {
	w := NewDemo(1, start)
	if err := dose(w, "pump_a", 0.4, 6); err != nil {
		t.Fatal(err)
	}
	fail(t, w, "pump_a", "freeze", nil)
	if !w.Frozen("pump_a") || w.Frozen("pump_b") {
		t.Error("the wrong one is frozen")
	}
	if _, err := w.Read("pump_a", "pump", "running"); lab.KindOf(err) != lab.KindUnavailable {
		t.Errorf("a read: %v", err)
	}
	if _, err := w.Do("pump_a", "pump", "stop", nil); lab.KindOf(err) != lab.KindUnavailable {
		t.Errorf("a stop: %v", err)
	}
	run(w, 10*time.Second)
	near(t, "its matter goes on", w.Count("pump_a").Dispensed, 0.4, 1e-9)
	heal(t, w, "pump_a", "freeze")
	must(t, w, "pump_a", "pump", "stop", nil)
}

func TestCellFaults(t *testing.T) {
	w := NewDemo(1, start)
	coat(t, w, 50, 10)
	run(w, 2*time.Second)
	fail(t, w, "cell", "starved", nil)
	run(w, time.Second)
	made := w.Cell().Made()
	if w.Cell().State() != Suspended {
		t.Errorf("starved, but %s", w.Cell().State())
	}
	run(w, 10*time.Second)
	if w.Cell().Made() != made {
		t.Error("coats without material")
	}
	heal(t, w, "cell", "starved")
	run(w, 2*time.Second)
	if w.Cell().State() != Execute || w.Cell().Made() == made {
		t.Errorf("fed again, but %s", w.Cell().State())
	}
	fail(t, w, "cell", "breakdown", map[string]float64{"scale": 1})
	run(w, 10*time.Second)
	if w.Cell().State() != Aborted {
		t.Errorf("broken down, but %s", w.Cell().State())
	}
	must(t, w, "cell", "line", "clear", nil)
	run(w, time.Second)
	heal(t, w, "cell", "breakdown")
	coat(t, w, 3, 10)
	waitComplete(t, w)
}
