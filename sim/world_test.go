package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"labgate/lab"

	"pgregory.net/rapid"
)

// script is a morning in the lab: everything once, at odd instants.
var script = []struct {
	at                         time.Duration
	instrument, component, cmd string
	args                       map[string]lab.Value
}{
	{ms(7), "reactor", "stirrer", "stir", args("speed", "400 rpm")},
	{ms(11), "cell", "line", "reset", nil},
	{ms(203), "reactor", "jacket", "heat", args("target", "72 degC")},
	{ms(555), "cell", "line", "coat", args("films", "4", "speed", "12 mm/s")},
	{ms(900), "stage", "xyz", "move", args("x", "1 mm", "y", "-2.5 mm", "z", "1.2 mm")},
	{ms(3501), "pump_a", "pump", "dose", args("volume", "0.15 mL", "rate", "10 mL/min")},
	{ms(3502), "pump_b", "pump", "dose", args("volume", "0.1 mL", "rate", "10 mL/min")},
	{ms(5000), "spectrometer", "optics", "spectrum", nil},
	{ms(6100), "spectrometer", "optics", "spectrum", nil},
	{ms(7000), "camera", "camera", "capture", args("exposure", "20 ms")},
	{ms(7300), "quench", "quench", "flood", nil},
	{ms(7400), "reactor", "jacket", "heat_off", nil},
	{ms(8050), "reactor", "vessel", "drain", nil},
}

// play runs the script with extra steps in between and returns all that could
// be seen, every half second and after each command.
func play(t testing.TB, seed uint64, extra func(now, next time.Time) []time.Time) []byte {
	w := NewDemo(seed, start)
	var trace []byte
	to := func(at time.Time) {
		for _, x := range extra(w.Now(), at) {
			w.Step(x)
		}
		w.Step(at)
		trace = append(trace, snapshot(t, w)...)
	}
	next := start
	for _, s := range script {
		for ; next.Before(start.Add(s.at)); next = next.Add(ms(500)) {
			to(next)
		}
		to(start.Add(s.at))
		out, err := w.Do(s.instrument, s.component, s.cmd, s.args)
		b, jerr := json.Marshal(out)
		if jerr != nil {
			t.Fatal(jerr)
		}
		trace = append(trace, fmt.Sprint(err)...)
		trace = append(trace, b...)
	}
	to(start.Add(2 * time.Minute))
	b, err := json.Marshal(w.Effects())
	if err != nil {
		t.Fatal(err)
	}
	return append(trace, b...)
}

func noExtra(_, _ time.Time) []time.Time { return nil }

func TestSameSeedSameTrace(t *testing.T) {
	a := play(t, 7, noExtra)
	every := func(d time.Duration) func(now, next time.Time) []time.Time {
		return func(now, next time.Time) (at []time.Time) {
			for x := now.Add(d); x.Before(next); x = x.Add(d) {
				at = append(at, x)
			}
			return at
		}
	}
	for _, d := range []time.Duration{ms(1), ms(10), 3_333_333, ms(97)} {
		if !bytes.Equal(a, play(t, 7, every(d))) {
			t.Errorf("stepping every %v changes the trace", d)
		}
	}
	backwards := func(now, _ time.Time) []time.Time { return []time.Time{now.Add(-time.Hour)} }
	if !bytes.Equal(a, play(t, 7, backwards)) {
		t.Error("stepping backwards changes the trace")
	}
	if bytes.Equal(a, play(t, 8, noExtra)) {
		t.Error("another seed gives the same trace")
	}
}

func TestRandomStepsChangeNothing(t *testing.T) {
	a := play(t, 3, noExtra)
	rapid.Check(t, func(r *rapid.T) {
		b := play(t, 3, func(now, next time.Time) (at []time.Time) {
			for range rapid.IntRange(0, 3).Draw(r, "steps") {
				if gap := next.Sub(now); gap > 0 {
					at = append(at, now.Add(time.Duration(rapid.Int64Range(0, int64(gap)).Draw(r, "step"))))
				}
			}
			return at
		})
		if !bytes.Equal(a, b) {
			t.Fatal("the trace depends on how the world is stepped")
		}
	})
}

// Looking must not change what is seen.
func TestReadingIsPure(t *testing.T) {
	a, b := NewDemo(1, start), NewDemo(1, start)
	for range 50 {
		for range 3 {
			snapshot(t, b)
		}
		run(a, ms(30))
		run(b, ms(30))
	}
	if !bytes.Equal(snapshot(t, a), snapshot(t, b)) {
		t.Error("reading changed the world")
	}
}

// A world at rest skips its ticks; that must be exact.
func TestQuietIsExact(t *testing.T) {
	skip, full := NewDemo(5, start), NewDemo(5, start)
	for _, w := range []*World{skip, full} {
		must(t, w, "reactor", "stirrer", "stir", args("speed", "300 rpm"))
		must(t, w, "reactor", "jacket", "heat", args("target", "60 degC"))
		if err := dose(w, "pump_a", 0.1, 10); err != nil {
			t.Fatal(err)
		}
		run(w, 5*time.Second)
		must(t, w, "reactor", "jacket", "heat_off", nil)
		must(t, w, "reactor", "vessel", "drain", nil)
		run(w, 3*time.Minute)
		if !w.quiet() {
			t.Fatal("the world does not come to rest")
		}
	}
	at := skip.Now().Add(time.Minute)
	skip.Step(at)
	for end := tickOf(at); full.tick < end; {
		full.tick++
		full.advance()
	}
	full.now = at
	if !bytes.Equal(snapshot(t, skip), snapshot(t, full)) || skip.Count("reactor") != full.Count("reactor") {
		t.Error("skipping a quiet world is not the same as stepping through it")
	}
}

// vocabulary is what the classes of the demo lab ask for; the units must be
// exactly theirs.
var vocabulary = map[string]map[string]string{
	"reactor": {"jacket.temperature": "degC", "jacket.setpoint": "degC", "jacket.heating": "bool", "stirrer.speed": "rpm",
		"probe.temperature": "degC", "wall.temperature": "degC", "vessel.contents": "mL"},
	"pump_a":       {"pump.rate": "mL/min", "pump.dispensed": "mL", "pump.running": "bool"},
	"pump_b":       {"pump.rate": "mL/min", "pump.dispensed": "mL", "pump.running": "bool"},
	"quench":       {"pump.rate": "mL/min", "pump.dispensed": "mL", "pump.running": "bool", "quench.flooding": "bool"},
	"spectrometer": {"optics.ready": "bool"},
	"stage":        {"xyz.x": "mm", "xyz.y": "mm", "xyz.z": "mm", "xyz.moving": "bool"},
	"camera":       {"camera.exposing": "bool"},
	"cell": {"line.state": "enum", "line.made": "integer", "line.good": "integer", "line.batch": "integer",
		"line.oee": "%", "line.thickness": "nm"},
	"room": {"room.door_closed": "bool", "room.airflow": "m/s", "room.oxygen": "%", "room.emergency": "bool"},
}

func TestVocabulary(t *testing.T) {
	w := NewDemo(1, start)
	if len(w.Instruments()) != len(vocabulary) {
		t.Errorf("instruments are %v", w.Instruments())
	}
	for in, properties := range vocabulary {
		if got := w.devices[in].sensors(); len(got) != len(properties) {
			t.Errorf("%s: %d sensors, want %d", in, len(got), len(properties))
		}
		for _, s := range w.devices[in].sensors() {
			v := read(t, w, in, s[0], s[1])
			got := v.Kind.String()
			if v.Kind == lab.Number {
				got = v.Unit.String()
				if v.Unit != lab.Q(0, got).Unit {
					t.Errorf("%s: a unit that looks like %s and is another", in, got)
				}
			}
			if want := properties[s[0]+"."+s[1]]; got != want {
				t.Errorf("%s.%s.%s is in %s, want %q", in, s[0], s[1], got, want)
			}
			if !v.Usable() {
				t.Errorf("%s.%s.%s is not usable at rest", in, s[0], s[1])
			}
		}
	}
}

func TestUnknownIsInvalid(t *testing.T) {
	w := NewDemo(1, start)
	for _, id := range [][3]string{{"nobody", "pump", "rate"}, {"pump_a", "pumps", "rate"}, {"pump_a", "pump", "rates"},
		{"pump_a", "quench", "flooding"}, {"", "", ""}} {
		if _, err := w.Read(id[0], id[1], id[2]); lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("read %v: %v", id, err)
		}
		if _, err := w.Do(id[0], id[1], id[2], nil); lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("do %v: %v", id, err)
		}
	}
	for name, a := range map[string]map[string]lab.Value{
		"missing":         args("volume", "1 mL"),
		"extra":           args("volume", "1 mL", "rate", "1 mL/min", "speed", "1 mm/s"),
		"wrong dimension": args("volume", "1 mm", "rate", "1 mL/min"),
		"no unit":         args("volume", "1", "rate", "1 mL/min"),
		"a name":          {"volume": lab.TextValue("all"), "rate": quantity(1, "mL/min")},
		"not a number":    {"volume": quantity(math.NaN(), "mL"), "rate": quantity(1, "mL/min")},
		"infinite":        {"volume": quantity(math.Inf(1), "mL"), "rate": quantity(1, "mL/min")},
	} {
		if _, err := w.Do("pump_a", "pump", "dose", a); lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if w.Count("pump_a") != (Count{}) || w.Count("nobody") != (Count{}) {
		t.Error("a refused command had an effect")
	}
	if _, err := w.Do("pump_a", "pump", "dose", args("volume", "100 uL", "rate", "360 mL/h")); err != nil {
		t.Errorf("the same dimension in another unit: %v", err)
	}
}

func TestKnobs(t *testing.T) {
	w := NewDemo(1, start)
	for name, bad := range map[string]float64{"room.airflow": -1, "room.oxygen": 101, "room.door_closed": 2, "room.emergency": math.NaN(),
		"ambient": 99, "reactor.temperature": math.Inf(1), "exotherm": -1, "gravity": 1} {
		if err := w.Set(name, bad); lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("set %s to %v: %v", name, bad, err)
		}
	}
	for name, v := range map[string]float64{"room.airflow": 0, "room.oxygen": 19, "room.door_closed": 0, "room.emergency": 1, "reactor.temperature": 60} {
		if err := w.Set(name, v); err != nil {
			t.Error(err)
		}
	}
	if w.Room().Airflow() != 0 || w.Room().DoorClosed() || !w.Room().Emergency() {
		t.Error("the room did not change")
	}
	near(t, "oxygen", w.Room().Oxygen(), 19, 0.1)
	near(t, "the wall", w.Reactor().Temperature("wall"), 60, 0.6)
	run(w, time.Minute)
	near(t, "the wall, a minute later", w.Reactor().Temperature("wall"), 25, 0.6)
	if err := w.Set("exotherm", 250); err != nil {
		t.Fatal(err)
	}
	run(w, time.Minute)
	near(t, "the wall with 250 W from nowhere", w.Reactor().Temperature("wall"), 125, 1)
}

func TestDurations(t *testing.T) {
	w := NewDemo(1, start)
	if d := w.Duration("camera", "camera", "capture", args("exposure", "20 ms")); d != 70*time.Millisecond {
		t.Errorf("a frame takes %v", d)
	}
	if d := w.Duration("spectrometer", "optics", "spectrum", nil); d != integrationTime {
		t.Errorf("a spectrum takes %v", d)
	}
	if d := w.Duration("pump_a", "pump", "stop", nil) + w.Duration("nobody", "", "", nil); d != 0 {
		t.Errorf("an answer takes %v", d)
	}
}

func TestCountsAddUp(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		draw := func(name string) Count {
			n := rapid.IntRange(0, 1000)
			return Count{Doses: n.Draw(r, name), Dispensed: float64(n.Draw(r, name)), Moves: n.Draw(r, name), Films: n.Draw(r, name),
				HeaterEnergy: float64(n.Draw(r, name)), Overflow: float64(n.Draw(r, name))}
		}
		a, b, c := draw("a"), draw("b"), draw("c")
		if a.Add(b).Add(c) != c.Add(a.Add(b)) || a.Add(Count{}) != a {
			t.Fatal("the sum depends on the order")
		}
	})
}

// TestRandomLife does anything to everything and checks what physics always
// keeps.
func TestRandomLife(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := NewDemo(rapid.Uint64().Draw(r, "seed"), start)
		for range rapid.IntRange(1, 25).Draw(r, "acts") {
			act(r, w)
			run(w, time.Duration(rapid.Int64Range(0, int64(3*time.Second)).Draw(r, "pause")))
			check(r, w)
		}
	})
}

func act(r *rapid.T, w *World) {
	in := rapid.SampledFrom(w.Instruments()).Draw(r, "instrument")
	switch rapid.IntRange(0, 9).Draw(r, "kind") {
	case 0:
		name := rapid.SampledFrom(w.Faults()[in]).Draw(r, "fault")
		if err := w.Fault(in, name, rapid.Bool().Draw(r, "on"), nil); err != nil {
			r.Fatal(err)
		}
	case 1:
		w.Reboot(in)
	case 2:
		if p := w.Pump(in); p != nil { // a refusal is as good as a success here
			_ = p.SetDirection(rapid.Bool().Draw(r, "infuse"))
			_ = p.Run()
		}
	default:
		commands := w.devices[in].commands()
		if len(commands) == 0 {
			return
		}
		c := rapid.SampledFrom(commands).Draw(r, "command")
		a := map[string]lab.Value{}
		for _, p := range c.args {
			v := rapid.Float64Range(-1, 30).Draw(r, p.name)
			if a[p.name] = number(v, p.unit); p.kind == lab.Integer {
				a[p.name] = lab.IntegerValue(int64(v))
			}
		}
		_, err := w.Do(in, c.component, c.name, a)
		if k := lab.KindOf(err); err != nil && k != lab.KindDeviceRefused && k != lab.KindUnavailable {
			r.Fatalf("%s %s: %v", in, c.name, err)
		}
	}
}

func check(r *rapid.T, w *World) {
	v := w.reactor
	m := v.mixture
	if !(v.contents >= 0 && v.contents <= VesselCapacity) {
		r.Fatalf("contents %v mL", v.contents)
	}
	for _, x := range append([]float64{m.gold, m.half, m.citrate, m.quench, m.monomer}, m.mu[:]...) {
		if !(x >= 0) || math.IsInf(x, 0) {
			r.Fatalf("a concentration or moment is %v: %+v", x, m)
		}
	}
	if total := m.gold + m.half + m.monomer + m.metal(); total > 1+1e-9 {
		r.Fatalf("%v mmol/L of gold out of a pump that holds 1", total)
	}
	if !(v.body >= -1 && v.body <= hottest) {
		r.Fatalf("the block has %v degC", v.body)
	}
	c := w.Count("reactor")
	in := w.Count("pump_a").Dispensed + w.Count("pump_b").Dispensed + w.Count("quench").Dispensed
	out := c.Overflow + c.Drained + w.Count("pump_a").Withdrawn + w.Count("pump_b").Withdrawn + w.Count("quench").Withdrawn
	if math.Abs(in-c.Received) > 1e-9 || math.Abs(in-out-v.contents) > 1e-9 {
		r.Fatalf("%v mL in, %v mL received, %v mL out, %v mL there", in, c.Received, out, v.contents)
	}
	for i := range w.stage.axes {
		if a := w.stage.axes[i]; a.at < a.lo || a.at > a.hi {
			r.Fatalf("axis %d is at %v mm", i, a.at)
		}
	}
}

func BenchmarkRest(b *testing.B) {
	for b.Loop() {
		w := NewDemo(1, start)
		w.Step(start.Add(time.Hour))
	}
}

// BenchmarkBusyHour keeps everything that costs time going for an hour.
func BenchmarkBusyHour(b *testing.B) {
	for b.Loop() {
		w := NewDemo(1, start)
		must(b, w, "reactor", "stirrer", "stir", args("speed", "400 rpm"))
		must(b, w, "reactor", "jacket", "heat", args("target", "80 degC"))
		for range 360 {
			if err := dose(w, "pump_a", 0.1, 5); err != nil {
				b.Fatal(err)
			}
			if err := dose(w, "pump_b", 0.1, 5); err != nil {
				b.Fatal(err)
			}
			run(w, 9*time.Second)
			must(b, w, "reactor", "vessel", "drain", nil)
			run(w, time.Second)
		}
	}
}

// BenchmarkRun is one synthesis with its spectra and its picture.
func BenchmarkRun(b *testing.B) {
	for b.Loop() {
		synthesise(b, NewDemo(1, start), recipe{70, 1, 0.15, 10})
	}
}
