package protocols_test

import (
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"labgate/protocols"
)

// long is a protocol of n steps: doses, waits and repeats in turn.
func long(n int) string {
	var b strings.Builder
	b.WriteString(`
protocol: long
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
		fmt.Fprintf(&b, "  - {id: dose_%d, do: gold.dose, with: {volume: = volume / 2, rate: 6 mL/min}}\n", i)
		fmt.Fprintf(&b, "  - id: grow_%d\n    repeat: {max: 12, every: 0.5 s, until: i > 1 and abs(last.read.peak - previous.read.peak) < 1 nm}\n    steps:\n", i)
		b.WriteString("      - {id: read, do: optics.spectrum, gives: {peak: peak}, on_error: {retry: 2, then: skip}}\n")
	}
	return b.String()
}

func TestTooManySteps(t *testing.T) {
	c := demoLab(t)
	if _, issues := protocols.Parse("long.yaml", []byte(long(protocols.MaxSteps)), c.Classes); len(issues) > 0 {
		t.Fatal(issues)
	}
	_, issues := protocols.Parse("long.yaml", []byte(long(protocols.MaxSteps+5)), c.Classes)
	if len(issues) != 1 || issues[0].Code != "too_many" {
		t.Error(issues)
	}
}

// BenchmarkYAML1000 is the floor under BenchmarkParse1000: what the YAML library
// takes for the same text, without looking at what it says.
func BenchmarkYAML1000(b *testing.B) {
	data := []byte(long(1000))
	b.ReportAllocs()
	for b.Loop() {
		var n yaml.Node
		if err := yaml.Unmarshal(data, &n); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParse1000: reading and checking alone.
func BenchmarkParse1000(b *testing.B) {
	c := demoLab(b)
	data := []byte(long(1000))
	b.ReportAllocs()
	for b.Loop() {
		if _, issues := protocols.Parse("long.yaml", data, c.Classes); len(issues) > 0 {
			b.Fatal(issues)
		}
	}
}

func BenchmarkParseBind1000(b *testing.B) {
	c := demoLab(b)
	data := []byte(long(1000))
	b.ReportAllocs()
	for b.Loop() {
		p, issues := protocols.Parse("long.yaml", data, c.Classes)
		if len(issues) > 0 {
			b.Fatal(issues)
		}
		inputs, issues := p.CheckInputs(nil)
		if len(issues) > 0 {
			b.Fatal(issues)
		}
		if _, issues := protocols.Bind(p, c.Lab, inputs); len(issues) > 0 {
			b.Fatal(issues)
		}
	}
}

func BenchmarkCheckWait(b *testing.B) {
	pl := bind(b, waiting, nil)
	v := pl.NewValues()
	id, _, err := pl.Property("reactor", "temperature")
	if err != nil {
		b.Fatal(err)
	}
	w := v.Watch(t0, pl.Protocol.Step("steady"))
	b.ReportAllocs()
	for b.Loop() {
		v.Read(t0, id, good(t0, quantity(50, "degC")))
		w.Check(t0)
	}
}
