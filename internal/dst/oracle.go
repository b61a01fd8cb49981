package dst

import (
	"math"
	"slices"
	"strings"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
	"labgate/safety"
)

// oracle decides by itself what the rules say, from the readings that the
// gateway was given and the books: limits, budgets, permissives and trips whose
// expressions need no window. It shares the expressions with the engine, and
// nothing else.
type oracle struct {
	c        *checker
	rules    map[string]*safety.Rules // by hash
	bypassed map[string]time.Time     // until when a rule may be set aside
	tripped  map[string]bool          // latches, from the moment at which they were decided
	triggers map[string]*condition
	began    time.Time // of the process, or of the rules
	slots    []lab.Reading
	lost     map[string]time.Time // by command and rule: since when what it needs does not hold
}

// condition is a trip's condition over time.
type condition struct {
	known                         bool // it ever was, since the process began
	trueSince, badSince, goodFrom time.Time
	due                           time.Time // when it was to trip; zero: it is not
	why                           string
	at                            expr.Truth
}

// farAhead is when the first process has not begun yet.
var farAhead = time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)

// late is how much later than its time something may be done.
const (
	late = 500 * time.Millisecond
	soon = 50 * time.Millisecond // how exactly times are known here
)

func newOracle(c *checker) *oracle {
	o := &oracle{c: c, rules: map[string]*safety.Rules{}, lost: map[string]time.Time{}, bypassed: map[string]time.Time{}, tripped: map[string]bool{}, triggers: map[string]*condition{}, began: farAhead}
	for _, r := range append(slices.Clone(c.s.site.reloads), c.s.site.rules) {
		o.rules[r.Hash] = r
	}
	return o
}

func (o *oracle) inForce() *safety.Rules { return o.rules[o.c.hash] }

// again begins anew: a process has started, or other rules are in force.
func (o *oracle) again(process bool) {
	o.began = o.c.now
	clear(o.triggers)
	clear(o.lost)
	if process {
		clear(o.tripped)
		for rule := range o.c.latches {
			o.tripped[rule] = true
		}
	}
}

// truth evaluates an expression; false where that can't be done here.
func (o *oracle) truth(rules *safety.Rules, p *expr.Program) (t expr.Truth, can bool) {
	if p.Windows() {
		return 0, false
	}
	names := p.Names()
	for i, slot := range p.Slots() {
		for len(o.slots) <= slot {
			o.slots = append(o.slots, lab.Reading{})
		}
		id, property := rules.PropertyAt(slot)
		group, isGroup := strings.CutPrefix(names[i], "tripped(")
		switch {
		case property:
			o.slots[slot] = lab.Reading{}
			if o.unsound(id) == "" {
				o.slots[slot] = o.c.readings[id]
			}
		case isGroup:
			o.slots[slot] = expr.Given(lab.Value{Kind: lab.Bool, Bool: o.latchedGroup(strings.TrimSuffix(group, ")"))})
		default:
			return 0, false
		}
	}
	return p.Truth(nil, &expr.Env{Now: o.c.wall, Slots: o.slots}), true
}

func (o *oracle) latchedGroup(group string) bool {
	rules := o.inForce()
	for id := range o.tripped {
		if l := o.c.latches[id]; l != nil && l.Group == group {
			return true
		}
		for _, r := range rules.Rules {
			if r.ID == id && r.Group == group {
				return true
			}
		}
	}
	return false
}

// sound reports whether every reading that an expression looks at can be built
// on, and if not, which can't.
func (o *oracle) sound(rules *safety.Rules, p *expr.Program) (bad string) {
	for _, slot := range p.Slots() {
		if id, ok := rules.PropertyAt(slot); ok && bad == "" {
			bad = o.unsound(id)
		}
	}
	return bad
}

// unsound says why a reading can't be built on; empty: it can.
func (o *oracle) unsound(id lab.PropertyID) string {
	r, spec := o.c.readings[id], o.c.s.site.lab.PropertySpec(id)
	switch {
	case r.Quality != lab.Good || r.Value.Kind == lab.Missing:
		return id.String() + " is not good"
	case r.Value.Kind == lab.Number && (math.IsNaN(r.Value.Num) || math.IsInf(r.Value.Num, 0)):
		return id.String() + " is not finite"
	case o.c.wall.Sub(r.Received) > spec.MaxAge:
		return id.String() + " is stale"
	}
	return ""
}

// needsAll: an expression that is known only where all its readings are.
func needsAll(p *expr.Program) bool {
	text := " " + p.Source().Text + " "
	for _, word := range []string{" or ", " and ", "age(", "quality(", "vote(", "voted("} {
		if strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// allows holds a decision against every rule, at the moment at which it is
// made.
func (o *oracle) allows(k *command, rules *safety.Rules) {
	if rules == nil || harmless(k.effect) {
		return
	}
	for _, l := range o.c.instruments[k.Target.Instrument].Limits {
		if l.Name == k.Target.Command && l.Component == k.Target.Component && l.Arg != "" {
			o.bound(k, "the lab file", l.Arg, l.Min, l.Max)
		}
	}
	for _, r := range rules.Rules {
		if o.asideNow(r.ID) || !slices.ContainsFunc(r.Targets, func(t safety.Target) bool { return t.Command == k.Target }) && r.Kind != safety.BudgetRule {
			continue
		}
		switch r.Kind {
		case safety.LimitRule:
			for _, t := range r.Targets {
				if t.Command == k.Target {
					o.bound(k, r.ID, t.Arg, r.Limit.Min, r.Limit.Max)
				}
			}
		case safety.PermissiveRule:
			o.permits(k, rules, r)
		case safety.BudgetRule:
			o.affords(k, r)
		}
	}
}

func (o *oracle) asideNow(rule string) bool { return o.c.wall.Before(o.bypassed[rule].Add(late)) }

func (o *oracle) bound(k *command, rule, arg string, low, high *lab.Quantity) {
	v, ok := k.Args[arg]
	if !ok || v.Kind != lab.Number {
		return
	}
	x := v.Quantity()
	if low != nil && x.Base() < low.Base()*(1-1e-9)-1e-12 || high != nil && x.Base() > high.Base()*(1+1e-9)+1e-12 || math.IsNaN(x.Base()) {
		o.c.breaks("S5", "%s %s is allowed with %s %s, which %s does not let pass", k.Target, k.ID, arg, x, rule)
	}
}

// permits: what is required is known, and holds.
func (o *oracle) permits(k *command, rules *safety.Rules, r *safety.Rule) {
	for _, f := range r.Formulas() {
		if f.Role != safety.RoleRequire || f.Command != (lab.CommandID{}) && f.Command != k.Target {
			continue
		}
		if bad := o.sound(rules, f.Program); bad != "" && needsAll(f.Program) {
			o.c.breaks("S6", "%s %s is allowed by %s (%s), and %s", k.Target, k.ID, r.ID, f.Program.Source().Text, bad)
		}
		if t, can := o.truth(rules, f.Program); can && t != expr.True {
			promise := "S5"
			if t == expr.Unknown {
				promise = "S6"
			}
			o.c.breaks(promise, "%s %s is allowed, and what %s requires is not so: %s", k.Target, k.ID, r.ID, f.Program.Source().Text)
		}
	}
}

// affords: with everything counted the worse way there is enough left.
func (o *oracle) affords(k *command, r *safety.Rule) {
	own, counted := o.costs(k, r)
	if !counted || o.c.otherRules {
		return
	}
	sum := own
	for _, x := range o.c.order {
		if n, counted := o.costs(x, r); counted && x.ID != k.ID && sameScope(k, x, r.Budget.Per) {
			sum += n
		}
	}
	if most := r.Budget.Max.Base(); sum > most*(1+1e-6)+1e-15 {
		o.c.breaks("S10", "%s %s is allowed; with it %s has %g of %g, counted the worse way", k.Target, k.ID, r.ID, sum, most)
	}
}

func sameScope(a, b *command, per []safety.Scope) bool {
	for _, s := range per {
		switch s {
		case safety.PerCommand:
			return false
		case safety.PerRun:
			if a.Run != b.Run {
				return false
			}
		case safety.PerCampaign:
			if a.Campaign != b.Campaign {
				return false
			}
		case safety.PerPrincipal:
			if a.Principal != b.Principal {
				return false
			}
		}
	}
	return true
}

// costs is what a command counts for in a budget, at worst; false where its
// term is no plain argument.
func (o *oracle) costs(k *command, r *safety.Rule) (float64, bool) {
	for _, t := range r.Budget.Terms {
		if t.Command != k.Target {
			continue
		}
		v, ok := k.Args[t.Arg]
		if t.Arg == "" || !ok || v.Kind != lab.Number && v.Kind != lab.Integer {
			return 0, false
		}
		switch {
		case k.outcome == nil || k.end == "maybe" || k.end == "all" || k.end == "":
			return v.Quantity().Base(), true
		case k.end == "part" && k.outcome.Amount != nil:
			if k.outcome.Amount.Base() < 0 { // no part of anything
				return v.Quantity().Base(), true
			}
			return k.outcome.Amount.Base(), true
		}
		return 0, true
	}
	return 0, false
}

// looks follows every trip's condition, and demands that it trips in time.
func (o *oracle) looks() {
	rules := o.inForce()
	if rules == nil || o.c.now.Before(o.c.pausedTill) || o.c.s.off != 0 {
		return
	}
	for _, r := range rules.Rules {
		switch r.Kind {
		case safety.TripRule:
			o.look(rules, r)
		case safety.PermissiveRule:
			o.holds(rules, r)
		}
	}
}

// holds: what a command needs holds until it is done, or the command is
// stopped. It is looked at for what can be stopped.
func (o *oracle) holds(rules *safety.Rules, r *safety.Rule) {
	if r.AtStart {
		return
	}
	for _, k := range o.c.order {
		if k.state != "watched" || !k.took || k.seen || !slices.ContainsFunc(r.Targets, func(t safety.Target) bool { return t.Command == k.Target }) {
			continue
		}
		in, key := o.c.instruments[k.Target.Instrument], k.ID+" "+r.ID
		if o.c.s.site.lab.CommandSpec(k.Target).StopsWith == "" || !in.linked || o.asideNow(r.ID) || o.c.s.troubled(in.Name) || o.c.now.Sub(in.faulty) < stopBound {
			delete(o.lost, key)
			continue
		}
		ok := true
		for _, f := range r.Formulas() {
			if t, can := o.truth(rules, f.Program); can && t != expr.True && f.Role == safety.RoleRequire && (f.Command == (lab.CommandID{}) || f.Command == k.Target) {
				ok = false
			}
		}
		since, lost := o.lost[key]
		switch {
		case ok:
			delete(o.lost, key)
		case !lost:
			o.lost[key] = o.c.now
		case o.c.now.Sub(since) > r.Grace+stopBound && in.stopSeen.Before(since):
			o.c.breaks("S5", "%s %s goes on, and what %s requires has not been so for %s", k.Target, k.ID, r.ID, o.c.now.Sub(since))
		}
	}
}

func (o *oracle) look(rules *safety.Rules, r *safety.Rule) {
	when := r.Formulas()[0].Program
	truth, can := o.truth(rules, when)
	if !can {
		return
	}
	t, now := o.triggers[r.ID], o.c.now
	if t == nil {
		t = &condition{}
		o.triggers[r.ID] = t
	}
	t.at = truth
	switch truth {
	case expr.Unknown:
		t.goodFrom = time.Time{}
		if t.badSince.IsZero() && (t.known || now.Sub(o.began) > safety.StartWithin) {
			t.badSince = now
		}
	default:
		t.known = true
		if t.goodFrom.IsZero() {
			t.goodFrom = now
		}
		if now.Sub(t.goodFrom) >= r.UnknownFor {
			t.badSince = time.Time{}
		}
	}
	switch {
	case truth == expr.False:
		t.trueSince = time.Time{}
	case truth == expr.True && t.trueSince.IsZero():
		t.trueSince = now
	}
	o.demand(r, t)
}

// demand breaks a promise where a trip that was due has not come with the next
// events.
func (o *oracle) demand(r *safety.Rule, t *condition) {
	now := o.c.now
	if o.tripped[r.ID] || o.asideNow(r.ID) || now.Sub(o.c.pausedTill) < late {
		t.due = time.Time{}
		return
	}
	if !t.due.IsZero() && now.Sub(t.due) > late {
		o.c.breaks("S6", "%s was to trip %s ago, being %s, and has not: %s", r.ID, now.Sub(t.due), t.why, r.Formulas()[0].Program.Source().Text)
	}
	switch {
	case !t.due.IsZero():
	case t.at == expr.True && now.Sub(t.trueSince) > r.OnDelay+soon:
		t.due, t.why = now, "true"
	case t.at == expr.Unknown && !t.badSince.IsZero() && now.Sub(t.badSince) > r.UnknownFor+soon:
		t.due, t.why = now, "unknown"
	}
}

// decided takes what the gateway is about to write: that is when it decides.
func (o *oracle) decided(entries []lab.Entry) {
	for _, e := range entries {
		switch e.Kind {
		case "allow/v1":
			var b struct {
				Hash string `json:"rules_hash"`
			}
			o.c.parse(e, &b)
			if k := o.c.commands[e.Command]; k != nil {
				if k.outcome != nil || k.intent > 0 {
					o.c.breaks("O2", "%s %s is decided again", k.Target, k.ID)
				}
				k.boot = o.c.s.w.World().Boot(k.Target.Instrument)
				o.allows(k, o.rules[b.Hash])
			}
		case "trip/v1":
			var l safety.Latch
			o.c.parse(e, &l)
			o.tripped[l.Rule] = true
			o.c.latching[l.Rule] = &l
			o.acts(l.Rule)
		case "stop/v1":
			var b struct{ Latch safety.Latch }
			o.c.parse(e, &b)
			o.c.latching[b.Latch.Rule] = &b.Latch
		case "bypass/v1":
			var b struct {
				Rule  string
				Until time.Time
			}
			o.c.parse(e, &b)
			if b.Until.After(o.bypassed[b.Rule]) {
				o.bypassed[b.Rule] = b.Until
			}
		}
	}
}

// acts: what a trip does has to arrive.
func (o *oracle) acts(rule string) {
	for _, r := range o.inForce().Rules {
		if r.ID != rule {
			continue
		}
		for _, x := range r.Do {
			if in := o.c.instruments[x.Command.Instrument]; in != nil && in.linked {
				o.c.stops = append(o.c.stops, &stop{instrument: in.Name, at: o.c.now, by: o.c.now.Add(r.RespondWithin + stopBound), id: rule})
			}
		}
	}
}
