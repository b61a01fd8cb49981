package runner

import (
	"fmt"
	"time"

	"labgate/lab"
	"labgate/protocols"
)

// Answered is the event of a person's answer to an ask step. The answers were
// checked by the step; one to a step that does not ask, or asks no more, changes
// nothing.
type Answered struct {
	Step    string
	Who     string
	Yes     bool
	Reason  string
	Answers map[string]lab.Value
}

func (Answered) machineEvent() {}

// Asked: a step waits for a person.
type Asked struct {
	Step   *protocols.Step
	Sample *protocols.Sample // that it is about; nil: none is named
	Until  time.Time
}

// Told: a person has answered an ask step.
type Told struct {
	Step   string
	Who    string
	Yes    bool
	Reason string
	Data   map[string]lab.Value
	Sample *protocols.Sample
}

// Judged: a sample has passed, is rejected, or is to be worked on again.
type Judged struct {
	Step    string
	Sample  *protocols.Sample
	Verdict protocols.StepKind // Pass, Reject or Rework
	Because string
}

func (Asked) machineAction()  {}
func (Told) machineAction()   {}
func (Judged) machineAction() {}

// Asking is the ask step of a path while it waits for a person; nil where it
// does not.
func (m *Machine) Asking(path string) *protocols.Step {
	if n := m.asks[path]; n != nil && n.answer == nil {
		return n.step
	}
	return nil
}

// Open lists what is asked and not answered, in no order.
func (m *Machine) Open() []Asked {
	var list []Asked
	for _, n := range m.asks {
		if n.answer == nil {
			list = append(list, Asked{n.step, n.sample, n.until})
		}
	}
	return list
}

// askNode waits for a person. No answer in time is a failure, and so is a no.
type askNode struct {
	step   *protocols.Step
	sample *protocols.Sample
	until  time.Time
	answer *Answered
}

func (n *askNode) tick(m *Machine, now time.Time) (status, string) {
	if n.until.IsZero() {
		if len(m.stuck) > 0 {
			return waiting, ""
		}
		n.until, n.sample = now.Add(n.step.Timeout), m.values.SampleOf(n.step)
		m.values.Skip(now, n.step)
		m.asks[n.step.Path] = n
		m.do(Asked{n.step, n.sample, n.until})
	}
	a := n.answer
	switch {
	case a == nil && now.Before(n.until):
		return waiting, ""
	case a == nil:
		delete(m.asks, n.step.Path)
		return failed, fmt.Sprintf("step %s: nobody answered within %s", n.step.Path, lab.Seconds(n.step.Timeout))
	}
	delete(m.asks, n.step.Path)
	m.do(Told{Step: n.step.Path, Who: a.Who, Yes: a.Yes, Reason: a.Reason, Data: a.Answers, Sample: n.sample})
	if a.Yes {
		m.values.Answered(now, n.step, a.Answers)
		return ended, ""
	}
	why := fmt.Sprintf("step %s: %s said no", n.step.Path, a.Who)
	if a.Reason != "" {
		why += ": " + a.Reason
	}
	return failed, why
}

func (n *askNode) next() time.Time { return n.until }

func (n *askNode) cancel(m *Machine, _ time.Time) {
	if m.asks[n.step.Path] == n {
		delete(m.asks, n.step.Path)
	}
}

func (n *askNode) where() []string { return []string{n.step.Path} }

// judgeNode says what has become of a sample. What is rejected stays so.
type judgeNode struct{ step *protocols.Step }

func (n *judgeNode) tick(m *Machine, _ time.Time) (status, string) {
	s := m.values.SampleOf(n.step)
	if s == nil {
		return failed, fmt.Sprintf("step %s: it is not known which sample", n.step.Path)
	}
	if m.judged[s.Name] == protocols.Reject && n.step.Kind != protocols.Reject {
		return failed, fmt.Sprintf("step %s: sample %s is rejected already", n.step.Path, s.Name)
	}
	m.judged[s.Name] = n.step.Kind
	m.do(Judged{n.step.Path, s, n.step.Kind, n.step.Text})
	return ended, ""
}

func (n *judgeNode) next() time.Time            { return time.Time{} }
func (n *judgeNode) cancel(*Machine, time.Time) {}
func (n *judgeNode) where() []string            { return []string{n.step.Path} }
