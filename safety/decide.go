package safety

import (
	"fmt"
	"slices"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// Decision is the engine's answer to one command. The zero Decision denies.
// Its lists are the engine's own, good until the engine's next call.
type Decision struct {
	Permit   *Permit    // nil: denied
	Refusals lab.Issues // every reason, each with its rule
	Rules    []string   // the rules that were asked
	Bypassed []string   // of those, the ones that a bypass has set aside

	engine   *Engine
	now      time.Time
	programs []*expr.Program // that were evaluated
}

// Used lists the readings that the decision stood on, each once. It is to be
// asked for before the engine's next call.
func (d *Decision) Used() []lab.Used {
	var list []lab.Used
	for _, p := range d.programs {
		for _, u := range d.engine.used(d.now, p) {
			if !slices.ContainsFunc(list, func(x lab.Used) bool { return x.Signal == u.Signal }) {
				list = append(list, u)
			}
		}
	}
	return list
}

func (d *Decision) refuse(i lab.Issue) { d.Refusals = append(d.Refusals, i) }

// guard is all that concerns one command, worked out when the rules are loaded.
type guard struct {
	target lab.CommandID
	name   string
	spec   *lab.CommandSpec
	acts   bool // it has an effect, and not a safe one
	args   []argSlot
	checks []check  // in the order of the file
	rules  []string // ids of the rules of checks, each once
	sets   []sets   // what it may bring in force
	until  []*keep  // claims that its confirmation ends
	past   occurrence
}

// argSlot is where expressions find an argument.
type argSlot struct {
	name string
	slot int
}

// check is one thing to ask of a command. One of the pointers is set.
type check struct {
	st     *ruleState
	perm   *perm
	limits *limits
	budget *budget
	after  *after
	claim  *keep
}

func (e *Engine) loadGuards() {
	for _, in := range e.lab.Instruments {
		for _, comp := range in.Profile.Components {
			for i := range comp.Class.Commands {
				spec := &comp.Class.Commands[i]
				id := lab.CommandID{Instrument: in.Name, Component: comp.Name, Command: spec.Name}
				g := &guard{target: id, name: id.String(), spec: spec, acts: spec.Effect != lab.Read && spec.Effect != lab.Safe}
				for _, a := range spec.Args {
					if k, ok := slices.BinarySearch(e.rules.argNames, a.Name); ok {
						g.args = append(g.args, argSlot{a.Name, e.rules.argBase + k})
					}
				}
				e.guards[id] = g
			}
		}
	}
}

func (g *guard) add(c check) {
	g.checks = append(g.checks, c)
	if !slices.Contains(g.rules, c.st.rule.ID) {
		g.rules = append(g.rules, c.st.rule.ID)
	}
}

// argument is the place of an argument in the guard's list; -1: none.
func (g *guard) argument(name string) int {
	return slices.IndexFunc(g.args, func(a argSlot) bool { return a.name == name })
}

// asking is one decision on its way.
type asking struct {
	now   time.Time
	f     *flight
	d     *Decision
	until time.Time // when the permit ends
}

// ends shortens the permit; zero: it does not.
func (a *asking) ends(at time.Time) {
	if !at.IsZero() && at.Before(a.until) {
		a.until = at
	}
}

// Needs lists the properties that the decision about a command will read, so
// that they can be read afresh.
func (e *Engine) Needs(target lab.CommandID) []lab.PropertyID {
	g := e.guards[target]
	if g == nil {
		return nil
	}
	seen := map[int]bool{}
	var ids []lab.PropertyID
	add := func(p *expr.Program) {
		if p == nil {
			return
		}
		for _, s := range p.Slots() {
			if s < len(e.rules.properties) && !seen[s] {
				seen[s] = true
				ids = append(ids, e.rules.properties[s])
			}
		}
	}
	for i := range g.checks {
		switch c := &g.checks[i]; {
		case c.perm != nil:
			add(c.perm.prog)
		case c.limits != nil:
			for _, b := range c.limits.bounds {
				if b.setting != nil {
					add(b.setting.prog)
				}
			}
		case c.after != nil:
			for _, h := range c.after.all() {
				if h.cond != nil {
					add(h.cond.prog)
				}
			}
		case c.claim != nil:
			for _, cl := range c.claim.zone.claims { // one that may be over by now
				add(cl.keep.prog)
			}
		}
	}
	return ids
}

// Decide decides and reserves in one act: an allowed command counts from now
// on, until Done, in every later decision. The permit it returns is good for
// this command, in this epoch, until the first reading that it stood on grows
// stale. The engine keeps nothing of cmd but copies.
func (e *Engine) Decide(now time.Time, cmd *lab.Command, epoch uint64) Decision {
	e.see(now)
	d := &e.decision
	*d = Decision{engine: e, now: now, programs: d.programs[:0]}
	g := e.guards[cmd.Target]
	if g == nil {
		d.refuse(lab.Issue{Code: "undeclared", Path: "command", Got: cmd.Target.String(), Say: fmt.Sprintf("no command %s is declared", cmd.Target)})
		return *d
	}
	hash := cmd.Hash()
	if hash == [32]byte{} {
		d.refuse(lab.Issue{Code: "not_finite", Path: "args", Say: "an argument is not a finite value"})
		return *d
	}
	if e.flights[cmd.ID] != nil {
		d.refuse(lab.Issue{Code: "duplicate", Path: "id", Got: cmd.ID, Say: fmt.Sprintf("command %s is under way already, or in doubt", cmd.ID)})
		return *d
	}
	if g.acts {
		e.checkState(now, g, d)
	}
	a := asking{now: now, d: d, until: now.Add(maxPermit), f: e.newFlight(g, cmd, now)}
	a.ends(cmd.NotAfter)
	if !now.Before(a.until) {
		d.refuse(lab.Issue{Code: "expired", Path: "not_after", Say: fmt.Sprintf("it was to run before %s", cmd.NotAfter.UTC().Format(time.RFC3339Nano))})
	}
	e.ask(&a, g)
	if len(d.Refusals) > 0 {
		e.drop(a.f)
		return *d
	}
	p := &Permit{command: hash, epoch: epoch, lease: cmd.Lease, rules: e.rules.Hash, notAfter: a.until}
	p.state.Store(permitFresh)
	a.f.permit, d.Permit = p, p
	e.launch(a.f)
	e.Mitigated(cmd.Target, cmd.ID)
	return *d
}

// checkState asks what concerns every effect: the start, and the latches.
func (e *Engine) checkState(now time.Time, g *guard, d *Decision) {
	if e.never > 0 && (len(e.latches) == 0 || !e.mitigates(g.name)) {
		e.checkStarting(now, d)
	}
	if len(e.latches) == 0 {
		return
	}
	for _, list := range [2][]*Latch{e.latchOn[""], e.latchOn[g.target.Instrument]} {
		for _, l := range list {
			if !l.lets(g.name) {
				d.refuse(lab.Issue{Code: "latched", Rule: l.Rule, Say: fmt.Sprintf("%s, at %s, and nobody has reset it", l.Say, l.Since.UTC().Format(time.RFC3339)),
					Hint: "a person must look, and reset it with a reason"})
			}
		}
	}
}

// checkStarting denies effects until every trip has been decidable once. One
// that never is trips when its time is up, and from then on its latch denies.
func (e *Engine) checkStarting(now time.Time, d *Decision) {
	for _, t := range e.triggers {
		if t.rule.Kind == TripRule && !t.everKnown && t.st.latch == nil && t.st.inForce(e.high) {
			d.refuse(lab.Issue{Code: "starting", Rule: t.rule.ID, Inputs: e.used(now, t.rule.expr), Wait: "its inputs may become known",
				Say: fmt.Sprintf("the inputs of %s were not good yet since the start", t.rule.ID), Hint: "wait and try again"})
		}
	}
}

// ask asks every rule about a command. Whatever a rule that is bypassed would
// say is not said, but the command counts for it all the same.
func (e *Engine) ask(a *asking, g *guard) {
	a.d.Rules = g.rules
	for i := range g.checks {
		c := &g.checks[i]
		said := len(a.d.Refusals)
		switch {
		case c.perm != nil:
			e.checkPermissive(a.now, c.perm, a)
		case c.limits != nil:
			e.checkLimits(a, c.limits)
		case c.budget != nil:
			e.checkBudget(a, c.budget)
		case c.after != nil:
			e.checkAfter(a, c.after)
		case c.claim != nil:
			e.checkZone(a, c.claim)
		}
		if !c.st.inForce(e.high) {
			a.d.Refusals = a.d.Refusals[:said]
			a.d.Bypassed = append(a.d.Bypassed, c.st.rule.ID)
			a.ends(c.st.bypass.Until)
		}
	}
	if len(e.scoped) == 0 || g.spec.Effect == lab.Safe {
		return
	}
	for i, p := range e.scoped[a.f.run] {
		if i == 0 {
			e.asked = append(e.asked[:0], g.rules...)
		}
		e.asked = append(e.asked, p.rule.ID)
		a.d.Rules = e.asked
		e.checkPermissive(a.now, p, a)
	}
}

// Revoke takes a command's permit back: no further byte of it may leave. It
// comes before the stop is queued.
func (e *Engine) Revoke(command, why string) {
	if f := e.flights[command]; f != nil && f.permit != nil {
		f.permit.revoke(why)
	}
}

// maxScoped bounds the limits of one run.
const maxScoped = 64

// Scope puts a run's own limits in force: expressions over the lab's
// properties that must hold for as long as a command of the run is under way.
// They are added to the lab's rules and to those of the run that are in force
// already, so they can only tighten.
func (e *Engine) Scope(run string, limits []string) error {
	const op = "safety: run limit"
	for _, text := range limits {
		list := e.scoped[run]
		if slices.ContainsFunc(list, func(p *perm) bool { return p.prog.Source().Text == text }) {
			continue
		}
		if len(list) == maxScoped {
			return lab.E(op, "", lab.KindInvalid, fmt.Errorf("more than %d limits", maxScoped))
		}
		p, err := expr.Compile(lab.Source{Text: text}, e.rules.scope())
		if err == nil && p.Type().Kind != lab.Bool {
			err = fmt.Errorf("%s is no condition", text)
		}
		if err != nil {
			return lab.E(op, "", lab.KindInvalid, err)
		}
		r := &Rule{ID: fmt.Sprintf("run limit %d", len(list)+1), Kind: PermissiveRule, About: "a limit of the run's own protocol", expr: p}
		e.scoped[run] = append(list, e.newPerm(&ruleState{rule: r}, r, p))
	}
	return nil
}

// Unscope ends a run: its own limits, and what it holds until its end.
func (e *Engine) Unscope(run string) {
	e.order++
	for _, p := range e.scoped[run] {
		e.dropPerm(p)
	}
	delete(e.scoped, run)
	e.endOfRun(run)
}
