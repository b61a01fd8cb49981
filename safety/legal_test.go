package safety_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"labgate/lab"
	"labgate/safety"
)

// legalNominal is the demo lab with all well.
var legalNominal = map[string]string{
	"reactor.jacket.temperature": "25 degC", "reactor.probe.temperature": "25.2 degC", "reactor.wall.temperature": "24.9 degC",
	"reactor.stirrer.speed": "400 rpm", "reactor.vessel.contents": "0 mL", "room.airflow": "0.5 m/s", "room.oxygen": "20.9 %",
	"room.door_closed": "true", "room.emergency": "false", "stage.moving": "false", "camera.exposing": "false",
}

// legal is the range that the lab and its rules leave an argument, in the
// class's units. What is not listed is bounded by nothing but the wire.
var legal = map[string][2]float64{
	"reactor.jacket.heat.target": {20, 92}, "reactor.stirrer.stir.speed": {20, 1200},
	"pump_a.pump.dose.volume": {0.001, 0.45}, "pump_b.pump.dose.volume": {0.001, 0.45},
	"pump_a.pump.dose.rate": {0.01, 20}, "pump_b.pump.dose.rate": {0.01, 20},
	"quench.pump.dose.volume": {0.001, 5}, "quench.pump.dose.rate": {0.01, 20},
	"stage.xyz.move.x": {-10, 10}, "stage.xyz.move.y": {-10, 10}, "stage.xyz.move.z": {0, 3},
	"camera.camera.capture.exposure": {1, 10000}, "cell.line.coat.speed": {1, 40}, "cell.line.coat.films": {1, 50},
}

// Whoever asks for what is legal gets it: 10,000 random commands, each within
// every bound, while all is well; not one is refused.
func TestLegalCommandsPass(t *testing.T) {
	c := demo(t)
	e := safety.NewEngine(c.Lab, c.Rules, t0)
	d := &desk{TB: t, lab: c.Lab, engine: e}
	now := t0
	feed := func() {
		for path, v := range legalNominal {
			d.see(now, path+" = "+v)
		}
	}
	for range 40 { // until every window is full
		feed()
		e.Tick(now)
		now = now.Add(100 * time.Millisecond)
	}
	var commands []lab.CommandID
	for _, in := range c.Lab.Instruments {
		for _, comp := range in.Profile.Components {
			for _, spec := range comp.Class.Commands {
				commands = append(commands, lab.CommandID{Instrument: in.Name, Component: comp.Name, Command: spec.Name})
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	asked := map[lab.CommandID]int{}
	for n := range 10_000 {
		now = now.Add(20 * time.Millisecond)
		feed()
		if ev := names(e.Tick(now)); ev != "" {
			t.Fatalf("%d: %s", n, ev)
		}
		cmd := d.legalCommand(r, commands[r.IntN(len(commands))], n, now)
		asked[cmd.Target]++
		x := e.Decide(now, cmd, 1)
		if x.Permit == nil {
			t.Fatalf("%d: %s %v is refused: %v", n, cmd.Target, cmd.Args, x.Refusals)
		}
		if err := x.Permit.Spend(cmd, 1, now); err != nil {
			t.Fatal(err)
		}
		e.Done(now, cmd.ID, safety.AllDone, nil)
	}
	if len(asked) != len(commands) {
		t.Errorf("only %d of %d commands were asked for", len(asked), len(commands))
	}
}

// legalCommand makes a command whose arguments are all legal, by construction.
// Ten commands are a run.
func (d *desk) legalCommand(r *rand.Rand, id lab.CommandID, n int, now time.Time) *lab.Command {
	cmd := &lab.Command{ID: fmt.Sprintf("legal%d", n), Target: id, Args: map[string]lab.Value{}, Principal: "planner_1", Run: fmt.Sprintf("run%d", n), Lease: 7, NotAfter: now.Add(time.Minute)}
	for _, a := range d.lab.CommandSpec(id).Args {
		b, known := legal[id.String()+"."+a.Name]
		switch a.Type.Kind {
		case lab.Number:
			if !known {
				b = [2]float64{1, 10}
			}
			x := b[0] + (b[1]-b[0])*r.Float64()
			if r.IntN(10) == 0 { // the bounds themselves are legal
				x = b[r.IntN(2)]
			}
			cmd.Args[a.Name] = lab.NumberValue(lab.Quantity{Value: x, Unit: a.Type.Unit})
		case lab.Integer:
			cmd.Args[a.Name] = lab.IntegerValue(1 + r.Int64N(10))
		case lab.Bool:
			cmd.Args[a.Name] = lab.BoolValue(r.IntN(2) == 0)
		case lab.Enum:
			cmd.Args[a.Name] = lab.EnumValue(a.Type.Enum[r.IntN(len(a.Type.Enum))])
		default:
			cmd.Args[a.Name] = lab.TextValue("a text")
		}
	}
	return cmd
}
