package opcua

import (
	"errors"
	"sync"
	"syscall"
)

// socket is a handle on the TCP connection that the client library owns, so
// that the Link can cut it: the library offers no way to close a connection
// without first talking on it, which a frozen server never answers.
type socket struct {
	mu  sync.Mutex
	raw syscall.RawConn
	cut bool
}

// control is a net.Dialer's Control: it sees the socket before it connects.
func (s *socket) control(_, _ string, raw syscall.RawConn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return errors.New("closed")
	}
	s.raw = raw
	return nil
}

// sever ends the connection at once: pending reads and writes fail, and what
// still waits in the kernel's send buffer is thrown away when the library
// closes its end. Safe to call at any time and more than once.
func (s *socket) sever() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
	if s.raw == nil {
		return
	}
	// Errors mean that the socket is closed or never connected: as wanted.
	_ = s.raw.Control(shutdown)
}
