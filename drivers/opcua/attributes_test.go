package opcua

import (
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"labgate/lab"
)

// described is a server that says of its nodes what the test wants, and takes
// writes.
type described struct {
	of      map[string]any // "s=SP EURange" → value; "s=SP 14" → attribute
	written map[string]any
	takes   map[string]ua.StatusCode
}

func (d *described) answer(r ua.Request) ua.Response {
	switch q := r.(type) {
	case *ua.TranslateBrowsePathsToNodeIDsRequest:
		res := &ua.TranslateBrowsePathsToNodeIDsResponse{}
		for _, p := range q.BrowsePaths {
			name := "s=" + p.StartingNode.StringID() + " " + p.RelativePath.Elements[0].TargetName.Name
			if d.of[name] == nil {
				res.Results = append(res.Results, &ua.BrowsePathResult{StatusCode: ua.StatusBadNoMatch, Targets: []*ua.BrowsePathTarget{}})
				continue
			}
			res.Results = append(res.Results, &ua.BrowsePathResult{Targets: []*ua.BrowsePathTarget{{
				TargetID: ua.NewExpandedNodeID(ua.NewStringNodeID(p.StartingNode.Namespace(), strings.TrimPrefix(name, "s=")), "", 0)}}})
		}
		return res
	case *ua.WriteRequest:
		res := &ua.WriteResponse{}
		for _, w := range q.NodesToWrite {
			node := "s=" + w.NodeID.StringID()
			d.written[node] = w.Value.Value.Value()
			res.Results = append(res.Results, d.takes[node])
		}
		return res
	}
	return nil
}

// describing is a link with a command that writes a setpoint in degC and a mode,
// and a reading whose unit the server names.
func describing(t *testing.T, of map[string]any) (*bench, *described) {
	t.Helper()
	b := unconnected(t, time.Second)
	d := &described{of: of, written: map[string]any{}, takes: map[string]ua.StatusCode{}}
	b.server.other = d.answer
	b.set("s=T", good(300.0))
	for name, v := range of {
		b.set("s="+strings.TrimPrefix(name, "s="), good(v))
	}
	in := instrument("dev", time.Second)
	in.Profile.Properties[0].Scale = 0
	class := in.Profile.Components[0].Class
	class.Commands = append(class.Commands, lab.CommandSpec{Name: "heat", Effect: lab.Idempotent, Args: []lab.Param{{Name: "target", Type: lab.Type{Kind: lab.Number, Unit: unit("degC")}}}})
	in.Profile.Commands = append(in.Profile.Commands, lab.CommandMap{Component: "part", Command: "heat",
		Inputs: []lab.WireInput{{Arg: "target", Unit: unit("degC"), Type: "double"}},
		Writes: []lab.WireWrite{{Node: "s=SP", Arg: "target"}, {Node: "s=Mode", Value: lab.NumberValue(lab.Q(3, "1")), Type: "int32"}}})
	dev, err := compile(in)
	if err != nil {
		t.Fatal(err)
	}
	b.link.(*Link).devices["dev"] = dev
	if err := b.link.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b, d
}

func euInformation(code int32) any {
	return ua.NewExtensionObject(&ua.EUInformation{NamespaceURI: "http://www.opcfoundation.org/UA/units/un/cefact", UnitID: code, DisplayName: &ua.LocalizedText{}, Description: &ua.LocalizedText{}})
}

func heat45() *lab.Command {
	return &lab.Command{ID: "01K", Target: lab.CommandID{Instrument: "dev", Component: "part", Command: "heat"}, Args: map[string]lab.Value{"target": lab.NumberValue(lab.Q(45, "degC"))}, Lease: 1}
}

// The server's own words on a node are stronger than the profile's.
func TestUnitOfTheServer(t *testing.T) {
	for name, c := range map[string]struct {
		code    int32
		quality lab.Quality
		why     string
	}{
		"the same":  {lab.UNECEID(unit("degF")), lab.Good, ""},
		"another":   {lab.UNECEID(unit("degC")), lab.Bad, "the server gives it in degC, the profile says degF"},
		"not known": {1, lab.Good, ""},
	} {
		b, _ := describing(t, map[string]any{"s=T EngineeringUnits": euInformation(c.code)})
		got, err := b.link.Read(t.Context(), "dev", []lab.PropertyID{propertyID("temperature")})
		if err != nil || got[0].Reading.Quality != c.quality || got[0].Why != c.why {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestWrite(t *testing.T) {
	of := map[string]any{"s=SP EURange": ua.NewExtensionObject(&ua.Range{Low: 5, High: 80}), "s=SP EngineeringUnits": euInformation(lab.UNECEID(unit("degC")))}
	b, d := describing(t, of)
	exchange := func() (bool, error) {
		cmd := heat45()
		r, err := b.link.Exchange(t.Context(), cmd, b.permit(t, cmd))
		return r.Acked, err
	}
	if acked, err := exchange(); err != nil || !acked || d.written["s=SP"] != 45.0 || d.written["s=Mode"] != int32(3) {
		t.Errorf("%v, %v, %v", acked, err, d.written)
	}
	d.takes["s=SP"], d.takes["s=Mode"] = ua.StatusBadOutOfRange, ua.StatusBadOutOfRange
	if _, err := exchange(); lab.KindOf(err) != lab.KindDeviceRefused {
		t.Error("all refused:", err)
	}
	delete(d.takes, "s=SP")
	if _, err := exchange(); lab.KindOf(err) != lab.KindOutcomeUnknown {
		t.Error("one taken, one not:", err)
	}
}

// What the server says that it does not take is not sent.
func TestWriteForbidden(t *testing.T) {
	for name, c := range map[string]struct {
		of   map[string]any
		says string
	}{
		"beyond its range": {map[string]any{"s=SP EURange": ua.NewExtensionObject(&ua.Range{Low: 5, High: 40})}, "45 is beyond the server's range, 5 to 40"},
		"another unit":     {map[string]any{"s=SP EngineeringUnits": euInformation(lab.UNECEID(unit("degF")))}, "the server gives it in degF, the profile says degC"},
	} {
		b, d := describing(t, c.of)
		cmd := heat45()
		_, err := b.link.Exchange(t.Context(), cmd, b.permit(t, cmd))
		if lab.KindOf(err) != lab.KindInvalid || !strings.Contains(err.Error(), c.says) || len(d.written) > 0 {
			t.Errorf("%s: %v, %v", name, err, d.written)
		}
	}
	double := ua.MustVariant(45.0)
	for name, f := range map[string]*fact{
		"the server lets this user not write it":              {readOnly: true},
		"the server's type is int32, the profile says double": {dataType: id.Int32},
	} {
		if err := f.forbids("double", nil, double); err == nil || err.Error() != name {
			t.Errorf("%v; want %s", err, name)
		}
	}
	if err := (&fact{dataType: id.Number}).forbids("double", nil, double); err != nil {
		t.Error("an abstract type:", err)
	}
}
