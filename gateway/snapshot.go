package gateway

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
)

// Snapshot is all that the journal up to a place would tell a core: a start
// that has one reads only what came after it. It is a copy for its owner, fit
// for JSON, and is no record: the journal can do without it.
//
// The entries are what Restore is to be given after it: what is held, in doubt
// or ordered as it would be journalled now, then what was on its way to the
// disk when it was taken, which is durable if the snapshot's own place is.
type Snapshot struct {
	Format    int            `json:"format"`
	Lab       string         `json:"lab"`   // hash of the lab's files
	Rules     string         `json:"rules"` // hash of the rules in force
	LastEntry time.Time      `json:"last_entry"`
	Sure      time.Time      `json:"sure"` // ids made before it are asked of the journal
	Safety    *safety.Memory `json:"safety"`
	Entries   []lab.Entry    `json:"entries"`
}

const snapshotFormat = 1

// Snapshot takes one now. The shell adds the boot to its entries, and calls it
// once more at its end, after the last Step. A start from it does not see the
// entries before it, the runner's among them: it says how late they may be.
func (c *Core) Snapshot(now time.Time) *Snapshot {
	s := &Snapshot{Format: snapshotFormat, Lab: c.lab.Hash, Rules: c.engine.Rules().Hash, LastEntry: later(c.latest, c.lastEntry), Sure: later(now, c.lastEntry).Add(idAhead)}
	open := map[string]bool{}
	for _, name := range c.names {
		p := c.places[name]
		s.Entries = append(s.Entries, c.placeEntries(now, p)...)
		for _, cmd := range p.live {
			if cmd.laned && cmd.phase == closing { // its order is over, and counts only with its outcome
				s.Entries = append(s.Entries, c.lanedEntries(now, cmd)...)
			}
			if !cmd.laned && (cmd.phase == sending || cmd.phase == watching || cmd.phase == stopping || cmd.phase == closing && !cmd.decided.IsZero()) {
				open[cmd.ID] = true
				s.Entries = append(s.Entries, c.intentAgain(&cmd.Command, cmd.decided))
			}
		}
	}
	for _, id := range sortedKeys(c.doubts) {
		s.Entries = append(s.Entries, c.doubtEntries(c.doubts[id], open)...)
	}
	for _, name := range c.names {
		for _, d := range c.places[name].unsettled {
			s.Entries = append(s.Entries, c.doubtEntries(d, open)...)
		}
	}
	acknowledged := c.engine.Acknowledged()
	for _, rule := range sortedKeys(acknowledged) {
		e := c.entry(now, "acknowledge/v1", nil, map[string]string{"rule": rule})
		e.Principal = acknowledged[rule]
		s.Entries = append(s.Entries, e)
	}
	s.Entries = append(s.Entries, c.entry(now, "rules/v1", nil, map[string]string{"what": "snapshot", "hash": s.Rules}))
	for _, token := range slices.Sorted(maps.Keys(c.waiting)) {
		s.Entries = append(s.Entries, c.waiting[token].entries...)
	}
	s.Safety = c.engine.Memory(now, func(id string) bool { return open[id] })
	c.since = 0
	return s
}

// placeEntries are the lease and the orders of an instrument.
func (c *Core) placeEntries(now time.Time, p *place) []lab.Entry {
	var list []lab.Entry
	if p.fence > 0 {
		l, what := &lease{instrument: p.in.Name, fence: p.fence}, "release"
		if p.lease != nil {
			l, what = p.lease, "take"
		}
		list = append(list, c.leaseEntry(now, l, what))
	}
	for _, o := range p.lane {
		list = append(list, c.orderEntry(now, o))
	}
	return list
}

// lanedEntries are the order of a finally step that is over.
func (c *Core) lanedEntries(now time.Time, cmd *command) []lab.Entry {
	o := &laneOrder{id: "finally-" + cmd.ID, target: cmd.Target, text: (lab.SafeStep{Command: cmd.Target, Args: cmd.Args}).String()}
	o.order, _ = c.engine.Order(cmd.Target, safety.OriginFinally, "finally of run "+cmd.Run)
	result := "confirmed"
	if cmd.end != safety.AllDone {
		result = "not confirmed"
	}
	return []lab.Entry{c.orderEntry(now, o), c.orderEndEntry(now, o, result)}
}

// doubtEntries are a command whose outcome is open, as the journal has it.
func (c *Core) doubtEntries(d *doubt, open map[string]bool) []lab.Entry {
	open[d.cmd.ID] = true
	list := []lab.Entry{c.intentAgain(&d.cmd, d.since)}
	if o := c.answered[d.cmd.ID]; o != nil {
		k := c.known[d.cmd.ID]
		list = append(list, c.entry(o.Ended, "outcome/v1", &command{Command: d.cmd}, outcomeBody{*o, hex.EncodeToString(k.content[:]), endNames[safety.MaybeDone]}))
	}
	return list
}

func (c *Core) intentAgain(cmd *lab.Command, at time.Time) lab.Entry {
	return c.entry(at, "intent/v1", &command{Command: *cmd}, intent{Component: cmd.Target.Component, Name: cmd.Target.Command, Args: cmd.Args,
		Campaign: cmd.Campaign, Lease: cmd.Lease, NotAfter: cmd.NotAfter})
}

// Recall begins a restore with a snapshot, in the place of all entries before
// its place. An error says why it is not for this lab and these rules: then the
// core is of no use, and a new one reads the whole journal.
func (c *Core) Recall(s *Snapshot) error {
	const op = "gateway: recall"
	switch {
	case s.Format != snapshotFormat:
		return lab.Ef(op, "", lab.KindConflict, fmt.Sprintf("the snapshot has format %d; this program reads %d", s.Format, snapshotFormat))
	case s.Lab != c.lab.Hash:
		return lab.Ef(op, "", lab.KindConflict, "the lab's files have changed since the snapshot")
	case s.Rules != c.engine.Rules().Hash:
		return lab.Ef(op, "", lab.KindConflict, "the rules have changed since the snapshot")
	case s.Safety == nil:
		return lab.Ef(op, "", lab.KindConflict, "the snapshot says nothing of the rules")
	}
	if err := c.engine.Recall(s.Safety); err != nil {
		return err
	}
	c.lastEntry, c.sure = s.LastEntry, s.Sure
	c.restored.recalling = true
	for _, e := range s.Entries {
		if err := c.Restore(e); err != nil {
			return err
		}
	}
	c.restored.recalling = false
	return nil
}

// idAhead is how far the clock that made an id may be ahead of this one: a
// command's id tells when it was made.
const idAhead = time.Minute

// forgotten reports whether only the journal knows if an id came before.
func (c *Core) forgotten(id string) bool {
	if c.sure.IsZero() {
		return false
	}
	at, ok := lab.IDTime(id)
	return !ok || at.Before(c.sure)
}

// forget drops the older half of the outcomes in memory, but for what is open.
// Which ids are gone is told by when they were made.
func (c *Core) forget() {
	at := make([]time.Time, 0, len(c.answered))
	for id := range c.answered {
		t, _ := lab.IDTime(id)
		at = append(at, t)
	}
	slices.SortFunc(at, time.Time.Compare)
	c.sure = later(c.sure, at[len(at)/2])
	open := map[string]bool{}
	for _, n := range c.names {
		for _, d := range c.places[n].unsettled {
			open[d.cmd.ID] = true
		}
	}
	for id := range c.known {
		if c.forgotten(id) && c.live[id] == nil && c.doubts[id] == nil && !open[id] {
			delete(c.known, id)
			delete(c.answered, id)
		}
	}
	c.forgetAt = len(c.answered) + max(c.maxAnswered/2, 1)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// look asks the journal about an id, once, for whoever waits.
func (c *Core) look(id string, then func(now time.Time, err error)) {
	c.looking[id] = append(c.looking[id], then)
	if len(c.looking[id]) == 1 {
		c.do(Look{id})
	}
}

// looked takes what the journal says of an id.
func (c *Core) looked(now time.Time, e Looked) {
	waiting := c.looking[e.Command]
	delete(c.looking, e.Command)
	err := e.Err
	if err == nil && e.Entry != nil && c.answered[e.Command] == nil {
		err = c.recallAnswer(*e.Entry)
	}
	for _, then := range waiting {
		then(now, err)
	}
}

// recallAnswer puts an outcome of the journal back into memory.
func (c *Core) recallAnswer(e lab.Entry) error {
	b, k, err := answerOf(e)
	if err == nil {
		c.answered[e.Command], c.known[e.Command] = &b.Outcome, k
	}
	return err
}

func unreadable(id string, err error) messages.CommandReply {
	return messages.CommandReply{Command: id, State: lab.Refused,
		Issues: lab.Issues{{Code: "journal", Say: fmt.Sprintf("whether command %s came before can't be read: %v", id, err), Hint: "ask again"}}}
}
