package protocols

import (
	"fmt"
	"math"
	"sort"
	"strings"

	"labgate/lab"
)

// ParseValue reads a value as a person types it, without knowing its type:
// true and false, quantities, and anything else as text. CheckInputs settles
// what it is.
func ParseValue(text string) lab.Value {
	t := strings.TrimSpace(text)
	switch t {
	case "true", "false":
		return lab.BoolValue(t == "true")
	}
	q, err := lab.ParseQuantity(t)
	switch {
	case err != nil:
		return lab.TextValue(text)
	case q.Unit == lab.One && q.Value == math.Trunc(q.Value) && math.Abs(q.Value) <= 1<<53:
		return lab.IntegerValue(int64(q.Value))
	}
	return lab.NumberValue(q)
}

// CheckInputs checks what a proposal gives against what the protocol takes and
// fills in the defaults. It reports every issue at once, with the nearest
// legal value where there is one; values are converted to the protocol's
// units, but never moved into bounds, rounded or guessed. The codes are
// input_missing, unknown_input, wrong_type, no_unit, wrong_dimension,
// not_finite and out_of_bounds.
func (p *Protocol) CheckInputs(inputs map[string]lab.Value) (map[string]lab.Value, lab.Issues) {
	out := map[string]lab.Value{}
	var issues lab.Issues
	var names []string
	for i := range p.Inputs {
		in := &p.Inputs[i]
		names = append(names, in.Name)
		v, ok := inputs[in.Name]
		switch {
		case !ok && in.Default != nil:
			out[in.Name] = *in.Default
			continue
		case !ok:
			issues = append(issues, lab.Issue{Code: "input_missing", Path: "inputs." + in.Name, Allowed: in.allowed(), Say: fmt.Sprintf("input %s is not given; %s is wanted", in.Name, in.allowed())})
			continue
		}
		x, issue := in.Check(v)
		if issue != nil {
			issues = append(issues, *issue)
			continue
		}
		out[in.Name] = x
	}
	unknown := make([]string, 0, len(inputs))
	for name := range inputs {
		if p.Input(name) == nil {
			unknown = append(unknown, name)
		}
	}
	sort.Strings(unknown)
	for i, name := range unknown {
		if i == maxUnknown {
			issues = append(issues, lab.Issue{Code: "unknown_input", Path: "inputs", Allowed: strings.Join(names, ", "), Say: fmt.Sprintf("and %d more inputs that %s does not take", len(unknown)-i, p.Name)})
			break
		}
		shown := clip(name)
		issues = append(issues, lab.Issue{Code: "unknown_input", Path: "inputs." + shown, Got: shown, Allowed: strings.Join(names, ", "),
			Hint: didYouMean(name, names), Say: fmt.Sprintf("%s takes no input %q", p.Name, shown)})
	}
	if len(issues) > 0 {
		return nil, issues
	}
	return out, nil
}

// clip shortens text from outside for messages.
func clip(s string) string {
	if r := []rune(s); len(r) > 64 {
		return string(r[:64]) + "…"
	}
	return s
}

// kinds are the types of values, for sentences.
var kinds = map[lab.TypeKind]string{lab.Number: "a number", lab.Integer: "a whole number", lab.Bool: "a bool", lab.Enum: "a choice",
	lab.Text: "a text", lab.Table: "a table", lab.Blob: "a file"}

// allowed says what the input may be.
func (in *Input) allowed() string {
	var s string
	switch in.Type.Kind {
	case lab.Enum:
		return in.Type.String()
	case lab.Bool:
		return "true or false"
	case lab.Integer:
		s = "a whole number"
	case lab.Number:
		if s = "a " + in.Type.String(); in.Type.Unit == lab.One {
			s = "a number"
		}
	}
	switch {
	case in.Min != nil && in.Max != nil:
		return fmt.Sprintf("%s from %s to %s", s, in.Min, in.Max)
	case in.Min != nil:
		return fmt.Sprintf("%s, at least %s", s, in.Min)
	case in.Max != nil:
		return fmt.Sprintf("%s, at most %s", s, in.Max)
	}
	return s
}

// Check checks one value. The issue is nil where it is legal; the value is then
// in the input's unit.
func (in *Input) Check(v lab.Value) (lab.Value, *lab.Issue) {
	bad := func(code, format string, args ...any) (lab.Value, *lab.Issue) {
		i := &lab.Issue{Code: code, Path: "inputs." + in.Name, Got: clip(v.String()), Allowed: in.allowed(),
			Say: fmt.Sprintf("input %s: ", in.Name) + fmt.Sprintf(format, args...)}
		if near, ok := in.nearest(v); ok {
			i.Nearest, i.Repairable = &near, true
		}
		return lab.Value{}, i
	}
	number := in.Type.Kind == lab.Number || in.Type.Kind == lab.Integer
	given := v.Kind == lab.Number || v.Kind == lab.Integer
	switch {
	case given && (math.IsNaN(v.Num) || math.IsInf(v.Num, 0)), number && v.Kind == lab.Text && notFinite(v.Text):
		return bad("not_finite", "%s is not a finite number", clip(strings.Trim(v.String(), `"`)))
	case v.Kind == lab.Missing:
		return bad("wrong_type", "it is null; %s is wanted", in.allowed())
	case number != given:
		return bad("wrong_type", "%s is %s; %s is wanted", clip(v.String()), kinds[v.Kind], in.allowed())
	case number && v.Unit == lab.One && in.Type.Unit.Dim() != lab.None:
		return bad("no_unit", "%s has no unit; %s is wanted", v, in.allowed())
	case number && v.Unit.Dim() != in.Type.Unit.Dim():
		return bad("wrong_dimension", "%s is a %s; %s is wanted", v, v.Unit.Dim(), in.allowed())
	}
	x, err := in.Type.Conform(v)
	switch {
	case err != nil && in.Type.Kind == lab.Enum && (v.Kind == lab.Text || v.Kind == lab.Enum):
		return bad("out_of_bounds", "%s is not %s", clip(v.String()), in.Type)
	case err != nil:
		return bad("wrong_type", "%s is %s; %s is wanted", clip(v.String()), kinds[v.Kind], in.allowed())
	}
	if _, out := in.param().CheckBounds(x); out {
		return bad("out_of_bounds", "%s is out of bounds; %s is allowed", v, in.allowed())
	}
	return x, nil
}

func notFinite(s string) bool {
	switch strings.ToLower(strings.TrimLeft(strings.TrimSpace(s), "+-.")) {
	case "nan", "inf", "infinity":
		return true
	}
	return false
}

// nearest is the legal value that an illegal one most likely stands for: the
// bound that it is beyond, the number in the input's unit, the choice spelled
// right. It is a suggestion to the one who proposes and is never put in place.
func (in *Input) nearest(v lab.Value) (lab.Value, bool) {
	if in.Type.Kind == lab.Enum {
		if len(v.Text) > maxName {
			return lab.Value{}, false
		}
		near := lab.Nearest(v.Text, in.Type.Enum)
		return lab.EnumValue(near), near != "" && v.Kind == lab.Text
	}
	if v.Kind == lab.Text {
		v = ParseValue(v.Text)
	}
	unitless := (v.Kind == lab.Integer || v.Kind == lab.Number && v.Unit == lab.One) && in.Type.Kind == lab.Number && in.Type.Unit.Dim() != lab.None
	if unitless {
		v = lab.NumberValue(lab.Quantity{Value: v.Num, Unit: in.Type.Unit})
	}
	x, err := in.Type.Conform(v)
	if err != nil {
		return lab.Value{}, false
	}
	i, out := in.param().CheckBounds(x)
	if !out {
		return x, true
	}
	if unitless || i.Nearest == nil { // out of bounds in our unit: it was probably meant in another
		return lab.Value{}, false
	}
	return *i.Nearest, true
}
