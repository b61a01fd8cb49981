package safety

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// perm is a condition that commands need, with what it remembers, and the
// commands under way that it holds for. One that names self is one for each
// command.
type perm struct {
	st      *ruleState
	rule    *Rule
	prog    *expr.Program
	windows *expr.State
	args    bool // it names arguments
	active  []*held
	queued  bool
}

// held is a condition that must hold until a command is done.
type held struct {
	perm      *perm
	of        *flight
	place     int // in perm.active
	queued    bool
	lostSince time.Time
	next      time.Time
}

func (e *Engine) loadPermissive(s *ruleState) {
	var common *perm
	for i := range s.rule.Targets {
		t := &s.rule.Targets[i]
		p := common
		switch {
		case t.own != nil:
			p = e.newPerm(s, s.rule, t.own)
		case common == nil:
			common = e.newPerm(s, s.rule, s.rule.expr)
			p = common
		}
		if g := e.guards[t.Command]; g != nil {
			g.add(check{st: s, perm: p})
		}
	}
}

// newPerm makes a condition and watches its signals.
func (e *Engine) newPerm(s *ruleState, r *Rule, prog *expr.Program) *perm {
	p := &perm{st: s, rule: r, prog: prog, windows: prog.NewState()}
	s.perms = append(s.perms, p)
	for _, slot := range prog.Slots() {
		p.args = p.args || slot >= e.rules.argBase
		e.watch[slot].perms = append(e.watch[slot].perms, p)
	}
	return p
}

// dropPerm watches no more.
func (e *Engine) dropPerm(p *perm) {
	for _, slot := range p.prog.Slots() {
		w := &e.watch[slot]
		w.perms = slices.DeleteFunc(w.perms, func(x *perm) bool { return x == p })
	}
	e.queue.perms = slices.DeleteFunc(e.queue.perms, func(x *perm) bool { return x == p })
}

// feed lets a condition remember what is read now. The arguments of a command
// are no part of what was: a window over one is unknown, and denies.
func (e *Engine) feed(now time.Time, p *perm) {
	if p.windows == nil {
		return
	}
	if p.args {
		clear(e.slots[e.rules.argBase:])
		e.loaded = nil
	}
	p.prog.Observe(p.windows, e.env(now))
}

// hold puts a command under way under a condition.
func (h *held) hold() {
	h.place = len(h.perm.active)
	h.perm.active = append(h.perm.active, h)
}

// release ends that.
func (h *held) release() {
	list := h.perm.active
	last := list[len(list)-1]
	list[h.place], last.place = last, h.place
	list[len(list)-1] = nil
	h.perm.active = list[:len(list)-1]
}

func (f *flight) wake(e *Engine, now time.Time) {
	for i := range f.held {
		if h := &f.held[i]; !h.next.IsZero() && !h.next.After(now) {
			e.queueHeld(h)
		}
	}
	if !f.queued { // put off since
		e.schedFlight(f)
	}
}

func (e *Engine) queueHeld(h *held) {
	h.queued = true
	if !h.of.queued {
		h.of.queued = true
		e.queue.flights = append(e.queue.flights, h.of)
	}
}

// lookAtFlights looks at the commands that a queued condition holds for, in
// the order of their decisions.
func (e *Engine) lookAtFlights(now time.Time, events []Event) []Event {
	q := &e.queue
	for _, p := range q.perms {
		p.queued = false
		e.feed(now, p)
		for _, h := range p.active {
			e.queueHeld(h)
		}
	}
	q.perms = q.perms[:0]
	if len(q.flights) > 1 {
		slices.SortFunc(q.flights, func(a, b *flight) int { return cmp.Compare(a.serial, b.serial) })
	}
	for _, f := range q.flights {
		f.queued = false
		if f.permit == nil || f.permit.revoked() {
			continue // it ends already
		}
		for i := range f.held {
			h := &f.held[i]
			if !h.queued {
				continue
			}
			h.queued = false
			if lost := e.lookHeld(now, h); lost != nil {
				events = append(events, lost)
				break
			}
		}
		e.schedFlight(f)
	}
	q.flights = q.flights[:0]
	return events
}

func (e *Engine) schedFlight(f *flight) {
	var next time.Time
	if f.permit != nil && !f.permit.revoked() {
		for i := range f.held {
			next = earlier(next, f.held[i].next)
		}
	}
	e.timers.set(&f.timer, next)
}

// lookHeld looks at one condition of a command under way. The grace is for
// commands that have begun: before the first byte there is none.
func (e *Engine) lookHeld(now time.Time, h *held) Event {
	p := h.perm
	if !p.st.inForce(e.high) {
		h.lostSince, h.next = time.Time{}, time.Time{} // its end looks again
		return nil
	}
	if p.args {
		e.loadArgs(h.of)
	}
	truth := p.prog.Truth(p.windows, e.env(now))
	h.next, _ = e.nextLook(now, p.prog, p.windows)
	if truth == expr.True {
		h.lostSince = time.Time{}
		return nil
	}
	if h.lostSince.IsZero() || h.lostSince.After(now) {
		h.lostSince = now
	}
	if left := p.rule.Grace - now.Sub(h.lostSince); left > 0 && h.of.permit.spent() {
		h.next = earlier(h.next, now.Add(left))
		return nil
	}
	lost := &Lost{Command: h.of.id, Rule: p.rule.ID, Inputs: e.used(now, p.prog),
		Say: fmt.Sprintf("%s needs %s, which is %s now", p.rule.ID, p.prog.Source().Text, word(truth))}
	h.of.permit.revoke(lost.Say)
	return lost
}

// checkPermissive asks a condition now; unknown denies. It shortens the
// permit to the life of the readings it stood on.
func (e *Engine) checkPermissive(now time.Time, p *perm, a *asking) {
	h := held{perm: p, of: a.f}
	if !p.st.inForce(e.high) {
		a.ends(p.st.bypass.Until) // from then on it is asked
		if !p.rule.AtStart {
			a.f.held = append(a.f.held, h)
		}
		return
	}
	e.feed(now, p)
	if p.args {
		e.loadArgs(a.f)
	}
	a.d.programs = append(a.d.programs, p.prog)
	if truth := p.prog.Truth(p.windows, e.env(now)); truth != expr.True {
		used := e.used(now, p.prog)
		a.d.refuse(lab.Issue{Code: "permissive", Rule: p.rule.ID, Inputs: used, Allowed: p.prog.Source().Text, Wait: waitFor(truth),
			Say: fmt.Sprintf("%s: %s is %s%s", p.rule.ID, p.prog.Source().Text, word(truth), sayUsed(used)), Hint: p.rule.About})
	}
	var stale time.Time
	h.next, stale = e.nextLook(now, p.prog, p.windows)
	a.ends(stale) // a reading that is stale already has no part in what is true
	if !p.rule.AtStart {
		a.f.held = append(a.f.held, h)
	}
}
