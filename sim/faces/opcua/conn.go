package opcua

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uacp"
	"github.com/gopcua/opcua/uasc"

	"labgate/sim/faces/wire"
)

const (
	handshakeTime = 5 * time.Second        // for a greeting, and for the rest of a message that has begun
	sendTime      = 5 * time.Second        // for a client to take an answer
	lookAround    = 100 * time.Millisecond // how often an idle connection looks for a power cycle
	frozenNap     = 20 * time.Millisecond
	deadFor       = time.Minute // until a connection that carries nothing is given up
)

// conn is one client's connection. One goroutine owns all of it: it waits for
// bytes only until the next notification is due, so that answers and
// notifications never meet, and neither of them a renewal of the channel.
type conn struct {
	srv *Server
	tcp *net.TCPConn
	cfg *uasc.Config
	sc  *uasc.SecureChannel

	id       *Identity // whom the server was when this began; nil without security
	boot     int
	survivor bool // opened while the fault half_open was on: it is the new one that works
	dead     bool // half open: carries nothing any more

	deadSince time.Time

	sessions map[string]*session // by authentication token
	nextID   uint32
}

func newConn(s *Server, tcp *net.TCPConn) *conn {
	return &conn{srv: s, tcp: tcp, sessions: map[string]*session{}}
}

// run serves the connection until it or ctx ends. A client's bytes that make
// the decoder panic end its own connection only.
func (c *conn) run(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("connection from %s: %v", c.tcp.RemoteAddr(), r)
		}
	}()
	c.id = c.srv.present()
	_, c.boot = c.srv.host.Frozen(c.srv.instrument)
	c.survivor = c.srv.host.HalfOpen(c.srv.instrument)
	if err := c.greet(ctx); err != nil {
		return err
	}
	for {
		next := c.tick(ctx)
		if next.err != nil {
			return next.err
		}
		arrived, err := c.readable(next.at)
		if err != nil {
			return err
		}
		if frozen, err := c.frozen(ctx); err != nil {
			return err
		} else if frozen || !arrived {
			continue
		}
		if err := c.receive(ctx); err != nil {
			return err
		}
	}
}

// greet does the transport's handshake, once the device is awake.
func (c *conn) greet(ctx context.Context) error {
	for {
		frozen, err := c.frozen(ctx)
		if err != nil {
			return err
		}
		if !frozen {
			break
		}
	}
	ack := *uacp.DefaultServerACK
	link, err := uacp.NewConn(c.tcp, &ack)
	if err != nil {
		return err
	}
	if err := c.tcp.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return err
	}
	b, err := link.Receive()
	if err != nil {
		return err
	}
	var hello uacp.Hello
	if len(b) < 8 || string(b[:4]) != "HELF" {
		link.SendError(ua.StatusBadTCPMessageTypeInvalid)
		return errors.New("no hello")
	}
	if _, err := hello.Decode(b[8:]); err != nil {
		link.SendError(ua.StatusBadTCPInternalError)
		return err
	}
	if hello.ReceiveBufSize < 8192 || hello.SendBufSize < 8192 {
		link.SendError(ua.StatusBadTCPNotEnoughResources)
		return errors.New("the client's buffers are too small")
	}
	ack.SendBufSize = min(ack.SendBufSize, hello.ReceiveBufSize)
	if err := link.Send("ACKF", &ack); err != nil {
		return err
	}
	channel, token := c.srv.nextChannel()
	c.cfg = &uasc.Config{SecurityPolicyURI: ua.SecurityPolicyURINone, SecurityMode: ua.MessageSecurityModeNone} // until the client's first message says what it is
	if c.id != nil {
		c.cfg.Certificate, c.cfg.LocalKey = c.id.Certificate, c.id.Key
	}
	c.sc, err = uasc.NewServerSecureChannel(c.srv.endpoint, link, c.cfg, make(chan error, 1), channel, 1, token)
	return err
}

// frozen looks at the device. It waits a little where it hears nothing, and
// fails where a power cycle has ended the connection.
func (c *conn) frozen(ctx context.Context) (bool, error) {
	frozen, boot := c.srv.host.Frozen(c.srv.instrument)
	if boot != c.boot {
		c.srv.startedAt(boot)
		return false, errors.New("the device was switched off and on")
	}
	if c.id != c.srv.present() {
		return false, errors.New("the server was started again with another certificate")
	}
	if !c.survivor && !c.dead {
		c.dead, c.deadSince = c.srv.host.HalfOpen(c.srv.instrument), c.srv.host.Now()
	}
	if !frozen && !c.dead {
		return false, ctx.Err()
	}
	if c.dead && c.srv.host.Now().Sub(c.deadSince) > deadFor {
		return false, errors.New("nothing passes on it: it is given up")
	}
	if !c.srv.host.Sleep(ctx, frozenNap) {
		return true, ctx.Err()
	}
	return true, nil
}

// readable waits until bytes have arrived, without taking them; false when the
// time came first.
func (c *conn) readable(until time.Time) (bool, error) {
	if err := c.tcp.SetReadDeadline(time.Now().Add(max(0, until.Sub(c.srv.host.Now())))); err != nil {
		return false, err
	}
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return false, err
	}
	var n int
	var peek error
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		n, _, peek = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
		return peek != syscall.EAGAIN && peek != syscall.EINTR
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, nil
	case err != nil:
		return false, err
	case peek != nil:
		return false, peek
	case n == 0:
		return false, net.ErrClosed
	}
	return true, nil
}

// receive takes one message and answers it.
func (c *conn) receive(ctx context.Context) error {
	if err := c.tcp.SetReadDeadline(time.Now().Add(handshakeTime)); err != nil {
		return err
	}
	if err := c.tcp.SetWriteDeadline(time.Now().Add(sendTime)); err != nil { // opening a channel is answered in there
		return err
	}
	msg := c.sc.Receive(ctx)
	if msg.Err != nil {
		return msg.Err
	}
	req := msg.Request()
	if err := c.allowed(req); err != nil {
		return err
	}
	if req == nil {
		return nil // the channel was opened or renewed
	}
	resp := c.serve(msg.RequestID, req)
	if resp == nil {
		return nil // it will be answered later
	}
	return c.send(ctx, msg.RequestID, resp)
}

// send answers, with what is wrong with the wire.
func (c *conn) send(ctx context.Context, reqID uint32, resp ua.Response) error {
	t := c.srv.host.TroubleOf(c.srv.instrument)
	if t.Drop || c.dead {
		return nil
	}
	if !c.srv.host.Sleep(ctx, t.Delay+t.Late) {
		return ctx.Err()
	}
	if err := c.tcp.SetWriteDeadline(time.Now().Add(sendTime)); err != nil {
		return err
	}
	if t.Garble {
		_, err := c.tcp.Write(wire.Garble([]byte("MSGF\x20\x00\x00\x00 this was an answer once ")))
		return err
	}
	if t.Wrong {
		resp = mistaken(resp)
	}
	return c.sc.SendResponseWithContext(ctx, reqID, resp)
}

// mistaken is a well-formed answer that does not fit the question: it has one
// result too few.
func mistaken(resp ua.Response) ua.Response {
	switch r := resp.(type) {
	case *ua.ReadResponse:
		r.Results = r.Results[:len(r.Results)-1]
	case *ua.CallResponse:
		r.Results = r.Results[:len(r.Results)-1]
	case *ua.BrowseResponse:
		r.Results = r.Results[:len(r.Results)-1]
	}
	return resp
}
