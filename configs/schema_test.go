package configs

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"labgate/protocols"
)

// schemaKinds are the kinds of files, each with its schema. That of protocols is
// package protocols' own, and is here for the sake of its keys.
var schemaKinds = map[string][]byte{"class": ClassSchema, "profile": ProfileSchema, "lab": LabSchema, "access": AccessSchema, "interlocks": InterlocksSchema, "protocol": protocols.Schema}

func compileSchema(t testing.TB, what string) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemaKinds[what]))
	if err != nil {
		t.Fatal(what, err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(what+".json", doc); err != nil {
		t.Fatal(what, err)
	}
	s, err := c.Compile(what + ".json")
	if err != nil {
		t.Fatal(what, err)
	}
	return s
}

// asJSON is a YAML file as an editor hands it to a schema: keys are texts, and
// so are dates. ok is false where it is not YAML that editors could read.
func asJSON(t testing.TB, data []byte) (doc any, ok bool) {
	t.Helper()
	var n yaml.Node
	if err := yaml.Unmarshal(data, &n); err != nil || len(n.Content) == 0 {
		return nil, false
	}
	return plain(t, n.Content[0]), true
}

func plain(t testing.TB, n *yaml.Node) any {
	t.Helper()
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			m[n.Content[i].Value] = plain(t, n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		list := []any{}
		for _, e := range n.Content {
			list = append(list, plain(t, e))
		}
		return list
	case yaml.AliasNode:
		return plain(t, n.Alias)
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value)
		}
	case "!!bool":
		return n.Value == "true"
	case "!!null":
		return nil
	}
	return n.Value
}

// whatIs tells the kind of a shipped file by its place; "" for another one.
func whatIs(file string) string {
	switch {
	case path.Base(file) == "lab.yaml":
		return "lab"
	case strings.HasPrefix(path.Base(file), "interlocks"):
		return "interlocks"
	case strings.Contains(file, "classes/"):
		return "class"
	case strings.Contains(file, "profiles/"):
		return "profile"
	}
	return ""
}

// What is read without an issue, its schema lets pass: all files that are
// shipped, and those of the corpus of unsafe commands.
func TestSchemasTakeWhatIsShipped(t *testing.T) {
	schemas, tried := map[string]*jsonschema.Schema{}, map[string]int{}
	for what := range schemaKinds {
		schemas[what] = compileSchema(t, what)
	}
	each := func(fsys fs.FS) {
		err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
			what := whatIs(p)
			if err != nil || d.IsDir() || path.Ext(p) != ".yaml" || what == "" {
				return err
			}
			data, err := fs.ReadFile(fsys, p)
			if err != nil {
				return err
			}
			doc, ok := asJSON(t, data)
			if tried[what]++; !ok {
				t.Errorf("%s: not YAML", p)
			} else if err := schemas[what].Validate(doc); err != nil {
				t.Errorf("%s: %v", p, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	each(embedded)
	each(os.DirFS("../safety/testdata/corpus"))
	doc, _ := asJSON(t, read1(t, "../safety/testdata/every-kind.yaml"))
	if err := schemas["interlocks"].Validate(doc); err != nil {
		t.Error(err)
	}
	for what, least := range map[string]int{"class": 40, "profile": 35, "lab": 9, "interlocks": 9} {
		if tried[what] < least {
			t.Errorf("only %d files of kind %s", tried[what], what)
		}
	}
}

func read1(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// structural are the codes of what a schema can see, too.
var structural = []string{"unknown_key", "missing_key", "rule_kind", "missing_type", "not_for_safe", "only_for_safe", "no_action"}

// Of the bad files, those with a fault in their structure are refused by the
// schema, too. The others are YAML that no editor could read, or wrong in a
// way that only the lab can tell.
func TestSchemasRefuseBadStructure(t *testing.T) {
	exempt := []string{"profile-map", "profile-effect-at", "lab-settings", "limit-step-of-nothing", "limit-step-of-range"} // it depends on the class or the profile
	for what, least := range map[string]int{"class": 9, "profile": 7, "lab": 9, "access": 3, "interlocks": 60} {
		s := compileSchema(t, what)
		files, refused, structure := badFiles(t, what), 0, 0
		for _, f := range files {
			doc, ok := asJSON(t, read1(t, f))
			if !ok {
				continue
			}
			err := s.Validate(doc)
			if err != nil {
				refused++
			}
			said := string(read1(t, strings.TrimSuffix(f, ".yaml")+".golden"))
			name := strings.TrimSuffix(filepath.Base(f), ".yaml")
			for _, code := range structural {
				if !strings.Contains("\n"+said, "\n"+code+": ") {
					continue
				}
				structure++
				if err == nil && !slices.Contains(exempt, name) {
					t.Errorf("%s passes the schema:\n%s", f, said)
				}
				break
			}
		}
		t.Logf("%s: %d bad files, %d refused by the schema, %d with a fault of structure", what, len(files), refused, structure)
		if refused < least {
			t.Errorf("%s: only %d of %d bad files are refused", what, refused, len(files))
		}
	}
}

func badFiles(t *testing.T, what string) []string {
	t.Helper()
	pattern := "testdata/bad/" + what + "-*.yaml"
	if what == "interlocks" {
		pattern = "../safety/testdata/bad/*.yaml"
	}
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatal(pattern, err)
	}
	return files
}
