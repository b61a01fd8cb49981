package protocols

import (
	"strings"
	"time"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/lab/expr"
)

// Anyone may answer an ask step whose by says so; agents never may.
const Anyone = "anyone"

// people are those who may be asked.
var people = []string{"operator", "scientist", "safety", Anyone}

// ask reads a step for a person: what is asked, of whom, for how long it is
// waited for, and what the answer holds.
func (r *parser) ask(s *Step, f *strict.Fields, n *strict.Node) {
	if s.Text = strings.TrimSpace(r.text(n, "what is asked", maxAbout)); s.Text == "" && n.Kind() == strict.Scalar {
		r.add(n.Pos(), "empty", "as in ask: Put the vial into the holder.", "nothing is asked")
	}
	if by := f.Require("by"); by != nil {
		before := len(r.Issues)
		if s.By = r.Text(by); len(r.Issues) == before && !isPerson(s.By) {
			hint := r.near(s.By, people)
			if s.By == "agent" {
				hint = "one of " + strings.Join(people, ", ")
			}
			r.add(by.Pos(), "bad_value", hint, "by: %q is no kind of person who can be asked", clip(s.By))
		}
	}
	if f.Get("timeout") == nil {
		r.add(n.Pos(), "ask_without_timeout", "add timeout: a time", "this may wait for an answer for ever")
	}
	s.Timeout = r.duration(f.Get("timeout"), "timeout")
	if g := f.Get("gives"); g != nil {
		s.gives, s.givesPos = map[string]int{}, map[string]lab.Pos{}
		for _, e := range r.entries(g, "gives", maxText) {
			s.Answers = append(s.Answers, r.input(e))
			s.gives[e.key], s.givesPos[e.key] = -1, e.pos
		}
	}
}

func isPerson(who string) bool {
	for _, p := range people {
		if p == who {
			return true
		}
	}
	return false
}

// MayAnswer reports whether a principal of a role may answer an ask step.
func (s *Step) MayAnswer(role string) bool {
	return s.Kind == Ask && isPerson(role) && role != Anyone && (s.By == Anyone || s.By == role)
}

// answer finds what the answer to an ask step holds under a name.
func (s *Step) answer(name string) *Input {
	for i := range s.Answers {
		if s.Answers[i].Name == name {
			return &s.Answers[i]
		}
	}
	return nil
}

// CheckAnswers checks what a person answers, as CheckInputs checks inputs, and
// fills in defaults.
func (s *Step) CheckAnswers(given map[string]lab.Value) (map[string]lab.Value, lab.Issues) {
	asked := &Protocol{Name: s.Path, Inputs: s.Answers}
	out, issues := asked.CheckInputs(given)
	for i := range issues {
		issues[i].Path = "values" + strings.TrimPrefix(issues[i].Path, "inputs")
	}
	return out, issues
}

// Answered takes the checked answers of an ask step.
func (v *Values) Answered(now time.Time, s *Step, answers map[string]lab.Value) {
	v.Skip(now, s)
	for name, slot := range s.gives {
		if x, ok := answers[name]; ok && slot >= 0 {
			v.set(now, slot, expr.Given(x))
		}
	}
}
