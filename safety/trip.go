package safety

import (
	"fmt"
	"slices"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// trigger is the condition of a trip or of an alarm, with what time has told of
// it.
type trigger struct {
	timer
	st           *ruleState
	rule         *Rule
	windows      *expr.State
	healthy      *expr.State // of what a reset needs
	queued       bool
	everKnown    bool
	trueSince    time.Time // true, or unknown after it was true, since then
	unknownSince time.Time
	knownSince   time.Time
	byUnknown    bool // alarm: it was raised because it was unknown
}

func (e *Engine) loadTrigger(s *ruleState) {
	r := s.rule
	t := &trigger{st: s, rule: r, windows: r.expr.NewState()}
	t.of, s.trigger = t, t
	e.triggers = append(e.triggers, t)
	if r.Kind == TripRule {
		e.never++
	}
	slots := slices.Clone(r.expr.Slots())
	if r.healthy != nil {
		if t.healthy = r.healthy.NewState(); t.healthy != nil {
			slots = append(slots, r.healthy.Slots()...)
		}
	}
	slices.Sort(slots)
	for _, s := range slices.Compact(slots) {
		e.watch[s].triggers = append(e.watch[s].triggers, t)
	}
	e.timers.set(&t.timer, e.startBy)
	e.fresh = append(e.fresh, t)
}

func (t *trigger) feed(env *expr.Env) {
	t.rule.expr.Observe(t.windows, env)
	if t.healthy != nil {
		t.rule.healthy.Observe(t.healthy, env)
	}
}

func (t *trigger) wake(e *Engine, _ time.Time) { e.queueTrigger(t) }

// look looks at a trip or an alarm now.
func (e *Engine) look(now time.Time, t *trigger, events []Event) []Event {
	env := e.env(now)
	t.feed(env)
	truth := t.rule.expr.Truth(t.windows, env)
	why := e.timeTells(now, t, truth)
	switch {
	case t.rule.Kind == AlarmRule:
		events = e.alarm(now, t, why, truth, events)
	case why != because{} && t.st.latch == nil && t.st.inForce(e.high):
		events = append(events, e.fire(now, t.rule, why.text(t.rule)))
	}
	e.schedule(now, t)
	return events
}

// because is why a condition is to act now; the zero one: it is not.
type because struct{ isTrue, unknown bool }

func (b because) text(r *Rule) string {
	if b.isTrue {
		return r.expr.Source().Text
	}
	return fmt.Sprintf("%s is unknown for %s", r.expr.Source().Text, lab.Seconds(r.UnknownFor))
}

// timeTells keeps what time makes of a condition, and says why it is to act
// now. A time that runs backwards starts no wait anew: it is cut short.
func (e *Engine) timeTells(now time.Time, t *trigger, truth expr.Truth) (why because) {
	for _, since := range []*time.Time{&t.trueSince, &t.unknownSince, &t.knownSince} {
		if since.After(now) {
			*since = now
		}
	}
	if truth == expr.Unknown {
		t.knownSince = time.Time{}
		switch {
		case !t.everKnown && now.Before(e.startBy):
			return because{}
		case t.unknownSince.IsZero():
			t.unknownSince = now
		}
	} else {
		e.decidable(t)
		if t.knownSince.IsZero() {
			t.knownSince = now
		}
	}
	switch {
	case truth == expr.False:
		t.trueSince = time.Time{}
		// Only good data for as long as the grace clears the time unknown:
		// a sensor that flickers does not start the clock anew.
		if now.Sub(t.knownSince) >= t.rule.UnknownFor {
			t.unknownSince = time.Time{}
		}
		return because{}
	case truth == expr.True && t.trueSince.IsZero():
		t.trueSince = now
	}
	switch {
	case !t.trueSince.IsZero() && now.Sub(t.trueSince) >= t.rule.OnDelay: // unknown does not break it
		return because{isTrue: true}
	case truth == expr.Unknown && now.Sub(t.unknownSince) >= t.rule.UnknownFor:
		return because{unknown: true}
	}
	return because{}
}

// decidable notes that a condition was known once.
func (e *Engine) decidable(t *trigger) {
	if !t.everKnown {
		t.everKnown = true
		if t.rule.Kind == TripRule {
			e.never--
		}
	}
}

// schedule says when time alone may change what a trip is: a reading that
// grows stale, the delay or the time unknown that is up, the good data that
// clear it.
func (e *Engine) schedule(now time.Time, t *trigger) {
	next, _ := e.nextLook(now, t.rule.expr, t.windows)
	if t.st.latch == nil {
		if !t.trueSince.IsZero() {
			next = earlier(next, laterThan(now, t.trueSince.Add(t.rule.OnDelay)))
		}
		if !t.unknownSince.IsZero() {
			next = earlier(next, laterThan(now, t.unknownSince.Add(t.rule.UnknownFor)))
		}
	}
	if !t.unknownSince.IsZero() && !t.knownSince.IsZero() {
		next = earlier(next, laterThan(now, t.knownSince.Add(t.rule.UnknownFor)))
	}
	if !t.everKnown && now.Before(e.startBy) {
		next = earlier(next, e.startBy)
	}
	e.timers.set(&t.timer, next)
}

// fire latches a trip and makes its orders.
func (e *Engine) fire(now time.Time, r *Rule, why string) Event {
	l := &Latch{Rule: r.ID, Group: r.Group, Instruments: r.instruments(), Since: now, FirstOut: !e.groupLatched(r.Group),
		Say: fmt.Sprintf("%s tripped: %s", r.ID, why), Inputs: e.used(now, r.expr)}
	for _, m := range r.Mitigates {
		l.Mitigates = append(l.Mitigates, m.String())
	}
	e.decidable(e.states[r.ID].trigger) // its latch denies from now on
	e.latch(l)
	return &Trip{Latch: *l, Do: r.orders(), Run: r.Run, HoldFor: r.HoldFor}
}

// orders are what a trip does.
func (r *Rule) orders() []*Order {
	var list []*Order
	for _, s := range r.Do {
		list = append(list, &Order{target: s.Command, args: s.Args, wait: s.Wait, origin: OriginTrip, why: r.ID})
	}
	return list
}
