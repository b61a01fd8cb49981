package lab

import "time"

// LinkKind is the wire that a profile speaks.
type LinkKind string

// The wires. Memory is an instrument inside the process, for tests and the
// twin.
const (
	LinkSerial LinkKind = "serial"
	LinkOPCUA  LinkKind = "opcua"
	LinkMQTT   LinkKind = "mqtt"
	LinkMemory LinkKind = "memory"
)

// Profile is how one make of instrument implements classes on one wire. It is
// data: a driver interprets it.
type Profile struct {
	Name       string // "new-era/ne-1000@1"
	About      string
	Components []Component
	Settings   []Setting
	Link       LinkSpec
	Init       []Exchange
	Identify   Exchange
	Properties []PropertyMap
	Commands   []CommandMap
	Errors     []ErrorMap // device error replies, longest match first
	Repeats    string     // what the device may do again by itself; "none"
	Vectors    []Vector
	Pos        Pos
}

// Component is a named part that implements a class.
type Component struct {
	Name  string
	Class *Class
	Pos   Pos
}

// Setting is a value that the lab file gives for this make.
type Setting struct {
	Name     string
	Type     Type
	Required bool
	Default  *Value
	Pos      Pos
}

// LinkSpec is what the wire looks like. Only the fields of its kind are set.
type LinkSpec struct {
	Kind        LinkKind
	ReplyWithin time.Duration // an exchange without a reply for this long has failed
	Gap         time.Duration // least time between exchanges

	// serial
	Baud     int
	SendEnd  string   // appended to every line sent
	ReplyEnd []string // [end] or [start, end] of every reply

	// opcua
	Namespace string // URI; node ids below are within it

	// mqtt: the topics' prefix comes from the instrument's link
	State, Command, Ack string // topics below the prefix
	Time                string // JSON pointer to the source time in the state
	ID                  string // JSON pointer to the correlation id in the acknowledgement
	OK, Error           string // JSON pointers: bool success, text error
}

// Exchange is one message and its reply on a serial line.
//
// In Send, {name} and {name:4g} are replaced by an argument, a setting or the
// address; in Reply, {name} or {name:f} captures. See docs/profiles.md.
type Exchange struct {
	Send  string
	Reply string // empty: any reply that is no error
	Pos   Pos
}

// PropertyMap is where a property is found on the wire.
type PropertyMap struct {
	Component, Property string
	Unit                Unit    // the wire's unit; numbers are converted to the class's
	Scale               float64 // size of one wire step in Unit: 0.1 where 355 means 35.5; 0 means 1
	Poll                time.Duration

	Exchange Exchange          // serial: how to ask; the capture named "value" is the property
	Map      map[string]string // serial, mqtt, opcua: wire text or integer to enum name or "true"/"false"

	Node      string        // opcua: node id within the namespace, "s=Reactor.Jacket.CurrentValue"
	Subscribe time.Duration // opcua: how often the server looks for a change and tells it, beside the polls; 0: not at all

	Pointer string // mqtt: JSON pointer into the state
	Pos     Pos
}

// CommandMap is how a command is sent on the wire.
type CommandMap struct {
	Component, Command string

	Inputs []WireInput // how arguments are written; on opcua in the method's order

	Exchanges []Exchange // serial
	EffectAt  int        // serial: the exchange (from 1) whose first byte begins the effect

	Writes         []WireWrite // opcua: written in this order, in one request, before the method is called
	Object, Method string      // opcua: call Method on Object; empty where writing is all

	Name         string // mqtt: the command's name on the wire
	Gives        []WireGive
	ResultWithin time.Duration // mqtt: an acknowledgement with the result may take this long (default: ReplyWithin)
	Pos          Pos
}

// WireInput is one argument on the wire.
type WireInput struct {
	Arg   string
	Unit  Unit    // what the device expects
	Scale float64 // size of one wire step in Unit; 0 means 1
	Type  string  // opcua: "double", "int32", …; mqtt: ignored
	Key   string  // mqtt: the key in the command's arguments
}

// WireWrite is one value that a command writes to a node: an argument's, or a
// fixed one.
type WireWrite struct {
	Node  string
	Arg   string // the argument; written as its input says
	Value Value  // or this
	Type  string // … as this wire type
	Pos   Pos
}

// WireGive is one result on the wire (mqtt: within the acknowledgement).
type WireGive struct {
	Name    string
	Unit    Unit
	Scale   float64
	Pointer string            // JSON pointer
	Columns map[string]string // table: column to JSON pointer of an array
	Topic   string            // blob: the topic below the prefix on which the payload of this command's id follows: "frame/{id}"
	Media   string
}

// ErrorMap names a device's error reply.
type ErrorMap struct {
	Match string
	Name  string
}

// Vector is a known pair of bytes and values that a profile must reproduce.
type Vector struct {
	Name   string
	Send   string
	Reply  string
	Do     string           // the command it belongs to, with Args; or
	Args   map[string]Value // …
	Sends  []string         // … what it must send, message by message
	Expect map[string]Value // property to value, for a reply
	Error  string           // the error name that the reply means, or "refused" where the values can't be written
	Pos    Pos
}

// Component finds a component by name.
func (p *Profile) Component(name string) *Component {
	for i := range p.Components {
		if p.Components[i].Name == name {
			return &p.Components[i]
		}
	}
	return nil
}

// PropertyMap finds the wire mapping of a property.
func (p *Profile) PropertyMap(component, property string) *PropertyMap {
	for i := range p.Properties {
		if m := &p.Properties[i]; m.Component == component && m.Property == property {
			return m
		}
	}
	return nil
}

// CommandMap finds the wire mapping of a command.
func (p *Profile) CommandMap(component, command string) *CommandMap {
	for i := range p.Commands {
		if m := &p.Commands[i]; m.Component == component && m.Command == command {
			return m
		}
	}
	return nil
}
