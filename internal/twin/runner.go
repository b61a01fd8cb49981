package twin

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
	"labgate/runner"
	"labgate/safety"
	"labgate/safety/preflight"
)

// runnerPart does what the runner's service does, in virtual time.
type runnerPart struct {
	t    *Twin
	core *runner.Core
	boot string
	seq  uint64 // of journal entries
	docs uint64 // of documents
	dead bool   // its process was killed
}

const askWithin = 2 * time.Second // for the gateway to answer

func newRunnerPart(t *Twin) (*runnerPart, error) {
	newCore := func() *runner.Core {
		return runner.New(runner.Options{Lab: t.o.Lab, Classes: t.o.Classes, Library: t.o.Library, Principals: t.o.Principals,
			RulesHash: t.o.Rules.Hash, Preflight: t.preflight(t.o.Rules), IDs: &t.ids, Approvals: t.o.Approvals,
			SnapshotEvery: t.o.SnapshotEvery, MaxAnswered: t.o.MaxAnswered, MaxQueue: t.o.MaxQueue, MaxQueueEach: t.o.MaxQueueEach})
	}
	r := &runnerPart{t: t, core: newCore(), boot: t.ids.New(t.clock.Now())}
	from, err := recall(t.disk.snaps["runner"], r.core.Recall)
	if err != nil {
		r.core = newCore()
	}
	for n, e := range t.disk.entries {
		if n < from && e.Origin == "runner" {
			continue // it is in the snapshot
		}
		if err := r.core.Restore(e); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// preflight is what checks plans against rules here.
func (t *Twin) preflight(rules *safety.Rules) func(*protocols.Plan) preflight.Result {
	if t.o.Unproved {
		return func(*protocols.Plan) preflight.Result { return preflight.Result{} }
	}
	return preflight.With(rules)
}

func (r *runnerPart) start() {
	for _, a := range r.core.Restored(r.t.clock.Now()) {
		r.act(a)
	}
}

// step gives the core an event and does what it asks for.
func (r *runnerPart) step(ev runner.Event) {
	if r.dead {
		return
	}
	if !r.t.o.Quiet {
		r.t.trace.line(r.t.clock.now, "runner", "<", sayRunnerEvent(ev))
	}
	r.t.watched("runner", ev)
	for _, a := range r.core.Step(r.t.clock.Now(), ev) {
		r.act(a)
	}
}

func (r *runnerPart) tick() { r.step(runner.Tick{}) }

func (r *runnerPart) act(a runner.Action) {
	if !r.t.o.Quiet {
		r.t.trace.line(r.t.clock.now, "runner", ">", sayRunnerAction(a))
	}
	r.t.watched("runner", a)
	switch a := a.(type) {
	case runner.Append:
		r.t.disk.append(r.seal(a.Entries), func(refs []lab.Ref, err error) {
			r.t.after(0, func() { r.step(runner.Durable{Token: a.Token, Refs: refs, Err: err}) })
		})
	case runner.Note:
		r.t.disk.append(r.seal(a.Entries), nil)
	case runner.Look:
		proposal, verdict := runner.AnswerKeys(a.Key)
		r.t.after(0, func() {
			r.step(runner.Looked{Key: a.Key, Proposal: r.t.disk.seen(proposal), Verdict: r.t.disk.seen(verdict)})
		})
	case runner.Snap:
		r.t.disk.keep("runner", messages.Body(a.State), r.seal([]lab.Entry{{Kind: "snapshot_place/v1", Time: r.t.clock.Now()}})[0])
	case runner.Acknowledge:
		a.Token.(*delivery).done = true
	case runner.Publish:
		r.publish(a)
	case runner.Answer:
		a.Message.Envelope = r.envelope(messages.KindControlReply)
		r.t.network.carry("runner", "reply/control", messages.Body(a.Message), func(data []byte) { r.t.controlReplied(data) })
	case runner.LoadRules:
		rules := r.t.o.Rules
		r.t.after(0, func() {
			r.step(runner.RulesLoaded{Rules: runner.Rules{Hash: rules.Hash, Preflight: r.t.preflight(rules)}})
		})
	case runner.Lease:
		a.Request.Envelope = r.envelope("lease_request/v1")
		if a.Request.Action == messages.LeaseRenew && r.t.o.Quiet {
			r.renew(a.Request)
			return
		}
		serve := func(data []byte, receive func([]byte)) { r.t.gateway.lease(data, receive) }
		r.ask("lease/"+a.Request.Instrument, a.Request, serve, func(b []byte, err error) runner.Event {
			m := messages.LeaseReply{Instrument: a.Request.Instrument}
			if err == nil {
				err = json.Unmarshal(b, &m)
			}
			return runner.LeaseReplied{Run: a.Request.Run, Action: a.Request.Action, Reply: m, Err: err}
		})
	case runner.Command:
		a.Command.Envelope = r.envelope(messages.KindCommand)
		r.askCommand(a.Command.Instrument, a.Command.ID, a.Command)
	case runner.Query:
		r.askCommand(a.Instrument, a.Command, messages.OutcomeQuery{Envelope: r.envelope(messages.KindOutcomeQuery), Command: a.Command})
	}
}

// renew is what ask does with a renewal, of which there are thousands an hour,
// where nobody looks at the bytes.
func (r *runnerPart) renew(req messages.LeaseRequest) {
	open, net := true, &r.t.network
	settle := func(reply messages.LeaseReply, err error) {
		if open {
			open = false
			r.step(runner.LeaseReplied{Run: req.Run, Action: req.Action, Reply: reply, Err: err})
		}
	}
	net.carry("runner", "lease/"+req.Instrument, nil, func([]byte) {
		r.t.gateway.step(gateway.LeaseAsked{Request: req, Reply: reply(func(doc any) {
			answer, _ := r.t.gateway.document(doc).(messages.LeaseReply)
			net.carry("gateway", "reply/lease", nil, func([]byte) { settle(answer, nil) })
		})})
	})
	r.t.after(askWithin, func() {
		settle(messages.LeaseReply{Instrument: req.Instrument}, errors.New("no answer within "+lab.Seconds(askWithin).String()))
	})
}

func (r *runnerPart) askCommand(instrument, id string, doc any) {
	serve := func(data []byte, receive func([]byte)) { r.t.gateway.command(data, receive) }
	r.ask("command/"+instrument, doc, serve, func(b []byte, err error) runner.Event {
		var m messages.CommandReply
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		return runner.CommandReplied{Command: id, Reply: m, Err: err}
	})
}

// ask sends a request and turns its first answer, or its absence, into an
// event. A request is never sent a second time from here.
func (r *runnerPart) ask(channel string, doc any, serve func([]byte, func([]byte)), event func([]byte, error) runner.Event) {
	open := true
	settle := func(b []byte, err error) {
		if open {
			open = false
			r.step(event(b, err))
		}
	}
	r.t.network.carry("runner", channel, messages.Body(doc), func(data []byte) {
		serve(data, func(answer []byte) { settle(answer, nil) })
	})
	r.t.after(askWithin, func() { settle(nil, errors.New("no answer within "+lab.Seconds(askWithin).String())) })
}

// seal adds what the core does not know: origin, boot and sequence.
func (r *runnerPart) seal(entries []lab.Entry) []lab.Entry {
	for i := range entries {
		r.seq++
		e := &entries[i]
		e.Origin, e.OriginSeq, e.Boot, e.Synthetic = "runner", r.seq, r.boot, r.t.o.Lab.Simulated
	}
	return entries
}

func (r *runnerPart) envelope(kind string) messages.Envelope {
	r.docs++
	return messages.Envelope{Kind: kind, Lab: r.t.o.Lab.Name, Origin: "runner", OriginSeq: r.docs, Boot: r.boot, Time: r.t.clock.Now(), Synthetic: r.t.o.Lab.Simulated}
}

// publish brings a verdict or a run's document to its principal.
func (r *runnerPart) publish(a runner.Publish) {
	t := r.t
	run := func(doc any) {
		t.network.carry("runner", "run/"+a.Run, messages.Body(doc), func([]byte) {
			t.documents[a.Run] = append(t.documents[a.Run], doc)
			if t.o.Told != nil {
				t.o.Told(a.Run, doc)
			}
		})
	}
	switch d := a.Document.(type) {
	case messages.Verdict:
		d.Envelope = r.envelope(messages.KindVerdict)
		t.network.carry("runner", "verdict/"+a.Principal, messages.Body(d), func([]byte) { t.verdicts[a.Principal] = append(t.verdicts[a.Principal], d) })
	case messages.RunStart:
		d.Envelope = r.envelope(messages.KindRunStart)
		run(d)
	case messages.RunDescriptor:
		d.Envelope = r.envelope(messages.KindRunDescriptor)
		run(d)
	case messages.RunEvent:
		d.Envelope = r.envelope(messages.KindRunEvent)
		run(d)
	case messages.RunResource:
		d.Envelope = r.envelope(messages.KindRunResource)
		run(d)
	case messages.RunStop:
		d.Envelope = r.envelope(messages.KindRunStop)
		run(d)
	}
}

// proposed takes a proposal from the work queue.
func (r *runnerPart) proposed(d *delivery, data []byte) {
	r.step(runner.Proposed{Principal: d.principal, Data: data, StreamSeq: d.seq, Token: d})
}

func (r *runnerPart) outcome(data []byte) {
	var o messages.Outcome
	if r.read(data, &o) {
		r.step(runner.OutcomeArrived{Outcome: o})
	}
}

func (r *runnerPart) telemetry(data []byte) {
	var m messages.Telemetry
	if r.read(data, &m) {
		r.reading(lab.PropertyID{Instrument: m.Instrument, Component: m.Component, Property: m.Property}, m.Reading)
	}
}

func (r *runnerPart) reading(id lab.PropertyID, reading lab.Reading) {
	r.step(runner.ReadingArrived{ID: id, Reading: reading})
}

func (r *runnerPart) safety(data []byte) {
	var m messages.Safety
	if r.read(data, &m) {
		r.step(runner.SafetyArrived{Safety: m})
	}
}

// read decodes what the gateway published. Here that can always be read:
// anything else is a fault of one of the parts.
func (r *runnerPart) read(data []byte, into any) bool {
	err := json.Unmarshal(data, into)
	if err != nil && r.t.err == nil {
		r.t.err = fmt.Errorf("the gateway published what can't be read: %w: %s", err, clip(data))
	}
	return err == nil
}

// controlled serves what is the runner's of the control subject.
func (r *runnerPart) controlled(principal string, data []byte) {
	var c messages.Control
	is := messages.Decode(data, &c)
	if slices.Contains(messages.GatewayActions, c.Action) {
		return
	}
	if len(is) > 0 {
		r.t.replies[c.ID] = messages.ControlReply{ID: c.ID, Say: is[0].Say, Issues: is}
		return
	}
	r.step(runner.ControlAsked{Principal: principal, Control: c, Reply: c.ID})
}

// approved takes an approval from its subject.
func (r *runnerPart) approved(principal string, data []byte) {
	a, is := messages.DecodeApproval(data)
	if len(is) > 0 {
		r.t.replies[a.ID] = messages.ControlReply{ID: a.ID, Say: is[0].Say, Issues: is}
		return
	}
	r.step(runner.ApprovalAsked{Principal: principal, Approval: a, Reply: a.ID})
}

// controlReplied keeps an answer for whoever asked.
func (t *Twin) controlReplied(data []byte) {
	var m messages.ControlReply
	if err := json.Unmarshal(data, &m); err != nil {
		t.err = fmt.Errorf("an answer can't be read: %w: %s", err, clip(data))
		return
	}
	t.replies[m.ID] = m
}
