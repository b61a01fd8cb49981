package runner

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"labgate/lab"
	"labgate/messages"
)

// Restore takes one entry of the journal, in order, before the first Step.
func (c *Core) Restore(e lab.Entry) error {
	var err error
	switch e.Kind {
	case messages.KindStock, kindTaken:
		err = c.restoreStock(e)
	case "proposal/v1":
		var b proposalBody
		if err = json.Unmarshal(e.Body, &b); err == nil {
			c.restoring = &proposal{b.Proposal, b.Content}
			c.restoringKey = strings.TrimPrefix(e.Key, "proposal/")
		}
	case "verdict/v1":
		var v messages.Verdict
		if err = json.Unmarshal(e.Body, &v); err == nil {
			err = c.restoreVerdict(e, v)
		}
	case messages.KindRunStart:
		if r := c.runs[e.Run]; r != nil {
			c.unqueue(r)
			r.started = e.Time
		}
	case kindStep:
		if r := c.runs[e.Run]; r != nil {
			rec := &Record{}
			err = json.Unmarshal(e.Body, rec)
			r.log = append(r.log, rec)
		}
	case messages.KindRunEvent:
		if r := c.runs[e.Run]; r != nil {
			var d struct{ Step string }
			err = json.Unmarshal(e.Body, &d)
			r.events[d.Step]++
		}
	case messages.KindRunStop:
		var d messages.RunStop
		err = json.Unmarshal(e.Body, &d)
		if r := c.runs[e.Run]; r != nil && err == nil {
			c.unqueue(r)
			r.ended, r.say, r.outputs, r.log = e.Time, d.Reason, d.Outputs, nil
			r.state = map[string]RunState{messages.ExitSuccess: Done, messages.ExitAbort: Aborted}[d.ExitStatus]
			if r.state == "" {
				r.state = Failed
			}
		}
	case "queue_moved/v1":
		var m moved
		if err = json.Unmarshal(e.Body, &m); err == nil && c.runs[e.Run] != nil {
			c.move(c.runs[e.Run], m)
		}
	case messages.KindApproval:
		err = c.restoreApproval(e)
	case "trip/v1", "stop/v1", "reset/v1":
		err = c.restoreLatch(e)
	case "outcome/v1":
		var o lab.Outcome
		err = json.Unmarshal(e.Body, &o)
		if r := c.runs[e.Run]; r != nil && err == nil {
			c.outcome(e.Time, messages.Outcome{Run: e.Run, Outcome: o})
		}
		if c.stock.open(o.Command) {
			c.late = append(c.late, o)
		}
	}
	if err != nil {
		return lab.E("runner: restore", e.Instrument, lab.KindInternal, fmt.Errorf("%s: %w", e.Kind, err))
	}
	return nil
}

// restoreVerdict puts back what was answered, and the run if there is one.
func (c *Core) restoreVerdict(e lab.Entry, v messages.Verdict) error {
	p := c.restoring
	if p == nil {
		return nil // a key used again; nothing hangs on it
	}
	c.restoring = nil
	c.keepAnswer(c.restoringKey, &record{content: p.content, durable: true, verdict: v})
	if pr := c.principal(v.Principal); pr != nil && pr.Rate.N > 0 && !slices.ContainsFunc(v.Issues, func(i lab.Issue) bool { return i.Code == overRate }) {
		c.asked[v.Principal] = append(c.asked[v.Principal], e.Time)
	}
	if v.Run == "" {
		return nil
	}
	c.restoreRun(e.Time, p, v)
	return nil
}

// restoreRun puts back a run that was accepted then, into the queue.
func (c *Core) restoreRun(then time.Time, p *proposal, v messages.Verdict) {
	r := newRun(v.Run, v.Principal, p, nil, then)
	r.verdict = &v
	r.rules = v.Hashes.Rules
	if v.Queue != nil {
		r.counts = v.Queue.Counts
	}
	if v.Approval != nil {
		r.approval = &approval{Approvals: *v.Approval, within: v.Approval.Until.Sub(then)}
		r.approval.Given = nil
	}
	c.addRun(r)
	proto, is := c.findProtocol(v.Principal, p)
	if proto == nil || len(is) > 0 || proto.Hash != v.Hashes.Protocol {
		r.say = "its protocol is not the one that was accepted"
		return
	}
	plan, is := c.plan(proto, p)
	if plan == nil || len(is) > 0 {
		r.say = "its plan can't be bound any more"
		return
	}
	if plan.Hash != v.Hashes.Plan && r.approval == nil {
		r.say = "the lab has changed since its verdict: propose it again"
		return
	}
	r.plan = plan
	c.enqueue(r)
}

// Restored ends the restore. A run that had begun is held until a person says
// what becomes of it; one that had not begun waits in the queue as before.
func (c *Core) Restored(now time.Time) []Action {
	c.actions = nil
	for _, id := range c.order {
		r := c.runs[id]
		if len(r.doubts) > 0 {
			c.doubtAt = now.Add(askDoubt)
		}
		if r.state != Queued {
			continue
		}
		switch {
		case r.plan == nil:
			c.neverStarted(now, r, messages.ExitFail, "after a restart: "+r.say)
		case r.started.IsZero() && r.approval != nil && r.approval.no != "":
			c.neverStarted(now, r, messages.ExitAbort, r.approval.no)
		case r.started.IsZero():
			r.restored = true
		default:
			c.wake(now, r)
		}
	}
	for _, o := range c.late { // what the runner had not written down any more
		c.settleTaken(now, o)
	}
	c.late = nil
	c.voidApprovals(now)
	return c.actions
}
