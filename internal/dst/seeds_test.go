package dst

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	from   = flag.Uint64("dst.from", 1, "the first seed")
	seeds  = flag.Uint64("dst.seeds", 0, "how many seeds; 0: 200, and 10,000 with LABGATE_HEAVY=1")
	first  = flag.Bool("dst.first", false, "stop at the first broken promise, and do not shrink it")
	keep   = flag.String("dst.keep", "", "TestStory: the numbers of the happenings to keep, with commas")
	trace  = flag.String("dst.trace", "", "TestStory: the file for the trace")
	update = flag.Bool("update", false, "write the tables of docs/simulation.md")
)

// many runs seeds from the first on, as many at once as there are processors.
func many(t *testing.T, from, n uint64, stopAtFirst bool) (cover Coverage, broken []*Report) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // a laboratory is small, and soon gone
	cover = Coverage{}
	begun := time.Now()
	var next atomic.Uint64
	var stop atomic.Bool
	var events, virtual int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for !stop.Load() {
				seed := next.Add(1) - 1 + from
				if seed >= from+n {
					return
				}
				rep, err := Run(seed, Options{})
				mu.Lock()
				switch {
				case err != nil:
					t.Error(err)
					stop.Store(true)
				default:
					cover.Add(rep.Coverage)
					events += int64(rep.Events)
					virtual += int64(rep.Virtual)
					if rep.Violation != nil {
						broken = append(broken, rep)
						stop.Store(stopAtFirst || len(broken) >= 10)
					}
				}
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	ran := min(next.Load(), n)
	t.Logf("%d seeds, %d events, %s of the laboratories' time, in %s", ran, events, time.Duration(virtual).Round(time.Minute), time.Since(begun).Round(time.Millisecond))
	return cover, broken
}

// Every promise holds in many simulated laboratories in which everything goes
// wrong.
func TestSeeds(t *testing.T) {
	n := *seeds
	if n == 0 {
		n = 200
		if os.Getenv("LABGATE_HEAVY") != "" {
			n = 10_000
		}
	}
	cover, broken := many(t, *from, n, *first)
	if *update {
		page(t, "coverage", cover.Table())
	}
	for i, rep := range broken {
		fmt.Printf("VIOLATION seed=%d promise=%s %v\n", rep.Seed, rep.Violation.Promise, rep.Violation)
		if i == 0 && !*first {
			if _, short, err := Shrink(rep.Seed, rep.Violation.Promise, 300); err == nil && short.Violation != nil {
				rep = short
			}
		}
		t.Errorf("%v\n%s", rep.Violation, rep.Story())
	}
}

// TestStory tells one seed, or what is kept of it: see what TestSeeds prints.
func TestStory(t *testing.T) {
	if *trace == "" && *keep == "" {
		t.Skip("it is for a seed that was found: -dst.from SEED, and -dst.trace FILE or -dst.keep NUMBERS")
	}
	o := Options{Trace: *trace != ""}
	for _, word := range strings.Split(*keep, ",") {
		if n, err := strconv.Atoi(word); err == nil {
			o.Keep = append(o.Keep, n)
		}
	}
	rep, err := Run(*from, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(rep.Story())
	if o.Trace {
		if err := os.WriteFile(*trace, rep.Trace, 0o644); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(*trace)
		for name, text := range rep.Text {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if rep.Violation != nil {
		t.Errorf("%v", rep.Violation)
	}
}

// The same seed goes the same way every time, also where nobody watches, and on
// every machine: the last by the golden prints.
func TestSameSeedSameTrace(t *testing.T) {
	var prints bytes.Buffer
	for seed := uint64(1); seed <= 12; seed++ {
		a, err := Run(seed, Options{Trace: true})
		if err != nil {
			t.Fatal(err)
		}
		b, err := Run(seed, Options{Trace: true})
		if err != nil {
			t.Fatal(err)
		}
		quiet, err := Run(seed, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.Trace, b.Trace) || len(a.Trace) < 10_000 {
			t.Errorf("seed %d: two traces of %d and %d bytes differ", seed, len(a.Trace), len(b.Trace))
		}
		if a.Print != quiet.Print || a.Events != quiet.Events {
			t.Errorf("seed %d goes another way where nobody watches: %d events and %d", seed, a.Events, quiet.Events)
		}
		fmt.Fprintf(&prints, "%d %016x\n", seed, a.Print)
	}
	golden := filepath.Join("testdata", "prints.txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, prints.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, prints.Bytes()) {
		t.Errorf("the seeds go another way than they did; if what you changed was meant to change what happens: go test ./internal/dst -run SameSeed -update\n%s", prints.Bytes())
	}
}
