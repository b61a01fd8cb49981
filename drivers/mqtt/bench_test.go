package mqtt

import (
	"encoding/json"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"labgate/lab"
)

// The driver's cost is the difference to the library's own publish and
// acknowledgement over the same broker, with the same device, in the same run.
func BenchmarkExchange(b *testing.B) {
	bench := connected(b, 5*time.Second)
	bench.do(func(d *device, o order) { d.client.Publish(d.prefix+"/ack", 1, false, `{"id":"`+o.ID+`","ok":true}`) })
	b.Run("library", func(b *testing.B) {
		acks := make(chan string, 1)
		c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + bench.proxy.l.Addr().String()).SetClientID("raw").SetAutoReconnect(false))
		bench.done(c.Connect())
		defer c.Disconnect(100)
		bench.done(c.Subscribe(bench.prefix+"/ack", 1, func(_ paho.Client, m paho.Message) {
			var doc struct{ ID string }
			if err := json.Unmarshal(m.Payload(), &doc); err != nil {
				b.Error(err)
			}
			acks <- doc.ID
		}))
		for b.Loop() {
			id := dose().ID
			c.Publish(bench.prefix+"/command", 1, false, `{"id":"`+id+`","command":"dose","args":{"drops":3},"expires":"2026-11-22T18:00:00Z"}`)
			if got := <-acks; got != id {
				b.Fatal(got)
			}
		}
	})
	b.Run("driver", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			cmd := dose()
			if _, err := bench.link.Exchange(b.Context(), cmd, bench.permit(cmd)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A read asks nobody: the floor is the decoding of one state message.
func BenchmarkRead(b *testing.B) {
	bench := connected(b, 5*time.Second)
	state := []byte(`{"time":"2026-11-22T18:00:00.123456789Z","serial":"SN 1","air":{"flow":5},"count":7,"ready":true,"mode":1,"lot":"A"}`)
	bench.tell(state)
	b.Run("library/decode", func(b *testing.B) {
		for b.Loop() {
			var doc map[string]any
			if err := json.Unmarshal(state, &doc); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("driver/state", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			bench.link.state(message{payload: state, received: time.Now()})
		}
	})
	ids := []lab.PropertyID{propertyID("airflow"), propertyID("count"), propertyID("ready")}
	b.Run("driver/read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := bench.link.Read(b.Context(), "dev", ids); err != nil {
				b.Fatal(err)
			}
		}
	})
}
