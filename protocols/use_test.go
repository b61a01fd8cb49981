package protocols_test

import (
	"strings"
	"testing"

	"labgate/protocols"
)

const rinse = `protocol: rinse
version: 1.0.0
inputs:
  cycles: {type: integer, min: 1, max: 5, default: 2}
  volume: {unit: mL, min: 0.01, max: 0.2}
roles:
  pump: {is: pump/v1}
limits:
  - pump.rate <= 10 mL/min
outputs:
  given: {unit: mL, from: again.last.wash.delivered, required: true}
steps:
  - id: again
    repeat: {max: 5, until: i >= cycles}
    steps:
      - {id: wash, do: pump.dose, with: {volume: = volume, rate: 6 mL/min}, gives: {delivered: delivered}}
    else: continue
finally:
  - {do: pump.stop}
`

// using writes a protocol that uses rinse, with its right hash.
func using(t testing.TB, step string) string {
	t.Helper()
	return `protocol: outer
version: 1.0.0
inputs:
  amount: {unit: mL, min: 0.05, max: 0.1, default: 0.1}
roles:
  gold:    {is: pump/v1}
  citrate: {is: pump/v1}
outputs:
  washed: {unit: mL, from: clean.given}
steps:
` + strings.Replace(step, "HASH", parse(t, rinse).Hash, 1)
}

func finder() protocols.Finder {
	return protocols.Files(map[string][]byte{"rinse.yaml": []byte(rinse), "outer.yaml": []byte("protocol: outer\nversion: 1.0.0\n")})
}

func TestUse(t *testing.T) {
	p, is := protocols.Parse("outer.yaml", []byte(using(t, "  - {id: clean, use: rinse@1.0.0, hash: HASH, with: {volume: = amount / 2, cycles: 3}, roles: {pump: citrate}}\n")), demoLab(t).Classes, finder())
	if len(is) > 0 {
		t.Fatal(is)
	}
	wash := p.Step("clean.again.wash")
	if wash == nil || wash.Role != "citrate" || wash.Command != "dose" {
		t.Fatalf("%+v", wash)
	}
	if len(p.Finally) != 1 || p.Finally[0].Role != "citrate" || len(p.Limits) != 1 || p.Limits[0].Text != "citrate.rate <= 10 mL/min" {
		t.Errorf("finally %+v, limits %+v", p.Finally, p.Limits)
	}
	inputs, is := p.CheckInputs(nil)
	pl, more := protocols.Bind(p, demoLab(t).Lab, inputs)
	if len(is)+len(more) > 0 {
		t.Fatal(is, more)
	}
	if n := pl.Bill.Commands; n != 6 { // five doses at most, and a stop
		t.Errorf("%d commands", n)
	}
	if is := preview(p, "clean", "cycles", pl); is != "" {
		t.Error(is)
	}
}

// A file that says what becomes of every failure may use a protocol whose
// finally it has not itself.
func TestUseWithOnErrorOfTheFile(t *testing.T) {
	text := using(t, "  - {id: clean, use: rinse@1.0.0, hash: HASH, with: {volume: = amount / 2}, roles: {pump: citrate}}\n")
	for _, then := range []protocols.Then{protocols.Skip, protocols.Continue} {
		p, is := protocols.Parse("outer.yaml", []byte(strings.Replace(text, "inputs:", "on_error: "+then.String()+"\ninputs:", 1)), demoLab(t).Classes, finder())
		if len(is) > 0 {
			t.Fatalf("%s: %v", then, is)
		}
		if len(p.Finally) != 1 || p.Finally[0].OnError.Then != then {
			t.Errorf("%s: finally %+v", then, p.Finally)
		}
	}
}

// preview fixes the inputs of a used protocol as a run would.
func preview(p *protocols.Protocol, step, input string, pl *protocols.Plan) string {
	v := pl.NewValues()
	if is := v.Let(t0, p.Step(step)); len(is) > 0 {
		return is.Error()
	}
	args, is := v.Args(t0, p.Step("clean.again.wash"))
	if len(is) > 0 || args["volume"].String() != "0.05 mL" {
		return args["volume"].String() + is.Error()
	}
	return ""
}

func TestBadUses(t *testing.T) {
	for name, c := range map[string]struct{ step, want string }{
		"no hash":         {"  - {id: clean, use: rinse@1.0.0, with: {volume: 0.1 mL}}\n", `a use step needs "hash"`},
		"another hash":    {"  - {id: clean, use: rinse@1.0.0, hash: sha256:00, with: {volume: 0.1 mL}, roles: {pump: gold}}\n", "rinse@1.0.0 has another content than the one that this hash pins"},
		"no such":         {"  - {id: clean, use: wash@1.0.0, hash: HASH, with: {volume: 0.1 mL}}\n", "there is no protocol wash@1.0.0 here"},
		"no version":      {"  - {id: clean, use: rinse, hash: HASH}\n", `"rinse" is no protocol with its version`},
		"no role":         {"  - {id: clean, use: rinse@1.0.0, hash: HASH, with: {volume: 0.1 mL}}\n", "rinse needs a role pump (pump/v1); there is no role \"pump\" here"},
		"no input":        {"  - {id: clean, use: rinse@1.0.0, hash: HASH, roles: {pump: gold}}\n", "rinse needs its input volume"},
		"another input":   {"  - {id: clean, use: rinse@1.0.0, hash: HASH, with: {volume: 0.1 mL, speed: 3}, roles: {pump: gold}}\n", `rinse takes no input "speed"`},
		"out of bounds":   {"  - {id: clean, use: rinse@1.0.0, hash: HASH, with: {volume: 1 mL}, roles: {pump: gold}}\n", "input volume: 1 mL is out of bounds"},
		"wrong dimension": {"  - {id: clean, use: rinse@1.0.0, hash: HASH, with: {volume: = amount / amount}, roles: {pump: gold}}\n", "input volume: amount / amount is a plain number"},
		"hidden names":    {"  - {id: clean, use: rinse@1.0.0, hash: HASH, with: {volume: 0.1 mL}, roles: {pump: gold}}\n  - {do: gold.dose, with: {volume: = clean.again.last.wash.delivered, rate: 1 mL/min}}\n", "clean gives no \"again\""},
		"itself":          {"  - {id: clean, use: outer@1.0.0, hash: HASH}\n", "outer@1.0.0"},
	} {
		t.Run(name, func(t *testing.T) {
			p, is := protocols.Parse("outer.yaml", []byte(using(t, c.step)), demoLab(t).Classes, finder())
			if p != nil || !strings.Contains(is.Error(), c.want) {
				t.Errorf("%v, want %q", is, c.want)
			}
		})
	}
}
