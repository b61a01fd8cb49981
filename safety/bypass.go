package safety

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"labgate/lab"
)

// Bypass is a rule that a person has taken out of force, for a while.
type Bypass struct {
	Rule   string    `json:"rule"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
}

// MaxBypass is how long a bypass may last.
const MaxBypass = 24 * time.Hour

// Rearmed is a bypass that has ended by itself.
type Rearmed struct{ Bypass }

func (*Rearmed) event() {}

// bypassed is a bypass in force.
type bypassed struct {
	timer
	Bypass
	st *ruleState
}

// wake does nothing: every Tick looks at the few bypasses there are, by the
// latest time that was ever seen.
func (b *bypassed) wake(*Engine, time.Time) {}

// Bypass takes one rule out of force until an instant: a trip does not fire, a
// guard is not asked; what they count goes on being counted. It is refused
// without a person, a reason and an end, for a rule that says never, for a
// limit of the lab file, for a trip that is latched, and beyond as many at once
// as the rules allow.
func (e *Engine) Bypass(now time.Time, b Bypass) error {
	e.see(now)
	deny := func(kind lab.Kind, format string, args ...any) error {
		return lab.E("safety: bypass", "", kind, fmt.Errorf(format, args...))
	}
	s := e.states[b.Rule]
	again := s != nil && s.bypass != nil && !s.inForce(e.high)
	switch {
	case s == nil:
		var ids []string
		for _, x := range e.rules.Rules {
			ids = append(ids, x.ID)
		}
		return deny(lab.KindInvalid, "there is no rule %q%s", b.Rule, hint(b.Rule, ids))
	case s.rule.FromLab:
		return deny(lab.KindDenied, "%s is a limit of the lab file; it can't be bypassed", b.Rule)
	case s.rule.NoBypass:
		return deny(lab.KindDenied, "%s says bypass: never", b.Rule)
	case strings.TrimSpace(b.By) == "" || strings.TrimSpace(b.Reason) == "":
		return deny(lab.KindInvalid, "a bypass needs a person and a reason")
	case !b.Until.After(e.high):
		return deny(lab.KindInvalid, "a bypass needs an end that is to come")
	case b.Until.Sub(e.high) > MaxBypass:
		return deny(lab.KindDenied, "a bypass lasts at most %s", lab.Seconds(MaxBypass))
	case s.latch != nil:
		return deny(lab.KindDenied, "%s is latched; look, and reset it first", b.Rule)
	case !again && len(e.bypassed) >= e.rules.Bypasses:
		return deny(lab.KindDenied, "%d of at most %d rules are bypassed already", len(e.bypassed), e.rules.Bypasses)
	}
	if b.Since.IsZero() {
		b.Since = now
	}
	e.setAside(s, b)
	return nil
}

func (e *Engine) setAside(s *ruleState, b Bypass) {
	if s.bypass != nil {
		e.putBack(s)
	}
	x := &bypassed{Bypass: b, st: s}
	x.of, s.bypass = x, x
	e.bypassed = append(e.bypassed, x)
	slices.SortStableFunc(e.bypassed, func(a, b *bypassed) int { return a.Until.Compare(b.Until) })
	e.timers.set(&x.timer, b.Until)
}

// putBack lets everything look at a rule again, before the call is over or with
// the next Tick.
func (e *Engine) putBack(s *ruleState) {
	e.timers.set(&s.bypass.timer, time.Time{})
	e.bypassed = slices.DeleteFunc(e.bypassed, func(x *bypassed) bool { return x == s.bypass })
	s.bypass = nil
	if s.trigger != nil {
		e.queueTrigger(s.trigger)
	}
	for _, p := range s.perms {
		for _, h := range p.active {
			e.queueHeld(h)
		}
	}
}

// Unbypass puts a rule back in force.
func (e *Engine) Unbypass(now time.Time, rule string) error {
	e.see(now)
	s := e.states[rule]
	if s == nil || s.bypass == nil {
		return lab.E("safety: bypass", "", lab.KindInvalid, fmt.Errorf("%s is not bypassed", rule))
	}
	e.putBack(s)
	return nil
}

// Bypasses lists them, the first to end first.
func (e *Engine) Bypasses() []Bypass {
	var list []Bypass
	for _, b := range e.bypassed {
		list = append(list, b.Bypass)
	}
	return list
}

// RestoreBypass puts back a bypass that the journal holds; one that is over by
// now ends with the next Tick. One that the rules do not allow any more is
// dropped, and none lasts longer than it might have when it began.
func (e *Engine) RestoreBypass(b Bypass) {
	s := e.states[b.Rule]
	if s == nil || s.rule.NoBypass || s.rule.FromLab || b.Until.IsZero() {
		return
	}
	if most := b.Since.Add(MaxBypass); b.Until.After(most) {
		b.Until = most
	}
	e.see(b.Since)
	others := 0
	for _, x := range e.bypassed {
		if x.st != s && x.Until.After(e.high) {
			others++
		}
	}
	if others >= e.rules.Bypasses { // the file allows fewer than it did
		return
	}
	e.setAside(s, b)
}

// rearm ends the bypasses whose time is up: by the latest time that was ever
// seen, so that no clock that is set back lengthens one.
func (e *Engine) rearm() (events []Event) {
	for len(e.bypassed) > 0 && !e.bypassed[0].Until.After(e.high) {
		b := e.bypassed[0]
		e.putBack(b.st)
		events = append(events, &Rearmed{b.Bypass})
	}
	return events
}
