package runner

import (
	"fmt"
	"slices"
	"time"

	"labgate/lab"
	"labgate/messages"
)

// The queue is in the order of one instant of each run, its place in time: when
// it was accepted, but no sooner than the runs of its principal that wait
// before it are expected to be done, less the head start of its priority. So
// every run grows older than whatever comes later, whoever sends it, and a
// flood of one principal is spread over time instead of standing before the
// runs of others. The instant never changes, but by a person's hand.
//
// The queue changes only in the order of the journal's entries, so that the
// same entries give the same queue after a restart.

// headStart is how much sooner a run counts by its priority.
var headStart = map[string]time.Duration{messages.PriorityLow: -30 * time.Minute, messages.PriorityNormal: 0, messages.PriorityHigh: 30 * time.Minute}

// rank orders priorities; an unknown one is below all.
func rank(priority string) int { return slices.Index(messages.Priorities, priority) }

// priorityOf is what a proposal asks for, or the usual.
func priorityOf(p *proposal) string {
	if p.Priority == "" {
		return messages.PriorityNormal
	}
	return p.Priority
}

// highest is what a principal may ask for.
func (p *Principal) highest() string {
	switch {
	case p.Priority != "":
		return p.Priority
	case p.Role == "agent":
		return messages.PriorityNormal
	}
	return messages.PriorityHigh
}

// mayHurry holds a principal to its highest priority.
func (p *Principal) mayHurry(asked string) lab.Issues {
	top := p.highest()
	if rank(asked) <= rank(top) {
		return nil
	}
	v := lab.TextValue(top)
	return lab.Issues{{Code: "not_allowed", Path: "priority", Got: asked, Allowed: "up to " + top, Nearest: &v, Repairable: true,
		Say: fmt.Sprintf("%s may not ask for priority %s; %s is the highest for it", p.Name, asked, top)}}
}

// ahead lists the runs that wait, or will once their verdicts are durable.
func (c *Core) ahead() []*run {
	var list []*run
	for _, r := range append(slices.Clone(c.queue), c.coming...) {
		if r.state == Queued {
			list = append(list, r)
		}
	}
	return list
}

// countsFrom is the place in time of a run that is accepted now.
func (c *Core) countsFrom(now time.Time, r *run) time.Time {
	at := now
	for _, q := range c.ahead() {
		if q.principal != r.principal || q.held || q.pending() || rank(q.priority) < rank(r.priority) {
			continue
		}
		if done := q.counts.Add(headStart[q.priority]).Add(q.plan.Bill.Expected); done.After(at) {
			at = done
		}
	}
	return at.Add(-headStart[r.priority])
}

// place says where a run that is accepted now will stand.
func (c *Core) place(r *run) *messages.Place {
	p := &messages.Place{Position: 1, Priority: r.priority, Counts: r.counts}
	for _, q := range c.ahead() {
		if !q.counts.After(r.counts) {
			p.Position++
		}
	}
	return p
}

// enqueue puts a run into its place: behind those that count from the same
// instant or an earlier one.
func (c *Core) enqueue(r *run) {
	i := slices.IndexFunc(c.queue, func(q *run) bool { return q.counts.After(r.counts) })
	if i < 0 {
		i = len(c.queue)
	}
	c.queue = slices.Insert(c.queue, i, r)
}

// unqueue takes a run out, if it is there.
func (c *Core) unqueue(r *run) {
	if i := slices.Index(c.queue, r); i >= 0 {
		c.queue = slices.Delete(c.queue, i, i+1)
	}
}

// wait is one reason why a run does not begin.
type wait struct {
	what       string
	instrument string
	run        *run
	latch      *latch
}

// alone reports a reason that ends by no other run's end: a run that waits for
// it keeps its instruments from nobody.
func (w wait) alone() bool { return w.what != messages.WaitRun && w.what != messages.WaitBehind }

// taken is who has each instrument, or keeps it for itself.
type taken struct {
	by   map[string]*run
	held map[string]*run // of runs that wait for a person, also those without leases
}

func (c *Core) taken() taken {
	t := taken{map[string]*run{}, map[string]*run{}}
	for _, r := range c.live {
		if r.state != Held && !r.active() {
			continue
		}
		person := r.state == Held || r.machine != nil && len(r.machine.asks) > 0
		for _, in := range r.plan.Instruments {
			if person {
				t.held[in] = r
			}
			if r.active() {
				t.by[in] = r
			}
		}
	}
	return t
}

// keep keeps a run's instruments from those behind it.
func (t taken) keep(r *run) {
	for _, in := range r.plan.Instruments {
		if t.by[in] == nil {
			t.by[in] = r
		}
	}
}

// reasons appends why a run does not begin now; none: it may.
func (c *Core) reasons(now time.Time, r *run, t taken, list []wait) []wait {
	if r.pending() {
		return append(list, wait{what: messages.WaitApproval})
	}
	if l, in := c.latchOn(r); l != nil {
		list = append(list, wait{what: messages.WaitLatch, instrument: in, latch: l})
	}
	if r.tryAt.After(now) {
		list = append(list, wait{what: messages.WaitLease})
	}
	for _, in := range r.plan.Instruments {
		by, held := t.by[in], t.held[in]
		if held != nil && (by == held || r.restored) {
			list = append(list, wait{what: messages.WaitPerson, instrument: in, run: held})
		}
		switch {
		case by == nil || by == held:
		case by.state == Queued:
			list = append(list, wait{what: messages.WaitBehind, instrument: in, run: by})
		default:
			list = append(list, wait{what: messages.WaitRun, instrument: in, run: by})
		}
	}
	return list
}

// startWaiting gives instruments to the runs that wait, in the order of the
// queue. A run that waits for others to end keeps its instruments from those
// behind it, so that nobody starves. One that waits for a person, a latch or a
// gateway keeps them from nobody: that may take for ever.
func (c *Core) startWaiting(now time.Time) {
	if len(c.queue) == 0 {
		return
	}
	t := c.taken()
	var room [8]wait
	for _, r := range c.queue {
		if r.state != Queued || c.overdue(now, r) {
			continue
		}
		list := c.reasons(now, r, t, room[:0])
		switch {
		case len(list) == 0:
			r.state = Leasing
			t.keep(r)
			c.askLease(r)
		case !slices.ContainsFunc(list, wait.alone):
			t.keep(r)
		}
	}
}

// overdue ends a run that waits and whose time is up.
func (c *Core) overdue(now time.Time, r *run) bool {
	why := r.late(now)
	if why != "" {
		c.neverStarted(now, r, messages.ExitFail, why)
	}
	return why != ""
}

// late says why a run must not begin any more; empty: it may.
func (r *run) late(now time.Time) string {
	switch {
	case r.hasBegun():
	case !r.notAfter.IsZero() && !now.Before(r.notAfter):
		return "the proposal expired before its instruments were free"
	case r.approval != nil && !now.Before(r.approval.Until):
		return r.approvalExpired()
	}
	return ""
}

// hasBegun reports whether a run that waits has begun long ago: it waits for its
// instruments again, after a restart.
func (r *run) hasBegun() bool { return r.abort != nil || r.asleep != nil }

// queueNext is when time alone changes the queue.
func (c *Core) queueNext() time.Time {
	var next time.Time
	for _, r := range c.queue {
		if r.state != Queued {
			continue
		}
		// One whose try is past waits for its instruments: an event frees them.
		if r.tryAt.After(c.now) {
			next = earlier(next, r.tryAt)
		}
		if !r.hasBegun() {
			next = earlier(next, r.notAfter)
			if r.approval != nil {
				next = earlier(next, r.approval.Until)
			}
		}
	}
	return next
}

// neverStarted ends a run that has not begun.
func (c *Core) neverStarted(now time.Time, r *run, exit, reason string) {
	r.state, r.say, r.ended = Failed, reason, now
	if exit == messages.ExitAbort {
		r.state = Aborted
	}
	stop := messages.RunStop{UID: c.o.IDs.New(now), RunStart: r.id, ExitStatus: exit, Reason: reason, NumEvents: map[string]int{}, Started: r.queued}
	c.append(func(_ time.Time, _ []lab.Ref, err error) {
		c.unqueue(r)
		if err == nil {
			c.do(Publish{r.principal, r.id, stop})
		}
		for _, tell := range r.withdrawn {
			tell(err)
		}
		r.withdrawn = nil
	}, c.entry(now, messages.KindRunStop, r.principal, r, stop))
}

// Queue lists what waits, in order, with every reason, for people.
func (c *Core) Queue(now time.Time, principal string) []messages.QueueInfo {
	t, free := c.taken(), map[string]time.Time{}
	for in, r := range t.by {
		free[in] = r.expectedEnd(now)
	}
	var list []messages.QueueInfo
	n := 0
	for _, r := range c.queue {
		if r.state != Queued {
			continue
		}
		n++
		i := messages.QueueInfo{Position: n, Run: r.id, Principal: r.principal, Protocol: r.proposal.protocolName(), Priority: r.priority, Since: r.queued, Counts: r.counts, Approval: r.approvals()}
		if !r.notAfter.IsZero() {
			at := r.notAfter
			i.NotAfter = &at
		}
		reasons := c.reasons(now, r, t, nil)
		for _, w := range reasons {
			i.Waits = append(i.Waits, w.info(r))
		}
		if !slices.ContainsFunc(reasons, wait.alone) {
			i.Begins = begins(now, r, free)
			t.keep(r)
		}
		if principal == "" || r.principal == principal {
			list = append(list, i)
		}
	}
	return list
}

// begins is when a run is expected to begin, as its instruments become free,
// and takes them until its end; nil: that can't be told.
func begins(now time.Time, r *run, free map[string]time.Time) *time.Time {
	at := now
	for _, in := range r.plan.Instruments {
		switch f, has := free[in]; {
		case !has:
		case f.IsZero():
			at = time.Time{}
		case !at.IsZero() && f.After(at):
			at = f
		}
	}
	end := time.Time{}
	if !at.IsZero() {
		end = at.Add(r.plan.Bill.Expected)
	}
	for _, in := range r.plan.Instruments {
		free[in] = end
	}
	if at.IsZero() {
		return nil
	}
	return &at
}

// expectedEnd is when a run that has instruments will give them back: as
// expected, else at the latest; zero where that is past, or a person decides.
func (r *run) expectedEnd(now time.Time) time.Time {
	begun := r.started
	switch {
	case r.state == Leasing:
		begun = now
	case r.state != Running || begun.IsZero() || r.machine != nil && len(r.machine.asks) > 0:
		return time.Time{}
	}
	for _, d := range []time.Duration{r.plan.Bill.Expected, r.plan.Bill.Worst} {
		if end := begun.Add(d); end.After(now) {
			return end
		}
	}
	return time.Time{}
}

// info says a reason in words.
func (w wait) info(r *run) messages.QueueWait {
	q := messages.QueueWait{For: w.what, Instrument: w.instrument}
	if w.run != nil {
		q.Run, q.Principal = w.run.id, w.run.principal
	}
	switch w.what {
	case messages.WaitApproval:
		q.Say = r.approvalNeeded()
	case messages.WaitLatch:
		q.Rule, q.Say = w.latch.rule, fmt.Sprintf("%s is latched on %s: it waits for a reset", w.latch.rule, w.instrument)
	case messages.WaitLease:
		q.Say = "a gateway refused: " + r.say
	case messages.WaitPerson:
		q.Say = fmt.Sprintf("%s belongs to run %s of %s, which waits for a person", w.instrument, q.Run, q.Principal)
	case messages.WaitRun:
		q.Say = fmt.Sprintf("%s is held by run %s of %s", w.instrument, q.Run, q.Principal)
	case messages.WaitBehind:
		q.Say = fmt.Sprintf("%s is kept for run %s of %s, which is before it", w.instrument, q.Run, q.Principal)
	}
	return q
}

// leastWait is how soon a principal is told to try again, at least.
const leastWait = 5 * time.Second

// full says that the queue has no room, for this principal or for anybody, and
// when there may be some.
func (c *Core) full(now time.Time, who string) lab.Issues {
	own, all := 0, 0
	for _, r := range c.ahead() {
		if all++; r.principal == who {
			own++
		}
	}
	say, allowed, of := "", c.o.MaxQueueEach, who
	switch {
	case own >= c.o.MaxQueueEach:
		say = fmt.Sprintf("%s of %s wait already", plural(own, "run"), who)
	case all >= c.o.MaxQueue:
		say, allowed, of = fmt.Sprintf("%s wait already", plural(all, "run")), c.o.MaxQueue, ""
	default:
		return nil
	}
	i := lab.Issue{Code: "busy", Allowed: fmt.Sprint(allowed), Say: say, Hint: "try again in 1 min, under a new key", Wait: "room comes when one of them begins"}
	var first time.Time
	for _, q := range c.Queue(now, of) {
		if q.Begins != nil {
			first = earlier(first, *q.Begins)
		}
	}
	if !first.IsZero() {
		at := later(first, now.Add(leastWait)).Add(time.Second).Truncate(time.Second).UTC().Format(time.RFC3339)
		i.Hint, i.Wait = fmt.Sprintf("try again after %s, under a new key", at), "room comes when one of them begins, which is expected at "+at
	}
	return lab.Issues{i}
}
