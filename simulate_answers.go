package main

import (
	"fmt"
	"time"

	"labgate/internal/twin"
	"labgate/lab"
	"labgate/messages"
	"labgate/runner"
)

// simulatedPeople are who answers in a simulation: one of each kind.
var simulatedPeople = []runner.Principal{{Name: "operator", Role: "operator"}, {Name: "safety", Role: "safety"}}

// answers lets people of the simulation answer the steps that ask, after a
// time: yes with what the step names as default, or else with the middle of
// what it allows; or no. It is to be called with each document of a run.
func (c *simulateCmd) answers(w func() *twin.Twin) (func(run string, doc any), error) {
	q, err := lab.ParseQuantity(c.AnswerAfter)
	after := time.Duration(0)
	if err == nil {
		after, err = q.Duration()
	}
	if err != nil || after < 0 {
		return nil, fmt.Errorf("%w: --answer-after %s: write a time, as in 30 s", errUsage, c.AnswerAfter)
	}
	asked := 0
	return func(run string, doc any) {
		e, ok := doc.(messages.RunEvent)
		if !ok || e.Ask == nil {
			return
		}
		asked++
		m := messages.Control{ID: fmt.Sprintf("answer-%d", asked), Action: messages.ControlAnswer, Run: run, Step: e.Ask.Step, As: c.Answers, Reason: "simulated"}
		if m.As == "yes" {
			m.Values = answerOf(e.Ask.Gives)
		}
		who := e.Ask.By
		if who == "anyone" {
			who = "scientist"
		}
		t := w()
		t.At(after, "a person answers "+m.As, func() { t.Control(who, m) })
	}, nil
}

// answerOf is a legal value for each thing that is asked for and has no default.
func answerOf(list []messages.AskedFor) map[string]lab.Value {
	values := map[string]lab.Value{}
	for _, a := range list {
		switch {
		case a.Default != nil:
		case a.Type == "bool":
			values[a.Name] = lab.BoolValue(true)
		case a.Type == "enum" && len(a.Choices) > 0:
			values[a.Name] = lab.TextValue(a.Choices[0])
		case a.Type == "integer":
			values[a.Name] = lab.IntegerValue(int64(middle(a)))
		default:
			values[a.Name] = lab.NumberValue(lab.Q(middle(a), a.Unit))
		}
	}
	return values
}

// middle is between the bounds, or at the one that there is.
func middle(a messages.AskedFor) float64 {
	switch {
	case a.Min != nil && a.Max != nil:
		return a.Min.Num/2 + a.Max.Num/2
	case a.Min != nil:
		return a.Min.Num
	case a.Max != nil:
		return a.Max.Num
	}
	return 1
}
