package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// probeOf runs a probe and returns what it found, by instrument.
func probeOf(t *testing.T, l *twoProcesses, code int, args ...string) (found map[string]probed, summary struct {
	OK     bool
	Failed []string
}) {
	t.Helper()
	found = map[string]probed{}
	for _, line := range jsonLines(t, l.must(code, append([]string{"probe", "--json", "--for", "300ms"}, args...)...).stdout) {
		var p probed
		err := json.Unmarshal(line, &p)
		if err == nil && p.Type == "summary" {
			err = json.Unmarshal(line, &summary)
		} else {
			found[p.Instrument] = p
		}
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
	}
	return found, summary
}

// A probe asks real wires, tells what is wrong with which instrument, and moves
// nothing.
func TestProbe(t *testing.T) {
	t.Parallel()
	l := &twoProcesses{TB: t, data: tempDir(t), serve: &process{}}
	l.startSim()

	wired := []string{"reactor", "cell", "pump_a", "pump_b", "quench", "stage"}
	found, summary := probeOf(t, l, exitDone, wired...)
	if !summary.OK || len(found) != len(wired) {
		t.Errorf("%+v, %+v", summary, found)
	}
	if p := found["pump_b"]; !p.OK || p.Identity == "" || p.Reads == 0 || p.Vectors < 10 || p.P50 <= 0 || p.P99 < p.P50 || p.Longest < p.P99 || len(p.Properties) != 3 {
		t.Errorf("%+v", p)
	}
	if p := found["cell"]; !p.Insecure || len(p.Properties) != 6 || p.Properties[0].Value == nil || p.Properties[0].Quality != "good" || !p.Properties[0].OK || p.Properties[0].MaxAge != 2 {
		t.Errorf("%+v", p)
	}

	l.fault("cell", "freeze", true, nil)
	l.fault("pump_a", "nan", true, nil)
	found, summary = probeOf(t, l, exitRefused, wired...)
	if summary.OK || strings.Join(summary.Failed, " ") != "cell pump_a" {
		t.Errorf("%+v", summary)
	}
	for name, say := range map[string]string{"cell": "unavailable", "pump_a": "properties can't be stood upon"} {
		if p := found[name]; p.OK || !strings.Contains(p.Say, say) {
			t.Errorf("%s: %+v; it should say %q", name, p, say)
		}
	}
	l.fault("cell", "freeze", false, nil)
	l.fault("pump_a", "nan", false, nil)

	if p, _ := probeOf(t, l, exitRefused, "camera"); !strings.Contains(p["camera"].Say, "its broker is the station's, and none runs here") {
		t.Errorf("%+v", p)
	}
	if r := l.must(exitUsage, "probe", "pump_z"); !strings.Contains(r.stderr, `no instrument "pump_z"; it has reactor, pump_a`) {
		t.Errorf("%+v", r)
	}
	l.must(exitUsage, "probe", "--for", "0s")
	if text := l.must(exitDone, "probe", "--for", "100ms", "stage").stdout; !strings.Contains(text, "all 1 instruments answer") || !strings.Contains(text, "xyz.moving  false") {
		t.Error(text)
	}
	for name, c := range l.counts() {
		if c.Doses+c.Moves+c.HeaterStarts+c.Exposures+c.Batches+c.Stops > 0 {
			t.Errorf("%s was moved: %+v", name, c)
		}
	}
}

// A line that a station owns is not probed beside it, and Ctrl-C ends a probe.
func TestProbeBesideAStation(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	found, summary := probeOf(t, l, exitRefused)
	for _, name := range summary.Failed {
		if p := found[name]; !strings.HasPrefix(p.Link, "serial ") || !strings.Contains(p.Say, "another owner") {
			t.Errorf("%+v", p)
		}
	}
	for _, name := range []string{"camera", "room", "reactor"} {
		if !found[name].OK {
			t.Errorf("%+v", found[name])
		}
	}
	p := launch(t, "probe", "--data", l.data, "--for", "1m", "reactor")
	time.Sleep(500 * time.Millisecond)
	p.signal(os.Interrupt)
	if r := p.wait(); r.code == exitDone || !strings.Contains(r.stderr, "interrupted") {
		t.Errorf("%+v", r)
	}
}
