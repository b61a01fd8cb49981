package gateway

import (
	"encoding/hex"
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

// Keys of a command's entries: none is there twice, and by them the journal is
// asked what was answered, the newest first.
const (
	resolvedKey = "resolved/"
	outcomeKey  = "outcome/"
	denialKey   = "denial/"
)

// AnswerKeys are where the journal may have what was answered to a command: the
// first that it has counts.
func AnswerKeys(command string) []string {
	return []string{resolvedKey + command, outcomeKey + command, denialKey + command}
}

func (c *Core) note(entries ...lab.Entry) {
	c.since += len(entries)
	c.do(Note{entries})
}

// intent is what must be known of a command after a crash.
type intent struct {
	Component string               `json:"component"`
	Name      string               `json:"name"`
	Args      map[string]lab.Value `json:"args,omitempty"`
	Campaign  string               `json:"campaign,omitempty"`
	Lease     uint64               `json:"lease"`
	NotAfter  time.Time            `json:"not_after"`
	Epoch     uint64               `json:"epoch"`
	Hash      string               `json:"hash"` // of the command's bytes
	Before    map[string]lab.Value `json:"before,omitempty"`
	// Moves are the distances that rules count, from what was in force then.
	Moves map[string]lab.Quantity `json:"moves,omitempty"`
}

func (c *Core) intentBody(cmd *command) intent {
	h := cmd.Hash()
	b := intent{Component: cmd.Target.Component, Name: cmd.Target.Command, Args: cmd.Args, Campaign: cmd.Campaign, Lease: cmd.Lease, NotAfter: cmd.NotAfter,
		Epoch: cmd.epoch, Hash: fmt.Sprintf("%x", h), Before: map[string]lab.Value{}, Moves: c.engine.Moves(cmd.ID)}
	for i, p := range cmd.spec.class.Properties {
		if r := cmd.before[i]; r.Value.Usable() {
			b.Before[p.Name] = r.Value
		}
	}
	return b
}

// answerOutcome tells what became of a command, at any later time. Whoever may
// learn only of its own gets of others the answer that there is no such
// command.
func (c *Core) answerOutcome(e OutcomeAsked) {
	if _, ok := c.known[e.Command]; !ok && !e.looked && c.forgotten(e.Command) {
		e.looked = true
		c.look(e.Command, func(_ time.Time, err error) {
			if err != nil {
				c.do(Answer{e.Reply, unreadable(e.Command, err)})
				return
			}
			c.answerOutcome(e)
		})
		return
	}
	r := messages.CommandReply{Command: e.Command}
	if e.Asker != "" && c.known[e.Command].principal != e.Asker {
		c.do(Answer{e.Reply, r})
		return
	}
	if cmd := c.live[e.Command]; cmd != nil {
		r.Known, r.Accepted, r.State = true, true, cmd.state()
	} else if o := c.answered[e.Command]; o != nil {
		r.Known, r.Accepted, r.State, r.Outcome, r.Issues = true, o.State != lab.Refused, o.State, o, o.Issues
	}
	c.do(Answer{e.Reply, r})
}

// evidence settles doubts that need no person. A setpoint is read back: its
// class says when it is done, and it may be repeated if it is not. A picture or
// a spectrum is counted as taken: it may be taken again, and each try is
// charged. What must never happen twice is left to a person: its "before" is
// void since the link was lost.
func (c *Core) evidence(now time.Time, p *place) {
	for _, d := range p.doubts {
		id, s := d.cmd.ID, c.specs[d.cmd.Target]
		if d.settling || s == nil || !p.link.up {
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
		o := *c.answered[id]
		o.State, o.Say, o.Ended, o.As = lab.Resolved, say, now, "done"
		if s.Effect == lab.Acquire {
			o.As = "not_done" // what it would have given is lost
		}
		c.settle(now, d, o, safety.AllDone, nil, func(error) {}) // a journal that failed will not do better with the next reading
	}
}

// settle makes the end of a doubt durable, then tells of it, and the rules
// that count.
func (c *Core) settle(now time.Time, d *doubt, o lab.Outcome, end safety.End, labels map[string]string, then func(error)) {
	d.settling = true
	k := c.known[o.Command]
	en := c.entry(now, "outcome/v1", &command{Command: d.cmd}, outcomeBody{o, hex.EncodeToString(k.content[:]), endNames[end]})
	en.Key = resolvedKey + o.Command
	if labels != nil {
		en.Labels = labels
	}
	c.append(func(_ time.Time, refs []lab.Ref, err error) {
		if err == nil {
			c.dropDoubt(d)
			c.answered[o.Command] = &o
			c.engine.Settle(o.Ended, o.Command, end, o.Amount)
			c.publishOutcome(&d.cmd, o, refs)
		}
		then(err)
	}, en)
}

// resolveAsked settles a command in doubt, or one whose outcome leaves open how
// much was done, by a person's word.
func (c *Core) resolveAsked(now time.Time, e ResolveAsked) {
	d := c.openDoubt(e.Command)
	say := ""
	switch o := c.answered[e.Command]; {
	case d == nil && o != nil:
		say = fmt.Sprintf("command %s is not in doubt: it is %s", e.Command, o.State)
		if o.State == lab.Resolved {
			say += ", " + o.Say
		}
	case d == nil || o == nil:
		say = fmt.Sprintf("no command %s is in doubt here", e.Command)
	case d.settling:
		say = fmt.Sprintf("command %s is being settled already", e.Command)
	case e.Reason == "":
		say = "resolving needs a reason"
	case e.As != "done" && e.As != "not_done" && e.As != "partly":
		say = "say whether it was done, not_done or partly"
	case e.As != "partly" && e.Amount != nil:
		say = fmt.Sprintf("an amount goes with partly; it was said that it was %s", e.As)
	}
	var amount *lab.Quantity
	if say == "" && e.As == "partly" {
		var err error
		if amount, err = partOf(c.specs[d.cmd.Target], d.cmd.Args, e.Amount); err != nil {
			say = err.Error()
		}
	}
	if say != "" {
		c.do(Answer{e.Reply, messages.ControlReply{ID: e.ID, Say: say}})
		return
	}
	o := *c.answered[e.Command]
	o.State, o.Ended, o.As, o.Amount = lab.Resolved, now, e.As, amount
	end, how := safety.AllDone, e.As
	switch e.As {
	case "not_done":
		end = safety.NothingDone
	case "partly":
		end, how = safety.PartDone, fmt.Sprintf("partly done, %s of it", amount)
	}
	o.Say = fmt.Sprintf("%s says it was %s: %s", e.Principal, how, e.Reason)
	c.settle(now, d, o, end, map[string]string{"resolved_by": e.Principal, "as": e.As}, func(err error) {
		reply := messages.ControlReply{ID: e.ID, OK: err == nil, Say: o.Say, Outcome: &o}
		if err != nil {
			reply.Say = fmt.Sprintf("it could not be made durable: %v", err)
		}
		c.do(Answer{e.Reply, reply})
	})
}

// partOf checks a part that a person says was done, and writes it in the unit
// in which it was asked for: more than nothing, and no more than that. It is an
// error where the class knows no part.
func partOf(s *spec, args map[string]lab.Value, part *lab.Quantity) (*lab.Quantity, error) {
	a := amountArg(s)
	switch {
	case a == nil:
		return nil, errors.New("its class knows no part of it: say done or not_done")
	case part == nil:
		return nil, fmt.Errorf("say how much was done, in %s (--amount)", unitName(a.Type.Unit))
	}
	asked := args[a.Name].Quantity()
	q, err := part.In(asked.Unit)
	switch {
	case err != nil:
		return nil, fmt.Errorf("how much was done is a %s: %w", a.Name, err)
	case !q.Finite() || q.Value <= 0:
		return nil, fmt.Errorf("%s is no part: say not_done", part)
	case q.Value > asked.Value:
		return nil, fmt.Errorf("%s is more than the %s that were asked for", part, asked)
	}
	return &q, nil
}

func unitName(u lab.Unit) string {
	if n := u.String(); n != "" && n != "1" {
		return n
	}
	return "pieces"
}

// amountArg is the argument that says how much a command does: what it adds to
// a property, in the dimension of what its class says is a part. Nil: there is
// none.
func amountArg(s *spec) *lab.Param {
	if s == nil || s.partial == nil {
		return nil
	}
	for _, ch := range s.Changes {
		a := s.Arg(ch.To.Text)
		if !ch.Add || a == nil {
			continue
		}
		if _, err := (lab.Quantity{Unit: s.partial.Type().Unit}).In(a.Type.Unit); err == nil {
			return a
		}
	}
	return nil
}
