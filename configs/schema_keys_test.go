package configs

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"go.yaml.in/yaml/v3"

	"labgate/lab"
	"labgate/protocols"
	"labgate/safety"
)

// keySamples are files in which every map that such a file can have is there.
func keySamples(t *testing.T, what string) [][]byte {
	files := map[string][]string{
		"class":      {"classes/packml-cell.yaml", "classes/spectrometer.yaml", "classes/pump.yaml"},
		"profile":    {"profiles/new-era/ne-1000-quench.yaml", "profiles/labgate/coating-cell.yaml", "profiles/labgate/mqtt-camera.yaml", "profiles/labgate/mqtt-spectrometer.yaml", "profiles/asi/ms-2000.yaml"},
		"lab":        {"labs/demo/lab.yaml"},
		"protocol":   {"testdata/every-key.yaml"},
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
`, `profile: labgate/written@1
about: Writes to nodes.
components: {jacket: thermostat/v1}
link: {kind: opcua, namespace: "urn:x", reply_within: 1 s}
properties:
  temperature: {node: "s=T", unit: degC, poll: 500 ms, subscribe: 100 ms}
  setpoint: {node: "s=SP", unit: degC, poll: 500 ms}
  heating: {node: "s=On", poll: 500 ms}
commands:
  heat: {inputs: {target: {unit: degC, type: double}}, write: [{node: "s=SP", input: target}, {node: "s=On", value: true, type: boolean}]}
  heat_off: {write: [{node: "s=On", value: false, type: boolean}]}
repeats: none
`},
		"access": {`principals:
  ito: {role: safety, key: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4, vetted: {by: anna, until: "2027-06-30T00:00:00Z"}, may: {inline: no}}
  anna: {role: operator, key: UDWFRW4FQJRJDPZTEX23ILX6NIVOKXSKMU4MBYJCUPWKUELJZWMHZOUK}
approvals:
  inline: {persons: 1}
  protocols: {pour: {by: [safety]}}
`},
		"lab": {`lab: more
kind: simulated
gateway: bench
instruments:
  stage:
    profile: asi/ms-2000@1
    link: {port: "sim:stage"}
    safe: [xyz.halt]
  reactor:
    profile: labgate/flow-reactor@1
    link: {endpoint: "opc.tcp://reactor:4840", security: Basic256Sha256, application_uri: "urn:reactor", user: labgate, password_file: reactor.password}
    safe: [heat_off]
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
	switch what {
	case "interlocks":
		_, is := safety.Parse("interlocks.yaml", data, c.Lab)
		return is
	case "protocol":
		_, is := protocols.Parse("protocol.yaml", data, c.Classes)
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
		case "rule_kind", "bad_step":
			if strings.Contains(i.Say, "one rule") || strings.Contains(i.Say, "one step") {
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

// schemaMaps are the maps that a schema describes: the keys of each.
func schemaMaps(t *testing.T, what string) (list [][]string) {
	t.Helper()
	var doc any
	if err := json.Unmarshal(schemaKinds[what], &doc); err != nil {
		t.Fatal(err)
	}
	var walk func(v any, keys bool)
	walk = func(v any, keys bool) { // keys: of a file's, not of the schema's language
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				props, ok := x.(map[string]any)
				if ok = ok && k == "properties" && !keys; ok {
					list = append(list, slices.Sorted(maps.Keys(props)))
				}
				walk(x, ok)
			}
		case []any:
			for _, x := range v {
				walk(x, false)
			}
		}
	}
	walk(doc, false)
	return list
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

// named are the keys that the loader names when it is given noKey.
func named(is lab.Issues, into map[string]bool) {
	for _, i := range is {
		if list, ok := strings.CutPrefix(i.Hint, "one of "); ok && i.Code == "unknown_key" && strings.Contains(i.Say, noKey) {
			for _, k := range strings.Split(list, ", ") {
				into[k] = true
			}
		}
	}
}

// likely are the keys that may well stand in a map: those that the loader names,
// and those of the schema's maps that have all its keys.
func likely(t *testing.T, what string, root, m *yaml.Node, c *Config, ofSchema [][]string) map[string]bool {
	t.Helper()
	keys := map[string]bool{}
	named(issuesOf(t, what, with(t, root, m, noKey), c), keys)
	for _, list := range ofSchema {
		if !slices.ContainsFunc(keysOf(m), func(k string) bool { return !slices.Contains(list, k) }) {
			for _, k := range list {
				keys[k] = true
			}
		}
	}
	return keys
}

// TestSchemasKnowTheKeys puts each key that the loader or the schema knows
// into each map of the samples: the two agree on whether it may stand there,
// and every key of the schema may stand somewhere. Of those that are unlikely
// to, the quick suite tries every tenth.
func TestSchemasKnowTheKeys(t *testing.T) {
	c, heavy := demo(t), os.Getenv("LABGATE_HEAVY") != ""
	for what := range schemaKinds {
		t.Run(what, func(t *testing.T) {
			s, ofSchema, keys := compileSchema(t, what), schemaMaps(t, what), map[string]bool{}
			for _, k := range slices.Concat(ofSchema...) {
				keys[k] = true
			}
			named(issuesOf(t, what, []byte("steps: [{"+noKey+": x}]"), c), keys) // of a protocol: all keys of all steps
			roots := sampleRoots(t, what)
			for _, root := range roots {
				eachMap(root, func(m *yaml.Node) { named(issuesOf(t, what, with(t, root, m, noKey), c), keys) })
			}
			taken, tried, others := map[string]bool{}, 0, 0
			for _, root := range roots {
				before := goRefuses(issuesOf(t, what, mustYAML(t, root), c))
				if err := s.Validate(plain(t, root.Content[0])); err != nil || before > 0 {
					t.Fatalf("the sample itself: %d keys refused; %v", before, err)
				}
				eachMap(root, func(m *yaml.Node) {
					may := likely(t, what, root, m, c, ofSchema)
					for _, key := range slices.Sorted(maps.Keys(keys)) {
						if has(m, key) {
							taken[key] = true
							continue
						}
						if others++; !may[key] && others%10 != 0 && !heavy {
							continue
						}
						tried++
						data := with(t, root, m, key)
						doc, _ := asJSON(t, data)
						byGo, bySchema := goRefuses(issuesOf(t, what, data, c)) > 0, schemaRefuses(s.Validate(doc)) > 0
						if byGo != bySchema {
							t.Errorf("%s beside %q: refused by the loader: %v; by the schema: %v", key, keysOf(m), byGo, bySchema)
						}
						taken[key] = taken[key] || !byGo && may[key]
					}
				})
			}
			for k := range keys {
				if !taken[k] {
					t.Errorf("%s may stand nowhere in the samples", k)
				}
			}
			t.Logf("%d keys, %d places tried", len(keys), tried)
		})
	}
}

func sampleRoots(t *testing.T, what string) (roots []*yaml.Node) {
	t.Helper()
	for _, data := range keySamples(t, what) {
		var root yaml.Node
		if err := yaml.Unmarshal(data, &root); err != nil {
			t.Fatal(err)
		}
		roots = append(roots, &root)
	}
	return roots
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
