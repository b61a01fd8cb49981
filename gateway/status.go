package gateway

import (
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
