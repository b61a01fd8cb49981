package analysis

import (
	"errors"
	"math"
	"slices"
	"sort"
	"strings"

	"labgate/lab"
	"labgate/lab/expr"
	"labgate/safety"
)

// maxCells bounds the work of one proof. Beyond it the signals with the most
// cells are looked at as a whole: less is proved, nothing wrong is claimed.
const maxCells = 20_000

// vast is the end of a range of which nothing is declared, in the unit of the
// class.
const vast = 1e15

// space is everything that some conditions can be asked about, cut into cells:
// for each signal they read, the values that are compared with, and the
// stretches between these. Within a cell every comparison of a signal with a
// literal has one answer, so that evaluating a condition over the ranges of a
// cell tells how it fares there. Every reading is known in it: what is unknown
// denies and trips in any case.
type space struct {
	slots [][]expr.Range // by slot; nil: not read
	used  []int          // slots that are read
}

// newSpace cuts the space of some programs. cmd is the command whose arguments
// they may name; it may be zero. fixed are slots of which more is known.
func newSpace(rules *safety.Rules, cmd lab.CommandID, fixed map[int]expr.Range, programs ...*expr.Program) *space {
	s := &space{}
	lits, words := map[lab.Dim][]lab.Quantity{}, map[string]bool{}
	for _, p := range programs {
		literals(rules, p.Source().Text, lits, words, 0)
		for _, slot := range p.Slots() {
			if !slices.Contains(s.used, slot) {
				s.used = append(s.used, slot)
			}
		}
	}
	sort.Ints(s.used)
	for _, slot := range s.used {
		for len(s.slots) <= slot {
			s.slots = append(s.slots, nil)
		}
		s.slots[slot] = cellsOf(rules, cmd, slot, lits, words)
		if r, ok := fixed[slot]; ok {
			s.slots[slot] = []expr.Range{r}
		}
	}
	s.coarsen()
	return s
}

// literals collects the numbers and words of an expression, and of the signals
// that it names.
func literals(rules *safety.Rules, text string, lits map[lab.Dim][]lab.Quantity, words map[string]bool, depth int) {
	if depth > 16 {
		return
	}
	for _, spot := range expr.Spots(text) {
		switch spot.Kind {
		case expr.SpotNumber:
			if q, err := lab.ParseQuantity(strings.Replace(spot.Text, "- ", "-", 1)); err == nil {
				lits[q.Unit.Dim()] = append(lits[q.Unit.Dim()], q)
			}
		case expr.SpotName, expr.SpotValue:
			words[spot.Text] = true
			if def, ok := rules.Definition(spot.Text); ok {
				literals(rules, def.Text, lits, words, depth+1)
			}
		}
	}
}

// cellsOf cuts one signal.
func cellsOf(rules *safety.Rules, cmd lab.CommandID, slot int, lits map[lab.Dim][]lab.Quantity, words map[string]bool) []expr.Range {
	t, low, high := declared(rules, cmd, slot)
	switch t.Kind {
	case lab.Bool:
		return []expr.Range{expr.Exactly(lab.BoolValue(false)), expr.Exactly(lab.BoolValue(true))}
	case lab.Enum:
		var cells []expr.Range
		var rest []string
		for _, w := range t.Enum {
			if words[w] {
				cells = append(cells, expr.OneOf(w))
			} else {
				rest = append(rest, w)
			}
		}
		if len(rest) > 0 {
			cells = append(cells, expr.OneOf(rest...))
		}
		return cells
	case lab.Number, lab.Integer:
		return numberCells(t.Unit, low, high, lits[t.Unit.Dim()])
	}
	return []expr.Range{{}}
}

// declared is the type of a slot, and the ends of a number that its class and
// lab declare.
func declared(rules *safety.Rules, cmd lab.CommandID, slot int) (t lab.Type, low, high float64) {
	l := rules.Lab()
	low, high = -vast, vast
	if id, ok := rules.PropertyAt(slot); ok {
		t = l.PropertySpec(id).Type
	} else if name, ok := rules.ArgumentAt(slot); ok {
		if spec := l.CommandSpec(cmd); spec != nil && spec.Arg(name) != nil {
			return boundsOf(rules, cmd, spec.Arg(name))
		}
		return lab.Type{}, low, high
	} else {
		return lab.Type{Kind: lab.Bool}, low, high // the latch of a group
	}
	if t.Kind == lab.Number && t.Unit.Dim() == lab.Temperature {
		low = t.Unit.FromBase(0) // nothing is colder
	}
	return t, low, high
}

// boundsOf is what the class and the lab file allow of an argument.
func boundsOf(rules *safety.Rules, cmd lab.CommandID, p *lab.Param) (t lab.Type, low, high float64) {
	t, low, high = p.Type, -vast, vast
	if p.Min != nil {
		low = p.Min.Num
	}
	if p.MoreThan != nil {
		low = p.MoreThan.Num + sliver(t.Unit, p.MoreThan.Num)
	}
	if p.Max != nil {
		high = p.Max.Num
	}
	for _, r := range rules.Limits(cmd) {
		if !r.FromLab || r.Targets[0].Arg != p.Name {
			continue
		}
		if q, err := in(r.Limit.Min, t.Unit); err == nil {
			low = math.Max(low, q)
		}
		if q, err := in(r.Limit.Max, t.Unit); err == nil {
			high = math.Min(high, q)
		}
	}
	return t, low, high
}

var errNone = errors.New("no bound")

func in(q *lab.Quantity, u lab.Unit) (float64, error) {
	if q == nil {
		return 0, errNone
	}
	x, err := q.In(u)
	return x.Value, err
}

// sliver is far less than any two numbers of a file differ by, and more than
// any conversion rounds.
func sliver(u lab.Unit, v float64) float64 {
	size := math.Abs(v)
	if u.Dim().Point {
		size += 600
	}
	if size == 0 {
		return 1e-12
	}
	return 1e-9 * size
}

// numberCells are the literals as points, and the open stretches between.
func numberCells(u lab.Unit, low, high float64, lits []lab.Quantity) []expr.Range {
	var cuts []float64
	for _, q := range lits {
		if x, err := q.In(u); err == nil && x.Value >= low && x.Value <= high {
			cuts = append(cuts, x.Value)
		}
	}
	sort.Float64s(cuts)
	var cells []expr.Range
	add := func(a, b float64) {
		if a <= b {
			cells = append(cells, expr.Between(lab.Quantity{Value: a, Unit: u}, lab.Quantity{Value: b, Unit: u}))
		}
	}
	from := low
	for i, c := range cuts {
		eps := sliver(u, c)
		if i > 0 && c-cuts[i-1] <= 2*eps {
			continue // the same number in another unit
		}
		add(from, c-eps)
		add(c, c)
		from = c + eps
	}
	add(from, high)
	return cells
}

// coarsen joins the cells of the finest signals until the proof is small
// enough.
func (s *space) coarsen() {
	for {
		total, most := 1.0, -1
		for _, slot := range s.used {
			n := len(s.slots[slot])
			total *= float64(n)
			if most < 0 || n > len(s.slots[most]) {
				most = slot
			}
		}
		if total <= maxCells || most < 0 {
			return
		}
		all := s.slots[most][0]
		for _, r := range s.slots[most][1:] {
			all = all.Union(r)
		}
		s.slots[most] = []expr.Range{all}
	}
}

// any reports whether some cell satisfies ask. ask gets one range for each
// slot.
func (s *space) any(ask func(cell []expr.Range) bool) bool {
	cell := make([]expr.Range, len(s.slots))
	var try func(i int) bool
	try = func(i int) bool {
		if i == len(s.used) {
			return ask(cell)
		}
		for _, r := range s.slots[s.used[i]] {
			cell[s.used[i]] = r
			if try(i + 1) {
				return true
			}
		}
		return false
	}
	return try(0)
}

// canBe reports whether a condition can be true, or false, for known readings
// within its declared ranges. Where nothing can be proved it can be both.
func (s *space) canBe(p *expr.Program, t expr.Truth) bool {
	return s.any(func(cell []expr.Range) bool { return p.TruthsOver(cell).Has(t) })
}

// implies proves that b is true wherever a is, for known readings.
func (s *space) implies(a, b *expr.Program) bool {
	return !s.any(func(cell []expr.Range) bool {
		return can(a, cell, expr.True) && can(b, cell, expr.False)
	})
}

// exclude proves that no known readings make both true.
func (s *space) exclude(a, b *expr.Program) bool {
	return !s.any(func(cell []expr.Range) bool {
		return can(a, cell, expr.True) && can(b, cell, expr.True)
	})
}

func can(p *expr.Program, cell []expr.Range, t expr.Truth) bool { return p.TruthsOver(cell).Has(t) }

// subset reports whether every slot of a is one of b.
func subset(a, b []int) bool {
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}
