package rulecases

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/safety"
)

// ReadHead reads which lab, and which rules, a file of cases is for.
func ReadHead(file string, data []byte) (Head, lab.Issues) {
	root, is := strict.Parse(file, data)
	if root == nil {
		return Head{}, is
	}
	d := &strict.Decoder{Issues: is}
	f := d.Map(root, "file of cases", fileKeys...)
	h := Head{Lab: d.Text(f.Require("lab")), Interlocks: d.Text(f.Get("interlocks"))}
	return h, d.Issues
}

var fileKeys = []string{"lab", "interlocks", "about", "given", "cases"}

// words are what a reading may be told to be in place of a value.
var words = []string{"frozen", "stuck", "bad", "uncertain", "missing", "stale", "future", "nan", "inf"}

type parser struct {
	*strict.Decoder
	lab   *lab.Lab
	rules *safety.Rules
	file  string
}

// Parse reads a file of cases for a lab and its rules. It reports every issue
// at once; with any there is no file.
func Parse(file string, data []byte, l *lab.Lab, rules *safety.Rules) (*File, lab.Issues) {
	root, is := strict.Parse(file, data)
	if root == nil {
		return nil, is
	}
	p := &parser{&strict.Decoder{Issues: is}, l, rules, file}
	f := p.Map(root, "file of cases", fileKeys...)
	f.Require("lab")
	given := p.settings(f.Get("given"))
	out := &File{Path: file}
	names := map[string]lab.Pos{}
	list := f.Require("cases")
	for _, n := range p.List(list) {
		c := p.oneCase(n, given)
		if first, ok := names[c.Name]; ok && c.Name != "" {
			p.add(c.Pos, "duplicate", "give each its own name", "case %q is there already, at %s", c.Name, first)
		}
		names[c.Name] = c.Pos
		out.Cases = append(out.Cases, c)
	}
	if list.IsList() && len(out.Cases) == 0 {
		p.add(list.Pos(), "empty", "", "there are no cases")
	}
	p.Issues.Sort()
	if len(p.Issues) > 0 {
		return nil, p.Issues
	}
	return out, nil
}

func (p *parser) add(pos lab.Pos, code, hint, format string, args ...any) {
	p.Issues.Add(pos, code, hint, format, args...)
}

var stepKeys = []string{"at", "set", "ramp", "freeze", "stuck", "thaw", "epoch", "restart", "done", "partial", "failed", "lost", "resolve", "reset",
	"bypass", "acknowledge", "stop", "do", "call", "id", "run", "as", "campaign", "not_after", "lease", "finally", "raw", "expect"}

func (p *parser) oneCase(n *strict.Node, given []setting) *Case {
	wrong := len(p.Issues)
	f := p.Map(n, "case", "name", "why", "given", "before", "do", "expect", "steps")
	c := &Case{Name: p.Text(f.Require("name")), Why: p.Text(f.Get("why")), File: p.file, Pos: n.Pos()}
	c.given = append(slices.Clone(given), p.settings(f.Get("given"))...)
	if b := f.Get("before"); b != nil {
		for _, e := range p.List(b) {
			if x := p.call(e, p.Text(e)); x != nil {
				c.before = append(c.before, *x)
			}
		}
	}
	steps, do, expect := f.Get("steps"), f.Get("do"), f.Get("expect")
	switch {
	case steps != nil && (do != nil || expect != nil):
		p.add(n.Pos(), "bad_case", "put do and expect into steps", "a case has steps, or do and expect")
	case steps != nil:
		last := time.Duration(0)
		for _, e := range p.List(steps) {
			s := p.step(e, "step")
			if s.at < last {
				p.add(e.Pos(), "out_of_order", "", "a step at %s after one at %s", lab.Seconds(s.at), lab.Seconds(last))
			}
			last = max(last, s.at)
			c.steps = append(c.steps, s)
		}
	default:
		s := &step{at: time.Second, pos: n.Pos(), notAfter: time.Minute}
		if do != nil && do.Kind() == strict.Map {
			s = p.step(do, "do")
			s.at = time.Second
		} else if do != nil {
			s.do = p.call(do, p.Text(do))
		}
		s.expect = append(s.expect, p.expects(expect)...)
		c.steps = []*step{s}
	}
	for _, s := range c.steps {
		if len(s.expect) > 0 {
			return c
		}
	}
	if len(p.Issues) > wrong {
		return c // what it expects may be among that
	}
	p.add(n.Pos(), "asserts_nothing", "add expect: what must come of it", "case %q expects nothing: it can't fail", c.Name)
	return c
}

// step reads one step; what is "do" is the do of a single shot with more keys.
func (p *parser) step(n *strict.Node, what string) *step {
	f := p.Map(n, what, stepKeys...)
	s := &step{pos: n.Pos(), id: p.Text(f.Get("id")), run: p.Text(f.Get("run")), as: p.Text(f.Get("as")), campaign: p.Text(f.Get("campaign")),
		finally: p.Bool(f.Get("finally")), restart: p.Bool(f.Get("restart")), acknowledge: p.Text(f.Get("acknowledge"))}
	if what == "step" {
		s.at = p.Duration(f.Require("at"))
	}
	s.set = append(p.settings(f.Get("set")), p.ramps(f.Get("ramp"))...)
	s.freeze, s.stuck, s.thaw = p.properties(f.Get("freeze")), p.properties(f.Get("stuck")), p.properties(f.Get("thaw"))
	s.epoch, s.stop = p.instrument(f.Get("epoch"), ""), p.instrument(f.Get("stop"), "all")
	s.done, s.failed, s.lost = p.ids(f.Get("done")), p.ids(f.Get("failed")), p.ids(f.Get("lost"))
	p.partial(f.Get("partial"), s)
	if r := f.Get("resolve"); r != nil {
		s.resolve = map[string]string{}
		m := p.Map(r, "resolve")
		for _, k := range m.Keys() {
			as := p.Text(m.Get(k))
			if s.resolve[k] = as; as != "done" && as != "not_done" {
				p.add(m.Get(k).Pos(), "bad_value", "done or not_done", "resolve: %q", as)
			}
		}
	}
	if r := f.Get("reset"); r != nil {
		s.reset = p.rule(r, p.Text(r))
	}
	if b := f.Get("bypass"); b != nil {
		m := p.Map(b, "bypass", "rule", "for")
		rule := m.Require("rule")
		s.bypass, s.bypassFor = p.rule(rule, p.Text(rule)), p.Duration(m.Require("for"))
	}
	s.notAfter = time.Minute
	if a := f.Get("not_after"); a != nil {
		q := p.Quantity(a)
		if d, err := q.Duration(); err != nil {
			p.add(a.Pos(), "wrong_dimension", "", "not_after: %v", err)
		} else {
			s.notAfter = d
		}
	}
	if l := f.Get("lease"); l != nil {
		v := uint64(p.Int(l))
		s.lease = &v
	}
	do := f.Get("do")
	if do == nil {
		do = f.Get("call")
	}
	if do != nil && do.Kind() == strict.Map { // {call: …, more}
		inner := p.step(do, "do")
		s.do, s.id, s.run, s.as, s.campaign, s.notAfter, s.lease, s.finally = inner.do, inner.id, inner.run, inner.as, inner.campaign, inner.notAfter, inner.lease, inner.finally
		s.expect = inner.expect
	} else if do != nil {
		s.do = p.call(do, p.Text(do))
	}
	if raw := f.Get("raw"); raw != nil && s.do != nil {
		m := p.Map(raw, "raw arguments")
		for _, k := range m.Keys() {
			s.do.args[k] = p.rawValue(m.Get(k))
		}
	}
	s.expect = append(s.expect, p.expects(f.Get("expect"))...)
	return s
}

// rawValue is a value as an agent's JSON would carry it, whatever its type.
func (p *parser) rawValue(n *strict.Node) lab.Value {
	quiet := &strict.Decoder{}
	if n.Kind() == strict.Map {
		m := quiet.Map(n, "value", "value", "unit")
		x, err := strconv.ParseFloat(m.Get("value").Text(), 64)
		u, err2 := lab.ParseUnit(m.Get("unit").Text())
		if err != nil || err2 != nil {
			return lab.TextValue(m.Get("value").Text() + " " + m.Get("unit").Text())
		}
		return lab.NumberValue(lab.Quantity{Value: x, Unit: u})
	}
	text := n.Text()
	if text == "true" || text == "false" {
		return lab.BoolValue(text == "true")
	}
	x, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return lab.TextValue(text)
	case x == math.Trunc(x) && math.Abs(x) < 1<<53:
		return lab.IntegerValue(int64(x))
	}
	return lab.NumberValue(lab.Quantity{Value: x})
}

func (p *parser) settings(n *strict.Node) []setting {
	if n == nil {
		return nil
	}
	var list []setting
	m := p.Map(n, "readings")
	for _, k := range m.Keys() {
		if s, ok := p.setting(m.KeyPos(k), m.Get(k), k); ok {
			list = append(list, s)
		}
	}
	return list
}

func (p *parser) setting(at lab.Pos, n *strict.Node, path string) (setting, bool) {
	id, spec, err := p.lab.ResolveProperty(path)
	if err != nil {
		p.add(at, "unknown_name", "", "%v", err)
		return setting{}, false
	}
	return p.told(n.Pos(), id, spec.Type, strings.TrimSpace(n.Text()), path)
}

// told reads what a property is told to be: a value, or a word.
func (p *parser) told(at lab.Pos, id lab.PropertyID, t lab.Type, text, path string) (setting, bool) {
	s := setting{id: id, typ: t}
	if slices.Contains(words, text) && !(t.Kind == lab.Enum && slices.Contains(t.Enum, text)) {
		s.word = text
		return s, true
	}
	v, err := t.ParseText(text)
	if err != nil {
		p.add(at, "wrong_type", "a value, or one of "+strings.Join(words, ", "), "%s: %v", path, err)
		return setting{}, false
	}
	s.value = v
	return s, true
}

func (p *parser) ramps(n *strict.Node) []setting {
	if n == nil {
		return nil
	}
	var list []setting
	m := p.Map(n, "ramps")
	for _, k := range m.Keys() {
		f := p.Map(m.Get(k), "ramp", "to", "over")
		to, over := f.Require("to"), f.Require("over")
		if to == nil || over == nil {
			continue
		}
		if s, ok := p.setting(m.KeyPos(k), to, k); ok {
			s.ramp = p.Duration(over)
			list = append(list, s)
		}
	}
	return list
}

func (p *parser) texts(n *strict.Node) []string {
	if n == nil {
		return nil
	}
	if !n.IsList() {
		return []string{p.Text(n)}
	}
	var list []string
	for _, e := range p.List(n) {
		list = append(list, p.Text(e))
	}
	return list
}

func (p *parser) properties(n *strict.Node) []lab.PropertyID {
	if n == nil {
		return nil
	}
	nodes := []*strict.Node{n}
	if n.IsList() {
		nodes = p.List(n)
	}
	var list []lab.PropertyID
	for _, e := range nodes {
		id, _, err := p.lab.ResolveProperty(p.Text(e))
		if err != nil {
			p.add(e.Pos(), "unknown_name", "", "%v", err)
			continue
		}
		list = append(list, id)
	}
	return list
}

func (p *parser) ids(n *strict.Node) []string { return p.texts(n) }

func (p *parser) instrument(n *strict.Node, all string) string {
	if n == nil {
		return ""
	}
	name := p.Text(n)
	if name == all || p.lab.Instrument(name) != nil {
		return name
	}
	p.add(n.Pos(), "unknown_name", "", "no instrument %q in lab %s", name, p.lab.Name)
	return ""
}

func (p *parser) partial(n *strict.Node, s *step) {
	if n == nil {
		return
	}
	s.partial = map[string]lab.Quantity{}
	m := p.Map(n, "partial")
	for _, k := range m.Keys() {
		s.partial[k] = p.Quantity(m.Get(k))
	}
}

func (p *parser) call(n *strict.Node, text string) *call {
	if text == "" {
		return nil
	}
	id, args, err := p.lab.ResolveCall(text)
	if err != nil {
		p.add(n.Pos(), "unknown_name", "", "%v", err)
		return nil
	}
	return &call{id, args, text, n.Pos()}
}

// rule checks that a rule is there; a stop's latch is none, but may be named.
func (p *parser) rule(n *strict.Node, id string) string {
	if id == "stop" || strings.HasPrefix(id, "stop/") || id == "" || p.rules == nil || p.rules.Find(id) != nil {
		return id
	}
	var ids []string
	for _, r := range p.rules.Rules {
		ids = append(ids, r.ID)
	}
	hint := ""
	if near := lab.Nearest(id, ids); near != "" {
		hint = "did you mean " + near + "?"
	}
	p.add(n.Pos(), "unknown_rule", hint, "there is no rule %q", id)
	return id
}

var stoppedRE = regexp.MustCompile(`^stopped (\S+)(?: by (\S+))?$`)

func (p *parser) expects(n *strict.Node) []expectation {
	var list []expectation
	if n == nil {
		return nil
	}
	nodes := []*strict.Node{n}
	if n.IsList() {
		nodes = p.List(n)
	}
	for _, e := range nodes {
		text := strings.TrimSpace(p.Text(e))
		x, ok := p.expectation(e, text)
		if !ok {
			p.add(e.Pos(), "bad_expectation", "allowed, refused, refused by RULE, refused as CODE, tripped RULE, not tripped, first out RULE, alarm RULE, no alarm, stopped ID by RULE, running ID, in doubt ID, ordered CALL, reset, bypassed, quiet",
				"expect: %q is not understood", text)
			continue
		}
		x.text, x.pos = text, e.Pos()
		list = append(list, x)
	}
	return list
}

func (p *parser) expectation(n *strict.Node, text string) (expectation, bool) {
	x := expectation{}
	rest, not := strings.CutPrefix(text, "not ")
	if !not {
		rest, not = strings.CutPrefix(text, "no ")
	}
	x.not = not
	switch {
	case rest == "allowed" || rest == "refused" || rest == "quiet" || rest == "reset" || rest == "bypassed":
		x.what = rest
		return x, true
	case strings.HasPrefix(rest, "refused by "):
		x.what, x.arg = "refused", p.rule(n, strings.TrimPrefix(rest, "refused by "))
		return x, true
	case strings.HasPrefix(rest, "refused as "):
		x.what, x.arg = "refused as", strings.TrimPrefix(rest, "refused as ")
		return x, true
	}
	if m := stoppedRE.FindStringSubmatch(rest); m != nil {
		x.what, x.arg, x.by = "stopped", m[1], p.rule(n, m[2])
		return x, true
	}
	for _, what := range []string{"tripped", "first out", "alarm", "running", "in doubt", "ordered"} {
		arg, ok := strings.CutPrefix(rest, what)
		arg = strings.TrimSpace(arg)
		if !ok {
			continue
		}
		x.what, x.arg = what, arg
		switch what {
		case "tripped", "first out", "alarm":
			if !not || arg != "" {
				p.rule(n, arg)
			}
			return x, not || arg != ""
		case "ordered":
			x.arg = ""
			x.call = p.call(n, arg)
			return x, arg != ""
		}
		return x, arg != ""
	}
	return x, false
}
