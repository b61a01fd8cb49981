package sim

import (
	"fmt"
	"math"
	"sort"
	"strings"

	"labgate/lab"
)

// fault is a switch that is on.
type fault struct {
	args  map[string]float64
	since uint64               // tick
	held  map[string]lab.Value // stuck: what each sensor showed at that instant
}

// Faults of every instrument. The first group the world itself acts out; of
// the wire's it only holds the switch, and the faces act it out.
//
//	stuck          sensors repeat what they showed when it began
//	drift          numbers move by rate a second (argument rate, default 0.5 units/s)
//	nan            numbers are NaN
//	refuse         every command is refused
//	actuator_dead  commands are acknowledged and do nothing
//	reboot         one power cycle, at once
//	freeze         the device stops answering; its matter goes on
//
// The first five may carry a component, or a component and property, that they
// are limited to: "stuck.jacket", "nan.probe.temperature".
var (
	bodyFaults   = []string{"stuck", "drift", "nan", "refuse", "actuator_dead"}
	wholeFaults  = []string{"reboot", "freeze"}
	wireFaults   = []string{"drop", "delay", "garble", "late_reply", "wrong_reply", "half_open"}
	deviceFaults = map[string][]string{
		// runaway and exotherm (argument power, W): the contents give off heat
		// while the heater has power. heater_stuck: the heater's switch is
		// welded shut, full power whatever is commanded.
		"reactor": {"runaway", "exotherm", "heater_stuck"},
		// slip (argument fraction, default 0): the motor turns and counts, and
		// only that fraction of the liquid comes out.
		"pump_a": {"slip"}, "pump_b": {"slip"}, "quench": {"slip"}, "burette": {"slip"}, "feeder": {"slip"},
		// breakdown (arguments scale in s of running, default 20, and shape,
		// default 1.5): a Weibull life ends in aborting. starved: nothing to
		// coat; the cell suspends itself until it is over.
		"cell": {"breakdown", "starved"},
	}
)

// Faults lists what can be switched on, by instrument, without the limited
// forms.
func (w *World) Faults() map[string][]string {
	all := make(map[string][]string, len(w.devices))
	for n := range w.devices {
		var names []string
		for _, group := range [][]string{bodyFaults, wholeFaults, wireFaults, deviceFaults[n]} {
			names = append(names, group...)
		}
		sort.Strings(names)
		all[n] = names
	}
	return all
}

// Fault switches a fault on or off. Switching on what is on begins it anew. An
// unknown instrument or fault, or an argument that is not finite, is invalid.
func (w *World) Fault(instrument, name string, on bool, args map[string]float64) error {
	const op = "sim: fault"
	d := w.devices[instrument]
	if d == nil {
		return lab.E(op, instrument, lab.KindInvalid, fmt.Errorf("there is no such instrument"))
	}
	if err := w.checkFault(instrument, name, d); err != nil {
		return lab.E(op, instrument, lab.KindInvalid, err)
	}
	for k, v := range args {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return lab.E(op, instrument, lab.KindInvalid, fmt.Errorf("argument %s is not finite", k))
		}
	}
	if name == "reboot" {
		if on {
			w.Reboot(instrument)
		}
		return nil
	}
	delete(w.faults[instrument], name)
	if on {
		f := &fault{args: make(map[string]float64, len(args)), since: w.tick, held: map[string]lab.Value{}}
		for k, v := range args {
			f.args[k] = v
		}
		for _, s := range d.sensors() {
			f.held[s[0]+"."+s[1]] = w.sense(instrument, s[0], s[1], d.raw(s[0], s[1]))
		}
		w.faults[instrument][name] = f
	}
	if instrument == "cell" && name == "breakdown" {
		w.cell.armBreakdown()
	}
	return nil
}

func (w *World) checkFault(instrument, name string, d device) error {
	base, limit, limited := strings.Cut(name, ".")
	known := w.Faults()[instrument]
	if i := sort.SearchStrings(known, base); i == len(known) || known[i] != base {
		return fmt.Errorf("there is no fault %q; there are %s", base, strings.Join(known, ", "))
	}
	if !limited {
		return nil
	}
	if !contains(bodyFaults, base) {
		return fmt.Errorf("fault %q is the whole instrument's", base)
	}
	for _, s := range d.sensors() {
		if limit == s[0] || limit == s[0]+"."+s[1] {
			return nil
		}
	}
	for _, c := range d.commands() {
		if limit == c.component {
			return nil
		}
	}
	return fmt.Errorf("fault %q: there is no component or property %q", base, limit)
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// FaultOn reports whether a fault, by its full name, is on, with its
// arguments. The caller must not change them.
func (w *World) FaultOn(instrument, name string) (args map[string]float64, on bool) {
	f := w.faults[instrument][name]
	if f == nil {
		return nil, false
	}
	return f.args, true
}

// FaultsOn lists the faults that are on, by their full names, by instrument.
func (w *World) FaultsOn() map[string][]string {
	all := map[string][]string{}
	for instrument, faults := range w.faults {
		for name := range faults {
			all[instrument] = append(all[instrument], name)
		}
		sort.Strings(all[instrument])
		if len(all[instrument]) == 0 {
			delete(all, instrument)
		}
	}
	return all
}

// Frozen reports whether a device has stopped answering.
func (w *World) Frozen(instrument string) bool {
	_, on := w.FaultOn(instrument, "freeze")
	return on
}

// affecting finds a body fault that is on for a property, or (with an empty
// property) for a component.
func (w *World) affecting(instrument, base, component, property string) *fault {
	on := w.faults[instrument]
	if len(on) == 0 {
		return nil
	}
	if f := on[base]; f != nil {
		return f
	}
	if f := on[base+"."+component]; f != nil || property == "" {
		return f
	}
	return on[base+"."+component+"."+property]
}

// sense is what a sensor with its faults makes of what it should report. NaN
// wins over stuck, stuck over drift.
func (w *World) sense(instrument, component, property string, v lab.Value) lab.Value {
	if len(w.faults[instrument]) == 0 {
		return v
	}
	numeric := v.Kind == lab.Number
	if numeric && w.affecting(instrument, "nan", component, property) != nil {
		v.Num = math.NaN()
		return v
	}
	if f := w.affecting(instrument, "stuck", component, property); f != nil {
		return f.held[component+"."+property]
	}
	if f := w.affecting(instrument, "drift", component, property); f != nil && numeric {
		v.Num += f.arg("rate", 0.5) * float64(w.tick-f.since) * dt
	}
	return v
}

// reading is a number as the device reports it.
func (w *World) reading(d device, instrument, component, property string) float64 {
	return w.sense(instrument, component, property, d.raw(component, property)).Num
}

// flag is a bool as the device reports it.
func (w *World) flag(d device, instrument, component, property string) bool {
	return w.sense(instrument, component, property, d.raw(component, property)).Bool
}

// gate is asked before a command: dead means acknowledge and do nothing.
func (w *World) gate(op, instrument, component string) (dead bool, err error) {
	if w.affecting(instrument, "refuse", component, "") != nil {
		return false, refused(op, instrument, ErrRefused, "")
	}
	return w.affecting(instrument, "actuator_dead", component, "") != nil, nil
}

func (f *fault) arg(name string, otherwise float64) float64 {
	if v, ok := f.args[name]; ok {
		return v
	}
	return otherwise
}
