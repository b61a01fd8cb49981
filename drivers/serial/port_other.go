//go:build !unix

package serial

import (
	"context"
	"errors"
	"time"

	"labgate/lab"
)

var errNoLines = errors.New("serial lines need an operating system with file locks and terminal deadlines")

// port stands for a line on systems where none can be opened.
type port struct{}

func openPort(string, int) (*port, error) {
	return nil, lab.E("drivers/serial: open", "", lab.KindUnavailable, errNoLines)
}

func (*port) read(context.Context, []byte, time.Time) (int, error) { return 0, errNoLines }
func (*port) poll([]byte) (int, error)                             { return 0, errNoLines }
func (*port) write([]byte, time.Time) (int, error)                 { return 0, errNoLines }
func (*port) wake() error                                          { return errNoLines }
func (*port) discard() error                                       { return errNoLines }
func (*port) close() error                                         { return errNoLines }
