package safety_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"labgate/configs"
	"labgate/lab"
	"labgate/safety"
)

const bigProfile = `profile: test/pump@1
about: A pump for benchmarks.
components: {pump: pump/v1}
link: {kind: memory, reply_within: 100 ms}
properties:
  rate:      {unit: mL/min}
  dispensed: {unit: mL}
  running:   {}
commands: {dose: {}, stop: {}}
repeats: none
`

// big is a lab of 100 pumps under 1,000 rules, of which ten concern p0.dose.
func big(t testing.TB) (*lab.Lab, *safety.Rules) {
	t.Helper()
	p, is := configs.ParseProfile("pump.yaml", []byte(bigProfile), demo(t).Classes)
	if len(is) > 0 {
		t.Fatal(is)
	}
	var l, r strings.Builder
	l.WriteString("lab: big\nkind: simulated\ngateway: bench\ninstruments:\n")
	for i := range 100 {
		fmt.Fprintf(&l, "  p%d: {profile: test/pump@1, link: {}, safe: [stop], on_start: keep, on_lease_loss: safe, on_gateway_death: keep}\n", i)
	}
	l.WriteString("interlocks: interlocks.yaml\n")
	la, _, is := configs.ParseLab("lab.yaml", []byte(l.String()), map[string]*lab.Profile{p.Name: p})
	if len(is) > 0 {
		t.Fatal(is)
	}
	r.WriteString("interlocks: big\nrules:\n")
	rule := func(id, text string, args ...any) {
		fmt.Fprintf(&r, "  - {id: %s, "+text+"}\n", append([]any{id}, args...)...)
	}
	rule("a1", "limit: p0.dose.volume, max: 5 mL")
	rule("a2", "limit: p0.dose.rate, min: 0.1 mL/min, max: 20 mL/min")
	rule("a3", "permissive: p0.dose, require: not p1.running and p1.rate < 5 mL/min, grace: 1 s")
	rule("a4", "permissive: p0.dose, require: p2.rate + p3.rate <= 10 mL/min and p4.dispensed < 100 mL")
	rule("a5", "permissive: p0.dose, require: \"vote(2, p5.running, p6.running, not p7.running)\", at: start")
	rule("a6", "permissive: p0.dose, require: args.volume + p0.dispensed <= 50 mL, at: start")
	rule("a7", "budget: \"sum(p0.dose.volume, p8.dose.volume) per run\", max: 1000 L")
	rule("a8", "limit: p0.dose.volume, total: 1000 L per 1 h")
	rule("a9", "zone: tank, claim: {p0.dose: until done, p9.dose: until done}")
	rule("a10", "permissive: p0.dose, require: not tripped(t50)")
	for i := 1; i <= 495; i++ {
		n := 10 + i%90
		rule(fmt.Sprintf("t%d", i), "trip: t%d, when: p%d.rate > %d mL/min or p%d.dispensed > 500 mL, unknown_for: 5 s, do: [p%d.stop]", n, n, 30+i, n, n)
		rule(fmt.Sprintf("p%d", i), "permissive: p%d.dose, require: p%d.rate < %d mL/min", n, 10+(n+7)%90, 30+i)
	}
	rules, is := safety.Parse("rules.yaml", []byte(r.String()), la)
	if len(is) > 0 {
		t.Fatal(is)
	}
	if n := len(rules.Rules); n != 1000 {
		t.Fatalf("%d rules", n)
	}
	return la, rules
}

// filled is an engine that has good readings of everything.
func filled(t testing.TB) (*safety.Engine, []lab.Sample) {
	l, rules := big(t)
	e := safety.NewEngine(l, rules, t0)
	var samples []lab.Sample
	for _, id := range l.Properties() {
		v := lab.BoolValue(id.Instrument == "p5" || id.Instrument == "p6")
		if u := l.PropertySpec(id).Type.Unit; l.PropertySpec(id).Type.Kind == lab.Number {
			v = lab.NumberValue(lab.Quantity{Value: 1, Unit: u})
		}
		samples = append(samples, lab.Sample{ID: id, Reading: good(t0, v)})
	}
	if ev := e.Observe(t0, samples); len(ev) > 0 {
		t.Fatal(names(ev))
	}
	e.Tick(t0)
	return e, samples
}

func bigDose() *lab.Command {
	return &lab.Command{ID: "c1", Target: lab.CommandID{Instrument: "p0", Component: "pump", Command: "dose"}, Principal: "planner_1", Run: "run", Lease: 7, NotAfter: t0.Add(time.Hour),
		Args: map[string]lab.Value{"volume": lab.NumberValue(lab.Q(0.1, "mL")), "rate": lab.NumberValue(lab.Q(1, "mL/min"))}}
}

// percentiles reports the 50th and the 99th of single times.
func percentiles(b *testing.B, times []time.Duration) {
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds()), "p99-ns")
}

// BenchmarkDecideBig is one decision, and the end of its reservation, in a lab
// of 100 instruments under 1,000 rules, ten of them about the command.
func BenchmarkDecideBig(b *testing.B) {
	e, _ := filled(b)
	cmd := bigDose()
	if d := e.Decide(at(1), cmd, 1); d.Permit == nil || len(d.Rules) != 10 {
		b.Fatal(d.Refusals, d.Rules)
	}
	e.Done(at(1), cmd.ID, safety.NothingDone, nil)
	times := make([]time.Duration, 0, 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		began := time.Now()
		d := e.Decide(at(1), cmd, 1)
		if len(times) < cap(times) {
			times = append(times, time.Since(began))
		}
		if d.Permit == nil {
			b.Fatal(d.Refusals)
		}
		e.Done(at(1), cmd.ID, safety.NothingDone, nil)
	}
	percentiles(b, times)
}

// BenchmarkReadingBig is one reading through the engine of the same lab.
func BenchmarkReadingBig(b *testing.B) {
	e, samples := filled(b)
	one := make([]lab.Sample, 1)
	times := make([]time.Duration, 0, 1<<20)
	now := t0
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Microsecond)
		i = (i + 1) % len(samples)
		one[0] = samples[i]
		one[0].Reading.Source, one[0].Reading.Received = now, now
		began := time.Now()
		ev := e.Observe(now, one)
		if len(times) < cap(times) {
			times = append(times, time.Since(began))
		}
		if len(ev) > 0 {
			b.Fatal(names(ev))
		}
	}
	percentiles(b, times)
}

// BenchmarkClock is what the two readings of the clock in the benchmarks above
// cost by themselves.
func BenchmarkClock(b *testing.B) {
	times := make([]time.Duration, 0, 1<<20)
	for b.Loop() {
		began := time.Now()
		if len(times) < cap(times) {
			times = append(times, time.Since(began))
		}
	}
	percentiles(b, times)
}
