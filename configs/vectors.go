package configs

import (
	"labgate/internal/strict"
	"labgate/lab"
)

// vectors reads a serial profile's known pairs of bytes and values.
func (r profileReader) vectors(n *strict.Node) {
	if n == nil || r.p.Link.Kind != lab.LinkSerial {
		return
	}
	names := map[string]lab.Pos{}
	for _, e := range r.List(n) {
		f := r.Map(e, "vector", "name", "send", "reply", "do", "args", "sends", "expect", "error")
		v := lab.Vector{Pos: e.Pos(), Name: r.text(f.Require("name"), "name", 80)}
		if first, ok := names[v.Name]; ok && v.Name != "" {
			r.add(e.Pos(), "duplicate", "", "vector %q is there already, at %s", v.Name, first)
		}
		names[v.Name] = e.Pos()
		v.Error = r.text(f.Get("error"), "error", 64)
		if f.Get("do") != nil {
			r.doVector(f, &v)
		} else {
			r.replyVector(f, &v)
		}
		r.p.Vectors = append(r.p.Vectors, v)
	}
}

// doVector reads a command with its arguments and what it sends.
func (r profileReader) doVector(f *strict.Fields, v *lab.Vector) {
	r.notWith(f, "do", "send", "reply", "expect")
	do := f.Get("do")
	m, class, ok := r.resolve(entry{r.Text(do), do, do.Pos()}, "command", func(c *lab.Class, s string) bool { return c.Command(s) != nil }, r.allCommands())
	if !ok {
		return
	}
	v.Do = m.String()
	spec := class.Command(m.name)
	v.Args = map[string]lab.Value{}
	for _, e := range r.entries(f.Get("args"), "args") {
		t, ok := r.vectorType(spec, e.key)
		if !ok {
			r.add(e.pos, "unknown_name", "", "%s is no argument of %s, no setting and not addr", e.key, v.Do)
			continue
		}
		if x, ok := r.value(e.node, t, e.key); ok {
			v.Args[e.key] = x
		}
	}
	if n := f.Get("sends"); n != nil {
		for _, x := range r.List(n) {
			v.Sends = append(v.Sends, r.text(x, "message", 256))
		}
	}
	if (v.Error == "") == (len(v.Sends) == 0) {
		r.add(v.Pos, "bad_vector", "give sends, or error: refused", "vector %q does not say what %s is to send", v.Name, v.Do)
	}
}

// vectorType is the type of what a vector may give to a command: an argument,
// a setting, the address.
func (r profileReader) vectorType(spec *lab.CommandSpec, name string) (lab.Type, bool) {
	if a := spec.Arg(name); a != nil {
		return a.Type, true
	}
	for _, s := range r.p.Settings {
		if s.Name == name {
			return s.Type, true
		}
	}
	return lab.Type{Kind: lab.Integer}, name == "addr"
}

// replyVector reads a reply and what it means.
func (r profileReader) replyVector(f *strict.Fields, v *lab.Vector) {
	r.notWith(f, "send", "args", "sends")
	v.Send = r.text(f.Require("send"), "send", 256)
	v.Reply = r.text(f.Require("reply"), "reply", 1024)
	v.Expect = map[string]lab.Value{}
	for _, e := range r.entries(f.Get("expect"), "expect") {
		m, class, ok := r.resolve(e, "property", func(c *lab.Class, s string) bool { return c.Property(s) != nil }, r.allProperties())
		if !ok {
			continue
		}
		if x, ok := r.value(e.node, class.Property(m.name).Type, e.key); ok {
			v.Expect[m.String()] = x
		}
	}
	if (v.Error == "") == (f.Get("expect") == nil) {
		r.add(v.Pos, "bad_vector", "give expect or error", "vector %q does not say what the reply means", v.Name)
	}
}

func (r profileReader) notWith(f *strict.Fields, key string, others ...string) {
	for _, k := range others {
		if n := f.Get(k); n != nil {
			r.add(n.Pos(), "bad_vector", "", "a vector with %s has no %s", key, k)
		}
	}
}
