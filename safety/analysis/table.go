package analysis

import (
	"encoding/csv"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"labgate/lab/expr"
	"labgate/safety"
)

var voteCall = regexp.MustCompile(`\bvoted?\(\s*(\d+)\s*,([^()]*(?:\([^()]*\)[^()]*)*)\)`)

// votesIn finds the votes of an expression and of the signals it names.
func votesIn(rules *safety.Rules, text string, list []string, depth int) []string {
	if depth > 16 {
		return list
	}
	for _, m := range voteCall.FindAllStringSubmatch(text, -1) {
		n := strings.Count(m[2], ",") + 1
		if strings.HasPrefix(m[0], "voted") {
			n-- // how far apart they may be
		}
		if s := fmt.Sprintf("%s of %d", m[1], n); !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	for _, spot := range expr.Spots(text) {
		if spot.Kind == expr.SpotName || spot.Kind == expr.SpotValue {
			if def, ok := rules.Definition(spot.Text); ok {
				list = votesIn(rules, def.Text, list, depth+1)
			}
		}
	}
	return list
}

// Widths of the text's columns, in characters.
const (
	ruleWidth  = 24
	causeWidth = 40
)

// Text writes the table for a terminal: effects are numbered, and named in a
// legend below; long causes go on in the next line, with their votes and
// delays.
func (t Table) Text() string {
	head := []string{"rule", "cause"}
	for i := range t.Effects {
		head = append(head, fmt.Sprint(i+1))
	}
	rows := [][]string{append(head, "run", "bypass", "proof due")}
	section := ""
	for _, c := range t.Causes {
		if s := c.section(); s != section {
			section = s
			rows = append(rows, nil, []string{strings.ToUpper(s)})
		}
		rows = append(rows, c.lines(t.Effects)...)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Cause and effect: lab %s, interlocks %s\n\n", t.Lab, t.Name)
	b.WriteString(align(rows, len(t.Effects)))
	b.WriteString("\n" + Legend + "\n\n")
	for i, e := range t.Effects {
		fmt.Fprintf(&b, "%4d  %s\n", i+1, e)
	}
	return b.String()
}

func (c Cause) section() string {
	if c.FromLab {
		return "limits of the lab file"
	}
	return c.Kind + "s"
}

// lines is one cause, wrapped.
func (c Cause) lines(effects []string) [][]string {
	rule, why := wrap(c.Rule, ruleWidth), wrap(c.Cause, causeWidth)
	if c.Votes != "" {
		why = append(why, "vote "+c.Votes)
	}
	if c.Delay != "" {
		why = append(why, wrap("("+c.Delay+")", causeWidth)...)
	}
	at := func(list []string, i int) string {
		if i < len(list) {
			return list[i]
		}
		return ""
	}
	var rows [][]string
	for i := range max(len(rule), len(why)) {
		row := []string{at(rule, i), at(why, i)}
		if i > 0 {
			rows = append(rows, row)
			continue
		}
		for _, e := range effects {
			row = append(row, or(c.Effects[e], "."))
		}
		rows = append(rows, append(row, c.Run, c.bypass(), c.Due))
	}
	return rows
}

func (c Cause) bypass() string {
	if c.NoBypass || c.FromLab {
		return "never"
	}
	return ""
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// wrap cuts a text into lines of at most width characters: after blanks, or,
// in a name, after dots, dashes and @.
func wrap(s string, width int) []string {
	var lines []string
	for utf8.RuneCountInString(s) > width {
		r := []rune(s)
		cut := strings.LastIndex(string(r[:width+1]), " ")
		if cut <= 0 {
			if cut = strings.LastIndexAny(string(r[:width]), ".-@") + 1; cut <= 0 {
				cut = len(string(r[:width]))
			}
		}
		lines = append(lines, strings.TrimSpace(s[:cut]))
		s = strings.TrimSpace(s[cut:])
	}
	return append(lines, s)
}

// align pads columns to their widest cell, two blanks apart, the marks of the
// effects one. A row of one cell is a heading.
func align(rows [][]string, effects int) string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			if len(row) > 1 {
				widths[i] = max(widths[i], utf8.RuneCountInString(cell))
			}
		}
	}
	var b strings.Builder
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			pad := widths[i] - utf8.RuneCountInString(cell) + 2
			if i >= 2 && i < 1+effects {
				pad--
			}
			line.WriteString(cell + strings.Repeat(" ", max(pad, 0)))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

// CSV writes the whole table, with the names of the effects as headings. A
// cell that a spreadsheet would take for a formula is written as text.
func (t Table) CSV() string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	head := append([]string{"kind", "rule", "cause", "votes", "delay"}, t.Effects...)
	rows := [][]string{append(head, "run", "bypass", "proof due", "about")}
	for _, c := range t.Causes {
		row := []string{c.Kind, c.Rule, c.Cause, c.Votes, c.Delay}
		for _, e := range t.Effects {
			row = append(row, c.Effects[e])
		}
		rows = append(rows, append(row, c.Run, c.bypass(), c.Due, c.About))
	}
	for _, row := range rows {
		for i, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@", rune(cell[0])) {
				row[i] = "'" + cell
			}
		}
	}
	if err := w.WriteAll(rows); err != nil {
		return "" // a strings.Builder takes everything
	}
	return b.String()
}
