package mqtt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"labgate/drivers"
	"labgate/lab"
)

// connectReplies is how many replies a Connect waits for, at most: TCP, the
// broker's greeting, and a subscription to each kind of topic.
const connectReplies = 5

// Link is the connection of one instrument to its broker.
type Link struct {
	cfg    drivers.Config
	plan   *plan
	epoch  atomic.Uint64
	orders atomic.Uint64 // counts stops, for their ids
	counts counts

	life drivers.Life // from Connect to Close

	op sync.Mutex // held for a whole call: one at a time; Close takes it last

	mu      sync.Mutex // guards what follows
	session *session   // nil before the first Connect; may be lost
	latest  map[member]lab.Reading
	doc     any           // the latest state, for Identify
	news    chan struct{} // closed at the next state
	boot    string        // the boot id that was last seen live
	pending *pending      // the command that waits for its acknowledgement
}

// counts is what was dropped, and why.
type counts struct {
	retained, oversized, overrun, unasked, malformed atomic.Uint64
}

// Dropped is how many messages a link did not use since it was opened.
type Dropped struct {
	Retained  uint64 // retained acknowledgements and blobs: never acted upon
	Oversized uint64 // beyond the size limits
	Overrun   uint64 // arrived faster than they could be decoded
	Unasked   uint64 // acknowledgements and blobs for no command that waits: late, repeated or another's
	Malformed uint64 // states and acknowledgements that can't be read
}

// Dropped tells what the link did not use. Safe for concurrent use.
func (l *Link) Dropped() Dropped {
	c := &l.counts
	return Dropped{c.retained.Load(), c.oversized.Load(), c.overrun.Load(), c.unasked.Load(), c.malformed.Load()}
}

var _ drivers.Opener = Open

// Open makes the Link of one instrument. It does no I/O.
func Open(cfg drivers.Config) (drivers.Link, error) {
	const op = "drivers/mqtt: open"
	if len(cfg.Instruments) != 1 || cfg.Clock == nil || cfg.Address == nil || cfg.Sink == nil {
		return nil, lab.Ef(op, "", lab.KindInvalid, "it needs exactly one instrument, a sink, a clock and addresses")
	}
	p, err := compile(cfg.Instruments[0])
	if err != nil {
		return nil, lab.E(op, cfg.Instruments[0].Name, lab.KindInvalid, err)
	}
	l := &Link{cfg: cfg, plan: p, news: make(chan struct{})}
	return l, nil
}

// Connect opens a new connection, whatever was before. What was read before
// is forgotten: it is of an older epoch.
func (l *Link) Connect(ctx context.Context) error {
	l.op.Lock()
	defer l.op.Unlock()
	l.life.Begin()
	return l.connect(ctx)
}

func (l *Link) connect(ctx context.Context) error {
	const op = "drivers/mqtt: connect"
	if old := l.take(nil); old != nil {
		old.end(false)
	}
	address, err := l.cfg.Address(l.plan.in)
	if err != nil {
		return lab.E(op, l.plan.name, lab.KindUnavailable, err)
	}
	t, err := l.plan.at(address["prefix"])
	if err != nil {
		return lab.E(op, l.plan.name, lab.KindInvalid, err)
	}
	l.mu.Lock()
	l.latest, l.doc = nil, nil
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, connectReplies*l.plan.within)
	defer cancel()
	defer context.AfterFunc(l.life.Context(), cancel)()
	s, err := dial(ctx, l, t, address)
	if err != nil {
		return lab.E(op, l.plan.name, lab.KindUnavailable, err)
	}
	l.epoch.Add(1)
	l.take(s)
	s.wg.Go(s.decode)        // not before: all that was received belongs to the new epoch
	if l.life.Err() != nil { // Close came meanwhile and may have missed it
		l.take(nil)
		s.end(false)
		return lab.Ef(op, l.plan.name, lab.KindUnavailable, "closed")
	}
	return nil
}

func (l *Link) tellLost(instrument string, err error) {
	l.cfg.Sink.Lost(instrument, lab.E("drivers/mqtt: link", l.plan.name, lab.KindUnavailable, err))
}

func (l *Link) take(s *session) *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.session
	l.session = s
	return old
}

// alive returns the session for one call.
func (l *Link) alive(op, instrument string) (*session, error) {
	if instrument != l.plan.name {
		return nil, lab.Ef(op, instrument, lab.KindInvalid, "it is not on this link")
	}
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if l.life.Err() != nil {
		return nil, lab.Ef(op, instrument, lab.KindUnavailable, "closed")
	}
	if s == nil {
		return nil, lab.Ef(op, instrument, lab.KindUnavailable, "not connected")
	}
	if err := s.lost(); err != nil {
		return nil, lab.E(op, instrument, lab.KindUnavailable, fmt.Errorf("not connected: %w", err))
	}
	return s, nil
}

// state takes a state message: readings go to the sink and are kept for Read.
// A changed boot id begins a new epoch, to which the message already belongs.
func (l *Link) state(m message) {
	readings, doc := l.plan.readings(m, 0)
	if doc == nil {
		l.counts.malformed.Add(1)
	}
	restarted := l.noteBoot(doc, m.retained)
	epoch := l.epoch.Load()
	if restarted {
		epoch = l.epoch.Add(1)
	}
	samples := make([]lab.Sample, 0, len(readings))
	for at, r := range readings {
		r.Epoch = epoch
		readings[at] = r
		samples = append(samples, lab.Sample{ID: l.propertyID(at), Reading: r})
	}
	l.mu.Lock()
	l.latest, l.doc = readings, doc
	close(l.news)
	l.news = make(chan struct{})
	l.mu.Unlock()
	if restarted {
		l.tellLost(l.plan.name, errors.New("the device has restarted: its boot id changed"))
	}
	l.cfg.Sink.Samples(samples)
}

// noteBoot reports whether a state shows that the device restarted. A retained
// state may be from before the last restart that we saw, so its boot id only
// counts while no other is known.
func (l *Link) noteBoot(doc any, retained bool) bool {
	id, ok := l.plan.bootID(doc)
	if !ok {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.boot == "" {
		l.boot = id
		return false
	}
	if retained || l.boot == id {
		return false
	}
	l.boot = id
	return true
}

func (l *Link) propertyID(at member) lab.PropertyID {
	return lab.PropertyID{Instrument: l.plan.name, Component: at.component, Property: at.name}
}

// Read returns the latest readings that the device sent, as old as they are:
// a device on MQTT can't be asked.
func (l *Link) Read(ctx context.Context, instrument string, properties []lab.PropertyID) ([]lab.Sample, error) {
	const op = "drivers/mqtt: read"
	l.op.Lock()
	defer l.op.Unlock()
	if _, err := l.alive(op, instrument); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, lab.E(op, instrument, lab.KindCancelled, err)
	}
	now := l.cfg.Clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	samples := make([]lab.Sample, len(properties))
	for i, id := range properties {
		r, ok := l.latest[member{id.Component, id.Property}]
		if !ok || id.Instrument != instrument {
			r = lab.Reading{Source: now, Received: now, Epoch: l.epoch.Load()}
		}
		samples[i] = lab.Sample{ID: id, Reading: r}
	}
	return samples, nil
}

// Identify takes the identity from the latest state, and waits for the first
// one for as long as a reply may take.
func (l *Link) Identify(ctx context.Context, instrument string) (drivers.Identity, error) {
	const op = "drivers/mqtt: identify"
	l.op.Lock()
	defer l.op.Unlock()
	s, err := l.alive(op, instrument)
	if err != nil || l.plan.identify == nil {
		return drivers.Identity{}, err
	}
	timer := time.NewTimer(l.plan.within)
	defer timer.Stop()
	for {
		l.mu.Lock()
		doc, news := l.doc, l.news
		l.mu.Unlock()
		if serial, ok := l.plan.identify.text(doc); ok {
			return drivers.Identity{Serial: drivers.Printable(serial, maxText)}, nil
		}
		select {
		case <-news:
		case <-timer.C:
			return drivers.Identity{}, lab.Ef(op, instrument, lab.KindDeviceRefused, "no state with an identity came in time")
		case <-s.gone:
			return drivers.Identity{}, lab.E(op, instrument, lab.KindUnavailable, s.err)
		case <-ctx.Done():
			return drivers.Identity{}, lab.E(op, instrument, lab.KindCancelled, ctx.Err())
		}
	}
}

// Epoch of the instrument; it grows at every Connect and when the device's
// boot id changes.
func (l *Link) Epoch(instrument string) uint64 {
	if instrument != l.plan.name {
		return 0
	}
	return l.epoch.Load()
}

// Close ends the link for good. A call under way fails at once.
func (l *Link) Close() error {
	l.life.End()
	idle := l.op.TryLock()
	if !idle {
		l.mu.Lock()
		s := l.session
		l.mu.Unlock()
		if s != nil {
			s.own.Store(true)
			s.lose(errors.New("closed"))
		}
		l.op.Lock()
	}
	defer l.op.Unlock()
	if s := l.take(nil); s != nil {
		s.end(idle && s.lost() == nil)
	}
	return nil
}
