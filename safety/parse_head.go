package safety

import (
	"fmt"
	"strings"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/lab/expr"
)

// DefaultBypasses is how many rules may be bypassed at once, where the file
// does not say.
const DefaultBypasses = 2

// maxBypasses is how many a file may say.
const maxBypasses = 10

// head reads what stands beside the rules.
func (p *parser) head(f *strict.Fields) {
	p.rules.Bypasses = DefaultBypasses
	if n := f.Get("bypasses"); n != nil {
		b := p.d.Int(n)
		if b < 0 || b > maxBypasses {
			p.add(n.Pos(), "out_of_bounds", "", "bypasses: %d; from 0 to %d", b, maxBypasses)
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
			m := p.d.Map(e, "finding's explanation", "finding", "because")
			finding, because := m.Require("finding"), m.Require("because")
			x := Explained{Finding: p.d.Text(finding), Because: p.d.Text(because), Pos: e.Pos()}
			if first, ok := seen[x.Finding]; ok && x.Finding != "" {
				p.add(finding.Pos(), "duplicate", "", "%q is explained already, at %s", x.Finding, first)
			}
			if because != nil && because.Kind() == strict.Scalar && strings.TrimSpace(because.Text()) == "" {
				p.add(because.Pos(), "empty", "say why it is all right", "%q is not explained", x.Finding)
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
		case vote == nil && v.Kind() == strict.Map:
			p.add(v.Pos(), "missing_key", "is: EXPRESSION, or vote: {of: […], need: 2, within: 5 K}", "a signal needs %q or %q", "is", "vote")
		case vote != nil:
			p.vote(name, vote)
		}
		if len(p.d.Issues) > before {
			p.broken[name] = true
		}
	}
}

// voteParts are a vote's own texts: what is wrong with one of them is said
// where it stands.
type voteParts struct {
	of     []piece
	list   lab.Pos
	within *strict.Node
	span   lab.Quantity
}

func (p *parser) vote(name string, vote *strict.Node) {
	before := len(p.d.Issues)
	vf := p.d.Map(vote, "vote", "of", "need", "within")
	ofNode := vf.Require("of")
	of := p.texts(ofNode)
	need := p.d.Int(vf.Require("need"))
	within := vf.Require("within")
	span := p.amount(within, false)
	if len(p.d.Issues) > before || ofNode == nil || span.q == nil {
		return
	}
	if need < 2 || int(need) > len(of) {
		p.add(vf.Get("need").Pos(), "bad_value", "a vote needs at least 2", "need: %d of %d sensors", need, len(of))
	}
	words := make([]string, len(of))
	for i, x := range of {
		words[i] = x.text
	}
	p.votes[name] = voteParts{of, ofNode.Pos(), within, *span.q}
	p.rules.signals[name] = lab.Source{Text: fmt.Sprintf("voted(%d, %s, %s)", need, literal(*span.q), strings.Join(words, ", ")), Pos: ofNode.Pos()}
}

// checkSignals compiles every signal, also those that no rule uses.
func (p *parser) checkSignals() {
	for _, name := range sortedKeys(p.rules.signals) {
		src := p.rules.signals[name]
		if p.broken[name] {
			continue
		}
		before := len(p.d.Issues)
		if v, ok := p.votes[name]; ok {
			p.checkVote(name, v)
		} else if _, err := expr.Compile(lab.Source{Text: name, Pos: src.Pos}, p.rules.scope()); err != nil {
			p.addExpr(src, err)
		}
		p.broken[name] = len(p.d.Issues) > before
	}
}

// checkVote compiles the members of a vote one by one, for the sake of places,
// and then all together.
func (p *parser) checkVote(name string, v voteParts) {
	before := len(p.d.Issues)
	for _, x := range v.of {
		src := lab.Source{Text: x.text, Pos: x.at}
		prog, err := expr.Compile(src, p.rules.scope())
		switch {
		case err != nil:
			p.addExpr(src, err)
		case prog.Type().Kind != lab.Number && prog.Type().Kind != lab.Integer:
			p.add(x.at, "wrong_type", "", "%s is a %s; only numbers agree within something", x.text, prog.Type())
		case difference(prog.Type().Unit).Dim() != v.span.Unit.Dim():
			p.add(v.within.Pos(), "wrong_dimension", "", "%s is a %s; values of %s differ by a %s", v.span, v.span.Unit.Dim(), x.text, difference(prog.Type().Unit).Dim())
		}
		if len(p.d.Issues) > before {
			return
		}
	}
	_, err := expr.Compile(lab.Source{Text: name, Pos: v.list}, p.rules.scope())
	list, ok := err.(lab.Issues)
	if err != nil && !ok {
		p.add(v.list, "bad_expression", "", "%v", err)
	}
	for _, i := range list {
		i.Pos = v.list
		p.d.Issues = append(p.d.Issues, i)
	}
}
