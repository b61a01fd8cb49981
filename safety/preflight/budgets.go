package preflight

import (
	"math"

	"labgate/lab/expr"
	"labgate/safety"
)

// budgets is what a plan has used up, by rule: at least and at most.
type budgets map[*safety.Rule]expr.Interval

// joined is what is used up where it may be either; it changes b.
func (b budgets) joined(o budgets) budgets {
	for r, x := range o {
		have := b[r] // nothing, where it has none
		b[r] = expr.Interval{Lo: min(have.Lo, x.Lo), Hi: max(have.Hi, x.Hi)}
	}
	for r, have := range b {
		if _, ok := o[r]; !ok {
			b[r] = expr.Interval{Lo: min(have.Lo, 0), Hi: max(have.Hi, 0)}
		}
	}
	return b
}

// extend adds what was used since before so many times more.
func (b budgets) extend(before budgets, times float64) {
	for r, x := range b {
		lo, hi := x.Lo-before[r].Lo, x.Hi-before[r].Hi
		if times <= 0 {
			continue
		}
		up := math.Inf(1)
		if !math.IsInf(x.Hi, 1) {
			up = x.Hi + hi*times
		}
		b[r] = expr.Interval{Lo: x.Lo + lo*times, Hi: up}
	}
}

// atLeast takes the lower ends from another.
func (b budgets) atLeast(o budgets) {
	for r, x := range b {
		x.Lo = o[r].Lo
		b[r] = x
	}
}

// equal reports whether nothing was used in between.
func (b budgets) equal(o budgets) bool {
	for r, x := range b {
		if x != o[r] {
			return false
		}
	}
	return true
}
