package gateway

import (
	"fmt"
	"slices"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
)

// lease is a run's exclusive hold on an instrument until it expires.
type lease struct {
	instrument string
	run        string
	principal  string
	fence      uint64
	expires    time.Time
	telemetry  time.Duration
	durable    bool
	waiters    []any // who took it again before it was durable: their reply tokens
	timer      timer
}

// MaxLease bounds how long a runner may be silent.
const MaxLease = time.Minute

const unrenewed = "its runner has not renewed it"

func (c *Core) leaseAsked(now time.Time, e LeaseAsked) {
	r := e.Request
	refuse := func(code, say string) {
		c.do(Answer{e.Reply, messages.LeaseReply{Instrument: r.Instrument, Issues: lab.Issues{{Code: code, Say: say}}}})
	}
	p := c.places[r.Instrument]
	ttl, err := r.TTL.Duration()
	var held *lease
	if p != nil {
		if l := p.lease; l != nil && !l.expires.After(now) {
			c.leaseLost(now, l, unrenewed) // what is over is not renewed
		}
		held = p.lease
	}
	switch {
	case p == nil:
		refuse("undeclared", fmt.Sprintf("gateway %s has no instrument %q", c.name, r.Instrument))
	case r.Run == "" || r.Principal == "":
		refuse("missing_field", "a lease needs a run and its principal")
	case r.Action != messages.LeaseRelease && (err != nil || ttl <= 0 || ttl > MaxLease):
		refuse("out_of_bounds", fmt.Sprintf("a lease lasts up to %s", lab.Seconds(MaxLease)))
	case r.Action == messages.LeaseTake:
		c.takeLease(now, e, p, ttl)
	case held == nil || held.run != r.Run || held.fence != r.Lease:
		refuse("lease", fmt.Sprintf("run %s does not hold %s under lease %d", r.Run, r.Instrument, r.Lease))
	case r.Action == messages.LeaseRenew:
		c.prolong(held, now.Add(ttl))
		c.do(Answer{e.Reply, messages.LeaseReply{Instrument: r.Instrument, OK: true, Lease: held.fence, Expires: held.expires}})
	case r.Action == messages.LeaseRelease:
		c.interruptUnder(now, held, lab.KindCancelled, fmt.Sprintf("run %s gave its lease on %s back", r.Run, r.Instrument))
		c.dropLease(held)
		c.note(c.leaseEntry(now, held, "release"))
		c.do(Answer{e.Reply, messages.LeaseReply{Instrument: r.Instrument, OK: true, Lease: held.fence, Expires: now}})
	default:
		refuse("wrong_value", fmt.Sprintf("a lease is taken, renewed or released, not %q", r.Action))
	}
}

func (c *Core) prolong(l *lease, until time.Time) {
	l.expires = until
	c.timers.set(&l.timer, until)
}

// takeLease mints the next fencing number and makes it durable before it
// tells anybody. A run that takes what it holds, because it did not hear the
// answer, holds it under the same number.
func (c *Core) takeLease(now time.Time, e LeaseAsked, p *place, ttl time.Duration) {
	r := e.Request
	refuse := func(code, say, hint string) {
		c.do(Answer{e.Reply, messages.LeaseReply{Instrument: r.Instrument, Issues: lab.Issues{{Code: code, Say: say, Hint: hint}}}})
	}
	held := p.lease
	again := held != nil && held.run == r.Run && held.principal == r.Principal
	switch {
	case held != nil && !again:
		refuse("held", fmt.Sprintf("run %s holds %s until %s", held.run, r.Instrument, held.expires.UTC().Format(time.RFC3339)), "wait until it ends")
		return
	case r.RulesHash != c.engine.Rules().Hash:
		refuse("rules_changed", "the plan was checked against other rules than those in force here", "propose again")
		return
	case c.poisoned != nil:
		refuse("journal", "the journal failed; a person must restart this gateway", "")
		return
	case !again && !c.engine.Ready(now):
		refuse("not_ready", "the inputs of the trips were not all good yet since the start", "it waits until they are")
		return
	case !again && !p.link.up:
		refuse("not_ready", r.Instrument+" is not connected: "+p.link.say, "it waits until it is")
		return
	case !again && c.silent(now, r.Instrument):
		refuse("not_ready", "no reading of "+r.Instrument+" can be stood upon: it gives none", "it waits until it does")
		return
	}
	if err := c.engine.Scope(r.Run, r.Limits); err != nil {
		if c.runs[r.Run] == 0 {
			c.engine.Unscope(r.Run) // those that were taken before the bad one
		}
		refuse("bad_limit", err.Error(), "")
		return
	}
	if again {
		c.prolong(held, now.Add(ttl))
		if held.durable {
			c.do(Answer{e.Reply, held.reply()})
		} else {
			held.waiters = append(held.waiters, e.Reply)
		}
		return
	}
	p.fence++
	telemetry, err := r.Telemetry.Duration()
	if err != nil || telemetry < 50*time.Millisecond {
		telemetry = time.Second
	}
	l := &lease{instrument: r.Instrument, run: r.Run, principal: r.Principal, fence: p.fence, telemetry: telemetry, waiters: []any{e.Reply}}
	l.timer.do = func(now time.Time) { c.leaseLost(now, l, unrenewed) }
	p.lease = l
	c.runs[l.run]++
	c.prolong(l, now.Add(ttl))
	c.append(func(now time.Time, _ []lab.Ref, err error) {
		l.durable = err == nil
		reply := l.reply()
		if err != nil {
			c.dropLease(l)
			reply = messages.LeaseReply{Instrument: l.instrument, Issues: lab.Issues{{Code: "journal", Say: fmt.Sprintf("the lease could not be made durable: %v", err)}}}
		}
		for _, to := range l.waiters {
			c.do(Answer{to, reply})
		}
		l.waiters = nil
	}, c.leaseEntry(now, l, "take"))
}

func (l *lease) reply() messages.LeaseReply {
	return messages.LeaseReply{Instrument: l.instrument, OK: true, Lease: l.fence, Expires: l.expires}
}

func (c *Core) leaseEntry(now time.Time, l *lease, what string) lab.Entry {
	e := c.entry(now, "lease/v1", nil, map[string]any{"what": what, "lease": l.fence, "expires": l.expires})
	e.Instrument, e.Run, e.Principal = l.instrument, l.run, l.principal
	return e
}

func (c *Core) dropLease(l *lease) {
	p := c.places[l.instrument]
	if p.lease != l {
		return
	}
	p.lease = nil
	c.timers.remove(&l.timer)
	if c.runs[l.run]--; c.runs[l.run] <= 0 {
		delete(c.runs, l.run)
		c.engine.Unscope(l.run)
	}
}

// leaseLost ends a lease that nobody renewed: what is under way is stopped,
// and the instrument is brought to its on_lease_loss by the gateway itself.
func (c *Core) leaseLost(now time.Time, l *lease, why string) {
	say := fmt.Sprintf("run %s lost its lease on %s: %s", l.run, l.instrument, why)
	c.note(c.leaseEntry(now, l, "lost"))
	c.interruptUnder(now, l, lab.KindConflict, say)
	if c.places[l.instrument].in.OnLeaseLoss == "safe" {
		c.orderAll(now, c.engine.SafeState(l.instrument, safety.OriginLostLease, say))
	}
	c.dropLease(l)
	c.do(Publish{messages.Safety{What: messages.SafetyLeaseLost, Instruments: []string{l.instrument}, Runs: []string{l.run}, RunAction: safety.RunAbort, Say: say}})
}

// interruptUnder takes back what a run has under way on an instrument that it
// holds no more: one lease at a time writes to it.
func (c *Core) interruptUnder(now time.Time, l *lease, kind lab.Kind, why string) {
	for _, cmd := range slices.Clone(c.places[l.instrument].live) {
		if c.live[cmd.ID] == cmd && cmd.Lease == l.fence {
			c.interrupt(now, cmd, kind, why, true)
		}
	}
}

// leaseProblem says why a command may not write to its instrument.
func (c *Core) leaseProblem(now time.Time, cmd *command) string {
	if cmd.spec.Effect == lab.Read {
		return ""
	}
	l := c.places[cmd.Target.Instrument].lease
	switch {
	case l == nil:
		return fmt.Sprintf("nobody holds a lease on %s", cmd.Target.Instrument)
	case cmd.Lease != l.fence || cmd.Run != l.run:
		return fmt.Sprintf("lease %d of run %s is not the one in force on %s", cmd.Lease, cmd.Run, cmd.Target.Instrument)
	case cmd.Principal != l.principal:
		return fmt.Sprintf("lease %d on %s is %s's, not %s's", l.fence, cmd.Target.Instrument, l.principal, cmd.Principal)
	case !l.expires.After(now):
		return fmt.Sprintf("the lease on %s has expired", cmd.Target.Instrument)
	}
	return ""
}

// Telemetry is the least time between two published readings of a property:
// what the lease on its instrument asks for, else a second.
func (c *Core) Telemetry(instrument string) time.Duration {
	if p := c.places[instrument]; p != nil && p.lease != nil {
		return p.lease.telemetry
	}
	return time.Second
}
