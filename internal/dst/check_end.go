package dst

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"time"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
	"labgate/runner"
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
	again := gw.Snapshot(now)
	c.same("the runner", text(runs), text(core.Snapshot(now)))
	c.same("the latches", text(live.Safety.Latches), text(again.Safety.Latches))
	if c.reloaded || s.clockWasOff {
		return // the sums of a rule that came later begin with what was known then; those of a time that was not go by it
	}
	c.same("the accounts of the rules", unused(text(live.Safety.Accounts)), unused(text(again.Safety.Accounts)))
}

func (c *checker) same(what, live, again string) {
	if live == again {
		return
	}
	if os.Getenv("SEED") != "" {
		os.WriteFile("/tmp/live.txt", []byte(live), 0o644)
		os.WriteFile("/tmp/again.txt", []byte(again), 0o644)
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
