package opcua

import (
	"errors"
	"math"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"labgate/lab"
	"labgate/sim"
)

// mostPoints is how many browses of one session may be unfinished.
const mostPoints = 16

// continuation is what a browse has not yet told.
type continuation struct {
	rest []*ua.ReferenceDescription
	most int
}

// nodeService answers what reads, browses or calls; false for anything else.
func (c *conn) nodeService(s *session, req ua.Request) (ua.Response, ua.StatusCode, bool) {
	switch r := req.(type) {
	case *ua.ReadRequest:
		resp, status := c.read(r)
		return resp, status, true
	case *ua.WriteRequest:
		resp, status := c.write(r)
		return resp, status, true
	case *ua.CallRequest:
		resp, status := c.callAll(r)
		return resp, status, true
	case *ua.BrowseRequest:
		resp, status := c.browseAll(s, r)
		return resp, status, true
	case *ua.BrowseNextRequest:
		resp, status := c.browseNext(s, r)
		return resp, status, true
	case *ua.TranslateBrowsePathsToNodeIDsRequest:
		resp, status := c.translateAll(r)
		return resp, status, true
	case *ua.RegisterNodesRequest:
		return &ua.RegisterNodesResponse{RegisteredNodeIDs: r.NodesToRegister}, bounded(len(r.NodesToRegister)), true
	case *ua.UnregisterNodesRequest:
		return &ua.UnregisterNodesResponse{}, ua.StatusOK, true
	}
	return nil, ua.StatusOK, false
}

// bounded is the service's result for a number of operations.
func bounded(n int) ua.StatusCode {
	switch {
	case n == 0:
		return ua.StatusBadNothingToDo
	case n > mostOperations:
		return ua.StatusBadTooManyOperations
	}
	return ua.StatusOK
}

func (c *conn) read(r *ua.ReadRequest) (ua.Response, ua.StatusCode) {
	if st := bounded(len(r.NodesToRead)); st != ua.StatusOK {
		return nil, st
	}
	if r.TimestampsToReturn >= ua.TimestampsToReturnInvalid {
		return nil, ua.StatusBadTimestampsToReturnInvalid
	}
	if math.IsNaN(r.MaxAge) || r.MaxAge < 0 {
		return nil, ua.StatusBadMaxAgeInvalid
	}
	resp := &ua.ReadResponse{Results: make([]*ua.DataValue, len(r.NodesToRead))}
	c.srv.host.With(func(w *sim.World) {
		for i, n := range r.NodesToRead {
			resp.Results[i] = c.readOne(w, n, r.TimestampsToReturn)
		}
	})
	return resp, ua.StatusOK
}

// readOne reads one attribute at the world's present instant.
func (c *conn) readOne(w *sim.World, r *ua.ReadValueID, stamps ua.TimestampsToReturn) *ua.DataValue {
	n := c.srv.space.node(r.NodeID)
	if n == nil {
		return badValue(ua.StatusBadNodeIDUnknown)
	}
	if r.DataEncoding != nil && r.DataEncoding.Name != "" {
		return badValue(ua.StatusBadDataEncodingInvalid)
	}
	if r.IndexRange != "" {
		return badValue(ua.StatusBadIndexRangeInvalid)
	}
	v, ok := n.attribute(w, r.AttributeID)
	if !ok {
		return badValue(ua.StatusBadAttributeIDInvalid)
	}
	variant, err := ua.NewVariant(v)
	if err != nil {
		return badValue(ua.StatusBadInternalError)
	}
	dv := &ua.DataValue{EncodingMask: ua.DataValueValue, Value: variant}
	isValue := r.AttributeID == ua.AttributeIDValue
	if isValue && (stamps == ua.TimestampsToReturnSource || stamps == ua.TimestampsToReturnBoth) {
		dv.EncodingMask |= ua.DataValueSourceTimestamp
		dv.SourceTimestamp = w.Now().UTC()
	}
	if stamps == ua.TimestampsToReturnServer || stamps == ua.TimestampsToReturnBoth {
		dv.EncodingMask |= ua.DataValueServerTimestamp
		dv.ServerTimestamp = c.srv.host.Now().UTC()
	}
	return dv
}

func badValue(st ua.StatusCode) *ua.DataValue {
	return &ua.DataValue{EncodingMask: ua.DataValueStatusCode, Status: st}
}

// attribute is the value of an attribute; false where the node has none.
func (n *node) attribute(w *sim.World, a ua.AttributeID) (any, bool) {
	switch a {
	case ua.AttributeIDNodeID:
		return n.id, true
	case ua.AttributeIDNodeClass:
		return int32(n.class), true
	case ua.AttributeIDBrowseName:
		return n.name, true
	case ua.AttributeIDDisplayName:
		return text(n.name.Name), true
	case ua.AttributeIDDescription:
		return text(n.about), true
	case ua.AttributeIDWriteMask, ua.AttributeIDUserWriteMask:
		return uint32(0), true
	}
	switch n.class {
	case ua.NodeClassVariable:
		return n.variableAttribute(w, a)
	case ua.NodeClassMethod:
		if a == ua.AttributeIDExecutable || a == ua.AttributeIDUserExecutable {
			return true, true
		}
	case ua.NodeClassObject:
		if a == ua.AttributeIDEventNotifier {
			return byte(0), true
		}
	default:
		if a == ua.AttributeIDIsAbstract {
			return false, true
		}
	}
	return nil, false
}

func (n *node) variableAttribute(w *sim.World, a ua.AttributeID) (any, bool) {
	switch a {
	case ua.AttributeIDValue:
		return n.read(w), true
	case ua.AttributeIDDataType:
		return ua.NewNumericNodeID(0, n.dataType), true
	case ua.AttributeIDValueRank:
		if n.array {
			return int32(1), true
		}
		return int32(-1), true
	case ua.AttributeIDAccessLevel, ua.AttributeIDUserAccessLevel:
		return byte(ua.AccessLevelTypeCurrentRead), true
	case ua.AttributeIDMinimumSamplingInterval:
		return millis(sim.Tick), true
	case ua.AttributeIDHistorizing:
		return false, true
	}
	return nil, false
}

// write refuses every write, each with its reason: nothing here is writable.
func (c *conn) write(r *ua.WriteRequest) (ua.Response, ua.StatusCode) {
	if st := bounded(len(r.NodesToWrite)); st != ua.StatusOK {
		return nil, st
	}
	resp := &ua.WriteResponse{}
	for _, wv := range r.NodesToWrite {
		n, st := c.srv.space.node(wv.NodeID), ua.StatusBadNotWritable
		if n == nil {
			st = ua.StatusBadNodeIDUnknown
		} else if wv.AttributeID < ua.AttributeIDNodeID || wv.AttributeID > ua.AttributeIDUserExecutable {
			st = ua.StatusBadAttributeIDInvalid
		}
		resp.Results = append(resp.Results, st)
	}
	return resp, ua.StatusOK
}

func (c *conn) callAll(r *ua.CallRequest) (ua.Response, ua.StatusCode) {
	if st := bounded(len(r.MethodsToCall)); st != ua.StatusOK {
		return nil, st
	}
	resp := &ua.CallResponse{}
	c.srv.host.With(func(w *sim.World) {
		for _, m := range r.MethodsToCall {
			resp.Results = append(resp.Results, c.srv.space.call(w, m))
		}
	})
	return resp, ua.StatusOK
}

// call checks the arguments and lets the device do it. BadInvalidArgument says
// that they don't fit the method, BadInvalidState that the device will not.
func (s *space) call(w *sim.World, r *ua.CallMethodRequest) *ua.CallMethodResult {
	object, method := s.node(r.ObjectID), s.node(r.MethodID)
	if object == nil {
		return &ua.CallMethodResult{StatusCode: ua.StatusBadNodeIDUnknown}
	}
	if method == nil || method.class != ua.NodeClassMethod || !object.has(id.HasComponent, method) {
		return &ua.CallMethodResult{StatusCode: ua.StatusBadMethodInvalid}
	}
	if len(r.InputArguments) != len(method.params) {
		return &ua.CallMethodResult{StatusCode: ua.StatusBadInvalidArgument}
	}
	args, results, fit := make([]any, len(method.params)), make([]ua.StatusCode, len(method.params)), true
	for i, p := range method.params {
		args[i], results[i] = conform(r.InputArguments[i], p.kind)
		fit = fit && results[i] == ua.StatusOK
	}
	if !fit {
		return &ua.CallMethodResult{StatusCode: ua.StatusBadInvalidArgument, InputArgumentResults: results}
	}
	var refusal *lab.Error
	switch err := method.call(w, args); {
	case err == nil:
		return &ua.CallMethodResult{StatusCode: ua.StatusOK, InputArgumentResults: results}
	case errors.As(err, &refusal) && refusal.Kind == lab.KindDeviceRefused:
		return &ua.CallMethodResult{StatusCode: ua.StatusBadInvalidState, InputArgumentResults: results}
	}
	return &ua.CallMethodResult{StatusCode: ua.StatusBadInternalError, InputArgumentResults: results}
}

// conform checks one argument: exactly the type, a scalar, and finite.
func conform(v *ua.Variant, want ua.TypeID) (any, ua.StatusCode) {
	if v == nil || v.Type() != want || v.Has(ua.VariantArrayValues) {
		return nil, ua.StatusBadTypeMismatch
	}
	if f, ok := v.Value().(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
		return nil, ua.StatusBadOutOfRange
	}
	return v.Value(), ua.StatusOK
}

func (n *node) has(kind uint32, to *node) bool {
	for _, r := range n.refs {
		if r.forward && r.kind == kind && r.to == to {
			return true
		}
	}
	return false
}

func (c *conn) browseAll(s *session, r *ua.BrowseRequest) (ua.Response, ua.StatusCode) {
	if st := bounded(len(r.NodesToBrowse)); st != ua.StatusOK {
		return nil, st
	}
	if r.View != nil && r.View.ViewID != nil && r.View.ViewID.IntID() != 0 {
		return nil, ua.StatusBadViewIDUnknown
	}
	most := int(min(r.RequestedMaxReferencesPerNode, mostOperations))
	if most == 0 {
		most = mostOperations
	}
	resp := &ua.BrowseResponse{}
	for _, b := range r.NodesToBrowse {
		refs, st := c.srv.space.browse(b)
		resp.Results = append(resp.Results, s.page(refs, st, most))
	}
	return resp, ua.StatusOK
}

// page gives the first references and keeps the rest for BrowseNext.
func (s *session) page(refs []*ua.ReferenceDescription, st ua.StatusCode, most int) *ua.BrowseResult {
	res := &ua.BrowseResult{StatusCode: st, References: refs}
	if len(refs) <= most {
		return res
	}
	if len(s.points) >= mostPoints {
		return &ua.BrowseResult{StatusCode: ua.StatusBadNoContinuationPoints}
	}
	point := random()[:16]
	s.points[string(point)] = continuation{refs[most:], most}
	res.References, res.ContinuationPoint = refs[:most], point
	return res
}

func (c *conn) browseNext(s *session, r *ua.BrowseNextRequest) (ua.Response, ua.StatusCode) {
	if st := bounded(len(r.ContinuationPoints)); st != ua.StatusOK {
		return nil, st
	}
	resp := &ua.BrowseNextResponse{}
	for _, p := range r.ContinuationPoints {
		next, ok := s.points[string(p)]
		delete(s.points, string(p))
		switch {
		case !ok:
			resp.Results = append(resp.Results, &ua.BrowseResult{StatusCode: ua.StatusBadContinuationPointInvalid})
		case r.ReleaseContinuationPoints:
			resp.Results = append(resp.Results, &ua.BrowseResult{})
		default:
			resp.Results = append(resp.Results, s.page(next.rest, ua.StatusOK, next.most))
		}
	}
	return resp, ua.StatusOK
}

func (s *space) browse(b *ua.BrowseDescription) ([]*ua.ReferenceDescription, ua.StatusCode) {
	n := s.node(b.NodeID)
	if n == nil {
		return nil, ua.StatusBadNodeIDUnknown
	}
	if b.BrowseDirection >= ua.BrowseDirectionInvalid {
		return nil, ua.StatusBadBrowseDirectionInvalid
	}
	want := uint32(id.References)
	subtypes := true
	if b.ReferenceTypeID != nil && (b.ReferenceTypeID.Namespace() != 0 || b.ReferenceTypeID.IntID() != 0) {
		want, subtypes = b.ReferenceTypeID.IntID(), b.IncludeSubtypes
		if t := s.node(b.ReferenceTypeID); t == nil || t.class != ua.NodeClassReferenceType {
			return nil, ua.StatusBadReferenceTypeIDInvalid
		}
	}
	var out []*ua.ReferenceDescription
	for _, r := range n.refs {
		wrongWay := b.BrowseDirection == ua.BrowseDirectionForward && !r.forward || b.BrowseDirection == ua.BrowseDirectionInverse && r.forward
		if wrongWay || !isKind(r.kind, want, subtypes) || b.NodeClassMask != 0 && b.NodeClassMask&uint32(r.to.class) == 0 {
			continue
		}
		out = append(out, describe(r, b.ResultMask))
	}
	return out, ua.StatusOK
}

func describe(r ref, mask uint32) *ua.ReferenceDescription {
	has := func(m ua.BrowseResultMask) bool { return mask&uint32(m) != 0 }
	d := &ua.ReferenceDescription{
		ReferenceTypeID: ua.NewTwoByteNodeID(0), NodeID: ua.NewExpandedNodeID(r.to.id, "", 0),
		BrowseName: &ua.QualifiedName{}, DisplayName: text(""), TypeDefinition: ua.NewTwoByteExpandedNodeID(0),
	}
	if has(ua.BrowseResultMaskReferenceTypeID) {
		d.ReferenceTypeID = ua.NewNumericNodeID(0, r.kind)
	}
	if has(ua.BrowseResultMaskIsForward) {
		d.IsForward = r.forward
	}
	if has(ua.BrowseResultMaskNodeClass) {
		d.NodeClass = r.to.class
	}
	if has(ua.BrowseResultMaskBrowseName) {
		d.BrowseName = r.to.name
	}
	if has(ua.BrowseResultMaskDisplayName) {
		d.DisplayName = text(r.to.name.Name)
	}
	if has(ua.BrowseResultMaskTypeDefinition) {
		for _, t := range r.to.refs {
			if t.kind == id.HasTypeDefinition && t.forward {
				d.TypeDefinition = ua.NewExpandedNodeID(t.to.id, "", 0)
			}
		}
	}
	return d
}

func (c *conn) translateAll(r *ua.TranslateBrowsePathsToNodeIDsRequest) (ua.Response, ua.StatusCode) {
	if st := bounded(len(r.BrowsePaths)); st != ua.StatusOK {
		return nil, st
	}
	resp := &ua.TranslateBrowsePathsToNodeIDsResponse{}
	for _, p := range r.BrowsePaths {
		resp.Results = append(resp.Results, c.srv.space.translate(p))
	}
	return resp, ua.StatusOK
}

// translate follows a path of browse names.
func (s *space) translate(p *ua.BrowsePath) *ua.BrowsePathResult {
	start := s.node(p.StartingNode)
	if start == nil {
		return &ua.BrowsePathResult{StatusCode: ua.StatusBadNodeIDUnknown}
	}
	if p.RelativePath == nil || len(p.RelativePath.Elements) == 0 {
		return &ua.BrowsePathResult{StatusCode: ua.StatusBadNothingToDo}
	}
	at := []*node{start}
	for _, e := range p.RelativePath.Elements {
		if e.TargetName == nil || e.TargetName.Name == "" {
			return &ua.BrowsePathResult{StatusCode: ua.StatusBadBrowseNameInvalid}
		}
		want, subtypes := uint32(id.References), true
		if e.ReferenceTypeID != nil && e.ReferenceTypeID.IntID() != 0 {
			want, subtypes = e.ReferenceTypeID.IntID(), e.IncludeSubtypes
		}
		var next []*node
		for _, n := range at {
			for _, r := range n.refs {
				if r.forward != e.IsInverse && isKind(r.kind, want, subtypes) && *r.to.name == *e.TargetName {
					next = append(next, r.to)
				}
			}
		}
		at = next
	}
	if len(at) == 0 {
		return &ua.BrowsePathResult{StatusCode: ua.StatusBadNoMatch}
	}
	res := &ua.BrowsePathResult{}
	for _, n := range at {
		res.Targets = append(res.Targets, &ua.BrowsePathTarget{TargetID: ua.NewExpandedNodeID(n.id, "", 0), RemainingPathIndex: math.MaxUint32})
	}
	return res
}
