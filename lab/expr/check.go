package expr

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"labgate/lab"
)

// checker gives every node its type and inserts changes of unit. It goes on
// after an error; what depends on a wrong node is not reported again.
type checker struct {
	scope   Scope
	issues  *lab.Issues
	refs    []ref
	windows []*node
	nodes   int
	level   int
	defs    []string // definitions being put in place
	stopped bool     // a limit was hit
	ages    []*node  // opAge nodes
	exact   map[*node][]float64
}

var (
	boolType    = lab.Type{Kind: lab.Bool}
	qualityType = lab.Type{Kind: lab.Enum, Enum: []string{lab.Bad.String(), lab.Uncertain.String(), lab.Good.String()}}
)

// check types a tree and returns it, possibly wrapped.
func (c *checker) check(n *node) *node {
	c.nodes++
	c.level++
	defer func() { c.level-- }()
	switch {
	case c.stopped:
		return n
	case c.nodes > MaxNodes:
		c.stopped = true
		n.src.add(n.pos, "too_long", "", "the expression has more than %d parts, definitions included", MaxNodes)
		return n
	case c.level > MaxDepth+1:
		c.stopped = true
		n.src.add(n.pos, "too_deep", "", "the expression is nested deeper than %d, definitions included", MaxDepth)
		return n
	}
	switch n.op {
	case opNumber:
		c.literal(n)
	case opBool:
		n.typ, n.constant = boolType, true
	case opName:
		return c.name(n)
	case opCall:
		return c.call(n)
	case opNot, opAnd, opOr:
		c.logic(n)
	case opLT, opLE, opGT, opGE, opEQ, opNE:
		c.compare(n)
	default:
		return c.arithmetic(n)
	}
	return n
}

func (c *checker) literal(n *node) {
	n.constant = true
	n.typ = lab.Type{Kind: lab.Number, Unit: n.unit}
	if n.bare && n.num == math.Trunc(n.num) && math.Abs(n.num) <= 1<<53 {
		n.typ = lab.Type{Kind: lab.Integer}
	}
	if !fits(n.unit.Dim()) {
		c.bad(n, n.pos, "bad_unit", "", "%s has an exponent beyond %d", n, maxExponent)
	}
}

// bad reports an issue and marks the node as wrong.
func (c *checker) bad(n *node, at int, code, hint, format string, args ...any) *node {
	n.src.add(at, code, hint, format, args...)
	n.typ = lab.Type{}
	return n
}

func (c *checker) name(n *node) *node {
	if d, ok := c.scope.(Definer); ok {
		if src, ok := d.Define(n.text); ok {
			return c.define(n, src)
		}
	}
	sym, err := c.scope.Lookup(n.text)
	switch {
	case err != nil:
		return c.bad(n, n.pos, "unknown_name", "", "%v", err)
	case sym.Slot < 0 || sym.Type.Kind == lab.Missing:
		return c.bad(n, n.pos, "unknown_name", "", "%s has no type", n.text)
	case sym.Type.Kind == lab.Number && !fits(sym.Type.Unit.Dim()):
		return c.bad(n, n.pos, "bad_unit", "", "%s has an exponent beyond %d", n.text, maxExponent)
	}
	n.typ, n.ref = sym.Type, c.use(n.text, sym)
	return n
}

// use notes that the program reads a symbol.
func (c *checker) use(name string, sym Symbol) int {
	for i, r := range c.refs {
		if r.name == name {
			return i
		}
	}
	c.refs = append(c.refs, ref{name: name, slot: sym.Slot, typ: sym.Type, maxAge: sym.MaxAge})
	return len(c.refs) - 1
}

// define puts a definition in the place of its name.
func (c *checker) define(n *node, src lab.Source) *node {
	if slices.Contains(c.defs, n.text) {
		return c.bad(n, n.pos, "cycle", "", "%s is defined by itself: %s", n.text, strings.Join(append(c.defs, n.text), ", then "))
	}
	if len(c.defs) >= MaxDepth {
		return c.bad(n, n.pos, "too_deep", "", "definitions are nested deeper than %d", MaxDepth)
	}
	body := parse(&source{src, n.src.issues})
	if body == nil {
		n.typ = lab.Type{}
		return n
	}
	c.defs = append(c.defs, n.text)
	body = c.check(body)
	c.defs = c.defs[:len(c.defs)-1]
	body.label = n.text // further issues are those of the place where it is used
	body.src, body.pos, body.end = n.src, n.pos, n.end
	return body
}

func (c *checker) logic(n *node) {
	n.typ, n.constant = boolType, true
	for i, k := range n.kids {
		n.kids[i] = c.check(k)
		c.condition(n, n.kids[i])
		n.constant = n.constant && n.kids[i].constant
	}
}

// condition demands that k is a bool; else n is wrong.
func (c *checker) condition(n, k *node) bool {
	switch k.typ.Kind {
	case lab.Bool:
		return true
	case lab.Missing:
		n.typ = lab.Type{}
		return false
	}
	c.bad(n, k.pos, "wrong_type", "", "%s; a condition is wanted", k.is())
	return false
}

// numeric demands that k is a number; else n is wrong.
func (c *checker) numeric(n, k *node) bool {
	switch k.typ.Kind {
	case lab.Number, lab.Integer:
		return true
	case lab.Missing:
		n.typ = lab.Type{}
		return false
	}
	c.bad(n, k.pos, "wrong_type", "", "%s; a number is wanted", k.is())
	return false
}

// is says what a node is: "reactor.temperature is a temperature".
func (n *node) is() string {
	t := n.typ
	switch t.Kind {
	case lab.Number, lab.Integer:
		return n.String() + " is " + article(t.Unit.Dim())
	case lab.Bool:
		return n.String() + " is a condition"
	case lab.Enum:
		names := t.Enum
		if len(names) > 6 {
			names = append(slices.Clone(names[:6]), "…")
		}
		return n.String() + " is one of " + strings.Join(names, ", ")
	case lab.Text:
		return n.String() + " is text"
	}
	return n.String() + " is a " + t.Kind.String()
}

// mixed reports two operands whose dimensions don't go together.
func (c *checker) mixed(n, a, b *node) *node {
	da, db := a.typ.Unit.Dim(), b.typ.Unit.Dim()
	hint := ""
	switch {
	case da.Point && db.Point:
		hint = "two absolute temperatures can't be added; write K for a difference"
	case da == lab.TempDiff && db.Point && n.op == opSub:
		hint = "an absolute temperature can't be taken from a difference"
	case da.Point != db.Point && difference(da) == difference(db):
		hint = "write degC for an absolute temperature, K for a difference"
	case b.bare:
		hint = fmt.Sprintf("write the unit, as in %s %s", b, a.typ.Unit)
	case a.bare:
		hint = fmt.Sprintf("write the unit, as in %s %s", a, b.typ.Unit)
	}
	return c.bad(n, b.pos, "wrong_dimension", hint, "%s, %s", a.is(), b.is())
}

// compare types a comparison, and the enumeration names beside == and !=.
func (c *checker) compare(n *node) {
	equality := n.op == opEQ || n.op == opNE
	if c.opaque(n) {
		return
	}
	c.word(n.kids[0], n.kids[1])
	c.word(n.kids[1], n.kids[0])
	a, b := c.check(n.kids[0]), c.check(n.kids[1])
	n.kids[0], n.kids[1] = a, b
	n.typ, n.constant = boolType, a.constant && b.constant
	switch {
	case a.typ.Kind == lab.Missing || b.typ.Kind == lab.Missing:
		n.typ = lab.Type{}
	case equality && a.typ.Kind == lab.Bool && b.typ.Kind == lab.Bool:
	case equality && a.typ.Kind == lab.Enum && b.typ.Kind == lab.Enum:
		if !slices.Equal(a.typ.Enum, b.typ.Enum) {
			c.bad(n, b.pos, "wrong_type", "", "%s; %s", a.is(), b.is())
		}
	case !equality && (a.typ.Kind == lab.Enum || a.typ.Kind == lab.Bool) && a.typ.Kind == b.typ.Kind:
		c.bad(n, a.pos, "wrong_type", "compare with == or !=", "%s; only numbers have an order", a.is())
	case a.typ.Kind != b.typ.Kind && a.typ.Kind != lab.Number && a.typ.Kind != lab.Integer:
		c.bad(n, b.pos, "wrong_type", "", "%s; %s; they can't be compared", a.is(), b.is())
	case c.numeric(n, a) && c.numeric(n, b):
		if a.typ.Unit.Dim() != b.typ.Unit.Dim() {
			c.mixed(n, a, b)
			return
		}
		u := pick(a, b)
		n.kids[0], n.kids[1] = conv(a, u), conv(b, u)
		n.band = a.band || b.band
		c.noteAge(n)
	}
}

// opaque refuses texts, tables and blobs, before the word beside one is looked
// up in vain.
func (c *checker) opaque(n *node) bool {
	for _, k := range n.kids {
		if k.op != opName {
			continue
		}
		switch s, err := c.scope.Lookup(k.text); {
		case err != nil:
		case s.Type.Kind == lab.Text || s.Type.Kind == lab.Table || s.Type.Kind == lab.Blob:
			c.bad(n, k.pos, "wrong_type", "", "%s is a %s; only numbers, conditions and enumerations can be compared", k, s.Type.Kind)
			return true
		}
	}
	return false
}

// noteAge remembers age(x) < constant: the instants at which it turns are
// known exactly.
func (c *checker) noteAge(n *node) {
	for i, k := range n.kids {
		if o := n.kids[1-i]; k.op == opAge && o.op == opNumber {
			c.exact[k] = append(c.exact[k], o.num)
		}
	}
}

// enumOf is the enumeration that a node stands for, without reporting.
func (c *checker) enumOf(n *node) []string {
	d, _ := c.scope.(Definer)
	for range MaxDepth { // a definition may be another name
		if n.op == opCall && n.text == "quality" {
			return qualityType.Enum
		}
		if n.op != opName {
			return nil
		}
		src, ok := lab.Source{}, false
		if d != nil {
			src, ok = d.Define(n.text)
		}
		if !ok {
			break
		}
		if n = parse(&source{src, new(lab.Issues)}); n == nil {
			return nil
		}
	}
	if s, err := c.scope.Lookup(n.text); err == nil && s.Type.Kind == lab.Enum {
		return s.Type.Enum
	}
	return nil
}

// word turns y into a name of x's enumeration, if x is one and y is a bare
// word. A name of the enumeration goes before a symbol of the scope, because
// the symbol would be a type error, unless it is an enumeration too.
func (c *checker) word(x, y *node) {
	names := c.enumOf(x)
	if names == nil || y.op != opName || strings.Contains(y.text, ".") {
		return
	}
	i := slices.Index(names, y.text)
	_, err := c.scope.Lookup(y.text)
	switch {
	case i >= 0 && c.enumOf(y) != nil:
		c.bad(y, y.pos, "ambiguous", "", "%s is both a name here and a value of %s", y.text, x)
		y.op = opBad
	case i >= 0:
		y.op, y.index, y.constant, y.typ = opWord, i, true, lab.Type{Kind: lab.Enum, Enum: names}
	case err != nil:
		c.bad(y, y.pos, "unknown_value", "", "%s is not a value of %s: %s%s", y.text, x, strings.Join(names, ", "), didYouMean(y.text, names))
		y.op = opBad
	}
}

// arithmetic types + - * / and unary minus.
func (c *checker) arithmetic(n *node) *node {
	if n.op == opBad || n.op == opWord {
		return n
	}
	n.typ, n.constant = lab.Type{Kind: lab.Integer}, true
	ok := true
	for i, k := range n.kids {
		k = c.check(k)
		n.kids[i] = k
		ok = c.numeric(n, k) && ok
		n.constant = n.constant && k.constant
		n.band = n.band || k.band
	}
	if !ok {
		n.typ = lab.Type{}
		return n
	}
	for _, k := range n.kids {
		if k.typ.Kind == lab.Number || n.op == opDiv {
			n.typ.Kind = lab.Number
		}
	}
	switch n.op {
	case opNeg:
		if k := n.kids[0]; k.typ.Unit.Dim().Point {
			return c.bad(n, n.pos, "wrong_dimension", "negate a difference, as in -(x - 0 degC)", "%s: an absolute temperature can't be negated", k.is())
		}
		n.typ.Unit = n.kids[0].typ.Unit
	case opAdd, opSub:
		c.additive(n)
	default:
		c.multiplicative(n)
	}
	return c.fold(n)
}

func (c *checker) additive(n *node) {
	a, b := n.kids[0], n.kids[1]
	da, db := a.typ.Unit.Dim(), b.typ.Unit.Dim()
	d, ok := da.Add(db)
	if n.op == opSub {
		d, ok = da.Sub(db)
	}
	if !ok {
		c.mixed(n, a, b)
		return
	}
	if !da.Point && !db.Point {
		n.typ.Unit = pick(a, b)
		n.kids[0], n.kids[1] = conv(a, n.typ.Unit), conv(b, n.typ.Unit)
		return
	}
	for i, k := range n.kids { // a degree Celsius and a kelvin are the same step
		u := kelvin
		if k.typ.Unit.Dim().Point {
			u = lab.DegC
		}
		n.kids[i] = conv(k, u)
	}
	n.typ.Unit = kelvin
	if d.Point {
		n.typ.Unit = lab.DegC
	}
}

func (c *checker) multiplicative(n *node) {
	a, b := n.kids[0], n.kids[1]
	da, db := a.typ.Unit.Dim(), b.typ.Unit.Dim()
	d, ok := da.Mul(db)
	if n.op == opDiv {
		d, ok = da.Div(db)
	}
	if !ok {
		p := a
		if !da.Point {
			p = b
		}
		c.bad(n, p.pos, "wrong_dimension", "scale a difference, as in (x - 0 degC) * 2",
			"%s: an absolute temperature can't be multiplied or divided", p.is())
		return
	}
	if !fits(d) {
		c.bad(n, n.pos, "wrong_dimension", "", "%s has an exponent beyond %d", n, maxExponent)
		return
	}
	ua, ub := baseUnit(da), baseUnit(db)
	n.typ.Unit = baseUnit(d)
	switch {
	case da == lab.None && db == lab.None:
	case db == lab.None:
		ua, n.typ.Unit = a.typ.Unit, a.typ.Unit
	case da == lab.None && n.op == opMul:
		ub, n.typ.Unit = b.typ.Unit, b.typ.Unit
	case da == db && n.op == opDiv:
		ua = pick(a, b)
		ub = ua
	}
	n.kids[0], n.kids[1] = conv(a, ua), conv(b, ub)
}

// fold computes a constant now; one that is not finite is an error.
func (c *checker) fold(n *node) *node {
	if !n.constant || n.typ.Kind == lab.Missing || c.stopped {
		return n
	}
	v := (&compiler{}).number(n)(nil, &Env{})
	if v != v {
		return c.bad(n, n.pos, "bad_number", "", "%s is not a finite number", n)
	}
	return &node{op: opNumber, src: n.src, pos: n.pos, end: n.end, label: n.label, num: v, unit: n.typ.Unit, typ: n.typ,
		bare: n.typ.Kind == lab.Integer, constant: true}
}
