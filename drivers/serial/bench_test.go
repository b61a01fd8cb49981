package serial_test

import (
	"context"
	"testing"
	"time"

	"labgate/drivers/drivertest"
	"labgate/safety"
)

// BenchmarkRoundTrip is the floor: one short message over a pty and back,
// without a driver.
func BenchmarkRoundTrip(b *testing.B) {
	c := newController(b)
	l := open(b, nil, stage(c.path()))
	connect(b, l) // for the line's settings
	buf := make([]byte, 64)
	for b.Loop() {
		if _, err := c.tty.WriteString("/\r"); err != nil {
			b.Fatal(err)
		}
		for n := 0; n < len("N\r\n"); {
			m, err := c.tty.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			n += m
		}
	}
}

// BenchmarkRead is the same message through the link: one exchange.
func BenchmarkRead(b *testing.B) {
	c := newController(b)
	l := open(b, nil, stage(c.path()))
	connect(b, l)
	ids := props("stage", "xyz", "moving")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if s, err := l.Read(ctx, "stage", ids); err != nil || !s[0].Reading.Value.Usable() {
			b.Fatal(s, err)
		}
	}
}

// BenchmarkExchange is a permitted command of one message, acknowledged.
func BenchmarkExchange(b *testing.B) {
	c := newController(b)
	l := open(b, nil, stage(c.path()))
	connect(b, l)
	cmd := move(1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		c.forget()
		p := safety.NewTestPermit(b, cmd, l.Epoch("stage"), drivertest.Clock{}.Now().Add(time.Minute))
		if res, err := l.Exchange(ctx, cmd, p); err != nil || !res.Acked {
			b.Fatal(res, err)
		}
	}
}
