package safety

import (
	"fmt"
	"maps"
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

// alarm raises an alarm, or lets it return to normal.
func (e *Engine) alarm(now time.Time, t *trigger, why because, truth expr.Truth, events []Event) []Event {
	r := t.rule
	a := e.alarms[r.ID]
	active := a != nil && a.Active
	inForce := t.st.inForce(e.high)
	switch {
	case why != because{} && inForce && !active:
		a = &Alarm{Rule: r.ID, Priority: r.Priority, Say: fmt.Sprintf("%s: %s", r.ID, why.text(r)), Response: r.Response, Since: now, Active: true, Inputs: e.used(now, r.expr)}
		t.byUnknown = why.unknown // then only as much good data ends it
		e.raise(a)
		return append(events, &AlarmChanged{*a})
	case active && (!inForce || truth == expr.False && (t.unknownSince.IsZero() || !t.byUnknown)):
		a.Active = false
		if a.Acknowledged {
			delete(e.alarms, r.ID)
		}
		return append(events, &AlarmChanged{*a})
	}
	if truth != expr.Unknown {
		delete(e.known, r.ID) // whatever comes is a new one
	}
	return events
}

// raise keeps an alarm. One that was active before a restart, and that somebody
// has acknowledged then, is no news where it is there at once.
func (e *Engine) raise(a *Alarm) {
	if by, ok := e.known[a.Rule]; ok {
		a.Acknowledged, a.By = true, by
		delete(e.known, a.Rule)
	}
	e.alarms[a.Rule] = a
}

// proof is a proof test whose day is to come.
type proof struct {
	timer
	rule   *Rule
	queued bool
}

func (e *Engine) loadProof(r *Rule) {
	p := &proof{rule: r}
	p.of = p
	e.proofs = append(e.proofs, p)
	due := r.ProofTest.Due()
	if due.IsZero() { // never tested: with the first call
		p.queued = true
		e.queue.proofs = append(e.queue.proofs, p)
		return
	}
	e.timers.set(&p.timer, due)
}

func (p *proof) wake(e *Engine, _ time.Time) {
	if !p.queued {
		p.queued = true
		e.queue.proofs = append(e.queue.proofs, p)
	}
}

// proofsDue raises the alarms of the proof tests whose day has come.
func (e *Engine) proofsDue(now time.Time, events []Event) []Event {
	for _, p := range e.queue.proofs {
		p.queued = false
		r := p.rule
		say := fmt.Sprintf("%s was never tested on the real thing", r.ID)
		if t := r.ProofTest; !t.Last.IsZero() {
			say = fmt.Sprintf("the proof test of %s is due since %s; the last was on %s", r.ID, t.Due().Format(time.DateOnly), t.Last.Format(time.DateOnly))
		}
		if old := e.alarms[proofPrefix+r.ID]; old != nil && old.Say == say {
			continue // kept over a reload
		}
		a := &Alarm{Rule: proofPrefix + r.ID, Priority: "medium", Say: say, Response: "try it, and write the day into its proof_test", Since: now, Active: true}
		e.raise(a)
		events = append(events, &AlarmChanged{*a})
	}
	e.queue.proofs = e.queue.proofs[:0]
	return events
}

// Acknowledge notes that a person has seen an alarm. It silences it, and does
// nothing else.
func (e *Engine) Acknowledge(now time.Time, rule, by string) error {
	e.see(now)
	a := e.alarms[rule]
	if a == nil {
		say := rule + " is no alarm that is active or waits to be acknowledged"
		if have := sortedKeys(e.alarms); len(have) > 0 {
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

// RestoreAcknowledged is for an alarm that the journal says somebody has seen.
// If its condition is there when the engine first looks, it is the same alarm;
// later it is another one, which somebody has to look at anew.
func (e *Engine) RestoreAcknowledged(rule, by string) {
	if a := e.alarms[rule]; a != nil {
		a.Acknowledged, a.By = true, by
		return
	}
	if _, isProof := strings.CutPrefix(rule, proofPrefix); isProof || e.states[rule] != nil {
		e.known[rule] = by
	}
}

// Acknowledged are the alarms that somebody has seen and that are there still,
// or may be: the rule, and by whom.
func (e *Engine) Acknowledged() map[string]string {
	seen := maps.Clone(e.known)
	for rule, a := range e.alarms {
		if a.Acknowledged && a.Active {
			seen[rule] = a.By
		}
	}
	return seen
}

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
