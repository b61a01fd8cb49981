package opcua

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"labgate/drivers"
	"labgate/lab"
)

const (
	itemsInCall   = 1000            // monitored items made in one request
	itemQueue     = 10              // values of one node that wait at the server
	lifetimes     = 100             // keep-alives without a question after which the server drops the subscription
	pulseInterval = time.Second     // how often the server's clock is looked at
	pulseWithin   = 5 * time.Second // a server whose clock stands still for longer samples nothing
)

// subscription is what a server tells by itself over one session. It belongs to
// the goroutine that listens.
type subscription struct {
	s      *session
	clock  lab.Clock
	sink   drivers.Sink
	id     uint32
	quiet  time.Duration // the longest that a healthy server says nothing; less than within
	within time.Duration // to answer
	items  []*item       // by client handle - 1

	seq   uint32 // of the last message with data
	pulse bool   // the server's clock is among the items
	moved time.Time
	batch []lab.Sample
}

// item is a property whose changes are told.
type item struct {
	id  lab.PropertyID
	d   *device
	p   *property
	ask *ua.ReadValueID
}

// pulseHandle is the client handle of the server's clock; those of the
// properties follow.
const pulseHandle = 0

// subscribe asks the server to tell changes by itself, and begins to listen. A
// node that it won't watch is polled, as every node is. There is nothing to do
// where no profile asks for it.
func (l *Link) subscribe(ctx context.Context, s *session) error {
	sub := &subscription{s: s, clock: l.cfg.Clock, sink: l.cfg.Sink, within: l.within}
	fastest := time.Duration(0)
	for _, d := range l.devices {
		for key, p := range d.properties {
			if p.wire.Subscribe <= 0 {
				continue
			}
			sub.items = append(sub.items, &item{
				id: lab.PropertyID{Instrument: d.in.Name, Component: key.component, Property: key.name},
				d:  d, p: p, ask: &ua.ReadValueID{NodeID: s.node(d, p.wire.Node), AttributeID: ua.AttributeIDValue, DataEncoding: &ua.QualifiedName{}},
			})
			if fastest == 0 || p.wire.Subscribe < fastest {
				fastest = p.wire.Subscribe
			}
		}
	}
	if len(sub.items) == 0 {
		return nil
	}
	slices.SortFunc(sub.items, func(a, b *item) int { return cmp.Compare(a.id.String(), b.id.String()) })
	if err := sub.create(ctx, fastest); err != nil {
		return fmt.Errorf("subscribing: %w", err)
	}
	if err := sub.watch(ctx); err != nil {
		return fmt.Errorf("subscribing to %d nodes: %w", len(sub.items), err)
	}
	s.listeners.Go(sub.listen)
	return nil
}

// create makes a subscription whose keep-alives come at least twice in the time
// in which a server has to answer.
func (sub *subscription) create(ctx context.Context, interval time.Duration) error {
	req := &ua.CreateSubscriptionRequest{
		RequestedPublishingInterval: float64(interval) / float64(time.Millisecond),
		RequestedMaxKeepAliveCount:  uint32(max(1, sub.within/2/interval)),
		PublishingEnabled:           true,
	}
	req.RequestedLifetimeCount = lifetimes * req.RequestedMaxKeepAliveCount
	res, err := send[*ua.CreateSubscriptionResponse](ctx, sub.s, req)
	if err != nil {
		return err
	}
	sub.id = res.SubscriptionID
	sub.quiet = time.Duration(res.RevisedPublishingInterval * float64(res.RevisedMaxKeepAliveCount) * float64(time.Millisecond))
	if sub.quiet <= 0 || sub.quiet > sub.within*3/4 {
		return fmt.Errorf("the server would say nothing for %v: %w", sub.quiet, errQuiet)
	}
	return nil
}

// errQuiet is a subscription whose silence could not be told from a server that
// has frozen: a question to it has to be answered in time, as any other.
var errQuiet = errors.New("too long to tell it from one that is frozen")

// watch names the nodes to the server, its own clock first.
func (sub *subscription) watch(ctx context.Context) error {
	clock := &ua.ReadValueID{NodeID: ua.NewNumericNodeID(0, id.Server_ServerStatus_CurrentTime), AttributeID: ua.AttributeIDValue, DataEncoding: &ua.QualifiedName{}}
	wanted := []*ua.MonitoredItemCreateRequest{monitored(pulseHandle, clock, pulseInterval)}
	for i, it := range sub.items {
		wanted = append(wanted, monitored(uint32(i+1), it.ask, it.p.wire.Subscribe))
	}
	for first := 0; first < len(wanted); first += itemsInCall {
		part := wanted[first:min(first+itemsInCall, len(wanted))]
		call, cancel := context.WithTimeout(ctx, sub.within)
		res, err := send[*ua.CreateMonitoredItemsResponse](call, sub.s, &ua.CreateMonitoredItemsRequest{
			SubscriptionID: sub.id, TimestampsToReturn: ua.TimestampsToReturnBoth, ItemsToCreate: part})
		cancel()
		switch {
		case err != nil:
			return err
		case len(res.Results) != len(part):
			return fmt.Errorf("%d answers to %d questions", len(res.Results), len(part))
		}
		if first == 0 && res.Results[0] != nil && res.Results[0].StatusCode == ua.StatusOK {
			sub.pulse, sub.moved = true, sub.clock.Now()
		}
	}
	return nil
}

func monitored(handle uint32, node *ua.ReadValueID, every time.Duration) *ua.MonitoredItemCreateRequest {
	return &ua.MonitoredItemCreateRequest{ItemToMonitor: node, MonitoringMode: ua.MonitoringModeReporting,
		RequestedParameters: &ua.MonitoringParameters{ClientHandle: handle, SamplingInterval: float64(every) / float64(time.Millisecond), QueueSize: itemQueue, DiscardOldest: true}}
}

// listen asks for what the server has to tell until the session is over. One
// question is under way, so what comes, comes in order. Silence, an end of the
// subscription and a clock that stands still end the session: its owner makes
// another.
func (sub *subscription) listen() {
	var ack []*ua.SubscriptionAcknowledgement
	for sub.s.lost() == nil {
		ctx, cancel := context.WithTimeout(sub.s.ctx, sub.within)
		res, err := send[*ua.PublishResponse](ctx, sub.s, &ua.PublishRequest{SubscriptionAcknowledgements: ack})
		cancel()
		if err == nil {
			err = sub.told(res)
		}
		if err != nil {
			sub.s.lose(fmt.Errorf("its subscription ended: %w", err)) // no news where it ended before
			return
		}
		ack = []*ua.SubscriptionAcknowledgement{{SubscriptionID: res.SubscriptionID, SequenceNumber: sub.seq}}
	}
}

// told takes one message of the server.
func (sub *subscription) told(res *ua.PublishResponse) error {
	m := res.NotificationMessage
	if m == nil || res.SubscriptionID != sub.id {
		return errors.New("a message that belongs to no subscription")
	}
	now := sub.clock.Now()
	sub.batch = sub.batch[:0]
	missed := false
	if len(m.NotificationData) > 0 {
		next := sub.seq + 1
		if next == 0 {
			next = 1 // 0 is left out when the numbers begin again
		}
		missed = m.SequenceNumber != next && sub.seq != 0
		sub.seq = m.SequenceNumber
	}
	for _, x := range m.NotificationData {
		switch n := x.Value.(type) {
		case *ua.DataChangeNotification:
			sub.changes(now, n.MonitoredItems)
		case *ua.StatusChangeNotification:
			return n.Status
		}
	}
	if len(sub.batch) > 0 {
		sub.sink.Samples(sub.batch)
	}
	if sub.pulse && now.Sub(sub.moved) > pulseWithin+sub.quiet {
		return fmt.Errorf("the server answers, and its clock stood still for %v", now.Sub(sub.moved).Round(time.Second))
	}
	if missed {
		return sub.again()
	}
	return nil
}

func (sub *subscription) changes(now time.Time, list []*ua.MonitoredItemNotification) {
	for _, n := range list {
		switch {
		case n == nil:
		case n.ClientHandle == pulseHandle:
			sub.moved = now
		case int64(n.ClientHandle) <= int64(len(sub.items)):
			sub.batch = append(sub.batch, sub.items[n.ClientHandle-1].sample(n.Value, now))
		}
	}
}

func (it *item) sample(dv *ua.DataValue, now time.Time) lab.Sample {
	r, err := it.p.reading(dv, now, it.d.epoch.Load())
	x := lab.Sample{ID: it.id, Reading: r}
	if r.Quality == lab.Bad {
		x.Why = why(dv, err)
	}
	return x
}

// again reads everything anew after a message was lost on the way: the change
// that it told is in no other.
func (sub *subscription) again() error {
	for rest := sub.items; len(rest) > 0; {
		part := rest[:min(len(rest), sub.s.maxNodes)]
		rest = rest[len(part):]
		nodes := make([]*ua.ReadValueID, len(part))
		for i, it := range part {
			nodes[i] = it.ask
		}
		ctx, cancel := context.WithTimeout(sub.s.ctx, sub.within)
		res, err := sub.s.read(ctx, nodes)
		cancel()
		if err != nil {
			return err
		}
		now := sub.clock.Now()
		samples := make([]lab.Sample, len(part))
		for i, it := range part {
			samples[i] = it.sample(res[i], now)
		}
		sub.sink.Samples(samples)
	}
	return nil
}

// send is one request of any service and its answer.
func send[R ua.Response](ctx context.Context, s *session, req ua.Request) (R, error) {
	var res R
	err := guard(func() error {
		return s.client.Send(s.cred.request(ctx, s.client), req, func(r ua.Response) error {
			got, ok := r.(R)
			if !ok {
				return fmt.Errorf("a %T was answered", r)
			}
			res = got
			return nil
		})
	})
	return res, err
}
