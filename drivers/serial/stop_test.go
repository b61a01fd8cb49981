package serial_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"labgate/drivers/drivertest"
	"labgate/lab"
)

// A stop does not wait for a late reply, and trusts no answer while one may
// come.
func TestStopOnADoubtfulLine(t *testing.T) {
	p := newPumps(t, "00")
	l := open(t, nil, pump("pump_a", p.path(), "0"))
	connect(t, l)
	p.once("00RUN")
	cmd := dose("pump_a")
	if _, err := l.Exchange(within(t), cmd, permit(t, l, cmd)); lab.KindOf(err) != lab.KindOutcomeUnknown {
		t.Fatal(err)
	}
	start := time.Now()
	res, err := l.Stop(within(t), stopOrder(t, "pump_a", "pump", "stop"))
	if err != nil || res.Acked {
		t.Errorf("stop: %+v, %v", res, err)
	}
	if d := res.Sent.Sub(start); d > replyWithin/2 {
		t.Errorf("it left after %v", d)
	}
	if p.see("00").running || p.see("00").stops != 1 {
		t.Errorf("%+v", p.see("00"))
	}
}

// A stop is sent again where it is not answered; three times, then it is
// unknown.
func TestStopTries(t *testing.T) {
	for _, c := range []struct {
		name  string
		fails int
		reply []say
		sent  int
		kind  lab.Kind
	}{
		{"garbage once", 1, []say{{0, "\x0200##\x03"}}, 2, 0},
		{"silence twice", 2, nil, 3, 0},
		{"silence", 9, nil, 3, lab.KindOutcomeUnknown},
		{"a reset first", 1, []say{{0, "\x0200A?R\x03"}}, 2, 0},
		{"refused", 9, []say{{0, "\x0200S?NA\x03"}}, 3, lab.KindDeviceRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPumps(t, "00")
			l := open(t, nil, pump("pump_a", p.path(), "0"))
			connect(t, l)
			n := 0
			p.set(func(cmd string) ([]say, bool) {
				if cmd == "00STP" {
					n++
				}
				return c.reply, cmd == "00STP" && n <= c.fails
			})
			_, err := l.Stop(within(t), stopOrder(t, "pump_a", "pump", "stop"))
			if (err == nil) != (c.kind == 0) || err != nil && lab.KindOf(err) != c.kind {
				t.Errorf("%v, want %v", err, c.kind)
			}
			if got := p.count("00STP"); got != c.sent {
				t.Errorf("sent %d times, want %d", got, c.sent)
			}
			if c.name == "a reset first" && !strings.HasSuffix(strings.Join(p.got(), " "), "00STP 00STP 00DIA14.43 00VOLML") {
				t.Errorf("sent %v", p.got())
			}
		})
	}
}

func TestStopWithoutConnection(t *testing.T) {
	p := newPumps(t, "00")
	p.state["00"].running = true
	l := open(t, nil, pump("pump_a", p.path(), "0"))
	if res, err := l.Stop(within(t), stopOrder(t, "pump_a", "pump", "stop")); err != nil || !res.Acked {
		t.Errorf("%+v, %v", res, err)
	}
	if got := strings.Join(p.got(), " "); got != "00STP" {
		t.Errorf("sent %s", got)
	}
}

// A line that takes no bytes is given up, the effect with it; the stop opens it
// anew and comes first.
func TestWedgedWrite(t *testing.T) {
	p, sink := newPumps(t, "00"), &drivertest.Sink{}
	l := open(t, sink, pump("pump_a", p.path(), "0"))
	connect(t, l)
	epoch := l.Epoch("pump_a")
	p.gate.Lock()
	fd, err := syscall.Open(p.path(), syscall.O_WRONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	full := 0
	drivertest.Eventually(t, "the line is full", func() bool { // the device's last read is on its way to the gate
		for _, n := range []int{1000, 100, 10, 1} {
			if _, err := syscall.Write(fd, []byte(strings.Repeat("\r", n))); err != syscall.EAGAIN {
				full = 0
				return false
			}
		}
		full++
		return full > 5
	})
	p.forget()
	cmd := dose("pump_a")
	start := time.Now()
	_, err = l.Exchange(within(t), cmd, permit(t, l, cmd))
	if lab.KindOf(err) != lab.KindNotSent || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) > 2*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	if _, err := l.Read(within(t), "pump_a", props("pump_a", "pump", "running")); lab.KindOf(err) != lab.KindUnavailable {
		t.Errorf("read: %v", err)
	}
	if s := sink.Losses(); len(s) != 1 || s[0].Instrument != "" {
		t.Errorf("losses %v", s)
	}
	p.gate.Unlock()
	if _, err := l.Stop(within(t), stopOrder(t, "pump_a", "pump", "stop")); err != nil {
		t.Errorf("stop: %v", err)
	}
	if got := strings.Join(p.got(), " "); !strings.HasPrefix(got, "00STP") || strings.Contains(got, "DIR") {
		t.Errorf("arrived: %s", got)
	}
	connect(t, l)
	if l.Epoch("pump_a") <= epoch || p.see("00").doses != 0 || read(t, l, props("pump_a", "pump", "running")) != "false good" {
		t.Errorf("epoch %d after %d, %+v", l.Epoch("pump_a"), epoch, p.see("00"))
	}
}
