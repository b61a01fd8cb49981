package dst

import (
	"fmt"
	"slices"
	"strings"

	"labgate/lab"
)

// draftRule is a rule that may be written more or less strictly.
type draftRule struct {
	id    string
	text  func(f float64) string // f times as much is allowed
	group string                 // of a trip
}

// rulesGen knows a set of rules of one lab. file writes them, or most of them.
type rulesGen struct {
	*gen
	lab     *lab.Lab
	parts   map[string][]string // by class: instrument.component, in the lab's order
	signals []string
	rules   []draftRule // in force
	spare   []draftRule // for other files
	n       int

	bypasses int // at once; negative: the file does not say
}

// newRulesGen decides on rules for a lab.
func newRulesGen(g *gen, l *lab.Lab) *rulesGen {
	d := &rulesGen{gen: g, lab: l, parts: partsOf(l), bypasses: oneOf(g, -1, -1, 0, 1, 3)}
	d.declare()
	all := d.spread(slices.Concat(d.pumps(), d.heats(), d.others(), d.trips(), d.alarms(), d.every()))
	n := min(len(all), 2+g.IntN(9))
	d.rules, d.spare = all[:n], all[n:min(len(all), n+2+g.IntN(4))]
	return d
}

// spread puts rules in an order in which every kind has its turn, however many
// there are of it.
func (d *rulesGen) spread(all []draftRule) (list []draftRule) {
	d.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var kinds []string
	of := map[string][]draftRule{}
	for _, r := range all {
		kind, _, _ := strings.Cut(r.text(1), ":")
		if of[kind] == nil {
			kinds = append(kinds, kind)
		}
		of[kind] = append(of[kind], r)
	}
	for len(list) < len(all) {
		kind := oneOf(d.gen, kinds...)
		if left := of[kind]; len(left) > 0 {
			list, of[kind] = append(list, left[0]), left[1:]
		}
	}
	return list
}

// partsOf lists the components of a lab by their class.
func partsOf(l *lab.Lab) map[string][]string {
	parts := map[string][]string{}
	for _, in := range l.Instruments {
		for _, c := range in.Profile.Components {
			parts[c.Class.Name] = append(parts[c.Class.Name], in.Name+"."+c.Name)
		}
	}
	return parts
}

// part is one component of a class; empty if the lab has none.
func (d *rulesGen) part(class string) string {
	if len(d.parts[class]) == 0 {
		return ""
	}
	return oneOf(d.gen, d.parts[class]...)
}

// file writes an interlocks file: with f times what is allowed, without some of
// the rules, and with spare ones.
func (d *rulesGen) file(name string, f float64, drop int, spare bool) string {
	rules := d.rules[min(drop, len(d.rules)):]
	if spare {
		rules = slices.Concat(rules, d.spare)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "interlocks: %s\n", name)
	if len(d.signals) > 0 {
		fmt.Fprintf(&b, "signals:\n  %s\n", strings.Join(d.signals, "\n  "))
	}
	if len(rules) == 0 {
		b.WriteString("rules: []\n")
		return b.String()
	}
	if d.bypasses >= 0 {
		fmt.Fprintf(&b, "bypasses: %d\n", d.bypasses)
	}
	b.WriteString("rules:\n")
	for i, r := range rules {
		text := strings.ReplaceAll(r.text(f), latched, notTripped(rules, i))
		fmt.Fprintf(&b, "  - id: %s\n    %s\n", r.id, strings.ReplaceAll(text, "\n", "\n    "))
	}
	return b.String()
}

// latched stands in a condition for "and nothing of a group is latched".
const latched = "{latched}"

// notTripped is what latched stands for: a group that there is in this file.
func notTripped(rules []draftRule, n int) string {
	var groups []string
	for _, r := range rules {
		if r.group != "" {
			groups = append(groups, r.group)
		}
	}
	if len(groups) == 0 {
		return ""
	}
	return " and not tripped(" + groups[n%len(groups)] + ")"
}

// maybeLatched is, now and then, a condition on a group of trips.
func (d *rulesGen) maybeLatched() string { return oneOf(d.gen, "", latched) }

// rule is a rule whose text does not depend on how strict it is.
func (d *rulesGen) rule(id, format string, args ...any) draftRule {
	text := fmt.Sprintf(format, args...)
	return d.scaled(id, func(float64) string { return text })
}

// scaled is a rule whose text does; now and then nobody may bypass it, or it
// has to be tried.
func (d *rulesGen) scaled(id string, text func(f float64) string) draftRule {
	d.n++
	more := ""
	if d.flip(5) {
		more += "\nbypass: never"
	}
	if d.flip(12) {
		more += "\nproof_test: {every: 30 days, last: 1999-12-20}"
	}
	return draftRule{id: fmt.Sprintf("%s-%d", id, d.n), text: func(f float64) string { return text(f) + more }}
}

// declare writes the signals that rules may stand on.
func (d *rulesGen) declare() {
	if r := d.parts["thermometer/v1"]; len(r) == 2 {
		if j := d.parts["thermostat/v1"][0]; d.flip(2) {
			d.signals = append(d.signals, fmt.Sprintf("body: {vote: {of: [%s.temperature, %s.temperature, %s.temperature], need: 2, within: %s}}", j, r[0], r[1], oneOf(d.gen, "5 K", "10 K")))
		} else {
			d.signals = append(d.signals, fmt.Sprintf("body: {is: \"max(%s.temperature, %s.temperature)\"}", r[0], r[1]))
		}
	}
}

// dose is a command that delivers: its path, its unit, and sizes of a dose.
type dose struct {
	part, command, unit string
	size                float64
	rate                bool // it takes a rate, and tells what it has dispensed and whether it runs
}

func (d *rulesGen) doses() (list []dose) {
	for _, p := range d.parts["pump/v1"] {
		list = append(list, dose{p, p + ".dose", "mL", 0.3, true})
	}
	for _, p := range d.parts["plate-dispenser/v1"] {
		list = append(list, dose{p, p + ".dispense", "uL", 20, false})
	}
	return list
}

// pumps are rules about what delivers.
func (d *rulesGen) pumps() (list []draftRule) {
	all := d.doses()
	if len(all) == 0 {
		return nil
	}
	x := oneOf(d.gen, all...)
	var volumes, commands []string
	for _, o := range all {
		volumes, commands = append(volumes, o.command+".volume"), append(commands, o.command)
	}
	size := func(v float64) func(f float64) string {
		return func(f float64) string { return quantity(v*f*x.size, x.unit) }
	}
	most, total, sum, day := size(oneOf(d.gen, 0.7, 0.9, 1, 1.5)), size(float64(3+d.IntN(6))), size(float64(3+d.IntN(8))), size(float64(10+d.IntN(40)))
	per, together, count := oneOf(d.gen, "1 min", "10 min", "30 s"), d.flip(2), 3+d.IntN(8)
	least := ""
	if d.flip(3) {
		least = "min: " + quantity(x.size/30, x.unit) + "\n"
	}
	list = append(list,
		d.scaled("dose-size", func(f float64) string { return "limit: " + x.command + ".volume\n" + least + "max: " + most(f) }),
		d.scaled("doses-in-time", func(f float64) string {
			return fmt.Sprintf("limit: %s\ntotal: %s per %s\ntogether: %v", strings.Join(volumes, ", "), total(f), per, together)
		}),
		d.scaled("per-run", func(f float64) string {
			return "budget: sum(" + strings.Join(volumes, ", ") + ") per run\nmax: " + sum(f)
		}),
		d.scaled("per-day", func(f float64) string {
			return "budget: sum(" + strings.Join(volumes, ", ") + ") per day\nmax: " + day(f)
		}),
		d.scaled("share", func(f float64) string {
			return "budget: sum(" + x.command + ".volume) per principal and day\nmax: " + day(f/2)
		}),
		d.scaled("campaign", func(f float64) string {
			return "budget: sum(" + x.command + ".volume * 2) per campaign\nmax: " + day(f)
		}),
		d.scaled("strokes", func(f float64) string {
			return fmt.Sprintf("budget: count(%s) per run\nmax: %d", x.command, max(1, int(float64(count)*f)))
		}),
		d.scaled("one-dose", func(f float64) string { return "budget: sum(" + x.command + ".volume) per command\nmax: " + most(f) }),
		d.rule("one-at-a-time", "zone: bench\nclaim: {%s: %s}", strings.Join(commands, ": until done, "), oneOf(d.gen, "until done", "until done", "until end of run")),
	)
	if x.rate {
		list = append(list, d.flows(x)...)
	}
	return list
}

// flows are rules about rates, and about pumps that run.
func (d *rulesGen) flows(x dose) []draftRule {
	rate, step := float64(oneOf(d.gen, 4, 6, 8, 12)), float64(oneOf(d.gen, 4, 6, 8))
	long := oneOf(d.gen, 12, 20, 40)
	return []draftRule{
		d.scaled("flow", func(f float64) string { return "limit: " + x.command + ".rate\nmax: " + quantity(rate*f, "mL/min") }),
		d.scaled("flow-step", func(f float64) string {
			return "limit: " + x.command + ".rate\nstep: " + quantity(step*f, "mL/min")
		}),
		d.scaled("flow-change", func(f float64) string {
			return "limit: " + x.command + ".rate\nchange: " + quantity(8*step*f, "mL/min") + " per 1 min"
		}),
		d.rule("not-long", "permissive: %s\nrequire: args.volume / args.rate <= %d s and not self.running%s\nat: start", x.command, long, d.maybeLatched()),
		d.rule("well-known", "permissive: %s\nrequire: quality(self.running) == good and quality(self.dispensed) != bad\nat: start", x.command),
		d.rule("while-known", "permissive: %s\nrequire: self.dispensed >= 0 mL and self.rate <= 30 mL/min\ngrace: %s", x.command, oneOf(d.gen, "1 s", "2 s")),
	}
}

// heats are rules about heating, stirring and what the vessel holds.
func (d *rulesGen) heats() (list []draftRule) {
	jacket, stirrer, vessel := d.part("thermostat/v1"), "", d.part("vessel/v1")
	if jacket == "" {
		return nil
	}
	stirrer = strings.TrimSuffix(jacket, ".jacket") + ".stirrer"
	hot, step := float64(oneOf(d.gen, 60, 70, 80)), float64(oneOf(d.gen, 30, 40, 50))
	guarded, group := []string{jacket + ".heat"}, d.maybeLatched()
	for _, o := range d.doses() {
		guarded = append(guarded, o.command)
	}
	turning := d.scaled("needs-stirring", func(f float64) string {
		return fmt.Sprintf("permissive: %s\nrequire: %s.speed >= %s%s\ngrace: 1 s", strings.Join(guarded[min(1, len(guarded)-1):], ", "), stirrer, quantity(150/f, "rpm"), group)
	})
	list = append(list, turning,
		d.scaled("hottest", func(f float64) string {
			return "limit: " + jacket + ".heat.target\nmax: " + quantity(min(hot*f, 200), "degC")
		}),
		d.scaled("heat-step", func(f float64) string { return "limit: " + jacket + ".heat.target\nstep: " + quantity(step*f, "K") }),
		d.scaled("heat-change", func(f float64) string {
			return "limit: " + jacket + ".heat.target\nmin: 0 degC\nchange: " + quantity(2*step*f, "K") + " per 10 min"
		}),
		d.rule("heat-stirred", "permissive: %s.heat\nrequire: %s.speed >= 100 rpm%s\nat: start", jacket, stirrer, d.maybeLatched()),
		d.rule("stirred-before", "sequence: %s.heat\nafter: %s.stir\nwithin: %s\nnot_since: [%s.stir_off]", jacket, stirrer, oneOf(d.gen, "10 min", "1 h"), stirrer),
		d.rule("hot-right", "zone: heater\nclaim: {%s.heat: until %s.heat_off}", jacket, jacket),
		d.rule("budget-heat", "budget: count(%s.heat) per run\nmax: %d", jacket, 4+d.IntN(8)),
	)
	if vessel != "" && len(guarded) > 1 {
		list = append(list,
			d.scaled("vessel-full", func(f float64) string {
				return fmt.Sprintf("permissive: %s\nrequire: %s.contents + args.volume <= %s\nat: start", guarded[1], vessel, quantity(0.5*f, "mL"))
			}),
			d.rule("drained-before", "sequence: %s\nafter: %s.drain\nnot_since: [\"%s.contents > 0.6 mL\"]", guarded[1], vessel, vessel),
			d.rule("shut-while-dosing", "zone: outlet\nclaim: {%s: until done, %s.drain: until done}", guarded[1], vessel))
	}
	return list
}

// others are rules about the stage, the camera, the cell, the room.
func (d *rulesGen) others() (list []draftRule) {
	stage, camera, cell, room := d.part("stage/v1"), d.part("camera/v1"), d.part("packml-cell/v1"), d.part("room/v1")
	if stage != "" {
		x, z := float64(oneOf(d.gen, 3, 5, 8)), oneOf(d.gen, 2.2, 2.5, 3)
		list = append(list,
			d.scaled("far", func(f float64) string {
				return "limit: " + stage + ".move.x\nmin: " + quantity(-x*f, "mm") + "\nmax: " + quantity(x*f, "mm")
			}),
			d.scaled("lens", func(f float64) string { return "limit: " + stage + ".move.z\nmax: " + quantity(z*f, "mm") }),
			d.scaled("stage-step", func(f float64) string { return "limit: " + stage + ".move.x\nstep: " + quantity(x*f, "mm") }),
			d.scaled("stage-change", func(f float64) string {
				return "limit: " + stage + ".move.y\nfrom: self.y\nchange: " + quantity(5*x*f, "mm") + " per 1 min"
			}),
			d.rule("still-before", "permissive: %s.move\nrequire: not self.moving\nat: start", stage),
			d.rule("moves", "budget: count(%s.move) per run\nmax: %d", stage, 10+d.IntN(20)))
		for _, o := range d.doses() {
			list = append(list, d.rule("still-while-dosing", "zone: needle\nclaim: {%s.move: while %s.moving, %s: until done}", stage, stage, o.command),
				d.rule("placed-before", "sequence: %s\nafter: %s.move\nwithin: 10 min\nnot_since: [%s.halt]", o.command, stage, stage))
		}
	}
	if camera != "" {
		list = append(list, d.rule("pictures", "budget: count(%s.capture) per principal and day\nmax: %d", camera, 40+d.IntN(100)),
			d.rule("exposure", "limit: %s.capture.exposure\nmax: 100 ms\ntotal: %s per 1 min", camera, quantity(float64(300+d.IntN(700)), "ms")))
		if stage != "" {
			list = append(list, d.rule("still-while-exposing", "zone: field\nclaim: {%s.move: while %s.moving, %s.capture: while %s.exposing}", stage, stage, camera, camera))
		}
	}
	if cell != "" {
		most, fast := float64(3+d.IntN(5)), float64(oneOf(d.gen, 12, 20, 30))
		list = append(list,
			d.scaled("batch", func(f float64) string {
				return "limit: " + cell + ".coat.films\nmax: " + quantity(max(1, float64(int(most*f))), "")
			}),
			d.scaled("pass", func(f float64) string { return "limit: " + cell + ".coat.speed\nmax: " + quantity(fast*f, "mm/s") }),
			d.scaled("films", func(f float64) string {
				return "budget: sum(" + cell + ".coat.films) per run\nmax: " + quantity(float64(int(3*most*f)), "")
			}),
			d.rule("reset-before", "sequence: %s.coat\nafter: %s.reset\nnot_since: [%s.stop, \"%s.state == aborted\"]", cell, cell, cell, cell),
			d.rule("cell-ready", "permissive: %s.coat\nrequire: self.state == idle\nat: start", cell))
	}
	if room != "" {
		list = append(list, d.inRoom(room)...)
	}
	return list
}

// inRoom are permissives and sequences on what the room knows.
func (d *rulesGen) inRoom(room string) (list []draftRule) {
	guarded, grace, group := d.effects(), oneOf(d.gen, "0 s", "1 s", "3 s"), d.maybeLatched()
	air := func(f float64) string { return quantity(0.3/f, "m/s") }
	list = append(list,
		d.scaled("hood", func(f float64) string {
			return fmt.Sprintf("permissive: %s\nrequire: %s.airflow >= %s%s\ngrace: %s", strings.Join(guarded, ", "), room, air(f), group, grace)
		}),
		d.rule("closed", "permissive: %s\nrequire: %s.door_closed and not %s.emergency%s", oneOf(d.gen, guarded...), room, room, d.maybeLatched()),
		d.rule("quiet-room", "sequence: %s\nafter: %s.door_closed\nwithin: 10 min\nnot_since: [%s.emergency, \"%s.oxygen < 19 %%\"]", oneOf(d.gen, guarded...), room, room, room))
	return list
}

// effects are commands that do something, as a rule names them.
func (d *rulesGen) effects() (list []string) {
	for _, in := range d.lab.Instruments {
		for _, c := range in.Profile.Components {
			for _, cmd := range c.Class.Commands {
				if cmd.Effect == lab.Effectful || c.Class.Name == "stage/v1" && cmd.Effect == lab.Idempotent {
					list = append(list, in.Name+"."+c.Name+"."+cmd.Name)
				}
			}
		}
	}
	return list
}

// actions are what a trip does: all or some of what is safe.
func (d *rulesGen) actions() string {
	var list []string
	for _, in := range d.lab.Instruments {
		for _, c := range in.Profile.Components {
			for _, cmd := range c.Class.Commands {
				if x := in.Name + "." + c.Name + "." + cmd.Name; cmd.Effect == lab.Safe && cmd.Name != "abort" && cmd.Name != "stir_off" {
					list = append(list, x)
				}
			}
		}
	}
	d.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	list = list[:1+d.IntN(len(list))]
	if len(list) > 1 && d.flip(4) {
		list = slices.Insert(list, 1, "wait 1 s")
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// trip is a rule that acts; the times that it promises can be kept.
func (d *rulesGen) trip(group string, when func(f float64) string, more string) draftRule {
	unknown, delay := oneOf(d.gen, 0, 3, 10), oneOf(d.gen, 0, 0, 1, 2)
	text := "do: " + d.actions()
	if unknown > 0 {
		text += fmt.Sprintf("\nunknown_for: %d s", unknown)
	}
	if delay > 0 {
		text += fmt.Sprintf("\non_delay: %d s", delay)
	}
	if d.flip(2) {
		text += fmt.Sprintf("\nrespond_within: %d s", max(unknown, delay)+12)
	}
	switch d.IntN(3) {
	case 0:
		text += "\nrun: hold"
		if d.flip(2) {
			text += oneOf(d.gen, "\nhold_for: 20 s", "\nhold_for: 2 min")
		}
	case 1:
		text += "\nrun: abort"
	}
	if d.flip(2) {
		text += "\nmitigates: [" + oneOf(d.gen, d.mitigating()...) + "]"
	}
	r := d.scaled(group+"-trip", func(f float64) string { return "trip: " + group + "\nwhen: " + when(f) + "\n" + text + more })
	r.group = group
	return r
}

// mitigating are commands that may help.
func (d *rulesGen) mitigating() (list []string) {
	for _, x := range []struct{ class, command string }{{"quench/v1", ".dose"}, {"vessel/v1", ".drain"}, {"stage/v1", ".move"}, {"stirrer/v1", ".stir"}} {
		for _, p := range d.parts[x.class] {
			list = append(list, strings.Replace(p, ".quench", ".pump", 1)+x.command)
		}
	}
	if len(list) == 0 {
		return d.effects()
	}
	return list
}

// trips watch the room, temperatures, the stage, the cell and the pumps.
func (d *rulesGen) trips() (list []draftRule) {
	fixed := func(text string) func(float64) string { return func(float64) string { return text } }
	if room := d.part("room/v1"); room != "" {
		list = append(list, d.trip("emergency", fixed(room+".emergency"), ""), d.trip("door", fixed("not "+room+".door_closed"), ""),
			d.trip("air", func(f float64) string { return room + ".airflow < " + quantity(0.1/f, "m/s") },
				"\nhealthy: "+room+".airflow >= 0.3 m/s"))
	}
	if jacket := d.part("thermostat/v1"); jacket != "" {
		hot := float64(oneOf(d.gen, 75, 85, 95))
		hotter := func(what string) func(float64) string {
			return func(f float64) string { return what + " > " + quantity(min(hot*f, 300), "degC") }
		}
		list = append(list, d.trip("hot", hotter(jacket+".temperature"), "\nhealthy: "+jacket+".temperature < 60 degC"),
			d.trip("rise", func(f float64) string { return "rate(" + jacket + ".temperature, 2 s) > " + quantity(30*f, "K/s") }, ""))
		if len(d.signals) > 0 {
			list = append(list, d.trip("body", hotter("body"), ""))
		}
	}
	if stage := d.part("stage/v1"); stage != "" {
		list = append(list, d.trip("lens", func(f float64) string { return stage + ".z > " + quantity(2.8*f, "mm") }, ""))
	}
	if cell := d.part("packml-cell/v1"); cell != "" {
		list = append(list, d.trip("cell", fixed("held("+cell+".state == aborted, 2 s)"), ""))
	}
	for _, x := range d.doses() {
		if x.rate {
			list = append(list, d.trip("stalled", fixed(x.part+".running and stuck_for("+x.part+".dispensed, 4 s)"), ""),
				d.trip("bottle", func(f float64) string { return x.part + ".dispensed > " + quantity(12*f, "mL") }, ""),
				d.trip("running", func(f float64) string {
					return "held(" + x.part + ".running, " + quantity(25*f, "s") + ") or " + x.part + ".rate > 25 mL/min"
				}, ""))
		} else {
			list = append(list, d.trip("vial", func(f float64) string { return x.part + ".dispensed > " + quantity(900*f, "uL") }, ""))
		}
	}
	return list
}

// alarms tell people.
func (d *rulesGen) alarms() (list []draftRule) {
	alarm := func(when string) {
		text := fmt.Sprintf("alarm: {when: %s, priority: %s, response: look at it}", when, oneOf(d.gen, "low", "medium", "high", "critical"))
		list = append(list, d.rule("alarm", "%s%s%s", text, oneOf(d.gen, "", "\non_delay: 1 s"), oneOf(d.gen, "", "\nunknown_for: 10 s")))
	}
	if room := d.part("room/v1"); room != "" {
		alarm(room + ".oxygen < 20.5 %")
	}
	if jacket := d.part("thermostat/v1"); jacket != "" {
		alarm("\"mean(" + jacket + ".temperature, 5 s) > 45 degC\"")
		if o := d.parts["thermometer/v1"]; len(o) == 2 {
			alarm(fmt.Sprintf("\"vote(2, %s.temperature > 50 degC, %s.temperature > 50 degC, abs(%s.temperature - %s.temperature) > 20 K)\"", o[0], o[1], jacket, o[0]))
		}
	}
	for _, x := range d.doses() {
		alarm(x.part + ".dispensed > " + quantity(2*x.size, x.unit))
	}
	return list
}

// every are rules for each component of a class.
func (d *rulesGen) every() (list []draftRule) {
	if len(d.parts["pump/v1"]) > 0 {
		list = append(list,
			d.scaled("each-pump", func(f float64) string {
				return "for: any pump/v1\nlimit: self.dose.volume\nmax: " + quantity(0.5*f, "mL")
			}),
			d.scaled("all-pumps", func(f float64) string {
				return "budget: sum(any pump/v1.dose.volume) per run\nmax: " + quantity(1.8*f, "mL")
			}),
			d.rule("each-known", "for: any pump/v1\npermissive: self.dose\nrequire: age(self.running) < 5 s\nat: start"))
	}
	if len(d.parts["thermostat/v1"]) > 0 {
		list = append(list, d.trip("overheat", func(f float64) string { return "self.temperature > " + quantity(min(90*f, 300), "degC") }, "\nfor: any thermostat/v1"))
	}
	return list
}
