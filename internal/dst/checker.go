package dst

import (
	"fmt"
	"maps"
	"time"

	"labgate/gateway"
	"labgate/internal/twin"
	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
	"labgate/runner"
	"labgate/safety"
)

// checker keeps its own books of what became durable, what was told and what
// reached the instruments, and holds every event against the promises. It
// believes none of the cores.
type checker struct {
	s         *simulation
	blind     bool       // there is only a journal: nobody saw what reached the instruments
	violation *Violation // the first one
	now       time.Time  // of the moment that is looked at
	wall      time.Time  // what the process takes it for

	seq  uint64
	head string
	hash string // of the rules in force
	keys map[string]bool

	commands    map[string]*command
	order       []*command // by intent
	instruments map[string]*instrument
	runs        map[string]*run
	latches     map[string]*safety.Latch // durable ones, by rule
	latching    map[string]*safety.Latch // these, and those that are on the way to the disk
	readings    map[lab.PropertyID]lab.Reading

	up         bool      // a process runs
	pausedTill time.Time // it does nothing until then
	distrusted bool      // its clock was set
	reloaded   bool      // it has taken other rules since it began
	otherRules bool      // rules have changed, ever
	failed     bool      // its journal takes nothing any more
	failedAt   time.Time
	newest     time.Time // of the durable entries, when the process began
	last       time.Time // of the durable entries

	proposals map[string]*proposal           // by principal and bytes
	inline    map[string]*protocols.Protocol // that proposals brought, by hash
	asked     map[string]asked               // by id: control messages and approvals
	keyed     map[string]bool                // keys that the journal must have in the end
	oracle    *oracle
	orders    map[string]int // safe commands of the lane, by instrument
	stops     []*stop
	alarms    []alarm
}

// command is what the books hold of one command.
type command struct {
	lab.Command
	effect  lab.Effect
	intent  uint64 // place of its intent, from 1; 0: there is none
	hash    string // that the intent names
	rules   string // hash, that its ALLOW names
	finally bool
	boot    int  // power cycles of its instrument, when it was decided
	handed  bool // to its link
	touched int  // how often it reached its instrument
	took    bool // its instrument carried it out
	seen    bool // to its end, by the gateway, whether or not it could write that down
	state   string
	outcome *lab.Outcome // durable
	end     string       // what rules that count make of it
}

// instrument is what the books hold of one instrument.
type instrument struct {
	lab.Instrument
	linked   bool
	faulty   time.Time // when something was last wrong with it
	fence    uint64    // the highest number given
	holder   string    // run; empty: nobody
	lease    uint64
	asked    time.Time     // when its holder last asked for its lease
	ttl      time.Duration // for so long
	newest   uint64        // the intent that reached it last
	counted  int           // pump runs that began as something reached it, by the world's count
	dosed    int           // those that commands began
	stopSeen time.Time     // when a safe command last reached it
}

// run is what the books hold of one run.
type run struct {
	principal string
	protocol  string // its hash
	state     string // queued, needs approval, running, held, ended
	approved  map[string]bool
	needs     bool // approval
	starts    int
	asleep    bool // a restart found it under way, and nobody has let it go on
	told      map[string]int
	durable   map[string]int
}

// proposal is what the books hold of one proposal's bytes.
type proposal struct {
	times int
}

type asked struct {
	wrong                bool // an approval of something else
	who, action, content string
	run                  string
}

// stop is an emergency stop that has to arrive.
type stop struct {
	instrument string
	at, by     time.Time
	id         string
}

type alarm struct {
	at          time.Time
	instruments []string
}

func newChecker(s *simulation) *checker {
	c := &checker{s: s, keys: map[string]bool{}, commands: map[string]*command{}, instruments: map[string]*instrument{}, runs: map[string]*run{}, latches: map[string]*safety.Latch{}, latching: map[string]*safety.Latch{},
		readings: map[lab.PropertyID]lab.Reading{}, orders: map[string]int{}, proposals: map[string]*proposal{}, inline: map[string]*protocols.Protocol{}, keyed: map[string]bool{}, asked: map[string]asked{}, up: true, hash: s.site.rules.Hash}
	c.oracle = newOracle(c)
	for _, in := range s.site.lab.Instruments {
		c.instruments[in.Name] = &instrument{Instrument: *in}
	}
	return c
}

// breaks records the first promise that is broken.
func (c *checker) breaks(promise, format string, args ...any) {
	if c.violation == nil {
		c.violation = &Violation{promise, c.now.Sub(c.s.start), fmt.Sprintf(format, args...)}
	}
}

// see looks at one moment.
func (c *checker) see(m twin.Moment) {
	c.now, c.wall = m.At, m.Wall
	switch x := m.What.(type) {
	case gateway.Event:
		c.gatewayGets(x)
	case gateway.Action:
		c.gatewayDoes(x)
	case runner.Event:
	case runner.Action:
		c.runnerDoes(x)
	case twin.Written:
		c.written(x)
	case twin.Touched:
		c.touched(x)
	case twin.Failed:
		if !c.failed {
			c.failed, c.failedAt = true, c.now
		}
	case twin.Killed:
		c.died()
	case twin.Started:
		c.began()
	}
}

func (c *checker) gatewayGets(ev gateway.Event) {
	switch e := ev.(type) {
	case gateway.Readings:
		for _, x := range e.Samples {
			if at := x.Reading.Received; at.IsZero() || !at.Before(c.readings[x.ID].Received) { // what was overtaken is no news
				c.readings[x.ID] = x.Reading
			}
		}
	case gateway.Asked:
		k := c.command(e.Command)
		k.finally = k.finally || e.Finally
		if r := c.runs[e.Command.Run]; r != nil && e.Finally && r.state != "ended" {
			r.state = "ending"
		}
		if k.state == "" {
			k.state = "asked"
		}
	case gateway.Exchanged:
		if k := c.commands[e.Command]; k != nil && k.state == "sent" {
			k.state = "watched"
		}
	case gateway.RulesLoaded:
		c.reloaded = true
		if e.Err == nil && e.Rules != nil && e.Rules.Hash != c.hash {
			// In force at once, also where the disk is too full to say so.
			c.hash, c.otherRules = e.Rules.Hash, true
			c.oracle.again(false)
		}
	case gateway.LinkUp:
		c.instruments[e.Instrument].linked = true
	case gateway.LinkLost:
		c.instruments[e.Instrument].linked = false
	case gateway.ClockTrust:
		c.distrusted = e.Why != ""
	case gateway.LeaseAsked:
		c.leaseAsked(e.Request)
	case gateway.StopAsked:
		c.stopAsked(e)
	}
	c.overdue()
	c.oracle.looks()
}

func (c *checker) gatewayDoes(a gateway.Action) {
	switch a := a.(type) {
	case gateway.Append:
		for _, e := range a.Entries {
			if k := c.commands[e.Command]; k != nil && e.Kind == "outcome/v1" {
				k.seen = true
			}
		}
		c.oracle.decided(a.Entries)
	case gateway.Send:
		c.sends(a)
	case gateway.Publish:
		c.gatewayTells(a.Message)
	case gateway.Answer:
		if r, ok := a.Message.(messages.ControlReply); ok {
			c.answered(r)
		}
		if r, ok := a.Message.(messages.CommandReply); ok && r.Outcome != nil {
			c.outcomeTold(r.Outcome)
		}
	}
}

// command is a command's page; a new one where there is none.
func (c *checker) command(cmd lab.Command) *command {
	k := c.commands[cmd.ID]
	if k == nil {
		k = &command{Command: cmd, effect: c.s.effectOf(cmd.Target)}
		c.commands[cmd.ID] = k
	}
	return k
}

func (c *checker) run(id string) *run {
	r := c.runs[id]
	if r == nil {
		r = &run{approved: map[string]bool{}, told: map[string]int{}, durable: map[string]int{}}
		c.runs[id] = r
	}
	return r
}

// doubtful is a command of an instrument that may or may not have happened,
// other than one.
func (c *checker) doubtful(in, but string) *command {
	for _, k := range c.order {
		if k.Target.Instrument == in && k.ID != but && k.state == "in doubt" {
			return k
		}
	}
	return nil
}

// died: the process is gone.
func (c *checker) died() {
	c.up, c.pausedTill = false, time.Time{}
	c.stops = nil // who asked gets no answer, and asks again
	for _, in := range c.instruments {
		in.linked = false
	}
}

// began: a process has read the journal. What was intended and has no outcome
// is in doubt from now on, and what was under way stands still.
func (c *checker) began() {
	c.up, c.failed, c.distrusted, c.newest, c.reloaded = true, false, false, c.last, false
	clear(c.readings)
	for _, k := range c.order {
		if k.outcome == nil {
			k.state = "in doubt"
		}
	}
	for _, k := range c.commands {
		if k.intent == 0 && k.outcome == nil {
			k.state = "" // it may come again
		}
	}
	c.latching = maps.Clone(c.latches)
	c.restarted()
	for _, in := range c.instruments {
		in.asked = time.Time{}
	}
	if h := c.s.w.Rules().Hash; h != c.hash {
		c.hash, c.otherRules = h, true
	}
	c.oracle.again(true)
}

// restarted: what was under way stands still.
func (c *checker) restarted() {
	for _, r := range c.runs {
		r.asleep = r.state == "running" || r.state == "held" || r.state == "ending"
	}
}

// paused: the process does nothing for a while.
func (c *checker) paused(d time.Duration) {
	if c.up {
		if till := c.s.w.Now().Add(d); till.After(c.pausedTill) {
			c.pausedTill = till
		}
		c.stops = nil
	}
}

// faulty: something is, or was, wrong with an instrument's wire or body.
func (c *checker) faulty(in string) { c.instruments[in].faulty = c.s.w.Now() }

// reached reports whether a command was carried out by its instrument.
func (c *checker) reached(id string) bool { k := c.commands[id]; return k != nil && k.took }

// states are the states that commands and runs are in now, for the coverage.
func (c *checker) states() map[string]bool {
	list := map[string]bool{}
	for _, k := range c.commands {
		switch k.state {
		case "", "over":
		default:
			list["command "+k.state] = true
		}
	}
	for _, r := range c.runs {
		if r.state != "ended" {
			list["run "+r.state] = true
		}
	}
	if len(c.latches) > 0 {
		list["latched"] = true
	}
	if !c.up {
		list["down"] = true
	}
	return list
}
