package gateway_test

import (
	"fmt"
	"testing"
	"time"

	"labgate/lab"
)

// A flood of denials is a few entries, and each of them is still answered as it
// was, also after a restart.
func TestDenialsOfAFlood(t *testing.T) {
	s := newShell(t)
	s.connect()
	s.set("room.airflow = 0.1 m/s")
	s.read()
	s.lease("pump_a", "run")
	const asked = 3500
	before := len(s.journal)
	for i := range asked {
		s.ask(fmt.Sprintf("c%d ", i) + dose)
	}
	s.pass(2 * time.Second)
	if len(s.owed) > 0 {
		t.Errorf("%d denials are not on record", len(s.owed))
	}
	ones, many := len(s.entriesOf("denial/v1")), s.entriesOf("denials/v1")
	if ones != 20 || len(many) != 4 || len(s.journal)-before > 40 {
		t.Errorf("%d one by one, %d of many, %d entries", ones, len(many), len(s.journal)-before)
	}
	first, last := s.outcome("c0"), s.outcome(fmt.Sprintf("c%d", asked-1))
	if first.State != lab.Refused || last.State != lab.Refused || last.Issues[0].Rule != "hood" {
		t.Errorf("%+v, %+v", first, last)
	}
	s.lease("pump_b", "run2") // notes are durable with the next commit
	s.crash()
	for _, id := range []string{"c0", "c25", fmt.Sprintf("c%d", asked-1)} {
		r := s.outcomeAsked(id)
		if r.Outcome == nil || r.Outcome.State != lab.Refused || r.Outcome.Say != last.Say {
			t.Errorf("%s after a restart: %+v", id, r)
		}
	}
	s.set("room.airflow = 0.5 m/s") // what was denied stays so
	s.read()
	if r := s.ask("c25 " + dose); r.Outcome == nil || r.Outcome.State != lab.Refused || s.sent["c25"] != 0 {
		t.Errorf("%+v", r)
	}
}
