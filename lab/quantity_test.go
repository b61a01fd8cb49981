package lab

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseQuantity(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Quantity
	}{
		{"72 degC", Q(72, "degC")}, {"2s", Q(2, "s")}, {" 0.4 mL ", Q(0.4, "mL")}, {"1.5", Q(1.5, "1")}, {"-3e-2 K", Q(-0.03, "K")}, {"+1 s", Q(1, "s")}, {"1e3s", Q(1000, "s")},
		{"5 %", Q(5, "%")}, {"5\u00a0mL", Q(5, "mL")}, {".5 s", Q(0.5, "s")}, {"0 s", Q(0, "s")}, {"0.0e9 s", Q(0, "s")}, {"1E2 rpm", Q(100, "rpm")}, {"2 1/s", Q(2, "1/s")}, {"4.9e-324", Q(5e-324, "1")},
	} {
		if got, err := ParseQuantity(c.in); err != nil || got != c.want {
			t.Errorf("%q: %v, %v; want %v", c.in, got, err, c.want)
		}
	}
	for _, c := range []struct{ in, say string }{
		{"", `"" is not a quantity: it starts with no number`}, {"degC", `"degC" is not a quantity: it starts with no number`}, {"hot", `"hot" is not a quantity: it starts with no number`},
		{"NaN", `"NaN" is not a quantity: it starts with no number`}, {"inf s", `"inf s" is not a quantity: it starts with no number`}, {"+", `"+" is not a quantity: it starts with no number`},
		{".", `"." is not a quantity: it starts with no number`}, {"- 5 s", `"- 5 s" is not a quantity: it starts with no number`}, {"--5", `"--5" is not a quantity: it starts with no number`},
		{"010 mL", `"010" has a leading zero`}, {"-007", `"-007" has a leading zero`}, {"00", `"00" has a leading zero`},
		{"0x20 degC", ``}, {"1_000 s", ``}, {"0b1", ``}, {"0o17", ``}, {"1e", ``}, {"1e+ s", ``}, {"1p3", ``},
		{"1e400 s", `"1e400" is not a finite decimal number`}, {"1.2.3 s", `"1.2.3" is not a finite decimal number`},
		{"1e-400 mL", `"1e-400" is too small to be told from 0`},
		{"0,4 mL", `"0,4 mL" is not a quantity; write the decimal point as a point`},
		{"5 mx", `unit "mx": "mx" is not a unit; did you mean "lx"?`}, {"5 mL 3", ``}, {"5 mL min", ``}, {"1 2", ``}, {"5 - 3 s", ``}, {"1/2", ``}, {"5 degC/min", ``}, {"٣ s", ``}, {"１ s", ``},
	} {
		got, err := ParseQuantity(c.in)
		if err == nil || got != (Quantity{}) || c.say != "" && err.Error() != c.say {
			t.Errorf("%q: %v, %v; want %s", c.in, got, err, c.say)
		}
	}
	for _, s := range []string{strings.Repeat("9", 1<<20), strings.Repeat("0", 1<<20), "1 " + strings.Repeat("m", 1<<20), strings.Repeat("x", 1<<20), "0." + strings.Repeat("0", 1<<20) + "1"} {
		if _, err := ParseQuantity(s); err == nil || len(err.Error()) > 300 {
			t.Errorf("%.20s…: an error of %d bytes", s, len(err.Error()))
		}
	}
}

func TestNegativeZeroIsZero(t *testing.T) {
	for _, s := range []string{"-0", "-0.0", "-0e5"} {
		if v, err := ParseNumber(s); err != nil || math.Signbit(v) || v != 0 {
			t.Errorf("%s: %v, %v", s, v, err)
		}
	}
}

func TestDurations(t *testing.T) {
	for in, want := range map[string]time.Duration{"2 s": 2 * time.Second, "1.5 min": 90 * time.Second, "1 h": time.Hour, "250 us": 250 * time.Microsecond, "0 s": 0, "-1 s": -time.Second, "1 ns": 1, "180 days": 180 * 24 * time.Hour, "0.1 s": 100 * time.Millisecond} {
		q, err := ParseQuantity(in)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := q.Duration(); err != nil || d != want {
			t.Errorf("%s: %v, %v", in, d, err)
		}
	}
	for _, q := range []Quantity{Q(2, "1"), Q(2, "mL"), Q(1, "Hz"), Q(math.NaN(), "s"), Q(math.Inf(1), "s"), Q(1e10, "s"), Q(-1e300, "h"), Q(1e-10, "s"), {}} {
		if d, err := q.Duration(); err == nil && q != (Quantity{}) || d != 0 {
			t.Errorf("%s: %v, %v", q, d, err)
		}
	}
	if q := Seconds(1500 * time.Millisecond); q != Q(1.5, "s") {
		t.Error(q)
	}
}

func TestFormatNumber(t *testing.T) {
	for _, c := range []struct {
		v    float64
		want string
	}{{0, "0"}, {72, "72"}, {0.1 + 0.2, "0.3"}, {1.0 / 3, "0.3333333333"}, {1e-5, "1e-05"}, {0.0001, "0.0001"}, {123456789, "123456789"}, {1e10, "1e+10"}, {-0.25, "-0.25"}, {math.NaN(), "NaN"}, {math.Inf(-1), "-Inf"}, {12345.678901234, "12345.6789"}} {
		if got := FormatNumber(c.v); got != c.want {
			t.Errorf("%v: %s, want %s", c.v, got, c.want)
		}
	}
	if s := Q(1.5, "1").String() + ", " + Q(5, "%").String(); s != "1.5, 5 %" {
		t.Error(s)
	}
}

func TestQuantityJSON(t *testing.T) {
	for in, want := range map[string]string{
		`{"value": 72, "unit": "degC"}`: `{"value":72,"unit":"degC"}`, `{"unit":"ml","value":0.10}`: `{"value":0.1,"unit":"mL"}`,
		`{"value":1e3,"unit":"1"}`: `{"value":1000,"unit":"1"}`, `{"value":-0,"unit":"K"}`: `{"value":0,"unit":"K"}`,
	} {
		var q Quantity
		if err := json.Unmarshal([]byte(in), &q); err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got, err := json.Marshal(q); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
	for _, in := range []string{`{}`, `{"value":1}`, `{"unit":"s"}`, `{"value":null,"unit":"s"}`, `{"value":1,"unit":null}`, `{"value":1,"unit":""}`, `{"value":"1","unit":"s"}`, `{"value":"NaN","unit":"s"}`,
		`{"value":1e400,"unit":"s"}`, `{"value":1e-400,"unit":"s"}`, `{"value":1,"unit":"mx"}`, `{"value":true,"unit":"s"}`, `[1,"s"]`, `5`, `"5 s"`, `{"value":[1],"unit":"s"}`} {
		q := Q(7, "s")
		if err := json.Unmarshal([]byte(in), &q); err == nil || q != Q(7, "s") {
			t.Errorf("%s was read as %s", in, q)
		}
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if b, err := json.Marshal(Q(v, "s")); err == nil {
			t.Errorf("%v was written as %s", v, b)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		q := Q(rapid.Float64().Draw(t, "x"), unitText(t))
		if !q.Finite() {
			t.Skip()
		}
		b, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		var back Quantity
		if err := json.Unmarshal(b, &back); err != nil || back != q {
			t.Fatalf("%s came back as %v, %v", b, back, err)
		}
	})
}

// FuzzParseQuantity: what is read is finite, and says what its text says.
func FuzzParseQuantity(f *testing.F) {
	for _, s := range []string{"72 degC", "2s", "0.4 mL", "-1e-3 K/s", "010", "1e400", "1e-400 s", ".5 %", "5 mL/min", "0x1p3", "1,5 s", "--1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := ParseQuantity(s)
		if err != nil {
			if q != (Quantity{}) || len(err.Error()) > 600 {
				t.Fatalf("%v with an error of %d bytes", q, len(err.Error()))
			}
			return
		}
		if !q.Finite() {
			t.Fatalf("%q is %v", s, q)
		}
		b, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		var back Quantity
		if err := json.Unmarshal(b, &back); err != nil || back != q {
			t.Fatalf("%q, written %s, is %v, %v", s, b, back, err)
		}
	})
}
