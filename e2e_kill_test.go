package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"labgate/lab"
)

// kill -9 of the station while two doses run. It comes back to instruments that
// went on without it, sends nothing again, holds the run, says what is in
// doubt, and leaves the rest to a person.
func TestKill(t *testing.T) {
	t.Parallel()
	rounds := 1
	if heavy {
		rounds = 4
	}
	for n := range rounds {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			killed(t, startLab(t), time.Duration(n)*700*time.Millisecond)
		})
	}
}

// killed waits a while into the doses before it kills.
func killed(t *testing.T, l *twoProcesses, wait time.Duration) {
	p := l.submit("pour", "--input", "temperature=60 degC", "--input", "volume=0.2 mL", "--input", "rate=2.4 mL/min", "--within", "6 s")
	l.delivering()
	id := begunRun(p)
	time.Sleep(wait) // no synchronisation: another moment to be killed in
	l.serve.kill()
	verify := run(t, "journal", "verify", l.data)
	if verify.code != exitDone {
		t.Errorf("after the kill: %v", verify)
	}
	if r := run(t, "runs", "--data", l.data); r.code != exitRefused {
		t.Errorf("runs without a station: %v", r)
	}
	l.startServe()

	// Whoever had asked is told, and does not wait for ever.
	if r := p.wait(); r.code != exitRefused || !strings.Contains(r.stderr, "run "+id+" is held") {
		t.Errorf("the submit: %v", r)
	}
	held := l.run(id)
	if held.State != "held" || len(held.InDoubt) != 2 {
		t.Fatalf("%+v", held)
	}
	_, status := l.runs()
	if len(status.InDoubt) != 2 || status.InDoubt[0].Name != "dose" || status.InDoubt[1].Name != "dose" {
		t.Errorf("in doubt: %+v", status.InDoubt)
	}
	wantIn(t, "runs", l.must(exitDone, "runs").stdout, id, "held", "nothing moves until a person lets it go on or ends it", "IN DOUBT  "+held.InDoubt[0]+" (pump_", "labgate resolve "+held.InDoubt[1]+" done|not_done")

	// The pumps go on with what they were told while the gateway is down, do it
	// once, and are stopped when it is back: the lease of before is lost.
	after := l.standing()
	for _, pump := range []string{"pump_a", "pump_b"} {
		if c := after[pump]; c.Doses != 1 || c.DosesDone+c.Stops == 0 || c.Dispensed == 0 || c.Dispensed > 0.201 {
			t.Errorf("%s: %+v", pump, c)
		}
	}
	if r := run(t, "journal", "verify", l.data); r.code != exitDone {
		t.Errorf("with the station running: %v", r)
	}
	settle(t, l, id)
	tampered(t, l)
}

// settle: what is in doubt bars its instrument until a person says what it is;
// the run ends through its finally, long after its proposal has expired.
func settle(t *testing.T, l *twoProcesses, id string) {
	was := l.count("pump_a").Dispensed
	r := l.must(exitRefused, "abort", id, "--as", "planner_1")
	wantIn(t, "abort by somebody else's agent", r.stderr, "there is no run")
	l.must(exitDone, "abort", id, "--reason", "killed in the middle")
	eventually(t, "the run is over", func() bool { return l.run(id).Ended != nil })
	if now := l.run(id); now.State != "aborted" || !strings.Contains(now.Say, "killed in the middle") || len(now.InDoubt) != 2 {
		t.Errorf("%+v", now)
	}
	l.wantFinally(id)
	r = l.must(exitRefused, "submit", "pour", "--input", "temperature=40 degC", "--input", "volume=0.02 mL", "--input", "rate=10 mL/min")
	wantIn(t, "submit while in doubt", r.stdout, "is in doubt: it may or may not have happened")
	if c := l.count("pump_a"); c.Doses != 1 || c.Dispensed != was {
		t.Errorf("%+v", c)
	}
	doubts := l.run(id).InDoubt
	l.must(exitRefused, "resolve", doubts[0], "done", "--reason", "looks like it", "--as", "scientist_1")
	for _, cmd := range doubts {
		l.must(exitDone, "resolve", cmd, "done", "--reason", "the syringe is emptier")
	}
	if _, status := l.runs(); len(status.InDoubt) != 0 || len(l.run(id).InDoubt) != 0 {
		t.Errorf("in doubt: %+v, %+v", status.InDoubt, l.run(id))
	}
	l.submitted("pour", "--input", "temperature=40 degC", "--input", "volume=0.02 mL", "--input", "rate=10 mL/min")
	if c := l.count("pump_a"); c.Doses != 2 || !near(c.Dispensed, was+0.02) {
		t.Errorf("%+v", c)
	}
	// Every dose that really happened has an intent that was there before it.
	intents := map[string]bool{}
	for _, e := range l.journal("--instrument", "pump_a", "--kind", "intent/v1") {
		intents[e.Step] = true
	}
	if !intents["feed.gold_in"] {
		t.Errorf("intents of pump_a: %v", intents)
	}
}

// tampered flips one byte after another: of a journal that was closed any, of
// one that was not any of what it says.
func tampered(t *testing.T, l *twoProcesses) {
	open := copyJournal(t, l.data) // as a kill would leave it
	if r := l.serve.interrupt(); r.code != exitDone {
		t.Errorf("serve: %v", r)
	}
	if r := run(t, "journal", "verify", l.data); r.code != exitDone {
		t.Errorf("after a clean end: %v", r)
	}
	size := int64(len(readFile(t, filepath.Join(l.data, "journal.db"))))
	rnd := rand.New(rand.NewSource(size))
	positions := []int64{0, 100, size / 3, size / 2, size - 1}
	for range 5 {
		positions = append(positions, rnd.Int63n(size))
	}
	for _, at := range positions {
		dir := copyJournal(t, l.data)
		flip(t, filepath.Join(dir, "journal.db"), at)
		wantRefused(t, dir, l.lab, fmt.Sprintf("byte %d of %d", at, size))
	}
	for _, word := range []string{`"intent/v1"`, `"outcome/v1"`, `"aborted by operator_1`} {
		dir := copyJournal(t, open)
		if !flipAll(t, dir, word) {
			t.Errorf("%s is not in the journal", word)
			continue
		}
		wantRefused(t, dir, l.lab, word)
	}
}

// wantRefused: verify says where, and the station does not start.
func wantRefused(t *testing.T, dir, labDir, what string) {
	t.Helper()
	r := run(t, "journal", "verify", dir)
	if r.code != exitRefused || !strings.HasPrefix(r.stderr, "labgate: ") {
		t.Errorf("journal verify with %s flipped: %v", what, r)
	}
	r = run(t, "journal", "verify", dir, "--json")
	var rep struct {
		OK      *bool
		Problem string
	}
	if err := json.Unmarshal([]byte(r.stdout), &rep); r.code != exitRefused || err != nil || rep.OK == nil || *rep.OK || rep.Problem == "" {
		t.Errorf("journal verify --json with %s flipped: %v", what, r)
	}
	if r := run(t, "serve", "--lab", labDir, "--data", dir); r.code != exitRefused || r.stdout != "" {
		t.Errorf("serve with %s flipped: %v", what, r)
	}
}

func copyJournal(t *testing.T, from string) string {
	t.Helper()
	to := tempDir(t)
	for _, name := range []string{"journal.db", "journal.db-wal", "journal.head"} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	b := readFile(t, path)
	b[at] ^= 0x20
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// flipAll changes a text wherever it stands in the files of a journal that is
// open: the log and the pages keep old copies that nobody reads, and which of
// them is the one that counts depends on the moment.
func flipAll(t *testing.T, dir, text string) (found bool) {
	t.Helper()
	for _, name := range []string{"journal.db-wal", "journal.db"} {
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		flipped := []byte(text)
		flipped[3] ^= 0x20
		if !bytes.Contains(b, []byte(text)) {
			continue
		}
		found = true
		if err := os.WriteFile(path, bytes.ReplaceAll(b, []byte(text), flipped), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// A clean end in the middle of a run is no kill: the pumps go on alone until the
// gateway is back and stops them, and it is in doubt all the same. Nothing is
// sent again.
func TestCtrlCInMidRun(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	p := l.submit("pour", "--input", "temperature=40 degC", "--input", "volume=0.2 mL", "--input", "rate=1 mL/min")
	l.delivering()
	id := begunRun(p)
	if r := l.serve.interrupt(); r.code != exitDone {
		t.Errorf("serve: %v", r)
	}
	l.startServe()
	p.wait()
	after := l.standing()
	for _, pump := range []string{"pump_a", "pump_b"} {
		if c := after[pump]; c.Doses != 1 || c.DosesDone+c.Stops == 0 || c.Dispensed == 0 || c.Dispensed > 0.201 {
			t.Errorf("%s: %+v", pump, c)
		}
	}
	if now := l.run(id); now.State != "held" || len(now.InDoubt) != 2 {
		t.Errorf("%+v", now)
	}
	for _, cmd := range l.run(id).InDoubt {
		l.must(exitDone, "resolve", cmd, "not_done", "--reason", "nothing came out")
	}
	// Held without a doubt is held: it takes a person to end it.
	if now := l.run(id); now.State != "held" || len(now.InDoubt) != 0 {
		t.Errorf("%+v", now)
	}
	l.must(exitDone, "abort", id)
	eventually(t, "the run is over", func() bool { return l.run(id).Ended != nil })
	l.wantFinally(id)
	resolved := l.journal("--run", id, "--kind", "outcome/v1")
	n := 0
	for _, e := range resolved {
		var o lab.Outcome
		if err := json.Unmarshal(e.Body, &o); err != nil {
			t.Fatal(err)
		}
		if o.State == lab.Resolved && strings.Contains(o.Say, "operator_1 says it was not_done: nothing came out") {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d resolutions on record, want 2", n)
	}
}
