package chain

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/gowebpki/jcs"

	"labgate/lab"
)

// Canonical is an entry's one JSON form (RFC 8785), over which it is chained. An
// entry that would not come back as it went in is an error: one without a kind,
// text that is not UTF-8, and numbers that JSON readers round.
func Canonical(e lab.Entry) ([]byte, error) {
	if e.Kind == "" {
		return nil, errors.New("it has no kind")
	}
	texts := append([]string{e.Kind, e.Origin, e.Boot, e.Key, e.Principal, e.Run, e.Step, e.Instrument, e.Command}, e.Samples...)
	for k, v := range e.Labels {
		texts = append(texts, k, v)
	}
	for _, s := range texts {
		if !utf8.ValidString(s) {
			return nil, fmt.Errorf("%q is not UTF-8", brief(s))
		}
	}
	if !utf8.Valid(e.Body) {
		return nil, errors.New("its body is not UTF-8")
	}
	if len(e.Body) > 6*MaxEntry { // before the work of reading it; a \u escape may shrink to one byte
		return nil, tooLarge(len(e.Body))
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	b, err := Form(raw)
	if err == nil && len(b) > MaxEntry {
		err = tooLarge(len(b))
	}
	return b, err
}

func tooLarge(n int) error { return fmt.Errorf("it has %d bytes; at most %d", n, MaxEntry) }

// Form rewrites valid JSON by RFC 8785: sorted keys, no space, one form of
// each number and text.
func Form(valid []byte) ([]byte, error) {
	c := canon{src: valid, out: make([]byte, 0, len(valid))}
	if err := c.value(); err != nil {
		return nil, err
	}
	return c.out, nil
}

// MaxDepth bounds the nesting of an entry. SQLite reads no JSON deeper than
// 1000; an entry that only it refuses would look like a failing disk.
const MaxDepth = 200

// canon reads src, which must be valid JSON in UTF-8, and writes out.
type canon struct {
	src   []byte
	i     int
	out   []byte
	depth int
}

// next skips space and is the byte after it.
func (c *canon) next() byte {
	for c.src[c.i] == ' ' || c.src[c.i] == '\t' || c.src[c.i] == '\n' || c.src[c.i] == '\r' {
		c.i++
	}
	return c.src[c.i]
}

func (c *canon) value() error {
	if c.depth++; c.depth > MaxDepth {
		return fmt.Errorf("it is nested deeper than %d", MaxDepth)
	}
	defer func() { c.depth-- }()
	switch c.next() {
	case '{':
		return c.object()
	case '[':
		return c.array()
	case '"':
		_, err := c.text()
		return err
	}
	start := c.i
	for c.i < len(c.src) && !strings.ContainsRune(",]} \t\r\n", rune(c.src[c.i])) {
		c.i++
	}
	tok := string(c.src[start:c.i])
	if tok[0] == 't' || tok[0] == 'f' || tok[0] == 'n' {
		c.out = append(c.out, tok...)
		return nil
	}
	return c.number(tok)
}

func (c *canon) array() error {
	c.i++
	c.out = append(c.out, '[')
	for first := true; c.next() != ']'; first = false {
		if !first {
			c.i++ // the comma
			c.out = append(c.out, ',')
		}
		if err := c.value(); err != nil {
			return err
		}
	}
	c.i++
	c.out = append(c.out, ']')
	return nil
}

// member is a key and the place of its text and value in out.
type member struct {
	key      string
	from, to int
}

func (c *canon) object() error {
	c.i++
	c.out = append(c.out, '{')
	start := len(c.out)
	var members []member
	for c.next() != '}' {
		if len(members) > 0 {
			c.i++ // the comma
			c.next()
			c.out = append(c.out, ',')
		}
		m := member{from: len(c.out)}
		var err error
		if m.key, err = c.text(); err != nil {
			return err
		}
		c.next()
		c.i++ // the colon
		c.out = append(c.out, ':')
		if err := c.value(); err != nil {
			return err
		}
		m.to = len(c.out)
		members = append(members, m)
	}
	c.i++
	if !slices.IsSortedFunc(members, compareKeys) {
		slices.SortStableFunc(members, compareKeys)
		old := slices.Clone(c.out[start:])
		c.out = c.out[:start]
		for k, m := range members {
			if k > 0 {
				c.out = append(c.out, ',')
			}
			c.out = append(c.out, old[m.from-start:m.to-start]...)
		}
	}
	for k := 1; k < len(members); k++ {
		if members[k].key == members[k-1].key {
			return fmt.Errorf("the key %q is given twice", brief(members[k].key))
		}
	}
	c.out = append(c.out, '}')
	return nil
}

// compareKeys orders by UTF-16 code units, as RFC 8785 wants it; for ASCII that
// is the order of bytes.
func compareKeys(a, b member) int {
	for i := 0; i < len(a.key) && i < len(b.key); i++ {
		if a.key[i] >= utf8.RuneSelf || b.key[i] >= utf8.RuneSelf {
			return slices.Compare(utf16.Encode([]rune(a.key)), utf16.Encode([]rune(b.key)))
		}
		if a.key[i] != b.key[i] {
			return int(a.key[i]) - int(b.key[i])
		}
	}
	return len(a.key) - len(b.key)
}

// text copies a string, and returns what it says.
func (c *canon) text() (string, error) {
	start, escaped := c.i, false
	for c.i++; c.src[c.i] != '"'; c.i++ {
		if c.src[c.i] == '\\' {
			escaped = true
			c.i++
		}
	}
	c.i++
	tok := c.src[start:c.i]
	if !escaped {
		c.out = append(c.out, tok...)
		return string(tok[1 : len(tok)-1]), nil
	}
	var s string
	if err := json.Unmarshal(tok, &s); err != nil {
		return "", err
	}
	// The reader replaces half a surrogate pair without a word.
	if strings.Count(s, "\uFFFD") > strings.Count(string(tok), "\uFFFD")+strings.Count(strings.ToLower(string(tok)), `\ufffd`) {
		return "", fmt.Errorf("%q has half of a surrogate pair in it", brief(s))
	}
	c.out = append(c.out, '"')
	for i := range len(s) {
		c.escape(s[i])
	}
	c.out = append(c.out, '"')
	return s, nil
}

func (c *canon) escape(b byte) {
	const named, names = "\b\t\n\f\r\"\\", "btnfr\"\\"
	switch k := strings.IndexByte(named, b); {
	case k >= 0:
		c.out = append(c.out, '\\', names[k])
	case b < ' ':
		c.out = fmt.Appendf(c.out, `\u%04x`, b)
	default:
		c.out = append(c.out, b)
	}
}

func (c *canon) number(tok string) error {
	if len(tok) <= 15 && strings.Trim(tok, "0123456789") == "" { // valid JSON has no leading zeros
		c.out = append(c.out, tok...)
		return nil
	}
	v, err := strconv.ParseFloat(tok, 64)
	if err != nil || math.IsInf(v, 0) {
		return fmt.Errorf("the number %s is too large", brief(tok))
	}
	form, err := jcs.NumberToJSON(v)
	if err != nil {
		return err
	}
	if !sameNumber(tok, form) {
		return fmt.Errorf("the number %s would be rounded to %s; write it as a text", brief(tok), form)
	}
	c.out = append(c.out, form...)
	return nil
}

// sameNumber reports whether two JSON numbers are exactly the same one.
func sameNumber(a, b string) bool {
	negA, digitsA, expA := decimal(a)
	negB, digitsB, expB := decimal(b)
	return digitsA == digitsB && (digitsA == "" || negA == negB && expA == expB)
}

// decimal splits a JSON number: its value is 0.digits × 10^exp.
func decimal(tok string) (neg bool, digits string, exp int) {
	tok, neg = strings.CutPrefix(tok, "-")
	mantissa, e, _ := strings.Cut(strings.ToLower(tok), "e")
	if e != "" {
		exp, _ = strconv.Atoi(e) // an exponent beyond int is 0 or too large, and found before
	}
	whole, frac, _ := strings.Cut(mantissa, ".")
	exp += len(whole)
	all := whole + frac
	digits = strings.TrimLeft(all, "0")
	exp -= len(all) - len(digits)
	return neg, strings.TrimRight(digits, "0"), exp
}
