package safety_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/safety"
)

// reload puts other rules in force.
func (d *desk) reload(now time.Time, text string) string {
	d.Helper()
	d.rules = rulesOf(d, d.lab, "interlocks: test\n"+text)
	return names(d.engine.Reload(now, d.rules))
}

// A permit that is not spent is taken back; what has begun is held to the new
// permissives.
func TestReloadHoldsCommands(t *testing.T) {
	d := newDesk(t, "rules: []\n")
	d.see(t0, "room.airflow = 0.5 m/s")
	fresh, begun, doubt := d.command(dose), d.command(dose), d.command(dose)
	pf, pb := d.allowed(d.engine.Decide(t0, fresh, 1)), d.allowed(d.engine.Decide(t0, begun, 1))
	d.allowed(d.engine.Decide(t0, doubt, 1))
	d.engine.Done(t0, doubt.ID, safety.MaybeDone, nil)
	if err := pb.Spend(begun, 1, t0); err != nil {
		t.Fatal(err)
	}
	if got := d.reload(at(1), hood); got != "lost c1 by rules" {
		t.Error(got)
	}
	kind(t, pf.Spend(fresh, 1, at(1)), lab.KindDenied)
	if err := pb.Live(begun); err != nil {
		t.Error(err)
	}
	if got := names(d.see(at(2), "room.airflow = 0.1 m/s")); got != "" {
		t.Error(got)
	}
	if got := names(d.engine.Tick(at(1002))); got != "lost c2 by hood" {
		t.Error(got)
	}
	kind(t, pb.Live(begun), lab.KindDenied)
	if x := d.engine.Decide(at(1002), doubt, 1); x.Refusals[0].Code != "duplicate" {
		t.Errorf("%v", x.Refusals)
	}
	d.engine.Done(at(1003), fresh.ID, safety.NothingDone, nil)
	d.engine.Done(at(1003), begun.ID, safety.PartDone, nil)
	d.engine.Settle(at(1003), doubt.ID, safety.AllDone, nil)
	d.see(at(1004), "room.airflow = 0.5 m/s")
	d.allowed(d.engine.Decide(at(1005), doubt, 1)) // whether an id may come again is the gateway's to say
}

func TestReloadKeepsLatches(t *testing.T) {
	d := newDesk(t, "rules:\n  - {id: fire, trip: room, when: room.emergency, unknown_for: 1 s, respond_within: 10 s, do: [pump_a.stop]}\n")
	d.see(t0, "room.emergency = true")
	other := "rules:\n  - {id: a, permissive: pump_b.dose, require: not tripped(room)}\n  - {id: b, trip: room, when: room.airflow < 0.1 m/s, unknown_for: 100 s, respond_within: 200 s, do: [stage.halt]}\n"
	d.see(t0, "room.airflow = 0.5 m/s")
	if got := d.reload(at(1), other); got != "" {
		t.Error(got)
	}
	if l := d.engine.Latches(); len(l) != 1 || l[0].Rule != "fire" || !l[0].Since.Equal(t0) {
		t.Errorf("%+v", l)
	}
	d.refused(d.decide(at(2), dose))
	d.refused(d.decide(at(2), "pump_b.dose volume=1 mL, rate=1 mL/min")) // the group is tripped in the new rules, too
	if got := names(d.see(at(3), "room.airflow = 0 m/s")); got != "trip b" {
		t.Error(got) // not the first out
	}
	if err := d.engine.Reset(at(4), "fire"); err != nil {
		t.Error(err)
	}
	d.refused(d.decide(at(5), "pump_b.dose volume=1 mL, rate=1 mL/min"))
	d.see(at(6), "room.airflow = 0.5 m/s")
	if err := d.engine.Reset(at(6), "b"); err != nil {
		t.Error(err)
	}
	d.allowed(d.decide(at(7), dose))
}

// What rules remember of time goes on, where they are the same: no reload trips
// a rule, and none gives it time.
func TestReloadKeepsTime(t *testing.T) {
	const rules = `signals: {warm: {is: "%s"}}
rules:
  - {id: rise, trip: a, when: "rate(reactor.probe.temperature, 2 s) > 30 K/s", unknown_for: 1500 ms, respond_within: 10 s, do: [pump_a.stop]}
  - {id: slow, trip: b, when: room.emergency, on_delay: 1 s, unknown_for: 2 s, respond_within: 10 s, do: [pump_a.stop]}
  - {id: lost, trip: c, when: room.airflow < 0.1 m/s, unknown_for: 4 s, respond_within: 10 s, do: [pump_a.stop]}
  - {id: held, permissive: pump_b.dose, require: "held(warm, 2 s)"}
%s`
	d := newDesk(t, fmt.Sprintf(rules, "reactor.probe.temperature > 20 degC", ""))
	for ms := 0; ms <= 3000; ms += 250 {
		d.see(at(ms), "reactor.probe.temperature = 30 degC", "room.emergency = false")
		if ms == 0 {
			d.see(at(ms), "room.airflow = 0.5 m/s")
		}
	}
	if l := d.engine.Latches(); len(l) > 0 {
		t.Fatal(l)
	}
	d.see(at(3000), "room.emergency = true")
	d.engine.Tick(at(3001))
	if got := d.reload(at(3400), fmt.Sprintf(rules, "reactor.probe.temperature > 20 degC", "  - {id: more, limit: pump_a.dose.volume, max: 5 mL}\n")); got != "" {
		t.Fatal(got)
	}
	d.run(at(3400), "pump_b.dose volume=1 mL, rate=1 mL/min")
	d.see(at(3500), "reactor.probe.temperature = 31 degC")
	if got := names(d.engine.Tick(at(3999))); got != "" {
		t.Error(got)
	}
	if got := names(d.engine.Tick(at(4000))); got != "trip slow first" {
		t.Error(got)
	}
	d.see(at(4500), "reactor.probe.temperature = 31 degC")
	if got := d.reload(at(5000), fmt.Sprintf(rules, "reactor.probe.temperature > 21 degC", "")); got != "" {
		t.Error(got)
	}
	d.see(at(5000), "reactor.probe.temperature = 31 degC")
	d.refused(d.decide(at(5000), "pump_b.dose volume=1 mL, rate=1 mL/min")) // the signal is another one now
	d.engine.Tick(at(6001))
	if got := names(d.engine.Tick(at(7001))); got != "trip lost first" { // 4 s after the reading of 0 ms went stale
		t.Error(got)
	}
	if got := names(d.engine.Tick(at(7501))); got != "trip rise first" { // the temperature is stale since 6 s
		t.Error(got)
	}
}

// A trip that is new gets the time of a start, and effects are denied until its
// inputs are known.
func TestReloadStartsWhatIsNew(t *testing.T) {
	d := newDesk(t, "rules: []\n")
	d.see(at(40000), "reactor.probe.temperature = 30 degC")
	const rules = "rules:\n  - {id: rise, trip: a, when: \"rate(reactor.probe.temperature, 2 s) > 30 K/s\", respond_within: 10 s, do: [pump_a.stop]}\n"
	if got := d.reload(at(40000), rules); got != "" {
		t.Fatal(got)
	}
	if x := d.decide(at(40001), dose); x.Permit != nil || x.Refusals[0].Code != "starting" {
		t.Errorf("%v", x.Refusals)
	}
	for ms := 40250; ms <= 42000; ms += 250 {
		if got := names(d.see(at(ms), "reactor.probe.temperature = 30 degC")); got != "" {
			t.Error(got)
		}
	}
	d.allowed(d.decide(at(42000), dose))
	d = newDesk(t, "rules: []\n")
	d.reload(at(40000), rules)
	if got := names(d.engine.Tick(at(70000))); got != "trip rise first" {
		t.Error(got)
	}
}

// Sums go on, under whatever id; a new one begins with what was done.
func TestReloadKeepsSums(t *testing.T) {
	const total = "  - {id: %s, budget: \"sum(pump_a.dose.volume, pump_b.dose.volume) per run\", max: %s}\n"
	d := newDesk(t, "rules:\n"+fmt.Sprintf(total, "total", "3 mL"))
	d.run(t0, dosing("pump_a", 1))
	id, x := d.ask(t0, "", "", dosing("pump_a", 0.5))
	d.allowed(x)
	d.end(t0, dosing("pump_b", 0.25), safety.MaybeDone)
	left := func(rule, want string) {
		t.Helper()
		if i := d.only(d.decide(at(9), dosing("pump_b", 900)), rule); i.Nearest == nil || i.Nearest.String() != want {
			t.Errorf("%s leaves %v; %s is wanted", rule, i.Nearest, want)
		}
	}
	left("total", "1.25 mL")
	d.reload(at(1), "rules:\n"+fmt.Sprintf(total, "renamed", "0.1 L"))
	left("renamed", "98.25 mL")
	d.engine.Done(at(2), id, safety.NothingDone, nil)
	left("renamed", "98.75 mL")
	d.reload(at(3), "rules: []\n")
	d.reload(at(4), "rules:\n  - {id: anew, budget: \"sum(pump_b.dose.volume, pump_a.dose.volume) per campaign\", max: 4 mL}\n")
	left("anew", "2.75 mL") // 1 mL that was done, 0.25 mL in doubt
	d.engine.Settle(at(5), "c3", safety.NothingDone, nil)
	left("anew", "3 mL")
	d.reload(at(6), "rules:\n  - {id: h, limit: \"pump_a.dose.volume, pump_b.dose.volume\", total: 5 mL per 1 h, together: true}\n")
	left("h", "4 mL")
}

func TestReloadKeepsWhatHappened(t *testing.T) {
	const rules = purgeFirst + "  - {id: field, zone: field_of_view, claim: {stage.move: while stage.moving, camera.capture: until done}}\n  - {id: step, limit: reactor.heat.target, step: 20 K}\n"
	d := newDesk(t, rules)
	d.see(t0, "room.airflow = 0.5 m/s", "reactor.jacket.setpoint = 40 degC", "stage.moving = true")
	d.run(at(1), move)
	d.run(at(2), heat(60))
	d.run(at(3), stir)
	other := strings.NewReplacer("id: ", "id: x", "within: 30 min", "within: 29 min").Replace(rules)
	for i, text := range []string{rules, other} {
		if got := d.reload(at(10+i), text); got != "" {
			t.Fatal(got)
		}
		id, x := d.ask(at(20+i), "", "", dose)
		if x.Permit == nil && i == 0 {
			t.Errorf("%v", x.Refusals)
		}
		d.engine.Done(at(20+i), id, safety.NothingDone, nil)
		d.refused(d.decide(at(20+i), capture))
		d.refused(d.decide(at(20+i), heat(20))) // 60 degC, and no reading says so yet
	}
	d.see(at(30), "stage.moving = false", "reactor.jacket.setpoint = 60 degC", "room.airflow = 0.5 m/s")
	d.allowed(d.decide(at(31), capture))
	d.refused(d.decide(at(31), heat(20)))
	d.allowed(d.decide(at(31), heat(45)))
	d.reload(at(40), "rules:\n  - {id: s, sequence: pump_a.dose, after: stage.move, not_since: [reactor.heat]}\n")
	if i := d.only(d.decide(at(41), dose), "s"); !strings.HasPrefix(i.Say, "s: since stage.move, reactor.heat") {
		t.Error(i.Say) // a rule that is new knows what happened before it
	}
	d.reload(at(50), "rules:\n  - {id: s, sequence: pump_a.dose, after: stage.move}\n  - {id: n, limit: stage.move.x, step: 5 mm}\n")
	d.allowed(d.decide(at(51), dose))
	d.see(at(49), "stage.x = 0 mm")
	d.only(d.decide(at(51), move), "n") // who knows what was set before anybody asked
	d.see(at(52), "stage.x = 0 mm")
	d.allowed(d.decide(at(52), move))
}

func TestReloadKeepsBypasses(t *testing.T) {
	d := newDesk(t, bypassable)
	d.see(t0, "room.airflow = 0.1 m/s", "room.emergency = false")
	for _, r := range []string{"hood", "small"} {
		if err := d.bypass(t0, r, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	d.reload(at(1), strings.Replace(bypassable, "{id: small, ", "{id: small, bypass: never, ", 1))
	if b := d.engine.Bypasses(); len(b) != 1 || b[0].Rule != "hood" {
		t.Errorf("%+v", b)
	}
	d.allowed(d.decide(at(2), dose))
	d.reload(at(3), strings.Replace(bypassable, "rules:", "bypasses: 0\nrules:", 1))
	if b := d.engine.Bypasses(); len(b) != 0 {
		t.Errorf("%+v", b)
	}
	d.refused(d.decide(at(4), dose))
}

// A run's own limits go on, too.
func TestReloadKeepsRunLimits(t *testing.T) {
	d := newDesk(t, "rules: []\n")
	if err := d.engine.Scope("run", []string{"room.airflow > 0.3 m/s"}); err != nil {
		t.Fatal(err)
	}
	d.see(t0, "room.airflow = 0.1 m/s")
	d.refused(d.decide(t0, dose))
	d.reload(at(1), "rules:\n  - {id: x, limit: pump_a.dose.volume, max: 5 mL}\n")
	d.refused(d.decide(at(2), dose))
	d.engine.Unscope("run")
	d.allowed(d.decide(at(3), dose))
}

func TestReloadEndsAlarms(t *testing.T) {
	d := newDesk(t, bypassable)
	if got := names(d.see(t0, "room.airflow = 0.1 m/s", "room.emergency = false")); got != "alarm air" {
		t.Fatal(got)
	}
	if got := d.reload(at(1), bypassable+"  - {id: z, limit: pump_a.dose.volume, max: 5 mL}\n"); got != "" || len(d.engine.Alarms()) != 1 {
		t.Errorf("%s; %+v", got, d.engine.Alarms())
	}
	if got := d.reload(at(2), hood); got != "normal air" || len(d.engine.Alarms()) != 0 {
		t.Errorf("%s; %+v", got, d.engine.Alarms())
	}
}
