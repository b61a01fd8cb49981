package expr

import (
	"strings"

	"labgate/lab"
)

// SpotKind is the kind of a Spot.
type SpotKind uint8

// The kinds.
const (
	SpotCompare SpotKind = iota + 1 // the operator of a comparison
	SpotJoin                        // the operators of one chain of and, or of or
	SpotOperand                     // a member of such a chain, with the operator beside it
	SpotName                        // a name that stands as a condition
	SpotValue                       // a name that stands as a number
	SpotNumber                      // a literal, with its unit
	SpotSpan                        // the length of a window, or how far votes may be apart
	SpotNeed                        // how many have to agree
)

// Spot is a place in the text of an expression that decides about its result.
// Tools that change rules on purpose, to see whether anybody notices, work on
// spots.
type Spot struct {
	Kind     SpotKind
	Pos, End int      // byte offsets in the text
	Places   [][2]int // SpotJoin: of each operator
	Text     string   // what stands there; SpotJoin: and, or; SpotOperand: the member alone
	Join     string   // SpotOperand: and, or
	// Sense is +1 where the whole becomes true at least as often when this does
	// (a condition), or grows (a number); -1 where it becomes false at least as
	// often; 0 where neither can be told from the form alone.
	Sense int
}

// Spots lists the places of an expression, in the order of its text. It looks
// at the form only: names are not resolved, and a text that does not parse has
// none. The sense of a number's spots is that of the condition around it.
func Spots(text string) []Spot {
	var ignored lab.Issues
	root := parse(&source{lab.Source{Text: text}, &ignored})
	if root == nil || len(ignored) > 0 {
		return nil
	}
	s := &spotter{text: text}
	s.any(root, 1)
	return s.list
}

type spotter struct {
	text string
	list []Spot
}

func (s *spotter) add(k SpotKind, pos, end, sense int) {
	s.list = append(s.list, Spot{Kind: k, Pos: pos, End: end, Text: s.text[pos:end], Sense: sense})
}

// any walks a node that may be a condition or a number: the root of a
// definition.
func (s *spotter) any(n *node, sense int) {
	switch n.op {
	case opName, opNumber, opNeg, opAdd, opSub, opMul, opDiv:
		if n.op == opName {
			s.add(SpotName, n.pos, n.end, sense)
			return
		}
		s.number(n, sense)
	case opCall:
		switch n.text {
		case "held", "stuck_for", "vote", "tripped":
			s.condition(n, sense)
		default:
			s.number(n, sense)
		}
	default:
		s.condition(n, sense)
	}
}

func (s *spotter) condition(n *node, sense int) {
	switch n.op {
	case opAnd, opOr:
		s.chain(n, sense)
	case opNot:
		s.condition(n.kids[0], -sense)
	case opName:
		s.add(SpotName, n.pos, n.end, sense)
	case opLT, opLE, opGT, opGE, opEQ, opNE:
		s.comparison(n, sense)
	case opCall:
		s.call(n, sense)
	}
}

func (s *spotter) chain(n *node, sense int) {
	word := "and"
	if n.op == opOr {
		word = "or"
	}
	join := Spot{Kind: SpotJoin, Text: word, Sense: sense}
	for i := 1; i < len(n.kids); i++ {
		from := n.kids[i-1].end
		if at := strings.Index(s.text[from:n.kids[i].pos], word); at >= 0 {
			join.Places = append(join.Places, [2]int{from + at, from + at + len(word)})
		}
	}
	if len(join.Places) == len(n.kids)-1 {
		join.Pos, join.End = join.Places[0][0], join.Places[0][1]
		s.list = append(s.list, join)
	}
	for i, k := range n.kids {
		pos, end := k.pos, k.end
		if i == 0 {
			end = n.kids[1].pos
		} else {
			pos = n.kids[i-1].end
		}
		s.list = append(s.list, Spot{Kind: SpotOperand, Pos: pos, End: end, Text: s.text[k.pos:k.end], Join: word, Sense: sense})
		s.condition(k, sense)
	}
}

func (s *spotter) comparison(n *node, sense int) {
	a, b := n.kids[0], n.kids[1]
	gap := s.text[a.end:b.pos]
	op := strings.TrimSpace(gap)
	at := a.end + strings.Index(gap, op)
	s.add(SpotCompare, at, at+len(op), sense)
	switch n.op {
	case opGT, opGE:
		s.number(a, sense)
		s.number(b, -sense)
	case opLT, opLE:
		s.number(a, -sense)
		s.number(b, sense)
	default:
		s.number(a, 0)
		s.number(b, 0)
	}
}

// call walks the functions that are conditions.
func (s *spotter) call(n *node, sense int) {
	switch {
	case n.text == "held" && len(n.kids) == 2:
		s.condition(n.kids[0], sense)
		s.add(SpotSpan, n.kids[1].pos, n.kids[1].end, -sense)
	case n.text == "stuck_for" && len(n.kids) == 2:
		s.number(n.kids[0], 0)
		s.add(SpotSpan, n.kids[1].pos, n.kids[1].end, -sense)
	case n.text == "vote" && len(n.kids) > 1:
		s.add(SpotNeed, n.kids[0].pos, n.kids[0].end, -sense)
		for _, k := range n.kids[1:] {
			s.condition(k, sense)
		}
	}
}

// number walks a number; sense is what becomes of the whole when it grows.
func (s *spotter) number(n *node, sense int) {
	switch n.op {
	case opNumber:
		s.add(SpotNumber, n.pos, n.end, sense)
	case opName:
		s.add(SpotValue, n.pos, n.end, sense)
	case opNeg:
		s.number(n.kids[0], -sense)
	case opAdd:
		s.number(n.kids[0], sense)
		s.number(n.kids[1], sense)
	case opSub:
		s.number(n.kids[0], sense)
		s.number(n.kids[1], -sense)
	case opMul:
		s.number(n.kids[0], sense*signOf(n.kids[1]))
		s.number(n.kids[1], sense*signOf(n.kids[0]))
	case opDiv:
		s.number(n.kids[0], sense*signOf(n.kids[1]))
		s.number(n.kids[1], 0)
	case opCall:
		s.function(n, sense)
	case opAnd, opOr, opNot, opLT, opLE, opGT, opGE, opEQ, opNE: // a == (b > c)
		s.condition(n, 0)
	}
}

// signOf is the sign of a literal, 0 for anything else.
func signOf(n *node) int {
	switch {
	case n.op != opNumber || n.num == 0:
		return 0
	case n.num < 0:
		return -1
	}
	return 1
}

func (s *spotter) function(n *node, sense int) {
	switch {
	case (n.text == "rate" || n.text == "mean") && len(n.kids) == 2:
		inner := 0
		if n.text == "mean" {
			inner = sense
		}
		s.number(n.kids[0], inner)
		s.add(SpotSpan, n.kids[1].pos, n.kids[1].end, 0)
	case n.text == "voted" && len(n.kids) > 2:
		s.add(SpotNeed, n.kids[0].pos, n.kids[0].end, 0)
		s.add(SpotSpan, n.kids[1].pos, n.kids[1].end, 0)
		for _, k := range n.kids[2:] {
			s.number(k, sense)
		}
	case n.text == "min" || n.text == "max":
		for _, k := range n.kids {
			s.number(k, sense)
		}
	case n.text == "age" || n.text == "quality" || n.text == "tripped": // of a reading or a group, not of a value
	default:
		for _, k := range n.kids {
			s.number(k, 0)
		}
	}
}
