package opcua

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"labgate/drivers"
	"labgate/drivers/drivertest"
	"labgate/internal/pki"
	"labgate/lab"
	"labgate/sim"
	face "labgate/sim/faces/opcua"
	"labgate/sim/faces/wire"
)

const reactorURI = "urn:labgate:simulator:flow-reactor:server"

// Keys are made once for all tests: each takes a third of a second.
var (
	validIdentity   = identityOf(reactorURI, -time.Hour, 24*time.Hour)
	renewedIdentity = identityOf(reactorURI, -time.Minute, 24*time.Hour)
	expiredIdentity = identityOf(reactorURI, -48*time.Hour, -time.Hour)
	foreignIdentity = identityOf("urn:somebody:else", -time.Hour, 24*time.Hour)
	ownFiles        = sync.OnceValues(makeOwn)
)

func identityOf(uri string, from, to time.Duration) func() face.Identity {
	return sync.OnceValue(func() face.Identity {
		id, err := face.NewIdentity(uri, time.Now().Add(from), time.Now().Add(to))
		if err != nil {
			panic(err)
		}
		return id
	})
}

// makeOwn is the gateway's own certificate and a user's: the files of a store,
// by their path in it.
func makeOwn() (map[string][]byte, error) {
	dir, err := os.MkdirTemp("", "pki")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s := pki.At(dir)
	n := pki.New{Name: "labgate", URI: "urn:test:labgate", Hosts: []string{"localhost"}, Now: time.Now(), Valid: time.Hour}
	_, err = s.Init(n)
	n.Name = "operator"
	_, err2 := s.InitUser(n)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, name := range []string{"own/certificate.der", "own/private-key.pem", "users/operator.der", "users/operator.pem"} {
		if files[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func newStore(t testing.TB, trusted ...face.Identity) *pki.Store {
	t.Helper()
	files, err := ownFiles()
	if err != nil {
		t.Fatal(err)
	}
	s := pki.At(filepath.Join(t.TempDir(), "pki"))
	put := func(name string, data []byte) {
		t.Helper()
		path := filepath.Join(s.Dir(), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range files {
		put(name, data)
	}
	for _, id := range trusted {
		put("trusted/"+pki.Thumbprint(id.Certificate)+".der", id.Certificate)
	}
	return s
}

// secured is a simulated reactor behind its own server, and a link to it.
type secured struct {
	host  *wire.Host
	srv   *face.Server
	store *pki.Store
	sink  *drivertest.Sink
	link  drivers.Link

	mu      sync.Mutex
	address map[string]string // what is added to the endpoint
}

// secure starts a reactor and opens a link, not connected, with what is in
// link besides the endpoint.
func secure(t testing.TB, store *pki.Store, link map[string]string, sink *drivertest.Sink, clock lab.Clock, opts ...face.Option) *secured {
	t.Helper()
	s := &secured{host: wire.NewHost(sim.NewDemo(7, time.Now()), clock), store: store, sink: sink, address: map[string]string{"pki": store.Dir()}}
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	if s.srv, err = face.Reactor(ctx, s.host, 0, opts...); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := s.srv.Wait(); err != nil {
			t.Error(err)
		}
	})
	in := reactor()
	maps.Copy(in.Link, link)
	s.link, err = Open(drivers.Config{Instruments: []*lab.Instrument{in}, Sink: sink, Clock: clock, Address: func(*lab.Instrument) (map[string]string, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		a := maps.Clone(s.address)
		if a["endpoint"] == "" {
			a["endpoint"] = s.srv.Endpoint()
		}
		return a, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.link.Close() })
	return s
}

func (s *secured) at(key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.address[key] = value
}

// securedOnce is for one test, which leaves no goroutine behind.
func securedOnce(t testing.TB, store *pki.Store, link map[string]string, opts ...face.Option) *secured {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	return secure(t, store, link, &drivertest.Sink{}, drivertest.Clock{}, opts...)
}

// reactor is the simulated one, as far as these tests use it.
func reactor() *lab.Instrument {
	class := &lab.Class{Name: "heater/v1",
		Properties: []lab.Property{{Name: "temperature", Type: lab.Type{Kind: lab.Number, Unit: unit("degC")}}, {Name: "heating", Type: lab.Type{Kind: lab.Bool}}},
		Commands: []lab.CommandSpec{
			{Name: "heat", Effect: lab.Idempotent, Args: []lab.Param{{Name: "target", Type: lab.Type{Kind: lab.Number, Unit: unit("degC")}}}},
			{Name: "heat_off", Effect: lab.Safe},
		}}
	profile := &lab.Profile{Name: "test/reactor@1", Components: []lab.Component{{Name: "jacket", Class: class}},
		Link:     lab.LinkSpec{Kind: lab.LinkOPCUA, Namespace: "urn:labgate:simulator:flow-reactor", ReplyWithin: 500 * time.Millisecond},
		Identify: lab.Exchange{Send: "s=SerialNumber"},
		Properties: []lab.PropertyMap{
			{Component: "jacket", Property: "temperature", Node: "s=Synthesis.Jacket.CurrentValue", Unit: unit("degC")},
			{Component: "jacket", Property: "heating", Node: "s=Synthesis.Jacket.IsEnabled"},
		},
		Commands: []lab.CommandMap{
			{Component: "jacket", Command: "heat", Object: "s=Synthesis.Jacket", Method: "s=Synthesis.Jacket.StartWithTargetValue",
				Inputs: []lab.WireInput{{Arg: "target", Type: "double", Unit: unit("degC")}}},
			{Component: "jacket", Command: "heat_off", Object: "s=Synthesis.Jacket", Method: "s=Synthesis.Jacket.Stop"},
		}}
	return &lab.Instrument{Name: "reactor", Profile: profile, Link: map[string]string{"endpoint": "sim:reactor"}}
}

func (s *secured) heating(t testing.TB) (lab.Reading, error) {
	t.Helper()
	samples, err := s.link.Read(t.Context(), "reactor", []lab.PropertyID{{Instrument: "reactor", Component: "jacket", Property: "heating"}})
	if err != nil {
		return lab.Reading{}, err
	}
	return samples[0].Reading, nil
}

func heat() *lab.Command {
	return &lab.Command{ID: "01H", Target: lab.CommandID{Instrument: "reactor", Component: "jacket", Command: "heat"},
		Args: map[string]lab.Value{"target": lab.NumberValue(lab.Q(40, "degC"))}, NotAfter: time.Now().Add(time.Minute)}
}

func (s *secured) starts() (n int) {
	s.host.With(func(w *sim.World) { n = w.Count("reactor").HeaterStarts })
	return n
}

// refusedFor connects, and wants it to fail with a text.
func (s *secured) refusedFor(t testing.TB, say string) error {
	t.Helper()
	err := s.link.Connect(t.Context())
	if err == nil {
		t.Fatal("it connected")
	}
	if lab.KindOf(err) != lab.KindUnavailable || !strings.Contains(err.Error(), say) {
		t.Errorf("%v (%s), want an unavailable one with %q", err, lab.KindOf(err), say)
	}
	return err
}
