package protocols

import (
	"labgate/lab"
	"labgate/lab/expr"
)

// BindAll binds a protocol as Bind does, but to every value that its inputs
// may have. Such a plan is for preflight: it has no bill, and can't be run.
func BindAll(p *Protocol, l *lab.Lab) (*Plan, lab.Issues) {
	if p == nil || l == nil {
		return nil, lab.Issues{{Code: "internal", Say: "there is no protocol or no lab to bind"}}
	}
	bindings, issues := fill(p, l)
	if len(issues) > 0 {
		return nil, issues
	}
	pl := newPlan(p, nil, bindings)
	if err := pl.bindSlots(); err != nil {
		return nil, lab.Issues{{Code: "internal", Say: err.Error()}}
	}
	return pl, nil
}

// Ranges is what each slot of the protocol's expressions may hold before
// anything has run: inputs what they are, or all that they may be; everything
// else what nothing is known of, but for counts and the values of repeats.
func (pl *Plan) Ranges() []expr.Range { return pl.Protocol.ranges(pl.Inputs) }

// PropertyAt is the lab's property behind a slot; false where it is none.
func (pl *Plan) PropertyAt(slot int) (lab.PropertyID, bool) {
	id := pl.properties[slot]
	return id, id != lab.PropertyID{}
}

// LooksAt reports whether a step's condition reads the laboratory.
func (pl *Plan) LooksAt(s *Step) bool {
	for _, slot := range s.Until.Slots() {
		if _, ok := pl.PropertyAt(slot); ok {
			return true
		}
	}
	return false
}

// ArgsOver is what the arguments of a do step may be, for all readings within
// the ranges. What they can't be is refused when the step begins, so that the
// class's bounds hold.
func (pl *Plan) ArgsOver(s *Step, ranges []expr.Range) []expr.Range {
	b := &biller{plan: pl, ranges: ranges}
	return b.args(s)
}

// OnlyInputs reports whether the inputs alone decide the arguments of a step.
func (pl *Plan) OnlyInputs(s *Step) bool {
	for i := range s.With {
		if a := &s.With[i]; a.Expr != nil && !pl.onlyInputs(a.Expr) {
			return false
		}
	}
	return true
}
