package runner_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
	"labgate/protocols"
	"labgate/runner"
)

// fixed is an id source that costs nothing: the Machine is measured, not ids.
type fixed struct{}

func (fixed) New(time.Time) string { return "01K0000000000000000000000" }

// planOf binds a protocol of the demo lab.
func planOf(t testing.TB, text string) *protocols.Plan {
	t.Helper()
	c := demo(t)
	p, is := protocols.Parse("bench.yaml", []byte(text), c.Classes)
	if len(is) > 0 {
		t.Fatal(is)
	}
	inputs, is := p.CheckInputs(nil)
	if len(is) > 0 {
		t.Fatal(is)
	}
	plan, is := protocols.Bind(p, c.Lab, inputs)
	if len(is) > 0 {
		t.Fatal(is)
	}
	return plan
}

// nullSteps is n times a body of ten null steps. A null step asks nothing of
// anybody and takes no time, as a null message of Bluesky's RunEngine does: it
// is begun, decided (an expression over the iteration and an input), its policy
// is asked, and it is over. The repeat's own bookkeeping is not counted.
func nullSteps(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "protocol: nothing\nversion: 1.0.0\ninputs: {most: {type: integer, min: 1, max: 100000, default: 100000}}\nroles: {pump: {is: pump/v1}}\nsteps:\n  - id: again\n    repeat: {max: %d}\n    steps:\n", n)
	for i := range 10 {
		fmt.Fprintf(&b, "      - {id: null_%d, if: i > most, then: [{do: pump.stop}]}\n", i)
	}
	return b.String()
}

// nullFloor is how many null steps a second the Machine does at least. RunEngine
// does about 110,000 null messages a second on such a machine.
const nullFloor = 1_000_000

const rounds = 1000

// BenchmarkNullSteps: steps a second that the Machine goes through, run begun and
// ended; beside it BenchmarkNullConditions, what their conditions alone cost.
func BenchmarkNullSteps(b *testing.B) {
	plan := planOf(b, nullSteps(rounds))
	b.ReportAllocs()
	for b.Loop() {
		if over(runner.NewMachine("run", plan, fixed{}, runner.Bounds{}).Step(t0, runner.Begin{})) == nil {
			b.Fatal("it did not end")
		}
	}
	b.ReportMetric(float64(b.N)*rounds*10/b.Elapsed().Seconds(), "steps/s")
}

// BenchmarkNullConditions is the floor under BenchmarkNullSteps: the same
// conditions over the same values, without a Machine.
func BenchmarkNullConditions(b *testing.B) {
	plan := planOf(b, nullSteps(rounds))
	again := plan.Protocol.Step("again")
	for b.Loop() {
		v := plan.NewValues()
		for i := range rounds {
			v.BeginIteration(t0, again, i+1)
			for _, s := range again.Steps {
				if v.Until(t0, s) != expr.False {
					b.Fatal("a null step does something")
				}
			}
		}
	}
	b.ReportMetric(float64(b.N)*rounds*10/b.Elapsed().Seconds(), "steps/s")
}

// The Machine keeps its floor, where there is time to measure it.
func TestNullStepsFloor(t *testing.T) {
	if os.Getenv("LABGATE_HEAVY") == "" {
		t.Skip("LABGATE_HEAVY=1 measures it")
	}
	r := testing.Benchmark(BenchmarkNullSteps)
	if r.Extra["steps/s"] < nullFloor {
		t.Errorf("%.0f null steps a second; at least %d are promised", r.Extra["steps/s"], nullFloor)
	}
}

// BenchmarkCommandSteps: steps whose command ends at once, each with its
// arguments worked out, its id, its action and its outcome.
func BenchmarkCommandSteps(b *testing.B) {
	plan := planOf(b, fmt.Sprintf("protocol: p\nversion: 1.0.0\ninputs: {v: {unit: mL, min: 0.01, max: 0.4, default: 0.1}}\nroles: {pump: {is: pump/v1}}\nsteps:\n  - id: again\n    repeat: {max: %d}\n    steps:\n      - {id: feed, do: pump.dose, with: {volume: = v * 1, rate: 6 mL/min}, gives: {delivered: delivered}}\n", rounds))
	done := lab.Outcome{Command: fixed{}.New(t0), State: lab.Confirmed, Values: map[string]lab.Value{"delivered": lab.NumberValue(lab.Q(0.1, "mL"))}}
	b.ReportAllocs()
	for b.Loop() {
		m := runner.NewMachine("run", plan, fixed{}, runner.Bounds{})
		m.Step(t0, runner.Begin{})
		for range rounds - 1 {
			m.Step(t0, runner.CommandEnded{Outcome: done})
		}
		if over(m.Step(t0, runner.CommandEnded{Outcome: done})) == nil {
			b.Fatal("it did not end")
		}
	}
	b.ReportMetric(float64(b.N)*rounds/b.Elapsed().Seconds(), "steps/s")
}

func over(actions []runner.MachineAction) *runner.Ended {
	for _, a := range actions {
		if e, ok := a.(runner.Ended); ok {
			return &e
		}
	}
	return nil
}
