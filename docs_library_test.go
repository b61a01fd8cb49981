package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"

	"labgate/protocols"
)

// TestLibraryDocs holds docs/library.md to the library: each file's first
// sentence, lab and outputs, and how long seed 1 takes on the twin.
// go test . -run TestLibraryDocs -update writes it. The times, which cost a
// simulation each, are compared with LABGATE_HEAVY=1 only.
func TestLibraryDocs(t *testing.T) {
	const file = "docs/library.md"
	made := libraryPage(t, heavy || *update)
	if *update {
		if err := os.WriteFile(file, []byte(made), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	if !heavy {
		page = timeCell.ReplaceAllString(page, "| time |")
	}
	if d := diff.Diff(page, made); d != "" {
		t.Errorf("%s is not what is made from the library (-update):\n%s", file, d)
	}
}

// timeCell is the cell of a row that holds a time.
var timeCell = regexp.MustCompile(`\| (\d+ (h|min|s) ?)+\|`)

func libraryPage(t *testing.T, times bool) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("# The library\n\nThe built-in protocols, in [protocols/library](../protocols/library). `labgate simulate NAME` finds each one's lab by itself.\n" +
		"The time is what a run with the defaults takes in the lab, as the twin has it with seed 1; outputs in **bold** are required.\n\n" +
		"<!-- go test . -run TestLibraryDocs -update writes this page -->\n\n| name | what it does | lab | lab time | outputs |\n|---|---|---|---|---|\n")
	for _, file := range sortedNames(protocols.Library()) {
		name := strings.TrimSuffix(file, ".yaml")
		_, p, err := loadProtocol(name, "")
		if err != nil {
			t.Fatal(err)
		}
		took := "time"
		if times {
			took = labTime(t, name)
		}
		fmt.Fprintf(&b, "| [%s](../protocols/library/%s) | %s | %s | %s | %s |\n", name, file, firstSentence(p.About), cmp.Or(p.Lab, "demo"), took, outputNames(p))
	}
	return b.String()
}

// firstSentence is what a text says first, up to a full stop, colon or semicolon.
func firstSentence(s string) string {
	for _, end := range []string{". ", ": ", "; "} {
		s, _, _ = strings.Cut(s, end)
	}
	return strings.ReplaceAll(strings.TrimSuffix(s, "."), "|", "\\|")
}

func outputNames(p *protocols.Protocol) string {
	var names []string
	for _, o := range p.Outputs {
		name := o.Name
		if o.Required {
			name = "**" + name + "**"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// labTime is how long a run of seed 1 takes in the lab, to the second below an
// hour and to the minute above.
func labTime(t *testing.T, name string) string {
	t.Helper()
	out, errs, code := simulateOut(t, "--json", name)
	var r simulated
	line, _, _ := strings.Cut(out, "\n")
	if err := json.Unmarshal([]byte(line), &r); err != nil || code != exitDone {
		t.Fatalf("%s: exit %d, %v: %s%s", name, code, err, out, errs)
	}
	d := time.Duration(r.LabTime.Value * float64(time.Second))
	switch {
	case d >= time.Hour:
		d = d.Round(time.Minute)
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	case d >= time.Minute:
		d = d.Round(time.Second)
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%d s", int(d.Round(time.Second).Seconds()))
	}
}
