package safety

import (
	"fmt"
	"strings"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/lab/expr"
)

// maxTerms bounds the terms of a budget.
const maxTerms = 256

// budget reads sum(…) per … or count(…) per ….
func (p *parser) budget(f *strict.Fields, r *Rule) {
	n := f.Get("budget")
	most := p.amount(f.Require("max"), false)
	all, ok := p.whole(n)
	if !ok {
		return
	}
	r.Budget = &Budget{}
	text := n.Text()
	open, shut := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	what := ""
	if open > 0 && shut > open {
		what = strings.TrimSpace(text[:open])
	}
	if what != "sum" && what != "count" {
		p.add(all.at, "bad_value", "as in sum(pump_a.dose.volume, pump_b.dose.volume) per run, or count(camera.capture) per day", "%q is no budget", all.text)
		return
	}
	r.Budget.Per = p.scopes(cut(n, shut+1, len(text)))
	if most.q != nil {
		r.Budget.Max = *most.q
	}
	terms := pieces(n, open+1, shut)
	if len(terms) == 0 {
		p.add(place(n, open), "no_target", "", "it names no command: the budget would count nothing")
	}
	terms = p.expandTerms(terms)
	switch {
	case len(terms) > maxTerms:
		p.add(place(n, open), "too_many", "", "%d terms; at most %d", len(terms), maxTerms)
	case what == "count":
		for _, id := range p.commands(terms) {
			r.Budget.Terms = append(r.Budget.Terms, Term{Command: id})
			r.Targets = append(r.Targets, Target{Command: id})
		}
		if most.q != nil && most.q.Unit.Dim() != lab.None {
			p.add(most.node.Pos(), "wrong_dimension", "", "max is a %s, a count is a plain number", most.q.Unit.Dim())
		}
	default:
		p.terms(terms, most, r)
	}
}

// expandTerms resolves any. A term that begins with it may go on after it:
// any pump/v1.dose.volume * 2.
func (p *parser) expandTerms(list []piece) []piece {
	var out []piece
	for _, x := range list {
		if strings.HasPrefix(x.text, "any ") {
			out = append(out, p.each([]piece{x})...)
		} else {
			out = append(out, x)
		}
	}
	return out
}

// terms reads what each command adds: an expression over its arguments.
func (p *parser) terms(list []piece, most written, r *Rule) {
	seen := map[string]bool{}
	for _, x := range list {
		scope := &termScope{ruleScope: ruleScope{rules: p.rules, self: p.self}}
		prog, err := expr.Compile(lab.Source{Text: x.text, Pos: x.at}, scope)
		if err != nil {
			p.addExpr(lab.Source{Text: x.text, Pos: x.at}, err)
			continue
		}
		key := scope.command.String() + " " + expr.Rewrite(x.text, func(name string) string { return name[strings.LastIndexByte(name, '.')+1:] })
		switch t := prog.Type(); {
		case scope.command == (lab.CommandID{}):
			p.add(x.at, "unknown_name", "as in pump_a.dose.volume", "%s names no argument of a command", x.text)
			continue
		case seen[key]:
			p.add(x.at, "duplicate", "", "%s stands there twice", x.text)
			continue
		case prog.Windows():
			p.add(x.at, "wrong_type", "a term is over arguments alone", "%s looks back over time", x.text)
			continue
		case t.Kind != lab.Number && t.Kind != lab.Integer:
			p.add(x.at, "wrong_type", "", "%s is a %s; only numbers add up", x.text, t)
			continue
		case t.Unit.Dim() == lab.Temperature:
			p.add(x.at, "wrong_dimension", "", "%s is a temperature; temperatures don't add up", x.text)
			continue
		case most.q != nil && t.Unit.Dim() != most.q.Unit.Dim():
			p.add(most.node.Pos(), "wrong_dimension", "", "max is a %s, %s is a %s", most.q.Unit.Dim(), x.text, t.Unit.Dim())
		}
		seen[key] = true
		term := Term{Command: scope.command, Text: x.text, expr: prog}
		if len(scope.args) == 1 && !strings.ContainsAny(x.text, " +-*/(") {
			term.Arg = scope.args[0]
		}
		r.Budget.Terms = append(r.Budget.Terms, term)
		r.Targets = append(r.Targets, Target{Command: scope.command})
	}
}

// termScope resolves the names of a term: arguments of one command, which the
// first name says.
type termScope struct {
	ruleScope
	command lab.CommandID
	args    []string // that were named
}

// Lookup finds instrument.command.argument.
func (s *termScope) Lookup(name string) (expr.Symbol, error) {
	path := name
	if member, ok := strings.CutPrefix(path, "self."); ok && s.self != "" {
		path = s.self + "." + member
	}
	i := strings.LastIndexByte(path, '.')
	if i < 0 {
		return expr.Symbol{}, fmt.Errorf("%s: write instrument.command.argument", name)
	}
	id, spec, err := s.rules.lab.ResolveCommand(path[:i])
	if err != nil {
		if _, _, wrong := s.rules.lab.ResolveProperty(path); wrong == nil {
			err = fmt.Errorf("%s is a reading: a term is over the arguments of a command", name)
		}
		return expr.Symbol{}, err
	}
	arg := path[i+1:]
	if spec.Arg(arg) == nil {
		return expr.Symbol{}, fmt.Errorf("%s has no argument %q%s", id, arg, hint(arg, argNames(spec)))
	}
	if s.command != (lab.CommandID{}) && s.command != id {
		return expr.Symbol{}, fmt.Errorf("%s: a term is about one command, and this one is about %s", name, s.command)
	}
	s.command, s.args = id, append(s.args, arg)
	s.ruleScope.args = map[string]lab.Type{arg: spec.Arg(arg).Type}
	return s.ruleScope.Lookup("args." + arg)
}

// Define knows no signals: a term is over arguments alone.
func (s *termScope) Define(string) (lab.Source, bool) { return lab.Source{}, false }

// Tripped knows no groups.
func (s *termScope) Tripped(group string) (int, error) {
	return 0, fmt.Errorf("tripped(%s): a term is over arguments alone", group)
}

// scopes reads "per run", "per principal and day".
func (p *parser) scopes(x piece) []Scope {
	const hint = "per command, run, campaign, principal or day, or two of them: per principal and day"
	rest, ok := strings.CutPrefix(x.text, "per ")
	parts := strings.Split(rest, " and ")
	if !ok || len(parts) > 2 {
		p.add(x.at, "bad_value", hint, "%q does not say for what the budget is", x.text)
		return nil
	}
	var list []Scope
	for _, part := range parts {
		s := Scope(strings.TrimSpace(part))
		switch s {
		case PerCommand, PerRun, PerCampaign, PerPrincipal, PerDay:
		default:
			p.add(x.at, "bad_value", hint, "there is no budget per %s", s)
			return nil
		}
		if len(list) == 1 && list[0] == s {
			p.add(x.at, "duplicate", "", "per %s stands there twice", s)
			return nil
		}
		list = append(list, s)
	}
	return list
}
