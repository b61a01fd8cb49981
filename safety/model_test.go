package safety_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"labgate/lab"
	"labgate/safety"
)

// This file holds a model of the rules that count: it keeps everything that
// ever happened in one list, and works every answer out anew from all of it, in
// whole tenths. It shares nothing with the engine.

// deed is one command of the model.
type deed struct {
	id                       string
	kind                     string // dose_a, dose_b, heat, move, capture, stir, stop
	run, campaign, principal string
	volume, target           int // tenths of a mL, tenths of a degC
	decided                  time.Time
	order, ended             int // the model's order of happenings
	at                       time.Time
	state                    string // open, doubt, all, part, nothing
	part                     int
	doubted                  bool
	moved                    int  // tenths of a kelvin, for changes
	gone, until              bool // its claim is over; what it waited for has come
}

func (x *deed) undone() bool { return x.state == "open" || x.state == "doubt" }

var paths = map[string]string{"dose_a": "pump_a.dose", "dose_b": "pump_b.dose", "heat": "reactor.heat", "move": "stage.move", "capture": "camera.capture", "stir": "reactor.stir", "stop": "pump_a.stop"}

// modelRule is one rule, as text and as what it means.
type modelRule struct {
	id, text string
	refuses  func(m *model, c *deed) bool
	claims   map[string]string // zone
	never    bool              // bypass: never
	change   int               // step: the most that it may change, in tenths of a kelvin
}

type sight struct {
	order int
	at    time.Time
	value int
}

// model is the lab as it really was.
type model struct {
	rules    []modelRule
	deeds    []*deed
	now      time.Time
	order    int
	setpoint []sight
	moving   []sight
	airflow  []sight
	bypassed map[string]time.Time // until when
}

func (m *model) latest(s []sight, maxAge time.Duration) (sight, bool) {
	if len(s) == 0 || m.now.Sub(s[len(s)-1].at) > maxAge {
		return sight{}, false
	}
	return s[len(s)-1], true
}

// inForce lists what may be in force of the reactor's setpoint.
func (m *model) inForce() (values []int, known bool) {
	s, ok := m.latest(m.setpoint, 2*time.Second)
	if !ok {
		return nil, false
	}
	values = append(values, s.value)
	for _, x := range m.deeds {
		if x.kind == "heat" && x.state != "nothing" && (x.undone() || s.at.Before(x.at)) {
			values = append(values, x.target)
		}
	}
	return values, true
}

func (m *model) distance(target int) (int, bool) {
	values, ok := m.inForce()
	far := 0
	for _, v := range values {
		far = max(far, v-target, target-v)
	}
	return far, ok
}

// used adds up over all deeds of some kinds.
func (m *model) used(kinds []string, same func(*deed) bool, per time.Duration, amount func(*deed) int) (sum int) {
	for _, x := range m.deeds {
		if !slices.Contains(kinds, x.kind) || x.state == "nothing" || !same(x) {
			continue
		}
		if per > 0 && !x.undone() && m.now.Sub(x.at) >= per {
			continue
		}
		sum += amount(x)
	}
	return sum
}

func volumeOf(x *deed) int {
	if x.state == "part" {
		return x.part
	}
	return x.volume
}

// claimEnds notes what the end of a deed means for claims.
func (m *model) claimEnds(claims map[string]string, x *deed) {
	w := claims[x.kind]
	if x.state == "nothing" || w == "done" || (w == "run" || w == "stop") && x.until {
		x.gone = true
	}
	if x.kind == "stop" && x.state == "all" {
		for _, o := range m.deeds {
			if claims[o.kind] == "stop" && o.order < x.order {
				o.until = true
				o.gone = o.gone || !o.undone()
			}
		}
	}
}

// No set of allowed commands breaks a rule together, whatever became of each;
// nothing is refused that breaks none; and every nearest value is a legal one.
func TestEngineIsTheModel(t *testing.T) {
	l := unlimited(t)
	rapid.Check(t, func(t *rapid.T) {
		p := newPlay(t, l)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			p.step()
		}
	})
}

// unlimited is the demo lab without limits of its own.
func unlimited(t testing.TB) *lab.Lab {
	l := demo(t).Lab
	for _, in := range l.Instruments {
		in.Limits = nil
	}
	return l
}

// A gateway that starts again from its journal allows nothing that it would not
// have allowed without a restart.
func TestRestartAllowsNoMore(t *testing.T) {
	l := unlimited(t)
	rapid.Check(t, func(t *rapid.T) {
		p := newPlay(t, l)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			p.step()
		}
		m := p.m
		again := safety.NewEngine(l, p.rules(false), m.now)
		for _, b := range p.engine.Bypasses() {
			again.RestoreBypass(b)
		}
		type entry struct {
			order int
			do    func()
		}
		var journal []entry
		for _, x := range m.deeds {
			journal = append(journal, entry{x.order, func() { again.Remember(x.decided, p.command(x)) }})
			var part *lab.Quantity
			if x.state == "part" {
				q, _ := lab.ParseQuantity(tenth(x.part) + " mL")
				part = &q
			}
			if end, ok := map[string]safety.End{"all": safety.AllDone, "part": safety.PartDone, "nothing": safety.NothingDone}[x.state]; ok {
				journal = append(journal, entry{x.ended, func() { again.Settle(x.at, x.id, end, part) }})
			}
		}
		slices.SortStableFunc(journal, func(a, b entry) int { return a.order - b.order })
		for _, e := range journal {
			e.do()
		}
		for range 5 {
			x := &deed{id: "probe", kind: rapid.SampledFrom([]string{"dose_a", "dose_b", "heat", "move", "capture"}).Draw(t, "kind"), run: "r1", campaign: "k1", principal: "p1",
				volume: rapid.IntRange(1, 20).Draw(t, "volume"), target: rapid.IntRange(200, 900).Draw(t, "target")}
			a := p.engine.Decide(m.now, p.command(x), 1)
			allowed := a.Permit != nil
			p.engine.Done(m.now, x.id, safety.NothingDone, nil)
			if b := again.Decide(m.now, p.command(x), 1); b.Permit != nil && !allowed {
				t.Fatalf("%s is allowed after a restart; before: %v", x.kind, a.Refusals)
			}
			again.Done(m.now, x.id, safety.NothingDone, nil)
		}
	})
}

// A memory that went through a file says all that it said, and an engine that
// recalls it allows nothing that the one did not which it was taken of.
func TestMemory(t *testing.T) {
	l := unlimited(t)
	everything := func(string) bool { return true }
	rapid.Check(t, func(t *rapid.T) {
		p := newPlay(t, l)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			p.step()
		}
		text := asJSON(t, p.engine.Memory(p.m.now, everything))
		var mem safety.Memory
		if err := json.Unmarshal(text, &mem); err != nil {
			t.Fatal(err)
		}
		again := safety.NewEngine(l, p.engine.Rules(), p.m.now)
		if err := again.Recall(&mem); err != nil {
			t.Fatal(err)
		}
		used := regexp.MustCompile(`"used":"[^"]*"`) // a sum that is counted on is in use now
		want, got := used.ReplaceAllString(string(text), ""), used.ReplaceAllString(string(asJSON(t, again.Memory(p.m.now, everything))), "")
		if got != want {
			t.Fatalf("remembered\n%s\nrecalled\n%s", want, got)
		}
		for path, seen := range map[string][]sight{"reactor.jacket.setpoint": p.m.setpoint, "stage.moving": p.m.moving, "room.airflow": p.m.airflow} {
			if len(seen) > 0 {
				r := p.engine.Reading(p.ids[path])
				again.Observe(p.m.now, []lab.Sample{{ID: p.ids[path], Reading: r}})
			}
		}
		for range 5 {
			x := &deed{id: "probe", kind: rapid.SampledFrom([]string{"dose_a", "dose_b", "heat", "move", "capture"}).Draw(t, "kind"), run: "r1", campaign: "k1", principal: "p1",
				volume: rapid.IntRange(1, 20).Draw(t, "volume"), target: rapid.IntRange(200, 900).Draw(t, "target")}
			a := p.engine.Decide(p.m.now, p.command(x), 1)
			allowed := a.Permit != nil
			p.engine.Done(p.m.now, x.id, safety.NothingDone, nil)
			if b := again.Decide(p.m.now, p.command(x), 1); b.Permit != nil && !allowed {
				t.Fatalf("%s is allowed by the memory; before: %v", x.kind, a.Refusals)
			}
			again.Done(p.m.now, x.id, safety.NothingDone, nil)
		}
	})
}

func asJSON(t *rapid.T, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A memory that was taken under other rules is refused.
func TestMemoryOfOtherRules(t *testing.T) {
	l := unlimited(t)
	rapid.Check(t, func(t *rapid.T) {
		p := newPlay(t, l)
		p.step()
		mem := p.engine.Memory(p.m.now, func(string) bool { return true })
		mem.Accounts = append(mem.Accounts, mem.Accounts...)
		if len(mem.Accounts) == 0 {
			t.Skip("no rule counts")
		}
		if err := safety.NewEngine(l, p.engine.Rules(), p.m.now).Recall(mem); lab.KindOf(err) != lab.KindConflict {
			t.Fatal(err)
		}
	})
}

// Adding rules of any kind never allows more.
func TestMoreRulesOfAnyKind(t *testing.T) {
	l := unlimited(t)
	rapid.Check(t, func(t *rapid.T) {
		p := newPlay(t, l)
		extra := drawn(t)
		for i := range extra {
			extra[i].text = strings.Replace(extra[i].text, "{id: ", "{id: x", 1)
			extra[i].text = strings.Replace(extra[i].text, "zone: z,", "zone: y,", 1)
		}
		few := p.engine
		p.m.rules = append(p.m.rules, extra...)
		many := safety.NewEngine(l, p.rules(false), t0)
		for step := range rapid.IntRange(1, 30).Draw(t, "steps") {
			p.tick(time.Duration(rapid.SampledFrom([]int{0, 100, 1500, 60000}).Draw(t, "wait")) * time.Millisecond)
			if rapid.Bool().Draw(t, "read") {
				path := rapid.SampledFrom([]string{"reactor.jacket.setpoint = 40 degC", "stage.moving = false", "stage.moving = true", "room.airflow = 0.5 m/s"}).Draw(t, "reading")
				name, v, _ := strings.Cut(path, " = ")
				for _, e := range []*safety.Engine{few, many} {
					e.Observe(p.m.now, []lab.Sample{{ID: p.ids[name], Reading: good(p.m.now, value(v))}})
				}
				continue
			}
			x := &deed{id: fmt.Sprint("c", step), kind: rapid.SampledFrom([]string{"dose_a", "dose_b", "heat", "move", "capture", "stir", "stop"}).Draw(t, "kind"),
				run: rapid.SampledFrom([]string{"r1", "r2"}).Draw(t, "run"), volume: rapid.IntRange(1, 20).Draw(t, "volume"), target: rapid.IntRange(200, 900).Draw(t, "target")}
			a := few.Decide(p.m.now, p.command(x), 1)
			b := many.Decide(p.m.now, p.command(x), 1)
			if a.Permit == nil && b.Permit != nil {
				t.Fatalf("with fewer rules it is refused: %v; with more it passes", a.Refusals)
			}
			end := rapid.SampledFrom([]safety.End{safety.AllDone, safety.MaybeDone, safety.NothingDone}).Draw(t, "end")
			if b.Permit == nil {
				end = safety.NothingDone // both go on from the same past
			}
			few.Done(p.m.now, x.id, end, nil)
			many.Done(p.m.now, x.id, end, nil)
		}
	})
}
