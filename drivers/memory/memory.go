// Package memory is the link to instruments inside the process, for tests and
// for the twin.
//
// It promises what every link does (a permit spent before the one effect, no
// retry, an epoch that grows with every lost state) without a wire: a call is
// one call of the Device, on the caller's goroutine, and nothing happens
// between calls. With a Device and a clock that are deterministic, so is the
// link. It never injects a fault by itself: a Device's errors are its faults.
// It has no goroutines.
package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"labgate/drivers"
	"labgate/lab"
	"labgate/safety"
)

// Device is the instruments behind a link. It is called by one goroutine at a
// time, except for Epoch, which must be safe for concurrent use.
type Device interface {
	// Read gives a property's value now. An error is a bad sample; one of
	// KindUnavailable says that the link itself is down.
	Read(id lab.PropertyID) (lab.Value, error)
	// Do carries out a command and returns its results. An error without a kind
	// leaves the outcome unknown.
	Do(cmd *lab.Command) (map[string]lab.Value, error)
	// Epoch grows whenever the device lost its state. It counts from 0.
	Epoch() uint64
}

// Config is what a link is made from.
type Config struct {
	drivers.Config
	Device Device
}

// Opener makes links to one Device.
func Opener(d Device) drivers.Opener {
	return func(cfg drivers.Config) (drivers.Link, error) { return Open(Config{cfg, d}) }
}

type link struct {
	cfg       Config
	names     map[string]*lab.Instrument
	connects  atomic.Uint64
	mu        sync.Mutex // the call under way
	connected bool
	closed    bool
	seen      uint64 // the device's epoch that was last told
}

// Open makes the link. The profiles' own wire does not matter to it.
func Open(cfg Config) (drivers.Link, error) {
	const op = "drivers/memory: open"
	if cfg.Device == nil || cfg.Clock == nil || len(cfg.Instruments) == 0 {
		return nil, lab.Ef(op, "", lab.KindInvalid, "a link needs a device, a clock and instruments")
	}
	l := &link{cfg: cfg, names: map[string]*lab.Instrument{}}
	for _, in := range cfg.Instruments {
		if l.names[in.Name] != nil {
			return nil, lab.Ef(op, in.Name, lab.KindInvalid, "it is there twice")
		}
		l.names[in.Name] = in
	}
	return l, nil
}

// Connect implements drivers.Link.
func (l *link) Connect(ctx context.Context) error {
	const op = "drivers/memory: connect"
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return lab.E(op, "", lab.KindCancelled, err)
	}
	l.connected, l.closed, l.seen = true, false, l.cfg.Device.Epoch()
	l.connects.Add(1)
	return nil
}

// Epoch implements drivers.Link: connections plus losses of state.
func (l *link) Epoch(instrument string) uint64 {
	n := l.connects.Load()
	if l.names[instrument] == nil || n == 0 {
		return 0
	}
	return n + l.cfg.Device.Epoch()
}

// enter begins a call; the caller holds mu. It tells of a state that was lost
// since the call before.
func (l *link) enter(op, instrument string) (*lab.Instrument, error) {
	in := l.names[instrument]
	switch {
	case in == nil:
		return nil, lab.Ef(op, instrument, lab.KindInvalid, "it is not on this link")
	case l.closed:
		return nil, lab.Ef(op, instrument, lab.KindUnavailable, "the link is closed")
	case !l.connected:
		return nil, lab.Ef(op, instrument, lab.KindUnavailable, "the link is not connected")
	}
	if e := l.cfg.Device.Epoch(); e != l.seen {
		l.seen = e
		l.lost("", lab.Ef(op, "", lab.KindUnavailable, "the device lost its state"))
	}
	return in, nil
}

func (l *link) lost(instrument string, err error) {
	if l.cfg.Sink != nil {
		l.cfg.Sink.Lost(instrument, err)
	}
}

// Identify implements drivers.Link: there is no maker but this program.
func (l *link) Identify(ctx context.Context, instrument string) (drivers.Identity, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	in, err := l.enter("drivers/memory: identify", instrument)
	if err != nil {
		return drivers.Identity{}, err
	}
	return drivers.Identity{Maker: "labgate", Model: in.Profile.Name, Serial: instrument}, nil
}

// Read implements drivers.Link.
func (l *link) Read(ctx context.Context, instrument string, properties []lab.PropertyID) ([]lab.Sample, error) {
	const op = "drivers/memory: read"
	l.mu.Lock()
	defer l.mu.Unlock()
	in, err := l.enter(op, instrument)
	if err != nil {
		return nil, err
	}
	out := make([]lab.Sample, 0, len(properties))
	for _, id := range properties {
		if err := ctx.Err(); err != nil {
			return out, lab.E(op, instrument, lab.KindCancelled, err)
		}
		if id.Instrument != instrument {
			return out, lab.E(op, instrument, lab.KindInvalid, fmt.Errorf("%s is another instrument's", id))
		}
		v, err := l.readOne(in, id)
		if err != nil && lab.KindOf(err) == lab.KindUnavailable {
			l.connected = false
			err = lab.E(op, instrument, lab.KindUnavailable, err)
			l.lost("", err)
			return out, err
		}
		now := l.cfg.Clock.Now()
		r := lab.Reading{Value: v, Quality: lab.Good, Source: now, Received: now, Epoch: l.Epoch(instrument)}
		if err != nil {
			r.Value, r.Quality = lab.Value{}, lab.Bad
		}
		out = append(out, lab.Sample{ID: id, Reading: r})
	}
	return out, nil
}

// readOne reads one property and checks it against its class.
func (l *link) readOne(in *lab.Instrument, id lab.PropertyID) (lab.Value, error) {
	c := in.Profile.Component(id.Component)
	if c == nil || c.Class.Property(id.Property) == nil {
		return lab.Value{}, fmt.Errorf("%s is in no class of %s", id, in.Profile.Name)
	}
	v, err := l.cfg.Device.Read(id)
	if err != nil {
		return lab.Value{}, err
	}
	return c.Class.Property(id.Property).Type.Conform(v)
}

// Exchange implements drivers.Link.
func (l *link) Exchange(ctx context.Context, cmd *lab.Command, permit *safety.Permit) (drivers.Result, error) {
	const op = "drivers/memory: exchange"
	l.mu.Lock()
	defer l.mu.Unlock()
	name := cmd.Target.Instrument
	in, err := l.enter(op, name)
	if err != nil {
		if lab.KindOf(err) == lab.KindUnavailable {
			err = lab.E(op, name, lab.KindNotSent, err)
		}
		return drivers.Result{}, err
	}
	if command(in, cmd.Target) == nil {
		return drivers.Result{}, lab.E(op, name, lab.KindInvalid, fmt.Errorf("%s is in no class of %s", cmd.Target, in.Profile.Name))
	}
	if err := ctx.Err(); err != nil {
		return drivers.Result{}, lab.E(op, name, lab.KindNotSent, err)
	}
	if err := permit.Spend(cmd, l.Epoch(name), l.cfg.Clock.Now()); err != nil {
		return drivers.Result{}, err
	}
	return l.do(op, cmd)
}

// Stop implements drivers.Link. It needs no connection. A refused or lost stop
// is not repeated: there is no wire that could have lost it.
func (l *link) Stop(ctx context.Context, order *safety.Order) (drivers.Result, error) {
	const op = "drivers/memory: stop"
	if order == nil || order.Target() == (lab.CommandID{}) {
		return drivers.Result{}, lab.Ef(op, "", lab.KindDenied, "no order")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	target := order.Target()
	in := l.names[target.Instrument]
	if in == nil {
		return drivers.Result{}, lab.Ef(op, target.Instrument, lab.KindInvalid, "it is not on this link")
	}
	if l.closed {
		return drivers.Result{}, lab.Ef(op, target.Instrument, lab.KindNotSent, "the link is closed")
	}
	if spec := command(in, target); spec == nil || spec.Effect != lab.Safe {
		return drivers.Result{}, lab.E(op, target.Instrument, lab.KindDenied, fmt.Errorf("%s is no safe command", target))
	}
	if err := ctx.Err(); err != nil {
		return drivers.Result{}, lab.E(op, target.Instrument, lab.KindNotSent, err)
	}
	return l.do(op, &lab.Command{Target: target, Args: order.Args()})
}

// do hands a command to the device.
func (l *link) do(op string, cmd *lab.Command) (drivers.Result, error) {
	res := drivers.Result{Sent: l.cfg.Clock.Now()}
	values, err := l.cfg.Device.Do(cmd)
	if err == nil {
		res.Acked, res.Values = true, values
		return res, nil
	}
	kind := lab.KindOutcomeUnknown
	var e *lab.Error
	if errors.As(err, &e) && e.Kind != lab.KindInternal {
		kind = e.Kind
	}
	switch kind {
	case lab.KindOutcomeUnknown, lab.KindDeviceRefused, lab.KindContradicted:
	default:
		res.Sent = time.Time{} // the device says that nothing left
	}
	return res, lab.E(op, cmd.Target.Instrument, kind, err)
}

// command finds a command's specification.
func command(in *lab.Instrument, id lab.CommandID) *lab.CommandSpec {
	if c := in.Profile.Component(id.Component); c != nil {
		return c.Class.Command(id.Command)
	}
	return nil
}

// Close implements drivers.Link. A Connect that follows opens it anew.
func (l *link) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed, l.connected = true, false
	return nil
}
