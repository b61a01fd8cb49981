package drivers

import (
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"labgate/lab"
)

// wholeWithin is how far a number may be from a whole one, relative to it, by
// nothing but the arithmetic of a unit conversion.
const wholeWithin = 1e-9

// MaxWhole is the largest whole number that a float64 holds without a gap.
const MaxWhole = 1 << 53

// Whole returns the whole number that x is, up to the last bits that a unit
// conversion may have cost (0.3 in steps of 0.1 is 3). It never rounds: 2.5 is
// no whole number, nor is anything beyond ±2⁵³.
func Whole(x float64) (float64, bool) {
	n := math.Round(x)
	ok := math.Abs(x-n) <= wholeWithin*math.Max(1, math.Abs(n)) && math.Abs(n) <= MaxWhole
	return n, ok // NaN and infinities fail both comparisons
}

// FromWire makes a value of type t from a number on the wire, that counts in
// steps of scale units (0 means 1). A number that is not finite comes back as
// such, together with an error.
func FromWire(raw float64, unit lab.Unit, scale float64, t lab.Type) (lab.Value, error) {
	if scale == 0 {
		scale = 1
	}
	raw *= scale
	switch t.Kind {
	case lab.Number:
		return t.Conform(lab.NumberValue(lab.Quantity{Value: raw, Unit: unit}))
	case lab.Integer:
		n, ok := Whole(raw)
		if !ok {
			return lab.Value{}, fmt.Errorf("%v is not a whole number", raw)
		}
		return lab.IntegerValue(int64(n)), nil
	}
	return lab.Value{}, fmt.Errorf("a number; a %s is wanted", t)
}

// ToWire is the number that stands on the wire for a value, in steps of scale
// units (0 means 1). The wire's own format may still be unable to carry it.
func ToWire(v lab.Value, unit lab.Unit, scale float64) (float64, error) {
	if scale == 0 {
		scale = 1
	}
	x := v.Num
	switch v.Kind {
	case lab.Number:
		q, err := v.Quantity().In(unit)
		if err != nil {
			return 0, err
		}
		x = q.Value
	case lab.Integer:
	default:
		return 0, fmt.Errorf("%s is a %s; a number is wanted", v, v.Kind)
	}
	x /= scale
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, fmt.Errorf("%s is not finite on the wire", v)
	}
	return x, nil
}

// FromName makes an enum, bool or text of type t from a name on the wire: by
// the profile's map where there is one, which then has to know the name.
func FromName(wire string, m map[string]string, t lab.Type) (lab.Value, error) {
	name, ok := wire, true
	if m != nil {
		name, ok = m[wire]
	}
	switch {
	case !ok:
	case t.Kind == lab.Bool && m != nil && (name == "true" || name == "false"):
		return lab.BoolValue(name == "true"), nil
	case t.Kind == lab.Enum:
		return t.Conform(lab.EnumValue(name))
	case t.Kind == lab.Text:
		return lab.TextValue(name), nil
	}
	return lab.Value{}, fmt.Errorf("%s means nothing for a %s", Printable(wire, 40), t)
}

// Printable makes text from a device harmless to show and keep: at most limit
// runes, with everything that is not printable (line ends, terminal controls,
// marks that turn the writing direction, broken UTF-8) as an escape.
func Printable(s string, limit int) string {
	var b strings.Builder
	for n := 0; len(s) > 0; n++ {
		if n == limit {
			b.WriteString("…")
			break
		}
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r == '\\':
			b.WriteString(`\\`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		s = s[size:]
	}
	return b.String()
}
