package opcua

import (
	"context"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"labgate/sim"
	"labgate/sim/faces/wire"
)

// Namespaces of the companion specifications, whose browse names are used.
const (
	diURI     = "http://opcfoundation.org/UA/DI/"
	ladsURI   = "http://opcfoundation.org/UA/LADS/"
	packmlURI = "http://opcfoundation.org/UA/PackML/"

	// ReactorURI and CellURI are the servers' application URIs.
	ReactorURI = "urn:labgate:simulator:flow-reactor:server"
	CellURI    = "urn:labgate:simulator:coating-cell:server"

	di, companion = 2, 3 // their indexes: 0 is the standard's, 1 the server's own
)

// Reactor serves the reactor on loopback; port 0 takes a free one.
func Reactor(ctx context.Context, h *wire.Host, port int, opts ...Option) (*Server, error) {
	return start(ctx, h, port, "reactor", "Flow synthesizer", "LGF-500-0023",
		[]string{ReactorURI, diURI, ladsURI, "urn:labgate:simulator:flow-reactor"}, reactorTree, opts)
}

// Cell serves the coating cell on loopback; port 0 takes a free one.
func Cell(ctx context.Context, h *wire.Host, port int, opts ...Option) (*Server, error) {
	return start(ctx, h, port, "cell", "Coating cell", "LGX-17-0009",
		[]string{CellURI, diURI, packmlURI, "urn:labgate:simulator:coating-cell"}, cellTree, opts)
}

// deviceSet adds the device below Objects, with its nameplate.
func (s *space) deviceSet(nid, about, model, serial string) *node {
	set := s.object(s.standard(id.ObjectsFolder), id.Organizes, "DeviceSet", di, "DeviceSet", "The devices of this server")
	device := s.object(set, id.HasComponent, nid, s.device(), nid, about)
	for _, p := range []struct{ name, value string }{
		{"SerialNumber", serial}, {"Manufacturer", "Labgate simulator"}, {"Model", model},
	} {
		s.property(device, p.name, p.name, id.String, false, p.value)
		s.nodes[ua.NewStringNodeID(s.device(), p.name).String()].name.NamespaceIndex = di
	}
	return device
}

// function is one function of the reactor's functional unit.
func (s *space) function(set *node, name, about string) *node {
	return s.object(set, id.HasComponent, "Synthesis."+name, companion, name, about)
}

var target = func(about string) []param { return []param{{"TargetValue", about, ua.TypeIDDouble}} }

// reactorTree is shaped like LADS: a device, its functional units, their
// functions, and the variables and methods of these.
func reactorTree(s *space, model, serial string) {
	device := s.deviceSet("FlowReactor", "A heated, stirred microreactor", model, serial)
	units := s.object(device, id.HasComponent, "FunctionalUnitSet", companion, "FunctionalUnitSet", "What can be used on its own")
	unit := s.object(units, id.HasComponent, "Synthesis", companion, "Synthesis", "The vessel and what works on it")
	set := s.object(unit, id.HasComponent, "Synthesis.FunctionSet", companion, "FunctionSet", "Its functions")

	s.controlFunction(set, control{
		name: "Jacket", about: "Brings the vessel to a temperature and keeps it there", unit: celsius,
		current: func(w *sim.World) float64 { return w.Reactor().Temperature("jacket") },
		target:  func(w *sim.World) float64 { return w.Reactor().Target() },
		enabled: func(w *sim.World) bool { return w.Reactor().Heating() },
		start:   func(w *sim.World, v float64) error { return w.Reactor().Heat(v) },
		stop:    func(w *sim.World) error { return w.Reactor().HeatOff() },
	})
	s.controlFunction(set, control{
		name: "Stirrer", about: "Keeps the liquid mixed", unit: rpm,
		current: func(w *sim.World) float64 { return w.Reactor().Speed() },
		target:  func(w *sim.World) float64 { return w.Reactor().SpeedTarget() },
		enabled: func(w *sim.World) bool { return w.Reactor().SpeedTarget() > 0 },
		start:   func(w *sim.World, v float64) error { return w.Reactor().Stir(v) },
		stop:    func(w *sim.World) error { return w.Reactor().StirOff() },
	})
	for _, sensor := range []struct{ name, component, about string }{
		{"Probe", "probe", "A thermometer in the liquid"}, {"Wall", "wall", "A thermometer in the vessel's wall"},
	} {
		f := s.function(set, sensor.name, sensor.about)
		s.measure(f, "Synthesis."+sensor.name+".SensorValue", companion, "SensorValue", "Temperature", celsius,
			func(w *sim.World) float64 { return w.Reactor().Temperature(sensor.component) })
	}
	vessel := s.function(set, "Vessel", "Holds the liquid; its outlet can be opened")
	s.measure(vessel, "Synthesis.Vessel.SensorValue", companion, "SensorValue", "Contents", millilt,
		func(w *sim.World) float64 { return w.Reactor().Contents() })
	s.variable(vessel, "Synthesis.Vessel.IsEnabled", companion, "IsEnabled", "Whether the outlet is open", id.Boolean,
		func(w *sim.World) any { return w.Reactor().Draining() })
	s.method(vessel, "Start", "Opens the outlet until the vessel is empty", nil,
		func(w *sim.World, _ []any) error { return w.Reactor().Drain() })
	s.method(vessel, "Stop", "Closes the outlet", nil,
		func(w *sim.World, _ []any) error { return w.Reactor().Shut() })
}

// control is an analog control function of LADS.
type control struct {
	name, about     string
	unit            unit
	current, target func(w *sim.World) float64
	enabled         func(w *sim.World) bool
	start           func(w *sim.World, target float64) error
	stop            func(w *sim.World) error
}

func (s *space) controlFunction(set *node, c control) {
	f := s.function(set, c.name, c.about)
	nid := "Synthesis." + c.name
	s.measure(f, nid+".CurrentValue", companion, "CurrentValue", "What is", c.unit, c.current)
	s.measure(f, nid+".TargetValue", companion, "TargetValue", "What is to be", c.unit, c.target)
	s.variable(f, nid+".IsEnabled", companion, "IsEnabled", "Whether it is switched on", id.Boolean,
		func(w *sim.World) any { return c.enabled(w) })
	s.method(f, "Start", "Switches it on with the target that it has", nil,
		func(w *sim.World, _ []any) error { return c.start(w, c.target(w)) })
	s.method(f, "StartWithTargetValue", "Sets the target and switches it on", target("in "+c.unit.symbol),
		func(w *sim.World, args []any) error { return c.start(w, args[0].(float64)) })
	s.method(f, "Stop", "Switches it off", nil,
		func(w *sim.World, _ []any) error { return c.stop(w) })
}

// cellTree is shaped like PackML: status and admin tags, and the state machine
// with a method for each command.
func cellTree(s *space, model, serial string) {
	device := s.deviceSet("CoatingCell", "Coats films in batches", model, serial)

	status := s.object(device, id.HasComponent, "Status", companion, "Status", "What it does now")
	s.variable(status, "Status.StateCurrent", companion, "StateCurrent", "The state's number in OPC 30050", id.Int32,
		func(w *sim.World) any { return int32(w.Cell().State()) })
	s.measure(status, "Status.FilmThickness", companion, "FilmThickness", "Mean of the batch so far", nanometre,
		func(w *sim.World) float64 { return w.Cell().Thickness() })

	admin := s.object(device, id.HasComponent, "Admin", companion, "Admin", "What it has done since power-up")
	for _, c := range []struct {
		name, about string
		read        func(c *sim.Cell) int
	}{
		{"ProdProcessedCount", "Films made, good or not", (*sim.Cell).Made},
		{"ProdGoodCount", "Films within tolerance", (*sim.Cell).Good},
		{"BatchCount", "Batches started", (*sim.Cell).Batch},
	} {
		s.variable(admin, "Admin."+c.name, companion, c.name, c.about, id.Int32,
			func(w *sim.World) any { return int32(c.read(w.Cell())) })
	}
	s.measure(admin, "Admin.OEE", companion, "OEE", "Overall equipment effectiveness", percent,
		func(w *sim.World) float64 { return w.Cell().OEE() })

	machine := s.object(device, id.HasComponent, "StateMachine", companion, "StateMachine", "The state machine of PackML")
	for _, c := range []struct {
		name, about string
		command     sim.PackCommand
	}{
		{"Reset", "From stopped or complete to idle", sim.PackReset},
		{"Stop", "A controlled stop, which ends in stopped", sim.PackStop},
		{"Abort", "Stops at once; only Clear leads out of it", sim.PackAbort},
		{"Clear", "Leaves aborted", sim.PackClear},
		{"Hold", "Pauses for a reason inside the machine", sim.PackHold},
		{"Unhold", "Goes on after a hold", sim.PackUnhold},
		{"Suspend", "Pauses for a reason outside the machine", sim.PackSuspend},
		{"Unsuspend", "Goes on after a suspension", sim.PackUnsuspend},
	} {
		s.method(machine, c.name, c.about, nil, func(w *sim.World, _ []any) error { return w.Cell().Command(c.command) })
	}
	s.method(machine, "StartBatch", "Coats a batch, once",
		[]param{{"films", "how many", ua.TypeIDInt32}, {"speed", "in mm/s", ua.TypeIDDouble}},
		func(w *sim.World, args []any) error {
			return w.Cell().StartBatch(int(args[0].(int32)), args[1].(float64))
		})
}
