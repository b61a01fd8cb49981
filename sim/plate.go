package sim

import (
	"fmt"
	"math"
	"time"

	"labgate/lab"
)

// plate is what a hotplate or a circulator's jacket is made of: a body that
// follows a setpoint with a first-order lag, and a stirrer. A hotplate only
// heats; what is switched off comes back to the room.
type plate struct {
	lag         float64 // s
	least, most float64 // degC, of setpoints
	ambient     bool    // it can't cool below the room
}

// Plate is a thermostat with a stirrer. Temperatures in degC, speeds in rpm.
type Plate struct {
	plate
	w     *World
	name  string
	count *Count

	body, target float64
	heating      bool
	speed, turns float64 // what it turns at, and what it was told
	key, turnKey uint64
}

func newPlate(w *World, name string, p plate) *Plate {
	return &Plate{plate: p, w: w, name: name, count: w.counts[name], body: w.ambient, target: 20,
		key: source(w.seed, name+".temperature"), turnKey: source(w.seed, name+".speed")}
}

func (p *Plate) quiet() bool {
	return !p.heating && math.Abs(p.body-p.w.ambient) < 1e-6 && p.speed == p.turns
}

// advance follows the setpoint, and the stirrer's motor its own.
func (p *Plate) advance() {
	goal := p.w.ambient
	if p.heating && !(p.ambient && p.target < p.w.ambient) {
		goal = p.target
	}
	if p.heating {
		p.count.HeaterOn += dt
	}
	p.body += (goal - p.body) * dt / p.lag
	if !p.heating && math.Abs(p.body-p.w.ambient) < 1e-6 {
		p.body = p.w.ambient
	}
	if p.speed += (p.turns - p.speed) * dt / stirrerLag; math.Abs(p.speed-p.turns) < 0.5 {
		p.speed = p.turns
	}
}

func (p *Plate) reboot() { p.heating, p.turns = false, 0 }

func (p *Plate) sensors() [][2]string {
	return [][2]string{{"jacket", "temperature"}, {"jacket", "setpoint"}, {"jacket", "heating"}, {"stirrer", "speed"}}
}

func (p *Plate) raw(component, property string) lab.Value {
	switch component + "." + property {
	case "jacket.temperature":
		return number(p.body+0.02*p.w.noise(p.key), unitDegC)
	case "jacket.setpoint":
		return number(p.target, unitDegC)
	case "jacket.heating":
		return lab.BoolValue(p.heating)
	case "stirrer.speed":
		if p.speed == 0 {
			return number(0, unitRPM)
		}
		return number(math.Max(0, p.speed+p.w.noise(p.turnKey)), unitRPM)
	}
	return lab.Value{}
}

func (p *Plate) commands() []command {
	return []command{
		{"jacket", "heat", []param{{"target", unitDegC, lab.Number}}}, {"jacket", "heat_off", nil},
		{"stirrer", "stir", []param{{"speed", unitRPM, lab.Number}}}, {"stirrer", "stir_off", nil},
	}
}

func (p *Plate) duration(string, string, map[string]float64) time.Duration { return 0 }

func (p *Plate) do(component, name string, args map[string]float64) (map[string]lab.Value, error) {
	dead, err := p.w.gate(name, p.name, component)
	if err != nil {
		return nil, err
	}
	t, v := args["target"], args["speed"]
	switch {
	case name == "heat" && !(t >= p.least && t <= p.most):
		return nil, refused(name, p.name, ErrOutOfRange, fmt.Sprintf("%v degC is outside %v to %v", t, p.least, p.most))
	case name == "stir" && !(v > 0 && v <= maxStirring):
		return nil, refused(name, p.name, ErrOutOfRange, fmt.Sprintf("%v rpm; above 0, at most %v", v, maxStirring))
	case dead:
		return nil, nil
	}
	switch name {
	case "heat":
		if !p.heating {
			p.count.HeaterStarts++
		}
		p.target, p.heating = t, true
	case "heat_off":
		if p.heating {
			p.count.Stops++
		}
		p.heating = false
	case "stir":
		if p.turns == 0 {
			p.count.StirrerStarts++
		}
		p.turns = v
	case "stir_off":
		p.turns = 0
	}
	return nil, nil
}
