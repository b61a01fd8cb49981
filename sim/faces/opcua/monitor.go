package opcua

import (
	"time"

	"github.com/gopcua/opcua/ua"

	"labgate/sim"
)

// subscriptionService answers what makes, changes and feeds subscriptions; a
// fault for every service that is not offered.
func (c *conn) subscriptionService(now time.Time, reqID uint32, s *session, req ua.Request) (ua.Response, ua.StatusCode) {
	switch r := req.(type) {
	case *ua.CreateSubscriptionRequest:
		return c.createSubscription(now, s, r)
	case *ua.ModifySubscriptionRequest:
		sub := s.find(r.SubscriptionID)
		if sub == nil {
			return nil, ua.StatusBadSubscriptionIDInvalid
		}
		sub.set(r.RequestedPublishingInterval, r.RequestedLifetimeCount, r.RequestedMaxKeepAliveCount, r.MaxNotificationsPerPublish)
		return &ua.ModifySubscriptionResponse{
			RevisedPublishingInterval: millis(sub.interval), RevisedLifetimeCount: sub.lifetime, RevisedMaxKeepAliveCount: sub.keepAlive,
		}, ua.StatusOK
	case *ua.SetPublishingModeRequest:
		resp := &ua.SetPublishingModeResponse{}
		for _, n := range r.SubscriptionIDs {
			sub := s.find(n)
			if sub != nil {
				sub.enabled = r.PublishingEnabled
			}
			resp.Results = append(resp.Results, known(sub != nil, ua.StatusBadSubscriptionIDInvalid))
		}
		return resp, bounded(len(r.SubscriptionIDs))
	case *ua.DeleteSubscriptionsRequest:
		resp := &ua.DeleteSubscriptionsResponse{}
		for _, n := range r.SubscriptionIDs {
			resp.Results = append(resp.Results, known(s.drop(n), ua.StatusBadSubscriptionIDInvalid))
		}
		return resp, bounded(len(r.SubscriptionIDs))
	case *ua.PublishRequest:
		return c.publish(now, reqID, s, r)
	case *ua.RepublishRequest:
		if s.find(r.SubscriptionID) == nil {
			return nil, ua.StatusBadSubscriptionIDInvalid
		}
		return nil, ua.StatusBadMessageNotAvailable // nothing is kept after it was sent
	}
	return c.itemService(now, s, req)
}

func known(ok bool, otherwise ua.StatusCode) ua.StatusCode {
	if ok {
		return ua.StatusOK
	}
	return otherwise
}

func (c *conn) createSubscription(now time.Time, s *session, r *ua.CreateSubscriptionRequest) (ua.Response, ua.StatusCode) {
	if len(s.subs) >= mostSubscriptions {
		return nil, ua.StatusBadTooManySubscriptions
	}
	c.nextID++
	sub := &subscription{id: c.nextID, enabled: r.PublishingEnabled}
	sub.set(r.RequestedPublishingInterval, r.RequestedLifetimeCount, r.RequestedMaxKeepAliveCount, r.MaxNotificationsPerPublish)
	sub.next = now.Add(sub.interval)
	s.subs = append(s.subs, sub)
	return &ua.CreateSubscriptionResponse{
		SubscriptionID: sub.id, RevisedPublishingInterval: millis(sub.interval),
		RevisedLifetimeCount: sub.lifetime, RevisedMaxKeepAliveCount: sub.keepAlive,
	}, ua.StatusOK
}

// set revises the wishes: a lifetime is at least three keep-alives.
func (sub *subscription) set(interval float64, lifetime, keepAlive, most uint32) {
	sub.interval = revise(interval, fastest, slowest)
	sub.keepAlive = min(max(keepAlive, 1), 10_000)
	sub.lifetime = min(max(lifetime, 3*sub.keepAlive), 100_000)
	sub.most = mostItems
	if most > 0 {
		sub.most = int(min(most, mostItems))
	}
}

// publish keeps the request until there is something to send.
func (c *conn) publish(now time.Time, reqID uint32, s *session, r *ua.PublishRequest) (ua.Response, ua.StatusCode) {
	if len(s.subs) == 0 {
		return nil, ua.StatusBadNoSubscription
	}
	if len(s.publish) >= mostPublish {
		return nil, ua.StatusBadTooManyPublishRequests
	}
	p := publishRequest{reqID: reqID, handle: r.RequestHeader.RequestHandle}
	if hint := r.RequestHeader.TimeoutHint; hint > 0 {
		p.expires = now.Add(time.Duration(hint) * time.Millisecond)
	}
	for _, a := range r.SubscriptionAcknowledgements {
		p.acks = append(p.acks, known(s.find(a.SubscriptionID) != nil, ua.StatusBadSubscriptionIDInvalid))
	}
	s.publish = append(s.publish, p)
	return nil, ua.StatusOK
}

// itemService answers what concerns monitored items.
func (c *conn) itemService(now time.Time, s *session, req ua.Request) (ua.Response, ua.StatusCode) {
	var sub *subscription
	switch r := req.(type) {
	case *ua.CreateMonitoredItemsRequest:
		sub = s.find(r.SubscriptionID)
	case *ua.ModifyMonitoredItemsRequest:
		sub = s.find(r.SubscriptionID)
	case *ua.SetMonitoringModeRequest:
		sub = s.find(r.SubscriptionID)
	case *ua.DeleteMonitoredItemsRequest:
		sub = s.find(r.SubscriptionID)
	default:
		return nil, ua.StatusBadServiceUnsupported
	}
	if sub == nil {
		return nil, ua.StatusBadSubscriptionIDInvalid
	}
	switch r := req.(type) {
	case *ua.CreateMonitoredItemsRequest:
		if r.TimestampsToReturn >= ua.TimestampsToReturnInvalid {
			return nil, ua.StatusBadTimestampsToReturnInvalid
		}
		resp := &ua.CreateMonitoredItemsResponse{}
		for _, m := range r.ItemsToCreate {
			resp.Results = append(resp.Results, c.createItem(now, sub, m, r.TimestampsToReturn))
		}
		return resp, bounded(len(r.ItemsToCreate))
	case *ua.ModifyMonitoredItemsRequest:
		resp := &ua.ModifyMonitoredItemsResponse{}
		for _, m := range r.ItemsToModify {
			res := &ua.MonitoredItemModifyResult{StatusCode: ua.StatusBadMonitoredItemIDInvalid}
			if it := sub.item(m.MonitoredItemID); it != nil {
				it.stamps = r.TimestampsToReturn
				res.StatusCode = it.set(sub, m.RequestedParameters)
				res.RevisedSamplingInterval, res.RevisedQueueSize = millis(it.interval), uint32(it.size)
			}
			resp.Results = append(resp.Results, res)
		}
		return resp, bounded(len(r.ItemsToModify))
	case *ua.SetMonitoringModeRequest:
		resp := &ua.SetMonitoringModeResponse{}
		for _, n := range r.MonitoredItemIDs {
			it := sub.item(n)
			if it != nil {
				it.mode = r.MonitoringMode
			}
			resp.Results = append(resp.Results, known(it != nil, ua.StatusBadMonitoredItemIDInvalid))
		}
		return resp, bounded(len(r.MonitoredItemIDs))
	case *ua.DeleteMonitoredItemsRequest:
		resp := &ua.DeleteMonitoredItemsResponse{}
		for _, n := range r.MonitoredItemIDs {
			resp.Results = append(resp.Results, known(sub.forget(n), ua.StatusBadMonitoredItemIDInvalid))
		}
		return resp, bounded(len(r.MonitoredItemIDs))
	}
	return nil, ua.StatusBadServiceUnsupported
}

// createItem watches an attribute that exists.
func (c *conn) createItem(now time.Time, sub *subscription, r *ua.MonitoredItemCreateRequest, stamps ua.TimestampsToReturn) *ua.MonitoredItemCreateResult {
	if len(sub.items) >= mostItems {
		return &ua.MonitoredItemCreateResult{StatusCode: ua.StatusBadTooManyMonitoredItems}
	}
	if r.MonitoringMode > ua.MonitoringModeReporting {
		return &ua.MonitoredItemCreateResult{StatusCode: ua.StatusBadMonitoringModeInvalid}
	}
	var first *ua.DataValue
	c.srv.host.With(func(w *sim.World) { first = c.readOne(w, r.ItemToMonitor, stamps) })
	if first.Status != ua.StatusOK {
		return &ua.MonitoredItemCreateResult{StatusCode: first.Status}
	}
	c.nextID++
	it := &item{id: c.nextID, what: r.ItemToMonitor, stamps: stamps, mode: r.MonitoringMode, next: now}
	if st := it.set(sub, r.RequestedParameters); st != ua.StatusOK {
		return &ua.MonitoredItemCreateResult{StatusCode: st}
	}
	sub.items = append(sub.items, it)
	return &ua.MonitoredItemCreateResult{
		StatusCode: ua.StatusOK, MonitoredItemID: it.id, RevisedSamplingInterval: millis(it.interval), RevisedQueueSize: uint32(it.size),
	}
}

// set revises an item's parameters. Of filters there is the data change filter
// without a percent deadband.
func (it *item) set(sub *subscription, p *ua.MonitoringParameters) ua.StatusCode {
	if p == nil {
		return ua.StatusBadStructureMissing
	}
	trigger, deadband := ua.DataChangeTriggerStatusValue, 0.0
	if p.Filter != nil && p.Filter.Value != nil {
		f, ok := p.Filter.Value.(*ua.DataChangeFilter)
		if !ok || f.DeadbandType > uint32(ua.DeadbandTypeAbsolute) {
			return ua.StatusBadMonitoredItemFilterUnsupported
		}
		if f.DeadbandType == uint32(ua.DeadbandTypeAbsolute) {
			deadband = f.DeadbandValue
		}
		if !(deadband >= 0) || f.Trigger > ua.DataChangeTriggerStatusValueTimestamp {
			return ua.StatusBadDeadbandFilterInvalid
		}
		trigger = f.Trigger
	}
	it.trigger, it.deadband, it.handle = trigger, deadband, p.ClientHandle
	it.interval = sub.interval // what a negative wish means
	if p.SamplingInterval >= 0 {
		it.interval = revise(p.SamplingInterval, fastest, slowest)
	}
	it.size, it.keepNewest = int(min(max(p.QueueSize, 1), mostQueue)), p.DiscardOldest
	if extra := len(it.queue) - it.size; extra > 0 {
		it.queue = it.queue[extra:]
	}
	return ua.StatusOK
}

func (sub *subscription) item(n uint32) *item {
	for _, it := range sub.items {
		if it.id == n {
			return it
		}
	}
	return nil
}

func (sub *subscription) forget(n uint32) bool {
	for i, it := range sub.items {
		if it.id == n {
			sub.items = append(sub.items[:i:i], sub.items[i+1:]...)
			return true
		}
	}
	return false
}
