package serial_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// say is something that a fake device puts on the line.
type say struct {
	after time.Duration // since the message
	text  string
}

// line is the far end of a pty: it answers what arrives, unless a script says
// otherwise, and counts what it did.
type line struct {
	master, tty *os.File
	answer      func(cmd string) string // what a well device does and says; holds mu
	said        func(text string)       // told of every reply; holds mu

	mu     sync.Mutex
	log    []string
	script func(cmd string) (replies []say, ok bool) // ok: instead of answer's words; the deed is done
	gate   sync.RWMutex                              // held for writing: the device reads nothing
	wg     sync.WaitGroup
}

func newLine(t testing.TB, answer func(string) string) *line {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Dup(int(master.Fd())) // pty leaves it in blocking mode, where Close ends no Read
	if err != nil {
		t.Fatal(err)
	}
	master.Close()
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	l := &line{master: os.NewFile(uintptr(fd), "master"), tty: tty, answer: answer}
	l.wg.Add(1)
	go l.run()
	t.Cleanup(l.close)
	return l
}

func (l *line) close() {
	l.master.Close()
	l.tty.Close()
	l.wg.Wait()
}

func (l *line) path() string { return l.tty.Name() }

func (l *line) run() {
	defer l.wg.Done()
	buf := make([]byte, 4096)
	var got []byte
	for {
		n, err := l.master.Read(buf)
		if err != nil {
			return
		}
		l.gate.RLock() // what was read before the gate closed waits here
		got = append(got, buf[:n]...)
		for {
			cmd, rest, ok := strings.Cut(string(got), "\r")
			if !ok {
				break
			}
			got = []byte(rest)
			l.take(cmd)
		}
		l.gate.RUnlock()
	}
}

func (l *line) take(cmd string) {
	if cmd == "" {
		return
	}
	l.mu.Lock()
	l.log = append(l.log, cmd)
	text := l.answer(cmd)
	replies := []say{{0, text}}
	if l.script != nil {
		if r, ok := l.script(cmd); ok {
			replies = r
		}
	}
	for _, r := range replies {
		if l.said != nil {
			l.said(r.text)
		}
	}
	l.mu.Unlock()
	for _, r := range replies {
		if r.after == 0 {
			l.master.WriteString(r.text)
			continue
		}
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			time.Sleep(r.after)
			l.master.WriteString(r.text)
		}()
	}
}

// set gives the line a script.
func (l *line) set(f func(cmd string) ([]say, bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.script = f
}

// once answers one command differently, the first time it comes.
func (l *line) once(cmd string, replies ...say) {
	done := false
	l.set(func(c string) ([]say, bool) {
		if done || c != cmd {
			return nil, false
		}
		done = true
		return replies, true
	})
}

func (l *line) got() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.log...)
}

func (l *line) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = nil
}

// count is how often a message arrived.
func (l *line) count(cmd string) int {
	n := 0
	for _, c := range l.got() {
		if c == cmd {
			n++
		}
	}
	return n
}

// pumps are syringe pumps by address.
type pumps struct {
	*line
	state map[string]*pumpState // by address "00"
}

type pumpState struct {
	running   bool
	reset     bool // an alarm to be told
	ready     bool // DIA was sent since the reset
	volume    string
	dispensed float64
	doses     int
	stops     int
}

func newPumps(t testing.TB, addresses ...string) *pumps {
	p := &pumps{state: map[string]*pumpState{}}
	for _, a := range addresses {
		p.state[a] = &pumpState{}
	}
	p.line = newLine(t, p.reply)
	p.said = func(text string) {
		for addr, s := range p.state {
			if strings.Contains(text, addr+"A?R") {
				s.running = false // whoever says that he was reset does not run
			}
		}
	}
	return p
}

// reply is a well pump. It never finishes a dose by itself: STP does.
func (p *pumps) reply(line string) string {
	if len(line) < 2 {
		return ""
	}
	addr, cmd := line[:2], line[2:]
	s := p.state[addr]
	if s == nil {
		return ""
	}
	if s.reset {
		s.reset = false
		return "\x02" + addr + "A?R\x03" // in place of doing it
	}
	return "\x02" + addr + s.do(cmd) + "\x03"
}

func (s *pumpState) do(cmd string) string {
	status := "S"
	if s.running {
		status = "I"
	}
	switch {
	case cmd == "":
		return status
	case cmd == "VER":
		return status + "NE1000V3.928"
	case cmd == "DIS":
		return fmt.Sprintf("%sI%.3fW0.000ML", status, s.dispensed)
	case cmd == "RAT":
		return status + "6.000MM"
	case cmd == "STP":
		s.stops++
		s.running = false
		return "S"
	case cmd == "RUN":
		if v, err := strconv.ParseFloat(s.volume, 64); err == nil {
			s.doses++
			s.dispensed += v
			s.running = true
		}
		return "I"
	case strings.HasPrefix(cmd, "DIA") && s.running:
		return status + "?NA"
	case strings.HasPrefix(cmd, "DIA"):
		s.ready = true
	case cmd == "VOLML", cmd == "DIRINF", strings.HasPrefix(cmd, "RAT"):
	case strings.HasPrefix(cmd, "VOL"):
		s.volume = cmd[3:]
	default:
		return status + "?"
	}
	return status
}

// see reads a pump's own state.
func (p *pumps) see(addr string) pumpState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return *p.state[addr]
}

// restart makes a pump forget.
func (p *pumps) restart(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*p.state[addr] = pumpState{reset: true, doses: p.state[addr].doses, stops: p.state[addr].stops}
}

// controller is a stage: it arrives at once.
type controller struct {
	*line
	x, y, z string
	moves   int
	halts   int
}

func newController(t testing.TB) *controller {
	c := &controller{x: "0", y: "0", z: "0"}
	c.line = newLine(t, c.reply)
	return c
}

func (c *controller) reply(cmd string) string {
	switch {
	case cmd == "V":
		return ":A Version: USB-9.2n\r\n"
	case cmd == "W X":
		return ":A " + c.x + "\r\n"
	case cmd == "W Y":
		return ":A " + c.y + "\r\n"
	case cmd == "W Z":
		return ":A " + c.z + "\r\n"
	case cmd == "/":
		return "N\r\n"
	case cmd == "\\":
		c.halts++
		return ":A\r\n"
	case strings.HasPrefix(cmd, "M "):
		c.moves++
		if _, err := fmt.Sscanf(cmd, "M X=%s Y=%s Z=%s", &c.x, &c.y, &c.z); err != nil {
			return ":N-3\r\n"
		}
		return ":A\r\n"
	}
	return ":N-1\r\n"
}

func (c *controller) see(f func() int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return f()
}
