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

	reads       []lab.PropertyID // the component's properties, in the order of the class
	needsBefore []bool           // of them, whether the command is confirmed against what it was before
	scratch     expr.Env         // of env
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
	for _, p := range class.Properties {
		s.reads = append(s.reads, lab.PropertyID{Instrument: id.Instrument, Component: id.Component, Property: p.Name})
	}
	s.scratch.Slots = make([]lab.Reading, len(cs.Args)+2*len(s.reads))
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
	for _, p := range class.Properties {
		before := "before." + p.Name
		needs := uses(s.doneWhen, before) || uses(s.partial, before)
		for _, g := range s.gives {
			needs = needs || uses(g, before)
		}
		s.needsBefore = append(s.needsBefore, needs)
	}
	return s, nil
}

func uses(p *expr.Program, name string) bool { return p != nil && slices.Contains(p.Names(), name) }

// env lays out the readings that the spec's expressions see. Readings that
// were received no later than after are left out: they say nothing about what
// was sent then. It is good until the next call of env of the same spec.
func (s *spec) env(now, after time.Time, args map[string]lab.Value, read func(lab.PropertyID) lab.Reading, before []lab.Reading) *expr.Env {
	slots := s.scratch.Slots
	clear(slots)
	for i, a := range s.Args {
		if v, ok := args[a.Name]; ok {
			slots[i] = lab.Reading{Value: v, Quality: lab.Good, Source: now, Received: now}
		}
	}
	for i, id := range s.reads {
		if r := read(id); r.Received.After(after) {
			slots[len(s.Args)+i] = r
		}
	}
	if before != nil {
		copy(slots[len(s.Args)+len(s.reads):], before)
	}
	s.scratch.Now = now
	return &s.scratch
}

// properties of the component that a watch reads.
func (s *spec) properties() []lab.PropertyID {
	if s.doneWhen == nil && s.partial == nil {
		return nil
	}
	return s.reads
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
