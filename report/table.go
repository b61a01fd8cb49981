package report

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"labgate/lab"
	"labgate/messages"
	"labgate/planner"
)

// peakOutput is the output that the table and the plot show.
const peakOutput = "peak"

var nm = lab.Q(0, "nm").Unit

// number writes a number with at most six significant digits.
func number(v float64) string {
	r, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 6, 64), 64)
	if err != nil {
		return "?"
	}
	return lab.FormatNumber(r)
}

// Table writes one row an experiment, predicted against measured, then why
// those that did not succeed did not, then the best. Peaks are in nm; z is the
// error in standard deviations of the prediction.
func Table(w io.Writer, exps []planner.Experiment, target float64) error {
	if len(exps) == 0 {
		return printf(w, "no experiments\n")
	}
	inputs, units := inputColumns(exps)
	head, under := []string{"#"}, []string{""}
	right := []bool{true}
	for _, n := range inputs {
		head, under, right = append(head, plain(n)), append(under, units[n].String()), append(right, true)
	}
	head = append(head, "predicted", "measured", "error", "z", "time", "how it ended")
	under = append(under, "nm", "nm", "nm", "", "s", "")
	right = append(right, true, true, true, true, true, false)
	rows := [][]string{head, under}
	for _, e := range exps {
		rows = append(rows, row(e, inputs, units))
	}
	for i := range inputs {
		alignPoints(rows[2:], i+1)
	}
	if err := grid(w, right, rows); err != nil {
		return err
	}
	if err := notes(w, exps); err != nil {
		return err
	}
	return printf(w, "\n%s\n", bestLine(exps, target))
}

// inputColumns are the inputs that any experiment has, each with the unit of
// the first that has it.
func inputColumns(exps []planner.Experiment) ([]string, map[string]lab.Unit) {
	units := map[string]lab.Unit{}
	for _, e := range exps {
		for n, q := range e.Inputs {
			if _, have := units[n]; !have {
				units[n] = q.Unit
			}
		}
	}
	return sortedKeys(units), units
}

// alignPoints gives the numbers of a column equally many decimals.
func alignPoints(rows [][]string, column int) {
	most := 0
	for _, r := range rows {
		if _, err := strconv.ParseFloat(r[column], 64); err == nil {
			_, decimals, _ := strings.Cut(r[column], ".")
			most = max(most, len(decimals))
		}
	}
	for _, r := range rows {
		if v, err := strconv.ParseFloat(r[column], 64); err == nil && !strings.ContainsAny(r[column], "eE") {
			r[column] = strconv.FormatFloat(v, 'f', most, 64)
		}
	}
}

func row(e planner.Experiment, inputs []string, units map[string]lab.Unit) []string {
	r := []string{strconv.Itoa(e.N)}
	for _, n := range inputs {
		q, ok := e.Inputs[n]
		cell := "–"
		if ok {
			cell = amount(q)
			if c, err := q.In(units[n]); err == nil {
				cell = number(c.Value)
			}
		}
		r = append(r, cell)
	}
	predicted, measured, diff, z := "–", "–", "–", "–"
	p, hasP := prediction(e)
	if hasP {
		predicted = fmt.Sprintf("%.1f ± %.1f", p.Value, p.SD)
	}
	m, hasM := e.Peak()
	if hasM {
		measured = fmt.Sprintf("%.1f", m)
	}
	if hasP && hasM {
		diff = fmt.Sprintf("%+.1f", m-p.Value)
		if p.SD > 0 {
			z = fmt.Sprintf("%+.1f", (m-p.Value)/p.SD)
		}
	}
	time := "–"
	if e.Seconds > 0 {
		time = fmt.Sprintf("%.1f", e.Seconds)
	}
	end := plain(e.Exit)
	if e.Tries > 1 {
		end += fmt.Sprintf(" (%d tries)", e.Tries)
	}
	return append(r, predicted, measured, diff, z, time, end)
}

// prediction is what was predicted of the peak, in nm.
func prediction(e planner.Experiment) (messages.Prediction, bool) {
	p, ok := e.Predicted[peakOutput]
	u, err := lab.ParseUnit(p.Unit)
	if !ok || err != nil || p.Unit == "" {
		return p, false
	}
	v, err := lab.Quantity{Value: p.Value, Unit: u}.In(nm)
	sd, err2 := lab.Quantity{Value: p.SD, Unit: u}.In(nm)
	finite := !math.IsNaN(p.Value+p.SD) && !math.IsInf(p.Value+p.SD, 0)
	return messages.Prediction{Value: v.Value, SD: sd.Value, Unit: "nm"}, err == nil && err2 == nil && finite
}

// notes says why, where there is something to say.
func notes(w io.Writer, exps []planner.Experiment) error {
	first := true
	for _, e := range exps {
		if e.Exit == messages.ExitSuccess && len(e.Issues) == 0 {
			continue
		}
		if first {
			if err := printf(w, "\n"); err != nil {
				return err
			}
			first = false
		}
		say := plain(e.Say)
		switch {
		case e.Exit == messages.ExitSuccess:
			say = "repaired after a refusal"
		case say == "":
			say = plain(e.Exit)
		}
		if err := printf(w, "experiment %d: %s\n", e.N, say); err != nil {
			return err
		}
		for _, i := range e.Issues {
			if err := printf(w, "  %s: %s\n", plain(i.Code), plain(i.Error())); err != nil {
				return err
			}
		}
	}
	return nil
}

func bestLine(exps []planner.Experiment, target float64) string {
	i := planner.Best(exps, target)
	if i < 0 {
		return fmt.Sprintf("best: none; no experiment measured a peak (target %s nm)", number(target))
	}
	e := exps[i]
	peak, _ := e.Peak() // the best has one
	where := ""
	for _, n := range sortedKeys(e.Inputs) {
		where += fmt.Sprintf(", %s %s", plain(n), amount(e.Inputs[n]))
	}
	off := fmt.Sprintf("%.1f nm above", peak-target)
	switch d := math.Round((peak-target)*10) / 10; {
	case d == 0:
		off = "on"
	case d < 0:
		off = fmt.Sprintf("%.1f nm below", target-peak)
	}
	return fmt.Sprintf("best: experiment %d, peak %.1f nm, %s the target of %s nm%s (run %s)", e.N, peak, off, number(target), where, plain(e.Run))
}
