package runner

import (
	"strings"
	"time"

	"labgate/protocols"
)

// parallelNode is steps side by side. By its policy it ends when all have, and
// one that fails stops the others; or the first that ends well stops them; or
// none stops another. What was stopped is awaited.
type parallelNode struct {
	step *protocols.Step
	kids []node
	done []bool
	why  string
	by   string
	lost []string // what branches failed of, where that stops no other
	won  bool     // the first has ended well, where one is enough
}

func (n *parallelNode) tick(m *Machine, now time.Time) (status, string) {
	left := 0
	for i, k := range n.kids {
		if n.stopped() {
			break // what has not begun never does, what has is stopped
		}
		if n.done[i] {
			continue
		}
		st, why := k.tick(m, now)
		if st == waiting {
			left++
			continue
		}
		m.touch()
		n.done[i] = true
		n.branchOver(m, now, k, st, why)
	}
	if n.stopped() {
		for i, k := range n.kids {
			if !n.done[i] && n.underWay(m, k) {
				return waiting, ""
			}
		}
		left = 0
	}
	switch {
	case left > 0:
		return waiting, ""
	case n.why != "":
		return failed, n.why
	case len(n.lost) > 0 && !n.won:
		return failed, strings.Join(n.lost, "; ")
	}
	return ended, ""
}

// stopped reports whether the branches that are not over were told to end.
func (n *parallelNode) stopped() bool { return n.why != "" || n.won }

// branchOver says what the end of one branch means for the others.
func (n *parallelNode) branchOver(m *Machine, now time.Time, k node, st status, why string) {
	switch {
	case st == failed && n.step.Policy == protocols.AllBranches:
		n.fail(m, now, k, why)
	case st == failed:
		n.lost = append(n.lost, why)
		if r, ok := k.(interface{ rule() string }); ok && n.by == "" {
			n.by = r.rule()
		}
	case n.step.Policy == protocols.AnyBranch && !n.won:
		n.won = true
		n.cancel(m, now)
	}
}

func (n *parallelNode) fail(m *Machine, now time.Time, k node, why string) {
	n.why = why
	if r, ok := k.(interface{ rule() string }); ok {
		n.by = r.rule()
	}
	n.cancel(m, now)
}

// underWay reports whether a branch still has a command out.
func (n *parallelNode) underWay(m *Machine, branch node) bool {
	for _, step := range branch.where() {
		for _, d := range m.live {
			if d.step.Path == step {
				return true
			}
		}
	}
	return false
}

func (n *parallelNode) next() time.Time {
	var next time.Time
	if n.stopped() {
		return next // only outcomes are awaited
	}
	for i, k := range n.kids {
		if !n.done[i] {
			next = earlier(next, k.next())
		}
	}
	return next
}

func (n *parallelNode) cancel(m *Machine, now time.Time) {
	for i, k := range n.kids {
		if !n.done[i] {
			k.cancel(m, now)
		}
	}
}

func (n *parallelNode) where() []string {
	var list []string
	for i, k := range n.kids {
		if !n.done[i] {
			list = append(list, k.where()...)
		}
	}
	return list
}

func (n *parallelNode) rule() string { return n.by }
