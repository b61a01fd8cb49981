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
	c.note(c.entry(now, "run_held/v1", r.principal, r, map[string]any{"why": r.say, "rule": s.Rule, "until": until}))
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
	en := c.entry(now, "run_resumed/v1", e.Principal, r, map[string]any{"reason": e.Control.Reason})
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
