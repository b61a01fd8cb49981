package configs

import (
	"regexp"

	"labgate/internal/strict"
	"labgate/lab"
)

var classNameRE = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}/v[1-9][0-9]{0,3}$`)

// ParseClass reads a class file. It reports every issue at once; with any
// issue there is no class.
func ParseClass(file string, data []byte) (*lab.Class, lab.Issues) {
	c, is := parseClass(file, data)
	if len(is) > 0 {
		return nil, is
	}
	return c, nil
}

// parseClass returns, beside the issues, what it could read: at least the
// name, so that a file with a slip in it is not also reported as unknown by
// everything that names it.
func parseClass(file string, data []byte) (*lab.Class, lab.Issues) {
	root, is := strict.Parse(file, data)
	if root == nil {
		return nil, is
	}
	r := newReader(is)
	f := r.Map(root, "class file", "class", "about", "properties", "commands")
	c := &lab.Class{About: r.about(f.Require("about")), Pos: root.Pos()}
	if n := f.Require("class"); n != nil {
		c.Name, c.Pos = r.Text(n), n.Pos()
		if !classNameRE.MatchString(c.Name) {
			r.add(n.Pos(), "bad_name", "as in pump/v1", "class %q is not a name and a version", c.Name)
		}
	}
	for _, e := range r.entries(f.Require("properties"), "properties") {
		c.Properties = append(c.Properties, r.property(e))
	}
	for _, e := range r.entries(f.Require("commands"), "commands") {
		c.Commands = append(c.Commands, r.commandSpec(e))
	}
	for i := range c.Commands {
		r.checkCommand(c, &c.Commands[i])
	}
	return c, r.done()
}

func (r reader) property(e entry) lab.Property {
	f := r.Map(e.node, "property", "unit", "type", "enum", "table", "max_age")
	p := lab.Property{Name: r.name(e, "property"), Pos: e.pos}
	p.Type = r.typeOf(f, p.Name)
	p.MaxAge = r.positive(f.Require("max_age"), "max_age")
	if p.Type.Kind == lab.Table || p.Type.Kind == lab.Blob {
		r.add(e.pos, "wrong_type", "let a command give it", "property %s is a %s; properties are single values", p.Name, p.Type.Kind)
	}
	return p
}

func (r reader) commandSpec(e entry) lab.CommandSpec {
	f := r.Map(e.node, "command", "about", "args", "effect", "changes", "takes", "progress", "done_when",
		"partial", "gives", "stops_with", "within", "else")
	c := lab.CommandSpec{Name: r.name(e, "command"), Pos: e.pos}
	if n := f.Get("about"); n != nil {
		c.About = r.about(n)
	}
	if n := f.Require("effect"); n != nil {
		c.Effect, _ = lab.ParseEffect(r.word(n, "effect", "effectful", "idempotent", "acquire", "read", "safe"))
	}
	for _, a := range r.entries(f.Get("args"), "args") {
		c.Args = append(c.Args, r.param(a, "argument", "min", "max", "more_than"))
	}
	for _, g := range r.entries(f.Get("gives"), "gives") {
		c.Gives = append(c.Gives, r.param(g, "result", "from"))
	}
	for _, ch := range r.entries(f.Get("changes"), "changes") {
		change := r.change(ch.node)
		change.Property, change.Pos = ch.key, ch.pos
		c.Changes = append(c.Changes, change)
	}
	r.takes(f.Get("takes"), &c)
	c.Progress = r.source(f.Get("progress"))
	c.DoneWhen = r.source(f.Get("done_when"))
	c.Partial = r.source(f.Get("partial"))
	if n := f.Get("stops_with"); n != nil {
		c.StopsWith = r.Name(n, "command")
	}
	c.Within = r.positive(f.Get("within"), "within")
	if n := f.Get("else"); n != nil {
		c.Else = r.Name(n, "command")
	}
	r.checkKeys(f, &c)
	return c
}

// checkKeys checks that a command has the keys that its effect class calls
// for, and none that would mean nothing.
func (r reader) checkKeys(f *strict.Fields, c *lab.CommandSpec) {
	if f.Get("effect") == nil {
		return
	}
	if c.Effect == lab.Safe {
		f.Require("within")
		f.Require("else")
		for _, k := range []string{"takes", "progress", "partial", "stops_with"} {
			if n := f.Get(k); n != nil {
				r.add(n.Pos(), "not_for_safe", "it must run at once, from a trip or a stop, with nobody there to ask", "%s is safe, so it has no %s", c.Name, k)
			}
		}
		return
	}
	for _, k := range []string{"within", "else"} {
		if n := f.Get(k); n != nil {
			r.add(n.Pos(), "only_for_safe", "", "%s is %s; %s is for safe commands", c.Name, c.Effect, k)
		}
	}
	if c.Effect != lab.Read && f.Get("takes") == nil {
		r.add(c.Pos, "missing_key", "takes: [expected, worst]", "%s needs takes: after the worst time it has failed", c.Name)
	}
	if c.Effect == lab.Effectful && f.Get("done_when") == nil && f.Get("gives") == nil {
		r.add(c.Pos, "no_confirmation", "give it done_when, or a result in gives", "%s must never happen twice, and nothing tells whether it has happened", c.Name)
	}
	if c.Effect == lab.Read && f.Get("changes") != nil {
		r.add(f.Get("changes").Pos(), "wrong_effect", "", "%s is a read, and changes something", c.Name)
	}
}

func (r reader) param(e entry, what string, more ...string) lab.Param {
	f := r.Map(e.node, "command "+what, append(append([]string(nil), typeKeys...), more...)...)
	p := lab.Param{Name: r.name(e, what), Pos: e.pos}
	p.Type = r.typeOf(f, what+" "+p.Name)
	if what == "argument" {
		r.bounds(f, &p)
		if p.Type.Kind == lab.Blob || p.Type.Kind == lab.Table {
			r.add(e.pos, "wrong_type", "", "argument %s is a %s; arguments are single values", p.Name, p.Type.Kind)
		}
	} else {
		p.From = r.source(f.Get("from"))
	}
	return p
}

func (r reader) takes(n *strict.Node, c *lab.CommandSpec) {
	if n == nil {
		return
	}
	list := r.List(n)
	if len(list) != 2 {
		r.add(n.Pos(), "bad_value", "takes: [expected, worst]", "takes of %s is two times; these are %d", c.Name, len(list))
		return
	}
	c.Expected, c.Worst = r.source(list[0]), r.source(list[1])
}

// source reads an expression; a missing node is the empty one.
func (r reader) source(n *strict.Node) lab.Source {
	if n == nil {
		return lab.Source{}
	}
	return r.Source(n)
}
