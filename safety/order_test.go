package safety_test

import (
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/safety"
)

const (
	move    = "stage.move x=0 mm, y=0 mm, z=0 mm"
	capture = "camera.capture exposure=20 ms"
	stir    = "reactor.stir speed=400 rpm"
)

const purgeFirst = `rules:
  - {id: seq, sequence: pump_a.dose, after: reactor.stir, within: 30 min, not_since: [stage.move, room.airflow < 0.3 m/s]}
`

// What has to be before must have been confirmed; what must not have been since
// counts from its decision, and so does what is in doubt, and what is unknown.
func TestSequence(t *testing.T) {
	for name, c := range map[string]struct {
		do  func(d *desk)
		say string // empty: allowed
	}{
		"nothing":                     {func(*desk) {}, "reactor.stir has not happened before"},
		"done":                        {func(d *desk) { d.run(at(10), stir) }, ""},
		"under way":                   {func(d *desk) { d.allowed(d.decide(at(10), stir)) }, "reactor.stir has not happened before"},
		"in doubt":                    {func(d *desk) { d.end(at(10), stir, safety.MaybeDone) }, "reactor.stir has not happened before"},
		"a part":                      {func(d *desk) { d.end(at(10), stir, safety.PartDone) }, "reactor.stir has not happened before"},
		"not done":                    {func(d *desk) { d.end(at(10), stir, safety.NothingDone) }, "reactor.stir has not happened before"},
		"too long ago":                {func(d *desk) { d.run(at(10-30*60*1000), stir) }, "reactor.stir was 1800 s ago; at most 1800 s is allowed"},
		"as long ago as may be":       {func(d *desk) { d.run(at(500-30*60*1000), stir) }, ""},
		"done again":                  {func(d *desk) { d.run(at(-9000000), stir); d.run(at(10), stir) }, ""},
		"broken before":               {func(d *desk) { d.run(at(10), move); d.run(at(11), stir) }, ""},
		"broken since":                {func(d *desk) { d.run(at(10), stir); d.run(at(11), move) }, "since reactor.stir, stage.move has happened, or may have"},
		"broken at the same time":     {func(d *desk) { d.run(at(10), stir); d.run(at(10), move) }, "since reactor.stir, stage.move has happened, or may have"},
		"broken by what is under way": {func(d *desk) { d.run(at(10), stir); d.allowed(d.decide(at(11), move)) }, "since reactor.stir, stage.move is under way, or in doubt"},
		"broken by what began before": {func(d *desk) { d.allowed(d.decide(at(9), move)); d.run(at(10), stir) }, "since reactor.stir, stage.move is under way, or in doubt"},
		"broken by what ended since":  {func(d *desk) { d.overlap(); d.engine.Done(at(20), "c1", safety.AllDone, nil) }, "since reactor.stir, stage.move has happened, or may have"},
		"not broken by what was not":  {func(d *desk) { d.overlap(); d.engine.Done(at(20), "c1", safety.NothingDone, nil) }, ""},
		"broken by doubt":             {func(d *desk) { d.run(at(10), stir); d.end(at(11), move, safety.MaybeDone) }, "since reactor.stir, stage.move is under way, or in doubt"},
		"not broken by doubt resolved": {func(d *desk) {
			d.run(at(10), stir)
			d.end(at(11), move, safety.MaybeDone)
			d.engine.Settle(at(12), "c2", safety.NothingDone, nil)
		}, ""},
		"broken by a condition": {func(d *desk) {
			d.run(at(10), stir)
			d.see(at(11), "room.airflow = 0.2 m/s")
			d.see(at(12), "room.airflow = 0.5 m/s")
		}, "since reactor.stir, room.airflow < 0.3 m/s was true, or unknown"},
		"a condition that was before": {func(d *desk) {
			d.see(at(9), "room.airflow = 0.2 m/s")
			d.see(at(10), "room.airflow = 0.5 m/s")
			d.run(at(11), stir)
		}, ""},
		"a condition that is": {func(d *desk) { d.run(at(10), stir); d.see(at(11), "room.airflow = 0.2 m/s") }, "since reactor.stir, room.airflow < 0.3 m/s is true"},
		"a condition unknown in between": {func(d *desk) {
			d.run(at(10), stir)
			d.put(at(11), "room.airflow", lab.Reading{Received: at(11)})
			d.see(at(12), "room.airflow = 0.5 m/s")
		}, "since reactor.stir, room.airflow < 0.3 m/s was true, or unknown"},
		"a condition unknown": {func(d *desk) { d.run(at(10), stir); d.put(at(11), "room.airflow", lab.Reading{Received: at(11)}) }, "since reactor.stir, room.airflow < 0.3 m/s is unknown"},
		"a doubt that was done": {func(d *desk) { // when, nobody knows: as early as it was decided
			d.end(at(10), stir, safety.MaybeDone)
			d.run(at(11), move)
			d.engine.Settle(at(12), "c1", safety.AllDone, nil)
		}, "since reactor.stir, stage.move has happened, or may have"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, purgeFirst)
			d.see(t0, "room.airflow = 0.5 m/s")
			c.do(d)
			x := d.decide(at(500), dose)
			if c.say == "" {
				d.allowed(x)
				return
			}
			if i := d.only(x, "seq"); i.Say != "seq: "+c.say || i.Code != "sequence" {
				t.Errorf("it says %q", i.Say)
			}
		})
	}
}

// end is a command that was allowed and ended so.
func (d *desk) end(now time.Time, text string, end safety.End) {
	d.Helper()
	id, x := d.ask(now, "", "", text)
	d.allowed(x)
	d.engine.Done(now, id, end, nil)
}

// overlap is a stir from beginning to end while c1, a move, is under way.
func (d *desk) overlap() {
	d.Helper()
	d.allowed(d.decide(at(9), move))
	d.run(at(10), stir)
}

// A reading that was stale for a while was unknown for that while, though the
// next one came before anybody looked.
func TestSequenceSeesGaps(t *testing.T) {
	for _, between := range []string{"nothing", "a tick", "a reload"} {
		d := newDesk(t, purgeFirst)
		d.see(t0, "room.airflow = 0.5 m/s")
		d.run(at(10), stir)
		switch between {
		case "a tick":
			d.engine.Tick(at(3001))
		case "a reload":
			d.reload(at(1000), purgeFirst+"  - {id: more, limit: pump_a.dose.rate, max: 100 mL/min}\n")
		}
		d.see(at(4000), "room.airflow = 0.5 m/s") // the last was good for 3 s
		d.only(d.decide(at(4000), dose), "seq")
	}
}

// What has to be before may be a condition; after a restart it has to happen
// again.
func TestSequenceAfterACondition(t *testing.T) {
	d := newDesk(t, "rules:\n  - {id: seq, sequence: pump_a.dose, after: reactor.stirrer.speed > 100 rpm, within: 10 s, not_since: [pump_a.dose]}\n")
	d.only(d.decide(t0, dose), "seq")
	d.see(t0, "reactor.stirrer.speed = 50 rpm")
	d.only(d.decide(t0, dose), "seq")
	d.see(at(10), "reactor.stirrer.speed = 150 rpm")
	d.see(at(20), "reactor.stirrer.speed = 0 rpm")
	d.run(at(30), dose)
	d.only(d.decide(at(40), dose), "seq") // one a stir
	d.see(at(1000), "reactor.stirrer.speed = 150 rpm")
	d.see(at(1500), "reactor.stirrer.speed = 0 rpm")
	d.only(d.decide(at(11001), dose), "seq")
	d.see(at(12000), "reactor.stirrer.speed = 150 rpm")
	d.see(at(12001), "reactor.stirrer.speed = 0 rpm")
	p := d.allowed(d.decide(at(21900), dose))
	if !p.NotAfter().Equal(at(22000).Add(1)) {
		t.Errorf("the permit outlives what it stands on: until %s", p.NotAfter().Sub(t0))
	}
}

const field = `rules:
  - {id: field, zone: field_of_view, claim: {stage.move: while stage.moving, camera.capture: until done}}
`

// A zone has one holder, from its decision until what its claim says.
func TestZone(t *testing.T) {
	d := newDesk(t, field)
	still := func(now time.Time, moving bool) {
		d.see(now, "stage.moving = "+map[bool]string{true: "true", false: "false"}[moving])
	}
	still(t0, false)
	d.allowed(d.decide(at(10), capture)) // c1
	i := d.only(d.decide(at(11), move), "field")
	if i.Code != "zone" || i.Say != "field: camera holds zone field_of_view (camera.camera.capture, command c1)" || i.Wait != "until command c1 is over" {
		t.Errorf("%+v", i)
	}
	d.allowed(d.decide(at(12), capture)) // c3: the same instrument for the same run
	_, x := d.ask(at(12), "other", "", capture)
	d.only(x, "field")
	d.engine.Done(at(13), "c1", safety.AllDone, nil)
	d.only(d.decide(at(14), move), "field")
	d.engine.Done(at(15), "c3", safety.MaybeDone, nil)
	d.only(d.decide(at(16), move), "field") // in doubt
	d.engine.Settle(at(17), "c3", safety.AllDone, nil)

	id, x := d.ask(at(20), "", "", move)
	d.allowed(x)
	d.engine.Done(at(30), id, safety.AllDone, nil)
	i = d.only(d.decide(at(31), capture), "field") // the reading is from before
	if i.Wait != "while stage.moving" || len(i.Inputs) != 1 {
		t.Errorf("%+v", i)
	}
	if needs := d.engine.Needs(d.target("camera.capture")); len(needs) != 1 || needs[0].Property != "moving" {
		t.Errorf("it needs %v", needs)
	}
	still(at(32), true)
	d.only(d.decide(at(33), capture), "field")
	d.put(at(34), "stage.moving", lab.Reading{Received: at(34)})
	d.only(d.decide(at(35), capture), "field")
	still(at(36), false)
	still(at(37), true) // it moves again, whoever moves it
	d.only(d.decide(at(37), capture), "field")
	still(at(38), false)
	d.allowed(d.decide(at(38), capture))

	d.refused(d.decide(at(39), move))
	d.allowed(d.decide(at(39), "stage.halt")) // a stop waits for nobody
}

// A claim ends with the confirmed command that it waits for, of after it.
func TestZoneUntil(t *testing.T) {
	d := newDesk(t, `rules:
  - {id: z, zone: cell, claim: {stage.move: until stage.halt, camera.capture: until end of run, cell.coat: until done}}
  - {id: y, zone: cell, claim: {pump_a.dose: until done, pump_b.dose: until done}}
`)
	free := func(now time.Time) bool {
		id, x := d.ask(now, "probe", "", "pump_b.dose volume=1 mL, rate=1 mL/min")
		d.engine.Done(now, id, safety.NothingDone, nil)
		return x.Permit != nil
	}
	early, x := d.ask(at(1), "", "", "stage.halt")
	d.allowed(x)
	id, x := d.ask(at(2), "", "", move)
	d.allowed(x)
	d.engine.Done(at(3), early, safety.AllDone, nil) // decided before the move
	d.engine.Done(at(4), id, safety.AllDone, nil)
	if free(at(5)) {
		t.Error("a halt of before the move frees the zone")
	}
	d.end(at(6), "stage.halt", safety.PartDone)
	if free(at(7)) {
		t.Error("half a halt frees the zone")
	}
	d.run(at(8), "stage.halt")
	if !free(at(9)) {
		t.Error("a halt does not free the zone")
	}

	id, x = d.ask(at(10), "", "", move)
	d.allowed(x)
	d.engine.Done(at(11), id, safety.MaybeDone, nil)
	d.run(at(12), "stage.halt")
	if free(at(13)) {
		t.Error("a move in doubt holds nothing")
	}
	d.engine.Settle(at(14), id, safety.AllDone, nil)
	if !free(at(15)) {
		t.Error("it was halted, and is settled")
	}

	d.run(at(20), capture)
	if free(at(21)) {
		t.Error("the run goes on")
	}
	d.engine.Unscope("another")
	if free(at(22)) {
		t.Error("another run is over")
	}
	id, x = d.ask(at(23), "", "", capture)
	d.allowed(x)
	d.engine.Unscope("run")
	if free(at(24)) {
		t.Error("a command of the run is under way")
	}
	d.engine.Done(at(25), id, safety.AllDone, nil)
	if !free(at(26)) {
		t.Error("the run and its commands are over")
	}
	cmd := d.command(capture)
	cmd.Run = ""
	d.allowed(d.engine.Decide(at(30), cmd, 1))
	d.engine.Done(at(31), cmd.ID, safety.AllDone, nil)
	if !free(at(32)) {
		t.Error("a command of no run holds on to the end of it")
	}
	id, x = d.ask(at(40), "", "", move)
	d.allowed(x)
	d.engine.Done(at(41), id, safety.NothingDone, nil)
	if !free(at(42)) {
		t.Error("what was not sent holds the zone")
	}
}

// What ends a claim has to come after every command that it stands for, in
// whatever order those ended.
func TestClaimsOfOneCommand(t *testing.T) {
	d := newDesk(t, "rules:\n  - {id: z, zone: cell, claim: {stage.move: until stage.halt, pump_a.dose: until done}}\n")
	first, x := d.ask(at(1), "", "", move)
	d.allowed(x)
	halt, x := d.ask(at(2), "", "", "stage.halt")
	d.allowed(x)
	second, x := d.ask(at(3), "", "", move)
	d.allowed(x)
	d.engine.Done(at(4), second, safety.AllDone, nil)
	d.engine.Done(at(5), first, safety.AllDone, nil)
	d.engine.Done(at(6), halt, safety.AllDone, nil) // decided before the second move
	d.only(d.decide(at(7), dose), "z")
	d.run(at(8), "stage.halt")
	d.allowed(d.decide(at(9), dose))
}

// A reading frees a zone from what is over, and not from what is under way.
func TestClaimUnderWay(t *testing.T) {
	d := newDesk(t, field)
	d.run(at(1), move)
	second, x := d.ask(at(2), "", "", move)
	d.allowed(x)
	d.see(at(3), "stage.moving = false")
	d.only(d.decide(at(4), capture), "field")
	d.engine.Done(at(5), second, safety.AllDone, nil)
	d.only(d.decide(at(6), capture), "field")
	d.see(at(7), "stage.moving = false")
	d.allowed(d.decide(at(8), capture))
}

// A restored command claims too, and lets go as it would have.
func TestRestoredClaims(t *testing.T) {
	d := newDesk(t, field)
	c := d.command(move)
	d.engine.Remember(t0, c)
	d.only(d.decide(at(10), capture), "field")
	d.engine.Settle(at(20), c.ID, safety.AllDone, nil)
	d.only(d.decide(at(30), capture), "field")
	d.see(at(40), "stage.moving = false")
	d.allowed(d.decide(at(50), capture))
}

// What a rule lets a command stand on can't change under it.
func TestCommandIsCopied(t *testing.T) {
	d := newDesk(t, perRun+"  - {id: small, permissive: pump_a.dose, require: args.volume < room.airflow / 1 m/s * 4 mL}\n")
	d.see(t0, "room.airflow = 0.5 m/s")
	cmd := d.command(dosing("pump_a", 1))
	d.allowed(d.engine.Decide(t0, cmd, 1))
	cmd.Args["volume"] = lab.NumberValue(lab.Q(0, "mL"))
	cmd.Run = "another"
	half := lab.Q(0.5, "mL")
	if got := names(d.see(at(10), "room.airflow = 0.3 m/s")); got != "" {
		t.Error(got)
	}
	if got := names(d.see(at(20), "room.airflow = 0.2 m/s")); !strings.HasPrefix(got, "lost c1") {
		t.Errorf("%q", got)
	}
	d.engine.Done(at(30), "c1", safety.PartDone, &half)
	d.see(at(30), "room.airflow = 1 m/s")
	if i := d.only(d.decide(at(30), dosing("pump_a", 3)), "total"); i.Nearest == nil || i.Nearest.String() != "2.5 mL" {
		t.Errorf("%+v", i)
	}
}
