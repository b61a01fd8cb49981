package preflight

import (
	"math"
	"slices"

	"labgate/lab"
	"labgate/lab/expr"
	"labgate/protocols"
)

// widest is what a number may be of which nothing is known but that it is one,
// in SI base units; halvings is how closely the ends of what a condition leaves
// are looked for.
const (
	widest   = 1e9
	halvings = 40
)

// contract is what a reading may be, given that a condition over it is true:
// what makes the condition false for certain is cut off. env holds the other
// readings, and comes back as it was.
func contract(p *expr.Program, env []expr.Range, slot int, t lab.Type) expr.Range {
	was := env[slot]
	defer func() { env[slot] = was }()
	never := func(r expr.Range) bool {
		env[slot] = r
		return p.TruthOver(env) == expr.Never
	}
	switch t.Kind {
	case lab.Bool:
		for _, b := range []bool{true, false} {
			if one := expr.Exactly(lab.BoolValue(b)); never(expr.Exactly(lab.BoolValue(!b))) && was.Covers(one) {
				return one
			}
		}
	case lab.Enum:
		var left []string
		for _, word := range t.Enum {
			if one := expr.OneOf(word); was.Covers(one) && !never(one) {
				left = append(left, word)
			}
		}
		if len(left) > 0 && len(left) < len(t.Enum) {
			return expr.OneOf(left...)
		}
	case lab.Number:
		return contractNumber(never, was, t.Unit)
	}
	return was
}

func contractNumber(never func(expr.Range) bool, was expr.Range, u lab.Unit) expr.Range {
	iv, ok := was.Interval()
	if !ok || iv.Lo < -widest || iv.Hi > widest {
		iv, ok = expr.Interval{Lo: -widest, Hi: widest}, false
	}
	within := func(lo, hi float64) expr.Range { return expr.Within(expr.Interval{Lo: lo, Hi: hi}, u) }
	lo, hi := iv.Lo, iv.Hi
	if lo == hi && !iv.Maybe || never(within(lo, hi)) {
		return was // one value already, or it can't be true at all: that is for others to say
	}
	least := (hi - lo) * math.Pow(2, -halvings) // what is open so near to an end leaves nothing to cut off there
	if step := hi - lo; never(within(lo, lo+least)) {
		for range halvings {
			step /= 2
			if never(within(lo, iv.Lo+step)) {
				iv.Lo += step
			}
		}
	}
	if step := hi - iv.Lo; never(within(hi-least, hi)) {
		for range halvings {
			step /= 2
			if never(within(iv.Hi-step, hi)) {
				iv.Hi -= step
			}
		}
	}
	if !ok && (iv.Lo == -widest || iv.Hi == widest) {
		return was // open on one side: a range has two ends
	}
	iv.Maybe = false
	return expr.Within(iv, u)
}

// doneOf is what says that a command is done, compiled. Its slots are the
// arguments, the properties of the component, and these before the command.
type doneOf struct {
	program *expr.Program
	own     []int
	types   []lab.Type
	args    int
}

func (m *model) done(id lab.CommandID, spec *lab.CommandSpec) *doneOf {
	if d, ok := m.dones[id]; ok {
		return d
	}
	m.dones[id] = nil
	if spec.DoneWhen.Text == "" {
		return nil
	}
	class := m.lab.Instrument(id.Instrument).Profile.Component(id.Component).Class
	d, scope := &doneOf{args: len(spec.Args)}, expr.MapScope{}
	for i, a := range spec.Args {
		scope[a.Name] = expr.Symbol{Slot: i, Type: a.Type}
	}
	for i, p := range class.Properties {
		d.own = append(d.own, m.index[lab.PropertyID{Instrument: id.Instrument, Component: id.Component, Property: p.Name}])
		d.types = append(d.types, p.Type)
		now := expr.Symbol{Slot: len(spec.Args) + i, Type: p.Type}
		if _, taken := scope[p.Name]; !taken {
			scope[p.Name] = now
		}
		scope["self."+p.Name] = now
		scope["before."+p.Name] = expr.Symbol{Slot: len(spec.Args) + len(class.Properties) + i, Type: p.Type}
	}
	program, err := expr.Compile(spec.DoneWhen, scope)
	if err != nil || program.Windows() {
		return nil // nothing is told by it here
	}
	d.program = program
	m.dones[id] = d
	return d
}

// confirmed narrows what is after a command down to what shows that it is done.
func (w *walk) confirmed(id lab.CommandID, spec *lab.CommandSpec, args []expr.Range, before, after state) {
	d := w.model.done(id, spec)
	if d == nil {
		return
	}
	env := slices.Clone(args)
	for _, p := range d.own {
		env = append(env, after[p])
	}
	for _, p := range d.own {
		env = append(env, before[p])
	}
	for i, p := range d.own {
		slot := d.args + i
		if slices.Contains(d.program.Slots(), slot) {
			env[slot] = contract(d.program, env, slot, d.types[i])
			after[p] = env[slot]
		}
	}
}

// waited narrows what is after a wait down to what its condition leaves.
func (w *walk) waited(s *protocols.Step, st state) {
	if s.Until == nil || s.Until.Windows() || s.Else == protocols.ElseContinue {
		return
	}
	env := w.filled(st)
	for _, slot := range s.Until.Slots() {
		p := w.slots[slot]
		if p < 0 {
			continue
		}
		spec := w.lab.PropertySpec(w.properties[p])
		if spec == nil {
			continue
		}
		env[slot] = contract(s.Until, env, slot, spec.Type)
		st[p] = env[slot]
	}
}
