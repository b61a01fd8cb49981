package protocols

import (
	"regexp"
	"sort"
	"strings"
	"time"
	"unicode/utf8"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/lab/expr"
)

const (
	maxAbout = 2000 // characters
	maxText  = 200
)

var (
	protocolNameRE = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)
	versionRE      = regexp.MustCompile(`^(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})$`)
)

// reserved words mean something of their own in expressions.
var reserved = map[string]bool{"i": true, "last": true, "previous": true,
	"and": true, "or": true, "not": true, "true": true, "false": true}

// ValidName reports whether a text can name a protocol.
func ValidName(s string) bool { return protocolNameRE.MatchString(s) }

// parser reads one file: first everything that stands there, then, in the
// order of the run, every name and expression.
type parser struct {
	*strict.Decoder
	classes    map[string]*lab.Class
	p          *Protocol
	slotOf     map[string]int // by full name
	restartPos lab.Pos
	full       bool        // a limit on steps was reported
	hasRole    bool        // the file has readable roles
	guesses    int         // names compared in search of hints
	library    Finder      // of protocols that may be used; nil: none
	chain      []string    // what uses what, down to this file
	frame      *frame      // the used protocol whose steps are read now
	also       [][2]string // role and command of the finally of used protocols
	remember   int         // expressions that remember
	before     map[compiled]*expr.Program
	constant   map[*Step]bool // whose condition was reported: nothing in it changes
}

// Parse reads a protocol file and checks all that can be checked without a
// lab: names, types, dimensions, bounds, the order of values, and that
// everything ends. It reports every issue at once; with any issue there is no
// protocol. Protocols that it uses are looked for in the library.
func Parse(file string, data []byte, classes map[string]*lab.Class, library ...Finder) (*Protocol, lab.Issues) {
	var lib Finder
	if len(library) > 0 {
		lib = library[0]
	}
	return parse(file, data, classes, lib, nil)
}

func parse(file string, data []byte, classes map[string]*lab.Class, library Finder, chain []string) (*Protocol, lab.Issues) {
	root, is := strict.Parse(file, data)
	if root == nil {
		return nil, is
	}
	r := &parser{Decoder: &strict.Decoder{Issues: is}, classes: classes, library: library, chain: chain, slotOf: map[string]int{}, constant: map[*Step]bool{}, before: map[compiled]*expr.Program{},
		p: &Protocol{Classes: map[string]*lab.Class{}, byPath: map[string]*Step{}, costs: map[*lab.CommandSpec]*cost{}, Pos: root.Pos()}}
	r.homoglyphs(root, data)
	r.file(root)
	r.check()
	r.Issues.Sort()
	if len(r.Issues) > 0 {
		return nil, r.Issues
	}
	r.p.Hash, r.p.file, r.p.data = hashOf(root), file, data
	return r.p, nil
}

func (r *parser) add(p lab.Pos, code, hint, format string, args ...any) {
	r.Issues.Add(p, code, hint, format, args...)
}

// Map reads a map as strict.Decoder does, and knows a trap of its own: within
// braces a comma ends an expression, and the rest looks like a key.
func (r *parser) Map(n *strict.Node, what string, allowed ...string) *strict.Fields {
	before := len(r.Issues)
	f := r.Decoder.Map(n, what, allowed...)
	for i := before; i < len(r.Issues); i++ {
		if is := &r.Issues[i]; is.Code == "unknown_key" && strings.ContainsAny(is.Say, "()<>=*+") {
			is.Hint = quoteIt
		}
	}
	return f
}

const quoteIt = "within braces an expression with a comma needs quotes"

func (r *parser) file(root *strict.Node) {
	f := r.Map(root, "protocol file", "protocol", "version", "about", "lab", "inputs", "samples", "roles", "limits", "budget", "on_error", "on_restart", "consequence", "outputs",
		"steps", "cleanup", "finally")
	p := r.p
	if n := f.Require("protocol"); n != nil {
		if p.Name = r.Text(n); p.Name != "" && !protocolNameRE.MatchString(p.Name) {
			r.add(n.Pos(), "bad_name", "lower-case letters, digits and dashes, as in gold-nanoparticles", "%q does not name a protocol", p.Name)
		}
	}
	if n := f.Require("version"); n != nil {
		if p.Version = r.Text(n); p.Version != "" && !versionRE.MatchString(p.Version) {
			r.add(n.Pos(), "bad_version", "three numbers, as in 1.2.0", "%q is not a version", p.Version)
		}
	}
	p.About = r.text(f.Get("about"), "about", maxAbout)
	if n := f.Get("lab"); n != nil {
		p.Lab = r.Name(n, "lab")
	}
	for _, e := range r.entries(f.Get("inputs"), "inputs", MaxInputs) {
		p.Inputs = append(p.Inputs, r.input(e))
	}
	r.samples(f.Get("samples"))
	roles := f.Require("roles")
	for _, e := range r.entries(roles, "roles", MaxRoles) {
		p.Roles = append(p.Roles, r.role(e))
	}
	r.hasRole = roles.Kind() == strict.Map
	for _, n := range r.list(f.Get("limits"), "limits", MaxLimits) {
		src := r.source(n)
		p.Limits = append(p.Limits, Limit{Text: src.Text, Pos: src.Pos})
	}
	r.budget(f.Get("budget"))
	if n := f.Get("on_error"); n != nil {
		p.OnError = r.then(n)
	}
	r.onRestart(f.Get("on_restart"))
	p.Outcome = r.consequence(f.Get("consequence"))
	for _, e := range r.entries(f.Get("outputs"), "outputs", MaxOutputs) {
		p.Outputs = append(p.Outputs, r.output(e))
	}
	steps := f.Require("steps")
	if p.Steps = r.steps(steps, "", "step", 1); steps.IsList() && len(r.List(steps)) == 0 {
		r.add(steps.Pos(), "empty", "", "there are no steps")
	}
	inSteps := len(p.steps)
	p.Cleanup = r.steps(f.Get("cleanup"), "", "cleanup", 1)
	p.Finally = r.steps(f.Get("finally"), "", "finally", 1)
	r.checkRestart(inSteps)
	r.alsoFinally()
}

func (r *parser) budget(n *strict.Node) {
	if n == nil {
		return
	}
	f := r.Map(n, "budget", "time", "exposures")
	r.p.Budget.Time = r.duration(f.Get("time"), "the budget of time")
	r.p.Budget.Exposures = int(r.count(f.Get("exposures"), "the budget of exposures", MaxCommands))
}

// entry is one key of a map and what stands there.
type entry struct {
	key  string
	node *strict.Node
	pos  lab.Pos // of the key
}

// entries reads a map with free keys, in file order. No node: no entries.
func (r *parser) entries(n *strict.Node, what string, limit int) []entry {
	if n == nil {
		return nil
	}
	f := r.Map(n, what)
	keys := f.Keys()
	if len(keys) > limit {
		r.add(n.Pos(), "too_many", "", "%d entries in %s; at most %d", len(keys), what, limit)
		return nil
	}
	es := make([]entry, len(keys))
	for i, k := range keys {
		es[i] = entry{k, f.Get(k), f.KeyPos(k)}
	}
	return es
}

func (r *parser) list(n *strict.Node, what string, limit int) []*strict.Node {
	ns := r.List(n)
	if len(ns) > limit {
		r.add(n.Pos(), "too_many", "", "%d entries in %s; at most %d", len(ns), what, limit)
		return nil
	}
	return ns
}

// near is didYouMean, until a file has so many slips that hints cost too much.
func (r *parser) near(s string, candidates []string) string {
	if r.guesses += len(candidates); r.guesses > maxGuesses {
		return ""
	}
	return didYouMean(s, candidates)
}

// name checks a name that expressions use.
func (r *parser) name(what, name string, at lab.Pos) {
	if err := lab.CheckName(what, name); err != nil {
		r.add(at, "bad_name", "", "%v", err)
	} else if reserved[name] {
		r.add(at, "bad_name", "choose another name", "%s %q: expressions keep this word for themselves", what, name)
	}
}

func (r *parser) text(n *strict.Node, what string, limit int) string {
	s := r.Text(n)
	if l := utf8.RuneCountInString(s); l > limit {
		r.add(n.Pos(), "too_long", "", "%s has %d characters; at most %d", what, l, limit)
	}
	return s
}

// source reads an expression that is not empty. No node gives none.
func (r *parser) source(n *strict.Node) lab.Source {
	src := r.Source(n)
	if n.Kind() == strict.Scalar && src.Text == "" {
		r.add(n.Pos(), "syntax", "", "the expression is empty")
	}
	return src
}

// duration reads a time above zero. No node gives 0.
func (r *parser) duration(n *strict.Node, what string) time.Duration {
	before := len(r.Issues)
	d := r.Duration(n)
	if n != nil && len(r.Issues) == before && (d <= 0 || d > MaxTime) {
		r.add(n.Pos(), "out_of_bounds", "", "%s is %s; it must be more than 0 s, at most %s", what, strings.TrimSpace(n.Text()), lab.Quantity{Value: MaxTime.Hours() / 24, Unit: lab.Q(0, "d").Unit})
	}
	return d
}

// count reads a whole number from 1 to limit. No node gives 0.
func (r *parser) count(n *strict.Node, what string, limit int64) int64 {
	before := len(r.Issues)
	v := r.Int(n)
	if n != nil && len(r.Issues) == before && (v < 1 || v > limit) {
		r.add(n.Pos(), "out_of_bounds", "", "%s is %d; it must be from 1 to %d", what, v, limit)
		return 0
	}
	return v
}

func (r *parser) role(e entry) Role {
	role := Role{Name: e.key, Pos: e.pos}
	r.name("role", e.key, e.pos)
	f := r.Map(e.node, "role", "is", "holds", "range")
	is := f.Require("is")
	names := []*strict.Node{is}
	if is.IsList() {
		names = r.list(is, "is", MaxRoles)
	}
	for _, n := range names {
		if c := r.class(n, role.Classes); c != nil {
			role.Classes = append(role.Classes, c)
			r.p.Classes[c.Name] = c
		} else {
			role.broken = true
		}
	}
	if is.IsList() && len(names) == 0 {
		r.add(is.Pos(), "empty", "as in pump/v1", "role %s is nothing", e.key)
		role.broken = true
	}
	r.spans(&role, f.Get("range"))
	if n := f.Get("holds"); n != nil {
		h := r.Map(n, "reagent", "substance", "concentration")
		role.Holds = &lab.Holds{Substance: r.text(h.Require("substance"), "substance", maxText)}
		if c := h.Get("concentration"); c != nil {
			before := len(r.Issues)
			q := r.Quantity(c)
			if role.Holds.Concentration = &q; len(r.Issues) == before && q.Unit.Dim() == lab.None {
				r.add(c.Pos(), "no_unit", "as in 1 mmol/L", "concentration: %s has no unit", q)
			}
		}
	}
	return role
}

// class finds a class that is not in have yet; nil where that was reported.
func (r *parser) class(n *strict.Node, have []*lab.Class) *lab.Class {
	if n == nil {
		return nil
	}
	before := len(r.Issues)
	name := r.Text(n)
	if len(r.Issues) > before {
		return nil
	}
	c := r.classes[name]
	if c == nil {
		names := make([]string, 0, len(r.classes))
		for k := range r.classes {
			names = append(names, k)
		}
		sort.Strings(names)
		r.add(n.Pos(), "unknown_class", r.near(name, names), "there is no class %q", name)
		return nil
	}
	for _, h := range have {
		if h == c {
			r.add(n.Pos(), "duplicate", "", "class %s is there twice", name)
		}
	}
	return c
}

// members finds the classes of a role for which has is true; more than one
// makes the name ambiguous.
func (role *Role) members(has func(*lab.Class) bool) []*lab.Class {
	var found []*lab.Class
	for _, c := range role.Classes {
		if has(c) {
			found = append(found, c)
		}
	}
	return found
}

// classNames lists a role's classes for messages.
func (role *Role) classNames() string {
	names := make([]string, len(role.Classes))
	for i, c := range role.Classes {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}
