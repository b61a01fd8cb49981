package lab

import "time"

// Effect is the effect class of a command: what may be done with it when
// something fails. The zero Effect is effectful, the most careful one.
type Effect uint8

// The effect classes.
const (
	Effectful  Effect = iota // must never happen twice: a dose
	Idempotent               // may be repeated: a setpoint
	Acquire                  // may be repeated, each try is charged: an exposure
	Read                     // no effect
	Safe                     // towards the safe state: stop, close
)

var effectNames = [...]string{"effectful", "idempotent", "acquire", "read", "safe"}

// String is the effect class as written in files.
func (e Effect) String() string {
	if int(e) < len(effectNames) {
		return effectNames[e]
	}
	return effectNames[Effectful]
}

// ParseEffect reads the name of an effect class.
func ParseEffect(s string) (Effect, bool) {
	for i, n := range effectNames {
		if n == s {
			return Effect(i), true
		}
	}
	return Effectful, false
}

// Source is a piece of the expression language and where it stands. Package
// lab/expr compiles it.
type Source struct {
	Text string
	Pos  Pos
}

// Class is what a kind of instrument can do, independent of maker.
type Class struct {
	Name       string // "pump/v1"
	About      string
	Properties []Property // in file order
	Commands   []CommandSpec
	Pos        Pos
}

// Property is a typed value that an instrument of the class shows.
type Property struct {
	Name   string
	Type   Type
	MaxAge time.Duration // older readings are unknown
	Pos    Pos
}

// Param is an argument or a result of a command.
type Param struct {
	Name     string
	Type     Type
	Min, Max *Value // inclusive bounds, in the type's unit
	MoreThan *Value // exclusive lower bound
	From     Source // results: an expression over the readings; empty: the device returns it
	Pos      Pos
}

// CommandSpec is what a command of a class takes, changes and returns.
//
// In its expressions a plain name is an argument if there is one of that name,
// else a property; self.name is always the property; before.name is the
// property when the command was admitted, void once the epoch has changed.
type CommandSpec struct {
	Name      string
	About     string
	Args      []Param
	Effect    Effect
	Changes   []Change
	Expected  Source // duration, over the arguments; empty: at once
	Worst     Source // duration; after it the command has failed
	Progress  Source // 0 to 1
	DoneWhen  Source // empty: an acknowledgement of the device is the confirmation
	Partial   Source // the amount that was done, where a part can be
	Gives     []Param
	StopsWith string        // the safe command that stops it
	Within    time.Duration // safe commands: to be confirmed within
	Else      string        // safe commands: what an unconfirmed one does; "alarm"
	Pos       Pos
}

// Change is one declared change of a property: what preflight, budgets and
// in-doubt accounting stand on.
type Change struct {
	Property string
	Add      bool   // += rather than =
	To       Source // an expression, or "[low, high]"
	Low      Source // set instead of To where the change is a range
	High     Source
	Pos      Pos
}

// Property finds a property by name.
func (c *Class) Property(name string) *Property {
	for i := range c.Properties {
		if c.Properties[i].Name == name {
			return &c.Properties[i]
		}
	}
	return nil
}

// Command finds a command by name.
func (c *Class) Command(name string) *CommandSpec {
	for i := range c.Commands {
		if c.Commands[i].Name == name {
			return &c.Commands[i]
		}
	}
	return nil
}

// Arg finds an argument by name.
func (c *CommandSpec) Arg(name string) *Param { return findParam(c.Args, name) }

// Give finds a result by name.
func (c *CommandSpec) Give(name string) *Param { return findParam(c.Gives, name) }

func findParam(ps []Param, name string) *Param {
	for i := range ps {
		if ps[i].Name == name {
			return &ps[i]
		}
	}
	return nil
}
