package analysis_test

import (
	"flag"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"labgate/configs"
	"labgate/lab"
	"labgate/safety"
	"labgate/safety/analysis"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s is\n%s\nnow it says\n%s", file, want, got)
	}
}

const tankClass = `class: tank/v1
about: A heated tank with a stirrer and a pump, for tests.
properties:
  temperature: {unit: degC, max_age: 1 s}
  second:      {unit: degC, max_age: 1 s}
  third:       {unit: degC, max_age: 1 s}
  speed:       {unit: rpm, max_age: 1 s}
  level:       {unit: "%", max_age: 1 s}
  open:        {type: bool, max_age: 1 s}
  state:       {enum: [idle, busy, fault], max_age: 1 s}
commands:
  heat:
    args: {target: {unit: degC, max: 200}}
    effect: idempotent
    changes: {temperature: target}
    takes: [1 s, 5 s]
    done_when: abs(temperature - target) < 1 K
    stops_with: shut
  fill:
    args: {volume: {unit: mL, more_than: 0, max: 100}, rate: {unit: mL/min, more_than: 0}}
    effect: effectful
    changes: {level: "[0, 100]"}
    takes: [1 s, 5 s]
    done_when: level > 50 %
    stops_with: shut
  shut: {effect: safe, within: 1 s, else: alarm}
  vent: {effect: safe, within: 1 s, else: alarm}
`

const tankProfile = `profile: test/tank@1
about: A tank in memory.
components: {tank: tank/v1}
link: {kind: memory, reply_within: 100 ms}
properties:
  tank.temperature: {unit: degC}
  tank.second: {unit: degC}
  tank.third: {unit: degC}
  tank.speed: {unit: rpm}
  tank.level: {unit: "%"}
  tank.open: {}
  tank.state: {}
commands: {tank.heat: {}, tank.fill: {}, tank.shut: {}, tank.vent: {}}
repeats: none
`

const tankLab = `lab: tanks
kind: simulated
gateway: bench
instruments:
  a: {profile: test/tank@1, link: {}, safe: [tank.shut], limits: {tank.heat.target: {max: 150 degC}}}
  b: {profile: test/tank@1, link: {}, safe: [tank.shut]}
`

// tanks is a lab of two tanks.
func tanks(t testing.TB) *lab.Lab {
	t.Helper()
	c, err := configs.Load(fstest.MapFS{
		"lab.yaml":             {Data: []byte(tankLab)},
		"classes/tank.yaml":    {Data: []byte(tankClass)},
		"profiles/t/tank.yaml": {Data: []byte(tankProfile)},
	}, "tanks")
	if err != nil {
		t.Fatal(err)
	}
	return c.Lab
}

func parse(t testing.TB, l *lab.Lab, text string) *safety.Rules {
	t.Helper()
	r, is := safety.Parse("rules.yaml", []byte(text), l)
	if len(is) > 0 {
		t.Fatal(is)
	}
	return r
}

func ids(list []analysis.Finding) string {
	var s []string
	for _, f := range list {
		s = append(s, f.ID)
	}
	return strings.Join(s, "\n")
}
