package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"labgate/internal/journal/chain"
	"labgate/lab"
)

// key is a new key pair: its public half, and what signs.
func key(t testing.TB) (string, func([]byte) ([]byte, error)) {
	t.Helper()
	kp, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public, kp.Sign
}

func keyOf(public string, sign func([]byte) ([]byte, error)) func() (string, func([]byte) ([]byte, error), error) {
	return func() (string, func([]byte) ([]byte, error), error) { return public, sign, nil }
}

func openSigned(t testing.TB, dir, public string, sign func([]byte) ([]byte, error)) *Journal {
	t.Helper()
	j, err := Open(t.Context(), Options{Dir: dir, Lab: "demo", Key: keyOf(public, sign)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() }) // a test that cares has closed it
	return j
}

func verified(t testing.TB, dir string) Report {
	t.Helper()
	rep, err := Verify(t.Context(), dir)
	if err != nil || !rep.OK {
		t.Fatalf("%+v, %v", rep, err)
	}
	return rep
}

// TestCheckpoints: one at the end of each sitting that wrote something, one
// every 10,000 entries, and each is by the key of its time.
func TestCheckpoints(t *testing.T) {
	dir := t.TempDir()
	old, signOld := key(t)
	j := openSigned(t, dir, old, signOld)
	mustAppend(t, j, entry(1), entry(2))
	mustClose(t, j)
	if got, want := fmt.Sprint(verified(t, dir).Signers), fmt.Sprintf("[{%s 1 2}]", old); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	mustClose(t, openSigned(t, dir, old, signOld)) // nothing was written: nothing to sign
	if rep := verified(t, dir); rep.Entries != 3 {
		t.Errorf("%+v", rep)
	}
	public, sign := key(t)
	j = openSigned(t, dir, public, sign)
	for i := range 25 {
		var list []lab.Entry
		for k := range 1000 {
			list = append(list, entry(i*k))
		}
		mustAppend(t, j, list...)
	}
	killed := copyDir(t, dir)
	mustClose(t, j)
	if got, want := fmt.Sprint(verified(t, killed).Signers), fmt.Sprintf("[{%s 1 2} {%s 2 20004}]", old, public); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	rep := verified(t, dir)
	if got, want := fmt.Sprint(rep.Signers), fmt.Sprintf("[{%s 1 2} {%s 3 25005}]", old, public); got != want || rep.Entries != 25006 {
		t.Errorf("got %s, want %s; %d entries", got, want, rep.Entries)
	}
	if err := rep.SignedBy(public); err != nil {
		t.Error(err)
	}
	stranger, _ := key(t)
	for k, want := range map[string]string{old: "the newest checkpoint, of entry 25005, is signed by " + public, stranger: "none of the journal's checkpoints is signed by", "U": "no public key"} {
		if err := rep.SignedBy(k); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", k, err, want)
		}
	}
	var out bytes.Buffer
	if _, err := Export(t.Context(), dir, &out); err != nil {
		t.Fatal(err)
	}
	if again, err := VerifyExport(&out); err != nil || !again.OK || fmt.Sprint(again.Signers) != fmt.Sprint(rep.Signers) {
		t.Errorf("an export has %+v, %v", again.Signers, err)
	}
}

// TestCheckpointHourly: what lies for an hour is signed for with what comes
// next.
func TestCheckpointHourly(t *testing.T) {
	public, sign := key(t)
	clock := &handSet{}
	j, err := Open(t.Context(), Options{Dir: t.TempDir(), Lab: "demo", Clock: clock, Key: keyOf(public, sign)})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, j)
	for _, step := range []struct {
		later time.Duration
		want  uint64
	}{{0, 1}, {59 * time.Minute, 2}, {time.Minute, 4}, {59 * time.Minute, 5}, {time.Hour, 7}} {
		clock.unix.Add(int64(step.later / time.Second))
		mustAppend(t, j, entry(1))
		if j.Head().Seq != step.want {
			t.Errorf("after %v the head is %d, want %d", step.later, j.Head().Seq, step.want)
		}
	}
}

// handSet is a clock that a test sets.
type handSet struct{ unix atomic.Int64 }

func (m *handSet) Now() time.Time                { return time.Unix(m.unix.Load(), 0) }
func (m *handSet) At(time.Time) <-chan time.Time { return nil }

// forge writes a chain of entries into an empty journal's file, as somebody
// would who can write the folder.
func forge(t *testing.T, entries ...lab.Entry) string {
	t.Helper()
	dir := t.TempDir()
	j := open(t, dir)
	mustAppend(t, j, entries...)
	mustClose(t, j)
	return dir
}

// TestCheckpointForged: a checkpoint that signs for something else, or by
// another key than it names, is noticed even though the chain around it fits.
func TestCheckpointForged(t *testing.T) {
	public, sign := key(t)
	stranger, signStranger := key(t)
	first := entry(1)
	at := func() lab.Ref {
		rows, err := prepare([]lab.Entry{first})
		if err != nil {
			t.Fatal(err)
		}
		r, _ := chain.Follow(lab.Ref{Hash: genesis("demo")}, rows[0].json)
		return r
	}()
	for name, c := range map[string]struct {
		labName  string
		at       lab.Ref
		key      string
		sign     func([]byte) ([]byte, error)
		want     string
		unsigned bool
	}{
		"honest":            {"demo", at, public, sign, "", false},
		"by a stranger":     {"demo", at, public, signStranger, "the checkpoint at entry 2 is not signed by the key that it names", false},
		"for a stranger":    {"demo", at, stranger, sign, "the checkpoint at entry 2 is not signed by the key that it names", false},
		"of another lab":    {"other", at, public, sign, "the checkpoint at entry 2 is not signed by the key that it names", false},
		"of another entry":  {"demo", lab.Ref{Seq: 7, Hash: at.Hash}, public, sign, "the checkpoint at entry 2 signs for another entry than the one before it", false},
		"of another chain":  {"demo", lab.Ref{Seq: 1, Hash: strings.Repeat("0", 64)}, public, sign, "the checkpoint at entry 2 signs for another entry than the one before it", false},
		"by no key":         {"demo", at, "me", sign, "the checkpoint at entry 2 is not signed by the key that it names", false},
		"without signature": {"demo", at, public, sign, "the checkpoint at entry 2 is not signed by the key that it names", true},
	} {
		t.Run(name, func(t *testing.T) {
			signature, err := c.sign(signedText(c.labName, c.at))
			if err != nil {
				t.Fatal(err)
			}
			if c.unsigned {
				signature = nil
			}
			body, err := json.Marshal(checkpoint{c.at.Seq, c.at.Hash, c.key, signature})
			if err != nil {
				t.Fatal(err)
			}
			dir := forge(t, first, lab.Entry{Kind: chain.Checkpoint, Body: body}, entry(3))
			if rep, err := Verify(t.Context(), dir); err != nil || rep.Problem != c.want || rep.OK != (c.want == "") || !rep.OK && rep.Entries != 1 {
				t.Errorf("%+v, %v; want %q", rep, err, c.want)
			}
			if j, err := Open(t.Context(), Options{Dir: dir, Lab: "demo"}); c.want == "" && err == nil {
				mustClose(t, j)
			} else if c.want == "" || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("opened: %v", err)
			}
		})
	}
	// A body that only speaks of checkpoints is none.
	e := entry(2)
	e.Body = json.RawMessage(`{"kind":"checkpoint/v1"}`)
	if rep := verified(t, forge(t, e)); rep.Entries != 1 || len(rep.Signers) > 0 {
		t.Errorf("%+v", rep)
	}
	// A chain that was made anew is whole by itself; the key tells.
	if err := verified(t, forge(t, first)).SignedBy(public); err == nil {
		t.Error("a forged chain passes for signed")
	}
}

// TestWrongSigner: a key that does not sign what it should shows at Open, and
// one that fails later ends the journal.
func TestWrongSigner(t *testing.T) {
	public, sign := key(t)
	_, other := key(t)
	dir := t.TempDir()
	if _, err := Open(t.Context(), Options{Dir: dir, Lab: "demo", Key: keyOf(public, other)}); lab.KindOf(err) != lab.KindInvalid {
		t.Errorf("got %v", err)
	}
	broken := false
	j := openSigned(t, dir, public, func(b []byte) ([]byte, error) {
		if broken {
			return nil, errors.New("the key is gone")
		}
		return sign(b)
	})
	mustAppend(t, j, entry(1))
	broken = true
	if err := j.Close(); err == nil || !strings.Contains(err.Error(), "the key is gone") {
		t.Errorf("got %v", err)
	}
	if rep := verified(t, dir); rep.Entries != 1 {
		t.Errorf("%+v", rep)
	}
}
