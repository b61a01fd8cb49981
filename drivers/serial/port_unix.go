//go:build unix

package serial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"go.bug.st/serial"

	"labgate/lab"
)

// past is a deadline that has gone by.
var past = time.Unix(1, 0)

// port is an open line. Reads and writes go through file, whose deadlines
// work; line holds the settings and can empty the output.
type port struct {
	path string
	file *os.File
	raw  syscall.RawConn
	line serial.Port
}

// openPort opens and claims a line: 8 bits, no parity, one stop bit.
//
// A library handle alone would not do: its writes have no timeout, and a
// second open succeeds for root.
func openPort(path string, baud int) (_ *port, err error) {
	const op = "drivers/serial: open"
	file, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, lab.E(op, "", lab.KindUnavailable, err)
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, lab.E(op, "", lab.KindUnavailable, err)
	}
	var lockErr error
	if err := raw.Control(func(fd uintptr) { lockErr = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB) }); err != nil {
		return nil, lab.E(op, "", lab.KindUnavailable, err)
	}
	if lockErr != nil {
		return nil, lab.E(op, "", lab.KindConflict, fmt.Errorf("%s has another owner: %w", path, lockErr))
	}
	line, err := serial.Open(path, &serial.Mode{BaudRate: baud})
	if err != nil {
		return nil, lab.E(op, "", lab.KindUnavailable, fmt.Errorf("%s: %w", path, err))
	}
	if err := file.SetDeadline(time.Time{}); err != nil {
		line.Close()
		return nil, lab.E(op, "", lab.KindUnavailable, fmt.Errorf("%s is no line that can be waited for: %w", path, err))
	}
	return &port{path, file, raw, line}, nil
}

// read waits for bytes until a moment. No bytes and no error means that the
// moment came.
func (p *port) read(ctx context.Context, buf []byte, until time.Time) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := p.file.SetReadDeadline(until); err != nil {
		return 0, err
	}
	if ctx.Done() != nil {
		woken := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(woken)
			_ = p.file.SetReadDeadline(past) // fails only on a closed file, which wakes as well
		})
		defer func() {
			if !stop() {
				<-woken
			}
		}()
	}
	n, err := p.file.Read(buf)
	switch {
	case n > 0:
		return n, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, ctx.Err()
	case err == io.EOF:
		return 0, fmt.Errorf("%s was unplugged", p.path)
	}
	return 0, err
}

// poll reads what has already arrived.
func (p *port) poll(buf []byte) (n int, err error) {
	if err := p.file.SetReadDeadline(time.Time{}); err != nil {
		return 0, err
	}
	var readErr error
	err = p.raw.Read(func(fd uintptr) bool {
		n, readErr = syscall.Read(int(fd), buf)
		return true // never wait
	})
	switch {
	case err != nil:
		return 0, err
	case readErr == syscall.EAGAIN || readErr == syscall.EINTR:
		return 0, nil
	case readErr != nil:
		return 0, readErr
	case n == 0:
		return 0, fmt.Errorf("%s was unplugged", p.path)
	}
	return n, nil
}

// write hands bytes to the line until a moment; n is how many it took.
func (p *port) write(b []byte, until time.Time) (n int, err error) {
	if err := p.file.SetWriteDeadline(until); err != nil {
		return 0, err
	}
	return p.file.Write(b)
}

// wake ends a read or write under way and closes the file. Safe for concurrent
// use; close must follow.
func (p *port) wake() error { return p.file.Close() }

// discard drops what was written and has not gone out. It comes before the
// close of a line that does not move: closing would wait for it.
func (p *port) discard() error { return p.line.ResetOutputBuffer() }

// close gives the line up.
func (p *port) close() error {
	err := p.file.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil // wake was here
	}
	return errors.Join(err, p.line.Close())
}
