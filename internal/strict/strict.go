// Package strict turns bytes into YAML nodes with positions, and nodes into
// values, without guessing. It reports every problem at once, each with file,
// line, column and, where there is one, a hint.
//
// It never merges, aliases, casts or drops: duplicate and unknown keys,
// anchors, tags, directives, several documents, bare dates, numbers with a
// leading zero, hexadecimal and non-finite numbers, and words that YAML 1.1
// takes for booleans are issues. JSON is read as JSON. The package reads no
// file and starts no goroutine; its memory is bounded by the limits below.
package strict

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode"
	"unicode/utf8"

	"labgate/lab"
)

// Limits on what comes from outside.
const (
	MaxBytes  = 1 << 20 // of a file
	MaxDepth  = 64      // of nesting
	MaxNodes  = 100_000
	MaxIssues = 200 // of one Parse; the last one says how many more there are
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

// Node is one value with its place in the file. The nil Node is a missing
// value: every method may be called on it.
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

// Pos is where the node's text begins: inside the quotes of a quoted scalar,
// on the first line of text of a block scalar.
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

// Parse reads one document, YAML or JSON. The node is nil where the text can't
// be read at all. With other issues it is there, so that what it holds can be
// checked too; a caller that finds any issue uses none of its values.
func Parse(file string, data []byte) (*Node, lab.Issues) {
	c := &converter{file: file, data: data}
	var root *Node
	switch {
	case !c.checkBytes():
	case isJSON(data):
		root = c.parseJSON()
	default:
		root = c.parseYAML()
	}
	c.is.Sort()
	if more := len(c.is) - MaxIssues + 1; more > 1 {
		last := c.is[MaxIssues-1].Pos
		c.is = c.is[:MaxIssues-1]
		c.is.Add(last, "too_many", "", "and %d more issues from here on", more)
	}
	return root, c.is
}

// isJSON reports whether the text is one JSON object or array. Almost all of
// JSON is YAML, but not its surrogate pairs, nor "\/".
func isJSON(data []byte) bool {
	t := bytes.TrimLeft(data, " \t\r\n")
	return len(t) > 0 && (t[0] == '{' || t[0] == '[') && json.Valid(data)
}

// converter makes our nodes out of a parser's, and collects issues.
type converter struct {
	file  string
	data  []byte
	is    lab.Issues
	count int
	full  bool
	lines [][]byte // of data, split when first needed

	cursor struct{ line, column, offset int } // see firstByte
}

func (c *converter) at(line, column int) lab.Pos {
	return lab.Pos{File: c.file, Line: line, Column: column}
}

// line is a line of the text, counted from 1; nil beyond its end.
func (c *converter) line(n int) []byte {
	if c.lines == nil {
		c.lines = bytes.Split(c.data, []byte("\n"))
	}
	if n < 1 || n > len(c.lines) {
		return nil
	}
	return c.lines[n-1]
}

// room reports whether one more node at a depth is within the limits. The
// first one that is not is an issue; the document is not usable then.
func (c *converter) room(p lab.Pos, depth int) bool {
	if c.count++; c.count <= MaxNodes && depth <= MaxDepth {
		return true
	}
	if !c.full {
		c.full = true
		c.is.Add(p, "too_deep", "", "more than %d values, or nested deeper than %d", MaxNodes, MaxDepth)
	}
	return false
}

// addKey enters a map's key. A repeated one is an issue; its value is checked
// but not entered.
func (c *converter) addKey(m *Node, seen map[string]lab.Pos, name string, p lab.Pos, v *Node) {
	if first, ok := seen[name]; ok {
		c.is.Add(p, "duplicate_key", "", "%q is given twice; the first is at line %d, column %d", clip(name), first.Line, first.Column)
		return
	}
	seen[name] = p
	m.keys = append(m.keys, key{name, p})
	m.vals = append(m.vals, v)
}

// checkBytes refuses what no parser should see: too much, or not text.
func (c *converter) checkBytes() bool {
	p := c.at(1, 1)
	if len(c.data) > MaxBytes {
		c.is.Add(p, "too_large", "", "the file has %d bytes; at most %d are read", len(c.data), MaxBytes)
		return false
	}
	for i := 0; i < len(c.data) && len(c.is) < MaxIssues; {
		if b := c.data[i]; b >= ' ' && b < 0x7f { // most of any text
			i++
			p.Column++
			continue
		}
		r, n := utf8.DecodeRune(c.data[i:])
		switch {
		case r == utf8.RuneError && n <= 1:
			c.is.Add(p, "not_text", "save it as UTF-8", "the byte 0x%02x is not UTF-8", c.data[i])
		case r == '\uFEFF' && i == 0:
			c.is.Add(p, "control_character", "save it as UTF-8 without it", "the file starts with a byte order mark")
		case r == '\r' && (i+1 == len(c.data) || c.data[i+1] != '\n'):
			c.is.Add(p, "control_character", "end lines with LF or CR LF", "a carriage return stands alone")
		case r != '\n' && r != '\t' && r != '\r' && hidden(r):
			c.is.Add(p, "control_character", "delete it", "the character U+%04X has no place in a text", r)
		}
		i += n
		p.Column++
		if r == '\n' {
			p.Line, p.Column = p.Line+1, 1
		}
	}
	return len(c.is) == 0
}

// hidden reports characters that a reader does not see, or takes for something
// else: controls, format characters (they can reorder a line), and line ends
// that only some programs know.
func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// clip keeps what a message quotes short.
func clip(s string) string {
	const most = 60
	n := 0
	for i := range s {
		if n++; n > most {
			return s[:i] + "…"
		}
	}
	return s
}

// describe says what a node is, for a message.
func (n *Node) describe() string {
	switch n.Kind() {
	case Map:
		return "a map"
	case List:
		return "a list"
	case Null:
		return "nothing"
	}
	s := fmt.Sprintf("%q", clip(n.text))
	if n.quoted {
		return "the text " + s
	}
	return s
}
