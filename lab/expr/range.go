package expr

import (
	"slices"

	"labgate/lab"
)

// Truly is a bool that is one of some truth values.
func Truly(t Truths) Range {
	return Range{kind: lab.Bool, truths: t &^ setOf(Unknown), maybe: t&setOf(Unknown) != 0}
}

// Spanning is any number of the interval, in SI base units, of the dimension
// that this range of numbers has.
func (r Range) Spanning(i Interval) Range { return Within(i, r.unit) }

// Covers reports whether everything that may be in o may be in r.
func (r Range) Covers(o Range) bool {
	switch {
	case r.kind == lab.Missing:
		return true
	case r.kind != o.kind || o.maybe && !r.maybe:
		return false
	case r.kind == lab.Number:
		a, ok := r.Interval()
		b, also := o.Interval()
		return ok && also && r.unit.Dim() == o.unit.Dim() && a.Lo <= b.Lo && b.Hi <= a.Hi
	case r.kind == lab.Bool:
		return o.truths&^r.truths == 0
	}
	for _, w := range o.words {
		if !slices.Contains(r.words, w) {
			return false
		}
	}
	return true
}

// Known reports whether anything at all is told of it, and that it is never
// unknown.
func (r Range) Known() bool { return r.kind != lab.Missing && !r.maybe }

// Each is a range of choices or of a bool as the single values in it, the
// unknown one among them where it may be; nil for any other range.
func (r Range) Each() []Range {
	var list []Range
	switch r.kind {
	case lab.Enum:
		for _, w := range r.words {
			list = append(list, OneOf(w))
		}
	case lab.Bool:
		for _, t := range []Truth{False, True} {
			if r.truths.Has(t) {
				list = append(list, Range{kind: lab.Bool, truths: setOf(t)})
			}
		}
	}
	if len(list) > 0 && r.maybe {
		list = append(list, Exactly(lab.Value{}))
	}
	for i := range list {
		list[i].throughout = r.throughout
	}
	return list
}
