package safety

import (
	"fmt"
	"slices"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// orderState is a sequence rule with what has happened.
type orderState struct {
	rule    *Rule
	after   time.Time // when what has to be before was last there; zero: not since the start
	marks   []mark    // of what has happened since then and must not have
	windows map[*expr.Program]*expr.State
}

// mark is a happening that breaks a sequence until what has to be before is
// there again.
type mark struct {
	say     string
	command string // id; empty: a condition
}

func (e *Engine) loadSequence(r *Rule) {
	o := &orderState{rule: r, windows: map[*expr.Program]*expr.State{}}
	e.orders = append(e.orders, o)
	for _, h := range append([]Happening{r.Sequence.After}, r.Sequence.NotSince...) {
		if h.expr == nil {
			continue
		}
		o.windows[h.expr] = h.expr.NewState()
		for _, s := range h.expr.Slots() {
			if !slices.Contains(e.watched[s], o) {
				e.watched[s] = append(e.watched[s], o)
			}
		}
	}
}

// happened looks at the conditions over a reading that has just come.
func (e *Engine) happened(now time.Time, slot int) {
	for _, o := range e.watched[slot] {
		e.lookAt(now, o, true)
	}
}

// lookAt looks at the conditions of a sequence now.
func (e *Engine) lookAt(now time.Time, o *orderState, observe bool) {
	env := e.env(now)
	truth := func(p *expr.Program) expr.Truth {
		if observe {
			p.Observe(o.windows[p], env)
		}
		return p.Truth(o.windows[p], env)
	}
	if p := o.rule.Sequence.After.expr; p != nil && truth(p) == expr.True {
		o.begin(now)
	}
	for _, h := range o.rule.Sequence.NotSince {
		if h.expr == nil {
			continue
		}
		switch t := truth(h.expr); t {
		case expr.True:
			o.mark(mark{say: h.Text + " was true"})
		case expr.Unknown:
			o.mark(mark{say: h.Text + " was unknown"})
		}
	}
}

// gap marks the sequences that must know a reading which was stale for a while
// before the next one came.
func (e *Engine) gap(slot int, received time.Time) {
	if len(e.watched[slot]) == 0 {
		return
	}
	at := e.staleAt(slot)
	if at.IsZero() || !received.After(at) {
		return
	}
	for _, o := range e.watched[slot] {
		for _, h := range o.rule.Sequence.NotSince {
			if h.expr != nil && slices.Contains(h.expr.Slots(), slot) {
				o.mark(mark{say: h.Text + " was unknown"})
			}
		}
	}
}

// begin starts a sequence anew: what must not happen counts from here on, but
// for commands that are not over.
func (o *orderState) begin(now time.Time) {
	o.after = now
	o.marks = slices.DeleteFunc(o.marks, func(m mark) bool { return m.command == "" })
}

func (o *orderState) mark(m mark) {
	if !slices.Contains(o.marks, m) && len(o.marks) < 1000 { // one is enough to refuse
		o.marks = append(o.marks, m)
	}
}

// marked lets a command count as happened, from its decision.
func (e *Engine) marked(target lab.CommandID, id string) {
	for _, o := range e.orders {
		for _, h := range o.rule.Sequence.NotSince {
			if h.Command == target && h.expr == nil {
				o.mark(mark{fmt.Sprintf("%s has happened, or may have", target), id})
			}
		}
	}
}

// unmark takes a command back that did nothing.
func (e *Engine) unmark(id string) {
	for _, o := range e.orders {
		o.marks = slices.DeleteFunc(o.marks, func(m mark) bool { return m.command == id })
	}
}

// confirmed lets a command that was done begin the sequences that wait for it,
// and ends claims that last until it.
func (e *Engine) confirmed(now time.Time, cmd *lab.Command) {
	for _, o := range e.orders {
		if s := o.rule.Sequence; s.After.expr != nil || s.After.Command != cmd.Target {
			continue
		}
		o.begin(now)
		o.marks = slices.DeleteFunc(o.marks, func(m mark) bool { return m.command != "" && !e.open(m.command) })
		e.lookAt(now, o, false)
	}
	e.released(cmd.Target)
}

// open reports whether a command is under way or in doubt.
func (e *Engine) open(id string) bool { return e.underWay(id) || e.doubts[id] != nil }

// checkSequence refuses a command whose sequence has not begun, is too old, or
// was broken.
func (e *Engine) checkSequence(now time.Time, r *Rule, cmd *lab.Command, d *Decision) {
	var o *orderState
	for _, x := range e.orders {
		if x.rule == r {
			o = x
		}
	}
	e.lookAt(now, o, false)
	s := r.Sequence
	var inputs []lab.Used
	for _, h := range append([]Happening{s.After}, s.NotSince...) {
		if h.expr != nil {
			inputs = append(inputs, e.used(now, h.expr)...)
		}
	}
	refuse := func(say string) {
		d.refuse(lab.Issue{Code: "sequence", Rule: r.ID, Inputs: inputs, Allowed: "after " + s.After.Text, Say: r.ID + ": " + say, Hint: r.About, Wait: s.After.Text + " has to happen first"})
	}
	switch {
	case o.after.IsZero():
		refuse(fmt.Sprintf("%s has not happened before", s.After.Text))
	case s.Within > 0 && now.Sub(o.after) > s.Within:
		refuse(fmt.Sprintf("%s was %s ago; at most %s is allowed", s.After.Text, lab.Seconds(now.Sub(o.after).Round(time.Second)), lab.Seconds(s.Within)))
	case len(o.marks) > 0:
		refuse(fmt.Sprintf("since %s, %s", s.After.Text, o.marks[0].say))
	}
}
