package protocols

import (
	"math"
	"strings"

	"labgate/internal/strict"
	"labgate/lab"
)

// over reads the values of a repeat's own names: lists of one length, or
// ranges {from, to, points}. Where there are several names, each iteration has
// one value of each.
func (r *parser) over(s *Step, n *strict.Node) {
	first := ""
	for _, e := range r.entries(n, "over", MaxInputs) {
		r.name("value", e.key, e.pos)
		it := Items{Name: e.key, Pos: e.pos, slot: -1}
		before := len(r.Issues)
		list := []Items{it}
		switch {
		case e.node.Kind() == strict.Map:
			list[0].Values = r.spaced(e.node, e.key)
		case e.node.Kind() == strict.Scalar && e.node.Text() == "samples":
			list[0].Values = r.everySample(e.node)
		case e.node.IsList() && len(r.List(e.node)) > 0 && r.List(e.node)[0].Kind() == strict.Map:
			list = r.places(e.node, it)
		default:
			list[0].Values = r.items(e.node, e.key)
		}
		if len(r.Issues) > before || len(list) == 0 {
			continue
		}
		switch n := len(list[0].Values); {
		case s.Max == 0:
			s.Max, first = n, e.key
		case n != s.Max:
			r.add(e.pos, "bad_value", "make them as long, or put one repeat into another", "%s has %s, %s has %d", e.key, plural(n, "value"), first, s.Max)
		}
		s.Over = append(s.Over, list...)
	}
	if n.Kind() == strict.Map && len(r.entries(n, "over", MaxInputs)) == 0 {
		r.add(n.Pos(), "empty", "as in over: {volume: [0.1 mL, 0.2 mL]}", "over names nothing")
	}
	s.Max = max(s.Max, 1)
}

// everySample is all samples of the file, in its order.
func (r *parser) everySample(n *strict.Node) (values []lab.Value) {
	for _, name := range r.p.sampleNames() {
		values = append(values, lab.EnumValue(name))
	}
	if len(values) == 0 {
		r.add(n.Pos(), "empty", "name them at the top of the file: samples: [a, b]", "this file has no samples")
	}
	return values
}

// places reads a list of values that have parts, such as positions:
// [{x: 1 mm, y: 2 mm}, …]. Each has the parts of the first.
func (r *parser) places(n *strict.Node, it Items) []Items {
	var out []Items
	elements := r.list(n, "values of "+it.Name, MaxRepeats)
	var names []string
	for k, e := range elements {
		f := r.Map(e, "value of "+it.Name, names...)
		if e.Kind() != strict.Map {
			return nil
		}
		if k == 0 {
			for _, part := range f.Keys() {
				r.name("part", part, f.KeyPos(part))
				out = append(out, Items{Name: it.Name, Part: part, Pos: it.Pos, slot: -1})
			}
			names = f.Keys()
			if len(names) == 0 {
				r.add(e.Pos(), "empty", "as in {x: 1 mm, y: 2 mm}", "a value of %s has no parts", it.Name)
				return nil
			}
		}
		for i := range out {
			part := f.Require(out[i].Part)
			if part == nil {
				continue
			}
			t := lab.Type{}
			if k == 0 {
				t = r.typeOfItem(part)
			} else if len(out[i].Values) > 0 {
				t = lab.Type{Kind: out[i].Values[0].Kind, Unit: out[i].Values[0].Unit, Enum: r.p.sampleNames()}
			}
			if t.Kind == lab.Missing {
				continue // reported
			}
			if v, ok := r.value(part, t, "a value of "+out[i].full(), false); ok {
				out[i].Values = append(out[i].Values, v)
			}
		}
	}
	return out
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return lab.FormatNumber(float64(n)) + " " + what + "s"
}

// items reads a list of values; the first says of which type they are.
func (r *parser) items(n *strict.Node, name string) []lab.Value {
	list := r.list(n, "values of "+name, MaxRepeats)
	if n.IsList() && len(list) == 0 {
		r.add(n.Pos(), "empty", "", "%s has no values", name)
	}
	var out []lab.Value
	var t lab.Type
	for i, e := range list {
		if i == 0 {
			if t = r.typeOfItem(e); t.Kind == lab.Missing {
				return nil
			}
		}
		v, ok := r.value(e, t, "a value of "+name, false)
		if !ok {
			return nil
		}
		out = append(out, v)
	}
	return out
}

func (r *parser) typeOfItem(n *strict.Node) lab.Type {
	before := len(r.Issues)
	text := r.Text(n)
	if len(r.Issues) > before {
		return lab.Type{}
	}
	if text == "true" || text == "false" {
		return lab.Type{Kind: lab.Bool}
	}
	if r.p.Sample(text) != nil {
		return lab.Type{Kind: lab.Enum, Enum: r.p.sampleNames()}
	}
	q, err := lab.ParseQuantity(text)
	if err != nil {
		r.add(n.Pos(), "wrong_type", r.near(text, r.p.sampleNames()), "%q is no quantity and no sample; values to repeat over are quantities, samples, true or false", clip(text))
		return lab.Type{}
	}
	return lab.Type{Kind: lab.Number, Unit: q.Unit}
}

// spaced reads {from, to, points}: values with equal distances, both ends
// among them.
func (r *parser) spaced(n *strict.Node, name string) []lab.Value {
	f := r.Map(n, "range of "+name, "from", "to", "points")
	before := len(r.Issues)
	from, to := r.Quantity(f.Require("from")), r.Quantity(f.Require("to"))
	points := int(r.count(f.Require("points"), "points", MaxRepeats))
	if len(r.Issues) > before {
		return nil
	}
	end, err := to.In(from.Unit)
	switch {
	case err != nil:
		r.add(f.Get("to").Pos(), "wrong_dimension", "", "from is %s, to is %s", from, to)
		return nil
	case points < 2:
		r.add(f.Get("points").Pos(), "out_of_bounds", "", "%s has two ends: it takes at least 2 points", name)
		return nil
	}
	out := make([]lab.Value, points)
	for i := range out {
		// From the nearer end, so that both ends are exactly what is written.
		x := from.Value + (end.Value-from.Value)*float64(i)/float64(points-1)
		if 2*i > points-1 {
			x = end.Value - (end.Value-from.Value)*float64(points-1-i)/float64(points-1)
		}
		out[i] = lab.NumberValue(lab.Quantity{Value: x, Unit: from.Unit})
	}
	return out
}

// ramp reads a setpoint that moves: one command every so often, the last of
// them with exactly the end's value. It is a repeat of one command whose
// argument counts with i.
func (r *parser) ramp(s *Step, f *strict.Fields, n *strict.Node) {
	m := r.Map(n, "ramp", "set", "from", "to", "over", "rate", "every")
	if n.Kind() != strict.Map {
		return
	}
	before := len(r.Issues)
	set, every := r.Text(m.Require("set")), r.duration(m.Require("every"), "every")
	from, to := r.rampEnd(m.Require("from")), r.rampEnd(m.Require("to"))
	over := r.rampTime(m, from, to)
	if len(r.Issues) > before {
		return
	}
	steps := math.Ceil(over/every.Seconds() - 1e-9)
	if steps < 1 || steps > MaxRepeats {
		r.add(m.Get("every").Pos(), "out_of_bounds", "", "this ramp has %s steps; it takes 1 to %d", lab.FormatNumber(steps), MaxRepeats)
		return
	}
	last := strings.LastIndexByte(set, '.')
	if last < 1 {
		r.add(m.Get("set").Pos(), "bad_value", "write role.command.argument, as in reactor.heat.target", "%q is no argument of a command", clip(set))
		return
	}
	s.Kind, s.Max, s.Every, s.ramp = Repeat, int(steps), every, true
	count := lab.FormatNumber(steps)
	text := to.Text + " - (" + to.Text + " - " + from.Text + ") * ((" + count + " - i) / " + count + ")"
	ends := from.Text + ", " + to.Text + "), "
	within := "min(max(" + ends + "max(min(" + ends + text + "))"
	d := &Step{ID: "set", Path: s.Path + ".set", Kind: Do, Pos: m.Get("set").Pos(), index: len(r.p.steps)}
	r.p.steps = append(r.p.steps, d)
	s.Steps = []*Step{d}
	if r.command(d, set[:last], d.Pos) {
		r.with(d, f.Get("with"), ramped{set[last+1:], lab.Source{Text: text, Pos: from.Pos}, within})
	}
	d.end = len(r.p.steps)
}

// ramped is the argument that a ramp sets by itself.
type ramped struct {
	name   string
	src    lab.Source
	within string // the same, said so that it lies between its ends over ranges too
}

// rampEnd reads a plain quantity or a formula, as an expression in brackets.
func (r *parser) rampEnd(n *strict.Node) lab.Source {
	if n == nil {
		return lab.Source{}
	}
	if src, ok := r.Formula(n); ok {
		src.Text = "(" + src.Text + ")"
		src.Pos.Column-- // the bracket
		return src
	}
	before := len(r.Issues)
	q := r.Quantity(n)
	if len(r.Issues) > before {
		return lab.Source{}
	}
	return lab.Source{Text: literal(lab.NumberValue(q)), Pos: n.Pos()}
}

// rampTime is how long a ramp takes, in seconds: over, or what its rate makes
// of two plain ends.
func (r *parser) rampTime(m *strict.Fields, from, to lab.Source) float64 {
	over, rate := m.Get("over"), m.Get("rate")
	switch {
	case over != nil && rate != nil:
		r.add(rate.Pos(), "bad_value", "leave one of them out", "a ramp has over: a time, or a rate")
		return 0
	case over != nil:
		return r.duration(over, "over").Seconds()
	case rate == nil:
		r.add(m.Pos(), "missing_key", "over: a time, or rate: as in 1 K/min", "nothing says how fast this ramp is")
		return 0
	}
	before := len(r.Issues)
	q := r.Quantity(rate)
	a, errA := lab.ParseQuantity(trimBrackets(from.Text))
	b, errB := lab.ParseQuantity(trimBrackets(to.Text))
	if len(r.Issues) > before {
		return 0
	}
	if errA != nil || errB != nil {
		r.add(rate.Pos(), "bad_value", "give over: a time", "a rate needs plain ends: how long the ramp takes would depend on the inputs")
		return 0
	}
	seconds := math.Abs(b.Base()-a.Base()) / math.Abs(q.Base())
	want := a.Unit.Dim()
	if want == lab.Temperature {
		want = lab.TempDiff
	}
	want.T--
	if q.Unit.Dim() != want || a.Unit.Dim() != b.Unit.Dim() || math.IsNaN(seconds) || math.IsInf(seconds, 0) {
		r.add(rate.Pos(), "wrong_dimension", "", "from %s to %s at a rate of %s makes no time", a, b, q)
		return 0
	}
	return seconds
}

func trimBrackets(s string) string {
	if len(s) > 1 && s[0] == '(' && s[len(s)-1] == ')' {
		return s[1 : len(s)-1]
	}
	return s
}
