package runner

import (
	"math"
	"strings"
	"time"

	"labgate/lab"
	"labgate/messages"
)

// document makes a run's document durable, then publishes it.
func (c *Core) document(now time.Time, r *run, doc any) {
	kind := ""
	switch doc.(type) {
	case messages.RunStart:
		kind = messages.KindRunStart
	case messages.RunDescriptor:
		kind = messages.KindRunDescriptor
	case messages.RunEvent:
		kind = messages.KindRunEvent
	case messages.RunResource:
		kind = messages.KindRunResource
	case messages.RunStop:
		kind = messages.KindRunStop
	}
	en := c.entry(now, kind, r.principal, r, doc)
	if ev, ok := doc.(messages.RunEvent); ok && len(ev.Samples) > 0 {
		en.Samples = ev.Samples
	}
	c.append(func(_ time.Time, _ []lab.Ref, err error) {
		if err == nil {
			c.do(Publish{r.principal, r.id, doc})
		}
	}, en)
}

// measured makes one step's values an event of the run.
func (c *Core) measured(now time.Time, r *run, a Measured) {
	if r.events[a.Step] == 0 {
		d := messages.RunDescriptor{UID: r.id + "/" + a.Step, RunStart: r.id, Name: a.Step, DataKeys: map[string]messages.DataKey{}}
		for n, v := range a.Data {
			d.DataKeys[n] = dataKey(v, a.Source)
		}
		c.document(now, r, d)
	}
	r.events[a.Step]++
	for _, n := range sortedKeys(a.Data) {
		if b := a.Data[n].Blob; b != nil {
			c.document(now, r, messages.RunResource{UID: c.o.IDs.New(now), RunStart: r.id, Step: a.Step, Name: n, Blob: *b})
		}
	}
	ev := messages.RunEvent{UID: c.o.IDs.New(now), Descriptor: r.id + "/" + a.Step, RunStart: r.id, SeqNum: r.events[a.Step],
		Step: a.Step, Command: a.Command, Data: a.Data, Outcome: a.State, Ref: a.Ref, Say: a.Say, Samples: sampleIDs(a.Sample), Lots: c.lotsOf(r)}
	var overdue []string
	if ev.Calibrations, overdue = c.calibrations(now, a.Source); len(overdue) > 0 {
		ev.Quality = lab.Uncertain.String()
		ev.Say = strings.TrimPrefix(ev.Say+"; "+strings.Join(overdue, "; "), "; ")
	}
	c.document(now, r, ev)
}

func dataKey(v lab.Value, source string) messages.DataKey {
	k := messages.DataKey{Source: source, DType: map[lab.TypeKind]string{lab.Number: "number", lab.Integer: "integer", lab.Bool: "boolean", lab.Table: "table", lab.Blob: "image"}[v.Kind]}
	if k.DType == "" {
		k.DType = "string"
	}
	if v.Kind == lab.Number {
		k.Unit = v.Unit.String()
	}
	return k
}

// endRun writes the stop document, scores the predictions, and gives the
// instruments back.
func (c *Core) endRun(now time.Time, r *run, a Ended) {
	r.state = map[string]RunState{messages.ExitSuccess: Done, messages.ExitAbort: Aborted}[a.Exit]
	if r.state == "" {
		r.state = Failed
	}
	r.ended, r.say, r.outputs = now, a.Reason, a.Outputs
	at := now
	if n := len(r.log); n > 0 {
		at = r.log[n-1].At // of its last step, where a restart has come in between
	}
	stop := messages.RunStop{UID: c.o.IDs.New(now), RunStart: r.id, ExitStatus: a.Exit, Reason: a.Reason, Rule: a.Rule, NumEvents: r.events, Outputs: a.Outputs, Consequence: string(a.Consequence),
		Scores: scores(r.proposal.Predicts, a.Outputs), Seconds: at.Sub(r.started).Seconds(), Started: r.started}
	if r.started.IsZero() {
		stop.Seconds, stop.Started = 0, r.queued
	}
	for name, kind := range a.Judged {
		if stop.Samples == nil {
			stop.Samples = map[string]string{}
		}
		stop.Samples[name] = kind.String()
	}
	c.document(now, r, stop)
	c.releaseAll(r)
	for id := range r.commands {
		delete(c.byCmd, id)
	}
	r.commands, r.machine, r.asleep, r.log, r.renewAt, r.heldUntil = map[string]*runCommand{}, nil, nil, nil, time.Time{}, time.Time{}
}

// scores compares what was predicted before the run with what was measured.
func scores(predicts map[string]messages.Prediction, outputs map[string]lab.Value) map[string]messages.Score {
	out := map[string]messages.Score{}
	for n, p := range predicts {
		v, ok := outputs[n]
		u, err := lab.ParseUnit(p.Unit)
		if !ok || err != nil || v.Kind != lab.Number && v.Kind != lab.Integer {
			continue
		}
		q, err := v.Quantity().In(u)
		if err != nil {
			continue
		}
		s := messages.Score{Predicted: p, Measured: q, Error: q.Value - p.Value}
		if z := s.Error / p.SD; p.SD > 0 && !math.IsInf(z, 0) {
			s.Z = &z
		}
		out[n] = s
	}
	return out
}
