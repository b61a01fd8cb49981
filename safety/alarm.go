package safety

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// Alarm tells people something. It is active while its condition is there, and
// gone once it is not active any more and somebody has acknowledged it.
type Alarm struct {
	Rule         string     `json:"rule"`
	Priority     string     `json:"priority"` // low, medium, high, critical
	Say          string     `json:"say"`
	Response     string     `json:"response,omitempty"` // what to do
	Since        time.Time  `json:"since"`
	Active       bool       `json:"active"`
	Acknowledged bool       `json:"acknowledged"`
	By           string     `json:"by,omitempty"`
	Inputs       []lab.Used `json:"inputs,omitempty"`
}

// AlarmChanged is an alarm that was raised just now, or has returned to normal.
type AlarmChanged struct{ Alarm }

func (*AlarmChanged) event() {}

// proofPrefix is before the rule in the name of a proof test's alarm.
const proofPrefix = "proof-test/"

// alarm raises an alarm, or lets it return to normal; nil where nothing
// changed.
func (e *Engine) alarm(now time.Time, t *tripState, say string, truth expr.Truth) Event {
	r := t.rule
	a := e.alarms[r.ID]
	_, bypassed := e.bypassed[r.ID]
	switch {
	case say != "" && !bypassed && (a == nil || !a.Active):
		a = &Alarm{Rule: r.ID, Priority: r.Priority, Say: fmt.Sprintf("%s: %s", r.ID, say), Response: r.Response, Since: now, Active: true, Inputs: e.used(now, r.expr)}
		e.recall(a)
		return &AlarmChanged{*a}
	case a != nil && a.Active && (bypassed || truth == expr.False && t.unknownSince.IsZero()):
		a.Active = false
		if a.Acknowledged {
			delete(e.alarms, r.ID)
		}
		return &AlarmChanged{*a}
	}
	return nil
}

// recall raises an alarm; one that somebody had seen before a restart stays
// seen, once.
func (e *Engine) recall(a *Alarm) {
	if by, ok := e.seen[a.Rule]; ok {
		a.Acknowledged, a.By = true, by
		delete(e.seen, a.Rule)
	}
	e.alarms[a.Rule] = a
}

// proofTests raises the alarms of the proof tests that are due.
func (e *Engine) proofTests(now time.Time) []Event {
	var events []Event
	for len(e.proofs) > 0 && !e.proofs[0].ProofTest.Due().After(now) {
		r := e.proofs[0]
		e.proofs = e.proofs[1:]
		say := fmt.Sprintf("%s was never tested on the real thing", r.ID)
		if !r.ProofTest.Last.IsZero() {
			say = fmt.Sprintf("the proof test of %s is due since %s; the last was on %s", r.ID, r.ProofTest.Due().Format(time.DateOnly), r.ProofTest.Last.Format(time.DateOnly))
		}
		a := &Alarm{Rule: proofPrefix + r.ID, Priority: "medium", Say: say, Response: "try it, and write the day into its proof_test", Since: now, Active: true}
		e.recall(a)
		events = append(events, &AlarmChanged{*a})
	}
	return events
}

// Acknowledge notes that a person has seen an alarm. It silences it, and does
// nothing else.
func (e *Engine) Acknowledge(now time.Time, rule, by string) error {
	a := e.alarms[rule]
	if a == nil {
		var have []string
		for n := range e.alarms {
			have = append(have, n)
		}
		slices.Sort(have)
		say := rule + " is no alarm that is active or waits to be acknowledged"
		if len(have) > 0 {
			say += "; there are: " + strings.Join(have, ", ")
		}
		return lab.Ef("safety: acknowledge", "", lab.KindInvalid, say)
	}
	a.Acknowledged, a.By = true, by
	if !a.Active {
		delete(e.alarms, rule)
	}
	return nil
}

// RestoreAcknowledged puts back an acknowledgement that the journal holds: the
// alarm, if it is there again after the restart, was seen already.
func (e *Engine) RestoreAcknowledged(rule, by string) { e.seen[rule] = by }

// Alarms lists those that are active or not acknowledged, the most urgent
// first, then the oldest.
func (e *Engine) Alarms() []Alarm {
	var list []Alarm
	for _, a := range e.alarms {
		list = append(list, *a)
	}
	slices.SortFunc(list, func(a, b Alarm) int {
		if c := slices.Index(priorities, b.Priority) - slices.Index(priorities, a.Priority); c != 0 {
			return c
		}
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.Rule, b.Rule)
	})
	return list
}
