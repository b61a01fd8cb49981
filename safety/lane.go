package safety

import (
	"slices"

	"labgate/lab"
)

// Order gives the safe lane's proof for one command, or says why not: the
// class must call it safe, and the instrument's safe list must name it (its
// own stops_with is enough for the stop of a command that lost its permit).
func (e *Engine) Order(target lab.CommandID, origin Origin, why string) (*Order, error) {
	const op = "safety: safe lane"
	spec := e.lab.CommandSpec(target)
	if spec == nil || spec.Effect != lab.Safe {
		return nil, lab.Ef(op, target.Instrument, lab.KindDenied, target.String()+" is not a safe command of its class")
	}
	switch {
	case origin == OriginStopsWith && !e.stopsSomething(target):
		return nil, lab.Ef(op, target.Instrument, lab.KindDenied, target.String()+" stops no command that is under way")
	case origin != OriginStopsWith && !slices.ContainsFunc(e.lab.Instrument(target.Instrument).Safe, func(s lab.SafeStep) bool { return s.Command == target }):
		return nil, lab.Ef(op, target.Instrument, lab.KindDenied, target.String()+" is not in the instrument's safe list")
	}
	o := &Order{target: target, origin: origin, why: why}
	for _, s := range e.lab.Instrument(target.Instrument).Safe {
		if s.Command == target && origin != OriginStopsWith && o.args == nil {
			o.args = s.Args
		}
	}
	return o, nil
}

// stopsSomething reports whether a safe command is the stop of a command that
// was allowed and is not done.
func (e *Engine) stopsSomething(stop lab.CommandID) bool {
	for _, f := range e.flying {
		t := f.guard.target
		if t.Instrument == stop.Instrument && t.Component == stop.Component && f.guard.spec.StopsWith == stop.Command {
			return true
		}
	}
	return false
}

// SafeState gives the orders that bring an instrument to its safe state, in
// order; none for one that is to be kept as it is.
func (e *Engine) SafeState(instrument string, origin Origin, why string) []*Order {
	var orders []*Order
	if in := e.lab.Instrument(instrument); in != nil {
		for _, s := range in.Safe {
			if s.Wait > 0 {
				orders = append(orders, &Order{wait: s.Wait, origin: origin, why: why})
			} else if o, err := e.Order(s.Command, origin, why); err == nil {
				o.args = s.Args
				orders = append(orders, o)
			}
		}
	}
	return orders
}
