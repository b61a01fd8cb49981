package frame

import (
	"errors"
	"fmt"
	"strings"
)

// maxTemplate bounds a template, in bytes. A line of a laboratory instrument
// is far shorter.
const maxTemplate = 256

// addrName and statusName are the names with a meaning of their own.
const (
	addrName   = "addr"
	statusName = "status"
	valueName  = "value"
)

// spec is how a value stands in a line. The zero spec is text.
type spec struct {
	verb   byte // 0 text, 'c' one character, 'd' whole, 'f' decimal, 'g' limited digits
	width  int  // d: exact number of characters, 0 any; g: most digits; f: decimals where fixed
	fixed  bool // f: exactly width decimals
	source string
}

// String is the spec as written, with its colon.
func (s spec) String() string {
	if s.source == "" {
		return ""
	}
	return ":" + s.source
}

// say describes what the spec carries, for people.
func (s spec) say() string {
	switch {
	case s.verb == 'd' && s.width > 0:
		return fmt.Sprintf("a whole number of at most %d characters", s.width)
	case s.verb == 'd':
		return "a whole number"
	case s.verb == 'g':
		return fmt.Sprintf("a number of at most %d digits", s.width)
	case s.verb == 'f' && s.fixed:
		return fmt.Sprintf("a number of at most %d decimals", s.width)
	case s.verb == 'f':
		return "a number of at most 10 significant digits"
	}
	return "printable text"
}

// number reports whether the spec writes or reads a number.
func (s spec) number() bool { return s.verb == 'd' || s.verb == 'f' || s.verb == 'g' }

// part is one piece of a template: a literal, or a name with its spec.
type part struct {
	lit  string // where name is empty
	name string
	spec spec
}

// template is a parsed line.
type template []part

// parseTemplate reads a template. Two literals never stand side by side.
func parseTemplate(s string) (template, error) {
	if len(s) > maxTemplate {
		return nil, fmt.Errorf("it has %d bytes; at most %d", len(s), maxTemplate)
	}
	var t template
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			t = append(t, part{lit: lit.String()})
			lit.Reset()
		}
	}
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case (c == '{' || c == '}') && i+1 < len(s) && s[i+1] == c:
			lit.WriteByte(c)
			i += 2
		case c == '}':
			return nil, fmt.Errorf("a } at byte %d closes nothing; a brace itself is }}", i+1)
		case c == '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				return nil, fmt.Errorf("the { at byte %d is never closed; a brace itself is {{", i+1)
			}
			p, err := parseField(s[i+1 : i+end])
			if err != nil {
				return nil, err
			}
			flush()
			t = append(t, p)
			i += end + 1
		default:
			lit.WriteByte(c)
			i++
		}
	}
	flush()
	return t, nil
}

// parseField reads the inside of a pair of braces.
func parseField(s string) (part, error) {
	name, text, has := strings.Cut(s, ":")
	if !validField(name) {
		return part{}, fmt.Errorf("{%s}: %q is not a name", s, name)
	}
	if has && text == "" {
		return part{}, fmt.Errorf("{%s}: nothing follows the colon", s)
	}
	sp, err := parseSpec(text)
	if err != nil {
		return part{}, fmt.Errorf("{%s}: %w", s, err)
	}
	return part{name: name, spec: sp}, nil
}

func validField(s string) bool {
	if len(s) == 0 || len(s) > 32 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_') {
			return false
		}
	}
	return true
}

var errSpec = errors.New("the format is none of d, 02d, f, .2f, 4g, c")

func parseSpec(s string) (spec, error) {
	if s == "" {
		return spec{}, nil
	}
	sp := spec{verb: s[len(s)-1], source: s}
	head := s[:len(s)-1]
	switch {
	case head == "" && (sp.verb == 'c' || sp.verb == 'd' || sp.verb == 'f'):
		return sp, nil
	case sp.verb == 'd' && len(head) == 2 && head[0] == '0' && head[1] >= '1' && head[1] <= '9':
		sp.width = int(head[1] - '0')
		return sp, nil
	case sp.verb == 'f' && len(head) == 2 && head[0] == '.' && head[1] >= '0' && head[1] <= '9':
		sp.width, sp.fixed = int(head[1]-'0'), true
		return sp, nil
	case sp.verb == 'g' && len(head) == 1 && head[0] >= '1' && head[0] <= '9':
		sp.width = int(head[0] - '0')
		return sp, nil
	}
	return spec{}, errSpec
}

// names lists the names of a template, each once, in order.
func (t template) names() []string {
	var names []string
	for _, p := range t {
		if p.name != "" && !contains(names, p.name) {
			names = append(names, p.name)
		}
	}
	return names
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// asReply gives {status} its one character and checks that one reading from
// left to right is the only one.
func (t template) asReply() (template, error) {
	out := append(template(nil), t...)
	seen := map[string]bool{}
	for i := range out {
		p := &out[i]
		if p.name == "" {
			continue
		}
		if p.name == statusName && p.spec == (spec{}) {
			p.spec = spec{verb: 'c', source: "c"}
		}
		if seen[p.name] {
			return nil, fmt.Errorf("{%s} is captured twice", p.name)
		}
		seen[p.name] = true
		if p.spec.verb == 'g' || p.spec.fixed {
			return nil, fmt.Errorf("{%s%s}: a reply is read with {%s}, c, d, 02d or f", p.name, p.spec, p.name)
		}
		if i+1 < len(out) {
			if err := follows(*p, out[i+1]); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// follows checks that it is clear where p ends if next stands behind it.
func follows(p, next part) error {
	open := p.spec.verb == 0 || p.spec.number() && p.spec.width == 0
	if p.name == addrName || !open {
		return nil // its length is known
	}
	if next.name != "" {
		return fmt.Errorf("nobody can tell where {%s} ends and {%s} begins: put a literal between them", p.name, next.name)
	}
	c := next.lit[0]
	switch {
	case p.spec.verb == 0:
		return nil
	case c >= '0' && c <= '9', p.spec.verb == 'f' && (c == '.' || (c == 'e' || c == 'E') && len(next.lit) > 1 && isExponent(next.lit[1:])):
		return fmt.Errorf("the number {%s} could go on into the literal %q behind it", p.name, next.lit)
	}
	return nil
}

func isExponent(s string) bool {
	if s[0] == '+' || s[0] == '-' {
		s = s[1:]
	}
	return s != "" && s[0] >= '0' && s[0] <= '9'
}

// capture is one name read from a reply.
type capture struct{ name, text string }

// scan reads a whole reply. addr gives the text that {addr} must be.
func (t template) scan(s string, addr func(spec) string) ([]capture, bool) {
	var caps []capture
	for i, p := range t {
		if p.name == "" {
			if !strings.HasPrefix(s, p.lit) {
				return nil, false
			}
			s = s[len(p.lit):]
			continue
		}
		n := 0
		switch {
		case p.name == addrName:
			want := addr(p.spec)
			if want == "" || !strings.HasPrefix(s, want) {
				return nil, false
			}
			s = s[len(want):]
			continue
		case p.spec.verb == 'c':
			n = min(1, len(s))
		case p.spec.number():
			n = scanNumber(s, p.spec)
		case i+1 < len(t):
			n = strings.Index(s, t[i+1].lit) // follows made sure that it is a literal
		default:
			n = len(s)
		}
		if n <= 0 {
			return nil, false
		}
		caps = append(caps, capture{p.name, s[:n]})
		s = s[n:]
	}
	if s != "" {
		return nil, false
	}
	return caps, true
}
