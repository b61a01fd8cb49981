package planner

import (
	"encoding/json"
	"math"
	"strings"

	"labgate/lab"
	"labgate/messages"
)

// How an experiment ended, beside the exit statuses of a run
// (messages.ExitSuccess, ExitAbort, ExitFail).
const (
	ExitRejected      = "rejected"       // the verdict was no; Issues say why
	ExitNeedsApproval = "needs_approval" // nobody approved it before it expired
	ExitUnanswered    = "unanswered"     // no verdict came in time; it may still be decided, until it expires
	ExitUnfinished    = "unfinished"     // it was not followed to its end; it may still run
)

// Experiment is one proposal and what became of it.
type Experiment struct {
	N          int                            // from 1
	Run        string                         // "" where it was not accepted
	Key        string                         // of the last try
	Tries      int                            // proposals sent; more than one where a refusal was repaired
	Inputs     map[string]lab.Quantity        // of the last try
	Predicted  map[string]messages.Prediction // before it was proposed
	Measured   map[string]lab.Value           // the run's outputs
	Images     int                            // pictures among them
	Seconds    float64                        // the run's duration
	Exit       string                         // how it ended
	Say        string                         // one sentence about that
	Issues     lab.Issues                     // of every verdict that refused it
	Hypothesis string
}

// Peak is the measured plasmon peak in nm, if there is one that can be used.
func (e Experiment) Peak() (float64, bool) {
	v, ok := e.Measured[outPeak]
	if !ok || v.Kind != lab.Number {
		return 0, false
	}
	q, err := v.Quantity().In(nanometre)
	if err != nil || !q.Finite() || q.Value <= 0 {
		return 0, false
	}
	return q.Value, true
}

// SpectrumPoints is the number of rows of the measured spectrum.
func (e Experiment) SpectrumPoints() int { return rows(e.Measured["spectrum"]) }

// Complete reports whether the experiment ran to success and gave all three of
// the protocol's outputs: a peak, a spectrum and an image.
func (e Experiment) Complete() bool {
	_, peak := e.Peak()
	return e.Exit == messages.ExitSuccess && peak && e.SpectrumPoints() > 0 && e.Images > 0
}

// Best is the index of the successful experiment whose peak lies nearest to
// the target, -1 where there is none. Ties go to the earlier one.
func Best(exps []Experiment, target float64) int {
	best, bestD := -1, math.Inf(1)
	for i, e := range exps {
		peak, ok := e.Peak()
		if d := math.Abs(peak - target); ok && e.Exit == messages.ExitSuccess && d < bestD {
			best, bestD = i, d
		}
	}
	return best
}

func rows(v lab.Value) int {
	if v.Kind != lab.Table || v.Table == nil || len(v.Table.Data) == 0 {
		return 0
	}
	return len(v.Table.Data[0])
}

// setMeasured keeps the outputs that carry something.
func (e *Experiment) setMeasured(outputs map[string]lab.Value) {
	e.Measured, e.Images = map[string]lab.Value{}, 0
	for n, v := range outputs {
		if !v.Usable() {
			continue // a missing output is shown by its absence
		}
		e.Measured[n] = v
		if v.Kind == lab.Blob && v.Blob != nil && strings.HasPrefix(v.Blob.Media, "image/") {
			e.Images++
		}
	}
}

// experimentJSON is a line that other programs read. Fields are only added.
type experimentJSON struct {
	Type           string                         `json:"type"`
	N              int                            `json:"n"`
	Run            string                         `json:"run"`
	Inputs         map[string]lab.Quantity        `json:"inputs"`
	Predicted      map[string]messages.Prediction `json:"predicted"`
	Measured       map[string]any                 `json:"measured"`
	Images         int                            `json:"images"`
	Seconds        float64                        `json:"seconds"`
	SpectrumPoints int                            `json:"spectrum_points"`
	Exit           string                         `json:"exit"`
	Say            string                         `json:"say,omitempty"`
	Key            string                         `json:"key"`
	Tries          int                            `json:"tries"`
	Hypothesis     string                         `json:"hypothesis,omitempty"`
	Issues         lab.Issues                     `json:"issues,omitempty"`
}

// MarshalJSON writes the line of type "experiment". Measured holds scalars in
// full, a table as {"points": rows} (its numbers are in the export), and a
// picture as {"media", "size", "hash"}; spectrum_points and images count them
// once more at the top. Seconds are rounded to milliseconds.
func (e Experiment) MarshalJSON() ([]byte, error) {
	j := experimentJSON{"experiment", e.N, e.Run, e.Inputs, e.Predicted, map[string]any{}, e.Images, milli(e.Seconds), e.SpectrumPoints(),
		e.Exit, e.Say, e.Key, e.Tries, e.Hypothesis, e.Issues}
	for n, v := range e.Measured {
		j.Measured[n] = brief(v)
	}
	if j.Inputs == nil {
		j.Inputs = map[string]lab.Quantity{}
	}
	if j.Predicted == nil {
		j.Predicted = map[string]messages.Prediction{}
	}
	return json.Marshal(j)
}

func brief(v lab.Value) any {
	if v.Kind == lab.Table {
		return map[string]int{"points": rows(v)}
	}
	return v
}

func milli(s float64) float64 { return math.Round(s*1000) / 1000 }

// ExperimentLine is one experiment as one line of JSON, without the newline.
func ExperimentLine(e Experiment) ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, lab.E("planner: line", "", lab.KindInvalid, err)
	}
	return b, nil
}

type bestJSON struct {
	N        int                     `json:"n"`
	Run      string                  `json:"run"`
	Inputs   map[string]lab.Quantity `json:"inputs"`
	Measured map[string]lab.Quantity `json:"measured"`
	Error    lab.Quantity            `json:"error"` // measured - target
}

type summaryJSON struct {
	Type        string       `json:"type"`
	Experiments int          `json:"experiments"` // proposed
	Measured    int          `json:"measured"`    // complete
	Best        *bestJSON    `json:"best"`        // null where nothing was measured
	Data        string       `json:"data"`
	Target      lab.Quantity `json:"target"`
}

// SummaryLine is the line of type "summary" that ends a campaign: how many
// experiments were proposed, how many are complete, the best, and the folder
// where the data lie.
func SummaryLine(exps []Experiment, target float64, data string) ([]byte, error) {
	s := summaryJSON{Type: "summary", Experiments: len(exps), Data: data, Target: lab.Quantity{Value: target, Unit: nanometre}}
	for _, e := range exps {
		if e.Complete() {
			s.Measured++
		}
	}
	if i := Best(exps, target); i >= 0 {
		e := exps[i]
		peak, _ := e.Peak() // the best has one
		s.Best = &bestJSON{e.N, e.Run, e.Inputs, map[string]lab.Quantity{outPeak: {Value: peak, Unit: nanometre}}, lab.Quantity{Value: milli(peak - target), Unit: nanometre}}
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil, lab.E("planner: line", "", lab.KindInvalid, err)
	}
	return b, nil
}
