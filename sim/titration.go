package sim

import (
	"math"
	"time"

	"labgate/lab"
)

// The beaker: acetic acid that a strong base neutralises.
//
//	[H+] + [Na+] = [OH−] + [A−],  [A−] = c·Ka/(Ka + [H+]),  [H+][OH−] = Kw
//
// Concentrations in mol/L, amounts in mmol, volumes in mL. What is poured in
// takes a moment to mix, and long where nothing stirs.
const (
	acidVolume  = 20.0    // mL
	acetic      = 1.75e-5 // Ka at 25 degC
	waterIons   = 1e-14   // Kw
	mixingTime  = 0.4     // s, stirred
	standing    = 60.0    // s, not stirred
	stirredFrom = 100.0   // rpm
	probeLag    = 1.2     // s, of the glass
	probeNoise  = 0.004   // pH
)

// Beaker is what stands on the hotplate.
type Beaker struct {
	plate      *Plate
	volume     float64
	acid       float64 // mmol
	base, near float64 // mmol of base that is mixed in, and that is still where it fell
	ph         float64 // of the mixed part, followed by the probe's glass
	glass      float64
}

func newBeaker(w *World) *Beaker {
	strength := 0.08 + 0.04*unit(mix(source(w.seed, "beaker.acid"))) // mol/L
	b := &Beaker{volume: acidVolume, acid: strength * acidVolume}
	b.ph = b.solve()
	b.glass = b.ph
	return b
}

// AcidStrength is what a titration is to find, in mol/L.
func (b *Beaker) AcidStrength() float64 { return b.acid / acidVolume }

func (b *Beaker) pour(volume float64, in liquid) {
	b.volume += volume
	b.near += volume * in.base / 1000
}

func (b *Beaker) take(float64) float64 { return 0 } // the needle hangs above it

func (b *Beaker) quiet() bool { return b.near == 0 && b.glass == b.ph }

// advance mixes, and lets the glass follow.
func (b *Beaker) advance() {
	if b.near > 0 {
		tau := standing
		if b.plate.speed >= stirredFrom {
			tau = mixingTime
		}
		moved := b.near * dt / tau
		if b.near < 1e-9 {
			moved = b.near
		}
		b.near, b.base = b.near-moved, b.base+moved
		b.ph = b.solve()
	}
	if b.glass += (b.ph - b.glass) * dt / probeLag; math.Abs(b.ph-b.glass) < 1e-5 {
		b.glass = b.ph
	}
}

// solve finds the pH at which the charges balance, by halving.
func (b *Beaker) solve() float64 {
	acid, sodium := b.acid/b.volume, b.base/b.volume
	low, high := 0.0, 14.0
	for range 40 {
		ph := (low + high) / 2
		h := math.Pow(10, -ph)
		if h+sodium > waterIons/h+acid*acetic/(acetic+h) {
			low = ph
		} else {
			high = ph
		}
	}
	return (low + high) / 2
}

// PH is the probe in the beaker.
type PH struct {
	w      *World
	beaker *Beaker
	offset float64 // of its calibration
	key    uint64
}

func newPH(w *World, b *Beaker) *PH {
	k := source(w.seed, "ph.ph")
	return &PH{w: w, beaker: b, offset: 0.04 * (unit(mix(k)) - 0.5), key: k}
}

func (p *PH) reboot() {}

func (p *PH) sensors() [][2]string { return [][2]string{{"probe", "ph"}} }

func (p *PH) raw(component, property string) lab.Value {
	if component == "probe" && property == "ph" {
		return number(math.Min(14, math.Max(0, p.beaker.glass+p.offset+probeNoise*p.w.noise(p.key))), lab.One)
	}
	return lab.Value{}
}

func (p *PH) commands() []command { return []command{{"probe", "measure", nil}} }

func (p *PH) duration(string, string, map[string]float64) time.Duration {
	return 100 * time.Millisecond
}

func (p *PH) do(_, name string, _ map[string]float64) (map[string]lab.Value, error) {
	dead, err := p.w.gate(name, "ph", "probe")
	if err != nil {
		return nil, err
	}
	if !dead {
		p.w.counts["ph"].Exposures++
	}
	return map[string]lab.Value{"ph": p.w.sense("ph", "probe", "ph", p.raw("probe", "ph"))}, nil
}
