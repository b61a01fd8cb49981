package runner_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"labgate/configs"
	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
	"labgate/runner"
)

// anySteps draws a list of steps of every kind, each with any policy.
type anySteps struct {
	t *rapid.T
	n int // steps so far: their ids
}

func (g *anySteps) list(depth int, indent string) string {
	var b strings.Builder
	for range rapid.IntRange(1, 3).Draw(g.t, "length") {
		b.WriteString(indent + "- " + strings.ReplaceAll(strings.TrimSuffix(g.one(depth), "\n"), "\n", "\n"+indent+"  ") + "\n")
	}
	return b.String()
}

func (g *anySteps) policy(retry bool) string {
	kinds := []string{"", "on_error: skip\n", "on_error: continue\n", "on_error: {hold: 2 min, then: abort}\n", "on_error: {hold: 3 min, then: skip}\n",
		"on_error: {steps: [{wait: {for: 1 s}}], hold: 1 min, then: continue}\n"}
	if retry {
		kinds = append(kinds, "on_error: {retry: 2, then: skip}\n", "on_error: {retry: 1, hold: 1 min}\n")
	}
	return rapid.SampledFrom(kinds).Draw(g.t, "policy")
}

func (g *anySteps) one(depth int) string {
	g.n++
	id := fmt.Sprintf("id: s%d\n", g.n)
	kinds := []string{"stir", "heat", "dose", "read", "wait", "pause", "ask", "pass", "reject"}
	if depth > 0 {
		kinds = append(kinds, "parallel", "repeat", "until", "if")
	}
	switch rapid.SampledFrom(kinds).Draw(g.t, "kind") {
	case "stir":
		return id + "do: reactor.stir\nwith: {speed: 300 rpm}\n" + g.policy(true)
	case "heat":
		return id + "do: reactor.heat\nwith: {target: = reactor.temperature + 1 K}\n" + g.policy(true)
	case "dose":
		return id + "do: pump.dose\nwith: {volume: 0.1 mL, rate: 6 mL/min}\nsample: vial\n" + g.policy(false)
	case "read":
		return id + "do: optics.spectrum\ngives: {peak: peak}\n" + g.policy(true)
	case "wait":
		return id + "wait: {until: reactor.temperature > 30 degC, timeout: 10 s}\n" + g.policy(false)
	case "ask":
		return id + "ask: Look.\nby: operator\ntimeout: 1 min\n" + g.policy(false)
	case "pass":
		return id + "pass: vial\nbecause: seen\n" + g.policy(false)
	case "reject":
		return id + "reject: vial\nbecause: seen\n" + g.policy(false)
	case "parallel":
		// One branch for each instrument: no two on one component.
		return id + "parallel:\n  - {ask: Look there., by: anyone, timeout: 30 s, " + g.inline() + "}\n  - {do: optics.spectrum, " + g.inline() +
			"}\n  - {repeat: {max: 6, every: 10 s}, steps: [{do: pump.dose, with: {volume: 0.1 mL, rate: 6 mL/min}, " + g.inline() + "}]}\npolicy: " + rapid.SampledFrom([]string{"all", "any", "each"}).Draw(g.t, "branches") + "\n" + g.policy(false)
	case "repeat":
		return id + "repeat: {max: 2}\nsteps:\n" + g.list(depth-1, "  ") + g.policy(false)
	case "until":
		return id + "repeat: {max: 3, every: 2 s, until: reactor.temperature > 30 degC}\nelse: continue\nsteps:\n" + g.list(depth-1, "  ") + g.policy(false)
	case "if":
		return id + "if: reactor.temperature > 30 degC\nthen:\n" + g.list(depth-1, "  ") + g.policy(false)
	}
	return id + "wait: {for: 1 s}\n"
}

func (g *anySteps) inline() string {
	return rapid.SampledFrom([]string{"on_error: abort", "on_error: skip", "on_error: {hold: 1 min}", "on_error: {hold: 90 s, then: skip}"}).Draw(g.t, "inline")
}

// Whatever the protocol, the outcomes, the people and the trips: a run ends
// once, never stands still for ever, never asks to be woken in the past, and
// does nothing new while it is held.
func TestAnyRunEnds(t *testing.T) {
	c := demo(t)
	rapid.Check(t, func(t *rapid.T) { anyRun(t, c).again() })
}

// anyRun draws a protocol, and lets a machine carry it out to its end in
// whatever may happen.
func anyRun(t *rapid.T, c *configs.Config) *anyWorld {
	g := &anySteps{t: t}
	text := "protocol: any\nversion: 1.0.0\nsamples: [vial]\nroles:\n  pump:    {is: pump/v1}\n  reactor: {is: [thermostat/v1, stirrer/v1, vessel/v1]}\n  optics:  {is: spectrometer/v1}\nsteps:\n" +
		g.list(2, "  ") + "cleanup:\n  - {do: reactor.drain}\nfinally:\n  - {do: pump.stop}\n"
	p, is := protocols.Parse("any.yaml", []byte(text), c.Classes)
	if len(is) > 0 {
		t.Fatalf("%v\n%s", is, text)
	}
	plan, is := protocols.Bind(p, c.Lab, nil)
	if len(is) > 0 {
		t.Fatal(is)
	}
	w := &anyWorld{t: t, plan: plan, ids: &counted{}, now: t0, text: text, had: map[string]int{}}
	w.m = runner.NewMachine("run", plan, w.ids, runner.Bounds{})
	w.step(runner.Begin{})
	for n := 0; w.ended == 0 && n < 3000; n++ {
		w.happen(plan)
	}
	if w.ended != 1 {
		t.Fatalf("it ended %d times, at %s after %s\n%s", w.ended, w.m.Where(), w.now.Sub(t0), text)
	}
	return w
}

// TestReplayIsExact: the records of a run make its machine again, to the byte of
// its state; those up to any moment make it as it was at that moment. The runs
// are random, with failures, doubts, retries, branches, people, holds, aborts
// and restarts in the middle.
func TestReplayIsExact(t *testing.T) {
	c := demo(t)
	runs, events, cuts, had := 0, 0, 0, map[string]int{}
	rounds := 10 // of 100, where nobody asks for another number
	if os.Getenv("LABGATE_HEAVY") != "" {
		rounds = 200
	}
	for range rounds {
		rapid.Check(t, func(t *rapid.T) {
			w := anyRun(t, c)
			w.again()
			runs, events = runs+1, events+len(w.log)
			for range min(len(w.log), 8) {
				n := rapid.IntRange(0, len(w.log)-1).Draw(t, "cut")
				if got := w.replayed(n + 1).State(); string(got) != string(w.states[n]) {
					t.Fatalf("after record %d it was\n%s\nthe records until then make\n%s\n%s\n%s", n+1, w.states[n], got, strings.Join(w.log[:n+1], "\n"), w.text)
				}
				cuts++
			}
			for what, n := range w.had {
				had[what] += n
			}
		})
	}
	for _, what := range []string{"outcome confirmed", "outcome failed", "outcome in_doubt", "outcome refused", "answer", "restart", "go on", "abort", "trip", "hold"} {
		if had[what] == 0 {
			t.Errorf("%s: none: this shows less than it says", what)
		}
	}
	t.Logf("%d runs, %d records, %d of them also replayed only in part: %v", runs, events, cuts, had)
}

// anyWorld is whatever may happen to a machine.
type anyWorld struct {
	t      *rapid.T
	plan   *protocols.Plan
	ids    *counted
	m      *runner.Machine
	log    []string       // its records, as the journal would have them
	states [][]byte       // after each of them
	had    map[string]int // what has happened
	now    time.Time
	text   string
	live   []lab.Command
	asked  []string
	ended  int
}

func (w *anyWorld) step(ev runner.MachineEvent) {
	held, stuck := !w.m.HeldUntil().IsZero(), false
	before := w.m.State()
	defer func() { w.recorded(before) }()
	for _, a := range w.m.Step(w.now, ev) {
		switch a := a.(type) {
		case runner.DoCommand:
			stillHeld := held && !w.m.HeldUntil().IsZero()
			if (stillHeld || stuck) && !a.Finally {
				w.t.Fatalf("%s is sent while the run is held\n%s", a.Command.Step, w.text)
			}
			w.live = append(w.live, a.Command)
		case runner.Stuck:
			stuck = true
		case runner.Freed:
			stuck = false
		case runner.Asked:
			w.asked = append(w.asked, a.Step.Path)
		case runner.Ended:
			w.ended++
		}
	}
	if next := w.m.Next(); w.ended == 0 && !next.IsZero() && !next.After(w.now) {
		w.t.Fatalf("at %s it wants to be woken at %s\n%s", w.now.Sub(t0), next.Sub(t0), w.text)
	}
}

// recorded keeps the record of a step. One without a record has changed nothing.
func (w *anyWorld) recorded(before []byte) {
	if rec := w.m.Record(); rec != nil {
		w.log, w.states = append(w.log, string(messages.Body(rec))), append(w.states, w.m.State())
	} else if after := w.m.State(); string(after) != string(before) {
		w.t.Fatalf("it changed without a record\n%s\n%s\n%s", before, after, w.text)
	}
}

// replayed makes the machine of its first records.
func (w *anyWorld) replayed(n int) *runner.Machine {
	var records []*runner.Record
	for _, text := range w.log[:n] {
		var r runner.Record
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			w.t.Fatal(err)
		}
		records = append(records, &r)
	}
	m, err := runner.Replay("run", w.plan, w.ids, runner.Bounds{}, records)
	if err != nil {
		w.t.Fatalf("%v\n%s\n%s", err, strings.Join(w.log, "\n"), w.text)
	}
	return m
}

// again makes the machine of its records, and compares.
func (w *anyWorld) again() *runner.Machine {
	m := w.replayed(len(w.log))
	if got, want := m.State(), w.m.State(); string(got) != string(want) {
		w.t.Fatalf("it was\n%s\nits records make\n%s\n%s\n%s", want, got, strings.Join(w.log, "\n"), w.text)
	}
	return m
}

// restart goes on with a machine that was made of the records, some time later.
func (w *anyWorld) restart() {
	w.m = w.again()
	down := time.Duration(rapid.IntRange(0, 4000).Draw(w.t, "down")) * time.Second
	w.now = w.now.Add(down)
	w.step(runner.Resumed{Down: down})
}

func (w *anyWorld) happen(plan *protocols.Plan) {
	kinds := []string{"time", "reading"}
	if len(w.live) > 0 {
		kinds = append(kinds, "outcome", "outcome", "outcome")
	}
	if len(w.m.Open()) > 0 {
		kinds = append(kinds, "answer")
	}
	if !w.m.HeldUntil().IsZero() {
		kinds = append(kinds, "go on")
	}
	if rapid.IntRange(0, 60).Draw(w.t, "trouble") == 0 {
		kinds = []string{"abort", "trip", "hold", "restart", "restart"}
	}
	kind := rapid.SampledFrom(kinds).Draw(w.t, "event")
	w.had[kind]++
	switch kind {
	case "time":
		next := w.m.Next()
		if next.IsZero() && len(w.live) == 0 {
			w.t.Fatalf("it stands still for ever at %s\n%s", w.m.Where(), w.text)
		}
		if !next.IsZero() {
			w.now = next
			w.step(runner.Pass{})
		}
	case "reading":
		id, _, err := plan.Property("reactor", "temperature")
		if err != nil {
			w.t.Fatal(err)
		}
		q := lab.Q(float64(rapid.IntRange(20, 40).Draw(w.t, "warm")), "degC")
		w.step(runner.ReadingCame{ID: id, Reading: lab.Reading{Value: lab.NumberValue(q), Quality: lab.Good, Source: w.now, Received: w.now}})
	case "outcome":
		i := rapid.IntRange(0, len(w.live)-1).Draw(w.t, "which")
		cmd := w.live[i]
		w.live = append(w.live[:i:i], w.live[i+1:]...)
		o := lab.Outcome{Command: cmd.ID, State: rapid.SampledFrom([]lab.State{lab.Confirmed, lab.Confirmed, lab.Failed, lab.InDoubt, lab.Refused}).Draw(w.t, "state"), Say: "so it is"}
		if o.OK() && cmd.Target.Command == "spectrum" {
			o.Values = map[string]lab.Value{"peak": lab.NumberValue(lab.Q(520, "nm"))}
		}
		w.had["outcome "+o.State.String()]++
		w.step(runner.CommandEnded{Outcome: o})
	case "answer":
		open := w.m.Open()
		path := open[0].Step.Path
		for _, a := range open { // in no order: the least is always the same
			path = min(path, a.Step.Path)
		}
		w.step(runner.Answered{Step: path, Who: "operator_1", Yes: rapid.Bool().Draw(w.t, "yes")})
	case "restart":
		w.restart()
	case "go on":
		w.step(runner.GoOn{})
	case "abort":
		w.step(runner.Abort{Reason: "a person", Exit: "abort"})
	case "trip":
		w.step(runner.Abort{Reason: "a trip", Rule: "warm", Exit: "abort", Trip: true})
	case "hold":
		w.step(runner.Hold{Reason: "a trip", Rule: "warm", Until: w.now.Add(time.Minute)})
	}
}
