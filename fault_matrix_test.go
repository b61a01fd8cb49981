package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"

	"labgate/lab"
	"labgate/messages"
)

// faultRow is one fault on one wire, and what the station makes of it: a row of
// the table in docs/instruments.md. fault_matrix_rows_test.go has them all.
type faultRow struct {
	wire, fault string
	job         string // what is under way: the name of one of faultJobs
	early       bool   // the fault is there before the command is sent; else it comes in mid-command
	quick       bool   // also without LABGATE_HEAVY
	on, off     func(*faultLab)
	lasts       time.Duration // how long it is on; 0: 3 s

	good bool // the readings stay good: a new connection is sooner than their max_age, or no single reading shows this fault
	then course
}

// faultJob is a command on one instrument, as a protocol, and the world's own
// count of its effect.
type faultJob struct {
	instrument string
	watch      lab.PropertyID // whose quality is watched
	maxAge     time.Duration
	steps      string
	count      func(l *faultLab) int
}

var faultJobs = map[string]faultJob{
	"dose": {"pump_a", lab.PropertyID{Instrument: "pump_a", Component: "pump", Property: "dispensed"}, 2 * time.Second,
		"roles: {p: {is: pump/v1, holds: {substance: HAuCl4, concentration: 1 mmol/L}}}\nsteps:\n  - {id: job, do: p.dose, with: {volume: 0.1 mL, rate: 2 mL/min}}\n",
		func(l *faultLab) int { return l.count("pump_a").Doses }},
	"move": {"stage", lab.PropertyID{Instrument: "stage", Component: "xyz", Property: "x"}, 2 * time.Second,
		"roles: {s: {is: stage/v1}}\nsteps:\n  - {id: job, do: s.move, with: {x: 9 mm, y: 0 mm, z: 0 mm}}\n",
		func(l *faultLab) int { return l.count("stage").Moves }},
	"heat": {"reactor", lab.PropertyID{Instrument: "reactor", Component: "jacket", Property: "temperature"}, time.Second,
		"roles: {r: {is: thermostat/v1}}\nsteps:\n  - {id: job, do: r.heat, with: {target: 45 degC}}\n",
		func(l *faultLab) int { return l.count("reactor").HeaterStarts }},
	"coat": {"cell", lab.PropertyID{Instrument: "cell", Component: "line", Property: "state"}, 2 * time.Second,
		"roles: {c: {is: packml-cell/v1}}\nsteps:\n  - {do: c.reset}\n  - {id: job, do: c.coat, with: {films: 3, speed: 10 mm/s}}\n",
		func(l *faultLab) int { return l.count("cell").Batches }},
	"shot": {"camera", lab.PropertyID{Instrument: "camera", Component: "camera", Property: "exposing"}, 3 * time.Second,
		"roles: {c: {is: camera/v1}}\nsteps:\n  - {id: job, do: c.capture, with: {exposure: 2 s}}\n",
		func(l *faultLab) int { return l.count("camera").Exposures }},
}

// faultLab is a station whose every wire goes through a proxy of the test's.
type faultLab struct {
	*twoProcesses
	station *station
	agent   *outsider
	heard   chan reading

	pumps, stage         *proxy
	reactor, cell, mqtts *proxy
}

// reading is a telemetry message, as far as the matrix needs it.
type reading struct {
	Instrument, Component, Property string
	Reading                         lab.Reading
	at                              time.Time
}

// labWithoutRules is the demo lab as it is without interlocks: what happens is
// then the links' doing alone.
func labWithoutRules(t testing.TB) string {
	t.Helper()
	dir := benchLab(t)
	path := filepath.Join(dir, "lab.yaml")
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.Replace(string(b), "interlocks: interlocks.yaml\n", "", 1)), 0o644)
	}
	for name, job := range faultJobs {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "protocols", name+".yaml"), []byte("protocol: job-"+name+"\nversion: 1.0.0\nbudget: {time: 5 min, exposures: 5}\n"+job.steps), 0o644)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// newFaultLab may have protocols of the test's own beside the jobs.
func newFaultLab(t testing.TB, protocols ...string) *faultLab {
	t.Helper()
	l := &faultLab{twoProcesses: &twoProcesses{TB: t, lab: labWithoutRules(t), data: tempDir(t), serve: &process{}}, heard: make(chan reading, 4096)}
	for i, text := range protocols {
		if err := os.WriteFile(filepath.Join(l.lab, "protocols", fmt.Sprintf("own-%d.yaml", i)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	world, err := startFaces(ctx, 1, folder(l.data), folder(l.data).broker, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := world.Addresses()
	host := func(raw string) func() string {
		return func() string { u, _ := url.Parse(raw); return u.Host }
	}
	l.pumps, l.stage = ptyProxy(t, func() string { return at["pumps"] }), ptyProxy(t, func() string { return at["stage"] })
	l.reactor, l.cell = tcpProxy(t, host(at["reactor"])), tcpProxy(t, host(at["cell"]))
	cfg, err := loadLab(l.lab)
	if err != nil {
		t.Fatal(err)
	}
	through := func(name string) (string, error) {
		switch name {
		case "pumps":
			return l.pumps.at(), nil
		case "stage":
			return l.stage.at(), nil
		case "reactor":
			return "opc.tcp://" + l.reactor.address, nil
		}
		return "opc.tcp://" + l.cell.address, nil
	}
	l.station, err = openStation(ctx, stationOptions{Config: cfg, Data: folder(l.data), Sim: through, Log: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	l.mqtts = tcpProxy(t, host(l.station.context.MQTT))
	l.station.context.MQTT = "tcp://" + l.mqtts.address // the devices go there directly
	ended := make(chan error, 1)
	go func() { ended <- l.station.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, l.station.Close(), world.Wait()); err != nil {
			t.Error(err)
		}
	})
	ready, stop := context.WithTimeout(ctx, patience)
	defer stop()
	if err := l.station.waitReady(ready, nil); err != nil {
		t.Fatal(err)
	}
	l.dialWorld()
	l.agent = connectAs(t, l.data, "planner_1")
	l.listen()
	return l
}

// listen takes the readings that the station tells of, as an operator.
func (l *faultLab) listen() {
	operator := connectAs(l, l.data, "operator_1")
	_, err := operator.nc.Subscribe("lab.demo.gw.bench.*.telemetry.>", func(m *nats.Msg) {
		var r reading
		if err := json.Unmarshal(m.Data, &r); err == nil {
			r.at = time.Now()
			select {
			case l.heard <- r:
			default: // a test that does not look
			}
		}
	})
	if err == nil {
		err = operator.nc.Flush()
	}
	if err != nil {
		l.Fatal(err)
	}
}

// quality waits until readings of a property are good, or are not, and returns
// how long that took.
func (l *faultLab) quality(id lab.PropertyID, good bool, within time.Duration) time.Duration {
	l.Helper()
	began := time.Now()
	for late := time.After(within); ; {
		select {
		case r := <-l.heard:
			if r.Instrument == id.Instrument && r.Component == id.Component && r.Property == id.Property && (r.Reading.Quality == lab.Good) == good && r.at.After(began) {
				return time.Since(began)
			}
		case <-late:
			l.Errorf("%s did not become good=%v within %v", id, good, within)
			return within
		}
	}
}

// propose begins a job and returns its run.
func (l *faultLab) propose(job string) string {
	l.Helper()
	v := l.agent.propose(proposal("p1", "job-"+job, "1.0.0", ""))
	if v.Decision != "accepted" {
		l.Fatalf("%+v", v)
	}
	return v.Run
}

// slack is how much later than it should a thing may be seen, on a busy
// machine, through the bus.
const slack = 1500 * time.Millisecond

func (row *faultRow) name() string {
	when := "in mid-command"
	if row.early {
		when = "before the command"
	}
	return fmt.Sprintf("%s: %s, %s", row.wire, row.fault, when)
}

// TestFaultMatrix switches on every fault on every wire, on the real wire, and
// holds what happens against the world's own count: no effect twice, readings
// that can't be trusted any more said to be so within their max_age, every
// command ended in an outcome, and all well again once the fault is gone.
func TestFaultMatrix(t *testing.T) {
	t.Parallel()
	for _, row := range faultRows {
		t.Run(strings.NewReplacer(" ", "_", "/", "_").Replace(row.name()), func(t *testing.T) {
			if !heavy && !row.quick {
				t.Skip("one of the heavy rows: LABGATE_HEAVY=1")
			}
			t.Parallel()
			row.try(newFaultLab(t))
		})
	}
}

// TestFaultTable keeps the table in docs/instruments.md in step with the rows.
func TestFaultTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("| wire | fault | comes | under way | readings | the command | effects |\n|---|---|---|---|---|---|---|\n")
	for _, row := range faultRows {
		comes, readings, effects := "in mid-command", "bad within `max_age`", ""
		if row.early {
			comes = "before"
		}
		if row.good {
			readings = "good"
		}
		for i, n := range row.then.effects {
			effects += []string{"", " or "}[min(i, 1)] + fmt.Sprint(n)
		}
		job := faultJobs[row.job]
		fmt.Fprintf(&b, "| %s | %s | %s | `%s` on %s | %s | %s | %s |\n", row.wire, row.fault, comes, row.job, job.instrument, readings, row.then.say, effects)
	}
	keepInStep(t, "docs/instruments.md", map[string]string{"faults": b.String()})
}

func (row *faultRow) try(l *faultLab) {
	job := faultJobs[row.job]
	lasts := row.lasts
	if lasts == 0 {
		lasts = 3 * time.Second
	}
	var run string
	if row.early {
		row.on(l)
		row.seen(l, job)
		if !row.good { // a proposal would find the link as it was, for as long as nobody has missed it
			eventually(l, "the station says that the link is down", func() bool {
				_, status := l.runs()
				return slices.ContainsFunc(status.Links, func(k messages.LinkStatus) bool { return k.Instrument == job.instrument && !k.Up })
			})
		}
		run = l.propose(row.job)
		time.Sleep(time.Second)
		if row.good { // the fault is the device's, not the link's: it lasts as long as the command
			l.settleAll(row)
		} else if n := job.count(l); n != 0 {
			l.Errorf("%d effects by a link that is not there", n)
		}
		row.off(l)
	} else {
		run = l.propose(row.job)
		eventually(l, "the command has begun", func() bool { return job.count(l) > 0 })
		began := time.Now()
		row.on(l)
		row.seen(l, job)
		time.Sleep(time.Until(began.Add(lasts)))
		row.off(l)
	}
	l.settleAll(row)
	eventually(l, "the run is over", func() bool { return l.run(run).Ended != nil })
	row.ended(l, run, job)
	l.quality(job.watch, true, 20*time.Second)
}

// seen checks that the readings are, or are not, said to be bad in time.
func (row *faultRow) seen(l *faultLab, job faultJob) {
	l.Helper()
	if !row.good {
		l.quality(job.watch, false, job.maxAge+slack)
	}
}

// settleAll waits until nothing is in doubt, or says what became of it where
// evidence can't.
func (l *faultLab) settleAll(row *faultRow) {
	l.Helper()
	asked := time.Now()
	eventually(l, "nothing is in doubt", func() bool {
		runs, status := l.runs()
		if len(status.InDoubt) > 0 && time.Since(asked) > 4*time.Second {
			if !row.then.settle && !l.Failed() {
				l.Errorf("in doubt: %+v", status.InDoubt)
			}
			for _, d := range status.InDoubt {
				l.must(exitDone, "resolve", d.Command, "done", "--reason", "looked at by the test")
			}
		}
		for _, r := range runs {
			if r.State == "held" {
				l.labgate("abort", r.Run, "--as", "operator_1", "--reason", "the test has seen enough")
			}
		}
		return len(status.InDoubt) == 0 && !slices.ContainsFunc(runs, func(r messages.RunInfo) bool { return r.Ended == nil })
	})
}

// ended checks the books against the world.
func (row *faultRow) ended(l *faultLab, run string, job faultJob) {
	l.Helper()
	if n := job.count(l); !slices.Contains(row.then.effects, n) {
		l.Errorf("%d effects: want %v", n, row.then.effects)
	}
	intents, outcomes := map[string]bool{}, map[string][]lab.Outcome{}
	for _, e := range l.journal("--run", run) {
		var o lab.Outcome
		switch e.Kind {
		case "intent/v1":
			intents[e.Command] = true
		case "outcome/v1":
			if err := json.Unmarshal(e.Body, &o); err != nil {
				l.Fatal(err)
			}
			if e.Step == "job" && len(outcomes[e.Command]) == 0 && !slices.Contains(row.then.ends, o.State) {
				l.Errorf("the command is %s (%s): want one of %v", o.State, o.Say, row.then.ends)
			}
			outcomes[e.Command] = append(outcomes[e.Command], o)
		}
	}
	if len(intents) == 0 && !slices.Contains(row.then.effects, 0) {
		l.Errorf("no command was meant: %+v", l.run(run))
	}
	for id := range intents {
		if len(outcomes[id]) == 0 {
			l.Errorf("command %s has no outcome", id)
		}
	}
	for id, list := range outcomes {
		if last := list[len(list)-1]; !last.State.Final() {
			l.Errorf("command %s ended as %s (%s)", id, last.State, last.Say)
		}
		for _, o := range list {
			l.Logf("%s %s: %s", id, o.State, o.Say)
		}
	}
	l.Logf("effects: %d", job.count(l))
}

// intrude opens and claims a line that has an owner, and must not get it.
func (l *faultLab) intrude(path string) {
	l.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		l.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		l.Error("a second owner could claim the line")
	}
}

// publish says something on a device's topic in its name.
func (l *faultLab) publish(topic string, payload []byte) { l.say(topic, payload, false) }

func (l *faultLab) retain(topic, payload string) { l.say(topic, []byte(payload), true) }

func (l *faultLab) say(topic string, payload []byte, retained bool) {
	l.Helper()
	st, err := folder(l.data).readContext()
	if err != nil {
		l.Fatal(err)
	}
	c := paho.NewClient(paho.NewClientOptions().AddBroker(st.MQTT).SetUsername(st.MQTTUser).SetPassword(st.MQTTPassword).SetClientID("intruder"))
	if tok := c.Connect(); !tok.WaitTimeout(patience) || tok.Error() != nil {
		l.Fatal(tok.Error())
	}
	// A broker may cut whoever says too much: what matters is what the others do.
	c.Publish(topic, 1, retained, payload).WaitTimeout(3 * time.Second)
	c.Disconnect(100)
}
