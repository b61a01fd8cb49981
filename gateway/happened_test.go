package gateway_test

import (
	"strings"
	"testing"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
)

// What the safe lane has done has happened: rules that ask for it know of it,
// before and after a restart, though nobody decided about it.
func TestOrdersHaveHappened(t *testing.T) {
	const seq = "  - {id: seq, sequence: pump_b.dose, after: stage.move, not_since: [pump_a.stop]}\n"
	for name, act := range map[string]func(*shell){
		"a trip": func(s *shell) {
			s.set("reactor.probe.temperature = 99 degC")
			s.read()
		},
		"a stop":       func(s *shell) { s.step(gateway.StopAsked{ID: "x", Instrument: "pump_a", Principal: "ito"}) },
		"a lost lease": func(s *shell) { s.lease("pump_a", "other"); s.pass(gateway.MaxLease + 1) },
		"a run's finally": func(s *shell) {
			r := s.lease("pump_a", "run")
			cmd := s.command("c2 pump_a.stop", r.Lease)
			if a := s.askFor(gateway.Asked{Command: cmd, Finally: true}); !a.Accepted {
				t.Errorf("%+v", a)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, r := demoLab(t)
			s := bareShell(t, l, r, nil)
			s.rules = s.parsed(testRules + seq)
			s.boot(nil)
			s.connect()
			s.lease("stage", "run")
			s.ask("c1 stage.move x=0 mm, y=0 mm, z=0 mm")
			s.set("stage.x = 0 mm", "stage.y = 0 mm", "stage.z = 0 mm", "stage.moving = false")
			s.exchange(true, nil, nil)
			s.read()
			s.isState("c1", lab.Confirmed, 0)
			if why := s.refusedBy("d1"); why != "" {
				t.Fatalf("before: %s", why)
			}
			act(s)
			if why := s.refusedBy("d2"); !strings.Contains(why, "seq") {
				t.Errorf("under way: %q", why)
			}
			s.writeAll()
			s.read()
			if why := s.refusedBy("d3"); !strings.Contains(why, "seq") {
				t.Errorf("done: %q", why)
			}
			s.crash()
			if why := s.refusedBy("d4"); !strings.Contains(why, "seq") {
				t.Errorf("after a restart: %q", why)
			}
		})
	}
}

// refusedBy asks for a dose that is never sent, and tells the rules that
// refuse it.
func (s *shell) refusedBy(id string) string {
	s.t.Helper()
	r := s.lease("pump_b", "run")
	a := s.askFor(gateway.Asked{Command: s.command(id+" pump_b.dose volume=0.1 mL, rate=6 mL/min", r.Lease)})
	if a.Accepted && len(s.sends) > 0 {
		s.exchange(false, nil, lab.Ef("test", "pump_b", lab.KindNotSent, "not this time"))
	}
	s.step(gateway.LeaseAsked{Request: messages.LeaseRequest{Action: messages.LeaseRelease, Instrument: "pump_b", Run: "run", Principal: "planner_1", Lease: r.Lease}})
	var by []string
	for _, i := range s.outcomeAsked(id).Issues {
		by = append(by, i.Rule+" "+i.Say)
	}
	return strings.Join(by, ", ")
}

// An id that no person could have written is none: the lane's own begin so.
func TestIDsOfTheLane(t *testing.T) {
	s := newShell(t)
	s.lease("pump_a", "run")
	cmd := s.command("c1 pump_a.stop", 1)
	cmd.ID = "\x00lane-1"
	if r := s.askFor(gateway.Asked{Command: cmd}); r.Accepted || r.Issues[0].Code != "bad_name" {
		t.Errorf("%+v", r)
	}
}
