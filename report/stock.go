package report

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"labgate/lab"
	"labgate/messages"
)

// Lots prints lots, with what is left of each.
func Lots(w io.Writer, list []messages.Lot, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no lot is registered: labgate lots add ID SUBSTANCE AMOUNT")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "LOT\tSUBSTANCE\tCONCENTRATION\tIN\tLEFT\tRESERVED\tEXPIRES\t")
	for _, l := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s of %s\t%s\t%s\t%s\n", l.ID, l.Substance, orDash(l.Concentration), dash(l.In), orDash(l.Left), l.Amount, orDash(l.Reserved), expires(l.Expires), unusable(l, now))
	}
	return t.Flush()
}

func expires(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format(clock)
}

func unusable(l messages.Lot, now time.Time) string {
	switch {
	case l.Discarded != "":
		return fmt.Sprintf("DISCARDED: %q", l.Discarded)
	case l.Expires != nil && !now.Before(*l.Expires):
		return "EXPIRED"
	}
	return ""
}

func orDash(q *lab.Quantity) string {
	if q == nil {
		return "-"
	}
	return Short(lab.NumberValue(*q))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Samples prints samples; with their paths, where each has been.
func Samples(w io.Writer, list []messages.Sample, paths bool) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no sample is registered: labgate samples add ID --at PLACE")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "SAMPLE\tAT\tSINCE\tBY\tMADE BY RUN\tABOUT")
	for _, x := range list {
		at, since, by := dash(x.At), "-", "-"
		if x.Used != "" {
			at = "USED UP"
		}
		if n := len(x.Path); n > 0 {
			since, by = x.Path[n-1].Since.Local().Format(clock), x.Path[n-1].By
		}
		about := x.About
		if x.Used != "" {
			about = x.Used
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%q\n", x.ID, at, since, by, dash(x.Run), about)
		for i := len(x.Path) - 2; paths && i >= 0; i-- {
			fmt.Fprintf(t, "\t%s\t%s\t%s\t\t\n", x.Path[i].At, x.Path[i].Since.Local().Format(clock), x.Path[i].By)
		}
	}
	return t.Flush()
}

// Calibrations prints calibrations.
func Calibrations(w io.Writer, list []messages.Calibrated, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no calibration is registered: labgate calibrations add ID INSTRUMENT --until DATE")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "CALIBRATION\tINSTRUMENT\tPROPERTY\tUNTIL\tBY\t")
	for _, x := range list {
		overdue := ""
		if !now.Before(x.Until) {
			overdue = "OVERDUE"
		}
		property := x.Property
		if property == "" {
			property = "all"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", x.ID, x.Instrument, property, x.Until.Local().Format(clock), x.By, overdue)
	}
	return t.Flush()
}
