package sim

import (
	"math"
	"testing"
	"time"

	"labgate/lab"

	"pgregory.net/rapid"
)

func TestDoseIsExact(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := NewDemo(1, start.Add(time.Duration(rapid.Int64Range(0, 1e9).Draw(r, "phase"))))
		var asked float64
		n := rapid.IntRange(1, 8).Draw(r, "doses")
		for i := range n {
			volume := rapid.Float64Range(1e-6, 0.5).Draw(r, "volume")
			rate := rapid.Float64Range(0.5, 20).Draw(r, "rate")
			asked += volume
			if err := dose(w, "pump_a", volume, rate); err != nil {
				r.Fatal(err)
			}
			seconds := volume / rate * 60
			if seconds > 0.05 { // it takes as long as it should
				run(w, time.Duration((seconds-0.03)*1e9))
				if !w.Pump("pump_a").Running() {
					r.Fatalf("%v mL at %v mL/min done too early", volume, rate)
				}
			}
			run(w, ms(60))
			if w.Pump("pump_a").Running() || w.Count("pump_a").DosesDone != i+1 {
				r.Fatalf("%v mL at %v mL/min not done in time", volume, rate)
			}
		}
		got, _ := w.Pump("pump_a").Dispensed()
		c := w.Count("pump_a")
		if math.Abs(got-asked) > 1e-9 || math.Abs(c.Dispensed-asked) > 1e-9 || c.Doses != n || c.Stops != 0 {
			r.Fatalf("asked %v mL, reported %v, really %+v", asked, got, c)
		}
	})
}

func TestStopLeavesAPart(t *testing.T) {
	w := NewDemo(1, start)
	if err := dose(w, "pump_a", 0.4, 6); err != nil {
		t.Fatal(err)
	}
	run(w, time.Second)
	near(t, "the rate", read(t, w, "pump_a", "pump", "rate").Num, 6, 0)
	must(t, w, "pump_a", "pump", "stop", nil)
	at, _ := w.Pump("pump_a").Dispensed()
	near(t, "after 1 s", at, 0.1, 0.002)
	run(w, 10*time.Second)
	after, _ := w.Pump("pump_a").Dispensed()
	if after != at || w.Pump("pump_a").Running() || w.Count("pump_a").Dispensed != at {
		t.Errorf("from %v to %v mL after the stop", at, after)
	}
	if c := w.Count("pump_a"); c.Doses != 1 || c.DosesDone != 0 || c.Stops != 1 {
		t.Errorf("%+v", c)
	}
	near(t, "the rate at rest", read(t, w, "pump_a", "pump", "rate").Num, 0, 0)
	must(t, w, "pump_a", "pump", "stop", nil) // a stop at rest is acknowledged
	if c := w.Count("pump_a"); c.Stops != 1 {
		t.Errorf("%d stops", c.Stops)
	}
}

// A pause on this pump is resumed by RUN with what was left: a stop alone does
// not forget the phase. A new dose does.
func TestPauseAndResume(t *testing.T) {
	w := NewDemo(1, start)
	p := w.Pump("pump_a")
	if err := dose(w, "pump_a", 0.2, 6); err != nil {
		t.Fatal(err)
	}
	run(w, time.Second)
	for i, want := range []byte{'I', 'P'} {
		if p.Status() != want {
			t.Errorf("%d: status %c, want %c", i, p.Status(), want)
		}
		if err := p.Stop(); i == 0 && err != nil {
			t.Fatal(err)
		}
	}
	if p.Status() != 'S' { // the second stop ended it
		t.Errorf("status %c", p.Status())
	}
	if err := p.Run(); err != nil {
		t.Fatal(err)
	}
	run(w, 5*time.Second)
	near(t, "a part, and the whole again", w.Count("pump_a").Dispensed, 0.3, 0.002)

	if err := dose(w, "pump_a", 0.2, 6); err != nil {
		t.Fatal(err)
	}
	run(w, time.Second)
	for _, f := range []func() error{p.Stop, p.Run} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	run(w, 5*time.Second)
	near(t, "resumed to the end", w.Count("pump_a").Dispensed, 0.5, 0.002)

	if err := dose(w, "pump_a", 0.2, 6); err != nil {
		t.Fatal(err)
	}
	run(w, time.Second)
	must(t, w, "pump_a", "pump", "stop", nil)
	part := w.Count("pump_a").Dispensed
	if err := dose(w, "pump_a", 0.2, 6); err != nil {
		t.Fatal(err)
	}
	run(w, 5*time.Second)
	near(t, "a whole dose after a part", w.Count("pump_a").Dispensed, part+0.2, 1e-9)
}

func TestPumpRefuses(t *testing.T) {
	w := NewDemo(1, start)
	p := w.Pump("pump_b")
	wantRefused(t, p.Run(), ErrOutOfRange) // no rate
	for what, f := range map[string]func() error{
		"a rate beyond the plunger":  func() error { return dose(w, "pump_b", 0.1, 20.5) },
		"a negative rate":            func() error { return dose(w, "pump_b", 0.1, -1) },
		"no rate":                    func() error { return dose(w, "pump_b", 0.1, 0) },
		"no volume":                  func() error { return dose(w, "pump_b", 0, 1) },
		"a negative volume":          func() error { return dose(w, "pump_b", -1, 1) },
		"a volume of five digits":    func() error { return p.SetVolume(10000) },
		"a volume that is no number": func() error { return p.SetVolume(math.NaN()) },
		"a rate that is no number":   func() error { return p.SetRate(math.NaN()) },
		"a syringe like a bucket":    func() error { return p.SetDiameter(51) },
	} {
		t.Run(what, func(t *testing.T) { wantRefused(t, f(), ErrOutOfRange) })
	}
	if c := w.Count("pump_b"); c != (Count{}) {
		t.Errorf("refused, but %+v", c)
	}
	if err := dose(w, "pump_b", 0.4, 6); err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string]func() error{
		"dose":      func() error { return dose(w, "pump_b", 0.1, 6) },
		"run":       p.Run,
		"volume":    func() error { return p.SetVolume(1) },
		"diameter":  func() error { return p.SetDiameter(10) },
		"direction": func() error { return p.SetDirection(false) },
		"clear":     func() error { return p.ClearDispensed(true) },
	} {
		t.Run(what+" while running", func(t *testing.T) { wantRefused(t, f(), ErrNotApplicable) })
	}
	run(w, 10*time.Second)
	near(t, "the one dose", w.Count("pump_b").Dispensed, 0.4, 1e-9)
	if err := p.SetDiameter(5); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, p.Run(), ErrOutOfRange) // 6 mL/min is too fast for it now
}

func TestPumpWire(t *testing.T) {
	w := NewDemo(1, start)
	p := w.Pump("pump_a")
	for _, f := range []func() error{
		func() error { return p.SetDiameter(14.43) },
		func() error { return p.SetDirection(true) },
		func() error { return p.SetRate(12) },
		func() error { return p.SetVolume(0) }, // without end
		p.Run,
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	near(t, "the highest rate", p.MaxRate(), 20.44, 0.01)
	run(w, 5*time.Second)
	near(t, "without end", w.Count("pump_a").Dispensed, 1, 0.003)
	if err := p.SetRate(6); err != nil { // this it takes while running
		t.Fatal(err)
	}
	run(w, 5*time.Second)
	near(t, "and slower", w.Count("pump_a").Dispensed, 1.5, 0.005)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, f := range []func() error{
		func() error { return p.ClearDispensed(true) },
		func() error { return p.SetDirection(false) },
		func() error { return p.SetVolume(0.1) },
		p.Run,
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	if p.Status() != 'W' || p.Infusing() || p.RateSet() != 6 || p.VolumeSet() != 0.1 || p.Diameter() != 14.43 {
		t.Errorf("status %c", p.Status())
	}
	run(w, 5*time.Second)
	in, out := p.Dispensed()
	near(t, "infused since the clear", in, 0, 0)
	near(t, "withdrawn", out, 0.1, 1e-9)
	near(t, "really withdrawn", w.Count("pump_a").Withdrawn, 0.1, 1e-9)
	if err := p.ClearDispensed(false); err != nil {
		t.Fatal(err)
	}
	if _, out = p.Dispensed(); out != 0 {
		t.Errorf("withdrawn %v after the clear", out)
	}
}

func TestPumpReboot(t *testing.T) {
	w := NewDemo(1, start)
	if err := dose(w, "pump_a", 0.4, 6); err != nil {
		t.Fatal(err)
	}
	run(w, time.Second)
	w.Reboot("pump_a")
	run(w, 10*time.Second)
	near(t, "nothing restarts", w.Count("pump_a").Dispensed, 0.1, 0.002)
	if !w.Pump("pump_a").Alarm() {
		t.Error("no alarm")
	}
	_, err := w.Read("pump_a", "pump", "dispensed")
	wantRefused(t, err, ErrReset)
	if v := read(t, w, "pump_a", "pump", "dispensed"); v.Num != 0 {
		t.Errorf("the counter is %v", v)
	}
	w.Reboot("pump_a")
	wantRefused(t, dose(w, "pump_a", 0.1, 6), ErrReset)
	if err := dose(w, "pump_a", 0.1, 6); err != nil {
		t.Fatal(err)
	}
	w.Reboot("pump_a")
	must(t, w, "pump_a", "pump", "stop", nil) // a stop is never put off by an alarm
	if c := w.Count("pump_a"); c.Doses != 2 {
		t.Errorf("%+v", c)
	}
}

func TestQuenchPump(t *testing.T) {
	w := NewDemo(1, start)
	must(t, w, "quench", "quench", "flood", nil)
	_, err := w.Do("quench", "quench", "flood", nil)
	wantRefused(t, err, ErrNotApplicable)
	run(w, time.Second)
	near(t, "the flood", w.Count("quench").Dispensed, FloodVolume, 1e-9)
	if err := dose(w, "quench", 0.05, 6); err != nil {
		t.Fatal(err)
	}
	run(w, time.Second)
	near(t, "and a dose", w.Count("quench").Dispensed, FloodVolume+0.05, 1e-9)
	if w.Pump("reactor") != nil || w.Pump("nobody") != nil {
		t.Error("that is no pump")
	}
	if _, err := w.Do("pump_a", "quench", "flood", nil); lab.KindOf(err) != lab.KindInvalid {
		t.Errorf("pump_a floods: %v", err)
	}
}
