package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	diff "github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"labgate/protocols"
)

// TestProtocolDocs holds the generated parts of docs/protocols.md to what they
// are made from: the schema, which is held to the parser, the codes in the
// source, and the limits. go test . -run TestProtocolDocs -update writes them.
func TestProtocolDocs(t *testing.T) {
	keepInStep(t, "docs/protocols.md", map[string]string{"keys": keyTables(t), "codes": codeTable(t), "limits": limitList()})
}

// keepInStep fails where the generated parts of a page are not what the code
// makes; with -update it writes them.
func keepInStep(t *testing.T, file string, parts map[string]string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := string(data)
	for name, made := range parts {
		begin := fmt.Sprintf("<!-- %s: go test . -run %s -update -->\n", name, t.Name())
		head, rest, ok := strings.Cut(got, begin)
		_, tail, ended := strings.Cut(rest, "<!-- end -->")
		if !ok || !ended {
			t.Fatalf("%s has no place for its %s", file, name)
		}
		got = head + begin + made + "<!-- end -->" + tail
	}
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := diff.Diff(string(data), got); d != "" {
		t.Errorf("%s is not what is made from the code (-update):\n%s", file, d)
	}
}

// node is a value of the schema, whose maps keep their order.
type node struct{ *yaml.Node }

func (n node) get(path ...string) node {
	for _, key := range path {
		found := node{}
		if n.Node == nil {
			return found
		}
		for i := 0; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				found = node{n.Content[i+1]}
			}
		}
		n = found
	}
	return n
}

func (n node) text() string {
	if n.Node == nil {
		return ""
	}
	return n.Value
}

// keyTables are a table of keys for each map of a protocol file.
func keyTables(t *testing.T) string {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal(protocols.Schema, &doc); err != nil { // JSON is YAML
		t.Fatal(err)
	}
	root := node{doc.Content[0]}
	var b strings.Builder
	keyTable(&b, root, "The file", root)
	defs := root.get("$defs")
	common := commonKeys(defs)
	keyTable(&b, root, "Any step", node{common})
	for i := 0; i < len(defs.Content); i += 2 {
		name, d := defs.Content[i].Value, node{defs.Content[i+1]}
		title := "`" + name + "`"
		if kind, ok := strings.CutSuffix(name, "_step"); ok {
			title = "A step with `" + kind + "`"
			d = without(d, node{common})
		}
		keyTable(&b, root, title, d)
		if one := d.get("oneOf"); one.Node != nil {
			for _, o := range one.Content {
				keyTable(&b, root, title+", as a map", node{o})
			}
		}
	}
	return b.String()
}

// commonKeys are the keys that every kind of step has, as a map of their own.
func commonKeys(defs node) *yaml.Node {
	var common []*yaml.Node
	for i := 0; i < len(defs.Content); i += 2 {
		props := node{defs.Content[i+1]}.get("properties")
		if !strings.HasSuffix(defs.Content[i].Value, "_step") {
			continue
		}
		if common == nil {
			common = props.Content
		}
		var kept []*yaml.Node
		for k := 0; k < len(common); k += 2 {
			if props.get(common[k].Value).Node != nil {
				kept = append(kept, common[k], common[k+1])
			}
		}
		common = kept
	}
	props := &yaml.Node{Kind: yaml.MappingNode, Content: common}
	return &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: "properties"}, props}}
}

// without is a map of keys without those of another one.
func without(d, other node) node {
	out := *d.Node
	out.Content = slices.Clone(out.Content)
	for i := 0; i < len(out.Content); i += 2 {
		if out.Content[i].Value != "properties" {
			continue
		}
		props := *out.Content[i+1]
		props.Content = nil
		for k := 0; k < len(out.Content[i+1].Content); k += 2 {
			if key := out.Content[i+1].Content[k]; other.get("properties", key.Value).Node == nil {
				props.Content = append(props.Content, key, out.Content[i+1].Content[k+1])
			}
		}
		out.Content[i+1] = &props
	}
	return node{&out}
}

// keyTable writes one map's keys, and those of the maps within it.
func keyTable(b *strings.Builder, root node, title string, d node) {
	props := d.get("properties")
	if props.Node == nil || len(props.Content) == 0 {
		return
	}
	fmt.Fprintf(b, "\n### %s\n\n", title)
	if about := d.get("description").text(); about != "" {
		b.WriteString(about + "\n\n")
	}
	b.WriteString("| key | value | |\n|---|---|---|\n")
	type inner struct {
		title string
		n     node
	}
	var within []inner
	for i := 0; i < len(props.Content); i += 2 {
		key, p := props.Content[i].Value, node{props.Content[i+1]}
		about := p.get("description").text()
		if about == "" {
			about = resolve(root, p).get("description").text()
		}
		name := "`" + key + "`"
		if required := d.get("required"); required.Node != nil && slices.ContainsFunc(required.Content, func(n *yaml.Node) bool { return n.Value == key }) {
			name = "**" + name + "**"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, valueOf(root, p), strings.ReplaceAll(about, "|", "\\|"))
		if sub := p.get("properties"); sub.Node != nil {
			within = append(within, inner{"`" + key + "`", p})
		}
	}
	for _, w := range within {
		keyTable(b, root, w.title, w.n)
	}
}

func resolve(root, p node) node {
	if ref, ok := strings.CutPrefix(p.get("$ref").text(), "#/$defs/"); ok {
		return root.get("$defs", ref)
	}
	return p
}

// valueOf says in a few words what stands behind a key.
func valueOf(root, p node) string {
	if ref, ok := strings.CutPrefix(p.get("$ref").text(), "#/$defs/"); ok {
		if root.get("$defs", ref).get("enum").Node != nil {
			return valueOf(root, root.get("$defs", ref))
		}
		return ref
	}
	if c := p.get("const"); c.Node != nil {
		return "`" + c.text() + "`"
	}
	if enum := p.get("enum"); enum.Node != nil {
		var words []string
		for _, n := range enum.Content {
			words = append(words, "`"+n.Value+"`")
		}
		return strings.Join(words, ", ")
	}
	if one := p.get("oneOf"); one.Node != nil {
		var words []string
		for _, o := range one.Content {
			if w := valueOf(root, node{o}); w != "" { // else it is about which keys must be there
				words = append(words, w)
			}
		}
		if len(words) > 0 {
			return strings.Join(words, ", or ")
		}
	}
	switch kind := p.get("type"); kind.text() {
	case "string":
		return "text"
	case "array":
		return "list of " + valueOf(root, p.get("items"))
	case "object":
		if each := p.get("additionalProperties"); each.Node != nil && each.Kind == yaml.MappingNode {
			return "map of " + valueOf(root, each)
		}
		return "map"
	case "integer":
		return "whole number"
	case "boolean":
		return "true or false"
	case "":
		if kind.Node != nil && kind.Kind == yaml.SequenceNode {
			return "value"
		}
	}
	return p.get("type").text()
}

// limitList is what one file may hold.
func limitList() string {
	return fmt.Sprintf("\nA file: 1 MiB, %d steps, nested %d deep, %d inputs, %d roles, %d limits, %d outputs. One `parallel`: %d branches. One\n`repeat`: %d iterations. One `retry`: %d. A plan: %d commands and %.0f days at worst.\n\n",
		protocols.MaxSteps, protocols.MaxNesting, protocols.MaxInputs, protocols.MaxRoles, protocols.MaxLimits, protocols.MaxOutputs,
		protocols.MaxBranches, protocols.MaxRepeats, protocols.MaxRetries, protocols.MaxCommands, protocols.MaxTime.Hours()/24)
}

var codeRE = regexp.MustCompile(`^[a-z][a-z]*(_[a-z]+)*$`)

// codeTable lists every code that the language's packages know, with what it
// says: of a bad file that is kept, or else the sentence's frame in the source.
func codeTable(t *testing.T) string {
	t.Helper()
	codes, words := map[string]string{}, map[string]bool{}
	for _, dir := range []string{"internal/strict", "lab/expr", "protocols"} {
		codesOf(t, dir, codes, words)
	}
	goldens, err := filepath.Glob("protocols/testdata/bad/*.golden")
	if err != nil || len(goldens) < 80 {
		t.Fatal(len(goldens), err)
	}
	line := regexp.MustCompile(`^\[([a-z_]+)\] (?:[a-z0-9-]+\.yaml:\d+:\d+: )?(.*)$`)
	shown := map[string]bool{}
	for _, g := range goldens {
		data, err := os.ReadFile(g)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range strings.Split(string(data), "\n") {
			m := line.FindStringSubmatch(l)
			if m == nil {
				continue
			}
			if !words[m[1]] {
				t.Errorf("%s: code %s is not found in the source", g, m[1])
			}
			if !shown[m[1]] || len(m[2]) < len(codes[m[1]]) {
				codes[m[1]], shown[m[1]] = m[2], true
			}
		}
	}
	var b strings.Builder
	b.WriteString("\n| code | as in |\n|---|---|\n")
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		say := codes[code]
		if say == "" {
			say = "…"
		}
		if r := []rune(say); len(r) > 160 {
			say = string(r[:160]) + "…"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", code, strings.NewReplacer("|", "\\|", "<", "\\<", "*", "\\*", "_", "\\_").Replace(say))
	}
	b.WriteString("\n")
	return b.String()
}

// codesOf finds the codes in a package's source, each with the frame of a
// sentence that goes with it; words are all its texts.
func codesOf(t *testing.T, dir string, into map[string]string, words map[string]bool) {
	t.Helper()
	verb := regexp.MustCompile(`%[-+.#0-9]*[a-zA-Z]`)
	keep := func(code, frame string) {
		frame = verb.ReplaceAllString(frame, "…")
		if have, ok := into[code]; codeRE.MatchString(code) && (!ok || len(frame) > len(have) || len(frame) == len(have) && frame < have) {
			into[code] = frame // one of several, always the same
		}
	}
	files, err := filepath.Glob(dir + "/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(dir, err)
	}
	set := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		p, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(p, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				name := ""
				switch f := n.Fun.(type) {
				case *ast.SelectorExpr:
					name = f.Sel.Name
				case *ast.Ident:
					name = f.Name
				}
				if slices.Contains([]string{"add", "Add", "fail", "limit"}, name) && len(n.Args) >= 3 {
					keep(literal(n.Args[1]), literal(n.Args[min(3, len(n.Args)-1)]))
				}
			case *ast.CompositeLit:
				code, say := "", ""
				for _, e := range n.Elts {
					kv, ok := e.(*ast.KeyValueExpr)
					if key, isName := kv1(kv, ok); isName && key == "Code" {
						code = literal(kv.Value)
					} else if isName && key == "Say" {
						say = literal(kv.Value)
					}
				}
				keep(code, say)
			case *ast.BasicLit:
				words[literal(n)] = true
			case *ast.AssignStmt: // code := "…", where one of several is chosen
				for i, l := range n.Lhs {
					if id, ok := l.(*ast.Ident); ok && id.Name == "code" && i < len(n.Rhs) {
						keep(literal(n.Rhs[i]), "")
					}
				}
			}
			return true
		})
	}
}

func kv1(kv *ast.KeyValueExpr, ok bool) (string, bool) {
	if !ok {
		return "", false
	}
	id, ok := kv.Key.(*ast.Ident)
	if !ok {
		return "", false
	}
	return id.Name, true
}

// literal is a text that stands in the source, also as the frame of a Sprintf.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		if err == nil && e.Kind == token.STRING {
			return s
		}
	case *ast.BinaryExpr:
		return cmp.Or(literal(e.X), "…") + cmp.Or(literal(e.Y), "…")
	case *ast.CallExpr:
		if len(e.Args) > 0 {
			return literal(e.Args[0])
		}
	}
	return ""
}
