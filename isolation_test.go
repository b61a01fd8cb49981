package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// isolationJobs are runs of many small commands, one wire each.
var isolationJobs = map[string]struct{ instrument, roles, step string }{
	"heat": {"reactor", "r: {is: thermostat/v1}", "do: r.heat, with: {target: 30 degC}"},
	"move": {"stage", "r: {is: stage/v1}", "do: r.move, with: {x: = 0.01 mm * i, y: 0 mm, z: 0 mm}"},
	"shot": {"camera", "r: {is: camera/v1}", "do: r.capture, with: {exposure: 20 ms}"},
	"dose": {"pump_b", "r: {is: pump/v1, holds: {substance: trisodium citrate, concentration: 10 mmol/L}}", "do: r.dose, with: {volume: 0.01 mL, rate: 6 mL/min}"},
}

const isolationCommands = 25 // of a run

// isolationFaults are switched on, one instrument after the other, while the
// others work.
var isolationFaults = map[string][]string{
	"pump_a":       {"freeze", "half_open", "drop", "delay", "late_reply", "garble", "wrong_reply", "refuse", "stuck", "nan"},
	"stage":        {"freeze", "half_open", "drop", "delay", "late_reply", "garble", "wrong_reply", "refuse", "stuck", "nan"},
	"cell":         {"freeze", "half_open", "drop", "delay", "late_reply", "garble", "wrong_reply", "refuse", "stuck", "nan"},
	"spectrometer": {"freeze", "half_open", "drop", "delay", "late_reply", "garble", "wrong_reply", "refuse"},
}

// isolation is a station whose commands are timed by its own journal.
type isolation struct {
	*faultLab
	n int
}

// measure runs jobs side by side and returns how long their commands took, from
// the intent to the outcome.
func (l *isolation) measure(names []string) map[string][]time.Duration {
	l.Helper()
	runs := map[string]string{}
	for _, name := range names {
		l.n++
		v := l.agent.propose(proposal(fmt.Sprintf("iso%d", l.n), "isolation-"+name, "1.0.0", ""))
		if v.Decision != "accepted" {
			l.Fatalf("%+v", v)
		}
		runs[v.Run] = name
	}
	for run := range runs {
		eventually(l, "run "+run+" is over", func() bool { return l.run(run).Ended != nil })
	}
	took := map[string][]time.Duration{}
	for run, name := range runs {
		began := map[string]time.Time{}
		for _, e := range l.journal("--run", run) {
			switch at, open := began[e.Command]; {
			case e.Kind == "intent/v1":
				began[e.Command] = e.Time
			case e.Kind == "outcome/v1" && open:
				var o struct{ State string }
				if err := json.Unmarshal(e.Body, &o); err != nil || o.State != "confirmed" {
					l.Errorf("%s: %s %v", name, e.Body, err)
				}
				took[name] = append(took[name], e.Time.Sub(at))
			}
		}
		if len(took[name]) != isolationCommands {
			l.Errorf("%s: %d commands, not %d", name, len(took[name]), isolationCommands)
		}
	}
	return took
}

// worst is the longest of a run's commands: the 99th percentile of so few.
func worst(list []time.Duration) time.Duration { return slices.Max(list) }

// BenchmarkIsolation measures what a fault of one instrument costs the commands
// of the others, against a quiet station in the same run. It prints the table of
// docs/reliability.md; ratio is the worst of it, line-ratio that on the serial
// line of the instrument with the fault, which can carry one exchange at a time.
func BenchmarkIsolation(b *testing.B) {
	for b.Loop() {
		var protocols []string
		for name, j := range isolationJobs {
			protocols = append(protocols, fmt.Sprintf("protocol: isolation-%s\nversion: 1.0.0\nbudget: {time: 10 min, exposures: 100}\nroles: {%s}\nsteps:\n  - repeat: {max: %d}\n    steps:\n      - {%s}\n", name, j.roles, isolationCommands, j.step))
		}
		l := &isolation{faultLab: newFaultLab(b, protocols...)}
		all := slices.Sorted(maps.Keys(isolationJobs))
		quiet := map[string][]time.Duration{}
		for range 4 {
			for name, list := range l.measure(all) {
				quiet[name] = append(quiet[name], list...)
			}
		}
		var table strings.Builder
		fmt.Fprintf(&table, "| fault | %s |\n|---|%s\n| none | ", strings.Join(all, " | "), strings.Repeat("---|", len(all)))
		for _, name := range all {
			fmt.Fprintf(&table, "%d ms | ", worst(quiet[name]).Milliseconds())
		}
		ratio, line, where := 0.0, 0.0, ""
		for _, in := range slices.Sorted(maps.Keys(isolationFaults)) {
			var others []string
			for _, name := range all {
				if isolationJobs[name].instrument != in {
					others = append(others, name)
				}
			}
			for _, fault := range isolationFaults[in] {
				args := map[string]map[string]float64{"delay": seconds(1.5), "late_reply": {"seconds": 0.8, "every": 2}}[fault]
				l.fault(in, fault, true, args)
				time.Sleep(time.Second) // it has been met
				took := l.measure(others)
				l.fault(in, fault, false, nil)
				fmt.Fprintf(&table, "\n| %s: %s | ", in, fault)
				for _, name := range all {
					if list := took[name]; len(list) > 0 {
						r := float64(worst(list)) / float64(worst(quiet[name]))
						fmt.Fprintf(&table, "%.2f", r)
						switch shared := in == "pump_a" && name == "dose"; {
						case shared:
							line = max(line, r)
						case r > ratio:
							ratio, where = r, name+" while "+in+" "+fault
						}
					}
					table.WriteString(" | ")
				}
			}
		}
		b.Logf("\n%s\nworst: %.2f, %s; on the line of the instrument with the fault: %.2f", table.String(), ratio, where, line)
		b.ReportMetric(ratio, "ratio")
		b.ReportMetric(line, "line-ratio")
		b.ReportMetric(0, "ns/op") // it waits for its instruments
	}
}
