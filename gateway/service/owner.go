package service

import (
	"context"
	"errors"
	"math/rand/v2"
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
	told      map[lab.PropertyID]string // why each can't be read, as written down last

	epochs   map[string]uint64
	silent   map[string]time.Time // instruments that do not answer, until when they are left alone
	failures map[string]int
}

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
	o := &owner{s: s, instruments: instruments, wake: make(chan struct{}, 1), told: map[lab.PropertyID]string{}, epochs: map[string]uint64{}, silent: map[string]time.Time{}, failures: map[string]int{}}
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
func (o *owner) Samples(samples []lab.Sample) {
	o.s.slots.put(samples)
	o.tell(samples)
}

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
		// With jitter, so that many links to one server that is back don't all
		// come at once; a full server gets the time to forget dead sessions.
		o.rest(ctx, backoff/2+rand.N(backoff/2), err)
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

// rest waits before the next try to connect. Only a stop cuts it short: what
// else is asked for meanwhile is answered, and does not make the owner hammer
// at a server that is down or full.
func (o *owner) rest(ctx context.Context, d time.Duration, why error) {
	over := o.s.o.Clock.At(o.s.o.Clock.Now().Add(d))
	for !o.stopPending() {
		select {
		case <-ctx.Done():
			return
		case <-over:
			return
		case <-o.wake:
			o.refuseSends(why)
		}
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
