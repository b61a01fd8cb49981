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
	spec      *spec
	deadline  time.Time // to be confirmed by
	written   time.Time // only later readings confirm it
	confirmed bool
	cmds      []*command   // finally steps that wait for it
	done      func(string) // a stop that waits for it: "confirmed" or what went wrong
}

// orderAll hands safe commands to their links at once. An order that is on
// its way already is not repeated.
func (c *Core) orderAll(now time.Time, orders []*safety.Order) []*laneOrder {
	var list []*laneOrder
	for _, o := range orders {
		if have := c.onItsWay(o.Target()); have != nil {
			list = append(list, have)
			continue
		}
		s := c.specs[o.Target()]
		if s == nil {
			c.alarm("lane", o.Target().Instrument, fmt.Sprintf("%s belongs to another gateway", o.Target()))
			continue
		}
		c.laneSeq++
		l := &laneOrder{id: fmt.Sprintf("lane-%d", c.laneSeq), order: o, target: o.Target(), spec: s, deadline: now.Add(max(s.Within, settle))}
		c.lane[l.id] = l
		c.do(Lane{l.id, o})
		e := c.entry(now, "order/v1", nil, map[string]any{"lane": l.id, "origin": o.Origin(), "why": o.Why(), "command": o.Target().String()})
		e.Instrument = o.Target().Instrument
		c.note(e)
		list = append(list, l)
	}
	return list
}

func (c *Core) onItsWay(target lab.CommandID) *laneOrder {
	for _, id := range sortedKeys(c.lane) {
		if o := c.lane[id]; o.target == target && o.written.IsZero() {
			return o
		}
	}
	return nil
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
	c.laneWatch(now, o)
}

func (c *Core) laneWatch(now time.Time, o *laneOrder) {
	if o.written.IsZero() || o.confirmed || o.spec.doneWhen == nil {
		return
	}
	if o.spec.doneWhen.Truth(nil, o.spec.env(now, o.written, nil, c.engine.Reading, nil)) == expr.True {
		o.confirmed = true
		c.laneEnd(now, o, "")
	}
}

func (c *Core) laneTick(now time.Time, o *laneOrder) {
	if o != nil && !o.deadline.After(now) {
		c.laneEnd(now, o, fmt.Sprintf("not confirmed within %s", lab.Seconds(max(o.spec.Within, settle))))
	}
}

// laneEnd closes an order. One that is not confirmed raises a critical alarm.
func (c *Core) laneEnd(now time.Time, o *laneOrder, problem string) {
	delete(c.lane, o.id)
	result := "confirmed"
	if problem != "" {
		result = problem
		c.alarm("lane", o.target.Instrument, fmt.Sprintf("%s (%s: %s) failed: %s", o.target, o.order.Origin(), o.order.Why(), problem))
	}
	e := c.entry(now, "order_end/v1", nil, map[string]any{"lane": o.id, "command": o.target.String(), "result": result})
	e.Instrument = o.target.Instrument
	c.note(e)
	if o.done != nil {
		o.done(result)
	}
	for _, cmd := range o.cmds {
		out := lab.Outcome{State: lab.Confirmed}
		if problem != "" {
			out = lab.Outcome{State: lab.Failed, Kind: lab.KindOutcomeUnknown, Say: problem}
		}
		c.finish(now, cmd, out)
	}
	for _, id := range append([]string(nil), c.order...) {
		if cmd := c.live[id]; cmd != nil && cmd.phase == stopping && cmd.Target.Instrument == o.target.Instrument {
			c.watch(now, cmd)
		}
	}
}

// finallyLane sends a finally step through the safe lane if the lab's safe
// list names it; else it is decided like any other.
func (c *Core) finallyLane(now time.Time, cmd *command) bool {
	if cmd.spec.Effect != lab.Safe {
		return false
	}
	o, err := c.engine.Order(cmd.Target, safety.OriginFinally, "finally of run "+cmd.Run)
	if err != nil {
		return false
	}
	c.supersede(now, cmd)
	cmd.phase, cmd.laned = sending, true
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
	c.do(Publish{messages.Safety{What: messages.SafetyTrip, Rule: t.Latch.Rule, Group: t.Latch.Group, FirstOut: t.Latch.FirstOut, Priority: "critical",
		Instruments: t.Latch.Instruments, Runs: runs, RunAction: t.Run, Inputs: t.Latch.Inputs, Say: t.Latch.Say}})
}

// interruptOn takes back the effects under way on some instruments (all, if
// none is named), but for those that help, and returns the runs that hold the
// instruments. Permits are revoked before any stop is handed over.
func (c *Core) interruptOn(now time.Time, instruments, spared []string, why string) []string {
	on := map[string]bool{}
	for _, n := range instruments {
		on[n] = true
	}
	runs := map[string]bool{}
	for _, name := range sortedKeys(c.leases) {
		if len(instruments) == 0 || on[name] {
			runs[c.leases[name].run] = true
		}
	}
	for _, id := range append([]string(nil), c.order...) {
		cmd := c.live[id]
		if cmd == nil || cmd.spec.Effect == lab.Safe || cmd.spec.Effect == lab.Read || len(instruments) > 0 && !on[cmd.Target.Instrument] ||
			slices.Contains(spared, cmd.Target.String()) {
			continue
		}
		c.interrupt(now, cmd, lab.KindDenied, why, true)
	}
	return sortedKeys(runs)
}

// stopAsked latches, takes back every effect, and brings the instruments to
// their safe states in parallel. It asks nobody and waits for no disk.
func (c *Core) stopAsked(now time.Time, e StopAsked) {
	if e.Instrument != "" && c.owned[e.Instrument] == nil {
		c.do(Answer{e.Reply, messages.StopReply{ID: e.ID, Gateway: c.name, Instruments: map[string]string{e.Instrument: "not an instrument of this gateway"}}})
		return
	}
	names := nonEmpty(e.Instrument)
	latch := c.engine.Stop(now, e.Instrument, e.Principal, e.Reason)
	runs := c.interruptOn(now, names, nil, latch.Say)
	if e.Instrument == "" {
		names = sortedKeys(c.owned)
	}
	reply := messages.StopReply{ID: e.ID, Gateway: c.name, Instruments: map[string]string{}}
	waits := 1
	finish := func() {
		if waits--; waits == 0 {
			c.do(Answer{e.Reply, reply})
		}
	}
	for _, n := range names {
		orders := c.orderAll(now, c.engine.SafeState(n, safety.OriginStop, latch.Say))
		if len(orders) == 0 {
			reply.Instruments[n] = "kept"
		}
		for _, o := range orders {
			waits++
			prev := o.done
			o.done = func(result string) {
				if prev != nil {
					prev(result)
				}
				if reply.Instruments[n] == "" || result != "confirmed" {
					reply.Instruments[n] = result
				}
				finish()
			}
		}
	}
	c.append(nil, c.entry(now, "stop/v1", nil, map[string]any{"latch": latch, "principal": e.Principal, "reason": e.Reason}))
	c.do(Publish{messages.Safety{What: messages.SafetyStop, Rule: latch.Rule, Group: latch.Group, Priority: "critical", Instruments: names,
		Runs: runs, RunAction: safety.RunAbort, Principal: e.Principal, Say: latch.Say}})
	finish()
}

// alarm tells people; it changes nothing.
func (c *Core) alarm(rule, instrument, say string) {
	c.do(Publish{messages.Safety{What: messages.SafetyAlarm, Rule: rule, Priority: "critical", Instruments: nonEmpty(instrument), Say: say}})
	c.note(lab.Entry{Kind: "alarm/v1", Instrument: instrument, Body: messages.Body(map[string]any{"rule": rule, "say": say})})
}
