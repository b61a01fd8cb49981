package serial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"

	"labgate/sim"
	"labgate/sim/faces/wire"
)

const (
	mostCommand = 80 // bytes; what is longer is not understood
	mostHeld    = 16 // answers that come late; more are lost
	heldChunks  = 16 // of what was read and not yet looked at
)

// device is what hangs on a line, as a table from commands to answers.
type device interface {
	// answer acts on one command, without its CR. An empty answer is silence:
	// nobody is addressed. Too long a command is cut off and not to be acted
	// on.
	answer(w *sim.World, command []byte, tooLong bool) answer
	// mistaken is a well-formed answer that belongs to something else.
	mistaken(a answer) []byte
}

type answer struct {
	instrument string
	data       []byte
}

// Line is one serial line with its devices.
type Line struct {
	host   *wire.Host
	device device
	delay  time.Duration // from a command's end to its answer
	path   string

	master, slave *os.File
	late          []lateAnswer // owned by act
	done          sync.WaitGroup
	readErr       error // set before the reader ends
	writeErr      error // set before the actor ends
}

type lateAnswer struct {
	due  time.Time
	data []byte
}

// Pumps puts pump_a, pump_b and quench on a line, at the addresses 0, 1 and 2.
func Pumps(ctx context.Context, h *wire.Host) (*Line, error) {
	return open(ctx, h, newPumps("pump_a", "pump_b", "quench"), 3*time.Millisecond)
}

// Stage puts the stage on a line of its own.
func Stage(ctx context.Context, h *wire.Host) (*Line, error) {
	return open(ctx, h, &controller{}, 2*time.Millisecond)
}

// Path is where the near end is to be opened.
func (l *Line) Path() string { return l.path }

// Wait joins the line's goroutines after its context is done.
func (l *Line) Wait() error {
	l.done.Wait()
	return errors.Join(l.readErr, l.writeErr)
}

func open(ctx context.Context, h *wire.Host, d device, delay time.Duration) (*Line, error) {
	master, slave, err := openPair()
	if err != nil {
		return nil, fmt.Errorf("open a pseudo terminal: %w", err)
	}
	l := &Line{host: h, device: d, delay: delay, path: slave.Name(), master: master, slave: slave}
	heard := make(chan []byte, heldChunks)
	ctx, cancel := context.WithCancel(ctx)
	l.done.Add(2)
	go func() {
		defer l.done.Done()
		defer cancel() // a line that cannot be read is of no use
		l.read(ctx, heard)
	}()
	go func() {
		defer l.done.Done()
		defer l.slave.Close()
		defer l.master.Close() // this is what ends the reader
		defer cancel()
		l.act(ctx, heard)
	}()
	return l, nil
}

// openPair opens a pseudo terminal without echo and line editing, whose master
// end can be closed while it is being read.
func openPair() (master, slave *os.File, err error) {
	blocking, slave, err := pty.Open()
	if err != nil {
		return nil, nil, err
	}
	defer blocking.Close()
	if _, err = term.MakeRaw(int(slave.Fd())); err != nil {
		return nil, nil, errors.Join(err, slave.Close())
	}
	fd, err := syscall.Dup(int(blocking.Fd()))
	if err != nil {
		return nil, nil, errors.Join(err, slave.Close())
	}
	syscall.CloseOnExec(fd)
	if err = syscall.SetNonblock(fd, true); err != nil {
		return nil, nil, errors.Join(err, syscall.Close(fd), slave.Close())
	}
	return os.NewFile(uintptr(fd), blocking.Name()), slave, nil
}

func (l *Line) read(ctx context.Context, heard chan<- []byte) {
	for {
		buf := make([]byte, 256)
		n, err := l.master.Read(buf)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, fs.ErrClosed) {
				l.readErr = fmt.Errorf("line %s: %w", l.path, err)
			}
			return
		}
		select {
		case heard <- buf[:n]:
		case <-ctx.Done():
			return
		}
	}
}

// act owns the devices and everything that is said on the line.
func (l *Line) act(ctx context.Context, heard <-chan []byte) {
	var in splitter
	for {
		var due <-chan time.Time
		if at, ok := l.nextLate(); ok {
			due = l.host.At(at)
		}
		select {
		case <-ctx.Done():
			return
		case <-due:
			if !l.sayLate() {
				return
			}
		case b := <-heard:
			for _, c := range b {
				command, tooLong, ok := in.next(c)
				if ok && !l.handle(ctx, command, tooLong) {
					return
				}
			}
		}
	}
}

// handle acts on one command and says the answer; false when the line is gone.
func (l *Line) handle(ctx context.Context, command []byte, tooLong bool) bool {
	var a answer
	l.host.With(func(w *sim.World) { a = l.device.answer(w, command, tooLong) })
	if a.instrument == "" || len(a.data) == 0 {
		return true
	}
	t := l.host.TroubleOf(a.instrument)
	if t.Frozen || t.Drop || t.HalfOpen {
		return true
	}
	data := a.data
	if t.Wrong {
		data = l.device.mistaken(a)
	}
	if t.Garble {
		data = wire.Garble(data)
	}
	if t.Late > 0 {
		if len(l.late) < mostHeld {
			l.late = append(l.late, lateAnswer{l.host.Now().Add(t.Late), data})
		}
		return true
	}
	return l.host.Sleep(ctx, l.delay+t.Delay) && l.say(data)
}

func (l *Line) nextLate() (time.Time, bool) {
	if len(l.late) == 0 {
		return time.Time{}, false
	}
	first := l.late[0].due
	for _, a := range l.late {
		if a.due.Before(first) {
			first = a.due
		}
	}
	return first, true
}

func (l *Line) sayLate() bool {
	now, kept := l.host.Now(), l.late[:0]
	for _, a := range l.late {
		if a.due.After(now) {
			kept = append(kept, a)
		} else if !l.say(a.data) {
			return false
		}
	}
	l.late = kept
	return true
}

func (l *Line) say(data []byte) bool {
	// Nobody may be there to read: what does not fit into the terminal's
	// buffer within this time is lost, as on a real line.
	if err := l.master.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		l.writeErr = fmt.Errorf("line %s: %w", l.path, err)
		return false
	}
	if _, err := l.master.Write(data); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		l.writeErr = fmt.Errorf("line %s: %w", l.path, err)
		return false
	}
	return true
}

// splitter cuts a stream of bytes into commands that end in CR. LF and other
// control bytes are noise. The zero splitter is ready.
type splitter struct {
	buf     []byte
	tooLong bool
}

// next takes one byte; ok when it ended a command. The command is valid until
// the next call.
func (s *splitter) next(c byte) (command []byte, tooLong, ok bool) {
	switch {
	case c == '\r':
		command, tooLong = s.buf, s.tooLong
		s.buf, s.tooLong = nil, false
		return command, tooLong, true
	case c < ' ' || c > '~':
	case len(s.buf) >= mostCommand:
		s.tooLong = true
	default:
		s.buf = append(s.buf, c)
	}
	return nil, false, false
}
