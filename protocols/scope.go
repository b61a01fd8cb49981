package protocols

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"labgate/lab"
	"labgate/lab/expr"
)

// place is where in the protocol an expression stands: in a list of steps, of
// which those before at are over, within other lists.
type place struct {
	outer *place
	owner *Step // the step whose list this is; nil at the top
	steps []*Step
	at    int
}

// iteration is how a repeat's values move from one iteration to the next. Its
// numbers are slots.
type iteration struct {
	count int // -1 where nothing reads it
	moves []move
}

// move is one value of the body, whose last and previous somebody reads.
type move struct{ now, last, previous int }

// scope resolves the names of one expression. Slots are made when they are
// first named.
type scope struct {
	r       *parser
	at      *place
	loop    *Step // whose i, last and previous stand here plainly
	live    bool  // properties of roles may be read
	values  bool  // inputs and values of steps may be read
	args    bool  // an argument: must have a value in the first iteration too
	outputs bool
	codes   map[string]string // by message
}

const told = "told" // the code of an error that was reported elsewhere

// fail makes an error of a code of its own.
func (s *scope) fail(code, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if s.codes == nil {
		s.codes = map[string]string{}
	}
	s.codes[err.Error()] = code
	return err
}

// Tripped refuses: whether a group is latched is the safety engine's business.
func (s *scope) Tripped(string) (int, error) {
	return 0, errors.New("a protocol can't ask for trips: they end its run")
}

// Lookup finds an input, a property of a role, or a value of a step.
func (s *scope) Lookup(name string) (expr.Symbol, error) {
	parts := strings.Split(name, ".")
	slot, err := -1, error(nil)
	in, role, use := s.r.p.Input(parts[0]), s.roleHere(parts[0]), s.within()
	if use != nil {
		in = nil
	}
	switch {
	case use != nil && len(parts) == 1 && s.let(use, name) != nil:
		slot = s.let(use, name).slot
	case in != nil && len(parts) > 1:
		err = fmt.Errorf("%s: %s is an input and has no parts", name, parts[0])
	case in != nil && in.Type.Kind == lab.Missing:
		err = s.fail(told, "%s", name)
	case in != nil:
		slot = s.r.slot(Slot{Kind: InputSlot, Name: name, Type: in.Type, Input: name})
	case role != nil:
		slot, err = s.property(role, parts, name)
	case !s.values:
		err = s.unknown(name, parts[0])
	case parts[0] == "i" || parts[0] == "last" || parts[0] == "previous":
		if s.loop == nil {
			err = fmt.Errorf("%s: %s is known within a repeat only; elsewhere it stands behind the repeat's id", name, parts[0])
			break
		}
		slot, err = s.iterated(s.loop, parts, name)
	case s.hasItem(parts[0]):
		if it := s.item(parts); it != nil {
			slot = it.slot
		} else {
			err = s.noItem(parts, name)
		}
	default:
		slot, err = s.step(parts, name)
	}
	if err != nil {
		return expr.Symbol{}, err
	}
	x := &s.r.p.slots[slot]
	return expr.Symbol{Slot: slot, Type: x.Type, MaxAge: x.MaxAge}, nil
}

// hasItem reports whether a repeat around the expression has a value of a name.
func (s *scope) hasItem(name string) bool {
	for at := s.at; at != nil; at = at.outer {
		if at.owner == nil {
			continue
		}
		if at.owner.Kind == Use {
			return false
		}
		for i := range at.owner.Over {
			if it := &at.owner.Over[i]; it.Name == name && len(it.Values) > 0 {
				return true
			}
		}
	}
	return false
}

// noItem is the error for a part of a value that is not there.
func (s *scope) noItem(parts []string, name string) error {
	var names []string
	for at := s.at; at != nil; at = at.outer {
		if at.owner == nil {
			continue
		}
		for i := range at.owner.Over {
			if it := &at.owner.Over[i]; it.Name == parts[0] && it.Part != "" {
				names = append(names, it.Part)
			}
		}
	}
	switch {
	case len(names) == 0:
		return fmt.Errorf("%s: %s is a value and has no parts", name, parts[0])
	case len(parts) == 1:
		return s.suggest("", nil, "%s: write %s and one of its parts, as in %s.%s", name, name, name, names[0])
	}
	return s.suggest(parts[1], names, "%s: %s has no part %q", name, parts[0], strings.Join(parts[1:], "."))
}

// item finds a value of a repeat around the expression, and gives it a slot.
func (s *scope) item(parts []string) *Items {
	name := strings.Join(parts, ".")
	for at := s.at; at != nil; at = at.outer {
		if at.owner == nil {
			continue
		}
		if at.owner.Kind == Use {
			return nil
		}
		for i := range at.owner.Over {
			if it := &at.owner.Over[i]; it.full() == name && len(it.Values) > 0 {
				t := lab.Type{Kind: it.Values[0].Kind, Unit: it.Values[0].Unit}
				if t.Kind == lab.Enum {
					t.Enum = s.r.p.sampleNames()
				}
				it.slot = s.r.slot(Slot{Kind: ItemSlot, Name: at.owner.Path + "." + name, Type: t, Step: at.owner})
				return it
			}
		}
	}
	return nil
}

// slot finds or makes a slot by its full name.
func (r *parser) slot(x Slot) int {
	if i, ok := r.slotOf[x.Name]; ok {
		return i
	}
	r.slotOf[x.Name] = len(r.p.slots)
	r.p.slots = append(r.p.slots, x)
	return len(r.p.slots) - 1
}

func (s *scope) property(role *Role, parts []string, name string) (int, error) {
	if !s.live {
		return 0, s.fail("output_not_produced", "%s is a reading, not a result of the run; let a step give it", name)
	}
	if len(parts) != 2 {
		return 0, fmt.Errorf("%s: write role.property", name)
	}
	found := role.members(func(c *lab.Class) bool { return c.Property(parts[1]) != nil })
	switch {
	case len(found) == 1:
		p := found[0].Property(parts[1])
		return s.r.slot(Slot{Kind: PropertySlot, Name: name, Type: p.Type, MaxAge: p.MaxAge, Role: role.Name, Property: p.Name}), nil
	case len(found) > 1:
		return 0, s.fail("ambiguous", "%s is ambiguous: %s and %s have it", name, found[0].Name, found[1].Name)
	case role.broken:
		return 0, s.fail(told, "%s", name)
	}
	var names []string
	for _, c := range role.Classes {
		for _, p := range c.Properties {
			names = append(names, p.Name)
		}
	}
	return 0, s.suggest(parts[1], names, "%s has no property %q: it is %s", role.Name, parts[1], role.classNames())
}

// suggest is an error with a did-you-mean.
func (s *scope) suggest(name string, candidates []string, format string, args ...any) error {
	say := fmt.Sprintf(format, args...)
	if near := s.r.near(name, candidates); near != "" {
		say += "; " + near
	}
	if s.outputs {
		return s.fail("output_not_produced", "%s", say)
	}
	return errors.New(say)
}

// unknown is the error for a name that is nowhere, with what is near.
func (s *scope) unknown(name, first string) error {
	var names []string
	for i := range s.r.p.Inputs {
		names = append(names, s.r.p.Inputs[i].Name)
	}
	for i := range s.r.p.Roles {
		names = append(names, s.r.p.Roles[i].Name)
	}
	for at := s.at; at != nil && s.values; at = at.outer {
		for _, x := range at.steps {
			if x.named {
				names = append(names, x.ID)
			}
		}
	}
	return s.suggest(first, names, "%s: there is no input, role or step %q", name, first)
}

// step finds a value of a step by its id, from the inside out.
func (s *scope) step(parts []string, name string) (int, error) {
	for at := s.at; at != nil; at = at.outer {
		for k, x := range at.steps {
			if x.ID != parts[0] || !x.named {
				continue
			}
			sideways := at.owner != nil && at.owner.Kind == Parallel
			switch {
			case k == at.at && x.Kind == Repeat && len(parts) > 1:
				return s.iterated(x, parts[1:], name)
			case k != at.at && sideways:
				return 0, s.fail("use_before_value", "%s: %s runs at the same time", name, x.ID)
			case k >= at.at:
				return 0, s.fail("use_before_value", "%s has no value yet: %s is at %s", name, x.ID, x.Pos)
			}
			return s.member(x, parts[1:], name)
		}
		if at.owner != nil && at.owner.Kind == Use {
			break
		}
	}
	if s.loop != nil && find(s.loop.Steps, parts[0]) != nil {
		return 0, fmt.Errorf("%s: write last.%s", name, name)
	}
	return 0, s.unknown(name, parts[0])
}

func find(steps []*Step, id string) *Step {
	for _, x := range steps {
		if x.ID == id && x.named {
			return x
		}
	}
	return nil
}

// member finds a value within a step that is over.
func (s *scope) member(x *Step, rest []string, name string) (int, error) {
	if len(rest) == 0 {
		return 0, s.suggest("", nil, "%s: %s is a step; write %s and one of its values", name, x.ID, x.ID)
	}
	switch x.Kind {
	case Do, Ask:
		return s.given(x, rest, name)
	case Use:
		return s.result(x, rest, name)
	case Parallel, If:
		child, err := s.child(x, rest[0], name)
		if err != nil {
			return 0, err
		}
		return s.member(child, rest[1:], name)
	case Repeat:
		if find(x.Steps, rest[0]) != nil {
			return 0, s.suggest("", nil, "%s: %s is repeated; write %s.last.%s", name, rest[0], x.ID, strings.Join(rest, "."))
		}
		return s.iterated(x, rest, name)
	}
	return 0, s.suggest("", nil, "%s: %s is a %s and has no values", name, x.ID, x.Kind)
}

func (s *scope) child(x *Step, id, name string) (*Step, error) {
	if c := find(x.children(), id); c != nil {
		return c, nil
	}
	var names []string
	for _, c := range x.children() {
		if c.named {
			names = append(names, c.ID)
		}
	}
	return nil, s.suggest(id, names, "%s: there is no step %q in %s", name, id, x.ID)
}

// given finds a local name of a do step's gives.
func (s *scope) given(x *Step, rest []string, name string) (int, error) {
	if x.Kind == Ask {
		return s.said(x, rest, name)
	}
	result, ok := x.Gives[rest[0]]
	switch {
	case x.Spec == nil || ok && result == "":
		return 0, s.fail(told, "%s", name)
	case len(rest) == 1 && ok:
		slot := s.r.slot(Slot{Kind: ResultSlot, Name: x.Path + "." + rest[0], Type: x.Spec.Give(result).Type, Step: x})
		x.gives[rest[0]] = slot
		return slot, nil
	case ok:
		return 0, s.suggest("", nil, "%s: %s has no parts", name, rest[0])
	}
	names := make([]string, 0, len(x.Gives))
	for n := range x.Gives {
		names = append(names, n)
	}
	return 0, s.suggest(rest[0], names, "%s: %s gives no %q", name, x.ID, rest[0])
}

// said finds what the answer to an ask step holds.
func (s *scope) said(x *Step, rest []string, name string) (int, error) {
	a := x.answer(rest[0])
	switch {
	case a != nil && a.Type.Kind == lab.Missing:
		return 0, s.fail(told, "%s", name)
	case a != nil && len(rest) == 1:
		slot := s.r.slot(Slot{Kind: ResultSlot, Name: x.Path + "." + a.Name, Type: a.Type, Step: x})
		x.gives[a.Name] = slot
		return slot, nil
	case a != nil:
		return 0, s.suggest("", nil, "%s: %s has no parts", name, rest[0])
	}
	var names []string
	for i := range x.Answers {
		names = append(names, x.Answers[i].Name)
	}
	return 0, s.suggest(rest[0], names, "%s: %s gives no %q", name, x.ID, rest[0])
}

// iterated finds i, or a value of the last or the previous iteration.
func (s *scope) iterated(x *Step, rest []string, name string) (int, error) {
	if x.iter == nil {
		x.iter = &iteration{count: -1}
	}
	switch {
	case rest[0] == "i" && len(rest) == 1:
		x.iter.count = s.r.slot(Slot{Kind: CountSlot, Name: x.Path + ".i", Type: lab.Type{Kind: lab.Integer}, Step: x})
		return x.iter.count, nil
	case rest[0] != "last" && rest[0] != "previous" || len(rest) < 3:
		return 0, s.suggest("", nil, "%s: a repeat has i, last.step.value and previous.step.value", name)
	}
	child, err := s.child(x, rest[1], name)
	if err != nil {
		return 0, err
	}
	now, err := s.member(child, rest[2:], name)
	if err != nil {
		return 0, err
	}
	if s.args && s.inside(x) {
		return 0, s.fail("use_before_value", "%s has no value in the first iteration of %s", name, x.ID)
	}
	m := s.r.moved(x, now)
	if rest[0] == "last" {
		return m.last, nil
	}
	return m.previous, nil
}

// inside reports whether the expression stands in the body of x.
func (s *scope) inside(x *Step) bool {
	for at := s.at; at != nil; at = at.outer {
		if at.owner == x {
			return true
		}
	}
	return false
}

// moved makes the slots for the last and the previous of a value of the body.
func (r *parser) moved(x *Step, now int) move {
	i := slices.IndexFunc(x.iter.moves, func(m move) bool { return m.now == now })
	if i >= 0 {
		return x.iter.moves[i]
	}
	of := r.p.slots[now]
	rest := strings.TrimPrefix(of.Name, x.Path+".")
	m := move{now: now,
		last:     r.slot(Slot{Kind: LastSlot, Name: x.Path + ".last." + rest, Type: of.Type, Step: x}),
		previous: r.slot(Slot{Kind: PreviousSlot, Name: x.Path + ".previous." + rest, Type: of.Type, Step: x})}
	x.iter.moves = append(x.iter.moves, m)
	return m
}

// compile checks an expression in a scope; nil where that was reported.
func (r *parser) compile(src lab.Source, s *scope) *expr.Program {
	s.r = r
	p, err := expr.Compile(src, s)
	var list lab.Issues
	switch {
	case err == nil && p.Windows():
		if r.remember++; r.remember > MaxMemories {
			r.add(src.Pos, "too_many", "", "more than %d expressions remember, with rate, mean, held or age", MaxMemories)
			return nil
		}
		return p
	case err == nil:
		return p
	case !errors.As(err, &list):
		r.add(src.Pos, "bad_expression", "", "%v", err)
	}
	for _, i := range list {
		if code, ok := s.codes[i.Say]; ok && i.Code == "unknown_name" {
			i.Code = code
		}
		if i.Code != told {
			r.Issues = append(r.Issues, i)
		}
	}
	return nil
}
