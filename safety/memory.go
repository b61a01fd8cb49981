package safety

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"labgate/lab"
)

// Memory is what an engine knows that no reading will tell it again: what was
// counted, what happened in which order, what may be in force, who holds which
// zone, what is latched and bypassed. It is a copy that shares
// nothing with the engine, fit for JSON, and fits only the rules and the lab
// that it was taken under.
//
// It holds no readings, no windows of expressions and no permits: after a
// start those begin anew, as they do after a full reading of the journal.
type Memory struct {
	Order    uint64                  `json:"order"`
	High     time.Time               `json:"high"`
	Latches  []keptLatch             `json:"latches,omitempty"`
	Bypasses []Bypass                `json:"bypasses,omitempty"`
	Accounts []Account               `json:"accounts,omitempty"` // in the order of the rules
	Past     []keptPast              `json:"past,omitempty"`
	Settings map[string]*keptSetting `json:"settings,omitempty"`
	Claims   []keptClaim             `json:"claims,omitempty"` // of commands that are over
	Flights  []keptFlight            `json:"flights,omitempty"`
	History  []keptDone              `json:"history,omitempty"`
}

type keptLatch struct {
	Latch
	Mitigated map[string]string `json:"mitigated,omitempty"`
}

// Account is one sum that a rule keeps: amounts are whole numbers of 10^Exp in
// the unit of its bound.
type Account struct {
	Key     string    `json:"key"`
	Exp     int       `json:"exp"` // of a grain: amounts are whole numbers of 10^exp
	Floor   [2]uint64 `json:"floor"`
	Evicted time.Time `json:"evicted,omitzero"`
	Ledgers []Ledger  `json:"ledgers,omitempty"`
}

// Ledger is the sum of one run, campaign or principal, as far as the rule asks
// for them; Spent is its high and its low 64 bits.
type Ledger struct {
	Run       string      `json:"run,omitempty"`
	Campaign  string      `json:"campaign,omitempty"`
	Principal string      `json:"principal,omitempty"`
	Spent     [2]uint64   `json:"spent"`
	Used      time.Time   `json:"used"`
	Entries   []keptEntry `json:"entries,omitempty"`
}

type keptEntry struct {
	At time.Time `json:"at"`
	N  int64     `json:"n"`
}

type keptPast struct {
	Command   lab.CommandID `json:"command"`
	Last      uint64        `json:"last"`
	Confirmed uint64        `json:"confirmed"`
	At        time.Time     `json:"at,omitzero"`
}

type keptSetting struct {
	Last  *lab.Quantity `json:"last,omitempty"`
	Maybe []keptInForce `json:"maybe,omitempty"`
}

type keptInForce struct {
	Command string        `json:"command,omitempty"`
	Value   *lab.Quantity `json:"value,omitempty"` // nil: nobody can say
	Over    time.Time     `json:"over"`
}

type keptClaim struct {
	Target  lab.CommandID `json:"target"`
	Check   int           `json:"check"` // its place among the checks of the target
	Command string        `json:"command"`
	Run     string        `json:"run,omitempty"`
	Serial  uint64        `json:"serial"`
	Over    time.Time     `json:"over"`
	Ended   bool          `json:"ended,omitempty"`
}

// keptFlight is a command without an outcome, or one whose outcome left open
// what it did: it counts the worse way until somebody settles it.
type keptFlight struct {
	ID        string               `json:"id"`
	Target    lab.CommandID        `json:"target"`
	Run       string               `json:"run,omitempty"`
	Campaign  string               `json:"campaign,omitempty"`
	Principal string               `json:"principal,omitempty"`
	Serial    uint64               `json:"serial"`
	Decided   time.Time            `json:"decided"`
	Args      map[string]lab.Value `json:"args,omitempty"`
	Charges   []int64              `json:"charges,omitempty"`
	Ended     []bool               `json:"ended,omitempty"` // of its claims, what they last until has come
}

type keptDone struct {
	Target    lab.CommandID        `json:"target"`
	Run       string               `json:"run,omitempty"`
	Campaign  string               `json:"campaign,omitempty"`
	Principal string               `json:"principal,omitempty"`
	Args      map[string]lab.Value `json:"args,omitempty"`
	Part      *lab.Quantity        `json:"part,omitempty"` // nil: all of it
	Over      time.Time            `json:"over"`
}

// Memory takes what must be known after a start at now, with those of the
// commands without an end that open names.
func (e *Engine) Memory(now time.Time, open func(command string) bool) *Memory {
	m := &Memory{Order: e.order, High: e.high, Bypasses: e.Bypasses(), Settings: map[string]*keptSetting{}}
	for _, l := range e.latches {
		k := keptLatch{Latch: *l, Mitigated: map[string]string{}}
		for name, id := range l.mitigated {
			k.Mitigated[name] = id
		}
		m.Latches = append(m.Latches, k)
	}
	for _, a := range e.accounts {
		m.Accounts = append(m.Accounts, a.keep(now))
	}
	for id, g := range e.guards {
		if p := g.past; p.last != 0 || p.confirmed != 0 {
			m.Past = append(m.Past, keptPast{id, p.last, p.confirmed, p.at})
		}
	}
	for key, s := range e.settings {
		m.Settings[key] = s.keep()
	}
	for _, z := range e.zones {
		for _, c := range z.claims {
			if !c.over.IsZero() {
				m.Claims = append(m.Claims, keptClaim{c.keep.target, e.checkOf(c.keep), c.command, c.run, c.serial, c.over, c.ended})
			}
		}
	}
	slices.SortFunc(m.Claims, func(a, b keptClaim) int {
		return cmp.Or(cmp.Compare(a.Serial, b.Serial), cmp.Compare(a.Command, b.Command), cmp.Compare(a.Check, b.Check))
	})
	slices.SortFunc(m.Past, func(a, b keptPast) int { return cmp.Compare(a.Command.String(), b.Command.String()) })
	m.Flights = e.keepOpen(open)
	e.past.each(func(d *done) { m.History = append(m.History, e.keepDone(d)) })
	return m
}

func (a *account) keep(now time.Time) Account {
	k := Account{Key: a.key, Exp: a.grain.exp, Floor: [2]uint64{a.floor.hi, a.floor.lo}, Evicted: a.evicted}
	for w, l := range a.ledgers {
		l.expire(now, a.per)
		if l.spent == (sum{}) && a.floor == (sum{}) {
			continue // what only commands under way count on comes back with them
		}
		x := Ledger{Run: w.run, Campaign: w.campaign, Principal: w.principal, Spent: [2]uint64{l.spent.hi, l.spent.lo}, Used: l.used}
		for _, n := range l.entries[l.first:] {
			x.Entries = append(x.Entries, keptEntry{n.at, n.n})
		}
		k.Ledgers = append(k.Ledgers, x)
	}
	slices.SortFunc(k.Ledgers, func(a, b Ledger) int {
		return cmp.Or(cmp.Compare(a.Run, b.Run), cmp.Compare(a.Campaign, b.Campaign), cmp.Compare(a.Principal, b.Principal))
	})
	return k
}

func (s *setting) keep() *keptSetting {
	k := &keptSetting{}
	if s.last != nil {
		q := *s.last
		k.Last = &q
	}
	for _, x := range s.maybe {
		if x.by != nil {
			continue
		}
		f := keptInForce{Command: x.id, Over: x.over}
		if !x.opaque {
			f.Value = &x.value
		}
		k.Maybe = append(k.Maybe, f)
	}
	return k
}

// checkOf is the place of a claim among the checks of its command.
func (e *Engine) checkOf(k *keep) int {
	return slices.IndexFunc(e.guards[k.target].checks, func(c check) bool { return c.claim == k })
}

func (e *Engine) keepOpen(open func(string) bool) []keptFlight {
	var list []keptFlight
	for id, f := range e.flights {
		if !open(id) {
			continue
		}
		k := keptFlight{ID: id, Target: f.guard.target, Run: f.run, Campaign: f.campaign, Principal: f.principal, Serial: f.serial, Decided: f.decided, Args: f.guard.values(f.args)}
		for _, c := range f.charges {
			k.Charges = append(k.Charges, c.n)
		}
		for _, c := range f.claims {
			k.Ended = append(k.Ended, c.ended)
		}
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b keptFlight) int { return cmp.Or(cmp.Compare(a.Serial, b.Serial), cmp.Compare(a.ID, b.ID)) })
	return list
}

// values names the arguments that rules look at.
func (g *guard) values(args []argument) map[string]lab.Value {
	m := map[string]lab.Value{}
	for i, a := range g.args {
		if i < len(args) && args[i].reading.Value.Usable() {
			m[a.name] = args[i].reading.Value
		}
	}
	return m
}

func (e *Engine) keepDone(d *done) keptDone {
	k := keptDone{Target: d.target, Run: d.run, Campaign: d.campaign, Principal: d.principal, Over: d.over}
	if g := e.guards[d.target]; g != nil {
		k.Args = g.values(d.args)
	}
	if d.end == PartDone {
		q := d.amount
		k.Part = &q
	}
	return k
}

// Recall puts a memory into an engine that has seen nothing yet. An error means
// that it does not fit this lab and these rules; the engine is of no use then.
func (e *Engine) Recall(m *Memory) error {
	e.high = m.High
	for i := range m.Latches {
		k := &m.Latches[i]
		e.RestoreLatch(k.Latch)
		for _, l := range e.latches {
			if l.Rule == k.Rule && l.Since.Equal(k.Since) {
				l.mitigated = k.Mitigated
			}
		}
	}
	for _, b := range m.Bypasses {
		e.RestoreBypass(b)
	}
	e.order = m.Order // what comes now came before anything that is to come
	for _, step := range []func(*Memory) error{e.recallSums, e.recallPast, e.recallFlights} {
		if err := step(m); err != nil {
			return lab.E("safety: recall", "", lab.KindConflict, err)
		}
	}
	return nil
}

func (e *Engine) recallSums(m *Memory) error {
	if len(m.Accounts) != len(e.accounts) {
		return fmt.Errorf("the memory counts %d sums, the rules %d", len(m.Accounts), len(e.accounts))
	}
	for i, k := range m.Accounts {
		a := e.accounts[i]
		if a.key != k.Key || a.grain.exp != k.Exp {
			return fmt.Errorf("the memory counts %q where the rules count %q", k.Key, a.key)
		}
		a.floor, a.evicted = sum{k.Floor[0], k.Floor[1]}, k.Evicted
		for _, x := range k.Ledgers {
			l := &ledger{spent: sum{x.Spent[0], x.Spent[1]}, used: x.Used}
			for _, n := range x.Entries {
				l.entries = append(l.entries, entry{n.At, n.N})
			}
			a.ledgers[who{x.Run, x.Campaign, x.Principal}] = l
		}
	}
	return nil
}

func (e *Engine) recallPast(m *Memory) error {
	for _, k := range m.Past {
		g := e.guards[k.Command]
		if g == nil {
			return fmt.Errorf("the lab has no command %s", k.Command)
		}
		g.past.last, g.past.confirmed, g.past.at = k.Last, k.Confirmed, k.At
	}
	if len(m.Settings) != len(e.settings) {
		return fmt.Errorf("the memory knows %d settings, the rules %d", len(m.Settings), len(e.settings))
	}
	for key, s := range e.settings {
		k := m.Settings[key]
		if k == nil {
			return fmt.Errorf("the memory does not know what was set of %q", key)
		}
		s.last, s.maybe = k.Last, nil
		for _, x := range k.Maybe {
			f := inForce{id: x.Command, opaque: x.Value == nil, over: x.Over}
			if x.Value != nil {
				f.value = *x.Value
			}
			s.maybe = append(s.maybe, f)
		}
	}
	for _, d := range m.History {
		g := e.guards[d.Target]
		if g == nil {
			return fmt.Errorf("the lab has no command %s", d.Target)
		}
		f := e.newFlight(g, &lab.Command{Target: d.Target, Run: d.Run, Campaign: d.Campaign, Principal: d.Principal, Args: d.Args}, d.Over)
		end := AllDone
		if d.Part != nil {
			end = PartDone
		}
		e.past.add(f, end, d.Part, d.Over)
		e.drop(f)
	}
	return nil
}

func (e *Engine) recallFlights(m *Memory) error {
	for _, k := range m.Claims {
		g := e.guards[k.Target]
		if g == nil || k.Check < 0 || k.Check >= len(g.checks) || g.checks[k.Check].claim == nil {
			return fmt.Errorf("%s claims no zone by its rule %d", k.Target, k.Check)
		}
		keep := g.checks[k.Check].claim
		keep.zone.claims = append(keep.zone.claims, &claim{keep: keep, command: k.Command, instrument: k.Target.Instrument, run: k.Run, serial: k.Serial, over: k.Over, ended: k.Ended})
	}
	for _, k := range m.Flights {
		g := e.guards[k.Target]
		if g == nil || e.flights[k.ID] != nil {
			return fmt.Errorf("command %s of %s is not one of this lab, or is there twice", k.ID, k.Target)
		}
		f := e.newFlight(g, &lab.Command{ID: k.ID, Target: k.Target, Run: k.Run, Campaign: k.Campaign, Principal: k.Principal, Args: k.Args}, k.Decided)
		f.doubt, f.serial = true, k.Serial
		e.flights[f.id] = f
		e.charge(k.Decided, f)
		for i := range f.charges {
			if len(k.Charges) == len(f.charges) { // a distance is from what was in force then
				f.charges[i].n = k.Charges[i]
			}
		}
		e.reserve(f)
		for i, c := range f.claims {
			c.ended = i < len(k.Ended) && k.Ended[i]
		}
	}
	return nil
}
