// Package preflight proves a plan against the interlocks before anything
// moves: it says of every command whether they refuse it whatever happens,
// can never refuse it, or decide it by readings at the time.
//
// It walks through the plan with ranges in place of values. A command changes
// what its class and the lab declare that it changes; what nothing declares may
// be anything. Loops go on until nothing changes any more, or to their bound;
// branches of a parallel see each other's changes at every moment; cleanup and
// finally may begin anywhere. What is proved is so under the declared effects,
// while nothing is tripped.
//
// It is pure, and it never allows anything: what is proved here is checked
// live all the same. What it can't decide it calls live, never proved.
package preflight

import (
	"fmt"
	"maps"
	"slices"
	"sort"

	"labgate/lab"
	"labgate/lab/expr"
	"labgate/protocols"
	"labgate/safety"
)

// Result is what is said of a plan. Steps come in the order of the file, each
// in one of the three lists.
type Result struct {
	Refused lab.Issues // the rules' refusals, with the step's position
	Proved  []string   // steps
	Live    []Live
	Reach   []Reach // what the plan's commands may bring properties to
}

// Live is a step that stands under rules which only readings can decide.
type Live struct {
	Step    string
	Rules   []string
	Signals []string // that the rules read
}

// Reach is the range of a property that the plan's commands declare to change,
// over the whole of the plan.
type Reach struct {
	Property lab.PropertyID
	Low, Up  lab.Quantity
}

// With makes the check of plans against a lab's rules.
func With(rules *safety.Rules) func(*protocols.Plan) Result {
	m := newModel(rules)
	return func(plan *protocols.Plan) Result {
		w := newWalk(m, plan)
		w.whole()
		return w.result()
	}
}

// walk is one way through a plan.
type walk struct {
	*model
	plan    *protocols.Plan
	slots   []int        // protocol slot to the model's property; -1 for none
	ranges  []expr.Range // of the protocol's slots; properties are filled in from the state
	any     state        // everything that was, at any time: where a finally may begin
	before  bool         // any holds something
	reach   map[int]expr.Range
	said    map[*protocols.Step]*verdict
	refused map[string]bool // of issues, by step and rule
	issues  lab.Issues
	used    budgets                // what budgets of the run have used up
	did     map[lab.CommandID]bool // commands that were surely done in this run
	since   map[lab.CommandID]map[lab.CommandID]bool
	branch  int        // how many parallels are around
	dry     int        // how many branches are gone through unjudged
	logs    []*effects // of those
	room    room
}

// room is memory that one command after the other is judged in: nothing of it
// is kept when its step is over.
type room struct {
	after, during, before state
	env, own              []expr.Range
}

// verdict is what is known of a step so far, over all the times that it is
// come by.
type verdict struct {
	refused bool
	rules   []string
	signals []string
}

func newWalk(m *model, plan *protocols.Plan) *walk {
	w := &walk{model: m, plan: plan, ranges: plan.Ranges(), reach: map[int]expr.Range{}, said: map[*protocols.Step]*verdict{}, refused: map[string]bool{},
		used: budgets{}, did: map[lab.CommandID]bool{}, since: map[lab.CommandID]map[lab.CommandID]bool{}}
	w.slots = make([]int, len(w.ranges))
	for i := range w.slots {
		w.slots[i] = -1
		if id, ok := plan.PropertyAt(i); ok {
			w.slots[i] = m.index[id]
		}
	}
	return w
}

// whole goes through steps, cleanup and finally. The last two may begin after
// an abort anywhere before.
func (w *walk) whole() {
	p := w.plan.Protocol
	st := make(state, len(w.properties))
	w.seen(st)
	w.list(p.Steps, st)
	w.list(p.Cleanup, slices.Clone(w.any))
	w.list(p.Finally, slices.Clone(w.any))
}

// seen notes that a state may be.
func (w *walk) seen(st state) {
	if w.dry > 0 {
		return
	}
	if !w.before {
		w.any, w.before = slices.Clone(st), true
		return
	}
	w.any.join(st)
}

// list goes through steps one after the other, and leaves st as it is after
// them.
func (w *walk) list(steps []*protocols.Step, st state) {
	for _, s := range steps {
		w.step(s, st)
	}
}

// step goes through one step. Where a failure of it lets the run go on, what
// is after it may be as if it had not begun.
func (w *walk) step(s *protocols.Step, st state) {
	var before state
	var used budgets
	if s.OnError.GoesOn() {
		before, used = slices.Clone(st), maps.Clone(w.used)
	}
	switch s.Kind {
	case protocols.Do:
		w.do(s, st)
	case protocols.Wait:
		w.waited(s, st)
	case protocols.Parallel:
		w.parallel(s, st)
	case protocols.Repeat:
		w.repeat(s, st)
	case protocols.Use:
		w.list(s.Steps, st)
	case protocols.If:
		w.branches(s, st)
	}
	if before == nil {
		return
	}
	if len(s.OnError.Steps) > 0 {
		before.join(st) // it failed somewhere between
		done := w.used
		w.used = used.joined(done)
		w.list(s.OnError.Steps, before)
		used, w.used = w.used, done
	}
	st.join(before)
	w.used = w.used.joined(used)
}

// branches of an if: those that its condition leaves open.
func (w *walk) branches(s *protocols.Step, st state) {
	prospect := s.Until.TruthOver(w.filled(st))
	other := slices.Clone(st)
	switch prospect {
	case expr.Always:
		w.list(s.Steps, st)
	case expr.Never:
		w.list(s.Otherwise, st)
	default:
		used := maps.Clone(w.used)
		w.list(s.Steps, st)
		then := w.used
		w.used = used
		w.list(s.Otherwise, other)
		w.used = w.used.joined(then)
		st.join(other)
	}
}

// maxRounds bounds how often a loop is gone through; what still changes then
// is taken to the loop's bound.
const maxRounds = 8

// repeat goes through a body until nothing changes any more. What still grows
// after some rounds is stretched to what it is after all of them.
func (w *walk) repeat(s *protocols.Step, st state) {
	ends := slices.Clone(st) // where it may end, once the first round is over
	start, first := maps.Clone(w.used), budgets(nil)
	for round := 1; round <= s.Max; round++ {
		last, used := slices.Clone(st), maps.Clone(w.used)
		w.list(s.Steps, st)
		if round == 1 {
			ends, first = slices.Clone(st), maps.Clone(w.used)
		}
		ends.join(st)
		if round < s.Max && (round == maxRounds || st.equal(last)) {
			w.used.extend(used, float64(s.Max-round-1)) // what is left but the last, which is gone through below
		}
		if s.Until != nil {
			w.used.atLeast(start) // it may be over before
		}
		if st.equal(last) {
			if round < s.Max && !w.used.equal(used) {
				w.list(s.Steps, slices.Clone(st))
			}
			break
		}
		if round == maxRounds && round < s.Max {
			st.stretch(last, float64(s.Max-round))
			ends.join(st)
			st.join(last)
			w.list(s.Steps, slices.Clone(st)) // judged for any round between
			copy(st, ends)
			break
		}
	}
	if s.Until != nil {
		copy(st, ends)
		w.used.atLeast(first)
	}
}

// filled is the protocol's slots with the properties as they are in a state.
func (w *walk) filled(st state) []expr.Range {
	for i, p := range w.slots {
		if p >= 0 {
			w.ranges[i] = st[p]
		}
	}
	return w.ranges
}

// do goes through one command: it is judged, then what it changes is changed.
func (w *walk) do(s *protocols.Step, st state) {
	v := w.said[s]
	if v == nil {
		v = &verdict{}
		w.said[s] = v
	}
	target, spec, err := w.plan.Command(s.Role, s.Command)
	if err != nil {
		w.refuse(s, v, lab.Issue{Code: "unknown_name", Say: fmt.Sprintf("step %s: %v", s.Path, err)})
		return
	}
	args := w.plan.ArgsOver(s, w.filled(st))
	w.room.after = append(w.room.after[:0], st...)
	after := w.room.after
	w.change(target, spec, args, after)
	w.room.during = append(w.room.during[:0], st...)
	during := w.room.during
	during.join(after)
	w.confirmed(target, spec, args, st, after)
	if w.dry > 0 {
		copy(st, after)
		return
	}
	w.judge(s, v, &asked{target: target, spec: spec, args: args, before: st, during: during})
	copy(st, after)
	w.seen(during)
	w.happened(target)
}

// happened keeps the order of commands, for sequences.
func (w *walk) happened(id lab.CommandID) {
	for _, later := range w.since {
		later[id] = true
	}
	if w.branch == 0 {
		w.did[id] = true
		w.since[id] = map[lab.CommandID]bool{}
	}
}

// refuse notes a refusal, once for a step and a rule.
func (w *walk) refuse(s *protocols.Step, v *verdict, i lab.Issue) {
	v.refused = true
	i.Path = "steps." + s.Path + dotted(i.Path)
	if key := i.Path + " " + i.Rule; !w.refused[key] {
		w.refused[key] = true
		i.Nearest, i.Repairable = nil, false // it is the protocol's argument, not the proposal's
		w.issues = append(w.issues, i.At(s.Pos))
	}
}

func dotted(path string) string {
	if path == "" {
		return ""
	}
	return "." + path
}

// open notes that a rule is decided when the step runs.
func (v *verdict) open(rule string, signals []string) {
	if !slices.Contains(v.rules, rule) {
		v.rules = append(v.rules, rule)
	}
	for _, x := range signals {
		if !slices.Contains(v.signals, x) {
			v.signals = append(v.signals, x)
		}
	}
}

// result puts what was found into the order of the file.
func (w *walk) result() Result {
	r := Result{Refused: w.issues}
	w.plan.Protocol.Walk(func(s *protocols.Step) {
		v := w.said[s]
		switch {
		case v == nil:
		case v.refused:
		case len(v.rules) > 0:
			sort.Strings(v.signals)
			r.Live = append(r.Live, Live{Step: s.Path, Rules: v.rules, Signals: v.signals})
		default:
			r.Proved = append(r.Proved, s.Path)
		}
	})
	for i := range w.properties {
		rg, ok := w.reach[i]
		iv, num := rg.Interval()
		if spec := w.lab.PropertySpec(w.properties[i]); ok && num && spec != nil && iv.Lo > -widest && iv.Hi < widest {
			r.Reach = append(r.Reach, Reach{w.properties[i], in(iv.Lo, spec.Type.Unit), in(iv.Hi, spec.Type.Unit)})
		}
	}
	return r
}
