package twin

import (
	"container/heap"
	"fmt"
	"time"

	"labgate/gateway"
	"labgate/lab"
	"labgate/safety"
	"labgate/sim"
)

// Faults decide what goes wrong between the parts. The zero Faults: nothing
// does. They are asked in the order of the trace, and must be deterministic for
// it to be so too.
type Faults struct {
	// Carry says when the copies of a message arrive: none loses it, two repeat
	// it. usual is the delay that it would have.
	Carry func(m Packet, usual time.Duration) []Arrival
	// Commit says what becomes of a commit of the journal.
	Commit func(entries []lab.Entry) Fate
}

// Packet is a message between the parts, on its way.
type Packet struct {
	From, Channel string // "runner", "command/pump_a"; answers travel on "reply/command"
	// Data is nil where nobody looks at the bytes: telemetry and renewals of
	// leases in a Quiet twin.
	Data []byte
}

// Arrival is one copy of a message.
type Arrival struct {
	After     time.Duration
	Overtakes bool // it waits for none of its channel that was sent before it
	Survives  bool // it arrives though the process was killed meanwhile; an answer to it reaches nobody
}

// Fate is what becomes of a commit. The zero Fate: all of it is durable. After
// an error the journal is poisoned until a restart.
type Fate struct {
	Err   error
	Kept  bool // it is durable, and Err is told all the same
	Full  bool // the disk is full from here on: only last words are taken
	After time.Duration
}

// Moment is something that happened, as Options.Watch is told of it.
type Moment struct {
	At   time.Time // virtual
	Wall time.Time // what the process takes it for
	Part string    // "gateway", "runner", "journal", "wire", "process"
	// What is a gateway.Event or Action, a runner.Event or Action, Written,
	// Touched, Failed, Killed or Started.
	What any
}

// What happens outside the cores.
type (
	// Written: an entry is durable.
	Written struct {
		Ref   lab.Ref
		Entry lab.Entry
		Row   []byte // the bytes that are chained
	}
	// Failed: the journal takes no more entries.
	Failed struct{ Err error }
	// Touched: a command was carried out by its instrument, or refused by it;
	// the counts are the world's, of just before and just after.
	Touched struct {
		Command       lab.Command
		Permit        *safety.Permit // nil: the safe lane sent it
		Order         *safety.Order  // nil: it had a permit
		Before, After sim.Count
		Err           error
	}
	// Killed: the process is gone.
	Killed struct{}
	// Started: a process has restored itself from the journal.
	Started struct{}
)

func (t *Twin) watched(part string, what any) {
	if t.o.Watch != nil {
		t.o.Watch(Moment{At: t.clock.now, Wall: t.clock.Now(), Part: part, What: what})
	}
}

// Restart kills the process at this instant, as a power cut does, and starts
// it again: what is durable, the world and the work queue of proposals stay;
// messages, commits and exchanges under way do not.
func (t *Twin) Restart() error {
	t.Kill()
	return t.Start()
}

// Kill ends the process at this instant, as a power cut does. Time and the
// world go on.
func (t *Twin) Kill() {
	if t.down {
		return
	}
	t.trace.line(t.clock.now, "process", "!", "killed")
	t.down, t.paused = true, time.Time{}
	t.gateway.dead, t.runner.dead = true, true
	t.queue.drop(func(i *item) bool { return !i.world })
	t.disk.crash()
	clear(t.network.last)
	t.watched("process", Killed{})
}

// Start starts the process again after a Kill.
func (t *Twin) Start() error {
	if !t.down {
		return nil
	}
	t.trace.line(t.clock.now, "process", "!", "started again")
	t.clock.atBoot = t.clock.off
	if err := t.boot(); err != nil {
		return err
	}
	t.watched("process", Started{})
	return nil
}

// Down reports whether no process runs.
func (t *Twin) Down() bool { return t.down }

// Awake reports whether a process runs, and is not paused.
func (t *Twin) Awake() bool { return !t.down && !t.clock.now.Before(t.paused) }

// Replace puts other rules in the place of those that the next start reads.
func (t *Twin) Replace(rules *safety.Rules) { t.o.Rules = rules }

// Pause stops the process for a while, as SIGSTOP does: it does nothing, the
// world goes on, and what came meanwhile comes all at once.
func (t *Twin) Pause(d time.Duration) {
	if t.down || d <= 0 {
		return
	}
	t.trace.line(t.clock.now, "process", "!", fmt.Sprintf("does nothing for %s", lab.Seconds(d)))
	t.paused = later(t.paused, t.clock.now.Add(d))
	for _, i := range t.queue {
		if !i.world {
			i.at = later(i.at, t.paused)
		}
	}
	heap.Init(&t.queue)
}

// SetClock sets the process's clock so far off from the virtual time. The
// process notices what an ordinary clock watch does: that it was set by more
// than a second since the process began.
func (t *Twin) SetClock(off time.Duration) {
	t.trace.line(t.clock.now, "process", "!", fmt.Sprintf("its clock is off by %s", lab.Seconds(off)))
	t.clock.off = off
	if !t.down {
		t.after(watchEvery, func() { t.gateway.watchClock() })
	}
}

const (
	watchEvery = 500 * time.Millisecond // how often the clock is looked at
	clockBound = time.Second            // by how much it may be off
)

// watchClock is what the service's watch says of the clock.
func (g *gatewayPart) watchClock() {
	why := ""
	if off := g.t.clock.off - g.t.clock.atBoot; off > clockBound || off < -clockBound {
		why = fmt.Sprintf("it was set by %s while this process ran; restart the gateway", off)
	}
	if why != g.clockWhy {
		g.clockWhy = why
		g.step(gateway.ClockTrust{Why: why})
	}
}

// trouble is what is wrong with an instrument's wire at one message: what its
// answer suffers, empty for nothing, and by how much it is late.
func (o *owner) trouble(in *lab.Instrument) (answer string, heard bool, late time.Duration) {
	w := o.g.t.world
	if w.Frozen(in.Name) {
		return "it does not answer", false, in.Profile.Link.ReplyWithin
	}
	if _, on := w.FaultOn(in.Name, "half_open"); on {
		return "the connection carries nothing", false, in.Profile.Link.ReplyWithin
	}
	if args, on := w.FaultOn(in.Name, "delay"); on {
		late = seconds(args, 0.2)
	}
	o.answers[in.Name]++
	for _, f := range answerFaults {
		args, on := w.FaultOn(in.Name, f.name)
		if every := int(args["every"]); on && (every <= 1 || o.answers[in.Name]%every == 0) {
			if f.lost {
				late = max(late, in.Profile.Link.ReplyWithin, firstBackoff)
			}
			return f.say, true, late
		}
	}
	return "", true, late
}

// answerFaults spoil an answer; lost ones are waited for.
var answerFaults = []struct {
	name, say string
	lost      bool
}{
	{"drop", "its answer was lost", true},
	{"late_reply", "its answer came too late", true},
	{"garble", "its answer can't be read", false},
	{"wrong_reply", "its answer belongs to something else", false},
}

func seconds(args map[string]float64, otherwise float64) time.Duration {
	s, ok := args["seconds"]
	if !ok {
		s = otherwise
	}
	return time.Duration(max(0, min(s, 60)) * float64(time.Second))
}
