package protocols

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// Values is what is known in one run: its inputs, live readings, and what its
// steps gave. It evaluates the plan's expressions over them. It belongs to one
// run and one goroutine; times given to it must not run backwards.
//
// The order of calls for a repeat is Enter, then for each iteration
// BeginIteration, the body, EndIteration, and Until.
type Values struct {
	plan    *Plan
	env     expr.Env
	states  map[*expr.Program]*expr.State // programs that remember: rate, mean, held
	watched map[int][]*expr.Program       // … by the slots that they read
	tables  map[*Rows]*lab.TableData      // what repeats have filled

	decisions decisions
}

// NewValues makes the values of a run that has not begun.
func (pl *Plan) NewValues() *Values {
	v := pl.givens()
	for _, s := range pl.Protocol.steps {
		v.remember(s.Until)
		if s.Use != nil {
			for i := range s.Use.Lets {
				v.remember(s.Use.Lets[i].Expr)
			}
		}
		for i := range s.With {
			v.remember(s.With[i].Expr)
		}
	}
	return v
}

// givens are the values that are known before a run, without memories.
func (pl *Plan) givens() *Values {
	p := pl.Protocol
	v := &Values{plan: pl, env: expr.Env{Slots: make([]lab.Reading, len(p.slots))}, states: map[*expr.Program]*expr.State{}, watched: map[int][]*expr.Program{}, tables: map[*Rows]*lab.TableData{}}
	for i := range p.slots {
		if p.slots[i].Kind == InputSlot {
			v.env.Slots[i] = expr.Given(pl.Inputs[p.slots[i].Input])
		}
	}
	return v
}

func (v *Values) remember(p *expr.Program) {
	if p == nil || !p.Windows() {
		return
	}
	v.states[p] = p.NewState()
	for _, slot := range p.Slots() {
		v.watched[slot] = append(v.watched[slot], p)
	}
}

// Read takes a live reading; one of a property that nothing reads is ignored.
func (v *Values) Read(now time.Time, id lab.PropertyID, r lab.Reading) {
	if slot, ok := v.plan.slots[id]; ok {
		v.set(now, slot, r)
	}
}

func (v *Values) set(now time.Time, slot int, r lab.Reading) {
	v.env.Now, v.env.Slots[slot] = now, r
	for _, p := range v.watched[slot] {
		p.Observe(v.states[p], &v.env)
	}
}

func (v *Values) clear(now time.Time, slot int) {
	if slot >= 0 && v.env.Slots[slot].Value.Kind != lab.Missing {
		v.set(now, slot, lab.Reading{})
	}
}

// Args computes the arguments of a do step: complete, in the class's units and
// within the class's bounds. Each that has no value, or an illegal one, is an
// issue; then there are no arguments and the command must not be sent.
func (v *Values) Args(now time.Time, s *Step) (map[string]lab.Value, lab.Issues) {
	if d, ok := v.decided(s, decidedArgs); ok {
		if d.Values == nil && len(d.Issues) == 0 {
			d.Values = map[string]lab.Value{}
		}
		return d.Values, d.Issues
	}
	args, issues := v.args(now, s)
	v.decide(Decision{Step: s.Path, What: decidedArgs, Values: args, Issues: issues})
	return args, issues
}

func (v *Values) args(now time.Time, s *Step) (map[string]lab.Value, lab.Issues) {
	v.env.Now = now
	args := make(map[string]lab.Value, len(s.With))
	var issues lab.Issues
	for i := range s.With {
		x, issue := v.arg(&s.With[i])
		if issue != nil {
			issue.Path = "steps." + s.Path + ".with." + s.With[i].Name
			issues = append(issues, *issue)
			continue
		}
		args[s.With[i].Name] = x
	}
	if len(issues) > 0 {
		return nil, issues
	}
	return args, nil
}

func (v *Values) arg(a *Arg) (lab.Value, *lab.Issue) {
	if a.Expr == nil {
		return a.Value, nil // checked when the file was parsed
	}
	x := a.Expr.Value(v.states[a.Expr], &v.env)
	if !x.Usable() {
		i := lab.Issue{Code: "no_value", Inputs: a.Expr.Used(&v.env), Say: fmt.Sprintf("argument %s has no value: %s is unknown", a.Name, a.src.Text)}.At(a.Pos)
		i.Hint = why(i.Inputs)
		return lab.Value{}, &i
	}
	conformed, err := a.Param.Type.Conform(x)
	if err != nil {
		i := lab.Issue{Code: "wrong_type", Got: x.String(), Say: fmt.Sprintf("argument %s: %v", a.Name, err)}.At(a.Pos)
		return lab.Value{}, &i
	}
	if i, bad := a.Param.CheckBounds(conformed); bad {
		i.Say = fmt.Sprintf("argument %s is %s; %s is allowed", a.Name, conformed, i.Allowed)
		i.Nearest, i.Repairable = nil, false // the argument is computed: there is nothing to put it in the place of
		i = i.At(a.Pos)
		return lab.Value{}, &i
	}
	return conformed, nil
}

// why says what makes an expression unknown.
func why(used []lab.Used) string {
	var parts []string
	for _, u := range used {
		if u.Why != "" {
			parts = append(parts, u.Signal+" is "+u.Why)
		}
	}
	return strings.Join(parts, ", ")
}

// Gave takes the results of a do step's command and returns those that the
// step's gives names, by local name. A result that is missing or of another
// type is an error; then the step has given nothing.
func (v *Values) Gave(now time.Time, s *Step, results map[string]lab.Value) (map[string]lab.Value, error) {
	out := make(map[string]lab.Value, len(s.Gives))
	var errs []error
	for local, result := range s.Gives {
		got, ok := results[result]
		x, err := s.Spec.Give(result).Type.Conform(got)
		switch {
		case !ok || !got.Usable():
			errs = append(errs, fmt.Errorf("%s did not come", result))
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", result, err))
		default:
			out[local] = x
		}
	}
	v.Skip(now, s)
	if len(errs) > 0 {
		slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return nil, lab.E("protocols: results of "+s.Path, "", lab.KindInvalid, errors.Join(errs...))
	}
	for local, x := range out {
		if slot := s.gives[local]; slot >= 0 {
			v.set(now, slot, expr.Given(x))
		}
	}
	return out, nil
}

// Skip makes everything that a step gave missing, with all steps in it.
func (v *Values) Skip(now time.Time, s *Step) {
	for _, x := range v.plan.Protocol.steps[s.index:s.end] {
		for _, slot := range x.gives {
			v.clear(now, slot)
		}
		if x.iter == nil {
			continue
		}
		v.clear(now, x.iter.count)
		for _, m := range x.iter.moves {
			v.clear(now, m.last)
			v.clear(now, m.previous)
		}
	}
}

// Enter begins a repeat: nothing of it has a value.
func (v *Values) Enter(now time.Time, s *Step) { v.Skip(now, s) }

// BeginIteration begins iteration i of a repeat, from 1: the values of its body
// are missing until they are given again.
func (v *Values) BeginIteration(now time.Time, s *Step, i int) {
	for _, x := range s.Steps {
		v.Skip(now, x)
	}
	for _, it := range s.Over {
		if it.slot >= 0 && i <= len(it.Values) {
			v.set(now, it.slot, expr.Given(it.Values[i-1]))
		}
	}
	if s.iter != nil && s.iter.count >= 0 {
		v.set(now, s.iter.count, expr.Given(lab.IntegerValue(int64(i))))
	}
}

// EndIteration ends it: last becomes previous, and what the body gave becomes
// last.
func (v *Values) EndIteration(now time.Time, s *Step) {
	v.collect(now, s)
	if s.iter == nil {
		return
	}
	for _, m := range s.iter.moves { // all of them before any window sees one
		v.env.Slots[m.previous] = v.env.Slots[m.last]
		v.env.Slots[m.last] = v.env.Slots[m.now]
	}
	for _, m := range s.iter.moves {
		v.set(now, m.previous, v.env.Slots[m.previous])
		v.set(now, m.last, v.env.Slots[m.last])
	}
}

// Until evaluates the condition of a wait, a repeat or an if now. It is True for a
// plain pause, and False for a repeat without one.
func (v *Values) Until(now time.Time, s *Step) expr.Truth {
	switch {
	case s.Until == nil && s.Kind == Wait:
		return expr.True
	case s.Until == nil:
		return expr.False
	}
	v.env.Now = now
	st := v.states[s.Until]
	s.Until.Observe(st, &v.env)
	return s.Until.Truth(st, &v.env)
}

// Used lists what the condition of a wait or a repeat rests on now, with why
// one counts as unknown.
func (v *Values) Used(now time.Time, s *Step) []lab.Used {
	if s.Until == nil {
		return nil
	}
	v.env.Now = now
	return s.Until.Used(&v.env)
}

// Outputs computes what the run returns. An optional output without a value is
// left out; a required one is an issue.
func (v *Values) Outputs(now time.Time) (map[string]lab.Value, lab.Issues) {
	if v.decisions.again {
		return nil, nil // nothing comes after them
	}
	v.env.Now = now
	out := map[string]lab.Value{}
	var issues lab.Issues
	for i := range v.plan.Protocol.Outputs {
		o := &v.plan.Protocol.Outputs[i]
		x := lab.Value{}
		if o.Rows != nil {
			x = v.table(o.Rows)
		} else {
			x = o.From.Value(nil, &v.env)
		}
		if x.Usable() {
			conformed, err := o.Type.Conform(x)
			if err == nil {
				out[o.Name] = conformed
				continue
			}
			issues.Add(o.Pos, "wrong_type", "", "output %s: %v", o.Name, err)
			continue
		}
		if o.Required {
			var used []lab.Used
			if o.From != nil {
				used = o.From.Used(&v.env)
			}
			issues = append(issues, lab.Issue{Code: "output_missing", Path: "outputs." + o.Name, Inputs: used, Hint: why(used),
				Say: fmt.Sprintf("output %s has no value", o.Name)}.At(o.Pos))
		}
	}
	return out, issues
}

// Reads lists the properties that a step itself reads, in its arguments or its
// until; not those of steps in it.
func (pl *Plan) Reads(s *Step) []lab.PropertyID {
	programs := []*expr.Program{s.Until}
	for i := range s.With {
		programs = append(programs, s.With[i].Expr)
	}
	return pl.reads(programs)
}

// AllReads lists the properties that any step reads: what the runner has to be
// told of.
func (pl *Plan) AllReads() []lab.PropertyID {
	var programs []*expr.Program
	for _, s := range pl.Protocol.steps {
		programs = append(programs, s.Until)
		for i := range s.With {
			programs = append(programs, s.With[i].Expr)
		}
		if s.Use != nil {
			for i := range s.Use.Lets {
				programs = append(programs, s.Use.Lets[i].Expr)
			}
		}
	}
	return pl.reads(programs)
}

// LimitReads lists the properties that the protocol's limits read.
func (pl *Plan) LimitReads() []lab.PropertyID {
	var programs []*expr.Program
	for i := range pl.Protocol.Limits {
		programs = append(programs, pl.Protocol.Limits[i].Expr)
	}
	return pl.reads(programs)
}

func (pl *Plan) reads(programs []*expr.Program) []lab.PropertyID {
	var ids []lab.PropertyID
	seen := map[lab.PropertyID]bool{}
	for _, p := range programs {
		if p == nil {
			continue
		}
		for _, slot := range p.Slots() {
			if id := pl.properties[slot]; id != (lab.PropertyID{}) && !seen[id] {
				seen[id] = true
				ids = append(ids, id)
			}
		}
	}
	slices.SortFunc(ids, func(a, b lab.PropertyID) int { return strings.Compare(a.String(), b.String()) })
	return ids
}
