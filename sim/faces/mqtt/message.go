package mqtt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

const (
	mostCommand = 16 << 10         // bytes of a command
	mostID      = 64               // bytes of an id
	farthest    = 10 * time.Minute // how long a command may be valid
)

// command is what a device was asked.
type command struct {
	ID      string                     `json:"id"`
	Command string                     `json:"command"`
	Args    map[string]json.RawMessage `json:"args"`
	Expires time.Time                  `json:"expires"`
}

// readCommand decodes a command. Where the id could be read it is set even if
// the rest is bad, so that the refusal can be addressed.
func readCommand(b []byte) (command, error) {
	var c command
	if len(b) > mostCommand {
		return c, errors.New("too long")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(&c)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("more than one document")
		}
	}
	if !validID(c.ID) {
		c.ID = ""
		return c, errors.New("no usable id")
	}
	switch {
	case err != nil:
		return c, fmt.Errorf("not a command: %w", err)
	case c.Command == "":
		return c, errors.New("no command")
	case c.Expires.IsZero():
		return c, errors.New("no expiry")
	}
	return c, nil
}

// validID reports whether an id can stand in a topic's last level.
func validID(id string) bool {
	if id == "" || len(id) > mostID {
		return false
	}
	for _, c := range []byte(id) {
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
		if !ok {
			return false
		}
	}
	return true
}

// number is the only argument of a command; any other name, and any other
// type, is an error.
func (c command) number(key string) (float64, error) {
	for k := range c.Args {
		if k != key {
			return 0, fmt.Errorf("unknown argument %q", k)
		}
	}
	raw, ok := c.Args[key]
	if !ok {
		return 0, fmt.Errorf("argument %s is missing", key)
	}
	var v *float64
	if err := json.Unmarshal(raw, &v); err != nil || v == nil {
		return 0, fmt.Errorf("argument %s is not a number", key)
	}
	return *v, nil
}

// none checks that a command has no arguments.
func (c command) none() error {
	for k := range c.Args {
		return fmt.Errorf("unknown argument %q", k)
	}
	return nil
}

// ack is what a device answers.
type ack struct {
	ID     string         `json:"id"`
	OK     bool           `json:"ok"`
	Result map[string]any `json:"result,omitempty"`
	Error  string         `json:"error,omitempty"`
}

// finite is a number in JSON: null where a sensor is broken.
func finite(v float64) any {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return v
}
