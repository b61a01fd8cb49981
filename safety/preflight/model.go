package preflight

import (
	"math"

	"labgate/lab"
	"labgate/lab/expr"
	"labgate/safety"
)

// model is a lab as preflight sees it: what commands change, and which rules
// guard them. It is immutable once a walk has asked for everything that it
// needs; a walk belongs to one goroutine, and so does the model of a With.
type model struct {
	rules      *safety.Rules
	lab        *lab.Lab
	properties []lab.PropertyID // in the order of the rules' slots
	index      map[lab.PropertyID]int
	argSlots   map[string]int
	size       int // of the rules' slots
	changes    map[lab.CommandID][]change
	dones      map[lab.CommandID]*doneOf
}

// change is one declared change of a property, compiled. Its slots are the
// command's arguments, then the properties of its component.
type change struct {
	property  int
	add       bool
	low, high *expr.Program // the same where it is no range
	unit      lab.Unit
	own       []int // the component's properties in the model
}

func newModel(rules *safety.Rules) *model {
	m := &model{rules: rules, lab: rules.Lab(), index: map[lab.PropertyID]int{}, argSlots: map[string]int{}, changes: map[lab.CommandID][]change{}, dones: map[lab.CommandID]*doneOf{}}
	for ; ; m.size++ {
		if id, ok := rules.PropertyAt(m.size); ok {
			m.index[id] = len(m.properties)
			m.properties = append(m.properties, id)
			continue
		}
		if name, ok := rules.ArgumentAt(m.size); ok {
			m.argSlots[name] = m.size
			continue
		}
		if _, ok := rules.GroupAt(m.size); !ok {
			return m
		}
	}
}

// changesOf compiles what a command changes, once: on its own component by its
// class, and elsewhere by the lab file. What can't be compiled was refused when
// the files were loaded; here it makes its property anything.
func (m *model) changesOf(id lab.CommandID, spec *lab.CommandSpec) []change {
	list, ok := m.changes[id]
	if ok {
		return list
	}
	in := m.lab.Instrument(id.Instrument)
	class := in.Profile.Component(id.Component).Class
	scope, own := expr.MapScope{}, []int{}
	for i, a := range spec.Args {
		scope[a.Name] = expr.Symbol{Slot: i, Type: a.Type}
	}
	for i, p := range class.Properties {
		own = append(own, m.index[lab.PropertyID{Instrument: id.Instrument, Component: id.Component, Property: p.Name}])
		for _, name := range []string{p.Name, "self." + p.Name, "before." + p.Name} {
			if _, taken := scope[name]; !taken {
				scope[name] = expr.Symbol{Slot: len(spec.Args) + i, Type: p.Type}
			}
		}
	}
	add := func(p lab.PropertyID, ch lab.Change) {
		x := change{property: m.index[p], add: ch.Add, own: own}
		if s := m.lab.PropertySpec(p); s != nil {
			x.unit = s.Type.Unit
		}
		low, high := ch.Low, ch.High
		if ch.To.Text != "" {
			low, high = ch.To, ch.To
		}
		x.low, _ = expr.Compile(low, scope)
		x.high, _ = expr.Compile(high, scope)
		list = append(list, x)
	}
	for _, ch := range spec.Changes {
		add(lab.PropertyID{Instrument: id.Instrument, Component: id.Component, Property: ch.Property}, ch)
	}
	for _, a := range in.Affects {
		if a.Command == id {
			add(a.Property, a.Change)
		}
	}
	m.changes[id] = list
	return list
}

// state is what each property may be; the zero Range is anything.
type state []expr.Range

func (st state) join(o state) {
	for i := range st {
		st[i] = st[i].Union(o[i])
	}
}

func (st state) equal(o state) bool {
	for i := range st {
		if !same(st[i], o[i]) {
			return false
		}
	}
	return true
}

func same(a, b expr.Range) bool { return a.Covers(b) && b.Covers(a) }

// stretch takes what still grows from one round to the next to where it is
// after so many more; anything, where that can't be told.
func (st state) stretch(last state, rounds float64) {
	for i := range st {
		if same(st[i], last[i]) {
			continue
		}
		a, ok := last[i].Interval()
		b, also := st[i].Interval()
		if !ok || !also {
			st[i] = expr.Range{}
			continue
		}
		lo, hi := b.Lo+(b.Lo-a.Lo)*rounds, b.Hi+(b.Hi-a.Hi)*rounds
		// Between here and there it takes every value; the rounding of so many
		// sums is made up for.
		slack := 1e-9 * (math.Abs(lo) + math.Abs(hi))
		st[i] = st[i].Spanning(expr.Interval{Lo: min(lo, b.Lo) - slack, Hi: max(hi, b.Hi) + slack, Maybe: a.Maybe || b.Maybe})
	}
}

// change lets a command's declared changes happen to a state.
func (w *walk) change(id lab.CommandID, spec *lab.CommandSpec, args []expr.Range, st state) {
	w.room.before = append(w.room.before[:0], st...)
	before := w.room.before
	for _, ch := range w.changesOf(id, spec) {
		env := append(w.room.own[:0], args...)
		for _, p := range ch.own {
			env = append(env, before[p])
		}
		w.room.own = env
		st[ch.property] = ch.apply(env, before[ch.property])
		w.reached(ch.property, st[ch.property])
		for _, l := range w.logs {
			l.note(ch.property, ch.add, st[ch.property])
		}
	}
}

func (w *walk) reached(property int, r expr.Range) {
	if have, ok := w.reach[property]; ok {
		r = have.Union(r)
	}
	w.reach[property] = r
}

// apply is what a property is after the change.
func (ch change) apply(env []expr.Range, before expr.Range) expr.Range {
	if ch.low == nil || ch.high == nil {
		return expr.Range{}
	}
	lo, ok := ch.low.NumberOver(env)
	hi, also := ch.high.NumberOver(env)
	switch {
	case !ok || !also:
		if r, known := ch.low.RangeOver(env); known && !ch.add && ch.low == ch.high {
			return r
		}
		if ch.low != ch.high || ch.add {
			return expr.Range{}
		}
		return expr.Truly(ch.low.TruthsOver(env))
	case ch.add:
		b, known := before.Interval()
		if !known {
			return expr.Range{}
		}
		return expr.Within(expr.Interval{Lo: b.Lo + lo.Lo, Hi: b.Hi + hi.Hi, Maybe: b.Maybe}, ch.unit)
	}
	return expr.Within(expr.Interval{Lo: lo.Lo, Hi: hi.Hi}, ch.unit)
}
