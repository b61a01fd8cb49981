package gateway

import (
	"fmt"
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
}

// MaxLease bounds how long a runner may be silent.
const MaxLease = time.Minute

func (c *Core) leaseAsked(now time.Time, e LeaseAsked) {
	r := e.Request
	refuse := func(code, say string) {
		c.do(Answer{e.Reply, messages.LeaseReply{Instrument: r.Instrument, Issues: lab.Issues{{Code: code, Say: say}}}})
	}
	in := c.owned[r.Instrument]
	ttl, err := r.TTL.Duration()
	if l := c.leases[r.Instrument]; l != nil && !l.expires.After(now) {
		c.leaseLost(now, l, "its runner has not renewed it") // what is over is not renewed
	}
	held := c.leases[r.Instrument]
	switch {
	case in == nil:
		refuse("undeclared", fmt.Sprintf("gateway %s has no instrument %q", c.name, r.Instrument))
	case r.Run == "" || r.Principal == "":
		refuse("missing_field", "a lease needs a run and its principal")
	case r.Action != messages.LeaseRelease && (err != nil || ttl <= 0 || ttl > MaxLease):
		refuse("out_of_bounds", fmt.Sprintf("a lease lasts up to %s", lab.Seconds(MaxLease)))
	case r.Action == messages.LeaseTake:
		c.takeLease(now, e, ttl)
	case held == nil || held.run != r.Run || held.fence != r.Lease:
		refuse("lease", fmt.Sprintf("run %s does not hold %s under lease %d", r.Run, r.Instrument, r.Lease))
	case r.Action == messages.LeaseRenew:
		held.expires = now.Add(ttl)
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

// takeLease mints the next fencing number and makes it durable before it
// tells anybody.
func (c *Core) takeLease(now time.Time, e LeaseAsked, ttl time.Duration) {
	r := e.Request
	refuse := func(code, say, hint string) {
		c.do(Answer{e.Reply, messages.LeaseReply{Instrument: r.Instrument, Issues: lab.Issues{{Code: code, Say: say, Hint: hint}}}})
	}
	if held := c.leases[r.Instrument]; held != nil {
		refuse("held", fmt.Sprintf("run %s holds %s until %s", held.run, r.Instrument, held.expires.UTC().Format(time.RFC3339)), "wait until it ends")
		return
	}
	if r.RulesHash != c.engine.Rules().Hash {
		refuse("rules_changed", "the plan was checked against other rules than those in force here", "propose again")
		return
	}
	if c.poisoned != nil {
		refuse("journal", "the journal failed; a person must restart this gateway", "")
		return
	}
	if err := c.engine.Scope(r.Run, r.Limits); err != nil {
		refuse("bad_limit", err.Error(), "")
		return
	}
	c.fences[r.Instrument]++
	telemetry, err := r.Telemetry.Duration()
	if err != nil || telemetry < 50*time.Millisecond {
		telemetry = time.Second
	}
	l := &lease{r.Instrument, r.Run, r.Principal, c.fences[r.Instrument], now.Add(ttl), telemetry}
	c.leases[r.Instrument] = l
	c.append(func(now time.Time, _ []lab.Ref, err error) {
		reply := messages.LeaseReply{Instrument: l.instrument, OK: err == nil, Lease: l.fence, Expires: l.expires}
		if err != nil {
			c.dropLease(l)
			reply.Issues = lab.Issues{{Code: "journal", Say: fmt.Sprintf("the lease could not be made durable: %v", err)}}
		}
		c.do(Answer{e.Reply, reply})
	}, c.leaseEntry(now, l, "take"))
}

func (c *Core) leaseEntry(now time.Time, l *lease, what string) lab.Entry {
	e := c.entry(now, "lease/v1", nil, map[string]any{"what": what, "lease": l.fence, "expires": l.expires})
	e.Instrument, e.Run, e.Principal = l.instrument, l.run, l.principal
	return e
}

func (c *Core) dropLease(l *lease) {
	if c.leases[l.instrument] == l {
		delete(c.leases, l.instrument)
	}
	for _, other := range c.leases {
		if other.run == l.run {
			return
		}
	}
	c.engine.Unscope(l.run)
}

// leaseLost ends a lease that nobody renewed: what is under way is stopped,
// and the instrument is brought to its on_lease_loss by the gateway itself.
func (c *Core) leaseLost(now time.Time, l *lease, why string) {
	say := fmt.Sprintf("run %s lost its lease on %s: %s", l.run, l.instrument, why)
	c.note(c.leaseEntry(now, l, "lost"))
	c.interruptUnder(now, l, lab.KindConflict, say)
	if in := c.owned[l.instrument]; in.OnLeaseLoss == "safe" {
		c.orderAll(now, c.engine.SafeState(l.instrument, safety.OriginLostLease, say))
	}
	c.dropLease(l)
	c.do(Publish{messages.Safety{What: messages.SafetyLeaseLost, Instruments: []string{l.instrument}, Runs: []string{l.run}, RunAction: safety.RunAbort, Say: say}})
}

// interruptUnder takes back what a run has under way on an instrument that it
// holds no more: one lease at a time writes to it.
func (c *Core) interruptUnder(now time.Time, l *lease, kind lab.Kind, why string) {
	for _, id := range append([]string(nil), c.order...) {
		if cmd := c.live[id]; cmd != nil && cmd.Target.Instrument == l.instrument && cmd.Lease == l.fence && cmd.spec.Effect != lab.Safe {
			c.interrupt(now, cmd, kind, why, true)
		}
	}
}

// leaseProblem says why a command may not write to its instrument.
func (c *Core) leaseProblem(now time.Time, cmd *command) string {
	if cmd.spec.Effect == lab.Read {
		return ""
	}
	l := c.leases[cmd.Target.Instrument]
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
	if l := c.leases[instrument]; l != nil {
		return l.telemetry
	}
	return time.Second
}
