package sim

import (
	"fmt"
	"math"
	"time"

	"labgate/lab"
)

// Axis of the stage.
type Axis int

// The axes.
const (
	X Axis = iota
	Y
	Z
)

// Motion of the stage, after an ASI MS-2000: trapezoid speed profiles.
const (
	stageSpeed  = 6.0    // mm/s, most
	stageSlope  = 60.0   // mm/s²
	stageLash   = 0.4e-3 // mm that are lost when an axis turns round
	StepsPerMM  = 10000  // the controller counts in tenths of a micrometre
	stageTravel = 12.0   // mm, either way from the middle in x and y
	focusLow    = -1.0   // mm, lowest z
	focusHigh   = 4.0
)

// axis is one motor. Positions in mm; zero is where the controller thinks it
// was switched on.
type axis struct {
	at, speed, target float64
	zero              float64 // what the controller calls 0, as a true position
	down              bool    // the last motion was towards smaller numbers
	lo, hi            float64
}

// Stage is a three-axis stage. The controller speaks in steps of 0.1 µm.
type Stage struct {
	w    *World
	axes [3]axis
	busy bool
}

func newStage(w *World) *Stage {
	s := &Stage{w: w}
	for i := range s.axes {
		s.axes[i].lo, s.axes[i].hi = -stageTravel, stageTravel
	}
	s.axes[Z].lo, s.axes[Z].hi = focusLow, focusHigh
	return s
}

// Position is where the controller says an axis is, in steps of 0.1 µm.
func (s *Stage) Position(a Axis) int64 {
	mm := s.w.reading(s, "stage", "xyz", axisNames[a])
	if math.IsNaN(mm) {
		return math.MaxInt32 // a broken encoder counts to its end
	}
	return int64(math.Round(mm * StepsPerMM))
}

// Target is where an axis is to go, in steps of 0.1 µm.
func (s *Stage) Target(a Axis) int64 {
	return int64(math.Round((s.axes[a].target - s.axes[a].zero) * StepsPerMM))
}

// Busy reports whether an axis moves, as the device says.
func (s *Stage) Busy() bool { return s.w.flag(s, "stage", "xyz", "moving") }

// Range is how far an axis may be sent, in steps of 0.1 µm.
func (s *Stage) Range(a Axis) (lo, hi int64) {
	return int64(s.axes[a].lo * StepsPerMM), int64(s.axes[a].hi * StepsPerMM)
}

// Move sends the named axes to absolute positions in steps of 0.1 µm; all of
// them are in range, or none moves. A new target replaces the old one.
func (s *Stage) Move(to map[Axis]int64) error {
	dead, err := s.w.gate("move", "stage", "xyz")
	if err != nil {
		return err
	}
	for a, steps := range to {
		if a < X || a > Z {
			return refused("move", "stage", ErrOutOfRange, fmt.Sprintf("there is no axis %d", a))
		}
		if lo, hi := s.Range(a); steps < lo || steps > hi {
			return refused("move", "stage", ErrOutOfRange, fmt.Sprintf("axis %s, %d steps; %d to %d", axisNames[a], steps, lo, hi))
		}
	}
	if dead || len(to) == 0 {
		return nil
	}
	for a, steps := range to {
		ax := &s.axes[a]
		ax.target = math.Min(ax.hi, math.Max(ax.lo, ax.zero+float64(steps)/StepsPerMM)) // an end switch stops the axis
	}
	s.busy = true
	s.w.counts["stage"].Moves++
	return nil
}

// Halt stops all axes where they are and reports whether any was moving.
func (s *Stage) Halt() (halted bool, err error) {
	dead, err := s.w.gate("halt", "stage", "xyz")
	if err != nil || dead {
		return false, err
	}
	halted = s.busy
	if halted {
		s.w.counts["stage"].Stops++
	}
	for i := range s.axes {
		s.axes[i].speed, s.axes[i].target = 0, s.axes[i].at
	}
	s.busy = false
	return halted, nil
}

func (s *Stage) quiet() bool { return !s.busy }

func (s *Stage) advance() {
	if !s.busy {
		return
	}
	moving := false
	for i := range s.axes {
		before := s.axes[i].at
		moving = s.axes[i].advance() || moving
		s.w.counts["stage"].Travel += math.Abs(s.axes[i].at - before)
	}
	s.busy = moving
}

// advance moves one motor for a tick: as fast as it may and can still stop at
// the target. It reports whether the motor is still on its way.
func (a *axis) advance() bool {
	left := a.target - a.at
	if left == 0 && a.speed == 0 {
		return false
	}
	// The fastest speed from which the ticks that follow can still brake in
	// time, and never more than arrives in this one.
	half := stageSlope * dt / 2
	want := math.Sqrt(half*half+2*stageSlope*math.Abs(left)) - half
	want = math.Copysign(math.Min(math.Min(stageSpeed, want), math.Abs(left)/dt), left)
	a.speed += math.Max(-stageSlope*dt, math.Min(stageSlope*dt, want-a.speed))
	step := a.speed * dt
	if math.Abs(left) < 1e-6 || math.Abs(step-left) < 1e-9 {
		step, a.speed = left, 0
	}
	if step != 0 {
		a.down = step < 0
	}
	a.at = math.Min(a.hi, math.Max(a.lo, a.at+step))
	if a.speed == 0 {
		a.at = a.target
	}
	return a.speed != 0 || a.at != a.target
}

// where is the true place under the objective: a screw that came from above
// stands a little off.
func (s *Stage) where() (x, y, z float64) {
	var p [3]float64
	for i := range s.axes {
		p[i] = s.axes[i].at
		if s.axes[i].down {
			p[i] += stageLash
		}
	}
	return p[0], p[1], p[2]
}

// reboot: the motors stop, and the controller calls zero whatever place it
// woke up in. The glass has not moved.
func (s *Stage) reboot() {
	for i := range s.axes {
		a := &s.axes[i]
		a.speed, a.target, a.zero = 0, a.at, a.at
	}
	s.busy = false
}

var axisNames = [...]string{"x", "y", "z"}

func (s *Stage) sensors() [][2]string {
	return [][2]string{{"xyz", "x"}, {"xyz", "y"}, {"xyz", "z"}, {"xyz", "moving"}}
}

func (s *Stage) raw(component, property string) lab.Value {
	if component != "xyz" {
		return lab.Value{}
	}
	if property == "moving" {
		return lab.BoolValue(s.busy)
	}
	for i, n := range axisNames {
		if n == property { // encoders count whole steps
			return number(math.Round((s.axes[i].at-s.axes[i].zero)*StepsPerMM)/StepsPerMM, unitMM)
		}
	}
	return lab.Value{}
}

func (s *Stage) commands() []command {
	return []command{
		{"xyz", "move", []param{{"x", unitMM, lab.Number}, {"y", unitMM, lab.Number}, {"z", unitMM, lab.Number}}},
		{"xyz", "halt", nil},
	}
}

func (s *Stage) duration(string, string, map[string]float64) time.Duration { return 0 }

func (s *Stage) do(_, name string, args map[string]float64) (map[string]lab.Value, error) {
	if name == "halt" {
		_, err := s.Halt()
		return nil, err
	}
	to := make(map[Axis]int64, len(axisNames))
	for i, n := range axisNames {
		steps := args[n] * StepsPerMM
		whole := math.Round(steps)
		if math.Abs(steps-whole) > 1e-6 || math.Abs(whole) > 1<<40 { // never rounded: the controller has no such place
			return nil, refused(name, "stage", ErrOutOfRange, fmt.Sprintf("%s = %v mm is no whole step of 0.1 um", n, args[n]))
		}
		to[Axis(i)] = int64(whole)
	}
	return nil, s.Move(to)
}
