package sim

import (
	"fmt"
	"math"
	"time"

	"labgate/lab"
)

// Limits of the pump, after a New Era NE-1000: the plunger's fastest travel
// sets the highest rate for a diameter (20.4 mL/min at 14.43 mm), and numbers
// have four digits.
const (
	plungerSpeed = 125.0 // mm/min, fastest
	minDiameter  = 0.1   // mm
	maxDiameter  = 50.0  // mm
	maxVolume    = 9999.0
	FloodVolume  = 0.1  // mL, the quench's own default
	FloodRate    = 12.0 // mL/min
)

// Pump is a syringe pump with the state that an NE-1000 shows on its line: a
// phase (rate, volume, direction), whether it runs, two dispensed counters and
// an alarm after power-up. Rates in mL/min, volumes in mL, diameters in mm. Its
// syringe never runs dry: somebody changes it in time.
type Pump struct {
	w      *World
	name   string
	holds  liquid
	into   vessel
	stroke float64 // what comes out for 1 mL by its counter
	isCold bool    // the quench: has the flood too
	count  *Count

	diameter, rate, volume float64
	withdraw               bool
	status                 byte // I, W, S, P
	done                   float64
	infused, withdrawn     float64 // as its own counters say
	reset                  bool    // alarm R waits to be told
}

func newPump(w *World, name string, into vessel, holds liquid) *Pump {
	return &Pump{w: w, name: name, holds: holds, into: into, stroke: 1, isCold: name == "quench", count: w.counts[name], diameter: 14.43, status: 'S'}
}

// MaxRate is the highest rate for the present diameter, in mL/min.
func (p *Pump) MaxRate() float64 { return math.Pi / 4 * p.diameter * p.diameter * plungerSpeed / 1000 }

// Diameter is the syringe's inner diameter that the pump was told, in mm.
func (p *Pump) Diameter() float64 { return p.diameter }

// RateSet is the phase's rate, running or not.
func (p *Pump) RateSet() float64 { return p.rate }

// VolumeSet is the phase's volume; 0 means without end.
func (p *Pump) VolumeSet() float64 { return p.volume }

// Infusing is the phase's direction: out of the syringe.
func (p *Pump) Infusing() bool { return !p.withdraw }

// Status is I infusing, W withdrawing, S stopped or P paused, as the device
// reports it.
func (p *Pump) Status() byte {
	if p.Running() == p.running() {
		return p.status
	}
	if p.Running() { // stuck in the report
		return 'I'
	}
	return 'S'
}

// Running is as the device reports it.
func (p *Pump) Running() bool { return p.w.flag(p, p.name, "pump", "running") }

// Rate is what is being delivered now, as the device reports it: 0 at rest.
func (p *Pump) Rate() float64 { return p.w.reading(p, p.name, "pump", "rate") }

// Dispensed is the pump's two counters since they were cleared.
func (p *Pump) Dispensed() (infused, withdrawn float64) {
	return p.w.reading(p, p.name, "pump", "dispensed"), p.withdrawn
}

func (p *Pump) running() bool { return p.status == 'I' || p.status == 'W' }
func (p *Pump) quiet() bool   { return !p.running() }

// TakeAlarm returns the letter of a waiting alarm, R after a power-up, and
// clears it: the device tells it once, in place of its next answer.
func (p *Pump) TakeAlarm() (byte, bool) {
	was := p.reset
	p.reset = false
	return 'R', was
}

// Alarm reports whether an alarm waits, without clearing it.
func (p *Pump) Alarm() bool { return p.reset }

// SetDiameter tells the pump its syringe. Not while it runs.
func (p *Pump) SetDiameter(mm float64) error {
	return p.set("diameter", mm, minDiameter, maxDiameter, func() { p.diameter = mm })
}

// SetRate sets the phase's rate. The manual allows it while running.
func (p *Pump) SetRate(rate float64) error {
	if _, err := p.w.gate("set rate", p.name, "pump"); err != nil {
		return err
	}
	if !(rate >= 0 && rate <= p.MaxRate()) {
		return refused("set rate", p.name, ErrOutOfRange, fmt.Sprintf("%v mL/min; at most %.4g at this diameter", rate, p.MaxRate()))
	}
	p.rate = rate
	return nil
}

// SetVolume sets the phase's volume and begins the phase anew; 0 means without
// end. Not while it runs.
func (p *Pump) SetVolume(volume float64) error {
	return p.set("volume", volume, 0, maxVolume, func() { p.volume, p.done = volume, 0 })
}

// SetDirection sets the phase's direction; another one begins it anew. Not
// while it runs.
func (p *Pump) SetDirection(infuse bool) error {
	return p.set("direction", 0, 0, 0, func() {
		if p.withdraw == infuse {
			p.withdraw, p.done = !infuse, 0
		}
	})
}

func (p *Pump) set(what string, v, lo, hi float64, apply func()) error {
	op := "set " + what
	if _, err := p.w.gate(op, p.name, "pump"); err != nil {
		return err
	}
	if p.running() {
		return refused(op, p.name, ErrNotApplicable, "the pump runs")
	}
	if !(v >= lo && v <= hi) {
		return refused(op, p.name, ErrOutOfRange, fmt.Sprintf("%v is outside %v to %v", v, lo, hi))
	}
	apply()
	return nil
}

// ClearDispensed clears one of the counters. Not while it runs.
func (p *Pump) ClearDispensed(infused bool) error {
	return p.set("counter", 0, 0, 0, func() {
		if infused {
			p.infused = 0
		} else {
			p.withdrawn = 0
		}
	})
}

// Run starts the phase, or goes on with a paused one. Not while it runs, not
// at rate 0.
func (p *Pump) Run() error {
	dead, err := p.w.gate("run", p.name, "pump")
	switch {
	case err != nil:
		return err
	case p.running():
		return refused("run", p.name, ErrNotApplicable, "the pump runs")
	case p.rate == 0:
		return refused("run", p.name, ErrOutOfRange, "no rate is set")
	case p.rate > p.MaxRate(): // the diameter was made smaller after the rate
		return refused("run", p.name, ErrOutOfRange, "the rate is too high for this diameter")
	case dead:
		return nil
	}
	if p.status == 'S' {
		p.done = 0
	}
	p.status = 'I'
	if p.withdraw {
		p.status = 'W'
	}
	p.count.Doses++
	return nil
}

// Stop pauses a running phase; a second stop ends it. A stop at rest is
// acknowledged.
func (p *Pump) Stop() error {
	dead, err := p.w.gate("stop", p.name, "pump")
	switch {
	case err != nil:
		return err
	case dead:
	case p.running():
		p.status = 'P'
		p.count.Stops++
	default:
		p.status, p.done = 'S', 0
	}
	return nil
}

// advance moves the plunger for one tick.
func (p *Pump) advance() {
	if !p.running() {
		return
	}
	dv, last := p.rate/60*dt, false
	if p.volume > 0 && dv >= p.volume-p.done {
		dv, last = p.volume-p.done, true
	}
	real := dv * p.stroke
	if f := p.w.faults[p.name]["slip"]; f != nil {
		real *= math.Min(1, math.Max(0, f.arg("fraction", 0)))
	}
	p.done += dv
	if p.status == 'I' {
		p.infused += dv
		p.count.Dispensed += real
		p.into.pour(real, p.holds)
	} else {
		p.withdrawn += dv
		p.count.Withdrawn += p.into.take(real)
	}
	if last {
		p.status, p.done = 'S', 0
		p.count.DosesDone++
	}
}

// reboot: the motor stops and the counters are lost. Diameter, rate and volume
// live in non-volatile memory.
func (p *Pump) reboot() {
	p.status, p.done, p.infused, p.withdrawn, p.reset = 'S', 0, 0, 0, true
}

func (p *Pump) sensors() [][2]string {
	s := [][2]string{{"pump", "rate"}, {"pump", "dispensed"}, {"pump", "running"}}
	if p.isCold {
		s = append(s, [2]string{"quench", "flooding"})
	}
	return s
}

func (p *Pump) raw(component, property string) lab.Value {
	switch component + "." + property {
	case "pump.rate":
		if !p.running() {
			return number(0, unitMLMin)
		}
		return number(p.rate, unitMLMin)
	case "pump.dispensed":
		return number(p.infused, unitML)
	case "pump.running":
		return lab.BoolValue(p.running())
	case "quench.flooding":
		if p.isCold {
			return lab.BoolValue(p.status == 'I')
		}
	}
	return lab.Value{}
}

func (p *Pump) commands() []command {
	c := []command{
		{"pump", "dose", []param{{"volume", unitML, lab.Number}, {"rate", unitMLMin, lab.Number}}},
		{"pump", "stop", nil},
	}
	if p.isCold {
		c = append(c, command{"quench", "flood", nil})
	}
	return c
}

func (p *Pump) duration(string, string, map[string]float64) time.Duration { return 0 }

// do sends what the profile's exchanges send, in their order.
func (p *Pump) do(_, name string, args map[string]float64) (map[string]lab.Value, error) {
	if name == "stop" {
		p.TakeAlarm()
		return nil, p.Stop()
	}
	if _, alarm := p.TakeAlarm(); alarm {
		return nil, refused(name, p.name, ErrReset, "")
	}
	volume, rate := FloodVolume, FloodRate
	if name == "dose" {
		volume, rate = args["volume"], args["rate"]
		if volume <= 0 { // on this pump 0 means without end
			return nil, refused(name, p.name, ErrOutOfRange, "the volume is not positive")
		}
	}
	for _, exchange := range []func() error{
		func() error { return p.SetDirection(true) },
		func() error { return p.SetVolume(volume) },
		func() error { return p.SetRate(rate) },
		p.Run,
	} {
		if err := exchange(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
