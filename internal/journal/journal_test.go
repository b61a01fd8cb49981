package journal

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"labgate/internal/journal/chain"
	"labgate/lab"
)

// crashEnv makes the test program a writer that the crash test kills.
const crashEnv = "LABGATE_TEST_JOURNAL_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashEnv); dir != "" {
		writeUntilKilled(dir)
	}
	if os.Getenv("LABGATE_HEAVY") == "" {
		if err := flag.Set("rapid.checks", "40"); err != nil { // a check opens and closes files many times
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

func entry(i int) lab.Entry {
	return lab.Entry{Kind: "intent/v1", Time: time.Date(2026, 11, 22, 10, 0, i, 12345, time.UTC), Origin: "gateway/bench", OriginSeq: uint64(i), Boot: "01KBOOT", Principal: "planner_1",
		Run: fmt.Sprintf("01KRUN%d", i%3), Instrument: "pump_a", Command: fmt.Sprintf("01KCMD%06d", i), Samples: []string{"s1"}, Labels: map[string]string{"b": "2", "a": "<é>"}, Synthetic: true,
		Body: json.RawMessage(fmt.Sprintf(`{"n":%d,"volume":{"unit":"mL","value":0.2},"text":"5 < 6 & \"x\""}`, i))}
}

func keyed(i int, key string) lab.Entry {
	e := entry(i)
	e.Key = key
	return e
}

func open(t testing.TB, dir string) *Journal {
	t.Helper()
	j, err := Open(t.Context(), Options{Dir: dir, Lab: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() }) // a test that cares has closed it
	return j
}

// mustAppend returns once the head file knows of the entries too: it is written
// after the answer, and before whatever is appended next.
func mustAppend(t testing.TB, j *Journal, entries ...lab.Entry) []lab.Ref {
	t.Helper()
	refs, err := j.Append(t.Context(), entries...)
	if err == nil {
		_, err = j.Append(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return refs
}

func mustClose(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// export is everything in a journal as text.
func export(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := Show(t.Context(), dir, Filter{}, func(r lab.Ref, e lab.Entry) error {
		line, err := json.Marshal(e)
		fmt.Fprintf(&b, "%d %s %s\n", r.Seq, r.Hash, line)
		return err
	})
	if err != nil {
		return err.Error()
	}
	return b.String()
}

func TestWhatGoesInComesOut(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	j := open(t, dir)
	var want []lab.Entry
	for i := range 1200 { // more than a page of reading
		want = append(want, entry(i))
	}
	want[7].Body = nil
	refs := mustAppend(t, j, want...)
	check := func(read func(fn func(lab.Ref, lab.Entry) error) error) {
		t.Helper()
		var got []lab.Entry
		var at []lab.Ref
		if err := read(func(r lab.Ref, e lab.Entry) error { got, at = append(got, e), append(at, r); return nil }); err != nil {
			t.Fatal(err)
		}
		for i := range got { // the keys of a body have an order of their own
			got[i].Body, want[i].Body = normal(got[i].Body), normal(want[i].Body)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
		if d := cmp.Diff(refs, at); d != "" {
			t.Fatal(d)
		}
	}
	check(func(fn func(lab.Ref, lab.Entry) error) error { return j.Read(t.Context(), 1, fn) })
	if j.Head() != refs[len(refs)-1] || j.Commits() != 1 {
		t.Errorf("head %v, %d commits", j.Head(), j.Commits())
	}
	mustClose(t, j)
	check(func(fn func(lab.Ref, lab.Entry) error) error { return Show(t.Context(), dir, Filter{}, fn) })
	j = open(t, dir)
	if j.Head() != refs[len(refs)-1] {
		t.Errorf("head %v after opening again", j.Head())
	}
	more := mustAppend(t, j, entry(1))
	if more[0].Seq != 1201 {
		t.Errorf("went on at %d", more[0].Seq)
	}
	stop := errors.New("enough")
	n := 0
	if err := j.Read(t.Context(), 1200, func(lab.Ref, lab.Entry) error { n++; return stop }); err != stop || n != 1 {
		t.Errorf("read %d, %v", n, err)
	}
}

func normal(b json.RawMessage) json.RawMessage {
	if b == nil {
		return nil
	}
	c, err := chain.Form(b)
	if err != nil {
		return b
	}
	return c
}

func TestKeys(t *testing.T) {
	j := open(t, t.TempDir())
	ref := mustAppend(t, j, keyed(1, "planner_1/k1"))[0]
	got, e, ok, err := j.Seen(t.Context(), "planner_1/k1")
	if err != nil || !ok || got != ref || e.Command != "01KCMD000001" {
		t.Fatalf("%v %v %v %v", got, e, ok, err)
	}
	if _, _, ok, err := j.Seen(t.Context(), "planner_1/k2"); ok || err != nil {
		t.Fatalf("found what is not there: %v", err)
	}
	for name, entries := range map[string][]lab.Entry{
		"again":              {keyed(2, "planner_1/k1")},
		"the second again":   {keyed(2, "new"), keyed(3, "planner_1/k1")},
		"twice in one":       {keyed(2, "twice"), entry(3), keyed(4, "twice")},
		"with others around": {entry(2), keyed(3, "planner_1/k1"), entry(4)},
	} {
		if _, err := j.Append(t.Context(), entries...); lab.KindOf(err) != lab.KindConflict {
			t.Errorf("%s: %v", name, err)
		}
	}
	if j.Head() != ref || j.Poisoned() != nil {
		t.Errorf("refused entries left something: %v, %v", j.Head(), j.Poisoned())
	}
	mustAppend(t, j, keyed(2, "new"), keyed(3, "twice"))
}

// TestKeysInParallel: of many who bring the same key at the same time, in the
// same commits as others with keys of their own, one wins.
func TestKeysInParallel(t *testing.T) {
	j := open(t, t.TempDir())
	const callers, keys = 40, 5
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := map[string]int{}
	for c := range callers {
		wg.Go(func() {
			for k := range keys {
				key := fmt.Sprint("key", k)
				_, err := j.Append(t.Context(), keyed(c, key))
				if err != nil && lab.KindOf(err) != lab.KindConflict {
					t.Error(err)
				}
				if _, err := j.Append(t.Context(), keyed(c, fmt.Sprint("own", c, k))); err != nil {
					t.Error(err)
				}
				mu.Lock()
				if err == nil {
					won[key]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for k := range keys {
		if won[fmt.Sprint("key", k)] != 1 {
			t.Errorf("key %d was taken %d times", k, won[fmt.Sprint("key", k)])
		}
	}
	if got, want := j.Head().Seq, uint64(keys+callers*keys); got != want {
		t.Errorf("%d entries, want %d", got, want)
	}
}

func TestBadEntries(t *testing.T) {
	j := open(t, t.TempDir())
	for name, change := range map[string]func(*lab.Entry){
		"no kind":             func(e *lab.Entry) { e.Kind = "" },
		"broken body":         func(e *lab.Entry) { e.Body = json.RawMessage(`{"a":`) },
		"body in Latin-1":     func(e *lab.Entry) { e.Body = json.RawMessage("\"\xe9\"") },
		"text in Latin-1":     func(e *lab.Entry) { e.Step = "\xe9" },
		"label in Latin-1":    func(e *lab.Entry) { e.Labels = map[string]string{"a": "\xe9"} },
		"key given twice":     func(e *lab.Entry) { e.Body = json.RawMessage(`{"a":1,"\u0061":2}`) },
		"rounded number":      func(e *lab.Entry) { e.Body = json.RawMessage(`{"t":1234567890123456789}`) },
		"too large a number":  func(e *lab.Entry) { e.Body = json.RawMessage(`1e400`) },
		"too small a number":  func(e *lab.Entry) { e.Body = json.RawMessage(`1e-400`) },
		"half a surrogate":    func(e *lab.Entry) { e.Body = json.RawMessage(`"\ud800"`) },
		"too large":           func(e *lab.Entry) { e.Body = json.RawMessage(`"` + strings.Repeat("x", MaxEntry) + `"`) },
		"nested too deep":     func(e *lab.Entry) { e.Body = nested(chain.MaxDepth) }, // the entry itself is a level
		"deeper than SQLite":  func(e *lab.Entry) { e.Body = nested(2000) },
		"a year beyond 9999":  func(e *lab.Entry) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"too many other data": func(e *lab.Entry) { e.Samples = []string{strings.Repeat("x", MaxEntry)} },
	} {
		e := entry(1)
		change(&e)
		if _, err := j.Append(t.Context(), e); lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if j.Head().Seq != 0 || j.Poisoned() != nil {
		t.Errorf("bad entries left something: %v, %v", j.Head(), j.Poisoned())
	}
}

func nested(depth int) json.RawMessage {
	return json.RawMessage(strings.Repeat("[", depth) + strings.Repeat("]", depth))
}

// TestDeepestEntry: what is taken can be stored, found and checked.
func TestDeepestEntry(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	e := keyed(1, "deep")
	e.Body = nested(chain.MaxDepth - 1)
	mustAppend(t, j, e)
	if _, got, ok, err := j.Seen(t.Context(), "deep"); !ok || err != nil || string(got.Body) != string(e.Body) {
		t.Errorf("%s, %v, %v", got.Body, ok, err)
	}
	if rep, err := Verify(t.Context(), dir); err != nil || !rep.OK {
		t.Errorf("%+v, %v", rep, err)
	}
}

// never is a clock that wakes nobody.
type never struct{}

func (never) Now() time.Time                { return time.Time{} }
func (never) At(time.Time) <-chan time.Time { return nil }

// TestNotesRideAlong: notes cost no commit of their own where an Append comes,
// and come before it in the chain.
func TestNotesRideAlong(t *testing.T) {
	j, err := Open(t.Context(), Options{Dir: t.TempDir(), Lab: "demo", Clock: never{}}) // however slow the machine is
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for i := range 100 {
		j.Note(entry(2 * i))
		ref := mustAppend(t, j, entry(2*i+1))[0]
		if ref.Seq != uint64(2*i+2) {
			t.Fatalf("append %d is entry %d", i, ref.Seq)
		}
	}
	if j.Commits() != 100 {
		t.Errorf("%d commits for 100 appends", j.Commits())
	}
}

// manual is a clock that wakes when told.
type manual struct{ asked chan chan time.Time }

func (m manual) Now() time.Time { return time.Time{} }
func (m manual) At(t time.Time) <-chan time.Time {
	if t != (time.Time{}).Add(noteWithin) {
		panic("another time than agreed")
	}
	c := make(chan time.Time, 1)
	m.asked <- c
	return c
}

func TestNotesAloneWaitALittle(t *testing.T) {
	m := manual{make(chan chan time.Time)}
	j, err := Open(t.Context(), Options{Dir: t.TempDir(), Lab: "demo", Clock: m})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	j.Note(entry(1), entry(2))
	wake := <-m.asked
	j.Note(entry(3))
	if j.Commits() != 0 {
		t.Error("a note had a commit of its own at once")
	}
	wake <- time.Time{}
	j.Note(entry(4))
	deadline := time.Now().Add(5 * time.Second)
	for j.Head().Seq < 3 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if j.Head().Seq < 3 {
		t.Fatalf("only %d entries are durable", j.Head().Seq)
	}
	select { // the fourth may have come after the commit: then it waits its own turn
	case <-m.asked:
	default:
	}
	if _, err := j.Append(t.Context()); err != nil { // of nothing: a barrier
		t.Fatal(err)
	}
	if j.Head().Seq != 4 {
		t.Errorf("%d entries after the barrier", j.Head().Seq)
	}
}

func TestCloseKeepsNotes(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	j.Note(entry(1))
	j.Note(entry(2))
	mustClose(t, j)
	if n := strings.Count(export(t, dir), "\n"); n != 2 {
		t.Errorf("%d entries", n)
	}
	if _, err := j.Append(t.Context(), entry(3)); lab.KindOf(err) != lab.KindUnavailable {
		t.Error(err)
	}
	j.Note(entry(3))
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// TestRefusedNotesLeaveATrace: nobody waits for a note, so what can't be taken
// must show in the journal.
func TestRefusedNotesLeaveATrace(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	mustAppend(t, j, keyed(1, "k"))
	large, broken := entry(3), entry(4)
	large.Body = json.RawMessage(`"` + strings.Repeat("x", MaxEntry) + `"`)
	broken.Kind, broken.Run, broken.Time = strings.Repeat("\xff", 1000), strings.Repeat("\xff", 10000), time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)
	j.Note(keyed(2, "k"))
	j.Note(large)
	j.Note(broken)
	mustAppend(t, j, entry(5))
	var got []string
	if err := Show(t.Context(), dir, Filter{Kind: "refused_note"}, func(r lab.Ref, e lab.Entry) error {
		var b struct {
			Kind, Say string
			Bytes     int
		}
		if err := json.Unmarshal(e.Body, &b); err != nil {
			return err
		}
		got = append(got, fmt.Sprintf("%d %s %.10s %d %s", r.Seq, e.Command, b.Kind, b.Bytes, b.Say))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || !strings.Contains(got[0], fmt.Sprintf("2 01KCMD000002 intent/v1 %d ", len(entry(2).Body))) || !strings.Contains(got[0], `the key "k" is in the journal already`) ||
		!strings.Contains(got[1], "3 01KCMD000003 intent/v1 2097154 ") || !strings.Contains(got[2], "4 01KCMD000004 ") {
		t.Errorf("got %q", got)
	}
	if j.Poisoned() != nil {
		t.Error(j.Poisoned())
	}
}

func TestWhoMayOpen(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	mustAppend(t, j, entry(1))
	_, err := Open(t.Context(), Options{Dir: dir, Lab: "demo"})
	if lab.KindOf(err) != lab.KindConflict || !strings.Contains(err.Error(), fmt.Sprintf("is in use by process %d", os.Getpid())) {
		t.Errorf("a second one: %v", err)
	}
	mustClose(t, j)
	if _, err = Open(t.Context(), Options{Dir: dir, Lab: "other"}); lab.KindOf(err) != lab.KindConflict || !strings.Contains(err.Error(), `belongs to lab "demo", not "other"`) {
		t.Errorf("another lab: %v", err)
	}
	if _, err = Open(t.Context(), Options{Dir: dir}); lab.KindOf(err) != lab.KindInvalid {
		t.Errorf("no lab: %v", err)
	}
	mustClose(t, open(t, dir))
	if err := os.WriteFile(filepath.Join(dir, dbFile), []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = Open(t.Context(), Options{Dir: dir, Lab: "demo"}); lab.KindOf(err) != lab.KindConflict {
		t.Errorf("not a database: %v", err)
	}
	if rep, err := Verify(t.Context(), dir); err != nil || rep.OK {
		t.Errorf("not a database: %+v, %v", rep, err)
	}
	if _, err := Verify(t.Context(), t.TempDir()); lab.KindOf(err) != lab.KindUnavailable {
		t.Errorf("no journal: %v", err)
	}
}

// TestReadersBesideAWriter: verifying and reading work while a process writes,
// and change nothing.
func TestReadersBesideAWriter(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	for i := range 200 {
		mustAppend(t, j, entry(i), entry(i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := j.Append(t.Context(), entry(i), entry(i)); err != nil {
				t.Error(err)
			}
		}
	})
	last := uint64(0)
	for range 30 {
		rep, err := Verify(t.Context(), dir)
		if err != nil || !rep.OK || rep.Entries < last || rep.Entries%2 != 0 {
			t.Errorf("%+v, %v", rep, err)
		}
		last = rep.Entries
	}
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := r.Read(t.Context(), 1, Filter{Run: "01KRUN1", Instrument: "pump_a", Principal: "planner_1", Kind: "intent"}, func(_ lab.Ref, e lab.Entry) error {
		if n++; e.Run != "01KRUN1" || n == 50 {
			return context.Canceled
		}
		return nil
	}); err != context.Canceled || n != 50 {
		t.Errorf("%d, %v", n, err)
	}
	for _, f := range []Filter{{Run: "x"}, {Instrument: "x"}, {Principal: "x"}, {Kind: "inten"}, {Kind: "intent/v2"}} {
		if err := r.Read(t.Context(), 1, f, func(lab.Ref, lab.Entry) error { return errors.New("picked") }); err != nil {
			t.Errorf("%+v: %v", f, err)
		}
	}
	if _, _, ok, err := r.Seen(t.Context(), "none"); ok || err != nil {
		t.Error(ok, err)
	}
	cancel()
	wg.Wait()
	mustClose(t, j) // with a reader open: the log can't be moved into the file
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if rep, err := Verify(t.Context(), dir); err != nil || !rep.OK {
		t.Errorf("%+v, %v", rep, err)
	}
	mustClose(t, open(t, dir))
}
