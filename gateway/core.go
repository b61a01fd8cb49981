// Package gateway decides what happens to every command for the instruments
// of one gateway: admission, leases, the commit sequence, confirmation by
// read-back, and the safe lane.
//
// The Core is pure: Step takes the time and an event and returns actions,
// Next says when it wants to be called without one. It does no I/O, starts no
// goroutine, reads no clock. It promises that nothing is sent before its
// ALLOW and INTENT are durable, that an effectful command is sent at most
// once, that no result leaves before its outcome is durable, and that a stop
// waits for none of that. Package gateway/service is the shell around it.
package gateway

import (
	"fmt"
	"sort"
	"time"

	"labgate/lab"
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
}

// Core is the gateway's mind. One owner calls it.
type Core struct {
	lab       *lab.Lab
	name      string
	engine    *safety.Engine
	encodable func(*lab.Instrument, *lab.Command) error
	specs     map[lab.CommandID]*spec
	owned     map[string]*lab.Instrument

	live     map[string]*command     // by id, until the outcome is durable
	order    []string                // ids of live commands, as they came
	answered map[string]*lab.Outcome // by id, for ever
	doubts   map[string]*doubt       // by command id
	leases   map[string]*lease       // by instrument
	fences   map[string]uint64       // by instrument: the last number given
	lane     map[string]*laneOrder   // safe commands on their way
	laneSeq  int
	links    map[string]*link
	waiting  map[uint64]func(now time.Time, refs []lab.Ref, err error) // by token: what follows a durable append
	token    uint64

	poisoned  error     // the journal failed: effects are latched off, the safe lane lives
	badClock  string    // why the clock can't be trusted; empty: it can
	lastEntry time.Time // of the newest journal entry known
	actions   []Action
}

// link is what the core knows of an instrument's connection.
type link struct {
	up    bool
	epoch uint64
	say   string
	who   string
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
	c := &Core{lab: o.Lab, name: o.Name, engine: safety.NewEngine(o.Lab, o.Rules, o.StartBy), encodable: o.Encodable,
		specs: map[lab.CommandID]*spec{}, owned: map[string]*lab.Instrument{}, live: map[string]*command{}, answered: map[string]*lab.Outcome{},
		doubts: map[string]*doubt{}, leases: map[string]*lease{}, fences: map[string]uint64{}, lane: map[string]*laneOrder{},
		links: map[string]*link{}, waiting: map[uint64]func(time.Time, []lab.Ref, error){}}
	for _, in := range o.Lab.Instruments {
		if in.Gateway != o.Name {
			continue
		}
		c.owned[in.Name] = in
		c.links[in.Name] = &link{say: "not connected yet"}
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
	return c, nil
}

// Engine is the safety engine that the core owns.
func (c *Core) Engine() *safety.Engine { return c.engine }

// Step takes one event and returns what is to be done, in order.
func (c *Core) Step(now time.Time, ev Event) []Action {
	c.actions = nil
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
	case ResetAsked:
		c.resetAsked(now, e)
	case ResolveAsked:
		c.resolveAsked(now, e)
	case StatusAsked:
		c.do(Answer{e.Reply, c.status(now)})
	case LinkUp:
		c.linkUp(now, e)
	case LinkLost:
		c.linkLost(now, e)
	case ClockTrust:
		c.badClock = e.Why
	}
	c.tick(now)
	return c.actions
}

// tick does what is due by time alone.
func (c *Core) tick(now time.Time) {
	c.handle(now, c.engine.Tick(now))
	for _, id := range append([]string(nil), c.order...) {
		if cmd := c.live[id]; cmd != nil {
			c.commandTick(now, cmd)
		}
	}
	for _, id := range sortedKeys(c.lane) {
		c.laneTick(now, c.lane[id])
	}
	for _, name := range sortedKeys(c.leases) {
		if l := c.leases[name]; !l.expires.After(now) {
			c.leaseLost(now, l, "its runner has not renewed it")
		}
	}
}

// Next is the earliest instant at which time alone changes something; zero for
// never.
func (c *Core) Next() time.Time {
	next := c.engine.Next()
	for _, cmd := range c.live {
		next = earlier(next, cmd.deadline)
	}
	for _, o := range c.lane {
		next = earlier(next, o.deadline)
	}
	for _, l := range c.leases {
		next = earlier(next, l.expires)
	}
	return next
}

func (c *Core) do(a Action) { c.actions = append(c.actions, a) }

// append asks for a durable commit and says what follows it.
func (c *Core) append(then func(now time.Time, refs []lab.Ref, err error), entries ...lab.Entry) {
	c.token++
	c.waiting[c.token] = then
	c.do(Append{c.token, entries})
}

func (c *Core) durable(now time.Time, e Durable) {
	then := c.waiting[e.Token]
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
	c.alarm("journal", "", fmt.Sprintf("the journal failed (%v): no effect is sent until a person restarts this gateway; stops still work", err))
}

// observe feeds readings to the engine and to the commands that wait for them.
func (c *Core) observe(now time.Time, samples []lab.Sample) {
	c.handle(now, c.engine.Observe(now, samples))
	touched := map[string]bool{}
	for _, s := range samples {
		touched[s.ID.Instrument] = true
	}
	for _, id := range append([]string(nil), c.order...) {
		if cmd := c.live[id]; cmd != nil && touched[cmd.Target.Instrument] {
			c.watch(now, cmd)
		}
	}
	for _, id := range sortedKeys(c.lane) {
		if o := c.lane[id]; touched[o.target.Instrument] {
			c.laneWatch(now, o)
		}
	}
	if len(c.doubts) > 0 {
		for _, name := range sortedKeys(touched) {
			c.evidence(now, name)
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
				c.note(c.entry(now, "lost_permissive/v1", cmd, map[string]any{"rule": e.Rule, "say": e.Say, "inputs": e.Inputs}))
				c.interrupt(now, cmd, lab.KindDenied, e.Say, true)
			}
		}
	}
}

// linkUp begins a new epoch: what the device did before it is not known any
// more, so commands under way on it lose their before.
func (c *Core) linkUp(now time.Time, e LinkUp) {
	l := c.links[e.Instrument]
	if l == nil {
		return
	}
	first := l.epoch == 0
	l.up, l.say, l.who = true, "", e.Identity
	if l.epoch != e.Epoch {
		c.newEpoch(now, e.Instrument)
	}
	l.epoch = e.Epoch
	c.noteLink(now, e.Instrument, map[string]any{"what": "up", "epoch": e.Epoch, "identity": e.Identity})
	c.publishLink(e.Instrument, l)
	if in := c.owned[e.Instrument]; first && in.OnStart == "safe" {
		c.orderAll(now, c.engine.SafeState(in.Name, safety.OriginStart, "on_start: safe"))
	}
}

func (c *Core) noteLink(now time.Time, instrument string, body map[string]any) {
	e := c.entry(now, "link/v1", nil, body)
	e.Instrument = instrument
	c.note(e)
}

func (c *Core) linkLost(now time.Time, e LinkLost) {
	l := c.links[e.Instrument]
	if l == nil {
		return
	}
	changed := l.up || l.say != e.Say
	l.up, l.say = false, e.Say
	if changed {
		c.noteLink(now, e.Instrument, map[string]any{"what": "lost", "say": e.Say})
		c.publishLink(e.Instrument, l)
	}
}

// newEpoch ends the watch of every command whose device may have forgotten it.
func (c *Core) newEpoch(now time.Time, instrument string) {
	for _, id := range append([]string(nil), c.order...) {
		cmd := c.live[id]
		if cmd == nil || cmd.Target.Instrument != instrument {
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
