package journal

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"labgate/internal/journal/chain"
	"labgate/lab"
)

// BenchmarkAppend is one durable commit of one entry; compare BenchmarkFloor.
func BenchmarkAppend(b *testing.B) {
	j := open(b, b.TempDir())
	e := entry(1)
	for b.Loop() {
		if _, err := j.Append(context.Background(), e); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppendCommand is what a command costs: two appends, two notes.
func BenchmarkAppendCommand(b *testing.B) {
	j := open(b, b.TempDir())
	i := 0
	for b.Loop() {
		i++
		e := keyed(1, fmt.Sprint("command/", i))
		if _, err := j.Append(context.Background(), e, entry(2)); err != nil {
			b.Fatal(err)
		}
		j.Note(entry(3))
		j.Note(entry(4))
		if _, err := j.Append(context.Background(), entry(5)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(j.Commits())/float64(b.N), "commits/op")
}

// BenchmarkAppendParallel is 100 goroutines that each wait for their own entry.
func BenchmarkAppendParallel(b *testing.B) {
	j := open(b, b.TempDir())
	b.SetParallelism(100 / runtime.GOMAXPROCS(0))
	e := entry(1)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := j.Append(context.Background(), e); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/float64(j.Commits()), "entries/commit")
}

// BenchmarkFloor is the commit of an equal row by SQLite alone.
func BenchmarkFloor(b *testing.B) {
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(b.TempDir(), "floor.db")+"?_journal_mode=WAL&_synchronous=FULL&_txlock=immediate")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if err := create(b.Context(), db, "demo"); err != nil {
		b.Fatal(err)
	}
	row, err := chain.Canonical(entry(1))
	if err != nil {
		b.Fatal(err)
	}
	in, err := db.Prepare("INSERT INTO entries (hash, json) VALUES (?, ?)")
	if err != nil {
		b.Fatal(err)
	}
	hash := make([]byte, 32)
	for b.Loop() { // a statement outside a transaction is one of its own
		if _, err := in.Exec(hash, string(row)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCanonical(b *testing.B) {
	e := entry(1)
	for b.Loop() {
		if _, err := chain.Canonical(e); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerify is the check of 100,000 entries, as after a kill.
func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	j := open(b, dir)
	for i := range 100 {
		var es []lab.Entry
		for k := range 1000 {
			es = append(es, keyed(k, fmt.Sprint(i, "/", k)))
		}
		mustAppend(b, j, es...)
	}
	for b.Loop() {
		if rep, err := Verify(context.Background(), dir); err != nil || !rep.OK || rep.Entries != 100_000 {
			b.Fatal(rep, err)
		}
	}
}
