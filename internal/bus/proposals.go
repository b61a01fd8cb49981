package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"labgate/lab"
)

// Stream is the work queue of proposals.
const Stream = "PROPOSALS"

const (
	consumer     = "runner"  // the one consumer of the stream
	streamBytes  = 256 << 20 // on disk
	streamMsgs   = 100_000
	perSender    = 1000 // proposals of one principal that wait; more are refused, to it alone
	fetchMsgs    = 16   // in memory at a time
	ackWithin    = 5 * time.Second
	consumeAgain = 500 * time.Millisecond // after the consumer was lost
)

func streamConfig(labName string) jetstream.StreamConfig {
	return jetstream.StreamConfig{Name: Stream, Subjects: []string{Proposals(labName, "*")},
		Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, MaxBytes: streamBytes, MaxMsgs: streamMsgs, MaxMsgSize: MaxPayload,
		MaxMsgsPerSubject: perSender, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, DenyDelete: true, DenyPurge: true,
		// Message ids are the senders' own choice, and shared by all of them: one
		// could take another's. The journal knows duplicates; this is the least
		// that the server takes.
		Duplicates: 100 * time.Millisecond}
}

// keepStream makes the stream of proposals, or brings it up to date.
func (c *Conn) keepStream(ctx context.Context) error {
	js, err := jetstream.New(c.nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	_, err = js.CreateOrUpdateStream(ctx, streamConfig(c.lab))
	return err
}

// Delivery is one proposal as it came.
type Delivery struct {
	Principal string // by the server's word
	Data      []byte
	Seq       uint64       // in the stream
	Ack       func() error // once its verdict is durable
}

// ConsumeProposals calls fn for each proposal, in order, until ctx is done. One
// that is not acknowledged within 5 s comes again, also after a restart. fn
// must not block. A stream or a consumer that is missing, or that somebody
// deletes, is made anew; a goroutine watches over that, which Close joins.
func (c *Conn) ConsumeProposals(ctx context.Context, fn func(Delivery)) error {
	cc, err := c.consume(ctx, fn)
	if err != nil {
		return err
	}
	c.watching.Add(1)
	go func() {
		defer c.watching.Done()
		for {
			select {
			case <-ctx.Done():
				cc.Stop()
				return
			case <-cc.Closed():
			}
			for again := true; again; again = err != nil {
				select {
				case <-ctx.Done():
					return
				case <-time.After(consumeAgain):
				}
				if c.nc.IsClosed() {
					return
				}
				cc, err = c.consume(ctx, fn)
			}
		}
	}()
	return nil
}

// consume begins to call fn, until its context is stopped or the consumer is
// gone.
func (c *Conn) consume(ctx context.Context, fn func(Delivery)) (jetstream.ConsumeContext, error) {
	const op = "bus: proposals"
	js, err := jetstream.New(c.nc)
	if err != nil {
		return nil, lab.E(op, "", lab.KindUnavailable, err)
	}
	cons, err := c.proposalsConsumer(ctx, js)
	if err != nil {
		return nil, lab.E(op, "", lab.KindUnavailable, err)
	}
	cc, err := cons.Consume(func(m jetstream.Msg) {
		if ctx.Err() != nil {
			return // it comes again
		}
		_, principal, ok := ParseSender(c.lab, m.Subject())
		meta, err := m.Metadata()
		if !ok || err != nil { // the stream's subjects allow no other
			c.down(lab.Ef(op, "", lab.KindInternal, "a message on "+m.Subject()+" is no proposal"))
			return
		}
		if isReceipt(m.Data()) {
			// A sender may have its receipt sent to somebody else's subject; that
			// does not make it a proposal of theirs.
			c.down(lab.Ef(op, "", lab.KindInvalid, "a stream's receipt on "+m.Subject()+" is no proposal"))
			_ = m.Ack() // one that is not acknowledged comes again, and is dropped again
			return
		}
		fn(Delivery{Principal: principal, Data: m.Data(), Seq: meta.Sequence.Stream, Ack: m.Ack})
	}, jetstream.PullMaxMessages(fetchMsgs), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		if ctx.Err() == nil {
			c.down(lab.E(op, "", lab.KindUnavailable, err))
		}
	}))
	if err != nil {
		return nil, lab.E(op, "", lab.KindUnavailable, err)
	}
	return cc, nil
}

func (c *Conn) proposalsConsumer(ctx context.Context, js jetstream.JetStream) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	stream, err := js.Stream(ctx, Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = js.CreateStream(ctx, streamConfig(c.lab))
	}
	if err != nil {
		return nil, err
	}
	return stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{Durable: consumer, AckPolicy: jetstream.AckExplicitPolicy, AckWait: c.ackWithin, MaxAckPending: 256})
}
