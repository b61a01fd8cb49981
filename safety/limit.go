package safety

import (
	"fmt"
	"math"
	"slices"
	"time"

	"labgate/lab"
)

// limits is what one limit rule says of one command.
type limits struct {
	rule   *Rule
	bounds []bound // one for each argument that it bounds
}

// bound is what it says of one argument.
type bound struct {
	name    string
	arg     int       // place in the guard's list
	step    *distance // nil: none
	setting *setting  // of steps and changes
	change  *account
	total   *account
	part    int
}

// distance is a bound of a distance between two values.
type distance struct {
	grain grain
	max   int64
}

func (e *Engine) loadLimit(s *ruleState) {
	r := s.rule
	var order []lab.CommandID
	of := map[lab.CommandID]*limits{}
	for i := range r.Targets {
		t := &r.Targets[i]
		g := e.guards[t.Command]
		if g == nil {
			continue
		}
		if of[t.Command] == nil {
			of[t.Command] = &limits{rule: r}
			order = append(order, t.Command)
		}
		of[t.Command].bounds = append(of[t.Command].bounds, e.newBound(r, t, g))
	}
	for _, id := range order {
		e.guards[id].add(check{st: s, limits: of[id]})
	}
}

func (e *Engine) newBound(r *Rule, t *Target, g *guard) bound {
	b := bound{name: t.Arg, arg: g.argument(t.Arg), part: partOf(g, t.Arg)}
	if t.from != nil && (r.Limit.Step != nil || r.Limit.Change != nil) {
		b.setting = e.settingOf(t, g)
	}
	if q := r.Limit.Step; q != nil {
		d := plainDistance(*q)
		b.step = &distance{grain: grainOf(d, distanceDigits)}
		b.step.max, _, _ = b.step.grain.of(d)
	}
	if w := r.Limit.Change; w != nil {
		b.change = e.windowAccount("change", r, t, plainDistance(w.Max), distanceDigits, w.Per)
	}
	if w := r.Limit.Total; w != nil {
		b.total = e.windowAccount("total", r, t, w.Max, sumDigits, w.Per)
	}
	return b
}

// plainDistance gives a difference of temperatures in kelvin, whose numbers are
// those of degC.
func plainDistance(q lab.Quantity) lab.Quantity {
	if q.Unit.Dim() == lab.TempDiff {
		if k, err := q.In(kelvin); err == nil {
			return k
		}
	}
	return q
}

// windowAccount makes the account of a target, or finds the one that the
// targets of a rule share.
func (e *Engine) windowAccount(what string, r *Rule, t *Target, max lab.Quantity, digits int, per time.Duration) *account {
	key := fmt.Sprintf("%s per %s", what, per)
	if !r.Limit.Together {
		key += "\x00" + t.Command.String() + "." + t.Arg
	} else {
		for _, x := range r.Targets {
			key += "\x00" + x.Command.String() + "." + x.Arg
		}
		for _, a := range e.accounts { // of this rule, so far
			if a.key == key+"\x00"+r.ID {
				return a
			}
		}
		key += "\x00" + r.ID
	}
	return e.newAccount(key, max, digits, per, 0)
}

// checkLimits asks everything that a limit says of a command, and lets what it
// counts be charged.
func (e *Engine) checkLimits(a *asking, l *limits) {
	known := true
	for i := range l.bounds {
		b := &l.bounds[i]
		if b.setting == nil {
			continue
		}
		_, stale := e.nextLook(a.now, b.setting.prog, b.setting.windows)
		a.ends(stale)
		a.d.programs = append(a.d.programs, b.setting.prog)
	}
	for i := range l.bounds {
		known = e.judge(a, l, i, nil, nil) && known
	}
	e.chargeLimits(a.now, a.f, l, true)
	if known {
		return
	}
	for i := range l.bounds {
		first := len(a.d.Refusals)
		e.judge(a, l, i, nil, &a.d.Refusals)
		e.suggest(a, l, i, a.d.Refusals[first:])
	}
}

// suggest keeps the nearest value that the whole rule allows, if any of those
// that its parts name is one.
func (e *Engine) suggest(a *asking, l *limits, i int, is lab.Issues) {
	var found *lab.Value
	for k := range is {
		if n := is[k].Nearest; n != nil && found == nil && e.judge(a, l, i, n, nil) {
			found = n
		}
	}
	for k := range is {
		is[k].Nearest, is[k].Repairable = found, found != nil
	}
}

// judge asks what a limit says of one argument, with another value in its place
// where one is given. With tell it adds every reason; else the first is enough.
func (e *Engine) judge(a *asking, l *limits, i int, instead *lab.Value, tell *lab.Issues) bool {
	b := &l.bounds[i]
	v := a.f.value(b.arg)
	if instead != nil {
		v = instead
	}
	if !v.Usable() || v.Kind != lab.Number && v.Kind != lab.Integer {
		if tell != nil {
			*tell = append(*tell, lab.Issue{Code: "limit", Rule: l.rule.ID, Path: "args." + b.name, Got: v.String(), Say: fmt.Sprintf("%s: %s is %s, not a number", l.rule.ID, b.name, v)})
		}
		return false
	}
	ok := l.rule.judgeValue(b.name, v, tell)
	if !ok && tell == nil {
		return false
	}
	if b.setting != nil || b.step != nil || b.change != nil {
		if ok = e.judgeMove(a, l, i, v, tell) && ok; !ok && tell == nil {
			return false
		}
	}
	if b.total != nil {
		n, good := e.addsTotal(a.f, l, i, v)
		ok = e.judgeSum(a, l, b, b.total, n, good, v, "total", tell) && ok
	}
	return ok
}

// judgeValue compares with min and max, in the value's own unit, where equal
// amounts are equal.
func (r *Rule) judgeValue(name string, v *lab.Value, tell *lab.Issues) bool {
	ok := true
	if b := r.Limit.Max; b != nil {
		if q, err := b.In(v.Unit); err != nil || v.Num > q.Value {
			ok = false
			r.tellValue(name, v, b, q, err, "at most", math.Floor, tell)
		}
	}
	if b := r.Limit.Min; b != nil {
		if q, err := b.In(v.Unit); err != nil || v.Num < q.Value {
			ok = false
			r.tellValue(name, v, b, q, err, "at least", math.Ceil, tell)
		}
	}
	return ok
}

func (r *Rule) tellValue(name string, v *lab.Value, b *lab.Quantity, q lab.Quantity, err error, word string, inwards func(float64) float64, tell *lab.Issues) {
	if tell == nil {
		return
	}
	i := lab.Issue{Code: "limit", Rule: r.ID, Path: "args." + name, Got: v.String(), Allowed: word + " " + b.String(),
		Say: fmt.Sprintf("%s: %s is %s; %s %s is allowed", r.ID, name, v, word, b)}
	if err == nil {
		n := lab.NumberValue(q)
		if v.Kind == lab.Integer {
			n = lab.Value{Kind: lab.Integer, Num: inwards(q.Value)}
		}
		if r.judgeValue(name, &n, nil) && math.Abs(n.Num) <= 1<<53 {
			i.Nearest, i.Repairable = &n, true
		}
	}
	*tell = append(*tell, i)
}

// judgeMove asks how far a value is from what is in force.
func (e *Engine) judgeMove(a *asking, l *limits, i int, v *lab.Value, tell *lab.Issues) bool {
	b := &l.bounds[i]
	refuse := func(is lab.Issue) {
		is.Code, is.Rule, is.Path, is.Got = "limit", l.rule.ID, "args."+b.name, v.String()
		*tell = append(*tell, is)
	}
	if b.setting == nil {
		if tell != nil {
			refuse(lab.Issue{Say: fmt.Sprintf("%s: nothing says what is in force", l.rule.ID)})
		}
		return false
	}
	ok := true
	if b.step != nil {
		at, why := e.inForce(a.now, b.setting, b.step.grain, a.f)
		n, known := at.from(v)
		switch {
		case why != "" || !known:
			if ok = false; tell != nil {
				refuse(e.unknownMove(a.now, l, b, why))
			}
			return false
		case n > b.step.max:
			if ok = false; tell != nil {
				is := lab.Issue{Allowed: "a step of at most " + l.rule.Limit.Step.String(), Inputs: e.used(a.now, b.setting.prog), Hint: l.rule.About,
					Say: fmt.Sprintf("%s: %s is %s, a step of %s; at most %s is allowed", l.rule.ID, b.name, v, b.step.grain.quantity(n), l.rule.Limit.Step)}
				is.Nearest = at.nearest(v, b.step.max)
				refuse(is)
			}
		}
	}
	if b.change != nil {
		at, why := e.inForce(a.now, b.setting, b.change.grain, a.f)
		n, known := at.from(v)
		if why != "" || !known {
			if tell != nil {
				refuse(e.unknownMove(a.now, l, b, why))
			}
			return false
		}
		ok = e.judgeSum(a, l, b, b.change, n+e.othersMove(a, l, i), true, v, "change", tell) && ok
		if !ok && tell != nil && len(*tell) > 0 {
			left := b.change.left(a.now, b.change.who(a.f)) - e.othersMove(a, l, i)
			if last := &(*tell)[len(*tell)-1]; left >= 0 && last.Nearest == nil {
				last.Nearest = at.nearest(v, left)
			}
		}
	}
	return ok
}

// othersMove is what other arguments of the same command add to a change that
// they share.
func (e *Engine) othersMove(a *asking, l *limits, i int) (n int64) {
	for k := range l.bounds {
		if o := &l.bounds[k]; k != i && o.change == l.bounds[i].change && o.setting != nil {
			at, why := e.inForce(a.now, o.setting, o.change.grain, a.f)
			if x, ok := at.from(a.f.value(o.arg)); ok && why == "" {
				n += min(x, mostGrains>>8)
			}
		}
	}
	return n
}

func (e *Engine) unknownMove(now time.Time, l *limits, b *bound, why string) lab.Issue {
	used := e.used(now, b.setting.prog)
	if why == "" {
		why = b.name + " can't be compared with it"
	}
	return lab.Issue{Inputs: used, Wait: "what is in force may become known", Hint: l.rule.About,
		Say: fmt.Sprintf("%s: a step of %s can't be judged: %s%s", l.rule.ID, b.name, why, sayUsed(used))}
}

// addsTotal is what an argument adds to a total, with the others of the command
// that share it. What is below nothing counts by its size.
func (e *Engine) addsTotal(f *flight, l *limits, i int, v *lab.Value) (int64, bool) {
	acct := l.bounds[i].total
	size := func(v *lab.Value) (int64, bool) {
		if v.Kind != lab.Number && v.Kind != lab.Integer {
			return 0, false
		}
		lo, hi, ok := acct.grain.of(v.Quantity())
		return max(hi, -lo), ok
	}
	n, ok := size(v)
	for k := range l.bounds {
		if k != i && l.bounds[k].total == acct {
			x, good := size(f.value(l.bounds[k].arg))
			n, ok = n+min(x, mostGrains>>8), ok && good
		}
	}
	return n, ok
}

// judgeSum asks whether an amount fits into what is left of a window.
func (e *Engine) judgeSum(a *asking, l *limits, b *bound, acct *account, n int64, known bool, v *lab.Value, what string, tell *lab.Issues) bool {
	w := acct.who(a.f)
	left := acct.left(a.now, w)
	if known && n <= left {
		return true
	}
	if tell == nil {
		return false
	}
	rest := acct.grain.quantity(max(left, 0))
	i := lab.Issue{Code: "limit", Rule: l.rule.ID, Path: "args." + b.name, Got: v.String(), Hint: l.rule.About,
		Allowed: fmt.Sprintf("at most %s more within %s", rest, lab.Seconds(acct.per)), Wait: acct.wait(a.now, w, n),
		Say: fmt.Sprintf("%s: %s is %s, a %s of %s; of %s within %s %s is left", l.rule.ID, b.name, v, what, acct.grain.quantity(n), acct.bound, lab.Seconds(acct.per), rest)}
	if what == "total" && known && left > 0 {
		own, _, _ := acct.grain.of(v.Quantity())
		if x, ok := acct.grain.within(left-(n-max(own, -own)), *v, true); ok && x.Num > 0 {
			i.Nearest, i.Repairable = &x, true
		}
	}
	*tell = append(*tell, i)
	return false
}

// chargeLimits lets a command count for the sums over time. What can't be known
// any more, of a command that is restored, counts as all there is.
func (e *Engine) chargeLimits(now time.Time, f *flight, l *limits, live bool) {
	for i := range l.bounds {
		b := &l.bounds[i]
		if b.total != nil && !slices.ContainsFunc(l.bounds[:i], func(o bound) bool { return o.total == b.total }) {
			n, ok := e.addsTotal(f, l, i, f.value(b.arg))
			c := charge{acct: b.total, n: n, part: b.part}
			if shared := slices.ContainsFunc(l.bounds[i+1:], func(o bound) bool { return o.total == b.total }); shared {
				c.part = -1
			}
			if !ok {
				c.n = b.total.max
			}
			f.charges = append(f.charges, c)
		}
		if b.change != nil {
			c := charge{acct: b.change, n: b.change.max, part: -1}
			if n, ok := e.moves(now, f, b, live); ok {
				c.n = n
			}
			f.charges = append(f.charges, c)
		}
	}
}

// moves is the distance that a command counts for.
func (e *Engine) moves(now time.Time, f *flight, b *bound, live bool) (int64, bool) {
	if b.setting == nil {
		return 0, false
	}
	at, why := e.inForce(now, b.setting, b.change.grain, f)
	if why != "" && !live { // at the restore nothing is read yet
		at, why = b.setting.before(b.change.grain)
	}
	n, ok := at.from(f.value(b.arg))
	return n, ok && why == ""
}

// CheckLimit asks what a limit says of a command's values, which needs no
// reading: what can be said before anything runs.
func (r *Rule) CheckLimit(cmd *lab.Command) lab.Issues {
	var is lab.Issues
	if r.Kind != LimitRule {
		return nil
	}
	for _, t := range r.Targets {
		if t.Command != cmd.Target {
			continue
		}
		v := cmd.Args[t.Arg]
		if !v.Usable() || v.Kind != lab.Number && v.Kind != lab.Integer {
			is = append(is, lab.Issue{Code: "limit", Rule: r.ID, Path: "args." + t.Arg, Got: v.String(), Say: fmt.Sprintf("%s: %s is %s, not a number", r.ID, t.Arg, v)})
			continue
		}
		r.judgeValue(t.Arg, &v, &is)
	}
	return is
}
