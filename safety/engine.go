package safety

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// Engine decides. It holds the latest reading of every property, the latches,
// and every command that is allowed and not yet done. It is pure: events and
// time in, decisions out; one owner calls it, and no two calls overlap.
type Engine struct {
	lab     *lab.Lab
	rules   *Rules
	slots   []lab.Reading // by Rules.index; then tripped groups; then the arguments of the command in question
	trips   []*tripState
	touched [][]*tripState        // by slot
	memory  map[*Rule]*expr.State // of the permissives that remember: rate, mean, held
	feeds   [][]*Rule             // by slot: the permissives that remember what it held
	latches []*Latch              // in the order in which they came
	out     []*outstanding        // allowed and not done, in the order of their decisions
	scoped  map[string][]*scoped
	startBy time.Time // until then an input that was never good denies, and does not trip
}

// tripState is a trip rule with what time has told it.
type tripState struct {
	rule         *Rule
	windows      *expr.State
	looked       bool // evaluated at all
	everKnown    bool
	unknownSince time.Time
	knownSince   time.Time
	next         time.Time // when it is to be looked at again without any reading
}

// outstanding is a command from its decision to its outcome.
type outstanding struct {
	cmd    *lab.Command
	permit *Permit
	args   []lab.Reading
	held   []*heldRule
}

// heldRule is a permissive that must hold until the command is done.
type heldRule struct {
	rule      *Rule
	windows   *expr.State
	lostSince time.Time
	next      time.Time
}

// scoped is a run's own limit: it may only tighten.
type scoped struct {
	rule    *Rule
	windows *expr.State
}

// Event is what the engine found while it observed: a *Trip or a *Lost.
type Event interface{ event() }

// Trip is a rule that fired just now and latched.
type Trip struct {
	Latch Latch
	Do    []*Order
	Run   string // abort or hold
}

// Lost is a permissive that no longer holds for a command under way. Its
// permit is revoked already; its stop is the caller's next act.
type Lost struct {
	Command string
	Rule    string
	Say     string
	Inputs  []lab.Used
}

func (*Trip) event() {}
func (*Lost) event() {}

// maxPermit bounds a permit's life where no reading does.
const maxPermit = 2 * time.Second

// StartWithin is how long the inputs of a gateway may take to be first good,
// where the lab file says nothing.
const StartWithin = 30 * time.Second

// NewEngine makes an engine for one gateway's lab under rules that were
// compiled for it.
func NewEngine(l *lab.Lab, rules *Rules, startBy time.Time) *Engine {
	e := &Engine{lab: l, rules: rules, startBy: startBy, scoped: map[string][]*scoped{}, memory: map[*Rule]*expr.State{},
		slots: make([]lab.Reading, rules.slotCount), touched: make([][]*tripState, rules.slotCount), feeds: make([][]*Rule, rules.slotCount)}
	for _, r := range rules.Rules {
		switch {
		case r.Kind == TripRule:
			t := &tripState{rule: r, windows: r.expr.NewState()}
			e.trips = append(e.trips, t)
			for _, s := range r.expr.Slots() {
				e.touched[s] = append(e.touched[s], t)
			}
		case r.Kind == PermissiveRule && r.expr.Windows():
			e.memory[r] = r.expr.NewState()
			for _, s := range r.expr.Slots() {
				e.feeds[s] = append(e.feeds[s], r)
			}
		}
	}
	for g := range rules.groups {
		e.setGroup(g, false, time.Time{})
	}
	return e
}

// Rules are the rules in force.
func (e *Engine) Rules() *Rules { return e.rules }

// Reading is the latest reading of a property.
func (e *Engine) Reading(id lab.PropertyID) lab.Reading {
	if s, ok := e.rules.index[id]; ok {
		return e.slots[s]
	}
	return lab.Reading{}
}

// Observe takes readings and returns what they set off. A reading that was
// received before the one at hand is dropped: the later one is the truth.
func (e *Engine) Observe(now time.Time, samples []lab.Sample) []Event {
	var due []*tripState
	var fed []*Rule
	changed := false
	for _, s := range samples {
		slot, ok := e.rules.index[s.ID]
		if !ok || s.Reading.Received.Before(e.slots[slot].Received) {
			continue
		}
		e.slots[slot] = s.Reading
		changed = true
		for _, t := range e.touched[slot] {
			if !slices.Contains(due, t) {
				due = append(due, t)
			}
		}
		for _, r := range e.feeds[slot] {
			if !slices.Contains(fed, r) {
				fed = append(fed, r)
			}
		}
	}
	if !changed {
		return nil
	}
	env := e.env(now)
	for _, t := range due {
		t.rule.expr.Observe(t.windows, env)
	}
	for _, r := range fed {
		e.feed(now, r, e.memory[r])
	}
	for _, list := range e.scoped {
		for _, s := range list {
			e.feed(now, s.rule, s.windows)
		}
	}
	return append(e.evalTrips(now, due), e.evalHeld(now)...)
}

// feed lets a permissive remember what is read now. The arguments of a command
// are no part of what was: a window over one is unknown, and denies.
func (e *Engine) feed(now time.Time, r *Rule, windows *expr.State) {
	if windows == nil {
		return
	}
	clear(e.slots[e.rules.argBase:])
	r.expr.Observe(windows, e.env(now))
}

// Tick looks at everything that time alone can change: staleness, grace,
// held().
func (e *Engine) Tick(now time.Time) []Event {
	var due []*tripState
	for _, t := range e.trips {
		if t.next.IsZero() || !t.next.After(now) {
			due = append(due, t)
		}
	}
	return append(e.evalTrips(now, due), e.evalHeld(now)...)
}

// Next is when Tick has something to do; zero for never.
func (e *Engine) Next() time.Time {
	var next time.Time
	for _, t := range e.trips {
		next = earlier(next, t.next)
		if !t.looked {
			next = earlier(next, e.startBy)
		}
	}
	for _, o := range e.out {
		for _, h := range o.held {
			if !o.permit.revoked() {
				next = earlier(next, h.next)
			}
		}
	}
	return next
}

func (e *Engine) env(now time.Time) *expr.Env { return &expr.Env{Now: now, Slots: e.slots} }

func (e *Engine) evalTrips(now time.Time, due []*tripState) []Event {
	var events []Event
	env := e.env(now)
	for i := 0; i < len(due); i++ {
		t := due[i]
		say := ""
		switch t.rule.expr.Truth(t.windows, env) {
		case expr.True:
			t.everKnown, say = true, t.rule.expr.Source().Text
		case expr.False:
			t.everKnown = true
			if t.knownSince.IsZero() {
				t.knownSince = now
			}
			// Only good data for as long as the grace clears the time unknown:
			// a sensor that flickers does not start the clock anew.
			if now.Sub(t.knownSince) >= t.rule.UnknownFor {
				t.unknownSince = time.Time{}
			}
		default:
			t.knownSince = time.Time{}
			if !t.everKnown && now.Before(e.startBy) {
				break
			}
			if t.unknownSince.IsZero() {
				t.unknownSince = now
			}
			if now.Sub(t.unknownSince) >= t.rule.UnknownFor {
				say = fmt.Sprintf("%s is unknown for %s", t.rule.expr.Source().Text, lab.Seconds(t.rule.UnknownFor))
			}
		}
		if say != "" && !e.latched(t.rule.ID) {
			events = append(events, e.fire(now, t.rule, say))
			if slot, ok := e.rules.groups[t.rule.Group]; ok {
				due = append(due, e.touched[slot]...) // those that look at the group; each latches once, so this ends
			}
		}
		e.schedule(now, t)
	}
	return events
}

// schedule says when time alone may change what a trip is: a reading that
// grows stale, the time unknown that is up, the good data that clear it.
func (e *Engine) schedule(now time.Time, t *tripState) {
	t.looked, t.next = true, e.nextLook(now, t.rule.expr, t.windows)
	if !t.unknownSince.IsZero() && !e.latched(t.rule.ID) {
		t.next = earlier(t.next, laterThan(now, t.unknownSince.Add(t.rule.UnknownFor)))
	}
	if !t.unknownSince.IsZero() && !t.knownSince.IsZero() {
		t.next = earlier(t.next, laterThan(now, t.knownSince.Add(t.rule.UnknownFor)))
	}
	if !t.everKnown && now.Before(e.startBy) {
		t.next = earlier(t.next, e.startBy)
	}
}

// fire latches a trip and makes its orders.
func (e *Engine) fire(now time.Time, r *Rule, say string) Event {
	l := &Latch{Rule: r.ID, Group: r.Group, Instruments: r.instruments(), Since: now, FirstOut: !e.groupLatched(r.Group),
		Say: fmt.Sprintf("%s tripped: %s", r.ID, say), Inputs: e.used(now, r.expr)}
	for _, m := range r.Mitigates {
		l.Mitigates = append(l.Mitigates, m.String())
	}
	e.latch(l)
	t := &Trip{Latch: *l, Run: r.Run}
	for _, s := range r.Do {
		t.Do = append(t.Do, &Order{s.Command, OriginTrip, r.ID})
	}
	return t
}

// evalHeld looks at the permissives of commands under way. The grace is for
// those that have begun: before the first byte there is none.
func (e *Engine) evalHeld(now time.Time) []Event {
	var events []Event
	env := e.env(now)
	for _, o := range e.out {
		if o.permit.revoked() {
			continue // it ends already
		}
		e.loadArgs(o.args)
		begun := o.permit.spent()
		for _, h := range o.held {
			truth := h.rule.expr.Truth(h.windows, env)
			h.next = e.nextLook(now, h.rule.expr, h.windows)
			if truth == expr.True {
				h.lostSince = time.Time{}
				continue
			}
			if h.lostSince.IsZero() {
				h.lostSince = now
			}
			if left := h.rule.Grace - now.Sub(h.lostSince); left > 0 && begun {
				h.next = earlier(h.next, now.Add(left))
				continue
			}
			lost := &Lost{Command: o.cmd.ID, Rule: h.rule.ID, Inputs: e.used(now, h.rule.expr),
				Say: fmt.Sprintf("%s needs %s, which is %s now", h.rule.ID, h.rule.expr.Source().Text, word(truth))}
			o.permit.revoke(lost.Say)
			events = append(events, lost)
		}
	}
	return events
}

func word(t expr.Truth) string {
	if t == expr.False {
		return "false"
	}
	return "unknown"
}

// nextLook is when an expression over fresh readings may change by itself:
// the first of them that grows stale, or a window's own instant.
func (e *Engine) nextLook(now time.Time, p *expr.Program, st *expr.State) time.Time {
	next := laterThan(now, p.Next(st, now))
	for _, s := range p.Slots() {
		next = earlier(next, laterThan(now, e.staleAt(s)))
		next = earlier(next, laterThan(now, e.slots[s].Received.Add(-time.Second))) // where it is from the future still
	}
	return next
}

// staleAt is the first instant at which a slot's reading is too old. Zero for
// slots that never grow old.
func (e *Engine) staleAt(slot int) time.Time {
	maxAge := e.rules.maxAge(slot)
	r := e.slots[slot]
	if maxAge == 0 || r.Received.IsZero() {
		return time.Time{}
	}
	t := r.Received
	if !r.Source.IsZero() && r.Source.Before(t) {
		t = r.Source
	}
	return t.Add(maxAge + 1)
}

// used lists the readings that an expression stands on, as they are now.
func (e *Engine) used(now time.Time, p *expr.Program) []lab.Used {
	var list []lab.Used
	names := p.Names()
	for i, s := range p.Slots() {
		if s >= len(e.rules.properties) {
			continue // a group or an argument: the sentence names it
		}
		r := e.slots[s]
		u := lab.Used{Signal: names[i], Quality: r.Quality}
		if age := r.Age(now); !r.Received.IsZero() {
			u.AgeMS = float64(age.Microseconds()) / 1000
		}
		if r.Value.Usable() {
			v := r.Value
			u.Value = &v
		}
		if ok, why := r.Fresh(now, e.rules.maxAge(s)); !ok {
			u.Why = why
		}
		list = append(list, u)
	}
	return list
}

// Ready reports whether every trip has been decidable at least once.
func (e *Engine) Ready(now time.Time) bool {
	for _, t := range e.trips {
		if !t.everKnown {
			return false
		}
	}
	return true
}

// earlier is the earlier of two instants, where zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// laterThan is t if it is after now, else never.
func laterThan(now, t time.Time) time.Time {
	if t.After(now) {
		return t
	}
	return time.Time{}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
