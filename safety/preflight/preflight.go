// Package preflight says of a plan, before anything moves, which of its
// commands the interlocks refuse whatever happens, which they can never
// refuse, and which only the readings at the time can decide.
//
// It is pure, and it never allows anything: what is proved here is checked
// live all the same. What it can't decide it calls live, never proved.
package preflight

import (
	"slices"

	"labgate/lab"
	"labgate/protocols"
	"labgate/safety"
)

// Result is what is said of a plan.
type Result struct {
	Refused lab.Issues // the rules' refusals, with the step's position
	Proved  []string   // steps
	Live    []Live
}

// Live is a step that stands under rules which only readings can decide.
type Live struct {
	Step    string
	Rules   []string
	Signals []string // that the rules read
}

// With makes the check of plans against a lab's rules.
func With(rules *safety.Rules) func(*protocols.Plan) Result {
	return func(plan *protocols.Plan) Result {
		c := &check{rules: rules, plan: plan}
		plan.Protocol.Walk(c.step)
		return c.Result
	}
}

type check struct {
	Result
	rules *safety.Rules
	plan  *protocols.Plan
}

// step looks at one command. Its arguments are known where they are plain or
// come from the inputs alone; the limits are asked about those now. Whatever
// stays open is checked live.
func (c *check) step(s *protocols.Step) {
	if s.Kind != protocols.Do {
		return
	}
	target, spec, err := c.plan.Command(s.Role, s.Command)
	if err != nil {
		c.Refused.Add(s.Pos, "unknown_name", "", "step %s: %v", s.Path, err)
		return
	}
	refused := len(c.Refused)
	decided := c.limits(s, target)
	var open []string
	for _, id := range c.rules.For(target) {
		if !decided[id] {
			open = append(open, id)
		}
	}
	signals := c.rules.Signals(target)
	if spec.Effect != lab.Safe { // the run's own limits never bar the way to the safe state
		for _, text := range c.plan.Limits() {
			open = append(open, "limit "+text)
		}
		for _, id := range c.plan.LimitReads() {
			if !slices.Contains(signals, id.String()) {
				signals = append(signals, id.String())
			}
		}
	}
	switch {
	case len(open) > 0:
		c.Live = append(c.Live, Live{Step: s.Path, Rules: open, Signals: signals})
	case len(c.Refused) == refused:
		c.Proved = append(c.Proved, s.Path)
	}
}

// limits asks every limit on arguments that are known, and tells which those
// are.
func (c *check) limits(s *protocols.Step, target lab.CommandID) map[string]bool {
	known, _ := c.plan.Known(s)
	decided := map[string]bool{}
	for _, r := range c.rules.Limits(target) {
		ready := true
		for _, t := range r.Targets {
			if _, ok := known[t.Arg]; t.Command == target && !ok {
				ready = false
			}
		}
		if !ready {
			continue
		}
		decided[r.ID] = true
		for _, i := range r.CheckLimit(&lab.Command{Target: target, Args: known}) {
			i.Path = "steps." + s.Path + "." + i.Path
			i.Nearest, i.Repairable = nil, false // it is the protocol's argument, not the proposal's
			c.Refused = append(c.Refused, i.At(s.Pos))
		}
	}
	return decided
}
