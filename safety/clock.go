package safety

import "time"

// timer wakes its owner at an instant. The zero timer is at rest.
type timer struct {
	at  time.Time // zero: never
	key time.Time // its place in the queue; never later than at
	pos int       // in the queue, from 1; 0: not there
	of  waker
}

// waker is what time alone can change.
type waker interface {
	wake(e *Engine, now time.Time)
}

// timers is a queue by time, a binary heap. Putting a timer off costs nothing:
// its place is corrected when it comes to the front. Nearly every reading puts
// one off.
type timers []*timer

// set puts a timer to an instant; zero is never.
func (q *timers) set(t *timer, at time.Time) {
	t.at = at
	switch {
	case at.IsZero():
	case t.pos == 0:
		t.key = at
		*q = append(*q, t)
		t.pos = len(*q)
		q.up(t)
	case at.Before(t.key):
		t.key = at
		q.up(t)
	}
}

// next is the earliest instant; zero for never.
func (q *timers) next() time.Time {
	for len(*q) > 0 {
		t := (*q)[0]
		switch {
		case t.at.IsZero():
			q.pop()
		case t.key.Before(t.at):
			t.key = t.at
			q.down(t)
		default:
			return t.at
		}
	}
	return time.Time{}
}

// due takes out a timer whose time has come; nil if there is none.
func (q *timers) due(now time.Time) *timer {
	next := q.next()
	if next.IsZero() || next.After(now) {
		return nil
	}
	t := (*q)[0]
	q.pop()
	t.at = time.Time{}
	return t
}

func (q *timers) pop() {
	h := *q
	first, last := h[0], h[len(h)-1]
	h[len(h)-1] = nil
	*q = h[:len(h)-1]
	first.pos = 0
	if first != last {
		last.pos = 1
		(*q)[0] = last
		q.down(last)
	}
}

func (q timers) up(t *timer) {
	for t.pos > 1 {
		p := q[t.pos/2-1]
		if !t.key.Before(p.key) {
			return
		}
		q.swap(t, p)
	}
}

func (q timers) down(t *timer) {
	for {
		i := 2 * t.pos
		if i > len(q) {
			return
		}
		least := q[i-1]
		if i < len(q) && q[i].key.Before(least.key) {
			least = q[i]
		}
		if !least.key.Before(t.key) {
			return
		}
		q.swap(t, least)
	}
}

func (q timers) swap(a, b *timer) {
	a.pos, b.pos = b.pos, a.pos
	q[a.pos-1], q[b.pos-1] = a, b
}

// earlier is the earlier of two instants, where zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// laterThan is t if it is after now, else never.
func laterThan(now, t time.Time) time.Time {
	if t.After(now) {
		return t
	}
	return time.Time{}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
