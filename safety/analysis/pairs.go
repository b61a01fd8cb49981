package analysis

import (
	"labgate/lab"
	"labgate/lab/expr"
	"labgate/safety"
)

// pairs asks about every two rules that meet: contradictions and shadows.
func (v *verifier) pairs() {
	all := v.rules.Rules
	for i, a := range all {
		for j, b := range all {
			if i == j {
				continue
			}
			switch {
			case a.Kind == safety.PermissiveRule && b.Kind == safety.PermissiveRule:
				v.permissives(a, b, i < j)
			case a.Kind == safety.PermissiveRule && b.Kind == safety.TripRule:
				v.permissiveAndTrip(a, b)
			case a.Kind == safety.TripRule && b.Kind == safety.TripRule:
				v.trips(a, b, i < j)
			case a.Kind == safety.LimitRule && b.Kind == safety.LimitRule && i < j:
				v.limits(a, b)
			}
		}
		if a.Kind == safety.LimitRule {
			v.limitShadow(a, i)
		}
	}
}

// shared lists the commands that both rules guard.
func shared(a, b *safety.Rule) []lab.CommandID {
	var list []lab.CommandID
	for _, x := range a.Targets {
		for _, y := range b.Targets {
			if x.Command == y.Command {
				list = append(list, x.Command)
			}
		}
	}
	return list
}

func (v *verifier) permissives(a, b *safety.Rule, first bool) {
	both := shared(a, b)
	if len(both) == 0 {
		return
	}
	for _, cmd := range both {
		pa, pb := requires(a, cmd), requires(b, cmd)
		if pa == nil || pb == nil {
			return
		}
		s := newSpace(v.rules, cmd, nil, pa, pb)
		if first && s.canBe(pa, expr.True) && s.canBe(pb, expr.True) && s.exclude(pa, pb) {
			v.add(Contradicts, b, "+"+a.ID, "", "%s is never allowed: this wants %s, and %s wants %s", cmd, text(pb), a.ID, text(pa))
			return
		}
	}
	// Is a shadowed by b?
	if len(both) != len(a.Targets) || a.FromLab || a.Grace < b.Grace || b.AtStart && !a.AtStart {
		return
	}
	for _, cmd := range both {
		pa, pb := requires(a, cmd), requires(b, cmd)
		s := newSpace(v.rules, cmd, nil, pa, pb)
		if !subset(pa.Slots(), pb.Slots()) || !s.implies(pb, pa) {
			return
		}
		mutual := first && subset(pb.Slots(), pa.Slots()) && s.implies(pa, pb) && len(b.Targets) == len(both) && a.Grace == b.Grace && a.AtStart == b.AtStart
		if mutual { // say it of the second one
			return
		}
	}
	v.add(Shadowed, a, "+"+b.ID, "", "it refuses nothing that %s lets pass", b.ID)
}

// permissiveAndTrip finds permissives that hold only where a trip has fired
// that denies the command.
func (v *verifier) permissiveAndTrip(a, trip *safety.Rule) {
	w := when(trip)
	if w == nil {
		return
	}
	denied := map[string]bool{}
	for _, s := range trip.Do {
		denied[s.Command.Instrument] = true
	}
	for _, t := range a.Targets {
		p := requires(a, t.Command)
		if p == nil || !denied[t.Command.Instrument] || !subset(w.Slots(), p.Slots()) {
			continue
		}
		s := newSpace(v.rules, t.Command, nil, p, w)
		if s.canBe(p, expr.True) && s.canBe(w, expr.False) && s.implies(p, w) {
			v.add(Contradicts, a, "+"+trip.ID, "", "%s is never allowed: this wants %s, and then %s has tripped", t.Command, text(p), trip.ID)
			return
		}
	}
}

// trips finds trips that another one of the group does all for.
func (v *verifier) trips(a, b *safety.Rule, first bool) {
	pa, pb := when(a), when(b)
	if pa == nil || pb == nil || a.Group != b.Group || a.OnDelay < b.OnDelay || a.UnknownFor < b.UnknownFor || !sameActions(a, b) {
		return
	}
	s := newSpace(v.rules, lab.CommandID{}, nil, pa, pb)
	if !subset(pb.Slots(), pa.Slots()) || !s.canBe(pa, expr.True) || !s.implies(pa, pb) {
		return
	}
	if first && subset(pa.Slots(), pb.Slots()) && s.implies(pb, pa) && a.OnDelay == b.OnDelay && a.UnknownFor == b.UnknownFor {
		return // say it of the second one
	}
	v.add(Shadowed, a, "+"+b.ID, "", "whenever it trips, %s has tripped and done the same", b.ID)
}

// sameActions reports whether a trip does nothing that the other does not.
func sameActions(a, b *safety.Rule) bool {
	if a.Run != b.Run {
		return false
	}
	does := map[string]bool{}
	for _, s := range b.Do {
		does[s.String()] = true
	}
	for _, s := range a.Do {
		if !does[s.String()] {
			return false
		}
	}
	return true
}

func (v *verifier) limits(a, b *safety.Rule) {
	for _, x := range a.Targets {
		for _, y := range b.Targets {
			if x.Command != y.Command || x.Arg != y.Arg {
				continue
			}
			ea, eb := ends(a), ends(b)
			if above(ea.low, eb.high) || above(eb.low, ea.high) {
				r, other := b, a
				if r.FromLab {
					r, other = a, b
				}
				v.add(Contradicts, r, "+"+other.ID, "", "no %s of %s is within this limit and within %s", x.Arg, x.Command, other.ID)
				return
			}
		}
	}
}

func above(low, high *lab.Quantity) bool {
	return low != nil && high != nil && low.Unit.Dim() == high.Unit.Dim() && low.Base() > high.Base()
}

// limitShadow finds limits that other limits make superfluous, for each of
// their arguments. Those of a lab file are what the instruments stand: they
// may be wider than a rule.
func (v *verifier) limitShadow(a *safety.Rule, i int) {
	if a.FromLab || a.Limit.Min == nil && a.Limit.Max == nil || a.Limit.Step != nil || a.Limit.Change != nil || a.Limit.Total != nil {
		return
	}
	by := ""
	for _, t := range a.Targets {
		found := false
		for j, b := range v.rules.Rules {
			if j == i || b.Kind != safety.LimitRule || !bounding(b, t) || !covers(ends(b), ends(a)) {
				continue
			}
			if i < j && !b.FromLab && covers(ends(a), ends(b)) {
				continue // equal: said of the second one
			}
			found, by = true, b.ID
			break
		}
		if !found {
			return
		}
	}
	v.add(Shadowed, a, "+"+by, "", "%s is as narrow, or narrower", by)
}

func bounding(r *safety.Rule, t safety.Target) bool {
	for _, x := range r.Targets {
		if x.Command == t.Command && x.Arg == t.Arg {
			return true
		}
	}
	return false
}
