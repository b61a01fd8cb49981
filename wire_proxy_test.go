package main

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"
)

// proxy stands on the wire between a driver and what it drives, and does to
// the bytes what cables, switches and adapters do. What comes from the device
// is "back".
type proxy struct {
	address string        // where the driver connects
	target  func() string // where the device is, asked for each connection

	mu    sync.Mutex
	pairs map[*pair]bool
	done  sync.WaitGroup
	stop  func()

	hold   atomic.Bool  // nothing passes; it is kept and passes later
	lose   atomic.Bool  // what comes back is thrown away
	refuse atomic.Bool  // new connections are reset at once
	late   atomic.Int64 // nanoseconds by which what comes back is delayed
	spoil  atomic.Int32 // so many chunks that come back have a wrong byte
	cut    atomic.Int32 // so many chunks that come back are cut in half
	twice  atomic.Int32 // so many chunks that come back come twice
}

// pair is one connection and its other half.
type pair struct {
	driver, device io.ReadWriteCloser
	dead           atomic.Bool // half-open for good
}

// pass copies one way until an end is closed.
func (p *proxy) pass(q *pair, from, to io.ReadWriteCloser, back bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		for p.hold.Load() && !q.dead.Load() && p.alive(q) {
			time.Sleep(2 * time.Millisecond)
		}
		if n > 0 && !q.dead.Load() && !(back && p.lose.Load()) {
			b := buf[:n]
			if back {
				b = p.harm(b)
			}
			if _, werr := to.Write(b); err == nil {
				err = werr
			}
		}
		if err != nil {
			p.end(q)
			return
		}
	}
}

// harm does what is switched on to one chunk.
func (p *proxy) harm(b []byte) []byte {
	if d := p.late.Load(); d > 0 {
		time.Sleep(time.Duration(d))
	}
	if take(&p.spoil) {
		b[len(b)/2] ^= 0x15
	}
	if take(&p.cut) {
		b = b[:(len(b)+1)/2]
	}
	if take(&p.twice) {
		b = append(append([]byte{}, b...), b...)
	}
	return b
}

// take uses one up, if there is one.
func take(n *atomic.Int32) bool {
	for {
		v := n.Load()
		if v <= 0 {
			return false
		}
		if n.CompareAndSwap(v, v-1) {
			return true
		}
	}
}

func (p *proxy) add(q *pair) {
	p.mu.Lock()
	p.pairs[q] = true
	p.mu.Unlock()
	p.done.Add(2)
	go func() { defer p.done.Done(); p.pass(q, q.driver, q.device, false) }()
	go func() { defer p.done.Done(); p.pass(q, q.device, q.driver, true) }()
}

func (p *proxy) alive(q *pair) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pairs[q]
}

// end closes both halves. A half-open one stays as it is for the driver.
func (p *proxy) end(q *pair) {
	p.mu.Lock()
	known := p.pairs[q]
	delete(p.pairs, q)
	p.mu.Unlock()
	if known {
		_ = errors.Join(q.driver.Close(), q.device.Close()) // one of them is broken already
	}
}

func (p *proxy) all() []*pair {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*pair
	for q := range p.pairs {
		list = append(list, q)
	}
	return list
}

// reset breaks every connection the hard way.
func (p *proxy) reset() {
	for _, q := range p.all() {
		for _, c := range []io.ReadWriteCloser{q.driver, q.device} {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // closed already, if it fails
			}
		}
		p.end(q)
	}
}

// halfOpen makes every connection one that carries nothing any more.
func (p *proxy) halfOpen() {
	for _, q := range p.all() {
		q.dead.Store(true)
	}
}

// inject sends the driver what the device never said.
func (p *proxy) inject(b []byte) error {
	for _, q := range p.all() {
		if _, err := q.driver.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// heal ends all that is switched on.
func (p *proxy) heal() {
	for _, b := range []*atomic.Bool{&p.hold, &p.lose, &p.refuse} {
		b.Store(false)
	}
	p.late.Store(0)
	for _, n := range []*atomic.Int32{&p.spoil, &p.cut, &p.twice} {
		n.Store(0)
	}
}

// tcpProxy proxies TCP connections to wherever target says.
func tcpProxy(t testing.TB, target func() string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{address: l.Addr().String(), target: target, pairs: map[*pair]bool{}, stop: func() { _ = l.Close() }}
	p.done.Add(1)
	go func() {
		defer p.done.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			device, err := net.DialTimeout("tcp", p.target(), time.Second)
			if err != nil || p.refuse.Load() {
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
				if err == nil {
					_ = device.Close()
				}
				continue
			}
			p.add(&pair{driver: c, device: device})
		}
	}()
	t.Cleanup(p.close)
	return p
}

// close ends it all and joins its goroutines.
func (p *proxy) close() {
	p.stop()
	for _, q := range p.all() {
		p.end(q)
	}
	p.done.Wait()
}

// ptyProxy proxies a serial line: the driver opens one pseudo terminal, the
// proxy the device's.
func ptyProxy(t testing.TB, target func() string) *proxy {
	t.Helper()
	p := &proxy{target: target, pairs: map[*pair]bool{}, stop: func() {}}
	p.plug(t)
	t.Cleanup(p.close)
	return p
}

// unplug takes the line away. Its path may be anybody's from now on.
func (p *proxy) unplug() {
	p.mu.Lock()
	p.address = ""
	p.mu.Unlock()
	p.reset()
}

// plug makes a new line, at another path than the last one.
func (p *proxy) plug(t testing.TB) {
	t.Helper()
	device, err := os.OpenFile(p.target(), os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	blocking, line, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := term.MakeRaw(int(line.Fd())); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Dup(int(blocking.Fd()))
	if err == nil {
		err = syscall.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(fd)
	_ = blocking.Close()
	p.mu.Lock()
	p.address = line.Name()
	p.mu.Unlock()
	p.add(&pair{driver: &lineEnd{os.NewFile(uintptr(fd), "master"), line}, device: device})
}

// at is the line's path now.
func (p *proxy) at() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.address
}

// lineEnd is the proxy's end of a line. It keeps the driver's end open too, so
// that the line is there between two owners.
type lineEnd struct {
	*os.File
	line *os.File
}

func (l *lineEnd) Close() error { return errors.Join(l.File.Close(), l.line.Close()) }
