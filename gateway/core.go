// Package gateway decides what happens to every command for the instruments
// of one gateway: admission, leases, the commit sequence, confirmation by
// read-back, the safe lane, and the operator's verbs.
//
// The Core is pure: Step takes the time and an event and returns actions,
// Next says when it wants to be called without one. It does no I/O, starts no
// goroutine, reads no clock. It promises that nothing is sent before its
// ALLOW and INTENT are durable, that an effectful command is sent at most
// once, that no result leaves before its outcome is durable, and that a stop
// waits for none of that. A Step touches only what its event is about and what
// is due: never all that is live. Package gateway/service is the shell around
// it.
package gateway

import (
	"cmp"
	"slices"
	"sort"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
)

// Options make a Core.
type Options struct {
	Lab     *lab.Lab
	Name    string // the gateway's; it owns the instruments that name it
	Rules   *safety.Rules
	StartBy time.Time // until then inputs may be missing without a trip
	// Encodable says whether an instrument's wire can carry a command's values
	// exactly. Nil: every wire can.
	Encodable func(*lab.Instrument, *lab.Command) error
	// MaxLive bounds the commands between arrival and outcome; more are
	// refused as busy and leave no trace. Safe commands may be twice as many.
	// 0: DefaultMaxLive.
	MaxLive int
	// Patience is how long every command may take at least, whatever its class
	// says: for those who tell by themselves when something timed out, such as
	// rule cases. 0: what the class says.
	Patience time.Duration
	// MaxAnswered bounds the outcomes in memory; of older ones the journal is
	// asked. 0: DefaultMaxAnswered.
	MaxAnswered int
	// SnapshotEvery is how many entries come between two snapshots; a start
	// reads about as many at most. 0: DefaultSnapshotEvery.
	SnapshotEvery int
}

// DefaultMaxLive is how many commands may be live where nothing is said.
const DefaultMaxLive = 4096

// DefaultMaxAnswered is how many outcomes are in memory where nothing is said.
const DefaultMaxAnswered = 10_000

// DefaultSnapshotEvery is how many entries come between two snapshots where
// nothing is said.
const DefaultSnapshotEvery = 10_000

// Core is the gateway's mind. One owner calls it.
type Core struct {
	lab       *lab.Lab
	name      string
	engine    *safety.Engine
	encodable func(*lab.Instrument, *lab.Command) error
	maxLive   int
	patience  time.Duration
	specs     map[lab.CommandID]*spec
	places    map[string]*place // by instrument: those that this gateway owns
	names     []string          // of the places, sorted

	live          map[string]*command // by id, until the outcome is durable
	commands      uint64              // counts them, as they come
	round         uint64              // counts the Readings
	known         map[string]known    // by command id: what it was and whose; those that are forgotten the journal has
	answered      map[string]*lab.Outcome
	sure          time.Time // ids made at or after it are in memory, if they ever came; zero: all are
	forgetAt      int       // outcomes in memory before the older ones are dropped
	maxAnswered   int
	snapshotEvery int
	looking       map[string][]func(now time.Time, err error) // ids that the journal is asked about
	doubts        map[string]*doubt                           // by command id
	lane          map[string]*laneOrder
	laneSeq       int
	runs          map[string]int // leases that a run holds
	timers        timers
	state         timer              // tells what stands
	waiting       map[uint64]pending // by token
	token         uint64
	since         int // entries since the last snapshot

	restored restored
	badRules *messages.Alarm // the interlocks file could not be taken; nil: it could

	denials   map[denialKind]*denials
	poisoned  error     // the journal failed: effects are latched off, the safe lane lives
	badClock  string    // why the clock can't be trusted; empty: it can
	lastEntry time.Time // of the newest journal entry known
	latest    time.Time // of all steps: a runner in this process has written nothing later
	actions   []Action
}

// pending is an append on its way to the disk, and what follows it.
type pending struct {
	then    func(now time.Time, refs []lab.Ref, err error)
	entries []lab.Entry
}

// place is what the core knows of one instrument.
type place struct {
	in        *lab.Instrument
	link      link
	live      []*command   // as they came
	lane      []*laneOrder // handed over and not over
	doubts    []*doubt     // by command id
	unsettled []*doubt     // over, and rules count them the worse way until something settles them
	lease     *lease
	fence     uint64          // the last number given
	atUp      []*safety.Order // go out when the link first comes up
	touched   uint64          // the round that named it last
}

// link is what the core knows of an instrument's connection.
type link struct {
	up    bool
	epoch uint64
	say   string
	who   string
}

// known is what must be remembered of a command to tell a second delivery from
// another command with its id.
type known struct {
	content   [32]byte
	principal string
}

// doubt is a command that may or may not have happened.
type doubt struct {
	cmd      lab.Command
	since    time.Time
	say      string
	settling bool // the evidence is on its way to the disk
}

// New makes a Core. Compile errors of class expressions are returned; the
// loader has checked them before, so any is a bug.
func New(o Options) (*Core, error) {
	if o.MaxLive <= 0 {
		o.MaxLive = DefaultMaxLive
	}
	if o.MaxAnswered <= 0 {
		o.MaxAnswered = DefaultMaxAnswered
	}
	if o.SnapshotEvery <= 0 {
		o.SnapshotEvery = DefaultSnapshotEvery
	}
	c := &Core{lab: o.Lab, name: o.Name, engine: safety.NewEngine(o.Lab, o.Rules, o.StartBy), encodable: o.Encodable, maxLive: o.MaxLive, patience: o.Patience,
		specs: map[lab.CommandID]*spec{}, places: map[string]*place{}, live: map[string]*command{}, known: map[string]known{}, answered: map[string]*lab.Outcome{},
		denials: map[denialKind]*denials{}, doubts: map[string]*doubt{}, lane: map[string]*laneOrder{}, runs: map[string]int{}, waiting: map[uint64]pending{}, looking: map[string][]func(time.Time, error){}, maxAnswered: o.MaxAnswered, snapshotEvery: o.SnapshotEvery, forgetAt: o.MaxAnswered,
		restored: newRestored()}
	for _, in := range o.Lab.Instruments {
		if in.Gateway != o.Name {
			continue
		}
		c.places[in.Name] = &place{in: in, link: link{say: "not connected yet"}}
		c.names = append(c.names, in.Name)
		for _, comp := range in.Profile.Components {
			for i := range comp.Class.Commands {
				id := lab.CommandID{Instrument: in.Name, Component: comp.Name, Command: comp.Class.Commands[i].Name}
				s, err := compileSpec(id, comp.Class, &comp.Class.Commands[i])
				if err != nil {
					return nil, lab.E("gateway: compile", in.Name, lab.KindInvalid, err)
				}
				c.specs[id] = s
			}
		}
	}
	sort.Strings(c.names)
	return c, nil
}

// Engine is the safety engine that the core owns.
func (c *Core) Engine() *safety.Engine { return c.engine }

// Step takes one event and returns what is to be done, in order.
func (c *Core) Step(now time.Time, ev Event) []Action {
	c.actions = nil
	c.latest = later(c.latest, now)
	switch e := ev.(type) {
	case Readings:
		c.observe(now, e.Samples)
	case Tick:
	case Asked:
		c.ask(now, e)
	case OutcomeAsked:
		c.answerOutcome(e)
	case Refreshed:
		c.refreshed(now, e)
	case Durable:
		c.durable(now, e)
	case Exchanged:
		c.exchanged(now, e)
	case LaneDone:
		c.laneDone(now, e)
	case LeaseAsked:
		c.leaseAsked(now, e)
	case StopAsked:
		c.stopAsked(now, e)
	case LinkUp:
		c.linkUp(now, e)
	case LinkLost:
		c.linkLost(now, e)
	case ClockTrust:
		c.clockTrust(e)
	case JournalFailed:
		c.poison(e.Err)
	case Looked:
		c.looked(now, e)
	default:
		c.operate(now, ev)
	}
	c.tick(now)
	c.keepSmall(now)
	return c.actions
}

// keepSmall bounds what a start has to read, and what memory has to hold.
func (c *Core) keepSmall(now time.Time) {
	if len(c.answered) >= c.forgetAt {
		c.forget()
	}
	if c.since >= c.snapshotEvery && c.poisoned == nil {
		c.do(Snap{c.Snapshot(now)})
	}
}

// tick does what is due by time alone.
func (c *Core) tick(now time.Time) {
	c.handle(now, c.engine.Tick(now))
	for t := c.timers.due(now); t != nil; t = c.timers.due(now) {
		t.do(now)
	}
}

// Next is the earliest instant at which time alone changes something; zero for
// never.
func (c *Core) Next() time.Time { return earlier(c.engine.Next(), c.timers.next()) }

func (c *Core) do(a Action) { c.actions = append(c.actions, a) }

// append asks for a durable commit and says what follows it.
func (c *Core) append(then func(now time.Time, refs []lab.Ref, err error), entries ...lab.Entry) {
	c.token++
	c.waiting[c.token] = pending{then, entries}
	c.since += len(entries)
	c.do(Append{c.token, entries})
}

func (c *Core) durable(now time.Time, e Durable) {
	then := c.waiting[e.Token].then
	delete(c.waiting, e.Token)
	if e.Err != nil && lab.KindOf(e.Err) != lab.KindConflict {
		c.poison(e.Err)
	}
	if then != nil {
		then(now, e.Refs, e.Err)
	}
}

// poison latches effects off after a failed commit. The safe lane lives on; a
// person restarts.
func (c *Core) poison(err error) {
	if c.poisoned != nil {
		return
	}
	c.poisoned = err
	c.alarm("journal", "", c.journalProblem())
}

// clockTrust takes the word of whoever watches the clock. A permit that is not
// spent rests on times that mean nothing any more.
func (c *Core) clockTrust(e ClockTrust) {
	c.badClock = e.Why
	if e.Why == "" {
		return
	}
	why := "the clock can't be trusted: " + e.Why
	for _, cmd := range c.liveOn(nil) {
		switch {
		case cmd.spec.Effect == lab.Safe || cmd.spec.Effect == lab.Read:
		case cmd.phase == committing && cmd.cancel == nil:
			c.engine.Revoke(cmd.ID, why)
			cmd.cancel = &lab.Outcome{State: lab.NotSent, Kind: lab.KindExpired, Say: why}
		case cmd.phase == sending:
			c.engine.RevokeFresh(cmd.ID, why)
		}
	}
}

// observe feeds readings to the engine and to the commands that wait for them.
func (c *Core) observe(now time.Time, samples []lab.Sample) {
	c.handle(now, c.engine.Observe(now, samples))
	c.round++
	mark := c.round
	for _, s := range samples {
		p := c.places[s.ID.Instrument]
		if p == nil || p.touched == mark {
			continue
		}
		p.touched = mark
		for _, cmd := range slices.Clone(p.live) {
			if cmd.phase == watching || cmd.phase == stopping {
				c.watch(now, cmd)
			}
		}
		for _, o := range slices.Clone(p.lane) {
			c.laneWatch(now, o)
		}
		if len(p.doubts) > 0 {
			c.evidence(now, p)
		}
	}
}

// handle acts on what the engine found.
func (c *Core) handle(now time.Time, events []safety.Event) {
	for _, ev := range events {
		switch e := ev.(type) {
		case *safety.Trip:
			c.tripped(now, e)
		case *safety.Lost:
			if cmd := c.live[e.Command]; cmd != nil {
				if cmd.lost == nil {
					cmd.lost = e
				}
				c.note(c.entry(now, "lost_permissive/v1", cmd, map[string]any{"rule": e.Rule, "say": e.Say, "inputs": e.Inputs}))
				c.interrupt(now, cmd, lab.KindDenied, e.Say, true)
			}
		case *safety.Rearmed:
			c.rearmed(now, e.Bypass)
		case *safety.AlarmChanged:
			c.alarmChanged(now, e.Alarm)
		}
	}
}

// linkUp begins a new epoch: what the device did before it is not known any
// more, so commands under way on it lose their before. The first time, what a
// restart has left to be done goes out.
func (c *Core) linkUp(now time.Time, e LinkUp) {
	p := c.places[e.Instrument]
	if p == nil {
		return
	}
	l := &p.link
	first := l.epoch == 0
	l.up, l.say, l.who = true, "", e.Identity
	if l.epoch != e.Epoch {
		c.newEpoch(now, p)
	}
	l.epoch = e.Epoch
	c.noteLink(now, e.Instrument, map[string]any{"what": "up", "epoch": e.Epoch, "identity": e.Identity})
	c.publishLink(e.Instrument, l)
	if !first {
		return
	}
	again := p.atUp
	p.atUp = nil
	if p.in.OnStart == "safe" {
		again = mergeOrders(again, c.engine.SafeState(e.Instrument, safety.OriginStart, "on_start: safe"))
	}
	c.orderAll(now, again)
}

func (c *Core) noteLink(now time.Time, instrument string, body map[string]any) {
	e := c.entry(now, "link/v1", nil, body)
	e.Instrument = instrument
	c.note(e)
}

func (c *Core) linkLost(now time.Time, e LinkLost) {
	p := c.places[e.Instrument]
	if p == nil {
		return
	}
	l := &p.link
	changed := l.up || l.say != e.Say
	l.up, l.say = false, e.Say
	if changed {
		c.noteLink(now, e.Instrument, map[string]any{"what": "lost", "say": e.Say})
		c.publishLink(e.Instrument, l)
	}
}

// newEpoch ends the watch of every command whose device may have forgotten it.
func (c *Core) newEpoch(now time.Time, p *place) {
	for _, cmd := range slices.Clone(p.live) {
		if c.live[cmd.ID] != cmd {
			continue
		}
		c.engine.Revoke(cmd.ID, "the device may have lost its state")
		switch {
		case cmd.laned: // its order goes on: the lane waits for the link
		case cmd.phase == committing && cmd.cancel == nil:
			cmd.cancel = &lab.Outcome{State: lab.NotSent, Kind: lab.KindUnavailable, Say: "the link was lost before it was sent"}
		case cmd.phase == sending || cmd.phase == watching || cmd.phase == stopping:
			cmd.before = nil
			c.uncertain(now, cmd, "the link was lost while it was under way, and the device may have lost its state")
		}
	}
}

// liveOn lists the live commands of some instruments, or of all, in the order
// in which they came.
func (c *Core) liveOn(instruments []string) []*command {
	if len(instruments) == 0 {
		instruments = c.names
	}
	var list []*command
	for _, n := range instruments {
		if p := c.places[n]; p != nil {
			list = append(list, p.live...)
		}
	}
	slices.SortFunc(list, func(a, b *command) int { return cmp.Compare(a.seq, b.seq) })
	return list
}

func (c *Core) publishLink(instrument string, l *link) {
	say := instrument + " is connected"
	if !l.up {
		say = instrument + " is lost: " + l.say
	}
	c.do(Publish{messages.Safety{What: messages.SafetyLink, Instruments: []string{instrument}, Say: say}})
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
