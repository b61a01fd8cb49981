package frame

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"labgate/lab"
)

// Reset is the error name by which a profile says that the device has lost its
// state: a power cycle, a reset button.
const Reset = "device_reset"

// DeviceError is the device's own word that something is wrong.
type DeviceError struct {
	Name  string // from the profile: "out_of_range"
	Text  string // what the device said, quoted
	Alarm bool   // it tells of the device and answers no command
}

// Error names it.
func (e *DeviceError) Error() string { return fmt.Sprintf("the device says %s (%s)", e.Name, e.Text) }

// ErrNotOurs says that a reply is another instrument's.
var ErrNotOurs = errors.New("the reply carries another address")

// MismatchError says that a reply is none that the profile knows: it proves
// nothing.
type MismatchError struct {
	Got  string // quoted, shortened
	What string
}

// Error says what came.
func (e *MismatchError) Error() string { return fmt.Sprintf("%s: the reply %s is none", e.What, e.Got) }

// Answer is what a reply captured.
type Answer struct{ caps []capture }

// Get is the text of a capture.
func (a Answer) Get(name string) (string, bool) {
	for _, c := range a.caps {
		if c.name == name {
			return c.text, true
		}
	}
	return "", false
}

// Decode reads the frame that came back for a step. The error is ErrNotOurs,
// a *DeviceError or a *MismatchError.
func (b *Bound) Decode(s Step, frame []byte) (Answer, error) {
	text := string(frame)
	rest, ok := b.mine(text)
	if !ok {
		return Answer{}, ErrNotOurs
	}
	if name, alarm, ok := b.codec.deviceError(rest); ok {
		return Answer{}, &DeviceError{name, quote(text), alarm}
	}
	if s.ex == nil {
		return Answer{}, &MismatchError{quote(text), "unasked"}
	}
	if len(s.ex.reply) == 0 {
		return Answer{}, nil
	}
	caps, ok := s.ex.reply.scan(text, b.addr)
	if !ok {
		return Answer{}, &MismatchError{quote(text), s.ex.what}
	}
	return Answer{caps}, nil
}

// Alarm reads a frame that nobody asked for: the error it stands for, and
// whether it is this instrument's.
func (b *Bound) Alarm(frame []byte) (*DeviceError, bool) {
	rest, ok := b.mine(string(frame))
	if !ok {
		return nil, false
	}
	name, alarm, ok := b.codec.deviceError(rest)
	if !ok {
		return nil, false
	}
	return &DeviceError{name, quote(string(frame)), alarm}, true
}

// mine cuts the address off.
func (b *Bound) mine(text string) (rest string, ok bool) {
	if !b.codec.addressed {
		return text, true
	}
	if b.head == "" || !strings.HasPrefix(text, b.head) {
		return "", false
	}
	return text[len(b.head):], true
}

func quote(s string) string {
	if len(s) > 64 {
		return strconv.Quote(s[:64]) + "…"
	}
	return strconv.Quote(s)
}

// Value reads a property from its answer, in the class's unit.
func (b *Bound) Value(component, property string, a Answer) (lab.Value, error) {
	p := b.codec.properties[key{component, property}]
	if p == nil {
		return lab.Value{}, fmt.Errorf("profile %s can't read %s.%s", b.codec.profile.Name, component, property)
	}
	text, ok := a.Get(valueName)
	if !ok {
		return lab.Value{}, fmt.Errorf("%s: no value", p.ex.what)
	}
	return value(text, p.spec.Type, p.wire.Unit, p.wire.Scale, p.wire.Map)
}

// Gives reads a command's results from the answers to its steps.
func (b *Bound) Gives(p Program, answers []Answer) (map[string]lab.Value, error) {
	if len(p.cmd.wire.Gives) == 0 {
		return nil, nil
	}
	out := map[string]lab.Value{}
	for _, g := range p.cmd.wire.Gives {
		for _, a := range answers {
			text, ok := a.Get(g.Name)
			if !ok {
				continue
			}
			v, err := value(text, p.cmd.spec.Give(g.Name).Type, g.Unit, g.Scale, nil)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", g.Name, err)
			}
			out[g.Name] = v
		}
	}
	return out, nil
}

// value reads the wire's text as a value of the type.
func value(text string, t lab.Type, unit lab.Unit, scale float64, names map[string]string) (lab.Value, error) {
	switch t.Kind {
	case lab.Number, lab.Integer:
		v, ok := parseNumber(text)
		if !ok {
			return lab.Value{}, fmt.Errorf("%s is not a number", quote(text))
		}
		if scale != 0 && scale != 1 {
			v = round(v*scale, 15)
		}
		if t.Kind == lab.Integer {
			return t.Conform(lab.Value{Kind: lab.Integer, Num: v})
		}
		return t.Conform(lab.NumberValue(lab.Quantity{Value: v, Unit: unit}))
	case lab.Bool, lab.Enum:
		name, ok := names[text]
		if !ok {
			name, ok = names[strings.Trim(text, " ")]
		}
		if !ok {
			return lab.Value{}, fmt.Errorf("%s is not in the map", quote(text))
		}
		if t.Kind == lab.Bool {
			return lab.BoolValue(name == "true"), nil
		}
		return lab.EnumValue(name), nil
	case lab.Text:
		if !printable(text) {
			return lab.Value{}, fmt.Errorf("%s is not printable text", quote(text))
		}
		return lab.TextValue(text), nil
	}
	return lab.Value{}, fmt.Errorf("a line can't carry a %s", t.Kind)
}
