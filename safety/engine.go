package safety

import (
	"sort"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// Engine decides. It holds the latest reading of every property, the latches,
// and every command that is allowed and not yet done, or in doubt. It is pure:
// events and time in, decisions out; one owner calls it, and no two calls
// overlap.
//
// A reading costs what the rules over it cost, a tick what is due, a decision
// what the rules about its command cost: nothing walks over all rules, all
// latches or all commands.
type Engine struct {
	lab   *lab.Lab
	rules *Rules
	slots []lab.Reading // by Rules.index; then tripped groups; then the arguments of the command in question
	stale []time.Time   // by slot: the first instant at which its reading is too old; zero: never
	ev    expr.Env      // over slots

	states   map[string]*ruleState // by the rule's id
	triggers []*trigger            // trips and alarms, in the order of the file
	watch    []watch               // by slot
	guards   map[lab.CommandID]*guard
	zones    map[string]*zone
	settings map[string]*setting
	accounts []*account
	timers   timers
	queue    queue      // what is to be looked at before the call is over, or with the next Tick
	fresh    []*trigger // never looked at: the next Tick does
	never    int        // trips that were never decidable yet

	latches []*Latch            // in the order in which they came
	latchOn map[string][]*Latch // by instrument; those of all instruments under ""

	flights map[string]*flight // by command: under way, or in doubt
	flying  []*flight          // of those, the ones under way
	free    []*flight          // for the next decisions
	past    history
	scoped  map[string][]*perm // a run's own limits: they may only tighten

	bypassed []*bypassed // the first to end first
	alarms   map[string]*Alarm
	known    map[string]string // alarms that were acknowledged before a restart, by whom
	proofs   []*proof

	startBy time.Time // until then an input that was never good denies, and does not trip
	high    time.Time // the latest now that was seen: bypasses end by it
	order   uint64    // counts calls: what happened before what

	decision Decision // its buffers, for the next Decide
	asked    []string // a buffer of Decision.Rules
	loaded   *flight  // whose arguments are in slots
}

// ruleState is a rule with what is known of it beyond its text.
type ruleState struct {
	rule    *Rule
	bypass  *bypassed // nil: it is in force
	latch   *Latch    // trip: nil: it is not latched
	trigger *trigger  // trip, alarm
	perms   []*perm   // permissive: one; with self, one for each command
	after   *after    // sequence
}

// inForce reports whether a rule is not bypassed at now. A bypass whose time is
// up is none, though no Tick has ended it yet.
func (s *ruleState) inForce(high time.Time) bool {
	return s.bypass == nil || !s.bypass.Until.After(high)
}

// watch is what a slot's readings concern.
type watch struct {
	triggers   []*trigger
	perms      []*perm
	conditions []*condition
	keeps      []*keep
}

// queue is what is to be looked at. Each is in it once.
type queue struct {
	triggers   []*trigger
	perms      []*perm
	conditions []*condition
	keeps      []*keep
	flights    []*flight
	proofs     []*proof
}

// Event is what the engine found while it observed: a *Trip, a *Lost, an
// *AlarmChanged or a *Rearmed.
type Event interface{ event() }

// Trip is a rule that fired just now and latched.
type Trip struct {
	Latch   Latch
	Do      []*Order      // in order; some may be waits
	Run     string        // abort or hold
	HoldFor time.Duration // how long a hold lasts before it becomes an abort
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
	e := &Engine{lab: l, startBy: startBy, flights: map[string]*flight{}, scoped: map[string][]*perm{},
		alarms: map[string]*Alarm{}, known: map[string]string{}, latchOn: map[string][]*Latch{}}
	e.load(rules)
	return e
}

// load puts rules in force, with nothing remembered.
func (e *Engine) load(rules *Rules) {
	e.rules = rules
	n := rules.slotCount
	e.slots, e.stale, e.watch = make([]lab.Reading, n), make([]time.Time, n), make([]watch, n)
	e.states, e.guards, e.zones, e.settings = map[string]*ruleState{}, map[lab.CommandID]*guard{}, map[string]*zone{}, map[string]*setting{}
	e.loadGuards()
	for _, r := range rules.Rules {
		s := &ruleState{rule: r}
		e.states[r.ID] = s
		switch r.Kind {
		case TripRule, AlarmRule:
			e.loadTrigger(s)
		case PermissiveRule:
			e.loadPermissive(s)
		case SequenceRule:
			e.loadSequence(s)
		case ZoneRule:
			e.loadZone(s)
		case LimitRule:
			e.loadLimit(s)
		case BudgetRule:
			e.loadBudget(s)
		}
		if r.ProofTest != nil {
			e.loadProof(r)
		}
	}
	for g := range rules.groups {
		e.setGroup(g, false, time.Time{})
	}
}

// env is what expressions are evaluated against now. It is the engine's own.
func (e *Engine) env(now time.Time) *expr.Env {
	e.ev.Now, e.ev.Slots = now, e.slots
	return &e.ev
}

// see keeps the latest time that was seen: what ends by time ends, whatever
// becomes of a clock.
func (e *Engine) see(now time.Time) {
	e.order++
	if now.After(e.high) {
		e.high = now
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
// received before the one at hand is dropped: the later one is the truth. One
// without a time is not: it makes its property unknown.
func (e *Engine) Observe(now time.Time, samples []lab.Sample) []Event {
	e.see(now)
	any := false
	for i := range samples {
		s := &samples[i]
		slot, ok := e.rules.index[s.ID]
		if at := s.Reading.Received; !ok || !at.IsZero() && at.Before(e.slots[slot].Received) {
			continue
		}
		for _, c := range e.watch[slot].conditions {
			if at := c.at; !c.queued && !at.IsZero() && !at.After(now) {
				e.lookAt(now, c) // what it was until now, before the new reading hides it
			}
		}
		e.put(slot, &s.Reading)
		e.touch(slot)
		any = true
	}
	if !any {
		return nil
	}
	return e.work(now, nil)
}

// touch queues what a slot concerns.
func (e *Engine) touch(slot int) {
	w := &e.watch[slot]
	for _, t := range w.triggers {
		e.queueTrigger(t)
	}
	for _, p := range w.perms {
		if !p.queued {
			p.queued = true
			e.queue.perms = append(e.queue.perms, p)
		}
	}
	for _, c := range w.conditions {
		if !c.queued {
			c.queued = true
			e.queue.conditions = append(e.queue.conditions, c)
		}
	}
	for _, k := range w.keeps {
		if !k.queued {
			k.queued = true
			e.queue.keeps = append(e.queue.keeps, k)
		}
	}
}

func (e *Engine) queueTrigger(t *trigger) {
	if !t.queued {
		t.queued = true
		e.queue.triggers = append(e.queue.triggers, t)
	}
}

// Tick looks at everything that time alone can change: staleness, grace,
// delays, bypasses that end, proof tests that are due.
func (e *Engine) Tick(now time.Time) []Event {
	e.see(now)
	for _, t := range e.fresh {
		e.queueTrigger(t)
	}
	e.fresh = e.fresh[:0]
	events := e.rearm()
	for t := e.timers.due(now); t != nil; t = e.timers.due(now) {
		t.of.wake(e, now)
	}
	return e.work(now, events)
}

// work looks at what is queued. A trip may queue more: what looks at its group.
func (e *Engine) work(now time.Time, events []Event) []Event {
	q := &e.queue
	if len(q.triggers)+len(q.perms)+len(q.conditions)+len(q.keeps)+len(q.flights)+len(q.proofs) == 0 {
		return events
	}
	events = e.proofsDue(now, events)
	for i := 0; i < len(q.triggers); i++ {
		t := q.triggers[i]
		t.queued = false
		events = e.look(now, t, events)
	}
	q.triggers = q.triggers[:0]
	for _, c := range q.conditions {
		c.queued = false
		e.lookAt(now, c)
	}
	q.conditions = q.conditions[:0]
	for _, k := range q.keeps {
		k.queued = false
		k.prog.Observe(k.windows, e.env(now))
	}
	q.keeps = q.keeps[:0]
	return e.lookAtFlights(now, events)
}

// Next is when Tick has something to do; zero for never.
func (e *Engine) Next() time.Time { return e.timers.next() }

// nextLook is when an expression over fresh readings may change by itself:
// the first of them that grows stale, or a window's own instant. stale is the
// former alone.
func (e *Engine) nextLook(now time.Time, p *expr.Program, st *expr.State) (next, stale time.Time) {
	if st != nil {
		next = laterThan(now, p.Next(st, now))
	}
	for _, s := range p.Slots() {
		if at := e.stale[s]; at.After(now) && (stale.IsZero() || at.Before(stale)) {
			stale = at
		}
		if r := &e.slots[s]; r.Received.After(now) { // where it is from the future still
			next = earlier(next, laterThan(now, r.Received.Add(-time.Second)))
		}
	}
	return earlier(next, stale), stale
}

// taken is when a slot's reading was made, as far as can be relied on.
func (e *Engine) taken(slot int) time.Time {
	r := &e.slots[slot]
	if !r.Source.IsZero() && r.Source.Before(r.Received) {
		return r.Source
	}
	return r.Received
}

// put is the one place where a slot gets a reading of the lab.
func (e *Engine) put(slot int, r *lab.Reading) {
	e.slots[slot] = *r
	e.stale[slot] = time.Time{}
	if maxAge := e.rules.maxAge(slot); maxAge != 0 && !r.Received.IsZero() {
		e.stale[slot] = e.taken(slot).Add(maxAge + 1)
	}
}

// takenSince reports whether every reading that an expression stands on was
// made at or after an instant: what an earlier one says of an effect that came
// later is nothing.
func (e *Engine) takenSince(p *expr.Program, at time.Time) bool {
	for _, s := range p.Slots() {
		if s < len(e.rules.properties) && e.taken(s).Before(at) {
			return false
		}
	}
	return true
}

// Ready reports whether every trip has been decidable at least once.
func (e *Engine) Ready(now time.Time) bool { return e.never == 0 }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
