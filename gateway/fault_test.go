package gateway_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
)

// phases brings a dose to each phase of its life.
var phases = map[string]func(s *shell){
	"refreshing": func(s *shell) { s.manual = true; s.ask("c1 " + dose) },
	"committing": func(s *shell) { s.manual = true; s.ask("c1 " + dose); s.refresh() },
	"sending":    func(s *shell) { s.ask("c1 " + dose) },
	"watching": func(s *shell) {
		s.ask("c1 " + dose)
		s.exchange(true, nil, nil)
		s.set("pump_a.running = true", "pump_a.dispensed = 1.04 mL")
		s.read()
	},
}

// inPhase is a shell with a dose in some phase.
func inPhase(t *testing.T, phase string) *shell {
	t.Helper()
	s := newShell(t)
	s.set("pump_a.dispensed = 1 mL", "room.airflow = 0.5 m/s")
	s.read()
	s.lease("pump_a", "run")
	phases[phase](s)
	s.trace = nil
	return s
}

// finish lets everything that waits happen: commits, sends, orders; the pump
// stops where it is.
func (s *shell) finish() {
	s.t.Helper()
	s.manual = false
	s.step(gateway.Tick{})
	for len(s.lanes) > 0 || len(s.sends) > 0 {
		s.writeAll()
		if len(s.sends) > 0 {
			s.exchange(true, nil, nil)
		}
	}
	s.set("pump_a.running = false")
	s.read()
}

// wantInterrupted: what becomes of a dose that is taken back, by its phase.
func (s *shell) wantInterrupted(phase, say string) {
	s.t.Helper()
	s.finish()
	o := s.outcome("c1")
	switch phase {
	case "refreshing":
		if o.State != lab.Refused || s.sent["c1"] != 0 {
			s.t.Errorf("%+v, sent %d times", o, s.sent["c1"])
		}
	case "committing":
		if o.State != lab.NotSent || s.sent["c1"] != 0 {
			s.t.Errorf("%+v, sent %d times", o, s.sent["c1"])
		}
	case "sending": // the permit was gone before the first byte
		if o.State != lab.NotSent {
			s.t.Errorf("%+v", o)
		}
	case "watching":
		if o.State != lab.Partial || o.Amount == nil || math.Abs(o.Amount.Value-0.04) > 1e-9 || o.Amount.Unit.String() != "mL" {
			s.t.Errorf("%+v", o)
		}
	}
	if !strings.Contains(o.Say, say) {
		s.t.Errorf("it says %q", o.Say)
	}
}

// stopsFirst fails unless every stop of the pump comes with its permit taken
// back before.
func (s *shell) stopped(target string) (n int) {
	for _, line := range s.trace {
		if strings.HasPrefix(line, "lane "+target) {
			n++
		}
	}
	return n
}

// A trip takes a dose back in every phase, latches, and acts.
func TestTripInEveryPhase(t *testing.T) {
	for phase := range phases {
		t.Run(phase, func(t *testing.T) {
			s := inPhase(t, phase)
			var send *gateway.Send
			if len(s.sends) > 0 {
				send = &s.sends[0]
			}
			s.set("reactor.probe.temperature = 99 degC")
			s.read("reactor")
			for _, target := range []string{"pump_a.pump.stop", "pump_b.pump.stop", "reactor.jacket.heat_off", "quench.quench.flood"} {
				if s.stopped(target) != 1 {
					t.Errorf("%s was ordered %d times:\n%s", target, s.stopped(target), strings.Join(s.trace, "\n"))
				}
			}
			if send != nil {
				if err := send.Permit.Spend(&send.Command, 1, s.now); err == nil {
					t.Error("the stop is ordered, and the permit still opens")
				}
			}
			last := s.safety[len(s.safety)-1]
			if last.What != messages.SafetyTrip || last.Rule != "hot" || !last.FirstOut || last.RunAction != safety.RunAbort || strings.Join(last.Runs, " ") != "run" {
				t.Errorf("%+v", last)
			}
			s.wantInterrupted(phase, "hot tripped")
			if r := s.ask("c9 " + dose); r.Accepted {
				s.isState("c9", lab.Refused, lab.KindDenied)
			}
			s.quiet(5 * time.Second)
			if s.sent["c9"] != 0 {
				t.Error("sent while the trip is latched")
			}
		})
	}
}

// So does a stop, of one instrument or of all; it asks nobody and waits for
// nothing.
func TestStopInEveryPhase(t *testing.T) {
	for phase := range phases {
		for _, instrument := range []string{"pump_a", ""} {
			t.Run(phase+" "+instrument, func(t *testing.T) {
				s := inPhase(t, phase)
				s.manual = true // the disk is not asked
				s.step(gateway.StopAsked{ID: "s1", Instrument: instrument, Principal: "operator_1", Reason: "smoke", Reply: "stop"})
				if n := strings.Count(strings.Join(s.trace, "\n"), "lane "); s.stopped("pump_a.pump.stop") != 1 || n != strings.Count(strings.Split(strings.Join(s.trace, "\n"), "append")[0], "lane ") {
					t.Errorf("an order comes after a commit, or none comes:\n%s", strings.Join(s.trace, "\n"))
				}
				if n := s.stopped("stage.xyz.halt"); (n == 1) != (instrument == "") {
					t.Errorf("the stage is stopped %d times", n)
				}
				if s.trace[len(s.trace)-1] == "answer stop" {
					t.Error("it is answered before it is confirmed")
				}
				s.wantInterrupted(phase, "stopped by operator_1: smoke")
				s.set("reactor.heating = false", "cell.state = stopped")
				s.read()
				reply := s.stopReply()
				if reply == nil || reply.Instruments["pump_a"] != "confirmed" || instrument == "" && (reply.Instruments["quench"] != "kept" || reply.Instruments["stage"] != "confirmed" || len(reply.Instruments) != 9) {
					t.Fatalf("%+v", reply)
				}
				if r := s.ask("c9 " + dose); r.Accepted && s.outcome("c9").State != lab.Refused {
					t.Errorf("%+v", r)
				}
			})
		}
	}
	s := newShell(t)
	s.step(gateway.StopAsked{ID: "s1", Instrument: "pump_z", Principal: "operator_1"})
	if r := s.stopReply(); r == nil || r.Instruments["pump_z"] != "not an instrument of this gateway" || len(s.lanes) != 0 {
		t.Errorf("%+v", r)
	}
}

func (s *shell) stopReply() *messages.StopReply {
	for _, a := range s.answers {
		if r, ok := a.(messages.StopReply); ok {
			return &r
		}
	}
	return nil
}

// A permissive that is lost for longer than its grace: revoked, stopped, with
// the part that was done.
func TestPermissiveLost(t *testing.T) {
	s := inPhase(t, "watching")
	s.set("room.airflow = 0.1 m/s")
	s.pass(900 * time.Millisecond)
	s.is()
	s.pass(300 * time.Millisecond)
	s.is("note lost_permissive", "lane pump_a.pump.stop (lost_permissive)", "note order")
	s.writeAll()
	s.set("pump_a.running = false", "pump_a.dispensed = 1.06 mL")
	s.read()
	o := s.isState("c1", lab.Partial, lab.KindDenied)
	if len(o.Issues) != 1 || o.Issues[0].Rule != "hood" || o.Issues[0].Code != "lost_permissive" { // the run's end names it
		t.Errorf("%+v", o.Issues)
	}
	if math.Abs(o.Amount.Value-0.06) > 1e-9 || o.Say != "hood needs room.airflow >= 0.3 m/s, which is false now" {
		t.Errorf("%+v", o)
	}
	s.is("note order_end", "append outcome", "outcome c1 partial")

	s = inPhase(t, "watching") // silence is unknown, and unknown is lost
	for range 45 {
		s.quiet(100 * time.Millisecond)
		s.read("pump_a", "reactor")
	}
	if s.stopped("pump_a.pump.stop") != 1 {
		t.Errorf("%s", strings.Join(s.trace, "\n"))
	}
}

// A lease that nobody renews: what is under way is stopped, and the instrument
// brought to its on_lease_loss.
func TestLeaseExpires(t *testing.T) {
	for phase := range phases {
		t.Run(phase, func(t *testing.T) {
			s := inPhase(t, phase)
			s.leaseDo(messages.LeaseRequest{Action: messages.LeaseRenew, Instrument: "pump_a", Run: "run", Principal: "planner_1", Lease: 1, TTL: lab.Q(0.3, "s")})
			s.pass(400 * time.Millisecond)
			if n := s.stopped("pump_a.pump.stop"); n != 1 {
				t.Errorf("stopped %d times:\n%s", n, strings.Join(s.trace, "\n"))
			}
			var lost *messages.Safety
			for i := range s.safety {
				if s.safety[i].What == messages.SafetyLeaseLost {
					lost = &s.safety[i]
				}
			}
			if lost == nil || lost.Runs[0] != "run" || lost.RunAction != safety.RunAbort {
				t.Errorf("%+v", lost)
			}
			s.wantInterrupted(phase, "lost its lease on pump_a")
			if r := s.ask("c2 " + dose); r.Accepted || r.Issues[0].Code != "lease" {
				t.Errorf("%+v", r.Issues)
			}
			if r := s.lease("pump_a", "other"); !r.OK || r.Lease != 2 {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestLeases(t *testing.T) {
	s := newShell(t)
	take := messages.LeaseRequest{Action: messages.LeaseTake, Instrument: "pump_a", Run: "run", Principal: "planner_1", TTL: lab.Q(5, "s"), RulesHash: s.rules.Hash}
	for name, c := range map[string]struct {
		change func(r *messages.LeaseRequest)
		code   string
	}{
		"another rules hash":     {func(r *messages.LeaseRequest) { r.RulesHash = "sha256:other" }, "rules_changed"},
		"unknown":                {func(r *messages.LeaseRequest) { r.Instrument = "pump_z" }, "undeclared"},
		"no run":                 {func(r *messages.LeaseRequest) { r.Run = "" }, "missing_field"},
		"no principal":           {func(r *messages.LeaseRequest) { r.Principal = "" }, "missing_field"},
		"no time":                {func(r *messages.LeaseRequest) { r.TTL = lab.Q(0, "s") }, "out_of_bounds"},
		"too long":               {func(r *messages.LeaseRequest) { r.TTL = lab.Q(61, "s") }, "out_of_bounds"},
		"a length":               {func(r *messages.LeaseRequest) { r.TTL = lab.Q(5, "mm") }, "out_of_bounds"},
		"a bad limit":            {func(r *messages.LeaseRequest) { r.Limits = []string{"pump_a.speed < 3"} }, "bad_limit"},
		"another action":         {func(r *messages.LeaseRequest) { r.Action = "steal" }, "lease"},
		"renew what is not held": {func(r *messages.LeaseRequest) { r.Action, r.Lease = messages.LeaseRenew, 1 }, "lease"},
	} {
		r := take
		c.change(&r)
		if reply := s.leaseDo(r); reply.OK || reply.Issues[0].Code != c.code {
			t.Errorf("%s: %+v", name, reply)
		}
	}
	if r := s.leaseDo(take); !r.OK || r.Lease != 1 || !r.Expires.Equal(s.now.Add(5*time.Second)) {
		t.Errorf("%+v", r)
	}
	other := take
	other.Run = "other"
	if r := s.leaseDo(other); r.OK || r.Issues[0].Code != "held" {
		t.Errorf("%+v", r)
	}
	renew := take
	renew.Action, renew.Lease = messages.LeaseRenew, 1
	s.now = s.now.Add(4 * time.Second)
	if r := s.leaseDo(renew); !r.OK || !r.Expires.Equal(s.now.Add(5*time.Second)) {
		t.Errorf("%+v", r)
	}
	s.now = s.now.Add(5 * time.Second) // over, and nobody has ticked yet
	if r := s.leaseDo(renew); r.OK {
		t.Errorf("a lease that is over is renewed: %+v", r)
	}
	if s.stopped("pump_a.pump.stop") != 1 {
		t.Error("nothing was done about it")
	}
	if r := s.leaseDo(other); r.OK || r.Issues[0].Code != "not_ready" {
		t.Errorf("nothing was heard of it for 9 s: %+v", r)
	}
	s.read()
	if r := s.leaseDo(other); !r.OK || r.Lease != 2 {
		t.Errorf("%+v", r)
	}
	// A lease counts once it is durable, and not at all if it never was.
	s.manual = true
	n := len(s.answers)
	s.step(gateway.LeaseAsked{Request: messages.LeaseRequest{Action: messages.LeaseTake, Instrument: "stage", Run: "run", Principal: "p", TTL: lab.Q(5, "s"), RulesHash: s.rules.Hash}})
	if len(s.answers) != n {
		t.Error("told before it is durable")
	}
	s.broken = true
	s.commit()
	if r := s.answers[n].(messages.LeaseReply); r.OK || r.Issues[0].Code != "journal" {
		t.Errorf("%+v", r)
	}
	if s.core.Telemetry("stage") != time.Second || s.core.Telemetry("pump_a") != time.Second {
		t.Error("telemetry")
	}
}

// A run that gives an instrument back with something under way: one lease at a
// time writes to it.
func TestReleaseStopsWhatIsUnderWay(t *testing.T) {
	s := inPhase(t, "watching")
	s.leaseDo(messages.LeaseRequest{Action: messages.LeaseRelease, Instrument: "pump_a", Run: "run", Principal: "planner_1", Lease: 1})
	s.wantInterrupted("watching", "gave its lease on pump_a back")
}

// A run whose lease is gone has no late messages: its fence is lower.
func TestFencedRun(t *testing.T) {
	s := newShell(t)
	s.set("room.airflow = 0.5 m/s")
	s.read()
	if r := s.lease("pump_a", "run"); r.Lease != 1 {
		t.Fatalf("%+v", r)
	}
	s.leaseDo(messages.LeaseRequest{Action: messages.LeaseRelease, Instrument: "pump_a", Run: "run", Principal: "planner_1", Lease: 1})
	if r := s.lease("pump_a", "other"); r.Lease != 2 {
		t.Fatalf("%+v", r)
	}
	late := s.command("c1 "+dose, 1)
	if r := s.askFor(gateway.Asked{Command: late}); r.Accepted {
		t.Errorf("%+v", r)
	}
	for _, action := range []string{messages.LeaseRenew, messages.LeaseRelease} {
		if r := s.leaseDo(messages.LeaseRequest{Action: action, Instrument: "pump_a", Run: "run", Principal: "planner_1", Lease: 1, TTL: lab.Q(5, "s")}); r.OK {
			t.Errorf("%s by a run that is fenced", action)
		}
	}
	mine := s.command("c2 "+dose, 2)
	mine.Run = "other"
	if r := s.askFor(gateway.Asked{Command: mine}); !r.Accepted {
		t.Errorf("%+v", r)
	}
	// A fence is never given twice, not after a restart either.
	s.boot(append(s.journal, s.notes...))
	s.connect()
	if r := s.lease("pump_a", "third"); r.Lease != 3 {
		t.Errorf("%+v", r)
	}
}

// D3: after a commit that failed nothing is sent, whatever is asked; stops
// work.
func TestPoisoned(t *testing.T) {
	for phase := range phases {
		t.Run(phase, func(t *testing.T) {
			s := inPhase(t, phase)
			s.lease("pump_b", "run")
			s.broken = true
			s.ask("c2 pump_b.dose volume=0.1 mL, rate=6 mL/min")
			s.manual = false
			s.step(gateway.Tick{})
			if !s.poisoned {
				t.Fatal("the disk was not asked")
			}
			sent := len(s.sends)
			if !strings.Contains(s.alarms(), "no effect is sent until a person restarts this gateway; stops still work") {
				t.Error(s.alarms())
			}
			for i, c := range []string{dose, "reactor.heat target=50 degC", "camera.capture exposure=20 ms"} {
				if r := s.ask("d" + string(rune('0'+i)) + " " + c); r.Accepted {
					t.Errorf("%s is taken", c)
				}
			}
			s.set("pump_a.running = true")
			s.step(gateway.StopAsked{ID: "s1", Principal: "operator_1"})
			s.writeAll()
			s.set("pump_a.running = false", "cell.state = stopped")
			s.pass(time.Second)
			if r := s.stopReply(); r == nil || r.Instruments["pump_a"] != "confirmed" {
				t.Errorf("%+v", r)
			}
			if len(s.sends) > sent {
				t.Error("an effect was sent")
			}
			for _, id := range []string{"c1", "c2"} {
				r := s.outcomeAsked(id) // what is not durable is in doubt, to all who ask
				if r.State != lab.InDoubt && r.State != lab.Sent && (r.State != lab.Refused || s.sent[id] > 0) {
					t.Errorf("%s is %s", id, r.State)
				}
				if again := s.outcomeAsked(id); again.State != r.State {
					t.Errorf("%s: %s, then %s", id, r.State, again.State)
				}
			}
			s.step(gateway.StatusAsked{})
			if st := s.answers[len(s.answers)-1].(messages.ControlReply).Status; st.Ready {
				t.Error("it says that it is ready")
			}
		})
	}
}

// S9: no effect by a clock that can't be trusted.
func TestClock(t *testing.T) {
	s := newShell(t)
	s.set("room.airflow = 0.5 m/s")
	s.read()
	s.lease("pump_a", "run")
	s.step(gateway.ClockTrust{Why: "it was set by 3 s"})
	if r := s.ask("c1 " + dose); r.Accepted || r.Issues[0].Code != "clock" {
		t.Errorf("%+v", r)
	}
	if r := s.ask("c2 pump_a.stop"); !r.Accepted {
		t.Errorf("%+v", r)
	}
	s.step(gateway.ClockTrust{})
	s.manual = true
	if r := s.ask("c3 " + dose); !r.Accepted {
		t.Errorf("%+v", r)
	}
	s.refresh()
	s.step(gateway.ClockTrust{Why: "it was set by 3 s"})
	s.manual = false
	s.step(gateway.Tick{})
	s.isState("c3", lab.NotSent, lab.KindExpired)

	later := []lab.Entry{{Kind: "boot/v1", Time: t0.Add(time.Hour)}}
	s = bareShell(t, s.lab, s.rules, later)
	s.now = t0
	s.connect()
	s.lease("pump_a", "run")
	s.set("room.airflow = 0.5 m/s")
	s.read()
	if r := s.ask("c1 " + dose); r.Accepted || r.Issues[0].Code != "clock" {
		t.Errorf("%+v", r)
	}
	s.now = t0.Add(time.Hour)
	s.read()
	s.lease("stage", "run")
	if r := s.ask("c2 stage.move x=0 mm, y=0 mm, z=0 mm"); !r.Accepted {
		t.Errorf("%+v", r)
	}
	s.now = s.now.Add(-time.Minute) // its own entries count too
	if r := s.ask("c3 stage.move x=0 mm, y=0 mm, z=0 mm"); r.Accepted {
		t.Errorf("%+v", r)
	}
}
