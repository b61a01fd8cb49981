package opcua

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
	"go.uber.org/goleak"

	"labgate/drivers"
	"labgate/lab"
	"labgate/safety"
)

type wallClock struct{}

func (wallClock) Now() time.Time                  { return time.Now() }
func (wallClock) At(t time.Time) <-chan time.Time { return time.After(time.Until(t)) }

// sink records what a link tells by itself.
type sink struct {
	mu      sync.Mutex
	lost    []error
	samples []lab.Sample
}

func (s *sink) Samples(x []lab.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples = append(s.samples, x...)
}

func (s *sink) heard() []lab.Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.samples)
}

// why joins what it was told of losses.
func (s *sink) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.lost...)
}

func (s *sink) Lost(_ string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = append(s.lost, err)
}
func (s *sink) losses() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lost)
}

func unit(s string) lab.Unit {
	u, err := lab.ParseUnit(s)
	if err != nil {
		panic(err)
	}
	return u
}

var states = map[string]string{"4": "idle", "6": "execute"}

// instrument has one property of each type and one command of each effect
// that the tests need.
func instrument(name string, within time.Duration) *lab.Instrument {
	class := &lab.Class{Name: "test/v1",
		Properties: []lab.Property{
			{Name: "temperature", Type: lab.Type{Kind: lab.Number, Unit: unit("degC")}},
			{Name: "made", Type: lab.Type{Kind: lab.Integer}},
			{Name: "heating", Type: lab.Type{Kind: lab.Bool}},
			{Name: "state", Type: lab.Type{Kind: lab.Enum, Enum: []string{"idle", "execute"}}},
			{Name: "lot", Type: lab.Type{Kind: lab.Text}},
			{Name: "nowhere", Type: lab.Type{Kind: lab.Bool}},
		},
		Commands: []lab.CommandSpec{
			{Name: "dose", Effect: lab.Effectful, Args: []lab.Param{
				{Name: "volume", Type: lab.Type{Kind: lab.Number, Unit: unit("mL")}},
				{Name: "count", Type: lab.Type{Kind: lab.Integer}}}},
			{Name: "stop", Effect: lab.Safe},
			{Name: "clear", Effect: lab.Idempotent},
		}}
	profile := &lab.Profile{Name: "test/opcua@1", Components: []lab.Component{{Name: "part", Class: class}},
		Link:     lab.LinkSpec{Kind: lab.LinkOPCUA, Namespace: namespace, ReplyWithin: within},
		Identify: lab.Exchange{Send: "s=Serial"},
		Properties: []lab.PropertyMap{
			{Component: "part", Property: "temperature", Node: "s=T", Unit: unit("degF"), Scale: 0.1},
			{Component: "part", Property: "made", Node: "s=Made"},
			{Component: "part", Property: "heating", Node: "s=Heating"},
			{Component: "part", Property: "state", Node: "s=State", Map: states},
			{Component: "part", Property: "lot", Node: "s=Lot"},
		},
		Commands: []lab.CommandMap{
			{Component: "part", Command: "dose", Object: "s=Pump", Method: "s=Pump.Dose", Inputs: []lab.WireInput{
				{Arg: "count", Type: "byte"}, {Arg: "volume", Type: "double", Unit: unit("uL")}}},
			{Component: "part", Command: "stop", Object: "s=Pump", Method: "s=Pump.Stop"},
			{Component: "part", Command: "clear", Object: "s=Pump", Method: "s=Pump.Clear"},
		}}
	return &lab.Instrument{Name: name, Profile: profile, Link: map[string]string{"endpoint": "sim:x", "insecure": "true"}}
}

type bench struct {
	*server
	sink *sink
	link drivers.Link
}

// connected is a link to a server of its own; everything ends with the test.
func connected(t testing.TB, within time.Duration) *bench {
	t.Helper()
	b := unconnected(t, within)
	if err := b.link.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

func unconnected(t testing.TB, within time.Duration) *bench {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	b := &bench{server: newServer(t), sink: &sink{}}
	b.set("s=Serial", good("SN 1"))
	b.methods["s=Pump.Dose"] = func([]*ua.Variant) ua.StatusCode { return ua.StatusOK }
	b.methods["s=Pump.Stop"] = b.methods["s=Pump.Dose"]
	link, err := Open(drivers.Config{Instruments: []*lab.Instrument{instrument("dev", within)}, Sink: b.sink, Clock: wallClock{},
		Address: func(*lab.Instrument) (map[string]string, error) {
			return map[string]string{"endpoint": b.endpoint()}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	b.link = link
	t.Cleanup(func() {
		if err := link.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func propertyID(name string) lab.PropertyID {
	return lab.PropertyID{Instrument: "dev", Component: "part", Property: name}
}

func (b *bench) read(t testing.TB, names ...string) []lab.Reading {
	t.Helper()
	ids := make([]lab.PropertyID, len(names))
	for i, n := range names {
		ids[i] = propertyID(n)
	}
	samples, err := b.link.Read(t.Context(), "dev", ids)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]lab.Reading, len(samples))
	for i, s := range samples {
		if s.ID != ids[i] {
			t.Fatalf("sample %d is for %s", i, s.ID)
		}
		out[i] = s.Reading
	}
	return out
}

func dose() *lab.Command {
	return &lab.Command{ID: "01K", Target: lab.CommandID{Instrument: "dev", Component: "part", Command: "dose"},
		Args: map[string]lab.Value{"volume": lab.NumberValue(lab.Q(0.25, "mL")), "count": lab.IntegerValue(3)}, NotAfter: time.Now().Add(time.Minute)}
}

func (b *bench) permit(t testing.TB, cmd *lab.Command) *safety.Permit {
	return safety.NewTestPermit(t, cmd, b.link.Epoch("dev"), time.Now().Add(time.Minute))
}

// eventually polls until a condition holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func wantKind(t testing.TB, err error, want lab.Kind) {
	t.Helper()
	if err == nil || lab.KindOf(err) != want {
		t.Fatalf("got %v (%s), want an error of kind %s", err, lab.KindOf(err), want)
	}
}

func TestReadsEveryType(t *testing.T) {
	b := connected(t, time.Second)
	source := time.Now().Add(-time.Hour).Truncate(time.Microsecond)
	temperature := good(int16(1220)) // 122.0 degF
	temperature.SourceTimestamp = source
	b.set("s=T", temperature)
	b.set("s=Made", good(uint32(17)))
	b.set("s=Heating", good(true))
	b.set("s=State", good(int32(6)))
	b.set("s=Lot", good("A\nB"))
	got := b.read(t, "temperature", "made", "heating", "state", "lot", "nowhere")
	if math.Abs(got[0].Value.Num-50) > 1e-9 || got[0].Value.Unit != unit("degC") || !got[0].Source.Equal(source) {
		t.Errorf("temperature is %v of %v, want 50 degC of %v", got[0].Value, got[0].Source, source)
	}
	if got[1].Value != lab.IntegerValue(17) || got[2].Value != lab.BoolValue(true) || got[3].Value != lab.EnumValue("execute") || got[4].Value != lab.TextValue(`A\u000aB`) {
		t.Errorf("got %v", got[1:])
	}
	for i, r := range got[:5] {
		if r.Quality != lab.Good || r.Epoch != 1 || time.Since(r.Received) > time.Second {
			t.Errorf("reading %d is %+v", i, r)
		}
	}
	if got[5].Quality != lab.Bad || got[5].Value.Kind != lab.Missing {
		t.Errorf("a property without a node is %+v", got[5])
	}
	if n := b.reads.Load(); n != 3 {
		t.Errorf("%d read requests; want one for namespaces, limits and properties each", n)
	}
}

// What must never look like a good reading, and which part of it is kept.
func TestReadDistrusts(t *testing.T) {
	b := connected(t, time.Second)
	uncertain, failed := good(int16(0)), good(int16(0))
	uncertain.EncodingMask |= ua.DataValueStatusCode
	uncertain.Status = ua.StatusUncertainLastUsableValue
	failed.EncodingMask |= ua.DataValueStatusCode
	failed.Status = ua.StatusBadSensorFailure
	for name, c := range map[string]struct {
		node, property string
		value          *ua.DataValue
		quality        lab.Quality
		kind           lab.TypeKind
	}{
		"uncertain":          {"s=T", "temperature", uncertain, lab.Uncertain, lab.Number},
		"bad":                {"s=T", "temperature", failed, lab.Bad, lab.Number},
		"no value":           {"s=T", "temperature", &ua.DataValue{}, lab.Bad, lab.Missing},
		"text for a number":  {"s=T", "temperature", good("72"), lab.Bad, lab.Missing},
		"bool for a number":  {"s=T", "temperature", good(true), lab.Bad, lab.Missing},
		"array for a number": {"s=T", "temperature", good([]float64{1}), lab.Bad, lab.Missing},
		"NaN":                {"s=T", "temperature", good(math.NaN()), lab.Bad, lab.Number},
		"infinite":           {"s=T", "temperature", good(math.Inf(1)), lab.Bad, lab.Number},
		"too large":          {"s=Made", "made", good(uint64(1)<<60 + 1), lab.Bad, lab.Missing},
		"fraction":           {"s=Made", "made", good(1.5), lab.Bad, lab.Missing},
		"number for a bool":  {"s=Heating", "heating", good(int32(1)), lab.Bad, lab.Missing},
		"unmapped state":     {"s=State", "state", good(int32(5)), lab.Bad, lab.Missing},
		"state as fraction":  {"s=State", "state", good(6.0), lab.Bad, lab.Missing},
		"number for a text":  {"s=Lot", "lot", good(int32(6)), lab.Bad, lab.Missing},
	} {
		b.set("s=Made", good(int32(1)))
		b.set("s=T", good(300.0))
		b.read(t, "temperature") // three wrong types in a row would put it aside
		b.set(c.node, c.value)
		r := b.read(t, c.property)[0]
		if r.Quality != c.quality || r.Value.Kind != c.kind {
			t.Errorf("%s: %s %v, want %s and a %s", name, r.Quality, r.Value, c.quality, c.kind)
		}
	}
	b.set("s=Made", good(int32(1)))
	b.set("s=T", failed)
	if got := b.read(t, "temperature", "made"); got[1].Quality != lab.Good || got[0].Quality != lab.Bad {
		t.Errorf("a bad node spoiled the batch: %+v", got)
	}
}

func TestReadTimes(t *testing.T) {
	b := connected(t, time.Second)
	serverTime := time.Now().Add(-time.Minute).Truncate(time.Microsecond)
	noSource := &ua.DataValue{EncodingMask: ua.DataValueValue | ua.DataValueServerTimestamp, Value: ua.MustVariant(1.0), ServerTimestamp: serverTime}
	b.set("s=T", noSource)
	if r := b.read(t, "temperature")[0]; !r.Source.Equal(serverTime) {
		t.Errorf("source %v, want the server's time %v", r.Source, serverTime)
	}
	b.set("s=T", &ua.DataValue{EncodingMask: ua.DataValueValue | ua.DataValueSourceTimestamp, Value: ua.MustVariant(1.0)})
	if r := b.read(t, "temperature")[0]; !r.Source.Equal(r.Received) {
		t.Errorf("source %v, want the receive time %v", r.Source, r.Received)
	}
	ahead := good(1.0)
	ahead.SourceTimestamp = time.Now().Add(time.Hour)
	b.set("s=T", ahead)
	if r := b.read(t, "temperature")[0]; time.Until(r.Source) < 50*time.Minute || time.Since(r.Received) > time.Second || r.Age(time.Now()) < 0 {
		t.Errorf("a clock ahead gave %+v", r)
	}
}

func TestReadKeepsToTheServersLimit(t *testing.T) {
	b := unconnected(t, time.Second)
	b.lock(func() { b.maxNodes = 2 })
	if err := b.link.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.set("s=T", good(1.0))
	b.set("s=Made", good(int32(1)))
	b.set("s=Heating", good(false))
	for i, r := range b.read(t, "temperature", "made", "heating", "temperature", "made") {
		if r.Quality != lab.Good {
			t.Errorf("reading %d: %+v", i, r)
		}
	}
}

func TestNamespaceMoves(t *testing.T) {
	b := connected(t, time.Second)
	b.set("s=T", good(320.0))
	before := b.link.Epoch("dev")
	b.drop()
	b.lock(func() { b.namespaces = []string{"http://opcfoundation.org/UA/", namespace} })
	eventually(t, "the loss is told", func() bool { return b.sink.losses() == 1 })
	if _, err := b.link.Read(t.Context(), "dev", nil); lab.KindOf(err) != lab.KindUnavailable {
		t.Fatalf("a dead link answered: %v", err)
	}
	if err := b.link.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := b.read(t, "temperature")[0]; r.Quality != lab.Good || r.Epoch != before+1 {
		t.Errorf("after the move: %+v", r)
	}
	b.lock(func() { b.namespaces = b.namespaces[:1] })
	wantKind(t, b.link.Connect(t.Context()), lab.KindUnavailable)
}

func TestCallersDeadlineKeepsTheSession(t *testing.T) {
	b := connected(t, 5*time.Second)
	b.set("s=Made", good(int32(1)))
	b.frozen.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := b.link.Read(ctx, "dev", []lab.PropertyID{propertyID("made")})
	wantKind(t, err, lab.KindUnavailable)
	b.frozen.Store(false)
	if r := b.read(t, "made")[0]; r.Quality != lab.Good || b.sink.losses() != 0 {
		t.Errorf("%+v, %d losses", r, b.sink.losses())
	}
}

func TestIdentify(t *testing.T) {
	b := connected(t, time.Second)
	if who, err := b.link.Identify(t.Context(), "dev"); err != nil || who.Serial != "SN 1" {
		t.Errorf("%+v, %v", who, err)
	}
	b.set("s=Serial", nil)
	_, err := b.link.Identify(t.Context(), "dev")
	wantKind(t, err, lab.KindDeviceRefused)
}

func TestConnectFails(t *testing.T) {
	b := unconnected(t, 100*time.Millisecond)
	cmd := dose()
	_, err := b.link.Exchange(t.Context(), cmd, b.permit(t, cmd))
	wantKind(t, err, lab.KindNotSent)
	_, err = b.link.Read(t.Context(), "dev", nil)
	wantKind(t, err, lab.KindUnavailable)

	b.frozen.Store(true) // takes the connection, opens the channel, then nothing
	start := time.Now()
	wantKind(t, b.link.Connect(t.Context()), lab.KindUnavailable)
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
	b.frozen.Store(false)
	if err := b.link.Connect(t.Context()); err != nil || b.link.Epoch("dev") != 1 {
		t.Errorf("%v, epoch %d", err, b.link.Epoch("dev"))
	}
	b.close()
	wantKind(t, b.link.Connect(t.Context()), lab.KindUnavailable)
	if n := b.link.Epoch("dev"); n != 1 {
		t.Errorf("a failed connect made epoch %d", n)
	}
}

// A server that sends nothing at all, not even the hello's answer.
func TestConnectIsCancelled(t *testing.T) {
	b := unconnected(t, 5*time.Second)
	b.server.close()
	l := listen(t)
	link := b.link.(*Link)
	link.cfg.Address = func(*lab.Instrument) (map[string]string, error) {
		return map[string]string{"endpoint": "opc.tcp://" + l}, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, cancel)
	start := time.Now()
	wantKind(t, link.Connect(ctx), lab.KindUnavailable)
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %v", d)
	}
}

func TestCloseUnblocks(t *testing.T) {
	b := connected(t, 10*time.Second)
	b.frozen.Store(true)
	done := make(chan error)
	go func() {
		_, err := b.link.Read(context.Background(), "dev", []lab.PropertyID{propertyID("made")})
		done <- err
	}()
	eventually(t, "the read is under way", func() bool {
		op := &b.link.(*Link).op
		if op.TryLock() {
			op.Unlock()
			return false
		}
		return true
	})
	start := time.Now()
	if err := b.link.Close(); err != nil {
		t.Fatal(err)
	}
	wantKind(t, <-done, lab.KindUnavailable)
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %v", d)
	}
	wantKind(t, b.link.Connect(t.Context()), lab.KindUnavailable)
}

func TestCloseOfAFrozenServerIsBounded(t *testing.T) {
	b := connected(t, 10*time.Second)
	b.frozen.Store(true)
	start := time.Now()
	if err := b.link.Close(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %v", d)
	}
	if n := b.sink.losses(); n != 0 {
		t.Errorf("our own close was told as %d losses", n)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, change := range map[string]func(*lab.Instrument){
		"no insecure":       func(in *lab.Instrument) { delete(in.Link, "insecure") },
		"insecure yes":      func(in *lab.Instrument) { in.Link["insecure"] = "yes" },
		"no namespace":      func(in *lab.Instrument) { in.Profile.Link.Namespace = "" },
		"no reply time":     func(in *lab.Instrument) { in.Profile.Link.ReplyWithin = 0 },
		"another wire":      func(in *lab.Instrument) { in.Profile.Link.Kind = lab.LinkSerial },
		"init":              func(in *lab.Instrument) { in.Profile.Init = make([]lab.Exchange, 1) },
		"node by index":     func(in *lab.Instrument) { in.Profile.Properties[0].Node = "ns=3;s=T" },
		"no node":           func(in *lab.Instrument) { in.Profile.Properties[0].Node = "" },
		"wrong unit":        func(in *lab.Instrument) { in.Profile.Properties[0].Unit = unit("bar") },
		"unknown property":  func(in *lab.Instrument) { in.Profile.Properties[0].Property = "x" },
		"unknown wire type": func(in *lab.Instrument) { in.Profile.Commands[0].Inputs[0].Type = "int33" },
		"type can't carry":  func(in *lab.Instrument) { in.Profile.Commands[0].Inputs[0].Type = "string" },
		"unknown argument":  func(in *lab.Instrument) { in.Profile.Commands[0].Inputs[0].Arg = "x" },
		"argument's unit":   func(in *lab.Instrument) { in.Profile.Commands[0].Inputs[1].Unit = unit("K") },
		"unknown command":   func(in *lab.Instrument) { in.Profile.Commands[0].Command = "x" },
		"no method":         func(in *lab.Instrument) { in.Profile.Commands[0].Method = "s=" },
		"identity by index": func(in *lab.Instrument) { in.Profile.Identify.Send = "ns=1;i=5" },
	} {
		in := instrument("dev", time.Second)
		change(in)
		_, err := Open(drivers.Config{Instruments: []*lab.Instrument{in}, Sink: &sink{}, Clock: wallClock{},
			Address: func(*lab.Instrument) (map[string]string, error) { return nil, nil }})
		if lab.KindOf(err) != lab.KindInvalid || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
