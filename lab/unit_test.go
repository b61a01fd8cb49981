package lab

import (
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestConversions: every expectation is exact, to the last bit.
func TestConversions(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"5000 uL", "mL", "5 mL"}, {"5 mL", "uL", "5000 uL"}, {"300 uL", "mL", "0.3 mL"}, {"0.4 mL", "L", "0.0004 L"}, {"1 L", "dm3", "1 dm3"}, {"1 mL", "cm3", "1 cm3"},
		{"1 m3", "L", "1000 L"}, {"1 fL", "um3", "1 um3"}, {"1e9 nm3", "um3", "1 um3"},
		{"5 mL/min", "mL/h", "300 mL/h"}, {"6 mL/min", "uL/s", "100 uL/s"}, {"1 L/h", "mL/min", "16.666666666666668 mL/min"}, {"0.3 mL/min", "uL/min", "300 uL/min"},
		{"400 rpm", "Hz", "6.666666666666667 Hz"}, {"60 rpm", "1/s", "1 1/s"}, {"1 kHz", "rpm", "60000 rpm"}, {"1 1/min", "rpm", "1 rpm"}, {"1 s-1", "Hz", "1 Hz"},
		{"0 degC", "degF", "32 degF"}, {"32 degF", "degC", "0 degC"}, {"212 degF", "degC", "100 degC"}, {"100 degC", "degF", "212 degF"}, {"98.6 degF", "degC", "37 degC"},
		{"-40 degC", "degF", "-40 degF"}, {"197.6 degF", "degC", "92 degC"}, {"70 °C", "degC", "70 degC"},
		{"50 %", "1", "0.5"}, {"0.5", "%", "50 %"}, {"20.9 %", "ppm", "209000 ppm"}, {"1 ppm", "ppb", "1000 ppb"}, {"1 %", "ppm", "10000 ppm"},
		{"1 h", "s", "3600 s"}, {"1.5 hours", "min", "90 min"}, {"180 days", "d", "180 d"}, {"2 weeks", "days", "14 days"}, {"500 ms", "s", "0.5 s"}, {"1.5 min", "s", "90 s"}, {"250 us", "ms", "0.25 ms"},
		{"1 in", "mm", "25.4 mm"}, {"0.1 um", "nm", "100 nm"}, {"532 nm", "um", "0.532 um"}, {"5 Ao", "nm", "0.5 nm"},
		{"1 atm", "Pa", "101325 Pa"}, {"760 Torr", "atm", "1 atm"}, {"1 bar", "kPa", "100 kPa"}, {"1 mbar", "Pa", "100 Pa"}, {"1 psi", "Pa", "6894.757293168 Pa"},
		{"1 kg", "g", "1000 g"}, {"1 mg", "kg", "1e-6 kg"}, {"1 N", "kg.m/s2", "1 kg.m/s2"}, {"1 J", "kg.m2/s2", "1 kg.m2/s2"}, {"1 W.s", "J", "1 J"}, {"1 V.A", "W", "1 W"},
		{"1 M", "mol/L", "1 mol/L"}, {"10 mmol/L", "mM", "10 mM"}, {"1 mol/m3", "mM", "1 mM"}, {"1 g/mL", "kg/m3", "1000 kg/m3"}, {"9.80665 m/s2", "gn", "1 gn"},
		{"1 K/min", "mK/s", "16.666666666666668 mK/s"}, {"1 m/s/s", "m/s2", "1 m/s2"}, {"1 m*s", "m.s", "1 m.s"}, {"180 deg", "rad", "3.141592653589793 rad"},
		{"1 C", "A.s", "1 A.s"}, {"1 F", "C/V", "1 C/V"}, {"1 Ohm", "V/A", "1 V/A"}, {"1 Ω", "kOhm", "0.001 kOhm"},
	} {
		q, err := ParseQuantity(c.from)
		if err != nil {
			t.Errorf("%s: %v", c.from, err)
			continue
		}
		want, err := ParseQuantity(c.want)
		if err != nil {
			t.Fatal(err)
		}
		u, err := ParseUnit(c.to)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := q.In(u); err != nil || got != want {
			t.Errorf("%s in %s: got %.17g %s, %v; want %s", c.from, c.to, got.Value, got.Unit, err, c.want)
		}
	}
}

// TestEqualAmountsCompareEqual: one amount written in two units is one number
// in base units, bit by bit, where both texts are whole numbers.
func TestEqualAmountsCompareEqual(t *testing.T) {
	for _, c := range [][2]string{
		{"5000 uL", "5 mL"}, {"5 mL", "5 cm3"}, {"1 L", "1000 mL"}, {"120 mL/h", "2 mL/min"}, {"60 rpm", "1 Hz"}, {"50 %", "500000 ppm"}, {"1 h", "60 min"},
		{"2 s", "2000 ms"}, {"1 m", "1000000 um"}, {"25 mM", "25 mmol/L"}, {"3 bar", "300 kPa"}, {"7 K", "7000 mK"}, {"1 kg", "1000000 mg"}, {"12 mm", "12000000 nm"},
	} {
		a, errA := ParseQuantity(c[0])
		b, errB := ParseQuantity(c[1])
		if errA != nil || errB != nil || a.Base() != b.Base() {
			t.Errorf("%s is %.17g, %s is %.17g (%v, %v)", c[0], a.Base(), c[1], b.Base(), errA, errB)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := float64(rapid.IntRange(0, 1_000_000).Draw(t, "n"))
		pair := rapid.SampledFrom([][2]string{{"mL", "uL"}, {"s", "ms"}, {"L/min", "mL/min"}, {"m", "mm"}, {"M", "mM"}, {"kPa", "Pa"}}).Draw(t, "units")
		if a, b := Q(n, pair[0]), Q(n*1000, pair[1]); a.Base() != b.Base() {
			t.Fatalf("%s is %.17g, %s is %.17g", a, a.Base(), b, b.Base())
		}
	})
}

func TestUnitsThatDontMix(t *testing.T) {
	for _, c := range []struct{ q, to, say string }{
		{"300 K", "degC", "300 K is a temperature difference, not a temperature (degC)"},
		{"70 degC", "K", "70 degC is a temperature, not a temperature difference (K)"},
		{"5 mL", "mL/min", "5 mL is a volume, not a flow (mL/min)"},
		{"5", "mL", "5 is a dimensionless, not a volume (mL)"},
		{"10 rad/s", "rpm", "10 rad/s is a angular speed, not a frequency (rpm)"}, // not 600 rpm
		{"360 deg", "1", "360 deg is a angle, not a dimensionless (1)"},
		{"5 g", "mol", "5 g is a mass, not a amount (mol)"},
		{"5 %", "ppm.m", "5 % is a dimensionless, not a length (ppm.m)"},
	} {
		q, err := ParseQuantity(c.q)
		if err != nil {
			t.Fatal(err)
		}
		u, err := ParseUnit(c.to)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := q.In(u); err == nil || got != (Quantity{}) || err.Error() != c.say {
			t.Errorf("%s in %s: %v, %v", c.q, c.to, got, err)
		}
	}
}

// TestSpellings: spellings of one unit are one Unit.
func TestSpellings(t *testing.T) {
	for alias, name := range aliases {
		a, err := ParseUnit(alias)
		if err != nil {
			t.Errorf("%q: %v", alias, err)
			continue
		}
		if b, err := ParseUnit(name); err != nil || a != b {
			t.Errorf("%q is %+v, %q is %+v, %v", alias, a, name, b, err)
		}
	}
	for _, c := range []struct{ in, want string }{
		{"", "1"}, {" 1 ", "1"}, {"ml/min", "mL/min"}, {"µL/min", "uL/min"}, {"μL/s", "uL/s"}, {"l/h", "L/h"}, {"°C", "degC"}, {"Cel", "degC"}, {"µg/ml", "ug/mL"},
		{"m*s", "m.s"}, {"m/s2", "m/s2"}, {"s-1", "s-1"}, {"1/s", "1/s"}, {"m1", "m"}, {"rev/min", "rpm"}, {"mmol/l", "mmol/L"}, {"µm2", "um2"}, {"m/sec", "m/s"},
	} {
		u, err := ParseUnit(c.in)
		if err != nil || u.String() != c.want {
			t.Errorf("%q: got %q, %v; want %q", c.in, u, err, c.want)
			continue
		}
		if again, err := ParseUnit(u.String()); err != nil || again != u {
			t.Errorf("%q: %q is read as %+v, not %+v: %v", c.in, u, again, u, err)
		}
	}
}

// TestEveryAtom: each atom, with each prefix it takes, is read as itself. No
// two names are one text, and a prefix never makes another atom.
func TestEveryAtom(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(atoms)) {
		a := atoms[name]
		u, err := ParseUnit(name)
		if err != nil || u.String() != name || u.Dim() != a.dim {
			t.Errorf("%s: %+v, %v", name, u, err)
		}
		for p, f := range prefixes {
			if _, taken := atoms[p+name]; taken || !a.prefixes { // min is a minute, not a milliinch
				continue
			}
			if _, taken := aliases[p+name]; taken {
				continue
			}
			u, err := ParseUnit(p + name)
			want := a.num / a.den * (f[0] / f[1])
			if err != nil || u.Dim() != a.dim || math.Abs(u.ToBase(1)-want) > 1e-12*want {
				t.Errorf("%s%s: %+v, %v; want a factor of %g", p, name, u, err, want)
			}
		}
		if a.num <= 0 || a.den <= 0 {
			t.Errorf("%s: factor %g/%g", name, a.num, a.den)
		}
	}
}

func TestBadUnits(t *testing.T) {
	long := strings.Repeat("m.", 40) + "m"
	for _, c := range []struct{ in, say string }{
		{"mx", `unit "mx": "mx" is not a unit; did you mean "lx"?`},
		{"Ml", `unit "Ml": "Ml" is not a unit; did you mean "mL"?`},
		{"degc", `unit "degc": "degc" is not a unit; did you mean "degC"?`},
		{"minutes", `unit "minutes": "minutes" is not a unit`},
		{"RPM", `unit "RPM": "RPM" is not a unit; did you mean "rpm"?`},
		{"xyzzy", `unit "xyzzy": "xyzzy" is not a unit`},
		{"mL/", `unit "mL/": a unit is missing beside a . or /`},
		{"/min", `unit "/min": a unit is missing beside a . or /`},
		{"mL//min", `unit "mL//min": a unit is missing beside a . or /`},
		{".", `unit ".": a unit is missing beside a . or /`},
		{"mL min", `unit "mL min": "mL min" is not a unit`},
		{"degC/min", `unit "degC/min": an absolute temperature can't be part of a composed unit; use K`},
		{"1/degC", `unit "1/degC": an absolute temperature can't be part of a composed unit; use K`},
		{"degC2", `unit "degC2": an absolute temperature can't be part of a composed unit; use K`},
		{"degC.m", `unit "degC.m": an absolute temperature can't be part of a composed unit; use K`},
		{"°F/h", `unit "°F/h": an absolute temperature can't be part of a composed unit; use K`},
		{"mdegC", `unit "mdegC": "mdegC" is not a unit; did you mean "degC"?`},
		{"kmin", `unit "kmin": "kmin" is not a unit; did you mean "min"?`},
		{"m10", `unit "m10": "m10" is not a unit`},
		{"m02", `unit "m02": "m02" is not a unit`},
		{"m0", `unit "m0": "m0" is not a unit; did you mean "m"?`},
		{"1-1", `unit "1-1": "1-1" is not a unit`},
		{"2", `unit "2": "2" is not a unit; did you mean "%"?`},
		{"-", `unit "-": "-" is not a unit; did you mean "%"?`},
		{"s--1", ``}, {"s^2", ``}, {"m²", ``}, {"kkg", ``}, {"m\x00", ``}, {"\xff", ``}, {"%%", ``},
		{"nm9.nm9.nm9.nm9", `unit "nm9.nm9.nm9.nm9": it goes beyond what can be converted`}, // a factor of 0
		{"m9.m9.m9.m9.m9.m9.m9.m9.m9.m9.m9.m9", `unit "m9.m9.m9.m9.m9.m9.m9.m9.m9.m9.m9.m9": it goes beyond what can be converted`},
		{long, `unit "m.m.m.m.m.m.m.m.m.m."… is longer than 64 bytes`},
		{strings.Repeat("x", 1<<20), `unit "xxxxxxxxxxxxxxxxxxxx"… is longer than 64 bytes`},
	} {
		u, err := ParseUnit(c.in)
		if err == nil || u != (Unit{}) || c.say != "" && err.Error() != c.say {
			t.Errorf("%.40q: %+v, %v; want %s", c.in, u, err, c.say)
		}
	}
}

// unitText draws a unit that can be read.
func unitText(t *rapid.T) string {
	var simple []string
	for n, a := range atoms {
		if n != "1" && !a.dim.Point {
			simple = append(simple, n)
			if a.prefixes {
				simple = append(simple, "m"+n, "k"+n)
			}
		}
	}
	slices.Sort(simple)
	s := ""
	for i := range rapid.IntRange(1, 3).Draw(t, "factors") {
		if i > 0 {
			s += rapid.SampledFrom([]string{".", "/"}).Draw(t, "by")
		}
		s += rapid.SampledFrom(simple).Draw(t, "atom") + rapid.SampledFrom([]string{"", "", "2", "-1"}).Draw(t, "exponent")
	}
	return s
}

func TestUnitRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := unitText(t)
		u, err := ParseUnit(text)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseUnit(u.String()); err != nil || again != u {
			t.Fatalf("%q, written %q, is read as %+v, %v", text, u, again, err)
		}
		x := rapid.Float64Range(-1e6, 1e6).Draw(t, "x")
		if got := u.FromBase(u.ToBase(x)); !near(got, x) {
			t.Fatalf("%g %s came back as %g", x, u, got)
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		group := rapid.SampledFrom([][]string{{"mL", "L", "uL", "m3", "cm3"}, {"degC", "degF"}, {"s", "min", "h", "ms", "d"}, {"1", "%", "ppm"}, {"mL/min", "uL/s", "L/h"}, {"rpm", "Hz", "1/h"}, {"Pa", "bar", "psi", "Torr"}}).Draw(t, "group")
		a, b := rapid.SampledFrom(group).Draw(t, "a"), rapid.SampledFrom(group).Draw(t, "b")
		q := Q(rapid.Float64Range(-1e6, 1e6).Draw(t, "x"), a)
		there, err := q.In(Q(0, b).Unit)
		if err != nil {
			t.Fatal(err)
		}
		back, err := there.In(q.Unit)
		if err != nil || math.Abs(back.Value-q.Value) > 1e-9*math.Max(1, math.Abs(q.Value)) {
			t.Fatalf("%s is %s is %s, %v", q, there, back, err)
		}
		if math.Abs(there.Base()-q.Base()) > 1e-9*math.Max(1e-9, math.Abs(q.Base())) {
			t.Fatalf("%s is %g, %s is %g", q, q.Base(), there, there.Base())
		}
	})
}

// near allows for rounding, and for what numbers near the smallest one lose.
func near(a, b float64) bool {
	return math.Abs(a-b) <= 1e-12*math.Max(math.Abs(a), math.Abs(b))+1e-250
}

func TestDimAlgebra(t *testing.T) {
	volume, flow := Dim{L: 3}, Dim{L: 3, T: -1}
	type op func(a, b Dim) (Dim, bool)
	for _, c := range []struct {
		name string
		op   op
		a, b Dim
		want Dim
		ok   bool
	}{
		{"volume / flow", Dim.Div, volume, flow, Time, true},
		{"flow * time", Dim.Mul, flow, Time, volume, true},
		{"point + difference", Dim.Add, Temperature, TempDiff, Temperature, true},
		{"difference + point", Dim.Add, TempDiff, Temperature, Temperature, true},
		{"difference + difference", Dim.Add, TempDiff, TempDiff, TempDiff, true},
		{"point + point", Dim.Add, Temperature, Temperature, Dim{}, false},
		{"point - point", Dim.Sub, Temperature, Temperature, TempDiff, true},
		{"point - difference", Dim.Sub, Temperature, TempDiff, Temperature, true},
		{"difference - point", Dim.Sub, TempDiff, Temperature, Dim{}, false},
		{"difference - difference", Dim.Sub, TempDiff, TempDiff, TempDiff, true},
		{"volume + flow", Dim.Add, volume, flow, Dim{}, false},
		{"volume - time", Dim.Sub, volume, Time, Dim{}, false},
	} {
		if got, ok := c.op(c.a, c.b); ok != c.ok || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v, %v", c.name, got, ok, c.want, c.ok)
		}
	}
	for name, op := range map[string]op{"times": Dim.Mul, "by": Dim.Div} {
		for _, pair := range [][2]Dim{{Temperature, None}, {None, Temperature}, {Temperature, Temperature}, {Temperature, Time}} {
			if got, ok := op(pair[0], pair[1]); ok || got.Point {
				t.Errorf("%s %s %s: %+v, %v", pair[0], name, pair[1], got, ok)
			}
		}
	}
	// An exponent never wraps around: 2^8 lengths are no pure number.
	d, ok := Dim{L: 1}, true
	for range 8 {
		var fits bool
		d, fits = d.Mul(d)
		ok = ok && fits
	}
	if ok {
		t.Errorf("a length to the 256th is %s", d)
	}
}

func TestDimAlgebraLaws(t *testing.T) {
	dim := rapid.Custom(func(t *rapid.T) Dim {
		e := func(n string) int8 { return int8(rapid.IntRange(-20, 20).Draw(t, n)) }
		return Dim{L: e("L"), M: e("M"), T: e("T"), I: e("I"), Θ: e("Θ"), N: e("N"), J: e("J"), A: e("A"), Point: rapid.Bool().Draw(t, "point")}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := dim.Draw(t, "a"), dim.Draw(t, "b")
		ab, ok1 := a.Mul(b)
		ba, ok2 := b.Mul(a)
		if ab != ba || ok1 != ok2 || ok1 != (!a.Point && !b.Point) {
			t.Fatalf("%+v * %+v: %+v, %v and %+v, %v", a, b, ab, ok1, ba, ok2)
		}
		if back, ok := ab.Div(b.bare()); !ok || back != a.bare() {
			t.Fatalf("%+v * %+v / %+v = %+v, %v", a, b, b, back, ok)
		}
		if sum, ok := a.Add(b); ok {
			if diff, ok := sum.Sub(b); !ok || diff != a {
				t.Fatalf("%+v + %+v - %+v = %+v, %v", a, b, b, diff, ok)
			}
		}
		if a != b && a.String() == b.String() && a.bare() != b.bare() {
			t.Fatalf("%+v and %+v are both called %s", a, b, a)
		}
	})
}

func TestDimNames(t *testing.T) {
	for unit, want := range map[string]string{"1": "dimensionless", "%": "dimensionless", "mL": "volume", "mL/min": "flow", "degC": "temperature", "K": "temperature difference", "K/s": "temperature rate",
		"rpm": "frequency", "Pa": "pressure", "mmol/L": "concentration", "m/s2": "acceleration", "kg.m": "m.kg", "1/m2": "m-2", "A.s3": "s3.A", "rad": "angle"} {
		if got := Q(0, unit).Unit.Dim().String(); got != want {
			t.Errorf("%s: %s, want %s", unit, got, want)
		}
	}
}

// FuzzParseUnit: what is read can be written and read again as the same unit,
// with a factor that neither loses a value nor invents one.
func FuzzParseUnit(f *testing.F) {
	for _, s := range []string{"mL/min", "degC", "kg.m2/s2", "s-1", "°C", "µL", "1/s", "m10", "nm9.nm9", "rev/min", "*", "%", "Mm/s2.K"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseUnit(s)
		if err != nil {
			if u != (Unit{}) || len(err.Error()) > 400 {
				t.Fatalf("%+v with %v", u, err)
			}
			return
		}
		if again, err := ParseUnit(u.String()); err != nil || again != u {
			t.Fatalf("%q, written %q, is read as %+v, %v", s, u, again, err)
		}
		if b := u.ToBase(1); !finite(b) || b == 0 || !near(u.FromBase(b), 1) && !u.dim.Point {
			t.Fatalf("1 %s is %g", u, b)
		}
	})
}
