package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The operator's verbs: a bypass lets a dose pass that its rule would refuse,
// is shown everywhere, is nothing for agents, and ends. Rules are read again
// while the lab runs; a bad file changes nothing.
func TestOperator(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	l.set("room.airflow", 0)
	bypass := []string{"bypass", "dosing-needs-hood", "--for", "10 min", "--reason", "the sensor is being changed, the hood runs"}
	wantIn(t, "an agent's bypass", l.must(exitRefused, append(bypass, "--as", "planner_1")...).stderr, "planner_1 is an agent; only an operator or a safety officer may bypass")
	for _, verb := range [][]string{{"trips"}, {"acknowledge", "x"}, {"reload"}, {"reset", "stop", "--reason", "x"}, {"bypass", "dosing-needs-hood", "--end"}} {
		wantIn(t, verb[0]+" of an agent", l.must(exitRefused, append(verb, "--as", "planner_1")...).stderr, "planner_1 is an agent")
	}
	wantIn(t, "a rule that is never bypassed", l.must(exitRefused, "bypass", "runaway", "--for", "1 min", "--reason", "x").stderr, "runaway")
	l.must(exitUsage, "bypass", "dosing-needs-hood")
	l.must(exitDone, bypass...)
	wantIn(t, "runs", l.must(exitDone, "runs").stdout, "BYPASSED  dosing-needs-hood until ", "by operator_1: the sensor is being changed")
	wantIn(t, "trips", l.must(exitDone, "trips", "--json").stdout, `{"type":"bypass","rule":"dosing-needs-hood","by":"operator_1"`, `"bypasses":1`)
	l.must(exitDone, "submit", "pour", "--input", "temperature=25 degC", "--input", "volume=0.02 mL", "--input", "rate=10 mL/min")
	l.must(exitDone, "bypass", "dosing-needs-hood", "--end")
	wantIn(t, "submit", l.must(exitRefused, "submit", "pour", "--input", "temperature=25 degC").stdout, "dosing-needs-hood")
	wantIn(t, "trips", l.must(exitDone, "trips").stdout, "nothing is tripped, bypassed or alarmed")
	if n := len(l.journal("--kind", "bypass/v1")) + len(l.journal("--kind", "rearm/v1")); n != 2 {
		t.Errorf("%d entries about the bypass", n)
	}
	newRules(t, l)
}

// newRules: a bad file by signal and by verb, then a good one.
func newRules(t *testing.T, l *twoProcesses) {
	file := filepath.Join(l.lab, "interlocks.yaml")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Replace(string(good), "limit: pump_a.dose.volume", "limit: pump_a.dos.volume", 1))
	l.serve.signal(syscall.SIGHUP)
	eventually(t, "the alarm says what is wrong with the file", func() bool {
		return strings.Contains(l.must(exitDone, "trips").stdout, "ALARM     rules (critical)")
	})
	wantIn(t, "reload", l.must(exitRefused, "reload").stderr, "interlocks.yaml:", "dos", "the rules of before stay in force")
	write(strings.Replace(string(good), "max: 0.45 mL", "max: 0.01 mL", 1))
	wantIn(t, "reload", l.must(exitDone, "reload").stdout, "rules are in force")
	wantIn(t, "trips", l.must(exitDone, "trips").stdout, "nothing is tripped, bypassed or alarmed")
	eventually(t, "proposals are checked by the new rules", func() bool {
		return strings.Contains(l.labgate("submit", "pour", "--input", "temperature=25 degC").stdout, "dose-size")
	})
	if n := len(l.journal("--kind", "rules/v1")); n < 2 {
		t.Errorf("%d entries about rules", n)
	}
}
