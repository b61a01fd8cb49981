package runner

import (
	"fmt"
	"time"

	"labgate/protocols"
)

// useNode carries out the steps of another protocol: its inputs are fixed as
// it begins, and what it gives is computed as it ends.
type useNode struct {
	step *protocols.Step
	body *seqNode
}

func (n *useNode) tick(m *Machine, now time.Time) (status, string) {
	if n.body == nil {
		m.values.Enter(now, n.step)
		if issues := m.values.Let(now, n.step); len(issues) > 0 {
			return failed, fmt.Sprintf("step %s: %s", n.step.Path, issues[0].Say)
		}
		n.body = m.sequence(n.step.Steps)
	}
	st, why := n.body.tick(m, now)
	if st != ended {
		return st, why
	}
	if issues := m.values.Returned(now, n.step); len(issues) > 0 {
		return failed, fmt.Sprintf("step %s: %s", n.step.Path, issues[0].Say)
	}
	return ended, ""
}

func (n *useNode) next() time.Time {
	if n.body == nil {
		return time.Time{}
	}
	return n.body.next()
}

func (n *useNode) cancel(m *Machine, now time.Time) {
	if n.body != nil {
		n.body.cancel(m, now)
	}
}

func (n *useNode) where() []string {
	if n.body == nil {
		return []string{n.step.Path}
	}
	return n.body.where()
}

func (n *useNode) rule() string {
	if n.body == nil {
		return ""
	}
	return n.body.by
}
