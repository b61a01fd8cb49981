package safety

import (
	"slices"
	"time"

	"labgate/lab"
)

// account is what a rule counts: commands put amounts on ledgers, one for each
// run, campaign or principal that is counted for itself. All of it is exact,
// and all of it is bounded; where something has to be forgotten, it is so that
// more counts than was used, never less.
type account struct {
	key     string // what is counted, as text: the same over a reload
	grain   grain
	max     int64         // in grains, rounded down
	bound   lab.Quantity  // max as it was written
	per     time.Duration // how long an amount counts; 0: for ever
	by      scopeSet
	ledgers map[who]*ledger
	floor   sum       // what a ledger that is not there may have had
	evicted time.Time // the latest use of one that was dropped
}

// who is what one ledger is for. What an account does not ask for is empty.
type who struct{ run, campaign, principal string }

// scopeSet says what an account asks for.
type scopeSet uint8

const (
	byRun scopeSet = 1 << iota
	byCampaign
	byPrincipal
	byCommand // no ledger at all: each command alone
)

// ledger is one sum.
type ledger struct {
	open    sum // of commands under way or in doubt: they count in full, however old
	spent   sum // of what is over, as long as it counts
	entries []entry
	first   int // entries before it are over
	flights int
	used    time.Time
}

// entry is what counts until its window is over.
type entry struct {
	at time.Time
	n  int64
}

// Bounds of memory.
const (
	maxEntries = 1024  // of one window; beyond them those close together become one
	parts      = 256   // of a window: so close is close
	maxLedgers = 16384 // of one account
)

func (e *Engine) newAccount(key string, bound lab.Quantity, digits int, per time.Duration, by scopeSet) *account {
	a := &account{key: key, bound: bound, per: per, by: by, grain: grainOf(bound, digits), ledgers: map[who]*ledger{}}
	a.max, _, _ = a.grain.of(bound) // what can't be counted is 0: nothing is allowed
	e.accounts = append(e.accounts, a)
	return a
}

// who is the ledger that a command is counted on.
func (a *account) who(f *flight) who { return a.whoOf(f.run, f.campaign, f.principal) }

func (a *account) whoOf(run, campaign, principal string) (w who) {
	if a.by&byRun != 0 {
		w.run = run
	}
	if a.by&byCampaign != 0 {
		w.campaign = campaign
	}
	if a.by&byPrincipal != 0 {
		w.principal = principal
	}
	return w
}

// used is what counts now.
func (a *account) used(now time.Time, w who) sum {
	if l := a.ledgers[w]; l != nil {
		l.expire(now, a.per)
		return l.open.plus(l.spent)
	}
	return a.unknown(now, w)
}

// left is how many grains are left, negative where the bound is passed.
func (a *account) left(now time.Time, w who) int64 { return a.used(now, w).left(a.max) }

// unknown is what a ledger that is not there may have had: that of the fullest
// one that was dropped, unless its run is younger than all of those.
func (a *account) unknown(now time.Time, w who) sum {
	if a.floor == (sum{}) || a.per > 0 && now.Sub(a.evicted) >= a.per {
		return sum{}
	}
	if at, ok := lab.IDTime(w.run); ok && a.by&byRun != 0 && at.After(a.evicted) {
		return sum{}
	}
	return a.floor
}

// ledger finds or opens one.
func (a *account) ledger(now time.Time, w who) *ledger {
	l := a.ledgers[w]
	if l == nil {
		if len(a.ledgers) >= maxLedgers {
			a.evict(now)
		}
		l = &ledger{}
		l.spend(now, a.unknown(now, w).whole(), a.per)
		a.ledgers[w] = l
	}
	if now.After(l.used) {
		l.used = now
	}
	return l
}

// evict drops the ledgers that nothing counts on, and of the others that have
// nothing under way the older half.
func (a *account) evict(now time.Time) {
	var idle []time.Time
	for w, l := range a.ledgers {
		l.expire(now, a.per)
		switch {
		case l.flights > 0:
		case l.spent == (sum{}):
			delete(a.ledgers, w)
		default:
			idle = append(idle, l.used)
		}
	}
	if len(a.ledgers) <= maxLedgers/2 || len(idle) == 0 {
		return
	}
	slices.SortFunc(idle, time.Time.Compare)
	old := idle[len(idle)/2]
	for w, l := range a.ledgers {
		if l.flights == 0 && !l.used.After(old) {
			if a.floor.less(l.spent) {
				a.floor = l.spent
			}
			a.evicted = later(a.evicted, l.used)
			if n := len(l.entries); n > l.first {
				a.evicted = later(a.evicted, l.entries[n-1].at)
			}
			delete(a.ledgers, w)
		}
	}
}

// expire takes out what counts no more.
func (l *ledger) expire(now time.Time, per time.Duration) {
	for l.first < len(l.entries) && now.Sub(l.entries[l.first].at) >= per {
		l.spent.sub(l.entries[l.first].n)
		l.first++
	}
	if l.first == len(l.entries) {
		l.entries, l.first = l.entries[:0], 0
	}
}

// spend puts down an amount that was used at a time.
func (l *ledger) spend(at time.Time, n int64, per time.Duration) {
	l.spent.add(n)
	if per == 0 || n == 0 {
		return
	}
	if len(l.entries)-l.first >= maxEntries {
		l.merge(per)
	}
	if l.first > maxEntries {
		l.entries, l.first = append(l.entries[:0], l.entries[l.first:]...), 0
	}
	if k := len(l.entries); k > l.first && at.Before(l.entries[k-1].at) {
		at = l.entries[k-1].at // a clock that was set back: it counts for longer
	}
	l.entries = append(l.entries, entry{at, n})
}

// merge makes one of the entries of each 256th of the window, as young as the
// youngest of them: they count for longer, never for less long.
func (l *ledger) merge(per time.Duration) {
	slot := max(per/parts, 1)
	kept := l.entries[:0]
	for _, x := range l.entries[l.first:] {
		if k := len(kept) - 1; k >= 0 && kept[k].at.Truncate(slot).Equal(x.at.Truncate(slot)) {
			kept[k] = entry{x.at, kept[k].n + x.n}
			continue
		}
		kept = append(kept, x)
	}
	l.entries, l.first = kept, 0
}

// frees is when n grains more will fit, if nothing else happens; zero: never by
// itself.
func (a *account) frees(now time.Time, w who, n int64) time.Time {
	l := a.ledgers[w]
	if l == nil || a.per == 0 || n > a.max {
		return time.Time{}
	}
	used := l.open.plus(l.spent)
	for _, x := range l.entries[l.first:] {
		if used.sub(x.n); used.left(a.max) >= n {
			return x.at.Add(a.per)
		}
	}
	return time.Time{}
}

// wait says whether waiting may help, and until when.
func (a *account) wait(now time.Time, w who, n int64) string {
	if at := a.frees(now, w, n); !at.IsZero() {
		return "enough of it is free again at " + at.UTC().Format(time.RFC3339)
	}
	if l := a.ledgers[w]; l != nil && l.flights > 0 && n <= a.max {
		return "commands under way or in doubt count in full until they are over"
	}
	return ""
}

// charge is an amount of a command under way or in doubt.
type charge struct {
	acct *account
	led  *ledger
	n    int64
	part int // the argument whose part counts where only a part was done; -1: all of it counts
}

func (c *charge) open(now time.Time, f *flight) {
	c.led = c.acct.ledger(now, c.acct.who(f))
	c.led.flights++
	c.led.open.add(c.n)
}

// close turns a reservation into what was used, as late as it may have been.
func (c *charge) close(now time.Time, f *flight, end End, amount *lab.Quantity) {
	c.led.flights--
	c.led.open.sub(c.n)
	switch end {
	case NothingDone:
		return
	case PartDone:
		c.led.spend(now, c.done(f, amount), c.acct.per)
	default:
		c.led.spend(now, c.n, c.acct.per)
	}
}

// done is what a part counts: what was delivered, also where it was more than
// was asked for. What is no amount counts as all of it.
func (c *charge) done(f *flight, amount *lab.Quantity) int64 {
	if c.part < 0 || amount == nil || amount.Unit.Dim() != f.value(c.part).Unit.Dim() {
		return c.n
	}
	_, n, ok := c.acct.grain.of(*amount)
	if !ok || n < 0 {
		return c.n
	}
	return n
}

// partOf is the argument that the amount of a partial delivery speaks of: a
// plain argument, if no other one could be meant.
func partOf(g *guard, name string) int {
	arg := g.spec.Arg(name)
	if arg == nil {
		return -1
	}
	for _, a := range g.spec.Args {
		if a.Name != name && a.Type.Unit.Dim() == arg.Type.Unit.Dim() {
			return -1
		}
	}
	return g.argument(name)
}
