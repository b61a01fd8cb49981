package sim

import (
	"math"
	"time"

	"labgate/lab"
)

// The balance: a flask of 52.3 g that water is fed into.
const (
	emptyFlask   = 52.3    // g
	density      = 0.99705 // g/mL, water at 25 degC (Kell, J. Chem. Eng. Data 20 (1975) 97)
	weighingTime = 1.5     // s without change until it calls itself stable
	balanceNoise = 0.0002  // g
)

// flask stands on the balance.
type flask struct {
	volume  float64 // mL
	settled float64 // s since anything fell into it
}

func (f *flask) pour(volume float64, _ liquid) { f.volume, f.settled = f.volume+volume, 0 }

func (f *flask) take(float64) float64 { return 0 }

func (f *flask) quiet() bool { return f.settled >= weighingTime }

func (f *flask) advance() { f.settled += dt }

// Balance weighs the flask.
type Balance struct {
	w     *World
	flask *flask
	tare  float64 // g
	key   uint64
}

func newBalance(w *World, f *flask) *Balance {
	return &Balance{w: w, flask: f, key: source(w.seed, "balance.mass")}
}

func (b *Balance) reboot() { b.tare = 0 }

func (b *Balance) sensors() [][2]string { return [][2]string{{"pan", "mass"}, {"pan", "stable"}} }

func (b *Balance) raw(component, property string) lab.Value {
	switch component + "." + property {
	case "pan.mass":
		noise := balanceNoise
		if !b.flask.quiet() {
			noise *= 10
		}
		m := emptyFlask + density*b.flask.volume - b.tare + noise*b.w.noise(b.key)
		return number(math.Round(m*1e4)/1e4, unitGram) // four places
	case "pan.stable":
		return lab.BoolValue(b.flask.quiet())
	}
	return lab.Value{}
}

func (b *Balance) commands() []command {
	return []command{{"pan", "tare", nil}, {"pan", "weigh", nil}}
}

func (b *Balance) duration(_, name string, _ map[string]float64) time.Duration {
	if name != "weigh" {
		return 0
	}
	return time.Duration(math.Max(0.2, weighingTime-b.flask.settled) * float64(time.Second))
}

// do weighs what is there now: it is asked once the pan is stable.
func (b *Balance) do(_, name string, _ map[string]float64) (map[string]lab.Value, error) {
	dead, err := b.w.gate(name, "balance", "pan")
	switch {
	case err != nil:
		return nil, err
	case name == "tare":
		if !b.flask.quiet() {
			return nil, refused(name, "balance", ErrNotApplicable, "it is not stable")
		}
		if !dead {
			b.tare = emptyFlask + density*b.flask.volume
		}
		return nil, nil
	case !b.flask.quiet():
		return nil, refused(name, "balance", ErrNotApplicable, "it is not stable")
	}
	b.w.counts["balance"].Exposures++
	return map[string]lab.Value{"mass": b.w.sense("balance", "pan", "mass", b.raw("pan", "mass"))}, nil
}
