package main

import (
	"fmt"
	"strings"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"labgate/messages"
	"labgate/planner"
)

// demoView shows a campaign while it runs: a JSON line an experiment for
// machines; a bar and a line each for people.
type demoView struct {
	a   *app
	bar *progressbar.ProgressBar
}

func newDemoView(a *app, n int) *demoView {
	v := &demoView{a: a}
	if f, ok := a.err.(interface{ Fd() uintptr }); ok && !a.json && term.IsTerminal(int(f.Fd())) {
		v.bar = progressbar.NewOptions(n, progressbar.OptionSetWriter(a.err), progressbar.OptionSetDescription("experiments"), progressbar.OptionSetWidth(24), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
	}
	return v
}

func (v *demoView) end() {
	if v.bar != nil {
		_ = v.bar.Finish() // a bar that can't be drawn is no loss
	}
}

func (v *demoView) show(e planner.Event) {
	if v.a.json {
		if e.Phase == planner.Measured {
			b, err := planner.ExperimentLine(e.Experiment)
			if err != nil {
				b = messages.Body(map[string]string{"type": "error", "say": err.Error()})
			}
			fmt.Fprintln(v.a.out, string(b))
		}
		return
	}
	switch e.Phase {
	case planner.Proposing:
		v.a.say("\n%d of %d  %s", e.N, e.Of, e.Experiment.Hypothesis)
		var in []string
		for _, n := range sortedNames(e.Experiment.Inputs) {
			in = append(in, n+" "+e.Experiment.Inputs[n].String())
		}
		v.a.say("  proposes  %s", strings.Join(in, ", "))
		for _, n := range sortedNames(e.Experiment.Predicted) {
			p := e.Experiment.Predicted[n]
			v.a.say("  predicts  %s %.1f ± %.1f %s", n, p.Value, p.SD, p.Unit)
		}
	case planner.Verdict:
		v.a.say("  verdict   %s", e.Verdict.Say)
	case planner.Step:
		v.a.say("  measures  %-10s %s", e.Step, eventLine(e.Outcome, e.Data, e.Say))
	case planner.Late:
		v.a.say("  waits     %s", e.Say)
	case planner.Measured:
		v.a.say("  ended     %s after %.1f s %s", e.Experiment.Exit, e.Experiment.Seconds, e.Experiment.Say)
		if v.bar != nil {
			_ = v.bar.Add(1) // as above
		}
	}
}
