package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"labgate/configs"
	"labgate/lab"
	"labgate/messages"
	"labgate/sim"
	"labgate/sim/faces"
)

// The acceptance tests (e2e_…) run Labgate as its users do: processes, real
// OPC UA, MQTT and serial wires, a plain NATS client. What happened is judged
// by the simulator's own count of physical effects, never by what the gateway
// says of itself.

// asLabgate makes the test binary the program itself: nothing is built twice.
const asLabgate = "LABGATE_TEST_RUNS_LABGATE"

func TestMain(m *testing.M) {
	if os.Getenv(asLabgate) != "" {
		main()
		return
	}
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given { // these tests wait for the world, not for a processor
		if err := flag.Set("test.parallel", "12"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(exitUsage)
		}
	}
	os.Exit(m.Run())
}

// heavy says whether the longer repetitions run too.
var heavy = os.Getenv("LABGATE_HEAVY") == "1"

// patience is the longest that anything is waited for. Nothing takes as long;
// a machine that is busy with other things may.
const patience = 60 * time.Second

// eventually polls until ok says so.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// output collects what a process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// forget gives up what was said.
func (o *output) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b = bytes.Buffer{}
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// process is a labgate under way.
type process struct {
	t        testing.TB
	args     []string
	cmd      *exec.Cmd
	out, err output
	done     chan struct{} // closed once it has ended
	code     int           // after done; -1 after a signal
}

// launch starts a labgate. If it still runs at the end of the test it is
// interrupted and awaited.
func launch(t testing.TB, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return launchAs(t, self, nil, args...)
}

// launchAs is launch for another program, with more in its environment.
func launchAs(t testing.TB, exe string, env []string, args ...string) *process {
	t.Helper()
	return launchIn(t, "", exe, env, args...)
}

// launchIn is launchAs in another folder.
func launchIn(t testing.TB, dir, exe string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, args: args, cmd: exec.Command(exe, args...), done: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = append(append(os.Environ(), asLabgate+"=1"), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	p.cmd.WaitDelay = 10 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		err := p.cmd.Wait()
		var exit *exec.ExitError
		if p.code = p.cmd.ProcessState.ExitCode(); err != nil && !errors.As(err, &exit) {
			fmt.Fprintln(&p.err, "wait:", err)
		}
	}()
	t.Cleanup(func() {
		p.signal(os.Interrupt)
		select {
		case <-p.done:
		case <-time.After(20 * time.Second):
			t.Errorf("%v does not end; it is killed. It said:\n%s%s", args, &p.out, &p.err)
			p.kill()
		}
	})
	return p
}

func (p *process) signal(s os.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signal %v to %v: %v", s, p.args, err)
	}
}

// kill is kill -9.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// interrupt is Ctrl-C, and waits for the end.
func (p *process) interrupt() result {
	p.t.Helper()
	p.signal(os.Interrupt)
	return p.wait()
}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("exit %d\n--- stdout\n%s--- stderr\n%s", r.code, r.stdout, r.stderr)
}

func (p *process) wait() result {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%v does not end. It said:\n%s%s", p.args, &p.out, &p.err)
	}
	return result{p.code, p.out.String(), p.err.String()}
}

// says waits until the process has written something to its standard output.
func (p *process) says(text string) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%v says %q", p.args, text), func() bool {
		select {
		case <-p.done:
			if !strings.Contains(p.out.String(), text) {
				p.t.Fatalf("%v ended without saying %q: exit %d\n%s%s", p.args, text, p.code, &p.out, &p.err)
			}
		default:
		}
		return strings.Contains(p.out.String(), text)
	})
}

// run runs a labgate to its end.
func run(t testing.TB, args ...string) result {
	t.Helper()
	p := launch(t, args...)
	r := p.wait()
	p.out.forget() // the test's clean-up keeps the process to its end
	return r
}

// tempDir is a folder with a short path: a local socket's name has to fit.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// pour is a run of the length that a test wants: stir, warm up, and let both
// pumps deliver side by side.
const pour = `protocol: pour
version: 1.0.0
about: Let both pumps deliver into a warm, stirred vessel.
inputs:
  volume:      {unit: mL, min: 0.01, max: 0.24, default: 0.2}
  rate:        {unit: mL/min, min: 0.1, max: 20, default: 1}
  temperature: {unit: degC, min: 20, max: 92, default: 60}
roles:
  reactor: {is: [thermostat/v1, stirrer/v1, vessel/v1]}
  gold:    {is: pump/v1, holds: {substance: HAuCl4, concentration: 1 mmol/L}}
  citrate: {is: pump/v1, holds: {substance: trisodium citrate, concentration: 10 mmol/L}}
budget: {time: 5 min}
outputs:
  delivered: {unit: mL, from: feed.gold_in.delivered, required: true}
steps:
  - {id: stir, do: reactor.stir, with: {speed: 400 rpm}}
  - {id: warm, do: reactor.heat, with: {target: = temperature}}
  - id: steady
    wait: {until: abs(reactor.temperature - temperature) < 1 K, for: 0.3 s, timeout: 30 s}
  - id: feed
    parallel:
      - {id: gold_in, do: gold.dose, with: {volume: = volume, rate: = rate}, gives: {delivered: delivered}}
      - {id: citrate_in, do: citrate.dose, with: {volume: = volume, rate: = rate}}
cleanup:
  - {id: empty, do: reactor.drain}
finally:
  - {id: gold_off, do: gold.stop}
  - {id: citrate_off, do: citrate.stop}
  - {id: cold, do: reactor.heat_off}
`

// look needs an input; base needs a reagent that no pump holds.
const look = `protocol: look
version: 1.0.0
inputs: {exposure: {unit: ms, min: 1, max: 100}}
roles: {camera: {is: camera/v1}}
budget: {time: 1 min, exposures: 1}
outputs: {image: {image: true, from: shot.image}}
steps:
  - {id: shot, do: camera.capture, with: {exposure: = exposure}, gives: {image: frame}}
`

const base = `protocol: base
version: 1.0.0
roles: {lye: {is: pump/v1, holds: {substance: NaOH, concentration: 1 mmol/L}}}
budget: {time: 1 min}
steps:
  - {do: lye.dose, with: {volume: 0.1 mL, rate: 1 mL/min}}
finally:
  - {do: lye.stop}
`

// benchLab is a copy of the demo lab with protocols of its own beside the
// library.
func benchLab(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(tempDir(t), "bench")
	demo, err := fs.Sub(configs.Embedded(), "labs/demo")
	if err == nil {
		err = os.CopyFS(dir, demo)
	}
	if err == nil {
		err = os.MkdirAll(filepath.Join(dir, "protocols"), 0o755)
	}
	for name, text := range map[string]string{"pour": pour, "look": look, "base": base} {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "protocols", name+".yaml"), []byte(text), 0o644)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// twoProcesses is a station and a simulator, each a process of its own, that
// find each other by their data folder.
type twoProcesses struct {
	testing.TB
	lab, data  string
	sim, serve *process
	world      *faces.Control
}

// startLab starts both, and waits until every instrument answers.
func startLab(t testing.TB) *twoProcesses {
	t.Helper()
	l := &twoProcesses{TB: t, lab: benchLab(t), data: tempDir(t)}
	l.startSim()
	l.startServe()
	l.audited()
	return l
}

// startSim starts a world, for the first time or anew.
func (l *twoProcesses) startSim() {
	l.Helper()
	l.sim = launch(l, "sim", "--data", l.data)
	l.dialWorld()
}

// dialWorld connects to the simulator's socket.
func (l *twoProcesses) dialWorld() {
	l.Helper()
	var world *faces.Control
	eventually(l, "the simulator's socket answers", func() (ok bool) {
		var err error
		world, err = faces.Dial(filepath.Join(l.data, "sim.sock"))
		return err == nil
	})
	l.world = world
	l.Cleanup(func() { _ = world.Close() }) // only its end is of interest
}

// startServe starts the station, for the first time or again.
func (l *twoProcesses) startServe() {
	l.Helper()
	l.serve = launch(l, "serve", "--lab", l.lab, "--data", l.data, "--json")
	l.serve.says(`"type":"ready"`)
}

// labgate runs a client's verb against the station.
func (l *twoProcesses) labgate(args ...string) result {
	l.Helper()
	return run(l, append(args, "--data", l.data)...)
}

// must is labgate, and fails the test unless the exit code is the given one.
func (l *twoProcesses) must(code int, args ...string) result {
	l.Helper()
	r := l.labgate(args...)
	if r.code != code {
		l.Fatalf("labgate %v: want exit %d, got %v\nserve said:\n%s%s", args, code, r, &l.serve.out, &l.serve.err)
	}
	return r
}

// submit starts a proposal in a process of its own.
func (l *twoProcesses) submit(args ...string) *process {
	l.Helper()
	return launch(l, append(append([]string{"submit"}, args...), "--data", l.data)...)
}

// count is what an instrument has really done.
func (l *twoProcesses) count(instrument string) sim.Count { return l.counts()[instrument] }

func (l *twoProcesses) counts() map[string]sim.Count {
	l.Helper()
	all, err := l.world.Effects()
	if err != nil {
		l.Fatal(err)
	}
	return all
}

// delivering waits until both pumps have really delivered something.
func (l *twoProcesses) delivering() {
	l.Helper()
	eventually(l, "both pumps deliver", func() bool {
		all := l.counts()
		return all["pump_a"].Dispensed > 0.005 && all["pump_b"].Dispensed > 0.005
	})
}

// standing waits until no pump delivers any more, then watches for a while
// that nothing starts again. It returns what there is.
func (l *twoProcesses) standing() map[string]sim.Count {
	l.Helper()
	volume := func() float64 {
		all := l.counts()
		return all["pump_a"].Dispensed + all["pump_b"].Dispensed
	}
	last, since := volume(), time.Now()
	eventually(l, "both pumps stand still for a second", func() bool {
		if v := volume(); v != last {
			last, since = v, time.Now()
		}
		return time.Since(since) > time.Second
	})
	return l.counts()
}

func (l *twoProcesses) set(knob string, value float64) {
	l.Helper()
	if err := l.world.Set(knob, value); err != nil {
		l.Fatal(err)
	}
}

func (l *twoProcesses) fault(instrument, name string, on bool, args map[string]float64) {
	l.Helper()
	if err := l.world.Fault(instrument, name, on, args); err != nil {
		l.Fatal(err)
	}
}

// runs is what `labgate runs --json` lists.
func (l *twoProcesses) runs() ([]messages.RunInfo, messages.Status) {
	l.Helper()
	var runs []messages.RunInfo
	var status messages.Status
	for _, line := range jsonLines(l, l.must(exitDone, "runs", "--json").stdout) {
		var head struct{ Type string }
		err := json.Unmarshal(line, &head)
		switch {
		case err == nil && head.Type == "run":
			var i messages.RunInfo
			err = json.Unmarshal(line, &i)
			runs = append(runs, i)
		case err == nil && head.Type == "status":
			err = json.Unmarshal(line, &status)
		}
		if err != nil {
			l.Fatalf("%v: %s", err, line)
		}
	}
	return runs, status
}

// run is one run of the list.
func (l *twoProcesses) run(id string) messages.RunInfo {
	l.Helper()
	runs, _ := l.runs()
	for _, r := range runs {
		if r.Run == id {
			return r
		}
	}
	l.Fatalf("run %q is not listed: %+v", id, runs)
	return messages.RunInfo{}
}

// onlyRun is the id of the newest run.
func (l *twoProcesses) newestRun() messages.RunInfo {
	l.Helper()
	runs, _ := l.runs()
	if len(runs) == 0 {
		l.Fatal("no run is listed")
	}
	return runs[len(runs)-1]
}

// latched lists the rules that are latched.
func (l *twoProcesses) latched() string {
	l.Helper()
	_, status := l.runs()
	var rules []string
	for _, x := range status.Latches {
		rules = append(rules, x.Rule)
	}
	return strings.Join(rules, " ")
}

// entry is an entry of the journal as `journal show --json` prints it.
type entry struct {
	Seq     uint64          `json:"seq"`
	Kind    string          `json:"kind"`
	Run     string          `json:"run"`
	Step    string          `json:"step"`
	Command string          `json:"command"`
	Time    time.Time       `json:"time"`
	Body    json.RawMessage `json:"body"`

	Principal string   `json:"principal"`
	Samples   []string `json:"samples"`
}

// journal reads the journal, with the filters of `journal show`.
func (l *twoProcesses) journal(filters ...string) []entry {
	l.Helper()
	var list []entry
	for _, line := range jsonLines(l, run(l, append([]string{"journal", "show", l.data, "--json"}, filters...)...).stdout) {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			l.Fatalf("%v: %s", err, line)
		}
		list = append(list, e)
	}
	return list
}

// outcomes are the last outcomes of a run's steps, by step.
func (l *twoProcesses) outcomes(id string) map[string]lab.Outcome {
	l.Helper()
	all := map[string]lab.Outcome{}
	for _, e := range l.journal("--run", id) {
		if e.Kind != "outcome/v1" && e.Kind != "denial/v1" {
			continue
		}
		var o lab.Outcome
		if err := json.Unmarshal(e.Body, &o); err != nil {
			l.Fatalf("%v: %s", err, e.Body)
		}
		all[e.Step] = o
	}
	return all
}

// wantFinally fails unless every step of pour's finally is on record as done.
func (l *twoProcesses) wantFinally(id string) {
	l.Helper()
	all := l.outcomes(id)
	for _, step := range []string{"gold_off", "citrate_off", "cold"} {
		if o := all[step]; o.State != lab.Confirmed {
			l.Errorf("finally: %s is %s: %s", step, o.State, o.Say)
		}
	}
}

// jsonLines splits lines, each of which must be one JSON object.
func jsonLines(t testing.TB, text string) []json.RawMessage {
	t.Helper()
	var list []json.RawMessage
	for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("not a JSON object a line: %v: %q", err, line)
		}
		list = append(list, json.RawMessage(line))
	}
	return list
}

// wantIn fails unless a text holds every part.
func wantIn(t testing.TB, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s does not say %q:\n%s", what, p, text)
		}
	}
}

// near reports whether two volumes in mL are the same, up to what one tick of
// the world (10 ms) delivers at 20 mL/min.
func near(got, want float64) bool { return got > want-0.004 && got < want+0.004 }
