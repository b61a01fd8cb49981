package preflight_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"labgate/configs"
	"labgate/lab"
	"labgate/protocols"
	"labgate/safety"
	"labgate/safety/preflight"
)

const protocol = `protocol: test
version: 1.0.0
inputs:
  volume: {unit: mL, min: 0.01, max: 2, default: 0.1}
roles:
  reactor: {is: [thermostat/v1, stirrer/v1, vessel/v1]}
  pump:    {is: pump/v1}
  optics:  {is: spectrometer/v1}
LIMITSsteps:
  - {id: stir, do: reactor.stir, with: {speed: 400 rpm}}
  - {id: warm, do: reactor.heat, with: {target: 60 degC}}
  - {id: read, do: optics.spectrum, gives: {peak: peak}}
  - {id: feed, do: pump.dose, with: {volume: = volume, rate: 5 mL/min}}
  - {id: late, do: pump.dose, with: {volume: "= min(volume * reactor.speed / 100 rpm, 1 mL)", rate: 5 mL/min}}
finally:
  - {do: pump.stop}
`

func check(t *testing.T, rules, limits string, inputs map[string]lab.Value) preflight.Result {
	t.Helper()
	sub, err := fs.Sub(configs.Embedded(), "labs/demo")
	if err != nil {
		t.Fatal(err)
	}
	c, err := configs.Load(sub, "demo")
	if err != nil {
		t.Fatal(err)
	}
	r, is := safety.Parse("rules.yaml", []byte("interlocks: test\nrules:\n"+rules), c.Lab)
	if len(is) > 0 {
		t.Fatal(is)
	}
	p, is := protocols.Parse("test.yaml", []byte(strings.Replace(protocol, "LIMITS", limits, 1)), c.Classes)
	if len(is) > 0 {
		t.Fatal(is)
	}
	plan, is := protocols.Bind(p, c.Lab, inputs)
	if len(is) > 0 {
		t.Fatal(is)
	}
	return preflight.With(r)(plan)
}

// write puts a result down, one line a statement.
func write(r preflight.Result) string {
	var b strings.Builder
	for _, i := range r.Refused {
		fmt.Fprintf(&b, "refused %s %s: %s\n", i.Rule, i.Path, i.Error())
	}
	fmt.Fprintf(&b, "proved %s\n", strings.Join(r.Proved, " "))
	for _, l := range r.Live {
		fmt.Fprintf(&b, "live %s: %s by %s\n", l.Step, strings.Join(l.Rules, " "), strings.Join(l.Signals, " "))
	}
	return b.String()
}

const size = "  - {id: size, limit: pump_a.dose.volume, max: 0.5 mL}\n"

func TestPreflight(t *testing.T) {
	volume := func(v float64) map[string]lab.Value {
		return map[string]lab.Value{"volume": lab.NumberValue(lab.Q(v, "mL"))}
	}
	for name, c := range map[string]struct {
		rules, limits string
		inputs        map[string]lab.Value
		want          string
	}{
		"known arguments": {size, "", nil, `proved stir warm read feed late finally_1
`}, // late: 0.1 mL, times a speed that stir leaves between 380 rpm and 420 rpm, over 100 rpm
		"a refusal is no proof": {size, "", volume(0.6), `refused size steps.feed.args.volume: test.yaml:13:10: size: volume is 0.6 mL; at most 0.5 mL is allowed
refused size steps.late.args.volume: test.yaml:14:10: size: volume is 1 mL; at most 0.5 mL is allowed
proved stir warm read finally_1
`},
		"at the bound": {size, "", volume(0.13), `proved stir warm read feed finally_1
live late: size by 
`},
		"readings decide": {"  - {id: stirred, permissive: 'reactor.heat, pump_a.dose', require: reactor.stirrer.speed > 100 rpm and not tripped(x)}\n" +
			"  - {id: x, trip: x, when: room.emergency, do: [pump_a.stop]}\n", "", nil, `proved stir warm read feed late finally_1
`},
		"false by what was done": {"  - {id: calm, permissive: pump_a.dose, require: reactor.stirrer.speed < 300 rpm}\n", "", nil, `refused calm steps.feed: test.yaml:13:10: calm: reactor.stirrer.speed < 300 rpm is false, by what the plan declares to do until then
refused calm steps.late: test.yaml:14:10: calm: reactor.stirrer.speed < 300 rpm is false, by what the plan declares to do until then
proved stir warm read finally_1
`},
		"readings that nothing declares": {"  - {id: hood, permissive: pump_a.dose, require: room.airflow > 0.3 m/s}\n", "", nil, `proved stir warm read finally_1
live feed: hood by room.room.airflow
live late: hood by room.room.airflow
`},
		"the run's own limits": {size, "limits:\n  - reactor.temperature <= 80 degC\n", nil, `proved finally_1
live stir: limit reactor.jacket.temperature <= 80 degC by reactor.jacket.temperature
live warm: limit reactor.jacket.temperature <= 80 degC by reactor.jacket.temperature
live read: limit reactor.jacket.temperature <= 80 degC by reactor.jacket.temperature
live feed: limit reactor.jacket.temperature <= 80 degC by reactor.jacket.temperature
live late: limit reactor.jacket.temperature <= 80 degC by reactor.jacket.temperature
`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := write(check(t, c.rules, c.limits, c.inputs)); got != c.want {
				t.Errorf("it says\n%s\nwanted is\n%s", got, c.want)
			}
		})
	}
}
