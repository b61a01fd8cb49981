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
