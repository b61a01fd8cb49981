package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"labgate/messages"
)

// approvedLab is a station at which pour needs one approval, and what an agent
// brings needs two.
func approvedLab(t *testing.T) *twoProcesses {
	t.Helper()
	l := &twoProcesses{TB: t, lab: benchLab(t), data: tempDir(t)}
	for _, who := range [][2]string{{"safety_1", "safety"}, {"operator_1", "operator"}, {"scientist_1", "scientist"}, {"planner_1", "agent"}} {
		l.must(exitDone, "keys", "new", who[0], "--role", who[1])
	}
	file := filepath.Join(l.data, "access.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	access := strings.Replace(string(text), "may: {inline: no}", "may: {inline: needs-approval}", 1) +
		"approvals:\n  inline: {persons: 2}\n  protocols:\n    pour: {by: [operator, safety], within: 1 h}\n"
	if err := os.WriteFile(file, []byte(access), 0o600); err != nil {
		t.Fatal(err)
	}
	l.startSim()
	l.startServe()
	return l
}

// waiting is what the queue holds.
func (l *twoProcesses) waiting() []messages.QueueInfo {
	l.Helper()
	var list []messages.QueueInfo
	for _, line := range jsonLines(l, l.must(exitDone, "queue", "--json").stdout) {
		var i messages.QueueInfo
		if err := json.Unmarshal(line, &i); err != nil {
			l.Fatalf("%v: %s", err, line)
		}
		if i.Run != "" {
			list = append(list, i)
		}
	}
	return list
}

// Runs that people must approve, by the real verbs: shown, refused to an agent,
// to a wrong hash and to the proposer, approved, rejected.
func TestApprovals(t *testing.T) {
	t.Parallel()
	l := approvedLab(t)
	small := []string{"pour", "--input", "temperature=25 degC", "--input", "volume=0.02 mL", "--input", "rate=10 mL/min"}
	one := l.submit(append(small, "--as", "planner_1")...)
	eventually(t, "it waits for approval", func() bool { return len(l.waiting()) == 1 })
	q := l.waiting()[0]
	if len(q.Waits) != 1 || q.Waits[0].For != messages.WaitApproval || q.Approval == nil || q.Approval.Persons != 1 || q.Principal != "planner_1" {
		t.Errorf("%+v", q)
	}
	wantIn(t, "queue", l.must(exitDone, "queue").stdout, "#  RUN", q.Run, "planner_1", "normal", "it needs the approval of 1 person (operator or safety) until ")
	wantIn(t, "runs", l.must(exitDone, "runs").stdout, "needs_approval")
	shown := l.must(exitDone, "approve", q.Run).stdout
	wantIn(t, "approve", shown, "asked by", "planner_1 (agent)", "volume = 0.02 mL", "labgate approve "+q.Run+" --content "+q.Approval.Content)

	approve := []string{"approve", q.Run, "--content", q.Approval.Content}
	wrong := "sha256:" + strings.Repeat("0", 64)
	wantIn(t, "a wrong hash", l.must(exitRefused, "approve", q.Run, "--content", wrong).stderr, "what you approve is not what this run is")
	wantIn(t, "an agent", l.must(exitRefused, append(approve, "--as", "planner_1")...).stderr, "planner_1")
	wantIn(t, "a scientist", l.must(exitRefused, append(approve, "--as", "scientist_1")...).stderr, "scientist_1 is scientist; this run is for operator or safety to approve")
	if c := l.count("pump_a"); c.Doses != 0 {
		t.Errorf("%+v", c)
	}

	// Another is moved, and rejected.
	two := l.submit(append(small, "--as", "operator_1")...)
	eventually(t, "two wait", func() bool { return len(l.waiting()) == 2 })
	other := l.waiting()[1]
	wantIn(t, "one's own", l.must(exitRefused, "approve", other.Run, "--content", other.Approval.Content).stderr, "nobody approves their own proposal")
	wantIn(t, "an agent's move", l.must(exitRefused, "queue", "move", other.Run, "--first", "--as", "planner_1").stderr, "planner_1 is agent; only an operator or a safety officer")
	wantIn(t, "move", l.must(exitDone, "queue", "move", other.Run, "--before", q.Run).stdout, "waits at position 1")
	l.must(exitUsage, "reject", other.Run)
	l.must(exitDone, "reject", other.Run, "--reason", "not today", "--as", "safety_1")
	if r := two.wait(); r.code != exitRefused || !strings.Contains(r.stdout, "rejected by safety_1: not today") {
		t.Errorf("%v", r)
	}

	wantIn(t, "approve", l.must(exitDone, approve...).stdout, "is approved; it begins when its instruments are free")
	if r := one.wait(); r.code != exitDone {
		t.Errorf("%v", r)
	}
	if c := l.count("pump_a"); c.Doses != 1 {
		t.Errorf("%+v", c)
	}
	if n := len(l.journal("--kind", "approval/v1")); n != 2 {
		t.Errorf("%d approvals and rejections in the journal", n)
	}
	wantIn(t, "too late", l.must(exitRefused, approve...).stderr, "the run does not wait for approval: it is done")
	wantIn(t, "queue", l.must(exitDone, "queue").stdout, "nothing waits")
}
