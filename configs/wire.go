package configs

import (
	"labgate/internal/strict"
	"labgate/lab"
)

// link reads what the wire looks like.
func (r profileReader) link(n *strict.Node) {
	keys := map[string][]string{
		"serial": {"baud", "send_end", "reply", "gap", "reply_within"},
		"opcua":  {"namespace", "gap", "reply_within"},
		"mqtt":   {"state", "command", "ack", "time", "id", "ok", "error", "gap", "reply_within"},
		"memory": {"gap", "reply_within"},
	}
	open := r.quiet().Map(n, "link")
	kind := r.word(open.Get("kind"), "kind", "serial", "opcua", "mqtt", "memory")
	if kind == "" {
		f := r.quiet().Map(n, "link")
		if f.Get("kind") == nil {
			r.add(n.Pos(), "missing_key", "serial, opcua or mqtt", "link has no kind")
		}
		return
	}
	f := r.Map(n, "link of kind "+kind, append([]string{"kind"}, keys[kind]...)...)
	l := &r.p.Link
	l.Kind = lab.LinkKind(kind)
	l.ReplyWithin = r.positive(f.Require("reply_within"), "reply_within")
	if g := f.Get("gap"); g != nil {
		if l.Gap = r.Duration(g); l.Gap < 0 {
			r.add(g.Pos(), "out_of_bounds", "", "gap is %s; it can't be negative", lab.Seconds(l.Gap))
		}
	}
	switch l.Kind {
	case lab.LinkSerial:
		if b := f.Require("baud"); b != nil {
			l.Baud = int(r.Int(b))
		}
		l.SendEnd = r.text(f.Require("send_end"), "send_end", 8)
		if e := f.Require("reply"); e != nil {
			l.ReplyEnd = r.texts(e, "end of a reply")
		}
	case lab.LinkOPCUA:
		l.Namespace = r.text(f.Require("namespace"), "namespace", 256)
	case lab.LinkMQTT:
		l.State, l.Command, l.Ack = r.topic(f.Require("state"), false), r.topic(f.Get("command"), false), r.topic(f.Get("ack"), false)
		l.Time, l.ID, l.OK, l.Error = r.pointer(f.Get("time")), r.pointer(f.Get("id")), r.pointer(f.Get("ok")), r.pointer(f.Get("error"))
		if len(r.allCommands()) > 0 {
			for _, k := range []string{"command", "ack", "id", "ok"} {
				f.Require(k)
			}
		}
	}
}

// quiet is a decoder whose issues are found again later.
func (r reader) quiet() *strict.Decoder { return &strict.Decoder{} }

// propertyKeys are the keys of a property by the kind of its link.
var propertyKeys = map[lab.LinkKind][]string{
	lab.LinkSerial: {"send", "reply", "unit", "scale", "map", "poll"},
	lab.LinkOPCUA:  {"node", "unit", "scale", "map", "poll", "subscribe"},
	lab.LinkMQTT:   {"pointer", "unit", "scale", "map"},
	lab.LinkMemory: {"unit", "scale", "poll"},
}

// properties reads where each property is found on the wire.
func (r profileReader) properties(n *strict.Node) {
	keys, ok := propertyKeys[r.p.Link.Kind]
	if !ok {
		return // the link was reported, and nothing below it can be understood
	}
	all, seen := r.allProperties(), map[member]lab.Pos{}
	for _, e := range r.entries(n, "properties") {
		m, class, ok := r.resolve(e, "property", func(c *lab.Class, s string) bool { return c.Property(s) != nil }, all)
		f := r.Map(e.node, "property", keys...)
		if !ok || !r.unique(seen, m, e) {
			continue
		}
		r.p.Properties = append(r.p.Properties, r.propertyMap(e, f, m, class.Property(m.name)))
	}
	r.missing(n, "property", all, seen)
}

func (r profileReader) propertyMap(e entry, f *strict.Fields, m member, spec *lab.Property) lab.PropertyMap {
	w := lab.PropertyMap{Component: m.component, Property: m.name, Pos: e.pos}
	w.Unit, w.Scale = r.wireNumber(f, spec.Type, m.String(), e.pos)
	switch r.p.Link.Kind {
	case lab.LinkSerial:
		w.Exchange = r.exchange(f)
		if f.Get("reply") == nil {
			f.Require("reply")
		}
	case lab.LinkOPCUA:
		w.Node = r.nodeID(f.Require("node"))
		w.Subscribe = r.positive(f.Get("subscribe"), "subscribe")
	case lab.LinkMQTT:
		w.Pointer = r.pointer(f.Require("pointer"))
	}
	w.Map = r.wireNames(f.Get("map"), spec.Type, m)
	if w.Map == nil && (spec.Type.Kind == lab.Enum && r.p.Link.Kind != lab.LinkMQTT && r.p.Link.Kind != lab.LinkMemory || spec.Type.Kind == lab.Bool && r.p.Link.Kind == lab.LinkSerial) && f.Get("map") == nil {
		r.add(e.pos, "missing_key", "map: {wire text: value}", "%s is %s; it needs a map from what the wire says", m, spec.Type)
	}
	if r.p.Link.Kind == lab.LinkMQTT {
		return w // the device publishes when it likes
	}
	n := f.Get("poll")
	if r.p.Link.Kind != lab.LinkMemory {
		n = f.Require("poll")
	}
	if w.Poll = r.positive(n, "poll"); w.Poll > spec.MaxAge && spec.MaxAge > 0 {
		r.add(n.Pos(), "poll_too_slow", "at most "+lab.Seconds(spec.MaxAge).String(), "%s is polled every %s, and counts as unknown when it is older than %s", m, lab.Seconds(w.Poll), lab.Seconds(spec.MaxAge))
	}
	return w
}

// wireNumber reads the wire's unit and the size of its step.
func (r profileReader) wireNumber(f *strict.Fields, t lab.Type, what string, at lab.Pos) (u lab.Unit, scale float64) {
	n, s := f.Get("unit"), f.Get("scale")
	if t.Kind != lab.Number && t.Kind != lab.Integer || t.Kind == lab.Integer && n != nil {
		for _, x := range []*strict.Node{n, s} {
			if x != nil && (x == n || t.Kind != lab.Integer) {
				r.add(x.Pos(), "wrong_type", "", "%s is a %s; it has no unit or scale", what, t.Kind)
			}
		}
		return lab.One, 0
	}
	before := len(r.Issues)
	u = r.unit(n)
	switch {
	case t.Kind == lab.Integer || len(r.Issues) > before:
	case n == nil && t.Unit.Dim() != lab.None:
		r.add(at, "no_unit", "unit: "+t.Unit.String()+", if that is what the device speaks", "%s is a %s; nothing says in which unit the wire has it", what, t.Unit.Dim())
	case n != nil && u.Dim() != t.Unit.Dim():
		r.add(n.Pos(), "wrong_dimension", "", "%s is a %s, not a %s (%s)", what, t.Unit.Dim(), u.Dim(), u)
	}
	if s != nil {
		before = len(r.Issues)
		if scale = r.Number(s); scale <= 0 && len(r.Issues) == before {
			r.add(s.Pos(), "out_of_bounds", "", "scale of %s is %s; the size of a step is more than 0", what, lab.FormatNumber(scale))
		}
	}
	return u, scale
}

// wireNames reads what the wire's texts mean. A bool or an enum has to be
// mapped completely: a value that the wire can't say is a promise unkept.
func (r profileReader) wireNames(n *strict.Node, t lab.Type, m member) map[string]string {
	if n == nil {
		return nil
	}
	want := t.Enum
	switch t.Kind {
	case lab.Bool:
		want = []string{"true", "false"}
	case lab.Enum:
	default:
		r.add(n.Pos(), "wrong_type", "", "%s is a %s; a map is for bool and enum", m, t.Kind)
		return nil
	}
	names, meant := map[string]string{}, map[string]bool{}
	for _, e := range r.entries(n, "map") {
		s := e.node.Text()
		if !contains(want, s) {
			r.add(e.node.Pos(), "bad_value", "", "%s: %q means %q, which is not %s%s", m, e.key, s, t, didYouMean(s, want))
			continue
		}
		names[e.key], meant[s] = s, true
	}
	for _, w := range want {
		if !meant[w] {
			r.add(n.Pos(), "incomplete_map", "", "%s: nothing on the wire means %s", m, w)
		}
	}
	return names
}

// commandKeys are the keys of a command by the kind of its link.
var commandKeys = map[lab.LinkKind][]string{
	lab.LinkSerial: {"inputs", "exchanges", "effect_at", "gives"},
	lab.LinkOPCUA:  {"write", "object", "method", "inputs"},
	lab.LinkMQTT:   {"name", "inputs", "gives", "result_within"},
	lab.LinkMemory: {},
}

// commands reads how each command is sent on the wire.
func (r profileReader) commands(n *strict.Node) {
	keys, ok := commandKeys[r.p.Link.Kind]
	if !ok {
		return
	}
	all, seen := r.allCommands(), map[member]lab.Pos{}
	for _, e := range r.entries(n, "commands") {
		m, class, ok := r.resolve(e, "command", func(c *lab.Class, s string) bool { return c.Command(s) != nil }, all)
		var f *strict.Fields
		if len(keys) > 0 {
			f = r.Map(e.node, "command", keys...)
		}
		if !ok || !r.unique(seen, m, e) {
			continue
		}
		c := lab.CommandMap{Component: m.component, Command: m.name, Pos: e.pos}
		if f != nil {
			r.commandMap(f, &c, class.Command(m.name))
		}
		r.p.Commands = append(r.p.Commands, c)
	}
	r.missing(n, "command", all, seen)
}

func (r profileReader) commandMap(f *strict.Fields, c *lab.CommandMap, spec *lab.CommandSpec) {
	r.inputs(f.Get("inputs"), c, spec)
	switch r.p.Link.Kind {
	case lab.LinkSerial:
		if n := f.Require("exchanges"); n != nil {
			c.Exchanges = r.exchanges(n)
		}
		r.effectAt(f.Get("effect_at"), c, spec)
	case lab.LinkOPCUA:
		r.writes(f.Get("write"), c)
		if len(c.Writes) == 0 || f.Get("object") != nil || f.Get("method") != nil {
			c.Object, c.Method = r.nodeID(f.Require("object")), r.nodeID(f.Require("method"))
		}
	case lab.LinkMQTT:
		c.Name = r.text(f.Require("name"), "name", 64)
		c.ResultWithin = r.positive(f.Get("result_within"), "result_within")
	}
	r.gives(f.Get("gives"), c, spec)
}

// writes reads what a command writes to nodes, in its order.
func (r profileReader) writes(n *strict.Node, c *lab.CommandMap) {
	if n == nil {
		return
	}
	nodes := map[string]lab.Pos{}
	for _, e := range r.List(n) {
		f := r.Map(e, "write to a node", "node", "input", "value", "type")
		w := lab.WireWrite{Node: r.nodeID(f.Require("node")), Pos: f.Pos()}
		if first, ok := nodes[w.Node]; ok && w.Node != "" {
			r.add(f.Pos(), "duplicate", "", "%s is written already, at %s", w.Node, first)
		}
		nodes[w.Node] = f.Pos()
		input, value := f.Get("input"), f.Get("value")
		if t := f.Get("type"); t != nil && input != nil {
			r.add(t.Pos(), "unknown_key", "", "the type stands with the input")
		}
		switch {
		case (input == nil) == (value == nil):
			r.add(f.Pos(), "missing_key", "input: the argument's name, or value: … with its type", "%s is written an argument or a fixed value, one of them", w.Node)
		case input != nil:
			w.Arg = r.writtenInput(input, c)
		default:
			w.Type = r.word(f.Require("type"), "type", wireTypeNames...)
			w.Value = r.wireValue(value, w.Type)
		}
		c.Writes = append(c.Writes, w)
	}
	if len(c.Writes) == 0 || len(c.Writes) > maxExchanges {
		r.add(n.Pos(), "bad_value", "", "%d writes; 1 to %d are possible", len(c.Writes), maxExchanges)
	}
}

func (r profileReader) writtenInput(n *strict.Node, c *lab.CommandMap) string {
	var names []string
	for _, in := range c.Inputs {
		if in.Arg == n.Text() {
			return in.Arg
		}
		names = append(names, in.Arg)
	}
	r.add(n.Pos(), "unknown_name", "", "%s is no input of %s.%s%s", n.Text(), c.Component, c.Command, didYouMean(n.Text(), names))
	return ""
}

// wireValue reads a fixed value of a wire type.
func (r profileReader) wireValue(n *strict.Node, wire string) lab.Value {
	switch wire {
	case "":
		return lab.Value{}
	case "boolean":
		return lab.BoolValue(r.Bool(n))
	case "string":
		return lab.TextValue(r.text(n, "value", 256))
	}
	return lab.NumberValue(lab.Q(r.Number(n), "1"))
}

// effectAt reads which exchange begins the effect. A read has none; a command
// of one exchange has no choice.
func (r profileReader) effectAt(n *strict.Node, c *lab.CommandMap, spec *lab.CommandSpec) {
	switch {
	case n != nil:
		c.EffectAt = int(r.Int(n))
		if c.EffectAt < 1 || c.EffectAt > len(c.Exchanges) {
			r.add(n.Pos(), "out_of_bounds", "", "effect_at is %d; the exchanges are counted from 1 to %d", c.EffectAt, len(c.Exchanges))
		}
	case len(c.Exchanges) > 1 && spec.Effect != lab.Read:
		r.add(c.Pos, "missing_key", "effect_at: the number of the exchange, from 1", "%s.%s sends %d lines; nothing says with which one the effect begins", c.Component, c.Command, len(c.Exchanges))
	case spec.Effect != lab.Read:
		c.EffectAt = 1
	}
}

// wireTypes are the number types of OPC UA, and which of ours each can carry.
var wireTypes = map[string][]lab.TypeKind{
	"boolean": {lab.Bool}, "string": {lab.Text, lab.Enum},
	"float": {lab.Number, lab.Integer}, "double": {lab.Number, lab.Integer},
	"sbyte": {lab.Integer, lab.Number}, "byte": {lab.Integer, lab.Number}, "int16": {lab.Integer, lab.Number}, "uint16": {lab.Integer, lab.Number},
	"int32": {lab.Integer, lab.Number}, "uint32": {lab.Integer, lab.Number}, "int64": {lab.Integer, lab.Number}, "uint64": {lab.Integer, lab.Number},
}

var wireTypeNames = []string{"boolean", "sbyte", "byte", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float", "double", "string"}

// inputs reads how the arguments are written, in the wire's order.
func (r profileReader) inputs(n *strict.Node, c *lab.CommandMap, spec *lab.CommandSpec) {
	keys := map[lab.LinkKind][]string{lab.LinkSerial: {"unit", "scale"}, lab.LinkOPCUA: {"unit", "scale", "type"}, lab.LinkMQTT: {"unit", "scale", "key"}}
	var names []string
	for _, a := range spec.Args {
		names = append(names, a.Name)
	}
	seen := map[string]bool{}
	for _, e := range r.entries(n, "inputs") {
		f := r.Map(e.node, "wire input", keys[r.p.Link.Kind]...)
		arg := spec.Arg(e.key)
		if arg == nil {
			r.add(e.pos, "unknown_name", "", "%s is no argument of %s%s", e.key, spec.Name, didYouMean(e.key, names))
			continue
		}
		seen[arg.Name] = true
		in := lab.WireInput{Arg: arg.Name, Key: arg.Name}
		in.Unit, in.Scale = r.wireNumber(f, arg.Type, "argument "+arg.Name, e.pos)
		if r.p.Link.Kind == lab.LinkMQTT {
			if k := f.Get("key"); k != nil {
				in.Key = r.text(k, "key", 64)
			}
		} else {
			in.Key = ""
		}
		if r.p.Link.Kind == lab.LinkOPCUA {
			in.Type = r.wireType(f.Require("type"), arg)
		}
		c.Inputs = append(c.Inputs, in)
	}
	for _, a := range spec.Args {
		if !seen[a.Name] {
			r.add(c.Pos, "not_mapped", "inputs: {"+a.Name+": …}", "%s.%s: argument %s is not sent to the device", c.Component, c.Command, a.Name)
		}
	}
}

func (r profileReader) wireType(n *strict.Node, arg *lab.Param) string {
	s := r.word(n, "type", wireTypeNames...)
	if s == "" {
		return ""
	}
	for _, k := range wireTypes[s] {
		if k == arg.Type.Kind {
			return s
		}
	}
	r.add(n.Pos(), "wrong_type", "", "argument %s is a %s; a wire type %s can't carry it", arg.Name, arg.Type.Kind, s)
	return s
}

// gives reads where the results are that the device itself returns. The others
// the class computes from readings.
func (r profileReader) gives(n *strict.Node, c *lab.CommandMap, spec *lab.CommandSpec) {
	seen := map[string]bool{}
	for _, e := range r.entries(n, "gives") {
		g := spec.Give(e.key)
		switch {
		case g == nil:
			var names []string
			for _, g := range spec.Gives {
				names = append(names, g.Name)
			}
			r.add(e.pos, "unknown_name", "", "%s is no result of %s%s", e.key, spec.Name, didYouMean(e.key, names))
			continue
		case g.From.Text != "":
			r.add(e.pos, "bad_value", "", "result %s is computed by the class, from %s", g.Name, g.From.Text)
			continue
		}
		seen[g.Name] = true
		c.Gives = append(c.Gives, r.give(e, g))
	}
	for _, g := range spec.Gives {
		switch {
		case g.From.Text != "" || seen[g.Name]:
		case r.p.Link.Kind == lab.LinkOPCUA:
			r.add(c.Pos, "not_mapped", "", "%s.%s: result %s comes from the device, and an OPC UA profile can't say where yet", c.Component, c.Command, g.Name)
		default:
			r.add(c.Pos, "not_mapped", "gives: {"+g.Name+": …}", "%s.%s: nothing says where its result %s is found", c.Component, c.Command, g.Name)
		}
	}
}

func (r profileReader) give(e entry, g *lab.Param) lab.WireGive {
	w := lab.WireGive{Name: g.Name}
	keys := []string{"unit", "scale"}
	if r.p.Link.Kind == lab.LinkMQTT {
		keys = []string{"pointer", "unit", "scale"}
		switch g.Type.Kind {
		case lab.Table:
			keys = []string{"columns"}
		case lab.Blob:
			keys = []string{"topic", "media"}
		}
	}
	f := r.Map(e.node, "result", keys...)
	switch {
	case r.p.Link.Kind == lab.LinkMQTT && g.Type.Kind == lab.Table:
		w.Columns = r.columns(f.Require("columns"), g)
	case r.p.Link.Kind == lab.LinkMQTT && g.Type.Kind == lab.Blob:
		w.Topic = r.topic(f.Require("topic"), true)
		w.Media = r.text(f.Require("media"), "media", 64)
	default:
		if r.p.Link.Kind == lab.LinkMQTT {
			w.Pointer = r.pointer(f.Require("pointer"))
		}
		w.Unit, w.Scale = r.wireNumber(f, g.Type, "result "+g.Name, e.pos)
	}
	return w
}

func (r profileReader) columns(n *strict.Node, g *lab.Param) map[string]string {
	columns := map[string]string{}
	var names []string
	for _, c := range g.Type.Columns {
		names = append(names, c.Name)
	}
	for _, e := range r.entries(n, "columns") {
		if !contains(names, e.key) {
			r.add(e.pos, "unknown_name", "", "%s is no column of %s%s", e.key, g.Name, didYouMean(e.key, names))
			continue
		}
		columns[e.key] = r.pointer(e.node)
	}
	for _, c := range names {
		if _, ok := columns[c]; !ok && n != nil {
			r.add(n.Pos(), "not_mapped", "", "column %s of %s is not mapped", c, g.Name)
		}
	}
	return columns
}
