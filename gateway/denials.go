package gateway

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"labgate/lab"
	"labgate/safety"
)

// A flood of denials must not fill the disk. So many of one kind in a minute
// are on record one by one, with all that the rules saw; of what comes then, a
// second's are one entry, with what each asked for and why it was denied.
const (
	denialsEach  = 20
	denialsIn    = time.Minute
	denialsEvery = time.Second
	denialsMost  = 1000 // of one entry
)

// kindDenials is the kind of the entry of many.
const kindDenials = "denials/v1"

// denialKind is what makes denials alike.
type denialKind struct {
	principal  string
	target     lab.CommandID
	rule, code string
}

// denials are those of one kind since the first of a minute.
type denials struct {
	since time.Time
	n     int
	more  denialsBody
	timer timer // of those that are not on record yet, or of the end of the minute
}

// denialsBody is what the journal keeps of many.
type denialsBody struct {
	Name     string    `json:"name"` // component.command
	Say      string    `json:"say"`
	Issue    lab.Issue `json:"issue"` // of the last
	Commands []denied  `json:"commands"`
}

// denied is one of them.
type denied struct {
	Command string    `json:"command"`
	Content string    `json:"content"`
	At      time.Time `json:"at"`
	Run     string    `json:"run,omitempty"`
}

// denial puts a denial on record, without waiting.
func (c *Core) denial(now time.Time, cmd *command, o lab.Outcome) {
	issue := o.Issues[0]
	kind := denialKind{cmd.Principal, cmd.Target, issue.Rule, issue.Code}
	d := c.denials[kind]
	if d == nil {
		d = &denials{since: now}
		d.timer.do = func(now time.Time) { c.denialsDue(now, kind, d) }
		c.denials[kind] = d
		c.timers.set(&d.timer, now.Add(denialsIn))
	}
	content := hex.EncodeToString(cmd.content[:])
	if d.n++; d.n <= denialsEach {
		en := c.entry(now, "denial/v1", cmd, outcomeBody{o, content, endNames[safety.NothingDone]})
		en.Key = denialKey + cmd.ID
		c.note(en)
		return
	}
	if len(d.more.Commands) == 0 {
		c.timers.set(&d.timer, now.Add(denialsEvery))
	}
	d.more.Name, d.more.Say, d.more.Issue = cmd.Target.Component+"."+cmd.Target.Command, o.Say, issue
	if d.more.Commands = append(d.more.Commands, denied{cmd.ID, content, now, cmd.Run}); len(d.more.Commands) >= denialsMost {
		c.denialsDue(now, kind, d)
	}
}

// denialsDue puts many on record, and forgets a kind whose minute is over.
func (c *Core) denialsDue(now time.Time, kind denialKind, d *denials) {
	if len(d.more.Commands) > 0 {
		en := c.entry(now, kindDenials, nil, d.more)
		en.Principal, en.Instrument = kind.principal, kind.target.Instrument
		c.note(en)
		d.more = denialsBody{}
	}
	over := d.since.Add(denialsIn)
	if now.Before(over) {
		c.timers.set(&d.timer, over)
		return
	}
	c.timers.remove(&d.timer)
	delete(c.denials, kind)
}

// sortedDenials are the kinds in the order of their first.
func sortedDenials(m map[denialKind]*denials) []denialKind {
	return slices.SortedFunc(maps.Keys(m), func(a, b denialKind) int {
		return cmp.Or(m[a].since.Compare(m[b].since), cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)))
	})
}

// End notes what was only counted so far. The shell calls it at its end, after
// the last Step.
func (c *Core) End(now time.Time) []Action {
	c.actions = nil
	for _, kind := range sortedDenials(c.denials) {
		c.denialsDue(now, kind, c.denials[kind])
	}
	return c.actions
}

// restoreDenials puts back what was answered. These can't be asked of the
// journal by their ids: by the time that they are not at hand any more, they
// have expired.
func (c *Core) restoreDenials(e lab.Entry) error {
	var b denialsBody
	if err := json.Unmarshal(e.Body, &b); err != nil {
		return err
	}
	for _, x := range b.Commands {
		k := known{principal: e.Principal}
		if _, err := hex.Decode(k.content[:], []byte(x.Content)); err != nil {
			return err
		}
		c.answered[x.Command] = &lab.Outcome{Command: x.Command, State: lab.Refused, Kind: lab.KindDenied, Issues: lab.Issues{b.Issue}, Say: b.Say, Started: x.At, Ended: x.At}
		c.known[x.Command] = k
	}
	return nil
}
