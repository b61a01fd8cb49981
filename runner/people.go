package runner

import (
	"fmt"
	"sort"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
)

// answer takes a person's answer to a step that asks: durably first. Agents
// can't answer; a step says which people may.
func (c *Core) answer(now time.Time, r *run, pr *Principal, e ControlAsked) (ok bool, say string, issues lab.Issues) {
	a := e.Control
	var step *protocols.Step
	if r.machine != nil {
		step = r.machine.Asking(a.Step)
	}
	switch {
	case pr.Role == "agent":
		return false, fmt.Sprintf("%s is an agent; only a person may answer", pr.Name), nil
	case step == nil:
		return false, fmt.Sprintf("step %q of the run asks nothing now%s", a.Step, r.askedNow()), nil
	case !step.MayAnswer(pr.Role):
		return false, fmt.Sprintf("%s is %s; step %s asks %s", pr.Name, pr.Role, a.Step, step.By), nil
	case r.answered[a.Step]:
		return false, fmt.Sprintf("step %s is answered already", a.Step), nil
	case a.As != "yes" && a.As != "no":
		return false, fmt.Sprintf("%q is no answer: yes or no", a.As), nil
	}
	values := map[string]lab.Value{}
	if a.As == "yes" {
		if values, issues = step.CheckAnswers(a.Values); len(issues) > 0 {
			return false, issues[0].Say, issues
		}
	}
	r.answered[a.Step] = true
	en := c.entry(now, "answered/v1", e.Principal, r, map[string]any{"step": a.Step, "as": a.As, "values": values, "reason": a.Reason})
	en.Principal, en.Step = e.Principal, a.Step
	c.append(func(now time.Time, _ []lab.Ref, err error) {
		delete(r.answered, a.Step)
		if err == nil && r.machine != nil {
			c.stepMachine(now, r, Answered{Step: a.Step, Who: e.Principal, Yes: a.As == "yes", Reason: a.Reason, Answers: values})
		}
	}, en)
	if a.As == "no" {
		return true, "the step has failed by that; its policy says what follows", nil
	}
	return true, "the step is done", nil
}

// askedNow names the steps that ask, for one who has mistaken it.
func (r *run) askedNow() string {
	list := r.asks()
	if len(list) == 0 {
		return ""
	}
	say := "; asked is:"
	for _, a := range list {
		say += fmt.Sprintf(" %s (%s)", a.Step, a.Text)
	}
	return say
}

// asks lists what people are asked now, in the order of their deadlines.
func (r *run) asks() []messages.Ask {
	if r.machine == nil {
		return nil
	}
	var list []messages.Ask
	for _, a := range r.machine.Open() {
		list = append(list, askOf(a))
	}
	sort.Slice(list, func(i, j int) bool {
		if !list[i].Until.Equal(list[j].Until) {
			return list[i].Until.Before(list[j].Until)
		}
		return list[i].Step < list[j].Step
	})
	return list
}

func askOf(a Asked) messages.Ask {
	m := messages.Ask{Step: a.Step.Path, Text: a.Step.Text, By: a.Step.By, Until: a.Until}
	if a.Sample != nil {
		m.Sample = a.Sample.Name
	}
	for _, in := range a.Step.Answers {
		x := messages.AskedFor{Name: in.Name, About: in.About, Type: in.Type.Kind.String(), Choices: in.Type.Enum, Min: in.Min, Max: in.Max, Default: in.Default}
		if in.Type.Kind == lab.Number {
			x.Unit = in.Type.Unit.String()
		}
		m.Gives = append(m.Gives, x)
	}
	return m
}

// askedPerson tells that a person is asked: an event without data, whose
// descriptor says what the answer will hold.
func (c *Core) askedPerson(now time.Time, r *run, a Asked) {
	if r.events[a.Step.Path] == 0 {
		d := messages.RunDescriptor{UID: r.id + "/" + a.Step.Path, RunStart: r.id, Name: a.Step.Path, DataKeys: map[string]messages.DataKey{}}
		for i := range a.Step.Answers {
			in := &a.Step.Answers[i]
			d.DataKeys[in.Name] = dataKey(lab.Value{Kind: in.Type.Kind, Unit: in.Type.Unit}, "a person")
		}
		c.document(now, r, d)
	}
	ask := askOf(a)
	c.event(now, r, messages.RunEvent{Step: a.Step.Path, Outcome: lab.Accepted, Samples: sampleIDs(a.Sample), Ask: &ask,
		Say: fmt.Sprintf("asks %s, until %s: %s", ask.By, ask.Until.UTC().Format(time.RFC3339), ask.Text)})
}

// told makes an answer an event: a no is a failure of the step.
func (c *Core) told(now time.Time, r *run, a Told) {
	e := messages.RunEvent{Step: a.Step, Data: a.Data, Outcome: lab.Confirmed, Samples: sampleIDs(a.Sample), Say: "yes by " + a.Who}
	if !a.Yes {
		e.Outcome, e.Say = lab.Failed, "no by "+a.Who
	}
	if a.Reason != "" {
		e.Say += ": " + a.Reason
	}
	c.event(now, r, e)
}

// judged makes what becomes of a sample an event.
func (c *Core) judged(now time.Time, r *run, a Judged) {
	if r.events[a.Step] == 0 {
		c.document(now, r, messages.RunDescriptor{UID: r.id + "/" + a.Step, RunStart: r.id, Name: a.Step,
			DataKeys: map[string]messages.DataKey{"disposition": {DType: "string", Source: "protocol"}}})
	}
	c.event(now, r, messages.RunEvent{Step: a.Step, Outcome: lab.Confirmed, Samples: sampleIDs(a.Sample), Say: a.Because,
		Data: map[string]lab.Value{"disposition": lab.TextValue(a.Verdict.String())}})
}

// event counts an event of a step, and makes it a document.
func (c *Core) event(now time.Time, r *run, e messages.RunEvent) {
	r.events[e.Step]++
	if e.Data == nil {
		e.Data = map[string]lab.Value{}
	}
	e.UID, e.Descriptor, e.RunStart, e.SeqNum = c.o.IDs.New(now), r.id+"/"+e.Step, r.id, r.events[e.Step]
	c.document(now, r, e)
}

// stuck holds a run whose protocol wants a person to look at a failed step.
func (c *Core) stuck(now time.Time, r *run, a Stuck) {
	say := fmt.Sprintf("held until %s for a person: %s", a.Until.UTC().Format(time.RFC3339), a.Why)
	c.note(c.entry(now, "run_held/v1", r.principal, r, map[string]any{"why": say, "step": a.Step, "until": a.Until}))
	if r.state == Running {
		r.state, r.say = Held, say
	}
}

func sampleIDs(s *protocols.Sample) []string {
	if s == nil {
		return nil
	}
	return []string{s.Name}
}

// samples are what a command is about: what its step names, or else what the
// proposal does.
func (r *run) samples(s *protocols.Sample) []string {
	if s == nil {
		return r.proposal.Samples
	}
	return []string{s.Name}
}

// allSamples are those of the proposal and those of the protocol.
func (r *run) allSamples() []string {
	list := append([]string(nil), r.proposal.Samples...)
	for _, s := range r.plan.Protocol.Samples {
		if !containsText(list, s.Name) {
			list = append(list, s.Name)
		}
	}
	return list
}

// lots are the lots of the protocol's samples.
func (r *run) lots() map[string]string {
	var lots map[string]string
	for _, s := range r.plan.Protocol.Samples {
		if s.Lot != "" {
			if lots == nil {
				lots = map[string]string{}
			}
			lots[s.Name] = s.Lot
		}
	}
	return lots
}

// labels are those of the proposal, with the lot of the sample that a command is
// about.
func (r *run) labels(s *protocols.Sample) map[string]string {
	if s == nil || s.Lot == "" {
		return r.proposal.Labels
	}
	labels := map[string]string{"lot": s.Lot}
	for k, v := range r.proposal.Labels {
		if k != "lot" {
			labels[k] = v
		}
	}
	return labels
}
