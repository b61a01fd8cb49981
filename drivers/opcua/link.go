package opcua

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gopcua/opcua/ua"

	"labgate/drivers"
	"labgate/lab"
)

// connectReplies is how many replies a Connect waits for, at most: hello,
// channel, session, activation, namespaces, limits, units, facts, subscription,
// nodes to watch. A thousand nodes more make it three more.
const connectReplies = 10

// Link is the live connection to all instruments of one endpoint.
type Link struct {
	cfg     drivers.Config
	devices map[string]*device
	within  time.Duration // the longest of the devices' reply times
	secure  security      // the same for all devices

	life drivers.Life // from Connect to Close

	op               sync.Mutex // held for a whole call: one at a time; Close takes it last
	most             int        // nodes in one request, learned from refusals; guarded by op
	factless, polled time.Time  // until when the server is not asked for facts, or for a subscription; guarded by op

	mu      sync.Mutex // guards session
	session *session   // nil before the first Connect; may be lost
}

// Open makes the Link of one endpoint. It does no I/O; an error says which
// instrument can't be driven and why.
func Open(cfg drivers.Config) (drivers.Link, error) {
	const op = "drivers/opcua: open"
	if len(cfg.Instruments) == 0 || cfg.Clock == nil || cfg.Address == nil || cfg.Sink == nil {
		return nil, lab.Ef(op, "", lab.KindInvalid, "it needs instruments, a sink, a clock and addresses")
	}
	l := &Link{cfg: cfg, devices: map[string]*device{}, most: maxNodes}
	for _, in := range cfg.Instruments {
		d, err := compile(in)
		if err != nil {
			return nil, lab.E(op, in.Name, lab.KindInvalid, err)
		}
		if l.devices[in.Name] != nil {
			return nil, lab.Ef(op, in.Name, lab.KindInvalid, "it is there twice")
		}
		if len(l.devices) > 0 && d.secure != l.secure {
			return nil, lab.Ef(op, in.Name, lab.KindInvalid, "its link has another security or user than that of "+cfg.Instruments[0].Name+", at the same endpoint")
		}
		l.secure = d.secure
		l.devices[in.Name] = d
		l.within = max(l.within, d.within)
	}
	return l, nil
}

// Connect opens a new connection and session, whatever was before.
func (l *Link) Connect(ctx context.Context) error {
	l.op.Lock()
	defer l.op.Unlock()
	l.life.Begin()
	return l.connect(ctx)
}

func (l *Link) connect(ctx context.Context) error {
	const op = "drivers/opcua: connect"
	if old := l.take(nil); old != nil {
		old.end(false)
	}
	address, err := l.address()
	if err != nil {
		return lab.E(op, "", lab.KindUnavailable, err)
	}
	endpoint, replies := address["endpoint"], connectReplies+3*l.nodes()/maxNodes
	if l.secure.policy != "" {
		replies += secureReplies
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(replies)*l.within)
	defer cancel()
	defer context.AfterFunc(l.life.Context(), cancel)()
	cred, err := l.secure.discover(ctx, address, l.within, l.cfg.Clock.Now())
	var s *session
	if err == nil {
		s, err = l.open(ctx, endpoint, cred)
	}
	if err != nil {
		return lab.E(op, "", lab.KindUnavailable, fmt.Errorf("%s: %w", endpoint, err))
	}
	l.take(s)
	if l.life.Err() != nil { // Close came meanwhile and may have missed it
		l.take(nil)
		s.end(false)
		return lab.Ef(op, "", lab.KindUnavailable, "closed")
	}
	return nil
}

// open dials, asks what the server says of the nodes, and subscribes. A server
// that does not offer these services ends the session over the question: it is
// dialled again, and they are left out for a while. Polls are enough.
func (l *Link) open(ctx context.Context, endpoint string, cred *credentials) (*session, error) {
	for {
		s, err := dial(ctx, endpoint, l.within, cred, l.devices, l.tellLost)
		if err != nil {
			return nil, err
		}
		now := l.cfg.Clock.Now()
		leave := &l.factless
		if !now.Before(*leave) {
			err = s.facts(ctx, l.devices)
		}
		if err == nil {
			for _, d := range l.devices {
				d.epoch.Add(1)
			}
			if leave = &l.polled; !now.Before(*leave) {
				err = l.subscribe(ctx, s)
			}
		}
		if err == nil {
			err = s.arm()
		}
		if err == nil {
			return s, nil
		}
		s.end(false)
		var fault ua.StatusCode
		if now.Before(*leave) || !errors.Is(err, errQuiet) && (!errors.As(err, &fault) || !notOffered[fault]) {
			return nil, err
		}
		*leave = now.Add(askAgainAfter)
	}
}

// askAgainAfter is how long a service that a server does not offer is left
// alone: it may have been full.
const askAgainAfter = 10 * time.Minute

// notOffered are the faults of a server that has no such service, or no room
// for one more subscription.
var notOffered = map[ua.StatusCode]bool{
	ua.StatusBadServiceUnsupported:       true,
	ua.StatusBadNotImplemented:           true,
	ua.StatusBadNotSupported:             true,
	ua.StatusBadTooManySubscriptions:     true,
	ua.StatusBadTooManyMonitoredItems:    true,
	ua.StatusBadUserAccessDenied:         true,
	ua.StatusBadRequestTypeInvalid:       true,
	ua.StatusBadTooManyOperations:        true,
	ua.StatusBadEncodingLimitsExceeded:   true,
	ua.StatusBadSecurityModeInsufficient: true,
}

// nodes counts what is asked for at a Connect.
func (l *Link) nodes() int {
	n := 0
	for _, d := range l.devices {
		n += len(d.properties) + len(d.commands)
	}
	return n
}

func (l *Link) address() (map[string]string, error) {
	address, err := l.cfg.Address(l.cfg.Instruments[0])
	if err == nil && address["endpoint"] == "" {
		err = errors.New("the link has no endpoint")
	}
	return address, err
}

func (l *Link) tellLost(err error) {
	l.cfg.Sink.Lost("", lab.E("drivers/opcua: link", "", lab.KindUnavailable, err))
}

// take puts another session in place and returns the one before.
func (l *Link) take(s *session) *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.session
	l.session = s
	return old
}

// alive returns the session for one call to an instrument.
func (l *Link) alive(op, instrument string) (*session, *device, error) {
	d := l.devices[instrument]
	if d == nil {
		return nil, nil, lab.Ef(op, instrument, lab.KindInvalid, "it is not on this link")
	}
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if l.life.Err() != nil {
		return nil, d, lab.Ef(op, instrument, lab.KindUnavailable, "closed")
	}
	if s == nil {
		return nil, d, lab.Ef(op, instrument, lab.KindUnavailable, "not connected")
	}
	if err := s.lost(); err != nil {
		return nil, d, lab.E(op, instrument, lab.KindUnavailable, fmt.Errorf("not connected: %w", err))
	}
	return s, d, nil
}

// Identify reads the profile's identity node.
func (l *Link) Identify(ctx context.Context, instrument string) (drivers.Identity, error) {
	const op = "drivers/opcua: identify"
	l.op.Lock()
	defer l.op.Unlock()
	s, d, err := l.alive(op, instrument)
	if err != nil || d.identify == "" {
		return drivers.Identity{}, err
	}
	call, cancel := context.WithTimeout(ctx, d.within)
	defer cancel()
	res, err := s.read(call, []*ua.ReadValueID{{NodeID: s.node(d, d.identify)}})
	if err != nil {
		return drivers.Identity{}, failed(ctx, s, op, instrument, err)
	}
	serial, err := wireName(scalar(res[0]))
	if err != nil {
		return drivers.Identity{}, lab.E(op, instrument, lab.KindDeviceRefused, fmt.Errorf("node %s: %w", d.identify, err))
	}
	return drivers.Identity{Serial: drivers.Printable(serial, maxText)}, nil
}

// Epoch of an instrument; it grows at every Connect.
func (l *Link) Epoch(instrument string) uint64 {
	if d := l.devices[instrument]; d != nil {
		return d.epoch.Load()
	}
	return 0
}

// Close ends the link for good. A call under way fails at once; an idle
// session is closed politely, within 0.3 s.
func (l *Link) Close() error {
	l.life.End()
	idle := l.op.TryLock()
	if !idle {
		l.mu.Lock()
		if l.session != nil {
			l.session.sock.sever()
		}
		l.mu.Unlock()
		l.op.Lock()
	}
	defer l.op.Unlock()
	if s := l.take(nil); s != nil {
		s.end(idle && s.lost() == nil)
	}
	return nil
}
