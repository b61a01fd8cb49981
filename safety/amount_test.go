package safety

import (
	"math"
	"math/big"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"labgate/lab"
)

// Sums are exact in decimals: what people write adds up as people add.
func TestSumsAreExact(t *testing.T) {
	max := lab.Q(30, "mL")
	g := grainOf(max, sumDigits)
	most, _, _ := g.of(max)
	var s sum
	for range 300 {
		lo, hi, ok := g.of(lab.Q(0.1, "mL"))
		if !ok || lo != hi {
			t.Fatal(lo, hi, ok)
		}
		s.add(hi)
	}
	if left := s.left(most); left != 0 {
		t.Errorf("300 doses of 0.1 mL leave %d grains of 30 mL", left)
	}
	_, one, _ := g.of(lab.Q(1e-15, "mL"))
	if s.add(one); s.left(most) >= 0 {
		t.Error("a dose that is next to nothing is nothing")
	}
	for range 300 {
		_, hi, _ := g.of(lab.Q(0.1, "mL"))
		s.sub(hi)
	}
	if s.sub(one); s != (sum{}) {
		t.Errorf("what was taken back is not gone: %v", s)
	}
}

func TestGrains(t *testing.T) {
	for _, c := range []struct {
		bound, q string
		lo, hi   int64
		ok       bool
	}{
		{"30 mL", "0.1 mL", 1e13, 1e13, true},
		{"30 mL", "100 uL", 1e13, 1e13, true},
		{"30 mL", "0.0001 L", 1e13, 1e13, true},
		{"30 mL", "-0.1 mL", -1e13, -1e13, true},
		{"30 mL", "0 mL", 0, 0, true},
		{"30 mL", "1e-30 mL", 0, 1, true},
		{"30 mL", "-1e-30 mL", -1, 0, true},
		{"30 mL", "1e9 L", 0, 0, false},
		{"30 mL", "1 s", 0, 0, false},
		{"0 mL", "1e-15 mL", 1, 1, true},
		{"3", "1", 1e15, 1e15, true},
	} {
		bound, q := mustQ(t, c.bound), mustQ(t, c.q)
		if lo, hi, ok := grainOf(bound, sumDigits).of(q); lo != c.lo || hi != c.hi || ok != c.ok {
			t.Errorf("%s in grains of %s: %d to %d, %t", c.q, c.bound, lo, hi, ok)
		}
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if _, _, ok := grainOf(lab.Q(1, "mL"), sumDigits).of(lab.Quantity{Value: v, Unit: lab.Q(1, "mL").Unit}); ok {
			t.Errorf("%v can be counted", v)
		}
	}
}

func mustQ(t *testing.T, s string) lab.Quantity {
	t.Helper()
	q, err := lab.ParseQuantity(s)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// A grain count encloses the number that it stands for, and comes back as it.
func TestGrainsEnclose(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := grainOf(lab.Quantity{Value: rapid.Float64Range(1e-9, 1e9).Draw(t, "bound")}, sumDigits)
		v := rapid.Float64Range(-1e6, 1e6).Draw(t, "value")
		lo, hi, ok := g.of(lab.Quantity{Value: v})
		if !ok {
			return
		}
		if hi-lo > 1 || hi < lo {
			t.Fatalf("%v is between %d and %d", v, lo, hi)
		}
		step := new(big.Rat).SetFrac64(1, 1)
		ten := new(big.Rat).SetInt64(10)
		for range max(g.exp, -g.exp) {
			if g.exp > 0 {
				step.Mul(step, ten)
			} else {
				step.Quo(step, ten)
			}
		}
		x, _ := new(big.Rat).SetString(strconv.FormatFloat(v, 'e', -1, 64)) // the shortest decimal that reads back as v
		a, b := new(big.Rat).Mul(step, new(big.Rat).SetInt64(lo)), new(big.Rat).Mul(step, new(big.Rat).SetInt64(hi))
		if a.Cmp(x) > 0 || b.Cmp(x) < 0 {
			t.Fatalf("%v is not between %d and %d grains of 1e%d", v, lo, hi, g.exp)
		}
	})
}

// What is suggested counts as no more than what is left.
func TestSuggestionsFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		units := []string{"mL", "L", "uL", "m3"}
		g := grainOf(lab.Q(rapid.Float64Range(1e-3, 1e3).Draw(t, "bound"), rapid.SampledFrom(units).Draw(t, "unit")), sumDigits)
		n := rapid.Int64Range(0, 1e16).Draw(t, "left")
		like := lab.NumberValue(lab.Q(1, rapid.SampledFrom(units).Draw(t, "of")))
		if v, ok := g.within(n, like, true); ok {
			if _, hi, ok := g.of(v.Quantity()); !ok || hi > n {
				t.Fatalf("%s counts as %d; %d are left", v, hi, n)
			}
		}
		if v, ok := g.within(n, like, false); ok {
			if lo, _, ok := g.of(v.Quantity()); !ok || lo < n {
				t.Fatalf("%s counts as %d; it is to be at least %d", v, lo, n)
			}
		}
	})
}

// A window that merges counts for longer, never for less long.
func TestMergedWindowIsStricter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const per = time.Hour
		start := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
		var l ledger
		var all []entry
		now := start
		for range rapid.IntRange(1, 3000).Draw(t, "amounts") {
			now = now.Add(time.Duration(now.UnixNano()%7) * 700 * time.Millisecond)
			now = now.Add(time.Duration(len(all)%11) * 331 * time.Millisecond)
			l.spend(now, 1, per)
			all = append(all, entry{now, 1})
		}
		if n := len(l.entries) - l.first; n > maxEntries+1 {
			t.Fatalf("%d entries", n)
		}
		for i := range 40 {
			at := now.Add(time.Duration(i) * 2 * time.Minute)
			l.expire(at, per)
			var must, may int64
			for _, x := range all {
				if at.Sub(x.at) < per {
					must++
				}
				if at.Sub(x.at) < per+per/parts {
					may++
				}
			}
			if got := l.spent.whole(); got < must || got > may {
				t.Fatalf("after %s %d count; between %d and %d may", at.Sub(now), got, must, may)
			}
		}
	})
}

// Ledgers are bounded; one that was forgotten counts as the fullest of those.
func TestForgottenLedgersCount(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	a := &account{by: byCampaign, grain: grainOf(lab.Q(30, "mL"), sumDigits), max: 30e14, ledgers: map[who]*ledger{}}
	use := func(w who, n int64) {
		now = now.Add(time.Second)
		a.ledger(now, w).spend(now, n, 0)
	}
	use(who{campaign: "full"}, 29e14)
	for i := range 3 * maxLedgers {
		use(who{campaign: string(rune('a'+i%26)) + time.Duration(i).String()}, 1e14)
	}
	if n := len(a.ledgers); n > maxLedgers {
		t.Errorf("%d ledgers", n)
	}
	if left := a.left(now, who{campaign: "full"}); left > 1e14 {
		t.Errorf("it was forgotten, and has %d left", left)
	}
	// Runs carry the time at which they were made: a new one is known to be new.
	r := &account{by: byRun, max: 30e14, floor: sum{lo: 29e14}, evicted: now}
	if left := r.left(now, who{run: "01KAH0000000000000000000ZZ"}); left > 1e14 {
		t.Errorf("an old run has %d left", left)
	}
	if left := r.left(now, who{run: "7ZZZZZZZZZ0000000000000000"}); left != 30e14 {
		t.Errorf("a new run has %d left", left)
	}
	if left := r.left(now, who{run: "run"}); left > 1e14 {
		t.Errorf("a run of unknown age has %d left", left)
	}
}

// The queue gives timers in the order of their instants, however they were put
// off before.
func TestTimers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
		var q timers
		list := make([]*timer, rapid.IntRange(1, 20).Draw(t, "timers"))
		for i := range list {
			list[i] = &timer{}
		}
		now := start
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			x := list[rapid.IntRange(0, len(list)-1).Draw(t, "which")]
			if ms := rapid.IntRange(0, 50).Draw(t, "in"); ms == 0 {
				q.set(x, time.Time{})
			} else {
				q.set(x, now.Add(time.Duration(ms)*time.Millisecond))
			}
			if rapid.IntRange(0, 3).Draw(t, "run") > 0 {
				continue
			}
			var first time.Time
			for _, x := range list {
				first = earlier(first, x.at)
			}
			if got := q.next(); !got.Equal(first) {
				t.Fatalf("next is %s; %s is wanted", got, first)
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 30).Draw(t, "wait")) * time.Millisecond)
			want := 0
			for _, x := range list {
				if !x.at.IsZero() && !x.at.After(now) {
					want++
				}
			}
			got := 0
			for x := q.due(now); x != nil; x = q.due(now) {
				got++
			}
			if got != want {
				t.Fatalf("%d are due; %d are wanted", got, want)
			}
			for i, x := range q {
				if x.pos != i+1 || i > 0 && x.key.Before(q[(i-1)/2].key) {
					t.Fatal("the heap is broken")
				}
			}
		}
	})
}
