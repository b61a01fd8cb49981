package gateway_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
)

// What is journalled of a command lets a restart count as before.
func TestCountsSurvive(t *testing.T) {
	l, _ := demoLab(t)
	r, is := safety.Parse("rules.yaml", []byte(`interlocks: sums
rules:
  - {id: total, budget: sum(pump_a.dose.volume) per day, max: 0.3 mL}
  - {id: button, trip: room, when: room.emergency, unknown_for: 10 s, respond_within: 20 s, do: [stage.halt]}
`), l)
	if len(is) > 0 {
		t.Fatal(is)
	}
	s := bareShell(t, l, r, nil)
	s.connect()
	s.dosing() // 0.1 mL
	s.set("pump_a.running = false", "pump_a.dispensed = 1.1 mL")
	s.read()
	s.isState("c1", lab.Confirmed, 0)
	s.ask("c2 " + dose)
	s.exchange(false, nil, lab.Ef("test", "pump_a", lab.KindNotSent, "no carrier")) // counts nothing
	s.isState("c2", lab.NotSent, lab.KindNotSent)
	s.ask("c3 pump_a.dose volume=0.15 mL, rate=6 mL/min")
	s.exchange(true, nil, nil) // 0.15 mL, and nobody knows more when the gateway dies
	allowed := func(id, volume string) bool {
		t.Helper()
		n := len(s.journal)
		s.crash()
		l := s.lease("pump_a", "run")
		c := s.command(fmt.Sprintf("%s pump_a.dose volume=%s, rate=6 mL/min", id, volume), l.Lease)
		reply := s.askFor(gateway.Asked{Command: c})
		ok := s.sent[id] == 1
		if !ok && reply.Accepted && s.outcome(id).Issues[0].Rule != "total" {
			t.Errorf("%s: %+v", id, s.outcome(id))
		}
		s.boot(s.journal[:n]) // as if it had never been asked
		s.connect()
		return ok
	}
	if r := s.control(gateway.ResolveAsked{ID: "r", Command: "c3", As: "done", Principal: "operator_1", Reason: "looked"}); r.OK {
		t.Errorf("it is under way: %+v", r)
	}
	s.crash()
	if r := s.control(gateway.ResolveAsked{ID: "r", Command: "c3", As: "done", Principal: "operator_1", Reason: "looked"}); !r.OK {
		t.Fatalf("%+v", r)
	}
	if allowed("d1", "0.06 mL") || !allowed("d2", "0.04 mL") {
		t.Error("0.25 mL of 0.3 mL are used up, and that is not what is counted")
	}
}

// What a person says was done in part counts to the amount, then and after a
// restart; what is no part of it is refused.
func TestResolvePartly(t *testing.T) {
	l, _ := demoLab(t)
	r, is := safety.Parse("rules.yaml", []byte(`interlocks: sums
rules:
  - {id: total, budget: sum(pump_a.dose.volume) per day, max: 0.3 mL}
  - {id: button, trip: room, when: room.emergency, unknown_for: 10 s, respond_within: 20 s, do: [stage.halt]}
`), l)
	if len(is) > 0 {
		t.Fatal(is)
	}
	s := bareShell(t, l, r, nil)
	s.connect()
	s.set("pump_a.dispensed = 1 mL")
	s.read()
	s.lease("pump_a", "run")
	s.ask("c1 pump_a.dose volume=0.2 mL, rate=6 mL/min")
	s.exchange(true, nil, nil)
	s.crash()
	resolve := func(as string, amount *lab.Quantity) messages.ControlReply {
		return s.control(gateway.ResolveAsked{ID: "r", Command: "c1", As: as, Amount: amount, Principal: "operator_1", Reason: "the balance"})
	}
	q := func(v float64, unit string) *lab.Quantity { x := lab.Q(v, unit); return &x }
	nan := lab.Q(math.NaN(), "mL")
	for want, r := range map[string]messages.ControlReply{
		"say how much was done, in mL (--amount)":                  resolve("partly", nil),
		"how much was done is a volume: 3 s is a time":             resolve("partly", q(3, "s")),
		"how much was done is a volume: 0.1 mL/min is a ":          resolve("partly", q(0.1, "mL/min")),
		"0 mL is no part: say not_done":                            resolve("partly", q(0, "mL")),
		"-0.1 mL is no part":                                       resolve("partly", q(-0.1, "mL")),
		"NaN mL is no part":                                        resolve("partly", &nan),
		"0.201 mL is more than the 0.2 mL that were asked for":     resolve("partly", q(0.201, "mL")),
		"an amount goes with partly; it was said that it was done": resolve("done", q(0.1, "mL")),
		"say whether it was done, not_done or partly":              resolve("half", nil),
	} {
		if r.OK || !strings.HasPrefix(r.Say, want) {
			t.Errorf("%q, wanted is %q", r.Say, want)
		}
	}
	if r := resolve("partly", q(50, "uL")); !r.OK || r.Outcome.Amount.String() != "0.05 mL" || r.Say != "operator_1 says it was partly done, 0.05 mL of it: the balance" {
		t.Fatalf("%+v", r)
	}
	try := func(id, volume string) bool {
		l := s.lease("pump_a", "run")
		s.askFor(gateway.Asked{Command: s.command(fmt.Sprintf("%s pump_a.dose volume=%s, rate=6 mL/min", id, volume), l.Lease)})
		return s.sent[id] == 1
	}
	n := len(s.journal)
	s.set("pump_a.running = false")
	s.read()
	if try("d1", "0.26 mL") || !try("d2", "0.25 mL") {
		t.Error("0.05 mL of 0.3 mL are used up, and that is not what is counted")
	}
	s.boot(s.journal[:n])
	s.connect()
	if try("d3", "0.26 mL") || !try("d4", "0.25 mL") {
		t.Error("after a restart: 0.05 mL of 0.3 mL are used up, and that is not what is counted")
	}
}

// An id that comes again with other content is refused, and changes nothing.
func TestIDReused(t *testing.T) {
	s := newShell(t)
	s.dosing()
	check := func() {
		t.Helper()
		s.trace = nil
		other := s.ask("c1 pump_a.dose volume=0.2 mL, rate=6 mL/min")
		if other.Accepted || other.Outcome != nil || other.Issues[0].Code != "id_reused" {
			t.Errorf("%+v", other)
		}
		if r := s.ask("c1 pump_a.stop"); r.Accepted || r.Issues[0].Code != "id_reused" {
			t.Errorf("%+v", r)
		}
		if r := s.ask("c1 pump_a.dose volume=100 uL, rate=6 mL/min"); !r.Known { // the same, in another unit
			t.Errorf("%+v", r)
		}
		if s.sent["c1"] != 1 || len(s.lanes) > 0 {
			t.Errorf("sent %d times, %d orders", s.sent["c1"], len(s.lanes))
		}
	}
	check()
	s.set("pump_a.running = false", "pump_a.dispensed = 1.1 mL")
	s.read()
	s.isState("c1", lab.Confirmed, 0)
	check()
	s.crash()
	s.lanes = nil
	check()
	if r := s.outcomeAsked("c1"); r.State != lab.Confirmed {
		t.Errorf("%+v", r)
	}
}

// Who may learn only of its own commands gets of others what it would get of
// none.
func TestOutcomeIsTheAskersOwn(t *testing.T) {
	s := newShell(t)
	s.dosing()
	ask := func(id, asker string) messages.CommandReply {
		s.step(gateway.OutcomeAsked{Command: id, Asker: asker})
		return s.answers[len(s.answers)-1].(messages.CommandReply)
	}
	for range 2 {
		if r := ask("c1", "planner_1"); !r.Known {
			t.Errorf("its own: %+v", r)
		}
		if r := ask("c1", ""); !r.Known {
			t.Errorf("a person: %+v", r)
		}
		got, want := ask("c1", "planner_2"), ask("c9", "planner_2")
		want.Command = "c1"
		if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); a != b {
			t.Errorf("another's: %s", a)
		}
		s.crash()
	}
}

// More commands than there is room for are refused at once and leave no trace;
// what is safe has room of its own.
func TestFull(t *testing.T) {
	l, r := demoLab(t)
	core, err := gateway.New(gateway.Options{Lab: l, Name: "bench", Rules: r, StartBy: t0.Add(time.Minute), MaxLive: 1})
	if err != nil {
		t.Fatal(err)
	}
	s := bareShell(t, l, r, nil)
	s.core = core
	s.set("room.airflow = 0.5 m/s")
	s.connect()
	s.lease("pump_a", "run")
	s.manual = true
	if r := s.ask("c1 " + dose); !r.Accepted {
		t.Fatalf("%+v", r)
	}
	if r := s.ask("c2 stage.move x=0 mm, y=0 mm, z=0 mm"); r.Accepted || r.Known || r.Issues[0].Code != "busy" || len(s.entriesOf("denial/v1")) > 0 {
		t.Errorf("%+v", r)
	}
	if r := s.ask("c3 pump_a.stop"); !r.Accepted {
		t.Errorf("%+v", r)
	}
}
