package protocols

import (
	"strings"

	"labgate/internal/strict"
	"labgate/lab"
)

// typeOf reads the one key that says of what type an input or output is. A
// Missing type was reported.
func (r *parser) typeOf(f *strict.Fields, what string, keys ...string) lab.Type {
	var given []string
	for _, k := range keys {
		if f.Get(k) != nil {
			given = append(given, k)
		}
	}
	if len(given) != 1 {
		r.add(f.Pos(), "missing_type", "give one of "+strings.Join(keys, ", "), "%s has %d of the keys that say what it is", what, len(given))
		return lab.Type{}
	}
	n := f.Get(given[0])
	switch given[0] {
	case "unit":
		return r.unit(n)
	case "choices":
		return r.choices(n, what)
	case "table":
		t := lab.Type{Kind: lab.Table}
		for _, e := range r.entries(n, "table", maxText) {
			r.name("column", e.key, e.pos)
			t.Columns = append(t.Columns, lab.Column{Name: e.key, Unit: r.unit(e.node).Unit})
		}
		return t
	case "image":
		if !r.Bool(n) {
			r.add(n.Pos(), "bad_value", "leave it out", "image is true, or not there")
		}
		return lab.Type{Kind: lab.Blob}
	}
	return r.plainType(n, what, keys)
}

func (r *parser) unit(n *strict.Node) lab.Type {
	before := len(r.Issues)
	text := r.Text(n)
	if n == nil || len(r.Issues) > before {
		return lab.Type{}
	}
	u, err := lab.ParseUnit(text)
	if err != nil {
		r.add(n.Pos(), "bad_unit", lab.UnitHint(err), "%v", err)
		return lab.Type{}
	}
	return lab.Type{Kind: lab.Number, Unit: u}
}

// plainType reads a type that needs no more than its name. Text is for outputs
// only: no input is text.
func (r *parser) plainType(n *strict.Node, what string, keys []string) lab.Type {
	kinds := map[string]lab.TypeKind{"bool": lab.Bool, "integer": lab.Integer}
	names := []string{"bool", "integer"}
	for _, k := range keys {
		if k == "table" { // an output
			kinds["text"], names = lab.Text, append(names, "text")
		}
	}
	before := len(r.Issues)
	word := r.Text(n)
	if len(r.Issues) > before {
		return lab.Type{}
	}
	if kinds[word] == lab.Missing {
		hint := r.near(word, names)
		if hint == "" {
			hint = "one of " + strings.Join(names, ", ")
		}
		r.add(n.Pos(), "bad_value", hint, "%s: %q is not a type", what, word)
	}
	return lab.Type{Kind: kinds[word]}
}

func (r *parser) choices(n *strict.Node, what string) lab.Type {
	t := lab.Type{Kind: lab.Enum}
	seen := map[string]bool{}
	list := r.list(n, "choices", maxText)
	for _, c := range list {
		s := r.Name(c, "choice")
		if seen[s] {
			r.add(c.Pos(), "duplicate", "", "%q is among the choices of %s twice", s, what)
		}
		seen[s] = true
		t.Enum = append(t.Enum, s)
	}
	if n.IsList() && len(list) == 0 {
		r.add(n.Pos(), "empty", "", "%s has no choices", what)
	}
	return t
}

func (r *parser) input(e entry) Input {
	in := Input{Name: e.key, Pos: e.pos}
	r.name("input", e.key, e.pos)
	f := r.Map(e.node, "protocol input", "unit", "type", "choices", "min", "max", "default", "about")
	if e.node.Kind() != strict.Map {
		return in // reported
	}
	in.About = r.text(f.Get("about"), "about", maxAbout)
	in.Type = r.typeOf(f, "input "+e.key, "unit", "type", "choices")
	number := in.Type.Kind == lab.Number || in.Type.Kind == lab.Integer
	for _, b := range []struct {
		key string
		to  **lab.Value
	}{{"min", &in.Min}, {"max", &in.Max}, {"default", &in.Default}} {
		n := f.Get(b.key)
		switch {
		case n == nil || in.Type.Kind == lab.Missing:
		case !number && b.key != "default":
			r.add(n.Pos(), "wrong_type", "", "%s of %s: only numbers have bounds", b.key, e.key)
		default:
			if v, ok := r.value(n, in.Type, b.key+" of "+e.key, true); ok {
				*b.to = &v
			}
		}
	}
	if in.Min != nil && in.Max != nil && in.Min.Num > in.Max.Num {
		r.add(f.Get("max").Pos(), "empty_range", "", "max of %s is %s, min is %s: nothing would be allowed", e.key, in.Max, in.Min)
	} else if in.Default != nil {
		if i, bad := in.param().CheckBounds(*in.Default); bad {
			r.add(f.Get("default").Pos(), "out_of_bounds", "", "default of %s is %s; %s is allowed", e.key, in.Default, i.Allowed)
		}
	}
	return in
}

// param is the input as a parameter, for its bounds.
func (in *Input) param() *lab.Param {
	return &lab.Param{Name: in.Name, Type: in.Type, Min: in.Min, Max: in.Max}
}

func (r *parser) output(e entry) Output {
	o := Output{Name: e.key, Pos: e.pos}
	r.name("output", e.key, e.pos)
	f := r.Map(e.node, "protocol output", "unit", "type", "choices", "table", "image", "from", "rows", "of", "required", "about")
	if e.node.Kind() != strict.Map {
		return o // reported
	}
	o.About = r.text(f.Get("about"), "about", maxAbout)
	o.Type = r.typeOf(f, "output "+e.key, "unit", "type", "choices", "table", "image")
	o.Required = r.Bool(f.Get("required"))
	r.rows(&o, f)
	if f.Get("rows") != nil || f.Get("of") != nil {
		return o
	}
	if n := f.Require("from"); n != nil {
		o.from = r.source(n)
	}
	return o
}

// value reads a value of a type. ok is false where it was reported. With
// inUnit a bare number is in the type's unit.
func (r *parser) value(n *strict.Node, t lab.Type, what string, inUnit bool) (lab.Value, bool) {
	before := len(r.Issues)
	var v lab.Value
	switch t.Kind {
	case lab.Number:
		v = r.number(n, t, what, inUnit)
	case lab.Integer:
		v = lab.IntegerValue(r.Int(n))
	case lab.Bool:
		v = lab.BoolValue(r.Bool(n))
	case lab.Enum:
		v = lab.EnumValue(r.Text(n))
	case lab.Text:
		v = lab.TextValue(r.Text(n))
	default:
		r.add(n.Pos(), "wrong_type", "", "%s: a %s can't be written in a file", what, t.Kind)
	}
	if len(r.Issues) > before {
		return lab.Value{}, false
	}
	conformed, err := t.Conform(v)
	switch {
	case err == nil:
		return conformed, true
	case t.Kind == lab.Number:
		r.add(n.Pos(), "wrong_dimension", "", "%s: %v", what, err)
	case t.Kind == lab.Enum:
		r.add(n.Pos(), "bad_value", r.near(v.Text, t.Enum), "%s: %v", what, err)
	default:
		r.add(n.Pos(), "wrong_type", "", "%s: %v", what, err)
	}
	return lab.Value{}, false
}

// number reads a quantity. A bare number is dimensionless, or in the type's
// unit with inUnit.
func (r *parser) number(n *strict.Node, t lab.Type, what string, inUnit bool) lab.Value {
	switch {
	case n.LooksNumeric() && inUnit:
		return lab.NumberValue(lab.Quantity{Value: r.Number(n), Unit: t.Unit})
	case n.LooksNumeric() && t.Unit.Dim() == lab.None:
		return lab.NumberValue(lab.Quantity{Value: r.Number(n)})
	case n.LooksNumeric():
		r.add(n.Pos(), "no_unit", "write "+n.Text()+" "+t.Unit.String(), "%s: %s has no unit; a %s is wanted", what, n.Text(), t)
		return lab.Value{}
	case startsWithLetter(n.Text()):
		r.add(n.Pos(), "wrong_type", "a name or a formula stands after =, as in: = "+n.Text(), "%s: %q is no quantity; a %s is wanted", what, n.Text(), t)
		return lab.Value{}
	}
	return lab.NumberValue(r.Quantity(n))
}

func startsWithLetter(s string) bool {
	return s != "" && (s[0]|0x20 >= 'a' && s[0]|0x20 <= 'z')
}
