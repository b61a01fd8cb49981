package planner

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"labgate/internal/bus"
	"labgate/lab"
	"labgate/messages"
)

func TestClosesTheLoop(t *testing.T) {
	s := newStation(t)
	s.open()
	o := s.options(6)
	phases := map[Phase]int{}
	o.Progress = func(ev Event) {
		phases[ev.Phase]++
		if ev.Of != 6 || ev.N < 1 || ev.N > 6 || ev.Experiment.N != ev.N {
			t.Errorf("event %+v", ev)
		}
	}
	exps, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(exps) != 6 {
		t.Fatalf("%d experiments", len(exps))
	}
	for i, e := range exps {
		p := s.proposals[i]
		if !e.Complete() || e.N != i+1 || e.Tries != 1 || e.SpectrumPoints() != 256 || e.Images != 1 || e.Seconds != 8.2154 {
			t.Errorf("experiment %d: %+v", i+1, e)
		}
		if p.Predicts["peak"] != e.Predicted["peak"] || p.Hypothesis == "" || p.Hypothesis != e.Hypothesis || p.Key != e.Key || p.Model == "" || p.NotAfter == nil {
			t.Errorf("proposal %d does not say what is on record: %+v", i+1, p)
		}
		if p.Predicts["peak"].Unit != "nm" || !(p.Predicts["peak"].SD > 0) {
			t.Errorf("proposal %d predicts %+v", i+1, p.Predicts["peak"])
		}
	}
	best := exps[Best(exps, 527)]
	if peak, _ := best.Peak(); math.Abs(peak-527) > 0.5 {
		t.Errorf("the best of 6 is %.2f nm", peak)
	}
	for _, ph := range []Phase{Proposing, Verdict, Started, Step, Measured} {
		if phases[ph] != 6 {
			t.Errorf("%d events %s", phases[ph], ph)
		}
	}
	m := asLine(t, exps[0])
	if m["spectrum_points"] != 256.0 || m["images"] != 1.0 || m["seconds"] != 8.215 || m["measured"].(map[string]any)["peak"].(map[string]any)["unit"] != "nm" {
		t.Errorf("line %v", m)
	}
}

func TestSameSeedSameProposals(t *testing.T) {
	inputs := func() (out []string) {
		s := newStation(t)
		s.open()
		if _, err := Run(t.Context(), s.options(4)); err != nil {
			t.Fatal(err)
		}
		for _, p := range s.proposals {
			p.NotAfter = nil
			out = append(out, string(messages.Body(p)))
		}
		return out
	}
	a, b := inputs(), inputs()
	if strings.Join(a, "\n") != strings.Join(b, "\n") {
		t.Errorf("%v\n%v", a, b)
	}
}

// Core NATS may lose anything: with every kind of message lost, what is asked
// for gives the same result.
func TestAsksForWhatIsLost(t *testing.T) {
	for _, lost := range []string{"verdict", "stop", "start event stop", "verdict start descriptor event resource stop"} {
		t.Run(lost, func(t *testing.T) {
			s := newStation(t)
			s.clock.pace(50)
			for _, d := range strings.Fields(lost) {
				s.quiet[d] = true
			}
			s.open()
			exps, err := Run(t.Context(), s.options(1))
			if err != nil {
				t.Fatal(err)
			}
			if !exps[0].Complete() || len(s.proposals) != 1 {
				t.Errorf("%d proposals, %+v", len(s.proposals), exps[0])
			}
			if strings.Contains(lost, "verdict") && s.asked[messages.ControlVerdict] == 0 {
				t.Error("no verdict was asked for")
			}
			if strings.Contains(lost, "stop") && (s.asked[messages.ControlRuns] == 0 || exps[0].Seconds != 9) {
				t.Errorf("the run was asked for %d times: %+v", s.asked[messages.ControlRuns], exps[0])
			}
		})
	}
}

func TestDocumentsBeforeTheVerdict(t *testing.T) {
	s := newStation(t)
	s.first = true
	s.open()
	exps, err := Run(t.Context(), s.options(2))
	if err != nil {
		t.Fatal(err)
	}
	if !exps[0].Complete() || !exps[1].Complete() || s.asked[messages.ControlRuns] > 0 {
		t.Errorf("asked %v: %+v", s.asked, exps)
	}
}

func rejected(issues ...lab.Issue) messages.Verdict {
	return messages.Verdict{Decision: messages.RejectedDecision, Issues: issues, Say: "rejected"}
}

func outOfBounds(input string, nearest lab.Quantity) lab.Issue {
	v := lab.NumberValue(nearest)
	return lab.Issue{Code: "out_of_bounds", Path: "inputs." + input, Repairable: true, Nearest: &v, Say: input + " is out of bounds"}
}

func TestRepairsFromTheNearestLegalValues(t *testing.T) {
	s := newStation(t)
	s.judge = func(p messages.Proposal) messages.Verdict {
		var is lab.Issues
		if p.Inputs[inTemperature].Num > 60 {
			is = append(is, outOfBounds(inTemperature, lab.Q(333.15-273.15, "degC")))
		}
		if p.Inputs[inVolume].Num > 0.1 {
			is = append(is, outOfBounds(inVolume, lab.Q(100, "uL")))
		}
		if p.Protocol.Version != "1.3.0" {
			v := lab.TextValue("1.3.0")
			is = append(is, lab.Issue{Code: "unknown_version", Path: "protocol.version", Repairable: true, Nearest: &v, Say: "no such version"})
		}
		if len(is) > 0 {
			return rejected(is...)
		}
		return messages.Verdict{Decision: messages.AcceptedDecision, Run: "RUN" + p.ID, Say: "accepted"}
	}
	s.open()
	exps, err := Run(t.Context(), s.options(4))
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for i, p := range s.proposals {
		if keys[p.Key] {
			t.Errorf("key %s is used twice", p.Key)
		}
		keys[p.Key] = true
		if i > 0 && p.Inputs[inVolume].Num != 0.1 {
			t.Errorf("proposal %d has %s again", i, p.Inputs[inVolume])
		}
	}
	for i, e := range exps {
		if !e.Complete() || e.Tries != 2 || len(e.Issues) == 0 || e.Inputs[inTemperature].Value > 60 {
			t.Errorf("experiment %d: %+v", i+1, e)
		}
	}
	if len(exps[0].Issues) < 2 || len(exps[3].Issues) != 1 {
		t.Errorf("%d issues at first, %d at last: bounds are not learnt", len(exps[0].Issues), len(exps[3].Issues))
	}
}

func TestGivesUpRepairing(t *testing.T) {
	nudge := 0.0
	for name, c := range map[string]struct {
		judge func(p messages.Proposal) messages.Verdict
		tries int
	}{
		"three tries": {func(p messages.Proposal) messages.Verdict {
			nudge += 0.5
			return rejected(outOfBounds(inTemperature, lab.Q(80-nudge, "degC")))
		}, 3},
		"not repairable": {func(messages.Proposal) messages.Verdict {
			return rejected(outOfBounds(inTemperature, lab.Q(50, "degC")), lab.Issue{Code: "not_vetted", Say: "planner_1 is nobody this lab knows"})
		}, 1},
		"another protocol": {func(messages.Proposal) messages.Verdict {
			v := lab.TextValue("coat-films")
			return rejected(lab.Issue{Code: "unknown_protocol", Path: "protocol.name", Repairable: true, Nearest: &v})
		}, 1},
		"a nearest value of another kind": {func(messages.Proposal) messages.Verdict {
			return rejected(outOfBounds(inTemperature, lab.Q(5, "mL")))
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStation(t)
			s.judge = c.judge
			s.open()
			exps, err := Run(t.Context(), s.options(1))
			if err != nil {
				t.Fatal(err)
			}
			if e := exps[0]; e.Exit != ExitRejected || e.Tries != c.tries || len(e.Issues) == 0 || e.Run != "" || e.Complete() {
				t.Errorf("%+v", e)
			}
			if asLine(t, exps[0])["exit"] != ExitRejected {
				t.Error("the line hides it")
			}
		})
	}
}

func TestAbortedIsOnRecordAndNotLearnt(t *testing.T) {
	s := newStation(t)
	s.stop = func(p messages.Proposal, d *messages.RunStop) {
		if len(s.proposals) == 2 {
			d.ExitStatus, d.Reason = messages.ExitAbort, "runaway tripped"
			d.Outputs = map[string]lab.Value{"peak": lab.NumberValue(lab.Q(527, "nm"))}
		}
	}
	s.open()
	exps, err := Run(t.Context(), s.options(3))
	if err != nil {
		t.Fatal(err)
	}
	if e := exps[1]; e.Exit != messages.ExitAbort || e.Say != "runaway tripped" || e.Complete() {
		t.Errorf("%+v", e)
	}
	if Best(exps, 527) == 1 {
		t.Error("an aborted run is called the best")
	}
	// Two measurements were to explore; the aborted one is none.
	if !strings.HasPrefix(exps[2].Hypothesis, "exploring") {
		t.Errorf("the third is %q", exps[2].Hypothesis)
	}
}

func TestNobodyAnswers(t *testing.T) {
	s := newStation(t) // not open: nothing takes proposals
	s.clock.pace(100)
	o := s.options(3)
	late := 0
	o.Progress = func(ev Event) {
		if ev.Phase == Late {
			late++
		}
	}
	exps, err := Run(t.Context(), o)
	if lab.KindOf(err) != lab.KindUnavailable || len(exps) != 1 || exps[0].Exit != ExitUnanswered || late == 0 {
		t.Errorf("%v, %d late, %+v", err, late, exps)
	}
}

func TestAnEndlessRunEndsTheCampaign(t *testing.T) {
	s := newStation(t)
	s.quiet["stop"] = true
	s.stop = func(_ messages.Proposal, d *messages.RunStop) { d.ExitStatus = "held" } // no state that is an end
	s.open()
	o := s.options(3)
	o.Progress = func(ev Event) {
		if ev.Phase == Verdict {
			s.clock.pace(5000)
		}
	}
	exps, err := Run(t.Context(), o)
	if lab.KindOf(err) != lab.KindOutcomeUnknown || len(exps) != 1 || exps[0].Exit != ExitUnfinished || exps[0].Run == "" {
		t.Errorf("%v, %+v", err, exps)
	}
}

func TestStopsEarlyWithWhatItHas(t *testing.T) {
	s := newStation(t)
	s.open()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := s.options(5)
	o.Progress = func(ev Event) {
		if ev.N == 2 && ev.Phase == Started {
			cancel()
		}
	}
	s.stop = func(_ messages.Proposal, _ *messages.RunStop) {
		if len(s.proposals) == 2 {
			s.quiet["stop"] = true
		}
	}
	exps, err := Run(ctx, o)
	if lab.KindOf(err) != lab.KindCancelled || len(exps) != 2 || !exps[0].Complete() || exps[1].Exit != ExitUnfinished {
		t.Errorf("%v, %+v", err, exps)
	}
}

func TestWaitsForApprovalUntilItExpires(t *testing.T) {
	s := newStation(t)
	s.judge = func(messages.Proposal) messages.Verdict {
		return messages.Verdict{Decision: messages.NeedsApprovalDecision, Say: "a person must look at it"}
	}
	s.open()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			s.mu.Lock()
			for key, v := range s.verdicts {
				if v.Decision == messages.NeedsApprovalDecision {
					v.Decision, v.Run = messages.AcceptedDecision, "RUN1"
					s.verdicts[key] = v
					s.verdict(v)
					s.run(s.proposals[0], v.Run)
					s.mu.Unlock()
					return
				}
			}
			s.mu.Unlock()
		}
	}()
	exps, err := Run(t.Context(), s.options(1))
	<-done
	if err != nil || !exps[0].Complete() {
		t.Fatalf("%v, %+v", err, exps)
	}
}

func TestForeignAndBrokenMessagesChangeNothing(t *testing.T) {
	s := newStation(t)
	s.judge = func(p messages.Proposal) messages.Verdict {
		to := bus.Verdicts("demo", "planner_1")
		s.publish(to, messages.Verdict{Envelope: messages.Envelope{Kind: messages.KindVerdict}, Proposal: "another", Key: p.Key, Decision: messages.RejectedDecision})
		s.publish(to, map[string]any{"kind": 7})
		s.publish(to, messages.Verdict{Envelope: messages.Envelope{Kind: messages.KindVerdict}, Proposal: p.ID, Key: p.Key, Decision: messages.AcceptedDecision}) // names no run
		s.publish(bus.Runs("demo", "planner_1", "RUN999", "stop"), messages.RunStop{Envelope: messages.Envelope{Kind: messages.KindRunStop}, RunStart: "RUN999", ExitStatus: messages.ExitFail})
		s.publish(bus.Runs("demo", "planner_1", "RUN001", "stop"), messages.RunStop{Envelope: messages.Envelope{Kind: messages.KindRunStop}, RunStart: "RUN999", ExitStatus: messages.ExitFail})
		s.publish(bus.Runs("demo", "planner_1", "RUN001", "event"), []int{1})
		return messages.Verdict{Decision: messages.AcceptedDecision, Run: "RUN001", Say: "accepted"}
	}
	s.open()
	exps, err := Run(t.Context(), s.options(1))
	if err != nil || !exps[0].Complete() {
		t.Fatalf("%v, %+v", err, exps)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Lab: "demo", Principal: "planner_1", Conn: &bus.Conn{}, Clock: newQuick(), IDs: &counter{}, Target: 527, Experiments: 1}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Options){
		"lab": func(o *Options) { o.Lab = "a.b" }, "principal": func(o *Options) { o.Principal = "" }, "conn": func(o *Options) { o.Conn = nil },
		"target": func(o *Options) { o.Target = math.NaN() }, "infinite": func(o *Options) { o.Target = math.Inf(1) }, "none": func(o *Options) { o.Experiments = 0 },
		"too many": func(o *Options) { o.Experiments = 1001 }, "campaign": func(o *Options) { o.Campaign = strings.Repeat("x", 65) },
	} {
		o := good
		spoil(&o)
		if _, err := Run(t.Context(), o); lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
