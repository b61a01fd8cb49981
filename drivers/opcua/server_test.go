package opcua

import (
	"context"
	"errors"
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

// server is the least OPC UA server that a client can hold a session with, on
// a real loopback socket, with the faults that the tests need. It counts what
// really reached it.
type server struct {
	l  net.Listener
	wg sync.WaitGroup

	mu         sync.Mutex
	conns      map[net.Conn]bool
	namespaces []string
	values     map[string]*ua.DataValue                     // by node id within the namespace "s=…"
	methods    map[string]func([]*ua.Variant) ua.StatusCode // by method id
	fault      ua.StatusCode                                // answer every read and call with this service fault
	maxNodes   uint32
	full       bool                                               // no session is to be had
	asked      func(n int, nodes []*ua.ReadValueID) ua.StatusCode // sees each read but those of namespace 0; may refuse it

	other func(ua.Request) ua.Response // services beyond sessions, reads and calls

	frozen atomic.Bool // takes requests and does nothing with them until it thaws
	mute   atomic.Bool // acts on requests and answers none
	lose   atomic.Bool // acts on the next call and does not answer it
	reads  atomic.Int64
	calls  atomic.Int64
	logins atomic.Int64
}

const namespace = "urn:test:device"

func newServer(t testing.TB) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{l: l, conns: map[net.Conn]bool{}, values: map[string]*ua.DataValue{},
		methods:    map[string]func([]*ua.Variant) ua.StatusCode{},
		namespaces: []string{"http://opcfoundation.org/UA/", "urn:another", namespace}}
	s.wg.Go(s.accept)
	t.Cleanup(s.close)
	return s
}

func (s *server) endpoint() string { return "opc.tcp://" + s.l.Addr().String() }

func (s *server) close() {
	_ = s.l.Close()
	s.frozen.Store(false)
	s.drop()
	s.wg.Wait()
}

// drop resets every connection, as a crash of the server does.
func (s *server) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}

func (s *server) set(node string, dv *ua.DataValue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[node] = dv
}

func (s *server) lock(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *server) accept() {
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		s.lock(func() { s.conns[c] = true })
		s.wg.Go(func() {
			defer s.lock(func() { delete(s.conns, c) })
			defer c.Close()
			_ = s.serve(c.(*net.TCPConn)) // the end of a connection is no news
		})
	}
}

func (s *server) serve(tcp *net.TCPConn) error {
	conn, err := uacp.NewConn(tcp, uacp.DefaultServerACK)
	if err != nil {
		return err
	}
	if b, err := conn.Receive(); err != nil || string(b[:4]) != "HELF" {
		return errors.New("no hello")
	}
	if err := conn.Send("ACKF", uacp.DefaultServerACK); err != nil {
		return err
	}
	channel := rand.Uint32() | 1
	cfg := &uasc.Config{SecurityPolicyURI: ua.SecurityPolicyURINone, SecurityMode: ua.MessageSecurityModeNone}
	sc, err := uasc.NewServerSecureChannel("", conn, cfg, make(chan error, 16), channel, 1, channel+1)
	if err != nil {
		return err
	}
	defer sc.Close()
	ctx := context.Background()
	for {
		msg := sc.Receive(ctx)
		if msg.Err != nil {
			return msg.Err
		}
		if msg.Request() == nil { // the channel was opened
			continue
		}
		for s.frozen.Load() {
			time.Sleep(time.Millisecond)
		}
		res := s.answer(msg.Request())
		if _, call := msg.Request().(*ua.CallRequest); call && s.lose.CompareAndSwap(true, false) {
			continue
		}
		if s.mute.Load() || res == nil {
			continue
		}
		if err := sc.SendResponseWithContext(ctx, msg.RequestID, res); err != nil {
			return err
		}
	}
}

func header(r ua.Request, status ua.StatusCode) *ua.ResponseHeader {
	return &ua.ResponseHeader{Timestamp: time.Now(), RequestHandle: r.Header().RequestHandle, ServiceResult: status,
		ServiceDiagnostics: &ua.DiagnosticInfo{}, StringTable: []string{}, AdditionalHeader: ua.NewExtensionObject(nil)}
}

func (s *server) answer(r ua.Request) ua.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	ok := header(r, ua.StatusOK)
	switch q := r.(type) {
	case *ua.CreateSessionRequest:
		if s.full {
			return &ua.ServiceFault{ResponseHeader: header(r, ua.StatusBadTooManySessions)}
		}
		s.logins.Add(1)
		return &ua.CreateSessionResponse{ResponseHeader: ok, SessionID: ua.NewNumericNodeID(1, 1),
			AuthenticationToken: ua.NewNumericNodeID(1, 2), RevisedSessionTimeout: q.RequestedSessionTimeout,
			ServerSignature: &ua.SignatureData{}, ServerEndpoints: []*ua.EndpointDescription{}}
	case *ua.ActivateSessionRequest:
		return &ua.ActivateSessionResponse{ResponseHeader: ok}
	case *ua.CloseSessionRequest:
		return &ua.CloseSessionResponse{ResponseHeader: ok}
	case *ua.ReadRequest:
		s.reads.Add(1)
		if s.fault != 0 && !namespaceArray(q.NodesToRead[0]) {
			return &ua.ServiceFault{ResponseHeader: header(r, s.fault)}
		}
		if s.asked != nil && q.NodesToRead[0].NodeID.Namespace() != 0 {
			if st := s.asked(len(q.NodesToRead), q.NodesToRead); st != 0 {
				return &ua.ServiceFault{ResponseHeader: header(r, st)}
			}
		}
		if s.maxNodes > 0 && len(q.NodesToRead) > int(s.maxNodes) {
			return &ua.ServiceFault{ResponseHeader: header(r, ua.StatusBadTooManyOperations)}
		}
		res := &ua.ReadResponse{ResponseHeader: ok}
		for _, n := range q.NodesToRead {
			res.Results = append(res.Results, s.value(n))
		}
		return res
	case *ua.CallRequest:
		if s.fault != 0 {
			return &ua.ServiceFault{ResponseHeader: header(r, s.fault)}
		}
		return s.call(q, ok)
	}
	if s.other != nil {
		if res := s.other(r); res != nil {
			res.SetHeader(ok)
			return res
		}
	}
	return &ua.ServiceFault{ResponseHeader: header(r, ua.StatusBadServiceUnsupported)}
}

func namespaceArray(n *ua.ReadValueID) bool {
	return n.NodeID.Namespace() == 0 && n.NodeID.IntID() == id.Server_NamespaceArray
}

func (s *server) call(q *ua.CallRequest, ok *ua.ResponseHeader) ua.Response {
	res := &ua.CallResponse{ResponseHeader: ok}
	for _, m := range q.MethodsToCall {
		status := ua.StatusBadMethodInvalid
		if f := s.methods["s="+m.MethodID.StringID()]; f != nil && s.mine(m.MethodID) && s.mine(m.ObjectID) {
			s.calls.Add(1)
			status = f(m.InputArguments)
		}
		res.Results = append(res.Results, &ua.CallMethodResult{StatusCode: status})
	}
	return res
}

// mine reports whether a node lies in the device's namespace, wherever that is
// now.
func (s *server) mine(n *ua.NodeID) bool {
	ns := int(n.Namespace())
	return ns < len(s.namespaces) && s.namespaces[ns] == namespace
}

func (s *server) value(n *ua.ReadValueID) *ua.DataValue {
	switch {
	case namespaceArray(n):
		return good(s.namespaces)
	case n.NodeID.Namespace() == 0 && n.NodeID.IntID() == id.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead && s.maxNodes > 0:
		return good(s.maxNodes)
	}
	if dv := s.values["s="+n.NodeID.StringID()]; dv != nil && s.mine(n.NodeID) {
		return dv
	}
	return &ua.DataValue{EncodingMask: ua.DataValueStatusCode, Status: ua.StatusBadNodeIDUnknown}
}

// good is a value of good quality, measured now.
func good(v any) *ua.DataValue {
	return &ua.DataValue{EncodingMask: ua.DataValueValue | ua.DataValueSourceTimestamp | ua.DataValueServerTimestamp,
		Value: ua.MustVariant(v), SourceTimestamp: time.Now(), ServerTimestamp: time.Now()}
}

// listen is an address that takes connections and never says a word.
func listen(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}
