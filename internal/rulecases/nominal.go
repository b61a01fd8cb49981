package rulecases

import (
	"slices"
	"strings"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
	"labgate/safety"
)

// Nominal is the value of every property when all is well: what the
// interlocks file declares, and for the rest something that suits its rules.
func Nominal(l *lab.Lab, rules *safety.Rules) map[lab.PropertyID]lab.Value {
	values := map[lab.PropertyID]lab.Value{}
	for _, id := range l.Properties() {
		values[id] = plain(l.PropertySpec(id).Type)
	}
	for id, v := range rules.Nominal {
		values[id] = v
	}
	s := &suitor{lab: l, rules: rules, values: values}
	for range 4 {
		if s.improve() == 0 {
			break
		}
	}
	return values
}

// plain is the plainest value of a type.
func plain(t lab.Type) lab.Value {
	switch t.Kind {
	case lab.Number:
		if t.Unit.Dim() == lab.Temperature {
			q, err := lab.Q(20, "degC").In(t.Unit)
			if err == nil {
				return lab.NumberValue(q)
			}
		}
		return lab.NumberValue(lab.Quantity{Unit: t.Unit})
	case lab.Bool:
		return lab.BoolValue(false)
	case lab.Enum:
		return lab.EnumValue(t.Enum[0])
	case lab.Integer:
		return lab.IntegerValue(0)
	}
	return lab.TextValue("")
}

// suitor changes values that nobody declared until the rules are content.
type suitor struct {
	lab    *lab.Lab
	rules  *safety.Rules
	values map[lab.PropertyID]lab.Value
}

// wish is a formula and what it should be when all is well.
type wish struct {
	program *expr.Program
	truth   expr.Truth
}

func (s *suitor) wishes() []wish {
	var list []wish
	for _, r := range s.rules.Rules {
		for _, f := range r.Formulas() {
			if f.Program.Type().Kind != lab.Bool || f.Program.Windows() || s.argued(f.Program) {
				continue
			}
			switch f.Role {
			case safety.RoleRequire, safety.RoleHealthy:
				list = append(list, wish{f.Program, expr.True})
			case safety.RoleWhen, safety.RoleNotSince, safety.RoleWhile:
				list = append(list, wish{f.Program, expr.False})
			}
		}
	}
	return list
}

// argued reports whether a formula reads arguments of a command.
func (s *suitor) argued(p *expr.Program) bool {
	return slices.ContainsFunc(p.Slots(), func(slot int) bool {
		_, ok := s.rules.ArgumentAt(slot)
		return ok
	})
}

// improve grants each wish that no other pays for, and counts the changes.
func (s *suitor) improve() int {
	wishes := s.wishes()
	changes := 0
	for _, w := range wishes {
		if s.truth(w.program) == w.truth {
			continue
		}
		if s.grant(w, wishes) {
			changes++
		}
	}
	return changes
}

func (s *suitor) grant(w wish, all []wish) bool {
	before := s.unhappy(all)
	for _, slot := range w.program.Slots() {
		id, ok := s.rules.PropertyAt(slot)
		if _, declared := s.rules.Nominal[id]; !ok || declared {
			continue
		}
		was := s.values[id]
		for _, v := range s.candidates(id, w.program.Source().Text) {
			s.values[id] = v
			if s.truth(w.program) == w.truth && s.unhappy(all) < before {
				return true
			}
		}
		s.values[id] = was
	}
	return false
}

func (s *suitor) unhappy(all []wish) int {
	n := 0
	for _, w := range all {
		if s.truth(w.program) != w.truth {
			n++
		}
	}
	return n
}

func (s *suitor) truth(p *expr.Program) expr.Truth {
	now := time.Unix(1, 0)
	most := 0
	for _, slot := range p.Slots() {
		most = max(most, slot)
	}
	slots := make([]lab.Reading, most+1)
	for _, slot := range p.Slots() {
		v := lab.BoolValue(false) // a trip group
		if id, ok := s.rules.PropertyAt(slot); ok {
			v = s.values[id]
		}
		slots[slot] = lab.Reading{Value: v, Quality: lab.Good, Source: now, Received: now}
	}
	return p.Truth(nil, &expr.Env{Now: now, Slots: slots})
}

// candidates are values near the literals of a formula, and every word.
func (s *suitor) candidates(id lab.PropertyID, text string) []lab.Value {
	t := s.lab.PropertySpec(id).Type
	switch t.Kind {
	case lab.Bool:
		return []lab.Value{lab.BoolValue(true), lab.BoolValue(false)}
	case lab.Enum:
		var list []lab.Value
		for _, w := range t.Enum {
			list = append(list, lab.EnumValue(w))
		}
		return list
	case lab.Number:
	default:
		return nil
	}
	var list []lab.Value
	for _, spot := range expr.Spots(text) {
		q, err := lab.ParseQuantity(strings.TrimSpace(spot.Text))
		if spot.Kind != expr.SpotNumber || err != nil {
			continue
		}
		if q, err = q.In(t.Unit); err != nil {
			continue
		}
		for _, f := range []float64{1.5, 0.5, 1, 1.1, 0.9, 2} {
			list = append(list, lab.NumberValue(lab.Quantity{Value: q.Value * f, Unit: t.Unit}))
		}
	}
	return list
}
