package protocols

import (
	"fmt"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// Decision is what Values has worked out of readings, which nobody keeps: with
// its decisions a run can be carried out again, step by step, without them.
type Decision struct {
	Step   string               `json:"step"`
	What   What                 `json:"what"`
	Truth  expr.Truth           `json:"truth,omitempty"`
	Values map[string]lab.Value `json:"values,omitempty"`
	Issues lab.Issues           `json:"issues,omitempty"`
	Rows   [][]float64          `json:"rows,omitempty"` // of each table that the step fills; null: no row
}

// What is a kind of decision.
type What string

// The kinds of decisions.
const (
	decidedArgs   What = "args"
	decidedUntil  What = "until"
	decidedIf     What = "if"
	decidedMet    What = "met"
	decidedOver   What = "timed_out"
	decidedLet    What = "let"
	decidedReturn What = "returned"
	decidedRow    What = "row"
)

// decisions are those since they were last taken, or those that are to be made
// again.
type decisions struct {
	list   []Decision
	again  bool
	misfit error
}

// Decided takes the decisions since the last call.
func (v *Values) Decided() []Decision {
	list := v.decisions.list
	v.decisions.list = nil
	return list
}

// Replay makes the decisions of a list again, in the place of working them out
// anew, until Replayed.
func (v *Values) Replay(list []Decision) {
	v.decisions = decisions{list: append([]Decision(nil), list...), again: true}
}

// Replayed ends a Replay. Its error says where the list does not fit what was
// asked.
func (v *Values) Replayed() error {
	d := v.decisions
	v.decisions = decisions{}
	if d.misfit == nil && len(d.list) > 0 {
		d.misfit = misfit(&d.list[0], "nothing")
	}
	return d.misfit
}

func misfit(d *Decision, asked string) error {
	return lab.E("protocols: replay", "", lab.KindConflict, fmt.Errorf("step %s decided %s, and %s is asked", d.Step, d.What, asked))
}

// decide keeps a decision.
func (v *Values) decide(d Decision) { v.decisions.list = append(v.decisions.list, d) }

// decided is the decision of a replay; false: it is to be worked out.
func (v *Values) decided(s *Step, what What) (Decision, bool) {
	if !v.decisions.again {
		return Decision{}, false
	}
	d, ok := v.maybe(s, what)
	if !ok && v.decisions.misfit == nil {
		v.decisions.misfit = lab.Ef("protocols: replay", "", lab.KindConflict, fmt.Sprintf("step %s has not decided %s", s.Path, what))
		if len(v.decisions.list) > 0 {
			v.decisions.misfit = misfit(&v.decisions.list[0], string(what)+" of "+s.Path)
		}
	}
	return d, true
}

// maybe is the next decision of a replay, if it is this one.
func (v *Values) maybe(s *Step, what What) (Decision, bool) {
	if l := v.decisions.list; v.decisions.again && len(l) > 0 && l[0].Step == s.Path && l[0].What == what {
		v.decisions.list = l[1:]
		return l[0], true
	}
	return Decision{}, false
}

// Chosen is the condition of an if now. Only what it decides by is a decision:
// unknown may be known a moment later.
func (v *Values) Chosen(now time.Time, s *Step) expr.Truth {
	if v.decisions.again {
		if d, ok := v.maybe(s, decidedIf); ok {
			return d.Truth
		}
		return expr.Unknown
	}
	truth := v.Until(now, s)
	if truth != expr.Unknown {
		v.decide(Decision{Step: s.Path, What: decidedIf, Truth: truth})
	}
	return truth
}

// Reached is the condition of a repeat at the end of an iteration.
func (v *Values) Reached(now time.Time, s *Step) expr.Truth {
	if d, ok := v.decided(s, decidedUntil); ok {
		return d.Truth
	}
	truth := v.Until(now, s)
	v.decide(Decision{Step: s.Path, What: decidedUntil, Truth: truth})
	return truth
}

// Kept is all that a run has, but for its readings and its inputs: by slot,
// what was given, and the tables that were filled. It is for comparing.
func (v *Values) Kept() map[string]any {
	given := map[string]lab.Value{}
	for i, r := range v.env.Slots {
		if k := v.plan.Protocol.slots[i].Kind; k != InputSlot && k != PropertySlot && r.Value.Kind != lab.Missing {
			given[fmt.Sprint(i)] = r.Value
		}
	}
	tables := []lab.Value{}
	for i := range v.plan.Protocol.Outputs {
		if rows := v.plan.Protocol.Outputs[i].Rows; rows != nil {
			tables = append(tables, v.table(rows))
		}
	}
	return map[string]any{"given": given, "tables": tables}
}
