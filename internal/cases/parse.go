package cases

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/safety"
)

// Resolve finds the lab that a file names, as it is written there, and its
// rules: those of the other interlocks file where one is named.
type Resolve func(dir, interlocks string) (*lab.Lab, *safety.Rules, error)

// Parse reads a file of cases. It reports every issue at once, with positions;
// with any issue there is no file. Its codes are, beside those of package
// strict: no_lab, unknown_property, unknown_command, unknown_rule, unknown_id,
// bad_value, bad_call, bad_expectation, not_ascending, asserts_nothing,
// duplicate_name, duplicate_id and too_many.
func Parse(file string, data []byte, find Resolve) (*File, lab.Issues) {
	root, is := strict.Parse(file, data)
	if root == nil {
		return nil, is
	}
	p := &parser{d: &strict.Decoder{Issues: is}}
	f := p.d.Map(root, "file of cases", "lab", "interlocks", "about", "given", "cases")
	_ = p.d.Text(f.Get("about"))
	dir, other := f.Require("lab"), f.Get("interlocks")
	path := p.d.Text(dir)
	l, rules, err := (*lab.Lab)(nil), (*safety.Rules)(nil), error(nil)
	if path != "" {
		if l, rules, err = find(path, p.d.Text(other)); err != nil {
			p.unresolved(dir, err)
		}
	}
	if l == nil || rules == nil {
		p.d.Issues.Sort()
		return nil, p.d.Issues
	}
	p.file = &File{Name: file, Lab: l, Rules: rules, book: newBook(l)}
	p.cases(f)
	p.d.Issues.Sort()
	if len(p.d.Issues) > 0 {
		return nil, p.d.Issues
	}
	p.file.nominal = Derive(rules)
	return p.file, nil
}

func (p *parser) unresolved(at *strict.Node, err error) {
	if list, ok := err.(lab.Issues); ok {
		p.d.Issues = append(p.d.Issues, list...)
		return
	}
	p.add(at.Pos(), "no_lab", "", "%v", err)
}

func (p *parser) cases(f *strict.Fields) {
	given := p.settings(f.Get("given"), nil)
	list := p.d.List(f.Require("cases"))
	if n := f.Get("cases"); n.IsList() && len(list) == 0 {
		p.add(n.Pos(), "asserts_nothing", "", "there is no case in it")
	}
	names := map[string]lab.Pos{}
	for i, n := range list {
		if i == maxCases {
			p.add(n.Pos(), "too_many", "make it several files", "more than %d cases", maxCases)
			return
		}
		c := p.oneCase(n, given)
		if first, ok := names[c.Name]; ok && c.Name != "" {
			p.add(c.Pos, "duplicate_name", "", "a case %q is there already, at %s", c.Name, first)
		} else {
			names[c.Name] = c.Pos
		}
		p.file.Cases = append(p.file.Cases, c)
	}
}

type parser struct {
	d    *strict.Decoder
	file *File

	// of the case at hand
	c    *Case
	ids  map[string]*ask // by the id of the command: what was asked first under it
	asks int
	last *ask
}

func (p *parser) add(pos lab.Pos, code, hint, format string, args ...any) {
	p.d.Issues.Add(pos, code, hint, format, args...)
}

func (p *parser) oneCase(n *strict.Node, given []setting) *Case {
	f := p.d.Map(n, "case", "name", "why", "given", "before", "do", "expect", "steps")
	p.c = &Case{Pos: n.Pos(), Name: p.d.Text(f.Require("name")), Why: p.d.Text(f.Get("why"))}
	p.ids, p.asks, p.last = map[string]*ask{}, 0, nil
	p.c.given = p.settings(f.Get("given"), given)
	start := p.before(f.Get("before"))
	issues := len(p.d.Issues)
	if steps := f.Get("steps"); steps != nil {
		for _, k := range []string{"do", "expect"} {
			if x := f.Get(k); x != nil {
				p.add(x.Pos(), "unknown_key", "a step of its own may say it", "a case with steps has no %s beside them", k)
			}
		}
		p.steps(p.d.List(steps), start)
	} else {
		p.single(f, n, start)
	}
	expects := slices.ContainsFunc(p.c.steps, func(s step) bool { return len(s.expect) > 0 })
	if !expects && len(p.d.Issues) == issues {
		p.add(n.Pos(), "asserts_nothing", "write expect: allowed, refused by RULE, tripped RULE, quiet …", "case %q expects nothing", p.c.Name)
	}
	p.summarize()
	return p.c
}

// before lists commands that are done before the case begins, a second apart,
// and returns when it begins.
func (p *parser) before(n *strict.Node) time.Duration {
	if n == nil {
		return 0
	}
	list := []*strict.Node{n}
	if n.IsList() {
		list = p.d.List(n)
	}
	var at time.Duration
	for i, e := range list {
		at += time.Second
		a := p.ask(e, nil)
		if a == nil {
			continue
		}
		a.id = fmt.Sprintf("b%d", i+1)
		p.c.steps = append(p.c.steps, step{at: at, pos: e.Pos(), before: true, do: a})
	}
	return at
}

// single is a case of one command at one second.
func (p *parser) single(f *strict.Fields, n *strict.Node, start time.Duration) {
	s := step{at: start + time.Second, pos: n.Pos()}
	if do := f.Get("do"); do != nil {
		s.do = p.ask(do, nil)
		p.named(s.do, do)
		s.pos = do.Pos()
	}
	s.expect = p.expectations(f.Get("expect"))
	p.c.steps = append(p.c.steps, s)
}

func (p *parser) steps(list []*strict.Node, start time.Duration) {
	var last time.Duration
	for i, n := range list {
		if i == maxSteps {
			p.add(n.Pos(), "too_many", "", "more than %d steps", maxSteps)
			return
		}
		s, at := p.step(n)
		switch {
		case s.at < 0 || s.at > maxTime:
			p.add(at, "bad_value", fmt.Sprintf("from 0 s to %s", lab.Seconds(maxTime)), "%s is no time of a case", lab.Seconds(s.at))
		case s.at < last:
			p.add(at, "not_ascending", "in the order in which they happen", "%s comes after %s", lab.Seconds(s.at), lab.Seconds(last))
		default:
			last = s.at
		}
		s.at += start
		p.c.steps = append(p.c.steps, s)
	}
}

// stepKeys are those of a step; the last ones say more about its command.
var stepKeys = []string{"at", "set", "ramp", "freeze", "stuck", "thaw", "done", "partial", "failed", "lost", "resolve", "ends", "reset", "bypass", "rearm",
	"acknowledge", "stop", "restart", "epoch", "do", "expect", "id", "run", "as", "campaign", "not_after", "lease", "finally", "raw"}

// askKeys are the keys of a command.
var askKeys = []string{"id", "run", "as", "campaign", "not_after", "lease", "finally", "raw"}

func (p *parser) step(n *strict.Node) (step, lab.Pos) {
	before := len(p.d.Issues)
	f := p.d.Map(n, "step", stepKeys...)
	if len(p.d.Issues) > before && strings.Contains(f.Get("do").Text(), "(") && !strings.Contains(f.Get("do").Text(), ")") {
		p.add(f.Get("do").Pos(), "bad_call", `do: "pump_a.dose(volume = 5 mL, rate = 1 mL/min)"`, "put a call in quotes where it stands between { and }: a comma ends it there")
		f = p.d.Map(nil, "step")
	}
	s := step{pos: n.Pos(), at: p.d.Duration(f.Require("at"))}
	s.thaw = p.properties(f.Get("thaw"))
	s.set = p.settings(f.Get("set"), nil)
	s.ramps = p.ramps(f.Get("ramp"))
	s.stuck = p.properties(f.Get("stuck"))
	s.freeze = p.properties(f.Get("freeze"))
	s.epoch = p.instruments(f.Get("epoch"))
	if x := f.Get("restart"); x != nil {
		if s.restart = p.d.Bool(x); !s.restart {
			p.add(x.Pos(), "bad_value", "leave it out", "restart: is true")
		}
	}
	if do := f.Get("do"); do != nil {
		s.do = p.ask(do, f)
	} else {
		for _, k := range askKeys {
			if x := f.Get(k); x != nil {
				p.add(x.Pos(), "unknown_key", "beside do:", "%s says something about a command, and this step asks for none", k)
			}
		}
	}
	s.done, s.failed, s.lost = p.known(f.Get("done")), p.known(f.Get("failed")), p.known(f.Get("lost"))
	s.partial, s.resolve = p.partials(f.Get("partial")), p.resolves(f.Get("resolve"))
	s.ends = p.texts(f.Get("ends"))
	p.operator(f, &s)
	if s.do != nil {
		p.named(s.do, f.Get("do")) // what is done at the same instant was asked for before
	}
	s.expect = p.expectations(f.Get("expect"))
	return s, f.Get("at").Pos()
}

// operator reads what people do.
func (p *parser) operator(f *strict.Fields, s *step) {
	if n := f.Get("reset"); n != nil {
		s.reset = p.oneRule(n, p.d.Text(n), safety.TripRule)
	}
	if n := f.Get("rearm"); n != nil {
		s.rearm = p.oneRule(n, p.d.Text(n), 0)
	}
	if n := f.Get("acknowledge"); n != nil {
		s.acknowledge = p.oneRule(n, p.d.Text(n), safety.AlarmRule)
	}
	if n := f.Get("bypass"); n != nil {
		b := p.d.Map(n, "bypass", "rule", "for")
		rule := b.Require("rule")
		s.bypass, s.bypassFor = p.oneRule(rule, p.d.Text(rule), 0), p.d.Duration(b.Require("for"))
	}
	if n := f.Get("stop"); n != nil {
		if s.stop = p.d.Text(n); s.stop != "all" && s.stop != "" {
			s.stop = strings.Join(p.instruments(n), "")
		}
	}
}

// summarize says what the case is about.
func (p *parser) summarize() {
	c := p.c
	for i := range c.steps {
		s := &c.steps[i]
		if s.do != nil && !slices.Contains(c.runs, s.do.run) {
			c.runs = append(c.runs, s.do.run)
		}
		if len(s.expect) > 0 {
			c.MustRefuse = slices.ContainsFunc(s.expect, func(e expectation) bool { return e.holdsBack() })
		}
		for _, e := range s.expect {
			c.mention(e.rules...)
		}
		c.mention(s.reset, s.bypass, s.acknowledge)
	}
}

func (c *Case) mention(rules ...string) {
	for _, r := range rules {
		if r != "" && !slices.Contains(c.Rules, r) {
			c.Rules = append(c.Rules, r)
		}
	}
}
