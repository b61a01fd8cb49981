package gateway

import (
	"fmt"
	"time"

	"labgate/lab"
	"labgate/messages"
)

// mostTold bounds each list of a status, so that it fits into a message.
const mostTold = 200

// status is what the gateway knows of itself. Brief leaves out what agents are
// not told: what is bypassed, and how far from a trip the inputs are.
func (c *Core) status(now time.Time, brief bool) messages.ControlReply {
	s := &messages.Status{Gateway: c.name, Ready: c.poisoned == nil && c.engine.Ready(now), RulesHash: c.engine.Rules().Hash}
	for _, l := range c.engine.Latches() {
		s.Latches = append(s.Latches, messages.Latch{Rule: l.Rule, Group: l.Group, Since: l.Since, Say: l.Say, Then: l.Inputs})
	}
	for _, id := range sortedKeys(c.doubts) {
		s.InDoubt = append(s.InDoubt, tellDoubt(c.doubts[id]))
	}
	for _, n := range c.names {
		p := c.places[n]
		for _, d := range p.unsettled {
			if len(s.Unsettled) < mostTold {
				s.Unsettled = append(s.Unsettled, tellDoubt(d))
			}
		}
		up, say := p.link.up, p.link.say
		if up && c.silent(now, n) {
			up, say = false, "it is connected, but none of its readings is fresh"
		}
		s.Ready = s.Ready && up
		s.Links = append(s.Links, messages.LinkStatus{Instrument: n, Up: up, Epoch: p.link.epoch, Identity: p.link.who, Say: say, Insecure: p.in.Link["insecure"] == "true"})
	}
	if !brief {
		c.tellSafety(now, s)
	}
	return messages.ControlReply{OK: true, Say: "status of gateway " + c.name, Status: s}
}

// tellSafety adds trips with their inputs then and now, bypasses and alarms.
func (c *Core) tellSafety(now time.Time, s *messages.Status) {
	for _, t := range c.engine.Trips(now) {
		s.Trips = append(s.Trips, messages.Trip{Rule: t.Rule, Group: t.Group, FirstOut: t.FirstOut, Since: t.Since, Instruments: t.Instruments, Say: t.Say,
			Then: t.Inputs, Now: t.Now, Healthy: t.Healthy, Why: t.Why})
	}
	for _, b := range c.engine.Bypasses() {
		s.Bypasses = append(s.Bypasses, messages.Bypass(b))
	}
	for _, a := range c.engine.Alarms() {
		s.Alarms = append(s.Alarms, tellAlarm(a))
	}
	if c.badRules != nil {
		s.Alarms = append(s.Alarms, *c.badRules)
	}
	for _, own := range [][2]string{{"journal", c.journalProblem()}, {"clock", c.clockProblem(now)}} {
		if own[1] != "" {
			s.Alarms = append(s.Alarms, messages.Alarm{Rule: own[0], Priority: "critical", Active: true, Say: own[1], Since: now})
		}
	}
}

// journalProblem says what a journal that failed means; empty: it did not.
func (c *Core) journalProblem() string {
	if c.poisoned == nil {
		return ""
	}
	return fmt.Sprintf("the journal failed (%v): no effect is sent until a person restarts this gateway; stops still work", c.poisoned)
}

// clockProblem says why the clock can't be trusted, and what to do; empty: it
// can.
func (c *Core) clockProblem(now time.Time) string {
	why, hint := c.badClock, ""
	if why == "" && now.Before(c.lastEntry) {
		why = fmt.Sprintf("it is %s, before the newest journal entry of %s", now.UTC().Format(time.RFC3339Nano), c.lastEntry.UTC().Format(time.RFC3339Nano))
		hint = "; set the clock, or wait until it has caught up: until then no effect is sent, and stops work"
	}
	if why == "" {
		return ""
	}
	return "the clock can't be trusted: " + why + hint
}

func tellDoubt(d *doubt) messages.Doubt {
	return messages.Doubt{Command: d.cmd.ID, Instrument: d.cmd.Target.Instrument, Component: d.cmd.Target.Component,
		Name: d.cmd.Target.Command, Run: d.cmd.Run, Step: d.cmd.Step, Since: d.since, Say: d.say}
}

// silent reports whether an instrument that has readings gives none any more:
// a broker that answers says nothing of the device behind it.
func (c *Core) silent(now time.Time, instrument string) bool {
	any := false
	for _, comp := range c.places[instrument].in.Profile.Components {
		for _, p := range comp.Class.Properties {
			r := c.engine.Reading(lab.PropertyID{Instrument: instrument, Component: comp.Name, Property: p.Name})
			if fresh, _ := r.Fresh(now, p.MaxAge); fresh {
				return false
			}
			any = true
		}
	}
	return any
}

// stateEvery is how often it is told what stands: nobody hears of a trip or of
// its reset whose message was lost.
const stateEvery = 10 * time.Second

func (c *Core) publishState() {
	s := messages.Safety{What: messages.SafetyState, RulesHash: c.engine.Rules().Hash, Say: "what stands now"}
	for _, l := range c.engine.Latches() {
		s.Latches = append(s.Latches, messages.Standing{Rule: l.Rule, Instruments: l.Instruments, Mitigates: l.Mitigates, Say: l.Say})
	}
	c.do(Publish{s})
}
