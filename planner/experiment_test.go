package planner

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"labgate/lab"
	"labgate/messages"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}

func examples() []Experiment {
	nm := func(v float64) lab.Value { return lab.NumberValue(lab.Q(v, "nm")) }
	inputs := func(r, temp float64) map[string]lab.Quantity { return setting{r, temp, volumeML}.inputs() }
	predicted := func(v, sd float64) map[string]messages.Prediction {
		return map[string]messages.Prediction{"peak": {Value: v, SD: sd, Unit: "nm"}}
	}
	nearest := lab.NumberValue(lab.Q(85, "degC"))
	image := lab.BlobValue(&lab.BlobRef{Hash: lab.HashText(nil), Media: "image/png", Size: 4096})
	full := func(peak float64) map[string]lab.Value {
		return map[string]lab.Value{"peak": nm(peak), "spectrum": lab.TableValue(spectrum(256, peak)), "image": image}
	}
	return []Experiment{
		{N: 1, Run: "01K1", Key: "c/1", Tries: 1, Inputs: inputs(0.48, 61.5), Predicted: predicted(530, 12.816), Measured: full(535.25), Images: 1, Seconds: 8.21549, Exit: messages.ExitSuccess, Hypothesis: "exploring"},
		{N: 2, Run: "01K2", Key: "c/2-2", Tries: 2, Inputs: inputs(1.1, 85), Predicted: predicted(531, 8), Measured: full(526.6), Images: 1, Seconds: 7.5, Exit: messages.ExitSuccess, Hypothesis: "the nearest that is allowed",
			Issues: lab.Issues{{Code: "out_of_bounds", Path: "inputs.temperature", Got: "90 degC", Allowed: "at most 85 degC", Repairable: true, Nearest: &nearest, Say: "temperature is 90 degC; at most 85 degC is allowed"}}},
		{N: 3, Run: "01K3", Key: "c/3", Tries: 1, Inputs: inputs(1.02, 70), Predicted: predicted(527.1, 0.9), Measured: map[string]lab.Value{"peak": nm(527)}, Seconds: 3, Exit: messages.ExitAbort, Say: "runaway tripped"},
		{N: 4, Key: "c/4", Tries: 1, Inputs: inputs(1.04, 70), Predicted: predicted(527.1, 0.9), Exit: ExitRejected, Say: "rejected: the lab is closed"},
	}
}

func TestLines(t *testing.T) {
	var b bytes.Buffer
	exps := examples()
	for _, e := range exps {
		line, err := ExperimentLine(e)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(line, '\n'))
	}
	for _, list := range [][]Experiment{exps, exps[2:], nil} {
		line, err := SummaryLine(list, 527, "/data/demo")
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(line, '\n'))
	}
	for _, l := range bytes.Split(bytes.TrimSpace(b.Bytes()), []byte("\n")) {
		if !json.Valid(l) {
			t.Errorf("no JSON: %s", l)
		}
	}
	golden(t, "lines.jsonl", b.Bytes())
}

func TestPeakAndComplete(t *testing.T) {
	good := examples()[0]
	if p, ok := good.Peak(); p != 535.25 || !ok || !good.Complete() {
		t.Fatal(p, ok)
	}
	for name, v := range map[string]lab.Value{"missing": {}, "text": lab.TextValue("527"), "bare": lab.IntegerValue(527), "a volume": lab.NumberValue(lab.Q(527, "mL")),
		"not a number": lab.NumberValue(lab.Q(math.NaN(), "nm")), "negative": lab.NumberValue(lab.Q(-1, "nm"))} {
		e := good
		e.Measured = map[string]lab.Value{"peak": v, "spectrum": good.Measured["spectrum"]}
		if _, ok := e.Peak(); ok || e.Complete() {
			t.Errorf("%s counts as a peak", name)
		}
	}
	um := good
	um.Measured = map[string]lab.Value{"peak": lab.NumberValue(lab.Q(0.5275, "um"))}
	if p, ok := um.Peak(); !ok || math.Abs(p-527.5) > 1e-9 {
		t.Errorf("0.5275 um is %v nm, %v", p, ok)
	}
	for name, spoil := range map[string]func(*Experiment){"no image": func(e *Experiment) { e.Images = 0 }, "aborted": func(e *Experiment) { e.Exit = messages.ExitAbort },
		"no spectrum": func(e *Experiment) { e.Measured = map[string]lab.Value{"peak": good.Measured["peak"]} }} {
		e := good
		spoil(&e)
		if e.Complete() {
			t.Errorf("%s: complete", name)
		}
	}
}

func TestMissingOutputsAreAbsent(t *testing.T) {
	var e Experiment
	e.setMeasured(map[string]lab.Value{"peak": {}, "n": lab.IntegerValue(3), "log": lab.BlobValue(&lab.BlobRef{Media: "text/plain"}), "a": lab.BlobValue(&lab.BlobRef{Media: "image/tiff"})})
	if len(e.Measured) != 3 || e.Images != 1 {
		t.Errorf("%+v", e)
	}
}
