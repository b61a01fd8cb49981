package safety

import (
	"container/heap"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// Engine decides. It holds the latest reading of every property, the latches,
// and every command that is allowed and not yet done, or in doubt. It is pure:
// events and time in, decisions out; one owner calls it, and no two calls
// overlap.
type Engine struct {
	lab     *lab.Lab
	rules   *Rules
	slots   []lab.Reading  // by Rules.index; then tripped groups; then the arguments of the command in question
	trips   []*tripState   // of trips and alarms
	timers  tripHeap       // of those that time alone may change
	touched [][]*tripState // by slot
	feeds   [][]*Rule      // by slot: the permissives that remember what it held
	latches []*Latch       // in the order in which they came
	out     []*outstanding // allowed and not done, in the order of their decisions
	scoped  map[string][]*scoped
	startBy time.Time // until then an input that was never good denies, and does not trip
	never   int       // trips that were never decidable yet, and are not latched

	state    []ruleState             // by the rules' numbers
	doubts   map[string]*lab.Command // over, but nobody knows what they did
	orders   []*orderState           // of sequences
	watched  [][]*orderState         // by slot: the sequences with a condition over it
	zoned    []*Rule                 // the zones
	bypassed map[string]Bypass
	alarms   map[string]*Alarm // active or not acknowledged
	seen     map[string]string // alarms that were acknowledged before a restart, by whom
	proofs   []*Rule           // rules with a proof test whose alarm is to come, by its date
	high     time.Time         // the latest now that was seen: bypasses end by it
	envs     expr.Env
	asked    []lab.Reading // the arguments of the command in question
	d        Decision      // its buffers, for the next Decide
	due      []*tripState  // buffers of Observe
	fed      []*Rule
	changed  []bool // by slot, since the last Observe
	flags    []int  // the slots that changed
}

// ruleState is what the engine remembers of one rule.
type ruleState struct {
	memory *expr.State // of a permissive that remembers: rate, mean, held
	count  *count      // of a budget, or a limit over time
	zone   []holding
}

// tripState is a trip or an alarm with what time has told it.
type tripState struct {
	rule         *Rule
	windows      *expr.State
	healthy      *expr.State // of what a reset needs
	looked       bool        // evaluated at all
	everKnown    bool
	trueSince    time.Time // true, or unknown after it was true, since then
	unknownSince time.Time
	knownSince   time.Time
	next         time.Time // when it is to be looked at again without any reading
	due          time.Time // when the heap brings it up: then, or earlier
	order        int       // in the file
	place        int       // in the heap of timers, from 1; 0: not in it
}

// outstanding is a command from its decision to its outcome, with its permit:
// one piece of memory.
type outstanding struct {
	cmd    *lab.Command
	permit *Permit
	args   []lab.Reading
	held   []heldRule

	thePermit Permit
	theHeld   [3]heldRule
}

// heldRule is a permissive that must hold until the command is done.
type heldRule struct {
	rule      *Rule
	program   *expr.Program
	windows   *expr.State
	lostSince time.Time
	next      time.Time
}

// scoped is a run's own limit: it may only tighten.
type scoped struct {
	rule    *Rule
	windows *expr.State
}

// Event is what the engine found while it observed: a *Trip, a *Lost, an
// *AlarmChanged or a *Rearmed.
type Event interface{ event() }

// Trip is a rule that fired just now and latched.
type Trip struct {
	Latch Latch
	Do    []*Order
	Run   string // abort or hold
	// HoldFor is how long a hold lasts before it becomes an abort.
	HoldFor time.Duration
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
	e := &Engine{lab: l, startBy: startBy, scoped: map[string][]*scoped{}, doubts: map[string]*lab.Command{}, bypassed: map[string]Bypass{}, alarms: map[string]*Alarm{}, seen: map[string]string{}}
	e.load(rules)
	return e
}

// load puts rules in force, with nothing remembered.
func (e *Engine) load(rules *Rules) {
	e.rules, e.trips, e.timers, e.orders, e.never, e.flags = rules, nil, nil, nil, 0, nil
	e.state, e.zoned = make([]ruleState, len(rules.Rules)), nil
	e.slots, e.changed = make([]lab.Reading, rules.slotCount), make([]bool, rules.slotCount)
	e.touched, e.feeds, e.watched = make([][]*tripState, rules.slotCount), make([][]*Rule, rules.slotCount), make([][]*orderState, rules.slotCount)
	e.proofs = nil
	for _, r := range rules.Rules {
		switch r.Kind {
		case TripRule, AlarmRule:
			e.loadTrip(r)
		case PermissiveRule:
			if r.expr != nil && r.expr.Windows() {
				e.remember(r, r.expr)
			}
		case SequenceRule:
			e.loadSequence(r)
		case ZoneRule:
			e.zoned = append(e.zoned, r)
		case BudgetRule:
			e.state[r.n].count = &count{}
		case LimitRule:
			if r.Limit.Change != nil || r.Limit.Total != nil {
				e.state[r.n].count = &count{}
			}
		}
		if r.ProofTest != nil {
			e.proofs = append(e.proofs, r)
		}
	}
	slices.SortStableFunc(e.proofs, func(a, b *Rule) int { return a.ProofTest.Due().Compare(b.ProofTest.Due()) })
	for g := range rules.groups {
		e.setGroup(g, false, time.Time{})
	}
}

func (e *Engine) loadTrip(r *Rule) {
	t := &tripState{rule: r, windows: r.expr.NewState(), order: len(e.trips)}
	if r.healthy != nil {
		t.healthy = r.healthy.NewState()
	}
	e.trips = append(e.trips, t)
	if r.Kind == TripRule {
		e.never++
	}
	touch := func(p *expr.Program) {
		for _, s := range p.Slots() {
			if !slices.Contains(e.touched[s], t) {
				e.touched[s] = append(e.touched[s], t)
			}
		}
	}
	touch(r.expr)
	if r.healthy != nil && r.healthy.Windows() {
		touch(r.healthy)
	}
	e.schedule(t, atOnce)
}

func (e *Engine) remember(r *Rule, p *expr.Program) {
	e.state[r.n].memory = p.NewState()
	for _, s := range p.Slots() {
		e.feeds[s] = append(e.feeds[s], r)
	}
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
	e.due, e.fed = e.due[:0], e.fed[:0]
	any := false
	for i := range samples {
		slot, ok := e.rules.index[samples[i].ID]
		if !ok || samples[i].Reading.Received.Before(e.slots[slot].Received) {
			continue
		}
		e.gap(slot, samples[i].Reading.Received)
		e.slots[slot] = samples[i].Reading
		e.flag(slot)
		any = true
		for _, t := range e.touched[slot] {
			if !slices.Contains(e.due, t) {
				e.due = append(e.due, t)
			}
		}
		for _, r := range e.feeds[slot] {
			if !slices.Contains(e.fed, r) {
				e.fed = append(e.fed, r)
			}
		}
	}
	if !any {
		return nil
	}
	env := e.env(now)
	for _, t := range e.due {
		t.rule.expr.Observe(t.windows, env)
		if t.healthy != nil {
			t.rule.healthy.Observe(t.healthy, env)
		}
	}
	for _, r := range e.fed {
		e.feed(now, r, e.state[r.n].memory)
	}
	for _, list := range e.scoped {
		for _, s := range list {
			e.feed(now, s.rule, s.windows)
		}
	}
	events := e.evalTrips(now, e.due)
	for _, slot := range e.flags {
		e.happened(now, slot)
	}
	events = append(events, e.evalHeld(now)...)
	for _, slot := range e.flags {
		e.changed[slot] = false
	}
	e.flags = e.flags[:0]
	return events
}

// flag notes that what a slot holds has changed.
func (e *Engine) flag(slot int) {
	if !e.changed[slot] {
		e.changed[slot] = true
		e.flags = append(e.flags, slot)
	}
}

// feed lets a permissive remember what is read now. The arguments of a command
// are no part of what was: a window over one is unknown, and denies.
func (e *Engine) feed(now time.Time, r *Rule, windows *expr.State) {
	if windows == nil {
		return
	}
	clear(e.slots[e.rules.argBase:])
	env := e.env(now)
	r.expr.Observe(windows, env)
}

// Tick looks at everything that time alone can change: staleness, grace,
// held(), bypasses that end, proof tests that are due.
func (e *Engine) Tick(now time.Time) []Event {
	e.due = e.due[:0]
	for len(e.timers) > 0 && !e.timers[0].due.After(now) {
		e.wake(now)
	}
	events := e.rearm(now)
	events = append(events, e.proofTests(now)...)
	slices.SortFunc(e.due, func(a, b *tripState) int { return a.order - b.order }) // as in the file
	events = append(events, e.evalTrips(now, e.due)...)
	return append(events, e.evalHeld(now)...)
}

// Next is when Tick has something to do; zero for never.
func (e *Engine) Next() time.Time {
	var next time.Time
	for len(e.timers) > 0 && e.timers[0].due.Before(e.timers[0].next) {
		e.timers[0].due = e.timers[0].next
		heap.Fix(&e.timers, 0)
	}
	if len(e.timers) > 0 {
		if next = e.timers[0].due; next.Equal(atOnce) {
			next = e.high // with the next event; before the first one, when the start is over
			if e.high.IsZero() {
				next = e.startBy
			}
		}
	}
	for _, o := range e.out {
		if o.permit.revoked() {
			continue
		}
		for i := range o.held {
			next = earlier(next, o.held[i].next)
		}
	}
	for _, b := range e.bypassed {
		next = earlier(next, b.Until)
	}
	if len(e.proofs) > 0 {
		next = earlier(next, laterThan(e.high, e.proofs[0].ProofTest.Due()))
	}
	return next
}

// env is what expressions see now: the engine's own, until the next call.
func (e *Engine) env(now time.Time) *expr.Env {
	e.envs.Now, e.envs.Slots = now, e.slots
	return &e.envs
}

func (e *Engine) evalTrips(now time.Time, due []*tripState) []Event {
	var events []Event
	env := e.env(now)
	for i := 0; i < len(due); i++ {
		t := due[i]
		truth := t.rule.expr.Truth(t.windows, env)
		say := e.timeTells(now, t, truth)
		_, bypassed := e.bypassed[t.rule.ID]
		switch {
		case t.rule.Kind == AlarmRule:
			if ev := e.alarm(now, t, say, truth); ev != nil {
				events = append(events, ev)
			}
		case say != "" && !bypassed && !e.latched(t.rule.ID):
			events = append(events, e.fire(now, t.rule, say))
			if !t.everKnown {
				e.never--
				t.everKnown = true // its latch denies from now on
			}
			if slot, ok := e.rules.groups[t.rule.Group]; ok {
				due = append(due, e.touched[slot]...) // those that look at the group; each latches once, so this ends
			}
		}
		e.later(now, t)
	}
	return events
}

// timeTells keeps what time makes of a condition, and says why it is to act
// now; empty where it is not.
func (e *Engine) timeTells(now time.Time, t *tripState, truth expr.Truth) string {
	known := func() {
		if !t.everKnown {
			t.everKnown = true
			if t.rule.Kind == TripRule {
				e.never--
			}
		}
	}
	switch truth {
	case expr.True:
		known()
		if t.trueSince.IsZero() {
			t.trueSince = now
		}
		if now.Sub(t.trueSince) >= t.rule.OnDelay {
			return t.rule.expr.Source().Text
		}
	case expr.False:
		known()
		t.trueSince = time.Time{}
		if t.knownSince.IsZero() {
			t.knownSince = now
		}
		// Only good data for as long as the grace clears the time unknown:
		// a sensor that flickers does not start the clock anew.
		if now.Sub(t.knownSince) >= t.rule.UnknownFor {
			t.unknownSince = time.Time{}
		}
		return ""
	default:
		t.knownSince = time.Time{}
		if !t.everKnown && now.Before(e.startBy) {
			return ""
		}
	}
	if truth == expr.True { // true, but not yet for as long as it has to be
		return ""
	}
	if t.unknownSince.IsZero() {
		t.unknownSince = now
	}
	if now.Sub(t.unknownSince) >= t.rule.UnknownFor {
		return fmt.Sprintf("%s is unknown for %s", t.rule.expr.Source().Text, lab.Seconds(t.rule.UnknownFor))
	}
	return ""
}

// later says when time alone may change what a trip is: a reading that grows
// stale, the delay or the time unknown that is up, the good data that clear it.
func (e *Engine) later(now time.Time, t *tripState) {
	t.looked = true
	next := e.nextLook(now, t.rule.expr, t.windows)
	acted := e.latched(t.rule.ID)
	if !t.trueSince.IsZero() && !acted {
		next = earlier(next, laterThan(now, t.trueSince.Add(t.rule.OnDelay)))
	}
	if !t.unknownSince.IsZero() && !acted {
		next = earlier(next, laterThan(now, t.unknownSince.Add(t.rule.UnknownFor)))
	}
	if !t.unknownSince.IsZero() && !t.knownSince.IsZero() {
		next = earlier(next, laterThan(now, t.knownSince.Add(t.rule.UnknownFor)))
	}
	if !t.everKnown && now.Before(e.startBy) {
		next = earlier(next, e.startBy)
	}
	e.schedule(t, next)
}

// fire latches a trip and makes its orders.
func (e *Engine) fire(now time.Time, r *Rule, say string) Event {
	l := &Latch{Rule: r.ID, Group: r.Group, Instruments: r.instruments(), Since: now, FirstOut: !e.groupLatched(r.Group),
		Say: fmt.Sprintf("%s tripped: %s", r.ID, say), Inputs: e.used(now, r.expr)}
	for _, m := range r.Mitigates {
		l.Mitigates = append(l.Mitigates, m.String())
	}
	e.latch(l)
	t := &Trip{Latch: *l, Run: r.Run, HoldFor: r.HoldFor}
	for _, s := range r.Do {
		t.Do = append(t.Do, &Order{target: s.Command, args: s.Args, wait: s.Wait, origin: OriginTrip, why: r.ID})
	}
	return t
}

// evalHeld looks at the permissives of commands under way that a changed
// reading concerns, or whose time has come. The grace is for commands that have begun: before the first byte there is
// none.
func (e *Engine) evalHeld(now time.Time) []Event {
	var events []Event
	for _, o := range e.out {
		if o.permit.revoked() {
			continue // it ends already
		}
		for i := range o.held {
			h := &o.held[i]
			if due := !h.next.IsZero() && !h.next.After(now); !due && !e.concerns(h.program) {
				continue
			}
			if lost := e.lookHeld(now, o, h); lost != nil {
				events = append(events, lost)
				break
			}
		}
	}
	return events
}

// concerns reports whether a reading that has just changed is in a formula.
func (e *Engine) concerns(p *expr.Program) bool {
	for _, s := range p.Slots() {
		if e.changed[s] {
			return true
		}
	}
	return false
}

func (e *Engine) lookHeld(now time.Time, o *outstanding, h *heldRule) Event {
	if _, bypassed := e.bypassed[h.rule.ID]; bypassed {
		h.lostSince, h.next = time.Time{}, time.Time{}
		return nil
	}
	if len(o.args) > 0 {
		e.loadArgs(o.args)
	}
	env := e.env(now)
	truth := h.program.Truth(h.windows, env)
	h.next = e.nextLook(now, h.program, h.windows)
	if truth == expr.True {
		h.lostSince = time.Time{}
		return nil
	}
	if h.lostSince.IsZero() {
		h.lostSince = now
	}
	if left := h.rule.Grace - now.Sub(h.lostSince); left > 0 && o.permit.spent() {
		h.next = earlier(h.next, now.Add(left))
		return nil
	}
	lost := &Lost{Command: o.cmd.ID, Rule: h.rule.ID, Inputs: e.used(now, h.program),
		Say: fmt.Sprintf("%s needs %s, which is %s now", h.rule.ID, h.program.Source().Text, word(truth))}
	o.permit.revoke(lost.Say)
	return lost
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
	next := e.soonest(now, p)
	if p.Windows() {
		next = earlier(next, laterThan(now, p.Next(st, now)))
	}
	return next
}

// soonest is when the first reading of a formula grows stale, or is no longer
// from the future; zero: never.
func (e *Engine) soonest(now time.Time, p *expr.Program) time.Time {
	var next time.Time
	for _, s := range p.Slots() {
		if r := &e.slots[s]; r.Received.After(now) {
			next = earlier(next, laterThan(now, r.Received.Add(-time.Second)))
		}
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
	r := &e.slots[slot]
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
		if strings.HasPrefix(u.Signal, "self.") {
			u.Signal = e.rules.properties[s].String()
		}
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
	return e.never == 0
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
