package expr

import (
	"math"
	"testing"

	"labgate/lab"
)

func between(lo, hi float64, unit string) Range { return Between(lab.Q(lo, unit), lab.Q(hi, unit)) }

func TestTruthOver(t *testing.T) {
	hot := between(60, 80, "degC")
	for _, c := range []struct {
		text string
		over map[string]Range
		want Prospect
	}{
		{"t > 95 degC", map[string]Range{"t": hot}, Never},
		{"t <= 80 degC", map[string]Range{"t": hot}, Always},
		{"t < 80 degC", map[string]Range{"t": hot}, Maybe},
		{"t > 95 degC", map[string]Range{"t": hot.OrUnknown()}, Maybe}, // never true, but may be unknown
		{"t > 95 degC", nil, Maybe},
		{"t > 200 degF", map[string]Range{"t": hot}, Never},
		{"t - u > 10 K", map[string]Range{"t": hot, "u": between(0, 40, "degC")}, Always},
		{"t > 95 degC and on", map[string]Range{"t": hot}, Never},
		{"t < 95 degC or on", map[string]Range{"t": hot}, Always},
		{"on or not on", map[string]Range{"on": EitherWay()}, Maybe}, // ranges know nothing of each other
		{"on", map[string]Range{"on": Exactly(lab.BoolValue(true))}, Always},
		{"state == idle", map[string]Range{"state": OneOf("idle")}, Always},
		{"state == idle", map[string]Range{"state": OneOf("idle", "execute")}, Maybe},
		{"state != idle", map[string]Range{"state": OneOf("execute", "t")}, Always},
		{"state != idle", map[string]Range{"state": OneOf("execute", "gone")}, Maybe},
		{"state != idle", map[string]Range{"state": Exactly(lab.IntegerValue(1))}, Maybe}, // wrong type: unknown
		{"v / flow < 1 min", map[string]Range{"v": between(0, 1, "mL"), "flow": between(2, 6, "mL/min")}, Always},
		{"v / flow < 1 min", map[string]Range{"v": between(0, 1, "mL"), "flow": between(0, 6, "mL/min")}, Maybe},
		{"v * v >= 0 m6", map[string]Range{"v": between(-1, 1, "mL")}, Maybe},
		{"abs(v) >= 0 mL", map[string]Range{"v": between(-1, 1, "mL")}, Always},
		{"rate(t, 2 s) < 1e9 K/s", map[string]Range{"t": hot.Throughout()}, Maybe},
		{"mean(t, 2 s) < 1e9 degC", map[string]Range{"t": hot.Throughout()}, Maybe}, // the window may not be full
		{"held(t > 95 degC, 2 s)", map[string]Range{"t": hot}, Never},
		{"held(t < 95 degC, 2 s)", map[string]Range{"t": hot}, Maybe},
		{"vote(2, t < 95 degC, on, t > 20 degC)", map[string]Range{"t": hot}, Always},
		{"vote(2, t > 95 degC, on, t < 20 degC)", map[string]Range{"t": hot}, Never},
		{"voted(2, 5 K, t, u, w) > 95 degC", map[string]Range{"t": hot, "u": hot, "w": hot}, Maybe}, // they may disagree
		{"voted(2, 20 K, t, u, w) > 95 degC", map[string]Range{"t": hot, "u": hot, "w": hot}, Never},
		{"voted(2, 20 K, t, u, w) > 95 degC", map[string]Range{"t": hot, "u": hot, "w": hot.OrUnknown()}, Never},
		{"voted(2, 20 K, t, u, w) > 95 degC", map[string]Range{"t": hot, "u": hot.OrUnknown(), "w": hot.OrUnknown()}, Maybe},
		{"age(t) >= 0 s", map[string]Range{"t": hot}, Maybe},
		{"quality(t) == good", map[string]Range{"t": hot}, Maybe},
	} {
		slots := make([]Range, len(small))
		for name, r := range c.over {
			slots[small[name].Slot] = r
		}
		p := mustCompile(t, c.text, small)
		if got := p.TruthOver(slots); got != c.want {
			t.Errorf("%s: %s (%03b); want %s", c.text, got, p.TruthsOver(slots), c.want)
		}
	}
}

// TestTruthsOverVote: where candidates may fall on both sides the answer may
// be unknown though every reading is known.
func TestTruthsOverVote(t *testing.T) {
	slots := []Range{between(79, 81, "degC"), between(79, 81, "degC")}
	p := mustCompile(t, "voted(2, 5 K, t, u) > 80 degC", small)
	if got := p.TruthsOver(slots); got != anyTruth {
		t.Errorf("%03b", got)
	}
	if r, ok := mustCompile(t, "voted(2, 5 K, t, u)", small).NumberOver(slots); !ok || !r.Maybe {
		t.Errorf("%+v, %v: candidates that differ are no number", r, ok)
	}
}

func TestNumberOver(t *testing.T) {
	slots := make([]Range, len(small))
	slots[2], slots[10] = between(1, 2, "mL"), between(2, 4, "mL/min")
	i, ok := mustCompile(t, "v / flow", small).NumberOver(slots)
	if !ok || i.Maybe || math.Abs(i.Lo-15) > 1e-9 || math.Abs(i.Hi-60) > 1e-9 {
		t.Errorf("%+v, %v; want 15 s to 60 s", i, ok)
	}
	if i, ok := mustCompile(t, "v / flow", small).NumberOver(nil); !ok || !i.Maybe || i.Hi < 1e300 {
		t.Errorf("over anything: %+v, %v", i, ok)
	}
	slots[10] = Exactly(quantity(0, "mL/min"))
	if i, ok := mustCompile(t, "v / flow", small).NumberOver(slots); ok {
		t.Errorf("divided by zero: %+v", i)
	}
	if i, ok := mustCompile(t, "on", small).NumberOver(slots); ok {
		t.Errorf("a condition: %+v", i)
	}
	if i, ok := mustCompile(t, "mean(v, 10 s)", small).NumberOver(slots); !ok || i.Hi < 1e300 {
		t.Errorf("mean of a range of now: %+v, %v", i, ok)
	}
	slots[2] = slots[2].Throughout()
	if i, ok := mustCompile(t, "mean(v, 10 s)", small).NumberOver(slots); !ok || !i.Maybe || math.Abs(i.Hi-2e-6) > 1e-15 {
		t.Errorf("mean of a range throughout: %+v, %v", i, ok)
	}
}

// TestRangeOver: the result of one program stands in for a reading of the
// next, without rounding.
func TestRangeOver(t *testing.T) {
	slots := make([]Range, len(small))
	slots[2] = between(0.1, 0.3, "mL")
	sum, ok := mustCompile(t, "v + 0.1 mL", small).RangeOver(slots)
	if !ok {
		t.Fatal("no range")
	}
	slots[2] = sum
	if got := mustCompile(t, "v <= 0.4 mL and v >= 0.2 mL", small).TruthOver(slots); got != Always {
		t.Errorf("0.2 to 0.4 mL: %s, %+v", got, sum)
	}
	if r, ok := mustCompile(t, "note", small).RangeOver(slots); ok {
		t.Errorf("text: %+v", r)
	}
	slots[4] = OneOf("idle", "execute")
	if r, ok := mustCompile(t, "state", small).RangeOver(slots); !ok || len(r.words) != 2 {
		t.Errorf("state: %+v", r)
	}
}

// TestRangesThatTellNothing: nonsense is anything, never nothing.
func TestRangesThatTellNothing(t *testing.T) {
	for name, r := range map[string]Range{
		"order":     between(2, 1, "mL"),
		"dimension": Between(lab.Q(1, "mL"), lab.Q(2, "s")),
		"NaN":       between(math.NaN(), 1, "mL"),
		"infinite":  between(0, math.Inf(1), "mL"),
		"union":     between(0, 1, "mL").Union(EitherWay()),
		"union of":  between(0, 1, "mL").Union(between(0, 1, "s")),
		"within":    Within(Interval{Lo: 2, Hi: 1}, lab.Q(0, "mL").Unit),
		"text":      Exactly(lab.TextValue("x")),
	} {
		if got := mustCompile(t, "v > 1 mL", small).TruthsOver([]Range{2: r}); got != anyTruth {
			t.Errorf("%s: %03b", name, got)
		}
	}
	// A value that is none is sure to be unknown.
	for _, v := range []lab.Value{{}, quantity(math.NaN(), "mL")} {
		if got := mustCompile(t, "v > 1 mL", small).TruthsOver([]Range{2: Exactly(v)}); got != setOf(Unknown) {
			t.Errorf("%s: %03b", v, got)
		}
	}
}

func TestUnion(t *testing.T) {
	u := between(1, 2, "mL").Union(between(3000, 4000, "uL").OrUnknown())
	if i, ok := u.Interval(); !ok || !i.Maybe || math.Abs(i.Lo-1e-6) > 1e-15 || math.Abs(i.Hi-4e-6) > 1e-15 {
		t.Errorf("%+v", i)
	}
	if u := OneOf("a").Union(OneOf("b", "a")); len(u.words) != 2 {
		t.Errorf("%+v", u)
	}
	if u := Exactly(lab.BoolValue(true)).Union(Exactly(lab.BoolValue(false))); u.truths != setOf(True, False) {
		t.Errorf("%+v", u)
	}
}
