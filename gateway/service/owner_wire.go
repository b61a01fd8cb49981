package service

import (
	"context"
	"fmt"
	"time"

	"labgate/drivers"
	"labgate/gateway"
	"labgate/internal/failpoint"
	"labgate/lab"
)

// doSend sends one command. What it returned is stored before it is told of,
// by somebody else where there are bytes to store: a disk that is slow must
// not hold up a stop.
func (o *owner) doSend(ctx context.Context, a gateway.Send) {
	var r drivers.Result
	err := o.call(ctx, exchangeIn, func(ctx context.Context) (err error) {
		failpoint.Here("send/before " + a.Command.Target.Command)
		r, err = o.link.Exchange(ctx, &a.Command, a.Permit)
		failpoint.Here("send/after " + a.Command.Target.Command)
		return err
	})
	done := gateway.Exchanged{Command: a.Command.ID, Acked: r.Acked, Values: r.Values, Sent: r.Sent, Ended: o.s.o.Clock.Now(), Err: err}
	if err == nil && hasBlobs(r.Values) {
		o.s.blobs.Put(storeRequest{a.Command.Target.Instrument, done})
	} else {
		o.s.events.Put(done)
	}
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
	o.tell(samples)
	dead := len(samples) > 0
	for _, s := range samples {
		dead = dead && s.Reading.Quality == lab.Bad && s.Why == "" // what was answered in its place is a sign of life
	}
	if dead && !o.stopPending() {
		o.demote(instrument, fmt.Errorf("none of its %d properties could be read", len(samples)))
	}
	return nil
}

// tell writes down why properties can't be read, once for each reason.
func (o *owner) tell(samples []lab.Sample) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range samples {
		s := &samples[i]
		if s.Why == "" && len(o.told) == 0 || o.told[s.ID] == s.Why {
			continue
		}
		if s.Why == "" {
			delete(o.told, s.ID)
			o.s.o.Log(s.ID.String() + " can be read again")
			continue
		}
		o.told[s.ID] = s.Why
		o.s.o.Log(s.ID.String() + " can't be read: " + s.Why)
	}
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
