package mqtt

import (
	"fmt"
	"strings"
	"time"

	"labgate/lab"
)

// plan is an instrument with its profile compiled; it never changes.
type plan struct {
	in       *lab.Instrument
	name     string
	topics   topics        // below the prefix; only its blobs are set
	within   time.Duration // reply_within
	identify pointer
	time     pointer // source time in the state
	boot     pointer // boot id in the state
	id       pointer // in the acknowledgement
	ok       pointer
	fault    pointer

	properties map[member]*property
	commands   map[member]*command
}

// topics are whole topic names; one that the profile leaves out is empty.
type topics struct {
	state, command, ack string
	blobs               []blobTopic
}

// blobTopic is a topic with the command's id as one level: before + id + after.
type blobTopic struct{ before, after string }

func (b blobTopic) filter() string { return b.before + "+" + b.after }

// id is the command id in a topic; ok is false for any other topic.
func (b blobTopic) id(topic string) (id string, ok bool) {
	id, ok = strings.CutPrefix(topic, b.before)
	if ok {
		id, ok = strings.CutSuffix(id, b.after)
	}
	return id, ok && id != "" && !strings.Contains(id, "/")
}

// member addresses a property or command of a component.
type member struct{ component, name string }

type property struct {
	wire *lab.PropertyMap
	typ  lab.Type
	at   pointer
}

type command struct {
	wire   *lab.CommandMap
	spec   *lab.CommandSpec
	gives  []give
	within time.Duration // an acknowledgement with all results may take this long
}

// give is one result in an acknowledgement or on a topic of its own.
type give struct {
	wire    *lab.WireGive
	typ     lab.Type
	at      pointer
	columns []pointer // table: in the class's order
	blob    int       // index into topics.blobs; -1: within the acknowledgement
}

// compile checks everything about an instrument that needs no broker.
func compile(in *lab.Instrument) (*plan, error) {
	if in.Profile == nil || in.Profile.Link.Kind != lab.LinkMQTT {
		return nil, fmt.Errorf("its profile is not for MQTT")
	}
	spec := &in.Profile.Link
	if spec.ReplyWithin <= 0 {
		return nil, fmt.Errorf("profile %s sets no reply_within", in.Profile.Name)
	}
	if len(in.Profile.Init) > 0 {
		return nil, fmt.Errorf("profile %s has init exchanges, which MQTT has no place for", in.Profile.Name)
	}
	p := &plan{in: in, name: in.Name, within: spec.ReplyWithin,
		properties: map[member]*property{}, commands: map[member]*command{}}
	for _, x := range []struct {
		what, text string
		to         *pointer
	}{{"identify", in.Profile.Identify.Send, &p.identify}, {"time", spec.Time, &p.time}, {"boot", "/boot", &p.boot},
		{"id", spec.ID, &p.id}, {"ok", spec.OK, &p.ok}, {"error", spec.Error, &p.fault}} {
		var err error
		if *x.to, err = parsePointer(x.text); err != nil {
			return nil, fmt.Errorf("%s: %w", x.what, err)
		}
	}
	if spec.Ack != "" && p.id == nil {
		return nil, fmt.Errorf("profile %s has acknowledgements without an id", in.Profile.Name)
	}
	for i := range in.Profile.Properties {
		if err := p.addProperty(&in.Profile.Properties[i]); err != nil {
			return nil, err
		}
	}
	for i := range in.Profile.Commands {
		if err := p.addCommand(&in.Profile.Commands[i]); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// at completes the topics with the instrument's prefix, known at Connect.
func (p *plan) at(prefix string) (topics, error) {
	if prefix == "" {
		return topics{}, fmt.Errorf("the link has no prefix")
	}
	spec := &p.in.Profile.Link
	var t topics
	for _, x := range []struct {
		below string
		to    *string
	}{{spec.State, &t.state}, {spec.Command, &t.command}, {spec.Ack, &t.ack}} {
		if x.below == "" {
			continue
		}
		*x.to = prefix + "/" + x.below
		if err := checkTopic(*x.to); err != nil {
			return topics{}, err
		}
	}
	for _, b := range p.topics.blobs {
		b.before = prefix + "/" + b.before
		if err := checkTopic(b.before + "id" + b.after); err != nil {
			return topics{}, err
		}
		t.blobs = append(t.blobs, b)
	}
	return t, nil
}

// checkTopic refuses what a broker may read as a pattern or choke on: one
// known broker drops the connection of a client that names a space.
func checkTopic(s string) error {
	if len(s) > 256 {
		return fmt.Errorf("topic %.40q… is longer than 256 bytes", s)
	}
	for _, level := range strings.Split(s, "/") {
		if level == "" {
			return fmt.Errorf("topic %q has an empty level", s)
		}
	}
	for _, r := range s {
		if r <= ' ' || r > '~' || strings.ContainsRune("+#$*>\\\"", r) {
			return fmt.Errorf("topic %q has %q in it", s, r)
		}
	}
	return nil
}

func (p *plan) addProperty(m *lab.PropertyMap) error {
	path := m.Component + "." + m.Property
	c := p.in.Profile.Component(m.Component)
	if c == nil || c.Class.Property(m.Property) == nil {
		return fmt.Errorf("property %s: no class of profile %s has it", path, p.in.Profile.Name)
	}
	if p.in.Profile.Link.State == "" {
		return fmt.Errorf("property %s: profile %s has no state topic", path, p.in.Profile.Name)
	}
	x := &property{wire: m, typ: c.Class.Property(m.Property).Type}
	var err error
	if x.at, err = needPointer(m.Pointer); err != nil {
		return fmt.Errorf("property %s: %w", path, err)
	}
	if err := checkWire(x.typ, m.Unit); err != nil {
		return fmt.Errorf("property %s: %w", path, err)
	}
	p.properties[member{m.Component, m.Property}] = x
	return nil
}

func checkWire(t lab.Type, u lab.Unit) error {
	switch {
	case t.Kind == lab.Number && t.Unit.Dim() != u.Dim():
		return fmt.Errorf("the wire's unit %s is no %s", u, t)
	case t.Kind == lab.Table || t.Kind == lab.Blob:
		return fmt.Errorf("a %s can't stand at one JSON pointer", t)
	}
	return nil
}

func (p *plan) addCommand(m *lab.CommandMap) error {
	path := m.Component + "." + m.Command
	comp := p.in.Profile.Component(m.Component)
	if comp == nil || comp.Class.Command(m.Command) == nil {
		return fmt.Errorf("command %s: no class of profile %s has it", path, p.in.Profile.Name)
	}
	if m.Name == "" || p.in.Profile.Link.Command == "" {
		return fmt.Errorf("command %s: it needs a name, and the profile a command topic", path)
	}
	c := &command{wire: m, spec: comp.Class.Command(m.Command), within: m.ResultWithin}
	if c.within <= 0 {
		c.within = p.within
	}
	if err := c.checkInputs(); err != nil {
		return fmt.Errorf("command %s: %w", path, err)
	}
	for i := range m.Gives {
		g, err := p.compileGive(c, &m.Gives[i])
		if err != nil {
			return fmt.Errorf("command %s: result %s: %w", path, m.Gives[i].Name, err)
		}
		for _, have := range c.gives {
			if g.blob >= 0 && have.blob == g.blob {
				return fmt.Errorf("command %s: results %s and %s come on one topic", path, have.wire.Name, g.wire.Name)
			}
		}
		c.gives = append(c.gives, g)
	}
	p.commands[member{m.Component, m.Command}] = c
	return nil
}

func (c *command) checkInputs() error {
	keys := map[string]bool{}
	for i := range c.wire.Inputs {
		in := &c.wire.Inputs[i]
		arg := c.spec.Arg(in.Arg)
		switch {
		case arg == nil:
			return fmt.Errorf("the class has no argument %s", in.Arg)
		case keys[key(in)]:
			return fmt.Errorf("two arguments go by the key %s", key(in))
		case arg.Type.Kind == lab.Table || arg.Type.Kind == lab.Blob:
			return fmt.Errorf("argument %s: a %s can't be sent", in.Arg, arg.Type)
		case arg.Type.Kind == lab.Number && in.Unit.Dim() != arg.Type.Unit.Dim():
			return fmt.Errorf("argument %s: the wire's unit %s is no %s", in.Arg, in.Unit, arg.Type)
		}
		keys[key(in)] = true
	}
	return nil
}

// key is an argument's name on the wire.
func key(in *lab.WireInput) string {
	if in.Key != "" {
		return in.Key
	}
	return in.Arg
}

func (p *plan) compileGive(c *command, w *lab.WireGive) (give, error) {
	spec := c.spec.Give(w.Name)
	if spec == nil {
		return give{}, fmt.Errorf("the class has no such result")
	}
	if p.in.Profile.Link.Ack == "" {
		return give{}, fmt.Errorf("profile %s has no acknowledgements", p.in.Profile.Name)
	}
	g := give{wire: w, typ: spec.Type, blob: -1}
	var err error
	switch spec.Type.Kind {
	case lab.Blob:
		g.blob, err = p.blobTopic(w.Topic)
		return g, err
	case lab.Table:
		for _, col := range spec.Type.Columns {
			at, err := needPointer(w.Columns[col.Name])
			if err != nil {
				return give{}, fmt.Errorf("column %s: %w", col.Name, err)
			}
			g.columns = append(g.columns, at)
		}
		if len(w.Columns) != len(g.columns) {
			return give{}, fmt.Errorf("it has columns that the class does not")
		}
		return g, nil
	}
	if g.at, err = needPointer(w.Pointer); err != nil {
		return give{}, err
	}
	return g, checkWire(g.typ, w.Unit)
}

// blobTopic finds or adds a topic whose level {id} is the command's id.
func (p *plan) blobTopic(topic string) (int, error) {
	before, after, ok := strings.Cut(topic, "{id}")
	if !ok || strings.Contains(after, "{id}") || before != "" && !strings.HasSuffix(before, "/") || after != "" && after[0] != '/' {
		return 0, fmt.Errorf("topic %q needs one level that is {id}", topic)
	}
	b := blobTopic{before, after}
	for i, have := range p.topics.blobs {
		if have == b {
			return i, nil // another command's, with ids of its own
		}
	}
	p.topics.blobs = append(p.topics.blobs, b)
	return len(p.topics.blobs) - 1, nil
}
