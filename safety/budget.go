package safety

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"labgate/lab"
)

// budget is what one budget says of one command.
type budget struct {
	rule  *Rule
	acct  *account
	terms []*Term // of this command
	part  int     // of charge
}

func (e *Engine) loadBudget(s *ruleState) {
	b := s.rule.Budget
	var by scopeSet
	var per time.Duration
	for _, p := range b.Per {
		switch p {
		case PerRun:
			by |= byRun
		case PerCampaign:
			by |= byCampaign
		case PerPrincipal:
			by |= byPrincipal
		case PerDay:
			per = 24 * time.Hour
		case PerCommand:
			if len(b.Per) == 1 {
				by |= byCommand
			}
		}
	}
	key := "budget " + sayScopes(slices.Sorted(slices.Values(b.Per)))
	targets := map[lab.CommandID]*budget{}
	var order []lab.CommandID
	for i := range b.Terms {
		t := &b.Terms[i]
		key += "\x00" + t.Command.String() + "\x00" + t.Text
		if targets[t.Command] == nil {
			targets[t.Command] = &budget{rule: s.rule, part: -1}
			order = append(order, t.Command)
		}
		targets[t.Command].terms = append(targets[t.Command].terms, t)
	}
	acct := e.newAccount(key, b.Max, sumDigits, per, by)
	for _, id := range order {
		x, g := targets[id], e.guards[id]
		if g == nil {
			continue
		}
		x.acct = acct
		if len(x.terms) == 1 && x.terms[0].Arg != "" {
			x.part = partOf(g, x.terms[0].Arg)
		}
		g.add(check{st: s, budget: x})
	}
}

// amount is what a command adds, in grains. An amount below nothing counts by
// its size: that something comes back does not make what was used unused.
func (e *Engine) amount(now time.Time, f *flight, b *budget) (int64, bool) {
	var n sum
	for _, t := range b.terms {
		q := lab.Quantity{Value: 1}
		if t.expr != nil {
			e.loadArgs(f)
			v := t.expr.Value(nil, e.env(now))
			if !v.Usable() || v.Kind != lab.Number && v.Kind != lab.Integer {
				return 0, false
			}
			q = v.Quantity()
		}
		lo, hi, ok := b.acct.grain.of(q)
		if !ok {
			return 0, false
		}
		n.add(max(hi, -lo))
	}
	total := -n.left(0)
	return total, total < mostGrains
}

// checkBudget refuses what would use up more than is left.
func (e *Engine) checkBudget(a *asking, b *budget) {
	n, ok := e.amount(a.now, a.f, b)
	if b.acct.by&byCommand == 0 {
		c := charge{acct: b.acct, n: n, part: b.part}
		if !ok {
			c.n = b.acct.max
		}
		a.f.charges = append(a.f.charges, c)
	}
	w := b.acct.who(a.f)
	left := b.acct.max
	if b.acct.by&byCommand == 0 {
		left = b.acct.left(a.now, w)
	}
	if ok && n <= left {
		return
	}
	g := b.acct.grain
	scopes := sayScopes(b.rule.Budget.Per)
	i := lab.Issue{Code: "budget", Rule: b.rule.ID, Hint: b.rule.About}
	if !ok {
		i.Say = fmt.Sprintf("%s: what it would add is not known", b.rule.ID)
		a.d.refuse(i)
		return
	}
	adds, rest := g.quantity(n), g.quantity(max(left, 0))
	i.Got, i.Allowed, i.Wait = adds.String(), "at most "+rest.String(), b.acct.wait(a.now, w, n)
	i.Say = fmt.Sprintf("%s: %s is asked for, %s of %s %s is left", b.rule.ID, adds, rest, b.acct.bound, scopes)
	if len(b.terms) == 1 && b.terms[0].Arg != "" {
		i.Path = "args." + b.terms[0].Arg
		v := a.f.value(a.f.guard.argument(b.terms[0].Arg))
		if x, ok := g.within(left, *v, true); left > 0 && ok && x.Num > 0 {
			i.Nearest, i.Repairable = &x, true
		}
	}
	a.d.refuse(i)
}

func sayScopes(list []Scope) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = string(s)
	}
	return "per " + strings.Join(words, " and ")
}
