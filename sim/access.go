package sim

import (
	"fmt"
	"time"

	"labgate/lab"
)

// Units that classes speak.
var (
	unitML      = lab.Q(0, "mL").Unit
	unitMLMin   = lab.Q(0, "mL/min").Unit
	unitRPM     = lab.Q(0, "rpm").Unit
	unitMM      = lab.Q(0, "mm").Unit
	unitMMS     = lab.Q(0, "mm/s").Unit
	unitMS      = lab.Q(0, "m/s").Unit
	unitNM      = lab.Q(0, "nm").Unit
	unitMillis  = lab.Q(0, "ms").Unit
	unitGram    = lab.Q(0, "g").Unit
	unitUL      = lab.Q(0, "uL").Unit
	unitDegC    = lab.DegC
	unitPercent = lab.Percent
)

func number(v float64, u lab.Unit) lab.Value {
	return lab.NumberValue(lab.Quantity{Value: v, Unit: u})
}

// Read returns what a device's sensor reports now, in the class's unit, with
// its lag, noise and faults: a broken sensor gives NaN, not an error. A name
// that does not exist is invalid; a frozen device is unavailable; a pump that
// was reset refuses once, as its alarm does on the wire.
func (w *World) Read(instrument, component, property string) (lab.Value, error) {
	const op = "sim: read"
	d := w.devices[instrument]
	if d == nil {
		return lab.Value{}, lab.E(op, instrument, lab.KindInvalid, fmt.Errorf("there is no such instrument"))
	}
	v := d.raw(component, property)
	if v.Kind == lab.Missing {
		return v, lab.E(op, instrument, lab.KindInvalid, fmt.Errorf("there is no property %s.%s", component, property))
	}
	if w.Frozen(instrument) {
		return lab.Value{}, lab.Ef(op, instrument, lab.KindUnavailable, "the device does not answer")
	}
	if p, ok := d.(*Pump); ok {
		if _, alarm := p.TakeAlarm(); alarm {
			return lab.Value{}, lab.E(op, instrument, lab.KindDeviceRefused, ErrReset)
		}
	}
	return w.sense(instrument, component, property, v), nil
}

// Do starts a command as the device would and returns at once; acquire
// commands return their results, which a face hands over after Duration.
// Arguments are complete and in any unit of the class's dimension. A frozen
// device is unavailable and does nothing; what a device would not do is device
// refused, with a cause above.
func (w *World) Do(instrument, component, name string, args map[string]lab.Value) (map[string]lab.Value, error) {
	const op = "sim: do"
	d, nums, err := w.understand(instrument, component, name, args)
	if err != nil {
		return nil, lab.E(op, instrument, lab.KindInvalid, err)
	}
	if w.Frozen(instrument) {
		return nil, lab.Ef(op, instrument, lab.KindUnavailable, "the device does not answer")
	}
	return d.do(component, name, nums)
}

// Duration is how long the device needs from a command to its answer: the
// exposure of a frame, the integration of a spectrum. Everything else answers
// at once and works on, and so does what the device would not understand.
func (w *World) Duration(instrument, component, name string, args map[string]lab.Value) time.Duration {
	d, nums, err := w.understand(instrument, component, name, args)
	if err != nil {
		return 0
	}
	return d.duration(component, name, nums)
}

// understand finds the command and turns its arguments into plain numbers in
// the class's units. Missing, unknown and misfitting ones are errors.
func (w *World) understand(instrument, component, name string, args map[string]lab.Value) (device, map[string]float64, error) {
	d := w.devices[instrument]
	if d == nil {
		return nil, nil, fmt.Errorf("there is no such instrument")
	}
	for _, c := range d.commands() {
		if c.component != component || c.name != name {
			continue
		}
		nums := make(map[string]float64, len(c.args))
		for _, p := range c.args {
			v, err := lab.Type{Kind: p.kind, Unit: p.unit}.Conform(args[p.name])
			if err != nil {
				return nil, nil, fmt.Errorf("%s.%s: argument %s: %w", component, name, p.name, err)
			}
			nums[p.name] = v.Num
		}
		for n := range args {
			if _, ok := nums[n]; !ok {
				return nil, nil, fmt.Errorf("%s.%s takes no argument %q", component, name, n)
			}
		}
		return d, nums, nil
	}
	return nil, nil, fmt.Errorf("there is no command %s.%s", component, name)
}

// refused is a device's answer that it did not do it.
func refused(op, instrument string, cause error, detail string) error {
	if detail != "" {
		cause = fmt.Errorf("%w: %s", cause, detail)
	}
	return lab.E("sim: "+op, instrument, lab.KindDeviceRefused, cause)
}
