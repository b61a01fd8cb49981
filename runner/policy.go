package runner

import (
	"slices"
	"time"

	"labgate/protocols"
)

// policyNode decides what a failure of a step means for the run.
type policyNode struct {
	step    *protocols.Step
	inner   node
	instead bool   // its own try has failed: inner is the other steps
	by      string // the interlock behind the failure

	why      string    // it has failed, and a person may look at it
	until    time.Time // for how long; zero: it waits for its turn
	looked   bool      // the time is over, or a person has let it go on
	released bool
}

func (n *policyNode) tick(m *Machine, now time.Time) (status, string) {
	if n.why != "" {
		return n.held(m, now)
	}
	st, why := n.inner.tick(m, now)
	if st == failed && !n.instead && len(n.step.OnError.Steps) > 0 {
		m.touch()
		n.inner, n.instead = m.sequence(n.step.OnError.Steps), true
		st, why = n.inner.tick(m, now)
	}
	if st != failed {
		return st, why
	}
	if n.step.OnError.Hold > 0 {
		m.touch()
		n.why = why
		return n.held(m, now)
	}
	return n.then(m, now, why)
}

// held waits for a person, for the time that the protocol gives.
func (n *policyNode) held(m *Machine, now time.Time) (status, string) {
	switch {
	case n.looked && n.released && n.step.OnError.Then != protocols.Continue:
		m.values.Skip(now, n.step)
		return ended, ""
	case n.looked && n.released:
		return ended, ""
	case n.looked:
		return n.then(m, now, n.why)
	case n.until.IsZero():
		n.until = now.Add(n.step.OnError.Hold)
		m.stuck = append(m.stuck, n)
		m.do(Stuck{n.step.Path, n.why, n.until})
	}
	return waiting, ""
}

// then is what the policy says in the end.
func (n *policyNode) then(m *Machine, now time.Time, why string) (status, string) {
	switch n.step.OnError.Then {
	case protocols.Skip:
		m.values.Skip(now, n.step)
		return ended, ""
	case protocols.Continue:
		return ended, ""
	}
	if r, ok := n.inner.(interface{ rule() string }); ok {
		n.by = r.rule()
	}
	m.failedAt(n.step)
	return failed, why
}

func (n *policyNode) next() time.Time {
	if n.why != "" {
		return time.Time{} // the machine looks after it
	}
	return n.inner.next()
}

func (n *policyNode) cancel(m *Machine, now time.Time) {
	n.inner.cancel(m, now)
	if before := len(m.stuck); before > 0 {
		m.stuck = slices.DeleteFunc(m.stuck, func(x *policyNode) bool { return x == n })
		if len(m.stuck) == 0 {
			m.do(Freed{})
		}
	}
}

func (n *policyNode) where() []string {
	if n.why != "" {
		return []string{n.step.Path}
	}
	return n.inner.where()
}

func (n *policyNode) rule() string { return n.by }
