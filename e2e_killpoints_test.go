package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"labgate/internal/failpoint"
)

// crash passes every kind of wire and every kind of entry that a run writes.
const crash = `protocol: crash
version: 1.0.0
about: One effect on every wire, so that a kill can fall around each.
roles:
  reactor: {is: [thermostat/v1, stirrer/v1, vessel/v1]}
  gold:    {is: pump/v1, holds: {substance: HAuCl4, concentration: 1 mmol/L}}
  citrate: {is: pump/v1, holds: {substance: trisodium citrate, concentration: 10 mmol/L}}
  eye:     {is: camera/v1}
  table:   {is: stage/v1}
budget: {time: 2 min, exposures: 1}
outputs: {image: {image: true, from: look.image}}
steps:
  - {id: stir, do: reactor.stir, with: {speed: 400 rpm}}
  - {id: place, do: table.move, with: {x: 0.2 mm, y: 0 mm, z: 0 mm}}
  - id: feed
    parallel:
      - {id: gold_in, do: gold.dose, with: {volume: 0.05 mL, rate: 5 mL/min}}
      - {id: citrate_in, do: citrate.dose, with: {volume: 0.05 mL, rate: 5 mL/min}}
  - {id: look, do: eye.capture, with: {exposure: 10 ms}, gives: {image: frame}}
finally:
  - {id: gold_off, do: gold.stop}
  - {id: citrate_off, do: citrate.stop}
  - {id: calm, do: reactor.stir_off}
`

// quickPoints stand for the others where the tests have to be quick: a command
// that is decided but not sent, one that is sent but not answered, one that has
// happened but is not on record.
var quickPoints = []string{"journal/after intent/v1", "wire/serial written", "journal/before outcome/v1"}

// TestKillPoints kills the station at every moment around a durable write and
// around what leaves for a device, and again while it recovers from that. The
// instruments go on meanwhile. By the simulator's count nothing is done twice;
// what the client was told is on record; what may have happened is in doubt.
func TestKillPoints(t *testing.T) {
	exe := killable(t)
	if !heavy {
		for i, point := range quickPoints {
			t.Run(point, func(t *testing.T) {
				t.Parallel()
				killedAt(t, exe, point, []string{"journal/after link/v1", "journal/before order/v1", ""}[i])
			})
		}
		return
	}
	running, recovering := everyPoint(t, exe)
	table := &killTable{}
	// In a group of their own: the other acceptance tests wait until it is over, and
	// have the machine to themselves.
	t.Run("all", func(t *testing.T) { killEverywhere(t, exe, running, recovering, table) })
	table.print(t, len(recovering))
}

// killEverywhere goes through every moment, twice, with another one of a recovery
// each time, and through every moment of a recovery.
func killEverywhere(t *testing.T, exe string, running, recovering []string, table *killTable) {
	for i, point := range running {
		for round := range 2 {
			again := recovering[(2*i+round)%len(recovering)]
			t.Run(fmt.Sprintf("%s/%d", point, round+1), func(t *testing.T) {
				t.Parallel()
				table.add(killedAt(t, exe, fmt.Sprintf("%s#%d", point, round+1), again))
			})
		}
	}
	for i, again := range recovering { // and every moment of a recovery, twice in a row
		point := running[(7*i)%len(running)]
		t.Run("recovering/"+again, func(t *testing.T) {
			t.Parallel()
			table.add(killedAt(t, exe, point, again, again))
		})
	}
}

// killable is a labgate with the moments compiled in.
func killable(t *testing.T) string {
	t.Helper()
	if failpoint.On {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		return self
	}
	exe := filepath.Join(tempDir(t), "labgate")
	if out, err := exec.Command("go", "build", "-tags", "failpoints", "-o", exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build -tags failpoints: %v\n%s", err, out)
	}
	return exe
}

// killLab is a lab whose station is to be killed.
type killLab struct {
	*twoProcesses
	exe     string
	started time.Time // of the last station
}

func newKillLab(t *testing.T, exe string) *killLab {
	l := &killLab{twoProcesses: &twoProcesses{TB: t, lab: benchLab(t), data: tempDir(t)}, exe: exe}
	if err := os.WriteFile(filepath.Join(l.lab, "protocols", "crash.yaml"), []byte(crash), 0o644); err != nil {
		t.Fatal(err)
	}
	l.startSim()
	l.audited()
	return l
}

// start starts the station; it may die at a moment before it is ready.
func (l *killLab) start(point, log string) {
	l.Helper()
	l.started = time.Now()
	l.serve = launchAs(l, l.exe, []string{"LABGATE_FAILPOINT=" + point, "LABGATE_FAILPOINT_LOG=" + log}, "serve", "--lab", l.lab, "--data", l.data, "--json")
}

// died waits until the station has died, or lives on for a while: a moment that
// does not come again.
func (l *killLab) died(within time.Duration) bool {
	if ended(l.serve) || within == 0 {
		return ended(l.serve)
	}
	select {
	case <-l.serve.done:
		return true
	case <-time.After(within):
		return false
	}
}

// everyPoint lists the moments of a run that nobody disturbs, and those of a
// start after a kill in the middle of one.
func everyPoint(t *testing.T, exe string) (running, recovering []string) {
	t.Helper()
	read := func(path string) []string {
		list := strings.Split(strings.TrimSpace(string(readFile(t, path))), "\n")
		slices.Sort(list)
		return list
	}
	l := newKillLab(t, exe)
	first, second := filepath.Join(l.data, "first"), filepath.Join(l.data, "second")
	l.start("", first)
	l.serve.says(`"type":"ready"`)
	l.must(exitDone, "submit", "crash")
	l.serve.interrupt()
	running = read(first)

	l = newKillLab(t, exe)
	l.start("journal/before outcome/v1#4", "")
	l.serve.says(`"type":"ready"`)
	p := l.submit("crash")
	<-l.serve.done
	l.start("", second)
	l.serve.says(`"type":"ready"`)
	p.wait()
	time.Sleep(time.Second)
	l.serve.interrupt()
	return running, read(second)
}

// killing is what one round showed.
type killing struct {
	point  string
	deaths int           // of the station
	state  string        // of the run, before a person ended it
	doubts int           // in doubt after the last start
	listed time.Duration // from the start of the process until they were listed
	acked  int           // documents that the client had been given
}

// killedAt runs crash in a station that dies at a moment, and in those that
// recover from it, and looks at what became of it.
func killedAt(t *testing.T, exe, point string, recoveries ...string) killing {
	l := newKillLab(t, exe)
	res := killing{point: strings.SplitN(point, "#", 2)[0]}
	l.start(point, "")
	var p *process
	if ready := l.ready(); ready {
		p = l.submit("crash", "--json")
		eventually(t, "the station dies, or the run is over", func() bool { return l.died(0) || ended(p) })
	}
	for _, again := range append(slices.Clone(recoveries), "") {
		if l.died(0) {
			res.deaths++
		} else {
			l.serve.kill() // its moment never came: any other one
		}
		l.start(again, "")
		if again != "" {
			l.died(3 * time.Second)
		}
	}
	l.serve.says(`"type":"ready"`)
	if p == nil {
		p = l.submit("crash", "--json")
	}
	_, status := l.runs()
	res.listed, res.doubts = time.Since(l.started), len(status.InDoubt)
	res.state = l.settled(p)
	if res.state == "failed" {
		t.Logf("%s: %s", res.point, l.newestRun().Say)
	}
	l.judge(p, &res)
	return res
}

func ended(p *process) bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// ready waits until the station is ready, or dead.
func (l *killLab) ready() bool {
	l.Helper()
	eventually(l, "the station is ready or dead", func() bool {
		return l.died(0) || strings.Contains(l.serve.out.String(), `"type":"ready"`)
	})
	return strings.Contains(l.serve.out.String(), `"type":"ready"`) && !l.died(0)
}

// settled waits until the run is over, or held; a person then ends it.
func (l *killLab) settled(p *process) string {
	l.Helper()
	p.wait()
	r := l.newestRun()
	if r.Ended == nil {
		l.must(exitDone, "abort", r.Run, "--reason", "it was killed")
		eventually(l, "the run is over", func() bool { return l.run(r.Run).Ended != nil })
	}
	return r.State
}

// judge holds the simulator's count, the client's documents and the journal
// against each other.
func (l *killLab) judge(p *process, res *killing) {
	l.Helper()
	all := l.standing()
	for _, pump := range []string{"pump_a", "pump_b"} {
		if c := all[pump]; c.Doses > 1 || c.Dispensed > 0.051 {
			l.Errorf("%s: %+v", pump, c)
		}
	}
	if c := all["camera"]; c.Exposures > 1 {
		l.Errorf("camera: %+v", c)
	}
	if c := all["stage"]; c.Moves > 1 {
		l.Errorf("stage: %+v", c)
	}
	l.serve.interrupt()
	if r := run(l, "journal", "verify", l.data); r.code != exitDone {
		l.Errorf("verify: %v", r)
	}
	record := run(l, "journal", "show", l.data, "--json").stdout
	for _, line := range strings.Split(strings.TrimSpace(p.out.String()), "\n") {
		var d struct{ Kind, UID, Proposal string }
		if json.Unmarshal([]byte(line), &d) != nil || d.UID == "" && d.Proposal == "" {
			continue
		}
		res.acked++
		if !strings.Contains(record, `"`+cmp.Or(d.UID, d.Proposal)+`"`) {
			l.Errorf("the client was given what the journal does not have: %s", line)
		}
	}
	l.wantDoubts(record)
}

// wantDoubts: every dose that was intended has an outcome, or is in doubt.
func (l *killLab) wantDoubts(record string) {
	l.Helper()
	intents, outcomes := map[string]bool{}, map[string]int{}
	for _, line := range strings.Split(strings.TrimSpace(record), "\n") {
		var e struct{ Kind, Command string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			l.Fatal(err)
		}
		switch e.Kind {
		case "intent/v1":
			intents[e.Command] = true
		case "outcome/v1":
			outcomes[e.Command]++
		}
	}
	doubt := map[string]bool{}
	l.start("", "")
	l.serve.says(`"type":"ready"`)
	_, status := l.runs()
	for _, d := range status.InDoubt {
		doubt[d.Command] = true
	}
	for c := range intents {
		if outcomes[c] == 0 && !doubt[c] {
			l.Errorf("command %s was intended, has no outcome and is not in doubt: %+v", c, status.InDoubt)
		}
	}
}

// killTable is the table that docs/reliability.md shows.
type killTable struct {
	mu   sync.Mutex
	rows []killing
}

func (k *killTable) add(r killing) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rows = append(k.rows, r)
}

// print writes the table as Markdown: a line for each moment, over its rounds.
func (k *killTable) print(t *testing.T, recovering int) {
	deaths, acked, doubts, slowest := 0, 0, 0, time.Duration(0)
	lines := map[string]*killing{}
	rounds, states := map[string]int{}, map[string]map[string]bool{}
	for _, r := range k.rows {
		deaths, acked, doubts, slowest = deaths+r.deaths, acked+r.acked, doubts+r.doubts, max(slowest, r.listed)
		line := lines[r.point]
		if line == nil {
			line = &killing{point: r.point}
			lines[r.point], states[r.point] = line, map[string]bool{}
		}
		rounds[r.point]++
		states[r.point][r.state] = true
		line.deaths, line.doubts, line.acked, line.listed = line.deaths+r.deaths, line.doubts+r.doubts, line.acked+r.acked, max(line.listed, r.listed)
	}
	var b strings.Builder
	for _, point := range slices.Sorted(maps.Keys(lines)) {
		l := lines[point]
		fmt.Fprintf(&b, "| %s | %d | %d | %s | %d | %d | %d ms |\n", point, rounds[point], l.deaths, strings.Join(slices.Sorted(maps.Keys(states[point])), ", "), l.acked, l.doubts, l.listed.Milliseconds())
	}
	t.Logf("\n| killed at | rounds | deaths | the run was | documents told | in doubt | listed within |\n|---|---|---|---|---|---|---|\n%s\n"+
		"%d rounds, %d deaths, %d moments of a recovery, %d documents told, %d commands in doubt, listed within %d ms of the start of the process", &b, len(k.rows), deaths, recovering, acked, doubts, slowest.Milliseconds())
}
