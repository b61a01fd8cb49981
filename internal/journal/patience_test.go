package journal

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"labgate/lab"
)

// long is a killed journal that takes a while to check.
func long(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	j := open(t, dir)
	for range 60 {
		var list []lab.Entry
		for i := range 500 {
			list = append(list, entry(i))
		}
		mustAppend(t, j, list...)
	}
	killed := copyDir(t, dir)
	mustClose(t, j)
	return killed
}

// An impatient Open returns a journal that can be read; what is handed over
// waits for the check, and until then no byte changes.
func TestPatience(t *testing.T) {
	dir := long(t)
	before := fileBytes(t, dir)
	j, err := Open(t.Context(), Options{Dir: dir, Lab: "demo", Patience: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	if n := j.Head().Seq; n != 30_000 {
		t.Errorf("the head is %d", n)
	}
	if _, e, ok, err := j.Newest(t.Context(), "intent/v1", "gateway/bench"); !ok || err != nil || e.OriginSeq != 499 {
		t.Errorf("%+v %v %v", e, ok, err)
	}
	if fileBytes(t, dir) != before {
		t.Error("something was written before the check was good")
	}
	if ref, err := j.Append(t.Context(), keyed(1, "late")); err != nil || ref[0].Seq != 30_001 {
		t.Errorf("%+v %v", ref, err)
	}
	if err := j.Checked(t.Context()); err != nil {
		t.Error(err)
	}
	mustClose(t, j)
	if rep, err := Verify(t.Context(), dir); err != nil || !rep.OK || rep.Entries != 30_001 {
		t.Errorf("%+v %v", rep, err)
	}
}

// What the check finds after Open has returned poisons the journal before
// anything is written; what can be seen at once is found by Open itself.
func TestPatienceFindsDamage(t *testing.T) {
	base := long(t)
	for name, c := range map[string]struct {
		sql, want string
		late      bool
	}{
		"an old entry": {`UPDATE entries SET json = replace(json, '0.2', '0.3') WHERE seq = 7`, "entry 7 was changed", true},
		"a late entry": {`UPDATE entries SET json = replace(json, '0.2', '0.3') WHERE seq = 29990`, "entry 29990 was changed", false},
		"a cut end":    {`DELETE FROM entries WHERE seq > 29000`, "the journal ends at entry 29000, but entry 30000 was written", false},
		"another lab":  {`UPDATE meta SET value = 'other' WHERE name = 'lab'`, `the journal belongs to lab "other", not "demo"`, false},
		"a trigger":    {`CREATE TRIGGER x AFTER INSERT ON entries BEGIN DELETE FROM entries WHERE seq < 10; END`, "the file's layout was changed", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyDir(t, base)
			execIn(t, dir, c.sql)
			before := fileBytes(t, dir)
			j, err := Open(t.Context(), Options{Dir: dir, Lab: "demo", Patience: time.Nanosecond})
			if c.late && err == nil {
				if _, err := j.Append(t.Context(), entry(1)); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Append: %v", err)
				}
				err = j.Checked(t.Context())
				if cerr := j.Close(); cerr == nil {
					t.Error("Close says nothing")
				}
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Checked: %v", err)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open: %v", err)
			}
			if fileBytes(t, dir) != before {
				t.Error("a bad journal was written to")
			}
		})
	}
}

// Closing in the middle of the check ends it, and changes nothing.
func TestPatienceClosed(t *testing.T) {
	dir := long(t)
	j, err := Open(t.Context(), Options{Dir: dir, Lab: "demo", Patience: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error)
	go func() { _, err := j.Append(context.WithoutCancel(t.Context()), entry(1)); waiting <- err }()
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	appended := <-waiting == nil
	if j = open(t, dir); appended != (j.Head().Seq == 30_001) {
		t.Errorf("appended: %v, head %d", appended, j.Head().Seq)
	}
	mustClose(t, j)
}

// fileBytes is all that a journal's files hold, but for its lock and for what
// SQLite's readers share.
func fileBytes(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	for _, f := range []string{dbFile, dbFile + "-wal", headFile} {
		b, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		all.WriteString(lab.HashText(b))
	}
	return all.String()
}
