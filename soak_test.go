package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"labgate/internal/wall"
	"labgate/lab"
	"labgate/messages"
	"labgate/sim"
	"labgate/sim/faces"
)

const (
	soakLabs  = 23          // of nine instruments each
	soakRuns  = 30          // under way or waiting at once
	soakEvery = 4           // seconds between two random faults of one lab
	soakSay   = time.Minute // how often it is said how things stand
)

// soakInstrument is the first line of an instrument in a lab file.
var soakInstrument = regexp.MustCompile(`(?m)^  [a-z_]+:$`)

// soakLab is the demo lab so many times over, in one lab file, without
// interlocks, with the fault matrix's jobs.
func soakLab(t testing.TB) string {
	t.Helper()
	dir := labWithoutRules(t)
	path := filepath.Join(dir, "lab.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(b), "instruments:\n")
	body, tail, ok := strings.Cut(rest, "\nprotocols:")
	if !ok {
		t.Fatal("the demo lab file is another")
	}
	var all strings.Builder
	all.WriteString(head + "instruments:\n")
	for k := range soakLabs {
		one := soakInstrument.ReplaceAllStringFunc(body+"\n", func(s string) string { return fmt.Sprintf("%s_%d:", s[:len(s)-1], k) })
		one = regexp.MustCompile(`"sim:([a-z]+)"`).ReplaceAllString(one, fmt.Sprintf(`"sim:${1}_%d"`, k))
		one = strings.ReplaceAll(one, "prefix: demo/", fmt.Sprintf("prefix: demo_%d/", k))
		one = strings.ReplaceAll(one, "substance: HAuCl4,", fmt.Sprintf("substance: gold %d,", k)) // what a role asks for finds this lab's pump
		all.WriteString(strings.ReplaceAll(one, "{reactor.vessel", fmt.Sprintf("{reactor_%d.vessel", k)))
		job := strings.Replace(faultJobs["dose"].steps, "substance: HAuCl4,", fmt.Sprintf("substance: gold %d,", k), 1)
		if err := os.WriteFile(filepath.Join(dir, "protocols", fmt.Sprintf("dose-%d.yaml", k)), fmt.Appendf(nil, "protocol: job-dose-%d\nversion: 1.0.0\nbudget: {time: 5 min, exposures: 5}\n%s", k, job), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "protocols", "dose.yaml")); err != nil {
		t.Fatal(err)
	}
	all.WriteString("protocols:" + tail)
	if err := os.WriteFile(path, []byte(all.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// soak is a station with two hundred instruments on three wires, in one process
// with their simulators.
type soak struct {
	*twoProcesses
	hosts   []*faces.Host
	agent   *outsider
	settled int // doubts that a person settled
	samples []soakSample
}

// soakSample is what the process holds at one moment.
type soakSample struct {
	at                 time.Duration
	goroutines, opened int
	live               float64 // MB of the heap, after a collection
}

func newSoak(t testing.TB, lasts time.Duration) *soak {
	t.Helper()
	s := &soak{twoProcesses: &twoProcesses{TB: t, lab: soakLab(t), data: tempDir(t), serve: &process{}}}
	ctx, cancel := context.WithCancel(context.Background())
	at := map[string]string{}
	var waits []func() error // in the order in which they are joined
	t.Cleanup(func() {
		cancel()
		for _, wait := range waits {
			if err := wait(); err != nil {
				t.Error(err)
			}
		}
	})
	for k := range soakLabs {
		host := faces.NewHost(sim.NewDemo(uint64(k), time.Now()), wall.Clock{})
		r, err := faces.Start(ctx, host, folder(s.data).broker, faces.Prefix(fmt.Sprintf("demo_%d/", k)))
		if err != nil {
			t.Fatal(err)
		}
		desk := faces.NewDesk(ctx, host, nil)
		script, issues := sim.ParseScript("soak", fmt.Sprintf("random seed=%d every=%d for %d s", k+1, soakEvery, int(lasts.Seconds())))
		if len(issues) > 0 {
			t.Fatal(issues)
		}
		if err := desk.Play(script); err != nil {
			t.Fatal(err)
		}
		for name, address := range r.Addresses() {
			at[fmt.Sprintf("%s_%d", name, k)] = address
		}
		s.hosts, waits = append(s.hosts, host), append(waits, func() error { desk.Wait(); return r.Wait() })
	}
	cfg, err := loadLab(s.lab)
	if err != nil {
		t.Fatal(err)
	}
	st, err := openStation(ctx, stationOptions{Config: cfg, Data: folder(s.data), Log: func(string) {}, Sim: func(name string) (string, error) {
		if a, ok := at[name]; ok {
			return a, nil
		}
		return "", fmt.Errorf("there is no %s", name)
	}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- st.run(ctx) }()
	waits = slices.Insert(waits, 0, func() error { return errors.Join(<-ended, st.Close()) })
	s.agent = connectAs(t, s.data, "scientist_1")
	return s
}

// sample looks at the process.
func (s *soak) sample(began time.Time) {
	s.Helper()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		s.Fatal(err)
	}
	s.samples = append(s.samples, soakSample{time.Since(began), runtime.NumGoroutine(), len(open), float64(m.HeapAlloc) / (1 << 20)})
}

// proposeAll proposes jobs in turn until so many are under way. It returns how
// many there were.
func (s *soak) proposeAll(n int) int {
	s.Helper()
	job := func(n int) string {
		if others := []string{"move", "heat", "coat", "shot"}; n%4 == 0 {
			return others[n/4%len(others)]
		}
		return fmt.Sprintf("dose-%d", n%soakLabs)
	}
	runs, _ := s.unfinished()
	for open := len(runs); open < soakRuns; open++ {
		v := s.agent.proposeWithin(proposal(fmt.Sprintf("soak%d", n), "job-"+job(n), "1.0.0", ""), 10*time.Second)
		n++
		if v.Decision != "accepted" {
			s.Logf("proposal %d: %+v", n, v)
			return n
		}
	}
	return n
}

// unfinished asks the runner, as an operator's console does.
func (s *soak) unfinished() (open []messages.RunInfo, status messages.Status) {
	s.Helper()
	runs, status := s.runs()
	for _, r := range runs {
		if r.Ended == nil {
			open = append(open, r)
		}
	}
	return open, status
}

// settle says what became of what evidence can't settle, and ends runs that are
// held for it, as a person would.
func (s *soak) settle() {
	s.Helper()
	open, status := s.unfinished()
	for _, d := range status.InDoubt {
		if time.Since(d.Since) > 20*time.Second && s.labgate("resolve", d.Command, "done", "--reason", "looked at by the test").code == exitDone {
			s.settled++
		}
	}
	for _, r := range open {
		if r.State == "held" {
			s.labgate("abort", r.Run, "--as", "operator_1", "--reason", "the test has seen enough")
		}
	}
}

// TestSoak runs jobs on two hundred instruments with random faults, for a minute
// or as long as LABGATE_SOAK says, and demands that the process holds no more at
// the end than it did early on, that every run ends, and that the worlds have
// counted no dose that was not meant.
func TestSoak(t *testing.T) {
	if !heavy {
		t.Skip("two hundred instruments for a minute: LABGATE_HEAVY=1")
	}
	lasts := time.Minute
	if d := os.Getenv("LABGATE_SOAK"); d != "" {
		var err error
		if lasts, err = time.ParseDuration(d); err != nil {
			t.Fatal(err)
		}
	}
	s := newSoak(t, lasts)
	began, said, n := time.Now(), time.Now(), 0
	for time.Since(began) < lasts {
		n = s.proposeAll(n)
		s.settle()
		s.sample(began)
		if time.Since(said) > soakSay {
			said = time.Now()
			t.Logf("%+v, %d proposed", s.samples[len(s.samples)-1], n)
		}
		time.Sleep(time.Second)
	}
	for end := time.Now().Add(10 * time.Minute); ; time.Sleep(time.Second) {
		s.settle()
		open, status := s.unfinished()
		if len(open)+len(status.InDoubt) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("10 minutes after the last fault these are not over: %+v, %+v", open, status.InDoubt)
		}
	}
	s.sample(began)
	if path := os.Getenv("LABGATE_SOAK_HEAP"); path != "" {
		s.heap(path)
	}
	s.judge(n)
}

// heap writes what is live, for go tool pprof.
func (s *soak) heap(path string) {
	s.Helper()
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(pprof.WriteHeapProfile(f), f.Close())
	}
	if err != nil {
		s.Error(err)
	}
}

// judge compares the middle with the end, and the worlds with the journal.
func (s *soak) judge(proposed int) {
	s.Helper()
	median := func(list []soakSample, of func(soakSample) float64) float64 {
		slices.SortFunc(list, func(a, b soakSample) int { return int(1000*of(a)) - int(1000*of(b)) })
		return of(list[len(list)/2])
	}
	quarter := len(s.samples) / 4
	for name, of := range map[string]func(soakSample) float64{
		"goroutines":  func(x soakSample) float64 { return float64(x.goroutines) },
		"descriptors": func(x soakSample) float64 { return float64(x.opened) },
		"live MB":     func(x soakSample) float64 { return x.live },
	} {
		early, late := median(slices.Clone(s.samples[quarter:2*quarter]), of), median(slices.Clone(s.samples[3*quarter:]), of)
		s.Logf("%s: %.0f in the second quarter, %.0f in the last", name, early, late)
		if late > 1.1*early+20 {
			s.Errorf("%s grow: from %.0f to %.0f", name, early, late)
		}
	}
	doses := 0
	for _, h := range s.hosts {
		h.With(func(w *sim.World) {
			for _, c := range w.Effects() {
				doses += c.Doses
			}
		})
	}
	meant, confirmed := map[string]bool{}, 0
	for _, e := range s.journal() {
		var o lab.Outcome
		switch {
		case e.Kind == "intent/v1" && strings.Contains(string(e.Body), `"name":"dose"`):
			meant[e.Command] = true
		case e.Kind == "outcome/v1" && meant[e.Command]:
			if err := json.Unmarshal(e.Body, &o); err != nil {
				s.Fatal(err)
			}
			if o.State == lab.Confirmed {
				confirmed++
			}
		}
	}
	s.Logf("%d runs proposed, %d doubts settled by a person; %d doses meant, %d by the worlds' count, %d confirmed", proposed, s.settled, len(meant), doses, confirmed)
	if doses > len(meant) || doses < confirmed {
		s.Errorf("%d doses by the worlds' count: %d were meant, %d confirmed", doses, len(meant), confirmed)
	}
}
