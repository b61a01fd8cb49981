package safety

import (
	"strings"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/lab/expr"
)

func (p *parser) permissive(f *strict.Fields, r *Rule) {
	ids := p.commands(p.names(f.Get("permissive")))
	for _, id := range ids {
		r.Targets = append(r.Targets, Target{Command: id})
	}
	if require := f.Require("require"); require != nil && len(ids) > 0 {
		p.require(require, r, ids)
	}
	r.Grace = p.span(f.Get("grace"), 0, maxDelay)
	if at := f.Get("at"); at != nil {
		if p.d.Text(at) != "start" {
			p.add(at.Pos(), "bad_value", "leave it out for a condition that must hold until the command is done", "at: %s; only start is understood", p.d.Text(at))
		}
		r.AtStart = true
	}
}

// require compiles what a permissive wants: once, or where it names self, for
// each command.
func (p *parser) require(n *strict.Node, r *Rule, ids []lab.CommandID) {
	before := len(p.d.Issues)
	src := p.d.Source(n)
	if len(p.d.Issues) > before {
		return
	}
	names := false
	expr.Rewrite(src.Text, func(name string) string {
		names = names || strings.HasPrefix(name, "self.")
		return name
	})
	if !names || p.self != "" {
		r.expr = p.condition(n, p.commonArgs(ids))
		return
	}
	for i, id := range ids {
		p.self = p.selfOf(id)
		r.Targets[i].own = p.condition(n, p.commonArgs([]lab.CommandID{id}))
		p.self = ""
		if len(p.d.Issues) > before {
			return
		}
	}
}

// sequence reads what must have happened before, and not since.
func (p *parser) sequence(f *strict.Fields, r *Rule) {
	for _, id := range p.commands(p.names(f.Get("sequence"))) {
		r.Targets = append(r.Targets, Target{Command: id})
	}
	r.Sequence = &Sequence{Within: p.span(f.Get("within"), 1, maxWindow)}
	if after := f.Require("after"); after != nil {
		r.Sequence.After = p.happening(after)
	}
	if since := f.Get("not_since"); since != nil {
		list := p.d.List(since)
		if since.Kind() == strict.List && len(list) == 0 {
			p.add(since.Pos(), "empty", "leave it out", "not_since names nothing")
		}
		seen := map[string]bool{}
		for _, e := range list {
			h := p.happening(e)
			key := h.Command.String() + " " + expr.Rewrite(h.Text, nil)
			if h.Command != (lab.CommandID{}) {
				key = h.Command.String()
			}
			if seen[key] {
				p.add(e.Pos(), "duplicate", "", "%s stands there twice", h.Text)
			}
			seen[key] = true
			r.Sequence.NotSince = append(r.Sequence.NotSince, h)
		}
	}
}

// happening reads a command that was done, or a condition that was true.
func (p *parser) happening(n *strict.Node) Happening {
	x, ok := p.whole(n)
	if !ok {
		return Happening{}
	}
	h := Happening{Text: x.text}
	path := x.text
	if rest, ok := strings.CutPrefix(path, "self."); ok && p.self != "" {
		path = p.self + "." + rest
	}
	call, err := lab.ParseCall(path)
	if err != nil || !strings.Contains(call.Path, ".") {
		h.expr = p.condition(n, nil)
		return h
	}
	id, _, err := p.rules.lab.ResolveCommand(call.Path)
	_, _, notRead := p.rules.lab.ResolveProperty(call.Path)
	switch {
	case err == nil && len(path) > len(call.Path):
		p.add(x.at, "bad_value", "write "+call.Path, "%s: what has happened is a command, with whatever arguments", x.text)
	case err == nil:
		h.Command = id
	case notRead == nil:
		h.expr = p.condition(n, nil)
	default:
		p.add(x.at, "unknown_name", "a command, or a condition", "%v", err)
	}
	return h
}

// zone reads the claims: which commands hold it, and until when. One command
// alone may claim a zone: it then excludes other runs.
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
		for _, id := range p.commands(p.each([]piece{{key, c.KeyPos(key)}})) {
			if seen[id] {
				p.add(c.KeyPos(key), "duplicate", "", "%s claims the zone twice", id)
				continue
			}
			seen[id] = true
			r.Targets = append(r.Targets, Target{Command: id})
			r.Claims = append(r.Claims, p.claim(v, id))
		}
	}
	if claim.Kind() == strict.Map && len(c.Keys()) == 0 {
		p.add(claim.Pos(), "no_target", "", "no command claims the zone")
	}
}

// claim reads how long a claim lasts. self is the component of its command.
func (p *parser) claim(n *strict.Node, id lab.CommandID) Claim {
	c := Claim{Command: id}
	x, ok := p.whole(n)
	if !ok {
		return c
	}
	word, rest, _ := strings.Cut(x.text, " ")
	until := cut(n, strings.Index(n.Text(), word)+len(word), len(n.Text()))
	rest = strings.Join(strings.Fields(rest), " ")
	self := p.self
	p.self = p.selfOf(id)
	defer func() { p.self = self }()
	switch {
	case word == "while" && rest != "":
		c.while = p.conditionOf(lab.Source{Text: until.text, Pos: until.at}, nil)
	case word == "until" && rest == "done":
	case word == "until" && rest == "end of run":
		c.UntilRunEnd = true
	case word == "until" && rest != "":
		for _, end := range p.commands(p.each([]piece{until})) {
			if c.UntilCmd = end; end.Instrument != id.Instrument {
				p.add(until.at, "bad_value", "an own command of "+id.Instrument, "%s would hold the zone until %s is done, which is another instrument's", id, end)
			}
		}
	default:
		p.add(x.at, "bad_value", "while CONDITION, until COMMAND, until done, or until end of run", "%q does not say how long the claim lasts", x.text)
	}
	return c
}
