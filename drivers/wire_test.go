package drivers

import (
	"math"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"labgate/lab"
)

func unit(t *testing.T, s string) lab.Unit {
	t.Helper()
	u, err := lab.ParseUnit(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestWhole(t *testing.T) {
	for x, want := range map[float64]float64{0.3 / 0.1: 3, 1e15: 1e15, -2: -2, 0: 0} {
		if n, ok := Whole(x); !ok || n != want {
			t.Errorf("Whole(%v) = %v, %v", x, n, ok)
		}
	}
	for _, x := range []float64{2.5, 1e-3, 1e17, math.NaN(), math.Inf(1), math.Inf(-1)} {
		if n, ok := Whole(x); ok {
			t.Errorf("Whole(%v) = %v; it is none", x, n)
		}
	}
}

func TestFromWire(t *testing.T) {
	number := lab.Type{Kind: lab.Number, Unit: unit(t, "mL/min")}
	if v, err := FromWire(120, unit(t, "uL/s"), 0.5, number); err != nil || math.Abs(v.Num-3.6) > 1e-12 {
		t.Errorf("60 uL/s = %v, %v; want 3.6 mL/min", v, err)
	}
	if v, err := FromWire(math.NaN(), unit(t, "mL/min"), 0, number); err == nil || v.Usable() || v.Kind != lab.Number {
		t.Errorf("NaN gave %v, %v; want it carried, with an error", v, err)
	}
	if _, err := FromWire(1, unit(t, "K"), 0, number); err == nil {
		t.Error("a temperature passed for a flow")
	}
	if _, err := FromWire(1.5, lab.One, 0, lab.Type{Kind: lab.Integer}); err == nil {
		t.Error("1.5 passed for an integer")
	}
	if _, err := FromWire(1, lab.One, 0, lab.Type{Kind: lab.Bool}); err == nil {
		t.Error("1 passed for a bool")
	}
}

func TestWireThereAndBack(t *testing.T) {
	degC, degF := unit(t, "degC"), unit(t, "degF")
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.Float64Range(-200, 500).Draw(t, "x")
		w, err := ToWire(lab.NumberValue(lab.Quantity{Value: x, Unit: degC}), degF, 0.1)
		if err != nil {
			t.Fatal(err)
		}
		v, err := FromWire(w, degF, 0.1, lab.Type{Kind: lab.Number, Unit: degC})
		if err != nil || math.Abs(v.Num-x) > 1e-9 {
			t.Fatalf("%v degC came back as %v (%v)", x, v, err)
		}
	})
}

func TestToWireRefuses(t *testing.T) {
	for _, v := range []lab.Value{{}, lab.BoolValue(true), lab.TextValue("1"), lab.NumberValue(lab.Q(math.Inf(1), "mL")), lab.NumberValue(lab.Q(1, "s"))} {
		if x, err := ToWire(v, unit(t, "mL"), 0); err == nil {
			t.Errorf("%v went onto the wire as %v", v, x)
		}
	}
}

func TestFromName(t *testing.T) {
	enum := lab.Type{Kind: lab.Enum, Enum: []string{"idle", "execute"}}
	states := map[string]string{"4": "idle", "6": "execute", "9": "broken"}
	if v, err := FromName("6", states, enum); err != nil || v != lab.EnumValue("execute") {
		t.Errorf("6 is %v, %v", v, err)
	}
	if v, err := FromName("on", map[string]string{"on": "true"}, lab.Type{Kind: lab.Bool}); err != nil || !v.Bool {
		t.Errorf("on is %v, %v", v, err)
	}
	for name, typ := range map[string]lab.Type{"5": enum, "9": enum, "idle": enum} {
		if v, err := FromName(name, states, typ); err == nil {
			t.Errorf("%s became %v", name, v)
		}
	}
	if v, err := FromName("true", nil, lab.Type{Kind: lab.Bool}); err == nil {
		t.Errorf("the text true became %v without a map", v)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain µL":          "plain µL",
		"a\r\n\x1b[2Jb":     `a\u000d\u000a\u001b[2Jb`,
		"\u202egnp.exe":     `\u202egnp.exe`,
		"\xff!":             `\xff!`,
		`back\slash`:        `back\\slash`,
		"0123456789abcdefg": "0123456789abcde…",
	} {
		if got := Printable(in, 15); got != want {
			t.Errorf("Printable(%q) = %s, want %s", in, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		for _, r := range Printable(string(rapid.SliceOf(rapid.Byte()).Draw(t, "b")), 64) {
			if !unicode.IsPrint(r) {
				t.Fatalf("%U came through", r)
			}
		}
	})
}
