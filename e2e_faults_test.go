package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"labgate/internal/journal"
	"labgate/lab"
)

// A station that was frozen for longer than its leases wakes up as one that has
// lost them: it sends nothing of what it had in mind, ends the run, and goes on.
func TestFrozen(t *testing.T) {
	if !heavy {
		t.Skip("it waits for a lease to end: LABGATE_HEAVY=1")
	}
	t.Parallel()
	l := startLab(t)
	p := l.submit("pour", "--input", "temperature=60 degC", "--input", "volume=0.2 mL", "--input", "rate=2.4 mL/min")
	l.delivering()
	id := begunRun(p)
	intents := len(l.journal("--run", id, "--kind", "intent/v1"))
	l.serve.signal(syscall.SIGSTOP)
	before := l.counts()
	time.Sleep(13 * time.Second) // a lease lasts 10 s
	frozen := l.counts()
	l.serve.signal(syscall.SIGCONT)
	p.wait()
	eventually(t, "the run is over", func() bool { return l.run(id).Ended != nil })
	after := l.standing()
	for _, pump := range []string{"pump_a", "pump_b"} {
		if b, f, a := before[pump], frozen[pump], after[pump]; b.Doses != 1 || f.Doses != 1 || a.Doses != 1 || a.Dispensed > 0.201 {
			t.Errorf("%s: %+v, frozen %+v, then %+v", pump, b, f, a)
		}
	}
	if now := len(l.journal("--run", id, "--kind", "intent/v1")); now != intents {
		t.Errorf("%d effects were meant after it woke up", now-intents)
	}
	l.must(exitDone, "stop", "pump_a")
}

// badDisk is the library that makes a process's disk fail on demand.
func badDisk(t *testing.T) (library string) {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no gcc to build the bad disk with")
	}
	library = filepath.Join(tempDir(t), "baddisk.so")
	if out, err := exec.Command("gcc", "-shared", "-fPIC", "-O1", "-o", library, "testdata/baddisk/baddisk.c", "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return library
}

// The disk fails in the middle of a dose: it is full, it was made read-only, its
// sync fails. From then on no effect begins, stops work, the console of people
// says what is the matter, and after a restart on a good disk everything that
// anybody was told is there.
func TestBadDisk(t *testing.T) {
	library := badDisk(t)
	for _, how := range []string{"full", "readonly", "sync"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			if !heavy && how == "readonly" {
				t.Skip("like the others; LABGATE_HEAVY=1 runs it too")
			}
			diskFails(t, library, how)
		})
	}
}

func diskFails(t *testing.T, library, how string) {
	l := &twoProcesses{TB: t, lab: benchLab(t), data: tempDir(t)}
	l.startSim()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	trigger := filepath.Join(tempDir(t), "bad")
	l.serve = launchAs(l, self, []string{"LD_PRELOAD=" + library, "LABGATE_BAD_DISK=" + trigger}, "serve", "--lab", l.lab, "--data", l.data, "--json")
	l.serve.says(`"type":"ready"`)
	agent := connectAs(t, l.data, "planner_1")
	told := agent.propose(proposal("p1", "pour", "1.0.0", `,"inputs":{"temperature":{"value":40,"unit":"degC"},"volume":{"value":0.2,"unit":"mL"},"rate":{"value":0.6,"unit":"mL/min"}}`))
	if told.Decision != "accepted" {
		t.Fatalf("%+v", told)
	}
	l.delivering()
	if err := os.WriteFile(trigger, []byte(strings.TrimPrefix(how, "f")[:1]), 0o644); err != nil {
		t.Fatal(err)
	}
	if how == "full" {
		if err := os.WriteFile(trigger, []byte("f"), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	// The stop works, by the simulator's word, and says so.
	r := l.must(exitDone, "stop")
	wantIn(t, "stop", r.stdout, "pump_a", "pump_b")
	after := l.standing()
	for _, pump := range []string{"pump_a", "pump_b"} {
		if c := after[pump]; c.Doses != 1 || c.Stops == 0 || c.Dispensed >= 0.2 {
			t.Errorf("%s: %+v", pump, c)
		}
	}
	// Nobody is told that anything else was taken, and nothing moves.
	if v := agent.proposeWithin(proposal("p2", "pour", "1.0.0", `,"inputs":{"temperature":{"value":40,"unit":"degC"}}`), 3*time.Second); v.Decision == "accepted" {
		t.Errorf("%+v", v)
	}
	_, status := l.runs()
	alarmed := false
	for _, a := range status.Alarms {
		alarmed = alarmed || strings.Contains(a.Say, "the journal failed") && strings.Contains(a.Say, "until a person restarts")
	}
	if !alarmed {
		t.Errorf("no alarm of the journal: %+v", status.Alarms)
	}
	for _, pump := range []string{"pump_a", "pump_b"} {
		if c := l.count(pump); c.Doses != 1 {
			t.Errorf("%s: %+v", pump, c)
		}
	}

	l.serve.kill()
	if err := os.Remove(trigger); err != nil {
		t.Fatal(err)
	}
	l.startServe()
	if r := l.run(told.Run); r.Run != told.Run {
		t.Errorf("the run that was accepted is gone: %+v", r)
	}
	again := connectAs(t, l.data, "planner_1").propose(proposal("p1", "pour", "1.0.0", `,"inputs":{"temperature":{"value":40,"unit":"degC"},"volume":{"value":0.2,"unit":"mL"},"rate":{"value":0.6,"unit":"mL/min"}}`))
	if again.Run != told.Run || again.Decision != told.Decision {
		t.Errorf("told %+v, then %+v", told, again)
	}
	if r := run(t, "journal", "verify", l.data); r.code != exitDone {
		t.Errorf("%v", r)
	}
	if c := l.count("pump_a"); c.Doses != 1 {
		t.Errorf("%+v", c)
	}
}

// A clock that is behind the newest entry of the journal can't be trusted: no
// effect is sent, stops work, and the message says what is to be done.
func TestClockBehindJournal(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	if r := l.serve.interrupt(); r.code != exitDone {
		t.Fatalf("%v", r)
	}
	j, err := journal.Open(t.Context(), journal.Options{Dir: l.data, Lab: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	late := time.Now().Add(3 * time.Hour)
	body, err := json.Marshal(map[string]string{"what": "up"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), lab.Entry{Kind: "link/v1", Time: late, Origin: "gateway/bench", Boot: "later", Instrument: "pump_a", Body: body}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	was := l.counts()
	l.startServe()
	r := l.must(exitRefused, "submit", "pour", "--input", "temperature=40 degC", "--input", "volume=0.02 mL", "--input", "rate=10 mL/min")
	wantIn(t, "submit with a clock that is behind", r.stdout+r.stderr, "the clock can't be trusted: it is ", ", before the newest journal entry of ", "; set the clock, or wait until it has caught up")
	wantIn(t, "trips with a clock that is behind", l.must(exitDone, "trips").stdout, "the clock can't be trusted")
	l.must(exitDone, "stop")
	for _, pump := range []string{"pump_a", "pump_b"} {
		if c := l.count(pump); c.Doses != was[pump].Doses {
			t.Errorf("%s: %+v, was %+v", pump, c, was[pump])
		}
	}
}

// The server's files are deleted between a kill and a start. What was answered
// stays answered, nothing is done twice, and new proposals are taken.
func TestServerFilesGone(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	agent := connectAs(t, l.data, "planner_1")
	small := `,"inputs":{"temperature":{"value":40,"unit":"degC"},"volume":{"value":0.02,"unit":"mL"},"rate":{"value":10,"unit":"mL/min"}}`
	first := agent.propose(proposal("p1", "pour", "1.0.0", small))
	if first.Decision != "accepted" {
		t.Fatalf("%+v", first)
	}
	eventually(t, "the run is over", func() bool { return l.run(first.Run).Ended != nil })

	l.serve.kill()
	if err := os.RemoveAll(filepath.Join(l.data, "nats")); err != nil {
		t.Fatal(err)
	}
	l.startServe()
	agent = connectAs(t, l.data, "planner_1")
	if again := agent.propose(proposal("p1", "pour", "1.0.0", small)); again.Run != first.Run {
		t.Errorf("%+v, then %+v", first, again)
	}
	second := agent.propose(proposal("p2", "pour", "1.0.0", small))
	if second.Decision != "accepted" || second.Run == first.Run {
		t.Fatalf("%+v", second)
	}
	eventually(t, "the second run is over", func() bool { return l.run(second.Run).Ended != nil })
	if c := l.count("pump_a"); c.Doses != 2 {
		t.Errorf("%+v", c)
	}
}
