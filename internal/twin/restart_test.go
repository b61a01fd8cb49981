package twin_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"labgate/internal/twin"
	"labgate/lab"
	"labgate/messages"
)

func restart(t testing.TB, w *twin.Twin) {
	t.Helper()
	if err := w.Restart(); err != nil {
		t.Fatal(err)
	}
	run(t, w, 5*time.Second, ready)
}

// known is what both parts know of themselves, as JSON.
func known(t testing.TB, w *twin.Twin) string {
	t.Helper()
	b, err := json.MarshalIndent(map[string]any{"status": w.Status(), "runs": w.Runs()}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The process dies while both pumps run. What was under way is in doubt, its
// run is held, nothing is sent again; another restart finds the same.
func TestRestartWhileDosing(t *testing.T) {
	w := makeTwin(t, 1, twin.Faults{})
	id := accepted(t, w, gold("one"))
	run(t, w, time.Minute, dosing)
	pass(t, w, 200*time.Millisecond)
	restart(t, w)
	s := w.Status()
	if len(s.InDoubt) != 2 || s.InDoubt[0].Name != "dose" || s.InDoubt[0].Run != id || len(s.Latches) != 0 {
		t.Errorf("in doubt %+v, latches %+v", s.InDoubt, s.Latches)
	}
	pass(t, w, 30*time.Second)
	if r := w.Runs(); len(r) != 1 || r[0].State != "held" || len(r[0].InDoubt) != 2 {
		t.Errorf("runs %+v", r)
	}
	noSecondDose(t, w)
	before := known(t, w)
	for range 2 {
		restart(t, w)
		pass(t, w, time.Second)
		if d := cmp.Diff(before, known(t, w)); d != "" {
			t.Errorf("a restart changes what is known: %s", d)
		}
	}
	noSecondDose(t, w)
	personDecides(t, w, id)
}

func noSecondDose(t testing.TB, w *twin.Twin) {
	t.Helper()
	for _, pump := range []string{"pump_a", "pump_b"} {
		// The dose goes on while the gateway is down (on_gateway_death: keep), and
		// is stopped when it is back: the lease of before is lost.
		if c := w.World().Count(pump); c.Doses != 1 || c.DosesDone+c.Stops == 0 {
			t.Errorf("%s %+v", pump, c)
		}
	}
}

// personDecides: a new run is refused its dose while there is doubt; the held
// run's finally runs when it is aborted; once the doubt is resolved, dosing
// goes on.
func personDecides(t *testing.T, w *twin.Twin, held string) {
	t.Helper()
	stop := ended(t, w, accepted(t, w, gold("two")), 2*time.Minute)
	if stop.ExitStatus != messages.ExitFail || !strings.Contains(stop.Reason, "in doubt") {
		t.Errorf("in spite of the doubt: %+v", stop)
	}
	noSecondDose(t, w)
	w.Control("operator", messages.Control{ID: "abort", Action: messages.ControlAbort, Run: held, Reason: "I have looked"})
	if stop := ended(t, w, held, time.Minute); stop.ExitStatus != messages.ExitAbort {
		t.Errorf("the held run: %+v", stop)
	}
	for _, d := range w.Status().InDoubt {
		w.Control("operator", messages.Control{ID: d.Command, Action: messages.ControlResolve, Command: d.Command, As: "done", Reason: "the syringe says so"})
	}
	pass(t, w, time.Second)
	if s := w.Status(); len(s.InDoubt) != 0 {
		t.Errorf("in doubt %+v", s.InDoubt)
	}
	if stop := ended(t, w, accepted(t, w, gold("three")), time.Minute); stop.ExitStatus != messages.ExitSuccess {
		t.Errorf("after all is resolved: %+v", stop)
	}
	if c := w.World().Count("pump_a"); c.Doses != 2 {
		t.Errorf("pump_a %+v", c)
	}
}

// Killed at any instant of a run, nothing is ever sent twice, nothing moves by
// itself, and what is known survives the next restart.
func TestRestartAnywhere(t *testing.T) {
	for at := 50 * time.Millisecond; at < 8*time.Second; at += 617 * time.Millisecond {
		w := makeTwin(t, 3+uint64(at/(617*time.Millisecond))%2, twin.Faults{})
		w.Submit("planner", gold("one"))
		pass(t, w, at)
		restart(t, w)
		pass(t, w, 9*time.Second)
		before := known(t, w)
		moved := w.World().Effects()
		restart(t, w)
		pass(t, w, 3*time.Second)
		if d := cmp.Diff(before, known(t, w)); d != "" {
			t.Errorf("killed after %s: a restart changes what is known: %s", at, d)
		}
		for name, c := range w.World().Effects() {
			if c.Doses > 1 || c.Doses != moved[name].Doses || c.Exposures != moved[name].Exposures || c.Moves != moved[name].Moves || c.HeaterStarts != moved[name].HeaterStarts {
				t.Errorf("killed after %s: %s %+v, then %+v", at, name, moved[name], c)
			}
		}
		if v := w.Verdicts("planner"); len(v) == 0 || v[0].Decision != messages.AcceptedDecision || len(w.Runs()) != 1 {
			t.Errorf("killed after %s: verdicts %+v, runs %+v", at, v, w.Runs())
		}
	}
}

// Whatever the network loses or repeats, a run comes to its end, and each
// dose is given once.
func TestBadNetwork(t *testing.T) {
	for _, net := range []struct {
		name  string
		loses bool
		carry func(m twin.Packet, n int, usual time.Duration) []twin.Arrival
	}{
		{"everything twice", false, func(_ twin.Packet, _ int, usual time.Duration) []twin.Arrival {
			return []twin.Arrival{{After: usual}, {After: usual + 30*time.Millisecond}}
		}},
		{"no outcome arrives by itself", true, func(m twin.Packet, _ int, usual time.Duration) []twin.Arrival {
			if strings.HasPrefix(m.Channel, "outcome/") {
				return nil
			}
			return []twin.Arrival{{After: usual}}
		}},
		{"a third of the answers is lost", true, func(m twin.Packet, n int, usual time.Duration) []twin.Arrival {
			if m.Channel == "reply/command" && n%3 == 0 {
				return nil
			}
			return []twin.Arrival{{After: usual}}
		}},
		{"no lease is answered at first", true, func(m twin.Packet, n int, usual time.Duration) []twin.Arrival {
			if m.Channel == "reply/lease" && n < 500 {
				return nil
			}
			return []twin.Arrival{{After: usual}}
		}},
		{"slow", false, func(_ twin.Packet, _ int, usual time.Duration) []twin.Arrival {
			return []twin.Arrival{{After: 100 * usual}}
		}},
	} {
		t.Run(net.name, func(t *testing.T) {
			n := 0
			w := makeTwin(t, 1, twin.Faults{Carry: func(m twin.Packet, usual time.Duration) []twin.Arrival {
				n++
				return net.carry(m, n, usual)
			}})
			id := accepted(t, w, gold("one"))
			stop := ended(t, w, id, 3*time.Minute)
			if stop.ExitStatus != messages.ExitSuccess {
				t.Errorf("%+v\n%s", stop, tail(w.Trace(), 20))
			}
			noSecondDose(t, w)
			if lost := bytes.Contains(w.Trace(), []byte("network  ! lost")); lost != net.loses {
				t.Errorf("something was lost: %v", lost)
			}
		})
	}
}

// A commit that fails stops all effects; a stop still works, and is not on the
// disk. After a restart the record says what is in doubt.
func TestBadDisk(t *testing.T) {
	broken := false
	w := makeTwin(t, 1, twin.Faults{Commit: func([]lab.Entry) (f twin.Fate) {
		if broken {
			f.Err = errors.New("the disk is full")
		}
		return f
	}})
	id := accepted(t, w, gold("one"))
	run(t, w, time.Minute, dosing)
	broken = true
	pass(t, w, 300*time.Millisecond)
	w.Stop("pump_a")
	run(t, w, 100*time.Millisecond, func(w *twin.Twin) bool { return !w.World().Pump("pump_a").Running() })
	n := len(w.Entries())
	pass(t, w, 20*time.Second)
	if s := w.Status(); s.Ready || len(w.Entries()) != n || entries(w, "stop/v1") != 0 {
		t.Errorf("ready %v, %d entries and then %d", s.Ready, n, len(w.Entries()))
	}
	c := w.World().Effects()
	if c["spectrometer"].Exposures != 0 || c["pump_a"].Doses != 1 || c["pump_a"].DosesDone != 0 {
		t.Errorf("effects %+v", c)
	}
	broken = false
	restart(t, w)
	if s := w.Status(); len(s.InDoubt) != 2 {
		t.Errorf("in doubt %+v", s.InDoubt)
	}
	if r := w.Runs(); r[0].Run != id || r[0].State != "held" {
		t.Errorf("runs %+v", r)
	}
}

// A pump that is switched off and on in mid-dose has forgotten what it did:
// the dose is in doubt, and is not given again.
func TestPowerCycleOfPump(t *testing.T) {
	w := makeTwin(t, 1, twin.Faults{})
	id := accepted(t, w, gold("one"))
	run(t, w, time.Minute, dosing)
	pass(t, w, 300*time.Millisecond)
	w.World().Reboot("pump_a")
	stop := ended(t, w, id, 2*time.Minute)
	if stop.ExitStatus == messages.ExitSuccess || w.World().Count("pump_a").Doses != 1 {
		t.Errorf("%+v, %+v", stop, w.World().Count("pump_a"))
	}
	if s := w.Status(); len(s.InDoubt) != 1 || s.InDoubt[0].Instrument != "pump_a" {
		t.Errorf("in doubt %+v", s.InDoubt)
	}
}

// An instrument that falls silent is lost, and found again.
func TestSilentInstrument(t *testing.T) {
	for _, name := range []string{"reactor", "pump_b", "room", "stage"} {
		t.Run(name, func(t *testing.T) {
			w := makeTwin(t, 1, twin.Faults{})
			fault := func(on bool) {
				if err := w.World().Fault(name, "freeze", on, nil); err != nil {
					t.Fatal(err)
				}
			}
			up := func(w *twin.Twin) bool {
				for _, l := range w.Status().Links {
					if l.Instrument == name {
						return l.Up
					}
				}
				return false
			}
			fault(true)
			run(t, w, 2*time.Second, func(w *twin.Twin) bool { return !up(w) })
			for _, l := range w.Status().Links {
				if l.Instrument != name && !l.Up {
					t.Errorf("%s is lost with it: %s", l.Instrument, l.Say)
				}
			}
			fault(false)
			run(t, w, 10*time.Second, up)
		})
	}
}

// A run that a restart has cut off at any instant goes on when a person says so:
// every dose is given once, everything else as often as it takes, and the run
// ends as if nothing had happened. What is in doubt a person settles first, by
// what the world shows.
func TestResumeAnywhere(t *testing.T) {
	ends := map[string]int{}
	for at := 50 * time.Millisecond; at < 8*time.Second; at += 431 * time.Millisecond {
		w := makeTwin(t, 5+uint64(at/(431*time.Millisecond))%3, twin.Faults{})
		id := accepted(t, w, gold("one"))
		pass(t, w, at)
		for range 1 + int(at/time.Millisecond)%2 { // once, or twice in a row
			restart(t, w)
			pass(t, w, 20*time.Second) // the doses go on alone, and are stopped
		}
		run := w.Runs()[0]
		if run.State != "held" { // it had not begun, or was over
			ended(t, w, id, 2*time.Minute)
			ends["not held"]++
			continue
		}
		if r := ask(t, w, "planner", messages.Control{ID: "agent", Action: messages.ControlRelease, Run: id}); r.OK {
			t.Errorf("after %s: an agent lets a run go on", at)
		}
		if len(run.InDoubt) > 0 {
			if r := ask(t, w, "operator", messages.Control{ID: "early", Action: messages.ControlRelease, Run: id}); r.OK || !strings.Contains(r.Say, "in doubt") {
				t.Errorf("after %s: %+v", at, r)
			}
		}
		doubts := w.Status().InDoubt
		for _, d := range doubts {
			w.Control("operator", messages.Control{ID: d.Command, Action: messages.ControlResolve, Command: d.Command, As: "done", Reason: "the syringe says so"})
		}
		pass(t, w, time.Second)
		if r := ask(t, w, "operator", messages.Control{ID: "go on", Action: messages.ControlRelease, Run: id, Reason: "looked"}); !r.OK {
			t.Errorf("after %s: %+v", at, r)
			continue
		}
		stop := ended(t, w, id, 3*time.Minute)
		if stop.ExitStatus != messages.ExitSuccess {
			t.Errorf("after %s, with %d in doubt: %+v", at, len(doubts), stop)
		}
		for _, pump := range []string{"pump_a", "pump_b"} {
			if c := w.World().Count(pump); c.Doses != 1 {
				t.Errorf("after %s: %s %+v", at, pump, c)
			}
		}
		ends["went on"]++
	}
	if ends["went on"] < 8 {
		t.Errorf("%v: this shows little", ends)
	}
}
