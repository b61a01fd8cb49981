package faces

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"labgate/lab"
	"labgate/sim"
)

// The control server speaks JSON lines over a unix socket: one request, one
// reply, as often as the client likes.
//
//	{"do":"effects"}
//	{"do":"fault","instrument":"pump_a","name":"freeze","on":true,"args":{…}}
//	{"do":"set","name":"room.airflow","value":0}
//	{"do":"reboot","instrument":"stage"}
//	{"do":"read","instrument":"reactor","component":"jacket","property":"temperature"}
//	{"do":"faults"}
//	{"do":"script","text":"after 10 s: reactor freeze for 5 s"}
//
// A reply is {"ok":true,"result":…} or {"ok":false,"kind":"invalid","error":"…"}.
const (
	controlTime  = 10 * time.Second // for a reply
	controlIdle  = time.Hour        // until a silent client is forgotten
	mostControls = 16               // clients at once
	mostRequest  = 64 << 10         // bytes
)

type request struct {
	Do         string             `json:"do"`
	Instrument string             `json:"instrument,omitempty"`
	Component  string             `json:"component,omitempty"`
	Property   string             `json:"property,omitempty"`
	Name       string             `json:"name,omitempty"`
	On         bool               `json:"on,omitempty"`
	Value      *float64           `json:"value,omitempty"`
	Args       map[string]float64 `json:"args,omitempty"`
	Text       string             `json:"text,omitempty"`
}

// Faults is what can go wrong, and what has.
type Faults struct {
	Known map[string][]string `json:"known"` // by instrument
	On    map[string][]string `json:"on"`
}

type reply struct {
	OK     bool            `json:"ok"`
	Result json.RawMessage `json:"result,omitempty"`
	Kind   lab.Kind        `json:"kind,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// ServeControl serves a desk on a unix socket, which only this user can open,
// until ctx is done; it joins all it has started. A socket that nobody serves
// any more is replaced.
func ServeControl(ctx context.Context, desk *Desk, socketPath string) error {
	if c, err := net.DialTimeout("unix", socketPath, time.Second); err == nil {
		c.Close()
		return fmt.Errorf("control socket %s: somebody serves it", socketPath)
	}
	if info, err := os.Lstat(socketPath); err == nil && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(socketPath); err != nil {
			return fmt.Errorf("control socket: %w", err)
		}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", socketPath)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	defer l.Close()
	if err := os.Chmod(socketPath, 0o600); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { l.Close() })
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	free := make(chan struct{}, mostControls)
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("control socket: %w", err)
		}
		select {
		case free <- struct{}{}:
		default:
			c.Close()
			continue
		}
		clients.Add(1)
		go func() {
			defer clients.Done()
			defer func() { <-free }()
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			serveClient(desk, c)
		}()
	}
}

// serveClient answers until the client leaves, is silent for too long or says
// what is no request.
func serveClient(desk *Desk, c net.Conn) {
	in := bufio.NewScanner(c)
	in.Buffer(nil, mostRequest)
	for {
		if c.SetDeadline(time.Now().Add(controlIdle)) != nil || !in.Scan() {
			return
		}
		if _, err := c.Write(append(desk.Answer(in.Bytes()), '\n')); err != nil {
			return
		}
	}
}

func (d *Desk) handle(line []byte) reply {
	var r request
	if err := strictly(line, &r); err != nil {
		return failure(lab.E("sim: control", "", lab.KindInvalid, err))
	}
	var result any
	var err error
	if r.Do == "script" {
		err = d.script(r.Text)
	} else {
		d.host.With(func(w *sim.World) { result, err = r.do(w) })
	}
	if err != nil {
		return failure(err)
	}
	b, err := json.Marshal(result)
	if err != nil {
		return failure(err)
	}
	return reply{OK: true, Result: b}
}

func (r request) do(w *sim.World) (any, error) {
	switch r.Do {
	case "effects":
		return w.Effects(), nil
	case "fault":
		return nil, w.Fault(r.Instrument, r.Name, r.On, r.Args)
	case "set":
		if r.Value == nil {
			return nil, lab.Ef("sim: set", "", lab.KindInvalid, "there is no value")
		}
		return nil, w.Set(r.Name, *r.Value)
	case "faults":
		return Faults{w.Faults(), w.FaultsOn()}, nil
	case "reboot":
		return nil, w.Fault(r.Instrument, "reboot", true, nil)
	case "read":
		return w.Read(r.Instrument, r.Component, r.Property)
	}
	return nil, lab.E("sim: control", "", lab.KindInvalid, fmt.Errorf("there is no request %q", r.Do))
}

func failure(err error) reply { return reply{Kind: lab.KindOf(err), Error: err.Error()} }

// strictly decodes one JSON document without unknown fields.
func strictly(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one document")
	}
	return nil
}

// Control is a client of a desk. Safe for concurrent use.
type Control struct {
	exchange func(request []byte) ([]byte, error)
	close    func() error
}

// Dial connects to a control server.
func Dial(socketPath string) (*Control, error) {
	c, err := net.DialTimeout("unix", socketPath, controlTime)
	if err != nil {
		return nil, lab.E("sim: control", "", lab.KindUnavailable, err)
	}
	s := &socket{c: c, in: bufio.NewReader(c)}
	return &Control{s.exchange, c.Close}, nil
}

// ControlBy is a client whose requests take another way than the socket.
func ControlBy(exchange func(request []byte) ([]byte, error)) *Control {
	return &Control{exchange, func() error { return nil }}
}

// Close ends the connection.
func (c *Control) Close() error { return c.close() }

// socket is the client's end of a control socket.
type socket struct {
	mu  sync.Mutex
	c   net.Conn
	in  *bufio.Reader
	bad error // once a reply was lost none fits its request any more
}

func (s *socket) exchange(request []byte) (reply []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad == nil {
		s.bad = s.c.SetDeadline(time.Now().Add(controlTime))
	}
	if s.bad == nil {
		_, s.bad = s.c.Write(append(request, '\n'))
	}
	if s.bad == nil {
		reply, s.bad = s.in.ReadBytes('\n')
	}
	return reply, s.bad
}

// Effects is every instrument's count of physical effects.
func (c *Control) Effects() (map[string]sim.Count, error) {
	var out map[string]sim.Count
	err := c.ask(request{Do: "effects"}, &out)
	return out, err
}

// Fault switches a fault on or off.
func (c *Control) Fault(instrument, name string, on bool, args map[string]float64) error {
	return c.ask(request{Do: "fault", Instrument: instrument, Name: name, On: on, Args: args}, nil)
}

// Faults lists what can go wrong, and what has.
func (c *Control) Faults() (Faults, error) {
	var out Faults
	err := c.ask(request{Do: "faults"}, &out)
	return out, err
}

// Script begins to play a script of faults, beside those that are playing.
func (c *Control) Script(text string) error { return c.ask(request{Do: "script", Text: text}, nil) }

// Set turns a knob of the world.
func (c *Control) Set(name string, value float64) error {
	return c.ask(request{Do: "set", Name: name, Value: &value}, nil)
}

// Reboot cycles an instrument's power.
func (c *Control) Reboot(instrument string) error {
	return c.ask(request{Do: "reboot", Instrument: instrument}, nil)
}

// Read is what a sensor reports, faults and all; a missing value where that is
// no finite number.
func (c *Control) Read(instrument, component, property string) (lab.Value, error) {
	var v lab.Value
	err := c.ask(request{Do: "read", Instrument: instrument, Component: component, Property: property}, &v)
	return v, err
}

func (c *Control) ask(r request, into any) error {
	const op = "sim: control"
	b, err := json.Marshal(r)
	if err != nil {
		return lab.E(op, r.Instrument, lab.KindInvalid, err)
	}
	line, err := c.exchange(b)
	if err != nil {
		return lab.E(op, r.Instrument, lab.KindUnavailable, err)
	}
	var got reply
	if err := strictly(line, &got); err != nil {
		return lab.E(op, r.Instrument, lab.KindInternal, err)
	}
	if !got.OK {
		return lab.Ef(op, r.Instrument, got.Kind, got.Error)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(got.Result, into); err != nil {
		return lab.E(op, r.Instrument, lab.KindInternal, err)
	}
	return nil
}
