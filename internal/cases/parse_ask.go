package cases

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"labgate/internal/strict"
	"labgate/lab"
)

// Who asks, where nothing is said.
const (
	defaultRun       = "r1"
	defaultPrincipal = "planner_1"
	defaultNotAfter  = 60 * time.Second
)

// ask reads a command: a call, or a map of a call with what else is to be said
// about it. Keys of the step that it stands in count as well.
func (p *parser) ask(n *strict.Node, around *strict.Fields) *ask {
	a := &ask{run: defaultRun, principal: defaultPrincipal, notAfter: defaultNotAfter}
	call, f := n, around
	if n.Kind() == strict.Map {
		own := p.d.Map(n, "command", append([]string{"call"}, askKeys...)...)
		call = own.Require("call")
		p.askMore(own, a)
		if own.Get("raw") != nil {
			f = own
		}
	}
	if around != nil {
		p.askMore(around, a)
	}
	if call == nil {
		return nil
	}
	before := len(p.d.Issues)
	text := p.d.Text(call)
	if len(p.d.Issues) > before {
		return nil
	}
	var raw *strict.Node
	if f != nil {
		raw = f.Get("raw")
	}
	if err := p.call(a, text, raw); err != nil {
		p.add(call.Pos(), err.code, err.hint, "%s", err.say)
		return nil
	}
	return a
}

// askMore reads what is said about a command beside its call.
func (p *parser) askMore(f *strict.Fields, a *ask) {
	name := func(key string, to *string) {
		if n := f.Get(key); n != nil {
			*to = p.d.Text(n)
		}
	}
	name("id", &a.id)
	name("run", &a.run)
	name("campaign", &a.campaign)
	if n := f.Get("as"); n != nil {
		a.principal = p.d.Name(n, "principal")
	}
	if n := f.Get("id"); n != nil && (a.id == "" || len(a.id) > 64) {
		p.add(n.Pos(), "bad_value", "", "an id has 1 to 64 characters")
	}
	if n := f.Get("run"); n != nil && a.run == "" {
		p.add(n.Pos(), "bad_value", "leave it out", "a run has a name")
	}
	if n := f.Get("not_after"); n != nil {
		if a.notAfter = p.d.Duration(n); a.notAfter > maxNotAfter {
			p.add(n.Pos(), "bad_value", "", "%s is too long", lab.Seconds(a.notAfter))
		}
	}
	if n := f.Get("lease"); n != nil {
		l := p.d.Int(n)
		if l < 0 {
			p.add(n.Pos(), "bad_value", "", "a fencing number is not below 0")
		}
		v := uint64(max(l, 0))
		a.lease = &v
	}
	if n := f.Get("finally"); n != nil {
		a.finally = p.d.Bool(n)
	}
}

// named gives a command its id, and lets later steps speak of it.
func (p *parser) named(a *ask, at *strict.Node) {
	if a == nil {
		return
	}
	p.asks++
	if a.id == "" {
		a.id = fmt.Sprintf("c%d", p.asks)
		if p.ids[a.id] != nil {
			p.add(at.Pos(), "duplicate_id", "give it an id of its own", "the id %s, which it would get, is another command's", a.id)
		}
	}
	if p.ids[a.id] == nil {
		p.ids[a.id] = a
	}
	p.last = a
}

// problem is what is wrong with a call.
type problem struct{ code, hint, say string }

const rawHint = "raw: {…} carries what an agent may send"

// call resolves a call. A value of a wrong unit, or that is no finite number,
// is carried as it is: refusing it is the gate's business.
func (p *parser) call(a *ask, text string, raw *strict.Node) *problem {
	c, err := lab.ParseCall(text)
	if err != nil {
		return &problem{"bad_call", "pump_a.dose(volume = 5 mL, rate = 1 mL/min)", err.Error()}
	}
	id, spec, err := p.file.Lab.ResolveCommand(c.Path)
	if err != nil {
		return &problem{"unknown_command", "", err.Error()}
	}
	a.target, a.text, a.args = id, text, map[string]lab.Value{}
	if raw != nil {
		if len(c.Args) > 0 {
			return &problem{"bad_call", "either the call has them, or raw", "arguments in the call and in raw"}
		}
		a.raw = []byte(p.json(raw))
		a.text += " raw " + string(a.raw)
		return nil
	}
	for _, x := range c.Args {
		param := spec.Arg(x.Name)
		if param == nil {
			var names []string
			for _, y := range spec.Args {
				names = append(names, y.Name)
			}
			h := near(x.Name, names)
			if h == "" {
				h = rawHint
			}
			return &problem{"unknown_argument", h, fmt.Sprintf("%s has no argument %q", id, x.Name)}
		}
		v, err := argument(param.Type, x.Text)
		if err != nil {
			h := lab.UnitHint(err)
			if h == "" {
				h = rawHint
			}
			return &problem{"bad_value", h, fmt.Sprintf("%s of %s: %v", x.Name, id, err)}
		}
		a.args[x.Name] = v
	}
	return nil
}

// argument reads what somebody may send in place of a value of a type.
func argument(t lab.Type, text string) (lab.Value, error) {
	v, err := t.ParseText(text)
	if err == nil {
		return v, nil
	}
	if q, qerr := lab.ParseQuantity(text); qerr == nil {
		return lab.NumberValue(q), nil
	}
	word, unit, _ := strings.Cut(text, " ")
	if x, ok := notFinites[word]; ok && (t.Kind == lab.Number || t.Kind == lab.Integer) {
		u := t.Unit
		if unit != "" {
			if u, err = lab.ParseUnit(unit); err != nil {
				return lab.Value{}, err
			}
		}
		return lab.Value{Kind: lab.Number, Num: x, Unit: u}, nil
	}
	if t.Kind == lab.Enum && text != "" && !strings.ContainsAny(text, "\"'") {
		return lab.EnumValue(text), nil // a word that is none of the type's
	}
	return lab.Value{}, err
}

// json writes a node as an agent would send it. What is no JSON, such as a bare
// NaN, is written as it stands.
func (p *parser) json(n *strict.Node) string {
	switch n.Kind() {
	case strict.Map:
		f := p.d.Map(n, "map")
		var parts []string
		for _, k := range f.Keys() {
			parts = append(parts, strconv.Quote(k)+":"+p.json(f.Get(k)))
		}
		return "{" + strings.Join(parts, ",") + "}"
	case strict.List:
		var parts []string
		for _, e := range p.d.List(n) {
			parts = append(parts, p.json(e))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case strict.Null:
		return "null"
	}
	text := n.Text()
	_, odd := notFinites[text]
	_, err := lab.ParseNumber(text)
	switch {
	case n.Quoted():
	case odd || text == "true" || text == "false" || err == nil:
		return text
	case errors.Is(err, strconv.ErrRange): // finite in the file, and beyond what a program can hold
		return text
	}
	return jsonText(text)
}
