package service_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"labgate/internal/bus"
	"labgate/internal/wall"
	"labgate/lab"
	"labgate/messages"
)

// steppable is the real clock, whose wall somebody may set while the process
// runs: the monotonic reading of its times goes on as before.
type steppable struct {
	wall.Clock
	by atomic.Int64 // seconds
}

func (c *steppable) Now() time.Time {
	now := time.Now()
	// A Time with a monotonic reading keeps the wall's seconds from bit 30 on.
	t := (*struct {
		wall uint64
		ext  int64
		loc  *time.Location
	})(unsafe.Pointer(&now))
	if t.wall>>63 == 1 {
		t.wall += uint64(c.by.Load()) << 30
	}
	return now
}

// S9: a clock that is set while the gateway runs, forward or back, ends every
// effect: what was to run before a moment has no meaning any more. What is safe
// and stops work.
func TestClockIsSet(t *testing.T) {
	for name, by := range map[string]int64{"forward": 7, "back": -7} {
		t.Run(name, func(t *testing.T) {
			b := start(t, nil)
			lease := b.lease("pump_a")
			b.clock.by.Store(by)
			b.eventually("the gateway notices", func() bool {
				st := b.status()
				return st != nil && slices.ContainsFunc(st.Alarms, func(a messages.Alarm) bool {
					return strings.Contains(a.Say, "the clock can't be trusted: it was set by")
				})
			})
			var r messages.CommandReply
			b.request(bus.Command("demo", "bench", "pump_a"), messages.Command{Envelope: messages.Envelope{Kind: messages.KindCommand}, ID: b.ids.New(time.Now()), Instrument: "pump_a",
				Component: "pump", Command: "dose", Args: map[string]lab.Value{"volume": lab.NumberValue(lab.Q(0.1, "mL")), "rate": lab.NumberValue(lab.Q(6, "mL/min"))},
				Principal: "planner_1", Run: "run", Lease: lease, NotAfter: time.Now().Add(time.Hour)}, &r)
			if r.Accepted || !slices.ContainsFunc(r.Issues, func(i lab.Issue) bool { return i.Code == "clock" }) {
				t.Errorf("%+v", r)
			}
			if c := b.count("pump_a"); c.Doses != 0 {
				t.Errorf("%+v", c)
			}
			if r := b.stop(); r.Instruments["pump_a"] != "confirmed" {
				t.Errorf("%+v", r.Instruments)
			}
		})
	}
}
