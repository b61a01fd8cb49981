package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
	"labgate/messages"
	"labgate/safety"
)

// entry makes a journal entry, about a command where there is one. The shell
// adds origin, boot and sequence.
func (c *Core) entry(now time.Time, kind string, cmd *command, body any) lab.Entry {
	if now.After(c.lastEntry) {
		c.lastEntry = now
	}
	e := lab.Entry{Kind: kind, Time: now, Body: messages.Body(body)}
	if cmd != nil {
		e.Command, e.Run, e.Step, e.Principal, e.Instrument = cmd.ID, cmd.Run, cmd.Step, cmd.Principal, cmd.Target.Instrument
		e.Samples, e.Labels = cmd.Samples, cmd.Labels
	}
	return e
}

func (c *Core) note(entries ...lab.Entry) { c.do(Note{entries}) }

// intent is what must be known of a command after a crash.
type intent struct {
	Component string               `json:"component"`
	Name      string               `json:"name"`
	Args      map[string]lab.Value `json:"args,omitempty"`
	Lease     uint64               `json:"lease"`
	NotAfter  time.Time            `json:"not_after"`
	Epoch     uint64               `json:"epoch"`
	Hash      string               `json:"hash"` // of the command's bytes
	Before    map[string]lab.Value `json:"before,omitempty"`
}

func (c *Core) intentBody(cmd *command) intent {
	h := cmd.Hash()
	b := intent{Component: cmd.Target.Component, Name: cmd.Target.Command, Args: cmd.Args, Lease: cmd.Lease, NotAfter: cmd.NotAfter,
		Epoch: cmd.epoch, Hash: fmt.Sprintf("%x", h), Before: map[string]lab.Value{}}
	for i, p := range cmd.spec.class.Properties {
		if r := cmd.before[i]; r.Value.Usable() {
			b.Before[p.Name] = r.Value
		}
	}
	return b
}

// Restore takes one entry of the journal, in order, before the first Step. An
// intent without an outcome is in doubt; latches and fencing numbers go on;
// what was answered stays answered.
func (c *Core) Restore(e lab.Entry) error {
	if e.Time.After(c.lastEntry) {
		c.lastEntry = e.Time
	}
	var err error
	switch e.Kind {
	case "intent/v1":
		var b intent
		err = json.Unmarshal(e.Body, &b)
		c.doubts[e.Command] = &doubt{since: e.Time, say: "the gateway went down before its outcome was known",
			cmd: lab.Command{ID: e.Command, Target: lab.CommandID{Instrument: e.Instrument, Component: b.Component, Command: b.Name}, Args: b.Args,
				Principal: e.Principal, Run: e.Run, Step: e.Step, Lease: b.Lease, NotAfter: b.NotAfter, Samples: e.Samples, Labels: e.Labels}}
		c.engine.Mitigated(c.doubts[e.Command].cmd.Target, e.Command)
	case "outcome/v1", "denial/v1":
		var o lab.Outcome
		err = json.Unmarshal(e.Body, &o)
		c.answered[e.Command] = &o
		if o.State == lab.NotSent || o.State == lab.Superseded {
			c.engine.NotSent(e.Command)
		}
		if d := c.doubts[e.Command]; d != nil && o.State == lab.InDoubt {
			d.say = o.Say
		} else {
			delete(c.doubts, e.Command)
		}
	case "lease/v1":
		var b struct{ Lease uint64 }
		err = json.Unmarshal(e.Body, &b)
		c.fences[e.Instrument] = max(c.fences[e.Instrument], b.Lease)
	case "trip/v1":
		var l safety.Latch
		err = json.Unmarshal(e.Body, &l)
		c.engine.RestoreLatch(l)
	case "stop/v1":
		var b struct{ Latch safety.Latch }
		err = json.Unmarshal(e.Body, &b)
		c.engine.RestoreLatch(b.Latch)
	case "reset/v1":
		var b struct{ Rule string }
		err = json.Unmarshal(e.Body, &b)
		c.engine.DropLatch(b.Rule)
	}
	if err != nil {
		return lab.E("gateway: restore", e.Instrument, lab.KindInternal, fmt.Errorf("%s: %w", e.Kind, err))
	}
	return nil
}

// Restored ends the restore: every intent that is left without an outcome is
// written down as in doubt, so that the record says so too, and is told of.
func (c *Core) Restored(now time.Time) []Action {
	c.actions = nil
	var entries []lab.Entry
	var told []messages.Outcome
	for _, id := range sortedKeys(c.doubts) {
		d := c.doubts[id]
		if c.answered[id] != nil {
			continue
		}
		o := lab.Outcome{Command: id, State: lab.InDoubt, Kind: lab.KindOutcomeUnknown, Say: d.say, Started: d.since, Ended: now}
		c.answered[id] = &o
		entries = append(entries, c.entry(now, "outcome/v1", &command{Command: d.cmd}, o))
		told = append(told, messages.Outcome{Instrument: d.cmd.Target.Instrument, Component: d.cmd.Target.Component, Name: d.cmd.Target.Command,
			Run: d.cmd.Run, Step: d.cmd.Step, Principal: d.cmd.Principal, Outcome: o})
	}
	if len(entries) > 0 {
		c.append(func(_ time.Time, refs []lab.Ref, err error) {
			for i, m := range told {
				if err != nil {
					return // the next start finds them again
				}
				if i < len(refs) {
					m.Ref = refs[i]
				}
				c.do(Publish{m})
			}
		}, entries...)
	}
	return c.actions
}

// answerOutcome tells what became of a command, at any later time.
func (c *Core) answerOutcome(e OutcomeAsked) {
	r := messages.CommandReply{Command: e.Command}
	if cmd := c.live[e.Command]; cmd != nil {
		r.Known, r.Accepted, r.State = true, true, cmd.state()
	} else if o := c.answered[e.Command]; o != nil {
		r.Known, r.Accepted, r.State, r.Outcome, r.Issues = true, o.State != lab.Refused, o.State, o, o.Issues
	}
	c.do(Answer{e.Reply, r})
}

// resetAsked clears a latch for a person, with a reason. It is told once it is
// durable. If it can't be made so, the failed journal bars every effect, and
// the restart brings the latch back.
func (c *Core) resetAsked(now time.Time, e ResetAsked) {
	refuse := func(say string) { c.do(Answer{e.Reply, messages.ControlReply{ID: e.ID, Say: say}}) }
	if e.Reason == "" {
		refuse("a reset needs a reason")
		return
	}
	if err := c.engine.Reset(now, e.Rule); err != nil {
		say := err.Error()
		if why := errors.Unwrap(err); why != nil {
			say = why.Error() // for people: what, not where in the program
		}
		refuse(say)
		return
	}
	en := c.entry(now, "reset/v1", nil, map[string]any{"rule": e.Rule, "reason": e.Reason})
	en.Principal = e.Principal
	c.append(func(_ time.Time, _ []lab.Ref, err error) {
		if err != nil {
			refuse(fmt.Sprintf("it could not be made durable: %v", err))
			return
		}
		c.do(Answer{e.Reply, messages.ControlReply{ID: e.ID, OK: true, Say: e.Rule + " is reset"}})
		c.do(Publish{messages.Safety{What: messages.SafetyReset, Rule: e.Rule, Principal: e.Principal, Say: fmt.Sprintf("%s reset %s: %s", e.Principal, e.Rule, e.Reason)}})
	}, en)
}

// evidence settles doubts that need no person. A setpoint is read back: its
// class says when it is done, and it may be repeated if it is not. A picture or
// a spectrum is counted as taken: it may be taken again, and each try is
// charged. What must never happen twice is left to a person: its "before" is
// void since the link was lost.
func (c *Core) evidence(now time.Time, instrument string) {
	for _, id := range sortedKeys(c.doubts) {
		d := c.doubts[id]
		s := c.specs[d.cmd.Target]
		if d.cmd.Target.Instrument != instrument || d.settling || s == nil || !c.links[instrument].up {
			continue
		}
		say := ""
		switch {
		case s.Effect == lab.Acquire:
			say = "counted as taken: it may be taken again"
		case s.Effect == lab.Idempotent && s.doneWhen != nil &&
			s.doneWhen.Truth(nil, s.env(now, d.since, d.cmd.Args, c.engine.Reading, nil)) == expr.True:
			say = "the read-back shows it done: " + s.DoneWhen.Text
		}
		if say == "" || c.answered[id] == nil {
			continue
		}
		d.settling = true
		o := *c.answered[id]
		o.State, o.Say, o.Ended = lab.Resolved, say, now
		c.settle(c.entry(now, "outcome/v1", &command{Command: d.cmd}, o), o, func(error) {}) // a journal that failed will not do better with the next reading
	}
}

// settle makes the end of a doubt durable, then tells of it.
func (c *Core) settle(en lab.Entry, o lab.Outcome, then func(error)) {
	d := c.doubts[o.Command]
	c.append(func(now time.Time, refs []lab.Ref, err error) {
		if err == nil {
			delete(c.doubts, o.Command)
			c.answered[o.Command] = &o
			m := messages.Outcome{Instrument: d.cmd.Target.Instrument, Component: d.cmd.Target.Component, Name: d.cmd.Target.Command,
				Run: d.cmd.Run, Step: d.cmd.Step, Principal: d.cmd.Principal, Outcome: o}
			if len(refs) > 0 {
				m.Ref = refs[0]
			}
			c.do(Publish{m})
		}
		then(err)
	}, en)
}

// resolveAsked settles a command in doubt by a person's word.
func (c *Core) resolveAsked(now time.Time, e ResolveAsked) {
	d := c.doubts[e.Command]
	say := ""
	switch {
	case d == nil || c.answered[e.Command] == nil:
		say = fmt.Sprintf("no command %s is in doubt here", e.Command)
	case d.settling:
		say = fmt.Sprintf("command %s is being settled already", e.Command)
	case e.Reason == "":
		say = "resolving needs a reason"
	case e.As != "done" && e.As != "not_done":
		say = "say whether it was done or not_done"
	}
	if say != "" {
		c.do(Answer{e.Reply, messages.ControlReply{ID: e.ID, Say: say}})
		return
	}
	o := *c.answered[e.Command]
	o.State, o.Say, o.Ended = lab.Resolved, fmt.Sprintf("%s says it was %s: %s", e.Principal, e.As, e.Reason), now
	d.settling = true
	en := c.entry(now, "outcome/v1", &command{Command: d.cmd}, o)
	en.Labels = map[string]string{"resolved_by": e.Principal, "as": e.As}
	c.settle(en, o, func(err error) {
		reply := messages.ControlReply{ID: e.ID, OK: err == nil, Say: o.Say, Outcome: &o}
		if err != nil {
			reply.Say = fmt.Sprintf("it could not be made durable: %v", err)
		}
		c.do(Answer{e.Reply, reply})
	})
}

// status is what the gateway knows of itself.
func (c *Core) status(now time.Time) messages.ControlReply {
	s := &messages.Status{Gateway: c.name, Ready: c.poisoned == nil && c.engine.Ready(now)}
	for _, l := range c.engine.Latches() {
		s.Latches = append(s.Latches, messages.Latch{Rule: l.Rule, Group: l.Group, Since: l.Since, Say: l.Say, Then: l.Inputs})
	}
	for _, id := range sortedKeys(c.doubts) {
		d := c.doubts[id]
		s.InDoubt = append(s.InDoubt, messages.Doubt{Command: id, Instrument: d.cmd.Target.Instrument, Component: d.cmd.Target.Component,
			Name: d.cmd.Target.Command, Run: d.cmd.Run, Step: d.cmd.Step, Since: d.since, Say: d.say})
	}
	for _, n := range sortedKeys(c.links) {
		l := c.links[n]
		up, say := l.up, l.say
		if up && c.silent(now, n) {
			up, say = false, "it is connected, but none of its readings is fresh"
		}
		s.Ready = s.Ready && up
		s.Links = append(s.Links, messages.LinkStatus{Instrument: n, Up: up, Epoch: l.epoch, Identity: l.who, Say: say, Insecure: c.owned[n].Link["insecure"] == "true"})
	}
	return messages.ControlReply{OK: true, Say: "status of gateway " + c.name, Status: s}
}

// silent reports whether an instrument that has readings gives none any more:
// a broker that answers says nothing of the device behind it.
func (c *Core) silent(now time.Time, instrument string) bool {
	any := false
	for _, comp := range c.owned[instrument].Profile.Components {
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

func (c *Core) publishLink(instrument string, l *link) {
	say := instrument + " is connected"
	if !l.up {
		say = instrument + " is lost: " + l.say
	}
	c.do(Publish{messages.Safety{What: messages.SafetyLink, Instruments: []string{instrument}, Say: say}})
}
