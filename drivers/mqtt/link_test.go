package mqtt

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
	samples map[string]lab.Reading // the latest by property
	batches int
	lost    []string // instrument of each loss
}

func (s *sink) Samples(list []lab.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches++
	for _, x := range list {
		s.samples[x.ID.Property] = x.Reading
	}
}

func (s *sink) Lost(instrument string, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = append(s.lost, instrument)
}

func (s *sink) losses() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lost...)
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.batches
}

func unit(s string) lab.Unit {
	u, err := lab.ParseUnit(s)
	if err != nil {
		panic(err)
	}
	return u
}

// instrument has a property of each type, and a command of each kind of
// result.
func instrument(within time.Duration) *lab.Instrument {
	spectrum := lab.Type{Kind: lab.Table, Columns: []lab.Column{{Name: "wavelength", Unit: unit("nm")}, {Name: "absorbance"}}}
	class := &lab.Class{Name: "test/v1",
		Properties: []lab.Property{
			{Name: "airflow", Type: lab.Type{Kind: lab.Number, Unit: unit("m/s")}},
			{Name: "count", Type: lab.Type{Kind: lab.Integer}},
			{Name: "ready", Type: lab.Type{Kind: lab.Bool}},
			{Name: "mode", Type: lab.Type{Kind: lab.Enum, Enum: []string{"idle", "busy"}}},
			{Name: "lot", Type: lab.Type{Kind: lab.Text}},
		},
		Commands: []lab.CommandSpec{
			{Name: "capture", Effect: lab.Acquire, Args: []lab.Param{{Name: "exposure", Type: lab.Type{Kind: lab.Number, Unit: unit("s")}}},
				Gives: []lab.Param{{Name: "frame", Type: lab.Type{Kind: lab.Blob}}, {Name: "sharpness", Type: lab.Type{Kind: lab.Number}}}},
			{Name: "spectrum", Effect: lab.Acquire, Gives: []lab.Param{{Name: "peak", Type: lab.Type{Kind: lab.Number, Unit: unit("nm")}}, {Name: "spectrum", Type: spectrum}}},
			{Name: "dose", Args: []lab.Param{{Name: "drops", Type: lab.Type{Kind: lab.Integer}}, {Name: "speed", Type: lab.Type{Kind: lab.Enum, Enum: []string{"slow"}}}, {Name: "hot", Type: lab.Type{Kind: lab.Bool}}}},
			{Name: "halt", Effect: lab.Safe},
		}}
	profile := &lab.Profile{Name: "test/mqtt@1", Components: []lab.Component{{Name: "part", Class: class}},
		Link: lab.LinkSpec{Kind: lab.LinkMQTT, ReplyWithin: within, State: "state", Command: "command", Ack: "ack",
			Time: "/time", ID: "/id", OK: "/ok", Error: "/error"},
		Identify: lab.Exchange{Send: "/serial"},
		Properties: []lab.PropertyMap{
			{Component: "part", Property: "airflow", Pointer: "/air/flow", Unit: unit("cm/s"), Scale: 10},
			{Component: "part", Property: "count", Pointer: "/count"},
			{Component: "part", Property: "ready", Pointer: "/ready"},
			{Component: "part", Property: "mode", Pointer: "/mode", Map: map[string]string{"0": "idle", "1": "busy"}},
			{Component: "part", Property: "lot", Pointer: "/lot"},
		},
		Commands: []lab.CommandMap{
			{Component: "part", Command: "capture", Name: "snap", Inputs: []lab.WireInput{{Arg: "exposure", Unit: unit("ms"), Key: "exposure_ms"}},
				Gives: []lab.WireGive{{Name: "frame", Topic: "frame/{id}", Media: "image/png"}, {Name: "sharpness", Pointer: "/result/sharpness"}}},
			{Component: "part", Command: "spectrum", Name: "spectrum", Gives: []lab.WireGive{
				{Name: "peak", Pointer: "/result/peak_pm", Unit: unit("pm")},
				{Name: "spectrum", Columns: map[string]string{"wavelength": "/result/w", "absorbance": "/result/a"}}}},
			{Component: "part", Command: "dose", Name: "dose", Inputs: []lab.WireInput{{Arg: "drops"}, {Arg: "speed"}, {Arg: "hot"}}},
			{Component: "part", Command: "halt", Name: "halt"},
		}}
	return &lab.Instrument{Name: "dev", Profile: profile, Link: map[string]string{"broker": "embedded", "prefix": "x"}}
}

type bench struct {
	*device
	proxy *proxy
	sink  *sink
	link  *Link
}

func unconnected(t testing.TB, within time.Duration) *bench {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	b := &bench{device: newDevice(t), proxy: newProxy(t), sink: &sink{samples: map[string]lab.Reading{}}}
	link, err := Open(drivers.Config{Instruments: []*lab.Instrument{instrument(within)}, Sink: b.sink, Clock: wallClock{},
		Address: func(*lab.Instrument) (map[string]string, error) {
			return map[string]string{"url": "tcp://" + b.proxy.l.Addr().String(), "prefix": b.prefix}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	b.link = link.(*Link)
	t.Cleanup(func() {
		if err := link.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// connected is a link with a device of its own behind the tests' broker.
func connected(t testing.TB, within time.Duration) *bench {
	t.Helper()
	b := unconnected(t, within)
	if err := b.link.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// tell publishes a state and waits until the link has taken it.
func (b *bench) tell(payload any) {
	b.t.Helper()
	n := b.sink.count()
	b.publish("state", false, payload)
	eventually(b.t, "the state arrives", func() bool { return b.sink.count() > n })
}

func (b *bench) read(names ...string) []lab.Reading {
	b.t.Helper()
	var ids []lab.PropertyID
	for _, n := range names {
		ids = append(ids, propertyID(n))
	}
	samples, err := b.link.Read(b.t.Context(), "dev", ids)
	if err != nil {
		b.t.Fatal(err)
	}
	out := make([]lab.Reading, len(samples))
	for i, s := range samples {
		out[i] = s.Reading
	}
	return out
}

func propertyID(name string) lab.PropertyID {
	return lab.PropertyID{Instrument: "dev", Component: "part", Property: name}
}

var commands atomic.Int64 // makes ids

func newCommand(name string, args map[string]lab.Value) *lab.Command {
	return &lab.Command{ID: fmt.Sprintf("01K%d", commands.Add(1)), Target: lab.CommandID{Instrument: "dev", Component: "part", Command: name},
		Args: args, NotAfter: time.Now().Add(time.Minute)}
}

func dose() *lab.Command {
	return newCommand("dose", map[string]lab.Value{"drops": lab.IntegerValue(3), "speed": lab.EnumValue("slow"), "hot": lab.BoolValue(false)})
}

func capture() *lab.Command {
	return newCommand("capture", map[string]lab.Value{"exposure": lab.NumberValue(lab.Q(0.02, "s"))})
}

func (b *bench) permit(cmd *lab.Command) *safety.Permit {
	return safety.NewTestPermit(b.t, cmd, b.link.Epoch("dev"), time.Now().Add(time.Minute))
}

func (b *bench) exchange(cmd *lab.Command) (drivers.Result, error) {
	return b.link.Exchange(b.t.Context(), cmd, b.permit(cmd))
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

func TestState(t *testing.T) {
	b := connected(t, time.Second)
	for _, r := range b.read("ready", "nonsense") {
		if r.Quality != lab.Bad || r.Value.Kind != lab.Missing {
			t.Errorf("before any state: %+v", r)
		}
	}
	source := time.Now().Add(-time.Hour).UTC()
	b.tell(map[string]any{"time": source.Format(time.RFC3339Nano), "air": map[string]any{"flow": 5}, "count": 7, "ready": true, "mode": 1, "lot": "A\x00"})
	got := b.read("airflow", "count", "ready", "mode", "lot")
	if math.Abs(got[0].Value.Num-0.5) > 1e-12 || got[0].Value.Unit != unit("m/s") {
		t.Errorf("airflow is %v, want 0.5 m/s", got[0].Value)
	}
	if got[1].Value != lab.IntegerValue(7) || got[2].Value != lab.BoolValue(true) || got[3].Value != lab.EnumValue("busy") || got[4].Value != lab.TextValue(`A\u0000`) {
		t.Errorf("got %v", got)
	}
	for i, r := range got {
		if r.Quality != lab.Good || !r.Source.Equal(source) || time.Since(r.Received) > time.Minute || r.Epoch != 1 {
			t.Errorf("reading %d: %+v", i, r)
		}
	}
	b.sink.mu.Lock()
	defer b.sink.mu.Unlock()
	if b.sink.samples["count"] != got[1] || len(b.sink.samples) != 5 {
		t.Errorf("the sink got %+v", b.sink.samples)
	}
}

// What must never look like a good reading.
func TestStateDistrusts(t *testing.T) {
	b := connected(t, time.Second)
	const now = `"time":"2026-11-22T18:00:00Z"`
	for name, payload := range map[string]string{
		"text for a number":    `{` + now + `,"count":"7"}`,
		"bool for a number":    `{` + now + `,"count":true}`,
		"list for a number":    `{` + now + `,"count":[7]}`,
		"null":                 `{` + now + `,"count":null}`,
		"fraction":             `{` + now + `,"count":7.5}`,
		"infinite":             `{` + now + `,"count":1e999}`,
		"missing":              `{` + now + `}`,
		"no time":              `{"count":7}`,
		"time of another kind": `{"time":1763834400,"count":7}`,
		"half a time":          `{"time":"2026-11-22","count":7}`,
		"duplicate key":        `{` + now + `,"count":7,"count":7}`,
		"broken":               `{` + now + `,"count":7`,
		"trailing":             `{` + now + `,"count":7} 1`,
		"not an object":        `7`,
		"empty":                ``,
		"NaN":                  `{` + now + `,"count":NaN}`,
		"broken UTF-8":         `{` + now + `,"count":7,"x":"` + "\xff" + `"}`,
		"too deep":             `{` + now + `,"count":7,"x":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`,
		"too long":             `{` + now + `,"count":7,"x":"` + strings.Repeat("x", maxState) + `"}`,
	} {
		b.tell(`{` + now + `,"count":7}`)
		if r := b.read("count")[0]; r.Quality != lab.Good {
			t.Fatalf("a good state is %+v", r)
		}
		b.tell(payload)
		if r := b.read("count")[0]; r.Quality != lab.Bad {
			t.Errorf("%s: %s %v", name, r.Quality, r.Value)
		}
	}
	if d := b.link.Dropped(); d.Oversized != 1 || d.Malformed == 0 {
		t.Errorf("counted %+v", d)
	}
}

func TestRetainedStateIsAsOldAsItIs(t *testing.T) {
	b := unconnected(t, time.Second)
	old := time.Now().Add(-time.Hour)
	b.publish("state", true, map[string]any{"time": old.Format(time.RFC3339Nano), "count": 7})
	b.publish("ack", true, map[string]any{"id": "x", "ok": true})
	if err := b.link.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the retained state arrives", func() bool { return b.sink.count() == 1 })
	r := b.read("count")[0]
	if fresh, why := r.Fresh(time.Now(), time.Minute); fresh || why != "stale" || r.Quality != lab.Good {
		t.Errorf("%+v is fresh: %t, %s", r, fresh, why)
	}
	eventually(t, "the retained acknowledgement is dropped", func() bool { return b.link.Dropped().Retained == 1 })
	b.link.plan.time = nil // a device without a clock: how old is it?
	if err := b.link.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it arrives again", func() bool { return b.sink.count() == 2 })
	if r := b.read("count")[0]; r.Quality != lab.Uncertain {
		t.Errorf("a retained state of unknown age is %+v", r)
	}
}

func TestBootID(t *testing.T) {
	b := connected(t, time.Second)
	state := func(boot any) map[string]any {
		return map[string]any{"time": time.Now().Format(time.RFC3339Nano), "count": 7, "boot": boot}
	}
	for _, boot := range []any{1, 1, nil, 1.5, []any{}, 1} {
		b.tell(state(boot))
	}
	if l := b.sink.losses(); len(l) != 0 || b.link.Epoch("dev") != 1 {
		t.Fatalf("losses %v, epoch %d", l, b.link.Epoch("dev"))
	}
	cmd := dose()
	permit := b.permit(cmd)
	b.tell(state("2"))
	if l := b.sink.losses(); len(l) != 1 || l[0] != "dev" || b.link.Epoch("dev") != 2 {
		t.Fatalf("losses %v, epoch %d", l, b.link.Epoch("dev"))
	}
	if r := b.read("count")[0]; r.Epoch != 2 || r.Quality != lab.Good {
		t.Errorf("%+v", r)
	}
	_, err := b.link.Exchange(t.Context(), cmd, permit)
	wantKind(t, err, lab.KindDenied)
}

// A device that once left a retained state and now sends others must not look
// restarted at every connect.
func TestOldRetainedBootID(t *testing.T) {
	b := unconnected(t, time.Second)
	b.publish("state", true, map[string]any{"time": "2020-01-01T00:00:00Z", "boot": 1})
	for range 3 {
		n := b.sink.count()
		if err := b.link.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the retained state arrives", func() bool { return b.sink.count() == n+1 })
		b.tell(map[string]any{"time": time.Now().Format(time.RFC3339Nano), "boot": 2})
	}
	if l := b.sink.losses(); len(l) != 1 {
		t.Errorf("%d losses; want only the first", len(l))
	}
}

func TestIdentify(t *testing.T) {
	b := connected(t, 100*time.Millisecond)
	_, err := b.link.Identify(t.Context(), "dev")
	wantKind(t, err, lab.KindDeviceRefused)
	b.tell(`{"serial":"SN\n1"}`)
	if who, err := b.link.Identify(t.Context(), "dev"); err != nil || who.Serial != `SN\u000a1` {
		t.Errorf("%+v, %v", who, err)
	}
}

func TestConnectFails(t *testing.T) {
	b := unconnected(t, 100*time.Millisecond)
	_, err := b.exchange(dose())
	wantKind(t, err, lab.KindNotSent)
	b.proxy.frozen.Store(true)
	start := time.Now()
	wantKind(t, b.link.Connect(t.Context()), lab.KindUnavailable)
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("a frozen broker took %v", d)
	}
	b.proxy.frozen.Store(false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantKind(t, b.link.Connect(ctx), lab.KindUnavailable)
	if n := b.link.Epoch("dev"); n != 0 {
		t.Errorf("failed connects made epoch %d", n)
	}
	if err := b.link.Connect(t.Context()); err != nil {
		t.Error(err)
	}
	_ = b.proxy.l.Close()
	wantKind(t, b.link.Connect(t.Context()), lab.KindUnavailable)
	if n := len(b.sink.losses()); n != 0 {
		t.Errorf("%d losses told of connections that were never there or closed by us", n)
	}
}

func TestLossIsToldOnce(t *testing.T) {
	b := connected(t, time.Second)
	b.tell(`{"time":"2026-11-22T18:00:00Z","count":7}`)
	b.proxy.cut()
	eventually(t, "the loss is told", func() bool { return len(b.sink.losses()) == 1 })
	_, err := b.link.Read(t.Context(), "dev", nil)
	wantKind(t, err, lab.KindUnavailable)
	if err := b.link.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := b.read("count")[0]; r.Quality != lab.Bad || r.Epoch != 2 {
		t.Errorf("after reconnecting, the old reading is %+v", r)
	}
	if n := len(b.sink.losses()); n != 1 {
		t.Errorf("%d losses", n)
	}
}

func TestCloseUnblocks(t *testing.T) {
	b := connected(t, 10*time.Second)
	done := make(chan error)
	cmd := dose()
	permit := b.permit(cmd)
	go func() {
		_, err := b.link.Exchange(context.Background(), cmd, permit)
		done <- err
	}()
	eventually(t, "the command arrives", func() bool { return b.count() == 1 })
	start := time.Now()
	if err := b.link.Close(); err != nil {
		t.Fatal(err)
	}
	wantKind(t, <-done, lab.KindOutcomeUnknown)
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
	if n := len(b.sink.losses()); n != 0 {
		t.Errorf("our own close was told as a loss")
	}
	if err := b.link.Connect(t.Context()); err != nil {
		t.Errorf("a closed link can't be opened again: %v", err)
	}
}

func TestCloseOfAFrozenBrokerIsBounded(t *testing.T) {
	b := connected(t, 10*time.Second)
	b.proxy.frozen.Store(true)
	start := time.Now()
	if err := b.link.Close(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, change := range map[string]func(*lab.Profile){
		"another wire":         func(p *lab.Profile) { p.Link.Kind = lab.LinkSerial },
		"no reply time":        func(p *lab.Profile) { p.Link.ReplyWithin = 0 },
		"init":                 func(p *lab.Profile) { p.Init = make([]lab.Exchange, 1) },
		"no pointer":           func(p *lab.Profile) { p.Properties[0].Pointer = "" },
		"broken pointer":       func(p *lab.Profile) { p.Properties[0].Pointer = "air" },
		"broken escape":        func(p *lab.Profile) { p.Properties[0].Pointer = "/a~2" },
		"wrong unit":           func(p *lab.Profile) { p.Properties[0].Unit = unit("bar") },
		"unknown property":     func(p *lab.Profile) { p.Properties[0].Property = "x" },
		"no state topic":       func(p *lab.Profile) { p.Link.State = "" },
		"ack without id":       func(p *lab.Profile) { p.Link.ID = "" },
		"no command topic":     func(p *lab.Profile) { p.Link.Command = "" },
		"no wire name":         func(p *lab.Profile) { p.Commands[0].Name = "" },
		"unknown command":      func(p *lab.Profile) { p.Commands[0].Command = "x" },
		"unknown argument":     func(p *lab.Profile) { p.Commands[0].Inputs[0].Arg = "x" },
		"argument's unit":      func(p *lab.Profile) { p.Commands[0].Inputs[0].Unit = unit("K") },
		"a key twice":          func(p *lab.Profile) { p.Commands[2].Inputs[0].Key = "speed" },
		"blob without id":      func(p *lab.Profile) { p.Commands[0].Gives[0].Topic = "frame" },
		"blob with half level": func(p *lab.Profile) { p.Commands[0].Gives[0].Topic = "frame{id}" },
		"unknown result":       func(p *lab.Profile) { p.Commands[0].Gives[1].Name = "x" },
		"result's unit":        func(p *lab.Profile) { p.Commands[1].Gives[0].Unit = unit("s") },
		"column missing":       func(p *lab.Profile) { delete(p.Commands[1].Gives[1].Columns, "absorbance") },
		"column too many":      func(p *lab.Profile) { p.Commands[1].Gives[1].Columns["x"] = "/x" },
		"results without acks": func(p *lab.Profile) { p.Link.Ack = "" },
	} {
		in := instrument(time.Second)
		change(in.Profile)
		_, err := Open(drivers.Config{Instruments: []*lab.Instrument{in}, Sink: &sink{}, Clock: wallClock{},
			Address: func(*lab.Instrument) (map[string]string, error) { return nil, nil }})
		if err == nil || lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConnectRefusesBadTopics(t *testing.T) {
	for _, prefix := range []string{"", "a b", "a/+", "#", "a//b", "/a", "a/", "$SYS", "a\x00", strings.Repeat("a", 300), "ä"} {
		b := &sink{}
		link, err := Open(drivers.Config{Instruments: []*lab.Instrument{instrument(time.Second)}, Sink: b, Clock: wallClock{},
			Address: func(*lab.Instrument) (map[string]string, error) {
				return map[string]string{"url": "tcp://" + broker, "prefix": prefix}, nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		if err := link.Connect(t.Context()); lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("prefix %q: %v", prefix, err)
		}
		if err := link.Close(); err != nil {
			t.Error(err)
		}
	}
}
