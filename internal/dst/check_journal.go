package dst

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"labgate/internal/twin"
	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
)

// written takes an entry that became durable into the books.
func (c *checker) written(w twin.Written) {
	c.chained(w)
	c.keep(w)
}

// keep takes an entry into the books.
func (c *checker) keep(w twin.Written) {
	e := w.Entry
	c.plain(e)
	if e.Time.After(c.last) {
		c.last = e.Time
	}
	switch e.Kind {
	case "allow/v1":
		var b struct {
			Hash string `json:"rules_hash"`
		}
		c.parse(e, &b)
		c.page(e).rules = b.Hash
	case "intent/v1":
		c.intended(w)
	case "outcome/v1":
		c.ended(e)
	case "denial/v1":
		c.page(e).state = "over"
	case "lease/v1":
		c.leased(e)
	case "trip/v1":
		l := &safety.Latch{}
		c.parse(e, l)
		c.latches[l.Rule] = l
	case "stop/v1":
		var b struct{ Latch safety.Latch }
		c.parse(e, &b)
		c.latches[b.Latch.Rule] = &b.Latch
	case "reset/v1":
		var b struct{ Rule string }
		c.parse(e, &b)
		c.byPerson(e, e.Principal, "resets "+b.Rule)
		delete(c.latches, b.Rule)
		delete(c.latching, b.Rule)
		delete(c.oracle.tripped, b.Rule)
		delete(c.oracle.triggers, b.Rule)
	case "order/v1":
		c.orders[e.Instrument]++
	case "bypass/v1":
		c.byPerson(e, e.Principal, "sets a rule aside")
	case "rules/v1":
		var b struct{ Hash string }
		c.parse(e, &b)
		if b.Hash != "" && b.Hash != c.hash {
			c.hash, c.otherRules = b.Hash, c.seq > 1
			c.oracle.again(false)
		}
	default:
		c.ofRun(e)
	}
}

func (c *checker) parse(e lab.Entry, into any) {
	if err := json.Unmarshal(e.Body, into); err != nil {
		c.breaks("O4", "a %s entry can't be read: %v", e.Kind, err)
	}
}

// page is the page of an entry's command.
func (c *checker) page(e lab.Entry) *command {
	k := c.commands[e.Command]
	if k == nil {
		k = &command{Command: lab.Command{ID: e.Command, Target: lab.CommandID{Instrument: e.Instrument}}}
		c.commands[e.Command] = k
	}
	return k
}

// chained computes the chain again: the journal's word for it is not taken.
func (c *checker) chained(w twin.Written) {
	c.seq++
	sum := sha256.Sum256([]byte(c.head + "\n" + string(w.Row)))
	c.head = hex.EncodeToString(sum[:])
	if w.Ref.Seq != c.seq || w.Ref.Hash != c.head {
		c.breaks("D2", "entry %d (%s) is not chained to the one before it", c.seq, w.Entry.Kind)
	}
	if k := w.Entry.Key; k != "" {
		if c.keys[k] {
			c.breaks("O2", "the journal has key %s twice", k)
		}
		c.keys[k] = true
	}
}

// plain: what stands in an entry's fields comes from files and ids, never from
// what somebody wrote into a text.
func (c *checker) plain(e lab.Entry) {
	if e.Instrument != "" && c.instruments[e.Instrument] == nil {
		c.breaks("A3", "a %s entry is about %q, which is no instrument", e.Kind, e.Instrument)
	}
	if e.Principal != "" && c.s.role(e.Principal) == "" && e.Principal != "test" && e.Principal != "SIGHUP" {
		c.breaks("A3", "a %s entry is by %q, who is nobody", e.Kind, e.Principal)
	}
}

func (c *checker) intended(w twin.Written) {
	e := w.Entry
	var b struct{ Component, Name, Hash string }
	c.parse(e, &b)
	k := c.page(e)
	if k.intent > 0 {
		c.breaks("S1", "command %s has two intents", k.ID)
	}
	if k.rules == "" {
		c.breaks("S5", "command %s has an intent and no allow before it", k.ID)
	}
	if k.handed {
		c.breaks("S2", "the intent of %s is durable after it was sent", k.ID)
	}
	k.intent, k.hash, k.state = w.Ref.Seq, b.Hash, "intended"
	if c.blind {
		k.Target.Component, k.Target.Command = b.Component, b.Name
		k.effect = c.s.effectOf(k.Target)
	}
	c.order = append(c.order, k)
}

// ended takes what became of a command.
func (c *checker) ended(e lab.Entry) {
	var b struct {
		lab.Outcome
		End string
	}
	c.parse(e, &b)
	k := c.page(e)
	resolved := b.State == lab.Resolved
	if k.outcome != nil && !resolved && k.outcome.State != lab.InDoubt {
		c.breaks("O2", "command %s has the outcomes %s and %s", k.ID, k.outcome.State, b.State)
	}
	if by := e.Labels["resolved_by"]; by != "" {
		c.byPerson(e, by, "settles a doubt")
	} else if resolved && k.effect == lab.Effectful && k.intent > 0 {
		c.breaks("S3", "the doubt about %s %s is settled by nobody: %s", k.Target, k.ID, b.Say)
	}
	if b.State == lab.NotSent && k.touched > 0 && k.effect != lab.Safe {
		c.breaks("S1", "command %s is said not to have been sent, and it has reached its instrument", k.ID)
	}
	if !c.blind && b.State == lab.Confirmed && k.effect == lab.Effectful && !k.took && k.intent > 0 {
		c.breaks("S10", "command %s is said to be confirmed, and it was never carried out", k.ID)
	}
	if spec := c.s.site.lab.CommandSpec(k.Target); b.State == lab.Failed && b.Kind == lab.KindOutcomeUnknown && k.took && spec != nil && spec.StopsWith == "" && spec.Effect == lab.Effectful {
		c.breaks("S3", "command %s is said to have failed, and it was carried out: %s", k.ID, b.Say)
	}
	k.outcome, k.end, k.state = &b.Outcome, b.End, "over"
	if b.State == lab.InDoubt {
		k.state = "in doubt"
	}
}

// byPerson: only people may do this.
func (c *checker) byPerson(e lab.Entry, who, what string) {
	if role := c.s.role(who); role != "operator" && role != "safety" {
		c.breaks("A2", "%s, whose role is %q, %s (%s)", who, role, what, e.Kind)
	}
}

func (c *checker) leased(e lab.Entry) {
	var b struct {
		What  string
		Lease uint64
	}
	c.parse(e, &b)
	in := c.instruments[e.Instrument]
	switch b.What {
	case "take":
		switch {
		case b.Lease <= in.fence:
			c.breaks("S8", "%s is leased under number %d; %d was given before", in.Name, b.Lease, in.fence)
		case in.holder != "" && in.holder != e.Run:
			c.breaks("S8", "%s is leased to run %s while run %s holds it", in.Name, e.Run, in.holder)
		}
		in.fence, in.lease, in.holder, in.asked = b.Lease, b.Lease, e.Run, c.now
	default:
		if b.What == "lost" && in.OnLeaseLoss == "safe" && in.linked && len(in.Safe) > 0 {
			c.stops = append(c.stops, &stop{instrument: in.Name, at: c.truly(e.Time), by: c.now.Add(stopBound), id: "lease lost"})
		}
		if b.Lease == in.lease {
			in.holder = ""
		}
	}
}

// ofRun takes what is about a run, and no command.
func (c *checker) ofRun(e lab.Entry) {
	if e.Run == "" {
		return
	}
	r := c.run(e.Run)
	r.durable[e.Kind]++
	switch e.Kind {
	case "verdict/v1":
		var b struct {
			Decision  string
			Principal string
			Hashes    messages.Hashes
		}
		c.parse(e, &b)
		r.protocol = b.Hashes.Protocol
		r.principal, r.state, r.needs = b.Principal, "queued", b.Decision == "needs_approval"
		if r.needs {
			r.state = "needs approval"
		}
	case "approval/v1":
		var b struct{ Decision string }
		c.parse(e, &b)
		c.byPerson(e, e.Principal, "approves a run")
		r.approved[e.Principal] = true
		r.state = "queued"
	case "start/v1":
		r.starts++
		r.state = "running"
		if r.starts > 1 {
			c.breaks("O2", "run %s has begun twice", e.Run)
		}
	case "run_held/v1":
		r.state = "held"
	case "run_resumed/v1":
		c.resumed(e, r)
	case "stop_document/v1":
		r.state = "ended"
	}
}

// resumed: a run goes on by a person's word, or by itself where protocol and
// lab both allow it.
func (c *checker) resumed(e lab.Entry, r *run) {
	role := c.s.role(e.Principal)
	byItself := c.s.site.lab.Runs.ContinueAfterRestart && c.s.continues(e.Run)
	if r.asleep && role != "operator" && role != "safety" && role != "scientist" && !byItself {
		c.breaks("S11", "run %s goes on after a restart by the word of %s, whose role is %q", e.Run, e.Principal, role)
	}
	r.asleep, r.state = false, "running"
}

// overdue looks at what should have happened by now.
func (c *checker) overdue() {
	if c.now.Before(c.pausedTill) || !c.up {
		return
	}
	for _, in := range c.instruments {
		if in.holder == "" || in.asked.IsZero() || c.failed || c.s.disk.stall > 0 || c.s.off != 0 {
			continue
		}
		if late := c.now.Sub(in.asked) - in.ttl; late > 5*time.Second && c.now.Sub(c.pausedTill) > 5*time.Second {
			c.breaks("S8", "run %s has not asked for its lease on %s for %s, and holds it still", in.holder, in.Name, c.now.Sub(in.asked))
		}
	}
	c.stops = slices.DeleteFunc(c.stops, func(s *stop) bool {
		if c.now.Before(s.by) {
			return false
		}
		c.stopDue(s)
		return true
	})
}

// truly is when an entry was made, by the clock that is always right. One that
// was made before the clock was set can't be told by it; it was made by now.
func (c *checker) truly(stamp time.Time) time.Time {
	if at := stamp.Add(-c.s.off); at.Before(c.now) {
		return at
	}
	return c.now
}
