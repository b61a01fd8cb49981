package gateway

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
	"labgate/messages"
	"labgate/safety"
)

// phase is where a live command is in the commit sequence.
type phase uint8

const (
	refreshing phase = iota // the links are asked for what the decision needs
	committing              // ALLOW and INTENT are on their way to the disk
	sending                 // the link has it
	watching                // sent; its done_when is awaited
	stopping                // its stop is under way; evidence of what was done is awaited
	closing                 // the outcome is on its way to the disk
)

// Times that no class states.
const (
	refreshWithin = 500 * time.Millisecond // for the links to answer before a decision
	sendWithin    = 15 * time.Second       // longest exchange
	settle        = time.Second            // after a stop was to be done, for the readings to show it
)

// command is a command from its arrival to its durable outcome.
type command struct {
	lab.Command
	seq      uint64 // in the order of arrival
	content  [32]byte
	spec     *spec
	phase    phase
	decided  time.Time // when it was allowed; zero: it was not
	finally  bool
	laned    bool // it went through the safe lane: no decision, no permit
	started  time.Time
	sent     time.Time // when the exchange was over; only later readings count
	timer    timer     // the deadline of the phase
	epoch    uint64
	before   []lab.Reading        // the component's properties at the decision; nil: void
	values   map[string]lab.Value // what the device returned
	stopAt   time.Time            // when its stop was ordered
	stopWhy  string
	lost     *safety.Lost // the permissive whose loss interrupted it
	stopKind lab.Kind
	cancel   *lab.Outcome // it must not be sent any more
	end      safety.End   // in closing: what its outcome says was done
}

// ask admits a command or refuses it. The answer says only that; the outcome
// is a later message. A second delivery gets the recorded answer; an id that
// comes again with other content is refused and changes nothing.
func (c *Core) ask(now time.Time, e Asked) {
	cmd := &command{Command: e.Command, finally: e.Finally, started: now, spec: c.specs[e.Command.Target], content: c.content(e.Command)}
	if k, ok := c.known[cmd.ID]; ok {
		c.askAgain(now, cmd, k, e.Reply)
		return
	}
	if !e.looked && c.forgotten(cmd.ID) && len(c.looking) < c.maxLive {
		e.looked = true
		c.look(cmd.ID, func(now time.Time, err error) {
			if err != nil {
				c.do(Answer{e.Reply, unreadable(cmd.ID, err)})
				return
			}
			c.ask(now, e)
		})
		return
	}
	if at, ok := lab.IDTime(cmd.ID); ok && at.After(now.Add(idAhead)) { // it leaves no trace: it would have to be kept until then
		c.do(Answer{e.Reply, messages.CommandReply{Command: cmd.ID, State: lab.Refused, Issues: lab.Issues{{Code: "bad_id", Path: "id", Got: cmd.ID,
			Say: fmt.Sprintf("the id says that it was made %s ahead of this gateway's clock", at.Sub(now).Round(time.Second))}}}})
		return
	}
	if c.full(cmd) || !e.looked && c.forgotten(cmd.ID) {
		c.do(Answer{e.Reply, messages.CommandReply{Command: cmd.ID, State: lab.Refused,
			Issues: lab.Issues{{Code: "busy", Say: fmt.Sprintf("the gateway has %d commands under way", len(c.live)), Hint: "try again in a second"}}}})
		return
	}
	issues := c.admit(now, cmd)
	if len(issues) > 0 {
		reply := messages.CommandReply{Command: cmd.ID, State: lab.Refused, Issues: issues}
		if cmd.ID != "" {
			c.refuse(now, cmd, issues)
			reply.Known, reply.Outcome = true, c.answered[cmd.ID] // as any delivery after this one is answered
		}
		c.do(Answer{e.Reply, reply})
		return
	}
	c.do(Answer{e.Reply, messages.CommandReply{Command: cmd.ID, Known: true, Accepted: true, State: lab.Accepted}})
	c.commands++
	cmd.seq, cmd.timer.do = c.commands, func(now time.Time) { c.commandTick(now, cmd) }
	c.live[cmd.ID], c.known[cmd.ID] = cmd, known{cmd.content, cmd.Principal}
	p := c.places[cmd.Target.Instrument]
	p.live = append(p.live, cmd)
	if cmd.finally && c.finallyLane(now, cmd) {
		return
	}
	cmd.phase = refreshing
	c.timers.set(&cmd.timer, now.Add(2*refreshWithin))
	c.do(Refresh{cmd.ID, c.ownedOnly(c.engine.Needs(cmd.Target), cmd.spec.properties()), refreshWithin})
}

// askAgain answers a command whose id has come before.
func (c *Core) askAgain(now time.Time, cmd *command, k known, reply any) {
	switch o := c.answered[cmd.ID]; {
	case k.content != cmd.content:
		say := fmt.Sprintf("command %s was asked for before, with other content", cmd.ID)
		c.note(lab.Entry{Kind: "id_reused/v1", Time: now, Command: cmd.ID, Instrument: cmd.Target.Instrument, Principal: cmd.Principal, Run: cmd.Run,
			Body: messages.Body(map[string]string{"command": cmd.Target.String(), "content": hex.EncodeToString(cmd.content[:])})})
		c.do(Publish{messages.Safety{What: messages.SafetyRefusal, Instruments: nonEmpty(cmd.Target.Instrument), Runs: nonEmpty(cmd.Run), Command: cmd.ID, Principal: cmd.Principal, Say: say}})
		c.do(Answer{reply, messages.CommandReply{Command: cmd.ID, State: lab.Refused,
			Issues: lab.Issues{{Code: "id_reused", Path: "id", Got: cmd.ID, Say: say, Hint: "every command has an id of its own"}}}})
	case c.live[cmd.ID] != nil:
		c.do(Answer{reply, messages.CommandReply{Command: cmd.ID, Known: true, Accepted: true, State: c.live[cmd.ID].state()}})
	case o != nil:
		c.do(Answer{reply, messages.CommandReply{Command: cmd.ID, Known: true, Accepted: o.State != lab.Refused, State: o.State, Issues: o.Issues, Outcome: o}})
	}
}

// full reports whether one more command would be too many. What leads to
// safety has room of its own.
func (c *Core) full(cmd *command) bool {
	most := c.maxLive
	if cmd.spec != nil && cmd.spec.Effect == lab.Safe {
		most *= 2
	}
	return len(c.live) >= most
}

// ownedOnly drops what another gateway's links would have to answer, and what
// is named twice.
func (c *Core) ownedOnly(lists ...[]lab.PropertyID) []lab.PropertyID {
	var own []lab.PropertyID
	for _, list := range lists {
		for _, id := range list {
			if c.places[id.Instrument] != nil && !slices.Contains(own, id) { // a few dozen at most
				own = append(own, id)
			}
		}
	}
	return own
}

// refreshed decides, and asks for the one durable commit that holds ALLOW and
// INTENT.
func (c *Core) refreshed(now time.Time, e Refreshed) {
	cmd := c.live[e.Command]
	if cmd == nil || cmd.phase != refreshing {
		return
	}
	if issues := c.recheck(now, cmd); len(issues) > 0 {
		c.refuse(now, cmd, issues)
		return
	}
	cmd.epoch = c.places[cmd.Target.Instrument].link.epoch
	cmd.before = c.snapshot(now, cmd)
	if issues := c.unprovable(now, cmd); len(issues) > 0 {
		c.refuse(now, cmd, issues)
		return
	}
	d := c.engine.Decide(now, &cmd.Command, cmd.epoch)
	if d.Permit == nil {
		c.refuse(now, cmd, d.Refusals)
		return
	}
	c.supersede(now, cmd)
	cmd.phase, cmd.decided = committing, now
	c.timers.remove(&cmd.timer)
	allow := c.entry(now, "allow/v1", cmd, map[string]any{"rules": d.Rules, "rules_hash": d.Permit.Rules(), "inputs": d.Used(), "epoch": cmd.epoch, "until": d.Permit.NotAfter()})
	intent := c.entry(now, "intent/v1", cmd, c.intentBody(cmd))
	intent.Key = "command/" + cmd.ID
	c.append(func(now time.Time, _ []lab.Ref, err error) { c.intended(now, cmd, d.Permit, err) }, allow, intent)
}

// intended hands the command to its link, now that its intent is durable.
func (c *Core) intended(now time.Time, cmd *command, permit *safety.Permit, err error) {
	switch {
	case err != nil:
		c.finish(now, cmd, lab.Outcome{State: lab.NotSent, Kind: lab.KindUnavailable, Say: fmt.Sprintf("its intent could not be made durable: %v", err)})
	case cmd.cancel != nil:
		c.finish(now, cmd, *cmd.cancel)
	case c.poisoned != nil:
		c.finish(now, cmd, lab.Outcome{State: lab.NotSent, Kind: lab.KindUnavailable, Say: "the journal failed"})
	case cmd.spec.Effect != lab.Safe && c.clockProblem(now) != "":
		c.finish(now, cmd, lab.Outcome{State: lab.NotSent, Kind: lab.KindExpired, Say: c.clockProblem(now)})
	default:
		cmd.phase = sending
		c.timers.set(&cmd.timer, now.Add(max(sendWithin, c.patience)))
		c.do(Send{cmd.Command, permit})
	}
}

// exchanged takes what the link says of a command that it was given.
func (c *Core) exchanged(now time.Time, e Exchanged) {
	cmd := c.live[e.Command]
	if cmd == nil || cmd.phase != sending && cmd.phase != stopping {
		return
	}
	if cmd.sent, cmd.values = now, e.Values; e.Ended.Before(now) && !e.Ended.IsZero() {
		cmd.sent = e.Ended // its read-back may have come before this event
	}
	if e.Err != nil {
		c.failed(now, cmd, e.Err)
		return
	}
	c.note(c.entry(now, "sent/v1", cmd, map[string]any{"acked": e.Acked, "first_byte": e.Sent}))
	if cmd.phase == stopping {
		return
	}
	if cmd.spec.doneWhen == nil {
		if !e.Acked {
			c.uncertain(now, cmd, "the device gave no answer, and nothing can be read back")
			return
		}
		c.confirm(now, cmd)
		return
	}
	cmd.phase = watching
	c.timers.set(&cmd.timer, now.Add(max(cmd.spec.worstTime(now, cmd.Args, sendWithin), c.patience)))
	c.watch(now, cmd)
}

// failed sorts an error of a link by what may be assumed about the device.
func (c *Core) failed(now time.Time, cmd *command, err error) {
	kind := lab.KindOf(err)
	o := lab.Outcome{Kind: kind, Say: err.Error()}
	switch kind {
	case lab.KindNotSent, lab.KindInvalid, lab.KindDenied, lab.KindExpired, lab.KindUnavailable, lab.KindCancelled, lab.KindBusy, lab.KindConflict:
		o.State = lab.NotSent
	case lab.KindDeviceRefused:
		o.State = lab.Failed
	case lab.KindContradicted:
		o.State = lab.Contradicted
	default:
		if cmd.phase == stopping {
			return // its stop is under way; the readings will tell
		}
		if cmd.spec.doneWhen != nil {
			// It may have arrived: read-back may still prove it.
			cmd.phase, cmd.stopWhy = watching, err.Error()
			c.timers.set(&cmd.timer, now.Add(max(cmd.spec.worstTime(now, cmd.Args, sendWithin), c.patience)))
			return
		}
		c.uncertain(now, cmd, err.Error())
		return
	}
	c.finish(now, cmd, o)
}

// watch looks whether a command is done, by readings newer than its exchange.
func (c *Core) watch(now time.Time, cmd *command) {
	if cmd.sent.IsZero() || cmd.phase != watching && cmd.phase != stopping || cmd.spec.doneWhen == nil {
		return
	}
	env := cmd.spec.env(now, cmd.sent, cmd.Args, c.readingOf(cmd), cmd.before)
	if cmd.spec.doneWhen.Truth(nil, env) == expr.True {
		c.confirm(now, cmd)
		return
	}
	if cmd.phase == stopping && c.stopSeen(now, cmd) {
		c.stopped(now, cmd, env)
	}
}

// readingOf reads for a command. What was read in another epoch than its own
// says nothing of it: a device that began anew is at rest, whatever it had done.
func (c *Core) readingOf(cmd *command) func(lab.PropertyID) lab.Reading {
	return func(id lab.PropertyID) lab.Reading {
		r := c.engine.Reading(id)
		if r.Epoch != 0 && r.Epoch != cmd.epoch {
			return lab.Reading{}
		}
		return r
	}
}

// confirm ends a command that did what it was to do.
func (c *Core) confirm(now time.Time, cmd *command) {
	o := lab.Outcome{State: lab.Confirmed, Values: map[string]lab.Value{}}
	env := cmd.spec.env(now, cmd.sent, cmd.Args, c.readingOf(cmd), cmd.before)
	for _, g := range cmd.spec.Gives {
		v, ok := cmd.values[g.Name]
		if p := cmd.spec.gives[g.Name]; p != nil {
			v, ok = p.Value(nil, env), true
		}
		v, err := g.Type.Conform(v)
		if !ok || err != nil {
			o.State, o.Kind = lab.Contradicted, lab.KindContradicted
			o.Say = fmt.Sprintf("the device says it is done, but its result %q is unusable", g.Name)
			if err != nil {
				o.Say += ": " + err.Error()
			}
			continue
		}
		o.Values[g.Name] = v
	}
	c.finish(now, cmd, o)
}

// commandTick does what is due when a phase has lasted too long.
func (c *Core) commandTick(now time.Time, cmd *command) {
	switch cmd.phase {
	case refreshing:
		c.refreshed(now, Refreshed{cmd.ID})
	case sending, watching:
		say := "it was not done in the time that its class allows"
		switch {
		case cmd.phase == sending:
			say = "its link has not come back with an answer"
		case cmd.stopWhy != "":
			say = cmd.stopWhy
		}
		if cmd.spec.StopsWith == "" {
			c.uncertain(now, cmd, say)
			return
		}
		c.interrupt(now, cmd, lab.KindOutcomeUnknown, say, true)
	case stopping:
		c.uncertain(now, cmd, cmd.stopWhy+", and its stop could not be confirmed")
	}
}

// interrupt takes a command back: its permit first, then its stop. With
// order, its own stops_with is sent; without, somebody else's order covers it.
func (c *Core) interrupt(now time.Time, cmd *command, kind lab.Kind, why string, order bool) {
	c.engine.Revoke(cmd.ID, why)
	switch cmd.phase {
	case refreshing:
		c.refuse(now, cmd, lab.Issues{{Code: "interrupted", Say: why}})
	case committing:
		if cmd.cancel == nil {
			cmd.cancel = &lab.Outcome{State: lab.NotSent, Kind: kind, Say: why}
		}
	case sending, watching:
		if cmd.spec.StopsWith == "" {
			return // nothing stops it; it ends by itself
		}
		cmd.phase, cmd.stopWhy, cmd.stopKind, cmd.stopAt = stopping, why, kind, now
		stop := lab.CommandID{Instrument: cmd.Target.Instrument, Component: cmd.Target.Component, Command: cmd.spec.StopsWith}
		c.timers.set(&cmd.timer, now.Add(c.specs[stop].Within+settle))
		if !order {
			return
		}
		o, err := c.engine.Order(stop, safety.OriginStopsWith, why)
		if err != nil {
			c.alarm("stop", cmd.Target.Instrument, fmt.Sprintf("%s can't be stopped: %v", cmd.Target, err))
			return
		}
		c.orderAll(now, []*safety.Order{o})
	}
}

// stopSeen reports whether the stop of a command shows in readings newer than
// the moment it was ordered.
func (c *Core) stopSeen(now time.Time, cmd *command) bool {
	stop := c.specs[lab.CommandID{Instrument: cmd.Target.Instrument, Component: cmd.Target.Component, Command: cmd.spec.StopsWith}]
	for _, o := range c.places[cmd.Target.Instrument].lane {
		if o.target == stop.id && !o.confirmed {
			return false
		}
	}
	return stop.doneWhen == nil || stop.doneWhen.Truth(nil, stop.env(now, cmd.stopAt, nil, c.engine.Reading, nil)) == expr.True
}

// stopped ends an interrupted command with the part that was done.
func (c *Core) stopped(now time.Time, cmd *command, env *expr.Env) {
	o := lab.Outcome{State: lab.Failed, Kind: cmd.stopKind, Say: cmd.stopWhy}
	if cmd.spec.partial != nil {
		v := cmd.spec.partial.Value(nil, env)
		if !v.Usable() {
			return // not known yet: the deadline decides
		}
		o.State = lab.Partial
		q := v.Quantity()
		if v.Kind == lab.Number {
			q = c.inUnitOf(cmd.spec, q)
		}
		o.Amount = &q
	}
	c.finish(now, cmd, o)
}

// inUnitOf writes an amount in the unit of the argument that asks for it.
func (c *Core) inUnitOf(s *spec, q lab.Quantity) lab.Quantity {
	for _, a := range s.Args {
		if x, err := q.In(a.Type.Unit); err == nil {
			return x
		}
	}
	return q
}

// uncertain ends the watch of a command that may or may not have happened. An
// effectful one is in doubt until evidence or a person settles it; one that
// may be repeated has failed.
func (c *Core) uncertain(now time.Time, cmd *command, say string) {
	if cmd.spec.Effect != lab.Effectful {
		c.finish(now, cmd, lab.Outcome{State: lab.Failed, Kind: lab.KindOutcomeUnknown, Say: say})
		return
	}
	c.addDoubt(&doubt{cmd: cmd.Command, since: now, say: say})
	c.finish(now, cmd, lab.Outcome{State: lab.InDoubt, Kind: lab.KindOutcomeUnknown, Say: say})
}

func (cmd *command) state() lab.State {
	switch cmd.phase {
	case refreshing:
		return lab.Accepted
	case committing:
		return lab.Decided
	case sending:
		return lab.Intended
	}
	return lab.Sent
}

// snapshot keeps the component's properties as they are before the command. A
// reading that is not fresh, or of another epoch than the command's, says
// nothing about that.
func (c *Core) snapshot(now time.Time, cmd *command) []lab.Reading {
	list := make([]lab.Reading, len(cmd.spec.class.Properties))
	for i, p := range cmd.spec.class.Properties {
		r := c.engine.Reading(cmd.spec.reads[i])
		if ok, _ := r.Fresh(now, p.MaxAge); ok && (r.Epoch == 0 || r.Epoch == cmd.epoch) {
			list[i] = r
		}
	}
	return list
}

// unprovable says why an effectful command could never be confirmed: what it
// is compared with is not known now. It would be in doubt for certain.
func (c *Core) unprovable(now time.Time, cmd *command) lab.Issues {
	var is lab.Issues
	if cmd.spec.Effect != lab.Effectful {
		return nil
	}
	for i, p := range cmd.spec.class.Properties {
		if cmd.before[i].Value.Usable() || !cmd.spec.needsBefore[i] {
			continue
		}
		id := cmd.spec.reads[i]
		_, why := c.engine.Reading(id).Fresh(now, p.MaxAge)
		if why == "" {
			why = "from before the link was lost"
		}
		is = append(is, lab.Issue{Code: "unreadable", Path: id.String(), Inputs: []lab.Used{{Signal: id.String(), Quality: c.engine.Reading(id).Quality, Why: why}},
			Say: fmt.Sprintf("%s could not be confirmed: %s is %s before it", cmd.Target, id, why), Hint: "wait until the instrument can be read"})
	}
	return is
}
