package lab

import (
	"fmt"
	"sort"
	"strings"
)

// Pos is a place in a file. Line and Column count from 1; zero means unknown.
type Pos struct {
	File         string `json:"file,omitempty"`
	Line, Column int    `json:"-"`
}

// String writes "file:line:column", leaving out what is unknown.
func (p Pos) String() string {
	s := p.File
	if p.Line > 0 {
		s = fmt.Sprintf("%s:%d:%d", s, p.Line, p.Column)
	}
	return s
}

// Issue is one thing wrong with a file or a proposal, for people and machines.
// All issues are reported at once.
type Issue struct {
	Code       string `json:"code"`                 // closed set, snake_case: unknown_key, out_of_bounds, …
	Path       string `json:"path,omitempty"`       // where in the document: inputs.temperature
	Pos        Pos    `json:"-"`                    // where in the file
	File       string `json:"file,omitempty"`       // Pos, for machines
	Line       int    `json:"line,omitempty"`       //
	Column     int    `json:"column,omitempty"`     //
	Got        string `json:"got,omitempty"`        // what was found
	Allowed    string `json:"allowed,omitempty"`    // what would be allowed
	Rule       string `json:"rule,omitempty"`       // the interlock that refuses
	Repairable bool   `json:"repairable,omitempty"` // Nearest, put at Path, would repair it
	Nearest    *Value `json:"nearest,omitempty"`    // the nearest legal value
	Say        string `json:"say"`                  // one sentence for people
	Hint       string `json:"hint,omitempty"`       // what to do about it
	Wait       string `json:"wait,omitempty"`       // what waiting may change; empty: waiting will not help
	Inputs     []Used `json:"inputs,omitempty"`     // the readings that a refusal rests on
}

// Used is a reading that a decision rests on.
type Used struct {
	Signal  string  `json:"signal"`
	Value   *Value  `json:"value,omitempty"`
	Quality Quality `json:"quality"`
	AgeMS   float64 `json:"age_ms"`
	Why     string  `json:"why,omitempty"` // why it counts as unknown, if it does
}

// Error writes the issue as one line: "file:3:7: say (hint)".
func (i Issue) Error() string {
	var b strings.Builder
	if i.Pos == (Pos{}) { // it came as JSON
		i.Pos = Pos{i.File, i.Line, i.Column}
	}
	if p := i.Pos.String(); p != "" {
		b.WriteString(p + ": ")
	}
	b.WriteString(i.Say)
	if i.Hint != "" {
		b.WriteString(" (" + i.Hint + ")")
	}
	return b.String()
}

// At sets the position, for machines too.
func (i Issue) At(p Pos) Issue {
	i.Pos, i.File, i.Line, i.Column = p, p.File, p.Line, p.Column
	return i
}

// Issues collects problems; a nil or empty list means all is well.
type Issues []Issue

// Add appends an issue at a position.
func (is *Issues) Add(p Pos, code, hint, format string, args ...any) {
	*is = append(*is, Issue{Code: code, Hint: hint, Say: fmt.Sprintf(format, args...)}.At(p))
}

// Sort orders by file, line and column, keeping the order of equals.
func (is Issues) Sort() {
	sort.SliceStable(is, func(a, b int) bool {
		x, y := is[a].Pos, is[b].Pos
		if x.File != y.File {
			return x.File < y.File
		}
		if x.Line != y.Line {
			return x.Line < y.Line
		}
		return x.Column < y.Column
	})
}

// Err is nil for an empty list, else an error that lists every issue, one a
// line.
func (is Issues) Err() error {
	if len(is) == 0 {
		return nil
	}
	return is
}

// Error writes one issue a line.
func (is Issues) Error() string {
	lines := make([]string, len(is))
	for i := range is {
		lines[i] = is[i].Error()
	}
	return strings.Join(lines, "\n")
}
