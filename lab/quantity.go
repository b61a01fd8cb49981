package lab

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Quantity is a number with a unit. The zero Quantity is the dimensionless 0.
type Quantity struct {
	Value float64
	Unit  Unit
}

// Q makes a quantity from a number and a unit that the caller knows to be
// valid; it panics on any other.
func Q(v float64, unit string) Quantity { return Quantity{v, mustUnit(unit)} }

// ParseQuantity reads "72 degC", "2s", "0.4 mL" or, dimensionless, "1.5".
// Not-a-number, infinities, hexadecimal, leading zeros and numbers too small to
// be told from 0 are errors.
func ParseQuantity(s string) (Quantity, error) {
	t := strings.TrimSpace(s)
	i := numberLen(t)
	if i == 0 {
		return Quantity{}, fmt.Errorf("%.60q is not a quantity: it starts with no number", s)
	}
	if i < len(t) && t[i] == ',' {
		return Quantity{}, fmt.Errorf("%.60q is not a quantity; write the decimal point as a point", s)
	}
	v, err := ParseNumber(t[:i])
	if err != nil {
		return Quantity{}, err
	}
	u, err := ParseUnit(t[i:])
	if err != nil {
		return Quantity{}, err
	}
	return Quantity{v, u}, nil
}

// ParseNumber reads a finite decimal number without a leading zero. A number
// that is not 0 but would become 0 is an error; -0 is 0.
func ParseNumber(s string) (float64, error) {
	digits := strings.TrimLeft(s, "+-")
	if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		return 0, fmt.Errorf("%.60q has a leading zero", s)
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || numberLen(s) != len(s) || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0, fmt.Errorf("%.60q is not a finite decimal number", s)
	}
	if v == 0 {
		mantissa, _, _ := strings.Cut(strings.ToLower(digits), "e")
		if strings.Trim(mantissa, "0.") != "" {
			return 0, fmt.Errorf("%.60q is too small to be told from 0", s)
		}
		return 0, nil
	}
	return v, nil
}

// numberLen is the length of the decimal number at the start of s.
func numberLen(s string) int {
	i, digits := 0, 0
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		i++
	}
	for ; i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.'); i++ {
		if s[i] != '.' {
			digits++
		}
	}
	if digits == 0 {
		return 0
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		j := i + 1
		if j < len(s) && (s[j] == '+' || s[j] == '-') {
			j++
		}
		k := j
		for k < len(s) && s[k] >= '0' && s[k] <= '9' {
			k++
		}
		if k > j {
			i = k
		}
	}
	return i
}

// Base is the value in SI base units.
func (q Quantity) Base() float64 { return q.Unit.ToBase(q.Value) }

// In converts to another unit of the same dimension.
func (q Quantity) In(u Unit) (Quantity, error) {
	if q.Unit.dim != u.dim {
		return Quantity{}, fmt.Errorf("%s is a %s, not a %s (%s)", q, q.Unit.dim, u.dim, u)
	}
	if q.Unit == u {
		return q, nil
	}
	if q.Unit.offset != u.offset { // in one step: through kelvins 212 degF would not be 100 degC
		a, b, c := q.Unit.num*u.den, math.Round((q.Unit.offset-u.offset)*q.Unit.den*u.den*1e6)/1e6, q.Unit.den*u.num
		return Quantity{(q.Value*a + b) / c, u}, nil
	}
	if u.num != 0 && q.Unit.num != 0 {
		return Quantity{q.Value * (q.Unit.num * u.den) / (q.Unit.den * u.num), u}, nil
	}
	return Quantity{u.FromBase(q.Base()), u}, nil
}

// Finite reports whether the number is neither NaN nor infinite.
func (q Quantity) Finite() bool { return !math.IsNaN(q.Value) && !math.IsInf(q.Value, 0) }

// Duration converts a quantity of time, to the nearest nanosecond. Anything
// else is an error, and so is what is longer than 1e9 s or shorter than half a
// nanosecond, but not 0.
func (q Quantity) Duration() (time.Duration, error) {
	s := q.Base()
	d := math.Round(s * 1e9)
	if q.Unit.dim != Time || !q.Finite() || math.Abs(s) > 1e9 || d == 0 && q.Value != 0 {
		return 0, fmt.Errorf("%s is not a duration", q)
	}
	return time.Duration(d), nil
}

// Seconds makes a quantity of time.
func Seconds(d time.Duration) Quantity { return Quantity{d.Seconds(), Second} }

// String writes "72 degC"; a dimensionless number stands alone.
func (q Quantity) String() string {
	n := FormatNumber(q.Value)
	if q.Unit == One {
		return n
	}
	return n + " " + q.Unit.String()
}

// FormatNumber writes a number for people: at most ten significant digits,
// without an exponent where that is readable.
func FormatNumber(v float64) string {
	s := strconv.FormatFloat(v, 'g', 10, 64)
	if a := math.Abs(v); a >= 1e-4 && a < 1e10 {
		s = strconv.FormatFloat(v, 'f', -1, 64)
		if len(s) > 12 {
			r, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 10, 64), 64)
			s = strconv.FormatFloat(r, 'f', -1, 64)
		}
	}
	return s
}

type quantityJSON struct {
	Value json.RawMessage `json:"value"`
	Unit  *string         `json:"unit"`
}

// MarshalJSON writes {"value": 72, "unit": "degC"}. A number that is not
// finite has no JSON form and is an error. The same amount has one form, over
// which it is hashed: -0 is written as 0, as it is read.
func (q Quantity) MarshalJSON() ([]byte, error) {
	if !q.Finite() {
		return nil, fmt.Errorf("quantity %v is not finite", q.Value)
	}
	u, err := json.Marshal(q.Unit.String())
	if err != nil {
		return nil, err
	}
	if q.Value == 0 {
		q.Value = 0 // it may have been -0
	}
	v, err := json.Marshal(q.Value)
	if err != nil {
		return nil, err
	}
	return slices.Concat([]byte(`{"value":`), v, []byte(`,"unit":`), u, []byte("}")), nil
}

// UnmarshalJSON reads what MarshalJSON writes; a missing or null value or unit
// is an error.
func (q *Quantity) UnmarshalJSON(b []byte) error {
	var j quantityJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	if j.Value == nil || j.Unit == nil || *j.Unit == "" {
		return fmt.Errorf("a quantity needs a value and a unit")
	}
	v, err := ParseNumber(string(j.Value))
	if err != nil {
		return err
	}
	u, err := ParseUnit(*j.Unit)
	if err != nil {
		return err
	}
	*q = Quantity{v, u}
	return nil
}
