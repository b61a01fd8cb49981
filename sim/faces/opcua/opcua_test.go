package opcua_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"testing"
	"time"

	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
	"go.uber.org/goleak"

	"labgate/lab"
	"labgate/sim"
	face "labgate/sim/faces/opcua"
	"labgate/sim/faces/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type clock struct{}

func (clock) Now() time.Time                  { return time.Now() }
func (clock) At(t time.Time) <-chan time.Time { return time.After(time.Until(t)) }

var _ lab.Clock = clock{}

const (
	reactorURI = "urn:labgate:simulator:flow-reactor"
	cellURI    = "urn:labgate:simulator:coating-cell"
)

type bench struct {
	t    *testing.T
	host *wire.Host
	srv  *face.Server
	ns   uint16
}

func serve(t *testing.T, uri string) *bench {
	t.Helper()
	b := &bench{t: t, host: wire.NewHost(sim.NewDemo(7, time.Now()), clock{})}
	make := face.Reactor
	if uri == cellURI {
		make = face.Cell
	}
	ctx, cancel := context.WithCancel(context.Background())
	srv, err := make(ctx, b.host, 0)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	b.srv = srv
	t.Cleanup(func() {
		cancel()
		start := time.Now()
		if err := srv.Wait(); err != nil {
			t.Errorf("the server ended badly: %v", err)
		}
		if d := time.Since(start); d > 500*time.Millisecond {
			t.Errorf("it took %v to end", d)
		}
	})
	b.ns = 4
	return b
}

func (b *bench) client(opts ...opcua.Option) *opcua.Client {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	opts = append([]opcua.Option{opcua.SecurityMode(ua.MessageSecurityModeNone), opcua.AutoReconnect(false),
		opcua.RequestTimeout(500 * time.Millisecond)}, opts...)
	c, err := opcua.NewClient(b.srv.Endpoint(), opts...)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := c.Connect(ctx); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		c.Close(ctx)
	})
	return c
}

func soon() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 2*time.Second)
}

func (b *bench) node(name string) *ua.NodeID { return ua.NewStringNodeID(b.ns, name) }

func (b *bench) read(c *opcua.Client, names ...string) []*ua.DataValue {
	b.t.Helper()
	out, err := b.tryRead(c, names...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *bench) tryRead(c *opcua.Client, names ...string) ([]*ua.DataValue, error) {
	ctx, cancel := soon()
	defer cancel()
	req := &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnBoth}
	for _, n := range names {
		req.NodesToRead = append(req.NodesToRead, &ua.ReadValueID{NodeID: b.node(n), AttributeID: ua.AttributeIDValue})
	}
	resp, err := c.Read(ctx, req)
	if err != nil {
		return nil, err
	}
	return resp.Results, nil
}

func (b *bench) value(c *opcua.Client, name string) any {
	b.t.Helper()
	v := b.read(c, name)[0]
	if v.Status != ua.StatusOK {
		b.t.Fatalf("%s: %v", name, v.Status)
	}
	return v.Value.Value()
}

func (b *bench) call(c *opcua.Client, object, method string, args ...any) ua.StatusCode {
	b.t.Helper()
	st, err := b.tryCall(c, object, method, args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return st
}

func (b *bench) tryCall(c *opcua.Client, object, method string, args ...any) (ua.StatusCode, error) {
	ctx, cancel := soon()
	defer cancel()
	req := &ua.CallMethodRequest{ObjectID: b.node(object), MethodID: b.node(object + "." + method)}
	for _, a := range args {
		req.InputArguments = append(req.InputArguments, ua.MustVariant(a))
	}
	res, err := c.Call(ctx, req)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, nil
}

func (b *bench) count(instrument string) (c sim.Count) {
	b.host.With(func(w *sim.World) { c = w.Count(instrument) })
	return c
}

func (b *bench) fault(instrument, name string, on bool, args map[string]float64) {
	b.t.Helper()
	b.host.With(func(w *sim.World) {
		if err := w.Fault(instrument, name, on, args); err != nil {
			b.t.Fatal(err)
		}
	})
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

func TestNamespaceIsFoundByItsURI(t *testing.T) {
	for _, uri := range []string{reactorURI, cellURI} {
		b := serve(t, uri)
		ctx, cancel := soon()
		defer cancel()
		ns, err := b.client().FindNamespace(ctx, uri)
		if err != nil || ns != b.ns {
			t.Errorf("%s is namespace %d, %v", uri, ns, err)
		}
	}
}

func TestReactorValues(t *testing.T) {
	b := serve(t, reactorURI)
	c := b.client()
	before := time.Now()
	names := []string{"SerialNumber", "Synthesis.Jacket.CurrentValue", "Synthesis.Jacket.TargetValue", "Synthesis.Jacket.IsEnabled",
		"Synthesis.Stirrer.CurrentValue", "Synthesis.Probe.SensorValue", "Synthesis.Wall.SensorValue", "Synthesis.Vessel.SensorValue"}
	for i, v := range b.read(c, names...) {
		if v.Status != ua.StatusOK {
			t.Fatalf("%s: %v", names[i], v.Status)
		}
		if v.SourceTimestamp.Before(before.Add(-time.Second)) || v.SourceTimestamp.After(time.Now()) {
			t.Errorf("%s: source time %v", names[i], v.SourceTimestamp)
		}
		switch x := v.Value.Value().(type) {
		case float64:
			if math.IsNaN(x) || x < -5 || x > 30 {
				t.Errorf("%s: %v", names[i], x)
			}
		case bool:
			if x {
				t.Errorf("%s: heating at rest", names[i])
			}
		case string:
			if x == "" {
				t.Errorf("%s: empty", names[i])
			}
		default:
			t.Errorf("%s: a %T", names[i], x)
		}
	}
	all := b.read(c, "Synthesis.Probe.SensorValue", "Synthesis.Wall.SensorValue")
	if !all[0].SourceTimestamp.Equal(all[1].SourceTimestamp) {
		t.Error("one request, two instants")
	}
}

func TestHeating(t *testing.T) {
	t.Parallel()
	b := serve(t, reactorURI)
	c := b.client()
	if st := b.call(c, "Synthesis.Stirrer", "StartWithTargetValue", 400.0); st != ua.StatusOK {
		t.Fatal(st)
	}
	if st := b.call(c, "Synthesis.Jacket", "StartWithTargetValue", 40.0); st != ua.StatusOK {
		t.Fatal(st)
	}
	until(t, "it gets warm", func() bool { return b.value(c, "Synthesis.Jacket.CurrentValue").(float64) > 35 })
	if b.value(c, "Synthesis.Jacket.IsEnabled") != true || b.value(c, "Synthesis.Jacket.TargetValue") != 40.0 {
		t.Error("it heats and does not say so")
	}
	if st := b.call(c, "Synthesis.Jacket", "Stop"); st != ua.StatusOK {
		t.Fatal(st)
	}
	if b.value(c, "Synthesis.Jacket.IsEnabled") != false {
		t.Error("it was stopped and says that it heats")
	}
	if st := b.call(c, "Synthesis.Vessel", "Start"); st != ua.StatusOK {
		t.Fatal(st)
	}
	if st := b.call(c, "Synthesis.Vessel", "Stop"); st != ua.StatusOK {
		t.Fatal(st)
	}
	if n := b.count("reactor"); n.HeaterStarts != 1 || n.StirrerStarts != 1 || n.Stops != 1 || n.Drains != 1 {
		t.Errorf("effects: %+v", n)
	}
}

func TestCallsAreChecked(t *testing.T) {
	b := serve(t, reactorURI)
	c := b.client()
	jacket := "Synthesis.Jacket"
	for _, tc := range []struct {
		name string
		got  ua.StatusCode
		want ua.StatusCode
	}{
		{"no argument", b.call(c, jacket, "StartWithTargetValue"), ua.StatusBadInvalidArgument},
		{"one too many", b.call(c, jacket, "StartWithTargetValue", 40.0, 41.0), ua.StatusBadInvalidArgument},
		{"text", b.call(c, jacket, "StartWithTargetValue", "40"), ua.StatusBadInvalidArgument},
		{"float32", b.call(c, jacket, "StartWithTargetValue", float32(40)), ua.StatusBadInvalidArgument},
		{"int", b.call(c, jacket, "StartWithTargetValue", int32(40)), ua.StatusBadInvalidArgument},
		{"array", b.call(c, jacket, "StartWithTargetValue", []float64{40}), ua.StatusBadInvalidArgument},
		{"NaN", b.call(c, jacket, "StartWithTargetValue", math.NaN()), ua.StatusBadInvalidArgument},
		{"infinite", b.call(c, jacket, "StartWithTargetValue", math.Inf(1)), ua.StatusBadInvalidArgument},
		{"too hot", b.call(c, jacket, "StartWithTargetValue", 1000.0), ua.StatusBadInvalidState},
		{"argument to stop", b.call(c, jacket, "Stop", 1.0), ua.StatusBadInvalidArgument},
		{"no such method", b.call(c, jacket, "Explode"), ua.StatusBadMethodInvalid},
		{"no such object", b.call(c, "Nothing", "Stop"), ua.StatusBadNodeIDUnknown},
		{"a variable is no method", b.call(c, jacket, "CurrentValue"), ua.StatusBadMethodInvalid},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, tc.got, tc.want)
		}
	}
	ctx, cancel := soon()
	defer cancel()
	res, err := c.Call(ctx, &ua.CallMethodRequest{ObjectID: b.node("Synthesis.Stirrer"), MethodID: b.node(jacket + ".Stop")})
	if err != nil || res.StatusCode != ua.StatusBadMethodInvalid {
		t.Errorf("another object's method: %v, %v", res, err)
	}
	b.fault("reactor", "refuse", true, nil)
	if st := b.call(c, jacket, "StartWithTargetValue", 40.0); st != ua.StatusBadInvalidState {
		t.Errorf("refused: %v", st)
	}
	if n := b.count("reactor"); n.HeaterStarts != 0 || n.StirrerStarts != 0 {
		t.Errorf("effects: %+v", n)
	}
}

func TestNothingIsWritable(t *testing.T) {
	b := serve(t, reactorURI)
	ctx, cancel := soon()
	defer cancel()
	value := &ua.DataValue{EncodingMask: ua.DataValueValue, Value: ua.MustVariant(90.0)}
	resp, err := b.client().Write(ctx, &ua.WriteRequest{NodesToWrite: []*ua.WriteValue{
		{NodeID: b.node("Synthesis.Jacket.TargetValue"), AttributeID: ua.AttributeIDValue, Value: value},
		{NodeID: b.node("Nothing"), AttributeID: ua.AttributeIDValue, Value: value},
		{NodeID: b.node("Synthesis.Jacket"), AttributeID: 77, Value: value},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []ua.StatusCode{ua.StatusBadNotWritable, ua.StatusBadNodeIDUnknown, ua.StatusBadAttributeIDInvalid} {
		if resp.Results[i] != want {
			t.Errorf("write %d: %v, want %v", i, resp.Results[i], want)
		}
	}
	if b.value(b.client(), "Synthesis.Jacket.TargetValue") == 90.0 {
		t.Error("it was written all the same")
	}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	b := serve(t, cellURI)
	c := b.client()
	state := func() int32 { return b.value(c, "Status.StateCurrent").(int32) }
	if s := state(); s != int32(sim.Stopped) {
		t.Fatalf("it begins in state %d", s)
	}
	if st := b.call(c, "StateMachine", "StartBatch", int32(2), 20.0); st != ua.StatusBadInvalidState {
		t.Errorf("a batch while stopped: %v", st)
	}
	if st := b.call(c, "StateMachine", "StartBatch", 2.0, 20.0); st != ua.StatusBadInvalidArgument {
		t.Errorf("films as a double: %v", st)
	}
	if st := b.call(c, "StateMachine", "Reset"); st != ua.StatusOK {
		t.Fatal(st)
	}
	until(t, "it is idle", func() bool { return state() == int32(sim.Idle) })
	if st := b.call(c, "StateMachine", "StartBatch", int32(2), 20.0); st != ua.StatusOK {
		t.Fatal(st)
	}
	until(t, "the batch is complete", func() bool { return state() == int32(sim.Complete) })
	if n := b.count("cell"); n.Batches != 1 || n.Films != 2 {
		t.Errorf("effects: %+v", n)
	}
	made, batch := b.value(c, "Admin.ProdProcessedCount").(int32), b.value(c, "Admin.BatchCount").(int32)
	good, thick := b.value(c, "Admin.ProdGoodCount").(int32), b.value(c, "Status.FilmThickness").(float64)
	oee := b.value(c, "Admin.OEE").(float64)
	if made != 2 || batch != 1 || good < 0 || good > 2 || thick < 20 || oee < 0 || oee > 100 {
		t.Errorf("made %d, batch %d, good %d, %v nm, %v %%", made, batch, good, thick, oee)
	}
	if st := b.call(c, "StateMachine", "Abort"); st != ua.StatusOK {
		t.Fatal(st)
	}
	until(t, "it is aborted", func() bool { return state() == int32(sim.Aborted) })
	if st := b.call(c, "StateMachine", "Reset"); st != ua.StatusBadInvalidState {
		t.Errorf("reset while aborted: %v", st)
	}
	if st := b.call(c, "StateMachine", "Clear"); st != ua.StatusOK {
		t.Fatal(st)
	}
	until(t, "it is stopped", func() bool { return state() == int32(sim.Stopped) })
}

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

func TestReadsAreChecked(t *testing.T) {
	b := serve(t, reactorURI)
	c := b.client()
	ctx, cancel := soon()
	defer cancel()
	resp, err := c.Read(ctx, &ua.ReadRequest{NodesToRead: []*ua.ReadValueID{
		{NodeID: b.node("Nothing"), AttributeID: ua.AttributeIDValue},
		{NodeID: b.node("Synthesis.Jacket"), AttributeID: ua.AttributeIDValue},
		{NodeID: b.node("Synthesis.Jacket.CurrentValue"), AttributeID: ua.AttributeIDValue, IndexRange: "1:2"},
		{NodeID: b.node("Synthesis.Jacket.CurrentValue"), AttributeID: ua.AttributeIDDataType},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []ua.StatusCode{ua.StatusBadNodeIDUnknown, ua.StatusBadAttributeIDInvalid, ua.StatusBadIndexRangeInvalid, ua.StatusOK} {
		if got := resp.Results[i].Status; got != want {
			t.Errorf("read %d: %v, want %v", i, got, want)
		}
	}
	if _, err := c.Read(ctx, &ua.ReadRequest{}); !errors.Is(err, ua.StatusBadNothingToDo) {
		t.Errorf("reading nothing: %v", err)
	}
	many := &ua.ReadRequest{}
	for range 1001 {
		many.NodesToRead = append(many.NodesToRead, &ua.ReadValueID{NodeID: b.node("SerialNumber"), AttributeID: ua.AttributeIDValue})
	}
	if _, err := c.Read(ctx, many); !errors.Is(err, ua.StatusBadTooManyOperations) {
		t.Errorf("reading too much: %v", err)
	}
}

func TestSubscription(t *testing.T) {
	t.Parallel()
	b := serve(t, reactorURI)
	c := b.client()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	notes := make(chan *opcua.PublishNotificationData, 100)
	sub, err := c.Subscribe(ctx, &opcua.SubscriptionParameters{Interval: 50 * time.Millisecond}, notes)
	if err != nil {
		t.Fatal(err)
	}
	res, err := sub.Monitor(ctx, ua.TimestampsToReturnBoth,
		opcua.NewMonitoredItemCreateRequestWithDefaults(b.node("Synthesis.Jacket.IsEnabled"), ua.AttributeIDValue, 1),
		opcua.NewMonitoredItemCreateRequestWithDefaults(ua.NewNumericNodeID(0, id.Server_ServerStatus_CurrentTime), ua.AttributeIDValue, 2),
		opcua.NewMonitoredItemCreateRequestWithDefaults(b.node("Nothing"), ua.AttributeIDValue, 3))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []ua.StatusCode{ua.StatusOK, ua.StatusOK, ua.StatusBadNodeIDUnknown} {
		if got := res.Results[i].StatusCode; got != want {
			t.Errorf("item %d: %v, want %v", i, got, want)
		}
	}
	seen := map[uint32][]any{}
	collect := func(ok func() bool) {
		t.Helper()
		for !ok() {
			select {
			case n := <-notes:
				if n.Error != nil {
					t.Fatal(n.Error)
				}
				if d, is := n.Value.(*ua.DataChangeNotification); is {
					for _, m := range d.MonitoredItems {
						seen[m.ClientHandle] = append(seen[m.ClientHandle], m.Value.Value.Value())
					}
				}
			case <-ctx.Done():
				t.Fatalf("saw only %v", seen)
			}
		}
	}
	collect(func() bool { return len(seen[1]) == 1 && len(seen[2]) >= 3 })
	if st := b.call(c, "Synthesis.Jacket", "StartWithTargetValue", 40.0); st != ua.StatusOK {
		t.Fatal(st)
	}
	collect(func() bool { return len(seen[1]) == 2 })
	if seen[1][0] != false || seen[1][1] != true {
		t.Errorf("IsEnabled went %v", seen[1])
	}
	if err := sub.Cancel(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestRenewal keeps a subscription and reads going while the client renews its
// security token, and past the end of the first one.
func TestRenewal(t *testing.T) {
	t.Parallel()
	b := serve(t, reactorURI)
	c := b.client(opcua.Lifetime(2 * time.Second)) // renewed after 1 s, over after 2 s
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	notes := make(chan *opcua.PublishNotificationData, 1000)
	sub, err := c.Subscribe(ctx, &opcua.SubscriptionParameters{Interval: 20 * time.Millisecond}, notes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sub.Monitor(ctx, ua.TimestampsToReturnBoth, opcua.NewMonitoredItemCreateRequestWithDefaults(
		ua.NewNumericNodeID(0, id.Server_ServerStatus_CurrentTime), ua.AttributeIDValue, 1)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		b.value(c, "SerialNumber")
		select {
		case n := <-notes:
			if n.Error != nil {
				t.Fatal(n.Error)
			}
		case <-time.After(time.Second):
			t.Fatal("no notification for a second")
		}
	}
}

func TestFreezeActsOnNothing(t *testing.T) {
	t.Parallel()
	b := serve(t, reactorURI)
	c := b.client()
	b.value(c, "SerialNumber")
	b.fault("reactor", "freeze", true, nil)
	if st, err := b.tryCall(c, "Synthesis.Jacket", "StartWithTargetValue", 40.0); err == nil {
		t.Fatalf("a frozen server answered %v", st)
	}
	b.fault("reactor", "freeze", false, nil)
	until(t, "it answers again", func() bool {
		_, err := b.tryRead(c, "SerialNumber")
		return err == nil
	})
	if n := b.count("reactor"); n.HeaterStarts != 0 {
		t.Errorf("it acted on a call that nobody waited for: %+v", n)
	}
}

func TestPowerCycleEndsConnections(t *testing.T) {
	t.Parallel()
	b := serve(t, reactorURI)
	c := b.client()
	started := ua.NewNumericNodeID(0, id.Server_ServerStatus_StartTime)
	ctx, cancel := soon()
	defer cancel()
	before, err := c.Node(started).Value(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b.fault("reactor", "reboot", true, nil)
	until(t, "the connection ends", func() bool { return c.State() == opcua.Closed || c.State() == opcua.Disconnected })
	after, err := b.client().Node(started).Value(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !after.Time().After(before.Time()) {
		t.Errorf("started at %v, then at %v", before.Time(), after.Time())
	}
}

func TestWireFaults(t *testing.T) {
	t.Parallel()
	b := serve(t, reactorURI)
	c := b.client()
	b.fault("reactor", "drop", true, nil)
	if _, err := b.tryCall(c, "Synthesis.Stirrer", "StartWithTargetValue", 100.0); err == nil {
		t.Error("the answer came")
	}
	b.fault("reactor", "drop", false, nil)
	if n := b.count("reactor"); n.StirrerStarts != 1 {
		t.Errorf("a lost answer is not a lost call: %+v", n)
	}
	b.fault("reactor", "delay", true, map[string]float64{"seconds": 0.15})
	start := time.Now()
	b.value(c, "SerialNumber")
	if d := time.Since(start); d < 150*time.Millisecond {
		t.Errorf("answered after %v", d)
	}
	b.fault("reactor", "delay", false, nil)
	b.fault("reactor", "wrong_reply", true, nil)
	if v, err := b.tryRead(c, "SerialNumber"); err == nil && len(v) != 0 {
		t.Errorf("the wrong answer: %v", v)
	}
	b.fault("reactor", "wrong_reply", false, nil)
	b.fault("reactor", "garble", true, nil)
	if v, err := b.tryRead(c, "SerialNumber"); err == nil {
		t.Errorf("the garbled answer: %v", v)
	}
	b.fault("reactor", "garble", false, nil)
	b.value(b.client(), "SerialNumber")
}

func TestHalfOpen(t *testing.T) {
	t.Parallel()
	b := serve(t, reactorURI)
	old := b.client()
	b.fault("reactor", "half_open", true, nil)
	if _, err := b.tryRead(old, "SerialNumber"); err == nil {
		t.Error("the old connection carried an answer")
	}
	b.value(b.client(), "SerialNumber")
	b.fault("reactor", "half_open", false, nil)
	if _, err := b.tryRead(old, "SerialNumber"); err == nil {
		t.Error("the old connection came back to life")
	}
}

func TestBrokenSensorIsNaN(t *testing.T) {
	b := serve(t, reactorURI)
	c := b.client()
	b.fault("reactor", "nan.probe", true, nil)
	if v := b.value(c, "Synthesis.Probe.SensorValue").(float64); !math.IsNaN(v) {
		t.Errorf("the probe says %v", v)
	}
	if v := b.value(c, "Synthesis.Wall.SensorValue").(float64); math.IsNaN(v) {
		t.Error("the wall is broken too")
	}
}

// TestBadClients: idle and rude ones disturb nobody.
func TestBadClients(t *testing.T) {
	b := serve(t, reactorURI)
	c := b.client()
	addr := b.srv.Endpoint()[len("opc.tcp://"):]
	for _, bytes := range []string{"", "HELF", "GET / HTTP/1.1\r\n\r\n", "HELF\x0c\x00\x00\x00\xff\xff\xff\xff", "MSGF\xff\xff\xff\x7f", "OPNF\x08\x00\x00\x00"} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, bytes); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		b.value(c, "SerialNumber")
	}
}

func TestPortCanBeFixed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	host := wire.NewHost(sim.NewDemo(7, time.Now()), clock{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if _, err := face.Cell(ctx, host, port); err == nil {
		t.Fatal("two servers on one port")
	}
	l.Close()
	srv, err := face.Cell(ctx, host, port)
	if err != nil {
		t.Fatal(err)
	}
	if want := "opc.tcp://" + l.Addr().String(); srv.Endpoint() != want {
		t.Errorf("it is at %s, want %s", srv.Endpoint(), want)
	}
	cancel()
	if err := srv.Wait(); err != nil {
		t.Error(err)
	}
}

func BenchmarkRead(b *testing.B) {
	host := wire.NewHost(sim.NewDemo(7, time.Now()), clock{})
	ctx, cancel := context.WithCancel(context.Background())
	srv, err := face.Reactor(ctx, host, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer srv.Wait()
	defer cancel()
	c, err := opcua.NewClient(srv.Endpoint(), opcua.SecurityMode(ua.MessageSecurityModeNone), opcua.AutoReconnect(false))
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Connect(ctx); err != nil {
		b.Fatal(err)
	}
	defer c.Close(ctx)
	req := &ua.ReadRequest{NodesToRead: []*ua.ReadValueID{{NodeID: ua.NewStringNodeID(4, "Synthesis.Jacket.CurrentValue"), AttributeID: ua.AttributeIDValue}}}
	for b.Loop() {
		if _, err := c.Read(ctx, req); err != nil {
			b.Fatal(err)
		}
	}
}
