// Package twin joins the runner's core, the gateway's core, the safety engine
// and the simulated world in virtual time.
//
// It promises that the same options and the same calls give the same trace,
// byte for byte, and that the cores run in it as they do in their services:
// messages are JSON and take time, a commit takes time, a link does one thing
// at a time, spends the engine's real permit and is broken off by a stop. It
// has no wires, no disk, no sockets and no wall clock: a run of ten seconds
// takes milliseconds.
//
// A Twin belongs to one owner and starts no goroutine. Package sim keeps the
// count of physical effects by which it is judged.
package twin

import (
	"container/heap"
	"fmt"
	"time"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
	"labgate/runner"
	"labgate/safety"
	"labgate/sim"
)

// Options make a Twin. Lab, Rules and Classes are mandatory.
type Options struct {
	Lab        *lab.Lab // every instrument must be in the simulated world, and of one gateway
	Rules      *safety.Rules
	Classes    map[string]*lab.Class
	Library    []*protocols.Protocol
	Principals []runner.Principal
	Approvals  runner.Approvals
	// Encodable is the gateway's: whether a wire carries a command's values
	// exactly. Nil: every wire does.
	Encodable     func(*lab.Instrument, *lab.Command) error
	Seed          uint64        // of the world's noise and of every delay
	Start         time.Time     // zero: the first second of 2000
	SnapshotEvery int           // entries between two snapshots of the gateway; zero: gateway.DefaultSnapshotEvery
	MaxAnswered   int           // answers that each part has at hand; of older ones the journal is asked. Zero: as many as SnapshotEvery
	StartWithin   time.Duration // for inputs to be first good; zero: safety.StartWithin
	MaxQueue      int           // runs that wait, at most; zero: the runner's own bound
	MaxQueueEach  int           // those of one principal
	Faults        Faults
	Quiet         bool // no trace is kept: a run is faster
	// Sparse reads less while no command is under way: what a trip, an alarm, a
	// sequence or a zone looks at every quarter of its max_age, the rest every
	// half of it. Nothing is ever older than it may be, a decision has its fresh
	// readings as always, and a trip comes at most so much later.
	Sparse bool
	// Unproved accepts plans without their preflight: what that refuses then
	// meets the live rules. It is for replaying counter-examples.
	Unproved bool
	// Told is called with each document of a run as it is published: people of
	// a simulation see by it what they are asked. It may call Control and At.
	Told func(run string, doc any)
	// Watch is told of everything as it happens. It must not call the Twin.
	Watch func(Moment)
}

// Bounds on what a twin may use up, so that a mistake ends in an error.
const (
	maxTrace   = 256 << 20 // bytes
	maxEntries = 1 << 20
	maxAtOnce  = 100_000 // events without time passing
)

// Twin is one laboratory with its Labgate, in virtual time.
type Twin struct {
	o       Options
	clock   clock
	ids     ids
	world   *sim.World
	queue   queue
	seq     uint64
	atOnce  int // events since time last passed
	network network
	disk    *journal
	blobs   map[string][]byte
	gateway *gatewayPart
	runner  *runnerPart
	trace   trace
	err     error // a fault of a core, or a bound that was passed

	down      bool        // no process runs
	paused    time.Time   // until when the process does nothing
	stream    []*delivery // proposals, as a work queue keeps them
	verdicts  map[string][]messages.Verdict
	documents map[string][]any
	replies   map[string]messages.ControlReply
	stops     []messages.StopReply
}

// delivery is a proposal in the work queue until it is acknowledged.
type delivery struct {
	principal string
	data      []byte
	seq       uint64
	done      bool
}

// New makes a twin at rest: the world is at its start, nothing is connected.
func New(o Options) (*Twin, error) {
	const op = "twin: new"
	if o.Lab == nil || o.Rules == nil || o.Classes == nil || len(o.Lab.Instruments) == 0 {
		return nil, lab.Ef(op, "", lab.KindInvalid, "it needs a lab with instruments, its rules and its classes")
	}
	if o.Start.IsZero() {
		o.Start = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	o.Start = o.Start.UTC().Round(0)
	if o.MaxAnswered == 0 {
		o.MaxAnswered = o.SnapshotEvery
	}
	if o.StartWithin == 0 {
		o.StartWithin = safety.StartWithin
	}
	world, err := sim.For(o.Lab.Names(), o.Seed, o.Start)
	if err != nil {
		return nil, lab.E(op, "", lab.KindInvalid, err)
	}
	t := &Twin{o: o, clock: clock{now: o.Start}, world: world, blobs: map[string][]byte{},
		verdicts: map[string][]messages.Verdict{}, documents: map[string][]any{}, replies: map[string]messages.ControlReply{}}
	t.trace.start = o.Start
	t.network = network{t: t, delays: stream{key: o.Seed ^ 0x6e6574}, last: map[string]time.Time{}}
	t.disk = newJournal(t, stream{key: o.Seed ^ 0x6469736b})
	for _, in := range o.Lab.Instruments {
		if in.Gateway != o.Lab.Instruments[0].Gateway {
			return nil, lab.E(op, in.Name, lab.KindInvalid, fmt.Errorf("it belongs to gateway %s, others to %s; a twin has one gateway", in.Gateway, o.Lab.Instruments[0].Gateway))
		}
	}
	return t, t.boot()
}

// boot starts both parts from what is durable.
func (t *Twin) boot() error {
	t.down = false
	var err error
	if t.gateway, err = newGatewayPart(t); err != nil {
		return err
	}
	if t.runner, err = newRunnerPart(t); err != nil {
		return err
	}
	t.gateway.start()
	t.runner.start()
	for _, d := range t.stream {
		if !d.done {
			t.deliver(d)
		}
	}
	return nil
}

// Submit puts a proposal on its subject; the subject is the principal.
func (t *Twin) Submit(principal string, proposal []byte) {
	d := &delivery{principal: principal, data: append([]byte(nil), proposal...), seq: uint64(len(t.stream) + 1)}
	t.stream = append(t.stream, d)
	t.deliver(d)
}

const redelivered = 5 * time.Second // when a proposal that nobody has acknowledged comes again

func (t *Twin) deliver(d *delivery) {
	if t.down {
		return // the work queue keeps it
	}
	boot := t.runner
	t.network.carry("principal/"+d.principal, "proposal", d.data, func(data []byte) { t.runner.proposed(d, data) })
	t.after(redelivered, func() {
		if !d.done && boot == t.runner {
			t.deliver(d)
		}
	})
}

// Control sends a control message of a principal to the runner and the
// gateway, as the bus does. Reply has the answer once it has come.
func (t *Twin) Control(principal string, c messages.Control) {
	c.Kind = messages.KindControl
	data := messages.Body(c)
	t.network.carry("principal/"+principal, "control", data, func(data []byte) {
		t.runner.controlled(principal, data)
		t.gateway.controlled(principal, data)
	})
}

// Approve sends a person's approval or rejection of a run. Reply has the
// answer.
func (t *Twin) Approve(principal string, a messages.Approval) {
	a.Kind = messages.KindApproval
	t.network.carry("principal/"+principal, "approval", messages.Body(a), func(data []byte) { t.runner.approved(principal, data) })
}

// Reply is the answer to the control message with an id, if it has come.
func (t *Twin) Reply(id string) (messages.ControlReply, bool) {
	r, ok := t.replies[id]
	return r, ok
}

// Stop is an emergency stop of one instrument, or of all (""), that arrives
// now.
func (t *Twin) Stop(instrument string) {
	id := t.ids.New(t.clock.now)
	t.after(0, func() { t.gateway.stopAsked(id, instrument, "operator", "stop") })
}

// Reload reads other rules, for the same lab, as if their file had changed and
// somebody had said so. With an error the rules in force stay.
func (t *Twin) Reload(rules *safety.Rules, err error) {
	t.after(0, func() {
		if err == nil {
			t.o.Rules = rules
		}
		t.gateway.step(gateway.RulesLoaded{Rules: rules, Err: err, Principal: "test"})
	})
}

// Stops are the answers to the stops so far, in order.
func (t *Twin) Stops() []messages.StopReply { return append([]messages.StopReply(nil), t.stops...) }

// At does something to the laboratory at an instant after now; it survives a
// Restart. what goes to the trace.
func (t *Twin) At(after time.Duration, what string, do func()) {
	t.push(&item{at: t.clock.now.Add(max(after, 0)), world: true, do: func() {
		t.trace.line(t.clock.now, "world", "!", what)
		do()
	}})
}

// Run lets time pass until something holds, which is asked after each event,
// or for limit where until is nil. It is an error if it did not hold within
// limit, or if a core misbehaves.
func (t *Twin) Run(until func(*Twin) bool, limit time.Duration) error {
	const op = "twin: run"
	end := t.clock.now.Add(limit)
	for t.err == nil {
		if until != nil && until(t) {
			return nil
		}
		at, step := t.next()
		if at.After(end) {
			t.advance(end)
			if until == nil {
				return nil
			}
			return lab.E(op, "", lab.KindExpired, fmt.Errorf("what was awaited did not happen within %s", lab.Seconds(limit)))
		}
		t.advance(at)
		step()
		t.check()
	}
	return lab.E(op, "", lab.KindInternal, t.err)
}

// next is what happens next: of equal instants first what was on its way,
// then the gateway's timer, then the runner's.
func (t *Twin) next() (time.Time, func()) {
	at, step := time.Time{}, func() {}
	if len(t.queue) > 0 {
		at, step = t.queue[0].at, func() { heap.Pop(&t.queue).(*item).do() }
	}
	if t.down {
		return at, step
	}
	for _, p := range []struct {
		next time.Time
		tick func()
	}{{t.gateway.core.Next(), t.gateway.tick}, {t.runner.core.Next(), t.runner.tick}} {
		if p.next.IsZero() {
			continue
		}
		if p.next = later(t.clock.truly(p.next), t.paused); at.IsZero() || p.next.Before(at) {
			at, step = p.next, p.tick
		}
	}
	return at, step
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// advance lets the world pass until an instant; the zero one is now.
func (t *Twin) advance(to time.Time) {
	if to.After(t.clock.now) {
		t.clock.now, t.atOnce = to, 0
		t.world.Step(to)
	}
}

// check keeps the bounds. A core whose Next stays in the past would keep a
// real machine busy for nothing.
func (t *Twin) check() {
	t.atOnce++
	switch {
	case t.err != nil:
	case t.atOnce > maxAtOnce && t.down:
		t.err = fmt.Errorf("%d events without time passing at %s", t.atOnce, t.clock.now.Sub(t.o.Start))
	case t.atOnce > maxAtOnce:
		t.err = fmt.Errorf("%d events without time passing at %s: the gateway wants to be woken at %s, the runner at %s",
			t.atOnce, t.clock.now.Sub(t.o.Start), t.gateway.core.Next().Sub(t.o.Start), t.runner.core.Next().Sub(t.o.Start))
	case t.trace.buf.Len() > maxTrace:
		t.err = fmt.Errorf("the trace is longer than %d bytes", maxTrace)
	case len(t.disk.entries) > maxEntries:
		t.err = fmt.Errorf("the journal has more than %d entries", maxEntries)
	}
}

// after puts something into the queue that a Restart takes out again.
func (t *Twin) after(d time.Duration, do func()) {
	t.push(&item{at: t.clock.now.Add(d), do: do})
}

func (t *Twin) push(i *item) {
	if !i.world {
		if t.down {
			return
		}
		i.at = later(i.at, t.paused)
	}
	t.seq++
	i.seq = t.seq
	heap.Push(&t.queue, i)
}

// World is the laboratory, stepped to Now. It may be changed between calls of
// Run.
func (t *Twin) World() *sim.World { return t.world }

// Now is the virtual time. The process may think otherwise: see SetClock.
func (t *Twin) Now() time.Time { return t.clock.now }

// Trace is every event and action so far, one a line, with its virtual time
// in seconds since the start.
func (t *Twin) Trace() []byte { return append([]byte(nil), t.trace.buf.Bytes()...) }

// Verdicts are the verdicts that reached a principal, in order.
func (t *Twin) Verdicts(principal string) []messages.Verdict {
	return append([]messages.Verdict(nil), t.verdicts[principal]...)
}

// Documents are the documents of a run as they were published, in order:
// messages.RunStart, RunDescriptor, RunEvent, RunResource and RunStop.
func (t *Twin) Documents(run string) []any { return append([]any(nil), t.documents[run]...) }

// Stopped is the stop document of a run, if it has come.
func (t *Twin) Stopped(run string) (messages.RunStop, bool) {
	for _, d := range t.documents[run] {
		if s, ok := d.(messages.RunStop); ok {
			return s, true
		}
	}
	return messages.RunStop{}, false
}

// Entries are the durable entries of the journal, in order.
func (t *Twin) Entries() []lab.Entry { return append([]lab.Entry(nil), t.disk.entries...) }

// Blob is the bytes that an outcome or a document names by their hash; nil for
// unknown ones.
func (t *Twin) Blob(hash string) []byte { return t.blobs[hash] }

// Status is what the gateway says of itself now: latches, doubts, links.
// Nobody answers while the process is down or paused.
func (t *Twin) Status() messages.Status {
	if !t.Awake() {
		return messages.Status{}
	}
	return t.gateway.status()
}

// Snapshots are what both parts would keep of themselves now; the runner's is
// nil while something of it is on its way to the journal.
func (t *Twin) Snapshots() (*gateway.Snapshot, *runner.Snapshot) {
	return t.gateway.core.Snapshot(t.clock.Now()), t.runner.core.Snapshot(t.clock.Now())
}

// Waiting is what the runner says of its queue now.
func (t *Twin) Waiting() []messages.QueueInfo { return t.runner.core.Queue(t.clock.Now(), "") }

// Runs is what the runner says of its runs now, oldest first.
func (t *Twin) Runs() []messages.RunInfo { return t.runner.core.Runs("") }

// Unanswered is how many proposals nobody has acknowledged yet.
func (t *Twin) Unanswered() (n int) {
	for _, d := range t.stream {
		if !d.done {
			n++
		}
	}
	return n
}

// Rules are those that the next start reads.
func (t *Twin) Rules() *safety.Rules { return t.o.Rules }
