package rulecases

import (
	"fmt"
	"strings"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// classView evaluates the expressions of a class's command over plain values.
type classView struct {
	class *lab.Class
	spec  *lab.CommandSpec
}

func newClassView(class *lab.Class, spec *lab.CommandSpec) *classView { return &classView{class, spec} }

// Lookup finds an argument, a property, self.x or before.x.
func (c *classView) Lookup(name string) (expr.Symbol, error) {
	for i, a := range c.spec.Args {
		if a.Name == name {
			return expr.Symbol{Slot: i, Type: a.Type}, nil
		}
	}
	base, plain := len(c.spec.Args), strings.TrimPrefix(name, "self.")
	if p, ok := strings.CutPrefix(name, "before."); ok {
		base, plain = base+len(c.class.Properties), p
	}
	for i, p := range c.class.Properties {
		if p.Name == plain {
			return expr.Symbol{Slot: base + i, Type: p.Type}, nil
		}
	}
	return expr.Symbol{}, fmt.Errorf("%s: no such name of %s", name, c.class.Name)
}

// Tripped has no place in a class.
func (c *classView) Tripped(group string) (int, error) {
	return 0, fmt.Errorf("tripped(%s) has no place in a class", group)
}

func (c *classView) env(args, now, before map[string]lab.Value) *expr.Env {
	at := time.Unix(1, 0)
	good := func(v lab.Value, ok bool) lab.Reading {
		if !ok {
			return lab.Reading{}
		}
		return lab.Reading{Value: v, Quality: lab.Good, Source: at, Received: at}
	}
	var slots []lab.Reading
	for _, a := range c.spec.Args {
		v, ok := args[a.Name]
		slots = append(slots, good(v, ok))
	}
	for _, from := range []map[string]lab.Value{now, before} {
		for _, p := range c.class.Properties {
			v, ok := from[p.Name]
			slots = append(slots, good(v, ok))
		}
	}
	return &expr.Env{Now: at, Slots: slots}
}

func (c *classView) value(src lab.Source, args, now, before map[string]lab.Value) (lab.Value, bool) {
	p, err := expr.Compile(src, c)
	if err != nil {
		// A word of an enumeration that stands alone.
		return lab.EnumValue(strings.TrimSpace(src.Text)), lab.ValidName(strings.TrimSpace(src.Text))
	}
	v := p.Value(nil, c.env(args, now, before))
	return v, v.Usable()
}

func (c *classView) truth(src lab.Source, args, now, before map[string]lab.Value) bool {
	p, err := expr.Compile(src, c)
	return err == nil && p.Truth(nil, c.env(args, now, before)) == expr.True
}
