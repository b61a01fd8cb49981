package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// simulateOut runs the command and returns what it printed and its exit code.
func simulateOut(t *testing.T, args ...string) (string, string, int) {
	t.Helper()
	var out, errs bytes.Buffer
	code := execute(t.Context(), append([]string{"simulate"}, args...), &out, &errs)
	return out.String(), errs.String(), code
}

func TestSimulate(t *testing.T) {
	out, _, code := simulateOut(t, "--json", "--seeds", "1-2", "gold-nanoparticles", "-i", "temperature=80 degC")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != exitDone || len(lines) != 3 {
		t.Fatalf("exit %d:\n%s", code, out)
	}
	for i, line := range lines[:2] {
		var r simulated
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Type != "run" || r.Seed != uint64(i+1) || r.Exit != "success" || r.Outputs["peak"].Unit.String() != "nm" || !r.Synthetic {
			t.Errorf("%s: %v", line, err)
		}
	}
	again, _, _ := simulateOut(t, "--json", "--seeds", "1-2", "gold-nanoparticles", "-i", "temperature=80 degC")
	if strip(again) != strip(out) {
		t.Errorf("the same seeds gave\n%s\nand\n%s", out, again)
	}
}

// strip takes out what it took here, which differs each time.
func strip(s string) string {
	var b strings.Builder
	for _, line := range strings.Split(s, "\n") {
		head, _, _ := strings.Cut(line, `,"seconds":`)
		b.WriteString(head + "\n")
	}
	return b.String()
}

// What fails in the lab, what is refused, and what is no use at all.
func TestSimulateFailures(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a dead pump":       {[]string{"gold-nanoparticles", "--fault", "pump_a:actuator_dead"}, exitRefused, "seed 1: fail (step feed.gold_in: partial"},
		"the hood fails":    {[]string{"gold-nanoparticles", "--fault", "room:nan@1s"}, exitRefused, "dosing-needs-hood"},
		"out of bounds":     {[]string{"gold-nanoparticles", "-i", "temperature=200 degC"}, exitRefused, "rejected: "},
		"no such protocol":  {[]string{"gold-nanoparticle"}, exitRefused, "none of that name is built in"},
		"no such fault":     {[]string{"coat-films", "--fault", "cell:sleepy"}, exitUsage, "cell: actuator_dead, breakdown"},
		"a fault nowhere":   {[]string{"coat-films", "--fault", "cell:nan.door"}, exitUsage, "there is no component or property"},
		"a time that isn't": {[]string{"coat-films", "--fault", "cell:nan@soon"}, exitUsage, "--fault cell:nan@soon"},
		"seeds":             {[]string{"coat-films", "--seeds", "5-2"}, exitUsage, "as in 1-20"},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, code := simulateOut(t, c.args...)
			if code != c.code || !strings.Contains(out+errs, c.want) {
				t.Errorf("exit %d, want %d and %q:\n%s%s", code, c.code, c.want, out, errs)
			}
		})
	}
}
