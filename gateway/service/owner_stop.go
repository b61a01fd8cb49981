package service

import (
	"context"
	"errors"
	"time"

	"labgate/gateway"
	"labgate/internal/failpoint"
	"labgate/lab"
)

// stop is a safe command that waits. One that the link could not send is
// tried again on a fresh connection.
type stop struct {
	gateway.Lane
	tries int
}

const stopTries = 3

// lane hands over a stop: it goes before everything, and breaks off the call
// under way. A link that ignores that is closed, and reopened stop first.
func (o *owner) lane(a gateway.Lane) {
	o.mu.Lock()
	o.stops = append(o.stops, stop{Lane: a})
	if o.breakOff == nil {
		o.breakOff = time.AfterFunc(breakOffAfter, o.interruptCall)
	}
	if o.wedged == nil && !o.stopping {
		o.wedged = time.AfterFunc(wedgeWithin, o.breakOpen)
	}
	o.mu.Unlock()
	o.nudge()
}

// interruptCall breaks off the call that a stop waits for.
func (o *owner) interruptCall() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.interrupt != nil && len(o.stops) > 0 {
		o.interrupt()
	}
}

// breakOpen closes a link under a call that does not come back. Told of before
// it is closed, the owner could be connected again by then, and would not know
// that this connection was closed too.
func (o *owner) breakOpen() {
	_ = o.link.Close() // an error here means that it is closed already
	o.Lost("", errors.New("it did not come back for a stop, and was closed"))
}

func (o *owner) nextStop() (stop, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wedged != nil {
		o.wedged.Stop()
		o.wedged = nil
	}
	if o.breakOff != nil {
		o.breakOff.Stop()
		o.breakOff = nil
	}
	if len(o.stops) == 0 {
		return stop{}, false
	}
	a := o.stops[0]
	o.stops = o.stops[1:]
	return a, true
}

func (o *owner) stopPending() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.stops) > 0
}

// doStop sends one stop. An error means that the link could not: the stop
// waits at the front for the next connection.
func (o *owner) doStop(ctx context.Context, a stop) error {
	ctx, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	o.setStopping(true)
	watchdog := time.AfterFunc(stopWithin+wedgeWithin, o.breakOpen)
	failpoint.Here("stop/before " + a.Order.Target().Command)
	r, err := o.link.Stop(ctx, a.Order)
	failpoint.Here("stop/after " + a.Order.Target().Command)
	watchdog.Stop()
	o.setStopping(false)
	kind := lab.KindOf(err)
	if a.tries++; err != nil && (kind == lab.KindNotSent || kind == lab.KindUnavailable) && a.tries < stopTries {
		o.mu.Lock()
		o.stops = append([]stop{a}, o.stops...)
		o.mu.Unlock()
		return err
	}
	o.s.events.Put(gateway.LaneDone{ID: a.ID, Acked: r.Acked, Err: err})
	// What the stop did is wanted now, not at the next poll.
	for _, p := range o.polls {
		if p.instrument == a.Order.Target().Instrument {
			p.next = time.Time{}
		}
	}
	return nil
}

func (o *owner) setStopping(on bool) {
	o.mu.Lock()
	o.stopping = on
	o.mu.Unlock()
}
