package frame

import (
	"fmt"
	"sort"
	"strings"

	"labgate/lab"
)

// Codec is a profile's lines, compiled. Read-only.
type Codec struct {
	profile *lab.Profile
	sendEnd string

	// What every answer begins with, found from the profile's replies.
	addressed bool // all begin with {addr}, written as address says
	address   spec
	status    bool // a {status} follows

	init       []*exchange
	identify   *exchange // nil: it can't be asked
	properties map[key]*property
	commands   map[key]*command
	errors     []lab.ErrorMap // longest first
}

// key is a component's property or command.
type key struct{ component, name string }

// exchange is one line and what answers it.
type exchange struct {
	what  string // "property xyz.x", for messages
	send  template
	reply template // empty: any reply that is no error
	pos   lab.Pos
}

type property struct {
	ex   *exchange
	spec *lab.Property
	wire *lab.PropertyMap
}

type command struct {
	steps    []*exchange
	effectAt int
	spec     *lab.CommandSpec
	wire     *lab.CommandMap
	inputs   map[string]lab.WireInput
}

// Compile checks a serial profile and compiles it. It reports every problem at
// once; the Codec is nil where there is one.
func Compile(p *lab.Profile) (*Codec, lab.Issues) {
	c := &compiler{Codec: &Codec{profile: p, properties: map[key]*property{}, commands: map[key]*command{}}}
	c.link()
	for i, e := range p.Init {
		if ex := c.exchange(fmt.Sprintf("init exchange %d", i+1), e); ex != nil {
			c.init = append(c.init, ex)
			c.sendNames(ex, nil)
		}
	}
	if p.Identify.Send != "" {
		c.identify = c.exchange("identify", p.Identify)
		c.sendNames(c.identify, nil)
	}
	for i := range p.Properties {
		c.property(&p.Properties[i])
	}
	for i := range p.Commands {
		c.command(&p.Commands[i])
	}
	c.head()
	c.errorMap()
	if len(c.issues) > 0 {
		c.issues.Sort()
		return nil, c.issues
	}
	return c.Codec, nil
}

// Addressed reports whether every reply carries its sender's address, so that
// several instruments can share a line.
func (c *Codec) Addressed() bool { return c.addressed }

// NewFramer makes a framer for this profile's replies.
func (c *Codec) NewFramer() *Framer {
	f, err := NewFramer(c.profile.Link.ReplyEnd)
	if err != nil {
		panic("frame: a compiled profile has a bad reply end: " + err.Error()) // Compile checked it
	}
	return f
}

// compiler is a Codec in the making.
type compiler struct {
	*Codec
	issues lab.Issues
	all    []*exchange
}

func (c *compiler) bad(pos lab.Pos, code, hint, format string, args ...any) {
	if pos == (lab.Pos{}) {
		pos = c.profile.Pos
	}
	c.issues.Add(pos, code, hint, format, args...)
}

func (c *compiler) link() {
	l := c.profile.Link
	if l.Kind != lab.LinkSerial {
		c.bad(c.profile.Pos, "wrong_link", "", "profile %s speaks %s; lines are for serial", c.profile.Name, l.Kind)
	}
	if l.Baud <= 0 || l.Baud > 4_000_000 {
		c.bad(c.profile.Pos, "out_of_bounds", "19200, for example", "baud is %d; from 1 to 4000000", l.Baud)
	}
	if l.ReplyWithin <= 0 {
		c.bad(c.profile.Pos, "missing", "reply_within: 500 ms", "reply_within is not set")
	}
	if l.Gap < 0 {
		c.bad(c.profile.Pos, "out_of_bounds", "", "gap is negative")
	}
	var err error
	if c.sendEnd, err = delimiter(l.SendEnd); err != nil {
		c.bad(c.profile.Pos, "unknown_converter", "", "send_end: %v", err)
	}
	if _, err := NewFramer(l.ReplyEnd); err != nil {
		c.bad(c.profile.Pos, "unknown_converter", "", "reply: %v", err)
	}
}

// exchange compiles a line and its reply; nil where one can't be read.
func (c *compiler) exchange(what string, e lab.Exchange) *exchange {
	ex := &exchange{what: what, pos: e.Pos}
	send, err := parseTemplate(e.Send)
	if err != nil {
		c.bad(e.Pos, "bad_template", "", "%s: send %q: %v", what, e.Send, err)
		return nil
	}
	if e.Send == "" {
		c.bad(e.Pos, "missing", "", "%s: nothing is sent", what)
		return nil
	}
	ex.send = send
	for _, p := range send {
		if p.spec.verb == 'c' {
			c.bad(e.Pos, "unknown_converter", "", "%s: {%s:c} is for replies", what, p.name)
		}
		if c.sendEnd != "" && strings.Contains(p.lit, c.sendEnd) {
			c.bad(e.Pos, "bad_template", "send_end is added by itself", "%s: send %q contains the end of a line", what, e.Send)
		}
	}
	reply, err := parseTemplate(e.Reply)
	if err == nil {
		ex.reply, err = reply.asReply()
	}
	if err != nil {
		c.bad(e.Pos, "bad_template", "", "%s: reply %q: %v", what, e.Reply, err)
		return nil
	}
	c.all = append(c.all, ex)
	return ex
}

// sendNames checks that every name in a line can be written. inputs are the
// arguments, nil where there are none.
func (c *compiler) sendNames(ex *exchange, inputs *command) {
	if ex == nil {
		return
	}
	for _, p := range ex.send {
		if p.name == "" || p.name == addrName {
			continue
		}
		if inputs != nil {
			if arg := inputs.spec.Arg(p.name); arg != nil {
				c.writable(ex, p, arg.Type)
				continue
			}
		}
		if s := setting(c.profile, p.name); s != nil {
			c.writable(ex, p, s.Type)
			continue
		}
		c.bad(ex.pos, "unknown_name", c.guess(p.name, inputs), "%s: {%s} is no argument, no setting and not addr", ex.what, p.name)
	}
}

func (c *compiler) guess(name string, cmd *command) string {
	names := []string{addrName}
	for _, s := range c.profile.Settings {
		names = append(names, s.Name)
	}
	if cmd != nil {
		for _, a := range cmd.spec.Args {
			names = append(names, a.Name)
		}
	}
	if n := lab.Nearest(name, names); n != "" {
		return "did you mean {" + n + "}?"
	}
	return ""
}

// writable checks that the spec suits the type.
func (c *compiler) writable(ex *exchange, p part, t lab.Type) {
	switch t.Kind {
	case lab.Number, lab.Integer:
		if !p.spec.number() {
			c.bad(ex.pos, "unknown_converter", "{"+p.name+":f}, {"+p.name+":d} or {"+p.name+":4g}", "%s: {%s} is a number and needs a format", ex.what, p.name)
		}
	case lab.Enum, lab.Text:
		if p.spec.verb != 0 {
			c.bad(ex.pos, "unknown_converter", "{"+p.name+"}", "%s: {%s%s} is %s; the format is for numbers", ex.what, p.name, p.spec, t)
		}
		for _, n := range t.Enum {
			if !printable(n) {
				c.bad(ex.pos, "bad_template", "", "%s: the name %q of {%s} can't stand in a line", ex.what, n, p.name)
			}
		}
	default:
		c.bad(ex.pos, "unknown_converter", "", "%s: {%s} is a %s, which a line can't carry", ex.what, p.name, t.Kind)
	}
}

func setting(p *lab.Profile, name string) *lab.Setting {
	for i := range p.Settings {
		if p.Settings[i].Name == name {
			return &p.Settings[i]
		}
	}
	return nil
}

// head finds what all answers begin with.
func (c *compiler) head() {
	withAddr := 0
	for _, ex := range c.all {
		t := ex.reply
		if len(t) > 0 && t[0].name == addrName {
			withAddr++
			c.addressed, c.address = true, t[0].spec
			t = t[1:]
		}
		if len(t) > 0 && t[0].name == statusName {
			c.status = true
		}
	}
	for _, ex := range c.all {
		if len(ex.reply) == 0 {
			continue
		}
		if c.addressed && (ex.reply[0].name != addrName || ex.reply[0].spec != c.address) {
			c.bad(ex.pos, "ambiguous", "begin all replies alike", "%s: other replies begin with {%s%s}, this one does not", ex.what, addrName, c.address)
		}
	}
}

func (c *compiler) errorMap() {
	c.errors = append([]lab.ErrorMap(nil), c.profile.Errors...)
	sort.SliceStable(c.errors, func(i, j int) bool { return len(c.errors[i].Match) > len(c.errors[j].Match) })
	seen := map[string]bool{}
	for _, e := range c.errors {
		if e.Match == "" || e.Name == "" {
			c.bad(c.profile.Pos, "missing", "", "errors: %q means %q; both need a text", e.Match, e.Name)
		} else if seen[e.Match] {
			c.bad(c.profile.Pos, "duplicate", "", "errors: %q stands there twice", e.Match)
		}
		seen[e.Match] = true
	}
	for _, p := range c.properties {
		for text := range p.wire.Map {
			if name, _, _ := c.deviceError(text); name != "" {
				c.bad(p.wire.Pos, "ambiguous", "", "%s: %q is a value and the error %s", p.ex.what, text, name)
			}
		}
	}
}

// deviceError finds the error that an answer, without its address, stands for.
func (c *Codec) deviceError(rest string) (name string, alarm, ok bool) {
	if e := c.errorAt(rest); e != "" {
		return e, c.status, true
	}
	if c.status && len(rest) > 1 {
		if e := c.errorAt(rest[1:]); e != "" {
			return e, false, true
		}
	}
	return "", false, false
}

func (c *Codec) errorAt(s string) string {
	for _, e := range c.errors {
		if e.Match == "" || !strings.HasPrefix(s, e.Match) {
			continue
		}
		n := len(e.Match)
		if n < len(s) && isDigit(e.Match[n-1]) && isDigit(s[n]) {
			continue // ":N-1" is not ":N-10"
		}
		return e.Name
	}
	return ""
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
