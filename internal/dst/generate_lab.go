package dst

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"labgate/configs"
	"labgate/lab"
	"labgate/protocols"
	"labgate/runner"
	"labgate/safety"
)

// site is the laboratory of a seed: everything that is decided before anything
// happens. It is shared by all seeds of its variant, and nothing changes it.
type site struct {
	name       string // "demo-4", "generated-17": for the story
	lab        *lab.Lab
	rules      *safety.Rules
	classes    map[string]*lab.Class
	reloads    []*safety.Rules // other rules files for the same lab: stricter, looser, and one that is equal
	library    []*protocols.Protocol
	principals []runner.Principal
	approvals  runner.Approvals
	text       map[string]string // the files it was made of, by name

	short   []*protocols.Protocol // those of the library that end within minutes and fit the lab
	refused int                   // drafts that a loader did not take; others were made in their place
}

const (
	siteVariants = 384 // different laboratories: more seeds share them
	realEvery    = 4   // one variant in so many is the demo laboratory as it is delivered
	maxDrafts    = 20  // of one file, until the generator gives up
)

// variants are the sites that were made.
var variants sync.Map // uint64 to func() (*site, error)

// newSite returns the laboratory of a seed. The same seed has the same one, on
// every machine.
func newSite(seed uint64) (*site, error) {
	n := seed % siteVariants
	made, _ := variants.LoadOrStore(n, sync.OnceValues(func() (*site, error) { return buildSite(n) }))
	return made.(func() (*site, error))()
}

// buildSite makes the laboratory of a variant.
func buildSite(n uint64) (*site, error) {
	b, err := builtin()
	if err != nil {
		return nil, err
	}
	g := &gen{Rand: rand.New(rand.NewPCG(n, 0x73697465))}
	s := &site{classes: b.Classes, text: map[string]string{}}
	if n%realEvery == 0 {
		s.name = "demo-" + strconv.FormatUint(n, 10)
		err = s.real(g, b)
	} else {
		s.name = "generated-" + strconv.FormatUint(n, 10)
		err = s.generated(g, b)
	}
	if err != nil {
		return nil, lab.E("dst: site", s.name, lab.KindInternal, err)
	}
	s.people(g)
	// What is appended to a shared list must not end in its spare places.
	s.reloads, s.library, s.short, s.principals = slices.Clip(s.reloads), slices.Clip(s.library), slices.Clip(s.short), slices.Clip(s.principals)
	return s, nil
}

// builtin is the demo laboratory as it is delivered, with every class and
// profile; it is read once.
var builtin = sync.OnceValues(func() (*configs.Config, error) {
	folder, err := fs.Sub(configs.Embedded(), "labs/demo")
	if err != nil {
		return nil, err
	}
	return configs.Load(folder, "demo")
})

// delivered is the library as it is delivered.
var delivered = sync.OnceValues(func() ([]*protocols.Protocol, error) {
	b, err := builtin()
	if err != nil {
		return nil, err
	}
	library := protocols.Library()
	list, issues := protocols.Load(b.Classes, protocols.Files(library), library)
	return list, issues.Err()
})

// real is the demo laboratory with its library, and short work beside it.
func (s *site) real(g *gen, b *configs.Config) error {
	list, err := delivered()
	if err != nil {
		return err
	}
	s.lab, s.rules, s.library = b.Lab, b.Rules, slices.Clone(list)
	data, err := fs.ReadFile(configs.Embedded(), "labs/demo/lab.yaml")
	if err != nil {
		return err
	}
	s.text["lab.yaml"], s.text["interlocks.yaml"] = string(data), string(b.Interlocks)
	for _, p := range list {
		if slices.Contains([]string{"gold-nanoparticles", "coat-films", "coat-and-rework", "cell-start-up-shut-down"}, p.Name) {
			s.short = append(s.short, p)
		}
	}
	if err := s.reloadsOfDemo(g); err != nil {
		return err
	}
	return s.work(g, 2+g.IntN(3))
}

// reloadsOfDemo makes other files of the delivered rules: equal, with a comment
// more, stricter, looser.
func (s *site) reloadsOfDemo(g *gen) error {
	text := s.text["interlocks.yaml"]
	change := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(text) }
	more := newRulesGen(g, s.lab).file("demo", 1, 0, true)
	for _, t := range []string{
		text,
		text + "# read again\n",
		change("max: 0.45 mL", "max: 0.2 mL", "max: 2 mL", "max: 1 mL", "> 95 degC", "> 80 degC"),
		change("max: 0.45 mL", "max: 0.6 mL", "max: 2 mL", "max: 5 mL", ">= 150 rpm", ">= 20 rpm"),
		more, // other rules altogether: what was latched stays, as an orphan
	} {
		rules, is := safety.Parse("interlocks.yaml", []byte(t), s.lab)
		if len(is) > 0 {
			return is.Err()
		}
		s.reloads = append(s.reloads, rules)
	}
	return nil
}

// generated is a laboratory that nobody ever had.
func (s *site) generated(g *gen, b *configs.Config) error {
	err := s.draft("lab.yaml", func() (string, lab.Issues) {
		text := g.labText(s.name)
		l, _, is := configs.ParseLab("lab.yaml", []byte(text), b.Profiles)
		if s.lab = l; l != nil {
			l.Hash = lab.HashText([]byte(text))
		}
		return text, is
	})
	if err != nil {
		return err
	}
	if err := s.draft("interlocks.yaml", func() (string, lab.Issues) { return s.draftRules(g) }); err != nil {
		return err
	}
	return s.work(g, 2+g.IntN(3))
}

// draftRules writes the rules of a lab three times: as they are, stricter,
// looser; all of them must be sound.
func (s *site) draftRules(g *gen) (text string, is lab.Issues) {
	d := newRulesGen(g, s.lab)
	drop := 1 + g.IntN(3)
	s.reloads = nil
	for i, t := range []string{
		d.file("generated", 1, 0, false),
		d.file("generated", 1, 0, false),       // equal
		d.file("generated", 0.6, 0, true),      // stricter, and rules that were not there
		d.file("generated", 2, drop, false),    // looser, and without some
		d.file("generated", 1, 100, true),      // other rules altogether
		d.file("generated", 1.1, 0, g.flip(2)), // almost the same
	} {
		rules, more := safety.Parse("interlocks.yaml", []byte(t), s.lab)
		is = append(is, more...)
		if i == 0 {
			text, s.rules = t, rules
		} else {
			s.reloads = append(s.reloads, rules)
		}
	}
	return text, is
}

// draft makes a file until a loader takes it.
func (s *site) draft(name string, write func() (string, lab.Issues)) error {
	var is lab.Issues
	for range maxDrafts {
		var text string
		if text, is = write(); len(is) == 0 {
			s.text[name] = text
			return nil
		}
		s.refused++
	}
	return fmt.Errorf("%s: %d drafts, none of which was sound: %w", name, maxDrafts, is.Err())
}

// work adds short protocols to the library.
func (s *site) work(g *gen, n int) error {
	for i := range n {
		name := fmt.Sprintf("work-%d", i+1)
		var p *protocols.Protocol
		err := s.draft(name+".yaml", func() (string, lab.Issues) {
			text := newProtocolGen(g, s).file(name, i == 0)
			var is lab.Issues
			p, is = protocols.Parse(name+".yaml", []byte(text), s.classes, s.find)
			return text, is
		})
		if err != nil {
			return err
		}
		s.library, s.short = append(s.library, p), append(s.short, p)
	}
	return nil
}

// find is the protocols that another one may use.
func (s *site) find(name, version string) (string, []byte, bool) {
	text, ok := s.text[name+".yaml"]
	return name + ".yaml", []byte(text), ok && version == "1.0.0"
}

// people decides who there is and what they may do.
func (s *site) people(g *gen) {
	second := runner.Principal{Name: "planner_2", Role: "agent", Inline: true, InlineApproved: g.flip(2)}
	switch g.IntN(6) {
	case 0:
		second.Rate = runner.Rate{N: 5 + g.IntN(20), Per: time.Minute}
	case 1:
		second.Protocols = []string{s.short[len(s.short)-1].Name, s.short[0].Name}
	}
	s.principals = []runner.Principal{
		{Name: "planner_1", Role: "agent", Inline: true}, second,
		{Name: "chemist", Role: "scientist", Inline: true},
		{Name: "operator_1", Role: "operator"}, {Name: "operator_2", Role: "operator"}, {Name: "safety_1", Role: "safety"},
	}
	if g.flip(4) {
		s.principals = append(s.principals, runner.Principal{Name: "planner_3", Role: "agent"}) // the library only
	}
	s.approvals.Inline = g.terms()
	if g.flip(4) {
		s.approvals.Protocols = map[string]runner.Terms{s.short[g.IntN(len(s.short))].Name: g.terms()}
	}
}

func (g *gen) terms() runner.Terms {
	return runner.Terms{Persons: 1 + g.IntN(2), By: []string{"operator", "safety"}, Within: time.Duration(20+g.IntN(200)) * time.Second}
}

// gen is the randomness of a generator.
type gen struct{ *rand.Rand }

// flip is true once in so many.
func (g *gen) flip(of int) bool { return g.IntN(of) == 0 }

// oneOf picks one of some things, at least one.
func oneOf[T any](g *gen, list ...T) T { return list[g.IntN(len(list))] }

// quantity writes a number of at most three digits, and its unit.
func quantity(v float64, unit string) string {
	v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
	return strings.TrimSpace(strconv.FormatFloat(v, 'f', -1, 64) + " " + unit)
}

// device is how one instrument of the simulated world may stand in a lab file.
type device struct {
	name, fixed string   // what always stands there: profile, link, settings, reagent
	limits      []string // each of them, or not
	safe        []string // one of them
	effectful   bool     // it does what must never happen twice, or moves
}

const (
	pumpFixed = "    profile: new-era/ne-1000@1\n    link: {port: \"sim:pumps\", address: %d}\n    settings: {diameter: 14.43 mm}\n"
	mqttFixed = "    profile: labgate/mqtt-%s@1\n    link: {broker: embedded, prefix: x/%s}\n"
)

func pumpDevice(name string, address int, holds string) device {
	return device{name: name, fixed: fmt.Sprintf(pumpFixed, address) + "    holds: {" + holds + "}\n", effectful: true,
		limits: []string{"pump.dose.rate: {max: 20 mL/min}", "pump.dose.volume: {max: 0.6 mL}"}, safe: []string{"[pump.stop]"}}
}

func mqttDevice(kind, name string) device {
	return device{name: name, fixed: fmt.Sprintf(mqttFixed, kind, name), safe: []string{"[keep]"}}
}

func plateDevice(name string) device {
	d := mqttDevice("thermostat", name)
	d.limits = []string{"jacket.heat.target: {min: 5 degC, max: 80 degC}", "stirrer.stir.speed: {max: 1000 rpm}"}
	d.safe = []string{"[jacket.heat_off]", "[jacket.heat_off, wait 1 s, stirrer.stir_off]", "[keep]"}
	return d
}

// worlds are the laboratories that are simulated, with all their instruments.
var worlds = [][]device{
	{
		{name: "reactor", fixed: "    profile: labgate/flow-reactor@1\n    link: {endpoint: \"sim:reactor\", insecure: true}\n",
			limits: []string{"jacket.heat.target: {min: 20 degC, max: 92 degC}", "stirrer.stir.speed: {max: 1200 rpm}"},
			safe:   []string{"[jacket.heat_off, vessel.shut]", "[jacket.heat_off]", "[jacket.heat_off, wait 1 s, stirrer.stir_off]", "[keep]"}},
		pumpDevice("pump_a", 0, "substance: HAuCl4, concentration: 1 mmol/L"),
		pumpDevice("pump_b", 1, "substance: trisodium citrate, concentration: 10 mmol/L"),
		{name: "quench", fixed: "    profile: new-era/ne-1000-quench@1\n    link: {port: \"sim:pumps\", address: 2}\n" +
			"    settings: {diameter: 14.43 mm, flood_volume: 0.1 mL, flood_rate: 12 mL/min}\n    holds: {substance: cold water}\n",
			safe: []string{"[keep]", "[pump.stop]"}},
		mqttDevice("spectrometer", "spectrometer"),
		{name: "stage", fixed: "    profile: asi/ms-2000@1\n    link: {port: \"sim:stage\"}\n", effectful: true,
			limits: []string{"xyz.move.x: {min: -10 mm, max: 10 mm}", "xyz.move.y: {min: -10 mm, max: 10 mm}", "xyz.move.z: {min: 0 mm, max: 3 mm}"},
			safe:   []string{"[xyz.halt]", "[keep]"}},
		mqttDevice("camera", "camera"),
		{name: "cell", fixed: "    profile: labgate/coating-cell@1\n    link: {endpoint: \"sim:cell\", insecure: true}\n", effectful: true,
			limits: []string{"line.coat.speed: {min: 1 mm/s, max: 40 mm/s}", "line.coat.films: {max: 10}"},
			safe:   []string{"[line.stop]", "[line.abort]", "[keep]"}},
		mqttDevice("room", "room"),
	},
	{
		pumpDevice("burette", 0, "substance: NaOH, concentration: 0.1 mol/L"), pumpDevice("feeder", 1, "substance: water"),
		plateDevice("hotplate"), mqttDevice("ph", "ph"), mqttDevice("balance", "balance"), plateDevice("crystalliser"),
		mqttDevice("turbidity", "turbidity"),
	},
	{
		{name: "dispenser", fixed: fmt.Sprintf(mqttFixed, "dispenser", "dispenser") + "    holds: {substance: compound, concentration: 1 mmol/L}\n",
			limits: []string{"head.dispense.volume: {max: 50 uL}"}, safe: []string{"[head.stop]", "[keep]"}, effectful: true},
		mqttDevice("plate-reader", "reader"),
	},
}

// devices chooses some instruments of one world, one of which does what must
// never happen twice.
func (g *gen) devices() []device {
	world := oneOf(g, worlds[0], worlds[0], worlds[0], worlds[0], worlds[0], worlds[0], worlds[1], worlds[1], worlds[2])
	n := min(oneOf(g, 1, 2, 2, 2, 3, 3, 3, 3, 4, 5), len(world))
	chosen := map[string]bool{}
	for _, i := range g.Perm(len(world)) {
		if len(chosen) == 0 && world[i].effectful || len(chosen) > 0 && len(chosen) < n {
			chosen[world[i].name] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(world), func(d device) bool { return !chosen[d.name] })
}

// labText writes a lab file.
func (g *gen) labText(name string) string {
	list := g.devices()
	var b strings.Builder
	fmt.Fprintf(&b, "lab: %s\nkind: simulated\ngateway: bench\ninstruments:\n", strings.ReplaceAll(name, "-", "_"))
	has := func(name string) bool {
		return slices.ContainsFunc(list, func(d device) bool { return d.name == name })
	}
	for _, d := range list {
		fmt.Fprintf(&b, "  %s:\n%s", d.name, d.fixed)
		limits := slices.DeleteFunc(slices.Clone(d.limits), func(string) bool { return g.flip(2) })
		if len(limits) > 0 {
			fmt.Fprintf(&b, "    limits: {%s}\n", strings.Join(limits, ", "))
		}
		safe := oneOf(g, slices.Concat(d.safe, d.safe[:1], d.safe[:1])...)
		fmt.Fprintf(&b, "    safe: %s\n", safe)
		start, loss := oneOf(g, "keep", "safe"), oneOf(g, "keep", "safe", "safe")
		if safe == "[keep]" {
			start, loss = "keep", "keep"
		}
		fmt.Fprintf(&b, "    on_start: %s\n    on_lease_loss: %s\n    on_gateway_death: %s\n", start, loss, oneOf(g, "keep", "keep", "watchdog"))
		if (d.name == "pump_a" || d.name == "pump_b") && has("reactor") {
			b.WriteString("    affects: {reactor.vessel.contents: {dose: += volume}}\n")
		}
	}
	b.WriteString("interlocks: interlocks.yaml\nprotocols: protocols/\nnats: {embedded: {}}\n")
	fmt.Fprintf(&b, "runs: {continue_after_restart: %v, held_for: %s}\n", g.flip(2), oneOf(g, "12 h", "2 min", "20 s"))
	if g.flip(3) {
		b.WriteString("places: {rack: {capacity: 24}}\n")
	}
	return b.String()
}

// byName finds a protocol of the library.
func (s *site) byName(name string) *protocols.Protocol {
	for _, p := range s.library {
		if p.Name == name {
			return p
		}
	}
	return nil
}
