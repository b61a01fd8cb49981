package opcua

import (
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"labgate/lab"
)

// teller is the subscription service of the test's server: it tells what the
// test puts into it, and between that keeps the subscription alive.
type teller struct {
	told  chan *ua.PublishResponse
	clock bool // tells the server's clock, as a healthy server does
	seq   uint32
	asked []*ua.MonitoredItemCreateRequest
	acks  []uint32
}

// answer is the server's; it holds the server's lock, so what it tells is there
// already or comes with the next question.
func (l *teller) answer(r ua.Request) ua.Response {
	switch q := r.(type) {
	case *ua.CreateSubscriptionRequest:
		return &ua.CreateSubscriptionResponse{SubscriptionID: 7, RevisedPublishingInterval: q.RequestedPublishingInterval, RevisedMaxKeepAliveCount: q.RequestedMaxKeepAliveCount, RevisedLifetimeCount: q.RequestedLifetimeCount}
	case *ua.CreateMonitoredItemsRequest:
		res := &ua.CreateMonitoredItemsResponse{}
		for _, it := range q.ItemsToCreate {
			l.asked = append(l.asked, it)
			res.Results = append(res.Results, &ua.MonitoredItemCreateResult{FilterResult: ua.NewExtensionObject(nil)})
		}
		return res
	case *ua.PublishRequest:
		for _, a := range q.SubscriptionAcknowledgements {
			l.acks = append(l.acks, a.SequenceNumber)
		}
		select {
		case m := <-l.told:
			return m
		case <-time.After(5 * time.Millisecond):
		}
		if l.clock {
			return l.changes(ua.MonitoredItemNotification{ClientHandle: pulseHandle, Value: good(time.Now())})
		}
		return l.message()
	}
	return nil
}

// message is what the server says with nothing new in it.
func (l *teller) message(data ...any) *ua.PublishResponse {
	m := &ua.NotificationMessage{SequenceNumber: l.seq + 1, PublishTime: time.Now()}
	for _, x := range data {
		m.NotificationData = append(m.NotificationData, ua.NewExtensionObject(x))
	}
	if len(data) > 0 {
		l.seq++
	}
	return &ua.PublishResponse{SubscriptionID: 7, NotificationMessage: m, AvailableSequenceNumbers: []uint32{}, Results: []ua.StatusCode{}}
}

func (l *teller) changes(list ...ua.MonitoredItemNotification) *ua.PublishResponse {
	n := &ua.DataChangeNotification{}
	for i := range list {
		n.MonitoredItems = append(n.MonitoredItems, &list[i])
	}
	return l.message(n)
}

// subscribed is a link whose temperature is told by a server of the test's.
func subscribed(t *testing.T, within time.Duration) (*bench, *teller) {
	t.Helper()
	b := unconnected(t, within)
	l := &teller{told: make(chan *ua.PublishResponse, 16), clock: true}
	b.server.other = l.answer
	b.set("s=T", good(300.0))
	for key, p := range b.link.(*Link).devices["dev"].properties {
		if key.name == "temperature" {
			m := *p.wire
			m.Subscribe = 50 * time.Millisecond
			p.wire = &m
		}
	}
	if err := b.link.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b, l
}

func (b *bench) tell(l *teller, f func() *ua.PublishResponse) {
	b.server.lock(func() { l.told <- f() })
}

// until waits for what the sink hears.
func (b *bench) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for late := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("not within 10 s: %s; heard %v, lost %v", what, b.sink.heard(), b.sink.why())
		}
	}
}

func TestSubscription(t *testing.T) {
	b, l := subscribed(t, time.Second)
	at := time.Now().Add(-100 * time.Millisecond).UTC().Truncate(time.Microsecond)
	b.tell(l, func() *ua.PublishResponse {
		dv := good(310.0)
		dv.SourceTimestamp = at
		bad := &ua.DataValue{EncodingMask: ua.DataValueStatusCode, Status: ua.StatusBadSensorFailure}
		return l.changes(ua.MonitoredItemNotification{ClientHandle: 1, Value: dv}, ua.MonitoredItemNotification{ClientHandle: 99, Value: dv}, ua.MonitoredItemNotification{ClientHandle: 1, Value: bad})
	})
	b.until(t, "two samples", func() bool { return len(b.sink.heard()) >= 2 })
	got := b.sink.heard()
	if x := got[0]; x.ID != propertyID("temperature") || !x.Reading.Source.Equal(at) || x.Reading.Quality != lab.Good || x.Reading.Epoch != 1 {
		t.Errorf("%+v", x)
	}
	if x := got[1]; x.Reading.Quality != lab.Bad || !strings.Contains(x.Why, "BadSensorFailure") {
		t.Errorf("%+v", x)
	}
	b.server.lock(func() {
		if n := l.asked[0].ItemToMonitor.NodeID; n.Namespace() != 0 || n.IntID() != id.Server_ServerStatus_CurrentTime {
			t.Errorf("the server's clock is not watched, but %v", n)
		}
		if len(l.asked) != 2 || l.asked[1].RequestedParameters.SamplingInterval != 50 {
			t.Errorf("%d nodes are watched", len(l.asked))
		}
	})
	b.until(t, "an acknowledgement", func() (ok bool) {
		b.server.lock(func() { ok = len(l.acks) > 0 })
		return ok
	})
}

// A message that was lost on the way told of a change that is in no other:
// everything is read anew.
func TestLostMessage(t *testing.T) {
	b, l := subscribed(t, time.Second)
	b.tell(l, func() *ua.PublishResponse {
		return l.changes(ua.MonitoredItemNotification{ClientHandle: 1, Value: good(301.0)})
	})
	b.until(t, "the first", func() bool { return len(b.sink.heard()) == 1 })
	b.set("s=T", good(333.0))
	b.tell(l, func() *ua.PublishResponse { l.seq++; return l.message(&ua.DataChangeNotification{}) })
	b.until(t, "what was missed", func() bool { return len(b.sink.heard()) == 2 })
	if err := b.sink.why(); err != nil {
		t.Error(err)
	}
}

// What ends a subscription in silence ends the link, with its reason.
func TestSubscriptionEnds(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*bench, *teller)
		says string
	}{
		"the server is silent": {func(b *bench, _ *teller) { b.server.mute.Store(true) }, "its subscription ended"},
		"the server is frozen": {func(b *bench, _ *teller) { b.server.frozen.Store(true) }, "its subscription ended"},
		"it was dropped": {func(b *bench, l *teller) {
			b.tell(l, func() *ua.PublishResponse {
				return l.message(&ua.StatusChangeNotification{Status: ua.StatusBadTimeout, DiagnosticInfo: &ua.DiagnosticInfo{}})
			})
		}, "StatusBadTimeout"},
		"another's message": {func(b *bench, l *teller) {
			b.tell(l, func() *ua.PublishResponse { m := l.message(); m.SubscriptionID = 9; return m })
		}, "belongs to no subscription"},
		"no such service any more": {func(b *bench, _ *teller) { b.server.lock(func() { b.server.other = nil }) }, "ended"},
	} {
		t.Run(name, func(t *testing.T) {
			b, l := subscribed(t, 300*time.Millisecond)
			c.do(b, l)
			b.until(t, "the loss", func() bool { return b.sink.why() != nil })
			if err := b.sink.why(); !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v; it should say %q", err, c.says)
			}
		})
	}
}

// A server that answers, and whose clock stands still, samples nothing.
func TestPulse(t *testing.T) {
	now := time.Now()
	sub := &subscription{pulse: true, moved: now, clock: wallClock{}, id: 7, quiet: time.Second}
	l := &teller{}
	if err := sub.told(l.message()); err != nil {
		t.Error(err)
	}
	sub.moved = now.Add(-pulseWithin - 2*time.Second)
	if err := sub.told(l.message()); err == nil || !strings.Contains(err.Error(), "its clock stood still for 7s") {
		t.Error(err)
	}
	if err := sub.told(l.changes(ua.MonitoredItemNotification{ClientHandle: pulseHandle, Value: good(now)})); err != nil {
		t.Error(err)
	}
}

// A server without subscriptions, or without room for one, is polled.
func TestNoSubscription(t *testing.T) {
	b, l := subscribed(t, time.Second)
	_ = b.link.Close()
	b.server.lock(func() {
		b.server.other = func(r ua.Request) ua.Response {
			if _, ok := r.(*ua.CreateSubscriptionRequest); ok {
				return nil
			}
			return l.answer(r)
		}
	})
	if err := b.link.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := b.read(t, "temperature")[0]; r.Quality != lab.Good {
		t.Errorf("%+v", r)
	}
	if err := b.sink.why(); err != nil {
		t.Error(err)
	}
}
