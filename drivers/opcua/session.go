package opcua

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uacp"

	"labgate/drivers"
)

const (
	maxNodes       = 1000                   // nodes in one read, where the server sets no lower limit
	farewellWithin = 300 * time.Millisecond // to close a session politely; then the socket is cut
	sessionTimeout = 2 * time.Minute        // the server drops a session that is silent for this long
)

// session is one connection with its session, from one Connect to its loss.
// It is used once: after a loss the Link makes another.
type session struct {
	client   *opcua.Client
	sock     *socket
	nodes    map[string]map[string]*ua.NodeID // namespace URI, then id within it
	maxNodes int                              // nodes in one read
	cred     *credentials                     // nil: no security

	armed atomic.Bool // a change of state counts as a loss
	once  sync.Once
	gone  chan struct{} // closed when it is lost
	err   error         // why; set before gone is closed
	onEnd func(error)   // tells the sink

	ctx       context.Context // ends with the session
	cancel    context.CancelFunc
	listeners sync.WaitGroup // what hears its subscription; joined by end
}

// dial connects, opens a session and resolves every node of the devices. On
// an error nothing is left open.
func dial(ctx context.Context, endpoint string, within time.Duration, cred *credentials, devices map[string]*device, onEnd func(error)) (*session, error) {
	s := &session{sock: &socket{}, gone: make(chan struct{}), onEnd: onEnd, maxNodes: maxNodes, cred: cred}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	client, err := opcua.NewClient(endpoint, s.options(within)...)
	if err != nil {
		s.cancel()
		return nil, err
	}
	s.client = client
	stop := context.AfterFunc(ctx, s.sock.sever) // the library's handshake ignores a cancelled context
	defer stop()
	err = guard(func() error { return client.Connect(cred.opening(ctx, client)) })
	if err == nil && !cred.same(client.Session()) {
		err = errOtherChannel
	}
	if err == nil {
		err = s.prepare(ctx, devices)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
		s.end(false)
		return nil, err
	}
	return s, nil
}

// arm makes every end of the connection a loss that is told of. Who dialled
// hears of one before that from arm.
func (s *session) arm() error {
	s.armed.Store(true)
	if s.client.State() != opcua.Connected {
		return errors.New("the connection ended at once")
	}
	return s.lost()
}

// options never let the library reconnect: it has faults there, and a link has
// one owner. What the credentials say goes last.
func (s *session) options(within time.Duration) []opcua.Option {
	return append([]opcua.Option{
		opcua.AutoReconnect(false),
		opcua.RequestTimeout(within),
		opcua.SessionTimeout(sessionTimeout),
		opcua.SessionName("labgate"),
		opcua.ApplicationName("labgate"),
		opcua.ProductURI("urn:labgate"),
		opcua.Dialer(dialer(s.sock)),
		opcua.StateChangedFunc(func(state opcua.ConnState) {
			if s.armed.Load() && (state == opcua.Closed || state == opcua.Disconnected) {
				s.lose(errors.New("the connection ended"))
			}
		}),
	}, s.cred.options()...)
}

func dialer(sock *socket) *uacp.Dialer {
	d := opcua.DefaultDialer()
	d.Dialer.Control = sock.control
	return d
}

// prepare finds the namespaces by their URI and asks for the server's limits.
func (s *session) prepare(ctx context.Context, devices map[string]*device) error {
	uris := s.client.Namespaces() // read anew in Connect
	s.nodes = map[string]map[string]*ua.NodeID{}
	for _, d := range devices {
		uri := d.in.Profile.Link.Namespace
		index := slices.Index(uris, uri)
		if index < 0 || index > 1<<16-1 {
			shown := drivers.Printable(strings.Join(uris, ", "), maxText)
			return fmt.Errorf("%s: the server has no namespace %q, only %s", d.in.Name, uri, shown)
		}
		if s.nodes[uri] == nil {
			s.nodes[uri] = map[string]*ua.NodeID{}
		}
		for _, text := range d.nodeTexts() {
			n, err := nodeID(uint16(index), text)
			if err != nil {
				return err
			}
			s.nodes[uri][text] = n
		}
	}
	limit := &ua.ReadValueID{NodeID: ua.NewNumericNodeID(0, id.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead)}
	res, err := s.read(ctx, []*ua.ReadValueID{limit})
	if err != nil {
		return fmt.Errorf("reading the server's limits: %w", err)
	}
	if n, ok := scalar(res[0]).(uint32); ok && n > 0 && n < maxNodes { // 0 and absent: no limit
		s.maxNodes = int(n)
	}
	return nil
}

// nodeTexts lists all node ids of a device, as its profile writes them.
func (d *device) nodeTexts() []string {
	var ids []string
	if d.identify != "" {
		ids = append(ids, d.identify)
	}
	for _, p := range d.properties {
		ids = append(ids, p.wire.Node)
	}
	for _, c := range d.commands {
		if c.wire.Method != "" {
			ids = append(ids, c.wire.Object, c.wire.Method)
		}
		for i := range c.writes {
			ids = append(ids, c.writes[i].node)
		}
	}
	return ids
}

func (s *session) node(d *device, text string) *ua.NodeID {
	return s.nodes[d.in.Profile.Link.Namespace][text]
}

// read asks for nodes in one request, freshly from the device (max age 0).
func (s *session) read(ctx context.Context, nodes []*ua.ReadValueID) ([]*ua.DataValue, error) {
	req := &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnBoth, NodesToRead: nodes}
	var res *ua.ReadResponse
	err := guard(func() (err error) {
		res, err = s.client.Read(s.cred.request(ctx, s.client), req)
		return err
	})
	if err == nil && len(res.Results) != len(nodes) {
		err = fmt.Errorf("%d answers to %d questions", len(res.Results), len(nodes))
	}
	if err != nil {
		return nil, err
	}
	return res.Results, nil
}

// call calls one method once.
func (s *session) call(ctx context.Context, object, method *ua.NodeID, args []*ua.Variant) (*ua.CallMethodResult, error) {
	req := &ua.CallMethodRequest{ObjectID: object, MethodID: method, InputArguments: args}
	var res *ua.CallMethodResult
	err := guard(func() (err error) {
		res, err = s.client.Call(s.cred.request(ctx, s.client), req)
		if err == nil && res == nil {
			err = errors.New("an empty answer")
		}
		return err
	})
	return res, err
}

// lose ends the session after a failure and tells the sink, once.
func (s *session) lose(err error) {
	s.once.Do(func() {
		s.err = err
		close(s.gone)
		s.cancel()
		s.sock.sever()
		s.onEnd(err)
	})
}

// lost is why the session can't be used, nil while it can.
func (s *session) lost() error {
	select {
	case <-s.gone:
		return s.err
	default:
		return nil
	}
}

// end gives everything back, at our own wish: nothing is told to the sink.
// A polite end says goodbye to the server, for a bounded time.
func (s *session) end(polite bool) {
	s.once.Do(func() {
		s.err = errors.New("closed")
		close(s.gone)
	})
	s.cancel()
	defer s.listeners.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), farewellWithin)
	defer cancel()
	if !polite {
		s.sock.sever()
	}
	stop := context.AfterFunc(ctx, s.sock.sever)
	// An error means that the server did not hear the goodbye: the socket is
	// cut all the same.
	_ = guard(func() error { return s.client.Close(ctx) })
	stop()
	s.sock.sever()
}

// scalar is the value that a data value carries, nil if none.
func scalar(dv *ua.DataValue) any {
	if dv == nil || dv.Value == nil || quality(dv.Status) == 0 {
		return nil
	}
	return dv.Value.Value()
}

// guard turns a panic of the client library, which trusts what servers send,
// into an error.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the OPC UA library failed on what the server sent: %v", p)
		}
	}()
	return f()
}
