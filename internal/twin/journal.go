package twin

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"labgate/gateway"
	"labgate/internal/journal/chain"
	"labgate/lab"
)

// journal keeps what lab.Journal promises, in memory: an append is durable a
// little later, all of it or none; a key is there once; one commit takes
// whatever waits; the order of the journal is the order in which entries were
// handed over; after a failure nothing is durable any more.
type journal struct {
	t       *Twin
	delays  stream
	entries []lab.Entry
	keys    map[string]int      // to the place of its entry, from 1
	snaps   map[string]snapshot // by part
	head    lab.Ref
	waiting []*commit // handed over since the commit under way began
	running []*commit // being written
	failed  error
	full    bool // only last words are taken
}

// commit is what was handed over at once. A note has no done.
type commit struct {
	entries []lab.Entry
	done    func([]lab.Ref, error)
}

// snapshot is what a part made of the entries before a place.
type snapshot struct {
	place int
	data  []byte
}

// keep stores a part's snapshot once its place is durable, and everything
// before it.
func (j *journal) keep(part string, data []byte, place lab.Entry) {
	j.append([]lab.Entry{place}, func(refs []lab.Ref, err error) {
		if err == nil {
			j.snaps[part] = snapshot{int(refs[0].Seq), data}
		}
	})
}

// recall gives a part its snapshot, and says from where on the journal has to be
// read. One that the part does not take is left aside.
func recall[S any](snap snapshot, take func(*S) error) (from int, err error) {
	if snap.data == nil {
		return 0, nil
	}
	var state S
	if err := json.Unmarshal(snap.data, &state); err != nil {
		return 0, err
	}
	if err := take(&state); err != nil {
		return 0, err
	}
	return snap.place, nil
}

// seen is the entry with a key; nil: there is none.
func (j *journal) seen(key string) *lab.Entry {
	if n := j.keys[key]; n > 0 {
		return &j.entries[n-1]
	}
	return nil
}

// Delays of one commit.
const (
	fastestCommit = 300 * time.Microsecond
	slowestCommit = 1200 * time.Microsecond
)

func newJournal(t *Twin, delays stream) *journal {
	return &journal{t: t, delays: delays, keys: map[string]int{}, snaps: map[string]snapshot{}}
}

// append hands entries over. done, where there is one, is called once they are
// durable, or have failed.
func (j *journal) append(entries []lab.Entry, done func([]lab.Ref, error)) {
	j.waiting = append(j.waiting, &commit{entries, done})
	j.begin()
}

func (j *journal) begin() {
	if len(j.running) > 0 || len(j.waiting) == 0 {
		return
	}
	j.running, j.waiting = j.waiting, nil
	takes, fate := j.delays.between(fastestCommit, slowestCommit), Fate{}
	if f := j.t.o.Faults.Commit; f != nil && j.failed == nil {
		var all []lab.Entry
		for _, c := range j.running {
			all = append(all, c.entries...)
		}
		fate = f(all)
	}
	j.t.after(takes+fate.After, func() { j.commit(fate) })
}

// commit makes durable what is being written, and tells who waits for it.
func (j *journal) commit(fate Fate) {
	group := j.running
	if fate.Err != nil && j.failed == nil {
		if fate.Kept {
			for _, c := range group {
				_, _ = j.write(c.entries) // nobody is told
			}
		}
		j.fail(fate.Err)
	}
	if fate.Full && !j.full {
		j.full = true
		j.tellFailed(errFull)
	}
	j.running = nil
	for _, c := range group {
		refs, err := j.writeLast(c)
		if c.done != nil {
			c.done(refs, err)
		}
	}
	j.begin()
}

var errFull = errors.New("the disk is full")

// writeLast writes what a full disk still takes: of a note what is a last word,
// of what somebody waits for all or nothing.
func (j *journal) writeLast(c *commit) ([]lab.Ref, error) {
	entries := c.entries
	if j.full {
		entries = slices.DeleteFunc(slices.Clone(entries), func(e lab.Entry) bool { return !chain.LastWord(e.Kind) })
		if c.done != nil && len(entries) < len(c.entries) {
			return nil, lab.E("twin: journal", "", lab.KindUnavailable, errFull)
		}
	}
	return j.write(entries)
}

// fail poisons the journal.
func (j *journal) fail(err error) {
	j.failed = lab.E("twin: journal", "", lab.KindUnavailable, err)
	j.tellFailed(j.failed)
}

// tellFailed tells the gateway, whoever's entry it was.
func (j *journal) tellFailed(err error) {
	j.t.trace.line(j.t.clock.now, "journal", "!", "failed: "+err.Error())
	j.t.watched("journal", Failed{err})
	j.t.after(0, func() { j.t.gateway.step(gateway.JournalFailed{Err: err}) })
}

// write chains the entries, all or none.
func (j *journal) write(entries []lab.Entry) ([]lab.Ref, error) {
	if j.failed != nil {
		return nil, j.failed
	}
	fresh := map[string]bool{}
	for _, e := range entries {
		if e.Key != "" && (j.keys[e.Key] > 0 || fresh[e.Key]) {
			return nil, lab.E("twin: journal", e.Instrument, lab.KindConflict, fmt.Errorf("key %q is there already", e.Key))
		}
		fresh[e.Key] = true
	}
	bodies := make([][]byte, len(entries))
	for i, e := range entries {
		var err error
		if bodies[i], err = chain.Canonical(e); err != nil {
			j.fail(err)
			return nil, j.failed
		}
	}
	refs := make([]lab.Ref, len(entries))
	for i, e := range entries {
		j.head, _ = chain.Follow(j.head, bodies[i])
		refs[i] = j.head
		j.entries = append(j.entries, e)
		if e.Key != "" {
			j.keys[e.Key] = len(j.entries)
		}
		if !j.t.o.Quiet {
			j.t.trace.line(j.t.clock.now, "journal", "=", fmt.Sprintf("%d %s", refs[i].Seq, sayEntry(e)))
		}
		j.t.watched("journal", Written{refs[i], e, bodies[i]})
	}
	return refs, nil
}

// crash forgets what was not durable. A new process opens a healthy journal.
func (j *journal) crash() { j.waiting, j.running, j.failed, j.full = nil, nil, nil, false }
