package protocols_test

import (
	"os"
	"strings"
	"testing"
)

const hashed = `
protocol: hashed
version: 1.0.0
about: Dose and look.
inputs:
  volume: {unit: mL, min: 0.05, max: 0.4, default: 0.2}
roles:
  gold: {is: pump/v1, holds: {substance: HAuCl4, concentration: 1 mmol/L}}
  optics: {is: spectrometer/v1}
limits:
  - gold.rate <= 10 mL/min
budget: {time: 10 min, exposures: 40}
outputs:
  peak: {unit: nm, from: grow.last.read.peak, required: true}
steps:
  - {id: dose, do: gold.dose, with: {volume: = volume * 2, rate: 6 mL/min}}
  - {id: still, wait: {until: not gold.running, for: 1 s, timeout: 60 s}}
  - id: grow
    repeat: {max: 12, every: 0.5 s, until: i > 1 and last.read.peak > 520 nm}
    steps:
      - {id: read, do: optics.spectrum, gives: {peak: peak}, on_error: {retry: 2, then: skip}}
finally:
  - {do: gold.stop}
`

// The same protocol, written by somebody else.
const hashedAgain = `# a comment
"version":   1.0.0   # another one
protocol: 'hashed'

about: >-
  Dose
  and look.
finally: [{do: gold.stop}]
budget:
    exposures: 40
    time: 10min
inputs: {volume: {default: 0.2, max: 0.4, unit: mL, min: 0.05}}
outputs: {peak: {required: true, from: grow.last.read.peak, unit: nm}}
limits: ["gold.rate   <=10  mL/min"]
roles: {optics: {is: spectrometer/v1}, gold: {is: pump/v1, holds: {concentration: 1  mmol/L, substance: HAuCl4}}}
steps:
  - do: gold.dose
    id: dose
    with: {rate: 6mL/min, volume: "=volume*2"}
  - {id: still, wait: {until: not   gold.running, for: 1s, timeout: 60   s}}
  - id: grow
    repeat: {max: 12, every: 0.5s, until: "i>1 and\n last.read.peak>520nm"}
    steps: [{id: read, do: optics.spectrum, gives: {peak: peak}, on_error: {retry: 2, then: skip}}]
`

func TestHashIgnoresWhatMeansNothing(t *testing.T) {
	a, b := parse(t, hashed).Hash, parse(t, hashedAgain).Hash
	if a != b {
		t.Errorf("%s, %s", a, b)
	}
	// The hash is in journals and proposals for ever: it must not change with
	// the program.
	if want := "sha256:"; !strings.HasPrefix(a, want) || len(a) != 71 {
		t.Errorf("%s is no hash", a)
	}
	golden, err := os.ReadFile("testdata/hash.golden")
	if *update {
		golden, err = []byte(a), os.WriteFile("testdata/hash.golden", []byte(a), 0o644)
	}
	if err != nil || a != string(golden) {
		t.Errorf("the hash is %s; it was %s (%v)", a, golden, err)
	}
}

func TestHashKnowsEveryChange(t *testing.T) {
	seen := map[string]string{parse(t, hashed).Hash: "nothing"}
	for _, c := range [][2]string{
		{"protocol: hashed", "protocol: hashes"}, {"1.0.0", "1.0.1"}, {"Dose and look.", "Dose and  look."},
		{"max: 0.4", "max: 0.39"}, {"default: 0.2", "default: 0.20"}, {"unit: mL, min", "unit: uL, min"}, {", min: 0.05", ""},
		{"HAuCl4,", "HAuCl3,"}, {"concentration: 1 mmol/L", "concentration: 2 mmol/L"}, {", concentration: 1 mmol/L", ""},
		{"<= 10 mL/min", "<= 11 mL/min"}, {"<= 10", "< 10"}, {"limits:\n  - gold.rate <= 10 mL/min\n", ""},
		{"time: 10 min", "time: 9 min"}, {"exposures: 40", "exposures: 41"}, {", required: true", ""}, {"required: true", "required: false"},
		{"id: dose", "id: dosing"}, {"volume * 2", "volume * 3"}, {"rate: 6", "rate: 5"},
		{"for: 1 s, ", ""}, {"timeout: 60 s", "timeout: 1 min"}, {"not gold.running", "gold.running"},
		{"max: 12", "max: 13"}, {"every: 0.5 s, ", ""}, {"i > 1", "i > 2"}, {"520 nm", "521 nm"},
		{"{peak: peak}, on_error", "{peak: peak, all: spectrum}, on_error"}, {"retry: 2", "retry: 1"}, {"then: skip", "then: continue"},
		{"finally:\n  - {do: gold.stop}\n", ""}, {"{do: gold.stop}", "{id: stop, do: gold.stop}"},
	} {
		if !strings.Contains(hashed, c[0]) {
			t.Fatalf("%q is not there", c[0])
		}
		h := parse(t, strings.Replace(hashed, c[0], c[1], 1)).Hash
		if other, ok := seen[h]; ok {
			t.Errorf("%q → %q has the hash of %s", c[0], c[1], other)
		}
		seen[h] = c[0] + " → " + c[1]
	}
}
