package protocols

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/lab/expr"
)

// Finder finds the file of a protocol that another one uses. ok is false
// where there is none.
type Finder func(name, version string) (file string, data []byte, ok bool)

// Files is a Finder over protocol files by their names. One that can't be
// read is none. Of two with one name and version it takes the first by the
// file's name; Load tells of them.
func Files(files map[string][]byte) Finder {
	heads := sync.OnceValue(func() map[string]string {
		found := map[string]string{}
		for _, file := range slices.Sorted(maps.Keys(files)) {
			root, _ := strict.Parse(file, files[file])
			if root == nil || root.Kind() != strict.Map {
				continue
			}
			quiet := &strict.Decoder{} // its issues are found when it is parsed
			f := quiet.Map(root, "protocol file")
			key := quiet.Text(f.Get("protocol")) + "@" + quiet.Text(f.Get("version"))
			if _, taken := found[key]; !taken {
				found[key] = file
			}
		}
		return found
	})
	return func(name, version string) (string, []byte, bool) {
		file, ok := heads()[name+"@"+version]
		return file, files[file], ok
	}
}

// Load parses folders of protocol files, such as the built-in ones and a lab's
// own, in the order of their names. A file is there once: of one name and
// version there is one content, and another is an issue. It reports every issue
// of every file; those without are in the list.
func Load(classes map[string]*lab.Class, finder Finder, folders ...map[string][]byte) ([]*Protocol, lab.Issues) {
	var list []*Protocol
	var all lab.Issues
	seen := map[string]*Protocol{}
	for _, files := range folders {
		for _, file := range slices.Sorted(maps.Keys(files)) {
			p, issues := Parse(file, files[file], classes, finder)
			all = append(all, issues...)
			if p == nil {
				continue
			}
			id := p.Name + "@" + p.Version
			have := seen[id]
			switch {
			case have == nil:
				seen[id] = p
				list = append(list, p)
			case have.Hash != p.Hash:
				all.Add(p.Pos, "duplicate_protocol", "give it a new version", "%s is there already with other content, at %s", id, have.Pos)
			}
		}
	}
	return list, all
}

// Among is a Finder over protocols that are parsed already.
func Among(list []*Protocol) Finder {
	return func(name, version string) (string, []byte, bool) {
		for _, p := range list {
			if p.Name == name && p.Version == version {
				return p.file, p.data, true
			}
		}
		return "", nil, false
	}
}

const maxUses = 8 // protocols within each other

// Used is a protocol that a step carries out. Its steps are the step's own;
// its inputs are values that are fixed when the step begins.
type Used struct {
	Protocol *Protocol
	Lets     []Let
	Outputs  []Output // compiled for the protocol that uses it

	roles   map[string]string // its roles to those of the protocol around it
	results []int             // slots, by output; -1 where nothing reads it
}

// Let is an input of a used protocol.
type Let struct {
	Input *Input
	Value lab.Value     // plain
	Expr  *expr.Program // a formula; nil for a plain value
	Pos   lab.Pos

	src  lab.Source
	slot int
}

// frame is where the names of a used protocol end.
type frame struct {
	use   *Step
	outer *frame
}

// role finds a role by the name that it has where the parser is.
func (fr *frame) role(p *Protocol, name string) *Role {
	for ; fr != nil; fr = fr.outer {
		mapped, ok := fr.use.Use.roles[name]
		if !ok {
			return nil
		}
		name = mapped
	}
	return p.Role(name)
}

// use reads a step that carries out another protocol.
func (r *parser) use(s *Step, f *strict.Fields, n *strict.Node, depth int) {
	before := len(r.Issues)
	name, version, ok := strings.Cut(r.Text(n), "@")
	hash := f.Require("hash")
	if len(r.Issues) > before {
		return
	}
	if !ok || !protocolNameRE.MatchString(name) || !versionRE.MatchString(version) {
		r.add(n.Pos(), "bad_value", "write name@version, as in rinse@1.0.0", "%q is no protocol with its version", clip(n.Text()))
		return
	}
	key := name + "@" + version
	if key == r.p.Name+"@"+r.p.Version {
		r.add(n.Pos(), "cycle", "", "%s uses itself", key)
		return
	}
	if at := slices.Index(r.chain, key); at >= 0 || len(r.chain) >= maxUses {
		r.add(n.Pos(), "cycle", "", "%s uses itself, or protocols are nested deeper than %d: %s", key, maxUses, strings.Join(append(r.chain, key), " uses "))
		return
	}
	file, data := "", []byte(nil)
	if r.library != nil {
		file, data, ok = r.library(name, version)
	} else {
		ok = false
	}
	if !ok {
		r.add(n.Pos(), "unknown_protocol", "", "there is no protocol %s here", key)
		return
	}
	sub, is := parse(file, data, r.classes, r.library, append(slices.Clone(r.chain), key))
	if len(is) > 0 {
		r.add(n.Pos(), "bad_protocol", "", "%s has issues of its own, the first: %v", key, is[0])
		return
	}
	if got := r.Text(hash); got != sub.Hash {
		r.add(hash.Pos(), "wrong_hash", "hash: "+sub.Hash, "%s has another content than the one that this hash pins", key)
		return
	}
	s.Use = &Used{Protocol: sub, roles: map[string]string{}}
	roles, inputs := r.useRoles(s, f.Get("roles")), r.useInputs(s, f.Get("with"))
	if !roles || !inputs {
		s.Use = nil // what is wrong was reported
		return
	}
	r.inline(s, file, data, depth)
}

// useRoles maps the roles of a used protocol to those here: by name, or as
// roles: says. Each must be able to do what is wanted of it.
func (r *parser) useRoles(s *Step, n *strict.Node) bool {
	given := map[string]entry{}
	before := len(r.Issues)
	for _, e := range r.entries(n, "roles", MaxRoles) {
		if s.Use.Protocol.Role(e.key) == nil {
			r.add(e.pos, "unknown_name", "", "%s has no role %q", s.Use.Protocol.Name, clip(e.key))
		}
		given[e.key] = e
	}
	for i := range s.Use.Protocol.Roles {
		want := &s.Use.Protocol.Roles[i]
		mine, at := want.Name, s.Pos
		if e, ok := given[want.Name]; ok {
			mine, at = r.Text(e.node), e.node.Pos()
		}
		have := r.frame.role(r.p, mine)
		if have == nil {
			r.add(at, "role_unfilled", "roles: {"+want.Name+": one of the roles here}", "%s needs a role %s (%s); there is no role %q here", s.Use.Protocol.Name, want.Name, want.classNames(), clip(mine))
			continue
		}
		for _, c := range want.Classes {
			if !slices.Contains(have.Classes, c) && !have.broken {
				r.add(at, "role_unfilled", "", "role %s of %s is a %s; %s here is %s", want.Name, s.Use.Protocol.Name, c.Name, mine, have.classNames())
			}
		}
		if want.Holds != nil && sayHolds(want.Holds) != sayHolds(have.Holds) {
			r.add(at, "role_unfilled", "", "role %s of %s holds %s; %s here holds %s", want.Name, s.Use.Protocol.Name, sayHolds(want.Holds), mine, sayHolds(have.Holds))
		}
		s.Use.roles[want.Name] = mine
		have.Ranges = append(have.Ranges, want.Ranges...)
	}
	return len(r.Issues) == before
}

// useInputs reads what the used protocol's inputs are.
func (r *parser) useInputs(s *Step, n *strict.Node) bool {
	before := len(r.Issues)
	given := map[string]entry{}
	var names []string
	for i := range s.Use.Protocol.Inputs {
		names = append(names, s.Use.Protocol.Inputs[i].Name)
	}
	for _, e := range r.entries(n, "with", MaxInputs) {
		if s.Use.Protocol.Input(e.key) == nil {
			r.add(e.pos, "unknown_argument", r.near(e.key, names), "%s takes no input %q", s.Use.Protocol.Name, clip(e.key))
		}
		given[e.key] = e
	}
	for i := range s.Use.Protocol.Inputs {
		in := &s.Use.Protocol.Inputs[i]
		l := Let{Input: in, Pos: s.Pos, slot: -1}
		e, ok := given[in.Name]
		switch {
		case !ok && in.Default == nil:
			r.add(s.Pos, "missing_argument", "", "%s needs its input %s, %s", s.Use.Protocol.Name, in.Name, in.allowed())
			continue
		case !ok:
			l.Value = *in.Default
		default:
			l.Pos = e.node.Pos()
			if src, formula := r.Formula(e.node); formula {
				l.src = src
			} else if v, ok := r.value(e.node, in.Type, "input "+in.Name, false); ok {
				l.Value = v
				if _, issue := in.Check(v); issue != nil {
					r.add(l.Pos, issue.Code, "", "%s", issue.Say)
				}
			}
		}
		s.Use.Lets = append(s.Use.Lets, l)
	}
	return len(r.Issues) == before
}

// inline reads the steps of a used protocol as steps of this one, under the
// names that it knows. It was checked by itself before.
func (r *parser) inline(s *Step, file string, data []byte, depth int) {
	root, _ := strict.Parse(file, data)
	f := r.Map(root, "protocol file")
	if c := f.Get("cleanup"); c != nil {
		r.add(s.Pos, "bad_protocol", "put its cleanup into steps, or into the cleanup here", "%s has a cleanup; a protocol that is used has none", s.Use.Protocol.Name)
		return
	}
	if len(s.Use.Protocol.Samples) > 0 {
		r.add(s.Pos, "bad_protocol", "", "%s names samples; a protocol that is used has none of its own", s.Use.Protocol.Name)
		return
	}
	r.frame = &frame{s, r.frame}
	s.Steps = r.steps(f.Get("steps"), s.Path, "step", depth+1)
	r.frame = r.frame.outer
	for _, x := range s.Use.Protocol.Finally {
		role := s.Use.roles[x.Role]
		if len(x.With) > 0 {
			r.add(s.Pos, "bad_protocol", "", "finally of %s gives arguments; that of a protocol that is used gives none", s.Use.Protocol.Name)
			continue
		}
		r.also = append(r.also, [2]string{r.outermost(role), x.Command})
	}
	for i := range s.Use.Protocol.Limits {
		r.useLimit(s, &s.Use.Protocol.Limits[i])
	}
}

// outermost is what a role of the protocol where the parser is, is called in
// the file itself.
func (r *parser) outermost(role string) string {
	for fr := r.frame; fr != nil; fr = fr.outer {
		role = fr.use.Use.roles[role]
	}
	return role
}

// useLimit adds a limit of a used protocol, with the roles' names here. It
// holds for the whole run, so that it can't depend on its inputs.
func (r *parser) useLimit(s *Step, l *Limit) {
	text := expr.Rewrite(l.Text, func(name string) string {
		first, rest, dotted := strings.Cut(name, ".")
		if s.Use.Protocol.Input(name) != nil {
			r.add(s.Pos, "bad_protocol", "", "limit %q of %s depends on its input %s", l.Text, s.Use.Protocol.Name, name)
		}
		if mine, ok := s.Use.roles[first]; ok && dotted {
			return r.outermost(mine) + "." + rest
		}
		return name
	})
	for _, have := range r.p.Limits {
		if have.Text == text {
			return
		}
	}
	r.p.Limits = append(r.p.Limits, Limit{Text: text, Pos: l.Pos})
}

// alsoFinally adds the finally of used protocols that is not there yet.
func (r *parser) alsoFinally() {
	for _, x := range r.also {
		if slices.ContainsFunc(r.p.Finally, func(s *Step) bool { return s.Role == x[0] && s.Command == x[1] && len(s.With) == 0 }) {
			continue
		}
		id := fmt.Sprintf("finally_%d", len(r.p.Finally)+1)
		s := &Step{ID: id, Path: id, Kind: Do, Pos: r.p.Pos, Role: x[0], Command: x[1],
			OnError: Policy{Then: r.p.OnError}, index: len(r.p.steps), end: len(r.p.steps) + 1}
		if r.resolve(s, s.Pos) {
			r.p.steps, r.p.Finally = append(r.p.steps, s), append(r.p.Finally, s)
		}
	}
}

// checkUse compiles what goes into a used protocol and what comes out of it.
func (r *parser) checkUse(s *Step, at *place) {
	if s.Use == nil {
		return
	}
	for i := range s.Use.Lets {
		if l := &s.Use.Lets[i]; l.src.Text != "" {
			l.Expr = r.typed("input "+l.Input.Name, l.src, &scope{at: at, loop: at.loop(), live: true, values: true, args: true}, l.Input.Type)
		}
	}
	inner := &place{outer: at, owner: s, steps: s.Steps}
	r.walk(inner)
	inner.at = len(inner.steps)
	for i := range s.Use.Protocol.Outputs {
		o := s.Use.Protocol.Outputs[i]
		if o.Rows != nil {
			continue // a table is collected by the run as a whole
		}
		o.From = r.typed("output "+o.Name, o.from, &scope{at: inner, values: true, outputs: true}, o.Type)
		s.Use.Outputs = append(s.Use.Outputs, o)
		s.Use.results = append(s.Use.results, -1)
	}
}

// result finds an output of a used protocol.
func (s *scope) result(x *Step, rest []string, name string) (int, error) {
	var names []string
	if x.Use == nil {
		return 0, s.fail(told, "%s", name)
	}
	for i := range x.Use.Outputs {
		o := &x.Use.Outputs[i]
		if names = append(names, o.Name); o.Name == rest[0] && len(rest) == 1 {
			slot := s.r.slot(Slot{Kind: ResultSlot, Name: x.Path + "." + o.Name, Type: o.Type, Step: x})
			x.Use.results[i] = slot
			if x.gives == nil {
				x.gives = map[string]int{}
			}
			x.gives[o.Name] = slot
			return slot, nil
		}
	}
	return 0, s.suggest(rest[0], names, "%s: %s gives no %q", name, x.ID, rest[0])
}

// let finds an input of the used protocol that the expression stands in.
func (s *scope) let(use *Step, name string) *Let {
	for i := range use.Use.Lets {
		if l := &use.Use.Lets[i]; l.Input.Name == name {
			l.slot = s.r.slot(Slot{Kind: LetSlot, Name: use.Path + "." + name, Type: l.Input.Type, Step: use})
			return l
		}
	}
	return nil
}

// within is the used protocol that an expression stands in; nil for none.
func (s *scope) within() *Step {
	for at := s.at; at != nil; at = at.outer {
		if at.owner != nil && at.owner.Kind == Use {
			return at.owner
		}
	}
	return nil
}

// roleHere finds a role by the name that it has where the expression stands.
func (s *scope) roleHere(name string) *Role {
	for at := s.at; at != nil; at = at.outer {
		if at.owner == nil || at.owner.Kind != Use {
			continue
		}
		mapped, ok := at.owner.Use.roles[name]
		if !ok {
			return nil
		}
		name = mapped
	}
	return s.r.p.Role(name)
}

// Let fixes the inputs of a used protocol, as its step begins. Each that has
// no value, or an illegal one, is an issue; then nothing of it is carried out.
func (v *Values) Let(now time.Time, s *Step) lab.Issues {
	d, again := v.decided(s, decidedLet)
	if !again {
		d = Decision{Step: s.Path, What: decidedLet}
		d.Values, d.Issues = v.let(now, s)
		v.decide(d)
	}
	for i := range s.Use.Lets {
		if x, ok := d.Values[s.Use.Lets[i].Input.Name]; ok && s.Use.Lets[i].slot >= 0 {
			v.set(now, s.Use.Lets[i].slot, expr.Given(x))
		}
	}
	return d.Issues
}

func (v *Values) let(now time.Time, s *Step) (map[string]lab.Value, lab.Issues) {
	v.env.Now = now
	var issues lab.Issues
	values := map[string]lab.Value{}
	for i := range s.Use.Lets {
		l := &s.Use.Lets[i]
		x := l.Value
		if l.Expr != nil {
			x = l.Expr.Value(v.states[l.Expr], &v.env)
		}
		checked, issue := l.Input.Check(x)
		if issue != nil {
			issue.Path = "steps." + s.Path + ".with." + l.Input.Name
			issues = append(issues, issue.At(l.Pos))
			continue
		}
		values[l.Input.Name] = checked
	}
	return values, issues
}

// Returned computes what a used protocol gives, as its step ends.
func (v *Values) Returned(now time.Time, s *Step) lab.Issues {
	d, again := v.decided(s, decidedReturn)
	if !again {
		d = Decision{Step: s.Path, What: decidedReturn}
		d.Values, d.Issues = v.returned(now, s)
		v.decide(d)
	}
	for i := range s.Use.Outputs {
		if x, ok := d.Values[s.Use.Outputs[i].Name]; ok && s.Use.results[i] >= 0 {
			v.set(now, s.Use.results[i], expr.Given(x))
		}
	}
	return d.Issues
}

func (v *Values) returned(now time.Time, s *Step) (map[string]lab.Value, lab.Issues) {
	v.env.Now = now
	var issues lab.Issues
	values := map[string]lab.Value{}
	for i := range s.Use.Outputs {
		o := &s.Use.Outputs[i]
		x, err := o.Type.Conform(o.From.Value(nil, &v.env))
		switch {
		case err == nil && x.Usable():
			values[o.Name] = x
		case o.Required:
			used := o.From.Used(&v.env)
			issues = append(issues, lab.Issue{Code: "output_missing", Path: "steps." + s.Path + "." + o.Name, Inputs: used, Hint: why(used), Say: fmt.Sprintf("%s gave no %s", s.Use.Protocol.Name, o.Name)}.At(o.Pos))
		}
	}
	return values, issues
}
