package protocols

import (
	"maps"
	"slices"
	"strings"

	"labgate/lab"
	"labgate/lab/expr"
)

// check resolves every name and compiles every expression, in the order of the
// run.
func (r *parser) check() {
	p := r.p
	r.distinct()
	for i := range p.Inputs { // preflight wants a slot for each, read or not
		if in := &p.Inputs[i]; in.Type.Kind != lab.Missing {
			r.slot(Slot{Kind: InputSlot, Name: in.Name, Type: in.Type, Input: in.Name})
		}
	}
	main := &place{steps: p.Steps}
	r.walk(main)
	cleanup := &place{outer: &place{steps: p.Steps, at: len(p.Steps)}, steps: p.Cleanup}
	r.walk(cleanup)
	r.unattended(p.Cleanup)
	for _, s := range p.steps {
		r.p.byPath[s.Path] = s
	}
	end := &place{outer: &place{steps: p.Cleanup, at: len(p.Cleanup)}, steps: p.Steps, at: len(p.Steps)}
	r.finally(end)
	for i := range p.Outputs {
		r.checkOutput(&p.Outputs[i], end)
	}
	for i := range p.Limits {
		r.checkLimit(&p.Limits[i])
	}
	r.checkReach()
	r.checkRanges()
}

// distinct checks that no name hides another: inputs, roles, and the ids of
// steps within those of the lists around them.
func (r *parser) distinct() {
	names := map[string]named{}
	for i := range r.p.Inputs {
		names[r.p.Inputs[i].Name] = named{"the input", r.p.Inputs[i].Pos}
	}
	for i := range r.p.Roles {
		role := &r.p.Roles[i]
		if first, ok := names[role.Name]; ok {
			r.add(role.Pos, "shadowed_name", "rename one of them", "role %q has the name of %s at %s", role.Name, first.what, first.pos)
			continue
		}
		names[role.Name] = named{"the role", role.Pos}
	}
	for i := range r.p.Samples {
		s := &r.p.Samples[i]
		if first, ok := names[s.Name]; ok {
			if first.what == "the sample" {
				continue // reported
			}
			r.add(s.Pos, "shadowed_name", "rename one of them", "sample %q has the name of %s at %s", s.Name, first.what, first.pos)
			continue
		}
		names[s.Name] = named{"the sample", s.Pos}
	}
	r.ids(slices.Concat(r.p.Steps, r.p.Cleanup, r.p.Finally), names)
}

// named is what a name stands for.
type named struct {
	what string
	pos  lab.Pos
}

// ids checks the ids of one list against each other and what is around it.
func (r *parser) ids(steps []*Step, around map[string]named) {
	here := map[string]lab.Pos{}
	for _, s := range steps {
		if s.ID == "" { // no text, reported
			continue
		}
		if first, ok := here[s.ID]; ok {
			r.add(s.Pos, "duplicate_id", "rename one of them", "step %q is there already, at %s", s.ID, first)
			continue
		}
		here[s.ID] = s.Pos
		if first, ok := around[s.ID]; ok && s.named {
			r.add(s.Pos, "shadowed_name", "rename one of them", "step %q has the name of %s at %s", s.ID, first.what, first.pos)
		}
	}
	inner := map[string]named{}
	for _, s := range steps {
		if len(s.children()) == 0 {
			continue
		}
		if len(inner) == 0 {
			for k, v := range around {
				inner[k] = v
			}
			for _, x := range steps {
				if _, ok := inner[x.ID]; !ok && x.named {
					inner[x.ID] = named{"the step", x.Pos}
				}
			}
		}
		own := inner
		if len(s.Over) > 0 {
			own = maps.Clone(inner)
		}
		for _, it := range s.Over {
			if it.Part != "" && own[it.Name] == (named{"the value", it.Pos}) {
				continue // another part of it
			}
			if first, ok := own[it.Name]; ok {
				r.add(it.Pos, "shadowed_name", "rename one of them", "value %q has the name of %s at %s", it.Name, first.what, first.pos)
			}
			own[it.Name] = named{"the value", it.Pos}
		}
		if s.Kind != Use { // its names were checked by themselves
			r.ids(s.children(), own)
		}
	}
}

// children are the steps directly within a step.
func (s *Step) children() []*Step {
	if len(s.Otherwise)+len(s.OnError.Steps) == 0 {
		return s.Steps
	}
	return slices.Concat(s.Steps, s.Otherwise, s.OnError.Steps)
}

// walk checks the steps of a list, each with those before it over.
func (r *parser) walk(at *place) {
	for k, s := range at.steps {
		at.at = k
		r.checkStep(s, at)
	}
}

func (at *place) loop() *Step {
	for ; at != nil; at = at.outer {
		switch {
		case at.owner == nil:
		case at.owner.Kind == Use:
			return nil
		case at.owner.Kind == Repeat:
			return at.owner
		}
	}
	return nil
}

func (r *parser) checkStep(s *Step, at *place) {
	if len(s.OnError.Steps) > 0 {
		// What the step gave may be missing, but has a name.
		r.walk(&place{outer: &place{outer: at.outer, owner: at.owner, steps: at.steps, at: at.at + 1}, steps: s.OnError.Steps})
	}
	r.checkSample(s, at)
	switch s.Kind {
	case Do:
		for i := range s.With {
			r.checkArg(&s.With[i], &scope{at: at, loop: at.loop(), live: true, values: true, args: true})
		}
		r.checkCost(s)
	case Wait:
		s.Until = r.condition("until", s.until, &scope{at: at, loop: at.loop(), live: true, values: true})
		r.checkChanges(s)
	case Parallel:
		r.walk(&place{outer: at, owner: s, steps: s.Steps})
		r.checkBranches(s)
	case Repeat:
		r.walk(&place{outer: at, owner: s, steps: s.Steps})
		s.Until = r.condition("until", s.until, &scope{at: at, loop: s, live: true, values: true})
		if !s.ramp {
			r.checkChanges(s)
		}
	case Use:
		r.checkUse(s, at)
	case If:
		s.Until = r.condition("if", s.until, &scope{at: at, loop: at.loop(), live: true, values: true})
		r.walk(&place{outer: at, owner: s, steps: s.Steps})
		r.walk(&place{outer: at, owner: s, steps: s.Otherwise})
	}
}

// condition compiles a condition; nil where there is none, or it was reported.
func (r *parser) condition(what string, src lab.Source, s *scope) *expr.Program {
	if src.Text == "" {
		return nil
	}
	return r.typed(what, src, s, lab.Type{Kind: lab.Bool})
}

// typed compiles an expression and checks that its results can be of a type.
func (r *parser) typed(what string, src lab.Source, s *scope, t lab.Type) *expr.Program {
	key := compiled{src.Text, s.live, s.values, t.Kind, t.Unit}
	s.r = r
	if p := r.before[key]; p != nil && s.within() == nil {
		return p
	}
	p := r.compile(src, s)
	if p == nil || t.Kind == lab.Missing {
		return nil
	}
	err := p.Fits(t)
	if err == nil && t.Kind == lab.Table && !slices.Equal(p.Type().Columns, t.Columns) {
		r.add(src.Pos, "wrong_type", "the columns, their units and their order must be the same", "%s: %s has other columns", what, src.Text)
		return nil
	}
	if err != nil {
		code := "wrong_type"
		if got := p.Type().Kind; (got == lab.Number || got == lab.Integer) && (t.Kind == lab.Number || t.Kind == lab.Integer) {
			code = "wrong_dimension"
		}
		r.add(src.Pos, code, "", "%s: %s", what, strings.Replace(err.Error(), "; a bool is", "; a condition is", 1))
		return nil
	}
	if (t.Kind == lab.Bool || t.Kind == lab.Number) && r.anywhere(p, s) {
		r.before[key] = p
	}
	return p
}

// compiled is what an expression is compiled from, where it may stand anywhere.
type compiled struct {
	text         string
	live, values bool
	kind         lab.TypeKind
	unit         lab.Unit
}

// anywhere reports whether an expression means the same wherever it stands: it
// reads inputs and properties only, and remembers nothing. Protocols say the
// same often; it is compiled once.
func (r *parser) anywhere(p *expr.Program, s *scope) bool {
	if p.Windows() || s.within() != nil || s.outputs {
		return false
	}
	for _, slot := range p.Slots() {
		if k := r.p.slots[slot].Kind; k != InputSlot && k != PropertySlot {
			return false
		}
	}
	return true
}

func (r *parser) checkArg(a *Arg, s *scope) {
	if a.src.Pos == (lab.Pos{}) {
		return // a plain value
	}
	a.Expr = r.typed("argument "+a.Name, a.src, s, a.Param.Type)
	if a.within != "" && a.Expr != nil {
		a.src.Text = a.within
		a.Expr = r.compile(a.src, s)
	}
}

// checkChanges refuses a condition that can't change while it is waited for.
func (r *parser) checkChanges(s *Step) {
	if s.Until == nil {
		return
	}
	for _, slot := range s.Until.Slots() {
		x := &r.p.slots[slot]
		if x.Kind == PropertySlot || x.Step != nil && s.Kind == Repeat && x.Step.index >= s.index && x.Step.index < s.end {
			return
		}
	}
	r.constant[s] = true
	r.add(s.until.Pos, "constant_condition", "", "nothing in %q changes while this %s goes on", s.until.Text, s.Kind)
}

// checkBranches refuses branches that command the same component side by side.
func (r *parser) checkBranches(s *Step) {
	type part struct{ role, class string }
	first := map[part]*Step{}
	for _, b := range s.Steps {
		mine := map[part]*Step{}
		for _, x := range r.p.steps[b.index:b.end] {
			if x.Spec == nil || x.Spec.Effect == lab.Read {
				continue
			}
			k := part{x.Role, x.Class.Name}
			if other := first[k]; other != nil {
				r.add(x.Pos, "parallel_conflict", "do one after the other", "%s.%s runs at the same time as %s.%s at %s", x.Role, x.Command, other.Role, other.Command, other.Pos)
				continue
			}
			mine[k] = x
		}
		for k, x := range mine {
			first[k] = x
		}
	}
}

// finally holds safe commands only, so that nothing in it can be refused for
// what it needs to know.
func (r *parser) finally(at *place) {
	const hint = "finally holds safe commands only; what else is to be done stands in cleanup"
	for _, s := range r.p.Finally {
		switch {
		case s.Kind != Do:
			r.add(s.Pos, "finally_not_safe", hint, "%s in finally", s.Kind.one())
		case s.Spec == nil: // reported
		case s.Spec.Effect != lab.Safe:
			r.add(s.Pos, "finally_not_safe", hint, "%s.%s is %s", s.Role, s.Command, s.Spec.Effect)
		case s.OnError.Retry > 0 || s.OnError.Hold > 0 || len(s.OnError.Steps) > 0 || s.OnError.Then != r.p.OnError:
			r.add(s.Pos, "bad_value", "leave on_error out", "in finally one failure never stops the next command")
		case len(s.Gives) > 0:
			r.add(s.Pos, "bad_value", "leave gives out", "what finally gives is read by nobody")
		default:
			for i := range s.With {
				r.checkArg(&s.With[i], &scope{at: at, live: true, values: true, args: true})
			}
			r.checkCost(s)
		}
	}
}

func (r *parser) checkOutput(o *Output, at *place) {
	if o.rows != "" {
		r.checkRows(o)
	}
	if o.from.Text == "" {
		return // reported, or rows
	}
	o.From = r.typed("output "+o.Name, o.from, &scope{at: at, values: true, outputs: true}, o.Type)
}

func (r *parser) checkLimit(l *Limit) {
	l.Expr = r.condition("limit", lab.Source{Text: l.Text, Pos: l.Pos}, &scope{live: true})
	if l.Expr == nil {
		return
	}
	for _, slot := range l.Expr.Slots() {
		if r.p.slots[slot].Kind == PropertySlot {
			return
		}
	}
	r.add(l.Pos, "constant_condition", "", "%q limits no property of a role", l.Text)
	l.Expr = nil
}

// checkRanges refuses arguments that are out of bounds whatever the inputs.
func (r *parser) checkRanges() {
	ranges := r.p.ranges(nil)
	for _, s := range r.p.steps {
		for i := range s.With {
			if a := &s.With[i]; a.Expr != nil {
				r.checkRange(a, ranges)
			}
		}
	}
}

func (r *parser) checkRange(a *Arg, ranges []expr.Range) {
	if len(a.Expr.Slots()) == 0 {
		v, err := a.Param.Type.Conform(a.Expr.Value(nil, &expr.Env{}))
		if err != nil {
			r.add(a.Pos, "wrong_type", "", "argument %s: %v", a.Name, err)
		} else if i, bad := a.Param.CheckBounds(v); bad {
			r.add(a.Pos, "out_of_bounds", "", "argument %s is %s; %s is allowed", a.Name, v, i.Allowed)
		}
		return
	}
	iv, ok := a.Expr.NumberOver(ranges)
	if !ok {
		return
	}
	if v, bad := outside(a.Param, iv); bad {
		i, _ := a.Param.CheckBounds(v)
		r.add(a.Pos, "out_of_bounds", "", "argument %s is %s at best, whatever the inputs; %s is allowed", a.Name, v, i.Allowed)
	}
}

// outside reports whether a whole interval, in SI base units, is out of
// bounds, and its value that is nearest to them.
func outside(p *lab.Param, iv expr.Interval) (lab.Value, bool) {
	at := 0.0
	switch {
	case p.Min != nil && iv.Hi < p.Min.Base(), p.MoreThan != nil && iv.Hi <= p.MoreThan.Base():
		at = iv.Hi
	case p.Max != nil && iv.Lo > p.Max.Base():
		at = iv.Lo
	default:
		return lab.Value{}, false
	}
	return lab.NumberValue(lab.Quantity{Value: p.Type.Unit.FromBase(at), Unit: p.Type.Unit}), true
}

// unattended refuses steps of the cleanup that wait for a person: the finally
// waits for them.
func (r *parser) unattended(steps []*Step) {
	const hint = "put it at the end of steps"
	for _, s := range steps {
		switch {
		case s.Kind == Ask:
			r.add(s.Pos, "bad_value", hint, "an ask in cleanup: the finally would wait for a person")
		case s.OnError.Hold > 0:
			r.add(s.Pos, "bad_value", hint, "a hold in cleanup: the finally would wait for a person")
		}
		r.unattended(s.children())
	}
}
