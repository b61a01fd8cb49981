package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"labgate/lab"
)

// Conn is one part's or principal's connection. It implements lab.Bus. It
// reconnects by itself, for ever, until it is closed.
type Conn struct {
	nc        *nats.Conn
	lab       string
	down      func(error)
	ackWithin time.Duration // shorter in tests
	watching  sync.WaitGroup
}

// ConnOptions say who connects, and where to.
type ConnOptions struct {
	URL    string
	Server *Server // set: connect within the process, without a socket
	Seed   []byte  // of the NKey
	Name   string  // the principal, "runner", or "gateway_" and its name
	Lab    string
	// OnDown is told when the connection is lost, when the server refuses
	// something, and when messages were dropped because a handler was too slow.
	// It must not block.
	OnDown func(error)
}

// Limits of a connection.
const (
	dialWithin     = 3 * time.Second
	answerWithin   = 30 * time.Second // a Request whose context has no deadline
	pingEvery      = 5 * time.Second
	pendingBytes   = 64 << 20 // of one Handle that is behind
	pendingMsgs    = 65_536
	reconnectAfter = 200 * time.Millisecond
)

// Connect connects with an NKey and an inbox prefix of one's own.
func Connect(ctx context.Context, o ConnOptions) (*Conn, error) {
	const op = "bus: connect"
	if err := errors.Join(lab.CheckName("lab", o.Lab), lab.CheckName("principal or part", o.Name)); err != nil {
		return nil, lab.E(op, "", lab.KindInvalid, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, lab.E(op, "", lab.KindCancelled, err)
	}
	pub, err := PublicKey(o.Seed)
	if err != nil {
		return nil, err
	}
	kp, err := nkeys.FromSeed(o.Seed)
	if err != nil {
		return nil, lab.E(op, "", lab.KindInvalid, err)
	}
	down := o.OnDown
	if down == nil {
		down = func(error) {}
	}
	opts := []nats.Option{nats.Name(o.Name), nats.Nkey(pub, kp.Sign), nats.CustomInboxPrefix(Inbox(o.Name)),
		nats.MaxReconnects(-1), nats.ReconnectWait(reconnectAfter), nats.ReconnectJitter(reconnectAfter/4, reconnectAfter/4),
		nats.Timeout(dialWithin), nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				down(err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { down(err) })}
	if o.Server != nil {
		opts = append(opts, nats.InProcessServer(o.Server.ns))
	}
	nc, err := nats.Connect(o.URL, opts...)
	if err != nil {
		return nil, lab.E(op, "", lab.KindUnavailable, err)
	}
	return &Conn{nc: nc, lab: o.Lab, down: down, ackWithin: ackWithin}, nil
}

// Close hands over what was published and disconnects. No handler is called
// any more once it has returned, but one may still be running.
func (c *Conn) Close() {
	if c.nc.IsConnected() {
		_ = c.nc.FlushTimeout(time.Second) // a server that is gone takes nothing
	}
	c.nc.Close()
	c.watching.Wait()
}

// Publish sends one document. While the connection is lost it is kept, up to
// some MB, and sent when it is back.
func (c *Conn) Publish(ctx context.Context, subject string, data []byte) error {
	const op = "bus: publish"
	if err := ctx.Err(); err != nil {
		return lab.E(op, "", lab.KindCancelled, err)
	}
	if err := c.nc.Publish(subject, data); err != nil {
		return lab.E(op, "", sendKind(err), fmt.Errorf("%s: %w", subject, err))
	}
	return nil
}

// Request sends one document and waits for the first answer, at most 30 s
// where ctx has no deadline. It is not sent while the connection is lost: a
// request that arrives late is worse than none. lab.KindUnavailable means that
// nobody got it, lab.KindOutcomeUnknown that somebody may have.
func (c *Conn) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	const op = "bus: request"
	if err := ctx.Err(); err != nil {
		return nil, lab.E(op, "", lab.KindCancelled, err)
	}
	if !c.nc.IsConnected() {
		return nil, lab.Ef(op, "", lab.KindUnavailable, "there is no connection to the NATS server")
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerWithin)
		defer cancel()
	}
	m, err := c.nc.RequestWithContext(ctx, subject, data)
	switch {
	case err == nil:
		return m.Data, nil
	case errors.Is(err, nats.ErrNoResponders):
		return nil, lab.Ef(op, "", lab.KindUnavailable, "nobody listens on "+subject)
	case sendKind(err) == lab.KindInvalid:
		return nil, lab.E(op, "", lab.KindInvalid, fmt.Errorf("%s: %w", subject, err))
	}
	return nil, lab.E(op, "", lab.KindOutcomeUnknown, fmt.Errorf("%s: %w", subject, err))
}

func sendKind(err error) lab.Kind {
	if errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrBadSubject) {
		return lab.KindInvalid
	}
	return lab.KindUnavailable
}

// Handle calls fn for each document until ctx is done. fn runs on the
// library's goroutine of this subscription and must not block: what piles up
// beyond the limits is dropped, and OnDown is told.
//
// A sender chooses where its answer goes, and the answer is sent with the
// rights of whoever gives it. So an answer goes to inboxes only, and one to a
// principal's own message to that principal's inbox only; elsewhere Reply is
// nil. For the same reason the server's own receipts for proposals are no
// documents: a sender can have them delivered anywhere.
func (c *Conn) Handle(ctx context.Context, subject string, fn func(lab.Message)) error {
	op := "bus: subscribe " + subject
	sub, err := c.nc.Subscribe(subject, func(m *nats.Msg) {
		if ctx.Err() != nil || isReceipt(m.Data) {
			return
		}
		msg := lab.Message{Subject: m.Subject, Data: m.Data}
		if mayAnswer(c.lab, m.Subject, m.Reply) {
			msg.Reply = func(b []byte) error {
				if err := m.Respond(b); err != nil {
					return lab.E("bus: reply", "", sendKind(err), err)
				}
				return nil
			}
		}
		fn(msg)
	})
	if err != nil {
		return lab.E(op, "", sendKind(err), err)
	}
	err = sub.SetPendingLimits(pendingMsgs, pendingBytes)
	if err == nil { // subscribed once the server has it
		err = c.flush(ctx)
	}
	if err != nil {
		return lab.E(op, "", lab.KindUnavailable, errors.Join(err, sub.Unsubscribe()))
	}
	context.AfterFunc(ctx, func() { _ = sub.Unsubscribe() }) // the connection may be closed already
	return nil
}

func (c *Conn) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	return c.nc.FlushWithContext(ctx)
}

// mayAnswer reports whether an answer may go to a reply subject.
func mayAnswer(labName, subject, reply string) bool {
	owner, ok := inboxOwner(reply)
	if !ok {
		return false
	}
	_, sender, named := ParseSender(labName, subject)
	return !named || owner == sender
}

// isReceipt recognises what JetStream answers to a proposal, good or bad.
func isReceipt(data []byte) bool {
	const stream = `"stream":"` + Stream + `"`
	return bytes.HasPrefix(data, []byte("{"+stream)) || bytes.HasPrefix(data, []byte(`{"error":{`)) && bytes.Contains(data, []byte(stream))
}

// inboxOwner is the principal or part that owns an inbox.
func inboxOwner(reply string) (string, bool) {
	rest, ok := strings.CutPrefix(reply, inboxPrefix)
	owner, _, more := strings.Cut(rest, ".")
	return owner, ok && more && lab.ValidName(owner)
}
