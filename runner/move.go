package runner

import (
	"fmt"
	"slices"
	"time"

	"labgate/lab"
	"labgate/messages"
)

// What people do to the queue: they move a run, or take it out.

// moved is what the journal keeps of a move.
type moved struct {
	Before string    `json:"before"`
	Counts time.Time `json:"counts"` // the run's from now on: that of the other
	Reason string    `json:"reason,omitempty"`
}

// move puts a run directly before another. Where that one has left meanwhile,
// the instant alone says the place. Whether a run that is asking for its leases,
// or whose end is being written down, is moved makes no difference to it, but it
// must be the same after a restart, which knows of neither.
func (c *Core) move(r *run, m moved) bool {
	if !slices.Contains(c.queue, r) {
		return false
	}
	c.unqueue(r)
	r.counts = m.Counts
	i := slices.Index(c.queue, c.runs[m.Before])
	if i >= 0 {
		r.counts = c.queue[i].counts // that one may have been moved itself, meanwhile
	} else {
		i = slices.IndexFunc(c.queue, func(q *run) bool { return !q.counts.Before(m.Counts) })
	}
	if i < 0 {
		i = len(c.queue)
	}
	c.queue = slices.Insert(c.queue, i, r)
	return r.state == Queued
}

// moveAsked moves a run for a person: durably first. It reports whether the
// answer comes later.
func (c *Core) moveAsked(now time.Time, pr *Principal, e ControlAsked, reply messages.ControlReply) (messages.ControlReply, bool) {
	r, other := c.runs[e.Control.Run], c.runs[e.Control.Before]
	if e.Control.Before == "" {
		i := slices.IndexFunc(c.queue, func(q *run) bool { return q != r && q.state == Queued && !q.held })
		if i < 0 {
			reply.OK, reply.Say = r != nil && r.waits(), "it is the only run that waits"
			if !reply.OK {
				reply.Say = fmt.Sprintf("run %q does not wait", e.Control.Run)
			}
			return reply, false
		}
		other = c.queue[i]
	}
	switch {
	case pr.Role != "operator" && pr.Role != "safety":
		reply.Say = fmt.Sprintf("%s is %s; only an operator or a safety officer may reorder the queue", pr.Name, pr.Role)
	case !r.waits():
		reply.Say = fmt.Sprintf("run %q does not wait", e.Control.Run)
	case !other.waits():
		reply.Say = fmt.Sprintf("run %q does not wait", e.Control.Before)
	case r == other:
		reply.Say = "a run does not go before itself"
	default:
		m := moved{Before: other.id, Counts: other.counts, Reason: e.Control.Reason}
		en := c.entry(now, "queue_moved/v1", e.Principal, r, m)
		en.Principal = e.Principal
		c.append(func(_ time.Time, _ []lab.Ref, err error) {
			switch {
			case err != nil:
				reply.Say = fmt.Sprintf("it could not be made durable: %v", err)
			case !c.move(r, m):
				reply.Say = "the run has begun, or has ended, meanwhile"
			default:
				reply.OK, reply.Say = true, fmt.Sprintf("run %s waits at position %d, before run %s", r.id, c.position(r), m.Before)
			}
			c.do(Answer{e.Reply, reply})
		}, en)
		return reply, true
	}
	return reply, false
}

// waits reports whether a run is in the queue to begin.
func (r *run) waits() bool { return r != nil && r.state == Queued && !r.held }

// position is a run's place among those that wait, from 1; 0: it does not.
func (c *Core) position(r *run) int {
	n := 0
	for _, q := range c.queue {
		if q.state != Queued {
			continue
		}
		if n++; q == r {
			return n
		}
	}
	return 0
}

// notRemovable says why a run can't be taken out of the queue; empty: it can.
func (r *run) notRemovable(e ControlAsked) string {
	switch {
	case e.Control.Reason == "":
		return "to take a run out of the queue needs a reason"
	case r.held || r.state != Queued && r.state != Leasing:
		return fmt.Sprintf("the run does not wait to begin: it is %s (cancel ends it in an orderly way, abort at once)", r.state)
	}
	return ""
}

// withdraw ends a run that has not begun. It is told once that is durable: else
// a restart would carry out what somebody was told is off.
func (c *Core) withdraw(now time.Time, r *run, e ControlAsked, reply messages.ControlReply, why string) {
	r.withdrawn = append(r.withdrawn, func(err error) {
		reply.OK, reply.Say = err == nil, "the run had not begun; it is taken out of the queue"
		if err != nil {
			reply.Say = fmt.Sprintf("it could not be made durable: %v", err)
		}
		c.do(Answer{e.Reply, reply})
	})
	if r.state == Leasing { // it ends when the answer about its lease comes
		r.abort = &Abort{Reason: why, Exit: messages.ExitAbort}
		return
	}
	c.neverStarted(now, r, messages.ExitAbort, why)
}
