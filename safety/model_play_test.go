package safety_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"labgate/lab"
	"labgate/safety"
)

// play is one engine beside the model.
type play struct {
	*rapid.T
	lab    *lab.Lab
	engine *safety.Engine
	m      *model
	ids    map[string]lab.PropertyID
}

func (p *play) tick(d time.Duration) {
	p.m.now = p.m.now.Add(d)
	p.m.order++
}

func (p *play) see(path string, v lab.Value) {
	p.engine.Observe(p.m.now, []lab.Sample{{ID: p.ids[path], Reading: good(p.m.now, v)}})
}

func (p *play) command(x *deed) *lab.Command {
	c := &lab.Command{ID: x.id, Run: x.run, Campaign: x.campaign, Principal: x.principal, Args: map[string]lab.Value{}}
	c.Target, _, _ = p.lab.ResolveCommand(paths[x.kind])
	exact := func(n int, unit string) lab.Value { // the decimal, not a quotient
		q, _ := lab.ParseQuantity(tenth(n) + " " + unit)
		return lab.NumberValue(q)
	}
	switch x.kind {
	case "dose_a", "dose_b":
		c.Args["volume"], c.Args["rate"] = exact(x.volume, "mL"), exact(10, "mL/min")
	case "heat":
		c.Args["target"] = exact(x.target, "degC")
	case "move":
		for _, a := range []string{"x", "y", "z"} {
			c.Args[a] = exact(0, "mm")
		}
	case "capture":
		c.Args["exposure"] = exact(200, "ms")
	case "stir":
		c.Args["speed"] = exact(4000, "rpm")
	}
	return c
}

// decide lets both answer, and compares them rule by rule.
func (p *play) decide(x *deed) {
	m := p.m
	x.decided, x.order, x.state = m.now, m.order, "open"
	x.moved = m.moved(x.target)
	var want, got []string
	for _, r := range m.rules {
		if r.refuses(m, x) && !m.bypassed[r.id].After(m.now) {
			want = append(want, r.id)
		}
	}
	d := p.engine.Decide(m.now, p.command(x), 1)
	for _, i := range d.Refusals {
		if !slices.Contains(got, i.Rule) {
			got = append(got, i.Rule)
		}
		p.nearest(x, i)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) || (d.Permit != nil) != (len(want) == 0) {
		p.Fatalf("%s %d %d of %s: the model refuses by %v, the engine by %v\n%v", x.kind, x.volume, x.target, x.run, want, got, d.Refusals)
	}
	if d.Permit != nil {
		m.deeds = append(m.deeds, x)
	}
}

// moved is how far a setpoint is moved; where nobody knows from where, and a
// bypass lets it pass, as far as may be.
func (m *model) moved(target int) int {
	far, known := m.distance(target)
	for _, r := range m.rules {
		if !known {
			far = max(far, r.change)
		}
	}
	return far
}

// nearest asks for the value that a refusal names: its rule has to allow it.
func (p *play) nearest(x *deed, i lab.Issue) {
	if i.Nearest == nil {
		return
	}
	c := p.command(x)
	c.ID += "-nearest"
	c.Args[strings.TrimPrefix(i.Path, "args.")] = *i.Nearest
	d := p.engine.Decide(p.m.now, c, 1)
	for _, o := range d.Refusals {
		if o.Rule == i.Rule {
			p.Fatalf("%s names %s as the nearest value, and then: %v", i.Rule, i.Nearest, o)
		}
	}
	p.engine.Done(p.m.now, c.ID, safety.NothingDone, nil)
}

// end ends an open deed, or settles one in doubt.
func (p *play) end(x *deed, how string) {
	m := p.m
	ends := map[string]safety.End{"doubt": safety.MaybeDone, "all": safety.AllDone, "part": safety.PartDone, "nothing": safety.NothingDone}
	var amount *lab.Quantity
	if how == "part" {
		x.part = rapid.IntRange(0, 30).Draw(p.T, "part")
		if x.kind != "dose_a" && x.kind != "dose_b" {
			x.part = 0
		}
		q, _ := lab.ParseQuantity(tenth(x.part) + " mL")
		amount = &q
	}
	if x.state == "doubt" {
		x.doubted = true
		p.engine.Settle(m.now, x.id, ends[how], amount)
		if how == "doubt" {
			return
		}
	} else {
		p.engine.Done(m.now, x.id, ends[how], amount)
	}
	x.state = how
	if how != "doubt" {
		x.ended, x.at = m.order, m.now
		for _, r := range m.rules {
			if r.claims != nil {
				m.claimEnds(r.claims, x)
			}
		}
	}
}

func (p *play) step() {
	m := p.m
	p.tick(time.Duration(rapid.SampledFrom([]int{0, 1, 100, 1500, 2500, 60000, 400000}).Draw(p.T, "wait")) * time.Millisecond)
	pick := func(state ...string) *deed {
		var list []*deed
		for _, x := range m.deeds {
			if slices.Contains(state, x.state) {
				list = append(list, x)
			}
		}
		if len(list) == 0 {
			return nil
		}
		return rapid.SampledFrom(list).Draw(p.T, "deed")
	}
	switch op := rapid.IntRange(0, 20).Draw(p.T, "op"); {
	case op < 9:
		kind := rapid.SampledFrom([]string{"dose_a", "dose_a", "dose_b", "heat", "heat", "move", "capture", "stir", "stop"}).Draw(p.T, "kind")
		p.decide(&deed{id: fmt.Sprint("c", m.order), kind: kind, run: rapid.SampledFrom([]string{"r1", "r2"}).Draw(p.T, "run"), campaign: rapid.SampledFrom([]string{"k1", "k2"}).Draw(p.T, "campaign"),
			principal: rapid.SampledFrom([]string{"p1", "p2"}).Draw(p.T, "principal"), volume: rapid.IntRange(1, 20).Draw(p.T, "volume"), target: rapid.IntRange(200, 900).Draw(p.T, "target")})
	case op < 13:
		if x := pick("open", "doubt"); x != nil {
			p.end(x, rapid.SampledFrom([]string{"all", "all", "all", "part", "nothing", "doubt"}).Draw(p.T, "how"))
		}
	case op < 15:
		v := rapid.IntRange(200, 900).Draw(p.T, "setpoint")
		m.setpoint = append(m.setpoint, sight{m.order, m.now, v})
		q, _ := lab.ParseQuantity(tenth(v) + " degC")
		p.see("reactor.jacket.setpoint", lab.NumberValue(q))
	case op < 16:
		v := rapid.IntRange(0, 1).Draw(p.T, "moving")
		m.moving = append(m.moving, sight{m.order, m.now, v})
		p.see("stage.moving", lab.BoolValue(v == 1))
	case op < 18:
		v := rapid.SampledFrom([]int{5, 5, 5, 2}).Draw(p.T, "airflow")
		m.airflow = append(m.airflow, sight{m.order, m.now, v})
		p.see("room.airflow", lab.NumberValue(lab.Q(float64(v)/10, "m/s")))
	case op < 19:
		run := rapid.SampledFrom([]string{"r1", "r2"}).Draw(p.T, "run")
		p.engine.Unscope(run)
		for _, r := range m.rules {
			for _, x := range m.deeds {
				if r.claims[x.kind] == "run" && x.run == run {
					x.until = true
					x.gone = x.gone || !x.undone()
				}
			}
		}
	case op < 20:
		p.bypass()
	default:
		rules := p.rules(rapid.Bool().Draw(p.T, "more"))
		p.engine.Reload(m.now, rules)
	}
	if rapid.Bool().Draw(p.T, "tick") {
		p.engine.Tick(m.now)
	}
}

// bypass asks for a bypass of any rule: never of one that says never.
func (p *play) bypass() {
	m := p.m
	if len(m.rules) == 0 {
		return
	}
	r := rapid.SampledFrom(m.rules).Draw(p.T, "bypass")
	until := m.now.Add(time.Duration(rapid.IntRange(1, 3000).Draw(p.T, "for")) * time.Second)
	err := p.engine.Bypass(m.now, safety.Bypass{Rule: r.id, By: "ito", Reason: "test", Until: until})
	if r.never && err == nil {
		p.Fatalf("%s says never, and is bypassed", r.id)
	}
	if err == nil {
		m.bypassed[r.id] = until
	}
}

// rules compiles the drawn rules for the engine.
func (p *play) rules(more bool) *safety.Rules {
	text := "interlocks: drawn\nrules:\n"
	for _, r := range p.m.rules {
		text += r.text
	}
	if more {
		text += "  - {id: more, limit: pump_a.dose.volume, max: 900 mL}\n"
	}
	if len(p.m.rules) == 0 && !more {
		text = "interlocks: drawn\nrules: []\n"
	}
	rules, is := safety.Parse("rules.yaml", []byte(text), p.lab)
	if len(is) > 0 {
		p.Fatalf("%v\n%s", is, text)
	}
	return rules
}

func newPlay(t *rapid.T, l *lab.Lab) *play {
	p := &play{T: t, lab: l, m: &model{now: t0, bypassed: map[string]time.Time{}}, ids: map[string]lab.PropertyID{}}
	for _, path := range []string{"reactor.jacket.setpoint", "stage.moving", "room.airflow"} {
		id, _, err := l.ResolveProperty(path)
		if err != nil {
			t.Fatal(err)
		}
		p.ids[path] = id
	}
	p.m.rules = drawn(t)
	p.engine = safety.NewEngine(l, p.rules(false), t0)
	return p
}
