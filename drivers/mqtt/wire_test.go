package mqtt

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"pgregory.net/rapid"
)

// fed is a connection that delivers given bytes.
type fed struct {
	net.Conn
	r io.Reader
}

func (f fed) Read(b []byte) (int, error) { return f.r.Read(b) }

func publish(topic string, payload int) []byte {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Payload = topic, make([]byte, payload)
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// However the bytes are cut up, what comes out is what went in.
func TestWirePassesPackets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in []byte
		sizes := rapid.SliceOfN(rapid.SampledFrom([]int{0, 1, 100, 127, 128, 16383, 16384, 20000}), 1, 5).Draw(t, "sizes")
		for _, n := range sizes {
			in = append(in, publish("t", n)...)
			in = append(in, 0xd0, 0) // a ping's answer, without a body
		}
		var r io.Reader = bytes.NewReader(in)
		if rapid.Bool().Draw(t, "halves") {
			r = iotest.HalfReader(r)
		}
		w := newWire(fed{r: r})
		for _, n := range sizes {
			p, err := packets.ReadPacket(w)
			if err != nil || len(p.(*packets.PublishPacket).Payload) != n {
				t.Fatalf("%d bytes: %v, %v", n, p, err)
			}
			if _, err := packets.ReadPacket(w); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestWireRefusesLongPackets(t *testing.T) {
	for name, b := range map[string][]byte{
		"one byte too long": {0x30, 0x81, 0xa0, 0x80, 0x04},
		"256 MiB":           {0x30, 0xff, 0xff, 0xff, 0x7f},
		"five length bytes": {0x30, 0xff, 0xff, 0xff, 0xff, 0x01},
	} {
		_, err := packets.ReadPacket(newWire(fed{r: bytes.NewReader(b)}))
		if err == nil || !strings.Contains(err.Error(), "packet") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := uint32(0x01) | 0x20<<7 | 0<<14 | 4<<21; n != maxPacket+1 {
		t.Fatalf("the test's packet is of %d bytes, the limit is %d", n, maxPacket)
	}
}

func TestOpenKnowsItsSchemes(t *testing.T) {
	for _, s := range []string{"ws://127.0.0.1:1", "http://127.0.0.1:1", "//127.0.0.1:1"} {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open(context.Background(), u, nil); err == nil || !strings.Contains(err.Error(), "tcp or tls is wanted") {
			t.Errorf("%s: %v", s, err)
		}
	}
}
