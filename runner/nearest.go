package runner

import (
	"fmt"
	"math"

	"labgate/lab"
	"labgate/protocols"
)

// What the search for a nearest input may cost. A protocol with more steps is
// answered without one.
const (
	nearestSteps  = 200
	nearestTries  = 24 // preflights of one verdict
	nearestHalves = 10 // of the way between what passes and what was asked
)

// refusedInput is the code of an issue that names the input to move.
const refusedInput = "refused_input"

// nearestInput looks for one input which, moved as little as possible, lets a
// plan pass that the rules refuse: for a planner the way back inside. It looks
// between what was asked and the input's default and bounds, and says nothing
// where moving one input alone does not help.
func (c *Core) nearestInput(proto *protocols.Protocol, asked map[string]lab.Value) lab.Issues {
	steps := 0
	proto.Walk(func(*protocols.Step) { steps++ })
	if steps > nearestSteps {
		return nil
	}
	tries := 0
	passes := func(name string, v lab.Value) bool {
		if tries++; tries > nearestTries {
			return false
		}
		inputs := map[string]lab.Value{}
		for n, x := range asked {
			inputs[n] = x
		}
		inputs[name] = v
		plan, is := protocols.Bind(proto, c.o.Lab, inputs)
		return len(is) == 0 && len(c.o.Preflight(plan).Refused) == 0
	}
	for i := range proto.Inputs {
		in := &proto.Inputs[i]
		if in.Type.Kind != lab.Number && in.Type.Kind != lab.Integer {
			continue
		}
		bad := asked[in.Name]
		for _, end := range []*lab.Value{in.Default, in.Min, in.Max} {
			if end == nil || end.Num == bad.Num || !passes(in.Name, *end) {
				continue
			}
			near := between(*end, bad, func(v lab.Value) bool { return passes(in.Name, v) })
			return lab.Issues{{Code: refusedInput, Path: "inputs." + in.Name, Got: bad.String(), Nearest: &near, Repairable: true,
				Say: fmt.Sprintf("the rules refuse %s = %s here; %s would pass", in.Name, bad, near)}}
		}
	}
	return nil
}

// between is a value that passes, as near to one that does not as a few halves
// of the way find. good passes.
func between(good, bad lab.Value, passes func(lab.Value) bool) lab.Value {
	step := math.Pow(10, math.Floor(math.Log10(math.Abs(bad.Num-good.Num)))-2) // as fine as the search: a value that people would write
	if good.Kind == lab.Integer {
		step = max(step, 1)
	}
	low, high := good, bad
	for range nearestHalves {
		mid := low
		mid.Num = roundTo((low.Num+high.Num)/2, step)
		if mid.Num == low.Num || mid.Num == high.Num {
			break
		}
		if passes(mid) {
			low = mid
		} else {
			high = mid
		}
	}
	return low
}

// roundTo is the nearest multiple of a power of ten, without what binary
// fractions leave behind it.
func roundTo(x, step float64) float64 {
	if step >= 1 {
		return math.Round(x/step) * step
	}
	k := math.Round(1 / step)
	return math.Round(x*k) / k
}
