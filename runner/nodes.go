package runner

import (
	"fmt"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
	"labgate/protocols"
)

// status is what a node of the plan says of itself.
type status uint8

const (
	waiting status = iota
	ended
	failed
)

// node is a step under way. tick goes on until something is awaited; why says
// what failed. next is when time alone changes something. cancel stops what
// is under way and forgets the rest.
type node interface {
	tick(m *Machine, now time.Time) (status, string)
	next() time.Time
	cancel(m *Machine, now time.Time)
	where() []string
	state() any          // for Machine.State
	later(time.Duration) // moves what counts time
}

// nodeOf makes the node of a step, with its error policy around it.
func nodeOf(s *protocols.Step) node {
	switch s.Kind {
	case protocols.Wait:
		return &policyNode{step: s, inner: &waitNode{step: s}}
	case protocols.Parallel:
		p := &parallelNode{step: s}
		for _, b := range s.Steps {
			p.kids = append(p.kids, nodeOf(b))
		}
		p.done = make([]bool, len(p.kids))
		return &policyNode{step: s, inner: p}
	case protocols.Repeat:
		return &policyNode{step: s, inner: &repeatNode{step: s}}
	case protocols.If:
		return &policyNode{step: s, inner: &ifNode{step: s}}
	case protocols.Use:
		return &policyNode{step: s, inner: &useNode{step: s}}
	case protocols.Ask:
		return &policyNode{step: s, inner: &askNode{step: s}}
	case protocols.Pass, protocols.Reject, protocols.Rework:
		return &policyNode{step: s, inner: &judgeNode{step: s}}
	}
	return &policyNode{step: s, inner: &doNode{step: s}}
}

// seqNode is steps one after the other.
type seqNode struct {
	steps []*protocols.Step
	at    int
	cur   node
	by    string
}

func (n *seqNode) tick(m *Machine, now time.Time) (status, string) {
	for n.at < len(n.steps) {
		if n.cur == nil {
			n.cur = nodeOf(n.steps[n.at])
			m.touch()
		}
		st, why := n.cur.tick(m, now)
		switch st {
		case waiting:
			return waiting, ""
		case failed:
			if r, ok := n.cur.(interface{ rule() string }); ok {
				n.by = r.rule()
			}
			return failed, why
		}
		m.touch()
		n.at, n.cur = n.at+1, nil
	}
	return ended, ""
}

func (n *seqNode) next() time.Time {
	if n.cur == nil {
		return time.Time{}
	}
	return n.cur.next()
}

func (n *seqNode) cancel(m *Machine, now time.Time) {
	if n.cur != nil {
		n.cur.cancel(m, now)
	}
}

func (n *seqNode) where() []string {
	if n.cur == nil {
		return nil
	}
	return n.cur.where()
}

func (n *seqNode) rule() string { return n.by }

// doNode is one command, with its retries.
type doNode struct {
	step    *protocols.Step
	cmd     *lab.Command
	outcome *lab.Outcome
	ref     lab.Ref
	tries   int
	retryAt time.Time
	finally bool
	sample  *protocols.Sample
	by      string

	cancelled bool                 // nothing waits for its outcome any more; it is told of when it comes
	before    bool                 // it was asked for before a restart
	again     map[string]lab.Value // its arguments of before the restart: a setting that is given again
}

func (n *doNode) tick(m *Machine, now time.Time) (status, string) {
	if n.cmd == nil {
		if len(m.stuck) > 0 && !n.finally {
			return waiting, "" // a person is to look first
		}
		if now.Before(n.retryAt) {
			return waiting, ""
		}
		if why := n.send(m, now); why != "" {
			return failed, why
		}
	}
	if n.outcome == nil {
		return waiting, ""
	}
	o := n.outcome
	if o.OK() || o.State == lab.Resolved && o.As == "done" {
		if n.again != nil {
			return ended, ""
		}
		m.inForce(n)
		if why := n.measured(m, now, o); why != "" {
			return failed, why
		}
		return ended, ""
	}
	m.touch()
	before := n.before
	n.cmd, n.outcome, n.before = nil, nil, false
	if before && n.undone(o) {
		return n.tick(m, now)
	}
	// What may have happened twice is never tried again: not what is
	// effectful, not what is in doubt.
	again := n.step.Spec.Effect != lab.Effectful && o.State != lab.InDoubt && n.tries <= n.step.OnError.Retry
	if again {
		n.retryAt = now.Add(protocols.RetryAfter)
		return waiting, ""
	}
	n.report(m, o)
	if len(o.Issues) > 0 {
		n.by = o.Issues[0].Rule
	}
	return failed, fmt.Sprintf("step %s: %s: %s", n.step.Path, o.State, o.Say)
}

// undone reports whether a command that a restart has cut off is asked for again,
// now that a person has let the run go on: it is known not to have happened, or
// may happen twice.
func (n *doNode) undone(o *lab.Outcome) bool {
	switch {
	case o.State == lab.InDoubt:
		return false
	case n.step.Spec.Effect == lab.Effectful:
		return o.State == lab.NotSent || o.State == lab.Resolved && o.As == "not_done"
	}
	return o.State == lab.NotSent || o.State == lab.Resolved || o.Kind == lab.KindOutcomeUnknown
}

// send evaluates the arguments and asks for the command.
func (n *doNode) send(m *Machine, now time.Time) string {
	target, spec, err := m.plan.Command(n.step.Role, n.step.Command)
	if err != nil {
		return fmt.Sprintf("step %s: %v", n.step.Path, err)
	}
	args := n.again
	if args == nil {
		var issues lab.Issues
		if args, issues = m.values.Args(now, n.step); len(issues) > 0 {
			return fmt.Sprintf("step %s: %s", n.step.Path, issues[0].Say)
		}
	}
	if spec.Effect == lab.Acquire {
		if m.bounds.Exposures > 0 && m.exposures >= m.bounds.Exposures {
			return fmt.Sprintf("step %s: the budget of %s is used up", n.step.Path, plural(m.bounds.Exposures, "exposure"))
		}
		m.exposures++
	}
	n.tries++
	n.cmd = &lab.Command{ID: m.newID(now), Target: target, Args: args, Run: m.run, Step: n.step.Path, NotAfter: now.Add(commandLife)}
	m.live[n.cmd.ID] = n
	n.sample = m.values.SampleOf(n.step)
	m.do(DoCommand{*n.cmd, n.finally, n.sample})
	return ""
}

// measured keeps what the step gave, under its own names, and tells of it.
func (n *doNode) measured(m *Machine, now time.Time, o *lab.Outcome) string {
	data, err := m.values.Gave(now, n.step, o.Values)
	if err != nil {
		return fmt.Sprintf("step %s: %v", n.step.Path, err)
	}
	if len(data) > 0 {
		m.do(Measured{Step: n.step.Path, Command: o.Command, Source: n.cmd.Target.String(), Data: data, State: o.State, Ref: n.ref, Say: o.Say, Sample: n.sample})
	}
	return ""
}

// report tells of a step that did not do what it was to do.
func (n *doNode) report(m *Machine, o *lab.Outcome) {
	data := map[string]lab.Value{}
	if o.Amount != nil {
		data["amount"] = lab.NumberValue(*o.Amount)
	}
	m.do(Measured{Step: n.step.Path, Command: o.Command, Source: n.step.Role + "." + n.step.Command, Data: data, State: o.State, Ref: n.ref, Say: o.Say, Sample: n.sample})
}

func (n *doNode) next() time.Time {
	if n.cmd == nil {
		return n.retryAt
	}
	return time.Time{}
}

// cancel stops a command under way by its own stop, as a finally would. Its
// outcome is still awaited, by the machine.
func (n *doNode) cancel(m *Machine, now time.Time) {
	if n.cmd == nil || n.outcome != nil || n.cancelled {
		return
	}
	n.cancelled = true
	if n.step.Spec.StopsWith == "" {
		return
	}
	stop := n.cmd.Target
	stop.Command = n.step.Spec.StopsWith
	id := m.newID(now)
	m.stops[id] = stop
	m.do(DoCommand{lab.Command{ID: id, Target: stop, Run: m.run, Step: n.step.Path, NotAfter: now.Add(commandLife)}, true, n.sample})
}

// late tells of the outcome of a command that was cancelled: the part of a
// dose that was given is part of the record.
func (n *doNode) late(m *Machine, now time.Time) {
	if !n.outcome.OK() {
		n.report(m, n.outcome)
	} else if why := n.measured(m, now, n.outcome); why != "" {
		m.afterward = append(m.afterward, why)
	}
}

func (n *doNode) where() []string { return []string{n.step.Path} }
func (n *doNode) rule() string    { return n.by }

// waitNode waits until a condition holds, or for a plain time.
type waitNode struct {
	step  *protocols.Step
	watch *protocols.Watch
	look  time.Time // when time alone may change what the watch says
}

func (n *waitNode) tick(m *Machine, now time.Time) (status, string) {
	if n.watch == nil {
		n.watch = m.values.Watch(now, n.step)
		m.touch()
	}
	said, next := n.watch.Check(now)
	n.look = next
	switch {
	case said == protocols.Waiting:
		return waiting, ""
	case said == protocols.Met || n.step.Else == protocols.ElseContinue:
		return ended, ""
	}
	return failed, fmt.Sprintf("step %s: %s did not hold within %s", n.step.Path, n.step.Until.Source().Text, lab.Seconds(n.step.Timeout))
}

func (n *waitNode) next() time.Time            { return n.look }
func (n *waitNode) cancel(*Machine, time.Time) {}
func (n *waitNode) where() []string            { return []string{n.step.Path} }

// repeatNode does its steps again and again, start to start; an overrun is
// not made up for.
type repeatNode struct {
	step  *protocols.Step
	i     int
	start time.Time // of the current iteration
	body  *seqNode  // nil between iterations
	by    string
}

func (n *repeatNode) tick(m *Machine, now time.Time) (status, string) {
	s := n.step
	for {
		if n.body == nil {
			if n.i > 0 && now.Before(n.start.Add(s.Every)) {
				return waiting, ""
			}
			if n.i == 0 {
				m.values.Enter(now, s)
			}
			n.i++
			m.touch()
			n.start, n.body = now, m.sequence(s.Steps)
			m.values.BeginIteration(now, s, n.i)
		}
		st, why := n.body.tick(m, now)
		switch st {
		case waiting:
			return waiting, ""
		case failed:
			n.by = n.body.rule()
			return failed, why
		}
		n.body = nil
		m.touch()
		m.values.EndIteration(now, s)
		if m.values.Reached(now, s) == expr.True {
			return ended, ""
		}
		if n.i >= s.Max {
			if s.Until == nil || s.Else == protocols.ElseContinue {
				return ended, ""
			}
			return failed, fmt.Sprintf("step %s: %s was not reached in %s", s.Path, s.Until.Source().Text, plural(s.Max, "iteration"))
		}
	}
}

func (n *repeatNode) next() time.Time {
	if n.body != nil {
		return n.body.next()
	}
	if n.i > 0 {
		return n.start.Add(n.step.Every)
	}
	return time.Time{}
}

func (n *repeatNode) cancel(m *Machine, now time.Time) {
	if n.body != nil {
		n.body.cancel(m, now)
	}
}

func (n *repeatNode) where() []string {
	if n.body != nil {
		return n.body.where()
	}
	return []string{n.step.Path}
}

func (n *repeatNode) rule() string { return n.by }

// ifNode does one list of steps or the other. Readings that are not there yet, at
// the start of a run or after a gap, it waits for; what it still can't decide is a
// failure: neither list is right.
type ifNode struct {
	step *protocols.Step
	body *seqNode  // the list that was chosen
	by   time.Time // when an unknown condition is one for good
}

func (n *ifNode) tick(m *Machine, now time.Time) (status, string) {
	if n.body == nil {
		m.values.Skip(now, n.step)
		switch m.values.Chosen(now, n.step) {
		case expr.True:
			n.body = m.sequence(n.step.Steps)
		case expr.False:
			n.body = m.sequence(n.step.Otherwise)
		default:
			if n.by.IsZero() && m.plan.LooksAt(n.step) {
				n.by = now.Add(protocols.UnknownFor)
				m.touch()
			}
			if now.Before(n.by) {
				return waiting, ""
			}
			return failed, fmt.Sprintf("step %s: %s is unknown", n.step.Path, n.step.Until.Source().Text)
		}
	}
	return n.body.tick(m, now)
}

func (n *ifNode) next() time.Time {
	if n.body == nil {
		return n.by
	}
	return n.body.next()
}

func (n *ifNode) cancel(m *Machine, now time.Time) {
	if n.body != nil {
		n.body.cancel(m, now)
	}
}

func (n *ifNode) where() []string {
	if n.body == nil {
		return []string{n.step.Path}
	}
	return n.body.where()
}

func (n *ifNode) rule() string {
	if n.body == nil {
		return ""
	}
	return n.body.by
}

// finallyNode carries out every step, whatever became of the others.
type finallyNode struct {
	steps []*protocols.Step
	at    int
	cur   *doNode
}

func (n *finallyNode) tick(m *Machine, now time.Time) (status, string) {
	for n.at < len(n.steps) {
		if n.cur == nil {
			n.cur = &doNode{step: n.steps[n.at], finally: true}
			m.touch()
		}
		st, why := n.cur.tick(m, now)
		if st == waiting {
			return waiting, ""
		}
		if st == failed {
			m.afterward = append(m.afterward, "finally: "+why)
		}
		m.touch()
		n.at, n.cur = n.at+1, nil
	}
	return ended, ""
}

func (n *finallyNode) next() time.Time {
	if n.cur == nil {
		return time.Time{}
	}
	return n.cur.next()
}

func (n *finallyNode) cancel(*Machine, time.Time) {}

func (n *finallyNode) where() []string {
	if n.cur == nil {
		return nil
	}
	return n.cur.where()
}
