package sim

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestScript(t *testing.T) {
	faults := NewDemo(1, start).Faults()
	s, issues := ParseScript("faults.txt", `
# the pumps first
pump_a drop every=3
after 10 s: reactor freeze for 5 s
after 12 s: pump_a drop off
cell refuse.coater
`)
	if len(issues) > 0 {
		t.Fatal(issues)
	}
	plan, err := s.Plan(faults)
	if err != nil {
		t.Fatal(err)
	}
	want := []Switch{
		{0, "pump_a", "drop", true, map[string]float64{"every": 3}},
		{0, "cell", "refuse.coater", true, map[string]float64{}},
		{10 * time.Second, "reactor", "freeze", true, map[string]float64{}},
		{12 * time.Second, "pump_a", "drop", false, map[string]float64{}},
		{15 * time.Second, "reactor", "freeze", false, nil},
	}
	if !reflect.DeepEqual(plan, want) {
		t.Errorf("%+v", plan)
	}
}

// The same seed is the same faults; whatever begins ends, in the time given.
func TestScriptAtRandom(t *testing.T) {
	world := NewDemo(1, start)
	plan := func(text string) []Switch {
		t.Helper()
		s, issues := ParseScript("x", text)
		if len(issues) > 0 {
			t.Fatal(issues)
		}
		p, err := s.Plan(world.Faults())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	one := plan("after 1 s: random seed=7 every=2 for 1 min")
	if !reflect.DeepEqual(one, plan("after 1 s: random seed=7 every=2 for 1 min")) {
		t.Error("the same seed is another plan")
	}
	if reflect.DeepEqual(one, plan("after 1 s: random seed=8 every=2 for 1 min")) {
		t.Error("another seed is the same plan")
	}
	on := map[string]bool{}
	for _, s := range one {
		if s.At < time.Second || s.At > 61*time.Second {
			t.Errorf("%+v is out of its time", s)
		}
		if err := world.Fault(s.Instrument, s.Fault, s.On, s.Args); err != nil {
			t.Error(err)
		}
		if s.On {
			on[s.Instrument+s.Fault] = true
		} else {
			delete(on, s.Instrument+s.Fault)
		}
	}
	if len(one) < 40 || len(on) > 0 {
		t.Errorf("%d switches, left on %v", len(one), on)
	}
}

func TestBadScripts(t *testing.T) {
	for text, want := range map[string]string{
		"pump_a":                      "no fault of pump_a is named",
		"after 10 s pump_a drop":      "no colon",
		"after 10: pump_a drop":       "not a duration",
		"pump_a drop every":           `"every" is no name=number`,
		"pump_a drop every=x":         `"every=x" is no name=number`,
		"pump_a drop every=3 every=4": "not given yet",
		"pump_a drop for 25 h":        "a day",
		"random every=5":              "random needs a seed",
		"random seed=1.5":             "whole number",
		"random seed=1 every=0":       "0.1 to 3600",
		"random seed=1 rate=3":        "not rate",
	} {
		if _, issues := ParseScript("x", "\n"+text); len(issues) != 1 || !strings.Contains(issues[0].Say, want) || issues[0].Pos.Line != 2 || issues[0].Hint == "" {
			t.Errorf("%s: %+v, want %q", text, issues, want)
		}
	}
	for text, want := range map[string]string{
		"pump_x drop":  `no instrument "pump_x"; there are camera`,
		"pump_a burns": `no fault "burns"; there are actuator_dead, delay, drift`,
		strings.Repeat("random seed=1 every=0.1 for 24 h\n", 2): "more than 100000 switches",
	} {
		s, issues := ParseScript("x", text)
		if len(issues) > 0 {
			t.Fatal(issues)
		}
		if _, err := s.Plan(NewDemo(1, start).Faults()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func FuzzScript(f *testing.F) {
	f.Add("after 10 s: reactor freeze for 5 s\nrandom seed=7 every=2 for 1 min")
	faults := NewDemo(1, start).Faults()
	f.Fuzz(func(t *testing.T, text string) {
		s, issues := ParseScript("x", text)
		for _, i := range issues {
			if i.Say == "" || i.Pos.Line == 0 {
				t.Errorf("%+v", i)
			}
		}
		plan, err := s.Plan(faults)
		for i := range plan {
			if err != nil || plan[i].At < 0 || i > 0 && plan[i].At < plan[i-1].At {
				t.Errorf("%+v, %v", plan[i], err)
			}
		}
	})
}
