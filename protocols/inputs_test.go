package protocols_test

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"

	"labgate/lab"
	"labgate/protocols"
)

const withInputs = `
protocol: inputs
version: 1.0.0
inputs:
  temperature: {unit: degC, min: 40, max: 92, default: 70}
  volume:      {unit: mL, min: 0.05, max: 0.4}
  ratio:       {unit: "1", max: 2, default: 1}
  rounds:      {type: integer, min: 1, max: 20, default: 5}
  stirred:     {type: bool, default: true}
  mode:        {choices: [fast, slow], default: fast}
roles: {reactor: {is: thermostat/v1}}
steps:
  - {do: reactor.heat_off}
`

func decode(t *testing.T, text string) (v lab.Value) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestCheckInputs(t *testing.T) {
	p := parse(t, withInputs)
	nan, inf := lab.NumberValue(lab.Quantity{Value: math.NaN(), Unit: lab.DegC}), quantity(math.Inf(1), "mL")
	for _, c := range []struct {
		what, input string
		value       lab.Value
		code        string
		nearest     string // "": none
		say         string
	}{
		{"too hot", "temperature", quantity(120, "degC"), "out_of_bounds", "92 degC", "input temperature: 120 degC is out of bounds; a temperature (degC) from 40 degC to 92 degC is allowed"},
		{"too cold, in another unit", "temperature", quantity(32, "degF"), "out_of_bounds", "40 degC", "input temperature: 32 degF is out of bounds; a temperature (degC) from 40 degC to 92 degC is allowed"},
		{"a hair too much", "volume", quantity(math.Nextafter(0.4, 1), "mL"), "out_of_bounds", "0.4 mL", "input volume: 0.4 mL is out of bounds; a volume (mL) from 0.05 mL to 0.4 mL is allowed"},
		{"one-sided bound", "ratio", quantity(3, "1"), "out_of_bounds", "2", "input ratio: 3 is out of bounds; a number, at most 2 is allowed"},
		{"too many", "rounds", lab.IntegerValue(21), "out_of_bounds", "20", "input rounds: 21 is out of bounds; a whole number from 1 to 20 is allowed"},
		{"no such choice", "mode", lab.TextValue("fsat"), "out_of_bounds", "fast", `input mode: "fsat" is not one of fast, slow`},
		{"nothing like a choice", "mode", lab.TextValue("warp speed"), "out_of_bounds", "", `input mode: "warp speed" is not one of fast, slow`},
		{"a bare number", "temperature", decode(t, "72"), "no_unit", "72 degC", "input temperature: 72 has no unit; a temperature (degC) from 40 degC to 92 degC is wanted"},
		{"a bare fraction", "volume", decode(t, "0.2"), "no_unit", "0.2 mL", "input volume: 0.2 has no unit; a volume (mL) from 0.05 mL to 0.4 mL is wanted"},
		{"a bare number in another unit", "temperature", decode(t, "345"), "no_unit", "", "input temperature: 345 has no unit; a temperature (degC) from 40 degC to 92 degC is wanted"},
		{"a difference", "temperature", quantity(345, "K"), "wrong_dimension", "", "input temperature: 345 K is a temperature difference; a temperature (degC) from 40 degC to 92 degC is wanted"},
		{"a time", "volume", quantity(5, "s"), "wrong_dimension", "", "input volume: 5 s is a time; a volume (mL) from 0.05 mL to 0.4 mL is wanted"},
		{"a number with a unit", "rounds", quantity(5, "mL"), "wrong_dimension", "", "input rounds: 5 mL is a volume; a whole number from 1 to 20 is wanted"},
		{"NaN", "temperature", nan, "not_finite", "", "input temperature: NaN degC is not a finite number"},
		{"infinity", "volume", inf, "not_finite", "", "input volume: +Inf mL is not a finite number"},
		{"NaN as text", "temperature", decode(t, `"NaN"`), "not_finite", "", "input temperature: NaN is not a finite number"},
		{"infinity as text", "rounds", protocols.ParseValue("-inf"), "not_finite", "", "input rounds: -inf is not a finite number"},
		{"a string", "temperature", decode(t, `"hot"`), "wrong_type", "", `input temperature: "hot" is a text; a temperature (degC) from 40 degC to 92 degC is wanted`},
		{"a quantity as a string", "temperature", decode(t, `"72 degC"`), "wrong_type", "72 degC", `input temperature: "72 degC" is a text; a temperature (degC) from 40 degC to 92 degC is wanted`},
		{"a bool for a number", "temperature", decode(t, "true"), "wrong_type", "", "input temperature: true is a bool; a temperature (degC) from 40 degC to 92 degC is wanted"},
		{"null", "volume", decode(t, "null"), "wrong_type", "", "input volume: it is null; a volume (mL) from 0.05 mL to 0.4 mL is wanted"},
		{"a fraction", "rounds", decode(t, "2.5"), "wrong_type", "", "input rounds: 2.5 is a number; a whole number from 1 to 20 is wanted"},
		{"a number for a bool", "stirred", decode(t, "1"), "wrong_type", "", "input stirred: 1 is a whole number; true or false is wanted"},
		{"a string for a bool", "stirred", decode(t, `"true"`), "wrong_type", "true", `input stirred: "true" is a text; true or false is wanted`},
		{"a number for a choice", "mode", decode(t, "1"), "wrong_type", "", "input mode: 1 is a whole number; one of fast, slow is wanted"},
		{"a table", "volume", decode(t, `{"columns": []}`), "wrong_type", "", "input volume: table(empty) is a table; a volume (mL) from 0.05 mL to 0.4 mL is wanted"},
		{"a slip of the name", "temprature", quantity(70, "degC"), "unknown_input", "", `inputs takes no input "temprature"`},
		{"no name at all", strings.Repeat("x", 100), quantity(70, "degC"), "unknown_input", "", `inputs takes no input "` + strings.Repeat("x", 64) + `…"`},
	} {
		t.Run(c.what, func(t *testing.T) {
			given := map[string]lab.Value{"volume": quantity(0.2, "mL")}
			given[c.input] = c.value
			got, issues := p.CheckInputs(given)
			if got != nil || len(issues) != 1 {
				t.Fatalf("%v, %v", got, issues)
			}
			i := issues[0]
			if i.Code != c.code || i.Say != c.say || !strings.HasPrefix(i.Path, "inputs.") || i.Allowed == "" {
				t.Errorf("%+v", i)
			}
			if near := i.Nearest; (near != nil) != i.Repairable || (near == nil) != (c.nearest == "") || near != nil && near.String() != c.nearest {
				t.Fatalf("nearest %v, want %q", near, c.nearest)
			}
			if i.Nearest != nil { // put in its place it repairs it
				given[c.input] = *i.Nearest
				if _, issues := p.CheckInputs(given); len(issues) > 0 {
					t.Errorf("the nearest value is refused too: %v", issues)
				}
			}
		})
	}
}

func TestCheckInputsReportsEverything(t *testing.T) {
	p := parse(t, withInputs)
	_, issues := p.CheckInputs(map[string]lab.Value{"temperature": quantity(120, "degC"), "rounds": lab.TextValue("many"), "a": {}, "b": {}})
	var codes []string
	for _, i := range issues {
		codes = append(codes, i.Code+" "+i.Path)
	}
	want := []string{"out_of_bounds inputs.temperature", "input_missing inputs.volume", "wrong_type inputs.rounds", "unknown_input inputs.a", "unknown_input inputs.b"}
	if !reflect.DeepEqual(codes, want) {
		t.Errorf("%q", codes)
	}
}

func TestCheckInputsFillsAndConverts(t *testing.T) {
	p := parse(t, withInputs)
	got, issues := p.CheckInputs(map[string]lab.Value{"volume": quantity(200, "uL"), "rounds": decode(t, "7"), "mode": decode(t, `"slow"`), "ratio": decode(t, "1.5")})
	if len(issues) > 0 {
		t.Fatal(issues)
	}
	want := map[string]string{"temperature": "70 degC", "volume": "0.2 mL", "ratio": "1.5", "rounds": "7", "stirred": "true", "mode": "slow"}
	for n, w := range want {
		if got[n].String() != w {
			t.Errorf("%s is %s, want %s", n, got[n], w)
		}
	}
	if len(got) != len(want) || got["mode"].Kind != lab.Enum {
		t.Errorf("%v", got)
	}
}

func TestParseValue(t *testing.T) {
	for text, want := range map[string]string{"72 degC": "quantity 72 degC", "5": "integer 5", "0.5": "quantity 0.5", "true": "bool true", "fast": `text "fast"`, " 2s ": "quantity 2 s", "NaN degC": `text "NaN degC"`, "": `text ""`, "1e3": "integer 1000"} {
		if v := protocols.ParseValue(text); v.Kind.String()+" "+v.String() != want {
			t.Errorf("%q is %s %s, want %s", text, v.Kind, v, want)
		}
	}
}
