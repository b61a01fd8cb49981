package opcua

import (
	"math"
	"strconv"
	"testing"

	"github.com/gopcua/opcua/ua"
	"pgregory.net/rapid"

	"labgate/lab"
)

func TestVariant(t *testing.T) {
	mL := func(x float64) lab.Value { return lab.NumberValue(lab.Q(x, "mL")) }
	for _, c := range []struct {
		wire  string
		unit  string
		scale float64
		in    lab.Value
		want  any // nil: refused
	}{
		{"double", "uL", 0, mL(0.25), 250.0},
		{"float", "mL", 0, mL(0.1), float32(0.1)},
		{"float", "mL", 0, mL(12.3456789), nil},
		{"float", "mL", 0, mL(1e39), nil},
		{"int16", "mL", 0.1, mL(0.3), int16(3)},
		{"int16", "mL", 0.1, mL(0.35), nil},
		{"sbyte", "1", 0, lab.IntegerValue(-128), int8(-128)},
		{"sbyte", "1", 0, lab.IntegerValue(-129), nil},
		{"byte", "1", 0, lab.IntegerValue(255), uint8(255)},
		{"uint16", "1", 0, lab.IntegerValue(65535), uint16(65535)},
		{"uint32", "1", 0, lab.IntegerValue(-1), nil},
		{"uint32", "1", 0, lab.IntegerValue(1 << 32), nil},
		{"int32", "1", 0, lab.IntegerValue(-1 << 31), int32(-1 << 31)},
		{"int64", "1", 0, lab.IntegerValue(1 << 53), int64(1 << 53)},
		{"uint64", "1", 0, lab.IntegerValue(7), uint64(7)},
		{"boolean", "1", 0, lab.BoolValue(true), true},
		{"boolean", "1", 0, lab.IntegerValue(1), nil},
		{"string", "1", 0, lab.EnumValue("fast"), "fast"},
		{"string", "1", 0, mL(1), nil},
		{"double", "mL", 0, lab.BoolValue(true), nil},
		{"double", "mL", 0, lab.Value{}, nil},
		{"", "mL", 0, mL(1), nil},
	} {
		v, err := variant(&lab.WireInput{Type: c.wire, Unit: unit(c.unit), Scale: c.scale}, c.in)
		if c.want == nil {
			if err == nil {
				t.Errorf("%v as %s went out as %v", c.in, c.wire, v.Value())
			}
			continue
		}
		if err != nil || v.Value() != c.want {
			t.Errorf("%v as %s: %v, %v; want %v", c.in, c.wire, v, err, c.want)
		}
	}
}

// Whatever goes out as a whole number or a float says the same as what went in.
func TestVariantNeverRounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wire := rapid.SampledFrom([]string{"float", "sbyte", "byte", "int16", "uint16", "int32", "uint32", "int64", "uint64"}).Draw(t, "wire")
		x := rapid.Float64().Draw(t, "x")
		if rapid.Bool().Draw(t, "whole") {
			x = math.Trunc(math.Mod(x, 1<<40))
		}
		v, err := variant(&lab.WireInput{Type: wire}, lab.NumberValue(lab.Quantity{Value: x}))
		if err != nil {
			return
		}
		got, err := number(v.Value())
		if err != nil {
			t.Fatal(err)
		}
		if wire == "float" {
			got, _ = strconv.ParseFloat(strconv.FormatFloat(got, 'g', -1, 32), 64)
		}
		if math.Abs(got-x) > 1e-9*math.Max(1, math.Abs(x)) {
			t.Fatalf("%v became %v as %s", x, got, wire)
		}
	})
}

func TestQuality(t *testing.T) {
	for s, want := range map[ua.StatusCode]lab.Quality{
		ua.StatusOK: lab.Good, ua.StatusGoodClamped: lab.Good, ua.StatusUncertain: lab.Uncertain,
		ua.StatusBad: lab.Bad, 0xC0000000: lab.Bad,
	} {
		if got := quality(s); got != want {
			t.Errorf("%v is %s, want %s", s, got, want)
		}
	}
}

// FuzzReading lets a server send any variant for any property: a good reading
// is always of the property's type and finite.
func FuzzReading(f *testing.F) {
	for _, v := range []any{1.5, float32(2), int32(6), uint64(1) << 60, true, "idle", []float64{1}, ua.StatusBad} {
		b, err := ua.MustVariant(v).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint32(0))
	}
	d, err := compile(instrument("dev", 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, status uint32) {
		if len(b) > 1<<12 {
			return
		}
		v := new(ua.Variant)
		if guard(func() error { _, err := v.Decode(b); return err }) != nil {
			return
		}
		for _, p := range d.properties {
			r, _ := p.reading(&ua.DataValue{Value: v, Status: ua.StatusCode(status)}, wallClock{}.Now(), 1)
			if r.Quality != lab.Good {
				continue
			}
			if w, err := p.typ.Conform(r.Value); err != nil || w.Kind != p.typ.Kind || !r.Value.Usable() {
				t.Errorf("%v became %v for a %s (%v)", v.Value(), r.Value, p.typ, err)
			}
		}
	})
}
