// Package strict turns bytes into YAML nodes with positions, and nodes into
// values, without guessing. It reports every problem at once, each with file,
// line, column and a hint.
//
// It never merges, aliases, casts or drops: duplicate and unknown keys,
// anchors, tags, several documents, bare dates, numbers with a leading zero,
// hexadecimal and non-finite numbers, and words that YAML 1.1 takes for
// booleans are issues. It reads no file, and its memory is bounded by the
// limits below. JSON is YAML and passes too.
package strict

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"labgate/lab"
)

// Limits on what comes from outside.
const (
	MaxBytes = 1 << 20 // of a file
	MaxDepth = 64      // of nesting
	MaxNodes = 100_000
)

// Kind is what a node is.
type Kind uint8

// The kinds.
const (
	Scalar Kind = iota + 1
	Map
	List
	Null
)

// Node is one value with its place in the file.
type Node struct {
	kind   Kind
	pos    lab.Pos
	text   string // scalars: as written
	quoted bool
	keys   []key
	vals   []*Node // of a map, by key; of a list, in order
}

type key struct {
	name string
	pos  lab.Pos
}

// Kind says what the node is; a nil node is Null.
func (n *Node) Kind() Kind {
	if n == nil {
		return Null
	}
	return n.kind
}

// Pos is where the node's text begins; inside the quotes of a quoted scalar.
func (n *Node) Pos() lab.Pos {
	if n == nil {
		return lab.Pos{}
	}
	return n.pos
}

// Text is a scalar as it is written, "" for anything else.
func (n *Node) Text() string {
	if n.Kind() != Scalar {
		return ""
	}
	return n.text
}

// IsList reports whether the node is a list.
func (n *Node) IsList() bool { return n.Kind() == List }

// Quoted reports whether a scalar stands in quotes or in a block.
func (n *Node) Quoted() bool { return n != nil && n.quoted }

var yamlLine = regexp.MustCompile(`line (\d+):? ?`)

// Parse reads one document. The node is nil where the text can't be read at
// all; otherwise it is usable as far as the issues allow.
func Parse(file string, data []byte) (*Node, lab.Issues) {
	var is lab.Issues
	if !checkBytes(file, data, &is) {
		return nil, is
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := decode(dec, &doc); err != nil {
		p, say := lab.Pos{File: file}, strings.TrimPrefix(err.Error(), "yaml: ")
		if m := yamlLine.FindStringSubmatch(say); m != nil {
			p.Line, _ = strconv.Atoi(m[1]) // the pattern is digits
			p.Column = 1
			say = strings.Replace(say, m[0], "", 1)
		}
		if say == "EOF" {
			p.Line, p.Column, say = 1, 1, "the file is empty"
		}
		is.Add(p, "broken_yaml", "", "not readable as YAML: %s", say)
		return nil, is
	}
	var second yaml.Node
	if err := decode(dec, &second); err == nil {
		is.Add(lab.Pos{File: file, Line: second.Line, Column: max(second.Column, 1)}, "several_documents", "put each in a file of its own", "a second document begins here")
	}
	c := &converter{file: file, is: &is}
	root := c.node(doc.Content[0], 0)
	is.Sort()
	return root, is
}

// decode guards against the library's panics on hostile input.
func decode(dec *yaml.Decoder, into *yaml.Node) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return dec.Decode(into)
}

// checkBytes refuses what no parser should see: too much, not text, or nested
// so deep that parsing alone would cost too much.
func checkBytes(file string, data []byte, is *lab.Issues) bool {
	at := lab.Pos{File: file, Line: 1, Column: 1}
	if len(data) > MaxBytes {
		is.Add(at, "too_large", "", "the file has %d bytes; at most %d are read", len(data), MaxBytes)
		return false
	}
	depth := 0
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && n <= 1:
			is.Add(at, "not_text", "save it as UTF-8", "the byte 0x%02x is not UTF-8", data[i])
			return false
		case r == '\n':
			at.Line, at.Column = at.Line+1, 0
		case r == '\t' || r == '\r':
		case unicode.IsControl(r) || r == '\uFEFF' || unicode.Is(unicode.Cf, r):
			is.Add(at, "control_character", "delete it", "the character U+%04X has no place in a text", r)
			return false
		case r == '[' || r == '{':
			depth++
		case r == ']' || r == '}':
			depth--
		}
		if depth > 4*MaxDepth {
			is.Add(at, "too_deep", "", "brackets are nested deeper than %d", MaxDepth)
			return false
		}
		at.Column++
		i += n
	}
	return true
}

// converter turns the library's nodes into ours.
type converter struct {
	file  string
	is    *lab.Issues
	count int
	full  bool
}

func (c *converter) pos(n *yaml.Node) lab.Pos {
	p := lab.Pos{File: c.file, Line: n.Line, Column: n.Column}
	if n.Kind == yaml.ScalarNode && n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		p.Column++
	}
	return p
}

func (c *converter) node(n *yaml.Node, depth int) *Node {
	out := &Node{pos: c.pos(n)}
	if c.count++; c.count > MaxNodes || depth > MaxDepth {
		if !c.full {
			c.full = true
			c.is.Add(out.pos, "too_deep", "", "more than %d values, or nested deeper than %d", MaxNodes, MaxDepth)
		}
		out.kind = Null
		return out
	}
	if n.Anchor != "" || n.Kind == yaml.AliasNode {
		c.is.Add(out.pos, "anchor", "write the value out where it is used", "anchors and aliases are not allowed")
		if n.Kind == yaml.AliasNode {
			out.kind = Null
			return out
		}
	}
	if n.Style&yaml.TaggedStyle != 0 {
		c.is.Add(out.pos, "tag", "leave it out", "the tag %s is not allowed", n.Tag)
	}
	switch n.Kind {
	case yaml.MappingNode:
		c.mapping(n, out, depth)
	case yaml.SequenceNode:
		out.kind = List
		for _, e := range n.Content {
			out.vals = append(out.vals, c.node(e, depth+1))
		}
	default:
		c.scalar(n, out)
	}
	return out
}

func (c *converter) mapping(n *yaml.Node, out *Node, depth int) {
	out.kind = Map
	seen := map[string]lab.Pos{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		at := c.pos(k)
		if k.Kind != yaml.ScalarNode || k.Anchor != "" {
			c.is.Add(at, "bad_key", "", "a key must be plain text")
			continue
		}
		if k.Value == "<<" {
			c.is.Add(at, "anchor", "write the value out where it is used", "merge keys are not allowed")
			continue
		}
		if first, ok := seen[k.Value]; ok {
			c.is.Add(at, "duplicate_key", "", "%q is given twice; the first is at line %d, column %d", k.Value, first.Line, first.Column)
			continue
		}
		seen[k.Value] = at
		out.keys = append(out.keys, key{k.Value, at})
		out.vals = append(out.vals, c.node(v, depth+1))
	}
}

func (c *converter) scalar(n *yaml.Node, out *Node) {
	out.kind, out.text = Scalar, n.Value
	out.quoted = n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	if !out.quoted && (n.Value == "" || n.Value == "~" || n.Value == "null") {
		out.kind = Null
	}
}
