package gateway_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
)

// crash is a process that dies: only what is durable is left.
func (s *shell) crash() {
	s.t.Helper()
	s.boot(s.journal)
	s.connect()
}

func (s *shell) status() *messages.Status {
	s.t.Helper()
	s.step(gateway.StatusAsked{})
	return s.answers[len(s.answers)-1].(messages.ControlReply).Status
}

func (s *shell) control(ev gateway.Event) messages.ControlReply {
	s.t.Helper()
	s.step(ev)
	r, _ := s.answers[len(s.answers)-1].(messages.ControlReply)
	return r
}

// S3: after a restart every intent without an outcome is in doubt, and until
// that is settled only what is safe goes to its instrument.
func TestRestart(t *testing.T) {
	for phase, sent := range map[string]bool{"refreshing": false, "committing": false, "sending": true, "watching": true} {
		t.Run(phase, func(t *testing.T) {
			s := inPhase(t, phase)
			outcomes := len(s.outcomes)
			s.manual = false
			s.crash()
			if r := s.lease("pump_a", "run"); !r.OK || r.Lease != 2 {
				t.Fatalf("%+v", r)
			}
			if !sent { // nothing was durable, nothing was sent
				if n := len(s.outcomes) - outcomes; n != 0 || len(s.status().InDoubt) != 0 {
					t.Errorf("%d outcomes", n)
				}
				if r := s.askFor(gateway.Asked{Command: s.command("c1 "+dose, 2)}); !r.Accepted {
					t.Errorf("%+v", r)
				}
				return
			}
			o := s.isState("c1", lab.InDoubt, lab.KindOutcomeUnknown)
			if o.Say != "the gateway went down before its outcome was known" {
				t.Error(o.Say)
			}
			if r := s.ask("c1 " + dose); r.State != lab.InDoubt || r.Outcome == nil { // asked again, never sent again
				t.Errorf("%+v", r)
			}
			for command, ok := range map[string]bool{dose: false, "pump_a.stop": true} {
				if r := s.askFor(gateway.Asked{Command: s.command("n"+command[7:9]+" "+command, 2)}); r.Accepted != ok {
					t.Errorf("%s: %+v", command, r.Issues)
				}
			}
			if r := s.askFor(gateway.Asked{Command: s.command("n3 stage.halt", 1)}); r.Accepted {
				t.Error("nobody holds the stage")
			}
			s.read() // a stop in doubt bars nothing: it may be asked for again
			d := s.status().InDoubt
			if len(d) != 1 || d[0].Command != "c1" || d[0].Instrument != "pump_a" || d[0].Name != "dose" || d[0].Run != "run" {
				t.Fatalf("%+v", d)
			}
			// The doubt outlives the next restart, and is told of once.
			told := 0
			s.crash()
			for _, m := range s.outcomes {
				if m.Outcome.Command == "c1" {
					told++
				}
			}
			if len(s.status().InDoubt) != 1 || told != 1 {
				t.Errorf("%+v, told %d times", s.status().InDoubt, told)
			}
		})
	}
}

// A person settles a doubt, with a reason, once.
func TestResolve(t *testing.T) {
	s := inPhase(t, "watching")
	s.crash()
	for name, ev := range map[string]gateway.ResolveAsked{
		"no reason":  {ID: "r", Command: "c1", As: "done", Principal: "operator_1"},
		"no as":      {ID: "r", Command: "c1", As: "maybe", Principal: "operator_1", Reason: "looked"},
		"no command": {ID: "r", Command: "c2", As: "done", Principal: "operator_1", Reason: "looked"},
	} {
		if r := s.control(ev); r.OK {
			t.Errorf("%s: %+v", name, r)
		}
	}
	s.manual = true
	s.step(gateway.ResolveAsked{ID: "r1", Command: "c1", As: "not_done", Principal: "operator_1", Reason: "the syringe is full"})
	if r := s.control(gateway.ResolveAsked{ID: "r2", Command: "c1", As: "done", Principal: "operator_2", Reason: "no, it is empty"}); r.OK || r.ID != "r2" {
		t.Errorf("settled twice: %+v", r)
	}
	if o := s.outcome("c1"); o.State != lab.InDoubt {
		t.Errorf("told before it is durable: %+v", o)
	}
	s.manual = false
	s.commit()
	o := s.isState("c1", lab.Resolved, lab.KindOutcomeUnknown)
	if o.Say != "operator_1 says it was not_done: the syringe is full" {
		t.Error(o.Say)
	}
	last := s.journal[len(s.journal)-1]
	if last.Kind != "outcome/v1" || last.Labels["resolved_by"] != "operator_1" || last.Labels["as"] != "not_done" {
		t.Errorf("%+v", last)
	}
	s.crash()
	if len(s.status().InDoubt) != 0 {
		t.Error("in doubt again")
	}
	s.set("room.airflow = 0.5 m/s")
	s.read()
	l := s.lease("pump_a", "run")
	if r := s.askFor(gateway.Asked{Command: s.command("c3 "+dose, l.Lease)}); !r.Accepted {
		t.Errorf("%+v", r)
	}
	if r := s.ask("c1 " + dose); r.State != lab.Resolved {
		t.Errorf("%+v", r)
	}

	// The outcome could not be made durable: there is nothing to settle yet,
	// and nothing falls over.
	s = inPhase(t, "watching")
	s.manual, s.broken = true, true
	s.epoch["pump_a"]++
	s.step(gateway.LinkUp{Instrument: "pump_a", Epoch: s.epoch["pump_a"]})
	if r := s.control(gateway.ResolveAsked{ID: "r", Command: "c1", As: "done", Principal: "operator_1", Reason: "looked"}); r.OK {
		t.Errorf("%+v", r)
	}
	s.commit()
	s.step(gateway.ResolveAsked{ID: "r", Command: "c1", As: "done", Principal: "operator_1", Reason: "looked"})
	s.commit()
	if r := s.answers[len(s.answers)-1].(messages.ControlReply); r.OK || !strings.Contains(r.Say, "could not be made durable") {
		t.Errorf("%+v", r)
	}
}

// What may be repeated needs no person: the read-back settles it.
func TestEvidence(t *testing.T) {
	s := newShell(t)
	s.lease("reactor", "run")
	s.lease("camera", "run")
	s.ask("c1 reactor.heat target=50 degC")
	s.ask("c2 camera.capture exposure=20 ms")
	s.crash()
	if o := s.outcome("c1"); o.State != lab.InDoubt { // 25 degC: not shown yet
		t.Errorf("%+v", o)
	}
	s.isState("c2", lab.Resolved, lab.KindOutcomeUnknown)
	s.set("reactor.heating = true", "reactor.setpoint = 50 degC")
	s.read()
	if o := s.isState("c1", lab.Resolved, lab.KindOutcomeUnknown); !strings.Contains(o.Say, "read-back") {
		t.Error(o.Say)
	}
	s = inPhase(t, "watching") // a dose does
	s.crash()
	s.set("pump_a.running = false", "pump_a.dispensed = 1.1 mL")
	s.pass(time.Second)
	s.isState("c1", lab.InDoubt, lab.KindOutcomeUnknown)

	s = newShell(t) // with a disk that fails it is tried once, not with every reading
	s.lease("camera", "run")
	s.ask("c1 camera.capture exposure=20 ms")
	s.broken = true
	s.boot(s.journal)
	s.connect()
	s.pass(time.Second)
	if n := strings.Count(strings.Join(s.trace, "\n"), "append"); n > 1 {
		t.Errorf("tried %d times", n)
	}
}

// S11: latches survive, until a person resets them with a reason.
func TestLatchesSurvive(t *testing.T) {
	s := newShell(t)
	s.set("reactor.probe.temperature = 99 degC")
	s.read()
	s.step(gateway.StopAsked{ID: "s", Instrument: "stage", Principal: "operator_1", Reason: "smoke"})
	for range 2 {
		s.crash()
		st := s.status()
		if len(st.Latches) != 2 || st.Latches[0].Rule != "hot" || st.Latches[1].Rule != "stop/stage" || st.Latches[1].Say != "stopped by operator_1: smoke" {
			t.Fatalf("%+v", st.Latches)
		}
	}
	s.lease("pump_a", "run")
	s.ask("c1 " + dose)
	s.isState("c1", lab.Refused, lab.KindDenied)
	for name, ev := range map[string]gateway.ResetAsked{
		"no reason":   {Rule: "stop/stage", Principal: "operator_1"},
		"not latched": {Rule: "stop", Principal: "operator_1", Reason: "drill"},
		"still hot":   {Rule: "hot", Principal: "operator_1", Reason: "looks fine"},
	} {
		if r := s.control(ev); r.OK || r.Say == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	s.set("reactor.probe.temperature = 30 degC", "room.airflow = 0.5 m/s")
	s.read()
	for _, rule := range []string{"hot", "stop/stage"} {
		if r := s.control(gateway.ResetAsked{ID: "x", Rule: rule, Principal: "operator_1", Reason: "looked"}); !r.OK || r.ID != "x" {
			t.Errorf("%+v", r)
		}
	}
	if len(s.status().Latches) != 0 {
		t.Errorf("%+v", s.status().Latches)
	}
	s.ask("c2 " + dose)
	if s.sent["c2"] != 1 {
		t.Error("not sent after the reset")
	}
	s.crash()
	if len(s.status().Latches) != 0 {
		t.Error("latched again after the restart")
	}
}

// What mitigates a trip goes through latch and doubt, once, across restarts.
func TestMitigation(t *testing.T) {
	s := newShell(t)
	s.lease("quench", "run")
	s.ask("c1 quench.dose volume=0.1 mL, rate=6 mL/min")
	s.exchange(true, nil, nil)
	s.crash() // it is in doubt
	if r := s.lease("quench", "run"); r.Lease != 2 {
		t.Fatalf("%+v", r)
	}
	quench := func(id string) messages.CommandReply {
		t.Helper()
		return s.askFor(gateway.Asked{Command: s.command(id+" quench.dose volume=0.1 mL, rate=6 mL/min", 2)})
	}
	if r := quench("c2"); r.Accepted {
		t.Errorf("%+v", r)
	}
	s.set("reactor.probe.temperature = 99 degC")
	s.read()
	s.writeAll()
	if r := quench("c3"); !r.Accepted {
		t.Errorf("%+v", r)
	}
	s.exchange(false, nil, lab.Ef("test", "quench", lab.KindNotSent, "no carrier")) // once more, then
	s.isState("c3", lab.NotSent, lab.KindNotSent)
	if r := quench("c4"); !r.Accepted {
		t.Errorf("%+v", r)
	}
	s.exchange(true, nil, nil)
	s.set("quench.running = true")
	s.read()
	s.set("room.emergency = true") // another trip, which it mitigates too, does not stop it
	s.read()
	s.writeAll()
	if n := s.stopped("quench.pump.stop"); n != 0 {
		t.Errorf("stopped %d times", n)
	}
	s.set("quench.running = false", "quench.dispensed = 1.1 mL")
	s.read()
	s.isState("c4", lab.Confirmed, 0)
	if r := quench("c5"); r.Accepted && s.outcome("c5").State != lab.Refused {
		t.Errorf("twice for one latch: %+v", r)
	}
	s.crash()
	if r := s.lease("quench", "run"); r.Lease != 3 {
		t.Fatalf("%+v", r)
	}
	if r := s.askFor(gateway.Asked{Command: s.command("c6 quench.dose volume=0.1 mL, rate=6 mL/min", 3)}); r.Accepted && s.outcome("c6").State != lab.Refused {
		t.Errorf("twice for one latch, after a restart: %+v", r)
	}
}

// A journal that holds what can't be read is no journal to start from.
func TestRestoreRefuses(t *testing.T) {
	l, r := demoLab(t)
	for _, kind := range []string{"intent/v1", "outcome/v1", "denial/v1", "denials/v1", "lease/v1", "trip/v1", "stop/v1", "reset/v1"} {
		core, err := gateway.New(gateway.Options{Lab: l, Name: "bench", Rules: r})
		if err != nil {
			t.Fatal(err)
		}
		if err := core.Restore(lab.Entry{Kind: kind, Body: json.RawMessage(`"nonsense"`)}); lab.KindOf(err) != lab.KindInternal || err == nil {
			t.Errorf("%s: %v", kind, err)
		}
		var e *lab.Error
		if err := core.Restore(lab.Entry{Kind: "something/v9", Body: json.RawMessage(`1`)}); errors.As(err, &e) {
			t.Errorf("a kind of somebody else's: %v", err)
		}
	}
}

// Until the gateway's inputs were good once, nobody gets an instrument: a run
// that waited for the start waits a little longer, and does not fail.
func TestStarting(t *testing.T) {
	l, r := demoLab(t)
	s := bareShell(t, l, r, nil)
	take := func() messages.LeaseReply {
		return s.leaseDo(messages.LeaseRequest{Action: messages.LeaseTake, Instrument: "stage", Run: "run", Principal: "planner_1", TTL: lab.Q(60, "s"), RulesHash: s.rules.Hash})
	}
	wantNotReady := func(say string) {
		t.Helper()
		if a := take(); a.OK || a.Issues[0].Code != "not_ready" || !strings.Contains(a.Issues[0].Say, say) || s.status().Ready {
			t.Errorf("%+v", a)
		}
	}
	wantNotReady("not all good yet since the start")
	for _, n := range l.Names() {
		if n != "stage" {
			s.step(gateway.LinkUp{Instrument: n, Epoch: 1})
			s.epoch[n] = 1
		}
	}
	s.read("stage")
	wantNotReady("not all good yet since the start")
	s.read()
	wantNotReady("stage is not connected")
	s.step(gateway.LinkUp{Instrument: "stage", Epoch: 1})
	s.epoch["stage"] = 1
	s.read()
	s.lease("stage", "run")
	s.ask("c2 stage.move x=0 mm, y=0 mm, z=0 mm")
	if s.sent["c2"] != 1 || !s.status().Ready {
		t.Errorf("%+v", s.status())
	}
}

// What came first came first, also after a restart; a reset of it makes nothing
// else the cause, and what is reset stays so.
func TestFirstOutSurvives(t *testing.T) {
	l, r := demoLab(t)
	s := bareShell(t, l, r, nil)
	s.rules = s.parsed(testRules + "  - {id: draught, trip: reactor, when: room.airflow < 0.1 m/s, unknown_for: 60 s, do: [pump_b.stop]}\n")
	s.boot(nil)
	s.connect()
	latched := func() string {
		var list []string
		for _, x := range s.status().Trips {
			list = append(list, fmt.Sprintf("%s %t", x.Rule, x.FirstOut))
		}
		return strings.Join(list, ", ")
	}
	s.set("reactor.probe.temperature = 99 degC")
	s.read()
	s.crash()
	s.set("room.airflow = 0.05 m/s")
	s.read()
	for range 2 {
		if got := latched(); got != "hot true, draught false" {
			t.Error(got)
		}
		s.crash()
	}
	if r := s.control(gateway.ResetAsked{ID: "x", Rule: "hot", Principal: "operator_1", Reason: "looked"}); r.OK {
		t.Error("it is hot still")
	}
	s.set("reactor.probe.temperature = 30 degC")
	s.read()
	if r := s.control(gateway.ResetAsked{ID: "x", Rule: "hot", Principal: "operator_1", Reason: "looked"}); !r.OK {
		t.Errorf("%+v", r)
	}
	s.crash()
	if got := latched(); got != "draught false" {
		t.Error(got)
	}
}
