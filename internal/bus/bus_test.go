package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"labgate/lab"
)

// world is a server with an agent, an operator, the runner and a gateway.
type world struct {
	*Server
	seeds map[string][]byte
	opts  ServerOptions
}

func startWorld(t *testing.T) *world {
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
	w.opts = ServerOptions{Lab: "demo", StoreDir: t.TempDir(), Port: -1, MQTTPort: -1, RunnerKey: pub("runner"), Gateways: map[string]string{"bench": pub("gateway_bench")},
		Principals: []Principal{{"planner_1", RoleAgent, pub("planner_1")}, {"planner_2", RoleAgent, pub("planner_2")}, {"operator_1", RoleOperator, pub("operator_1")}},
		MQTTUsers:  map[string]string{"camera": "secret"}}
	s, err := StartServer(t.Context(), w.opts)
	if err != nil {
		t.Fatal(err)
	}
	w.Server = s
	t.Cleanup(func() { w.Server.Shutdown() })
	return w
}

// plain connects like an outside client would: nats.go and a seed, nothing of
// ours. Errors of the server arrive in the channel.
func (w *world) plain(t *testing.T, name string) (*nats.Conn, chan error) {
	t.Helper()
	kp, err := nkeys.FromSeed(w.seeds[name])
	if err != nil {
		t.Fatal(err)
	}
	pub, _ := kp.PublicKey()
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

func TestServerRefusesWhatAPrincipalMayNot(t *testing.T) {
	w := startWorld(t)
	runner := w.part(t, "runner")
	if err := runner.ConsumeProposals(t.Context(), func(d Delivery) { t.Errorf("proposal from %s: %s", d.Principal, d.Data) }); err != nil {
		t.Fatal(err)
	}
	gw := w.part(t, "gateway_bench")
	for _, s := range []string{Command("demo", "bench", "*"), Lease("demo", "bench", "*"), Stop("demo")} {
		if err := gw.Handle(t.Context(), s, func(m lab.Message) { t.Errorf("%s got through", m.Subject) }); err != nil {
			t.Fatal(err)
		}
	}
	agent, errs := w.plain(t, "planner_1")
	for _, subject := range []string{
		Proposals("demo", "planner_2"), Command("demo", "bench", "pump_a"), Lease("demo", "bench", "pump_a"), Outcome("demo", "bench", "pump_a"),
		Stop("demo"), Approvals("demo", "planner_1"), Control("demo", "operator_1"), Verdicts("demo", "planner_1"),
		"$JS.API.STREAM.PURGE.PROPOSALS", "$JS.API.STREAM.INFO.PROPOSALS", "$JS.ACK.PROPOSALS.runner.1.1.1.1.0", Inbox("planner_2") + ".x",
	} {
		t.Run(subject, func(t *testing.T) { wantViolation(t, agent, errs, func() error { return agent.Publish(subject, []byte("{}")) }) })
	}
	for _, subject := range []string{Verdicts("demo", "planner_2"), "lab.demo.>", "lab.demo.runs.planner_2.>", Inbox("planner_2") + ".>", Telemetry("demo", "bench", "pump_a", "pump", "rate"), ">"} {
		t.Run("subscribe "+subject, func(t *testing.T) {
			wantViolation(t, agent, errs, func() error {
				_, err := agent.SubscribeSync(subject)
				return err
			})
		})
	}
}

func wantViolation(t *testing.T, nc *nats.Conn, errs chan error, act func() error) {
	t.Helper()
	if err := act(); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-errs:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Fatalf("got %v, want a permissions violation", err)
		}
	case <-time.After(3 * time.Second):
		t.Fatal("the server did not refuse it")
	}
}

func TestAnonymousIsRefused(t *testing.T) {
	w := startWorld(t)
	if nc, err := nats.Connect(w.URL()); err == nil {
		nc.Close()
		t.Fatal("an anonymous NATS client got in")
	}
	if err := mqttConnect(w.MQTTURL(), "", ""); err == nil {
		t.Fatal("an anonymous MQTT client got in")
	}
	if err := mqttConnect(w.MQTTURL(), "camera", "wrong"); err == nil {
		t.Fatal("an MQTT client with a wrong password got in")
	}
	if err := mqttConnect(w.MQTTURL(), "camera", "secret"); err != nil {
		t.Fatal(err)
	}
}

func mqttConnect(url, user, pass string) error {
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID("t").SetUsername(user).SetPassword(pass).SetAutoReconnect(false).SetConnectTimeout(3 * time.Second))
	tok := c.Connect()
	defer c.Disconnect(50)
	if !tok.WaitTimeout(3 * time.Second) {
		return errors.New("timeout")
	}
	return tok.Error()
}

func TestDeviceTopicIsNoProposal(t *testing.T) {
	w := startWorld(t)
	got := make(chan Delivery, 4)
	if err := w.part(t, "runner").ConsumeProposals(t.Context(), func(d Delivery) { got <- d }); err != nil {
		t.Fatal(err)
	}
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(w.MQTTURL()).SetClientID("cam").SetUsername("camera").SetPassword("secret"))
	if tok := c.Connect(); !tok.WaitTimeout(3*time.Second) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	defer c.Disconnect(50)
	if tok := c.Publish("lab/demo/proposals/planner_1", 1, false, "{}"); !tok.WaitTimeout(3*time.Second) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	// A real proposal afterwards is the first that arrives.
	agent, _ := w.plain(t, "planner_1")
	if err := agent.Publish(Proposals("demo", "planner_1"), []byte("real")); err != nil {
		t.Fatal(err)
	}
	d := <-got
	if string(d.Data) != "real" || d.Principal != "planner_1" || d.Seq != 1 {
		t.Fatalf("got %q from %s at %d", d.Data, d.Principal, d.Seq)
	}
}

func TestProposalsSurviveARestart(t *testing.T) {
	w := startWorld(t)
	func() {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if err := w.part(t, "runner").ConsumeProposals(ctx, func(Delivery) {}); err != nil { // takes, never acknowledges
			t.Fatal(err)
		}
		agent, _ := w.plain(t, "planner_1")
		for i := range 3 {
			// A JetStream publish: the answer says that it is stored.
			if _, err := agent.Request(Proposals("demo", "planner_1"), fmt.Appendf(nil, "p%d", i), 3*time.Second); err != nil {
				t.Fatal(err)
			}
		}
	}()
	w.Server.Shutdown()
	s, err := StartServer(t.Context(), w.opts)
	if err != nil {
		t.Fatal(err)
	}
	w.Server = s
	var mu sync.Mutex
	got := map[string]bool{}
	done := make(chan struct{})
	err = w.part(t, "runner").ConsumeProposals(t.Context(), func(d Delivery) {
		mu.Lock()
		defer mu.Unlock()
		got[string(d.Data)] = true
		if err := d.Ack(); err != nil {
			t.Error(err)
		}
		if len(got) == 3 {
			close(done)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("only %v came back", got)
	}
}

func TestRequestReply(t *testing.T) {
	w := startWorld(t)
	gw, runner := w.part(t, "gateway_bench"), w.part(t, "runner")
	err := gw.Handle(t.Context(), Command("demo", "bench", "pump_a"), func(m lab.Message) {
		if err := m.Reply(append([]byte("re: "), m.Data...)); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := runner.Request(t.Context(), Command("demo", "bench", "pump_a"), []byte("x"))
	if err != nil || string(b) != "re: x" {
		t.Fatalf("%q, %v", b, err)
	}
	_, err = runner.Request(t.Context(), Command("demo", "bench", "pump_z"), []byte("x"))
	if lab.KindOf(err) != lab.KindUnavailable {
		t.Fatalf("got %v, want unavailable: nobody listens there", err)
	}
}
