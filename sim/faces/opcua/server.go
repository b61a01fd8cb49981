package opcua

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/gopcua/opcua/ua"

	"labgate/sim/faces/wire"
)

const (
	mostConnections = 32
	mostSessions    = 4    // of one connection
	mostOperations  = 1000 // of one request
)

// Server is one instrument's OPC UA server.
type Server struct {
	host       *wire.Host
	instrument string
	name       string
	serial     string
	uri        string
	endpoint   string
	space      *space

	users     map[string]string // none: whoever has a channel is let in
	userCerts [][]byte
	clients   [][]byte

	listener net.Listener
	done     sync.WaitGroup
	err      error // why it stopped to accept; set before the acceptor ends

	mu       sync.Mutex
	identity *Identity // nil: without security
	open     int
	boot     int
	started  time.Time
	channel  uint32
}

func start(ctx context.Context, h *wire.Host, port int, instrument, name, serial string, namespaces []string,
	tree func(s *space, model, serial string), opts []Option) (*Server, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", instrument, err)
	}
	_, boot := h.Frozen(instrument)
	s := &Server{
		host: h, instrument: instrument, name: name, serial: serial, uri: namespaces[0], endpoint: "opc.tcp://" + l.Addr().String(),
		space: standardSpace(namespaces), listener: l, boot: boot, started: h.Now(), channel: uint32(h.Now().UnixNano()) | 1,
	}
	for _, o := range opts {
		o(s)
	}
	s.space.describeServer(s)
	tree(s.space, name, serial)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	s.done.Add(1)
	go func() {
		defer s.done.Done()
		defer stop()
		s.accept(ctx)
	}()
	return s, nil
}

// Endpoint is where clients connect to.
func (s *Server) Endpoint() string { return s.endpoint }

// Wait joins the server's goroutines after its context is done.
func (s *Server) Wait() error {
	s.done.Wait()
	return s.err
}

func (s *Server) accept(ctx context.Context) {
	defer s.listener.Close()
	for {
		c, err := s.listener.Accept()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				s.err = fmt.Errorf("%s: %w", s.instrument, err)
			}
			return
		}
		tcp, ok := c.(*net.TCPConn)
		if !ok || !s.enter() {
			c.Close()
			continue
		}
		stop := context.AfterFunc(ctx, func() { c.Close() })
		s.done.Add(1)
		go func() {
			defer s.done.Done()
			defer s.leave()
			defer c.Close()
			defer stop()
			newConn(s, tcp).run(ctx)
		}()
	}
}

func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open >= mostConnections {
		return false
	}
	s.open++
	return true
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
}

// startedAt is when the device with this boot count was switched on, as far as
// anybody has noticed.
func (s *Server) startedAt(boot int) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if boot != s.boot {
		s.boot, s.started = boot, s.host.Now()
	}
	return s.started
}

// nextChannel numbers the secure channels. Channel and token ids of one number
// differ: clients mix them up otherwise.
func (s *Server) nextChannel() (channel, token uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.channel += 2
	return s.channel, s.channel ^ 0x5a5a0000 + 1
}

func (s *Server) build() *ua.BuildInfo {
	return &ua.BuildInfo{
		ProductURI: s.uri, ManufacturerName: "Labgate simulator", ProductName: s.name, SoftwareVersion: "1.0", BuildNumber: "1",
	}
}

func (s *Server) description() *ua.EndpointDescription {
	return &ua.EndpointDescription{
		EndpointURL: s.endpoint,
		Server: &ua.ApplicationDescription{
			ApplicationURI: s.uri, ProductURI: s.uri, ApplicationName: text(s.name),
			ApplicationType: ua.ApplicationTypeServer, DiscoveryURLs: []string{s.endpoint},
		},
		SecurityMode:        ua.MessageSecurityModeNone,
		SecurityPolicyURI:   ua.SecurityPolicyURINone,
		UserIdentityTokens:  []*ua.UserTokenPolicy{{PolicyID: anonymous, TokenType: ua.UserTokenTypeAnonymous, SecurityPolicyURI: ua.SecurityPolicyURINone}},
		TransportProfileURI: "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary",
	}
}
