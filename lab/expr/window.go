package expr

import (
	"math"
	"slices"
	"time"

	"labgate/lab"
)

const (
	maxSamples = 256 // of one window
	resolution = 250 // samples closer than span/resolution are merged
	maxReplay  = 64  // steps between two observations; beyond them the windows start over
)

// ageStep is how often a program that calculates with age(x) has to be looked
// at; where age(x) is compared with a constant the instant is known.
const ageStep = 100 * time.Millisecond

// State is what a program remembers. It belongs to one owner at a time and to
// the program that made it; with any other program it counts as empty, so that
// every window is unknown. A nil State is empty too.
type State struct {
	p       *Program
	started bool
	base    time.Time // instants below are nanoseconds after it
	last    time.Time
	replay  Env // dense: the readings at last
	scratch []lab.Reading
	wins    []window
}

// window is the memory of one use of rate, mean or held.
type window struct {
	// rate and mean
	known   bool
	value   span
	newest  int64
	epochs  uint64
	samples ring[sample] // rate
	areas   ring[area]   // mean
	before  sample       // mean: the sample before, if joined
	joined  bool         // mean: x has been known since before

	// stuck_for
	changed int64 // the sample from which on the value is what it is

	// held
	have                    bool
	was                     Truth
	falseUntil, unknownTill int64
	hasFalse                bool
}

// sample is one value with the time of its reading.
type sample struct {
	t      int64
	lo, hi float64
}

// area is the area under x over a stretch of time, of which covered seconds
// had x known.
type area struct {
	start, end int64
	covered    float64
	lo, hi     float64
}

// ring is a bounded queue.
type ring[T any] struct {
	buf     []T
	head, n int
}

func (r *ring[T]) at(i int) *T { return &r.buf[(r.head+i)%len(r.buf)] }
func (r *ring[T]) last() *T    { return r.at(r.n - 1) }
func (r *ring[T]) clear()      { r.head, r.n = 0, 0 }

func (r *ring[T]) pop() {
	r.head = (r.head + 1) % len(r.buf)
	r.n--
}

func (r *ring[T]) push(v T) {
	if r.n == len(r.buf) {
		r.pop()
	}
	r.n++
	*r.last() = v
}

// NewState makes the memory that the program needs, all of it now; nil if it
// needs none.
func (p *Program) NewState() *State {
	if !p.Windows() {
		return nil
	}
	st := &State{p: p, scratch: make([]lab.Reading, len(p.refs)), wins: make([]window, len(p.windows))}
	st.replay.dense = make([]lab.Reading, len(p.refs))
	for i, w := range p.windows {
		switch w.node.op {
		case opRate:
			st.wins[i].samples.buf = make([]sample, maxSamples)
		case opMean:
			st.wins[i].areas.buf = make([]area, maxSamples)
		}
	}
	return st
}

// of reports whether the state is that of p.
func (st *State) of(p *Program) bool { return st != nil && st.p == p }

// Same reports whether two programs are the same but for the slots that they
// read: over the same readings they give the same, always.
func (p *Program) Same(o *Program) bool {
	if p == o {
		return true
	}
	if p == nil || o == nil || len(p.refs) != len(o.refs) || !p.root.same(o.root) {
		return false
	}
	for i := range p.refs {
		a, b := &p.refs[i], &o.refs[i]
		if a.name != b.name || a.maxAge != b.maxAge || !sameType(a.typ, b.typ) {
			return false
		}
	}
	return true
}

func sameType(a, b lab.Type) bool {
	return a.Kind == b.Kind && a.Unit == b.Unit && slices.Equal(a.Enum, b.Enum) && slices.Equal(a.Columns, b.Columns)
}

// same compares two checked trees.
func (n *node) same(o *node) bool {
	if n.op != o.op || n.num != o.num || n.unit != o.unit || n.ref != o.ref || n.index != o.index || n.win != o.win || n.span != o.span ||
		n.need != o.need || n.within != o.within || !sameType(n.typ, o.typ) || len(n.kids) != len(o.kids) {
		return false
	}
	if n.op == opBool && n.text != o.text {
		return false
	}
	for i := range n.kids {
		if !n.kids[i].same(o.kids[i]) {
			return false
		}
	}
	return true
}

// Inherit goes on with the memory of a program that is the Same; that one has
// none from then on. With any other memory it begins with an empty one.
func (p *Program) Inherit(st *State) *State {
	if st == nil || !p.Windows() || !p.Same(st.p) {
		return p.NewState()
	}
	st.p = p
	return st
}

// reset forgets everything.
func (st *State) reset() {
	st.started = false
	for i := range st.wins {
		st.wins[i].reset()
	}
}

func (w *window) reset() {
	w.samples.clear()
	w.areas.clear()
	w.known, w.joined, w.have, w.hasFalse = false, false, false, false
	w.newest = math.MinInt64
}

// feeder is the compiled argument of a window.
type feeder struct {
	node *node
	x    spanFn  // rate, mean
	cond truthFn // held
	refs []int   // what the argument reads
}

// Observe feeds the windows with the readings at env.Now. It is to be called
// whenever a slot of the program has a new reading, and may be called at any
// other time; calling it at Next keeps windows over age exact. What a reading
// that went stale in between meant for a window is made up for here. Time that
// runs backwards makes every window start over.
func (p *Program) Observe(st *State, env *Env) {
	if !st.of(p) || env == nil {
		return
	}
	if st.started && env.Now.Before(st.last) {
		st.reset()
	}
	for i := range p.refs {
		st.scratch[i] = *env.reading(i, p.refs[i].slot)
	}
	if st.started {
		p.catchUp(st, env.Now)
	}
	if !st.started {
		st.started, st.base = true, env.Now
	}
	st.replay.dense, st.scratch = st.scratch, st.replay.dense
	p.feed(st, env.Now)
}

// catchUp feeds the windows with the old readings at each instant before now
// at which something changed by itself.
func (p *Program) catchUp(st *State, now time.Time) {
	for range maxReplay {
		t := p.Next(st, st.last)
		if t.IsZero() || !t.Before(now) {
			return
		}
		p.feed(st, t)
	}
	st.reset() // too long unobserved to tell what happened
}

// feed puts the held readings into every window, inner windows first.
func (p *Program) feed(st *State, now time.Time) {
	st.replay.Now, st.last = now, now
	e := &st.replay
	for i := range p.windows {
		f, w := &p.windows[i], &st.wins[i]
		if f.node.op == opHeld {
			w.hold(int64(now.Sub(st.base)), f.cond(st, e))
			continue
		}
		t, epochs := p.sampled(st, f.refs)
		if epochs != w.epochs {
			w.reset()
			w.epochs = epochs
		}
		s := f.x(st, e)
		switch {
		case f.node.op == opStuck:
			w.stay(t, s)
		case !s.known():
			w.joined = false
		case f.node.op == opRate:
			w.rate(sample{t, s.lo, s.hi}, int64(f.node.span))
		default:
			w.mean(sample{t, s.lo, s.hi}, int64(f.node.span))
		}
	}
}

// sampled is the time of the newest reading among refs, now where none has a
// time, and the sum of their epochs, which changes if any of them does.
func (p *Program) sampled(st *State, refs []int) (t int64, epochs uint64) {
	e := &st.replay
	now := int64(e.Now.Sub(st.base))
	found := false
	for _, i := range refs {
		rd := &e.dense[i]
		epochs += rd.Epoch
		if age := rd.Age(e.Now); age != math.MaxInt64 && (!found || now-int64(age) > t) {
			t, found = now-int64(age), true
		}
	}
	if !found {
		return now, epochs
	}
	return t, epochs
}

// rate adds a sample and computes the slope between the newest one and the
// newest one that is at least w older, or else the oldest.
func (w *window) rate(s sample, span int64) {
	r := &w.samples
	if r.n > 0 && s.t < r.last().t {
		r.clear()
	}
	if r.n > 0 && s.t == r.last().t || r.n > 1 && r.last().t-r.at(r.n-2).t < span/resolution {
		*r.last() = s
	} else {
		r.push(s)
	}
	for r.n > 1 && s.t-r.at(1).t >= span {
		r.pop()
	}
	if r.n > 1 && s.t-r.at(0).t > span+span/2 {
		r.pop()
	}
	old := r.at(0)
	w.newest = s.t
	w.known = r.n > 1 && s.t-old.t >= span-span/2
	if !w.known {
		return
	}
	dt := time.Duration(s.t - old.t).Seconds()
	w.value = clip((s.lo-old.hi)/dt, (s.hi-old.lo)/dt, false)
	w.known = w.value.known()
}

// mean adds the stretch since the sample before and computes the mean over
// what is covered.
func (w *window) mean(s sample, span int64) {
	if s.t < w.newest {
		w.areas.clear()
		w.joined = false
	}
	r := &w.areas
	if w.joined && s.t > w.before.t {
		dt := time.Duration(s.t - w.before.t).Seconds()
		// The conversions keep a compiler from fusing the operations, so
		// that all machines round alike.
		a := area{w.before.t, s.t, dt, float64((w.before.lo+s.lo)/2) * dt, float64((w.before.hi+s.hi)/2) * dt}
		if last := r.n - 1; last >= 0 && r.at(last).end-r.at(last).start < span/resolution && a.end-r.at(last).start <= 2*(span/resolution) {
			b := r.at(last)
			a = area{b.start, a.end, b.covered + a.covered, b.lo + a.lo, b.hi + a.hi}
			*b = a
		} else {
			r.push(a)
		}
	}
	w.before, w.joined, w.newest = s, true, s.t
	for r.n > 0 && s.t-(r.at(0).start/2+r.at(0).end/2) > span { // its middle is outside
		r.pop()
	}
	var covered, lo, hi float64
	for i := range r.n {
		a := r.at(i)
		covered, lo, hi = covered+a.covered, lo+a.lo, hi+a.hi
	}
	limit := time.Duration(span).Seconds()
	w.known = covered >= limit/2 && covered <= limit*1.5
	if w.known {
		w.value = clip(lo/covered, hi/covered, false)
		w.known = w.value.known()
	}
}

// stay notes a sample of a value that may be stuck. What was unknown between,
// or a time that runs backwards, begins anew.
func (w *window) stay(t int64, s span) {
	if !s.known() {
		w.have = false
		return
	}
	if !w.have || t < w.newest || s.lo != w.value.lo || s.hi != w.value.hi {
		w.changed = t
	}
	w.have, w.was, w.newest, w.value = true, False, t, s
}

// hold notes that the condition is c from now on.
func (w *window) hold(now int64, c Truth) {
	switch {
	case !w.have || w.was == Unknown: // before the first observation nothing is known
		w.unknownTill = now
	case w.was == False:
		w.falseUntil, w.hasFalse = now, true
	}
	w.have, w.was = true, c
}

// held tells whether a condition that is true now has been so for d.
func (w *window) held(now, d int64) Truth {
	switch {
	case !w.have || w.was == Unknown:
		return Unknown
	case w.was == False || w.hasFalse && now-w.falseUntil < d:
		return False
	case now-w.unknownTill < d:
		return Unknown
	}
	return True
}

// Next is the earliest instant after now at which the program's value may
// change without a new reading, for the readings last observed: a window that
// fills or runs out, held, a comparison with age, and readings that go stale.
// Zero means never. Programs without windows know no readings and return zero:
// staleness is the caller's there.
func (p *Program) Next(st *State, now time.Time) time.Time {
	if !st.of(p) || !st.started {
		return time.Time{}
	}
	n := next{now: now}
	for i := range p.refs {
		rd, r := &st.replay.dense[i], &p.refs[i]
		if rd.Value.Kind == lab.Missing {
			continue
		}
		if age := rd.Age(now); age != math.MaxInt64 {
			taken := now.Add(-age)
			if r.maxAge > 0 {
				n.at(taken, r.maxAge+1)
			}
			for _, a := range p.ages {
				if a.ref == i {
					n.age(taken, a)
				}
			}
		}
		if fromTheFuture(rd, now) {
			n.at(rd.Received, -future)
		}
	}
	for i := range p.windows {
		w, d := &st.wins[i], p.windows[i].node.span
		switch {
		case w.known:
			n.at(st.base, time.Duration(w.newest)+d+1)
		case w.have && w.was == True:
			if w.hasFalse {
				n.at(st.base, time.Duration(w.falseUntil)+d)
			}
			if !w.hasFalse || w.unknownTill > w.falseUntil {
				n.at(st.base, time.Duration(w.unknownTill)+d)
			}
		}
	}
	return n.first
}

// next finds the earliest of many instants after now.
type next struct{ now, first time.Time }

func (n *next) at(t time.Time, d time.Duration) {
	if t = t.Add(d); t.After(n.now) && (n.first.IsZero() || t.Before(n.first)) {
		n.first = t
	}
}

// age adds the instants at which comparisons with the age of a reading turn.
func (n *next) age(taken time.Time, a ageUse) {
	if len(a.limits) == 0 {
		n.at(n.now, ageStep)
	}
	for _, s := range a.limits {
		for d := time.Duration(-1); d <= 1; d++ { // the limit may round either way
			n.at(taken, s+d)
		}
	}
}

// ageUse is one age(x), and the constants that it is compared with; none
// means that it is calculated with.
type ageUse struct {
	ref    int
	limits []time.Duration
}
