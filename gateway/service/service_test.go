package service_test

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"labgate/configs"
	"labgate/drivers"
	"labgate/drivers/memory"
	"labgate/gateway/service"
	"labgate/internal/bus"
	"labgate/internal/journal"
	"labgate/internal/wall"
	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
	"labgate/sim"
)

// bench is the demo lab inside the process: the real gateway service and the
// real journal, instruments in memory over the simulated world in real time.
type bench struct {
	t       *testing.T
	cfg     *configs.Config
	mu      sync.Mutex // guards world
	world   *sim.World
	bus     *fakeBus
	journal lab.Journal
	socket  string
	wedge   atomic.Bool // pump_a's next exchange hangs until its link is closed
	opened  atomic.Int32
	load    atomic.Pointer[func() (*safety.Rules, error)] // reads the interlocks again
	clock   *steppable
	ids     *wall.IDs
}

// fakeBus delivers requests to handlers in the process. While it is gone,
// everything that a service publishes hangs.
type fakeBus struct {
	mu       sync.Mutex
	handlers map[string]func(lab.Message)
	outcomes chan messages.Outcome
	gone     atomic.Bool
}

func (b *fakeBus) Publish(ctx context.Context, _ string, data []byte) error {
	if b.gone.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	var o messages.Outcome
	if is := messages.Decode(data, &o); len(is) == 0 && o.Kind == messages.KindOutcome {
		select {
		case b.outcomes <- o:
		default:
		}
	}
	return nil
}

func (b *fakeBus) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	b.mu.Lock()
	h := b.handlers[subject]
	b.mu.Unlock()
	answer := make(chan []byte, 1)
	h(lab.Message{Subject: subject, Data: data, Reply: func(a []byte) error { answer <- a; return nil }})
	select {
	case a := <-answer:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b *fakeBus) Handle(_ context.Context, subject string, fn func(lab.Message)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handlers[subject] = fn
	return nil
}

// device is one instrument of the world, as a memory link wants it.
type device struct{ b *bench }

func (d device) Read(id lab.PropertyID) (lab.Value, error) {
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	d.b.world.Step(time.Now())
	return d.b.world.Read(id.Instrument, id.Component, id.Property)
}

func (d device) Do(cmd *lab.Command) (map[string]lab.Value, error) {
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	d.b.world.Step(time.Now())
	return d.b.world.Do(cmd.Target.Instrument, cmd.Target.Component, cmd.Target.Command, cmd.Args)
}

func (d device) Epoch() uint64 { return 1 }

// wedged is a link that can hang, as a line whose driver never comes back.
type wedged struct {
	drivers.Link
	b      *bench
	closed chan struct{}
}

func (w *wedged) Exchange(ctx context.Context, cmd *lab.Command, p *safety.Permit) (drivers.Result, error) {
	r, err := w.Link.Exchange(ctx, cmd, p)
	if cmd.Target.Instrument == "pump_a" && w.b.wedge.Swap(false) {
		<-w.closed // whatever the context says
		return drivers.Result{}, lab.Ef("test", "pump_a", lab.KindOutcomeUnknown, "the line hung")
	}
	return r, err
}

func (w *wedged) Close() error {
	select {
	case w.closed <- struct{}{}:
	default:
	}
	return w.Link.Close()
}

func start(t *testing.T, j lab.Journal) *bench {
	t.Helper()
	sub, err := fs.Sub(configs.Embedded(), "labs/demo")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := configs.Load(sub, "demo")
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range cfg.Lab.Instruments {
		for i := range in.Profile.Properties {
			if p := &in.Profile.Properties[i]; p.Poll == 0 {
				p.Poll = 100 * time.Millisecond // memory links send nothing unasked
			}
		}
	}
	dir := t.TempDir()
	b := &bench{t: t, clock: &steppable{}, cfg: cfg, world: sim.NewDemo(1, time.Now()), socket: filepath.Join(dir, "control.sock"), ids: wall.NewIDs(), journal: j,
		bus: &fakeBus{handlers: map[string]func(lab.Message){}, outcomes: make(chan messages.Outcome, 100)}}
	if j == nil {
		own, err := journal.Open(t.Context(), journal.Options{Dir: dir, Lab: "demo"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = own.Close() })
		b.journal = own
	}
	open := func(c drivers.Config) (drivers.Link, error) {
		b.opened.Add(1)
		l, err := memory.Open(memory.Config{Config: c, Device: device{b}})
		return &wedged{l, b, make(chan struct{}, 1)}, err
	}
	s, err := service.New(t.Context(), service.Options{Lab: cfg.Lab, Name: "bench", Rules: cfg.Rules, StartBy: time.Now().Add(10 * time.Second),
		Clock: b.clock, IDs: b.ids, Bus: b.bus, Journal: b.journal, Blobs: journal.NewBlobs(dir),
		Openers: map[lab.LinkKind]drivers.Opener{lab.LinkSerial: open, lab.LinkOPCUA: open, lab.LinkMQTT: open},
		Address: func(in *lab.Instrument) (map[string]string, error) { return in.Link, nil },
		Role: func(p string) string {
			return map[string]string{"operator_1": "operator", "operator_2": "operator", "planner_1": "agent", "planner_2": "agent"}[p]
		},
		Vetted: func(p string) time.Time {
			if p == "operator_2" {
				return time.Now().Add(-time.Second)
			}
			return time.Time{}
		},
		LoadRules:     func() (*safety.Rules, error) { return (*b.load.Load())() },
		ControlSocket: b.socket})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	b.eventually("the lab is ready", func() bool { st := b.status(); return st != nil && st.Ready })
	return b
}

func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	b.t.Fatalf("never: %s", what)
}

func (b *bench) status() *messages.Status {
	var r messages.ControlReply
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := service.AskLocal(ctx, b.socket, messages.Control{Kind: messages.KindControl, ID: "s", Action: messages.ControlStatus}, &r); err != nil {
		return nil
	}
	return r.Status
}

func (b *bench) count(instrument string) sim.Count {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.world.Step(time.Now())
	return b.world.Count(instrument)
}

func (b *bench) request(subject string, doc, reply any) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	a, err := b.bus.Request(ctx, subject, messages.Body(doc))
	if err != nil {
		b.t.Fatal(err)
	}
	if is := messages.Decode(a, reply); len(is) > 0 {
		b.t.Fatal(is)
	}
}

func (b *bench) lease(instrument string) uint64 {
	b.t.Helper()
	var r messages.LeaseReply
	b.request(bus.Lease("demo", "bench", instrument), messages.LeaseRequest{Action: messages.LeaseTake, Instrument: instrument, Run: "run", Principal: "planner_1",
		TTL: lab.Q(30, "s"), RulesHash: b.cfg.Rules.Hash, Telemetry: lab.Q(1, "s")}, &r)
	if !r.OK {
		b.t.Fatal(r.Issues)
	}
	return r.Lease
}

// do sends a command and returns its id.
func (b *bench) do(instrument, component, command string, lease uint64, args map[string]lab.Value) string {
	b.t.Helper()
	var r messages.CommandReply
	id := b.ids.New(time.Now())
	b.request(bus.Command("demo", "bench", instrument), messages.Command{Envelope: messages.Envelope{Kind: messages.KindCommand}, ID: id, Instrument: instrument,
		Component: component, Command: command, Args: args, Principal: "planner_1", Run: "run", Lease: lease, NotAfter: time.Now().Add(10 * time.Second)}, &r)
	if !r.Accepted {
		b.t.Fatal(r.Issues)
	}
	return id
}

func (b *bench) outcome(id string) lab.Outcome {
	b.t.Helper()
	for {
		select {
		case o := <-b.bus.outcomes:
			if o.Outcome.Command == id {
				return o.Outcome
			}
		case <-time.After(20 * time.Second):
			b.t.Fatalf("no outcome of %s", id)
		}
	}
}

// dosing starts the stirrer, and a dose of 0.4 mL that takes 8 s.
func (b *bench) dosing() (dose string) {
	b.t.Helper()
	stir := b.do("reactor", "stirrer", "stir", b.lease("reactor"), map[string]lab.Value{"speed": lab.NumberValue(lab.Q(400, "rpm"))})
	if o := b.outcome(stir); !o.OK() {
		b.t.Fatal(o)
	}
	dose = b.do("pump_a", "pump", "dose", b.lease("pump_a"), map[string]lab.Value{"volume": lab.NumberValue(lab.Q(0.4, "mL")), "rate": lab.NumberValue(lab.Q(3, "mL/min"))})
	b.eventually("the pump delivers", func() bool { return b.count("pump_a").Dispensed > 0.01 })
	return dose
}

func (b *bench) stop() messages.StopReply {
	b.t.Helper()
	var r messages.StopReply
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := service.AskLocal(ctx, b.socket, messages.Stop{Kind: messages.KindStop, ID: "stop", Reason: "test"}, &r); err != nil {
		b.t.Fatal(err)
	}
	return r
}

// stands fails unless the pump has stopped short of its dose, and stays so.
func (b *bench) stands() {
	b.t.Helper()
	b.eventually("the pump stands", func() bool {
		v := b.count("pump_a").Dispensed
		time.Sleep(100 * time.Millisecond)
		return b.count("pump_a").Dispensed == v
	})
	if c := b.count("pump_a"); c.Dispensed > 0.39 || c.Doses != 1 {
		b.t.Errorf("%+v: the stop came too late, or something was done twice", c)
	}
}

func TestDoseIsConfirmedByReadBack(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) }) // after everything that start cleans up
	b := start(t, nil)
	stir := b.do("reactor", "stirrer", "stir", b.lease("reactor"), map[string]lab.Value{"speed": lab.NumberValue(lab.Q(400, "rpm"))})
	b.outcome(stir)
	id := b.do("pump_a", "pump", "dose", b.lease("pump_a"), map[string]lab.Value{"volume": lab.NumberValue(lab.Q(0.05, "mL")), "rate": lab.NumberValue(lab.Q(10, "mL/min"))})
	o := b.outcome(id)
	if !o.OK() || o.Values["delivered"].Num < 0.0495 {
		t.Errorf("%+v", o)
	}
	if c := b.count("pump_a"); c.Doses != 1 {
		t.Errorf("%+v", c)
	}
}

func TestStopLeavesAPartWithItsAmount(t *testing.T) {
	b := start(t, nil)
	id := b.dosing()
	r := b.stop()
	if r.Instruments["pump_a"] != "confirmed" || r.Instruments["quench"] != "kept" {
		t.Errorf("%+v", r.Instruments)
	}
	b.stands()
	o := b.outcome(id)
	if got := b.count("pump_a").Dispensed; o.State != lab.Partial || o.Amount == nil || o.Amount.Value < got-0.002 || o.Amount.Value > got+0.002 {
		t.Errorf("outcome %+v, but the pump delivered %g mL", o, got)
	}
}

// S7: with the bus gone, a stop goes over the local socket.
func TestStopWithTheBusGone(t *testing.T) {
	b := start(t, nil)
	b.dosing()
	b.bus.gone.Store(true)
	if r := b.stop(); r.Instruments["pump_a"] != "confirmed" {
		t.Errorf("%+v", r.Instruments)
	}
	b.stands()
}

// A link that ignores its context is closed, opened again, and stopped first.
func TestStopBreaksOpenAWedgedLink(t *testing.T) {
	b := start(t, nil)
	b.wedge.Store(true)
	b.dosing()
	began := time.Now()
	if r := b.stop(); r.Instruments["pump_a"] != "confirmed" {
		t.Errorf("%+v", r.Instruments)
	}
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("took %s", d)
	}
	b.stands()
}

// brokenJournal fails every Append once it is broken.
type brokenJournal struct {
	lab.Journal
	broken atomic.Bool
}

func (j *brokenJournal) Append(ctx context.Context, e ...lab.Entry) ([]lab.Ref, error) {
	if j.broken.Load() {
		return nil, lab.E("journal: commit", "", lab.KindUnavailable, errors.New("the disk is full"))
	}
	return j.Journal.Append(ctx, e...)
}

// D3: a failing disk stops effects; the stop path stays alive.
func TestFailingJournal(t *testing.T) {
	own, err := journal.Open(t.Context(), journal.Options{Dir: t.TempDir(), Lab: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = own.Close() })
	j := &brokenJournal{Journal: own}
	b := start(t, j)
	b.dosing()
	lease := b.lease("pump_b")
	j.broken.Store(true)
	b.do("pump_b", "pump", "dose", lease, map[string]lab.Value{"volume": lab.NumberValue(lab.Q(0.05, "mL")), "rate": lab.NumberValue(lab.Q(10, "mL/min"))})
	if r := b.stop(); r.Instruments["pump_a"] != "confirmed" {
		t.Errorf("%+v", r.Instruments)
	}
	b.stands()
	if c := b.count("pump_b"); c.Doses != 0 || c.Dispensed != 0 {
		t.Errorf("%+v: an effect without a durable intent", c)
	}
	if st := b.status(); st.Ready {
		t.Error("a gateway that can't write says that it is ready")
	}
}
