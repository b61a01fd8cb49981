package configs

import (
	"fmt"
	"regexp"
	"sort"
	"strings"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/lab/frame"
)

var profileNameRE = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}/[a-z0-9][a-z0-9-]{0,31}@[1-9][0-9]{0,3}$`)

// ParseProfile reads a profile file, checks it against its classes and runs
// its test vectors. It reports every issue at once; with any issue there is
// no profile. A class that is there but nil stands for one that could not be
// read: what needs it is not checked, and there is no profile either.
func ParseProfile(file string, data []byte, classes map[string]*lab.Class) (*lab.Profile, lab.Issues) {
	p, whole, is := parseProfile(file, data, classes)
	if len(is) > 0 || !whole {
		return nil, is
	}
	return p, nil
}

// profileReader is a reader in the middle of a profile.
type profileReader struct {
	reader
	p       *lab.Profile
	classes map[string]*lab.Class
	broken  bool // a class could not be read: members can't be checked
}

// parseProfile returns, beside the issues, what it could read, and whether all
// its classes are there.
func parseProfile(file string, data []byte, classes map[string]*lab.Class) (p *lab.Profile, whole bool, is lab.Issues) {
	root, is := strict.Parse(file, data)
	if root == nil {
		return nil, false, is
	}
	r := profileReader{reader: newReader(is), p: &lab.Profile{Pos: root.Pos()}, classes: classes}
	f := r.Map(root, "profile file", "profile", "about", "components", "settings", "link", "init", "identify",
		"properties", "commands", "errors", "repeats", "vectors")
	p = r.p
	if n := f.Require("profile"); n != nil {
		p.Name, p.Pos = r.Text(n), n.Pos()
		if !profileNameRE.MatchString(p.Name) {
			r.add(n.Pos(), "bad_name", "as in new-era/ne-1000@1", "profile %q is not maker/model@version", p.Name)
		}
	}
	p.About = r.about(f.Require("about"))
	r.components(f.Require("components"))
	for _, e := range r.entries(f.Get("settings"), "settings") {
		p.Settings = append(p.Settings, r.setting(e))
	}
	if n := f.Require("link"); n != nil {
		r.link(n)
	}
	r.serialOnly(f, "init", "errors", "vectors")
	if n := f.Get("init"); n != nil {
		p.Init = r.exchanges(n)
	}
	if n := f.Get("identify"); n != nil {
		p.Identify = r.identify(n)
	}
	r.properties(f.Require("properties"))
	r.commands(f.Require("commands"))
	for _, e := range r.entries(f.Get("errors"), "errors") {
		p.Errors = append(p.Errors, lab.ErrorMap{Match: e.key, Name: r.Name(e.node, "error")})
	}
	sort.SliceStable(p.Errors, func(i, j int) bool { return len(p.Errors[i].Match) > len(p.Errors[j].Match) })
	p.Repeats = r.text(f.Require("repeats"), "repeats", 200)
	r.vectors(f.Get("vectors"))
	r.checkLines()
	return p, !r.broken, r.done()
}

// checkLines compiles the lines of a serial profile that is otherwise sound,
// and runs its vectors.
func (r profileReader) checkLines() {
	if len(r.Issues) > 0 || r.broken || r.p.Link.Kind != lab.LinkSerial {
		return
	}
	codec, is := frame.Compile(r.p)
	if codec == nil {
		r.Issues = append(r.Issues, is...)
		return
	}
	r.Issues = append(r.Issues, codec.RunVectors()...)
}

// serialOnly reports keys that only a serial profile has.
func (r profileReader) serialOnly(f *strict.Fields, keys ...string) {
	if r.p.Link.Kind == lab.LinkSerial || r.p.Link.Kind == "" {
		return
	}
	for _, k := range keys {
		if n := f.Get(k); n != nil {
			r.add(n.Pos(), "unknown_key", "", "%s is for serial lines; this profile speaks %s", k, r.p.Link.Kind)
		}
	}
}

func (r *profileReader) components(n *strict.Node) {
	es := r.entries(n, "components")
	if n != nil && len(es) == 0 {
		r.add(n.Pos(), "empty", "", "a profile without components can do nothing")
	}
	for _, e := range es {
		c := lab.Component{Name: r.name(e, "component"), Pos: e.pos}
		name := r.Text(e.node)
		class, known := r.classes[name]
		switch {
		case !known:
			var names []string
			for n := range r.classes {
				names = append(names, n)
			}
			r.add(e.node.Pos(), "unknown_class", "", "there is no class %q%s", name, didYouMean(name, names))
			r.broken = true
			continue
		case class == nil:
			r.broken = true
			continue
		}
		c.Class = class
		r.p.Components = append(r.p.Components, c)
	}
}

func (r profileReader) setting(e entry) lab.Setting {
	f := r.Map(e.node, "setting", append([]string{"required", "default"}, typeKeys...)...)
	s := lab.Setting{Name: r.name(e, "setting"), Pos: e.pos, Type: r.typeOf(f, e.key)}
	if n := f.Get("required"); n != nil {
		s.Required = r.Bool(n)
	}
	n := f.Get("default")
	switch {
	case n == nil && !s.Required:
		r.add(e.pos, "missing_key", "give it a default, or required: true", "setting %s may be left out, and has no default", s.Name)
	case n != nil && s.Required:
		r.add(n.Pos(), "bad_value", "", "setting %s is required: its default would never be used", s.Name)
	case n != nil && s.Type.Kind != lab.Missing:
		if v, ok := r.bound(n, s.Type, "default of "+s.Name); ok {
			s.Default = &v
		}
	}
	return s
}

func (r profileReader) exchanges(n *strict.Node) []lab.Exchange {
	var out []lab.Exchange
	for _, e := range r.List(n) {
		f := r.Map(e, "serial exchange", "send", "reply")
		out = append(out, r.exchange(f))
	}
	if len(out) == 0 || len(out) > maxExchanges {
		r.add(n.Pos(), "bad_value", "", "%d exchanges; 1 to %d are possible", len(out), maxExchanges)
	}
	return out
}

// maxExchanges bounds one command: a stop must never wait behind more.
const maxExchanges = 32

func (r profileReader) exchange(f *strict.Fields) lab.Exchange {
	x := lab.Exchange{Send: r.text(f.Require("send"), "send", 256), Pos: f.Pos()}
	if n := f.Get("reply"); n != nil {
		x.Reply = r.text(n, "reply", 256)
	}
	return x
}

// identify reads how the device is asked who it is. A node id or a pointer
// stands in Send.
func (r profileReader) identify(n *strict.Node) lab.Exchange {
	switch r.p.Link.Kind {
	case lab.LinkSerial:
		return r.exchange(r.Map(n, "device identification", "send", "reply"))
	case lab.LinkOPCUA:
		f := r.Map(n, "device identification", "node")
		return lab.Exchange{Send: r.nodeID(f.Require("node")), Pos: n.Pos()}
	case lab.LinkMQTT:
		f := r.Map(n, "device identification", "pointer")
		return lab.Exchange{Send: r.pointer(f.Require("pointer")), Pos: n.Pos()}
	case lab.LinkMemory:
		r.add(n.Pos(), "unknown_key", "", "a memory instrument has nobody to identify")
	}
	return lab.Exchange{}
}

// member is a property or command of one of the profile's components.
type member struct{ component, name string }

// resolve finds "component.name", or "name" where only one component has it.
// ok is false where the name was reported, or can't be known.
func (r profileReader) resolve(e entry, what string, has func(*lab.Class, string) bool, all []member) (m member, c *lab.Class, ok bool) {
	comp, name, dotted := strings.Cut(e.key, ".")
	if !dotted {
		comp, name = "", e.key
	}
	var found []lab.Component
	for _, c := range r.p.Components {
		if (comp == "" || comp == c.Name) && has(c.Class, name) {
			found = append(found, c)
		}
	}
	switch {
	case len(found) == 1:
		return member{found[0].Name, name}, found[0].Class, true
	case r.broken:
	case len(found) > 1:
		var paths []string
		for _, c := range found {
			paths = append(paths, c.Name+"."+name)
		}
		r.add(e.pos, "ambiguous_name", "write "+strings.Join(paths, " or "), "%s is ambiguous: %d components have it", e.key, len(found))
	default:
		var names []string
		for _, m := range all {
			names = append(names, m.name, m.component+"."+m.name)
		}
		r.add(e.pos, "unknown_name", "", "%s is no %s of this profile's classes%s", e.key, what, didYouMean(e.key, names))
	}
	return member{}, nil, false
}

// unique reports a member that is mapped twice.
func (r profileReader) unique(seen map[member]lab.Pos, m member, e entry) bool {
	if first, ok := seen[m]; ok {
		r.add(e.pos, "duplicate", "", "%s.%s is mapped already, at %s", m.component, m.name, first)
		return false
	}
	seen[m] = e.pos
	return true
}

// missing reports members that the profile does not map.
func (r profileReader) missing(n *strict.Node, what string, all []member, seen map[member]lab.Pos) {
	if r.broken || n == nil {
		return
	}
	for _, m := range all {
		if _, ok := seen[m]; !ok {
			r.add(n.Pos(), "not_mapped", "a class is a promise: all of it has to be there", "%s %s.%s of %s is not mapped", what, m.component, m.name, r.p.Component(m.component).Class.Name)
		}
	}
}

func (r profileReader) allProperties() []member {
	var all []member
	for _, c := range r.p.Components {
		for _, p := range c.Class.Properties {
			all = append(all, member{c.Name, p.Name})
		}
	}
	return all
}

func (r profileReader) allCommands() []member {
	var all []member
	for _, c := range r.p.Components {
		for _, p := range c.Class.Commands {
			all = append(all, member{c.Name, p.Name})
		}
	}
	return all
}

// nodeID reads a node id within the profile's namespace.
func (r profileReader) nodeID(n *strict.Node) string {
	if n == nil {
		return ""
	}
	s := r.text(n, "node id", 256)
	if s != "" && !nodeRE.MatchString(s) {
		r.add(n.Pos(), "bad_value", "s=Name or i=17, within the link's namespace", "%q is not a node id", s)
	}
	return s
}

var nodeRE = regexp.MustCompile(`^(s=.+|i=[0-9]{1,10})$`)

// pointer reads a JSON pointer (RFC 6901) to something in a document.
func (r profileReader) pointer(n *strict.Node) string {
	if n == nil {
		return ""
	}
	s := r.text(n, "pointer", 256)
	if s != "" && (!strings.HasPrefix(s, "/") || badEscapeRE.MatchString(s)) {
		r.add(n.Pos(), "bad_value", "as in /result/peak_nm", "%q is not a JSON pointer", s)
	}
	return s
}

var badEscapeRE = regexp.MustCompile(`~([^01]|$)`)

// topic reads a topic below the instrument's prefix. {id} is the command's.
func (r profileReader) topic(n *strict.Node, withID bool) string {
	if n == nil {
		return ""
	}
	s := r.text(n, "topic", 128)
	plain := s
	if withID {
		plain = strings.Replace(s, "{id}", "id", 1)
		if plain == s && s != "" {
			r.add(n.Pos(), "bad_value", "as in frame/{id}", "topic %q does not carry the command's {id}: a late payload could be taken for another's", s)
		}
	}
	if s != "" && !topicRE.MatchString(plain) {
		r.add(n.Pos(), "bad_value", "levels of letters, digits, _ and -, joined by /", "%q is not a topic", s)
	}
	return s
}

var topicRE = regexp.MustCompile(`^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$`)

func (m member) String() string { return fmt.Sprintf("%s.%s", m.component, m.name) }
