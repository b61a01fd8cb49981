package strict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"labgate/lab"
)

func (c *converter) parseYAML() *Node {
	if line := c.directive(); line > 0 {
		c.is.Add(c.at(line, 1), "directive", "leave it out", "directives are not allowed")
	}
	dec := yaml.NewDecoder(bytes.NewReader(c.data))
	var doc, second yaml.Node
	err := decode(dec, &doc)
	if errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		c.is.Add(c.at(1, 1), "broken_yaml", "", "not readable as YAML: the file is empty")
		return nil
	}
	if err != nil {
		c.broken(dec, err)
		return nil
	}
	// What follows must be nothing at all: text that does not belong to the
	// first document shows as an error only here.
	switch err := decode(dec, &second); {
	case err == nil:
		c.is.Add(c.at(max(second.Line, 1), max(second.Column, 1)), "several_documents", "put each in a file of its own", "a second document begins here")
	case !errors.Is(err, io.EOF):
		c.broken(dec, err)
		return nil
	}
	return c.node(doc.Content[0], 0)
}

// directive is the line of a %YAML or %TAG directive, 0 without one.
func (c *converter) directive() int {
	for i := 1; ; i++ {
		l := c.line(i)
		switch {
		case l == nil:
			return 0
		case bytes.HasPrefix(l, []byte("%")):
			return i
		case len(bytes.TrimSpace(l)) > 0 && !bytes.HasPrefix(bytes.TrimSpace(l), []byte("#")):
			return 0
		}
	}
}

// decode guards against panics of the library on hostile input.
func decode(dec *yaml.Decoder, into *yaml.Node) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return dec.Decode(into)
}

var (
	yamlLine      = regexp.MustCompile(`^line \d+: `)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// broken reports a text that is no YAML, where the library stumbled.
func (c *converter) broken(dec *yaml.Decoder, err error) {
	say := yamlLine.ReplaceAllString(strings.TrimPrefix(err.Error(), "yaml: "), "")
	if m := unknownAnchor.FindStringSubmatch(say); m != nil {
		c.is.Add(c.find("*"+m[1]), "anchor", "put text that begins with * in quotes", "anchors and aliases are not allowed")
		return
	}
	at, doing, from := trouble(dec)
	if doing != "" && from != at {
		say = fmt.Sprintf("%s, %s that begins at line %d, column %d", say, doing, from[0], from[1])
	}
	c.is.Add(c.at(at[0], at[1]), "broken_yaml", c.hint(say, at), "not readable as YAML: %s", say)
}

// hint is what is most often behind an error of the library.
func (c *converter) hint(say string, at [2]int) string {
	line := c.line(at[0])
	var last, next byte
	if i := byteOffset(line, at[1]); i < len(line) {
		if next = line[i]; i > 0 {
			last = line[i-1]
		}
	}
	switch {
	case strings.Contains(say, "expected ',' or") && (last == '?' || next == '?'):
		return "within braces text that ends with ? needs quotes"
	case strings.Contains(say, "cannot start any token") && next == '\t':
		return "indent with spaces, not with a tab"
	case strings.Contains(say, "cannot start any token"):
		return fmt.Sprintf("put text that begins with %c in quotes", next)
	case strings.Contains(say, "mapping values are not allowed"):
		return `put text with ": " in it in quotes, or check the indentation`
	case strings.Contains(say, "end of stream"), strings.Contains(say, "expected ',' or"):
		return "something is not closed"
	case strings.Contains(say, "node content"):
		return "a value is missing"
	case strings.Contains(say, "did not find expected"):
		return "check the indentation"
	}
	return ""
}

// trouble reads where the library's parser stumbled, what it was parsing, and
// where that began, as line and column from 1. The library keeps all this but
// tells only a line, at times the wrong one. Should its insides change, the
// place is the first line; a test says so.
func trouble(dec *yaml.Decoder) (at [2]int, doing string, from [2]int) {
	at, from = [2]int{1, 1}, [2]int{1, 1}
	defer func() { _ = recover() }() // reflection on another layout: the defaults stand
	p := reflect.ValueOf(dec).Elem().FieldByName("parser").Elem().FieldByName("parser")
	mark := func(name string) [2]int {
		m := p.FieldByName(name)
		return [2]int{int(m.FieldByName("line").Int()) + 1, int(m.FieldByName("column").Int()) + 1}
	}
	at, from = mark("problem_mark"), mark("context_mark")
	return at, p.FieldByName("context").String(), from
}

// find is the place of the first occurrence of a text.
func (c *converter) find(s string) lab.Pos {
	i := bytes.Index(c.data, []byte(s))
	if i < 0 {
		return c.at(1, 1)
	}
	before := c.data[:i]
	return c.at(bytes.Count(before, []byte("\n"))+1, utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])+1)
}

// byteOffset is where the column-th character of a line begins.
func byteOffset(line []byte, column int) int {
	i := 0
	for n := 1; n < column && i < len(line); n++ {
		_, size := utf8.DecodeRune(line[i:])
		i += size
	}
	return i
}

// pos is where the text of a node begins.
func (c *converter) pos(n *yaml.Node) lab.Pos {
	switch {
	case n.Kind != yaml.ScalarNode:
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		return c.at(n.Line, n.Column+1)
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		for i := n.Line + 1; c.line(i) != nil; i++ {
			if l := c.line(i); len(bytes.TrimSpace(l)) > 0 {
				return c.at(i, len(l)-len(bytes.TrimLeft(l, " "))+1)
			}
		}
	}
	return c.at(n.Line, n.Column)
}

// firstByte is what the source of a node begins with. Nodes come mostly in the
// order of the text, so that a place is looked for from the last one on: a long
// line would cost its square otherwise.
func (c *converter) firstByte(n *yaml.Node) byte {
	line, u := c.line(n.Line), &c.cursor
	if n.Line != u.line || n.Column < u.column {
		u.line, u.column, u.offset = n.Line, 1, 0
	}
	for u.column < n.Column && u.offset < len(line) {
		_, size := utf8.DecodeRune(line[u.offset:])
		u.offset, u.column = u.offset+size, u.column+1
	}
	if u.offset >= len(line) {
		return 0
	}
	return line[u.offset]
}

func (c *converter) node(n *yaml.Node, depth int) *Node {
	out := &Node{kind: Null, pos: c.pos(n)}
	if !c.room(out.pos, depth) {
		return out
	}
	c.checkMarks(n)
	switch n.Kind {
	case yaml.MappingNode:
		out.kind = Map
		c.mapping(n, out, depth)
	case yaml.SequenceNode:
		out.kind = List
		for _, e := range n.Content {
			out.vals = append(out.vals, c.node(e, depth+1))
		}
	case yaml.ScalarNode:
		out.text = n.Value
		out.quoted = n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
		if out.quoted || n.Value != "" && n.Value != "~" && n.Value != "null" {
			out.kind = Scalar
		}
	}
	return out
}

// checkMarks finds anchors and tags by their source too: the library forgets
// some of them.
func (c *converter) checkMarks(n *yaml.Node) {
	at, first := c.at(n.Line, n.Column), c.firstByte(n)
	if n.Anchor != "" || n.Kind == yaml.AliasNode || first == '&' {
		c.is.Add(at, "anchor", "write the value out where it is used", "anchors and aliases are not allowed")
	}
	tag := "!"
	if n.Style&yaml.TaggedStyle != 0 {
		tag = clip(n.Tag)
	}
	if tag != "!" || first == '!' {
		c.is.Add(at, "tag", "leave it out, or put text that begins with ! in quotes", "the tag %s is not allowed", tag)
	}
}

func (c *converter) mapping(n *yaml.Node, out *Node, depth int) {
	seen := make(map[string]lab.Pos, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		at := c.pos(k)
		c.checkMarks(k)
		v := c.node(n.Content[i+1], depth+1)
		switch {
		case k.Kind == yaml.AliasNode:
		case k.Kind != yaml.ScalarNode || k.Value == "":
			c.is.Add(at, "bad_key", "", "a key must be plain text")
		case k.Value == "<<":
			c.is.Add(at, "anchor", "write the value out where it is used", "merge keys are not allowed")
		default:
			c.addKey(out, seen, k.Value, at, v)
		}
	}
}
