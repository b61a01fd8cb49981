package runner

import (
	"fmt"
	"time"

	"labgate/lab"
	"labgate/messages"
)

// control serves what is the runner's of the control subject: the end of runs
// and queries. Agents may end only their own, and see only their own.
func (c *Core) control(now time.Time, e ControlAsked) {
	reply, told := messages.ControlReply{ID: e.Control.ID}, false
	defer func() {
		if !told {
			c.do(Answer{e.Reply, reply})
		}
	}()
	pr := c.principal(e.Principal)
	if pr == nil {
		reply.Say = fmt.Sprintf("%s is nobody this lab knows", e.Principal)
		return
	}
	if !pr.Until.IsZero() && !now.Before(pr.Until) {
		reply.Say = fmt.Sprintf("the vetting of %s expired at %s", pr.Name, pr.Until.UTC().Format(time.RFC3339))
		return
	}
	own := ""
	if pr.Role == "agent" {
		own = pr.Name
	}
	switch e.Control.Action {
	case messages.ControlRuns:
		reply.OK = true
		reply.Runs, reply.Say = listed(c.Runs(own), e.Control.Run)
	case messages.ControlVerdict:
		reply, told = c.verdictAsked(e, reply)
	case messages.ControlQueue:
		reply.OK, reply.Queue = true, c.Queue(now, own)
		reply.Say = plural(len(reply.Queue), "run") + " in the queue"
	case messages.ControlStock:
		reply.OK, reply.Stock = true, c.Stock()
		reply.Say = fmt.Sprintf("%s, %s, %s", plural(len(reply.Stock.Lots), "lot"), plural(len(reply.Stock.Samples), "sample"), plural(len(reply.Stock.Calibrations), "calibration"))
	case messages.ControlStockChange:
		reply, told = c.stockAsked(now, pr, e, reply)
	case messages.ControlMove:
		reply, told = c.moveAsked(now, pr, e, reply)
	case messages.ControlApproval:
		r := c.runs[e.Control.Run]
		if r != nil && own != "" && r.principal != own {
			r = nil
		}
		reply = c.show(r)
		reply.ID = e.Control.ID
	case messages.ControlAbort, messages.ControlCancel, messages.ControlRemove:
		reply, told = c.endAsked(now, own, e, reply)
	case messages.ControlAnswer:
		r := c.runs[e.Control.Run]
		if r == nil {
			reply.Say = fmt.Sprintf("there is no run %q", e.Control.Run)
			return
		}
		reply.OK, reply.Say, reply.Issues = c.answer(now, r, pr, e)
	case messages.ControlHold:
		reply, told = c.holdAsked(now, pr, e, reply)
	case messages.ControlRelease:
		r := c.runs[e.Control.Run]
		switch {
		case pr.Role != "operator" && pr.Role != "safety":
			reply.Say = fmt.Sprintf("%s is %s; only an operator or a safety officer may let a run go on", pr.Name, pr.Role)
		case r == nil:
			reply.Say = fmt.Sprintf("there is no run %q", e.Control.Run)
		default:
			reply.OK, reply.Say = c.resume(now, r, e)
		}
	default:
		reply.Say = fmt.Sprintf("%q can't be asked here", e.Control.Action)
	}
}

// endAsked ends a run for whoever may: one that has not begun leaves the queue,
// and that is answered once it is durable.
func (c *Core) endAsked(now time.Time, own string, e ControlAsked, reply messages.ControlReply) (messages.ControlReply, bool) {
	r := c.runs[e.Control.Run]
	if r == nil || own != "" && r.principal != own {
		reply.Say = fmt.Sprintf("there is no run %q of yours", e.Control.Run)
		return reply, false
	}
	if e.Control.Action == messages.ControlRemove {
		if reply.Say = r.notRemovable(e); reply.Say != "" {
			return reply, false
		}
		e.Control.Action = messages.ControlCancel
	}
	if !r.held && (r.state == Queued || r.state == Leasing) {
		c.withdraw(now, r, e, reply, whyEnded(e))
		return reply, true
	}
	reply.OK, reply.Say = c.end(now, r, e)
	return reply, false
}

// mostListed bounds a list of runs, so that it fits into a message for ever.
const mostListed = 1000

// listed is one run in full; or every run that is not over and the newest of
// those that are, without their tables.
func listed(runs []messages.RunInfo, id string) ([]messages.RunInfo, string) {
	var list []messages.RunInfo
	for n, i := range runs {
		switch {
		case id != "":
			if i.Run == id {
				list = append(list, i)
			}
			continue
		case i.Ended != nil && n < len(runs)-mostListed:
			continue
		}
		short := map[string]lab.Value{}
		for name, v := range i.Outputs {
			if v.Kind != lab.Table {
				short[name] = v
			}
		}
		i.Outputs = short
		list = append(list, i)
	}
	if id == "" && len(list) < len(runs) {
		return list, fmt.Sprintf("%d of %s, the newest", len(list), plural(len(runs), "run"))
	}
	return list, plural(len(list), "run")
}

// whyEnded says who ends a run, and why.
func whyEnded(e ControlAsked) string {
	why := fmt.Sprintf("%s by %s", map[string]string{messages.ControlAbort: "aborted", messages.ControlCancel: "cancelled"}[e.Control.Action], e.Principal)
	if e.Control.Reason != "" {
		why += ": " + e.Control.Reason
	}
	return why
}

// end aborts or cancels a run that has begun, wherever it is.
func (c *Core) end(now time.Time, r *run, e ControlAsked) (bool, string) {
	a := Abort{Reason: whyEnded(e), Exit: messages.ExitAbort, Trip: r.held} // after a restart only the finally is left to do
	switch r.state {
	case Queued:
		if r.abort != nil {
			return true, "the run is ending already: it waits for its instruments"
		}
		r.abort = &a
		return true, "the run is ending: its instruments are leased again for its finally"
	case Leasing:
		r.abort = &a
		return true, "the run is ending"
	case Running, Ending:
		c.stepMachine(now, r, a)
		if r.state == Running {
			r.state, r.say = Ending, a.Reason
		}
		return true, "the run is ending: its cleanup and its finally are carried out"
	case Held:
		if r.machine != nil {
			c.stepMachine(now, r, a)
			if r.state == Held {
				r.state = Ending
			}
			return true, "the run is ending: its cleanup and its finally are carried out"
		}
		c.endHeld(now, r, a)
		return true, "the run is ending: its instruments are leased again for its finally"
	}
	return false, fmt.Sprintf("the run is over: %s", r.state)
}
