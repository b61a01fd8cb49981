package configs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"go.yaml.in/yaml/v3"

	"labgate/lab"
	"labgate/safety"
)

// schemaKinds are the kinds of files, each with its schema and with what the
// loader says about such a file.
var schemaKinds = map[string][]byte{"class": ClassSchema, "profile": ProfileSchema, "lab": LabSchema, "interlocks": InterlocksSchema}

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
	for what, least := range map[string]int{"class": 9, "profile": 7, "lab": 9, "interlocks": 60} {
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

// keySamples are files in which every map that such a file can have is there.
func keySamples(t *testing.T, what string) [][]byte {
	files := map[string][]string{
		"class":      {"classes/packml-cell.yaml", "classes/spectrometer.yaml", "classes/pump.yaml"},
		"profile":    {"profiles/new-era/ne-1000-quench.yaml", "profiles/labgate/coating-cell.yaml", "profiles/labgate/mqtt-camera.yaml", "profiles/labgate/mqtt-spectrometer.yaml", "profiles/asi/ms-2000.yaml"},
		"lab":        {"labs/demo/lab.yaml"},
		"interlocks": {"labs/demo/interlocks.yaml", "../safety/testdata/every-kind.yaml"},
	}[what]
	var list [][]byte
	for _, f := range files {
		list = append(list, read1(t, f))
	}
	for _, more := range map[string][]string{
		"class": {`class: probe/v1
about: One property of each type.
properties:
  a: {unit: mL, max_age: 1 s}
commands:
  ask: {effect: read, args: {a: {unit: mL}}, gives: {b: {table: {x: nm}}, c: {type: text}}}
`},
		"profile": {`profile: labgate/memory@1
about: A pump in memory.
components: {pump: pump/v1}
link: {kind: memory, reply_within: 1 s}
properties:
  rate: {unit: mL/min}
  dispensed: {unit: mL}
  running: {}
commands: {dose: {}, stop: {}}
repeats: none
`},
		"lab": {`lab: more
kind: simulated
gateway: bench
instruments:
  stage:
    profile: asi/ms-2000@1
    link: {port: "sim:stage"}
    safe: [xyz.halt]
assemblies:
  microscope: {stage: stage.xyz}
nats: {embedded: {port: 4222}}
`},
	}[what] {
		list = append(list, []byte(more))
	}
	return list
}

// issuesOf is what the loader says about a file of a kind.
func issuesOf(t *testing.T, what string, data []byte, c *Config) lab.Issues {
	t.Helper()
	if what == "interlocks" {
		_, is := safety.Parse("interlocks.yaml", data, c.Lab)
		return is
	}
	_, is := parseAny(what+"-x.yaml", data, c.Classes, c.Profiles)
	return is
}

// goRefuses counts the issues that say that a key may not stand where it does.
func goRefuses(is lab.Issues) (n int) {
	for _, i := range is {
		switch i.Code {
		case "unknown_key":
			if strings.Contains(i.Say, "has no setting") {
				continue // the profile's, which no schema can know
			}
			n++
		case "not_for_safe", "only_for_safe", "wrong_effect":
			n++
		case "rule_kind":
			if strings.Contains(i.Say, "one rule") {
				n++
			}
		case "bad_vector":
			if strings.Contains(i.Say, " has no ") {
				n++
			}
		}
	}
	return n
}

// schemaRefuses counts the same in what the schema says.
func schemaRefuses(err error) (n int) {
	var walk func(*jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		switch k := e.ErrorKind.(type) {
		case *kind.AdditionalProperties:
			n += len(k.Properties)
		case *kind.FalseSchema:
			n++
		}
		for _, c := range e.Causes {
			walk(c)
		}
	}
	if e, ok := err.(*jsonschema.ValidationError); ok {
		walk(e)
	}
	return n
}

// schemaKeys are all keys that a schema names, wherever.
func schemaKeys(t *testing.T, what string) []string {
	t.Helper()
	var doc any
	if err := json.Unmarshal(schemaKinds[what], &doc); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				if props, ok := x.(map[string]any); ok && k == "properties" {
					for name := range props {
						seen[name] = true
					}
				}
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(doc)
	var keys []string
	for k := range seen {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// eachMap goes to the maps of a YAML tree, one of those that are alike: at one depth
// below one key of the file, with the same keys.
func eachMap(root *yaml.Node, f func(*yaml.Node)) {
	seen := map[string]bool{}
	var walk func(n *yaml.Node, top string, depth int)
	walk = func(n *yaml.Node, top string, depth int) {
		if n.Kind == yaml.MappingNode {
			if id := fmt.Sprint(top, depth, keysOf(n)); !seen[id] {
				seen[id] = true
				f(n)
			}
		}
		for i, c := range n.Content {
			if depth == 0 && i%2 == 1 {
				top = n.Content[i-1].Value
			}
			walk(c, top, depth+1)
		}
	}
	walk(root.Content[0], "", 0)
}

// with is the file with one more key in one of its maps.
func with(t *testing.T, root, m *yaml.Node, key string) []byte {
	t.Helper()
	before := m.Content
	defer func() { m.Content = before }()
	m.Content = append(slices.Clone(before),
		&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "x"})
	data, err := yaml.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// noKey is a key that nothing could be meant by.
const noKey = "zzzzzzzzzzzzzzzzzzzzzzzzzzzz"

// goKeys are the keys that the loader names when it is given noKey, in each map of
// a file.
func goKeys(t *testing.T, what string, root *yaml.Node, c *Config, into map[string]bool) {
	t.Helper()
	eachMap(root, func(m *yaml.Node) {
		for _, i := range issuesOf(t, what, with(t, root, m, noKey), c) {
			if list, ok := strings.CutPrefix(i.Hint, "one of "); ok && i.Code == "unknown_key" {
				for _, k := range strings.Split(list, ", ") {
					into[k] = true
				}
			}
		}
	})
}

// TestSchemasKnowTheKeys puts each key that the loader or the schema knows
// into each map of the samples: the two agree on whether it may stand there,
// and every key of the schema may stand somewhere. The quick suite tries those
// that the schema refuses in every eighth place only.
func TestSchemasKnowTheKeys(t *testing.T) {
	c, heavy := demo(t), os.Getenv("LABGATE_HEAVY") != ""
	for what := range schemaKinds {
		t.Run(what, func(t *testing.T) {
			s := compileSchema(t, what)
			keys := map[string]bool{}
			var roots []*yaml.Node
			for _, data := range keySamples(t, what) {
				var root yaml.Node
				if err := yaml.Unmarshal(data, &root); err != nil {
					t.Fatal(err)
				}
				roots = append(roots, &root)
				goKeys(t, what, &root, c, keys)
			}
			ofSchema := schemaKeys(t, what)
			for _, k := range ofSchema {
				keys[k] = true
			}
			sorted := slices.Sorted(maps.Keys(keys))
			taken, tried, others := map[string]bool{}, 0, 0
			for _, root := range roots {
				doc := plain(t, root.Content[0])
				before := goRefuses(issuesOf(t, what, mustYAML(t, root), c))
				if err := s.Validate(doc); err != nil || before > 0 {
					t.Fatalf("the sample itself: %d keys refused; %v", before, err)
				}
				eachMap(root, func(m *yaml.Node) {
					anything, _ := asJSON(t, with(t, root, m, noKey))
					free := schemaRefuses(s.Validate(anything)) == 0
					for _, key := range sorted {
						if has(m, key) {
							taken[key] = true
							continue
						}
						data := with(t, root, m, key)
						doc, _ := asJSON(t, data)
						bySchema := schemaRefuses(s.Validate(doc)) > 0
						if others++; (bySchema || free) && others%8 != 0 && !heavy {
							continue
						}
						tried++
						byGo := goRefuses(issuesOf(t, what, data, c)) > 0
						if byGo != bySchema {
							t.Errorf("%s beside %q: refused by the loader: %v; by the schema: %v", key, keysOf(m), byGo, bySchema)
						}
						taken[key] = taken[key] || !byGo && len(m.Content) > 0
					}
				})
			}
			for _, k := range ofSchema {
				if !taken[k] {
					t.Errorf("%s of the schema may stand nowhere", k)
				}
			}
			t.Logf("%d keys, %d places tried", len(keys), tried)
		})
	}
}

func has(m *yaml.Node, key string) bool { return slices.Contains(keysOf(m), key) }

func keysOf(m *yaml.Node) []string {
	var list []string
	for i := 0; i < len(m.Content); i += 2 {
		list = append(list, m.Content[i].Value)
	}
	return list
}

func mustYAML(t *testing.T, n *yaml.Node) []byte {
	t.Helper()
	data, err := yaml.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
