package configs

import (
	"strings"
	"unicode/utf8"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/lab/expr"
)

// change reads what a property becomes: an expression, "+= expression", or a
// range, "[low, high]" or a list of two.
func (r reader) change(n *strict.Node) lab.Change {
	if n.IsList() {
		list := r.List(n)
		if len(list) != 2 {
			r.add(n.Pos(), "bad_value", "[low, high]", "a range has two ends, this one has %d", len(list))
			return lab.Change{}
		}
		return lab.Change{Low: r.source(list[0]), High: r.source(list[1])}
	}
	src := r.Source(n)
	switch text := src.Text; {
	case strings.HasPrefix(text, "+="):
		return lab.Change{Add: true, To: cut(src, 2, len(text))}
	case strings.HasPrefix(text, "["):
		comma := topComma(text)
		if comma < 0 || !strings.HasSuffix(text, "]") {
			r.add(n.Pos(), "bad_value", "[low, high]", "%q is not a range", text)
			return lab.Change{}
		}
		return lab.Change{Low: cut(src, 1, comma), High: cut(src, comma+1, len(text)-1)}
	}
	return lab.Change{To: src}
}

// cut is the part of an expression from one byte offset to another, without
// the blanks around it, at its own position.
func cut(src lab.Source, from, to int) lab.Source {
	part := src.Text[from:to]
	from += len(part) - len(strings.TrimLeft(part, " "))
	src.Pos.Column += utf8.RuneCountInString(src.Text[:from])
	src.Text = strings.TrimSpace(part)
	return src
}

// topComma is the offset of the one comma in "[a, b]" that stands in no
// parentheses; -1 where there is none or several.
func topComma(s string) int {
	depth, at := 0, -1
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 && at >= 0 {
				return -1
			}
			if depth == 0 {
				at = i
			}
		}
	}
	return at
}

// checkChange compiles a change of a property of type t in a scope.
func (r reader) checkChange(c *lab.Change, t lab.Type, s expr.Scope) {
	if t.Kind == lab.Missing {
		return // reported where the property stands
	}
	number := t.Kind == lab.Number || t.Kind == lab.Integer
	switch {
	case (c.Add || c.Low.Text != "") && !number:
		r.add(c.Pos, "wrong_type", "", "%s is a %s: it can't be added to, and has no range", c.Property, t.Kind)
		return
	case t.Kind == lab.Enum && contains(t.Enum, c.To.Text):
		return
	case t.Kind == lab.Enum && lab.ValidName(c.To.Text):
		if _, err := s.Lookup(c.To.Text); err != nil {
			r.add(c.To.Pos, "unknown_name", "", "%s is not %s%s", c.To.Text, t, didYouMean(c.To.Text, t.Enum))
			return
		}
	}
	want := t
	if c.Add {
		want = difference(t)
	}
	for _, src := range []lab.Source{c.To, c.Low, c.High} {
		if src.Text != "" {
			r.typed(src, s, want, "the change of "+c.Property)
		}
	}
}

// difference is the type of the difference of two values.
func difference(t lab.Type) lab.Type {
	if t.Unit.Dim() == lab.Temperature {
		t.Unit = lab.Q(0, "K").Unit
	}
	return t
}

// typed compiles an expression and checks that it gives a type.
func (r reader) typed(src lab.Source, s expr.Scope, want lab.Type, what string) {
	p := r.compile(src, s)
	if p == nil {
		return
	}
	if got := p.Type(); !fits(got, want) {
		code := "wrong_type"
		if got.Kind == lab.Number && want.Kind == lab.Number {
			code = "wrong_dimension"
		}
		r.add(src.Pos, code, "", "%s: %s is %s; %s is wanted", what, src.Text, sayType(got), sayType(want))
	}
}

func sayType(t lab.Type) string {
	if t.Kind == lab.Number && t.Unit.Dim() == lab.None {
		return "a plain number"
	}
	return "a " + t.String()
}

// fits reports whether an expression of type got may stand where want is
// declared. Integers are dimensionless numbers in expressions.
func fits(got, want lab.Type) bool {
	switch want.Kind {
	case lab.Number:
		return (got.Kind == lab.Number || got.Kind == lab.Integer) && got.Unit.Dim() == want.Unit.Dim()
	case lab.Integer:
		return (got.Kind == lab.Number || got.Kind == lab.Integer) && got.Unit.Dim() == lab.None
	case lab.Enum:
		for _, n := range got.Enum {
			if !contains(want.Enum, n) {
				return false
			}
		}
	}
	return got.Kind == want.Kind
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

var (
	timeType   = lab.Type{Kind: lab.Number, Unit: lab.Second}
	amountType = lab.Type{Kind: lab.Number, Unit: lab.One}
	boolType   = lab.Type{Kind: lab.Bool}
)

// scopes are the names that the expressions of one command may use.
type scopes struct {
	all  expr.MapScope // arguments, properties, self.x, before.x
	args argScope      // arguments only: what is known before the command starts
}

// argScope is the scope of takes. It explains why a property is not in it.
type argScope struct {
	expr.MapScope
	class *lab.Class
}

// Lookup finds an argument.
func (s argScope) Lookup(name string) (expr.Symbol, error) {
	if _, ok := s.MapScope[name]; !ok && s.class.Property(name) != nil {
		return expr.Symbol{}, errNotKnownBefore(name)
	}
	return s.MapScope.Lookup(name)
}

type errNotKnownBefore string

func (e errNotKnownBefore) Error() string {
	return string(e) + " is a property; how long a command takes is computed before it starts, from its arguments only"
}

func scopesOf(class *lab.Class, c *lab.CommandSpec) scopes {
	s := scopes{expr.MapScope{}, argScope{expr.MapScope{}, class}}
	slot := 0
	put := func(m expr.MapScope, name string, t lab.Type) {
		m[name] = expr.Symbol{Slot: slot, Type: t}
		slot++
	}
	for _, p := range class.Properties {
		for _, name := range []string{p.Name, "self." + p.Name, "before." + p.Name} {
			put(s.all, name, p.Type)
			sym := s.all[name]
			sym.MaxAge = p.MaxAge
			s.all[name] = sym
		}
	}
	for _, a := range c.Args { // after the properties: a plain name is first of all an argument
		put(s.all, a.Name, a.Type)
		s.args.MapScope[a.Name] = s.all[a.Name]
	}
	return s
}

// checkCommand compiles every expression of a command and resolves the names
// of other commands in it.
func (r reader) checkCommand(class *lab.Class, c *lab.CommandSpec) {
	s := scopesOf(class, c)
	for i := range c.Changes {
		ch := &c.Changes[i]
		p := class.Property(ch.Property)
		if p == nil {
			r.add(ch.Pos, "unknown_name", "", "%s changes %q, which is no property of the class%s", c.Name, ch.Property, didYouMean(ch.Property, propertyNames(class)))
			continue
		}
		r.checkChange(ch, p.Type, s.all)
	}
	for _, e := range []struct {
		src   lab.Source
		scope expr.Scope
		want  lab.Type
		what  string
	}{
		{c.Expected, s.args, timeType, "takes"}, {c.Worst, s.args, timeType, "takes"},
		{c.Progress, s.all, amountType, "progress"}, {c.DoneWhen, s.all, boolType, "done_when"},
	} {
		if e.src.Text != "" {
			r.typed(e.src, e.scope, e.want, e.what)
		}
	}
	if c.Partial.Text != "" {
		if p := r.compile(c.Partial, s.all); p != nil && p.Type().Kind != lab.Number && p.Type().Kind != lab.Integer {
			r.add(c.Partial.Pos, "wrong_type", "", "partial: %s is a %s; an amount is wanted", c.Partial.Text, p.Type())
		}
	}
	for _, g := range c.Gives {
		if g.From.Text != "" && g.Type.Kind != lab.Missing {
			r.typed(g.From, s.all, g.Type, "result "+g.Name)
		}
	}
	r.checkSafeName(class, c, c.StopsWith, "stops_with")
	if c.Else != "alarm" {
		r.checkSafeName(class, c, c.Else, "else")
	}
}

// checkSafeName checks that a command names another one that is safe.
func (r reader) checkSafeName(class *lab.Class, c *lab.CommandSpec, name, key string) {
	if name == "" {
		return
	}
	other := class.Command(name)
	switch {
	case other == nil:
		var names []string
		for _, x := range class.Commands {
			names = append(names, x.Name)
		}
		r.add(c.Pos, "unknown_name", "", "%s: %s names %q, which is no command of the class%s", c.Name, key, name, didYouMean(name, names))
	case other.Effect != lab.Safe:
		r.add(c.Pos, "not_safe", "only a safe command may do that", "%s: %s names %s, which is %s", c.Name, key, name, other.Effect)
	case other == c:
		r.add(c.Pos, "bad_value", "", "%s: %s names the command itself", c.Name, key)
	case len(other.Args) > 0:
		r.add(c.Pos, "bad_value", "it runs by itself, with nobody there to give arguments", "%s: %s names %s, which takes arguments", c.Name, key, name)
	}
}

func propertyNames(c *lab.Class) []string {
	var names []string
	for _, p := range c.Properties {
		names = append(names, p.Name)
	}
	return names
}
