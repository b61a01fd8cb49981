package expr

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"labgate/lab"
)

func mustCompile(t testing.TB, text string, scope Scope) *Program {
	t.Helper()
	p, err := Compile(lab.Source{Text: text}, scope)
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return p
}

// compileRandom is nil where the expression holds a constant that is not
// finite, like 1 / 0, which the generator can't avoid.
func compileRandom(t testing.TB, text string) *Program {
	p, err := Compile(lab.Source{Text: text}, world)
	if err == nil {
		return p
	}
	for _, i := range err.(lab.Issues) {
		if i.Code != "bad_number" {
			t.Fatalf("%s\n%v", text, err)
		}
	}
	return nil
}

// newNaive parses the text afresh, without checking it.
func newNaive(t testing.TB, text string, moments ...moment) (*naive, *node) {
	t.Helper()
	var issues lab.Issues
	n := parse(&source{lab.Source{Text: text}, &issues})
	if n == nil {
		t.Fatalf("%s\n%v", text, issues)
	}
	return &naive{scope: world, moments: moments, memo: map[naiveKey]nval{}}, n
}

// agreeOn compares the two evaluators at one moment.
func agreeOn(p *Program, st *State, env *Env, want nval) error {
	switch p.Type().Kind {
	case lab.Bool:
		if got := p.Truth(st, env); got != want.truth {
			return fmt.Errorf("compiled %s, naive %s", got, want.truth)
		}
	case lab.Number, lab.Integer:
		s := p.span(st, env)
		if s.known() != want.known || want.known && (s.lo != want.lo || s.hi != want.hi || p.Type().Unit != want.unit) {
			return fmt.Errorf("compiled %v %s, naive %+v %s", s, p.Type().Unit, want, want.unit)
		}
	}
	return nil
}

// around makes ranges that hold the readings: exact, wider or open.
func around(c choice, slots []lab.Reading, now time.Time) []Range {
	ranges := make([]Range, len(slots))
	for i, r := range slots {
		s := bySlot[i]
		if c(8) == 0 {
			continue
		}
		ranges[i] = Exactly(lab.Value{})
		if usableNaive(s, r, now) {
			ranges[i] = widen(c, r.Value)
		}
		if c(4) == 0 {
			ranges[i] = ranges[i].OrUnknown()
		}
	}
	return ranges
}

func widen(c choice, v lab.Value) Range {
	r := Exactly(v)
	switch {
	case c(2) == 0:
	case v.Kind == lab.Bool:
		return EitherWay()
	case v.Kind == lab.Enum:
		return r.Union(OneOf("aborted"))
	case c(3) == 0:
		if i, ok := r.Interval(); ok {
			return Within(i, v.Unit)
		}
	default:
		q := v.Quantity()
		return Between(lab.Quantity{Value: q.Value - float64(c(3)), Unit: q.Unit}, lab.Quantity{Value: q.Value + float64(c(100)), Unit: q.Unit})
	}
	return r
}

// holds reports whether a point evaluation lies within the one over ranges.
func holds(p *Program, st *State, env *Env, ranges []Range) error {
	switch p.Type().Kind {
	case lab.Bool:
		got, set := p.Truth(st, env), p.TruthsOver(ranges)
		if !set.Has(got) {
			return fmt.Errorf("%s at the point, but %03b over %+v", got, set, ranges)
		}
		if pro := p.TruthOver(ranges); pro == Always && got != True || pro == Never && got != False {
			return fmt.Errorf("%s at the point, but %s", got, pro)
		}
	case lab.Number, lab.Integer:
		r, _ := p.RangeOver(ranges)
		s := p.span(st, env)
		switch {
		case !s.known():
			if !r.maybe {
				return fmt.Errorf("unknown at the point, but %+v", r)
			}
		case r.kind != lab.Number || s.lo < r.lo || s.hi > r.hi:
			return fmt.Errorf("%v at the point, but %+v over %+v", s, r, ranges)
		}
	}
	return nil
}

// onePoint is one round of the differential test: a random expression over
// random readings, without windows.
func onePoint(t testing.TB, c choice) {
	text := gen{c: c}.root(1 + c(4))
	p := compileRandom(t, text)
	if p == nil {
		return
	}
	slots := drawSlots(c, epoch0)
	env := &Env{Now: epoch0, Slots: slots}
	e, n := newNaive(t, text, moment{epoch0, slots})
	if err := agreeOn(p, nil, env, e.eval(n, 0)); err != nil {
		t.Fatalf("%s\n%v\n%+v", text, err, p.Used(env))
	}
	if err := holds(p, nil, env, around(c, slots, epoch0)); err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
}

// oneHistory is a random expression with windows over a random history. The
// naive evaluator sees the world on a grid on which all that happens lies.
func oneHistory(t testing.TB, c choice) {
	text := gen{c: c, windows: true}.root(1 + c(3))
	p := compileRandom(t, text)
	if p == nil {
		return
	}
	st := p.NewState()
	slots := drawSlots(c, epoch0)
	e, n := newNaive(t, text)
	now := epoch0
	for step := range 4 + c(10) {
		if step > 0 {
			next := now.Add(time.Duration(1+c(12)) * grid)
			for g := now; g.Before(next); g = g.Add(grid) {
				for d := time.Duration(0); d < 2 && g.After(epoch0); d++ {
					e.moments = append(e.moments, moment{g.Add(d), slots})
				}
			}
			now = next
			slots = append([]lab.Reading(nil), slots...)
			for range 1 + c(12) {
				i := c(worldSlots)
				slots[i] = drawReading(c, bySlot[i], now)
				if c(40) == 0 {
					slots[i].Epoch++
				}
			}
		}
		e.moments = append(e.moments, moment{now, slots})
		env := &Env{Now: now, Slots: slots}
		p.Observe(st, env)
		if err := agreeOn(p, st, env, e.eval(n, len(e.moments)-1)); err != nil {
			t.Fatalf("%s\nstep %d, %s: %v\n%+v", text, step, now.Sub(epoch0), err, p.Used(env))
		}
		if err := holds(p, st, env, around(c, slots, now)); err != nil {
			t.Fatalf("%s\nstep %d: %v", text, step, err)
		}
	}
}

// rounds is how many random expressions a run tries.
func rounds(quick, heavy int) int {
	if os.Getenv("LABGATE_HEAVY") != "" {
		return heavy
	}
	return quick
}

// TestCompiledAgreesWithNaive also checks every point against the evaluation
// over ranges. A failure prints its seed.
func TestCompiledAgreesWithNaive(t *testing.T) {
	seed := uint64(0)
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	for range rounds(50_000, 1_000_000) {
		seed++
		onePoint(t, rand.New(rand.NewPCG(seed, 0)).IntN)
	}
}

func TestCompiledAgreesWithNaiveOverTime(t *testing.T) {
	seed := uint64(0)
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	for range rounds(2_000, 50_000) {
		seed++
		oneHistory(t, rand.New(rand.NewPCG(seed, 1)).IntN)
	}
}

// The same under rapid, for its small counter-examples.
func TestCompiledAgreesWithNaiveRapid(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "c") }
		onePoint(rapidTB{t, rt}, c)
		oneHistory(rapidTB{t, rt}, c)
	})
}

// rapidTB lets helpers that want a testing.TB fail a rapid check.
type rapidTB struct {
	testing.TB
	rt *rapid.T
}

func (r rapidTB) Helper()                   {}
func (r rapidTB) Fatalf(f string, a ...any) { r.rt.Fatalf(f, a...) }

// bytesChoice draws from fuzz bytes, and zeros after their end.
func bytesChoice(data []byte) choice {
	return func(n int) int {
		if len(data) == 0 {
			return 0
		}
		b := int(data[0])
		data = data[1:]
		return b % n
	}
}

func FuzzEvaluators(f *testing.F) {
	f.Add([]byte("0123456789"))
	f.Add([]byte{2, 7, 1, 8, 2, 8, 1, 8, 2, 8, 4, 5, 9, 0, 4, 5})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 600 {
			return
		}
		onePoint(t, bytesChoice(data))
		oneHistory(t, bytesChoice(data))
	})
}

// FuzzCompile: whatever the text, an answer with positions and no panic; and
// what compiles evaluates without panic to a value of its type.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{"ta > 80 degC and not tripped(gr)", "rate(ta, 2 s) > 30 K/s", "voted(2, 5 K, ta, tb, tc) < 95degC",
		"va / flow + 5 s", "state == idle", "((((1", "2 mL/x", "- - -5 degC", "1 < 2 < 3", "é > 5 µL", "held(on, 10 s) or vote(1, on, off)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Compile(lab.Source{Text: text, Pos: lab.Pos{Line: 1, Column: 1}}, world)
		if err != nil {
			for _, i := range err.(lab.Issues) {
				if i.Line < 1 || i.Column < 1 || i.Say == "" || i.Code == "" {
					t.Fatalf("%q: issue without a place: %+v", text, i)
				}
			}
			return
		}
		st := p.NewState()
		env := &Env{Now: epoch0, Slots: drawSlots(rand.New(rand.NewPCG(1, 1)).IntN, epoch0)}
		p.Observe(st, env)
		v := p.Value(st, env)
		if v.Kind != lab.Missing && v.Kind != p.Type().Kind {
			t.Fatalf("%q: a %s of type %s", text, v, p.Type())
		}
		p.TruthsOver(nil)
		p.NumberOver(nil)
	})
}
