package dst

import (
	"fmt"
	"slices"
	"strings"

	"labgate/lab"
)

// protocolGen writes one protocol for a laboratory: short in virtual time, of
// everything that the language has.
type protocolGen struct {
	*gen
	site    *site
	roles   []role
	inputs  []string // as in the file
	volumes []string // names of inputs that are volumes in mL
	counts  []string // names of inputs that are whole numbers from 1 to 3
	samples []string
	outputs []string
	goOn    bool // it goes on by itself after a restart
	ids     int
	effects int // doses and batches so far
	depth   int
	part    bool // it is used by others
}

// role is an instrument that the protocol uses, by its own name.
type role struct {
	in      *lab.Instrument
	classes []string
}

func (r role) has(class string) bool { return slices.Contains(r.classes, class) }

// maxEffects bounds what one protocol delivers, so that most of them fit the
// budgets and the vessel.
const maxEffects = 4

// newProtocolGen chooses the instruments.
func newProtocolGen(g *gen, s *site) *protocolGen {
	p := &protocolGen{gen: g, site: s}
	var able []role
	for _, in := range s.lab.Instruments {
		r, commands := role{in: in, classes: classesOf(in)}, 0
		for _, c := range in.Profile.Components {
			commands += len(c.Class.Commands)
		}
		if commands == 0 {
			continue
		}
		able = append(able, r)
		// Most rules want a stirred vessel: it is hardly ever left out.
		if len(p.roles) < 4 && (!g.flip(3) || r.has("stirrer/v1") && !g.flip(8)) {
			p.roles = append(p.roles, r)
		}
	}
	if len(p.roles) == 0 {
		p.roles = append(p.roles, oneOf(g, able...))
	}
	return p
}

func (p *protocolGen) id(word string) string {
	p.ids++
	return fmt.Sprintf("%s_%d", word, p.ids)
}

// file writes the protocol. One that others use has no cleanup.
func (p *protocolGen) file(name string, part bool) string {
	p.part = part
	p.goOn = !part && p.flip(3)
	if !part && p.flip(3) {
		p.samples = []string{"vial_1", "vial_2"}[:1+p.IntN(2)]
	}
	steps := p.begin()
	for range 2 + p.IntN(4) {
		steps = append(steps, p.step())
	}
	if p.goOn && !strings.Contains(strings.Join(steps, ""), "safe_point") {
		steps = append(steps, "- {id: "+p.id("rest")+", wait: {for: 1 s}, safe_point: true}")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "protocol: %s\nversion: 1.0.0\n", name)
	section(&b, "inputs", p.inputs)
	if len(p.samples) > 0 {
		if p.flip(2) {
			fmt.Fprintf(&b, "samples: [%s]\n", strings.Join(p.samples, ", "))
		} else {
			fmt.Fprintf(&b, "samples: {%s: {lot: L-%d}}\n", strings.Join(p.samples, ": {lot: L-7}, "), p.IntN(50))
		}
	}
	b.WriteString("roles:\n")
	for _, r := range p.roles {
		fmt.Fprintf(&b, "  %s: {is: [%s]%s%s}\n", r.in.Name, strings.Join(r.classes, ", "), p.holds(r), p.ranges(r))
	}
	p.head(&b)
	section(&b, "outputs", p.outputs)
	b.WriteString("steps:\n" + indent(steps, 2))
	if clean := p.cleanup(); !part && len(clean) > 0 {
		b.WriteString("cleanup:\n" + indent(clean, 2))
	}
	if end := p.finally(); len(end) > 0 {
		b.WriteString("finally:\n" + indent(end, 2))
	}
	return b.String()
}

// head writes what bounds the run and what becomes of it.
func (p *protocolGen) head(b *strings.Builder) {
	var limits []string
	for _, r := range p.roles {
		switch {
		case !p.flip(4):
		case r.has("thermostat/v1"):
			limits = append(limits, "- "+r.in.Name+".temperature <= 85 degC")
		case r.has("pump/v1"):
			limits = append(limits, "- "+r.in.Name+".rate <= 20 mL/min")
		case r.has("stage/v1"):
			limits = append(limits, "- "+r.in.Name+".z <= 2.9 mm")
		}
	}
	section(b, "limits", limits)
	if !p.part {
		b.WriteString(oneOf(p.gen, "", "budget: {time: 30 min}\n", "budget: {time: 30 min, exposures: 60}\n"))
		b.WriteString(oneOf(p.gen, "", "", "", "on_error: skip\n"))
		b.WriteString(oneOf(p.gen, "", "", "consequence: scrap\n", "consequence: salvage\n"))
		switch {
		case p.goOn:
			b.WriteString("on_restart: continue\n")
		default:
			b.WriteString(oneOf(p.gen, "", "on_restart: hold\n", "on_restart: abort\n"))
		}
	}
}

func (p *protocolGen) holds(r role) string {
	h := r.in.Holds
	if h == nil {
		return ""
	}
	if h.Concentration == nil {
		return ", holds: {substance: " + h.Substance + "}"
	}
	return fmt.Sprintf(", holds: {substance: %s, concentration: %s}", h.Substance, h.Concentration)
}

// ranges is, now and then, what the lab's limits must leave open.
func (p *protocolGen) ranges(r role) string {
	switch {
	case !p.flip(3):
	case r.has("thermostat/v1"):
		return ", range: {target: {min: 25 degC, max: 60 degC}}"
	case r.has("stage/v1"):
		return ", range: {x: {min: -2 mm, max: 2 mm}, z: {min: 1 mm, max: 2 mm}}"
	}
	return ""
}

func section(b *strings.Builder, name string, lines []string) {
	if len(lines) > 0 {
		b.WriteString(name + ":\n" + indent(lines, 2))
	}
}

// indent writes blocks of lines deeper in.
func indent(blocks []string, n int) string {
	pad := strings.Repeat(" ", n)
	var b strings.Builder
	for _, s := range blocks {
		b.WriteString(pad + strings.ReplaceAll(s, "\n", "\n"+pad) + "\n")
	}
	return b.String()
}

// begin is what most work begins with: stirring, an empty vessel, a place, a
// cell that is ready.
func (p *protocolGen) begin() (steps []string) {
	for _, r := range p.roles {
		n := r.in.Name
		if r.has("vessel/v1") && !p.flip(4) {
			steps = append(steps, "- {do: "+n+".drain}")
		}
		if r.has("stirrer/v1") && !p.flip(8) {
			steps = append(steps, fmt.Sprintf("- {id: %s, do: %s.stir, with: {speed: %s}%s}", p.id("stir"), n, quantity(float64(250+50*p.IntN(6)), "rpm"), p.safePoint()))
		}
		if r.has("stage/v1") && !p.flip(3) {
			steps = append(steps, p.move(n))
		}
		if r.has("packml-cell/v1") {
			steps = append(steps, "- {if: "+n+".state == aborted, then: [{do: "+n+".clear}]}", "- {do: "+n+".reset}")
		}
	}
	return steps
}

// safePoint marks a step, where the run may go on from one.
func (p *protocolGen) safePoint() string {
	if p.goOn && p.depth == 0 && p.flip(2) {
		return ", safe_point: true"
	}
	return ""
}

// step is one step of any kind.
func (p *protocolGen) step() string {
	kinds := []func() string{p.act, p.act, p.act, p.act, p.act, p.wait, p.wait, p.parallel, p.parallel, p.repeat, p.over, p.branch, p.ask, p.ramp, p.verdict, p.use, p.mend}
	if p.depth > 1 {
		kinds = []func() string{p.act, p.act, p.wait}
	}
	for range 10 {
		if s := oneOf(p.gen, kinds...)(); s != "" {
			return s
		}
	}
	return "- {wait: {for: 1 s}}"
}

// body is some steps within another one.
func (p *protocolGen) body() (steps []string) {
	p.depth++
	defer func() { p.depth-- }()
	for range 1 + p.IntN(2) {
		steps = append(steps, p.step())
	}
	return steps
}

// act is a command of one of the instruments.
func (p *protocolGen) act() string { return p.command(oneOf(p.gen, p.roles...), true) }

// command is one that an instrument has; plain ones have a failure that aborts.
func (p *protocolGen) command(r role, policy bool) string {
	n := r.in.Name
	switch c := oneOf(p.gen, r.classes...); c {
	case "pump/v1":
		return p.dose(n, policy)
	case "plate-dispenser/v1":
		return p.dispense(n, policy)
	case "packml-cell/v1":
		return p.coat(n, policy)
	case "stage/v1":
		return p.move(n)
	case "stirrer/v1":
		return fmt.Sprintf("- {do: %s.stir, with: {speed: %s}%s}", n, quantity(float64(250+50*p.IntN(6)), "rpm"), p.safePoint())
	case "vessel/v1":
		return "- {do: " + n + ".drain}"
	case "thermostat/v1":
		return fmt.Sprintf("- {do: %s.heat, with: {target: %s}%s%s}", n, quantity(float64(28+4*p.IntN(8)), "degC"), p.safePoint(), p.retried(policy))
	case "quench/v1":
		return "" // it is for trips
	default:
		return p.measure(n, c, policy)
	}
}

// measures are the commands that return something, with a result of theirs.
var measures = map[string][3]string{
	"spectrometer/v1":    {"spectrum", "peak", "nm"},
	"camera/v1":          {"capture, with: {exposure: 20 ms}", "sharpness", "\"1\""},
	"ph-probe/v1":        {"measure", "ph", "\"1\""},
	"balance/v1":         {"weigh", "mass", "g"},
	"turbidity-probe/v1": {"measure", "transmission", "\"%\""},
	"plate-reader/v1":    {"read, with: {well: 5}", "absorbance", "\"1\""},
}

func (p *protocolGen) measure(n, class string, policy bool) string {
	m, ok := measures[class]
	if !ok {
		return ""
	}
	id := p.id("read")
	p.output(id, m[1], m[2], false)
	return fmt.Sprintf("- {id: %s, do: %s.%s, gives: {%s: %s}%s%s%s}", id, n, m[0], m[1], m[1], p.sample(), p.safePoint(),
		oneOf(p.gen, ", on_error: {retry: 1, then: skip}", ", on_error: skip", p.retried(policy)))
}

// retried is, now and then, what becomes of a command that may be repeated.
func (p *protocolGen) retried(policy bool) string {
	if !policy {
		return ""
	}
	return oneOf(p.gen, "", ", on_error: {retry: 2, then: abort}", ", on_error: {retry: 1, hold: 20 s, then: skip}", ", on_error: continue")
}

// output makes a result one of the run, where it will be there.
func (p *protocolGen) output(id, name, unit string, sure bool) {
	if p.depth > 0 || len(p.outputs) > 3 || p.flip(3) {
		return
	}
	required := ""
	if sure && p.flip(2) {
		required = ", required: true"
	}
	p.outputs = append(p.outputs, fmt.Sprintf("out_%s: {unit: %s, from: %s.%s%s}", id, unit, id, name, required))
}

// unrepeated is what becomes of a failure of what is never repeated.
func (p *protocolGen) unrepeated(policy bool) string {
	if !policy {
		return ""
	}
	return oneOf(p.gen, "", "", ", on_error: abort", ", on_error: skip", ", on_error: continue", ", on_error: {hold: 15 s, then: abort}", ", on_error: {hold: 30 s, then: skip}")
}

func (p *protocolGen) sample() string {
	if len(p.samples) == 0 || p.flip(2) {
		return ""
	}
	return ", sample: " + oneOf(p.gen, p.samples...)
}

// sizes of doses that take from two to six seconds, in mL and mL/min.
var sizes = [][2]float64{{0.05, 1}, {0.05, 1.5}, {0.1, 1}, {0.1, 1.5}, {0.1, 2}, {0.15, 3}, {0.2, 3}, {0.2, 2}, {0.25, 5}, {0.3, 5}, {0.1, 3}}

// dose delivers a volume, often an input's.
func (p *protocolGen) dose(n string, policy bool) string {
	if p.effects >= maxEffects {
		return ""
	}
	p.effects++
	size := oneOf(p.gen, sizes...)
	volume, rate, id := quantity(size[0], "mL"), quantity(size[1], "mL/min"), p.id("dose")
	switch p.IntN(4) {
	case 0:
		volume, rate = "= "+p.volume(), "2 mL/min"
	case 1:
		volume, rate = "= "+p.volume()+" * 0.5", "1 mL/min"
	}
	p.output(id, "delivered", "mL", true)
	return fmt.Sprintf("- {id: %s, do: %s.dose, with: {volume: %s, rate: %s}, gives: {delivered: delivered}%s%s}", id, n, volume, rate, p.sample(), p.unrepeated(policy))
}

func (p *protocolGen) dispense(n string, policy bool) string {
	if p.effects >= maxEffects {
		return ""
	}
	p.effects++
	return fmt.Sprintf("- {do: %s.dispense, with: {well: %d, volume: %s}%s%s}", n, 1+p.IntN(96), quantity(float64(1+p.IntN(12)), "uL"), p.sample(), p.unrepeated(policy))
}

// coat coats a few films; what was coated before needs a reset.
func (p *protocolGen) coat(n string, policy bool) string {
	if p.effects >= maxEffects-1 {
		return ""
	}
	p.effects += 2
	films := fmt.Sprint(1 + p.IntN(3))
	if p.flip(3) {
		films = "= " + p.count()
	}
	return fmt.Sprintf("- {do: %s.reset}\n- {id: %s, do: %s.coat, with: {films: %s, speed: %s}%s%s}", n, p.id("coat"), n, films, quantity(float64(4+p.IntN(8)), "mm/s"), p.sample(), p.unrepeated(policy))
}

func (p *protocolGen) move(n string) string {
	at := func() float64 { return float64(p.IntN(9)-4) / 2 }
	return fmt.Sprintf("- {do: %s.move, with: {x: %s, y: %s, z: %s}%s}", n, quantity(at(), "mm"), quantity(at(), "mm"), quantity(1+float64(p.IntN(10))/10, "mm"), p.safePoint())
}

// volume is the name of an input that is one.
func (p *protocolGen) volume() string {
	if len(p.volumes) == 0 || len(p.volumes) < 2 && p.flip(3) {
		name := fmt.Sprintf("volume_%d", len(p.volumes)+1)
		p.volumes = append(p.volumes, name)
		p.inputs = append(p.inputs, name+": {unit: mL, min: 0.04, max: "+oneOf(p.gen, "0.2", "0.3")+oneOf(p.gen, "", ", default: 0.1")+"}")
	}
	return oneOf(p.gen, p.volumes...)
}

// count is the name of an input that is a small number.
func (p *protocolGen) count() string {
	if len(p.counts) == 0 {
		p.counts = append(p.counts, "times")
		p.inputs = append(p.inputs, "times: {type: integer, min: 1, max: 3"+oneOf(p.gen, "", ", default: 2")+"}")
	}
	return p.counts[0]
}
