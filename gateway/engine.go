package gateway

import (
	"time"

	"labgate/lab"
	"labgate/safety"
)

// done ends a command's reservation with what it has done.
func (c *Core) done(at time.Time, command string, end safety.End, amount *lab.Quantity) {
	c.engine.Done(at, command, end, amount)
}

// holdFor is how long a trip holds the runs on its instruments.
func (c *Core) holdFor(t *safety.Trip) time.Duration {
	if r := c.engine.Rules().Find(t.Latch.Rule); r != nil {
		return r.HoldFor
	}
	return 0
}
