package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"labgate/lab"
)

// The disk is really full, in the middle of a dose. The dose's outcome is put on
// record out of the ballast, no effect begins, stops work. With room again a
// restart has everything that anybody was told.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	data := tempDir(t)
	if err := syscall.Mount("tmpfs", data, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("no small disk: mounting a tmpfs here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(data, 0); err != nil {
			t.Error(err)
		}
	})
	l := &twoProcesses{TB: t, lab: benchLab(t), data: data}
	l.startSim()
	l.startServe()
	agent := connectAs(t, l.data, "planner_1")
	told := agent.propose(proposal("p1", "pour", "1.0.0", `,"inputs":{"temperature":{"value":40,"unit":"degC"},"volume":{"value":0.2,"unit":"mL"},"rate":{"value":6,"unit":"mL/min"}}`))
	if told.Decision != "accepted" {
		t.Fatalf("%+v", told)
	}
	l.delivering()
	filler := fillDisk(t, data)

	eventually(t, "the run is over", func() bool { return l.run(told.Run).Ended != nil })
	r := l.must(exitDone, "stop")
	wantIn(t, "stop", r.stdout, "pump_a", "pump_b")
	_, status := l.runs()
	alarmed := false
	for _, a := range status.Alarms {
		alarmed = alarmed || strings.Contains(a.Say, "the disk that the journal is on is full") && strings.Contains(a.Say, "make room, then restart")
	}
	if !alarmed {
		t.Errorf("no alarm of the disk: %+v", status.Alarms)
	}
	before := l.counts()
	if v := agent.proposeWithin(proposal("p2", "pour", "1.0.0", `,"inputs":{"temperature":{"value":40,"unit":"degC"}}`), 3*time.Second); v.Decision == "accepted" {
		t.Errorf("%+v", v)
	}
	if after := l.counts(); after["pump_a"].Doses != before["pump_a"].Doses || before["pump_a"].Doses != 1 {
		t.Errorf("%+v, then %+v", before["pump_a"], after["pump_a"])
	}
	if r := l.serve.interrupt(); strings.Contains(r.stderr, "panic") {
		t.Errorf("%v", r)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	l.startServe()
	if n := len(l.journal("--kind", "disk_full/v1")); n == 0 {
		t.Error("nothing on record of the full disk")
	}
	if len(l.journal("--kind", "stop/v1")) == 0 {
		t.Error("the stop is not on record")
	}
	if o := l.outcomes(told.Run)["feed.gold_in"]; o.State != lab.Confirmed {
		t.Errorf("what was under way when the disk was full: %+v", o)
	}
	if st, err := os.Stat(filepath.Join(data, "journal.ballast")); err != nil || st.Size() != ballast {
		t.Errorf("the ballast: %v, %v", st, err)
	}
	again := connectAs(t, l.data, "planner_1").propose(proposal("p1", "pour", "1.0.0", `,"inputs":{"temperature":{"value":40,"unit":"degC"},"volume":{"value":0.2,"unit":"mL"},"rate":{"value":6,"unit":"mL/min"}}`))
	if again.Run != told.Run {
		t.Errorf("told %+v, then %+v", told, again)
	}
	if r := run(t, "journal", "verify", l.data); r.code != exitDone {
		t.Errorf("%v", r)
	}
}

// fillDisk leaves no byte of room.
func fillDisk(t *testing.T, dir string) (filler string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
