package protocols

import (
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// Waited is how a wait stands.
type Waited uint8

// The zero Waited goes on.
const (
	Waiting  Waited = iota
	Met             // until has held for as long as it had to
	TimedOut        // the timeout came first
)

// Watch is one wait under way. It is to be asked with Check at each reading of
// what the wait reads, and at the instant that Check names.
type Watch struct {
	values *Values
	step   *Step
	began  time.Time
	holds  bool
	since  time.Time // when until began to hold
	fresh  time.Time // until when the readings of the last Check are known
}

// Watch begins a wait.
func (v *Values) Watch(now time.Time, s *Step) *Watch {
	return &Watch{values: v, step: s, began: now}
}

// Check tells how the wait stands now, and when it has to be asked next, if no
// reading comes before. The condition must be seen to hold for the whole of
// the wait's for: a gap in which a reading was stale, or not looked at, begins
// it anew.
func (w *Watch) Check(now time.Time) (Waited, time.Time) {
	v, s := w.values, w.step
	if v.decisions.again {
		if _, ok := v.maybe(s, decidedMet); ok {
			return Met, time.Time{}
		}
		if _, ok := v.maybe(s, decidedOver); ok {
			return TimedOut, time.Time{}
		}
		return Waiting, time.Time{}
	}
	said, next := w.check(now)
	switch said {
	case Met:
		v.decide(Decision{Step: s.Path, What: decidedMet})
	case TimedOut:
		v.decide(Decision{Step: s.Path, What: decidedOver})
	}
	return said, next
}

// Began is when the wait began.
func (w *Watch) Began() time.Time { return w.began }

// Later moves a plain wait: it lasts as long as it did.
func (w *Watch) Later(d time.Duration) { w.began = w.began.Add(d) }

func (w *Watch) check(now time.Time) (Waited, time.Time) {
	s := w.step
	if s.Until == nil {
		end := w.began.Add(s.For)
		if now.Before(end) {
			return Waiting, end
		}
		return Met, time.Time{}
	}
	if w.values.Until(now, s) != expr.True {
		w.holds = false
	} else if !w.holds || now.After(w.fresh) {
		w.holds, w.since = true, now
	}
	w.fresh = w.values.freshUntil(now, s)
	timeout := w.began.Add(s.Timeout)
	next := timeout
	earlier := func(t time.Time) {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	if w.holds {
		met := w.since.Add(s.For)
		if !now.Before(met) && !met.After(timeout) {
			return Met, time.Time{}
		}
		earlier(met)
	}
	if !now.Before(timeout) {
		return TimedOut, time.Time{}
	}
	if !w.fresh.IsZero() {
		earlier(w.fresh.Add(1))
	}
	earlier(w.values.windowsTurn(now, s))
	return Waiting, next
}

// freshUntil is the last instant at which all readings that a condition has
// now are fresh; far away where they never go stale.
func (v *Values) freshUntil(now time.Time, s *Step) time.Time {
	until := now.Add(MaxTime)
	for _, slot := range s.Until.Slots() {
		x, rd := &v.plan.Protocol.slots[slot], &v.env.Slots[slot]
		if x.MaxAge == 0 {
			continue
		}
		if ok, _ := rd.Fresh(now, x.MaxAge); !ok {
			continue // unknown now; another reading is another Check
		}
		if t := now.Add(x.MaxAge - rd.Age(now)); t.Before(until) {
			until = t
		}
	}
	return until
}

// windowsTurn is when a condition that remembers may change by itself.
func (v *Values) windowsTurn(now time.Time, s *Step) time.Time {
	if st := v.states[s.Until]; st != nil {
		return s.Until.Next(st, now)
	}
	return time.Time{}
}

// Reading is what the run last read of a property; false where nothing of the
// plan reads it, or nothing came yet.
func (v *Values) Reading(id lab.PropertyID) (lab.Reading, bool) {
	slot, ok := v.plan.slots[id]
	if !ok || v.env.Slots[slot].Value.Kind == lab.Missing {
		return lab.Reading{}, false
	}
	return v.env.Slots[slot], true
}
