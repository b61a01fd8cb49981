package journal

import (
	"bytes"
	"database/sql"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mattn/go-sqlite3"

	"labgate/internal/journal/chain"
	"labgate/lab"
)

const testBallast = 2 << 20

// smallDisk is a real file system of 8 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("no small disk: mounting a tmpfs here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill writes a file until the disk is full, and leaves a little room.
func fill(t *testing.T, dir string, leave int64) (filler string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	size, err := io.Copy(f, zeros{})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size-leave), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func openBallasted(t *testing.T, dir string, said *[]string) *Journal {
	t.Helper()
	j, err := Open(t.Context(), Options{Dir: dir, Lab: "demo", Ballast: testBallast, Log: func(s string) { *said = append(*said, s) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() }) // a test that cares has closed it
	return j
}

// large is an entry that takes room.
func large(kind string) lab.Entry {
	return lab.Entry{Kind: kind, Body: []byte(`"` + strings.Repeat("x", 100<<10) + `"`)}
}

// TestFullDisk: on a real disk that fills up, what begins something is refused,
// never tried again; what was begun, and stops, go on record; what was
// acknowledged is there after a restart, and with room again all is as before.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t)
	dir := filepath.Join(disk, "data")
	var said []string
	j := openBallasted(t, dir, &said)
	if st, err := os.Stat(filepath.Join(dir, ballastFile)); err != nil || st.Size() != testBallast {
		t.Fatal(st, err)
	}
	mustAppend(t, j, keyed(1, "before"))
	filler := fill(t, disk, 300<<10)

	var err error
	var acknowledged uint64
	for i := 0; err == nil; i++ {
		if i > 100 {
			t.Fatal("the disk is never full")
		}
		acknowledged = j.Head().Seq
		_, err = j.Append(t.Context(), large("intent/v1"))
	}
	if !errors.Is(err, ErrDiskFull) || lab.KindOf(err) != lab.KindUnavailable || j.Poisoned() != nil {
		t.Fatalf("got %v; poisoned: %v", err, j.Poisoned())
	}
	if _, err := os.Stat(filepath.Join(dir, ballastFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the ballast: %v", err)
	}
	// It is not tried again when there is room.
	if n := j.Head().Seq; n != acknowledged+1 {
		t.Errorf("the head is %d; %d entries were acknowledged", n, acknowledged)
	}
	for range 5 {
		if _, err := j.Append(t.Context(), entry(2)); !errors.Is(err, ErrDiskFull) {
			t.Errorf("got %v", err)
		}
		if _, err := j.Append(t.Context(), lab.Entry{Kind: "outcome/v1"}, lab.Entry{Kind: "intent/v1"}); !errors.Is(err, ErrDiskFull) {
			t.Errorf("got %v", err)
		}
		j.Note(lab.Entry{Kind: "denial/v1"}, lab.Entry{Kind: "stop/v1"}, lab.Entry{Kind: "denial/v1"})
		mustAppend(t, j, large("outcome/v1"), lab.Entry{Kind: "order_end/v1"})
	}
	if len(said) != 1 || !strings.Contains(said[0], "make room, then restart") {
		t.Errorf("said %q", said)
	}
	mustClose(t, j)
	rep := verified(t, dir)
	counts := map[string]int{}
	var last string
	if err := Show(t.Context(), dir, Filter{}, func(r lab.Ref, e lab.Entry) error {
		if counts[e.Kind]++; r.Seq > acknowledged {
			last = e.Kind + string(e.Body)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if counts["outcome/v1"] != 5 || counts["order_end/v1"] != 5 || counts["stop/v1"] != 5 || counts["denial/v1"] != 0 || uint64(counts["intent/v1"]) != acknowledged || counts[chain.DiskFull] != 2 {
		t.Errorf("%v, %d were acknowledged", counts, acknowledged)
	}
	if want := chain.DiskFull + `{"notes_refused":10,"say":"the disk was full to the end"}`; last != want {
		t.Errorf("the end is %s", last)
	}

	// Without room a restart takes last words only, too.
	said = nil
	fill(t, disk, 700<<10)
	j = openBallasted(t, dir, &said)
	if _, err := j.Append(t.Context(), entry(1)); !errors.Is(err, ErrDiskFull) || len(said) != 1 {
		t.Errorf("got %v, said %q", err, said)
	}
	mustAppend(t, j, lab.Entry{Kind: "stop/v1"})
	mustClose(t, j)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	j = openBallasted(t, dir, &said)
	mustAppend(t, j, entry(1))
	if st, err := os.Stat(filepath.Join(dir, ballastFile)); err != nil || st.Size() != testBallast {
		t.Error(st, err)
	}
	mustClose(t, j)
	if again := verified(t, dir); again.Entries != rep.Entries+2 {
		t.Errorf("%d entries, then %d", rep.Entries, again.Entries)
	}
}

// TestFullDiskToTheEnd: when the ballast's room is used up as well, the journal
// fails as on any other error, and nobody is left waiting.
func TestFullDiskToTheEnd(t *testing.T) {
	disk := smallDisk(t)
	var said []string
	j := openBallasted(t, filepath.Join(disk, "data"), &said)
	mustAppend(t, j, entry(1))
	fill(t, disk, 0)
	var err error
	acknowledged := uint64(0)
	for i := 0; err == nil; i++ {
		if i > 100 {
			t.Fatal("the disk is never full")
		}
		acknowledged = j.Head().Seq
		_, err = j.Append(t.Context(), large("outcome/v1"))
	}
	if j.Poisoned() == nil || acknowledged < 5 {
		t.Errorf("%v after %d entries, poisoned: %v", err, acknowledged, j.Poisoned())
	}
	if err := j.Close(); err == nil {
		t.Error("Close says nothing")
	}
	if rep := verified(t, filepath.Join(disk, "data")); rep.Entries < acknowledged {
		t.Errorf("%d entries; %d were acknowledged", rep.Entries, acknowledged)
	}
}

// TestFailingCommits: a disk without room is the one failure after which the
// journal goes on. After any other nothing is certain.
func TestFailingCommits(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		ballast int64
		full    bool
	}{
		"full":            {sqlite3.Error{Code: sqlite3.ErrFull}, testBallast, true},
		"full, unbridged": {sqlite3.Error{Code: sqlite3.ErrFull}, 0, false},
		"failing fsync":   {sqlite3.Error{Code: sqlite3.ErrIoErr, ExtendedCode: sqlite3.ErrIoErrFsync, SystemErrno: syscall.ENOSPC}, testBallast, false},
		"failing write":   {sqlite3.Error{Code: sqlite3.ErrIoErr, ExtendedCode: sqlite3.ErrIoErrWrite, SystemErrno: syscall.EIO}, testBallast, false},
		"read-only":       {sqlite3.Error{Code: sqlite3.ErrReadonly, SystemErrno: syscall.EROFS}, testBallast, false},
		"anything else":   {errors.New("the disk is on fire"), testBallast, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j, err := Open(t.Context(), Options{Dir: dir, Lab: "demo", Ballast: c.ballast})
			if err != nil {
				t.Fatal(err)
			}
			mustAppend(t, j, entry(1))
			tries, commit := 0, j.w.commitFn
			j.w.commitFn = func(s *sql.Stmt, args ...any) error {
				if tries++; tries == 1 {
					return c.err
				}
				return commit(s, args...)
			}
			if _, err := j.Append(t.Context(), keyed(2, "effect")); lab.KindOf(err) != lab.KindUnavailable || errors.Is(err, ErrDiskFull) != c.full {
				t.Errorf("got %v", err)
			}
			_, err = j.Append(t.Context(), lab.Entry{Kind: "outcome/v1"})
			if (err == nil) != c.full || (j.Poisoned() == nil) != c.full {
				t.Errorf("got %v, poisoned: %v", err, j.Poisoned())
			}
			if want := map[bool]int{true: 3, false: 1}[c.full]; tries != want {
				t.Errorf("%d commits", tries)
			}
			if _, err := os.Stat(filepath.Join(dir, ballastFile)); (err == nil) != (c.ballast > 0 && !c.full) {
				t.Errorf("the ballast: %v", err)
			}
			_ = j.Close() // it failed, or not
			if _, _, ok, err := seenIn(t, dir, "effect"); ok || err != nil {
				t.Errorf("the refused effect is in the journal: %v", err)
			}
		})
	}
}

func seenIn(t *testing.T, dir, key string) (lab.Ref, lab.Entry, bool, error) {
	t.Helper()
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return r.Seen(t.Context(), key)
}

// TestBallast: it takes up real room, and one that a kill left half made is
// made anew.
func TestBallast(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, ballastFile)
	if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	var said []string
	mustClose(t, openBallasted(t, dir, &said))
	b, err := os.ReadFile(path)
	if err != nil || len(b) != testBallast || len(said) > 0 {
		t.Fatal(len(b), err, said)
	}
	if at := bytes.Index(b, make([]byte, 16)); at >= 0 {
		t.Errorf("a hole at %d", at)
	}
}
