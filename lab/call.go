package lab

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// Call is a command as people write it: pump_a.dose(volume = 5 mL, rate = 1 mL/min).
type Call struct {
	Path string
	Args []CallArg // as written, in order
}

// CallArg is one argument of a Call, its value not read yet.
type CallArg struct{ Name, Text string }

// maxCall bounds the text of a Call, in bytes.
const maxCall = 2000

// ParseCall reads the form of a call: a path, and in brackets its arguments,
// each name = value, with commas between them. No argument may come twice.
func ParseCall(s string) (Call, error) {
	if len(s) > maxCall || !utf8.ValidString(s) {
		return Call{}, fmt.Errorf("%.40q… is no call: more than %d bytes, or not UTF-8", s, maxCall)
	}
	path, rest, hasArgs := strings.Cut(strings.TrimSpace(s), "(")
	c := Call{Path: strings.TrimSpace(path)}
	for _, part := range strings.Split(c.Path, ".") {
		if !ValidName(part) {
			return Call{}, fmt.Errorf("%q is no call: write instrument.command(argument = value, …)", s)
		}
	}
	if !hasArgs {
		return c, nil
	}
	inner, after, closed := strings.Cut(rest, ")")
	if !closed || strings.TrimSpace(after) != "" {
		return Call{}, fmt.Errorf("%q: one closing bracket is wanted, at the end", s)
	}
	if strings.TrimSpace(inner) == "" {
		return c, nil
	}
	for _, part := range strings.Split(inner, ",") {
		name, text, ok := strings.Cut(part, "=")
		a := CallArg{strings.TrimSpace(name), strings.TrimSpace(text)}
		if !ok || !ValidName(a.Name) || a.Text == "" {
			return Call{}, fmt.Errorf("%q: %q is no argument; write name = value", s, strings.TrimSpace(part))
		}
		for _, b := range c.Args {
			if b.Name == a.Name {
				return Call{}, fmt.Errorf("%q: argument %s comes twice", s, a.Name)
			}
		}
		c.Args = append(c.Args, a)
	}
	return c, nil
}

// ParseText reads a value of the type as people write it: "5 mL", "true",
// "idle". It is conformed to the type: in its unit, and one of its words.
func (t Type) ParseText(s string) (Value, error) {
	s = strings.TrimSpace(s)
	var v Value
	switch t.Kind {
	case Number, Integer:
		q, err := ParseQuantity(s)
		if err != nil {
			return Value{}, err
		}
		v = NumberValue(q)
		if t.Kind == Integer && q.Unit == One && q.Value == math.Trunc(q.Value) && math.Abs(q.Value) <= 1<<53 {
			v = IntegerValue(int64(q.Value))
		}
	case Bool:
		if s != "true" && s != "false" {
			return Value{}, fmt.Errorf("%q is not true or false", s)
		}
		v = BoolValue(s == "true")
	case Enum:
		v = EnumValue(s)
	case Text:
		v = TextValue(s)
	default:
		return Value{}, fmt.Errorf("a %s can't be written in a line", t.Kind)
	}
	return t.Conform(v)
}

// ResolveCall reads a call of one of the lab's commands. Its arguments are of
// the class's types; whether they are complete and within bounds is for the
// gate to say.
func (l *Lab) ResolveCall(s string) (CommandID, map[string]Value, error) {
	c, err := ParseCall(s)
	if err != nil {
		return CommandID{}, nil, err
	}
	id, spec, err := l.ResolveCommand(c.Path)
	if err != nil {
		return CommandID{}, nil, err
	}
	args := map[string]Value{}
	for _, a := range c.Args {
		p := spec.Arg(a.Name)
		if p == nil {
			var names []string
			for _, x := range spec.Args {
				names = append(names, x.Name)
			}
			return CommandID{}, nil, fmt.Errorf("%s has no argument %q%s", id, a.Name, didYouMean(a.Name, names))
		}
		v, err := p.Type.ParseText(a.Text)
		if err != nil {
			return CommandID{}, nil, fmt.Errorf("%s of %s: %w", a.Name, id, err)
		}
		args[a.Name] = v
	}
	return id, args, nil
}
