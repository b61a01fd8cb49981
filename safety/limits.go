package safety

import (
	"fmt"
	"strconv"
	"strings"

	"labgate/lab"
	"labgate/lab/expr"
)

// labLimits turns the limits of the lab file into rules.
//
// A limit on an argument is a limit rule, "pump_a.pump.dose.rate.limit". A
// limit on a property can't stop the property, which is no command: it refuses
// the commands that would take it beyond, by what their classes and the lab's
// affects declare. Where a command sets the property to one of its arguments,
// that is a limit on the argument; else it is a permissive at the start, over
// the declared change, and unknown as ever denies. Their ids end in the
// command's name, "reactor.vessel.contents.limit@pump_a.pump.dose". A property
// that no command changes can't be limited this way, which is an issue: it
// wants a permissive or a trip. Safe commands are never limited.
func (p *parser) labLimits(l *lab.Lab) {
	for _, in := range l.Instruments {
		for _, lim := range in.Limits {
			if lim.Arg == "" {
				p.propertyLimit(l, lab.PropertyID{Instrument: in.Name, Component: lim.Component, Property: lim.Name}, lim)
				continue
			}
			id := lab.CommandID{Instrument: in.Name, Component: lim.Component, Command: lim.Name}
			p.rules.add(&Rule{ID: fmt.Sprintf("%s.%s.limit", id, lim.Arg), About: "a limit of the lab file", Kind: LimitRule,
				Targets: []Target{{Command: id, Arg: lim.Arg}}, FromLab: true, Limit: Limit{Min: lim.Min, Max: lim.Max}, Pos: lim.Pos})
		}
	}
}

// propertyLimit guards every command that declares a change of the property.
func (p *parser) propertyLimit(l *lab.Lab, id lab.PropertyID, lim lab.Limit) {
	found := false
	guard := func(cmd lab.CommandID, ch lab.Change) {
		if spec := l.CommandSpec(cmd); spec != nil && spec.Effect != lab.Safe && spec.Effect != lab.Read {
			found = true
			p.guardChange(id, lim, cmd, spec, ch)
		}
	}
	for _, in := range l.Instruments {
		for _, comp := range in.Profile.Components {
			for _, spec := range comp.Class.Commands {
				for _, ch := range spec.Changes {
					if (lab.PropertyID{Instrument: in.Name, Component: comp.Name, Property: ch.Property}) == id {
						guard(lab.CommandID{Instrument: in.Name, Component: comp.Name, Command: spec.Name}, ch)
					}
				}
			}
		}
		for _, a := range in.Affects {
			if a.Property == id {
				guard(a.Command, a.Change)
			}
		}
	}
	if !found {
		p.add(lim.Pos, "no_target", "write a permissive or a trip in the interlocks file",
			"no command is declared to change %s: a limit on it would bound nothing", id)
	}
}

// guardChange makes the rule for one command and one declared change.
func (p *parser) guardChange(id lab.PropertyID, lim lab.Limit, cmd lab.CommandID, spec *lab.CommandSpec, ch lab.Change) {
	r := &Rule{ID: fmt.Sprintf("%s.limit@%s", id, cmd), About: fmt.Sprintf("a limit of the lab file on %s", id), Pos: lim.Pos, FromLab: true, Limit: Limit{Min: lim.Min, Max: lim.Max}}
	if arg := spec.Arg(ch.To.Text); arg != nil && !ch.Add {
		r.Kind, r.Targets = LimitRule, []Target{{Command: cmd, Arg: arg.Name}}
		p.rules.add(r)
		return
	}
	low, high := ch.Low.Text, ch.High.Text
	if ch.To.Text != "" {
		low, high = ch.To.Text, ch.To.Text
	}
	in := p.rules.lab.Instrument(cmd.Instrument).Profile.Component(cmd.Component)
	bound := func(text, op string, q *lab.Quantity) string {
		text = "(" + expr.Rewrite(text, func(name string) string { return className(name, cmd, spec, in.Class) }) + ")"
		if ch.Add {
			text = id.String() + " + " + text
		}
		return text + " " + op + " " + literal(*q)
	}
	var parts []string
	if lim.Max != nil {
		parts = append(parts, bound(high, "<=", lim.Max))
	}
	if lim.Min != nil {
		parts = append(parts, bound(low, ">=", lim.Min))
	}
	src := lab.Source{Text: strings.Join(parts, " and "), Pos: lim.Pos}
	prog, err := expr.Compile(src, ruleScope{rules: p.rules, args: p.commonArgs([]lab.CommandID{cmd})})
	if err != nil {
		p.add(lim.Pos, "bad_expression", "", "the limit on %s, applied to %s, would read %s: %v", id, cmd, src.Text, err)
		return
	}
	r.Kind, r.Targets, r.AtStart, r.expr = PermissiveRule, []Target{{Command: cmd}}, true, prog
	r.Limit = Limit{}
	p.rules.add(r)
}

// className gives a name of a class's expression the one that rules use. What
// was before a command is what is, when it is decided.
func className(name string, cmd lab.CommandID, spec *lab.CommandSpec, class *lab.Class) string {
	if spec.Arg(name) != nil {
		return "args." + name
	}
	plain := strings.TrimPrefix(strings.TrimPrefix(name, "self."), "before.")
	if class.Property(plain) != nil {
		return lab.PropertyID{Instrument: cmd.Instrument, Component: cmd.Component, Property: plain}.String()
	}
	return name
}

// literal writes a quantity so that an expression reads it back exactly.
func literal(q lab.Quantity) string {
	s := strings.Replace(strconv.FormatFloat(q.Value, 'g', -1, 64), "e+", "e", 1)
	if q.Unit.String() == "1" {
		return s
	}
	return s + " " + q.Unit.String()
}
