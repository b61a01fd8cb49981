package runner_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"labgate/lab"
	"labgate/messages"
	"labgate/runner"
)

// Protocols that want one, two or three instruments, in every combination that
// could lock them against each other.
var anyLibrary = []string{`protocol: stirs
version: 1.0.0
roles: {reactor: {is: stirrer/v1}}
steps: [{do: reactor.stir, with: {speed: 300 rpm}}]
`, `protocol: looks
version: 1.0.0
roles: {camera: {is: camera/v1}, stage: {is: stage/v1}}
steps: [{do: camera.capture, with: {exposure: 20 ms}}, {do: stage.move, with: {x: 0 mm, y: 0 mm, z: 1 mm}}]
`, `protocol: both
version: 1.0.0
roles: {stage: {is: stage/v1}, reactor: {is: stirrer/v1}}
steps: [{do: stage.move, with: {x: 0 mm, y: 0 mm, z: 1 mm}}, {do: reactor.stir, with: {speed: 300 rpm}}]
`, `protocol: all-three
version: 1.0.0
roles: {reactor: {is: stirrer/v1}, camera: {is: camera/v1}, optics: {is: spectrometer/v1}}
steps: [{do: reactor.stir, with: {speed: 300 rpm}}, {do: optics.spectrum}, {do: camera.capture, with: {exposure: 20 ms}}]
`, `protocol: grave
version: 1.0.0
roles: {reactor: {is: stirrer/v1}, stage: {is: stage/v1}}
steps: [{do: reactor.stir, with: {speed: 600 rpm}}]
`}

// anyInstruments is what they want, in the order in which it must be asked for.
var anyInstruments = map[string][]string{"stirs": {"reactor"}, "looks": {"camera", "stage"}, "both": {"reactor", "stage"},
	"all-three": {"camera", "reactor", "spectrometer"}, "grave": {"reactor", "stage"}}

var (
	anyAskers = []string{"planner_1", "planner_2", "scientist_1", "operator_1"}
	anyPeople = []string{"operator_1", "operator_2", "scientist_1", "safety_1", "operator_2", "planner_1"}
)

// Limits of the queue, and the terms of the grave ones.
const (
	anyQueue, anyQueueEach = 8, 3
	anyWithin              = 5 * time.Minute
)

// anyOffice is a runner in whatever may happen to it, and what must hold.
type anyOffice struct {
	*office
	t      *rapid.T
	keys   int
	moved  map[string]bool
	begun  map[string]bool
	counts map[string]time.Time // by run: its place in time
	off    map[string]string    // by control message: the run that it is to end
	docs   int                  // that have been looked at
	had    map[string]int
}

// TestAnyQueue draws proposals, people, gateways and restarts in any order. The
// queue keeps its order and what people did to it over every restart; leases
// are asked for in sorted order, all or none, and no two runs lock each other
// out; nobody is passed who waits for nothing of their own; nothing begins
// without the approvals that it needs; a full queue says when to try again.
func TestAnyQueue(t *testing.T) {
	like := newOffice(t, anyLibrary...)
	like.opts.Principals = append(like.opts.Principals, runner.Principal{Name: "operator_2", Role: "operator"}, runner.Principal{Name: "safety_1", Role: "safety"})
	like.opts.Principals[1].Protocols = nil
	like.opts.MaxQueue, like.opts.MaxQueueEach, like.opts.SnapshotEvery = anyQueue, anyQueueEach, 9
	like.opts.Approvals = runner.Approvals{Protocols: map[string]runner.Terms{"grave": {Persons: 2, By: []string{"operator", "safety", "scientist", "agent"}, Within: anyWithin}}}
	had := map[string]int{}
	rounds := 3 // of 100, where nobody asks for another number
	if os.Getenv("LABGATE_HEAVY") != "" {
		rounds = 100
	}
	for range rounds {
		rapid.Check(t, func(t *rapid.T) { playQueue(t, like, had) })
	}
	for _, what := range []string{"busy", "begun", "begun with approvals", "moved", "removed", "restart", "exact restart", "refused lease", "approval", "agent approves", "wrong content", "second approval of one person", "approval too late", "rejected"} {
		if had[what] == 0 {
			t.Errorf("%s: none: this shows less than it says", what)
		}
	}
	t.Log(had)
}

func playQueue(t *rapid.T, like *office, had map[string]int) {
	o := &office{tester: t, cfg: like.cfg, opts: like.opts, now: t0, held: map[string]string{}, manual: true, noLeases: true}
	o.opts.IDs = &counted{}
	o.core = runner.New(o.opts)
	w := &anyOffice{office: o, t: t, moved: map[string]bool{}, begun: map[string]bool{}, counts: map[string]time.Time{}, off: map[string]string{}, had: had}
	o.onAsked = w.leasing
	for range rapid.IntRange(30, 200).Draw(t, "events") {
		w.event()
		w.check()
	}
	w.finish()
}

func (w *anyOffice) pick(label string, n int) int { return rapid.IntRange(0, n-1).Draw(w.t, label) }

// one of the runs that wait, or a run that never was.
func (w *anyOffice) one(label string) string {
	q := w.core.Queue(w.now, "")
	if n := w.pick(label, len(q)+1); n < len(q) {
		return q[n].Run
	}
	return "nobody"
}

func (w *anyOffice) event() {
	switch rapid.SampledFrom(anyEvents).Draw(w.t, "event") {
	case "propose":
		w.proposes()
	case "commit":
		for len(w.appends) > 0 && w.pick("more", 4) > 0 {
			w.commit()
		}
	case "all":
		for len(w.appends) > 0 {
			w.commit()
		}
	case "gateway":
		w.gateway(w.pick("refuses", 8) == 7)
	case "outcome":
		if len(w.commands) > 0 {
			state := []lab.State{lab.Confirmed, lab.Confirmed, lab.Failed}[w.pick("state", 3)]
			w.outcomeOf(w.commands[w.pick("which", len(w.commands))].ID, lab.Outcome{State: state, Say: "so it is"})
		}
	case "query":
		w.tells()
	case "approve":
		w.approve()
	case "person":
		w.person()
	case "time":
		w.pass(time.Duration(w.pick("seconds", 400)) * time.Second)
	case "down":
		if w.pick("rare", 4) == 3 {
			w.down()
		}
	}
}

// anyEvents are what may happen, some of it more often.
var anyEvents = []string{"gateway", "commit", "propose", "all", "gateway", "outcome", "approve", "gateway", "all", "propose", "approve", "time", "outcome", "gateway", "query", "person", "approve", "commit", "down"}

// tells answers what a runner asks about commands.
func (w *anyOffice) tells() {
	for len(w.queries) > 0 {
		id := w.queries[0]
		w.queries = w.queries[1:]
		w.step(runner.CommandReplied{Command: id, Reply: messages.CommandReply{Command: id, Known: true, Accepted: true, State: lab.Confirmed, Outcome: &lab.Outcome{Command: id, State: lab.Confirmed}}})
	}
}

func (w *anyOffice) proposes() {
	name := slices.Sorted(maps.Keys(anyInstruments))[w.pick("protocol", len(anyInstruments))]
	who := anyAskers[w.pick("who", len(anyAskers))]
	priority := ""
	if p := w.pick("priority", 5); p < 2 {
		priority = fmt.Sprintf(`,"priority":%q`, []string{messages.PriorityLow, messages.PriorityNormal}[p])
	}
	w.keys++
	data := proposal(fmt.Sprint("k", w.keys), name+"@1.0.0", "")
	own, all := w.waiting(who)
	n := len(w.appends)
	w.propose(who, strings.TrimSuffix(data, "}")+priority+"}")
	if len(w.appends) == n {
		w.t.Fatalf("nothing is written down of a proposal")
	}
	var v messages.Verdict
	if err := json.Unmarshal(w.appends[n].Entries[1].Body, &v); err != nil {
		w.t.Fatal(err)
	}
	full := own >= anyQueueEach || all >= anyQueue
	switch {
	case (v.Decision == messages.RejectedDecision) != full:
		w.t.Fatalf("%d of %s wait, %d in all, and it is %s: %+v", own, who, all, v.Decision, v.Issues)
	case !full:
		w.counts[v.Run] = v.Queue.Counts
	default:
		w.had["busy"]++
		i := v.Issues[0]
		if at, after := strings.CutPrefix(i.Hint, "try again after "); after {
			at, _, _ = strings.Cut(at, ",")
			if when, err := time.Parse(time.RFC3339, at); err != nil || !when.After(w.now) {
				w.t.Fatalf("at %s it says %q", w.now, i.Hint)
			}
		} else if !strings.HasPrefix(i.Hint, "try again in ") {
			w.t.Fatalf("it does not say when to try again: %+v", i)
		}
		if i.Code != "busy" || i.Wait == "" {
			w.t.Fatalf("%+v", i)
		}
	}
}

// waiting counts the runs that wait, or will once their verdicts are durable.
func (w *anyOffice) waiting(who string) (own, all int) {
	count := func(principal string) {
		if all++; principal == who {
			own++
		}
	}
	for _, q := range w.core.Queue(w.now, "") {
		count(q.Principal)
	}
	for _, a := range w.appends {
		for _, e := range a.Entries {
			if e.Kind == "verdict/v1" && e.Run != "" {
				count(e.Principal)
			}
		}
	}
	return own, all
}

// gateway answers a lease request, whichever.
func (w *anyOffice) gateway(refuse bool) {
	if len(w.leases) == 0 {
		return
	}
	why := ""
	if refuse && w.leases[0].Action == messages.LeaseTake {
		why = "it is not connected"
		w.had["refused lease"]++
	}
	w.lease(why)
}

// approve lets somebody approve or reject something.
func (w *anyOffice) approve() {
	who := anyPeople[w.pick("person", len(anyPeople))]
	a := messages.Approval{Kind: messages.KindApproval, ID: "a", Run: w.one("run"), Decision: messages.ApproveDecision}
	for _, q := range w.core.Queue(w.now, "") {
		if q.Approval != nil && !q.Approval.Complete() && w.pick("this", 3) > 0 {
			a.Run = q.Run
		}
	}
	var about *messages.Approvals
	principal := ""
	for _, q := range w.core.Queue(w.now, "") {
		if q.Run == a.Run {
			about, principal = q.Approval, q.Principal
		}
	}
	wrong := about == nil || w.pick("wrong", 6) == 5
	if a.Content = "sha256:other"; !wrong {
		a.Content = about.Content
	}
	if w.pick("rejects", 12) == 11 {
		a.Decision, a.Reason = messages.RejectDecision, "no"
	}
	agent, twice := strings.HasPrefix(who, "planner"), about != nil && slices.Contains(about.Given, who)
	n, answers := len(w.appends), len(w.answers)
	w.step(runner.ApprovalAsked{Principal: who, Approval: a})
	written := len(w.appends) > n && w.appends[n].Entries[0].Kind == messages.KindApproval
	approves := a.Decision == messages.ApproveDecision
	switch {
	case written && (about == nil || agent || who == principal || approves && (wrong || twice || about.Complete())):
		w.t.Fatalf("%s: %+v of run of %s with %+v is taken", who, a, principal, about)
	case written && approves:
		w.had["approval"]++
	case written:
		w.had["rejected"]++
	case len(w.answers) == answers || w.answers[len(w.answers)-1].OK && !twice && !(about != nil && about.Complete()) && !w.coming(a.Run, who):
		w.t.Fatalf("%s: %+v of %+v is answered %+v", who, a, about, w.answers[answers:])
	case agent && about != nil:
		w.had["agent approves"]++
	case twice:
		w.had["second approval of one person"]++
	case wrong && about != nil:
		w.had["wrong content"]++
	}
}

// coming reports whether somebody's approval is on its way to the disk.
func (w *anyOffice) coming(run, who string) bool {
	return slices.ContainsFunc(w.appends, func(a runner.Append) bool {
		return a.Entries[0].Kind == messages.KindApproval && a.Entries[0].Run == run && a.Entries[0].Principal == who
	})
}

// person moves, removes, cancels, or lets go on.
func (w *anyOffice) person() {
	w.keys++
	c := messages.Control{Kind: messages.KindControl, ID: fmt.Sprint("c", w.keys), Run: w.one("run"), Reason: "a test"}
	who := []string{"operator_1", "operator_1", "operator_1", "planner_1"}[w.pick("who", 4)]
	what := ""
	switch w.pick("what", 4) {
	case 0, 1:
		c.Action, what = messages.ControlMove, "moved"
		if w.pick("front", 3) > 0 {
			c.Before = w.one("before")
		}
	case 2:
		c.Action, what = messages.ControlRemove, "removed"
	default:
		runs := w.core.Runs("")
		if len(runs) == 0 {
			return
		}
		c.Run = runs[w.pick("any", len(runs))].Run
		c.Action = []string{messages.ControlCancel, messages.ControlAbort, messages.ControlRelease}[w.pick("end", 3)]
	}
	w.off[c.ID] = c.Run
	n := len(w.appends)
	w.step(runner.ControlAsked{Principal: who, Control: c})
	if len(w.appends) == n {
		return
	}
	if kind := w.appends[n].Entries[0].Kind; kind == "queue_moved/v1" {
		if who != "operator_1" {
			w.t.Fatalf("%s reorders the queue", who)
		}
		w.moved[c.Run] = true
	}
	if what != "" {
		w.had[what]++
	}
}

// down kills the process, and starts it again. Half of the time all was durable:
// then the queue is exactly as it was.
func (w *anyOffice) down() {
	exact := w.pick("exact", 2) == 0
	for exact && len(w.appends) > 0 {
		w.commit()
	}
	w.check()
	order := func() (list []messages.QueueInfo) {
		for _, q := range w.core.Queue(w.now, "") {
			if !w.begun[q.Run] { // one that had begun is held, and does not wait
				q.Waits, q.Begins, q.Position = nil, nil, 0
				list = append(list, q)
			}
		}
		return list
	}
	leasing, asked := 0, map[string]bool{}
	for _, r := range w.core.Runs("") {
		if r.State == string(runner.Leasing) && !w.begun[r.Run] {
			leasing++ // it waits again, at its place
			asked[r.Run] = true
		}
	}
	before := order()
	if exact {
		live, again := w.core.Snapshot(w.now), w.restored(nil, 0).Snapshot(w.now)
		if d := cmp.Diff(string(messages.Body(live)), string(messages.Body(again))); d != "" {
			w.t.Fatalf("the journal makes another runner (-live +made again):\n%s", d)
		}
	}
	w.restart()
	after := order()
	w.step(runner.Tick{})
	w.had["restart"]++
	if !exact {
		return
	}
	for _, r := range w.core.Runs("") {
		if asked[r.Run] && r.Ended != nil && strings.Contains(r.Say, "rejected by") {
			leasing-- // somebody had, meanwhile: it was to end with the answer about its lease
		}
	}
	if leasing > 0 {
		known := map[string]bool{}
		for _, q := range before {
			known[q.Run] = true
		}
		after = slices.DeleteFunc(after, func(q messages.QueueInfo) bool {
			if !known[q.Run] {
				leasing--
			}
			return !known[q.Run]
		})
	}
	if d := cmp.Diff(before, after, cmpopts.EquateEmpty()); d != "" || leasing != 0 {
		w.t.Fatalf("after a restart the queue is (%d were asking for leases)\n%s", leasing, d)
	}
	w.had["exact restart"]++
}

// finish lets everything that stands in the way go: then every run ends, and
// nobody keeps anything.
func (w *anyOffice) finish() {
	for n := 0; ; n++ {
		for len(w.appends) > 0 {
			w.commit()
		}
		for len(w.leases) > 0 {
			w.gateway(false)
		}
		w.tells()
		for len(w.commands) > 0 {
			w.outcomeOf(w.commands[0].ID, lab.Outcome{State: lab.Confirmed})
		}
		open := 0
		for _, r := range w.core.Runs("") {
			if r.Ended != nil {
				continue
			}
			open++
			if r.State == string(runner.Held) {
				w.control("operator_1", messages.ControlAbort, r.Run)
			}
		}
		if open == 0 && len(w.appends)+len(w.leases) == 0 {
			break
		}
		if n > 400 {
			w.t.Fatalf("these never end: %+v\nleases %v\n%s", w.core.Runs(""), w.held, strings.Join(w.trace, "\n"))
		}
		w.pass(10 * time.Second)
	}
	if len(w.held) > 0 {
		w.t.Fatalf("leases are left: %v", w.held)
	}
}
