package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"labgate/internal/journal/chain"
	"labgate/lab"
)

// until polls with a deadline.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for", what)
		}
	}
}

// holdCommits stops the writer in its next commit, until it is released.
func holdCommits(j *Journal) (held <-chan struct{}, release func()) {
	commit := j.w.commitFn
	h, r := make(chan struct{}), make(chan struct{})
	var once sync.Once
	j.w.commitFn = func(s *sql.Stmt, args ...any) error { once.Do(func() { close(h); <-r }); return commit(s, args...) }
	return h, func() { close(r) }
}

// TestGroupCommit: what waits while a commit runs shares the next one, in the
// order in which it came, and one request's entries stay together.
func TestGroupCommit(t *testing.T) {
	j := open(t, t.TempDir())
	mustAppend(t, j, entry(0))
	held, release := holdCommits(j)
	const callers = 60
	refs := make([][]lab.Ref, callers)
	var wg sync.WaitGroup
	wg.Go(func() { mustAppend(t, j, entry(1)) })
	<-held
	for i := range callers {
		wg.Go(func() {
			refs[i] = mustAppend(t, j, keyed(10+i, fmt.Sprint("a", i)), entry(10+i), keyed(10+i, fmt.Sprint("b", i)))
		})
		until(t, "a request in the queue", func() bool { j.queue.mu.Lock(); defer j.queue.mu.Unlock(); return j.queue.waiters == i+1 })
	}
	release()
	wg.Wait()
	if j.Commits() != 3 {
		t.Errorf("%d commits", j.Commits())
	}
	for i, r := range refs {
		for k := range r {
			if want := uint64(3 + 3*i + k); r[k].Seq != want {
				t.Fatalf("entry %d of request %d is entry %d, want %d", k, i, r[k].Seq, want)
			}
		}
	}
}

// TestOrderOfEachCaller: whatever the groups, each caller's entries are in the
// order of its calls, notes included, and nothing is there twice.
func TestOrderOfEachCaller(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	const callers, rounds = 12, 25
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range rounds {
				e := entry(0)
				e.Origin, e.OriginSeq = fmt.Sprint("caller", c), uint64(2*i)
				j.Note(e)
				e.OriginSeq++
				mustAppend(t, j, e)
			}
		})
	}
	wg.Wait()
	next := map[string]uint64{}
	last := uint64(0)
	if err := j.Read(t.Context(), 1, func(r lab.Ref, e lab.Entry) error {
		if r.Seq != last+1 || e.OriginSeq != next[e.Origin] {
			return fmt.Errorf("entry %d after %d is number %d of %s, want %d", r.Seq, last, e.OriginSeq, e.Origin, next[e.Origin])
		}
		last, next[e.Origin] = r.Seq, e.OriginSeq+1
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if last != 2*callers*rounds || j.Commits() > callers*rounds {
		t.Errorf("%d entries in %d commits", last, j.Commits())
	}
}

func TestNotesAreFlushed(t *testing.T) {
	j := open(t, t.TempDir()) // on the machine's clock
	start := time.Now()
	j.Note(entry(1))
	until(t, "the note", func() bool { return j.Head().Seq == 1 })
	if d := time.Since(start); d < noteWithin/2 {
		t.Errorf("a note alone had a commit after %v", d)
	}
	if j.Commits() != 1 {
		t.Errorf("%d commits", j.Commits())
	}
}

// TestCancelled: who has given up before is refused, and nothing is written.
func TestCancelled(t *testing.T) {
	j := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		if _, err := j.Append(ctx, entry(1)); lab.KindOf(err) != lab.KindCancelled {
			t.Fatal(err)
		}
	}
	mustAppend(t, j)
	if j.Head().Seq != 0 {
		t.Errorf("head %v", j.Head())
	}
	if err := j.Read(ctx, 1, func(lab.Ref, lab.Entry) error { return nil }); lab.KindOf(err) != lab.KindUnavailable {
		t.Errorf("read: %v", err)
	}
	if _, err := Verify(ctx, j.dir); lab.KindOf(err) != lab.KindCancelled {
		t.Errorf("verify: %v", err)
	}
	dir := t.TempDir()
	if _, err := Open(ctx, Options{Dir: dir, Lab: "demo"}); err == nil {
		t.Error("opened")
	}
	mustClose(t, open(t, dir)) // the lock is free
}

// TestGivingUpIsBounded: callers that give up while the disk hangs don't fill
// the memory; those beyond the bound never get into the queue.
func TestGivingUpIsBounded(t *testing.T) {
	j := open(t, t.TempDir())
	mustAppend(t, j, entry(0))
	held, release := holdCommits(j)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	kinds := map[lab.Kind]int{}
	for range maxWaiting + 50 {
		wg.Go(func() {
			_, err := j.Append(ctx, entry(1))
			mu.Lock()
			defer mu.Unlock()
			kinds[lab.KindOf(err)]++
		})
	}
	<-held
	until(t, "all slots to be taken", func() bool { return len(j.slots) == maxWaiting })
	cancel()
	wg.Wait()
	if kinds[lab.KindOutcomeUnknown] != maxWaiting || kinds[lab.KindCancelled] != 50 {
		t.Errorf("got %v", kinds)
	}
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := j.Append(soon, entry(2)); lab.KindOf(err) != lab.KindCancelled {
		t.Errorf("one more: %v", err)
	}
	release()
	mustAppend(t, j, entry(3))
	if j.Head().Seq != maxWaiting+2 || len(j.slots) != 0 {
		t.Errorf("head %v, %d slots held", j.Head(), len(j.slots))
	}
}

// TestKillPoints copies the files at the moments where a kill could fall: before
// a commit, and between it and its head. What Append had returned is there.
func TestKillPoints(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	mustAppend(t, j, entry(0))
	rnd := rand.New(rand.NewSource(3))
	var mu sync.Mutex
	acked := map[uint64]string{}
	type snapshot struct {
		dir   string
		acked map[uint64]string
	}
	var shots []snapshot
	shoot := func() {
		if rnd.Intn(10) > 0 || len(shots) >= 10 {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		have := make(map[uint64]string, len(acked))
		for k, v := range acked {
			have[k] = v
		}
		shots = append(shots, snapshot{copyDir(t, dir), have})
	}
	commit := j.w.commitFn
	j.w.commitFn = func(s *sql.Stmt, args ...any) error { shoot(); err := commit(s, args...); shoot(); return err }
	var wg sync.WaitGroup
	for c := range 6 {
		wg.Go(func() {
			for i := range 25 {
				j.Note(entry(i))
				refs := mustAppend(t, j, keyed(i, fmt.Sprint(c, "/", i)), entry(i))
				mu.Lock()
				for _, r := range refs {
					acked[r.Seq] = r.Hash
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	mustClose(t, j)
	if len(shots) < 5 {
		t.Fatalf("only %d snapshots", len(shots))
	}
	for i, s := range shots {
		rep, err := Verify(t.Context(), s.dir)
		if err != nil || !rep.OK {
			t.Fatalf("snapshot %d: %+v, %v", i, rep, err)
		}
		k := open(t, s.dir)
		if err := k.Read(t.Context(), 1, func(r lab.Ref, _ lab.Entry) error {
			if want, ok := s.acked[r.Seq]; ok && want != r.Hash {
				return fmt.Errorf("entry %d changed", r.Seq)
			}
			delete(s.acked, r.Seq)
			return nil
		}); err != nil || len(s.acked) > 0 {
			t.Fatalf("snapshot %d: %d acknowledged entries are gone, %v", i, len(s.acked), err)
		}
		mustAppend(t, k, entry(1))
		mustClose(t, k)
	}
}

// TestPoisonAfterTheCommit: a commit that was durable but said that it failed.
// Nobody is told that it worked, nothing more is taken, and a restart finds it.
func TestPoisonAfterTheCommit(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	mustAppend(t, j, entry(1))
	commit := j.w.commitFn
	j.w.commitFn = func(s *sql.Stmt, args ...any) error { return errors.Join(commit(s, args...), errors.New("no answer")) }
	if refs, err := j.Append(t.Context(), keyed(2, "k")); lab.KindOf(err) != lab.KindUnavailable || refs != nil {
		t.Errorf("%v, %v", refs, err)
	}
	if j.Poisoned() == nil || j.Head().Seq != 1 {
		t.Errorf("%v, head %v", j.Poisoned(), j.Head())
	}
	if err := j.Close(); err == nil {
		t.Error("closed as if nothing was")
	}
	if rep, err := Verify(t.Context(), dir); err != nil || !rep.OK || rep.Entries != 2 {
		t.Errorf("%+v, %v", rep, err)
	}
	k := open(t, dir)
	if _, _, ok, err := k.Seen(t.Context(), "k"); !ok || err != nil || k.Head().Seq != 2 {
		t.Errorf("%v, %v, head %v", ok, err, k.Head())
	}
}

// TestPoisonByTheHead: a head file that can't be written stops the journal. What
// was durable before that was found is told as durable.
func TestPoisonByTheHead(t *testing.T) {
	j := open(t, t.TempDir())
	mustAppend(t, j, entry(1))
	if err := j.head.f.Close(); err != nil {
		t.Fatal(err)
	}
	if refs, err := j.Append(t.Context(), entry(2)); err != nil || refs[0].Seq != 2 {
		t.Errorf("%v, %v", refs, err)
	}
	if _, err := j.Append(t.Context(), entry(3)); lab.KindOf(err) != lab.KindUnavailable || !errors.Is(j.Poisoned(), os.ErrClosed) {
		t.Errorf("got %v, poisoned %v", err, j.Poisoned())
	}
}

// TestHashOfTheFile: only a journal that was closed with nothing left in its
// log vouches for its bytes.
func TestHashOfTheFile(t *testing.T) {
	dir := t.TempDir()
	vouches := func() bool {
		h, have, err := readHead(dir)
		if err != nil || !have {
			t.Fatal(have, err)
		}
		return h.File != ""
	}
	j := open(t, dir)
	mustAppend(t, j, entry(1))
	if vouches() {
		t.Error("while it is open")
	}
	mustClose(t, j)
	if _, err := os.Stat(filepath.Join(dir, dbFile+"-wal")); !errors.Is(err, os.ErrNotExist) || !vouches() {
		t.Errorf("not after a clean close: %v", err)
	}
	j = open(t, dir)
	if vouches() {
		t.Error("while it is open again")
	}
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	mustAppend(t, j, entry(2))
	if err := r.Read(t.Context(), 1, Filter{}, func(lab.Ref, lab.Entry) error { return stop }); err != stop {
		t.Fatal(err)
	}
	mustClose(t, j) // beside a reader the log stays
	if walExists(dir) == vouches() {
		t.Errorf("log left: %v, vouches: %v", walExists(dir), vouches())
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if rep, err := Verify(t.Context(), dir); err != nil || !rep.OK || rep.Entries != 2 {
		t.Errorf("%+v, %v", rep, err)
	}
	mustClose(t, open(t, dir))
	if !vouches() {
		t.Error("not after the next clean close")
	}
	// A kill between the last checkpoint and the head: no log, no hash.
	h, _, err := readHead(dir)
	if err != nil {
		t.Fatal(err)
	}
	w, err := openHead(dir, h.N)
	if err == nil {
		err = errors.Join(w.write(head{Seq: h.Seq, Hash: h.Hash}, true), w.close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if rep, err := Verify(t.Context(), dir); err != nil || !rep.OK {
		t.Errorf("%+v, %v", rep, err)
	}
	mustClose(t, open(t, dir))
}

// TestOddFolders: the folder's name is a name, not a part of an address.
func TestOddFolders(t *testing.T) {
	for _, name := range []string{"a b", "50%", "a%41", "what?", "a?mode=memory", "a#b", "ü", "a&b=c", "a;b", `a"b'c`, "-wal"} {
		top := t.TempDir()
		dir := filepath.Join(top, name)
		j := open(t, dir)
		mustAppend(t, j, entry(1))
		mustClose(t, j)
		if _, err := os.Stat(filepath.Join(dir, dbFile)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if all, err := os.ReadDir(top); err != nil || len(all) != 1 {
			t.Errorf("%s: %v, %v", name, all, err)
		}
		if rep, err := Verify(t.Context(), dir); err != nil || !rep.OK || rep.Entries != 1 {
			t.Errorf("%s: %+v, %v", name, rep, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", file, filepath.Join(file, "x")} {
		if _, err := Open(t.Context(), Options{Dir: dir, Lab: "demo"}); lab.KindOf(err) != lab.KindUnavailable {
			t.Errorf("%q: %v", dir, err)
		}
	}
}

// TestOddKeys: keys are bytes, not patterns, queries or C strings.
func TestOddKeys(t *testing.T) {
	j := open(t, t.TempDir())
	keys := []string{"a", "A", "a\x00b", "a\x00c", "a\x00", "a ", " a", "'", `"`, `\`, "%", "_", "*", "a'; DROP TABLE entries; --", "é", "e\u0301", "\u2028", "\U0001F600", "1", "1.0", "null", "true", strings.Repeat("k", 5000)}
	refs := map[string]lab.Ref{}
	for i, k := range keys {
		refs[k] = mustAppend(t, j, keyed(i, k))[0]
	}
	for i, k := range keys {
		if r, e, ok, err := j.Seen(t.Context(), k); err != nil || !ok || r != refs[k] || e.Key != k {
			t.Errorf("%q: %v, %v, %v", k, r, ok, err)
		}
		if _, err := j.Append(t.Context(), keyed(i, k)); lab.KindOf(err) != lab.KindConflict {
			t.Errorf("%q again: %v", k, err)
		}
	}
	for _, k := range []string{"", "b", "a\x00d", "\xff", "E\u0301"} {
		if _, _, ok, err := j.Seen(t.Context(), k); ok || err != nil {
			t.Errorf("%q: %v, %v", k, ok, err)
		}
	}
	if rep, err := Verify(t.Context(), j.dir); err != nil || !rep.OK || rep.Entries != uint64(len(keys)) || j.Poisoned() != nil {
		t.Errorf("%+v, %v, %v", rep, err, j.Poisoned())
	}
}

// TestAgainstAModel: any sequence of calls, with restarts and kills in between,
// leaves what a list would hold.
func TestAgainstAModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		j := open(t, dir)
		var want, noted []string
		taken := map[string]bool{}
		n := 0
		next := func(key string) lab.Entry {
			n++
			e := keyed(n%60, key)
			e.Step = fmt.Sprint(n)
			return e
		}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"append", "append", "append", "note", "close", "kill"}).Draw(rt, "step") {
			case "append":
				var es []lab.Entry
				var steps []string
				conflict, own := false, map[string]bool{}
				for range rapid.IntRange(0, 3).Draw(rt, "entries") {
					key := rapid.SampledFrom([]string{"", "", "a", "b", "c"}).Draw(rt, "key")
					e := next(key)
					es, steps = append(es, e), append(steps, e.Step)
					conflict = conflict || key != "" && (taken[key] || own[key])
					own[key] = true
				}
				refs, err := j.Append(context.Background(), es...)
				want, noted = append(want, noted...), nil
				if conflict != (lab.KindOf(err) == lab.KindConflict && err != nil) || !conflict && (err != nil || len(refs) != len(es)) {
					rt.Fatalf("%d entries, conflict %v: %v, %v", len(es), conflict, refs, err)
				}
				if !conflict {
					want = append(want, steps...)
					for k := range own {
						taken[k] = true
					}
				}
			case "note":
				e := next("")
				j.Note(e)
				noted = append(noted, e.Step)
			case "close":
				mustClose(t, j)
				want, noted = append(want, noted...), nil
				j = open(t, dir)
			case "kill": // notes that were not flushed may be gone
				mustAppend(t, j)
				want, noted = append(want, noted...), nil
				dead := dir
				dir = copyDir(t, dead)
				mustClose(t, j)
				j = open(t, dir)
			}
		}
		mustAppend(t, j)
		want = append(want, noted...)
		var got []string
		if err := j.Read(context.Background(), 1, func(r lab.Ref, e lab.Entry) error {
			got = append(got, e.Step)
			return nil
		}); err != nil || strings.Join(got, " ") != strings.Join(want, " ") || j.Head().Seq != uint64(len(want)) {
			rt.Fatalf("got %v, want %v, %v", got, want, err)
		}
		if rep, err := Verify(context.Background(), dir); err != nil || !rep.OK || rep.Entries != uint64(len(want)) || rep.Head != j.Head().Hash {
			rt.Fatalf("%+v, %v", rep, err)
		}
		mustClose(t, j)
	})
}

// TestOldCopy: a back-up that was put back, with the head as it was left, is
// found out; with its own head it is a good journal of its time.
func TestOldCopy(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	mustAppend(t, j, entry(1), entry(2))
	mustClose(t, j)
	old := copyDir(t, dir)
	j = open(t, dir)
	mustAppend(t, j, entry(3))
	mustClose(t, j)
	mixed := copyDir(t, dir)
	b, err := os.ReadFile(filepath.Join(old, dbFile))
	if err == nil {
		err = os.WriteFile(filepath.Join(mixed, dbFile), b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if rep, err := Verify(t.Context(), mixed); err != nil || rep.OK || !strings.HasPrefix(rep.Problem, "the journal ends at entry 2, but entry 3 was written") || rep.Entries != 2 {
		t.Errorf("%+v, %v", rep, err)
	}
	if rep, err := Verify(t.Context(), old); err != nil || !rep.OK || rep.Entries != 2 {
		t.Errorf("%+v, %v", rep, err)
	}
}

// TestRewrittenEnd: entries that were replaced by others, with a chain that
// fits, don't fit the head.
func TestRewrittenEnd(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	mustAppend(t, j, entry(1), entry(2))
	bad := copyDir(t, dir)
	before := j.Head()
	other, err := chain.Canonical(entry(9))
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", fileURI(filepath.Join(bad, dbFile)))
	if err != nil {
		t.Fatal(err)
	}
	var first string
	if err := db.QueryRow(`SELECT lower(hex(hash)) FROM entries WHERE seq = 1`).Scan(&first); err != nil {
		t.Fatal(err)
	}
	sum := chain.Sum(first, other)
	if _, err := db.Exec(`UPDATE entries SET hash = ?, json = ? WHERE seq = 2`, sum[:], string(other)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if rep, err := Verify(t.Context(), bad); err != nil || rep.OK || rep.Problem != "entry 2 is not the one that the head file names" || rep.Head == before.Hash {
		t.Errorf("%+v, %v", rep, err)
	}
}

// TestBlobsThatAreNoFiles: what stands in a value's place is read only if it
// can be one.
func TestBlobsThatAreNoFiles(t *testing.T) {
	dir := t.TempDir()
	b := NewBlobs(dir)
	hash, err := b.Put(t.Context(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "blobs", hash[7:9], hash[9:])
	for name, put := range map[string]func() error{
		"a link to itself":     func() error { return os.Symlink(path, path) },
		"a link out":           func() error { return os.Symlink("/dev/zero", path) },
		"a pipe":               func() error { return syscall.Mkfifo(path, 0o644) },
		"a folder":             func() error { return os.Mkdir(path, 0o755) },
		"larger than any blob": func() error { return errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, MaxBlob+1)) },
		"cut short":            func() error { return os.WriteFile(path, nil, 0o644) },
	} {
		if err := errors.Join(os.Remove(path), put()); err != nil {
			t.Fatal(name, err)
		}
		if got, err := b.Get(hash); lab.KindOf(err) != lab.KindContradicted || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
