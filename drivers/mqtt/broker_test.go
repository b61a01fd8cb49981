package mqtt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	natsd "github.com/nats-io/nats-server/v2/server"
)

// broker is where the tests' one broker listens: a NATS server with its MQTT
// face on a real loopback socket, in a process of its own, so that none of its
// goroutines is taken for a leak of ours.
var broker string

// asBroker makes the test binary be the broker. It ends with its input.
const asBroker = "LABGATE_TEST_BROKER"

func TestMain(m *testing.M) {
	if os.Getenv(asBroker) != "" {
		os.Exit(beBroker())
	}
	os.Exit(withBroker(m))
}

func withBroker(m *testing.M) (code int) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asBroker+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return fail(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fail(err)
	}
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	defer func() {
		_ = in.Close() // ends it
		if err := cmd.Wait(); err != nil {
			code = fail(err)
		}
	}()
	if _, err := fmt.Fscan(out, &broker); err != nil {
		return fail(err)
	}
	return m.Run()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "the tests' broker:", err)
	return 1
}

func beBroker() int {
	dir, err := os.MkdirTemp("", "mqtt")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	o := &natsd.Options{ServerName: "test", Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true,
		MaxPayload: 16 << 20, MQTT: natsd.MQTTOpts{Host: "127.0.0.1", Port: -1}}
	s, err := natsd.NewServer(o)
	if err != nil {
		return fail(err)
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(10 * time.Second) {
		return fail(errors.New("it does not start"))
	}
	fmt.Printf("127.0.0.1:%d\n", o.MQTT.Port)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the tests are over, however they end
	return 0
}

// proxy stands between a link and the broker and can cut or freeze the line.
type proxy struct {
	l      net.Listener
	wg     sync.WaitGroup
	frozen atomic.Bool

	mu    sync.Mutex
	conns map[net.Conn]bool
	done  bool
}

func newProxy(t testing.TB) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, conns: map[net.Conn]bool{}}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.join(c) })
		}
	})
	t.Cleanup(func() {
		p.mu.Lock()
		p.done = true
		p.mu.Unlock()
		_ = l.Close()
		p.frozen.Store(false)
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) join(a net.Conn) {
	b, err := net.Dial("tcp", broker)
	if err != nil {
		_ = a.Close()
		return
	}
	p.mu.Lock()
	p.conns[a], p.conns[b] = true, true
	if p.done {
		_ = a.Close()
		_ = b.Close()
	}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.copy(a, b) })
	both.Go(func() { p.copy(b, a) })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, a)
	delete(p.conns, b)
}

func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		for p.frozen.Load() {
			time.Sleep(time.Millisecond)
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut resets every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}

// device is the counterpart of a link: a plain MQTT client that takes orders.
type device struct {
	t      testing.TB
	client paho.Client
	prefix string
	mu     sync.Mutex
	orders []order
	answer func(d *device, o order) // in a goroutine of its own
	raw    []string
	wg     sync.WaitGroup
}

func newDevice(t testing.TB) *device {
	t.Helper()
	d := &device{t: t, prefix: "lab/" + strings.ToLower(strings.NewReplacer("/", "-", "#", "-").Replace(t.Name()))}
	d.client = paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + broker).SetClientID("device-" + d.prefix).
		SetAutoReconnect(false).SetCleanSession(true))
	d.done(d.client.Connect())
	d.done(d.client.Subscribe(d.prefix+"/command", 1, func(_ paho.Client, m paho.Message) {
		var o order
		if err := json.Unmarshal(m.Payload(), &o); err != nil || m.Retained() {
			t.Errorf("a command %s (retained %t): %v", m.Payload(), m.Retained(), err)
		}
		d.mu.Lock()
		d.orders = append(d.orders, o)
		d.raw = append(d.raw, string(m.Payload()))
		answer := d.answer
		d.mu.Unlock()
		if answer != nil {
			d.wg.Go(func() { answer(d, o) })
		}
	}))
	t.Cleanup(func() {
		d.wg.Wait()
		d.client.Disconnect(100)
	})
	return d
}

func (d *device) done(token paho.Token) {
	if !token.WaitTimeout(5*time.Second) || token.Error() != nil {
		d.t.Errorf("the device's client: %v", token.Error())
	}
}

func (d *device) publish(topic string, retained bool, payload any) {
	b, ok := payload.([]byte)
	if s, isText := payload.(string); isText {
		b, ok = []byte(s), true
	}
	if !ok {
		var err error
		if b, err = json.Marshal(payload); err != nil {
			d.t.Error(err)
		}
	}
	d.done(d.client.Publish(d.prefix+"/"+topic, 1, retained, b))
}

func (d *device) do(answer func(*device, order)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = answer
}

// seen returns the orders so far, decoded and as they came.
func (d *device) seen() (orders []order, raw []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append(orders, d.orders...), append(raw, d.raw...)
}

func (d *device) count() int {
	orders, _ := d.seen()
	return len(orders)
}

// ack answers an order with a result.
func (d *device) ack(o order, ok bool, more map[string]any) {
	doc := map[string]any{"id": o.ID, "ok": ok}
	for k, v := range more {
		doc[k] = v
	}
	d.publish("ack", false, doc)
}
