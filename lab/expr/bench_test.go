package expr

import (
	"testing"
	"time"

	"github.com/google/cel-go/cel"

	"labgate/lab"
)

// fiveClauses is the size of a real interlock.
const fiveClauses = "t > 20 degC and u < 95 degC and v + 0.1 mL <= 2 mL and on and not tripped(reactor)"

var evaluations = []struct{ name, text string }{
	{"five_clauses", fiveClauses},
	{"vote", "voted(2, 5 K, t, u, w) > 95 degC"},
	{"windows", "rate(t, 2 s) > 30 K/s or mean(u, 10 s) > 95 degC or held(t > 90 degC, 1 s)"},
	{"state", "state == idle or state == execute"},
}

// filled makes a program with a state that has seen 300 readings.
func filled(tb testing.TB, text string) (*Program, *State, *Env) {
	p := mustCompile(tb, text, small)
	st, env := p.NewState(), &Env{Slots: healthy()}
	for i := range 300 {
		tick(env, i)
		p.Observe(st, env)
	}
	return p, st, env
}

func tick(env *Env, i int) {
	env.Now = t0.Add(time.Duration(i) * 20 * time.Millisecond)
	for j := range env.Slots {
		env.Slots[j].Received = env.Now
	}
	env.Slots[0].Value.Num = 80 + float64(i%7)
}

// TestNoAllocations: neither evaluating nor observing allocates.
func TestNoAllocations(t *testing.T) {
	for _, c := range evaluations {
		p, st, env := filled(t, c.text)
		i := 300
		if n := testing.AllocsPerRun(200, func() {
			tick(env, i)
			i++
			p.Observe(st, env)
			p.Truth(st, env)
			p.Next(st, env.Now)
		}); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
	for _, text := range []string{"v / flow", "state", "voted(2, 60 K, t, u)", "on", "quality(t)", "made"} {
		p, st, env := filled(t, text)
		if n := testing.AllocsPerRun(200, func() {
			p.Number(st, env)
			p.Value(st, env)
		}); n != 0 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
}

func BenchmarkTruth(b *testing.B) {
	for _, c := range evaluations {
		b.Run(c.name, func(b *testing.B) {
			p, st, env := filled(b, c.text)
			b.ReportAllocs()
			for b.Loop() {
				p.Truth(st, env)
			}
		})
	}
}

// celClauses is fiveClauses as CEL writes it. CEL has no units, no ages, no
// qualities and no unknown: its numbers are plain, and whoever calls it has to
// have checked all the rest before.
const celClauses = "t > 20.0 && u < 95.0 && v + 0.1 <= 2.0 && on && !tripped"

// BenchmarkRule is one rule three times: compiled, by the plain evaluator that
// the compiled one is tested against, and by cel-go.
func BenchmarkRule(b *testing.B) {
	b.Run("compiled", func(b *testing.B) {
		p, st, env := filled(b, fiveClauses)
		b.ReportAllocs()
		for b.Loop() {
			if p.Truth(st, env) != True {
				b.Fatal("it is not true")
			}
		}
	})
	b.Run("naive", func(b *testing.B) {
		var issues lab.Issues
		n := parse(&source{lab.Source{Text: fiveClauses}, &issues})
		env := &Env{Now: t0, Slots: healthy()}
		b.ReportAllocs()
		for b.Loop() {
			e := &naive{scope: small, moments: []moment{{env.Now, env.Slots}}, memo: map[naiveKey]nval{}}
			e.eval(n, 0)
		}
	})
	b.Run("cel-go", benchCEL)
}

// benchCEL compiles once; the variables come from a map, as cel-go's own
// examples do it.
func benchCEL(b *testing.B) {
	env, err := cel.NewEnv(cel.Variable("t", cel.DoubleType), cel.Variable("u", cel.DoubleType), cel.Variable("v", cel.DoubleType),
		cel.Variable("on", cel.BoolType), cel.Variable("tripped", cel.BoolType))
	if err != nil {
		b.Fatal(err)
	}
	ast, issues := env.Compile(celClauses)
	if issues.Err() != nil {
		b.Fatal(issues.Err())
	}
	p, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		b.Fatal(err)
	}
	slots := healthy()
	vars := map[string]any{}
	b.ReportAllocs()
	for b.Loop() {
		vars["t"], vars["u"], vars["v"] = slots[0].Value.Num, slots[1].Value.Num, slots[2].Value.Num
		vars["on"], vars["tripped"] = slots[3].Value.Bool, slots[12].Value.Bool
		if out, _, err := p.Eval(vars); err != nil || out.Value() != true {
			b.Fatal(out, err)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	for _, c := range evaluations[2:3] {
		b.Run(c.name, func(b *testing.B) {
			p, st, env := filled(b, c.text)
			b.ReportAllocs()
			i := 300
			for b.Loop() {
				tick(env, i)
				i++
				p.Observe(st, env)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		mustCompile(b, fiveClauses, small)
	}
}

func BenchmarkTruthOver(b *testing.B) {
	p := mustCompile(b, fiveClauses, small)
	slots := make([]Range, len(small))
	for i := range slots {
		slots[i] = EitherWay()
	}
	slots[0], slots[1], slots[2] = between(20, 80, "degC"), between(20, 80, "degC"), between(0, 1, "mL")
	b.ReportAllocs()
	for b.Loop() {
		p.TruthOver(slots)
	}
}
