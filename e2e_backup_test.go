package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// A person holds a run and backs the station up in the middle of a dose. The
// restored station knows of the run and of the doses in doubt, says that it was
// restored, and moves nothing until a person has reset that.
func TestBackupRestore(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	p := l.submit("pour", "--input", "temperature=40 degC", "--input", "volume=0.2 mL", "--input", "rate=2 mL/min")
	l.delivering()
	id := begunRun(p)
	l.must(exitUsage, "hold", id, "--for", "a while", "--reason", "x")
	r := l.must(exitDone, "hold", id, "--for", "20 min", "--reason", "a back-up")
	wantIn(t, "hold", r.stdout, "held by operator_1: a back-up", "aborted at")
	backup := filepath.Join(tempDir(t), "b")
	wantIn(t, "backup", l.must(exitDone, "journal", "backup", backup, "--keys").stdout, "checked; head")
	wantIn(t, "runs", l.must(exitDone, "runs").stdout, "HELD", "as it stands: reactor.stirrer.stir", "reactor.jacket.heat", "labgate resume "+id)
	if r := run(t, "journal", "restore", backup, l.data, "--reason", "a try"); r.code != exitRefused || !strings.Contains(r.stderr, "is not empty") {
		t.Errorf("over the station's own folder: %v", r)
	}
	l.serve.interrupt()
	l.sim.interrupt()

	l.data = filepath.Join(tempDir(t), "d")
	wantIn(t, "restore", run(t, "journal", "restore", backup, l.data, "--reason", "the disk broke").stdout, "Every instrument is latched")
	l.startSim() // another world: nothing has been done in it
	l.startServe()
	_, status := l.runs()
	if len(status.Latches) != 1 || !strings.Contains(status.Latches[0].Say, "restored from the back-up of") || !strings.Contains(status.Latches[0].Say, "the disk broke") {
		t.Errorf("%+v", status.Latches)
	}
	if i := l.run(id); i.State != "held" || len(i.InDoubt) != 2 {
		t.Fatalf("%+v", i)
	}
	doubts := l.run(id).InDoubt
	if r := l.must(exitRefused, "resolve", doubts[0], "partly", "--amount", "3 s", "--reason", "looked"); !strings.Contains(r.stderr, "3 s is a time") {
		t.Errorf("%v", r)
	}
	l.must(exitUsage, "resolve", doubts[0], "partly", "--reason", "looked")
	l.must(exitDone, "resolve", doubts[0], "partly", "--amount", "0.1 mL", "--reason", "the balance")
	l.must(exitDone, "resolve", doubts[1], "done", "--reason", "the syringe")
	if c := l.standing(); c["pump_a"].Doses+c["pump_b"].Doses > 0 {
		t.Errorf("it moved: %+v", c)
	}
	l.must(exitDone, "reset", "stop", "--reason", "looked at all of it")
	l.must(exitDone, "abort", id, "--reason", "half made")
	eventually(t, "the run is over", func() bool { return l.run(id).Ended != nil })
	l.serve.interrupt()
	if c := l.counts(); c["pump_a"].Doses+c["pump_b"].Doses > 0 {
		t.Errorf("it moved: %+v", c)
	}
	wantIn(t, "verify", run(t, "journal", "verify", l.data).stdout, "the journal is whole")
	if n := len(l.journal("--kind", "restored/v1")); n != 1 {
		t.Errorf("on record as restored: %d times", n)
	}
}
