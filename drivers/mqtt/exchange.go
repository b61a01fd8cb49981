package mqtt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"labgate/drivers"
	"labgate/lab"
	"labgate/safety"
)

// stopExpires is how long a device may still act on a stop: a late stop is a
// good stop.
const stopExpires = time.Minute

// pending is the command that waits for its acknowledgement. Its channels hold
// all that it can take, so the decoder never waits for it.
type pending struct {
	id    string
	ack   chan any // the acknowledgement, decoded; the first one counts
	blobs chan message
	seen  map[int]bool // blobs that came; the decoder's
	acked bool         // likewise
}

// Exchange publishes the command once and waits for its acknowledgement and
// for all that it gives.
func (l *Link) Exchange(ctx context.Context, cmd *lab.Command, permit *safety.Permit) (drivers.Result, error) {
	const op = "drivers/mqtt: exchange"
	l.op.Lock()
	defer l.op.Unlock()
	name := cmd.Target.Instrument
	c, err := l.command(op, cmd.Target)
	if err != nil {
		return drivers.Result{}, err
	}
	payload, err := c.payload(cmd.ID, cmd.Args, l.expires(cmd))
	if err != nil {
		return drivers.Result{}, lab.E(op, name, lab.KindInvalid, err)
	}
	s, err := l.alive(op, name)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return drivers.Result{}, lab.E(op, name, lab.KindNotSent, err)
	}
	sent := l.cfg.Clock.Now()
	if err := permit.Spend(cmd, l.epoch.Load(), sent); err != nil {
		return drivers.Result{}, err
	}
	return l.exchange(ctx, op, s, c, cmd.ID, payload, sent)
}

// expires is when a device has to drop a command that reaches it late: at the
// command's own end, and once nobody waits for a reply any more.
func (l *Link) expires(cmd *lab.Command) time.Time {
	t := l.cfg.Clock.Now().Add(l.plan.within)
	if !cmd.NotAfter.IsZero() && cmd.NotAfter.Before(t) {
		t = cmd.NotAfter
	}
	return t
}

func (l *Link) command(op string, target lab.CommandID) (*command, error) {
	if target.Instrument != l.plan.name {
		return nil, lab.Ef(op, target.Instrument, lab.KindInvalid, "it is not on this link")
	}
	c := l.plan.commands[member{target.Component, target.Command}]
	if c == nil {
		return nil, lab.Ef(op, target.Instrument, lab.KindInvalid, "its profile has no command "+target.String())
	}
	return c, nil
}

// Stop publishes a safe command. Where the connection turns out to be lost it
// connects again and publishes once more: a stop may be repeated.
func (l *Link) Stop(ctx context.Context, order *safety.Order) (drivers.Result, error) {
	const op = "drivers/mqtt: stop"
	l.op.Lock()
	defer l.op.Unlock()
	if order == nil {
		return drivers.Result{}, lab.Ef(op, l.plan.name, lab.KindDenied, "no order")
	}
	c, err := l.command(op, order.Target())
	if err != nil {
		return drivers.Result{}, err
	}
	if c.spec.Effect != lab.Safe {
		return drivers.Result{}, lab.Ef(op, l.plan.name, lab.KindInvalid, order.Target().String()+" is no safe command")
	}
	var first drivers.Result
	var firstErr error
	for try := range 2 {
		s, err := l.alive(op, l.plan.name)
		if err != nil {
			if err := l.connect(ctx); err != nil {
				if firstErr != nil {
					return first, firstErr // it may have been heard: that is the worse news
				}
				return drivers.Result{}, err
			}
			if s, err = l.alive(op, l.plan.name); err != nil {
				return first, err
			}
		}
		now := l.cfg.Clock.Now()
		id := fmt.Sprintf("stop-%d-%d", now.UnixNano(), l.orders.Add(1))
		payload, err := c.payload(id, order.Args(), now.Add(stopExpires))
		if err != nil {
			return drivers.Result{}, lab.E(op, l.plan.name, lab.KindInvalid, err)
		}
		r, err := l.exchange(ctx, op, s, c, id, payload, now)
		if err == nil || s.lost() == nil || try == 1 || ctx.Err() != nil {
			return r, err // an answer, or silence of the device: the owner decides
		}
		first, firstErr = r, err
	}
	return first, firstErr
}

// exchange publishes and waits. From here on an error is KindNotSent only
// where no byte can have left.
func (l *Link) exchange(ctx context.Context, op string, s *session, c *command, id string, payload []byte, sent time.Time) (drivers.Result, error) {
	p := &pending{id: id, ack: make(chan any, 1), blobs: make(chan message, len(c.gives)+1), seen: map[int]bool{}}
	l.expect(p)
	defer l.expect(nil)
	before := s.written()
	published := s.publish(payload)
	timer := time.NewTimer(c.within)
	defer timer.Stop()
	w := &waiting{c: c, blobs: map[int][]byte{}, needAck: s.topics.ack != ""}
	for !w.done() {
		var err error
		select {
		case err = <-published:
			published, w.published = nil, err == nil
		case w.ack = <-p.ack:
			w.acked = true
		case m := <-p.blobs:
			w.blobs[m.blob] = m.payload
		case <-s.gone:
			err = s.err
		case <-ctx.Done():
			err = ctx.Err()
		case <-timer.C:
			err = fmt.Errorf("no %s within %v", w.missing(), c.within)
		}
		if err == nil {
			err = w.refused(l.plan)
		}
		if err == nil {
			continue
		}
		if !w.published && !w.acked {
			// The library may still hold the command. It must not leave later,
			// after a stop perhaps: the connection goes.
			s.lose(err)
			if s.written() == before {
				return drivers.Result{}, lab.E(op, l.plan.name, lab.KindNotSent, err)
			}
		}
		kind := lab.KindOutcomeUnknown
		if errors.As(err, new(refusal)) {
			kind = lab.KindDeviceRefused
		}
		return drivers.Result{Sent: sent, Acked: w.ok}, lab.E(op, l.plan.name, kind, err)
	}
	r := drivers.Result{Sent: sent, Acked: w.ok}
	values, err := c.results(w.ack, w.blobs)
	if err != nil { // it was done, but what it was done for is lost
		return r, lab.E(op, l.plan.name, lab.KindOutcomeUnknown, err)
	}
	r.Values = values
	return r, nil
}

// waiting is what has come so far for a command.
type waiting struct {
	c         *command
	needAck   bool // the device acknowledges; else the broker's word has to do, and proves nothing
	published bool // the broker has it
	acked     bool // an acknowledgement came
	ok        bool // it said yes
	ack       any
	blobs     map[int][]byte
}

func (w *waiting) done() bool {
	if !w.needAck {
		return w.published
	}
	return w.ok && w.missing() == ""
}

// missing names what is waited for.
func (w *waiting) missing() string {
	if !w.needAck {
		return "sign of the broker"
	}
	if !w.acked {
		return "acknowledgement"
	}
	for _, g := range w.c.gives {
		if g.blob >= 0 && w.blobs[g.blob] == nil {
			return g.wire.Name
		}
	}
	return ""
}

// refusal is a device's no, in its own words, made harmless.
type refusal string

func (r refusal) Error() string { return string(r) }

// refused judges an acknowledgement, once it is there.
func (w *waiting) refused(p *plan) error {
	if !w.acked || w.ok {
		return nil
	}
	if p.ok == nil { // this device only acknowledges what it took
		w.ok = true
		return nil
	}
	v, _ := p.ok.in(w.ack)
	ok, isBool := v.(bool)
	switch {
	case !isBool:
		return errors.New("the acknowledgement does not say whether it is a yes")
	case ok:
		w.ok = true
		return nil
	}
	if text, ok := p.fault.text(w.ack); ok && text != "" {
		return refusal("the device says: " + drivers.Printable(text, maxText))
	}
	return refusal("the device gives no reason")
}

// expect sets the command that waits; nil for none.
func (l *Link) expect(p *pending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = p
}

// expects reports whether a command of this id waits.
func (l *Link) expects(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pending != nil && l.pending.id == id
}

// ack takes an acknowledgement to the command that waits for it.
func (l *Link) ack(m message) {
	doc, err := decode(m.payload, maxAck)
	if err != nil {
		l.counts.malformed.Add(1)
		return
	}
	id, _ := l.plan.id.text(doc)
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pending
	if p == nil || p.id != id || p.acked {
		l.counts.unasked.Add(1)
		return
	}
	p.acked = true
	p.ack <- doc
}

// blob takes a blob to the command that waits for it.
func (l *Link) blob(m message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pending
	if p == nil || p.id != m.id || p.seen[m.blob] || len(p.blobs) == cap(p.blobs) {
		l.counts.unasked.Add(1)
		return
	}
	p.seen[m.blob] = true
	p.blobs <- m
}
