package runner

import (
	"fmt"
	"slices"
	"time"

	"labgate/lab"
	"labgate/messages"
)

// holdRun is the run action of a trip that holds.
const holdRun = "hold"

// hold keeps a run where it is: its leases stay, nothing new of it is asked
// for, and what the gateway has not stopped comes to its end. It goes on when a
// person says so, after the reset, and is aborted when the time is up.
func (c *Core) hold(now time.Time, r *run, s messages.Safety) {
	var d time.Duration
	if s.HoldFor != nil {
		var err error
		if d, err = s.HoldFor.Duration(); err != nil {
			d = 0 // unreadable: no time at all
		}
	}
	c.stepMachine(now, r, Hold{Reason: s.Say, Rule: s.Rule, Until: now.Add(d)})
	if r.machine == nil || r.machine.hold == nil {
		return
	}
	if !slices.Contains(r.holds, s.Rule) {
		r.holds = append(r.holds, s.Rule)
	}
	until := r.machine.hold.until
	r.state, r.say = Held, fmt.Sprintf("held until %s by %s: %s", until.UTC().Format(time.RFC3339), s.Rule, s.Say)
	c.note(c.entry(now, "run_held/v1", r.principal, r, map[string]any{"why": r.say, "rule": s.Rule, "until": until, "standing": r.standing()}))
}

// How long a person may hold a run.
const (
	holdFor     = 10 * time.Minute // where nobody says how long
	longestHold = 12 * time.Hour
)

// holdAsked holds a run for a person, at once; it is answered once it is
// durable. Only steps can be held: what leads to the end goes on.
func (c *Core) holdAsked(now time.Time, pr *Principal, e ControlAsked, reply messages.ControlReply) (messages.ControlReply, bool) {
	d, r, err := holdFor, c.runs[e.Control.Run], error(nil)
	if e.Control.For != nil {
		d, err = e.Control.For.Duration()
	}
	switch {
	case pr.Role != "operator" && pr.Role != "safety":
		reply.Say = fmt.Sprintf("%s is %s; only an operator or a safety officer may hold a run", pr.Name, pr.Role)
	case r == nil:
		reply.Say = fmt.Sprintf("there is no run %q", e.Control.Run)
	case err != nil:
		reply.Say = "how long: " + err.Error()
	case d <= 0 || d > longestHold:
		reply.Say = fmt.Sprintf("a hold ends by itself: say for how long, at most %s", lab.Seconds(longestHold))
	default:
		reply.Say = r.notHoldable()
	}
	if reply.Say != "" {
		return reply, false
	}
	why := "held by " + e.Principal
	if e.Control.Reason != "" {
		why += ": " + e.Control.Reason
	}
	c.stepMachine(now, r, Hold{Reason: why, Until: now.Add(d)})
	until := r.machine.hold.until
	r.state, r.say = Held, fmt.Sprintf("%s; aborted at %s unless it is resumed", why, until.UTC().Format(time.RFC3339))
	en := c.entry(now, "run_held/v1", e.Principal, r, map[string]any{"why": r.say, "until": until, "standing": r.standing(), "reason": e.Control.Reason})
	en.Principal = e.Principal
	say := r.say
	c.append(func(_ time.Time, _ []lab.Ref, err error) {
		reply.OK, reply.Say = err == nil, say
		if err != nil {
			reply.Say = fmt.Sprintf("it is held, but that could not be made durable: %v", err)
		}
		c.do(Answer{e.Reply, reply})
	}, en)
	return reply, true
}

// notHoldable says why a person can't hold the run now; empty: they can.
func (r *run) notHoldable() string {
	switch {
	case r.over():
		return fmt.Sprintf("the run is over: %s", r.state)
	case r.state == Held && r.machine == nil:
		return "a restart holds the run already"
	case r.state == Held:
		return fmt.Sprintf("the run is held already, until %s", r.machine.HeldUntil().UTC().Format(time.RFC3339))
	case (r.state == Queued || r.state == Leasing) && r.held:
		return "the run waits for its instruments after a restart, and does nothing until it has them: hold it then, or abort it"
	case r.state == Queued || r.state == Leasing:
		return "the run has not begun, and does nothing: cancel it, or move it in the queue"
	case r.machine == nil || r.machine.stage != inSteps:
		return "the run is ending: its cleanup and its finally are not held"
	}
	return ""
}

// standing tells in what state the instruments are left while a run is held: what
// it has set and not ended, and what of it is under way. A trip may have changed
// it since.
func (r *run) standing() []string {
	if r.state != Held {
		return nil
	}
	if r.machine != nil {
		return r.machine.Standing()
	}
	return nil // after a restart the gateways have brought them to their safe states
}

// latchReset takes a rule off the runs that it holds. They do not go on by
// that.
func (c *Core) latchReset(rule string) {
	for _, r := range c.live {
		r.holds = slices.DeleteFunc(r.holds, func(x string) bool { return x == rule })
	}
}

// resume lets a held run go on, for a person: durably first.
func (c *Core) resume(now time.Time, r *run, e ControlAsked) (ok bool, say string) {
	switch {
	case r.state != Held:
		return false, fmt.Sprintf("the run is not held: it is %s", r.state)
	case r.machine == nil:
		return c.resumeAfterRestart(now, r, e)
	case len(r.holds) > 0:
		return false, fmt.Sprintf("%s is latched still; look, then reset it", r.holds[0])
	}
	en := c.entry(now, kindResumed, e.Principal, r, map[string]any{"reason": e.Control.Reason})
	en.Principal = e.Principal
	c.append(func(now time.Time, _ []lab.Ref, err error) {
		// A trip of the meantime has put the run on hold anew.
		if err == nil && r.state == Held && r.machine != nil && len(r.holds) == 0 {
			r.state, r.say = Running, ""
			c.stepMachine(now, r, GoOn{})
		}
	}, en)
	return true, "the run goes on"
}

// learnRules notes that a gateway has other rules, and asks for them to be
// read. Empty: which ones is not known.
func (c *Core) learnRules(hash string) {
	if hash == c.o.RulesHash || c.outdated != "" && c.outdated == hash {
		return
	}
	if hash != "" {
		c.outdated = hash
	}
	c.do(LoadRules{})
}

// rulesLoaded checks proposals by the new rules from now on. While the rules
// here are not the gateway's, no proposal is accepted: its verdict would be by
// rules that are not in force.
func (c *Core) rulesLoaded(now time.Time, e RulesLoaded) {
	if e.Err != nil || e.Rules.Preflight == nil {
		c.note(c.entry(now, "rules_unread/v1", "", nil, map[string]any{"say": fmt.Sprint(e.Err), "hash": c.outdated}))
		return
	}
	c.o.RulesHash, c.o.Preflight = e.Rules.Hash, e.Rules.Preflight
	if e.Rules.Hash == c.outdated {
		c.outdated = ""
	}
	c.voidApprovals(now)
}

// rulesOf is the hash under which a run asks for leases: that of its verdict.
// One that only wants to carry out its finally, which is safe, asks under the
// rules of today.
func (c *Core) rulesOf(r *run) string {
	if r.held || r.rules == "" {
		return c.o.RulesHash
	}
	return r.rules
}
