package service

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
)

// The control socket takes one JSON document a line (a Stop, or a Control
// with action status) and answers each with one line. It needs no bus. Who
// may open the socket's file may stop.

const (
	socketLine  = 64 << 10        // bytes
	socketIdle  = 2 * time.Second // for the next line to come, and for an answer to be taken
	acceptAgain = 50 * time.Millisecond
)

// listenControl serves the local socket. The returned function removes it.
func (s *Service) listenControl(ctx context.Context, start func(func(context.Context))) (func(), error) {
	path := s.o.ControlSocket
	if path == "" {
		return func() {}, nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // left behind by a kill; the journal's lock shows that nobody uses it
		return nil, lab.E("gateway/service: control socket", "", lab.KindUnavailable, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, lab.E("gateway/service: control socket", "", lab.KindUnavailable, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	start(func(ctx context.Context) { s.acceptControl(ctx, l) })
	return func() { _ = l.Close() }, nil
}

func (s *Service) acceptControl(ctx context.Context, l net.Listener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	slots := make(chan struct{}, 16) // connections at once
	for ctx.Err() == nil {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files, perhaps: that passes, and then a stop must get through
			s.o.Log(fmt.Sprintf("control socket: %v", err))
			select {
			case <-ctx.Done():
			case <-time.After(acceptAgain):
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = conn.Close() // full: the client sees the end and tries again
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() { <-slots }()
			s.serveControl(ctx, conn)
		}()
	}
}

func (s *Service) serveControl(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	in := bufio.NewScanner(conn)
	in.Buffer(nil, socketLine)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(socketIdle)); err != nil || !in.Scan() {
			return // gone, or silent: its place is wanted
		}
		answer := make(chan any, 1)
		reply := replyFunc(func(doc any) { answer <- doc })
		var kind struct{ Kind, Action string }
		if err := json.Unmarshal(in.Bytes(), &kind); err != nil {
			reply(messages.ControlReply{Say: fmt.Sprintf("not a document: %v", err)})
		} else {
			s.controlLine(kind.Kind, kind.Action, in.Bytes(), reply)
		}
		select {
		case <-ctx.Done():
			return
		case doc := <-answer:
			err := conn.SetWriteDeadline(time.Now().Add(socketIdle))
			if err == nil {
				_, err = conn.Write(append(messages.Body(doc), '\n'))
			}
			if err != nil {
				return
			}
		}
	}
}

func (s *Service) controlLine(kind, action string, line []byte, reply replyFunc) {
	switch {
	case kind == messages.KindStop:
		var r messages.Stop
		_ = messages.Decode(line, &r) // as on the bus: a stop is a stop
		if r.Principal == "" {
			r.Principal = "local"
		}
		s.stops.Put(gateway.StopAsked{ID: r.ID, Instrument: r.Instrument, Principal: r.Principal, Reason: r.Reason, Reply: reply})
	case kind == messages.KindControl && action == messages.ControlStatus:
		s.events.Put(gateway.StatusAsked{Reply: reply})
	default:
		reply(messages.ControlReply{Say: "the local socket takes stop and status"})
	}
}

// AskLocal sends one document to a gateway's control socket and reads the
// answer.
func AskLocal(ctx context.Context, path string, document, answer any) error {
	const op = "gateway/service: control socket"
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return lab.E(op, "", lab.KindUnavailable, err)
	}
	defer conn.Close()
	if t, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(t) // a connection that can't take one fails below
	}
	if _, err := conn.Write(append(messages.Body(document), '\n')); err != nil {
		return lab.E(op, "", lab.KindOutcomeUnknown, err)
	}
	in := bufio.NewScanner(conn)
	in.Buffer(nil, 1<<20)
	if !in.Scan() {
		return lab.E(op, "", lab.KindOutcomeUnknown, errors.Join(errors.New("no answer"), in.Err()))
	}
	if err := json.Unmarshal(in.Bytes(), answer); err != nil {
		return lab.E(op, "", lab.KindInternal, err)
	}
	return nil
}
