package runner_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/runner"
)

const askLoad = "  - {id: load, ask: Put the vial in., by: operator, timeout: 10 min, gives: {n: {type: integer, min: 1, max: 5}, clean: {type: bool, default: true}}}\n"

// answer is an answer of somebody to a step.
func (o *office) answer(who, step, as string, values map[string]lab.Value) messages.ControlReply {
	o.Helper()
	o.step(runner.ControlAsked{Principal: who, Control: messages.Control{Kind: messages.KindControl, ID: "x", Action: messages.ControlAnswer, Run: "id1", Step: step, As: as, Values: values, Reason: "seen"}})
	return o.answers[len(o.answers)-1]
}

func (o *office) events() (list []messages.RunEvent) {
	for _, d := range o.docs {
		if e, ok := d.(messages.RunEvent); ok {
			list = append(list, e)
		}
	}
	return list
}

// A step that asks waits for the right person, and goes on with what they say,
// durably first.
func TestAsk(t *testing.T) {
	o := begin(t, protocolOf("", askLoad+"  - {id: turn, if: load.n > 2 and load.clean, then: [{id: stir, do: reactor.stir, with: {speed: 300 rpm}}]}\n", ""))
	asks := o.run("id1").Asks
	if len(asks) != 1 || asks[0].Step != "load" || asks[0].By != "operator" || asks[0].Text != "Put the vial in." || !asks[0].Until.Equal(t0.Add(10*time.Minute)) {
		t.Fatalf("%+v", asks)
	}
	if g := asks[0].Gives; len(g) != 2 || g[0].Name != "n" || g[0].Type != "integer" || g[0].Max.Num != 5 || g[1].Type != "bool" || g[1].Default == nil {
		t.Errorf("%+v", g)
	}
	three := map[string]lab.Value{"n": lab.IntegerValue(3)}
	for what, r := range map[string]messages.ControlReply{
		"an agent":      o.answer("planner_1", "load", "yes", three),
		"a scientist":   o.answer("scientist_1", "load", "yes", three),
		"nobody":        o.answer("nobody", "load", "yes", three),
		"no such step":  o.answer("operator_1", "turn", "yes", three),
		"neither":       o.answer("operator_1", "load", "perhaps", three),
		"no value":      o.answer("operator_1", "load", "yes", nil),
		"out of bounds": o.answer("operator_1", "load", "yes", map[string]lab.Value{"n": lab.IntegerValue(6)}),
		"one too many":  o.answer("operator_1", "load", "yes", map[string]lab.Value{"n": lab.IntegerValue(3), "m": lab.IntegerValue(3)}),
	} {
		if r.OK || r.Say == "" {
			t.Errorf("%s: %+v", what, r)
		}
	}
	if r := o.answer("operator_1", "load", "yes", map[string]lab.Value{"n": lab.IntegerValue(6)}); len(r.Issues) != 1 || r.Issues[0].Path != "values.n" || r.Issues[0].Nearest == nil {
		t.Errorf("%+v", r.Issues)
	}
	o.trace, o.manual = nil, true
	if r := o.answer("operator_1", "load", "yes", three); !r.OK {
		t.Fatalf("%+v", r)
	}
	o.is() // not before it is durable
	if r := o.answer("operator_1", "load", "no", nil); r.OK {
		t.Errorf("answered twice: %+v", r)
	}
	o.manual = false
	o.commit()
	o.is(doStir, "event load confirmed n=3")
	if e := o.journal[slices.IndexFunc(o.journal, func(e lab.Entry) bool { return e.Kind == "answered/v1" })]; e.Principal != "operator_1" || e.Run != "id1" || e.Step != "load" {
		t.Errorf("%+v", e)
	}
	events := o.events()
	if len(events) != 2 || events[0].Ask == nil || events[0].Outcome != lab.Accepted || events[0].SeqNum != 1 || events[1].SeqNum != 2 || events[1].Say != "yes by operator_1: seen" {
		t.Errorf("%+v", events)
	}
	if len(o.run("id1").Asks) > 0 {
		t.Error("it asks still")
	}
	o.ok()
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitSuccess {
		t.Errorf("%+v", d)
	}
}

// A no is a failure of the step, and so is silence; its policy says what
// follows.
func TestAskFails(t *testing.T) {
	for _, c := range []struct {
		policy, as string
		after      time.Duration
		exit, say  string
	}{
		{"", "no", time.Minute, messages.ExitFail, "step load: operator_1 said no: seen"},
		{"", "", 10 * time.Minute, messages.ExitFail, "step load: nobody answered within 600 s"},
		{", on_error: skip", "no", time.Minute, messages.ExitSuccess, ""},
		{", on_error: skip", "", 10 * time.Minute, messages.ExitSuccess, ""},
	} {
		o := begin(t, protocolOf("", strings.TrimSuffix(askLoad, "}\n")+c.policy+"}\n", ""))
		o.pass(c.after - time.Second)
		if c.as != "" {
			if r := o.answer("operator_1", "load", c.as, nil); !r.OK {
				t.Fatalf("%+v", r)
			}
		}
		o.pass(time.Second)
		o.over()
		if d := o.stopDoc(); d.ExitStatus != c.exit || d.Reason != c.say {
			t.Errorf("%+v: %s %q", c, d.ExitStatus, d.Reason)
		}
		if r := o.answer("operator_1", "load", "yes", nil); r.OK {
			t.Errorf("%+v: answered afterwards", c)
		}
	}
}

// An answer that could not be made durable is none; the step asks on.
func TestAnswerWithoutDisk(t *testing.T) {
	o := begin(t, protocolOf("", strings.Replace(askLoad, "by: operator", "by: anyone", 1), ""))
	o.broken, o.trace = true, nil
	o.answer("scientist_1", "load", "no", nil)
	o.is()
	o.broken = false
	if r := o.answer("scientist_1", "load", "yes", map[string]lab.Value{"n": lab.IntegerValue(1)}); !r.OK {
		t.Errorf("%+v", r)
	}
	o.over()
}

// A failed step that is held for a person: nothing new is done until they let
// it go on, or until its time is up; then its policy says what follows.
func TestHeldForAPerson(t *testing.T) {
	side := func(then string) string {
		return "  - id: side\n    parallel:\n      - {id: feed, do: pump.dose, with: {volume: = volume, rate: 6 mL/min}, on_error: {hold: 5 min, then: " + then + "}}\n" +
			"      - {id: twice, repeat: {max: 2}, steps: [{id: stir, do: reactor.stir, with: {speed: 300 rpm}}]}\n"
	}
	fail := func(then string) *office {
		o := begin(t, protocolOf("", side(then), drain))
		o.outcome(failed(lab.Failed, lab.KindDenied, "the syringe is empty"))
		o.ok() // the other branch's command comes to its end, and nothing follows
		if i := o.run("id1"); i.State != "held" || i.HeldUntil == nil || !i.HeldUntil.Equal(t0.Add(5*time.Minute)) || !strings.Contains(i.Say, "the syringe is empty") || len(o.commands) > 0 {
			t.Fatalf("%+v, %d commands", i, len(o.commands))
		}
		o.trace = nil
		return o
	}
	o := fail("abort")
	if r := o.control("scientist_1", messages.ControlRelease, "id1"); r.OK {
		t.Errorf("%+v", r)
	}
	o.pass(time.Minute)
	if r := o.control("operator_1", messages.ControlRelease, "id1"); !r.OK {
		t.Fatalf("%+v", r)
	}
	if i := o.run("id1"); i.State != "running" || len(o.commands) != 1 || o.last.Step != "side.twice.stir" {
		t.Errorf("%+v, %+v", i, o.commands)
	}
	for range 4 { // stir, drain, finally
		o.ok()
	}
	if d := o.stopDoc(); d.ExitStatus != messages.ExitSuccess {
		t.Errorf("%+v", d)
	}

	o = fail("abort")
	o.pass(5 * time.Minute)
	o.ok()
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitFail || !strings.Contains(d.Reason, "the syringe is empty") {
		t.Errorf("%+v", d)
	}

	o = fail("skip")
	o.pass(5 * time.Minute)
	if i := o.run("id1"); i.State != "running" || len(o.commands) != 1 {
		t.Errorf("%+v", i)
	}
	for range 4 {
		o.ok()
	}
	if d := o.stopDoc(); d.ExitStatus != messages.ExitSuccess {
		t.Errorf("%+v", d)
	}

	o = fail("abort")
	if r := o.control("operator_1", messages.ControlAbort, "id1"); !r.OK {
		t.Errorf("%+v", r)
	}
	o.ok()
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitAbort {
		t.Errorf("%+v", d)
	}
}

// The failure of another branch ends a parallel that is held; nobody waits for
// a person then.
func TestHeldBranchIsCancelled(t *testing.T) {
	o := begin(t, protocolOf("", "  - id: side\n    parallel:\n      - {id: feed, do: pump.dose, with: {volume: = volume, rate: 6 mL/min}, on_error: {hold: 5 min}}\n"+
		"      - {id: soon, wait: {until: reactor.temperature > 90 degC, timeout: 1 s}}\n    on_error: skip\n", ""))
	o.now = t0.Add(time.Second) // both fail at once
	o.outcome(failed(lab.Failed, lab.KindDenied, "the syringe is empty"))
	if i := o.run("id1"); i.State != "running" || i.HeldUntil != nil {
		t.Errorf("%+v", i)
	}
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitSuccess || !o.now.Equal(t0.Add(time.Second)) {
		t.Errorf("%+v", d)
	}
}

// The sample of a step, with its lot, travels with its command, its
// measurements and their entries in the journal; what became of it stands in
// the stop document.
func TestSamples(t *testing.T) {
	text := strings.Replace(protocolOf("", `  - id: each
    repeat: {over: {vial: samples}}
    steps:
      - {id: feed, do: pump.dose, with: {volume: = volume, rate: 6 mL/min}, sample: vial}
      - {id: read, do: optics.spectrum, sample: vial, gives: {peak: peak}}
      - {id: which, if: vial == two, then: [{id: bad, reject: vial, because: no peak}], else: [{id: fine, pass: vial, because: a peak}]}
  - {id: blank, do: optics.spectrum}
`, ""), "roles:", "samples: {one: {lot: L-1}, two: {}}\nroles:", 1)
	text = strings.Replace(text, "roles:", "outputs:\n  peaks: {table: {n: \"1\", peak: nm}, rows: each, of: {n: i, peak: read.peak}, required: true}\nroles:", 1)
	o := newOffice(t, text)
	o.accepted("planner_1", strings.Replace(proposal("k", "p@1.0.0", ""), `"inputs"`, `"samples":["batch"],"labels":{"shift":"a"},"inputs"`, 1))
	wants := []struct {
		sample, lot string
	}{{"one", "L-1"}, {"one", "L-1"}, {"two", ""}, {"two", ""}, {"batch", ""}}
	for i, want := range wants {
		c := o.last
		if !slices.Equal(c.Samples, []string{want.sample}) || c.Labels["lot"] != want.lot || c.Labels["shift"] != "a" {
			t.Errorf("command %d (%s): %v, %v", i, c.Step, c.Samples, c.Labels)
		}
		if c.Command == "spectrum" {
			o.ok([]string{"peak = 520 nm", "peak = 521 nm", "peak = 522 nm", "peak = 523 nm", "peak = 524 nm"}[i])
		} else {
			o.ok("delivered = 0.1 mL")
		}
	}
	o.over()
	var seen []string
	for _, e := range o.events() {
		seen = append(seen, e.Step+" "+strings.Join(e.Samples, ","))
	}
	if got := strings.Join(seen, "; "); got != "each.read one; each.which.fine one; each.read two; each.which.bad two" {
		t.Error(got)
	}
	for _, e := range o.journal {
		if e.Kind == messages.KindRunEvent && !slices.Equal(e.Samples, []string{"one"}) && !slices.Equal(e.Samples, []string{"two"}) {
			t.Errorf("%s: %v", e.Body, e.Samples)
		}
	}
	d := o.stopDoc()
	if d.Samples["one"] != "pass" || d.Samples["two"] != "reject" || len(d.Samples) != 2 {
		t.Errorf("%v", d.Samples)
	}
	if p := d.Outputs["peaks"].Table; p == nil || !slices.Equal(p.Data[0], []float64{1, 2}) || !slices.Equal(p.Data[1], []float64{521, 523}) {
		t.Errorf("%+v", d.Outputs["peaks"])
	}
	if s := o.docs[0].(messages.RunStart); !slices.Equal(s.Samples, []string{"batch", "one", "two"}) || s.Lots["one"] != "L-1" || len(s.Lots) != 1 {
		t.Errorf("%+v", s)
	}
}

// What is rejected stays rejected.
func TestRejectedStaysSo(t *testing.T) {
	o := begin(t, strings.Replace(protocolOf("", "  - {reject: one, because: broken}\n  - {rework: one, because: glue it}\n", ""), "roles:", "samples: [one]\nroles:", 1))
	o.over()
	if d := o.stopDoc(); d.ExitStatus != messages.ExitFail || d.Samples["one"] != "reject" || !strings.Contains(d.Reason, "rejected already") {
		t.Errorf("%+v", d)
	}
}
