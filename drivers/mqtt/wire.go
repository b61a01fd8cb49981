package mqtt

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
)

// maxPacket is the longest MQTT packet that is taken: a blob and its topic.
// The client library itself would reserve up to 256 MiB at a sender's word.
const maxPacket = maxBlob + 4096

// wire is the connection to the broker. It counts what is written, cuts
// itself at a packet that is too long, and can be severed at any time.
type wire struct {
	net.Conn
	r       *bufio.Reader
	written atomic.Int64

	left   int    // bytes of the packet under way that were not yet read
	head   int    // bytes of its header that were read: 0 between packets
	length uint32 // its length, as far as read
}

// open connects to a broker: tcp or mqtt without, tls or mqtts with TLS.
func open(ctx context.Context, u *url.URL, secure *tls.Config) (*wire, error) {
	var d net.Dialer
	var conn net.Conn
	var err error
	switch u.Scheme {
	case "tcp", "mqtt":
		conn, err = d.DialContext(ctx, "tcp", u.Host)
	case "tls", "mqtts", "ssl":
		t := tls.Dialer{NetDialer: &d, Config: secure}
		conn, err = t.DialContext(ctx, "tcp", u.Host)
	default:
		return nil, fmt.Errorf("the broker's URL begins with %q; tcp or tls is wanted", u.Scheme)
	}
	if err != nil {
		return nil, err
	}
	return newWire(conn), nil
}

func newWire(c net.Conn) *wire { return &wire{Conn: c, r: bufio.NewReaderSize(c, 16<<10)} }

// Read follows the packets' headers (MQTT 3.1.1, 2.2.3) to refuse a long one
// before anybody reserves room for it.
func (w *wire) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if w.left == 0 { // within a header: one byte at a time
		b = b[:1]
	} else if len(b) > w.left {
		b = b[:w.left]
	}
	n, err := w.r.Read(b)
	if n == 0 {
		return n, err
	}
	if w.left > 0 {
		w.left -= n
		return n, err
	}
	w.head++
	if w.head == 1 { // type and flags
		w.length = 0
		return n, err
	}
	w.length |= uint32(b[0]&0x7f) << (7 * (w.head - 2))
	switch {
	case b[0]&0x80 != 0 && w.head == 5:
		return 0, fmt.Errorf("a packet's length has more than four bytes")
	case b[0]&0x80 != 0:
		return n, err
	case w.length > maxPacket:
		return 0, fmt.Errorf("a packet of %d bytes; at most %d are taken", w.length, maxPacket)
	}
	w.left, w.head = int(w.length), 0
	return n, err
}

// Write counts what may leave, before it does: whoever severs the connection
// and then finds the count unchanged knows that nothing left.
func (w *wire) Write(b []byte) (int, error) {
	w.written.Add(int64(len(b)))
	return w.Conn.Write(b)
}

// sever ends the connection at once; what still waits in the kernel is thrown
// away, so that no command leaves after its time.
func (w *wire) sever() {
	c := w.Conn
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // fails only where it is closed
	}
	_ = c.Close() // likewise
}
