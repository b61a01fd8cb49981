package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"labgate/lab"
	"labgate/messages"
)

const clockTime = "2006-01-02 15:04:05"

// safety writes what is bypassed and what is alarmed, for below the runs.
func safety(w io.Writer, st *messages.Status) {
	for _, b := range st.Bypasses {
		fmt.Fprintf(w, "BYPASSED  %s until %s by %s: %s\n", b.Rule, b.Until.Local().Format(clockTime), b.By, b.Reason)
	}
	for _, a := range st.Alarms {
		fmt.Fprintf(w, "ALARM     %s\n", alarmLine(a))
	}
}

func alarmLine(a messages.Alarm) string {
	s := fmt.Sprintf("%s (%s) since %s: %s", a.Rule, a.Priority, a.Since.Local().Format(clockTime), a.Say)
	if !a.Active {
		s += " [back to normal]"
	}
	if a.Acknowledged {
		return s + " [seen by " + a.By + "]"
	}
	if a.Response != "" {
		s += "\n          do: " + a.Response
	}
	return s + "\n          then: labgate acknowledge " + a.Rule
}

// Trips writes what is tripped with its inputs then and now, what is bypassed,
// and what is alarmed.
func Trips(w io.Writer, st *messages.Status) error {
	for _, t := range st.Trips {
		first := ""
		if t.FirstOut {
			first = ", first out"
		}
		if _, err := fmt.Fprintf(w, "TRIPPED   %s (%s%s) since %s: %s\n", t.Rule, t.Group, first, t.Since.Local().Format(clockTime), t.Say); err != nil {
			return err
		}
		if len(t.Instruments) > 0 {
			fmt.Fprintf(w, "          effects denied on %s\n", strings.Join(t.Instruments, ", "))
		}
		if len(t.Then) > 0 {
			fmt.Fprintf(w, "          then  %s\n", inputs(t.Then))
		}
		if len(t.Now) > 0 {
			fmt.Fprintf(w, "          now   %s\n", inputs(t.Now))
		}
		if t.Healthy {
			fmt.Fprintf(w, "          a reset would be taken: labgate reset %s --reason …\n", t.Rule)
		} else {
			fmt.Fprintf(w, "          a reset would not be taken: %s\n", t.Why)
		}
	}
	safety(w, st)
	if len(st.Trips)+len(st.Bypasses)+len(st.Alarms) == 0 {
		_, err := fmt.Fprintln(w, "nothing is tripped, bypassed or alarmed")
		return err
	}
	return nil
}

// inputs writes readings as a decision saw them.
func inputs(list []lab.Used) string {
	var parts []string
	for _, u := range list {
		s := u.Signal + " "
		if u.Value != nil {
			s += Short(*u.Value)
		} else {
			s += "no value"
		}
		switch {
		case u.Why != "":
			s += " (" + u.Why + ")"
		case u.AgeMS >= 100:
			s += fmt.Sprintf(" (%s old)", Duration(time.Duration(u.AgeMS*float64(time.Millisecond))))
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, ", ")
}
