package opcua

import (
	"context"
	"math"
	"reflect"
	"time"

	"github.com/gopcua/opcua/ua"

	"labgate/sim"
)

const (
	mostSubscriptions = 8    // of one session
	mostItems         = 1000 // of one subscription
	mostPublish       = 20   // requests of one session that wait
	mostQueue         = 100  // values of one item that wait
	fastest           = 20 * time.Millisecond
	slowest           = time.Hour
	overflow          = ua.StatusCode(0x480) // info bits: values were lost before this one
)

// subscription collects changes and sends them when the client has left a
// publish request.
type subscription struct {
	id                  uint32
	interval            time.Duration
	lifetime, keepAlive uint32 // in intervals
	most                int    // notifications a message
	enabled             bool
	items               []*item

	next    time.Time // end of the interval
	silent  uint32    // intervals since something was sent
	starved uint32    // intervals with something to send and no request
	owing   bool      // as soon as there is a request
	told    bool      // something was sent at least once
	seq     uint32
}

// item is one attribute that is watched.
type item struct {
	id, handle uint32
	what       *ua.ReadValueID
	stamps     ua.TimestampsToReturn
	mode       ua.MonitoringMode
	interval   time.Duration
	trigger    ua.DataChangeTrigger
	deadband   float64
	size       int
	keepNewest bool

	next  time.Time
	last  *ua.DataValue
	queue []*ua.DataValue
}

// publishRequest waits for something to be sent.
type publishRequest struct {
	reqID, handle uint32
	expires       time.Time // zero: never
	acks          []ua.StatusCode
}

// wake is when the connection has to look again, or why it ends.
type wake struct {
	at  time.Time
	err error
}

// tick does all that time makes due: sampling, publishing, ending what has
// been silent for too long.
func (c *conn) tick(ctx context.Context) wake {
	now := c.srv.host.Now()
	next := now.Add(lookAround)
	for key, s := range c.sessions {
		if now.Sub(s.used) > s.timeout {
			delete(c.sessions, key)
			continue
		}
		for _, sub := range append([]*subscription(nil), s.subs...) {
			c.sample(sub, now)
			sub.turn(now)
			if sub.starved > sub.lifetime {
				s.drop(sub.id)
			}
			for _, it := range sub.items {
				next = earlier(next, it.next)
			}
			next = earlier(next, sub.next)
		}
		if err := c.flush(ctx, s, now); err != nil {
			return wake{err: err}
		}
	}
	return wake{at: next}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// sample reads the items that are due, at one instant.
func (c *conn) sample(sub *subscription, now time.Time) {
	due := false
	for _, it := range sub.items {
		due = due || !it.next.After(now)
	}
	if !due {
		return
	}
	c.srv.host.With(func(w *sim.World) {
		for _, it := range sub.items {
			if it.next.After(now) {
				continue
			}
			it.next = now.Add(it.interval)
			if it.mode != ua.MonitoringModeDisabled {
				it.take(c.readOne(w, it.what, it.stamps))
			}
		}
	})
}

// take enqueues a value that has changed.
func (it *item) take(v *ua.DataValue) {
	if it.last != nil && !it.changed(it.last, v) {
		return
	}
	it.last = v
	if len(it.queue) >= it.size {
		if it.keepNewest {
			it.queue = it.queue[1:]
		} else {
			it.queue = it.queue[:len(it.queue)-1]
		}
		if it.size > 1 {
			lost := *v
			lost.EncodingMask |= ua.DataValueStatusCode
			lost.Status |= overflow
			v = &lost
		}
	}
	it.queue = append(it.queue, v)
}

func (it *item) changed(a, b *ua.DataValue) bool {
	if a.Status != b.Status {
		return true
	}
	if it.trigger == ua.DataChangeTriggerStatus || a.Value == nil || b.Value == nil {
		return false
	}
	if it.trigger == ua.DataChangeTriggerStatusValueTimestamp && !a.SourceTimestamp.Equal(b.SourceTimestamp) {
		return true
	}
	x, number := a.Value.Value().(float64)
	y, also := b.Value.Value().(float64)
	if !number || !also {
		return !reflect.DeepEqual(a.Value.Value(), b.Value.Value())
	}
	if math.IsNaN(x) || math.IsNaN(y) {
		return math.IsNaN(x) != math.IsNaN(y)
	}
	return x != y && math.Abs(x-y) > it.deadband
}

// turn ends the intervals that are over.
func (sub *subscription) turn(now time.Time) {
	for !sub.next.After(now) {
		sub.next = sub.next.Add(sub.interval)
		if sub.next.Before(now) { // after a pause: one interval, not many
			sub.next = now.Add(sub.interval)
		}
		sub.silent++
		if sub.waiting() > 0 || sub.silent >= sub.keepAlive || !sub.told {
			sub.owing = true
		}
		if sub.owing {
			sub.starved++
		}
	}
}

// waiting counts the notifications to send.
func (sub *subscription) waiting() int {
	n := 0
	if !sub.enabled {
		return 0
	}
	for _, it := range sub.items {
		if it.mode == ua.MonitoringModeReporting {
			n += len(it.queue)
		}
	}
	return n
}

// flush answers publish requests with what the subscriptions owe, and those
// that nobody waits for any more with a fault.
func (c *conn) flush(ctx context.Context, s *session, now time.Time) error {
	for len(s.publish) > 0 && !s.publish[0].expires.IsZero() && s.publish[0].expires.Before(now) {
		p := s.publish[0]
		s.publish = s.publish[1:]
		if err := c.send(ctx, p.reqID, &ua.ServiceFault{ResponseHeader: header(now, p.handle, ua.StatusBadTimeout)}); err != nil {
			return err
		}
	}
	for _, sub := range s.subs {
		for sub.owing && len(s.publish) > 0 {
			p := s.publish[0]
			s.publish = s.publish[1:]
			resp := sub.message(now)
			resp.ResponseHeader, resp.Results = header(now, p.handle, ua.StatusOK), p.acks
			if err := c.send(ctx, p.reqID, resp); err != nil {
				return err
			}
		}
	}
	return nil
}

// message takes what is waiting, or says that nothing is.
func (sub *subscription) message(now time.Time) *ua.PublishResponse {
	var out []*ua.MonitoredItemNotification
	if sub.enabled {
		for _, it := range sub.items {
			for it.mode == ua.MonitoringModeReporting && len(it.queue) > 0 && len(out) < sub.most {
				out = append(out, &ua.MonitoredItemNotification{ClientHandle: it.handle, Value: it.queue[0]})
				it.queue = it.queue[1:]
			}
		}
	}
	sub.owing = sub.waiting() > 0
	sub.silent, sub.starved, sub.told = 0, 0, true
	m := &ua.NotificationMessage{SequenceNumber: sub.seq + 1, PublishTime: now.UTC()}
	if len(out) > 0 {
		sub.seq++
		m.NotificationData = []*ua.ExtensionObject{ua.NewExtensionObject(&ua.DataChangeNotification{MonitoredItems: out})}
	}
	return &ua.PublishResponse{SubscriptionID: sub.id, MoreNotifications: sub.owing, NotificationMessage: m}
}

func (s *session) find(sub uint32) *subscription {
	for _, x := range s.subs {
		if x.id == sub {
			return x
		}
	}
	return nil
}

func (s *session) drop(sub uint32) bool {
	for i, x := range s.subs {
		if x.id == sub {
			s.subs = append(s.subs[:i:i], s.subs[i+1:]...)
			return true
		}
	}
	return false
}
