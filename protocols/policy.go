package protocols

import (
	"labgate/internal/strict"
	"labgate/lab"
)

// onError reads abort, skip, continue, or a map of retry, steps, hold and then.
func (r *parser) onError(s *Step, n *strict.Node, depth int) {
	s.OnError.Then = r.p.OnError
	if n == nil {
		return
	}
	r.checkFails(s, n.Pos())
	if n.Kind() != strict.Map {
		s.OnError.Then = r.then(n)
		return
	}
	f := r.Map(n, "policy", "retry", "steps", "hold", "then")
	retry, steps, then := f.Get("retry"), f.Get("steps"), f.Get("then")
	if retry == nil && steps == nil && f.Get("hold") == nil {
		r.add(n.Pos(), "missing_key", "retry: how often, steps: what to do in its place, or hold: for how long", "this policy says nothing but then")
	}
	s.OnError.Retry = int(r.count(retry, "retry", MaxRetries))
	if retry != nil {
		r.checkRetry(s, retry.Pos())
	}
	if steps != nil {
		first := len(r.p.steps)
		s.OnError.Steps = r.body(steps, s.Path, "instead", "there is nothing to do in its place", "leave it out", depth)
		s.end = len(r.p.steps)
		r.checkInstead(s, first)
	}
	s.OnError.Hold = r.duration(f.Get("hold"), "hold")
	if then != nil {
		s.OnError.Then = r.then(then)
	}
}

// then reads what becomes of a run after a failure.
func (r *parser) then(n *strict.Node) Then {
	before := len(r.Issues)
	word := r.Text(n)
	for i, name := range thenNames {
		if word == name {
			return Then(i)
		}
	}
	if len(r.Issues) == before {
		r.add(n.Pos(), "bad_value", "abort, skip, continue, {retry: 2, then: skip}, {steps: […]} or {hold: 30 min, then: abort}", "on_error: %q is not understood", clip(word))
	}
	return Abort
}

func (r *parser) consequence(n *strict.Node) Consequence {
	if n == nil {
		return ""
	}
	switch c := Consequence(r.Text(n)); c {
	case Scrap, Salvage, Unclear, "":
		return c
	}
	r.add(n.Pos(), "bad_value", "scrap, salvage or unknown", "consequence: %q is not understood", clip(n.Text()))
	return ""
}

func (r *parser) branches(n *strict.Node) Branches {
	if n == nil {
		return AllBranches
	}
	before := len(r.Issues)
	word := r.Text(n)
	for i, name := range branchNames {
		if word == name {
			return Branches(i)
		}
	}
	if len(r.Issues) == before {
		r.add(n.Pos(), "bad_value", "all, any or each", "policy: %q is not understood", clip(word))
	}
	return AllBranches
}

// checkRetry: only commands that may be repeated are tried again. A list of
// steps is not: what of it has happened already would happen twice.
func (r *parser) checkRetry(s *Step, at lab.Pos) {
	const hint = "on_error: abort, skip or continue"
	switch {
	case s.Kind == Wait:
		r.add(at, "bad_value", "make the timeout longer", "a wait is not tried again")
		return
	case s.Kind == Ask:
		r.add(at, "bad_value", "make the timeout longer", "a person is not asked again")
		return
	case s.Kind == Do:
		if s.Spec != nil && s.Spec.Effect == lab.Effectful {
			r.add(at, "effectful_retry", hint, "%s.%s is effectful: it must never happen twice", s.Role, s.Command)
		}
		return
	}
	for _, x := range r.p.steps[s.index+1 : s.end] {
		if x.Spec != nil && x.Spec.Effect == lab.Effectful {
			r.add(at, "effectful_retry", hint, "%s.%s, in it at %s, is effectful: it must never happen twice", x.Role, x.Command, x.Pos)
			return
		}
	}
	r.add(at, "bad_value", "put the retry at the commands in it", "%s is not tried again as a whole", s.Kind.one())
}

// checkInstead refuses other steps that give the very command again: that is a
// retry by another name.
func (r *parser) checkInstead(s *Step, first int) {
	for _, x := range r.p.steps[first:s.end] {
		if x.Spec == nil || x.Spec.Effect != lab.Effectful {
			continue
		}
		for _, tried := range r.p.steps[s.index:first] {
			if tried.Spec == x.Spec && tried.Role == x.Role {
				r.add(x.Pos, "effectful_retry", "let a person decide, or measure first what was done", "%s.%s may have happened already, at %s: it must never happen twice", x.Role, x.Command, tried.Pos)
				break
			}
		}
	}
}
