package protocols

import (
	"encoding/json"
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
	c := &canon{d: &strict.Decoder{}}
	data, err := json.Marshal(c.node(root, ""))
	if err != nil {
		return "" // texts and maps of texts always have a JSON form
	}
	return lab.HashText(data)
}

// canon turns nodes into JSON values. The decoder's issues are those that
// parsing has found already.
type canon struct{ d *strict.Decoder }

func (c *canon) node(n *strict.Node, key string) any {
	switch n.Kind() {
	case strict.Map:
		f := c.d.Map(n, "map")
		out := map[string]any{}
		for _, k := range f.Keys() {
			out[k] = c.node(f.Get(k), k)
		}
		return out
	case strict.List:
		out := []any{}
		for _, e := range c.d.List(n) {
			out = append(out, c.node(e, key))
		}
		return out
	case strict.Scalar:
		return c.scalar(n, key)
	}
	return nil
}

func (c *canon) scalar(n *strict.Node, key string) string {
	text := n.Text()
	src, formula := c.d.Formula(n)
	switch {
	case plainKeys[key]:
		return text
	case formula:
		return "= " + expr.Rewrite(src.Text, nil)
	case exprKeys[key]:
		return expr.Rewrite(text, nil)
	}
	if q, err := lab.ParseQuantity(text); err == nil && q.Unit != lab.One {
		return expr.Rewrite(text, nil) // "2s" and "2 s" are one
	}
	return strings.TrimSpace(text)
}
