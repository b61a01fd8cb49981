package configs

import (
	"errors"
	"strings"
	"time"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/lab/frame"
)

// instrument reads one instrument and adds it to the lab.
func (r *labReader) instrument(e entry) {
	f := r.Map(e.node, "lab instrument", "profile", "gateway", "link", "settings", "holds", "limits", "safe",
		"on_start", "on_lease_loss", "on_gateway_death", "affects")
	in := &lab.Instrument{Name: r.name(e, "instrument"), Gateway: r.gateway, Pos: e.pos}
	if n := f.Get("gateway"); n != nil {
		in.Gateway = r.Name(n, "gateway")
	}
	in.Profile = r.profile(f.Require("profile"))
	r.reactions(f, in)
	in.Holds = r.holds(f.Get("holds"))
	if in.Profile == nil {
		r.broken = true
		return
	}
	before := len(r.Issues)
	r.linkOf(f.Require("link"), in)
	r.settings(f.Get("settings"), in)
	if len(r.Issues) == before {
		r.checkBinding(f, in)
	}
	r.limits(f.Get("limits"), in)
	r.safe(f.Require("safe"), in)
	if in.OnLeaseLoss == "" {
		in.OnLeaseLoss = "keep"
		if len(in.Safe) > 0 {
			in.OnLeaseLoss = "safe"
		}
	}
	r.lab.Instruments = append(r.lab.Instruments, in)
	for _, a := range r.entries(f.Get("affects"), "affects") {
		r.affects = append(r.affects, pendingAffects{in, a})
	}
}

// profile finds the profile that is named. Nil: it was reported, here or where
// the profile was read.
func (r *labReader) profile(n *strict.Node) *lab.Profile {
	if n == nil {
		return nil
	}
	name := r.Text(n)
	p, known := r.profiles[name]
	if !known {
		var names []string
		for n := range r.profiles {
			names = append(names, n)
		}
		r.add(n.Pos(), "unknown_profile", "", "there is no profile %q%s", name, didYouMean(name, names))
	}
	return p
}

// reactions reads what happens to the instrument when something else fails. A
// simulated lab may leave them out; on_lease_loss is then filled in when the
// safe list is known.
func (r *labReader) reactions(f *strict.Fields, in *lab.Instrument) {
	for _, x := range []struct {
		key   string
		to    *string
		other string
		def   string
	}{
		{"on_start", &in.OnStart, "safe", "keep"},
		{"on_lease_loss", &in.OnLeaseLoss, "safe", ""},
		{"on_gateway_death", &in.OnGatewayDeath, "watchdog", "keep"},
	} {
		n := f.Get(x.key)
		switch {
		case n != nil:
			*x.to = r.word(n, x.key, "keep", x.other)
		case r.physical:
			r.add(in.Pos, "missing_key", x.key+": keep, or "+x.other, "%s says nothing about %s; in a physical lab it has to", in.Name, x.key)
		default:
			*x.to = x.def
		}
	}
}

// The dimensions of concentrations; a fraction has none.
var (
	molar   = lab.Dim{N: 1, L: -3}
	molal   = lab.Dim{N: 1, M: -1}
	density = lab.Dim{M: 1, L: -3}
)

func (r *labReader) holds(n *strict.Node) *lab.Holds {
	if n == nil {
		return nil
	}
	f := r.Map(n, "reagent", "substance", "concentration")
	h := &lab.Holds{Substance: r.text(f.Require("substance"), "substance", 100)}
	if c := f.Get("concentration"); c != nil {
		before := len(r.Issues)
		q := r.Quantity(c)
		switch d := q.Unit.Dim(); {
		case len(r.Issues) > before:
		case c.LooksNumeric():
			r.add(c.Pos(), "no_unit", "in mol/L, g/L, mol/kg or %", "the concentration %s has no unit", c.Text())
		case d != lab.None && d != molar && d != molal && d != density:
			r.add(c.Pos(), "wrong_dimension", "in mol/L, g/L, mol/kg or %", "%s is a %s; a concentration is wanted", q, d)
		case q.Value < 0:
			r.add(c.Pos(), "out_of_bounds", "", "the concentration is %s; it can't be negative", q)
		}
		h.Concentration = &q
	}
	return h
}

// settings reads the values that the profile asks for.
func (r *labReader) settings(n *strict.Node, in *lab.Instrument) {
	in.Settings = map[string]lab.Value{}
	var names []string
	for _, s := range in.Profile.Settings {
		names = append(names, s.Name)
	}
	given := map[string]bool{}
	for _, e := range r.entries(n, "settings") {
		if !contains(names, e.key) {
			r.add(e.pos, "unknown_key", "", "profile %s has no setting %q%s", in.Profile.Name, e.key, didYouMean(e.key, names))
			continue
		}
		given[e.key] = true
		for _, s := range in.Profile.Settings {
			if s.Name != e.key {
				continue
			}
			if v, ok := r.value(e.node, s.Type, "setting "+s.Name); ok {
				in.Settings[s.Name] = v
			}
		}
	}
	for _, s := range in.Profile.Settings {
		switch {
		case given[s.Name]:
		case s.Default != nil:
			in.Settings[s.Name] = *s.Default
		case s.Required:
			r.add(in.Pos, "missing_setting", "settings: {"+s.Name+": …}", "%s: profile %s needs the setting %s, a %s", in.Name, in.Profile.Name, s.Name, s.Type)
		}
	}
}

// checkBinding checks that the settings and the address of a serial
// instrument can be written on its line, digit for digit.
func (r *labReader) checkBinding(f *strict.Fields, in *lab.Instrument) {
	if in.Profile.Link.Kind != lab.LinkSerial {
		return
	}
	codec, is := frame.Compile(in.Profile)
	if codec == nil {
		r.Issues = append(r.Issues, is...)
		return
	}
	_, err := codec.Bind(in, in.Link)
	if err == nil {
		return
	}
	pos := in.Pos
	if n := f.Get("settings"); n != nil {
		pos = n.Pos()
	}
	var list lab.Issues
	if !errors.As(err, &list) {
		r.add(pos, "not_carried", "", "%s: %v", in.Name, err)
	}
	for _, i := range list {
		for _, line := range strings.Split(i.Say, "\n") {
			if !strings.HasPrefix(line, in.Name+":") {
				line = in.Name + ": " + line
			}
			r.add(pos, "not_carried", i.Hint, "%s", line)
		}
	}
}

// limits reads bounds on arguments (component.command.arg) and properties
// (component.property); the component may be left out where that is clear.
func (r *labReader) limits(n *strict.Node, in *lab.Instrument) {
	seen := map[[3]string]lab.Pos{}
	for _, e := range r.entries(n, "limits") {
		l, t, err := resolveLimit(in, e.key)
		if err != nil {
			r.add(e.pos, "unknown_name", "", "%v", err)
			continue
		}
		l.Pos = e.pos
		id := [3]string{l.Component, l.Name, l.Arg}
		if first, ok := seen[id]; ok {
			r.add(e.pos, "duplicate", "", "%s has a limit already, at %s", e.key, first)
			continue
		}
		seen[id] = e.pos
		f := r.Map(e.node, "limit", "min", "max")
		l.Min, l.Max = r.limitEnd(f.Get("min"), t, e.key), r.limitEnd(f.Get("max"), t, e.key)
		switch {
		case f.Get("min") == nil && f.Get("max") == nil:
			r.add(e.pos, "missing_key", "give min, max or both", "the limit of %s bounds nothing", e.key)
		case l.Min != nil && l.Max != nil && l.Min.Base() > l.Max.Base():
			r.add(f.Get("max").Pos(), "empty_range", "", "max %s is below min %s: nothing would be allowed", l.Max, l.Min)
		}
		in.Limits = append(in.Limits, l)
	}
}

func (r *labReader) limitEnd(n *strict.Node, t lab.Type, what string) *lab.Quantity {
	if n == nil {
		return nil
	}
	if t.Kind != lab.Number && t.Kind != lab.Integer {
		r.add(n.Pos(), "wrong_type", "", "%s is a %s; only numbers have limits", what, t.Kind)
		return nil
	}
	v, ok := r.value(n, t, what)
	if !ok {
		return nil
	}
	q := v.Quantity()
	return &q
}

// resolveLimit finds what a limit bounds, and its type.
func resolveLimit(in *lab.Instrument, path string) (lab.Limit, lab.Type, error) {
	parts := strings.Split(path, ".")
	one := &lab.Lab{Instruments: []*lab.Instrument{in}}
	property := func(rest string) (lab.Limit, lab.Type, error) {
		id, p, err := one.ResolveProperty(in.Name + "." + rest)
		if err != nil {
			return lab.Limit{}, lab.Type{}, err
		}
		return lab.Limit{Component: id.Component, Name: id.Property}, p.Type, nil
	}
	if len(parts) == 1 || len(parts) == 2 && in.Profile.Component(parts[0]) != nil {
		return property(path)
	}
	if len(parts) > 3 {
		return lab.Limit{}, lab.Type{}, errors.New(path + ": write component.command.argument or component.property")
	}
	name := parts[len(parts)-1]
	id, c, err := one.ResolveCommand(in.Name + "." + strings.Join(parts[:len(parts)-1], "."))
	if err != nil {
		return lab.Limit{}, lab.Type{}, err
	}
	a := c.Arg(name)
	if a == nil {
		var names []string
		for _, a := range c.Args {
			names = append(names, a.Name)
		}
		return lab.Limit{}, lab.Type{}, errors.New(id.String() + " has no argument " + name + didYouMean(name, names))
	}
	return lab.Limit{Component: id.Component, Name: id.Command, Arg: a.Name}, a.Type, nil
}

// safeOf lists what a safe list may name.
func safeOf(in *lab.Instrument, comp string) string {
	var names []string
	for _, c := range in.Profile.Components {
		for _, cmd := range c.Class.Commands {
			if cmd.Effect == lab.Safe && (comp == "" || comp == c.Name || in.Profile.Component(comp) == nil) {
				names = append(names, c.Name+"."+cmd.Name)
			}
		}
	}
	if len(names) == 0 {
		return "nothing here is safe by its class: keep"
	}
	return "one of " + strings.Join(names, ", ") + "; or keep"
}

// maxSafeWait bounds one wait of a safe list.
const maxSafeWait = 10 * time.Minute

// safe reads what brings the instrument to its safe state: safe commands in
// order, with their arguments, and waits between them; or keep.
func (r *labReader) safe(n *strict.Node, in *lab.Instrument) {
	if n == nil {
		return
	}
	list := r.List(n)
	keep, before := false, len(r.Issues)
	for i, e := range list {
		text := r.Text(e)
		switch wait, isWait := strings.CutPrefix(text, "wait "); {
		case text == "keep":
			keep = true
		case isWait:
			between := i > 0 && i+1 < len(list) && (len(in.Safe) == 0 || in.Safe[len(in.Safe)-1].Wait == 0)
			if d, ok := r.safeWait(e, wait, between); ok {
				in.Safe = append(in.Safe, lab.SafeStep{Wait: d})
			}
		default:
			r.safeCommand(e, text, in)
		}
	}
	switch {
	case len(list) == 0:
		r.add(n.Pos(), "empty", "write [keep] to leave it as it is", "safe of %s is empty", in.Name)
	case keep && len(list) > 1:
		r.add(n.Pos(), "bad_value", "", "safe of %s says keep and more", in.Name)
	case keep && (in.OnLeaseLoss == "safe" || in.OnStart == "safe"):
		r.add(n.Pos(), "bad_value", "name safe commands, or write keep there too", "%s is to go to its safe state, and safe says [keep]: nothing would happen", in.Name)
	case len(r.Issues) == before && !keep:
		r.checkSafeWire(list, in)
	}
}

// safeWait reads the time of a wait, which stands between two commands.
func (r *labReader) safeWait(n *strict.Node, text string, between bool) (time.Duration, bool) {
	q, err := lab.ParseQuantity(strings.TrimSpace(text))
	var d time.Duration
	if err == nil {
		d, err = q.Duration()
	}
	switch {
	case err != nil:
		r.add(n.Pos(), "bad_value", "as in wait 2 s", "safe: wait: %v", err)
	case d <= 0 || d > maxSafeWait:
		r.add(n.Pos(), "out_of_bounds", "", "safe: a wait of %s; longer than nothing and at most %s", q, lab.Seconds(maxSafeWait))
	case !between:
		r.add(n.Pos(), "bad_value", "", "safe: a wait stands between two commands")
	default:
		return d, true
	}
	return 0, false
}

// safeCommand reads one command of a safe list: component.command, or just
// command, and its arguments in brackets.
func (r *labReader) safeCommand(n *strict.Node, text string, in *lab.Instrument) {
	call, err := lab.ParseCall(text)
	if err != nil {
		r.add(n.Pos(), "bad_value", "as in jacket.heat_off, or chiller.set(target = 5 degC)", "safe: %v", err)
		return
	}
	comp, name, dotted := strings.Cut(call.Path, ".")
	if !dotted {
		comp, name = "", call.Path
	}
	id, c, err := in.ResolveCommand(comp, name)
	switch {
	case err != nil:
		r.add(n.Pos(), "unknown_name", safeOf(in, comp), "safe: %v", err)
		return
	case c.Effect != lab.Safe:
		r.add(n.Pos(), "not_safe", "only a safe command may run without being asked about", "safe: %s is %s by its class, not safe", id, c.Effect)
		return
	}
	step := lab.SafeStep{Command: id}
	if step.Args = r.safeArgs(n, call, id, c, in); step.Args == nil && len(c.Args) > 0 {
		return
	}
	for _, other := range in.Safe {
		if other.String() == step.String() {
			r.add(n.Pos(), "duplicate", "", "safe: %s stands there twice", step)
		}
	}
	in.Safe = append(in.Safe, step)
}

// safeArgs reads a safe command's arguments: complete, of its class's types,
// within its bounds and the instrument's limits. Nil where something is wrong,
// which was reported, or where it takes none.
func (r *labReader) safeArgs(n *strict.Node, call lab.Call, id lab.CommandID, c *lab.CommandSpec, in *lab.Instrument) map[string]lab.Value {
	before := len(r.Issues)
	args := map[string]lab.Value{}
	var names []string
	for _, p := range c.Args {
		names = append(names, p.Name)
	}
	for _, a := range call.Args {
		p := c.Arg(a.Name)
		if p == nil {
			r.add(n.Pos(), "unknown_name", "", "safe: %s has no argument %q%s", id, a.Name, didYouMean(a.Name, names))
			continue
		}
		v, err := p.Type.ParseText(a.Text)
		if err != nil {
			r.add(n.Pos(), "bad_value", "", "safe: %s of %s: %v", a.Name, id, err)
			continue
		}
		if i, bad := p.CheckBounds(v); bad {
			r.add(n.Pos(), "out_of_bounds", "", "safe: %s: %s", id, i.Say)
		}
		for _, l := range in.Limits {
			if l.Component == id.Component && l.Name == id.Command && l.Arg == a.Name && !within(v, l) {
				r.add(n.Pos(), "out_of_bounds", "", "safe: %s: %s is %s, beyond the limit at %s", id, a.Name, v, l.Pos)
			}
		}
		args[a.Name] = v
	}
	for _, name := range names {
		if _, ok := args[name]; !ok && len(r.Issues) == before {
			r.add(n.Pos(), "missing_key", "nobody is there to give it", "safe: %s needs %s", id, name)
		}
	}
	if len(r.Issues) > before || len(c.Args) == 0 {
		return nil
	}
	return args
}

// within reports whether a number is within a limit of the lab file.
func within(v lab.Value, l lab.Limit) bool {
	x := v.Base()
	return v.Usable() && (l.Min == nil || x >= l.Min.Base()) && (l.Max == nil || x <= l.Max.Base())
}

// checkSafeWire checks that the instrument's wire can carry the arguments of
// its safe commands exactly: at the time there is nobody to repair them.
func (r *labReader) checkSafeWire(list []*strict.Node, in *lab.Instrument) {
	for i, s := range in.Safe {
		if len(s.Args) == 0 || len(list) != len(in.Safe) {
			continue
		}
		if err := frame.Encodable(in, &lab.Command{Target: s.Command, Args: s.Args}); err != nil {
			r.add(list[i].Pos(), "not_carried", "", "safe: %s: %v", s, err)
		}
	}
}

// pendingAffects waits until all instruments are known.
type pendingAffects struct {
	in    *lab.Instrument
	entry entry
}

// resolveAffects reads {instrument.property: {command: change}}.
func (r *labReader) resolveAffects() {
	for _, p := range r.affects {
		id, prop, err := r.lab.ResolveProperty(p.entry.key)
		switch {
		case err != nil && r.broken:
			continue
		case err != nil:
			r.add(p.entry.pos, "unknown_name", "", "affects: %v", err)
			continue
		case id.Instrument == p.in.Name:
			r.add(p.entry.pos, "bad_value", "", "affects: %s is %s's own; its class says what changes it", id, p.in.Name)
			continue
		}
		for _, e := range r.entries(p.entry.node, "affects") {
			comp, name, dotted := strings.Cut(e.key, ".")
			if !dotted {
				comp, name = "", e.key
			}
			cmd, spec, err := p.in.ResolveCommand(comp, name)
			if err != nil {
				r.add(e.pos, "unknown_name", "", "affects: %v", err)
				continue
			}
			ch := r.change(e.node)
			ch.Property, ch.Pos = id.Property, e.pos
			r.checkChange(&ch, prop.Type, scopesOf(p.in.Profile.Component(cmd.Component).Class, spec).all)
			p.in.Affects = append(p.in.Affects, lab.Affect{Property: id, Command: cmd, Change: ch})
		}
	}
}
