package twin_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"labgate/internal/twin"
	"labgate/messages"
)

var update = flag.Bool("update", false, "rewrite the golden hashes of this architecture and Go release")

// story is one scenario whose trace must be the same for the same seed.
type story struct {
	name string
	tell func(t testing.TB, seed uint64) []byte
}

var stories = []story{
	{"gold", func(t testing.TB, seed uint64) []byte {
		w := makeTwin(t, seed, twin.Faults{})
		ended(t, w, accepted(t, w, gold("one")), time.Minute)
		return w.Trace()
	}},
	{"films", func(t testing.TB, seed uint64) []byte {
		w := makeTwin(t, seed, twin.Faults{})
		ended(t, w, accepted(t, w, proposal("films", "coat-films", "1.0.0", "films", 2, "speed", "10 mm/s")), time.Minute)
		return w.Trace()
	}},
	{"trip-restart-stop", func(t testing.TB, seed uint64) []byte {
		w := makeTwin(t, seed, twin.Faults{})
		accepted(t, w, gold("one"))
		accepted(t, w, gold("two"))
		run(t, w, time.Minute, dosing)
		set(t, w, "exotherm", 300)
		pass(t, w, time.Second)
		if err := w.Restart(); err != nil {
			t.Fatal(err)
		}
		pass(t, w, 500*time.Millisecond)
		w.Stop("")
		pass(t, w, 5*time.Second)
		return w.Trace()
	}},
}

// The same seed gives the same trace, byte for byte; another seed another one.
func TestTraceIsDeterministic(t *testing.T) {
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			first := s.tell(t, 1)
			for range 2 {
				if again := s.tell(t, 1); !bytes.Equal(first, again) {
					t.Fatalf("two runs differ: %s", firstDifference(first, again))
				}
			}
			if other := s.tell(t, 2); bytes.Equal(first, other) {
				t.Error("another seed gives the same trace")
			}
		})
	}
}

func firstDifference(a, b []byte) string {
	x, y := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d\n%s\n%s", i+1, x[i], y[i])
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}

// The traces are those of the last time, too: what changes them without
// anybody having meant it is found here. Floating point and image compression
// may differ between machines and Go releases, so each has hashes of its own.
func TestTraceGolden(t *testing.T) {
	path := filepath.Join("testdata", "traces.json")
	key := runtime.GOARCH + " " + goRelease()
	golden := map[string]map[string]string{}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err == nil {
		if err := json.Unmarshal(data, &golden); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	for _, s := range stories {
		got[s.name] = fmt.Sprintf("%x", sha256.Sum256(s.tell(t, 1)))
	}
	if *update {
		golden[key] = got
		data, err := json.MarshalIndent(golden, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, ok := golden[key]
	if !ok {
		t.Skipf("no hashes for %s; go test ./internal/twin -run Golden -update makes them", key)
	}
	for _, s := range stories {
		if got[s.name] != want[s.name] {
			t.Errorf("%s: the trace is %s, it was %s\nif what you changed was meant to change what happens: go test ./internal/twin -run Golden -update", s.name, got[s.name], want[s.name])
		}
	}
}

// goRelease is the release without its patch: go1.26.
func goRelease() string {
	v, _, _ := strings.Cut(runtime.Version(), " ")
	parts := strings.SplitN(v, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// A whole run of some eight seconds takes milliseconds.
func BenchmarkRun(b *testing.B) {
	var took time.Duration
	for b.Loop() {
		w := makeTwin(b, 1, twin.Faults{})
		began := w.Now()
		if stop := ended(b, w, accepted(b, w, gold("one")), time.Minute); stop.ExitStatus != messages.ExitSuccess {
			b.Fatalf("%+v", stop)
		}
		took = w.Now().Sub(began)
	}
	b.ReportMetric(took.Seconds(), "virtual-s/run")
}
