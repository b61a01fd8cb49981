package protocols

import (
	"encoding/json"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"

	"labgate/lab"
	"labgate/lab/expr"
)

// Plan is a protocol bound to inputs and to the instruments of a lab. It is
// immutable.
type Plan struct {
	Protocol    *Protocol
	Inputs      map[string]lab.Value // complete, in the protocol's units
	Bindings    map[string]Binding   // by role
	Hash        string               // "sha256:…" over protocol, inputs, bindings and the lab's hash
	Bill        Bill
	Instruments []string // sorted

	properties []lab.PropertyID // by slot; zero for what is no property
	slots      map[lab.PropertyID]int
	fixedArgs  map[*Arg]lab.Value // those that only the inputs decide
	limits     []string
}

// Binding is how an instrument fills a role.
type Binding struct {
	Instrument *lab.Instrument
	Components map[string]string // class to component; the first that implements it, where several do
}

// Bind fills each role with an instrument that implements all its classes and
// holds what it needs: the first in the lab's file that no other role has
// taken, for roles in the order of their names; an earlier role moves on where
// a later one could not be filled otherwise. It reports every issue at once;
// with any issue there is no plan.
func Bind(p *Protocol, l *lab.Lab, inputs map[string]lab.Value) (*Plan, lab.Issues) {
	if p == nil || l == nil {
		return nil, lab.Issues{{Code: "internal", Say: "there is no protocol or no lab to bind"}}
	}
	checked, issues := p.CheckInputs(inputs)
	bindings, more := fill(p, l)
	if issues = append(issues, more...); len(issues) > 0 {
		return nil, issues
	}
	pl := newPlan(p, checked, bindings)
	if err := pl.bindSlots(); err != nil {
		return nil, lab.Issues{{Code: "internal", Say: err.Error()}}
	}
	issues = append(pl.fix(), pl.bindLimits()...)
	if len(issues) == 0 {
		issues = pl.bill()
	}
	if len(issues) > 0 {
		issues.Sort()
		return nil, issues
	}
	var err error
	if pl.Hash, err = pl.hash(l); err != nil {
		return nil, lab.Issues{{Code: "internal", Say: err.Error()}}
	}
	return pl, nil
}

func newPlan(p *Protocol, inputs map[string]lab.Value, bindings map[string]Binding) *Plan {
	pl := &Plan{Protocol: p, Inputs: inputs, Bindings: bindings, properties: make([]lab.PropertyID, len(p.slots)),
		slots: map[lab.PropertyID]int{}, fixedArgs: map[*Arg]lab.Value{}}
	for _, b := range bindings {
		pl.Instruments = append(pl.Instruments, b.Instrument.Name)
	}
	sort.Strings(pl.Instruments)
	return pl
}

// CheckRoles reports the roles that no instrument of the lab can fill. It does
// not depend on inputs.
func CheckRoles(p *Protocol, l *lab.Lab) lab.Issues {
	_, issues := fill(p, l)
	return issues
}

// filler assigns instruments to roles.
type filler struct {
	lab     *lab.Lab
	roles   []*Role          // in the order of their names: the hash knows no other
	taken   map[string]*Role // by instrument
	filling map[*Role]*lab.Instrument
}

func fill(p *Protocol, l *lab.Lab) (map[string]Binding, lab.Issues) {
	f := &filler{lab: l, taken: map[string]*Role{}, filling: map[*Role]*lab.Instrument{}}
	for i := range p.Roles {
		f.roles = append(f.roles, &p.Roles[i])
	}
	sort.Slice(f.roles, func(a, b int) bool { return f.roles[a].Name < f.roles[b].Name })
	var issues lab.Issues
	for _, role := range f.roles {
		if !f.assign(role, map[string]bool{}) {
			issues = append(issues, f.unfilled(role))
		}
	}
	if len(issues) > 0 {
		issues.Sort()
		return nil, issues
	}
	bindings := map[string]Binding{}
	for role, in := range f.filling {
		b := Binding{Instrument: in, Components: map[string]string{}}
		for _, c := range role.Classes {
			b.Components[c.Name] = component(in, c).Name
		}
		bindings[role.Name] = b
	}
	return bindings, nil
}

// assign takes the first free instrument that fits, or else one whose role can
// move on.
func (f *filler) assign(role *Role, tried map[string]bool) bool {
	var occupied []*lab.Instrument
	for _, in := range f.lab.Instruments {
		switch {
		case !fits(role, in):
		case f.taken[in.Name] == nil:
			f.taken[in.Name], f.filling[role] = role, in
			return true
		default:
			occupied = append(occupied, in)
		}
	}
	for _, in := range occupied {
		if tried[in.Name] {
			continue
		}
		tried[in.Name] = true
		if f.assign(f.taken[in.Name], tried) {
			f.taken[in.Name], f.filling[role] = role, in
			return true
		}
	}
	return false
}

// component finds the first component that implements a class.
func component(in *lab.Instrument, c *lab.Class) *lab.Component {
	if in.Profile == nil {
		return nil
	}
	for i := range in.Profile.Components {
		if x := in.Profile.Components[i].Class; x != nil && x.Name == c.Name {
			return &in.Profile.Components[i]
		}
	}
	return nil
}

func fits(role *Role, in *lab.Instrument) bool {
	return len(lacks(role, in)) == 0 && holds(role, in) && short(role, in) == ""
}

// lacks lists the classes of a role that an instrument does not implement.
func lacks(role *Role, in *lab.Instrument) (names []string) {
	for _, c := range role.Classes {
		if component(in, c) == nil {
			names = append(names, c.Name)
		}
	}
	return names
}

// holds reports whether an instrument carries what a role needs: the same
// substance, and where the role names a concentration, that one.
func holds(role *Role, in *lab.Instrument) bool {
	want := role.Holds
	if want == nil {
		return true
	}
	have := in.Holds
	switch {
	case have == nil || have.Substance != want.Substance:
		return false
	case want.Concentration == nil:
		return true
	case have.Concentration == nil:
		return false
	}
	q, err := have.Concentration.In(want.Concentration.Unit)
	return err == nil && math.Abs(q.Value-want.Concentration.Value) <= 1e-9*math.Abs(q.Value) // a conversion rounds
}

func sayHolds(h *lab.Holds) string {
	switch {
	case h == nil || h.Substance == "":
		return "nothing"
	case h.Concentration == nil:
		return h.Substance
	}
	return h.Substance + ", " + h.Concentration.String()
}

// unfilled says what a role needs and what is nearest to it.
func (f *filler) unfilled(role *Role) lab.Issue {
	need := role.classNames()
	if role.Holds != nil {
		need += " holding " + sayHolds(role.Holds)
	}
	for i := range role.Ranges {
		need += ", " + role.Ranges[i].String()
	}
	var near []string
	for _, in := range f.lab.Instruments {
		missing := lacks(role, in)
		switch {
		case len(missing) == 0 && !holds(role, in):
			near = append(near, fmt.Sprintf("%s holds %s", in.Name, sayHolds(in.Holds)))
		case len(missing) == 0 && short(role, in) != "":
			near = append(near, short(role, in))
		case len(missing) == 0:
			near = append(near, fmt.Sprintf("%s fills %s", in.Name, f.taken[in.Name].Name))
		case len(missing) < len(role.Classes):
			near = append(near, fmt.Sprintf("%s is no %s", in.Name, strings.Join(missing, ", ")))
		}
	}
	if len(near) > 4 {
		near = append(near[:4], "…")
	}
	return lab.Issue{Code: "role_unfilled", Path: "roles." + role.Name, Allowed: need, Hint: strings.Join(near, "; "),
		Say: fmt.Sprintf("no instrument of lab %s fills role %s: it takes a %s", f.lab.Name, role.Name, need)}.At(role.Pos)
}

// bindSlots finds the property behind each slot.
func (pl *Plan) bindSlots() error {
	for i := range pl.Protocol.slots {
		if x := &pl.Protocol.slots[i]; x.Kind == PropertySlot {
			id, _, err := pl.Property(x.Role, x.Property)
			if err != nil {
				return err
			}
			pl.properties[i] = id
			pl.slots[id] = i
		}
	}
	return nil
}

// Command finds what a command of a role is in this lab.
func (pl *Plan) Command(role, command string) (lab.CommandID, *lab.CommandSpec, error) {
	c, comp, err := pl.member(role, command, func(c *lab.Class) bool { return c.Command(command) != nil })
	if err != nil {
		return lab.CommandID{}, nil, err
	}
	return lab.CommandID{Instrument: pl.Bindings[role].Instrument.Name, Component: comp, Command: command}, c.Command(command), nil
}

// Property finds what a property of a role is in this lab.
func (pl *Plan) Property(role, property string) (lab.PropertyID, *lab.Property, error) {
	c, comp, err := pl.member(role, property, func(c *lab.Class) bool { return c.Property(property) != nil })
	if err != nil {
		return lab.PropertyID{}, nil, err
	}
	return lab.PropertyID{Instrument: pl.Bindings[role].Instrument.Name, Component: comp, Property: property}, c.Property(property), nil
}

// member finds the one class of a role that has something, as the component
// of the instrument implements it.
func (pl *Plan) member(role, name string, has func(*lab.Class) bool) (*lab.Class, string, error) {
	x, b := pl.Protocol.Role(role), pl.Bindings[role]
	if x == nil || b.Instrument == nil {
		return nil, "", lab.Ef("protocols: bind", "", lab.KindInvalid, fmt.Sprintf("there is no role %q", role))
	}
	found := x.members(has)
	if len(found) != 1 {
		return nil, "", lab.Ef("protocols: bind", b.Instrument.Name, lab.KindInvalid, fmt.Sprintf("role %s has %d of the name %q", role, len(found), name))
	}
	return found[0], b.Components[found[0].Name], nil
}

// fixed reports whether the inputs alone decide an argument.
func (pl *Plan) fixed(a *Arg) bool {
	_, ok := pl.fixedArgs[a]
	return ok
}

// fix computes the arguments that the inputs alone decide.
func (pl *Plan) fix() lab.Issues {
	var issues lab.Issues
	v := pl.givens()
	for _, s := range pl.Protocol.steps {
		for i := range s.With {
			a := &s.With[i]
			if a.Expr == nil || !pl.onlyInputs(a.Expr) {
				continue
			}
			x, issue := v.arg(a)
			if issue != nil {
				issue.Path = "steps." + s.Path + ".with." + a.Name
				issues = append(issues, *issue)
				continue
			}
			pl.fixedArgs[a] = x
		}
	}
	return issues
}

func (pl *Plan) onlyInputs(p *expr.Program) bool {
	for _, slot := range p.Slots() {
		if pl.Protocol.slots[slot].Kind != InputSlot {
			return false
		}
	}
	return true
}

// Limits are the run's own limits as expressions over the lab's properties:
// inputs are written out, properties have their full path.
func (pl *Plan) Limits() []string { return append([]string(nil), pl.limits...) }

func (pl *Plan) bindLimits() lab.Issues {
	var issues lab.Issues
	for i := range pl.Protocol.Limits {
		l := &pl.Protocol.Limits[i]
		scope := expr.MapScope{}
		text := expr.Rewrite(l.Text, func(name string) string {
			if v, ok := pl.Inputs[name]; ok {
				return literal(v)
			}
			role, property, _ := strings.Cut(name, ".")
			id, spec, err := pl.Property(role, property)
			if err != nil {
				return name // a name of an enumeration
			}
			scope[id.String()] = expr.Symbol{Slot: len(scope), Type: spec.Type, MaxAge: spec.MaxAge}
			return id.String()
		})
		if _, err := expr.Compile(lab.Source{Text: text, Pos: l.Pos}, scope); err != nil {
			issues.Add(l.Pos, "bad_expression", "rename the input", "bound to the lab the limit would read %q", text)
			continue
		}
		pl.limits = append(pl.limits, text)
	}
	return issues
}

// literal writes a value so that an expression reads it back exactly.
func literal(v lab.Value) string {
	switch v.Kind {
	case lab.Number, lab.Integer:
		s := strconv.FormatFloat(v.Num, 'g', -1, 64)
		s = strings.Replace(s, "e+", "e", 1)
		if v.Kind == lab.Number && v.Unit.String() != "1" {
			s += " " + v.Unit.String()
		}
		return "(" + s + ")"
	case lab.Bool:
		return strconv.FormatBool(v.Bool)
	}
	return v.Text
}

// hash is over everything that decides what the plan does.
func (pl *Plan) hash(l *lab.Lab) (string, error) {
	type binding struct {
		Instrument string            `json:"instrument"`
		Components map[string]string `json:"components"`
	}
	bindings := map[string]binding{}
	for role, b := range pl.Bindings {
		bindings[role] = binding{b.Instrument.Name, b.Components}
	}
	data, err := json.Marshal(map[string]any{"protocol": pl.Protocol.Hash, "inputs": pl.Inputs, "bindings": bindings, "lab": l.Hash})
	if err != nil {
		return "", fmt.Errorf("protocols: hash of a plan: %w", err)
	}
	return lab.HashText(data), nil
}
