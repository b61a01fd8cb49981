package safety

import (
	"slices"
	"strings"
	"time"

	"labgate/internal/strict"
	"labgate/lab"
)

// DefaultHold is how long a run is held that a trip with run: hold stops, where
// the rule does not say; then it is aborted.
const DefaultHold = 30 * time.Minute

// maxSteps bounds what one trip does.
const maxSteps = 64

func (p *parser) trip(f *strict.Fields, r *Rule) {
	r.Group = p.d.Name(f.Get("trip"), "trip group")
	if r.Group == stopGroup {
		p.add(f.Get("trip").Pos(), "reserved", "", "%q is the group of emergency stops", r.Group)
	}
	r.expr = p.condition(f.Require("when"), nil)
	r.healthy = p.condition(f.Get("healthy"), nil)
	r.OnDelay, r.UnknownFor = p.span(f.Get("on_delay"), 0, maxDelay), p.span(f.Get("unknown_for"), 0, maxDelay)
	r.Do = p.safeSteps(f.Require("do"))
	if n := f.Get("mitigates"); n != nil {
		r.Mitigates = p.commands(p.each(p.texts(n)))
	}
	r.Run = RunAbort
	if n := f.Get("run"); n != nil {
		r.Run = p.d.Text(n)
		if r.Run != RunAbort && r.Run != RunHold {
			p.add(n.Pos(), "bad_value", "abort or hold", "run: %s", r.Run)
		}
	}
	switch n := f.Get("hold_for"); {
	case n != nil && r.Run != RunHold:
		p.add(f.KeyPos("hold_for"), "unknown_key", "leave it out", "hold_for is for a trip with run: hold")
	case n != nil:
		r.HoldFor = p.span(n, 1, maxDelay)
	case r.Run == RunHold:
		r.HoldFor = DefaultHold
	}
	p.respondWithin(f.Get("respond_within"), r)
}

// safeSteps reads what a trip does: safe commands, with arguments and waits.
func (p *parser) safeSteps(n *strict.Node) []lab.SafeStep {
	var steps []lab.SafeStep
	list := p.d.List(n)
	commands := 0
	for i, e := range list {
		x, ok := p.whole(e)
		if !ok {
			continue
		}
		if d, ok := strings.CutPrefix(x.text, "wait "); ok {
			if s, ok := p.waitStep(piece{d, x.at}, i == 0 || i == len(list)-1); ok {
				steps = append(steps, s)
			}
			continue
		}
		for _, call := range p.each([]piece{x}) {
			if s, ok := p.safeStep(call); ok {
				steps = append(steps, s)
			}
			commands++
		}
	}
	switch {
	case n.Kind() == strict.List && commands == 0:
		p.add(n.Pos(), "no_action", "an alarm is for what only a person can answer", "a trip without an action protects nothing")
	case len(steps) > maxSteps:
		p.add(n.Pos(), "too_many", "", "%d steps; at most %d", len(steps), maxSteps)
	}
	return steps
}

func (p *parser) waitStep(x piece, atEnd bool) (lab.SafeStep, bool) {
	q, err := lab.ParseQuantity(x.text)
	wait, err2 := q.Duration()
	switch {
	case err != nil || err2 != nil || wait <= 0 || wait > maxWait:
		p.add(x.at, "bad_value", "as in wait 2 s; at most "+long(maxWait), "%q is no wait", "wait "+x.text)
	case atEnd:
		p.add(x.at, "bad_value", "leave it out", "wait %s: there is nothing to wait between", q)
	default:
		return lab.SafeStep{Wait: wait}, true
	}
	return lab.SafeStep{}, false
}

func (p *parser) safeStep(x piece) (lab.SafeStep, bool) {
	call, err := lab.ParseCall(x.text)
	if err != nil {
		p.add(x.at, "bad_value", "", "%v", err)
		return lab.SafeStep{}, false
	}
	id, spec, err := p.rules.lab.ResolveCommand(call.Path)
	if err != nil {
		p.add(x.at, "unknown_name", "", "%v", err)
		return lab.SafeStep{}, false
	}
	if spec.Effect != lab.Safe {
		p.add(x.at, "not_safe", "a trip acts through the safe lane", "%s is %s by its class, not safe", id, spec.Effect)
		return lab.SafeStep{}, false
	}
	_, args, err := p.rules.lab.ResolveCall(x.text)
	if err != nil {
		p.add(x.at, "bad_argument", "", "%v", err)
		return lab.SafeStep{}, false
	}
	for i := range spec.Args {
		a := &spec.Args[i]
		v, ok := args[a.Name]
		if !ok {
			p.add(x.at, "missing_argument", "as in "+id.String()+"("+a.Name+" = …)", "%s needs %s", id, a.Name)
			return lab.SafeStep{}, false
		}
		if i, bad := a.CheckBounds(v); bad {
			p.add(x.at, "out_of_bounds", "", "%s of %s is %s; %s is allowed", a.Name, id, v, i.Allowed)
			return lab.SafeStep{}, false
		}
	}
	if len(args) == 0 {
		args = nil
	}
	return lab.SafeStep{Command: id, Args: args}, true
}

// respondWithin checks that what a trip promises can be kept at all: the oldest reading
// that still counts, plus the longer of the times until the trip fires, plus
// the slowest instrument's stop, with the waits before it.
func (p *parser) respondWithin(n *strict.Node, r *Rule) {
	r.RespondWithin = p.span(n, 1, maxDelay)
	if r.RespondWithin == 0 || r.expr == nil {
		return // it promises nothing, or it was reported
	}
	var age, stop, wait time.Duration
	for _, s := range r.expr.Slots() {
		age = max(age, p.rules.maxAge(s))
	}
	for _, s := range r.Do {
		if wait += s.Wait; s.Wait == 0 {
			stop = max(stop, wait+p.rules.lab.CommandSpec(s.Command).Within)
		}
	}
	delay := max(r.UnknownFor, r.OnDelay)
	if worst := age + delay + stop; worst > r.RespondWithin {
		p.add(n.Pos(), "too_slow", "shorten unknown_for or on_delay, or promise less",
			"it can take %s (readings up to %s old, %s until it fires, a stop within %s), longer than %s", lab.Seconds(worst), lab.Seconds(age), lab.Seconds(delay), lab.Seconds(stop), lab.Seconds(r.RespondWithin))
	}
}

// priorities of alarms, least first.
var priorities = []string{"low", "medium", "high", "critical"}

func (p *parser) alarm(f *strict.Fields, r *Rule) {
	m := p.d.Map(f.Get("alarm"), "rule's alarm", "when", "priority", "response")
	r.expr = p.condition(m.Require("when"), nil)
	r.OnDelay, r.UnknownFor = p.span(f.Get("on_delay"), 0, maxDelay), p.span(f.Get("unknown_for"), 0, maxDelay)
	if n := m.Require("priority"); n != nil {
		r.Priority = p.d.Text(n)
		if !slices.Contains(priorities, r.Priority) {
			p.add(n.Pos(), "bad_value", "one of "+strings.Join(priorities, ", "), "priority: %s", r.Priority)
		}
	}
	if n := m.Require("response"); n != nil {
		if r.Response = p.d.Text(n); strings.TrimSpace(r.Response) == "" {
			p.add(n.Pos(), "empty", "say what to do", "an alarm that nobody knows how to answer is noise")
		}
	}
}

func (p *parser) proofTest(n *strict.Node, r *Rule) {
	if n == nil {
		return
	}
	f := p.d.Map(n, "proof test", "every", "last")
	t := &ProofTest{Every: p.span(f.Require("every"), 1, maxEvery)}
	if l := f.Get("last"); l != nil {
		day, err := time.Parse("2006-01-02", strings.TrimSpace(l.Text())) // a date here, quoted or not
		if err != nil {
			p.add(l.Pos(), "bad_value", "as in 2026-05-01", "%q is no date", l.Text())
		}
		t.Last = day
	}
	r.ProofTest = t
}
