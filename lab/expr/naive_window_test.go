package expr

import (
	"time"

	"labgate/lab"
)

func (e *naive) span(n *node, m int) time.Duration {
	d, err := lab.Quantity{Value: e.eval(n.kids[1], m).lo, Unit: e.eval(n.kids[1], m).unit}.Duration()
	if err != nil {
		panic(err)
	}
	return d
}

// held looks back over all moments.
func (e *naive) held(n *node, m int) Truth {
	c := n.kids[0]
	if t := e.eval(c, m).truth; t != True {
		return t
	}
	start := e.moments[m].now.Add(-e.span(n, m))
	unknown := start.Before(e.moments[0].now)
	for i := range m {
		if !e.moments[i+1].now.After(start) { // over before the window began
			continue
		}
		switch e.eval(c, i).truth {
		case False:
			return False
		case Unknown:
			unknown = true
		}
	}
	if unknown {
		return Unknown
	}
	return True
}

// stuck looks at every sample there was.
func (e *naive) stuck(n *node, m int) Truth {
	x := n.kids[0]
	if !e.eval(x, m).known {
		return Unknown
	}
	var first, newest time.Time
	var value nval
	var epochs uint64
	have := false
	for i := 0; i <= m; i++ {
		t, ep := e.stamp(x, i)
		if ep != epochs {
			have, epochs = false, ep
		}
		v := e.eval(x, i)
		if !v.known {
			have = false
			continue
		}
		if !have || t.Before(newest) || v.lo != value.lo || v.hi != value.hi {
			first = t
		}
		have, newest, value = true, t, v
	}
	return truthOf(have && newest.Sub(first) >= e.span(n, m))
}

// history collects the samples of a window's argument up to a moment; joined
// tells whether x was known ever since the sample before.
type nsample struct {
	t      time.Time
	v      nval // the latest value with this time
	first  nval // the first value with this time, where the stretch before it ended
	joined bool
}

func (e *naive) history(x *node, m int) []nsample {
	var list []nsample
	var epochs uint64
	joined := false
	for i := 0; i <= m; i++ {
		t, ep := e.stamp(x, i)
		if ep != epochs {
			list, joined, epochs = nil, false, ep
		}
		v := e.eval(x, i)
		if !v.known {
			joined = false
			continue
		}
		if len(list) > 0 {
			last := &list[len(list)-1]
			if t.Equal(last.t) {
				last.v, joined = v, true
				continue
			}
			if t.Before(last.t) {
				list, joined = nil, false
			}
		}
		list = append(list, nsample{t, v, v, joined})
		joined = true
	}
	return list
}

// stamp is the newest time of the readings below x, and the sum of epochs.
func (e *naive) stamp(x *node, m int) (t time.Time, epochs uint64) {
	for name := range namesBelow(x) {
		_, r := e.read(name, m)
		epochs += r.Epoch
		at := r.Received
		if !r.Source.IsZero() && r.Source.Before(at) {
			at = r.Source
		}
		if at.After(t) {
			t = at
		}
	}
	if t.IsZero() {
		t = e.moments[m].now
	}
	return t, epochs
}

func namesBelow(n *node) map[string]bool {
	if n.op == opName {
		return map[string]bool{n.text: true}
	}
	all := map[string]bool{}
	for _, k := range n.kids {
		for name := range namesBelow(k) {
			all[name] = true
		}
	}
	return all
}

// window is rate and mean.
func (e *naive) window(n *node, m int) nval {
	x, w := e.eval(n.kids[0], m), e.span(n, m)
	unit := x.unit
	if n.text == "rate" {
		if unit.Dim().Point {
			unit = kelvin
		}
		var err error
		if unit, err = lab.ParseUnit(unit.String() + "/s"); err != nil {
			panic(err)
		}
	}
	list := e.history(n.kids[0], m)
	if !x.known || len(list) == 0 || e.moments[m].now.Sub(list[len(list)-1].t) > w {
		return unknownIn(unit)
	}
	newest := list[len(list)-1]
	if n.text == "mean" {
		return meanOf(list, x.unit, w)
	}
	old := nsample{}
	for _, s := range list {
		age := newest.t.Sub(s.t)
		if age >= w && age <= w*3/2 || age < w && old.t.IsZero() {
			old = s
		}
	}
	if x.unit.Dim().Point {
		newest.v, old.v = newest.v.in(lab.DegC), old.v.in(lab.DegC)
	}
	dt := newest.t.Sub(old.t)
	if old.t.IsZero() || dt*2 < w || dt == 0 {
		return unknownIn(unit)
	}
	return number((newest.v.lo-old.v.hi)/dt.Seconds(), (newest.v.hi-old.v.lo)/dt.Seconds(), unit)
}

func meanOf(list []nsample, unit lab.Unit, w time.Duration) nval {
	newest := list[len(list)-1].t
	var covered, lo, hi float64
	for i := 1; i < len(list); i++ {
		a, b := list[i-1], list[i]
		middle := a.t.Add(b.t.Sub(a.t) / 2)
		if !b.joined || newest.Sub(middle) > w {
			continue
		}
		dt := b.t.Sub(a.t).Seconds()
		covered += dt
		lo += (a.v.lo + b.first.lo) / 2 * dt
		hi += (a.v.hi + b.first.hi) / 2 * dt
	}
	if covered < w.Seconds()/2 || covered > w.Seconds()*1.5 {
		return unknownIn(unit)
	}
	return number(lo/covered, hi/covered, unit)
}
