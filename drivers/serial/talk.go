package serial

import (
	"context"
	"errors"
	"fmt"
	"time"

	"labgate/internal/failpoint"
	"labgate/lab"
	"labgate/lab/frame"
)

// talk sends one message and waits for its answer. check, if any, is asked
// directly before the first byte. sent says whether a byte may have left.
//
// The error is the context's, check's, errSilent, a *frame.DeviceError, a
// *frame.MismatchError, or the line's own, after which the line is shut.
func (l *link) talk(ctx context.Context, u *unit, s frame.Step, urgent bool, check func() error) (a frame.Answer, sent bool, err error) {
	if err := l.clear(ctx, u, urgent); err != nil {
		return a, false, err
	}
	if check != nil {
		if err := check(); err != nil {
			return a, false, err
		}
	}
	length := l.onLine(len(s.Send))
	n, err := l.port.write(s.Send, time.Now().Add(length+writeWithin))
	if err != nil {
		err = fmt.Errorf("the line took %d of %d bytes: %w", n, len(s.Send), err)
		l.shut(err)
		return a, n > 0, err
	}
	if check != nil {
		failpoint.Here("wire/serial written")
	}
	a, err = l.await(ctx, u, s, time.Now().Add(length+l.spec.ReplyWithin))
	l.lastEnd = time.Now()
	l.heed(u, err)
	return a, true, err
}

// onLine is how long bytes take: ten bits each.
func (l *link) onLine(bytes int) time.Duration {
	return time.Duration(bytes) * 10 * time.Second / time.Duration(l.spec.Baud)
}

// window is how long after a failed exchange its reply may still come: a device
// that was busy answers late, not for ever. Later than that, only the address
// and the form of a reply protect.
func (l *link) window() time.Duration { return l.spec.Gap + 2*l.spec.ReplyWithin }

// clear waits for the gap and until no late reply can come, and empties the
// input. An urgent message waits for the gap only.
func (l *link) clear(ctx context.Context, u *unit, urgent bool) error {
	if l.port == nil {
		return errors.New("the line is lost")
	}
	if err := l.drain(ctx, l.lastEnd.Add(l.spec.Gap)); err != nil {
		return err
	}
	if err := l.empty(); err != nil {
		return err
	}
	if !urgent && l.framer.Pending() > 0 { // something is being said: it answers nobody
		u.quietAt = later(u.quietAt, time.Now().Add(l.window()))
	}
	giveUp := time.Now().Add(4 * l.window())
	for !urgent && time.Now().Before(u.quietAt) {
		n, err := l.listen(ctx, u.quietAt)
		if err != nil {
			return err
		}
		if n > 0 {
			u.quietAt = later(u.quietAt, time.Now().Add(l.window()))
		}
		if time.Now().After(giveUp) {
			return errors.New("the line is never quiet")
		}
	}
	l.framer.Reset()
	if !u.ready && u.cause != nil && isReset(u.cause) && !urgent {
		return u.cause // it lost its state while the line was being cleared
	}
	return ctx.Err()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// drain listens until a moment.
func (l *link) drain(ctx context.Context, until time.Time) error {
	for time.Now().Before(until) {
		if _, err := l.listen(ctx, until); err != nil {
			return err
		}
	}
	return nil
}

// listen takes what arrives unasked, at most until a moment.
func (l *link) listen(ctx context.Context, until time.Time) (int, error) {
	n, err := l.port.read(ctx, l.buf[:], until)
	if err != nil {
		return 0, l.failed(ctx, err)
	}
	l.unasked(l.buf[:n])
	return n, nil
}

// empty takes what has arrived unasked, without waiting.
func (l *link) empty() error {
	for range 64 {
		n, err := l.port.poll(l.buf[:])
		if err != nil {
			return l.failed(context.Background(), err)
		}
		if n == 0 {
			return nil
		}
		l.unasked(l.buf[:n])
	}
	return errors.New("the line is never quiet")
}

// failed tells the end of a call from the end of the line.
func (l *link) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if l.ending() {
		return errClosed
	}
	l.shut(err)
	return err
}

// unasked looks through bytes that answer nothing.
func (l *link) unasked(b []byte) {
	for _, p := range l.framer.Push(b) {
		if !p.Garbage {
			l.alarm(p.Data)
		}
	}
}

// alarm takes a frame that answers nothing: an instrument may be saying that
// it lost its state. Anything else that comes unasked proves nothing.
func (l *link) alarm(data []byte) {
	for _, u := range l.units {
		if u.bound == nil {
			continue
		}
		if e, ok := u.bound.Alarm(data); ok && e.Alarm && e.Name == frame.Reset {
			l.stateLost(u, e)
		}
	}
}

// await reads until the answer is there or its time is up.
func (l *link) await(ctx context.Context, u *unit, s frame.Step, until time.Time) (frame.Answer, error) {
	for {
		n, err := l.port.read(ctx, l.buf[:], until)
		if err != nil {
			return frame.Answer{}, l.failed(ctx, err)
		}
		if n == 0 && !time.Now().Before(until) {
			return frame.Answer{}, errSilent
		}
		pieces := l.framer.Push(l.buf[:n])
		for i, p := range pieces {
			if p.Garbage {
				continue // noise; the answer may still come
			}
			a, err := u.bound.Decode(s, p.Data)
			if errors.Is(err, frame.ErrNotOurs) {
				l.alarm(p.Data)
				continue
			}
			for _, p := range pieces[i+1:] {
				if !p.Garbage {
					l.alarm(p.Data)
				}
			}
			return a, err
		}
	}
}

// heed draws the conclusions from the end of an exchange.
func (l *link) heed(u *unit, err error) {
	var dev *frame.DeviceError
	switch {
	case err == nil:
		u.silent, u.answers = 0, true
	case errors.As(err, &dev):
		u.silent, u.answers = 0, true
		if dev.Alarm && dev.Name == frame.Reset {
			l.stateLost(u, dev)
		}
		if dev.Alarm { // the answer itself may follow the alarm
			u.quietAt = time.Now().Add(l.spec.Gap)
		}
	case errors.Is(err, errSilent):
		u.silent++
		u.quietAt = time.Now().Add(l.window())
		if u.silent >= silences || !u.ready {
			l.away(u, err)
		}
	default: // garbage, or the caller gave up: the reply may still come
		u.quietAt = time.Now().Add(l.window())
	}
}

// stateLost begins a new epoch for an instrument that forgot its settings.
func (l *link) stateLost(u *unit, why error) {
	u.epoch.Add(1)
	told := !u.ready // an init that is under way will be sent again
	u.ready, u.cause, u.retryAt = false, why, time.Time{}
	if !told {
		l.lost(u.in.Name, lab.E("drivers/serial: alarm", u.in.Name, lab.KindUnavailable, why))
	}
}

// away marks an instrument that does not answer, once.
func (l *link) away(u *unit, why error) {
	u.ready, u.answers, u.cause = false, false, why
	u.backoff = min(max(2*u.backoff, retryFirst), retryLast)
	u.retryAt = later(time.Now().Add(u.backoff), u.quietAt) // nobody waits for its late reply
	if !u.gone {
		u.gone = true
		l.lost(u.in.Name, lab.E("drivers/serial: line", u.in.Name, lab.KindUnavailable, why))
	}
}

func isReset(err error) bool {
	var dev *frame.DeviceError
	return errors.As(err, &dev) && dev.Alarm && dev.Name == frame.Reset
}

func isAlarm(err error) bool {
	var dev *frame.DeviceError
	return errors.As(err, &dev) && dev.Alarm
}

// prepare makes an instrument ready: its init has gone through in this epoch.
// One that is gone is tried now and then.
func (l *link) prepare(ctx context.Context, u *unit) error {
	if u.bound == nil {
		return u.broken
	}
	if u.ready {
		return nil
	}
	if u.cause != nil && time.Now().Before(u.retryAt) {
		return fmt.Errorf("it is left alone for a moment: %w", u.cause)
	}
	var err error
	for range tries { // an alarm is told once, in place of an answer
		u.cause = nil
		if err = l.initialise(ctx, u); !isAlarm(err) {
			break
		}
	}
	if ctx.Err() != nil {
		u.cause = nil
		return context.Cause(ctx)
	}
	if u.gone && (u.answers || err == nil) {
		u.gone = false
		u.epoch.Add(1) // nobody knows what happened to it meanwhile
	}
	if err == nil {
		u.ready, u.cause, u.backoff = true, nil, 0
		return nil
	}
	u.cause = err
	if u.answers || !u.gone {
		u.retryAt = time.Now().Add(retryFirst)
	}
	return err
}

// initialise sends the init, or where there is none asks something harmless.
func (l *link) initialise(ctx context.Context, u *unit) error {
	for _, s := range u.bound.Init() {
		if _, _, err := l.talk(ctx, u, s, false, nil); err != nil {
			return fmt.Errorf("init: %w", err)
		}
	}
	if len(u.bound.Init()) > 0 {
		return nil
	}
	s, ok := u.bound.Probe()
	if !ok {
		return nil
	}
	_, _, err := l.talk(ctx, u, s, false, nil)
	var dev *frame.DeviceError
	if errors.As(err, &dev) && !dev.Alarm {
		return nil // it answers, which is all that was asked
	}
	return err
}
