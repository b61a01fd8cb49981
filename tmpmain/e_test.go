package main

import (
	"context"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

func TestE2E(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cfg, err := loadLab("demo")
	if err != nil {
		t.Fatal(err)
	}
	data := folder(t.TempDir())
	if err := data.make(); err != nil {
		t.Fatal(err)
	}
	t0 := time.Now()
	running, err := startFaces(ctx, 1, data, func() (string, string, string, error) {
		st, err := data.readContext()
		return st.MQTT, st.MQTTUser, st.MQTTPassword, err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("faces", time.Since(t0), running.Addresses())
	if err := data.writeSim(running.Addresses()); err != nil {
		t.Fatal(err)
	}
	log := func(s string) { os.Stderr.WriteString(time.Since(t0).String() + " " + s + "\n") }
	t1 := time.Now()
	s, err := openStation(ctx, stationOptions{Config: cfg, Data: data, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	rctx, rc := context.WithTimeout(ctx, 20*time.Second)
	defer rc()
	if err := s.waitReady(rctx, log); err != nil {
		t.Error(err)
	}
	t.Log("ready", time.Since(t1))
	_, seed, _ := data.keyFor("planner_1")
	kp, _ := nkeys.FromSeed(seed)
	pub, _ := kp.PublicKey()
	nc, err := nats.Connect(s.context.Server, nats.Nkey(pub, kp.Sign), nats.CustomInboxPrefix("_INBOX_planner_1"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ch := make(chan *nats.Msg, 1000)
	nc.ChanSubscribe("lab.demo.verdicts.planner_1", ch)
	nc.ChanSubscribe("lab.demo.runs.planner_1.>", ch)
	nc.Publish("lab.demo.proposals.planner_1", []byte(`{"kind":"proposal/v1","id":"p1","key":"k1","protocol":{"name":"gold-nanoparticles","version":"1.2.0"},"inputs":{"temperature":{"value":72,"unit":"degC"}},"predicts":{"peak":{"value":522,"sd":3,"unit":"nm"}}}`))
	tm := time.After(60 * time.Second)
	for {
		select {
		case m := <-ch:
			var k struct{ Kind string }
			json.Unmarshal(m.Data, &k)
			d := m.Data
			if len(d) > 700 {
				d = d[:700]
			}
			log(m.Subject + " " + string(d))
			if k.Kind == "stop_document/v1" {
				cancel()
				log("run: " + errs(<-done))
				log("close: " + errs(s.Close()))
				log("faces: " + errs(running.Wait()))
				return
			}
		case <-tm:
			t.Fatal("timeout")
		}
	}
}

func errs(err error) string {
	if err == nil {
		return "ok"
	}
	return err.Error()
}
