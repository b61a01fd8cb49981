package gateway_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"labgate/configs"
	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
)

// parsed reads rules for the shell's lab.
func (s *shell) parsed(text string) *safety.Rules {
	s.t.Helper()
	r, is := safety.Parse("rules.yaml", []byte(text), s.lab)
	if len(is) > 0 {
		s.t.Fatalf("%v", is)
	}
	return r
}

func (s *shell) reload(r *safety.Rules, err error) messages.ControlReply {
	s.t.Helper()
	n := len(s.answers)
	s.step(gateway.RulesLoaded{Rules: r, Err: err, ID: "r", Principal: "safety_1", Reply: "asked"})
	for _, a := range s.answers[n:] {
		if c, ok := a.(messages.ControlReply); ok {
			return c
		}
	}
	s.t.Fatalf("no answer")
	return messages.ControlReply{}
}

// New rules are in force in one act; latches stay; leases are refused for plans
// of before.
func TestReload(t *testing.T) {
	s := newShell(t)
	s.set("room.airflow = 0.5 m/s", "reactor.probe.temperature = 99 degC")
	s.read()
	s.writeAll()
	old := s.rules
	tighter := s.parsed(strings.Replace(testRules, "max: 0.45 mL", "max: 0.05 mL", 1))
	r := s.reload(tighter, nil)
	if !r.OK || r.ID != "r" || !strings.Contains(r.Say, tighter.Hash) {
		t.Fatalf("%+v", r)
	}
	if m := s.safety[len(s.safety)-1]; m.What != messages.SafetyRules || m.RulesHash != tighter.Hash || m.Principal != "safety_1" {
		t.Errorf("%+v", m)
	}
	st := s.status()
	if st.RulesHash != tighter.Hash || len(st.Latches) != 1 || st.Latches[0].Rule != "hot" {
		t.Errorf("%+v", st)
	}
	var a, b struct{ What, Hash, Was, Text string }
	e := s.entriesOf("rules/v1")
	if len(e) != 2 || json.Unmarshal(e[0].Body, &a) != nil || json.Unmarshal(e[1].Body, &b) != nil || e[0].Principal != "" || e[1].Principal != "safety_1" {
		t.Fatalf("%+v", e)
	}
	if a.What != "start" || a.Hash != old.Hash || a.Was != "" || a.Text != testRules {
		t.Errorf("%+v", a)
	}
	if b.What != "loaded" || b.Hash != tighter.Hash || b.Was != old.Hash || b.Text == testRules || !strings.HasPrefix(b.Text, "interlocks: test\n") {
		t.Errorf("%+v", b)
	}
	s.set("reactor.probe.temperature = 30 degC")
	s.read()
	if r := s.control(gateway.ResetAsked{ID: "x", Rule: "hot", Principal: "operator_1", Reason: "looked"}); !r.OK {
		t.Fatalf("%+v", r)
	}
	if r := s.lease("pump_a", "run"); r.OK || r.Issues[0].Code != "rules_changed" {
		t.Errorf("a plan of before: %+v", r)
	}
	s.rules = tighter
	s.lease("pump_a", "run")
	s.ask("c1 " + dose)
	if o := s.isState("c1", lab.Refused, lab.KindDenied); o.Issues[0].Rule != "size" {
		t.Errorf("%+v", o)
	}
	if r := s.reload(tighter, nil); !r.OK || len(s.entriesOf("rules/v1")) != 2 {
		t.Errorf("the same again: %+v", r)
	}
	s.crash()
	if n := len(s.entriesOf("rules/v1")); n != 2 {
		t.Errorf("%d entries about rules: those in force are on record", n)
	}
}

// A command under way is held to the new rules, and one that was not sent yet
// never is.
func TestReloadRevokes(t *testing.T) {
	s := newShell(t)
	s.set("room.airflow = 0.5 m/s", "pump_a.dispensed = 1 mL")
	s.read()
	s.lease("pump_a", "run")
	s.ask("c1 " + dose)
	s.reload(s.parsed(strings.Replace(testRules, "airflow >= 0.3 m/s", "airflow >= 0.2 m/s", 1)), nil)
	s.exchange(true, nil, nil)
	if s.spent["c1"] {
		t.Error("a permit of the old rules was spent")
	}
	if o := s.outcome("c1"); o.State != lab.NotSent {
		t.Errorf("%+v", o)
	}
	s.writeAll()
	s.pass(time.Second)
	s.ask("c2 " + dose)
	s.exchange(true, nil, nil)
	s.set("pump_a.running = true", "pump_a.dispensed = 1.04 mL")
	s.read()
	s.reload(s.parsed(strings.Replace(testRules, "airflow >= 0.3 m/s, grace: 1 s", "airflow >= 0.9 m/s, grace: 100 ms", 1)), nil)
	s.pass(500 * time.Millisecond)
	if n := s.stopped("pump_a.pump.stop"); n == 0 {
		t.Error("what the new rules forbid was not stopped")
	}
}

// A bad file changes nothing, and raises an alarm with every issue, that stays
// until a good one was read.
func TestReloadOfABadFile(t *testing.T) {
	s := newShell(t)
	before := s.status().RulesHash
	_, is := safety.Parse("rules.yaml", []byte("interlocks: x\nrules:\n  - {id: a, limit: pump_a.dos.volume, max: 1 mL}\n  - {id: b, limit: pump_a.dose.volume, max: 1 m}\n"), s.lab)
	if len(is) < 2 {
		t.Fatal(is)
	}
	r := s.reload(nil, is)
	if r.OK || len(r.Issues) != len(is) || r.Issues[0].Line != 3 {
		t.Errorf("%+v", r)
	}
	m := s.told(messages.SafetyAlarm, "rules")
	if len(m) != 1 || m[0].Priority != "critical" || len(m[0].Issues) != len(is) {
		t.Errorf("%+v", m)
	}
	st := s.status()
	if st.RulesHash != before || len(st.Alarms) != 1 || st.Alarms[0].Rule != "rules" || !strings.Contains(st.Alarms[0].Say, "rules.yaml:3") {
		t.Errorf("%+v", st)
	}
	if r := s.reload(nil, errors.New("permission denied")); r.OK || len(r.Issues) != 1 {
		t.Errorf("%+v", r)
	}
	if r := s.control(gateway.AcknowledgeAsked{ID: "a", Rule: "rules", Principal: "operator_1"}); !r.OK {
		t.Errorf("%+v", r)
	}
	if a := s.status().Alarms; len(a) != 1 || !a[0].Acknowledged {
		t.Errorf("%+v", a)
	}
	if r := s.reload(s.rules, nil); !r.OK || len(s.status().Alarms) != 0 {
		t.Errorf("%+v, %+v", r, s.status().Alarms)
	}
	s.step(gateway.RulesLoaded{Err: is}) // at a signal, with nobody who waits
	if len(s.status().Alarms) != 1 {
		t.Error("no alarm")
	}
}

// sequenceLab has an oven whose safe state takes steps, with arguments, a wait
// and an else.
func sequenceLab(t *testing.T) (*lab.Lab, *safety.Rules) {
	t.Helper()
	c, err := configs.Load(fstest.MapFS{
		"lab.yaml": {Data: []byte(`lab: bake
kind: simulated
gateway: bench
instruments:
  oven: {profile: bench/oven@1, link: {}, safe: [heater_off, wait 2 s, fan(speed = 300 rpm), shut], on_lease_loss: safe}
  twin: {profile: bench/oven@1, link: {}, safe: [shut], on_lease_loss: safe}
interlocks: interlocks.yaml
nats: {embedded: {}}
`)},
		"interlocks.yaml": {Data: []byte(`interlocks: bake
rules:
  - {id: hot, trip: oven, when: oven.temperature > 200 degC, unknown_for: 3 s, respond_within: 20 s, do: [oven.heater_off, wait 2 s, "oven.fan(speed = 600 rpm)", twin.shut]}
`)},
		"classes/oven.yaml": {Data: []byte(`class: bake-oven/v1
about: Bakes.
properties:
  temperature: {unit: degC, max_age: 2 s}
  heating: {type: bool, max_age: 2 s}
  speed: {unit: rpm, max_age: 2 s}
  open: {type: bool, max_age: 2 s}
commands:
  heater_off: {effect: safe, done_when: not heating, within: 1 s, else: cut}
  cut: {effect: safe, done_when: not heating, within: 1 s, else: heater_off}
  fan: {effect: safe, args: {speed: {unit: rpm}}, done_when: abs(self.speed - speed) < 1 rpm, within: 1 s, else: alarm}
  shut: {effect: safe, done_when: not open, within: 1 s, else: alarm}
`)},
		"profiles/oven.yaml": {Data: []byte(`profile: bench/oven@1
about: An oven in memory.
components: {oven: bake-oven/v1}
link: {kind: memory, reply_within: 100 ms}
properties: {temperature: {unit: degC, poll: 500 ms}, heating: {poll: 500 ms}, speed: {unit: rpm, poll: 500 ms}, open: {poll: 500 ms}}
commands: {heater_off: {}, cut: {}, fan: {inputs: {speed: {unit: rpm}}}, shut: {}}
repeats: none
`)}}, "bake")
	if err != nil {
		t.Fatal(err)
	}
	return c.Lab, c.Rules
}

// ordered lists the orders that wait, as people write them.
func (s *shell) ordered() string {
	var list []string
	for _, l := range s.lanes {
		list = append(list, lab.SafeStep{Command: l.Order.Target(), Args: l.Order.Args()}.String())
	}
	return strings.Join(list, "; ")
}

// A safe state's steps go out in order, each when the one before is written,
// and after its wait; a stop of another instrument waits for none of that.
func TestSafeSequence(t *testing.T) {
	l, r := sequenceLab(t)
	s := bareShell(t, l, r, nil)
	s.set("oven.heating = true", "oven.open = true")
	s.connect()
	s.step(gateway.StopAsked{ID: "s", Principal: "operator_1", Reason: "smoke"})
	if got := s.ordered(); got != "oven.oven.heater_off; twin.oven.shut" {
		t.Fatalf("at once: %s", got)
	}
	s.writeAll()
	s.set("oven.heating = false")
	s.pass(time.Second)
	if len(s.lanes) > 0 {
		t.Errorf("before the wait is over: %s", s.ordered())
	}
	s.pass(1100 * time.Millisecond)
	if got := s.ordered(); got != "oven.oven.fan(speed = 300 rpm)" {
		t.Fatalf("after the wait: %s", got)
	}
	s.write(true, nil)
	if got := s.ordered(); got != "oven.oven.shut" {
		t.Errorf("after the fan: %s", got)
	}
	s.write(true, nil)
	s.set("oven.speed = 300 rpm", "oven.open = false")
	s.pass(200 * time.Millisecond)
	if r := s.stopReply(); r == nil || r.Instruments["oven"] != "confirmed" || r.Instruments["twin"] != "confirmed" {
		t.Errorf("%+v", r)
	}
	if a := s.alarms(); a != "" {
		t.Error(a)
	}
}

// A trip's wait holds back what stands after it, on every instrument; a stop
// that comes meanwhile goes out at once.
func TestTripSequence(t *testing.T) {
	l, r := sequenceLab(t)
	s := bareShell(t, l, r, nil)
	s.connect()
	s.set("oven.temperature = 250 degC")
	s.read()
	if got := s.ordered(); got != "oven.oven.heater_off" {
		t.Fatalf("at once: %s", got)
	}
	s.step(gateway.StopAsked{ID: "s", Instrument: "twin", Principal: "operator_1"})
	if got := s.ordered(); got != "oven.oven.heater_off; twin.oven.shut" {
		t.Errorf("the stop waited for a trip's wait: %s", got)
	}
	s.writeAll()
	s.pass(2100 * time.Millisecond)
	if got := s.ordered(); got != "oven.oven.fan(speed = 600 rpm); twin.oven.shut" {
		t.Errorf("after the wait: %s", got)
	}
}

// An unconfirmed safe command raises a critical alarm and takes its else, and
// that its own, once around.
func TestElse(t *testing.T) {
	l, r := sequenceLab(t)
	s := bareShell(t, l, r, nil)
	s.set("oven.heating = true")
	s.connect()
	s.set("oven.temperature = 250 degC")
	s.read()
	s.write(true, nil)
	s.pass(1100 * time.Millisecond)
	if got := s.ordered(); got != "oven.oven.cut" {
		t.Fatalf("instead: %s; alarms %s", got, s.alarms())
	}
	if a := s.alarms(); !strings.Contains(a, "oven.oven.heater_off (trip: hot) failed: not confirmed within 1 s; oven.oven.cut is ordered instead") {
		t.Error(a)
	}
	s.write(true, nil)
	s.pass(1100 * time.Millisecond)
	if a := s.alarms(); !strings.Contains(a, "oven.oven.heater_off was tried already") {
		t.Error(a)
	}
	n := 0
	for _, line := range s.trace {
		if strings.HasPrefix(line, "lane oven.oven.heater_off") || strings.HasPrefix(line, "lane oven.oven.cut") {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d orders:\n%s", n, strings.Join(s.trace, "\n"))
	}
	for _, m := range s.safety {
		if m.What == messages.SafetyAlarm && m.Priority != "critical" {
			t.Errorf("%+v", m)
		}
	}
}

// The finally's safe command takes the lane only with the arguments that the
// safe list names.
func TestFinallyWithArguments(t *testing.T) {
	l, r := sequenceLab(t)
	s := bareShell(t, l, r, nil)
	s.connect()
	s.lease("oven", "run")
	for i, c := range []struct {
		args string
		lane bool
	}{{"speed=300 rpm", true}, {"speed=900 rpm", false}} {
		id := fmt.Sprint("c", i)
		s.askFor(gateway.Asked{Command: s.command(id+" oven.fan "+c.args, 1), Finally: true})
		if (len(s.lanes) == 1) != c.lane || (s.sent[id] == 1) == c.lane {
			t.Errorf("%s: %s, sent %d times", c.args, s.ordered(), s.sent[id])
		}
		s.lanes = nil
	}
}
