package serial

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"labgate/drivers"
	"labgate/lab"
	"labgate/lab/frame"
)

const (
	// writeWithin is the time that a message has to leave, beyond its own
	// length on the line. Then the line is given up.
	writeWithin = 250 * time.Millisecond
	// settle is how long the line must be still after it was opened.
	settle = 20 * time.Millisecond
	// silences in a row make an instrument one that is gone.
	silences = 2
	// retryFirst and retryLast bound the time between two tries to reach an
	// instrument that is gone.
	retryFirst, retryLast = 250 * time.Millisecond, 5 * time.Second
	// tries is how often a safe command is sent until it is answered.
	tries = 3
)

var (
	errClosed = errors.New("the link is closed")
	errSilent = errors.New("no reply")
)

// link is one line with its instruments.
type link struct {
	cfg   drivers.Config
	spec  lab.LinkSpec
	units []*unit
	names map[string]*unit

	// life ends whatever is under way when Close comes; the next Connect or Stop
	// begins another. live is the port that Close may wake.
	life atomic.Pointer[life]
	live atomic.Pointer[port]

	// mu is held by the call under way; everything below belongs to it.
	mu        sync.Mutex
	port      *port // nil: not open
	connected bool  // Connect has succeeded since the line was opened
	framer    *frame.Framer
	buf       [512]byte
	lastEnd   time.Time // of the last exchange: the gap counts from it
}

// life is the time between two calls of Close.
type life struct {
	ctx context.Context
	end context.CancelCauseFunc
}

func newLife() *life {
	ctx, end := context.WithCancelCause(context.Background())
	return &life{ctx, end}
}

// unit is one instrument on the line.
type unit struct {
	in    *lab.Instrument
	codec *frame.Codec
	epoch atomic.Uint64

	bound   *frame.Bound // nil: its address or settings can't be written
	broken  error        // why
	ready   bool         // its init went through in this epoch
	answers bool         // it is there, though its init may not have gone through
	gone    bool         // reported lost; it comes back in a new epoch
	silent  int          // exchanges in a row without a reply
	cause   error        // why it is not ready
	backoff time.Duration
	retryAt time.Time
	quietAt time.Time // until then a late reply may come
}

// Open makes the link of one line. It does no I/O. Several instruments share a
// line only where every reply carries its sender's address.
func Open(cfg drivers.Config) (drivers.Link, error) {
	const op = "drivers/serial: open"
	if len(cfg.Instruments) == 0 || cfg.Clock == nil {
		return nil, lab.Ef(op, "", lab.KindInvalid, "a link needs instruments and a clock")
	}
	l := &link{cfg: cfg, names: map[string]*unit{}}
	for i, in := range cfg.Instruments {
		codec, issues := frame.Compile(in.Profile)
		if len(issues) > 0 {
			return nil, lab.E(op, in.Name, lab.KindInvalid, issues)
		}
		s := in.Profile.Link
		switch {
		case i == 0:
			l.spec, l.framer = s, codec.NewFramer()
		case !codec.Addressed() || !l.units[0].codec.Addressed():
			return nil, lab.E(op, in.Name, lab.KindInvalid, fmt.Errorf("it shares a line with %s, and replies carry no address", cfg.Instruments[0].Name))
		case s.Baud != l.spec.Baud || !equal(s.ReplyEnd, l.spec.ReplyEnd):
			return nil, lab.E(op, in.Name, lab.KindInvalid, fmt.Errorf("it shares a line with %s at another speed or with other frames", cfg.Instruments[0].Name))
		case l.names[in.Name] != nil:
			return nil, lab.Ef(op, in.Name, lab.KindInvalid, "it is there twice")
		}
		l.spec.Gap, l.spec.ReplyWithin = max(l.spec.Gap, s.Gap), max(l.spec.ReplyWithin, s.ReplyWithin)
		u := &unit{in: in, codec: codec}
		l.units, l.names[in.Name] = append(l.units, u), u
	}
	l.life.Store(newLife())
	return l, nil
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// Epoch implements drivers.Link.
func (l *link) Epoch(instrument string) uint64 {
	if u := l.names[instrument]; u != nil {
		return u.epoch.Load()
	}
	return 0
}

// Connect opens the line anew and sends each instrument its init. It fails
// only where the line itself can't be had: an instrument that does not answer
// is reported lost, and tried again with later calls. It may follow Close.
func (l *link) Connect(ctx context.Context) error {
	const op = "drivers/serial: connect"
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, done := l.revive(ctx)
	defer done()
	if err := ctx.Err(); err != nil {
		return lab.E(op, "", lab.KindCancelled, context.Cause(ctx))
	}
	l.shut(nil)
	if err := l.open(ctx); err != nil {
		return err
	}
	l.connected = true
	for _, u := range l.units {
		u.retryAt, u.backoff, u.gone, u.silent = time.Time{}, 0, false, 0
		err := l.prepare(ctx, u)
		// Silence was reported where it was heard; one that is there and does not
		// take its settings now is not lost.
		if err != nil && !u.gone && !u.answers && ctx.Err() == nil && l.port != nil {
			l.lost(u.in.Name, lab.E(op, u.in.Name, lab.KindUnavailable, err))
		}
	}
	if l.port == nil {
		return lab.Ef(op, "", lab.KindUnavailable, "the line was lost again at once")
	}
	return nil
}

// open opens the line and begins a new epoch for every instrument: opening may
// reset a device.
func (l *link) open(ctx context.Context) error {
	path, err := l.resolve()
	if err != nil {
		return err
	}
	p, err := openPort(path, l.spec.Baud)
	if err != nil {
		return err
	}
	l.port, l.connected, l.lastEnd = p, false, time.Time{}
	l.live.Store(p)
	for _, u := range l.units {
		u.epoch.Add(1)
		u.ready, u.answers, u.quietAt = false, false, time.Time{}
	}
	if l.ending() { // Close came before it could see the port
		l.shut(errClosed)
		return lab.E("drivers/serial: open", "", lab.KindUnavailable, errClosed)
	}
	if err := l.drain(ctx, time.Now().Add(max(settle, l.spec.Gap))); err != nil {
		l.shut(err)
		return lab.E("drivers/serial: open", "", lab.KindUnavailable, err)
	}
	l.framer.Reset()
	return nil
}

// resolve finds the line's path and binds each instrument to its address.
func (l *link) resolve() (string, error) {
	const op = "drivers/serial: address"
	path := ""
	for i, u := range l.units {
		where := u.in.Link
		if l.cfg.Address != nil {
			var err error
			if where, err = l.cfg.Address(u.in); err != nil {
				return "", lab.E(op, u.in.Name, lab.KindUnavailable, err)
			}
		}
		port := where["port"]
		if _, ok := where["address"]; !ok {
			where = map[string]string{"address": u.in.Link["address"]}
		}
		if port == "" || path != "" && port != path {
			return "", lab.E(op, u.in.Name, lab.KindInvalid, fmt.Errorf("its port is %q, the line's %q", port, path))
		}
		path = port
		u.bound, u.broken = u.codec.Bind(u.in, where)
		for _, o := range l.units[:i] {
			if o.bound != nil && u.bound != nil && o.bound.Address() == u.bound.Address() {
				return "", lab.E(op, u.in.Name, lab.KindInvalid, fmt.Errorf("it has the address of %s", o.in.Name))
			}
		}
	}
	return path, nil
}

// shut closes the line, and says so where there is a reason.
func (l *link) shut(reason error) {
	if l.port == nil {
		return
	}
	if reason != nil {
		_ = l.port.discard() // a line that is gone can't be emptied, and needs not be
	}
	_ = l.port.close() // nothing is left to be done about it: the line counts as lost
	l.port, l.connected = nil, false
	l.live.Store(nil)
	for _, u := range l.units {
		u.ready, u.answers = false, false
	}
	if reason != nil && !l.ending() {
		l.lost("", lab.E("drivers/serial: line", "", lab.KindUnavailable, reason))
	}
}

func (l *link) lost(instrument string, err error) {
	if l.cfg.Sink != nil {
		l.cfg.Sink.Lost(instrument, err)
	}
}

// Close implements drivers.Link. A Connect or Stop that follows opens the line
// anew.
func (l *link) Close() error {
	l.life.Load().end(errClosed)
	if p := l.live.Load(); p != nil {
		_ = p.wake() // already closed where the call under way was faster
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut(nil)
	return nil
}

// ending reports whether Close has come.
func (l *link) ending() bool { return l.life.Load().ctx.Err() != nil }

// scope ties a call's context to the link's life.
func (l *link) scope(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.life.Load().ctx, func() { cancel(errClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

// revive is scope for a call that may follow Close; the caller holds mu.
func (l *link) revive(ctx context.Context) (context.Context, func()) {
	if l.ending() {
		l.life.Store(newLife())
	}
	return l.scope(ctx)
}

// enter begins a call for one instrument; the caller holds mu.
func (l *link) enter(op, instrument string) (*unit, error) {
	u := l.names[instrument]
	switch {
	case u == nil:
		return nil, lab.Ef(op, instrument, lab.KindInvalid, "it is not on this line")
	case l.port == nil || !l.connected:
		return nil, lab.Ef(op, instrument, lab.KindUnavailable, "the line is not connected")
	case u.bound == nil:
		return nil, lab.E(op, instrument, lab.KindInvalid, u.broken)
	}
	return u, nil
}
