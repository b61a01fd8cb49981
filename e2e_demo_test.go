package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/sim"
	"labgate/sim/faces"
)

// experimentLine is a line of `demo --json`, as far as it is promised.
type experimentLine struct {
	Type      string
	N         int
	Run       string
	Inputs    map[string]lab.Value
	Predicted map[string]struct {
		Value, SD float64
		Unit      string
	}
	Measured struct {
		Peak     lab.Value
		Spectrum struct{ Points int }
		Image    lab.BlobRef
	}
	Images  int
	Seconds float64
}

// The demo, as a machine reads it: three experiments over OPC UA, MQTT and
// serial, each with peak, spectrum and image; a record that is whole; and as
// many physical effects as were asked for, by the simulator's count.
func TestDemo(t *testing.T) {
	t.Parallel()
	data := filepath.Join(tempDir(t), "demo")
	began := time.Now()
	p := launch(t, "demo", "--json", "--experiments", "3", "--headless", "--data", data)
	effects := watchEffects(t, p, filepath.Join(data, "sim.sock"))
	r := p.wait()
	if took := time.Since(began); r.code != exitDone || took > 60*time.Second {
		t.Fatalf("after %s: %v", took, r)
	}
	lines := jsonLines(t, r.stdout)
	if len(lines) != 4 {
		t.Fatalf("%d lines, want 3 experiments and a summary:\n%s", len(lines), r.stdout)
	}
	var runs []string
	var gold, citrate float64 // mL that the experiments asked for
	for i, line := range lines[:3] {
		e := wantExperiment(t, i+1, line)
		gold += e.Inputs["volume"].Num
		citrate += e.Inputs["volume"].Num * e.Inputs["ratio"].Num
		runs = append(runs, e.Run)
	}
	wantSummary(t, lines[3], data, runs)
	a, b := effects["pump_a"], effects["pump_b"]
	if a.Doses != 3 || b.Doses != 3 || !near(a.Dispensed, gold) || !near(b.Dispensed, citrate) {
		t.Errorf("asked for 3 doses each, %.4f and %.4f mL; what happened: %+v, %+v", gold, citrate, a, b)
	}
	if n := effects["camera"].Exposures; n != 3 {
		t.Errorf("the camera took %d images, want 3", n)
	}
	if n := effects["stage"].Moves; n < 1 {
		t.Error("the stage never moved")
	}
	if n := effects["spectrometer"].Exposures; n < 6 {
		t.Errorf("the spectrometer took %d spectra; the peak of each of 3 experiments needs two", n)
	}
	wantRecord(t, data, runs)
}

// watchEffects reads the simulator's count until the demo has ended, and
// returns the last.
func watchEffects(t *testing.T, p *process, socket string) map[string]sim.Count {
	t.Helper()
	var world *faces.Control
	eventually(t, "the demo's world answers", func() (ok bool) {
		var err error
		world, err = faces.Dial(socket)
		return err == nil
	})
	defer world.Close()
	var last map[string]sim.Count
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		all, err := world.Effects()
		if err != nil {
			return last // it has ended
		}
		last = all
		select {
		case <-p.done:
			return last
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("the demo does not end:\n%s%s", &p.out, &p.err)
		}
	}
}

func wantExperiment(t *testing.T, n int, line json.RawMessage) experimentLine {
	t.Helper()
	var e experimentLine
	if err := json.Unmarshal(line, &e); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	peak, predicted := e.Measured.Peak, e.Predicted["peak"]
	switch {
	case e.Type != "experiment" || e.N != n || len(e.Run) != 26:
		t.Errorf("not experiment %d: %s", n, line)
	case peak.Unit.String() != "nm" || peak.Num < 480 || peak.Num > 620:
		t.Errorf("experiment %d: peak %v", n, peak)
	case e.Measured.Spectrum.Points != 256:
		t.Errorf("experiment %d: a spectrum of %d points", n, e.Measured.Spectrum.Points)
	case e.Images != 1 || e.Measured.Image.Media != "image/png" || e.Measured.Image.Size < 1000:
		t.Errorf("experiment %d: %d images, %+v", n, e.Images, e.Measured.Image)
	case predicted.Unit != "nm" || predicted.Value < 480 || predicted.SD <= 0:
		t.Errorf("experiment %d: predicted %+v", n, predicted)
	case e.Seconds < 1 || e.Seconds > 30:
		t.Errorf("experiment %d took %g s", n, e.Seconds)
	}
	return e
}

func wantSummary(t *testing.T, line json.RawMessage, data string, runs []string) {
	t.Helper()
	var s struct {
		Type                  string
		Experiments, Measured int
		Best                  struct{ Run string }
		Data                  string
	}
	if err := json.Unmarshal(line, &s); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if s.Type != "summary" || s.Experiments != 3 || s.Measured != 3 || s.Data != data || !strings.Contains(strings.Join(runs, " "), s.Best.Run) || s.Best.Run == "" {
		t.Errorf("summary: %s", line)
	}
}

// wantRecord checks what a demo leaves: a whole journal, a plot, and for each
// run an export with units, pictures and documents.
func wantRecord(t *testing.T, data string, runs []string) {
	t.Helper()
	r := run(t, "journal", "verify", data, "--json")
	var rep struct {
		OK      bool
		Entries int
		Head    string
	}
	if err := json.Unmarshal([]byte(r.stdout), &rep); r.code != exitDone || err != nil || !rep.OK || rep.Entries < 100 || len(rep.Head) != 64 {
		t.Errorf("journal verify: %v", r)
	}
	wantPNG(t, filepath.Join(data, "demo.png"))
	for _, id := range runs {
		to := filepath.Join(tempDir(t), "export")
		if r := run(t, "export", id, "--to", to, "--data", data); r.code != exitDone {
			t.Fatalf("export: %v", r)
		}
		head, rows := readCSV(t, filepath.Join(to, "measurements.csv"))
		if !strings.Contains(head, "value,unit") || !strings.Contains(rows, ",peak,") || !strings.Contains(rows, ",nm") {
			t.Errorf("measurements.csv: %s\n%s", head, rows)
		}
		if head, _ := readCSV(t, filepath.Join(to, "spectrum.csv")); head != "wavelength [nm],absorbance [1]" {
			t.Errorf("spectrum.csv: %s", head)
		}
		wantPNG(t, filepath.Join(to, "image.png"))
		wantPNG(t, filepath.Join(to, "spectrum.png"))
		wantDocuments(t, filepath.Join(to, "documents.jsonl"), id)
	}
}

func wantPNG(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		_, err = png.Decode(bytes.NewReader(b))
	}
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
}

// readCSV returns a file's first line, and the others.
func readCSV(t *testing.T, path string) (head, rows string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		_, err = csv.NewReader(bytes.NewReader(b)).ReadAll()
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	head, rows, _ = strings.Cut(string(b), "\n")
	return head, rows
}

// wantDocuments: one start, events with data, one stop, all of one run, all
// stamped as simulated.
func wantDocuments(t *testing.T, path, id string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, line := range jsonLines(t, string(b)) {
		var d struct {
			Kind      string
			UID       string
			RunStart  string `json:"run_start"`
			Synthetic bool
		}
		if err := json.Unmarshal(line, &d); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if d.UID != id && d.RunStart != id || !d.Synthetic {
			t.Errorf("a document of another run, or not stamped as synthetic: %s", line)
		}
		n[d.Kind]++
	}
	if n["start/v1"] != 1 || n["stop_document/v1"] != 1 || n["event/v1"] < 3 || n["resource/v1"] != 1 {
		t.Errorf("documents of run %s: %v", id, n)
	}
}
