package safety

import (
	"fmt"
	"strings"
	"time"

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
	p := &parser{d: &strict.Decoder{Issues: is}, rules: newRules(l), broken: map[string]bool{}}
	f := p.d.Map(root, "file of interlocks", "interlocks", "signals", "rules")
	p.rules.Name = p.d.Text(f.Require("interlocks"))
	p.signals(f.Get("signals"))
	list := p.d.List(f.Require("rules"))
	p.rules.numberSlots(p.groups(list))
	p.checkSignals()
	ids := map[string]lab.Pos{}
	for _, n := range list {
		r := p.rule(n)
		if first, ok := ids[r.ID]; ok && r.ID != "" {
			p.add(r.Pos, "duplicate_id", "", "rule %q is there already, at %s", r.ID, first)
		} else {
			ids[r.ID] = r.Pos
		}
		p.rules.add(r)
	}
	p.labLimits(l)
	p.d.Issues.Sort()
	if len(p.d.Issues) > 0 {
		return nil, p.d.Issues
	}
	p.rules.Hash = lab.HashText(append([]byte(l.Hash+"\n"), data...))
	return p.rules, nil
}

type parser struct {
	d      *strict.Decoder
	rules  *Rules
	broken map[string]bool // signals that were reported
}

func (p *parser) add(pos lab.Pos, code, hint, format string, args ...any) {
	p.d.Issues.Add(pos, code, hint, format, args...)
}

func (r *Rules) add(x *Rule) {
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

var ruleKeys = []string{"id", "about", "limit", "min", "max", "permissive", "require", "grace", "at",
	"trip", "when", "unknown_for", "respond_within", "do", "mitigates", "run", "bypass"}

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
	var kinds []string
	var takes []string
	for _, k := range []struct {
		key  string
		kind RuleKind
		read func(*strict.Fields, *Rule)
		keys []string
	}{
		{"limit", LimitRule, p.limit, []string{"min", "max"}},
		{"permissive", PermissiveRule, p.permissive, []string{"require", "grace", "at"}},
		{"trip", TripRule, p.trip, []string{"when", "unknown_for", "respond_within", "do", "mitigates", "run", "bypass"}},
	} {
		if f.Get(k.key) == nil {
			continue
		}
		kinds, takes = append(kinds, k.key), k.keys
		r.Kind = k.kind
		k.read(f, r)
	}
	switch len(kinds) {
	case 0:
		p.add(r.Pos, "rule_kind", "", "a rule is a limit, a permissive or a trip; this one is none of them")
	case 1:
		p.onlyKeys(f, kinds[0], takes)
	default:
		p.add(r.Pos, "rule_kind", "make them rules of their own", "one rule can't be a %s", strings.Join(kinds, " and a "))
	}
	return r
}

func (p *parser) onlyKeys(f *strict.Fields, kind string, keys []string) {
	allowed := append([]string{"id", "about", kind}, keys...)
	for _, k := range f.Keys() {
		ok := false
		for _, a := range allowed {
			ok = ok || a == k
		}
		known := false
		for _, a := range ruleKeys {
			known = known || a == k
		}
		if known && !ok {
			p.add(f.Get(k).Pos(), "unknown_key", "it takes "+strings.Join(keys, ", "), "a %s has no %q", kind, k)
		}
	}
}

func validRuleID(s string) bool {
	return lab.ValidName(strings.ReplaceAll(s, "-", "_"))
}

// ends are the bounds of a limit, where they could be read.
type limitEnd struct {
	node *strict.Node
	q    *lab.Quantity
}

func (p *parser) limitEnd(n *strict.Node) limitEnd {
	before := len(p.d.Issues)
	q := p.d.Quantity(n)
	if n == nil || len(p.d.Issues) > before {
		return limitEnd{}
	}
	return limitEnd{n, &q}
}

func (p *parser) limit(f *strict.Fields, r *Rule) {
	n := f.Get("limit")
	low, high := p.limitEnd(f.Get("min")), p.limitEnd(f.Get("max"))
	r.Limit.Min, r.Limit.Max = low.q, high.q
	paths := p.names(n)
	for _, path := range paths {
		i := strings.LastIndexByte(path, '.')
		if i < 0 {
			p.add(n.Pos(), "bad_name", "", "%s: write instrument.command.argument", path)
			continue
		}
		id, spec, err := p.rules.lab.ResolveCommand(path[:i])
		if err != nil {
			p.add(n.Pos(), "unknown_name", "", "%v", err)
			continue
		}
		arg := spec.Arg(path[i+1:])
		if arg == nil {
			p.add(n.Pos(), "unknown_name", "", "%s has no argument %q%s", id, path[i+1:], hint(path[i+1:], argNames(spec)))
			continue
		}
		if arg.Type.Kind != lab.Number && arg.Type.Kind != lab.Integer {
			p.add(n.Pos(), "wrong_type", "", "%s of %s is a %s; only numbers have limits", arg.Name, id, arg.Type.Kind)
			continue
		}
		r.Targets = append(r.Targets, Target{Command: id, Arg: arg.Name})
		for _, b := range []limitEnd{low, high} {
			switch {
			case b.q == nil || b.q.Unit.Dim() == arg.Type.Unit.Dim():
			case b.q.Unit == lab.One:
				p.add(b.node.Pos(), "no_unit", "write "+lab.Quantity{Value: b.q.Value, Unit: arg.Type.Unit}.String()+", if that is what you mean", "%s has no unit; %s of %s is a %s", b.q, arg.Name, id, arg.Type.Unit.Dim())
			default:
				p.add(b.node.Pos(), "wrong_dimension", "", "%s is a %s, %s of %s is a %s", b.q, b.q.Unit.Dim(), arg.Name, id, arg.Type.Unit.Dim())
			}
		}
	}
	if f.Get("min") == nil && f.Get("max") == nil {
		p.add(n.Pos(), "missing_key", "give min, max or both", "a limit without min and max bounds nothing")
	}
	if r.Limit.Min != nil && r.Limit.Max != nil && r.Limit.Min.Unit.Dim() == r.Limit.Max.Unit.Dim() && r.Limit.Min.Base() > r.Limit.Max.Base() {
		p.add(n.Pos(), "empty_range", "", "min %s is above max %s: nothing would be allowed", r.Limit.Min, r.Limit.Max)
	}
}

// names reads a list of names with commas between them, of which there is at
// least one.
func (p *parser) names(n *strict.Node) []string {
	before := len(p.d.Issues)
	list := splitList(p.d.Text(n))
	if len(list) == 0 && len(p.d.Issues) == before {
		p.add(n.Pos(), "no_target", "", "it names no command: the rule would guard nothing")
	}
	return list
}

func (p *parser) permissive(f *strict.Fields, r *Rule) {
	n := f.Get("permissive")
	ids := p.commands(n, p.names(n))
	for _, id := range ids {
		r.Targets = append(r.Targets, Target{Command: id})
	}
	if require := f.Require("require"); len(ids) > 0 {
		r.expr = p.condition(require, p.commonArgs(ids))
	}
	if g := f.Get("grace"); g != nil {
		r.Grace = p.d.Duration(g)
	}
	if at := f.Get("at"); at != nil {
		if p.d.Text(at) != "start" {
			p.add(at.Pos(), "bad_value", "leave it out for a condition that must hold until the command is done", "at: %s; only start is understood", p.d.Text(at))
		}
		r.AtStart = true
	}
}

func (p *parser) trip(f *strict.Fields, r *Rule) {
	r.Group = p.d.Name(f.Get("trip"), "trip group")
	if r.Group == stopGroup {
		p.add(f.Get("trip").Pos(), "reserved", "", "%q is the group of emergency stops", r.Group)
	}
	r.expr = p.condition(f.Require("when"), nil)
	if n := f.Get("unknown_for"); n != nil {
		r.UnknownFor = p.d.Duration(n)
	}
	do := f.Require("do")
	for _, id := range p.commands(do, p.texts(do)) {
		r.Do = append(r.Do, lab.SafeStep{Command: id})
		if spec := p.rules.lab.CommandSpec(id); spec.Effect != lab.Safe {
			p.add(do.Pos(), "not_safe", "a trip acts through the safe lane", "%s is %s by its class, not safe", id, spec.Effect)
		}
	}
	if do.Kind() == strict.List && len(p.d.List(do)) == 0 {
		p.add(do.Pos(), "no_action", "an alarm is for what only a person can answer", "a trip without an action protects nothing")
	}
	if n := f.Get("mitigates"); n != nil {
		r.Mitigates = p.commands(n, p.texts(n))
	}
	r.Run = RunAbort
	if n := f.Get("run"); n != nil {
		r.Run = p.d.Text(n)
		if r.Run != RunAbort && r.Run != RunHold {
			p.add(n.Pos(), "bad_value", "abort or hold", "run: %s", r.Run)
		}
	}
	if n := f.Get("bypass"); n != nil {
		if p.d.Text(n) != "never" {
			p.add(n.Pos(), "bad_value", "leave it out where a bypass may be asked for", "bypass: %s; only never is understood", p.d.Text(n))
		}
		r.NoBypass = true
	}
	p.respondWithin(f.Get("respond_within"), r)
}

// respondWithin checks that the promise can be kept at all: the oldest reading
// that still counts, plus the grace, plus the slowest stop.
func (p *parser) respondWithin(n *strict.Node, r *Rule) {
	before := len(p.d.Issues)
	r.RespondWithin = p.d.Duration(n)
	if n == nil || r.expr == nil || len(p.d.Issues) > before {
		return
	}
	var age, stop time.Duration
	for _, s := range r.expr.Slots() {
		age = max(age, p.rules.maxAge(s))
	}
	for _, s := range r.Do {
		stop = max(stop, p.rules.lab.CommandSpec(s.Command).Within)
	}
	if worst := age + r.UnknownFor + stop; worst > r.RespondWithin {
		p.add(n.Pos(), "too_slow", "shorten unknown_for, or promise less",
			"it can take %s (readings up to %s old, unknown for %s, a stop within %s), longer than %s", lab.Seconds(worst), lab.Seconds(age), lab.Seconds(r.UnknownFor), lab.Seconds(stop), lab.Seconds(r.RespondWithin))
	}
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
	prog, err := expr.Compile(src, ruleScope{p.rules, args})
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

func (p *parser) commands(n *strict.Node, paths []string) []lab.CommandID {
	var ids []lab.CommandID
	for _, path := range paths {
		id, _, err := p.rules.lab.ResolveCommand(path)
		if err != nil {
			p.add(n.Pos(), "unknown_name", "", "%v", err)
			continue
		}
		ids = append(ids, id)
	}
	return ids
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
		sf := p.d.Map(v, "signal", "vote")
		vf := p.d.Map(sf.Require("vote"), "vote", "of", "need", "within")
		of := p.texts(vf.Require("of"))
		need := p.d.Int(vf.Require("need"))
		within := p.d.Quantity(vf.Require("within"))
		if n := vf.Get("need"); len(p.d.Issues) == before && (need < 2 || int(need) > len(of)) {
			p.add(n.Pos(), "bad_value", "a vote needs at least 2", "need: %d of %d sensors", need, len(of))
		}
		p.rules.signals[name] = lab.Source{Text: fmt.Sprintf("voted(%d, %s, %s)", need, literal(within), strings.Join(of, ", ")), Pos: v.Pos()}
		if len(p.d.Issues) > before {
			p.broken[name] = true
		}
	}
}

// checkSignals compiles every signal, also those that no rule uses.
func (p *parser) checkSignals() {
	for _, name := range sortedKeys(p.rules.signals) {
		src := p.rules.signals[name]
		if p.broken[name] {
			continue
		}
		if _, err := expr.Compile(lab.Source{Text: name, Pos: src.Pos}, p.rules.scope()); err != nil {
			p.addExpr(src, err)
			p.broken[name] = true
		}
	}
}

func (p *parser) texts(n *strict.Node) []string {
	var list []string
	if n == nil {
		return nil
	}
	for _, e := range p.d.List(n) {
		list = append(list, p.d.Text(e))
	}
	return list
}

func splitList(s string) []string {
	var list []string
	for _, x := range strings.Split(s, ",") {
		if x = strings.TrimSpace(x); x != "" {
			list = append(list, x)
		}
	}
	return list
}

func argNames(spec *lab.CommandSpec) []string {
	var names []string
	for _, a := range spec.Args {
		names = append(names, a.Name)
	}
	return names
}

func hint(s string, names []string) string {
	if n := lab.Nearest(s, names); n != "" {
		return "; did you mean " + n + "?"
	}
	return ""
}
