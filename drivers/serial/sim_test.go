package serial_test

import (
	"context"
	"testing"
	"testing/fstest"
	"time"

	"labgate/configs"
	"labgate/drivers"
	"labgate/drivers/drivertest"
	"labgate/drivers/serial"
	"labgate/lab"
	"labgate/sim"
	simserial "labgate/sim/faces/serial"
	"labgate/sim/faces/wire"
)

// simulated is a lab of the built-in profiles on the simulated lines.
const simulated = `lab: bench
kind: simulated
gateway: bench
instruments:
  pump_a: {profile: new-era/ne-1000@1, link: {port: "sim:pumps", address: 0}, settings: {diameter: 14.43 mm}, safe: [pump.stop], on_start: keep, on_lease_loss: safe, on_gateway_death: keep}
  pump_b: {profile: new-era/ne-1000@1, link: {port: "sim:pumps", address: 1}, settings: {diameter: 14.43 mm}, safe: [pump.stop], on_start: keep, on_lease_loss: safe, on_gateway_death: keep}
  quench: {profile: new-era/ne-1000-quench@1, link: {port: "sim:pumps", address: 2}, settings: {diameter: 14.43 mm, flood_volume: 0.1 mL, flood_rate: 12 mL/min}, safe: [keep], on_start: keep, on_lease_loss: keep, on_gateway_death: keep}
  stage: {profile: asi/ms-2000@1, link: {port: "sim:stage"}, safe: [xyz.halt], on_start: keep, on_lease_loss: safe, on_gateway_death: keep}
nats: {embedded: {}}
`

// simLine starts a simulated line and makes the link to it.
func simLine(t *testing.T, start func(context.Context, *wire.Host) (*simserial.Line, error), sink drivers.Sink, clock lab.Clock, names ...string) (*wire.Host, drivers.Link) {
	t.Helper()
	cfg, err := configs.Load(fstest.MapFS{"lab.yaml": {Data: []byte(simulated)}}, "bench")
	if err != nil {
		t.Fatal(err)
	}
	host := wire.NewHost(sim.NewDemo(7, time.Now()), clock)
	ctx, cancel := context.WithCancel(context.Background())
	far, err := start(ctx, host)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := far.Wait(); err != nil {
			t.Error(err)
		}
	})
	var ins []*lab.Instrument
	for _, n := range names {
		in := cfg.Lab.Instrument(n)
		in.Profile.Link.ReplyWithin = 150 * time.Millisecond // these devices take 3 ms; the tests wait for silence often
		ins = append(ins, in)
	}
	l, err := serial.Open(drivers.Config{Instruments: ins, Sink: sink, Clock: clock, Address: func(*lab.Instrument) (map[string]string, error) {
		return map[string]string{"port": far.Path()}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return host, l
}

func faults(t *testing.T, h *wire.Host, instrument, name string, on bool) {
	t.Helper()
	h.With(func(w *sim.World) {
		if err := w.Fault(instrument, name, on, nil); err != nil {
			t.Error(err)
		}
	})
}

func counted(h *wire.Host, instrument string, f func(sim.Count) int) func() int {
	return func() (n int) {
		h.With(func(w *sim.World) { n = f(w.Count(instrument)) })
		return n
	}
}

func TestConformanceSimulatedPump(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{Start: func(t *testing.T, sink drivers.Sink, clock lab.Clock) *drivertest.Rig {
		h, l := simLine(t, simserial.Pumps, sink, clock, "pump_a", "pump_b", "quench")
		return &drivertest.Rig{
			Link: l, Instrument: "pump_a", Identifies: true,
			Properties: props("pump_a", "pump", "dispensed", "running", "rate"),
			Effect: func() *lab.Command {
				c := dose("pump_a")
				c.Args["volume"] = lab.NumberValue(lab.Q(0.002, "mL")) // 20 ms
				return c
			},
			Effects: counted(h, "pump_a", func(c sim.Count) int { return c.Doses }),
			Stop:    lab.CommandID{Instrument: "pump_a", Component: "pump", Command: "stop"},
			Stops:   counted(h, "pump_a", func(c sim.Count) int { return c.Stops }),
			Mute:    func(on bool) { faults(t, h, "pump_a", "drop", on) },
			Restart: func() { faults(t, h, "pump_a", "reboot", true) },
		}
	}})
}

func TestConformanceSimulatedStage(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{Start: func(t *testing.T, sink drivers.Sink, clock lab.Clock) *drivertest.Rig {
		h, l := simLine(t, simserial.Stage, sink, clock, "stage")
		return &drivertest.Rig{
			Link: l, Instrument: "stage", Identifies: true,
			Properties: props("stage", "xyz", "x", "y", "z", "moving"),
			Effect:     func() *lab.Command { return move(1) },
			Effects:    counted(h, "stage", func(c sim.Count) int { return c.Moves }),
			Stop:       lab.CommandID{Instrument: "stage", Component: "xyz", Command: "halt"},
			Stops:      counted(h, "stage", func(c sim.Count) int { return c.Stops }),
			Mute:       func(on bool) { faults(t, h, "stage", "drop", on) },
		}
	}})
}

// The quench is flooded by one order, with what its settings say.
func TestFlood(t *testing.T) {
	h, l := simLine(t, simserial.Pumps, nil, drivertest.Clock{}, "pump_a", "pump_b", "quench")
	connect(t, l)
	res, err := l.Stop(within(t), stopOrder(t, "quench", "quench", "flood"))
	if err != nil || !res.Acked {
		t.Fatalf("%+v, %v", res, err)
	}
	if got := read(t, l, props("quench", "quench", "flooding")); got != "true good" {
		t.Errorf("flooding: %s", got)
	}
	if n := counted(h, "quench", func(c sim.Count) int { return c.Doses })(); n != 1 {
		t.Errorf("%d doses", n)
	}
}
