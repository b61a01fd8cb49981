package frame

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"labgate/lab"
)

// Step is one message: the bytes to send, and what its reply must look like.
type Step struct {
	Send []byte
	ex   *exchange
}

// Program is a command as messages.
type Program struct {
	Steps    []Step
	EffectAt int // the step, from 1, whose first byte begins the effect
	cmd      *command
}

// Bound is a Codec with one instrument's address and settings.
type Bound struct {
	codec    *Codec
	name     string
	address  string
	head     string // the address as all replies begin with it
	limits   []lab.Limit
	settings map[string]lab.Value
	init     []Step
	identify Step
	asks     map[key]Step
}

// ValueError says that a value can't be written as the wire wants it.
type ValueError struct {
	Name    string     // the argument or setting
	Got     lab.Value  // in the class's unit
	Allowed string     // what can be carried: "a number of at most 4 digits in mL"
	Nearest *lab.Value // the nearest value that can be, within the class's bounds; nil where there is none
}

// Error says it in one sentence.
func (e *ValueError) Error() string {
	s := fmt.Sprintf("%s = %s can't be sent: the wire carries %s", e.Name, e.Got, e.Allowed)
	if e.Nearest != nil {
		s += "; the nearest is " + e.Nearest.String()
	}
	return s
}

// Refusal lists every value of a command that can't be written.
type Refusal []*ValueError

// Error writes one sentence a value.
func (r Refusal) Error() string {
	lines := make([]string, len(r))
	for i, e := range r {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "; ")
}

// Issues gives the refusal as a verdict reports it, with the nearest values.
func (r Refusal) Issues() lab.Issues {
	var out lab.Issues
	for _, e := range r {
		out = append(out, lab.Issue{Code: "not_carried", Path: "args." + e.Name, Got: e.Got.String(), Allowed: e.Allowed,
			Repairable: e.Nearest != nil, Nearest: e.Nearest, Say: e.Error()})
	}
	return out
}

// Bind gives the Codec an instrument. link is where the instrument is, with
// its address under "address". Every setting that can't be written is an error
// of KindInvalid that holds lab.Issues.
func (c *Codec) Bind(in *lab.Instrument, link map[string]string) (*Bound, error) {
	b := &Bound{codec: c, name: in.Name, address: link["address"], limits: in.Limits, settings: map[string]lab.Value{}, asks: map[key]Step{}}
	var issues lab.Issues
	bad := func(format string, args ...any) { issues.Add(in.Pos, "invalid_setting", "", format, args...) }
	for _, s := range c.profile.Settings {
		v, ok := in.Settings[s.Name]
		if !ok && s.Default != nil {
			v, ok = *s.Default, true
		}
		if !ok {
			if s.Required {
				bad("%s: setting %s is missing", in.Name, s.Name)
			}
			continue
		}
		v, err := s.Type.Conform(v)
		if err != nil {
			bad("%s: setting %s: %v", in.Name, s.Name, err)
			continue
		}
		b.settings[s.Name] = v
	}
	if len(issues) == 0 {
		if err := b.fixed(); err != nil {
			bad("%s: %v", in.Name, err)
		}
	}
	if len(issues) > 0 {
		return nil, lab.E("frame: bind", in.Name, lab.KindInvalid, issues)
	}
	return b, nil
}

// fixed renders the lines that no argument changes.
func (b *Bound) fixed() error {
	var errs []error
	render := func(ex *exchange) Step {
		line, err := b.render(ex, nil, nil)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", ex.what, err))
		}
		return Step{line, ex}
	}
	for _, ex := range b.codec.init {
		b.init = append(b.init, render(ex))
	}
	if b.codec.identify != nil {
		b.identify = render(b.codec.identify)
	}
	for k, p := range b.codec.properties {
		b.asks[k] = render(p.ex)
	}
	for _, c := range b.codec.commands { // their settings too: nobody wants to hear of them at the first trip
		for _, ex := range c.steps {
			errs = append(errs, b.checkSettings(c, ex)...)
		}
	}
	b.head = b.addr(b.codec.address)
	if b.codec.addressed && b.head == "" {
		errs = append(errs, fmt.Errorf("address %q: %s is needed", b.address, b.codec.address.say()))
	}
	sort.Slice(errs, func(i, j int) bool { return errs[i].Error() < errs[j].Error() })
	return errors.Join(errs...)
}

func (b *Bound) checkSettings(c *command, ex *exchange) []error {
	var errs []error
	for _, p := range ex.send {
		if p.name == "" || c.spec.Arg(p.name) != nil {
			continue
		}
		if _, err := b.field(p, nil, nil); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", ex.what, err))
		}
	}
	return errs
}

// Init is what is sent after every connect and every loss of state.
func (b *Bound) Init() []Step { return b.init }

// Identify asks who the device is; ok is false where the profile can't.
func (b *Bound) Identify() (s Step, ok bool) { return b.identify, b.identify.ex != nil }

// Probe is a harmless question: who the device is, or its first property. ok is
// false where the profile has neither.
func (b *Bound) Probe() (s Step, ok bool) {
	if b.identify.ex != nil {
		return b.identify, true
	}
	for _, m := range b.codec.profile.Properties {
		return b.Ask(m.Component, m.Property)
	}
	return Step{}, false
}

// Address is the instrument's address as replies carry it; empty where they
// carry none.
func (b *Bound) Address() string {
	if !b.codec.addressed {
		return ""
	}
	return b.head
}

// Ask is the question for a property; ok is false where the profile has none.
func (b *Bound) Ask(component, property string) (s Step, ok bool) {
	s, ok = b.asks[key{component, property}]
	return s, ok
}

// Encode writes a command. Arguments must be complete and within the class's
// bounds. A value that the wire would change is an error of KindInvalid that
// holds a Refusal.
func (b *Bound) Encode(cmd *lab.Command) (Program, error) {
	const op = "frame: encode"
	c := b.codec.commands[key{cmd.Target.Component, cmd.Target.Command}]
	if c == nil {
		return Program{}, lab.E(op, b.name, lab.KindInvalid, fmt.Errorf("profile %s has no command %s.%s", b.codec.profile.Name, cmd.Target.Component, cmd.Target.Command))
	}
	args, err := conformArgs(c.spec, cmd.Args)
	if err != nil {
		return Program{}, lab.E(op, b.name, lab.KindInvalid, err)
	}
	p := Program{EffectAt: c.effectAt, cmd: c}
	var refused Refusal
	for _, ex := range c.steps {
		line, err := b.render(ex, c, args)
		var r Refusal
		if errors.As(err, &r) {
			refused = append(refused, r...)
		} else if err != nil {
			return Program{}, lab.E(op, b.name, lab.KindInvalid, err)
		}
		p.Steps = append(p.Steps, Step{line, ex})
	}
	if len(refused) > 0 {
		return Program{}, lab.E(op, b.name, lab.KindInvalid, refused)
	}
	return p, nil
}

// conformArgs checks that the arguments are those of the command, all of them,
// and within bounds.
func conformArgs(spec *lab.CommandSpec, args map[string]lab.Value) (map[string]lab.Value, error) {
	out := make(map[string]lab.Value, len(args))
	var errs []error
	for _, a := range spec.Args {
		v, ok := args[a.Name]
		if !ok {
			errs = append(errs, fmt.Errorf("argument %s is missing", a.Name))
			continue
		}
		v, err := a.Type.Conform(v)
		if err == nil {
			if issue, out := a.CheckBounds(v); out {
				err = issue
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("argument %s: %w", a.Name, err))
			continue
		}
		out[a.Name] = v
	}
	for n := range args {
		if spec.Arg(n) == nil {
			errs = append(errs, fmt.Errorf("%s is no argument of %s", n, spec.Name))
		}
	}
	sort.Slice(errs, func(i, j int) bool { return errs[i].Error() < errs[j].Error() })
	return out, errors.Join(errs...)
}

// render writes one line with its end.
func (b *Bound) render(ex *exchange, c *command, args map[string]lab.Value) ([]byte, error) {
	var line strings.Builder
	var refused Refusal
	for _, p := range ex.send {
		if p.name == "" {
			line.WriteString(p.lit)
			continue
		}
		text, err := b.field(p, c, args)
		var v *ValueError
		if errors.As(err, &v) {
			refused = append(refused, v)
		} else if err != nil {
			return nil, err
		}
		line.WriteString(text)
	}
	if len(refused) > 0 {
		return nil, refused
	}
	line.WriteString(b.codec.sendEnd)
	return []byte(line.String()), nil
}

// field writes one name.
func (b *Bound) field(p part, c *command, args map[string]lab.Value) (string, error) {
	if p.name == addrName {
		if text := b.addr(p.spec); text != "" {
			return text, nil
		}
		return "", fmt.Errorf("address %q: %s is needed", b.address, p.spec.say())
	}
	if c != nil {
		if arg := c.spec.Arg(p.name); arg != nil {
			in := c.inputs[p.name]
			return p.spec.value(b.tighten(c, arg), args[p.name], in.Unit, in.Scale)
		}
	}
	v, ok := b.settings[p.name]
	if !ok {
		return "", fmt.Errorf("setting %s is not set", p.name)
	}
	return p.spec.value(&lab.Param{Name: p.name, Type: setting(b.codec.profile, p.name).Type}, v, v.Unit, 0)
}

// tighten adds the instrument's own limits to an argument's bounds, so that
// the nearest value that is offered is one that would be taken.
func (b *Bound) tighten(c *command, arg *lab.Param) *lab.Param {
	p := *arg
	for _, l := range b.limits {
		if l.Component != c.wire.Component || l.Name != c.spec.Name || l.Arg != arg.Name {
			continue
		}
		if l.Min != nil && (p.Min == nil || l.Min.Base() > p.Min.Base()) {
			v := lab.NumberValue(*l.Min)
			p.Min = &v
		}
		if l.Max != nil && (p.Max == nil || l.Max.Base() < p.Max.Base()) {
			v := lab.NumberValue(*l.Max)
			p.Max = &v
		}
	}
	return &p
}

// addr writes the address; empty where it can't be.
func (b *Bound) addr(s spec) string {
	if b.head != "" && s == b.codec.address {
		return b.head
	}
	if s.verb == 0 {
		if !printable(b.address) {
			return ""
		}
		return b.address
	}
	n, err := lab.ParseNumber(b.address)
	if err != nil {
		return ""
	}
	text, ok := s.write(n)
	if !ok || !s.carries(text, n) {
		return ""
	}
	return text
}

// value writes one value of a parameter's type in the wire's unit and steps.
func (s spec) value(p *lab.Param, v lab.Value, unit lab.Unit, scale float64) (string, error) {
	fail := func(allowed string) *ValueError { return &ValueError{Name: p.Name, Got: v, Allowed: allowed} }
	switch v.Kind {
	case lab.Text, lab.Enum:
		if s.verb != 0 || !printable(v.Text) {
			return "", fail("printable ASCII text of at most 64 characters")
		}
		return v.Text, nil
	case lab.Integer:
		unit = lab.One
	case lab.Number:
	default:
		return "", fail(s.say())
	}
	if scale == 0 {
		scale = 1
	}
	q, err := v.Quantity().In(unit)
	if err != nil {
		return "", fmt.Errorf("%s: %w", p.Name, err)
	}
	wire := q.Value / scale
	text, ok := s.write(wire)
	if ok && s.carries(text, wire) {
		return text, nil
	}
	refused := fail(s.allowed(unit, scale))
	back := func(x float64) lab.Value { // in the parameter's own unit
		q, err := lab.Quantity{Value: round(x*scale, 12), Unit: unit}.In(p.Type.Unit)
		if err != nil || v.Kind == lab.Integer {
			return lab.Value{Kind: v.Kind, Num: x * scale}
		}
		q.Value = round(q.Value, 12)
		return lab.NumberValue(q)
	}
	allows := func(x float64) bool {
		_, out := p.CheckBounds(back(x))
		return !out
	}
	if x, ok := s.nearest(wire, allows); ok {
		n := back(x)
		refused.Nearest = &n
	}
	return "", refused
}

// allowed says what a format carries, with unit and step.
func (s spec) allowed(unit lab.Unit, scale float64) string {
	say := s.say()
	if scale != 1 {
		say += fmt.Sprintf(" of steps of %s", lab.Quantity{Value: scale, Unit: unit})
	} else if unit != lab.One {
		say += " in " + unit.String()
	}
	return say
}

// Encodable checks, before anything is sent, that a command can be written for
// an instrument. The error is as that of Encode.
func (c *Codec) Encodable(in *lab.Instrument, cmd *lab.Command) error {
	b, err := c.Bind(in, in.Link)
	if err != nil {
		return err
	}
	_, err = b.Encode(cmd)
	return err
}

// Encodable compiles the instrument's profile and asks it; other wires than
// serial carry every number as it is. Whoever asks often keeps the Codec.
func Encodable(in *lab.Instrument, cmd *lab.Command) error {
	if in.Profile.Link.Kind != lab.LinkSerial {
		return nil
	}
	c, issues := Compile(in.Profile)
	if c == nil {
		return lab.E("frame: compile", in.Name, lab.KindInvalid, issues)
	}
	return c.Encodable(in, cmd)
}
