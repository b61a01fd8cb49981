package sim

import (
	"fmt"
	"math"
	"time"

	"labgate/lab"
)

// PackState is a state of the PackML machine, by its number in OPC 30050.
type PackState int

// The states.
const (
	Clearing PackState = iota + 1
	Stopped
	Starting
	Idle
	Suspended
	Execute
	Stopping
	Aborting
	Aborted
	Holding
	Held
	Unholding
	Suspending
	Unsuspending
	Resetting
	Completing
	Complete
)

var packNames = [...]string{"", "clearing", "stopped", "starting", "idle", "suspended", "execute", "stopping", "aborting",
	"aborted", "holding", "held", "unholding", "suspending", "unsuspending", "resetting", "completing", "complete"}

// String is the state's name as classes write it.
func (s PackState) String() string {
	if s < Clearing || s > Complete {
		return "undefined"
	}
	return packNames[s]
}

// PackCommand is a command of the PackML machine.
type PackCommand int

// The commands.
const (
	PackReset PackCommand = iota + 1
	PackStart
	PackStop
	PackHold
	PackUnhold
	PackSuspend
	PackUnsuspend
	PackAbort
	PackClear
)

var packCommands = [...]string{"", "reset", "start", "stop", "hold", "unhold", "suspend", "unsuspend", "abort", "clear"}

// String is the command's name.
func (c PackCommand) String() string {
	if c < PackReset || c > PackClear {
		return "undefined"
	}
	return packCommands[c]
}

// acting states end by themselves, after a time, in another one. Execute ends
// when the batch does.
var acting = map[PackState]struct {
	seconds float64
	next    PackState
}{
	Clearing: {0.30, Stopped}, Starting: {0.25, Execute}, Stopping: {0.30, Stopped}, Aborting: {0.10, Aborted},
	Holding: {0.20, Held}, Unholding: {0.20, Execute}, Suspending: {0.20, Suspended}, Unsuspending: {0.20, Execute},
	Resetting: {0.30, Idle}, Completing: {0.20, Complete},
}

// commanded is where a command leads, and from which states (ANSI/ISA
// TR88.00.02; stop and abort are listed by where they do not apply).
var commanded = map[PackCommand]struct {
	to      PackState
	from    []PackState
	notFrom []PackState
}{
	PackReset:     {to: Resetting, from: []PackState{Stopped, Complete}},
	PackStart:     {to: Starting, from: []PackState{Idle}},
	PackHold:      {to: Holding, from: []PackState{Execute}},
	PackUnhold:    {to: Unholding, from: []PackState{Held}},
	PackSuspend:   {to: Suspending, from: []PackState{Execute}},
	PackUnsuspend: {to: Unsuspending, from: []PackState{Suspended}},
	PackClear:     {to: Clearing, from: []PackState{Aborted}},
	PackStop:      {to: Stopping, notFrom: []PackState{Stopped, Stopping, Clearing, Aborting, Aborted}},
	PackAbort:     {to: Aborting, notFrom: []PackState{Aborting, Aborted}},
}

// PackAllowed reports whether the standard lets a command act in a state, and
// the state it leads to.
func PackAllowed(s PackState, c PackCommand) (PackState, bool) {
	t, ok := commanded[c]
	if !ok || s < Clearing || s > Complete {
		return s, false
	}
	if t.from == nil {
		return t.to, !hasState(t.notFrom, s)
	}
	return t.to, hasState(t.from, s)
}

func hasState(list []PackState, s PackState) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// already lists where a command has nothing left to do: the device
// acknowledges it there and stays as it is. A repeated stop must not fail.
var already = map[PackCommand][]PackState{
	PackReset: {Resetting, Idle},
	PackStop:  {Stopping, Stopped, Aborting, Aborted, Clearing},
	PackAbort: {Aborting, Aborted},
	PackClear: {Clearing, Stopped},
}

// The coater: a slower pass leaves a thicker film (thickness falls with the
// two-thirds power of speed), a faster one an uneven one.
const (
	nominalSpeed = 10.0  // mm/s
	nominalFilm  = 100.0 // nm at that speed
	tolerance    = 0.08  // of the thickness wanted for the batch's speed
	fastestCoat  = 40.0  // mm/s
	slowestCoat  = 0.5
	mostFilms    = 50
	handlingTime = 0.25 // s a film, whatever the speed
	passLength   = 1.0  // mm
	cycleSpread  = 0.1  // of the logarithm of the cycle time
	idealCycle   = 0.25 // s, what performance is measured against
)

// Cell is the film-coating cell.
type Cell struct {
	w        *World
	rand     stream
	state    PackState
	left     float64 // s, to the end of an acting state
	starving bool    // it suspended itself for want of material

	films, coated int // of the batch
	speed         float64
	cycle         float64 // s, to the end of the film in hand
	sum           float64 // nm, of the batch

	made, good, batch  int
	executing, planned float64 // s
	life               float64 // s of running left before a breakdown; infinite without one
}

func newCell(w *World) *Cell {
	return &Cell{w: w, rand: stream{key: source(w.seed, "cell")}, state: Stopped, life: math.Inf(1)}
}

// State is as the device reports it.
func (c *Cell) State() PackState {
	name := c.w.sense("cell", "line", "state", c.raw("line", "state")).Text
	for s := Clearing; s <= Complete; s++ {
		if packNames[s] == name {
			return s
		}
	}
	return c.state
}

// Made counts the films since power-up, good or not.
func (c *Cell) Made() int { return int(c.w.reading(c, "cell", "line", "made")) }

// Good counts the films within tolerance.
func (c *Cell) Good() int { return int(c.w.reading(c, "cell", "line", "good")) }

// Batch counts the batches started.
func (c *Cell) Batch() int { return int(c.w.reading(c, "cell", "line", "batch")) }

// OEE is availability times performance times quality, in %.
func (c *Cell) OEE() float64 { return c.w.reading(c, "cell", "line", "oee") }

// Thickness is the mean of the batch so far, in nm; 0 before the first film.
func (c *Cell) Thickness() float64 { return c.w.reading(c, "cell", "line", "thickness") }

// Command gives the machine a PackML command. One that has nothing left to do
// is acknowledged; any other that the state does not allow is refused. Start
// needs a batch: use StartBatch.
func (c *Cell) Command(cmd PackCommand) error {
	dead, err := c.w.gate(cmd.String(), "cell", "line")
	if err != nil {
		return err
	}
	to, ok := PackAllowed(c.state, cmd)
	if !ok {
		if hasState(already[cmd], c.state) {
			return nil
		}
		return refused(cmd.String(), "cell", ErrNotApplicable, "the cell is "+c.state.String())
	}
	if cmd == PackStart && c.films == 0 {
		return refused(cmd.String(), "cell", ErrNotApplicable, "no batch is loaded")
	}
	if dead {
		return nil
	}
	if (cmd == PackStop || cmd == PackAbort) && c.films > 0 && c.state != Complete {
		c.w.counts["cell"].Stops++
	}
	c.enter(to)
	return nil
}

// StartBatch loads and starts a batch: one start, one batch. Only when idle.
func (c *Cell) StartBatch(films int, speed float64) error {
	if films < 1 || films > mostFilms || !(speed >= slowestCoat && speed <= fastestCoat) {
		return refused("start", "cell", ErrOutOfRange, fmt.Sprintf("%d films at %v mm/s; 1 to %d, %v to %v", films, speed, mostFilms, slowestCoat, fastestCoat))
	}
	dead, err := c.w.gate("start", "cell", "line")
	if err != nil {
		return err
	}
	if c.state != Idle {
		return refused("start", "cell", ErrNotApplicable, "the cell is "+c.state.String())
	}
	if dead {
		return nil
	}
	c.films, c.speed, c.coated, c.sum = films, speed, 0, 0
	c.batch++
	c.w.counts["cell"].Batches++
	c.nextCycle()
	return c.Command(PackStart)
}

func (c *Cell) enter(s PackState) {
	c.state, c.left = s, acting[s].seconds
	if s == Stopped || s == Aborted || s == Idle {
		c.films, c.starving = 0, false // what was in hand is scrapped by the operator, not coated
	}
}

func (c *Cell) nextCycle() {
	c.cycle = (handlingTime + passLength/c.speed) * math.Exp(cycleSpread*c.rand.normal())
}

// armBreakdown draws the machine's life when its fault is switched.
func (c *Cell) armBreakdown() {
	c.life = math.Inf(1)
	if f := c.w.faults["cell"]["breakdown"]; f != nil {
		c.life = c.rand.weibull(math.Max(dt, f.arg("scale", 20)), math.Max(0.1, f.arg("shape", 1.5)))
	}
}

// quiet is true in the states that only a command leaves and whose time counts
// for nothing.
func (c *Cell) quiet() bool {
	return c.state == Stopped || c.state == Idle || c.state == Aborted || c.state == Complete
}

func (c *Cell) advance() {
	if c.quiet() {
		return
	}
	c.planned += dt
	if a, ok := acting[c.state]; ok {
		if c.left -= dt; c.left <= dt/2 {
			c.enter(a.next)
		}
		return
	}
	starved := c.w.faults["cell"]["starved"] != nil
	switch {
	case c.state == Execute:
		c.execute(starved)
	case c.state == Suspended && c.starving && !starved: // what it suspended by itself it also ends by itself
		c.starving = false
		c.enter(Unsuspending)
	}
}

// execute coats for one tick.
func (c *Cell) execute(starved bool) {
	c.executing += dt
	if c.life -= dt; c.life <= 0 {
		c.enter(Aborting)
		c.armBreakdown() // the repaired machine has a new life
		return
	}
	if starved {
		c.starving = true
		c.enter(Suspending)
		return
	}
	if c.cycle -= dt; c.cycle > dt/2 {
		return
	}
	want := nominalFilm * math.Pow(nominalSpeed/c.speed, 2.0/3)
	film := want * math.Max(0.2, 1+(0.01+0.0025*c.speed)*c.rand.normal())
	c.coated, c.made, c.sum = c.coated+1, c.made+1, c.sum+film
	c.w.counts["cell"].Films++
	if math.Abs(film-want) <= tolerance*want {
		c.good++
	} else {
		c.w.counts["cell"].Scrap++
	}
	if c.coated >= c.films {
		c.enter(Completing)
		return
	}
	c.nextCycle()
}

func (c *Cell) oee() float64 {
	if c.made == 0 || c.planned == 0 || c.executing == 0 {
		return 0
	}
	availability := c.executing / c.planned
	performance := math.Min(1, idealCycle*float64(c.made)/c.executing)
	return 100 * availability * performance * float64(c.good) / float64(c.made)
}

// reboot: a power loss is an emergency to the machine, so it wakes up aborted,
// its counters at zero.
func (c *Cell) reboot() {
	c.enter(Aborted)
	c.made, c.good, c.batch, c.coated, c.sum, c.executing, c.planned = 0, 0, 0, 0, 0, 0, 0
}

func (c *Cell) sensors() [][2]string {
	return [][2]string{{"line", "state"}, {"line", "made"}, {"line", "good"}, {"line", "batch"}, {"line", "oee"}, {"line", "thickness"}}
}

func (c *Cell) raw(component, property string) lab.Value {
	if component != "line" {
		return lab.Value{}
	}
	switch property {
	case "state":
		return lab.EnumValue(c.state.String())
	case "made":
		return lab.IntegerValue(int64(c.made))
	case "good":
		return lab.IntegerValue(int64(c.good))
	case "batch":
		return lab.IntegerValue(int64(c.batch))
	case "oee":
		return number(c.oee(), unitPercent)
	case "thickness":
		if c.coated == 0 {
			return number(0, unitNM)
		}
		return number(c.sum/float64(c.coated), unitNM)
	}
	return lab.Value{}
}

func (c *Cell) commands() []command {
	return []command{
		{"line", "reset", nil}, {"line", "clear", nil}, {"line", "stop", nil}, {"line", "abort", nil},
		{"line", "coat", []param{{"films", lab.One, lab.Integer}, {"speed", unitMMS, lab.Number}}},
	}
}

func (c *Cell) duration(string, string, map[string]float64) time.Duration { return 0 }

func (c *Cell) do(_, name string, args map[string]float64) (map[string]lab.Value, error) {
	switch name {
	case "reset":
		return nil, c.Command(PackReset)
	case "clear":
		return nil, c.Command(PackClear)
	case "stop":
		return nil, c.Command(PackStop)
	case "abort":
		return nil, c.Command(PackAbort)
	}
	return nil, c.StartBatch(int(args["films"]), args["speed"])
}
