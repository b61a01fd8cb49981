package configs

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"labgate/internal/strict"
	"labgate/lab"
)

// Role is what a principal is in the laboratory.
type Role string

// The roles.
const (
	Agent     Role = "agent"
	Scientist Role = "scientist"
	Operator  Role = "operator"
	Safety    Role = "safety"
)

// Human reports whether a principal of the role is a person. The zero Role is
// none.
func (r Role) Human() bool { return r == Scientist || r == Operator || r == Safety }

// Inline says whether a principal may propose protocols of its own making.
// The zero Inline is no.
type Inline uint8

// The answers.
const (
	InlineNo Inline = iota
	InlineNeedsApproval
	InlineYes
)

var inlineNames = []string{"no", "needs-approval", "yes"}

// String is the answer as written in files.
func (i Inline) String() string { return inlineNames[i] }

// Rate is a number of proposals in a time. The zero Rate was not given.
type Rate struct {
	N   int
	Per time.Duration
}

// Principal is one line of access.yaml: whose key counts, as what, until when.
type Principal struct {
	Name   string
	Role   Role
	Key    string // public NKey of a user, "U…"
	Vetted struct {
		By    string    // who vetted it; empty: nobody, which only a human may be
		Until time.Time // then the key no longer counts; zero: no end
	}
	May struct {
		Inline    Inline
		Protocols []string // names; empty: all that are installed
		Proposals Rate
		Priority  string // the highest; empty: normal for agents, high for people
	}
	Pos lab.Pos
}

// ParseAccess reads an access file. It reports every issue at once; with any
// issue nobody has access.
func ParseAccess(file string, data []byte) (Access, lab.Issues) {
	root, is := strict.Parse(file, data)
	if root == nil {
		return Access{}, is
	}
	r := newReader(is)
	f := r.Map(root, "principals file", "principals", "approvals")
	var ps []Principal
	keys := map[string]Principal{}
	for _, e := range r.entries(f.Require("principals"), "principals") {
		p := r.principal(e)
		if other, ok := keys[p.Key]; ok && p.Key != "" {
			r.add(e.pos, "duplicate", "one key for each, or a record says the wrong name", "%s has the key of %s (%s)", p.Name, other.Name, other.Pos)
		}
		keys[p.Key] = p
		ps = append(ps, p)
	}
	r.checkVetting(ps)
	approvals := r.approvals(f.Get("approvals"), ps)
	if is := r.done(); len(is) > 0 {
		return Access{}, is
	}
	return Access{ps, approvals}, nil
}

func (r reader) principal(e entry) Principal {
	f := r.Map(e.node, "principal", "role", "key", "vetted", "may")
	p := Principal{Name: r.name(e, "principal"), Pos: e.pos}
	p.Role = Role(r.word(f.Require("role"), "role", string(Agent), string(Scientist), string(Operator), string(Safety)))
	if n := f.Require("key"); n != nil {
		p.Key = r.text(n, "key", 100)
		if err := checkUserKey(p.Key); err != nil && p.Key != "" {
			r.add(n.Pos(), "bad_key", "labgate keys new NAME --role ROLE makes one", "key of %s: %v", p.Name, err)
		}
	}
	if n := f.Get("vetted"); n != nil {
		vf := r.Map(n, "vetted", "by", "until")
		if by := vf.Require("by"); by != nil {
			p.Vetted.By = r.Name(by, "principal")
		}
		p.Vetted.Until = r.time(vf.Require("until"))
	} else if p.Role == Agent {
		r.add(e.pos, "not_vetted", "vetted: {by: somebody, until: 2027-06-30T00:00:00Z}", "%s is an agent that nobody has vetted", p.Name)
	}
	if n := f.Get("may"); n != nil {
		r.may(n, &p)
	}
	return p
}

func (r reader) may(n *strict.Node, p *Principal) {
	f := r.Map(n, "may", "inline", "protocols", "proposals", "priority")
	if i := f.Get("inline"); i != nil {
		p.May.Inline = r.inline(i)
	}
	if l := f.Get("protocols"); l != nil {
		p.May.Protocols = r.texts(l, "protocol")
		if len(p.May.Protocols) == 0 {
			r.add(l.Pos(), "empty", "leave it out to allow all", "%s may run no protocol at all", p.Name)
		}
	}
	p.May.Priority = r.word(f.Get("priority"), "priority", "low", "normal", "high")
	if q := f.Get("proposals"); q != nil {
		var err error
		if p.May.Proposals, err = parseRate(r.Text(q)); err != nil {
			r.add(q.Pos(), "bad_value", "as in 60 per h", "proposals: %v", err)
		}
	}
}

// inline reads the answer by its spelling: here a plain no is a word of the
// set, not a boolean in disguise.
func (r reader) inline(n *strict.Node) Inline {
	for k, name := range inlineNames {
		if name == n.Text() {
			return Inline(k)
		}
	}
	r.add(n.Pos(), "bad_value", "one of "+strings.Join(inlineNames, ", "), "inline: %q is not understood%s", n.Text(), didYouMean(n.Text(), inlineNames))
	return InlineNo
}

// parseRate reads "60 per h" or "5 per 10 min".
func parseRate(s string) (Rate, error) {
	n, per, ok := strings.Cut(s, " per ")
	count, err := strconv.Atoi(n)
	if !ok || err != nil || count < 1 || count > 1_000_000 || n[0] == '0' || n[0] == '+' {
		return Rate{}, fmt.Errorf("%q is not a rate", s)
	}
	if per != "" && (per[0] < '0' || per[0] > '9') {
		per = "1 " + per
	}
	q, err := lab.ParseQuantity(per)
	if err != nil {
		return Rate{}, err
	}
	d, err := q.Duration()
	if err != nil {
		return Rate{}, err
	}
	if d < time.Second {
		return Rate{}, fmt.Errorf("%s is too short to count in", q)
	}
	return Rate{count, d}, nil
}

// time reads a moment with its zone (RFC 3339).
func (r reader) time(n *strict.Node) time.Time {
	if n == nil {
		return time.Time{}
	}
	s := n.Text()
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.IsZero() {
		r.add(n.Pos(), "bad_time", "as in 2027-06-30T00:00:00Z", "%q is not a date with time and zone", s)
	}
	return t
}

// checkVetting checks that who vetted somebody is a person of this file, and
// somebody else.
func (r reader) checkVetting(ps []Principal) {
	roles := map[string]Role{}
	var names []string
	for _, p := range ps {
		roles[p.Name] = p.Role
		names = append(names, p.Name)
	}
	for _, p := range ps {
		by := p.Vetted.By
		role, known := roles[by]
		switch {
		case by == "":
		case !known:
			r.add(p.Pos, "unknown_name", "", "%s was vetted by %s, who is no principal here%s", p.Name, by, didYouMean(by, names))
		case by == p.Name:
			r.add(p.Pos, "not_vetted", "", "%s can't vet itself", p.Name)
		case role != Operator && role != Safety:
			r.add(p.Pos, "not_vetted", "an operator or a safety officer can", "%s was vetted by %s, who is %s", p.Name, by, role)
		}
	}
}

// userPrefix is the first byte of the key of a user, "U" in base 32.
const userPrefix = 20 << 3

// checkUserKey checks a public NKey of a user: base 32 without padding over a
// prefix byte, 32 bytes of Ed25519 key and a CRC-16 (XMODEM polynomial, little
// endian) over them.
func checkUserKey(s string) error {
	switch {
	case strings.HasPrefix(s, "SU"):
		return fmt.Errorf("this is a seed, a secret; give the public key, that begins with U")
	case !strings.HasPrefix(s, "U"):
		return fmt.Errorf("%.8q… is not the public key of a user; that begins with U", s)
	case len(s) != 56:
		return fmt.Errorf("it has %d characters; a public key has 56", len(s))
	}
	b, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(s)
	if err != nil || len(b) != 35 || b[0] != userPrefix {
		return fmt.Errorf("it is not base 32")
	}
	if crc16(b[:33]) != binary.LittleEndian.Uint16(b[33:]) {
		return fmt.Errorf("its checksum is wrong; a character was mistyped")
	}
	return nil
}

func crc16(data []byte) uint16 {
	var crc uint16
	for _, b := range data {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}
