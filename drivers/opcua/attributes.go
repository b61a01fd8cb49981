package opcua

import (
	"context"
	"fmt"
	"math"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"labgate/lab"
)

// fact is what a server itself says of a node: its unit (OPC 10000-8, 5.3.2),
// and, of one that is written, its range, its type and whether it may be.
type fact struct {
	unit      lab.Unit
	hasUnit   bool
	low, high float64 // EURange, in the wire's unit
	hasRange  bool
	dataType  uint32 // of namespace 0; 0: not known
	readOnly  bool
}

// asked is one question about a node: a property of it or an attribute.
type asked struct {
	of   *fact
	node *ua.NodeID
	name string         // a property of the node: EngineeringUnits, EURange
	attr ua.AttributeID // or an attribute of it
}

// facts asks the server what it says of the nodes that have a unit, or are
// written. What it doesn't say, the profile says alone.
func (s *session) facts(ctx context.Context, devices map[string]*device) error {
	var list []*asked
	add := func(f *fact, n *ua.NodeID, names ...string) {
		for _, name := range names {
			list = append(list, &asked{of: f, node: n, name: name})
		}
	}
	for _, d := range devices {
		for _, p := range d.properties {
			p.says = &fact{}
			if p.typ.Kind == lab.Number && p.wire.Unit.Dim() != lab.None && (p.wire.Scale == 0 || p.wire.Scale == 1) {
				add(p.says, s.node(d, p.wire.Node), "EngineeringUnits")
			}
		}
		for _, c := range d.commands {
			for i := range c.writes {
				w := &c.writes[i]
				w.says = &fact{}
				n := s.node(d, w.node)
				add(w.says, n, "EngineeringUnits", "EURange")
				list = append(list, &asked{of: w.says, node: n, attr: ua.AttributeIDDataType}, &asked{of: w.says, node: n, attr: ua.AttributeIDUserAccessLevel})
			}
		}
	}
	list, err := s.translate(ctx, list)
	if err != nil {
		return err
	}
	for len(list) > 0 {
		part := list[:min(len(list), s.maxNodes)]
		list = list[len(part):]
		nodes := make([]*ua.ReadValueID, len(part))
		for i, a := range part {
			nodes[i] = &ua.ReadValueID{NodeID: a.node, AttributeID: a.attr}
		}
		res, err := s.read(ctx, nodes)
		if err != nil {
			return err
		}
		for i, a := range part {
			a.take(res[i])
		}
	}
	return nil
}

// translate finds the nodes of properties by their names; those that are not
// there leave the list.
func (s *session) translate(ctx context.Context, list []*asked) ([]*asked, error) {
	var named, found []*asked
	for _, a := range list {
		if a.name != "" {
			named = append(named, a)
		} else {
			found = append(found, a)
		}
	}
	for len(named) > 0 {
		part := named[:min(len(named), s.maxNodes)]
		named = named[len(part):]
		req := &ua.TranslateBrowsePathsToNodeIDsRequest{}
		for _, a := range part {
			req.BrowsePaths = append(req.BrowsePaths, &ua.BrowsePath{StartingNode: a.node, RelativePath: &ua.RelativePath{Elements: []*ua.RelativePathElement{{
				ReferenceTypeID: ua.NewNumericNodeID(0, id.HasProperty), IncludeSubtypes: true, TargetName: &ua.QualifiedName{Name: a.name}}}}})
		}
		res, err := send[*ua.TranslateBrowsePathsToNodeIDsResponse](ctx, s, req)
		if err != nil {
			return nil, fmt.Errorf("asking for units and ranges: %w", err)
		}
		for i, r := range res.Results {
			if i < len(part) && r != nil && quality(r.StatusCode) == lab.Good && len(r.Targets) == 1 && r.Targets[0].TargetID != nil {
				part[i].node, part[i].attr = r.Targets[0].TargetID.NodeID, ua.AttributeIDValue
				found = append(found, part[i])
			}
		}
	}
	return found, nil
}

// take keeps what was answered, if it is what such an answer should be.
func (a *asked) take(dv *ua.DataValue) {
	raw := scalar(dv)
	if x, ok := raw.(*ua.ExtensionObject); ok && x != nil {
		raw = x.Value
	}
	switch v := raw.(type) {
	case *ua.EUInformation:
		a.of.unit, a.of.hasUnit = lab.UNECEUnit(v.UnitID)
	case *ua.Range:
		if v.Low < v.High && !math.IsInf(v.Low, 0) && !math.IsInf(v.High, 0) {
			a.of.low, a.of.high, a.of.hasRange = v.Low, v.High, true
		}
	case *ua.NodeID:
		if a.attr == ua.AttributeIDDataType && v.Namespace() == 0 {
			a.of.dataType = v.IntID()
		}
	case uint8:
		a.of.readOnly = a.attr == ua.AttributeIDUserAccessLevel && v&uint8(ua.AccessLevelTypeCurrentWrite) == 0
	}
}

// differs says what is wrong with a number in the profile's unit, where the
// server names another.
func (f *fact) differs(unit lab.Unit) error {
	if f == nil || !f.hasUnit || f.unit == unit {
		return nil
	}
	return fmt.Errorf("the server gives it in %s, the profile says %s", f.unit, unit)
}

// dataTypes are the nodes of the built-in types (OPC 10000-6, 5.1.2) by the
// names that profiles give them.
var dataTypes = map[string]uint32{
	"boolean": id.Boolean, "sbyte": id.SByte, "byte": id.Byte, "int16": id.Int16, "uint16": id.UInt16, "int32": id.Int32,
	"uint32": id.UInt32, "int64": id.Int64, "uint64": id.UInt64, "float": id.Float, "double": id.Double, "string": id.String,
}

// forbids says why the server would not take a value, or not as it is meant.
func (f *fact) forbids(wire string, unit *lab.Unit, v *ua.Variant) error {
	if f == nil {
		return nil
	}
	if f.readOnly {
		return fmt.Errorf("the server lets this user not write it")
	}
	if f.dataType != 0 && f.dataType != dataTypes[wire] && builtIn(f.dataType) {
		return fmt.Errorf("the server's type is %s, the profile says %s", typeName(f.dataType), wire)
	}
	if unit != nil {
		if err := f.differs(*unit); err != nil {
			return err
		}
	}
	x, err := number(v.Value())
	if f.hasRange && err == nil && (x < f.low || x > f.high) {
		return fmt.Errorf("%v is beyond the server's range, %v to %v", x, f.low, f.high)
	}
	return nil
}

func builtIn(dataType uint32) bool { return typeName(dataType) != "" }

func typeName(dataType uint32) string {
	for name, n := range dataTypes {
		if n == dataType {
			return name
		}
	}
	return ""
}
