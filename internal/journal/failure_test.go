package journal

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"labgate/lab"
)

// TestPoison: one failed commit ends it all. Waiters fail, nothing more is
// taken, and what was durable stays.
func TestPoison(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	mustAppend(t, j, entry(1))
	// Between two appends no writer runs: the answer came after its work.
	j.w.commitFn = func(*sql.Stmt, ...any) error { return errors.New("the disk is on fire") }
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if _, err := j.Append(t.Context(), entry(i)); lab.KindOf(err) != lab.KindUnavailable {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if err := j.Poisoned(); err == nil || err.Error() != "the disk is on fire" {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), entry(2)); lab.KindOf(err) != lab.KindUnavailable {
		t.Errorf("got %v", err)
	}
	j.Note(entry(3))
	if j.Head().Seq != 1 || j.Commits() != 1 {
		t.Errorf("head %v, %d commits", j.Head(), j.Commits())
	}
	if err := j.Close(); lab.KindOf(err) != lab.KindUnavailable {
		t.Errorf("close: %v", err)
	}
	j = open(t, dir)
	if j.Head().Seq != 1 {
		t.Errorf("head %v after a restart", j.Head())
	}
}

// TestPoisonReleasesWaiters: a disk that hangs, and notes that pile up behind
// it, must not hold anybody.
func TestPoisonReleasesWaiters(t *testing.T) {
	j := open(t, t.TempDir())
	mustAppend(t, j, entry(1))
	hung, release := make(chan struct{}), make(chan struct{})
	j.w.commitFn = func(*sql.Stmt, ...any) error { close(hung); <-release; return errors.New("too late") }
	failed := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := j.Append(t.Context(), entry(2))
			failed <- err
		}()
	}
	<-hung
	if err := j.queue.put(request{rows: make([]row, maxNotes)}); err != nil { // as so many calls of Note would
		t.Fatal(err)
	}
	j.Note(entry(3)) // never blocks
	for range 2 {
		if err := <-failed; lab.KindOf(err) != lab.KindUnavailable {
			t.Errorf("got %v", err)
		}
	}
	if !errors.Is(j.Poisoned(), errFull) {
		t.Errorf("got %v", j.Poisoned())
	}
	close(release)
}

func TestAppendGivesUp(t *testing.T) {
	j := open(t, t.TempDir())
	mustAppend(t, j, entry(1))
	commit := j.w.commitFn
	hung, release := make(chan struct{}), make(chan struct{})
	j.w.commitFn = func(s *sql.Stmt, args ...any) error { close(hung); <-release; return commit(s, args...) }
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := j.Append(ctx, entry(2))
		failed <- err
	}()
	<-hung
	cancel()
	if err := <-failed; lab.KindOf(err) != lab.KindOutcomeUnknown {
		t.Errorf("got %v", err)
	}
	close(release)
	deadline := time.Now().Add(5 * time.Second)
	for j.Head().Seq < 2 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if j.Head().Seq != 2 { // it was durable after all: unknown was the right word
		t.Errorf("head %v", j.Head())
	}
}

// writeUntilKilled appends one by one, and says what is durable.
func writeUntilKilled(dir string) {
	j, err := Open(context.Background(), Options{Dir: dir, Lab: "demo"})
	for i := 1; err == nil; i++ {
		j.Note(entry(0))
		var refs []lab.Ref
		if refs, err = j.Append(context.Background(), keyed(i, fmt.Sprint("k", j.Head().Seq, "/", i))); err == nil {
			fmt.Println(refs[0].Seq, refs[0].Hash)
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// TestKill kills a writing process, again and again: what it said was durable
// is there, and the chain is whole.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), crashEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		durable := map[uint64]string{}
		sc := bufio.NewScanner(out)
		for sc.Scan() {
			var seq uint64
			var hash string
			if _, err := fmt.Sscan(sc.Text(), &seq, &hash); err != nil {
				t.Fatalf("the writer says %q", sc.Text())
			}
			durable[seq] = hash
			if len(durable) == 50+round*37 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
		if rep, err := Verify(t.Context(), dir); err != nil || !rep.OK {
			t.Fatalf("%+v, %v", rep, err)
		}
		j := open(t, dir)
		if err := j.Read(t.Context(), 1, func(r lab.Ref, _ lab.Entry) error {
			if want, ok := durable[r.Seq]; ok && want != r.Hash {
				return fmt.Errorf("entry %d changed", r.Seq)
			}
			delete(durable, r.Seq)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(durable) > 0 {
			t.Fatalf("round %d: %d acknowledged entries are gone", round, len(durable))
		}
		mustClose(t, j)
	}
}
