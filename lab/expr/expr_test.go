package expr

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"labgate/lab"
)

var t0 = epoch0

func good(v lab.Value, at time.Time) lab.Reading {
	return lab.Reading{Value: v, Quality: lab.Good, Received: at}
}

func quantity(v float64, unit string) lab.Value { return lab.NumberValue(lab.Q(v, unit)) }

// small is a scope for tables: a reading, a second one, an argument, a state.
var small = MapScope{
	"t":        {0, numberType("degC"), time.Second},
	"u":        {1, numberType("degC"), time.Second},
	"v":        {2, numberType("mL"), 0},
	"on":       {3, boolType, time.Second},
	"state":    {4, lab.Type{Kind: lab.Enum, Enum: []string{"idle", "execute", "t"}}, time.Second},
	"made":     {5, lab.Type{Kind: lab.Integer}, 0},
	"ratio":    {6, numberType("1"), 0},
	"pc":       {7, numberType("%"), 0},
	"note":     {8, lab.Type{Kind: lab.Text}, 0},
	"w":        {9, numberType("degC"), time.Second},
	"flow":     {10, numberType("mL/min"), 0},
	"pump.min": {11, numberType("mL"), 0},

	"tripped(reactor)": {12, boolType, 0},
}

func healthy() []lab.Reading {
	return []lab.Reading{
		good(quantity(80, "degC"), t0), good(quantity(20.5, "degC"), t0), Given(quantity(0.3, "mL")), good(lab.BoolValue(true), t0),
		good(lab.EnumValue("idle"), t0), Given(lab.IntegerValue(7)), Given(quantity(0.5, "1")), Given(quantity(50, "%")),
		Given(lab.TextValue("hello")), good(quantity(82, "degC"), t0), Given(quantity(6, "mL/min")), Given(quantity(1, "mL")),
		Given(lab.BoolValue(false)),
	}
}

// TestTruth is the language by example.
func TestTruth(t *testing.T) {
	for _, c := range []struct {
		text string
		want Truth
	}{
		{"t > 79.9 degC", True}, {"t > 80 degC", False}, {"t >= 80 degC", True}, {"t<80degC", False}, {"t <= 80 °C", True},
		{"t == 176 degF", True}, {"t != 176 degF", False}, {"-5 degC < t", True}, {"t - u == 59.5 K", True}, {"t + 5 K > 84 degC", True},
		{"abs(u - t) < 60 K", True}, {"min(t, u) == u", True}, {"max(t, u, w) == 82 degC", True},
		{"(t - 0 degC) * 2 == 160 K", True}, {"-(t - u) < 0 K", True},
		{"v == 300 uL", True}, {"v + 0.7 mL == 1 mL", True}, {"0.1 mL + 0.2 mL <= 0.3 mL", False}, // decimal fractions stay binary
		{"2 * v / v == 2", True}, {"v / 2 == 0.15 mL", True}, {"1.2 * v / flow + 5 s == 8.6 s", True},
		{"ratio == pc", True}, {"pc == 0.5", True}, {"pc + 50 % == 1", True}, {"1 - pc == 0.5", True}, {"v * pc == 0.15 mL", True},
		{"made > 6", True}, {"made - 3 == 4", True}, {"made / 2 == 3.5", True}, {"2 h > 100 min", True}, {"20.5 % < 0.21", True},
		{"pump.min == 1 mL", True}, {"2 min > 1 s", True}, {"5 1/min < 1 Hz", True}, {"1e-3 L == 1 mL", True}, {"2E0 > 1", True},
		{"on", True}, {"not on", False}, {"on == true", True}, {"on != (1 > 2)", True}, {"not on == false", True},
		{"state == idle", True}, {"idle == state", True}, {"state != execute", True}, {"state == t", False},
		{"quality(t) == good", True}, {"quality(t) != good", False}, {"age(t) < 1 s", True}, {"age(t) == 0 s", True},
		{"tripped(reactor)", False}, {"on and not tripped(reactor) and t > 5 degC", True}, {"not on and t > 5 degC or on", True},
		{"vote(2, on, t > 90 degC, u < 90 degC)", True}, {"vote(3, on, t > 90 degC, u < 90 degC)", False},
		{"voted(2, 5 K, t, u, w) > 79 degC", True}, {"voted(2, 5 K, t, u, w) > 81 degC", Unknown}, {"voted(2, 5 K, t, u, w) < 79 degC", False},
		{"voted(2, 1 K, t, u, w) > 0 degC", Unknown}, {"voted(3, 5 K, t, u, w) > 0 degC", Unknown}, {"voted(3, 70 K, t, u, w) > 20 degC", True},
		{"abs(voted(2, 5 K, t, u, w) - 81 degC) <= 1 K", True}, {"abs(voted(2, 5 K, t, u, w) - 81 degC) < 1 K", Unknown},
		{"voted(2, 5 K, t, u, w) == 81 degC", Unknown}, {"voted(2, 5 K, t, u, w) != 83 degC", True},
		{"1 > 0 / v * 1 mL", True}, {"v / (v - v) > 1", Unknown}, {"made * 1e300 * made * 1e300 > 1", Unknown},
	} {
		p := mustCompile(t, c.text, small)
		st, env := p.NewState(), &Env{Now: t0, Slots: healthy()}
		p.Observe(st, env)
		if got := p.Truth(st, env); got != c.want {
			t.Errorf("%s: %s; want %s", c.text, got, c.want)
		}
	}
}

// TestUnknown: each way in which a reading can be no good makes every use of
// it unknown, under negation too. The traps of other engines are here.
func TestUnknown(t *testing.T) {
	reading := func(change func(*lab.Reading)) lab.Reading {
		r := healthy()[0]
		change(&r)
		return r
	}
	bad := map[string]lab.Reading{
		"zero":            {},
		"missing":         reading(func(r *lab.Reading) { r.Value = lab.Value{} }),
		"stale":           reading(func(r *lab.Reading) { r.Received = t0.Add(-time.Second - 1) }),
		"source stale":    reading(func(r *lab.Reading) { r.Source = t0.Add(-time.Second - 1) }),
		"no time":         reading(func(r *lab.Reading) { r.Received = time.Time{} }),
		"from the future": reading(func(r *lab.Reading) { r.Received = t0.Add(time.Second + 1) }),
		"bad":             reading(func(r *lab.Reading) { r.Quality = lab.Bad }),
		"uncertain":       reading(func(r *lab.Reading) { r.Quality = lab.Uncertain }),
		"NaN":             reading(func(r *lab.Reading) { r.Value = quantity(math.NaN(), "degC") }),
		"infinite":        reading(func(r *lab.Reading) { r.Value = quantity(math.Inf(1), "degC") }),
		"minus infinite":  reading(func(r *lab.Reading) { r.Value = quantity(math.Inf(-1), "degC") }),
		"text":            reading(func(r *lab.Reading) { r.Value = lab.TextValue("hot") }),
		"bool":            reading(func(r *lab.Reading) { r.Value = lab.BoolValue(true) }),
		"table":           reading(func(r *lab.Reading) { r.Value = lab.TableValue(&lab.TableData{}) }),
		"no unit":         reading(func(r *lab.Reading) { r.Value = lab.IntegerValue(80) }),
		"difference":      reading(func(r *lab.Reading) { r.Value = quantity(80, "K") }),
		"wrong dimension": reading(func(r *lab.Reading) { r.Value = quantity(80, "mL") }),
		"infinite degF":   reading(func(r *lab.Reading) { r.Value = quantity(math.Inf(1), "degF") }),
	}
	texts := map[string]Truth{
		"t > 450 degC": Unknown, "not (t > 450 degC)": Unknown, "t < 450 degC": Unknown, "t == t": Unknown, "t != 1 degC": Unknown,
		"not (t != t)": Unknown, "t > 450 degC or t <= 450 degC": Unknown, "min(t, u) < 450 degC": Unknown, "max(t, u) > 0 degC": Unknown,
		"abs(t - u) >= 0 K": Unknown, "(t - u) * 0 == 0 K": Unknown,
		"t > 450 degC and false": False, "t > 450 degC or true": True, "false and t > 450 degC": False, "true or t > 450 degC": True,
		"t > 450 degC and true": Unknown, "t > 450 degC or false": Unknown, "(t > 450 degC) == (t > 450 degC)": Unknown,
		"vote(1, t > 0 degC, on)": True, "vote(2, t > 0 degC, on)": Unknown, "vote(2, t > 0 degC, not on)": False,
		"voted(2, 5 K, t, w) > 0 degC": Unknown, "voted(2, 100 K, t, u, w) > 20 degC": True,
	}
	for name, r := range bad {
		for text, want := range texts {
			p := mustCompile(t, text, small)
			slots := healthy()
			slots[0] = r
			if got := p.Truth(nil, &Env{Now: t0, Slots: slots}); got != want {
				t.Errorf("%s, %s: %s; want %s", name, text, got, want)
			}
		}
		for _, text := range []string{"t", "t - u", "rate(t, 2 s)", "voted(2, 5 K, t, w)"} {
			p := mustCompile(t, text, small)
			slots := healthy()
			slots[0] = r
			st, env := p.NewState(), &Env{Now: t0, Slots: slots}
			p.Observe(st, env)
			if v, ok := p.Number(st, env); ok || v != 0 {
				t.Errorf("%s, %s: %v", name, text, v)
			}
			if v := p.Value(st, env); v.Kind != lab.Missing {
				t.Errorf("%s, %s: %s", name, text, v)
			}
		}
	}
}

// TestUnknownOfOtherTypes: wrong kinds in bool, enumeration and integer slots.
func TestUnknownOfOtherTypes(t *testing.T) {
	for _, c := range []struct {
		text  string
		slot  int
		value lab.Value
	}{
		{"on", 3, lab.IntegerValue(1)}, {"not on", 3, lab.TextValue("true")}, {"on == on", 3, lab.Value{}},
		{"state == idle", 4, lab.TextValue("idle")}, {"state != idle", 4, lab.EnumValue("gone")}, {"state != idle", 4, lab.EnumValue("")},
		{"made == 7", 5, quantity(7, "1")}, {"made > 0", 5, lab.Value{Kind: lab.Integer, Num: 7.5}}, {"made > 0", 5, lab.BoolValue(true)},
	} {
		p := mustCompile(t, c.text, small)
		slots := healthy()
		slots[c.slot] = good(c.value, t0)
		if got := p.Truth(nil, &Env{Now: t0, Slots: slots}); got != Unknown {
			t.Errorf("%s with %v: %s", c.text, c.value, got)
		}
	}
	// A plain number where a dimensionless quantity is wanted is the same thing.
	p := mustCompile(t, "ratio == 3 and pc == 3", small)
	slots := healthy()
	slots[6], slots[7] = Given(lab.IntegerValue(3)), Given(lab.IntegerValue(3))
	if got := p.Truth(nil, &Env{Now: t0, Slots: slots}); got != True {
		t.Errorf("whole numbers as quantities: %s", got)
	}
}

// TestNothingToReadIsUnknown: no environment, no slots, a condition asked for
// a number and the other way round.
func TestNothingToReadIsUnknown(t *testing.T) {
	cond, num, word := mustCompile(t, "t > 5 degC", small), mustCompile(t, "t - u", small), mustCompile(t, "state", small)
	for _, env := range []*Env{nil, {}, {Now: t0, Slots: healthy()[:0]}} {
		if got := cond.Truth(nil, env); got != Unknown {
			t.Errorf("truth %s of %v", got, env)
		}
		for _, p := range []*Program{cond, num, word} {
			if v := p.Value(nil, env); v.Kind != lab.Missing {
				t.Errorf("value %s of %v", v, env)
			}
			p.Observe(nil, env)
		}
		if _, _, ok := num.Candidates(nil, env); ok {
			t.Errorf("candidates of %v", env)
		}
	}
	env := &Env{Now: t0, Slots: healthy()}
	if _, ok := cond.Number(nil, env); ok {
		t.Error("a condition is no number")
	}
	if got := num.Truth(nil, env); got != Unknown {
		t.Errorf("a number is %s", got)
	}
}

// TestTripleLogic is Kleene's tables.
func TestTripleLogic(t *testing.T) {
	all := []Truth{False, Unknown, True} // in order: and is the lesser, or the greater
	for i, a := range all {
		for j, b := range all {
			if and(a, b) != all[min(i, j)] || or(a, b) != all[max(i, j)] {
				t.Errorf("%s, %s: and %s, or %s", a, b, and(a, b), or(a, b))
			}
		}
		if a.Not() != all[2-i] {
			t.Errorf("not %s is %s", a, a.Not())
		}
	}
	var zero Truth
	if zero != Unknown || Prospect(0) != Maybe || Truth(9).String() != "unknown" {
		t.Error("the zero truth has to be unknown")
	}
}

// TestValue: results keep the units and decimal fractions that people wrote;
// what a device is sent depends on it.
func TestValue(t *testing.T) {
	for _, c := range []struct{ text, want, typ string }{
		{"t", "80 degC", "temperature (degC)"}, {"v", "0.3 mL", "volume (mL)"}, {"v * ratio", "0.15 mL", "volume (mL)"},
		{"ratio * v", "0.15 mL", "volume (mL)"}, {"v / 3", "0.1 mL", "volume (mL)"}, {"v + 0.4 mL", "0.7 mL", "volume (mL)"},
		{"0.1 mL + v", "0.4 mL", "volume (mL)"}, {"t + 0.1 K", "80.1 degC", "temperature (degC)"}, {"t - u", "59.5 K", "temperature difference (K)"},
		{"v / flow", "3 s", "time (s)"}, {"made * 2", "14", "integer"}, {"made - 7", "0", "integer"}, {"made / 2", "3.5", "dimensionless (1)"},
		{"72 degC", "72 degC", "temperature (degC)"}, {"-5 degC", "-5 degC", "temperature (degC)"}, {"2s", "2 s", "time (s)"}, {"5", "5", "integer"},
		{"pc", "50 %", "dimensionless (%)"}, {"state", "idle", "one of idle, execute, t"}, {"note", `"hello"`, "text"}, {"on", "true", "bool"},
		{"not on", "false", "bool"}, {"quality(t)", "good", "one of bad, uncertain, good"}, {"min(t, u)", "20.5 degC", "temperature (degC)"},
		{"voted(2, 5 K, t, u, w)", "missing", "temperature (degC)"}, {"voted(2, 60 K, t, u)", "missing", "temperature (degC)"},
		{"made * 1e16", "7e+16", "dimensionless (1)"}, {"made * 9007199254740992", "missing", "integer"},
	} {
		p := mustCompile(t, c.text, small)
		v := p.Value(nil, &Env{Now: t0, Slots: healthy()})
		if v.String() != c.want || p.Type().String() != c.typ {
			t.Errorf("%s: %s, a %s; want %s, a %s", c.text, v, p.Type(), c.want, c.typ)
		}
		if v.Kind != lab.Missing {
			if _, err := p.Type().Conform(v); err != nil {
				t.Errorf("%s: %v", c.text, err)
			}
		}
	}
}

// TestNumberIsSI and Candidates shows what a vote has to choose from.
func TestNumberIsSI(t *testing.T) {
	env := &Env{Now: t0, Slots: healthy()}
	if v, ok := mustCompile(t, "t", small).Number(nil, env); !ok || v != 353.15 {
		t.Errorf("80 degC is %v, %v", v, ok)
	}
	p := mustCompile(t, "voted(2, 5 K, t, u, w)", small)
	if _, ok := p.Number(nil, env); ok {
		t.Error("two candidates are no number")
	}
	if lo, hi, ok := p.Candidates(nil, env); !ok || lo != 353.15 || hi != 355.15 {
		t.Errorf("candidates %v to %v, %v", lo, hi, ok)
	}
}

// TestVotedCamps: a value outside is ignored, two camps both count, a chain
// of neighbours is one range.
func TestVotedCamps(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		need   int
		within float64
		vs     []float64
		want   span
	}{
		{2, 5, []float64{80, 82, 300}, span{lo: 80, hi: 82}},
		{2, 5, []float64{300, 82, -40, 80}, span{lo: 80, hi: 82}},
		{2, 5, []float64{80, 90, 100}, nothing},
		{2, 5, []float64{10, 11, 90, 91}, span{lo: 10, hi: 91}},
		{2, 5, []float64{80, 84, 88}, span{lo: 80, hi: 88}},
		{3, 5, []float64{80, 84, 88}, nothing},
		{3, 5, []float64{80, 84, 85, 89}, span{lo: 80, hi: 89}},
		{2, 0, []float64{80, 80}, span{lo: 80, hi: 80}},
		{2, 5, []float64{80, nan, nan}, nothing},
		{2, 5, []float64{nan, 81, nan, 80}, span{lo: 80, hi: 81}},
		{2, 1e308, []float64{-math.MaxFloat64, math.MaxFloat64}, nothing},
		{2, 5, nil, nothing},
	} {
		if got := agree(append([]float64(nil), c.vs...), c.need, c.within); got != c.want {
			t.Errorf("%d of %v within %v: %+v; want %+v", c.need, c.vs, c.within, got, c.want)
		}
	}
}

// TestQualityAndAge: what they say of readings that nothing else may use.
func TestQualityAndAge(t *testing.T) {
	for _, c := range []struct {
		name    string
		r       lab.Reading
		quality Truth // quality(t) == bad
		age     Truth // age(t) > 3 s
	}{
		{"bad", lab.Reading{Value: quantity(1, "degC"), Received: t0}, True, False},
		{"bad and NaN", lab.Reading{Value: quantity(math.NaN(), "degC"), Received: t0}, True, False},
		{"good", good(quantity(1, "degC"), t0), False, False},
		{"good but NaN", good(quantity(math.NaN(), "degC"), t0), Unknown, False},
		{"stale", good(quantity(1, "degC"), t0.Add(-4*time.Second)), Unknown, True},
		{"bad and stale", lab.Reading{Value: quantity(1, "degC"), Received: t0.Add(-4 * time.Second)}, Unknown, True},
		{"missing", lab.Reading{Received: t0}, Unknown, Unknown},
		{"no time", lab.Reading{Value: quantity(1, "degC")}, Unknown, Unknown},
		{"from the future", good(quantity(1, "degC"), t0.Add(time.Hour)), Unknown, Unknown},
	} {
		slots := healthy()
		slots[0] = c.r
		env := &Env{Now: t0, Slots: slots}
		if got := mustCompile(t, "quality(t) == bad", small).Truth(nil, env); got != c.quality {
			t.Errorf("%s: quality %s; want %s", c.name, got, c.quality)
		}
		if got := mustCompile(t, "age(t) > 3 s", small).Truth(nil, env); got != c.age {
			t.Errorf("%s: age %s; want %s", c.name, got, c.age)
		}
	}
}

// TestProgram: what a program tells of itself.
func TestProgram(t *testing.T) {
	src := lab.Source{Text: "v > 1 mL and not tripped(reactor) and t > u", Pos: lab.Pos{File: "a", Line: 1, Column: 2}}
	p, err := Compile(src, small)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(p.Slots(), []int{0, 1, 2, 12}); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(p.Names(), []string{"t", "u", "v", "tripped(reactor)"}); d != "" {
		t.Error(d)
	}
	if p.Source() != src || p.Windows() || p.NewState() != nil || p.Cost() != 9 || !p.Next(nil, t0).IsZero() {
		t.Errorf("source %v, windows %v, cost %d", p.Source(), p.Windows(), p.Cost())
	}
	slots := healthy()
	slots[0].Quality = lab.Bad
	used := p.Used(&Env{Now: t0.Add(time.Second / 2), Slots: slots})
	if len(used) != 4 || used[2].Signal != "t" || used[2].Why != "bad" || used[2].AgeMS != 500 || used[3].Why != "" || used[0].Value.String() != "0.3 mL" {
		t.Errorf("used %+v", used)
	}
}

// TestFits: where a result may be put.
func TestFits(t *testing.T) {
	integer := lab.Type{Kind: lab.Integer}
	for _, c := range []struct {
		text string
		typ  lab.Type
		ok   bool
	}{
		{"v", numberType("L"), true}, {"v", numberType("mL/min"), false}, {"t", numberType("K"), false}, {"t", numberType("degF"), true},
		{"5", numberType("1"), true}, {"5", numberType("%"), true}, {"made", integer, true}, {"ratio", integer, true}, {"v", integer, false},
		{"on", boolType, true}, {"on", integer, false}, {"made", boolType, false}, {"state", small["state"].Type, true},
		{"state", lab.Type{Kind: lab.Enum, Enum: []string{"idle"}}, false}, {"note", lab.Type{Kind: lab.Text}, true}, {"note", lab.Type{}, false},
	} {
		if err := mustCompile(t, c.text, small).Fits(c.typ); (err == nil) != c.ok {
			t.Errorf("%s as %s: %v", c.text, c.typ, err)
		}
	}
}

// TestDefinitions: a signal stands for its expression, also in windows and
// beside enumeration names.
func TestDefinitions(t *testing.T) {
	b := newBench()
	b.signals["phase"], b.signals["alias"] = "cell.state", "phase"
	for _, text := range []string{"hot > 80 degC", "rate(hot, 2 s) > 30 K/s", "alias == idle", "hot - 5 K < reactor.jacket.temperature"} {
		mustCompile(t, text, b)
	}
	p := mustCompile(t, "hot > 80 degC", b)
	if d := cmp.Diff(p.Names(), []string{"reactor.jacket.temperature", "reactor.probe.temperature"}); d != "" {
		t.Error(d)
	}
}
