package protocols

import (
	"fmt"
	"unicode"

	"labgate/internal/strict"
	"labgate/lab"
)

// lookalikes are signs that a reader takes for one of ASCII: Cyrillic and Greek
// letters, full-width ones, and the dashes and quotes that word processors put
// in the place of what was typed.
var lookalikes = func() map[rune]rune {
	m := map[rune]rune{
		'а': 'a', 'в': 'b', 'с': 'c', 'ԁ': 'd', 'е': 'e', 'һ': 'h', 'і': 'i', 'ј': 'j', 'к': 'k', 'ӏ': 'l', 'м': 'm', 'о': 'o', 'р': 'p', 'ԛ': 'q',
		'ѕ': 's', 'т': 't', 'ѵ': 'v', 'ԝ': 'w', 'х': 'x', 'у': 'y', 'А': 'A', 'В': 'B', 'С': 'C', 'Е': 'E', 'Н': 'H', 'І': 'I', 'К': 'K', 'М': 'M',
		'О': 'O', 'Р': 'P', 'Ѕ': 'S', 'Т': 'T', 'Х': 'X', 'У': 'Y',
		'α': 'a', 'γ': 'y', 'ι': 'i', 'κ': 'k', 'ν': 'v', 'ο': 'o', 'ρ': 'p', 'τ': 't', 'υ': 'u', 'χ': 'x',
		'ı': 'i', 'ɡ': 'g', 'ɑ': 'a', 'ſ': 's',
		'‐': '-', '‑': '-', '‒': '-', '–': '-', '—': '-', '−': '-', '＿': '_', '‘': '\'', '’': '\'', '“': '"', '”': '"', '：': ':', '․': '.', '．': '.', '，': ',',
	}
	for r := rune(0x21); r <= 0x7e; r++ {
		m[r+0xfee0] = r // full-width
	}
	return m
}()

// proseKeys hold text for people, in whatever script they write.
var proseKeys = map[string]bool{"about": true, "ask": true, "because": true}

// homoglyphs reports letters that only look like those of names, keys and
// expressions: two names could not be told apart by eye.
func (r *parser) homoglyphs(root *strict.Node, data []byte) {
	for _, b := range data {
		if b >= 0x80 {
			h := &lookout{r, &strict.Decoder{}}
			h.node(root, "")
			return
		}
	}
}

type lookout struct {
	r     *parser
	quiet *strict.Decoder // its issues are found when the file is read
}

func (h *lookout) node(n *strict.Node, key string) {
	switch n.Kind() {
	case strict.Map:
		f := h.quiet.Map(n, "map")
		for _, k := range f.Keys() {
			h.text(k, f.KeyPos(k), false)
			h.node(f.Get(k), k)
		}
	case strict.List:
		for _, e := range h.quiet.List(n) {
			h.node(e, key)
		}
	case strict.Scalar:
		if !proseKeys[key] {
			h.text(n.Text(), n.Pos(), key == "substance" || key == "lot")
		}
	}
}

// text reports the first such sign of a text; of the name of a substance or a
// lot, which may be in any language, only one among Latin letters.
func (h *lookout) text(s string, at lab.Pos, anyScript bool) {
	if anyScript && !mixed(s) {
		return
	}
	i := 0
	for _, c := range s {
		if c >= 0x80 {
			if like, ok := lookalikes[c]; ok {
				at.Column += i
				h.r.add(at, "homoglyph", fmt.Sprintf("type %c anew", like), "in %q the sign %c is U+%04X (%s), which looks like %c", clip(s), c, c, script(c), like)
				return
			}
		}
		i++
	}
}

// mixed reports whether a text has Latin letters and others that look like
// them.
func mixed(s string) bool {
	latin, other := false, false
	for _, c := range s {
		latin = latin || unicode.Is(unicode.Latin, c)
		other = other || lookalikes[c] != 0 && unicode.IsLetter(c) && !unicode.Is(unicode.Latin, c)
	}
	return latin && other
}

func script(c rune) string {
	switch {
	case unicode.Is(unicode.Cyrillic, c):
		return "Cyrillic"
	case unicode.Is(unicode.Greek, c):
		return "Greek"
	case c >= 0xff01 && c <= 0xff5e:
		return "full width"
	case unicode.IsLetter(c):
		return "a letter of another alphabet"
	}
	return "no sign of the keyboard"
}
