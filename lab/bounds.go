package lab

import (
	"cmp"
	"fmt"
	"strconv"
)

// CheckBounds says whether a conforming value lies outside the parameter's
// bounds, and if so how to repair it. Values are never moved into bounds.
func (p *Param) CheckBounds(v Value) (Issue, bool) {
	low, high := "", ""
	if p.Min != nil {
		low = "at least " + p.Min.String()
	}
	if p.MoreThan != nil {
		low = "more than " + p.MoreThan.String()
	}
	if p.Max != nil {
		high = "at most " + p.Max.String()
	}
	allowed := low
	if low != "" && high != "" {
		allowed += ", "
	}
	allowed += high
	issue := func(nearest *Value) (Issue, bool) {
		got := v.String()
		for _, b := range []*Value{p.Min, p.MoreThan, p.Max} {
			if b != nil && b.String() == got && v.Unit == b.Unit && v.Num != b.Num { // rounded for people it would look allowed
				got = v.exact()
			}
		}
		return Issue{Code: "out_of_bounds", Path: p.Name, Got: got, Allowed: allowed, Nearest: nearest, Repairable: nearest != nil,
			Say: fmt.Sprintf("%s is %s; %s is allowed", p.Name, got, allowed)}, true
	}
	switch {
	case v.Kind != Number && v.Kind != Integer || allowed == "":
		return Issue{}, false
	case !v.Usable(): // no comparison would refuse it
		return issue(nil)
	case p.Min != nil && compare(v, *p.Min) < 0:
		return issue(p.Min)
	case p.MoreThan != nil && compare(v, *p.MoreThan) <= 0:
		return issue(nil) // there is no nearest number above an open bound
	case p.Max != nil && compare(v, *p.Max) > 0:
		return issue(p.Max)
	}
	return Issue{}, false
}

// exact is a number with all its digits, where String rounds for people.
func (v Value) exact() string {
	n := strconv.FormatFloat(v.Num, 'g', -1, 64)
	if v.Unit == One {
		return n
	}
	return n + " " + v.Unit.String()
}

// compare orders numbers of one dimension: as they stand where the unit is the
// same, which rounds nothing.
func compare(a, b Value) int {
	if a.Unit == b.Unit {
		return cmp.Compare(a.Num, b.Num)
	}
	return cmp.Compare(a.Base(), b.Base())
}
