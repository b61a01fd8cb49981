package sim

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"labgate/lab"
)

type recipe struct{ temperature, ratio, volume, rate float64 }

// made is what one synthesis looked like from outside.
type made struct {
	hottest, fastest float64 // degC; K/s over 2 s; the worst of the three thermometers
	settle           float64 // s from switching on to half a second within 1 K
	peaks            []float64
	spread           float64 // K, between the thermometers at the same instant
}

// synthesise follows the library's protocol through class commands only.
func synthesise(t testing.TB, w *World, r recipe) made {
	t.Helper()
	var m made
	var past [3][]float64
	step := func(d time.Duration) {
		for end := w.Now().Add(d); w.Now().Before(end); {
			run(w, ms(20))
			lo, hi := math.Inf(1), math.Inf(-1)
			for i, c := range []string{"jacket", "probe", "wall"} {
				v := w.Reactor().Temperature(c)
				lo, hi = math.Min(lo, v), math.Max(hi, v)
				past[i] = append(past[i], v)
				if n := len(past[i]); n > 100 {
					m.fastest = math.Max(m.fastest, (v-past[i][n-101])/2)
				}
			}
			m.hottest, m.spread = math.Max(m.hottest, hi), math.Max(m.spread, hi-lo)
		}
	}
	must(t, w, "reactor", "stirrer", "stir", args("speed", "400 rpm"))
	step(ms(500))
	must(t, w, "reactor", "jacket", "heat", map[string]lab.Value{"target": quantity(r.temperature, "degC")})
	on := w.Now()
	for steady := 0; steady < 25; steady++ {
		step(ms(20))
		if math.Abs(read(t, w, "reactor", "jacket", "temperature").Num-r.temperature) >= 1 {
			steady = 0
		}
		if w.Now().Sub(on) > 30*time.Second {
			t.Fatalf("%+v: not steady after 30 s", r)
		}
	}
	m.settle = w.Now().Sub(on).Seconds()
	for pump, volume := range map[string]float64{"pump_a": r.volume, "pump_b": r.volume * r.ratio} {
		if err := dose(w, pump, volume, r.rate); err != nil {
			t.Fatal(err)
		}
	}
	for w.Pump("pump_a").Running() || w.Pump("pump_b").Running() {
		step(ms(20))
	}
	for range 12 {
		out, err := w.Do("spectrometer", "optics", "spectrum", nil)
		if err != nil && !errors.Is(err, ErrNoPeak) {
			t.Fatal(err)
		}
		m.peaks = append(m.peaks, out["peak"].Num)
		step(ms(500))
	}
	return m
}

func (m made) last() float64 { return m.peaks[len(m.peaks)-1] }

// The nominal range must stay clear of the demo lab's interlocks: 95 degC and
// 30 K/s over 2 s, and its vote of 5 K.
func TestNominalSynthesis(t *testing.T) {
	var hottest, fastest, slowest, spread float64
	for _, temperature := range []float64{40, 66, 92} {
		for _, ratio := range []float64{0.2, 1, 2} {
			for _, volume := range []float64{0.05, 0.2, 0.4} {
				for _, rate := range []float64{6, 20} {
					r := recipe{temperature, ratio, volume, rate}
					m := synthesise(t, NewDemo(uint64(100*ratio), start), r)
					if m.hottest > 94 || m.fastest > 25 || m.spread > 4 || m.settle > 4.5 {
						t.Errorf("%+v: %.2f degC, %.1f K/s, thermometers %.1f K apart, steady after %.1f s", r, m.hottest, m.fastest, m.spread, m.settle)
					}
					hottest, fastest = math.Max(hottest, m.hottest), math.Max(fastest, m.fastest)
					slowest, spread = math.Max(slowest, m.settle), math.Max(spread, m.spread)
				}
			}
		}
	}
	t.Logf("hottest %.2f degC, fastest %.2f K/s over 2 s, steady within %.2f s, thermometers at most %.2f K apart", hottest, fastest, slowest, spread)
}

func TestOvershoot(t *testing.T) {
	for _, target := range []float64{40, 60, 80, 92} {
		w := NewDemo(2, start)
		must(t, w, "reactor", "stirrer", "stir", args("speed", "400 rpm"))
		must(t, w, "reactor", "jacket", "heat", map[string]lab.Value{"target": quantity(target, "degC")})
		var top float64
		for range 1000 {
			run(w, Tick)
			top = math.Max(top, w.reactor.body)
		}
		if top > target+1 {
			t.Errorf("to %v degC: %.2f", target, top)
		}
		near(t, "the block, at last", w.reactor.body, target, 0.3)
	}
}

// The peak, as a protocol sees it: bluer with more citrate at every
// temperature, between 510 and 565 nm, steady when the reading ends, and the
// same again with another seed but for the noise.
func TestPeakMap(t *testing.T) {
	ratios := []float64{0.2, 0.35, 0.5, 0.75, 1, 1.5, 2}
	line := "peak, nm | citrate per gold, by volume:"
	for _, r := range ratios {
		line += fmt.Sprintf(" %6.2f", r)
	}
	t.Log(line)
	var lo, hi = math.Inf(1), 0.0
	for _, temperature := range []float64{40, 55, 70, 80, 92} {
		line, before := fmt.Sprintf("%36.0f degC", temperature), math.Inf(1)
		for _, ratio := range ratios {
			m := synthesise(t, NewDemo(1, start), recipe{temperature, ratio, 0.15, 10})
			line += fmt.Sprintf(" %6.1f", m.last())
			if m.last() > before+0.8 || m.last() == 0 {
				t.Errorf("%v degC, ratio %v: %.1f nm after %.1f", temperature, ratio, m.last(), before)
			}
			before = m.last()
			lo, hi = math.Min(lo, m.last()), math.Max(hi, m.last())
			if n := len(m.peaks); math.Abs(m.peaks[n-4]-m.last()) > 1.5 {
				t.Errorf("%v degC, ratio %v: not steady: %.1f", temperature, ratio, m.peaks)
			}
		}
		t.Log(line)
	}
	if lo < 512 || lo > 520 || hi < 550 || hi > 565 {
		t.Errorf("peaks from %.1f to %.1f nm", lo, hi)
	}
}

func TestPeakNoise(t *testing.T) {
	w := NewDemo(4, start)
	synthesise(t, w, recipe{70, 1, 0.15, 10})
	var n, sum, squares float64
	for range 200 {
		run(w, ms(150))
		p := must(t, w, "spectrometer", "optics", "spectrum", nil)["peak"].Num
		n, sum, squares = n+1, sum+p, squares+p*p
	}
	sd := math.Sqrt(squares/n - sum*sum/n/n)
	t.Logf("peak %.2f nm, noise %.2f nm", sum/n, sd)
	if sd < 0.05 || sd > 0.35 {
		t.Errorf("the peak's noise is %.3f nm", sd)
	}
}

func TestSpectrum(t *testing.T) {
	w := NewDemo(1, start)
	_, err := w.Do("spectrometer", "optics", "spectrum", nil)
	wantRefused(t, err, ErrNoPeak)
	if w.Count("spectrometer").Exposures != 1 {
		t.Error("an exposure without a peak is an exposure too")
	}
	_, err = w.Do("spectrometer", "optics", "spectrum", nil)
	wantRefused(t, err, ErrBusy)
	if read(t, w, "spectrometer", "optics", "ready").Bool {
		t.Error("ready while busy")
	}
	run(w, integrationTime)
	if err := dose(w, "pump_b", 0.3, 20); err != nil { // citrate alone
		t.Fatal(err)
	}
	run(w, 3*time.Second)
	_, err = w.Do("spectrometer", "optics", "spectrum", nil)
	wantRefused(t, err, ErrNoPeak)

	synthesise(t, w, recipe{60, 0.5, 0.1, 10})
	out := must(t, w, "spectrometer", "optics", "spectrum", nil)
	table := out["spectrum"].Table
	want := lab.Type{Kind: lab.Table, Columns: []lab.Column{{Name: "wavelength", Unit: lab.Q(0, "nm").Unit}, {Name: "absorbance"}}}
	if _, err := want.Conform(out["spectrum"]); err != nil {
		t.Error(err)
	}
	if len(table.Data[0]) != SpectrumPoints || table.Data[0][0] != 400 || table.Data[0][SpectrumPoints-1] != 800 {
		t.Errorf("%d points from %v to %v", len(table.Data[0]), table.Data[0][0], table.Data[0][SpectrumPoints-1])
	}
}

func TestQuenchStopsGrowth(t *testing.T) {
	grow := func(flood bool) float64 {
		w := NewDemo(1, start)
		must(t, w, "reactor", "stirrer", "stir", args("speed", "400 rpm"))
		must(t, w, "reactor", "jacket", "heat", args("target", "60 degC"))
		run(w, 4*time.Second)
		for _, p := range []string{"pump_a", "pump_b"} {
			if err := dose(w, p, 0.15, 20); err != nil {
				t.Fatal(err)
			}
		}
		run(w, ms(900))
		if flood {
			must(t, w, "reactor", "jacket", "heat_off", nil)
			must(t, w, "quench", "quench", "flood", nil)
			if !read(t, w, "quench", "quench", "flooding").Bool {
				t.Error("not flooding")
			}
		}
		before := w.reactor.body
		run(w, ms(500))
		if cooled := w.reactor.body < before-4; cooled != flood {
			t.Errorf("flood %v: from %.1f to %.1f degC", flood, before, w.reactor.body)
		}
		run(w, 5*time.Second)
		m := w.reactor.mixture
		return m.metal() / (m.metal() + m.gold + m.half + m.monomer)
	}
	if free, stopped := grow(false), grow(true); free < 0.95 || stopped > 0.6*free {
		t.Errorf("%.2f of the gold in particles without the quench, %.2f with it", free, stopped)
	}
}

func TestStirringMatters(t *testing.T) {
	grow := func(speed float64) float64 {
		w := NewDemo(1, start)
		if err := w.Set("reactor.temperature", 60); err != nil {
			t.Fatal(err)
		}
		w.reactor.speed, w.reactor.speedTarget = speed, speed
		for _, p := range []string{"pump_a", "pump_b"} {
			if err := dose(w, p, 0.15, 10); err != nil {
				t.Fatal(err)
			}
		}
		run(w, 2*time.Second)
		return w.reactor.mixture.metal()
	}
	if still, fast := grow(0), grow(400); still > fast/3 {
		t.Errorf("%.3f mmol/L of particles without stirring, %.3f with it", still, fast)
	}
}

func TestStirrer(t *testing.T) {
	w := NewDemo(1, start)
	must(t, w, "reactor", "stirrer", "stir", args("speed", "400 rpm"))
	run(w, ms(310))
	near(t, "speed after 0.3 s", w.Reactor().Speed(), 400, 20)
	must(t, w, "reactor", "stirrer", "stir", args("speed", "500 rpm"))
	must(t, w, "reactor", "stirrer", "stir_off", nil)
	run(w, ms(500))
	near(t, "speed at rest", w.Reactor().Speed(), 0, 5)
	for _, bad := range []string{"0 rpm", "-5 rpm", "1501 rpm"} {
		_, err := w.Do("reactor", "stirrer", "stir", args("speed", bad))
		wantRefused(t, err, ErrOutOfRange)
	}
	if c := w.Count("reactor").StirrerStarts; c != 1 {
		t.Errorf("%d starts", c)
	}
}

func TestThermostat(t *testing.T) {
	w := NewDemo(1, start)
	for _, bad := range []string{"4 degC", "121 degC", "300 K.s/s"} {
		if _, err := w.Do("reactor", "jacket", "heat", args("target", bad)); err == nil {
			t.Errorf("heats to %s", bad)
		}
	}
	must(t, w, "reactor", "jacket", "heat", args("target", "50 degC"))
	if !w.Reactor().Heating() || w.Reactor().Target() != 50 {
		t.Error("not heating to 50 degC")
	}
	run(w, 3*time.Second)
	must(t, w, "reactor", "jacket", "heat_off", nil)
	before := w.Count("reactor")
	run(w, 20*time.Second)
	if w.Reactor().Heating() || w.Count("reactor").HeaterEnergy != before.HeaterEnergy {
		t.Error("heats after heat_off")
	}
	near(t, "the probe, cold again", w.Reactor().Temperature("probe"), 25, 1)
	if before.HeaterStarts != 1 || before.Stops != 1 || before.HeaterOn < 2.9 || before.HeaterEnergy < 200 {
		t.Errorf("%+v", before)
	}
	if !math.IsNaN(w.Reactor().Temperature("stirrer")) {
		t.Error("a stirrer has no temperature")
	}
}

func TestVessel(t *testing.T) {
	w := NewDemo(1, start)
	if err := dose(w, "pump_a", 0.4, 20); err != nil {
		t.Fatal(err)
	}
	if err := dose(w, "pump_b", 0.3, 20); err != nil {
		t.Fatal(err)
	}
	run(w, 2*time.Second)
	near(t, "contents", w.Reactor().Contents(), VesselCapacity, 0.002)
	near(t, "overflow", w.Count("reactor").Overflow, 0.2, 1e-9)
	must(t, w, "reactor", "vessel", "drain", nil)
	run(w, ms(500))
	must(t, w, "reactor", "vessel", "shut", nil)
	run(w, time.Second)
	near(t, "contents after half a drain", w.reactor.contents, 0.25, 0.006)
	must(t, w, "reactor", "vessel", "drain", nil)
	must(t, w, "reactor", "vessel", "drain", nil) // open already
	run(w, time.Second)
	near(t, "contents after draining", w.Reactor().Contents(), 0, 0.005)
	if c := w.Count("reactor"); c.Drains != 2 || math.Abs(c.Drained-0.5) > 1e-9 || w.Reactor().Draining() {
		t.Errorf("%+v, draining %v", c, w.Reactor().Draining())
	}
	if w.reactor.mixture != (mixture{}) {
		t.Error("an empty vessel holds something")
	}
}

func TestReactorReboot(t *testing.T) {
	w := NewDemo(1, start)
	must(t, w, "reactor", "stirrer", "stir", args("speed", "400 rpm"))
	must(t, w, "reactor", "jacket", "heat", args("target", "50 degC"))
	run(w, 2*time.Second)
	hot := w.reactor.body
	w.Reboot("reactor")
	if w.Boot("reactor") != 2 || w.Boot("pump_a") != 1 || w.Boot("nobody") != 0 {
		t.Error("the boot counters are wrong")
	}
	if w.Reactor().Heating() || w.Reactor().Target() == 50 || w.reactor.body != hot {
		t.Error("a reboot ends heating, forgets the target and leaves the block warm")
	}
	run(w, time.Second)
	near(t, "the stirrer", w.Reactor().Speed(), 0, 5)
}
