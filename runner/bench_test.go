package runner_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"labgate/runner"
)

// BenchmarkVerdict is a proposal from its bytes to its verdict, all checks and
// the proof included: nine of eleven are good, one is out of bounds, one beyond
// a rule, for which an input that passes is looked for. The bus and the journal
// are not in it.
func BenchmarkVerdict(b *testing.B) {
	o := newOffice(b)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		if i%16 == 0 {
			o.core = runner.New(o.opts) // or the queue would be full
		}
		inputs := fmt.Sprintf(`"temperature":{"value":%d,"unit":"degC"},"ratio":{"value":1.2,"unit":"1"}`, 40+i%50)
		name := "gold-nanoparticles@1.2.0"
		switch i % 11 {
		case 9:
			inputs = `"temperature":{"value":200,"unit":"degC"}`
		case 10:
			name, inputs = "asks@1.0.0", `"volume":{"value":0.7,"unit":"mL"}`
		}
		data := []byte(proposal(fmt.Sprint("k", i), name, inputs))
		began := time.Now()
		o.core.Step(o.now, runner.Proposed{Principal: "planner_1", Data: data})
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	at := func(q float64) float64 {
		return float64(took[min(int(q*float64(len(took))), len(took)-1)].Microseconds())
	}
	b.ReportMetric(at(0.5), "p50-us")
	b.ReportMetric(at(0.99), "p99-us")
}
