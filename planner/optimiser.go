package planner

import (
	"errors"
	"fmt"
	"math"

	"labgate/lab"
)

// optimiser decides where to measure next. It is pure: what it returns depends
// on its fields only.
type optimiser struct {
	target float64 // nm
	seed   uint64
	design int // how many measurements explore before the first is chosen by improvement
	space  space
	points []point
	tried  map[setting]bool // proposed before: not again
	drawn  int              // of the exploring design
}

// choice is a setting with what is expected there, before it is proposed.
type choice struct {
	setting
	mean, sd   float64 // nm, of a measurement
	hypothesis string
}

func newOptimiser(target float64, experiments int, seed uint64) *optimiser {
	return &optimiser{target: target, seed: seed, design: min(3, (experiments+1)/2), space: wide, tried: map[setting]bool{}}
}

// learn takes a measurement.
func (o *optimiser) learn(s setting, peak float64) {
	o.points = append(o.points, point{normalise(s), peak})
}

// next chooses the next setting: an exploring one until enough is measured,
// then the one that is expected to improve most.
func (o *optimiser) next() (choice, error) {
	m, err := fit(relevant(o.points, o.target))
	if err != nil {
		return choice{}, err
	}
	var open []setting
	for _, s := range o.space.candidates() {
		if !o.tried[s] {
			open = append(open, s)
		}
	}
	if len(open) == 0 {
		return choice{}, lab.E("planner: choose", "", lab.KindInvalid, errors.New("every setting that is allowed was tried"))
	}
	var c choice
	if len(o.points) < o.design {
		c = o.explore(m, open)
	} else {
		c = o.improve(m, open)
	}
	o.tried[c.setting] = true
	return c, nil
}

// explore takes the open setting nearest to the next place of the design.
func (o *optimiser) explore(m *model, open []setting) choice {
	at := o.space.spread(o.seed, o.drawn)
	o.drawn++
	best, bestD := setting{}, math.Inf(1)
	for _, s := range open {
		x := normalise(s)
		if d := math.Hypot(x[0]-at[0], x[1]-at[1]); d < bestD {
			best, bestD = s, d
		}
	}
	c := o.predict(m, best)
	c.hypothesis = fmt.Sprintf("exploring: at ratio %s and %s degC the peak lies at %.1f nm, known to no better than %.1f nm",
		lab.FormatNumber(best.ratio), lab.FormatNumber(best.temperature), c.mean, c.sd)
	return c
}

// improve takes the open setting with the largest expected improvement; where
// none is left, the one expected nearest to the target.
func (o *optimiser) improve(m *model, open []setting) choice {
	best := math.Inf(1)
	for _, p := range o.points {
		best = min(best, math.Abs(p.y-o.target))
	}
	const least = 1e-6 // nm: below it all settings are equal, and rounding would choose
	var pick, near setting
	gain, distance := least, math.Inf(1)
	for _, s := range open {
		mean, sd := m.predict(normalise(s))
		if g := expectedImprovement(mean, sd, o.target, best); g > gain {
			pick, gain = s, g
		}
		if d := math.Abs(mean - o.target); d < distance {
			near, distance = s, d
		}
	}
	if gain <= least {
		pick = near
	}
	c := o.predict(m, pick)
	c.hypothesis = fmt.Sprintf("ratio %s at %s degC brings the peak to %.1f nm, %.1f nm from the target of %s nm; the best so far is %.1f nm from it",
		lab.FormatNumber(pick.ratio), lab.FormatNumber(pick.temperature), c.mean, math.Abs(c.mean-o.target), lab.FormatNumber(o.target), best)
	return c
}

// predict says what a measurement at s is expected to give.
func (o *optimiser) predict(m *model, s setting) choice {
	mean, sd := m.predict(normalise(s))
	return choice{setting: s, mean: mean, sd: math.Hypot(sd, m.h.noise)}
}

// moved predicts anew for a setting that a repair has changed.
func (o *optimiser) moved(s setting) (choice, error) {
	m, err := fit(relevant(o.points, o.target))
	if err != nil {
		return choice{}, err
	}
	o.tried[s] = true
	c := o.predict(m, s)
	c.hypothesis = fmt.Sprintf("the nearest that is allowed, ratio %s at %s degC, brings the peak to %.1f nm",
		lab.FormatNumber(s.ratio), lab.FormatNumber(s.temperature), c.mean)
	return c, nil
}
