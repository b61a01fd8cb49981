package bus

import (
	"errors"
	"slices"
	"strings"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"labgate/lab"
)

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
		{Sim(d), "chemist_1 operator_1 safety_1"},
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
			{Sim(d), ""},
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
	if _, err := Connect(t.Context(), ConnOptions{URL: w.URL(), Seed: seed, Name: "planner_1", Lab: "demo"}); lab.KindOf(err) != lab.KindUnavailable {
		t.Errorf("an unlisted key: %v", err)
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
