package messages

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"labgate/lab"
)

// sample has a field of every kind that documents have.
type sample struct {
	Envelope
	Text     string               `json:"text"`
	Whole    int                  `json:"whole"`
	Small    uint8                `json:"small"`
	Count    uint64               `json:"count"`
	Number   float64              `json:"number"`
	Maybe    *float64             `json:"maybe,omitempty"`
	Yes      bool                 `json:"yes"`
	When     time.Time            `json:"when"`
	Until    *time.Time           `json:"until,omitempty"`
	Amount   lab.Quantity         `json:"amount"`
	Perhaps  *lab.Quantity        `json:"perhaps,omitempty"`
	Value    lab.Value            `json:"value"`
	Values   map[string]lab.Value `json:"values,omitempty"`
	List     []string             `json:"list,omitempty"`
	Nested   *Bill                `json:"nested,omitempty"`
	Live     []LiveCheck          `json:"live,omitempty"`
	Labels   map[string]string    `json:"labels,omitempty"`
	State    lab.State            `json:"state"`
	Raw      json.RawMessage      `json:"raw,omitempty"`
	Predicts map[string]Prediction
	hidden   int // no document may set it
}

var _ = sample{}.hidden

// list writes issues as "code path" pairs, in order.
func list(is lab.Issues) string {
	var parts []string
	for _, i := range is {
		parts = append(parts, strings.TrimSpace(i.Code+" "+i.Path))
	}
	return strings.Join(parts, ", ")
}

func TestDecode(t *testing.T) {
	deep := func(n int) string { return `{"raw":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	for _, c := range []struct{ in, want, say string }{
		{`{}`, "", ""},
		{` {"text":"ü","whole":-3,"small":255,"count":18446744073709551615,"number":1e-3,"maybe":2,"yes":true,"when":"2026-11-22T18:00:00.000000001+01:00","until":null} `, "", ""},
		{`{"amount":{"unit":"mL","value":5},"perhaps":null,"value":{"value":5,"unit":"mL"},"values":{"a":1,"b":null},"list":["x"],"nested":{"commands":1},"live":[{"step":"s"}],"state":"confirmed","raw":{"any":[1]}}`, "", ""},
		{`{"values":null,"list":null,"live":null,"labels":null,"nested":null,"raw":null}`, "", ""},
		{`{"kind":"k","origin_seq":7,"synthetic":true}`, "", ""},

		// not JSON
		{``, "broken_json", "not JSON at byte 0: the document ends too early"},
		{`   `, "broken_json", "not JSON at byte 0: the document ends too early"},
		{`{"text":"x"`, "broken_json", "not JSON at byte 11: the document ends too early"},
		{`{"text":"x`, "broken_json", ""}, {`{"text":`, "broken_json", ""}, {`{"text"`, "broken_json", ""}, {`{`, "broken_json", ""}, {`{"list":["x"`, "broken_json", ""}, {`{"list":[}`, "broken_json", ""}, {`{"list":["x"}]`, "broken_json", ""},
		{`{"text":"x",}`, "broken_json", ""}, {`{"list":["x",]}`, "broken_json", ""}, {`{,}`, "broken_json", ""}, {`{1:2}`, "broken_json", ""}, {`{[]:2}`, "broken_json", ""}, {`{"a" "b"}`, "broken_json", ""}, {`{"a":1 "b":2}`, "broken_json", ""},
		{`{'text':'x'}`, "broken_json", ""}, {`{text:1}`, "broken_json", ""}, {`{"number":NaN}`, "broken_json", ""}, {`{"number":Infinity}`, "broken_json", ""}, {`{"number":-Infinity}`, "broken_json", ""}, {`{"number":+1}`, "broken_json", ""},
		{`{"number":01}`, "broken_json", ""}, {`{"number":.5}`, "broken_json", ""}, {`{"number":1.}`, "broken_json", ""}, {`{"number":0x1}`, "broken_json", ""}, {`{"yes":True}`, "broken_json", ""}, {`{"yes":tru}`, "broken_json", ""},
		{"{\"text\":\"a\nb\"}", "broken_json", ""}, {`{"text":"\x41"}`, "broken_json", ""}, {"\ufeff{}", "broken_json", ""}, {`{} // why`, "broken_json", ""}, {`/* why */ {}`, "broken_json", ""},
		{`{}{}`, "broken_json", "there is text after the document, at byte 3"}, {`{} null`, "broken_json", ""}, {`{}]`, "broken_json", ""}, {`{},`, "broken_json", ""},
		{"{\"text\":\"\xff\"}", "broken_json", "the document is not UTF-8"}, {"{\"text\":\"\xed\xa0\x80\"}", "broken_json", "the document is not UTF-8"},
		{`{"text":"\ud800"}`, "broken_json", "half of a surrogate pair stands at byte 9"}, {`{"text":"\udc00\ud800"}`, "broken_json", ""}, {`{"text":"\ud83d\u0041"}`, "broken_json", ""}, {`{"\ud800":1}`, "broken_json", ""},
		{`{"text":"\ud83d\ude00 \\ud800 \ufffd"}`, "", ""},
		{deep(maxDepth), "", ""}, {deep(maxDepth + 1), "broken_json", ""}, {strings.Repeat("[", 1<<20), "broken_json", "not JSON at byte 33: nested deeper than 32"}, {strings.Repeat(`{"a":`, 1<<18), "broken_json", ""},

		// not an object
		{`[]`, "wrong_type", "the document is a list; an object is wanted"}, {`null`, "wrong_type", "the document is null; an object is wanted"}, {`"{}"`, "wrong_type", `the document is the text "{}"; an object is wanted`}, {`5`, "wrong_type", "the document is 5; an object is wanted"}, {`true`, "wrong_type", "the document is true; an object is wanted"},

		// keys
		{`{"text":"a","text":"a"}`, "duplicate_key text", "text is given twice"}, {`{"text":"a","te\u0078t":"a"}`, "duplicate_key text", ""}, {`{"a":1,"a":1,"a":1}`, "duplicate_key a, duplicate_key a, unknown_field a, unknown_field a, unknown_field a", ""},
		{`{"nested":{"commands":1,"commands":2}}`, "duplicate_key nested.commands", "nested.commands is given twice"}, {`{"live":[{},{"step":"a","step":"b"}]}`, "duplicate_key live[1].step", ""}, {`{"raw":{"x":[{"y":1,"y":1}]}}`, "duplicate_key raw.x[0].y", ""},
		{`{"amount":{"value":1,"value":2,"unit":"s"}}`, "duplicate_key amount.value", ""}, {`{"values":{"a":1,"a":2}}`, "duplicate_key values.a", ""},
		{`{"Text":"a"}`, "unknown_field Text", `there is no field "Text"`}, {`{"TEXT":"a"}`, "unknown_field TEXT", ""}, {`{"text ":"a"}`, "unknown_field text", ""}, {`{"":1}`, "unknown_field", ""}, {`{"hidden":1}`, "unknown_field hidden", ""}, {`{"Predicts":{}}`, "unknown_field Predicts", ""}, {`{"Envelope":{}}`, "unknown_field Envelope", ""},
		{`{"nested":{"comands":1}}`, "unknown_field nested.comands", ""}, {`{"live":[{"stp":"a"}]}`, "unknown_field live[0].stp", ""},

		// types
		{`{"text":5}`, "wrong_type text", "text is 5; a text is wanted"}, {`{"text":null}`, "wrong_type text", "text is null; a text is wanted"}, {`{"text":true}`, "wrong_type text", ""}, {`{"text":{}}`, "wrong_type text", ""}, {`{"text":[]}`, "wrong_type text", ""},
		{`{"whole":1.5}`, "wrong_type whole", "whole is 1.5; a whole number is wanted"}, {`{"whole":1.0}`, "wrong_type whole", ""}, {`{"whole":1e2}`, "wrong_type whole", ""}, {`{"whole":"1"}`, "wrong_type whole", `whole is the text "1"; a whole number is wanted`}, {`{"whole":null}`, "wrong_type whole", ""},
		{`{"whole":9223372036854775808}`, "wrong_type whole", ""}, {`{"whole":true}`, "wrong_type whole", ""}, {`{"small":256}`, "wrong_type small", "small is 256; a whole number, 0 or more is wanted"}, {`{"small":-1}`, "wrong_type small", ""}, {`{"count":18446744073709551616}`, "wrong_type count", ""}, {`{"count":-0}`, "wrong_type count", ""},
		{`{"number":"NaN"}`, "wrong_type number", `number is the text "NaN"; a finite number is wanted`}, {`{"number":"1"}`, "wrong_type number", ""}, {`{"number":1e400}`, "wrong_type number", ""}, {`{"number":1e-400}`, "wrong_type number", ""}, {`{"number":null}`, "wrong_type number", ""}, {`{"maybe":"x"}`, "wrong_type maybe", ""}, {`{"number":[1]}`, "wrong_type number", ""},
		{`{"yes":1}`, "wrong_type yes", "yes is 1; true or false is wanted"}, {`{"yes":"true"}`, "wrong_type yes", ""}, {`{"yes":null}`, "wrong_type yes", ""},
		{`{"list":"x"}`, "wrong_type list", "list is the text \"x\"; a list is wanted"}, {`{"list":{}}`, "wrong_type list", ""}, {`{"list":["x",5,null]}`, "wrong_type list[1], wrong_type list[2]", ""},
		{`{"labels":[]}`, "wrong_type labels", ""}, {`{"labels":{"a":1,"b":"x"}}`, "wrong_type labels.a", ""}, {`{"nested":[]}`, "wrong_type nested", ""}, {`{"live":[5,{}]}`, "wrong_type live[0]", ""}, {`{"live":{}}`, "wrong_type live", ""},
		{`{"state":5}`, "wrong_type state", ""}, {`{"state":null}`, "wrong_type state", ""}, {`{"state":"confirmedd"}`, "", ""},

		// times
		{`{"when":"2026-11-22"}`, "wrong_type when", `when is the text "2026-11-22"; a time such as 2026-11-22T18:00:00Z is wanted`}, {`{"when":"2026-11-22T18:00:00"}`, "wrong_type when", ""}, {`{"when":"2026-11-22 18:00:00Z"}`, "wrong_type when", ""}, {`{"when":"2026-11-22T24:00:00Z"}`, "wrong_type when", ""},
		{`{"when":"2026-02-30T00:00:00Z"}`, "wrong_type when", ""}, {`{"when":"2026-11-22T8:00:00Z"}`, "wrong_type when", ""}, {`{"when":"2026-11-22T18:00:00,5Z"}`, "wrong_type when", ""}, {`{"when":"2026-11-22T18:00:00.0000000001Z"}`, "wrong_type when", ""}, {`{"when":"2026-11-22T18:00:60Z"}`, "wrong_type when", ""}, {`{"when":"2026-11-22T18:00:00+25:00"}`, "wrong_type when", ""},
		{`{"when":"now"}`, "wrong_type when", ""}, {`{"when":1795370400}`, "wrong_type when", ""}, {`{"when":null}`, "wrong_type when", ""}, {`{"when":{}}`, "wrong_type when", ""}, {`{"until":""}`, "wrong_type until", ""}, {`{"when":"10000-01-01T00:00:00Z"}`, "wrong_type when", ""},

		// quantities
		{`{"amount":{"value":5}}`, "no_unit amount.unit", "amount.unit is missing"}, {`{"amount":{"unit":"s"}}`, "missing_field amount.value", ""}, {`{"amount":{}}`, "missing_field amount.value, no_unit amount.unit", ""}, {`{"amount":5}`, "wrong_type amount", "amount is 5; a quantity is wanted"},
		{`{"amount":"5 s"}`, "wrong_type amount", ""}, {`{"amount":null}`, "wrong_type amount", ""}, {`{"amount":[5,"s"]}`, "wrong_type amount", ""}, {`{"amount":{"value":"5","unit":"s"}}`, "wrong_type amount.value", ""}, {`{"amount":{"value":"NaN","unit":"s"}}`, "wrong_type amount.value", ""},
		{`{"amount":{"value":1e400,"unit":"s"}}`, "not_finite amount.value", "amount.value is 1e400; a finite number is wanted"}, {`{"amount":{"value":1e-400,"unit":"s"}}`, "not_finite amount.value", ""}, {`{"amount":{"value":null,"unit":"s"}}`, "wrong_type amount.value", ""}, {`{"amount":{"value":true,"unit":"s"}}`, "wrong_type amount.value", ""},
		{`{"amount":{"value":5,"unit":""}}`, "bad_unit amount.unit", ""}, {`{"amount":{"value":5,"unit":null}}`, "bad_unit amount.unit", ""}, {`{"amount":{"value":5,"unit":5}}`, "bad_unit amount.unit", ""}, {`{"amount":{"value":5,"unit":"mx"}}`, "bad_unit amount.unit", `amount.unit: unit "mx": "mx" is not a unit; did you mean "lx"?`},
		{`{"amount":{"value":5,"unit":"s","sd":1}}`, "unknown_field amount.sd", `there is no field "amount.sd"; a quantity has value and unit`}, {`{"amount":{"Value":5,"unit":"s"}}`, "unknown_field amount.Value, missing_field amount.value", ""}, {`{"perhaps":{"value":5}}`, "no_unit perhaps.unit", ""},

		// values
		{`{"value":{"value":5}}`, "no_unit value.unit", ""}, {`{"value":{"valu":5,"unit":"s"}}`, "unknown_field value.valu, missing_field value.value", ""}, {`{"value":{}}`, "missing_field value.value, no_unit value.unit", ""}, {`{"value":[70]}`, "wrong_type value", "value: [70] is not a value"}, {`{"value":1e999}`, "not_finite value", ""},
		{`{"values":{"t":{"columns":[{"name":"a","unit":"s","data":[1,null]}]}}}`, "wrong_type values.t", `values.t: row 2 of column "a" is null, not a number`}, {`{"values":{"t":{"columns":[{"name":"a","data":[1]}]}}}`, "wrong_type values.t", ""}, {`{"values":{"t":{"columns":[],"evil":1}}}`, "wrong_type values.t", ""},
		{`{"values":{"t":{"hash":"sha256:0","media":"m","size":1,"bytes":"AA=="}}}`, "wrong_type values.t", `values.t: a value has no field "bytes" beside hash`}, {`{"values":{"t":{"hash":"x","value":1,"unit":"s"}}}`, "wrong_type values.t", ""},
	} {
		var s sample
		is := Decode([]byte(c.in), &s)
		if got := list(is); got != c.want {
			t.Errorf("%.80s: got %q, want %q: %v", c.in, got, c.want, is)
			continue
		}
		if c.say != "" && is[0].Say != c.say {
			t.Errorf("%.80s: says %q, want %q", c.in, is[0].Say, c.say)
		}
	}
}

func TestDecodeHints(t *testing.T) {
	var s sample
	is := Decode([]byte(`{"txt":"a","Kind":"x","amount":{"valu":1,"unit":"s"},"xyzzy":1}`), &s)
	want := `there is no field "txt" (did you mean "text"?)
there is no field "Kind" (did you mean "kind"?)
there is no field "amount.valu"; a quantity has value and unit (did you mean "value"?)
amount.value is missing (write {"value": 70, "unit": "degC"})
there is no field "xyzzy"`
	if d := cmp.Diff(want, is.Error()); d != "" {
		t.Error(d)
	}
}

func TestDecodeKeepsWhatIsGood(t *testing.T) {
	var s sample
	is := Decode([]byte(`{"text":"x","whole":"no","values":{"a":{"value":5,"unit":"ml"},"b":{"value":5}},"list":["a",1,"c"],"nested":{"commands":3,"exposures":"x"}} trailing`), &s)
	if list(is) != "broken_json, wrong_type whole, no_unit values.b.unit, wrong_type list[1], wrong_type nested.exposures" {
		t.Error(list(is))
	}
	if s.Text != "x" || s.Whole != 0 || s.Values["a"].String() != "5 mL" || s.Values["b"].Usable() || len(s.List) != 3 || s.List[2] != "c" || s.Nested.Commands != 3 {
		t.Errorf("%+v", s)
	}
}

// TestHostileDocuments: whatever a document says, the answer fits a message
// and comes soon. A quadratic step would take minutes.
func TestHostileDocuments(t *testing.T) {
	const size = MaxProposal - 100
	long := strings.Repeat("k", 200<<10)
	repeat := func(s string) string { return strings.Repeat(s, size/len(s)) }
	var keys strings.Builder
	for i := 0; keys.Len() < size; i++ {
		fmt.Fprintf(&keys, `"%x":1,`, i)
	}
	nested := `"v"`
	for range maxDepth - 2 {
		nested = `{"` + strings.Repeat("p", 2000) + `":` + nested + `}`
	}
	for name, text := range map[string]string{
		"one key again and again": `{` + repeat(`"a":1,`) + `"a":1}`,
		"many unknown keys":       `{` + keys.String() + `"a":1}`,
		"many inputs":             `{"inputs":{` + repeat(`"a":1,`) + `"a":1}}`,
		"many bad inputs":         `{"inputs":{` + strings.ReplaceAll(keys.String(), ":1,", ":[],") + `"a":1}}`,
		"many bad predictions":    `{"predicts":{` + strings.ReplaceAll(keys.String(), ":1,", ":{},")[:size-20] + `"":{}}}`,
		"a long key":              `{"` + long + `":1}`,
		"a long text":             `{"kind":"` + long + `","id":"` + long[:1000] + `"}`,
		"a long number":           `{"budget":{"exposures":` + strings.Repeat("9", 200<<10) + `}}`,
		"a long quantity":         `{"inputs":{"x":{"value":` + strings.Repeat("9", 200<<10) + `,"unit":"s"}}}`,
		"a long unit":             `{"inputs":{"x":{"value":1,"unit":"` + long + `"}}}`,
		"a long field":            `{"inputs":{"x":{"value":1,"unit":"s","` + long + `":1}}}`,
		"a long value key":        `{"inputs":{"x":{"hash":"a","` + long + `":1}}}`,
		"a long input":            `{"inputs":{"` + long + `":[]}}`,
		"many under a long key":   `{"inputs":{"` + long[:100<<10] + `":{` + strings.Repeat(`"a":1,`, 20000) + `"b":1}}}`,
		"many long paths":         `{"labels":{"x":` + nested + `}}`,
		"long prediction":         `{"predicts":{"` + long + `":{"value":1,"sd":-1,"unit":"` + "x" + `"}}}`,
		"a long time":             `{"not_after":"` + long + `"}`,
		"a long list":             `{"samples":[` + repeat(`1,`) + `1]}`,
		"quotes":                  `{"kind":"` + strings.Repeat(`\u0001`, 30<<10) + `","key":"` + strings.Repeat(`\"`, 100) + `"}`,
		"a list of lists":         `{"samples":[` + repeat(`[[[[]]]],`) + `1]}`,
	} {
		start := time.Now()
		_, is := DecodeProposal([]byte(text))
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("%s took %v", name, d)
		}
		b, err := json.Marshal(is)
		if err != nil || len(is) == 0 || len(is) > MaxIssues || len(b) > 200<<10 {
			t.Errorf("%s: %d issues of %d bytes, %v", name, len(is), len(b), err)
		}
		for _, i := range is {
			if len(i.Say) > 1500 || len(i.Got) > 400 || len(i.Path) > 400 || !utf8.ValidString(i.Path+i.Say+i.Got+i.Hint) {
				t.Errorf("%s: %d bytes of words, %d of what was got, %d of path", name, len(i.Say), len(i.Got), len(i.Path))
			}
		}
	}
	_, is := DecodeProposal([]byte(`{` + keys.String() + `"a":1}`))
	if last := is[len(is)-1]; len(is) != MaxIssues || last.Code != "too_many" || !strings.HasPrefix(last.Say, "and ") {
		t.Errorf("%d issues, the last is %+v", len(is), last)
	}
	for _, n := range []int{MaxMessage + 1, MaxMessage} {
		is := Decode([]byte(`"`+strings.Repeat("x", n-2)+`"`), new(sample))
		if code := is[0].Code; (code == "too_large") != (n > MaxMessage) || len(is) != 1 {
			t.Errorf("%d bytes: %s", n, code)
		}
	}
}

// documents are all that travel.
func documents() []any {
	return []any{new(Proposal), new(Verdict), new(Command), new(OutcomeQuery), new(CommandReply), new(Outcome), new(LeaseRequest), new(LeaseReply), new(Telemetry), new(Safety), new(Stop), new(StopReply),
		new(Control), new(ControlReply), new(RunStart), new(RunDescriptor), new(RunEvent), new(RunResource), new(RunStop)}
}

// TestZeroDocuments: a document with nothing in it can be written and read.
func TestZeroDocuments(t *testing.T) {
	for _, doc := range documents() {
		b := Body(doc)
		back := reflect.New(reflect.TypeOf(doc).Elem())
		if is := Decode(b, back.Interface()); len(is) > 0 {
			t.Errorf("%T: %s: %v", doc, b, is)
		}
		if again := Body(back.Interface()); string(again) != string(b) && !strings.Contains(string(b), "null") {
			t.Errorf("%T: %s came back as %s", doc, b, again)
		}
	}
}

// TestDocumentsRoundTrip: every document, filled with anything, comes back
// without an issue and says the same.
func TestDocumentsRoundTrip(t *testing.T) {
	for _, doc := range documents() {
		kind := reflect.TypeOf(doc).Elem()
		t.Run(kind.Name(), rapid.MakeCheck(func(t *rapid.T) {
			doc, back := reflect.New(kind), reflect.New(kind)
			fill(t, doc.Elem(), 3)
			b := Body(doc.Interface())
			if is := Decode(b, back.Interface()); len(is) > 0 {
				t.Fatalf("%s: %v", b, is)
			}
			if again := Body(back.Interface()); string(again) != string(b) {
				t.Fatalf("%s\ncame back as\n%s", b, again)
			}
		}))
	}
}

// fill sets everything in v to something.
func fill(t *rapid.T, v reflect.Value, depth int) {
	text := rapid.StringMatching(`[a-zäö_<>&"\\/\x{2028}\x00-\x{1f} .]{0,6}`)
	number := rapid.Float64Range(-1e12, 1e12)
	unit := rapid.SampledFrom([]string{"mL", "degC", "1", "%", "mL/min", "K/s"})
	switch v.Interface().(type) {
	case lab.Quantity:
		v.Set(reflect.ValueOf(lab.Q(number.Draw(t, "number"), unit.Draw(t, "unit"))))
		return
	case lab.Value:
		v.Set(reflect.ValueOf(rapid.SampledFrom([]lab.Value{lab.BoolValue(true), lab.IntegerValue(7), lab.TextValue("x"), lab.NumberValue(lab.Q(1.5, "s")), {},
			lab.TableValue(&lab.TableData{Columns: []lab.Column{{Name: "a", Unit: lab.Second}}, Data: [][]float64{{1, 2}}}), lab.BlobValue(&lab.BlobRef{Hash: "sha256:0", Media: "image/png", Size: 3})}).Draw(t, "value")))
		return
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()))
		return
	case lab.State:
		v.SetUint(uint64(rapid.IntRange(0, int(lab.Superseded)).Draw(t, "state")))
		return
	case lab.Kind:
		v.SetUint(uint64(rapid.IntRange(0, int(lab.KindCancelled)).Draw(t, "kind")))
		return
	case lab.Quality:
		v.SetUint(uint64(rapid.IntRange(0, int(lab.Good)).Draw(t, "quality")))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if tag := v.Type().Field(i).Tag.Get("json"); tag != "-" {
				fill(t, v.Field(i), depth)
			}
		}
	case reflect.Pointer:
		if depth > 0 && rapid.Bool().Draw(t, "set") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), depth-1)
			if value, ok := v.Interface().(*lab.Value); ok && !value.Usable() { // is null, too
				v.SetZero()
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, min(depth, 2)).Draw(t, "size"), 2))
		for i := range v.Len() {
			fill(t, v.Index(i), depth-1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range rapid.IntRange(0, min(depth, 2)).Draw(t, "size") {
			e := reflect.New(v.Type().Elem()).Elem()
			fill(t, e, depth-1)
			v.SetMapIndex(reflect.ValueOf(text.Draw(t, "key")), e)
		}
	case reflect.String:
		v.SetString(text.Draw(t, "text"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Float64:
		v.SetFloat(number.Draw(t, "number") + 0) // -0 comes back as 0
	case reflect.Int:
		v.SetInt(int64(rapid.IntRange(-1000, 1000).Draw(t, "int")))
	case reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(t, "uint"))
	default:
		t.Fatalf("no way to fill a %s", v.Type())
	}
}

// FuzzDecode: no document makes the decoder panic or write at length, and what
// is read without an issue comes back.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"kind":"proposal/v1","id":"a","key":"k","protocol":{"name":"x","version":"1"},"inputs":{"t":{"value":72,"unit":"degC"}}}`, `{"inputs":{"t":{"columns":[{"name":"a","unit":"s","data":[1]}]}}}`,
		`{"predicts":{"peak":{"value":1,"sd":1,"unit":"nm"}},"budget":{"time":{"value":1,"unit":"min"},"exposures":3},"not_after":"2026-11-22T18:00:00Z"}`, `{"a":1,"a":2}`, `[]`, `{"key":"\ud800"}`, `{"id":`, `{} {}`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, is := DecodeProposal(data)
		if len(is) > MaxIssues {
			t.Fatalf("%d issues", len(is))
		}
		for _, i := range is {
			if i.Code == "" || i.Say == "" || len(i.Say) > 1500 || !utf8.ValidString(i.Say+i.Path+i.Got) {
				t.Fatalf("%+v", i)
			}
		}
		for _, doc := range documents() {
			if more := Decode(data, doc); len(more) > 0 {
				continue
			}
			b := Body(doc)
			back := reflect.New(reflect.TypeOf(doc).Elem())
			if again := Decode(b, back.Interface()); len(again) > 0 {
				t.Fatalf("%T: %s was read, %s not: %v", doc, data, b, again)
			}
		}
		if len(is) == 0 && (p.Kind != KindProposal || p.ID == "" || p.Key == "") {
			t.Fatalf("%s is taken for a proposal", data)
		}
	})
}

// BenchmarkDecode is a command as a gateway gets it.
func BenchmarkDecode(b *testing.B) {
	data := Body(Command{Envelope: Envelope{Kind: KindCommand, Lab: "demo", Origin: "runner", OriginSeq: 7, Boot: "01KD", Time: time.Unix(1, 2)}, ID: "01KE", Instrument: "pump_a", Component: "pump", Command: "dose",
		Args: map[string]lab.Value{"volume": lab.NumberValue(lab.Q(0.4, "mL")), "rate": lab.NumberValue(lab.Q(6, "mL/min"))}, Principal: "planner_1", Run: "01KF", Step: "feed", Lease: 3, NotAfter: time.Unix(3, 0)})
	b.ReportAllocs()
	for b.Loop() {
		var c Command
		if is := Decode(data, &c); len(is) > 0 {
			b.Fatal(is)
		}
	}
}
