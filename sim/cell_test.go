package sim

import (
	"math"
	"strings"
	"testing"
	"time"

	"labgate/lab"
)

// standard is TR88.00.02's table: what each command does in each state. A dot
// is: not allowed.
const standard = `
              reset start stop hold unhold suspend unsuspend abort clear
clearing      .     .     .    .    .      .       .         A     .
stopped       R     .     .    .    .      .       .         A     .
starting      .     .     S    .    .      .       .         A     .
idle          .     G     S    .    .      .       .         A     .
suspended     .     .     S    .    .      .       V         A     .
execute       .     .     S    H    .      P       .         A     .
stopping      .     .     .    .    .      .       .         A     .
aborting      .     .     .    .    .      .       .         .     .
aborted       .     .     .    .    .      .       .         .     C
holding       .     .     S    .    .      .       .         A     .
held          .     .     S    .    U      .       .         A     .
unholding     .     .     S    .    .      .       .         A     .
suspending    .     .     S    .    .      .       .         A     .
unsuspending  .     .     S    .    .      .       .         A     .
resetting     .     .     S    .    .      .       .         A     .
completing    .     .     S    .    .      .       .         A     .
complete      R     .     S    .    .      .       .         A     .
`

func TestPackMLTable(t *testing.T) {
	letters := map[string]PackState{"R": Resetting, "G": Starting, "S": Stopping, "H": Holding, "U": Unholding,
		"P": Suspending, "V": Unsuspending, "A": Aborting, "C": Clearing}
	lines := strings.Split(strings.TrimSpace(standard), "\n")
	if len(lines) != 18 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, l := range lines[1:] {
		f, s := strings.Fields(l), PackState(i+1)
		if f[0] != s.String() {
			t.Fatalf("state %d is %s, want %s", s, s, f[0])
		}
		for c := PackReset; c <= PackClear; c++ {
			to, ok := PackAllowed(s, c)
			want := f[c]
			if ok != (want != ".") || ok && to != letters[want] {
				t.Errorf("%s in %s: %v, %s; want %s", c, s, ok, to, want)
			}
			checkMachine(t, s, c, to, ok)
		}
	}
	for _, s := range []PackState{0, -1, 18} {
		if _, ok := PackAllowed(s, PackAbort); ok || s.String() != "undefined" {
			t.Errorf("state %d", s)
		}
	}
	if _, ok := PackAllowed(Idle, 99); ok || PackCommand(99).String() != "undefined" {
		t.Error("command 99")
	}
}

// checkMachine gives a machine in a state the command and compares it with the
// table. What the table does not allow changes nothing.
func checkMachine(t *testing.T, s PackState, c PackCommand, to PackState, ok bool) {
	t.Helper()
	w := NewDemo(1, start)
	cell := w.Cell()
	cell.enter(s)
	cell.films = 3
	err := cell.Command(c)
	switch {
	case ok && (err != nil || cell.state != to):
		t.Errorf("%s in %s: %v, now %s", c, s, err, cell.state)
	case !ok && cell.state != s:
		t.Errorf("%s in %s is not allowed, but it is now %s", c, s, cell.state)
	case !ok && err != nil:
		wantRefused(t, err, ErrNotApplicable)
	case !ok && !hasState(already[c], s):
		t.Errorf("%s in %s is neither allowed nor refused", c, s)
	}
}

// Acting states end by themselves, in the right one, within half a second.
func TestActingStates(t *testing.T) {
	for s, want := range map[PackState]PackState{Clearing: Stopped, Starting: Execute, Stopping: Stopped, Aborting: Aborted,
		Holding: Held, Unholding: Execute, Suspending: Suspended, Unsuspending: Execute, Resetting: Idle, Completing: Complete} {
		w := NewDemo(1, start)
		w.cell.enter(s)
		w.cell.films, w.cell.cycle = 3, 100
		for i := 0; w.Cell().State() == s; i++ {
			run(w, Tick)
			if i > 50 {
				t.Fatalf("%s does not end", s)
			}
		}
		if got := w.Cell().State(); got != want {
			t.Errorf("%s ends in %s, want %s", s, got, want)
		}
	}
	for _, s := range []PackState{Stopped, Idle, Suspended, Aborted, Held, Complete} {
		w := NewDemo(1, start)
		w.cell.enter(s)
		run(w, time.Minute)
		if got := w.Cell().State(); got != s {
			t.Errorf("%s became %s by itself", s, got)
		}
	}
}

func coat(t testing.TB, w *World, films int, speed float64) {
	t.Helper()
	must(t, w, "cell", "line", "reset", nil)
	run(w, ms(500))
	must(t, w, "cell", "line", "coat", map[string]lab.Value{"films": lab.IntegerValue(int64(films)), "speed": quantity(speed, "mm/s")})
}

func waitComplete(t testing.TB, w *World) time.Duration {
	t.Helper()
	from := w.Now()
	for w.Cell().State() != Complete {
		run(w, ms(20))
		if w.Now().Sub(from) > 5*time.Minute {
			t.Fatalf("not complete but %s", w.Cell().State())
		}
	}
	return w.Now().Sub(from)
}

func TestBatch(t *testing.T) {
	w := NewDemo(1, start)
	_, err := w.Do("cell", "line", "coat", map[string]lab.Value{"films": lab.IntegerValue(1), "speed": quantity(1, "mm/s")})
	wantRefused(t, err, ErrNotApplicable) // stopped
	for i := 1; i <= 3; i++ {
		coat(t, w, 5, 10)
		if d := waitComplete(t, w); d < time.Second || d > 5*time.Second {
			t.Errorf("5 films in %v", d)
		}
		if w.Cell().Made() != 5*i || w.Cell().Batch() != i || w.Cell().Good() > 5*i {
			t.Errorf("batch %d: made %d, good %d", w.Cell().Batch(), w.Cell().Made(), w.Cell().Good())
		}
	}
	near(t, "thickness", w.Cell().Thickness(), 100, 4)
	if oee := w.Cell().OEE(); oee < 20 || oee > 90 {
		t.Errorf("oee %v", oee)
	}
	if c := w.Count("cell"); c.Batches != 3 || c.Films != 15 || c.Films-c.Scrap != w.Cell().Good() {
		t.Errorf("%+v", c)
	}
	for _, b := range []struct {
		films int
		speed float64
	}{{0, 10}, {51, 10}, {-1, 10}, {1, 0}, {1, 41}, {1, math.NaN()}} {
		wantRefused(t, w.Cell().StartBatch(b.films, b.speed), ErrOutOfRange)
	}
}

func TestSpeedAndYield(t *testing.T) {
	yield := func(speed float64) (thickness, good, perHour float64) {
		w := NewDemo(3, start)
		var busy time.Duration
		for range 6 {
			coat(t, w, 50, speed)
			busy += waitComplete(t, w)
		}
		return w.Cell().Thickness(), float64(w.Cell().Good()) / float64(w.Cell().Made()), 300 / busy.Hours()
	}
	var last [3]float64
	for i, speed := range []float64{2, 10, 30} {
		a, b, c := yield(speed)
		t.Logf("%2.0f mm/s: %.0f nm, yield %.2f, %.0f films/h", speed, a, b, c)
		if i > 0 && (a >= last[0] || b > last[1] || c <= last[2]) {
			t.Errorf("%v mm/s: %v nm, %v, %v/h after %v", speed, a, b, c, last)
		}
		last = [3]float64{a, b, c}
	}
	if last[1] > 0.85 || last[1] < 0.4 {
		t.Errorf("yield %v at 30 mm/s", last[1])
	}
}

func TestStopAndHoldABatch(t *testing.T) {
	w := NewDemo(1, start)
	coat(t, w, 50, 10)
	run(w, 2*time.Second)
	for _, c := range []PackCommand{PackHold, PackUnhold, PackSuspend, PackUnsuspend} {
		if err := w.Cell().Command(c); err != nil {
			t.Fatal(err)
		}
		run(w, ms(300))
		made := w.Cell().Made()
		if run(w, 3*time.Second); (c == PackHold || c == PackSuspend) != (w.Cell().Made() == made) {
			t.Errorf("%s: %d films, then %d", c, made, w.Cell().Made())
		}
	}
	made := w.Cell().Made()
	must(t, w, "cell", "line", "stop", nil)
	run(w, 2*time.Second)
	if w.Cell().State() != Stopped || w.Cell().Made() > made || made == 0 || made >= 50 {
		t.Errorf("%s, %d films", w.Cell().State(), w.Cell().Made())
	}
	must(t, w, "cell", "line", "stop", nil) // again, and nothing happens
	must(t, w, "cell", "line", "abort", nil)
	run(w, time.Second)
	_, err := w.Do("cell", "line", "reset", nil)
	wantRefused(t, err, ErrNotApplicable)
	must(t, w, "cell", "line", "stop", nil) // aborted is stopped enough
	must(t, w, "cell", "line", "clear", nil)
	run(w, time.Second)
	if w.Cell().State() != Stopped || w.Count("cell").Stops != 1 {
		t.Errorf("%s, %+v", w.Cell().State(), w.Count("cell"))
	}
	wantRefused(t, w.Cell().Command(PackStart), ErrNotApplicable)
	must(t, w, "cell", "line", "reset", nil)
	run(w, time.Second)
	wantRefused(t, w.Cell().Command(PackStart), ErrNotApplicable) // no batch
	coat(t, w, 1, 10)
	waitComplete(t, w)
	w.Reboot("cell")
	if w.Cell().State() != Aborted || w.Cell().Made() != 0 || w.Count("cell").Films == 0 {
		t.Error("after a power cycle it is aborted and its counters are lost, the world's are not")
	}
}
