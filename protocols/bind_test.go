package protocols_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/protocols"
)

// pumps makes a lab of pumps with what they hold.
func pumps(t *testing.T, hold ...string) *lab.Lab {
	t.Helper()
	c := demoLab(t)
	l := &lab.Lab{Name: "pumps", Hash: "sha256:pumps"}
	for i, h := range hold {
		in := &lab.Instrument{Name: fmt.Sprintf("pump_%d", i+1), Profile: c.Lab.Instrument("pump_a").Profile}
		if name, strength, ok := strings.Cut(h, " "); h != "" {
			in.Holds = &lab.Holds{Substance: name}
			if ok {
				q, err := lab.ParseQuantity(strength)
				if err != nil {
					t.Fatal(err)
				}
				in.Holds.Concentration = &q
			}
		}
		l.Instruments = append(l.Instruments, in)
	}
	return l
}

func withRoles(roles string) string {
	return "protocol: roles\nversion: 1.0.0\nroles:\n" + roles + "\nsteps: [{wait: {for: 1 s}}]\n"
}

func TestRolesAreFilled(t *testing.T) {
	for _, c := range []struct {
		what, roles string
		holds       []string
		want        map[string]string
	}{
		{"in the order of the lab's file", "  a: {is: pump/v1}\n  b: {is: pump/v1}", []string{"x", "water", "z"}, map[string]string{"a": "pump_1", "b": "pump_2"}},
		{"by what they hold", "  a: {is: pump/v1, holds: {substance: water}}\n  b: {is: pump/v1}", []string{"x", "water"}, map[string]string{"a": "pump_2", "b": "pump_1"}},
		{"by how strong it is", "  a: {is: pump/v1, holds: {substance: x, concentration: 0.01 mol/L}}", []string{"x", "x 1 mmol/L", "x 10 mmol/L"}, map[string]string{"a": "pump_3"}},
		{"an earlier role moves on", "  a: {is: pump/v1}\n  b: {is: pump/v1, holds: {substance: x}}", []string{"x", "water"}, map[string]string{"a": "pump_2", "b": "pump_1"}},
		{"and a chain of them", "  a: {is: pump/v1}\n  b: {is: pump/v1}\n  c: {is: pump/v1, holds: {substance: x}}\n  d: {is: pump/v1, holds: {substance: water}}", []string{"x", "water", "z", "w"},
			map[string]string{"a": "pump_3", "b": "pump_4", "c": "pump_1", "d": "pump_2"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			pl, issues := protocols.Bind(parse(t, withRoles(c.roles)), pumps(t, c.holds...), nil)
			if len(issues) > 0 {
				t.Fatal(issues)
			}
			got := map[string]string{}
			for role, b := range pl.Bindings {
				got[role] = b.Instrument.Name
				if b.Components["pump/v1"] != "pump" {
					t.Errorf("component %q", b.Components["pump/v1"])
				}
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestRolesUnfilled(t *testing.T) {
	for _, c := range []struct{ roles, say, hint string }{
		{"  gold: {is: pump/v1, holds: {substance: silver}}", "no instrument of lab demo fills role gold: it takes a pump/v1 holding silver", "pump_a holds HAuCl4, 1 mmol/L; pump_b holds trisodium citrate, 10 mmol/L; quench holds cold water"},
		{"  gold: {is: pump/v1, holds: {substance: HAuCl4, concentration: 2 mmol/L}}", "no instrument of lab demo fills role gold: it takes a pump/v1 holding HAuCl4, 2 mmol/L", "pump_a holds HAuCl4, 1 mmol/L; pump_b holds trisodium citrate, 10 mmol/L; quench holds cold water"},
		{"  one: {is: camera/v1}\n  two: {is: camera/v1}", "no instrument of lab demo fills role two: it takes a camera/v1", "camera fills one"},
		{"  both: {is: [thermostat/v1, camera/v1]}", "no instrument of lab demo fills role both: it takes a thermostat/v1, camera/v1", "reactor is no camera/v1; camera is no thermostat/v1"},
	} {
		p := parse(t, withRoles(c.roles))
		pl, issues := protocols.Bind(p, demoLab(t).Lab, nil)
		if pl != nil || len(issues) != 1 || issues[0].Code != "role_unfilled" || issues[0].Say != c.say || issues[0].Hint != c.hint || issues[0].Line == 0 {
			t.Errorf("%v, %+v", pl, issues)
		}
		if again := protocols.CheckRoles(p, demoLab(t).Lab); !reflect.DeepEqual(again, issues) {
			t.Errorf("CheckRoles says %v", again)
		}
	}
}

const billed = `
protocol: billed
version: 1.0.0
inputs:
  volume: {unit: mL, min: 0.05, max: 0.4, default: 0.2}
roles:
  gold:    {is: pump/v1, holds: {substance: HAuCl4}}
  citrate: {is: pump/v1, holds: {substance: trisodium citrate}}
  optics:  {is: spectrometer/v1}
  reactor: {is: [thermostat/v1, stirrer/v1]}
limits:
  - reactor.temperature <= 95 degC and gold.dispensed < volume * 30
steps:
`

func TestBill(t *testing.T) {
	s := func(v float64) time.Duration { return time.Duration(v * 1e9) }
	for _, c := range []struct {
		what, steps         string
		expected, worst     time.Duration
		exposures, commands int
		uses                map[string]string
	}{
		{"a command", "  - {do: gold.dose, with: {volume: = volume, rate: 12 mL/min}}", s(1), s(6.2), 0, 1, map[string]string{"HAuCl4": "0.2 mL"}},
		{"retries", "  - {do: optics.spectrum, on_error: {retry: 2}}", s(0.1), s(9.4), 3, 3, nil},
		{"a pause", "  - {wait: {for: 90 s}}", s(90), s(90), 0, 0, nil},
		{"a wait", "  - {wait: {until: reactor.heating, for: 1 s, timeout: 31 s}}", s(4), s(31), 0, 0, nil},
		{"a repeat", "  - {repeat: {max: 5}, steps: [{do: optics.spectrum}, {do: gold.dose, with: {volume: 100 uL, rate: 12 mL/min}}]}", s(3), s(5 * (3 + 5.6)), 5, 10, map[string]string{"HAuCl4": "0.5 mL"}},
		{"a repeat with a pace", "  - {id: r, repeat: {max: 6, every: 10 s, until: i > 3}, steps: [{do: optics.spectrum}]}", s(30), s(60), 6, 6, nil},
		{"a repeat slower than its pace", "  - {id: r, repeat: {max: 6, every: 1 s, until: i > 3}, steps: [{do: optics.spectrum}]}", s(3), s(18), 6, 6, nil},
		{"repeats in repeats", "  - {repeat: {max: 3}, steps: [{repeat: {max: 4}, steps: [{do: optics.spectrum, on_error: {retry: 1}}]}]}", s(1.2), s(74.4), 24, 24, nil},
		{"side by side", "  - {parallel: [{do: gold.dose, with: {volume: 0.2 mL, rate: 12 mL/min}}, {do: citrate.dose, with: {volume: 0.4 mL, rate: 12 mL/min}}, {do: optics.spectrum}]}", s(2), s(7.4), 1, 3,
			map[string]string{"HAuCl4": "0.2 mL", "trisodium citrate": "0.4 mL"}},
		{"cleanup and finally", "  - {wait: {for: 1 s}}\ncleanup:\n  - {do: optics.spectrum}\nfinally:\n  - {do: gold.stop}", s(1.1), s(6), 1, 2, nil},
		{"an argument that a step gives", "  - {id: look, do: optics.spectrum, gives: {peak: peak}}\n  - {do: reactor.heat, with: {target: = 20 degC + look.peak / 500 nm * 1 K}}", s(0.4), s(8), 1, 2, nil},
		{"an argument that counts", "  - {repeat: {max: 4}, steps: [{do: gold.dose, with: {volume: 1 mL, rate: 6 mL/min}}]}", s(40), s(68), 0, 4, map[string]string{"HAuCl4": "4 mL"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := bind(t, billed+c.steps+"\n", nil).Bill
			if b.Expected != c.expected || b.Worst != c.worst || b.Exposures != c.exposures || b.Commands != c.commands {
				t.Errorf("expected %s, worst %s, %d exposures, %d commands", b.Expected, b.Worst, b.Exposures, b.Commands)
			}
			for k, w := range c.uses {
				if b.Consumption[k].String() != w {
					t.Errorf("%s: %s, want %s", k, b.Consumption[k], w)
				}
			}
			if len(b.Consumption) != len(c.uses) {
				t.Errorf("%v", b.Consumption)
			}
		})
	}
}

func TestBillIsJSONInQuantities(t *testing.T) {
	data, err := json.Marshal(protocols.Bill{Expected: 1500 * time.Millisecond, Worst: time.Minute, Exposures: 2, Commands: 3, Consumption: map[string]lab.Quantity{"gold": lab.Q(2, "mL")}})
	want := `{"expected":{"value":1.5,"unit":"s"},"worst":{"value":60,"unit":"s"},"exposures":2,"commands":3,"consumption":{"gold":{"value":2,"unit":"mL"}}}`
	if err != nil || string(data) != want {
		t.Errorf("%s, %v", data, err)
	}
}

func TestBindRefuses(t *testing.T) {
	for _, c := range []struct{ what, text, code, path, say string }{
		{"a budget of time that can't be kept", strings.Replace(billed, "limits:", "budget: {time: 1 s}\nlimits:", 1) + "  - {do: gold.dose, with: {volume: = volume, rate: 6 mL/min}}\n",
			"budget_exceeded", "protocol.budget.time", "the plan takes about 2 s; the protocol's own budget is 1 s"},
		{"a budget of exposures", strings.Replace(billed, "limits:", "budget: {exposures: 5}\nlimits:", 1) + "  - {do: optics.spectrum, on_error: {retry: 5}}\n",
			"budget_exceeded", "protocol.budget.exposures", "the plan may take up to 6 exposures; the protocol's own budget is 5 exposures"},
		{"an argument out of bounds for these inputs", billed + "  - {id: d, do: gold.dose, with: {volume: = volume - 0.2 mL, rate: 6 mL/min}}\n",
			"out_of_bounds", "steps.d.with.volume", "argument volume is 0 mL; more than 0 mL is allowed"},
		{"an argument that can't be computed", billed + "  - {id: d, do: gold.dose, with: {volume: = volume / (volume / 0.2 mL - 1), rate: 6 mL/min}}\n",
			"no_value", "steps.d.with.volume", "argument volume has no value: volume / (volume / 0.2 mL - 1) is unknown"},
		{"a time without a bound", billed + "  - {id: l, do: optics.spectrum, gives: {peak: peak}}\n  - {id: d, do: gold.dose, with: {volume: = volume * (l.peak / 1 nm), rate: 6 mL/min}}\n",
			"unbounded_time", "", "nothing bounds how long gold.dose takes"},
		{"years", billed + "  - {repeat: {max: 100000}, steps: [{wait: {for: 1 h}}]}\n",
			"too_long", "", "at worst the plan takes 4166.666667 d; at most 366 d"},
		{"millions of commands", billed + "  - {repeat: {max: 100000}, steps: [{repeat: {max: 100000}, steps: [{do: gold.stop}]}]}\n",
			"too_long", "", "at worst the plan takes 231481.4815 d; at most 366 d"},
	} {
		t.Run(c.what, func(t *testing.T) {
			pl, issues := protocols.Bind(parse(t, c.text), demoLab(t).Lab, nil)
			if pl != nil || len(issues) == 0 {
				t.Fatalf("%v, %v", pl, issues)
			}
			if i := issues[0]; i.Code != c.code || i.Path != c.path || i.Say != c.say || i.Line == 0 {
				t.Errorf("%+v", i)
			}
		})
	}
	if pl, issues := protocols.Bind(nil, nil, nil); pl != nil || len(issues) != 1 {
		t.Errorf("%v, %v", pl, issues)
	}
	p := parse(t, withInputs)
	if pl, issues := protocols.Bind(p, pumps(t, "x"), nil); pl != nil || len(issues) != 2 || issues[0].Code != "input_missing" || issues[1].Code != "role_unfilled" {
		t.Errorf("both the inputs and the roles are to be reported: %v", issues)
	}
}

func TestPlan(t *testing.T) {
	pl := bind(t, billed+"  - {wait: {until: reactor.temperature > 50 degC, timeout: 1 s}}\n", nil)
	if got := pl.Limits(); !reflect.DeepEqual(got, []string{"reactor.jacket.temperature <= 95 degC and pump_a.pump.dispensed < (0.2 mL) * 30"}) {
		t.Errorf("%q", got)
	}
	if got := fmt.Sprint(pl.AllReads(), pl.LimitReads(), pl.Reads(pl.Protocol.Steps[0])); got != "[reactor.jacket.temperature] [pump_a.pump.dispensed reactor.jacket.temperature] [reactor.jacket.temperature]" {
		t.Error(got)
	}
	if !reflect.DeepEqual(pl.Instruments, []string{"pump_a", "pump_b", "reactor", "spectrometer"}) {
		t.Errorf("%q", pl.Instruments)
	}
	id, spec, err := pl.Command("gold", "dose")
	if err != nil || id.String() != "pump_a.pump.dose" || spec.Effect != lab.Effectful {
		t.Errorf("%v, %v", id, err)
	}
	prop, p, err := pl.Property("reactor", "speed")
	if err != nil || prop.String() != "reactor.stirrer.speed" || p.MaxAge != time.Second {
		t.Errorf("%v, %v", prop, err)
	}
	for _, bad := range [][2]string{{"gold", "heat"}, {"silver", "dose"}} {
		if _, _, err := pl.Command(bad[0], bad[1]); lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// The hash of a plan knows everything that decides what it does.
func TestPlanHash(t *testing.T) {
	text := billed + "  - {do: gold.dose, with: {volume: = volume, rate: 6 mL/min}}\n"
	one := bind(t, text, nil)
	if again := bind(t, text, map[string]lab.Value{"volume": quantity(0.2, "mL")}); again.Hash != one.Hash {
		t.Error("the default has another hash than the same value given")
	}
	other := bind(t, text, map[string]lab.Value{"volume": quantity(0.21, "mL")})
	longer := bind(t, text+"  - {wait: {for: 1 s}}\n", nil)
	l := *demoLab(t).Lab
	l.Hash = "sha256:other"
	elsewhere, issues := protocols.Bind(one.Protocol, &l, one.Inputs)
	if len(issues) > 0 {
		t.Fatal(issues)
	}
	seen := map[string]bool{}
	for _, pl := range []*protocols.Plan{one, other, longer, elsewhere} {
		if seen[pl.Hash] || !strings.HasPrefix(pl.Hash, "sha256:") {
			t.Errorf("hash %s", pl.Hash)
		}
		seen[pl.Hash] = true
	}
}

// The occupation of an instrument is its commands at worst, each of a repeat.
func TestOccupation(t *testing.T) {
	pl := bind(t, `protocol: busy
version: 1.0.0
roles:
  pump:  {is: pump/v1, holds: {substance: HAuCl4}}
  stage: {is: stage/v1}
steps:
  - repeat: {max: 3}
    steps:
      - {do: pump.dose, with: {volume: 0.1 mL, rate: 6 mL/min}}
  - {do: stage.move, with: {x: 0 mm, y: 0 mm, z: 1 mm}}
`, nil)
	got := pl.Bill.Occupation
	if len(got) != 2 || got["pump_a"] != 18600*time.Millisecond || got["stage"] != 15*time.Second { // 3 times 1.2 x 1 s + 5 s; 15 s
		t.Errorf("%v", got)
	}
}
