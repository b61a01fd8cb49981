package safety

import (
	"slices"
	"strings"
	"time"

	"labgate/lab"
)

// flight is a command from its decision until it is known what it did: under
// way first, then, where nobody can say, in doubt. Its memory is used again;
// only its permit may outlive it.
type flight struct {
	timer
	id, run, campaign, principal string
	guard                        *guard
	serial                       uint64    // the order of decisions; also the engine's order
	decided                      time.Time // restored: the intent's time
	permit                       *Permit   // nil: restored, or being decided
	args                         []argument
	held                         []held
	charges                      []charge
	claims                       []*claim
	queued, doubt                bool
}

// argument is a copy: what was decided about can't change afterwards.
type argument struct {
	slot    int
	reading lab.Reading
}

// End is what a command that is over has done, for the rules that count.
type End uint8

// The ends. The zero End is the careful one.
const (
	MaybeDone   End = iota // in doubt, unknown, contradicted, failed after the first byte: counts the worse way until Settle
	NothingDone            // not sent, refused: its reservation is released
	AllDone                // confirmed
	PartDone               // a part, the amount
)

// newFlight is a command as it is asked about.
func (e *Engine) newFlight(g *guard, cmd *lab.Command, now time.Time) *flight {
	var f *flight
	if n := len(e.free); n > 0 {
		f = e.free[n-1]
		e.free = e.free[:n-1]
	} else {
		f = &flight{}
		f.of = f
	}
	f.id, f.run, f.campaign, f.principal = cmd.ID, cmd.Run, cmd.Campaign, cmd.Principal
	f.guard, f.serial, f.decided = g, e.order, now
	for _, a := range g.args {
		arg := argument{slot: a.slot}
		if v, ok := cmd.Args[a.name]; ok {
			arg.reading = lab.Reading{Value: v, Quality: lab.Good, Source: now, Received: now}
		}
		f.args = append(f.args, arg)
	}
	e.loaded = nil
	return f
}

// value is an argument; missing where it was not given.
func (f *flight) value(i int) *lab.Value {
	if i < 0 || i >= len(f.args) {
		return &lab.Value{}
	}
	return &f.args[i].reading.Value
}

// loadArgs puts a command's arguments where expressions find them.
func (e *Engine) loadArgs(f *flight) {
	if e.loaded == f {
		return
	}
	e.loaded = f
	for i := range f.args {
		e.slots[f.args[i].slot] = f.args[i].reading
	}
}

// drop forgets a command.
func (e *Engine) drop(f *flight) {
	e.timers.set(&f.timer, time.Time{})
	for i := range f.held {
		f.held[i] = held{}
	}
	for i := range f.args {
		f.args[i] = argument{}
	}
	clear(f.charges)
	clear(f.claims)
	*f = flight{timer: f.timer, args: f.args[:0], held: f.held[:0], charges: f.charges[:0], claims: f.claims[:0]}
	e.loaded = nil
	e.free = append(e.free, f)
}

// launch lets an allowed command count.
func (e *Engine) launch(f *flight) {
	e.flights[f.id] = f
	e.flying = append(e.flying, f)
	for i := range f.held {
		f.held[i].hold()
	}
	e.schedFlight(f)
	e.reserve(f)
}

// reserve lets a command count in the rules that count.
func (e *Engine) reserve(f *flight) {
	for i := range f.charges {
		f.charges[i].open(e.high, f)
	}
	for i := range f.guard.checks {
		if k := f.guard.checks[i].claim; k != nil {
			k.take(f)
		}
	}
	for i := range f.guard.sets {
		f.guard.sets[i].open(f)
	}
	f.guard.past.open++
}

// Done ends a command's permit, and its reservation by what it has done: the
// amount of PartDone counts in its place, without one all of it does.
func (e *Engine) Done(now time.Time, command string, end End, amount *lab.Quantity) {
	e.see(now)
	f := e.flights[command]
	if f == nil || f.doubt {
		return
	}
	f.permit.revokeFor(&whyDone)
	for i := range f.held {
		f.held[i].release()
	}
	clear(f.held)
	f.held = f.held[:0]
	e.timers.set(&f.timer, time.Time{})
	i := slices.Index(e.flying, f)
	e.flying = slices.Delete(e.flying, i, i+1)
	if end == MaybeDone {
		f.doubt = true
		return
	}
	e.land(now, f, end, amount, e.order)
}

var whyDone = "the command is done"

// Settle resolves a command in doubt. Where it matters when it was confirmed,
// that was at its decision: later nobody knows.
func (e *Engine) Settle(now time.Time, command string, end End, amount *lab.Quantity) {
	e.see(now)
	if f := e.flights[command]; f != nil && f.doubt && end != MaybeDone {
		e.land(now, f, end, amount, f.serial)
	}
}

// Remember restores a command that the journal says was allowed: nothing is
// asked. It is in doubt until Settle.
func (e *Engine) Remember(at time.Time, cmd *lab.Command) {
	e.see(at)
	g := e.guards[cmd.Target]
	if g == nil || e.flights[cmd.ID] != nil {
		return
	}
	f := e.newFlight(g, cmd, at)
	f.doubt = true
	e.flights[f.id] = f
	e.charge(at, f)
	e.reserve(f)
}

// Moves are the distances that a command under way counts for, by what they are
// counted on: from what was in force when it was decided, which a restart can't
// tell from the journal.
func (e *Engine) Moves(command string) map[string]lab.Quantity {
	var moves map[string]lab.Quantity
	if f := e.flights[command]; f != nil {
		for _, c := range f.charges {
			if name, is := c.acct.distance(); is {
				if moves == nil {
					moves = map[string]lab.Quantity{}
				}
				moves[name] = c.acct.grain.quantity(c.n)
			}
		}
	}
	return moves
}

// Moved puts the distances of a remembered command in the place of those that
// Remember took for the worst. What is no distance stays as it is.
func (e *Engine) Moved(command string, moves map[string]lab.Quantity) {
	f := e.flights[command]
	if f == nil {
		return
	}
	for i := range f.charges {
		c := &f.charges[i]
		name, is := c.acct.distance()
		q, known := moves[name]
		if !is || !known || q.Unit.Dim() != c.acct.grain.unit.Dim() {
			continue
		}
		if _, n, ok := c.acct.grain.of(q); ok && n >= 0 {
			c.led.open.sub(c.n)
			c.n = n
			c.led.open.add(n)
		}
	}
}

// distance names an account of distances.
func (a *account) distance() (name string, is bool) {
	return strings.ReplaceAll(a.key, "\x00", " of "), strings.HasPrefix(a.key, "change ")
}

// charge works out what a restored command counts for.
func (e *Engine) charge(now time.Time, f *flight) {
	f.charges = f.charges[:0]
	for i := range f.guard.checks {
		switch c := &f.guard.checks[i]; {
		case c.limits != nil:
			e.chargeLimits(now, f, c.limits, false)
		case c.budget != nil && c.budget.acct.by&byCommand == 0:
			x := charge{acct: c.budget.acct, n: c.budget.acct.max, part: c.budget.part}
			if n, ok := e.amount(now, f, c.budget); ok {
				x.n = n
			}
			f.charges = append(f.charges, x)
		}
	}
}

// land ends a reservation. confirmed is where in the engine's order a command
// that was done counts as confirmed.
func (e *Engine) land(now time.Time, f *flight, end End, amount *lab.Quantity, confirmed uint64) {
	at := now
	if confirmed == f.serial {
		at = f.decided
	}
	e.past.add(f, end, amount, now)
	for i := range f.charges {
		f.charges[i].close(now, f, end, amount)
	}
	for i := range f.guard.sets {
		f.guard.sets[i].close(f, end, now)
	}
	for _, c := range f.claims {
		e.endClaim(now, c, end)
	}
	o := &f.guard.past
	o.open--
	if end != NothingDone {
		o.last = e.order
	}
	if end == AllDone {
		if confirmed > o.confirmed {
			o.confirmed, o.at = confirmed, at
		}
		for _, k := range f.guard.until {
			e.endUntil(k, f)
		}
	}
	delete(e.flights, f.id)
	e.drop(f)
}

// maxHistory bounds the memory of what was done; it is for rules that are new
// after a Reload.
const maxHistory = 4096

// history is what the latest commands did, in a ring.
type history struct {
	list []done
	next int
}

// done is one command that is over.
type done struct {
	target                   lab.CommandID
	run, campaign, principal string
	args                     []argument
	end                      End
	amount                   lab.Quantity
	over                     time.Time
}

func (h *history) add(f *flight, end End, amount *lab.Quantity, now time.Time) {
	if end == NothingDone {
		return
	}
	var d *done
	if len(h.list) < maxHistory {
		h.list = append(h.list, done{})
		d = &h.list[len(h.list)-1]
	} else {
		d = &h.list[h.next]
		h.next = (h.next + 1) % maxHistory
	}
	args := append(d.args[:0], f.args...)
	*d = done{target: f.guard.target, run: f.run, campaign: f.campaign, principal: f.principal, args: args, end: end, over: now}
	if end == PartDone && amount != nil {
		d.amount = *amount
	} else {
		d.end = AllDone
	}
}

// each calls with every command of the history, oldest first.
func (h *history) each(call func(*done)) {
	for i := range h.list {
		call(&h.list[(h.next+i)%len(h.list)])
	}
}
