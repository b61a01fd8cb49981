package mqtt

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"labgate/internal/failpoint"
)

const (
	queueLength  = 64              // messages that wait to be decoded, of each kind but blobs
	blobQueue    = 4               // blobs that wait
	keepAlive    = 5 * time.Second // silence after which the broker is asked for a sign
	pingWithin   = 2 * time.Second // for that sign
	writeWithin  = time.Second     // for a packet to go out
	farewell     = 100             // milliseconds for a polite goodbye
	backoffLimit = 30 * time.Second
)

// message is one that arrived, bounded in size and not yet looked into.
type message struct {
	payload  []byte
	retained bool
	received time.Time
	blob     int    // index of the blob topic
	id       string // blobs: the command's id
}

// session is one connection to the broker, from one Connect to its loss. It is
// used once, and so is its client id.
type session struct {
	link   *Link
	topics topics
	client paho.Client

	wireMu sync.Mutex
	wire   *wire
	cut    bool

	states chan message // the newest are kept
	acks   chan message
	blobs  chan message

	wg   sync.WaitGroup // the decoder and publishes
	once sync.Once
	gone chan struct{} // closed when it is lost or ended
	err  error         // why; set before gone is closed
	own  atomic.Bool   // it ends at our own wish: no loss to tell
}

// dial connects and subscribes. What arrives waits in the queues until the
// decoder is started. On an error nothing is left open.
func dial(ctx context.Context, l *Link, t topics, address map[string]string) (*session, error) {
	s := &session{link: l, topics: t, gone: make(chan struct{}), states: make(chan message, queueLength),
		acks: make(chan message, queueLength), blobs: make(chan message, blobQueue)}
	broker, err := url.Parse(address["url"])
	if err != nil || broker.Host == "" {
		return nil, errors.New("the broker's URL is not valid") // not shown: it may hold a password
	}
	secure, err := security(address, l.cfg.Clock.Now())
	if err != nil {
		return nil, err
	}
	o := s.options(ctx, broker, secure)
	o.SetUsername(address["user"]).SetPassword(address["password"])
	s.client = paho.NewClient(o)
	stop := context.AfterFunc(ctx, s.sever)
	defer stop()
	err = wait(ctx, s.client.Connect())
	if err == nil {
		err = s.subscribe(ctx)
	}
	if err == nil {
		err = s.lost()
	}
	if err != nil {
		s.end(false)
		return nil, fmt.Errorf("%s: %w", broker.Host, distrust(err))
	}
	return s, nil
}

// options never let the library reconnect or keep a session: a link has one
// owner, and nothing may be sent again behind its back.
func (s *session) options(ctx context.Context, broker *url.URL, secure *tls.Config) *paho.ClientOptions {
	id := make([]byte, 4)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	o := paho.NewClientOptions()
	o.Servers = []*url.URL{broker}
	o.SetClientID("labgate-" + s.link.plan.name + "-" + hex.EncodeToString(id)).
		SetCleanSession(true).SetProtocolVersion(4).
		SetAutoReconnect(false).SetConnectRetry(false).SetMaxReconnectInterval(backoffLimit).
		SetConnectTimeout(connectReplies * s.link.plan.within).SetWriteTimeout(writeWithin).
		SetKeepAlive(keepAlive).SetPingTimeout(pingWithin).
		SetOrderMatters(true)
	o.SetCustomOpenConnectionFn(func(u *url.URL, _ paho.ClientOptions) (net.Conn, error) {
		w, err := open(ctx, u, secure)
		if err != nil {
			return nil, err
		}
		s.wireMu.Lock()
		defer s.wireMu.Unlock()
		if s.cut {
			w.sever()
			return nil, net.ErrClosed
		}
		s.wire = w
		return w, nil
	})
	o.SetConnectionLostHandler(func(_ paho.Client, err error) { s.lose(err) })
	return o
}

// wait waits for the library to be done with something.
func wait(ctx context.Context, t paho.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// subscribe asks for all topics and takes no grant for granted.
func (s *session) subscribe(ctx context.Context) error {
	want := map[string]paho.MessageHandler{}
	if s.topics.state != "" {
		want[s.topics.state] = s.onState
	}
	if s.topics.ack != "" {
		want[s.topics.ack] = s.onAck
	}
	for i, b := range s.topics.blobs {
		want[b.filter()] = func(_ paho.Client, m paho.Message) { s.onBlob(i, b, m) }
	}
	for topic, handler := range want {
		t := s.client.Subscribe(topic, 1, handler)
		if err := wait(ctx, t); err != nil {
			return fmt.Errorf("subscribing to %s: %w", topic, err)
		}
		granted, ok := t.(*paho.SubscribeToken).Result()[topic]
		if !ok || granted > 2 { // 0x80 is a refusal
			return fmt.Errorf("the broker refused the subscription to %s", topic)
		}
	}
	return nil
}

// The handlers run in the library's receiving goroutine: they only check a
// size and put the message into a queue.

func (s *session) onState(_ paho.Client, m paho.Message) {
	n := &s.link.counts
	in := message{payload: m.Payload(), retained: m.Retained(), received: s.link.cfg.Clock.Now()}
	if len(in.payload) > maxState {
		n.oversized.Add(1)
		in.payload = nil // decodes as broken: its readings are bad
	}
	select {
	case s.states <- in:
		return
	default:
	}
	n.overrun.Add(1)
	select { // the oldest makes room: only the newest matters
	case <-s.states:
	default:
	}
	select {
	case s.states <- in:
	default:
	}
}

func (s *session) onAck(_ paho.Client, m paho.Message) {
	n := &s.link.counts
	switch {
	case m.Retained():
		n.retained.Add(1)
		return
	case len(m.Payload()) > maxAck:
		n.oversized.Add(1)
		return
	}
	select {
	case s.acks <- message{payload: m.Payload()}:
	default:
		n.overrun.Add(1)
	}
}

func (s *session) onBlob(blob int, topic blobTopic, m paho.Message) {
	n := &s.link.counts
	id, ok := topic.id(m.Topic())
	switch {
	case m.Retained():
		n.retained.Add(1)
		return
	case !ok || !s.link.expects(id):
		n.unasked.Add(1)
		return
	case len(m.Payload()) > maxBlob:
		n.oversized.Add(1)
		return
	}
	select {
	case s.blobs <- message{payload: m.Payload(), blob: blob, id: id}:
	default:
		n.overrun.Add(1)
	}
}

// decode is the session's goroutine: it looks into what arrived, until the
// session ends.
func (s *session) decode() {
	for {
		select {
		case <-s.gone:
			return
		case m := <-s.states:
			s.link.state(m)
		case m := <-s.acks:
			s.link.ack(m)
		case m := <-s.blobs:
			s.link.blob(m)
		}
	}
}

// publish sends a command in a goroutine of the session, because the library
// may block. The channel delivers once: nil when the broker has it.
func (s *session) publish(payload []byte) <-chan error {
	done := make(chan error, 1)
	s.wg.Go(func() {
		t := s.client.Publish(s.topics.command, 1, false, payload)
		select {
		case <-t.Done():
			failpoint.Here("wire/mqtt written")
			done <- t.Error()
		case <-s.gone:
			done <- s.err
		}
	})
	return done
}

// written is how many bytes have left towards the broker.
func (s *session) written() int64 {
	s.wireMu.Lock()
	defer s.wireMu.Unlock()
	if s.wire == nil {
		return 0
	}
	return s.wire.written.Load()
}

func (s *session) sever() {
	s.wireMu.Lock()
	defer s.wireMu.Unlock()
	s.cut = true
	if s.wire != nil {
		s.wire.sever()
	}
}

// lose ends the session after a failure and tells the sink, once.
func (s *session) lose(err error) {
	s.once.Do(func() {
		s.err = err
		close(s.gone)
		s.sever()
		if !s.own.Load() {
			s.link.tellLost("", err)
		}
	})
}

// lost is why the session can't be used, nil while it can.
func (s *session) lost() error {
	select {
	case <-s.gone:
		return s.err
	default:
		return nil
	}
}

// end gives everything back and joins the session's goroutines, within
// writeWithin. A polite end says goodbye first.
func (s *session) end(polite bool) {
	s.own.Store(true)
	if !polite {
		s.sever()
	}
	s.client.Disconnect(farewell)
	s.lose(errors.New("closed"))
	s.wg.Wait()
}
