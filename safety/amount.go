package safety

import (
	"math"
	"math/bits"
	"strconv"

	"labgate/lab"
)

// grain is the step in which a rule counts. Amounts are added as whole numbers
// of grains, so that sums are exact in decimals, as people write them: 300
// doses of 0.1 mL are 30 mL, and taking one back leaves nothing behind. What
// is finer than a grain is rounded against the command.
type grain struct {
	unit lab.Unit // absolute temperatures count in degC
	exp  int      // a grain is 10^exp of the unit
}

// How much finer than its bound a rule counts, in decimal digits. Distances
// are taken between values that may be far larger than the bound.
const (
	sumDigits      = 15
	distanceDigits = 12
)

// mostGrains bounds one amount; a larger one can't be counted, which denies.
const mostGrains = 1 << 62

var kelvin = lab.Q(1, "K").Unit

// grainOf is the grain of a bound.
func grainOf(bound lab.Quantity, digits int) grain {
	if bound.Value == 0 || !bound.Finite() {
		return grain{bound.Unit, -digits}
	}
	_, e := decimal(math.Abs(bound.Value))
	return grain{bound.Unit, e - digits}
}

// decimal is the exponent of the first digit of a positive number, and the
// shortest decimal that reads back as it: m * 10^last.
func decimal(v float64) (m decimalNumber, first int) {
	if v == math.Trunc(v) && v < 1e15 {
		m.digits = uint64(v)
		for x := m.digits; x >= 10; x /= 10 {
			first++
		}
		return m, first
	}
	var buf [32]byte
	s := strconv.AppendFloat(buf[:0], v, 'e', -1, 64)
	fraction, seen := 0, false
	for i, c := range s {
		switch {
		case c == '.':
			seen = true
		case c == 'e':
			for _, d := range s[i+2:] {
				first = 10*first + int(d-'0')
			}
			if s[i+1] == '-' {
				first = -first
			}
			m.exp = first - fraction
			return m, first
		default:
			m.digits = 10*m.digits + uint64(c-'0')
			if seen {
				fraction++
			}
		}
	}
	return m, first
}

// decimalNumber is digits * 10^exp.
type decimalNumber struct {
	digits uint64
	exp    int
}

var tens = func() (t [20]uint64) {
	t[0] = 1
	for i := 1; i < len(t); i++ {
		t[i] = 10 * t[i-1]
	}
	return t
}()

// of counts a quantity in grains: between lo and hi, which differ by one where
// it is finer than a grain. ok is false for what can't be counted: another
// dimension, not finite, too large.
func (g grain) of(q lab.Quantity) (lo, hi int64, ok bool) {
	if q.Unit != g.unit {
		var err error
		if q, err = q.In(g.unit); err != nil {
			return 0, 0, false
		}
	}
	if !q.Finite() {
		return 0, 0, false
	}
	m, _ := decimal(math.Abs(q.Value))
	shift := m.exp - g.exp
	switch {
	case m.digits == 0:
		return 0, 0, true
	case shift >= len(tens):
		return 0, 0, false
	case shift >= 0:
		over, n := bits.Mul64(m.digits, tens[shift])
		if over != 0 || n > mostGrains {
			return 0, 0, false
		}
		lo, hi = int64(n), int64(n)
	case -shift >= len(tens):
		hi = 1
	default:
		lo = int64(m.digits / tens[-shift])
		hi = lo
		if m.digits%tens[-shift] != 0 {
			hi++
		}
	}
	if q.Value < 0 {
		lo, hi = -hi, -lo
	}
	return lo, hi, true
}

// quantity is the number nearest to n grains.
func (g grain) quantity(n int64) lab.Quantity {
	v, err := strconv.ParseFloat(strconv.FormatInt(n, 10)+"e"+strconv.Itoa(g.exp), 64)
	if err != nil {
		v = math.NaN()
	}
	return lab.Quantity{Value: v, Unit: g.unit}
}

// within turns n grains into a value of a kind and unit that counts as at most
// n (where it is not to exceed) or at least n: a suggestion that the rule
// which made it would refuse is none.
func (g grain) within(n int64, like lab.Value, atMost bool) (lab.Value, bool) {
	q := g.quantity(n)
	if like.Kind == lab.Integer {
		v := math.Floor(q.Value)
		if !atMost {
			v = math.Ceil(q.Value)
		}
		_, hi, ok := g.of(lab.Quantity{Value: v, Unit: g.unit})
		if !ok || math.Abs(v) >= 1<<53 || atMost && hi > n {
			return lab.Value{}, false
		}
		return lab.IntegerValue(int64(v)), true
	}
	q, err := q.In(like.Unit)
	if err != nil || !q.Finite() {
		return lab.Value{}, false
	}
	for range 4 {
		lo, hi, ok := g.of(q)
		switch {
		case !ok:
			return lab.Value{}, false
		case atMost && hi > n:
			q.Value = math.Nextafter(q.Value, math.Inf(-1))
		case !atMost && lo < n:
			q.Value = math.Nextafter(q.Value, math.Inf(1))
		default:
			return lab.NumberValue(q), true
		}
	}
	return lab.Value{}, false
}

// sum is an exact sum of amounts, none of which is negative.
type sum struct{ hi, lo uint64 }

func (s *sum) add(n int64) {
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, uint64(n), 0)
	s.hi += carry
}

func (s *sum) sub(n int64) {
	var borrow uint64
	s.lo, borrow = bits.Sub64(s.lo, uint64(n), 0)
	s.hi -= borrow
}

// plus is the sum of two.
func (s sum) plus(o sum) sum {
	lo, carry := bits.Add64(s.lo, o.lo, 0)
	hi, _ := bits.Add64(s.hi, o.hi, carry)
	return sum{hi, lo}
}

// left is what is missing to max, negative where that is passed.
func (s sum) left(max int64) int64 {
	switch {
	case s.hi != 0 || s.lo > mostGrains:
		return -mostGrains
	}
	return max - int64(s.lo)
}

// whole is a sum as an amount: as much as one can be.
func (s sum) whole() int64 { return -s.left(0) }

func (s sum) less(o sum) bool { return s.hi < o.hi || s.hi == o.hi && s.lo < o.lo }
