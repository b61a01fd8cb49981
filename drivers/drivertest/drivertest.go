// Package drivertest is the conformance suite that every drivers.Link passes,
// and the profiles that drivers are tested with.
//
// It judges by what the counterpart counts of physical effects, never by what
// the link says of itself. It promises that a link which passes sends an effect
// exactly once for a permit, and for nothing else. It starts no goroutine that
// it does not join.
package drivertest

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"labgate/drivers"
	"labgate/lab"
	"labgate/safety"
)

// patience is how long the suite waits for what must come, and how long a call
// may take that can't succeed.
const patience = 10 * time.Second

// Harness makes links of one driver, each with a live counterpart.
type Harness struct {
	// Start makes a link, not connected, and its counterpart. It opens the link
	// with the given sink and clock, and cleans up by t.Cleanup, the link too.
	Start func(t *testing.T, sink drivers.Sink, clock lab.Clock) *Rig
	// Permit and Order make what only package safety can; nil takes its
	// constructors for tests. A permit is to be valid for at least 10 s.
	Permit func(t *testing.T, cmd *lab.Command, epoch uint64) *safety.Permit
	Order  func(t *testing.T, target lab.CommandID) *safety.Order
}

// Rig is one link with its counterpart.
type Rig struct {
	Link       drivers.Link
	Instrument string
	Properties []lab.PropertyID // all readable while the counterpart is well
	Identifies bool             // Identify gives at least one text

	// Effect makes a command that has exactly one physical effect, with an id
	// of its own each time. Effects is the counterpart's own count.
	Effect  func() *lab.Command
	Effects func() int
	// Stop is a safe command; Stops counts how often the counterpart got it.
	Stop  lab.CommandID
	Stops func() int

	// Faults; nil where the counterpart can't.
	LoseAnswer func()        // the next effect happens, and its answer is lost
	Mute       func(on bool) // the counterpart answers nothing
	Restart    func()        // it loses its state, as by a power cycle
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	if h.Permit == nil {
		h.Permit = func(t *testing.T, cmd *lab.Command, epoch uint64) *safety.Permit {
			return safety.NewTestPermit(t, cmd, epoch, time.Now().Add(time.Minute))
		}
	}
	if h.Order == nil {
		h.Order = func(t *testing.T, target lab.CommandID) *safety.Order { return safety.NewTestOrder(t, target) }
	}
	for _, c := range []struct {
		name string
		run  func(*test)
	}{
		{"connect, identify, read", (*test).reads},
		{"a permitted command has one effect", (*test).oneEffect},
		{"without a good permit there is no effect", (*test).noPermit},
		{"a permit opens one command once", (*test).spent},
		{"not connected", (*test).notConnected},
		{"stop needs no permit", (*test).stops},
		{"stop needs an order", (*test).noOrder},
		{"a lost answer is an unknown outcome", (*test).lostAnswer},
		{"a mute counterpart", (*test).mute},
		{"a new connection is a new epoch", (*test).reconnect},
		{"a lost state is a new epoch", (*test).restart},
		{"a context that is done", (*test).cancelled},
		{"close ends what is under way", (*test).closes},
	} {
		t.Run(c.name, func(t *testing.T) {
			leak := goleak.IgnoreCurrent()
			t.Run("run", func(t *testing.T) {
				x := &test{T: t, h: h, sink: &Sink{}}
				x.rig = h.Start(t, x.sink, Clock{})
				c.run(x)
			})
			goleak.VerifyNone(t, leak)
		})
	}
}

// test is one case under way.
type test struct {
	*testing.T
	h    Harness
	rig  *Rig
	sink *Sink
}

func (t *test) within() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func (t *test) connect() {
	t.Helper()
	if err := t.rig.Link.Connect(t.within()); err != nil {
		t.Fatalf("connect: %v", err)
	}
}

func (t *test) epoch() uint64 { return t.rig.Link.Epoch(t.rig.Instrument) }

func (t *test) permit(cmd *lab.Command) *safety.Permit { return t.h.Permit(t.T, cmd, t.epoch()) }

// read reads everything, and reports whether all of it is good.
func (t *test) read() bool {
	t.Helper()
	samples, err := t.rig.Link.Read(t.within(), t.rig.Instrument, t.rig.Properties)
	if err != nil {
		return false
	}
	if len(samples) != len(t.rig.Properties) {
		t.Fatalf("%d properties asked, %d samples", len(t.rig.Properties), len(samples))
	}
	for _, s := range samples {
		if s.Reading.Quality != lab.Good {
			return false
		}
	}
	return true
}

// effects gives the count once everything that was sent has surely arrived:
// after an answer to a question that was asked later.
func (t *test) effects(want int) {
	t.Helper()
	Eventually(t.T, "the readings are good again", func() bool {
		if t.read() {
			return true
		}
		_ = t.rig.Link.Connect(t.within()) // a link that is down is connected again; the next read tells
		return false
	})
	if n := t.rig.Effects(); n != want {
		t.Fatalf("%d physical effects, want %d", n, want)
	}
}

// Eventually polls until something holds, and fails the test where it never
// does.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// nothingHappened reports whether an error promises that there was no effect.
func nothingHappened(err error) bool {
	switch lab.KindOf(err) {
	case lab.KindInvalid, lab.KindDenied, lab.KindNotSent, lab.KindUnavailable, lab.KindExpired, lab.KindCancelled, lab.KindBusy:
		return err != nil
	}
	return false
}

// Clock is the machine's own.
type Clock struct{}

// Now reads the wall clock.
func (Clock) Now() time.Time { return time.Now() }

// At wakes after t.
func (Clock) At(t time.Time) <-chan time.Time { return time.After(time.Until(t)) }

// Loss is one call of Sink.Lost.
type Loss struct {
	Instrument string
	Err        error
}

// Sink keeps what a link delivers. Safe for concurrent use.
type Sink struct {
	mu      sync.Mutex
	samples []lab.Sample
	losses  []Loss
}

// Samples implements drivers.Sink.
func (s *Sink) Samples(x []lab.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples = append(s.samples, x...)
}

// Lost implements drivers.Sink.
func (s *Sink) Lost(instrument string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.losses = append(s.losses, Loss{instrument, err})
}

// Losses returns the losses so far.
func (s *Sink) Losses() []Loss {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Loss(nil), s.losses...)
}

// Received returns the samples that came unasked so far.
func (s *Sink) Received() []lab.Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]lab.Sample(nil), s.samples...)
}
