package main

import (
	"encoding/json"
	"os"
	"testing"

	"labgate/configs"
	"labgate/internal/dst"
	"labgate/lab"
	"labgate/runner"
)

// audited holds the journal of a station, and the world's count, against the
// promises that the simulation checks too, once its test is over.
func (l *twoProcesses) audited() {
	l.Cleanup(func() {
		if l.Failed() || l.Skipped() {
			return
		}
		counts, err := l.world.Effects()
		if err != nil {
			return // the test has ended the world
		}
		if err := audit(l, l.lab, l.data, dst.Station{Counts: counts}); err != nil {
			l.Errorf("the journal of %s: %v", l.data, err)
		}
	})
}

// audit reads a journal, and what its lab was, and holds them against the
// promises. A journal that can't be read is for the test to judge.
func audit(t testing.TB, labDir, data string, st dst.Station) error {
	shown := run(t, "journal", "show", data, "--json")
	if shown.code != exitDone {
		return nil
	}
	cfg, err := configs.Load(os.DirFS(labDir), "bench")
	if err != nil {
		return nil
	}
	st.Lab, st.Rules = cfg.Lab, cfg.Rules
	for name, role := range map[string]string{"planner_1": "agent", "scientist_1": "scientist", "operator_1": "operator", "operator_2": "operator", "safety_1": "safety", "local": "operator"} {
		st.Principals = append(st.Principals, runner.Principal{Name: name, Role: role})
	}
	var entries []lab.Entry
	for _, line := range jsonLines(t, shown.stdout) {
		var e lab.Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		entries = append(entries, e)
	}
	return st.Audit(entries)
}
