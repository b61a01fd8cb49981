package gateway

import (
	"fmt"
	"slices"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
	"labgate/messages"
	"labgate/safety"
)

// laneOrder is a safe command on its way past everything else. It is
// journalled afterwards; nothing waits for that.
type laneOrder struct {
	id        string
	order     *safety.Order
	target    lab.CommandID
	text      string // as people write it, with its arguments
	spec      *spec
	timer     timer     // to be confirmed by
	handed    bool      // its link has it
	written   time.Time // only later readings confirm it
	confirmed bool
	over      bool
	tried     []string       // its own and what it is the else of
	in        []*sequence    // that wait for it
	cmds      []*command     // finally steps that wait for it
	done      []func(string) // stops that wait for it: "confirmed" or what went wrong
}

// out reports whether the order holds back nothing any more: written, or given
// up.
func (o *laneOrder) out() bool { return o.over || !o.written.IsZero() }

// laneOrderOf makes a lane order, or finds the same one that is handed over
// and not written yet. Nil: it belongs to another gateway.
func (c *Core) laneOrderOf(o *safety.Order) *laneOrder {
	p, s := c.places[o.Target().Instrument], c.specs[o.Target()]
	if p == nil || s == nil {
		c.alarm("lane", o.Target().Instrument, fmt.Sprintf("%s belongs to another gateway", o.Target()))
		return nil
	}
	text := stepOf(o).String()
	for _, have := range p.lane {
		if have.text == text && have.written.IsZero() {
			return have
		}
	}
	c.laneSeq++
	l := &laneOrder{id: fmt.Sprintf("lane-%d", c.laneSeq), order: o, target: o.Target(), text: text, spec: s, tried: []string{text}}
	l.timer.do = func(now time.Time) {
		c.laneEnd(now, l, fmt.Sprintf("not confirmed within %s", lab.Seconds(l.within())))
	}
	return l
}

// within is how long the order may take.
func (o *laneOrder) within() time.Duration { return max(o.spec.Within, settle) }

// handOver gives an order to its link, at once.
func (c *Core) handOver(now time.Time, l *laneOrder) {
	l.handed = true
	c.lane[l.id] = l
	p := c.places[l.target.Instrument]
	p.lane = append(p.lane, l)
	c.timers.set(&l.timer, now.Add(l.within()))
	c.do(Lane{l.id, l.order})
	if l.order.Origin() != safety.OriginFinally { // that one counts as the command that it is
		c.engine.Remember(now, orderAsCommand(l.id, l.target, l.order.Args()))
	}
	c.note(c.orderEntry(now, l))
}

func (c *Core) orderEntry(now time.Time, l *laneOrder) lab.Entry {
	e := c.entry(now, "order/v1", nil, map[string]any{"lane": l.id, "origin": l.order.Origin(), "why": l.order.Why(), "command": l.text})
	e.Instrument = l.target.Instrument
	return e
}

func (c *Core) orderEndEntry(now time.Time, l *laneOrder, result string) lab.Entry {
	e := c.entry(now, "order_end/v1", nil, map[string]any{"lane": l.id, "command": l.text, "result": result})
	e.Instrument = l.target.Instrument
	return e
}

// orderAsCommand is an order as the rules see it that ask what has happened:
// nobody decided about it, and it happened all the same. No command's id begins
// like its.
func orderAsCommand(id string, target lab.CommandID, args map[string]lab.Value) *lab.Command {
	return &lab.Command{ID: orderMark + id, Target: target, Args: args}
}

const orderMark = "\x00"

// orderEnd is what an order has done, for those rules. What nobody confirmed
// has happened, and not in full.
func orderEnd(confirmed bool) safety.End {
	if confirmed {
		return safety.AllDone
	}
	return safety.PartDone
}

// laneDone: the link has written it, or could not.
func (c *Core) laneDone(now time.Time, e LaneDone) {
	o := c.lane[e.ID]
	if o == nil {
		return
	}
	if e.Err != nil {
		c.laneEnd(now, o, e.Err.Error())
		return
	}
	o.written = now
	if o.spec.doneWhen == nil && e.Acked {
		o.confirmed = true
		c.laneEnd(now, o, "")
		return
	}
	for _, q := range o.in {
		c.advance(now, q)
	}
	c.laneWatch(now, o)
}

func (c *Core) laneWatch(now time.Time, o *laneOrder) {
	if o.written.IsZero() || o.over || o.spec.doneWhen == nil {
		return
	}
	if o.spec.doneWhen.Truth(nil, o.spec.env(now, o.written, o.order.Args(), c.engine.Reading, nil)) == expr.True {
		o.confirmed = true
		c.laneEnd(now, o, "")
	}
}

// laneEnd closes an order. One that is not confirmed raises a critical alarm,
// and takes its class's else.
func (c *Core) laneEnd(now time.Time, o *laneOrder, problem string) {
	if o.over {
		return
	}
	o.over = true
	c.timers.remove(&o.timer)
	delete(c.lane, o.id)
	p := c.places[o.target.Instrument]
	p.lane = slices.DeleteFunc(p.lane, func(x *laneOrder) bool { return x == o })
	result := "confirmed"
	if problem != "" {
		result = problem
	}
	c.engine.Settle(now, orderMark+o.id, orderEnd(problem == ""), nil)
	c.note(c.orderEndEntry(now, o, result))
	if problem != "" {
		c.unconfirmed(now, o, problem)
	}
	for _, f := range o.done {
		f(result)
	}
	for _, cmd := range o.cmds {
		out := lab.Outcome{State: lab.Confirmed}
		if problem != "" {
			out = lab.Outcome{State: lab.Failed, Kind: lab.KindOutcomeUnknown, Say: problem}
		}
		c.finish(now, cmd, out)
	}
	for _, q := range o.in {
		c.advance(now, q)
	}
	for _, cmd := range slices.Clone(p.live) {
		if cmd.phase == stopping {
			c.watch(now, cmd)
		}
	}
}

// unconfirmed alarms, and orders what the class says for this case. A chain of
// elses ends where it would begin again.
func (c *Core) unconfirmed(now time.Time, o *laneOrder, problem string) {
	say := fmt.Sprintf("%s (%s: %s) failed: %s", o.text, o.order.Origin(), o.order.Why(), problem)
	next, err := c.engine.Else(o.order)
	switch {
	case err != nil:
		say += "; " + err.Error()
	case next != nil && slices.Contains(o.tried, stepOf(next).String()):
		say += fmt.Sprintf("; %s was tried already", stepOf(next))
		next = nil
	case next != nil:
		say += fmt.Sprintf("; %s is ordered instead", stepOf(next))
	}
	c.alarm("lane", o.target.Instrument, say)
	if next == nil || err != nil {
		return
	}
	for _, l := range c.orderAll(now, []*safety.Order{next}) {
		l.tried = append(slices.Clone(o.tried), l.tried...)
	}
}

// finallyLane sends a finally step through the safe lane if the lab's safe
// list names it; else it is decided like any other.
func (c *Core) finallyLane(now time.Time, cmd *command) bool {
	if cmd.spec.Effect != lab.Safe {
		return false
	}
	o, err := c.engine.Order(cmd.Target, safety.OriginFinally, "finally of run "+cmd.Run)
	if err != nil || stepOf(o).String() != (lab.SafeStep{Command: cmd.Target, Args: cmd.Args}).String() {
		return false // not named by the safe list, or with other arguments
	}
	c.supersede(now, cmd)
	cmd.phase, cmd.laned = sending, true
	c.timers.remove(&cmd.timer)
	c.engine.Remember(now, &cmd.Command) // it is decided by nobody, and rules about the order of things must know of it
	for _, l := range c.orderAll(now, []*safety.Order{o}) {
		l.cmds = append(l.cmds, cmd)
	}
	return true
}

// tripped latches are journalled, act through the lane, and end the commands
// and the runs on their instruments.
func (c *Core) tripped(now time.Time, t *safety.Trip) {
	c.append(nil, c.entry(now, "trip/v1", nil, t.Latch)) // committed at once, and nothing waits for it
	runs := c.interruptOn(now, t.Latch.Instruments, t.Latch.Mitigates, t.Latch.Say)
	c.orderAll(now, t.Do)
	m := messages.Safety{What: messages.SafetyTrip, Rule: t.Latch.Rule, Group: t.Latch.Group, FirstOut: t.Latch.FirstOut, Priority: "critical",
		Instruments: t.Latch.Instruments, Mitigates: t.Latch.Mitigates, Runs: runs, RunAction: t.Run, Inputs: t.Latch.Inputs, Say: t.Latch.Say}
	if t.Run == safety.RunHold {
		q := lab.Seconds(c.holdFor(t))
		m.HoldFor = &q
	}
	c.do(Publish{m})
}

// interruptOn takes back the effects under way on some instruments (all, if
// none is named), but for those that help, and returns the runs that hold the
// instruments. Permits are revoked before any stop is handed over.
func (c *Core) interruptOn(now time.Time, instruments, spared []string, why string) []string {
	runs := map[string]bool{}
	on := instruments
	if len(on) == 0 {
		on = c.names
	}
	for _, name := range on {
		if p := c.places[name]; p != nil && p.lease != nil {
			runs[p.lease.run] = true
		}
	}
	for _, cmd := range c.liveOn(instruments) {
		if c.live[cmd.ID] != cmd || cmd.spec.Effect == lab.Safe || cmd.spec.Effect == lab.Read || slices.Contains(spared, cmd.Target.String()) {
			continue
		}
		c.interrupt(now, cmd, lab.KindDenied, why, true)
	}
	return sortedKeys(runs)
}

// stopAsked latches, takes back every effect, and brings the instruments to
// their safe states in parallel. It asks nobody and waits for no disk.
func (c *Core) stopAsked(now time.Time, e StopAsked) {
	if e.Instrument != "" && c.places[e.Instrument] == nil {
		c.do(Answer{e.Reply, messages.StopReply{ID: e.ID, Gateway: c.name, Instruments: map[string]string{e.Instrument: "not an instrument of this gateway"}}})
		return
	}
	names := nonEmpty(e.Instrument)
	latch := c.engine.Stop(now, e.Instrument, e.Principal, e.Reason)
	runs := c.interruptOn(now, names, nil, latch.Say)
	if e.Instrument == "" {
		names = c.names
	}
	answer := c.stopReply(now, e, names, latch.Say)
	c.append(nil, c.entry(now, "stop/v1", nil, map[string]any{"latch": latch, "principal": e.Principal, "reason": e.Reason}))
	c.do(Publish{messages.Safety{What: messages.SafetyStop, Rule: latch.Rule, Group: latch.Group, Priority: "critical", Instruments: names,
		Runs: runs, RunAction: safety.RunAbort, Principal: e.Principal, Say: latch.Say}})
	answer()
}

// stopReplyWithin bounds how long a stop is left without an answer: a safe
// state may have waits in it, and whoever stops wants to know by then.
const stopReplyWithin = 7 * time.Second

// stopReply orders the safe states, and answers when all of them are
// confirmed or have failed, or when the time is up: what is still on its way
// is then "ordered". The function it returns is called once everything else
// about the stop is done.
func (c *Core) stopReply(now time.Time, e StopAsked, names []string, say string) func() {
	reply := messages.StopReply{ID: e.ID, Gateway: c.name, Instruments: map[string]string{}}
	waits, answered := 1, false
	left := map[string]int{} // orders on their way, by instrument
	late := &timer{}
	answer := func() {
		if answered {
			return
		}
		answered = true
		c.timers.remove(late)
		for n := range left {
			if left[n] > 0 && (reply.Instruments[n] == "" || reply.Instruments[n] == "confirmed") {
				reply.Instruments[n] = "ordered"
			}
		}
		c.do(Answer{e.Reply, reply})
	}
	late.do = func(time.Time) { answer() }
	finish := func() {
		if waits--; waits == 0 {
			answer()
		}
	}
	for _, n := range names {
		orders := c.orderAll(now, c.engine.SafeState(n, safety.OriginStop, say))
		if len(orders) == 0 {
			reply.Instruments[n] = "kept"
		}
		for _, o := range orders {
			waits++
			left[n]++
			o.done = append(o.done, func(result string) {
				left[n]--
				if !answered && (reply.Instruments[n] == "" || result != "confirmed") {
					reply.Instruments[n] = result
				}
				finish()
			})
		}
	}
	c.timers.set(late, now.Add(stopReplyWithin))
	return finish
}

// alarm tells people; it changes nothing.
func (c *Core) alarm(rule, instrument, say string) {
	c.do(Publish{messages.Safety{What: messages.SafetyAlarm, Rule: rule, Priority: "critical", Instruments: nonEmpty(instrument), Say: say}})
	c.note(lab.Entry{Kind: "alarm/v1", Instrument: instrument, Body: messages.Body(map[string]any{"rule": rule, "say": say})})
}
