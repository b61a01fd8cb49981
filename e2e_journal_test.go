package main

import (
	"database/sql"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// TestBadJournals: a station does not start on a journal that is not whole, not
// its own or not there. It says why and what to do, writes nothing, and no
// instrument moves. Golden files: testdata/journals.
func TestBadJournals(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	second := run(t, "serve", "--lab", l.lab, "--data", l.data)
	wantJournalSays(t, l, "in_use", second)
	l.serve.interrupt()
	old := readFile(t, filepath.Join(l.data, "journal.db"))
	l.startServe()
	l.must(exitDone, "stop")
	l.serve.interrupt()
	whole := map[string][]byte{"journal.db": readFile(t, filepath.Join(l.data, "journal.db")), "journal.head": readFile(t, filepath.Join(l.data, "journal.head"))}
	moved := l.standing()

	change := func(text string) func(string) error {
		return func(path string) error {
			db, err := sql.Open("sqlite3", "file:"+path)
			if err == nil {
				_, err = db.Exec(text)
				err = errors.Join(err, db.Close())
			}
			return err
		}
	}
	for name, spoil := range map[string]func(db string) error{
		"other_lab": change(`UPDATE meta SET value = 'annex' WHERE name = 'lab'`),
		"newer":     change(`UPDATE meta SET value = '7' WHERE name = 'schema'`),
		"no_journal": func(db string) error {
			return os.WriteFile(db, []byte(strings.Repeat("A photo of a cat. ", 500)), 0o644)
		},
		"old_backup": func(db string) error { return os.WriteFile(db, old, 0o644) },
		"gone":       os.Remove,
		"emptied":    func(db string) error { return os.Truncate(db, 0) },
		"no_head":    func(db string) error { return os.Remove(filepath.Join(filepath.Dir(db), "journal.head")) },
		"bad_head": func(db string) error {
			return os.WriteFile(filepath.Join(filepath.Dir(db), "journal.head"), []byte("{}"), 0o644)
		},
		"changed": change(`UPDATE entries SET json = replace(json, '"kind":"link/v1"', '"kind":"trip/v1"') WHERE seq > 3`),
	} {
		for f, b := range whole {
			if err := os.WriteFile(filepath.Join(l.data, f), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range []string{"journal.db-wal", "journal.db-shm"} {
			if err := os.Remove(filepath.Join(l.data, f)); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		if err := spoil(filepath.Join(l.data, "journal.db")); err != nil {
			t.Fatal(err)
		}
		before := everyFile(t, l.data)
		r := run(t, "serve", "--lab", l.lab, "--data", l.data)
		wantJournalSays(t, l, name, r)
		if after := everyFile(t, l.data); !maps.Equal(before, after) {
			t.Errorf("%s: a file was changed: %v", name, cmp.Diff(before, after))
		}
	}
	if now := l.standing(); !cmp.Equal(moved, now) {
		t.Errorf("something moved: %s", cmp.Diff(moved, now))
	}
}

// wantJournalSays fails unless a station refused to start as a golden file says.
func wantJournalSays(t *testing.T, l *twoProcesses, name string, r result) {
	t.Helper()
	said := strings.ReplaceAll(r.stderr, l.data, "DATA")
	said = regexp.MustCompile(`(process|entry|are) [0-9]+`).ReplaceAllString(said, "$1 N") // they depend on what happened when
	file := filepath.Join("testdata", "journals", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(said), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := string(readFile(t, file)); r.code != exitRefused || r.stdout != "" || said != want {
		t.Errorf("%s: exit code %d, %q; want %q", name, r.code, said, want)
	}
}

// everyFile has the bytes of every file of a data folder, but for those that
// processes lock and share.
func everyFile(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "journal.lock" || d.Name() == "journal.db-shm" {
			return err
		}
		b, err := os.ReadFile(path)
		if name := strings.TrimPrefix(path, dir); len(b) > 0 || d.Name() != "journal.db-wal" {
			all[name] = lab.HashText(b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
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
