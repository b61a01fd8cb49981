package safety

import (
	"slices"
	"strings"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/lab/expr"
)

// Parse reads an interlocks file and compiles it for a lab, together with the
// lab file's own limits. It reports every issue at once, with positions; with
// any issue there are no rules.
func Parse(file string, data []byte, l *lab.Lab) (*Rules, lab.Issues) {
	root, is := strict.Parse(file, data)
	if root == nil {
		return nil, is
	}
	p := &parser{d: &strict.Decoder{Issues: is}, rules: newRules(l), broken: map[string]bool{}, votes: map[string]voteParts{}}
	f := p.d.Map(root, "file of interlocks", "interlocks", "signals", "nominal", "bypasses", "explained", "rules")
	p.rules.Name = p.d.Text(f.Require("interlocks"))
	p.signals(f.Get("signals"))
	p.head(f)
	list := p.d.List(f.Require("rules"))
	p.rules.numberSlots(p.groups(list))
	p.checkSignals()
	ids := map[string]lab.Pos{}
	for _, n := range list {
		for _, r := range p.expand(n) {
			if first, ok := ids[r.ID]; ok && r.ID != "" {
				p.add(r.Pos, "duplicate_id", "", "rule %q is there already, at %s", r.ID, first)
			} else {
				ids[r.ID] = r.Pos
			}
			p.rules.add(r)
		}
	}
	p.labLimits(l)
	if is := p.d.Issues; len(is) > 0 {
		is.Sort()
		return nil, slices.CompactFunc(is, func(a, b lab.Issue) bool { return a.Pos == b.Pos && a.Say == b.Say })
	}
	p.rules.Hash = lab.HashText(append([]byte(l.Hash+"\n"), data...))
	p.rules.Text = string(data)
	return p.rules, nil
}

type parser struct {
	d      *strict.Decoder
	rules  *Rules
	broken map[string]bool // signals that were reported
	votes  map[string]voteParts
	self   string // the component that self stands for: instrument.component
}

func (p *parser) add(pos lab.Pos, code, hint, format string, args ...any) {
	p.d.Issues.Add(pos, code, hint, format, args...)
}

func (r *Rules) add(x *Rule) {
	x.n = len(r.Rules)
	r.Rules = append(r.Rules, x)
	seen := map[lab.CommandID]bool{}
	for _, t := range x.Targets {
		if !seen[t.Command] {
			seen[t.Command] = true
			r.byCommand[t.Command] = append(r.byCommand[t.Command], x)
		}
	}
}

// groups finds the trip groups before any expression is compiled, since
// tripped(group) may come first.
func (p *parser) groups(list []*strict.Node) []string {
	var names []string
	quiet := &strict.Decoder{} // the issues are found again when the rule is read
	for _, n := range list {
		f := quiet.Map(n, "rule", ruleKeys...)
		if g := f.Get("trip"); g != nil {
			names = append(names, quiet.Name(g, "trip group"))
		}
	}
	return append(names, stopGroup)
}

// commonKeys stand in rules of every kind.
var commonKeys = []string{"id", "about", "for", "bypass", "proof_test"}

// kindKeys are the keys of each kind of rule, beside the one that makes it.
var kindKeys = []struct {
	key  string
	kind RuleKind
	keys []string
	read func(*parser, *strict.Fields, *Rule)
}{
	{"limit", LimitRule, []string{"min", "max", "step", "from", "change", "total", "together"}, (*parser).limit},
	{"permissive", PermissiveRule, []string{"require", "grace", "at"}, (*parser).permissive},
	{"trip", TripRule, []string{"when", "on_delay", "unknown_for", "healthy", "respond_within", "do", "mitigates", "run", "hold_for"}, (*parser).trip},
	{"sequence", SequenceRule, []string{"after", "within", "not_since"}, (*parser).sequence},
	{"zone", ZoneRule, []string{"claim"}, (*parser).zone},
	{"budget", BudgetRule, []string{"max"}, (*parser).budget},
	{"alarm", AlarmRule, []string{"on_delay", "unknown_for"}, (*parser).alarm},
}

// ruleKeys are all the keys that a rule may have.
var ruleKeys = func() []string {
	keys := slices.Clone(commonKeys)
	for _, k := range kindKeys {
		for _, x := range append([]string{k.key}, k.keys...) {
			if !slices.Contains(keys, x) {
				keys = append(keys, x)
			}
		}
	}
	return keys
}()

// expand reads a rule: one, or with for: one for each component of a class.
func (p *parser) expand(n *strict.Node) []*Rule {
	quiet := &strict.Decoder{}
	f := quiet.Map(n, "rule", ruleKeys...)
	of := f.Get("for")
	if of == nil {
		return []*Rule{p.rule(n)}
	}
	var rules []*Rule
	before := len(p.d.Issues)
	class, ok := p.whole(of)
	if !ok {
		return nil
	}
	for _, c := range p.components(class) {
		p.self = c
		r := p.rule(n)
		r.ID += "@" + c
		rules = append(rules, r)
		if len(p.d.Issues) > before {
			break // the others would say the same
		}
	}
	p.self = ""
	return rules
}

func (p *parser) rule(n *strict.Node) *Rule {
	f := p.d.Map(n, "rule", ruleKeys...)
	r := &Rule{Pos: n.Pos(), ID: p.d.Text(f.Require("id")), About: p.d.Text(f.Get("about"))}
	switch id := f.Get("id"); {
	case id == nil || r.ID == "": // reported
	case r.ID == stopGroup:
		p.add(id.Pos(), "reserved", "", "%q is the id of an emergency stop", r.ID)
	case !validRuleID(r.ID):
		p.add(id.Pos(), "bad_name", "lower-case letters, digits and dashes", "%q is not a rule id", r.ID)
	}
	var kinds, are, takes, all []string
	for _, k := range kindKeys {
		if all = append(all, k.key); f.Get(k.key) == nil {
			continue
		}
		kinds, are, takes = append(kinds, k.key), append(are, article(k.key)), k.keys
		r.Kind = k.kind
		k.read(p, f, r)
	}
	switch len(kinds) {
	case 0:
		p.add(r.Pos, "rule_kind", "one of "+strings.Join(all, ", "), "nothing says what kind of rule this is")
	case 1:
		p.onlyKeys(f, kinds[0], takes)
	default:
		p.add(r.Pos, "rule_kind", "make them rules of their own", "one rule can't be %s", strings.Join(are, " and "))
	}
	if b := f.Get("bypass"); b != nil {
		if p.d.Text(b) != "never" {
			p.add(b.Pos(), "bad_value", "leave it out where a bypass may be asked for", "bypass: %s; only never is understood", p.d.Text(b))
		}
		r.NoBypass = true
	}
	p.proofTest(f.Get("proof_test"), r)
	return r
}

func (p *parser) onlyKeys(f *strict.Fields, kind string, keys []string) {
	for _, k := range f.Keys() {
		if slices.Contains(ruleKeys, k) && !slices.Contains(commonKeys, k) && !slices.Contains(keys, k) && k != kind {
			p.add(f.KeyPos(k), "unknown_key", "it takes "+strings.Join(keys, ", "), "%s has no %q", article(kind), k)
		}
	}
}

func article(kind string) string {
	if kind == "alarm" {
		return "an alarm"
	}
	return "a " + kind
}

func validRuleID(s string) bool {
	return lab.ValidName(strings.ReplaceAll(s, "-", "_"))
}

// condition compiles a rule's expression, which must be a condition.
func (p *parser) condition(n *strict.Node, args map[string]lab.Type) *expr.Program {
	if n == nil {
		return nil
	}
	before := len(p.d.Issues)
	src := p.d.Source(n)
	if len(p.d.Issues) > before {
		return nil
	}
	return p.conditionOf(src, args)
}

func (p *parser) conditionOf(src lab.Source, args map[string]lab.Type) *expr.Program {
	prog, err := expr.Compile(src, ruleScope{rules: p.rules, args: args, self: p.self})
	if err != nil {
		if !p.uses(src.Text) { // a broken signal was reported where it stands
			p.addExpr(src, err)
		}
		return nil
	}
	if prog.Type().Kind != lab.Bool {
		p.add(src.Pos, "wrong_type", "write a comparison", "%s is a %s, not a condition", src.Text, prog.Type())
		return nil
	}
	return prog
}

// uses reports whether an expression names a signal that is broken.
func (p *parser) uses(text string) (broken bool) {
	expr.Rewrite(text, func(name string) string {
		broken = broken || p.broken[name]
		return name
	})
	return broken
}

func (p *parser) addExpr(src lab.Source, err error) {
	if list, ok := err.(lab.Issues); ok {
		p.d.Issues = append(p.d.Issues, list...)
		return
	}
	p.add(src.Pos, "bad_expression", "", "%v", err)
}

// commonArgs are the arguments that all the commands have with one type.
func (p *parser) commonArgs(ids []lab.CommandID) map[string]lab.Type {
	common := map[string]lab.Type{}
	for i, id := range ids {
		spec := p.rules.lab.CommandSpec(id)
		if i == 0 {
			for _, a := range spec.Args {
				common[a.Name] = a.Type
			}
			continue
		}
		for n, t := range common {
			if a := spec.Arg(n); a == nil || a.Type.Kind != t.Kind || a.Type.Unit.Dim() != t.Unit.Dim() {
				delete(common, n)
			}
		}
	}
	return common
}
