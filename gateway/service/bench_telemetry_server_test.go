package service_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uacp"
	"github.com/gopcua/opcua/uasc"
)

// telemetryServer is an OPC UA server that does nothing but change its nodes ten
// times a second, for a while, and tell it, counting what it sent.
type telemetryServer struct {
	l          net.Listener
	namespaces []string
	sent       atomic.Int64
	joined     sync.WaitGroup
	over       chan struct{}
}

// firstNamespace is the index of the first one with nodes.
const firstNamespace = 1

func newTelemetryServer(b *testing.B, namespaces int) *telemetryServer {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &telemetryServer{l: l, namespaces: []string{"http://opcfoundation.org/UA/"}, over: make(chan struct{})}
	for i := range namespaces {
		s.namespaces = append(s.namespaces, fmt.Sprintf("urn:bench:%d", i))
	}
	s.joined.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.joined.Go(func() {
				defer c.Close()
				stop := context.AfterFunc(s.context(), func() { _ = c.Close() })
				defer stop()
				_ = s.serve(c.(*net.TCPConn)) // the end of a connection is no news
			})
		}
	})
	return s
}

func (s *telemetryServer) endpoint() string { return "opc.tcp://" + s.l.Addr().String() }

func (s *telemetryServer) context() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-s.over; cancel() }()
	return ctx
}

// end closes everything and returns how many values were sent.
func (s *telemetryServer) end() int64 {
	close(s.over)
	_ = s.l.Close()
	s.joined.Wait()
	return s.sent.Load()
}

// teller is one connection's subscription.
type teller struct {
	handles  []uint32 // of the nodes
	publish  []asks   // questions that wait
	messages [][]*ua.MonitoredItemNotification
	seq      uint32
	quiet    time.Time // when something was said last
	rounds   int
}

type asks struct{ request, handle uint32 }

func (s *telemetryServer) serve(tcp *net.TCPConn) error {
	conn, err := uacp.NewConn(tcp, uacp.DefaultServerACK)
	if err != nil {
		return err
	}
	if m, err := conn.Receive(); err != nil || string(m[:4]) != "HELF" {
		return errors.New("no hello")
	}
	if err := conn.Send("ACKF", uacp.DefaultServerACK); err != nil {
		return err
	}
	channel := rand.Uint32() | 1
	sc, err := uasc.NewServerSecureChannel("", conn, &uasc.Config{SecurityPolicyURI: ua.SecurityPolicyURINone, SecurityMode: ua.MessageSecurityModeNone}, make(chan error, 16), channel, 1, channel+1)
	if err != nil {
		return err
	}
	defer sc.Close()
	requests := make(chan *uasc.MessageBody)
	ended := make(chan struct{})
	defer close(ended)
	s.joined.Go(func() {
		defer close(requests)
		for {
			m := sc.Receive(context.Background())
			if m.Err != nil {
				return
			}
			select {
			case requests <- m:
			case <-ended:
				return
			}
		}
	})
	t := &teller{quiet: time.Now()}
	tick := time.NewTicker(time.Second / telemetryRate)
	defer tick.Stop()
	for {
		select {
		case m, ok := <-requests:
			if !ok {
				return nil
			}
			if m.Request() == nil {
				continue
			}
			if res := s.answer(t, m); res != nil {
				if err := sc.SendResponseWithContext(context.Background(), m.RequestID, res); err != nil {
					return err
				}
			}
		case now := <-tick.C:
			t.change(now)
		}
		if err := s.tell(sc, t); err != nil {
			return err
		}
	}
}

func answerHeader(handle uint32, status ua.StatusCode) *ua.ResponseHeader {
	return &ua.ResponseHeader{Timestamp: time.Now(), RequestHandle: handle, ServiceResult: status,
		ServiceDiagnostics: &ua.DiagnosticInfo{}, StringTable: []string{}, AdditionalHeader: ua.NewExtensionObject(nil)}
}

func (s *telemetryServer) answer(t *teller, m *uasc.MessageBody) ua.Response {
	ok := answerHeader(m.Request().Header().RequestHandle, ua.StatusOK)
	switch q := m.Request().(type) {
	case *ua.CreateSessionRequest:
		return &ua.CreateSessionResponse{ResponseHeader: ok, SessionID: ua.NewNumericNodeID(1, 1), AuthenticationToken: ua.NewNumericNodeID(1, 2),
			RevisedSessionTimeout: q.RequestedSessionTimeout, ServerSignature: &ua.SignatureData{}, ServerEndpoints: []*ua.EndpointDescription{}}
	case *ua.ActivateSessionRequest:
		return &ua.ActivateSessionResponse{ResponseHeader: ok}
	case *ua.CloseSessionRequest:
		return &ua.CloseSessionResponse{ResponseHeader: ok}
	case *ua.ReadRequest:
		res := &ua.ReadResponse{ResponseHeader: ok}
		for _, n := range q.NodesToRead {
			switch {
			case n.NodeID.Namespace() == 0 && n.NodeID.IntID() == id.Server_NamespaceArray:
				res.Results = append(res.Results, changed(s.namespaces, time.Now()))
			case n.NodeID.Namespace() == 0:
				res.Results = append(res.Results, &ua.DataValue{EncodingMask: ua.DataValueStatusCode, Status: ua.StatusBadNodeIDUnknown})
			default:
				res.Results = append(res.Results, changed(0.0, time.Now()))
			}
		}
		return res
	case *ua.TranslateBrowsePathsToNodeIDsRequest:
		res := &ua.TranslateBrowsePathsToNodeIDsResponse{ResponseHeader: ok}
		for range q.BrowsePaths {
			res.Results = append(res.Results, &ua.BrowsePathResult{StatusCode: ua.StatusBadNoMatch, Targets: []*ua.BrowsePathTarget{}})
		}
		return res
	case *ua.CreateSubscriptionRequest:
		return &ua.CreateSubscriptionResponse{ResponseHeader: ok, SubscriptionID: 1, RevisedPublishingInterval: q.RequestedPublishingInterval, RevisedMaxKeepAliveCount: q.RequestedMaxKeepAliveCount, RevisedLifetimeCount: q.RequestedLifetimeCount}
	case *ua.CreateMonitoredItemsRequest:
		res := &ua.CreateMonitoredItemsResponse{ResponseHeader: ok}
		for _, it := range q.ItemsToCreate {
			r := &ua.MonitoredItemCreateResult{FilterResult: ua.NewExtensionObject(nil)}
			if it.ItemToMonitor.NodeID.Namespace() == 0 {
				r.StatusCode = ua.StatusBadNodeIDUnknown // it has no clock
			} else {
				t.handles = append(t.handles, it.RequestedParameters.ClientHandle)
			}
			res.Results = append(res.Results, r)
		}
		return res
	case *ua.PublishRequest:
		t.publish = append(t.publish, asks{m.RequestID, q.RequestHeader.RequestHandle})
		return nil
	}
	return &ua.ServiceFault{ResponseHeader: answerHeader(m.Request().Header().RequestHandle, ua.StatusBadServiceUnsupported)}
}

func changed(v any, at time.Time) *ua.DataValue {
	return &ua.DataValue{EncodingMask: ua.DataValueValue | ua.DataValueSourceTimestamp | ua.DataValueServerTimestamp, Value: ua.MustVariant(v), SourceTimestamp: at, ServerTimestamp: at}
}

// change gives every node another value, as long as it lasts.
func (t *teller) change(now time.Time) {
	if len(t.publish) == 0 && t.rounds == 0 || t.rounds > int((telemetryTime+3*time.Second).Seconds()*telemetryRate) {
		return
	}
	t.rounds++
	for rest := t.handles; len(rest) > 0; {
		part := rest[:min(1000, len(rest))]
		rest = rest[len(part):]
		list := make([]*ua.MonitoredItemNotification, len(part))
		for i, h := range part {
			list[i] = &ua.MonitoredItemNotification{ClientHandle: h, Value: changed(float64(t.rounds)+float64(h)/1e6, now)}
		}
		t.messages = append(t.messages, list)
	}
}

// tell answers the questions that wait: with changes, or to say that it lives.
func (s *telemetryServer) tell(sc *uasc.SecureChannel, t *teller) error {
	for len(t.publish) > 0 && (len(t.messages) > 0 || time.Since(t.quiet) > time.Second) {
		q := t.publish[0]
		t.publish = t.publish[1:]
		m := &ua.NotificationMessage{SequenceNumber: t.seq + 1, PublishTime: time.Now()}
		n := 0
		if len(t.messages) > 0 {
			t.seq++
			n = len(t.messages[0])
			m.NotificationData = []*ua.ExtensionObject{ua.NewExtensionObject(&ua.DataChangeNotification{MonitoredItems: t.messages[0]})}
			t.messages = t.messages[1:]
		}
		err := sc.SendResponseWithContext(context.Background(), q.request, &ua.PublishResponse{ResponseHeader: answerHeader(q.handle, ua.StatusOK),
			SubscriptionID: 1, NotificationMessage: m, AvailableSequenceNumbers: []uint32{}, Results: []ua.StatusCode{}, MoreNotifications: len(t.messages) > 0})
		if err != nil {
			return err
		}
		t.quiet = time.Now()
		s.sent.Add(int64(n))
	}
	return nil
}
