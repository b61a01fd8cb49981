package gateway

import "time"

// timer is an instant at which something is due. The zero timer is off.
type timer struct {
	at  time.Time
	seq uint64 // of equal instants the one that was set first comes first
	pos int    // in the heap, from 1; 0: off
	do  func(now time.Time)
}

// timers is a heap of what is due, the earliest first. Setting a timer again
// moves it: nothing is left behind.
type timers struct {
	heap []*timer
	seq  uint64
}

// set sets a timer; zero turns it off.
func (ts *timers) set(t *timer, at time.Time) {
	if at.IsZero() {
		ts.remove(t)
		return
	}
	ts.seq++
	t.at, t.seq = at, ts.seq
	if t.pos == 0 {
		ts.heap = append(ts.heap, t)
		t.pos = len(ts.heap)
	}
	ts.up(t.pos)
	ts.down(t.pos)
}

func (ts *timers) remove(t *timer) {
	i := t.pos
	if i == 0 {
		return
	}
	last := len(ts.heap)
	if i != last {
		ts.swap(i, last)
	}
	ts.heap[last-1] = nil
	ts.heap = ts.heap[:last-1]
	t.pos = 0
	if i < last {
		ts.up(i)
		ts.down(i)
	}
}

// next is when the earliest is due; zero for none.
func (ts *timers) next() time.Time {
	if len(ts.heap) == 0 {
		return time.Time{}
	}
	return ts.heap[0].at
}

// due takes out the earliest that is due; nil for none.
func (ts *timers) due(now time.Time) *timer {
	if len(ts.heap) == 0 || ts.heap[0].at.After(now) {
		return nil
	}
	t := ts.heap[0]
	ts.remove(t)
	return t
}

func (ts *timers) less(i, j int) bool {
	a, b := ts.heap[i-1], ts.heap[j-1]
	if !a.at.Equal(b.at) {
		return a.at.Before(b.at)
	}
	return a.seq < b.seq
}

func (ts *timers) swap(i, j int) {
	h := ts.heap
	h[i-1], h[j-1] = h[j-1], h[i-1]
	h[i-1].pos, h[j-1].pos = i, j
}

func (ts *timers) up(i int) {
	for i > 1 && ts.less(i, i/2) {
		ts.swap(i, i/2)
		i /= 2
	}
}

func (ts *timers) down(i int) {
	for {
		least := i
		for _, k := range [2]int{2 * i, 2*i + 1} {
			if k <= len(ts.heap) && ts.less(k, least) {
				least = k
			}
		}
		if least == i {
			return
		}
		ts.swap(i, least)
		i = least
	}
}
