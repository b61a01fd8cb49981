package dst

import (
	"fmt"
	"slices"
	"strings"
)

// wait is a pause, or waits for a condition that may never come.
func (p *protocolGen) wait() string {
	for _, r := range p.roles {
		if cond := p.condition(r); cond != "" && p.flip(2) {
			return fmt.Sprintf("- {id: %s, wait: {until: %s, for: 0.5 s, timeout: %d s}%s%s}", p.id("until"), cond, 3+p.IntN(6), p.safePoint(),
				oneOf(p.gen, ", else: continue", ", else: continue", ", on_error: skip", ", on_error: {hold: 20 s, then: skip}", ""))
		}
	}
	return fmt.Sprintf("- {wait: {for: %s}%s}", quantity(float64(1+p.IntN(8))/2, "s"), p.safePoint())
}

// condition is one over what an instrument measures, mostly true at rest.
func (p *protocolGen) condition(r role) string {
	n := r.in.Name
	switch {
	case r.has("thermostat/v1"):
		return oneOf(p.gen, n+".temperature < 70 degC", n+".speed >= 0 rpm", "\"abs(rate("+n+".temperature, 2 s)) < 20 K/s\"", "\"held("+n+".speed >= 0 rpm, 1 s)\"")
	case r.has("pump/v1"):
		return oneOf(p.gen, "not "+n+".running", n+".dispensed < 2 mL")
	case r.has("stage/v1"):
		return oneOf(p.gen, "not "+n+".moving", n+".z > 1.5 mm")
	case r.has("packml-cell/v1"):
		return oneOf(p.gen, n+".state != aborted", n+".made >= 0")
	case r.has("spectrometer/v1"), r.has("plate-reader/v1"):
		return n + ".ready"
	case r.has("balance/v1"):
		return n + ".stable"
	case r.has("ph-probe/v1"):
		return n + ".ph < 9"
	}
	return ""
}

// anyCondition is over whatever there is.
func (p *protocolGen) anyCondition() string {
	for range 4 {
		if c := p.condition(oneOf(p.gen, p.roles...)); c != "" {
			return c
		}
	}
	return p.count() + " < 3"
}

// single keeps the one command of steps that may hold several.
func single(s string) string {
	if i := strings.LastIndex(s, "\n- "); i >= 0 {
		return s[i+1:]
	}
	return s
}

// parallel does something on several instruments at once.
func (p *protocolGen) parallel() string {
	var branches []string
	p.depth++
	for _, i := range p.Perm(len(p.roles)) {
		if r := p.roles[i]; len(branches) < 3 && !r.has("packml-cell/v1") {
			if s := p.command(r, p.flip(3)); s != "" {
				branches = append(branches, s)
			}
		}
	}
	p.depth--
	if len(branches) < 2 {
		if len(branches) == 0 {
			return ""
		}
		branches = append(branches, "- {wait: {for: 2 s}}")
	}
	return "- id: " + p.id("side") + "\n  parallel:\n" + strings.TrimSuffix(indent(branches, 4), "\n") +
		oneOf(p.gen, "", "\n  policy: all", "\n  policy: any", "\n  policy: each") + oneOf(p.gen, "", "", "\n  on_error: skip", "\n  on_error: abort")
}

// repeat does something a few times.
func (p *protocolGen) repeat() string {
	if p.effects > 1 {
		return ""
	}
	most, left := 2+p.IntN(2), p.effects
	id, body := p.id("again"), p.body()
	p.effects = left + (p.effects-left)*most
	if p.depth == 0 && p.flip(2) {
		p.outputs = append(p.outputs, fmt.Sprintf("rows_%s: {table: {n: \"1\"}, rows: %s, of: {n: i}}", id, id))
	}
	head := fmt.Sprintf("max: %d", most)
	if p.flip(2) {
		head += ", every: " + oneOf(p.gen, "0.5 s", "2 s")
	}
	tail := ""
	if p.flip(2) {
		head += ", until: i >= " + oneOf(p.gen, "2", p.count())
		tail = "\n  else: continue"
	}
	return "- id: " + id + "\n  repeat: {" + head + "}\n  steps:\n" + strings.TrimSuffix(indent(body, 4), "\n") + tail
}

// over does something for each of some values, or for each sample.
func (p *protocolGen) over() string {
	id := p.id("each")
	if len(p.samples) > 0 && p.flip(2) {
		p.depth++
		defer func() { p.depth-- }()
		s := single(p.command(oneOf(p.gen, p.roles...), false))
		if s == "" || strings.Contains(s, "sample:") {
			return ""
		}
		p.effects++
		body := []string{strings.TrimSuffix(s, "}") + ", sample: " + id + "_of}"}
		return "- id: " + id + "\n  repeat: {over: {" + id + "_of: samples}}\n  steps:\n" + strings.TrimSuffix(indent(body, 4), "\n")
	}
	for _, r := range p.roles {
		if r.has("pump/v1") && p.effects < 3 {
			p.effects += 2
			return fmt.Sprintf("- id: %s\n  repeat: {over: {%s_of: %s}}\n  steps:\n    - {do: %s.dose, with: {volume: = %s_of, rate: 2 mL/min}}", id, id,
				oneOf(p.gen, "[0.05 mL, 0.1 mL]", "{from: 0.05 mL, to: 0.15 mL, points: 2}"), r.in.Name, id)
		}
	}
	return ""
}

// branch does one thing or another.
func (p *protocolGen) branch() string {
	cond := p.anyCondition()
	switch p.IntN(8) {
	case 0, 1:
		cond = p.count() + " > 1"
	case 2:
		cond = p.choice("careful", "{type: bool, default: true}")
	case 3:
		cond = p.choice("mode", "{choices: [slow, fast], default: fast}") + " == fast"
	}
	s := "- id: " + p.id("whether") + "\n  if: " + cond + "\n  then:\n" + strings.TrimSuffix(indent(p.body(), 4), "\n")
	if p.flip(2) {
		s += "\n  else:\n" + strings.TrimSuffix(indent(p.body(), 4), "\n")
	}
	return s + oneOf(p.gen, "", "\n  on_error: skip", "\n  expect: 20 s")
}

// choice is the name of an input that decides something.
func (p *protocolGen) choice(name, declared string) string {
	if line := name + ": " + declared; !slices.Contains(p.inputs, line) {
		p.inputs = append(p.inputs, line)
	}
	return name
}

// ask waits for a person, for a short time; hardly ever does all hang on it.
func (p *protocolGen) ask() string {
	id := p.id("asked")
	gives := oneOf(p.gen, "", ", gives: {mass: {unit: mg, min: 0, max: 50}}", ", gives: {clear: {type: bool}}")
	return fmt.Sprintf("- {id: %s, ask: \"Is it %s?\", by: %s, timeout: %d s%s%s%s}", id, oneOf(p.gen, "clear", "in place", "closed"),
		oneOf(p.gen, "operator", "anyone", "scientist", "safety"), 2+p.IntN(8), gives, p.safePoint(), oneOf(p.gen, ", on_error: skip", ", on_error: skip", ", on_error: {hold: 15 s, then: skip}", ""))
}

// ramp moves a setpoint.
func (p *protocolGen) ramp() string {
	for _, r := range p.roles {
		if r.has("thermostat/v1") {
			from := float64(26 + p.IntN(10))
			return fmt.Sprintf("- id: %s\n  ramp: {set: %s.heat.target, from: %s, to: %s, %s, every: 1 s}", p.id("ramp"), r.in.Name,
				quantity(from, "degC"), quantity(from+4, "degC"), oneOf(p.gen, "over: 4 s", "rate: 60 K/min"))
		}
	}
	return ""
}

// verdict says what has become of a sample.
func (p *protocolGen) verdict() string {
	if len(p.samples) == 0 {
		return ""
	}
	return fmt.Sprintf("- {%s: %s, because: %s}", oneOf(p.gen, "pass", "pass", "rework", "reject"), oneOf(p.gen, p.samples...), oneOf(p.gen, "it looks good", "a person said so"))
}

// mend does other steps in the place of one that has failed.
func (p *protocolGen) mend() string {
	p.depth++
	defer func() { p.depth-- }()
	s := single(p.command(oneOf(p.gen, p.roles...), false))
	if s == "" || strings.Contains(s, "on_error") {
		return ""
	}
	return strings.TrimSuffix(s, "}") + ", on_error: {steps: [{wait: {for: 1 s}}]" + oneOf(p.gen, "", ", hold: 15 s, then: skip", ", then: skip") + "}}"
}

// use does the steps of the first protocol that was made for the laboratory.
func (p *protocolGen) use() string {
	if p.part || p.depth > 0 || p.effects > 1 {
		return ""
	}
	used := p.site.byName("work-1")
	if used == nil {
		return ""
	}
	for _, r := range used.Roles {
		if !p.plays(r.Name) {
			return ""
		}
	}
	p.effects += 2
	var with []string
	for _, in := range used.Inputs {
		v := "0.1 mL"
		if in.Name == "times" {
			v = "1"
		}
		if in.Default == nil {
			with = append(with, in.Name+": "+v)
		}
	}
	s := fmt.Sprintf("- {id: %s, use: work-1@1.0.0, hash: \"%s\"", p.id("part"), used.Hash)
	if len(with) > 0 {
		s += ", with: {" + strings.Join(with, ", ") + "}"
	}
	return s + "}"
}

func (p *protocolGen) plays(name string) bool {
	for _, r := range p.roles {
		if r.in.Name == name {
			return true
		}
	}
	return false
}

// cleanup is ordinary work that follows.
func (p *protocolGen) cleanup() (steps []string) {
	for _, r := range p.roles {
		switch {
		case !p.flip(2):
		case r.has("vessel/v1"):
			steps = append(steps, "- {do: "+r.in.Name+".drain}")
		case r.has("stage/v1"):
			steps = append(steps, "- {do: "+r.in.Name+".move, with: {x: 0 mm, y: 0 mm, z: 1 mm}}")
		case r.has("spectrometer/v1"):
			steps = append(steps, "- {do: "+r.in.Name+".spectrum, on_error: skip}")
		}
	}
	return steps
}

// finally brings to rest what was used.
func (p *protocolGen) finally() (steps []string) {
	ends := []struct{ class, command string }{{"pump/v1", "stop"}, {"thermostat/v1", "heat_off"}, {"stage/v1", "halt"}, {"packml-cell/v1", "stop"},
		{"plate-dispenser/v1", "stop"}, {"stirrer/v1", "stir_off"}, {"vessel/v1", "shut"}}
	for _, r := range p.roles {
		for _, e := range ends {
			if r.has(e.class) && !p.flip(3) {
				steps = append(steps, "- {do: "+r.in.Name+"."+e.command+"}")
			}
		}
	}
	return steps
}
