package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"labgate/gateway"
	"labgate/internal/bus"
	"labgate/lab"
	"labgate/messages"
)

// onControl serves what is the gateway's of the control subject; the rest is
// the runner's. The subject is the identity: the server lets nobody else
// publish on it.
func (s *Service) onControl(m lab.Message) {
	who := bus.Sender(m.Subject)
	reply := s.replyTo(m)
	var r messages.Control
	is := messages.Decode(m.Data, &r)
	if !slices.Contains(messages.GatewayActions, r.Action) {
		return
	}
	say := ""
	switch {
	case len(is) > 0:
		say = is[0].Say
	case s.events.Len() > 2*maxWaiting:
		say = "the gateway is full; try again in a second"
	default:
		say = s.mayNot(who, r.Action)
	}
	if say != "" {
		reply(s.stamp.document(s.o.Clock.Now(), messages.ControlReply{ID: r.ID, Say: say, Issues: is}))
		return
	}
	s.control(who, r, reply)
}

// mayNot says why somebody may not ask for an action; empty: it may. Only
// operators and safety officers change anything, only people see trips, and
// nobody counts whose vetting has expired.
func (s *Service) mayNot(who, action string) string {
	role := s.o.Role(who)
	if s.o.Vetted != nil {
		if until := s.o.Vetted(who); !until.IsZero() && !s.o.Clock.Now().Before(until) {
			return fmt.Sprintf("the vetting of %s expired at %s", who, until.UTC().Format(time.RFC3339))
		}
	}
	switch action {
	case messages.ControlStatus, messages.ControlOutcome:
		return ""
	case messages.ControlTrips:
		if role == "scientist" || role == "operator" || role == "safety" {
			return ""
		}
		return fmt.Sprintf("%s is %s; only a person may see the trips", who, orNobody(role))
	}
	if role == "operator" || role == "safety" {
		return ""
	}
	return fmt.Sprintf("%s is %s; only an operator or a safety officer may %s", who, orNobody(role), action)
}

// control hands what was asked to the core.
func (s *Service) control(who string, r messages.Control, reply replyFunc) {
	human := slices.Contains([]string{"scientist", "operator", "safety"}, s.o.Role(who))
	switch r.Action {
	case messages.ControlReset:
		s.events.Put(gateway.ResetAsked{ID: r.ID, Rule: r.Rule, Principal: who, Reason: r.Reason, Reply: reply})
	case messages.ControlResolve:
		s.events.Put(gateway.ResolveAsked{ID: r.ID, Command: r.Command, As: r.As, Amount: r.Amount, Principal: who, Reason: r.Reason, Reply: reply})
	case messages.ControlBypass:
		s.bypass(who, r, reply)
	case messages.ControlRearm:
		s.events.Put(gateway.UnbypassAsked{ID: r.ID, Rule: r.Rule, Principal: who, Reason: r.Reason, Reply: reply})
	case messages.ControlAcknowledge:
		s.events.Put(gateway.AcknowledgeAsked{ID: r.ID, Rule: r.Rule, Principal: who, Reply: reply})
	case messages.ControlReload:
		s.reload(reloadRequest{id: r.ID, principal: who, reply: reply})
	case messages.ControlStatus, messages.ControlTrips:
		s.events.Put(gateway.StatusAsked{Brief: !human, Reply: withID(r.ID, reply)})
	case messages.ControlOutcome:
		asker := who
		if human {
			asker = ""
		}
		s.events.Put(gateway.OutcomeAsked{Command: r.Command, Asker: asker, Reply: replyFunc(func(doc any) {
			c := doc.(messages.CommandReply)
			reply(s.stamp.document(s.o.Clock.Now(), messages.ControlReply{ID: r.ID, OK: c.Known, Say: "command " + r.Command, Outcome: c.Outcome, Issues: c.Issues}))
		})})
	}
}

func withID(id string, reply replyFunc) replyFunc {
	return func(doc any) {
		c := doc.(messages.ControlReply)
		c.ID = id
		reply(c)
	}
}

// bypass reads how long, from now on.
func (s *Service) bypass(who string, r messages.Control, reply replyFunc) {
	now := s.o.Clock.Now()
	var d time.Duration
	err := errors.New("a bypass needs a time after which it ends by itself")
	if r.For != nil {
		d, err = r.For.Duration()
	}
	if err == nil && d <= 0 {
		err = fmt.Errorf("a bypass of %s is none", r.For)
	}
	if err != nil {
		reply(s.stamp.document(now, messages.ControlReply{ID: r.ID, Say: err.Error()}))
		return
	}
	s.events.Put(gateway.BypassAsked{ID: r.ID, Rule: r.Rule, Principal: who, Reason: r.Reason, Until: now.Add(d), Reply: reply})
}

// reloadRequest asks for the interlocks file to be read again.
type reloadRequest struct {
	id, principal string
	reply         replyFunc // nil: nobody waits for an answer
}

// mostReloads bounds the reloads that wait.
const mostReloads = 16

func (s *Service) reload(r reloadRequest) {
	if s.reloads.Len() >= mostReloads {
		if r.reply != nil {
			r.reply(s.stamp.document(s.o.Clock.Now(), messages.ControlReply{ID: r.id, Say: "reloads wait already; try again in a second"}))
		}
		return
	}
	s.reloads.Put(r)
}

// Reload reads the interlocks file again, for whoever runs the process. What
// came of it is in the journal, on the bus, and in the status. It does not
// block.
func (s *Service) Reload(principal string) { s.reload(reloadRequest{principal: principal}) }

// runReloads is the one goroutine that reads files: neither the core nor a
// link ever waits for it.
func (s *Service) runReloads(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.reloads.Ready():
		}
		for _, r := range s.reloads.Take() {
			e := gateway.RulesLoaded{ID: r.id, Principal: r.principal}
			if r.reply != nil {
				e.Reply = r.reply
			}
			if s.o.LoadRules == nil {
				e.Err = errors.New("this gateway was given no file to read")
			} else {
				e.Rules, e.Err = s.o.LoadRules()
			}
			s.events.Put(e)
		}
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
