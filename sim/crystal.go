package sim

import (
	"math"
	"time"

	"labgate/lab"
)

// The crystalliser's slurry: a solute that dissolves in the heat and comes out in
// the cold, with a metastable zone. Concentrations in mg/mL.
//
//	solubility   c*(T) = 8.0·exp(0.030·T)               T in degC
//	dissolution  dm/dt = −k_d·m^(2/3)·(c* − c)
//	nucleation   once S = c/c* passes a limit that the seed sets
//	growth       dm/dt = k_g·m^(2/3)·(c − c*)
//	light        transmission = 100 %·exp(−k·m)
//
// The constants are no measurement: they are of the size that paracetamol in
// water has.
const (
	soluteTotal  = 40.0  // mg/mL
	soluble0     = 8.0   // mg/mL at 0 degC
	solubleHeat  = 0.030 // 1/K
	dissolveRate = 0.004 // (mg/mL)^(-2/3)/s
	growthRate   = 0.0016
	nucleus      = 0.02 // mg/mL, what begins it
	turbidityPer = 0.35 // mL/mg
	slurryEvery  = 50   // ticks: it is slow
)

// slurry is what the crystalliser holds.
type slurry struct {
	plate   *Plate
	solid   float64 // mg/mL
	limit   float64 // supersaturation that it stands without crystals
	skipped int
}

func newSlurry(w *World, p *Plate) *slurry {
	s := &slurry{plate: p, limit: 1.3 + 0.3*unit(mix(source(w.seed, "slurry.limit")))}
	s.solid = soluteTotal - soluble(p.body) // it has stood for long
	return s
}

func soluble(celsius float64) float64 { return soluble0 * math.Exp(solubleHeat*celsius) }

func (s *slurry) quiet() bool {
	return s.plate.quiet() && math.Abs(soluteTotal-s.solid-soluble(s.plate.body)) < 1e-3
}

func (s *slurry) advance() {
	if s.skipped++; s.skipped < slurryEvery {
		return
	}
	s.skipped = 0
	c, most := soluteTotal-s.solid, soluble(s.plate.body)
	if s.solid == 0 && c/most >= s.limit {
		s.solid = nucleus
	}
	if s.solid == 0 {
		return
	}
	rate, surface := growthRate, math.Cbrt(s.solid*s.solid)
	if c < most {
		rate = dissolveRate
	}
	s.solid += rate * surface * (c - most) * dt * slurryEvery
	if s.solid < nucleus/10 {
		s.solid = 0
	}
	s.solid = math.Min(s.solid, soluteTotal)
}

// Turbidity is the probe in the crystalliser.
type Turbidity struct {
	w      *World
	slurry *slurry
	key    uint64
}

func newTurbidity(w *World, s *slurry) *Turbidity {
	return &Turbidity{w: w, slurry: s, key: source(w.seed, "turbidity.transmission")}
}

func (t *Turbidity) reboot() {}

func (t *Turbidity) sensors() [][2]string { return [][2]string{{"probe", "transmission"}} }

func (t *Turbidity) raw(component, property string) lab.Value {
	if component == "probe" && property == "transmission" {
		light := 100 * math.Exp(-turbidityPer*t.slurry.solid)
		return number(math.Min(100, math.Max(0, light+0.2*t.w.noise(t.key))), unitPercent)
	}
	return lab.Value{}
}

func (t *Turbidity) commands() []command { return []command{{"probe", "measure", nil}} }

func (t *Turbidity) duration(string, string, map[string]float64) time.Duration {
	return 200 * time.Millisecond
}

func (t *Turbidity) do(_, name string, _ map[string]float64) (map[string]lab.Value, error) {
	dead, err := t.w.gate(name, "turbidity", "probe")
	if err != nil {
		return nil, err
	}
	if !dead {
		t.w.counts["turbidity"].Exposures++
	}
	v := t.w.sense("turbidity", "probe", "transmission", t.raw("probe", "transmission"))
	return map[string]lab.Value{"transmission": v, "temperature": t.w.sense("crystalliser", "jacket", "temperature", t.slurry.plate.raw("jacket", "temperature"))}, nil
}
