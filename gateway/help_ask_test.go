package gateway_test

import (
	"strings"
	"time"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
)

func (s *shell) lease(instrument, run string) messages.LeaseReply {
	s.t.Helper()
	return s.leaseDo(messages.LeaseRequest{Action: messages.LeaseTake, Instrument: instrument, Run: run, Principal: "planner_1", TTL: lab.Q(60, "s"), RulesHash: s.rules.Hash, Telemetry: lab.Q(1, "s")})
}

func (s *shell) leaseDo(r messages.LeaseRequest) messages.LeaseReply {
	s.t.Helper()
	s.step(gateway.LeaseAsked{Request: r})
	reply, _ := s.answers[len(s.answers)-1].(messages.LeaseReply)
	return reply
}

// command makes a command: "c1 pump_a.dose volume=0.1 mL, rate=6 mL/min".
func (s *shell) command(text string, lease uint64) lab.Command {
	s.t.Helper()
	parts := strings.SplitN(text, " ", 3)
	id, spec, err := s.lab.ResolveCommand(parts[1])
	if err != nil {
		s.t.Fatalf("%v", err)
	}
	c := lab.Command{ID: parts[0], Target: id, Args: map[string]lab.Value{}, Principal: "planner_1", Run: "run", Step: "step", Lease: lease, NotAfter: s.now.Add(10 * time.Second)}
	if len(parts) == 3 {
		for _, a := range strings.Split(parts[2], ", ") {
			n, v, _ := strings.Cut(a, "=")
			c.Args[n] = value(s.t, spec.Arg(n).Type, v)
		}
	}
	return c
}

// ask asks for a command under the lease in force, taking it if there is none.
func (s *shell) ask(text string) messages.CommandReply {
	s.t.Helper()
	c := s.command(text, 1)
	return s.askFor(gateway.Asked{Command: c})
}

func (s *shell) askFor(a gateway.Asked) messages.CommandReply {
	s.t.Helper()
	n := len(s.answers)
	s.step(a)
	for _, x := range s.answers[n:] {
		if r, ok := x.(messages.CommandReply); ok {
			return r
		}
	}
	s.t.Fatalf("no answer to %s", a.Command.ID)
	return messages.CommandReply{}
}

func (s *shell) outcomeAsked(id string) messages.CommandReply {
	s.t.Helper()
	s.step(gateway.OutcomeAsked{Command: id})
	return s.answers[len(s.answers)-1].(messages.CommandReply)
}

// outcome is the last one that was published of a command.
func (s *shell) outcome(id string) lab.Outcome {
	s.t.Helper()
	for i := len(s.outcomes) - 1; i >= 0; i-- {
		if o := s.outcomes[i].Outcome; o.Command == id {
			return o
		}
	}
	s.t.Fatalf("no outcome of %s; so far:\n%s", id, strings.Join(s.trace, "\n"))
	return lab.Outcome{}
}

func (s *shell) isState(id string, state lab.State, kind lab.Kind) lab.Outcome {
	s.t.Helper()
	o := s.outcome(id)
	if o.State != state || o.Kind != kind {
		s.t.Errorf("%s is %s, %s: %s; %s, %s is wanted", id, o.State, o.Kind, o.Say, state, kind)
	}
	return o
}

// is compares the trace since the last call, word for word.
func (s *shell) is(want ...string) {
	s.t.Helper()
	if got, w := strings.Join(s.trace, "\n"), strings.Join(want, "\n"); got != w {
		s.t.Errorf("it did\n%s\nwanted is\n%s", got, w)
	}
	s.trace = nil
}

// alarms lists what people were told as critical.
func (s *shell) alarms() string {
	var list []string
	for _, m := range s.safety {
		if m.What == messages.SafetyAlarm {
			list = append(list, m.Say)
		}
	}
	return strings.Join(list, "; ")
}

const dose = "pump_a.dose volume=0.1 mL, rate=6 mL/min"

// dosing brings a dose to where the pump runs.
func (s *shell) dosing() {
	s.t.Helper()
	s.set("pump_a.dispensed = 1 mL", "pump_a.running = false", "room.airflow = 0.5 m/s")
	s.read()
	s.lease("pump_a", "run")
	if r := s.ask("c1 " + dose); !r.Accepted {
		s.t.Fatalf("%v", r.Issues)
	}
	s.exchange(true, nil, nil)
	s.set("pump_a.running = true", "pump_a.dispensed = 1.04 mL")
	s.read()
	s.trace = nil
}
