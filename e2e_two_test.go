package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"labgate/lab"
)

// begunRun is the run of a submit that has begun.
func begunRun(p *process) string {
	p.t.Helper()
	p.says(" has begun\n")
	_, rest, _ := strings.Cut(p.out.String(), "run ")
	return rest[:26]
}

// Two processes do what the demo does in one: a station that knows its
// instruments only by their wires, and a simulator that knows nothing of
// Labgate.
func TestServeAndSim(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	t.Run("a second simulator says so and leaves", func(t *testing.T) {
		before, err := os.ReadFile(filepath.Join(l.data, "sim.json"))
		if err != nil {
			t.Fatal(err)
		}
		r := run(t, "sim", "--data", l.data)
		if r.code != exitRefused {
			t.Errorf("%v", r)
		}
		wantIn(t, "its message", r.stderr, "a simulator runs in "+l.data+" already")
		if after, err := os.ReadFile(filepath.Join(l.data, "sim.json")); err != nil || string(after) != string(before) {
			t.Errorf("it changed where the instruments are: %v\n%s", err, after)
		}
	})
	t.Run("a second station says so and leaves", func(t *testing.T) {
		r := run(t, "serve", "--lab", l.lab, "--data", l.data)
		if r.code != exitRefused || r.stdout != "" {
			t.Errorf("%v", r)
		}
		wantIn(t, "its message", r.stderr, "in use by process", l.data)
	})
	gold := l.submit("gold-nanoparticles", "--input", "temperature=70 degC")
	films := l.submit("coat-films", "--input", "films=3")
	t.Run("wrong use", func(t *testing.T) { wrongUse(t, l) })
	t.Run("refusals", func(t *testing.T) { refusals(t, l) })
	filmsRun := begunRun(films)
	if r := films.wait(); r.code != exitDone {
		t.Fatalf("coat-films: %v", r)
	}
	wantIn(t, "coat-films", films.out.String(), "accepted as run "+filmsRun, "thickness ", " nm\n", "success\n", "labgate export "+filmsRun)
	goldRun := begunRun(gold)
	if r := gold.wait(); r.code != exitDone {
		t.Fatalf("gold-nanoparticles: %v", r)
	}
	wantIn(t, "gold-nanoparticles", gold.out.String(), "  peak         5", " nm\n", "table(2 × 256)", "image/png")
	all := l.counts()
	if a, b := all["pump_a"], all["pump_b"]; a.Doses != 1 || b.Doses != 1 || !near(a.Dispensed, 0.15) || !near(b.Dispensed, 0.15) {
		t.Errorf("what happened: %+v, %+v", a, b)
	}
	if c := all["cell"]; c.Batches != 1 || c.Films != 3 {
		t.Errorf("what happened: %+v", c)
	}
	listed := l.must(exitDone, "runs").stdout
	wantIn(t, "runs", listed, goldRun, filmsRun, "gold-nanoparticles@1.2.0", "coat-films@1.0.0", "scientist_1", "done", "peak 5")
	wantIn(t, "runs RUN", l.must(exitDone, "runs", goldRun, "--json").stdout, `"spectrum":{"columns":[`)
	t.Run("Ctrl-C of submit leaves the run", func(t *testing.T) { interruptSubmit(t, l) })
	t.Run("a second start", func(t *testing.T) {
		if r := l.serve.interrupt(); r.code != exitDone {
			t.Errorf("serve after Ctrl-C: %v", r)
		}
		r := l.must(exitRefused, "runs")
		wantIn(t, "runs without a station", r.stderr, "does not answer")
		if r := l.must(exitDone, "export", goldRun, "--to", filepath.Join(l.data, "out")); !strings.Contains(r.stdout, "measurements.csv") {
			t.Errorf("export without a station: %v", r)
		}
		l.startServe()
		wantIn(t, "runs after the second start", l.must(exitDone, "runs").stdout, goldRun, filmsRun, "done")
		l.submitted("pour", "--input", "volume=0.02 mL", "--input", "rate=10 mL/min", "--input", "temperature=40 degC")
		if a := l.count("pump_a"); !near(a.Dispensed, 0.15+0.2+0.02) || a.Doses != 3 {
			t.Errorf("what happened: %+v", a)
		}
	})
}

// submitted proposes, and fails the test unless the run succeeds.
func (l *twoProcesses) submitted(args ...string) result {
	l.Helper()
	return l.must(exitDone, append([]string{"submit"}, args...)...)
}

// wrongUse: exit code 2, one line that says what is wrong, nothing done.
func wrongUse(t *testing.T, l *twoProcesses) {
	for _, c := range []struct {
		args []string
		say  string
	}{
		{[]string{"submit"}, `expected "<protocol>"`},
		{[]string{"submit", "pour", "--input", "volume"}, "--input"},
		{[]string{"submit", "pour", "--colour", "red"}, "unknown flag --colour"},
		{[]string{"submit", "pour", "--within", "3 mL"}, "--within: 3 mL is not a duration"},
		{[]string{"submit", "pour", "--within", "soon"}, "--within"},
		{[]string{"demo", "--experiments", "0"}, "--experiments is 1 to 1000"},
		{[]string{"demo", "--experiments", "many"}, "--experiments"},
		{[]string{"reset", "--reason", "x"}, `"<rule>"`},
		{[]string{"reset", "stop"}, "--reason"},
		{[]string{"resolve", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "perhaps", "--reason", "x"}, "done"},
		{[]string{"keys", "new", "eve", "--role", "god"}, "--role"},
		{[]string{"export", "RUN"}, "--to"},
		{[]string{"dance"}, "dance"},
	} {
		r := run(t, append(c.args, "--data", l.data)...)
		if r.code != exitUsage || r.stdout != "" {
			t.Errorf("labgate %v: want exit 2, got %v", c.args, r)
		}
		wantIn(t, strings.Join(c.args, " "), r.stderr, "labgate: ", c.say)
	}
	if r := run(t); r.code != exitDone || !strings.Contains(r.stdout, "submit") {
		t.Errorf("labgate alone: %v", r)
	}
	if r := run(t, "submit", "--help"); r.code != exitDone || !strings.Contains(r.stdout, "--input") {
		t.Errorf("submit --help: %v", r)
	}
}

// refusals: exit code 1, with every issue.
func refusals(t *testing.T, l *twoProcesses) {
	big := filepath.Join(tempDir(t), "big.yaml")
	if err := os.WriteFile(big, []byte(pour+strings.Repeat("# long\n", 40_000)), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		say  []string
	}{
		{[]string{"submit", "pour", "-i", "volume=3 degC", "-i", "rate=99 mL/min", "-i", "temperature=60", "-i", "speed=1"}, []string{"rejected: 4 issues", "input volume: 3 degC is a temperature", "input rate: 99 mL/min is out of bounds", "input temperature", `no input "speed"`}},
		{[]string{"submit", "pour", "-i", "volume=NaN"}, []string{"input volume", "NaN"}},
		{[]string{"submit", "gold-nanoparticles@9.9.9"}, []string{"unknown_version", `no version "9.9.9"`}},
		{[]string{"submit", "gold-nanoparticle"}, []string{"unknown_protocol", `did you mean "gold-nanoparticles"?`}},
		{[]string{"submit", filepath.Join(l.lab, "protocols", "pour.yaml"), "--as", "planner_1"}, []string{"not_allowed", "may not bring a protocol of its own"}},
		{[]string{"submit", big}, []string{"at most 262144 are taken"}},
		{[]string{"runs", "01ARZ3NDEKTSV4RRFFQ69G5FAV"}, []string{"there is no run 01ARZ3NDEKTSV4RRFFQ69G5FAV"}},
		{[]string{"abort", "01ARZ3NDEKTSV4RRFFQ69G5FAV"}, []string{"there is no run"}},
		{[]string{"reset", "runaway", "--reason", "x"}, []string{"runaway is not latched"}},
		{[]string{"resolve", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "done", "--reason", "x"}, []string{"no command 01ARZ3NDEKTSV4RRFFQ69G5FAV is in doubt"}},
		{[]string{"export", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "--to", filepath.Join(l.data, "nothing")}, []string{"no run 01ARZ3NDEKTSV4RRFFQ69G5FAV"}},
		{[]string{"runs", "--as", "nobody"}, []string{`no key for "nobody"`, "operator_1"}},
		{[]string{"keys", "new", "operator_1", "--role", "operator"}, []string{"operator_1 has a key already"}},
		{[]string{"keys", "new", "Operator One", "--role", "operator"}, []string{"Operator One"}},
	} {
		r := run(t, append(c.args, "--data", l.data)...)
		if r.code != exitRefused {
			t.Errorf("labgate %v: want exit 1, got %v", c.args, r)
		}
		wantIn(t, strings.Join(c.args, " "), r.stdout+r.stderr, c.say...)
	}
	r := run(t, "runs", "--data", filepath.Join(l.data, "elsewhere"))
	if r.code != exitRefused {
		t.Errorf("%v", r)
	}
	wantIn(t, "runs of a folder with nothing in it", r.stderr, "nothing runs in", "start serve or demo there, or give --data")
	long := filepath.Join(l.data, strings.Repeat("long", 30))
	wantIn(t, "serve with a path that no socket can have", run(t, "serve", "--data", long).stderr, "too long for the local socket")
	// A key that was made while the station runs counts from its next start.
	l.must(exitDone, "keys", "new", "ito", "--role", "operator")
	wantIn(t, "a key that is not listed yet", l.must(exitRefused, "runs", "--as", "ito").stderr, "uthorization")
	if b, err := os.ReadFile(filepath.Join(l.data, "access.yaml")); err != nil || !strings.Contains(string(b), "ito: {role: operator") {
		t.Errorf("%v\n%s", err, b)
	}
}

// interruptSubmit: the run goes on without whoever asked for it, to its end.
func interruptSubmit(t *testing.T, l *twoProcesses) {
	before := l.count("pump_a")
	p := l.submit("pour", "--input", "volume=0.2 mL", "--input", "rate=6 mL/min", "--input", "temperature=40 degC")
	id := begunRun(p)
	r := p.interrupt()
	if r.code != exitRefused {
		t.Errorf("%v", r)
	}
	wantIn(t, "submit after Ctrl-C", r.stdout, "left alone: run "+id+" goes on", "labgate abort "+id)
	if r.stderr != "" {
		t.Errorf("submit after Ctrl-C complains: %s", r.stderr)
	}
	if now := l.run(id); now.State != "running" {
		t.Errorf("the run is %s", now.State)
	}
	eventually(t, "the run ends by itself", func() bool { return l.run(id).Ended != nil })
	if now := l.run(id); now.State != "done" || now.Outputs["delivered"].Kind != lab.Number {
		t.Errorf("%+v", now)
	}
	if a := l.count("pump_a"); a.Doses != before.Doses+1 || !near(a.Dispensed, before.Dispensed+0.2) {
		t.Errorf("before %+v, now %+v", before, a)
	}
}

// Machines read one JSON object a line, from every verb.
func TestJSONLines(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	r := l.must(exitDone, "submit", "pour", "--json", "--input", "volume=0.02 mL", "--input", "rate=10 mL/min", "--input", "temperature=40 degC")
	kinds := map[string]int{}
	id := ""
	for _, line := range jsonLines(t, r.stdout) {
		var d struct{ Kind, Run, Decision string }
		if err := json.Unmarshal(line, &d); err != nil {
			t.Fatal(err)
		}
		if kinds[d.Kind]++; d.Decision == "accepted" {
			id = d.Run
		}
	}
	if kinds["verdict/v1"] != 1 || kinds["start/v1"] != 1 || kinds["stop_document/v1"] != 1 || kinds["event/v1"] < 1 {
		t.Errorf("documents: %v", kinds)
	}
	for _, args := range [][]string{{"runs"}, {"runs", id}, {"export", id, "--to", filepath.Join(l.data, "x")}, {"stop", "stage"}, {"reset", "stop/stage", "--reason", "test"}, {"keys", "new", "eve", "--role", "agent"}} {
		if n := len(jsonLines(t, l.must(exitDone, append(args, "--json")...).stdout)); n < 1 {
			t.Errorf("%v prints nothing", args)
		}
	}
	for _, args := range [][]string{{"journal", "show", l.data}, {"journal", "show", l.data, "--run", id}, {"journal", "verify", l.data}} {
		if n := len(jsonLines(t, run(t, append(args, "--json")...).stdout)); n < 1 {
			t.Errorf("%v prints nothing", args)
		}
	}
	s := l.submit("pour", "--json", "--input", "rate=0.5 mL/min")
	s.says(`"kind":"start/v1"`)
	lines := jsonLines(t, s.interrupt().stdout)
	wantIn(t, "the last line after Ctrl-C", string(lines[len(lines)-1]), `"type":"left"`)
	newest := l.newestRun()
	l.must(exitDone, "abort", newest.Run, "--reason", "test", "--json")
	eventually(t, "the run is aborted", func() bool { return l.run(newest.Run).State == "aborted" })
	jsonLines(t, l.serve.out.String())
}

// The instruments vanish and come back, over all three wires: the station says
// so of each, trips on what it can't know, and goes on by a person's word.
func TestInstrumentsGoneAndBack(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	answering := func() (n int) {
		_, status := l.runs()
		for _, x := range status.Links {
			if x.Up {
				n++
			}
		}
		return n
	}
	if n := answering(); n != 9 {
		t.Fatalf("%d of 9 instruments answer", n)
	}
	l.sim.kill()
	eventually(t, "no instrument answers", func() bool { return answering() == 0 })
	eventually(t, "what can't be known trips", func() bool { return strings.Contains(l.latched(), "runaway") })
	wantIn(t, "runs", l.must(exitDone, "runs").stdout, "LINK      room does not answer", "LINK      pump_a does not answer", "LINK      reactor does not answer", "runaway tripped: reactor_temperature > 95 degC is unknown for 3 s")
	waits := l.submit("coat-films") // for its instruments, until the stop empties the queue
	waits.says("accepted as run")
	if r := l.newestRun(); r.State != "queued" {
		t.Errorf("a run whose instruments are gone: %+v", r)
	}
	eventually(t, "submit says what it waits for", func() bool { return strings.Contains(waits.err.String(), "waits: cell is not connected") })
	if r := l.must(exitRefused, "stop"); !strings.Contains(r.stderr, "instruments are NOT confirmed to be safe") {
		t.Errorf("a stop of instruments that are gone: %v", r)
	}
	if r := waits.wait(); r.code != exitRefused || !strings.Contains(r.stdout, "stopped by") {
		t.Errorf("the run that waited: %v", r)
	}
	l.startSim()
	eventually(t, "every instrument answers again", func() bool { return answering() == 9 })
	eventually(t, "an operator resets what is latched", func() bool {
		for _, rule := range strings.Fields(l.latched()) {
			l.labgate("reset", rule, "--reason", "the instruments are back")
		}
		return l.latched() == ""
	})
	l.submitted("coat-films", "--input", "films=1")
	if c := l.count("cell"); c.Films != 1 {
		t.Errorf("%+v", c)
	}
}
