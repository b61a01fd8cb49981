package mqtt

import (
	"sync/atomic"
	"testing"
	"time"

	"labgate/drivers"
	"labgate/drivers/drivertest"
	"labgate/lab"
)

// TestConformance is against nats-server's MQTT, and mosquitto.
func TestConformance(t *testing.T) {
	t.Run("nats-server", conformance)
	t.Run("mosquitto", func(t *testing.T) {
		m := startMosquitto(t, "listener {plain} 127.0.0.1\nallow_anonymous true\n")
		other := broker
		broker = m.address("plain")
		t.Cleanup(func() { broker = other })
		conformance(t)
	})
}

func conformance(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{Start: func(t *testing.T, sink drivers.Sink, clock lab.Clock) *drivertest.Rig {
		d, p := newDevice(t), newProxy(t)
		var doses, stops, boots atomic.Int64
		var lose atomic.Bool
		state := func() {
			d.publish("state", true, map[string]any{"time": time.Now().Format(time.RFC3339Nano), "serial": "SN 1", "boot": boots.Add(1),
				"air": map[string]any{"flow": 5}, "count": 7, "ready": true, "mode": 1, "lot": "A"})
		}
		d.do(func(d *device, o order) {
			if o.Command == "halt" {
				stops.Add(1)
			} else {
				doses.Add(1)
			}
			if !lose.CompareAndSwap(true, false) {
				d.ack(o, true, nil)
			}
		})
		link, err := Open(drivers.Config{Instruments: []*lab.Instrument{instrument(500 * time.Millisecond)}, Sink: sink, Clock: clock,
			Address: func(*lab.Instrument) (map[string]string, error) {
				return map[string]string{"url": "tcp://" + p.l.Addr().String(), "prefix": d.prefix}, nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = link.Close() })
		state()
		// No Mute: a link can't ask a device on MQTT, so silence shows only in
		// the age of its readings.
		rig := &drivertest.Rig{Link: link, Instrument: "dev", Identifies: true,
			Effect:     dose,
			Effects:    func() int { return int(doses.Load()) },
			Stop:       lab.CommandID{Instrument: "dev", Component: "part", Command: "halt"},
			Stops:      func() int { return int(stops.Load()) },
			LoseAnswer: func() { lose.Store(true) },
			Restart:    state,
		}
		for _, name := range []string{"airflow", "count", "ready", "mode", "lot"} {
			rig.Properties = append(rig.Properties, propertyID(name))
		}
		return rig
	}})
}
