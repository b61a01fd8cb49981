package memory_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"labgate/drivers"
	"labgate/drivers/drivertest"
	"labgate/drivers/memory"
	"labgate/lab"
	"labgate/safety"
)

// device is a pump in a few lines, with a count of what it did.
type device struct {
	epoch atomic.Uint64

	mu        sync.Mutex
	doses     int
	stops     int
	dispensed float64
	running   bool
	mute      bool
	next      error // of the next command
}

func (d *device) Epoch() uint64 { return d.epoch.Load() }

func (d *device) Read(id lab.PropertyID) (lab.Value, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.mute:
		return lab.Value{}, lab.Ef("device", "", lab.KindUnavailable, "mute")
	case id.Property == "dispensed":
		return lab.NumberValue(lab.Q(d.dispensed, "mL")), nil
	case id.Property == "running":
		return lab.BoolValue(d.running), nil
	case id.Property == "rate":
		return lab.NumberValue(lab.Q(0.1, "mL/s")), nil // another unit than the class's
	}
	return lab.Value{}, errors.New("no such property")
}

func (d *device) Do(cmd *lab.Command) (map[string]lab.Value, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mute {
		return nil, lab.Ef("device", "", lab.KindNotSent, "mute")
	}
	err := d.next
	d.next = nil
	if err != nil && lab.KindOf(err) != lab.KindInternal {
		return nil, err
	}
	switch cmd.Target.Command {
	case "dose":
		d.doses++
		d.dispensed += cmd.Args["volume"].Num
		d.running = true
	case "stop":
		d.stops++
		d.running = false
	}
	return map[string]lab.Value{"delivered": cmd.Args["volume"]}, err
}

func instrument() *lab.Instrument {
	return &lab.Instrument{Name: "pump_a", Profile: drivertest.SyringePump()}
}

func open(t testing.TB, d *device, sink drivers.Sink, clock lab.Clock) drivers.Link {
	l, err := memory.Opener(d)(drivers.Config{Instruments: []*lab.Instrument{instrument()}, Sink: sink, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

var target = lab.CommandID{Instrument: "pump_a", Component: "pump", Command: "dose"}

func dose(n int) *lab.Command {
	return &lab.Command{ID: fmt.Sprint("c", n), Target: target, NotAfter: time.Now().Add(time.Hour), Args: map[string]lab.Value{
		"volume": lab.NumberValue(lab.Q(0.15, "mL")), "rate": lab.NumberValue(lab.Q(6, "mL/min"))}}
}

func TestConformance(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{Start: func(t *testing.T, sink drivers.Sink, clock lab.Clock) *drivertest.Rig {
		d, n := &device{}, 0
		count := func(p *int) func() int {
			return func() int { d.mu.Lock(); defer d.mu.Unlock(); return *p }
		}
		return &drivertest.Rig{
			Link: open(t, d, sink, clock), Instrument: "pump_a", Identifies: true,
			Properties: []lab.PropertyID{{Instrument: "pump_a", Component: "pump", Property: "dispensed"},
				{Instrument: "pump_a", Component: "pump", Property: "running"}, {Instrument: "pump_a", Component: "pump", Property: "rate"}},
			Effect: func() *lab.Command { n++; return dose(n) }, Effects: count(&d.doses),
			Stop: lab.CommandID{Instrument: "pump_a", Component: "pump", Command: "stop"}, Stops: count(&d.stops),
			LoseAnswer: func() { d.mu.Lock(); d.next = errors.New("lost"); d.mu.Unlock() },
			Mute:       func(on bool) { d.mu.Lock(); d.mute = on; d.mu.Unlock() },
			Restart:    func() { d.epoch.Add(1) },
		}
	}})
}

// What the device says of a failure is what the link says.
func TestKinds(t *testing.T) {
	d := &device{}
	l := open(t, d, nil, drivertest.Clock{})
	if err := l.Connect(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		fails error
		kind  lab.Kind
		sent  bool
	}{
		{errors.New("nobody knows"), lab.KindOutcomeUnknown, true},
		{lab.Ef("device", "", lab.KindDeviceRefused, "out of range"), lab.KindDeviceRefused, true},
		{lab.Ef("device", "", lab.KindNotSent, "wire cut"), lab.KindNotSent, false},
	} {
		d.next = c.fails
		cmd := dose(1)
		res, err := l.Exchange(context.Background(), cmd, safety.NewTestPermit(t, cmd, l.Epoch("pump_a"), time.Now().Add(time.Minute)))
		if lab.KindOf(err) != c.kind || res.Sent.IsZero() == c.sent || res.Acked {
			t.Errorf("%v: %v, %+v", c.fails, err, res)
		}
	}
}

// A value of another type or unit is bad, not converted by guess; one of
// another unit of the same dimension is converted.
func TestReadConforms(t *testing.T) {
	d := &device{}
	l := open(t, d, nil, drivertest.Clock{})
	if err := l.Connect(context.Background()); err != nil {
		t.Fatal(err)
	}
	s, err := l.Read(context.Background(), "pump_a", []lab.PropertyID{{Instrument: "pump_a", Component: "pump", Property: "rate"}})
	if err != nil || s[0].Reading.Value.String() != "6 mL/min" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, cfg := range []memory.Config{
		{},
		{Device: &device{}},
		{Device: &device{}, Config: drivers.Config{Clock: drivertest.Clock{}}},
		{Device: &device{}, Config: drivers.Config{Clock: drivertest.Clock{}, Instruments: []*lab.Instrument{instrument(), instrument()}}},
	} {
		if _, err := memory.Open(cfg); lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

func BenchmarkExchange(b *testing.B) {
	d := &device{}
	l := open(b, d, nil, drivertest.Clock{})
	if err := l.Connect(context.Background()); err != nil {
		b.Fatal(err)
	}
	cmd := dose(1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Exchange(context.Background(), cmd, safety.NewTestPermit(b, cmd, l.Epoch("pump_a"), time.Now().Add(time.Minute))); err != nil {
			b.Fatal(err)
		}
	}
}
