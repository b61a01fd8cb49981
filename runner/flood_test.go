package runner_test

import (
	"fmt"
	"testing"
	"time"

	"labgate/messages"
	"labgate/runner"
)

// A principal who floods the runner with bad proposals is told so, each time,
// and the journal grows by one entry a minute. Others are heard as ever, and a
// key that was not looked at is free.
func TestFlood(t *testing.T) {
	o := newOffice(t)
	const sent = 5000
	for i := range sent {
		o.propose("planner_1", fmt.Sprintf("{%d", i))
	}
	if len(o.verdicts) != sent || len(o.acks) != sent {
		t.Errorf("%d verdicts, %d acknowledged of %d", len(o.verdicts), len(o.acks), sent)
	}
	if v := o.verdicts[sent-1]; v.Decision != messages.RejectedDecision || v.Issues[0].Code != "flood" {
		t.Errorf("%+v", v)
	}
	if n := len(o.journal); n != 200 {
		t.Errorf("%d entries", n)
	}
	good := proposal("k", "coat-films", "")
	o.propose("planner_1", good)
	o.propose("planner_2", good)
	if mine, other := o.verdicts[sent], o.verdicts[sent+1]; mine.Issues[0].Code != "flood" || len(other.Issues) > 0 && other.Issues[0].Code == "flood" {
		t.Errorf("%+v, %+v", mine, other)
	}
	before := len(o.journal)
	o.now = o.now.Add(time.Minute)
	o.step(runner.Tick{})
	if n := len(o.journal) - before; n != 1 || o.journal[before].Kind != "flood/v1" || o.journal[before].Principal != "planner_1" {
		t.Errorf("%d entries", n)
	}
	o.propose("planner_1", good)
	if v := o.verdicts[len(o.verdicts)-1]; len(v.Issues) > 0 && (v.Issues[0].Code == "flood" || v.Issues[0].Code == "key_reused") {
		t.Errorf("%+v", v)
	}
}
