package mqtt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"labgate/sim"
	"labgate/sim/faces/wire"
)

const (
	statePeriod  = 200 * time.Millisecond
	firstBackoff = 50 * time.Millisecond
	mostBackoff  = time.Second
	patience     = 2 * time.Second // for one publish, one subscription, one connection
	mostQueued   = 64              // commands heard and not yet looked at
	mostPending  = 64              // answers under way
	mostOut      = 1024            // messages held back by a fault; more are lost
	mostIDs      = 4096            // commands whose answers are remembered
)

// Broker says where the broker is, now.
type Broker func() (url, user, password string, err error)

// Devices are the instruments on MQTT.
type Devices struct{ all []*Device }

// Prefix is where the demo laboratory's topics are.
const Prefix = "demo/"

// Start lets the instruments connect, with their topics below a prefix. It does
// not wait until they have.
func Start(ctx context.Context, h *wire.Host, broker Broker, prefix string) *Devices {
	ds := &Devices{}
	for _, in := range instruments() {
		d := &Device{in: in, prefix: prefix + in.name + "/", host: h, broker: broker, told: map[string]*told{}, heard: make(chan []byte, mostQueued)}
		ds.all = append(ds.all, d)
		d.done.Add(1)
		go func() {
			defer d.done.Done()
			d.live(ctx)
		}()
	}
	return ds
}

// Wait joins the devices' goroutines after their context is done.
func (ds *Devices) Wait() {
	for _, d := range ds.all {
		d.done.Wait()
	}
}

// Device is one instrument. All fields but heard belong to its goroutine.
type Device struct {
	in     instrument
	prefix string
	host   *wire.Host
	broker Broker
	done   sync.WaitGroup
	heard  chan []byte // enqueued by the client library's handler

	boot    int
	told    map[string]*told // by command id
	pending []*told
	queued  []message // delayed by a fault, in order
}

// told is a command that was looked at, and its answer.
type told struct {
	outcome
	due      time.Time
	expires  time.Time
	answered bool
}

// message is something to publish.
type message struct {
	due    time.Time
	topic  string
	data   []byte
	qos    byte
	retain bool
}

// live connects, works until the connection is lost, and begins anew.
func (d *Device) live(ctx context.Context) {
	backoff := firstBackoff
	for ctx.Err() == nil {
		began := d.host.Now()
		d.session(ctx) // its error needs no handling: whatever it was, the cure is the next one
		if d.host.Now().Sub(began) > 2*mostBackoff {
			backoff = firstBackoff
		}
		if !d.host.Sleep(ctx, backoff) {
			return
		}
		backoff = min(mostBackoff, 2*backoff)
	}
}

// session is one connection's life. It returns why it ended, after the
// client's goroutines have nothing left to wait for.
func (d *Device) session(ctx context.Context) error {
	address, user, password, err := d.broker()
	if err != nil {
		return fmt.Errorf("where is the broker: %w", err)
	}
	// The connection outlives ctx by the moment that a decent goodbye takes.
	open, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel() // closes it, whatever the client does
	lost := make(chan struct{})
	var once sync.Once
	o := paho.NewClientOptions().AddBroker(address).SetUsername(user).SetPassword(password).
		SetClientID("labgate-sim-" + strings.ReplaceAll(d.prefix, "/", "-")).SetCleanSession(true).
		SetAutoReconnect(false).SetConnectRetry(false).SetOrderMatters(true).
		SetConnectTimeout(patience).SetWriteTimeout(patience).SetPingTimeout(patience).SetKeepAlive(10 * time.Second).
		SetCustomOpenConnectionFn(dial(open)).
		SetConnectionLostHandler(func(paho.Client, error) { once.Do(func() { close(lost) }) })
	c := paho.NewClient(o)
	connect := c.Connect()
	if err := wait(ctx, connect); err != nil {
		cancel()
		<-connect.Done()
		return err
	}
	defer c.Disconnect(100)
	d.forget()
	heard := func(_ paho.Client, m paho.Message) {
		if m.Retained() {
			return // nobody asks this now
		}
		select {
		case d.heard <- m.Payload():
		default: // deaf while its queue is full
		}
	}
	if err := wait(ctx, c.Subscribe(d.prefix+"command", 1, heard)); err != nil {
		return err
	}
	return d.work(ctx, c, lost)
}

// dial opens plain TCP connections that end with ctx.
func dial(ctx context.Context) paho.OpenConnectionFunc {
	return func(uri *url.URL, _ paho.ClientOptions) (net.Conn, error) {
		if uri.Scheme != "tcp" && uri.Scheme != "mqtt" {
			return nil, fmt.Errorf("%s: only tcp and mqtt addresses", uri.Redacted())
		}
		conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", uri.Host)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { conn.Close() })
		return conn, nil
	}
}

// forget drops what was heard and not said on a connection that is gone:
// whoever asked has got no acknowledgement and asks again with the same id.
func (d *Device) forget() {
	d.queued = nil
	for {
		select {
		case <-d.heard:
		default:
			return
		}
	}
}

func (d *Device) work(ctx context.Context, c paho.Client, lost <-chan struct{}) error {
	next := d.host.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-lost:
			return errors.New("connection lost")
		case b := <-d.heard:
			d.hear(b)
			next = d.host.Now() // whoever asked may want to see it work
		case <-d.host.At(d.wake(next)):
		}
		now := d.host.Now()
		if d.finish(now) || !now.Before(next) {
			d.state()
			next = now.Add(statePeriod)
		}
		if err := d.publish(ctx, c); err != nil {
			return err
		}
	}
}

// wake is when something is due, at the latest when the next state is.
func (d *Device) wake(next time.Time) time.Time {
	for _, t := range d.pending {
		if t.due.Before(next) {
			next = t.due
		}
	}
	if len(d.queued) > 0 && d.queued[0].due.Before(next) {
		next = d.queued[0].due
	}
	return next
}

// hear acts on one command.
func (d *Device) hear(b []byte) {
	c, err := readCommand(b)
	if c.ID == "" {
		return // an answer could not be addressed
	}
	if d.restarted() || d.host.HalfOpen(d.in.name) {
		return
	}
	now := d.host.Now()
	if t := d.told[c.ID]; t != nil {
		if t.answered {
			d.say(t)
		}
		return // once; or its answer is still to come
	}
	t := &told{expires: c.Expires}
	switch {
	case err != nil:
		d.sayAck(refuse(c, 0, err).ack)
		return
	case !c.Expires.After(now):
		t.outcome = refuse(c, 0, errors.New("expired"))
	case c.Expires.After(now.Add(farthest)):
		t.outcome = refuse(c, 0, errors.New("valid for too long"))
	case !d.room(now) || len(d.pending) >= mostPending:
		d.sayAck(refuse(c, 0, errors.New("busy")).ack)
		return
	default:
		d.host.With(func(w *sim.World) { t.outcome = d.in.do(w, c) })
	}
	d.told[c.ID] = t
	t.due = now.Add(t.after)
	d.pending = append(d.pending, t)
}

// room makes room for one more id: those that have expired could not be acted
// on again anyway.
func (d *Device) room(now time.Time) bool {
	if len(d.told) < mostIDs {
		return true
	}
	for id, t := range d.told {
		if t.answered && t.expires.Before(now) {
			delete(d.told, id)
		}
	}
	return len(d.told) < mostIDs
}

// restarted notices a power cycle: what was under way and what was remembered
// is gone. It reports whether the device does nothing at all now.
func (d *Device) restarted() (frozen bool) {
	frozen, boot := d.host.Frozen(d.in.name)
	if boot != d.boot {
		d.boot = boot
		d.told, d.pending, d.queued = map[string]*told{}, nil, nil
	}
	return frozen
}

// finish answers what is due; true if there was something.
func (d *Device) finish(now time.Time) bool {
	if d.restarted() {
		return false
	}
	kept := d.pending[:0]
	for _, t := range d.pending {
		if t.due.After(now) {
			kept = append(kept, t)
			continue
		}
		t.answered = true
		d.say(t)
	}
	done := len(kept) < len(d.pending)
	d.pending = kept
	return done
}

func (d *Device) say(t *told) {
	if t.frame != nil {
		d.send(message{topic: "frame/" + t.ack.ID, data: t.frame, qos: 1}, false)
	}
	d.sayAck(t.ack)
}

func (d *Device) sayAck(a ack) {
	b, err := json.Marshal(a)
	if err != nil { // a result that has no JSON form
		b = fmt.Appendf(nil, `{"id":%q,"ok":false,"error":"internal"}`, a.ID)
	}
	d.send(message{topic: "ack", data: b, qos: 1}, true)
}

// state enqueues the instrument's state with the world's time.
func (d *Device) state() {
	if d.restarted() {
		return
	}
	var doc map[string]any
	d.host.With(func(w *sim.World) {
		doc = d.in.state(w)
		doc["time"] = w.Now().UTC().Format(time.RFC3339Nano)
		doc["boot"] = w.Boot(d.in.name)
	})
	doc["serial"] = d.in.serial
	b, err := json.Marshal(doc)
	if err != nil {
		return // all its values have a JSON form
	}
	d.send(message{topic: "state", data: b, retain: true}, false)
}

// send enqueues a message, with what is wrong with the wire.
func (d *Device) send(m message, isAck bool) {
	t := d.host.TroubleOf(d.in.name)
	if t.Frozen || t.Drop || t.HalfOpen || len(d.queued) >= mostOut {
		return
	}
	if t.Garble {
		m.data = wire.Garble(m.data)
	}
	if t.Wrong && isAck {
		var a ack
		if json.Unmarshal(m.data, &a) == nil {
			a.ID = mistaken(a.ID)
			m.data, _ = json.Marshal(a)
		}
	}
	m.topic = d.prefix + m.topic
	m.due = d.host.Now().Add(t.Delay + t.Late)
	at := len(d.queued)
	for at > 0 && t.Delay == 0 && d.queued[at-1].due.After(m.due) {
		at-- // what is not delayed overtakes what is late
	}
	if at > 0 && d.queued[at-1].due.After(m.due) {
		m.due = d.queued[at-1].due
	}
	d.queued = append(d.queued, message{})
	copy(d.queued[at+1:], d.queued[at:])
	d.queued[at] = m
}

// mistaken is the id of a command that somebody else sent.
func mistaken(id string) string {
	b := []byte(id)
	if last := &b[len(b)-1]; *last == '0' {
		*last = '1'
	} else {
		*last = '0'
	}
	return string(b)
}

// publish sends what is due.
func (d *Device) publish(ctx context.Context, c paho.Client) error {
	now := d.host.Now()
	for len(d.queued) > 0 && !d.queued[0].due.After(now) {
		m := d.queued[0]
		d.queued = d.queued[1:]
		if err := wait(ctx, c.Publish(m.topic, m.qos, m.retain, m.data)); err != nil {
			return err
		}
	}
	return nil
}

// wait for a token, not longer than patience.
func wait(ctx context.Context, t paho.Token) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-timer.C:
		return errors.New("the broker does not answer")
	case <-ctx.Done():
		return ctx.Err()
	}
}
