package serial_test

import (
	"context"
	"math"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"labgate/lab"
	"labgate/sim"
	"labgate/sim/faces/serial"
	"labgate/sim/faces/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type clock struct{}

func (clock) Now() time.Time { return time.Now() }
func (clock) At(t time.Time) <-chan time.Time {
	return time.After(time.Until(t))
}

var _ lab.Clock = clock{}

// port is the near end of a line, as a terminal program has it.
type port struct {
	t    *testing.T
	host *wire.Host
	f    *os.File
	path string
}

func open(t *testing.T, make func(context.Context, *wire.Host) (*serial.Line, error)) *port {
	t.Helper()
	host := wire.NewHost(sim.NewDemo(7, time.Now()), clock{})
	ctx, cancel := context.WithCancel(context.Background())
	line, err := make(ctx, host)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	p := &port{t: t, host: host, path: line.Path()}
	p.reopen()
	t.Cleanup(func() {
		p.f.Close()
		cancel()
		if err := line.Wait(); err != nil {
			t.Errorf("the line ended badly: %v", err)
		}
	})
	return p
}

func (p *port) reopen() {
	p.t.Helper()
	if p.f != nil {
		p.f.Close()
	}
	f, err := os.OpenFile(p.path, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	p.f = f
}

func (p *port) write(s string) {
	p.t.Helper()
	if _, err := p.f.WriteString(s); err != nil {
		p.t.Fatal(err)
	}
}

// read takes bytes until they end in end or the time is over.
func (p *port) read(end string, within time.Duration) string {
	p.t.Helper()
	if err := p.f.SetReadDeadline(time.Now().Add(within)); err != nil {
		p.t.Fatal(err)
	}
	var got []byte
	one := make([]byte, 1)
	for len(got) == 0 || !strings.HasSuffix(string(got), end) {
		n, err := p.f.Read(one)
		got = append(got, one[:n]...)
		if err != nil {
			break
		}
	}
	return string(got)
}

func (p *port) expect(end, send, want string) {
	p.t.Helper()
	p.write(send)
	if got := p.read(end, patience); got != want {
		p.t.Fatalf("sent %q: got %q, want %q", send, got, want)
	}
}

// patience is for what must come: a loaded machine is slow, not wrong.
const patience = 20 * time.Second

// silent sends what is not answered. A line takes commands in their order, so
// the answer of another pump, and nothing before it, shows both that the
// command was taken and that it got no answer, however slow the machine is.
func (p *port) silent(send string) {
	p.t.Helper()
	p.expect(etx, send+"01\r", "\x0201S"+etx)
}

func (p *port) count(instrument string) (c sim.Count) {
	p.host.With(func(w *sim.World) { c = w.Count(instrument) })
	return c
}

func (p *port) fault(instrument, name string, on bool, args map[string]float64) {
	p.t.Helper()
	p.host.With(func(w *sim.World) {
		if err := w.Fault(instrument, name, on, args); err != nil {
			p.t.Fatal(err)
		}
	})
}

// until polls, as whoever drives a device does.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

const etx = "\x03"

func TestPumpAnswers(t *testing.T) {
	p := open(t, serial.Pumps)
	for _, c := range []struct{ send, want string }{
		{"00\r", "00S"},
		{"\r", "00S"}, // no address is address 0
		{"1\r", "01S"},
		{"00VER\r", "00SNE1000V3.93"},
		{"02VER\r", "02SNE1000V3.93"},
		{"00DIA\r", "00S14.43"},
		{"00DIA4.699\r", "00S"},
		{"00VOL1.500\r", "00S"}, // a thin syringe counts in microlitres
		{"00VOL\r", "00S1.500UL"},
		{"00VOLML\r", "00S"},
		{"00VOL\r", "00S0.002ML"},
		{"00 dia 14.43 \r", "00S"}, // neither case nor spaces matter
		{"00VOL0.15\r", "00S"},
		{"00VOL\r", "00S0.150ML"},
		{"00RAT6MM\r", "00S"},
		{"00RAT\r", "00S6.000MM"},
		{"00RAT360MH\r", "00S"},
		{"00RAT\r", "00S360.0MH"},
		{"00RAT1.5MM\r", "00S"},
		{"00RAT\r", "00S1.500MM"},
		{"00RAT2\r", "00S"}, // the unit stays
		{"00RAT\r", "00S2.000MM"},
		{"00RAT999MM\r", "00S?OOR"},
		{"00RAT12.345MM\r", "00S?OOR"}, // five digits
		{"00VOL0.0004\r", "00S?OOR"},   // four decimals; a 0 would mean without end
		{"00VOL-1\r", "00S?"},
		{"00VOL1e3\r", "00S?"},
		{"00DIA\r", "00S14.43"},
		{"00DIR\r", "00SINF"},
		{"00DIRWDR\r", "00S"},
		{"00DIR\r", "00SWDR"},
		{"00DIRREV\r", "00S"},
		{"00DIR\r", "00SINF"},
		{"00DIS\r", "00SI0.000W0.000ML"},
		{"00CLDINF\r", "00S"},
		{"00CLD\r", "00S?"},
		{"00XYZ\r", "00S?"},
		{"00STPX\r", "00S?"},
		{"000DIS\r", "00S?"}, // an address has two digits
		{"00" + strings.Repeat("V", 200) + "\r", "00S?"},
	} {
		p.expect(etx, c.send, "\x02"+c.want+etx)
	}
	p.silent("03\r")
	p.silent("99DIS\r")
	if c := p.count("pump_a"); c != (sim.Count{}) {
		t.Errorf("talking alone had effects: %+v", c)
	}
}

func TestDose(t *testing.T) {
	p := open(t, serial.Pumps)
	for _, s := range []string{"01DIRINF\r", "01VOL0.05\r", "01RAT2MM\r"} {
		p.expect(etx, s, "\x0201S"+etx)
	}
	p.expect(etx, "01RUN\r", "\x0201I"+etx)
	p.expect(etx, "01RUN\r", "\x0201I?NA"+etx)
	p.expect(etx, "01VOL1\r", "\x0201I?NA"+etx)
	p.expect(etx, "01DIA10\r", "\x0201I?NA"+etx)
	p.expect(etx, "01RAT3MH\r", "\x0201I?NA"+etx)
	p.expect(etx, "00\r", "\x0200S"+etx) // the neighbour does not run
	until(t, "the dose is done", func() bool {
		p.write("01\r")
		return p.read(etx, patience) == "\x0201S"+etx
	})
	p.expect(etx, "01DIS\r", "\x0201SI0.050W0.000ML"+etx)
	c := p.count("pump_b")
	if c.Doses != 1 || c.DosesDone != 1 || math.Abs(c.Dispensed-0.05) > 1e-9 {
		t.Errorf("effects: %+v", c)
	}
	if c := p.count("pump_a"); c != (sim.Count{}) {
		t.Errorf("the neighbour did something: %+v", c)
	}
}

func TestStopPausesThenEnds(t *testing.T) {
	p := open(t, serial.Pumps)
	p.expect(etx, "00VOL5\r", "\x0200S"+etx)
	p.expect(etx, "00RAT6MM\r", "\x0200S"+etx)
	p.expect(etx, "00RUN\r", "\x0200I"+etx)
	p.expect(etx, "00STP\r", "\x0200P"+etx)
	before := p.count("pump_a").Dispensed
	p.expect(etx, "00STP\r", "\x0200S"+etx)
	if c := p.count("pump_a"); c.Dispensed != before || c.Stops != 1 || before > 0.1 {
		t.Errorf("effects: %+v, %v mL at the stop", c, before)
	}
}

func TestPowerCycle(t *testing.T) {
	p := open(t, serial.Pumps)
	p.expect(etx, "00VOL5\r", "\x0200S"+etx)
	p.expect(etx, "00RAT6MM\r", "\x0200S"+etx)
	p.expect(etx, "00RUN\r", "\x0200I"+etx)
	p.fault("pump_a", "reboot", true, nil)
	p.expect(etx, "00RUN\r", "\x0200A?R"+etx) // and is not done
	p.expect(etx, "00\r", "\x0200S"+etx)
	if c := p.count("pump_a"); c.Doses != 1 {
		t.Errorf("effects: %+v", c)
	}
	p.expect(etx, "01\r", "\x0201S"+etx) // its neighbour had power
}

func TestLineFaults(t *testing.T) {
	p := open(t, serial.Pumps)
	one := func(name string, args map[string]float64, check func()) {
		t.Helper()
		p.fault("pump_a", name, true, args)
		check()
		p.fault("pump_a", name, false, nil)
	}
	one("freeze", nil, func() {
		p.silent("00VOL1\r")
		p.expect(etx, "01\r", "\x0201S"+etx)
	})
	p.expect(etx, "00VOL\r", "\x0200S0.000ML"+etx) // it heard nothing
	one("drop", nil, func() { p.silent("00VOL1\r") })
	p.expect(etx, "00VOL\r", "\x0200S1.000ML"+etx) // it did hear that
	one("wrong_reply", nil, func() { p.expect(etx, "00VOL\r", "\x0201S1.000ML"+etx) })
	one("garble", nil, func() {
		p.write("00VOL\r")
		got := p.read("", patience) // the first byte
		if got += p.read(etx, time.Second); got == "\x0200S1.000ML"+etx || got == "" {
			t.Errorf("garbled answer: %q", got)
		}
	})
	one("delay", map[string]float64{"seconds": 0.15}, func() {
		start := time.Now()
		p.expect(etx, "00\r", "\x0200S"+etx)
		if d := time.Since(start); d < 150*time.Millisecond {
			t.Errorf("came after %v", d)
		}
	})
	p.fault("pump_a", "late_reply", true, map[string]float64{"seconds": 1})
	p.silent("00VOL\r")
	p.fault("pump_a", "late_reply", false, nil)
	p.expect(etx, "00DIA\r", "\x0200S14.43"+etx) // answered before the late one
	if got := p.read(etx, patience); got != "\x0200S1.000ML"+etx {
		t.Errorf("the late reply: %q", got)
	}
	one("drop", map[string]float64{"every": 2}, func() {
		answers := 0
		for range 6 {
			p.write("00\r01\r")
			if got := p.read(etx, patience); strings.HasPrefix(got, "\x0200") {
				answers++
				p.read(etx, patience)
			}
		}
		if answers != 3 {
			t.Errorf("every second answer lost: %d of 6 came", answers)
		}
	})
}

func TestBrokenSensorHasNoNumber(t *testing.T) {
	p := open(t, serial.Pumps)
	p.fault("pump_a", "nan.pump.dispensed", true, nil)
	p.expect(etx, "00DIS\r", "\x0200SINANW0.000ML"+etx)
}

func TestLineOutlivesItsUser(t *testing.T) {
	p := open(t, serial.Pumps)
	p.expect(etx, "00\r", "\x0200S"+etx)
	p.write("00VO") // half a command, then the cable is out and in again
	p.reopen()
	p.write("\r")
	p.read(etx, time.Second)
	p.expect(etx, "00\r", "\x0200S"+etx)
}

const crlf = "\r\n"

func TestStageAnswers(t *testing.T) {
	p := open(t, serial.Stage)
	for _, c := range []struct{ send, want string }{
		{"V\r", ":A Version: USB-9.2m"},
		{"W X\r", ":A 0"},
		{"w x y z\r", ":A 0 0 0"},
		{"/\r", "N"},
		{"\\\r", ":A"}, // nothing to halt
		{"M\r", ":N-3"},
		{"M X\r", ":N-3"},
		{"M X=\r", ":N-3"},
		{"M X=1.5\r", ":N-3"},
		{"M Q=1\r", ":N-2"},
		{"W Q\r", ":N-2"},
		{"W\r", ":N-3"},
		{"M X=99999999 Y=0 Z=0\r", ":N-4"},
		{"M X=99999999999999999999\r", ":N-4"},
		{"M Y=5 X=200000\r", ":N-4"}, // all of them, or none moves
		{"NONSENSE\r", ":N-1"},
		{"\r", ":N-1"},
		{strings.Repeat("M", 300) + "\r", ":N-1"},
		{"W X Y Z\r", ":A 0 0 0"},
	} {
		p.expect(crlf, c.send, c.want+crlf)
	}
	if c := p.count("stage"); c != (sim.Count{}) {
		t.Errorf("talking alone had effects: %+v", c)
	}
}

func TestStageMoves(t *testing.T) {
	p := open(t, serial.Stage)
	arrive := func() {
		t.Helper()
		until(t, "it arrives", func() bool {
			p.write("/\r")
			return p.read(crlf, patience) == "N"+crlf
		})
	}
	p.expect(crlf, "M X=0 Y=-5000 Z=12000\r", ":A"+crlf)
	p.expect(crlf, "/\r", "B"+crlf) // accepted is not arrived
	arrive()
	p.expect(crlf, "W X Y Z\r", ":A 0 -5000 12000"+crlf)
	p.expect(crlf, "R X=-1000\r", ":A"+crlf)
	arrive()
	p.expect(crlf, "W X\r", ":A -1000"+crlf)
	p.expect(crlf, "HERE X=500\r", ":A"+crlf) // the glass has not moved, its name has
	p.expect(crlf, "W X Y\r", ":A 500 -5000"+crlf)
	p.expect(crlf, "ZERO\r", ":A"+crlf)
	p.expect(crlf, "W X Y Z\r", ":A 0 0 0"+crlf)
	p.expect(crlf, "M X=100000\r", ":A"+crlf)
	p.expect(crlf, "H X=0\r", ":N-5"+crlf) // not while it moves
	p.expect(crlf, "\\\r", ":N-21"+crlf)
	p.expect(crlf, "/\r", "N"+crlf)
	if c := p.count("stage"); c.Moves != 3 || c.Stops != 1 || c.Travel < 1.8 || c.Travel > 3 {
		t.Errorf("effects: %+v", c)
	}
}

func TestStageFaults(t *testing.T) {
	p := open(t, serial.Stage)
	p.fault("stage", "freeze", true, nil)
	p.write("M X=100\r") // nothing else on this line can show that it was taken
	if got := p.read("never", 500*time.Millisecond); got != "" {
		t.Errorf("frozen, it said %q", got)
	}
	p.fault("stage", "freeze", false, nil)
	p.fault("stage", "refuse", true, nil)
	p.expect(crlf, "M X=100\r", ":N-5"+crlf)
	p.fault("stage", "refuse", false, nil)
	p.expect(crlf, "W X\r", ":A 0"+crlf)
	p.fault("stage", "wrong_reply", true, nil)
	p.expect(crlf, "/\r", ":A 0"+crlf) // the answer before
	if c := p.count("stage"); c != (sim.Count{}) {
		t.Errorf("effects: %+v", c)
	}
}
