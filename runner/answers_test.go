package runner_test

import (
	"errors"
	"strings"
	"testing"

	"labgate/messages"
	"labgate/runner"
)

// What was answered long ago is asked of the journal. Until it has said so
// nothing is judged, however often the proposal comes; where it can't say so,
// or says half of it, nothing is ever answered.
func TestOldAnswers(t *testing.T) {
	o := newOffice(t)
	data := proposal("k", "asks@1.0.0", `"volume":{"value":0.1,"unit":"mL"}`)
	delivery := func() []runner.Action {
		return o.core.Step(o.now, runner.Proposed{Principal: "planner_1", Data: []byte(data), StreamSeq: 1, Token: "late"})
	}
	first := delivery()
	look, ok := first[0].(runner.Look)
	if again := delivery(); !ok || len(first) != 1 || len(again) != 0 {
		t.Fatalf("%v, then %v: one look", first, again)
	}
	o.propose("planner_2", proposal("other", "coat-films", ""))
	half, _ := runner.AnswerKeys("planner_2/key/other")
	for name, e := range map[string]runner.Looked{
		"a disk that can't be read": {Key: look.Key, Err: errors.New("it hangs")},
		"half of an answer":         {Key: look.Key, Proposal: o.seen(half)},
	} {
		if got := o.core.Step(o.now, e); len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
		if n := len(delivery()); n != 1 {
			t.Errorf("%s: %d actions when it comes again, not one look", name, n)
		}
	}
	o.act(o.core.Step(o.now, runner.Looked{Key: look.Key}))
	told := o.verdicts[len(o.verdicts)-1]
	if told.Decision != messages.AcceptedDecision {
		t.Fatalf("%+v", told)
	}
	for range 3 { // more answers than are at hand
		o.propose("planner_2", "{"+strings.Repeat(" ", len(o.verdicts)))
	}
	o.propose("planner_1", data)
	if v := o.verdicts[len(o.verdicts)-1]; v.Run != told.Run || v.Say != told.Say {
		t.Errorf("told %+v, then %+v", told, v)
	}
	if r := o.controlVerdict("planner_1", "k"); !r.OK || r.Verdict.Run != told.Run {
		t.Errorf("%+v", r)
	}
}

// Runs that were over long ago are let go, those that are not never are.
func TestOldRunsAreLetGo(t *testing.T) {
	o := newOffice(t)
	o.opts.MaxEnded = 3
	o.core = runner.New(o.opts)
	o.noLeases = true
	waits := o.accepted("scientist_1", proposal("waits", "asks@1.0.0", `"volume":{"value":0.1,"unit":"mL"}`))
	for range 12 {
		id := o.accepted("scientist_1", proposal("k"+strings.Repeat("k", len(o.verdicts)), "asks@1.0.0", `"volume":{"value":0.1,"unit":"mL"}`))
		if r := o.control("scientist_1", messages.ControlCancel, id); !r.OK {
			t.Fatal(r.Say)
		}
	}
	if snap := o.core.Snapshot(o.now); snap == nil || len(snap.Runs) != 4 {
		t.Fatalf("%+v", snap)
	}
	if runs := o.core.Runs(""); len(runs) != 4 || runs[0].Run != waits || runs[0].Ended != nil {
		t.Errorf("%+v", runs)
	}
}
