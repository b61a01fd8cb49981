package opcua_test

import (
	"testing"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// TestTree walks from Objects to every node, as a person with a browser does,
// in pages of two references.
func TestTree(t *testing.T) {
	b := serve(t, reactorURI)
	c := b.client()
	found := map[string]ua.NodeClass{}
	var walk func(n *ua.NodeID)
	walk = func(n *ua.NodeID) {
		ctx, cancel := soon()
		defer cancel()
		resp, err := c.Browse(ctx, &ua.BrowseRequest{RequestedMaxReferencesPerNode: 2, NodesToBrowse: []*ua.BrowseDescription{{
			NodeID: n, BrowseDirection: ua.BrowseDirectionForward, IncludeSubtypes: true, ResultMask: uint32(ua.BrowseResultMaskAll),
			ReferenceTypeID: ua.NewNumericNodeID(0, id.HierarchicalReferences),
		}}})
		if err != nil {
			t.Fatal(err)
		}
		refs, point := resp.Results[0].References, resp.Results[0].ContinuationPoint
		for len(point) > 0 {
			next, err := c.BrowseNext(ctx, &ua.BrowseNextRequest{ContinuationPoints: [][]byte{point}})
			if err != nil || next.Results[0].StatusCode != ua.StatusOK {
				t.Fatal(err, next)
			}
			refs, point = append(refs, next.Results[0].References...), next.Results[0].ContinuationPoint
		}
		for _, r := range refs {
			name := r.NodeID.NodeID.String()
			if _, seen := found[name]; !seen {
				found[name] = r.NodeClass
				walk(r.NodeID.NodeID)
			}
		}
	}
	walk(ua.NewNumericNodeID(0, id.ObjectsFolder))
	for name, class := range map[string]ua.NodeClass{
		"ns=4;s=Synthesis":                                            ua.NodeClassObject,
		"ns=4;s=Synthesis.FunctionSet":                                ua.NodeClassObject,
		"ns=4;s=Synthesis.Jacket":                                     ua.NodeClassObject,
		"ns=4;s=Synthesis.Jacket.CurrentValue":                        ua.NodeClassVariable,
		"ns=4;s=Synthesis.Jacket.CurrentValue.EngineeringUnits":       ua.NodeClassVariable,
		"ns=4;s=Synthesis.Jacket.StartWithTargetValue":                ua.NodeClassMethod,
		"ns=4;s=Synthesis.Jacket.StartWithTargetValue.InputArguments": ua.NodeClassVariable,
		"ns=4;s=SerialNumber":                                         ua.NodeClassVariable,
		"i=2258":                                                      ua.NodeClassVariable,
	} {
		if found[name] != class {
			t.Errorf("%s: class %v, want %v", name, found[name], class)
		}
	}
}

func TestPathsAndUnits(t *testing.T) {
	b := serve(t, reactorURI)
	c := b.client()
	ctx, cancel := soon()
	defer cancel()
	path := func(names ...ua.QualifiedName) *ua.BrowsePathResult {
		rel := &ua.RelativePath{}
		for i := range names {
			rel.Elements = append(rel.Elements, &ua.RelativePathElement{
				ReferenceTypeID: ua.NewNumericNodeID(0, id.HierarchicalReferences), IncludeSubtypes: true, TargetName: &names[i]})
		}
		var res *ua.BrowsePathResult
		err := c.Send(ctx, &ua.TranslateBrowsePathsToNodeIDsRequest{BrowsePaths: []*ua.BrowsePath{
			{StartingNode: ua.NewNumericNodeID(0, id.ObjectsFolder), RelativePath: rel}}}, func(r ua.Response) error {
			res = r.(*ua.TranslateBrowsePathsToNodeIDsResponse).Results[0]
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	q := func(ns uint16, name string) ua.QualifiedName { return ua.QualifiedName{NamespaceIndex: ns, Name: name} }
	res := path(q(2, "DeviceSet"), q(4, "FlowReactor"), q(3, "FunctionalUnitSet"), q(3, "Synthesis"), q(3, "FunctionSet"), q(3, "Jacket"), q(3, "CurrentValue"))
	if res.StatusCode != ua.StatusOK || len(res.Targets) != 1 || res.Targets[0].TargetID.NodeID.String() != "ns=4;s=Synthesis.Jacket.CurrentValue" {
		t.Errorf("the path leads to %+v", res)
	}
	if res := path(q(2, "DeviceSet"), q(2, "Nothing")); res.StatusCode != ua.StatusBadNoMatch {
		t.Errorf("a path to nothing: %v", res.StatusCode)
	}
	unit, err := c.Node(b.node("Synthesis.Jacket.CurrentValue.EngineeringUnits")).Value(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if eu, ok := unit.ExtensionObject().Value.(*ua.EUInformation); !ok || eu.UnitID != 4408652 {
		t.Errorf("unit: %+v", unit.Value())
	}
}
