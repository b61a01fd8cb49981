package opcua

import (
	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"labgate/sim"
)

// node is one node of the address space. It does not change once the server
// runs.
type node struct {
	id    *ua.NodeID
	class ua.NodeClass
	name  *ua.QualifiedName
	about string
	refs  []ref

	dataType uint32 // variables: in namespace 0
	array    bool
	read     func(w *sim.World) any

	params []param // methods
	call   func(w *sim.World, args []any) error
}

// ref is a reference to another node, of a type in namespace 0.
type ref struct {
	kind    uint32
	forward bool
	to      *node
}

// param is one argument of a method.
type param struct {
	name, about string
	kind        ua.TypeID
}

// space is a server's address space: namespace 0, and what a device adds.
type space struct {
	namespaces []string
	nodes      map[string]*node
}

// device is the index of a device's own namespace; the ones before it are the
// standard's, the server's own and those of the companion specifications.
func (s *space) device() uint16 { return uint16(len(s.namespaces) - 1) }

func (s *space) node(nid *ua.NodeID) *node {
	if nid == nil {
		return nil
	}
	return s.nodes[nid.String()]
}

func (s *space) standard(n uint32) *node { return s.nodes[ua.NewNumericNodeID(0, n).String()] }

func (s *space) add(n *node) *node {
	s.nodes[n.id.String()] = n
	return n
}

func link(from *node, kind uint32, to *node) {
	from.refs = append(from.refs, ref{kind, true, to})
	to.refs = append(to.refs, ref{kind, false, from})
}

// supertypes of the reference types that are in use here.
var supertypes = map[uint32]uint32{
	id.HierarchicalReferences: id.References, id.NonHierarchicalReferences: id.References,
	id.HasChild: id.HierarchicalReferences, id.Organizes: id.HierarchicalReferences,
	id.Aggregates: id.HasChild, id.HasSubtype: id.HasChild,
	id.HasComponent: id.Aggregates, id.HasProperty: id.Aggregates,
	id.HasTypeDefinition: id.NonHierarchicalReferences,
}

// isKind reports whether a reference's type is the one wanted, or below it.
func isKind(kind, want uint32, subtypes bool) bool {
	for {
		if kind == want {
			return true
		}
		super, ok := supertypes[kind]
		if !ok || !subtypes {
			return false
		}
		kind = super
	}
}

// object adds an object below a parent. An empty name takes the node id's; ns
// is the namespace of its browse name.
func (s *space) object(parent *node, kind uint32, nid string, ns uint16, name, about string) *node {
	n := s.add(&node{
		id: ua.NewStringNodeID(s.device(), nid), class: ua.NodeClassObject,
		name: &ua.QualifiedName{NamespaceIndex: ns, Name: name}, about: about,
	})
	link(parent, kind, n)
	n.refs = append(n.refs, ref{id.HasTypeDefinition, true, s.standard(id.BaseObjectType)})
	return n
}

// unit is a unit of measure by its UNECE code.
type unit struct{ code, symbol, name string }

var (
	celsius   = unit{"CEL", "°C", "degree Celsius"}
	rpm       = unit{"RPM", "rpm", "revolutions per minute"}
	millilt   = unit{"MLT", "mL", "millilitre"}
	percent   = unit{"P1", "%", "percent"}
	nanometre = unit{"C45", "nm", "nanometre"}
)

// id is the code's bytes as a number, as OPC 10000-8 defines it.
func (u unit) id() int32 {
	var v int32
	for _, c := range []byte(u.code) {
		v = v<<8 | int32(c)
	}
	return v
}

// variable adds a variable below an object.
func (s *space) variable(parent *node, nid string, ns uint16, name, about string, dataType uint32, read func(w *sim.World) any) *node {
	n := s.add(&node{
		id: ua.NewStringNodeID(s.device(), nid), class: ua.NodeClassVariable,
		name: &ua.QualifiedName{NamespaceIndex: ns, Name: name}, about: about, dataType: dataType, read: read,
	})
	link(parent, id.HasComponent, n)
	n.refs = append(n.refs, ref{id.HasTypeDefinition, true, s.standard(id.BaseDataVariableType)})
	return n
}

// measure is a variable of numbers in a unit, which its EngineeringUnits say.
func (s *space) measure(parent *node, nid string, ns uint16, name, about string, u unit, read func(w *sim.World) float64) {
	n := s.variable(parent, nid, ns, name, about+", in "+u.symbol, id.Double, func(w *sim.World) any { return read(w) })
	n.refs[len(n.refs)-1].to = s.standard(id.AnalogItemType)
	eu := &ua.EUInformation{
		NamespaceURI: "http://www.opcfoundation.org/UA/units/un/cefact", UnitID: u.id(),
		DisplayName: text(u.symbol), Description: text(u.name),
	}
	s.property(n, nid+".EngineeringUnits", "EngineeringUnits", id.EUInformation, false, ua.NewExtensionObject(eu))
}

// property adds a property whose value never changes.
func (s *space) property(parent *node, nid, name string, dataType uint32, array bool, value any) {
	n := s.add(&node{
		id: ua.NewStringNodeID(s.device(), nid), class: ua.NodeClassVariable,
		name: &ua.QualifiedName{Name: name}, dataType: dataType, array: array,
		read: func(*sim.World) any { return value },
	})
	link(parent, id.HasProperty, n)
	n.refs = append(n.refs, ref{id.HasTypeDefinition, true, s.standard(id.PropertyType)})
}

// method adds a method to an object. call gets as many arguments as there are
// params, each of its kind, numbers finite.
func (s *space) method(parent *node, name, about string, params []param, call func(w *sim.World, args []any) error) {
	nid := parent.id.StringID() + "." + name
	n := s.add(&node{
		id: ua.NewStringNodeID(s.device(), nid), class: ua.NodeClassMethod,
		name: &ua.QualifiedName{NamespaceIndex: parent.name.NamespaceIndex, Name: name}, about: about, params: params, call: call,
	})
	link(parent, id.HasComponent, n)
	if len(params) == 0 {
		return
	}
	args := make([]*ua.ExtensionObject, len(params))
	for i, p := range params {
		args[i] = ua.NewExtensionObject(&ua.Argument{
			Name: p.name, DataType: ua.NewNumericNodeID(0, uint32(p.kind)), ValueRank: -1,
			ArrayDimensions: []uint32{}, Description: text(p.about),
		})
	}
	s.property(n, nid+".InputArguments", "InputArguments", id.Argument, true, args)
}

func text(s string) *ua.LocalizedText {
	t := &ua.LocalizedText{Text: s}
	t.UpdateMask()
	return t
}
