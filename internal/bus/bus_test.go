package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
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
		MQTTUsers: map[string]string{"camera": "secret"}}
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

// allowed does something for each subject, and returns those that the server
// did not answer with a permissions violation.
func allowed(t *testing.T, nc *nats.Conn, errs chan error, subjects []string, do func(subject string) error) map[string]bool {
	t.Helper()
	left := map[string]bool{}
	for _, s := range subjects {
		left[s] = true
		if err := do(s); err != nil {
			t.Fatal(err)
		}
	}
	// The last one is never allowed: its refusal comes after all the others'.
	const last = "nobody.may"
	if err := do(last); err != nil {
		t.Fatal(err)
	}
	for {
		err := next(t, errs)
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Fatalf("got %v, want a permissions violation", err)
		}
		_, subject, _ := strings.Cut(err.Error(), ` to "`)
		subject, _, _ = strings.Cut(subject, `"`)
		if subject == last {
			return left
		}
		if !left[subject] {
			t.Fatalf("an unexpected answer: %v", err)
		}
		delete(left, subject)
	}
}

// TestWhoMayPublish: the server's answer to everybody on every kind of subject.
func TestWhoMayPublish(t *testing.T) {
	w := startWorld(t)
	d := "demo"
	subjects := []right{
		{Proposals(d, "SELF"), "planner_1 chemist_1 operator_1 safety_1"},
		{Proposals(d, "planner_2"), ""},
		{Verdicts(d, "planner_1"), "runner"},
		{Approvals(d, "SELF"), "chemist_1 operator_1 safety_1"},
		{Approvals(d, "planner_2"), ""},
		{Control(d, "SELF"), "planner_1 chemist_1 operator_1 safety_1"},
		{Control(d, "planner_2"), ""},
		{Runs(d, "planner_1", "01K", "start"), "runner"},
		{Command(d, "bench", "pump_a"), "runner"},
		{Lease(d, "bench", "pump_a"), "runner"},
		{Outcome(d, "bench", "pump_a"), "gateway_bench"},
		{Outcome(d, "attic", "pump_a"), ""},
		{Telemetry(d, "bench", "pump_a", "pump", "rate"), "gateway_bench"},
		{Safety(d, "bench", "trip"), "gateway_bench"},
		{Safety(d, "attic", "trip"), ""},
		{Stop(d), "runner chemist_1 operator_1 safety_1"},
		{Stop("other"), ""},
		{Inbox("planner_2") + ".x", ""},
		{"$JS.API.INFO", ""},
		{"$JS.API.STREAM.INFO.PROPOSALS", "runner"},
		{"$JS.API.STREAM.LIST", ""},
		{"$JS.API.STREAM.PURGE.PROPOSALS", ""},
		{"$JS.API.STREAM.DELETE.PROPOSALS", ""},
		{"$JS.API.STREAM.MSG.GET.PROPOSALS", ""},
		{"$JS.API.STREAM.CREATE.MINE", ""},
		{"$JS.API.CONSUMER.CREATE.PROPOSALS.mine", ""},
		{"$JS.API.CONSUMER.MSG.NEXT.PROPOSALS.runner", "runner"},
		{"$JS.API.CONSUMER.DELETE.PROPOSALS.runner", ""},
		{"$JS.ACK.PROPOSALS.runner.1.1.1.1.0", "runner"},
		{"$SYS.REQ.SERVER.PING", ""},
	}
	for _, who := range []string{"planner_1", "chemist_1", "operator_1", "safety_1", "runner", "gateway_bench"} {
		nc, errs := w.plain(t, who)
		compare(t, who+" publishes on", subjects, who, func(list []string) map[string]bool {
			return allowed(t, nc, errs, list, func(s string) error { return nc.Publish(s, []byte("{}")) })
		})
	}
}

// right is a subject and who has it; SELF stands for the name of who tries.
type right struct{ subject, allowed string }

func compare(t *testing.T, what string, rights []right, who string, try func([]string) map[string]bool) {
	t.Helper()
	var list []string
	for _, r := range rights {
		list = append(list, strings.Replace(r.subject, "SELF", who, 1))
	}
	got := try(list)
	for i, r := range rights {
		if want := slices.Contains(strings.Fields(r.allowed), who); got[list[i]] != want {
			t.Errorf("%s %s: allowed %v, want %v", what, list[i], got[list[i]], want)
		}
	}
}

func TestWhoMaySubscribe(t *testing.T) {
	w := startWorld(t)
	const d, people = "demo", "chemist_1 operator_1 safety_1"
	for _, who := range []string{"planner_1", "chemist_1", "operator_1", "safety_1", "runner", "gateway_bench"} {
		nc, errs := w.plain(t, who)
		compare(t, who+" subscribes to", []right{
			{Inbox("SELF") + ".>", "planner_1 runner gateway_bench " + people},
			{Inbox("planner_2") + ".>", ""},
			{"_INBOX.>", ""},
			{Verdicts(d, "SELF"), "planner_1 " + people},
			{Verdicts(d, "planner_2"), people},
			{"lab.demo.runs.SELF.>", "planner_1 " + people},
			{"lab.demo.runs.planner_2.>", people},
			{Proposals(d, "*"), ""},
			{Proposals(d, "planner_2"), ""},
			{Approvals(d, "*"), "runner"},
			{Control(d, "*"), "runner gateway_bench"},
			{Command(d, "bench", "*"), "gateway_bench " + people},
			{Command(d, "attic", "*"), people},
			{Telemetry(d, "bench", "pump_a", "pump", "rate"), "runner " + people},
			{Outcome(d, "bench", "pump_a"), "runner " + people},
			{Safety(d, "bench", "*"), "runner " + people},
			{Stop(d), "gateway_bench"},
			{"lab.demo.>", ""}, {">", ""}, {"$JS.>", ""}, {"$SYS.>", ""},
		}, who, func(list []string) map[string]bool {
			return allowed(t, nc, errs, list, func(s string) error { _, err := nc.SubscribeSync(s); return err })
		})
	}
}

// TestRefusedMeansNotDelivered: what an agent may not publish reaches nobody,
// over TCP and within the process.
func TestRefusedMeansNotDelivered(t *testing.T) {
	w := startWorld(t)
	gateway, runner := w.part(t, "gateway_bench"), w.part(t, "runner")
	commands, stops, approvals := handle(t, gateway, Command("demo", "bench", "*")), handle(t, gateway, Stop("demo")), handle(t, runner, Approvals("demo", "*"))
	proposals := consume(t, runner)
	refusals := make(chan error, 100)
	inside, err := Connect(t.Context(), ConnOptions{Server: w.Server, Seed: w.seeds["planner_1"], Name: "planner_1", Lab: "demo", OnDown: func(err error) { refusals <- err }})
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	outside, _ := w.plain(t, "planner_1")
	for _, s := range []string{Command("demo", "bench", "pump_a"), Stop("demo"), Proposals("demo", "planner_2"), Approvals("demo", "planner_1"), Approvals("demo", "operator_1")} {
		if err := errors.Join(inside.Publish(t.Context(), s, []byte("forged")), outside.Publish(s, []byte("forged"))); err != nil {
			t.Fatal(err)
		}
		if err := next(t, refusals); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: %v", s, err)
		}
	}
	if err := outside.Flush(); err != nil {
		t.Fatal(err)
	}
	// What is sent now comes after anything that slipped through.
	person := w.part(t, "operator_1")
	for s, from := range map[string]*Conn{Command("demo", "bench", "pump_a"): runner, Stop("demo"): person, Approvals("demo", "operator_1"): person, Proposals("demo", "operator_1"): person} {
		if err := from.Publish(t.Context(), s, []byte("real")); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []chan lab.Message{commands, stops, approvals} {
		if m := next(t, c); string(m.Data) != "real" {
			t.Errorf("%s on %s", m.Data, m.Subject)
		}
	}
	if p := next(t, proposals); string(p.Data) != "real" || p.Principal != "operator_1" || p.Seq != 1 {
		t.Errorf("%+v", p)
	}
}

// TestRepliesCantBeSteered: a sender chooses where answers to it go. Nothing
// that answers, neither the stream nor a part, may be led to speak elsewhere.
func TestRepliesCantBeSteered(t *testing.T) {
	w := startWorld(t)
	gateway, runner := w.part(t, "gateway_bench"), w.part(t, "runner")
	stops, commands, controls := handle(t, gateway, Stop("demo")), handle(t, gateway, Command("demo", "bench", "pump_a")), handle(t, runner, Control("demo", "*"))
	agent, _ := w.plain(t, "planner_1")
	targets := []string{Stop("demo"), Command("demo", "bench", "pump_a"), Inbox("planner_2") + ".x", "_INBOX.x", Inbox("planner_1"), "x"}
	for _, to := range targets {
		// The stream answers each proposal with a receipt, a good or a bad one.
		bad := &nats.Msg{Subject: Proposals("demo", "planner_1"), Reply: to, Header: nats.Header{"Nats-Expected-Stream": {"another"}}, Data: []byte("{}")}
		if err := errors.Join(agent.PublishRequest(Proposals("demo", "planner_1"), to, []byte("{}")), agent.PublishMsg(bad), agent.PublishRequest(Control("demo", "planner_1"), to, []byte("{}"))); err != nil {
			t.Fatal(err)
		}
		if m := next(t, controls); m.Reply != nil {
			t.Errorf("a control message may be answered on %s", to)
		}
	}
	// A last proposal's receipt comes after all the others.
	if _, err := agent.Request(Proposals("demo", "planner_1"), []byte("{}"), patience); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.part(t, "operator_1").Publish(t.Context(), Stop("demo"), []byte("real")), runner.Publish(t.Context(), Command("demo", "bench", "pump_a"), []byte("real"))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []chan lab.Message{stops, commands} {
		if m := next(t, c); string(m.Data) != "real" {
			t.Errorf("steered to %s: %s", m.Subject, m.Data)
		}
	}
	// Proof that there was something to refuse: a person who listens there sees
	// the receipts of a fresh try.
	person, _ := w.plain(t, "operator_1")
	sub, err := person.SubscribeSync(Command("demo", "bench", "pump_a"))
	if err == nil {
		err = person.Flush()
	}
	if err == nil {
		err = agent.PublishRequest(Proposals("demo", "planner_1"), Command("demo", "bench", "pump_a"), []byte("{}"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if m, err := sub.NextMsg(patience); err != nil || !isReceipt(m.Data) {
		t.Errorf("%v, %v", m, err)
	}
}

func TestMayAnswer(t *testing.T) {
	for _, c := range []struct {
		subject, reply string
		want           bool
	}{
		{Control("demo", "a"), "_INBOX_a.x.y", true}, {Control("demo", "a"), "_INBOX_b.x", false}, {Control("demo", "a"), "", false},
		{Command("demo", "g", "i"), "_INBOX_runner.x", true}, {Command("demo", "g", "i"), "lab.demo.stop", false}, {Command("demo", "g", "i"), "_INBOX_runner", false},
		{Stop("demo"), "_INBOX_operator_1.x", true}, {Stop("demo"), "_INBOX_.x", false}, {Stop("demo"), "_INBOX.x", false}, {Stop("demo"), "_INBOX_A B.x", false},
	} {
		if got := mayAnswer("demo", c.subject, c.reply); got != c.want {
			t.Errorf("%s, %q: %v", c.subject, c.reply, got)
		}
	}
}

func TestParseSender(t *testing.T) {
	for _, c := range []struct {
		subject, what, who string
		ok                 bool
	}{
		{Proposals("demo", "a"), "proposals", "a", true}, {Verdicts("demo", "a"), "verdicts", "a", true}, {Approvals("demo", "a"), "approvals", "a", true}, {Control("demo", "a"), "control", "a", true},
		{Proposals("other", "a"), "", "", false}, {Stop("demo"), "", "", false}, {Command("demo", "a", "b"), "", "", false}, {Proposals("demo", "a.b"), "", "", false},
		{Proposals("demo", "*"), "", "", false}, {Proposals("demo", ""), "", "", false}, {"", "", "", false}, {"lab.demo.runs.a", "", "", false},
	} {
		what, who, ok := ParseSender("demo", c.subject)
		if what != c.what || who != c.who || ok != c.ok {
			t.Errorf("%s: %s %s %v", c.subject, what, who, ok)
		}
	}
	if Sender(Control("demo", "operator_1")) != "operator_1" {
		t.Error("sender")
	}
}

func TestStrangersAreRefused(t *testing.T) {
	w := startWorld(t)
	seed, public, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	kp, err := nkeys.FromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	for name, opt := range map[string]nats.Option{"anonymous": nats.Name("x"), "an unlisted key": nats.Nkey(public, kp.Sign), "a device's password": nats.UserInfo("camera", "secret")} {
		if nc, err := nats.Connect(w.URL(), opt); err == nil {
			nc.Close()
			t.Errorf("%s got in", name)
		}
	}
	if _, err := Connect(t.Context(), ConnOptions{Server: w.Server, Seed: seed, Name: "planner_1", Lab: "demo"}); lab.KindOf(err) != lab.KindUnavailable {
		t.Errorf("an unlisted key within the process: %v", err)
	}
	for _, c := range []struct {
		user, pass string
		want       bool
	}{{"", "", false}, {"camera", "", false}, {"camera", "wrong", false}, {"other", "secret", false}, {"camera", "secret", true}} {
		m, err := mqttConnect(w.MQTTURL(), c.user, c.pass)
		if m.Disconnect(50); (err == nil) != c.want {
			t.Errorf("MQTT %q %q: %v", c.user, c.pass, err)
		}
	}
}

func mqttConnect(url, user, pass string) (mqtt.Client, error) {
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID("t").SetProtocolVersion(4).SetUsername(user).SetPassword(pass).SetAutoReconnect(false).SetConnectTimeout(patience))
	return c, wait(c.Connect())
}

func wait(t mqtt.Token) error {
	if !t.WaitTimeout(patience) {
		return errors.New("timeout")
	}
	return t.Error()
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

func TestDeviceTopicIsNoProposal(t *testing.T) {
	w := startWorld(t)
	got := consume(t, w.part(t, "runner"))
	stops := handle(t, w.part(t, "gateway_bench"), Stop("demo"))
	c, err := mqttConnect(w.MQTTURL(), "camera", "secret")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Disconnect(50)
	for _, topic := range []string{"lab/demo/proposals/planner_1", "lab/demo/stop"} {
		if err := wait(c.Publish(topic, 1, false, "{}")); err != nil {
			t.Fatal(err)
		}
	}
	// A device hears its own account, so the messages did go somewhere.
	echo := make(chan string, 1)
	if err := wait(c.Subscribe("lab/#", 1, func(_ mqtt.Client, m mqtt.Message) { echo <- m.Topic() })); err != nil {
		t.Fatal(err)
	}
	if err := wait(c.Publish("lab/demo/proposals/planner_1", 1, false, "{}")); err != nil {
		t.Fatal(err)
	}
	next(t, echo)
	// Real ones afterwards are the first that arrive.
	agent, _ := w.plain(t, "planner_1")
	person, _ := w.plain(t, "operator_1")
	if err := errors.Join(agent.Publish(Proposals("demo", "planner_1"), []byte("real")), person.Publish(Stop("demo"), []byte("real"))); err != nil {
		t.Fatal(err)
	}
	if d := next(t, got); string(d.Data) != "real" || d.Principal != "planner_1" || d.Seq != 1 {
		t.Errorf("got %q from %s at %d", d.Data, d.Principal, d.Seq)
	}
	if m := next(t, stops); string(m.Data) != "real" {
		t.Errorf("got %q", m.Data)
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

func TestOptionsAreChecked(t *testing.T) {
	key := func() string {
		_, p, err := NewKey()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for want, change := range map[string]func(*ServerOptions){
		`lab "Demo" is not a name`:                                 func(o *ServerOptions) { o.Lab = "Demo" },
		`gateway "a.b" is not a name`:                              func(o *ServerOptions) { o.Gateways = map[string]string{"a.b": key()} },
		`principal "*" is not a name`:                              func(o *ServerOptions) { o.Principals[0].Name = "*" },
		"runner is the name of a part":                             func(o *ServerOptions) { o.Principals[0].Name = "runner" },
		"gateway_bench is the name of a part":                      func(o *ServerOptions) { o.Principals[0].Name = "gateway_bench" },
		"planner_2 is listed twice":                                func(o *ServerOptions) { o.Principals[0].Name = "planner_2" },
		`planner_1 has no role of agent, scientist, operator, saf`: func(o *ServerOptions) { o.Principals[0].Role = "" },
		"the runner and planner_1 have the same key":               func(o *ServerOptions) { o.Principals[0].Key = o.RunnerKey },
		"planner_1 and planner_2 have the same key":                func(o *ServerOptions) { o.Principals[1].Key = o.Principals[0].Key },
		"the key of the runner is not the public key of a user":    func(o *ServerOptions) { o.RunnerKey = "" },
		"the key of planner_1 is not the public key of a user":     func(o *ServerOptions) { o.Principals[0].Key = "UABC" },
		`an MQTT user "camera" without a name or a password`:       func(o *ServerOptions) { o.MQTTUsers = map[string]string{"camera": ""} },
		"no folder for JetStream's files":                          func(o *ServerOptions) { o.StoreDir = "" },
	} {
		w := newWorld(t)
		change(&w.opts)
		s, err := StartServer(t.Context(), w.opts)
		if err == nil {
			s.Shutdown()
		}
		if lab.KindOf(err) != lab.KindInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
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
