package expr

import (
	"math"
	"slices"
	"strings"
	"time"

	"labgate/lab"
)

// naive evaluates the parsed, unchecked tree by walking it, with quantities
// that carry their units and with the whole history in memory. It is slow and
// plain on purpose, and shares nothing with the compiled form but the parser.
type naive struct {
	scope   MapScope
	moments []moment
	memo    map[naiveKey]nval
}

// moment is the state of the world from a time on.
type moment struct {
	now   time.Time
	slots []lab.Reading
}

type naiveKey struct {
	n *node
	m int
}

// nval is a number (lo to hi in unit), a truth or a word. A number that is not
// known still has its unit.
type nval struct {
	known  bool
	lo, hi float64
	unit   lab.Unit
	truth  Truth
	word   string
}

func unknownIn(u lab.Unit) nval { return nval{unit: u} }

func number(lo, hi float64, u lab.Unit) nval {
	ok := !math.IsNaN(lo) && !math.IsNaN(hi) && !math.IsInf(lo, 0) && !math.IsInf(hi, 0)
	return nval{known: ok, lo: lo, hi: hi, unit: u}
}

func (v nval) in(u lab.Unit) nval {
	if v.unit == u {
		return v
	}
	if !v.known {
		return unknownIn(u)
	}
	lo, err := lab.Quantity{Value: v.lo, Unit: v.unit}.In(u)
	if err != nil {
		panic(err)
	}
	hi, _ := lab.Quantity{Value: v.hi, Unit: v.unit}.In(u)
	return number(lo.Value, hi.Value, u)
}

// eval is the value of a node at a moment.
func (e *naive) eval(n *node, m int) nval {
	key := naiveKey{n, m}
	if v, ok := e.memo[key]; ok {
		return v
	}
	v := e.fresh(n, m)
	e.memo[key] = v
	return v
}

func (e *naive) fresh(n *node, m int) nval {
	kid := func(i int) nval { return e.eval(n.kids[i], m) }
	switch n.op {
	case opNumber:
		return number(n.num, n.num, n.unit)
	case opBool:
		return nval{truth: truthOf(n.text == "true")}
	case opName:
		return e.name(n.text, m)
	case opNot:
		return nval{truth: kid(0).truth.Not()}
	case opAnd, opOr:
		return e.logic(n, m)
	case opNeg:
		v := kid(0)
		return nval{known: v.known, lo: -v.hi, hi: -v.lo, unit: v.unit}
	case opAdd, opSub, opMul, opDiv:
		return arith(n.op, kid(0), kid(1), reads(n.kids[0]) == 0 && reads(n.kids[1]) > 0)
	case opCall:
		return e.call(n, m)
	}
	return nval{truth: e.compare(n, m)}
}

func reads(n *node) int {
	if n.op == opName {
		return 1
	}
	c := 0
	for _, k := range n.kids {
		c += reads(k)
	}
	return c
}

// why a reading counts, written out from the definition.
func usableNaive(s Symbol, r lab.Reading, now time.Time) bool {
	if r.Value.Kind == lab.Missing || r.Quality != lab.Good {
		return false
	}
	if s.MaxAge > 0 {
		if r.Received.IsZero() || r.Received.Sub(now) > time.Second || now.Sub(r.Received) > s.MaxAge {
			return false
		}
		if !r.Source.IsZero() && now.Sub(r.Source) > s.MaxAge {
			return false
		}
	}
	v := r.Value
	finite := !math.IsNaN(v.Num) && !math.IsInf(v.Num, 0)
	switch s.Type.Kind {
	case lab.Number:
		return finite && (v.Kind == lab.Number || v.Kind == lab.Integer) && v.Unit.Dim() == s.Type.Unit.Dim()
	case lab.Integer:
		return finite && v.Kind == lab.Integer && math.Mod(v.Num, 1) == 0
	case lab.Enum:
		return v.Kind == lab.Enum && slices.Contains(s.Type.Enum, v.Text)
	}
	return v.Kind == s.Type.Kind
}

func (e *naive) read(name string, m int) (Symbol, lab.Reading) {
	s := e.scope[name]
	var r lab.Reading
	if s.Slot < len(e.moments[m].slots) {
		r = e.moments[m].slots[s.Slot]
	}
	return s, r
}

func (e *naive) name(name string, m int) nval {
	s, r := e.read(name, m)
	v := unknownIn(s.Type.Unit)
	if !usableNaive(s, r, e.moments[m].now) {
		return v
	}
	switch s.Type.Kind {
	case lab.Bool:
		v.truth = truthOf(r.Value.Bool)
	case lab.Enum:
		v.word = r.Value.Text
	default:
		v = number(r.Value.Num, r.Value.Num, r.Value.Unit).in(s.Type.Unit)
	}
	return v
}

// arith computes all corners; constLeft says whether the left operand is a
// constant beside a right one that is not.
func arith(o op, a, b nval, constLeft bool) nval {
	da, db := a.unit.Dim(), b.unit.Dim()
	var unit lab.Unit
	switch {
	case (o == opAdd || o == opSub) && (da.Point || db.Point):
		unit = kelvin
		d, _ := da.Add(db)
		if o == opSub {
			d, _ = da.Sub(db)
		}
		if d.Point {
			unit = lab.DegC
		}
		for _, v := range []*nval{&a, &b} {
			if v.unit.Dim().Point {
				*v = v.in(lab.DegC)
			} else {
				*v = v.in(kelvin)
			}
		}
	case o == opAdd || o == opSub || o == opDiv && da == db && da != lab.None:
		unit = a.unit
		if constLeft {
			unit = b.unit
		}
		a, b = a.in(unit), b.in(unit)
		if o == opDiv {
			unit = lab.One
		}
	case db == lab.None && da != lab.None:
		unit, b = a.unit, b.in(lab.One)
	case da == lab.None && db != lab.None && o == opMul:
		unit, a = b.unit, a.in(lab.One)
	default:
		d, _ := da.Mul(db)
		if o == opDiv {
			d, _ = da.Div(db)
		}
		unit, a, b = baseUnit(d), a.in(baseUnit(da)), b.in(baseUnit(db))
	}
	if !a.known || !b.known || o == opDiv && b.lo <= 0 && b.hi >= 0 {
		return unknownIn(unit)
	}
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, x := range []float64{a.lo, a.hi} {
		for _, y := range []float64{b.lo, b.hi} {
			r := map[op]float64{opAdd: x + y, opSub: x - y, opMul: x * y, opDiv: x / y}[o]
			if math.IsNaN(r) || math.IsInf(r, 0) {
				return unknownIn(unit)
			}
			lo, hi = math.Min(lo, r), math.Max(hi, r)
		}
	}
	return number(lo, hi, unit)
}

func (e *naive) logic(n *node, m int) nval {
	count := map[Truth]int{}
	for _, k := range n.kids {
		count[e.eval(k, m).truth]++
	}
	settles, all := False, True
	if n.op == opOr {
		settles, all = True, False
	}
	switch {
	case count[settles] > 0:
		return nval{truth: settles}
	case count[Unknown] > 0:
		return nval{}
	}
	return nval{truth: all}
}

func (e *naive) compare(n *node, m int) Truth {
	l, r := n.kids[0], n.kids[1]
	if w, ok := e.words(l, r, m); ok {
		switch {
		case w[0] == "" || w[1] == "":
			return Unknown
		case n.op == opEQ:
			return truthOf(w[0] == w[1])
		}
		return truthOf(w[0] != w[1])
	}
	a, b := e.eval(l, m), e.eval(r, m)
	if e.isBool(l) {
		switch {
		case a.truth == Unknown || b.truth == Unknown:
			return Unknown
		case n.op == opEQ:
			return truthOf(a.truth == b.truth)
		}
		return truthOf(a.truth != b.truth)
	}
	unit := a.unit
	if reads(l) == 0 && reads(r) > 0 {
		unit = b.unit
	}
	a, b = a.in(unit), b.in(unit)
	if !a.known || !b.known {
		return Unknown
	}
	test := func(x, y float64) bool {
		return map[op]bool{opLT: x < y, opLE: x <= y, opGT: x > y, opGE: x >= y, opEQ: x == y, opNE: x != y}[n.op]
	}
	// Every pair of ends has to say the same; equality must not hide in
	// between.
	first := test(a.lo, b.lo)
	for _, p := range [][2]float64{{a.lo, b.hi}, {a.hi, b.lo}, {a.hi, b.hi}} {
		if test(p[0], p[1]) != first {
			return Unknown
		}
	}
	wide := a.lo < a.hi || b.lo < b.hi
	if wide && (n.op == opEQ || n.op == opNE) && a.lo <= b.hi && b.lo <= a.hi {
		return Unknown
	}
	return truthOf(first)
}

// words are the two names of a comparison of enumerations.
func (e *naive) words(l, r *node, m int) (w [2]string, ok bool) {
	isWord := func(n *node) bool {
		return n.op == opCall && n.text == "quality" || n.op == opName && e.scope[n.text].Type.Kind == lab.Enum
	}
	for i, n := range []*node{l, r} {
		switch {
		case isWord(n):
			w[i], ok = e.eval(n, m).word, true
		case n.op == opName && e.scope[n.text].Type.Kind == lab.Missing:
			w[i] = n.text
		}
	}
	return w, ok
}

func (e *naive) isBool(n *node) bool {
	switch n.op {
	case opName:
		return e.scope[n.text].Type.Kind == lab.Bool
	case opCall:
		return strings.Contains("held vote tripped stuck_for", n.text)
	}
	return n.op == opBool || n.op >= opLT && n.op <= opOr
}

func (e *naive) call(n *node, m int) nval {
	now := e.moments[m].now
	switch n.text {
	case "abs":
		v := e.eval(n.kids[0], m)
		lo, hi := math.Abs(v.lo), math.Abs(v.hi)
		if v.lo < 0 && v.hi > 0 {
			return nval{known: v.known, lo: 0, hi: math.Max(lo, hi), unit: v.unit}
		}
		return nval{known: v.known, lo: math.Min(lo, hi), hi: math.Max(lo, hi), unit: v.unit}
	case "min", "max":
		return e.extreme(n, m)
	case "age":
		_, r := e.read(n.kids[0].text, m)
		if r.Value.Kind == lab.Missing || r.Received.IsZero() || r.Received.Sub(now) > time.Second {
			return unknownIn(lab.Second)
		}
		age := now.Sub(r.Received)
		if !r.Source.IsZero() {
			age = max(age, now.Sub(r.Source))
		}
		return number(age.Seconds(), age.Seconds(), lab.Second)
	case "quality":
		return e.quality(n.kids[0].text, m)
	case "tripped":
		return e.name("tripped("+n.kids[0].text+")", m)
	case "vote":
		return e.vote(n, m)
	case "voted":
		return e.voted(n, m)
	case "stuck_for":
		return nval{truth: e.stuck(n, m)}
	case "held":
		return nval{truth: e.held(n, m)}
	}
	return e.window(n, m)
}

func (e *naive) quality(name string, m int) nval {
	s, r := e.read(name, m)
	q := r.Quality
	r.Quality = lab.Good
	if q == lab.Good && !usableNaive(s, r, e.moments[m].now) {
		return nval{}
	}
	r.Value = lab.Value{Kind: s.Type.Kind, Unit: s.Type.Unit} // its value does not matter if it is known to be bad
	if s.Type.Kind == lab.Enum {
		r.Value.Text = s.Type.Enum[0]
	}
	if _, o := e.read(name, m); o.Value.Kind == lab.Missing || !usableNaive(s, r, e.moments[m].now) {
		return nval{}
	}
	return nval{word: q.String()}
}

// unitOf is the unit of the first of several numbers that is no constant.
func (e *naive) unitOf(kids []*node, m int) lab.Unit {
	for _, k := range kids {
		if reads(k) > 0 {
			return e.eval(k, m).unit
		}
	}
	return e.eval(kids[0], m).unit
}

func (e *naive) extreme(n *node, m int) nval {
	unit := e.unitOf(n.kids, m)
	r := e.eval(n.kids[0], m).in(unit)
	for _, k := range n.kids[1:] {
		v := e.eval(k, m).in(unit)
		f := math.Min
		if n.text == "max" {
			f = math.Max
		}
		r = nval{known: r.known && v.known, lo: f(r.lo, v.lo), hi: f(r.hi, v.hi), unit: unit}
	}
	return r
}

func (e *naive) vote(n *node, m int) nval {
	need := int(n.kids[0].num)
	yes, maybe := 0, 0
	for _, k := range n.kids[1:] {
		switch e.eval(k, m).truth {
		case True:
			yes, maybe = yes+1, maybe+1
		case Unknown:
			maybe++
		}
	}
	switch {
	case yes >= need:
		return nval{truth: True}
	case maybe < need:
		return nval{truth: False}
	}
	return nval{}
}

// voted tries every subset of the readings.
func (e *naive) voted(n *node, m int) nval {
	unit := e.unitOf(n.kids[2:], m)
	if unit.Dim().Point {
		unit = lab.DegC
	}
	need := int(e.eval(n.kids[0], m).lo)
	within := e.eval(n.kids[1], m)
	if unit.Dim().Point {
		within = within.in(kelvin)
	} else {
		within = within.in(unit)
	}
	var vs []float64
	for _, k := range n.kids[2:] {
		if v := e.eval(k, m).in(unit); v.known {
			vs = append(vs, v.lo)
		}
	}
	r := unknownIn(unit)
	for set := 1; set < 1<<len(vs); set++ {
		var in []float64
		for i, v := range vs {
			if set>>i&1 == 1 {
				in = append(in, v)
			}
		}
		if len(in) < need || slices.Max(in)-slices.Min(in) > within.lo {
			continue
		}
		if !r.known {
			r = number(slices.Min(in), slices.Max(in), unit)
		}
		r.lo, r.hi = math.Min(r.lo, slices.Min(in)), math.Max(r.hi, slices.Max(in))
	}
	return r
}
