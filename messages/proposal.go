package messages

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"unicode"

	"labgate/lab"
)

// DecodeProposal reads a proposal as an agent wrote it and reports every
// problem that can be seen without knowing the protocol, up to MaxIssues. The
// proposal is usable as far as it could be read, so that its sender gets an
// answer by its own id and key.
func DecodeProposal(data []byte) (Proposal, lab.Issues) {
	var p Proposal
	if len(data) > MaxProposal {
		return p, lab.Issues{{Code: "too_large", Got: fmt.Sprint(len(data)), Allowed: fmt.Sprint(MaxProposal),
			Say: fmt.Sprintf("the proposal has %d bytes; at most %d are taken", len(data), MaxProposal)}}
	}
	c := &collector{}
	if !decode(data, &p, c) {
		return p, c.issues()
	}
	c.need("kind", p.Kind, 64)
	if p.Kind != "" && p.Kind != KindProposal {
		c.add(lab.Issue{Code: "wrong_kind", Path: "kind", Got: cut(p.Kind, maxWord), Allowed: KindProposal, Say: fmt.Sprintf("kind is %.*q; %s is understood here", maxWord, p.Kind, KindProposal)})
	}
	c.need("id", p.ID, 64)
	c.need("key", p.Key, MaxKey)
	misread := c.hasPath("protocol") || c.hasPath("protocol_inline")
	if (p.Protocol == nil) == (p.Inline == "") && !misread {
		c.add(lab.Issue{Code: "missing_field", Path: "protocol", Say: "a proposal names a protocol or carries one in protocol_inline, not both"})
	}
	if p.Protocol != nil && !misread {
		c.need("protocol.name", p.Protocol.Name, 64)
		c.need("protocol.version", p.Protocol.Version, 64)
	}
	c.checkPredictions(p.Predicts)
	c.checkBudget(p.Budget)
	c.checkPriority(p.Priority)
	return p, c.issues()
}

// need collects that a name is missing, too long or not to be shown.
func (c *collector) need(path, got string, limit int) {
	switch {
	case got == "" && !c.hasPath(path):
		c.add(lab.Issue{Code: "missing_field", Path: path, Say: fmt.Sprintf("the proposal has no %s", path)})
	case len(got) > limit:
		c.add(lab.Issue{Code: "too_long", Path: path, Say: fmt.Sprintf("%s has more than %d bytes", path, limit)})
	case strings.ContainsFunc(got, unicode.IsControl):
		c.add(lab.Issue{Code: "control_character", Path: path, Got: fmt.Sprintf("%.*q", maxWord, got), Say: fmt.Sprintf("%s holds a control character", path)})
	}
}

func (c *collector) checkPredictions(predicts map[string]Prediction) {
	names := make([]string, 0, len(predicts))
	for n := range predicts {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		p, at := predicts[n], join("predicts", n)
		if _, err := lab.ParseUnit(p.Unit); (err != nil || p.Unit == "") && !c.hasPath(at) && !c.hasPath(join(at, "unit")) {
			c.add(lab.Issue{Code: "bad_unit", Path: join(at, "unit"), Got: cut(p.Unit, maxPart), Say: at + " has no unit that is known"})
		}
		if p.SD < 0 || math.IsInf(p.SD, 0) {
			c.add(lab.Issue{Code: "out_of_bounds", Path: join(at, "sd"), Say: at + ".sd is negative"})
		}
	}
}

// checkBudget collects a budget that nothing could be done within. What it
// allows against the plan, the runner checks.
func (c *collector) checkBudget(b *BudgetAsk) {
	if b == nil {
		return
	}
	if b.Time != nil && !c.hasPath("budget.time") && !c.hasPath("budget.time.value") && !c.hasPath("budget.time.unit") {
		if d, err := b.Time.Duration(); err != nil || d <= 0 {
			c.add(lab.Issue{Code: "out_of_bounds", Path: "budget.time", Got: cut(b.Time.String(), maxPart), Allowed: "more than 0 s",
				Say: fmt.Sprintf("budget.time is %s; a duration of more than 0 s is wanted", b.Time)})
		}
	}
	if b.Exposures != nil && *b.Exposures < 0 {
		c.add(lab.Issue{Code: "out_of_bounds", Path: "budget.exposures", Got: fmt.Sprint(*b.Exposures), Allowed: "0 or more",
			Say: fmt.Sprintf("budget.exposures is %d; 0 or more is wanted", *b.Exposures)})
	}
}

func (c *collector) hasPath(path string) bool {
	for _, i := range c.list {
		if i.Path == path {
			return true
		}
	}
	return false
}

// checkPriority collects a priority that is none of the words.
func (c *collector) checkPriority(p string) {
	if p == "" || slices.Contains(Priorities, p) || c.hasPath("priority") {
		return
	}
	i := lab.Issue{Code: "bad_value", Path: "priority", Got: cut(p, maxWord), Allowed: strings.Join(Priorities, ", "), Say: fmt.Sprintf("priority is %.*q; low, normal or high is wanted", maxWord, p)}
	if near := lab.Nearest(p, Priorities); near != "" {
		v := lab.TextValue(near)
		i.Nearest, i.Repairable = &v, true
	}
	c.add(i)
}
