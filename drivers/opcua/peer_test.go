package opcua

import (
	"bufio"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"labgate/drivers"
	"labgate/drivers/drivertest"
	"labgate/lab"
	face "labgate/sim/faces/opcua"
)

// peersDir names the folder whose node_modules holds node-opcua, which .ci/run
// installs there.
const peersDir = "LABGATE_PEERS"

// peer is an OPC UA server that is not ours, in a process of its own.
type peer struct {
	t     testing.TB
	cmd   *exec.Cmd
	in    io.Writer
	port  int
	doses atomic.Int64
	stops atomic.Int64

	said chan map[string]any // but calls
	err  strings.Builder
}

const peerURI = "urn:test:node-opcua"

var (
	peerIdentity = identityOf(peerURI, -time.Hour, 24*time.Hour)
	peerExpired  = identityOf(peerURI, -48*time.Hour, -time.Hour)
)

// startPeer starts node-opcua, with a certificate or without security.
func startPeer(t testing.TB, id *face.Identity) *peer {
	t.Helper()
	modules := filepath.Join(os.Getenv(peersDir), "node_modules")
	if _, err := os.Stat(filepath.Join(modules, "node-opcua")); err != nil || os.Getenv(peersDir) == "" {
		t.Skip("there is no node-opcua: npm install --prefix DIR node-opcua@2.182.0, and LABGATE_PEERS=DIR")
	}
	dir, args := t.TempDir(), []string{}
	if id != nil {
		key, err := x509.MarshalPKCS8PrivateKey(id.Key)
		for name, b := range map[string]*pem.Block{"server.pem": {Type: "CERTIFICATE", Bytes: id.Certificate}, "server.key": {Type: "PRIVATE KEY", Bytes: key}} {
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, "server")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, port: l.Addr().(*net.TCPAddr).Port, said: make(chan map[string]any, 64)}
	_ = l.Close()
	p.cmd = exec.Command("node", append([]string{filepath.Join("testdata", "peer", "server.js"), fmt.Sprint(p.port), dir}, args...)...)
	p.cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	p.cmd.Stderr = &p.err
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		p.in, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() { defer close(read); p.listen(out) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-read
		_ = p.cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("node-opcua said:\n%s", p.err.String())
		}
	})
	p.await("ready")
	return p
}

// listen counts what the server did, and hands on the rest.
func (p *peer) listen(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var m map[string]any
		if json.Unmarshal(lines.Bytes(), &m) != nil {
			continue // the library's own words
		}
		if _, call := m["called"]; call {
			p.doses.Store(int64(m["dose"].(float64)))
			p.stops.Store(int64(m["stop"].(float64)))
			continue
		}
		p.said <- m
	}
	close(p.said)
}

func (p *peer) await(key string) {
	p.t.Helper()
	for late := time.After(60 * time.Second); ; {
		select {
		case m, ok := <-p.said:
			if !ok || m["error"] != nil {
				p.t.Fatalf("node-opcua: %v", m["error"])
			}
			if m[key] != nil {
				return
			}
		case <-late:
			p.t.Fatalf("node-opcua is not %s", key)
		}
	}
}

func (p *peer) order(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, text+"\n"); err != nil {
		p.t.Error(err)
	}
	p.await("did")
}

func (p *peer) signal(s os.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Error(err)
	}
}

func (p *peer) address() map[string]string {
	return map[string]string{"endpoint": fmt.Sprintf("opc.tcp://127.0.0.1:%d", p.port)}
}

// TestPeer is the whole suite against node-opcua, without security and with it.
func TestPeer(t *testing.T) {
	t.Run("None", func(t *testing.T) { peerConformance(t, nil) })
	t.Run("Basic256Sha256", func(t *testing.T) { id := peerIdentity(); peerConformance(t, &id) })
}

func peerConformance(t *testing.T, id *face.Identity) {
	drivertest.Run(t, drivertest.Harness{Start: func(t *testing.T, sink drivers.Sink, clock lab.Clock) *drivertest.Rig {
		p := startPeer(t, id)
		in := instrument("dev", 2*time.Second)
		in.Profile.Properties[0].Subscribe = 100 * time.Millisecond
		address := p.address()
		if id != nil {
			delete(in.Link, "insecure")
			in.Link["security"] = "Basic256Sha256"
			address["pki"] = newStore(t, *id).Dir()
		}
		link, err := Open(drivers.Config{Instruments: []*lab.Instrument{in}, Sink: sink, Clock: clock,
			Address: func(*lab.Instrument) (map[string]string, error) { return address, nil }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = link.Close() })
		var ids atomic.Int64
		rig := &drivertest.Rig{Link: link, Instrument: "dev", Identifies: true,
			Effect: func() *lab.Command {
				cmd := dose()
				cmd.ID = fmt.Sprintf("01K%d", ids.Add(1))
				return cmd
			},
			Effects:    func() int { return int(p.doses.Load()) },
			Stop:       lab.CommandID{Instrument: "dev", Component: "part", Command: "stop"},
			Stops:      func() int { return int(p.stops.Load()) },
			LoseAnswer: func() { p.order("lose") },
			Mute: func(on bool) {
				if on {
					p.signal(syscall.SIGSTOP)
				} else {
					p.signal(syscall.SIGCONT)
				}
			},
			Restart: func() { p.order("restart") },
		}
		for _, name := range []string{"temperature", "made", "heating", "state", "lot"} {
			rig.Properties = append(rig.Properties, propertyID(name))
		}
		return rig
	}})
}

// TestPeerTrust: a certificate that nobody trusts, and one that is expired.
func TestPeerTrust(t *testing.T) {
	for name, c := range map[string]struct {
		id      func() face.Identity
		trusted bool
		says    string
	}{
		"trusted":   {peerIdentity, true, ""},
		"untrusted": {peerIdentity, false, "nobody has trusted it"},
		"expired":   {peerExpired, true, "was valid until"},
	} {
		t.Run(name, func(t *testing.T) {
			id := c.id()
			p := startPeer(t, &id)
			store := newStore(t)
			if c.trusted {
				store = newStore(t, id)
			}
			in := instrument("dev", 2*time.Second)
			delete(in.Link, "insecure")
			in.Link["security"] = "Basic256Sha256"
			address := p.address()
			address["pki"] = store.Dir()
			link, err := Open(drivers.Config{Instruments: []*lab.Instrument{in}, Sink: &sink{}, Clock: wallClock{},
				Address: func(*lab.Instrument) (map[string]string, error) { return address, nil }})
			if err != nil {
				t.Fatal(err)
			}
			defer link.Close()
			switch err := link.Connect(t.Context()); {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("%v; it should say %q", err, c.says)
			}
		})
	}
}

// TestPeerSubscription: node-opcua tells a change by itself.
func TestPeerSubscription(t *testing.T) {
	p := startPeer(t, nil)
	in, heard := instrument("dev", 2*time.Second), &sink{}
	in.Profile.Properties[0].Subscribe = 100 * time.Millisecond
	link, err := Open(drivers.Config{Instruments: []*lab.Instrument{in}, Sink: heard, Clock: wallClock{},
		Address: func(*lab.Instrument) (map[string]string, error) { return p.address(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	if err := link.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.order("tell T 2120")
	eventually(t, "the change is told", func() bool {
		list := heard.heard()
		return len(list) > 0 && list[len(list)-1].Reading.Quality == lab.Good && list[len(list)-1].Reading.Value.Num > 99 // 212.0 degF
	})
	time.Sleep(3 * time.Second) // longer than its answers may take
	if err := heard.why(); err != nil {
		t.Errorf("a quiet server is taken for a dead one: %v", err)
	}
}
