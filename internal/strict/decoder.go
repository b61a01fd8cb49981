package strict

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"labgate/lab"
)

// Decoder reads values from nodes and collects issues instead of failing at
// the first. Every method takes a nil node for a missing one and returns the
// zero value for it without an issue: Require has reported it.
type Decoder struct{ Issues lab.Issues }

// Fields are the entries of a map.
type Fields struct {
	d     *Decoder
	n     *Node
	what  string
	index map[string]int // of a large map: a search for each key would cost their square
}

// Limits of what a Decoder says, and of what it searches.
const (
	maxUnknown = 20 // keys of one map that are named; the last issue says how many more there are
	fewKeys    = 16
)

// Map reads a map. With allowed keys, any other key is an issue; without, the
// keys are free.
func (d *Decoder) Map(n *Node, what string, allowed ...string) *Fields {
	f := &Fields{d: d, what: what}
	switch n.Kind() {
	case Map:
		f.n = n
	case Null:
		if n != nil {
			d.Issues.Add(n.pos, "wrong_type", "", "%s is empty; a map is wanted", what)
		}
		return f
	default:
		d.Issues.Add(n.pos, "wrong_type", "", "%s is %s; a map is wanted", what, n.describe())
		return f
	}
	if len(allowed) == 0 {
		return f
	}
	unknown := 0
	for _, k := range n.keys {
		if slices.Contains(allowed, k.name) {
			continue
		}
		if unknown++; unknown > maxUnknown {
			continue
		}
		hint := "one of " + strings.Join(allowed, ", ")
		if near := lab.Nearest(clip(k.name), allowed); near != "" {
			hint = "did you mean " + near + "?"
		}
		d.Issues.Add(k.pos, "unknown_key", hint, "%q is no key of a %s", clip(k.name), what)
	}
	if unknown > maxUnknown {
		d.Issues.Add(n.pos, "too_many", "", "and %d more unknown keys in this %s", unknown-maxUnknown, what)
	}
	return f
}

// find is the place of a key among the entries, -1 where there is none.
func (f *Fields) find(name string) int {
	switch {
	case f.n == nil:
		return -1
	case len(f.n.keys) <= fewKeys:
		return slices.IndexFunc(f.n.keys, func(k key) bool { return k.name == name })
	case f.index == nil:
		f.index = make(map[string]int, len(f.n.keys))
		for i, k := range f.n.keys {
			f.index[k.name] = i
		}
	}
	if i, ok := f.index[name]; ok {
		return i
	}
	return -1
}

// Get finds an entry; nil where there is none.
func (f *Fields) Get(name string) *Node {
	if i := f.find(name); i >= 0 {
		return f.n.vals[i]
	}
	return nil
}

// Require finds an entry; a missing or empty one is an issue.
func (f *Fields) Require(name string) *Node {
	v := f.Get(name)
	if f.n == nil || v != nil && v.kind != Null {
		return v
	}
	at := f.n.pos
	if v != nil {
		at = v.pos
	}
	f.d.Issues.Add(at, "missing_key", "", "a %s needs %q", f.what, name)
	return nil
}

// Pos is where the map begins.
func (f *Fields) Pos() lab.Pos { return f.n.Pos() }

// Keys lists the keys in file order.
func (f *Fields) Keys() []string {
	if f.n == nil {
		return nil
	}
	names := make([]string, len(f.n.keys))
	for i, k := range f.n.keys {
		names[i] = k.name
	}
	return names
}

// KeyPos is where a key stands.
func (f *Fields) KeyPos(name string) lab.Pos {
	if i := f.find(name); i >= 0 {
		return f.n.keys[i].pos
	}
	return lab.Pos{}
}

// List reads a list.
func (d *Decoder) List(n *Node) []*Node {
	if n == nil {
		return nil
	}
	if n.kind != List {
		d.Issues.Add(n.pos, "wrong_type", "", "%s stands here; a list is wanted", n.describe())
		return nil
	}
	return n.vals
}

var (
	looksNumber = regexp.MustCompile(`^[-+]?\.?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?$`)
	looksBase60 = regexp.MustCompile(`^[-+]?[0-9]+(:[0-5]?[0-9])+$`)
	looksDate   = regexp.MustCompile(`^\d{4}-\d{1,2}-\d{1,2}([Tt ].*)?$`)
	looksOdd    = regexp.MustCompile(`^(0[xX][0-9a-fA-F_]+( .*)?|0[oO][0-7_]+( .*)?|0[bB][01_]+( .*)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)|(?i:yes|no|on|off)|Null|NULL|True|TRUE|False|FALSE)$`)
)

// begins reports whether a text begins with one of some signs: most texts do not,
// and need no regular expression.
func begins(text, signs string) bool { return text != "" && strings.IndexByte(signs, text[0]) >= 0 }

// odd reports plain scalars that YAML readers disagree about.
func (d *Decoder) odd(n *Node) bool {
	switch {
	case n.quoted || !begins(n.text, "0123456789+-.yYnNoOtTfF"):
		return false
	case looksDate.MatchString(n.text):
		d.Issues.Add(n.pos, "bare_date", "put it in quotes", "%s would be read as a date", clip(n.text))
	case looksOdd.MatchString(n.text):
		d.Issues.Add(n.pos, "odd_scalar", "write true or false, or put it in quotes; numbers are finite decimals", "%s means different things to different readers", clip(n.text))
	default:
		return false
	}
	return true
}

// oddNumber reports plain scalars that are numbers to some readers only, where
// a text is wanted. An ordinary number is no problem: its spelling is kept.
func (d *Decoder) oddNumber(n *Node) bool {
	if n.quoted || !begins(n.text, "0123456789+-.") {
		return false
	}
	if looksNumber.MatchString(n.text) {
		if _, err := lab.ParseNumber(n.text); err == nil {
			return false
		}
	} else if !looksBase60.MatchString(n.text) {
		return false
	}
	d.Issues.Add(n.pos, "odd_scalar", "put it in quotes if it is a text", "%s is a number to some readers, and not the same one to all", clip(n.text))
	return true
}

// Text reads a text. A plain scalar keeps its exact spelling: 1.10 stays 1.10.
func (d *Decoder) Text(n *Node) string {
	if n == nil {
		return ""
	}
	if n.kind != Scalar {
		d.Issues.Add(n.pos, "wrong_type", "", "%s stands here; a text is wanted", n.describe())
		return ""
	}
	if d.odd(n) || d.oddNumber(n) {
		return ""
	}
	return n.text
}

// Name reads a name of the lab's: see lab.ValidName.
func (d *Decoder) Name(n *Node, what string) string {
	before := len(d.Issues)
	s := d.Text(n)
	if n == nil || len(d.Issues) > before {
		return s
	}
	if err := lab.CheckName(what, s); err != nil {
		d.Issues.Add(n.pos, "bad_name", "", "%v", err)
	}
	return s
}

// Bool reads true or false, and nothing else.
func (d *Decoder) Bool(n *Node) bool {
	if n == nil {
		return false
	}
	if n.kind != Scalar || n.quoted || n.text != "true" && n.text != "false" {
		d.Issues.Add(n.pos, "wrong_type", "", "%s stands here; true or false is wanted", n.describe())
		return false
	}
	return n.text == "true"
}

// Int reads a whole number.
func (d *Decoder) Int(n *Node) int64 {
	if n == nil {
		return 0
	}
	v, err := strconv.ParseInt(n.Text(), 10, 64)
	if digits := strings.TrimLeft(n.Text(), "+-"); n.kind == Scalar && !n.quoted && len(digits) > 1 && digits[0] == '0' {
		d.Issues.Add(n.pos, "leading_zero", "write it without the zero", "%s has a leading zero: some readers take it for octal", clip(n.text))
		return 0
	}
	if n.kind != Scalar || n.quoted || err != nil {
		d.Issues.Add(n.pos, "wrong_type", "", "%s stands here; a whole number is wanted", n.describe())
		return 0
	}
	return v
}

// Number reads a finite decimal number.
func (d *Decoder) Number(n *Node) float64 {
	if n == nil {
		return 0
	}
	if n.kind != Scalar || n.quoted {
		d.Issues.Add(n.pos, "wrong_type", "", "%s stands here; a number is wanted", n.describe())
		return 0
	}
	v, err := lab.ParseNumber(n.text)
	if err != nil {
		d.Issues.Add(n.pos, "bad_number", "", "%v", err)
	}
	return v
}

// Quantity reads a number with its unit: 2 s, 0.4 mL. A number alone is
// dimensionless.
func (d *Decoder) Quantity(n *Node) lab.Quantity {
	if n == nil {
		return lab.Quantity{}
	}
	if n.kind != Scalar {
		d.Issues.Add(n.pos, "wrong_type", "write 2 s, or 0.4 mL", "%s stands here; a quantity is wanted", n.describe())
		return lab.Quantity{}
	}
	if d.odd(n) {
		return lab.Quantity{}
	}
	q, err := lab.ParseQuantity(n.text)
	if err != nil {
		code := "bad_quantity"
		if strings.Contains(err.Error(), "is not a unit") {
			code = "bad_unit"
		}
		d.Issues.Add(n.pos, code, lab.UnitHint(err), "%v", err)
	}
	return q
}

// Duration reads a quantity of time.
func (d *Decoder) Duration(n *Node) time.Duration {
	before := len(d.Issues)
	q := d.Quantity(n)
	if n == nil || len(d.Issues) > before {
		return 0
	}
	t, err := q.Duration()
	switch {
	case err == nil:
	case q.Unit.Dim() == lab.None:
		d.Issues.Add(n.pos, "no_unit", "write "+q.String()+" s, or another unit of time", "%s has no unit; a duration is wanted", q)
	default:
		d.Issues.Add(n.pos, "wrong_dimension", "", "%s is a %s; a duration is wanted", q, q.Unit.Dim())
	}
	return t
}

// Source reads an expression with its place. Positions within it are exact
// for an expression that is written on one line without escapes.
func (d *Decoder) Source(n *Node) lab.Source {
	if n == nil {
		return lab.Source{}
	}
	if n.kind != Scalar {
		d.Issues.Add(n.pos, "wrong_type", "put it in quotes if it has a colon or a bracket", "%s stands here; an expression is wanted", n.describe())
		return lab.Source{Pos: n.pos}
	}
	return lab.Source{Text: strings.TrimLeft(n.text, "\n"), Pos: n.pos} // leading blank lines of a block scalar
}

// Formula reads an argument: an expression after "= ", with the place of its
// first character. ok is false for a plain value.
func (d *Decoder) Formula(n *Node) (src lab.Source, ok bool) {
	if n.Kind() != Scalar || !strings.HasPrefix(n.text, "=") {
		return lab.Source{}, false
	}
	rest := strings.TrimLeft(n.text[1:], " ")
	p := n.pos
	p.Column += len(n.text) - len(rest)
	return lab.Source{Text: rest, Pos: p}, true
}

// LooksNumeric reports whether a plain scalar is a bare number.
func (n *Node) LooksNumeric() bool {
	return n.Kind() == Scalar && !n.quoted && looksNumber.MatchString(n.text)
}
