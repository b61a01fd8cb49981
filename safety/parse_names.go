package safety

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"labgate/internal/strict"
	"labgate/lab"
)

// piece is a part of a text of the file, with its place.
type piece struct {
	text string
	at   lab.Pos
}

// place is where the byte at off of a node's text stands. It is exact for a
// text that is written on one line without escapes, and in a block.
func place(n *strict.Node, off int) lab.Pos {
	at, before := n.Pos(), n.Text()[:off]
	if i := strings.LastIndexByte(before, '\n'); i >= 0 { // a block, whose lines begin at one column
		at.Line += strings.Count(before, "\n")
		before = before[i+1:]
	}
	at.Column += utf8.RuneCountInString(before)
	return at
}

// cut is the part of a node's text from one byte to another, without the
// blanks around it.
func cut(n *strict.Node, from, to int) piece {
	s := n.Text()[from:to]
	left := strings.TrimLeft(s, " \t\r\n")
	return piece{strings.TrimRight(left, " \t\r\n"), place(n, from+len(s)-len(left))}
}

// pieces splits a part of a node's text at the commas outside of brackets.
// Empty ones are left out.
func pieces(n *strict.Node, from, to int) []piece {
	var list []piece
	add := func(from, to int) {
		if x := cut(n, from, to); x.text != "" {
			list = append(list, x)
		}
	}
	depth := 0
	for i := from; i < to; i++ {
		switch n.Text()[i] {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				add(from, i)
				from = i + 1
			}
		}
	}
	add(from, to)
	return list
}

// whole is a node's text; ok is false where it was reported.
func (p *parser) whole(n *strict.Node) (x piece, ok bool) {
	if n == nil {
		return piece{}, false
	}
	before := len(p.d.Issues)
	p.d.Text(n)
	if len(p.d.Issues) > before {
		return piece{}, false
	}
	return cut(n, 0, len(n.Text())), true
}

// texts are those of a list.
func (p *parser) texts(n *strict.Node) []piece {
	var list []piece
	for _, e := range p.d.List(n) {
		if x, ok := p.whole(e); ok {
			list = append(list, x)
		}
	}
	return list
}

// names reads a list of names with commas between them, of which there is at
// least one. "any class/vN.rest" stands for every component of that class,
// "self.rest" for the rule's own.
func (p *parser) names(n *strict.Node) []piece {
	all, ok := p.whole(n)
	if !ok {
		return nil
	}
	var list []piece
	if all.text != "" {
		list = pieces(n, 0, len(n.Text()))
	}
	if len(list) == 0 {
		p.add(n.Pos(), "no_target", "", "it names no command: the rule would guard nothing")
	}
	return p.each(list)
}

// each resolves any and self in names.
func (p *parser) each(list []piece) []piece {
	var out []piece
	for _, x := range list {
		if rest, ok := strings.CutPrefix(x.text, "self."); ok && p.self == "" {
			p.add(x.at, "unknown_name", "as in for: any pump/v1", "%s: self is the component of a rule with for", x.text)
			continue
		} else if ok {
			x.text = p.self + "." + rest
		}
		if !strings.HasPrefix(x.text, "any ") {
			out = append(out, x)
			continue
		}
		class, rest, ok := strings.Cut(x.text, ".")
		if !ok {
			p.add(x.at, "bad_name", "as in any pump/v1.dose", "%s names no command", x.text)
			continue
		}
		for _, c := range p.components(piece{class, x.at}) {
			out = append(out, piece{c + "." + rest, x.at})
		}
	}
	return out
}

// components are those that implement "any class/vN", as instrument.component.
func (p *parser) components(x piece) []string {
	name, ok := strings.CutPrefix(x.text, "any ")
	if name = strings.TrimSpace(name); !ok || !strings.Contains(name, "/") {
		p.add(x.at, "bad_value", "as in any pump/v1", "%q names no class", x.text)
		return nil
	}
	var list, classes []string
	for _, in := range p.rules.lab.Instruments {
		for _, c := range in.Profile.Components {
			if classes = append(classes, c.Class.Name); c.Class.Name == name {
				list = append(list, in.Name+"."+c.Name)
			}
		}
	}
	if len(list) == 0 {
		slices.Sort(classes)
		say := "one of " + strings.Join(slices.Compact(classes), ", ")
		if near := lab.Nearest(name, classes); near != "" {
			say = "did you mean " + near + "?"
		}
		p.add(x.at, "no_target", say, "no instrument of this lab is a %s", name)
	}
	return list
}

// commands finds the commands of names. None may stand there twice.
func (p *parser) commands(list []piece) []lab.CommandID {
	var ids []lab.CommandID
	for _, x := range list {
		id, _, err := p.rules.lab.ResolveCommand(x.text)
		switch {
		case err != nil:
			p.add(x.at, "unknown_name", "", "%v", err)
		case slices.Contains(ids, id):
			p.add(x.at, "duplicate", "", "%s stands there twice", id)
		default:
			ids = append(ids, id)
		}
	}
	return ids
}

// argument finds instrument.command.argument, a number.
func (p *parser) argument(x piece) (lab.CommandID, *lab.CommandSpec, *lab.Param) {
	i := strings.LastIndexByte(x.text, '.')
	if strings.Count(x.text, ".") < 2 {
		p.add(x.at, "bad_name", "", "%s: write instrument.command.argument", x.text)
		return lab.CommandID{}, nil, nil
	}
	id, spec, err := p.rules.lab.ResolveCommand(x.text[:i])
	if err != nil {
		p.add(x.at, "unknown_name", "", "%v", err)
		return lab.CommandID{}, nil, nil
	}
	arg := spec.Arg(x.text[i+1:])
	if arg == nil {
		p.add(x.at, "unknown_name", "", "%s has no argument %q%s", id, x.text[i+1:], hint(x.text[i+1:], argNames(spec)))
		return lab.CommandID{}, nil, nil
	}
	if arg.Type.Kind != lab.Number && arg.Type.Kind != lab.Integer {
		p.add(x.at, "wrong_type", "", "%s of %s is a %s; only numbers have limits", arg.Name, id, arg.Type.Kind)
		return lab.CommandID{}, nil, nil
	}
	return id, spec, arg
}

// Bounds of the times that a rule gives.
const (
	maxDelay  = 24 * time.Hour            // of what a rule waits for
	maxWait   = 10 * time.Minute          // between two steps, as in a safe list
	maxWindow = 366 * 24 * time.Hour      // of what is remembered of commands
	maxEvery  = 20 * 366 * 24 * time.Hour // between proof tests
)

// span reads a duration from least to most, where least is 0, or 1 for more
// than no time; zero where there is none, or it was reported.
func (p *parser) span(n *strict.Node, least, most time.Duration) time.Duration {
	if n == nil {
		return 0
	}
	before := len(p.d.Issues)
	d := p.d.Duration(n)
	switch {
	case len(p.d.Issues) > before:
		return 0
	case d < least && least > 0:
		p.add(n.Pos(), "out_of_bounds", "", "%s: more than no time is wanted", strings.TrimSpace(n.Text()))
	case d < least:
		p.add(n.Pos(), "out_of_bounds", "", "%s is less than no time", strings.TrimSpace(n.Text()))
	case d > most:
		p.add(n.Pos(), "out_of_bounds", "", "%s is longer than %s", strings.TrimSpace(n.Text()), long(most))
	default:
		return d
	}
	return 0
}

// long writes a bound of these times as people say it.
func long(d time.Duration) string {
	switch {
	case d > 24*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d min", d/time.Minute)
}

func argNames(spec *lab.CommandSpec) []string {
	var names []string
	for _, a := range spec.Args {
		names = append(names, a.Name)
	}
	return names
}

func hint(s string, names []string) string {
	if n := lab.Nearest(s, names); n != "" {
		return "; did you mean " + n + "?"
	}
	return ""
}
