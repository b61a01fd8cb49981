package strict

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"labgate/lab"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestBadFiles: each bad file gives exactly the issues of its golden file.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".yaml")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			n, is := Parse(name, data)
			if len(is) == 0 {
				t.Fatalf("no issue; read as %s", dump(n))
			}
			golden := strings.TrimSuffix(f, ".yaml") + ".golden"
			got := list(is)
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Error(d)
			}
		})
	}
}

func list(is lab.Issues) string {
	var b strings.Builder
	for _, i := range is {
		fmt.Fprintf(&b, "%s: %s\n", i.Code, i.Error())
	}
	return b.String()
}

// dump writes a tree with the places of its scalars.
func dump(n *Node) string {
	switch n.Kind() {
	case Scalar:
		return fmt.Sprintf("%d:%d %q", n.pos.Line, n.pos.Column, n.text)
	case List:
		var parts []string
		for _, v := range n.vals {
			parts = append(parts, dump(v))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case Map:
		var parts []string
		for i, k := range n.keys {
			parts = append(parts, fmt.Sprintf("%d:%d %s: %s", k.pos.Line, k.pos.Column, k.name, dump(n.vals[i])))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return "null"
}

func TestPositions(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"plain", "a: x > 1 # why\n", `{1:1 a: 1:4 "x > 1"}`},
		{"quoted", "'a': \"x\"\n\"b\": 'it''s'\n", `{1:2 a: 1:7 "x", 2:2 b: 2:7 "it's"}`},
		{"umlauts", "ä: {ö: ü}\n", `{1:1 ä: {1:5 ö: 1:8 "ü"}}`},
		{"literal", "a: |\n  x > 1\n  y\nb: 2\n", `{1:1 a: 2:3 "x > 1\ny\n", 4:1 b: 4:4 "2"}`},
		{"folded after a blank line", "a: >-\n\n    x >\n    1\n", `{1:1 a: 3:5 "\nx > 1"}`},
		{"crlf", "a: 1\r\nb: 2\r\n", `{1:1 a: 1:4 "1", 2:1 b: 2:4 "2"}`},
		{"nulls", "a:\nb: ~\nc: null\nd: 'null'\n", `{1:1 a: null, 2:1 b: null, 3:1 c: null, 4:1 d: 4:5 "null"}`},
		{"list", "- a\n- - b\n", `[1:3 "a", [2:5 "b"]]`},
		{"document marks", "---\na: 1\n...\n", `{2:1 a: 2:4 "1"}`},
		{"verbatim", "v: 1.10\nw: 1.2.0\nx: 1e3\n", `{1:1 v: 1:4 "1.10", 2:1 w: 2:4 "1.2.0", 3:1 x: 3:4 "1e3"}`},
		{"json", "{\n\t\"ä\": [1.50, \"x\\/\\ud83d\\ude00\", true, null, {}],\n\t\"b\" : \"é\"\n}", `{2:3 ä: [2:8 "1.50", 2:15 "x/😀", 2:33 "true", null, {}], 3:3 b: 3:9 "é"}`},
		{"json list", ` ["a"]`, `[1:4 "a"]`},
		{"nearly json", "{a: 1}", `{1:2 a: 1:5 "1"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, is := Parse("f", []byte(c.text))
			if len(is) > 0 {
				t.Fatal(is)
			}
			if got := dump(n); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestTroubleReadsTheLibrary fails when an upgrade of the YAML library moves
// what trouble reads by reflection.
func TestTroubleReadsTheLibrary(t *testing.T) {
	dec := yaml.NewDecoder(strings.NewReader("a: 1\nb: [1, 2\nc: 3\n"))
	var n yaml.Node
	if err := dec.Decode(&n); err == nil {
		t.Fatal("no error")
	}
	at, doing, from := trouble(dec)
	if at != [2]int{3, 2} || doing != "while parsing a flow sequence" || from != [2]int{2, 4} {
		t.Errorf("got %v %q %v", at, doing, from)
	}
}

func TestLimits(t *testing.T) {
	atDepth := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, c := range []struct{ name, text, code string }{
		{"a file of the limit", "a: '" + strings.Repeat("x", MaxBytes-6) + "'\n", ""},
		{"a byte more", "a: '" + strings.Repeat("x", MaxBytes-5) + "'\n", "too_large"},
		{"depth at the limit", atDepth(MaxDepth), ""},
		{"deeper", atDepth(MaxDepth + 2), "too_deep"},
		{"brackets in a text", "a: '" + strings.Repeat("[", 1000) + "'\n", ""},
		{"values at the limit", "[" + strings.Repeat("1,", MaxNodes-2) + "1]", ""},
		{"values beyond", "[" + strings.Repeat("1,", MaxNodes-1) + "1]", "too_deep"},
		{"indented values beyond", strings.Repeat("- 1\n", MaxNodes), "too_deep"},
		{"hopeless depth", strings.Repeat("[", MaxBytes), "broken_yaml"},
		{"hopeless indentation", strings.Repeat("- ", MaxBytes/2), "broken_yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, is := Parse("f", []byte(c.text))
			code := ""
			if len(is) > 0 {
				code = is[0].Code
			}
			if code != c.code {
				t.Errorf("got %q, want %q: %.300s", code, c.code, is.Error())
			}
		})
	}
}

// TestHostileTextsAreCheap: what a text of the largest size can cost is bounded;
// a quadratic step would take minutes here.
func TestHostileTextsAreCheap(t *testing.T) {
	for name, text := range map[string]string{
		"one long line":  "{" + strings.Repeat("a: {b: c},", MaxBytes/11) + "}",
		"bad characters": strings.Repeat("\u202e", MaxBytes/3),
		"long lines":     strings.Repeat("x: "+strings.Repeat("ü", 100)+"\n", MaxBytes/204),
		"comments":       strings.Repeat("- 1 # c\n# d\n\n", MaxBytes/14),
		"json":           "[" + strings.Repeat(`{"a":1},`, MaxBytes/9) + "1]",
		"empty keys":     "{" + strings.Repeat(`"":1,`, MaxBytes/6) + "}",
		"block scalars":  strings.Repeat("- |\n\n\n\n", MaxBytes/8),
		"open brackets":  strings.Repeat("[a,", MaxBytes/3),
	} {
		start := time.Now()
		if _, is := Parse("f", []byte(text)); len(is) == 0 || len(is) > MaxIssues {
			if name != "comments" && name != "block scalars" {
				t.Errorf("%s: %d issues", name, len(is))
			}
		}
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("%s took %v", name, d)
		} else {
			t.Log(name, d)
		}
	}
}

// read parses a value that stands after "v: ".
func read(t *testing.T, value string) *Node {
	t.Helper()
	n, is := Parse("f", []byte("v: "+value+"\n"))
	if len(is) > 0 {
		t.Fatal(is)
	}
	return (&Decoder{}).Map(n, "file").Get("v")
}

func TestScalars(t *testing.T) {
	text := func(d *Decoder, n *Node) any { return d.Text(n) }
	name := func(d *Decoder, n *Node) any { return d.Name(n, "a pump") }
	truth := func(d *Decoder, n *Node) any { return d.Bool(n) }
	whole := func(d *Decoder, n *Node) any { return d.Int(n) }
	number := func(d *Decoder, n *Node) any { return d.Number(n) }
	quantity := func(d *Decoder, n *Node) any { return d.Quantity(n).String() }
	duration := func(d *Decoder, n *Node) any { return d.Duration(n) }
	for _, c := range []struct {
		kind  string
		read  func(*Decoder, *Node) any
		value string
		want  any
		code  string // of the one issue; empty: none
	}{
		{"text", text, "1.2.0", "1.2.0", ""}, {"text", text, "1.10", "1.10", ""}, {"text", text, "0", "0", ""}, {"text", text, "y", "y", ""},
		{"text", text, "'010'", "010", ""}, {"text", text, "'yes'", "yes", ""}, {"text", text, "127.0.0.1:1883", "127.0.0.1:1883", ""},
		{"text", text, "0xyz", "0xyz", ""}, {"text", text, "|\n  yes\n", "yes\n", ""}, {"text", text, "'2026-01-01'", "2026-01-01", ""},
		{"text", text, "010", "", "odd_scalar"}, {"text", text, "0x1F", "", "odd_scalar"}, {"text", text, "0o17", "", "odd_scalar"}, {"text", text, "0b11", "", "odd_scalar"},
		{"text", text, "1_000", "", "odd_scalar"}, {"text", text, "12:30", "", "odd_scalar"}, {"text", text, "1e400", "", "odd_scalar"}, {"text", text, ".nan", "", "odd_scalar"},
		{"text", text, "-.Inf", "", "odd_scalar"}, {"text", text, "Yes", "", "odd_scalar"}, {"text", text, "off", "", "odd_scalar"}, {"text", text, "NULL", "", "odd_scalar"},
		{"text", text, "True", "", "odd_scalar"}, {"text", text, "2026-11-22", "", "bare_date"}, {"text", text, "2026-11-22T10:00:00Z", "", "bare_date"},
		{"text", text, "[a]", "", "wrong_type"}, {"text", text, "{a: 1}", "", "wrong_type"}, {"text", text, "", "", "wrong_type"}, {"text", text, "~", "", "wrong_type"},
		{"name", name, "pump_a", "pump_a", ""}, {"name", name, "Pump", "Pump", "bad_name"}, {"name", name, "a.b", "a.b", "bad_name"}, {"name", name, "no", "", "odd_scalar"},
		{"bool", truth, "true", true, ""}, {"bool", truth, "false", false, ""}, {"bool", truth, "yes", false, "wrong_type"}, {"bool", truth, "True", false, "wrong_type"},
		{"bool", truth, "'true'", false, "wrong_type"}, {"bool", truth, "1", false, "wrong_type"},
		{"int", whole, "12", int64(12), ""}, {"int", whole, "-3", int64(-3), ""}, {"int", whole, "0", int64(0), ""}, {"int", whole, "010", int64(0), "leading_zero"},
		{"int", whole, "0x10", int64(0), "leading_zero"}, {"int", whole, "1_000", int64(0), "wrong_type"}, {"int", whole, "1.0", int64(0), "wrong_type"},
		{"int", whole, "1e3", int64(0), "wrong_type"}, {"int", whole, "'5'", int64(0), "wrong_type"}, {"int", whole, "9223372036854775808", int64(0), "wrong_type"},
		{"number", number, "1.5", 1.5, ""}, {"number", number, "-2e-3", -2e-3, ""}, {"number", number, "0.5", 0.5, ""}, {"number", number, "01", 0.0, "bad_number"},
		{"number", number, "1e400", 0.0, "bad_number"}, {"number", number, ".inf", 0.0, "bad_number"}, {"number", number, ".nan", 0.0, "bad_number"}, {"number", number, "nan", 0.0, "bad_number"},
		{"number", number, "0x10", 0.0, "bad_number"}, {"number", number, "'1'", 0.0, "wrong_type"}, {"number", number, "1_0", 0.0, "bad_number"},
		{"quantity", quantity, "2 s", "2 s", ""}, {"quantity", quantity, "2s", "2 s", ""}, {"quantity", quantity, "'0.4 mL'", "0.4 mL", ""}, {"quantity", quantity, "1.5", "1.5", ""},
		{"quantity", quantity, "010 mL", "0", "bad_quantity"}, {"quantity", quantity, "5 mx", "0", "bad_unit"}, {"quantity", quantity, "hot", "0", "bad_quantity"},
		{"quantity", quantity, ".nan", "0", "odd_scalar"}, {"quantity", quantity, "1e400 s", "0", "bad_quantity"}, {"quantity", quantity, "[1]", "0", "wrong_type"}, {"quantity", quantity, "0x20 degC", "0", "odd_scalar"},
		{"duration", duration, "2 s", 2 * time.Second, ""}, {"duration", duration, "500ms", 500 * time.Millisecond, ""}, {"duration", duration, "2", time.Duration(0), "no_unit"},
		{"duration", duration, "2 mL", time.Duration(0), "wrong_dimension"}, {"duration", duration, "1e300 s", time.Duration(0), "wrong_dimension"},
	} {
		t.Run(c.kind+" "+c.value, func(t *testing.T) {
			var d Decoder
			got := c.read(&d, read(t, c.value))
			if got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			code := ""
			for _, i := range d.Issues {
				code += i.Code
				if i.Line == 0 || i.Column == 0 {
					t.Errorf("no place: %v", i)
				}
			}
			if code != c.code {
				t.Errorf("got issue %q, want %q: %v", code, c.code, d.Issues)
			}
		})
	}
}

func TestMissingValuesAreSilent(t *testing.T) {
	var d Decoder
	f := d.Map(nil, "thing", "a")
	if v := f.Require("a"); v != nil {
		t.Error(v)
	}
	d.Text(nil)
	d.Name(nil, "x")
	d.Bool(nil)
	d.Int(nil)
	d.Number(nil)
	d.Quantity(nil)
	d.Duration(nil)
	d.List(nil)
	d.Source(nil)
	if _, ok := d.Formula(nil); ok {
		t.Error("a formula of nothing")
	}
	if len(d.Issues) > 0 {
		t.Error(d.Issues)
	}
}

func TestMap(t *testing.T) {
	n, is := Parse("f", []byte("rate: 1\nmax_agee: 2 s\nzz: 3\nunit:\n"))
	if len(is) > 0 {
		t.Fatal(is)
	}
	var d Decoder
	f := d.Map(n, "property", "rate", "max_age", "unit")
	f.Require("max_age")
	f.Require("unit")
	f.Require("rate")
	want := `unknown_key: f:2:1: "max_agee" is no key of a property (did you mean max_age?)
unknown_key: f:3:1: "zz" is no key of a property (one of rate, max_age, unit)
missing_key: f:1:1: a property needs "max_age"
missing_key: f:4:6: a property needs "unit"
`
	if got := list(d.Issues); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := strings.Join(f.Keys(), " "); got != "rate max_agee zz unit" {
		t.Errorf("keys %s", got)
	}
	if p := f.KeyPos("zz"); p.Line != 3 || p.Column != 1 {
		t.Errorf("key at %v", p)
	}
	for _, v := range []string{"5", "[1]", ""} {
		var d Decoder
		d.Map(read(t, v), "property", "rate").Require("rate")
		if len(d.Issues) != 1 || d.Issues[0].Code != "wrong_type" {
			t.Errorf("%q: %v", v, d.Issues)
		}
	}
}

func TestExpressions(t *testing.T) {
	for _, c := range []struct {
		value, text  string
		line, column int
		formula      bool
	}{
		{"= temperature * 2", "temperature * 2", 1, 6, true},
		{"'=  a'", "a", 1, 8, true},
		{"=a", "a", 1, 5, true},
		{"a > 1", "a > 1", 1, 4, false},
		{`"a > 1"`, "a > 1", 1, 5, false},
		{">-\n\n   a >\n   1", "a > 1", 3, 4, false},
	} {
		var d Decoder
		n := read(t, c.value)
		src, ok := d.Formula(n)
		if ok != c.formula {
			t.Errorf("%q: formula %v", c.value, ok)
		}
		if !ok {
			src = d.Source(n)
		}
		if src.Text != c.text || src.Pos.Line != c.line || src.Pos.Column != c.column || len(d.Issues) > 0 {
			t.Errorf("%q: got %q at %v, issues %v", c.value, src.Text, src.Pos, d.Issues)
		}
	}
	var d Decoder
	d.Source(read(t, "{a: 1}"))
	if len(d.Issues) != 1 || d.Issues[0].Code != "wrong_type" {
		t.Error(d.Issues)
	}
}

// TestJSONAgreesWithYAML: what both readers can read means the same to both,
// and what json.Marshal wrote comes back.
func TestJSONAgreesWithYAML(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := map[string]any{"top": jsonValue(t, 4)}
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		n, is := Parse("f", b)
		if len(is) > 0 {
			t.Fatalf("%s: %v", b, is)
		}
		if got := plain(n); !cmp.Equal(got, any(v)) {
			t.Fatalf("got %v, want %v", got, v)
		}
		if strings.Contains(string(b), `\`) { // escapes are where they differ
			return
		}
		c := &converter{file: "f", data: b}
		if y := c.parseYAML(); dump(y) != dump(n) || len(c.is) > 0 {
			t.Fatalf("as YAML %s %v\nas JSON %s", dump(y), c.is, dump(n))
		}
	})
}

func jsonValue(t *rapid.T, depth int) any {
	most := 3
	if depth > 0 {
		most = 5
	}
	switch rapid.IntRange(0, most).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2:
		return rapid.Float64Range(-1e9, 1e9).Draw(t, "number")
	case 3:
		return rapid.StringMatching(`[a-zäö :#'"{}\[\],&*!|>%@/\\\n\t-]{0,12}`).Draw(t, "text")
	case 4:
		m := map[string]any{}
		for range rapid.IntRange(0, 3).Draw(t, "size") {
			m[rapid.StringMatching(`[a-z_]{1,8}`).Draw(t, "key")] = jsonValue(t, depth-1)
		}
		return m
	}
	l := []any{}
	for range rapid.IntRange(0, 3).Draw(t, "size") {
		l = append(l, jsonValue(t, depth-1))
	}
	return l
}

// plain is a tree as json.Unmarshal would have it.
func plain(n *Node) any {
	switch n.Kind() {
	case List:
		l := []any{}
		for _, v := range n.vals {
			l = append(l, plain(v))
		}
		return l
	case Map:
		m := map[string]any{}
		for i, k := range n.keys {
			m[k.name] = plain(n.vals[i])
		}
		return m
	case Scalar:
		if n.quoted {
			return n.text
		}
		if n.text == "true" || n.text == "false" {
			return n.text == "true"
		}
		return (&Decoder{}).Number(n)
	}
	return nil
}

// FuzzParse: no input makes the parser panic, an issue always has its place,
// and every value's place is where its text stands.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if len(b) < 2000 {
			f.Add(b)
		}
	}
	f.Add([]byte("class: pump/v1\ncommands:\n  dose: {args: {volume: {unit: mL, more_than: 0}}, takes: [volume / rate, 5 s]}\n"))
	f.Add([]byte(`{"protocol": "x", "steps": [{"do": "a.b", "with": {"x": "= 1 mL"}}]}`))
	f.Add([]byte("a: |2-\n    x\nb: >+\n y\n\n? c\n: - d\n  - {e, f: }\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, is := Parse("f", data)
		if n == nil && len(is) == 0 {
			t.Fatal("neither a node nor an issue")
		}
		for _, i := range is {
			if i.Line < 1 || i.Column < 1 || i.Code == "" || i.Say == "" || !utf8.ValidString(i.Say) {
				t.Fatalf("issue without a place or words: %+v", i)
			}
		}
		if len(is) > 0 {
			return
		}
		checkPlaces(t, strings.Split(string(data), "\n"), n)
		var d Decoder
		decodeAll(&d, n)
	})
}

func checkPlaces(t *testing.T, lines []string, n *Node) {
	for _, v := range n.vals {
		checkPlaces(t, lines, v)
	}
	if n.Kind() != Scalar || n.quoted || n.text == "" {
		return
	}
	if n.pos.Line > len(lines) {
		t.Fatalf("%q stands beyond the end, at %v", n.text, n.pos)
	}
	l := lines[n.pos.Line-1]
	rest := l[byteOffset([]byte(l), n.pos.Column):]
	first, _ := utf8.DecodeRuneInString(n.text)
	if got, _ := utf8.DecodeRuneInString(rest); got != first {
		t.Fatalf("%q should stand at %v, where %q stands", n.text, n.pos, rest)
	}
}

// decodeAll calls every method on every node.
func decodeAll(d *Decoder, n *Node) {
	d.Text(n)
	d.Name(n, "x")
	d.Bool(n)
	d.Int(n)
	if v := d.Number(n); math.IsNaN(v) || math.IsInf(v, 0) {
		panic("a number that is not finite")
	}
	if q := d.Quantity(n); !q.Finite() {
		panic("a quantity that is not finite")
	}
	d.Duration(n)
	d.Source(n)
	d.Formula(n)
	d.Map(n, "x", "a", "b").Require("a")
	for _, v := range n.vals {
		decodeAll(d, v)
	}
}
