package service

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"labgate/gateway"
	"labgate/internal/bus"
	"labgate/lab"
	"labgate/messages"
)

// replyFunc sends an answer; it is the Reply token of the core's requests. It
// must not block.
type replyFunc func(document any)

// outgoing is a document on its way to the bus.
type outgoing struct {
	subject string
	data    []byte
	reply   func([]byte) error
}

// stamper adds the envelope to documents.
type stamper struct {
	lab, origin, boot string
	synthetic         bool
	seq               atomic.Uint64
}

func (s *stamper) envelope(now time.Time, kind string) messages.Envelope {
	return messages.Envelope{Kind: kind, Lab: s.lab, Origin: s.origin, OriginSeq: s.seq.Add(1), Boot: s.boot, Time: now, Synthetic: s.synthetic}
}

// document returns the same document with its envelope.
func (s *stamper) document(now time.Time, doc any) any {
	switch d := doc.(type) {
	case messages.CommandReply:
		d.Envelope = s.envelope(now, messages.KindCommandReply)
		return d
	case messages.Outcome:
		d.Envelope = s.envelope(now, messages.KindOutcome)
		return d
	case messages.LeaseReply:
		d.Envelope = s.envelope(now, messages.KindLeaseReply)
		return d
	case messages.Safety:
		d.Envelope = s.envelope(now, messages.KindSafety)
		return d
	case messages.StopReply:
		d.Envelope = s.envelope(now, messages.KindStopReply)
		return d
	case messages.ControlReply:
		d.Envelope = s.envelope(now, messages.KindControlReply)
		return d
	case messages.Telemetry:
		d.Envelope = s.envelope(now, messages.KindTelemetry)
		return d
	}
	return doc
}

// publish puts a document of the core on its subject.
func (s *Service) publish(now time.Time, doc any) {
	subject := ""
	switch d := doc.(type) {
	case messages.Outcome:
		subject = bus.Outcome(s.o.Lab.Name, s.o.Name, d.Instrument)
	case messages.Safety:
		subject = bus.Safety(s.o.Lab.Name, s.o.Name, d.What)
		if d.Priority == "critical" || d.What == messages.SafetyRefusal {
			s.o.Log(d.What + ": " + d.Say)
		}
	}
	s.out.Put(outgoing{subject: subject, data: messages.Body(s.stamp.document(now, doc))})
}

// publishReadings sends telemetry, at most one reading a property and period.
func (s *Service) publishReadings(now time.Time, samples []lab.Sample) {
	for _, x := range samples {
		if now.Sub(s.seen[x.ID]) < s.core.Telemetry(x.ID.Instrument) {
			continue
		}
		s.seen[x.ID] = now
		doc := s.stamp.document(now, messages.Telemetry{Instrument: x.ID.Instrument, Component: x.ID.Component, Property: x.ID.Property, Reading: x.Reading})
		s.out.Put(outgoing{subject: bus.Telemetry(s.o.Lab.Name, s.o.Name, x.ID.Instrument, x.ID.Component, x.ID.Property), data: messages.Body(doc)})
	}
}

// runPublisher is the one goroutine that writes to the bus, so that a bus that
// hangs never holds up the core. What can't be published is lost: the journal
// has it, and outcomes can be asked for.
func (s *Service) runPublisher(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.out.Ready():
		}
		items := s.out.Take()
		if drop := len(items) - maxLive; drop > 0 {
			s.o.Log(fmt.Sprintf("the bus is slow: %d documents were not published", drop))
			items = items[drop:]
		}
		for _, o := range items {
			var err error
			if o.reply != nil {
				err = o.reply(o.data)
			} else {
				err = s.o.Bus.Publish(ctx, o.subject, o.data)
			}
			if err != nil && ctx.Err() == nil {
				s.o.Log(fmt.Sprintf("not published on %s: %v", o.subject, err))
			}
		}
	}
}

// subscribe opens the gateway's endpoints. Handlers only enqueue.
func (s *Service) subscribe(ctx context.Context) error {
	name := s.o.Lab.Name
	for _, in := range s.o.Lab.Instruments {
		if in.Gateway != s.o.Name {
			continue
		}
		if err := s.o.Bus.Handle(ctx, bus.Command(name, s.o.Name, in.Name), s.onCommand); err != nil {
			return err
		}
		if err := s.o.Bus.Handle(ctx, bus.Lease(name, s.o.Name, in.Name), s.onLease); err != nil {
			return err
		}
	}
	if err := s.o.Bus.Handle(ctx, bus.Stop(name), s.onStop); err != nil {
		return err
	}
	return s.o.Bus.Handle(ctx, bus.Control(name, "*"), s.onControl)
}

// replyTo makes the core's reply token of a message.
func (s *Service) replyTo(m lab.Message) replyFunc {
	return func(doc any) {
		if m.Reply != nil {
			s.out.Put(outgoing{subject: m.Subject, data: messages.Body(doc), reply: m.Reply})
		}
	}
}

func (s *Service) onCommand(m lab.Message) {
	reply := s.replyTo(m)
	refuse := func(id string, is lab.Issues) {
		reply(s.stamp.document(s.o.Clock.Now(), messages.CommandReply{Command: id, State: lab.Refused, Issues: is}))
	}
	var query struct{ messages.OutcomeQuery }
	if is := messages.Decode(m.Data, &query.OutcomeQuery); len(is) == 0 && query.Kind == messages.KindOutcomeQuery {
		s.events.Put(gateway.OutcomeAsked{Command: query.Command, Reply: reply})
		return
	}
	var c messages.Command
	is := messages.Decode(m.Data, &c)
	if len(is) == 0 && c.Kind != messages.KindCommand {
		is = lab.Issues{{Code: "wrong_kind", Path: "kind", Got: c.Kind, Allowed: messages.KindCommand, Say: "this is no " + messages.KindCommand}}
	}
	if len(is) == 0 && m.Subject != bus.Command(s.o.Lab.Name, s.o.Name, c.Instrument) {
		is = lab.Issues{{Code: "wrong_value", Path: "instrument", Got: c.Instrument, Say: "the document names another instrument than its subject"}}
	}
	switch {
	case len(is) > 0:
		refuse(c.ID, is)
	case s.events.Len() > maxLive:
		refuse(c.ID, lab.Issues{{Code: "busy", Say: "the gateway is full", Hint: "try again in a second"}})
	default:
		s.events.Put(gateway.Asked{Command: c.Lab(), Finally: c.Finally, Reply: reply})
	}
}

func (s *Service) onLease(m lab.Message) {
	reply := s.replyTo(m)
	var r messages.LeaseRequest
	is := messages.Decode(m.Data, &r)
	if len(is) == 0 && m.Subject != bus.Lease(s.o.Lab.Name, s.o.Name, r.Instrument) {
		is = lab.Issues{{Code: "wrong_value", Path: "instrument", Got: r.Instrument, Say: "the document names another instrument than its subject"}}
	}
	if len(is) > 0 {
		reply(s.stamp.document(s.o.Clock.Now(), messages.LeaseReply{Instrument: r.Instrument, Issues: is}))
		return
	}
	s.events.Put(gateway.LeaseAsked{Request: r, Reply: reply})
}

// onStop never asks who: whoever the server let publish here may stop.
func (s *Service) onStop(m lab.Message) {
	var r messages.Stop
	_ = messages.Decode(m.Data, &r) // a stop that can't be read in full is still a stop, of everything it does not name
	if r.Principal == "" {
		r.Principal = "unknown"
	}
	s.events.Put(gateway.StopAsked{ID: r.ID, Instrument: r.Instrument, Principal: r.Principal, Reason: r.Reason, Reply: s.replyTo(m)})
}

// onControl serves what is the gateway's of the control subject: resets,
// resolves and status. The rest is the runner's.
func (s *Service) onControl(m lab.Message) {
	who := bus.Sender(m.Subject)
	reply := s.replyTo(m)
	var r messages.Control
	is := messages.Decode(m.Data, &r)
	switch r.Action {
	case messages.ControlReset, messages.ControlResolve, messages.ControlStatus, messages.ControlOutcome:
	default:
		return
	}
	refuse := func(say string) {
		reply(s.stamp.document(s.o.Clock.Now(), messages.ControlReply{ID: r.ID, Say: say, Issues: is}))
	}
	if len(is) > 0 {
		refuse(is[0].Say)
		return
	}
	role := s.o.Role(who)
	if (r.Action == messages.ControlReset || r.Action == messages.ControlResolve) && role != "operator" && role != "safety" {
		refuse(fmt.Sprintf("%s is %s; only an operator or a safety officer may %s", who, orNobody(role), r.Action))
		return
	}
	switch r.Action {
	case messages.ControlReset:
		s.events.Put(gateway.ResetAsked{ID: r.ID, Rule: r.Rule, Principal: who, Reason: r.Reason, Reply: reply})
	case messages.ControlResolve:
		s.events.Put(gateway.ResolveAsked{ID: r.ID, Command: r.Command, As: r.As, Principal: who, Reason: r.Reason, Reply: reply})
	case messages.ControlStatus:
		s.events.Put(gateway.StatusAsked{Reply: replyFunc(func(doc any) {
			c := doc.(messages.ControlReply)
			c.ID = r.ID
			reply(c)
		})})
	case messages.ControlOutcome:
		s.events.Put(gateway.OutcomeAsked{Command: r.Command, Reply: replyFunc(func(doc any) {
			c := doc.(messages.CommandReply)
			reply(s.stamp.document(s.o.Clock.Now(), messages.ControlReply{ID: r.ID, OK: c.Known, Say: "command " + r.Command, Outcome: c.Outcome, Issues: c.Issues}))
		})})
	}
}

func orNobody(role string) string {
	switch role {
	case "":
		return "nobody this lab knows"
	case "agent", "operator":
		return "an " + role
	}
	return "a " + role
}
