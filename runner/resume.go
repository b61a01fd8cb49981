package runner

import (
	"fmt"
	"slices"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
)

// kindStep is the kind of a run's records in the journal.
const kindStep = "run_step/v1"

// kindResumed is the kind of what lets a held run go on.
const kindResumed = "run_resumed/v1"

// heldFor is how long a run that a restart has held waits for a person; then it
// is ended by its finally.
func (c *Core) heldFor() time.Duration {
	if d := c.o.Lab.Runs.HeldFor; d > 0 {
		return d
	}
	return lab.DefaultHeldFor
}

// wake makes the machine of a run that was under way when the process went
// down. It goes on when a person says so; until then nothing of it moves.
func (c *Core) wake(now time.Time, r *run) {
	r.state, r.held, r.heldUntil = Held, true, now.Add(c.heldFor())
	m, err := Replay(r.id, r.plan, c.o.IDs, r.bounds(), r.log)
	if err == nil && m.ended != nil {
		// It was over: only its end was not told any more.
		r.asleep = m
		c.measuredAgain(now, r)
		c.endRun(now, r, *m.ended)
		r.held = false
		return
	}
	switch {
	case err != nil:
		r.say = fmt.Sprintf("the process went down while it ran, and its record can't be carried on (%v); nothing moves until a person ends it", err)
	case r.rules != c.o.RulesHash:
		r.say = "the process went down while it ran, and the interlocks have changed since its verdict; nothing moves until a person ends it"
	default:
		r.asleep = m
		r.say = "the process went down while it ran"
		if at := m.Where(); at != "" {
			r.say += ", at " + at
		}
		r.goesOn = c.mayGoOn(r)
		if r.goesOn {
			r.say += ", a safe point; it goes on by itself once it is known what became of its commands"
		} else {
			r.say += "; nothing moves until a person lets it go on or ends it"
		}
		c.measuredAgain(now, r)
		c.askForLive(now, r)
	}
	c.note(c.entry(now, "run_held/v1", r.principal, r, map[string]any{"why": r.say, "in_doubt": r.doubts, "until": r.heldUntil}))
	if r.plan.Protocol.OnRestart == protocols.AbortOnRestart {
		c.endHeld(now, r, Abort{Reason: "the process went down while it ran, and its protocol says on_restart: abort", Exit: messages.ExitAbort, Trip: true})
	}
}

// mayGoOn reports whether protocol and lab both let a run go on by itself from
// where it is. One that something or somebody held before never does, nor one
// whose instruments are latched: a reset sets nothing off.
func (c *Core) mayGoOn(r *run) bool {
	l, _ := c.latchOn(r)
	return l == nil && c.o.Lab.Runs.ContinueAfterRestart && r.plan.Protocol.OnRestart == protocols.ContinueOnRestart && r.asleep.atSafePoint() && len(r.doubts) == 0
}

// atSafePoint reports whether all that is under way may be gone on from.
func (m *Machine) atSafePoint() bool {
	return m.stage == inSteps && m.root != nil && m.hold == nil && len(m.stuck) == 0 && m.plan.Protocol.SafePoint(m.root.where())
}

// measuredAgain tells of the measurements that are in a run's records, and were
// not told of any more when the process went down.
func (c *Core) measuredAgain(now time.Time, r *run) {
	for _, step := range sortedKeys(r.asleep.told) {
		list := r.asleep.told[step]
		for _, a := range list[min(r.events[step], len(list)):] {
			c.measured(now, r, a)
		}
	}
	r.asleep.told = nil
}

// askForLive asks gateways what became of the commands whose outcome a run has
// not heard.
func (c *Core) askForLive(now time.Time, r *run) {
	m := r.asleep
	if r.machine != nil {
		m = r.machine
	}
	for _, id := range m.Live() {
		target, notAfter := m.Sent(id)
		in := target.Instrument
		place := c.o.Lab.Instrument(in)
		if place == nil || r.commands[id] != nil {
			continue
		}
		r.commands[id] = &runCommand{id: id, gateway: place.Gateway, instrument: in, askAt: now.Add(askOutcome), notAfter: notAfter}
		c.byCmd[id] = r
		c.do(Query{place.Gateway, in, id})
	}
}

// sleepTick asks again for outcomes, and ends a run that nobody has come for.
func (c *Core) sleepTick(now time.Time, r *run) {
	c.askAgain(now, r)
	switch {
	case !r.goesOn:
	case !c.mayGoOn(r):
		r.goesOn = false
		r.say = "the process went down while it ran, and it may not go on by itself any more; nothing moves until a person lets it go on or ends it"
		c.note(c.entry(now, "run_held/v1", r.principal, r, map[string]any{"why": r.say, "in_doubt": r.doubts, "until": r.heldUntil}))
	case r.mayResume() == "":
		r.goesOn = false
		c.letGoOn(r, c.entry(now, kindResumed, r.principal, r, map[string]any{"reason": "it was at a safe point, and its protocol and the lab let it go on by itself"}))
	}
	if !now.Before(r.heldUntil) {
		why := fmt.Sprintf("held by a restart for %s, and nobody came", lab.Seconds(c.heldFor()))
		c.endHeld(now, r, Abort{Reason: why, Exit: messages.ExitAbort, Trip: true})
	}
}

// endHeld leads a run that a restart has held to its finally: its instruments
// are leased again for that.
func (c *Core) endHeld(now time.Time, r *run, a Abort) {
	r.abort = &a
	c.leaseAgain(now, r)
}

// leaseAgain puts a run that a restart has held before all that wait.
func (c *Core) leaseAgain(now time.Time, r *run) {
	c.unqueue(r)
	r.state, r.tryAt, r.retry, r.counts = Queued, now, 0, time.Time{}
	c.queue = slices.Insert(c.queue, 0, r)
}

// mayResume says why a run that a restart has held can't go on; empty: it can.
func (r *run) mayResume() string {
	switch {
	case r.asleep == nil:
		return r.say + ": it can't go on"
	case len(r.doubts) > 0:
		return fmt.Sprintf("command %s of it is in doubt: look, and resolve it first", r.doubts[0])
	case len(r.commands) > 0:
		return "what became of its commands is being asked; try again in a moment"
	}
	return ""
}

// resumeAfterRestart lets a person carry on a run: durably first. Its
// instruments are leased again before anything moves.
func (c *Core) resumeAfterRestart(now time.Time, r *run, e ControlAsked) (ok bool, say string) {
	if why := r.mayResume(); why != "" {
		return false, why
	}
	en := c.entry(now, kindResumed, e.Principal, r, map[string]any{"reason": e.Control.Reason})
	en.Principal = e.Principal
	c.letGoOn(r, en)
	return true, "the run goes on: its instruments are leased again"
}

// letGoOn lets a run go on that a restart has held, once that is durable.
func (c *Core) letGoOn(r *run, en lab.Entry) {
	c.append(func(now time.Time, _ []lab.Ref, err error) {
		if err == nil && r.state == Held && r.asleep != nil && r.mayResume() == "" {
			r.say = "goes on after a restart, once it has its instruments"
			c.leaseAgain(now, r)
		}
	}, en)
}

// goOnAfterRestart is the moment at which a run has its instruments again.
func (c *Core) goOnAfterRestart(now time.Time, r *run) {
	r.machine, r.asleep = r.asleep, nil
	c.unqueue(r)
	r.held, r.heldUntil = false, time.Time{}
	switch {
	case r.abort != nil:
		r.state = Ending
		c.stepMachine(now, r, *r.abort)
	case len(r.log) == 0:
		r.state, r.say = Running, ""
		c.stepMachine(now, r, Begin{})
	default:
		r.state, r.say = Running, ""
		c.stepMachine(now, r, Resumed{Down: max(0, now.Sub(r.log[len(r.log)-1].At))})
	}
	if r.machine != nil {
		c.askForLive(now, r)
	}
}
