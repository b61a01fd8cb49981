package safety

import (
	"fmt"
	"slices"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// zone is a place that one instrument at a time may be in, for one run. Rules
// that name the same zone mean the same place.
type zone struct {
	name   string
	claims []*claim // held, in the order in which they were taken
	free   []*claim // for the next ones
}

// release ends the claims that are over by some measure.
func (z *zone) release(over func(*claim) bool) {
	z.claims = slices.DeleteFunc(z.claims, func(c *claim) bool {
		if !over(c) {
			return false
		}
		z.free = append(z.free, c)
		return true
	})
}

// keep is what one command claims by one rule, and until when.
type keep struct {
	rule    *Rule
	zone    *zone
	target  lab.CommandID
	prog    *expr.Program // while; nil: none
	windows *expr.State
	until   lab.CommandID
	run     bool // until the end of the run
	queued  bool
}

// claim is one command's hold on a zone.
type claim struct {
	keep       *keep
	command    string
	instrument string
	run        string
	serial     uint64
	over       time.Time // the command's end; zero: it is under way or in doubt
	ended      bool      // what it lasts until has come, though nobody knows yet what the command did
}

func (e *Engine) loadZone(s *ruleState) {
	r := s.rule
	z := e.zones[r.Zone]
	if z == nil {
		z = &zone{name: r.Zone}
		e.zones[r.Zone] = z
	}
	for i := range r.Claims {
		c := &r.Claims[i]
		g := e.guards[c.Command]
		if g == nil {
			continue
		}
		k := &keep{rule: r, zone: z, target: c.Command, prog: c.while, until: c.UntilCmd, run: c.UntilRunEnd}
		if k.prog != nil {
			if k.windows = k.prog.NewState(); k.windows != nil {
				for _, slot := range k.prog.Slots() {
					e.watch[slot].keeps = append(e.watch[slot].keeps, k)
				}
			}
		}
		if u := e.guards[k.until]; u != nil {
			u.until = append(u.until, k)
		}
		g.add(check{st: s, claim: k})
	}
}

// take claims the zone for a command that was allowed.
func (k *keep) take(f *flight) {
	var c *claim
	if n := len(k.zone.free); n > 0 {
		c, k.zone.free = k.zone.free[n-1], k.zone.free[:n-1]
	} else {
		c = &claim{}
	}
	*c = claim{keep: k, command: f.id, instrument: f.guard.target.Instrument, run: f.run, serial: f.serial}
	k.zone.claims = append(k.zone.claims, c)
	f.claims = append(f.claims, c)
}

// endClaim ends a command's claim, or leaves it to what it lasts until; one of
// the same command and run that was left before is part of it then: what ends
// them has to come after both. Without a run there is no end of a run: such a
// claim ends with its command.
func (e *Engine) endClaim(now time.Time, c *claim, end End) {
	k := c.keep
	lasts := k.prog != nil || k.until != lab.CommandID{} && !c.ended || k.run && c.run != "" && !c.ended
	if c.over = now; end == NothingDone || !lasts {
		k.zone.release(func(x *claim) bool { return x == c })
		return
	}
	k.zone.release(func(x *claim) bool {
		if x == c || x.keep != k || x.run != c.run || x.over.IsZero() {
			return false
		}
		c.serial = max(c.serial, x.serial)
		return true
	})
}

// releaseFalse ends the claims whose condition is false now, when somebody
// asks for the zone: one that was false for a while and is true again holds it.
// A reading that was taken before the command was over says nothing: the effect
// may have begun after it.
func (e *Engine) releaseFalse(now time.Time, k *keep) {
	env := e.env(now)
	k.prog.Observe(k.windows, env)
	if k.prog.Truth(k.windows, env) != expr.False {
		return
	}
	k.zone.release(func(c *claim) bool {
		return c.keep == k && !c.over.IsZero() && e.takenSince(k.prog, c.over)
	})
}

// endUntil ends the claims that last until a command which was confirmed just
// now, and was decided after them.
func (e *Engine) endUntil(k *keep, by *flight) {
	k.zone.release(func(c *claim) bool {
		if c.keep != k || c.serial >= by.serial {
			return false
		}
		c.ended = true
		return !c.over.IsZero()
	})
}

// endOfRun ends the claims that a run holds until its end.
func (e *Engine) endOfRun(run string) {
	if run == "" {
		return
	}
	for _, z := range e.zones {
		z.release(func(c *claim) bool {
			if !c.keep.run || c.run != run {
				return false
			}
			c.ended = true
			return !c.over.IsZero()
		})
	}
}

// checkZone refuses a claim while another instrument, or the same one for
// another run, holds the zone.
func (e *Engine) checkZone(a *asking, k *keep) {
	for i := 0; i < len(k.zone.claims); i++ {
		c := k.zone.claims[i]
		if c.instrument == a.f.guard.target.Instrument && c.run == a.f.run {
			continue
		}
		if n := len(k.zone.claims); c.keep.prog != nil && !c.over.IsZero() {
			e.releaseFalse(a.now, c.keep)
			if len(k.zone.claims) < n {
				i = -1
				continue
			}
		}
		is := lab.Issue{Code: "zone", Rule: k.rule.ID, Hint: k.rule.About, Wait: c.wait(),
			Say: fmt.Sprintf("%s: %s holds zone %s (%s, command %s)", k.rule.ID, c.instrument, k.zone.name, c.keep.target, c.command)}
		if c.keep.prog != nil {
			is.Inputs = e.used(a.now, c.keep.prog)
		}
		a.d.refuse(is)
		return
	}
}

// wait says what would free the zone.
func (c *claim) wait() string {
	switch k := c.keep; {
	case c.over.IsZero():
		return "until command " + c.command + " is over"
	case k.prog != nil:
		return "while " + k.prog.Source().Text
	case k.run:
		return "until the end of run " + c.run
	default:
		return "until " + k.until.String() + " was done"
	}
}
