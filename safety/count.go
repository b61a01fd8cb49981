package safety

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"labgate/lab"
)

// count is what commands have used up of one budget, or of one limit over
// time, by what it is counted for.
type count struct{ accounts map[accountKey]*account }

// accountKey is what a sum is of, and for what.
type accountKey struct {
	what string // total, change; empty: a budget
	of   string
}

// account is one sum, in the unit of the rule's bound.
type account struct {
	open []tally // reserved or in doubt: they count in full, however old
	past []tally // of a window, oldest first
	sum  float64 // of what is over, where there is no window
}

// tally is what one command adds.
type tally struct {
	command string
	at      time.Time
	amount  float64
}

// maxTallies bounds the memory of a window. Beyond it the two oldest become
// one, as old as the younger: it counts for longer, never for less long.
const maxTallies = 4096

// slack is what the rounding of sums may make of an amount, of the bound.
const slack = 1e-9

// key is what a rule counts a command for. window is how long it counts; zero:
// for ever.
func (r *Rule) key(cmd *lab.Command, arg string) (key string, window time.Duration) {
	switch {
	case r.Kind == LimitRule && r.Limit.Together:
		return "", 0
	case r.Kind == LimitRule:
		for i := range r.Targets {
			if t := &r.Targets[i]; t.Command == cmd.Target && t.Arg == arg {
				return t.key, 0
			}
		}
		return "", 0
	}
	for _, s := range r.Budget.Per {
		part := ""
		switch s {
		case PerCommand:
			part = cmd.ID
		case PerRun:
			part = cmd.Run
		case PerCampaign:
			part = cmd.Campaign
		case PerPrincipal:
			part = cmd.Principal
		case PerDay:
			window = 24 * time.Hour
			continue
		}
		if key != "" {
			part = fmt.Sprintf("%d %s %s", len(key), key, part) // no two pairs are the same
		}
		key = part
	}
	return key, window
}

func (c *count) account(what, of string) *account {
	if c.accounts == nil {
		c.accounts = map[accountKey]*account{}
	}
	key := accountKey{what, of}
	a := c.accounts[key]
	if a == nil {
		a = &account{}
		c.accounts[key] = a
	}
	return a
}

// total is what counts now, of a window if there is one.
func (a *account) total(now time.Time, window time.Duration) float64 {
	sum := a.sum
	for _, t := range a.open {
		sum += t.amount
	}
	for _, t := range a.past {
		if window == 0 || now.Sub(t.at) < window {
			sum += t.amount
		}
	}
	return sum
}

// frees is when something of a window stops counting; zero: never by itself.
func (a *account) frees(now time.Time, window time.Duration) time.Time {
	for _, t := range a.past {
		if at := t.at.Add(window); at.After(now) {
			return at
		}
	}
	return time.Time{}
}

// used adds what is over.
func (a *account) used(t tally, window time.Duration) {
	if window == 0 {
		a.sum += t.amount
		return
	}
	for len(a.past) > 0 && t.at.Sub(a.past[0].at) >= window {
		a.past = a.past[1:]
	}
	if len(a.past) >= maxTallies {
		a.past[1].amount += a.past[0].amount
		a.past = a.past[1:]
	}
	a.past = append(a.past, t)
}

// amount is what a term makes of a command, in the unit of the budget's max.
func (e *Engine) amount(now time.Time, r *Rule, t *Term, args []lab.Reading) (float64, bool) {
	if t.expr == nil {
		return 1, true
	}
	e.loadArgs(args)
	env := e.env(now)
	q := t.expr.Value(nil, env)
	if !q.Usable() {
		return 0, false
	}
	x, err := q.Quantity().In(r.Budget.Max.Unit)
	return x.Value, err == nil && x.Finite()
}

// checkBudget refuses what would use up more than is left. A command that adds
// less than nothing adds nothing.
func (e *Engine) checkBudget(now time.Time, r *Rule, o *outstanding, d *Decision) {
	add, ok := 0.0, true
	var only *Term
	terms := 0
	for i := range r.Budget.Terms {
		t := &r.Budget.Terms[i]
		if t.Command != o.cmd.Target {
			continue
		}
		x, known := e.amount(now, r, t, e.asked)
		add, ok, only, terms = add+max(0, x), ok && known, t, terms+1
	}
	key, window := r.key(o.cmd, "")
	acct := e.state[r.n].count.account("", key)
	used := acct.total(now, window)
	most := r.Budget.Max.Value
	if ok && used+add <= most+slack*math.Abs(most) {
		return
	}
	left := max(0, most-used)
	unit := r.Budget.Max.Unit
	i := lab.Issue{Code: "budget", Rule: r.ID, Got: round(lab.Quantity{Value: add, Unit: unit}).String(), Allowed: "at most " + round(lab.Quantity{Value: left, Unit: unit}).String(),
		Say: fmt.Sprintf("%s: %s would bring it to %s; at most %s %s is allowed", r.ID, round(lab.Quantity{Value: add, Unit: unit}), round(lab.Quantity{Value: used + add, Unit: unit}), r.Budget.Max, sayScopes(r.Budget.Per))}
	if !ok {
		i.Say = fmt.Sprintf("%s: what it would add is not known", r.ID)
	}
	if len(acct.open) > 0 {
		i.Wait = "commands under way or in doubt count in full until they are over"
	} else if at := acct.frees(now, window); window > 0 && !at.IsZero() {
		i.Wait = "some of it is free again at " + at.UTC().Format(time.RFC3339)
	}
	if ok && terms == 1 && only.Arg != "" && left > 0 {
		i.Path = "args." + only.Arg
		if v, good := below(o.cmd.Args[only.Arg], left, unit); good {
			i.Nearest, i.Repairable = &v, true
		}
	}
	d.refuse(i)
}

// below is the value of an argument that uses up what is left, and no more.
func below(v lab.Value, left float64, unit lab.Unit) (lab.Value, bool) {
	q, err := lab.Quantity{Value: left, Unit: unit}.In(v.Unit)
	if err != nil || v.Kind != lab.Number && v.Kind != lab.Integer {
		return lab.Value{}, false
	}
	if v.Kind == lab.Integer {
		n := math.Floor(q.Value + slack)
		return lab.IntegerValue(int64(n)), n >= 1 && n < 1<<53
	}
	r := round(q)
	if r.Value > q.Value*(1+slack) {
		r.Value = q.Value
	}
	return lab.NumberValue(r), r.Value > 0
}

// round takes the noise of sums off a quantity that is shown.
func round(q lab.Quantity) lab.Quantity {
	if q.Value == 0 {
		return q
	}
	scale := math.Pow(10, 9-math.Ceil(math.Log10(math.Abs(q.Value))))
	if x := math.Round(q.Value*scale) / scale; !math.IsNaN(x) && !math.IsInf(x, 0) {
		q.Value = x
	}
	return q
}

func sayScopes(list []Scope) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = string(s)
	}
	return "per " + strings.Join(words, " and ")
}

// checkMoves asks what a limit says of steps and of sums over time.
func (e *Engine) checkMoves(now time.Time, r *Rule, cmd *lab.Command, d *Decision, until *time.Time) {
	l := &r.Limit
	if l.Step == nil && l.Change == nil && l.Total == nil {
		return
	}
	for i := range r.Targets {
		t := &r.Targets[i]
		if t.Command != cmd.Target {
			continue
		}
		v := cmd.Args[t.Arg]
		if !v.Usable() {
			continue // checkLimit has refused it
		}
		if l.Total != nil {
			e.checkSum(now, r, cmd, t, v, v.Quantity(), l.Total, "total", d)
		}
		if t.from == nil {
			continue
		}
		e.live(now, t.from, until)
		low, high, ok := e.inForce(now, t, cmd)
		if !ok {
			used := e.used(now, t.from)
			d.refuse(lab.Issue{Code: "limit", Rule: r.ID, Path: "args." + t.Arg, Inputs: used, Wait: "its input may become known",
				Say: fmt.Sprintf("%s: a step of %s can't be judged: %s is unknown%s", r.ID, t.Arg, t.from.Source().Text, sayUsed(used))})
			continue
		}
		x := v.Base()
		dist := lab.Quantity{Value: difference(v.Unit).FromBase(max(math.Abs(x-low), math.Abs(x-high))), Unit: difference(v.Unit)}
		e.checkStep(now, r, t, v, dist, low, high, d)
		if l.Change != nil {
			e.checkSum(now, r, cmd, t, v, dist, l.Change, "change", d)
		}
	}
}

// inForce is the range of what an argument sets now, in SI base units: the
// reading, and what commands under way or in doubt may have set.
func (e *Engine) inForce(now time.Time, t *Target, cmd *lab.Command) (low, high float64, ok bool) {
	env := e.env(now)
	v := t.from.Value(nil, env)
	if !v.Usable() {
		return 0, 0, false
	}
	low, high = v.Base(), v.Base()
	also := func(c *lab.Command) {
		if x, given := c.Args[t.Arg]; c.Target == cmd.Target && given && x.Usable() {
			low, high = min(low, x.Base()), max(high, x.Base())
		}
	}
	for _, o := range e.out {
		also(o.cmd)
	}
	for _, c := range e.doubts {
		also(c)
	}
	return low, high, true
}

func (e *Engine) checkStep(now time.Time, r *Rule, t *Target, v lab.Value, dist lab.Quantity, low, high float64, d *Decision) {
	if r.Limit.Step == nil {
		return
	}
	most, err := r.Limit.Step.In(dist.Unit)
	if err == nil && dist.Value <= most.Value+slack*math.Abs(most.Value) {
		return
	}
	i := lab.Issue{Code: "limit", Rule: r.ID, Path: "args." + t.Arg, Got: v.String(), Allowed: "a step of at most " + r.Limit.Step.String(), Inputs: e.used(now, t.from),
		Say: fmt.Sprintf("%s: %s is %s, a step of %s; at most %s is allowed", r.ID, t.Arg, v, round(dist), r.Limit.Step)}
	// The nearest legal value: a step from the end that is farther away, towards
	// what was asked for.
	step := r.Limit.Step.Unit.ToBase(r.Limit.Step.Value)
	near := min(v.Base(), low+step)
	if v.Base() < low {
		near = max(v.Base(), high-step)
	}
	if err == nil && near >= high-step*(1+slack) && near <= low+step*(1+slack) && v.Kind == lab.Number {
		n := lab.NumberValue(round(lab.Quantity{Value: v.Unit.FromBase(near), Unit: v.Unit}))
		i.Nearest, i.Repairable = &n, true
	}
	d.refuse(i)
}

// checkSum refuses what would bring a sum over a window above its bound.
func (e *Engine) checkSum(now time.Time, r *Rule, cmd *lab.Command, t *Target, v lab.Value, add lab.Quantity, w *Window, what string, d *Decision) {
	x, err := add.In(w.Max.Unit)
	key, _ := r.key(cmd, t.Arg)
	acct := e.state[r.n].count.account(what, key)
	used := acct.total(now, w.Per)
	if err == nil && used+max(0, x.Value) <= w.Max.Value+slack*math.Abs(w.Max.Value) {
		return
	}
	left := round(lab.Quantity{Value: max(0, w.Max.Value-used), Unit: w.Max.Unit})
	i := lab.Issue{Code: "limit", Rule: r.ID, Path: "args." + t.Arg, Got: v.String(), Allowed: fmt.Sprintf("at most %s more within %s", left, lab.Seconds(w.Per)),
		Say: fmt.Sprintf("%s: %s is %s, which would bring the %s within %s to %s; at most %s is allowed", r.ID, t.Arg, v, what, lab.Seconds(w.Per), round(lab.Quantity{Value: used + x.Value, Unit: w.Max.Unit}), w.Max)}
	if at := acct.frees(now, w.Per); !at.IsZero() {
		i.Wait = "some of it is free again at " + at.UTC().Format(time.RFC3339)
	} else if len(acct.open) > 0 {
		i.Wait = "commands under way or in doubt count in full until they are over"
	}
	if what == "total" {
		if n, ok := below(v, left.Value, left.Unit); ok {
			i.Nearest, i.Repairable = &n, true
		}
	}
	d.refuse(i)
}

// take reserves what a command adds.
func (e *Engine) take(now time.Time, r *Rule, cmd *lab.Command, args []lab.Reading, live bool) {
	c := e.state[r.n].count
	if c == nil {
		return
	}
	if r.Kind == BudgetRule {
		sum := 0.0
		for i := range r.Budget.Terms {
			if t := &r.Budget.Terms[i]; t.Command == cmd.Target {
				x, ok := e.amount(now, r, t, args)
				if !ok { // restored, under rules that have changed: it counts for all there is
					x = r.Budget.Max.Value
				}
				sum += max(0, x)
			}
		}
		key, _ := r.key(cmd, "")
		a := c.account("", key)
		a.open = append(a.open, tally{cmd.ID, now, sum})
		return
	}
	for i := range r.Targets {
		t := &r.Targets[i]
		v, ok := cmd.Args[t.Arg]
		if t.Command != cmd.Target || !ok || !v.Usable() {
			continue
		}
		key, _ := r.key(cmd, t.Arg)
		if w := r.Limit.Total; w != nil {
			if x, err := v.Quantity().In(w.Max.Unit); err == nil {
				a := c.account("total", key)
				a.open = append(a.open, tally{cmd.ID, now, max(0, x.Value)})
			}
		}
		if w := r.Limit.Change; w != nil && t.from != nil {
			x := w.Max.Value // restored: what it was a step from is not known any more
			if low, high, ok := e.inForce(now, t, cmd); live && ok {
				u := difference(v.Unit)
				if q, err := (lab.Quantity{Value: u.FromBase(max(math.Abs(v.Base()-low), math.Abs(v.Base()-high))), Unit: u}).In(w.Max.Unit); err == nil {
					x = q.Value
				}
			}
			a := c.account("change", key)
			a.open = append(a.open, tally{cmd.ID, now, x})
		}
	}
}

// spent turns a reservation into what was used.
func (e *Engine) spent(now time.Time, r *Rule, cmd *lab.Command, end End, part *lab.Quantity) {
	c := e.state[r.n].count
	if c == nil {
		return
	}
	settle := func(what, of string, window time.Duration, arg string) {
		a := c.accounts[accountKey{what, of}]
		if a == nil {
			return
		}
		i := slices.IndexFunc(a.open, func(t tally) bool { return t.command == cmd.ID })
		if i < 0 {
			return
		}
		t := a.open[i]
		a.open = slices.Delete(a.open, i, i+1)
		if end == NothingDone {
			return
		}
		if end == PartDone && part != nil && arg != "" {
			if whole := cmd.Args[arg].Base(); part.Unit.Dim() == cmd.Args[arg].Unit.Dim() && whole > 0 {
				t.amount *= min(1, max(0, part.Base()/whole))
			}
		}
		if now.After(t.at) {
			t.at = now
		}
		a.used(t, window)
	}
	if r.Kind == BudgetRule {
		arg := ""
		for _, t := range r.Budget.Terms {
			if t.Command == cmd.Target {
				arg = t.Arg
			}
		}
		key, window := r.key(cmd, "")
		settle("", key, window, arg)
		if len(r.Budget.Per) == 1 && r.Budget.Per[0] == PerCommand {
			delete(c.accounts, accountKey{"", key})
		}
		return
	}
	for _, t := range r.Targets {
		if t.Command != cmd.Target {
			continue
		}
		key, _ := r.key(cmd, t.Arg)
		if w := r.Limit.Total; w != nil {
			settle("total", key, w.Per, t.Arg)
		}
		if w := r.Limit.Change; w != nil {
			settle("change", key, w.Per, "")
		}
	}
}
