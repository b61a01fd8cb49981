package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// looking takes pictures, and counts them: an output that is a number, one
// that is an integer, one that is not always there, and no table.
const looking = `protocol: looking
version: 1.0.0
inputs:
  height: {unit: mm, min: 0.5, max: 2, default: 1.2}
  pictures: {type: integer, min: 1, max: 3, default: 2}
roles:
  stage:  {is: stage/v1}
  camera: {is: camera/v1}
budget: {time: 3 min, exposures: 9}
outputs:
  sharpness: {unit: "1", from: scan.last.look.sharpness, required: true}
  taken:     {type: integer, from: scan.i, required: true}
  again:     {unit: "1", from: maybe.more.sharpness}
  image:     {image: true, from: scan.last.look.image}
steps:
  - {id: up, do: stage.move, with: {x: 0 mm, y: 0 mm, z: = height}}
  - id: scan
    repeat: {max: 3, until: i >= pictures}
    steps:
      - {id: look, do: camera.capture, with: {exposure: 20 ms}, gives: {sharpness: sharpness, image: frame}}
  - id: maybe
    if: pictures > 2
    then:
      - {id: more, do: camera.capture, with: {exposure: 20 ms}, gives: {sharpness: sharpness}}
`

// judged is what a verdict says of a proposal, wherever it is read.
type judged struct {
	Decision, Say string
	Issues        []map[string]any
	Proved        []string
	Live          []map[string]any
	Bill          map[string]any
	Hashes        map[string]string
}

// readJudged reads a verdict. An accepted one names its run in its say.
func readJudged(t *testing.T, data []byte) judged {
	t.Helper()
	var j judged
	if err := json.Unmarshal(data, &j); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	if j.Decision == "accepted" {
		j.Say = ""
	}
	return j
}

// rawVerdict proposes and returns the verdict as it came.
func (o *outsider) rawVerdict(id, fields string) []byte {
	o.t.Helper()
	raw := fmt.Sprintf(`{"kind":"proposal/v1","id":%q,"key":"key/%s",%s}`, id, id, fields)
	if _, err := o.nc.Request("lab.demo.proposals."+o.name, []byte(raw), patience); err != nil {
		o.t.Fatal(err)
	}
	for {
		m := o.next("lab.demo.verdicts." + o.name)
		var v struct{ Proposal string }
		if err := json.Unmarshal(m.Data, &v); err == nil && v.Proposal == id {
			return m.Data
		}
	}
}

// The verdict is one: check --json and NATS say the same of the same protocol,
// inputs and lab, hashes and bill included. What was predicted is on record
// before the run, and scored in its stop document.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	file := filepath.Join(t.TempDir(), "looking.yaml")
	if err := os.WriteFile(file, []byte(looking), 0o644); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(looking)
	if err != nil {
		t.Fatal(err)
	}
	scientist := connectAs(t, l.data, "scientist_1")
	t.Run("one verdict", func(t *testing.T) { oneVerdict(t, l, scientist.in(t), file, string(text)) })
	t.Run("predictions", func(t *testing.T) { predictions(t, l, scientist.in(t), string(text)) })
}

func oneVerdict(t *testing.T, l *twoProcesses, scientist *outsider, file, text string) {
	const library = "protocols/library/gold-nanoparticles.yaml"
	gold := `"protocol":{"name":"gold-nanoparticles","version":"1.2.0"},`
	inline := `"protocol_inline":` + text + `,`
	for i, c := range []struct {
		file, protocol, inputs, decision string
		args                             []string
	}{
		{library, gold, `{"temperature":{"value":120,"unit":"degC"},"ratio":{"value":9,"unit":"1"}}`, "rejected", []string{"-i", "temperature=120 degC", "-i", "ratio=9"}},
		{library, gold, `{"temperature":{"value":3,"unit":"mL"}}`, "rejected", []string{"-i", "temperature=3 mL"}},
		{library, gold, `{"speed":{"value":3,"unit":"mL"}}`, "rejected", []string{"-i", "speed=3 mL"}},
		{file, inline, `{"pictures":7}`, "rejected", []string{"-i", "pictures=7"}},
		{file, inline, `{"height":{"value":1.3,"unit":"mm"},"pictures":1}`, "accepted", []string{"-i", "height=1.3 mm", "-i", "pictures=1"}},
	} {
		var out, errs bytes.Buffer
		execute(t.Context(), append([]string{"check", c.file, "--lab", l.lab, "--json"}, c.args...), &out, &errs)
		byCheck := readJudged(t, out.Bytes())
		byNATS := readJudged(t, scientist.rawVerdict(fmt.Sprintf("v%d", i), c.protocol+`"inputs":`+c.inputs))
		if byCheck.Decision != c.decision || byCheck.Hashes["protocol"] == "" || byCheck.Hashes["lab"] == "" || byCheck.Hashes["rules"] == "" || (c.decision == "accepted") != (byCheck.Hashes["plan"] != "") {
			t.Errorf("%s %v: %+v", c.file, c.args, byCheck)
		}
		if d := cmp.Diff(byCheck, byNATS); d != "" {
			t.Errorf("%s %v: check (-) and NATS (+) differ:\n%s", c.file, c.args, d)
		}
	}
	// A file that can't be read: the same issues, at the same places.
	bad := strings.Replace(looking, "role", "rule", 1)
	badFile := filepath.Join(t.TempDir(), "protocol_inline")
	if err := os.WriteFile(badFile, []byte(bad), 0o644); err != nil {
		t.Fatal(err)
	}
	text2, err := json.Marshal(bad)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	execute(t.Context(), []string{"check", badFile, "--lab", l.lab, "--json"}, &out, &errs)
	byCheck, byNATS := readJudged(t, out.Bytes()), readJudged(t, scientist.rawVerdict("bad", `"protocol_inline":`+string(text2)))
	for _, list := range [][]map[string]any{byCheck.Issues, byNATS.Issues} {
		for _, i := range list {
			delete(i, "file") // a path here, no path there
			delete(i, "path")
		}
	}
	if d := cmp.Diff(byCheck.Issues, byNATS.Issues); d != "" || len(byCheck.Issues) < 2 {
		t.Errorf("a bad file: check (-) and NATS (+) differ:\n%s\n%+v", d, byCheck)
	}
}

func predictions(t *testing.T, l *twoProcesses, scientist *outsider, text string) {
	type prediction struct {
		Value, SD float64
		Unit      string
	}
	var v verdictDoc
	raw := scientist.rawVerdict("p1", `"protocol_inline":`+text+`,"predicts":{"sharpness":{"value":0.4,"sd":0.1,"unit":"1"},"taken":{"value":3,"sd":0.5,"unit":"1"},"again":{"value":1,"sd":0,"unit":"1"}}`)
	if err := json.Unmarshal(raw, &v); err != nil || v.Run == "" {
		t.Fatalf("%v: %s", err, raw)
	}
	var start struct{ Predicts map[string]prediction }
	if err := json.Unmarshal(scientist.next("lab.demo.runs.scientist_1."+v.Run+".start").Data, &start); err != nil || start.Predicts["taken"] != (prediction{3, 0.5, "1"}) {
		t.Errorf("%v: the start document has %+v", err, start)
	}
	var stop struct {
		ExitStatus string `json:"exit_status"`
		Outputs    map[string]json.RawMessage
		Scores     map[string]struct {
			Predicted prediction
			Measured  struct {
				Value float64
				Unit  string
			}
			Error float64
			Z     *float64
		}
	}
	if err := json.Unmarshal(scientist.next("lab.demo.runs.scientist_1."+v.Run+".stop").Data, &stop); err != nil || stop.ExitStatus != "success" {
		t.Fatalf("%v: %+v", err, stop)
	}
	taken, sharp := stop.Scores["taken"], stop.Scores["sharpness"]
	if taken.Measured.Value != 2 || taken.Measured.Unit != "1" || taken.Error != -1 || taken.Z == nil || *taken.Z != -2 {
		t.Errorf("an integer: %+v", taken)
	}
	if sharp.Measured.Value <= 0 || sharp.Z == nil || math.Abs(*sharp.Z-(sharp.Measured.Value-0.4)/0.1) > 1e-9 {
		t.Errorf("a number: %+v", sharp)
	}
	if again, ok := stop.Scores["again"]; ok || len(stop.Scores) != 2 {
		t.Errorf("what was not measured has a score: %+v", again)
	}
	// On record before anything moved, and the score afterwards.
	order := map[string]int{}
	for n, e := range l.journal() {
		switch {
		case e.Kind == "proposal/v1" && strings.Contains(string(e.Body), `"taken":{"sd":0.5,"unit":"1","value":3}`),
			e.Kind == "intent/v1" && e.Run == v.Run && order["intent/v1"] == 0,
			e.Kind == "stop_document/v1" && e.Run == v.Run && strings.Contains(string(e.Body), `"scores"`):
			order[e.Kind] = n
		}
	}
	if p, i, s := order["proposal/v1"], order["intent/v1"], order["stop_document/v1"]; p == 0 || p >= i || i >= s {
		t.Errorf("the order of the record: %v", order)
	}
}
