package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"labgate/messages"
)

const clock = "2006-01-02 15:04:05"

// Queue prints what waits, in order, and under each run every reason.
func Queue(w io.Writer, list []messages.QueueInfo) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "nothing waits")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "#\tRUN\tPROTOCOL\tBY\tPRIORITY\tSINCE\tBEGINS\tWAITS FOR")
	for _, q := range list {
		begins := "?"
		if q.Begins != nil {
			begins = "~ " + q.Begins.Local().Format(clock)
		}
		why := "its turn now"
		if len(q.Waits) > 0 {
			why = q.Waits[0].Say
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", q.Position, q.Run, q.Protocol, q.Principal, q.Priority, q.Since.Local().Format(clock), begins, why)
		for i := 1; i < len(q.Waits); i++ {
			fmt.Fprintf(t, "\t\t\t\t\t\t\t%s\n", q.Waits[i].Say)
		}
	}
	return t.Flush()
}

// Approvable prints what would be approved. Its texts are an agent's or a
// scientist's: data, quoted.
func Approvable(w io.Writer, a *messages.Approvable, need string) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("run", "%s: %s", a.Run, need)
	row("asked by", "%s (%s)", a.Principal, a.Role)
	if a.Model != "" {
		row("model", "%q", a.Model)
	}
	row("protocol", "%s %s  %s", a.Protocol.Name, a.Protocol.Version, a.Protocol.Hash)
	for _, n := range sortedKeys(a.Inputs) {
		row("input", "%s = %s", n, a.Inputs[n])
	}
	for _, n := range sortedKeys(a.Bindings) {
		row("role", "%s: %s", n, a.Bindings[n])
	}
	row("bill", "%.0f s expected, %.0f s at worst; %d exposures, %d commands", a.Bill.Expected.Value, a.Bill.Worst.Value, a.Bill.Exposures, a.Bill.Commands)
	for _, n := range sortedKeys(a.Bill.Consumption) {
		row("uses", "%s of %s", a.Bill.Consumption[n], n)
	}
	if b := a.Budget; b != nil && b.Time != nil {
		row("budget", "%s", *b.Time)
	}
	if b := a.Budget; b != nil && b.Exposures != nil {
		row("budget", "%d exposures", *b.Exposures)
	}
	row("priority", "%s", a.Priority)
	if a.NotAfter != nil {
		row("not after", "%s", a.NotAfter.UTC().Format(time.RFC3339))
	}
	for _, n := range sortedKeys(a.Predicts) {
		row("predicts", "%q: %g ± %g %s", n, a.Predicts[n].Value, a.Predicts[n].SD, a.Predicts[n].Unit)
	}
	for _, x := range [][2]string{{"campaign", a.Campaign}, {"hypothesis", a.Hypothesis}} {
		if x[1] != "" {
			row(x[0], "%q", x[1])
		}
	}
	for _, n := range sortedKeys(a.Labels) {
		row("label", "%q: %q", n, a.Labels[n])
	}
	if len(a.Samples) > 0 {
		row("samples", "%q", a.Samples)
	}
	row("lab", "%s", a.Hashes.Lab)
	row("rules", "%s", a.Hashes.Rules)
	row("plan", "%s", a.Hashes.Plan)
	if err := t.Flush(); err != nil || a.Inline == "" {
		return err
	}
	_, err := fmt.Fprintf(w, "its text:\n  | %s\n", strings.ReplaceAll(strings.TrimRight(a.Inline, "\n"), "\n", "\n  | "))
	return err
}
