package preflight

import (
	"fmt"
	"math"
	"slices"

	"labgate/lab"
	"labgate/lab/expr"
	"labgate/protocols"
	"labgate/safety"
)

// asked is one command in one state.
type asked struct {
	target         lab.CommandID
	spec           *lab.CommandSpec
	args           []expr.Range // in the order of the class
	before, during state
}

// judge asks every rule of a command, and the run's own limits.
func (w *walk) judge(s *protocols.Step, v *verdict, a *asked) {
	for _, r := range w.rules.Guards(a.target) {
		switch r.Kind {
		case safety.LimitRule:
			w.limit(s, v, a, r)
		case safety.PermissiveRule:
			w.permissive(s, v, a, r)
		case safety.BudgetRule:
			w.budget(s, v, a, r)
		case safety.SequenceRule:
			w.sequence(v, a, r)
		case safety.ZoneRule:
			w.zone(v, r)
		default:
			v.open(r.ID, nil)
		}
	}
	if a.spec.Effect == lab.Safe {
		return // the run's own limits never bar the way to the safe state
	}
	for i := range w.plan.Protocol.Limits {
		l := &w.plan.Protocol.Limits[i]
		text := l.Text
		if bound := w.plan.Limits(); i < len(bound) {
			text = bound[i] // with the lab's names
		}
		w.runLimit(s, v, a, l, text)
	}
}

// arg is what an argument may be.
func (a *asked) arg(name string) expr.Range {
	for i := range a.spec.Args {
		if a.spec.Args[i].Name == name {
			return a.args[i]
		}
	}
	return expr.Range{}
}

// env lays a state out for the rules' expressions, until it is asked again. No
// group counts as tripped: a trip ends the run.
func (w *walk) env(a *asked, st state) []expr.Range {
	if w.room.env == nil {
		w.room.env = make([]expr.Range, w.size)
	}
	env := w.room.env
	clear(env[copy(env, st):])
	for slot := len(st); slot < w.size; slot++ {
		if _, ok := w.rules.GroupAt(slot); ok {
			env[slot] = expr.Exactly(lab.BoolValue(false))
		}
	}
	for i := range a.spec.Args {
		if slot, ok := w.argSlots[a.spec.Args[i].Name]; ok {
			env[slot] = a.args[i]
		}
	}
	return env
}

// signals are the properties that a formula reads.
func (w *walk) signals(p *expr.Program) []string {
	var names []string
	for _, slot := range p.Slots() {
		if slot < len(w.properties) {
			names = append(names, w.properties[slot].String())
		}
	}
	return names
}

// limit bounds an argument: its value here; steps and sums over time depend on
// what was before the run.
func (w *walk) limit(s *protocols.Step, v *verdict, a *asked, r *safety.Rule) {
	for _, t := range r.Targets {
		if t.Command != a.target {
			continue
		}
		iv, ok := a.arg(t.Arg).Interval()
		known, _ := w.plan.Known(s)
		val, exact := known[t.Arg]
		switch {
		case exact:
			for _, i := range r.CheckLimit(&lab.Command{Target: a.target, Args: map[string]lab.Value{t.Arg: val}}) {
				if i.Path == "args."+t.Arg {
					w.refuse(s, v, i)
				}
			}
		case !ok || iv.Maybe:
			v.open(r.ID, nil)
		case beyond(iv, r.Limit, false):
			w.refuse(s, v, w.outside(r, t.Arg, a, iv))
		case beyond(iv, r.Limit, true):
			v.open(r.ID, nil)
		}
		if ok && !iv.Maybe {
			w.stride(s, v, a, r, t.Arg, iv)
		}
		if r.Limit.Step != nil || r.Limit.Change != nil || r.Limit.Total != nil {
			v.open(r.ID, nil)
		}
		for _, most := range totals(r.Limit) {
			if ok && !iv.Maybe && iv.Lo > most.Base() {
				w.refuse(s, v, w.outside(r, t.Arg, a, iv))
			}
		}
	}
}

// stride refuses a step that is too large from anything that the plan leaves
// in force.
func (w *walk) stride(s *protocols.Step, v *verdict, a *asked, r *safety.Rule, arg string, to expr.Interval) {
	if r.Limit.Step == nil {
		return
	}
	const digit = 1 + 1e-9 // as in beyond
	for _, f := range r.Formulas() {
		if f.Role != safety.RoleFrom || f.Command != a.target {
			continue
		}
		from, ok := f.Program.NumberOver(w.env(a, a.before))
		if ok && !from.Maybe && max(to.Lo-from.Hi, from.Lo-to.Hi) > r.Limit.Step.Base()*digit {
			u := a.spec.Arg(arg).Type.Unit
			w.refuse(s, v, lab.Issue{Code: "limit", Rule: r.ID, Path: "args." + arg, Got: in(to.Lo, u).String(), Allowed: "a step of at most " + r.Limit.Step.String(),
				Say: fmt.Sprintf("%s: %s is %s, and what is in force is between %s and %s; a step is at most %s", r.ID, arg, in(to.Lo, u), in(from.Lo, u), in(from.Hi, u), r.Limit.Step)})
		}
	}
}

func totals(l safety.Limit) []lab.Quantity {
	if l.Total == nil {
		return nil
	}
	return []lab.Quantity{l.Total.Max}
}

// beyond reports whether every value, or with some any value, is out of bounds.
func beyond(iv expr.Interval, l safety.Limit, some bool) bool {
	low, high := iv.Lo, iv.Hi // the ends nearest to the bounds, of those that must be beyond them
	if some {
		low, high = iv.Hi, iv.Lo
	}
	// What is written as the same number is the same, whatever a conversion of
	// units does to its last digit; the live check compares exactly.
	const digit = 1e-12
	return l.Max != nil && low > l.Max.Base()+digit*math.Abs(l.Max.Base()) || l.Min != nil && high < l.Min.Base()-digit*math.Abs(l.Min.Base())
}

// outside says what the rule itself says of the value that is nearest to it.
func (w *walk) outside(r *safety.Rule, arg string, a *asked, iv expr.Interval) lab.Issue {
	x := iv.Lo
	if r.Limit.Min != nil && iv.Hi < r.Limit.Min.Base() {
		x = iv.Hi
	}
	u := a.spec.Arg(arg).Type.Unit
	val := lab.NumberValue(lab.Quantity{Value: tidy(u.FromBase(x)), Unit: u})
	for _, i := range r.CheckLimit(&lab.Command{Target: a.target, Args: map[string]lab.Value{arg: val}}) {
		if i.Path == "args."+arg {
			return i
		}
	}
	return lab.Issue{Code: "limit", Rule: r.ID, Path: "args." + arg, Got: val.String(), Say: fmt.Sprintf("%s: %s is %s", r.ID, arg, val)}
}

// tidy takes the noise of a conversion off a number that is shown.
func tidy(x float64) float64 {
	if math.Abs(x) < 1e-15 { // intervals are widened by a digit at their ends
		return 0
	}
	if r := math.Round(x*1e9) / 1e9; math.Abs(r-x) <= 1e-12*math.Abs(x) {
		return r
	}
	return x
}

// permissive must hold as the command begins, and, unless it guards only the
// start, while it changes things.
func (w *walk) permissive(s *protocols.Step, v *verdict, a *asked, r *safety.Rule) {
	var programs []*expr.Program
	for _, f := range r.Formulas() {
		if f.Role == safety.RoleRequire && (f.Command == lab.CommandID{} || f.Command == a.target) {
			programs = append(programs, f.Program)
		}
	}
	for _, p := range programs {
		at := p.TruthOver(w.env(a, a.before))
		if at == expr.Always && !r.AtStart {
			at = p.TruthOver(w.env(a, a.during))
		}
		w.held(s, v, a, r.ID, at, p)
	}
}

// held turns the prospect of a condition into a verdict.
func (w *walk) held(s *protocols.Step, v *verdict, a *asked, rule string, at expr.Prospect, p *expr.Program) {
	switch at {
	case expr.Always:
	case expr.Never:
		w.refuse(s, v, lab.Issue{Code: "permissive", Rule: rule, Allowed: p.Source().Text, Say: fmt.Sprintf("%s: %s is false, by what the plan declares to do until then", rule, p.Source().Text)})
	default:
		v.open(rule, w.signals(p))
	}
}

// runLimit is a limit of the run's own protocol.
func (w *walk) runLimit(s *protocols.Step, v *verdict, a *asked, l *protocols.Limit, text string) {
	at := l.Expr.TruthOver(w.filled(a.before))
	if at == expr.Always {
		at = l.Expr.TruthOver(w.filled(a.during))
	}
	if at == expr.Always {
		return
	}
	rule := "limit " + text
	if at == expr.Never {
		w.refuse(s, v, lab.Issue{Code: "permissive", Rule: rule, Allowed: text, Say: fmt.Sprintf("the protocol's own limit %s is false, by what the plan declares to do until then", text)})
		return
	}
	var names []string
	for _, slot := range l.Expr.Slots() {
		if p := w.slots[slot]; p >= 0 {
			names = append(names, w.properties[p].String())
		}
	}
	v.open(rule, names)
}

// budget adds up what the run uses, where the budget is the run's or the
// command's; of one that others use too, only what this command alone uses up
// is known.
func (w *walk) budget(s *protocols.Step, v *verdict, a *asked, r *safety.Rule) {
	lo, hi, ok := w.terms(a, r)
	max := r.Budget.Max.Base()
	over := func() {
		w.refuse(s, v, lab.Issue{Code: "budget", Rule: r.ID, Allowed: "at most " + r.Budget.Max.String(),
			Say: fmt.Sprintf("%s: with this step %s at least would be used; at most %s is allowed", r.ID, in(lo, r.Budget.Max.Unit), r.Budget.Max)})
	}
	switch {
	case !ok:
		v.open(r.ID, nil)
		w.used[r] = expr.Interval{Lo: w.used[r].Lo, Hi: math.Inf(1)}
	case slices.Equal(r.Budget.Per, []safety.Scope{safety.PerCommand}):
		if lo > max {
			over()
		} else if hi > max {
			v.open(r.ID, nil)
		}
	default:
		u := w.used[r]
		u.Lo, u.Hi = u.Lo+lo, u.Hi+hi
		w.used[r] = u
		lo = u.Lo
		if lo > max {
			over()
		} else if u.Hi > max || !slices.Equal(r.Budget.Per, []safety.Scope{safety.PerRun}) {
			v.open(r.ID, nil)
		}
	}
}

func in(base float64, u lab.Unit) lab.Quantity {
	return lab.Quantity{Value: tidy(u.FromBase(base)), Unit: u}
}

// terms is how much a command adds to a budget, in SI base units.
func (w *walk) terms(a *asked, r *safety.Rule) (lo, hi float64, ok bool) {
	env := w.env(a, a.before)
	formulas := map[lab.CommandID]*expr.Program{}
	for _, f := range r.Formulas() {
		if f.Role == safety.RoleTerm {
			formulas[f.Command] = f.Program
		}
	}
	for _, t := range r.Budget.Terms {
		if t.Command != a.target {
			continue
		}
		p := formulas[t.Command]
		if p == nil { // it counts
			lo, hi = lo+1, hi+1
			continue
		}
		iv, known := p.NumberOver(env)
		if !known || iv.Maybe {
			return 0, 0, false
		}
		lo, hi = lo+iv.Lo, hi+iv.Hi
	}
	return lo, hi, true
}

// sequence is proved where the plan itself did what has to be before, and
// nothing since that must not be. What was before the run is not known here.
func (w *walk) sequence(v *verdict, a *asked, r *safety.Rule) {
	after := r.Sequence.After.Command
	proved := after != (lab.CommandID{}) && w.did[after] && r.Sequence.Within == 0
	for _, h := range r.Sequence.NotSince {
		proved = proved && h.Command != (lab.CommandID{}) && !w.since[after][h.Command]
	}
	if !proved {
		v.open(r.ID, nil)
	}
}

// zone depends on what other runs do, and on how long claims last.
func (w *walk) zone(v *verdict, r *safety.Rule) { v.open(r.ID, nil) }

// meetings refuses a parallel whose branches begin with claims of different
// instruments on one zone: whatever the timing, one of them is refused.
func (w *walk) meetings(s *protocols.Step) {
	type claim struct {
		step       *protocols.Step
		instrument string
	}
	zones := map[string]claim{}
	for _, b := range s.Steps {
		first := b
		for len(first.Steps) > 0 && first.Kind != protocols.Do && first.Kind != protocols.Parallel {
			first = first.Steps[0]
		}
		if first.Kind != protocols.Do {
			continue
		}
		target, _, err := w.plan.Command(first.Role, first.Command)
		if err != nil {
			continue
		}
		for _, r := range w.rules.Guards(target) {
			if r.Kind != safety.ZoneRule {
				continue
			}
			have, ok := zones[r.ID]
			if ok && have.instrument != target.Instrument {
				v := w.said[first]
				if v == nil {
					v = &verdict{}
					w.said[first] = v
				}
				w.refuse(first, v, lab.Issue{Code: "zone", Rule: r.ID, Say: fmt.Sprintf("%s: %s claims zone %s at the same time as step %s", r.ID, target, r.Zone, have.step.Path)})
			}
			zones[r.ID] = claim{first, target.Instrument}
		}
	}
}
