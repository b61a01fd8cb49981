package sim

import (
	"math"
	"testing"
	"time"

	"labgate/lab"
)

// bench is a wet bench whose commands have to work.
type bench struct {
	*testing.T
	*World
}

func wet(t *testing.T, seed uint64) *bench {
	return &bench{t, NewWet(seed, time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC))}
}

func (b *bench) do(instrument, component, name string, args map[string]lab.Value) map[string]lab.Value {
	b.Helper()
	r, err := b.Do(instrument, component, name, args)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func (b *bench) pass(d time.Duration) { b.Step(b.Now().Add(d)) }

func (b *bench) read(instrument, component, property string) float64 {
	b.Helper()
	v, err := b.Read(instrument, component, property)
	if err != nil {
		b.Fatal(err)
	}
	return v.Num
}

// A weak acid that is half neutralised has the pH of its pKa; at equivalence it
// is the base's.
func TestTitration(t *testing.T) {
	for seed := range uint64(5) {
		b := wet(t, seed)
		beaker := b.devices["ph"].(*PH).beaker
		b.do("hotplate", "stirrer", "stir", map[string]lab.Value{"speed": quantity(400, "rpm")})
		if ph := b.read("ph", "probe", "ph"); math.Abs(ph-2.88) > 0.12 {
			t.Errorf("seed %d: it begins at pH %v", seed, ph)
		}
		half := beaker.AcidStrength() * acidVolume / 0.1 / 2
		for i, want := range []float64{-math.Log10(acetic), 8.73} {
			b.do("burette", "pump", "dose", map[string]lab.Value{"volume": quantity(half, "mL"), "rate": quantity(20, "mL/min")})
			b.pass(2 * time.Minute)
			if got := b.read("ph", "probe", "ph"); math.Abs(got-want) > 0.1 {
				t.Errorf("seed %d, half %d: pH %.3f, want %.2f", seed, i+1, got, want)
			}
		}
	}
}

// What nothing stirs is not read for long.
func TestTitrationUnstirred(t *testing.T) {
	b := wet(t, 1)
	before := b.read("ph", "probe", "ph")
	b.do("burette", "pump", "dose", map[string]lab.Value{"volume": quantity(5, "mL"), "rate": quantity(20, "mL/min")})
	b.pass(12 * time.Second)
	still := b.read("ph", "probe", "ph")
	b.do("hotplate", "stirrer", "stir", map[string]lab.Value{"speed": quantity(400, "rpm")})
	b.pass(10 * time.Second)
	if mixed := b.read("ph", "probe", "ph"); mixed-still < 0.3 || still-before > 1 {
		t.Errorf("pH %v, unstirred %v, stirred %v", before, still, mixed)
	}
}

// The balance weighs what really fell, not what the pump counts.
func TestWeighing(t *testing.T) {
	for seed := range uint64(5) {
		b := wet(t, seed)
		b.pass(2 * time.Second)
		b.do("balance", "pan", "tare", nil)
		b.do("feeder", "pump", "dose", map[string]lab.Value{"volume": quantity(5, "mL"), "rate": quantity(20, "mL/min")})
		b.pass(time.Second)
		if _, err := b.Do("balance", "pan", "weigh", nil); err == nil {
			t.Error("it weighed what was still falling")
		}
		b.pass(20 * time.Second)
		mass := b.do("balance", "pan", "weigh", nil)["mass"].Num
		real := b.Count("feeder").Dispensed
		if math.Abs(mass-real*density) > 0.002 || math.Abs(real/5-1) > 0.02 || real == 5 {
			t.Errorf("seed %d: %v g, %v mL", seed, mass, real)
		}
	}
}

// Crystals dissolve in the heat, come late in the cold, and all that is not
// soluble is out in the end.
func TestCrystals(t *testing.T) {
	b := wet(t, 3)
	light := func() float64 { return b.read("turbidity", "probe", "transmission") }
	if l := light(); l > 1 {
		t.Errorf("it begins with %v %% of the light", l)
	}
	heat := func(target float64) {
		b.do("crystalliser", "jacket", "heat", map[string]lab.Value{"target": quantity(target, "degC")})
	}
	heat(70)
	b.pass(20 * time.Minute)
	if l := light(); l < 98 {
		t.Errorf("hot, %v %% of the light", l)
	}
	saturated, cloud := math.Log(soluteTotal/soluble0)/solubleHeat, 0.0
	for target := 70.0; target > 10 && cloud == 0; target -= 0.5 {
		heat(target)
		b.pass(time.Minute)
		if light() < 80 {
			cloud = target
		}
	}
	if cloud > saturated-5 || cloud < saturated-25 {
		t.Errorf("saturated at %.1f degC, cloudy at %v degC", saturated, cloud)
	}
	b.pass(3 * time.Hour)
	s := b.devices["turbidity"].(*Turbidity).slurry
	if left := soluteTotal - s.solid; math.Abs(left-soluble(s.plate.body)) > 0.5 {
		t.Errorf("%v mg/mL dissolved, %v can be", left, soluble(s.plate.body))
	}
}

// The same seed gives the same bench, in steps of any size.
func TestWetIsDeterministic(t *testing.T) {
	end := 90 * time.Second
	play := func(step time.Duration) []float64 {
		b := wet(t, 7)
		b.do("hotplate", "stirrer", "stir", map[string]lab.Value{"speed": quantity(300, "rpm")})
		b.do("crystalliser", "jacket", "heat", map[string]lab.Value{"target": quantity(60, "degC")})
		b.do("burette", "pump", "dose", map[string]lab.Value{"volume": quantity(3, "mL"), "rate": quantity(6, "mL/min")})
		for at := time.Duration(0); at < end; at += step {
			b.pass(step)
		}
		return []float64{b.read("ph", "probe", "ph"), b.read("crystalliser", "jacket", "temperature"), b.read("turbidity", "probe", "transmission"), b.read("balance", "pan", "mass")}
	}
	want := play(end)
	for _, step := range []time.Duration{10 * time.Millisecond, 250 * time.Millisecond, 3 * time.Second} {
		for i, got := range play(step) {
			if got != want[i] {
				t.Errorf("in steps of %s: %v, want %v", step, got, want[i])
			}
		}
	}
}

// Every instrument refuses what it can't do, and acts out what is broken.
func TestWetFaults(t *testing.T) {
	b := wet(t, 1)
	if _, err := b.Do("crystalliser", "jacket", "heat", map[string]lab.Value{"target": quantity(120, "degC")}); lab.KindOf(err) != lab.KindDeviceRefused {
		t.Error(err)
	}
	if err := b.Fault("ph", "nan", true, nil); err != nil {
		t.Fatal(err)
	}
	if v := b.read("ph", "probe", "ph"); !math.IsNaN(v) {
		t.Errorf("pH %v", v)
	}
	if v := b.do("ph", "probe", "measure", nil)["ph"].Num; !math.IsNaN(v) {
		t.Errorf("measured pH %v", v)
	}
	if err := b.Fault("crystalliser", "actuator_dead", true, nil); err != nil {
		t.Fatal(err)
	}
	b.do("crystalliser", "jacket", "heat", map[string]lab.Value{"target": quantity(60, "degC")})
	b.pass(time.Minute)
	if v := b.read("crystalliser", "jacket", "temperature"); math.Abs(v-25) > 0.2 {
		t.Errorf("%v degC", v)
	}
	if err := b.Set("room.airflow", 1); err == nil {
		t.Error("the bench has no hood to set")
	}
	if w, err := For([]string{"burette", "stage"}, 1, time.Time{}); err == nil {
		t.Errorf("%v", w.Instruments())
	}
}
