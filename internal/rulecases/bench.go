package rulecases

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"labgate/gateway"
	"labgate/lab"
	"labgate/lab/expr"
	"labgate/messages"
	"labgate/safety"
)

var epoch0 = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

const (
	between    = 100 * time.Millisecond // feeds of readings
	leaseFor   = 60 * time.Second
	renewAfter = 20 * time.Second
	hold       = 10 * time.Second // how long a link keeps its answer to itself, at most
	operator   = "operator_1"
	planner    = "planner_1"
)

// sensor is one property as the case scripts it.
type sensor struct {
	id     lab.PropertyID
	typ    lab.Type
	maxAge time.Duration
	value  lab.Value
	word   string
	told   bool // a word that is said once was said
	jitter bool // a rule looks whether it is stuck: a healthy one never stands quite still

	from, to   float64 // a ramp
	began, end time.Time
}

// sent is a command that the gateway has handed to its link.
type sent struct {
	cmd    lab.Command
	permit *safety.Permit
	at     time.Time
	done   bool // the exchange is over
	before map[string]lab.Value
}

// leased is a run's lease.
type leased struct {
	run, principal string
	number         uint64
	renewed        time.Time
}

// bench is a gateway with scripted instruments.
type bench struct {
	lab     *lab.Lab
	rules   *safety.Rules
	gateway string
	core    *gateway.Core
	now     time.Time
	fed     time.Time
	sensors []*sensor
	byID    map[lab.PropertyID]*sensor
	epochs  map[string]uint64
	leases  map[string]*leased // by instrument
	journal []lab.Entry
	queue   []gateway.Event
	busy    bool

	sent      map[string]*sent
	notAfter  map[string]time.Time
	targets   map[string]lab.CommandID
	outcomes  map[string]lab.Outcome
	tripped   map[string]bool
	firstOut  map[string]bool
	alarms    map[string]bool
	stoppedBy map[string][]string
	ordered   []string
	refused   bool // anything was
	lastReply messages.CommandReply
	lastID    string
	resetOK   *messages.ControlReply
	bypassOK  *messages.ControlReply
	broken    string // what went wrong with the case itself
	n         int
	earlier   int // commands that the case takes for granted
}

func newBench(l *lab.Lab, rules *safety.Rules, nominal map[lab.PropertyID]lab.Value, given []setting) (*bench, error) {
	b := &bench{lab: l, rules: rules, gateway: l.Instruments[0].Gateway, now: epoch0, byID: map[lab.PropertyID]*sensor{}, epochs: map[string]uint64{}, leases: map[string]*leased{},
		sent: map[string]*sent{}, notAfter: map[string]time.Time{}, targets: map[string]lab.CommandID{}, outcomes: map[string]lab.Outcome{}, tripped: map[string]bool{}, firstOut: map[string]bool{},
		alarms: map[string]bool{}, stoppedBy: map[string][]string{}}
	stuck, span := windowsOf(rules)
	warm := min(max(2*time.Second, span*8/5), 2*time.Minute)
	start := epoch0.Add(-warm)
	for _, id := range l.Properties() {
		spec := l.PropertySpec(id)
		s := &sensor{id: id, typ: spec.Type, maxAge: spec.MaxAge, value: nominal[id], jitter: stuck[id]}
		b.sensors = append(b.sensors, s)
		b.byID[id] = s
	}
	for _, g := range given {
		if g.word == "missing" {
			b.byID[g.id].word = "missing"
		}
	}
	b.now = start
	if err := b.boot(start.Add(30 * time.Second)); err != nil {
		return nil, err
	}
	b.advance(epoch0)
	for _, g := range given {
		b.set(g)
	}
	b.anew()
	return b, nil
}

// anew begins the case: what rules remember of the time before, through their
// windows, is forgotten with a new epoch of every link.
func (b *bench) anew() {
	for _, in := range b.lab.Instruments {
		b.epochs[in.Name]++
		b.step(gateway.LinkUp{Instrument: in.Name, Epoch: b.epochs[in.Name], Identity: "scripted"})
	}
	b.feed()
}

// windowsOf finds which properties are watched for being stuck, and the longest
// window.
func windowsOf(rules *safety.Rules) (stuck map[lab.PropertyID]bool, span time.Duration) {
	stuck = map[lab.PropertyID]bool{}
	for _, r := range rules.Rules {
		for _, f := range r.Formulas() {
			if !f.Program.Windows() {
				continue
			}
			text := f.Program.Source().Text
			for _, x := range expr.Spots(text) {
				if q, err := lab.ParseQuantity(strings.TrimSpace(x.Text)); x.Kind == expr.SpotSpan && err == nil {
					if d, err := q.Duration(); err == nil && d < 10*time.Minute {
						span = max(span, d)
					}
				}
			}
			for _, slot := range f.Program.Slots() {
				if id, ok := rules.PropertyAt(slot); ok {
					stuck[id] = stuck[id] || strings.Contains(text, "stuck_for(")
				}
			}
		}
	}
	return stuck, span
}

// boot makes a core from the journal and connects every instrument.
func (b *bench) boot(startBy time.Time) error {
	core, err := gateway.New(gateway.Options{Lab: b.lab, Name: b.gateway, Rules: b.rules, StartBy: startBy})
	if err != nil {
		return err
	}
	b.core = core
	for _, e := range b.journal {
		if err := core.Restore(e); err != nil {
			return err
		}
	}
	b.act(core.Restored(b.now))
	for _, in := range b.lab.Instruments {
		b.epochs[in.Name]++
		b.step(gateway.LinkUp{Instrument: in.Name, Epoch: b.epochs[in.Name], Identity: "scripted"})
	}
	b.feed()
	return nil
}

// step takes one event, and what follows from it.
func (b *bench) step(ev gateway.Event) {
	b.queue = append(b.queue, ev)
	if b.busy {
		return
	}
	b.busy = true
	for len(b.queue) > 0 {
		ev := b.queue[0]
		b.queue = b.queue[1:]
		b.act(b.core.Step(b.now, ev))
	}
	b.busy = false
}

func (b *bench) soon(ev gateway.Event) { b.queue = append(b.queue, ev) }

func (b *bench) act(actions []gateway.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case gateway.Answer:
			if f, ok := a.Reply.(func(any)); ok {
				f(a.Message)
			}
		case gateway.Refresh:
			b.soon(gateway.Readings{Samples: b.samples(a.Properties)})
			b.soon(gateway.Refreshed{Command: a.Command})
		case gateway.Append:
			b.soon(gateway.Durable{Token: a.Token, Refs: b.keep(a.Entries)})
		case gateway.Note:
			b.keep(a.Entries)
		case gateway.Send:
			b.send(a)
		case gateway.Lane:
			b.lane(a)
		case gateway.Publish:
			b.publish(a.Message)
		}
	}
	if !b.busy && len(b.queue) > 0 {
		ev := b.queue[0]
		b.queue = b.queue[1:]
		b.step(ev)
	}
}

func (b *bench) keep(entries []lab.Entry) []lab.Ref {
	var refs []lab.Ref
	for _, e := range entries {
		if e.Time.IsZero() {
			e.Time = b.now
		}
		b.journal = append(b.journal, e)
		refs = append(refs, lab.Ref{Seq: uint64(len(b.journal))})
		if e.Kind == "lost_permissive/v1" {
			rule := ""
			if i := strings.Index(string(e.Body), `"rule":"`); i >= 0 {
				rule, _, _ = strings.Cut(string(e.Body)[i+8:], `"`)
			}
			b.stoppedBy[e.Command] = append(b.stoppedBy[e.Command], rule)
		}
	}
	return refs
}

// send is what a link does with a command: it spends the permit, and then keeps
// its answer until the case says what became of it.
func (b *bench) send(a gateway.Send) {
	x := &sent{cmd: a.Command, permit: a.Permit, at: b.now, before: map[string]lab.Value{}}
	if err := a.Permit.Spend(&x.cmd, b.epochs[a.Command.Target.Instrument], b.now); err != nil {
		b.soon(gateway.Exchanged{Command: a.Command.ID, Err: err})
		return
	}
	for _, s := range b.component(a.Command.Target) {
		x.before[s.id.Property] = s.value
	}
	b.sent[a.Command.ID] = x
}

// answer lets a link tell that a command was sent.
func (b *bench) answer(x *sent, err error) {
	if x.done {
		return
	}
	x.done = true
	values := map[string]lab.Value{}
	for _, g := range b.lab.CommandSpec(x.cmd.Target).Gives {
		if g.From.Text == "" {
			values[g.Name] = result(g.Type)
		}
	}
	b.step(gateway.Exchanged{Command: x.cmd.ID, Acked: err == nil, Values: values, Sent: x.at, Ended: b.now, Err: err})
}

// result is a value that a device may return.
func result(t lab.Type) lab.Value {
	switch t.Kind {
	case lab.Blob:
		return lab.BlobValue(&lab.BlobRef{Hash: lab.HashText([]byte("a picture")), Media: "image/png", Size: 9})
	case lab.Table:
		d := &lab.TableData{Columns: t.Columns}
		for range t.Columns {
			d.Data = append(d.Data, []float64{1})
		}
		return lab.TableValue(d)
	}
	return plain(t)
}

// lane is what a link does with an order, at once. What the instrument then
// shows is for the case to say.
func (b *bench) lane(a gateway.Lane) {
	id := a.Order.Target()
	b.ordered = append(b.ordered, sayCall(id, nil))
	if len(a.Order.Args()) > 0 {
		b.ordered = append(b.ordered, sayCall(id, a.Order.Args()))
	}
	b.soon(gateway.LaneDone{ID: a.ID, Acked: true})
}

func sayCall(id lab.CommandID, args map[string]lab.Value) string {
	return lab.SafeStep{Command: id, Args: args}.String()
}

func (b *bench) component(id lab.CommandID) []*sensor {
	var list []*sensor
	for _, s := range b.sensors {
		if s.id.Instrument == id.Instrument && s.id.Component == id.Component {
			list = append(list, s)
		}
	}
	return list
}

func (b *bench) publish(m any) {
	switch m := m.(type) {
	case messages.Outcome:
		b.outcomes[m.Outcome.Command] = m.Outcome
	case messages.Safety:
		switch m.What {
		case messages.SafetyTrip, messages.SafetyStop:
			b.trip(m)
		case messages.SafetyAlarm:
			if m.Alarm != nil {
				b.alarms[m.Rule] = b.alarms[m.Rule] || m.Alarm.Active
			}
		case messages.SafetyRefusal:
			b.refused = true
		}
	}
}

// trip notes what a trip, or a stop, has ended.
func (b *bench) trip(m messages.Safety) {
	rule := m.Rule
	if m.What == messages.SafetyTrip {
		b.tripped[rule] = true
		b.firstOut[rule] = b.firstOut[rule] || m.FirstOut
	}
	for id, target := range b.targets {
		if _, over := b.outcomes[id]; !over && slices.Contains(m.Instruments, target.Instrument) && b.sent[id] != nil && b.lab.CommandSpec(target).Effect != lab.Safe {
			b.stoppedBy[id] = append(b.stoppedBy[id], rule)
		}
	}
}

// values are those of a component now, or as given.
func (b *bench) values(id lab.CommandID, given map[string]lab.Value) map[string]lab.Value {
	if given != nil {
		return given
	}
	m := map[string]lab.Value{}
	for _, s := range b.component(id) {
		m[s.id.Property] = s.value
	}
	return m
}

// advance lets time pass: readings come, leases are renewed, links answer.
func (b *bench) advance(to time.Time) {
	for b.now.Before(to) {
		next := b.fed.Add(between)
		tick := false
		if at := b.core.Next(); !at.IsZero() && at.Before(next) && at.After(b.now) {
			next, tick = at, true
		}
		if next.After(to) {
			next, tick = to, true
		}
		b.now = next
		b.upkeep()
		if tick {
			b.step(gateway.Tick{})
		} else {
			b.feed()
		}
	}
}

func (b *bench) upkeep() {
	for _, in := range sortedKeys(b.leases) {
		if l := b.leases[in]; b.now.Sub(l.renewed) >= renewAfter {
			b.lease(in, l.run, l.principal, messages.LeaseRenew, l.number)
		}
	}
	for _, id := range sortedKeys(b.sent) {
		x := b.sent[id]
		if spec := b.lab.CommandSpec(x.cmd.Target); !x.done && spec.DoneWhen.Text != "" && b.now.Sub(x.at) >= hold {
			b.answer(x, nil)
		}
	}
}

// lease takes or renews a lease.
func (b *bench) lease(instrument, run, principal, action string, number uint64) bool {
	ok := false
	b.step(gateway.LeaseAsked{Request: messages.LeaseRequest{Action: action, Instrument: instrument, Run: run, Principal: principal, Lease: number,
		TTL: lab.Seconds(leaseFor), RulesHash: b.rules.Hash, Telemetry: lab.Seconds(time.Second)}, Reply: func(m any) {
		if r, is := m.(messages.LeaseReply); is && r.OK {
			ok = true
			b.leases[instrument] = &leased{run, principal, r.Lease, b.now}
		}
	}})
	return ok
}

// ask asks for a command as a run would, and returns its id.
func (b *bench) ask(s *step) string {
	b.n++
	id := s.id
	if id == "" {
		id = fmt.Sprintf("c%d", b.n)
	}
	run, as := s.run, s.as
	if run == "" {
		run = "r1"
	}
	if as == "" {
		as = planner
	}
	target := s.do.id
	l := b.leases[target.Instrument]
	if l != nil && l.run != run && !b.underWay(target.Instrument) && s.lease == nil {
		b.lease(target.Instrument, l.run, l.principal, messages.LeaseRelease, l.number)
		delete(b.leases, target.Instrument)
		l = nil
	}
	if l == nil {
		b.lease(target.Instrument, run, as, messages.LeaseTake, 0)
	}
	cmd := lab.Command{ID: id, Target: target, Args: map[string]lab.Value{}, Principal: as, Run: run, Step: "step", Campaign: s.campaign, NotAfter: b.now.Add(s.notAfter)}
	for n, v := range s.do.args {
		cmd.Args[n] = v
	}
	if l := b.leases[target.Instrument]; l != nil {
		cmd.Lease = l.number
	}
	if s.lease != nil {
		cmd.Lease = *s.lease
	}
	if first, again := b.notAfter[id]; again {
		cmd.NotAfter = first // a redelivery is the same bytes
	}
	b.notAfter[id] = cmd.NotAfter
	if _, again := b.targets[id]; !again {
		b.targets[id] = target
	}
	b.lastID, b.lastReply = id, messages.CommandReply{}
	b.step(gateway.Asked{Command: cmd, Finally: s.finally, Reply: func(m any) {
		if r, is := m.(messages.CommandReply); is {
			b.lastReply = r
		}
	}})
	return id
}

func (b *bench) underWay(instrument string) bool {
	for id, x := range b.sent {
		if _, over := b.outcomes[id]; !over && x.cmd.Target.Instrument == instrument {
			return true
		}
	}
	return false
}

// outcome is what the gateway says became of a command.
func (b *bench) outcome(id string) messages.CommandReply {
	var r messages.CommandReply
	b.step(gateway.OutcomeAsked{Command: id, Reply: func(m any) { r, _ = m.(messages.CommandReply) }})
	return r
}
