package expr

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"labgate/lab"
)

// tokKind is a kind of token.
type tokKind uint8

const (
	tokEOF tokKind = iota
	tokNumber
	tokName    // also functions and enumeration names
	tokKeyword // and or not true false
	tokOp      // + - * / ( ) , and comparisons
)

// token is one word of an expression; pos and end are byte offsets.
type token struct {
	kind     tokKind
	text     string
	pos, end int
	num      float64
	unit     lab.Unit
}

func (t token) String() string {
	if t.kind == tokEOF {
		return "the end"
	}
	return `"` + t.text + `"`
}

// source is a text with its place, to turn byte offsets into positions.
type source struct {
	lab.Source
	issues *lab.Issues
}

// at is the position of a byte offset. Columns count characters; where a text
// has several lines, all of them begin at its column, as those of a block do.
func (s *source) at(off int) lab.Pos {
	p := s.Pos
	before := s.Text[:min(off, len(s.Text))]
	if i := strings.LastIndexByte(before, '\n'); i >= 0 {
		p.Line += strings.Count(before, "\n")
		before = before[i+1:]
	}
	p.Column += utf8.RuneCountInString(before)
	return p
}

// add reports an issue; after MaxIssues of them nobody reads on.
func (s *source) add(off int, code, hint, format string, args ...any) {
	if len(*s.issues) >= MaxIssues {
		return
	}
	s.issues.Add(s.at(off), code, hint, format, args...)
}

// lexer cuts a text into tokens. It reports what is wrong and goes on.
type lexer struct {
	src  *source
	text string
	pos  int
}

func isKeyword(w string) bool {
	switch w {
	case "and", "or", "not", "true", "false":
		return true
	}
	return false
}

func isLetter(r rune) bool { return r == '_' || unicode.IsLetter(r) }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

// isUnitStart: "°C", "%" and "µL" start units but no names.
func isUnitStart(r rune) bool { return unicode.IsLetter(r) || r == '%' || r == '°' }

// lex cuts a text into tokens, which it appends to toks. The last one is the
// end.
func lex(src *source, toks []token) []token {
	l := lexer{src: src, text: src.Text}
	for {
		for l.pos < len(l.text) && strings.IndexByte(" \t\r\n", l.text[l.pos]) >= 0 {
			l.pos++
		}
		if l.pos >= len(l.text) {
			return append(toks, token{kind: tokEOF, pos: l.pos, end: l.pos})
		}
		if t, ok := l.next(); ok {
			toks = append(toks, t)
		}
	}
}

// next reads the token at pos; ok is false for characters that were reported
// and skipped.
func (l *lexer) next() (token, bool) {
	r, size := utf8.DecodeRuneInString(l.text[l.pos:])
	switch {
	case isDigit(l.text[l.pos]):
		return l.number(), true
	case isLetter(r):
		return l.name(), true
	}
	rest := l.text[l.pos:]
	for _, op := range []string{"<=", ">=", "==", "!=", "<", ">", "+", "-", "*", "/", "(", ")", ","} {
		if strings.HasPrefix(rest, op) {
			return l.token(tokOp, len(op)), true
		}
	}
	for _, slip := range slips {
		if strings.HasPrefix(rest, slip.text) {
			l.src.add(l.pos, "syntax", slip.hint, "%q is not part of the language", slip.text)
			return l.token(tokOp, len(slip.text)).as(slip.means)
		}
	}
	hint := ""
	switch r {
	case '.':
		hint = "a number starts with a digit, a name with a letter"
	case '"', '\'':
		hint = "names stand without quotation marks"
		if i := strings.IndexRune(rest[1:], r); i >= 0 {
			size = i + 2
		}
	}
	l.src.add(l.pos, "syntax", hint, "%q has no meaning here", rest[:size])
	l.pos += size
	return token{}, false
}

// slips are operators of other languages; reading on as if the right one had
// been written finds the errors behind them.
var slips = []struct{ text, means, hint string }{
	{"&&", "and", "write and"}, {"||", "or", "write or"}, {"=", "==", "write == to compare"},
	{"!", "not", "write not"}, {"≤", "<=", "write <="}, {"≥", ">=", "write >="}, {"≠", "!=", "write !="},
	{"−", "-", "write -"}, {"×", "*", "write *"}, {"·", "*", "write *"}, {"^", "*", "write x * x"},
}

func (t token) as(text string) (token, bool) {
	t.text = text
	if isKeyword(text) {
		t.kind = tokKeyword
	}
	return t, true
}

func (l *lexer) token(k tokKind, n int) token {
	t := token{kind: k, text: l.text[l.pos : l.pos+n], pos: l.pos, end: l.pos + n}
	l.pos += n
	return t
}

// name reads a dotted name or a keyword.
func (l *lexer) name() token {
	i := l.pos
	for {
		i += wordLen(l.text[i:])
		if i+1 >= len(l.text) || l.text[i] != '.' {
			break
		}
		if r, _ := utf8.DecodeRuneInString(l.text[i+1:]); !isLetter(r) {
			break
		}
		i++
	}
	t := l.token(tokName, i-l.pos)
	if isKeyword(t.text) {
		t.kind = tokKeyword
	}
	return t
}

// wordLen is the length of the letters, digits and underscores at the start.
func wordLen(s string) int {
	for i, r := range s {
		if !isLetter(r) && !unicode.IsDigit(r) {
			return i
		}
	}
	return len(s)
}

// number reads a decimal number and the unit that follows it.
func (l *lexer) number() token {
	t := l.token(tokNumber, numberLen(l.text[l.pos:]))
	v, err := lab.ParseNumber(t.text)
	switch {
	case strings.HasSuffix(t.text, "."):
		l.src.add(t.pos, "bad_number", "", "%q ends with a point", t.text)
	case err != nil:
		l.src.add(t.pos, "bad_number", "", "%v", err)
	}
	t.num = v
	at := l.pos
	for at < len(l.text) && (l.text[at] == ' ' || l.text[at] == '\t') {
		at++
	}
	n := unitLen(l.text[at:])
	if n == 0 || isKeyword(l.text[at:at+n]) {
		return t
	}
	unit := l.text[at : at+n]
	u, err := lab.ParseUnit(unit)
	if err != nil {
		hint := "to multiply, write *"
		if strings.ContainsAny(unit, "/.") {
			hint = "to divide, put spaces around /"
		}
		l.src.add(at, "bad_unit", hint, "%v", err)
	}
	t.unit, t.end, l.pos = u, at+n, at+n
	t.text = l.text[t.pos:t.end]
	if rest := l.text[l.pos:]; len(rest) > 1 && rest[0] == '-' && isDigit(rest[1]) {
		l.src.add(l.pos, "syntax", "write 1/s for an exponent, or put spaces around - to subtract",
			"%q could be an exponent or a subtraction", t.text+rest[:2])
	}
	return t
}

// numberLen is the length of the digits, points and exponent at the start.
func numberLen(s string) int {
	i := 0
	for i < len(s) && (isDigit(s[i]) || s[i] == '.') {
		i++
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		j := i + 1
		if j < len(s) && (s[j] == '+' || s[j] == '-') {
			j++
		}
		if j < len(s) && isDigit(s[j]) {
			for j < len(s) && isDigit(s[j]) {
				j++
			}
			return j
		}
	}
	return i
}

// unitLen is the length of the unit at the start: an atom, or "1" before a
// "/", then more atoms joined by "/" or "." without spaces.
func unitLen(s string) int {
	i := 0
	if len(s) > 1 && s[0] == '1' && s[1] == '/' {
		i = 1
	} else if i = atomLen(s); i == 0 {
		return 0
	}
	for i < len(s) && (s[i] == '/' || s[i] == '.') {
		n := atomLen(s[i+1:])
		if n == 0 {
			break
		}
		i += 1 + n
	}
	if s[:i] == "1" {
		return 0
	}
	return i
}

func atomLen(s string) int {
	r, size := utf8.DecodeRuneInString(s)
	switch {
	case s == "" || !isUnitStart(r):
		return 0
	case r == '%':
		return size
	}
	return size + wordLen(s[size:])
}
