package report

import (
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	"labgate/lab"
	"labgate/messages"
)

// Values writes a step's values on one line, by name.
func Values(data map[string]lab.Value) string {
	names := make([]string, 0, len(data))
	for n := range data {
		names = append(names, n)
	}
	sort.Strings(names)
	var parts []string
	for _, n := range names {
		parts = append(parts, n+" "+Short(data[n]))
	}
	return strings.Join(parts, ", ")
}

// Short writes a value for a table: numbers with five digits.
func Short(v lab.Value) string {
	if v.Kind != lab.Number || !v.Usable() {
		return v.String()
	}
	s := fmt.Sprintf("%.5g", v.Num)
	if v.Unit != lab.One {
		s += " " + v.Unit.String()
	}
	return s
}

// Bill writes what a plan costs, behind a semicolon; nothing for no bill.
func Bill(b *messages.Bill) string {
	if b == nil {
		return ""
	}
	s := fmt.Sprintf("; about %.0f s, at most %.0f s, at most %d commands and %d exposures", b.Expected.Value, b.Worst.Value, b.Commands, b.Exposures)
	names := make([]string, 0, len(b.Consumption))
	for n := range b.Consumption {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		s += fmt.Sprintf(", %s of %s", Short(lab.NumberValue(b.Consumption[n])), n)
	}
	return s
}

// Runs writes the runs as a table, then what a person has to see to: latches,
// commands in doubt, instruments that do not answer.
func Runs(w io.Writer, runs []messages.RunInfo, st *messages.Status) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if len(runs) > 0 {
		fmt.Fprintln(t, "RUN\tPROTOCOL\tBY\tSTATE\tSTARTED\tRESULT")
	}
	for _, r := range runs {
		started := "-"
		if !r.Started.IsZero() {
			started = r.Started.Local().Format("2006-01-02 15:04:05")
		}
		result := r.Say
		if r.State == "done" {
			result = Values(r.Outputs)
		} else if r.Step != "" {
			result = "at " + r.Step
		}
		if len(r.InDoubt) > 0 {
			result += " [in doubt: " + strings.Join(r.InDoubt, ", ") + "]"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Run, r.Protocol, r.Principal, r.State, started, result)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(runs) == 0 {
		fmt.Fprintln(w, "no runs yet")
	}
	for _, r := range runs {
		if r.State == "held" {
			fmt.Fprintf(w, "HELD      %s: %s\n", r.Run, r.Say)
			if len(r.Standing) > 0 {
				fmt.Fprintf(w, "          as it stands: %s\n", strings.Join(r.Standing, "; "))
			}
			fmt.Fprintf(w, "          look, then: labgate resume %s --reason …, or labgate abort %s\n", r.Run, r.Run)
		}
		for _, x := range r.Asks {
			fmt.Fprintf(w, "ASKED     %s: %s\n          by %s, until %s: labgate answer %s %s%s\n", x.Step, x.Text, x.By, x.Until.Local().Format("2006-01-02 15:04:05"), r.Run, x.Step, wanted(x.By, x.Gives))
		}
	}
	if st == nil {
		return nil
	}
	for _, l := range st.Latches {
		fmt.Fprintf(w, "LATCHED   %s since %s: %s\n          look, then: labgate reset %s --reason …\n", l.Rule, l.Since.Local().Format("2006-01-02 15:04:05"), l.Say, l.Rule)
	}
	safety(w, st)
	for _, d := range st.InDoubt {
		fmt.Fprintf(w, "IN DOUBT  %s (%s.%s.%s): %s\n          look, then: labgate resolve %s done|not_done|partly --reason …\n", d.Command, d.Instrument, d.Component, d.Name, d.Say, d.Command)
	}
	for _, d := range st.Unsettled {
		fmt.Fprintf(w, "UNSETTLED %s (%s.%s.%s): %s; the rules count the worse way\n          look, then: labgate resolve %s done|not_done|partly --reason …\n", d.Command, d.Instrument, d.Component, d.Name, d.Say, d.Command)
	}
	var insecure []string
	for _, l := range st.Links {
		if !l.Up {
			fmt.Fprintf(w, "LINK      %s does not answer: %s\n", l.Instrument, l.Say)
		}
		if l.Insecure {
			insecure = append(insecure, l.Instrument)
		}
	}
	if len(insecure) > 0 {
		fmt.Fprintf(w, "INSECURE  %s: no security policy; any program on this machine could command it\n", strings.Join(insecure, ", "))
	}
	return nil
}

// wanted is what an answer has to hold, as the command line takes it.
func wanted(by string, list []messages.AskedFor) (s string) {
	if by == "scientist" || by == "safety" { // an operator answers unless another is named
		s = " --as KEY"
	}
	for _, x := range list {
		if x.Default == nil {
			s += fmt.Sprintf(" --value %s=…", x.Name)
		}
	}
	return s
}

// Entry writes a journal entry on one line.
func Entry(w io.Writer, r lab.Ref, e lab.Entry) error {
	about := e.Instrument
	if e.Step != "" {
		about += " " + e.Step
	}
	who := e.Principal
	if who == "" {
		who = e.Origin
	}
	_, err := fmt.Fprintf(w, "%6d  %s  %-18s %-13s %-26s %s\n", r.Seq, e.Time.UTC().Format("2006-01-02 15:04:05.000"), e.Kind, who, strings.TrimSpace(about), clip(gist(e)))
	return err
}

// gist is what a person looks for first in an entry.
func gist(e lab.Entry) string {
	var b map[string]any
	if json.Unmarshal(e.Body, &b) != nil {
		return ""
	}
	text := func(k string) string { s, _ := b[k].(string); return s } // "" for what is not there or no text
	switch e.Kind {
	case "order/v1":
		return text("command") + ", " + text("origin") + ": " + text("why")
	case "order_end/v1":
		return text("command") + ": " + text("result")
	case "stop/v1", "reset/v1", "bypass/v1", "rearm/v1", "acknowledge/v1":
		return joined(text("rule"), text("reason"))
	case "rules/v1":
		return joined(text("what"), text("hash"))
	case "lease/v1":
		return fmt.Sprintf("%s %v", text("what"), b["lease"])
	case "allow/v1":
		var allow struct{ Rules []string }
		if json.Unmarshal(e.Body, &allow) != nil {
			return ""
		}
		return strings.Join(allow.Rules, ", ")
	case "intent/v1":
		var in struct{ Args map[string]lab.Value }
		if json.Unmarshal(e.Body, &in) != nil {
			return text("name")
		}
		return text("name") + " " + Values(in.Args)
	case messages.KindRunEvent:
		var ev messages.RunEvent
		if json.Unmarshal(e.Body, &ev) != nil {
			return ""
		}
		return joined(ev.Step, Values(ev.Data))
	case messages.KindProposal, messages.KindRunStart:
		doc, ok := b["proposal"].(map[string]any)
		if !ok {
			doc = b
		}
		p, _ := doc["protocol"].(map[string]any)
		name, _ := p["name"].(string)
		version, _ := p["version"].(string)
		if name == "" {
			return "a protocol of its own"
		}
		return strings.TrimSpace(name + " " + version)
	}
	more := joined(joined(text("say"), text("reason")), text("why"))
	for _, k := range []string{"state", "decision", "exit_status", "what", "rule", "name"} {
		if text(k) != "" {
			return joined(text(k), more)
		}
	}
	return more
}

// joined puts two texts together, and says once what both say.
func joined(a, b string) string {
	switch {
	case a == "" || strings.HasPrefix(b, a):
		return b
	case b == "" || strings.HasSuffix(a, b):
		return a
	}
	return a + ": " + b
}

func clip(s string) string {
	if r := []rune(s); len(r) > 100 {
		return string(r[:100]) + "…"
	}
	return s
}

// Duration writes a time for people: 8.2 s.
func Duration(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
