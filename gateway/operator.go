package gateway

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
)

// operate serves what people ask of the gateway. The shell has checked who may.
func (c *Core) operate(now time.Time, ev Event) {
	switch e := ev.(type) {
	case ResetAsked:
		c.resetAsked(now, e)
	case ResolveAsked:
		c.resolveAsked(now, e)
	case BypassAsked:
		c.bypassAsked(now, e)
	case UnbypassAsked:
		c.unbypassAsked(now, e)
	case AcknowledgeAsked:
		c.acknowledgeAsked(now, e)
	case RulesLoaded:
		c.rulesLoaded(now, e)
	case StatusAsked:
		c.do(Answer{e.Reply, c.status(now, e.Brief)})
	}
}

func (c *Core) answer(reply any, id string, ok bool, say string) {
	c.do(Answer{reply, messages.ControlReply{ID: id, OK: ok, Say: say}})
}

// plain is an error for people: what, not where in the program.
func plain(err error) string {
	var e *lab.Error
	if errors.As(err, &e) && e.Err != nil {
		return e.Err.Error()
	}
	return err.Error()
}

// decreed records what a person has ordered and what is in force by now, and
// tells of it once it is durable. If it can't be made so, the failed journal
// bars every effect, and the restart knows nothing of it.
func (c *Core) decreed(now time.Time, kind, principal string, body any, reply any, id, say string, told messages.Safety) {
	en := c.entry(now, kind, nil, body)
	en.Principal = principal
	c.append(func(_ time.Time, _ []lab.Ref, err error) {
		if err != nil {
			c.answer(reply, id, false, fmt.Sprintf("it could not be made durable: %v", err))
			return
		}
		c.answer(reply, id, true, say)
		c.do(Publish{told})
	}, en)
}

// resetAsked clears a latch for a person, with a reason. It is told once it is
// durable. If it can't be made so, the failed journal bars every effect, and
// the restart brings the latch back.
func (c *Core) resetAsked(now time.Time, e ResetAsked) {
	if e.Reason == "" {
		c.answer(e.Reply, e.ID, false, "a reset needs a reason")
		return
	}
	if err := c.engine.Reset(now, e.Rule); err != nil {
		c.answer(e.Reply, e.ID, false, plain(err))
		return
	}
	c.decreed(now, "reset/v1", e.Principal, map[string]any{"rule": e.Rule, "reason": e.Reason}, e.Reply, e.ID, e.Rule+" is reset",
		messages.Safety{What: messages.SafetyReset, Rule: e.Rule, Principal: e.Principal, Say: fmt.Sprintf("%s reset %s: %s", e.Principal, e.Rule, e.Reason)})
}

// bypassAsked sets a rule aside for a time, for a person, with a reason. What
// may be bypassed, for how long, and how many at once, the engine says. Every
// command that is allowed under it is journalled after it.
func (c *Core) bypassAsked(now time.Time, e BypassAsked) {
	b := safety.Bypass{Rule: e.Rule, By: e.Principal, Reason: e.Reason, Since: now, Until: e.Until}
	if err := c.engine.Bypass(now, b); err != nil {
		c.answer(e.Reply, e.ID, false, plain(err))
		return
	}
	say := fmt.Sprintf("%s is bypassed until %s", e.Rule, e.Until.UTC().Format(time.RFC3339))
	c.decreed(now, "bypass/v1", e.Principal, b, e.Reply, e.ID, say, messages.Safety{What: messages.SafetyBypass, Rule: e.Rule, Principal: e.Principal, Priority: "high", Until: &b.Until,
		Say: fmt.Sprintf("%s bypassed %s until %s: %s", e.Principal, e.Rule, e.Until.UTC().Format(time.RFC3339), e.Reason)})
}

// unbypassAsked ends a bypass before its time.
func (c *Core) unbypassAsked(now time.Time, e UnbypassAsked) {
	if err := c.engine.Unbypass(now, e.Rule); err != nil {
		c.answer(e.Reply, e.ID, false, plain(err))
		return
	}
	c.decreed(now, "rearm/v1", e.Principal, map[string]any{"rule": e.Rule, "reason": e.Reason}, e.Reply, e.ID, e.Rule+" is armed again",
		messages.Safety{What: messages.SafetyRearm, Rule: e.Rule, Principal: e.Principal, Say: fmt.Sprintf("%s armed %s again", e.Principal, e.Rule)})
}

// rearmed tells of a bypass that has ended by itself.
func (c *Core) rearmed(now time.Time, b safety.Bypass) {
	say := fmt.Sprintf("the time of %s's bypass is up: %s is armed again", b.By, b.Rule)
	c.note(c.entry(now, "rearm/v1", nil, map[string]any{"rule": b.Rule, "say": say}))
	c.do(Publish{messages.Safety{What: messages.SafetyRearm, Rule: b.Rule, Say: say}})
}

func tellAlarm(a safety.Alarm) messages.Alarm {
	return messages.Alarm{Rule: a.Rule, Priority: a.Priority, Say: a.Say, Response: a.Response, Since: a.Since, Active: a.Active,
		Acknowledged: a.Acknowledged, By: a.By, Inputs: a.Inputs}
}

// alarmChanged tells that an alarm was raised, or has returned to normal.
func (c *Core) alarmChanged(now time.Time, a safety.Alarm) {
	c.append(nil, c.entry(now, "alarm_state/v1", nil, a)) // nothing waits for it
	m := tellAlarm(a)
	say := a.Say
	if !a.Active {
		say = a.Rule + " has returned to normal"
	}
	c.do(Publish{messages.Safety{What: messages.SafetyAlarm, Rule: a.Rule, Priority: a.Priority, Inputs: a.Inputs, Alarm: &m, Say: say}})
}

// acknowledgeAsked notes that a person has seen an alarm. It stays for as long
// as its condition does.
func (c *Core) acknowledgeAsked(now time.Time, e AcknowledgeAsked) {
	if a := c.badRules; a != nil && e.Rule == a.Rule {
		a.Acknowledged, a.By = true, e.Principal
	} else if err := c.engine.Acknowledge(now, e.Rule, e.Principal); err != nil {
		c.answer(e.Reply, e.ID, false, plain(err))
		return
	}
	c.decreed(now, "acknowledge/v1", e.Principal, map[string]any{"rule": e.Rule}, e.Reply, e.ID, e.Rule+" is acknowledged",
		messages.Safety{What: messages.SafetyAcknowledge, Rule: e.Rule, Principal: e.Principal, Say: fmt.Sprintf("%s acknowledged %s", e.Principal, e.Rule)})
}

// rulesBody is an entry about the rules in force.
type rulesBody struct {
	What    string     `json:"what"` // start, loaded, refused
	Name    string     `json:"name,omitempty"`
	Hash    string     `json:"hash,omitempty"` // in force from now on
	Was     string     `json:"was,omitempty"`
	Added   []string   `json:"added,omitempty"`
	Removed []string   `json:"removed,omitempty"`
	Text    string     `json:"text,omitempty"` // of the file
	Issues  lab.Issues `json:"issues,omitempty"`
}

// mostText bounds the text of a file that an entry carries; the hash of a
// longer one tells which it was.
const mostText = 512 << 10

func textOf(r *safety.Rules) string {
	if len(r.Text) > mostText {
		return ""
	}
	return r.Text
}

// rulesAlarm is the id of the alarm about an interlocks file that can't be
// taken.
const rulesAlarm = "rules"

// rulesLoaded puts rules in force that were read again, in one act. A bad file
// changes nothing, and raises an alarm that stays until a good one was read.
func (c *Core) rulesLoaded(now time.Time, e RulesLoaded) {
	answer := func(ok bool, say string, is lab.Issues) {
		if e.Reply != nil {
			c.do(Answer{e.Reply, messages.ControlReply{ID: e.ID, OK: ok, Say: say, Issues: is}})
		}
	}
	if e.Err != nil || e.Rules == nil {
		issues, say := c.rulesRefused(now, e)
		answer(false, say, issues)
		return
	}
	old := c.engine.Rules()
	if c.badRules != nil {
		a := *c.badRules
		c.badRules, a.Active = nil, false
		c.do(Publish{messages.Safety{What: messages.SafetyAlarm, Rule: a.Rule, Priority: a.Priority, Alarm: &a, Say: "the interlocks file can be taken again"}})
	}
	if e.Rules.Hash == old.Hash {
		answer(true, "the rules are as they were", nil)
		return
	}
	body := rulesBody{What: "loaded", Name: e.Rules.Name, Hash: e.Rules.Hash, Was: old.Hash, Added: without(e.Rules, old), Removed: without(old, e.Rules), Text: textOf(e.Rules)}
	c.handle(now, c.engine.Reload(now, e.Rules))
	say := fmt.Sprintf("%d rules are in force, of %s (%s)", len(e.Rules.Rules), e.Rules.Name, e.Rules.Hash)
	en := c.entry(now, "rules/v1", nil, body)
	en.Principal = e.Principal
	c.append(func(_ time.Time, _ []lab.Ref, err error) {
		if err != nil {
			answer(false, fmt.Sprintf("they are in force, but that could not be made durable: %v", err), nil)
			return
		}
		answer(true, say, nil)
		c.do(Publish{messages.Safety{What: messages.SafetyRules, Principal: e.Principal, RulesHash: e.Rules.Hash, Say: say}})
	}, en)
}

// rulesRefused keeps the rules in force and raises the alarm that says why.
func (c *Core) rulesRefused(now time.Time, e RulesLoaded) (lab.Issues, string) {
	var issues lab.Issues
	err := e.Err
	if err == nil {
		err = errors.New("there are no rules")
	}
	if !errors.As(err, &issues) || len(issues) == 0 {
		issues = lab.Issues{{Code: "unreadable", Say: err.Error()}}
	}
	if len(issues) > mostTold {
		issues = issues[:mostTold]
	}
	say := fmt.Sprintf("the interlocks file can't be taken; the rules of before stay in force: %s", issues[0].Error())
	if n := len(issues) - 1; n > 0 {
		say += fmt.Sprintf(" (and %d more)", n)
	}
	c.badRules = &messages.Alarm{Rule: rulesAlarm, Priority: "critical", Say: say, Response: "repair the file, then: labgate reload", Since: now, Active: true}
	en := c.entry(now, "rules/v1", nil, rulesBody{What: "refused", Issues: issues})
	en.Principal = e.Principal
	c.note(en)
	a := *c.badRules
	c.do(Publish{messages.Safety{What: messages.SafetyAlarm, Rule: rulesAlarm, Priority: "critical", Principal: e.Principal, Alarm: &a, Issues: issues, Say: say}})
	return issues, say
}

// without lists the ids of rules that the other set has not.
func without(rules, other *safety.Rules) []string {
	var ids []string
	for _, r := range rules.Rules {
		if other.Find(r.ID) == nil && !slices.Contains(ids, r.ID) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}
