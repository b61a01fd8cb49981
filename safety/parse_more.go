package safety

import (
	"fmt"
	"strings"
	"time"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/lab/expr"
)

// sequence reads what must have happened before, and not since.
func (p *parser) sequence(f *strict.Fields, r *Rule) {
	n := f.Get("sequence")
	for _, id := range p.commands(n, p.names(n)) {
		r.Targets = append(r.Targets, Target{Command: id})
	}
	r.Sequence = &Sequence{Within: p.optional(f.Get("within"))}
	if after := f.Require("after"); after != nil {
		r.Sequence.After = p.happening(after)
	}
	if since := f.Get("not_since"); since != nil {
		for _, e := range p.d.List(since) {
			r.Sequence.NotSince = append(r.Sequence.NotSince, p.happening(e))
		}
	}
}

// happening reads a command that was done, or a condition that was true.
func (p *parser) happening(n *strict.Node) Happening {
	before := len(p.d.Issues)
	src := p.d.Source(n)
	h := Happening{Text: src.Text}
	if len(p.d.Issues) > before {
		return h
	}
	path := src.Text
	if rest, ok := strings.CutPrefix(path, "self."); ok && p.self != "" {
		path = p.self + "." + rest
	}
	if _, err := lab.ParseCall(path); err == nil {
		if id, _, err := p.rules.lab.ResolveCommand(path); err == nil {
			h.Command = id
			return h
		}
	}
	h.expr = p.condition(n, nil)
	return h
}

// zone reads the claims: which commands hold it, and until when.
func (p *parser) zone(f *strict.Fields, r *Rule) {
	r.Zone = p.d.Name(f.Get("zone"), "zone")
	claim := f.Require("claim")
	if claim == nil {
		return
	}
	c := p.d.Map(claim, "claim")
	seen := map[lab.CommandID]bool{}
	for _, key := range c.Keys() {
		v := c.Get(key)
		for _, id := range p.commands(v, p.each(v, key)) {
			if seen[id] {
				p.add(c.KeyPos(key), "duplicate", "", "%s claims the zone twice", id)
				continue
			}
			seen[id] = true
			r.Targets = append(r.Targets, Target{Command: id})
			r.Claims = append(r.Claims, p.claim(v, id))
		}
	}
	if len(r.Claims) < 2 && len(c.Keys()) < 2 {
		p.add(claim.Pos(), "no_target", "", "a zone that one command claims excludes nobody")
	}
}

func (p *parser) claim(n *strict.Node, id lab.CommandID) Claim {
	c := Claim{Command: id}
	before := len(p.d.Issues)
	src := p.d.Source(n)
	if len(p.d.Issues) > before {
		return c
	}
	word, rest, _ := strings.Cut(src.Text, " ")
	rest = strings.TrimSpace(rest)
	switch {
	case word == "while" && rest != "":
		src.Pos.Column += len(src.Text) - len(rest)
		src.Text = rest
		self := p.self
		if self == "" {
			p.self = id.Instrument + "." + id.Component
		}
		prog, err := expr.Compile(src, ruleScope{rules: p.rules, self: p.self})
		p.self = self
		switch {
		case err != nil:
			p.addExpr(src, err)
		case prog.Type().Kind != lab.Bool:
			p.add(src.Pos, "wrong_type", "write a comparison", "%s is a %s, not a condition", src.Text, prog.Type())
		default:
			c.while = prog
		}
	case word == "until" && rest == "done":
	case word == "until" && rest == "end of run":
		c.UntilRunEnd = true
	case word == "until" && rest != "":
		if ids := p.commands(n, p.each(n, rest)); len(ids) == 1 {
			c.UntilCmd = ids[0]
		}
	default:
		p.add(n.Pos(), "bad_value", "while CONDITION, until COMMAND, until done, or until end of run", "%q does not say how long the claim lasts", src.Text)
	}
	return c
}

// budget reads sum(…) per … or count(…) per ….
func (p *parser) budget(f *strict.Fields, r *Rule) {
	n := f.Get("budget")
	before := len(p.d.Issues)
	src := p.d.Source(n)
	if len(p.d.Issues) > before {
		return
	}
	r.Budget = &Budget{}
	open, shut := strings.IndexByte(src.Text, '('), strings.LastIndexByte(src.Text, ')')
	what := ""
	if open > 0 && shut > open {
		what = strings.TrimSpace(src.Text[:open])
	}
	if what != "sum" && what != "count" {
		p.add(n.Pos(), "bad_value", "as in sum(pump_a.dose.volume, pump_b.dose.volume) per run, or count(camera.capture) per day", "%q is no budget", src.Text)
		return
	}
	r.Budget.Per = p.scopes(n, strings.TrimSpace(src.Text[shut+1:]))
	if q := p.limitEnd(f.Require("max")); q.q != nil {
		r.Budget.Max = *q.q
		if !q.q.Finite() || q.q.Value < 0 {
			p.add(q.node.Pos(), "out_of_bounds", "", "max is %s", q.q)
		}
	}
	for _, part := range topLevel(src.Text[open+1 : shut]) {
		for _, text := range p.anyIn(n, part) {
			p.term(n, f.Get("max"), text, what == "count", r)
		}
	}
	if len(r.Budget.Terms) == 0 && len(p.d.Issues) == before {
		p.add(n.Pos(), "no_target", "", "it names no command: the budget would count nothing")
	}
}

// anyIn resolves any and self in a term of a budget.
func (p *parser) anyIn(n *strict.Node, text string) []string {
	if p.self != "" {
		text = expr.Rewrite(text, func(name string) string {
			if rest, ok := strings.CutPrefix(name, "self."); ok {
				return p.self + "." + rest
			}
			return name
		})
	}
	if strings.HasPrefix(text, "any ") {
		return p.each(n, text)
	}
	return []string{text}
}

// term reads what one command adds: an expression over its arguments, or the
// command alone.
func (p *parser) term(n, bound *strict.Node, text string, count bool, r *Rule) {
	if count {
		for _, id := range p.commands(n, []string{text}) {
			r.Budget.Terms = append(r.Budget.Terms, Term{Command: id})
			r.Targets = append(r.Targets, Target{Command: id})
		}
		p.plural(n, bound, lab.Type{Kind: lab.Integer}, text, r)
		return
	}
	t := Term{Text: text}
	var problem error
	plain := expr.Rewrite(text, func(name string) string {
		i := strings.LastIndexByte(name, '.')
		if i < 0 || problem != nil {
			return name
		}
		id, spec, err := p.rules.lab.ResolveCommand(name[:i])
		switch {
		case err != nil:
			problem = err
		case t.Command != (lab.CommandID{}) && t.Command != id:
			problem = fmt.Errorf("%s: a term is about one command, not %s and %s", text, t.Command, id)
		case spec.Arg(name[i+1:]) == nil:
			problem = fmt.Errorf("%s has no argument %q%s", id, name[i+1:], hint(name[i+1:], argNames(spec)))
		}
		t.Command = id
		if name == strings.TrimSpace(text) {
			t.Arg = name[i+1:]
		}
		return "args." + name[i+1:]
	})
	if problem == nil && t.Command == (lab.CommandID{}) {
		problem = fmt.Errorf("%s names no argument of a command: write instrument.command.argument", text)
	}
	if problem != nil {
		p.add(n.Pos(), "unknown_name", "", "%v", problem)
		return
	}
	prog, err := expr.Compile(lab.Source{Text: plain, Pos: n.Pos()}, ruleScope{rules: p.rules, args: p.commonArgs([]lab.CommandID{t.Command})})
	if err != nil {
		p.addExpr(lab.Source{Text: text, Pos: n.Pos()}, err)
		return
	}
	t.expr = prog
	p.plural(n, bound, prog.Type(), text, r)
	r.Budget.Terms = append(r.Budget.Terms, t)
	r.Targets = append(r.Targets, Target{Command: t.Command})
}

// plural checks that a term can be added up to the budget's max.
func (p *parser) plural(n, bound *strict.Node, t lab.Type, text string, r *Rule) {
	want := r.Budget.Max.Unit
	switch {
	case t.Kind != lab.Number && t.Kind != lab.Integer:
		p.add(n.Pos(), "wrong_type", "", "%s is a %s; only numbers add up", text, t)
	case t.Unit.Dim() == lab.Temperature:
		p.add(n.Pos(), "wrong_dimension", "", "%s is a temperature; temperatures don't add up", text)
	case bound != nil && t.Unit.Dim() != want.Dim():
		p.add(bound.Pos(), "wrong_dimension", "", "max is a %s, %s is a %s", want.Dim(), text, t.Unit.Dim())
	}
}

// scopes reads "per run", "per principal and day".
func (p *parser) scopes(n *strict.Node, text string) []Scope {
	const hint = "per command, run, campaign, principal or day, or two of them: per principal and day"
	rest, ok := strings.CutPrefix(text, "per ")
	parts := strings.Split(rest, " and ")
	if !ok || len(parts) > 2 {
		p.add(n.Pos(), "bad_value", hint, "%q does not say for what the budget is", text)
		return nil
	}
	var list []Scope
	for _, x := range parts {
		s := Scope(strings.TrimSpace(x))
		switch s {
		case PerCommand, PerRun, PerCampaign, PerPrincipal, PerDay:
		default:
			p.add(n.Pos(), "bad_value", hint, "there is no budget per %s", s)
			return nil
		}
		for _, have := range list {
			if have == s {
				p.add(n.Pos(), "duplicate", "", "per %s stands there twice", s)
			}
		}
		list = append(list, s)
	}
	return list
}

// topLevel splits at commas outside of brackets.
func topLevel(s string) []string {
	var list []string
	depth, from := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				list, from = append(list, strings.TrimSpace(s[from:i])), i+1
			}
		}
	}
	if last := strings.TrimSpace(s[from:]); last != "" {
		list = append(list, last)
	}
	return list
}

// priorities of alarms, least first.
var priorities = []string{"low", "medium", "high", "critical"}

func (p *parser) alarm(f *strict.Fields, r *Rule) {
	n := f.Get("alarm")
	m := p.d.Map(n, "alarm", "when", "priority", "response")
	r.expr = p.condition(m.Require("when"), nil)
	r.OnDelay, r.UnknownFor = p.optional(f.Get("on_delay")), p.optional(f.Get("unknown_for"))
	if pr := m.Require("priority"); pr != nil {
		r.Priority = p.d.Text(pr)
		if !contains(priorities, r.Priority) {
			p.add(pr.Pos(), "bad_value", "one of "+strings.Join(priorities, ", "), "priority: %s", r.Priority)
		}
	}
	if re := m.Require("response"); re != nil {
		if r.Response = p.d.Text(re); strings.TrimSpace(r.Response) == "" {
			p.add(re.Pos(), "empty", "say what to do", "an alarm that nobody knows how to answer is noise")
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func (p *parser) proofTest(n *strict.Node, r *Rule) {
	if n == nil {
		return
	}
	f := p.d.Map(n, "proof test", "every", "last")
	t := &ProofTest{}
	if e := f.Require("every"); e != nil {
		if t.Every = p.d.Duration(e); t.Every <= 0 {
			p.add(e.Pos(), "out_of_bounds", "", "a proof test every %s", strings.TrimSpace(e.Text()))
		}
	}
	if l := f.Get("last"); l != nil {
		day, err := time.Parse("2006-01-02", strings.TrimSpace(l.Text())) // a date here, quoted or not
		if err != nil {
			p.add(l.Pos(), "bad_value", "as in 2026-05-01", "%q is no date", l.Text())
		}
		t.Last = day
	}
	r.ProofTest = t
}

// head reads what stands beside the rules.
func (p *parser) head(f *strict.Fields) {
	p.rules.Bypasses = DefaultBypasses
	if n := f.Get("bypasses"); n != nil {
		b := p.d.Int(n)
		if b < 0 || b > 10 {
			p.add(n.Pos(), "out_of_bounds", "", "bypasses: %d; from 0 to 10", b)
		}
		p.rules.Bypasses = int(b)
	}
	p.rules.Nominal = map[lab.PropertyID]lab.Value{}
	if n := f.Get("nominal"); n != nil {
		m := p.d.Map(n, "nominal")
		for _, key := range m.Keys() {
			p.nominal(m.Get(key), m.KeyPos(key), key)
		}
	}
	if n := f.Get("explained"); n != nil {
		seen := map[string]lab.Pos{}
		for _, e := range p.d.List(n) {
			m := p.d.Map(e, "explanation", "finding", "because")
			x := Explained{Finding: p.d.Text(m.Require("finding")), Because: p.d.Text(m.Require("because")), Pos: e.Pos()}
			if first, ok := seen[x.Finding]; ok {
				p.add(e.Pos(), "duplicate", "", "%q is explained already, at %s", x.Finding, first)
			}
			seen[x.Finding] = e.Pos()
			p.rules.Explained = append(p.rules.Explained, x)
		}
	}
}

func (p *parser) nominal(n *strict.Node, at lab.Pos, key string) {
	id, spec, err := p.rules.lab.ResolveProperty(key)
	if err != nil {
		p.add(at, "unknown_name", "", "%v", err)
		return
	}
	v, err := spec.Type.ParseText(n.Text())
	if err != nil {
		p.add(n.Pos(), "wrong_type", "", "%s: %v", key, err)
		return
	}
	if _, ok := p.rules.Nominal[id]; ok {
		p.add(at, "duplicate", "", "%s has a nominal value already", id)
	}
	p.rules.Nominal[id] = v
}

// DefaultBypasses is how many rules may be bypassed at once, where the file
// does not say.
const DefaultBypasses = 2

// signals reads votes and named expressions.
func (p *parser) signals(n *strict.Node) {
	if n == nil {
		return
	}
	f := p.d.Map(n, "signals")
	for _, name := range f.Keys() {
		v := f.Get(name)
		before := len(p.d.Issues)
		if err := lab.CheckName("signal", name); err != nil {
			p.add(f.KeyPos(name), "bad_name", "", "%v", err)
		}
		sf := p.d.Map(v, "signal", "vote", "is")
		vote, is := sf.Get("vote"), sf.Get("is")
		switch {
		case vote != nil && is != nil:
			p.add(v.Pos(), "rule_kind", "make them signals of their own", "a signal is a vote or an expression")
		case is != nil:
			p.rules.signals[name] = p.d.Source(is)
		default:
			p.vote(name, v, sf.Require("vote"))
		}
		if len(p.d.Issues) > before {
			p.broken[name] = true
		}
	}
}

func (p *parser) vote(name string, v, vote *strict.Node) {
	before := len(p.d.Issues)
	vf := p.d.Map(vote, "vote", "of", "need", "within")
	of := p.texts(vf.Require("of"))
	need := p.d.Int(vf.Require("need"))
	within := p.d.Quantity(vf.Require("within"))
	if n := vf.Get("need"); len(p.d.Issues) == before && (need < 2 || int(need) > len(of)) {
		p.add(n.Pos(), "bad_value", "a vote needs at least 2", "need: %d of %d sensors", need, len(of))
	}
	p.rules.signals[name] = lab.Source{Text: fmt.Sprintf("voted(%d, %s, %s)", need, literal(within), strings.Join(of, ", ")), Pos: v.Pos()}
}
