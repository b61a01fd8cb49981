package twin

import (
	"fmt"
	"slices"
	"time"

	"labgate/drivers"
	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
)

// gatewayPart does what the gateway's service does, in virtual time.
type gatewayPart struct {
	t      *Twin
	core   *gateway.Core
	name   string
	boot   string
	seq    uint64 // of journal entries
	docs   uint64 // of documents
	owners map[string]*owner
	order  []*owner
	seen   map[lab.PropertyID]time.Time // when a reading was last published

	watched map[lab.PropertyID]bool // by rules that look by themselves
	live    map[string]bool         // commands between their first byte and their outcome

	dead     bool   // its process was killed
	clockWhy string // what was last said of the clock
}

// reply is the token of the gateway's requests.
type reply func(document any)

func newGatewayPart(t *Twin) (*gatewayPart, error) {
	name := t.o.Lab.Instruments[0].Gateway
	newCore := func() (*gateway.Core, error) {
		return gateway.New(gateway.Options{Lab: t.o.Lab, Name: name, Rules: t.o.Rules, StartBy: t.clock.Now().Add(t.o.StartWithin), Encodable: t.o.Encodable, SnapshotEvery: t.o.SnapshotEvery, MaxAnswered: t.o.MaxAnswered})
	}
	core, err := newCore()
	if err != nil {
		return nil, err
	}
	g := &gatewayPart{t: t, core: core, name: name, boot: t.ids.New(t.clock.Now()), owners: map[string]*owner{}, seen: map[lab.PropertyID]time.Time{}, watched: watched(t.o.Rules), live: map[string]bool{}}
	from, err := recall(t.disk.snaps["gateway"], core.Recall)
	if err != nil { // of other rules, say
		if g.core, err = newCore(); err != nil {
			return nil, err
		}
	}
	for _, e := range t.disk.entries[from:] {
		if err := g.core.Restore(e); err != nil {
			return nil, err
		}
	}
	byKey := map[string]*owner{}
	for _, in := range t.o.Lab.Instruments {
		k := drivers.Key(in)
		if byKey[k] == nil {
			byKey[k] = newOwner(g)
			g.order = append(g.order, byKey[k])
		}
		if err := byKey[k].add(in); err != nil {
			return nil, err
		}
		g.owners[in.Name] = byKey[k]
	}
	return g, nil
}

func (g *gatewayPart) start() {
	for _, a := range g.core.Restored(g.t.clock.Now()) {
		g.act(a)
	}
	for _, o := range g.order {
		o.connect()
	}
}

// step gives the core an event and does what it asks for.
func (g *gatewayPart) step(ev gateway.Event) {
	if g.dead {
		return
	}
	if !g.t.o.Quiet {
		g.t.trace.line(g.t.clock.now, "gateway", "<", sayGatewayEvent(ev))
	}
	g.t.watched("gateway", ev)
	for _, a := range g.core.Step(g.t.clock.Now(), ev) {
		g.act(a)
	}
	if r, ok := ev.(gateway.Readings); ok {
		g.publishReadings(r.Samples)
	}
}

// soon gives the core an event after everything that this instant still has
// to say: a core is never called from within its own actions.
func (g *gatewayPart) soon(ev gateway.Event) { g.t.after(0, func() { g.step(ev) }) }

func (g *gatewayPart) tick() { g.step(gateway.Tick{}) }

func (g *gatewayPart) act(a gateway.Action) {
	if !g.t.o.Quiet {
		g.t.trace.line(g.t.clock.now, "gateway", ">", sayGatewayAction(a))
	}
	g.t.watched("gateway", a)
	switch a := a.(type) {
	case gateway.Lane:
		g.owners[a.Order.Target().Instrument].lane(a)
	case gateway.Send:
		g.live[a.Command.ID] = true
		g.owners[a.Command.Target.Instrument].send(a)
	case gateway.Refresh:
		g.refresh(a)
	case gateway.Append:
		g.t.disk.append(g.seal(a.Entries), func(refs []lab.Ref, err error) { g.soon(gateway.Durable{Token: a.Token, Refs: refs, Err: err}) })
	case gateway.Note:
		g.t.disk.append(g.seal(a.Entries), nil)
	case gateway.Look:
		e := gateway.Looked{Command: a.Command}
		for _, key := range gateway.AnswerKeys(a.Command) {
			if e.Entry = g.t.disk.seen(key); e.Entry != nil {
				break
			}
		}
		g.soon(e)
	case gateway.Snap:
		for i := range a.State.Entries {
			if a.State.Entries[i].Boot == "" {
				a.State.Entries[i].Boot = g.boot
			}
		}
		g.t.disk.keep("gateway", messages.Body(a.State), g.seal([]lab.Entry{{Kind: "snapshot_place/v1"}})[0])
	case gateway.Answer:
		a.Reply.(reply)(a.Message)
	case gateway.Publish:
		g.publish(a.Message)
	}
}

// seal adds what the core does not know: origin, boot and sequence.
func (g *gatewayPart) seal(entries []lab.Entry) []lab.Entry {
	for i := range entries {
		g.seq++
		e := &entries[i]
		e.Origin, e.OriginSeq, e.Boot, e.Synthetic = "gateway/"+g.name, g.seq, g.boot, g.t.o.Lab.Simulated
		if e.Time.IsZero() {
			e.Time = g.t.clock.Now()
		}
	}
	return entries
}

func (g *gatewayPart) envelope(kind string) messages.Envelope {
	g.docs++
	return messages.Envelope{Kind: kind, Lab: g.t.o.Lab.Name, Origin: "gateway/" + g.name, OriginSeq: g.docs, Boot: g.boot, Time: g.t.clock.Now(), Synthetic: g.t.o.Lab.Simulated}
}

// document returns a document with its envelope.
func (g *gatewayPart) document(doc any) any {
	switch d := doc.(type) {
	case messages.CommandReply:
		d.Envelope = g.envelope(messages.KindCommandReply)
		return d
	case messages.Outcome:
		d.Envelope = g.envelope(messages.KindOutcome)
		return d
	case messages.LeaseReply:
		d.Envelope = g.envelope(messages.KindLeaseReply)
		return d
	case messages.Safety:
		d.Envelope = g.envelope(messages.KindSafety)
		return d
	case messages.StopReply:
		d.Envelope = g.envelope(messages.KindStopReply)
		return d
	case messages.ControlReply:
		d.Envelope = g.envelope(messages.KindControlReply)
		return d
	case messages.Telemetry:
		d.Envelope = g.envelope(messages.KindTelemetry)
		return d
	}
	return doc
}

// publish sends a document of the core to whoever listens: the runner.
func (g *gatewayPart) publish(doc any) {
	data := messages.Body(g.document(doc))
	switch d := doc.(type) {
	case messages.Outcome:
		delete(g.live, d.Outcome.Command)
		g.t.network.carry("gateway", "outcome/"+d.Instrument, data, func(data []byte) { g.t.runner.outcome(data) })
	case messages.Safety:
		g.t.network.carry("gateway", "safety/"+d.What, data, func(data []byte) { g.t.runner.safety(data) })
	}
}

// publishReadings sends telemetry, at most one reading a property and period.
func (g *gatewayPart) publishReadings(samples []lab.Sample) {
	now := g.t.clock.Now()
	for _, x := range samples {
		if now.Sub(g.seen[x.ID]) < g.core.Telemetry(x.ID.Instrument) {
			continue
		}
		g.seen[x.ID] = now
		if g.t.o.Quiet {
			g.docs++
			g.t.network.carry("gateway", "telemetry/"+x.ID.String(), nil, func([]byte) { g.t.runner.reading(x.ID, x.Reading) })
			continue
		}
		doc := g.document(messages.Telemetry{Instrument: x.ID.Instrument, Component: x.ID.Component, Property: x.ID.Property, Reading: x.Reading})
		g.t.network.carry("gateway", "telemetry/"+x.ID.String(), messages.Body(doc), func(data []byte) { g.t.runner.telemetry(data) })
	}
}

// watched are the properties that trips, alarms, sequences and zones look at
// without being asked.
func watched(rules *safety.Rules) map[lab.PropertyID]bool {
	ids := map[lab.PropertyID]bool{}
	for _, x := range rules.Rules {
		if x.Kind == safety.PermissiveRule || x.Kind == safety.LimitRule || x.Kind == safety.BudgetRule {
			continue
		}
		for _, f := range x.Formulas() {
			for _, slot := range f.Program.Slots() {
				if id, ok := rules.PropertyAt(slot); ok {
					ids[id] = true
				}
			}
		}
	}
	return ids
}

// idle is how often a poll's properties have to be read so that no reading
// grows too old while nothing is under way.
func (g *gatewayPart) idle(p *poll) time.Duration {
	idle := time.Duration(0)
	for _, id := range p.ids {
		age := g.t.o.Lab.PropertySpec(id).MaxAge / 2
		if g.watched[id] {
			age /= 2
		}
		if idle == 0 || age < idle {
			idle = age
		}
	}
	return max(idle, p.every)
}

// period is how often a poll asks now.
func (g *gatewayPart) period(p *poll) time.Duration {
	if g.calm() {
		return p.idle
	}
	return p.every
}

// calm: nothing is under way, and Sparse says what then.
func (g *gatewayPart) calm() bool { return g.t.o.Sparse && len(g.live) == 0 }

// refresh asks every link that a decision needs, at once.
func (g *gatewayPart) refresh(a gateway.Refresh) {
	byOwner := map[*owner][]lab.PropertyID{}
	for _, id := range a.Properties {
		o := g.owners[id.Instrument]
		byOwner[o] = append(byOwner[o], id)
	}
	left := len(byOwner)
	if left == 0 {
		g.soon(gateway.Refreshed{Command: a.Command})
		return
	}
	done := func() {
		if left--; left == 0 {
			g.soon(gateway.Refreshed{Command: a.Command})
		}
	}
	by := g.t.clock.now.Add(a.Within)
	for _, o := range g.order {
		if ids := byOwner[o]; len(ids) > 0 {
			o.refresh(ids, by, done)
		}
	}
}

// answered is a reply token that carries the document back to the asker.
func (g *gatewayPart) answered(what string, receive func([]byte)) reply {
	return func(doc any) { g.t.network.carry("gateway", "reply/"+what, messages.Body(g.document(doc)), receive) }
}

// command takes a command or an outcome query from the bus.
func (g *gatewayPart) command(data []byte, receive func([]byte)) {
	to := g.answered("command", receive)
	var q messages.OutcomeQuery
	if is := messages.Decode(data, &q); len(is) == 0 && q.Kind == messages.KindOutcomeQuery {
		g.step(gateway.OutcomeAsked{Command: q.Command, Reply: to})
		return
	}
	var c messages.Command
	if is := messages.Decode(data, &c); len(is) > 0 {
		to(messages.CommandReply{Command: c.ID, State: lab.Refused, Issues: is})
		return
	}
	g.step(gateway.Asked{Command: c.Lab(), Finally: c.Finally, Reply: to})
}

// lease takes a lease request from the bus.
func (g *gatewayPart) lease(data []byte, receive func([]byte)) {
	to := g.answered("lease", receive)
	var r messages.LeaseRequest
	if is := messages.Decode(data, &r); len(is) > 0 {
		to(messages.LeaseReply{Instrument: r.Instrument, Issues: is})
		return
	}
	g.step(gateway.LeaseAsked{Request: r, Reply: to})
}

func (g *gatewayPart) stopAsked(id, instrument, principal, reason string) {
	g.step(gateway.StopAsked{ID: id, Instrument: instrument, Principal: principal, Reason: reason, Reply: reply(func(doc any) {
		if r, ok := doc.(messages.StopReply); ok {
			g.t.stops = append(g.t.stops, r)
		}
	})})
}

// controlled serves what is the gateway's of the control subject: resets and
// resolves by people, queries by all.
func (g *gatewayPart) controlled(principal string, data []byte) {
	var c messages.Control
	is := messages.Decode(data, &c)
	to := g.answered("control", func(data []byte) { g.t.controlReplied(data) })
	if !slices.Contains(messages.GatewayActions, c.Action) {
		return
	}
	role := ""
	for _, p := range g.t.o.Principals {
		if p.Name == principal {
			role = p.Role
		}
	}
	asks := c.Action == messages.ControlStatus || c.Action == messages.ControlOutcome
	if role != "operator" && role != "safety" && !asks {
		to(messages.ControlReply{ID: c.ID, Say: fmt.Sprintf("%s is no operator and no safety officer", principal)})
		return
	}
	if len(is) > 0 {
		to(messages.ControlReply{ID: c.ID, Say: is[0].Say, Issues: is})
		return
	}
	switch c.Action {
	case messages.ControlReset:
		g.step(gateway.ResetAsked{ID: c.ID, Rule: c.Rule, Principal: principal, Reason: c.Reason, Reply: to})
	case messages.ControlResolve:
		g.step(gateway.ResolveAsked{ID: c.ID, Command: c.Command, As: c.As, Amount: c.Amount, Principal: principal, Reason: c.Reason, Reply: to})
	case messages.ControlBypass:
		until := g.t.clock.Now()
		if c.For != nil {
			if d, err := c.For.Duration(); err == nil {
				until = until.Add(d)
			}
		}
		g.step(gateway.BypassAsked{ID: c.ID, Rule: c.Rule, Principal: principal, Reason: c.Reason, Until: until, Reply: to})
	case messages.ControlRearm:
		g.step(gateway.UnbypassAsked{ID: c.ID, Rule: c.Rule, Principal: principal, Reason: c.Reason, Reply: to})
	case messages.ControlAcknowledge:
		g.step(gateway.AcknowledgeAsked{ID: c.ID, Rule: c.Rule, Principal: principal, Reply: to})
	case messages.ControlReload:
		g.step(gateway.RulesLoaded{Rules: g.t.o.Rules, ID: c.ID, Principal: principal, Reply: to})
	case messages.ControlStatus, messages.ControlTrips:
		g.step(gateway.StatusAsked{Brief: role == "agent" || role == "", Reply: reply(func(doc any) {
			r, _ := doc.(messages.ControlReply)
			r.ID = c.ID
			to(r)
		})})
	case messages.ControlOutcome:
		asker := principal
		if role != "agent" && role != "" {
			asker = ""
		}
		g.step(gateway.OutcomeAsked{Command: c.Command, Asker: asker, Reply: reply(func(doc any) {
			r, _ := doc.(messages.CommandReply)
			to(messages.ControlReply{ID: c.ID, OK: r.Known, Say: "command " + c.Command, Outcome: r.Outcome, Issues: r.Issues})
		})})
	}
}

// status asks the core what it knows, now. The question is not the
// laboratory's, so it is not in the trace; what fell due by it is.
func (g *gatewayPart) status() messages.Status {
	var s messages.Status
	for _, a := range g.core.Step(g.t.clock.Now(), gateway.StatusAsked{}) {
		if answer, ok := a.(gateway.Answer); ok && answer.Reply == nil {
			if r, ok := answer.Message.(messages.ControlReply); ok && r.Status != nil {
				s = *r.Status
			}
			continue
		}
		g.act(a)
	}
	return s
}
