package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"labgate/drivers"
	"labgate/gateway"
	"labgate/lab"
)

// owner is the one goroutine that calls a link. What it is asked for waits in
// its own lists; a pending stop is looked at before anything else, and breaks
// off whatever the link is doing.
type owner struct {
	s           *Service
	link        drivers.Link
	instruments []*lab.Instrument
	polls       []*poll

	mu        sync.Mutex
	stops     []stop
	sends     []gateway.Send
	refreshes []refreshRequest
	interrupt context.CancelFunc // of the call under way
	breakOff  *time.Timer        // interrupts the call under way for a stop
	wedged    *time.Timer        // closes a link that does not come back for a stop
	stopping  bool               // a stop is being sent; it has a watchdog of its own
	lost      error              // the link says that it is gone
	wake      chan struct{}

	epochs   map[string]uint64
	silent   map[string]time.Time // instruments that do not answer, until when they are left alone
	failures map[string]int
}

// stop is a safe command that waits. One that the link could not send is
// tried again on a fresh connection.
type stop struct {
	gateway.Lane
	tries int
}

const stopTries = 3

type refreshRequest struct {
	ids  []lab.PropertyID
	by   time.Time
	done func()
}

// poll is a set of properties of one instrument with one period.
type poll struct {
	instrument string
	ids        []lab.PropertyID
	every      time.Duration
	next       time.Time
}

// Times of an owner.
const (
	connectWithin = 5 * time.Second
	readWithin    = 2 * time.Second
	exchangeIn    = 15 * time.Second
	stopWithin    = 2 * time.Second
	breakOffAfter = 100 * time.Millisecond // a healthy exchange ends by itself sooner, and leaves no late reply behind
	wedgeWithin   = 500 * time.Millisecond // a call that ignores its context for longer loses the port
	firstBackoff  = 100 * time.Millisecond
	lastBackoff   = 5 * time.Second
)

func newOwner(s *Service, instruments []*lab.Instrument, open drivers.Opener) (*owner, error) {
	o := &owner{s: s, instruments: instruments, wake: make(chan struct{}, 1), epochs: map[string]uint64{}, silent: map[string]time.Time{}, failures: map[string]int{}}
	link, err := open(drivers.Config{Instruments: instruments, Sink: o, Clock: s.o.Clock, Address: s.o.Address})
	if err != nil {
		return nil, err
	}
	o.link = link
	for _, in := range instruments {
		byPeriod := map[time.Duration]*poll{}
		for _, m := range in.Profile.Properties {
			if m.Poll <= 0 {
				continue
			}
			p := byPeriod[m.Poll]
			if p == nil {
				p = &poll{instrument: in.Name, every: m.Poll}
				byPeriod[m.Poll] = p
				o.polls = append(o.polls, p)
			}
			p.ids = append(p.ids, lab.PropertyID{Instrument: in.Name, Component: m.Component, Property: m.Property})
		}
	}
	return o, nil
}

// Samples takes readings that a device sent by itself.
func (o *owner) Samples(samples []lab.Sample) { o.s.slots.put(samples) }

// Lost takes the link's word that it, or one of its instruments, is gone. Of
// an instrument alone the link itself sees to the return: a new epoch tells.
func (o *owner) Lost(instrument string, err error) {
	if instrument != "" {
		o.s.events.Put(gateway.LinkLost{Instrument: instrument, Say: err.Error()})
	} else {
		o.mu.Lock()
		o.lost = err
		o.mu.Unlock()
	}
	o.nudge()
}

func (o *owner) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

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

// breakOpen closes a link under a call that does not come back.
func (o *owner) breakOpen() {
	o.Lost("", errors.New("it did not come back for a stop, and was closed"))
	_ = o.link.Close() // an error here means that it is closed already
}

func (o *owner) send(a gateway.Send) {
	o.mu.Lock()
	o.sends = append(o.sends, a)
	o.mu.Unlock()
	o.nudge()
}

func (o *owner) refresh(r refreshRequest) {
	o.mu.Lock()
	o.refreshes = append(o.refreshes, r)
	o.mu.Unlock()
	o.nudge()
}

// run connects, works, and connects again when the link is lost.
func (o *owner) run(ctx context.Context) {
	defer o.refuseAll(errors.New("the gateway is going down"))
	defer func() { _ = o.link.Close() }() // nothing is under way any more
	backoff := firstBackoff
	for ctx.Err() == nil {
		o.takeLost()
		err := o.connect(ctx)
		if err == nil {
			backoff = firstBackoff
			err = o.work(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		for _, in := range o.instruments {
			o.s.events.Put(gateway.LinkLost{Instrument: in.Name, Say: err.Error()})
		}
		_ = o.link.Close() // it has failed; only its resources are of interest
		o.refuseSends(err)
		o.wait(ctx, backoff)
		backoff = min(2*backoff, lastBackoff)
	}
}

// connect opens the link and reports who answered.
func (o *owner) connect(ctx context.Context) error {
	// Not by call: a stop that waits for the link must not break off the
	// connecting that it waits for.
	dial, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	if err := o.link.Connect(dial); err != nil {
		return err
	}
	clear(o.silent)
	for _, in := range o.instruments {
		o.identify(ctx, in)
	}
	return nil
}

func (o *owner) identify(ctx context.Context, in *lab.Instrument) {
	var who drivers.Identity
	err := o.call(ctx, readWithin, func(ctx context.Context) (err error) {
		who, err = o.link.Identify(ctx, in.Name)
		return err
	})
	if err != nil {
		o.demote(in.Name, err)
		return
	}
	o.epochs[in.Name] = o.link.Epoch(in.Name)
	delete(o.silent, in.Name)
	o.failures[in.Name] = 0
	o.s.events.Put(gateway.LinkUp{Instrument: in.Name, Epoch: o.epochs[in.Name], Identity: strings.Join(strings.Fields(who.Maker+" "+who.Model+" "+who.Serial+" "+who.Version), " ")})
}

// demote leaves an instrument alone for a while, so that its silence costs
// the others nothing.
func (o *owner) demote(instrument string, err error) {
	o.failures[instrument]++
	pause := min(firstBackoff<<min(o.failures[instrument], 6), lastBackoff)
	o.silent[instrument] = o.s.o.Clock.Now().Add(pause)
	o.s.events.Put(gateway.LinkLost{Instrument: instrument, Say: err.Error()})
}

// work serves a connected link until it is lost: stops first, then sends,
// then what a decision waits for, then the polls that are due.
func (o *owner) work(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := o.takeLost(); err != nil {
			return err
		}
		o.checkEpochs(ctx)
		if a, ok := o.nextStop(); ok {
			if err := o.doStop(ctx, a); err != nil {
				return err
			}
			continue
		}
		if a, ok := o.nextSend(); ok {
			o.doSend(ctx, a)
			continue
		}
		if r, ok := o.nextRefresh(); ok {
			err := o.doRefresh(ctx, r)
			r.done()
			if err != nil {
				return err
			}
			continue
		}
		due, wait := o.nextPoll()
		if due == nil {
			o.wait(ctx, wait)
			continue
		}
		if err := o.read(ctx, due.instrument, due.ids); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// call runs one call of the link with a deadline that a stop can break off.
func (o *owner) call(ctx context.Context, within time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	o.mu.Lock()
	o.interrupt = cancel
	if len(o.stops) > 0 {
		cancel()
	}
	o.mu.Unlock()
	err := f(ctx)
	o.mu.Lock()
	o.interrupt = nil
	o.mu.Unlock()
	return err
}

// doStop sends one stop. An error means that the link could not: the stop
// waits at the front for the next connection.
func (o *owner) doStop(ctx context.Context, a stop) error {
	ctx, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	o.setStopping(true)
	watchdog := time.AfterFunc(stopWithin+wedgeWithin, o.breakOpen)
	r, err := o.link.Stop(ctx, a.Order)
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

// doSend sends one command and stores what it returned before it says so.
func (o *owner) doSend(ctx context.Context, a gateway.Send) {
	var r drivers.Result
	err := o.call(ctx, exchangeIn, func(ctx context.Context) (err error) {
		r, err = o.link.Exchange(ctx, &a.Command, a.Permit)
		return err
	})
	for name, v := range r.Values {
		if err != nil || v.Kind != lab.Blob || v.Blob == nil {
			continue
		}
		hash, perr := o.s.o.Blobs.Put(ctx, v.Blob.Bytes)
		if perr != nil {
			err = lab.E("gateway/service: store", a.Command.Target.Instrument, lab.KindOutcomeUnknown, fmt.Errorf("%s: %w", name, perr))
			continue
		}
		v.Blob = &lab.BlobRef{Hash: hash, Media: v.Blob.Media, Size: len(v.Blob.Bytes), Meta: v.Blob.Meta}
		r.Values[name] = v
	}
	o.s.events.Put(gateway.Exchanged{Command: a.Command.ID, Acked: r.Acked, Values: r.Values, Sent: r.Sent, Err: err})
	for _, p := range o.polls {
		if p.instrument == a.Command.Target.Instrument {
			p.next = time.Time{}
		}
	}
}

func (o *owner) doRefresh(ctx context.Context, r refreshRequest) error {
	byInstrument := map[string][]lab.PropertyID{}
	for _, id := range r.ids {
		byInstrument[id.Instrument] = append(byInstrument[id.Instrument], id)
	}
	for _, in := range o.instruments {
		ids := byInstrument[in.Name]
		if len(ids) == 0 || !o.s.o.Clock.Now().Before(r.by) {
			continue
		}
		if err := o.read(ctx, in.Name, ids); err != nil {
			return err
		}
	}
	return nil
}

// read asks one instrument and puts what it says into the slots. An error is
// the link's; an instrument that is silent is demoted.
func (o *owner) read(ctx context.Context, instrument string, ids []lab.PropertyID) error {
	if until, ok := o.silent[instrument]; ok {
		if o.s.o.Clock.Now().Before(until) {
			return nil
		}
		o.identify(ctx, o.instrument(instrument))
		if _, still := o.silent[instrument]; still {
			return nil
		}
	}
	var samples []lab.Sample
	err := o.call(ctx, readWithin, func(ctx context.Context) (err error) {
		samples, err = o.link.Read(ctx, instrument, ids)
		return err
	})
	o.s.slots.put(samples)
	if err != nil && (o.stopPending() || lab.KindOf(err) == lab.KindCancelled) {
		return nil // a stop broke it off; the link itself may be well
	}
	if err != nil {
		return err
	}
	dead := len(samples) > 0
	for _, s := range samples {
		dead = dead && s.Reading.Quality == lab.Bad
	}
	if dead && !o.stopPending() {
		o.demote(instrument, fmt.Errorf("none of its %d properties could be read", len(samples)))
	}
	return nil
}

// checkEpochs reports devices that may have lost their state.
func (o *owner) checkEpochs(ctx context.Context) {
	for _, in := range o.instruments {
		if e, ok := o.epochs[in.Name]; ok && e != o.link.Epoch(in.Name) {
			o.identify(ctx, in)
		}
	}
}

func (o *owner) instrument(name string) *lab.Instrument {
	for _, in := range o.instruments {
		if in.Name == name {
			return in
		}
	}
	return nil
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

func (o *owner) nextSend() (gateway.Send, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.sends) == 0 {
		return gateway.Send{}, false
	}
	a := o.sends[0]
	o.sends = o.sends[1:]
	return a, true
}

func (o *owner) nextRefresh() (refreshRequest, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.refreshes) == 0 {
		return refreshRequest{}, false
	}
	r := o.refreshes[0]
	o.refreshes = o.refreshes[1:]
	return r, true
}

// nextPoll is the poll that has been due for longest, or how long until one is.
func (o *owner) nextPoll() (*poll, time.Duration) {
	now := o.s.o.Clock.Now()
	var first *poll
	for _, p := range o.polls {
		if until, silent := o.silent[p.instrument]; silent && p.next.Before(until) {
			p.next = until
		}
		if first == nil || p.next.Before(first.next) {
			first = p
		}
	}
	if first == nil {
		return nil, time.Second
	}
	if wait := first.next.Sub(now); wait > 0 {
		return nil, wait
	}
	first.next = now.Add(first.every)
	return first, 0
}

func (o *owner) takeLost() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	err := o.lost
	o.lost = nil
	return err
}

func (o *owner) wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-o.wake:
	case <-o.s.o.Clock.At(o.s.o.Clock.Now().Add(d)):
	}
}

// refuseSends answers what can't be sent while the link is down. Stops stay:
// they go first when it is back.
func (o *owner) refuseSends(err error) {
	o.mu.Lock()
	sends, refreshes := o.sends, o.refreshes
	o.sends, o.refreshes = nil, nil
	o.mu.Unlock()
	for _, a := range sends {
		o.s.events.Put(gateway.Exchanged{Command: a.Command.ID, Err: lab.E("gateway/service: send", a.Command.Target.Instrument, lab.KindNotSent, err)})
	}
	for _, r := range refreshes {
		r.done()
	}
}

func (o *owner) refuseAll(err error) {
	o.refuseSends(err)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wedged != nil {
		o.wedged.Stop()
	}
	if o.breakOff != nil {
		o.breakOff.Stop()
	}
}
