package preflight_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"labgate/configs"
	"labgate/protocols"
	"labgate/safety/preflight"
)

// long is a protocol of n steps: heating, waits, doses and repeats in turn.
func long(n int) []byte {
	var b strings.Builder
	b.WriteString(`protocol: long
version: 1.0.0
inputs: {volume: {unit: mL, min: 0.05, max: 0.4, default: 0.2}, temperature: {unit: degC, min: 20, max: 90, default: 50}}
roles:
  gold:    {is: pump/v1, holds: {substance: HAuCl4}}
  optics:  {is: spectrometer/v1}
  reactor: {is: [thermostat/v1, stirrer/v1]}
steps:
`)
	for i := 0; i < n; i += 5 {
		fmt.Fprintf(&b, "  - {id: heat_%d, do: reactor.heat, with: {target: = temperature + 0.01 K * %d}}\n", i, i%100)
		fmt.Fprintf(&b, "  - {id: steady_%d, wait: {until: abs(reactor.temperature - temperature) < 1 K, for: 1 s, timeout: 1 min}}\n", i)
		fmt.Fprintf(&b, "  - {id: dose_%d, do: gold.dose, with: {volume: = volume / 500, rate: 6 mL/min}}\n", i)
		fmt.Fprintf(&b, "  - id: grow_%d\n    repeat: {max: 12, every: 0.5 s, until: i > 1 and abs(last.read.peak - previous.read.peak) < 1 nm}\n    steps:\n", i)
		b.WriteString("      - {id: read, do: optics.spectrum, gives: {peak: peak}, on_error: {retry: 2, then: skip}}\n")
	}
	return []byte(b.String())
}

// BenchmarkPreflight1000 proves a plan of 1,000 steps, for its inputs.
func BenchmarkPreflight1000(b *testing.B) { bench(b, false) }

// BenchmarkCheckPreflight1000 is all that a proposal of 1,000 steps takes: it
// is read, checked, bound and proved.
func BenchmarkCheckPreflight1000(b *testing.B) { bench(b, true) }

func bench(b *testing.B, read bool) {
	sub, err := fs.Sub(configs.Embedded(), "labs/demo")
	if err != nil {
		b.Fatal(err)
	}
	c, err := configs.Load(sub, "demo")
	if err != nil {
		b.Fatal(err)
	}
	data, prove := long(1000), preflight.With(c.Rules)
	bind := func() *protocols.Plan {
		p, issues := protocols.Parse("long.yaml", data, c.Classes)
		if len(issues) > 0 {
			b.Fatal(issues)
		}
		inputs, issues := p.CheckInputs(nil)
		if len(issues) > 0 {
			b.Fatal(issues)
		}
		plan, issues := protocols.Bind(p, c.Lab, inputs)
		if len(issues) > 0 {
			b.Fatal(issues)
		}
		return plan
	}
	plan := bind()
	b.ReportAllocs()
	for b.Loop() {
		if read {
			plan = bind()
		}
		if said := prove(plan); len(said.Refused) > 0 {
			b.Fatal(said.Refused)
		}
	}
}
