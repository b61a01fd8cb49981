package main

import (
	"encoding/json"
	"testing"

	"labgate/messages"
)

// lot is what `labgate lots --json` says of one.
func (l *twoProcesses) lot(id string) messages.Lot {
	l.Helper()
	for _, line := range jsonLines(l, l.must(exitDone, "lots", "--json").stdout) {
		var x messages.Lot
		if err := json.Unmarshal(line, &x); err != nil {
			l.Fatalf("%v: %s", err, line)
		}
		if x.ID == id {
			return x
		}
	}
	l.Fatalf("lot %s is not listed", id)
	return messages.Lot{}
}

// A lot is registered, loaded, taken from by a real dose, counted after a kill,
// and refused to whom it is not enough for.
func TestLots(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	l.must(exitDone, "lots", "add", "L-1", "HAuCl4", "0.05 mL", "--concentration", "1 mmol/L")
	wantIn(t, "lots load", l.must(exitRefused, "lots", "load", "L-1", "pump_b").stderr, "pump_b is for trisodium citrate")
	l.must(exitDone, "lots", "load", "L-1", "pump_a")
	l.must(exitRefused, "lots", "add", "L-2", "HAuCl4", "much", "--as", "operator_1")
	l.must(exitDone, "calibrations", "add", "C-1", "pump_a", "--until", "2020-01-01")
	l.must(exitDone, "samples", "add", "S-1", "--at", "bench")
	l.must(exitDone, "samples", "move", "S-1", "rack")
	wantIn(t, "samples", l.must(exitDone, "samples", "S-1").stdout, "rack", "bench")
	wantIn(t, "calibrations", l.must(exitDone, "calibrations").stdout, "C-1", "OVERDUE")

	pour := func(key, volume string) verdictDoc {
		return connectAs(t, l.data, "planner_1").propose(proposal(key, "pour", "1.0.0", `,"inputs":{"temperature":{"value":40,"unit":"degC"},"volume":{"value":`+volume+`,"unit":"mL"},"rate":{"value":10,"unit":"mL/min"}}`))
	}
	first := pour("p1", "0.03")
	eventually(t, "the run is over", func() bool { return l.run(first.Run).Ended != nil })
	if left := l.lot("L-1").Left; left == nil || !near(left.Value, 0.02) {
		t.Errorf("left: %v", left)
	}
	l.serve.kill()
	l.startServe()
	if x := l.lot("L-1"); !near(x.Left.Value, 0.02) || x.In != "pump_a" {
		t.Errorf("after a kill: %+v", x)
	}
	if v := pour("p2", "0.03"); v.Decision != messages.RejectedDecision || v.Issues[0].Code != "lot_too_small" {
		t.Errorf("%+v", v)
	}
	wantIn(t, "lots", l.must(exitDone, "lots").stdout, "L-1", "HAuCl4", "pump_a", "0.02 mL of 0.05 mL")
}
