package runner

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
)

// RunState is where a run is in its life.
type RunState string

// The states of a run.
const (
	Queued  RunState = "queued"
	Leasing RunState = "leasing"
	Running RunState = "running"
	Held    RunState = "held" // waits for a person; nothing of it moves
	Ending  RunState = "ending"
	Done    RunState = "done"
	Aborted RunState = "aborted"
	Failed  RunState = "failed"
)

// needsApproval is how a queued run is listed that people must approve first.
const needsApproval = "needs_approval"

// run is one execution of a plan, with its leases and its live commands.
type run struct {
	id        string
	principal string
	proposal  *proposal
	verdict   *messages.Verdict // until the run is over
	plan      *protocols.Plan
	machine   *Machine
	state     RunState
	say       string
	queued    time.Time
	priority  string
	counts    time.Time // its place in the order of the queue
	approval  *approval // nil: it needs none
	effects   []string  // of its plan; nil: not listed yet
	started   time.Time
	ended     time.Time
	notAfter  time.Time // of the proposal: a run that has not begun by then never does
	tryAt     time.Time // when leases are asked for again
	retry     time.Duration
	renewAt   time.Time
	leases    map[string]uint64 // instrument to fencing number
	commands  map[string]*runCommand
	doubts    []string
	lost      map[string]*runCommand // doubts that this process saw begin
	outputs   map[string]lab.Value
	events    map[string]int     // by descriptor
	abort     *Abort             // asked before there were leases
	withdrawn []func(error)      // who is told that it is off, once that is durable
	held      bool               // found unfinished after a restart
	rules     string             // hash of the rules that its verdict was by
	holds     []string           // rules that hold it and are latched still, as far as is known
	answered  map[string]bool    // ask steps whose answer is being made durable
	log       []*Record          // of its machine, as the journal has them
	asleep    *Machine           // made again after a restart; it goes on when a person says so
	taken     map[string]float64 // by lot: what its commands took of it, at worst
	goesOn    bool               // a restart holds it only until it is known what became of its commands
	heldUntil time.Time          // when a run that a restart has held is ended, if nobody comes
	restored  bool               // accepted before a restart and not begun: it waits for held runs to be ended by a person
}

// runCommand is a command that a run waits for.
type runCommand struct {
	id, gateway, instrument string
	askAt                   time.Time // when its outcome is asked for
	notAfter                time.Time
	silent                  time.Time // since when its gateway has not answered; zero: it has
}

func newRun(id, principal string, p *proposal, plan *protocols.Plan, now time.Time) *run {
	r := &run{id: id, principal: principal, proposal: p, plan: plan, state: Queued, queued: now, priority: priorityOf(p), counts: now, tryAt: now, leases: map[string]uint64{}, commands: map[string]*runCommand{}, lost: map[string]*runCommand{}, events: map[string]int{}, answered: map[string]bool{}}
	if p.NotAfter != nil {
		r.notAfter = *p.NotAfter
	}
	return r
}

// doubt keeps a command that is in doubt, in the order of ids: the bus and the
// journal may tell of several in different orders.
func (r *run) doubt(command string) {
	if !containsText(r.doubts, command) {
		r.doubts = append(r.doubts, command)
		sort.Strings(r.doubts)
	}
}

// active reports whether the run has leases, or is about to. One that a trip
// holds keeps them.
func (r *run) active() bool {
	return r.state == Leasing || r.state == Running || r.state == Ending || r.state == Held && r.machine != nil
}

// askLease asks for the next instrument, in sorted order: two runs can't wait
// for each other.
func (c *Core) askLease(r *run) {
	for _, in := range r.plan.Instruments {
		if _, have := r.leases[in]; !have {
			c.do(Lease{c.o.Lab.Instrument(in).Gateway, messages.LeaseRequest{Action: messages.LeaseTake, Instrument: in, Run: r.id, Principal: r.principal,
				TTL: lab.Seconds(leaseTTL), PlanHash: r.plan.Hash, RulesHash: c.rulesOf(r), Limits: r.plan.Limits(), Telemetry: lab.Seconds(telemetryAt)}})
			return
		}
	}
}

func (c *Core) leaseReplied(now time.Time, e LeaseReplied) {
	r := c.runs[e.Run]
	if r == nil || e.Action == messages.LeaseRelease {
		return
	}
	problem := ""
	switch {
	case e.Err != nil:
		problem = fmt.Sprintf("no answer about the lease on %s: %v", e.Reply.Instrument, e.Err)
	case !e.Reply.OK && len(e.Reply.Issues) > 0:
		problem = e.Reply.Issues[0].Say
	case !e.Reply.OK:
		problem = "the lease on " + e.Reply.Instrument + " was refused"
	}
	if e.Action == messages.LeaseRenew {
		if problem != "" && e.Err == nil && r.machine != nil {
			c.stepMachine(now, r, Abort{Reason: problem, Exit: messages.ExitAbort})
		}
		return
	}
	if r.state != Leasing {
		return
	}
	if r.abort != nil && !r.held {
		c.take(r, e)
		c.releaseAll(r)
		c.neverStarted(now, r, r.abort.Exit, r.abort.Reason)
		return
	}
	if len(e.Reply.Issues) > 0 && e.Reply.Issues[0].Code == "rules_changed" && !r.held {
		c.releaseAll(r)
		c.neverStarted(now, r, messages.ExitFail, "the interlocks have changed since its verdict: propose it again")
		c.learnRules("") // those here may be of yesterday too
		return
	}
	if problem != "" {
		c.releaseAll(r)
		r.retry = min(max(2*r.retry, retryLeases), rarestRetry)
		r.state, r.say, r.tryAt = Queued, problem, now.Add(r.retry)
		return
	}
	c.take(r, e)
	if len(r.leases) < len(r.plan.Instruments) {
		c.askLease(r)
		return
	}
	if r.late(now) != "" {
		c.releaseAll(r)
		c.overdue(now, r)
		return
	}
	if r.asleep == nil && r.abort == nil {
		if is := c.checkLots(now, r.plan, r); len(is) > 0 {
			c.releaseAll(r)
			c.neverStarted(now, r, messages.ExitFail, is[0].Say)
			return
		}
	}
	c.begin(now, r)
}

func (c *Core) take(r *run, e LeaseReplied) {
	if e.Err == nil && e.Reply.OK {
		r.leases[e.Reply.Instrument] = e.Reply.Lease
	}
}

func (c *Core) releaseAll(r *run) {
	for _, in := range sortedKeys(r.leases) {
		c.do(Lease{c.o.Lab.Instrument(in).Gateway, messages.LeaseRequest{Action: messages.LeaseRelease, Instrument: in, Run: r.id, Principal: r.principal,
			Lease: r.leases[in], TTL: lab.Seconds(leaseTTL), PlanHash: r.plan.Hash, RulesHash: c.rulesOf(r), Telemetry: lab.Seconds(telemetryAt)}})
	}
	r.leases = map[string]uint64{}
}

// begin starts the machine, now that every instrument is held.
func (c *Core) begin(now time.Time, r *run) {
	r.renewAt = now.Add(leaseRenew)
	if r.asleep != nil {
		c.goOnAfterRestart(now, r)
		return
	}
	r.machine = NewMachine(r.id, r.plan, c.o.IDs, r.bounds())
	if r.abort != nil {
		// A person ends a run that a restart has held: what it was doing is
		// not known, so only its finally, which is safe, is left to do.
		c.unqueue(r)
		r.state = Ending
		c.stepMachine(now, r, *r.abort)
		return
	}
	r.state, r.started = Running, now
	roles := map[string]string{}
	for name, b := range r.plan.Bindings {
		roles[name] = b.Instrument.Name
	}
	start := messages.RunStart{UID: r.id, Principal: r.principal, Proposal: r.proposal.ID, Campaign: r.proposal.Campaign,
		Protocol: messages.ProtocolRef{Name: r.plan.Protocol.Name, Version: r.plan.Protocol.Version, Hash: r.plan.Protocol.Hash}, Inputs: r.plan.Inputs, Roles: roles,
		Hypothesis: r.proposal.Hypothesis, Predicts: r.proposal.Predicts, Labels: r.proposal.Labels, Samples: r.allSamples(), Lots: r.lots(), Loaded: c.lotsOf(r),
		Hashes: messages.Hashes{Protocol: r.plan.Protocol.Hash, Plan: r.plan.Hash, Lab: c.o.Lab.Hash, Rules: c.rulesOf(r)}}
	// That the run has begun is durable before its first command: else a crash
	// in between would leave a run that looks as if it had never begun, and it
	// would be carried out a second time.
	made, entries := c.madeSamples(now, r)
	c.append(func(now time.Time, _ []lab.Ref, err error) {
		c.unqueue(r)
		if err != nil {
			c.releaseAll(r)
			r.state, r.say, r.ended, r.machine = Failed, fmt.Sprintf("its start could not be made durable: %v", err), now, nil
			return
		}
		for i := range made {
			_, _ = c.stock.change(r.started, r.principal, "", &made[i]) // one of this name came in between: it is that one
		}
		c.do(Publish{r.principal, r.id, start})
		if r.machine != nil {
			c.stepMachine(now, r, Begin{})
		}
	}, append(entries, c.entry(now, messages.KindRunStart, r.principal, r, start))...)
}

// bounds are what the run may use: the tighter of its protocol's and its
// proposal's.
func (r *run) bounds() Bounds {
	b := Bounds{Time: r.plan.Protocol.Budget.Time, Exposures: r.plan.Protocol.Budget.Exposures}
	own := r.proposal.Budget
	if own == nil {
		return b
	}
	if own.Time != nil {
		if d, err := own.Time.Duration(); err == nil && (b.Time == 0 || d < b.Time) {
			b.Time = d
		}
	}
	if own.Exposures != nil && (b.Exposures == 0 || *own.Exposures < b.Exposures) {
		b.Exposures = *own.Exposures
	}
	return b
}

// runTick renews leases, asks for late outcomes, and lets the machine's time
// pass.
func (c *Core) runTick(now time.Time, r *run) {
	if !r.renewAt.IsZero() && !r.renewAt.After(now) && r.machine != nil {
		r.renewAt = now.Add(leaseRenew)
		for _, in := range sortedKeys(r.leases) {
			c.do(Lease{c.o.Lab.Instrument(in).Gateway, messages.LeaseRequest{Action: messages.LeaseRenew, Instrument: in, Run: r.id, Principal: r.principal,
				Lease: r.leases[in], TTL: lab.Seconds(leaseTTL), PlanHash: r.plan.Hash, RulesHash: c.rulesOf(r), Telemetry: lab.Seconds(telemetryAt)}})
		}
	}
	c.askAgain(now, r)
	if r.machine != nil && r.active() {
		c.stepMachine(now, r, Pass{})
	}
}

// askAgain asks for outcomes that are late.
func (c *Core) askAgain(now time.Time, r *run) {
	for _, id := range sortedKeys(r.commands) {
		if cmd := r.commands[id]; !cmd.askAt.After(now) {
			cmd.askAt = now.Add(askOutcome)
			c.do(Query{cmd.gateway, cmd.instrument, id})
		}
	}
}

// stepMachine lets the run's machine act, and does what it asks for.
//
// What it is remembered by is written down first: else a restart would not know
// of a command that went out, and ask for it a second time. What is safe may be
// asked for twice, and waits for no disk.
func (c *Core) stepMachine(now time.Time, r *run, ev MachineEvent) {
	actions := r.machine.Step(now, ev)
	c.remember(now, r, actions)
	for _, a := range actions {
		switch a := a.(type) {
		case DoCommand:
			if c.isSafe(a) {
				c.sendCommand(now, r, a)
			}
		case Measured:
			c.measured(now, r, a)
		case Asked:
			c.askedPerson(now, r, a)
		case Told:
			c.told(now, r, a)
		case Judged:
			c.judged(now, r, a)
		case Stuck:
			c.stuck(now, r, a)
		case Freed:
			if r.state == Held && len(r.holds) == 0 {
				r.state, r.say = Running, ""
			}
		case Ended:
			c.endRun(now, r, a)
		}
	}
}

// remember writes the last step of a run's machine down, and sends the commands
// that wait for that.
func (c *Core) remember(now time.Time, r *run, actions []MachineAction) {
	rec := r.machine.Record()
	if rec == nil {
		return
	}
	r.log = append(r.log, rec)
	var waiting []DoCommand
	for _, a := range actions {
		if do, ok := a.(DoCommand); ok && !c.isSafe(do) {
			waiting = append(waiting, do)
		}
	}
	e := c.entry(now, kindStep, r.principal, r, rec)
	if len(waiting) == 0 {
		c.note(e)
		return
	}
	m := r.machine
	taken := c.takes(now, r, waiting)
	c.append(func(now time.Time, _ []lab.Ref, err error) {
		for _, a := range waiting {
			switch {
			case r.machine != m:
			case err != nil:
				c.outcomeOf(now, r, lab.Outcome{Command: a.Command.ID, State: lab.NotSent, Kind: lab.KindUnavailable, Say: fmt.Sprintf("it could not be made durable: %v", err)}, lab.Ref{})
			case m.Cancelled(a.Command.ID):
				c.outcomeOf(now, r, lab.Outcome{Command: a.Command.ID, State: lab.NotSent, Kind: lab.KindCancelled, Say: "the run did not want it any more"}, lab.Ref{})
			default:
				c.sendCommand(now, r, a)
			}
		}
	}, append(taken, e)...)
}

// isSafe reports whether a command leads towards the safe state.
func (c *Core) isSafe(a DoCommand) bool {
	s := c.o.Lab.CommandSpec(a.Command.Target)
	return s != nil && s.Effect == lab.Safe
}

func (c *Core) sendCommand(now time.Time, r *run, a DoCommand) {
	in := a.Command.Target.Instrument
	gw := c.o.Lab.Instrument(in).Gateway
	r.commands[a.Command.ID] = &runCommand{id: a.Command.ID, gateway: gw, instrument: in, askAt: now.Add(askOutcome), notAfter: a.Command.NotAfter}
	c.byCmd[a.Command.ID] = r
	c.do(Command{gw, messages.Command{ID: a.Command.ID, Instrument: in, Component: a.Command.Target.Component, Command: a.Command.Target.Command, Args: a.Command.Args,
		Principal: r.principal, Run: r.id, Campaign: r.proposal.Campaign, Step: a.Command.Step, Lease: r.leases[in], Finally: a.Finally, NotAfter: a.Command.NotAfter,
		Samples: r.samples(a.Sample), Labels: r.labels(a.Sample)}})
}

// commandReplied: a refusal is an outcome; an acceptance only says that one
// will come. A gateway that does not know a command whose time is over never
// had it.
func (c *Core) commandReplied(now time.Time, e CommandReplied) {
	r := c.byCmd[e.Command]
	if r == nil {
		c.heardLate(now, e)
		return
	}
	cmd := r.commands[e.Command]
	switch {
	case e.Err == nil:
		cmd.silent = time.Time{}
	case cmd.silent.IsZero():
		cmd.silent = now
	}
	switch {
	case e.Err != nil:
		if now.After(cmd.notAfter) && now.Sub(cmd.silent) >= silentFor {
			c.outcomeOf(now, r, lab.Outcome{Command: e.Command, State: lab.InDoubt, Kind: lab.KindUnavailable, Say: fmt.Sprintf("its gateway does not answer: %v", e.Err)}, lab.Ref{})
		}
	case e.Reply.Outcome != nil && e.Reply.State != lab.Accepted:
		c.outcomeOf(now, r, *e.Reply.Outcome, lab.Ref{})
	case !e.Reply.Known && !e.Reply.Accepted && len(e.Reply.Issues) > 0:
		c.outcomeOf(now, r, lab.Outcome{Command: e.Command, State: lab.Refused, Kind: lab.KindDenied, Issues: e.Reply.Issues, Say: e.Reply.Issues[0].Say}, lab.Ref{})
	case !e.Reply.Known && !e.Reply.Accepted && now.After(cmd.notAfter):
		c.outcomeOf(now, r, lab.Outcome{Command: e.Command, State: lab.NotSent, Kind: lab.KindExpired, Say: neverHad}, lab.Ref{})
	}
}

func (c *Core) outcome(now time.Time, m messages.Outcome) {
	if r := c.byCmd[m.Outcome.Command]; r != nil {
		c.outcomeOf(now, r, m.Outcome, m.Ref)
		return
	}
	if r := c.runs[m.Run]; r != nil && (m.Outcome.State == lab.InDoubt || containsText(r.doubts, m.Outcome.Command)) {
		c.hear(now, r, m.Outcome)
	}
}

func (c *Core) outcomeOf(now time.Time, r *run, o lab.Outcome, ref lab.Ref) {
	cmd := r.commands[o.Command]
	delete(r.commands, o.Command)
	delete(c.byCmd, o.Command)
	if o.State == lab.InDoubt {
		if cmd != nil {
			r.lost[o.Command] = cmd
		}
		c.hear(now, r, o)
	}
	c.settleTaken(now, o)
	if r.machine != nil {
		c.stepMachine(now, r, CommandEnded{o, ref})
	}
}

// reading takes a value that came as JSON, where a word of an enumeration is a
// text like any other. One that is not of its property's type says nothing.
func (c *Core) reading(now time.Time, e ReadingArrived) {
	spec := c.o.Lab.PropertySpec(e.ID)
	if spec == nil {
		return
	}
	if v, err := spec.Type.Conform(e.Reading.Value); err == nil {
		e.Reading.Value = v
	} else {
		e.Reading.Value, e.Reading.Quality = lab.Value{}, lab.Bad
	}
	for _, r := range c.live {
		if r.machine != nil && r.active() && r.machine.Wants(e.ID) {
			c.stepMachine(now, r, ReadingCame(e))
		}
	}
}

// safety ends or holds the runs that a trip, a stop or a lost lease touches.
func (c *Core) safety(now time.Time, s messages.Safety) {
	late := c.outrun(s)
	switch s.What {
	case messages.SafetyState:
		if !late {
			c.standing(s)
		}
	case messages.SafetyRules:
		c.learnRules(s.RulesHash)
	case messages.SafetyReset:
		c.unlatched(s.Rule)
		c.latchReset(s.Rule)
	case messages.SafetyTrip:
		c.latched(latchOf(s))
	case messages.SafetyStop:
		c.latched(latchOf(s))
		c.emptyQueue(now, s)
	}
	if s.RunAction == "" {
		return
	}
	for _, id := range s.Runs {
		r := c.runs[id]
		switch {
		case r == nil || r.machine == nil || !r.active():
		case s.RunAction == holdRun:
			c.hold(now, r, s)
		default:
			c.stepMachine(now, r, Abort{Reason: s.Say, Rule: s.Rule, Exit: messages.ExitAbort, Trip: s.What != messages.SafetyLeaseLost})
			if !r.over() {
				r.state, r.say = Ending, s.Say
			}
		}
	}
}

// emptyQueue ends the runs that wait for stopped instruments: whoever resets
// the stop must not set them off.
func (c *Core) emptyQueue(now time.Time, s messages.Safety) {
	touched := func(r *run) bool {
		return slices.ContainsFunc(r.plan.Instruments, func(in string) bool { return containsText(s.Instruments, in) })
	}
	for _, r := range c.queue {
		if r.waits() && touched(r) { // a held run on its way to its finally goes on
			c.neverStarted(now, r, messages.ExitAbort, s.Say)
		}
		if r.asleep != nil && r.state == Queued && touched(r) && r.abort == nil { // it was about to go on after a restart
			r.state, r.say = Held, s.Say
		}
	}
	for _, r := range c.live { // one that is asking for its leases ends when the answer comes
		if r.state == Leasing && r.machine == nil && r.abort == nil && touched(r) {
			r.abort = &Abort{Reason: s.Say, Rule: s.Rule, Exit: messages.ExitAbort, Trip: true}
		}
	}
}
