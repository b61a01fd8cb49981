package opcua

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uacp"
	"github.com/gopcua/opcua/uapolicy"
	"github.com/gopcua/opcua/uasc"

	face "labgate/sim/faces/opcua"
)

// between sits on the way to a server. It passes on the question for endpoints,
// so that the right certificate is verified, and then answers itself, with a
// certificate of its own: it has not the server's key, but the library takes
// whatever certificate an answer brings.
type between struct {
	l      net.Listener
	server string
	mine   face.Identity
	strip  bool // goes on without any policy

	wg    sync.WaitGroup
	mu    sync.Mutex
	conns int
	after [][]byte // what the client sent on the channel that it took for the server's
	err   error
}

func newBetween(t *testing.T, server string, strip bool) *between {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &between{l: l, server: strings.TrimPrefix(server, "opc.tcp://"), mine: renewedIdentity(), strip: strip}
	b.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.wg.Go(func() {
				defer c.Close()
				defer context.AfterFunc(t.Context(), func() { c.Close() })()
				b.serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { l.Close(); b.wg.Wait() })
	return b
}

func (b *between) serve(c *net.TCPConn) {
	b.mu.Lock()
	b.conns++
	first := b.conns == 1
	b.mu.Unlock()
	var err error
	if first {
		err = b.pass(c)
	} else {
		err = b.impersonate(c)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = errors.Join(b.err, err)
}

func (b *between) pass(c *net.TCPConn) error {
	far, err := net.Dial("tcp", b.server)
	if err != nil {
		return err
	}
	defer far.Close()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{c, far}, {far, c}} {
		b.wg.Go(func() {
			buf := make([]byte, 4096)
			for {
				n, err := way[0].Read(buf)
				if n > 0 {
					_, _ = way[1].Write(buf[:n])
				}
				if err != nil {
					done <- struct{}{}
					return
				}
			}
		})
	}
	<-done
	return nil
}

func (b *between) impersonate(c *net.TCPConn) error {
	conn, err := uacp.NewConn(c, uacp.DefaultServerACK)
	if err != nil {
		return err
	}
	if _, err := conn.Receive(); err != nil {
		return err
	}
	if err := conn.Send("ACKF", uacp.DefaultServerACK); err != nil {
		return err
	}
	opn, err := conn.Receive()
	if err != nil {
		return err
	}
	chunk := new(uasc.MessageChunk)
	if _, err := chunk.Decode(opn); err != nil {
		return err
	}
	policies := []string{ua.SecurityPolicyURIBasic256Sha256}
	if b.strip { // the first answer is spoilt: it only leaves its key behind
		policies = []string{ua.SecurityPolicyURIBasic256Sha256, ua.SecurityPolicyURINone}
	}
	for i, policy := range policies {
		m, err := b.forge(policy, chunk.SenderCertificate)
		if err != nil {
			return err
		}
		if i+1 < len(policies) {
			m[len(m)-1] ^= 1
		}
		if _, err := c.Write(m); err != nil {
			return err
		}
	}
	for {
		m, err := conn.Receive()
		if err != nil {
			return nil
		}
		b.mu.Lock()
		b.after = append(b.after, append([]byte(nil), m...))
		b.mu.Unlock()
	}
}

// forge is an answer to the client's first request on a channel, signed by
// whoever sits in between.
func (b *between) forge(policy string, client []byte) ([]byte, error) {
	key, err := uapolicy.PublicKey(client)
	if err != nil {
		return nil, err
	}
	alg, err := uapolicy.Asymmetric(ua.SecurityPolicyURIBasic256Sha256, b.mine.Key, key)
	if err != nil {
		return nil, err
	}
	var cert, thumb []byte
	if policy != ua.SecurityPolicyURINone {
		cert, thumb = b.mine.Certificate, uapolicy.Thumbprint(client)
	}
	now := time.Now()
	m := &uasc.Message{
		MessageHeader: &uasc.MessageHeader{Header: uasc.NewHeader(uasc.MessageTypeOpenSecureChannel, uasc.ChunkTypeFinal, 7),
			AsymmetricSecurityHeader: uasc.NewAsymmetricSecurityHeader(policy, cert, thumb), SequenceHeader: uasc.NewSequenceHeader(1, 1)},
		TypeID: ua.NewFourByteExpandedNodeID(0, id.OpenSecureChannelResponse_Encoding_DefaultBinary),
		Service: &ua.OpenSecureChannelResponse{
			ResponseHeader: &ua.ResponseHeader{Timestamp: now, RequestHandle: 1, ServiceDiagnostics: &ua.DiagnosticInfo{}, StringTable: []string{}, AdditionalHeader: ua.NewExtensionObject(nil)},
			SecurityToken:  &ua.ChannelSecurityToken{ChannelID: 7, TokenID: 9, CreatedAt: now, RevisedLifetime: 3_600_000}, ServerNonce: make([]byte, 32)}}
	chunks, err := m.EncodeChunks(8192)
	if err != nil {
		return nil, err
	}
	c, header := chunks[0], 12+m.AsymmetricSecurityHeader.Len()
	pad := 0
	for (len(c)-header+alg.SignatureLength()+1+pad)%alg.PlaintextBlockSize() != 0 {
		pad++
	}
	for range pad + 1 {
		c = append(c, byte(pad))
	}
	size := header + (len(c)-header+alg.SignatureLength())/alg.PlaintextBlockSize()*alg.BlockSize()
	binary.LittleEndian.PutUint32(c[4:], uint32(size))
	sig, err := alg.Signature(c)
	if err != nil {
		return nil, err
	}
	secret, err := alg.Encrypt(append(append([]byte(nil), c[header:]...), sig...))
	return append(c[:header:header], secret...), err
}

func (b *between) heard(t *testing.T) [][]byte {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.after
}

// TestInBetween: nothing leaves on a channel of whoever sits in between, not
// even encrypted. That the attack itself works is shown on the library alone.
func TestInBetween(t *testing.T) {
	for name, strip := range map[string]bool{"another certificate": false, "no policy any more": true} {
		t.Run(name, func(t *testing.T) {
			link := basic()
			link["user"] = "labgate"
			s := securedOnce(t, newStore(t, validIdentity()), link, face.Secured(validIdentity()), face.Users(map[string]string{"labgate": "right"}))
			s.at("password", "right")
			evil := newBetween(t, s.srv.Endpoint(), strip)
			s.at("endpoint", "opc.tcp://"+evil.l.Addr().String())
			if err := s.link.Connect(t.Context()); !errors.Is(err, errOtherChannel) {
				t.Errorf("got %v", err)
			}
			for _, m := range evil.heard(t) {
				if string(m[:3]) != "CLO" { // a goodbye, which tells nothing
					t.Errorf("%d bytes went out: %.3s", len(m), m)
				}
			}
		})
	}
}

func TestLibraryIsFooled(t *testing.T) {
	s := securedOnce(t, newStore(t, validIdentity()), basic(), face.Secured(validIdentity()))
	evil := newBetween(t, s.srv.Endpoint(), true)
	endpoint := "opc.tcp://" + evil.l.Addr().String()
	want := security{policy: ua.SecurityPolicyURIBasic256Sha256}
	cred, err := want.discover(t.Context(), map[string]string{"endpoint": endpoint, "pki": s.store.Dir()}, time.Second, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	client, err := opcua.NewClient(endpoint, append(cred.options(), opcua.AutoReconnect(false), opcua.RequestTimeout(300*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(t.Context())
	if err := guard(func() error { return client.Connect(t.Context()) }); err == nil {
		t.Error("it connected")
	}
	readable := false
	for _, m := range evil.heard(t) {
		readable = readable || strings.Contains(string(m), "urn:test:labgate") // in its CreateSession
	}
	if !readable {
		t.Error("the library no longer speaks in clear to who answers without a policy: see whether it checks the certificate now, and what TestInBetween still shows")
	}
}

// TestLibraryFields: what the check looks at is there, and means what it meant.
func TestLibraryFields(t *testing.T) {
	s := securedOnce(t, newStore(t, validIdentity()), basic(), face.Secured(validIdentity()))
	if err := s.link.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	ses := s.link.(*Link).session
	sc := ses.client.SecureChannel()
	if !ses.cred.holds(sc) || !ses.cred.same(ses.client.Session()) {
		t.Fatal("the channel in use is not recognised")
	}
	for name, change := range map[string]func(*ua.EndpointDescription){
		"certificate": func(e *ua.EndpointDescription) { e.ServerCertificate = renewedIdentity().Certificate },
		"none":        func(e *ua.EndpointDescription) { e.ServerCertificate = nil },
		"policy":      func(e *ua.EndpointDescription) { e.SecurityPolicyURI = ua.SecurityPolicyURIAes256Sha256RsaPss },
	} {
		e := *ses.cred.endpoint
		change(&e)
		other := &credentials{endpoint: &e}
		if other.holds(sc) {
			t.Errorf("%s: another channel is taken for the verified one", name)
		}
		if name != "policy" && other.same(ses.client.Session()) {
			t.Errorf("%s: another session is taken for the verified one", name)
		}
	}
	if ses.cred.holds(&uasc.SecureChannel{}) || ses.cred.holds(nil) || ses.cred.same(nil) || ses.cred.same(&opcua.Session{}) {
		t.Error("what is empty is taken for the verified one")
	}
	if f := field(reflect.ValueOf(sc), "no such field"); f.IsValid() {
		t.Error("a field that is not there")
	}
}

// TestEveryRequestIsChecked: a channel that turns into another one while it is
// in use carries no further request, and a command on it was not sent.
func TestEveryRequestIsChecked(t *testing.T) {
	s := securedOnce(t, newStore(t, validIdentity()), basic(), face.Secured(validIdentity()))
	if err := s.link.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	ses := s.link.(*Link).session
	e := *ses.cred.endpoint
	e.ServerCertificate = renewedIdentity().Certificate
	ses.cred.endpoint = &e // as if the channel had been renewed with another
	d := s.link.(*Link).devices["reactor"]
	c := d.commands[member{"jacket", "heat"}]
	said, err := c.message(heat().Args)
	if err != nil {
		t.Fatal(err)
	}
	res, err := ses.exchange(t.Context(), "test", d, c, said, time.Now())
	if !errors.Is(err, errOtherChannel) || !res.Sent.IsZero() || !neverLeft(err) {
		t.Errorf("%+v, %v", res, err)
	}
	if s.starts() != 0 {
		t.Error("it was heard")
	}
	if ses.lost() == nil {
		t.Error("the session goes on")
	}
}
