package service

import (
	"context"
	"fmt"
	"time"

	"labgate/gateway"
	"labgate/internal/journal"
	"labgate/lab"
)

// restore makes the core of what the journal holds: from the newest snapshot
// and what came after it, or, where that is not for this lab and these rules,
// from all of it.
func (s *Service) restore(ctx context.Context, newCore func() (*gateway.Core, error)) (err error) {
	if s.core, err = newCore(); err != nil {
		return err
	}
	next, err := journal.Recall(ctx, s.o.Snapshots, s.o.Journal, s.stamp.origin, s.core.Recall)
	if err != nil {
		s.o.Log(fmt.Sprintf("gateway %s reads the whole journal: %v", s.o.Name, err))
		if s.core, err = newCore(); err != nil {
			return err
		}
	}
	return s.o.Journal.Read(ctx, next, func(_ lab.Ref, e lab.Entry) error { return s.core.Restore(e) })
}

// placeOf is the entry whose place in the journal is the snapshot's.
func (s *Service) placeOf(now time.Time, snap *gateway.Snapshot) appendRequest {
	for i := range snap.Entries {
		if snap.Entries[i].Boot == "" {
			snap.Entries[i].Boot = s.boot
		}
	}
	return appendRequest{entries: s.seal(now, []lab.Entry{{Kind: journal.SnapshotPlace}}), snap: snap}
}

// sealSnapshot is seal for the goroutine that keeps snapshots: their entries
// are not in the core's order, and carry no place in it.
func (s *Service) sealSnapshot(entries []lab.Entry) []lab.Entry {
	for i := range entries {
		e := &entries[i]
		e.Time, e.Origin, e.Boot, e.Synthetic = s.o.Clock.Now(), s.stamp.origin, s.boot, s.o.Lab.Simulated
	}
	return entries
}

// lastSnapshot is taken when everything is joined, so that a start after a
// clean end reads next to nothing.
func (s *Service) lastSnapshot(ctx context.Context) {
	now := s.o.Clock.Now()
	s.act(ctx, now, s.core.End(now))
	s.writeBatch(ctx, s.appends.Take())
	if s.o.Snapshots == nil {
		return
	}
	s.writeBatch(ctx, []appendRequest{s.placeOf(now, s.core.Snapshot(now))})
	s.snaps.Last(ctx)
}

// runLooks is the one goroutine that asks the journal what was answered to a
// command long ago.
func (s *Service) runLooks(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.looks.Ready():
		}
		for _, id := range s.looks.Take() {
			e := gateway.Looked{Command: id}
			for _, key := range gateway.AnswerKeys(id) {
				_, entry, ok, err := s.o.Journal.Seen(ctx, key)
				if e.Err = err; err != nil {
					break
				}
				if ok {
					e.Entry = &entry
					break
				}
			}
			s.events.Put(e)
		}
	}
}
