package runner_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"labgate/messages"
	"labgate/runner"
)

var hash = regexp.MustCompile("sha256:[0-9a-f]{64}")

// sayVerdict writes a verdict for people who review goldens: every issue with
// all that a machine gets.
func sayVerdict(v messages.Verdict) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", v.Decision, v.Say)
	fmt.Fprintf(&b, "proposal %q key %q stream %d run %q\n", v.Proposal, v.Key, v.Stream, v.Run)
	for _, i := range v.Issues {
		fmt.Fprintf(&b, "- %s at %s: %s\n", i.Code, i.Path, i.Error())
		for _, x := range [][2]string{{"got", i.Got}, {"allowed", i.Allowed}, {"rule", i.Rule}} {
			if x[1] != "" {
				fmt.Fprintf(&b, "  %s: %s\n", x[0], x[1])
			}
		}
		if i.Nearest != nil {
			fmt.Fprintf(&b, "  nearest: %s (repairable %t)\n", i.Nearest, i.Repairable)
		}
	}
	if v.Decision == messages.AcceptedDecision {
		fmt.Fprintf(&b, "bill: %d exposures, %d commands\nproved %s\n", v.Bill.Exposures, v.Bill.Commands, strings.Join(v.Proved, " "))
		for _, l := range v.Live {
			fmt.Fprintf(&b, "live %s: %s\n", l.Step, strings.Join(l.Rules, ", "))
		}
	}
	return hash.ReplaceAllString(b.String(), "sha256:…")
}

// TestVerdicts: every proposal gets its answer, with every reason at once,
// word for word.
func TestVerdicts(t *testing.T) {
	files, err := filepath.Glob("testdata/proposals/*.json")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d proposals (%v)", len(files), err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".json")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			o := newOffice(t)
			o.propose("planner_1", string(data))
			if len(o.verdicts) != 1 || len(o.acks) != 1 {
				t.Fatalf("%d verdicts, %d acknowledged", len(o.verdicts), len(o.acks))
			}
			v := o.verdicts[0]
			if wants := strings.HasPrefix(name, "accepted") || name == "instructions-in-text"; (v.Decision == messages.AcceptedDecision) != wants {
				t.Errorf("%s: %v", v.Decision, v.Issues)
			}
			if (v.Run != "") != (v.Decision == messages.AcceptedDecision) || v.Hashes.Lab == "" || v.Hashes.Rules == "" || v.Principal != "planner_1" {
				t.Errorf("%+v", v)
			}
			golden(t, strings.TrimSuffix(f, ".json")+".golden", sayVerdict(v))
		})
	}
}

// A payload over the limit is answered too, and costs no more than that.
func TestTooLarge(t *testing.T) {
	o := newOffice(t)
	data := proposal("k", "asks@1.0.0", `"volume":{"value":0.1,"unit":"mL"}`)
	o.propose("planner_1", data+strings.Repeat(" ", messages.MaxProposal))
	if v := o.verdicts[0]; v.Issues[0].Code != "too_large" || v.Stream != 7 || len(v.Issues) > 3 {
		t.Errorf("%+v", v)
	}
	for _, e := range o.journal {
		if len(e.Body) > 64<<10 {
			t.Errorf("%s of %d bytes in the journal", e.Kind, len(e.Body))
		}
	}
	o.propose("planner_1", data+strings.Repeat(" ", messages.MaxProposal-len(data)))
	if v := o.verdicts[1]; v.Decision != messages.AcceptedDecision {
		t.Errorf("%+v", v.Issues)
	}
}

// Who may propose what.
func TestPrincipals(t *testing.T) {
	inline := `{"kind":"proposal/v1","id":"p","key":"i","inputs":{"volume":{"value":0.1,"unit":"mL"}},"protocol_inline":` + quote(more[0]) + `}`
	asks := proposal("a", "asks@1.0.0", `"volume":{"value":0.1,"unit":"mL"}`)
	for _, c := range []struct{ who, data, code string }{
		{"planner_1", asks, ""},
		{"planner_2", asks, "not_allowed"},
		{"planner_2", proposal("c", "coat-films@1.0.0", ""), ""},
		{"late_1", asks, "not_vetted"},
		{"nobody", asks, "not_vetted"},
		{"", asks, "not_vetted"},
		{"planner_1", inline, "not_allowed"},
		{"scientist_1", inline, ""},
		{"scientist_1", strings.Replace(inline, "pump.dose", "pump.doze", 1), "unknown_name"},
	} {
		o := newOffice(t)
		o.propose(c.who, c.data)
		v := o.verdicts[0]
		if c.code == "" && v.Decision != messages.AcceptedDecision || c.code != "" && (v.Decision != messages.RejectedDecision || v.Issues[0].Code != c.code) {
			t.Errorf("%s: %s %v", c.who, v.Decision, v.Issues)
		}
	}
	o := newOffice(t)
	o.now = t0.Add(24 * time.Hour)
	o.propose("planner_1", asks)
	if v := o.verdicts[0]; v.Issues[0].Code != "not_vetted" {
		t.Errorf("vetted until now: %+v", v.Issues)
	}
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// O2: N deliveries give one run and the same verdict; a key is used once.
func TestReplay(t *testing.T) {
	o := newOffice(t)
	data := proposal("k", "asks@1.0.0", `"volume":{"value":0.1,"unit":"mL"}`)
	o.manual = true
	o.propose("planner_1", data)
	o.propose("planner_1", data) // before the first is durable
	if len(o.verdicts) != 0 || len(o.acks) != 0 {
		t.Error("told before it is durable")
	}
	o.manual = false
	o.commit()
	o.propose("planner_1", data)
	if len(o.verdicts) != 3 || len(o.acks) != 3 {
		t.Fatalf("%d verdicts, %d acknowledged", len(o.verdicts), len(o.acks))
	}
	for _, v := range o.verdicts {
		if v.Run != o.verdicts[0].Run || v.Decision != messages.AcceptedDecision {
			t.Errorf("%+v", v)
		}
	}
	other := proposal("k", "asks@1.0.0", `"volume":{"value":0.2,"unit":"mL"}`)
	o.propose("planner_1", other)
	if v := o.verdicts[3]; v.Decision != messages.RejectedDecision || v.Issues[0].Code != "key_reused" || v.Run != "" {
		t.Errorf("%+v", v)
	}
	o.propose("scientist_1", data) // the same key of somebody else is another key
	if v := o.verdicts[4]; v.Decision != messages.AcceptedDecision || v.Run == o.verdicts[0].Run {
		t.Errorf("%+v", v)
	}
	o.propose("planner_1", "{") // what has no readable key counts by its content
	o.propose("planner_1", "{")
	o.propose("planner_1", "{ ")
	if n := len(o.verdicts); n != 8 {
		t.Errorf("%d verdicts", n)
	}
	if n := len(o.core.Runs("")); n != 2 {
		t.Errorf("%d runs", n)
	}
	o.restart()
	before := len(o.verdicts)
	o.propose("planner_1", data)
	o.propose("planner_1", other)
	if v := o.verdicts[before]; v.Run != o.verdicts[0].Run || v.Say != o.verdicts[0].Say || v.Principal != "planner_1" {
		t.Errorf("after a restart: %+v", v)
	}
	if v := o.verdicts[before+1]; v.Issues[0].Code != "key_reused" {
		t.Errorf("after a restart: %+v", v)
	}
	if r := o.controlVerdict("planner_1", "k"); !r.OK || r.Verdict == nil || r.Verdict.Run != o.verdicts[0].Run {
		t.Errorf("%+v", r)
	}
	if r := o.controlVerdict("planner_2", "k"); r.OK {
		t.Errorf("somebody else's: %+v", r)
	}
}

func (o *office) controlVerdict(who, key string) messages.ControlReply {
	o.step(runner.ControlAsked{Principal: who, Control: messages.Control{Action: messages.ControlVerdict, Key: key}})
	return o.answers[len(o.answers)-1]
}

// A verdict that could not be made durable was not given: the delivery comes
// again.
func TestVerdictNotDurable(t *testing.T) {
	o := newOffice(t)
	data := proposal("k", "asks@1.0.0", `"volume":{"value":0.1,"unit":"mL"}`)
	o.broken = true
	o.propose("planner_1", data)
	if len(o.verdicts) != 0 || len(o.acks) != 0 || len(o.core.Runs("")) != 0 {
		t.Errorf("%d verdicts, %d acknowledged", len(o.verdicts), len(o.acks))
	}
	o.broken = false
	o.propose("planner_1", data)
	if len(o.verdicts) != 1 || o.verdicts[0].Decision != messages.AcceptedDecision || len(o.core.Runs("")) != 1 {
		t.Errorf("%+v", o.verdicts)
	}
}

// The queue is bounded.
func TestQueueIsFull(t *testing.T) {
	o := newOffice(t)
	o.opts.MaxQueue = 2
	o.core = runner.New(o.opts)
	o.noLeases = true
	for i := range 5 {
		o.propose("planner_1", proposal(fmt.Sprint("k", i), "asks@1.0.0", `"volume":{"value":0.1,"unit":"mL"}`))
	}
	for i, v := range o.verdicts { // one runs, two wait
		if want := i < 3; (v.Decision == messages.AcceptedDecision) != want || !want && v.Issues[0].Code != "busy" {
			t.Errorf("%d: %s %v", i, v.Decision, v.Issues)
		}
	}
}

// One principal can't fill the queue for the others, and is told its place.
func TestQueueOfOnePrincipal(t *testing.T) {
	o := newOffice(t)
	o.opts.MaxQueueEach = 2
	o.core = runner.New(o.opts)
	o.noLeases = true
	for i := range 4 {
		o.propose("planner_1", proposal(fmt.Sprint("k", i), "asks@1.0.0", `"volume":{"value":0.1,"unit":"mL"}`))
	}
	o.propose("scientist_1", proposal("k", "asks@1.0.0", `"volume":{"value":0.1,"unit":"mL"}`))
	for i, v := range o.verdicts { // one runs, two wait; the scientist still can
		if want := i != 3; (v.Decision == messages.AcceptedDecision) != want {
			t.Errorf("%d: %s %v", i, v.Decision, v.Issues)
		}
	}
	if i := o.verdicts[3].Issues[0]; i.Code != "busy" || i.Say != "2 runs of planner_1 wait already" || i.Hint != "try again after 2026-11-22T09:00:06Z, under a new key" || i.Wait != "room comes when one of them begins, which is expected at 2026-11-22T09:00:06Z" {
		t.Errorf("%+v", i)
	}
	for n, want := range map[int]string{0: "", 2: "; it is number 2 in the queue", 4: "; it is number 2 in the queue"} {
		if say := o.verdicts[n].Say; !strings.HasSuffix(say, want) || want == "" && strings.Contains(say, "queue") {
			t.Errorf("%d: %s", n, say)
		}
	}
	if got := o.run(o.verdicts[4].Run).Position; got != 2 { // before the second of the other's
		t.Errorf("place %d", got)
	}
}

// The rate of access.yaml: so many in any such time, over a restart too. What
// the rate refused does not count.
func TestRate(t *testing.T) {
	o := newOffice(t)
	o.opts.Principals[0].Rate = runner.Rate{N: 2, Per: time.Hour}
	o.core = runner.New(o.opts)
	codes := func(key string) string {
		n := len(o.verdicts)
		o.propose("planner_1", proposal(key, "asks@1.0.0", `"volume":{"value":9,"unit":"mL"}`)) // refused all the same
		var list []string
		for _, i := range o.verdicts[n].Issues {
			list = append(list, i.Code)
		}
		return strings.Join(list, " ")
	}
	step := func(key, want string) {
		t.Helper()
		if got := codes(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	step("a", "out_of_bounds")
	step("a", "out_of_bounds") // the same key again is the same proposal
	o.now = o.now.Add(30 * time.Minute)
	step("b", "out_of_bounds")
	step("c", "out_of_bounds too_many_proposals")
	o.restart()
	step("d", "out_of_bounds too_many_proposals")
	i := o.verdicts[len(o.verdicts)-1].Issues[1]
	if i.Say != "planner_1 may propose 2 times in 1h0m0s, and has" || i.Hint != "try again after 2026-11-22T10:00:00Z, under a new key" {
		t.Errorf("%+v", i)
	}
	o.now = t0.Add(time.Hour)
	step("e", "out_of_bounds")
	step("f", "out_of_bounds too_many_proposals")
	o.propose("scientist_1", proposal("a", "asks@1.0.0", `"volume":{"value":0.1,"unit":"mL"}`))
	if v := o.verdicts[len(o.verdicts)-1]; v.Decision != messages.AcceptedDecision {
		t.Errorf("%v", v.Issues)
	}
}
