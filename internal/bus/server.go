// Package bus is NATS: an embedded server or an existing one, the subjects,
// who may publish and subscribe what, and the connection that the other parts
// see as a lab.Bus.
//
// It promises that a principal can publish proposals and control messages only
// under its own name, and nothing else: the server enforces it, not a check in
// some handler. It carries; it is not the truth. The journal is. Its goroutines
// are those of the NATS libraries: Server.Shutdown and Conn.Close end them.
package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"labgate/lab"
)

// ServerOptions make an embedded server.
type ServerOptions struct {
	Lab        string
	StoreDir   string // JetStream's files; of this server alone
	Host       string // default 127.0.0.1
	Port       int    // -1: any free one; 0: no listener, connections within the process only
	MQTTPort   int    // -1: any free one; 0: no MQTT listener
	Principals []Principal
	RunnerKey  string            // public NKey of the runner
	Gateways   map[string]string // gateway to public NKey
	MQTTUsers  map[string]string // user to password
	SimKey     string            // public NKey of the simulator; empty where the laboratory is no simulated one
}

// Limits of the server.
const (
	MaxPayload     = 8 << 20 // bytes of one message; a proposal's own limit is smaller and gets a verdict
	maxConnections = 1000
	maxSubs        = 1000                   // of one connection
	maxPending     = 64 << 20               // bytes that wait for one slow client before it is cut off
	memoryBytes    = 64 << 20               // JetStream, in memory
	deviceBytes    = 256 << 20              // JetStream of MQTT devices: sessions and retained messages, on disk
	labBytes       = streamBytes + 64<<20   // JetStream of the lab's account
	storeBytes     = labBytes + deviceBytes // in all
	readyWithin    = 5 * time.Second
)

// Names of the accounts.
const (
	accountLab     = "LAB"
	accountDevices = "DEVICES"
)

// Server is an embedded NATS server.
type Server struct {
	ns    *server.Server
	mqtt  string // the listener's URL
	admin []byte // seed of the user that keeps the stream

	mu   sync.Mutex // one Reload at a time
	opts ServerOptions
}

// StartServer starts a server with two accounts: LAB, for parts and principals,
// by NKey, with the stream of proposals; DEVICES, for MQTT instruments, by
// password, without any import, so that no device topic can become a proposal.
// lab.KindInvalid means that the options are at fault, lab.KindUnavailable that
// a port is taken or the store can't be used.
func StartServer(ctx context.Context, o ServerOptions) (*Server, error) {
	const op = "bus: start"
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if err := o.check(); err != nil {
		return nil, lab.E(op, "", lab.KindInvalid, err)
	}
	for _, port := range []int{o.Port, o.MQTTPort} {
		if err := portFree(o.Host, port); err != nil {
			return nil, lab.E(op, "", lab.KindUnavailable, err)
		}
	}
	admin, adminKey, err := NewKey()
	if err != nil {
		return nil, err
	}
	opts, err := o.options(adminKey)
	if err != nil {
		return nil, lab.E(op, "", lab.KindInternal, err)
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, lab.E(op, "", lab.KindInvalid, err)
	}
	s := &Server{ns: ns, opts: o, admin: admin}
	ns.Start()
	if err := s.ready(ctx, opts); err != nil {
		s.Shutdown()
		return nil, lab.E(op, "", lab.KindUnavailable, err)
	}
	return s, nil
}

// portFree finds a taken port at once; the server itself would only time out.
func portFree(host string, port int) error {
	if port <= 0 {
		return nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return l.Close()
}

// accounts is the one part of the options that only the configuration language
// can say so that a reload keeps it: which accounts have JetStream.
var accounts = fmt.Sprintf(`accounts {
	%s { jetstream { max_memory: %d, max_file: %d } }
	%s { jetstream { max_memory: %d, max_file: %d } }
}`, accountLab, memoryBytes/2, labBytes, accountDevices, memoryBytes/2, deviceBytes)

// options are the library's.
func (o *ServerOptions) options(adminKey string) (*server.Options, error) {
	opts := &server.Options{}
	if err := opts.ProcessConfigString(accounts); err != nil {
		return nil, err
	}
	account := func(name string) *server.Account {
		return opts.Accounts[slices.IndexFunc(opts.Accounts, func(a *server.Account) bool { return a.Name == name })]
	}
	opts.ServerName, opts.Host, opts.Port, opts.DontListen = "labgate-"+o.Lab, o.Host, o.Port, o.Port == 0
	opts.MaxPayload, opts.MaxConn, opts.MaxSubs, opts.MaxPending, opts.WriteDeadline = MaxPayload, maxConnections, maxSubs, maxPending, 10*time.Second
	opts.NoSigs, opts.NoLog = true, true
	opts.JetStream, opts.StoreDir, opts.JetStreamMaxMemory, opts.JetStreamMaxStore = true, o.StoreDir, memoryBytes, storeBytes
	opts.Nkeys = o.users(account(accountLab), adminKey)
	for user, pass := range o.MQTTUsers {
		opts.Users = append(opts.Users, &server.User{Username: user, Password: pass, Account: account(accountDevices), AllowedConnectionTypes: map[string]struct{}{"MQTT": {}}})
	}
	if o.MQTTPort != 0 {
		opts.MQTT.Host, opts.MQTT.Port = o.Host, o.MQTTPort
	}
	return opts, nil
}

// ready waits until clients can connect, and makes the stream of proposals:
// what is published before a runner is there must not be lost.
func (s *Server) ready(ctx context.Context, opts *server.Options) error {
	if !s.ns.ReadyForConnections(readyWithin) {
		return errors.New("the NATS server did not start")
	}
	if s.opts.MQTTPort != 0 {
		// The server has put the port that it got into its options.
		s.mqtt = "tcp://" + net.JoinHostPort(s.opts.Host, strconv.Itoa(opts.MQTT.Port))
	}
	if !s.ns.JetStreamEnabled() {
		return fmt.Errorf("JetStream did not start; can %s be written?", s.opts.StoreDir)
	}
	c, err := Connect(ctx, ConnOptions{Server: s, Seed: s.admin, Name: adminName, Lab: s.opts.Lab})
	if err != nil {
		return err
	}
	defer c.Close()
	return c.keepStream(ctx)
}

// Reload replaces the principals. Whoever is connected and unchanged stays
// connected; one that is gone is cut off.
func (s *Server) Reload(principals []Principal) error {
	const op = "bus: reload"
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.opts
	o.Principals = principals
	if err := o.check(); err != nil {
		return lab.E(op, "", lab.KindInvalid, err)
	}
	adminKey, err := PublicKey(s.admin)
	if err != nil {
		return err
	}
	opts, err := o.options(adminKey)
	if err != nil {
		return lab.E(op, "", lab.KindInternal, err)
	}
	if err := s.ns.ReloadOptions(opts); err != nil {
		return lab.E(op, "", lab.KindUnavailable, err)
	}
	s.opts = o
	return nil
}

// URL is where clients connect, "" without a listener.
func (s *Server) URL() string {
	if s.opts.Port == 0 {
		return ""
	}
	return s.ns.ClientURL()
}

// MQTTURL is where MQTT instruments connect, "" without a listener.
func (s *Server) MQTTURL() string { return s.mqtt }

// Shutdown stops the server and waits for it.
func (s *Server) Shutdown() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
}
