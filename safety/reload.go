package safety

import (
	"cmp"
	"slices"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// Reload puts other rules for the same lab in force, in one act.
//
// Readings and latches stay, also those of rules that are gone. Permits that
// are not spent are taken back; commands that have begun are held to the new
// permissives. What is under way or in doubt counts in the new rules; a sum
// that was counted before goes on, whatever rule asks for it now, and a new one
// begins with what the engine remembers of the latest commands. A condition
// that is the same remembers what it did. Bypasses go on where the new rules
// allow them. A trip that is new has as long as at a start until its inputs
// have to be known; effects are denied until then.
func (e *Engine) Reload(now time.Time, rules *Rules) []Event {
	e.see(now)
	old := *e
	e.lab = rules.lab
	e.accounts, e.timers, e.queue, e.triggers, e.fresh, e.never = nil, nil, queue{}, nil, nil, 0
	e.proofs, e.bypassed, e.flying, e.loaded = nil, nil, nil, nil
	e.flights, e.scoped = map[string]*flight{}, map[string][]*perm{}
	e.startBy = later(old.startBy, now.Add(StartWithin))
	e.load(rules)
	for i, id := range old.rules.properties {
		if k, ok := rules.index[id]; ok {
			e.put(k, &old.slots[i])
		}
	}
	e.indexLatches()
	for _, l := range e.latches {
		e.setGroup(l.Group, true, l.Since)
	}
	e.keepConditions(&old)
	e.keepPast(&old)
	e.keepSums(now, &old)
	for _, b := range old.bypassed {
		e.RestoreBypass(b.Bypass)
	}
	for _, run := range sortedKeys(old.scoped) {
		e.keepScope(run, old.scoped[run])
	}
	events := e.keepFlights(now, &old)
	events = e.keepAlarms(events)
	return append(events, e.Tick(now)...)
}

// keepConditions lets what is the same remember what it did.
func (e *Engine) keepConditions(old *Engine) {
	inherit := func(p, was *expr.Program, st, theirs *expr.State) *expr.State {
		if p == nil || was == nil || !p.Same(was) || theirs == nil {
			return st
		}
		return p.Inherit(theirs)
	}
	for _, t := range e.triggers {
		s := old.states[t.rule.ID]
		if s == nil || s.trigger == nil || s.rule.Kind != t.rule.Kind {
			continue
		}
		was := s.trigger
		t.healthy = inherit(t.rule.healthy, was.rule.healthy, t.healthy, was.healthy)
		if !t.rule.expr.Same(was.rule.expr) {
			continue
		}
		t.windows = inherit(t.rule.expr, was.rule.expr, t.windows, was.windows)
		t.trueSince, t.unknownSince, t.knownSince, t.byUnknown = was.trueSince, was.unknownSince, was.knownSince, was.byUnknown
		if was.everKnown {
			e.decidable(t)
		}
	}
	for id, s := range e.states {
		was := old.states[id]
		if was == nil {
			continue
		}
		for i, p := range s.perms {
			if i < len(was.perms) {
				p.windows = inherit(p.prog, was.perms[i].prog, p.windows, was.perms[i].windows)
			}
		}
		if s.after != nil && was.after != nil {
			keepHappenings(s.after, was.after, inherit)
		}
	}
	for name, z := range e.zones {
		if old.zones[name] != nil {
			e.keepClaims(z, old.zones[name], old)
		}
	}
}

func keepHappenings(a, was *after, inherit func(p, was *expr.Program, st, theirs *expr.State) *expr.State) {
	before := was.all()
	for _, h := range a.all() {
		if h.cond == nil {
			continue
		}
		for _, o := range before {
			if o.cond != nil && h.cond.prog.Same(o.cond.prog) {
				c := h.cond
				c.windows = inherit(c.prog, o.cond.prog, c.windows, o.cond.windows)
				c.truth, c.wasTrue, c.trueAt, c.maybe = o.cond.truth, o.cond.wasTrue, o.cond.trueAt, o.cond.maybe
				break
			}
		}
	}
}

// keepClaims keeps the claims of commands that are over; those of the others
// are taken anew.
func (e *Engine) keepClaims(z, was *zone, old *Engine) {
	for _, c := range was.claims {
		g := e.guards[c.keep.target]
		if c.over.IsZero() || g == nil {
			continue
		}
		for i := range g.checks {
			k := g.checks[i].claim
			if k == nil || k.zone != z {
				continue
			}
			if k.prog != nil && c.keep.prog != nil && k.prog.Same(c.keep.prog) {
				k.windows = k.prog.Inherit(c.keep.windows)
			}
			if k.prog != nil || k.until != (lab.CommandID{}) || k.run {
				c.keep = k
				z.claims = append(z.claims, c)
			}
			break
		}
	}
}

// keepPast keeps what happened, and what was set and no reading has shown yet.
// What is asked for the first time may have been set by anybody until it is
// read anew.
func (e *Engine) keepPast(old *Engine) {
	for id, g := range e.guards {
		if was := old.guards[id]; was != nil {
			g.past = was.past
			g.past.open = 0
		}
	}
	for key, s := range e.settings {
		was := old.settings[key]
		if was == nil {
			s.maybe = append(s.maybe, inForce{opaque: true, over: e.high})
			continue
		}
		s.last = was.last
		for _, x := range was.maybe {
			if x.by == nil {
				s.maybe = append(s.maybe, x)
			}
		}
	}
}

// keepSums goes on with the sums that were counted, and begins new ones with
// what the latest commands did.
func (e *Engine) keepSums(now time.Time, old *Engine) {
	had := map[string]*account{}
	for _, a := range old.accounts {
		if had[a.key] == nil {
			had[a.key] = a
		}
	}
	fresh := map[*account]bool{}
	for _, a := range e.accounts {
		was := had[a.key]
		if was == nil || was.grain.unit.Dim() != a.grain.unit.Dim() {
			fresh[a] = true
			continue
		}
		a.floor, a.evicted = was.convertSum(a, was.floor), was.evicted
		for w, l := range was.ledgers {
			n := &ledger{used: l.used}
			if a.per == 0 {
				n.spent = was.convertSum(a, l.spent)
			}
			for _, x := range l.entries[l.first:] {
				n.spend(x.at, was.convert(a, x.n), a.per)
			}
			a.ledgers[w] = n
		}
	}
	if len(fresh) > 0 {
		e.past.each(func(d *done) { e.recount(now, d, fresh) })
	}
}

// recount charges a command that is over to accounts that are new.
func (e *Engine) recount(now time.Time, d *done, fresh map[*account]bool) {
	g := e.guards[d.target]
	if g == nil {
		return
	}
	f := e.newFlight(g, &lab.Command{Target: d.target, Run: d.run, Campaign: d.campaign, Principal: d.principal}, d.over)
	for i := range f.args {
		if i < len(d.args) {
			f.args[i].reading = d.args[i].reading
		}
	}
	e.charge(d.over, f)
	for i := range f.charges {
		if c := &f.charges[i]; fresh[c.acct] {
			c.open(d.over, f)
			c.close(d.over, f, d.end, &d.amount)
		}
	}
	e.drop(f)
}

// convert writes an amount in the grains of another account, never less.
func (a *account) convert(to *account, n int64) int64 {
	if a.grain == to.grain {
		return n
	}
	if _, hi, ok := to.grain.of(a.grain.quantity(n)); ok {
		return hi
	}
	return mostGrains
}

func (a *account) convertSum(to *account, s sum) sum {
	if a.grain == to.grain {
		return s
	}
	var n sum
	n.add(a.convert(to, s.whole()))
	return n
}

// keepScope compiles a run's own limits anew. One that can't be any more lets
// nothing pass.
func (e *Engine) keepScope(run string, list []*perm) {
	for _, p := range list {
		n := len(e.scoped[run])
		if e.Scope(run, []string{p.prog.Source().Text}) != nil {
			_ = e.Scope(run, []string{"false"})
		}
		if len(e.scoped[run]) > n {
			now := e.scoped[run][n]
			if now.prog.Same(p.prog) && p.windows != nil {
				now.windows = now.prog.Inherit(p.windows)
			}
		}
	}
}

// keepFlights puts what is under way, or in doubt, under the new rules.
func (e *Engine) keepFlights(now time.Time, old *Engine) (events []Event) {
	var list []*flight
	for _, f := range old.flights {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b *flight) int { return cmp.Compare(a.serial, b.serial) })
	const why = "the rules have changed"
	for _, f := range list {
		if p := f.permit; p != nil && !f.doubt && p.state.CompareAndSwap(permitFresh, permitRevoked) {
			reason := why
			p.why.Store(&reason)
			events = append(events, &Lost{Command: f.id, Rule: "rules", Say: why})
		}
		e.rebind(f, old)
		moved := map[string]int64{}
		for _, c := range f.charges {
			moved[c.acct.key] = old.accountNamed(c.acct.key).convertTo(e.accountNamed(c.acct.key), c.n)
		}
		e.charge(f.decided, f)
		for i := range f.charges {
			if c := &f.charges[i]; f.charges[i].part < 0 {
				if n, ok := moved[c.acct.key]; ok && n >= 0 {
					c.n = n // a distance from what was in force then
				}
			}
		}
		claims := f.claims
		f.held, f.claims = nil, nil
		e.flights[f.id] = f
		if !f.doubt {
			e.flying = append(e.flying, f)
			e.holdAnew(now, f)
		}
		e.reserve(f)
		for _, c := range f.claims { // what it lasts until may have come already
			c.ended = slices.ContainsFunc(claims, func(o *claim) bool {
				return o.ended && o.keep.zone.name == c.keep.zone.name && o.keep.until == c.keep.until && o.keep.run == c.keep.run
			})
		}
	}
	return events
}

func (e *Engine) accountNamed(key string) *account {
	for _, a := range e.accounts {
		if a.key == key {
			return a
		}
	}
	return nil
}

func (a *account) convertTo(to *account, n int64) int64 {
	if a == nil || to == nil {
		return -1
	}
	return a.convert(to, n)
}

// rebind ties a command to the guard that it has now.
func (e *Engine) rebind(f *flight, old *Engine) {
	was := f.guard
	g := e.guards[was.target]
	if g == nil { // its instrument is gone: nothing counts it any more
		g = &guard{target: was.target, name: was.name, spec: was.spec}
		e.guards[was.target] = g
	}
	var args []argument
	for _, a := range g.args {
		x := argument{slot: a.slot}
		if k := was.argument(a.name); k >= 0 && k < len(f.args) {
			x.reading = f.args[k].reading
		}
		args = append(args, x)
	}
	f.guard, f.args, f.timer, f.queued = g, args, timer{of: f}, false
}

// holdAnew puts a command that has begun under the permissives of now.
func (e *Engine) holdAnew(now time.Time, f *flight) {
	var perms []*perm
	for i := range f.guard.checks {
		if p := f.guard.checks[i].perm; p != nil && !p.rule.AtStart {
			perms = append(perms, p)
		}
	}
	if f.guard.spec.Effect != lab.Safe {
		perms = append(perms, e.scoped[f.run]...)
	}
	for _, p := range perms {
		f.held = append(f.held, held{perm: p, of: f, next: now})
	}
	for i := range f.held {
		f.held[i].hold()
		e.queueHeld(&f.held[i])
	}
}

// keepAlarms ends the alarms whose rule is gone.
func (e *Engine) keepAlarms(events []Event) []Event {
	for _, id := range sortedKeys(e.alarms) {
		a := e.alarms[id]
		s := e.states[id]
		stays := s != nil && s.rule.Kind == AlarmRule || slices.ContainsFunc(e.proofs, func(p *proof) bool {
			return proofPrefix+p.rule.ID == id && !p.rule.ProofTest.Due().After(e.high)
		})
		if stays {
			continue
		}
		delete(e.alarms, id)
		if a.Active {
			gone := *a
			gone.Active = false
			events = append(events, &AlarmChanged{gone})
		}
	}
	return events
}
