package configs

import (
	"labgate/internal/strict"
	"labgate/lab"
)

// typeKeys are the keys that say of what type something is; exactly one of
// them stands there.
var typeKeys = []string{"unit", "type", "enum", "table"}

// plainTypes are the types that need no more than their name.
var plainTypes = map[string]lab.TypeKind{"bool": lab.Bool, "integer": lab.Integer, "text": lab.Text, "blob": lab.Blob}

// typeOf reads the type that a property, argument, result or setting
// declares. A Missing type was reported.
func (r reader) typeOf(f *strict.Fields, what string) lab.Type {
	if f.Pos() == (lab.Pos{}) {
		return lab.Type{} // it is no map, which was reported
	}
	var given []string
	for _, k := range typeKeys {
		if f.Get(k) != nil {
			given = append(given, k)
		}
	}
	if len(given) != 1 {
		r.add(f.Pos(), "missing_type", "give one of unit, type, enum and table", "%s has %d of the keys that say what it is", what, len(given))
		return lab.Type{}
	}
	n := f.Get(given[0])
	switch given[0] {
	case "unit":
		return lab.Type{Kind: lab.Number, Unit: r.unit(n)}
	case "enum":
		return r.enum(n, what)
	case "table":
		return r.table(n, what)
	}
	return lab.Type{Kind: plainTypes[r.word(n, "type", "bool", "integer", "text", "blob")]}
}

func (r reader) enum(n *strict.Node, what string) lab.Type {
	t := lab.Type{Kind: lab.Enum}
	seen := map[string]bool{}
	for _, e := range r.List(n) {
		s := r.Name(e, "name in an enum")
		if seen[s] {
			r.add(e.Pos(), "duplicate", "", "%q is in the enum of %s twice", s, what)
			continue
		}
		seen[s] = true
		t.Enum = append(t.Enum, s)
	}
	if len(t.Enum) == 0 || len(t.Enum) > maxEntries {
		r.add(n.Pos(), "bad_value", "", "the enum of %s has %d names; it needs 1 to %d", what, len(t.Enum), maxEntries)
	}
	return t
}

func (r reader) table(n *strict.Node, what string) lab.Type {
	t := lab.Type{Kind: lab.Table}
	for _, e := range r.entries(n, "table") {
		t.Columns = append(t.Columns, lab.Column{Name: r.name(e, "column"), Unit: r.unit(e.node)})
	}
	if len(t.Columns) == 0 {
		r.add(n.Pos(), "empty", "", "the table of %s has no columns", what)
	}
	return t
}

// bounds reads min, max and more_than. Beside a unit, a bare number is in
// that unit.
func (r reader) bounds(f *strict.Fields, p *lab.Param) {
	for _, b := range []struct {
		key string
		to  **lab.Value
	}{{"min", &p.Min}, {"max", &p.Max}, {"more_than", &p.MoreThan}} {
		n := f.Get(b.key)
		switch {
		case n == nil:
			continue
		case p.Type.Kind == lab.Missing:
			continue // reported; nothing to compare with
		case p.Type.Kind != lab.Number && p.Type.Kind != lab.Integer:
			r.add(n.Pos(), "wrong_type", "", "%s of %s: a %s has no bounds", b.key, p.Name, p.Type.Kind)
			continue
		}
		if v, ok := r.bound(n, p.Type, b.key+" of "+p.Name); ok {
			*b.to = &v
		}
	}
	switch {
	case p.Max == nil:
	case p.Min != nil && p.Min.Num > p.Max.Num:
		r.add(f.Get("max").Pos(), "empty_range", "", "max %s is below min %s: nothing would be allowed", p.Max, p.Min)
	case p.MoreThan != nil && p.MoreThan.Num >= p.Max.Num:
		r.add(f.Get("max").Pos(), "empty_range", "", "max %s is not above more_than %s: nothing would be allowed", p.Max, p.MoreThan)
	}
}

func (r reader) bound(n *strict.Node, t lab.Type, what string) (lab.Value, bool) {
	if t.Kind != lab.Number || !n.LooksNumeric() {
		return r.value(n, t, what)
	}
	before := len(r.Issues)
	v := lab.NumberValue(lab.Quantity{Value: r.Number(n), Unit: t.Unit})
	return v, len(r.Issues) == before
}
