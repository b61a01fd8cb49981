package messages

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"labgate/lab"
)

func proposalSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(ProposalSchema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("proposal.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("proposal.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wholeProposal has every field that there is.
const wholeProposal = `{"kind": "proposal/v1", "id": "01K", "key": "campaign-7/12", "campaign": "campaign-7",
 "protocol": {"name": "gold-nanoparticles", "version": "1.2.0", "hash": "sha256:00"},
 "inputs": {"temperature": {"value": 72, "unit": "degC"}, "n": 3, "slow": true, "kind": "b",
  "curve": {"columns": [{"name": "x", "unit": "nm", "data": [1, 2]}]}, "picture": {"hash": "00", "media": "image/png", "size": 3}},
 "hypothesis": "h", "predicts": {"peak": {"value": 522, "sd": 3, "unit": "nm"}},
 "not_after": "2026-11-22T18:00:00Z", "budget": {"time": {"value": 30, "unit": "min"}, "exposures": 3}, "priority": "low",
 "model": "vendor/model@revision", "labels": {"a": "b"}, "samples": ["s1"]}`

// What is read without an issue passes the schema; of the bad proposals, those
// whose fault can be seen without the lab are refused by it, too.
func TestProposalSchemaAgrees(t *testing.T) {
	s := proposalSchema(t)
	files, err := filepath.Glob("../runner/testdata/proposals/*.json")
	if err != nil || len(files) < 40 {
		t.Fatal(len(files), err)
	}
	docs := map[string][]byte{"whole": []byte(wholeProposal)}
	for _, f := range files {
		if docs[f], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	good, refused, unseen := 0, 0, []string{}
	for name, data := range docs {
		_, is := DecodeProposal(data)
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			continue // broken JSON
		}
		switch err := s.Validate(doc); {
		case len(is) == 0 && err != nil:
			t.Errorf("%s is read, and the schema refuses it: %v", name, err)
		case len(is) == 0:
			good++
		case err != nil:
			refused++
		default:
			unseen = append(unseen, filepath.Base(name)+" ("+is[0].Code+")")
		}
	}
	t.Logf("%d good, %d refused by both, not seen by the schema: %v", good, refused, unseen)
	if good < 20 || refused < 14 || len(unseen) > 8 {
		t.Errorf("%d good, %d refused by both, %d not seen by the schema: %v", good, refused, len(unseen), unseen)
	}
}

// TestProposalSchemaKnowsTheFields puts every name that the schema or the
// decoder knows into every object of a whole proposal: the two agree on
// whether it may stand there. Inputs are left out: their objects are told
// apart by their fields.
func TestProposalSchemaKnowsTheFields(t *testing.T) {
	s := proposalSchema(t)
	var whole map[string]any
	if err := json.Unmarshal([]byte(wholeProposal), &whole); err != nil {
		t.Fatal(err)
	}
	delete(whole, "inputs")
	names := map[string]bool{"field_of_no_one": true, "Kind": true}
	for _, typ := range []reflect.Type{reflect.TypeFor[Proposal](), predictionType, reflect.TypeFor[ProtocolRef](), reflect.TypeFor[BudgetAsk]()} {
		for k := range fieldsOf(typ) {
			names[k] = true
		}
	}
	var schema map[string]any
	if err := json.Unmarshal(ProposalSchema, &schema); err != nil {
		t.Fatal(err)
	}
	eachObject(schema, func(o map[string]any) {
		if props, ok := o["properties"].(map[string]any); ok {
			for k := range props {
				names[k] = true
			}
		}
	})
	tried, taken := 0, 0
	eachObject(whole, func(o map[string]any) {
		for name := range names {
			if _, there := o[name]; there {
				continue
			}
			o[name] = "x"
			data, err := json.Marshal(whole)
			if err != nil {
				t.Fatal(err)
			}
			byGo, bySchema := refusesField(data), refusesProperty(s.Validate(whole))
			if byGo != bySchema {
				t.Errorf("%s in %v: refused by the decoder: %v; by the schema: %v", name, o, byGo, bySchema)
			}
			if tried++; !byGo {
				taken++
			}
			delete(o, name)
		}
	})
	if tried < 100 || taken < 10 || taken > tried/2 {
		t.Errorf("%d tried, %d may stand there", tried, taken)
	}
}

func eachObject(v any, f func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		f(v)
		for _, x := range v {
			eachObject(x, f)
		}
	case []any:
		for _, x := range v {
			eachObject(x, f)
		}
	}
}

func refusesField(data []byte) bool {
	_, is := DecodeProposal(data)
	return slices.ContainsFunc(is, func(i lab.Issue) bool { return i.Code == "unknown_field" })
}

func refusesProperty(err error) bool {
	e, ok := err.(*jsonschema.ValidationError)
	if !ok {
		return false
	}
	_, additional := e.ErrorKind.(*kind.AdditionalProperties)
	return additional || slices.ContainsFunc(e.Causes, func(c *jsonschema.ValidationError) bool { return refusesProperty(c) })
}
