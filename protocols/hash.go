package protocols

import (
	"encoding/json"
	"slices"
	"strings"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/lab/expr"
)

// plainKeys hold text for people or for an exact comparison.
var plainKeys = map[string]bool{"protocol": true, "version": true, "about": true, "substance": true, "use": true, "hash": true, "ask": true, "because": true, "lot": true, "rows": true}

// exprKeys hold expressions.
var exprKeys = map[string]bool{"until": true, "from": true, "limits": true, "if": true}

// hashOf is the hash of what stands in a file: its tree as JSON with sorted
// keys, with quantities and expressions in their one spelling. Comments, white
// space, the style of YAML and the order of keys don't count. Everything else
// does, also what means the same: 60 s is not 1 min here.
func hashOf(root *strict.Node) string {
	c := &canon{d: &strict.Decoder{}, texts: map[string]string{}}
	c.node(root, "")
	return lab.HashText(c.out)
}

// canon writes nodes as JSON. The decoder's issues are those that parsing has
// found already.
type canon struct {
	d     *strict.Decoder
	out   []byte
	texts map[string]string // expressions in their one spelling
}

// expression writes an expression in its one spelling.
func (c *canon) expression(text string) string {
	s, ok := c.texts[text]
	if !ok {
		s = expr.Rewrite(text, nil)
		c.texts[text] = s
	}
	return s
}

func (c *canon) node(n *strict.Node, key string) {
	switch n.Kind() {
	case strict.Map:
		f := c.d.Map(n, "map")
		keys := f.Keys()
		slices.Sort(keys)
		c.out = append(c.out, '{')
		for i, k := range keys {
			if i > 0 {
				c.out = append(c.out, ',')
			}
			c.text(k)
			c.out = append(c.out, ':')
			c.node(f.Get(k), k)
		}
		c.out = append(c.out, '}')
	case strict.List:
		c.out = append(c.out, '[')
		for i, e := range c.d.List(n) {
			if i > 0 {
				c.out = append(c.out, ',')
			}
			c.node(e, key)
		}
		c.out = append(c.out, ']')
	case strict.Scalar:
		c.text(c.scalar(n, key))
	default:
		c.out = append(c.out, "null"...)
	}
}

// text writes a text as encoding/json does.
func (c *canon) text(s string) {
	for i := 0; i < len(s); i++ {
		if b := s[i]; b < ' ' || b >= 0x7f || b == '"' || b == '\\' || b == '<' || b == '>' || b == '&' {
			data, err := json.Marshal(s)
			if err != nil {
				return // a text always has a JSON form
			}
			c.out = append(c.out, data...)
			return
		}
	}
	c.out = append(append(append(c.out, '"'), s...), '"')
}

func (c *canon) scalar(n *strict.Node, key string) string {
	text := n.Text()
	if plainKeys[key] {
		return text
	}
	src, formula := c.d.Formula(n)
	switch {
	case formula:
		return "= " + c.expression(src.Text)
	case exprKeys[key]:
		return c.expression(text)
	}
	text = strings.TrimSpace(text)
	if text == "" || text[0] >= 'a' && text[0] <= 'z' {
		return text // no quantity begins like this
	}
	if q, err := lab.ParseQuantity(n.Text()); err == nil && q.Unit != lab.One {
		return c.expression(n.Text()) // "2s" and "2 s" are one
	}
	return text
}
