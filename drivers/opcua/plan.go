package opcua

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/gopcua/opcua/ua"

	"labgate/drivers"
	"labgate/lab"
)

// device is one instrument, its profile compiled. Only epoch changes later.
type device struct {
	in         *lab.Instrument
	secure     security
	within     time.Duration // a request without an answer for this long has failed
	identify   string        // node id within the namespace; empty: the device does not say
	properties map[member]*property
	commands   map[member]*command
	epoch      atomic.Uint64
}

// member addresses a property or command of a component.
type member struct{ component, name string }

type property struct {
	wire *lab.PropertyMap
	typ  lab.Type
	sick quarantine // guarded by the Link's op
	says *fact      // what the server says of its node; set while nobody listens
}

type command struct {
	wire   *lab.CommandMap
	spec   *lab.CommandSpec
	args   []*lab.WireInput // of the method, in its order
	writes []write
}

// write is one node that a command writes.
type write struct {
	node  string
	in    *lab.WireInput // the argument; or
	fixed *ua.Variant    // … always this, as typ
	typ   string
	says  *fact
}

// compile checks everything about an instrument that needs no server.
func compile(in *lab.Instrument) (*device, error) {
	if in.Profile == nil || in.Profile.Link.Kind != lab.LinkOPCUA {
		return nil, fmt.Errorf("its profile is not for OPC UA")
	}
	p := in.Profile
	secure, err := securityOf(in.Link)
	switch {
	case err != nil:
		return nil, err
	case p.Link.Namespace == "":
		return nil, fmt.Errorf("profile %s names no namespace", p.Name)
	case p.Link.ReplyWithin <= 0:
		return nil, fmt.Errorf("profile %s sets no reply_within", p.Name)
	case len(p.Init) > 0:
		return nil, fmt.Errorf("profile %s has init exchanges, which OPC UA has no place for", p.Name)
	}
	d := &device{in: in, secure: secure, within: p.Link.ReplyWithin, identify: p.Identify.Send,
		properties: map[member]*property{}, commands: map[member]*command{}}
	if d.identify != "" {
		if _, err := nodeID(1, d.identify); err != nil {
			return nil, fmt.Errorf("identify: %w", err)
		}
	}
	for i := range p.Properties {
		if err := d.addProperty(&p.Properties[i]); err != nil {
			return nil, err
		}
	}
	for i := range p.Commands {
		if err := d.addCommand(&p.Commands[i]); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *device) addProperty(m *lab.PropertyMap) error {
	key := member{m.Component, m.Property}
	path := m.Component + "." + m.Property
	c := d.in.Profile.Component(m.Component)
	if c == nil || c.Class.Property(m.Property) == nil {
		return fmt.Errorf("property %s: no class of profile %s has it", path, d.in.Profile.Name)
	}
	typ := c.Class.Property(m.Property).Type
	if _, err := nodeID(1, m.Node); err != nil {
		return fmt.Errorf("property %s: %w", path, err)
	}
	if typ.Kind == lab.Number && m.Unit.Dim() != typ.Unit.Dim() {
		return fmt.Errorf("property %s: the wire's unit %s is no %s", path, m.Unit, typ)
	}
	if typ.Kind == lab.Table || typ.Kind == lab.Blob {
		return fmt.Errorf("property %s: a %s can't be read from one node", path, typ)
	}
	d.properties[key] = &property{wire: m, typ: typ}
	return nil
}

func (d *device) addCommand(m *lab.CommandMap) error {
	path := m.Component + "." + m.Command
	c := d.in.Profile.Component(m.Component)
	if c == nil || c.Class.Command(m.Command) == nil {
		return fmt.Errorf("command %s: no class of profile %s has it", path, d.in.Profile.Name)
	}
	cmd := &command{wire: m, spec: c.Class.Command(m.Command)}
	ids := []string{m.Object, m.Method}
	if len(m.Writes) > 0 && m.Object == "" && m.Method == "" {
		ids = nil
	}
	for i := range m.Writes {
		ids = append(ids, m.Writes[i].Node)
	}
	for _, id := range ids {
		if _, err := nodeID(1, id); err != nil {
			return fmt.Errorf("command %s: %w", path, err)
		}
	}
	if err := cmd.addWrites(); err != nil {
		return fmt.Errorf("command %s: %w", path, err)
	}
	for i := range m.Inputs {
		in := &m.Inputs[i]
		if !cmd.written(in.Arg) {
			cmd.args = append(cmd.args, in)
		}
		arg := cmd.spec.Arg(in.Arg)
		switch {
		case arg == nil:
			return fmt.Errorf("command %s: the class has no argument %s", path, in.Arg)
		case !carries(in.Type, arg.Type.Kind):
			return fmt.Errorf("command %s: argument %s is a %s, which the wire type %q can't carry", path, in.Arg, arg.Type, in.Type)
		case arg.Type.Kind == lab.Number && in.Unit.Dim() != arg.Type.Unit.Dim():
			return fmt.Errorf("command %s: argument %s: the wire's unit %s is no %s", path, in.Arg, in.Unit, arg.Type)
		}
	}
	d.commands[member{m.Component, m.Command}] = cmd
	return nil
}

func (c *command) addWrites() error {
	for i := range c.wire.Writes {
		m := &c.wire.Writes[i]
		w := write{node: m.Node, typ: m.Type}
		if m.Arg == "" {
			var err error
			if w.fixed, err = variant(&lab.WireInput{Type: m.Type}, m.Value); err != nil {
				return fmt.Errorf("%s: %w", m.Node, err)
			}
		}
		for j := range c.wire.Inputs {
			if in := &c.wire.Inputs[j]; m.Arg != "" && in.Arg == m.Arg {
				w.in, w.typ = in, in.Type
			}
		}
		if w.fixed == nil && w.in == nil {
			return fmt.Errorf("%s: it has no input %q", m.Node, m.Arg)
		}
		c.writes = append(c.writes, w)
	}
	if len(c.writes) > 0 && c.wire.Method == "" {
		for _, in := range c.wire.Inputs {
			if !c.written(in.Arg) {
				return fmt.Errorf("argument %s has no way onto the wire", in.Arg)
			}
		}
	}
	return nil
}

// written reports whether an argument is written to a node.
func (c *command) written(arg string) bool {
	for i := range c.wire.Writes {
		if c.wire.Writes[i].Arg == arg {
			return true
		}
	}
	return false
}

// nodeID reads a node id within a namespace, "s=Reactor.Speed" or "i=17". It
// may not name a namespace of its own: that would be an index.
func nodeID(ns uint16, text string) (*ua.NodeID, error) {
	if len(text) < 3 || text[1] != '=' {
		return nil, fmt.Errorf("%q is no node id within a namespace: write s=name or i=number", text)
	}
	id, err := ua.ParseNodeID(fmt.Sprintf("ns=%d;%s", ns, text))
	if err != nil {
		return nil, fmt.Errorf("%q is no node id: %w", text, err)
	}
	return id, nil
}

// bad is the sample of a property that could not be read.
func (d *device) bad(id lab.PropertyID, received time.Time, why string) lab.Sample {
	return lab.Sample{ID: id, Reading: lab.Reading{Source: received, Received: received, Epoch: d.epoch.Load()}, Why: why}
}

// Opener makes Links; it satisfies drivers.Opener.
var _ drivers.Opener = Open
