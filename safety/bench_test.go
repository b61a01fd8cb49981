package safety_test

import (
	"testing"
	"time"

	"labgate/lab"
	"labgate/safety"
)

// benchDesk is the demo lab under its own rules, with every reading good.
func benchDesk(b *testing.B) (*safety.Engine, []lab.Sample) {
	c := demo(b)
	e := safety.NewEngine(c.Lab, c.Rules, t0)
	var samples []lab.Sample
	for _, s := range signals {
		id, _, err := c.Lab.ResolveProperty(s.path)
		if err != nil {
			b.Fatal(err)
		}
		v := lab.BoolValue(false)
		switch {
		case s.unit == "degC":
			v = lab.NumberValue(lab.Q(60, "degC"))
		case s.unit != "":
			v = lab.NumberValue(lab.Q(s.values[2], s.unit))
		}
		samples = append(samples, lab.Sample{ID: id, Reading: good(t0, v)})
	}
	for ms := 0; ms <= 1500; ms += 100 {
		e.Observe(at(ms), fresh(samples, at(ms)))
	}
	return e, samples
}

func fresh(samples []lab.Sample, now time.Time) []lab.Sample {
	for i := range samples {
		samples[i].Reading.Source, samples[i].Reading.Received = now, now
	}
	return samples
}

// BenchmarkObserve is one batch of seven readings through every trip of the
// demo lab, with a dose under way.
func BenchmarkObserve(b *testing.B) {
	e, samples := benchDesk(b)
	cmd := doseOf(0.1)
	if d := e.Decide(at(1500), cmd, 1); d.Permit == nil {
		b.Fatal(d.Refusals)
	}
	now := at(1500)
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(10 * time.Millisecond)
		if evs := e.Observe(now, fresh(samples, now)); len(evs) > 0 {
			b.Fatal(names(evs))
		}
	}
}

// BenchmarkDecide is one decision about a dose, and its end.
func BenchmarkDecide(b *testing.B) {
	e, _ := benchDesk(b)
	cmd := doseOf(0.1)
	b.ReportAllocs()
	for b.Loop() {
		if d := e.Decide(at(1500), cmd, 1); d.Permit == nil {
			b.Fatal(d.Refusals)
		}
		e.Done(t0, cmd.ID, safety.AllDone, nil)
	}
}

// BenchmarkTick is what an idle lab costs.
func BenchmarkTick(b *testing.B) {
	e, _ := benchDesk(b)
	b.ReportAllocs()
	for b.Loop() {
		e.Tick(at(1500))
	}
}
