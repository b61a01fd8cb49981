package frame

import (
	"bytes"
	"fmt"
)

// MaxFrame bounds what a framer keeps while it waits for the end of a frame,
// in bytes. A longer frame is garbage.
const MaxFrame = 4096

// ends are the names of what begins or ends a line.
var ends = map[string]string{
	"CR": "\r", "LF": "\n", "CRLF": "\r\n", "STX": "\x02", "ETX": "\x03", "EOT": "\x04", "ENQ": "\x05", "ACK": "\x06", "NUL": "\x00",
}

// delimiter reads the name of a line's end, or one printable character that
// stands for itself.
func delimiter(name string) (string, error) {
	if e, ok := ends[name]; ok {
		return e, nil
	}
	if len(name) == 1 && name[0] > ' ' && name[0] < 0x7f {
		return name, nil
	}
	return "", fmt.Errorf("%q is no end of a line: CR, LF, CRLF, STX, ETX, EOT, ENQ, ACK, NUL or one printable character", name)
}

// Piece is what a Framer made of some bytes: a frame without its delimiters,
// or garbage.
type Piece struct {
	Data    []byte
	Garbage bool
}

// Framer cuts a stream of bytes into frames. It keeps at most MaxFrame bytes
// and never loses its place for longer than one frame: a new start begins
// anew, a line that grew too long is skipped to its end. Not safe for
// concurrent use.
type Framer struct {
	start, end string
	buf        []byte
	inside     bool // past a start
	skip       bool // in a line that grew too long
}

// NewFramer makes a framer for [end] or [start, end].
func NewFramer(reply []string) (*Framer, error) {
	f := &Framer{}
	var err error
	switch len(reply) {
	case 2:
		if f.start, err = delimiter(reply[0]); err != nil {
			return nil, err
		}
		if len(f.start) != 1 {
			return nil, fmt.Errorf("a frame starts with one byte, not with %s", reply[0])
		}
	case 1:
	default:
		return nil, fmt.Errorf("a reply has an end, or a start and an end; these are %d", len(reply))
	}
	if f.end, err = delimiter(reply[len(reply)-1]); err != nil {
		return nil, err
	}
	if f.start == f.end {
		return nil, fmt.Errorf("start and end of a reply are the same")
	}
	return f, nil
}

// Push takes bytes as they arrive and returns what they complete, in order.
func (f *Framer) Push(p []byte) []Piece {
	var out []Piece
	for _, c := range p {
		out = f.push(out, c)
	}
	if f.start != "" && !f.inside {
		out = f.garbage(out) // what stands outside belongs to no frame that could still come
	}
	return out
}

func (f *Framer) push(out []Piece, c byte) []Piece {
	if f.start != "" && c == f.start[0] {
		out = f.garbage(out) // half a frame, or noise before one
		f.inside, f.buf = true, append(f.buf, c)
		return out
	}
	f.buf = append(f.buf, c)
	switch {
	case f.start != "" && !f.inside:
	case bytes.HasSuffix(f.buf, []byte(f.end)):
		whole := f.buf
		data := whole[len(f.start) : len(whole)-len(f.end)]
		f.buf, f.inside = nil, false
		if f.skip || len(data) == 0 {
			f.skip = false
			return append(out, Piece{whole, true})
		}
		return append(out, Piece{data, false})
	}
	if len(f.buf) < MaxFrame {
		return out
	}
	keep := 0
	if f.start == "" { // the end may be cut in two; the rest of the line is none
		f.skip, keep = true, len(f.end)-1
	}
	f.inside = false
	tail := append([]byte(nil), f.buf[len(f.buf)-keep:]...)
	out = append(out, Piece{f.buf[:len(f.buf)-keep], true})
	f.buf = tail
	return out
}

func (f *Framer) garbage(out []Piece) []Piece {
	if len(f.buf) > 0 {
		out = append(out, Piece{f.buf, true})
	}
	f.buf, f.inside = nil, false
	return out
}

// Pending is how many bytes wait for the rest of their frame.
func (f *Framer) Pending() int { return len(f.buf) }

// Reset forgets a frame that has begun and returns its bytes.
func (f *Framer) Reset() []byte {
	b := f.buf
	f.buf, f.inside, f.skip = nil, false, false
	return b
}
