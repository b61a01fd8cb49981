package safety

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// Latch is a trip that no person has reset yet, or a stop.
type Latch struct {
	Rule        string     `json:"rule"` // "stop" for an emergency stop
	Group       string     `json:"group"`
	Instruments []string   `json:"instruments"` // whose effects are denied; empty: all
	Since       time.Time  `json:"since"`
	FirstOut    bool       `json:"first_out"` // the first of its group: the cause, not a consequence
	Say         string     `json:"say"`
	Inputs      []lab.Used `json:"inputs,omitempty"`
	Mitigates   []string   `json:"mitigates,omitempty"` // commands that pass all the same, each once

	mitigated map[string]string // of those, which one has passed, as which command
}

// stopGroup is the group of emergency stops, and the id of the latch of one.
const stopGroup = "stop"

func (e *Engine) latch(l *Latch) {
	e.latches = append(e.latches, l)
	e.indexLatches()
	e.setGroup(l.Group, true, l.Since)
}

// indexLatches sets what a decision and a trip look up, after any change.
func (e *Engine) indexLatches() {
	clear(e.latchOn)
	for _, s := range e.states {
		s.latch = nil
	}
	for _, l := range e.latches {
		if s := e.states[l.Rule]; s != nil && s.rule.Kind == TripRule {
			s.latch = l
		}
		if len(l.Instruments) == 0 && l.Group == stopGroup {
			e.latchOn[""] = append(e.latchOn[""], l)
		}
		for _, in := range l.Instruments {
			e.latchOn[in] = append(e.latchOn[in], l)
		}
	}
}

// setGroup sets what tripped(group) says, and queues what asks for it.
func (e *Engine) setGroup(group string, tripped bool, now time.Time) {
	if slot, ok := e.rules.groups[group]; ok && (e.slots[slot].Value != lab.BoolValue(tripped)) {
		e.slots[slot] = lab.Reading{Value: lab.BoolValue(tripped), Quality: lab.Good, Source: now, Received: now}
		e.touch(slot)
	}
}

func (e *Engine) latched(rule string) bool {
	return slices.ContainsFunc(e.latches, func(l *Latch) bool { return l.Rule == rule })
}

func (e *Engine) groupLatched(group string) bool {
	return slices.ContainsFunc(e.latches, func(l *Latch) bool { return l.Group == group })
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
	e.see(now)
	l := &Latch{Rule: stopGroup, Group: stopGroup, Since: now, Say: fmt.Sprintf("stopped by %s", who)}
	if reason != "" {
		l.Say += ": " + reason
	}
	if instrument != "" {
		l.Rule, l.Instruments = stopGroup+"/"+instrument, []string{instrument}
	}
	if !e.latched(l.Rule) {
		l.FirstOut = !e.groupLatched(l.Group)
		e.latch(l)
	}
	return *l
}

// Reset clears a latch. It is refused while the rule's inputs are unknown, not
// yet healthy, or good again for less long than the rule's grace for what is
// unknown: a person can't talk a sensor away.
func (e *Engine) Reset(now time.Time, rule string) error {
	const op = "safety: reset"
	e.see(now)
	if !e.latched(rule) {
		var have []string
		for _, l := range e.latches {
			have = append(have, l.Rule)
		}
		say := fmt.Sprintf("%s is not latched", rule)
		if len(have) > 0 {
			say += "; latched are: " + strings.Join(have, ", ")
		}
		return lab.Ef(op, "", lab.KindInvalid, say)
	}
	if t := e.tripOf(rule); t != nil {
		if why := e.unhealthy(now, t); why != "" {
			return lab.Ef(op, "", lab.KindDenied, fmt.Sprintf("%s can't be reset: %s", rule, why))
		}
		t.unknownSince, t.knownSince, t.trueSince = time.Time{}, now, time.Time{}
	}
	e.DropLatch(rule)
	return nil
}

// tripOf is the trip of a latch; nil for a stop and for an orphan.
func (e *Engine) tripOf(rule string) *trigger {
	if s := e.states[rule]; s != nil && s.rule.Kind == TripRule {
		return s.trigger
	}
	return nil
}

// unhealthy says why a trip can't be reset now; empty where it can.
func (e *Engine) unhealthy(now time.Time, t *trigger) string {
	env := e.env(now)
	switch t.rule.expr.Truth(t.windows, env) {
	case expr.True:
		return t.rule.expr.Source().Text + " is still true"
	case expr.Unknown:
		return t.rule.expr.Source().Text + " is unknown"
	}
	if t.rule.healthy != nil {
		if truth := t.rule.healthy.Truth(t.healthy, env); truth != expr.True {
			return fmt.Sprintf("%s is %s", t.rule.healthy.Source().Text, word(truth))
		}
	}
	if !t.unknownSince.IsZero() && (t.knownSince.IsZero() || now.Sub(t.knownSince) < t.rule.UnknownFor) {
		return fmt.Sprintf("its inputs were unknown, and are not good again for %s yet", lab.Seconds(t.rule.UnknownFor))
	}
	return ""
}

// TripStatus is a latch as people see it: its inputs now, beside those of
// then, and whether a reset would be taken.
type TripStatus struct {
	Latch
	Now     []lab.Used `json:"now,omitempty"`
	Healthy bool       `json:"healthy"`
	Why     string     `json:"why,omitempty"` // why a reset would be refused
}

// Trips lists the latches, oldest first, as they stand now.
func (e *Engine) Trips(now time.Time) []TripStatus {
	var list []TripStatus
	for _, l := range e.latches {
		s := TripStatus{Latch: *l, Healthy: true}
		if t := e.tripOf(l.Rule); t != nil {
			s.Now, s.Why = e.used(now, t.rule.expr), e.unhealthy(now, t)
			s.Healthy = s.Why == ""
		}
		list = append(list, s)
	}
	return list
}

// DropLatch takes a latch back that the journal says was reset.
func (e *Engine) DropLatch(rule string) {
	e.latches = slices.DeleteFunc(e.latches, func(l *Latch) bool { return l.Rule == rule })
	e.indexLatches()
	if t := e.tripOf(rule); t != nil {
		e.queueTrigger(t) // it is armed again
	}
	for g := range e.rules.groups {
		if !e.groupLatched(g) {
			e.setGroup(g, false, time.Time{})
		}
	}
}

// lets reports whether a latch lets a command pass as its mitigation. Each
// passes once.
func (l *Latch) lets(name string) bool {
	return len(l.Mitigates) > 0 && slices.Contains(l.Mitigates, name) && l.mitigated[name] == ""
}

// Mitigates reports whether a latch in force waits for this command: it then
// passes in spite of latches and doubts, once a latch.
func (e *Engine) Mitigates(target lab.CommandID) bool {
	return len(e.latches) > 0 && e.mitigates(target.String())
}

func (e *Engine) mitigates(name string) bool {
	return slices.ContainsFunc(e.latches, func(l *Latch) bool { return l.lets(name) })
}

// Mitigated counts a command as the one time that the latches which name it
// let it pass. Decide does so by itself; a restart repeats it from the intent.
func (e *Engine) Mitigated(target lab.CommandID, command string) {
	if len(e.latches) == 0 {
		return
	}
	name := target.String()
	for _, l := range e.latches {
		if l.lets(name) {
			if l.mitigated == nil {
				l.mitigated = map[string]string{}
			}
			l.mitigated[name] = command
		}
	}
}

// NotSent gives a mitigation back: nothing of the command has left.
func (e *Engine) NotSent(command string) {
	for _, l := range e.latches {
		for target, by := range l.mitigated {
			if by == command {
				delete(l.mitigated, target)
			}
		}
	}
}
