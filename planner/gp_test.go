package planner

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// surfaces are made up: smooth, with different slopes, bends and interactions.
// None is taken from a simulator.
var surfaces = map[string]func(s setting) float64{
	"more citrate is bluer":   func(s setting) float64 { return 545 - 22*math.Log(s.ratio/0.2)/math.Log(10) },
	"heat matters too":        func(s setting) float64 { return 538 - 12*math.Log(s.ratio) - 0.15*(s.temperature-66) },
	"bent":                    func(s setting) float64 { return 524 + 18*math.Pow(math.Log(s.ratio), 2) - 0.1*(s.temperature-66) },
	"saturating":              func(s setting) float64 { return 518 + 40*math.Exp(-1.8*s.ratio) + 0.004*math.Pow(s.temperature-75, 2) },
	"crossed":                 func(s setting) float64 { return 530 + 9*(s.ratio-1)*(s.temperature-66)/26 - 5*(s.ratio-1) },
	"steep in one corner":     func(s setting) float64 { return 522 + 30/(1+math.Exp((s.temperature-55)/4+3*(s.ratio-0.7))) },
	"nearly flat, just above": func(s setting) float64 { return 529 - 1.5*s.ratio },
}

// search runs the optimiser on a surface and returns how far from the target
// the best measurement is.
func search(t *testing.T, f func(setting) float64, target float64, n int, seed uint64) (best float64, picks []setting) {
	t.Helper()
	o := newOptimiser(target, n, seed)
	best = math.Inf(1)
	for i := range n {
		c, err := o.next()
		if err != nil {
			t.Fatal(err)
		}
		if math.IsNaN(c.mean) || !(c.sd > 0) || c.hypothesis == "" {
			t.Fatalf("no prediction at %d: %+v", i, c)
		}
		scatter := float64(mix(seed*1000+uint64(i))>>40)/(1<<24) - 0.5 // within half a nm, repeatable
		peak := f(c.setting) + 0.6*scatter
		o.learn(c.setting, peak)
		best = min(best, math.Abs(peak-target))
		picks = append(picks, c.setting)
	}
	return best, picks
}

func TestFindsTheTarget(t *testing.T) {
	for name, f := range surfaces {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				if best, picks := search(t, f, 527, 12, seed); best > 0.7 {
					t.Fatalf("after 12 experiments the best is %.2f nm off: %v", best, picks)
				}
			})
		}
	}
}

// It must do better than exploring alone: otherwise the model is for nothing.
func TestImprovesOnExploring(t *testing.T) {
	const n = 7
	modelled, explored, rounds := 0.0, 0.0, 0
	for _, f := range surfaces {
		for seed := range uint64(3) {
			best, _ := search(t, f, 527, n, seed)
			modelled += best
			alone := math.Inf(1)
			for i := range n {
				at := wide.spread(seed, i)
				s := setting{wide.ratio.min * math.Pow(10, at[0]), wide.temperature.min + 52*at[1], volumeML}
				alone = min(alone, math.Abs(f(s)-527))
			}
			explored += alone
			rounds++
		}
	}
	t.Logf("mean distance after %d experiments: %.2f nm with the model, %.2f nm exploring", n, modelled/float64(rounds), explored/float64(rounds))
	if modelled > explored/2 {
		t.Fatalf("with the model %.2f nm, exploring alone %.2f nm", modelled/float64(rounds), explored/float64(rounds))
	}
}

func TestSameSeedSamePicks(t *testing.T) {
	f := surfaces["bent"]
	_, a := search(t, f, 527, 8, 3)
	_, b := search(t, f, 527, 8, 3)
	_, c := search(t, f, 527, 8, 4)
	if fmt.Sprint(a) != fmt.Sprint(b) {
		t.Fatalf("%v\n%v", a, b)
	}
	if fmt.Sprint(a) == fmt.Sprint(c) {
		t.Fatal("another seed explores the same places")
	}
}

func TestProposesOnlyWhatTheWiresCarry(t *testing.T) {
	seen := map[setting]bool{}
	for _, s := range wide.candidates() {
		uL, halfK := s.volume*s.ratio*1000, s.temperature*2
		if math.Abs(uL-math.Round(uL)) > 1e-9 || halfK != math.Round(halfK) {
			t.Fatalf("%+v is off the grid", s)
		}
		if s.ratio < 0.2 || s.ratio > 2 || s.temperature < 40 || s.temperature > 92 {
			t.Fatalf("%+v is out of bounds", s)
		}
		if seen[s] {
			t.Fatalf("%+v comes twice", s)
		}
		seen[s] = true
	}
	if len(seen) != 91*105 {
		t.Fatalf("%d candidates", len(seen))
	}
	sp := wide
	sp.tighten(inVolume, 0.15, 0.12)
	sp.tighten(inTemperature, 92, 85.2)
	sp.tighten(inRatio, 0.2, 0.33)
	for _, s := range sp.candidates() {
		if uL := s.volume * s.ratio * 1000; math.Abs(uL-math.Round(uL)) > 1e-6 || s.temperature > 85 || s.ratio < 0.34 {
			t.Fatalf("%+v does not keep to what was learnt", s)
		}
	}
}

func TestNothingLeftToTryIsAnError(t *testing.T) {
	o := newOptimiser(527, 3, 1)
	o.space.tighten(inTemperature, 40, 92)
	o.space.tighten(inRatio, 2, 0.2)
	if _, err := o.next(); err != nil {
		t.Fatal(err) // the one that is left
	}
	if c, err := o.next(); err == nil {
		t.Fatalf("proposed %+v again", c)
	}
}

// The closed form against a sum over the density.
func TestExpectedImprovement(t *testing.T) {
	for _, c := range []struct{ mean, sd, target, best float64 }{{527, 1, 527, 3}, {530, 2, 527, 1}, {520, 8, 527, 4}, {540, 0.5, 527, 2}, {527.2, 0.01, 527, 5}} {
		sum, width := 0.0, c.sd/2000
		for i := range 32000 {
			f := c.mean - 8*c.sd + (float64(i)+0.5)*width
			sum += max(0, c.best-math.Abs(f-c.target)) * pdf((f-c.mean)/c.sd) / c.sd * width
		}
		if got := expectedImprovement(c.mean, c.sd, c.target, c.best); math.Abs(got-sum) > 1e-6 {
			t.Errorf("%+v: %v, by summation %v", c, got, sum)
		}
	}
	if expectedImprovement(527, 1, 527, 0) != 0 || expectedImprovement(528, 0, 527, 3) != 2 {
		t.Error("the limits of no room and no doubt")
	}
}

func TestExpectedImprovementIsSane(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mean, sd := rapid.Float64Range(450, 650).Draw(t, "mean"), rapid.Float64Range(1e-6, 100).Draw(t, "sd")
		target, best := rapid.Float64Range(450, 650).Draw(t, "target"), rapid.Float64Range(0, 100).Draw(t, "best")
		if g := expectedImprovement(mean, sd, target, best); !(g >= 0 && g <= best+1e-9) {
			t.Fatalf("%v is not within 0 and %v", g, best)
		}
	})
}

func TestModelReturnsToItsData(t *testing.T) {
	pts := []point{{[2]float64{0.1, 0.1}, 540}, {[2]float64{0.5, 0.8}, 528}, {[2]float64{0.9, 0.3}, 519}}
	m, err := fit(pts)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pts {
		if mean, sd := m.predict(p.x); math.Abs(mean-p.y) > 1 || sd > m.h.noise*1.01 {
			t.Errorf("at %v: %.2f ± %.2f, measured %.2f", p.x, mean, sd, p.y)
		}
	}
	_, near := m.predict([2]float64{0.12, 0.1})
	_, far := m.predict([2]float64{0.1, 0.95})
	if near >= far {
		t.Errorf("no surer near (%.2f) than far (%.2f)", near, far)
	}
	prior, err := fit(nil)
	if err != nil {
		t.Fatal(err)
	}
	if mean, sd := prior.predict([2]float64{0.5, 0.5}); mean != priorPeak || sd < 10 {
		t.Errorf("without data %.1f ± %.1f", mean, sd)
	}
}

func TestRepeatedMeasurementsAndManyAreNoTrouble(t *testing.T) {
	var pts []point
	for i := range 200 {
		pts = append(pts, point{[2]float64{0.5, 0.5}, 527 + float64(i%3)})
	}
	kept := relevant(pts, 527)
	if len(kept) != maxPoints {
		t.Fatalf("%d kept", len(kept))
	}
	if _, err := fit(kept); err != nil {
		t.Fatal(err)
	}
}
