package messages

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"labgate/lab"
)

// Limits of decoding: whatever a document holds, the answer to it stays small
// and comes soon.
const (
	MaxIssues = 100 // of one document; the last one counts those that are left out
	maxDepth  = 32
	maxPath   = 300 // bytes of a path in an issue
	maxPart   = 100 // bytes of one key in it
	maxWord   = 40  // characters of what was got
)

// Decode reads one JSON document into a struct, strictly: it reports every
// unknown, repeated or wrongly cased key, every wrong type and every bad
// quantity, each with its path, up to MaxIssues. encoding/json alone accepts
// repeated and case-variant keys, takes half a surrogate pair for another sign
// and stops at the first error. Text after the document is an issue too.
// Fields without issues are set even if others have some. Time and memory are
// bounded by the document's size.
func Decode(data []byte, into any) lab.Issues {
	c := &collector{}
	decode(data, into, c)
	return c.issues()
}

// collector keeps the first issues and counts the rest.
type collector struct {
	list lab.Issues
	more int
}

func (c *collector) add(i lab.Issue) {
	if c.full() {
		c.more++
		return
	}
	c.list = append(c.list, i)
}

// full reports whether another issue would only be counted: then the work of
// finding words for it can be spared.
func (c *collector) full() bool { return len(c.list) >= MaxIssues }

// issues is the list, whose last entry stands for all that did not fit.
func (c *collector) issues() lab.Issues {
	if c.more > 0 {
		c.list[MaxIssues-1] = lab.Issue{Code: "too_many", Say: fmt.Sprintf("and %d more issues", c.more+1), Hint: "mend these first"}
		c.more = 0
	}
	return c.list
}

// decode collects what is wrong with a document. It reports false where the
// document is not JSON, so that nothing of it was read.
func decode(data []byte, into any, c *collector) bool {
	broken := func(format string, args ...any) bool {
		c.list, c.more = c.list[:min(len(c.list), MaxIssues-1)], 0 // what it would mean does not matter then
		c.add(lab.Issue{Code: "broken_json", Say: fmt.Sprintf(format, args...)})
		return false
	}
	if len(data) > MaxMessage {
		c.add(lab.Issue{Code: "too_large", Got: strconv.Itoa(len(data)), Allowed: strconv.Itoa(MaxMessage), Say: fmt.Sprintf("the document has %d bytes; at most %d are read", len(data), MaxMessage)})
		return false
	}
	if !utf8.Valid(data) {
		return broken("the document is not UTF-8")
	}
	if say := scan(data); say != "" {
		return broken("%s", say)
	}
	doc := data
	if !json.Valid(data) {
		d := json.NewDecoder(bytes.NewReader(data))
		var first json.RawMessage
		if err := d.Decode(&first); err != nil {
			at, say := notJSON(data, err)
			return broken("not JSON at byte %d: %s", at, say)
		}
		rest := data[d.InputOffset():]
		at := len(data) - len(bytes.TrimLeft(rest, " \t\r\n"))
		c.add(lab.Issue{Code: "broken_json", Say: fmt.Sprintf("there is text after the document, at byte %d", at+1)})
		doc = first
	}
	t := (&parser{src: doc, c: c}).value(nil)
	t.into(reflect.ValueOf(into).Elem(), nil, c)
	return true
}

// notJSON says where and why the library could not read a document.
func notJSON(data []byte, err error) (at int64, say string) {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) && err.Error() != "unexpected end of JSON input" {
		return max(0, syntax.Offset-1), syntax.Error()
	}
	return int64(len(bytes.TrimRight(data, " \t\r\n"))), "the document ends too early"
}

// scan finds what the library would accept: an escaped half of a surrogate
// pair, which stands for no character (two different texts would be read as
// one), and nesting that is too deep.
func scan(data []byte) (say string) {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch b := data[i]; {
		case b == '"':
			quoted = !quoted
		case b == '\\':
			n := escaped(data[i:])
			low := n >= 0xd800 && n < 0xdc00
			if low {
				next := escaped(data[min(i+6, len(data)):])
				low = next >= 0xdc00 && next < 0xe000
			}
			switch {
			case low:
				i += 11
			case n >= 0xd800 && n < 0xe000:
				return fmt.Sprintf("half of a surrogate pair stands at byte %d", i)
			default:
				i++ // what is escaped ends no text
			}
		case quoted:
		case b == '{' || b == '[':
			if depth++; depth > maxDepth+1 {
				return fmt.Sprintf("not JSON at byte %d: nested deeper than %d", i, maxDepth)
			}
		case b == '}' || b == ']':
			depth--
		}
	}
	return ""
}

// escaped is the code of the \u and four digits that data begins with, or 0.
func escaped(data []byte) uint64 {
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' {
		return 0
	}
	n, err := strconv.ParseUint(string(data[2:6]), 16, 16)
	if err != nil {
		return 0 // no JSON: the library says so
	}
	return n
}

// tree is one JSON value with its keys in order.
type tree struct {
	kind byte // { [ " 0 t n
	keys []string
	vals []*tree
	raw  string // scalars: the text
}

// parser reads valid JSON, so that nothing can go wrong.
type parser struct {
	src []byte
	i   int
	c   *collector
}

// next skips space and is the byte after it.
func (p *parser) next() byte {
	for p.src[p.i] == ' ' || p.src[p.i] == '\t' || p.src[p.i] == '\n' || p.src[p.i] == '\r' {
		p.i++
	}
	return p.src[p.i]
}

func (p *parser) value(at *place) *tree {
	switch b := p.next(); b {
	case '{':
		return p.object(at)
	case '[':
		t := &tree{kind: '['}
		for p.i++; p.next() != ']'; {
			if p.src[p.i] == ',' {
				p.i++
			}
			t.vals = append(t.vals, p.value(&place{up: at, i: len(t.vals)}))
		}
		p.i++
		return t
	case '"':
		return &tree{kind: '"', raw: p.text()}
	case 't', 'f', 'n':
		word := p.word()
		return &tree{kind: map[byte]byte{'t': 't', 'f': 't', 'n': 'n'}[b], raw: word}
	}
	return &tree{kind: '0', raw: p.word()}
}

// word is a number, true, false or null.
func (p *parser) word() string {
	start := p.i
	for p.i < len(p.src) && strings.IndexByte(",]} \t\r\n", p.src[p.i]) < 0 {
		p.i++
	}
	return string(p.src[start:p.i])
}

func (p *parser) text() string {
	start, plain := p.i, true
	for p.i++; p.src[p.i] != '"'; p.i++ {
		if p.src[p.i] == '\\' {
			plain = false
			p.i++
		}
	}
	p.i++
	if plain {
		return string(p.src[start+1 : p.i-1])
	}
	var s string
	_ = json.Unmarshal(p.src[start:p.i], &s) // it is valid
	return s
}

func (p *parser) object(at *place) *tree {
	t := &tree{kind: '{'}
	var seen map[string]bool
	for p.i++; p.next() != '}'; {
		if p.src[p.i] == ',' {
			p.i++
			p.next()
		}
		key := p.text()
		here := &place{up: at, key: key, i: -1}
		if seen == nil && len(t.keys) >= 8 { // a few keys are compared faster than hashed
			seen = map[string]bool{}
			for _, k := range t.keys {
				seen[k] = true
			}
		}
		if seen[key] || seen == nil && t.has(key) {
			p.c.add(lab.Issue{Code: "duplicate_key", Path: here.String(), Say: here.String() + " is given twice"})
		}
		if seen != nil {
			seen[key] = true
		}
		p.next()
		p.i++ // the colon
		t.keys, t.vals = append(t.keys, key), append(t.vals, p.value(here))
	}
	p.i++
	return t
}

// place is where a value stands in the document; its words are needed only for
// issues. A nil place is the document.
type place struct {
	up  *place
	key string
	i   int // index in a list; -1: a key
}

func (l *place) String() string {
	switch {
	case l == nil:
		return ""
	case l.i >= 0:
		return within(l.up.String(), "["+strconv.Itoa(l.i)+"]")
	}
	return join(l.up.String(), l.key)
}

func (l *place) under(key string) *place { return &place{up: l, key: key, i: -1} }

// join is the path of a key. Long keys and long paths are cut, and end in "…".
func join(path, key string) string {
	key = cut(key, maxPart)
	if path == "" {
		return key
	}
	return within(path, "."+key)
}

// within goes on with a path that still has room.
func within(path, more string) string {
	if len(path)+len(more) > maxPath {
		return strings.TrimSuffix(path, "…") + "…"
	}
	return path + more
}

// cut shortens a text to at most so many bytes and a mark.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

func (t *tree) has(key string) bool {
	for _, k := range t.keys {
		if k == key {
			return true
		}
	}
	return false
}

// json writes the tree again, canonically enough to be read once more.
func (t *tree) json() []byte {
	var b bytes.Buffer
	t.write(&b)
	return b.Bytes()
}

func (t *tree) write(b *bytes.Buffer) {
	switch t.kind {
	case '{', '[':
		b.WriteByte(t.kind)
		for i, v := range t.vals {
			if i > 0 {
				b.WriteByte(',')
			}
			if t.kind == '{' {
				k, _ := json.Marshal(t.keys[i]) // a string always can be
				b.Write(k)
				b.WriteByte(':')
			}
			v.write(b)
		}
		b.WriteByte(t.kind + 2)
	case '"':
		s, _ := json.Marshal(t.raw) // a string always can be
		b.Write(s)
	case 'n':
		b.WriteString("null")
	default:
		b.WriteString(t.raw)
	}
}

// describe says what a value is, in few words.
func (t *tree) describe() string {
	switch t.kind {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return fmt.Sprintf("the text %.*q", maxWord, t.raw)
	case 'n':
		return "null"
	}
	return cut(t.raw, maxWord)
}

func orDocument(at *place) string {
	if at == nil {
		return "the document"
	}
	return at.String()
}
