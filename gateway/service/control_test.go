package service_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"labgate/internal/bus"
	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
)

// ask puts a control message on the subject of whoever asks.
func (b *bench) ask(who string, c messages.Control) messages.ControlReply {
	b.t.Helper()
	c.Kind, c.ID = messages.KindControl, "x"
	b.bus.mu.Lock()
	b.bus.handlers[bus.Control("demo", who)] = b.bus.handlers[bus.Control("demo", "*")]
	b.bus.mu.Unlock()
	var r messages.ControlReply
	b.request(bus.Control("demo", who), c, &r)
	return r
}

// A2: agents can't reset, bypass, acknowledge, reload or see trips, and nobody
// can whose vetting has expired.
func TestControlIsForPeople(t *testing.T) {
	b := start(t, nil)
	q := lab.Q(60, "s")
	for _, c := range []messages.Control{
		{Action: messages.ControlReset, Rule: "stop", Reason: "x"}, {Action: messages.ControlResolve, Command: "c", As: "done", Reason: "x"},
		{Action: messages.ControlBypass, Rule: "dosing-needs-hood", Reason: "x", For: &q}, {Action: messages.ControlRearm, Rule: "dosing-needs-hood"},
		{Action: messages.ControlAcknowledge, Rule: "x"}, {Action: messages.ControlReload}, {Action: messages.ControlTrips},
	} {
		if r := b.ask("planner_1", c); r.OK || !strings.Contains(r.Say, "planner_1 is an agent; only ") || r.Status != nil {
			t.Errorf("%s by an agent: %+v", c.Action, r)
		}
		if r := b.ask("operator_2", c); r.OK || !strings.Contains(r.Say, "vetting of operator_2 expired") || r.Status != nil {
			t.Errorf("%s without vetting: %+v", c.Action, r)
		}
		if r := b.ask("nobody", c); r.OK {
			t.Errorf("%s by nobody: %+v", c.Action, r)
		}
	}
	for _, action := range []string{messages.ControlStatus, messages.ControlOutcome} {
		if r := b.ask("operator_2", messages.Control{Action: action}); r.OK {
			t.Errorf("%s without vetting: %+v", action, r)
		}
	}
	if r := b.ask("planner_1", messages.Control{Action: messages.ControlStatus}); !r.OK || r.Status == nil {
		t.Errorf("%+v", r)
	}
	if r := b.ask("operator_1", messages.Control{Action: messages.ControlTrips}); !r.OK || r.Status == nil || r.ID != "x" {
		t.Errorf("%+v", r)
	}
}

// A bypass over the bus: who, why, for how long.
func TestBypassOverTheBus(t *testing.T) {
	b := start(t, nil)
	q, mass := lab.Q(30, "min"), lab.Q(1, "mL")
	bypass := messages.Control{Action: messages.ControlBypass, Rule: "dosing-needs-hood", Reason: "filter change", For: &q}
	for name, c := range map[string]messages.Control{"no time": {Action: bypass.Action, Rule: bypass.Rule, Reason: "x"}, "no duration": {Action: bypass.Action, Rule: bypass.Rule, Reason: "x", For: &mass},
		"no reason": {Action: bypass.Action, Rule: bypass.Rule, For: &q}} {
		if r := b.ask("operator_1", c); r.OK || r.Say == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := b.ask("operator_1", bypass); !r.OK {
		t.Fatalf("%+v", r)
	}
	r := b.ask("operator_1", messages.Control{Action: messages.ControlTrips})
	if r.Status == nil || len(r.Status.Bypasses) != 1 || r.Status.Bypasses[0].By != "operator_1" || time.Until(r.Status.Bypasses[0].Until) > 31*time.Minute {
		t.Errorf("%+v", r.Status)
	}
	if r := b.ask("operator_1", messages.Control{Action: messages.ControlRearm, Rule: bypass.Rule}); !r.OK {
		t.Errorf("%+v", r)
	}
}

// The file is read again when somebody says so.
func TestReloadOverTheBus(t *testing.T) {
	b := start(t, nil)
	bad := func() (*safety.Rules, error) { return nil, errors.New("permission denied") }
	b.load.Store(&bad)
	if r := b.ask("operator_1", messages.Control{Action: messages.ControlReload}); r.OK || !strings.Contains(r.Say, "permission denied") {
		t.Errorf("%+v", r)
	}
	if st := b.status(); len(st.Alarms) != 1 || st.RulesHash != b.cfg.Rules.Hash {
		t.Errorf("%+v", st)
	}
	text := strings.Replace(string(b.cfg.Interlocks), "max: 0.45 mL", "max: 0.4 mL", 1)
	good := func() (*safety.Rules, error) {
		r, is := safety.Parse("interlocks.yaml", []byte(text), b.cfg.Lab)
		return r, is.Err()
	}
	b.load.Store(&good)
	if r := b.ask("operator_1", messages.Control{Action: messages.ControlReload}); !r.OK {
		t.Errorf("%+v", r)
	}
	if st := b.status(); len(st.Alarms) != 0 || st.RulesHash == b.cfg.Rules.Hash {
		t.Errorf("%+v", st)
	}
}

// An outcome is told to whoever asked for the command, and to people.
func TestOutcomeOverTheBus(t *testing.T) {
	b := start(t, nil)
	id := b.do("reactor", "stirrer", "stir", b.lease("reactor"), map[string]lab.Value{"speed": lab.NumberValue(lab.Q(400, "rpm"))})
	b.outcome(id)
	for who, ok := range map[string]bool{"planner_1": true, "operator_1": true, "planner_2": false} {
		if r := b.ask(who, messages.Control{Action: messages.ControlOutcome, Command: id}); r.OK != ok || (r.Outcome != nil) != ok {
			t.Errorf("%s: %+v", who, r)
		}
	}
}

// What was to be published while the bus was away is published when it is back.
func TestDocumentsWaitForTheBus(t *testing.T) {
	b := start(t, nil)
	lease := b.lease("reactor")
	b.bus.gone.Store(true)
	id := b.do("reactor", "stirrer", "stir", lease, map[string]lab.Value{"speed": lab.NumberValue(lab.Q(400, "rpm"))})
	b.eventually("it is done", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.world.Count("reactor").StirrerStarts > 0
	})
	b.bus.gone.Store(false)
	if o := b.outcome(id); !o.OK() {
		t.Errorf("%+v", o)
	}
}

// Connections that say nothing don't keep a stop from getting through.
func TestSilentConnections(t *testing.T) {
	b := start(t, nil)
	var last net.Conn
	for range 40 {
		c, err := net.Dial("unix", b.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		last = c
	}
	if err := last.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := last.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("the socket was not full: %v; this shows nothing", err)
	}
	b.eventually("there is room again", func() bool { return b.status() != nil })
}
