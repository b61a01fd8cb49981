package opcua_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"

	"labgate/sim"
)

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
