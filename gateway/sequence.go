package gateway

import (
	"slices"
	"time"

	"labgate/lab"
	"labgate/safety"
)

// sequence is a list of safe commands and waits on its way. Commands of
// different instruments go out side by side, those of one instrument one after
// the other: the next when the one before is written, or given up. A wait
// holds back everything that stands after it, and begins when everything
// before it is written or given up. Nothing else ever waits for a wait: the
// same command from another trip or stop goes out at once.
type sequence struct {
	steps []*seqStep
	timer timer
	over  int // steps at the front that are through
}

// seqStep is a command or a wait.
type seqStep struct {
	order *laneOrder // nil: a wait
	wait  time.Duration
	until time.Time // of a wait that has begun
}

// through reports whether a step holds nothing back any more.
func (s *seqStep) through(now time.Time) bool {
	if s.order != nil {
		return s.order.out()
	}
	return !s.until.IsZero() && !s.until.After(now)
}

// advance hands over what may go out now.
func (c *Core) advance(now time.Time, q *sequence) {
	for q.over < len(q.steps) && q.steps[q.over].through(now) {
		q.over++
	}
	for i := q.over; i < len(q.steps); i++ {
		s := q.steps[i]
		switch {
		case s.through(now):
		case s.order == nil && !s.until.IsZero():
			return // its timer is set
		case s.order == nil:
			if slices.ContainsFunc(q.steps[q.over:i], func(b *seqStep) bool { return !b.through(now) }) {
				return
			}
			s.until = now.Add(s.wait)
			c.timers.set(&q.timer, s.until)
			return
		case !s.order.handed && !slices.ContainsFunc(q.steps[q.over:i], func(b *seqStep) bool {
			return b.order != nil && b.order.target.Instrument == s.order.target.Instrument && !b.order.out()
		}):
			c.handOver(now, s.order)
		}
	}
}

// orderAll sends safe commands on their way, and returns one order for each of
// them, those that wait for others included. A command that was handed over
// and is not written yet is not repeated.
func (c *Core) orderAll(now time.Time, orders []*safety.Order) []*laneOrder {
	q := &sequence{}
	q.timer.do = func(now time.Time) { c.advance(now, q) }
	var list []*laneOrder
	for _, o := range orders {
		if o.Target() == (lab.CommandID{}) {
			q.steps = append(q.steps, &seqStep{wait: o.Wait()})
			continue
		}
		l := c.laneOrderOf(o)
		if l == nil {
			continue
		}
		l.in = append(l.in, q)
		q.steps = append(q.steps, &seqStep{order: l})
		list = append(list, l)
	}
	c.advance(now, q)
	return list
}

// mergeOrders adds the orders of another list that the first has not.
func mergeOrders(list, more []*safety.Order) []*safety.Order {
	wait := (*safety.Order)(nil)
	for _, o := range more {
		switch {
		case o.Target() == (lab.CommandID{}):
			wait = o
		case !slices.ContainsFunc(list, func(have *safety.Order) bool { return sameOrder(have, o) }):
			if wait != nil && len(list) > 0 {
				list = append(list, wait)
			}
			list, wait = append(list, o), nil
		}
	}
	return list
}

func sameOrder(a, b *safety.Order) bool {
	return a.Target() == b.Target() && stepOf(a).String() == stepOf(b).String()
}

func stepOf(o *safety.Order) lab.SafeStep {
	return lab.SafeStep{Command: o.Target(), Args: o.Args(), Wait: o.Wait()}
}

// ofInstrument picks an instrument's orders out of a list, with the waits
// between them.
func ofInstrument(orders []*safety.Order, name string) []*safety.Order {
	var list []*safety.Order
	for _, o := range orders {
		switch {
		case o.Target().Instrument == name:
			list = append(list, o)
		case o.Target() == (lab.CommandID{}) && len(list) > 0 && list[len(list)-1].Target() != (lab.CommandID{}):
			list = append(list, o)
		}
	}
	if n := len(list); n > 0 && list[n-1].Target() == (lab.CommandID{}) {
		list = list[:n-1]
	}
	return list
}
