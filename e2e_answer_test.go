package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// askPeople asks twice, and looks at a sample in between.
const askPeople = `protocol: ask-people
version: 1.0.0
samples: {vial: {lot: L-42}}
roles:
  reactor: {is: [thermostat/v1, stirrer/v1]}
outputs:
  mass: {unit: mg, from: load.mass, required: true}
steps:
  - {id: load, ask: Put the vial in and weigh it., by: operator, timeout: 5 min, gives: {mass: {unit: mg, min: 1, max: 50}}, sample: vial}
  - {id: stir, do: reactor.stir, with: {speed: 400 rpm}, sample: vial}
  - {id: look, ask: "Is it clear?", by: anyone, timeout: 5 min, on_error: {hold: 5 min, then: abort}}
  - {id: good, pass: vial, because: somebody has looked}
finally:
  - {do: reactor.stir_off}
`

// People answer over the bus: the right ones only, with what the step wants. A
// no fails the step, whose policy holds the run for the operator.
func TestAnswer(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	file := filepath.Join(tempDir(t), "ask-people.yaml")
	if err := os.WriteFile(file, []byte(askPeople), 0o600); err != nil {
		t.Fatal(err)
	}
	p := l.submit(file)
	run := begunRun(p)
	eventually(t, "the run asks", func() bool {
		return strings.Contains(l.must(exitDone, "runs").stdout, "ASKED     load: Put the vial in")
	})
	wantIn(t, "runs", l.must(exitDone, "runs").stdout, "by operator, until ", "labgate answer "+run+" load --value mass=…")
	wantIn(t, "an agent", l.must(exitRefused, "answer", run, "load", "--value", "mass=5 mg", "--as", "planner_1").stderr, "planner_1 is an agent; only a person may answer")
	wantIn(t, "a scientist", l.must(exitRefused, "answer", run, "load", "--value", "mass=5 mg", "--as", "scientist_1").stderr, "step load asks operator")
	wantIn(t, "no value", l.must(exitRefused, "answer", run, "load").stderr, "mass is not given")
	wantIn(t, "too much", l.must(exitRefused, "answer", run, "load", "--value", "mass=51 mg").stderr, "51 mg is out of bounds")
	wantIn(t, "a step that does not ask", l.must(exitRefused, "answer", run, "stir").stderr, "asks nothing now; asked is: load")
	l.must(exitUsage, "answer", run, "load", "--no", "--value", "mass=5 mg")
	l.must(exitDone, "answer", run, "load", "--value", "mass=12 mg", "--reason", "on the balance")
	eventually(t, "it asks again", func() bool { return strings.Contains(l.must(exitDone, "runs").stdout, "ASKED     look") })
	l.must(exitDone, "answer", run, "look", "--no", "--reason", "cloudy", "--as", "scientist_1")
	eventually(t, "the run is held", func() bool { return l.run(run).State == "held" })
	wantIn(t, "runs", l.run(run).Say, "for a person: step look: scientist_1 said no: cloudy")
	l.must(exitDone, "resume", run, "--reason", "it is only dust")
	eventually(t, "the run is over", func() bool { return l.run(run).Ended != nil })
	if i := l.run(run); i.State != "done" || i.Outputs["mass"].String() != "12 mg" {
		t.Errorf("%+v", i)
	}
	entries := l.journal("--kind", "answered/v1")
	if len(entries) != 2 || entries[0].Principal != "operator_1" || entries[1].Principal != "scientist_1" {
		t.Errorf("%+v", entries)
	}
	for _, e := range l.journal("--kind", "intent/v1") {
		if e.Step == "stir" && strings.Join(e.Samples, ",") != "vial" {
			t.Errorf("the sample does not travel with its command: %+v", e)
		}
	}
}

// In a simulation people answer by themselves, after a time: yes or no.
func TestSimulateAnswers(t *testing.T) {
	file := filepath.Join(tempDir(t), "ask-people.yaml")
	if err := os.WriteFile(file, []byte(askPeople), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{file}, exitDone, []string{"mass 25.5 mg yes by operator: simulated", "mass         25.5 mg", "seed 1: success after 60"}},
		{[]string{file, "--answers", "no", "--answer-after", "2 min"}, exitRefused, []string{"load: operator said no: simulated", "after 12"}},
		{[]string{file, "--answer-after", "10 min"}, exitRefused, []string{"step load: nobody answered within 300 s"}},
		{[]string{file, "--answer-after", "soon"}, exitUsage, []string{"--answer-after soon"}},
		{[]string{file, "--answers", "perhaps"}, exitUsage, []string{"--answers"}},
	} {
		var out, errs bytes.Buffer
		code := execute(t.Context(), append([]string{"simulate"}, c.args...), &out, &errs)
		if code != c.code {
			t.Errorf("%v: exit %d", c.args, code)
		}
		wantIn(t, strings.Join(c.args, " "), out.String()+errs.String(), c.want...)
	}
}
