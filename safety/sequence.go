package safety

import (
	"fmt"
	"slices"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// occurrence is what is known of one command's past. What came before what is
// told by the engine's order of calls, which is that of the journal, not by
// clocks.
type occurrence struct {
	open      int       // under way or in doubt: they count as happening now
	last      uint64    // when the latest one ended that did something
	confirmed uint64    // when the latest one counts as confirmed; 0: never
	at        time.Time // the same
}

// after is one sequence.
type after struct {
	rule     *Rule
	first    happening
	notSince []happening
}

// happening is a command or a condition.
type happening struct {
	text string
	past *occurrence
	cond *condition
}

// condition is what is remembered of a condition: when it was true last, and
// when it was not known to be false last. Before the engine looked it was not
// known.
type condition struct {
	timer
	prog    *expr.Program
	windows *expr.State
	queued  bool
	truth   expr.Truth
	wasTrue uint64 // 0: never
	trueAt  time.Time
	maybe   uint64
}

func (a *after) all() []happening { return append([]happening{a.first}, a.notSince...) }

func (e *Engine) loadSequence(s *ruleState) {
	r := s.rule
	a := &after{rule: r, first: e.happening(r.Sequence.After)}
	s.after = a
	for _, h := range r.Sequence.NotSince {
		a.notSince = append(a.notSince, e.happening(h))
	}
	var seen []lab.CommandID
	for _, t := range r.Targets {
		if g := e.guards[t.Command]; g != nil && !slices.Contains(seen, t.Command) {
			seen = append(seen, t.Command)
			g.add(check{st: s, after: a})
		}
	}
}

func (e *Engine) happening(h Happening) happening {
	if h.expr == nil {
		if g := e.guards[h.Command]; g != nil {
			return happening{text: h.Text, past: &g.past}
		}
		return happening{text: h.Text} // nothing: it never happens, and it is never known not to have
	}
	c := &condition{prog: h.expr, windows: h.expr.NewState(), maybe: e.order + 1}
	c.of = c
	for _, slot := range h.expr.Slots() {
		e.watch[slot].conditions = append(e.watch[slot].conditions, c)
	}
	c.wake(e, time.Time{}) // the next Tick looks, and says when to look again
	return happening{text: h.Text, cond: c}
}

func (c *condition) wake(e *Engine, _ time.Time) {
	if !c.queued {
		c.queued = true
		e.queue.conditions = append(e.queue.conditions, c)
	}
}

// lookAt looks at a condition now.
func (e *Engine) lookAt(now time.Time, c *condition) {
	env := e.env(now)
	c.prog.Observe(c.windows, env)
	truth := c.prog.Truth(c.windows, env)
	if truth == expr.True {
		c.wasTrue, c.trueAt = e.order, now
	}
	if truth != expr.False || c.truth != expr.False { // in the latter case until now
		c.maybe = e.order
	}
	c.truth = truth
	next, _ := e.nextLook(now, c.prog, c.windows)
	e.timers.set(&c.timer, next)
}

// checkAfter asks whether what must have happened has, and nothing since that
// must not have.
func (e *Engine) checkAfter(a *asking, x *after) {
	s := x.rule.Sequence
	for _, h := range x.all() {
		if h.cond != nil {
			e.lookAt(a.now, h.cond)
			a.d.programs = append(a.d.programs, h.cond.prog)
		}
	}
	refuse := func(h happening, wait, format string, args ...any) {
		i := lab.Issue{Code: "sequence", Rule: x.rule.ID, Allowed: "after " + s.After.Text, Hint: x.rule.About, Wait: wait,
			Say: x.rule.ID + ": " + fmt.Sprintf(format, args...)}
		if h.cond != nil {
			i.Inputs = e.used(a.now, h.cond.prog)
		}
		a.d.refuse(i)
	}
	since, at, ok := x.first.latest()
	if !ok {
		wait := ""
		if x.first.past != nil && x.first.past.open > 0 {
			wait = x.first.text + " is under way or in doubt"
		} else if x.first.cond != nil {
			wait = x.first.text + " may become true"
		}
		refuse(x.first, wait, "%s has not happened before", x.first.text)
		return
	}
	if s.Within > 0 {
		if ago := a.now.Sub(at); ago > s.Within {
			refuse(x.first, "", "%s was %s ago; at most %s is allowed", x.first.text, lab.Seconds(ago.Round(time.Second)), lab.Seconds(s.Within))
		}
		a.ends(at.Add(s.Within + 1))
	}
	for _, h := range x.notSince {
		if why := h.since(since); why != "" {
			refuse(h, "", "since %s, %s", x.first.text, why)
		}
		if h.cond != nil {
			_, stale := e.nextLook(a.now, h.cond.prog, h.cond.windows)
			a.ends(stale)
		}
	}
}

// latest is when it was last confirmed or true.
func (h *happening) latest() (order uint64, at time.Time, ok bool) {
	switch {
	case h.past != nil:
		return h.past.confirmed, h.past.at, h.past.confirmed > 0
	case h.cond != nil:
		return h.cond.wasTrue, h.cond.trueAt, h.cond.wasTrue > 0
	}
	return 0, time.Time{}, false
}

// since says that it may have happened since; empty: it has not.
func (h *happening) since(order uint64) string {
	switch {
	case h.past != nil && h.past.open > 0:
		return h.text + " is under way, or in doubt"
	case h.past != nil && h.past.last > order:
		return h.text + " has happened, or may have"
	case h.past != nil:
		return ""
	case h.cond == nil:
		return h.text + " can't be known"
	case h.cond.truth == expr.True:
		return h.text + " is true"
	case h.cond.truth == expr.Unknown:
		return h.text + " is unknown"
	case h.cond.maybe > order:
		return h.text + " was true, or unknown"
	}
	return ""
}
