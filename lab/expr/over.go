package expr

import (
	"math"
	"slices"

	"labgate/lab"
)

// Interval is what a number may be, in SI base units, both ends included.
type Interval struct {
	Lo, Hi float64
	Maybe  bool // it may also be unknown
}

// Range is what a reading may be. The zero Range is anything at all, known or
// not. A Range speaks of the readings at one time; only after Throughout does
// it speak of those that fill a window too.
type Range struct {
	kind       lab.TypeKind
	lo, hi     float64
	unit       lab.Unit
	si         bool // lo and hi are in SI base units; only the dimension of unit counts
	truths     Truths
	words      []string
	maybe      bool
	throughout bool
}

// Between is any number from lo to hi. Ends of different dimension, in the
// wrong order or not finite tell nothing.
func Between(lo, hi lab.Quantity) Range {
	h, err := hi.In(lo.Unit)
	if err != nil || !lo.Finite() || !h.Finite() || lo.Value > h.Value {
		return Range{}
	}
	return Range{kind: lab.Number, lo: lo.Value, hi: h.Value, unit: lo.Unit}
}

// Within is any number of the interval, of the dimension of a unit.
func Within(i Interval, unit lab.Unit) Range {
	r := Between(lab.Quantity{Value: i.Lo, Unit: unit}, lab.Quantity{Value: i.Hi, Unit: unit})
	r.si, r.maybe = r.kind == lab.Number, i.Maybe
	return r
}

// Exactly is one value. A missing or unusable one is always unknown; of text,
// tables and blobs nothing is told.
func Exactly(v lab.Value) Range {
	switch {
	case !v.Usable():
		return Range{kind: lab.Bool, maybe: true} // no value at all
	case v.Kind == lab.Number || v.Kind == lab.Integer:
		return Range{kind: lab.Number, lo: v.Num, hi: v.Num, unit: v.Unit}
	case v.Kind == lab.Bool:
		return Range{kind: lab.Bool, truths: setOf(truthOf(v.Bool))}
	case v.Kind == lab.Enum:
		return OneOf(v.Text)
	}
	return Range{}
}

// OneOf is one of some names of an enumeration.
func OneOf(names ...string) Range { return Range{kind: lab.Enum, words: slices.Clone(names)} }

// EitherWay is a bool that is known but may be both.
func EitherWay() Range { return Range{kind: lab.Bool, truths: setOf(False, True)} }

// OrUnknown adds that the reading may be unknown.
func (r Range) OrUnknown() Range {
	r.maybe = true
	return r
}

// Throughout promises that every reading which is in a window at the time has
// been within the range. Without it a window's value may be anything.
func (r Range) Throughout() Range {
	r.throughout = true
	return r
}

// Union is what may be in either; anything, where they are of different types.
func (r Range) Union(o Range) Range {
	u := Range{kind: r.kind, unit: r.unit, si: r.si, maybe: r.maybe || o.maybe, throughout: r.throughout && o.throughout}
	switch {
	case r.kind != o.kind:
		return Range{}
	case r.kind == lab.Number:
		if r.unit.Dim() != o.unit.Dim() {
			return Range{}
		}
		a, b := r.ends(r.unit, r.si), o.ends(r.unit, r.si)
		if b.none {
			return Range{} // too great for this unit
		}
		u.lo, u.hi = min(a.lo, b.lo), max(a.hi, b.hi)
	case r.kind == lab.Bool:
		u.truths = r.truths | o.truths
	case r.kind == lab.Enum:
		u.words = slices.Clone(r.words)
		for _, w := range o.words {
			if !slices.Contains(u.words, w) {
				u.words = append(u.words, w)
			}
		}
	}
	return u
}

// Interval is a number's range in SI base units; ok is false for any other
// type, where nothing is told, and where the numbers are too great for it.
func (r Range) Interval() (i Interval, ok bool) {
	if r.kind != lab.Number {
		return Interval{}, false
	}
	s := r.ends(r.unit, true)
	return Interval{s.lo, s.hi, s.maybe}, !s.none
}

// ends brings a range of numbers to a unit of its dimension, or to SI base
// units. A conversion rounds, and perhaps not as the reading's own does, so it
// widens the range by more than that.
func (r Range) ends(u lab.Unit, si bool) span {
	if si == r.si && (si || u == r.unit) {
		return span{lo: r.lo, hi: r.hi, maybe: r.maybe}
	}
	to := func(v float64) float64 {
		switch {
		case si:
			return r.unit.ToBase(v)
		case r.si:
			return u.FromBase(v)
		}
		return raw(v, r.unit, u)
	}
	offset := 0.0
	if u.Dim().Point { // more than that of any scale, in any of its units
		offset = 600
	}
	slack := func(v float64) float64 { return 4e-15*(math.Abs(v)+offset) + math.SmallestNonzeroFloat64 }
	lo, hi := to(r.lo), to(r.hi)
	// The reading's own conversion may overflow on its way where this one
	// does not.
	vast := math.Abs(lo) > 1e200 || math.Abs(hi) > 1e200
	return clip(lo-slack(lo), hi+slack(hi), r.maybe || vast)
}

// over evaluates the tree over ranges. It is for load and preflight, not for
// the hot path.
type over struct {
	p     *Program
	slots []Range
}

func (o over) slot(n *node) Range {
	if s := o.p.refs[n.ref].slot; s < len(o.slots) {
		return o.slots[s]
	}
	return Range{}
}

// TruthOver tells how a condition fares for all readings within the ranges,
// indexed by Symbol.Slot; a slot beyond the end may be anything. A program
// that is no condition gives Maybe.
func (p *Program) TruthOver(slots []Range) Prospect { return p.TruthsOver(slots).prospect() }

// TruthsOver is every truth value that a condition may have for readings
// within the ranges, and perhaps some that it can't.
func (p *Program) TruthsOver(slots []Range) Truths {
	if p.root.typ.Kind != lab.Bool {
		return anyTruth
	}
	return over{p, slots}.truths(p.root)
}

// NumberOver is what a number may be for readings within the ranges, in SI
// base units. ok is false where it is never known, or no number. Where
// candidates of a vote may differ, the interval holds all of them.
func (p *Program) NumberOver(slots []Range) (i Interval, ok bool) {
	r, ok := p.RangeOver(slots)
	if !ok {
		return Interval{}, false
	}
	return r.Interval()
}

// RangeOver is what the result may be for readings within the ranges, in the
// program's own unit: to be put in the place of a reading for the next
// program. ok is false for text, tables and blobs.
func (p *Program) RangeOver(slots []Range) (r Range, ok bool) {
	o, t := over{p, slots}, p.root.typ
	switch t.Kind {
	case lab.Bool:
		s := o.truths(p.root)
		return Range{kind: lab.Bool, truths: s &^ (1 << Unknown), maybe: s.Has(Unknown)}, true
	case lab.Number, lab.Integer:
		s := o.number(p.root)
		if s.none {
			return Exactly(lab.Value{}), true
		}
		maybe := s.maybe || p.root.band && s.lo != s.hi
		return Range{kind: lab.Number, lo: s.lo, hi: s.hi, unit: t.Unit, maybe: maybe}, true
	case lab.Enum:
		set, maybe := o.words(p.root)
		r = Range{kind: lab.Enum, maybe: maybe}
		for i, in := range set {
			if in {
				r.words = append(r.words, t.Enum[i])
			}
		}
		return r, true
	}
	return Range{}, false
}

// number is the span of a number, in its node's unit.
func (o over) number(n *node) span {
	switch n.op {
	case opNumber:
		return point(finite(n.num))
	case opName:
		return o.reading(n)
	case opAge, opRate:
		return everything
	case opMean:
		return o.mean(n)
	case opVoted:
		return o.voted(n)
	case opNeg, opAbs, opConv:
		return n.unary(o.number(n.kids[0]))
	}
	s := o.number(n.kids[0])
	for _, k := range n.kids[1:] {
		s = n.binary(s, o.number(k))
	}
	return s
}

func (o over) reading(n *node) span {
	r, want := o.slot(n), n.typ.Unit
	switch {
	case r.kind == lab.Missing:
		return everything
	case r.kind != lab.Number || r.unit.Dim() != want.Dim():
		return nothing // wrong type: unknown
	}
	return r.ends(want, false)
}

// mean lies between the least and the greatest sample, but for rounding.
func (o over) mean(n *node) span {
	for _, i := range n.kids[0].reads(nil) {
		if s := o.p.refs[i].slot; s >= len(o.slots) || !o.slots[s].throughout {
			return everything
		}
	}
	s := o.number(n.kids[0])
	if s.none {
		return nothing
	}
	slack := 1e-12 * max(math.Abs(s.lo), math.Abs(s.hi))
	return clip(s.lo-slack, s.hi+slack, true)
}

// voted lies within all of its readings. It is sure to be known only if
// enough of them are, and can't help but agree.
func (o over) voted(n *node) span {
	all, sure := nothing, nothing
	count, certain := 0, 0
	for _, k := range n.kids {
		s := o.number(k)
		if s.none {
			continue
		}
		count++
		all = join(all, s)
		if !s.maybe {
			certain++
			sure = join(sure, s)
		}
	}
	if count < n.need {
		return nothing
	}
	all.maybe = !(certain >= n.need && sure.hi-sure.lo <= n.within)
	return all
}

func join(a, b span) span {
	if a.none {
		return b
	}
	return a.hull(b)
}

// truths is the set of truth values of a condition.
func (o over) truths(n *node) Truths {
	switch n.op {
	case opBool:
		return setOf(truthOf(n.text == "true"))
	case opName:
		return o.condition(n)
	case opNot:
		return o.truths(n.kids[0]).not()
	case opAnd, opOr:
		f := and
		if n.op == opOr {
			f = or
		}
		s := o.truths(n.kids[0])
		for _, k := range n.kids[1:] {
			s = s.combine(o.truths(k), f)
		}
		return s
	case opVote:
		return o.vote(n)
	case opStuck:
		return anyTruth
	case opHeld:
		s := o.truths(n.kids[0])
		if s.Has(True) {
			return anyTruth
		}
		return s
	}
	return o.comparison(n)
}

func (o over) condition(n *node) Truths {
	r := o.slot(n)
	switch {
	case r.kind == lab.Missing:
		return anyTruth
	case r.kind != lab.Bool:
		return setOf(Unknown)
	case r.maybe:
		return r.truths | setOf(Unknown)
	}
	return r.truths
}

// vote counts how many conditions are true, and how many false, at least and
// at most.
func (o over) vote(n *node) Truths {
	var yes, no, mayYes, mayNo, unsure int
	for _, k := range n.kids {
		s := o.truths(k)
		if s.Has(Unknown) {
			unsure++
		}
		if s == setOf(True) {
			yes++
		}
		if s == setOf(False) {
			no++
		}
		if s.Has(True) {
			mayYes++
		}
		if s.Has(False) {
			mayNo++
		}
	}
	fail := len(n.kids) - n.need + 1 // so many false ones make it false
	var r Truths
	if mayYes >= n.need {
		r |= setOf(True)
	}
	if mayNo >= fail {
		r |= setOf(False)
	}
	if yes < n.need && no < fail && unsure > 0 {
		r |= setOf(Unknown)
	}
	return r
}

func (o over) comparison(n *node) Truths {
	a, b := n.kids[0], n.kids[1]
	switch a.typ.Kind {
	case lab.Bool:
		s := o.truths(a).combine(o.truths(b), same)
		if n.op == opNE {
			return s.not()
		}
		return s
	case lab.Enum:
		return o.equality(n)
	}
	s := o.number(a).compare(n.op, o.number(b))
	if n.band && s.Has(True) && s.Has(False) {
		s |= setOf(Unknown) // candidates may differ on it
	}
	return s
}

// words is the set of names that an enumeration may have.
func (o over) words(n *node) (set []bool, maybe bool) {
	set = make([]bool, len(n.typ.Enum))
	r := Range{}
	switch n.op {
	case opWord:
		set[n.index] = true
		return set, false
	case opName:
		r = o.slot(n)
	}
	maybe = r.kind == lab.Missing || r.maybe
	for i, w := range n.typ.Enum {
		set[i] = r.kind == lab.Missing || r.kind == lab.Enum && slices.Contains(r.words, w)
	}
	for _, w := range r.words {
		maybe = maybe || !slices.Contains(n.typ.Enum, w)
	}
	return set, maybe || r.kind != lab.Enum
}

func (o over) equality(n *node) Truths {
	a, am := o.words(n.kids[0])
	b, bm := o.words(n.kids[1])
	var s Truths
	for i, x := range a {
		for j, y := range b {
			if x && y {
				s |= setOf(truthOf((i == j) == (n.op == opEQ)))
			}
		}
	}
	if am || bm {
		s |= setOf(Unknown)
	}
	return s
}
