package gateway

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// spec is a command of a class on an instrument, with its expressions
// compiled. Their slots are: the arguments, the properties of the component,
// and the same properties before the command.
type spec struct {
	*lab.CommandSpec
	id       lab.CommandID
	class    *lab.Class
	worst    *expr.Program
	doneWhen *expr.Program
	partial  *expr.Program
	gives    map[string]*expr.Program // results that are computed from readings
}

// classScope resolves names within a class: an argument first, else a
// property; self.x is always the property, before.x its value at admission.
type classScope struct {
	class *lab.Class
	spec  *lab.CommandSpec
}

func (s classScope) Lookup(name string) (expr.Symbol, error) {
	nArgs := len(s.spec.Args)
	for i, a := range s.spec.Args {
		if a.Name == name {
			return expr.Symbol{Slot: i, Type: a.Type}, nil
		}
	}
	base, plain := nArgs, strings.TrimPrefix(name, "self.")
	if p, ok := strings.CutPrefix(name, "before."); ok {
		base, plain = nArgs+len(s.class.Properties), p
	}
	for i, p := range s.class.Properties {
		if p.Name == plain {
			sym := expr.Symbol{Slot: base + i, Type: p.Type, MaxAge: p.MaxAge}
			if base != nArgs {
				sym.MaxAge = 0 // what was, stays
			}
			return sym, nil
		}
	}
	return expr.Symbol{}, fmt.Errorf("%s: no such argument or property of %s", name, s.class.Name)
}

func (s classScope) Tripped(group string) (int, error) {
	return 0, fmt.Errorf("tripped(%s) has no place in a class", group)
}

func compileSpec(id lab.CommandID, class *lab.Class, cs *lab.CommandSpec) (*spec, error) {
	s := &spec{CommandSpec: cs, id: id, class: class, gives: map[string]*expr.Program{}}
	scope := classScope{class, cs}
	for _, x := range []struct {
		src lab.Source
		to  **expr.Program
	}{{cs.Worst, &s.worst}, {cs.DoneWhen, &s.doneWhen}, {cs.Partial, &s.partial}} {
		if x.src.Text == "" {
			continue
		}
		p, err := expr.Compile(x.src, scope)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		*x.to = p
	}
	for _, g := range cs.Gives {
		if g.From.Text == "" {
			continue
		}
		p, err := expr.Compile(g.From, scope)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		s.gives[g.Name] = p
	}
	return s, nil
}

// env lays out the readings that the spec's expressions see. Readings that
// were received no later than after are left out: they say nothing about what
// was sent then.
func (s *spec) env(now, after time.Time, args map[string]lab.Value, read func(lab.PropertyID) lab.Reading, before []lab.Reading) *expr.Env {
	slots := make([]lab.Reading, len(s.Args)+2*len(s.class.Properties))
	for i, a := range s.Args {
		if v, ok := args[a.Name]; ok {
			slots[i] = lab.Reading{Value: v, Quality: lab.Good, Source: now, Received: now}
		}
	}
	for i, p := range s.class.Properties {
		r := read(lab.PropertyID{Instrument: s.id.Instrument, Component: s.id.Component, Property: p.Name})
		if r.Received.After(after) {
			slots[len(s.Args)+i] = r
		}
	}
	if before != nil {
		copy(slots[len(s.Args)+len(s.class.Properties):], before)
	}
	return &expr.Env{Now: now, Slots: slots}
}

// needsBefore reports whether the command is confirmed against what a property
// was before it.
func (s *spec) needsBefore(property string) bool {
	needs := func(p *expr.Program) bool { return p != nil && slices.Contains(p.Names(), "before."+property) }
	for _, p := range s.gives {
		if needs(p) {
			return true
		}
	}
	return needs(s.doneWhen) || needs(s.partial)
}

// properties of the component that a watch reads.
func (s *spec) properties() []lab.PropertyID {
	var ids []lab.PropertyID
	if s.doneWhen == nil && s.partial == nil {
		return nil
	}
	for _, p := range s.class.Properties {
		ids = append(ids, lab.PropertyID{Instrument: s.id.Instrument, Component: s.id.Component, Property: p.Name})
	}
	return ids
}

// worstTime is how long the command may take; def where the class says
// nothing that can be computed.
func (s *spec) worstTime(now time.Time, args map[string]lab.Value, def time.Duration) time.Duration {
	if s.worst != nil {
		env := s.env(now, now, args, func(lab.PropertyID) lab.Reading { return lab.Reading{} }, nil)
		if sec, ok := s.worst.Number(nil, env); ok && sec >= 0 && sec < 1e6 {
			return time.Duration(sec * float64(time.Second))
		}
	}
	if s.Within > 0 {
		return s.Within
	}
	return def
}
