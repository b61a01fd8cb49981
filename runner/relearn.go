package runner

import (
	"slices"
	"time"

	"labgate/lab"
	"labgate/messages"
)

// The bus may lose any message. What a run waits for is asked for again: the
// outcome of a command (askAgain), the end of a doubt, and which latches stand.

// askDoubt is how often a doubt's end is asked for.
const askDoubt = 10 * time.Second

// hear takes a gateway's word on a command that its run counts as in doubt.
func (c *Core) hear(now time.Time, r *run, o lab.Outcome) {
	if o.State == lab.InDoubt || o.State == lab.Unknown || o.State == lab.Accepted {
		r.doubt(o.Command)
		c.doubtAt = earlier(c.doubtAt, now.Add(askDoubt))
		return
	}
	delete(r.lost, o.Command)
	if r.doubts = slices.DeleteFunc(r.doubts, func(id string) bool { return id == o.Command }); len(r.doubts) == 0 {
		r.doubts = nil
	}
}

// heardLate is the answer to a question about a command that no run waits for.
// One that its gateway never had is not in doubt any more, once its time is
// over.
func (c *Core) heardLate(now time.Time, e CommandReplied) {
	for _, id := range c.order {
		r := c.runs[id]
		if !containsText(r.doubts, e.Command) || e.Err != nil {
			continue
		}
		o, place := e.Reply.Outcome, r.lost[e.Command]
		never := !e.Reply.Known && !e.Reply.Accepted && (place != nil || c.oneGateway())
		switch {
		case o != nil && e.Reply.State != lab.Accepted:
		case never && (place == nil || now.After(place.notAfter)):
			o = &lab.Outcome{Command: e.Command, State: lab.NotSent, Kind: lab.KindExpired, Say: neverHad}
		default:
			continue
		}
		c.hear(now, r, *o)
		c.settleTaken(now, *o)
	}
}

const neverHad = "the gateway never had it, and its time is over"

func (c *Core) oneGateway() bool {
	return !slices.ContainsFunc(c.o.Lab.Instruments, func(in *lab.Instrument) bool { return in.Gateway != c.o.Lab.Instruments[0].Gateway })
}

// doubtTick asks about what is in doubt: its gateway, or every one where that is
// not known any more.
func (c *Core) doubtTick(now time.Time) {
	if c.doubtAt.IsZero() || now.Before(c.doubtAt) {
		return
	}
	c.doubtAt = time.Time{}
	for _, id := range c.order {
		for _, command := range c.runs[id].doubts {
			c.doubtAt = now.Add(askDoubt)
			if place := c.runs[id].lost[command]; place != nil {
				c.do(Query{place.gateway, place.instrument, command})
				continue
			}
			asked := map[string]bool{}
			for _, in := range c.o.Lab.Instruments {
				if !asked[in.Gateway] {
					asked[in.Gateway] = true
					c.do(Query{in.Gateway, in.Name, command})
				}
			}
		}
	}
}

// standing takes a gateway's word on what stands: the latches of others stay.
func (c *Core) standing(s messages.Safety) {
	c.learnRules(s.RulesHash)
	var gone []string
	c.latches = slices.DeleteFunc(c.latches, func(l *latch) bool {
		old := l.origin == s.Origin && !slices.ContainsFunc(s.Latches, func(x messages.Standing) bool { return x.Rule == l.rule })
		if old {
			gone = append(gone, l.rule)
		}
		return old
	})
	for _, x := range s.Latches {
		c.latched(latch{s.Origin, x.Rule, x.Instruments, x.Mitigates, x.Say})
	}
	for _, rule := range gone {
		c.latchReset(rule)
	}
}

// outrun reports whether a message of a gateway was overtaken by a later one.
func (c *Core) outrun(s messages.Safety) bool {
	h := c.heard[s.Origin]
	if h.boot != s.Boot || s.OriginSeq >= h.seq {
		c.heard[s.Origin] = heard{s.Boot, s.OriginSeq}
		return false
	}
	return true
}

// heard is the newest that was heard of a gateway.
type heard struct {
	boot string
	seq  uint64
}
