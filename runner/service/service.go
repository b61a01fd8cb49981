// Package service is the shell around the runner's core: the bus, the
// journal's queue and the clock.
//
// Goroutines: one runs the core and is the only one that calls it; one hands
// entries to the journal; one asks it for old answers; one keeps snapshots; one
// writes to the bus; a request to a gateway waits
// in a goroutine of its own, so that a gateway that hangs holds up nobody. Run
// starts them all and joins them all.
package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"labgate/internal/bus"
	"labgate/internal/failpoint"
	"labgate/internal/journal"
	"labgate/internal/mailbox"
	"labgate/lab"
	"labgate/messages"
	"labgate/runner"
)

// Bus is what the runner needs of the bus: documents, and the work queue of
// proposals.
type Bus interface {
	lab.Bus
	ConsumeProposals(ctx context.Context, fn func(bus.Delivery)) error
}

// Options make a Service. Everything is mandatory but Log, LoadRules and
// Snapshots.
type Options struct {
	Core    runner.Options
	Lab     *lab.Lab
	Clock   lab.Clock
	IDs     lab.IDs
	Bus     Bus
	Journal lab.Journal
	// Snapshots shorten a start. Nil: every start reads the whole journal.
	Snapshots *journal.Snapshots
	Log       func(string) // one line for people
	// LoadRules reads the lab's interlocks again. Nil: they never change.
	LoadRules func() (runner.Rules, error)
}

const (
	askWithin = 2 * time.Second // for a gateway to answer
	maxAsking = 1024            // requests under way at once
)

// Service runs the runner of one lab.
type Service struct {
	o       Options
	core    *runner.Core
	boot    string
	seq     uint64 // of journal entries
	docs    atomic.Uint64
	events  *mailbox.Box[runner.Event]
	appends *mailbox.Box[appendRequest]
	out     *mailbox.Box[outgoing]
	looks   *mailbox.Box[string] // bounded by the deliveries that are not acknowledged
	snaps   *journal.Keeper
	asking  chan struct{}
	wg      sync.WaitGroup
}

type appendRequest struct {
	token   uint64
	entries []lab.Entry
	snap    *runner.Snapshot // the one entry is its place
}

type outgoing struct {
	subject string
	data    []byte
	send    func([]byte) error // instead of a subject
}

// New makes a Service and restores its core from the journal.
func New(ctx context.Context, o Options) (*Service, error) {
	if o.Log == nil {
		o.Log = func(string) {}
	}
	s := &Service{o: o, boot: o.IDs.New(o.Clock.Now()), events: mailbox.New[runner.Event](), appends: mailbox.New[appendRequest](), out: mailbox.New[outgoing](), looks: mailbox.New[string](), asking: make(chan struct{}, maxAsking)}
	s.snaps = journal.NewKeeper(o.Snapshots, o.Journal, origin, s.sealSnapshot, o.Log)
	return s, s.restore(ctx)
}

// Run works until ctx is done, then joins everything it started. Runs that
// are under way are left to their gateways: without renewed leases they end in
// their safe state.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer s.lastSnapshot(context.WithoutCancel(ctx))
	defer s.wg.Wait()
	defer cancel()
	s.start(func() { s.runJournal(ctx) })
	s.start(func() { s.runLooks(ctx) })
	s.start(func() { s.snaps.Run(ctx) })
	s.start(func() { s.runPublisher(ctx) })
	s.act(ctx, s.o.Clock.Now(), s.core.Restored(s.o.Clock.Now()))
	if err := s.subscribe(ctx); err != nil {
		return err
	}
	s.runCore(ctx)
	return nil
}

func (s *Service) start(f func()) {
	s.wg.Add(1)
	go func() { defer s.wg.Done(); f() }()
}

// subscribe opens the runner's ears. Handlers only enqueue.
func (s *Service) subscribe(ctx context.Context) error {
	name := s.o.Lab.Name
	for subject, fn := range map[string]func(lab.Message){
		bus.Outcome(name, "*", "*"):             s.onOutcome,
		bus.Telemetry(name, "*", "*", "*", "*"): s.onTelemetry,
		bus.Safety(name, "*", "*"):              s.onSafety,
		bus.Control(name, "*"):                  s.onControl,
		bus.Approvals(name, "*"):                s.onApproval,
	} {
		if err := s.o.Bus.Handle(ctx, subject, fn); err != nil {
			return err
		}
	}
	return s.o.Bus.ConsumeProposals(ctx, func(d bus.Delivery) {
		s.events.Put(runner.Proposed{Principal: d.Principal, Data: d.Data, StreamSeq: d.Seq, Token: d.Ack})
	})
}

func (s *Service) onOutcome(m lab.Message) {
	var o messages.Outcome
	if err := json.Unmarshal(m.Data, &o); err != nil {
		s.o.Log(fmt.Sprintf("unreadable outcome on %s: %v", m.Subject, err)) // it is asked for again
		return
	}
	s.events.Put(runner.OutcomeArrived{Outcome: o})
}

func (s *Service) onTelemetry(m lab.Message) {
	var t messages.Telemetry
	if err := json.Unmarshal(m.Data, &t); err != nil {
		s.o.Log(fmt.Sprintf("unreadable reading on %s: %v", m.Subject, err)) // it grows stale, which is unknown
		return
	}
	s.events.Put(runner.ReadingArrived{ID: lab.PropertyID{Instrument: t.Instrument, Component: t.Component, Property: t.Property}, Reading: t.Reading})
}

func (s *Service) onSafety(m lab.Message) {
	var d messages.Safety
	if err := json.Unmarshal(m.Data, &d); err != nil {
		s.o.Log(fmt.Sprintf("unreadable safety message on %s: %v", m.Subject, err)) // the gateway has acted by itself
		return
	}
	s.events.Put(runner.SafetyArrived{Safety: d})
}

// onControl serves what is the runner's of the control subject; the rest is
// the gateways'.
func (s *Service) onControl(m lab.Message) {
	var r messages.Control
	is := messages.Decode(m.Data, &r)
	if slices.Contains(messages.GatewayActions, r.Action) {
		return
	}
	if len(is) > 0 {
		s.answer(m, messages.ControlReply{ID: r.ID, Say: is[0].Say, Issues: is})
		return
	}
	s.events.Put(runner.ControlAsked{Principal: bus.Sender(m.Subject), Control: r, Reply: m})
}

// onApproval takes a person's word on a run. Who sent it is the subject's to
// say.
func (s *Service) onApproval(m lab.Message) {
	a, is := messages.DecodeApproval(m.Data)
	if len(is) > 0 {
		s.answer(m, messages.ControlReply{ID: a.ID, Say: is[0].Say, Issues: is})
		return
	}
	s.events.Put(runner.ApprovalAsked{Principal: bus.Sender(m.Subject), Approval: a, Reply: m})
}

func (s *Service) answer(m lab.Message, r messages.ControlReply) {
	if m.Reply != nil {
		r.Envelope = s.envelope(s.o.Clock.Now(), messages.KindControlReply)
		s.out.Put(outgoing{data: messages.Body(r), send: m.Reply})
	}
}

// runCore is the one goroutine that calls the core.
func (s *Service) runCore(ctx context.Context) {
	for {
		var timer <-chan time.Time
		if next := s.core.Next(); !next.IsZero() {
			timer = s.o.Clock.At(next)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.events.Ready():
		case <-timer:
			now := s.o.Clock.Now()
			s.act(ctx, now, s.core.Step(now, runner.Tick{}))
		}
		for _, e := range s.events.Take() {
			now := s.o.Clock.Now()
			s.act(ctx, now, s.core.Step(now, e))
		}
	}
}

// act does what the core asks for. It never blocks.
func (s *Service) act(ctx context.Context, now time.Time, actions []runner.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case runner.Append:
			s.appends.Put(appendRequest{token: a.Token, entries: s.seal(a.Entries)})
		case runner.Note:
			s.appends.Put(appendRequest{entries: s.seal(a.Entries)})
		case runner.Look:
			s.looks.Put(a.Key)
		case runner.Snap:
			s.appends.Put(s.placeOf(now, a.State))
		case runner.Acknowledge:
			s.out.Put(outgoing{send: func([]byte) error { return a.Token.(func() error)() }})
		case runner.Publish:
			s.publish(now, a)
		case runner.Answer:
			s.answer(a.Reply.(lab.Message), a.Message)
		case runner.LoadRules:
			s.start(s.loadRules)
		case runner.Lease:
			a.Request.Envelope = s.envelope(now, "lease_request/v1")
			s.ask(ctx, bus.Lease(s.o.Lab.Name, a.Gateway, a.Request.Instrument), messages.Body(a.Request), func(b []byte, err error) runner.Event {
				r := messages.LeaseReply{Instrument: a.Request.Instrument}
				if err == nil {
					err = json.Unmarshal(b, &r)
				}
				return runner.LeaseReplied{Run: a.Request.Run, Action: a.Request.Action, Reply: r, Err: err}
			})
		case runner.Command:
			a.Command.Envelope = s.envelope(now, messages.KindCommand)
			s.ask(ctx, bus.Command(s.o.Lab.Name, a.Gateway, a.Command.Instrument), messages.Body(a.Command), commandReply(a.Command.ID))
		case runner.Query:
			q := messages.OutcomeQuery{Envelope: s.envelope(now, messages.KindOutcomeQuery), Command: a.Command}
			s.ask(ctx, bus.Command(s.o.Lab.Name, a.Gateway, a.Instrument), messages.Body(q), commandReply(a.Command))
		}
	}
}

// loadRules reads a file, in a goroutine of its own: the core never waits for a
// disk.
func (s *Service) loadRules() {
	e := runner.RulesLoaded{Err: errors.New("this runner was given no file to read")}
	if s.o.LoadRules != nil {
		e.Rules, e.Err = s.o.LoadRules()
	}
	if e.Err != nil {
		s.o.Log(fmt.Sprintf("the interlocks can't be read again: %v", e.Err))
	}
	s.events.Put(e)
}

func commandReply(id string) func([]byte, error) runner.Event {
	return func(b []byte, err error) runner.Event {
		var r messages.CommandReply
		if err == nil {
			err = json.Unmarshal(b, &r)
		}
		return runner.CommandReplied{Command: id, Reply: r, Err: err}
	}
}

// ask sends a request and turns its answer, or its failure, into an event. A
// command is never sent a second time from here: a lost answer is asked for.
func (s *Service) ask(ctx context.Context, subject string, data []byte, event func([]byte, error) runner.Event) {
	select {
	case s.asking <- struct{}{}:
	default:
		s.events.Put(event(nil, lab.Ef("runner/service: ask", "", lab.KindBusy, "too many requests wait for gateways")))
		return
	}
	s.start(func() {
		defer func() { <-s.asking }()
		ctx, cancel := context.WithTimeout(ctx, askWithin)
		defer cancel()
		b, err := s.o.Bus.Request(ctx, subject, data)
		s.events.Put(event(b, err))
	})
}

func (s *Service) envelope(now time.Time, kind string) messages.Envelope {
	return messages.Envelope{Kind: kind, Lab: s.o.Lab.Name, Origin: origin, OriginSeq: s.docs.Add(1), Boot: s.boot, Time: now, Synthetic: s.o.Lab.Simulated}
}

// publish puts a verdict or a run's document on its subject.
func (s *Service) publish(now time.Time, a runner.Publish) {
	name := s.o.Lab.Name
	run := func(doc string) string { return bus.Runs(name, a.Principal, a.Run, doc) }
	switch d := a.Document.(type) {
	case messages.Verdict:
		d.Envelope = s.envelope(now, messages.KindVerdict)
		s.o.Log(fmt.Sprintf("proposal of %s: %s", a.Principal, d.Say))
		s.out.Put(outgoing{subject: bus.Verdicts(name, a.Principal), data: messages.Body(d)})
	case messages.RunStart:
		d.Envelope = s.envelope(now, messages.KindRunStart)
		s.out.Put(outgoing{subject: run("start"), data: messages.Body(d)})
	case messages.RunDescriptor:
		d.Envelope = s.envelope(now, messages.KindRunDescriptor)
		s.out.Put(outgoing{subject: run("descriptor"), data: messages.Body(d)})
	case messages.RunEvent:
		d.Envelope = s.envelope(now, messages.KindRunEvent)
		s.out.Put(outgoing{subject: run("event"), data: messages.Body(d)})
	case messages.RunResource:
		d.Envelope = s.envelope(now, messages.KindRunResource)
		s.out.Put(outgoing{subject: run("resource"), data: messages.Body(d)})
	case messages.RunStop:
		d.Envelope = s.envelope(now, messages.KindRunStop)
		s.o.Log(fmt.Sprintf("run %s ended: %s %s", a.Run, d.ExitStatus, d.Reason))
		s.out.Put(outgoing{subject: run("stop"), data: messages.Body(d)})
	}
}

// seal adds what the core does not know: origin, boot and sequence.
func (s *Service) seal(entries []lab.Entry) []lab.Entry {
	for i := range entries {
		s.seq++
		e := &entries[i]
		e.Origin, e.OriginSeq, e.Boot, e.Synthetic = origin, s.seq, s.boot, s.o.Lab.Simulated
	}
	return entries
}

// runJournal hands entries over in the order in which the core gave them.
func (s *Service) runJournal(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			s.write(context.WithoutCancel(ctx), s.appends.Take()) // what the core has decided is not lost
			return
		case <-s.appends.Ready():
			s.write(ctx, s.appends.Take())
		}
	}
}

func (s *Service) write(ctx context.Context, batch []appendRequest) {
	for _, r := range batch {
		if r.token == 0 && r.snap == nil {
			s.o.Journal.Note(r.entries...)
			continue
		}
		refs, err := s.o.Journal.Append(ctx, r.entries...)
		if err != nil {
			s.o.Log(fmt.Sprintf("not written to the journal: %v", err))
		}
		switch {
		case r.snap == nil:
			s.events.Put(runner.Durable{Token: r.token, Refs: refs, Err: err})
		case err == nil:
			s.snaps.Put(r.snap, refs[0].Seq)
		}
	}
}

// runPublisher is the one goroutine that writes to the bus. What is lost here
// can be asked for: the journal has it.
func (s *Service) runPublisher(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.out.Ready():
		}
		for _, o := range s.out.Take() {
			var err error
			failpoint.Here("runner/publishes")
			if o.send != nil {
				err = o.send(o.data)
			} else {
				err = s.o.Bus.Publish(ctx, o.subject, o.data)
			}
			if err != nil && ctx.Err() == nil {
				s.o.Log(fmt.Sprintf("not published on %s: %v", o.subject, err))
			}
		}
	}
}
