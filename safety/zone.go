package safety

import (
	"fmt"
	"slices"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// holding is one command's hold on a zone.
type holding struct {
	claim      *Claim
	command    string
	instrument string
	run        string
	over       bool // the command is; the claim may last
}

// claimOf is what a rule says of a command.
func (r *Rule) claimOf(target lab.CommandID) *Claim {
	for i := range r.Claims {
		if r.Claims[i].Command == target {
			return &r.Claims[i]
		}
	}
	return nil
}

// checkZone refuses a claim while another instrument, or the same one for
// another run, holds the zone.
func (e *Engine) checkZone(now time.Time, r *Rule, cmd *lab.Command, d *Decision) {
	e.expire(now, r)
	for _, h := range e.state[r.n].zone {
		if h.instrument == cmd.Target.Instrument && h.run == cmd.Run {
			continue
		}
		i := lab.Issue{Code: "zone", Rule: r.ID, Hint: r.About, Wait: "until it is free",
			Say: fmt.Sprintf("%s: %s holds zone %s (%s, command %s)", r.ID, h.instrument, r.Zone, h.claim.Command, h.command)}
		if h.claim.while != nil {
			i.Inputs = e.used(now, h.claim.while)
		}
		d.refuse(i)
		return
	}
}

// expire drops the claims whose condition is false by now.
func (e *Engine) expire(now time.Time, r *Rule) {
	if len(e.state[r.n].zone) == 0 {
		return
	}
	env := e.env(now)
	e.state[r.n].zone = slices.DeleteFunc(e.state[r.n].zone, func(h holding) bool {
		return h.over && h.claim.while != nil && h.claim.while.Truth(nil, env) == expr.False
	})
}

func (e *Engine) claim(r *Rule, cmd *lab.Command) {
	if c := r.claimOf(cmd.Target); c != nil {
		e.state[r.n].zone = append(e.state[r.n].zone, holding{claim: c, command: cmd.ID, instrument: cmd.Target.Instrument, run: cmd.Run})
	}
}

// unclaim ends a command's claim, or leaves it to what it lasts until.
func (e *Engine) unclaim(r *Rule, cmd *lab.Command, end End) {
	list := e.state[r.n].zone
	for i := range list {
		h := &list[i]
		if h.command != cmd.ID {
			continue
		}
		if h.over = true; end == NothingDone || h.claim.while == nil && !h.claim.UntilRunEnd && h.claim.UntilCmd == (lab.CommandID{}) {
			e.state[r.n].zone = slices.Delete(list, i, i+1)
		}
		return
	}
}

// released ends the claims that last until a command that was done.
func (e *Engine) released(target lab.CommandID) {
	for _, r := range e.zoned {
		e.state[r.n].zone = slices.DeleteFunc(e.state[r.n].zone, func(h holding) bool { return h.over && h.claim.UntilCmd == target })
	}
}

// endOfRun ends the claims that a run holds until its end.
func (e *Engine) endOfRun(run string) {
	for _, r := range e.zoned {
		e.state[r.n].zone = slices.DeleteFunc(e.state[r.n].zone, func(h holding) bool { return h.over && h.claim.UntilRunEnd && h.run == run })
	}
}
