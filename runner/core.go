// Package runner turns proposals into verdicts and accepted proposals into
// runs. Core holds the proposals, the queue and the runs; Machine is one run.
//
// Both are pure: the time and an event in, actions out. The runner speaks to
// gateways by messages only; it can't send to an instrument, make a permit or
// approve itself. Package runner/service is the shell around it.
package runner

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
	"labgate/safety/preflight"
)

// Principal is who may ask for what, as access.yaml says.
type Principal struct {
	Name   string
	Role   string // agent, scientist, operator, safety
	Until  time.Time
	Inline bool // may carry a protocol of its own
	// InlineApproved: only with the approval of people.
	InlineApproved bool
	Priority       string   // the highest that it may ask for; empty: normal for agents, high for people
	Protocols      []string // names that it may run; empty: all
	Rate           Rate     // the zero Rate: as many as fit the queue
}

// Rate is a number of proposals in any stretch of time.
type Rate struct {
	N   int
	Per time.Duration
}

// Options make a Core.
type Options struct {
	Lab        *lab.Lab
	Classes    map[string]*lab.Class
	Library    []*protocols.Protocol
	Principals []Principal
	RulesHash  string
	Preflight  func(*protocols.Plan) preflight.Result
	IDs        lab.IDs
	Approvals  Approvals
	// MaxQueue bounds the accepted proposals that wait; more are rejected with
	// the advice to try again later.
	MaxQueue int // default 1000
	// MaxQueueEach bounds those of one principal, so that nobody can fill the
	// queue for everybody. Default 100.
	MaxQueueEach int
	// SnapshotEvery is how many entries come between two snapshots; a start
	// reads about so many. Default DefaultSnapshotEvery.
	SnapshotEvery int
	// MaxAnswered is how many answers to proposals are at hand; older ones are
	// asked of the journal. Default 1000.
	MaxAnswered int
	// MaxEnded is how many runs that are over are listed still. Default 1000.
	MaxEnded int
}

// DefaultSnapshotEvery is how many of the runner's entries come between two
// snapshots, where nobody says otherwise.
const DefaultSnapshotEvery = 5000

// Times of the runner's side of a lease and of its commands.
const (
	leaseTTL    = 10 * time.Second
	leaseRenew  = leaseTTL / 3
	retryLeases = time.Second            // a run that did not get its instruments tries again, then after twice as long
	rarestRetry = 16 * time.Second       // each try is in the journal: an instrument that is away for a night must not fill it
	telemetryAt = 100 * time.Millisecond // readings that a leased instrument is asked for
	askOutcome  = 2 * time.Second        // a command without an outcome is asked for again
	silentFor   = leaseTTL               // a gateway that has not answered for so long has lost the run's leases
)

// Core is the runner's mind. One owner calls it.
type Core struct {
	o        Options
	byName   map[string][]*protocols.Protocol
	stock    stock
	floods   map[string]*flood      // by principal
	verdicts map[string]*record     // by proposalKey: the latest, and those that are being looked for; the rest is asked of the journal
	answered []string               // keys of the verdicts that are durable, oldest first
	asked    map[string][]time.Time // by principal with a rate: its proposals that still count
	queue    []*run                 // accepted and not begun, in order; see queue.go
	coming   []*run                 // accepted, and not durable yet
	latches  []*latch               // that nobody has reset, as far as is known
	heard    map[string]heard       // by gateway
	doubtAt  time.Time              // when doubts are asked for again; zero: there are none
	runs     map[string]*run        // by id; of those that are over the newest, with only what a list shows
	order    []string
	live     []*run          // those that are not over, in the same order
	byCmd    map[string]*run // live commands
	waiting  map[uint64]func(now time.Time, refs []lab.Ref, err error)
	token    uint64
	since    int       // entries since the last snapshot
	now      time.Time // of the last Step
	actions  []Action
	outdated string // hash of the gateway's rules, while the ones here are others; empty: they are the same

	late         []lab.Outcome // that the journal told of, for lots
	restoring    *proposal     // the proposal whose verdict comes next in the journal
	restoringKey string
}

// New makes a Core.
func New(o Options) *Core {
	if o.MaxQueue == 0 {
		o.MaxQueue = 1000
	}
	if o.MaxQueueEach == 0 {
		o.MaxQueueEach = 100
	}
	if o.SnapshotEvery == 0 {
		o.SnapshotEvery = DefaultSnapshotEvery
	}
	if o.MaxAnswered == 0 {
		o.MaxAnswered = 1000
	}
	if o.MaxEnded == 0 {
		o.MaxEnded = mostListed
	}
	c := &Core{o: o, stock: newStock(o.Lab), floods: map[string]*flood{}, byName: map[string][]*protocols.Protocol{}, asked: map[string][]time.Time{}, heard: map[string]heard{}, verdicts: map[string]*record{}, runs: map[string]*run{},
		byCmd: map[string]*run{}, waiting: map[uint64]func(time.Time, []lab.Ref, error){}}
	for _, p := range o.Library {
		c.byName[p.Name] = append(c.byName[p.Name], p)
	}
	return c
}

// Step takes one event and returns what is to be done, in order.
func (c *Core) Step(now time.Time, ev Event) []Action {
	c.actions, c.now = nil, now
	switch e := ev.(type) {
	case Proposed:
		c.proposed(now, e)
	case Durable:
		then := c.waiting[e.Token]
		delete(c.waiting, e.Token)
		if then != nil {
			then(now, e.Refs, e.Err)
		}
	case Looked:
		c.looked(now, e)
	case LeaseReplied:
		c.leaseReplied(now, e)
	case CommandReplied:
		c.commandReplied(now, e)
	case OutcomeArrived:
		c.outcome(now, e.Outcome)
		c.settleTaken(now, e.Outcome.Outcome)
	case ReadingArrived:
		c.reading(now, e)
	case SafetyArrived:
		c.safety(now, e.Safety)
	case ControlAsked:
		c.control(now, e)
	case ApprovalAsked:
		c.approved(now, e)
	case RulesLoaded:
		c.rulesLoaded(now, e)
	case Tick:
	}
	c.tick(now)
	c.keepSmall(now)
	return c.actions
}

func (c *Core) do(a Action) { c.actions = append(c.actions, a) }

func (c *Core) append(then func(now time.Time, refs []lab.Ref, err error), entries ...lab.Entry) {
	c.token++
	c.waiting[c.token] = then
	c.since += len(entries)
	c.do(Append{c.token, entries})
}

// tick does what is due by time alone.
func (c *Core) tick(now time.Time) {
	c.live = slices.DeleteFunc(c.live, (*run).over)
	c.startWaiting(now)
	c.floodTick(now)
	c.doubtTick(now)
	for _, r := range c.live {
		switch {
		case r.active():
			c.runTick(now, r)
		case r.state == Held:
			c.sleepTick(now, r)
		}
	}
}

// Next is the earliest instant at which time alone changes something; zero for
// never.
func (c *Core) Next() time.Time {
	next := earlier(earlier(c.queueNext(), c.floodNext()), c.doubtAt)
	for _, r := range c.live {
		if !r.active() && r.state != Held {
			continue
		}
		if r.state == Held { // one that is on its way to its finally has its time behind it
			next = earlier(next, r.heldUntil)
		}
		if r.machine != nil {
			next = earlier(next, r.machine.Next())
		}
		next = earlier(next, r.renewAt)
		for _, cmd := range r.commands {
			next = earlier(next, cmd.askAt)
		}
	}
	return next
}

// addRun takes a run in, after those before it.
func (c *Core) addRun(r *run) {
	c.runs[r.id] = r
	c.order, c.live = append(c.order, r.id), append(c.live, r)
}

func (c *Core) principal(name string) *Principal {
	for i := range c.o.Principals {
		if c.o.Principals[i].Name == name {
			return &c.o.Principals[i]
		}
	}
	return nil
}

// entry makes a journal entry, about a run where there is one.
func (c *Core) entry(now time.Time, kind, principal string, r *run, body any) lab.Entry {
	e := lab.Entry{Kind: kind, Time: now, Principal: principal, Body: messages.Body(body)}
	if r != nil {
		e.Run, e.Principal, e.Labels, e.Samples = r.id, r.principal, r.proposal.Labels, r.proposal.Samples
	}
	return e
}

// Runs lists every run, newest last, for people.
func (c *Core) Runs(principal string) []messages.RunInfo {
	var list []messages.RunInfo
	for _, id := range c.order {
		r := c.runs[id]
		if principal != "" && r.principal != principal {
			continue
		}
		i := messages.RunInfo{Run: r.id, Principal: r.principal, Protocol: r.proposal.protocolName(), State: string(r.state), Started: r.started,
			InDoubt: append([]string(nil), r.doubts...), Outputs: r.outputs, Say: r.say}
		if r.machine != nil {
			i.Step = r.machine.Where()
		}
		i.Position, i.Priority, i.Approval = c.position(r), r.priority, r.approvals()
		if r.waits() && r.pending() {
			i.State, i.Say = needsApproval, r.approvalNeeded()
		}
		if r.state == Held && r.machine != nil && !r.machine.HeldUntil().IsZero() {
			t := r.machine.HeldUntil()
			i.HeldUntil = &t
		}
		i.Standing = r.standing()
		i.Asks = r.asks()
		if r.over() {
			t := r.ended
			i.Ended = &t
			if n := len(r.doubts); n > 0 {
				i.Say += fmt.Sprintf(" (%s in doubt)", plural(n, "command"))
			}
		}
		list = append(list, i)
	}
	return list
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// earlier is the earlier of two instants, where zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// later is the later of two instants.
func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func plural(n int, what string) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}
