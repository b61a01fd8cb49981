package expr

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"labgate/lab"
)

// function is the shape of a call. check types it; its arguments are not
// checked yet.
type function struct {
	op       op
	usage    string
	min, max int // arguments
	check    func(c *checker, n *node) *node
}

// functions is filled by init, because checking a call leads back to it.
var functions map[string]function

func init() {
	functions = map[string]function{
		"abs":       {opAbs, "abs(x)", 1, 1, (*checker).abs},
		"min":       {opMin, "min(x, y)", 2, MaxArgs, (*checker).extreme},
		"max":       {opMax, "max(x, y)", 2, MaxArgs, (*checker).extreme},
		"rate":      {opRate, "rate(x, 30 s)", 2, 2, (*checker).window},
		"mean":      {opMean, "mean(x, 10 s)", 2, 2, (*checker).window},
		"stuck_for": {opStuck, "stuck_for(x, 10 s)", 2, 2, (*checker).window},
		"held":      {opHeld, "held(condition, 10 s)", 2, 2, (*checker).window},
		"age":       {opAge, "age(x)", 1, 1, (*checker).reading},
		"quality":   {opQuality, "quality(x)", 1, 1, (*checker).reading},
		"vote":      {opVote, "vote(2, a, b, c)", 3, MaxArgs + 1, (*checker).vote},
		"voted":     {opVoted, "voted(2, 5 K, a, b, c)", 4, MaxArgs + 2, (*checker).voted},
		"tripped":   {opTripped, "tripped(group)", 1, 1, (*checker).tripped},
	}
}

// call finds a function by name and types the call.
func (c *checker) call(n *node) *node {
	f, ok := functions[n.text]
	if !ok {
		names := make([]string, 0, len(functions))
		for name := range functions {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, k := range n.kids {
			c.check(k)
		}
		near, hint := didYouMean(n.text, names), ""
		if near == "" {
			hint = "the functions are " + strings.Join(names, ", ")
		}
		return c.bad(n, n.pos, "unknown_function", hint, "%s: no such function%s", n.text, near)
	}
	if len(n.kids) < f.min || len(n.kids) > f.max {
		return c.bad(n, n.pos, "wrong_arguments", "write "+f.usage, "%s takes %s, not %d", n.text, argCount(f.min, f.max), len(n.kids))
	}
	n.op = f.op
	return f.check(c, n)
}

func argCount(lo, hi int) string {
	s := lab.FormatNumber(float64(lo))
	if hi != lo {
		s += " to " + lab.FormatNumber(float64(hi))
	}
	if hi == 1 {
		return s + " argument"
	}
	return s + " arguments"
}

func (c *checker) abs(n *node) *node {
	k := c.check(n.kids[0])
	n.kids[0], n.constant, n.band, n.typ = k, k.constant, k.band, k.typ
	if !c.numeric(n, k) {
		return n
	}
	if k.typ.Unit.Dim().Point {
		return c.bad(n, k.pos, "wrong_dimension", "take it of a difference, as in abs(x - 20 degC)",
			"%s: an absolute temperature has no absolute value", k.is())
	}
	return c.fold(n)
}

// numbers checks kids from on as numbers of one dimension and brings them to
// one unit: that of the first one that is not a constant.
func (c *checker) numbers(n *node, from int) bool {
	ok := true
	var first *node
	for i := from; i < len(n.kids); i++ {
		k := c.check(n.kids[i])
		n.kids[i] = k
		n.band = n.band || k.band
		n.constant = n.constant && k.constant
		switch {
		case !c.numeric(n, k):
			ok = false
		case first == nil || first.constant && !k.constant && first.typ.Unit.Dim() == k.typ.Unit.Dim():
			first = k
		case first.typ.Unit.Dim() != k.typ.Unit.Dim():
			c.mixed(n, first, k)
			ok = false
		}
	}
	if !ok {
		n.typ = lab.Type{}
		return false
	}
	n.typ = lab.Type{Kind: lab.Integer, Unit: first.typ.Unit}
	for i := from; i < len(n.kids); i++ {
		if n.kids[i].typ.Kind == lab.Number {
			n.typ.Kind = lab.Number
		}
		n.kids[i] = conv(n.kids[i], first.typ.Unit)
	}
	return true
}

// extreme types min and max.
func (c *checker) extreme(n *node) *node {
	n.constant = true
	if !c.numbers(n, 0) {
		return n
	}
	return c.fold(n)
}

// constant checks an argument that must be known at load.
func (c *checker) constant(n *node, i int, what string) (*node, bool) {
	k := c.check(n.kids[i])
	n.kids[i] = k
	switch {
	case k.typ.Kind == lab.Missing:
		n.typ = lab.Type{}
		return k, false
	case !k.constant || k.op != opNumber:
		c.bad(n, k.pos, "wrong_arguments", "write "+functions[n.text].usage, "%s must be %s, known at load", k, what)
		return k, false
	}
	return k, true
}

// window types rate, mean, held and stuck_for.
func (c *checker) window(n *node) *node {
	x := c.check(n.kids[0])
	n.kids[0], n.band = x, x.band
	w, ok := c.constant(n, 1, "a time")
	if ok {
		d, err := lab.Quantity{Value: w.num, Unit: w.typ.Unit}.Duration()
		switch {
		case w.typ.Unit.Dim() != lab.Time || err != nil:
			c.bad(n, w.pos, "wrong_dimension", "write "+functions[n.text].usage, "%s; the window is a time", w.is())
			ok = false
		case d < MinWindow || d > MaxWindow:
			c.bad(n, w.pos, "bad_window", "", "a window of %s; from 1 ms to 24 h are allowed", w)
			ok = false
		}
		n.span = d
	}
	switch n.op {
	case opHeld:
		ok = c.condition(n, x) && ok
		n.typ = boolType
	case opStuck:
		ok = c.numeric(n, x) && ok
		n.typ, n.band = boolType, false
	default:
		if ok = c.numeric(n, x) && ok; ok {
			c.slope(n, x)
		}
	}
	if !ok {
		n.typ = lab.Type{}
		return n
	}
	if x.constant {
		return c.bad(n, x.pos, "wrong_arguments", "", "%s never changes: nothing is read in it", x)
	}
	if len(c.windows) == MaxWindows {
		return c.bad(n, n.pos, "bad_window", "", "more than %d windows in one expression", MaxWindows)
	}
	n.win, n.constant = len(c.windows), false
	c.windows = append(c.windows, n)
	return n
}

// slope gives rate and mean their units.
func (c *checker) slope(n, x *node) {
	u := x.typ.Unit
	if n.op == opMean {
		n.typ = lab.Type{Kind: lab.Number, Unit: u}
		return
	}
	if u.Dim().Point {
		n.kids[0] = conv(x, lab.DegC)
		u = kelvin
	}
	per, err := lab.ParseUnit(u.String() + "/s")
	if err != nil || !fits(per.Dim()) {
		c.bad(n, n.pos, "wrong_dimension", "", "%s: its rate has no unit", x.is())
		return
	}
	n.typ = lab.Type{Kind: lab.Number, Unit: per}
}

// reading types age and quality, which look at a reading rather than its
// value.
func (c *checker) reading(n *node) *node {
	k := c.check(n.kids[0])
	switch {
	case k.typ.Kind == lab.Missing:
		n.typ = lab.Type{}
		return n
	case k.op != opName:
		return c.bad(n, k.pos, "wrong_arguments", "write "+functions[n.text].usage+" of a reading's name", "%s is not one reading", k)
	}
	n.kids, n.ref = nil, k.ref
	if n.op == opQuality {
		n.typ = qualityType
		return n
	}
	n.typ = lab.Type{Kind: lab.Number, Unit: lab.Second}
	c.ages = append(c.ages, n)
	return n
}

// count checks the "at least" of vote and voted.
func (c *checker) count(n *node, from, of int) bool {
	k, ok := c.constant(n, 0, "a whole number")
	if !ok {
		return false
	}
	if !k.bare || k.num != math.Trunc(k.num) || k.num < float64(from) || k.num > float64(of) {
		want := fmt.Sprintf("a whole number from %d to %d", from, of)
		if from == of {
			want = fmt.Sprint(of)
		}
		c.bad(n, k.pos, "wrong_arguments", "", "%s of %d; %s is wanted", k, of, want)
		return false
	}
	n.need = int(k.num)
	return true
}

func (c *checker) vote(n *node) *node {
	n.typ = boolType
	ok := c.count(n, 1, len(n.kids)-1)
	for i := 1; i < len(n.kids); i++ {
		n.kids[i] = c.check(n.kids[i])
		ok = c.condition(n, n.kids[i]) && ok
	}
	if !ok {
		n.typ = lab.Type{}
		return n
	}
	n.kids = n.kids[1:]
	return n
}

func (c *checker) voted(n *node) *node {
	ok := c.count(n, 2, len(n.kids)-2)
	w, wok := c.constant(n, 1, "a difference")
	if !c.numbers(n, 2) || !ok || !wok {
		n.typ = lab.Type{}
		return n
	}
	if !c.independent(n, n.kids[2:]) {
		return n
	}
	diff, u := difference(n.typ.Unit.Dim()), n.typ.Unit
	if u.Dim().Point {
		u = kelvin
		n.typ.Unit = lab.DegC
		for i := 2; i < len(n.kids); i++ {
			n.kids[i] = conv(n.kids[i], lab.DegC)
		}
	}
	if w.typ.Unit.Dim() != diff {
		return c.bad(n, w.pos, "wrong_dimension", "", "%s; the values differ by %s", w.is(), article(diff))
	}
	if n.within = conv(w, u).num; !(n.within >= 0) {
		return c.bad(n, w.pos, "wrong_arguments", "", "%s is less than nothing", w)
	}
	n.kids, n.band, n.constant = n.kids[2:], true, false
	return n
}

// independent demands that no reading backs up itself: each value of a vote
// reads something, and no two read the same slot.
func (c *checker) independent(n *node, values []*node) bool {
	by := map[int]*node{}
	for _, k := range values {
		reads := k.reads(nil)
		switch {
		case k.band:
			c.bad(n, k.pos, "wrong_arguments", "list all readings in one voted(…)", "%s is itself the result of a vote", k)
		case len(reads) == 0:
			c.bad(n, k.pos, "wrong_arguments", "", "%s is no reading: nothing is read in it", k)
		}
		for _, i := range reads {
			slot := c.refs[i].slot
			if other := by[slot]; other != nil && other != k {
				c.bad(n, k.pos, "wrong_arguments", "", "%s and %s are the same reading, which always agrees with itself", other, k)
			}
			by[slot] = k
		}
	}
	return n.typ.Kind != lab.Missing
}

// tripped types tripped(group); the group is a bare word.
func (c *checker) tripped(n *node) *node {
	k := n.kids[0]
	if k.op != opName {
		return c.bad(n, k.pos, "wrong_arguments", "write "+functions["tripped"].usage, "%s is not the name of a group", k)
	}
	slot, err := c.scope.Tripped(k.text)
	switch {
	case err != nil:
		return c.bad(n, k.pos, "unknown_name", "", "%v", err)
	case slot < 0:
		return c.bad(n, k.pos, "unknown_name", "", "%s has no slot", k.text)
	}
	n.kids, n.typ = nil, boolType
	n.ref = c.use("tripped("+k.text+")", Symbol{Slot: slot, Type: boolType, MaxAge: 0})
	n.op = opName
	return n
}

// seconds converts a constant age to a duration, saturating.
func seconds(s float64) time.Duration {
	if s >= math.MaxInt64/1e9 {
		return math.MaxInt64
	}
	return time.Duration(s * 1e9)
}
