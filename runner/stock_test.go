package runner_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/runner"
)

// change asks for a change of the stock, as somebody.
func (o *office) change(who string, c messages.StockChange) messages.ControlReply {
	o.Helper()
	o.step(runner.ControlAsked{Principal: who, Control: messages.Control{Kind: messages.KindControl, ID: "x", Action: messages.ControlStockChange, Stock: &c, Reason: "a test"}})
	return o.answers[len(o.answers)-1]
}

// left is what there is of a lot, and how much of it is reserved, in mL.
func (o *office) left(id string) string {
	o.Helper()
	for _, l := range o.core.Stock().Lots {
		if l.ID == id {
			reserved := 0.0
			if l.Reserved != nil {
				reserved = l.Reserved.Value
			}
			return fmt.Sprintf("%.2f, %.2f reserved", l.Left.Value, reserved)
		}
	}
	return "no such lot"
}

func goldLot(id string, ml float64) messages.StockChange {
	c := lab.Q(1, "mmol/L")
	return messages.StockChange{What: messages.LotAdd, Lot: &messages.Lot{ID: id, Substance: "HAuCl4", Concentration: &c, Amount: lab.Q(ml, "mL")}}
}

const doses = `protocol: doses
version: 1.0.0
inputs:
  volume: {unit: mL, min: 0.01, max: 1, default: 0.1}
roles:
  gold: {is: pump/v1, holds: {substance: HAuCl4, concentration: 1 mmol/L}}
steps:
  - {id: feed, do: gold.dose, with: {volume: = volume, rate: 1 mL/min}}
finally:
  - {do: gold.stop}
`

// A lot is taken from by what its instrument is told to do. What is reserved
// for runs that are accepted, and what is in doubt, is not given away twice, also
// not after a restart.
func TestLots(t *testing.T) {
	o := newOffice(t, doses)
	dose := func(key, volume string) string {
		return proposal(key, "doses@1.0.0", `"volume":{"value":`+volume+`,"unit":"mL"}`)
	}
	for _, c := range []messages.StockChange{goldLot("L-1", 0.5), {What: messages.LotLoad, ID: "L-1", Instrument: "pump_a"}} {
		if r := o.change("operator_1", c); !r.OK {
			t.Fatal(r.Say)
		}
	}
	first := o.accepted("scientist_1", dose("a", "0.2"))
	o.accepted("scientist_1", dose("b", "0.2"))
	if got := o.left("L-1"); got != "0.30, 0.20 reserved" { // the first dose is under way
		t.Error(got)
	}
	o.propose("scientist_1", dose("c", "0.2"))
	if v := o.verdicts[len(o.verdicts)-1]; v.Decision != messages.RejectedDecision || v.Issues[0].Code != "lot_too_small" || v.Issues[0].Allowed != "up to 0.1 mL" {
		t.Errorf("%+v", v)
	}
	o.restart()
	if got := o.left("L-1"); got != "0.30, 0.20 reserved" {
		t.Errorf("after a restart: %s", got)
	}
	id := o.queries[0]
	amount := lab.Q(0.05, "mL")
	o.step(runner.OutcomeArrived{Outcome: messages.Outcome{Run: first, Outcome: withID(lab.Outcome{State: lab.InDoubt}, id)}})
	if got := o.left("L-1"); got != "0.30, 0.20 reserved" {
		t.Errorf("in doubt: %s", got)
	}
	o.step(runner.OutcomeArrived{Outcome: messages.Outcome{Run: first, Outcome: withID(lab.Outcome{State: lab.Resolved, As: "partly", Amount: &amount}, id)}})
	if got := o.left("L-1"); got != "0.45, 0.20 reserved" {
		t.Errorf("resolved: %s", got)
	}
	if r := o.control("operator_1", messages.ControlAbort, first); !r.OK {
		t.Fatal(r.Say)
	}
	o.step(runner.OutcomeArrived{Outcome: messages.Outcome{Run: first, Outcome: withID(lab.Outcome{State: lab.Resolved, As: "partly", Amount: &amount}, id)}}) // it asks again
	for len(o.commands) > 0 {
		o.ok()
	}
	if got := o.left("L-1"); got != "0.25, 0.00 reserved" {
		t.Errorf("both over: %s", got)
	}
	o.restart()
	if got := o.left("L-1"); got != "0.25, 0.00 reserved" {
		t.Errorf("both over, after a restart: %s", got)
	}
}

// What can't be is refused, and changes nothing.
func TestStockIsChecked(t *testing.T) {
	o := newOffice(t, doses)
	lot, sample := goldLot("L-1", 1), messages.StockChange{What: messages.SampleAdd, Sample: &messages.Sample{ID: "s1", At: "shelf"}}
	late := o.now.Add(time.Hour)
	old := goldLot("L-old", 1)
	old.Lot.Expires = &late
	for _, c := range []struct {
		who  string
		c    messages.StockChange
		says string // empty: it is done
	}{
		{"planner_1", lot, "planner_1 is an agent; only a person"},
		{"scientist_1", lot, "only an operator or a safety officer may change lots"},
		{"operator_1", messages.StockChange{What: "eat"}, `"eat" is nothing that can be done`},
		{"operator_1", messages.StockChange{What: messages.LotAdd}, "a lot needs an id"},
		{"operator_1", messages.StockChange{What: messages.LotAdd, Lot: &messages.Lot{ID: "L", Substance: "water", Amount: lab.Q(1, "K")}}, "needs an amount"},
		{"operator_1", lot, ""},
		{"operator_1", lot, "registered already"},
		{"operator_1", old, ""},
		{"operator_1", messages.StockChange{What: messages.LotLoad, ID: "L-2", Instrument: "pump_a"}, `there is no lot "L-2"; did you mean "L-1"?`},
		{"operator_1", messages.StockChange{What: messages.LotLoad, ID: "L-1", Instrument: "pump_b"}, "pump_b is for trisodium citrate"},
		{"operator_1", messages.StockChange{What: messages.LotLoad, ID: "L-1", Instrument: "camera"}, "camera holds nothing"},
		{"operator_1", messages.StockChange{What: messages.LotLoad, ID: "L-1", Instrument: "pump_x"}, `there is no instrument "pump_x"`},
		{"operator_1", messages.StockChange{What: messages.LotUnload, ID: "L-1"}, "is in no instrument"},
		{"operator_1", messages.StockChange{What: messages.LotLoad, ID: "L-old", Instrument: "pump_a"}, ""},
		{"operator_1", messages.StockChange{What: messages.LotLoad, ID: "L-1", Instrument: "pump_a"}, "lot L-old is in pump_a; unload it first"},
		{"scientist_1", sample, ""},
		{"scientist_1", messages.StockChange{What: messages.SampleAdd, Sample: &messages.Sample{ID: "s2", At: "shelf"}}, "s1 is at shelf, which holds 1"},
		{"scientist_1", messages.StockChange{What: messages.SampleMove, ID: "s1", Place: "oven"}, ""},
		{"scientist_1", messages.StockChange{What: messages.SampleUse, ID: "s1"}, ""},
		{"scientist_1", messages.StockChange{What: messages.SampleMove, ID: "s1", Place: "shelf"}, "sample s1 is used up"},
		{"operator_1", messages.StockChange{What: messages.Calibration, Calibrated: &messages.Calibrated{ID: "C-1", Instrument: "pump_a", Property: "pump.colour", Until: late}}, "colour"},
		{"operator_1", messages.StockChange{What: messages.Calibration, Calibrated: &messages.Calibrated{ID: "C-1", Instrument: "pump_a", Until: late}}, ""},
	} {
		before := messages.Body(o.core.Stock())
		r := o.change(c.who, c.c)
		if r.OK != (c.says == "") || !strings.Contains(r.Say, c.says) {
			t.Errorf("%s %+v: %t %s, not %q", c.who, c.c, r.OK, r.Say, c.says)
		}
		if after := messages.Body(o.core.Stock()); !r.OK && string(before) != string(after) {
			t.Errorf("%s changed\n%s to\n%s", c.c.What, before, after)
		}
	}
	o.restart()
	if s := o.core.Stock().Samples; len(s) != 1 || s[0].Used == "" || len(s[0].Path) != 2 {
		t.Errorf("%+v", s)
	}
	o.now = late
	o.propose("scientist_1", strings.Replace(proposal("k", "doses@1.0.0", ""), `"key"`, `"samples":["s1"],"key"`, 1))
	v := o.verdicts[len(o.verdicts)-1]
	if len(v.Issues) != 2 || v.Issues[0].Code != "lot_unusable" || v.Issues[1].Code != "sample_used" {
		t.Errorf("%+v", v.Issues)
	}
}

// A measurement names the lots that were loaded and the calibration of what it
// came from; where that is overdue it is uncertain.
func TestMeasurementsNameLotAndCalibration(t *testing.T) {
	o := newOffice(t, `protocol: looks
version: 1.0.0
roles:
  gold: {is: pump/v1}
  optics: {is: spectrometer/v1}
outputs:
  peak: {unit: nm, from: read.peak}
steps:
  - {id: read, do: optics.spectrum, gives: {peak: peak}}
`)
	optics := o.cfg.Lab.Instruments[0].Name
	for _, in := range o.cfg.Lab.Instruments {
		if strings.Contains(in.Name, "spectro") || strings.Contains(in.Name, "optic") {
			optics = in.Name
		}
	}
	for _, c := range []messages.StockChange{goldLot("L-1", 1), {What: messages.LotLoad, ID: "L-1", Instrument: "pump_a"},
		{What: messages.Calibration, Calibrated: &messages.Calibrated{ID: "C-7", Instrument: optics, Until: o.now.Add(time.Minute)}}} {
		if r := o.change("operator_1", c); !r.OK {
			t.Fatal(r.Say)
		}
	}
	for n, want := range []string{"", "uncertain"} {
		o.accepted("scientist_1", proposal(fmt.Sprint("k", n), "looks@1.0.0", ""))
		o.ok("peak = 520 nm")
		for len(o.commands) > 0 {
			o.ok()
		}
		ev := o.events()[n]
		if ev.Quality != want || len(ev.Calibrations) != 1 || ev.Calibrations[0] != "C-7" || ev.Lots["pump_a"] != "L-1" || strings.Contains(ev.Say, "was good until") != (want != "") {
			t.Errorf("%+v", ev)
		}
		o.now = o.now.Add(2 * time.Minute)
	}
}

func withID(o lab.Outcome, id string) lab.Outcome { o.Command = id; return o }
