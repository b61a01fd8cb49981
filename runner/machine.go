package runner

import (
	"fmt"
	"strings"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
)

// Bounds are what a run may use. Zero means no bound.
type Bounds struct {
	Time      time.Duration
	Exposures int
}

// MachineEvent is something that happened to a run. The closed set is below.
type MachineEvent interface{ machineEvent() }

// Events of a machine.
type (
	// Begin starts it.
	Begin struct{}
	// CommandEnded: a command that it asked for has an outcome.
	CommandEnded struct {
		Outcome lab.Outcome
		Ref     lab.Ref
	}
	// ReadingCame: a reading of a property that it wants.
	ReadingCame struct {
		ID      lab.PropertyID
		Reading lab.Reading
	}
	// Abort ends it: what is under way is stopped, then cleanup (not after a
	// trip, nor where a restart has left the state of things unknown), then
	// finally.
	Abort struct {
		Reason, Rule string
		Exit         string // messages.ExitAbort or ExitFail
		Trip         bool
	}
	// Hold keeps it where it is, until an instant at which it aborts. What is
	// under way comes to its end; what a trip has stopped counts as failed once
	// the run goes on.
	Hold struct {
		Reason, Rule string
		Until        time.Time
	}
	// GoOn ends a hold.
	GoOn struct{}
	// Pass: only time has passed.
	Pass struct{}
)

func (Begin) machineEvent()        {}
func (CommandEnded) machineEvent() {}
func (ReadingCame) machineEvent()  {}
func (Abort) machineEvent()        {}
func (Hold) machineEvent()         {}
func (GoOn) machineEvent()         {}
func (Pass) machineEvent()         {}

// MachineAction is something that a machine asks for. The closed set is below.
type MachineAction interface{ machineAction() }

// Actions of a machine.
type (
	// DoCommand: send it; its outcome comes back as CommandEnded.
	DoCommand struct {
		Command lab.Command
		Finally bool
		Sample  *protocols.Sample // that the step is about; nil: none is named
	}
	// Measured: a step gave values.
	Measured struct {
		Step    string
		Command string
		Source  string // instrument.component.command
		Data    map[string]lab.Value
		State   lab.State
		Ref     lab.Ref
		Say     string
		Sample  *protocols.Sample // that the step is about; nil: none is named
	}
	// Stuck: a step has failed and its protocol wants a person to look; nothing
	// new is done until a GoOn, or the instant.
	Stuck struct {
		Step, Why string
		Until     time.Time
	}
	// Freed: nobody came; the run is no longer held.
	Freed struct{}
	// Ended: the run is over; nothing more will come.
	Ended struct {
		Exit, Reason, Rule string
		Outputs            map[string]lab.Value
		Consequence        protocols.Consequence         // for what was being made; empty: it ended well
		Judged             map[string]protocols.StepKind // what became of samples, as far as it was said
	}
)

func (DoCommand) machineAction() {}
func (Measured) machineAction()  {}
func (Stuck) machineAction()     {}
func (Freed) machineAction()     {}
func (Ended) machineAction()     {}

const (
	commandLife = 10 * time.Second // from asking to the last moment at which it may be sent
	drainWithin = 30 * time.Second // for commands under way to end, before cleanup and finally go on without them
)

// stage is which part of the protocol a machine is in.
type stage uint8

const (
	notBegun stage = iota
	inSteps
	draining // commands under way are coming to their end
	inCleanup
	inFinally
	over
)

// Machine is one run of a plan. It is pure, deterministic, and belongs to one
// owner.
type Machine struct {
	run       string
	plan      *protocols.Plan
	ids       lab.IDs
	bounds    Bounds
	values    *protocols.Values
	stage     stage
	root      node
	began     time.Time
	drainBy   time.Time
	live      map[string]*doNode       // by command id
	stops     map[string]lab.CommandID // ids of the stops of what was cancelled
	exposures int
	settings  []setting // what its commands have set, and nothing has ended since
	wants     map[lab.PropertyID]bool
	hold      *held
	stuck     []*policyNode       // failed steps that wait for a person; the first one's time counts
	asks      map[string]*askNode // by path
	judged    map[string]protocols.StepKind
	end       *Abort // why it ends, if not by reaching the end
	afterward []string
	outcome   protocols.Consequence // of the failure that ended it
	actions   []MachineAction

	touched  bool                  // the Step under way has changed something
	made     []string              // ids, in the Step under way
	record   *Record               // of the last Step
	replayed *Record               // what the Step under way has to do again
	short    bool                  // it had fewer ids than were asked for
	told     map[string][]Measured // by step: what a replay has measured again
	ended    *Ended                // what a replay has ended with
}

// held is why a machine stands, and until when.
type held struct {
	reason, rule string
	until        time.Time
}

// NewMachine makes the machine of a run.
func NewMachine(run string, plan *protocols.Plan, ids lab.IDs, b Bounds) *Machine {
	m := &Machine{run: run, plan: plan, ids: ids, bounds: b, values: plan.NewValues(), live: map[string]*doNode{}, stops: map[string]lab.CommandID{}, wants: map[lab.PropertyID]bool{},
		asks: map[string]*askNode{}, judged: map[string]protocols.StepKind{}}
	for _, id := range plan.AllReads() {
		m.wants[id] = true
	}
	return m
}

// Wants reports whether the run reads a property.
func (m *Machine) Wants(id lab.PropertyID) bool { return m.wants[id] }

// Where names the steps that are under way.
func (m *Machine) Where() string {
	if m.root == nil {
		return ""
	}
	return strings.Join(m.root.where(), ", ")
}

// Step takes one event and returns what is to be done, in order.
func (m *Machine) Step(now time.Time, ev MachineEvent) []MachineAction {
	now = now.UTC() // a record says the same wherever it is read
	m.actions, m.record, m.made, m.touched = nil, nil, nil, true
	switch e := ev.(type) {
	case Begin:
		if m.stage == notBegun {
			m.began, m.stage, m.root = now, inSteps, m.sequence(m.plan.Protocol.Steps)
		}
	case CommandEnded:
		delete(m.stops, e.Outcome.Command)
		if n := m.live[e.Outcome.Command]; n != nil {
			delete(m.live, e.Outcome.Command)
			n.outcome, n.ref = &e.Outcome, e.Ref
			if n.cancelled {
				n.late(m, now)
			}
		}
	case ReadingCame:
		m.touched = false
		m.values.Read(now, e.ID, e.Reading)
	case Pass:
		m.touched = false
	case Resumed:
		m.later(e.Down)
		m.hold = nil // whoever lets it go on after a restart knows that it was held
		m.unstick(true)
		m.resumed()
	case Abort:
		m.abort(now, e)
	case Hold:
		m.holdOn(now, e)
	case GoOn:
		m.hold = nil
		m.unstick(true)
	case Answered:
		if n := m.asks[e.Step]; n != nil && n.answer == nil {
			n.answer = &e
		}
	}
	m.advance(now)
	if m.replayed == nil {
		decided := m.values.Decided()
		if m.touched || len(m.actions)+len(decided)+len(m.made) > 0 {
			m.record = recordOf(now, ev)
			m.record.IDs, m.record.Decisions = m.made, decided
		}
	}
	return m.actions
}

// Next is the earliest instant at which time alone changes something; zero for
// never.
func (m *Machine) Next() time.Time {
	var next time.Time
	switch {
	case m.hold != nil:
		next = m.hold.until
	case len(m.stuck) > 0:
		next = m.stuck[0].until
	case m.root != nil:
		next = m.root.next()
	}
	if m.stage == draining {
		next = earlier(next, m.drainBy)
	}
	if m.stage == inSteps && m.bounds.Time > 0 {
		next = earlier(next, m.began.Add(m.bounds.Time))
	}
	return next
}

func (m *Machine) do(a MachineAction) { m.actions = append(m.actions, a) }

// holdOn puts the steps on hold. Later parts of the protocol can't be held:
// they lead to the end, and a trip there is an abort.
func (m *Machine) holdOn(now time.Time, e Hold) {
	switch {
	case m.stage != inSteps:
		m.abort(now, Abort{Reason: e.Reason, Rule: e.Rule, Exit: messages.ExitAbort, Trip: true})
	case m.hold == nil:
		m.hold = &held{e.Reason, e.Rule, e.Until}
	case m.hold.rule == "" && e.Rule != "": // a trip on top of a person's hold: the earlier end, and the trip's way
		m.hold = &held{e.Reason, e.Rule, earlier(e.Until, m.hold.until)}
	case e.Until.Before(m.hold.until):
		m.hold.until = e.Until
	}
}

// abort turns to the end: whatever is under way is stopped and awaited first.
func (m *Machine) abort(now time.Time, a Abort) {
	m.hold, m.stuck = nil, nil
	switch m.stage {
	case over, inFinally:
		return // the finally is what an abort leads to
	case draining:
		if a.Trip && m.end != nil && !m.end.Trip {
			m.end.Trip, m.end.Reason, m.end.Rule = true, m.end.Reason+"; then "+a.Reason, a.Rule
		}
		return
	case inCleanup:
		if m.end == nil {
			m.end = &a
		}
		m.end.Trip = true // whatever it was, cleanup is not tried again
	case notBegun:
		a.Trip = true // there is nothing to clean up
		m.end = &a
	default:
		m.end = &a
	}
	if m.began.IsZero() {
		m.began = now
	}
	if m.root != nil {
		m.root.cancel(m, now)
	}
	m.touch()
	m.stage, m.root, m.drainBy = draining, nil, now.Add(drainWithin)
}

// advance goes on until something is awaited.
func (m *Machine) advance(now time.Time) {
	if m.stage == inSteps && m.bounds.Time > 0 && !now.Before(m.began.Add(m.bounds.Time)) {
		m.abort(now, Abort{Reason: fmt.Sprintf("its time budget of %s is over", lab.Seconds(m.bounds.Time)), Exit: messages.ExitFail})
	}
	if h := m.hold; h != nil {
		if now.Before(h.until) {
			return
		}
		why := h.reason + "; its time was up and nobody resumed it"
		if h.rule != "" {
			why = fmt.Sprintf("held by %s until its time was up: %s", h.rule, h.reason)
		}
		m.abort(now, Abort{Reason: why, Rule: h.rule, Exit: messages.ExitAbort, Trip: h.rule != ""})
	}
	if len(m.stuck) > 0 {
		if now.Before(m.stuck[0].until) {
			return
		}
		m.unstick(false)
		m.do(Freed{})
	}
	for m.stage != over && m.stage != notBegun {
		if m.stage == draining {
			if len(m.live)+len(m.stops) > 0 && now.Before(m.drainBy) {
				return
			}
			m.touch()
			m.stage, m.root = inCleanup, m.sequence(m.plan.Protocol.Cleanup)
			if m.end != nil && m.end.Trip {
				m.root = m.sequence(nil)
			}
			continue
		}
		st, why := m.root.tick(m, now)
		if st == waiting {
			return
		}
		m.turn(now, st, why)
	}
}

// unstick lets the steps that wait for a person go on: as if they had been
// skipped, or as their policy says where nobody came.
func (m *Machine) unstick(released bool) {
	m.touch()
	for _, n := range m.stuck {
		n.looked, n.released = true, released
	}
	m.stuck = nil
}

// HeldUntil is when a held run ends by itself, or goes on without a person; zero
// where it is not held.
func (m *Machine) HeldUntil() time.Time {
	switch {
	case m.hold != nil:
		return m.hold.until
	case len(m.stuck) > 0:
		return m.stuck[0].until
	}
	return time.Time{}
}

// turn goes from one stage to the next.
func (m *Machine) turn(now time.Time, st status, why string) {
	m.touch()
	switch m.stage {
	case inSteps:
		if st == failed {
			m.abort(now, Abort{Reason: why, Exit: messages.ExitFail, Rule: m.rule()})
			return
		}
		m.stage, m.root = inCleanup, m.sequence(m.plan.Protocol.Cleanup)
	case inCleanup:
		if st == failed {
			m.afterward = append(m.afterward, "cleanup: "+why)
			m.root.cancel(m, now)
		}
		m.stage, m.root = inFinally, &finallyNode{steps: m.plan.Protocol.Finally}
	case inFinally:
		m.finish(now)
	}
}

// rule is the interlock behind the last failure, if there is one.
func (m *Machine) rule() string {
	if n, ok := m.root.(interface{ rule() string }); ok {
		return n.rule()
	}
	return ""
}

// finish evaluates the outputs and ends the run.
func (m *Machine) finish(now time.Time) {
	m.stage = over
	e := Ended{Exit: messages.ExitSuccess, Judged: m.judged}
	outputs, issues := m.values.Outputs(now)
	e.Outputs = outputs
	switch {
	case m.end != nil:
		e.Exit, e.Reason, e.Rule = m.end.Exit, m.end.Reason, m.end.Rule
	case len(issues) > 0:
		e.Exit, e.Reason = messages.ExitFail, issues[0].Say
	}
	for _, s := range m.afterward {
		if e.Reason != "" {
			e.Reason += "; "
		}
		e.Reason += s
	}
	if e.Exit == messages.ExitSuccess && len(m.afterward) > 0 {
		e.Exit = messages.ExitFail
	}
	if e.Exit != messages.ExitSuccess {
		e.Consequence = m.consequence()
	}
	m.do(e)
}

// failedAt notes what a failure that nothing caught means for what is being
// made: the innermost step that says so.
func (m *Machine) failedAt(s *protocols.Step) {
	if m.outcome == "" {
		m.outcome = s.Outcome
	}
}

func (m *Machine) consequence() protocols.Consequence {
	for _, c := range []protocols.Consequence{m.outcome, m.plan.Protocol.Outcome} {
		if c != "" {
			return c
		}
	}
	return protocols.Unclear
}

// sequence makes a node of steps, one after the other.
func (m *Machine) sequence(steps []*protocols.Step) *seqNode { return &seqNode{steps: steps} }
