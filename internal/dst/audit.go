package dst

import (
	"fmt"

	"labgate/internal/twin"
	"labgate/lab"
	"labgate/runner"
	"labgate/safety"
	"labgate/sim"
)

// Station is a real station that has done something: its files, and what the
// simulated world counted.
type Station struct {
	Lab        *lab.Lab
	Rules      *safety.Rules
	Principals []runner.Principal
	Counts     map[string]sim.Count
}

// Audit holds the journal of a station that ran as real processes on real wires
// against the same promises, as far as a journal and the world's count show
// them: one intent and one outcome a command, an ALLOW before each, fencing
// numbers that only grow, one holder at a time, nobody but people where only
// people may, a run that begins once and goes on after a restart only by a
// person's word, and no more effects than intents.
func (st Station) Audit(entries []lab.Entry) error {
	s := &simulation{site: &site{lab: st.Lab, rules: st.Rules, principals: st.Principals}}
	c := newChecker(s)
	s.check, c.blind = c, true
	boots := map[string]string{}
	for i, e := range entries {
		if i == 0 {
			s.start = e.Time
		}
		c.now = e.Time
		if was := boots[e.Origin]; was != "" && was != e.Boot {
			c.restarted()
		}
		boots[e.Origin] = e.Boot
		c.keep(twin.Written{Ref: lab.Ref{Seq: uint64(i + 1)}, Entry: e})
		c.seq++
	}
	for _, in := range st.Lab.Instruments {
		c.noMoreThanIntended(in.Name, st.Counts[in.Name])
	}
	if c.violation != nil {
		return c.violation
	}
	return nil
}

// noMoreThanIntended holds the world's count against the intents and orders.
func (c *checker) noMoreThanIntended(in string, n sim.Count) {
	may := c.orders[in]
	for _, k := range c.order {
		sent := k.outcome == nil || k.outcome.State != lab.NotSent && k.outcome.State != lab.Refused
		if k.Target.Instrument == in && sent { // a device may refuse to tell of what it has measured
			may++
		}
	}
	if n.Doses > may || n.Moves > may || n.Exposures > may || n.Batches > may {
		c.breaks("S1", "%s has done more than the %d things that the journal knows of: %s", in, may, fmt.Sprintf("%+v", n))
	}
}
