package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Faults of a running world are switched by name, by seed and by a script: at
// its start, over the station's bus, and over the socket where no station
// runs. An agent can't.
func TestFaults(t *testing.T) {
	t.Parallel()
	l := &twoProcesses{TB: t, lab: benchLab(t), data: tempDir(t)}
	script := filepath.Join(tempDir(t), "faults.txt")
	if err := os.WriteFile(script, []byte("# a quiet start\nafter 100 ms: stage freeze\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l.sim = launch(t, "sim", "--data", l.data, "--fault", "pump_a drop every=3", "--script", script)
	l.dialWorld()
	on := func() map[string][]string {
		f, err := l.world.Faults()
		if err != nil {
			t.Fatal(err)
		}
		return f.On
	}
	eventually(t, "the script froze the stage", func() bool { return len(on()["stage"]) == 1 })
	l.must(exitDone, "fault", "stage", "freeze", "off") // no station yet: by the socket
	if f := on(); len(f["stage"]) != 0 || f["pump_a"][0] != "drop" {
		t.Errorf("%v", f)
	}
	l.startServe()
	r := l.must(exitDone, "fault", "--as", "operator_1", "camera", "drop", "for", "200 ms")
	wantIn(t, "fault", r.stdout, "on: camera drop", "on: pump_a drop")
	eventually(t, "the fault is over by itself", func() bool { return len(on()["camera"]) == 0 })
	l.must(exitDone, "fault", "random", "seed=7", "every=0.1", "for", "300 ms")
	time.Sleep(400 * time.Millisecond)
	l.must(exitRefused, "fault", "--as", "planner_1", "stage", "freeze")
	wantIn(t, "an unknown fault", l.must(exitRefused, "fault", "stage", "burns").stderr, `stage has no fault "burns"; there are actuator_dead`)
	wantIn(t, "an unknown instrument", l.must(exitRefused, "fault", "stege", "drop").stderr, `no instrument "stege"; there are camera`)
	wantIn(t, "nonsense", l.must(exitUsage, "fault", "stage", "drop", "often").stderr, `"often" is no name=number`)
	wantIn(t, "nonsense at the start", run(t, "sim", "--data", tempDir(t), "--fault", "random").stderr, "random needs a seed")
	if f := on(); len(f["stage"]) != 0 {
		t.Errorf("%v", f)
	}
}
