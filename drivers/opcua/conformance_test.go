package opcua

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"

	"labgate/drivers"
	"labgate/drivers/drivertest"
	"labgate/lab"
)

func TestConformance(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{Start: func(t *testing.T, sink drivers.Sink, clock lab.Clock) *drivertest.Rig {
		s := newServer(t)
		s.set("s=Serial", good("SN 1"))
		for node, v := range map[string]any{"s=T": 320.0, "s=Made": int32(1), "s=Heating": true, "s=State": int32(6), "s=Lot": "A"} {
			s.set(node, good(v))
		}
		var doses, stops, ids atomic.Int64
		s.methods["s=Pump.Dose"] = func([]*ua.Variant) ua.StatusCode { doses.Add(1); return ua.StatusOK }
		s.methods["s=Pump.Stop"] = func([]*ua.Variant) ua.StatusCode { stops.Add(1); return ua.StatusOK }
		link, err := Open(drivers.Config{Instruments: []*lab.Instrument{instrument("dev", 300*time.Millisecond)}, Sink: sink, Clock: clock,
			Address: func(*lab.Instrument) (map[string]string, error) {
				return map[string]string{"endpoint": s.endpoint()}, nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = link.Close() })
		rig := &drivertest.Rig{Link: link, Instrument: "dev", Identifies: true,
			Effect: func() *lab.Command {
				cmd := dose()
				cmd.ID = fmt.Sprintf("01K%d", ids.Add(1))
				return cmd
			},
			Effects:    func() int { return int(doses.Load()) },
			Stop:       lab.CommandID{Instrument: "dev", Component: "part", Command: "stop"},
			Stops:      func() int { return int(stops.Load()) },
			LoseAnswer: func() { s.lose.Store(true) },
			Mute:       s.mute.Store,
			Restart:    s.drop,
		}
		for _, name := range []string{"temperature", "made", "heating", "state", "lot"} {
			rig.Properties = append(rig.Properties, propertyID(name))
		}
		return rig
	}})
}
