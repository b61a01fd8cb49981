package expr

import (
	"fmt"
	"slices"
	"time"

	"labgate/lab"
)

// Program is one compiled expression. It is immutable and safe for concurrent
// use. Evaluating it allocates nothing.
type Program struct {
	src     lab.Source
	root    *node
	refs    []ref
	slots   []int
	names   []string
	windows []feeder
	ages    []ageUse
	cost    int

	truth  truthFn  // bool
	number numberFn // number, without a vote
	span   spanFn   // number, with a vote
	word   wordFn   // enumeration
}

// Compile checks an expression and compiles it. Its error is a lab.Issues with
// all that is wrong, each with a position: the column of the source plus the
// offset in its text. The codes are syntax, too_long, too_deep, bad_number,
// bad_unit, bad_window, unknown_name, unknown_value, unknown_function,
// wrong_arguments, wrong_type, wrong_dimension, ambiguous and cycle.
func Compile(src lab.Source, scope Scope) (*Program, error) {
	var issues lab.Issues
	s := &source{src, &issues}
	if scope == nil {
		scope = MapScope(nil)
	}
	root := parse(s)
	c := &checker{scope: scope, issues: &issues, exact: map[*node][]float64{}}
	if root != nil {
		root = c.check(root)
		if len(issues) == 0 && root.typ.Kind == lab.Missing {
			s.add(root.pos, "wrong_type", "", "%s has no type", root)
		}
	}
	if len(issues) > 0 {
		issues.Sort()
		return nil, slices.CompactFunc(issues, func(a, b lab.Issue) bool { return a.Pos == b.Pos && a.Say == b.Say })
	}
	p := &Program{src: src, root: root, refs: c.refs, cost: c.nodes}
	p.index()
	for _, a := range c.ages {
		u := ageUse{ref: a.ref}
		for _, limit := range c.exact[a] {
			u.limits = append(u.limits, seconds(limit))
		}
		p.ages = append(p.ages, u)
	}
	p.compile(c.windows)
	return p, nil
}

// index lists slots and names.
func (p *Program) index() {
	byName := slices.Clone(p.refs)
	slices.SortStableFunc(byName, func(a, b ref) int { return a.slot - b.slot })
	for _, r := range byName {
		if n := len(p.slots); n == 0 || p.slots[n-1] != r.slot {
			p.slots, p.names = append(p.slots, r.slot), append(p.names, r.name)
		}
	}
}

func (p *Program) compile(windows []*node) {
	c := &compiler{p}
	for _, n := range windows {
		f := feeder{node: n, refs: n.kids[0].reads(nil)}
		if n.op == opHeld {
			f.cond = c.truth(n.kids[0])
		} else {
			f.x = c.span(n.kids[0])
		}
		p.windows = append(p.windows, f)
	}
	switch p.root.typ.Kind {
	case lab.Bool:
		p.truth = c.truth(p.root)
	case lab.Enum:
		p.word = c.word(p.root)
	case lab.Number, lab.Integer:
		p.span = c.span(p.root)
		if !p.root.band {
			p.number = c.number(p.root)
		}
	}
}

// reads lists the refs below a node.
func (n *node) reads(into []int) []int {
	switch n.op {
	case opName, opAge, opQuality:
		if !slices.Contains(into, n.ref) {
			into = append(into, n.ref)
		}
	}
	for _, k := range n.kids {
		into = k.reads(into)
	}
	return into
}

// Type is the type of the result. The unit of a number is the one that its
// value is computed in.
func (p *Program) Type() lab.Type { return p.root.typ }

// Fits is nil if results of this program can be values of the type: the same
// kind and dimension, or a number where whole numbers are wanted (which is
// then checked with each value).
func (p *Program) Fits(t lab.Type) error {
	got := p.Type()
	number := func(k lab.TypeKind) bool { return k == lab.Number || k == lab.Integer }
	switch {
	case number(got.Kind) && number(t.Kind):
		if got.Unit.Dim() != t.Unit.Dim() {
			return fmt.Errorf("%s; %s is wanted", p.root.is(), article(t.Unit.Dim()))
		}
		return nil
	case got.Kind == lab.Enum && t.Kind == lab.Enum:
		for _, n := range got.Enum {
			if !slices.Contains(t.Enum, n) {
				return fmt.Errorf("%s; %s is wanted", p.root.is(), t)
			}
		}
		return nil
	case got.Kind == t.Kind && t.Kind != lab.Missing:
		return nil
	}
	return fmt.Errorf("%s; a %s is wanted", p.root.is(), t.Kind)
}

// Source is the text and its place.
func (p *Program) Source() lab.Source { return p.src }

// Slots lists the slots that the program reads, sorted, each once. It is the
// program's own list.
func (p *Program) Slots() []int { return p.slots }

// Names lists the names of the slots, in the same order: the first name by
// which the expression calls each, "tripped(group)" for a group.
func (p *Program) Names() []string { return p.names }

// Windows reports whether the program must be fed by Observe, at each reading
// of its slots: it remembers (rate, mean, held) or looks at time (age).
func (p *Program) Windows() bool { return len(p.windows) > 0 || len(p.ages) > 0 }

// Cost is the number of operations that one evaluation does at most, each of
// them bounded in time.
func (p *Program) Cost() int { return p.cost }

// Truth evaluates a condition. Anything else is Unknown.
func (p *Program) Truth(st *State, env *Env) Truth {
	if p.truth == nil || env == nil {
		return Unknown
	}
	return p.truth(st, env)
}

// Number evaluates a number in SI base units (kelvin for absolute
// temperatures). ok is false where it is unknown, or where the candidates of a
// vote differ.
func (p *Program) Number(st *State, env *Env) (si float64, ok bool) {
	v, ok := p.native(st, env)
	if !ok {
		return 0, false
	}
	return p.si(v)
}

// si converts the program's unit to SI; an overflow is unknown.
func (p *Program) si(v float64) (float64, bool) {
	v = finite(p.root.typ.Unit.ToBase(v))
	if v != v {
		return 0, false
	}
	return v, true
}

// native is the number in the program's own unit.
func (p *Program) native(st *State, env *Env) (float64, bool) {
	switch {
	case env == nil || p.span == nil:
		return 0, false
	case p.number != nil:
		v := p.number(st, env)
		return v, v == v
	}
	s := p.span(st, env)
	return s.lo, s.known() && s.lo == s.hi
}

// Candidates is the range of what a number may be, in SI base units: that of
// the agreeing readings where it depends on voted, else the number itself.
func (p *Program) Candidates(st *State, env *Env) (lo, hi float64, ok bool) {
	if env == nil || p.span == nil {
		return 0, 0, false
	}
	s := p.span(st, env)
	if !s.known() {
		return 0, 0, false
	}
	lo, lok := p.si(s.lo)
	hi, hok := p.si(s.hi)
	return lo, hi, lok && hok
}

// Value evaluates any program. The value has the program's Type, or is missing
// where it is unknown; a whole number beyond 2^53, which can't be exact, is
// unknown. A program that is nothing but a name of a text, a table or a blob
// gives that.
func (p *Program) Value(st *State, env *Env) lab.Value {
	t := p.root.typ
	switch t.Kind {
	case lab.Bool:
		if v := p.Truth(st, env); v != Unknown {
			return lab.BoolValue(v == True)
		}
	case lab.Number, lab.Integer:
		v, ok := p.native(st, env)
		switch {
		case !ok:
		case t.Kind == lab.Number:
			return lab.NumberValue(lab.Quantity{Value: v, Unit: t.Unit})
		case v >= -1<<53 && v <= 1<<53:
			return lab.IntegerValue(int64(v))
		}
	case lab.Enum:
		if env == nil {
			break
		}
		if i := p.word(st, env); i >= 0 {
			return lab.EnumValue(t.Enum[i])
		}
	default:
		if env == nil || p.root.op != opName {
			break
		}
		r := &p.refs[p.root.ref]
		rd := env.reading(p.root.ref, r.slot)
		if ok, _ := r.usable(env, rd); ok {
			return rd.Value
		}
	}
	return lab.Value{}
}

// Used lists the readings that a result rests on now, with why one counts as
// unknown: for refusals, not for the hot path.
func (p *Program) Used(env *Env) []lab.Used {
	if env == nil {
		return nil
	}
	used := make([]lab.Used, len(p.refs))
	for i := range p.refs {
		r := &p.refs[i]
		rd := env.reading(i, r.slot)
		u := lab.Used{Signal: r.name, Quality: rd.Quality}
		if rd.Value.Usable() {
			v := rd.Value
			u.Value = &v
		}
		if age := rd.Age(env.Now); r.maxAge != 0 && age < 1<<63-1 {
			u.AgeMS = float64(age) / float64(time.Millisecond)
		}
		_, u.Why = r.usable(env, rd)
		used[i] = u
	}
	return used
}
