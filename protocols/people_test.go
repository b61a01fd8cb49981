package protocols_test

import (
	"slices"
	"strings"
	"testing"

	"labgate/lab"
	"labgate/protocols"
)

// asking is a protocol with a step for a person, samples, positions and a table.
const asking = `protocol: asking
version: 1.0.0
inputs: {volume: {unit: mL, min: 0.05, max: 0.2, default: 0.1}}
samples:
  vial_1: {lot: L-42, about: The first.}
  vial_2: {}
roles:
  gold:    {is: pump/v1}
  optics:  {is: spectrometer/v1}
  stage:   {is: stage/v1}
outputs:
  peaks: {table: {n: "1", at: mm, peak: nm}, rows: each.spots, of: {n: i, at: spot.x, peak: read.peak}, required: true}
steps:
  - {id: load, ask: Put the vials in., by: operator, timeout: 10 min, gives: {share: {unit: "1", min: 0.1, max: 0.9}, clean: {type: bool, default: true}}}
  - id: each
    repeat: {over: {vial: samples}}
    steps:
      - {id: feed, do: gold.dose, with: {volume: = volume * load.share, rate: 6 mL/min}, sample: vial}
      - id: spots
        repeat: {over: {spot: [{x: 1 mm, y: 2 mm}, {x: 2 mm, y: 4 mm}]}}
        steps:
          - {do: stage.move, with: {x: = spot.x, y: = spot.y, z: 1 mm}}
          - {id: read, do: optics.spectrum, gives: {peak: peak}, sample: vial, on_error: {retry: 1, hold: 30 min, then: skip}}
      - {id: good, if: load.clean and vial == vial_1, then: [{pass: vial, because: The peak is there.}], else: [{reject: vial, because: There is none.}]}
`

// What a person answers is checked as inputs are, and is known to the steps
// after it; its bounds are known before.
func TestAskStep(t *testing.T) {
	pl := bind(t, asking, nil)
	s := pl.Protocol.Step("load")
	for role, want := range map[string]bool{"operator": true, "scientist": false, "safety": false, "agent": false, "anyone": false, "": false} {
		if s.MayAnswer(role) != want {
			t.Errorf("%q may answer: %v", role, !want)
		}
	}
	anyone := parse(t, strings.Replace(asking, "by: operator", "by: anyone", 1)).Step("load")
	for role, want := range map[string]bool{"operator": true, "scientist": true, "safety": true, "agent": false, "anyone": false} {
		if anyone.MayAnswer(role) != want {
			t.Errorf("anyone: %q may answer: %v", role, !want)
		}
	}
	for what, given := range map[string]map[string]lab.Value{"missing": nil, "out of bounds": {"share": quantity(2, "1")}, "unknown": {"share": quantity(0.5, "1"), "mass": quantity(1, "mg")},
		"wrong type": {"share": lab.BoolValue(true)}} {
		if out, is := s.CheckAnswers(given); out != nil || len(is) != 1 || !strings.HasPrefix(is[0].Path, "values.") {
			t.Errorf("%s: %v, %v", what, out, is)
		}
	}
	out, is := s.CheckAnswers(map[string]lab.Value{"share": quantity(0.5, "1")})
	if len(is) > 0 || !out["clean"].Bool {
		t.Fatal(out, is)
	}
	v := pl.NewValues()
	feed := pl.Protocol.Step("each.feed")
	if _, is := v.Args(t0, feed); len(is) != 1 || is[0].Code != "no_value" {
		t.Errorf("before the answer: %v", is)
	}
	v.Answered(t0, s, out)
	if args, is := v.Args(t0, feed); len(is) > 0 || args["volume"].Num != 0.05 {
		t.Errorf("%v, %v", args, is)
	}
	v.Skip(t0, s)
	if _, is := v.Args(t0, feed); len(is) != 1 {
		t.Error("skipped, and it has a value still")
	}
	// At worst 0.9 of the greatest volume, a person at the last moment, and each
	// of four holds to its end.
	all, is := protocols.BindAll(pl.Protocol, demoLab(t).Lab)
	if len(is) > 0 {
		t.Fatal(is)
	}
	args := all.ArgsOver(feed, all.Ranges())
	if iv, ok := args[0].Interval(); !ok || iv.Lo < 0.05*0.1e-6*0.99 || iv.Hi > 0.2*0.9e-6*1.01 {
		t.Errorf("%+v, %v", iv, ok)
	}
	if least := 4*30*60.0 + 600; pl.Bill.Worst.Seconds() < least || pl.Bill.Worst.Seconds() > least+1200 || pl.Bill.Expected.Seconds() > 200 {
		t.Errorf("%+v", pl.Bill)
	}
}

// The sample of a step, the parts of a position and the rows of a table are
// those of the iteration.
func TestIterationsOverSamples(t *testing.T) {
	pl := bind(t, asking, nil)
	p, v := pl.Protocol, pl.NewValues()
	v.Answered(t0, p.Step("load"), map[string]lab.Value{"share": quantity(0.5, "1"), "clean": lab.BoolValue(true)})
	each, spots, read := p.Step("each"), p.Step("each.spots"), p.Step("each.spots.read")
	v.Enter(t0, each)
	peak := 500.0
	for i, name := range []string{"vial_1", "vial_2"} {
		v.BeginIteration(t0, each, i+1)
		if s := v.SampleOf(read); s == nil || s.Name != name {
			t.Errorf("%d: %+v", i, s)
		}
		v.Enter(t0, spots)
		for k := range 2 {
			v.BeginIteration(t0, spots, k+1)
			args, is := v.Args(t0, p.Step("each.spots.step_1"))
			if len(is) > 0 || args["x"].Num != float64(k+1) || args["y"].Num != float64(2*k+2) {
				t.Errorf("%v, %v", args, is)
			}
			if peak++; peak != 503 { // of one row nothing is known
				if _, err := v.Gave(t0, read, map[string]lab.Value{"peak": quantity(peak, "nm")}); err != nil {
					t.Fatal(err)
				}
			}
			v.EndIteration(t0, spots)
		}
		v.EndIteration(t0, each)
	}
	out, is := v.Outputs(t0)
	if len(is) > 0 {
		t.Fatal(is)
	}
	got := out["peaks"].Table
	if !slices.Equal(got.Data[0], []float64{1, 2, 2}) || !slices.Equal(got.Data[1], []float64{1, 2, 2}) || !slices.Equal(got.Data[2], []float64{501, 502, 504}) {
		t.Errorf("%+v", got)
	}
	if _, is := bind(t, asking, nil).NewValues().Outputs(t0); len(is) != 1 || is[0].Code != "output_missing" {
		t.Errorf("an empty table: %v", is)
	}
	if s := p.Sample("vial_1"); s.Lot != "L-42" || p.Sample("vial_3") != nil {
		t.Errorf("%+v", s)
	}
}

// A role with a range takes only an instrument whose limits allow it; what is
// missing is said.
func TestRoleRange(t *testing.T) {
	c := demoLab(t)
	file := func(r string) *protocols.Protocol {
		return parse(t, "protocol: ranged\nversion: 1.0.0\nroles: {heater: {is: thermostat/v1, range: {"+r+"}}}\nsteps:\n  - {do: heater.heat_off}\n")
	}
	var top float64
	for _, in := range c.Lab.Instruments {
		for _, l := range in.Limits {
			if l.Arg == "target" && l.Max != nil {
				top = l.Max.Value
			}
		}
	}
	if top == 0 {
		t.Fatal("the demo lab bounds no target")
	}
	for text, fits := range map[string]bool{
		"target: {min: 20 degC, max: " + lab.FormatNumber(top) + " degC}":          true,
		"heat.target: {max: " + lab.FormatNumber(top) + " degC}":                   true,
		"target: {min: 20 degC, max: " + lab.FormatNumber(top+1) + " degC}":        false,
		"heat.target: {min: 30 degC, max: " + lab.FormatNumber(top+100) + " degC}": false,
	} {
		_, is := protocols.Bind(file(text), c.Lab, nil)
		if fits != (len(is) == 0) {
			t.Errorf("%s: %v", text, is)
		}
		if !fits && (len(is) != 1 || is[0].Code != "role_unfilled" || !strings.Contains(is[0].Allowed, "degC") || !strings.Contains(is[0].Hint, "up to "+lab.FormatNumber(top))) {
			t.Errorf("%s: %+v", text, is)
		}
	}
}

// What people read, and the names of substances and lots, may be in any script;
// what is told apart by eye in a name may not.
func TestOtherScripts(t *testing.T) {
	for text, ok := range map[string]bool{
		strings.Replace(asking, "Put the vials in.", "Поставьте пробирки – «осторожно».", 1):               true,
		strings.Replace(asking, "The peak is there.", "Der Gipfel ist da bei 5 µL bei 20 °C", 1):           true,
		strings.Replace(asking, "lot: L-42", "lot: партия–42", 1):                                          true,
		strings.Replace(asking, "lot: L-42", "lot: Lоt-42", 1):                                             false,
		strings.Replace(asking, "gold:    {is: pump/v1}", "gold: {is: pump/v1, holds: {substance: 水}}", 1): true,
		strings.Replace(asking, "vial_2: {}", "viаl_2: {}", 1):                                             false,
		strings.Replace(asking, "volume * load.share", "volume * lоad.share", 1):                           false,
	} {
		if text == asking {
			t.Fatal("nothing is changed")
		}
		_, issues := protocols.Parse("test.yaml", []byte(text), demoLab(t).Classes)
		if ok != (len(issues) == 0) || !ok && !slices.ContainsFunc(issues, func(i lab.Issue) bool { return i.Code == "homoglyph" && i.Hint != "" }) {
			t.Errorf("%v", issues)
		}
	}
}

// Another text, lot or policy is another protocol.
func TestHashOfNewKeys(t *testing.T) {
	hash := parse(t, asking).Hash
	for _, x := range [][2]string{{"Put the vials in.", "Take the vials out."}, {"L-42", "L-43"}, {"hold: 30 min", "hold: 31 min"}, {"by: operator", "by: anyone"},
		{"sample: vial, on_error", "on_error"}, {"n: i,", "n: 2 * i,"}, {"because: There is none.", "because: It broke."}, {"x: 2 mm, y: 4 mm", "x: 2 mm, y: 5 mm"}} {
		if !strings.Contains(asking, x[0]) {
			t.Fatal(x)
		}
		if parse(t, strings.Replace(asking, x[0], x[1], 1)).Hash == hash {
			t.Errorf("%s: the same hash as %s", x[1], x[0])
		}
	}
}
