package gateway_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
)

const operatorRules = `interlocks: operator
rules:
  - {id: size, limit: "pump_a.dose.volume, pump_b.dose.volume", max: 0.45 mL}
  - {id: hood, permissive: "pump_a.dose, pump_b.dose", require: room.airflow >= 0.3 m/s, grace: 1 s}
  - id: hot
    trip: reactor
    when: reactor.probe.temperature > 95 degC
    unknown_for: 3 s
    respond_within: 20 s
    do: [pump_a.stop, pump_b.stop, reactor.jacket.heat_off]
  - id: warm
    trip: reactor
    when: reactor.probe.temperature > 80 degC
    unknown_for: 3 s
    respond_within: 20 s
    do: [pump_a.stop]
    run: hold
    hold_for: 30 min
  - id: button
    trip: room
    when: room.emergency
    unknown_for: 10 s
    respond_within: 20 s
    do: [stage.halt]
    bypass: never
  - id: stuffy
    alarm: {when: room.airflow < 0.4 m/s, priority: high, response: open the window}
`

// operated is a gateway under rules with every operator's verb in them.
func operated(t *testing.T) *shell {
	t.Helper()
	l, _ := demoLab(t)
	r, is := safety.Parse("rules.yaml", []byte(operatorRules), l)
	if len(is) > 0 {
		t.Fatal(is)
	}
	s := bareShell(t, l, r, nil)
	s.set("room.airflow = 0.5 m/s")
	s.connect()
	return s
}

// told lists what the safety messages of a kind said of a rule.
func (s *shell) told(what, rule string) []messages.Safety {
	var list []messages.Safety
	for _, m := range s.safety {
		if m.What == what && m.Rule == rule {
			list = append(list, m)
		}
	}
	return list
}

// entries lists the durable and noted entries of a kind.
func (s *shell) entriesOf(kind string) []lab.Entry {
	var list []lab.Entry
	for _, e := range append(append([]lab.Entry(nil), s.journal...), s.notes...) {
		if e.Kind == kind {
			list = append(list, e)
		}
	}
	return list
}

func (s *shell) bypass(rule, reason string, d time.Duration) messages.ControlReply {
	s.t.Helper()
	return s.control(gateway.BypassAsked{ID: "b", Rule: rule, Principal: "safety_1", Reason: reason, Until: s.now.Add(d)})
}

// A bypass weakens one rule, for a time, by a person with a reason; it is
// shown, journalled, survives a restart, and ends by itself.
func TestBypass(t *testing.T) {
	s := operated(t)
	for name, r := range map[string]messages.ControlReply{
		"no reason":     s.bypass("hood", "", time.Minute),
		"no time":       s.bypass("hood", "filter change", 0),
		"too long":      s.bypass("hood", "filter change", 25*time.Hour),
		"never":         s.bypass("button", "it rings", time.Minute),
		"unknown":       s.bypass("hoood", "filter change", time.Minute),
		"the lab's own": s.bypass("pump_a.pump.dose.rate.limit", "faster", time.Minute),
	} {
		if r.OK || r.Say == "" || r.ID != "b" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	s.set("room.airflow = 0.1 m/s")
	s.read()
	s.lease("pump_a", "run")
	s.ask("c1 " + dose)
	s.isState("c1", lab.Refused, lab.KindDenied)
	if r := s.bypass("hood", "filter change, windows open", 5*time.Second); !r.OK {
		t.Fatalf("%+v", r)
	}
	if m := s.told(messages.SafetyBypass, "hood"); len(m) != 1 || m[0].Principal != "safety_1" || m[0].Until == nil || !strings.Contains(m[0].Say, "windows open") {
		t.Errorf("%+v", m)
	}
	if b := s.status().Bypasses; len(b) != 1 || b[0].Rule != "hood" || b[0].By != "safety_1" || b[0].Reason == "" || !b[0].Until.After(b[0].Since) {
		t.Errorf("%+v", b)
	}
	s.ask("c2 " + dose)
	if s.sent["c2"] != 1 {
		t.Errorf("not sent under the bypass: %+v", s.outcomes)
	}
	s.exchange(false, nil, lab.Ef("test", "pump_a", lab.KindNotSent, "no carrier"))
	s.crash()
	if len(s.status().Bypasses) != 1 {
		t.Error("the bypass did not survive the restart")
	}
	s.pass(6 * time.Second)
	if len(s.status().Bypasses) != 0 || len(s.told(messages.SafetyRearm, "hood")) != 1 || len(s.entriesOf("rearm/v1")) != 1 {
		t.Errorf("%+v, %+v", s.status().Bypasses, s.told(messages.SafetyRearm, "hood"))
	}
	l := s.lease("pump_a", "run2")
	c := s.command("c3 "+dose, l.Lease)
	c.Run = "run2"
	s.askFor(gateway.Asked{Command: c})
	if o := s.isState("c3", lab.Refused, lab.KindDenied); o.Issues[0].Rule != "hood" {
		t.Errorf("%+v", o)
	}
	s.crash()
	if len(s.status().Bypasses) != 0 {
		t.Error("bypassed again after the restart")
	}
}

// A person may end a bypass before its time.
func TestRearm(t *testing.T) {
	s := operated(t)
	if r := s.control(gateway.UnbypassAsked{ID: "u", Rule: "hood", Principal: "operator_1"}); r.OK {
		t.Errorf("nothing is bypassed: %+v", r)
	}
	s.bypass("hood", "filter change", time.Hour)
	if r := s.control(gateway.UnbypassAsked{ID: "u", Rule: "hood", Principal: "operator_1"}); !r.OK || r.ID != "u" {
		t.Errorf("%+v", r)
	}
	for range 2 {
		if len(s.status().Bypasses) != 0 {
			t.Error("it is bypassed still")
		}
		s.crash()
	}
}

// A bypassed trip that is true when it is armed again fires at once.
func TestRearmedTripFires(t *testing.T) {
	s := operated(t)
	s.bypass("hot", "the probe is being changed", 2*time.Second)
	s.bypass("warm", "the probe is being changed", time.Hour)
	s.set("reactor.probe.temperature = 99 degC")
	s.read()
	if n := len(s.status().Latches); n != 0 {
		t.Fatalf("%d latches", n)
	}
	s.pass(3 * time.Second)
	if l := s.status().Latches; len(l) != 1 || l[0].Rule != "hot" {
		t.Errorf("%+v", l)
	}
}

// Alarms are raised, acknowledged and return to normal; they move nothing.
func TestAlarms(t *testing.T) {
	s := operated(t)
	s.set("room.airflow = 0.35 m/s")
	s.read()
	a := s.status().Alarms
	if len(a) != 1 || a[0].Rule != "stuffy" || a[0].Priority != "high" || a[0].Response != "open the window" || !a[0].Active || a[0].Acknowledged {
		t.Fatalf("%+v", a)
	}
	if m := s.told(messages.SafetyAlarm, "stuffy"); len(m) != 1 || m[0].Alarm == nil || !m[0].Alarm.Active || m[0].RunAction != "" || len(s.lanes) > 0 {
		t.Errorf("%+v", m)
	}
	if r := s.control(gateway.AcknowledgeAsked{ID: "a", Rule: "hood", Principal: "operator_1"}); r.OK {
		t.Errorf("hood is no alarm: %+v", r)
	}
	if r := s.control(gateway.AcknowledgeAsked{ID: "a", Rule: "stuffy", Principal: "operator_1"}); !r.OK || r.ID != "a" {
		t.Errorf("%+v", r)
	}
	s.crash()
	s.read()
	if a := s.status().Alarms; len(a) != 1 || !a[0].Acknowledged || a[0].By != "operator_1" {
		t.Errorf("after the restart: %+v", a)
	}
	s.set("room.airflow = 0.5 m/s")
	s.read()
	if a := s.status().Alarms; len(a) != 0 {
		t.Errorf("%+v", a)
	}
	m := s.told(messages.SafetyAlarm, "stuffy")
	if last := m[len(m)-1]; last.Alarm == nil || last.Alarm.Active {
		t.Errorf("%+v", last)
	}
	s.crash()
	s.read()
	s.set("room.airflow = 0.35 m/s")
	s.read()
	if a := s.status().Alarms; len(a) != 1 || a[0].Acknowledged {
		t.Errorf("raised again, it is acknowledged: %+v", a)
	}
}

// Trips show the inputs then and now, and whether a reset would be taken.
func TestTrips(t *testing.T) {
	s := operated(t)
	s.set("reactor.probe.temperature = 99 degC")
	s.read()
	trips := s.status().Trips
	if len(trips) != 2 || trips[0].Healthy || trips[0].Why == "" {
		t.Fatalf("%+v", trips)
	}
	first := 0
	for _, x := range trips {
		if x.FirstOut {
			first++
		}
	}
	if first != 1 {
		t.Errorf("%d are the first out", first)
	}
	s.set("reactor.probe.temperature = 30 degC")
	s.read()
	x := s.status().Trips[0]
	if !x.Healthy || len(x.Then) == 0 || len(x.Now) == 0 || x.Then[0].Value.Num != 99 || x.Now[0].Value.Num != 30 || x.Since.IsZero() {
		t.Errorf("%+v", x)
	}
	s.step(gateway.StatusAsked{Brief: true})
	if b := s.answers[len(s.answers)-1].(messages.ControlReply).Status; len(b.Trips)+len(b.Bypasses)+len(b.Alarms) > 0 || len(b.Latches) != 2 {
		t.Errorf("an agent is told %+v", b)
	}
}

// A trip that holds says for how long.
func TestHoldingTrip(t *testing.T) {
	s := operated(t)
	s.lease("pump_a", "run")
	s.set("reactor.probe.temperature = 85 degC")
	s.read()
	m := s.told(messages.SafetyTrip, "warm")
	if len(m) != 1 || m[0].RunAction != "hold" || m[0].HoldFor == nil || m[0].HoldFor.Base() != 1800 || len(m[0].Runs) != 1 {
		t.Errorf("%+v", m)
	}
}

// A run that did not hear the answer takes its lease again, under the same
// number.
func TestLeaseTakenAgain(t *testing.T) {
	s := newShell(t)
	first := s.lease("pump_a", "run")
	again := s.lease("pump_a", "run")
	if !again.OK || again.Lease != first.Lease {
		t.Errorf("%+v, then %+v", first, again)
	}
	if r := s.lease("pump_a", "other"); r.OK {
		t.Errorf("%+v", r)
	}
	s.manual = true // asked twice before it is durable: two answers, after that
	n := len(s.answers)
	for range 2 {
		s.step(gateway.LeaseAsked{Request: messages.LeaseRequest{Action: messages.LeaseTake, Instrument: "stage", Run: "run", Principal: "planner_1", TTL: lab.Q(60, "s"), RulesHash: s.rules.Hash}})
	}
	if len(s.answers) != n || len(s.appends) != 1 {
		t.Errorf("%d answers, %d appends before it is durable", len(s.answers)-n, len(s.appends))
	}
	s.commit()
	if len(s.answers) != n+2 {
		t.Errorf("%d answers", len(s.answers)-n)
	}
	s.step(gateway.LeaseAsked{Request: messages.LeaseRequest{Action: messages.LeaseTake, Instrument: "pump_a", Run: "run", Principal: "planner_2", TTL: lab.Q(60, "s"), RulesHash: s.rules.Hash}})
	if r := s.answers[len(s.answers)-1].(messages.LeaseReply); r.OK {
		t.Errorf("another principal's: %+v", r)
	}
}

// After a restart, what a latch has ordered is ordered again once the links
// are up, and leases of before are lost.
func TestRestartOrdersAgain(t *testing.T) {
	s := newShell(t)
	s.lease("stage", "run")
	s.set("reactor.probe.temperature = 99 degC")
	s.read() // hot: pump_a.stop, pump_b.stop, reactor.jacket.heat_off, quench.quench.flood
	s.lanes = nil
	s.boot(s.journal)
	if len(s.lanes) > 0 {
		t.Errorf("ordered before there is a link: %+v", s.lanes)
	}
	if m := s.safety[len(s.safety)-1]; m.What != messages.SafetyLeaseLost || m.RunAction != safety.RunAbort || len(m.Runs) != 1 || m.Runs[0] != "run" || m.Instruments[0] != "stage" {
		t.Errorf("%+v", m)
	}
	s.connect()
	var got []string
	for _, l := range s.lanes {
		got = append(got, fmt.Sprintf("%s (%s)", l.Order.Target(), l.Order.Origin()))
	}
	want := "pump_a.pump.stop (trip), pump_b.pump.stop (trip), quench.quench.flood (trip), reactor.jacket.heat_off (trip), stage.xyz.halt (lost_lease)"
	if j := strings.Join(sorted(got), ", "); j != want {
		t.Errorf("ordered %s", j)
	}
	s.writeAll()
	s.epoch["pump_a"]++
	s.step(gateway.LinkUp{Instrument: "pump_a", Epoch: s.epoch["pump_a"]})
	if len(s.lanes) > 0 {
		t.Error("once a start, not once a link")
	}
	s.boot(append(s.journal, s.notes...))
	s.connect()
	for _, l := range s.lanes {
		if l.Order.Origin() == safety.OriginLostLease {
			t.Errorf("the lease was lost before: %s", l.Order.Target())
		}
	}
}

func sorted(list []string) []string {
	out := append([]string(nil), list...)
	for i := range out {
		for j := i; j > 0 && out[j] < out[j-1]; j-- {
			out[j], out[j-1] = out[j-1], out[j]
		}
	}
	return out
}

// A clock that can't be trusted takes fresh permits back; what has begun goes
// on, and what is safe too.
func TestClockRevokes(t *testing.T) {
	s := newShell(t)
	s.set("room.airflow = 0.5 m/s", "pump_a.dispensed = 1 mL")
	s.read()
	s.lease("pump_a", "run")
	s.ask("c1 " + dose)
	s.step(gateway.ClockTrust{Why: "it was set by 3 s"})
	s.step(gateway.ClockTrust{})
	s.exchange(true, nil, nil)
	if s.spent["c1"] {
		t.Error("a permit of before was spent")
	}
	s.isState("c1", lab.NotSent, lab.KindDenied)
	s.ask("c2 " + dose)
	s.exchange(true, nil, nil)
	s.step(gateway.ClockTrust{Why: "it was set by 3 s"})
	s.set("pump_a.dispensed = 1.1 mL")
	s.read()
	s.isState("c2", lab.Confirmed, 0)
}

// The journal says of every outcome what the rules that count make of it.
func TestEnds(t *testing.T) {
	s := newShell(t)
	s.set("room.airflow = 0.5 m/s", "pump_a.dispensed = 1 mL")
	s.read()
	s.lease("pump_a", "run")
	s.lease("reactor", "run")
	s.ask("c1 " + dose)
	s.exchange(false, nil, lab.Ef("test", "pump_a", lab.KindNotSent, "no carrier"))
	s.ask("c2 " + dose)
	s.exchange(false, nil, lab.Ef("test", "pump_a", lab.KindDeviceRefused, "?NA"))
	s.ask("c3 " + dose)
	s.exchange(true, nil, nil)
	s.set("pump_a.dispensed = 1.1 mL")
	s.read()
	s.ask("c4 reactor.heat target=50 degC")
	s.exchange(true, nil, nil)
	s.ask("c5 reactor.heat target=60 degC") // replaces one that was sent
	s.exchange(true, nil, nil)
	s.set("reactor.heating = true", "reactor.setpoint = 60 degC")
	if st := s.status(); len(st.Unsettled) != 1 || st.Unsettled[0].Command != "c4" {
		t.Errorf("%+v", st.Unsettled)
	}
	s.read()
	s.isState("c5", lab.Confirmed, 0)
	if st := s.status(); len(st.Unsettled) != 0 {
		t.Errorf("a newer setpoint is confirmed: %+v", st.Unsettled)
	}
	s.ask("c6 pump_a.dose volume=1 mL, rate=6 mL/min")
	s.ask("c7 " + dose)
	s.exchange(true, nil, nil)
	s.set("pump_a.running = true", "pump_a.dispensed = 1.14 mL")
	s.read()
	s.step(gateway.StopAsked{ID: "s", Instrument: "pump_a", Principal: "operator_1"})
	s.writeAll()
	s.set("pump_a.running = false")
	s.read()
	s.isState("c7", lab.Partial, lab.KindDenied)
	want := map[string]string{"c1": "nothing", "c2": "nothing", "c3": "all", "c4": "maybe", "c5": "all", "c6": "nothing", "c7": "part"}
	for _, e := range append(s.entriesOf("outcome/v1"), s.entriesOf("denial/v1")...) {
		var b struct{ End string }
		if err := json.Unmarshal(e.Body, &b); err != nil || b.End != want[e.Command] {
			t.Errorf("%s: %s, %v; %s is wanted", e.Command, b.End, err, want[e.Command])
		}
		delete(want, e.Command)
	}
	if len(want) > 0 {
		t.Errorf("no outcome of %v", want)
	}
}
