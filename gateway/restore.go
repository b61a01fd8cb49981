package gateway

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
)

// restored is what a restart needs to know between the first entry of the
// journal and the first Step.
type restored struct {
	intents   map[string]*lab.Command // decided, and not over
	orders    map[string]bool         // of the safe lane, that are not over
	leases    map[string]*lease       // by instrument: taken, and not given back
	seen      map[string]string       // alarms that somebody acknowledged: rule to who
	rules     string                  // hash of those that were in force last
	recalling bool                    // the entries are a snapshot's
}

func newRestored() restored {
	return restored{intents: map[string]*lab.Command{}, orders: map[string]bool{}, leases: map[string]*lease{}, seen: map[string]string{}}
}

// Restore takes one entry of the journal, in order, before the first Step. An
// intent without an outcome is in doubt; what commands have done goes on to be
// counted; latches, bypasses, acknowledgements and fencing numbers go on; what
// was answered stays answered.
func (c *Core) Restore(e lab.Entry) error {
	if e.Time.After(c.lastEntry) {
		c.lastEntry = e.Time
	}
	var err error
	switch e.Kind {
	case "intent/v1":
		err = c.restoreIntent(e)
	case "outcome/v1", "denial/v1":
		err = c.restoreOutcome(e)
	case kindDenials:
		err = c.restoreDenials(e)
	case "order/v1", "order_end/v1":
		err = c.restoreOrder(e)
	case "lease/v1":
		err = c.restoreLease(e)
	case "trip/v1":
		var l safety.Latch
		if err = json.Unmarshal(e.Body, &l); err == nil {
			c.engine.RestoreLatch(l)
		}
	case "stop/v1":
		var b struct{ Latch safety.Latch }
		if err = json.Unmarshal(e.Body, &b); err == nil {
			c.engine.RestoreLatch(b.Latch)
		}
	case "reset/v1":
		var b struct{ Rule string }
		if err = json.Unmarshal(e.Body, &b); err == nil {
			c.engine.DropLatch(b.Rule)
		}
	case "bypass/v1", "rearm/v1", "acknowledge/v1", "alarm_state/v1", "rules/v1":
		err = c.restoreOperator(e)
	}
	if err != nil {
		return lab.E("gateway: restore", e.Instrument, lab.KindInternal, fmt.Errorf("%s: %w", e.Kind, err))
	}
	return nil
}

func (c *Core) restoreIntent(e lab.Entry) error {
	var b intent
	if err := json.Unmarshal(e.Body, &b); err != nil {
		return err
	}
	cmd := lab.Command{ID: e.Command, Target: lab.CommandID{Instrument: e.Instrument, Component: b.Component, Command: b.Name}, Args: b.Args,
		Principal: e.Principal, Run: e.Run, Campaign: b.Campaign, Step: e.Step, Lease: b.Lease, NotAfter: b.NotAfter, Samples: e.Samples, Labels: e.Labels}
	c.known[cmd.ID] = known{c.content(cmd), cmd.Principal}
	if c.doubts[cmd.ID] != nil {
		return nil // a snapshot had it on its way to the disk
	}
	c.addDoubt(&doubt{cmd: cmd, since: e.Time, say: "the gateway went down before its outcome was known"})
	c.restored.intents[cmd.ID] = &cmd
	c.engine.Remember(e.Time, &cmd)
	c.engine.Moved(cmd.ID, b.Moves)
	if !c.restored.recalling { // a snapshot knows
		c.engine.Mitigated(cmd.Target, cmd.ID)
	}
	return nil
}

// answerOf reads what was answered to a command.
func answerOf(e lab.Entry) (b outcomeBody, k known, err error) {
	err = json.Unmarshal(e.Body, &b)
	k.principal = e.Principal
	if h, bad := hex.DecodeString(b.Content); bad == nil && len(h) == 32 {
		k.content = [32]byte(h)
	}
	return b, k, err
}

func (c *Core) restoreOutcome(e lab.Entry) error {
	b, k, err := answerOf(e)
	if err != nil {
		return err
	}
	o := b.Outcome
	c.answered[e.Command] = &o
	if _, have := c.known[e.Command]; !have || k.content != [32]byte{} {
		c.known[e.Command] = k
	}
	cmd := c.restored.intents[e.Command]
	end := c.restoredEnd(e, &b, cmd)
	if end == safety.NothingDone {
		c.engine.NotSent(e.Command)
	}
	d := c.openDoubt(e.Command)
	if d != nil && o.State == lab.InDoubt {
		d.say = o.Say
		return nil
	}
	if d != nil && cmd == nil && end == safety.MaybeDone {
		return nil // it is counted so already
	}
	if d != nil {
		c.dropDoubt(d)
	}
	if end != safety.MaybeDone {
		c.engine.Settle(e.Time, e.Command, end, o.Amount)
	}
	if cmd != nil {
		c.counted(e.Time, cmd, &o, end)
		delete(c.restored.intents, e.Command)
	}
	return nil
}

// restoredEnd is what a journalled outcome says was done; entries of before
// that word was written say it by their state.
func (c *Core) restoredEnd(e lab.Entry, b *outcomeBody, cmd *lab.Command) safety.End {
	for end, name := range endNames {
		if name == b.End {
			return end
		}
	}
	switch {
	case b.State == lab.Resolved && e.Labels["as"] == "not_done":
		return safety.NothingDone
	case b.State == lab.Resolved:
		return safety.AllDone
	case cmd != nil:
		return endOf(c.specs[cmd.Target], &b.Outcome, true)
	}
	return endOf(nil, &b.Outcome, true)
}

// restoreOrder tells the rules that ask what has happened of an order of the
// safe lane. One for what the lab has no more tells nothing.
func (c *Core) restoreOrder(e lab.Entry) error {
	var b struct{ Lane, Command, Result string }
	if err := json.Unmarshal(e.Body, &b); err != nil {
		return err
	}
	id := e.Boot + "/" + b.Lane
	if e.Kind == "order_end/v1" {
		c.engine.Settle(e.Time, orderMark+id, orderEnd(b.Result == "confirmed"), nil)
		delete(c.restored.orders, id)
		return nil
	}
	if target, args, err := c.lab.ResolveCall(b.Command); err == nil {
		c.engine.Remember(e.Time, orderAsCommand(id, target, args))
		c.restored.orders[id] = true
	}
	return nil
}

func (c *Core) restoreLease(e lab.Entry) error {
	var b struct {
		What  string
		Lease uint64
	}
	if err := json.Unmarshal(e.Body, &b); err != nil {
		return err
	}
	p := c.places[e.Instrument]
	if p == nil {
		return nil
	}
	p.fence = max(p.fence, b.Lease)
	delete(c.restored.leases, e.Instrument)
	if b.What == "take" {
		c.restored.leases[e.Instrument] = &lease{instrument: e.Instrument, run: e.Run, principal: e.Principal, fence: b.Lease}
	}
	return nil
}

func (c *Core) restoreOperator(e lab.Entry) error {
	var b struct {
		safety.Bypass
		Acknowledged bool   `json:"acknowledged"`
		Active       bool   `json:"active"`
		Hash         string `json:"hash"`
	}
	if err := json.Unmarshal(e.Body, &b); err != nil {
		return err
	}
	switch e.Kind {
	case "bypass/v1":
		c.engine.RestoreBypass(b.Bypass)
	case "rearm/v1":
		_ = c.engine.Unbypass(e.Time, b.Rule) // one whose rule is gone is over anyway
	case "acknowledge/v1":
		c.restored.seen[b.Rule] = e.Principal
	case "alarm_state/v1":
		if !b.Acknowledged || !b.Active {
			delete(c.restored.seen, b.Rule) // gone since, or raised again
		}
	case "rules/v1":
		if b.Hash != "" {
			c.restored.rules = b.Hash
		}
	}
	return nil
}

// Restored ends the restore. Every intent that is left without an outcome is
// written down as in doubt (a safe one as failed, which it would be without a
// restart too), so that the record says so too, and is told of. Leases of before count as lost. What a latch has ordered is ordered again,
// as soon as its links are up: nobody knows whether it arrived.
func (c *Core) Restored(now time.Time) []Action {
	c.actions = nil
	c.restoredDoubts(now)
	for _, id := range sortedKeys(c.restored.orders) {
		c.engine.Settle(now, orderMark+id, orderEnd(false), nil)
	}
	for _, l := range c.engine.Latches() {
		orders := c.engine.Again(l.Rule)
		for _, n := range c.names {
			c.places[n].atUp = mergeOrders(c.places[n].atUp, ofInstrument(orders, n))
		}
	}
	for _, name := range sortedKeys(c.restored.leases) {
		c.restoredLease(now, c.restored.leases[name])
	}
	for _, rule := range sortedKeys(c.restored.seen) {
		c.engine.RestoreAcknowledged(rule, c.restored.seen[rule])
	}
	if r := c.engine.Rules(); c.restored.rules != r.Hash {
		c.note(c.entry(now, "rules/v1", nil, rulesBody{What: "start", Name: r.Name, Hash: r.Hash, Was: c.restored.rules, Text: textOf(r)}))
	}
	if say := c.clockProblem(now); say != "" {
		c.alarm("clock", "", say)
	}
	c.restored = newRestored()
	c.state.do = func(now time.Time) {
		c.publishState()
		c.timers.set(&c.state, now.Add(stateEvery))
	}
	c.timers.set(&c.state, now.Add(stateEvery))
	return c.actions
}

func (c *Core) restoredDoubts(now time.Time) {
	var entries []lab.Entry
	var told []messages.Outcome
	for _, id := range sortedKeys(c.doubts) {
		d := c.doubts[id]
		if c.answered[id] != nil {
			continue
		}
		o := lab.Outcome{Command: id, State: lab.InDoubt, Kind: lab.KindOutcomeUnknown, Say: d.say, Started: d.since, Ended: now}
		if s := c.specs[d.cmd.Target]; s != nil && s.Effect == lab.Safe {
			// What is towards the safe state needs nobody's word: it may be
			// asked for again.
			o.State, o.Say = lab.Failed, d.say+"; it may be asked for again"
			c.dropDoubt(d)
			c.counted(now, &d.cmd, &o, safety.MaybeDone)
		}
		c.answered[id] = &o
		if o.State != lab.InDoubt { // not told before it is durable
			c.answered[id] = &lab.Outcome{Command: id, State: lab.InDoubt, Kind: o.Kind, Say: d.say, Started: o.Started, Ended: now}
		}
		k := c.known[id]
		en := c.entry(now, "outcome/v1", &command{Command: d.cmd}, outcomeBody{o, hex.EncodeToString(k.content[:]), endNames[safety.MaybeDone]})
		en.Key = outcomeKey + id
		entries = append(entries, en)
		told = append(told, messages.Outcome{Instrument: d.cmd.Target.Instrument, Component: d.cmd.Target.Component, Name: d.cmd.Target.Command,
			Run: d.cmd.Run, Step: d.cmd.Step, Principal: d.cmd.Principal, Outcome: o})
	}
	if len(entries) == 0 {
		return
	}
	c.append(func(_ time.Time, refs []lab.Ref, err error) {
		for i, m := range told {
			if err != nil {
				return // the next start finds them again
			}
			if i < len(refs) {
				m.Ref = refs[i]
			}
			c.answered[m.Outcome.Command] = &m.Outcome
			c.do(Publish{m})
		}
	}, entries...)
}

// restoredLease ends a lease that was held when the process went down: its
// runner may be gone too.
func (c *Core) restoredLease(now time.Time, l *lease) {
	say := fmt.Sprintf("run %s lost its lease on %s: the gateway went down", l.run, l.instrument)
	c.note(c.leaseEntry(now, l, "lost"))
	p := c.places[l.instrument]
	if p.in.OnLeaseLoss == "safe" {
		p.atUp = mergeOrders(p.atUp, c.engine.SafeState(l.instrument, safety.OriginLostLease, say))
	}
	c.engine.Unscope(l.run)
	c.do(Publish{messages.Safety{What: messages.SafetyLeaseLost, Instruments: []string{l.instrument}, Runs: []string{l.run}, RunAction: safety.RunAbort, Say: say}})
}
