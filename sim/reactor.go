package sim

import (
	"fmt"
	"math"
	"time"

	"labgate/lab"
)

// The microreactor: a small heated block around 0.5 mL of liquid.
//
//	C·dT/dt = P·u − U·A·(T − T_ambient) + exotherm,  C = block + liquid
const (
	VesselCapacity  = 0.5   // mL; what comes in beyond it runs over to waste
	roomTemperature = 25.0  // degC, of reagents
	blockCapacity   = 8.0   // J/K
	waterCapacity   = 4.18  // J/(mL K)
	heatLoss        = 2.5   // W/K; cools with about 3.2 s
	heaterPower     = 500.0 // W, most
	drainRate       = 0.5   // mL/s, so a full vessel takes 1 s

	// The block's own controller: a setpoint ramp with a soft landing, the
	// power the ramp needs fed forward, and a proportional-integral term.
	rampRate    = 22.0 // K/s, most
	rampLanding = 5.0  // 1/s, how the ramp slows towards its end
	gain        = 90.0 // W/K
	integral    = 0.8  // s
	maxTarget   = 120.0
	minTarget   = 5.0

	stirrerLag     = 0.08 // s
	maxStirring    = 1500.0
	runawayPower   = 700.0 // W
	hottest        = 250.0 // degC: beyond it everything that could burn has
	settledWithinK = 1e-7
)

// liquid is what a pump holds: concentrations in mmol/L (of the reactor's, and of
// strong base), quench as a volume fraction, temperature in degC.
type liquid struct{ gold, citrate, quench, base, temperature float64 }

// thermometer is one sensor: a first-order lag, an offset and noise.
type thermometer struct {
	component           string
	lag, offset, spread float64 // s, K, K
	value               float64 // degC, lagged, without offset and noise
	key                 uint64
}

// Reactor is the flow synthesizer: thermostat, stirrer, two more thermometers
// and the vessel. Temperatures in degC, speeds in rpm, volumes in mL.
type Reactor struct {
	w     *World
	count *Count

	body, exotherm float64
	target, ramp   float64 // degC; the ramp is where the controller wants the block now
	heating        bool
	sum            float64 // K·s, the controller's integral
	thermometers   [3]thermometer

	speed, speedTarget float64
	speedKey, levelKey uint64

	contents float64
	open     bool
	mixture
}

func newReactor(w *World) *Reactor {
	r := &Reactor{
		w: w, count: w.counts["reactor"], body: w.ambient, target: 20,
		speedKey: source(w.seed, "reactor.stirrer.speed"), levelKey: source(w.seed, "reactor.vessel.contents"),
	}
	for i, s := range []thermometer{
		{component: "jacket", lag: 0.05}, {component: "probe", lag: 0.12}, {component: "wall", lag: 0.08},
	} {
		s.key = source(w.seed, "reactor."+s.component+".temperature")
		s.offset = 0.5*unit(mix(s.key)) - 0.25 // within 0.25 K, fixed for a seed
		s.spread, s.value = 0.05, w.ambient
		r.thermometers[i] = s
	}
	r.thermometers[0].offset /= 5 // the controller's own is the best one
	return r
}

// setBody puts the block and its sensors at a temperature, as if it had always
// been there.
func (r *Reactor) setBody(t float64) {
	r.body, r.ramp, r.sum = t, t, 0
	for i := range r.thermometers {
		r.thermometers[i].value = t
	}
}

// Target is the thermostat's setpoint, in degC.
func (r *Reactor) Target() float64 { return r.w.reading(r, "reactor", "jacket", "setpoint") }

// Heating reports whether the thermostat is switched on.
func (r *Reactor) Heating() bool { return r.w.flag(r, "reactor", "jacket", "heating") }

// Temperature is what the sensor of jacket, probe or wall reports, in degC;
// NaN for any other component.
func (r *Reactor) Temperature(component string) float64 {
	if v := r.raw(component, "temperature"); v.Kind == lab.Missing {
		return math.NaN()
	}
	return r.w.reading(r, "reactor", component, "temperature")
}

// Speed is the stirrer's, in rpm, as the device reports it.
func (r *Reactor) Speed() float64 { return r.w.reading(r, "reactor", "stirrer", "speed") }

// SpeedTarget is what the stirrer was told, in rpm; 0 at rest.
func (r *Reactor) SpeedTarget() float64 { return r.speedTarget }

// Contents is the vessel's, in mL, as the device reports it.
func (r *Reactor) Contents() float64 { return r.w.reading(r, "reactor", "vessel", "contents") }

// Draining reports whether the outlet is open.
func (r *Reactor) Draining() bool { return r.open }

// Heat sets the target and switches the thermostat on.
func (r *Reactor) Heat(target float64) error {
	dead, err := r.w.gate("heat", "reactor", "jacket")
	switch {
	case err != nil:
		return err
	case !(target >= minTarget && target <= maxTarget):
		return refused("heat", "reactor", ErrOutOfRange, fmt.Sprintf("%v degC is outside %v to %v", target, minTarget, maxTarget))
	case dead:
		return nil
	}
	if !r.heating {
		r.count.HeaterStarts++
		r.ramp, r.sum = r.controlled(), 0
		if math.IsNaN(r.ramp) {
			r.ramp = r.body
		}
	}
	r.target, r.heating = target, true
	return nil
}

// HeatOff switches the thermostat off; the target stays.
func (r *Reactor) HeatOff() error {
	dead, err := r.w.gate("heat_off", "reactor", "jacket")
	if err != nil || dead {
		return err
	}
	if r.heating {
		r.count.Stops++
	}
	r.heating = false
	return nil
}

// Stir turns the stirrer at a speed in rpm.
func (r *Reactor) Stir(speed float64) error {
	dead, err := r.w.gate("stir", "reactor", "stirrer")
	switch {
	case err != nil:
		return err
	case !(speed > 0 && speed <= maxStirring):
		return refused("stir", "reactor", ErrOutOfRange, fmt.Sprintf("%v rpm; above 0, at most %v", speed, maxStirring))
	case dead:
		return nil
	}
	if r.speedTarget == 0 {
		r.count.StirrerStarts++
	}
	r.speedTarget = speed
	return nil
}

// StirOff lets the stirrer come to rest.
func (r *Reactor) StirOff() error {
	dead, err := r.w.gate("stir_off", "reactor", "stirrer")
	if err != nil || dead {
		return err
	}
	r.speedTarget = 0
	return nil
}

// Drain opens the outlet until the vessel is empty. An open one stays open.
func (r *Reactor) Drain() error {
	dead, err := r.w.gate("drain", "reactor", "vessel")
	if err != nil || dead || r.open {
		return err
	}
	r.open = true
	r.count.Drains++
	return nil
}

// Shut closes the outlet.
func (r *Reactor) Shut() error {
	dead, err := r.w.gate("shut", "reactor", "vessel")
	if err == nil && !dead {
		r.open = false
	}
	return err
}

// pour lets liquid in; what does not fit runs over, mixed.
func (r *Reactor) pour(dv float64, in liquid) {
	if dv <= 0 {
		return
	}
	r.count.Received += dv
	heat := blockCapacity + waterCapacity*r.contents
	r.body = (heat*r.body + waterCapacity*dv*in.temperature) / (heat + waterCapacity*dv)
	r.mixture.add(r.contents, dv, in)
	r.contents += dv
	if over := r.contents - VesselCapacity; over > 0 {
		r.count.Overflow += over
		r.contents = VesselCapacity
	}
}

// take sucks liquid out and returns how much there was to take.
func (r *Reactor) take(dv float64) float64 {
	dv = math.Max(0, math.Min(dv, r.contents))
	r.contents -= dv
	if r.contents == 0 {
		r.mixture = mixture{}
	}
	return dv
}

// quiet reports whether a tick would change nothing at all.
func (r *Reactor) quiet() bool {
	return !r.heating && !r.open && r.exotherm == 0 && r.speed == r.speedTarget &&
		(r.contents == 0 || r.mixture.settled) && r.atRest() && !r.stuckHeater()
}

// atRest reports whether block and sensors are at room temperature.
func (r *Reactor) atRest() bool {
	for i := range r.thermometers {
		if r.thermometers[i].value != r.w.ambient {
			return false
		}
	}
	return r.body == r.w.ambient
}

func (r *Reactor) stuckHeater() bool { return r.w.faults["reactor"]["heater_stuck"] != nil }

func (r *Reactor) advance() {
	if r.open {
		out := r.take(drainRate * dt)
		r.count.Drained += out
		if r.contents == 0 {
			r.open = false
		}
	}
	r.turn()
	r.warm()
	if r.contents > 0 {
		r.mixture.react(r.body, r.speed)
	}
}

func (r *Reactor) turn() {
	r.speed += (r.speedTarget - r.speed) * (dt / stirrerLag)
	if math.Abs(r.speedTarget-r.speed) < 0.01 {
		r.speed = r.speedTarget
	}
}

// controlled is the temperature that the controller believes.
func (r *Reactor) controlled() float64 {
	t := r.thermometers[0].value + r.thermometers[0].offset
	if len(r.w.faults["reactor"]) == 0 {
		return t
	}
	return r.w.sense("reactor", "jacket", "temperature", number(t, unitDegC)).Num
}

// power is the controller's output in W. A broken sensor switches it off.
func (r *Reactor) power() float64 {
	if r.stuckHeater() {
		return heaterPower
	}
	t := r.controlled()
	if !r.heating || math.IsNaN(t) {
		return 0
	}
	slope := math.Max(-rampRate, math.Min(rampRate, (r.target-r.ramp)*rampLanding))
	r.ramp += slope * dt
	e := r.ramp - r.thermometers[0].lag*slope - t // the sensor shows the ramp late
	capacity := blockCapacity + waterCapacity*r.contents
	p := capacity*slope + heatLoss*(r.ramp-r.w.ambient) + gain*(e+r.sum/integral)
	if p > 0 && p < heaterPower { // the integral stands still at the stops
		r.sum += e * dt
	}
	return math.Max(0, math.Min(heaterPower, p))
}

func (r *Reactor) warm() {
	p := r.power()
	if p > 0 {
		r.count.HeaterEnergy += p * dt
	}
	if r.heating || p > 0 {
		r.count.HeaterOn += dt
	}
	p += r.exotherm
	if r.heating || r.stuckHeater() {
		for _, name := range [...]string{"runaway", "exotherm"} {
			if f := r.w.faults["reactor"][name]; f != nil {
				p += math.Max(0, f.arg("power", runawayPower))
			}
		}
	}
	capacity := blockCapacity + waterCapacity*r.contents
	r.body = math.Min(hottest, r.body+(p-heatLoss*(r.body-r.w.ambient))/capacity*dt)
	if p == 0 && math.Abs(r.body-r.w.ambient) < settledWithinK {
		r.body = r.w.ambient
	}
	for i := range r.thermometers {
		s := &r.thermometers[i]
		seen := r.body
		if s.component == "probe" { // in the liquid, which an idle stirrer leaves cooler than its wall
			seen -= 0.08 * (r.body - r.w.ambient) * math.Exp(-r.speed/100)
		}
		s.value += (seen - s.value) * (dt / s.lag)
		if math.Abs(seen-s.value) < settledWithinK {
			s.value = seen
		}
	}
}

// reboot: heater and stirrer off, the target back at its default, the outlet
// shut.
func (r *Reactor) reboot() {
	r.heating, r.target, r.sum, r.speedTarget, r.open = false, 20, 0, 0, false
}

func (r *Reactor) sensors() [][2]string {
	return [][2]string{
		{"jacket", "temperature"}, {"jacket", "setpoint"}, {"jacket", "heating"}, {"stirrer", "speed"},
		{"probe", "temperature"}, {"wall", "temperature"}, {"vessel", "contents"},
	}
}

func (r *Reactor) raw(component, property string) lab.Value {
	switch component + "." + property {
	case "jacket.temperature":
		return r.thermometer(0)
	case "probe.temperature":
		return r.thermometer(1)
	case "wall.temperature":
		return r.thermometer(2)
	case "jacket.setpoint":
		return number(r.target, unitDegC)
	case "jacket.heating":
		return lab.BoolValue(r.heating)
	case "stirrer.speed":
		return number(r.speed*(1+0.003*r.w.noise(r.speedKey)), unitRPM)
	case "vessel.contents":
		return number(math.Max(0, r.contents+0.0003*r.w.noise(r.levelKey)), unitML)
	}
	return lab.Value{}
}

func (r *Reactor) thermometer(i int) lab.Value {
	s := &r.thermometers[i]
	return number(s.value+s.offset+s.spread*r.w.noise(s.key), unitDegC)
}

func (r *Reactor) commands() []command {
	return []command{
		{"jacket", "heat", []param{{"target", unitDegC, lab.Number}}}, {"jacket", "heat_off", nil},
		{"stirrer", "stir", []param{{"speed", unitRPM, lab.Number}}}, {"stirrer", "stir_off", nil},
		{"vessel", "drain", nil}, {"vessel", "shut", nil},
	}
}

func (r *Reactor) duration(string, string, map[string]float64) time.Duration { return 0 }

func (r *Reactor) do(_, name string, args map[string]float64) (map[string]lab.Value, error) {
	switch name {
	case "heat":
		return nil, r.Heat(args["target"])
	case "heat_off":
		return nil, r.HeatOff()
	case "stir":
		return nil, r.Stir(args["speed"])
	case "stir_off":
		return nil, r.StirOff()
	case "drain":
		return nil, r.Drain()
	}
	return nil, r.Shut()
}
