package dst

import (
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
	"labgate/runner"
	"labgate/safety"
	"labgate/safety/preflight"
)

// allAnswered reports whether every proposal has its verdict.
func (c *checker) allAnswered() bool { return c.s.w.Unanswered() == 0 }

// atTheEnd looks at the whole once everything is over.
func (c *checker) atTheEnd() {
	c.oneVerdictEach()
	c.madeAgain()
	for _, n := range sortedKeys(c.instruments) {
		c.effects(c.instruments[n])
	}
}

// oneVerdictEach: the same proposal has the same answer, however often it came.
func (c *checker) oneVerdictEach() {
	for _, key := range sortedKeys(c.keyed) {
		if !c.keys[key] {
			c.breaks("D1", "a proposal was acknowledged, and the journal has no %s", key)
		}
	}
	for _, p := range c.s.site.principals {
		byKey := map[string]messages.Verdict{}
		for _, v := range c.s.w.Verdicts(p.Name) {
			if v.Key == "" || v.Decision == messages.RejectedDecision {
				continue
			}
			first, again := byKey[v.Key]
			if again && (first.Decision != v.Decision || first.Run != v.Run) {
				c.breaks("O2", "proposal %s of %s is %s as run %s and %s as run %s", v.Key, p.Name, first.Decision, first.Run, v.Decision, v.Run)
			}
			byKey[v.Key] = v
		}
	}
}

// effects holds the world's count of an instrument against the books: nothing
// has begun to run by itself, and nothing more often than it was sent.
func (c *checker) effects(in *instrument) {
	began := 0
	for _, k := range c.order {
		if k.Target.Instrument == in.Name && k.took && k.effect == lab.Effectful {
			began++
		}
	}
	if n := c.s.w.World().Count(in.Name); in.dosed > began || n.Doses > in.counted {
		c.breaks("S1", "%s has dosed %d times by the world's count, %d of them as something reached it; %d doses were sent", in.Name, n.Doses, in.counted, began)
	}
}

// madeAgain: the journal alone makes runner and gateway again.
func (c *checker) madeAgain() {
	s := c.s
	live, runs := s.w.Snapshots()
	if runs == nil {
		return // something is on its way to the journal
	}
	now := s.w.Now()
	core := runner.New(runner.Options{Lab: s.site.lab, Classes: s.site.classes, Library: s.site.library, Principals: s.site.principals, RulesHash: c.hash,
		Preflight: preflight.With(s.site.rules), IDs: noIDs{}, Approvals: s.site.approvals, MaxQueueEach: 4})
	gw, err := gateway.New(gateway.Options{Lab: s.site.lab, Name: s.site.lab.Instruments[0].Gateway, Rules: s.w.Rules()})
	if err != nil {
		c.breaks("O4", "%v", err)
		return
	}
	for _, e := range s.w.Entries() {
		if err := core.Restore(e); err != nil {
			c.breaks("O4", "the runner can't be made again: %v", err)
			return
		}
		if err := gw.Restore(e); err != nil {
			c.breaks("O4", "the gateway can't be made again: %v", err)
			return
		}
	}
	c.same("what is told of the runs", text(s.w.Runs()), text(core.Runs("")))
	again := gw.Snapshot(now)
	c.same("the runner", text(runs), text(core.Snapshot(now)))
	c.same("the latches", text(live.Safety.Latches), text(again.Safety.Latches))
	if c.reloaded || c.otherRules || s.clockWasOff {
		return // the sums of a rule that came later begin with what was known then, and so does a snapshot of them; those of a time that was not go by it
	}
	c.sums(live.Safety)
	c.same("the accounts of the rules", unused(text(live.Safety.Accounts)), unused(text(again.Safety.Accounts)))
}

// sums holds the accounts of budgets against what the outcomes say.
func (c *checker) sums(m *safety.Memory) {
	if c.otherRules {
		return
	}
	for _, r := range c.oracle.inForce().Rules {
		if r.Kind != safety.BudgetRule || slices.Contains(r.Budget.Per, safety.PerCommand) {
			continue
		}
		per := slices.Sorted(slices.Values(r.Budget.Per))
		key := "budget per"
		for i, p := range per {
			if i > 0 {
				key += " and"
			}
			key += " " + string(p)
		}
		plain := true
		for _, t := range r.Budget.Terms {
			key += "\x00" + t.Command.String() + "\x00" + t.Text
			plain = plain && t.Arg != "" && c.s.effectOf(t.Command) == lab.Effectful
		}
		for i := range m.Accounts {
			if a := &m.Accounts[i]; a.Key == key && plain {
				c.sum(r, a)
			}
		}
	}
}

// sum holds one account's ledgers against the commands that count on them.
func (c *checker) sum(r *safety.Rule, a *safety.Account) {
	said := map[[3]string]float64{}
	for _, k := range c.order {
		n, counted := c.oracle.costs(k, r)
		if !counted || k.state == "in doubt" {
			continue
		}
		var who [3]string
		for _, p := range r.Budget.Per {
			switch p {
			case safety.PerRun:
				who[0] = k.Run
			case safety.PerCampaign:
				who[1] = k.Campaign
			case safety.PerPrincipal:
				who[2] = k.Principal
			}
		}
		said[who] += n
	}
	for _, l := range a.Ledgers {
		q := lab.Quantity{Value: (float64(l.Spent[0])*math.Exp2(64) + float64(l.Spent[1])) * math.Pow10(a.Exp), Unit: r.Budget.Max.Unit}
		want := said[[3]string{l.Run, l.Campaign, l.Principal}]
		if math.Abs(q.Base()-want) > 1e-6*(want+1e-12) {
			c.breaks("S10", "%s counts %g for %s%s%s, and the outcomes say %g", r.ID, q.Base(), l.Run, l.Campaign, l.Principal, want)
		}
		delete(said, [3]string{l.Run, l.Campaign, l.Principal})
	}
	for who, n := range said {
		if n > 0 {
			c.breaks("S10", "%s counts nothing for %v, and the outcomes say %g", r.ID, who, n)
		}
	}
}

func (c *checker) same(what, live, again string) {
	if live == again {
		return
	}
	a, b := strings.Split(live, "\n"), strings.Split(again, "\n")
	for i := range max(len(a), len(b)) {
		x, y := line(a, i), line(b, i)
		if x != y {
			c.breaks("O4", "the journal makes %s again another way, at line %d: %s; it was %s", what, i+1, y, x)
			return
		}
	}
}

func line(list []string, n int) string {
	if n < len(list) {
		return strings.TrimSpace(list[n])
	}
	return "nothing"
}

func text(x any) string {
	b, err := json.MarshalIndent(x, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}

var used = regexp.MustCompile(`"used": "[^"]*"`)

// unused drops when ledgers were last looked at: that only says which of
// thousands is forgotten first.
func unused(text string) string { return used.ReplaceAllString(text, "") }

// noIDs makes no ids: a core that is only restored asks for none.
type noIDs struct{}

func (noIDs) New(time.Time) string { panic("dst: an id is made in a restore") }
