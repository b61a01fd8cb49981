package opcua

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/gopcua/opcua/ua"

	"labgate/drivers"
	"labgate/lab"
	"labgate/safety"
)

// Exchange writes the command's nodes and calls its method, once.
func (l *Link) Exchange(ctx context.Context, cmd *lab.Command, permit *safety.Permit) (drivers.Result, error) {
	const op = "drivers/opcua: exchange"
	l.op.Lock()
	defer l.op.Unlock()
	name := cmd.Target.Instrument
	d := l.devices[name]
	if d == nil {
		return drivers.Result{}, lab.Ef(op, name, lab.KindInvalid, "it is not on this link")
	}
	c := d.commands[member{cmd.Target.Component, cmd.Target.Command}]
	if c == nil {
		return drivers.Result{}, lab.Ef(op, name, lab.KindInvalid, "its profile has no command "+cmd.Target.String())
	}
	said, err := c.message(cmd.Args)
	if err != nil {
		return drivers.Result{}, lab.E(op, name, lab.KindInvalid, err)
	}
	s, _, err := l.alive(op, name)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return drivers.Result{}, lab.E(op, name, lab.KindNotSent, err)
	}
	sent := l.cfg.Clock.Now()
	if err := permit.Spend(cmd, d.epoch.Load(), sent); err != nil {
		return drivers.Result{}, err
	}
	return s.exchange(ctx, op, d, c, said, sent)
}

// Stop does the same for a safe command. Where the first try gets no answer it
// connects again and tries once more: a stop may be repeated.
func (l *Link) Stop(ctx context.Context, order *safety.Order) (drivers.Result, error) {
	const op = "drivers/opcua: stop"
	l.op.Lock()
	defer l.op.Unlock()
	if order == nil {
		return drivers.Result{}, lab.Ef(op, "", lab.KindDenied, "no order")
	}
	target := order.Target()
	d := l.devices[target.Instrument]
	if d == nil {
		return drivers.Result{}, lab.Ef(op, target.Instrument, lab.KindInvalid, "it is not on this link")
	}
	c := d.commands[member{target.Component, target.Command}]
	if c == nil || c.spec.Effect != lab.Safe {
		return drivers.Result{}, lab.Ef(op, target.Instrument, lab.KindInvalid, target.String()+" is no safe command")
	}
	said, err := c.message(order.Args())
	if err != nil {
		return drivers.Result{}, lab.E(op, target.Instrument, lab.KindInvalid, err)
	}
	var first drivers.Result
	var firstErr error
	for try := range 2 {
		s, _, err := l.alive(op, target.Instrument)
		if err != nil {
			if err := l.connect(ctx); err != nil {
				if firstErr != nil {
					return first, firstErr // it may have been heard: that is the worse news
				}
				return drivers.Result{}, err
			}
			if s, _, err = l.alive(op, target.Instrument); err != nil {
				return first, err
			}
		}
		r, err := s.exchange(ctx, op, d, c, said, l.cfg.Clock.Now())
		if err == nil || lab.KindOf(err) == lab.KindDeviceRefused || try == 1 || ctx.Err() != nil {
			return r, err
		}
		first, firstErr = r, err
		s.lose(err)
	}
	return first, firstErr
}

// exchange writes, calls, and judges what came of it. From here on an error is
// KindNotSent only where no request can have left.
func (s *session) exchange(ctx context.Context, op string, d *device, c *command, said message, sent time.Time) (drivers.Result, error) {
	if len(c.writes) > 0 {
		status, err := s.write(ctx, d, c, said.writes)
		if r, err := s.judge(ctx, op, d, sent, status, err); err != nil || c.wire.Method == "" {
			return r, err
		}
	}
	var r drivers.Result
	call, cancel := context.WithTimeout(ctx, d.within)
	defer cancel()
	res, err := s.call(call, s.node(d, c.wire.Object), s.node(d, c.wire.Method), said.args)
	if err != nil {
		r, err = s.judge(ctx, op, d, sent, 0, err)
	} else {
		r, err = s.judge(ctx, op, d, sent, res.StatusCode, nil)
		if lab.KindOf(err) == lab.KindDeviceRefused {
			err = lab.E(op, d.in.Name, lab.KindDeviceRefused, refusal(res))
		}
	}
	if kind := lab.KindOf(err); len(c.writes) > 0 && (kind == lab.KindNotSent || kind == lab.KindDeviceRefused) {
		r.Sent = sent
		return r, lab.E(op, d.in.Name, lab.KindOutcomeUnknown, fmt.Errorf("its nodes were written, and then: %w", err))
	}
	return r, err
}

// write writes a command's nodes in one request. Where the server took some and
// not others, nobody knows what comes of that.
func (s *session) write(ctx context.Context, d *device, c *command, values []*ua.Variant) (ua.StatusCode, error) {
	req := &ua.WriteRequest{}
	for i := range c.writes {
		req.NodesToWrite = append(req.NodesToWrite, &ua.WriteValue{NodeID: s.node(d, c.writes[i].node), AttributeID: ua.AttributeIDValue,
			Value: &ua.DataValue{EncodingMask: ua.DataValueValue, Value: values[i]}})
	}
	call, cancel := context.WithTimeout(ctx, d.within)
	defer cancel()
	res, err := send[*ua.WriteResponse](call, s, req)
	switch {
	case err != nil:
		return 0, err
	case len(res.Results) != len(values):
		return ua.StatusBadUnknownResponse, nil
	}
	worst, bad := ua.StatusOK, 0
	for _, st := range res.Results {
		if quality(st) == lab.Bad {
			bad++
		}
		if st != ua.StatusOK && quality(worst) != lab.Bad {
			worst = st
		}
	}
	if bad > 0 && bad < len(values) {
		return ua.StatusBadUnexpectedError, nil
	}
	return worst, nil
}

// judge says what may be assumed after a request with an effect.
func (s *session) judge(ctx context.Context, op string, d *device, sent time.Time, status ua.StatusCode, err error) (drivers.Result, error) {
	name := d.in.Name
	if err != nil {
		if ctx.Err() == nil {
			s.lose(err) // no answer in time, or the server rejected the whole request
		}
		if neverLeft(err) {
			return drivers.Result{}, lab.E(op, name, lab.KindNotSent, err)
		}
		return drivers.Result{Sent: sent}, lab.E(op, name, lab.KindOutcomeUnknown, err)
	}
	r := drivers.Result{Sent: sent}
	switch q := quality(status); {
	case q == lab.Good:
		r.Acked = true
		return r, nil
	case q == lab.Uncertain:
		return r, nil // taken, perhaps: read-back decides
	case provesNothing[status]:
		return r, lab.E(op, name, lab.KindOutcomeUnknown, status)
	}
	return r, lab.E(op, name, lab.KindDeviceRefused, status)
}

// refusal names the status and the arguments that the server did not like.
func refusal(res *ua.CallMethodResult) error {
	err := error(res.StatusCode)
	for i, s := range res.InputArgumentResults {
		if s != ua.StatusOK && i < 16 {
			err = fmt.Errorf("%w; argument %d: %w", err, i+1, s)
		}
	}
	return err
}

// provesNothing are results of a method by which a server says that it lost
// touch with what it does itself: the effect may have happened.
var provesNothing = map[ua.StatusCode]bool{
	ua.StatusBadTimeout:                  true,
	ua.StatusBadRequestTimeout:           true,
	ua.StatusBadCommunicationError:       true,
	ua.StatusBadConnectionClosed:         true,
	ua.StatusBadUnexpectedError:          true,
	ua.StatusBadInternalError:            true,
	ua.StatusBadUnknownResponse:          true,
	ua.StatusBadOperationAbandoned:       true,
	ua.StatusBadRequestCancelledByClient: true,
	ua.StatusBadShutdown:                 true,
}

// notDone are faults of a whole request by which a server says that it looked
// at nothing in it (OPC 10000-4, 7.39).
var notDone = map[ua.StatusCode]bool{
	ua.StatusBadServerNotConnected:      true, // the library's own: no channel
	ua.StatusBadSessionIDInvalid:        true,
	ua.StatusBadSessionNotActivated:     true,
	ua.StatusBadSecureChannelIDInvalid:  true,
	ua.StatusBadIdentityTokenInvalid:    true,
	ua.StatusBadServiceUnsupported:      true,
	ua.StatusBadTooManyOperations:       true,
	ua.StatusBadNothingToDo:             true,
	ua.StatusBadServerHalted:            true,
	ua.StatusBadSecurityChecksFailed:    true,
	ua.StatusBadRequestTypeInvalid:      true,
	ua.StatusBadInvalidTimestamp:        true,
	ua.StatusBadTCPSecureChannelUnknown: true,
}

// neverLeft reports whether an error proves that no server has acted on the
// request: a fault that says so, or a write on a socket that we had closed,
// which leaves an incomplete message behind at most.
func neverLeft(err error) bool {
	var status ua.StatusCode
	if errors.As(err, &status) && notDone[status] {
		return true
	}
	if errors.Is(err, errOtherChannel) {
		return true
	}
	var broken *net.OpError
	return errors.As(err, &broken) && broken.Op == "write" && errors.Is(err, net.ErrClosed)
}
