package gateway_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
)

// look asks what is durable for the newest outcome or denial of a command.
func (s *shell) look(command string) {
	s.t.Helper()
	e := gateway.Looked{Command: command}
	for i := range s.journal {
		if x := &s.journal[i]; x.Command == command && (x.Kind == "outcome/v1" || x.Kind == "denial/v1") {
			e.Entry = x
		}
	}
	s.log("look %s", command)
	s.step(e)
}

// kept is a snapshot as a file would hold it, and how many entries of the
// journal it stands for.
type kept struct {
	text    []byte
	at      int
	durable int // entries, when it was looked at last
}

func (s *shell) snapshot() *kept {
	s.t.Helper()
	snap := s.core.Snapshot(s.now)
	s.seal(snap.Entries)
	text, err := json.Marshal(snap)
	if err != nil {
		s.t.Fatalf("%v", err)
	}
	k := &kept{text: text, at: len(s.journal) + len(s.notes)}
	for _, a := range s.appends {
		k.at += len(s.before[a.Token]) + len(a.Entries)
	}
	return k
}

// bootFrom makes the core from a snapshot and what the journal holds since.
func (s *shell) bootFrom(k *kept) {
	s.t.Helper()
	var snap gateway.Snapshot
	if err := json.Unmarshal(k.text, &snap); err != nil {
		s.t.Fatalf("%v", err)
	}
	all := s.journal
	s.recall = &snap
	s.boot(all[k.at:])
	s.recall = nil
	s.journal = append(append([]lab.Entry(nil), all[:k.at]...), s.journal...)
	for _, e := range all { // what is durable is durable, snapshot or not
		if e.Kind == "intent/v1" {
			s.intended[e.Command] = true
		}
	}
}

var inPassing = regexp.MustCompile(`"(order|serial|last|confirmed|used|at|since|over|decided|time|high|sure|last_entry|origin_seq|boot|started|ended)":("[^"]*"|[0-9]+),?`)

// stateOf is what a start makes of a journal, without what says only when.
func stateOf(t tester, c *gateway.Core, s *shell) string {
	t.Helper()
	snap := c.Snapshot(s.now)
	snap.Safety.History = nil
	b, err := json.Marshal(snap)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return inPassing.ReplaceAllString(string(b), "")
}

// differ shows where two texts part.
func differ(whole, from string) string {
	n := 0
	for n < min(len(whole), len(from)) && whole[n] == from[n] {
		n++
	}
	part := func(s string) string { return s[max(0, n-300):min(len(s), n+300)] }
	return "\nwhole:    …" + part(whole) + "…\nsnapshot: …" + part(from) + "…"
}

// A start from a snapshot and what came after it is a start from the whole
// journal, wherever the snapshot was taken: in doubt, held, latched, ordered and
// counted is the same. The orders of events are those of TestAnyOrder.
func TestSnapshot(t *testing.T) {
	l, r := demoLab(t)
	compared := 0
	rapid.Check(t, func(t *rapid.T) {
		s := bareShell(t, l, r, nil)
		s.set("room.airflow = 0.5 m/s")
		s.connect()
		s.manual = true
		d := &drawn{T: t, s: s, told: map[string]int{}, args: map[string]string{}}
		d.leaseAll()
		var snap *kept
		for range 60 {
			core := s.core
			d.event()
			if s.poisoned || s.core != core && snap != nil && snap.at > snap.durable {
				snap = nil // what it counts on never became durable
				continue
			}
			if snap == nil || d.pick("snapshot", 8) == 0 {
				snap = s.snapshot()
			}
			if snap.durable = len(s.journal); snap.at > snap.durable {
				continue // its place is not durable: nobody would find it
			}
			whole := bareShell(t, l, r, nil)
			whole.now = s.now
			whole.boot(s.journal)
			from := bareShell(t, l, r, nil)
			from.now, from.journal = s.now, s.journal
			from.bootFrom(snap)
			if a, b := stateOf(t, whole.core, whole), stateOf(t, from.core, from); a != b {
				t.Fatalf("%d entries, of which the snapshot stands for %d: %s", len(s.journal), snap.at, differ(a, b))
			}
			compared++
		}
	})
	if compared == 0 {
		t.Error("no snapshot was ever durable: this shows nothing")
	}
}

// What was answered is answered for ever: by the memory, or by the journal.
func TestForgottenIDs(t *testing.T) {
	s := newShell(t)
	s.set("room.airflow = 0.5 m/s")
	s.read()
	s.lease("pump_a", "run")
	old := "01M8149T00000000000000000A" // made an hour before
	if r := s.ask(old + " " + dose); !r.Accepted {
		t.Fatalf("%+v", r)
	}
	s.exchange(true, nil, nil)
	s.set("pump_a.dispensed = 1.1 mL")
	s.read()
	first := s.outcome(old)
	s.ask("01M8149T00000000000000000B pump_a.dose volume=9 mL, rate=6 mL/min")
	s.isState("01M8149T00000000000000000B", lab.Refused, lab.KindDenied)
	s.quiet(0)
	s.step(gateway.LeaseAsked{Request: messages.LeaseRequest{Action: messages.LeaseRelease, Instrument: "pump_a", Run: "run", Principal: "planner_1", Lease: 1}})
	s.lease("pump_a", "run2") // durable, and so is what was noted before
	s.bootFrom(s.snapshot())
	s.connect()
	s.lease("pump_a", "run3")
	for id, want := range map[string]lab.State{old + " " + dose: first.State, "01M8149T00000000000000000B pump_a.dose volume=9 mL, rate=6 mL/min": lab.Refused} {
		s.trace = nil
		if r := s.ask(id); r.State != want || r.Outcome == nil {
			t.Errorf("%s: %+v", id, r)
		}
		if got := strings.Join(s.trace, "; "); got != "look "+id[:26]+fmt.Sprintf("; answer %s", want) {
			t.Errorf("%q", got)
		}
	}
	if s.sent[old] != 1 {
		t.Errorf("sent %d times", s.sent[old])
	}
	if r := s.ask(old + " pump_a.stop"); r.State != lab.Refused || r.Issues[0].Code != "id_reused" {
		t.Errorf("%+v", r)
	}
	if r := s.ask("01M8149T00000000000000000C " + dose); r.Outcome != nil && r.State == first.State { // old, and new here
		t.Errorf("%+v", r)
	}
	// An id from the future would have to be kept until then: it leaves no trace.
	if r := s.ask("01MZZZZZZZZZZZZZZZZZZZZZZZ " + dose); r.State != lab.Refused || r.Issues[0].Code != "bad_id" || r.Known {
		t.Errorf("%+v", r)
	}
}

// A start from a snapshot does not read what the runner wrote before it. The
// clock that was right then is remembered all the same: a later one that is
// behind it moves nothing.
func TestClockBeforeTheSnapshot(t *testing.T) {
	s := newShell(t)
	s.pass(10 * time.Second) // the gateway itself has written nothing for long
	late := s.now
	s.now = s.now.Add(-5 * time.Second) // the clock is set back, and nobody has noticed
	k := s.snapshot()
	k.at = len(s.journal) // nothing that waited was written
	s.bootFrom(k)
	s.now = late.Add(-2 * time.Second)
	s.connect()
	s.lease("stage", "run")
	if r := s.ask("c1 stage.move x=0 mm, y=0 mm, z=0 mm"); r.Accepted || r.Issues[0].Code != "clock" {
		t.Errorf("%+v", r)
	}
}
