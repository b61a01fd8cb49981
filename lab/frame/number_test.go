package frame

import (
	"math"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

func TestWrite(t *testing.T) {
	cases := []struct {
		spec string
		v    float64
		text string // "": refused
		near float64
	}{
		{"4g", 0.15, "0.15", 0},
		{"4g", 0.2 * 0.75, "0.15", 0},
		{"4g", 6, "6", 0},
		{"4g", 14.43, "14.43", 0},
		{"4g", 0, "0", 0},
		{"4g", 9999, "9999", 0},
		{"4g", 100, "100", 0},
		{"4g", -1.5, "-1.5", 0},
		{"4g", 12.345, "", 12.35},
		{"4g", 0.0004, "", 0.001}, // never 0
		{"4g", -0.0004, "", -0.001},
		{"4g", 9999.6, "", 9999},
		{"4g", 123456, "", 9999},
		{"4g", 999.96, "", 1000},
		{"4g", math.NaN(), "", math.NaN()},
		{"4g", math.Inf(1), "", math.NaN()},
		{"d", 12000, "12000", 0},
		{"d", 1200 / 0.1, "12000", 0},
		{"d", -5000.000000000001, "-5000", 0},
		{"d", 0.1, "", 1},
		{"d", 1234567890.4, "", 1234567890},
		{"02d", 7, "07", 0},
		{"02d", 99, "99", 0},
		{"02d", 100, "", 99},
		{"03d", -7, "-07", 0},
		{".2f", 1.5, "1.50", 0},
		{".2f", 1.555, "", 1.55},
		{".2f", 0.001, "", 0.01},
		{"f", 0.1 + 0.2, "0.3", 0},
		{"f", 1e-7, "0.0000001", 0},
		{"f", math.Copysign(0, -1), "0", 0},
		{"f", 1e300, "", 1e15},
	}
	for _, c := range cases {
		sp, err := parseSpec(c.spec)
		if err != nil {
			t.Fatal(err)
		}
		text, ok := sp.write(c.v)
		if ok = ok && sp.carries(text, c.v); !ok {
			text = ""
		}
		if text != c.text {
			t.Errorf("%v as %s: %q, want %q", c.v, c.spec, text, c.text)
		}
		if c.text != "" {
			continue
		}
		near, ok := sp.nearest(c.v, func(float64) bool { return true })
		if ok && near != c.near || !ok && !math.IsNaN(c.near) {
			t.Errorf("%v as %s: the nearest is %v (%v), want %v", c.v, c.spec, near, ok, c.near)
		}
	}
}

// Whatever is written reads back as the value; whatever is offered instead can
// be written, is no further away than needed, and is not zero.
func TestWriteReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sp, err := parseSpec(rapid.SampledFrom([]string{"d", "02d", "05d", "f", ".0f", ".3f", "1g", "4g", "9g"}).Draw(t, "spec"))
		if err != nil {
			t.Fatal(err)
		}
		v := rapid.OneOf(rapid.Float64Range(-20000, 20000), rapid.Float64Range(-1, 1), rapid.Float64(),
			rapid.Map(rapid.IntRange(-99999, 99999), func(n int) float64 { return float64(n) / 1000 })).Draw(t, "v")
		text, ok := sp.write(v)
		if ok && sp.carries(text, v) {
			got, err := strconv.ParseFloat(text, 64)
			if err != nil || math.Abs(got-v) > tolerance*math.Abs(v) {
				t.Fatalf("%v is written as %q", v, text)
			}
			if n := scanNumber(text, spec{verb: 'f'}); n != len(text) {
				t.Fatalf("%q is not read back whole", text)
			}
			return
		}
		near, ok := sp.nearest(v, func(float64) bool { return true })
		if !ok {
			if !math.IsNaN(v) && !math.IsInf(v, 0) {
				t.Fatalf("%v as %s: nothing is offered", v, sp)
			}
			return
		}
		text, ok = sp.write(near)
		if !ok || !sp.carries(text, near) || near == 0 && v != 0 {
			t.Fatalf("%v as %s: offers %v, written as %q", v, sp, near, text)
		}
	})
}

func TestScanNumber(t *testing.T) {
	cases := []struct {
		spec, in string
		n        int
	}{
		{"f", "1.500W", 5}, {"f", "  63.4 1", 6}, {"f", "-.5x", 3}, {"f", "1e3V", 3}, {"f", "1e", 1}, {"f", "1.", 2},
		{"f", ".", 0}, {"f", "", 0}, {"f", "nan", 0}, {"f", "inf", 0}, {"f", "-", 0}, {"f", "0x10", 1},
		{"d", "12.5", 2}, {"d", "+7", 2}, {"02d", "07", 2}, {"02d", "7", 0}, {"02d", "7a", 0}, {"02d", "123", 2}, {"02d", " 7", 0},
		{"f", "123456789012345678901234567890123", 0},
	}
	for _, c := range cases {
		sp, err := parseSpec(c.spec)
		if err != nil {
			t.Fatal(err)
		}
		if n := scanNumber(c.in, sp); n != c.n {
			t.Errorf("scan %q as %s: %d, want %d", c.in, c.spec, n, c.n)
		}
	}
}
