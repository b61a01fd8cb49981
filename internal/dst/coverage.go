package dst

import (
	"fmt"
	"slices"
	"strings"
)

// Coverage counts what met what: which fault came while a command, a run or the
// laboratory was in which state.
type Coverage map[Cell]int

// Cell is one fault in one state; State is empty for how often the fault came
// at all.
type Cell struct{ Fault, State string }

// happened counts a happening by itself.
func (c Coverage) happened(kind string) { c[Cell{kind, ""}]++ }

// met counts a fault against the states that there are now.
func (c Coverage) met(fault string, s *simulation) {
	c.happened(fault)
	for state := range s.check.states() {
		c[Cell{fault, state}]++
	}
}

// Add adds another seed's counts.
func (c Coverage) Add(o Coverage) {
	for k, n := range o {
		c[k] += n
	}
}

// faults are the rows of the table: what was counted against states.
func (c Coverage) faults() (list []string) {
	for k := range c {
		if k.State != "" && !slices.Contains(list, k.Fault) {
			list = append(list, k.Fault)
		}
	}
	slices.Sort(list)
	return list
}

// columns of the table: states of a command, of a run, of the laboratory.
var columns = []string{"command asked", "command intended", "command sent", "command watched", "command in doubt",
	"run queued", "run needs approval", "run running", "run held", "run ending", "latched", "down"}

// Table is the counts as markdown.
func (c Coverage) Table() string {
	var b strings.Builder
	b.WriteString("| | ever | " + strings.Join(columns, " | ") + " |\n|---|" + strings.Repeat("---|", len(columns)+1) + "\n")
	for _, f := range c.faults() {
		fmt.Fprintf(&b, "| %s | %d |", strings.ReplaceAll(f, "_", " "), c[Cell{f, ""}])
		for _, state := range columns {
			if n := c[Cell{f, state}]; n > 0 {
				fmt.Fprintf(&b, " %d |", n)
			} else {
				b.WriteString(" – |")
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Empty are the cells that nothing fell into.
func (c Coverage) Empty() (list []Cell) {
	for _, f := range c.faults() {
		for _, state := range columns {
			if c[Cell{f, state}] == 0 {
				list = append(list, Cell{f, state})
			}
		}
	}
	return list
}
