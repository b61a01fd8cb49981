package runner_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/runner"
)

// moments of a run at which a person may want it held or ended, and how each
// comes about.
var moments = []struct {
	name  string
	begin func(t *testing.T) *office
}{
	{"in the queue", func(t *testing.T) *office {
		o := newOffice(t, protocolOf("", stir+feed, drain))
		o.held["reactor"] = "another"
		o.accepted("planner_1", proposal("k", "p@1.0.0", ""))
		return o
	}},
	{"asking for its leases", func(t *testing.T) *office {
		o := newOffice(t, protocolOf("", stir+feed, drain))
		o.noLeases = true
		o.accepted("planner_1", proposal("k", "p@1.0.0", ""))
		return o
	}},
	{"a command under way", func(t *testing.T) *office { return begin(t, protocolOf("", stir+feed, drain)) }},
	{"in a wait", func(t *testing.T) *office {
		return begin(t, protocolOf("", "  - {id: rest, wait: {for: 10 min}}\n"+feed, drain))
	}},
	{"before a retry", func(t *testing.T) *office {
		o := begin(t, protocolOf("", "  - {id: read, do: optics.spectrum, gives: {peak: peak}, on_error: {retry: 5}}\n", drain))
		o.outcome(failed(lab.Failed, lab.KindOutcomeUnknown, "no answer"))
		return o
	}},
	{"in a parallel step", func(t *testing.T) *office {
		return begin(t, protocolOf("", "  - id: both\n    parallel:\n      - {id: a, do: pump.dose, with: {volume: = volume, rate: 6 mL/min}}\n      - {id: b, do: reactor.stir, with: {speed: 300 rpm}}\n", drain))
	}},
	{"asking a person", func(t *testing.T) *office { return begin(t, protocolOf("", askLoad, drain)) }},
	{"held by a person", func(t *testing.T) *office {
		o := begin(t, protocolOf("", stir+feed, drain))
		o.control("operator_1", messages.ControlHold, "id1")
		return o
	}},
	{"held by a trip", func(t *testing.T) *office {
		o := begin(t, protocolOf("", stir+feed, drain))
		o.holdTrip("warm")
		return o
	}},
	{"the same, after the reset", func(t *testing.T) *office {
		o := begin(t, protocolOf("", stir+feed, drain))
		o.holdTrip("warm")
		o.reset("warm")
		return o
	}},
	{"held by a failed step", func(t *testing.T) *office {
		o := begin(t, protocolOf("", "  - {id: stir, do: reactor.stir, with: {speed: 300 rpm}, on_error: {hold: 5 min}}\n"+feed, drain))
		o.outcome(failed(lab.Failed, lab.KindDeviceRefused, "jammed"))
		return o
	}},
	{"ending: awaits what is under way", func(t *testing.T) *office {
		o := begin(t, protocolOf("", feed, drain))
		o.control("planner_1", messages.ControlAbort, "id1")
		return o
	}},
	{"in its cleanup", func(t *testing.T) *office {
		o := begin(t, protocolOf("", stir, drain))
		o.ok()
		return o
	}},
	{"in its finally", func(t *testing.T) *office {
		o := begin(t, protocolOf("", stir, ""))
		o.ok()
		return o
	}},
	{"held by a restart", func(t *testing.T) *office {
		o := begin(t, protocolOf("", stir+feed, drain))
		o.ok()
		o.ok("delivered = 0.1 mL")
		o.restart()
		o.settled(lab.Confirmed)
		return o
	}},
	{"the same, a command in doubt", func(t *testing.T) *office {
		o := begin(t, protocolOf("", feed, drain))
		o.restart()
		o.settled(lab.InDoubt)
		return o
	}},
	{"resumed after a restart, asks for its leases", func(t *testing.T) *office {
		o := begin(t, protocolOf("", stir+feed, drain))
		o.restart()
		o.settled(lab.Confirmed)
		o.noLeases = true
		o.control("operator_1", messages.ControlRelease, "id1")
		return o
	}},
	{"over", func(t *testing.T) *office {
		o := begin(t, protocolOf("", stir, ""))
		o.ok()
		o.over()
		return o
	}},
}

// settled answers what a restarted run asks about its commands.
func (o *office) settled(state lab.State) {
	o.Helper()
	list := o.queries
	o.queries = nil
	for _, id := range list {
		o.step(runner.CommandReplied{Command: id, Reply: messages.CommandReply{Command: id, Known: true, Accepted: true, State: state, Outcome: &lab.Outcome{Command: id, State: state}}})
	}
}

// verbs that hold and end runs.
var verbs = []struct {
	name string
	do   func(o *office) string
}{
	{"hold", func(o *office) string { return o.said("operator_1", messages.ControlHold) }},
	{"resume", func(o *office) string { return o.said("operator_1", messages.ControlRelease) }},
	{"abort", func(o *office) string { return o.said("planner_1", messages.ControlAbort) }},
	{"cancel", func(o *office) string { return o.said("planner_1", messages.ControlCancel) }},
	{"stop", func(o *office) string {
		o.step(runner.SafetyArrived{Safety: messages.Safety{What: messages.SafetyStop, Rule: "stop", RunAction: "abort", Runs: []string{"id1"}, Instruments: o.cfg.Lab.Names(), Say: "stopped by operator_1"}})
		return "yes"
	}},
}

// said is what somebody is answered; one who withdraws a run that asks for a
// lease is answered with that lease's answer.
func (o *office) said(who, action string) string {
	o.Helper()
	n := len(o.answers)
	o.step(runner.ControlAsked{Principal: who, Control: messages.Control{Kind: messages.KindControl, ID: "x", Action: action, Run: "id1", Reason: "a test"}})
	for len(o.answers) == n && len(o.leases) > 0 {
		o.lease("")
	}
	if len(o.answers) != n+1 {
		o.Fatalf("%d answers to %s", len(o.answers)-n, action)
	}
	if r := o.answers[n]; !r.OK {
		return "no: " + r.Say
	}
	return "yes"
}

// end lets everything that is under way come to a good end, and nobody come,
// until the run is over; the stop, if there was one, is reset.
func (o *office) end() string {
	o.Helper()
	o.noLeases = false
	delete(o.held, "reactor")
	for len(o.leases) > 0 {
		o.lease("")
	}
	o.reset("stop")
	for i := 0; o.run("id1").Ended == nil; i++ {
		if i > 5000 {
			o.Fatalf("it does not end: %+v", o.run("id1"))
		}
		if o.run("id1").State == "running" && len(o.run("id1").Asks) > 0 {
			o.answer("operator_1", "load", "yes", map[string]lab.Value{"n": lab.IntegerValue(3)})
		}
		switch {
		case len(o.queries) > 0:
			o.settled(lab.Confirmed)
		case len(o.commands) > 0 && o.commands[0].Command == "dose":
			o.ok("delivered = 0.1 mL")
		case len(o.commands) > 0:
			o.ok("peak = 520 nm", "spectrum = x")
		default:
			o.pass(10 * time.Second)
		}
	}
	if len(o.held) > 0 {
		o.Errorf("it is over, and holds %v", o.held)
	}
	return o.run("id1").State
}

// What a person's verb does at each moment of a run: the answer, the state at
// once, and how it ends if nobody does more. The table is in the operator's
// documentation.
func TestMoments(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "| moment |")
	for _, v := range verbs {
		fmt.Fprintf(&b, " %s |", v.name)
	}
	fmt.Fprintf(&b, "\n|---|%s\n", strings.Repeat("---|", len(verbs)))
	for _, m := range moments {
		fmt.Fprintf(&b, "| %s |", m.name)
		for _, v := range verbs {
			o := m.begin(t)
			was := o.run("id1").State
			o.trace = nil
			answer := v.do(o)
			now := o.run("id1").State
			if strings.HasPrefix(answer, "no") {
				if now != was {
					t.Errorf("%s, %s: refused, and %s became %s", m.name, v.name, was, now)
				}
				fmt.Fprintf(&b, " %s |", strings.Replace(answer, "no: ", "*no:* ", 1))
				continue
			}
			end := o.end()
			cleaned := ""
			for _, line := range o.trace {
				if line == doDrain {
					cleaned = ", after its cleanup"
				}
			}
			if now == end {
				fmt.Fprintf(&b, " %s |", now)
				continue
			}
			fmt.Fprintf(&b, " %s → %s%s |", now, end, cleaned)
		}
		b.WriteString("\n")
	}
	checkTable(t, "moments", b.String())
}

// checkTable compares a table of the documentation with what the code does.
func checkTable(t *testing.T, name, table string) {
	t.Helper()
	const file = "../docs/operations.md"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	from, to := "<!-- "+name+": -update writes it -->\n", "<!-- end of "+name+" -->"
	before, rest, ok := strings.Cut(string(data), from)
	was, after, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for %s", file, name)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+from+table+to+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if was != table {
		t.Errorf("%s has\n%s\nthe runner does\n%s", file, was, table)
	}
}

// What a person says was done in part fails its step: it is neither done again
// nor topped up.
func TestResolvedPartly(t *testing.T) {
	o := begin(t, protocolOf("", feed, drain))
	o.restart()
	o.settled(lab.InDoubt)
	half := lab.Q(0.05, "mL")
	out := lab.Outcome{Command: o.last.ID, State: lab.Resolved, As: "partly", Amount: &half, Say: "operator_1 says it was partly done"}
	o.step(runner.OutcomeArrived{Outcome: messages.Outcome{Run: "id1", Instrument: "pump_a", Component: "pump", Name: "dose", Step: "feed", Outcome: out}})
	if r := o.control("operator_1", messages.ControlRelease, "id1"); !r.OK {
		t.Fatalf("%+v", r)
	}
	o.trace = nil
	o.step(runner.CommandReplied{Command: out.Command, Reply: messages.CommandReply{Command: out.Command, Known: true, Accepted: true, State: lab.Resolved, Outcome: &out}})
	o.is(doDrain, "event feed resolved amount=0.05 mL")
	if end := o.end(); end != string(runner.Failed) || strings.Contains(strings.Join(o.trace, "\n"), doFeed) {
		t.Errorf("%s: %v", end, o.trace)
	}
}
