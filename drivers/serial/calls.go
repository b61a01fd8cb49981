package serial

import (
	"context"
	"errors"
	"fmt"
	"time"

	"labgate/drivers"
	"labgate/lab"
	"labgate/lab/frame"
	"labgate/safety"
)

// Identify implements drivers.Link: what the profile's identify captures.
func (l *link) Identify(ctx context.Context, instrument string) (drivers.Identity, error) {
	const op = "drivers/serial: identify"
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, done := l.scope(ctx)
	defer done()
	u, err := l.enter(op, instrument)
	if err != nil {
		return drivers.Identity{}, err
	}
	s, ok := u.bound.Identify()
	if !ok {
		return drivers.Identity{}, lab.Ef(op, instrument, lab.KindInvalid, "its profile can't ask who it is")
	}
	if err := l.prepare(ctx, u); err != nil && !u.answers {
		return drivers.Identity{}, lab.E(op, instrument, lab.KindUnavailable, err)
	}
	a, _, err := l.talk(ctx, u, s, false, nil)
	if err != nil {
		return drivers.Identity{}, lab.E(op, instrument, lab.KindUnavailable, err)
	}
	get := func(name string) string { text, _ := a.Get(name); return text }
	return drivers.Identity{Maker: get("maker"), Model: get("model"), Serial: get("serial"), Version: get("version")}, nil
}

// Read implements drivers.Link. Properties that are asked with the same
// message are asked once. Once an instrument was silent the rest is not asked.
// While its init is refused its values are uncertain. If the context ends
// early, the samples so far come with an error of KindCancelled.
func (l *link) Read(ctx context.Context, instrument string, properties []lab.PropertyID) ([]lab.Sample, error) {
	const op = "drivers/serial: read"
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, done := l.scope(ctx)
	defer done()
	u, err := l.enter(op, instrument)
	if err != nil {
		return nil, err
	}
	out := make([]lab.Sample, 0, len(properties))
	answers, silent := map[string]frame.Answer{}, false
	for _, id := range properties {
		if id.Instrument != instrument {
			return out, lab.E(op, instrument, lab.KindInvalid, fmt.Errorf("%s is another instrument's", id))
		}
		if silent {
			out = append(out, lab.Sample{ID: id, Reading: l.reading(u, lab.Value{}, lab.Bad)})
			continue
		}
		r, err := l.readOne(ctx, u, id, answers)
		silent = errors.Is(err, errSilent)
		switch {
		case ctx.Err() != nil:
			return out, lab.E(op, instrument, lab.KindCancelled, context.Cause(ctx))
		case l.port == nil:
			return out, lab.E(op, instrument, lab.KindUnavailable, err)
		}
		out = append(out, lab.Sample{ID: id, Reading: r})
	}
	return out, nil
}

// readOne asks for one property. A value that can't be had is bad.
func (l *link) readOne(ctx context.Context, u *unit, id lab.PropertyID, answers map[string]frame.Answer) (lab.Reading, error) {
	bad := func() lab.Reading { return l.reading(u, lab.Value{}, lab.Bad) }
	s, ok := u.bound.Ask(id.Component, id.Property)
	if !ok {
		return bad(), nil
	}
	if len(l.units) > 1 && time.Now().Before(u.quietAt) {
		return bad(), nil // the others need not wait for its late reply
	}
	var err error
	a, known := answers[string(s.Send)]
	for try := 0; !known && try < 2; try++ { // again where the instrument turns out to have lost its state
		if err = l.prepare(ctx, u); err != nil && !u.answers {
			return bad(), err
		}
		if a, _, err = l.talk(ctx, u, s, false, nil); !isReset(err) {
			break
		}
		clear(answers)
	}
	if err != nil {
		return bad(), err
	}
	v, err := u.bound.Value(id.Component, id.Property, a)
	if err != nil {
		return bad(), err
	}
	answers[string(s.Send)] = a
	if !u.ready {
		return l.reading(u, v, lab.Uncertain), nil
	}
	return l.reading(u, v, lab.Good), nil
}

// reading stamps a value. A device on a serial line does not say when it
// measured.
func (l *link) reading(u *unit, v lab.Value, q lab.Quality) lab.Reading {
	now := l.cfg.Clock.Now()
	return lab.Reading{Value: v, Quality: q, Source: now, Received: now, Epoch: u.epoch.Load()}
}

// Exchange implements drivers.Link.
func (l *link) Exchange(ctx context.Context, cmd *lab.Command, permit *safety.Permit) (drivers.Result, error) {
	const op = "drivers/serial: exchange"
	name := cmd.Target.Instrument
	if permit == nil {
		return drivers.Result{}, lab.Ef(op, name, lab.KindDenied, "no permit")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, done := l.scope(ctx)
	defer done()
	u, err := l.enter(op, name)
	if err != nil {
		if lab.KindOf(err) == lab.KindUnavailable {
			err = lab.E(op, name, lab.KindNotSent, err)
		}
		return drivers.Result{}, err
	}
	p, err := u.bound.Encode(cmd)
	if err != nil {
		return drivers.Result{}, err
	}
	if err := l.prepare(ctx, u); err != nil {
		return drivers.Result{}, lab.E(op, name, lab.KindNotSent, fmt.Errorf("it is not ready: %w", err))
	}
	res, err := l.send(ctx, u, p, cmd, permit)
	if isReset(err) && ctx.Err() == nil {
		if again := l.prepare(ctx, u); again != nil {
			err = lab.E(op, name, lab.KindOf(err), fmt.Errorf("%w; its settings could not be restored: %v", err, again))
		}
	}
	return res, err
}

// send sends a command's messages, each after the answer to the one before.
func (l *link) send(ctx context.Context, u *unit, p frame.Program, cmd *lab.Command, permit *safety.Permit) (drivers.Result, error) {
	var res drivers.Result
	var answers []frame.Answer
	epoch := u.epoch.Load()
	for i, s := range p.Steps {
		var denied error
		check := func() error {
			now := l.cfg.Clock.Now()
			switch {
			case i == 0:
				denied = permit.Spend(cmd, epoch, now)
			case u.epoch.Load() != epoch:
				denied = fmt.Errorf("the instrument began a new epoch")
			default:
				denied = permit.Live(cmd)
			}
			if denied == nil && i+1 == p.EffectAt {
				res.Sent = now
			}
			return denied
		}
		a, sent, err := l.talk(ctx, u, s, false, check)
		if err != nil {
			begun := i+1 > p.EffectAt || i+1 == p.EffectAt && sent
			if !begun {
				res.Sent = time.Time{}
			}
			return res, sendError(u.in.Name, i, i+1 == p.EffectAt, begun, denied, err)
		}
		answers = append(answers, a)
	}
	values, err := u.bound.Gives(p, answers)
	if err != nil {
		return res, lab.E("drivers/serial: exchange", u.in.Name, lab.KindOutcomeUnknown, fmt.Errorf("the device took it, but its results can't be read: %w", err))
	}
	res.Acked, res.Values = true, values
	return res, nil
}

// sendError says what may be assumed after a message of a command failed. at
// says that it was the one that begins the effect, begun that the effect may
// have begun.
func sendError(instrument string, i int, at, begun bool, denied, err error) error {
	const op = "drivers/serial: exchange"
	var dev *frame.DeviceError
	switch {
	case begun && at && errors.As(err, &dev) && !dev.Alarm:
		return lab.E(op, instrument, lab.KindDeviceRefused, err)
	case begun:
		return lab.E(op, instrument, lab.KindOutcomeUnknown, err)
	}
	kind := lab.KindNotSent
	var e *lab.Error
	if denied != nil && errors.As(denied, &e) {
		kind = e.Kind
	}
	if i > 0 {
		err = fmt.Errorf("before its effect; settings of the device may have changed: %w", err)
	}
	return lab.E(op, instrument, kind, err)
}

// Stop implements drivers.Link. It waits for no late reply, opens the line
// where it is not open, and sends the command up to three times until it is
// answered. An answer on a line where a late reply may still come counts as no
// sign (not Acked). Where it failed, KindNotSent means that no byte left.
func (l *link) Stop(ctx context.Context, order *safety.Order) (drivers.Result, error) {
	const op = "drivers/serial: stop"
	if order == nil || order.Target() == (lab.CommandID{}) {
		return drivers.Result{}, lab.Ef(op, "", lab.KindDenied, "no order")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, done := l.revive(ctx)
	defer done()
	target := order.Target()
	u := l.names[target.Instrument]
	if u == nil {
		return drivers.Result{}, lab.Ef(op, target.Instrument, lab.KindInvalid, "it is not on this line")
	}
	if c := u.in.Profile.Component(target.Component); c == nil || c.Class.Command(target.Command) == nil || c.Class.Command(target.Command).Effect != lab.Safe {
		return drivers.Result{}, lab.E(op, target.Instrument, lab.KindDenied, fmt.Errorf("%s is no safe command", target))
	}
	var res drivers.Result
	err := error(lab.Ef(op, target.Instrument, lab.KindNotSent, "not tried"))
	for range tries {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
			break
		}
		if err = l.stopOnce(ctx, u, &lab.Command{Target: target, Args: order.Args()}, &res); err == nil {
			break
		}
	}
	if l.connected && !u.ready && isReset(u.cause) && ctx.Err() == nil {
		_ = l.prepare(ctx, u) // the cause stays with the instrument and is told to whoever asks next
	}
	if err == nil {
		return res, nil
	}
	var dev *frame.DeviceError
	kind := lab.KindOutcomeUnknown
	switch {
	case res.Sent.IsZero():
		kind = lab.KindNotSent
	case errors.As(err, &dev) && !dev.Alarm:
		kind = lab.KindDeviceRefused
	}
	return res, lab.E(op, target.Instrument, kind, err)
}

// stopOnce sends a safe command once.
func (l *link) stopOnce(ctx context.Context, u *unit, cmd *lab.Command, res *drivers.Result) error {
	if l.port == nil {
		if err := l.open(ctx); err != nil {
			return err
		}
	}
	if u.bound == nil {
		return u.broken
	}
	p, err := u.bound.Encode(cmd)
	if err != nil {
		return err
	}
	doubtful, before := time.Now().Before(u.quietAt), res.Sent
	for i, s := range p.Steps {
		check := func() error {
			if i+1 == p.EffectAt && res.Sent.IsZero() {
				res.Sent = l.cfg.Clock.Now()
			}
			return nil
		}
		_, sent, err := l.talk(ctx, u, s, true, check)
		if err != nil {
			if !sent {
				res.Sent = before
			}
			return err
		}
	}
	if doubtful {
		u.quietAt = time.Now().Add(l.window())
	}
	res.Acked = !doubtful
	return nil
}
