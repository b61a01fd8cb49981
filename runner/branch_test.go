package runner_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
	"labgate/runner"
)

// An if does one list or the other, by what a step gave; an unknown condition
// is a failure, not a choice.
func TestIf(t *testing.T) {
	steps := "  - {id: read, do: optics.spectrum, gives: {peak: peak}, on_error: skip}\n" +
		"  - id: gate\n    if: read.peak > 530 nm\n    then: [{id: slow, do: reactor.stir, with: {speed: 100 rpm}}]\n" +
		"    else: [{id: fast, do: reactor.stir, with: {speed: 500 rpm}}]\n" + stir
	for peak, want := range map[string]string{"540 nm": "do reactor.stirrer.stir speed=100 rpm", "520 nm": "do reactor.stirrer.stir speed=500 rpm"} {
		o := begin(t, protocolOf("", steps, ""))
		o.trace = nil
		o.ok("peak = " + peak)
		o.is(want, "event read confirmed peak="+peak)
		o.ok()
		o.is(doStir)
		o.ok()
		o.over()
		if d := o.stopDoc(); d.ExitStatus != messages.ExitSuccess {
			t.Errorf("%s: %+v", peak, d)
		}
	}
	o := begin(t, protocolOf("", steps, ""))
	o.outcome(failed(lab.Failed, lab.KindDeviceRefused, "lamp"))
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitFail || d.Reason != "step gate: read.peak > 530 nm is unknown" {
		t.Errorf("%+v", d)
	}
}

// At the start of a run its readings have not all come yet: an if waits for
// them a little, and no longer.
func TestIfAtTheStart(t *testing.T) {
	steps := "  - id: gate\n    if: reactor.speed > 100 rpm\n    then: [{do: reactor.drain}]\n" + stir
	o := begin(t, protocolOf("", steps, ""))
	o.is(leased...)
	o.pass(protocols.UnknownFor - time.Second)
	o.trace = nil
	o.step(runner.ReadingArrived{ID: lab.PropertyID{Instrument: "reactor", Component: "stirrer", Property: "speed"},
		Reading: lab.Reading{Value: lab.NumberValue(lab.Q(50, "rpm")), Quality: lab.Good, Source: o.now, Received: o.now}})
	o.is(doStir)

	o = begin(t, protocolOf("", steps, ""))
	o.pass(protocols.UnknownFor)
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitFail || d.Reason != "step gate: reactor.speed > 100 rpm is unknown" {
		t.Errorf("%+v", d)
	}
}

// Without an else nothing is done where the condition is false.
func TestIfWithoutElse(t *testing.T) {
	o := begin(t, protocolOf("", "  - {id: gate, if: volume > 0.2 mL, then: [{do: reactor.drain}]}\n"+stir, ""))
	o.is(lines(leased, doStir)...)
}

// A repeat over values does its body once for each, in order.
func TestRepeatOver(t *testing.T) {
	o := begin(t, protocolOf("", `  - id: series
    repeat: {over: {speed: [100 rpm, 250 rpm], dose: {from: 0.1 mL, to: 0.3 mL, points: 2}}}
    steps:
      - {do: reactor.stir, with: {speed: = speed}}
      - {do: pump.dose, with: {volume: = dose, rate: 6 mL/min}}
`, ""))
	o.is(lines(leased, "do reactor.stirrer.stir speed=100 rpm")...)
	o.ok()
	o.is("do pump_a.pump.dose volume=0.1 mL,rate=6 mL/min")
	o.ok("delivered = 0.1 mL")
	o.is("do reactor.stirrer.stir speed=250 rpm")
	o.ok()
	o.is("do pump_a.pump.dose volume=0.3 mL,rate=6 mL/min")
	o.ok("delivered = 0.3 mL")
	o.is(doStop)
}

// A ramp sends its setpoints start to start, the last one exactly its end.
func TestRamp(t *testing.T) {
	o := begin(t, protocolOf("", "  - {id: warm, ramp: {set: reactor.heat.target, from: 20 degC, to: 50 degC, rate: 10 K/s, every: 1 s}}\n", ""))
	o.is(lines(leased, "do reactor.jacket.heat target=30 degC")...)
	for _, target := range []int{40, 50} {
		o.ok()
		o.pass(999 * time.Millisecond)
		o.is()
		o.pass(time.Millisecond)
		o.is(fmt.Sprintf("do reactor.jacket.heat target=%d degC", target))
	}
	o.ok()
	o.is(doStop)
}

// What is to be done in a failed step's place decides how it ends.
func TestInstead(t *testing.T) {
	steps := "  - {id: feed, do: pump.dose, with: {volume: = volume, rate: 6 mL/min}, consequence: scrap,\n" +
		"     on_error: {steps: [{id: out, do: reactor.drain}]}}\n" + stir
	o := begin(t, protocolOf("", steps, ""))
	o.outcome(failed(lab.Failed, lab.KindDeviceRefused, "stalled"))
	o.is(lines(leased, doFeed, doDrain, "event feed failed ")...)
	o.ok()
	o.is(doStir)

	o = begin(t, protocolOf("", steps, ""))
	o.outcome(failed(lab.Failed, lab.KindDeviceRefused, "stalled"))
	o.outcome(failed(lab.Failed, lab.KindDeviceRefused, "stuck"))
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitFail || d.Consequence != "scrap" || d.Reason != "step feed.out: failed: stuck" {
		t.Errorf("%+v", d)
	}
}

// A protocol may say for all its steps what a failure means.
func TestOnErrorOfAll(t *testing.T) {
	p := protocolOf("on_error: skip\nconsequence: salvage\n", stir+feed+"  - {id: empty, do: reactor.drain, on_error: abort}\n", "")
	o := begin(t, p)
	o.outcome(failed(lab.Failed, lab.KindDeviceRefused, "no"))
	o.ok("delivered = 0.1 mL")
	o.outcome(failed(lab.Failed, lab.KindDeviceRefused, "no"))
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitFail || d.Consequence != "salvage" {
		t.Errorf("%+v", d)
	}
}

// The branches of a parallel stop each other as its policy says.
func TestBranchPolicies(t *testing.T) {
	steps := func(policy string) string {
		return "  - id: both\n    policy: " + policy + "\n    parallel:\n  " + feed[:len(feed)-1] + "\n  " + stir + "  - {id: empty, do: reactor.drain}\n"
	}
	o := begin(t, protocolOf("", steps("any"), "")) // the stirrer is first: the dose is stopped
	o.trace = nil
	dose, stirred := o.sent("dose"), o.sent("stir")
	o.outcomeOf(stirred, lab.Outcome{State: lab.Confirmed})
	o.is("do pump_a.pump.stop  (finally)")
	o.outcomeOf(o.sent("stop"), lab.Outcome{State: lab.Confirmed})
	o.outcomeOf(dose, lab.Outcome{State: lab.Partial, Say: "stopped"})
	o.is(doDrain, "event both.feed partial ")

	o = begin(t, protocolOf("", steps("each"), "")) // one fails, the other goes on
	o.trace = nil
	dose, stirred = o.sent("dose"), o.sent("stir")
	o.outcomeOf(dose, failed(lab.Failed, lab.KindDeviceRefused, "stalled"))
	o.is("event both.feed failed ")
	o.outcomeOf(stirred, lab.Outcome{State: lab.Confirmed})
	o.is(doStop)
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitFail || d.Reason != "step both.feed: failed: stalled" || d.Consequence != "unknown" {
		t.Errorf("%+v", d)
	}
}

// sent is the id of a command that waits for its outcome.
func (o *office) sent(command string) string {
	o.Helper()
	for _, c := range o.commands {
		if c.Command == command {
			return c.ID
		}
	}
	o.Fatalf("no %s waits; so far:\n%s", command, strings.Join(o.trace, "\n"))
	return ""
}
