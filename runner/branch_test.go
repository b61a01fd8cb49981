package runner_test

import (
	"fmt"
	"testing"
	"time"

	"labgate/lab"
	"labgate/messages"
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
