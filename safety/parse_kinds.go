package safety

import (
	"slices"
	"strings"
	"time"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/lab/expr"
)

// limitEnd is a bound of a limit, where it could be read.
type limitEnd struct {
	node *strict.Node
	q    *lab.Quantity
}

func (p *parser) limitEnd(n *strict.Node) limitEnd {
	before := len(p.d.Issues)
	q := p.d.Quantity(n)
	if n == nil || len(p.d.Issues) > before {
		return limitEnd{}
	}
	return limitEnd{n, &q}
}

func (p *parser) limit(f *strict.Fields, r *Rule) {
	n := f.Get("limit")
	low, high, step := p.limitEnd(f.Get("min")), p.limitEnd(f.Get("max")), p.limitEnd(f.Get("step"))
	r.Limit = Limit{Min: low.q, Max: high.q, Step: step.q, Change: p.window(f.Get("change")), Total: p.window(f.Get("total")), Together: p.d.Bool(f.Get("together"))}
	for _, path := range p.names(n) {
		id, spec, arg := p.argument(n, path)
		if arg == nil {
			continue
		}
		t := Target{Command: id, Arg: arg.Name, key: id.String() + "." + arg.Name}
		unit := arg.Type.Unit
		p.sameDim(low.node, low.q, unit, arg.Name, id)
		p.sameDim(high.node, high.q, unit, arg.Name, id)
		if r.Limit.Total != nil {
			if unit.Dim() == lab.Temperature {
				p.add(f.Get("total").Pos(), "wrong_dimension", "change: bounds how far it moves", "temperatures don't add up: %s of %s has no total", arg.Name, id)
			}
			p.sameDim(f.Get("total"), &r.Limit.Total.Max, unit, arg.Name, id)
		}
		if step.q != nil || r.Limit.Change != nil {
			diff := difference(unit)
			p.sameDim(step.node, step.q, diff, "a step of "+arg.Name, id)
			if r.Limit.Change != nil {
				p.sameDim(f.Get("change"), &r.Limit.Change.Max, diff, "a change of "+arg.Name, id)
			}
			t.from = p.inForce(f, n, id, spec, arg)
		}
		r.Targets = append(r.Targets, t)
	}
	p.limitKeys(f, n, r)
}

// limitKeys checks that a limit bounds something, and leaves something.
func (p *parser) limitKeys(f *strict.Fields, n *strict.Node, r *Rule) {
	has := func(key string) bool { return f.Get(key) != nil }
	if !has("min") && !has("max") && !has("step") && !has("change") && !has("total") {
		p.add(n.Pos(), "missing_key", "give min, max, step, change or total", "a limit without any of them bounds nothing")
	}
	l := r.Limit
	if l.Min != nil && l.Max != nil && l.Min.Unit.Dim() == l.Max.Unit.Dim() && l.Min.Base() > l.Max.Base() {
		p.add(n.Pos(), "empty_range", "", "min %s is above max %s: nothing would be allowed", l.Min, l.Max)
	}
	if has("from") && !has("step") && !has("change") {
		p.add(f.Get("from").Pos(), "unknown_key", "leave it out", "from is for a limit with step or change")
	}
	if has("together") && !has("change") && !has("total") {
		p.add(f.Get("together").Pos(), "unknown_key", "leave it out", "together is for a limit with change or total")
	}
}

// argument finds instrument.command.argument, a number.
func (p *parser) argument(n *strict.Node, path string) (lab.CommandID, *lab.CommandSpec, *lab.Param) {
	i := strings.LastIndexByte(path, '.')
	if i < 0 {
		p.add(n.Pos(), "bad_name", "", "%s: write instrument.command.argument", path)
		return lab.CommandID{}, nil, nil
	}
	id, spec, err := p.rules.lab.ResolveCommand(path[:i])
	if err != nil {
		p.add(n.Pos(), "unknown_name", "", "%v", err)
		return lab.CommandID{}, nil, nil
	}
	arg := spec.Arg(path[i+1:])
	if arg == nil {
		p.add(n.Pos(), "unknown_name", "", "%s has no argument %q%s", id, path[i+1:], hint(path[i+1:], argNames(spec)))
		return lab.CommandID{}, nil, nil
	}
	if arg.Type.Kind != lab.Number && arg.Type.Kind != lab.Integer {
		p.add(n.Pos(), "wrong_type", "", "%s of %s is a %s; only numbers have limits", arg.Name, id, arg.Type.Kind)
		return lab.CommandID{}, nil, nil
	}
	return id, spec, arg
}

// sameDim reports a bound of another dimension than what it bounds.
func (p *parser) sameDim(n *strict.Node, q *lab.Quantity, want lab.Unit, what string, id lab.CommandID) {
	switch {
	case n == nil || q == nil || q.Unit.Dim() == want.Dim():
	case q.Unit == lab.One:
		p.add(n.Pos(), "no_unit", "write "+lab.Quantity{Value: q.Value, Unit: want}.String()+", if that is what you mean", "%s has no unit; %s of %s is a %s", q, what, id, want.Dim())
	default:
		p.add(n.Pos(), "wrong_dimension", "", "%s is a %s, %s of %s is a %s", q, q.Unit.Dim(), what, id, want.Dim())
	}
}

// difference is the unit of the distance of two values.
func difference(u lab.Unit) lab.Unit {
	if u.Dim() == lab.Temperature {
		return lab.Q(0, "K").Unit
	}
	return u
}

// inForce compiles what an argument sets, as it is now: from, or the property
// that the class says it sets.
func (p *parser) inForce(f *strict.Fields, n *strict.Node, id lab.CommandID, spec *lab.CommandSpec, arg *lab.Param) *expr.Program {
	src := lab.Source{Pos: n.Pos()}
	if from := f.Get("from"); from != nil {
		src = p.d.Source(from)
	} else {
		for _, ch := range spec.Changes {
			if ch.To.Text == arg.Name && !ch.Add {
				src.Text = lab.PropertyID{Instrument: id.Instrument, Component: id.Component, Property: ch.Property}.String()
			}
		}
	}
	if src.Text == "" {
		p.add(n.Pos(), "missing_key", "from: the property that it changes", "nothing says which property %s of %s sets: a step is the distance from that", arg.Name, id)
		return nil
	}
	prog, err := expr.Compile(src, ruleScope{rules: p.rules, self: p.self})
	switch {
	case err != nil:
		p.addExpr(src, err)
		return nil
	case prog.Type().Unit.Dim() != arg.Type.Unit.Dim() || prog.Type().Kind != lab.Number && prog.Type().Kind != lab.Integer:
		p.add(src.Pos, "wrong_dimension", "", "%s is a %s, %s of %s is a %s", src.Text, prog.Type(), arg.Name, id, arg.Type.Unit.Dim())
		return nil
	}
	return prog
}

// DefaultHold is how long a run is held that a trip with run: hold stops, where
// the rule does not say; then it is aborted.
const DefaultHold = 30 * time.Minute

// maxWindow bounds what is remembered of commands.
const maxWindow = 366 * 24 * time.Hour

// window reads "40 K per 10 min"; nil where there is none, or it was reported.
func (p *parser) window(n *strict.Node) *Window {
	if n == nil {
		return nil
	}
	before := len(p.d.Issues)
	text := p.d.Text(n)
	if len(p.d.Issues) > before {
		return nil
	}
	amount, per, ok := strings.Cut(text, " per ")
	q, err := lab.ParseQuantity(amount)
	t, err2 := lab.ParseQuantity(per)
	d, err3 := t.Duration()
	switch {
	case !ok:
		p.add(n.Pos(), "unbounded_window", "as in 40 K per 10 min", "%q has no window of time", text)
	case err != nil || err2 != nil || err3 != nil:
		p.add(n.Pos(), "bad_value", "as in 40 K per 10 min", "%q is no amount per time", text)
	case d <= 0 || d > maxWindow:
		p.add(n.Pos(), "out_of_bounds", "", "a window of %s; more than 0 s, at most 366 days", strings.TrimSpace(per))
	default:
		return &Window{q, d}
	}
	return nil
}

// names reads a list of names with commas between them, of which there is at
// least one. "any class/vN.rest" stands for every component of that class,
// "self.rest" for the rule's own.
func (p *parser) names(n *strict.Node) []string {
	before := len(p.d.Issues)
	var list []string
	for _, x := range splitList(p.d.Text(n)) {
		list = append(list, p.each(n, x)...)
	}
	if len(list) == 0 && len(p.d.Issues) == before {
		p.add(n.Pos(), "no_target", "", "it names no command: the rule would guard nothing")
	}
	return list
}

// each resolves any and self in a path.
func (p *parser) each(n *strict.Node, path string) []string {
	if rest, ok := strings.CutPrefix(path, "self."); ok && p.self != "" {
		return []string{p.self + "." + rest}
	}
	if !strings.HasPrefix(path, "any ") {
		return []string{path}
	}
	class, rest, ok := strings.Cut(path, ".")
	if !ok {
		p.add(n.Pos(), "bad_name", "as in any pump/v1.dose", "%s names no command", path)
		return nil
	}
	var list []string
	for _, c := range p.components(n, class) {
		list = append(list, c+"."+rest)
	}
	return list
}

func (p *parser) commands(n *strict.Node, paths []string) []lab.CommandID {
	var ids []lab.CommandID
	for _, path := range paths {
		id, _, err := p.rules.lab.ResolveCommand(path)
		switch {
		case err != nil:
			p.add(n.Pos(), "unknown_name", "", "%v", err)
		case slices.Contains(ids, id):
			p.add(n.Pos(), "duplicate", "", "%s stands there twice", id)
		default:
			ids = append(ids, id)
		}
	}
	return ids
}

func (p *parser) permissive(f *strict.Fields, r *Rule) {
	n := f.Get("permissive")
	ids := p.commands(n, p.names(n))
	for _, id := range ids {
		r.Targets = append(r.Targets, Target{Command: id})
	}
	if require := f.Require("require"); require != nil && len(ids) > 0 {
		p.require(require, r, ids)
	}
	if g := f.Get("grace"); g != nil {
		r.Grace = p.d.Duration(g)
	}
	if at := f.Get("at"); at != nil {
		if p.d.Text(at) != "start" {
			p.add(at.Pos(), "bad_value", "leave it out for a condition that must hold until the command is done", "at: %s; only start is understood", p.d.Text(at))
		}
		r.AtStart = true
	}
}

// require compiles what a permissive wants: once, or where it names self, for
// each command.
func (p *parser) require(n *strict.Node, r *Rule, ids []lab.CommandID) {
	before := len(p.d.Issues)
	src := p.d.Source(n)
	if len(p.d.Issues) > before {
		return
	}
	names := false
	expr.Rewrite(src.Text, func(name string) string {
		names = names || strings.HasPrefix(name, "self.")
		return name
	})
	if !names || p.self != "" {
		r.expr = p.condition(n, p.commonArgs(ids))
		return
	}
	for i, id := range ids {
		p.self = id.Instrument + "." + id.Component
		r.Targets[i].own = p.condition(n, p.commonArgs([]lab.CommandID{id}))
		p.self = ""
		if len(p.d.Issues) > before {
			return
		}
	}
}

func (p *parser) trip(f *strict.Fields, r *Rule) {
	r.Group = p.d.Name(f.Get("trip"), "trip group")
	if r.Group == stopGroup {
		p.add(f.Get("trip").Pos(), "reserved", "", "%q is the group of emergency stops", r.Group)
	}
	r.expr = p.condition(f.Require("when"), nil)
	r.healthy = p.condition(f.Get("healthy"), nil)
	r.OnDelay, r.UnknownFor = p.optional(f.Get("on_delay")), p.optional(f.Get("unknown_for"))
	r.Do = p.safeSteps(f.Require("do"))
	if n := f.Get("mitigates"); n != nil {
		r.Mitigates = p.commands(n, p.selves(n))
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
		p.add(n.Pos(), "unknown_key", "leave it out", "hold_for is for a trip with run: hold")
	case n != nil:
		r.HoldFor = p.d.Duration(n)
	case r.Run == RunHold:
		r.HoldFor = DefaultHold
	}
	p.respondWithin(f.Get("respond_within"), r)
}

func (p *parser) optional(n *strict.Node) time.Duration {
	if n == nil {
		return 0
	}
	return p.d.Duration(n)
}

func (p *parser) selves(n *strict.Node) []string {
	var list []string
	for _, x := range p.texts(n) {
		list = append(list, p.each(n, x)...)
	}
	return list
}

// safeSteps reads what a trip does: safe commands, with arguments and waits.
func (p *parser) safeSteps(n *strict.Node) []lab.SafeStep {
	if n == nil {
		return nil
	}
	var steps []lab.SafeStep
	list := p.d.List(n)
	commands := 0
	for _, e := range list {
		text := p.d.Text(e)
		if d, ok := strings.CutPrefix(text, "wait "); ok {
			q, err := lab.ParseQuantity(d)
			wait, err2 := q.Duration()
			if err != nil || err2 != nil || wait <= 0 {
				p.add(e.Pos(), "bad_value", "as in wait 2 s", "%q is no wait", text)
				continue
			}
			steps = append(steps, lab.SafeStep{Wait: wait})
			continue
		}
		for _, call := range p.each(e, text) {
			if s, ok := p.safeStep(e, call); ok {
				steps = append(steps, s)
			}
			commands++
		}
	}
	if n.Kind() == strict.List && commands == 0 {
		p.add(n.Pos(), "no_action", "an alarm is for what only a person can answer", "a trip without an action protects nothing")
	}
	return steps
}

func (p *parser) safeStep(n *strict.Node, call string) (lab.SafeStep, bool) {
	id, args, err := p.rules.lab.ResolveCall(call)
	if err != nil {
		p.add(n.Pos(), "unknown_name", "", "%v", err)
		return lab.SafeStep{}, false
	}
	spec := p.rules.lab.CommandSpec(id)
	if spec.Effect != lab.Safe {
		p.add(n.Pos(), "not_safe", "a trip acts through the safe lane", "%s is %s by its class, not safe", id, spec.Effect)
		return lab.SafeStep{}, false
	}
	for i := range spec.Args {
		a := &spec.Args[i]
		v, ok := args[a.Name]
		if !ok {
			p.add(n.Pos(), "missing_argument", "as in "+id.String()+"("+a.Name+" = …)", "%s needs %s", id, a.Name)
			return lab.SafeStep{}, false
		}
		if i, bad := a.CheckBounds(v); bad {
			p.add(n.Pos(), "out_of_bounds", "", "%s of %s is %s; %s is allowed", a.Name, id, v, i.Allowed)
			return lab.SafeStep{}, false
		}
	}
	if len(args) == 0 {
		args = nil
	}
	return lab.SafeStep{Command: id, Args: args}, true
}

// respondWithin checks that the promise can be kept at all: the oldest reading
// that still counts, plus the longer of the times until the trip fires, plus
// the slowest instrument's stop.
func (p *parser) respondWithin(n *strict.Node, r *Rule) {
	before := len(p.d.Issues)
	r.RespondWithin = p.d.Duration(n)
	if n == nil || r.expr == nil || len(p.d.Issues) > before {
		return
	}
	var age, stop, wait time.Duration
	for _, s := range r.expr.Slots() {
		age = max(age, p.rules.maxAge(s))
	}
	by := map[string]time.Duration{}
	for _, s := range r.Do {
		if wait += s.Wait; s.Wait == 0 {
			in := s.Command.Instrument
			by[in] = max(by[in], wait+p.rules.lab.CommandSpec(s.Command).Within)
			stop = max(stop, by[in])
		}
	}
	delay := max(r.UnknownFor, r.OnDelay)
	if worst := age + delay + stop; worst > r.RespondWithin {
		p.add(n.Pos(), "too_slow", "shorten unknown_for or on_delay, or promise less",
			"it can take %s (readings up to %s old, %s until it fires, a stop within %s), longer than %s", lab.Seconds(worst), lab.Seconds(age), lab.Seconds(delay), lab.Seconds(stop), lab.Seconds(r.RespondWithin))
	}
}
