package safety

import (
	"slices"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// setting is something that commands set, and what may be in force of it: what
// is read, and what was set by commands whose effect no reading has shown yet.
// Of all that may be in force, the one that is worse for the command counts.
type setting struct {
	prog    *expr.Program
	windows *expr.State
	maybe   []inForce
	last    *lab.Quantity // what the latest command set, as far as the journal says
}

// inForce is a value that a command may have set.
type inForce struct {
	by     *flight // nil: it is over
	id     string
	value  lab.Quantity
	opaque bool // nobody can say to what
	over   time.Time
}

// sets is what one command does to a setting: an argument, a fixed value, or
// something that can't be told beforehand.
type sets struct {
	*setting
	arg    int
	fixed  *lab.Quantity
	opaque bool
}

// maxInForce bounds what is kept until a reading comes.
const maxInForce = 64

// settingOf finds what an argument sets, and every command that sets it too.
func (e *Engine) settingOf(t *Target, g *guard) *setting {
	key := t.from.Source().Text
	id, isProperty := e.propertyOf(t.from)
	if isProperty {
		key = id.String()
	} else {
		key += "\x00" + t.Command.String() + "." + t.Arg
	}
	s := e.settings[key]
	if s == nil {
		s = &setting{prog: t.from, windows: t.from.NewState()}
		e.settings[key] = s
		if isProperty {
			e.settersOf(id, s)
		}
	}
	k := slices.IndexFunc(g.sets, func(x sets) bool { return x.setting == s })
	switch own := (sets{setting: s, arg: g.argument(t.Arg)}); {
	case k < 0:
		g.sets = append(g.sets, own)
	case g.sets[k].opaque: // the rule knows better than the class
		g.sets[k] = own
	}
	return s
}

// propertyOf is the property that an expression is nothing but.
func (e *Engine) propertyOf(p *expr.Program) (lab.PropertyID, bool) {
	if len(p.Slots()) != 1 || p.Slots()[0] >= len(e.rules.properties) || p.Names()[0] != p.Source().Text {
		return lab.PropertyID{}, false
	}
	return e.rules.properties[p.Slots()[0]], true
}

// settersOf finds the commands that are declared to change a property.
func (e *Engine) settersOf(id lab.PropertyID, s *setting) {
	add := func(g *guard, ch lab.Change) {
		if g == nil || g.spec.Effect == lab.Read || slices.ContainsFunc(g.sets, func(x sets) bool { return x.setting == s }) {
			return
		}
		x := sets{setting: s, arg: g.argument(ch.To.Text), opaque: true}
		if !ch.Add && x.arg >= 0 {
			x.opaque = false
		} else if q, err := lab.ParseQuantity(ch.To.Text); err == nil && !ch.Add {
			x.fixed, x.opaque = &q, false
		}
		g.sets = append(g.sets, x)
	}
	for _, in := range e.lab.Instruments {
		if in.Name == id.Instrument {
			if comp := in.Profile.Component(id.Component); comp != nil {
				for i := range comp.Class.Commands {
					for _, ch := range comp.Class.Commands[i].Changes {
						if ch.Property == id.Property {
							add(e.guards[lab.CommandID{Instrument: in.Name, Component: comp.Name, Command: comp.Class.Commands[i].Name}], ch)
						}
					}
				}
			}
		}
		for _, a := range in.Affects {
			if a.Property == id {
				add(e.guards[a.Command], a.Change)
			}
		}
	}
}

// open notes what a command under way may set.
func (s *sets) open(f *flight) {
	x := inForce{by: f, id: f.id, opaque: s.opaque}
	switch {
	case s.fixed != nil:
		x.value = *s.fixed
	case !s.opaque:
		v := f.value(s.arg)
		x.value, x.opaque = v.Quantity(), !v.Usable() || v.Kind != lab.Number && v.Kind != lab.Integer
	}
	s.maybe = append(s.maybe, x)
}

// close ends that: from now on a reading may show it.
func (s *sets) close(f *flight, end End, now time.Time) {
	i := slices.IndexFunc(s.maybe, func(x inForce) bool { return x.by == f })
	if i < 0 {
		return
	}
	if end == NothingDone {
		s.maybe = slices.Delete(s.maybe, i, i+1)
		return
	}
	x := &s.maybe[i]
	x.by, x.over = nil, now
	if s.last = nil; end == AllDone && !x.opaque {
		q := x.value
		s.last = &q
	}
	if len(s.maybe) > maxInForce {
		s.collapse()
	}
}

// collapse makes one of all that is over and was not read yet: something that
// nobody can tell.
func (s *setting) collapse() {
	all := inForce{opaque: true}
	s.maybe = slices.DeleteFunc(s.maybe, func(x inForce) bool {
		if x.by == nil {
			all.over = later(all.over, x.over)
		}
		return x.by == nil
	})
	if !all.over.IsZero() {
		s.maybe = append(s.maybe, all)
	}
}

// span is a range of values in grains of a value's unit.
type span struct {
	lo, hi int64
	grain  grain
	none   bool
}

// add widens it by a value.
func (s *span) add(q lab.Quantity) bool {
	lo, hi, ok := s.grain.of(q)
	switch {
	case !ok:
	case s.none:
		s.lo, s.hi, s.none = lo, hi, false
	default:
		s.lo, s.hi = min(s.lo, lo), max(s.hi, hi)
	}
	return ok
}

// from is the largest distance of a value from what is in the range.
func (s *span) from(v *lab.Value) (int64, bool) {
	if s.none || v.Kind != lab.Number && v.Kind != lab.Integer {
		return 0, false
	}
	lo, hi, ok := s.grain.of(v.Quantity())
	return max(hi-s.lo, s.hi-lo, 0), ok
}

// nearest is the value nearest to v that is no further than n from everything
// in the range; nil: there is none.
func (s *span) nearest(v *lab.Value, n int64) *lab.Value {
	lo, hi := s.hi-n, s.lo+n
	at, _, ok := s.grain.of(v.Quantity())
	if !ok || lo > hi {
		return nil
	}
	x, ok := s.grain.within(hi, *v, true)
	if at < lo {
		x, ok = s.grain.within(lo, *v, false)
	}
	if !ok {
		return nil
	}
	return &x
}

// valueGrain counts values of which a distance is counted in grains of g.
func (s *setting) valueGrain(g grain) grain {
	if s.prog.Type().Unit.Dim().Point {
		g.unit = lab.DegC
	}
	return g
}

// inForce is the range of all that may be in force but for a command's own; why
// says why it can't be told.
func (e *Engine) inForce(now time.Time, s *setting, g grain, but *flight) (at span, why string) {
	at = span{grain: s.valueGrain(g), none: true}
	env := e.env(now)
	if v := s.prog.Value(s.windows, env); v.Usable() {
		if !at.add(v.Quantity()) {
			return at, s.prog.Source().Text + " can't be compared"
		}
	} else {
		lo, hi, ok := s.prog.Candidates(s.windows, env)
		u := at.grain.unit
		if !ok || !at.add(lab.Quantity{Value: u.FromBase(lo), Unit: u}) || !at.add(lab.Quantity{Value: u.FromBase(hi), Unit: u}) {
			return at, s.prog.Source().Text + " is unknown"
		}
	}
	s.forget(e)
	for i := range s.maybe {
		x := &s.maybe[i]
		switch {
		case x.by == but && but != nil:
		case x.opaque:
			return at, "a command may have changed " + s.prog.Source().Text + " since it was read"
		case !at.add(x.value):
			return at, "what a command has set can't be compared"
		}
	}
	return at, ""
}

// forget drops what a reading shows by now: that of commands that were over
// when it was taken.
func (s *setting) forget(e *Engine) {
	if len(s.maybe) > 0 {
		s.maybe = slices.DeleteFunc(s.maybe, func(x inForce) bool { return x.by == nil && e.takenSince(s.prog, x.over) })
	}
}

// before is what a restored command was set from: by the journal, as nothing is
// read yet.
func (s *setting) before(g grain) (at span, why string) {
	at = span{grain: s.valueGrain(g), none: true}
	if s.last == nil || !at.add(*s.last) {
		return at, "nothing says what was in force"
	}
	for i := range s.maybe {
		if x := &s.maybe[i]; x.by != nil && (x.opaque || !at.add(x.value)) {
			return at, "a command may have changed it"
		}
	}
	return at, ""
}
