package protocols

import (
	"fmt"
	"strings"

	"labgate/internal/strict"
	"labgate/lab"
)

// Span is what a role's instrument must allow: every value from Min to Max, of
// an argument of its commands or of a property.
type Span struct {
	Name     string // as written: target, heat.target
	Min, Max *lab.Value
	Pos      lab.Pos

	of []spanOf
}

// spanOf is one thing that a span speaks of.
type spanOf struct {
	class         *lab.Class
	command, name string // command empty: a property
}

// spans reads a role's range.
func (r *parser) spans(role *Role, n *strict.Node) {
	for _, e := range r.entries(n, "range", maxText) {
		f := r.Map(e.node, "range", "min", "max")
		if e.node.Kind() != strict.Map || role.broken {
			continue
		}
		x := Span{Name: e.key, Pos: e.pos}
		t, param := r.spanned(role, &x)
		if t.Kind == lab.Missing {
			continue // reported
		}
		for _, end := range []struct {
			key string
			to  **lab.Value
		}{{"min", &x.Min}, {"max", &x.Max}} {
			node := f.Get(end.key)
			if node == nil {
				continue
			}
			v, ok := r.value(node, t, end.key+" of "+e.key, true)
			if !ok {
				continue
			}
			*end.to = &v
			if param == nil {
				continue
			}
			if i, bad := param.CheckBounds(v); bad {
				r.add(node.Pos(), "out_of_bounds", "", "%s of %s is %s; no %s goes there: %s is allowed", end.key, e.key, v, role.classNames(), i.Allowed)
			}
		}
		switch {
		case f.Get("min") == nil && f.Get("max") == nil:
			r.add(e.pos, "missing_key", "as in {min: 20 degC, max: 90 degC}", "range of %s has no end", e.key)
		case x.Min != nil && x.Max != nil && x.Min.Num > x.Max.Num:
			r.add(f.Get("max").Pos(), "empty_range", "", "max of %s is %s, min is %s: there is nothing between", e.key, x.Max, x.Min)
		}
		role.Ranges = append(role.Ranges, x)
	}
}

// spanned finds what a span speaks of: the arguments of that name of all
// commands, or of one (heat.target), or else a property.
func (r *parser) spanned(role *Role, x *Span) (t lab.Type, param *lab.Param) {
	command, arg, dotted := strings.Cut(x.Name, ".")
	if !dotted {
		command, arg = "", x.Name
	}
	var names []string
	for _, c := range role.Classes {
		for i := range c.Commands {
			spec := &c.Commands[i]
			for j := range spec.Args {
				names = append(names, spec.Name+"."+spec.Args[j].Name)
				if a := &spec.Args[j]; a.Name == arg && (command == "" || command == spec.Name) {
					x.of = append(x.of, spanOf{c, spec.Name, arg})
					t, param = a.Type, a
				}
			}
		}
	}
	for _, c := range role.Classes {
		for i := range c.Properties {
			names = append(names, c.Properties[i].Name)
		}
		if p := c.Property(x.Name); p != nil && len(x.of) == 0 {
			x.of, t = append(x.of, spanOf{c, "", p.Name}), p.Type
		}
	}
	switch {
	case len(x.of) == 0:
		r.add(x.Pos, "unknown_name", r.near(x.Name, names), "a %s has no argument and no property %q", role.classNames(), clip(x.Name))
		return lab.Type{}, nil
	case t.Kind != lab.Number && t.Kind != lab.Integer:
		r.add(x.Pos, "wrong_type", "", "%s is %s; only numbers have a range", x.Name, kinds[t.Kind])
		return lab.Type{}, nil
	}
	return t, param
}

// short says what an instrument does not allow of a role's ranges; empty where
// it allows all of them.
func short(role *Role, in *lab.Instrument) string {
	for i := range role.Ranges {
		x := &role.Ranges[i]
		for _, of := range x.of {
			comp := component(in, of.class)
			if comp == nil {
				continue
			}
			for j := range in.Limits {
				l := &in.Limits[j]
				mine := l.Component == comp.Name && (of.command != "" && l.Name == of.command && l.Arg == of.name || of.command == "" && l.Name == of.name && l.Arg == "")
				if !mine {
					continue
				}
				name := strings.TrimPrefix(of.command+"."+of.name, ".")
				switch {
				case x.Min != nil && l.Min != nil && x.Min.Base() < l.Min.Base():
					return fmt.Sprintf("%s allows %s of %s and more", in.Name, name, l.Min)
				case x.Max != nil && l.Max != nil && x.Max.Base() > l.Max.Base():
					return fmt.Sprintf("%s allows %s up to %s", in.Name, name, l.Max)
				}
			}
		}
	}
	return ""
}

func (x *Span) String() string {
	switch {
	case x.Min == nil:
		return fmt.Sprintf("%s up to %s", x.Name, x.Max)
	case x.Max == nil:
		return fmt.Sprintf("%s from %s", x.Name, x.Min)
	}
	return fmt.Sprintf("%s from %s to %s", x.Name, x.Min, x.Max)
}
