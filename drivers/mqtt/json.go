package mqtt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits on what a device may send.
const (
	maxState = 64 << 10 // bytes
	maxAck   = 1 << 20  // bytes
	maxBlob  = 8 << 20  // bytes
	maxDepth = 16       // of nested arrays and objects
	maxRows  = 65536    // of a table
	maxText  = 256      // runes that are kept of a text
)

// decode reads one JSON value: json.Number, string, bool, nil, []any or
// map[string]any. Duplicate keys, broken UTF-8, more than maxDepth levels,
// anything after the value and more than limit bytes are errors.
func decode(b []byte, limit int) (any, error) {
	if len(b) > limit {
		return nil, fmt.Errorf("%d bytes; at most %d are allowed", len(b), limit)
	}
	if !utf8.Valid(b) {
		return nil, errors.New("broken UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	v, err := next(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the value")
	}
	return v, nil
}

// next reads the value that begins at the decoder's next token.
func next(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		return object(d, depth+1)
	case json.Delim('['):
		return array(d, depth+1)
	}
	return t, nil
}

func object(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("nested too deeply")
	}
	o := map[string]any{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, ok := t.(string)
		if !ok {
			return nil, errors.New("a key that is no text")
		}
		if _, twice := o[key]; twice {
			return nil, errors.New("a key twice")
		}
		if o[key], err = next(d, depth); err != nil {
			return nil, err
		}
	}
	_, err := d.Token() // the closing brace
	return o, err
}

func array(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("nested too deeply")
	}
	a := []any{}
	for d.More() {
		v, err := next(d, depth)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	_, err := d.Token() // the closing bracket
	return a, err
}

// pointer is a JSON pointer (RFC 6901), taken apart. The nil pointer points
// nowhere, unlike "" in the RFC: a profile that leaves one out means that.
type pointer []string

func parsePointer(s string) (pointer, error) {
	if s == "" {
		return nil, nil
	}
	if s[0] != '/' {
		return nil, fmt.Errorf("%q is no JSON pointer: it starts with /", s)
	}
	p := pointer(strings.Split(s[1:], "/"))
	for i, t := range p {
		if strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(t), "~") {
			return nil, fmt.Errorf("%q is no JSON pointer: ~ is written ~0", s)
		}
		p[i] = strings.ReplaceAll(strings.ReplaceAll(t, "~1", "/"), "~0", "~")
	}
	return p, nil
}

// needPointer reads a JSON pointer that a profile can't leave out.
func needPointer(s string) (pointer, error) {
	p, err := parsePointer(s)
	if err == nil && p == nil {
		err = errors.New("it needs a JSON pointer")
	}
	return p, err
}

// in finds what the pointer points at; ok is false where there is nothing.
func (p pointer) in(doc any) (v any, ok bool) {
	if p == nil {
		return nil, false
	}
	for _, t := range p {
		switch x := doc.(type) {
		case map[string]any:
			if doc, ok = x[t]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(t)
			if err != nil || i < 0 || i >= len(x) || strconv.Itoa(i) != t {
				return nil, false
			}
			doc = x[i]
		default:
			return nil, false
		}
	}
	return doc, true
}

// text is the string at the pointer; ok is false for anything else.
func (p pointer) text(doc any) (string, bool) {
	v, _ := p.in(doc)
	s, ok := v.(string)
	return s, ok
}
