package lab

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"
)

// Lab is one laboratory: its instruments and what safe means for each.
type Lab struct {
	Name        string
	Simulated   bool // stamped on every datum as synthetic
	Instruments []*Instrument
	Runs        RunPolicy
	Places      map[string]int // how many samples a place holds
	Hash        string         // of the canonical lab file and everything that it names
	Pos         Pos
}

// RunPolicy is what a lab says about runs that a restart finds under way. The
// zero RunPolicy lets nothing go on by itself.
type RunPolicy struct {
	ContinueAfterRestart bool          // from a safe point, where the protocol says so too
	HeldFor              time.Duration // after that a run that waits for a person is ended; 0: DefaultHeldFor
}

// DefaultHeldFor is how long a run that a restart has held waits for a person.
const DefaultHeldFor = 12 * time.Hour

// Instrument is one device of a lab: a profile, a link, its limits.
type Instrument struct {
	Name     string
	Gateway  string // the gateway that owns it
	Profile  *Profile
	Link     map[string]string // where it is; keys by link kind: port and address; endpoint; broker and prefix
	Settings map[string]Value
	Holds    *Holds
	Limits   []Limit
	Safe     []SafeStep // ordered; empty: keep (leave it as it is)

	OnStart        string // keep | safe
	OnLeaseLoss    string // keep | safe
	OnGatewayDeath string // what really happens if the gateway dies: keep | watchdog

	Affects []Affect
	Pos     Pos
}

// Holds is what an instrument carries: a reagent in a pump.
type Holds struct {
	Substance     string
	Concentration *Quantity
}

// Limit bounds an argument of a command (Arg set), or a property (Arg empty),
// of one instrument. Commands beyond it are refused, never clamped.
type Limit struct {
	Component string
	Name      string // the command or the property
	Arg       string // the command's argument
	Min, Max  *Quantity
	Pos       Pos
}

// SafeStep is one step towards a safe state: a safe command with its
// arguments, or a wait between two of them.
type SafeStep struct {
	Command CommandID
	Args    map[string]Value
	Wait    time.Duration // set: only a wait
}

// String is the step as it is written in files.
func (s SafeStep) String() string {
	if s.Wait > 0 {
		return "wait " + Seconds(s.Wait).String()
	}
	if len(s.Args) == 0 {
		return s.Command.String()
	}
	var parts []string
	for n, v := range s.Args {
		parts = append(parts, n+" = "+v.String())
	}
	sort.Strings(parts)
	return s.Command.String() + "(" + strings.Join(parts, ", ") + ")"
}

// Affect is a change of another instrument's property by a command of this one.
type Affect struct {
	Property PropertyID
	Command  CommandID
	Change   Change
}

// Instrument finds an instrument by name.
func (l *Lab) Instrument(name string) *Instrument {
	for _, i := range l.Instruments {
		if i.Name == name {
			return i
		}
	}
	return nil
}

// Capacity is how many samples a place holds: one, where the lab's file says
// nothing else.
func (l *Lab) Capacity(place string) int {
	if n, ok := l.Places[place]; ok {
		return n
	}
	return 1
}

// Names lists the instruments.
func (l *Lab) Names() []string {
	names := make([]string, len(l.Instruments))
	for i, in := range l.Instruments {
		names[i] = in.Name
	}
	return names
}

// ResolveProperty finds "reactor.jacket.temperature" or, where the member's
// name is unique in the instrument, "reactor.temperature".
func (l *Lab) ResolveProperty(path string) (PropertyID, *Property, error) {
	in, comp, name, err := l.split(path)
	if err != nil {
		return PropertyID{}, nil, err
	}
	c, err := in.pick(comp, name, "property", func(c *Class) bool { return c.Property(name) != nil })
	if err != nil {
		return PropertyID{}, nil, err
	}
	return PropertyID{in.Name, c.Name, name}, c.Class.Property(name), nil
}

// ResolveCommand finds "reactor.jacket.heat" or "reactor.heat".
func (l *Lab) ResolveCommand(path string) (CommandID, *CommandSpec, error) {
	in, comp, name, err := l.split(path)
	if err != nil {
		return CommandID{}, nil, err
	}
	return in.ResolveCommand(comp, name)
}

// ResolveCommand finds a command of this instrument; component may be empty
// where the name is unique.
func (in *Instrument) ResolveCommand(component, name string) (CommandID, *CommandSpec, error) {
	c, err := in.pick(component, name, "command", func(c *Class) bool { return c.Command(name) != nil })
	if err != nil {
		return CommandID{}, nil, err
	}
	return CommandID{in.Name, c.Name, name}, c.Class.Command(name), nil
}

// CommandSpec finds the specification of a fully addressed command.
func (l *Lab) CommandSpec(id CommandID) *CommandSpec {
	if in := l.Instrument(id.Instrument); in != nil {
		if c := in.Profile.Component(id.Component); c != nil {
			return c.Class.Command(id.Command)
		}
	}
	return nil
}

// PropertySpec finds the specification of a fully addressed property.
func (l *Lab) PropertySpec(id PropertyID) *Property {
	if in := l.Instrument(id.Instrument); in != nil {
		if c := in.Profile.Component(id.Component); c != nil {
			return c.Class.Property(id.Property)
		}
	}
	return nil
}

// Properties lists every property of the lab, in file order: the slots of the
// safety engine.
func (l *Lab) Properties() []PropertyID {
	var ids []PropertyID
	for _, in := range l.Instruments {
		for _, c := range in.Profile.Components {
			for _, p := range c.Class.Properties {
				ids = append(ids, PropertyID{in.Name, c.Name, p.Name})
			}
		}
	}
	return ids
}

func (l *Lab) split(path string) (in *Instrument, comp, name string, err error) {
	parts := strings.Split(path, ".")
	if len(parts) != 2 && len(parts) != 3 || slices.Contains(parts, "") || len(path) > 200 {
		return nil, "", "", fmt.Errorf("%.200s: write instrument.name or instrument.component.name", path)
	}
	in = l.Instrument(parts[0])
	if in == nil {
		return nil, "", "", fmt.Errorf("%s: no instrument %q in lab %s%s", path, parts[0], l.Name, didYouMean(parts[0], l.Names()))
	}
	if len(parts) == 3 {
		comp = parts[1]
	}
	return in, comp, parts[len(parts)-1], nil
}

// pick finds the component that has a member; an ambiguous name is an error
// that lists the candidates.
func (in *Instrument) pick(comp, name, what string, has func(*Class) bool) (*Component, error) {
	var found []*Component
	for i := range in.Profile.Components {
		c := &in.Profile.Components[i]
		if (comp == "" || comp == c.Name) && has(c.Class) {
			found = append(found, c)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		var paths []string
		for _, c := range found {
			paths = append(paths, in.Name+"."+c.Name+"."+name)
		}
		return nil, fmt.Errorf("%s.%s is ambiguous: %s", in.Name, name, strings.Join(paths, ", "))
	case comp != "" && in.Profile.Component(comp) == nil:
		var names []string
		for _, c := range in.Profile.Components {
			names = append(names, c.Name)
		}
		return nil, fmt.Errorf("%s has no component %q%s", in.Name, comp, didYouMean(comp, names))
	}
	return nil, fmt.Errorf("%s: no such %s of %s%s", name, what, in.classes(comp), didYouMean(name, in.members(comp, what)))
}

func (in *Instrument) classes(comp string) string {
	var names []string
	for _, c := range in.Profile.Components {
		if comp == "" || comp == c.Name {
			names = append(names, c.Class.Name)
		}
	}
	return strings.Join(names, ", ")
}

func (in *Instrument) members(comp, what string) []string {
	var names []string
	for _, c := range in.Profile.Components {
		if comp != "" && comp != c.Name {
			continue
		}
		if what == "property" {
			for _, p := range c.Class.Properties {
				names = append(names, p.Name)
			}
			continue
		}
		for _, p := range c.Class.Commands {
			names = append(names, p.Name)
		}
	}
	sort.Strings(names)
	return names
}

func didYouMean(s string, candidates []string) string {
	if n := Nearest(s, candidates); n != "" {
		return "; did you mean " + n + "?"
	}
	return ""
}
