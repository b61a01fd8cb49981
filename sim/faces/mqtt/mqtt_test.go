package mqtt_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"os"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	natsd "github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"

	"labgate/lab"
	"labgate/sim"
	face "labgate/sim/faces/mqtt"
	"labgate/sim/faces/wire"
)

type clock struct{}

func (clock) Now() time.Time                  { return time.Now() }
func (clock) At(t time.Time) <-chan time.Time { return time.After(time.Until(t)) }

var _ lab.Clock = clock{}

const (
	user     = "devices"
	password = "a password of the test"
)

// startBroker runs a NATS server with an MQTT listener on a free port.
func startBroker(t *testing.T) *natsd.Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "broker")
	if err != nil {
		t.Fatal(err)
	}
	o := &natsd.Options{
		ServerName: "test", Host: "127.0.0.1", Port: -1, DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir,
		Username: user, Password: password, MQTT: natsd.MQTTOpts{Host: "127.0.0.1", Port: -1},
	}
	s, err := natsd.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(5 * time.Second) {
		t.Fatal("the broker does not start")
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
		os.RemoveAll(dir)
	})
	return s
}

func address(s *natsd.Server) string {
	v, err := s.Varz(nil)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("tcp://127.0.0.1:%d", v.MQTT.Port)
}

// bench is the devices, and a person with an MQTT client.
type bench struct {
	t      *testing.T
	host   *wire.Host
	client paho.Client

	mu     sync.Mutex
	broker *natsd.Server
	got    []paho.Message
}

func serve(t *testing.T) *bench {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
	b := &bench{t: t, host: wire.NewHost(sim.NewDemo(7, time.Now()), clock{}), broker: startBroker(t)}
	ctx, cancel := context.WithCancel(context.Background())
	devices := face.Start(ctx, b.host, func() (string, string, string, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.broker == nil {
			return "", "", "", fmt.Errorf("there is no broker")
		}
		return address(b.broker), user, password, nil
	}, face.Prefix)
	t.Cleanup(func() {
		cancel()
		devices.Wait()
	})
	b.connect(b.broker)
	t.Cleanup(func() { b.client.Disconnect(100) })
	return b
}

func (b *bench) connect(broker *natsd.Server) {
	b.t.Helper()
	o := paho.NewClientOptions().AddBroker(address(broker)).SetUsername(user).SetPassword(password).SetClientID("person").
		SetAutoReconnect(false).SetConnectTimeout(2 * time.Second)
	b.client = paho.NewClient(o)
	b.done(b.client.Connect())
	b.done(b.client.Subscribe("demo/#", 1, func(_ paho.Client, m paho.Message) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.got = append(b.got, m)
	}))
}

func (b *bench) done(tok paho.Token) {
	b.t.Helper()
	if !tok.WaitTimeout(3 * time.Second) {
		b.t.Fatal("the broker does not answer")
	}
	if tok.Error() != nil {
		b.t.Fatal(tok.Error())
	}
}

// messages is what has arrived on a topic since the test forgot.
func (b *bench) messages(topic string) (out []paho.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.got {
		if m.Topic() == topic {
			out = append(out, m)
		}
	}
	return out
}

func (b *bench) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = nil
}

func (b *bench) state(instrument string) map[string]any {
	ms := b.messages("demo/" + instrument + "/state")
	if len(ms) == 0 {
		return nil
	}
	var doc map[string]any
	if err := json.Unmarshal(ms[len(ms)-1].Payload(), &doc); err != nil {
		b.t.Fatalf("state: %v", err)
	}
	return doc
}

type ack struct {
	ID     string
	OK     bool
	Error  string
	Result struct {
		Peak       float64   `json:"peak_nm"`
		Wavelength []float64 `json:"wavelength_nm"`
		Absorbance []float64
		Sharpness  *float64
	}
}

func (b *bench) acks(instrument, id string) (out []ack) {
	for _, m := range b.messages("demo/" + instrument + "/ack") {
		var a ack
		if err := json.Unmarshal(m.Payload(), &a); err == nil && a.ID == id {
			out = append(out, a)
		}
	}
	return out
}

func (b *bench) ack(instrument, id string) ack {
	b.t.Helper()
	b.until("an acknowledgement of "+id, func() bool { return len(b.acks(instrument, id)) > 0 })
	return b.acks(instrument, id)[0]
}

func (b *bench) send(instrument, text string) {
	b.t.Helper()
	b.done(b.client.Publish("demo/"+instrument+"/command", 1, false, text))
}

func command(id, name, args string, expires time.Time) string {
	return fmt.Sprintf(`{"id":%q,"command":%q,"args":%s,"expires":%q}`, id, name, args, expires.Format(time.RFC3339Nano))
}

func in(d time.Duration) time.Time { return time.Now().Add(d) }

func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	b.t.Fatalf("never: %s", what)
}

// ready waits until the devices hear commands, which is before their first
// state.
func (b *bench) ready() {
	b.t.Helper()
	b.until("all devices are there", func() bool {
		return b.state("spectrometer") != nil && b.state("camera") != nil && b.state("room") != nil
	})
}

func (b *bench) count(instrument string) (c sim.Count) {
	b.host.With(func(w *sim.World) { c = w.Count(instrument) })
	return c
}

func (b *bench) world(fn func(w *sim.World) error) {
	b.t.Helper()
	b.host.With(func(w *sim.World) {
		if err := fn(w); err != nil {
			b.t.Fatal(err)
		}
	})
}

// colour makes a vessel full of particles.
func (b *bench) colour() {
	b.world(func(w *sim.World) error {
		w.Reactor().Stir(400)
		for _, n := range []string{"pump_a", "pump_b"} {
			p := w.Pump(n)
			if err := p.SetVolume(0.2); err != nil {
				return err
			}
			if err := p.SetRate(20); err != nil {
				return err
			}
			if err := p.Run(); err != nil {
				return err
			}
		}
		return w.Set("reactor.temperature", 80)
	})
}

func TestStates(t *testing.T) {
	b := serve(t)
	b.ready()
	for instrument, keys := range map[string][]string{
		"spectrometer": {"ready"}, "camera": {"exposing"}, "room": {"door_closed", "airflow_m_s", "oxygen_percent", "emergency"},
	} {
		s := b.state(instrument)
		for _, k := range append(keys, "time", "boot", "serial") {
			if s[k] == nil {
				t.Errorf("%s: no %s in %v", instrument, k, s)
			}
		}
		at, err := time.Parse(time.RFC3339Nano, s["time"].(string))
		if err != nil || time.Since(at) > 5*time.Second {
			t.Errorf("%s: time %v, %v", instrument, s["time"], err)
		}
		if s["boot"] != 1.0 {
			t.Errorf("%s: boot %v", instrument, s["boot"])
		}
	}
	b.world(func(w *sim.World) error { return w.Set("room.emergency", 1) })
	b.until("the button is seen", func() bool { return b.state("room")["emergency"] == true })
	b.world(func(w *sim.World) error { return w.Fault("room", "nan.room.airflow", true, nil) })
	b.until("a broken sensor has no number", func() bool {
		v, there := b.state("room")["airflow_m_s"]
		return there && v == nil
	})
	b.world(func(w *sim.World) error { w.Reboot("room"); return nil })
	b.until("the power cycle is seen", func() bool { return b.state("room")["boot"] == 2.0 })

	retained := make(chan bool, 100) // who comes later finds the last state
	b.done(b.client.Subscribe("demo/room/state", 1, func(_ paho.Client, m paho.Message) { retained <- m.Retained() }))
	if !<-retained {
		t.Error("the state is not retained")
	}
}

func TestFrozenDeviceIsSilent(t *testing.T) {
	b := serve(t)
	b.ready()
	b.world(func(w *sim.World) error { return w.Fault("spectrometer", "freeze", true, nil) })
	b.send("spectrometer", command("c1", "spectrum", "{}", in(time.Minute)))
	b.until("the others go on, twice", func() bool { b.forget(); return b.roomIn(700*time.Millisecond) >= 2 })
	if n := len(b.messages("demo/spectrometer/state")); n > 0 {
		t.Errorf("%d states from a frozen device", n)
	}
	b.world(func(w *sim.World) error { return w.Fault("spectrometer", "freeze", false, nil) })
	b.until("it is back", func() bool { return b.state("spectrometer") != nil })
	if n := b.count("spectrometer").Exposures; n != 0 || len(b.acks("spectrometer", "c1")) != 0 {
		t.Errorf("%d exposures for what it did not hear", n)
	}
}

// roomIn counts the room's states that arrive within d.
func (b *bench) roomIn(d time.Duration) int {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if n := len(b.messages("demo/room/state")); n >= 2 {
			return n
		}
	}
	return len(b.messages("demo/room/state"))
}

func TestSpectrum(t *testing.T) {
	b := serve(t)
	b.ready()
	b.send("spectrometer", command("dark", "spectrum", "{}", in(time.Minute)))
	if a := b.ack("spectrometer", "dark"); a.OK || a.Error != "no peak" {
		t.Errorf("an empty vessel: %+v", a)
	}
	b.colour()
	n := 0
	var a ack
	b.until("there is a peak", func() bool {
		n++
		id := fmt.Sprintf("c%d", n)
		b.send("spectrometer", command(id, "spectrum", "{}", in(time.Minute)))
		a = b.ack("spectrometer", id)
		return a.OK
	})
	if len(a.Result.Wavelength) != 256 || len(a.Result.Absorbance) != 256 || a.Result.Peak < 500 || a.Result.Peak > 600 {
		t.Errorf("peak %v, %d wavelengths, %d absorbances", a.Result.Peak, len(a.Result.Wavelength), len(a.Result.Absorbance))
	}
	if got := b.count("spectrometer").Exposures; got != n+1 {
		t.Errorf("%d exposures for %d commands", got, n+1)
	}
}

func TestCapture(t *testing.T) {
	b := serve(t)
	b.ready()
	b.forget()
	b.send("camera", command("c1", "capture", `{"exposure_ms":500}`, in(time.Minute)))
	a := b.ack("camera", "c1")
	if !a.OK || a.Result.Sharpness == nil {
		t.Fatalf("%+v", a)
	}
	frames := b.messages("demo/camera/frame/c1")
	if len(frames) != 1 {
		t.Fatalf("%d frames before the acknowledgement", len(frames))
	}
	img, err := png.Decode(bytes.NewReader(frames[0].Payload()))
	if err != nil || img.Bounds().Dx() != 256 {
		t.Errorf("the frame: %v", err)
	}
	exposing := false
	for _, m := range b.messages("demo/camera/state") {
		exposing = exposing || bytes.Contains(m.Payload(), []byte(`"exposing":true`))
	}
	if !exposing {
		t.Error("nobody could see that it was exposing")
	}
	if n := b.count("camera").Exposures; n != 1 {
		t.Errorf("%d exposures", n)
	}
}

func TestOnceAndInTime(t *testing.T) {
	b := serve(t)
	b.ready()
	once := command("c1", "capture", `{"exposure_ms":1}`, in(time.Minute))
	b.send("camera", once)
	b.ack("camera", "c1")
	b.send("camera", once)
	b.until("the same answer again", func() bool { return len(b.acks("camera", "c1")) == 2 })
	b.send("camera", command("c2", "capture", `{"exposure_ms":1}`, in(-time.Second)))
	if a := b.ack("camera", "c2"); a.OK || a.Error != "expired" {
		t.Errorf("expired: %+v", a)
	}
	b.send("camera", command("c3", "capture", `{"exposure_ms":1}`, in(24*time.Hour)))
	if a := b.ack("camera", "c3"); a.OK {
		t.Errorf("valid for a day: %+v", a)
	}
	if n := b.count("camera").Exposures; n != 1 {
		t.Errorf("%d exposures", n)
	}
}

func TestRetainedCommandIsIgnored(t *testing.T) {
	b := serve(t)
	b.ready()
	b.restart(func() { // the broker keeps a command from before the camera came
		kept := command("kept", "capture", `{"exposure_ms":1}`, in(time.Minute))
		b.done(b.client.Publish("demo/camera/command", 1, true, kept))
	})
	var once sync.Once
	shown := make(chan bool)
	b.done(b.client.Subscribe("demo/camera/command", 1, func(_ paho.Client, m paho.Message) {
		once.Do(func() { shown <- m.Retained() })
	}))
	if !<-shown {
		t.Fatal("the broker does not keep it")
	}
	b.send("camera", command("after", "capture", `{"exposure_ms":1}`, in(time.Minute)))
	b.ack("camera", "after")
	if n := b.count("camera").Exposures; n != 1 || len(b.acks("camera", "kept")) != 0 {
		t.Errorf("%d exposures", n)
	}
}

func TestBadCommands(t *testing.T) {
	b := serve(t)
	b.ready()
	later := in(time.Minute).Format(time.RFC3339Nano)
	for id, text := range map[string]string{
		"b1": `{"id":"b1","command":"explode","args":{},"expires":"` + later + `"}`,
		"b2": `{"id":"b2","command":"capture","args":{},"expires":"` + later + `"}`,
		"b3": `{"id":"b3","command":"capture","args":{"exposure_ms":"20"},"expires":"` + later + `"}`,
		"b4": `{"id":"b4","command":"capture","args":{"exposure_ms":20,"gain":2},"expires":"` + later + `"}`,
		"b5": `{"id":"b5","command":"capture","args":{"exposure_ms":-1},"expires":"` + later + `"}`,
		"b6": `{"id":"b6","command":"capture","args":{"exposure_ms":1}}`,
		"b7": `{"id":"b7","command":"capture","args":{"exposure_ms":null},"expires":"` + later + `"}`,
		"b8": `{"id":"b8","command":"capture","args":{"exposure_ms":1},"expires":"` + later + `","hurry":true}`,
	} {
		b.send("camera", text)
		if a := b.ack("camera", id); a.OK || a.Error == "" {
			t.Errorf("%s: %+v", text, a)
		}
	}
	for _, text := range []string{"", "{", "null", "[]", `{"id":"../x","command":"capture"}`, `{"id":7}`} {
		b.send("camera", text)
	}
	b.send("room", command("r1", "open_door", "{}", in(time.Minute)))
	if a := b.ack("room", "r1"); a.OK {
		t.Errorf("the room: %+v", a)
	}
	b.send("camera", command("good", "capture", `{"exposure_ms":1}`, in(time.Minute)))
	if a := b.ack("camera", "good"); !a.OK {
		t.Errorf("after all that: %+v", a)
	}
	if n := b.count("camera").Exposures; n != 1 {
		t.Errorf("%d exposures", n)
	}
}

func TestBusy(t *testing.T) {
	b := serve(t)
	b.ready()
	b.send("camera", command("long", "capture", `{"exposure_ms":300}`, in(time.Minute)))
	b.send("camera", command("second", "capture", `{"exposure_ms":1}`, in(time.Minute)))
	if a := b.ack("camera", "second"); a.OK || a.Error != "busy" {
		t.Errorf("while it is exposing: %+v", a)
	}
	if a := b.ack("camera", "long"); !a.OK {
		t.Errorf("%+v", a)
	}
}

// restart stops the broker and starts another one, which knows nothing of the
// first; the person is there first, then meanwhile is called, then the devices
// hear of it.
func (b *bench) restart(meanwhile func()) {
	b.t.Helper()
	b.mu.Lock()
	old := b.broker
	b.broker = nil
	b.mu.Unlock()
	b.client.Disconnect(50)
	old.Shutdown()
	old.WaitForShutdown()
	next := startBroker(b.t)
	b.connect(next)
	meanwhile()
	b.forget()
	b.mu.Lock()
	b.broker = next
	b.mu.Unlock()
	b.ready()
}

func TestBrokerMoves(t *testing.T) {
	b := serve(t)
	b.ready()
	b.restart(func() {})
	b.send("spectrometer", command("c1", "spectrum", "{}", in(time.Minute)))
	if a := b.ack("spectrometer", "c1"); a.Error != "no peak" {
		t.Errorf("%+v", a)
	}
}

func TestWireFaults(t *testing.T) {
	b := serve(t)
	b.ready()
	fault := func(name string, on bool) {
		b.world(func(w *sim.World) error { return w.Fault("camera", name, on, map[string]float64{"seconds": 0.4}) })
	}
	fault("drop", true)
	cmd := command("c1", "capture", `{"exposure_ms":1}`, in(time.Minute))
	b.send("camera", cmd)
	b.until("it acts", func() bool { return b.count("camera").Exposures == 1 })
	b.until("its answer would have come", func() bool {
		var idle bool
		b.world(func(w *sim.World) error { idle = !w.Camera().Exposing(); return nil })
		return idle
	})
	fault("drop", false)
	b.send("camera", cmd) // asking again gets the answer and no second picture
	if a := b.ack("camera", "c1"); !a.OK {
		t.Errorf("%+v", a)
	}
	fault("wrong_reply", true)
	b.send("camera", command("d1", "capture", `{"exposure_ms":1}`, in(time.Minute)))
	if a := b.ack("camera", "d0"); !a.OK {
		t.Errorf("%+v", a)
	}
	fault("wrong_reply", false)
	fault("delay", true)
	start := time.Now()
	b.send("camera", command("e1", "capture", `{"exposure_ms":1}`, in(time.Minute)))
	b.ack("camera", "e1")
	if d := time.Since(start); d < 400*time.Millisecond {
		t.Errorf("answered after %v", d)
	}
	fault("delay", false)
	if n := b.count("camera").Exposures; n != 3 {
		t.Errorf("%d exposures", n)
	}
}
