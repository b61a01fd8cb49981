package opcua

import (
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"labgate/sim"
)

// standardNodes are the part of namespace 0 that clients need to find their
// way, each below its parent: an object organizes, a type has subtypes.
var standardNodes = []struct {
	id     uint32
	name   string
	class  ua.NodeClass
	parent uint32
}{
	{id.RootFolder, "Root", ua.NodeClassObject, 0},
	{id.ObjectsFolder, "Objects", ua.NodeClassObject, id.RootFolder},
	{id.TypesFolder, "Types", ua.NodeClassObject, id.RootFolder},
	{id.ViewsFolder, "Views", ua.NodeClassObject, id.RootFolder},
	{id.ObjectTypesFolder, "ObjectTypes", ua.NodeClassObject, id.TypesFolder},
	{id.VariableTypesFolder, "VariableTypes", ua.NodeClassObject, id.TypesFolder},
	{id.DataTypesFolder, "DataTypes", ua.NodeClassObject, id.TypesFolder},
	{id.ReferenceTypesFolder, "ReferenceTypes", ua.NodeClassObject, id.TypesFolder},

	{id.BaseObjectType, "BaseObjectType", ua.NodeClassObjectType, id.ObjectTypesFolder},
	{id.FolderType, "FolderType", ua.NodeClassObjectType, id.BaseObjectType},
	{id.ServerType, "ServerType", ua.NodeClassObjectType, id.BaseObjectType},
	{id.BaseVariableType, "BaseVariableType", ua.NodeClassVariableType, id.VariableTypesFolder},
	{id.PropertyType, "PropertyType", ua.NodeClassVariableType, id.BaseVariableType},
	{id.BaseDataVariableType, "BaseDataVariableType", ua.NodeClassVariableType, id.BaseVariableType},
	{id.AnalogItemType, "AnalogItemType", ua.NodeClassVariableType, id.BaseDataVariableType},

	{id.BaseDataType, "BaseDataType", ua.NodeClassDataType, id.DataTypesFolder},
	{id.Boolean, "Boolean", ua.NodeClassDataType, id.BaseDataType},
	{id.String, "String", ua.NodeClassDataType, id.BaseDataType},
	{id.DateTime, "DateTime", ua.NodeClassDataType, id.BaseDataType},
	{id.UtcTime, "UtcTime", ua.NodeClassDataType, id.DateTime},
	{id.Number, "Number", ua.NodeClassDataType, id.BaseDataType},
	{id.Double, "Double", ua.NodeClassDataType, id.Number},
	{id.Int32, "Int32", ua.NodeClassDataType, id.Number},
	{id.UInt32, "UInt32", ua.NodeClassDataType, id.Number},
	{id.Byte, "Byte", ua.NodeClassDataType, id.Number},
	{id.Enumeration, "Enumeration", ua.NodeClassDataType, id.BaseDataType},
	{id.ServerState, "ServerState", ua.NodeClassDataType, id.Enumeration},
	{id.Structure, "Structure", ua.NodeClassDataType, id.BaseDataType},
	{id.ServerStatusDataType, "ServerStatusDataType", ua.NodeClassDataType, id.Structure},
	{id.BuildInfo, "BuildInfo", ua.NodeClassDataType, id.Structure},
	{id.EUInformation, "EUInformation", ua.NodeClassDataType, id.Structure},
	{id.Argument, "Argument", ua.NodeClassDataType, id.Structure},

	{id.References, "References", ua.NodeClassReferenceType, id.ReferenceTypesFolder},
	{id.HierarchicalReferences, "HierarchicalReferences", ua.NodeClassReferenceType, id.References},
	{id.NonHierarchicalReferences, "NonHierarchicalReferences", ua.NodeClassReferenceType, id.References},
	{id.HasChild, "HasChild", ua.NodeClassReferenceType, id.HierarchicalReferences},
	{id.Organizes, "Organizes", ua.NodeClassReferenceType, id.HierarchicalReferences},
	{id.Aggregates, "Aggregates", ua.NodeClassReferenceType, id.HasChild},
	{id.HasSubtype, "HasSubtype", ua.NodeClassReferenceType, id.HasChild},
	{id.HasComponent, "HasComponent", ua.NodeClassReferenceType, id.Aggregates},
	{id.HasProperty, "HasProperty", ua.NodeClassReferenceType, id.Aggregates},
	{id.HasTypeDefinition, "HasTypeDefinition", ua.NodeClassReferenceType, id.NonHierarchicalReferences},

	{id.Server, "Server", ua.NodeClassObject, id.ObjectsFolder},
}

// standardSpace is namespace 0 and an empty namespace for a device.
func standardSpace(namespaces []string) *space {
	s := &space{namespaces: append([]string{"http://opcfoundation.org/UA/"}, namespaces...), nodes: map[string]*node{}}
	for _, d := range standardNodes {
		n := s.add(&node{id: ua.NewNumericNodeID(0, d.id), class: d.class, name: &ua.QualifiedName{Name: d.name}})
		parent := s.standard(d.parent)
		switch {
		case parent == nil:
		case parent.class == ua.NodeClassObject:
			link(parent, id.Organizes, n)
		default:
			link(parent, id.HasSubtype, n)
		}
	}
	for _, d := range standardNodes {
		if d.class == ua.NodeClassObject && d.id != id.Server {
			n := s.standard(d.id)
			n.refs = append(n.refs, ref{id.HasTypeDefinition, true, s.standard(id.FolderType)})
		}
	}
	return s
}

// describeServer adds what a server tells about itself.
func (s *space) describeServer(srv *Server) {
	server := s.standard(id.Server)
	server.refs = append(server.refs, ref{id.HasTypeDefinition, true, s.standard(id.ServerType)})
	add := func(parent *node, kind, n uint32, name string, dataType uint32, array bool, read func(w *sim.World) any) *node {
		v := s.add(&node{
			id: ua.NewNumericNodeID(0, n), class: ua.NodeClassVariable, name: &ua.QualifiedName{Name: name},
			dataType: dataType, array: array, read: read,
		})
		link(parent, kind, v)
		typ := uint32(id.PropertyType)
		if kind == id.HasComponent {
			typ = id.BaseDataVariableType
		}
		v.refs = append(v.refs, ref{id.HasTypeDefinition, true, s.standard(typ)})
		return v
	}
	is := func(v any) func(*sim.World) any { return func(*sim.World) any { return v } }
	now := func(*sim.World) any { return srv.host.Now().UTC() }
	started := func(w *sim.World) any { return srv.startedAt(w.Boot(srv.instrument)).UTC() }

	add(server, id.HasProperty, id.Server_ServerArray, "ServerArray", id.String, true, is([]string{srv.uri}))
	add(server, id.HasProperty, id.Server_NamespaceArray, "NamespaceArray", id.String, true, is(s.namespaces))
	add(server, id.HasProperty, id.Server_ServiceLevel, "ServiceLevel", id.Byte, false, is(byte(255)))
	status := add(server, id.HasComponent, id.Server_ServerStatus, "ServerStatus", id.ServerStatusDataType, false, func(w *sim.World) any {
		return ua.NewExtensionObject(&ua.ServerStatusDataType{
			StartTime: started(w).(time.Time), CurrentTime: srv.host.Now().UTC(), State: ua.ServerStateRunning,
			BuildInfo: srv.build(), ShutdownReason: text(""),
		})
	})
	add(status, id.HasComponent, id.Server_ServerStatus_StartTime, "StartTime", id.UtcTime, false, started)
	add(status, id.HasComponent, id.Server_ServerStatus_CurrentTime, "CurrentTime", id.UtcTime, false, now)
	add(status, id.HasComponent, id.Server_ServerStatus_State, "State", id.ServerState, false, is(int32(ua.ServerStateRunning)))
	add(status, id.HasComponent, id.Server_ServerStatus_BuildInfo, "BuildInfo", id.BuildInfo, false, is(ua.NewExtensionObject(srv.build())))

	can := s.add(&node{
		id: ua.NewNumericNodeID(0, id.Server_ServerCapabilities), class: ua.NodeClassObject,
		name: &ua.QualifiedName{Name: "ServerCapabilities"},
		refs: []ref{{id.HasTypeDefinition, true, s.standard(id.BaseObjectType)}},
	})
	link(server, id.HasComponent, can)
	limits := s.add(&node{
		id: ua.NewNumericNodeID(0, id.Server_ServerCapabilities_OperationLimits), class: ua.NodeClassObject,
		name: &ua.QualifiedName{Name: "OperationLimits"},
		refs: []ref{{id.HasTypeDefinition, true, s.standard(id.FolderType)}},
	})
	link(can, id.HasComponent, limits)
	for _, l := range []struct {
		id   uint32
		name string
	}{
		{id.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead, "MaxNodesPerRead"},
		{id.Server_ServerCapabilities_OperationLimits_MaxNodesPerWrite, "MaxNodesPerWrite"},
		{id.Server_ServerCapabilities_OperationLimits_MaxNodesPerMethodCall, "MaxNodesPerMethodCall"},
		{id.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse, "MaxNodesPerBrowse"},
		{id.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIDs, "MaxNodesPerTranslateBrowsePathsToNodeIds"},
		{id.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall, "MaxMonitoredItemsPerCall"},
	} {
		add(limits, id.HasProperty, l.id, l.name, id.UInt32, false, is(uint32(mostOperations)))
	}
}
