package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	"labgate/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 5 * time.Second

// world is a server with two agents, three people, the runner and two gateways.
type world struct {
	*Server
	seeds map[string][]byte
	opts  ServerOptions
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{seeds: map[string][]byte{}}
	pub := func(name string) string {
		seed, public, err := NewKey()
		if err != nil {
			t.Fatal(err)
		}
		w.seeds[name] = seed
		return public
	}
	w.opts = ServerOptions{Lab: "demo", StoreDir: t.TempDir(), Port: -1, MQTTPort: -1, RunnerKey: pub("runner"),
		Gateways:  map[string]string{"bench": pub("gateway_bench"), "attic": pub("gateway_attic")},
		MQTTUsers: map[string]string{"camera": "secret"}, SimKey: pub(simName)}
	for _, p := range []Principal{{Name: "planner_1", Role: RoleAgent}, {Name: "planner_2", Role: RoleAgent}, {Name: "chemist_1", Role: RoleScientist}, {Name: "operator_1", Role: RoleOperator}, {Name: "safety_1", Role: RoleSafety}} {
		p.Key = pub(p.Name)
		w.opts.Principals = append(w.opts.Principals, p)
	}
	return w
}

func startWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.start(t)
	return w
}

func (w *world) start(t *testing.T) {
	t.Helper()
	s, err := StartServer(t.Context(), w.opts)
	if err != nil {
		t.Fatal(err)
	}
	w.Server = s
	t.Cleanup(s.Shutdown)
}

// plain connects like an outside client would: nats.go and a seed, nothing of
// ours. Errors of the server arrive in the channel.
func (w *world) plain(t *testing.T, name string) (*nats.Conn, chan error) {
	t.Helper()
	kp, err := nkeys.FromSeed(w.seeds[name])
	if err != nil {
		t.Fatal(err)
	}
	pub, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 16)
	nc, err := nats.Connect(w.URL(), nats.Nkey(pub, kp.Sign), nats.CustomInboxPrefix(Inbox(name)),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, errs
}

func (w *world) part(t *testing.T, name string) *Conn {
	t.Helper()
	c, err := Connect(t.Context(), ConnOptions{Server: w.Server, Seed: w.seeds[name], Name: name, Lab: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func handle(t *testing.T, c *Conn, subject string) chan lab.Message {
	t.Helper()
	got := make(chan lab.Message, 100)
	if err := c.Handle(t.Context(), subject, func(m lab.Message) { got <- m }); err != nil {
		t.Fatal(err)
	}
	return got
}

func consume(t *testing.T, c *Conn) chan Delivery {
	t.Helper()
	got := make(chan Delivery, 100)
	if err := c.ConsumeProposals(t.Context(), func(d Delivery) { got <- d }); err != nil {
		t.Fatal(err)
	}
	return got
}

func next[T any](t *testing.T, c chan T) T {
	t.Helper()
	select {
	case x := <-c:
		return x
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// TestShutdownWithDevices: connected devices, and those that just went, don't
// hold up the end.
func TestShutdownWithDevices(t *testing.T) {
	for _, clean := range []bool{false, true} {
		w := startWorld(t)
		opts := mqtt.NewClientOptions().AddBroker(w.MQTTURL()).SetClientID("t").SetUsername("camera").SetPassword("secret").SetCleanSession(clean).SetAutoReconnect(false)
		stays, goes := mqtt.NewClient(opts.SetClientID("stays")), mqtt.NewClient(opts.SetClientID("goes"))
		for _, c := range []mqtt.Client{stays, goes} {
			if err := wait(c.Connect()); err != nil {
				t.Fatal(err)
			}
			if err := wait(c.Subscribe("x", 1, func(mqtt.Client, mqtt.Message) {})); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		goes.Disconnect(0)
		w.Server.Shutdown()
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("clean sessions %v: took %v", clean, d)
		}
		stays.Disconnect(0)
	}
}

// TestProposalsSurviveARestart: those that nobody took, and those that were
// taken and not acknowledged; not those that were.
func TestProposalsSurviveARestart(t *testing.T) {
	w := startWorld(t)
	agent, _ := w.plain(t, "planner_1")
	propose := func(text string) {
		t.Helper() // a request: the stream's receipt says that it is stored
		if _, err := agent.Request(Proposals("demo", "planner_1"), []byte(text), patience); err != nil {
			t.Fatal(err)
		}
	}
	propose("before any runner")
	runner := w.part(t, "runner")
	runner.ackWithin = 300 * time.Millisecond
	got := consume(t, runner)
	if d := next(t, got); string(d.Data) != "before any runner" || d.Ack() != nil {
		t.Fatalf("%q", d.Data)
	}
	propose("taken")
	next(t, got)
	runner.Close()
	propose("waiting")
	agent.Close()
	w.Server.Shutdown()
	w.start(t)
	runner = w.part(t, "runner")
	got = consume(t, runner)
	texts := map[string]bool{}
	for range 2 {
		d := next(t, got)
		texts[string(d.Data)] = true
		if err := d.Ack(); err != nil {
			t.Error(err)
		}
	}
	if !texts["taken"] || !texts["waiting"] {
		t.Errorf("got %v", texts)
	}
}

// allowEverything gives the server's own connection the rights of somebody who
// breaks things.
func allowEverything(t *testing.T, w *world) {
	t.Helper()
	key, err := PublicKey(w.Server.admin)
	if err != nil {
		t.Fatal(err)
	}
	opts, err := w.Server.opts.options(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range opts.Nkeys {
		if u.Nkey == key {
			u.Permissions = nil
		}
	}
	if err := w.ns.ReloadOptions(opts); err != nil {
		t.Fatal(err)
	}
}

// The stream or its consumer is deleted under a runner that listens: both are
// made again, and what comes then is delivered.
func TestStreamDeleted(t *testing.T) {
	for _, what := range []string{"stream", "consumer"} {
		t.Run(what, func(t *testing.T) {
			w := startWorld(t)
			runner := w.part(t, "runner")
			got := consume(t, runner)
			allowEverything(t, w)
			admin, err := Connect(t.Context(), ConnOptions{Server: w.Server, Seed: w.Server.admin, Name: adminName, Lab: "demo"})
			if err != nil {
				t.Fatal(err)
			}
			defer admin.Close()
			js, err := jetstream.New(admin.nc)
			if err != nil {
				t.Fatal(err)
			}
			if what == "stream" {
				err = js.DeleteStream(t.Context(), Stream)
			} else {
				err = js.DeleteConsumer(t.Context(), Stream, consumer)
			}
			if err != nil {
				t.Fatal(err)
			}
			agent := w.part(t, "planner_1")
			deadline := time.After(20 * time.Second)
			for n := 0; ; n++ {
				_, _ = agent.Request(t.Context(), Proposals("demo", "planner_1"), fmt.Appendf(nil, `{"n":%d}`, n)) // refused while there is no stream
				select {
				case <-got:
					return
				case <-time.After(200 * time.Millisecond):
				case <-deadline:
					t.Fatal("nothing is delivered any more")
				}
			}
		})
	}
}

func TestSizes(t *testing.T) {
	w := startWorld(t)
	got := consume(t, w.part(t, "runner"))
	agent := w.part(t, "planner_1")
	large := bytes.Repeat([]byte("x"), 300<<10) // more than a proposal may have: the runner says so
	if err := agent.Publish(t.Context(), Proposals("demo", "planner_1"), large); err != nil {
		t.Fatal(err)
	}
	if d := next(t, got); !bytes.Equal(d.Data, large) {
		t.Errorf("%d bytes came", len(d.Data))
	}
	huge := make([]byte, MaxPayload+1)
	if err := agent.Publish(t.Context(), Proposals("demo", "planner_1"), huge); lab.KindOf(err) != lab.KindInvalid {
		t.Errorf("huge: %v", err)
	}
	if _, err := agent.Request(t.Context(), Control("demo", "planner_1"), huge); lab.KindOf(err) != lab.KindInvalid {
		t.Errorf("huge: %v", err)
	}
}

// TestOneFloodsAlone: who sends more than may wait is refused; others are not.
func TestOneFloodsAlone(t *testing.T) {
	w := startWorld(t)
	one, _ := w.plain(t, "planner_1")
	for range perSender {
		if err := one.Publish(Proposals("demo", "planner_1"), []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := one.Request(Proposals("demo", "planner_1"), []byte("{}"), patience); err != nil || !strings.Contains(string(m.Data), "error") {
		t.Errorf("%v, %v", m, err)
	}
	two, _ := w.plain(t, "planner_2")
	if m, err := two.Request(Proposals("demo", "planner_2"), []byte("{}"), patience); err != nil || strings.Contains(string(m.Data), "error") {
		t.Errorf("%v, %v", m, err)
	}
}

func TestRequestReply(t *testing.T) {
	w := startWorld(t)
	gw, runner := w.part(t, "gateway_bench"), w.part(t, "runner")
	if err := gw.Handle(t.Context(), Command("demo", "bench", "pump_a"), func(m lab.Message) {
		if err := m.Reply(append([]byte("re: "), m.Data...)); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	b, err := runner.Request(t.Context(), Command("demo", "bench", "pump_a"), []byte("x"))
	if err != nil || string(b) != "re: x" {
		t.Fatalf("%q, %v", b, err)
	}
	if _, err = runner.Request(t.Context(), Command("demo", "bench", "pump_z"), []byte("x")); lab.KindOf(err) != lab.KindUnavailable {
		t.Errorf("nobody listens there: %v", err)
	}
	silent := handle(t, gw, Command("demo", "bench", "mute"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err = runner.Request(ctx, Command("demo", "bench", "mute"), []byte("x")); lab.KindOf(err) != lab.KindOutcomeUnknown {
		t.Errorf("no answer: %v", err)
	}
	next(t, silent)
	if err := errors.Join(runner.Publish(ctx, Stop("demo"), nil)); lab.KindOf(err) != lab.KindCancelled {
		t.Errorf("too late: %v", err)
	}
	w.Server.Shutdown()
	deadline := time.Now().Add(patience)
	for runner.nc.IsConnected() && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if _, err = runner.Request(t.Context(), Command("demo", "bench", "pump_a"), []byte("x")); lab.KindOf(err) != lab.KindUnavailable {
		t.Errorf("no server: %v", err)
	}
}

// TestSlowHandlersDoNotBlock: one that hangs holds up only its own subject.
func TestSlowHandlersDoNotBlock(t *testing.T) {
	w := startWorld(t)
	gw, runner := w.part(t, "gateway_bench"), w.part(t, "runner")
	hang := make(chan struct{})
	defer close(hang)
	started := make(chan struct{}, 1)
	if err := gw.Handle(t.Context(), Command("demo", "bench", "*"), func(lab.Message) { started <- struct{}{}; <-hang }); err != nil {
		t.Fatal(err)
	}
	stops := handle(t, gw, Stop("demo"))
	if err := runner.Publish(t.Context(), Command("demo", "bench", "pump_a"), nil); err != nil {
		t.Fatal(err)
	}
	next(t, started)
	if err := runner.Publish(t.Context(), Stop("demo"), []byte("now")); err != nil {
		t.Fatal(err)
	}
	if m := next(t, stops); string(m.Data) != "now" {
		t.Errorf("%q", m.Data)
	}
	if b, err := gw.Request(t.Context(), Outcome("demo", "bench", "pump_a"), nil); lab.KindOf(err) != lab.KindUnavailable { // nobody listens: an answer, at once
		t.Errorf("%q, %v", b, err)
	}
}

func TestHandleEndsWithItsContext(t *testing.T) {
	w := startWorld(t)
	gw, runner := w.part(t, "gateway_bench"), w.part(t, "runner")
	ctx, cancel := context.WithCancel(t.Context())
	if err := gw.Handle(ctx, Stop("demo"), func(lab.Message) { t.Error("called after its end") }); err != nil {
		t.Fatal(err)
	}
	cancel()
	after := handle(t, gw, Stop("demo"))
	if err := runner.Publish(t.Context(), Stop("demo"), nil); err != nil {
		t.Fatal(err)
	}
	next(t, after)
}

// TestServerComesBack: connections and what they handle outlive a restart.
func TestServerComesBack(t *testing.T) {
	w := startWorld(t)
	gw, err := Connect(t.Context(), ConnOptions{URL: w.URL(), Seed: w.seeds["gateway_bench"], Name: "gateway_bench", Lab: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	defer gw.Close()
	stops := handle(t, gw, Stop("demo"))
	port, err := portOf(w.URL())
	if err != nil {
		t.Fatal(err)
	}
	w.Server.Shutdown()
	w.opts.Port = port
	w.start(t)
	person, _ := w.plain(t, "operator_1")
	deadline := time.Now().Add(patience)
	for len(stops) == 0 && time.Now().Before(deadline) {
		if err := person.Publish(Stop("demo"), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	next(t, stops)
}

func portOf(url string) (int, error) {
	var p int
	_, err := fmt.Sscanf(url[strings.LastIndexByte(url, ':')+1:], "%d", &p)
	return p, err
}

func TestReload(t *testing.T) {
	w := startWorld(t)
	runner := w.part(t, "runner")
	got := consume(t, runner)
	stays, _ := w.plain(t, "planner_1")
	goes, _ := w.plain(t, "planner_2")
	seed, public, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	var left []Principal
	for _, p := range w.opts.Principals {
		if p.Name != "planner_2" {
			left = append(left, p)
		}
	}
	if err := w.Reload(append(left, Principal{Name: "planner_3", Role: RoleAgent, Key: public})); err != nil {
		t.Fatal(err)
	}
	w.seeds["planner_3"] = seed
	comes, errs := w.plain(t, "planner_3")
	if a := allowed(t, comes, errs, []string{Stop("demo")}, func(s string) error { return comes.Publish(s, nil) }); len(a) > 0 {
		t.Error("a new agent may stop the lab")
	}
	for nc, name := range map[*nats.Conn]string{stays: "planner_1", comes: "planner_3"} {
		if _, err := nc.Request(Proposals("demo", name), []byte(name), patience); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := next(t, got); d.Principal != name || d.Ack() != nil {
			t.Errorf("%+v", d)
		}
	}
	if stays.Reconnects != 0 {
		t.Error("an unchanged principal was cut off")
	}
	deadline := time.Now().Add(patience)
	for goes.IsConnected() && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if goes.IsConnected() {
		t.Error("a principal that is gone is still connected")
	}
	if err := w.Reload([]Principal{{Name: "x", Role: "root", Key: public}}); lab.KindOf(err) != lab.KindInvalid {
		t.Errorf("a bad list: %v", err)
	}
}

func TestListeners(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	for _, o := range []struct{ port, mqtt int }{{taken, -1}, {-1, taken}} {
		w.opts.Port, w.opts.MQTTPort = o.port, o.mqtt
		start := time.Now()
		if s, err := StartServer(t.Context(), w.opts); lab.KindOf(err) != lab.KindUnavailable {
			t.Errorf("a taken port: %v", err)
			if err == nil {
				s.Shutdown()
			}
		}
		if d := time.Since(start); d > readyWithin/2 {
			t.Errorf("took %v to find that a port is taken", d)
		}
	}
	w.opts.Port, w.opts.MQTTPort = 0, 0
	w.start(t)
	if w.URL() != "" || w.MQTTURL() != "" {
		t.Errorf("listens on %q and %q", w.URL(), w.MQTTURL())
	}
	got := handle(t, w.part(t, "gateway_bench"), Stop("demo"))
	if err := w.part(t, "operator_1").Publish(t.Context(), Stop("demo"), nil); err != nil {
		t.Fatal(err)
	}
	next(t, got)
}

func TestKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "planner_1.nk")
	seed, public, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := SaveSeed(path, seed); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	got, err := LoadSeed(path)
	if err != nil || !bytes.Equal(got, seed) {
		t.Errorf("%v", err)
	}
	if p, err := PublicKey(got); err != nil || p != public || p[0] != 'U' {
		t.Errorf("%s, %v", p, err)
	}
	if err := SaveSeed(path, seed); lab.KindOf(err) != lab.KindConflict {
		t.Errorf("replaced: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSeed(path); lab.KindOf(err) != lab.KindDenied {
		t.Errorf("read by others: %v", err)
	}
	if err := errors.Join(os.WriteFile(path, []byte("SUnothing\n"), 0o600), os.Chmod(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSeed(path); lab.KindOf(err) != lab.KindInvalid {
		t.Errorf("no key: %v", err)
	}
	if _, err := LoadSeed(path + ".none"); lab.KindOf(err) != lab.KindUnavailable {
		t.Errorf("no file: %v", err)
	}
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	other, err := account.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := PublicKey(other); lab.KindOf(err) != lab.KindInvalid {
		t.Errorf("an account's key: %v", err)
	}
	if err := SaveSeed(path+".2", other); lab.KindOf(err) != lab.KindInvalid {
		t.Errorf("saved an account's key: %v", err)
	}
}

func BenchmarkRequest(b *testing.B) {
	w := &world{seeds: map[string][]byte{}}
	for _, n := range []string{"runner", "bench"} {
		seed, public, err := NewKey()
		if err != nil {
			b.Fatal(err)
		}
		w.seeds[n], w.opts.RunnerKey = seed, public
		if n == "bench" {
			w.opts.Gateways = map[string]string{n: public}
		}
	}
	runnerKey, err := PublicKey(w.seeds["runner"])
	if err != nil {
		b.Fatal(err)
	}
	s, err := StartServer(b.Context(), ServerOptions{Lab: "demo", StoreDir: b.TempDir(), Port: -1, RunnerKey: runnerKey, Gateways: w.opts.Gateways})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Shutdown()
	connect := func(o ConnOptions) *Conn {
		o.Lab = "demo"
		c, err := Connect(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	gw := connect(ConnOptions{Server: s, Seed: w.seeds["bench"], Name: "gateway_bench"})
	defer gw.Close()
	if err := gw.Handle(b.Context(), Command("demo", "bench", "x"), func(m lab.Message) {
		if err := m.Reply(m.Data); err != nil {
			b.Error(err)
		}
	}); err != nil {
		b.Fatal(err)
	}
	for name, o := range map[string]ConnOptions{"in-process": {Server: s}, "tcp": {URL: s.URL()}} {
		o.Seed, o.Name = w.seeds["runner"], "runner"
		c := connect(o)
		b.Run(name, func(b *testing.B) {
			data := make([]byte, 300)
			for b.Loop() {
				if _, err := c.Request(context.Background(), Command("demo", "bench", "x"), data); err != nil {
					b.Fatal(err)
				}
			}
		})
		c.Close()
	}
}
