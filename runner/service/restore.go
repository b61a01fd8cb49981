package service

import (
	"context"
	"fmt"
	"time"

	"labgate/internal/journal"
	"labgate/lab"
	"labgate/runner"
)

// origin is the runner's in documents and in the journal.
const origin = "runner"

// heardLate is how many entries before a snapshot are looked through for what
// gateways had written down, and the runner had not heard yet.
const heardLate = 5000

// restore makes the core of what the journal holds: from the newest snapshot
// and what came after it, or from all of it.
func (s *Service) restore(ctx context.Context) error {
	s.core = runner.New(s.o.Core)
	next, err := journal.Recall(ctx, s.o.Snapshots, s.o.Journal, origin, s.core.Recall)
	if err != nil {
		s.o.Log(fmt.Sprintf("the runner reads the whole journal: %v", err))
		s.core = runner.New(s.o.Core)
	}
	return s.o.Journal.Read(ctx, next-min(next-1, heardLate), func(ref lab.Ref, e lab.Entry) error {
		if ref.Seq < next && e.Origin == origin {
			return nil // it is in the snapshot
		}
		return s.core.Restore(e)
	})
}

// placeOf is the entry whose place in the journal is the snapshot's.
func (s *Service) placeOf(now time.Time, snap *runner.Snapshot) appendRequest {
	return appendRequest{entries: s.seal([]lab.Entry{{Kind: journal.SnapshotPlace, Time: now}}), snap: snap}
}

// sealSnapshot is seal for the goroutine that keeps snapshots: their entries
// are not in the core's order, and carry no place in it.
func (s *Service) sealSnapshot(entries []lab.Entry) []lab.Entry {
	for i := range entries {
		e := &entries[i]
		e.Time, e.Origin, e.Boot, e.Synthetic = s.o.Clock.Now(), origin, s.boot, s.o.Lab.Simulated
	}
	return entries
}

// lastSnapshot is taken when everything is joined, so that a start after a
// clean end reads next to nothing. Answers of the journal that the core has not
// heard of any more stand against it.
func (s *Service) lastSnapshot(ctx context.Context) {
	now := s.o.Clock.Now()
	s.act(ctx, now, s.core.End(now))
	s.write(ctx, s.appends.Take())
	if s.o.Snapshots == nil {
		return
	}
	if snap := s.core.Snapshot(now); snap != nil {
		s.write(ctx, []appendRequest{s.placeOf(now, snap)})
	}
	s.snaps.Last(ctx)
}

// runLooks is the one goroutine that asks the journal what was answered to a
// key long ago.
func (s *Service) runLooks(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.looks.Ready():
		}
		for _, key := range s.looks.Take() {
			e := runner.Looked{Key: key}
			proposal, verdict := runner.AnswerKeys(key)
			if e.Proposal, e.Err = s.seen(ctx, proposal); e.Err == nil {
				e.Verdict, e.Err = s.seen(ctx, verdict)
			}
			s.events.Put(e)
		}
	}
}

// seen is the entry with a key; nil: there is none.
func (s *Service) seen(ctx context.Context, key string) (*lab.Entry, error) {
	_, e, ok, err := s.o.Journal.Seen(ctx, key)
	if err != nil || !ok {
		return nil, err
	}
	return &e, nil
}
