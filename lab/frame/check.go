package frame

import (
	"labgate/lab"
)

// property compiles the question for one property and checks that its answer
// gives what the class says.
func (c *compiler) property(m *lab.PropertyMap) {
	what := "property " + m.Component + "." + m.Property
	comp := c.profile.Component(m.Component)
	if comp == nil || comp.Class == nil || comp.Class.Property(m.Property) == nil {
		c.bad(m.Pos, "unknown_name", "", "%s is in no class of this profile", what)
		return
	}
	k := key{m.Component, m.Property}
	if c.properties[k] != nil {
		c.bad(m.Pos, "duplicate", "", "%s stands there twice", what)
		return
	}
	e := m.Exchange
	if e.Pos == (lab.Pos{}) {
		e.Pos = m.Pos
	}
	ex := c.exchange(what, e)
	if ex == nil {
		return
	}
	c.sendNames(ex, nil)
	spec := comp.Class.Property(m.Property)
	c.properties[k] = &property{ex, spec, m}
	v := ex.reply.field(valueName)
	if v == nil {
		c.bad(e.Pos, "missing", "{value} or {value:f}", "%s: its reply captures no {value}", what)
		return
	}
	c.readable(ex.pos, what, v, spec.Type, m)
}

// readable checks that a capture gives a value of the type.
func (c *compiler) readable(pos lab.Pos, what string, v *part, t lab.Type, m *lab.PropertyMap) {
	if m.Scale < 0 {
		c.bad(pos, "out_of_bounds", "", "%s: scale is negative", what)
	}
	switch t.Kind {
	case lab.Number, lab.Integer:
		if !v.spec.number() {
			c.bad(pos, "unknown_converter", "{value:f}", "%s is a number; {value%s} captures text", what, v.spec)
		}
		if t.Kind == lab.Number && m.Unit.Dim() != t.Unit.Dim() {
			c.bad(pos, "wrong_unit", "", "%s is a %s; %s is a %s", what, t, m.Unit, m.Unit.Dim())
		}
		if len(m.Map) > 0 {
			c.bad(pos, "unknown_key", "", "%s is a number; it has no map", what)
		}
	case lab.Bool, lab.Enum:
		if v.spec.number() && v.spec.verb != 'd' {
			c.bad(pos, "unknown_converter", "{value}", "%s is %s; {value%s} captures a number", what, t, v.spec)
		}
		if len(m.Map) == 0 {
			c.bad(pos, "missing", "map: {…}", "%s is %s; it needs a map from the wire's texts", what, t)
		}
		for text, name := range m.Map {
			if t.Kind == lab.Bool && name != "true" && name != "false" || t.Kind == lab.Enum && !contains(t.Enum, name) {
				c.bad(pos, "unknown_name", "", "%s: %q means %q, which is not %s", what, text, name, t)
			}
		}
	case lab.Text:
		if v.spec.number() {
			c.bad(pos, "unknown_converter", "{value}", "%s is text; {value%s} captures a number", what, v.spec)
		}
	default:
		c.bad(pos, "unknown_converter", "", "%s is a %s, which a line can't carry", what, t.Kind)
	}
}

// command compiles the lines of one command. Every argument must be written
// somewhere: one that is not would be dropped in silence.
func (c *compiler) command(m *lab.CommandMap) {
	what := "command " + m.Component + "." + m.Command
	comp := c.profile.Component(m.Component)
	if comp == nil || comp.Class == nil || comp.Class.Command(m.Command) == nil {
		c.bad(m.Pos, "unknown_name", "", "%s is in no class of this profile", what)
		return
	}
	k := key{m.Component, m.Command}
	if c.commands[k] != nil {
		c.bad(m.Pos, "duplicate", "", "%s stands there twice", what)
		return
	}
	cmd := &command{spec: comp.Class.Command(m.Command), wire: m, inputs: map[string]lab.WireInput{}, effectAt: m.EffectAt}
	c.commands[k] = cmd
	c.inputs(what, cmd)
	if len(m.Exchanges) == 0 {
		c.bad(m.Pos, "missing", "", "%s sends nothing", what)
	}
	if cmd.effectAt == 0 {
		cmd.effectAt = 1 // whoever does not say: any byte may begin it
	}
	if m.EffectAt < 0 || m.EffectAt > len(m.Exchanges) && len(m.Exchanges) > 0 {
		c.bad(m.Pos, "out_of_bounds", "", "%s: effect_at is %d; it has %d exchanges, counted from 1", what, m.EffectAt, len(m.Exchanges))
	}
	written := map[string]bool{}
	for _, e := range m.Exchanges {
		if e.Pos == (lab.Pos{}) {
			e.Pos = m.Pos
		}
		ex := c.exchange(what, e)
		c.sendNames(ex, cmd)
		if ex == nil {
			continue
		}
		cmd.steps = append(cmd.steps, ex)
		for _, n := range ex.send.names() {
			written[n] = true
		}
	}
	for _, a := range cmd.spec.Args {
		if !written[a.Name] {
			c.bad(m.Pos, "missing", "put {"+a.Name+"…} into a send", "%s: its argument %s is never sent", what, a.Name)
		}
	}
	c.gives(what, cmd)
}

func (c *compiler) inputs(what string, cmd *command) {
	for _, in := range cmd.wire.Inputs {
		arg := cmd.spec.Arg(in.Arg)
		switch {
		case arg == nil:
			c.bad(cmd.wire.Pos, "unknown_name", "", "%s: input %q is no argument of it", what, in.Arg)
			continue
		case arg.Type.Kind == lab.Number && in.Unit.Dim() != arg.Type.Unit.Dim():
			c.bad(cmd.wire.Pos, "wrong_unit", "", "%s: %s is a %s; %s is a %s", what, in.Arg, arg.Type, in.Unit, in.Unit.Dim())
		case in.Scale < 0:
			c.bad(cmd.wire.Pos, "out_of_bounds", "", "%s: the scale of %s is negative", what, in.Arg)
		}
		cmd.inputs[in.Arg] = in
	}
	for _, a := range cmd.spec.Args {
		if _, ok := cmd.inputs[a.Name]; !ok && a.Type.Kind == lab.Number && a.Type.Unit.Dim() != lab.None {
			c.bad(cmd.wire.Pos, "missing", "inputs: {"+a.Name+": {unit: "+a.Type.Unit.String()+"}}", "%s: nothing says in which unit %s is sent", what, a.Name)
		}
	}
}

// gives checks the results that replies capture.
func (c *compiler) gives(what string, cmd *command) {
	for _, g := range cmd.wire.Gives {
		spec := cmd.spec.Give(g.Name)
		if spec == nil {
			c.bad(cmd.wire.Pos, "unknown_name", "", "%s gives no %s", what, g.Name)
			continue
		}
		var v *part
		for _, ex := range cmd.steps {
			if f := ex.reply.field(g.Name); f != nil {
				v = f
			}
		}
		if v == nil {
			c.bad(cmd.wire.Pos, "missing", "", "%s: no reply captures {%s}", what, g.Name)
			continue
		}
		c.readable(cmd.wire.Pos, what+", "+g.Name, v, spec.Type, &lab.PropertyMap{Unit: g.Unit, Scale: g.Scale})
	}
}

// field finds a name in a template.
func (t template) field(name string) *part {
	for i := range t {
		if t[i].name == name {
			return &t[i]
		}
	}
	return nil
}

// printable reports whether s may stand in a line: it can neither end it nor
// begin another.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}
