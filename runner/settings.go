package runner

import (
	"slices"
	"time"

	"labgate/lab"
	"labgate/protocols"
)

// setting is a command that a run has given and that lasts: a setpoint, a
// position.
type setting struct {
	step   *protocols.Step
	target lab.CommandID
	args   map[string]lab.Value
}

// inForce keeps what a confirmed command has set, in the place of what it has
// changed: heat_off ends what heat has set.
func (m *Machine) inForce(n *doNode) {
	spec := n.step.Spec
	if spec.Effect != lab.Idempotent && spec.Effect != lab.Safe || n.finally {
		return
	}
	m.settings = slices.DeleteFunc(m.settings, func(s setting) bool {
		return s.target.Instrument == n.cmd.Target.Instrument && s.target.Component == n.cmd.Target.Component && overlap(s.step.Spec, spec)
	})
	if spec.Effect == lab.Idempotent && sets(spec) {
		m.settings = append(m.settings, setting{n.step, n.cmd.Target, n.cmd.Args})
	}
}

// sets reports whether a command sets something to an argument of its own. One
// that does not, that empties a vessel, may be given again, but nobody wants it.
func sets(s *lab.CommandSpec) bool {
	return slices.ContainsFunc(s.Changes, func(c lab.Change) bool {
		return !c.Add && (s.Arg(c.To.Text) != nil || s.Arg(c.Low.Text) != nil || s.Arg(c.High.Text) != nil)
	})
}

// Standing names what the run's commands have set and nothing of it has ended
// since, and what of it is under way.
func (m *Machine) Standing() []string {
	var list []string
	for _, s := range m.settings {
		list = append(list, call(s.target, s.args))
	}
	for _, id := range sortedKeys(m.live) {
		if n := m.live[id]; n.cmd != nil {
			list = append(list, call(n.cmd.Target, n.cmd.Args)+" (under way)")
		}
	}
	return list
}

// call writes a command as people do.
func call(id lab.CommandID, args map[string]lab.Value) string {
	s := id.String()
	for i, name := range sortedKeys(args) {
		sep := ", "
		if i == 0 {
			sep = " "
		}
		s += sep + name + " " + args[name].String()
	}
	return s
}

// overlap reports whether two commands change the same.
func overlap(a, b *lab.CommandSpec) bool {
	if a.Name == b.Name {
		return true
	}
	for _, x := range a.Changes {
		for _, y := range b.Changes {
			if x.Property == y.Property {
				return true
			}
		}
	}
	return false
}

// resumeNode gives the settings of before a restart again, one after the other,
// and then goes on: meanwhile the gateway has brought the instruments to their
// safe states.
type resumeNode struct {
	again []*doNode
	then  node
	by    string
}

// resumed puts the settings before what is left to do.
func (m *Machine) resumed() {
	if m.stage != inSteps || m.root == nil {
		return
	}
	n := &resumeNode{then: m.root}
	if before, ok := m.root.(*resumeNode); ok {
		n.then = before.then
	}
	for _, s := range m.settings {
		n.again = append(n.again, &doNode{step: s.step, again: s.args})
	}
	if len(n.again) > 0 {
		m.root = n
	}
}

func (n *resumeNode) tick(m *Machine, now time.Time) (status, string) {
	for len(n.again) > 0 {
		st, why := n.again[0].tick(m, now)
		if st == waiting {
			return waiting, ""
		}
		m.touch()
		if st == failed {
			n.by = n.again[0].rule()
			return failed, "going on after a restart: " + why
		}
		n.again = n.again[1:]
	}
	st, why := n.then.tick(m, now)
	if r, ok := n.then.(interface{ rule() string }); ok && st == failed {
		n.by = r.rule()
	}
	return st, why
}

func (n *resumeNode) next() time.Time {
	if len(n.again) > 0 {
		return n.again[0].next()
	}
	return n.then.next()
}

func (n *resumeNode) cancel(m *Machine, now time.Time) {
	if len(n.again) > 0 {
		n.again[0].cancel(m, now)
	}
	n.then.cancel(m, now)
}

func (n *resumeNode) where() []string {
	if len(n.again) > 0 {
		return n.again[0].where()
	}
	return n.then.where()
}

func (n *resumeNode) rule() string { return n.by }

func (n *resumeNode) state() any {
	var again []any
	for _, d := range n.again {
		again = append(again, d.state())
	}
	return map[string]any{"again": again, "then": n.then.state()}
}

func (n *resumeNode) later(d time.Duration) { n.then.later(d) }
