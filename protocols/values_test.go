package protocols_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
	"labgate/protocols"
)

var t0 = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func at(s float64) time.Time { return t0.Add(time.Duration(s * 1e9)) }

func good(now time.Time, v lab.Value) lab.Reading {
	return lab.Reading{Value: v, Quality: lab.Good, Source: now, Received: now, Epoch: 1}
}

const growing = `
protocol: growing
version: 1.0.0
inputs:
  volume: {unit: mL, min: 0.05, max: 0.4, default: 0.2}
roles:
  gold:    {is: pump/v1, holds: {substance: HAuCl4}}
  optics:  {is: spectrometer/v1}
  reactor: {is: [thermostat/v1, stirrer/v1]}
  cell:    {is: packml-cell/v1}
outputs:
  peak:   {unit: um, from: grow.last.read.peak, required: true}
  before: {unit: nm, from: grow.previous.read.peak}
  rounds: {type: integer, from: grow.i, required: true}
  shift:  {unit: nm, from: abs(grow.last.read.peak - first.peak)}
  table:  {table: {wavelength: nm, absorbance: "1"}, from: first.spectrum}
steps:
  - {id: first, do: optics.spectrum, gives: {peak: peak, spectrum: spectrum}}
  - {id: heat, do: reactor.heat, with: {target: = reactor.temperature + 5 K}}
  - id: grow
    repeat: {max: 12, every: 0.5 s, until: i > 1 and abs(last.read.peak - previous.read.peak) < 1 nm}
    steps:
      - {id: read, do: optics.spectrum, gives: {peak: peak}, on_error: {retry: 2, then: skip}}
      - {id: dose, do: gold.dose, with: {volume: "= min(0.4 mL, max(0 mL, volume * (read.peak / 500 nm) - 0.1 mL * i))", rate: 6 mL/min}}
      - {id: coat, do: cell.coat, with: {films: = i, speed: 1 mm/s}}
`

func peak(nm float64) map[string]lab.Value {
	cols := []lab.Column{{Name: "wavelength", Unit: lab.Q(0, "nm").Unit}, {Name: "absorbance", Unit: lab.One}}
	return map[string]lab.Value{"peak": quantity(nm, "nm"), "spectrum": lab.TableValue(&lab.TableData{Columns: cols, Data: [][]float64{{400, 500}, {0.1, 0.2}}})}
}

func TestArgs(t *testing.T) {
	pl := bind(t, growing, nil)
	p, v := pl.Protocol, pl.NewValues()
	heat, grow, read, dose := p.Step("heat"), p.Step("grow"), p.Step("grow.read"), p.Step("grow.dose")
	id, _, err := pl.Property("reactor", "temperature")
	if err != nil {
		t.Fatal(err)
	}
	refused := func(now time.Time, s *protocols.Step, code, say, hint string) {
		t.Helper()
		args, is := v.Args(now, s)
		if args != nil || len(is) != 1 || is[0].Code != code || is[0].Say != say || is[0].Hint != hint || is[0].Line == 0 || !strings.HasPrefix(is[0].Path, "steps."+s.Path+".with.") {
			t.Errorf("%v, %+v", args, is)
		}
	}
	is := func(now time.Time, s *protocols.Step, want string) {
		t.Helper()
		args, issues := v.Args(now, s)
		if got := fmt.Sprint(args); got != want || len(issues) > 0 {
			t.Errorf("%s, %v; want %s", got, issues, want)
		}
	}
	unknown := "argument target has no value: reactor.temperature + 5 K is unknown"
	refused(at(0), heat, "no_value", unknown, "reactor.temperature is missing")
	v.Read(at(0), id, good(at(0), quantity(20, "degC")))
	is(at(0.5), heat, "map[target:25 degC]")
	refused(at(5), heat, "no_value", unknown, "reactor.temperature is stale")
	v.Read(at(5), id, lab.Reading{Value: quantity(20, "degC"), Quality: lab.Bad, Received: at(5)})
	refused(at(5), heat, "no_value", unknown, "reactor.temperature is bad")

	v.Enter(at(6), grow)
	v.BeginIteration(at(6), grow, 1)
	refused(at(6), dose, "no_value", "argument volume has no value: min(0.4 mL, max(0 mL, volume * (read.peak / 500 nm) - 0.1 mL * i)) is unknown", "read.peak is missing")
	if _, err := v.Gave(at(6), read, peak(500)); err != nil {
		t.Fatal(err)
	}
	is(at(6), dose, "map[rate:6 mL/min volume:0.1 mL]")
	is(at(6), p.Step("grow.coat"), "map[films:1 speed:1 mm/s]")
	v.EndIteration(at(7), grow)
	v.BeginIteration(at(7), grow, 2)
	refused(at(7), dose, "no_value", "argument volume has no value: min(0.4 mL, max(0 mL, volume * (read.peak / 500 nm) - 0.1 mL * i)) is unknown", "read.peak is missing")
	if _, err := v.Gave(at(7), read, peak(500)); err != nil {
		t.Fatal(err)
	}
	refused(at(7), dose, "out_of_bounds", "argument volume is 0 mL; more than 0 mL is allowed", "")
}

// Until sees the iterations as they end; what was skipped is missing, so that
// the condition is unknown.
func TestRepeat(t *testing.T) {
	pl := bind(t, growing, nil)
	p, v := pl.Protocol, pl.NewValues()
	grow, read := p.Step("grow"), p.Step("grow.read")
	v.Enter(t0, grow)
	for i, c := range []struct {
		peak float64 // 0: skipped
		want expr.Truth
	}{{530, expr.False}, {525, expr.False}, {0, expr.Unknown}, {524, expr.Unknown}, {522, expr.False}, {521.5, expr.True}} {
		v.BeginIteration(t0, grow, i+1)
		if c.peak > 0 {
			if _, err := v.Gave(t0, read, peak(c.peak)); err != nil {
				t.Fatal(err)
			}
		} else {
			v.Skip(t0, read)
		}
		v.EndIteration(t0, grow)
		if got := v.Until(t0, grow); got != c.want {
			t.Errorf("iteration %d: %v, want %v: %+v", i+1, got, c.want, v.Used(t0, grow))
		}
	}
	got, issues := v.Outputs(t0)
	if len(issues) > 0 {
		t.Fatal(issues)
	}
	if s := fmt.Sprint(got); s != "map[before:522 nm peak:0.5215 um rounds:6]" {
		t.Errorf("%s", s)
	}
	if _, err := v.Gave(t0, p.Step("first"), peak(540)); err != nil {
		t.Fatal(err)
	}
	if got, _ = v.Outputs(t0); fmt.Sprint(got) != "map[before:522 nm peak:0.5215 um rounds:6 shift:18.5 nm table:table(2 × 2)]" {
		t.Errorf("%v", got)
	}
	v.Skip(t0, grow)
	got, issues = v.Outputs(t0)
	if len(got) != 1 || len(issues) != 2 || issues[0].Code != "output_missing" || issues[0].Path != "outputs.peak" || issues[0].Hint != "grow.last.read.peak is missing" {
		t.Errorf("%v, %+v", got, issues)
	}
}

func TestNestedRepeats(t *testing.T) {
	pl := bind(t, `
protocol: nested
version: 1.0.0
roles: {optics: {is: spectrometer/v1}, reactor: {is: thermostat/v1}}
outputs:
  a: {unit: nm, from: outer.last.inner.last.read.peak}
  b: {unit: nm, from: outer.previous.inner.last.read.peak}
  c: {unit: nm, from: outer.last.inner.previous.read.peak}
  n: {unit: "1", from: outer.i * 10 + outer.last.inner.i}
  p: {unit: nm, from: side.one.peak}
steps:
  - id: outer
    repeat: {max: 3, until: last.inner.last.read.peak > 900 nm}
    steps:
      - id: inner
        repeat: {max: 2, until: last.read.peak > 900 nm and outer.i > 1 and outer.last.inner.last.read.peak > 1 nm}
        steps:
          - {id: read, do: optics.spectrum, gives: {peak: peak}}
  - id: side
    parallel:
      - {id: one, do: optics.spectrum, gives: {peak: peak}}
      - {id: two, do: reactor.heat_off}
`, nil)
	p, v := pl.Protocol, pl.NewValues()
	outer, inner, read := p.Step("outer"), p.Step("outer.inner"), p.Step("outer.inner.read")
	v.Enter(t0, outer)
	n := 100.0
	for i := 1; i <= 3; i++ {
		v.BeginIteration(t0, outer, i)
		v.Enter(t0, inner)
		if got := v.Until(t0, inner); i > 1 && got != expr.Unknown {
			t.Errorf("the inner repeat remembers iterations of before: %v", got)
		}
		for j := 1; j <= 2; j++ {
			v.BeginIteration(t0, inner, j)
			n++
			if _, err := v.Gave(t0, read, peak(n)); err != nil {
				t.Fatal(err)
			}
			v.EndIteration(t0, inner)
		}
		v.EndIteration(t0, outer)
	}
	if _, err := v.Gave(t0, p.Step("side.one"), peak(7)); err != nil {
		t.Fatal(err)
	}
	got, issues := v.Outputs(t0)
	if s := fmt.Sprint(got); s != "map[a:106 nm b:104 nm c:105 nm n:32 p:7 nm]" || len(issues) > 0 {
		t.Errorf("%s, %v", s, issues)
	}
}

func TestGaveRefuses(t *testing.T) {
	pl := bind(t, growing, nil)
	v, first := pl.NewValues(), pl.Protocol.Step("first")
	got, err := v.Gave(t0, first, peak(500))
	if err != nil || !reflect.DeepEqual(got, peak(500)) {
		t.Fatalf("%v, %v", got, err)
	}
	bad := peak(500)
	bad["peak"] = quantity(5, "s")
	delete(bad, "spectrum")
	got, err = v.Gave(t0, first, bad)
	want := "protocols: results of first: invalid: peak: 5 s is a time, not a length (nm)\nspectrum did not come"
	if got != nil || err == nil || err.Error() != want || lab.KindOf(err) != lab.KindInvalid {
		t.Errorf("%v, %v", got, err)
	}
	if out, _ := v.Outputs(t0); len(out) != 0 { // not the results of before either
		t.Errorf("%v", out)
	}
}

const waiting = `
protocol: waiting
version: 1.0.0
inputs: {temperature: {unit: degC, min: 20, max: 90, default: 50}}
roles: {reactor: {is: [thermostat/v1, stirrer/v1]}}
steps:
  - {id: steady, wait: {until: abs(reactor.temperature - temperature) < 1 K, for: 2 s, timeout: 10 s}}
  - {id: once, wait: {until: reactor.temperature > 60 degC, timeout: 10 s}}
  - {id: pause, wait: {for: 5 s}}
  - {id: flat, wait: {until: "abs(rate(reactor.temperature, 2 s)) < 0.1 K/s", timeout: 10 s}}
`

func TestWatch(t *testing.T) {
	type event struct {
		at   float64 // s
		temp float64 // degC; 0: no reading comes
		want protocols.Waited
		next float64 // s
	}
	const stale = 1e-9
	for _, c := range []struct {
		what, step string
		events     []event
	}{
		{"it holds for long enough", "steady", []event{{0, 40, protocols.Waiting, 1 + stale}, {0.8, 50, protocols.Waiting, 1.8 + stale}, {1.6, 50.5, protocols.Waiting, 2.6 + stale}, {2.4, 50, protocols.Waiting, 2.8}, {2.8, 0, protocols.Met, 0}}},
		{"it breaks", "steady", []event{{0, 50, protocols.Waiting, 1 + stale}, {0.9, 52, protocols.Waiting, 1.9 + stale}, {1.5, 50, protocols.Waiting, 2.5 + stale}, {2, 50, protocols.Waiting, 3 + stale}, {2.9, 50, protocols.Waiting, 3.5}, {3.5, 50, protocols.Met, 0}}},
		{"a stale reading begins it anew", "steady", []event{{0, 50, protocols.Waiting, 1 + stale}, {1.5, 0, protocols.Waiting, 10}, {1.8, 50, protocols.Waiting, 2.8 + stale}, {2.5, 50, protocols.Waiting, 3.5 + stale}, {3.4, 50, protocols.Waiting, 3.8}, {3.8, 50, protocols.Met, 0}}},
		{"so does a gap that nobody looked at", "steady", []event{{0, 50, protocols.Waiting, 1 + stale}, {5, 50, protocols.Waiting, 6 + stale}}},
		{"it times out", "steady", []event{{0, 40, protocols.Waiting, 1 + stale}, {9.5, 50, protocols.Waiting, 10}, {10, 50, protocols.TimedOut, 0}}},
		{"no reading ever comes", "steady", []event{{0, 0, protocols.Waiting, 10}, {10, 0, protocols.TimedOut, 0}}},
		{"once is enough", "once", []event{{0, 55, protocols.Waiting, 1 + stale}, {0.5, 61, protocols.Met, 0}}},
		{"it is so already", "once", []event{{0, 65, protocols.Met, 0}}},
		{"true too late is too late", "once", []event{{0, 55, protocols.Waiting, 1 + stale}, {11, 65, protocols.TimedOut, 0}}},
		{"a pause", "pause", []event{{0, 0, protocols.Waiting, 5}, {4.9, 0, protocols.Waiting, 5}, {5, 0, protocols.Met, 0}}},
		{"a slope", "flat", []event{{0, 20, protocols.Waiting, 0}, {1, 25, protocols.Waiting, 0}, {2, 30, protocols.Waiting, 0}, {3, 30, protocols.Waiting, 0}, {4, 30, protocols.Met, 0}}},
	} {
		t.Run(c.what, func(t *testing.T) {
			pl := bind(t, waiting, nil)
			v, s := pl.NewValues(), pl.Protocol.Step(c.step)
			id, _, err := pl.Property("reactor", "temperature")
			if err != nil {
				t.Fatal(err)
			}
			w := v.Watch(t0, s)
			for _, e := range c.events {
				if e.temp != 0 {
					v.Read(at(e.at), id, good(at(e.at), quantity(e.temp, "degC")))
				}
				got, next := w.Check(at(e.at))
				if got != e.want {
					t.Fatalf("at %g s: %v, want %v", e.at, got, e.want)
				}
				if c.step != "flat" && got == protocols.Waiting && next.Sub(at(e.next)).Abs() > 1 {
					t.Errorf("at %g s: next at %s, want %g s", e.at, next.Sub(t0), e.next)
				}
				if got == protocols.Waiting && !next.After(at(e.at)) {
					t.Errorf("at %g s: next is not after now: %s", e.at, next.Sub(t0))
				}
			}
		})
	}
}

func TestReadings(t *testing.T) {
	pl := bind(t, waiting, nil)
	v := pl.NewValues()
	id, _, err := pl.Property("reactor", "temperature")
	if err != nil {
		t.Fatal(err)
	}
	other := lab.PropertyID{Instrument: "room", Component: "room", Property: "oxygen"}
	v.Read(t0, other, good(t0, quantity(20, "%"))) // nobody reads it
	if _, ok := v.Reading(other); ok {
		t.Error("kept a reading that nothing reads")
	}
	if _, ok := v.Reading(id); ok {
		t.Error("a reading before one came")
	}
	v.Read(t0, id, good(t0, quantity(20, "degC")))
	if r, ok := v.Reading(id); !ok || r.Value.Num != 20 {
		t.Errorf("%v", r)
	}
}

// One condition at several places is one thing to compile; each place keeps its
// own meaning where names depend on it, and its own memory.
func TestSameTextSeveralPlaces(t *testing.T) {
	p := parse(t, `protocol: same
version: 1.0.0
inputs: {volume: {unit: mL, min: 0.01, max: 0.4, default: 0.1}}
roles:
  gold:    {is: pump/v1}
  reactor: {is: thermostat/v1}
steps:
  - {id: a, wait: {until: reactor.temperature > 30 degC, timeout: 1 min}}
  - {id: b, wait: {until: reactor.temperature > 30 degC, timeout: 1 min}}
  - {id: c, do: gold.dose, with: {volume: = volume, rate: 1 mL/min}}
  - {id: d, repeat: {over: {v: [0.1 mL]}}, steps: [{id: e, do: gold.dose, with: {volume: = v, rate: 1 mL/min}}]}
  - {id: f, repeat: {over: {v: [0.2 mL]}}, steps: [{id: g, do: gold.dose, with: {volume: = v, rate: 1 mL/min}}]}
  - {id: h, wait: {until: "rate(reactor.temperature, 10 s) > 1 K/s", timeout: 1 min}}
  - {id: k, wait: {until: "rate(reactor.temperature, 10 s) > 1 K/s", timeout: 1 min}}
`)
	if p.Step("a").Until != p.Step("b").Until {
		t.Error("the same condition is compiled twice")
	}
	if p.Step("d.e").Arg("volume").Expr == p.Step("f.g").Arg("volume").Expr {
		t.Error("v is another value at each place")
	}
	if p.Step("h").Until == p.Step("k").Until {
		t.Error("two waits share one memory")
	}
}
