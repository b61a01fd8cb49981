package expr

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"labgate/lab"
)

// film plays readings of t (and on) through a program.
type film struct {
	t     *testing.T
	p     *Program
	st    *State
	slots []lab.Reading
	now   time.Time
}

func newFilm(t *testing.T, text string) *film {
	t.Helper()
	p := mustCompile(t, text, small)
	return &film{t, p, p.NewState(), make([]lab.Reading, 13), t0}
}

func (f *film) env() *Env { return &Env{Now: f.now, Slots: f.slots} }

// see observes t at a time after the start, fresh.
func (f *film) see(at time.Duration, degC float64) {
	f.now = t0.Add(at)
	f.slots[0] = good(quantity(degC, "degC"), f.now)
	f.p.Observe(f.st, f.env())
}

// sees observes the condition on at a time after the start.
func (f *film) sees(at time.Duration, on bool) {
	f.now = t0.Add(at)
	f.slots[3] = good(lab.BoolValue(on), f.now)
	f.p.Observe(f.st, f.env())
}

func (f *film) want(truth Truth) {
	f.t.Helper()
	if got := f.p.Truth(f.st, f.env()); got != truth {
		f.t.Errorf("%s at %s: %s; want %s", f.p.Source().Text, f.now.Sub(t0), got, truth)
	}
}

func (f *film) wantNumber(want float64) {
	f.t.Helper()
	got := f.p.Value(f.st, f.env())
	if math.IsNaN(want) != (got.Kind == lab.Missing) || !math.IsNaN(want) && math.Abs(got.Num-want) > 1e-9 {
		f.t.Errorf("%s at %s: %s; want %v", f.p.Source().Text, f.now.Sub(t0), got, want)
	}
}

const ms = time.Millisecond

var nan = math.NaN()

func TestRate(t *testing.T) {
	f := newFilm(t, "rate(t, 2 s)")
	for _, c := range []struct {
		at         time.Duration
		degC, want float64
	}{
		{0, 20, nan}, {500 * ms, 21, nan}, {900 * ms, 22, nan}, // less than half of the window
		{1000 * ms, 22, 2}, {2000 * ms, 22, 1}, // end to end since the start
		{2500 * ms, 27, 3}, // (27 - 21) / 2 s
		{4000 * ms, 27, 2.5},
		{4500 * ms, 37, 5},
		{4600 * ms, 20, -7 / 2.1}, // against the one of 2.5 s, the newest that is 2 s old
	} {
		f.see(c.at, c.degC)
		f.wantNumber(c.want)
	}
	f.now = t0.Add(5600 * ms) // still fresh
	f.wantNumber(-7 / 2.1)
	f.now = t0.Add(5600*ms + 1) // stale
	f.wantNumber(nan)
	f.see(10*time.Second, 20) // nothing else in the window
	f.wantNumber(nan)
}

func TestRateStartsOver(t *testing.T) {
	full := func() *film {
		f := newFilm(t, "rate(t, 2 s)")
		for i := range 5 {
			f.see(time.Duration(i)*500*ms, 20+float64(i))
		}
		f.wantNumber(2)
		return f
	}
	f := full() // a new epoch: the device may have lost state
	f.now = t0.Add(2500 * ms)
	f.slots[0] = lab.Reading{Value: quantity(25, "degC"), Quality: lab.Good, Received: f.now, Epoch: 1}
	f.p.Observe(f.st, f.env())
	f.wantNumber(nan)

	f = full() // the reading's time runs backwards
	f.slots[0] = lab.Reading{Value: quantity(25, "degC"), Quality: lab.Good, Received: f.now, Source: t0.Add(1400 * ms)}
	f.p.Observe(f.st, f.env())
	f.wantNumber(nan)

	f = full() // our time runs backwards
	f.see(1900*ms, 25)
	f.wantNumber(nan)

	f = full() // a bad reading makes it unknown, but the good ones still count
	f.now = t0.Add(2500 * ms)
	f.slots[0].Quality = lab.Bad
	f.p.Observe(f.st, f.env())
	f.wantNumber(nan)
	f.see(3000*ms, 26)
	f.wantNumber(2)

	f = full() // the state of another program is none
	other := mustCompile(t, "rate(t, 2 s)", small)
	other.Observe(f.st, f.env())
	if _, ok := other.Number(f.st, f.env()); ok {
		t.Error("took the state of another program")
	}
}

// TestRateOfSlowPolls: sampling at half the window or faster, with jitter,
// never flickers; sampling slower than 1.5 windows never gives a number.
func TestRateOfSlowPolls(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	f := newFilm(t, "rate(t, 2 s)")
	at := time.Duration(0)
	for i := range 200 {
		f.see(at, at.Seconds())
		if i > 2 {
			f.wantNumber(1)
		}
		at += 950*ms + time.Duration(r.IntN(50))*ms
	}
	g := newFilm(t, "rate(v, 2 s)")
	for i := range 10 {
		g.now = t0.Add(time.Duration(i) * 3100 * ms)
		g.slots[2] = good(quantity(float64(i), "mL"), g.now)
		g.p.Observe(g.st, g.env())
		g.wantNumber(nan)
	}
}

func TestMean(t *testing.T) {
	f := newFilm(t, "mean(t, 2 s)")
	for _, c := range []struct {
		at         time.Duration
		degC, want float64
	}{
		{0, 10, nan}, {500 * ms, 20, nan}, {1000 * ms, 20, 17.5}, {2000 * ms, 20, 18.75}, {2500 * ms, 20, 20}, {3000 * ms, 40, 22.5},
	} {
		f.see(c.at, c.degC)
		f.wantNumber(c.want)
	}
	// 1.5 s of outage: what is covered is still more than half, then not.
	f.see(4500*ms, 40)
	f.wantNumber(nan)
	f.see(5500*ms, 40)
	f.wantNumber(40)
}

func TestHeld(t *testing.T) {
	f := newFilm(t, "held(on, 2 s)")
	for _, c := range []struct {
		at   time.Duration
		on   bool
		want Truth
	}{
		{0, true, Unknown}, {1000 * ms, true, Unknown}, {2000*ms - 1, true, Unknown}, {2000 * ms, true, True}, {2500 * ms, true, True},
		{3000 * ms, false, False}, {3500 * ms, true, False}, {4500 * ms, true, False}, {5500*ms - 1, true, False}, {5500 * ms, true, True},
	} {
		f.sees(c.at, c.on)
		f.want(c.want)
	}
	f.sees(6400*ms, true)
	f.sees(7500*ms, true) // it was stale for 100 ms
	f.want(Unknown)
	f.sees(8500*ms, true)
	f.sees(9500*ms-1, true)
	f.want(Unknown)
	f.sees(9500*ms, true)
	f.want(True)
	f.now = t0.Add(10500*ms + 1) // stale
	f.want(Unknown)

	f = newFilm(t, "held(on, 500 ms)")
	f.sees(0, true)
	f.sees(600*ms, true)
	f.want(True)
	f.sees(599*ms, true) // the clock can't be trusted
	f.want(Unknown)
}

// TestHeldSurvivesOneOfThree: a vote that goes on with two of three readings
// goes on being held when the third is lost.
func TestHeldSurvivesOneOfThree(t *testing.T) {
	f := newFilm(t, "held(voted(2, 5 K, t, u, w) > 50 degC, 2 s)")
	for i := range 40 {
		f.now = t0.Add(time.Duration(i) * 100 * ms)
		for k, slot := range []int{0, 1, 9} {
			if k == 2 && i > 10 {
				continue // lost, and stale a second later
			}
			f.slots[slot] = good(quantity(60, "degC"), f.now)
		}
		f.p.Observe(f.st, f.env())
	}
	f.want(True)
}

// TestNext: at the instant that Next names the answer turns, and not before.
func TestNext(t *testing.T) {
	f := newFilm(t, "held(on, 500 ms)")
	f.sees(0, false)
	f.sees(100*ms, true)
	f.want(False)
	next := f.p.Next(f.st, f.now)
	if next != t0.Add(600*ms) {
		t.Fatalf("next at %s", next.Sub(t0))
	}
	f.now = next.Add(-1)
	f.want(False)
	f.now = next
	f.want(True)
	if next = f.p.Next(f.st, next); next != t0.Add(1100*ms+1) {
		t.Fatalf("stale at %s", next.Sub(t0))
	}
	f.now = next
	f.want(Unknown)
	if next = f.p.Next(f.st, next); !next.IsZero() {
		t.Errorf("something at %s", next.Sub(t0))
	}

	f = newFilm(t, "age(t) > 1.5 s")
	f.see(0, 20)
	for range 6 {
		next = f.p.Next(f.st, f.now)
		f.now = next
		if f.p.Truth(f.st, f.env()) == True {
			break
		}
	}
	if f.now != t0.Add(1500*ms+1) {
		t.Errorf("turned at %s", f.now.Sub(t0))
	}
	f = newFilm(t, "age(t) + age(u) > 1.5 s") // calculated with: looked at often
	f.see(0, 20)
	if next = f.p.Next(f.st, f.now); next != t0.Add(ageStep) {
		t.Errorf("next look at %s", next.Sub(t0))
	}
	f = newFilm(t, "rate(v, 2 s) > 1 mL/s")
	for i := range 3 {
		f.now = t0.Add(time.Duration(i) * time.Second)
		f.slots[2] = good(quantity(float64(i), "mL"), f.now)
		f.p.Observe(f.st, f.env())
	}
	f.want(False)
	if next = f.p.Next(f.st, f.now); next != t0.Add(4*time.Second+1) {
		t.Errorf("the window runs out at %s", next.Sub(t0))
	}
	f.now = next
	f.want(Unknown)
}

// TestLongUnobserved: more happened in between than can be made up for.
func TestLongUnobserved(t *testing.T) {
	f := newFilm(t, "held(age(t) + age(t) < 1 h, 1 s)")
	f.see(0, 20)
	f.see(900*ms, 20)
	f.see(1800*ms, 20)
	f.want(True)
	f.see(time.Minute, 20)
	f.want(Unknown)
}

// TestDecimation: a day at 20 ms, thinned to 256 samples. The slope is that of
// two real readings about a window apart, the mean loses nothing but the edge.
func TestDecimation(t *testing.T) {
	slope, mean := newFilm(t, "rate(t, 1 min)"), newFilm(t, "mean(t, 1 min)")
	r := rand.New(rand.NewPCG(3, 4))
	curve := func(at time.Duration) float64 { return 50 + 30*math.Sin(at.Seconds()/40) }
	for at := time.Duration(0); at < 5*time.Minute; at += 10*ms + time.Duration(r.IntN(20))*ms {
		slope.see(at, curve(at))
		mean.see(at, curve(at))
		if at < 90*time.Second {
			continue
		}
		got := slope.p.Value(slope.st, slope.env()).Num
		low, high := math.Inf(1), math.Inf(-1)
		for d := time.Minute - 300*ms; d <= time.Minute+300*ms; d += 10 * ms {
			s := (curve(at) - curve(at-d)) / d.Seconds()
			low, high = math.Min(low, s), math.Max(high, s)
		}
		if got < low-1e-3 || got > high+1e-3 {
			t.Fatalf("slope %v at %s; want between %v and %v", got, at, low, high)
		}
		exact := 50 + 30*40/60.0*(math.Cos((at.Seconds()-60)/40)-math.Cos(at.Seconds()/40))
		if got := mean.p.Value(mean.st, mean.env()).Num; math.Abs(got-exact) > 60*1.5/resolution {
			t.Fatalf("mean %v at %s; want %v", got, at, exact)
		}
	}
	if n := slope.st.wins[0].samples.n; n < 200 || n > maxSamples {
		t.Errorf("%d samples", n)
	}
	if n := mean.st.wins[0].areas.n; n < 100 || n > maxSamples {
		t.Errorf("%d areas", n)
	}
}

// TestMeanOfOutages: good and bad in turns, fast, never overflow the memory.
func TestMeanOfOutages(t *testing.T) {
	f := newFilm(t, "mean(t, 10 s)")
	r := rand.New(rand.NewPCG(5, 6))
	most := 0
	for at := time.Duration(0); at < 2*time.Minute; at += time.Duration(1+r.IntN(30)) * ms {
		f.see(at, 20)
		if r.IntN(3) == 0 {
			f.slots[0].Quality = lab.Bad
			f.p.Observe(f.st, f.env())
		}
		most = max(most, f.st.wins[0].areas.n)
	}
	if most >= maxSamples {
		t.Errorf("%d areas", most)
	}
	f.see(2*time.Minute, 20)
	f.wantNumber(20)
}
