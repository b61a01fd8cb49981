package service

import (
	"context"
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
			s.out.put(outgoing{subject: m.Subject, data: messages.Body(doc), reply: m.Reply})
		}
	}
}

// full reports whether so much waits that no more is taken from the bus.
func (s *Service) full() bool {
	return s.events.Len() > maxWaiting || s.appends.Len() > maxWaiting || s.out.full()
}

var full = lab.Issues{{Code: "busy", Say: "the gateway is full", Hint: "try again in a second"}}

func (s *Service) onCommand(m lab.Message) {
	reply := s.replyTo(m)
	refuse := func(id string, is lab.Issues) {
		reply(s.stamp.document(s.o.Clock.Now(), messages.CommandReply{Command: id, State: lab.Refused, Issues: is}))
	}
	var c messages.Command
	is := messages.Decode(m.Data, &c)
	if c.Kind == messages.KindOutcomeQuery {
		var query messages.OutcomeQuery
		if is = messages.Decode(m.Data, &query); len(is) == 0 {
			if !s.full() { // else it is asked again
				s.events.Put(gateway.OutcomeAsked{Command: query.Command, Reply: reply})
			}
			return
		}
	}
	if len(is) == 0 && c.Kind != messages.KindCommand {
		is = lab.Issues{{Code: "wrong_kind", Path: "kind", Got: c.Kind, Allowed: messages.KindCommand, Say: "this is no " + messages.KindCommand}}
	}
	if len(is) == 0 && m.Subject != bus.Command(s.o.Lab.Name, s.o.Name, c.Instrument) {
		is = lab.Issues{{Code: "wrong_value", Path: "instrument", Got: c.Instrument, Say: "the document names another instrument than its subject"}}
	}
	switch {
	case len(is) > 0:
		refuse(c.ID, is)
	case s.full():
		refuse(c.ID, full)
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
	if len(is) == 0 && s.events.Len() > 2*maxWaiting { // a renewal has room when commands have none
		is = full
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
	s.stops.Put(gateway.StopAsked{ID: r.ID, Instrument: r.Instrument, Principal: r.Principal, Reason: r.Reason, Reply: s.replyTo(m)})
}
