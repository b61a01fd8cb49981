package protocols

import (
	"fmt"
	"slices"
	"strings"

	"labgate/internal/strict"
	"labgate/lab"
)

// stepKeys are the keys of each kind of step; the first after id is the one
// that makes the kind.
var stepKeys = map[StepKind][]string{
	Do:       {"id", "do", "with", "gives", "sample", "on_error", "expect", "consequence", "safe_point"},
	If:       {"id", "if", "then", "else", "on_error", "expect", "consequence", "safe_point"},
	Use:      {"id", "use", "hash", "with", "roles", "on_error", "expect", "consequence", "safe_point"},
	Ask:      {"id", "ask", "by", "timeout", "gives", "sample", "on_error", "expect", "consequence", "safe_point"},
	Pass:     {"id", "pass", "because", "on_error", "expect", "consequence"},
	Reject:   {"id", "reject", "because", "on_error", "expect", "consequence"},
	Rework:   {"id", "rework", "because", "on_error", "expect", "consequence"},
	Ramp:     {"id", "ramp", "with", "on_error", "expect", "consequence", "safe_point"},
	Wait:     {"id", "wait", "else", "on_error", "expect", "consequence", "safe_point"},
	Parallel: {"id", "parallel", "policy", "on_error", "expect", "consequence", "safe_point"},
	Repeat:   {"id", "repeat", "steps", "else", "on_error", "expect", "consequence", "safe_point"},
}

var allKinds = []StepKind{Do, Wait, Parallel, Repeat, If, Use, Ask, Pass, Reject, Rework, Ramp}

// steps reads a list of steps. made is how steps without an id are called.
func (r *parser) steps(n *strict.Node, path, made string, depth int) []*Step {
	if n == nil {
		return nil
	}
	if depth > MaxNesting {
		r.limit(n.Pos(), "too_deep", fmt.Sprintf("steps are nested deeper than %d", MaxNesting))
		return nil
	}
	var out []*Step
	for i, e := range r.List(n) {
		if len(r.p.steps) >= MaxSteps {
			r.limit(e.Pos(), "too_many", fmt.Sprintf("there are more than %d steps", MaxSteps))
			break
		}
		if s := r.step(e, path, fmt.Sprintf("%s_%d", made, i+1), depth); s != nil {
			out = append(out, s)
		}
	}
	return out
}

// limit reports that the file is too large, once.
func (r *parser) limit(at lab.Pos, code, say string) {
	if !r.full {
		r.full = true
		r.add(at, code, "", "%s", say)
	}
}

// step reads one step; nil where it is none, which was reported.
func (r *parser) step(n *strict.Node, path, id string, depth int) *Step {
	kind := r.kindOf(n)
	if kind == 0 {
		return nil
	}
	what := kind.String() + " step"
	switch kind {
	case If:
		what = "step with if"
	case Ask:
		what = "step that asks"
	}
	f := r.Map(n, what, stepKeys[kind]...)
	s := &Step{ID: id, Kind: kind, Pos: n.Pos(), index: len(r.p.steps), inUsed: r.frame != nil}
	if idNode := f.Get("id"); idNode != nil {
		before := len(r.Issues)
		s.ID, s.named, s.Pos = r.Text(idNode), true, idNode.Pos()
		if len(r.Issues) == before {
			r.name("step", s.ID, idNode.Pos())
		}
	}
	if s.Path = s.ID; path != "" {
		s.Path = path + "." + s.ID
	}
	r.p.steps = append(r.p.steps, s)
	switch main := f.Get(kind.String()); kind {
	case Do:
		r.do(s, f, main)
	case Wait:
		r.wait(s, main)
	case Parallel:
		s.Policy = r.branches(f.Get("policy"))
		s.Steps = r.steps(main, s.Path, "step", depth+1)
		if main.IsList() && (len(s.Steps) == 0 || len(r.List(main)) > MaxBranches) {
			r.add(main.Pos(), "bad_value", "", "%d steps side by side; it takes 1 to %d", len(r.List(main)), MaxBranches)
		}
	case Repeat:
		r.repeat(s, f, main)
		s.Steps = r.body(f.Require("steps"), s.Path, "step", "there is nothing to repeat", "", depth)
	case If:
		s.until = r.source(main)
		s.Steps = r.body(f.Require("then"), s.Path, "then", "there is nothing to do where it is true", "turn the condition", depth)
		if n := f.Get("else"); n != nil {
			s.Otherwise = r.body(n, s.Path, "else", "there is nothing in else", "leave it out", depth)
		}
	case Use:
		r.use(s, f, main, depth)
	case Ramp:
		r.ramp(s, f, main)
	case Ask:
		r.ask(s, f, main)
	case Pass, Reject, Rework:
		r.judged(s, f, main)
	}
	if s.Sample == nil {
		s.Sample = r.sampled(f.Get("sample"))
	}
	s.end = len(r.p.steps)
	r.elseOf(s, f.Get("else"))
	s.Expect, s.Outcome = r.duration(f.Get("expect"), "expect"), r.consequence(f.Get("consequence"))
	r.onError(s, f.Get("on_error"), depth)
	r.safePoint(s, f.Get("safe_point"))
	return s
}

// body reads the steps within a step, of which there is at least one.
func (r *parser) body(n *strict.Node, path, made, say, hint string, depth int) []*Step {
	list := r.steps(n, path, made, depth+1)
	if n.IsList() && len(r.List(n)) == 0 {
		r.add(n.Pos(), "empty", hint, "%s", say)
	}
	return list
}

// kindOf finds the key that makes the kind; 0 where that was reported.
func (r *parser) kindOf(n *strict.Node) StepKind {
	before := len(r.Issues)
	f := r.Map(n, "step", "id", "do", "wait", "parallel", "repeat", "if", "then", "use", "hash", "roles", "ramp", "with", "gives", "steps", "else", "policy", "ask", "by", "timeout", "sample", "pass", "reject", "rework", "because", "on_error", "expect", "consequence", "safe_point")
	keysOK := len(r.Issues) == before
	var found []string
	kind := StepKind(0)
	for _, k := range allKinds {
		if f.Get(k.String()) != nil {
			kind, found = k, append(found, k.String())
		}
	}
	switch {
	case len(found) == 1:
		r.Issues = r.Issues[:before] // said better with the kind's own keys
		return kind
	case len(found) > 1:
		r.add(n.Pos(), "bad_step", "make a step of each", "one step can't be %s at once", strings.Join(found, " and "))
	case keysOK:
		r.add(n.Pos(), "bad_step", "give it one of do, wait, parallel, repeat, if, ramp, use, ask, pass, reject, rework", "this step does nothing")
	}
	return 0
}

// do reads a command. What the names in it mean is checked later, when all
// roles are known.
func (r *parser) do(s *Step, f *strict.Fields, n *strict.Node) {
	before := len(r.Issues)
	text := r.Text(n)
	if len(r.Issues) > before {
		return
	}
	if !r.command(s, text, n.Pos()) {
		return
	}
	r.with(s, f.Get("with"))
	if g := f.Get("gives"); g != nil {
		s.Gives, s.gives, s.givesPos = map[string]string{}, map[string]int{}, map[string]lab.Pos{}
		for _, e := range r.entries(g, "gives", maxText) {
			r.give(s, e)
		}
	}
}

// command reads role.command; false where it is none, which was reported.
func (r *parser) command(s *Step, text string, at lab.Pos) bool {
	parts := strings.Split(text, ".")
	if len(parts) != 2 || parts[0] == "" || parts[1] == "" {
		r.add(at, "bad_value", "write role.command, as in gold.dose", "%q is not a command of a role", text)
		return false
	}
	s.Role, s.Command = parts[0], parts[1]
	return r.resolve(s, at)
}

// resolve finds the role's class that has the command; false where that was
// reported.
func (r *parser) resolve(s *Step, at lab.Pos) bool {
	role := r.frame.role(r.p, s.Role)
	if role != nil {
		s.Role = role.Name
	}
	if role == nil {
		if r.hasRole {
			var names []string
			for i := range r.p.Roles {
				names = append(names, r.p.Roles[i].Name)
			}
			r.add(at, "unknown_name", r.near(s.Role, names), "there is no role %q", s.Role)
		}
		return false
	}
	found := role.members(func(c *lab.Class) bool { return c.Command(s.Command) != nil })
	switch {
	case len(found) == 1:
		s.Class, s.Spec = found[0], found[0].Command(s.Command)
		return true
	case len(found) > 1:
		r.add(at, "ambiguous", "", "%s.%s is ambiguous: %s and %s have it", s.Role, s.Command, found[0].Name, found[1].Name)
	case !role.broken:
		var names []string
		for _, c := range role.Classes {
			for _, x := range c.Commands {
				names = append(names, x.Name)
			}
		}
		r.add(at, "unknown_name", r.near(s.Command, names), "%s has no command %q: it is %s", s.Role, s.Command, role.classNames())
	}
	return false
}

// with reads the arguments: all of the command's, and no others. Those in set
// have their formula already.
func (r *parser) with(s *Step, n *strict.Node, set ...ramped) {
	given := map[string]entry{}
	for _, x := range set {
		if s.Spec.Arg(x.name) == nil {
			r.add(s.Pos, "unknown_argument", r.near(x.name, argNames(s.Spec)), "%s.%s takes no %q", s.Role, s.Command, clip(x.name))
			return
		}
	}
	for _, e := range r.entries(n, "with", maxText) {
		if s.Spec.Arg(e.key) == nil {
			hint := r.near(e.key, argNames(s.Spec))
			if strings.ContainsAny(e.key, "()<>=*+") {
				hint = quoteIt
			}
			r.add(e.pos, "unknown_argument", hint, "%s.%s takes no %q", s.Role, s.Command, e.key)
			continue
		}
		given[e.key] = e
	}
	for i := range s.Spec.Args {
		p := &s.Spec.Args[i]
		e, ok := given[p.Name]
		if at := slices.IndexFunc(set, func(x ramped) bool { return x.name == p.Name }); at >= 0 {
			if ok {
				r.add(e.pos, "duplicate", "leave it out", "%s is what the ramp sets", p.Name)
			}
			s.With = append(s.With, Arg{Name: p.Name, Param: p, Pos: set[at].src.Pos, src: set[at].src, within: set[at].within})
			continue
		}
		if !ok {
			r.add(s.Pos, "missing_argument", "", "%s.%s needs %s, a %s", s.Role, s.Command, p.Name, p.Type)
			continue
		}
		a := Arg{Name: p.Name, Param: p, Pos: e.node.Pos()}
		what := "argument " + p.Name
		if src, ok := r.Formula(e.node); ok {
			a.src = src
		} else if v, ok := r.value(e.node, p.Type, what, false); ok {
			a.Value = v
			if i, bad := p.CheckBounds(v); bad {
				r.add(a.Pos, "out_of_bounds", "", "%s is %s; %s is allowed", what, v, i.Allowed)
			}
		}
		s.With = append(s.With, a)
	}
}

func argNames(spec *lab.CommandSpec) []string {
	names := make([]string, len(spec.Args))
	for i := range spec.Args {
		names[i] = spec.Args[i].Name
	}
	return names
}

func (r *parser) give(s *Step, e entry) {
	if err := lab.CheckName("result", e.key); err != nil {
		r.add(e.pos, "bad_name", "", "%v", err)
	}
	before := len(r.Issues)
	result := r.Text(e.node)
	if len(r.Issues) > before {
		return
	}
	s.Gives[e.key] = "" // what is wrong with it is reported here and not again where it is read
	if s.Spec.Give(result) == nil {
		var names []string
		for _, g := range s.Spec.Gives {
			names = append(names, g.Name)
		}
		r.add(e.node.Pos(), "unknown_name", r.near(result, names), "%s.%s gives no %q", s.Role, s.Command, result)
		return
	}
	s.Gives[e.key] = result
	s.gives[e.key] = -1
	s.givesPos[e.key] = e.pos
}

func (r *parser) wait(s *Step, n *strict.Node) {
	f := r.Map(n, "wait", "until", "for", "timeout")
	if n.Kind() != strict.Map {
		return
	}
	until, timeout := f.Get("until"), f.Get("timeout")
	s.until = r.source(until)
	s.For = r.duration(f.Get("for"), "for")
	s.Timeout = r.duration(timeout, "timeout")
	switch {
	case until == nil && f.Get("for") == nil:
		r.add(n.Pos(), "wait_without_until", "until: a condition, or for: a time", "this wait waits for nothing")
	case until == nil && timeout != nil:
		r.add(timeout.Pos(), "wait_without_until", "leave timeout out, or add until", "a plain pause ends after its for")
	case until != nil && timeout == nil:
		r.add(n.Pos(), "wait_without_timeout", "add timeout: a time", "this wait may never end")
	case until != nil && s.For > 0 && s.Timeout > 0 && s.For >= s.Timeout:
		r.add(timeout.Pos(), "out_of_bounds", "", "timeout is %s, not longer than for: %s", lab.Seconds(s.Timeout), lab.Seconds(s.For))
	}
}

func (r *parser) repeat(s *Step, f *strict.Fields, n *strict.Node) {
	m := r.Map(n, "repeat", "max", "over", "every", "until")
	if n.Kind() != strict.Map {
		return
	}
	switch max, over := m.Get("max"), m.Get("over"); {
	case over != nil && max != nil:
		r.add(max.Pos(), "bad_value", "leave it out", "the values of over say how often it is done")
	case over != nil:
		r.over(s, over)
	case max == nil:
		r.add(n.Pos(), "repeat_without_max", "add max: a number, or over: lists of values", "this repeat may never end")
	default:
		s.Max = int(r.count(max, "max", MaxRepeats))
	}
	s.Every = r.duration(m.Get("every"), "every")
	s.until = r.source(m.Get("until"))
	if e := f.Get("else"); e != nil && m.Get("until") == nil {
		r.add(e.Pos(), "bad_value", "leave it out", "else is for a repeat that has an until: without one, reaching max is its end")
	}
}

func (r *parser) elseOf(s *Step, n *strict.Node) {
	if n == nil || s.Kind != Wait && s.Kind != Repeat { // an unknown key, reported, or the other list of an if
		return
	}
	if r.Text(n) != "continue" {
		r.add(n.Pos(), "bad_value", "else: continue", "else of a %s may only be continue", s.Kind)
		return
	}
	s.Else = ElseContinue
}
