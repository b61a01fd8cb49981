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

// Bypass takes one rule out of force until an instant: a trip does not fire, a
// guard is not asked. It is refused without a person, a reason and an end, for
// a rule that says never, for a limit of the lab file, and beyond as many at
// once as the rules allow.
func (e *Engine) Bypass(now time.Time, b Bypass) error {
	const op = "safety: bypass"
	e.see(now)
	r := e.rules.Find(b.Rule)
	deny := func(kind lab.Kind, format string, args ...any) error {
		return lab.E(op, "", kind, fmt.Errorf(format, args...))
	}
	switch {
	case r == nil:
		var ids []string
		for _, x := range e.rules.Rules {
			ids = append(ids, x.ID)
		}
		return deny(lab.KindInvalid, "there is no rule %q%s", b.Rule, hint(b.Rule, ids))
	case r.FromLab:
		return deny(lab.KindDenied, "%s is a limit of the lab file; it can't be bypassed", b.Rule)
	case r.NoBypass:
		return deny(lab.KindDenied, "%s says bypass: never", b.Rule)
	case strings.TrimSpace(b.By) == "" || strings.TrimSpace(b.Reason) == "":
		return deny(lab.KindInvalid, "a bypass needs a person and a reason")
	case !b.Until.After(e.high):
		return deny(lab.KindInvalid, "a bypass needs an end that is to come")
	case b.Until.Sub(e.high) > MaxBypass:
		return deny(lab.KindDenied, "a bypass lasts at most %s", lab.Seconds(MaxBypass))
	case e.latched(b.Rule):
		return deny(lab.KindDenied, "%s is latched; look, and reset it first", b.Rule)
	}
	if _, again := e.bypassed[b.Rule]; !again && len(e.bypassed) >= e.rules.Bypasses {
		return deny(lab.KindDenied, "%d of at most %d rules are bypassed already", len(e.bypassed), e.rules.Bypasses)
	}
	e.bypassed[b.Rule] = b
	return nil
}

// Unbypass puts a rule back in force.
func (e *Engine) Unbypass(now time.Time, rule string) error {
	if _, ok := e.bypassed[rule]; !ok {
		return lab.E("safety: bypass", "", lab.KindInvalid, fmt.Errorf("%s is not bypassed", rule))
	}
	e.arm(rule)
	return nil
}

// arm lets everything look at a rule again, at once.
func (e *Engine) arm(rule string) {
	delete(e.bypassed, rule)
	for _, t := range e.trips {
		if t.rule.ID == rule {
			e.schedule(t, atOnce)
		}
	}
	for _, o := range e.out {
		for i := range o.held {
			if o.held[i].rule.ID == rule {
				o.held[i].next = atOnce
			}
		}
	}
}

// Bypasses lists them, the first to end first.
func (e *Engine) Bypasses() []Bypass {
	var list []Bypass
	for _, b := range e.bypassed {
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b Bypass) int {
		if c := a.Until.Compare(b.Until); c != 0 {
			return c
		}
		return strings.Compare(a.Rule, b.Rule)
	})
	return list
}

// RestoreBypass puts back a bypass that the journal holds; one that is over by
// now ends with the next Tick. One that the rules do not allow any more is
// dropped.
func (e *Engine) RestoreBypass(b Bypass) {
	if r := e.rules.Find(b.Rule); r != nil && !r.NoBypass && !r.FromLab {
		e.bypassed[b.Rule] = b
	}
}

// rearm ends the bypasses whose time is up: by the latest time that was ever
// seen, so that no clock that is set back lengthens one.
func (e *Engine) rearm(now time.Time) []Event {
	e.see(now)
	if len(e.bypassed) == 0 {
		return nil
	}
	var events []Event
	for _, b := range e.Bypasses() {
		if !b.Until.After(e.high) {
			e.arm(b.Rule)
			events = append(events, &Rearmed{b})
		}
	}
	for len(e.timers) > 0 && !e.timers[0].due.After(now) {
		e.wake(now)
	}
	return events
}
