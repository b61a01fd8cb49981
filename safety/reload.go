package safety

import (
	"time"

	"labgate/lab"
)

// Reload puts other rules for the same lab in force, in one act. Readings and
// latches stay, also those of rules that are gone; permits that are not spent
// are taken back; commands under way are held to the new permissives; what is
// under way or in doubt counts in the new rules, and so does what the same
// rule has counted before. Bypasses go on where the new rules allow them.
func (e *Engine) Reload(now time.Time, rules *Rules) []Event {
	e.see(now)
	old := *e
	e.load(rules)
	copy(e.slots[:len(rules.properties)], old.slots[:len(old.rules.properties)])
	for _, l := range e.latches {
		e.setGroup(l.Group, true, l.Since)
	}
	e.keep(&old)
	e.bypassed = map[string]Bypass{}
	for _, b := range old.Bypasses() {
		if len(e.bypassed) < rules.Bypasses {
			e.RestoreBypass(b)
		}
	}
	e.scoped = map[string][]*scoped{}
	for run, list := range old.scoped {
		var texts []string
		for _, s := range list {
			texts = append(texts, s.rule.expr.Source().Text)
		}
		_ = e.Scope(run, texts) // they were compiled for the same lab before
	}
	var events []Event
	const why = "the rules have changed"
	for _, o := range e.out {
		if e.RevokeFresh(o.cmd.ID, why); o.permit.revoked() {
			events = append(events, &Lost{Command: o.cmd.ID, Rule: "rules", Say: why})
		}
		e.hold(now, o)
		e.reserve(now, o.cmd, o.args, false)
	}
	for _, cmd := range e.doubts {
		e.reserve(now, cmd, e.argReadings(now, cmd, nil), false)
	}
	return append(events, e.Tick(now)...)
}

// hold puts a command under way under the new permissives.
func (e *Engine) hold(now time.Time, o *outstanding) {
	o.args, o.held = e.argReadings(now, o.cmd, nil), nil
	for _, r := range e.rules.byCommand[o.cmd.Target] {
		if r.Kind != PermissiveRule || r.AtStart {
			continue
		}
		p := r.expr
		for i := range r.Targets {
			if t := &r.Targets[i]; t.own != nil && t.Command == o.cmd.Target {
				p = t.own
			}
		}
		o.held = append(o.held, heldRule{rule: r, program: p, windows: e.state[r.n].memory, next: now})
	}
	for _, s := range e.scoped[o.cmd.Run] {
		o.held = append(o.held, heldRule{rule: s.rule, program: s.rule.expr, windows: s.windows, next: now})
	}
}

// keep takes over what the rules of before have counted and seen, for those
// that have the same id and kind now. Where the bound's unit is another kind of
// thing, it begins anew.
func (e *Engine) keep(old *Engine) {
	for _, r := range e.rules.Rules {
		was := old.rules.Find(r.ID)
		if was == nil || was.Kind != r.Kind {
			continue
		}
		switch r.Kind {
		case BudgetRule:
			if was.Budget.Max.Unit.Dim() == r.Budget.Max.Unit.Dim() && sayScopes(was.Budget.Per) == sayScopes(r.Budget.Per) {
				e.state[r.n].count.takeOver(old.state[was.n].count, was.Budget.Max.Unit, r.Budget.Max.Unit)
			}
		case LimitRule:
			a, b := boundUnit(was), boundUnit(r)
			if e.state[r.n].count != nil && old.state[was.n].count != nil && a.Dim() == b.Dim() {
				e.state[r.n].count.takeOver(old.state[was.n].count, a, b)
			}
		case SequenceRule:
			e.keepOrder(r, old, was)
		case ZoneRule:
			for _, h := range old.state[was.n].zone {
				if c := r.claimOf(h.claim.Command); c != nil && h.over {
					e.state[r.n].zone = append(e.state[r.n].zone, holding{c, h.command, h.instrument, h.run, true})
				}
			}
		}
	}
}

func boundUnit(r *Rule) lab.Unit {
	switch {
	case r.Limit.Total != nil:
		return r.Limit.Total.Max.Unit
	case r.Limit.Change != nil:
		return r.Limit.Change.Max.Unit
	}
	return lab.One
}

// takeOver copies what is over; what is open is reserved anew.
func (c *count) takeOver(old *count, from, to lab.Unit) {
	conv := func(x float64) float64 {
		q, err := lab.Quantity{Value: x, Unit: from}.In(to)
		if err != nil {
			return x
		}
		return q.Value
	}
	for key, a := range old.accounts {
		n := c.account(key.what, key.of)
		n.sum = conv(a.sum)
		for _, t := range a.past {
			t.amount = conv(t.amount)
			n.past = append(n.past, t)
		}
	}
}

func (e *Engine) keepOrder(r *Rule, old *Engine, was *Rule) {
	if r.Sequence.After.Text != was.Sequence.After.Text {
		return
	}
	for _, o := range e.orders {
		for _, x := range old.orders {
			if o.rule == r && x.rule == was {
				o.after, o.marks = x.after, x.marks
			}
		}
	}
}
