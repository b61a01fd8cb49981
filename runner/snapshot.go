package runner

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"labgate/lab"
	"labgate/messages"
)

// Snapshot is all that the journal up to a place would tell a core: a start
// that has one reads only what came after it. It is a copy for its owner, fit
// for JSON, and is no record: the journal can do without it.
//
// Answers to proposals are not in it: those are asked of the journal.
type Snapshot struct {
	Format  int                    `json:"format"`
	Runs    []runMemory            `json:"runs"`  // oldest first
	Queue   []string               `json:"queue"` // in its order
	Asked   map[string][]time.Time `json:"asked,omitempty"`
	Latches []latchMemory          `json:"latches,omitempty"`

	Lots         []lot                 `json:"lots,omitempty"`
	Samples      []messages.Sample     `json:"samples,omitempty"`
	Calibrations []messages.Calibrated `json:"calibrations,omitempty"`
}

const snapshotFormat = 1

// runMemory is one run. Of one that is over there is what lists show.
type runMemory struct {
	ID        string               `json:"id"`
	Principal string               `json:"principal"`
	Proposal  messages.Proposal    `json:"proposal"`
	Content   string               `json:"content,omitempty"`
	Verdict   *messages.Verdict    `json:"verdict,omitempty"`
	Queued    time.Time            `json:"queued"`
	Counts    time.Time            `json:"counts,omitzero"`
	Approval  *messages.Approvals  `json:"approval,omitempty"`
	Rejected  string               `json:"rejected,omitempty"` // by whom and why, of one whose end is not written down yet
	Started   time.Time            `json:"started,omitzero"`
	Log       []*Record            `json:"log,omitempty"`
	Events    map[string]int       `json:"events,omitempty"`
	Taken     map[string]float64   `json:"taken,omitempty"`
	Doubts    []string             `json:"doubts,omitempty"`
	Ended     time.Time            `json:"ended,omitzero"`
	State     RunState             `json:"state,omitempty"`
	Say       string               `json:"say,omitempty"`
	Outputs   map[string]lab.Value `json:"outputs,omitempty"`
}

type latchMemory struct {
	Origin      string   `json:"origin,omitempty"`
	Rule        string   `json:"rule"`
	Instruments []string `json:"instruments,omitempty"`
	Mitigates   []string `json:"mitigates,omitempty"`
	Say         string   `json:"say"`
}

// keepSmall takes a snapshot when one is due, at a moment when nothing is on
// its way to the journal: then the core is what the journal says. Runs that
// were over long ago are let go.
func (c *Core) keepSmall(now time.Time) {
	if c.since < c.o.SnapshotEvery || len(c.waiting) > 0 {
		return
	}
	c.since = 0
	c.do(Snap{c.Snapshot(now)})
}

// Snapshot takes one now; nil where something is on its way to the journal. The
// shell calls it once more at its end, after the last Step.
func (c *Core) Snapshot(now time.Time) *Snapshot {
	if len(c.waiting) > 0 {
		return nil
	}
	c.letGo()
	s := &Snapshot{Format: snapshotFormat, Runs: []runMemory{}, Queue: []string{}, Asked: map[string][]time.Time{}}
	for _, id := range c.order {
		s.Runs = append(s.Runs, c.runs[id].memory())
	}
	for _, r := range c.queue {
		if r.started.IsZero() { // one that has begun is held anew by a restart
			s.Queue = append(s.Queue, r.id)
		}
	}
	for who, list := range c.asked {
		if pr := c.principal(who); pr != nil {
			list = slices.DeleteFunc(slices.Clone(list), func(t time.Time) bool { return now.Sub(t) > pr.Rate.Per })
			if len(list) > 0 {
				s.Asked[who] = list
			}
		}
	}
	for _, l := range c.latches {
		s.Latches = append(s.Latches, latchMemory{l.origin, l.rule, slices.Clone(l.instruments), slices.Clone(l.mitigates), l.say})
	}
	c.stock.snapshot(s)
	return s
}

// letGo forgets the oldest of the runs that are over. The journal has them.
func (c *Core) letGo() {
	over := 0
	for _, id := range c.order {
		if c.runs[id].over() {
			over++
		}
	}
	c.order = slices.DeleteFunc(c.order, func(id string) bool {
		if over <= c.o.MaxEnded || !c.runs[id].over() {
			return false
		}
		over--
		delete(c.runs, id)
		return true
	})
}

func (r *run) over() bool { return !r.ended.IsZero() }

func (r *run) memory() runMemory {
	m := runMemory{ID: r.id, Principal: r.principal, Queued: r.queued, Approval: r.approvals(), Started: r.started, Doubts: slices.Clone(r.doubts)}
	if r.over() {
		m.Proposal = messages.Proposal{ID: r.proposal.ID, Protocol: r.proposal.Protocol, Priority: r.proposal.Priority, Labels: r.proposal.Labels, Samples: r.proposal.Samples}
		m.Ended, m.State, m.Say, m.Outputs = r.ended, r.state, r.say, r.outputs
		return m
	}
	m.Proposal, m.Content, m.Verdict = r.proposal.Proposal, r.proposal.content, r.verdict
	if r.approval != nil {
		m.Rejected = r.approval.no
	}
	if r.started.IsZero() { // one that has begun has no place in the queue any more
		m.Counts = r.counts
	}
	m.Log, m.Events, m.Taken = slices.Clone(r.log), maps.Clone(r.events), maps.Clone(r.taken)
	return m
}

// Recall starts from a snapshot, before the first Restore.
func (c *Core) Recall(s *Snapshot) error {
	if s.Format != snapshotFormat {
		return lab.E("runner: recall", "", lab.KindInvalid, fmt.Errorf("the snapshot has format %d, not %d", s.Format, snapshotFormat))
	}
	for i := range s.Runs {
		if err := c.recallRun(&s.Runs[i]); err != nil {
			return lab.E("runner: recall", "", lab.KindInvalid, err)
		}
	}
	c.queue = nil
	for _, id := range s.Queue {
		if r := c.runs[id]; r != nil && r.plan != nil && r.started.IsZero() && !r.over() {
			c.queue = append(c.queue, r)
		}
	}
	c.stock.recall(s)
	maps.Copy(c.asked, s.Asked)
	for _, l := range s.Latches {
		c.latched(latch{l.Origin, l.Rule, l.Instruments, l.Mitigates, l.Say})
	}
	return nil
}

func (c *Core) recallRun(m *runMemory) error {
	p := &proposal{m.Proposal, m.Content}
	if m.Ended.IsZero() {
		if m.Verdict == nil || m.Verdict.Run != m.ID {
			return fmt.Errorf("run %s has no verdict", m.ID)
		}
		c.restoreRun(m.Queued, p, *m.Verdict)
	} else {
		c.addRun(newRun(m.ID, m.Principal, p, nil, m.Queued))
	}
	r := c.runs[m.ID]
	r.started, r.log, r.doubts, r.ended, r.outputs = m.Started, m.Log, m.Doubts, m.Ended, m.Outputs
	if r.over() {
		r.state, r.say = m.State, m.Say
		if m.Approval != nil {
			r.approval = &approval{Approvals: *m.Approval}
		}
		return nil
	}
	r.counts = m.Counts
	maps.Copy(r.events, m.Events)
	r.taken = m.Taken
	if r.approval != nil && m.Approval != nil {
		r.approval.Given, r.approval.Until, r.approval.no = m.Approval.Given, m.Approval.Until, m.Rejected
	}
	return nil
}
