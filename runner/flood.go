package runner

import (
	"fmt"
	"time"

	"labgate/lab"
	"labgate/messages"
)

// A flood of bad proposals must not fill the disk. So many rejections of one
// principal in a minute are each on record, with their proposals. Beyond that a
// proposal is not looked at until the minute is over: it is told so, and only
// counted. Its key is not used up by that.
const (
	mostRejected = 100
	rejectedIn   = time.Minute
)

// kindFlood is the kind of what is on record of the proposals that were only
// counted.
const kindFlood = "flood/v1"

// flood is what a principal had rejected since the first of a minute.
type flood struct {
	since    time.Time
	rejected int
	unseen   int // proposals that were not looked at
}

// flooding answers a proposal that is not looked at; false: it is.
func (c *Core) flooding(now time.Time, d delivery) bool {
	f := c.floods[d.Principal]
	if f == nil || f.rejected < mostRejected || !now.Before(f.since.Add(rejectedIn)) {
		return false
	}
	f.unseen++
	again := f.since.Add(rejectedIn).Add(time.Second).Truncate(time.Second).UTC().Format(time.RFC3339)
	i := lab.Issue{Code: "flood", Allowed: fmt.Sprintf("%d rejections in %s", mostRejected, lab.Seconds(rejectedIn)), Wait: "until " + again,
		Say:  fmt.Sprintf("%d proposals of %s were rejected within a minute; this one was not looked at", f.rejected, d.Principal),
		Hint: fmt.Sprintf("try again after %s", again)}
	c.tell(d.Proposed, messages.Verdict{Proposal: d.p.ID, Key: d.p.Key, Principal: d.Principal, Decision: messages.RejectedDecision, Say: "rejected: " + i.Say, Issues: lab.Issues{i}})
	return true
}

// rejected counts a rejection that is on record.
func (c *Core) rejected(now time.Time, who string) {
	f := c.floods[who]
	if f == nil || !now.Before(f.since.Add(rejectedIn)) {
		f = &flood{since: now}
		c.floods[who] = f
	}
	f.rejected++
}

// floodTick puts on record what was only counted, once its minute is over.
func (c *Core) floodTick(now time.Time) {
	for _, who := range sortedKeys(c.floods) {
		if !now.Before(c.floods[who].since.Add(rejectedIn)) {
			c.floodOver(now, who)
		}
	}
}

// End notes what was only counted so far. The shell calls it at its end, after
// the last Step.
func (c *Core) End(now time.Time) []Action {
	c.actions = nil
	for _, who := range sortedKeys(c.floods) {
		c.floodOver(now, who)
	}
	return c.actions
}

func (c *Core) floodOver(now time.Time, who string) {
	f := c.floods[who]
	delete(c.floods, who)
	if f.unseen > 0 {
		c.note(c.entry(now, kindFlood, who, nil, map[string]any{"since": f.since, "rejected": f.rejected, "not_looked_at": f.unseen}))
	}
}

// floodNext is when the first minute is over; zero: none has begun.
func (c *Core) floodNext() time.Time {
	var next time.Time
	for _, f := range c.floods {
		next = earlier(next, f.since.Add(rejectedIn))
	}
	return next
}
