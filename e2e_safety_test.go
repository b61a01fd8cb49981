package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"labgate/lab"
)

// With the hood's airflow gone a dose is refused by a rule with a name, and
// nothing comes out of a pump.
func TestRefusedWithoutAirflow(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	l.set("room.airflow", 0)
	r := l.must(exitRefused, "submit", "pour", "--input", "temperature=40 degC")
	wantIn(t, "submit", r.stdout, "refused: dosing-needs-hood: room.airflow >= 0.3 m/s is false", "fail step feed.")
	wantIn(t, "submit's error", r.stderr, "the run did not succeed", "dosing-needs-hood")
	id := l.newestRun().Run
	for _, pump := range []string{"pump_a", "pump_b"} {
		if c := l.count(pump); c.Doses != 0 || c.Dispensed != 0 {
			t.Errorf("%s: %+v", pump, c)
		}
	}
	if c := l.count("reactor"); c.Received != 0 || c.StirrerStarts != 1 || c.HeaterStarts != 1 {
		t.Errorf("the reactor: %+v", c)
	}
	wantIn(t, "the stop document", string(l.journal("--run", id, "--kind", "stop_document/v1")[0].Body), `"rule":"dosing-needs-hood"`)
	var denials int
	for _, e := range l.journal("--run", id, "--kind", "denial/v1") {
		if strings.Contains(string(e.Body), `"rule":"dosing-needs-hood"`) {
			denials++
		}
	}
	if denials == 0 {
		t.Error("no denial in the journal names the rule")
	}
	l.wantFinally(id)
	// Lost in mid-dose: the permissive holds until the dose is done.
	l.set("room.airflow", 0.5)
	p := l.submit("pour", "--input", "temperature=40 degC", "--input", "volume=0.2 mL", "--input", "rate=0.8 mL/min")
	l.delivering()
	l.set("room.airflow", 0)
	if r := p.wait(); r.code != exitRefused || !strings.Contains(r.stdout, "dosing-needs-hood") {
		t.Errorf("%v", r)
	}
	after := l.standing()
	for _, pump := range []string{"pump_a", "pump_b"} {
		if c := after[pump]; c.Doses != 1 || c.DosesDone != 0 || c.Dispensed > 0.19 || c.Stops == 0 {
			t.Errorf("%s: %+v", pump, c)
		}
	}
	id = l.newestRun().Run
	for step, pump := range map[string]string{"feed.gold_in": "pump_a", "feed.citrate_in": "pump_b"} {
		o := l.outcomes(id)[step]
		if o.State != lab.Partial || o.Amount == nil || !near(o.Amount.Value, after[pump].Dispensed) {
			t.Errorf("%s: %+v, but %s delivered %.4f mL", step, o, pump, after[pump].Dispensed)
		}
	}
	l.wantFinally(id)
	if rules := l.latched(); rules != "" {
		t.Errorf("a refusal has latched %s", rules)
	}
}

// Overheating in mid-run: pumps and heater are stopped, the quench floods the
// vessel, the trip latches, the run is aborted through its finally, and nothing
// goes on until a person who may has reset it.
func TestTrip(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	p := l.submit("pour", "--input", "temperature=70 degC", "--input", "volume=0.2 mL", "--input", "rate=0.6 mL/min")
	l.delivering()
	id := begunRun(p)
	l.fault("reactor", "exotherm", true, map[string]float64{"power": 320}) // more than it loses at 70 degC, less than a fast rise
	r := p.wait()
	if r.code != exitRefused {
		t.Errorf("%v", r)
	}
	wantIn(t, "submit", r.stdout, "abort runaway tripped: reactor_temperature > 95 degC")
	tripped := l.standing()
	for _, pump := range []string{"pump_a", "pump_b"} {
		if c := tripped[pump]; c.Doses != 1 || c.DosesDone != 0 || c.Stops < 1 || c.Dispensed > 0.19 {
			t.Errorf("%s: %+v", pump, c)
		}
	}
	if c := tripped["quench"]; c.Doses != 1 || c.DosesDone != 1 || !near(c.Dispensed, 0.1) {
		t.Errorf("quench: %+v", c)
	}
	if c := tripped["reactor"]; c.HeaterStarts != 1 || c.Stops < 1 || c.Drains != 0 {
		t.Errorf("reactor: %+v; the heater is off, and no cleanup follows a trip", c)
	}
	l.heaterOff()
	if now := l.run(id); now.State != "aborted" || !strings.Contains(now.Say, "runaway") {
		t.Errorf("%+v", now)
	}
	l.wantFinally(id)
	wantIn(t, "runs", l.must(exitDone, "runs").stdout, "LATCHED   runaway since ", "labgate reset runaway --reason")
	trip := l.journal("--kind", "trip/v1")
	if len(trip) != 1 || !strings.Contains(string(trip[0].Body), `"first_out":true`) {
		t.Errorf("trips in the journal: %+v", trip)
	}
	afterTrip(l)
}

// heaterOff fails unless the heater gets no power any more.
func (l *twoProcesses) heaterOff() {
	l.Helper()
	on := l.count("reactor").HeaterOn
	time.Sleep(200 * time.Millisecond) // long enough for 20 ticks of a heater that is on
	if now := l.count("reactor").HeaterOn; now != on {
		l.Errorf("the heater is on: %g s, then %g s", on, now)
	}
}

// afterTrip: refused while latched, reset by nobody but a person, not while it
// is hot, and then it goes on.
func afterTrip(l *twoProcesses) {
	t := l.TB
	hotter := func(than float64) bool {
		v, err := l.world.Read("reactor", "probe", "temperature")
		if err != nil {
			t.Fatal(err)
		}
		return v.Num > than
	}
	l.fault("reactor", "exotherm", false, nil)
	l.set("exotherm", 420) // heat that no switch ends, and not so much that its rise is a rule of its own
	eventually(t, "it is hot again", func() bool { return hotter(110) })
	l.set("exotherm", 2.5*(110-25)) // what it loses at 110 degC
	eventually(t, "a reset is refused because it is hot", func() bool {
		r := l.must(exitRefused, "reset", "runaway", "--reason", "I want to go on")
		return r.stderr == "labgate: runaway can't be reset: reactor_temperature > 95 degC is still true\n"
	})
	l.set("exotherm", 0)
	before := l.counts()
	r := l.must(exitRefused, "submit", "pour", "--input", "temperature=40 degC", "--within", "2 s")
	wantIn(t, "submit while latched", r.stdout, "runaway is latched on ", "it begins once a person has reset it", "the proposal expired before its instruments were free")
	eventually(t, "it has cooled", func() bool { return !hotter(95) })
	after := l.counts()
	for _, n := range []string{"pump_a", "pump_b", "reactor"} {
		if a, b := after[n], before[n]; a.Doses != b.Doses || a.Dispensed != b.Dispensed || a.HeaterStarts != b.HeaterStarts || a.StirrerStarts != b.StirrerStarts {
			t.Errorf("%s did something while latched: before %+v, after %+v", n, b, a)
		}
	}
	wantIn(t, "reset by an agent", l.must(exitRefused, "reset", "runaway", "--reason", "please", "--as", "planner_1").stderr, "planner_1 is an agent; only an operator or a safety officer may reset")
	wantIn(t, "reset by a scientist", l.must(exitRefused, "reset", "runaway", "--reason", "please", "--as", "scientist_1").stderr, "scientist_1 is a scientist")
	if l.latched() != "runaway" {
		t.Errorf("latched: %q", l.latched())
	}
	// Every signal of the rule has to be good and healthy when it is asked.
	eventually(t, "an operator resets it", func() bool { return l.labgate("reset", "runaway", "--reason", "valve mended").code == exitDone })
	if l.latched() != "" {
		t.Errorf("latched: %q", l.latched())
	}
	reset := l.journal("--kind", "reset/v1")
	if len(reset) != 1 || !strings.Contains(string(reset[0].Body), "valve mended") {
		t.Errorf("resets in the journal: %+v", reset)
	}
	doses := l.count("pump_a").Doses
	l.submitted("pour", "--input", "temperature=40 degC", "--input", "volume=0.02 mL", "--input", "rate=10 mL/min")
	if c := l.count("pump_a"); c.Doses != doses+1 {
		t.Errorf("%+v", c)
	}
}

// A stop while two pumps run: both stop, nothing restarts, and all is refused
// until a person resets it; over NATS, and over the local socket when NATS is
// out of reach.
func TestStop(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		way  string
	}{
		"over NATS":             {[]string{"--reason", "drill"}, "stopped over NATS"},
		"over the local socket": {[]string{"--reason", "drill", "--server", "nats://127.0.0.1:1"}, "stopped over the local socket"},
		"as nobody with a key":  {[]string{"--reason", "drill", "--as", "nobody"}, "stopped over the local socket"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := startLab(t)
			p := l.submit("pour", "--input", "temperature=40 degC", "--input", "volume=0.24 mL", "--input", "rate=0.6 mL/min")
			l.delivering()
			id := begunRun(p)
			began := time.Now()
			r := l.must(exitDone, append([]string{"stop"}, c.args...)...)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the stop took %s", took)
			}
			wantIn(t, "stop", r.stdout, c.way, "latched until a person resets it", "pump_a         confirmed", "pump_b         confirmed", "reactor        confirmed", "quench         kept")
			// The command was answered: from here on not a drop more.
			at := l.counts()
			after := l.standing()
			for _, pump := range []string{"pump_a", "pump_b"} {
				if a := after[pump]; a.Dispensed != at[pump].Dispensed || a.Dispensed > 0.23 || a.Doses != 1 || a.DosesDone != 0 {
					t.Errorf("%s: confirmed at %+v, now %+v", pump, at[pump], a)
				}
			}
			l.heaterOff()
			if r := p.wait(); r.code != exitRefused || !strings.Contains(r.stdout, "abort stopped by") || !strings.Contains(r.stdout, "drill") {
				t.Errorf("the submit: %v", r)
			}
			l.wantFinally(id)
			wantIn(t, "runs", l.must(exitDone, "runs").stdout, "LATCHED   stop since ", "drill", "aborted")
			r = l.must(exitRefused, "submit", "pour", "--input", "temperature=40 degC", "--within", "2 s")
			wantIn(t, "submit while stopped", r.stdout, "stopped by", "drill", "it begins once a person has reset it", "the proposal expired")
			if now := l.counts(); now["pump_a"] != after["pump_a"] || now["reactor"].StirrerStarts != after["reactor"].StirrerStarts {
				t.Errorf("something moved while stopped: %+v", now)
			}
			l.must(exitRefused, "reset", "stop", "--reason", "please", "--as", "planner_1")
			l.must(exitDone, "reset", "stop", "--reason", "drill over")
			l.submitted("pour", "--input", "temperature=40 degC", "--input", "volume=0.02 mL", "--input", "rate=10 mL/min")
		})
	}
}

// One instrument is stopped, the others go on; with the station gone a stop
// says loudly that it did not get through.
func TestStopOneAndNone(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	p := l.submit("coat-films", "--input", "films=5")
	eventually(t, "the cell coats", func() bool { return l.count("cell").Films > 0 })
	r := l.must(exitDone, "stop", "stage")
	if strings.Contains(r.stdout, "pump_a") || !strings.Contains(r.stdout, "stage          confirmed") {
		t.Errorf("%v", r)
	}
	if r := p.wait(); r.code != exitDone {
		t.Errorf("the cell was stopped too: %v", r)
	}
	if l.latched() != "stop/stage" {
		t.Errorf("latched: %q", l.latched())
	}
	r = l.must(exitRefused, "stop", "stege")
	wantIn(t, "stop of nothing", r.stdout+r.stderr, "stege", "not an instrument of this gateway")
	if r := l.serve.interrupt(); r.code != exitDone {
		t.Errorf("serve: %v", r)
	}
	r = l.must(exitRefused, "stop")
	wantIn(t, "stop without a station", r.stderr, "THE STOP DID NOT GET THROUGH: use the hard-wired emergency stop")
	l.startServe()
	if l.latched() != "stop/stage" {
		t.Errorf("latched after a restart: %q", l.latched())
	}
}

// The bus dies under a running station: the local socket still stops the
// pumps. Here the parts share a process, so that the server can be taken away
// from under them.
func TestStopWithTheServerGone(t *testing.T) {
	t.Parallel()
	l := &twoProcesses{TB: t, lab: benchLab(t), data: tempDir(t)}
	cfg, err := loadLab(l.lab)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	world, err := startFaces(ctx, 1, folder(l.data), folder(l.data).broker, nil)
	if err != nil {
		t.Fatal(err)
	}
	var said output
	s, err := openStation(ctx, stationOptions{Config: cfg, Data: folder(l.data), Sim: func(n string) (string, error) { return world.Addresses()[n], nil },
		Log: func(line string) { _, _ = said.Write([]byte(line + "\n")) }}) // a buffer takes everything
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, s.Close(), world.Wait()); err != nil {
			t.Error(err)
		}
	})
	ready, stop := context.WithTimeout(ctx, patience)
	defer stop()
	if err := s.waitReady(ready, nil); err != nil {
		t.Fatal(err)
	}
	l.dialWorld()
	agent := connectAs(t, l.data, "planner_1")
	if v := agent.propose(proposal("p", "pour", "1.0.0", `,"inputs":{"temperature":{"value":40,"unit":"degC"},"volume":{"value":0.24,"unit":"mL"},"rate":{"value":0.6,"unit":"mL/min"}}`)); v.Decision != "accepted" {
		t.Fatalf("%+v", v)
	}
	l.delivering()
	s.server.Shutdown()
	var out, errs bytes.Buffer
	if code := execute(ctx, []string{"stop", "--reason", "the network is down", "--data", l.data}, &out, &errs); code != exitDone {
		t.Fatalf("exit %d\n%s%s\nthe station said:\n%s", code, &out, &errs, &said)
	}
	wantIn(t, "stop", out.String(), "stopped over the local socket", "pump_a         confirmed", "pump_b         confirmed")
	at := l.counts()
	after := l.standing()
	for _, pump := range []string{"pump_a", "pump_b"} {
		if a := after[pump]; a.Dispensed != at[pump].Dispensed || a.Dispensed > 0.23 || a.Doses != 1 {
			t.Errorf("%s: confirmed at %+v, now %+v", pump, at[pump], a)
		}
	}
	l.heaterOff()
	st, err := localStatus(ctx, s.context.Control)
	if err != nil || len(st.Latches) == 0 || st.Latches[0].Rule != "stop" {
		t.Errorf("%+v, %v", st, err)
	}
}
