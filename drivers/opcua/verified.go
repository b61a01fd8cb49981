package opcua

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"sync/atomic"

	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uasc"
)

// The client library takes policy and certificate of a channel from whoever
// answers, at every opening and every renewal, and goes on with them: who sits
// in between may answer with a certificate of his own, and then without any
// policy at all. So the channel is looked at before each request leaves on it,
// the one with the password too.

// errOtherChannel is what a request fails with that would have left on a
// channel that is not the verified one.
var errOtherChannel = errors.New("the channel uses another certificate or policy than the one that was verified: somebody else may have answered")

// verified is a context whose owner lets a request leave only on the channel
// whose certificate was verified. The library asks a context whether it is done
// right before it writes, while it holds the channel: no renewal is under way
// then, which would change what is looked at.
type verified struct {
	context.Context
	client *opcua.Client
	want   *credentials
	once   bool // look at the first question only: later ones come while it waits for the answer
	asked  atomic.Bool
	bad    atomic.Bool
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Done is asked before each write.
func (v *verified) Done() <-chan struct{} {
	if v.bad.Load() {
		return closed
	}
	if sc := v.client.SecureChannel(); sc != nil && !(v.once && v.asked.Swap(true)) && !v.want.holds(sc) {
		v.bad.Store(true)
		return closed
	}
	return v.Context.Done()
}

// Err says why it is done.
func (v *verified) Err() error {
	if v.bad.Load() {
		return errOtherChannel
	}
	return v.Context.Err()
}

// opening guards everything that a Connect sends after the channel is open.
func (c *credentials) opening(ctx context.Context, client *opcua.Client) context.Context {
	if c == nil {
		return ctx
	}
	return &verified{Context: ctx, client: client, want: c}
}

// request guards one request.
func (c *credentials) request(ctx context.Context, client *opcua.Client) context.Context {
	if c == nil {
		return ctx
	}
	return &verified{Context: ctx, client: client, want: c, once: true}
}

// holds reports whether a channel is what was verified. The library exports no
// way to ask: what it calls its fields is held by a test, and a field that is
// not there is a channel that is not ours.
func (c *credentials) holds(sc *uasc.SecureChannel) bool {
	cfg := field(reflect.ValueOf(sc), "cfg")
	cert := field(cfg, "RemoteCertificate")
	policy, mode := field(cfg, "SecurityPolicyURI"), field(cfg, "SecurityMode")
	if cert.Kind() != reflect.Slice || cert.Type().Elem().Kind() != reflect.Uint8 || policy.Kind() != reflect.String || !mode.CanUint() && !mode.CanInt() {
		return false
	}
	return startsWith(cert.Bytes(), c.endpoint.ServerCertificate) && policy.String() == c.endpoint.SecurityPolicyURI && wholeOf(mode) == int64(ua.MessageSecurityModeSignAndEncrypt)
}

// same reports whether the session was made by who holds the verified
// certificate.
func (c *credentials) same(s *opcua.Session) bool {
	if c == nil {
		return true
	}
	cert := field(reflect.ValueOf(s), "serverCertificate")
	return cert.Kind() == reflect.Slice && cert.Type().Elem().Kind() == reflect.Uint8 && startsWith(cert.Bytes(), c.endpoint.ServerCertificate)
}

// startsWith: a certificate may be followed by those of its issuers.
func startsWith(chain, first []byte) bool { return len(first) > 0 && bytes.HasPrefix(chain, first) }

// field is a field of what v points to; the zero Value if there is none.
func field(v reflect.Value, name string) reflect.Value {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v.FieldByName(name)
}

func wholeOf(v reflect.Value) int64 {
	if v.CanUint() {
		return int64(v.Uint())
	}
	return v.Int()
}
