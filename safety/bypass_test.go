package safety_test

import (
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/safety"
)

const bypassable = `rules:
  - {id: hood, permissive: pump_a.dose, require: room.airflow >= 0.3 m/s}
  - {id: start, permissive: pump_b.dose, require: room.airflow >= 0.3 m/s, at: start}
  - {id: small, limit: pump_a.dose.volume, max: 2 mL, total: 5 mL per 1 h}
  - {id: fire, trip: room, when: room.emergency, unknown_for: 100 s, respond_within: 200 s, do: [pump_b.stop]}
  - {id: sacred, trip: room, when: room.airflow < 0.05 m/s, unknown_for: 100 s, respond_within: 200 s, do: [pump_b.stop], bypass: never}
  - {id: air, alarm: {when: room.airflow < 0.2 m/s, priority: high, response: open the window}}
`

func (d *desk) bypass(now time.Time, rule string, long time.Duration) error {
	return d.engine.Bypass(now, safety.Bypass{Rule: rule, By: "safety_ito", Reason: "test", Since: now, Until: now.Add(long)})
}

func TestBypassIsRefused(t *testing.T) {
	d := newDesk(t, bypassable)
	d.see(t0, "room.airflow = 0.5 m/s", "room.emergency = true")
	good := safety.Bypass{Rule: "hood", By: "safety_ito", Reason: "the sensor is out for calibration", Until: at(1000)}
	for name, c := range map[string]struct {
		change func(b *safety.Bypass)
		kind   lab.Kind
		say    string
	}{
		"no rule":        {func(b *safety.Bypass) { b.Rule = "hod" }, lab.KindInvalid, `no rule "hod"; did you mean hood?`},
		"never":          {func(b *safety.Bypass) { b.Rule = "sacred" }, lab.KindDenied, "bypass: never"},
		"of the lab":     {func(b *safety.Bypass) { b.Rule = "pump_a.pump.dose.rate.limit" }, lab.KindDenied, "limit of the lab file"},
		"latched":        {func(b *safety.Bypass) { b.Rule = "fire" }, lab.KindDenied, "is latched"},
		"nobody":         {func(b *safety.Bypass) { b.By = " " }, lab.KindInvalid, "a person and a reason"},
		"no reason":      {func(b *safety.Bypass) { b.Reason = "" }, lab.KindInvalid, "a person and a reason"},
		"no end":         {func(b *safety.Bypass) { b.Until = time.Time{} }, lab.KindInvalid, "an end that is to come"},
		"over already":   {func(b *safety.Bypass) { b.Until = t0 }, lab.KindInvalid, "an end that is to come"},
		"for too long":   {func(b *safety.Bypass) { b.Until = t0.Add(safety.MaxBypass + 1) }, lab.KindDenied, "at most"},
		"a stop":         {func(b *safety.Bypass) { b.Rule = "stop" }, lab.KindInvalid, "no rule"},
		"as long as may": {func(b *safety.Bypass) { b.Until = t0.Add(safety.MaxBypass) }, lab.KindInternal, ""},
	} {
		b := good
		c.change(&b)
		err := d.engine.Bypass(t0, b)
		if c.say == "" {
			if err != nil {
				t.Error(name, err)
			}
			continue
		}
		kind(t, err, c.kind)
		if err != nil && !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := d.bypass(t0, "start", time.Second); err != nil {
		t.Fatal(err)
	}
	kind(t, d.bypass(t0, "small", time.Second), lab.KindDenied) // two at once
	if err := d.bypass(t0, "start", time.Minute); err != nil {  // the same one again is no more
		t.Error(err)
	}
	if got := d.engine.Bypasses(); len(got) != 2 || got[0].Rule != "start" || !got[0].Until.Equal(at(60000)) || got[1].Rule != "hood" {
		t.Errorf("%+v", got)
	}
	kind(t, d.engine.Unbypass(t0, "small"), lab.KindInvalid)
}

// A guard that is bypassed is not asked, but what it counts is counted; when
// the bypass ends, it holds for what is under way.
func TestBypassedGuards(t *testing.T) {
	d := newDesk(t, bypassable)
	d.see(t0, "room.airflow = 0.1 m/s", "room.emergency = false")
	d.refused(d.decide(t0, dose))
	if err := d.bypass(t0, "hood", time.Second); err != nil {
		t.Fatal(err)
	}
	cmd := d.command(dose)
	x := d.engine.Decide(at(1), cmd, 1)
	p := d.allowed(x)
	if strings.Join(x.Bypassed, " ") != "hood" || !p.NotAfter().Equal(at(1000)) {
		t.Errorf("bypassed %v; until %s", x.Bypassed, p.NotAfter().Sub(t0))
	}
	if err := p.Spend(cmd, 1, at(2)); err != nil {
		t.Fatal(err)
	}
	if got := names(d.see(at(3), "room.airflow = 0.1 m/s")); got != "" {
		t.Error(got)
	}
	if next := d.engine.Next(); !next.Equal(at(1000)) {
		t.Errorf("next is %s", next.Sub(t0))
	}
	if got := names(d.engine.Tick(at(999))); got != "" {
		t.Error(got)
	}
	if got := names(d.engine.Tick(at(1000))); got != "rearmed hood, lost "+cmd.ID+" by hood" {
		t.Error(got)
	}
	d.refused(d.decide(at(1000), dose))

	if err := d.bypass(at(1000), "small", time.Second); err != nil {
		t.Fatal(err)
	}
	d.see(at(1001), "room.airflow = 0.5 m/s")
	d.run(at(1002), dosing("pump_a", 4))
	if err := d.engine.Unbypass(at(1003), "small"); err != nil {
		t.Fatal(err)
	}
	if i := d.only(d.decide(at(1004), dosing("pump_a", 1.5)), "small"); i.Nearest == nil || i.Nearest.String() != "0.9 mL" {
		t.Errorf("%+v", i) // 0.1 mL of before and 4 mL under the bypass
	}
}

// A bypass is over when its time is up, though nobody has ticked since; and
// setting a clock back does not lengthen it.
func TestBypassEndsByTheLatestTime(t *testing.T) {
	d := newDesk(t, bypassable)
	d.see(t0, "room.airflow = 0.1 m/s", "room.emergency = false")
	if err := d.bypass(t0, "hood", time.Second); err != nil {
		t.Fatal(err)
	}
	d.refused(d.decide(at(1000), dose))
	d.see(at(500), "room.airflow = 0.1 m/s")
	d.refused(d.decide(at(500), dose))
	if got := names(d.engine.Tick(at(500))); got != "rearmed hood" {
		t.Error(got)
	}
	kind(t, d.bypass(at(500), "hood", 400*time.Millisecond), lab.KindInvalid) // that has been
}

// A trip that is bypassed does not fire; if it still would when it is armed
// again, it does at once.
func TestBypassedTrip(t *testing.T) {
	for _, by := range []string{"time", "hand"} {
		d := newDesk(t, bypassable)
		d.see(t0, "room.airflow = 0.5 m/s", "room.emergency = false")
		if err := d.bypass(t0, "fire", 5*time.Second); err != nil {
			t.Fatal(err)
		}
		if got := names(d.see(at(100), "room.emergency = true")); got != "" {
			t.Error(got)
		}
		d.allowed(d.decide(at(100), "pump_b.dose volume=0.1 mL, rate=1 mL/min"))
		d.see(at(2500), "room.airflow = 0.5 m/s")
		d.see(at(4900), "room.emergency = true")
		if by == "hand" {
			if err := d.engine.Unbypass(at(4900), "fire"); err != nil {
				t.Fatal(err)
			}
			if got := names(d.engine.Tick(at(4900))); got != "trip fire first" {
				t.Error(got)
			}
		} else if got := names(d.engine.Tick(at(5000))); got != "rearmed fire, trip fire first" {
			t.Error(got)
		}
	}
}

// A restored bypass ends when it would have, and is dropped where the rules do
// not allow it.
func TestRestoredBypass(t *testing.T) {
	d := newDesk(t, bypassable)
	for _, r := range []string{"hood", "sacred", "gone", "pump_a.pump.dose.rate.limit"} {
		d.engine.RestoreBypass(safety.Bypass{Rule: r, By: "x", Reason: "x", Since: at(-5000), Until: at(1000)})
	}
	d.engine.RestoreBypass(safety.Bypass{Rule: "small", By: "x", Reason: "x", Since: at(-5000), Until: t0.Add(9999 * time.Hour)})
	got := d.engine.Bypasses()
	if len(got) != 2 || got[0].Rule != "hood" || got[1].Rule != "small" || !got[1].Until.Equal(at(-5000).Add(safety.MaxBypass)) {
		t.Fatalf("%+v", got)
	}
	d.see(t0, "room.airflow = 0.1 m/s", "room.emergency = false")
	d.allowed(d.decide(t0, dose))
	if got := names(d.engine.Tick(at(1000))); got != "rearmed hood, lost c1 by hood" {
		t.Error(got)
	}
}

// A file that allows fewer at once than it did before the restart gets fewer;
// those that are over do not count.
func TestRestoredBypassesAreCounted(t *testing.T) {
	d := newDesk(t, strings.Replace(bypassable, "rules:", "bypasses: 1\nrules:", 1))
	restore := func(rule string, since, until int) {
		d.engine.RestoreBypass(safety.Bypass{Rule: rule, By: "x", Reason: "x", Since: at(since), Until: at(until)})
	}
	restore("hood", 0, 1000)
	restore("small", 500, 5000)
	if got := d.engine.Bypasses(); len(got) != 1 || got[0].Rule != "hood" {
		t.Errorf("%+v", got)
	}
	restore("small", 1500, 5000)
	d.engine.Tick(at(1500))
	if got := d.engine.Bypasses(); len(got) != 1 || got[0].Rule != "small" {
		t.Errorf("%+v", got)
	}
}

// An alarm is raised, seen, and returns to normal; it is gone when it is both
// over and seen.
func TestAlarms(t *testing.T) {
	d := newDesk(t, `rules:
  - {id: air, alarm: {when: room.airflow < 0.2 m/s, priority: high, response: open the window}, on_delay: 1 s, unknown_for: 2 s}
  - {id: late, about: x, limit: pump_a.dose.volume, max: 5 mL, proof_test: {every: 30 days, last: 2026-11-01}}
  - {id: never, about: x, limit: pump_a.dose.volume, max: 6 mL, proof_test: {every: 30 days}}
`)
	list := func() string {
		var s []string
		for _, a := range d.engine.Alarms() {
			x := a.Rule
			if a.Active {
				x += " active"
			}
			if a.Acknowledged {
				x += " seen by " + a.By
			}
			s = append(s, x)
		}
		return strings.Join(s, ", ")
	}
	if got := names(d.engine.Tick(t0)); got != "alarm proof-test/never" {
		t.Error(got)
	}
	kind(t, d.engine.Acknowledge(t0, "air", "x"), lab.KindInvalid)
	if err := d.engine.Acknowledge(t0, "proof-test/never", "ito"); err != nil || list() != "proof-test/never active seen by ito" {
		t.Error(err, list())
	}
	steps := []struct {
		ms    int
		value string // "" for a tick
		want  string
	}{
		{100, "0.5 m/s", ""}, {200, "0.1 m/s", ""}, {900, "0.1 m/s", ""}, {1199, "", ""}, {1200, "", "alarm air"}, {1300, "0.1 m/s", ""},
		{1400, "0.5 m/s", "normal air"}, {1500, "0.1 m/s", ""}, {2500, "0.1 m/s", "alarm air"},
	}
	for _, s := range steps {
		var evs []safety.Event
		if s.value == "" {
			evs = d.engine.Tick(at(s.ms))
		} else {
			evs = d.see(at(s.ms), "room.airflow = "+s.value)
		}
		if got := names(evs); got != s.want {
			t.Errorf("%d ms: %q", s.ms, got)
		}
		if s.ms == 1400 && list() != "air, proof-test/never active seen by ito" {
			t.Error(list())
		}
	}
	if err := d.engine.Acknowledge(at(2600), "air", "ito"); err != nil {
		t.Error(err)
	}
	if got := names(d.see(at(2700), "room.airflow = 0.5 m/s")); got != "normal air" || strings.Contains(list(), "air") {
		t.Error(got, list())
	}
	// What is unknown for too long is an alarm too; only as much good data ends it.
	if got := names(d.engine.Tick(at(5701))); got != "" {
		t.Error(got)
	}
	if got := names(d.engine.Tick(at(7701))); got != "alarm air" {
		t.Error(got)
	}
	d.see(at(8000), "room.airflow = 0.5 m/s")
	if got := names(d.see(at(9900), "room.airflow = 0.5 m/s")); got != "" {
		t.Error(got)
	}
	if got := names(d.engine.Tick(at(10000))); got != "normal air" {
		t.Error(got)
	}
	if next := d.engine.Next(); next.IsZero() {
		t.Error("the proof test comes by itself")
	}
	day := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	if got := names(d.engine.Tick(day)); !strings.Contains(got, "alarm proof-test/late") {
		t.Error(got)
	}
}

// An alarm that was seen before a restart and is still there is no news; a later
// one is.
func TestRestoredAcknowledgement(t *testing.T) {
	for still, want := range map[bool]bool{true: true, false: false} {
		d := newDesk(t, bypassable)
		d.engine.RestoreAcknowledged("air", "ito")
		if !still {
			d.see(t0, "room.airflow = 0.5 m/s")
		}
		d.see(at(10), "room.airflow = 0.1 m/s")
		if a := d.engine.Alarms(); len(a) != 1 || a[0].Acknowledged != want {
			t.Errorf("%+v", a)
		}
	}
}

// On-delay: true for so long without a break; what is unknown meanwhile is no
// break.
func TestOnDelay(t *testing.T) {
	for name, c := range map[string]struct {
		steps string // "ms value", "ms ?" for a bad reading
		fires int
	}{
		"held":                      {"0 false,100 true,2000 true", 1100},
		"not for long enough":       {"0 false,100 true,1000 false,1100 true,2050 false,3000 false", 0},
		"a break starts it anew":    {"0 false,100 true,1000 false,1100 true,2500 true", 2100},
		"unknown is no break":       {"0 false,100 true,500 ?,900 true,2000 true", 1100},
		"unknown when it is up":     {"0 false,100 true,500 ?", 1100},
		"unknown does not begin it": {"0 false,100 ?,2000 false", 0},
		"unknown, then true":        {"0 false,100 ?,900 true,2500 true", 1900},
	} {
		for _, dense := range []bool{true, false} {
			d := newDesk(t, "rules:\n  - {id: a, trip: x, when: room.emergency, on_delay: 1 s, unknown_for: 50 s, respond_within: 100 s, do: [pump_a.stop]}\n")
			var when []int
			var what []string
			for _, s := range strings.Split(c.steps, ",") {
				ms, v, _ := strings.Cut(s, " ")
				when, what = append(when, atoi(ms)), append(what, v)
			}
			i := 0
			got := d.play(dense, 4000, when, func(now time.Time) []safety.Event {
				v := what[i]
				i++
				if v == "?" {
					return d.put(now, "room.emergency", lab.Reading{Received: now, Source: now})
				}
				return d.see(now, "room.emergency = "+v)
			}, func(s string) bool { return s == "trip a first" })
			if got != c.fires {
				t.Errorf("%s, every ms %t: it fires at %d ms", name, dense, got)
			}
		}
	}
}

// A reset may need more than that the trip would not fire.
func TestHealthy(t *testing.T) {
	d := newDesk(t, "rules:\n  - {id: a, trip: x, when: room.airflow < 0.2 m/s, healthy: room.airflow > 0.4 m/s, unknown_for: 3 s, respond_within: 10 s, do: [pump_a.stop, wait 2 s, reactor.heat_off], run: hold, hold_for: 10 min}\n")
	d.see(t0, "room.airflow = 0.5 m/s")
	evs := d.see(at(10), "room.airflow = 0.1 m/s")
	if names(evs) != "trip a first" {
		t.Fatal(names(evs))
	}
	trip := evs[0].(*safety.Trip)
	if trip.Run != safety.RunHold || trip.HoldFor != 10*time.Minute || len(trip.Do) != 3 || trip.Do[1].Wait() != 2*time.Second || trip.Do[1].Target() != (lab.CommandID{}) {
		t.Errorf("%+v", trip)
	}
	for _, c := range []struct{ value, why string }{
		{"0.1 m/s", "room.airflow < 0.2 m/s is still true"}, {"0.3 m/s", "room.airflow > 0.4 m/s is false"}, {"0.5 m/s", ""},
	} {
		d.see(at(20), "room.airflow = "+c.value)
		s := d.engine.Trips(at(20))
		if len(s) != 1 || s[0].Why != c.why || s[0].Healthy != (c.why == "") || len(s[0].Now) != 1 || len(s[0].Inputs) != 1 {
			t.Errorf("%s: %+v", c.value, s)
		}
		if err := d.engine.Reset(at(20), "a"); (err == nil) != (c.why == "") {
			t.Errorf("%s: %v", c.value, err)
		}
	}
}
