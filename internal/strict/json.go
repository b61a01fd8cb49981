package strict

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"labgate/lab"
)

// parseJSON reads a text that isJSON has found to be one valid JSON value.
func (c *converter) parseJSON() *Node {
	r := &jsonReader{c: c, dec: json.NewDecoder(bytes.NewReader(c.data)), p: c.at(1, 1)}
	r.dec.UseNumber()
	return r.node(0)
}

// jsonReader walks the tokens of valid JSON, keeping the place of each.
type jsonReader struct {
	c   *converter
	dec *json.Decoder
	off int     // what has been counted
	p   lab.Pos // the place of off
}

// advance moves the place on to an offset.
func (r *jsonReader) advance(to int) {
	for r.off < to {
		ch, n := utf8.DecodeRune(r.c.data[r.off:])
		r.off += n
		r.p.Column++
		if ch == '\n' {
			r.p.Line, r.p.Column = r.p.Line+1, 1
		}
	}
}

// next reads one token: where it begins, itself, and its source.
func (r *jsonReader) next() (lab.Pos, json.Token, string) {
	from := int(r.dec.InputOffset())
	from += len(r.c.data[from:]) - len(bytes.TrimLeft(r.c.data[from:], " \t\r\n,:"))
	r.advance(from)
	tok, err := r.dec.Token()
	if err != nil { // the text is valid: there is no such error
		return r.p, nil, ""
	}
	return r.p, tok, string(r.c.data[from:r.dec.InputOffset()])
}

func (r *jsonReader) node(depth int) *Node {
	p, tok, src := r.next()
	n := &Node{kind: Null, pos: p}
	full := !r.c.room(p, depth)
	switch v := tok.(type) {
	case json.Delim:
		if v == '{' {
			n.kind = Map
			r.object(n, depth, full)
		} else {
			n.kind = List
			for r.dec.More() {
				e := r.node(depth + 1)
				if !full {
					n.vals = append(n.vals, e)
				}
			}
		}
		r.next() // the closing bracket
	case string:
		n.kind, n.quoted, n.text = Scalar, true, v
		n.pos.Column++
		r.checkString(n.pos, v, src)
	case json.Number:
		n.kind, n.text = Scalar, v.String()
	case bool:
		n.kind, n.text = Scalar, src
	}
	if full {
		return &Node{kind: Null, pos: p}
	}
	return n
}

func (r *jsonReader) object(n *Node, depth int, full bool) {
	seen := map[string]lab.Pos{}
	for r.dec.More() {
		p, tok, src := r.next()
		name, _ := tok.(string) // a key of valid JSON is a string
		p.Column++
		r.checkString(p, name, src)
		v := r.node(depth + 1)
		switch {
		case full:
		case name == "":
			r.c.is.Add(p, "bad_key", "", "a key must be plain text")
		default:
			r.c.addKey(n, seen, name, p, v)
		}
	}
}

// checkString finds half a surrogate pair: the JSON reader replaces it without
// a word.
func (r *jsonReader) checkString(p lab.Pos, s, src string) {
	if strings.Count(s, "\uFFFD") > strings.Count(src, "\uFFFD")+strings.Count(strings.ToLower(src), `\ufffd`) {
		r.c.is.Add(p, "not_text", "", "%q has half of a surrogate pair in it", clip(s))
	}
}
