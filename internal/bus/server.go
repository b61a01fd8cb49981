// Package bus is NATS: an embedded server or an existing one, the subjects,
// who may publish and subscribe what, and the connection that the other parts
// see as a lab.Bus.
//
// It promises that a principal can publish proposals and control messages only
// under its own name, and nothing else: the server enforces it, not a check in
// some handler. It carries; it is not the truth. The journal is.
package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"labgate/lab"
)

// Roles of principals.
const (
	RoleAgent     = "agent"
	RoleScientist = "scientist"
	RoleOperator  = "operator"
	RoleSafety    = "safety"
)

// Principal is a person or an agent with a key.
type Principal struct {
	Name string
	Role string
	Key  string // public NKey, "U…"
}

// ServerOptions make an embedded server.
type ServerOptions struct {
	Lab        string
	StoreDir   string // JetStream's files
	Host       string // default 127.0.0.1
	Port       int    // -1: any free one
	MQTTPort   int    // -1: any free one; 0: no MQTT listener
	Principals []Principal
	RunnerKey  string            // public NKey of the runner
	Gateways   map[string]string // gateway to public NKey
	MQTTUsers  map[string]string // user to password
}

const (
	maxPayload  = 8 << 20
	streamBytes = 256 << 20
	streamMsgs  = 100_000
	readyWithin = 5 * time.Second
)

// Server is an embedded NATS server. StartServer's goroutines are the
// library's; Shutdown waits for them.
type Server struct {
	ns   *server.Server
	mqtt string // the listener's URL
}

// StartServer starts a server with two accounts: LAB, for parts and
// principals, by NKey; DEVICES, for MQTT instruments, by password, without any
// import, so that no device topic can become a proposal.
func StartServer(ctx context.Context, o ServerOptions) (*Server, error) {
	const op = "bus: start"
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	labAccount, devices := server.NewAccount("LAB"), server.NewAccount("DEVICES")
	opts := &server.Options{
		ServerName: "labgate-" + o.Lab, Host: o.Host, Port: o.Port, MaxPayload: maxPayload, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: o.StoreDir, JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 1 << 30,
		Accounts: []*server.Account{labAccount, devices}, Nkeys: o.users(labAccount),
		WriteDeadline: 10 * time.Second, MaxPending: 64 << 20, NoSystemAccount: false,
	}
	for user, pass := range o.MQTTUsers {
		opts.Users = append(opts.Users, &server.User{Username: user, Password: pass, Account: devices,
			AllowedConnectionTypes: map[string]struct{}{"MQTT": {}, "MQTT_WS": {}}})
	}
	if o.MQTTPort != 0 {
		opts.MQTT = server.MQTTOpts{Host: o.Host, Port: o.MQTTPort}
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, lab.E(op, "", lab.KindInvalid, err)
	}
	ns.Start()
	s := &Server{ns: ns}
	if !ns.ReadyForConnections(readyWithin) {
		s.Shutdown()
		return nil, lab.Ef(op, "", lab.KindUnavailable, fmt.Sprintf("the NATS server did not start; is port %d free?", o.Port))
	}
	if o.MQTTPort != 0 {
		// The server has put the port it got into its options.
		s.mqtt = fmt.Sprintf("tcp://%s:%d", o.Host, opts.MQTT.Port)
	}
	for _, name := range []string{"LAB", "DEVICES"} {
		acc, err := ns.LookupAccount(name)
		if err == nil && !acc.JetStreamEnabled() {
			err = acc.EnableJetStream(nil, nil)
		}
		if err != nil {
			s.Shutdown()
			return nil, lab.E(op, "", lab.KindUnavailable, err)
		}
	}
	return s, nil
}

// users are the NKey users of account LAB with what each may do.
func (o *ServerOptions) users(acc *server.Account) []*server.NkeyUser {
	users := []*server.NkeyUser{{Nkey: o.RunnerKey, Account: acc, Permissions: o.runnerMay()}}
	for name, key := range o.Gateways {
		users = append(users, &server.NkeyUser{Nkey: key, Account: acc, Permissions: o.gatewayMay(name)})
	}
	for _, p := range o.Principals {
		users = append(users, &server.NkeyUser{Nkey: p.Key, Account: acc, Permissions: o.principalMay(p)})
	}
	return users
}

func may(publish, subscribe []string) *server.Permissions {
	return &server.Permissions{Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: subscribe},
		Response: &server.ResponsePermission{MaxMsgs: 1, Expires: time.Minute}}
}

// runnerMay: verdicts, run documents, commands, leases, stops; the proposals'
// stream and its own consumer.
func (o *ServerOptions) runnerMay() *server.Permissions {
	l := "lab." + o.Lab + "."
	return may(
		[]string{l + "verdicts.*", l + "runs.>", l + "gw.*.*.command", l + "gw.*.*.lease", l + "stop", "$JS.API.>", "$JS.ACK.>"},
		[]string{Inbox("runner") + ".>", l + "gw.*.*.outcome", l + "gw.*.*.telemetry.>", l + "gw.*.safety.>", l + "approvals.*", l + "control.*"})
}

// gatewayMay: the outcomes, readings and safety messages of its own subtree.
func (o *ServerOptions) gatewayMay(name string) *server.Permissions {
	own := "lab." + o.Lab + ".gw." + name + "."
	return may(
		[]string{own + "*.outcome", own + "*.telemetry.>", own + "safety.>"},
		[]string{Inbox("gateway_"+name) + ".>", own + "*.command", own + "*.lease", "lab." + o.Lab + ".stop", "lab." + o.Lab + ".control.*"})
}

// principalMay: its own proposals and control messages; people may approve
// under their own name, stop, and read what happens.
func (o *ServerOptions) principalMay(p Principal) *server.Permissions {
	l := "lab." + o.Lab + "."
	publish := []string{Proposals(o.Lab, p.Name), Control(o.Lab, p.Name)}
	subscribe := []string{Inbox(p.Name) + ".>", Verdicts(o.Lab, p.Name), l + "runs." + p.Name + ".>"}
	if p.Role != RoleAgent {
		publish = append(publish, Approvals(o.Lab, p.Name), Stop(o.Lab))
		subscribe = append(subscribe, l+"runs.>", l+"verdicts.*", l+"gw.>")
	}
	perms := may(publish, subscribe)
	perms.Response = nil // nobody asks a principal
	return perms
}

// URL is where clients connect.
func (s *Server) URL() string { return s.ns.ClientURL() }

// MQTTURL is where MQTT instruments connect, "" without a listener.
func (s *Server) MQTTURL() string { return s.mqtt }

// Shutdown stops the server and waits for it.
func (s *Server) Shutdown() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
}

// Stream is the work queue of proposals.
const Stream = "PROPOSALS"

// Conn is one part's or principal's connection. It implements lab.Bus.
type Conn struct {
	nc  *nats.Conn
	lab string
}

// ConnOptions say who connects, and where to.
type ConnOptions struct {
	URL    string
	Server *Server // set: connect within the process, without a socket
	Seed   []byte  // of the NKey
	Name   string  // the principal, "runner", or "gateway_" and its name
	Lab    string
	OnDown func(error) // called when the connection is lost, or the server refuses something
}

// Connect connects with an NKey and an inbox prefix of one's own.
func Connect(ctx context.Context, o ConnOptions) (*Conn, error) {
	const op = "bus: connect"
	kp, err := nkeys.FromSeed(o.Seed)
	if err != nil {
		return nil, lab.E(op, "", lab.KindInvalid, err)
	}
	pub, err := kp.PublicKey()
	if err != nil {
		return nil, lab.E(op, "", lab.KindInvalid, err)
	}
	down := o.OnDown
	if down == nil {
		down = func(error) {}
	}
	opts := []nats.Option{nats.Name(o.Name), nats.Nkey(pub, kp.Sign), nats.CustomInboxPrefix(Inbox(o.Name)),
		nats.MaxReconnects(-1), nats.ReconnectWait(200 * time.Millisecond), nats.ReconnectJitter(50*time.Millisecond, 50*time.Millisecond), nats.Timeout(3 * time.Second),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				down(err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { down(err) })}
	if o.Server != nil {
		opts = append(opts, nats.InProcessServer(o.Server.ns))
	}
	nc, err := nats.Connect(o.URL, opts...)
	if err != nil {
		return nil, lab.E(op, "", lab.KindUnavailable, err)
	}
	return &Conn{nc, o.Lab}, nil
}

// Close drains nothing: what was published is with the server.
func (c *Conn) Close() {
	_ = c.nc.FlushTimeout(time.Second) // a server that is gone has nothing to take
	c.nc.Close()
}

// Publish sends one document.
func (c *Conn) Publish(_ context.Context, subject string, data []byte) error {
	if err := c.nc.Publish(subject, data); err != nil {
		return lab.E("bus: publish", "", lab.KindUnavailable, err)
	}
	return nil
}

// Request sends one document and waits for the first answer.
func (c *Conn) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	m, err := c.nc.RequestWithContext(ctx, subject, data)
	switch {
	case err == nil:
		return m.Data, nil
	case errors.Is(err, nats.ErrNoResponders):
		return nil, lab.Ef("bus: request", "", lab.KindUnavailable, "nobody listens on "+subject)
	}
	return nil, lab.E("bus: request", "", lab.KindOutcomeUnknown, err)
}

// Handle calls fn for each document until ctx is done. fn runs on the
// library's goroutine of the subscription and must not block.
func (c *Conn) Handle(ctx context.Context, subject string, fn func(lab.Message)) error {
	sub, err := c.nc.Subscribe(subject, func(m *nats.Msg) {
		msg := lab.Message{Subject: m.Subject, Data: m.Data}
		if m.Reply != "" {
			msg.Reply = func(b []byte) error { return m.Respond(b) }
		}
		fn(msg)
	})
	if err == nil {
		err = c.nc.FlushWithContext(flushContext(ctx))
	}
	if err != nil {
		return lab.E("bus: subscribe "+subject, "", lab.KindUnavailable, err)
	}
	context.AfterFunc(ctx, func() { _ = sub.Unsubscribe() }) // the connection may be closed already
	return nil
}

// flushContext bounds a flush where the caller's context has no deadline.
func flushContext(ctx context.Context) context.Context {
	if _, ok := ctx.Deadline(); ok {
		return ctx
	}
	c, cancel := context.WithTimeout(ctx, 5*time.Second)
	context.AfterFunc(c, cancel)
	return c
}

// Delivery is one proposal as it came.
type Delivery struct {
	Principal string
	Data      []byte
	Seq       uint64       // in the stream
	Ack       func() error // once its verdict is durable
}

// ConsumeProposals makes the stream if it is missing, and calls fn for each
// proposal until ctx is done. One that is not acknowledged comes again. fn
// must not block.
func (c *Conn) ConsumeProposals(ctx context.Context, fn func(Delivery)) error {
	const op = "bus: proposals"
	js, err := jetstream.New(c.nc)
	if err != nil {
		return lab.E(op, "", lab.KindUnavailable, err)
	}
	cctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	stream, err := js.CreateOrUpdateStream(cctx, jetstream.StreamConfig{Name: Stream, Subjects: []string{Proposals(c.lab, "*")},
		Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, MaxBytes: streamBytes, MaxMsgs: streamMsgs, MaxMsgSize: maxPayload,
		Discard: jetstream.DiscardNew, DenyDelete: true, DenyPurge: true})
	if err != nil {
		return lab.E(op, "", lab.KindUnavailable, err)
	}
	cons, err := stream.CreateOrUpdateConsumer(cctx, jetstream.ConsumerConfig{Durable: "runner", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 10 * time.Second, MaxAckPending: 256})
	if err != nil {
		return lab.E(op, "", lab.KindUnavailable, err)
	}
	cc, err := cons.Consume(func(m jetstream.Msg) {
		d := Delivery{Principal: Sender(m.Subject()), Data: m.Data(), Ack: m.Ack}
		if meta, err := m.Metadata(); err == nil {
			d.Seq = meta.Sequence.Stream
		}
		fn(d)
	})
	if err != nil {
		return lab.E(op, "", lab.KindUnavailable, err)
	}
	context.AfterFunc(ctx, cc.Stop)
	return nil
}

// NewKey makes an NKey of a user: its seed, to be kept secret, and its public
// key, to be listed.
func NewKey() (seed []byte, public string, err error) {
	kp, err := nkeys.CreateUser()
	if err != nil {
		return nil, "", lab.E("bus: new key", "", lab.KindInternal, err)
	}
	seed, err = kp.Seed()
	if err == nil {
		public, err = kp.PublicKey()
	}
	if err != nil {
		return nil, "", lab.E("bus: new key", "", lab.KindInternal, err)
	}
	return seed, public, nil
}

// PublicKey is the public key of a seed.
func PublicKey(seed []byte) (string, error) {
	kp, err := nkeys.FromSeed(seed)
	if err != nil {
		return "", lab.E("bus: key", "", lab.KindInvalid, err)
	}
	return kp.PublicKey()
}
