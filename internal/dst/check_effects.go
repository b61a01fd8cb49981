package dst

import (
	"encoding/hex"
	"slices"

	"labgate/gateway"
	"labgate/internal/twin"
	"labgate/lab"
)

// harmless reports whether an effect class may be sent whatever holds.
func harmless(e lab.Effect) bool { return e == lab.Safe || e == lab.Read }

// sends looks at a command that is handed to its link with a permit.
func (c *checker) sends(a gateway.Send) {
	k := c.command(a.Command)
	in := c.instruments[k.Target.Instrument]
	h := k.Hash()
	switch {
	case in == nil || c.s.site.lab.CommandSpec(k.Target) == nil:
		c.breaks("A3", "%s is sent, which is in no file", k.Target)
	case k.effect != lab.Read && k.intent == 0:
		c.breaks("S2", "%s %s is sent before its intent is durable", k.Target, k.ID)
	case k.intent > 0 && k.hash != hex.EncodeToString(h[:]):
		c.breaks("S5", "%s %s is sent, and it is not what was allowed", k.Target, k.ID)
	case k.effect != lab.Read && k.rules != c.hash:
		c.breaks("S5", "%s %s is sent under rules %.12s; those in force are %.12s", k.Target, k.ID, k.rules, c.hash)
	case k.outcome != nil:
		c.breaks("S1", "%s %s is sent, and its outcome was %s already", k.Target, k.ID, k.outcome.State)
	case k.handed && k.effect != lab.Read:
		c.breaks("S1", "%s %s is sent again", k.Target, k.ID)
	}
	k.handed, k.state = true, "sent"
	if harmless(k.effect) || in == nil {
		return
	}
	c.mayMove(k, in)
}

// mayMove holds an effect against what bars effects.
func (c *checker) mayMove(k *command, in *instrument) {
	mitigates := c.mitigates(k)
	if d := c.doubtful(in.Name, k.ID); d != nil && !mitigates {
		c.breaks("S3", "%s %s is sent while %s %s is in doubt", k.Target, k.ID, d.Target, d.ID)
	}
	switch {
	case k.Lease < in.fence:
		c.breaks("S8", "%s %s is sent under lease %d; %d was given since", k.Target, k.ID, k.Lease, in.fence)
	case in.holder != k.Run && !k.finally:
		c.breaks("S8", "%s %s of run %s is sent; the lease is run %q's", k.Target, k.ID, k.Run, in.holder)
	case c.distrusted:
		c.breaks("S9", "%s %s is sent under a clock that was set", k.Target, k.ID)
	case c.wall.Before(c.newest):
		c.breaks("S9", "%s %s is sent under a clock that is %s behind the journal", k.Target, k.ID, c.newest.Sub(c.wall))
	case c.failed && c.now.After(c.failedAt):
		c.breaks("D3", "%s %s is sent, and the journal has failed", k.Target, k.ID)
	}
	for _, rule := range sortedKeys(c.latching) {
		l := c.latching[rule]
		if (len(l.Instruments) == 0 || slices.Contains(l.Instruments, in.Name)) && !mitigates {
			c.breaks("S11", "%s %s is sent in spite of the latch of %s", k.Target, k.ID, rule)
		}
	}
	c.whose(k)
	c.noRetry(k)
}

// whose traces an effect to a principal, a verdict, and the approvals.
func (c *checker) whose(k *command) {
	r := c.runs[k.Run]
	switch {
	case r == nil || r.principal == "":
		c.breaks("A1", "%s %s is sent, and no verdict accepted its run %q", k.Target, k.ID, k.Run)
	case r.principal != k.Principal:
		c.breaks("A1", "%s %s is sent in the name of %s; run %s is %s's", k.Target, k.ID, k.Principal, k.Run, r.principal)
	case r.needs && len(r.approved) == 0:
		c.breaks("A1", "%s %s is sent, and run %s was approved by nobody", k.Target, k.ID, k.Run)
	case r.asleep && !k.finally:
		c.breaks("S11", "%s %s is sent, and nobody has let run %s go on since the restart", k.Target, k.ID, k.Run)
	case r.state == "ended":
		c.breaks("S11", "%s %s is sent, and run %s is over", k.Target, k.ID, k.Run)
	}
}

// noRetry: a step whose effect may have happened is not done again by itself.
// Steps within a repeat are done again because the protocol says so.
func (c *checker) noRetry(k *command) {
	if k.effect != lab.Effectful || c.s.repeats(k.Run, k.Step) {
		return
	}
	for _, x := range c.order {
		if x.ID == k.ID || x.Run != k.Run || x.Step != k.Step || x.Target != k.Target || x.touched == 0 {
			continue
		}
		if x.outcome == nil || x.outcome.As != "not_done" {
			c.breaks("S4", "step %s of run %s sends %s %s, and %s has reached the instrument before", k.Step, k.Run, k.Target, k.ID, x.ID)
		}
	}
}

// mitigates reports whether a command is one that an active trip lets pass.
func (c *checker) mitigates(k *command) bool {
	for _, l := range c.latching {
		if slices.Contains(l.Mitigates, k.Target.String()) {
			return true
		}
	}
	return false
}

// touched looks at a command that has reached its instrument, and at what it
// did there by the world's own count.
func (c *checker) touched(x twin.Touched) {
	in := c.instruments[x.Command.Target.Instrument]
	doses := x.After.Doses - x.Before.Doses
	in.counted += doses
	if x.Order != nil {
		in.stopSeen = c.now
		if c.s.effectOf(x.Command.Target) != lab.Safe {
			c.breaks("S2", "the safe lane sends %s, which is not safe", x.Command.Target)
		}
		if !c.s.listed(x.Command.Target, x.Order.Origin()) {
			c.breaks("A1", "the safe lane sends %s (%s), which no list of safe commands names", x.Command.Target, x.Order.Origin())
		}
		return
	}
	k := c.commands[x.Command.ID]
	if k == nil {
		c.breaks("S2", "%s %s reaches its instrument, and nobody sent it", x.Command.Target, x.Command.ID)
		return
	}
	k.touched++
	k.took = k.took || x.Err == nil
	in.dosed += doses
	if doses > 1 || doses > 0 && k.effect != lab.Effectful {
		c.breaks("S1", "%s %s doses %d times by the world's count", k.Target, k.ID, doses)
	}
	if k.effect == lab.Read {
		return
	}
	switch {
	case !k.handed:
		c.breaks("S2", "%s %s reaches its instrument before it was sent", k.Target, k.ID)
	case k.touched > 1 && k.effect != lab.Safe:
		c.breaks("S1", "%s %s reaches its instrument twice", k.Target, k.ID)
	case k.boot != c.s.w.World().Boot(k.Target.Instrument):
		c.breaks("S5", "%s %s reaches its instrument, which has lost its power since it was decided", k.Target, k.ID)
	case c.wall.After(k.NotAfter) && !harmless(k.effect):
		c.breaks("S9", "%s %s reaches its instrument %s after its time", k.Target, k.ID, c.wall.Sub(k.NotAfter))
	case x.Permit != nil && c.wall.After(x.Permit.NotAfter()):
		c.breaks("S5", "%s %s reaches its instrument %s after its readings are too old", k.Target, k.ID, c.wall.Sub(x.Permit.NotAfter()))
	case k.intent > 0 && k.intent < in.newest:
		c.breaks("O1", "%s %s reaches its instrument after a command that the journal has later", k.Target, k.ID)
	}
	in.newest = max(in.newest, k.intent)
}
