package safety_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"labgate/drivers"
	"labgate/drivers/memory"
	"labgate/lab"
	"labgate/safety"
)

func itoa(n int) string { return strconv.Itoa(n) }

func kind(t *testing.T, err error, want lab.Kind) {
	t.Helper()
	if err == nil || lab.KindOf(err) != want {
		t.Errorf("%v; %s is wanted", err, want)
	}
}

// TestPermitIsBound: a permit opens for one command, in one epoch, once, until
// its readings grow stale.
func TestPermitIsBound(t *testing.T) {
	d := newDesk(t, "rules:\n  - {id: hood, permissive: pump_a.dose, require: room.airflow >= 0.3 m/s}\n")
	d.see(t0, "room.airflow = 0.5 m/s")
	cmd := d.command("pump_a.dose volume=0.1 mL, rate=5 mL/min")
	p := d.allowed(d.engine.Decide(at(500), cmd, 3))
	if p.Lease() != 7 || p.Rules() != d.rules.Hash || !p.NotAfter().Equal(at(2500)) {
		t.Errorf("lease %d, rules %s, until %s", p.Lease(), p.Rules(), p.NotAfter())
	}
	kind(t, p.Live(cmd), lab.KindDenied)
	for name, change := range map[string]func(c *lab.Command){
		"id": func(c *lab.Command) { c.ID = "other" }, "target": func(c *lab.Command) { c.Target.Instrument = "pump_b" },
		"argument": func(c *lab.Command) {
			c.Args = map[string]lab.Value{"volume": value("0.2 mL"), "rate": value("5 mL/min")}
		},
		"more arguments": func(c *lab.Command) {
			c.Args = map[string]lab.Value{"volume": value("0.1 mL"), "rate": value("5 mL/min"), "x": value("1")}
		},
		"principal": func(c *lab.Command) { c.Principal = "planner_2" }, "run": func(c *lab.Command) { c.Run = "other" },
		"lease": func(c *lab.Command) { c.Lease = 8 }, "expiry": func(c *lab.Command) { c.NotAfter = c.NotAfter.Add(1) },
	} {
		other := *cmd
		change(&other)
		if err := p.Spend(&other, 3, at(500)); lab.KindOf(err) != lab.KindDenied {
			t.Errorf("another %s: %v", name, err)
		}
	}
	kind(t, p.Spend(cmd, 4, at(500)), lab.KindDenied)
	kind(t, p.Spend(cmd, 3, at(2500)), lab.KindExpired)
	if err := p.Spend(cmd, 3, at(2499)); err != nil {
		t.Error(err)
	}
	if err := p.Live(cmd); err != nil {
		t.Error(err)
	}
	kind(t, p.Spend(cmd, 3, at(2499)), lab.KindDenied)
	d.engine.Revoke(cmd.ID, "a test")
	kind(t, p.Live(cmd), lab.KindDenied)
	kind(t, p.Spend(cmd, 3, at(2499)), lab.KindDenied)
}

// TestPermitEnds: by the first reading it stood on, by the command's own
// expiry, by the bound of every permit, whichever is first; a reading that is
// stale already has no part in it.
func TestPermitEnds(t *testing.T) {
	d := newDesk(t, "rules:\n  - {id: a, permissive: pump_a.dose, require: reactor.stirrer.speed >= 150 rpm or room.door_closed}\n")
	d.see(t0, "reactor.stirrer.speed = 200 rpm")
	d.see(at(400), "room.door_closed = true")
	for _, c := range []struct{ now, notAfter, until int }{
		{500, 99000, 1000}, // the stirrer's reading, at most 1 s old
		{500, 700, 700},
		{1100, 99000, 3100}, // the stirrer's is stale, the door's holds; at most 2 s
	} {
		cmd := d.command("pump_a.dose volume=0.1 mL, rate=5 mL/min")
		cmd.NotAfter = at(c.notAfter)
		p := d.allowed(d.engine.Decide(at(c.now), cmd, 1))
		if got := p.NotAfter().Sub(t0).Round(time.Millisecond); got != time.Duration(c.until)*time.Millisecond {
			t.Errorf("%+v: until %s", c, got)
		}
		d.engine.Done(t0, cmd.ID, safety.AllDone, nil)
		if p.Spend(cmd, 1, at(c.now)) == nil {
			t.Error("it opens after the command is done")
		}
	}
	cmd := d.command("pump_a.dose volume=0.1 mL, rate=5 mL/min")
	cmd.NotAfter = at(1100)
	d.refused(d.engine.Decide(at(1100), cmd, 1))
}

// TestSpendOnce: of many at once, one gets through, and none after a revoke.
func TestSpendOnce(t *testing.T) {
	d := newDesk(t, "rules: []\n")
	for range 50 {
		cmd := d.command("pump_a.dose volume=0.1 mL, rate=5 mL/min")
		p := d.allowed(d.engine.Decide(t0, cmd, 1))
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if p.Spend(cmd, 1, t0) == nil {
					won.Add(1)
				}
			}()
		}
		d.engine.Revoke(cmd.ID, "a test")
		kind(t, p.Spend(cmd, 1, t0), lab.KindDenied)
		wg.Wait()
		if won.Load() > 1 {
			t.Fatalf("spent %d times", won.Load())
		}
		d.engine.Done(t0, cmd.ID, safety.AllDone, nil)
	}
}

// counter is a device that counts what reaches it.
type counter struct{ n int }

func (c *counter) Read(lab.PropertyID) (lab.Value, error)             { return lab.Value{}, nil }
func (c *counter) Do(*lab.Command) (map[string]lab.Value, error)      { c.n++; return nil, nil }
func (c *counter) Epoch() uint64                                      { return 0 }
func (c *counter) Now() time.Time                                     { return t0 }
func (c *counter) At(time.Time) <-chan time.Time                      { return nil }
func (c *counter) open(t *testing.T, in *lab.Instrument) drivers.Link { return openMemory(t, c, in) }

func openMemory(t *testing.T, c *counter, in *lab.Instrument) drivers.Link {
	t.Helper()
	link, err := memory.Open(memory.Config{Config: drivers.Config{Instruments: []*lab.Instrument{in}, Clock: c}, Device: c})
	if err != nil {
		t.Fatal(err)
	}
	if err := link.Connect(context.Background()); err != nil {
		t.Fatal(err)
	}
	return link
}

// TestForgedOpenNothing: what is not made by the engine reaches no device.
func TestForgedOpenNothing(t *testing.T) {
	d := newDesk(t, "rules: []\n")
	c := &counter{}
	link := c.open(t, d.lab.Instrument("pump_a"))
	cmd := d.command("pump_a.dose volume=0.1 mL, rate=5 mL/min")
	nan := d.command("pump_a.dose volume=0.1 mL, rate=5 mL/min")
	nan.Args["volume"] = lab.NumberValue(lab.Quantity{Value: nanValue(), Unit: lab.Q(1, "mL").Unit})
	for _, p := range []*safety.Permit{nil, {}, new(safety.Permit)} {
		for _, x := range []*lab.Command{cmd, nan} { // the hash of what is not finite is the zero permit's
			if _, err := link.Exchange(context.Background(), x, p); lab.KindOf(err) != lab.KindDenied {
				t.Errorf("%v: %v", p, err)
			}
			kind(t, p.Live(x), lab.KindDenied)
		}
	}
	for _, o := range []*safety.Order{nil, {}} {
		if _, err := link.Stop(context.Background(), o); lab.KindOf(err) != lab.KindDenied {
			t.Errorf("%v: %v", o, err)
		}
	}
	if c.n != 0 {
		t.Errorf("the device was reached %d times", c.n)
	}
	p := d.allowed(d.engine.Decide(t0, cmd, 1))
	if _, err := link.Exchange(context.Background(), cmd, p); err != nil || c.n != 1 {
		t.Errorf("a real permit: %v, %d", err, c.n)
	}
}

// TestOrders: the safe lane is for what its class calls safe and a list names;
// where it is the stop of a command, that command must be under way.
func TestOrders(t *testing.T) {
	d := newDesk(t, "rules: []\n")
	for _, c := range []struct {
		target string
		origin safety.Origin
		ok     bool
	}{
		{"pump_a.stop", safety.OriginStop, true},
		{"pump_a.stop", safety.OriginFinally, true},
		{"pump_a.dose", safety.OriginStop, false},
		{"pump_a.dose", safety.OriginStopsWith, false},
		{"quench.flood", safety.OriginStop, false},           // safe by its class, listed nowhere
		{"quench.flood", safety.OriginTrip, false},           // a trip makes its own orders
		{"reactor.stir_off", safety.OriginFinally, false},    // the stirrer keeps turning
		{"reactor.stir_off", safety.OriginStopsWith, false},  // nothing under way that it stops
		{"reactor.heat_off", safety.OriginStopsWith, false},  // listed, but this is no such origin
		{"reactor.heat_off", safety.Origin("please"), true},  // a list names it: no label adds to that
		{"reactor.stir_off", safety.Origin("please"), false}, // and none makes up for it
	} {
		o, err := d.engine.Order(d.target(c.target), c.origin, "test")
		if (err == nil) != c.ok || (o != nil) != c.ok {
			t.Errorf("%s from %s: %v", c.target, c.origin, err)
		}
	}
	if _, err := d.engine.Order(lab.CommandID{Instrument: "nothing", Component: "x", Command: "y"}, safety.OriginStop, ""); err == nil {
		t.Error("an undeclared command")
	}
	d.allowed(d.decide(t0, "reactor.stir speed=100 rpm"))
	if _, err := d.engine.Order(d.target("reactor.stir_off"), safety.OriginStopsWith, "test"); err != nil {
		t.Error(err)
	}
	if got := d.engine.SafeState("quench", safety.OriginStop, ""); got != nil {
		t.Errorf("keep is %v", got)
	}
	if got := d.engine.SafeState("reactor", safety.OriginStop, ""); len(got) != 2 || got[0].Target().Command != "heat_off" {
		t.Errorf("the reactor's safe state: %v", got)
	}
}
