package opcua

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gopcua/opcua/ua"

	"labgate/lab"
)

// question is one property in a request.
type question struct {
	at   int // its place among the samples
	p    *property
	node *ua.NodeID
}

// Read asks for properties in as few requests as the server's limits allow. A
// node that can't be read costs its own property alone.
func (l *Link) Read(ctx context.Context, instrument string, properties []lab.PropertyID) ([]lab.Sample, error) {
	const op = "drivers/opcua: read"
	l.op.Lock()
	defer l.op.Unlock()
	s, d, err := l.alive(op, instrument)
	if err != nil {
		return nil, err
	}
	samples := make([]lab.Sample, len(properties))
	ask := make([]question, 0, len(properties))
	now := l.cfg.Clock.Now()
	for i, id := range properties {
		p := d.properties[member{id.Component, id.Property}]
		switch {
		case p == nil || id.Instrument != instrument:
			samples[i] = d.bad(id, now, "its profile does not know it")
		case p.sick.out(now):
			samples[i] = d.bad(id, now, p.sick.why)
		default:
			ask = append(ask, question{i, p, s.node(d, p.wire.Node)})
		}
	}
	for len(ask) > 0 {
		n := batch(ask, min(s.maxNodes, l.most))
		if err := l.readSome(ctx, s, d, ask[:n], properties, samples); err != nil {
			return nil, failed(ctx, s, op, instrument, err)
		}
		ask = ask[n:]
	}
	return samples, nil
}

// batch is how many of the questions go into the next request.
func batch(ask []question, most int) int {
	n := 0
	for n < len(ask) {
		if b := ask[n].p.sick.batch; b > 0 {
			most = min(most, b)
		}
		if n >= most {
			break
		}
		n++
	}
	return max(n, 1)
}

func (l *Link) readSome(ctx context.Context, s *session, d *device, ask []question, properties []lab.PropertyID, samples []lab.Sample) error {
	nodes := make([]*ua.ReadValueID, len(ask))
	for i := range ask {
		nodes[i] = &ua.ReadValueID{NodeID: ask[i].node}
	}
	call, cancel := context.WithTimeout(ctx, d.within)
	results, err := s.read(call, nodes)
	cancel()
	now := l.cfg.Clock.Now()
	if err != nil {
		l.blame(now, ask, err)
		return err
	}
	for i, dv := range results {
		p, at := ask[i].p, ask[i].at
		r, err := p.reading(dv, now, d.epoch.Load())
		p.sick.judge(now, statusOf(dv), err)
		samples[at] = lab.Sample{ID: properties[at], Reading: r}
		if r.Quality == lab.Bad {
			samples[at].Why = why(dv, err)
		}
	}
	return nil
}

// blame takes a lesson from a request that the server refused as a whole. The
// library ends the session over it in any case.
func (l *Link) blame(now time.Time, ask []question, err error) {
	var fault ua.StatusCode
	switch {
	case !errors.As(err, &fault):
	case tooMuch[fault]:
		l.most = max(1, len(ask)/2)
	case hopeless[fault]:
		for i := range ask {
			ask[i].p.sick.spoiled(now, len(ask), fault)
		}
	}
}

func statusOf(dv *ua.DataValue) ua.StatusCode {
	if dv == nil {
		return ua.StatusBadNoData
	}
	return dv.Status
}

// silent are answers by which a server says that it hears nothing from the
// device itself.
var silent = map[ua.StatusCode]bool{
	ua.StatusBadNoCommunication:       true,
	ua.StatusBadWaitingForInitialData: true,
	ua.StatusBadNotConnected:          true,
	ua.StatusBadCommunicationError:    true,
	ua.StatusBadDeviceFailure:         true,
	ua.StatusBadOutOfService:          true,
	ua.StatusBadServerHalted:          true,
	ua.StatusBadShutdown:              true,
	ua.StatusBadTimeout:               true,
	ua.StatusBadConnectionClosed:      true,
}

// why says for people what is wrong with an answer; nothing where nobody
// answered.
func why(dv *ua.DataValue, err error) string {
	if st := statusOf(dv); silent[st] {
		return ""
	} else if quality(st) == lab.Bad {
		return st.Error()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// failed judges an error of a request without effect. Where the caller gave
// up first, the session is still good; else it is lost.
func failed(ctx context.Context, s *session, op, instrument string, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return lab.E(op, instrument, lab.KindCancelled, err)
	case ctx.Err() != nil:
		return lab.E(op, instrument, lab.KindUnavailable, ctx.Err())
	}
	s.lose(err)
	return lab.E(op, instrument, lab.KindUnavailable, fmt.Errorf("reading: %w", err))
}
