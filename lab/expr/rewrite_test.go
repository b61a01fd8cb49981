package expr

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"labgate/lab"
)

func TestRewrite(t *testing.T) {
	up := func(n string) string { return "lab." + n }
	for _, c := range []struct{ text, plain, renamed string }{
		{"a.b<=95degC", "a.b <= 95 degC", "lab.a.b <= 95 degC"},
		{"abs(min)  <\n 2s", "abs ( min ) < 2 s", "abs ( lab.min ) < 2 s"},
		{"x > -5 degC and not y", "x > - 5 degC and not y", "lab.x > - 5 degC and not lab.y"},
		{"6 mL/min * t", "6 mL/min * t", "6 mL/min * lab.t"},
		{"1e3 1/s * m / s", "1e3 1/s * m / s", "1e3 1/s * lab.m / lab.s"},
	} {
		if got := Rewrite(c.text, nil); got != c.plain {
			t.Errorf("%q: %q, want %q", c.text, got, c.plain)
		}
		if got := Rewrite(c.text, up); got != c.renamed {
			t.Errorf("%q renamed: %q, want %q", c.text, got, c.renamed)
		}
	}
}

// A rewritten expression compiles to the same tree, and is its own rewriting.
func TestRewriteKeepsTheMeaning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := gen{c: func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }, windows: true}
		text := g.root(3)
		p, err := Compile(lab.Source{Text: text}, world)
		if err != nil {
			t.Skip("not an expression")
		}
		again := Rewrite(text, nil)
		q, err := Compile(lab.Source{Text: again}, world)
		if err != nil {
			t.Fatalf("%q became %q: %v", text, again, err)
		}
		if a, b := strings.Join(strings.Fields(tree(p.root)), " "), strings.Join(strings.Fields(tree(q.root)), " "); a != b {
			t.Fatalf("%q became %q:\n%s\n%s", text, again, a, b)
		}
		if Rewrite(again, nil) != again {
			t.Fatalf("%q is not its own rewriting", again)
		}
	})
}

// tree writes what a tree computes, leaving out where it stands.
func tree(n *node) string {
	var b strings.Builder
	b.WriteString("(")
	b.WriteString(strings.Join([]string{string(rune('A' + n.op)), lab.FormatNumber(n.num), n.typ.String(), lab.FormatNumber(float64(n.ref)), n.span.String()}, " "))
	for _, k := range n.kids {
		b.WriteString(tree(k))
	}
	return b.String() + ")"
}
