package gateway_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
)

// TestCommitSequence is the whole way of one dose, in order.
func TestCommitSequence(t *testing.T) {
	s := newShell(t)
	s.set("pump_a.dispensed = 1 mL", "room.airflow = 0.5 m/s")
	s.read()
	s.lease("pump_a", "run")
	s.is("append lease")
	s.manual = true
	if r := s.ask("c1 " + dose); !r.Accepted || !r.Known || r.State != lab.Accepted || r.Outcome != nil {
		t.Errorf("%+v", r)
	}
	s.is("answer accepted", "refresh c1")
	need := map[string]bool{}
	for _, id := range s.refreshes[0].Properties {
		if need[id.String()] {
			t.Errorf("%s is asked for twice", id)
		}
		need[id.String()] = true
	}
	for _, id := range []string{"room.room.airflow", "pump_a.pump.dispensed", "pump_a.pump.running"} {
		if !need[id] {
			t.Errorf("%s is not refreshed", id)
		}
	}
	s.refresh()
	s.is("append allow+intent")
	if r := s.outcomeAsked("c1"); r.State != lab.Decided || r.Outcome != nil {
		t.Errorf("%+v", r)
	}
	s.trace = nil
	s.commit()
	s.is("send pump_a.pump.dose")
	s.exchange(true, nil, nil)
	s.is("note sent")
	s.set("pump_a.running = true", "pump_a.dispensed = 1.05 mL")
	s.read()
	s.set("pump_a.running = false", "pump_a.dispensed = 1.0995 mL")
	s.read()
	s.is("append outcome")
	if len(s.outcomes) != 0 || s.outcomeAsked("c1").Outcome != nil {
		t.Error("the outcome is told before it is durable")
	}
	s.trace = nil
	s.commit()
	s.is("outcome c1 confirmed")
	o := s.isState("c1", lab.Confirmed, 0)
	if v := o.Values["delivered"]; math.Abs(v.Num-0.0995) > 1e-9 || v.Unit.String() != "mL" || !o.Started.Before(o.Ended) {
		t.Errorf("%+v", o)
	}
	if got := kinds(s.journal); got != "rules+link+link+link+link+link+link+link+link+link+lease+allow+intent+sent+outcome" {
		t.Error(got)
	}
	intent := s.journal[12]
	var body struct {
		Args   map[string]lab.Value
		Before map[string]lab.Value
		Hash   string
		Epoch  uint64
	}
	if err := json.Unmarshal(intent.Body, &body); err != nil || intent.Key != "command/c1" || body.Before["dispensed"].Num != 1 || body.Args["volume"].Num != 0.1 || len(body.Hash) != 64 || body.Epoch != 1 {
		t.Errorf("%v: %s", err, intent.Body)
	}
	if intent.Principal != "planner_1" || intent.Run != "run" || intent.Step != "step" || intent.Instrument != "pump_a" || intent.Command != "c1" {
		t.Errorf("%+v", intent)
	}
}

// TestReadingsFromBeforeConfirmNothing: what was read before the exchange was
// over says nothing about it.
func TestReadingsFromBeforeConfirmNothing(t *testing.T) {
	s := newShell(t)
	s.lease("reactor", "run")
	s.set("reactor.heating = true", "reactor.setpoint = 70 degC") // already
	s.read()
	s.ask("c1 reactor.heat target=70 degC")
	s.exchange(true, nil, nil)
	if len(s.outcomes) != 0 {
		t.Fatal("it is confirmed by readings from before it was sent")
	}
	s.read("room")
	if len(s.outcomes) != 0 {
		t.Fatal("it is confirmed by another instrument")
	}
	s.read("reactor")
	s.isState("c1", lab.Confirmed, 0)
}

// O2: a command id has one answer for ever.
func TestSameCommandAgain(t *testing.T) {
	s := newShell(t)
	s.dosing()
	for range 3 { // under way
		if r := s.ask("c1 " + dose); !r.Accepted || !r.Known || r.State != lab.Sent {
			t.Errorf("%+v", r)
		}
	}
	s.is("answer sent", "answer sent", "answer sent")
	s.set("pump_a.running = false", "pump_a.dispensed = 1.1 mL")
	s.read()
	s.isState("c1", lab.Confirmed, 0)

	first := s.ask("c2 pump_a.dose volume=0.5 mL, rate=6 mL/min") // the limit refuses, after the refresh
	if !first.Accepted {
		t.Errorf("%+v", first)
	}
	s.isState("c2", lab.Refused, lab.KindDenied)
	const nothing = "pump_a.dose volume=0 mL, rate=6 mL/min"
	third := s.ask("c3 " + nothing) // the class refuses, at once
	if third.Accepted || !third.Known || third.Outcome == nil {
		t.Errorf("%+v", third)
	}
	s.trace = nil
	check := func() {
		t.Helper()
		for range 2 {
			if r := s.ask("c1 " + dose); !r.Known || !r.Accepted || r.State != lab.Confirmed || r.Outcome == nil || r.Outcome.Values["delivered"].Num == 0 {
				t.Errorf("%+v", r)
			}
			if r := s.ask("c2 pump_a.dose volume=0.5 mL, rate=6 mL/min"); !r.Known || r.Accepted || r.State != lab.Refused || r.Outcome == nil || r.Issues[0].Rule != "size" {
				t.Errorf("%+v", r)
			}
			if r := s.ask("c3 " + nothing); r.Accepted || r.State != lab.Refused || r.Issues[0].Code != third.Issues[0].Code {
				t.Errorf("%+v", r)
			}
			if r := s.outcomeAsked("c1"); r.State != lab.Confirmed || r.Outcome == nil {
				t.Errorf("%+v", r)
			}
		}
		for _, line := range s.trace {
			if !strings.HasPrefix(line, "answer ") {
				t.Errorf("a repeated command did %q", line)
			}
		}
		s.trace = nil
	}
	check()
	s.boot(append(s.journal, s.notes...)) // a restart
	s.connect()
	check()
	if r := s.outcomeAsked("never"); r.Known || r.Accepted || r.Outcome != nil {
		t.Errorf("%+v", r)
	}
}

// TestAdmission: what is refused at once, with every reason.
func TestAdmission(t *testing.T) {
	mL := lab.Q(1, "mL").Unit
	for name, c := range map[string]struct {
		change func(*lab.Command)
		codes  string
	}{
		"undeclared instrument": {func(c *lab.Command) { c.Target.Instrument = "pump_z" }, "undeclared"},
		"undeclared component":  {func(c *lab.Command) { c.Target.Component = "motor" }, "undeclared"},
		"undeclared command":    {func(c *lab.Command) { c.Target.Command = "empty" }, "undeclared"},
		"no id":                 {func(c *lab.Command) { c.ID = "" }, "missing_field"},
		"a long id":             {func(c *lab.Command) { c.ID = strings.Repeat("x", 65) }, "missing_field"},
		"a missing argument":    {func(c *lab.Command) { delete(c.Args, "rate") }, "missing_field"},
		"an argument too many":  {func(c *lab.Command) { c.Args["speed"] = lab.BoolValue(true) }, "unknown_field"},
		"NaN":                   {func(c *lab.Command) { c.Args["volume"] = lab.NumberValue(lab.Quantity{Value: math.NaN(), Unit: mL}) }, "wrong_type"},
		"infinite":              {func(c *lab.Command) { c.Args["volume"] = lab.NumberValue(lab.Quantity{Value: math.Inf(1), Unit: mL}) }, "wrong_type"},
		"a text":                {func(c *lab.Command) { c.Args["volume"] = lab.TextValue("0.1 mL") }, "wrong_type"},
		"no unit":               {func(c *lab.Command) { c.Args["volume"] = lab.IntegerValue(1) }, "wrong_type"},
		"another dimension":     {func(c *lab.Command) { c.Args["volume"] = lab.NumberValue(lab.Q(1, "mm")) }, "wrong_type"},
		"nothing":               {func(c *lab.Command) { c.Args["volume"] = lab.Value{} }, "wrong_type"},
		"at an open bound":      {func(c *lab.Command) { c.Args["volume"] = lab.NumberValue(lab.Q(0, "mL")) }, "out_of_bounds"},
		"negative":              {func(c *lab.Command) { c.Args["volume"] = lab.NumberValue(lab.Q(-1, "mL")) }, "out_of_bounds"},
		"expired":               {func(c *lab.Command) { c.NotAfter = t0 }, "expired"},
		"no expiry":             {func(c *lab.Command) { c.NotAfter = time.Time{} }, "expired"},
		"no lease":              {func(c *lab.Command) { c.Lease = 0 }, "lease"},
		"a lower fence":         {func(c *lab.Command) { c.Lease = 1 }, "lease"},
		"a higher fence":        {func(c *lab.Command) { c.Lease = 3 }, "lease"},
		"another run":           {func(c *lab.Command) { c.Run = "other" }, "lease"},
		"another principal":     {func(c *lab.Command) { c.Principal = "planner_2" }, "lease"},
		"all at once": {func(c *lab.Command) {
			c.Args = map[string]lab.Value{"volume": lab.TextValue("x"), "y": lab.BoolValue(true)}
			c.NotAfter, c.Lease = t0, 0
		}, "wrong_type missing_field unknown_field expired lease"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShell(t)
			s.lease("pump_a", "run")
			s.leaseDo(messages.LeaseRequest{Action: messages.LeaseRelease, Instrument: "pump_a", Run: "run", Principal: "planner_1", Lease: 1})
			s.lease("pump_a", "run") // its fence is 2 now
			s.set("room.airflow = 0.5 m/s")
			s.read()
			cmd := s.command("c1 "+dose, 2)
			c.change(&cmd)
			s.trace = nil
			r := s.askFor(gateway.Asked{Command: cmd})
			var codes []string
			for _, i := range r.Issues {
				codes = append(codes, i.Code)
			}
			if r.Accepted || r.State != lab.Refused || strings.Join(codes, " ") != c.codes {
				t.Errorf("%v %v", codes, r.Issues)
			}
			for _, line := range s.trace {
				if line != "answer refused" && line != "note denial" && line != "safety refusal " {
					t.Errorf("it did %q", line)
				}
			}
			// The pump is as free as before.
			if r := s.askFor(gateway.Asked{Command: s.command("c2 "+dose, 2)}); !r.Accepted {
				t.Errorf("%v", r.Issues)
			}
		})
	}
}

// A value that the wire would change is refused with the nearest that it would
// not.
func TestNotExact(t *testing.T) {
	s := newShell(t)
	s.lease("stage", "run")
	r := s.ask("c1 stage.move x=0.013 mm, y=0 mm, z=1 mm")
	if r.Accepted || r.Issues[0].Code != "not_exact" || r.Issues[0].Path != "args.x" || r.Issues[0].Nearest.String() != "0.01 mm" || !r.Issues[0].Repairable {
		t.Errorf("%+v", r.Issues)
	}
	if r := s.ask("c2 stage.move x=0.01 mm, y=0 mm, z=1 mm"); !r.Accepted {
		t.Errorf("%+v", r.Issues)
	}
}

// One effect in flight a component; others wait or are refused.
func TestBusy(t *testing.T) {
	s := newShell(t)
	s.dosing()
	r := s.ask("c2 " + dose)
	if r.Accepted || r.Issues[0].Code != "busy" || !strings.Contains(r.Issues[0].Say, "command c1") {
		t.Errorf("%+v", r.Issues)
	}
	s.lease("reactor", "run")
	if r := s.ask("c3 reactor.stir speed=100 rpm"); !r.Accepted {
		t.Errorf("%+v", r.Issues)
	}
	if r := s.ask("c4 reactor.heat target=50 degC"); !r.Accepted { // another component
		t.Errorf("%+v", r.Issues)
	}
	s.set("pump_a.running = false", "pump_a.dispensed = 1.1 mL")
	s.read()
	if r := s.ask("c5 " + dose); !r.Accepted {
		t.Errorf("%+v", r.Issues)
	}
}

// A newer setpoint takes the place of an older one, in every phase; one that
// is refused takes nobody's.
func TestSuperseded(t *testing.T) {
	for phase, before := range map[string]func(s *shell){
		"refreshing": func(s *shell) {},
		"committing": func(s *shell) { s.refresh() },
		"sending":    func(s *shell) { s.refresh(); s.commit() },
		"watching":   func(s *shell) { s.refresh(); s.commit(); s.exchange(true, nil, nil) },
	} {
		t.Run(phase, func(t *testing.T) {
			s := newShell(t)
			s.lease("reactor", "run")
			s.manual = true
			s.ask("c1 reactor.heat target=50 degC")
			before(s)
			s.ask("c2 reactor.heat target=60 degC")
			if phase != "refreshing" {
				s.refresh()
			}
			s.manual = false
			s.step(gateway.Tick{})
			for len(s.sends) > 0 {
				s.exchange(true, nil, nil)
			}
			s.set("reactor.heating = true", "reactor.setpoint = 60 degC")
			s.read()
			s.isState("c1", lab.Superseded, lab.KindCancelled)
			s.isState("c2", lab.Confirmed, 0)
			// In "refreshing" the newer one is decided first.
			if want := map[string]int{"sending": 1, "watching": 1}; s.sent["c1"] != want[phase] || s.sent["c2"] != 1 {
				t.Errorf("sent: %v", s.sent)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		s := newShell(t)
		s.lease("reactor", "run")
		s.ask("c1 reactor.heat target=50 degC")
		s.exchange(true, nil, nil)
		s.ask("c2 reactor.heat target=99 degC") // beyond the lab file's limit
		s.isState("c2", lab.Refused, lab.KindDenied)
		s.set("reactor.heating = true", "reactor.setpoint = 50 degC")
		s.read()
		s.isState("c1", lab.Confirmed, 0)
	})
}

// A result that can't be used is no success.
func TestUnusableResults(t *testing.T) {
	nm := lab.Q(1, "nm").Unit
	table := lab.TableValue(&lab.TableData{Columns: []lab.Column{{Name: "wavelength", Unit: nm}, {Name: "absorbance", Unit: lab.Q(0, "1").Unit}}, Data: [][]float64{{400}, {0.1}}})
	for name, c := range map[string]struct {
		values map[string]lab.Value
		state  lab.State
	}{
		"good":      {map[string]lab.Value{"peak": lab.NumberValue(lab.Q(520, "nm")), "spectrum": table}, lab.Confirmed},
		"missing":   {map[string]lab.Value{"spectrum": table}, lab.Contradicted},
		"none":      {nil, lab.Contradicted},
		"NaN":       {map[string]lab.Value{"peak": lab.NumberValue(lab.Quantity{Value: math.NaN(), Unit: nm}), "spectrum": table}, lab.Contradicted},
		"other dim": {map[string]lab.Value{"peak": lab.NumberValue(lab.Q(1, "mL")), "spectrum": table}, lab.Contradicted},
		"no table":  {map[string]lab.Value{"peak": lab.NumberValue(lab.Q(520, "nm")), "spectrum": lab.TextValue("flat")}, lab.Contradicted},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShell(t)
			s.lease("spectrometer", "run")
			s.ask("c1 spectrometer.spectrum")
			s.exchange(true, c.values, nil)
			if o := s.outcome("c1"); o.State != c.state {
				t.Errorf("%+v", o)
			}
		})
	}
	s := newShell(t)
	s.lease("spectrometer", "run")
	s.ask("c1 spectrometer.spectrum")
	s.exchange(false, nil, nil) // nobody says that it was done
	s.isState("c1", lab.Failed, lab.KindOutcomeUnknown)
}

// A dose whose "before" is not known could never be confirmed: it is refused.
func TestUnprovable(t *testing.T) {
	s := newShell(t)
	s.lease("pump_a", "run")
	s.set("room.airflow = 0.5 m/s")
	s.quiet(2500 * time.Millisecond)
	s.manual = true
	s.ask("c1 " + dose)
	s.read("room", "reactor")
	s.step(gateway.Refreshed{Command: "c1"})
	o := s.isState("c1", lab.Refused, lab.KindDenied)
	if o.Issues[0].Code != "unreadable" || o.Issues[0].Say != "pump_a.pump.dose could not be confirmed: pump_a.pump.dispensed is stale before it" {
		t.Errorf("%+v", o.Issues)
	}
}
