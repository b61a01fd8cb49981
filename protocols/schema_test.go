package protocols_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"labgate/lab"
	"labgate/protocols"
)

func schemaOf(t testing.TB, data []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fromYAML(t testing.TB, data []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// What the parser takes, the schema takes.
func TestSchemaTakesTheLibrary(t *testing.T) {
	s := schemaOf(t, protocols.Schema)
	files := protocols.Library()
	files["rinse.yaml"], files["asking.yaml"] = []byte(rinse), []byte(asking)
	files["outer.yaml"] = []byte(using(t, "  - {id: clean, use: rinse@1.0.0, hash: HASH, with: {volume: = amount / 2}, roles: {pump: citrate}}\n"))
	for name, data := range files {
		if err := s.Validate(fromYAML(t, data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A key that the parser does not know, the schema does not know either.
func TestSchemaKnowsTheKeys(t *testing.T) {
	s := schemaOf(t, protocols.Schema)
	goldens, err := filepath.Glob("testdata/bad/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, g := range goldens {
		said, err := os.ReadFile(g)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(said), "[unknown_key]") {
			continue
		}
		data, err := os.ReadFile(strings.TrimSuffix(g, ".golden") + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		tried++
		if err := s.Validate(fromYAML(t, data)); err == nil {
			t.Errorf("%s passes the schema", g)
		}
	}
	if tried < 5 {
		t.Errorf("only %d files tried", tried)
	}
}

// The schema of a protocol's inputs lets the defaults pass and bounds them.
func TestInputSchema(t *testing.T) {
	p := parse(t, strings.Replace(rinse, "volume: {unit: mL, min: 0.01, max: 0.2}", "volume: {unit: mL, min: 0.01, max: 0.2}\n  slow: {type: bool, default: false}\n  kind: {choices: [a, b], default: a}", 1))
	data, err := json.Marshal(p.InputSchema())
	if err != nil {
		t.Fatal(err)
	}
	s := schemaOf(t, data)
	for text, want := range map[string]bool{
		`{"volume": {"value": 0.1, "unit": "mL"}}`:                                         true,
		`{"volume": {"value": 0.1, "unit": "mL"}, "cycles": 3, "slow": true, "kind": "b"}`: true,
		`{"volume": {"value": 0.5, "unit": "mL"}}`:                                         false,
		`{"volume": {"value": 0.1, "unit": "L"}}`:                                          false,
		`{"volume": 0.1}`: false,
		`{}`:              false,
		`{"volume": {"value": 0.1, "unit": "mL"}, "cycles": 6}`:    false,
		`{"volume": {"value": 0.1, "unit": "mL"}, "speed": 6}`:     false,
		`{"volume": {"value": 0.1, "unit": "mL"}, "kind": "fast"}`: false,
	} {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(doc); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Of every library protocol, the schema of its inputs and CheckInputs draw the
// same lines: at a bound, and just beyond it.
func TestInputSchemaAgrees(t *testing.T) {
	tried := 0
	for name, data := range protocols.Library() {
		p, is := protocols.Parse(name, data, demoLab(t).Classes, protocols.Files(protocols.Library()))
		if len(is) > 0 {
			t.Fatal(is)
		}
		form, err := json.Marshal(p.InputSchema())
		if err != nil {
			t.Fatal(err)
		}
		s := schemaOf(t, form)
		try := func(given map[string]lab.Value) {
			tried++
			text, err := json.Marshal(given)
			if err != nil {
				t.Fatal(err)
			}
			doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			_, issues := p.CheckInputs(given)
			if err := s.Validate(doc); (err == nil) != (len(issues) == 0) {
				t.Errorf("%s: %s: the schema: %v; the check: %v", name, text, err, issues)
			}
		}
		try(map[string]lab.Value{})
		for i := range p.Inputs {
			in := &p.Inputs[i]
			for _, end := range []*lab.Value{in.Min, in.Max, in.Default} {
				if end == nil {
					continue
				}
				for _, off := range []float64{0, -1, 1, -0.5} {
					v := *end
					if v.Num += off; v.Kind == lab.Integer && off == -0.5 {
						v.Kind = lab.Number
					}
					given := map[string]lab.Value{}
					for k := range p.Inputs { // all others as they may be
						other := &p.Inputs[k]
						if given[other.Name] = lab.BoolValue(true); other.Default != nil {
							given[other.Name] = *other.Default
						} else if other.Min != nil {
							given[other.Name] = *other.Min
						}
					}
					given[in.Name] = v
					try(given)
				}
			}
		}
	}
	if tried < 20 {
		t.Errorf("only %d tried", tried)
	}
}
