package expr

import (
	"strings"
	"time"

	"labgate/lab"
)

// Limits of one expression. They bound what a file can make the loader and the
// engine do.
const (
	MaxSource   = 4096 // bytes of text
	MaxDepth    = 64   // nesting of operators, calls, parentheses and definitions
	MaxNodes    = 4096 // after definitions are put in place
	MaxArgs     = 16   // arguments of vote, voted, min and max
	MaxWindows  = 64   // uses of rate, mean and held in one expression
	MaxIssues   = 100  // reported of one expression
	MinWindow   = time.Millisecond
	MaxWindow   = 24 * time.Hour // span of rate, mean and held
	maxExponent = 9              // of a base unit in a dimension
)

// op is the operation of a node.
type op uint8

const (
	opBad op = iota // could not be checked; its issue has been reported
	opNumber
	opBool
	opName
	opWord // a name of an enumeration
	opCall // a function, before it is checked
	opNeg
	opAdd
	opSub
	opMul
	opDiv
	opLT
	opLE
	opGT
	opGE
	opEQ
	opNE
	opNot
	opAnd
	opOr
	opAbs
	opMin
	opMax
	opRate
	opMean
	opAge
	opQuality
	opHeld
	opStuck
	opVote
	opVoted
	opTripped
	opConv // a change of unit, inserted by the checker
)

// node is one operation of the tree. The parser fills the first group, the
// checker the rest.
type node struct {
	op       op
	src      *source
	pos, end int // byte offsets of its text
	text     string
	kids     []*node
	num      float64
	unit     lab.Unit // of a literal
	bare     bool     // a literal without a unit
	label    string   // the name whose definition this is

	typ      lab.Type // Missing: wrong, and reported
	constant bool     // reads nothing
	band     bool     // depends on voted: a range of candidates rather than a value
	ref      int      // opName, opAge, opQuality, opTripped: index into Program.refs
	index    int      // opWord: place in the enumeration
	win      int      // opRate, opMean, opHeld: index into Program.windows
	span     time.Duration
	need     int     // opVote, opVoted
	within   float64 // opVoted: in the unit of a difference of its values
}

// String is the text of the node as written, shortened for messages.
func (n *node) String() string {
	if n.label != "" {
		return n.label
	}
	s := strings.Join(strings.Fields(n.src.Text[n.pos:n.end]), " ")
	if r := []rune(s); len(r) > 48 {
		return string(r[:45]) + "…"
	}
	return s
}

// parser turns tokens into a tree. The first syntax error ends it.
type parser struct {
	src    *source
	toks   []token
	i      int
	depth  int
	failed bool
}

// parse reads one expression; nil means that it was wrong and reported.
func parse(src *source) *node {
	if len(src.Text) > MaxSource {
		src.add(0, "too_long", "", "the expression is %d bytes long; at most %d are allowed", len(src.Text), MaxSource)
		return nil
	}
	before := len(*src.issues)
	p := &parser{src: src, toks: lex(src, make([]token, 0, min(len(src.Text)/4, 64)+4))}
	if len(p.toks) == 1 && len(*src.issues) == before {
		src.add(0, "syntax", "", "the expression is empty")
		return nil
	}
	n := p.or()
	if t := p.peek(); t.kind != tokEOF {
		p.unexpected(t, "an operator")
	}
	if p.failed || len(*src.issues) > before {
		return nil
	}
	return n
}

func (p *parser) peek() token { return p.toks[p.i] }

func (p *parser) take() token {
	t := p.toks[p.i]
	if t.kind != tokEOF {
		p.i++
	}
	return t
}

func (p *parser) is(texts ...string) bool {
	t := p.peek()
	if t.kind != tokOp && t.kind != tokKeyword {
		return false
	}
	for _, s := range texts {
		if t.text == s {
			return true
		}
	}
	return false
}

// fail reports the first syntax error and skips the rest of the text.
func (p *parser) fail(pos int, code, hint, format string, args ...any) *node {
	if !p.failed {
		p.src.add(pos, code, hint, format, args...)
		p.failed = true
	}
	p.i = len(p.toks) - 1
	return &node{src: p.src, pos: pos, end: pos}
}

func (p *parser) unexpected(t token, want string) *node {
	hint := ""
	switch {
	case t.text == "not":
		hint = "put parentheses around not …"
	case t.text == "+":
		hint = "a plus sign before a value is not needed"
	}
	return p.fail(t.pos, "syntax", hint, "%s where %s should be", t, want)
}

// node makes a node over kids, spanning their text.
func (p *parser) node(o op, kids ...*node) *node {
	return &node{op: o, src: p.src, pos: kids[0].pos, end: kids[len(kids)-1].end, kids: kids}
}

// nested guards every recursion. Long sums get deep without it: the checker
// counts again.
func (p *parser) nested(f func() *node) *node {
	if p.depth++; p.depth > MaxDepth {
		return p.fail(p.peek().pos, "too_deep", "", "the expression is nested deeper than %d", MaxDepth)
	}
	n := f()
	p.depth--
	return n
}

func (p *parser) or() *node  { return p.chain(opOr, "or", p.and) }
func (p *parser) and() *node { return p.chain(opAnd, "and", p.not) }

// chain reads "a and b and c" as one node, so that a long list is not deep.
func (p *parser) chain(o op, word string, sub func() *node) *node {
	kids := []*node{sub()}
	for p.is(word) {
		p.take()
		kids = append(kids, sub())
	}
	if len(kids) == 1 {
		return kids[0]
	}
	return p.node(o, kids...)
}

func (p *parser) not() *node {
	if !p.is("not") {
		return p.comparison()
	}
	at := p.take().pos
	n := p.node(opNot, p.nested(p.not))
	n.pos = at
	return n
}

var comparisons = map[string]op{"<": opLT, "<=": opLE, ">": opGT, ">=": opGE, "==": opEQ, "!=": opNE}

func (p *parser) comparison() *node {
	n := p.sum()
	if !p.is("<", "<=", ">", ">=", "==", "!=") {
		return n
	}
	t := p.take()
	n = p.node(comparisons[t.text], n, p.sum())
	if t := p.peek(); p.is("<", "<=", ">", ">=", "==", "!=") {
		return p.fail(t.pos, "syntax", "write a < b and b < c", "comparisons can't be chained")
	}
	return n
}

func (p *parser) sum() *node {
	n := p.term()
	for p.is("+", "-") {
		o := opAdd
		if p.take().text == "-" {
			o = opSub
		}
		n = p.node(o, n, p.term())
	}
	return n
}

func (p *parser) term() *node {
	n := p.unary()
	for p.is("*", "/") {
		o := opMul
		if p.take().text == "/" {
			o = opDiv
		}
		n = p.node(o, n, p.unary())
	}
	return n
}

func (p *parser) unary() *node {
	if !p.is("-") {
		return p.primary()
	}
	minus := p.take()
	if p.peek().kind == tokNumber { // -5 degC is five below zero, not the negation of a point
		n := p.primary()
		n.num, n.pos = -n.num, minus.pos
		return n
	}
	n := p.node(opNeg, p.nested(p.unary))
	n.pos = minus.pos
	return n
}

func (p *parser) primary() *node {
	t := p.take()
	n := &node{src: p.src, pos: t.pos, end: t.end, text: t.text}
	switch {
	case t.kind == tokNumber:
		n.op, n.num, n.unit = opNumber, t.num, t.unit
		n.bare = t.unit == lab.One
		return n
	case t.kind == tokKeyword && (t.text == "true" || t.text == "false"):
		n.op = opBool
		return n
	case t.kind == tokName && p.is("("):
		return p.call(n)
	case t.kind == tokName:
		n.op = opName
		return n
	case t.kind == tokOp && t.text == "(":
		n := p.nested(p.or)
		if !p.is(")") {
			return p.unexpected(p.peek(), "a closing parenthesis")
		}
		n.pos, n.end = t.pos, p.take().end
		return n
	}
	return p.unexpected(t, "a value")
}

// call reads the arguments of a function.
func (p *parser) call(n *node) *node {
	n.op = opCall
	p.take()
	for !p.is(")") {
		n.kids = append(n.kids, p.nested(p.or))
		if !p.is(",") {
			break
		}
		p.take()
		if p.is(")") {
			return p.unexpected(p.peek(), "a value")
		}
	}
	if !p.is(")") {
		return p.unexpected(p.peek(), "a comma or a closing parenthesis")
	}
	n.end = p.take().end
	return n
}
