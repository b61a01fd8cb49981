package safety

import (
	"fmt"
	"sort"
	"strings"
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
	touched [][]*tripState // by slot
	latches []*Latch       // in the order in which they came
	out     []*outstanding // allowed and not done, in the order of their decisions
	scoped  map[string][]*scoped
	startBy time.Time // until then an input that was never good denies, and does not trip
}

// tripState is a trip rule with what time has told it.
type tripState struct {
	rule         *Rule
	windows      *expr.State
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
	gone      bool // already reported
}

// scoped is a run's own limit: it may only tighten.
type scoped struct {
	rule    *Rule
	windows *expr.State
}

// Latch is a trip that no person has reset yet, or a stop.
type Latch struct {
	Rule        string     `json:"rule"` // "stop" for an emergency stop
	Group       string     `json:"group"`
	Instruments []string   `json:"instruments"` // whose effects are denied; empty: all
	Since       time.Time  `json:"since"`
	FirstOut    bool       `json:"first_out"` // the first of its group: the cause, not a consequence
	Say         string     `json:"say"`
	Inputs      []lab.Used `json:"inputs,omitempty"`
	Mitigates   []string   `json:"mitigates,omitempty"` // commands that pass all the same
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
	e := &Engine{lab: l, rules: rules, startBy: startBy, scoped: map[string][]*scoped{},
		slots: make([]lab.Reading, rules.slotCount), touched: make([][]*tripState, rules.slotCount)}
	for _, r := range rules.Rules {
		if r.Kind != TripRule {
			continue
		}
		t := &tripState{rule: r, windows: r.expr.NewState()}
		e.trips = append(e.trips, t)
		for _, s := range r.expr.Slots() {
			e.touched[s] = append(e.touched[s], t)
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
	changed := false
	for _, s := range samples {
		slot, ok := e.rules.index[s.ID]
		if !ok || s.Reading.Received.Before(e.slots[slot].Received) {
			continue
		}
		e.slots[slot] = s.Reading
		changed = true
		for _, t := range e.touched[slot] {
			if !containsTrip(due, t) {
				due = append(due, t)
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
	for _, o := range e.out {
		e.loadArgs(o.args)
		for _, h := range o.held {
			h.rule.expr.Observe(h.windows, env)
		}
	}
	for _, list := range e.scoped {
		for _, s := range list {
			s.rule.expr.Observe(s.windows, env)
		}
	}
	return append(e.evalTrips(now, due), e.evalHeld(now)...)
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
	}
	for _, o := range e.out {
		for _, h := range o.held {
			if !h.gone {
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
	for _, t := range due {
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
		}
		t.next = e.nextLook(now, t.rule.expr, t.windows)
		if !t.unknownSince.IsZero() && !e.latched(t.rule.ID) {
			t.next = earlier(t.next, laterThan(now, t.unknownSince.Add(t.rule.UnknownFor)))
		}
		if !t.everKnown && now.Before(e.startBy) {
			t.next = earlier(t.next, e.startBy)
		}
	}
	return events
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
	for _, id := range r.Do {
		t.Do = append(t.Do, &Order{id, OriginTrip, r.ID})
	}
	return t
}

func (e *Engine) latch(l *Latch) {
	e.latches = append(e.latches, l)
	e.setGroup(l.Group, true, l.Since)
}

func (e *Engine) setGroup(group string, tripped bool, now time.Time) {
	if slot, ok := e.rules.groups[group]; ok {
		e.slots[slot] = lab.Reading{Value: lab.BoolValue(tripped), Quality: lab.Good, Source: now, Received: now}
	}
}

func (e *Engine) latched(rule string) bool {
	for _, l := range e.latches {
		if l.Rule == rule {
			return true
		}
	}
	return false
}

func (e *Engine) groupLatched(group string) bool {
	for _, l := range e.latches {
		if l.Group == group {
			return true
		}
	}
	return false
}

// evalHeld looks at the permissives of commands under way.
func (e *Engine) evalHeld(now time.Time) []Event {
	var events []Event
	env := e.env(now)
	for _, o := range e.out {
		e.loadArgs(o.args)
		for _, h := range o.held {
			if h.gone {
				continue
			}
			truth := h.rule.expr.Truth(h.windows, env)
			h.next = e.nextLook(now, h.rule.expr, h.windows)
			if truth == expr.True {
				h.lostSince = time.Time{}
				continue
			}
			if h.lostSince.IsZero() {
				h.lostSince = now
			}
			if left := h.rule.Grace - now.Sub(h.lostSince); left > 0 {
				h.next = earlier(h.next, now.Add(left))
				continue
			}
			h.gone = true
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
		if at := e.staleAt(s); at.After(now) {
			next = earlier(next, at)
		}
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

// Latches lists what is latched, oldest first.
func (e *Engine) Latches() []Latch {
	list := make([]Latch, len(e.latches))
	for i, l := range e.latches {
		list[i] = *l
	}
	return list
}

// RestoreLatch puts back a latch that the journal holds. One whose rule is
// gone stays all the same, an orphan, until a person resets it.
func (e *Engine) RestoreLatch(l Latch) {
	if !e.latched(l.Rule) {
		e.latch(&l)
	}
}

// Stop latches an emergency stop of one instrument, or of all ("").
func (e *Engine) Stop(now time.Time, instrument, who, reason string) Latch {
	l := &Latch{Rule: "stop", Group: "stop", Since: now, Say: fmt.Sprintf("stopped by %s", who)}
	if reason != "" {
		l.Say += ": " + reason
	}
	if instrument != "" {
		l.Rule, l.Instruments = "stop/"+instrument, []string{instrument}
	}
	if !e.latched(l.Rule) {
		l.FirstOut = !e.groupLatched(l.Group)
		e.latch(l)
	}
	return *l
}

// Reset clears a latch. It is refused while the rule's inputs are unknown or
// still trip it: a person can't talk a sensor away.
func (e *Engine) Reset(now time.Time, rule string) error {
	if !e.latched(rule) {
		var have []string
		for _, l := range e.latches {
			have = append(have, l.Rule)
		}
		say := fmt.Sprintf("%s is not latched", rule)
		if len(have) > 0 {
			say += "; latched are: " + strings.Join(have, ", ")
		}
		return lab.Ef("safety: reset", "", lab.KindInvalid, say)
	}
	for _, t := range e.trips {
		if t.rule.ID != rule {
			continue
		}
		if truth := t.rule.expr.Truth(t.windows, e.env(now)); truth != expr.False {
			say := fmt.Sprintf("%s can't be reset: %s is %s", rule, t.rule.expr.Source().Text, map[expr.Truth]string{expr.True: "still true", expr.Unknown: "unknown"}[truth])
			return lab.Ef("safety: reset", "", lab.KindDenied, say)
		}
		t.unknownSince, t.knownSince = time.Time{}, now
	}
	e.DropLatch(rule)
	return nil
}

// DropLatch takes a latch back that the journal says was reset.
func (e *Engine) DropLatch(rule string) {
	var keep []*Latch
	for _, l := range e.latches {
		if l.Rule != rule {
			keep = append(keep, l)
		}
	}
	e.latches = keep
	for g := range e.rules.groups {
		if !e.groupLatched(g) {
			e.setGroup(g, false, time.Time{})
		}
	}
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

// Order gives the safe lane's proof for one command, or says why not: the
// class must call it safe, and the instrument's safe list must name it (its
// own stops_with is enough for the stop of a command that lost its permit).
func (e *Engine) Order(target lab.CommandID, origin Origin, why string) (*Order, error) {
	const op = "safety: safe lane"
	spec := e.lab.CommandSpec(target)
	if spec == nil || spec.Effect != lab.Safe {
		return nil, lab.Ef(op, target.Instrument, lab.KindDenied, target.String()+" is not a safe command of its class")
	}
	if origin != OriginStopsWith && !contains(e.lab.Instrument(target.Instrument).Safe, target) {
		return nil, lab.Ef(op, target.Instrument, lab.KindDenied, target.String()+" is not in the instrument's safe list")
	}
	return &Order{target, origin, why}, nil
}

// SafeState gives the orders that bring an instrument to its safe state, in
// order; none for one that is to be kept as it is.
func (e *Engine) SafeState(instrument string, origin Origin, why string) []*Order {
	var orders []*Order
	if in := e.lab.Instrument(instrument); in != nil {
		for _, id := range in.Safe {
			if o, err := e.Order(id, origin, why); err == nil {
				orders = append(orders, o)
			}
		}
	}
	return orders
}

func contains(list []lab.CommandID, id lab.CommandID) bool {
	for _, x := range list {
		if x == id {
			return true
		}
	}
	return false
}

func containsTrip(list []*tripState, t *tripState) bool {
	for _, x := range list {
		if x == t {
			return true
		}
	}
	return false
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
