package safety

import (
	"fmt"

	"labgate/lab"
)

// Again gives the orders of a latch once more, in order: what its trip does,
// or for a stop the safe states of its instruments. A gateway that starts with
// a latch does not know whether the orders of then ever arrived. Those of a
// rule that is gone are gone with it; its latch denies all the same.
func (e *Engine) Again(rule string) []*Order {
	for _, l := range e.latches {
		if l.Rule != rule {
			continue
		}
		if l.Group == stopGroup {
			return e.stopAgain(l)
		}
		if t := e.tripOf(rule); t != nil {
			return t.rule.orders()
		}
		return nil
	}
	return nil
}

func (e *Engine) stopAgain(l *Latch) []*Order {
	names := l.Instruments
	if len(names) == 0 {
		names = e.lab.Names()
	}
	var orders []*Order
	for _, n := range names {
		orders = append(orders, e.SafeState(n, OriginStop, l.Say)...)
	}
	return orders
}

// Else gives the order that an unconfirmed one falls back to: the safe command
// that its class names. None where the class says alarm.
func (e *Engine) Else(o *Order) (*Order, error) {
	const op = "safety: safe lane"
	spec := e.lab.CommandSpec(o.target)
	if spec == nil || spec.Else == "" || spec.Else == "alarm" {
		return nil, nil
	}
	target := lab.CommandID{Instrument: o.target.Instrument, Component: o.target.Component, Command: spec.Else}
	next := e.lab.CommandSpec(target)
	if next == nil || next.Effect != lab.Safe || len(next.Args) > 0 {
		return nil, lab.E(op, target.Instrument, lab.KindDenied, fmt.Errorf("%s, the else of %s, is no safe command without arguments", target, o.target))
	}
	return &Order{target: target, origin: o.origin, why: fmt.Sprintf("%s was not confirmed (%s)", o.target, o.why)}, nil
}

// RevokeFresh takes a command's permit back if it is not spent yet: what it
// rests on can't be trusted any more. What has begun goes on.
func (e *Engine) RevokeFresh(command, why string) {
	if f := e.flights[command]; f != nil && f.permit != nil && f.permit.state.CompareAndSwap(permitFresh, permitRevoked) {
		f.permit.why.Store(&why)
	}
}
