package opcua

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/gopcua/opcua/ua"

	"labgate/drivers"
	"labgate/lab"
)

// maxText is the most that is kept of a text from a device, in runes.
const maxText = 256

// reading makes a reading of what a server answered for one node. It never
// fails: what can't be trusted is of bad quality, and the error says why. The
// source time falls back to the server's and then to received, because a
// server may send null times.
func (p *property) reading(dv *ua.DataValue, received time.Time, epoch uint64) (lab.Reading, error) {
	r := lab.Reading{Source: received, Received: received, Epoch: epoch}
	if dv == nil {
		return r, errors.New("no answer")
	}
	switch {
	case !dv.SourceTimestamp.IsZero():
		r.Source = dv.SourceTimestamp
	case !dv.ServerTimestamp.IsZero():
		r.Source = dv.ServerTimestamp
	}
	v, err := p.value(dv.Value)
	r.Value = v
	if err == nil {
		err = p.says.differs(p.wire.Unit)
	}
	if err == nil {
		r.Quality = quality(dv.Status)
	}
	return r, err
}

// quality is the severity in a status code's two top bits (OPC 10000-4, 7.39).
func quality(s ua.StatusCode) lab.Quality {
	switch uint32(s) >> 30 {
	case 0:
		return lab.Good
	case 1:
		return lab.Uncertain
	}
	return lab.Bad
}

// value converts a variant to the property's type and unit. A number that is
// not finite comes back together with an error.
func (p *property) value(v *ua.Variant) (lab.Value, error) {
	if v == nil || v.Value() == nil {
		return lab.Value{}, fmt.Errorf("no value")
	}
	raw := v.Value()
	switch p.typ.Kind {
	case lab.Number, lab.Integer:
		x, err := number(raw)
		if err != nil {
			return lab.Value{}, err
		}
		return drivers.FromWire(x, p.wire.Unit, p.wire.Scale, p.typ)
	case lab.Bool:
		if b, ok := raw.(bool); ok && p.wire.Map == nil {
			return lab.BoolValue(b), nil
		}
	case lab.Text:
		if p.wire.Map != nil {
			break
		}
		if s, ok := raw.(string); ok {
			return lab.TextValue(drivers.Printable(s, maxText)), nil
		}
		return lab.Value{}, fmt.Errorf("a %T is no text: %w", raw, errWrongType)
	}
	name, err := wireName(raw)
	if err != nil {
		return lab.Value{}, err
	}
	return drivers.FromName(name, p.wire.Map, p.typ)
}

// number takes numeric scalars only: no bool, text or array is a number. A
// whole number beyond ±2⁵³ would change in a float64 and is refused.
func number(raw any) (float64, error) {
	var n int64
	switch x := raw.(type) {
	case float64:
		return x, nil
	case float32:
		return float64(x), nil
	case int8:
		n = int64(x)
	case uint8:
		n = int64(x)
	case int16:
		n = int64(x)
	case uint16:
		n = int64(x)
	case int32:
		n = int64(x)
	case uint32:
		n = int64(x)
	case int64:
		n = x
	case uint64:
		if x > drivers.MaxWhole {
			return 0, fmt.Errorf("%d is too large", x)
		}
		n = int64(x)
	default:
		return 0, fmt.Errorf("a %T is no number: %w", raw, errWrongType)
	}
	if n > drivers.MaxWhole || n < -drivers.MaxWhole {
		return 0, fmt.Errorf("%d is too large", n)
	}
	return float64(n), nil
}

// wireName is how an integer, text or bool is written in a profile's map.
func wireName(raw any) (string, error) {
	switch x := raw.(type) {
	case string:
		return x, nil
	case bool:
		return strconv.FormatBool(x), nil
	case float32, float64:
		return "", fmt.Errorf("a %T is no name: %w", raw, errWrongType)
	}
	n, err := number(raw)
	if err != nil {
		return "", err
	}
	return strconv.FormatInt(int64(n), 10), nil
}

// integers are the whole wire types with their ranges (OPC 10000-6, 5.2.2).
// The 64-bit ones end where a float64 has no gaps.
var integers = map[string]struct {
	min, max float64
	variant  func(float64) any
}{
	"sbyte":  {math.MinInt8, math.MaxInt8, func(x float64) any { return int8(x) }},
	"byte":   {0, math.MaxUint8, func(x float64) any { return uint8(x) }},
	"int16":  {math.MinInt16, math.MaxInt16, func(x float64) any { return int16(x) }},
	"uint16": {0, math.MaxUint16, func(x float64) any { return uint16(x) }},
	"int32":  {math.MinInt32, math.MaxInt32, func(x float64) any { return int32(x) }},
	"uint32": {0, math.MaxUint32, func(x float64) any { return uint32(x) }},
	"int64":  {-drivers.MaxWhole, drivers.MaxWhole, func(x float64) any { return int64(x) }},
	"uint64": {0, drivers.MaxWhole, func(x float64) any { return uint64(x) }},
}

// carries reports whether a wire type is known and can carry a kind at all.
func carries(wire string, kind lab.TypeKind) bool {
	numeric := kind == lab.Number || kind == lab.Integer
	switch wire {
	case "double", "float":
		return numeric
	case "boolean":
		return kind == lab.Bool
	case "string":
		return kind == lab.Text || kind == lab.Enum
	}
	_, ok := integers[wire]
	return ok && numeric
}

// variant writes an argument as the wire type. What the type can't carry
// unchanged is an error: nothing is rounded or clamped.
func variant(in *lab.WireInput, v lab.Value) (*ua.Variant, error) {
	switch {
	case in.Type == "boolean" && v.Kind == lab.Bool:
		return ua.NewVariant(v.Bool)
	case in.Type == "string" && (v.Kind == lab.Text || v.Kind == lab.Enum):
		return ua.NewVariant(v.Text)
	}
	x, err := drivers.ToWire(v, in.Unit, in.Scale)
	if err != nil {
		return nil, err
	}
	switch in.Type {
	case "double":
		return ua.NewVariant(x)
	case "float":
		f := float32(x)
		// The decimal number that a person wrote has to survive, not its bits.
		if strconv.FormatFloat(x, 'g', -1, 64) != strconv.FormatFloat(float64(f), 'g', -1, 32) {
			return nil, fmt.Errorf("%v changes as a float", x)
		}
		return ua.NewVariant(f)
	}
	t, ok := integers[in.Type]
	n, whole := drivers.Whole(x)
	switch {
	case !ok:
		return nil, fmt.Errorf("the wire type %q can't carry a %s", in.Type, v.Kind)
	case !whole:
		return nil, fmt.Errorf("%v is not a whole number, as the wire's %s has to be", x, in.Type)
	case n < t.min || n > t.max:
		return nil, fmt.Errorf("%v is beyond the wire's %s (%v to %v)", n, in.Type, t.min, t.max)
	}
	return ua.NewVariant(t.variant(n))
}

// message is what a command says on the wire.
type message struct {
	writes []*ua.Variant // by the command's writes
	args   []*ua.Variant // of its method, in order
}

// message writes all arguments. One that is missing, one that has no way onto
// the wire, and a value that the server says it does not take are errors.
func (c *command) message(args map[string]lab.Value) (m message, err error) {
	for name := range args {
		if !c.sends(name) {
			return m, fmt.Errorf("argument %s has no way onto the wire", name)
		}
	}
	one := func(in *lab.WireInput) (*ua.Variant, error) {
		v, ok := args[in.Arg]
		if !ok {
			return nil, fmt.Errorf("argument %s is missing", in.Arg)
		}
		x, err := variant(in, v)
		if err != nil {
			return nil, fmt.Errorf("argument %s: %w", in.Arg, err)
		}
		return x, nil
	}
	for i := range c.writes {
		w := &c.writes[i]
		x, unit := w.fixed, (*lab.Unit)(nil)
		if w.in != nil {
			if x, err = one(w.in); err != nil {
				return m, err
			}
			if w.in.Unit.Dim() != lab.None && (w.in.Scale == 0 || w.in.Scale == 1) {
				unit = &w.in.Unit
			}
		}
		if err := w.says.forbids(w.typ, unit, x); err != nil {
			return m, fmt.Errorf("node %s: %w", w.node, err)
		}
		m.writes = append(m.writes, x)
	}
	for _, in := range c.args {
		x, err := one(in)
		if err != nil {
			return m, err
		}
		m.args = append(m.args, x)
	}
	return m, nil
}

func (c *command) sends(arg string) bool {
	for i := range c.wire.Inputs {
		if c.wire.Inputs[i].Arg == arg {
			return true
		}
	}
	return false
}
