package wire

import (
	"context"
	"sync"
	"time"

	"labgate/lab"
	"labgate/sim"
)

// Host owns a world. Time passes in it by the host's clock, as soon as anybody
// looks. Safe for concurrent use.
type Host struct {
	clock lab.Clock

	mu      sync.Mutex
	world   *sim.World
	answers map[string]int // by instrument, since a fault with the argument "every" began
}

// NewHost takes the world over: from now on only the host touches it.
func NewHost(w *sim.World, clock lab.Clock) *Host {
	return &Host{clock: clock, world: w, answers: map[string]int{}}
}

// Now is the clock's time.
func (h *Host) Now() time.Time { return h.clock.Now() }

// With steps the world to now and calls fn with it. fn must neither keep the
// world nor wait for anything.
func (h *Host) With(fn func(w *sim.World)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.world.Step(h.clock.Now())
	fn(h.world)
}

// Sleep waits for d by the host's clock; false if ctx was done first.
func (h *Host) Sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-h.clock.At(h.clock.Now().Add(d)):
		return true
	}
}

// At delivers once, at or after t by the host's clock.
func (h *Host) At(t time.Time) <-chan time.Time { return h.clock.At(t) }
