package sim

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"
	"time"

	"labgate/lab"
)

// start is off the grid on purpose.
var start = time.Date(2026, 11, 22, 9, 0, 0, 3_456_789, time.UTC)

func args(pairs ...any) map[string]lab.Value {
	m := map[string]lab.Value{}
	for i := 0; i < len(pairs); i += 2 {
		q, err := lab.ParseQuantity(pairs[i+1].(string))
		if err != nil {
			panic(err)
		}
		m[pairs[i].(string)] = lab.NumberValue(q)
	}
	return m
}

func quantity(v float64, unit string) lab.Value { return lab.NumberValue(lab.Q(v, unit)) }

func dose(w *World, pump string, volume, rate float64) error {
	_, err := w.Do(pump, "pump", "dose", map[string]lab.Value{"volume": quantity(volume, "mL"), "rate": quantity(rate, "mL/min")})
	return err
}

// must does a command that has to work.
func must(t testing.TB, w *World, instrument, component, name string, a map[string]lab.Value) map[string]lab.Value {
	t.Helper()
	out, err := w.Do(instrument, component, name, a)
	if err != nil {
		t.Fatalf("%s.%s.%s: %v", instrument, component, name, err)
	}
	return out
}

func read(t testing.TB, w *World, instrument, component, property string) lab.Value {
	t.Helper()
	v, err := w.Read(instrument, component, property)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func run(w *World, d time.Duration) { w.Step(w.Now().Add(d)) }

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// wantRefused checks that the device refused for a cause.
func wantRefused(t testing.TB, err, cause error) {
	t.Helper()
	if lab.KindOf(err) != lab.KindDeviceRefused || !errors.Is(err, cause) {
		t.Errorf("got %v, want refused: %v", err, cause)
	}
}

func near(t testing.TB, what string, got, want, by float64) {
	t.Helper()
	if !(math.Abs(got-want) <= by) {
		t.Errorf("%s is %v, want %v within %v", what, got, want, by)
	}
}

// snapshot is every sensor of every instrument, to the bit.
func snapshot(t testing.TB, w *World) []byte {
	t.Helper()
	var b []byte
	for _, in := range w.Instruments() {
		for _, s := range w.devices[in].sensors() {
			v, err := w.Read(in, s[0], s[1])
			if err != nil {
				b = append(b, err.Error()...)
				continue
			}
			b = binary.BigEndian.AppendUint64(b, math.Float64bits(v.Num))
			b = append(b, v.Text...)
			if v.Bool {
				b = append(b, 1)
			}
		}
	}
	return b
}
