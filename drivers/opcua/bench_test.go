package opcua

import (
	"fmt"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"

	"labgate/lab"
)

// The driver's cost is the difference to the library's own call, measured over
// the same session in the same run.
func BenchmarkRead(b *testing.B) {
	for _, n := range []int{1, 100} {
		bench := connected(b, time.Second)
		bench.set("s=T", good(1.0))
		ids := make([]lab.PropertyID, n)
		nodes := make([]*ua.ReadValueID, n)
		s := bench.link.(*Link).session
		d := bench.link.(*Link).devices["dev"]
		for i := range ids {
			ids[i] = propertyID("temperature")
			nodes[i] = &ua.ReadValueID{NodeID: s.node(d, "s=T")}
		}
		b.Run(fmt.Sprintf("library/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := s.client.Read(b.Context(), &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnBoth, NodesToRead: nodes}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("driver/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bench.link.Read(b.Context(), "dev", ids); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkExchange(b *testing.B) {
	bench := connected(b, time.Second)
	l := bench.link.(*Link)
	d := l.devices["dev"]
	cmd := dose()
	c := d.commands[member{"part", "dose"}]
	said, err := c.message(cmd.Args)
	if err != nil {
		b.Fatal(err)
	}
	req := &ua.CallMethodRequest{ObjectID: l.session.node(d, "s=Pump"), MethodID: l.session.node(d, "s=Pump.Dose"), InputArguments: said.args}
	b.Run("library", func(b *testing.B) {
		for b.Loop() {
			if _, err := l.session.client.Call(b.Context(), req); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("driver", func(b *testing.B) {
		for b.Loop() {
			if _, err := l.Exchange(b.Context(), cmd, bench.permit(b, cmd)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
