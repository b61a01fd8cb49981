package lab

import (
	"strings"
	"testing"
	"time"
)

func TestNames(t *testing.T) {
	for _, s := range []string{"a", "pump_a", "x1", "a_", strings.Repeat("a", 32)} {
		if err := CheckName("x", s); err != nil || !ValidName(s) {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "A", "1a", "_a", "a b", "a.b", "a/b", "a-b", "a*", "a>", "a\n", "\na", "a\x00", "ä", "aа" /* Cyrillic */, "..", strings.Repeat("a", 33), strings.Repeat("a", 1<<20)} {
		if ValidName(s) {
			t.Errorf("%.40q is a name", s)
		}
		if err := CheckName("a pump", s); err == nil || len(err.Error()) > 200 {
			t.Errorf("%.40q: %v", s, err)
		}
	}
	if got := CheckName("instrument", "Pump A").Error(); got != `instrument "Pump A" is not a name: a lower-case letter, then letters, digits or _ (at most 32)` {
		t.Error(got)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"temperature", "volume", "rate", "ratio", "a", "b"}
	for in, want := range map[string]string{"temperatur": "temperature", "Temperature": "temperature", "tempertaure": "temperature", "volum": "volume", "rat": "rate", "ratoi": "ratio", "speed": "", "": "", "c": "a", "xyz": "", "temp": "", "rate": "rate"} {
		for range 3 {
			if got := Nearest(in, names); got != want {
				t.Errorf("%q: %q, want %q", in, got, want)
			}
			names = append(names[1:], names[0]) // the order decides nothing
		}
	}
	if got := Nearest("a", nil); got != "" {
		t.Error(got)
	}
	if got := Nearest("mx", []string{"Mx2", "mx2"}); got != "mx2" { // of equals, by case, though M comes before m
		t.Error(got)
	}
	start := time.Now()
	if got := Nearest(strings.Repeat("a", 1<<20), []string{"a", strings.Repeat("a", 1<<19)}); got != "" {
		t.Error(got[:10])
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("a long name took %v", d)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"ab", "ba", 1}, {"kitten", "sitting", 3}, {"rate", "rate", 0}, {"abcd", "acbd", 1}, {"ab", "abc", 1}} {
		if got, back := distance(c.a, c.b), distance(c.b, c.a); got != c.want || back != c.want {
			t.Errorf("%s, %s: %d and %d, want %d", c.a, c.b, got, back, c.want)
		}
	}
}

// reactorLab has an ambiguous property, and an instrument without parts.
func reactorLab() *Lab {
	thermo := &Class{Name: "thermostat/v1", Properties: []Property{{Name: "temperature"}, {Name: "on"}}, Commands: []CommandSpec{{Name: "heat"}, {Name: "stop"}}}
	probe := &Class{Name: "thermometer/v1", Properties: []Property{{Name: "temperature"}}}
	stirrer := &Class{Name: "stirrer/v1", Properties: []Property{{Name: "speed"}}, Commands: []CommandSpec{{Name: "stir"}, {Name: "stop"}}}
	return &Lab{Name: "demo", Instruments: []*Instrument{
		{Name: "reactor", Profile: &Profile{Components: []Component{{Name: "jacket", Class: thermo}, {Name: "probe", Class: probe}, {Name: "stirrer", Class: stirrer}}}},
		{Name: "empty", Profile: &Profile{}},
	}}
}

func TestResolve(t *testing.T) {
	l := reactorLab()
	for path, want := range map[string]string{"reactor.jacket.temperature": "reactor.jacket.temperature", "reactor.speed": "reactor.stirrer.speed", "reactor.on": "reactor.jacket.on"} {
		id, p, err := l.ResolveProperty(path)
		if err != nil || id.String() != want || p == nil || l.PropertySpec(id) != p {
			t.Errorf("%s: %v, %v", path, id, err)
		}
	}
	for path, want := range map[string]string{"reactor.heat": "reactor.jacket.heat", "reactor.jacket.stop": "reactor.jacket.stop", "reactor.stir": "reactor.stirrer.stir"} {
		id, c, err := l.ResolveCommand(path)
		if err != nil || id.String() != want || c == nil || l.CommandSpec(id) != c {
			t.Errorf("%s: %v, %v", path, id, err)
		}
	}
	for path, want := range map[string]string{
		"reactor.temperature":            "reactor.temperature is ambiguous: reactor.jacket.temperature, reactor.probe.temperature",
		"reactor.temperatur":             "temperatur: no such property of thermostat/v1, thermometer/v1, stirrer/v1; did you mean temperature?",
		"reactor.stirrer.sped":           "sped: no such property of stirrer/v1; did you mean speed?",
		"reactor.jackett.on":             `reactor has no component "jackett"; did you mean jacket?`,
		"reaktor.jacket.on":              `reaktor.jacket.on: no instrument "reaktor" in lab demo; did you mean reactor?`,
		"reactor.probe.on":               "on: no such property of thermometer/v1",
		"empty.x":                        "x: no such property of ",
		"reactor":                        "reactor: write instrument.name or instrument.component.name",
		"":                               ": write instrument.name or instrument.component.name",
		"reactor..on":                    "reactor..on: write instrument.name or instrument.component.name",
		"reactor.":                       "reactor.: write instrument.name or instrument.component.name",
		".on":                            ".on: write instrument.name or instrument.component.name",
		"reactor.jacket.on.x":            "reactor.jacket.on.x: write instrument.name or instrument.component.name",
		"REACTOR.jacket.on":              `REACTOR.jacket.on: no instrument "REACTOR" in lab demo; did you mean reactor?`,
		"a." + string(make([]byte, 300)): "",
	} {
		id, p, err := l.ResolveProperty(path)
		if err == nil || p != nil || id != (PropertyID{}) || want != "" && err.Error() != want || len(err.Error()) > 300 {
			t.Errorf("%.40q: %v, %v", path, id, err)
		}
	}
	for path, want := range map[string]string{
		"reactor.stop":        "reactor.stop is ambiguous: reactor.jacket.stop, reactor.stirrer.stop",
		"reactor.jacket.stir": "stir: no such command of thermostat/v1",
		"reactor.haet":        "haet: no such command of thermostat/v1, thermometer/v1, stirrer/v1; did you mean heat?",
		"reactor.temperature": "temperature: no such command of thermostat/v1, thermometer/v1, stirrer/v1",
	} {
		id, p, err := l.ResolveCommand(path)
		if err == nil || p != nil || id != (CommandID{}) || err.Error() != want {
			t.Errorf("%s: %v, %v", path, id, err)
		}
	}
	if l.CommandSpec(CommandID{"reactor", "jacket", "dose"}) != nil || l.CommandSpec(CommandID{"reactor", "x", "heat"}) != nil || l.CommandSpec(CommandID{"x", "jacket", "heat"}) != nil || l.PropertySpec(PropertyID{}) != nil {
		t.Error("found what is not there")
	}
	var paths []string
	for _, p := range l.Properties() {
		paths = append(paths, p.String())
	}
	if got := strings.Join(paths, " "); got != "reactor.jacket.temperature reactor.jacket.on reactor.probe.temperature reactor.stirrer.speed" {
		t.Error(got)
	}
}
