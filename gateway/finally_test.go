package gateway_test

import (
	"strings"
	"testing"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
)

// A step of a run's finally takes the lane only if a safe list names it.
func TestFinally(t *testing.T) {
	s := newShell(t)
	s.lease("pump_a", "run")
	s.lease("reactor", "run")
	s.trace = nil
	finally := func(text string) messages.CommandReply {
		return s.askFor(gateway.Asked{Command: s.command(text, 1), Finally: true})
	}
	if r := finally("c1 pump_a.stop"); !r.Accepted {
		t.Error(r.Issues)
	}
	s.is("answer accepted", "lane pump_a.pump.stop (finally)", "note order")
	if r := finally("c2 pump_a.stop"); !r.Accepted { // the order is on its way already
		t.Error(r.Issues)
	}
	s.is("answer accepted")
	s.write(true, nil)
	s.read()
	s.isState("c1", lab.Confirmed, 0)
	s.isState("c2", lab.Confirmed, 0)
	s.trace = nil
	finally("c3 reactor.stir_off") // safe, but the stirrer is not in the list: decided like any other
	s.is("answer accepted", "refresh c3", "append allow+intent", "send reactor.stirrer.stir_off")
	finally("c4 reactor.heat target=30 degC") // no label makes it safe
	s.is("answer accepted", "refresh c4", "append allow+intent", "send reactor.jacket.heat")
	finally("c5 pump_a.stop")
	s.write(false, lab.Ef("test", "pump_a", lab.KindUnavailable, "no carrier"))
	s.isState("c5", lab.Failed, lab.KindOutcomeUnknown)
	finally("c6 pump_a.stop")
	s.epoch["pump_a"]++
	s.step(gateway.LinkUp{Instrument: "pump_a", Epoch: s.epoch["pump_a"]})
	s.write(true, nil)
	s.read()
	s.isState("c6", lab.Confirmed, 0)
	if r := s.askFor(gateway.Asked{Command: s.command("c7 pump_a.stop", 9), Finally: true}); r.Accepted {
		t.Error("another's lease")
	}
}

// A safe step stops what it stops.
func TestSafeStepStopsADose(t *testing.T) {
	s := inPhase(t, "watching")
	s.ask("c2 pump_a.stop")
	if len(s.sends) != 1 {
		t.Fatalf("%s", strings.Join(s.trace, "\n"))
	}
	s.writeAll()
	s.exchange(true, nil, nil)
	s.set("pump_a.running = false")
	s.read()
	s.isState("c1", lab.Partial, lab.KindCancelled)
	s.isState("c2", lab.Confirmed, 0)
}

// on_start: safe brings an instrument to its safe state when it first answers,
// and never again.
func TestOnStart(t *testing.T) {
	l, r := demoLab(t)
	l.Instrument("stage").OnStart = "safe"
	s := bareShell(t, l, r, nil)
	s.step(gateway.LinkUp{Instrument: "stage", Epoch: 1})
	s.step(gateway.LinkUp{Instrument: "pump_a", Epoch: 1})
	if len(s.lanes) != 1 || s.lanes[0].Order.Target().String() != "stage.xyz.halt" || s.lanes[0].Order.Origin() != safety.OriginStart {
		t.Errorf("%+v", s.lanes)
	}
	s.writeAll()
	s.step(gateway.LinkUp{Instrument: "stage", Epoch: 2})
	if len(s.lanes) != 0 {
		t.Error("again")
	}
}
