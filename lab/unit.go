package lab

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Dim is the dimension of a quantity: exponents of the SI base units and of the
// plane angle, and whether it names a point on a scale (an absolute
// temperature) rather than a difference. The zero Dim is dimensionless. Dims
// are comparable with ==.
//
// The SI counts angles as dimensionless; here they are kept apart, or 10 rad/s
// could pass for 600 rpm.
type Dim struct {
	L, M, T, I, Θ, N, J int8
	A                   int8 // plane angle
	Point               bool // an absolute temperature (degC); a plain K is a difference
}

// maxExponent bounds the exponents of a dimension: an int8 that wraps around
// would make a length of a pure number.
const maxExponent = 99

// Dimensions that messages and checks name.
var (
	None        = Dim{}
	Time        = Dim{T: 1}
	Temperature = Dim{Θ: 1, Point: true}
	TempDiff    = Dim{Θ: 1}
)

// Mul returns the dimension of a product. ok is false where either side is a
// point (an absolute temperature can't be scaled), or an exponent leaves all
// bounds.
func (d Dim) Mul(o Dim) (Dim, bool) { return d.combine(o, 1) }

// Div returns the dimension of a ratio, with the same rule as Mul.
func (d Dim) Div(o Dim) (Dim, bool) { return d.combine(o, -1) }

func (d Dim) combine(o Dim, sign int) (Dim, bool) {
	ok := !d.Point && !o.Point
	add := func(a, b int8) int8 {
		e := int(a) + sign*int(b)
		if e > maxExponent || e < -maxExponent {
			ok = false
		}
		return int8(e)
	}
	return Dim{L: add(d.L, o.L), M: add(d.M, o.M), T: add(d.T, o.T), I: add(d.I, o.I), Θ: add(d.Θ, o.Θ), N: add(d.N, o.N), J: add(d.J, o.J), A: add(d.A, o.A)}, ok
}

// Add returns the dimension of a sum: point + difference = point; ok is false
// for point + point and for unequal dimensions.
func (d Dim) Add(o Dim) (Dim, bool) {
	if d.bare() != o.bare() || d.Point && o.Point {
		return Dim{}, false
	}
	d.Point = d.Point || o.Point
	return d, true
}

// Sub returns the dimension of a difference: point - point = difference,
// point - difference = point; difference - point is refused.
func (d Dim) Sub(o Dim) (Dim, bool) {
	if d.bare() != o.bare() || !d.Point && o.Point {
		return Dim{}, false
	}
	d.Point = d.Point && !o.Point
	return d, true
}

func (d Dim) bare() Dim { d.Point = false; return d }

// String names the dimension for people: "volume", "temperature", or its base
// units where it has no common name.
func (d Dim) String() string {
	if n, ok := dimNames[d]; ok {
		return n
	}
	var parts []string
	for _, p := range []struct {
		e int8
		s string
	}{{d.L, "m"}, {d.M, "kg"}, {d.T, "s"}, {d.I, "A"}, {d.Θ, "K"}, {d.N, "mol"}, {d.J, "cd"}, {d.A, "rad"}} {
		if p.e == 1 {
			parts = append(parts, p.s)
		} else if p.e != 0 {
			parts = append(parts, p.s+strconv.Itoa(int(p.e)))
		}
	}
	return strings.Join(parts, ".")
}

var dimNames = map[Dim]string{
	{}: "dimensionless", {L: 1}: "length", {M: 1}: "mass", {T: 1}: "time", {I: 1}: "current",
	{Θ: 1, Point: true}: "temperature", {Θ: 1}: "temperature difference", {N: 1}: "amount",
	{L: 3}: "volume", {L: 2}: "area", {L: 3, T: -1}: "flow", {L: 1, T: -1}: "speed", {T: -1}: "frequency",
	{L: 1, T: -2}: "acceleration", {M: 1, L: -1, T: -2}: "pressure", {M: 1, L: 2, T: -2}: "energy",
	{M: 1, L: 2, T: -3}: "power", {N: 1, L: -3}: "concentration", {M: 1, L: -3}: "density",
	{M: 1, L: 1, T: -2}: "force", {M: 1, L: 2, T: -3, I: -1}: "voltage", {Θ: 1, T: -1}: "temperature rate",
	{M: 1, T: -1}: "mass flow", {N: 1, T: -1}: "amount flow", {M: 1, L: 2, T: -3, I: -2}: "resistance",
	{A: 1}: "angle", {A: 1, T: -1}: "angular speed",
}

// Unit is a UCUM unit, simple or composed ("mL/min", "K/s"). The zero Unit is
// the dimensionless "1". Spellings of one unit are one Unit: "ml", "µL/min" and
// "uL/min" compare with == as they should. A Unit converts by a ratio, num/den,
// and for absolute temperatures an offset. Both parts of the ratio are integers
// (of all but u and eV), held exactly up to 1e22, so that equal amounts in
// different units compare equal.
type Unit struct {
	symbol   string
	dim      Dim
	num, den float64
	offset   float64
}

// One is the dimensionless unit.
var One = Unit{}

// Units that code (not only files) speaks of.
var (
	Second  = mustUnit("s")
	DegC    = mustUnit("degC")
	Percent = mustUnit("%")
)

// String is the unit as it is written in files and messages.
func (u Unit) String() string {
	if u.symbol == "" {
		return "1"
	}
	return u.symbol
}

// Dim is the unit's dimension.
func (u Unit) Dim() Dim { return u.dim }

// ToBase converts a value in this unit to SI base units (kelvin for absolute
// temperatures).
func (u Unit) ToBase(v float64) float64 {
	if u.den == 0 {
		return v
	}
	return v*u.num/u.den + u.offset
}

// FromBase converts SI base units to this unit.
func (u Unit) FromBase(v float64) float64 {
	if u.den == 0 {
		return v
	}
	return (v - u.offset) * u.den / u.num
}

type atom struct {
	dim      Dim
	num, den float64
	offset   float64
	prefixes bool
}

// MaxUnit bounds the text of a unit.
const MaxUnit = 64 // bytes

// atoms: UCUM codes (and the few common spellings a laboratory writes).
// Revolutions count as dimensionless.
var atoms = map[string]atom{
	"1": {None, 1, 1, 0, false}, "%": {None, 1, 100, 0, false}, "ppm": {None, 1, 1e6, 0, false}, "ppb": {None, 1, 1e9, 0, false},
	"m": {Dim{L: 1}, 1, 1, 0, true}, "in": {Dim{L: 1}, 254, 10000, 0, false}, "Ao": {Dim{L: 1}, 1, 1e10, 0, false},
	"g": {Dim{M: 1}, 1, 1000, 0, true}, "u": {Dim{M: 1}, 1.6605390666e-27, 1, 0, false},
	"s": {Time, 1, 1, 0, true}, "min": {Time, 60, 1, 0, false}, "h": {Time, 3600, 1, 0, false}, "d": {Time, 86400, 1, 0, false}, "days": {Time, 86400, 1, 0, false}, "wk": {Time, 604800, 1, 0, false},
	"A": {Dim{I: 1}, 1, 1, 0, true}, "K": {TempDiff, 1, 1, 0, true},
	"degC": {Temperature, 1, 1, 273.15, false}, "degF": {Temperature, 5, 9, 459.67 * 5 / 9, false},
	"mol": {Dim{N: 1}, 1, 1, 0, true}, "cd": {Dim{J: 1}, 1, 1, 0, false},
	"L": {Dim{L: 3}, 1, 1000, 0, true}, "M": {Dim{N: 1, L: -3}, 1000, 1, 0, true},
	"Hz": {Dim{T: -1}, 1, 1, 0, true}, "rpm": {Dim{T: -1}, 1, 60, 0, false},
	"N": {Dim{M: 1, L: 1, T: -2}, 1, 1, 0, true}, "Pa": {Dim{M: 1, L: -1, T: -2}, 1, 1, 0, true},
	"bar": {Dim{M: 1, L: -1, T: -2}, 1e5, 1, 0, true}, "atm": {Dim{M: 1, L: -1, T: -2}, 101325, 1, 0, false},
	"Torr": {Dim{M: 1, L: -1, T: -2}, 101325, 760, 0, false}, "psi": {Dim{M: 1, L: -1, T: -2}, 6894757293168, 1e9, 0, false},
	"J": {Dim{M: 1, L: 2, T: -2}, 1, 1, 0, true}, "W": {Dim{M: 1, L: 2, T: -3}, 1, 1, 0, true},
	"V": {Dim{M: 1, L: 2, T: -3, I: -1}, 1, 1, 0, true}, "Ohm": {Dim{M: 1, L: 2, T: -3, I: -2}, 1, 1, 0, true},
	"C": {Dim{I: 1, T: 1}, 1, 1, 0, true}, "F": {Dim{M: -1, L: -2, T: 4, I: 2}, 1, 1, 0, true},
	"lx": {Dim{J: 1, L: -2}, 1, 1, 0, false}, "rad": {Dim{A: 1}, 1, 1, 0, true}, "deg": {Dim{A: 1}, math.Pi, 180, 0, false},
	"eV": {Dim{M: 1, L: 2, T: -2}, 1.602176634e-19, 1, 0, true}, "gn": {Dim{L: 1, T: -2}, 980665, 100000, 0, false},
}

var prefixes = map[string][2]float64{
	"f": {1, 1e15}, "p": {1, 1e12}, "n": {1, 1e9}, "u": {1, 1e6}, "m": {1, 1e3}, "c": {1, 100}, "d": {1, 10},
	"k": {1e3, 1}, "M": {1e6, 1}, "G": {1e9, 1},
}

var aliases = map[string]string{
	"": "1", "°C": "degC", "Cel": "degC", "°F": "degF", "[degF]": "degF", "l": "L", "ml": "mL", "ul": "uL", "µL": "uL", "μL": "uL", "µm": "um", "μm": "um",
	"sec": "s", "hr": "h", "hour": "h", "hours": "h", "day": "d", "week": "wk", "weeks": "wk", "[ppm]": "ppm", "rev/min": "rpm", "Ω": "Ohm", "Å": "Ao", "µs": "us", "μs": "us", "[psi]": "psi",
}

// ParseUnit reads a UCUM unit: atoms with prefixes and whole exponents, joined
// by "." (or "*") and "/" ("mL/min", "m/s2", "mmol/L", "1/s"). Absolute
// temperatures can't be composed: rates of temperature are in K. Nothing at all
// is the dimensionless unit.
func ParseUnit(s string) (Unit, error) {
	s = strings.TrimSpace(s)
	if len(s) > MaxUnit {
		return Unit{}, fmt.Errorf("unit %.20q… is longer than %d bytes", s, MaxUnit)
	}
	if a, ok := aliases[s]; ok {
		s = a
	}
	if s == "1" {
		return One, nil
	}
	u := Unit{num: 1, den: 1}
	sign, rest := 1, s
	for {
		i := strings.IndexAny(rest, "./*")
		tok := rest
		if i >= 0 {
			tok = rest[:i]
		}
		if err := u.times(tok, sign, i < 0 && len(rest) == len(s)); err != nil {
			return Unit{}, fmt.Errorf("unit %q: %w", s, err)
		}
		if i < 0 {
			return u, nil
		}
		if rest[i] == '/' {
			sign, u.symbol = -1, u.symbol+"/"
		} else {
			sign, u.symbol = 1, u.symbol+"."
		}
		rest = rest[i+1:]
	}
}

// times multiplies u by one token, an atom with an optional prefix and
// exponent, raised to sign.
func (u *Unit) times(tok string, sign int, alone bool) error {
	name, exp := splitExponent(tok)
	a, name, ok := lookupAtom(name)
	if !ok {
		return unknownUnit(tok)
	}
	if a.dim.Point && !(alone && exp == 1) {
		return fmt.Errorf("an absolute temperature can't be part of a composed unit; use K")
	}
	u.symbol += name
	if exp != 1 {
		u.symbol += strconv.Itoa(exp)
	}
	if a.dim.Point {
		u.dim, u.num, u.den, u.offset = a.dim, a.num, a.den, a.offset
		return nil
	}
	if exp < 0 {
		exp, sign = -exp, -sign
	}
	for range exp {
		if sign > 0 {
			u.num, u.den = u.num*a.num, u.den*a.den
			u.dim, ok = u.dim.Mul(a.dim)
		} else {
			u.num, u.den = u.num*a.den, u.den*a.num
			u.dim, ok = u.dim.Div(a.dim)
		}
		// An infinite part would make every value 0, or no number.
		if !ok || u.num > 1e100 || u.den > 1e100 || u.num < 1e-100 || u.den < 1e-100 {
			return fmt.Errorf("it goes beyond what can be converted")
		}
		u.reduce()
	}
	return nil
}

// reduce keeps both parts of the ratio small, so that they stay exact.
func (u *Unit) reduce() {
	if g := gcd(u.num, u.den); g > 1 {
		u.num, u.den = u.num/g, u.den/g
	}
}

// splitExponent cuts "m2" or "s-1" in two. What is no exponent stays with the
// name, so that it is not found.
func splitExponent(tok string) (string, int) {
	i := len(tok)
	for i > 0 && (tok[i-1] >= '0' && tok[i-1] <= '9') {
		i--
	}
	if i == 0 || i != len(tok)-1 || tok[i] == '0' {
		return tok, 1
	}
	n := int(tok[i] - '0')
	if tok[i-1] == '-' {
		i, n = i-1, -n
	}
	if i == 0 || tok[:i] == "1" {
		return tok, 1
	}
	return tok[:i], n
}

// lookupAtom finds an atom with an optional prefix, and how it is spelled.
func lookupAtom(s string) (atom, string, bool) {
	if a, ok := aliases[s]; ok && s != "" {
		s = a
	}
	if a, ok := atoms[s]; ok {
		return a, s, true
	}
	for _, cut := range []int{1, 2} { // "µ" is two bytes
		if len(s) <= cut {
			break
		}
		p, rest := s[:cut], s[cut:]
		if p == "µ" || p == "μ" {
			p = "u"
		}
		f, ok := prefixes[p]
		if !ok {
			continue
		}
		if a, ok := atoms[rest]; ok && a.prefixes {
			a.num, a.den = a.num*f[0], a.den*f[1]
			if g := gcd(a.num, a.den); g > 1 {
				a.num, a.den = a.num/g, a.den/g
			}
			return a, p + rest, true
		}
	}
	return atom{}, "", false
}

func gcd(a, b float64) float64 {
	if a != math.Trunc(a) || b != math.Trunc(b) || a > 1<<53 || b > 1<<53 {
		return 1
	}
	for b != 0 {
		a, b = b, math.Mod(a, b)
	}
	return a
}

// UnitHint is what to say beside an error of ParseUnit or ParseQuantity that
// names no unit which was meant.
func UnitHint(err error) string {
	if err == nil || !strings.Contains(err.Error(), "is not a unit") || strings.Contains(err.Error(), "did you mean") {
		return ""
	}
	return "units are those of UCUM, such as mL, mL/min, degC, K, rpm, nm, 1"
}

func unknownUnit(tok string) error {
	var names []string
	for n, a := range atoms {
		names = append(names, n)
		if a.prefixes {
			names = append(names, "m"+n, "u"+n, "n"+n, "k"+n)
		}
	}
	if tok == "" {
		return fmt.Errorf("a unit is missing beside a . or /")
	}
	if near := Nearest(tok, names); near != "" {
		return fmt.Errorf("%q is not a unit; did you mean %q?", tok, near)
	}
	return fmt.Errorf("%q is not a unit", tok)
}

func mustUnit(s string) Unit {
	u, err := ParseUnit(s)
	if err != nil {
		panic(err)
	}
	return u
}
