package zzjoin

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"labgate/configs"
	"labgate/drivers"
	dm "labgate/drivers/mqtt"
	do "labgate/drivers/opcua"
	ds "labgate/drivers/serial"
	"labgate/lab"
	"labgate/safety"
	"labgate/sim"
	"labgate/sim/faces"
)

type clock struct{}

func (clock) Now() time.Time                  { return time.Now() }
func (clock) At(t time.Time) <-chan time.Time { return time.After(time.Until(t)) }

type sink struct{ t *testing.T }

func (s sink) Samples(x []lab.Sample) { s.t.Logf("sink: %d %+v", len(x), x[0]) }
func (s sink) Lost(i string, err error) { s.t.Logf("lost %s: %v", i, err) }

func TestJoin(t *testing.T) {
	cfg, err := configs.Load(os.DirFS("../../../configs/labs/demo"), "demo")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	o := &natsd.Options{ServerName: "test", Host: "127.0.0.1", Port: -1, DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir,
		Username: "u", Password: "p", MQTT: natsd.MQTTOpts{Host: "127.0.0.1", Port: -1}}
	s, _ := natsd.NewServer(o)
	s.Start()
	s.ReadyForConnections(5 * time.Second)
	defer s.Shutdown()
	v, _ := s.Varz(nil)
	url := fmt.Sprintf("tcp://127.0.0.1:%d", v.MQTT.Port)
	ctx, cancel := context.WithCancel(context.Background())
	h := faces.NewHost(sim.NewDemo(7, time.Now()), clock{})
	r, err := faces.Start(ctx, h, func() (string, string, string, error) { return url, "u", "p", nil })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); t.Log(r.Wait()) }()
	a := r.Addresses()
	groups := map[string][]*lab.Instrument{}
	for _, in := range cfg.Lab.Instruments {
		groups[drivers.Key(in)] = append(groups[drivers.Key(in)], in)
	}
	links := map[string]drivers.Link{}
	for _, ins := range groups {
		c := drivers.Config{Instruments: ins, Sink: sink{t}, Clock: clock{}, Address: func(in *lab.Instrument) (map[string]string, error) {
			out := map[string]string{}
			for k, v := range in.Link {
				out[k] = v
				if len(v) > 4 && v[:4] == "sim:" {
					out[k] = a[v[4:]]
				}
			}
			if out["broker"] == "embedded" {
				out["broker"], out["url"], out["user"], out["password"] = url, url, "u", "p"
			}
			return out, nil
		}}
		open := map[lab.LinkKind]drivers.Opener{lab.LinkSerial: ds.Open, lab.LinkOPCUA: do.Open, lab.LinkMQTT: dm.Open}[ins[0].Profile.Link.Kind]
		l, err := open(c)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		cctx, cc := context.WithTimeout(ctx, 5*time.Second)
		if err := l.Connect(cctx); err != nil {
			t.Errorf("connect %s: %v", ins[0].Name, err)
		}
		for _, in := range ins {
			links[in.Name] = l
			id, err := l.Identify(cctx, in.Name)
			t.Logf("%s: %+v %v", in.Name, id, err)
			var ps []lab.PropertyID
			for _, c := range in.Profile.Components {
				for _, p := range c.Class.Properties {
					ps = append(ps, lab.PropertyID{Instrument: in.Name, Component: c.Name, Property: p.Name})
				}
			}
			sm, err := l.Read(cctx, in.Name, ps)
			t.Logf("   %v", err)
			for _, x := range sm {
				t.Logf("   %+v", x)
			}
		}
		cc()
	}
	do := func(target string, args map[string]lab.Value) {
		id, _, err := cfg.Lab.ResolveCommand(target)
		if err != nil {
			t.Fatal(err)
		}
		cmd := &lab.Command{ID: fmt.Sprint("01K", time.Now().UnixNano()), Target: id, Args: args, NotAfter: time.Now().Add(time.Minute), Principal: "x"}
		l := links[id.Instrument]
		cctx, cc := context.WithTimeout(ctx, 5*time.Second)
		defer cc()
		res, err := l.Exchange(cctx, cmd, safety.NewTestPermit(t, cmd, l.Epoch(id.Instrument), time.Now().Add(time.Minute)))
		t.Logf("%s: acked %v, %v: %v", target, res.Acked, err, res.Values)
	}
	q := func(v float64, u string) lab.Value { return lab.NumberValue(lab.Q(v, u)) }
	do("reactor.stirrer.stir", map[string]lab.Value{"speed": q(400, "rpm")})
	do("reactor.heat", map[string]lab.Value{"target": q(70, "degC")})
	do("reactor.heat", map[string]lab.Value{"target": q(700, "degC")})
	do("pump_a.dose", map[string]lab.Value{"volume": q(0.15, "mL"), "rate": q(6, "mL/min")})
	do("pump_b.dose", map[string]lab.Value{"volume": q(0.15, "mL"), "rate": q(6, "mL/min")})
	do("pump_b.dose", map[string]lab.Value{"volume": q(0.15, "mL"), "rate": q(6, "mL/min")})
	do("pump_b.stop", nil)
	do("quench.flood", nil)
	do("stage.move", map[string]lab.Value{"x": q(0, "mm"), "y": q(0, "mm"), "z": q(1.2, "mm")})
	do("stage.halt", nil)
	do("cell.reset", nil)
	time.Sleep(time.Second)
	do("cell.coat", map[string]lab.Value{"films": lab.IntegerValue(2), "speed": q(10, "mm/s")})
	do("spectrometer.spectrum", nil)
	do("camera.capture", map[string]lab.Value{"exposure": q(20, "ms")})
	h.With(func(w *sim.World) { w.Reboot("pump_a") })
	do("pump_a.dose", map[string]lab.Value{"volume": q(0.15, "mL"), "rate": q(6, "mL/min")})
	h.With(func(w *sim.World) { t.Logf("%+v", w.Effects()) })
}
