package expr

import (
	"math"
	"slices"
	"time"

	"labgate/lab"
)

// ref is a slot that a program reads.
type ref struct {
	name   string
	slot   int
	typ    lab.Type
	maxAge time.Duration
}

// Env is what a program is evaluated against: the caller's readings, indexed
// by Symbol.Slot, and the time. A reading counts if Reading.Fresh(Now, MaxAge)
// says so and it has its symbol's type; with a MaxAge of 0 age does not
// matter, but it must be there, good and finite. A slot beyond the end is
// missing. The program never changes the readings.
type Env struct {
	Now   time.Time
	Slots []lab.Reading

	dense []lab.Reading // set instead of Slots while a State replays: indexed by ref
}

// Given makes the reading of a value that somebody gave rather than measured:
// an argument, an input. It is good, and of all ages.
func Given(v lab.Value) lab.Reading { return lab.Reading{Value: v, Quality: lab.Good} }

var missing lab.Reading

// reading is the current reading of a ref.
func (e *Env) reading(i, slot int) *lab.Reading {
	switch {
	case e.dense != nil:
		return &e.dense[i]
	case slot < len(e.Slots):
		return &e.Slots[slot]
	}
	return &missing
}

// usable reports whether the reading may take part in a decision, and if not,
// why.
func (r *ref) usable(e *Env, rd *lab.Reading) (ok bool, why string) {
	if ok, why = r.fresh(e, rd); ok && !r.fits(&rd.Value) {
		return false, "wrong type"
	}
	return ok, why
}

// fresh is usable without regard to the type. It is Reading.Fresh without its
// copies: the engine spends its time here.
func (r *ref) fresh(e *Env, rd *lab.Reading) (ok bool, why string) {
	switch kind := rd.Value.Kind; {
	case kind == lab.Missing:
		return false, "missing"
	case rd.Quality != lab.Good:
		return false, rd.Quality.String()
	case kind == lab.Number || kind == lab.Integer:
		if v := rd.Value.Num; v-v != 0 {
			return false, "not finite"
		}
	case kind != lab.Bool && kind != lab.Enum && !rd.Value.Usable():
		return false, "not finite"
	}
	if r.maxAge == 0 {
		return true, ""
	}
	taken := rd.Received
	if !rd.Source.IsZero() && rd.Source.Before(taken) {
		taken = rd.Source
	}
	switch {
	case taken.IsZero() || e.Now.Sub(taken) > r.maxAge:
		return false, "stale"
	case rd.Received.Sub(e.Now) > future:
		return false, "from the future"
	}
	return true, ""
}

// fits reports whether a value has the type of the ref.
func (r *ref) fits(v *lab.Value) bool {
	switch r.typ.Kind {
	case lab.Number:
		return v.Kind == lab.Number && v.Unit.Dim() == r.typ.Unit.Dim() ||
			v.Kind == lab.Integer && r.typ.Unit.Dim() == lab.None
	case lab.Integer:
		return v.Kind == lab.Integer && v.Num == math.Trunc(v.Num)
	case lab.Enum:
		return v.Kind == lab.Enum && slices.Contains(r.typ.Enum, v.Text)
	}
	return v.Kind == r.typ.Kind
}

// The compiled forms. A number is in the unit of its node; NaN is unknown. An
// enumeration is the place in its list; -1 is unknown.
type (
	numberFn func(*State, *Env) float64
	spanFn   func(*State, *Env) span
	truthFn  func(*State, *Env) Truth
	wordFn   func(*State, *Env) int
)

// compiler turns a checked tree into closures.
type compiler struct {
	p *Program
}

// number compiles a number that depends on no vote.
func (c *compiler) number(n *node) numberFn {
	switch n.op {
	case opNumber:
		v := finite(n.num)
		return func(*State, *Env) float64 { return v }
	case opName:
		return c.slot(n)
	case opAge:
		return c.age(n)
	case opRate, opMean:
		return c.windowed(n)
	case opNeg:
		a := c.number(n.kids[0])
		return func(st *State, e *Env) float64 { return -a(st, e) }
	case opAbs:
		a := c.number(n.kids[0])
		return func(st *State, e *Env) float64 { return math.Abs(a(st, e)) }
	case opConv:
		a, from, to := c.number(n.kids[0]), n.kids[0].typ.Unit, n.typ.Unit
		return func(st *State, e *Env) float64 { return convert(a(st, e), from, to) }
	case opMin, opMax:
		return c.extreme(n)
	}
	a, b := c.number(n.kids[0]), c.number(n.kids[1])
	switch n.op {
	case opAdd:
		return func(st *State, e *Env) float64 { return finite(a(st, e) + b(st, e)) }
	case opSub:
		return func(st *State, e *Env) float64 { return finite(a(st, e) - b(st, e)) }
	case opMul:
		return func(st *State, e *Env) float64 { return finite(a(st, e) * b(st, e)) }
	case opDiv:
		return func(st *State, e *Env) float64 { return finite(a(st, e) / b(st, e)) }
	}
	return func(*State, *Env) float64 { return math.NaN() }
}

// convert changes the unit of a number; units of one dimension always convert.
func convert(v float64, from, to lab.Unit) float64 {
	q, err := lab.Quantity{Value: v, Unit: from}.In(to)
	if err != nil {
		return math.NaN()
	}
	return finite(q.Value)
}

// slot reads a number in the unit of its symbol.
func (c *compiler) slot(n *node) numberFn {
	i, r := n.ref, &c.p.refs[n.ref]
	unit, kind := r.typ.Unit, r.typ.Kind
	return func(_ *State, e *Env) float64 {
		rd := e.reading(i, r.slot)
		if ok, _ := r.fresh(e, rd); !ok {
			return math.NaN()
		}
		v := &rd.Value
		switch {
		case v.Kind == kind && kind == lab.Number && v.Unit == unit: // as nearly always
			return v.Num
		case !r.fits(v):
			return math.NaN()
		}
		return convert(v.Num, v.Unit, unit)
	}
}

// age is how old a reading is, in seconds, whatever its quality.
func (c *compiler) age(n *node) numberFn {
	i, slot := n.ref, c.p.refs[n.ref].slot
	return func(_ *State, e *Env) float64 {
		rd := e.reading(i, slot)
		age := rd.Age(e.Now)
		if rd.Value.Kind == lab.Missing || age == math.MaxInt64 || fromTheFuture(rd, e.Now) {
			return math.NaN()
		}
		return age.Seconds()
	}
}

// fromTheFuture: an age that would be negative proves nothing. The allowance
// is that of lab.Reading.Fresh.
func fromTheFuture(rd *lab.Reading, now time.Time) bool {
	return rd.Received.After(now.Add(future))
}

const future = time.Second

func (c *compiler) extreme(n *node) numberFn {
	fs := make([]numberFn, len(n.kids))
	for i, k := range n.kids {
		fs[i] = c.number(k)
	}
	if n.op == opMin {
		return func(st *State, e *Env) float64 {
			v := fs[0](st, e)
			for _, f := range fs[1:] {
				v = min(v, f(st, e))
			}
			return v
		}
	}
	return func(st *State, e *Env) float64 {
		v := fs[0](st, e)
		for _, f := range fs[1:] {
			v = max(v, f(st, e))
		}
		return v
	}
}

// windowed reads the value that Observe left, if the window and its argument
// are known now.
func (c *compiler) windowed(n *node) numberFn {
	f := c.windowedSpan(n)
	return func(st *State, e *Env) float64 {
		if s := f(st, e); s.known() {
			return s.lo
		}
		return math.NaN()
	}
}

func (c *compiler) windowedSpan(n *node) spanFn {
	i, x, p, w := n.win, c.span(n.kids[0]), c.p, int64(n.span)
	return func(st *State, e *Env) span {
		if !st.of(p) || !st.started || !x(st, e).known() {
			return nothing
		}
		ws := &st.wins[i]
		if !ws.known || int64(e.Now.Sub(st.base))-ws.newest > w {
			return nothing
		}
		return ws.value
	}
}

// span compiles a number that may depend on a vote, over the candidates.
func (c *compiler) span(n *node) spanFn {
	if !n.band {
		f := c.number(n)
		return func(st *State, e *Env) span { return point(f(st, e)) }
	}
	switch n.op {
	case opVoted:
		return c.voted(n)
	case opRate, opMean:
		return c.windowedSpan(n)
	}
	fs := make([]spanFn, len(n.kids))
	for i, k := range n.kids {
		fs[i] = c.span(k)
	}
	return func(st *State, e *Env) span {
		s := fs[0](st, e)
		if len(fs) == 1 {
			return n.unary(s)
		}
		for _, f := range fs[1:] {
			s = n.binary(s, f(st, e))
		}
		return s
	}
}

// unary and binary apply an operation to spans.
func (n *node) unary(s span) span {
	switch n.op {
	case opNeg:
		return s.neg()
	case opAbs:
		return s.abs()
	case opConv:
		if s.none {
			return s
		}
		from, to := n.kids[0].typ.Unit, n.typ.Unit
		lo, hi := raw(s.lo, from, to), raw(s.hi, from, to)
		return clip(lo, hi, s.maybe)
	}
	return nothing
}

// raw changes the unit and keeps an overflow as an infinity.
func raw(v float64, from, to lab.Unit) float64 {
	q, err := lab.Quantity{Value: v, Unit: from}.In(to)
	if err != nil {
		return math.NaN()
	}
	return q.Value
}

func (n *node) binary(a, b span) span {
	switch n.op {
	case opAdd:
		return a.add(b)
	case opSub:
		return a.sub(b)
	case opMul:
		return a.mul(b)
	case opDiv:
		return a.div(b)
	case opMin:
		return a.min(b)
	case opMax:
		return a.max(b)
	}
	return nothing
}

func (c *compiler) voted(n *node) spanFn {
	fs := make([]numberFn, len(n.kids))
	for i, k := range n.kids {
		fs[i] = c.number(k)
	}
	need, within := n.need, n.within
	return func(st *State, e *Env) span {
		var vs [MaxArgs]float64
		for i, f := range fs {
			vs[i] = f(st, e)
		}
		return agree(vs[:len(fs)], need, within)
	}
}

// word compiles an enumeration.
func (c *compiler) word(n *node) wordFn {
	switch n.op {
	case opWord:
		i := n.index
		return func(*State, *Env) int { return i }
	case opQuality:
		i, r := n.ref, &c.p.refs[n.ref]
		return func(_ *State, e *Env) int { return r.quality(e, e.reading(i, r.slot)) }
	}
	i, r := n.ref, &c.p.refs[n.ref]
	return func(_ *State, e *Env) int {
		rd := e.reading(i, r.slot)
		if ok, _ := r.usable(e, rd); !ok {
			return -1
		}
		return slices.Index(r.typ.Enum, rd.Value.Text)
	}
}

// quality is that of a reading which is there and would be fresh if it were
// good: the label of a value that is stale, not finite or of the wrong type
// says nothing.
func (r *ref) quality(e *Env, rd *lab.Reading) int {
	if rd.Quality != lab.Good {
		if rd.Value.Kind == lab.Missing || r.maxAge != 0 && (rd.Age(e.Now) > r.maxAge || fromTheFuture(rd, e.Now)) {
			return -1
		}
		return int(rd.Quality)
	}
	if ok, _ := r.usable(e, rd); !ok {
		return -1
	}
	return int(lab.Good)
}
