package preflight

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"labgate/lab"
	"labgate/protocols"
	"labgate/safety"
)

// maxTrials bounds the inputs that are tried in search of counter-examples.
const maxTrials = 96

// All checks a protocol for every value that its inputs may have. A step is
// proved only if it is so for all of them. Where an input can be found that
// the rules refuse, the refusal says which: a counter-example. The issues are
// those of binding.
func All(rules *safety.Rules) func(*protocols.Protocol, *lab.Lab) (Result, lab.Issues) {
	m := newModel(rules)
	return func(p *protocols.Protocol, l *lab.Lab) (Result, lab.Issues) {
		plan, issues := protocols.BindAll(p, l)
		if len(issues) > 0 {
			return Result{}, issues
		}
		w := newWalk(m, plan)
		w.whole()
		r := w.result()
		if len(p.Inputs) == 0 {
			return r, nil
		}
		found := lab.Issues{}
		for _, in := range trials(p) {
			found = m.try(p, l, in, found)
		}
		return r.with(found), nil
	}
}

// try checks one set of inputs and adds what it refuses that nothing refused
// before.
func (m *model) try(p *protocols.Protocol, l *lab.Lab, inputs map[string]lab.Value, found lab.Issues) lab.Issues {
	plan, issues := protocols.Bind(p, l, inputs)
	if len(issues) == 0 {
		w := newWalk(m, plan)
		w.whole()
		issues = w.issues
	}
	for _, i := range issues {
		if slices.ContainsFunc(found, func(o lab.Issue) bool { return o.Path == i.Path && o.Rule == i.Rule && o.Code == i.Code }) {
			continue
		}
		i.Say = fmt.Sprintf("with %s: %s", sayInputs(inputs), i.Say)
		found = append(found, i)
	}
	return found
}

func sayInputs(inputs map[string]lab.Value) string {
	var parts []string
	for n, v := range inputs {
		parts = append(parts, n+" = "+v.String())
	}
	sort.Strings(parts)
	return strings.Join(parts, ", ")
}

// with moves steps for which a counter-example was found to the refused ones.
func (r Result) with(found lab.Issues) Result {
	refused := map[string]bool{}
	for _, i := range found {
		refused[stepOf(i)] = true
	}
	keep := lab.Issues{}
	for _, i := range r.Refused { // said better with its example
		if !slices.ContainsFunc(found, func(o lab.Issue) bool { return o.Path == i.Path && o.Rule == i.Rule }) {
			keep = append(keep, i)
		}
	}
	r.Refused = append(keep, found...)
	r.Proved = slices.DeleteFunc(r.Proved, func(s string) bool { return refused[s] })
	r.Live = slices.DeleteFunc(r.Live, func(l Live) bool { return refused[l.Step] })
	return r
}

// stepOf is the step that an issue is about.
func stepOf(i lab.Issue) string {
	path := strings.TrimPrefix(i.Path, "steps.")
	for _, part := range []string{".args.", ".with."} {
		if at := strings.Index(path, part); at >= 0 {
			path = path[:at]
		}
	}
	return path
}

// trials are inputs worth trying: the defaults, the corners of what is
// allowed, and the middle; every input's ends by themselves first.
func trials(p *protocols.Protocol) []map[string]lab.Value {
	ends := make([][]lab.Value, len(p.Inputs))
	base := map[string]lab.Value{}
	for i := range p.Inputs {
		in := &p.Inputs[i]
		ends[i] = endsOf(in)
		if len(ends[i]) == 0 {
			return nil // an input without bounds and default: nothing can be tried
		}
		base[in.Name] = ends[i][0]
	}
	list := []map[string]lab.Value{base}
	for i := range p.Inputs {
		for _, v := range ends[i][1:] {
			list = append(list, changed(base, p.Inputs[i].Name, v))
		}
	}
	for corner := range 1 << min(len(p.Inputs), 6) {
		c := map[string]lab.Value{}
		for i := range p.Inputs {
			e := ends[i]
			if corner>>(i%6)&1 == 1 {
				c[p.Inputs[i].Name] = e[len(e)-1]
			} else {
				c[p.Inputs[i].Name] = e[min(1, len(e)-1)]
			}
		}
		list = append(list, c)
	}
	return list[:min(len(list), maxTrials)]
}

func changed(base map[string]lab.Value, name string, v lab.Value) map[string]lab.Value {
	c := map[string]lab.Value{}
	for k, x := range base {
		c[k] = x
	}
	c[name] = v
	return c
}

// endsOf are values of an input: its default or the like first, then its least,
// its middle and its greatest.
func endsOf(in *protocols.Input) []lab.Value {
	var list []lab.Value
	if in.Default != nil {
		list = append(list, *in.Default)
	}
	switch in.Type.Kind {
	case lab.Bool:
		return append(list, lab.BoolValue(false), lab.BoolValue(true))
	case lab.Enum:
		for _, w := range in.Type.Enum {
			list = append(list, lab.EnumValue(w))
		}
		return list
	}
	if in.Min != nil {
		list = append(list, *in.Min)
	}
	if in.Min != nil && in.Max != nil {
		mid := *in.Min
		mid.Num = in.Min.Num/2 + in.Max.Num/2
		if in.Type.Kind == lab.Integer {
			mid.Num = math.Floor(mid.Num)
		}
		list = append(list, mid)
	}
	if in.Max != nil {
		list = append(list, *in.Max)
	}
	return list
}
