package opcua_test

import (
	"context"
	"testing"
	"time"

	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/ua"
	"go.uber.org/goleak"

	"labgate/lab"
	"labgate/sim"
	face "labgate/sim/faces/opcua"
	"labgate/sim/faces/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type clock struct{}

func (clock) Now() time.Time                  { return time.Now() }
func (clock) At(t time.Time) <-chan time.Time { return time.After(time.Until(t)) }

var _ lab.Clock = clock{}

const (
	reactorURI = "urn:labgate:simulator:flow-reactor"
	cellURI    = "urn:labgate:simulator:coating-cell"
)

type bench struct {
	t    *testing.T
	host *wire.Host
	srv  *face.Server
	ns   uint16
}

func serve(t *testing.T, uri string) *bench {
	t.Helper()
	b := &bench{t: t, host: wire.NewHost(sim.NewDemo(7, time.Now()), clock{})}
	make := face.Reactor
	if uri == cellURI {
		make = face.Cell
	}
	ctx, cancel := context.WithCancel(context.Background())
	srv, err := make(ctx, b.host, 0)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	b.srv = srv
	t.Cleanup(func() {
		cancel()
		start := time.Now()
		if err := srv.Wait(); err != nil {
			t.Errorf("the server ended badly: %v", err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("it took %v to end", d)
		}
	})
	b.ns = 4
	return b
}

func (b *bench) client(opts ...opcua.Option) *opcua.Client {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	opts = append([]opcua.Option{opcua.SecurityMode(ua.MessageSecurityModeNone), opcua.AutoReconnect(false),
		opcua.RequestTimeout(500 * time.Millisecond)}, opts...)
	c, err := opcua.NewClient(b.srv.Endpoint(), opts...)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := c.Connect(ctx); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		c.Close(ctx)
	})
	return c
}

func soon() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 2*time.Second)
}

func (b *bench) node(name string) *ua.NodeID { return ua.NewStringNodeID(b.ns, name) }

func (b *bench) read(c *opcua.Client, names ...string) []*ua.DataValue {
	b.t.Helper()
	out, err := b.tryRead(c, names...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *bench) tryRead(c *opcua.Client, names ...string) ([]*ua.DataValue, error) {
	ctx, cancel := soon()
	defer cancel()
	req := &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnBoth}
	for _, n := range names {
		req.NodesToRead = append(req.NodesToRead, &ua.ReadValueID{NodeID: b.node(n), AttributeID: ua.AttributeIDValue})
	}
	resp, err := c.Read(ctx, req)
	if err != nil {
		return nil, err
	}
	return resp.Results, nil
}

func (b *bench) value(c *opcua.Client, name string) any {
	b.t.Helper()
	v := b.read(c, name)[0]
	if v.Status != ua.StatusOK {
		b.t.Fatalf("%s: %v", name, v.Status)
	}
	return v.Value.Value()
}

func (b *bench) call(c *opcua.Client, object, method string, args ...any) ua.StatusCode {
	b.t.Helper()
	st, err := b.tryCall(c, object, method, args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return st
}

func (b *bench) tryCall(c *opcua.Client, object, method string, args ...any) (ua.StatusCode, error) {
	ctx, cancel := soon()
	defer cancel()
	req := &ua.CallMethodRequest{ObjectID: b.node(object), MethodID: b.node(object + "." + method)}
	for _, a := range args {
		req.InputArguments = append(req.InputArguments, ua.MustVariant(a))
	}
	res, err := c.Call(ctx, req)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, nil
}

func (b *bench) count(instrument string) (c sim.Count) {
	b.host.With(func(w *sim.World) { c = w.Count(instrument) })
	return c
}

func (b *bench) fault(instrument, name string, on bool, args map[string]float64) {
	b.t.Helper()
	b.host.With(func(w *sim.World) {
		if err := w.Fault(instrument, name, on, args); err != nil {
			b.t.Fatal(err)
		}
	})
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}
