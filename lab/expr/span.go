package expr

import "math"

// span is a closed range of numbers in some unit: what a number may be when
// its inputs are ranges or candidates. A single known number is a span of
// width zero.
//
// Its operations apply the very operations of single numbers to the ends. All
// of them, rounding included, are monotone in each argument, so the result for
// any single numbers within the arguments lies within the resulting span.
// Ends are finite; where a result may leave the finite numbers, where it would
// be unknown, the span says maybe.
type span struct {
	lo, hi float64
	none   bool // never known; lo and hi mean nothing
	maybe  bool // may be unknown
}

var (
	nothing    = span{none: true, maybe: true}
	everything = span{lo: -math.MaxFloat64, hi: math.MaxFloat64, maybe: true}
)

// point makes a span of one number; NaN, the unknown number, makes nothing.
func point(v float64) span {
	if v != v {
		return nothing
	}
	return span{lo: v, hi: v}
}

// known reports whether the span is sure to hold a number.
func (s span) known() bool { return !s.none && !s.maybe }

// finite is v, or NaN, the unknown number, where v is not finite.
func finite(v float64) float64 {
	if v-v != 0 {
		return math.NaN()
	}
	return v
}

// clip makes a span of two computed ends, either of which may have overflown.
func clip(lo, hi float64, maybe bool) span {
	switch {
	case lo != lo || hi != hi || lo == math.Inf(1) || hi == math.Inf(-1):
		return nothing
	case lo == math.Inf(-1) && hi == math.Inf(1):
		return everything
	case lo == math.Inf(-1):
		return span{lo: -math.MaxFloat64, hi: hi, maybe: true}
	case hi == math.Inf(1):
		return span{lo: lo, hi: math.MaxFloat64, maybe: true}
	}
	return span{lo: lo, hi: hi, maybe: maybe}
}

func (s span) neg() span {
	if s.none {
		return s
	}
	return span{lo: -s.hi, hi: -s.lo, maybe: s.maybe}
}

func (s span) add(o span) span {
	if s.none || o.none {
		return nothing
	}
	return clip(s.lo+o.lo, s.hi+o.hi, s.maybe || o.maybe)
}

func (s span) sub(o span) span {
	if s.none || o.none {
		return nothing
	}
	return clip(s.lo-o.hi, s.hi-o.lo, s.maybe || o.maybe)
}

func (s span) mul(o span) span {
	if s.none || o.none {
		return nothing
	}
	a, b, c, d := s.lo*o.lo, s.lo*o.hi, s.hi*o.lo, s.hi*o.hi
	return clip(min(a, b, c, d), max(a, b, c, d), s.maybe || o.maybe)
}

func (s span) div(o span) span {
	switch {
	case s.none || o.none || o.lo == 0 && o.hi == 0:
		return nothing
	case o.lo < 0 && o.hi > 0:
		return everything
	case o.lo == 0: // the divisor is positive, and zero is unknown
		return s.divEnd(o.hi)
	case o.hi == 0:
		return s.neg().divEnd(-o.lo)
	}
	a, b, c, d := s.lo/o.lo, s.lo/o.hi, s.hi/o.lo, s.hi/o.hi
	return clip(min(a, b, c, d), max(a, b, c, d), s.maybe || o.maybe)
}

// divEnd divides by everything from just above zero to hi.
func (s span) divEnd(hi float64) span {
	r := everything
	if s.lo >= 0 {
		r.lo = s.lo / hi
	}
	if s.hi <= 0 {
		r.hi = s.hi / hi
	}
	return clip(r.lo, r.hi, true)
}

func (s span) abs() span {
	switch {
	case s.none || s.lo >= 0:
		return s
	case s.hi <= 0:
		return s.neg()
	}
	return span{lo: 0, hi: max(-s.lo, s.hi), maybe: s.maybe}
}

func (s span) min(o span) span {
	if s.none || o.none {
		return nothing
	}
	return span{lo: min(s.lo, o.lo), hi: min(s.hi, o.hi), maybe: s.maybe || o.maybe}
}

func (s span) max(o span) span {
	if s.none || o.none {
		return nothing
	}
	return span{lo: max(s.lo, o.lo), hi: max(s.hi, o.hi), maybe: s.maybe || o.maybe}
}

// hull is the smallest span that holds both.
func (s span) hull(o span) span {
	switch {
	case s.none:
		o.maybe = true
		return o
	case o.none:
		s.maybe = true
		return s
	}
	return span{lo: min(s.lo, o.lo), hi: max(s.hi, o.hi), maybe: s.maybe || o.maybe}
}

// compare is the set of answers that a comparison may have.
func (s span) compare(o op, b span) Truths {
	if s.none || b.none {
		return setOf(Unknown)
	}
	var yes, no bool
	switch o {
	case opLT:
		yes, no = s.lo < b.hi, s.hi >= b.lo
	case opLE:
		yes, no = s.lo <= b.hi, s.hi > b.lo
	case opGT:
		yes, no = s.hi > b.lo, s.lo <= b.hi
	case opGE:
		yes, no = s.hi >= b.lo, s.lo < b.hi
	case opEQ, opNE:
		yes = s.lo <= b.hi && b.lo <= s.hi
		no = !(s.lo == s.hi && b.lo == b.hi && s.lo == b.lo)
		if o == opNE {
			yes, no = no, yes
		}
	}
	var r Truths
	if yes {
		r |= 1 << True
	}
	if no {
		r |= 1 << False
	}
	if s.maybe || b.maybe {
		r |= 1 << Unknown
	}
	return r
}

// settle is the answer over candidates: known only where all give the same.
func (s Truths) settle() Truth {
	switch s {
	case 1 << True:
		return True
	case 1 << False:
		return False
	}
	return Unknown
}

// agree is the range of candidates: the values that are in some set of at
// least need values no two of which are further apart than within. It is
// nothing where there is no such set. NaN is no value. vs is sorted in place.
//
// On a line, a set agrees if its extremes do, so a value is a candidate if it
// lies in some run of need neighbours, in order, whose ends agree.
func agree(vs []float64, need int, within float64) span {
	n := 0
	for _, v := range vs { // insertion sort of at most MaxArgs values
		if v != v {
			continue
		}
		i := n
		for ; i > 0 && vs[i-1] > v; i-- {
			vs[i] = vs[i-1]
		}
		vs[i] = v
		n++
	}
	r := nothing
	for i := 0; i+need <= n; i++ {
		if !(vs[i+need-1]-vs[i] <= within) {
			continue
		}
		if r.none {
			r = span{lo: vs[i]}
		}
		r.hi = vs[i+need-1]
	}
	return r
}
