package runner_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"labgate/configs"
	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
	"labgate/runner"
	"labgate/safety"
	"labgate/safety/preflight"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// t0 is when every test begins.
var t0 = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// counted makes ids that count.
type counted struct{ n int }

func (c *counted) New(time.Time) string { c.n++; return fmt.Sprintf("id%d", c.n) }

// more protocols of these tests' library.
var more = []string{`protocol: asks
version: 1.0.0
inputs:
  volume: {unit: mL, min: 0.01, max: 2}
roles:
  pump: {is: pump/v1}
steps:
  - {id: feed, do: pump.dose, with: {volume: = volume, rate: 6 mL/min}}
finally:
  - {do: pump.stop}
`, `protocol: two-stages
version: 1.0.0
roles:
  here:  {is: stage/v1}
  there: {is: stage/v1}
steps:
  - {do: here.move, with: {x: 0 mm, y: 0 mm, z: 1 mm}}
  - {do: there.move, with: {x: 0 mm, y: 0 mm, z: 1 mm}}
finally:
  - {do: here.halt}
`}

// tester is what rapid's and testing's T have in common.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// office is a runner whose bus, gateways and disk are the test.
type office struct {
	tester
	cfg   *configs.Config
	opts  runner.Options
	core  *runner.Core
	now   time.Time
	fence uint64

	manual     bool // appends wait for the test
	broken     bool // the disk fails
	noLeases   bool // lease requests wait for the test
	appends    []runner.Append
	leases     []messages.LeaseRequest
	held       map[string]string // instrument to run
	onAsked    func(messages.LeaseRequest)
	commands   []messages.Command
	queries    []string
	looks      []string
	snap       []byte // the newest snapshot
	place      int    // how many entries it stands for
	older      []byte // the one before it, for when that many are not durable
	olderPlace int
	journal    []lab.Entry
	verdicts   []messages.Verdict
	docs       []any
	answers    []messages.ControlReply
	acks       []any
	loads      []runner.LoadRules
	trace      []string
	last       messages.Command // the newest command
}

func demo(t testing.TB) *configs.Config {
	t.Helper()
	sub, err := fs.Sub(configs.Embedded(), "labs/demo")
	if err != nil {
		t.Fatal(err)
	}
	c, err := configs.Load(sub, "demo")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newOffice(t testing.TB, library ...string) *office {
	t.Helper()
	o := &office{tester: t, cfg: demo(t), now: t0, held: map[string]string{}}
	var protos []*protocols.Protocol
	parse := func(name string, data []byte) {
		p, is := protocols.Parse(name, data, o.cfg.Classes)
		if len(is) > 0 {
			t.Fatal(is)
		}
		protos = append(protos, p)
	}
	files := protocols.Library()
	for _, n := range []string{"coat-films.yaml", "gold-nanoparticles.yaml"} {
		for path, data := range files {
			if strings.HasSuffix(path, n) {
				parse(n, data)
			}
		}
	}
	for i, text := range append(append([]string(nil), more...), library...) {
		parse(fmt.Sprintf("test-%d.yaml", i), []byte(text))
	}
	o.opts = runner.Options{Lab: o.cfg.Lab, Classes: o.cfg.Classes, Library: protos, RulesHash: o.cfg.Rules.Hash, Preflight: preflight.With(o.cfg.Rules), IDs: &counted{}, SnapshotEvery: 7, MaxAnswered: 2,
		Principals: []runner.Principal{{Name: "planner_1", Role: "agent", Until: t0.Add(24 * time.Hour)}, {Name: "planner_2", Role: "agent", Protocols: []string{"coat-films"}},
			{Name: "late_1", Role: "agent", Until: t0}, {Name: "scientist_1", Role: "scientist", Inline: true}, {Name: "operator_1", Role: "operator"}}}
	o.core = runner.New(o.opts)
	return o
}

// restart is a new process with what the journal holds: from its newest
// snapshot, which must tell the same as the whole journal does.
func (o *office) restart() {
	o.Helper()
	o.appends, o.leases, o.commands, o.queries, o.looks, o.held = nil, nil, nil, nil, nil, map[string]string{}
	if o.place > len(o.journal) {
		o.snap, o.place = o.older, o.olderPlace
	}
	whole := o.restored(nil, 0)
	o.core = o.restored(o.snap, o.place)
	if diff := cmp.Diff(whole.Runs(""), o.core.Runs(""), cmpopts.EquateEmpty()); diff != "" {
		o.Fatalf("from the whole journal, and from the snapshot of entry %d of %d:\n%s", o.place, len(o.journal), diff)
	}
	if diff := cmp.Diff(whole.Queue(o.now, ""), o.core.Queue(o.now, "")); diff != "" {
		o.Fatalf("from the whole journal, and from the snapshot of entry %d of %d:\n%s", o.place, len(o.journal), diff)
	}
	if diff := cmp.Diff(string(messages.Body(whole.Stock())), string(messages.Body(o.core.Stock()))); diff != "" {
		o.Fatalf("from the whole journal, and from the snapshot of entry %d of %d:\n%s", o.place, len(o.journal), diff)
	}
	o.act(o.core.Restored(o.now))
}

func (o *office) restored(snap []byte, from int) *runner.Core {
	o.Helper()
	core := runner.New(o.opts)
	if snap != nil {
		var state runner.Snapshot
		if err := json.Unmarshal(snap, &state); err != nil {
			o.Fatal(err)
		}
		if err := core.Recall(&state); err != nil {
			o.Fatal(err)
		}
	}
	for _, e := range o.journal[from:] {
		if err := core.Restore(e); err != nil {
			o.Fatal(err)
		}
	}
	return core
}

// seen is the journal's entry with a key; nil: there is none.
func (o *office) seen(key string) *lab.Entry {
	for i := range o.journal {
		if o.journal[i].Key == key {
			return &o.journal[i]
		}
	}
	return nil
}

func (o *office) step(ev runner.Event) {
	o.Helper()
	o.act(o.core.Step(o.now, ev))
	if next := o.core.Next(); !next.IsZero() && !next.After(o.now) {
		o.Fatalf("at %s Next is %s: the shell would spin", o.now.Sub(t0), next.Sub(t0))
	}
}

func (o *office) act(actions []runner.Action) {
	o.Helper()
	for _, a := range actions {
		o.one(a)
	}
	for !o.manual && len(o.appends) > 0 {
		o.commit()
	}
	for len(o.looks) > 0 {
		key := o.looks[0]
		o.looks = o.looks[1:]
		proposal, verdict := runner.AnswerKeys(key)
		o.step(runner.Looked{Key: key, Proposal: o.seen(proposal), Verdict: o.seen(verdict)})
	}
	for !o.noLeases && len(o.leases) > 0 {
		o.lease("")
	}
}

func (o *office) log(format string, args ...any) {
	o.trace = append(o.trace, fmt.Sprintf(format, args...))
}

func (o *office) one(a runner.Action) {
	o.Helper()
	switch a := a.(type) {
	case runner.Append:
		o.appends = append(o.appends, a)
	case runner.Note:
		if len(o.appends) > 0 { // the journal keeps the order in which it was handed entries
			o.appends = append(o.appends, runner.Append{Entries: a.Entries})
			return
		}
		o.journal = append(o.journal, a.Entries...)
	case runner.Look:
		o.looks = append(o.looks, a.Key)
	case runner.Snap:
		if o.place <= len(o.journal) {
			o.older, o.olderPlace = o.snap, o.place
		}
		o.snap, o.place = messages.Body(a.State), len(o.journal)
		for _, x := range o.appends {
			o.place += len(x.Entries) // notes that the journal was handed before
		}
	case runner.Publish:
		switch d := a.Document.(type) {
		case messages.Verdict:
			o.verdicts = append(o.verdicts, d)
			o.log("verdict %s", d.Decision)
		case messages.RunStart:
			o.docs = append(o.docs, d)
			o.log("start")
		case messages.RunEvent:
			o.docs = append(o.docs, d)
			o.log("event %s %s %s", d.Step, d.Outcome, write(d.Data))
		case messages.RunStop:
			o.docs = append(o.docs, d)
			o.log("stop %s %s", d.ExitStatus, d.Reason)
		default:
			o.docs = append(o.docs, d)
		}
	case runner.Acknowledge:
		o.acks = append(o.acks, a.Token)
	case runner.Lease:
		if a.Request.Action == messages.LeaseRenew {
			o.log("renew %s", a.Request.Instrument)
			return
		}
		o.leases = append(o.leases, a.Request)
		if o.onAsked != nil {
			o.onAsked(a.Request)
		}
	case runner.Command:
		o.commands = append(o.commands, a.Command)
		o.last = a.Command
		o.log("do %s.%s.%s %s%s", a.Command.Instrument, a.Command.Component, a.Command.Command, write(a.Command.Args), map[bool]string{true: " (finally)"}[a.Command.Finally])
	case runner.Query:
		o.queries = append(o.queries, a.Command)
		o.log("query %s", a.Command)
	case runner.LoadRules:
		o.loads = append(o.loads, a)
	case runner.Answer:
		o.answers = append(o.answers, a.Message)
	}
}

func write(values map[string]lab.Value) string {
	var list []string
	for _, n := range []string{"volume", "rate", "target", "speed", "x", "y", "z", "exposure", "films", "amount", "peak", "n"} {
		if v, ok := values[n]; ok {
			list = append(list, n+"="+v.String())
		}
	}
	return strings.Join(list, ",")
}

func (o *office) commit() {
	o.Helper()
	a := o.appends[0]
	o.appends = o.appends[1:]
	if o.broken {
		o.step(runner.Durable{Token: a.Token, Err: fmt.Errorf("the disk is full")})
		return
	}
	o.journal = append(o.journal, a.Entries...)
	if a.Token == 0 { // a note
		return
	}
	o.step(runner.Durable{Token: a.Token, Refs: make([]lab.Ref, len(a.Entries))})
}

// lease answers the oldest lease request: a text refuses it.
func (o *office) lease(refuse string) {
	o.Helper()
	r := o.leases[0]
	o.leases = o.leases[1:]
	reply := messages.LeaseReply{Instrument: r.Instrument}
	switch {
	case r.Action == messages.LeaseRelease:
		if o.held[r.Instrument] == r.Run {
			delete(o.held, r.Instrument)
		}
		o.log("release %s", r.Instrument)
		reply.OK = true
	case refuse != "" || o.held[r.Instrument] != "":
		if refuse == "" {
			refuse = "run " + o.held[r.Instrument] + " holds it"
		}
		o.log("refuse %s to %s", r.Instrument, r.Run)
		reply.Issues = lab.Issues{{Code: "held", Say: refuse}}
	default:
		o.fence++
		o.held[r.Instrument] = r.Run
		o.log("lease %s to %s", r.Instrument, r.Run)
		reply.OK, reply.Lease, reply.Expires = true, o.fence, o.now.Add(10*time.Second)
	}
	o.step(runner.LeaseReplied{Run: r.Run, Action: r.Action, Reply: reply})
}

// pass lets time pass, stopping wherever the core wants to be asked.
func (o *office) pass(d time.Duration) {
	o.Helper()
	for end := o.now.Add(d); ; {
		next := o.core.Next()
		if next.IsZero() || next.After(end) {
			o.now = end
			o.step(runner.Tick{})
			return
		}
		o.now = next
		o.step(runner.Tick{})
	}
}

func (o *office) propose(who, data string) {
	o.Helper()
	o.step(runner.Proposed{Principal: who, Data: []byte(data), StreamSeq: 7, Token: len(o.acks)})
}

// proposal writes one: of a protocol, under a key.
func proposal(key, protocol, inputs string) string {
	name, version, _ := strings.Cut(protocol, "@")
	return fmt.Sprintf(`{"kind":"proposal/v1","id":"p-%s","key":%q,"protocol":{"name":%q,"version":%q},"inputs":{%s}}`, key, key, name, version, inputs)
}

// accepted proposes and returns the run.
func (o *office) accepted(who, data string) string {
	o.Helper()
	o.propose(who, data)
	v := o.verdicts[len(o.verdicts)-1]
	if v.Decision != messages.AcceptedDecision {
		o.Fatal(v.Issues)
	}
	return v.Run
}

// outcome ends the oldest command that waits.
func (o *office) outcome(out lab.Outcome) messages.Command {
	o.Helper()
	if len(o.commands) == 0 {
		o.Fatalf("no command waits; so far:\n%s", strings.Join(o.trace, "\n"))
	}
	return o.outcomeOf(o.commands[0].ID, out)
}

func (o *office) outcomeOf(id string, out lab.Outcome) messages.Command {
	o.Helper()
	for i, c := range o.commands {
		if c.ID == id {
			o.commands = append(o.commands[:i], o.commands[i+1:]...)
			out.Command = id
			o.step(runner.OutcomeArrived{Outcome: messages.Outcome{Instrument: c.Instrument, Component: c.Component, Name: c.Command, Run: c.Run, Step: c.Step, Outcome: out}})
			return c
		}
	}
	o.Fatalf("command %s does not wait", id)
	return messages.Command{}
}

// ok ends the oldest command well.
func (o *office) ok(values ...string) messages.Command {
	o.Helper()
	out := lab.Outcome{State: lab.Confirmed, Values: map[string]lab.Value{}}
	for _, v := range values {
		n, text, _ := strings.Cut(v, " = ")
		out.Values[n] = protocols.ParseValue(text)
	}
	return o.outcome(out)
}

// is compares the trace since the last call, word for word.
func (o *office) is(want ...string) {
	o.Helper()
	if got, w := strings.Join(o.trace, "\n"), strings.Join(want, "\n"); got != w {
		o.Errorf("it did\n%s\nwanted is\n%s", got, w)
	}
	o.trace = nil
}

func (o *office) control(who, action, run string) messages.ControlReply {
	o.Helper()
	o.step(runner.ControlAsked{Principal: who, Control: messages.Control{Kind: messages.KindControl, ID: "x", Action: action, Run: run, Reason: "a test"}})
	return o.answers[len(o.answers)-1]
}

func (o *office) run(id string) messages.RunInfo {
	o.Helper()
	for _, i := range o.core.Runs("") {
		if i.Run == id {
			return i
		}
	}
	o.Fatalf("no run %s", id)
	return messages.RunInfo{}
}

func (o *office) stopDoc() messages.RunStop {
	o.Helper()
	for i := len(o.docs) - 1; i >= 0; i-- {
		if d, ok := o.docs[i].(messages.RunStop); ok {
			return d
		}
	}
	o.Fatalf("the run has not ended:\n%s", strings.Join(o.trace, "\n"))
	return messages.RunStop{}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s is\n%s\nnow it says\n%s", file, want, got)
	}
}

var _ = safety.RunAbort
