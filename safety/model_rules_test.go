package safety_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// drawn draws rules of every kind that counts.
func drawn(t *rapid.T) (rules []modelRule) {
	add := func(id string, refuses func(*model, *deed) bool, format string, args ...any) {
		rules = append(rules, modelRule{id: id, refuses: refuses, text: "  - {id: " + id + ", " + fmt.Sprintf(format, args...) + "}\n"})
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "budgets") {
		kinds := rapid.SampledFrom([][]string{{"dose_a"}, {"dose_a", "dose_b"}, {"dose_b"}}).Draw(t, "terms")
		var terms []string
		for _, k := range kinds {
			terms = append(terms, paths[k]+".volume")
		}
		most := rapid.IntRange(5, 40).Draw(t, "max")
		per := rapid.SampledFrom([]string{"command", "run", "campaign", "principal", "day", "principal and day", "run and principal"}).Draw(t, "per")
		add(fmt.Sprint("budget-", i), func(m *model, c *deed) bool {
			if !slices.Contains(kinds, c.kind) {
				return false
			}
			return m.used(kinds, sameScope(per, c), window(per), volumeOf)+c.volume > most
		}, "budget: \"sum(%s) per %s\", max: %s mL", strings.Join(terms, ", "), per, tenth(most))
	}
	if rapid.Bool().Draw(t, "count") {
		most := rapid.IntRange(1, 4).Draw(t, "most")
		kinds := []string{"move", "capture"}
		add("count", func(m *model, c *deed) bool {
			return slices.Contains(kinds, c.kind) && m.used(kinds, sameScope("run", c), 0, func(*deed) int { return 1 })+1 > most
		}, "budget: \"count(stage.move, camera.capture) per run\", max: %d", most)
	}
	if rapid.Bool().Draw(t, "total") {
		most, together := rapid.IntRange(5, 40).Draw(t, "max"), rapid.Bool().Draw(t, "together")
		kinds := []string{"dose_a", "dose_b"}
		add("total", func(m *model, c *deed) bool {
			same := func(x *deed) bool { return together || x.kind == c.kind }
			return slices.Contains(kinds, c.kind) && m.used(kinds, same, 10*time.Minute, volumeOf)+c.volume > most
		}, "limit: \"pump_a.dose.volume, pump_b.dose.volume\", total: %s mL per 10 min, together: %t", tenth(most), together)
	}
	if rapid.Bool().Draw(t, "step") {
		step, change := rapid.IntRange(50, 300).Draw(t, "step"), rapid.IntRange(100, 900).Draw(t, "change")
		add("step", func(m *model, c *deed) bool {
			if c.kind != "heat" {
				return false
			}
			far, ok := m.distance(c.target)
			return !ok || far > step || m.used([]string{"heat"}, func(*deed) bool { return true }, 10*time.Minute, func(x *deed) int { return x.moved })+far > change
		}, "limit: reactor.heat.target, step: %s K, change: %s K per 10 min", tenth(step), tenth(change))
		rules[len(rules)-1].change = change
	}
	if rapid.Bool().Draw(t, "sequence") {
		rules = append(rules, drawSequence(t))
	}
	if rapid.Bool().Draw(t, "zone") {
		rules = append(rules, drawZone(t))
	}
	for i := range rules {
		if rules[i].never = rapid.Bool().Draw(t, "never"); rules[i].never {
			rules[i].text = strings.TrimSuffix(rules[i].text, "}\n") + ", bypass: never}\n"
		}
	}
	return rules
}

func tenth(n int) string { return fmt.Sprintf("%d.%d", n/10, n%10) }

func window(per string) time.Duration {
	if strings.Contains(per, "day") {
		return 24 * time.Hour
	}
	return 0
}

func sameScope(per string, c *deed) func(*deed) bool {
	return func(x *deed) bool {
		return per != "command" && (!strings.Contains(per, "run") || x.run == c.run) && (!strings.Contains(per, "campaign") || x.campaign == c.campaign) &&
			(!strings.Contains(per, "principal") || x.principal == c.principal)
	}
}

func drawSequence(t *rapid.T) modelRule {
	target := rapid.SampledFrom([]string{"dose_a", "move", "capture"}).Draw(t, "target")
	first := rapid.SampledFrom([]string{"stir", "heat"}).Draw(t, "after")
	not := rapid.SampledFrom([][]string{nil, {"dose_b"}, {"dose_a", "move"}, {"air"}, {"air", "dose_b"}}).Draw(t, "not_since")
	within := rapid.SampledFrom([]int{0, 0, 5, 20}).Draw(t, "within")
	text := fmt.Sprintf("sequence: %s, after: %s", paths[target], paths[first])
	if within > 0 {
		text += fmt.Sprintf(", within: %d min", within)
	}
	var list []string
	for _, k := range not {
		list = append(list, map[bool]string{true: "room.airflow < 0.3 m/s", false: paths[k]}[k == "air"])
	}
	if len(list) > 0 {
		text += ", not_since: [" + strings.Join(list, ", ") + "]"
	}
	return modelRule{id: "seq", text: "  - {id: seq, " + text + "}\n", refuses: func(m *model, c *deed) bool {
		if c.kind != target {
			return false
		}
		since, at := 0, time.Time{}
		for _, x := range m.deeds {
			if x.kind != first || x.state != "all" {
				continue
			}
			order, when := x.ended, x.at
			if x.doubted {
				order, when = x.order, x.decided
			}
			if order > since {
				since, at = order, when
			}
		}
		if since == 0 || within > 0 && m.now.Sub(at) > time.Duration(within)*time.Minute {
			return true
		}
		for _, k := range not {
			if k == "air" && m.badAir(since) {
				return true
			}
			for _, x := range m.deeds {
				if x.kind == k && (x.undone() || (x.state == "all" || x.state == "part") && x.ended > since) {
					return true
				}
			}
		}
		return false
	}}
}

// badAir reports whether the airflow was low, or not known, at any time since.
func (m *model) badAir(since int) bool {
	const age = 3 * time.Second
	if s, ok := m.latest(m.airflow, age); !ok || s.value < 3 {
		return true
	}
	for i, s := range m.airflow {
		if s.order < since {
			continue
		}
		if s.value < 3 || i == 0 || m.airflow[i-1].value < 3 || s.at.Sub(m.airflow[i-1].at) > age {
			return true
		}
	}
	return false
}

func drawZone(t *rapid.T) modelRule {
	claims := map[string]string{"move": "while", "capture": "done"}
	claims["dose_a"] = rapid.SampledFrom([]string{"", "stop", "run", "done"}).Draw(t, "dose_a")
	claims["dose_b"] = rapid.SampledFrom([]string{"", "run", "done"}).Draw(t, "dose_b")
	var list []string
	for _, k := range []string{"move", "capture", "dose_a", "dose_b"} {
		if w := claims[k]; w != "" {
			list = append(list, paths[k]+": "+map[string]string{"while": "while stage.moving", "done": "until done", "run": "until end of run", "stop": "until pump_a.stop"}[w])
		}
	}
	return modelRule{id: "zone", claims: claims, text: "  - {id: zone, zone: z, claim: {" + strings.Join(list, ", ") + "}}\n", refuses: func(m *model, c *deed) bool {
		if claims[c.kind] == "" {
			return false
		}
		for _, x := range m.deeds {
			if claims[x.kind] == "" || x.gone || x.state == "nothing" || x.kind == c.kind && x.run == c.run {
				continue
			}
			if s, ok := m.latest(m.moving, 2*time.Second); claims[x.kind] == "while" && !x.undone() && ok && s.value == 0 && !s.at.Before(x.at) {
				x.gone = true // at rest, and somebody asks
				for _, o := range m.deeds {
					if o.kind == x.kind && !o.undone() && !s.at.Before(o.at) {
						o.gone = true
					}
				}
				continue
			}
			return true
		}
		return false
	}}
}
