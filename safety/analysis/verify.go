package analysis

import (
	"fmt"
	"sort"
	"strings"

	"labgate/lab"
	"labgate/lab/expr"
	"labgate/safety"
)

// The codes of findings.
const (
	NeverFires     = "never-fires"     // nothing that a class and a lab allow makes it act
	AlwaysFires    = "always-fires"    // it refuses everything, or trips at once
	Contradicts    = "contradicts"     // two rules, and no state that satisfies both
	Shadowed       = "shadowed"        // another rule does all that it does
	Unguarded      = "unguarded"       // a command that moves something, and no rule that asks
	NoSafeAction   = "no-safe-action"  // a trip that leaves alone what it watches
	NoMaxAge       = "no-max-age"      // a signal that never grows stale
	OtherGateway   = "other-gateway"   // a rule over instruments of two gateways
	NoMitigation   = "no-mitigation"   // what a trip lets pass, another rule refuses then
	NeverEnds      = "never-ends"      // a zone that is held for ever
	ExplainedStale = "explained-stale" // an explanation of something that is not there
	mutantPrefix   = "mutant:"
)

// Finding is one thing about the rules that somebody should look at.
type Finding struct {
	ID        string  `json:"id"` // stable: code:rule or code:command
	Code      string  `json:"code"`
	Rule      string  `json:"rule,omitempty"`
	Pos       lab.Pos `json:"-"`
	Say       string  `json:"say"`
	Hint      string  `json:"hint,omitempty"`
	Explained string  `json:"explained,omitempty"` // why it is all right, by the interlocks file
}

// Verify looks for what is odd about a lab's rules. The findings come in the
// order of the file. What the file explains is marked; an explanation that
// explains nothing is a finding, except of mutants, which Stale judges once
// they have been tried.
func Verify(rules *safety.Rules) []Finding {
	v := &verifier{rules: rules, lab: rules.Lab()}
	for _, r := range rules.Rules {
		v.acts(r)
		v.ages(r)
		v.gateways(r)
		if r.Kind == safety.TripRule {
			v.action(r)
			v.mitigates(r)
		}
	}
	v.pairs()
	v.unguarded()
	sort.SliceStable(v.list, func(i, j int) bool { return before(v.list[i].Pos, v.list[j].Pos) })
	return v.explain()
}

func before(a, b lab.Pos) bool {
	if a.File != b.File {
		return a.File < b.File
	}
	return a.Line < b.Line || a.Line == b.Line && a.Column < b.Column
}

type verifier struct {
	rules *safety.Rules
	lab   *lab.Lab
	list  []Finding
	seen  map[string]bool
}

// add notes a finding about a rule; more completes its id.
func (v *verifier) add(code string, r *safety.Rule, more, hint, format string, args ...any) {
	v.note(Finding{ID: code + ":" + r.ID + more, Code: code, Rule: r.ID, Pos: r.Pos, Say: fmt.Sprintf(format, args...), Hint: hint})
}

func (v *verifier) note(f Finding) {
	if v.seen == nil {
		v.seen = map[string]bool{}
	}
	if !v.seen[f.ID] {
		v.seen[f.ID] = true
		v.list = append(v.list, f)
	}
}

// acts asks whether a rule can act, and whether it can let anything be.
func (v *verifier) acts(r *safety.Rule) {
	switch r.Kind {
	case safety.PermissiveRule:
		v.permissive(r)
	case safety.TripRule, safety.AlarmRule:
		v.watch(r)
	case safety.LimitRule:
		v.limit(r)
	case safety.SequenceRule:
		for _, f := range r.Formulas() {
			s := newSpace(v.rules, lab.CommandID{}, nil, f.Program)
			if f.Role == safety.RoleAfter && !s.canBe(f.Program, expr.True) {
				v.add(AlwaysFires, r, "", "", "%s can never be true, so what has to come after it is always refused", text(f.Program))
			}
			if f.Role == safety.RoleNotSince && !s.canBe(f.Program, expr.False) {
				v.add(AlwaysFires, r, "", "", "%s is always true, so it is always refused", text(f.Program))
			}
		}
	case safety.ZoneRule:
		for _, f := range r.Formulas() {
			if !newSpace(v.rules, f.Command, nil, f.Program).canBe(f.Program, expr.False) {
				v.add(NeverEnds, r, "", "claim it while something that ends", "%s is always true: once claimed, the zone is never free again", text(f.Program))
			}
		}
	}
}

// requires is the condition of a permissive for one of its commands.
func requires(r *safety.Rule, cmd lab.CommandID) *expr.Program {
	var all *expr.Program
	for _, f := range r.Formulas() {
		if f.Role == safety.RoleRequire {
			if f.Command == cmd {
				return f.Program
			}
			if f.Command == (lab.CommandID{}) {
				all = f.Program
			}
		}
	}
	return all
}

// when is the condition of a trip or an alarm.
func when(r *safety.Rule) *expr.Program {
	for _, f := range r.Formulas() {
		if f.Role == safety.RoleWhen {
			return f.Program
		}
	}
	return nil
}

func (v *verifier) permissive(r *safety.Rule) {
	refuses := false
	for _, t := range r.Targets {
		p := requires(r, t.Command)
		if p == nil {
			return
		}
		s := newSpace(v.rules, t.Command, nil, p)
		if !s.canBe(p, expr.True) {
			v.add(AlwaysFires, r, "", "", "it refuses every %s: %s can never be true", t.Command, text(p))
			return
		}
		refuses = refuses || s.canBe(p, expr.False)
	}
	if !refuses {
		v.add(NeverFires, r, "", "", "it refuses nothing that is known: %s is always true", text(requires(r, r.Targets[0].Command)))
	}
}

func (v *verifier) watch(r *safety.Rule) {
	p := when(r)
	if p == nil {
		return
	}
	s := newSpace(v.rules, lab.CommandID{}, nil, p)
	switch {
	case !s.canBe(p, expr.True):
		v.add(NeverFires, r, "", "", "%s can never be true", text(p))
	case !s.canBe(p, expr.False):
		v.add(AlwaysFires, r, "", "", "%s is always true", text(p))
	}
	for _, f := range r.Formulas() {
		if f.Role != safety.RoleHealthy {
			continue
		}
		h := newSpace(v.rules, lab.CommandID{}, nil, f.Program, p)
		switch {
		case !h.canBe(f.Program, expr.True):
			v.add(NeverEnds, r, "", "", "healthy: %s can never be true, so no reset is ever taken", text(f.Program))
		case h.implies(f.Program, p):
			v.add(Contradicts, r, "", "healthy has to exclude when", "healthy: %s is true only where it trips", text(f.Program))
		}
	}
}

// limit finds limits that only repeat what a class or a lab file says.
func (v *verifier) limit(r *safety.Rule) {
	if r.FromLab || r.Limit.Min == nil && r.Limit.Max == nil || r.Limit.Step != nil || r.Limit.Change != nil || r.Limit.Total != nil {
		return
	}
	for _, t := range r.Targets {
		p := v.lab.CommandSpec(t.Command).Arg(t.Arg)
		if !covers(paramEnds(p), ends(r)) {
			return
		}
	}
	v.add(NeverFires, r, "", "", "the class allows nothing beyond it anyway")
}

// bounds are the ends that something gives a number; nil: none.
type bounds struct{ low, high *lab.Quantity }

func ends(r *safety.Rule) bounds { return bounds{r.Limit.Min, r.Limit.Max} }

func paramEnds(p *lab.Param) (b bounds) {
	quantity := func(v *lab.Value) *lab.Quantity {
		q := v.Quantity()
		return &q
	}
	if p.Min != nil {
		b.low = quantity(p.Min)
	}
	if p.MoreThan != nil {
		b.low = quantity(p.MoreThan)
	}
	if p.Max != nil {
		b.high = quantity(p.Max)
	}
	return b
}

// covers reports whether a is nowhere wider than b, where b says anything.
func covers(a, b bounds) bool {
	low := b.low == nil || a.low != nil && a.low.Base() >= b.low.Base()
	high := b.high == nil || a.high != nil && a.high.Base() <= b.high.Base()
	return low && high
}

// ages finds signals that stay known for ever.
func (v *verifier) ages(r *safety.Rule) {
	for _, f := range r.Formulas() {
		for _, slot := range f.Program.Slots() {
			id, ok := v.rules.PropertyAt(slot)
			if ok && v.lab.PropertySpec(id).MaxAge <= 0 {
				v.note(Finding{ID: NoMaxAge + ":" + id.String(), Code: NoMaxAge, Rule: r.ID, Pos: r.Pos,
					Say:  fmt.Sprintf("%s has no max_age: a reading from yesterday would still count", id),
					Hint: "give the property of its class a max_age"})
			}
		}
	}
}

// involves lists the instruments that a rule reads, guards or moves.
func (v *verifier) involves(r *safety.Rule) []string {
	seen := map[string]bool{}
	for _, f := range r.Formulas() {
		for _, slot := range f.Program.Slots() {
			if id, ok := v.rules.PropertyAt(slot); ok {
				seen[id.Instrument] = true
			}
		}
	}
	for _, t := range r.Targets {
		seen[t.Command.Instrument] = true
	}
	for _, s := range r.Do {
		seen[s.Command.Instrument] = true
	}
	for _, c := range r.Mitigates {
		seen[c.Instrument] = true
	}
	delete(seen, "")
	return sorted(seen)
}

func (v *verifier) gateways(r *safety.Rule) {
	owners := map[string]bool{}
	for _, name := range v.involves(r) {
		if in := v.lab.Instrument(name); in != nil {
			owners[in.Gateway] = true
		}
	}
	if len(owners) > 1 {
		v.add(OtherGateway, r, "", "make it a rule of one gateway", "it concerns instruments of the gateways %s; what one says, the other does not know in time", strings.Join(sorted(owners), " and "))
	}
}

// action finds instruments that a trip watches, that can do harm, and that it
// does nothing about.
func (v *verifier) action(r *safety.Rule) {
	p := when(r)
	if p == nil {
		return
	}
	acted, watched := map[string]bool{}, map[string]bool{}
	for _, s := range r.Do {
		acted[s.Command.Instrument] = true
	}
	for _, slot := range p.Slots() {
		if id, ok := v.rules.PropertyAt(slot); ok {
			watched[id.Instrument] = true
		}
	}
	for _, name := range sorted(watched) {
		if acted[name] || !v.harmful(name) {
			continue
		}
		v.add(NoSafeAction, r, "+"+name, "add a safe command of "+name+" to do, or explain why it is left alone",
			"it trips on what %s shows and does nothing about it: %s may go on", name, name)
	}
	if len(r.Do) == 0 {
		v.add(NoSafeAction, r, "", "", "it does nothing")
	}
}

func (v *verifier) harmful(name string) bool {
	for _, c := range v.lab.Instrument(name).Profile.Components {
		for _, cmd := range c.Class.Commands {
			if moves(cmd.Effect) {
				return true
			}
		}
	}
	return false
}

// mitigates finds rescues that are refused just when they are needed.
func (v *verifier) mitigates(r *safety.Rule) {
	latched := map[int]expr.Range{}
	for _, cmd := range r.Mitigates {
		for _, id := range v.rules.For(cmd) {
			g := v.rules.Find(id)
			if g == nil || g.Kind != safety.PermissiveRule {
				continue
			}
			p := requires(g, cmd)
			if p == nil {
				continue
			}
			for _, slot := range p.Slots() {
				if group, ok := v.rules.GroupAt(slot); ok && group == r.Group {
					latched[slot] = expr.Exactly(lab.BoolValue(true))
				}
			}
			if !newSpace(v.rules, cmd, latched, p).canBe(p, expr.True) {
				v.add(NoMitigation, r, "+"+cmd.String(), "take it out of mitigates, or let "+g.ID+" pass it",
					"%s is to pass while it is tripped, and %s refuses it then", cmd, g.ID)
			}
		}
	}
}

// unguarded finds commands that nothing asks about.
func (v *verifier) unguarded() {
	file := lab.Pos{File: v.lab.Pos.File}
	for _, r := range v.rules.Rules {
		if !r.FromLab {
			file = lab.Pos{File: r.Pos.File}
			break
		}
	}
	for _, in := range v.lab.Instruments {
		for _, c := range in.Profile.Components {
			for _, spec := range c.Class.Commands {
				id := lab.CommandID{Instrument: in.Name, Component: c.Name, Command: spec.Name}
				if !moves(spec.Effect) || len(v.rules.For(id)) > 0 {
					continue
				}
				pos := in.Pos
				if pos.Line == 0 {
					pos = file
				}
				v.note(Finding{ID: Unguarded + ":" + id.String(), Code: Unguarded, Pos: pos, Hint: "write a rule for it, or explain why it needs none",
					Say: fmt.Sprintf("%s is %s and no rule asks about it", id, spec.Effect)})
			}
		}
	}
}

// explain marks what the file explains, and adds what it explains for nothing.
func (v *verifier) explain() []Finding {
	because := map[string]string{}
	for _, e := range v.rules.Explained {
		because[e.Finding] = e.Because
	}
	for i, f := range v.list {
		v.list[i].Explained = because[f.ID]
	}
	for _, e := range v.rules.Explained {
		if !v.seen[e.Finding] && !strings.HasPrefix(e.Finding, mutantPrefix) {
			v.list = append(v.list, stale(e))
		}
	}
	return v.list
}

func stale(e safety.Explained) Finding {
	return Finding{ID: ExplainedStale + ":" + e.Finding, Code: ExplainedStale, Pos: e.Pos, Hint: "take it out of explained",
		Say: fmt.Sprintf("%q is explained, and nothing like it is found", e.Finding)}
}

// Stale lists the explanations of mutants that explain nothing: there is no
// such mutant, or a case kills it. survived has the ids of the others.
func Stale(rules *safety.Rules, survived map[string]bool) []Finding {
	var list []Finding
	for _, e := range rules.Explained {
		if strings.HasPrefix(e.Finding, mutantPrefix) && !survived[e.Finding] {
			list = append(list, stale(e))
		}
	}
	return list
}

func text(p *expr.Program) string {
	return strings.Join(strings.Fields(p.Source().Text), " ")
}

func sorted(set map[string]bool) []string {
	var list []string
	for s := range set {
		list = append(list, s)
	}
	sort.Strings(list)
	return list
}
