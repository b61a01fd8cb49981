package service_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"labgate/configs"
	"labgate/drivers"
	"labgate/drivers/memory"
	"labgate/gateway/service"
	"labgate/internal/bus"
	"labgate/internal/journal"
	"labgate/internal/wall"
	"labgate/lab"
	"labgate/messages"
)

// instantPump delivers at once: what a command then takes is Labgate's own.
type instantPump struct {
	mu        sync.Mutex
	dispensed float64
}

func (p *instantPump) Read(id lab.PropertyID) (lab.Value, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch id.Property {
	case "dispensed":
		return lab.NumberValue(lab.Q(p.dispensed, "mL")), nil
	case "rate":
		return lab.NumberValue(lab.Q(6, "mL/min")), nil
	}
	return lab.BoolValue(false), nil
}

func (p *instantPump) Do(cmd *lab.Command) (map[string]lab.Value, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dispensed += cmd.Args["volume"].Num
	return nil, nil
}

func (p *instantPump) Epoch() uint64 { return 1 }

// pumpLab is a lab of n such pumps, each with a limit and a permissive.
func pumpLab(b *testing.B, n int) *configs.Config {
	b.Helper()
	labFile, rules := "lab: speed\nkind: simulated\ngateway: bench\ninstruments:\n", "interlocks: speed\nrules:\n"
	for i := range n {
		labFile += fmt.Sprintf("  p%d: {profile: bench/pump@1, link: {}, safe: [pump.stop], on_lease_loss: keep}\n", i)
		rules += fmt.Sprintf("  - {id: size%d, limit: p%d.dose.volume, max: 1 mL}\n  - {id: known%d, permissive: p%d.dose, require: p%d.dispensed >= 0 mL}\n", i, i, i, i, i)
	}
	labFile += "interlocks: interlocks.yaml\nnats: {embedded: {}}\n"
	profile := `profile: bench/pump@1
about: A pump that has delivered as soon as it is told.
components: {pump: pump/v1}
link: {kind: memory, reply_within: 100 ms}
properties: {rate: {unit: mL/min, poll: 500 ms}, dispensed: {unit: mL, poll: 500 ms}, running: {poll: 500 ms}}
commands: {dose: {}, stop: {}}
repeats: none
`
	cfg, err := configs.Load(fstest.MapFS{"lab.yaml": {Data: []byte(labFile)}, "interlocks.yaml": {Data: []byte(rules)}, "profiles/pump.yaml": {Data: []byte(profile)}}, "speed")
	if err != nil {
		b.Fatal(err)
	}
	return cfg
}

// speed is a gateway on the real journal and the real embedded NATS, and the
// runner's connection to it.
type speed struct {
	*testing.B
	cfg     *configs.Config
	server  *bus.Server
	runner  *bus.Conn
	gateway *bus.Conn
	journal *journal.Journal
	ids     *wall.IDs

	mu    sync.Mutex
	waits map[string]chan messages.Outcome
}

func startSpeed(b *testing.B, instruments int) *speed {
	b.Helper()
	return startWith(b, pumpLab(b, instruments), func(string) memory.Device { return &instantPump{} })
}

// startWith is startSpeed for a lab and devices of one's own, by instrument.
func startWith(b *testing.B, cfg *configs.Config, device func(instrument string) memory.Device) *speed {
	b.Helper()
	s, end := startRound(b, cfg, device)
	b.Cleanup(end)
	return s
}

// startRound is startWith, ended by the caller.
func startRound(b *testing.B, cfg *configs.Config, device func(instrument string) memory.Device) (s *speed, end func()) {
	b.Helper()
	return startOver(b, cfg, map[lab.LinkKind]drivers.Opener{lab.LinkMemory: func(c drivers.Config) (drivers.Link, error) {
		return memory.Open(memory.Config{Config: c, Device: device(c.Instruments[0].Name)})
	}})
}

// startOver is startRound over links of one's own.
func startOver(b *testing.B, cfg *configs.Config, openers map[lab.LinkKind]drivers.Opener) (s *speed, end func()) {
	b.Helper()
	var ends []func()
	later := func(f func()) { ends = append(ends, f) }
	s = &speed{B: b, cfg: cfg, ids: wall.NewIDs(), waits: map[string]chan messages.Outcome{}}
	dir, name := b.TempDir(), s.cfg.Lab.Name
	keys := map[string][]byte{}
	pub := map[string]string{}
	for _, part := range []string{"runner", "gateway_bench"} {
		seed, key, err := bus.NewKey()
		if err != nil {
			b.Fatal(err)
		}
		keys[part], pub[part] = seed, key
	}
	var err error
	if s.server, err = bus.StartServer(b.Context(), bus.ServerOptions{Lab: name, StoreDir: filepath.Join(dir, "nats"), Port: -1, RunnerKey: pub["runner"], Gateways: map[string]string{"bench": pub["gateway_bench"]}}); err != nil {
		b.Fatal(err)
	}
	later(s.server.Shutdown)
	connect := func(part string) *bus.Conn {
		c, err := bus.Connect(b.Context(), bus.ConnOptions{Server: s.server, Seed: keys[part], Name: part, Lab: name})
		if err != nil {
			b.Fatal(err)
		}
		later(c.Close)
		return c
	}
	s.runner, s.gateway = connect("runner"), connect("gateway_bench")
	if s.journal, err = journal.Open(b.Context(), journal.Options{Dir: dir, Lab: name}); err != nil {
		b.Fatal(err)
	}
	later(func() { _ = s.journal.Close() })
	g, err := service.New(b.Context(), service.Options{Lab: s.cfg.Lab, Name: "bench", Rules: s.cfg.Rules, StartBy: time.Now().Add(10 * time.Second),
		Clock: wall.Clock{}, IDs: s.ids, Bus: s.gateway, Journal: s.journal, Blobs: journal.NewBlobs(dir),
		Openers: openers,
		Address: func(in *lab.Instrument) (map[string]string, error) { return in.Link, nil },
		Role:    func(string) string { return "agent" }})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	later(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	if err := s.runner.Handle(b.Context(), bus.Outcome(name, "bench", "*"), s.arrived); err != nil {
		b.Fatal(err)
	}
	return s, func() {
		for i := len(ends) - 1; i >= 0; i-- {
			ends[i]()
		}
	}
}

func (s *speed) arrived(m lab.Message) {
	var o messages.Outcome
	if is := messages.Decode(m.Data, &o); len(is) > 0 {
		s.Error(is)
		return
	}
	s.mu.Lock()
	w := s.waits[o.Outcome.Command]
	delete(s.waits, o.Outcome.Command)
	s.mu.Unlock()
	if w != nil {
		w <- o
	}
}

func (s *speed) request(subject string, doc, reply any) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	a, err := s.runner.Request(ctx, subject, messages.Body(doc))
	if err != nil {
		s.Error(err)
		return
	}
	if is := messages.Decode(a, reply); len(is) > 0 {
		s.Error(is)
	}
}

// lease takes an instrument as soon as the gateway serves it and it is ready
// for commands.
func (s *speed) lease(instrument string) uint64 {
	var r messages.LeaseReply
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		a, err := s.runner.Request(ctx, bus.Lease(s.cfg.Lab.Name, "bench", instrument), messages.Body(messages.LeaseRequest{Envelope: messages.Envelope{Kind: messages.KindLeaseRequest},
			Action: messages.LeaseTake, Instrument: instrument, Run: "run_" + instrument, Principal: "planner_1", TTL: lab.Q(1, "min"), RulesHash: s.cfg.Rules.Hash, Telemetry: lab.Q(1, "s")}))
		cancel()
		if err == nil {
			if is := messages.Decode(a, &r); len(is) > 0 || !r.OK && r.Issues[0].Code != "not_ready" {
				s.Fatal(is, r.Issues)
			}
			if r.OK {
				return r.Lease
			}
		}
		if time.Now().After(end) {
			s.Fatal(err, r.Issues)
		}
	}
}

func (s *speed) renew(instrument string, lease uint64) {
	var r messages.LeaseReply
	if s.request(bus.Lease(s.cfg.Lab.Name, "bench", instrument), messages.LeaseRequest{Envelope: messages.Envelope{Kind: messages.KindLeaseRequest},
		Action: messages.LeaseRenew, Instrument: instrument, Run: "run_" + instrument, Principal: "planner_1", Lease: lease, TTL: lab.Q(1, "min")}, &r); !r.OK {
		s.Error(r.Issues)
	}
}

// command does one, from the request to its outcome. It reports false while
// the instrument is not ready yet.
func (s *speed) command(instrument string, lease uint64) bool {
	id := s.ids.New(time.Now())
	w := make(chan messages.Outcome, 1)
	s.mu.Lock()
	s.waits[id] = w
	s.mu.Unlock()
	var r messages.CommandReply
	s.request(bus.Command(s.cfg.Lab.Name, "bench", instrument), messages.Command{Envelope: messages.Envelope{Kind: messages.KindCommand}, ID: id, Instrument: instrument, Component: "pump", Command: "dose",
		Args:      map[string]lab.Value{"volume": lab.NumberValue(lab.Q(0.01, "mL")), "rate": lab.NumberValue(lab.Q(6, "mL/min"))},
		Principal: "planner_1", Run: "run_" + instrument, Step: "feed", Lease: lease, NotAfter: time.Now().Add(10 * time.Second)}, &r)
	if !r.Accepted {
		return false
	}
	select {
	case o := <-w:
		return o.Outcome.OK()
	case <-time.After(20 * time.Second):
		s.Errorf("no outcome of %s", id)
		return false
	}
}

// ready waits until an instrument does what it is told.
func (s *speed) ready(instrument string) (lease uint64) {
	s.Helper()
	lease = s.lease(instrument)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if s.command(instrument, lease) {
			return lease
		}
	}
	s.Fatalf("%s never got ready", instrument)
	return 0
}

// floor is what no gateway could do without: two durable commits, of rows as
// the journal's, by SQLite alone, and one NATS round trip between the same
// connections' kind.
type floor struct {
	*testing.B
	in   *sql.Stmt
	rows [2][]byte // what a command writes before it is sent, and after it
	ask  []byte
}

func startFloor(s *speed) *floor {
	s.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(s.TempDir(), "floor.db")+"?_journal_mode=WAL&_synchronous=FULL&_txlock=immediate")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE entries (seq INTEGER PRIMARY KEY, hash BLOB NOT NULL, json TEXT NOT NULL)"); err != nil {
		s.Fatal(err)
	}
	f := &floor{B: s.B}
	if f.in, err = db.Prepare("INSERT INTO entries (hash, json) VALUES (?, ?)"); err != nil {
		s.Fatal(err)
	}
	f.rows = [2][]byte{make([]byte, 1500), make([]byte, 600)} // ALLOW with INTENT, OUTCOME: about as many bytes as in the journal
	f.ask = make([]byte, 500)
	for _, b := range [][]byte{f.rows[0], f.rows[1], f.ask} {
		for i := range b {
			b[i] = 'x'
		}
	}
	const subject = "lab.speed.gw.bench.floor.command"
	if err := s.gateway.Handle(s.Context(), subject, func(m lab.Message) {
		if err := m.Reply(m.Data); err != nil {
			s.Error(err)
		}
	}); err != nil {
		s.Fatal(err)
	}
	return f
}

func (f *floor) once(s *speed) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := s.runner.Request(ctx, "lab.speed.gw.bench.floor.command", f.ask); err != nil {
		f.Fatal(err)
	}
	hash := make([]byte, 32)
	for _, row := range f.rows {
		if _, err := f.in.Exec(hash, string(row)); err != nil { // outside a transaction a statement is one of its own
			f.Fatal(err)
		}
	}
}

// quantile is of a sorted list, in microseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	return float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Microseconds())
}

// BenchmarkCommand is one command from its request to its confirmed outcome,
// and the floor beside it: they take turns, so that both see the same machine.
// Figures are microseconds; ratio is the command's p50 to the floor's.
func BenchmarkCommand(b *testing.B) {
	s := startSpeed(b, 1)
	lease := s.ready("p0")
	f := startFloor(s)
	var command, raw []time.Duration
	renewed := time.Now()
	before := s.journal.Commits()
	for b.Loop() {
		if time.Since(renewed) > 20*time.Second {
			s.renew("p0", lease)
			renewed = time.Now()
		}
		t0 := time.Now()
		f.once(s)
		t1 := time.Now()
		if !s.command("p0", lease) {
			b.Fatal("a command was not confirmed")
		}
		command, raw = append(command, time.Since(t1)), append(raw, t1.Sub(t0))
	}
	b.ReportMetric(float64(s.journal.Commits()-before)/float64(len(command)), "commits/op")
	slices.Sort(command)
	slices.Sort(raw)
	b.ReportMetric(quantile(command, 0.5), "p50-us")
	b.ReportMetric(quantile(command, 0.99), "p99-us")
	b.ReportMetric(quantile(raw, 0.5), "floor-p50-us")
	b.ReportMetric(quantile(raw, 0.99), "floor-p99-us")
	b.ReportMetric(quantile(command, 0.5)/quantile(raw, 0.5), "ratio")
	b.ReportMetric(0, "ns/op") // of both together: it says nothing
}

// BenchmarkParallelCommands is 100 instruments that each do one command after
// the other: how many durable commands a second, and how they share commits.
func BenchmarkParallelCommands(b *testing.B) {
	const instruments = 100
	s := startSpeed(b, instruments)
	leases := make([]uint64, instruments)
	for i := range leases {
		leases[i] = s.ready(fmt.Sprint("p", i))
	}
	for i := range leases {
		s.renew(fmt.Sprint("p", i), leases[i])
	}
	before := s.journal.Commits()
	b.ResetTimer()
	next := make(chan struct{}, b.N)
	for range b.N {
		next <- struct{}{}
	}
	close(next)
	var wg sync.WaitGroup
	for i := range leases {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range next {
				if !s.command(fmt.Sprint("p", i), leases[i]) {
					b.Error("a command was not confirmed")
				}
			}
		}()
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
	b.ReportMetric(float64(b.N)/float64(s.journal.Commits()-before), "commands/commit")
}
