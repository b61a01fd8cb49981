package configs

import (
	"strings"
	"time"
	"unicode/utf8"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/lab/expr"
)

// maxEntries bounds every list and map of a file. The largest real one, the
// instruments of a lab, is far shorter.
const maxEntries = 1000

// reader is a strict decoder with the readings that several kinds of files
// share.
type reader struct{ *strict.Decoder }

func newReader(is lab.Issues) reader { return reader{&strict.Decoder{Issues: is}} }

func (r reader) add(p lab.Pos, code, hint, format string, args ...any) {
	r.Issues.Add(p, code, hint, format, args...)
}

// done returns the issues in the order of the file.
func (r reader) done() lab.Issues {
	r.Issues.Sort()
	return r.Issues
}

// entry is one key of a map and what stands there.
type entry struct {
	key  string
	node *strict.Node
	pos  lab.Pos // of the key
}

// entries reads a map with free keys, in file order. No node: no entries.
func (r reader) entries(n *strict.Node, what string) []entry {
	if n == nil {
		return nil
	}
	f := r.Map(n, what)
	var es []entry
	for _, k := range f.Keys() {
		es = append(es, entry{k, f.Get(k), f.KeyPos(k)})
	}
	if len(es) > maxEntries {
		r.add(n.Pos(), "too_many", "", "%d entries in %s; at most %d", len(es), what, maxEntries)
		return nil
	}
	return es
}

// name checks that a key is a name, and none of the words that expressions
// keep for themselves.
func (r reader) name(e entry, what string) string {
	if err := lab.CheckName(what, e.key); err != nil {
		r.add(e.pos, "bad_name", "", "%v", err)
	} else if reserved[e.key] {
		r.add(e.pos, "bad_name", "choose another one", "%s %q: expressions keep this word for themselves", what, e.key)
	}
	return e.key
}

var reserved = map[string]bool{"self": true, "before": true, "and": true, "or": true, "not": true, "true": true, "false": true}

// word reads one of a closed set of words. A missing node gives "".
func (r reader) word(n *strict.Node, what string, words ...string) string {
	if n == nil {
		return ""
	}
	s := r.Text(n)
	for _, w := range words {
		if s == w {
			return s
		}
	}
	if s != "" { // what is no text at all was reported by Text
		r.add(n.Pos(), "bad_value", "one of "+strings.Join(words, ", "), "%s: %q is not understood%s", what, s, didYouMean(s, words))
	}
	return ""
}

// positive reads a duration above zero. A missing node gives 0.
func (r reader) positive(n *strict.Node, what string) time.Duration {
	if n == nil {
		return 0
	}
	before := len(r.Issues)
	d := r.Duration(n)
	if d <= 0 && len(r.Issues) == before {
		r.add(n.Pos(), "out_of_bounds", "", "%s is %s; it must be longer than nothing", what, lab.Seconds(d))
	}
	return d
}

// text reads a text of 1 to limit characters on one line.
func (r reader) text(n *strict.Node, what string, limit int) string {
	if n == nil {
		return ""
	}
	before := len(r.Issues)
	s := r.Text(n)
	switch {
	case len(r.Issues) > before:
	case s == "":
		r.add(n.Pos(), "empty", "", "%s is empty", what)
	case utf8.RuneCountInString(s) > limit:
		r.add(n.Pos(), "too_long", "", "%s has %d characters; at most %d", what, utf8.RuneCountInString(s), limit)
	}
	return s
}

// about reads a description for people.
func (r reader) about(n *strict.Node) string { return r.text(n, "about", 2000) }

// texts reads a list of texts.
func (r reader) texts(n *strict.Node, what string) []string {
	if n == nil {
		return nil
	}
	var out []string
	for _, e := range r.List(n) {
		out = append(out, r.text(e, what, 200))
	}
	return out
}

// unit reads a unit. A missing node is dimensionless.
func (r reader) unit(n *strict.Node) lab.Unit {
	if n == nil {
		return lab.One
	}
	u, err := lab.ParseUnit(r.Text(n))
	if err != nil {
		r.add(n.Pos(), "bad_unit", lab.UnitHint(err), "%v", err)
	}
	return u
}

// value reads one value of a type. ok is false where it was reported.
func (r reader) value(n *strict.Node, t lab.Type, what string) (v lab.Value, ok bool) {
	before := len(r.Issues)
	switch t.Kind {
	case lab.Number:
		v = r.number(n, t)
	case lab.Integer:
		v = lab.IntegerValue(r.Int(n))
	case lab.Bool:
		v = lab.BoolValue(r.Bool(n))
	case lab.Enum:
		v = lab.EnumValue(r.Text(n))
	case lab.Text:
		v = lab.TextValue(r.Text(n))
	default:
		r.add(n.Pos(), "wrong_type", "", "%s: a %s can't be written in a file", what, t.Kind)
	}
	if len(r.Issues) > before {
		return lab.Value{}, false
	}
	conformed, err := t.Conform(v)
	switch {
	case err == nil:
		return conformed, true
	case v.Kind == lab.Number && n.LooksNumeric():
		r.add(n.Pos(), "no_unit", "write "+n.Text()+" "+t.Unit.String()+", if that is what you mean", "%s: %s has no unit; a %s is wanted", what, n.Text(), t.Unit.Dim())
	case v.Kind == lab.Number:
		r.add(n.Pos(), "wrong_dimension", "", "%s: %v", what, err)
	case t.Kind == lab.Enum:
		r.add(n.Pos(), "bad_value", "", "%s: %v%s", what, err, didYouMean(v.Text, t.Enum))
	default:
		r.add(n.Pos(), "bad_value", "", "%s: %v", what, err)
	}
	return lab.Value{}, false
}

// number reads a quantity; a dimensionless one may be a bare number.
func (r reader) number(n *strict.Node, t lab.Type) lab.Value {
	if t.Unit.Dim() == lab.None && n.LooksNumeric() {
		return lab.NumberValue(lab.Quantity{Value: r.Number(n), Unit: lab.One})
	}
	return lab.NumberValue(r.Quantity(n))
}

// compile checks an expression in a scope. It returns nil where that was
// reported.
func (r reader) compile(src lab.Source, s expr.Scope) *expr.Program {
	p, err := expr.Compile(src, s)
	if err == nil {
		return p
	}
	if list, ok := err.(lab.Issues); ok {
		r.Issues = append(r.Issues, list...)
	} else {
		r.add(src.Pos, "bad_expression", "", "%v", err)
	}
	return nil
}

func didYouMean(s string, candidates []string) string {
	if n := lab.Nearest(s, candidates); n != "" {
		return "; did you mean " + n + "?"
	}
	return ""
}
