package runner_test

import (
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/runner"
)

// protocolOf writes a protocol of a pump, a reactor and a spectrometer.
func protocolOf(budget, steps, cleanup string) string {
	s := "protocol: p\nversion: 1.0.0\n" + `inputs:
  volume: {unit: mL, min: 0.01, max: 0.4, default: 0.1}
roles:
  pump:    {is: pump/v1}
  reactor: {is: [thermostat/v1, stirrer/v1, vessel/v1]}
  optics:  {is: spectrometer/v1}
` + budget + "steps:\n" + steps
	if cleanup != "" {
		s += "cleanup:\n" + cleanup
	}
	return s + `finally:
  - {id: stop_it, do: pump.stop}
  - {id: cool, do: reactor.heat_off}
`
}

const (
	stir  = "  - {id: stir, do: reactor.stir, with: {speed: 300 rpm}}\n"
	feed  = "  - {id: feed, do: pump.dose, with: {volume: = volume, rate: 6 mL/min}}\n"
	drain = "  - {id: empty, do: reactor.drain}\n"

	doStir  = "do reactor.stirrer.stir speed=300 rpm"
	doFeed  = "do pump_a.pump.dose volume=0.1 mL,rate=6 mL/min"
	doDrain = "do reactor.vessel.drain "
	doRead  = "do spectrometer.optics.spectrum "
	doStop  = "do pump_a.pump.stop  (finally)"
	doCool  = "do reactor.jacket.heat_off  (finally)"
)

var (
	leased   = []string{"verdict accepted", "lease pump_a to id1", "lease reactor to id1", "lease spectrometer to id1", "start"}
	released = []string{"release pump_a", "release reactor", "release spectrometer"}
)

// A command goes out before the event of the step before it is durable and
// told: that is the order of the lines below.
func lines(parts ...any) []string {
	var list []string
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			list = append(list, p)
		case []string:
			list = append(list, p...)
		}
	}
	return list
}

// begin starts a run of a protocol and returns its id.
func begin(t *testing.T, protocol string) *office {
	t.Helper()
	o := newOffice(t, protocol)
	o.accepted("planner_1", proposal("k", "p@1.0.0", ""))
	return o
}

// over ends the two steps of the finally.
func (o *office) over() {
	o.Helper()
	o.ok()
	o.ok()
}

func failed(state lab.State, kind lab.Kind, say string) lab.Outcome {
	return lab.Outcome{State: state, Kind: kind, Say: say}
}

func TestSequence(t *testing.T) {
	o := begin(t, protocolOf("", stir+feed, drain))
	o.is(lines(leased, doStir)...)
	if c := o.last; c.Run != "id1" || c.Step != "stir" || c.Principal != "planner_1" || c.Lease == 0 || !c.NotAfter.Equal(t0.Add(10*time.Second)) || c.Finally {
		t.Errorf("%+v", c)
	}
	o.ok()
	o.is(doFeed)
	if i := o.run("id1"); i.State != "running" || i.Step != "feed" {
		t.Errorf("%+v", i)
	}
	o.ok("delivered = 0.1 mL")
	o.is(doDrain)
	o.ok()
	o.is(doStop)
	o.ok()
	o.is(doCool)
	o.ok()
	o.is(lines("stop success ", released)...)
	if i := o.run("id1"); i.State != "done" || i.Ended == nil {
		t.Errorf("%+v", i)
	}
	if len(o.held) != 0 || !o.core.Next().IsZero() {
		t.Errorf("held %v, next %s", o.held, o.core.Next())
	}
}

// A failed step ends the run: cleanup, then finally; the part that was done is
// part of the record.
func TestFailure(t *testing.T) {
	amount := lab.Q(0.04, "mL")
	for name, c := range map[string]struct {
		out  lab.Outcome
		want []string
	}{
		"partial": {lab.Outcome{State: lab.Partial, Kind: lab.KindDenied, Amount: &amount, Say: "hood"},
			[]string{doDrain, "event feed partial amount=0.04 mL"}},
		"in doubt":     {failed(lab.InDoubt, lab.KindOutcomeUnknown, "no sign"), []string{doDrain, "event feed in_doubt "}},
		"not sent":     {failed(lab.NotSent, lab.KindNotSent, "no link"), []string{doDrain, "event feed not_sent "}}, // S4
		"refused":      {lab.Outcome{State: lab.Refused, Kind: lab.KindDenied, Say: "no", Issues: lab.Issues{{Rule: "hood", Say: "no"}}}, []string{doDrain, "event feed refused "}},
		"contradicted": {failed(lab.Contradicted, lab.KindContradicted, "no"), []string{doDrain, "event feed contradicted "}},
	} {
		t.Run(name, func(t *testing.T) {
			o := begin(t, protocolOf("", strings.Replace(feed, "}}\n", "}, on_error: abort}\n", 1)+stir, drain))
			o.trace = nil
			o.outcome(c.out)
			o.is(c.want...)
			o.pass(5 * time.Second) // nothing effectful is tried again
			if n := strings.Count(strings.Join(o.trace, "\n"), "do "); n != 0 {
				t.Errorf("%v", o.trace)
			}
			o.ok() // drain
			o.over()
			d := o.stopDoc()
			if d.ExitStatus != messages.ExitFail || !strings.HasPrefix(d.Reason, "step feed: "+c.out.State.String()+": ") || name == "refused" && d.Rule != "hood" {
				t.Errorf("%+v", d)
			}
			if i := o.run("id1"); i.State != "failed" || (name == "in doubt") != (len(i.InDoubt) == 1) {
				t.Errorf("%+v", i)
			}
		})
	}
}

// S4: only what may be repeated is tried again, as often as its policy says.
func TestRetries(t *testing.T) {
	read := "  - {id: read, do: optics.spectrum, gives: {peak: peak}, on_error: {retry: 2, then: skip}}\n"
	o := begin(t, protocolOf("", read+stir, ""))
	o.is(lines(leased, doRead)...)
	for range 2 {
		o.outcome(failed(lab.Failed, lab.KindOutcomeUnknown, "no answer"))
		o.is()
		o.pass(199 * time.Millisecond)
		o.is()
		o.pass(time.Millisecond)
		o.is(doRead)
	}
	o.outcome(failed(lab.Failed, lab.KindOutcomeUnknown, "no answer"))
	o.is(doStir, "event read failed ") // skipped
	o.ok()
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitSuccess {
		t.Errorf("%+v", d)
	}

	o = begin(t, protocolOf("", read+stir, "")) // what is in doubt is not tried again, whatever it is
	o.trace = nil
	o.outcome(failed(lab.InDoubt, lab.KindOutcomeUnknown, "lost"))
	o.pass(time.Second)
	o.is(doStir, "event read in_doubt ")
}

func TestSkipAndContinue(t *testing.T) {
	for then, want := range map[string]string{"skip": messages.ExitFail, "continue": messages.ExitFail, "abort": messages.ExitFail} {
		o := begin(t, protocolOf("outputs:\n  peak: {unit: nm, from: read.peak, required: true}\n",
			"  - {id: read, do: optics.spectrum, gives: {peak: peak}, on_error: "+then+"}\n"+stir, ""))
		o.outcome(failed(lab.Failed, lab.KindDeviceRefused, "lamp"))
		if went := o.last.Command == "stir"; went == (then == "abort") {
			t.Errorf("%s: %v", then, o.trace)
		}
		if then != "abort" {
			o.ok()
		}
		o.over()
		if d := o.stopDoc(); d.ExitStatus != want || then != "abort" && d.Reason != "output peak has no value" {
			t.Errorf("%s: %+v", then, d)
		}
	}
}

// A wait goes on when its condition has held, by readings; by time alone it
// times out.
func TestWait(t *testing.T) {
	wait := func(more string) string {
		return "  - {id: w, wait: {until: reactor.speed > 200 rpm, for: 0.5 s, timeout: 3 s}" + more + "}\n" + stir
	}
	speed := func(o *office, rpm float64) {
		o.step(runner.ReadingArrived{ID: lab.PropertyID{Instrument: "reactor", Component: "stirrer", Property: "speed"},
			Reading: lab.Reading{Value: lab.NumberValue(lab.Q(rpm, "rpm")), Quality: lab.Good, Source: o.now, Received: o.now}})
	}
	o := begin(t, protocolOf("", wait(""), ""))
	o.is(leased...)
	speed(o, 300)
	o.pass(400 * time.Millisecond)
	speed(o, 100)
	o.pass(100 * time.Millisecond)
	speed(o, 300)
	o.pass(499 * time.Millisecond)
	o.is()
	o.pass(time.Millisecond)
	o.is(doStir)

	o = begin(t, protocolOf("", wait(""), ""))
	o.trace = nil
	speed(o, 300)
	o.pass(250 * time.Millisecond)
	o.step(runner.ReadingArrived{ID: lab.PropertyID{Instrument: "reactor", Component: "stirrer", Property: "speed"}, Reading: lab.Reading{Quality: lab.Bad, Received: o.now}})
	o.pass(2749 * time.Millisecond)
	o.is()
	o.pass(time.Millisecond)
	o.is(doStop)
	o.over()
	if d := o.stopDoc(); d.Reason != "step w: reactor.speed > 200 rpm did not hold within 3 s" || d.ExitStatus != messages.ExitFail {
		t.Errorf("%+v", d)
	}

	o = begin(t, protocolOf("", wait(", else: continue"), ""))
	o.trace = nil
	o.pass(3 * time.Second)
	o.is(doStir)

	o = begin(t, protocolOf("", "  - {id: w, wait: {for: 2 s}}\n"+stir, ""))
	o.trace = nil
	o.pass(1999 * time.Millisecond)
	o.is()
	o.pass(time.Millisecond)
	o.is(doStir)
}

// Steps side by side end together; when one fails the others are stopped and
// awaited, and what has not begun never does.
func TestParallel(t *testing.T) {
	both := "  - id: both\n    parallel:\n      - {id: a, do: pump.dose, with: {volume: = volume, rate: 6 mL/min}}\n      - {id: b, do: reactor.stir, with: {speed: 300 rpm}}\n"
	o := begin(t, protocolOf("", both, drain))
	o.is(lines(leased, doFeed, doStir)...)
	o.outcomeOf(o.commands[1].ID, lab.Outcome{State: lab.Confirmed})
	o.is()
	o.ok("delivered = 0.1 mL")
	o.is(doDrain)

	o = begin(t, protocolOf("", both, drain))
	o.trace = nil
	o.outcomeOf(o.commands[1].ID, failed(lab.Failed, lab.KindDeviceRefused, "jammed"))
	o.is("do pump_a.pump.stop  (finally)", "event both.b failed ")
	amount := lab.Q(0.03, "mL")
	o.outcome(lab.Outcome{State: lab.Partial, Kind: lab.KindCancelled, Amount: &amount, Say: "stopped"})
	o.is("event both.a partial amount=0.03 mL") // told, and the stop is awaited still
	o.ok()
	o.is(doDrain)
	o.ok()
	o.over()
	if d := o.stopDoc(); !strings.HasPrefix(d.Reason, "step both.b: failed: jammed") {
		t.Errorf("%+v", d)
	}

	// The first branch can't even be asked for: its argument is unknown. The
	// dose beside it must not begin.
	o = begin(t, protocolOf("", "  - id: both\n    parallel:\n      - {id: a, do: reactor.stir, with: {speed: = reactor.speed * 2}}\n      - {id: b, do: pump.dose, with: {volume: = volume, rate: 6 mL/min}}\n", ""))
	o.is(lines(leased, doStop)...)

	// A branch that goes round and round does not go on when another failed.
	loop := "  - id: both\n    parallel:\n      - {id: a, do: reactor.stir, with: {speed: 300 rpm}}\n      - id: b\n        repeat: {max: 50}\n        steps:\n          - {id: read, do: optics.spectrum, gives: {peak: peak}, on_error: {retry: 5}}\n"
	o = begin(t, protocolOf("", loop, drain))
	o.is(lines(leased, doStir, doRead)...)
	o.outcome(failed(lab.Failed, lab.KindDeviceRefused, "jammed"))
	o.is("event both.a failed ")
	o.outcome(failed(lab.Failed, lab.KindOutcomeUnknown, "no answer"))
	o.pass(time.Second)
	o.is(doDrain, "event both.b.read failed ")
}

// A repeat is start to start; its until sees the iterations.
func TestRepeat(t *testing.T) {
	grow := func(more string) string {
		return protocolOf("outputs:\n  peak: {unit: nm, from: grow.last.read.peak, required: true}\n",
			"  - id: grow\n    repeat: {max: 4, every: 0.5 s, until: i > 1 and abs(last.read.peak - previous.read.peak) < 1 nm}\n    steps:\n      - {id: read, do: optics.spectrum, gives: {peak: peak}, on_error: skip}\n"+more, "")
	}
	peaks := func(o *office, list ...string) {
		for i, p := range list {
			if i > 0 {
				o.pass(400 * time.Millisecond)
			}
			if len(o.commands) != 1 {
				t.Fatalf("%d: %v", i, o.trace)
			}
			o.pass(100 * time.Millisecond)
			if p == "" {
				o.outcome(failed(lab.Failed, lab.KindDeviceRefused, "lamp"))
				continue
			}
			o.ok("peak = "+p, "spectrum = x")
		}
	}
	o := begin(t, grow(""))
	peaks(o, "530 nm", "525 nm", "524.5 nm")
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitSuccess || d.Outputs["peak"].Num != 524.5 || d.NumEvents["grow.read"] != 3 {
		t.Errorf("%+v", d)
	}
	o = begin(t, grow("")) // a value that was skipped is unknown: no steadiness by it
	peaks(o, "530 nm", "", "530 nm", "530 nm")
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitSuccess {
		t.Errorf("%+v", d)
	}
	o = begin(t, grow(""))
	peaks(o, "530 nm", "520 nm", "510 nm", "500 nm")
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitFail || !strings.Contains(d.Reason, "was not reached in 4 iterations") || d.Outputs["peak"].Num != 500 {
		t.Errorf("%+v", d)
	}
	o = begin(t, grow("    else: continue\n"))
	peaks(o, "530 nm", "520 nm", "510 nm", "500 nm")
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitSuccess {
		t.Errorf("%+v", d)
	}
}

// An overrun of every is not made up for.
func TestRepeatOverrun(t *testing.T) {
	o := begin(t, protocolOf("", "  - id: r\n    repeat: {max: 3, every: 1 s}\n    steps:\n      - {id: read, do: optics.spectrum, gives: {peak: peak}}\n", ""))
	var starts []time.Duration
	for range 3 {
		starts = append(starts, o.now.Sub(t0))
		o.pass(1500 * time.Millisecond)
		o.ok("peak = 520 nm")
		o.pass(0)
	}
	if starts[1] != 1500*time.Millisecond || starts[2] != 3*time.Second {
		t.Errorf("%v", starts)
	}
}

// Bounds on what a run may use: time and exposures, those of the protocol or
// tighter ones of the proposal.
func TestBudgets(t *testing.T) {
	long := protocolOf("budget: {time: 1 min}\n", "  - {id: w, wait: {for: 30 s}}\n"+stir, drain)
	o := newOffice(t, long)
	o.accepted("planner_1", strings.Replace(proposal("k", "p@1.0.0", ""), `"inputs"`, `"budget":{"time":{"value":40,"unit":"s"}},"inputs"`, 1))
	o.trace = nil
	o.pass(30 * time.Second)
	o.trace = nil
	o.pass(9900 * time.Millisecond)
	for _, l := range o.trace {
		if strings.HasPrefix(l, "do ") {
			t.Errorf("too early: %s", l)
		}
	}
	o.trace = nil
	o.pass(200 * time.Millisecond)
	if got := strings.Join(o.trace, "\n"); !strings.Contains(got, "do reactor.stirrer.stir_off") {
		t.Errorf("what is under way is not stopped: %s", got)
	}
	o.outcome(failed(lab.Failed, lab.KindCancelled, "stopped"))
	o.ok()
	o.ok() // drain: the cleanup is not cut off
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitFail || d.Reason != "its time budget of 40 s is over" {
		t.Errorf("%+v", d)
	}

	read := "  - id: r\n    repeat: {max: 2}\n    steps:\n      - {id: read, do: optics.spectrum, gives: {peak: peak}, on_error: {retry: 1}}\n"
	o = newOffice(t, protocolOf("budget: {exposures: 4}\n", read, ""))
	o.accepted("planner_1", strings.Replace(proposal("k", "p@1.0.0", ""), `"inputs"`, `"budget":{"exposures":4},"inputs"`, 1))
	for i := range 4 { // each try is charged
		if i%2 == 0 {
			o.outcome(failed(lab.Failed, lab.KindOutcomeUnknown, "no answer"))
			o.pass(200 * time.Millisecond)
		} else {
			o.ok("peak = 520 nm")
		}
	}
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitSuccess {
		t.Errorf("%+v", d)
	}
}

// One failure in the finally never blocks the next step of it.
func TestFinallyGoesOn(t *testing.T) {
	o := begin(t, protocolOf("", stir, ""))
	o.ok()
	o.is(lines(leased, doStir, doStop)...)
	o.outcome(failed(lab.Failed, lab.KindOutcomeUnknown, "not confirmed"))
	o.is(doCool, "event stop_it failed ")
	o.ok()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitFail || d.Reason != "finally: step stop_it: failed: not confirmed" {
		t.Errorf("%+v", d)
	}
}

// A person, a trip or a lost lease ends a run in any stage; nothing is done
// twice.
func TestAbort(t *testing.T) {
	trip := func(o *office) {
		o.step(runner.SafetyArrived{Safety: messages.Safety{What: messages.SafetyTrip, Rule: "runaway", Runs: []string{"id1"}, RunAction: "abort", Say: "too hot"}})
	}
	person := func(o *office) {
		if r := o.control("planner_1", messages.ControlAbort, "id1"); !r.OK {
			t.Errorf("%+v", r)
		}
	}
	lost := func(o *office) {
		o.step(runner.SafetyArrived{Safety: messages.Safety{What: messages.SafetyLeaseLost, Runs: []string{"id1", "other"}, RunAction: "abort", Say: "lease lost"}})
	}
	amount := lab.Q(0.02, "mL")
	partial := lab.Outcome{State: lab.Partial, Kind: lab.KindDenied, Amount: &amount, Say: "stopped"}
	for name, c := range map[string]struct {
		act     func(*office)
		cleanup bool
		reason  string
	}{"trip": {trip, false, "too hot"}, "person": {person, true, "aborted by planner_1: a test"}, "lease": {lost, true, "lease lost"}} {
		t.Run(name+" in the steps", func(t *testing.T) {
			o := begin(t, protocolOf("", feed+stir, drain))
			o.trace = nil
			c.act(o)
			o.is("do pump_a.pump.stop  (finally)")
			c.act(o) // again
			o.is()
			o.outcome(partial)
			o.is("event feed partial amount=0.02 mL")
			o.ok()
			if c.cleanup {
				o.is(doDrain)
				o.ok()
			}
			o.is(doStop)
			c.act(o)
			o.is()
			o.over()
			if d := o.stopDoc(); d.ExitStatus != messages.ExitAbort || !strings.HasPrefix(d.Reason, c.reason) || name == "trip" && d.Rule != "runaway" {
				t.Errorf("%+v", d)
			}
			if r := o.control("planner_1", messages.ControlAbort, "id1"); r.OK { // it is over
				t.Errorf("%+v", r)
			}
		})
		t.Run(name+" in the cleanup", func(t *testing.T) {
			o := begin(t, protocolOf("", stir, drain))
			o.ok()
			o.trace = nil
			c.act(o)
			o.is("do reactor.vessel.shut  (finally)")
			o.outcome(failed(lab.Failed, lab.KindDenied, "stopped"))
			o.ok()
			o.is("event empty failed ", doStop) // cleanup is not begun anew
			o.over()
			if d := o.stopDoc(); d.ExitStatus != messages.ExitAbort {
				t.Errorf("%+v", d)
			}
		})
		t.Run(name+" in the finally", func(t *testing.T) {
			o := begin(t, protocolOf("", stir, ""))
			o.ok()
			o.trace = nil
			c.act(o)
			o.is()
			o.over()
			if d := o.stopDoc(); d.ExitStatus != messages.ExitSuccess { // its work was done
				t.Errorf("%+v", d)
			}
		})
	}
	t.Run("a device that says nothing", func(t *testing.T) {
		o := begin(t, protocolOf("", feed, drain))
		o.trace = nil
		person(o)
		o.is("do pump_a.pump.stop  (finally)")
		o.pass(29 * time.Second)
		for _, l := range o.trace {
			if strings.HasPrefix(l, "do ") {
				t.Errorf("it does not wait: %s", l)
			}
		}
		o.trace = nil
		o.pass(time.Second)
		if got := strings.Join(o.trace, "\n"); !strings.Contains(got, doDrain) {
			t.Errorf("it waits for ever: %s", got)
		}
	})
	t.Run("waiting", func(t *testing.T) {
		o := begin(t, protocolOf("", "  - {id: w, wait: {for: 30 s}}\n", drain))
		o.trace = nil
		person(o)
		o.is(doDrain)
	})
}
