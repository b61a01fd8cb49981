package safety

import (
	"labgate/lab"
	"labgate/lab/expr"
)

// This file is what tools that look at rules see of them. It gives out what
// was compiled, and nothing that could change it.

// Role is what a formula is for in its rule.
type Role string

// The roles.
const (
	RoleRequire  Role = "require"   // permissive
	RoleWhen     Role = "when"      // trip, alarm
	RoleHealthy  Role = "healthy"   // trip
	RoleFrom     Role = "from"      // limit with steps
	RoleAfter    Role = "after"     // sequence
	RoleNotSince Role = "not_since" // sequence
	RoleWhile    Role = "while"     // zone
	RoleTerm     Role = "term"      // budget
)

// Formula is one compiled expression of a rule.
type Formula struct {
	Role    Role
	Command lab.CommandID // what it is for; zero: the whole rule
	Program *expr.Program
}

// Formulas lists the expressions of a rule, in the order of its file.
func (r *Rule) Formulas() []Formula {
	var list []Formula
	add := func(role Role, cmd lab.CommandID, p *expr.Program) {
		if p != nil {
			list = append(list, Formula{role, cmd, p})
		}
	}
	main := RoleWhen
	if r.Kind == PermissiveRule {
		main = RoleRequire
	}
	add(main, lab.CommandID{}, r.expr)
	for _, t := range r.Targets {
		add(RoleRequire, t.Command, t.own)
		add(RoleFrom, t.Command, t.from)
	}
	add(RoleHealthy, lab.CommandID{}, r.healthy)
	if r.Sequence != nil {
		add(RoleAfter, lab.CommandID{}, r.Sequence.After.expr)
		for _, h := range r.Sequence.NotSince {
			add(RoleNotSince, lab.CommandID{}, h.expr)
		}
	}
	for _, c := range r.Claims {
		add(RoleWhile, c.Command, c.while)
	}
	if r.Budget != nil {
		for _, t := range r.Budget.Terms {
			add(RoleTerm, t.Command, t.expr)
		}
	}
	return list
}

// Lab is the lab that the rules were compiled for.
func (r *Rules) Lab() *lab.Lab { return r.lab }

// Definition is what a named signal of the file stands for.
func (r *Rules) Definition(name string) (lab.Source, bool) {
	src, ok := r.signals[name]
	return src, ok
}

// PropertyAt is the property whose readings have a slot of the rules'
// formulas.
func (r *Rules) PropertyAt(slot int) (lab.PropertyID, bool) {
	if slot < 0 || slot >= len(r.properties) {
		return lab.PropertyID{}, false
	}
	return r.properties[slot], true
}

// ArgumentAt is the name of the argument at a slot.
func (r *Rules) ArgumentAt(slot int) (string, bool) {
	if i := slot - r.argBase; i >= 0 && i < len(r.argNames) {
		return r.argNames[i], true
	}
	return "", false
}

// GroupAt is the trip group whose latch is at a slot.
func (r *Rules) GroupAt(slot int) (string, bool) {
	for g, s := range r.groups {
		if s == slot {
			return g, true
		}
	}
	return "", false
}
