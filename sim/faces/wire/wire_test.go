package wire_test

import (
	"context"
	"math"
	"sync"
	"testing"
	"time"

	"labgate/sim"
	"labgate/sim/faces/wire"
)

// clock stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) At(time.Time) <-chan time.Time { return make(chan time.Time) }

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestWhoeverLooksSeesNow(t *testing.T) {
	c := &clock{now: time.Unix(1_700_000_000, 0)}
	h := wire.NewHost(sim.NewDemo(1, c.now), c)
	c.move(time.Hour)
	h.With(func(w *sim.World) {
		if !w.Now().Equal(c.Now()) {
			t.Errorf("the world is at %v", w.Now())
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if h.Sleep(ctx, time.Hour) {
		t.Error("slept although nobody waits")
	}
}

func TestTrouble(t *testing.T) {
	c := &clock{now: time.Unix(1_700_000_000, 0)}
	h := wire.NewHost(sim.NewDemo(1, c.now), c)
	if got := h.TroubleOf("stage"); got != (wire.Trouble{}) {
		t.Errorf("a healthy wire has %+v", got)
	}
	set := func(name string, on bool, args map[string]float64) {
		h.With(func(w *sim.World) {
			if err := w.Fault("stage", name, on, args); err != nil {
				t.Fatal(err)
			}
		})
	}
	for _, tc := range []struct {
		seconds float64
		want    time.Duration
	}{{0.5, 500 * time.Millisecond}, {-1, 0}, {1e300, time.Minute}, {math.SmallestNonzeroFloat64, 0}} {
		set("delay", true, map[string]float64{"seconds": tc.seconds})
		if got := h.TroubleOf("stage").Delay; got != tc.want {
			t.Errorf("%v s: %v, want %v", tc.seconds, got, tc.want)
		}
	}
	set("delay", false, nil)
	set("late_reply", true, nil)
	if got := h.TroubleOf("stage").Late; got != time.Second {
		t.Errorf("late by %v", got)
	}
	if got := h.TroubleOf("camera"); got != (wire.Trouble{}) {
		t.Errorf("another instrument's wire: %+v", got)
	}
}

func TestGarbleChangesOneByteOfACopy(t *testing.T) {
	in := []byte("00S1.500ML")
	out := wire.Garble(in)
	changed := 0
	for i := range in {
		if in[i] != out[i] {
			changed++
		}
	}
	if string(in) != "00S1.500ML" || changed != 1 || len(wire.Garble(nil)) != 0 {
		t.Errorf("%q became %q", in, out)
	}
}
