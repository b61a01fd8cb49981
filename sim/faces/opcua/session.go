package opcua

import (
	"crypto/rand"
	"encoding/hex"
	"math"
	"time"

	"github.com/gopcua/opcua/ua"
)

const (
	anonymous       = "anonymous"
	shortestSession = 5 * time.Second
	longestSession  = time.Hour
)

// session is a client's, and lives no longer than its connection.
type session struct {
	id, token *ua.NodeID
	active    bool
	nonce     []byte // what the client has to sign next
	timeout   time.Duration
	used      time.Time

	subs    []*subscription
	publish []publishRequest
	points  map[string]continuation // of browsing
}

// serve answers a request; nil if its answer comes later.
func (c *conn) serve(reqID uint32, req ua.Request) ua.Response {
	now := c.srv.host.Now()
	hdr := req.Header()
	resp, status := c.dispatch(now, reqID, req)
	if status != ua.StatusOK {
		resp = &ua.ServiceFault{}
	}
	if resp != nil {
		resp.SetHeader(header(now, hdr.RequestHandle, status))
	}
	return resp
}

func header(now time.Time, handle uint32, status ua.StatusCode) *ua.ResponseHeader {
	return &ua.ResponseHeader{
		Timestamp: now, RequestHandle: handle, ServiceResult: status,
		ServiceDiagnostics: &ua.DiagnosticInfo{}, StringTable: []string{}, AdditionalHeader: ua.NewExtensionObject(nil),
	}
}

// late reports whether whoever asked has given up already.
func late(now time.Time, hdr *ua.RequestHeader) bool {
	return hdr.TimeoutHint > 0 && now.Sub(hdr.Timestamp) > time.Duration(hdr.TimeoutHint)*time.Millisecond
}

func (c *conn) dispatch(now time.Time, reqID uint32, req ua.Request) (ua.Response, ua.StatusCode) {
	hdr := req.Header()
	if _, publish := req.(*ua.PublishRequest); late(now, hdr) && !publish {
		return nil, ua.StatusBadTimeout
	}
	switch r := req.(type) { // these need no session
	case *ua.GetEndpointsRequest:
		return &ua.GetEndpointsResponse{Endpoints: c.srv.endpoints()}, ua.StatusOK
	case *ua.FindServersRequest:
		return &ua.FindServersResponse{Servers: []*ua.ApplicationDescription{c.srv.description().Server}}, ua.StatusOK
	case *ua.CreateSessionRequest:
		return c.createSession(now, r)
	}
	var s *session
	if hdr.AuthenticationToken != nil {
		s = c.sessions[hdr.AuthenticationToken.String()]
	}
	if s == nil {
		return nil, ua.StatusBadSessionIDInvalid
	}
	s.used = now
	switch r := req.(type) {
	case *ua.ActivateSessionRequest:
		return c.activate(s, r)
	case *ua.CloseSessionRequest:
		delete(c.sessions, s.token.String())
		return &ua.CloseSessionResponse{}, ua.StatusOK
	}
	if !s.active {
		return nil, ua.StatusBadSessionNotActivated
	}
	if resp, status, ok := c.nodeService(s, req); ok {
		return resp, status
	}
	return c.subscriptionService(now, reqID, s, req)
}

func (c *conn) createSession(now time.Time, r *ua.CreateSessionRequest) (ua.Response, ua.StatusCode) {
	if len(c.sessions) >= mostSessions {
		return nil, ua.StatusBadTooManySessions
	}
	c.nextID++
	timeout := revise(r.RequestedSessionTimeout, shortestSession, longestSession)
	s := &session{
		id: ua.NewNumericNodeID(1, c.nextID), token: ua.NewStringNodeID(1, hex.EncodeToString(random())),
		timeout: timeout, used: now, nonce: random(), points: map[string]continuation{},
	}
	resp := &ua.CreateSessionResponse{
		SessionID: s.id, AuthenticationToken: s.token, RevisedSessionTimeout: millis(timeout), ServerNonce: s.nonce,
		ServerEndpoints: c.srv.endpoints(), ServerSignature: &ua.SignatureData{},
	}
	if err := c.sign(r, resp); err != nil {
		return nil, ua.StatusBadSecurityChecksFailed
	}
	c.sessions[s.token.String()] = s
	return resp, ua.StatusOK
}

func random() []byte {
	b := make([]byte, 32)
	rand.Read(b) // never fails, by its documentation
	return b
}

func (c *conn) activate(s *session, r *ua.ActivateSessionRequest) (ua.Response, ua.StatusCode) {
	if status := c.login(s, r); status != ua.StatusOK {
		return nil, status
	}
	s.active, s.nonce = true, random()
	return &ua.ActivateSessionResponse{ServerNonce: s.nonce}, ua.StatusOK
}

// revise puts a wish in milliseconds within bounds.
func revise(ms float64, lo, hi time.Duration) time.Duration {
	if math.IsNaN(ms) {
		ms = 0
	}
	return time.Duration(math.Max(lo.Seconds(), math.Min(hi.Seconds(), ms/1000)) * float64(time.Second))
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
