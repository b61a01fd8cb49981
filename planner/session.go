package planner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"labgate/internal/bus"
	"labgate/lab"
	"labgate/messages"
)

// maxInbox bounds the messages that wait to be read. What does not fit is
// counted as lost and asked for.
const maxInbox = 4096

// session is the conversation on the bus.
type session struct {
	o     Options
	inbox chan lab.Message
	lost  atomic.Uint64
	early []lab.Message // documents of runs that came before their verdict
}

func (s *session) id() string { return s.o.IDs.New(s.o.Clock.Now()) }

func (s *session) tell(e *Experiment, ev Event) {
	ev.N, ev.Of, ev.Experiment = e.N, s.o.Experiments, *e
	s.o.Progress(ev)
}

func (s *session) late(e *Experiment, format string, args ...any) {
	s.tell(e, Event{Phase: Late, Run: e.Run, Say: fmt.Sprintf(format, args...)})
}

// listen subscribes, before anything is proposed.
func (s *session) listen(ctx context.Context) error {
	for _, subject := range []string{bus.Verdicts(s.o.Lab, s.o.Principal), bus.Runs(s.o.Lab, s.o.Principal, "*", "*")} {
		err := s.o.Conn.Handle(ctx, subject, func(m lab.Message) {
			select {
			case s.inbox <- m:
			default:
				s.lost.Add(1)
			}
		})
		if err != nil {
			return lab.E("planner: listen", "", lab.KindOf(err), err)
		}
	}
	return nil
}

func (s *session) after(d time.Duration) <-chan time.Time {
	return s.o.Clock.At(s.o.Clock.Now().Add(d))
}

func cancelled(ctx context.Context) error {
	return lab.E("planner: run", "", lab.KindCancelled, ctx.Err())
}

// propose sends a proposal and waits for its verdict. The same bytes under the
// same key are one proposal, so what may have been lost is sent again.
func (s *session) propose(ctx context.Context, e *Experiment, p messages.Proposal) (messages.Verdict, error) {
	s.early = nil
	data := messages.Body(p)
	deadline := s.after(verdictWithin)
	pending := messages.Verdict{}
	ask := s.after(s.send(ctx, e, data))
	for {
		select {
		case <-ctx.Done():
			return pending, cancelled(ctx)
		case m := <-s.inbox:
			v, ok := s.verdictOf(e, m, p)
			if ok && s.decided(&pending, v, p, &deadline) {
				return v, nil
			}
		case <-ask:
			ask = s.after(verdictAsk)
			v, ok := s.askVerdict(ctx, p)
			if ok && s.decided(&pending, v, p, &deadline) {
				return v, nil
			}
			if !ok && ctx.Err() == nil {
				s.late(e, "no verdict yet: the proposal is sent again, under the same key")
				ask = s.after(s.send(ctx, e, data))
			}
		case <-deadline:
			if pending.Decision == messages.NeedsApprovalDecision {
				return pending, nil
			}
			return pending, lab.Ef("planner: propose", "", lab.KindUnavailable, fmt.Sprintf("no verdict on %s within %v", p.Key, verdictWithin))
		}
	}
}

// decided reports whether a verdict is the last word. One that needs a
// person's approval is waited on until the proposal expires.
func (s *session) decided(pending *messages.Verdict, v messages.Verdict, p messages.Proposal, deadline *<-chan time.Time) bool {
	if v.Decision != messages.NeedsApprovalDecision {
		return true
	}
	if pending.Decision == "" {
		*pending, *deadline = v, s.o.Clock.At(*p.NotAfter)
	}
	return false
}

// send puts a proposal into the work queue, which answers once it is stored,
// and returns how long to wait before asking for its verdict.
func (s *session) send(ctx context.Context, e *Experiment, data []byte) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, replyWithin)
	defer cancel()
	b, err := s.o.Conn.Request(ctx, bus.Proposals(s.o.Lab, s.o.Principal), data)
	if err == nil {
		err = stored(b)
	}
	if err == nil {
		return verdictAsk
	}
	if ctx.Err() == nil || !errors.Is(ctx.Err(), context.Canceled) {
		s.late(e, "the proposal may not be stored: %v", err)
	}
	return resendAfter
}

// stored reads the work queue's answer.
func stored(ack []byte) error {
	var a struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if len(ack) == 0 {
		return nil // a plain responder says that it has it
	}
	if err := json.Unmarshal(ack, &a); err != nil {
		return fmt.Errorf("an answer that can't be read: %w", err)
	}
	if a.Error != nil {
		return fmt.Errorf("refused by the work queue: %s", a.Error.Description)
	}
	return nil
}

// verdictOf reads a message as the verdict on p. A run's document that comes
// before it is kept; anything else is of an earlier proposal.
func (s *session) verdictOf(e *Experiment, m lab.Message, p messages.Proposal) (messages.Verdict, bool) {
	var v messages.Verdict
	if m.Subject != bus.Verdicts(s.o.Lab, s.o.Principal) {
		if len(s.early) < maxInbox {
			s.early = append(s.early, m)
		} else {
			s.lost.Add(1)
		}
		return v, false
	}
	if err := json.Unmarshal(m.Data, &v); err != nil {
		s.late(e, "a verdict that can't be read (%v); it is asked for", err)
		return messages.Verdict{}, false
	}
	return v, answers(v, p)
}

// answers reports whether v is a whole verdict on exactly this proposal.
func answers(v messages.Verdict, p messages.Proposal) bool {
	known := v.Decision == messages.RejectedDecision || v.Decision == messages.NeedsApprovalDecision ||
		v.Decision == messages.AcceptedDecision && v.Run != ""
	return v.Kind == messages.KindVerdict && v.Proposal == p.ID && v.Key == p.Key && known
}

// control asks the runner one thing.
func (s *session) control(ctx context.Context, c messages.Control) (messages.ControlReply, error) {
	ctx, cancel := context.WithTimeout(ctx, replyWithin)
	defer cancel()
	c.Kind, c.ID = messages.KindControl, s.id()
	var r messages.ControlReply
	b, err := s.o.Conn.Request(ctx, bus.Control(s.o.Lab, s.o.Principal), messages.Body(c))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err == nil && r.ID != c.ID {
		err = lab.Ef("planner: control", "", lab.KindInvalid, "an answer to another question")
	}
	return r, err
}

// askVerdict asks for a verdict that did not arrive.
func (s *session) askVerdict(ctx context.Context, p messages.Proposal) (messages.Verdict, bool) {
	r, err := s.control(ctx, messages.Control{Action: messages.ControlVerdict, Key: p.Key})
	if err != nil || r.Verdict == nil {
		return messages.Verdict{}, false // not decided, or nobody there: asked again until the deadline
	}
	v := *r.Verdict
	v.Kind = messages.KindVerdict // what is kept on record has no envelope
	return v, answers(v, p)
}

// follow reads a run's documents until its stop document, and fills e.
func (s *session) follow(ctx context.Context, e *Experiment, v messages.Verdict) error {
	for _, m := range s.early {
		if over := s.document(e, m); over {
			s.early = nil
			return nil
		}
	}
	s.early = nil
	limit := beginWithin + runGrace
	if v.Bill != nil {
		if d, err := v.Bill.Worst.Duration(); err == nil {
			limit += d
		}
	}
	deadline, ask := s.after(limit), s.after(documentAsk)
	for {
		select {
		case <-ctx.Done():
			return cancelled(ctx)
		case m := <-s.inbox:
			if s.document(e, m) {
				return nil
			}
			if s.mine(e, m) {
				ask = s.after(documentAsk)
			}
		case <-ask:
			ask = s.after(documentAsk)
			if s.askRun(ctx, e) {
				return nil
			}
		case <-deadline:
			return lab.Ef("planner: follow", "", lab.KindOutcomeUnknown, fmt.Sprintf("run %s did not end within %v", e.Run, limit))
		}
	}
}

// mine reports whether a message is a document of e's run.
func (s *session) mine(e *Experiment, m lab.Message) bool {
	return strings.HasPrefix(m.Subject, bus.Runs(s.o.Lab, s.o.Principal, e.Run, ""))
}

// document takes one document of e's run and reports whether it was the last.
func (s *session) document(e *Experiment, m lab.Message) (over bool) {
	if !s.mine(e, m) {
		return false // of an earlier run, or a verdict that was repeated
	}
	var head messages.Envelope
	if err := json.Unmarshal(m.Data, &head); err != nil {
		s.late(e, "a document that can't be read: %v", err)
		return false
	}
	var err error
	switch head.Kind {
	case messages.KindRunStart:
		s.tell(e, Event{Phase: Started, Run: e.Run})
	case messages.KindRunEvent:
		var d messages.RunEvent
		if err = json.Unmarshal(m.Data, &d); err == nil {
			s.tell(e, Event{Phase: Step, Run: e.Run, Step: d.Step, Data: d.Data, Outcome: d.Outcome, Say: d.Say})
		}
	case messages.KindRunStop:
		var d messages.RunStop
		if err = json.Unmarshal(m.Data, &d); err == nil && d.RunStart == e.Run {
			e.end(d.ExitStatus, d.Reason, d.Outputs, d.Seconds)
			return true
		}
	}
	if err != nil {
		s.late(e, "a document that can't be read: %v", err)
	}
	return false
}

// askRun asks how the run stands, and ends the experiment where its stop
// document was lost.
func (s *session) askRun(ctx context.Context, e *Experiment) (over bool) {
	if n := s.lost.Swap(0); n > 0 {
		s.late(e, "%d messages came faster than they could be read", n)
	}
	r, err := s.control(ctx, messages.Control{Action: messages.ControlRuns, Run: e.Run})
	if err != nil {
		if ctx.Err() == nil {
			s.late(e, "the runner does not answer: %v", err)
		}
		return false
	}
	for _, i := range r.Runs {
		if i.Run != e.Run {
			continue
		}
		s.late(e, "the run is %s%s", i.State, map[bool]string{true: ": " + i.Say}[i.Say != ""])
		exit := map[string]string{"done": messages.ExitSuccess, "aborted": messages.ExitAbort, "failed": messages.ExitFail}[i.State]
		if i.Ended == nil || exit == "" || len(s.inbox) > 0 {
			return false // its documents are on the way
		}
		seconds := 0.0
		if !i.Started.IsZero() {
			seconds = i.Ended.Sub(i.Started).Seconds()
		}
		e.end(exit, i.Say, i.Outputs, seconds)
		return true
	}
	s.late(e, "the runner lists no run %s", e.Run)
	return false
}

// end records how a run ended.
func (e *Experiment) end(exit, say string, outputs map[string]lab.Value, seconds float64) {
	e.Exit, e.Say, e.Seconds = exit, say, seconds
	e.setMeasured(outputs)
}
