package lab

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func table(unit string, columns ...[]float64) Value {
	t := &TableData{}
	for i, c := range columns {
		t.Columns, t.Data = append(t.Columns, Column{string(rune('a' + i)), Q(0, unit).Unit}), append(t.Data, c)
	}
	return TableValue(t)
}

// unusable are values on which nothing may be decided, each of another kind.
var unusable = map[string]Value{
	"missing": {}, "NaN": NumberValue(Q(math.NaN(), "s")), "infinite": NumberValue(Q(math.Inf(1), "s")), "minus infinite": NumberValue(Q(math.Inf(-1), "s")),
	"integer NaN": {Kind: Integer, Num: math.NaN()}, "integer infinite": {Kind: Integer, Num: math.Inf(-1)}, "no table": {Kind: Table}, "no blob": {Kind: Blob}, "no kind": {Kind: 99, Num: 1},
	"ragged table": table("s", []float64{1, 2}, []float64{1}), "NaN in a table": table("s", []float64{1, math.NaN()}), "infinite in a table": table("s", []float64{math.Inf(1)}),
	"a table without data": TableValue(&TableData{Columns: []Column{{"a", One}}}), "data without a column": TableValue(&TableData{Data: [][]float64{{1}}}),
}

var everyType = []Type{{}, {Kind: Number}, {Kind: Number, Unit: Second}, {Kind: Number, Unit: DegC}, {Kind: Bool}, {Kind: Integer}, {Kind: Enum, Enum: []string{"a"}}, {Kind: Text}, {Kind: Table, Columns: []Column{{"a", Second}}},
	{Kind: Table, Columns: []Column{{"a", Second}, {"b", Second}}}, {Kind: Blob}, {Kind: 99}}

// TestUnusableValues: what can't be decided on is refused everywhere, and
// nothing panics over it.
func TestUnusableValues(t *testing.T) {
	for name, v := range unusable {
		if v.Usable() {
			t.Errorf("%s is usable", name)
		}
		if b, err := json.Marshal(v); err != nil || string(b) != "null" {
			t.Errorf("%s: written as %s, %v", name, b, err)
		}
		for _, ty := range everyType {
			if got, err := ty.Conform(v); err == nil {
				t.Errorf("%s conforms to %s: %v", name, ty, got)
			}
		}
		_, _, _, _ = v.String(), v.Base(), v.Quantity(), v.Kind.String()
		c := command()
		c.Args["volume"] = v
		if c.Hash() != [32]byte{} {
			t.Errorf("a command with %s has a hash", name)
		}
		r := Reading{Value: v, Quality: Good, Received: t0, Source: t0}
		if ok, _ := r.Fresh(t0, 1e9); ok {
			t.Errorf("%s is fresh", name)
		}
	}
}

func TestConform(t *testing.T) {
	ml, wave := Type{Kind: Number, Unit: Q(0, "mL").Unit}, Type{Kind: Table, Columns: []Column{{"a", Q(0, "nm").Unit}, {"b", Q(0, "nm").Unit}}}
	whole, plain, percent := Type{Kind: Integer}, Type{Kind: Number}, Type{Kind: Number, Unit: Percent}
	mode := Type{Kind: Enum, Enum: []string{"dark", "bright"}}
	for _, c := range []struct {
		name string
		t    Type
		v    Value
		want Value
		say  string
	}{
		{"same unit", ml, NumberValue(Q(5, "mL")), NumberValue(Q(5, "mL")), ""},
		{"other unit", ml, NumberValue(Q(300, "uL")), NumberValue(Q(0.3, "mL")), ""},
		{"temperature", Type{Kind: Number, Unit: DegC}, NumberValue(Q(212, "degF")), NumberValue(Q(100, "degC")), ""},
		{"wrong dimension", ml, NumberValue(Q(5, "mL/min")), Value{}, "5 mL/min is a flow, not a volume (mL)"},
		{"difference for a point", Type{Kind: Number, Unit: DegC}, NumberValue(Q(300, "K")), Value{}, "300 K is a temperature difference, not a temperature (degC)"},
		{"no unit", ml, IntegerValue(5), Value{}, "5 has no unit; a volume (mL) is wanted"},
		{"fraction without a unit", ml, NumberValue(Q(0.5, "1")), Value{}, "0.5 is a dimensionless, not a volume (mL)"},
		{"text for a number", ml, TextValue("5 mL"), Value{}, `"5 mL" is a text; a volume (mL) is wanted`},
		{"bool for a number", ml, BoolValue(true), Value{}, "true is a bool; a volume (mL) is wanted"},
		{"too small to write", ml, NumberValue(Q(5e-324, "uL")), Value{}, "4.940656458e-324 uL can't be written in mL"},
		{"too large to write", Type{Kind: Number, Unit: Q(0, "nm").Unit}, NumberValue(Q(1e308, "m")), Value{}, "1e+308 m can't be written in nm"},
		{"integer as a plain number", plain, IntegerValue(3), NumberValue(Q(3, "1")), ""},
		{"percent from a fraction", percent, NumberValue(Q(0.5, "1")), NumberValue(Q(50, "%")), ""},
		{"fraction from percent", plain, NumberValue(Q(50, "%")), NumberValue(Q(0.5, "1")), ""},

		{"integer", whole, IntegerValue(3), IntegerValue(3), ""},
		{"integer with the unit 1", whole, NumberValue(Q(3, "1")), IntegerValue(3), ""},
		{"largest integer", whole, Value{Kind: Integer, Num: 1<<53 - 1}, IntegerValue(1<<53 - 1), ""},
		{"integer that may have been rounded", whole, Value{Kind: Integer, Num: 1 << 53}, Value{}, "9007199254740992 is not a whole number"},
		{"negative integer that may have been rounded", whole, Value{Kind: Integer, Num: -1 << 53}, Value{}, "-9007199254740992 is not a whole number"},
		{"fraction for an integer", whole, NumberValue(Q(2.5, "1")), Value{}, "2.5 is not a whole number"},
		{"quantity for an integer", whole, NumberValue(Q(3, "s")), Value{}, "3 s is a quantity; a integer is wanted"},
		{"percent for an integer", whole, NumberValue(Q(300, "%")), Value{}, "300 % is a quantity; a integer is wanted"},
		{"text for an integer", whole, TextValue("3"), Value{}, `"3" is a text; a integer is wanted`},

		{"bool", Type{Kind: Bool}, BoolValue(true), BoolValue(true), ""},
		{"integer for a bool", Type{Kind: Bool}, IntegerValue(1), Value{}, "1 is a integer; a bool is wanted"},
		{"text for a bool", Type{Kind: Bool}, TextValue("true"), Value{}, `"true" is a text; a bool is wanted`},
		{"enum", mode, TextValue("dark"), EnumValue("dark"), ""},
		{"enum by its own kind", mode, EnumValue("bright"), EnumValue("bright"), ""},
		{"enum in another case", mode, TextValue("Dark"), Value{}, `"Dark" is not one of dark, bright`},
		{"no enum", mode, TextValue(""), Value{}, `"" is not one of dark, bright`},
		{"integer for an enum", mode, IntegerValue(0), Value{}, "0 is a integer; a one of dark, bright is wanted"},
		{"text", Type{Kind: Text}, TextValue("x"), TextValue("x"), ""},
		{"number for a text", Type{Kind: Text}, IntegerValue(1), Value{}, "1 is a integer; a text is wanted"},

		{"table", wave, table("nm", []float64{1, 2}, []float64{3, 4}), table("nm", []float64{1, 2}, []float64{3, 4}), ""},
		{"empty table", wave, table("nm", []float64{}, []float64{}), table("nm", []float64{}, []float64{}), ""},
		{"a column too few", wave, table("nm", []float64{1, 2}), Value{}, "a table of 1 columns; 2 are wanted"},
		{"a column in another unit", wave, table("um", []float64{1}, []float64{1}), Value{}, "column 1 is a in um; a in nm is wanted"},
		{"ragged", wave, table("nm", []float64{1, 2}, []float64{3}), Value{}, "columns of 2 and 1 rows"},
		{"NaN within", wave, table("nm", []float64{1}, []float64{math.NaN()}), Value{}, "column b holds a number that is not finite"},
		{"number for a table", wave, IntegerValue(1), Value{}, "1 is a integer; a table is wanted"},
		{"nothing", ml, Value{}, Value{}, "missing is a missing; a volume (mL) is wanted"},
	} {
		got, err := c.t.Conform(c.v)
		say := ""
		if err != nil {
			say = err.Error()
		}
		if !reflect.DeepEqual(got, c.want) || say != c.say {
			t.Errorf("%s: got %v, %q; want %v, %q", c.name, got, say, c.want, c.say)
		}
	}
	// NaN is carried, for people to see, but always with an error.
	if v, err := ml.Conform(NumberValue(Q(math.NaN(), "mL"))); err == nil || err.Error() != "NaN is not a finite number" || v.Usable() {
		t.Errorf("NaN: %v, %v", v, err)
	}
	long := TextValue(strings.Repeat("ü", 1<<18))
	for _, ty := range everyType[:7] {
		if _, err := ty.Conform(long); err == nil || len(err.Error()) > 300 {
			t.Errorf("%s: an error of %d bytes", ty, len(err.Error()))
		}
	}
}

func TestValueJSON(t *testing.T) {
	for _, c := range []struct {
		in, out string
		want    Value
	}{
		{`null`, `null`, Value{}}, {` true `, `true`, BoolValue(true)}, {`false`, `false`, BoolValue(false)}, {`3`, `3`, IntegerValue(3)}, {`-3`, `-3`, IntegerValue(-3)}, {`-0`, `0`, IntegerValue(0)}, {`1e3`, `1000`, IntegerValue(1000)},
		{`2.50`, `{"value":2.5,"unit":"1"}`, NumberValue(Q(2.5, "1"))}, {`"5 mL"`, `"5 mL"`, TextValue("5 mL")}, {`"NaN"`, `"NaN"`, TextValue("NaN")}, {`""`, `""`, TextValue("")},
		{`{"unit":"ml","value":5}`, `{"value":5,"unit":"mL"}`, NumberValue(Q(5, "mL"))},
		{`{"columns":[{"name":"a","unit":"s","data":[1,2.5]},{"data":[0,-1],"unit":"s","name":"b"}]}`, `{"columns":[{"name":"a","unit":"s","data":[1,2.5]},{"name":"b","unit":"s","data":[0,-1]}]}`, table("s", []float64{1, 2.5}, []float64{0, -1})},
		{`{"columns":[{"name":"a","unit":"s","data":[]}]}`, `{"columns":[{"name":"a","unit":"s","data":[]}]}`, table("s", []float64{})},
		{`{"hash":"sha256:00","media":"image/png","size":3,"meta":{"pixel":"1 um"}}`, `{"hash":"sha256:00","media":"image/png","size":3,"meta":{"pixel":"1 um"}}`,
			BlobValue(&BlobRef{Hash: "sha256:00", Media: "image/png", Size: 3, Meta: map[string]string{"pixel": "1 um"}})},
	} {
		var v Value
		if err := json.Unmarshal([]byte(c.in), &v); err != nil || !reflect.DeepEqual(v, c.want) {
			t.Errorf("%s: %+v, %v", c.in, v, err)
		}
		if b, err := json.Marshal(v); err != nil || string(b) != c.out {
			t.Errorf("%s: written as %s, %v", c.in, b, err)
		}
	}
	for _, in := range []string{
		`{}`, `[]`, `[1]`, `{"value":5}`, `{"unit":"mL"}`, `{"value":"5","unit":"mL"}`, `{"value":5,"unit":""}`, `{"value":5,"unit":"mx"}`, `{"value":5,"unit":"mL","sd":1}`, `{"Value":5,"unit":"mL"}`, `{"value":5,"Unit":"mL"}`,
		`{"columns":null}`, `{"columns":5}`, `{"columns":[{}]}`, `{"columns":[{"name":"a","data":[1]}]}`, `{"columns":[{"name":"a","unit":"","data":[1]}]}`, `{"columns":[{"name":"a","unit":"s"}]}`,
		`{"columns":[{"name":"a","unit":"s","data":[1,null]}]}`, `{"columns":[{"name":"a","unit":"s","data":["1"]}]}`, `{"columns":[{"name":"a","unit":"s","data":[1]},{"name":"b","unit":"s","data":[]}]}`,
		`{"columns":[{"name":"a","unit":"s","data":[1],"x":1}]}`, `{"columns":[{"name":"a","unit":"s","data":[1]}],"hash":"x"}`, `{"columns":[],"value":1}`, `{"columns":[{"name":"a","unit":"mx","data":[1]}]}`,
		`{"hash":5}`, `{"hash":null}`, `{"hash":""}`, `{"hash":"x","size":-1}`, `{"hash":"x","size":1.5}`, `{"hash":"x","evil":1}`, `{"hash":"x","bytes":"AA=="}`, `1e400`, `1e-400`,
	} {
		var v Value
		if err := json.Unmarshal([]byte(in), &v); err == nil || v.Usable() {
			t.Errorf("%s was read as %+v, %v", in, v, err)
		}
	}
	for _, in := range []string{`tru`, `+5`, `5.`, `.5`, `0x10`, `010`, `NaN`, `"a`, `"a" "b"`, `nul`, `{`, `1 2`} { // not even JSON
		var v Value
		if err := v.UnmarshalJSON([]byte(in)); err == nil {
			t.Errorf("%s was read as %+v", in, v)
		}
	}
	var v Value
	if err := v.UnmarshalJSON([]byte(strings.Repeat("9", 1<<18))); err == nil || len(err.Error()) > 200 {
		t.Errorf("%v", err)
	}
}

// anyValue draws a usable value.
func anyValue(t *rapid.T) Value {
	number := rapid.Float64Range(-1e300, 1e300)
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
		return NumberValue(Q(number.Draw(t, "number"), unitText(t)))
	case 1:
		return BoolValue(rapid.Bool().Draw(t, "bool"))
	case 2:
		return IntegerValue(rapid.Int64Range(-1<<53+1, 1<<53-1).Draw(t, "integer"))
	case 3:
		return TextValue(rapid.String().Draw(t, "text"))
	case 4:
		n := rapid.IntRange(0, 4).Draw(t, "rows")
		var columns [][]float64
		for range rapid.IntRange(1, 3).Draw(t, "columns") {
			columns = append(columns, rapid.SliceOfN(number, n, n).Draw(t, "data"))
		}
		return table(unitText(t), columns...)
	}
	return BlobValue(&BlobRef{Hash: rapid.StringMatching(`sha256:[0-9a-f]{8}`).Draw(t, "hash"), Media: "image/png", Size: rapid.IntRange(0, 1<<30).Draw(t, "size")})
}

// An amount has one form in JSON: what is hashed before it travels is hashed
// the same after.
func TestMinusZeroIsZero(t *testing.T) {
	minus := math.Copysign(0, -1)
	for _, v := range []any{Q(minus, "%"), NumberValue(Q(minus, "%"))} {
		if b, err := json.Marshal(v); err != nil || string(b) != `{"value":0,"unit":"%"}` {
			t.Errorf("%T: %s, %v", v, b, err)
		}
	}
	one, other := Command{ID: "c", Args: map[string]Value{"x": NumberValue(Q(0, "mL"))}}, Command{ID: "c", Args: map[string]Value{"x": NumberValue(Q(minus, "mL"))}}
	if one.Hash() != other.Hash() {
		t.Error("the same amount has two hashes")
	}
}

func TestValueRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyValue(t)
		b, err := json.Marshal(v)
		if err != nil || !v.Usable() {
			t.Fatalf("%v: %v", v, err)
		}
		var back Value
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		again, err := json.Marshal(back)
		if err != nil || string(again) != string(b) {
			t.Fatalf("%s came back as %s, %v", b, again, err)
		}
		if back.Kind != v.Kind || back.Base() != v.Base() || back.Text != v.Text || back.Bool != v.Bool {
			t.Fatalf("%+v came back as %+v", v, back)
		}
	})
}

// TestConformNeverChangesAnAmount: what conforms is the same amount, of the
// wanted kind, and conforms again to itself.
func TestConformNeverChangesAnAmount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, ty := anyValue(t), rapid.SampledFrom(everyType).Draw(t, "type")
		got, err := ty.Conform(v)
		if err != nil {
			if got.Usable() {
				t.Fatalf("%v with %v", got, err)
			}
			return
		}
		if got.Kind != ty.Kind || !got.Usable() || got.Kind == Number && got.Unit != ty.Unit {
			t.Fatalf("%v as %s is %+v", v, ty, got)
		}
		if v.Kind == Number && math.Abs(got.Base()-v.Base()) > 1e-12*math.Abs(v.Base())+1e-9 {
			t.Fatalf("%v as %s is %v", v, ty, got)
		}
		if again, err := ty.Conform(got); err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("%v, once more: %v, %v", got, again, err)
		}
	})
}

func TestCheckBounds(t *testing.T) {
	num := func(s string) *Value {
		q, err := ParseQuantity(s)
		if err != nil {
			t.Fatal(err)
		}
		v := NumberValue(q)
		return &v
	}
	degC := Param{Name: "target", Type: Type{Kind: Number, Unit: DegC}, Min: num("40 degC"), Max: num("92 degC")}
	volume := Param{Name: "volume", Type: Type{Kind: Number, Unit: Q(0, "mL").Unit}, MoreThan: num("0 mL"), Max: num("500 uL")}
	free := Param{Name: "note", Type: Type{Kind: Number}}
	for _, c := range []struct {
		p       Param
		v       Value
		say     string
		nearest string
	}{
		{degC, *num("40 degC"), "", ""}, {degC, *num("92 degC"), "", ""}, {degC, *num("70 degC"), "", ""},
		{degC, *num("39.9 degC"), "target is 39.9 degC; at least 40 degC, at most 92 degC is allowed", "40 degC"},
		{degC, NumberValue(Q(math.Nextafter(92, 93), "degC")), "target is 92.00000000000001 degC; at least 40 degC, at most 92 degC is allowed", "92 degC"},
		{degC, *num("-500 degC"), "target is -500 degC; at least 40 degC, at most 92 degC is allowed", "40 degC"},
		{degC, NumberValue(Q(math.NaN(), "degC")), "target is NaN degC; at least 40 degC, at most 92 degC is allowed", ""},
		{degC, NumberValue(Q(math.Inf(1), "degC")), "target is +Inf degC; at least 40 degC, at most 92 degC is allowed", ""},
		{volume, *num("0.5 mL"), "", ""}, {volume, *num("5e-324 mL"), "", ""},
		{volume, *num("0 mL"), "volume is 0 mL; more than 0 mL, at most 500 uL is allowed", ""},
		{volume, NumberValue(Quantity{math.Copysign(0, -1), Q(0, "mL").Unit}), "volume is -0 mL; more than 0 mL, at most 500 uL is allowed", ""},
		{volume, *num("0.500001 mL"), "volume is 0.500001 mL; more than 0 mL, at most 500 uL is allowed", "500 uL"},
		{free, *num("1e300"), "", ""}, {degC, TextValue("x"), "", ""},
	} {
		issue, bad := c.p.CheckBounds(c.v)
		if bad != (c.say != "") || issue.Say != c.say {
			t.Errorf("%s %v: %v %q, want %q", c.p.Name, c.v, bad, issue.Say, c.say)
			continue
		}
		if got := issue.Nearest; (got != nil) != (c.nearest != "") || got != nil && got.String() != c.nearest || issue.Repairable != (got != nil) {
			t.Errorf("%s %v: nearest %v, want %q", c.p.Name, c.v, got, c.nearest)
		}
		if bad && (issue.Code != "out_of_bounds" || issue.Path != c.p.Name) {
			t.Errorf("%+v", issue)
		}
	}
}

// TestNearestConforms: the repair that an issue offers is within the bounds.
func TestNearestConforms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		low := rapid.Float64Range(-1e3, 1e3).Draw(t, "low")
		minV, maxV := NumberValue(Q(low, "degC")), NumberValue(Q(low+rapid.Float64Range(0, 1e3).Draw(t, "span"), "degC"))
		p := Param{Name: "x", Type: Type{Kind: Number, Unit: DegC}, Min: &minV, Max: &maxV}
		v, err := p.Type.Conform(NumberValue(Q(rapid.Float64Range(-1e4, 1e4).Draw(t, "v"), rapid.SampledFrom([]string{"degC", "degF"}).Draw(t, "unit"))))
		if err != nil {
			t.Fatal(err)
		}
		issue, bad := p.CheckBounds(v)
		if bad != (v.Num < minV.Num || v.Num > maxV.Num) {
			t.Fatalf("%v in [%v, %v]: %v", v, minV, maxV, bad)
		}
		if !bad {
			return
		}
		if _, bad := p.CheckBounds(*issue.Nearest); bad {
			t.Fatalf("%v in [%v, %v]: the repair %v is refused too", v, minV, maxV, issue.Nearest)
		}
	})
}

// FuzzValueJSON: what is read is usable or nothing at all, and comes back as it
// was written.
func FuzzValueJSON(f *testing.F) {
	for _, s := range []string{`null`, `true`, `3`, `2.5`, `"x"`, `{"value":5,"unit":"mL"}`, `{"columns":[{"name":"a","unit":"s","data":[1,2]}]}`, `{"hash":"sha256:00","media":"m","size":1}`, `{"columns":[{"data":[null]}]}`, `[`, `1e999`, `"`, `t`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v Value
		if err := v.UnmarshalJSON(b); err != nil {
			if v.Usable() {
				t.Fatalf("%+v with %v", v, err)
			}
			return
		}
		if !v.Usable() && v.Kind != Missing {
			t.Fatalf("%s was read as %+v", b, v)
		}
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var back Value
		if err := json.Unmarshal(out, &back); err != nil {
			t.Fatalf("%s, written %s: %v", b, out, err)
		}
		if again, err := json.Marshal(back); err != nil || string(again) != string(out) {
			t.Fatalf("%s, written %s, came back as %s, %v", b, out, again, err)
		}
		_ = v.String()
	})
}

// A value that is only just out of bounds is not rounded into them in words.
func TestBoundsAreNotRounded(t *testing.T) {
	high := NumberValue(Q(92, "degC"))
	p := Param{Name: "target", Type: Type{Kind: Number, Unit: DegC}, Max: &high}
	i, bad := p.CheckBounds(NumberValue(Q(math.Nextafter(92, 93), "degC")))
	if !bad || i.Say != "target is 92.00000000000001 degC; at most 92 degC is allowed" || i.Got != "92.00000000000001 degC" {
		t.Errorf("%t, %+v", bad, i)
	}
}
