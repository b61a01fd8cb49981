package safety

import (
	"strings"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/lab/expr"
)

// written is a quantity of a rule, where it could be read.
type written struct {
	node *strict.Node
	q    *lab.Quantity
}

// amount reads a quantity of at least zero, or with negative any.
func (p *parser) amount(n *strict.Node, negative bool) written {
	before := len(p.d.Issues)
	q := p.d.Quantity(n)
	if n == nil || len(p.d.Issues) > before {
		return written{}
	}
	if !negative && q.Value < 0 {
		p.add(n.Pos(), "out_of_bounds", "", "%s is less than nothing", q)
		return written{}
	}
	return written{n, &q}
}

func (p *parser) limit(f *strict.Fields, r *Rule) {
	n := f.Get("limit")
	low, high, step := p.amount(f.Get("min"), true), p.amount(f.Get("max"), true), p.amount(f.Get("step"), false)
	change, total := f.Get("change"), f.Get("total")
	r.Limit = Limit{Min: low.q, Max: high.q, Step: step.q, Change: p.window(change), Total: p.window(total), Together: p.d.Bool(f.Get("together"))}
	seen := map[string]bool{}
	for _, x := range p.names(n) {
		id, spec, arg := p.argument(x)
		if arg == nil {
			continue
		}
		t := Target{Command: id, Arg: arg.Name, key: id.String() + "." + arg.Name}
		if seen[t.key] {
			p.add(x.at, "duplicate", "", "%s stands there twice", t.key)
			continue
		}
		seen[t.key] = true
		unit := arg.Type.Unit
		p.sameDim(low, unit, arg.Name, id)
		p.sameDim(high, unit, arg.Name, id)
		if w := r.Limit.Total; w != nil {
			if unit.Dim() == lab.Temperature {
				p.add(total.Pos(), "wrong_dimension", "change: bounds how far it moves", "temperatures don't add up: %s of %s has no total", arg.Name, id)
			} else {
				p.sameDim(written{total, &w.Max}, unit, arg.Name, id)
			}
		}
		if step.q != nil || r.Limit.Change != nil {
			diff := difference(unit)
			p.sameDim(step, diff, "a step of "+arg.Name, id)
			if w := r.Limit.Change; w != nil {
				p.sameDim(written{change, &w.Max}, diff, "a change of "+arg.Name, id)
			}
			t.from = p.inForce(f, x, id, spec, arg)
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
		p.add(f.KeyPos("from"), "unknown_key", "leave it out", "from is for a limit with step or change")
	}
	if has("together") && !has("change") && !has("total") {
		p.add(f.KeyPos("together"), "unknown_key", "leave it out", "together is for a limit with change or total")
	}
}

// sameDim reports a bound of another dimension than what it bounds, once.
func (p *parser) sameDim(b written, want lab.Unit, what string, id lab.CommandID) {
	switch {
	case b.node == nil || b.q == nil || b.q.Unit.Dim() == want.Dim():
	case b.q.Unit == lab.One:
		p.add(b.node.Pos(), "no_unit", "write "+lab.Quantity{Value: b.q.Value, Unit: want}.String()+", if that is what you mean", "%s has no unit; %s of %s is a %s", b.q, what, id, want.Dim())
	default:
		p.add(b.node.Pos(), "wrong_dimension", "", "%s is a %s, %s of %s is a %s", b.q, b.q.Unit.Dim(), what, id, want.Dim())
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
func (p *parser) inForce(f *strict.Fields, x piece, id lab.CommandID, spec *lab.CommandSpec, arg *lab.Param) *expr.Program {
	src := lab.Source{Pos: x.at}
	if from := f.Get("from"); from != nil {
		all, ok := p.whole(from)
		if !ok {
			return nil // reported
		}
		src = lab.Source{Text: all.text, Pos: all.at}
	} else {
		for _, ch := range spec.Changes {
			if ch.To.Text == arg.Name && !ch.Add {
				src.Text = lab.PropertyID{Instrument: id.Instrument, Component: id.Component, Property: ch.Property}.String()
			}
		}
	}
	if src.Text == "" {
		p.add(x.at, "missing_key", "from: the property that it changes", "nothing says which property %s of %s sets: a step is the distance from that", arg.Name, id)
		return nil
	}
	prog, err := expr.Compile(src, ruleScope{rules: p.rules, self: p.selfOf(id)})
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

// selfOf is what self stands for beside a command: the rule's own component
// where it has for, else the command's.
func (p *parser) selfOf(id lab.CommandID) string {
	if p.self != "" {
		return p.self
	}
	return id.Instrument + "." + id.Component
}

// window reads "40 K per 10 min"; nil where there is none, or it was reported.
func (p *parser) window(n *strict.Node) *Window {
	all, ok := p.whole(n)
	if !ok {
		return nil
	}
	amount, per, ok := strings.Cut(all.text, " per ")
	q, err := lab.ParseQuantity(amount)
	t, err2 := lab.ParseQuantity(per)
	d, err3 := t.Duration()
	at := place(n, min(len(amount)+len(" per "), len(n.Text())))
	switch {
	case err != nil:
		p.add(all.at, "bad_value", "as in 40 K per 10 min", "%q is no amount per time: %v", all.text, err)
	case !ok:
		p.add(all.at, "unbounded_window", "as in 40 K per 10 min", "%q has no window of time", all.text)
	case err2 != nil:
		p.add(at, "bad_value", "as in 40 K per 10 min", "%q is no amount per time: %v", all.text, err2)
	case err3 != nil:
		p.add(at, "bad_value", "as in 40 K per 10 min", "%q is no amount per time: %s is not a duration", all.text, per)
	case q.Value < 0:
		p.add(all.at, "out_of_bounds", "", "%s is less than nothing", q)
	case d <= 0 || d > maxWindow:
		p.add(at, "out_of_bounds", "", "a window of %s; more than 0 s, at most 366 days", strings.TrimSpace(per))
	default:
		return &Window{q, d}
	}
	return nil
}
