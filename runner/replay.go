package runner

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
)

// Record is one step of a machine that changed something: what happened, the
// ids that were made, and what was decided by readings, which nobody keeps. The
// records of a run, in order, make its machine again, byte for byte.
type Record struct {
	At        time.Time            `json:"at"`
	Event     string               `json:"event"`
	Outcome   *lab.Outcome         `json:"outcome,omitempty"`
	Ref       *lab.Ref             `json:"ref,omitempty"`
	Answered  *Answered            `json:"answered,omitempty"`
	Abort     *Abort               `json:"abort,omitempty"`
	Hold      *Hold                `json:"hold,omitempty"`
	Down      *lab.Quantity        `json:"down,omitempty"`
	IDs       []string             `json:"ids,omitempty"`
	Decisions []protocols.Decision `json:"decisions,omitempty"`
}

// Names of events in records.
const (
	recBegin   = "begin"
	recEnded   = "ended"
	recAnswer  = "answered"
	recAbort   = "abort"
	recHold    = "hold"
	recGoOn    = "go_on"
	recResumed = "resumed"
	recPass    = "pass" // time, or a reading, by which something was decided
)

// Resumed lets a run go on that was made again from its records after a
// restart: all that counts time is moved by how long it stood, and conditions
// are awaited anew.
type Resumed struct{ Down time.Duration }

func (Resumed) machineEvent() {}

// recordOf writes an event down.
func recordOf(now time.Time, ev MachineEvent) *Record {
	r := &Record{At: now, Event: recPass}
	switch e := ev.(type) {
	case Begin:
		r.Event = recBegin
	case CommandEnded:
		r.Event, r.Outcome, r.Ref = recEnded, &e.Outcome, &e.Ref
	case Answered:
		r.Event, r.Answered = recAnswer, &e
	case Abort:
		r.Event, r.Abort = recAbort, &e
	case Hold:
		r.Event, r.Hold = recHold, &e
	case GoOn:
		r.Event = recGoOn
	case Resumed:
		q := lab.Seconds(e.Down)
		r.Event, r.Down = recResumed, &q
	}
	return r
}

// event is what was written down. A reading has become the passing of time:
// what was decided by it is in the record.
func (r *Record) event() (MachineEvent, error) {
	switch {
	case r.Event == recBegin:
		return Begin{}, nil
	case r.Event == recEnded && r.Outcome != nil && r.Ref != nil:
		return CommandEnded{*r.Outcome, *r.Ref}, nil
	case r.Event == recAnswer && r.Answered != nil:
		return *r.Answered, nil
	case r.Event == recAbort && r.Abort != nil:
		return *r.Abort, nil
	case r.Event == recHold && r.Hold != nil:
		return *r.Hold, nil
	case r.Event == recGoOn:
		return GoOn{}, nil
	case r.Event == recResumed && r.Down != nil:
		d, err := r.Down.Duration()
		return Resumed{d}, err
	case r.Event == recPass:
		return Pass{}, nil
	}
	return nil, fmt.Errorf("a record says %q, and not all that belongs to it", r.Event)
}

// Record is what the last Step is to be remembered by; nil where it changed
// nothing.
func (m *Machine) Record() *Record { return m.record }

// touch notes that a Step has changed something.
func (m *Machine) touch() { m.touched = true }

// newID makes an id, or takes the one that was made.
func (m *Machine) newID(now time.Time) string {
	if m.replayed != nil {
		if len(m.replayed.IDs) == 0 {
			m.short = true
			return ""
		}
		id := m.replayed.IDs[0]
		m.replayed.IDs = m.replayed.IDs[1:]
		return id
	}
	id := m.ids.New(now)
	m.made = append(m.made, id)
	return id
}

// Replay makes a machine of the records of its run. What it asked for then is
// not asked for again. An error says which record does not fit the plan.
func Replay(run string, plan *protocols.Plan, ids lab.IDs, b Bounds, records []*Record) (*Machine, error) {
	m := NewMachine(run, plan, ids, b)
	m.told = map[string][]Measured{}
	for i, r := range records {
		ev, err := r.event()
		if err != nil {
			return nil, lab.E("runner: replay", "", lab.KindConflict, fmt.Errorf("record %d of run %s: %w", i+1, run, err))
		}
		left := *r
		m.replayed = &left
		m.values.Replay(r.Decisions)
		for _, a := range m.Step(r.At, ev) {
			switch a := a.(type) {
			case Measured:
				m.told[a.Step] = append(m.told[a.Step], a)
			case Ended:
				m.ended = &a
			}
		}
		err = m.values.Replayed()
		if err == nil && len(left.IDs) > 0 {
			err = fmt.Errorf("%d commands of it were not asked for", len(left.IDs))
		}
		if err == nil && m.short {
			err = errors.New("it asked for more commands")
		}
		if err != nil {
			return nil, lab.E("runner: replay", "", lab.KindConflict, fmt.Errorf("record %d of run %s: %w", i+1, run, err))
		}
	}
	m.replayed, m.actions, m.record = nil, nil, nil
	return m, nil
}

// Live lists the commands without an outcome, in the order of their ids.
func (m *Machine) Live() []string {
	ids := sortedKeys(m.live)
	for id := range m.stops {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Sent is where a command without an outcome went to, and until when it may run.
func (m *Machine) Sent(id string) (target lab.CommandID, notAfter time.Time) {
	if n := m.live[id]; n != nil && n.cmd != nil {
		return n.cmd.Target, n.cmd.NotAfter
	}
	return m.stops[id], time.Time{}
}

// Cancelled reports whether nothing waits for a command any more: one that has
// not gone out yet must not.
func (m *Machine) Cancelled(id string) bool {
	n := m.live[id]
	return n == nil || n.cancelled
}

// State is everything that a machine goes on by, as JSON, but for readings and
// for when it wants to look again: the same for the same records.
func (m *Machine) State() []byte {
	s := map[string]any{"stage": m.stage, "began": m.began, "drain_by": m.drainBy, "exposures": m.exposures, "live": sortedKeys(m.live), "stops": sortedKeys(m.stops),
		"judged": m.judged, "afterward": m.afterward, "outcome": m.outcome, "end": m.end, "values": m.values.Kept()}
	if h := m.hold; h != nil {
		s["hold"] = []any{h.reason, h.rule, h.until}
	}
	var stuck, asks []any
	for _, n := range m.stuck {
		stuck = append(stuck, []any{n.step.Path, n.why, n.until})
	}
	for _, path := range sortedKeys(m.asks) {
		asks = append(asks, []any{path, m.asks[path].until, m.asks[path].answer})
	}
	s["stuck"], s["asks"] = stuck, asks
	var settings []any
	for _, x := range m.settings {
		settings = append(settings, []any{x.step.Path, x.target, x.args})
	}
	s["settings"] = settings
	if m.root != nil {
		s["root"] = m.root.state()
	}
	return messages.Body(s)
}

// State of the nodes.

func (n *seqNode) state() any {
	if n.cur == nil {
		return []any{n.at}
	}
	return []any{n.at, n.cur.state()}
}

func (n *policyNode) state() any {
	return map[string]any{"step": n.step.Path, "instead": n.instead, "why": n.why, "until": n.until, "looked": n.looked, "released": n.released, "inner": n.inner.state()}
}

func (n *doNode) state() any {
	s := map[string]any{"step": n.step.Path, "tries": n.tries, "retry_at": n.retryAt, "finally": n.finally, "cancelled": n.cancelled, "before": n.before, "outcome": n.outcome}
	if n.cmd != nil {
		s["command"] = n.cmd
	}
	if n.sample != nil {
		s["sample"] = n.sample.Name
	}
	return s
}

func (n *waitNode) state() any {
	if n.watch == nil {
		return n.step.Path
	}
	return []any{n.step.Path, n.watch.Began()}
}

func (n *repeatNode) state() any {
	s := map[string]any{"step": n.step.Path, "i": n.i, "start": n.start}
	if n.body != nil {
		s["body"] = n.body.state()
	}
	return s
}

func (n *ifNode) state() any {
	s := map[string]any{"step": n.step.Path, "by": n.by}
	if n.body != nil {
		s["body"] = n.body.state()
	}
	return s
}

func (n *parallelNode) state() any {
	var kids []any
	for _, k := range n.kids {
		kids = append(kids, k.state())
	}
	return map[string]any{"step": n.step.Path, "kids": kids, "done": n.done, "why": n.why, "lost": n.lost, "won": n.won}
}

func (n *useNode) state() any {
	if n.body == nil {
		return n.step.Path
	}
	return []any{n.step.Path, n.body.state()}
}

func (n *askNode) state() any   { return []any{n.step.Path, n.until, n.answer} }
func (n *judgeNode) state() any { return n.step.Path }

func (n *finallyNode) state() any {
	if n.cur == nil {
		return []any{"finally", n.at}
	}
	return []any{"finally", n.at, n.cur.state()}
}

// later moves all that counts time, after a stand-still.
func (m *Machine) later(d time.Duration) {
	if !m.began.IsZero() {
		m.began = m.began.Add(d)
	}
	if !m.drainBy.IsZero() {
		m.drainBy = m.drainBy.Add(d)
	}
	for _, n := range m.stuck {
		n.until = n.until.Add(d)
	}
	if m.root != nil {
		m.root.later(d)
	}
}

func shifted(t time.Time, d time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(d)
}

func (n *seqNode) later(d time.Duration) {
	if n.cur != nil {
		n.cur.later(d)
	}
}

func (n *policyNode) later(d time.Duration) { n.inner.later(d) }
func (n *doNode) later(d time.Duration) {
	n.retryAt, n.before = shifted(n.retryAt, d), n.cmd != nil
}

// later begins to await a condition anew; a plain wait lasts as long as it did.
func (n *waitNode) later(d time.Duration) {
	switch {
	case n.watch == nil:
	case n.step.Until == nil:
		n.watch.Later(d)
	default:
		n.watch = nil
	}
}

func (n *repeatNode) later(d time.Duration) {
	n.start = shifted(n.start, d)
	if n.body != nil {
		n.body.later(d)
	}
}

func (n *ifNode) later(d time.Duration) {
	n.by = shifted(n.by, d)
	if n.body != nil {
		n.body.later(d)
	}
}

func (n *parallelNode) later(d time.Duration) {
	for i, k := range n.kids {
		if !n.done[i] {
			k.later(d)
		}
	}
}

func (n *useNode) later(d time.Duration) {
	if n.body != nil {
		n.body.later(d)
	}
}

func (n *askNode) later(d time.Duration) { n.until = shifted(n.until, d) }
func (n *judgeNode) later(time.Duration) {}

func (n *finallyNode) later(d time.Duration) {
	if n.cur != nil {
		n.cur.later(d)
	}
}
