package runner

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
)

// latch is a trip or a stop that nobody has reset, as far as the runner has
// heard. The gateway decides about every command all the same: a latch that is
// not known here costs a run that begins and is refused.
type latch struct {
	origin      string // the gateway's
	rule        string
	instruments []string // empty: all
	mitigates   []string // commands that pass all the same
	say         string
}

func (l *latch) on(instrument string) bool {
	return len(l.instruments) == 0 || slices.Contains(l.instruments, instrument)
}

// latched keeps a latch until its reset. One on every instrument names none, as
// in the journal.
func (c *Core) latched(l latch) {
	if len(l.instruments) == len(c.o.Lab.Instruments) {
		l.instruments = nil
	}
	if !slices.ContainsFunc(c.latches, func(x *latch) bool { return x.rule == l.rule }) {
		c.latches = append(c.latches, &l)
	}
}

func (c *Core) unlatched(rule string) {
	c.latches = slices.DeleteFunc(c.latches, func(x *latch) bool { return x.rule == rule })
}

// restoreLatch reads the gateway's entries, where the two share a journal.
func (c *Core) restoreLatch(e lab.Entry) error {
	type body struct {
		Rule        string   `json:"rule"`
		Instruments []string `json:"instruments"`
		Mitigates   []string `json:"mitigates"`
		Say         string   `json:"say"`
	}
	var b struct {
		body
		Latch *body `json:"latch"` // of a stop
	}
	if err := json.Unmarshal(e.Body, &b); err != nil {
		return err
	}
	if b.Latch != nil {
		b.body = *b.Latch
	}
	if e.Kind == "reset/v1" {
		c.unlatched(b.Rule)
	} else {
		c.latched(latch{e.Origin, b.Rule, b.Instruments, b.Mitigates, b.Say})
	}
	return nil
}

// latchOn finds a latch that would refuse a step of a run, and its instrument.
// A run with a step that a latch lets pass as its mitigation begins.
func (c *Core) latchOn(r *run) (*latch, string) {
	if len(c.latches) == 0 || r.abort != nil {
		return nil, ""
	}
	if r.effects == nil {
		r.effects = effectsOf(r.plan)
	}
	var found *latch
	on := ""
	for _, l := range c.latches {
		for _, name := range r.effects {
			in, _, _ := strings.Cut(name, ".")
			switch {
			case slices.Contains(l.mitigates, name):
				return nil, ""
			case found == nil && l.on(in):
				found, on = l, in
			}
		}
	}
	return found, on
}

// effectsOf are the commands of a plan's steps that a latch could refuse, each
// as instrument.component.command.
func effectsOf(plan *protocols.Plan) []string {
	list := []string{}
	plan.Protocol.Walk(func(s *protocols.Step) {
		if s.Spec == nil || s.Spec.Effect == lab.Safe || s.Spec.Effect == lab.Read {
			return
		}
		b := plan.Bindings[s.Role]
		name := lab.CommandID{Instrument: b.Instrument.Name, Component: b.Components[s.Class.Name], Command: s.Command}.String()
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	})
	return list
}

// sayLatch tells a verdict's reader that a person must act first.
func (c *Core) sayLatch(r *run) string {
	l, in := c.latchOn(r)
	if l == nil {
		return ""
	}
	return fmt.Sprintf("; %s is latched on %s (%s): it begins once a person has reset it", l.rule, in, l.say)
}

// latchOf is the latch that a safety message tells of.
func latchOf(s messages.Safety) latch {
	return latch{s.Origin, s.Rule, s.Instruments, s.Mitigates, s.Say}
}
