package preflight

import (
	"slices"

	"labgate/lab/expr"
	"labgate/protocols"
)

// effects is what a branch did to properties, while it was gone through by
// itself.
type effects struct {
	sets map[int]expr.Range // everything that it set them to
	adds map[int]bool       // those that it added to
}

func (l *effects) note(property int, add bool, after expr.Range) {
	if add {
		l.adds[property] = true
		return
	}
	if have, ok := l.sets[property]; ok {
		after = have.Union(after)
	}
	l.sets[property] = after
}

// parallel goes through branches that see each other's changes at every
// moment. First each is gone through by itself, to see what it does; then
// again, judged, with whatever the others may have done by then.
func (w *walk) parallel(s *protocols.Step, st state) {
	w.meetings(s)
	entry := slices.Clone(st)
	logs := make([]*effects, len(s.Steps))
	alone := make([]state, len(s.Steps))
	w.branch++
	for i, b := range s.Steps {
		logs[i], alone[i] = &effects{map[int]expr.Range{}, map[int]bool{}}, slices.Clone(entry)
		w.logs = append(w.logs, logs[i])
		w.dry++
		w.step(b, alone[i])
		w.dry--
		w.logs = w.logs[:len(w.logs)-1]
	}
	for i, b := range s.Steps {
		w.step(b, others(i, entry, logs, alone))
	}
	w.branch--
	together(st, entry, logs, alone)
}

// others is what a branch may find: the entry, with what the other branches may
// have set and added by then.
func others(me int, entry state, logs []*effects, alone []state) state {
	st := slices.Clone(entry)
	for i, l := range logs {
		if i == me {
			continue
		}
		for p, r := range l.sets {
			st[p] = st[p].Union(r)
		}
		for p := range l.adds {
			lo, hi, ok := added(entry[p], alone[i][p])
			b, known := st[p].Interval()
			if _, set := l.sets[p]; set || !ok || !known {
				st[p] = expr.Range{}
				continue
			}
			st[p] = st[p].Spanning(expr.Interval{Lo: b.Lo + min(0, lo), Hi: b.Hi + max(0, hi), Maybe: b.Maybe})
		}
	}
	return st
}

// added is how much at least and at most a branch added to what it found.
func added(before, after expr.Range) (lo, hi float64, ok bool) {
	a, ok := before.Interval()
	b, also := after.Interval()
	return b.Lo - a.Lo, b.Hi - a.Hi, ok && also
}

// together is what is after all branches: what one of them set, or all that
// they added. What several of them set, or one set and another added to, may
// be anything.
func together(st, entry state, logs []*effects, alone []state) {
	for p := range st {
		setters, adders, by := 0, 0, 0
		lo, hi, ok := 0.0, 0.0, true
		for i, l := range logs {
			if _, set := l.sets[p]; set {
				setters, by = setters+1, i
			}
			if !l.adds[p] {
				continue
			}
			a, b, known := added(entry[p], alone[i][p])
			adders, lo, hi, ok = adders+1, lo+a, hi+b, ok && known
		}
		before, known := entry[p].Interval()
		switch {
		case setters+adders == 0:
		case setters == 1 && (adders == 0 || adders == 1 && logs[by].adds[p]):
			st[p] = alone[by][p]
		case setters == 0 && ok && known:
			st[p] = entry[p].Spanning(expr.Interval{Lo: before.Lo + lo, Hi: before.Hi + hi, Maybe: before.Maybe})
		default:
			st[p] = expr.Range{}
		}
	}
}
