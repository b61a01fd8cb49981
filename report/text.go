package report

import (
	"fmt"
	"io"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

	"labgate/lab"
)

// maxText bounds what a terminal line shows of one text, in runes.
const maxText = 200

// plain makes text from outside safe to print on a terminal: every character
// that is no visible one is shown as U+FFFD, so that no escape sequence gets
// through, and long text is cut with an ellipsis.
func plain(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n == maxText {
			b.WriteRune('…')
			break
		}
		if !unicode.IsPrint(r) {
			r = utf8.RuneError
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// amount writes a quantity for people: at most six significant digits.
func amount(q lab.Quantity) string {
	s := number(q.Value)
	if q.Unit == lab.One {
		return s
	}
	return s + " " + q.Unit.String()
}

// grid writes rows of cells in aligned columns, two blanks apart. right says
// which columns hold numbers.
func grid(w io.Writer, right []bool, rows [][]string) error {
	width := make([]int, len(right))
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	for _, r := range rows {
		var b strings.Builder
		for i, c := range r {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if right[i] {
				c = pad + c
			} else {
				c += pad
			}
			if i > 0 {
				b.WriteString("  ")
			}
			b.WriteString(c)
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " ")); err != nil {
			return lab.E("report: write", "", lab.KindUnavailable, err)
		}
	}
	return nil
}

func printf(w io.Writer, format string, args ...any) error {
	if _, err := fmt.Fprintf(w, format, args...); err != nil {
		return lab.E("report: write", "", lab.KindUnavailable, err)
	}
	return nil
}
