package opcua_test

import (
	"context"
	"io"
	"math"
	"net"
	"testing"
	"time"

	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"labgate/sim"
	face "labgate/sim/faces/opcua"
	"labgate/sim/faces/wire"
)

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
