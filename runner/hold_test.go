package runner_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/runner"
	"labgate/safety/preflight"
)

// trip tells of a trip that holds the first run for a minute.
func (o *office) holdTrip(rule string) {
	o.Helper()
	d := lab.Q(60, "s")
	o.step(runner.SafetyArrived{Safety: messages.Safety{What: messages.SafetyTrip, Rule: rule, Runs: []string{"id1"}, RunAction: "hold", HoldFor: &d, Say: "too warm"}})
}

func (o *office) reset(rule string) {
	o.Helper()
	o.step(runner.SafetyArrived{Safety: messages.Safety{What: messages.SafetyReset, Rule: rule}})
}

// A trip that holds keeps a run where it is, with its leases, until a person
// lets it go on after the reset.
func TestHold(t *testing.T) {
	o := begin(t, protocolOf("", stir+feed, ""))
	o.trace = nil
	o.holdTrip("warm")
	o.is()
	i := o.run("id1")
	if i.State != "held" || i.HeldUntil == nil || !i.HeldUntil.Equal(o.now.Add(time.Minute)) || !strings.Contains(i.Say, "warm") {
		t.Errorf("%+v", i)
	}
	o.ok() // what was under way comes to its end, and nothing follows
	o.is()
	o.pass(9 * time.Second)
	if !strings.Contains(strings.Join(o.trace, "\n"), "renew") {
		t.Error("its leases are not renewed")
	}
	for who, r := range map[string]messages.ControlReply{"an agent": o.control("planner_1", messages.ControlRelease, "id1"), "a scientist": o.control("scientist_1", messages.ControlRelease, "id1"),
		"before the reset": o.control("operator_1", messages.ControlRelease, "id1"), "no run": o.control("operator_1", messages.ControlRelease, "id9")} {
		if r.OK || r.Say == "" {
			t.Errorf("%s: %+v", who, r)
		}
	}
	o.reset("warm")
	o.trace = nil
	o.manual = true
	if r := o.control("operator_1", messages.ControlRelease, "id1"); !r.OK {
		t.Fatalf("%+v", r)
	}
	o.is() // not before it is durable
	o.manual = false
	o.commit()
	o.is(doFeed)
	if i := o.run("id1"); i.State != "running" || i.HeldUntil != nil {
		t.Errorf("%+v", i)
	}
	if r := o.control("operator_1", messages.ControlRelease, "id1"); r.OK {
		t.Errorf("it runs: %+v", r)
	}
	o.ok("delivered = 0.1 mL")
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitSuccess {
		t.Errorf("%+v", d)
	}
}

// A hold ends in an abort, without a cleanup, when its time is up.
func TestHoldEnds(t *testing.T) {
	o := begin(t, protocolOf("", stir+feed, drain))
	o.holdTrip("warm")
	o.ok()
	o.pass(61 * time.Second)
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitAbort || d.Rule != "warm" || !strings.Contains(d.Reason, "until its time was up") {
		t.Errorf("%+v", d)
	}
	if strings.Contains(strings.Join(o.trace, "\n"), doDrain) {
		t.Error("cleaned up after a trip")
	}
}

// A held run can be ended; a trip that aborts ends it; one that comes between
// the order to go on and its being durable keeps it.
func TestHoldIsEnded(t *testing.T) {
	for name, end := range map[string]func(o *office){
		"person": func(o *office) {
			if r := o.control("planner_1", messages.ControlAbort, "id1"); !r.OK {
				t.Errorf("%+v", r)
			}
		},
		"trip": func(o *office) {
			o.step(runner.SafetyArrived{Safety: messages.Safety{What: messages.SafetyTrip, Rule: "hot", Runs: []string{"id1"}, RunAction: "abort", Say: "too hot"}})
		},
	} {
		o := begin(t, protocolOf("", stir+feed, ""))
		o.holdTrip("warm")
		o.ok()
		end(o)
		o.over()
		if d := o.stopDoc(); d.ExitStatus != messages.ExitAbort {
			t.Errorf("%s: %+v", name, d)
		}
		if len(o.held) != 0 {
			t.Errorf("%s: it holds %v", name, o.held)
		}
	}
	o := begin(t, protocolOf("", stir+feed, ""))
	o.holdTrip("warm")
	o.ok()
	o.reset("warm")
	o.manual = true
	o.control("operator_1", messages.ControlRelease, "id1")
	o.holdTrip("other")
	o.trace, o.manual = nil, false
	o.commit()
	o.is()
	if i := o.run("id1"); i.State != "held" {
		t.Errorf("%+v", i)
	}
}

// Nobody whose vetting has expired is served, not even with a query.
func TestVettingOfControl(t *testing.T) {
	o := begin(t, protocolOf("", stir, ""))
	for _, action := range []string{messages.ControlRuns, messages.ControlAbort, messages.ControlVerdict} {
		if r := o.control("late_1", action, "id1"); r.OK || !strings.Contains(r.Say, "expired") {
			t.Errorf("%s: %+v", action, r)
		}
	}
}

// New rules of the gateway are read before anything is accepted again; plans
// of before are not begun.
func TestRulesChange(t *testing.T) {
	o := newOffice(t, protocolOf("", stir, ""))
	o.noLeases = true
	o.accepted("planner_1", proposal("k1", "p@1.0.0", ""))
	asked := func(act func()) bool {
		n := len(o.loads)
		act()
		return len(o.loads) > n
	}
	if !asked(func() {
		o.step(runner.SafetyArrived{Safety: messages.Safety{What: messages.SafetyRules, RulesHash: "sha256:new"}})
	}) {
		t.Fatal("nobody asked for the new rules")
	}
	o.propose("planner_1", proposal("k2", "p@1.0.0", ""))
	if v := o.verdicts[len(o.verdicts)-1]; v.Decision != messages.RejectedDecision || v.Issues[0].Code != "rules_changing" {
		t.Errorf("%+v", v)
	}
	o.step(runner.RulesLoaded{Err: errors.New("no such file")})
	o.propose("planner_1", proposal("k3", "p@1.0.0", ""))
	if v := o.verdicts[len(o.verdicts)-1]; v.Decision != messages.RejectedDecision {
		t.Errorf("%+v", v)
	}
	r := o.leases[0] // asked for under the rules of before
	o.leases = o.leases[1:]
	if r.RulesHash != o.cfg.Rules.Hash {
		t.Errorf("a lease under %s", r.RulesHash)
	}
	o.step(runner.RulesLoaded{Rules: runner.Rules{Hash: "sha256:new", Preflight: preflight.With(o.cfg.Rules)}})
	o.step(runner.LeaseReplied{Run: r.Run, Action: r.Action, Reply: messages.LeaseReply{Instrument: r.Instrument, Issues: lab.Issues{{Code: "rules_changed", Say: "other rules"}}}})
	if i := o.run("id1"); i.State != "failed" || !strings.Contains(i.Say, "propose it again") {
		t.Errorf("%+v", i)
	}
	o.accepted("planner_1", proposal("k4", "p@1.0.0", ""))
	if r := o.leases[len(o.leases)-1]; r.RulesHash != "sha256:new" {
		t.Errorf("a lease under %s", r.RulesHash)
	}
}

// A stop ends a run that is asking for its leases, whatever the answer is: whoever
// resets the stop must not set it off.
func TestStopWhileLeasing(t *testing.T) {
	for _, refuse := range []string{"", "not ready"} {
		o := newOffice(t, protocolOf("", stir, ""))
		o.noLeases = true
		id := o.accepted("planner_1", proposal("k", "p@1.0.0", ""))
		o.step(runner.SafetyArrived{Safety: messages.Safety{What: messages.SafetyStop, Rule: "stop", RunAction: "abort", Instruments: o.cfg.Lab.Names(), Say: "stopped by operator_1"}})
		o.lease(refuse)
		o.noLeases = false
		o.pass(5 * time.Second)
		if r := o.run(id); r.State != string(runner.Aborted) || r.Ended == nil || !strings.Contains(r.Say, "stopped by operator_1") || len(o.held) > 0 {
			t.Errorf("%q: %+v, leases %v", refuse, r, o.held)
		}
	}
}

// A person holds a run for a time: it says how things stand; nobody who may not
// does, and none for ever. What was held goes on after a restart by a person's
// word only.
func TestHoldByPerson(t *testing.T) {
	o := begin(t, protocolOf("", stir+feed, drain))
	hold := func(who string, d *lab.Quantity) messages.ControlReply {
		o.step(runner.ControlAsked{Principal: who, Control: messages.Control{Kind: messages.KindControl, ID: "x", Action: messages.ControlHold, Run: "id1", For: d, Reason: "a look"}})
		return o.answers[len(o.answers)-1]
	}
	zero, ever, litre := lab.Q(0, "s"), lab.Q(13, "h"), lab.Q(1, "L")
	for name, r := range map[string]messages.ControlReply{"its agent": hold("planner_1", nil), "a scientist": hold("scientist_1", nil),
		"no time": hold("operator_1", &zero), "too long": hold("operator_1", &ever), "no time at all": hold("operator_1", &litre)} {
		if r.OK || r.Say == "" || o.run("id1").State != "running" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	o.ok() // it stirs, and doses
	o.trace = nil
	d := lab.Q(5, "min")
	if r := hold("operator_1", &d); !r.OK || !strings.Contains(r.Say, "held by operator_1: a look; aborted at 2026-11-22T09:05:00Z unless it is resumed") {
		t.Fatalf("%+v", r)
	}
	i := o.run("id1")
	if i.State != "held" || !i.HeldUntil.Equal(t0.Add(5*time.Minute)) || strings.Join(i.Standing, "; ") != "reactor.stirrer.stir speed 300 rpm; pump_a.pump.dose rate 6 mL/min, volume 0.1 mL (under way)" {
		t.Errorf("%+v", i)
	}
	o.ok("delivered = 0.1 mL")
	o.is()
	if s := o.run("id1").Standing; len(s) != 1 {
		t.Errorf("the dose is over: %v", s)
	}
	o.restart()
	o.pass(6 * time.Minute)
	o.is()
	if i := o.run("id1"); i.State != "held" {
		t.Errorf("%+v", i)
	}
	if r := o.control("operator_1", messages.ControlRelease, "id1"); !r.OK {
		t.Fatalf("%+v", r)
	}
	if i := o.run("id1"); i.State != "running" {
		t.Errorf("%+v", i)
	}
	if last := o.trace[len(o.trace)-1]; last != doStir { // what it had set is set again first
		t.Errorf("%v", o.trace)
	}
}

// A trip that holds what a person holds already keeps the earlier end, and the
// run is not cleaned up after it.
func TestHoldOnHold(t *testing.T) {
	o := begin(t, protocolOf("", stir+feed, drain))
	o.control("operator_1", messages.ControlHold, "id1")
	o.holdTrip("warm")
	o.ok()
	o.pass(61 * time.Second)
	o.over()
	if d := o.stopDoc(); d.Rule != "warm" || strings.Contains(strings.Join(o.trace, "\n"), doDrain) {
		t.Errorf("%+v", d)
	}
}
