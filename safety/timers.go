package safety

import (
	"container/heap"
	"time"
)

// tripHeap holds the trips that time alone may change, the soonest first.
type tripHeap []*tripState

// Len is how many there are.
func (h tripHeap) Len() int { return len(h) }

// Less says which comes first.
func (h tripHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }

// Swap changes places.
func (h tripHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i+1, j+1
}

// Push adds one at the end.
func (h *tripHeap) Push(x any) {
	t := x.(*tripState)
	*h = append(*h, t)
	t.place = len(*h)
}

// Pop takes the last one.
func (h *tripHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	*h, t.place = old[:len(old)-1], 0
	return t
}

// atOnce is due with the next Tick.
var atOnce = time.Unix(0, 1)

// schedule says when a trip is to be looked at without a reading; zero: never.
//
// With every reading the instant moves on. The heap keeps the one of before:
// when that has come, the trip is put back for the one that holds.
func (e *Engine) schedule(t *tripState, at time.Time) {
	t.next = at
	switch {
	case at.IsZero() && t.place > 0:
		heap.Remove(&e.timers, t.place-1)
	case at.IsZero():
	case t.place == 0:
		t.due = at
		heap.Push(&e.timers, t)
	case at.Before(t.due):
		t.due = at
		heap.Fix(&e.timers, t.place-1)
	}
}

// wake takes the trip that the heap brings up: it is due, or it is put back.
func (e *Engine) wake(now time.Time) {
	t := e.timers[0]
	if t.next.After(now) {
		t.due = t.next
		heap.Fix(&e.timers, 0)
		return
	}
	e.schedule(t, time.Time{})
	e.due = append(e.due, t)
}
