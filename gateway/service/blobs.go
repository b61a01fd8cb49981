package service

import (
	"context"
	"fmt"

	"labgate/gateway"
	"labgate/lab"
)

// storeRequest is what a command returned, with bytes that are to be stored
// before it is told of. There are no more of them than live commands.
type storeRequest struct {
	instrument string
	done       gateway.Exchanged
}

func hasBlobs(values map[string]lab.Value) bool {
	for _, v := range values {
		if v.Kind == lab.Blob && v.Blob != nil {
			return true
		}
	}
	return false
}

// runBlobs is the one goroutine that stores bytes, so that no link's owner
// ever waits for a disk. What is not stored when the process ends is in doubt
// after its restart, as any exchange without an outcome.
func (s *Service) runBlobs(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.blobs.Ready():
		}
		for _, r := range s.blobs.Take() {
			if ctx.Err() != nil {
				return
			}
			s.store(ctx, r)
		}
	}
}

// store puts the bytes where an outcome may name them.
func (s *Service) store(ctx context.Context, r storeRequest) {
	for name, v := range r.done.Values {
		if r.done.Err != nil || v.Kind != lab.Blob || v.Blob == nil {
			continue
		}
		hash, err := s.o.Blobs.Put(ctx, v.Blob.Bytes)
		if err != nil {
			r.done.Err = lab.E("gateway/service: store", r.instrument, lab.KindOutcomeUnknown, fmt.Errorf("%s: %w", name, err))
			continue
		}
		v.Blob = &lab.BlobRef{Hash: hash, Media: v.Blob.Media, Size: len(v.Blob.Bytes), Meta: v.Blob.Meta}
		r.done.Values[name] = v
	}
	s.events.Put(r.done)
}
