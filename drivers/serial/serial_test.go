package serial_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"labgate/drivers"
	"labgate/drivers/drivertest"
	"labgate/drivers/serial"
	"labgate/lab"
	"labgate/lab/frame"
	"labgate/safety"
)

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "16"); err != nil { // they wait, they don't compute
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// replyWithin of the profiles under test.
const replyWithin = 100 * time.Millisecond

func pump(name, path, addr string) *lab.Instrument {
	return &lab.Instrument{Name: name, Profile: drivertest.SyringePump(), Link: map[string]string{"port": path, "address": addr},
		Settings: map[string]lab.Value{"diameter": lab.NumberValue(lab.Q(14.43, "mm"))}, Safe: []lab.SafeStep{{Command: lab.CommandID{Instrument: name, Component: "pump", Command: "stop"}}}}
}

func stage(path string) *lab.Instrument {
	return &lab.Instrument{Name: "stage", Profile: drivertest.StageController(), Link: map[string]string{"port": path}}
}

func open(t testing.TB, sink drivers.Sink, ins ...*lab.Instrument) drivers.Link {
	t.Helper()
	l, err := serial.Open(drivers.Config{Instruments: ins, Sink: sink, Clock: drivertest.Clock{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func connect(t testing.TB, l drivers.Link) {
	t.Helper()
	if err := l.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

var counter int

func dose(name string) *lab.Command {
	counter++
	return &lab.Command{ID: fmt.Sprint("c", counter), Target: lab.CommandID{Instrument: name, Component: "pump", Command: "dose"}, NotAfter: time.Now().Add(time.Hour),
		Args: map[string]lab.Value{"volume": lab.NumberValue(lab.Q(0.15, "mL")), "rate": lab.NumberValue(lab.Q(6, "mL/min"))}}
}

func permit(t testing.TB, l drivers.Link, cmd *lab.Command) *safety.Permit {
	return safety.NewTestPermit(t, cmd, l.Epoch(cmd.Target.Instrument), time.Now().Add(time.Minute))
}

func props(name, comp string, names ...string) []lab.PropertyID {
	var ids []lab.PropertyID
	for _, n := range names {
		ids = append(ids, lab.PropertyID{Instrument: name, Component: comp, Property: n})
	}
	return ids
}

// read gives "1.5 mL good", one a property.
func read(t testing.TB, l drivers.Link, ids []lab.PropertyID) string {
	t.Helper()
	samples, err := l.Read(within(t), ids[0].Instrument, ids)
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, s := range samples {
		out = append(out, s.Reading.Value.String()+" "+s.Reading.Quality.String())
	}
	return strings.Join(out, ", ")
}

func stopOrder(t testing.TB, name, comp, cmd string) *safety.Order {
	return safety.NewTestOrder(t, lab.CommandID{Instrument: name, Component: comp, Command: cmd})
}

func TestConformancePump(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{Start: func(t *testing.T, sink drivers.Sink, clock lab.Clock) *drivertest.Rig {
		p := newPumps(t, "00")
		return &drivertest.Rig{
			Link: open(t, sink, pump("pump_a", p.path(), "0")), Instrument: "pump_a", Identifies: true,
			Properties: props("pump_a", "pump", "dispensed", "running", "rate"),
			Effect:     func() *lab.Command { return dose("pump_a") },
			Effects:    func() int { return p.see("00").doses },
			Stop:       lab.CommandID{Instrument: "pump_a", Component: "pump", Command: "stop"},
			Stops:      func() int { return p.see("00").stops },
			LoseAnswer: func() { p.once("00RUN") },
			Mute: func(on bool) {
				p.set(func(string) ([]say, bool) { return nil, on })
			},
			Restart: func() { p.restart("00") },
		}
	}})
}

func TestConformanceStage(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{Start: func(t *testing.T, sink drivers.Sink, clock lab.Clock) *drivertest.Rig {
		c, n := newController(t), 0
		return &drivertest.Rig{
			Link: open(t, sink, stage(c.path())), Instrument: "stage", Identifies: true,
			Properties: props("stage", "xyz", "x", "y", "z", "moving"),
			Effect: func() *lab.Command {
				n++
				return move(n)
			},
			Effects:    func() int { return c.see(func() int { return c.moves }) },
			Stop:       lab.CommandID{Instrument: "stage", Component: "xyz", Command: "halt"},
			Stops:      func() int { return c.see(func() int { return c.halts }) },
			LoseAnswer: c.loseMove,
			Mute: func(on bool) {
				c.set(func(string) ([]say, bool) { return nil, on })
			},
		}
	}})
}

func move(n int) *lab.Command {
	mm := func(v float64) lab.Value { return lab.NumberValue(lab.Q(v, "mm")) }
	return &lab.Command{ID: fmt.Sprint("m", n), Target: lab.CommandID{Instrument: "stage", Component: "xyz", Command: "move"},
		NotAfter: time.Now().Add(time.Hour), Args: map[string]lab.Value{"x": mm(float64(n)), "y": mm(-1), "z": mm(1.2)}}
}

// loseMove loses the answer to the next move.
func (c *controller) loseMove() {
	done := false
	c.set(func(cmd string) ([]say, bool) {
		lose := !done && strings.HasPrefix(cmd, "M ")
		done = done || lose
		return nil, lose
	})
}

// What goes wrong at which of the four messages of a dose, and what may be
// assumed then. The pump's own count decides.
func TestFaultsAtEachMessage(t *testing.T) {
	messages := []string{"00DIRINF", "00RAT6MM", "00RUN"}
	for _, c := range []struct {
		name    string
		replies []say
		before  lab.Kind // at the first three
		at      lab.Kind // at RUN
	}{
		{"silence", nil, lab.KindNotSent, lab.KindOutcomeUnknown},
		{"garbage in a frame", []say{{0, "\x0200#!?%\x03"}}, lab.KindNotSent, lab.KindOutcomeUnknown},
		{"bytes and no frame", []say{{0, "#####"}}, lab.KindNotSent, lab.KindOutcomeUnknown},
		{"half a frame", []say{{0, "\x0200"}}, lab.KindNotSent, lab.KindOutcomeUnknown},
		{"another's reply", []say{{0, "\x0201I\x03"}}, lab.KindNotSent, lab.KindOutcomeUnknown},
		{"refused", []say{{0, "\x0200S?OOR\x03"}}, lab.KindNotSent, lab.KindDeviceRefused},
		{"an alarm", []say{{0, "\x0200A?S\x03"}}, lab.KindNotSent, lab.KindOutcomeUnknown},
		{"a reset", []say{{0, "\x0200A?R\x03"}}, lab.KindNotSent, lab.KindOutcomeUnknown},
		{"a late reply", []say{{replyWithin + 30*time.Millisecond, "\x0200I\x03"}}, lab.KindNotSent, lab.KindOutcomeUnknown},
	} {
		for i, m := range messages {
			t.Run(fmt.Sprintf("%s at %s", c.name, m), func(t *testing.T) {
				t.Parallel()
				p := newPumps(t, "00")
				l := open(t, nil, pump("pump_a", p.path(), "0"))
				connect(t, l)
				p.once(m, c.replies...)
				cmd := &lab.Command{ID: "c", Target: lab.CommandID{Instrument: "pump_a", Component: "pump", Command: "dose"}, NotAfter: time.Now().Add(time.Hour),
					Args: map[string]lab.Value{"volume": lab.NumberValue(lab.Q(0.15, "mL")), "rate": lab.NumberValue(lab.Q(6, "mL/min"))}}
				res, err := l.Exchange(within(t), cmd, permit(t, l, cmd))
				want, runs := c.before, 0
				if i == 2 {
					want, runs = c.at, 1
				}
				if lab.KindOf(err) != want || res.Acked || res.Sent.IsZero() == (i == 2) {
					t.Errorf("%v, want kind %s; %+v", err, want, res)
				}
				if c.name == "refused" && !strings.Contains(err.Error(), "out_of_range") {
					t.Errorf("it does not say why: %v", err)
				}
				drivertest.Eventually(t, "it reads again", func() bool {
					return strings.Count(read(t, l, props("pump_a", "pump", "dispensed", "running")), "good") == 2
				})
				if n := p.count("00RUN"); n != runs {
					t.Errorf("RUN arrived %d times, want %d", n, runs)
				}
				if p.see("00").doses != runs {
					t.Errorf("%d doses, want %d", p.see("00").doses, runs)
				}
			})
		}
	}
}

// After a reset alarm the init goes out before anything else, the epoch grows
// and the owner is told.
func TestReset(t *testing.T) {
	for _, m := range []string{"00DIRINF", "00RUN", "00DIS"} {
		t.Run(m, func(t *testing.T) {
			p, sink := newPumps(t, "00"), &drivertest.Sink{}
			l := open(t, sink, pump("pump_a", p.path(), "0"))
			connect(t, l)
			epoch := l.Epoch("pump_a")
			p.once(m, say{0, "\x0200A?R\x03"})
			p.forget()
			if m == "00DIS" {
				if got := read(t, l, props("pump_a", "pump", "dispensed")); got != "0 mL good" {
					t.Errorf("read %s", got)
				}
			} else {
				cmd := dose("pump_a")
				if _, err := l.Exchange(within(t), cmd, permit(t, l, cmd)); err == nil {
					t.Error("the dose passed")
				}
			}
			log := strings.Join(p.got(), " ")
			if _, after, _ := strings.Cut(log, m); !strings.HasPrefix(after, " 00DIA14.43 00VOLML") {
				t.Errorf("sent: %s", log)
			}
			if l.Epoch("pump_a") <= epoch || len(sink.Losses()) != 1 || sink.Losses()[0].Instrument != "pump_a" {
				t.Errorf("epoch %d after %d, losses %v", l.Epoch("pump_a"), epoch, sink.Losses())
			}
		})
	}
}

// One pump's alarm in the middle of another's dose is heard, and disturbs
// nothing.
func TestAnothersAlarm(t *testing.T) {
	p, sink := newPumps(t, "00", "01"), &drivertest.Sink{}
	l := open(t, sink, pump("pump_a", p.path(), "0"), pump("pump_b", p.path(), "1"))
	connect(t, l)
	a, b := l.Epoch("pump_a"), l.Epoch("pump_b")
	p.once("00VOL0.15", say{0, "\x0201A?R\x03\x0200S\x03"})
	cmd := dose("pump_a")
	if _, err := l.Exchange(within(t), cmd, permit(t, l, cmd)); err != nil {
		t.Error(err)
	}
	if l.Epoch("pump_a") != a || l.Epoch("pump_b") != b+1 || len(sink.Losses()) != 1 || sink.Losses()[0].Instrument != "pump_b" {
		t.Errorf("epochs %d, %d; losses %v", l.Epoch("pump_a"), l.Epoch("pump_b"), sink.Losses())
	}
	p.forget()
	if got := read(t, l, props("pump_b", "pump", "running")); got != "false good" || strings.Join(p.got(), " ") != "01DIA14.43 01VOLML 01" {
		t.Errorf("read %s after %v", got, p.got())
	}
}

// A late reply never answers the next question.
func TestLateReply(t *testing.T) {
	for _, late := range []time.Duration{5 * time.Millisecond, 95 * time.Millisecond, 190 * time.Millisecond} {
		t.Run(late.String(), func(t *testing.T) {
			t.Parallel()
			c := newController(t)
			l := open(t, nil, stage(c.path()))
			connect(t, l)
			c.once("W X", say{replyWithin + late, ":A 99999\r\n"})
			if got := read(t, l, props("stage", "xyz", "x", "y")); got != "missing bad, missing bad" {
				t.Errorf("read %s", got)
			}
			if got := read(t, l, props("stage", "xyz", "y", "z", "x")); got != "0 mm good, 0 mm good, 0 mm good" {
				t.Errorf("the late reply answered: %s", got)
			}
		})
	}
}

// A pump that is not there costs the others little, is reported once, and is
// back by itself in a new epoch.
func TestOneSilentInstrument(t *testing.T) {
	p, sink := newPumps(t, "00", "01"), &drivertest.Sink{}
	dead := true
	p.set(func(cmd string) ([]say, bool) { return nil, dead && strings.HasPrefix(cmd, "01") })
	l := open(t, sink, pump("pump_a", p.path(), "0"), pump("pump_b", p.path(), "1"))
	connect(t, l)
	epoch := l.Epoch("pump_b")
	p.forget()
	for range 50 {
		if got := read(t, l, props("pump_b", "pump", "running", "rate")); got != "missing bad, missing bad" {
			t.Fatalf("the dead one reads %s", got)
		}
		if got := read(t, l, props("pump_a", "pump", "running")); got != "false good" {
			t.Fatalf("the other reads %s", got)
		}
	}
	asked := 0
	for _, m := range p.got() {
		if strings.HasPrefix(m, "01") {
			asked++
		}
	}
	if asked > 5 {
		t.Errorf("the dead one was asked %d times", asked)
	}
	cmd := dose("pump_b")
	if _, err := l.Exchange(within(t), cmd, permit(t, l, cmd)); lab.KindOf(err) != lab.KindNotSent {
		t.Errorf("a dose: %v", err)
	}
	if n := len(sink.Losses()); n != 1 || sink.Losses()[0].Instrument != "pump_b" {
		t.Errorf("losses %v", sink.Losses())
	}
	p.mu.Lock()
	dead = false
	p.mu.Unlock()
	drivertest.Eventually(t, "it is back", func() bool { return read(t, l, props("pump_b", "pump", "running")) == "false good" })
	if l.Epoch("pump_b") <= epoch || !p.see("01").ready {
		t.Errorf("epoch %d after %d, init sent: %v", l.Epoch("pump_b"), epoch, p.see("01").ready)
	}
}

// A pump that runs refuses its init: it can be read, with reserve, and stopped,
// and takes its settings as soon as it can.
func TestInitRefused(t *testing.T) {
	p, sink := newPumps(t, "00"), &drivertest.Sink{}
	p.state["00"].running = true
	l := open(t, sink, pump("pump_a", p.path(), "0"))
	connect(t, l)
	if got := read(t, l, props("pump_a", "pump", "running")); got != "true uncertain" {
		t.Errorf("read %s", got)
	}
	if s := sink.Losses(); len(s) != 0 {
		t.Errorf("losses %v", s)
	}
	cmd := dose("pump_a")
	if _, err := l.Exchange(within(t), cmd, permit(t, l, cmd)); lab.KindOf(err) != lab.KindNotSent {
		t.Errorf("a dose: %v", err)
	}
	if res, err := l.Stop(within(t), stopOrder(t, "pump_a", "pump", "stop")); err != nil || !res.Acked {
		t.Errorf("stop: %+v, %v", res, err)
	}
	drivertest.Eventually(t, "it has its settings", func() bool { return read(t, l, props("pump_a", "pump", "running")) == "false good" })
}

// A permit taken back between two messages: the effect never begins.
func TestRevokedBetweenMessages(t *testing.T) {
	p := newPumps(t, "00")
	l := open(t, nil, pump("pump_a", p.path(), "0"))
	connect(t, l)
	cmd := dose("pump_a")
	pm := permit(t, l, cmd)
	p.set(func(c string) ([]say, bool) {
		if c == "00RAT6MM" {
			safety.RevokeTestPermit(t, pm, "the hood stopped")
		}
		return nil, false
	})
	_, err := l.Exchange(within(t), cmd, pm)
	if lab.KindOf(err) != lab.KindDenied || !strings.Contains(err.Error(), "the hood stopped") || !strings.Contains(err.Error(), "settings of the device may have changed") {
		t.Errorf("%v", err)
	}
	if p.count("00RUN") != 0 || p.count("00RAT6MM") != 1 {
		t.Errorf("sent %v", p.got())
	}
}

// A context that ends while a reply is awaited ends the call at once.
func TestCancelInMidst(t *testing.T) {
	for m, want := range map[string]lab.Kind{"00VOL0.15": lab.KindNotSent, "00RUN": lab.KindOutcomeUnknown} {
		p := newPumps(t, "00")
		l := open(t, nil, pump("pump_a", p.path(), "0"))
		connect(t, l)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		p.set(func(c string) ([]say, bool) {
			if c == m {
				cancel()
			}
			return nil, c == m
		})
		cmd := dose("pump_a")
		_, err := l.Exchange(ctx, cmd, permit(t, l, cmd))
		if lab.KindOf(err) != want || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want %s", m, err, want)
		}
	}
}

// A value that the wire can't carry is refused before a byte leaves, with the
// nearest one.
func TestNotCarried(t *testing.T) {
	p := newPumps(t, "00")
	l := open(t, nil, pump("pump_a", p.path(), "0"))
	connect(t, l)
	p.forget()
	cmd := dose("pump_a")
	cmd.Args["volume"] = lab.NumberValue(lab.Q(12.345, "mL"))
	_, err := l.Exchange(within(t), cmd, permit(t, l, cmd))
	var refused frame.Refusal
	if lab.KindOf(err) != lab.KindInvalid || !errors.As(err, &refused) || refused[0].Nearest.String() != "12.35 mL" || len(p.got()) != 0 {
		t.Errorf("%v after %v", err, p.got())
	}
}

func TestUnplugged(t *testing.T) {
	p, sink := newPumps(t, "00"), &drivertest.Sink{}
	l := open(t, sink, pump("pump_a", p.path(), "0"))
	connect(t, l)
	p.close()
	if _, err := l.Read(within(t), "pump_a", props("pump_a", "pump", "running")); lab.KindOf(err) != lab.KindUnavailable {
		t.Errorf("read: %v", err)
	}
	cmd := dose("pump_a")
	if _, err := l.Exchange(within(t), cmd, permit(t, l, cmd)); lab.KindOf(err) != lab.KindNotSent {
		t.Errorf("exchange: %v", err)
	}
	if _, err := l.Stop(within(t), stopOrder(t, "pump_a", "pump", "stop")); lab.KindOf(err) != lab.KindNotSent {
		t.Errorf("stop: %v", err)
	}
	if s := sink.Losses(); len(s) != 1 || s[0].Instrument != "" {
		t.Errorf("losses %v", s)
	}
	if err := l.Connect(within(t)); lab.KindOf(err) != lab.KindUnavailable {
		t.Errorf("connect: %v", err)
	}
}

func TestSecondOwner(t *testing.T) {
	p := newPumps(t, "00")
	l := open(t, nil, pump("pump_a", p.path(), "0"))
	connect(t, l)
	second := open(t, nil, pump("pump_a", p.path(), "0"))
	if err := second.Connect(within(t)); lab.KindOf(err) != lab.KindConflict {
		t.Errorf("a second owner: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	connect(t, second)
}

func TestOpenRefuses(t *testing.T) {
	slow := pump("pump_b", "p", "1")
	slow.Profile.Link.Baud = 9600
	broken := pump("pump_b", "p", "1")
	broken.Profile.Link.ReplyEnd = nil
	for name, ins := range map[string][]*lab.Instrument{
		"none":                nil,
		"no addresses":        {stage("p"), stage("p")},
		"some addresses":      {pump("pump_a", "p", "0"), stage("p")},
		"two speeds":          {pump("pump_a", "p", "0"), slow},
		"twice":               {pump("pump_a", "p", "0"), pump("pump_a", "p", "1")},
		"a profile that errs": {broken},
	} {
		if _, err := serial.Open(drivers.Config{Instruments: ins, Clock: drivertest.Clock{}}); lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := newPumps(t, "00")
	for name, ins := range map[string][]*lab.Instrument{
		"one address twice": {pump("pump_a", p.path(), "0"), pump("pump_b", p.path(), "0")},
		"two lines":         {pump("pump_a", p.path(), "0"), pump("pump_b", "/dev/null", "1")},
		"no line":           {pump("pump_a", "", "0")},
	} {
		if err := open(t, nil, ins...).Connect(within(t)); lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, path := range []string{"/dev/null", "/no/such/line", t.TempDir()} {
		if err := open(t, nil, pump("pump_a", path, "0")).Connect(within(t)); lab.KindOf(err) != lab.KindUnavailable {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Whatever the line does, in any order: a dose that was acknowledged happened
// once, one that was not sent never, no dose twice, and no reading is another's.
func TestAnyFaults(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			anyFaults(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

func anyFaults(t *testing.T, rnd *rand.Rand) {
	p := newPumps(t, "00", "01")
	fault := func(cmd string) ([]say, bool) {
		addr := cmd[:2]
		switch {
		case rnd.IntN(12) > 0:
			return nil, false
		default:
			return [][]say{nil, {{0, "\x02" + addr}}, {{0, "##"}}, {{0, "\x02" + addr + "A?R\x03"}}, {{0, "\x02" + addr + "S?OOR\x03"}},
				{{0, "\x0201S\x03\x0200S\x03"}}, {{replyWithin + 10*time.Millisecond, "\x02" + addr + "I\x03"}}, {{0, "\x02" + addr + "I7.777W0.000ML\x03"}}}[rnd.IntN(8)], true
		}
	}
	p.set(fault)
	l := open(t, nil, pump("pump_a", p.path(), "0"), pump("pump_b", p.path(), "1"))
	connect(t, l)
	addrs := map[string]string{"pump_a": "00", "pump_b": "01"}
	for i := range 25 {
		name := []string{"pump_a", "pump_b"}[rnd.IntN(2)]
		addr := addrs[name]
		if rnd.IntN(3) == 0 {
			read(t, l, props(name, "pump", "dispensed", "running"))
			continue
		}
		before := p.see(addr).doses
		cmd := dose0(name, i)
		_, err := l.Exchange(within(t), cmd, permit(t, l, cmd))
		done := p.see(addr).doses - before
		switch kind := lab.KindOf(err); {
		case err == nil && done != 1, err != nil && (kind == lab.KindNotSent || kind == lab.KindDenied) && done != 0, done > 1:
			t.Fatalf("step %d: %v, and %d doses", i, err, done)
		case err != nil && kind != lab.KindNotSent && kind != lab.KindDenied && kind != lab.KindOutcomeUnknown && kind != lab.KindDeviceRefused:
			t.Fatalf("step %d: %v", i, err)
		}
	}
	p.set(nil)
	for name, addr := range addrs {
		want := fmt.Sprintf("%s good", lab.Q(float64(int(p.see(addr).dispensed*1000+0.5))/1000, "mL"))
		drivertest.Eventually(t, name+" reads what it dispensed, "+want, func() bool { return read(t, l, props(name, "pump", "dispensed")) == want })
	}
}

func dose0(name string, i int) *lab.Command {
	return &lab.Command{ID: fmt.Sprint("r", i), Target: lab.CommandID{Instrument: name, Component: "pump", Command: "dose"}, NotAfter: time.Now().Add(time.Hour),
		Args: map[string]lab.Value{"volume": lab.NumberValue(lab.Q(0.15, "mL")), "rate": lab.NumberValue(lab.Q(6, "mL/min"))}}
}
