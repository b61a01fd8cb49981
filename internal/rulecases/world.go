package rulecases

import (
	"time"

	"labgate/lab"
)

// changes lets the declared changes of a command happen. Where no done_when
// tells what is at its end, a flag that it raises is down again.
func (b *bench) changes(id lab.CommandID, args, before map[string]lab.Value) *classView {
	spec := b.lab.CommandSpec(id)
	in := b.lab.Instrument(id.Instrument)
	c := newClassView(in.Profile.Component(id.Component).Class, spec)
	for _, ch := range spec.Changes {
		src := ch.To
		if src.Text == "" {
			src = ch.High
		}
		s := b.byID[lab.PropertyID{Instrument: id.Instrument, Component: id.Component, Property: ch.Property}]
		v, ok := c.value(src, args, b.values(id, nil), b.values(id, before))
		if s == nil || !ok || s.word != "" && s.word != "stuck" {
			continue
		}
		if v, err := s.typ.Conform(v); err == nil && (spec.DoneWhen.Text != "" || v.Kind != lab.Bool) {
			if ch.Add {
				v.Num += s.value.Num
			}
			s.value, s.end = v, time.Time{}
		}
	}
	b.affect(id, spec, args)
	return c
}

// affect lets the lab file's own changes of other instruments happen.
func (b *bench) affect(id lab.CommandID, spec *lab.CommandSpec, args map[string]lab.Value) {
	in := b.lab.Instrument(id.Instrument)
	c := newClassView(in.Profile.Component(id.Component).Class, spec)
	for _, a := range in.Affects {
		s := b.byID[a.Property]
		if a.Command != id || s == nil {
			continue
		}
		v, ok := c.value(a.Change.To, args, b.values(id, nil), nil)
		if !ok {
			continue
		}
		if v, err := s.typ.Conform(v); err == nil {
			if a.Change.Add {
				v.Num += s.value.Num
			}
			s.value = v
		}
	}
}

// finish makes done_when true, if a change of one or two values can.
func (b *bench) finish(id lab.CommandID, c *classView, args, before map[string]lab.Value) bool {
	spec := b.lab.CommandSpec(id)
	if spec.DoneWhen.Text == "" {
		return true
	}
	done := func() bool { return c.truth(spec.DoneWhen, args, b.values(id, nil), b.values(id, before)) }
	if done() {
		return true
	}
	var tries []func()
	for _, s := range b.component(id) {
		switch s.typ.Kind {
		case lab.Bool:
			was := s.value
			tries = append(tries, func() { s.value = lab.BoolValue(!was.Bool) })
		case lab.Enum:
			for _, w := range s.typ.Enum {
				tries = append(tries, func() { s.value = lab.EnumValue(w) })
			}
		case lab.Number:
			for _, a := range args {
				if a.Kind == lab.Number && a.Unit.Dim() == s.typ.Unit.Dim() {
					tries = append(tries, func() {
						if v, err := s.typ.Conform(a); err == nil {
							s.value = v
						}
					})
				}
			}
			tries = append(tries, func() { s.value = lab.NumberValue(lab.Quantity{Unit: s.typ.Unit}) })
		}
	}
	state := b.values(id, nil)
	restore := func() {
		for _, s := range b.component(id) {
			s.value = state[s.id.Property]
		}
	}
	for i := range tries {
		for k := i; k < len(tries); k++ {
			tries[i]()
			tries[k]()
			if done() {
				return true
			}
			restore()
		}
	}
	return false
}
