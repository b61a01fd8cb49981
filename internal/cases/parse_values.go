package cases

import (
	"math"
	"slices"
	"strings"

	"labgate/internal/strict"
	"labgate/lab"
)

// property finds one, by its short or its full name.
func (p *parser) property(at lab.Pos, name string) (lab.PropertyID, *lab.Property, bool) {
	id, spec, err := p.file.Lab.ResolveProperty(name)
	if err == nil {
		return id, spec, true
	}
	hint := ""
	if def, ok := p.file.Rules.Definition(name); ok {
		hint = name + " is a signal of the rules; set what it is made of: " + def.Text
	}
	p.add(at, "unknown_property", hint, "%v", err)
	return id, nil, false
}

func (p *parser) properties(n *strict.Node) []lab.PropertyID {
	var ids []lab.PropertyID
	for _, e := range p.oneOrMore(n) {
		if name := p.d.Text(e); name != "" {
			if id, _, ok := p.property(e.Pos(), name); ok {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// oneOrMore lets a single scalar stand for a list of it.
func (p *parser) oneOrMore(n *strict.Node) []*strict.Node {
	switch {
	case n == nil:
		return nil
	case n.IsList():
		return p.d.List(n)
	}
	return []*strict.Node{n}
}

func (p *parser) texts(n *strict.Node) []string {
	var list []string
	for _, e := range p.oneOrMore(n) {
		if s := p.d.Text(e); s != "" {
			list = append(list, s)
		}
	}
	return list
}

func (p *parser) instruments(n *strict.Node) []string {
	var list []string
	for _, e := range p.oneOrMore(n) {
		name := p.d.Text(e)
		if p.file.Lab.Instrument(name) == nil {
			p.add(e.Pos(), "unknown_instrument", near(name, p.file.Lab.Names()), "no instrument %q in lab %s", name, p.file.Lab.Name)
			continue
		}
		list = append(list, name)
	}
	return list
}

func near(s string, names []string) string {
	if n := lab.Nearest(s, names); n != "" {
		return "did you mean " + n + "?"
	}
	return ""
}

// settings reads what properties are set to, on top of others.
func (p *parser) settings(n *strict.Node, base []setting) []setting {
	list := slices.Clone(base)
	if n == nil {
		return list
	}
	f := p.d.Map(n, "map of properties")
	own := map[lab.PropertyID]lab.Pos{}
	for _, name := range f.Keys() {
		id, spec, ok := p.property(f.KeyPos(name), name)
		if !ok {
			continue
		}
		if first, twice := own[id]; twice {
			p.add(f.KeyPos(name), "duplicate_key", "", "%s is set already, at line %d, column %d", id, first.Line, first.Column)
			continue
		}
		own[id] = f.KeyPos(name)
		s, ok := p.setting(f.Get(name), id, spec)
		if !ok {
			continue
		}
		list = append(slices.DeleteFunc(list, func(o setting) bool { return o.id == id }), s)
	}
	return list
}

// notFinites are the numbers that are none.
var notFinites = map[string]float64{"nan": math.NaN(), "NaN": math.NaN(), "inf": math.Inf(1), "-inf": math.Inf(-1), "Infinity": math.Inf(1), "-Infinity": math.Inf(-1)}

func (p *parser) setting(n *strict.Node, id lab.PropertyID, spec *lab.Property) (setting, bool) {
	before := len(p.d.Issues)
	text := p.d.Text(n)
	if len(p.d.Issues) > before || n == nil {
		return setting{}, false
	}
	s := setting{id: id}
	if !slices.Contains(spec.Type.Enum, text) { // a word of the property's own comes first
		if f, ok := faultNames[text]; ok {
			s.fault = f
			return s, true
		}
		if v, ok := notFinites[text]; ok && spec.Type.Kind == lab.Number {
			s.value, s.fault = lab.Value{Kind: lab.Number, Num: v, Unit: spec.Type.Unit}, notFinite
			return s, true
		}
	}
	v, err := spec.Type.ParseText(text)
	if err != nil {
		p.add(n.Pos(), "bad_value", p.valueHint(spec.Type, text), "%s: %v", id, err)
		return s, false
	}
	s.value = v
	return s, true
}

// valueHint says what could stand there.
func (p *parser) valueHint(t lab.Type, text string) string {
	var words []string
	for w := range faultNames {
		words = append(words, w)
	}
	if t.Kind == lab.Number {
		words = append(words, "nan", "inf")
	}
	slices.Sort(words)
	words = append(words, t.Enum...)
	if h := near(text, words); h != "" && !strings.ContainsAny(text, "0123456789") {
		return h
	}
	return "a value of its type, or frozen, stuck, bad, uncertain, missing, stale, future, nan, inf"
}

func (p *parser) ramps(n *strict.Node) []ramp {
	if n == nil {
		return nil
	}
	var list []ramp
	f := p.d.Map(n, "map of properties")
	for _, name := range f.Keys() {
		id, spec, ok := p.property(f.KeyPos(name), name)
		if !ok {
			continue
		}
		r := p.d.Map(f.Get(name), "ramp", "to", "over")
		to, over := r.Require("to"), p.d.Duration(r.Require("over"))
		if to == nil {
			continue
		}
		if spec.Type.Kind != lab.Number && spec.Type.Kind != lab.Integer {
			p.add(f.KeyPos(name), "bad_value", "use set:", "%s is a %s; only a number can rise or fall", id, spec.Type.Kind)
			continue
		}
		v, err := spec.Type.ParseText(p.d.Text(to))
		switch {
		case err != nil:
			p.add(to.Pos(), "bad_value", "", "%s: %v", id, err)
		case over <= 0 || over > maxTime:
			p.add(r.Get("over").Pos(), "bad_value", "use set: for what changes at once", "%s is no time for a ramp", lab.Seconds(over))
		default:
			list = append(list, ramp{id, v.Num, over})
		}
	}
	return list
}

// known reads ids of commands that were asked for by now.
func (p *parser) known(n *strict.Node) []string {
	var list []string
	for _, e := range p.oneOrMore(n) {
		if id := p.d.Text(e); p.isKnown(e.Pos(), id) {
			list = append(list, id)
		}
	}
	return list
}

func (p *parser) isKnown(at lab.Pos, id string) bool {
	if id == "" || p.ids[id] != nil {
		return id != ""
	}
	var ids []string
	for k := range p.ids {
		ids = append(ids, k)
	}
	slices.Sort(ids)
	h := "nothing was asked for yet"
	if len(ids) > 0 {
		h = "there are: " + strings.Join(ids, ", ")
	}
	p.add(at, "unknown_id", h, "no command %q was asked for before this", id)
	return false
}

func (p *parser) partials(n *strict.Node) []partial {
	if n == nil {
		return nil
	}
	var list []partial
	f := p.d.Map(n, "map of commands")
	for _, id := range f.Keys() {
		if !p.isKnown(f.KeyPos(id), id) {
			continue
		}
		target := p.ids[id].target
		spec, b := p.file.Lab.CommandSpec(target), p.file.book.of(target)
		switch q := p.d.Quantity(f.Get(id)); {
		case spec.Partial.Text == "" || spec.StopsWith == "":
			p.add(f.KeyPos(id), "bad_value", "use done, failed or lost", "%s is not declared to be done in part: its class needs partial and stops_with", target)
		case b.partial.Type().Kind == lab.Number && b.partial.Type().Unit.Dim() != q.Unit.Dim():
			p.add(f.Get(id).Pos(), "bad_value", "", "%s is a %s; %s is counted as a %s", q, q.Unit.Dim(), target, b.partial.Type().Unit.Dim())
		default:
			list = append(list, partial{id, q})
		}
	}
	return list
}

func (p *parser) resolves(n *strict.Node) []resolve {
	if n == nil {
		return nil
	}
	var list []resolve
	f := p.d.Map(n, "map of commands")
	for _, id := range f.Keys() {
		if !p.isKnown(f.KeyPos(id), id) {
			continue
		}
		as := p.d.Text(f.Get(id))
		if as != "done" && as != "not_done" {
			p.add(f.Get(id).Pos(), "bad_value", "done or not_done", "a person says that it was done, or not_done; not %q", as)
			continue
		}
		list = append(list, resolve{id, as})
	}
	return list
}
