package sim

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"labgate/lab"
)

// Tick is the grid on which physics happens, at whole multiples since the Unix
// epoch. A command takes effect at the next grid instant.
const Tick = 10 * time.Millisecond

const dt = 0.01 // Tick in seconds

// Causes that a face turns into its device's own words. They come wrapped in a
// *lab.Error of kind device refused.
var (
	ErrOutOfRange    = errors.New("out of range")
	ErrNotApplicable = errors.New("not applicable now")
	ErrNoPeak        = errors.New("no peak")
	ErrBusy          = errors.New("busy")
	ErrReset         = errors.New("device was reset")
	ErrRefused       = errors.New("refused")
)

// World is one simulated laboratory: the demo's, or the wet bench. It is owned by
// one caller at a time. Typed access is to the demo's devices, and nil on the
// bench.
type World struct {
	seed    uint64
	now     time.Time
	tick    uint64 // the last grid instant that physics has reached
	ambient float64

	reactor      *Reactor
	spectrometer *Spectrometer
	stage        *Stage
	camera       *Camera
	cell         *Cell
	room         *Room

	bodies  []body // in the order in which a tick moves them
	devices map[string]device
	faults  map[string]map[string]*fault
	boots   map[string]int
	counts  map[string]*Count
}

// device is what each instrument's model gives to Read, Do, faults and reboot.
type device interface {
	// sensors lists component and property of everything that can be read.
	sensors() [][2]string
	// raw is what the sensor would report if nothing were wrong with it;
	// missing for an unknown one.
	raw(component, property string) lab.Value
	// commands lists what do understands, with the unit of each argument.
	commands() []command
	do(component, name string, args map[string]float64) (map[string]lab.Value, error)
	duration(component, name string, args map[string]float64) time.Duration
	reboot()
}

// body is what time moves.
type body interface {
	quiet() bool // a tick would change nothing
	advance()    // by one tick
}

// vessel is what a pump delivers into, and draws from, in mL.
type vessel interface {
	pour(volume float64, in liquid)
	take(volume float64) (taken float64)
}

type command struct {
	component, name string
	args            []param
}

type param struct {
	name string
	unit lab.Unit
	kind lab.TypeKind
}

// NewDemo makes the demo laboratory at rest at an instant: everything off, all
// at room temperature, the vessel empty, the cell stopped.
func NewDemo(seed uint64, start time.Time) *World {
	w := newWorld(seed, start, "reactor", "pump_a", "pump_b", "quench", "spectrometer", "stage", "camera", "cell", "room")
	w.reactor = newReactor(w)
	pumpA := newPump(w, "pump_a", w.reactor, liquid{gold: 1, temperature: roomTemperature})
	pumpB := newPump(w, "pump_b", w.reactor, liquid{citrate: 10, temperature: roomTemperature})
	quench := newPump(w, "quench", w.reactor, liquid{quench: 1, temperature: 4})
	w.spectrometer, w.stage, w.camera = newSpectrometer(w), newStage(w), newCamera(w)
	w.cell, w.room = newCell(w), newRoom(w)
	w.devices = map[string]device{
		"reactor": w.reactor, "pump_a": pumpA, "pump_b": pumpB, "quench": quench,
		"spectrometer": w.spectrometer, "stage": w.stage, "camera": w.camera, "cell": w.cell, "room": w.room,
	}
	// Liquids first, then heat and chemistry on what is in the vessel now, then
	// what only time drives.
	w.bodies = []body{pumpA, pumpB, quench, w.reactor, w.stage, w.cell}
	return w
}

// newWorld is a world whose instruments have still to be put into it.
func newWorld(seed uint64, start time.Time, names ...string) *World {
	w := &World{
		seed: seed, now: start.Round(0), tick: tickOf(start), ambient: 25,
		faults: map[string]map[string]*fault{}, boots: map[string]int{}, counts: map[string]*Count{},
	}
	for _, n := range names {
		w.boots[n], w.counts[n], w.faults[n] = 1, new(Count), map[string]*fault{}
	}
	return w
}

// For makes the world that has all of some instruments, by their names: the
// demo laboratory, the wet bench, the assay. An error lists what there is.
func For(instruments []string, seed uint64, start time.Time) (*World, error) {
	var have []string
	for _, make := range []func(uint64, time.Time) *World{NewDemo, NewWet, NewAssay} {
		w, all := make(seed, start), true
		for _, n := range instruments {
			all = all && w.devices[n] != nil
		}
		if all {
			return w, nil
		}
		have = append(have, fmt.Sprint(w.Instruments()))
	}
	return nil, lab.E("sim: for", "", lab.KindInvalid, fmt.Errorf("no simulated world has all of %v; there are %s", instruments, strings.Join(have, " and ")))
}

func tickOf(t time.Time) uint64 { return uint64(t.UnixNano() / int64(Tick)) }

// Now is the instant the world has been stepped to.
func (w *World) Now() time.Time { return w.now }

// Instruments lists the instruments' names, sorted.
func (w *World) Instruments() []string {
	names := make([]string, 0, len(w.devices))
	for n := range w.devices {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// Step advances the world to an instant. An earlier one changes nothing: the
// world never goes backwards. Its cost grows with the time that passes, except
// while nothing in the laboratory changes.
func (w *World) Step(to time.Time) {
	if !to.After(w.now) {
		return
	}
	for end := tickOf(to); w.tick < end; {
		if w.quiet() {
			w.tick = end // exact: a quiet world has nothing that a tick would change
			break
		}
		w.tick++
		w.advance()
	}
	w.now = to.Round(0)
}

func (w *World) quiet() bool {
	for _, b := range w.bodies {
		if !b.quiet() {
			return false
		}
	}
	return true
}

// advance does one tick.
func (w *World) advance() {
	for _, b := range w.bodies {
		b.advance()
	}
}

// Typed access, for faces that need the state behind a wire.

// Reactor is the flow synthesizer.
func (w *World) Reactor() *Reactor { return w.reactor }

// Pump finds pump_a, pump_b or quench; nil for any other name.
func (w *World) Pump(instrument string) *Pump {
	p, _ := w.devices[instrument].(*Pump)
	return p
}

// Spectrometer is the fibre spectrometer at the reactor's outlet window.
func (w *World) Spectrometer() *Spectrometer { return w.spectrometer }

// Stage is the three-axis stage under the camera.
func (w *World) Stage() *Stage { return w.stage }

// Camera is the microscope's camera.
func (w *World) Camera() *Camera { return w.camera }

// Cell is the film-coating cell.
func (w *World) Cell() *Cell { return w.cell }

// Room is what the room's controller knows.
func (w *World) Room() *Room { return w.room }

// Effects is the count of every instrument.
func (w *World) Effects() map[string]Count {
	all := make(map[string]Count, len(w.counts))
	for n, c := range w.counts {
		all[n] = *c
	}
	return all
}

// Count is what one instrument has really done; zero for an unknown name.
func (w *World) Count(instrument string) Count {
	if c := w.counts[instrument]; c != nil {
		return *c
	}
	return Count{}
}

// Boot counts an instrument's power-ups, from 1; 0 for an unknown name.
func (w *World) Boot(instrument string) int { return w.boots[instrument] }

// Reboot cycles an instrument's power: what a real one would lose is lost, and
// its boot counter grows. The matter around it stays as it is.
func (w *World) Reboot(instrument string) {
	d := w.devices[instrument]
	if d == nil {
		return
	}
	w.boots[instrument]++
	d.reboot()
}

// Set turns a knob of the world. Each refuses what makes no physical sense.
//
//	room.airflow (m/s)  room.oxygen (%)  room.door_closed, room.emergency (0 or 1)
//	ambient (degC)      reactor.temperature (degC, the body itself)
//	exotherm (W, heat that comes from nowhere and no switch ends)
func (w *World) Set(name string, value float64) error {
	type knob struct {
		lo, hi float64
		set    func(float64)
	}
	knobs := map[string]knob{"ambient": {-20, 60, func(v float64) { w.ambient = v }}}
	if w.reactor != nil {
		knobs = map[string]knob{
			"room.airflow":        {0, 5, func(v float64) { w.room.airflow = v }},
			"room.oxygen":         {0, 100, func(v float64) { w.room.oxygen = v }},
			"room.door_closed":    {0, 1, func(v float64) { w.room.doorClosed = v != 0 }},
			"room.emergency":      {0, 1, func(v float64) { w.room.emergency = v != 0 }},
			"ambient":             {-20, 60, func(v float64) { w.ambient = v }},
			"reactor.temperature": {-20, 200, w.reactor.setBody},
			"exotherm":            {0, 5000, func(v float64) { w.reactor.exotherm = v }},
		}
	}
	k, ok := knobs[name]
	if !ok {
		names := make([]string, 0, len(knobs))
		for n := range knobs {
			names = append(names, n)
		}
		sort.Strings(names)
		return lab.E("sim: set", "", lab.KindInvalid, fmt.Errorf("there is no knob %q; there are %v", name, names))
	}
	if !(value >= k.lo && value <= k.hi) {
		return lab.E("sim: set", "", lab.KindInvalid, fmt.Errorf("%s = %v is outside %v to %v", name, value, k.lo, k.hi))
	}
	k.set(value)
	return nil
}

// noise is a sensor's normal deviate at the present tick.
func (w *World) noise(key uint64) float64 { return normalAt(key, w.tick) }
