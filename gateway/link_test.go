package gateway_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"labgate/gateway"
	"labgate/lab"
)

// A new epoch in mid-command: the device may have forgotten it.
func TestEpochChanges(t *testing.T) {
	for phase, want := range map[string]lab.State{"refreshing": lab.Confirmed, "committing": lab.NotSent, "sending": lab.InDoubt, "watching": lab.InDoubt} {
		t.Run(phase, func(t *testing.T) {
			s := inPhase(t, phase)
			s.epoch["pump_a"]++
			s.step(gateway.LinkUp{Instrument: "pump_a", Epoch: s.epoch["pump_a"]})
			s.manual = false
			s.step(gateway.Tick{})
			for len(s.sends) > 0 {
				s.exchange(true, nil, nil)
			}
			s.set("pump_a.running = false", "pump_a.dispensed = 1.1 mL")
			s.read()
			o := s.outcome("c1")
			if o.State != want {
				t.Errorf("%+v", o)
			}
			if want == lab.InDoubt {
				if r := s.ask("c2 " + dose); r.Accepted || r.Issues[0].Code != "in_doubt" {
					t.Errorf("%+v", r)
				}
				if r := s.ask("c3 pump_a.stop"); !r.Accepted {
					t.Errorf("%+v", r)
				}
			}
		})
	}
	t.Run("a setpoint", func(t *testing.T) {
		s := newShell(t)
		s.lease("reactor", "run")
		s.ask("c1 reactor.heat target=50 degC")
		s.exchange(true, nil, nil)
		s.epoch["reactor"]++
		s.step(gateway.LinkUp{Instrument: "reactor", Epoch: s.epoch["reactor"]})
		s.isState("c1", lab.Failed, lab.KindOutcomeUnknown)
		s.read()
		if r := s.ask("c2 reactor.heat target=50 degC"); !r.Accepted { // it may be repeated
			t.Errorf("%+v", r)
		}
	})
	t.Run("its readings come first", func(t *testing.T) {
		s := inPhase(t, "watching")
		s.epoch["pump_a"]++
		s.set("pump_a.running = false", "pump_a.dispensed = 1.1 mL")
		s.read() // a device that began anew is at rest, whatever it had done
		s.step(gateway.LinkUp{Instrument: "pump_a", Epoch: s.epoch["pump_a"]})
		s.isState("c1", lab.InDoubt, lab.KindOutcomeUnknown)
	})
	t.Run("the same epoch", func(t *testing.T) {
		s := inPhase(t, "watching")
		s.step(gateway.LinkLost{Instrument: "pump_a", Say: "no carrier"})
		s.step(gateway.LinkUp{Instrument: "pump_a", Epoch: 1})
		s.set("pump_a.running = false", "pump_a.dispensed = 1.1 mL")
		s.read()
		s.isState("c1", lab.Confirmed, 0)
	})
	t.Run("a link that is down", func(t *testing.T) {
		s := inPhase(t, "refreshing")
		s.step(gateway.LinkLost{Instrument: "pump_a", Say: "no carrier"})
		s.manual = false
		s.step(gateway.Tick{})
		if o := s.isState("c1", lab.Refused, lab.KindDenied); o.Issues[0].Code != "link" {
			t.Errorf("%+v", o)
		}
	})
	newShell(t).step(gateway.LinkUp{Instrument: "pump_z", Epoch: 1})
	newShell(t).step(gateway.LinkLost{Instrument: "pump_z"})
}

// An error of the link: what may be assumed decides.
func TestLinkErrors(t *testing.T) {
	for kind, want := range map[lab.Kind]lab.State{
		lab.KindNotSent: lab.NotSent, lab.KindInvalid: lab.NotSent, lab.KindDenied: lab.NotSent, lab.KindExpired: lab.NotSent,
		lab.KindUnavailable: lab.NotSent, lab.KindCancelled: lab.NotSent, lab.KindBusy: lab.NotSent, lab.KindConflict: lab.NotSent,
		lab.KindDeviceRefused: lab.Failed, lab.KindContradicted: lab.Contradicted,
	} {
		s := inPhase(t, "sending")
		s.exchange(false, nil, lab.Ef("test", "pump_a", kind, "no"))
		s.isState("c1", want, kind)
		if r := s.ask("c2 " + dose); !r.Accepted { // the reservation is released
			t.Errorf("after %s: %+v", kind, r)
		}
	}
	for _, err := range []error{lab.Ef("test", "pump_a", lab.KindOutcomeUnknown, "no reply"), lab.Ef("test", "pump_a", lab.KindInternal, "a bug"), errors.New("anything")} {
		s := inPhase(t, "sending") // it may have arrived, and read-back proves it
		s.exchange(false, nil, err)
		s.set("pump_a.running = true", "pump_a.dispensed = 1.05 mL")
		s.pass(500 * time.Millisecond)
		s.set("pump_a.running = false", "pump_a.dispensed = 1.1 mL")
		s.read()
		s.isState("c1", lab.Confirmed, 0)

		s = inPhase(t, "sending") // or it does not: stopped at the worst time of its class, with nothing done
		s.exchange(false, nil, err)
		for range 70 {
			s.pass(100 * time.Millisecond)
			s.writeAll()
		}
		if o := s.outcome("c1"); o.State != lab.Partial || o.Amount.Value != 0 || s.sent["c1"] != 1 {
			t.Errorf("%+v", o)
		}
		if r := s.ask("c2 " + dose); !r.Accepted {
			t.Errorf("%+v", r)
		}
	}
}

// A command that is not done in the time of its class is stopped: a part, if
// that shows; else in doubt.
func TestTimeout(t *testing.T) {
	s := inPhase(t, "watching") // at most 1.2 * 1 s + 5 s
	s.pass(6 * time.Second)
	if s.stopped("pump_a.pump.stop") != 0 {
		t.Error("too early")
	}
	s.pass(400 * time.Millisecond)
	if s.stopped("pump_a.pump.stop") != 1 {
		t.Fatal("not stopped")
	}
	s.writeAll()
	s.set("pump_a.running = false")
	s.read()
	if o := s.isState("c1", lab.Partial, lab.KindOutcomeUnknown); math.Abs(o.Amount.Value-0.04) > 1e-9 {
		t.Errorf("%+v", o)
	}

	s = inPhase(t, "watching") // the stop does not help
	s.pass(6400 * time.Millisecond)
	s.writeAll()
	s.pass(3 * time.Second)
	s.isState("c1", lab.InDoubt, lab.KindOutcomeUnknown)
	if !strings.Contains(s.alarms(), "pump_a.pump.stop (lost_permissive: it was not done in the time that its class allows) failed: not confirmed within 2 s") {
		t.Error(s.alarms())
	}

	s = inPhase(t, "sending") // the link does not come back: stop, then doubt
	s.pass(14 * time.Second)
	if s.stopped("pump_a.pump.stop") != 0 {
		t.Error("too early")
	}
	s.pass(1100 * time.Millisecond)
	if s.stopped("pump_a.pump.stop") != 1 {
		t.Error("its stop is not ordered")
	}
	s.pass(4 * time.Second)
	s.isState("c1", lab.InDoubt, lab.KindOutcomeUnknown)
	s.exchange(true, nil, nil) // too late: nothing comes of it
	if n := len(s.outcomes); n != 1 {
		t.Errorf("%d outcomes", n)
	}
}

// A safe command that is not confirmed raises a critical alarm.
func TestUnconfirmedStop(t *testing.T) {
	for name, act := range map[string]func(s *shell){
		"never written":    func(s *shell) {},
		"could not":        func(s *shell) { s.write(false, lab.Ef("test", "stage", lab.KindUnavailable, "no carrier")) },
		"written in vain":  func(s *shell) { s.write(true, nil) },
		"written, no sign": func(s *shell) { s.write(false, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newShell(t)
			s.set("stage.moving = true")
			s.step(gateway.StopAsked{ID: "s1", Instrument: "stage", Principal: "operator_1"})
			act(s)
			s.pass(1900 * time.Millisecond)
			s.pass(300 * time.Millisecond)
			if r := s.stopReply(); r == nil || r.Instruments["stage"] == "confirmed" {
				t.Errorf("%+v", r)
			}
			if !strings.Contains(s.alarms(), "stage.xyz.halt (stop: stopped by operator_1) failed") {
				t.Errorf("alarms: %q", s.alarms())
			}
			if got := kinds(s.notes); !strings.Contains(got, "alarm") {
				t.Errorf("journal: %s", got)
			}
		})
	}
	s := newShell(t) // read before it was written: no confirmation
	s.step(gateway.StopAsked{ID: "s1", Instrument: "stage", Principal: "operator_1"})
	s.read()
	if s.stopReply() != nil {
		t.Error("confirmed by readings from before")
	}
	s.write(true, nil)
	s.read()
	if r := s.stopReply(); r == nil || r.Instruments["stage"] != "confirmed" || s.alarms() != "" {
		t.Errorf("%+v %s", r, s.alarms())
	}
}
