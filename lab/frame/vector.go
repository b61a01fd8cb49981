package frame

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"labgate/lab"
)

// RunVector checks one of a profile's vectors against the profile itself.
func RunVector(p *lab.Profile, v lab.Vector) error {
	c, issues := Compile(p)
	if c == nil {
		return issues
	}
	return c.RunVector(v)
}

// RunVectors checks all of them and says at its place which ones fail.
func (c *Codec) RunVectors() lab.Issues {
	var issues lab.Issues
	for _, v := range c.profile.Vectors {
		if err := c.RunVector(v); err != nil {
			issues.Add(v.Pos, "vector_failed", "", "vector %q: %v", v.Name, err)
		}
	}
	return issues
}

// RunVector checks one vector. The instrument has the address 0 and the
// default settings; arguments named like a setting, or addr, replace them.
func (c *Codec) RunVector(v lab.Vector) error {
	in := &lab.Instrument{Name: "vector", Profile: c.profile, Settings: map[string]lab.Value{}}
	link := map[string]string{"address": "0"}
	args := map[string]lab.Value{}
	for n, x := range v.Args {
		switch {
		case n == addrName:
			link["address"] = strings.Trim(x.String(), `"`)
		case setting(c.profile, n) != nil:
			in.Settings[n] = x
		default:
			args[n] = x
		}
	}
	for _, s := range c.profile.Settings {
		if _, ok := in.Settings[s.Name]; !ok && s.Default == nil {
			in.Settings[s.Name] = standIn(s.Type)
		}
	}
	b, err := c.Bind(in, link)
	if err != nil {
		return err
	}
	switch {
	case v.Do != "":
		return b.runDo(v, args)
	case v.Send == "" || v.Reply == "":
		return fmt.Errorf("it needs send and reply, or do")
	case len(v.Sends) > 0:
		return fmt.Errorf("sends belongs to do")
	}
	return b.runReply(v)
}

// standIn is a value for a setting that a vector does not speak of.
func standIn(t lab.Type) lab.Value {
	switch t.Kind {
	case lab.Number:
		return lab.NumberValue(lab.Quantity{Value: 1, Unit: t.Unit})
	case lab.Integer:
		return lab.IntegerValue(1)
	case lab.Enum:
		if len(t.Enum) > 0 {
			return lab.EnumValue(t.Enum[0])
		}
	}
	return lab.TextValue("x")
}

// runDo checks what a command sends.
func (b *Bound) runDo(v lab.Vector, args map[string]lab.Value) error {
	comp, name, err := b.codec.member(v.Do, func(c *lab.Class, n string) bool { return c.Command(n) != nil })
	if err != nil {
		return err
	}
	p, err := b.Encode(&lab.Command{Target: lab.CommandID{Instrument: b.name, Component: comp, Command: name}, Args: args})
	var refused Refusal
	switch {
	case v.Error == "refused" && errors.As(err, &refused):
		return nil
	case err != nil:
		return err
	case v.Error == "refused":
		return fmt.Errorf("it is to be refused, and would send %s", sends(p))
	case v.Error != "":
		return fmt.Errorf("a command that is written has no error but refused, not %q", v.Error)
	case len(v.Sends) == 0:
		return fmt.Errorf("it needs sends, or error: refused")
	}
	if got := sends(p); !slices.Equal(got, v.Sends) {
		return fmt.Errorf("it sends %q, not %q", got, v.Sends)
	}
	return nil
}

func sends(p Program) []string {
	var out []string
	for _, s := range p.Steps {
		out = append(out, string(s.Send))
	}
	return out
}

// runReply checks what a reply means to a line that was sent.
func (b *Bound) runReply(v lab.Vector) error {
	pieces := b.codec.NewFramer()
	got := pieces.Push([]byte(v.Reply))
	if len(got) != 1 || got[0].Garbage || pieces.Pending() > 0 {
		return fmt.Errorf("the reply %q is not exactly one frame", v.Reply)
	}
	if v.Error != "" {
		return b.runError(v, got[0].Data)
	}
	if len(v.Expect) == 0 {
		return fmt.Errorf("it expects nothing")
	}
	for path, want := range v.Expect {
		comp, name, err := b.codec.member(path, func(c *lab.Class, n string) bool { return c.Property(n) != nil })
		if err != nil {
			return err
		}
		step, ok := b.Ask(comp, name)
		if !ok || string(step.Send) != v.Send {
			return fmt.Errorf("%s is asked with %q, not %q", path, step.Send, v.Send)
		}
		answer, err := b.Decode(step, got[0].Data)
		if err != nil {
			return err
		}
		value, err := b.Value(comp, name, answer)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		want, err = b.codec.properties[key{comp, name}].spec.Type.Conform(want)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if !same(value, want) {
			return fmt.Errorf("%s is %s, not %s", path, value, want)
		}
	}
	return nil
}

// runError checks that a reply is the named error, and that the profile sends
// such a line at all.
func (b *Bound) runError(v lab.Vector, frame []byte) error {
	line, ok := strings.CutSuffix(v.Send, b.codec.sendEnd)
	step := Step{Send: []byte(v.Send)}
	for _, ex := range b.codec.exchanges() {
		if _, fits := ex.send.scan(line, b.addr); ok && fits {
			step.ex = ex
		}
	}
	if step.ex == nil {
		return fmt.Errorf("nothing in the profile sends %q", v.Send)
	}
	_, err := b.Decode(step, frame)
	var dev *DeviceError
	if !errors.As(err, &dev) {
		return fmt.Errorf("the reply is no error of the device (%v)", err)
	}
	if dev.Name != v.Error {
		return fmt.Errorf("the reply means %s, not %s", dev.Name, v.Error)
	}
	return nil
}

// exchanges lists every line of the profile.
func (c *Codec) exchanges() []*exchange {
	out := append([]*exchange(nil), c.init...)
	if c.identify != nil {
		out = append(out, c.identify)
	}
	for _, p := range c.properties {
		out = append(out, p.ex)
	}
	for _, cmd := range c.commands {
		out = append(out, cmd.steps...)
	}
	return out
}

// member finds "pump.dose", or "dose" where only one component has it.
func (c *Codec) member(path string, has func(*lab.Class, string) bool) (comp, name string, err error) {
	want, name, dotted := strings.Cut(path, ".")
	if !dotted {
		want, name = "", path
	}
	var found []string
	for _, x := range c.profile.Components {
		if (want == "" || want == x.Name) && x.Class != nil && has(x.Class, name) {
			found = append(found, x.Name)
		}
	}
	if len(found) != 1 {
		return "", "", fmt.Errorf("%s is in %d components of this profile", path, len(found))
	}
	return found[0], name, nil
}

// same compares what was read with what a file says.
func same(a, b lab.Value) bool {
	if a.Kind == lab.Number && b.Kind == lab.Number {
		return a.Unit.Dim() == b.Unit.Dim() && math.Abs(a.Base()-b.Base()) <= tolerance*math.Abs(b.Base())
	}
	return a.Kind == b.Kind && a.Num == b.Num && a.Bool == b.Bool && a.Text == b.Text
}
