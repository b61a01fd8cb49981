package expr

import (
	"strings"

	"labgate/lab"
)

// Rewrite writes an expression that compiles in one way only: single blanks
// between its words, and every name replaced by what rename makes of it. Names
// of functions stay as they are; a nil rename leaves all names. Two texts that
// differ in nothing but white space give the same result, and the result means
// what the text means.
func Rewrite(text string, rename func(name string) string) string {
	var ignored lab.Issues // a text with issues has not compiled
	var room [32]token     // most expressions have fewer: they need no heap
	toks := lex(&source{lab.Source{Text: text}, &ignored}, room[:0])
	words := make([]string, 0, 64)
	for i, t := range toks[:len(toks)-1] { // the last one is the end
		switch {
		case t.kind == tokNumber:
			n := numberLen(t.text)
			words = append(words, t.text[:n])
			if unit := strings.TrimSpace(t.text[n:]); unit != "" {
				words = append(words, unit)
			}
			continue
		case t.kind == tokName && rename != nil && !(toks[i+1].kind == tokOp && toks[i+1].text == "("):
			t.text = rename(t.text)
		}
		words = append(words, t.text)
	}
	return strings.Join(words, " ")
}
