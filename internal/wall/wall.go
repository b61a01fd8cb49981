// Package wall is the real clock and the real ids: the wall's time, and ULIDs
// that grow within one process. It starts no goroutine.
package wall

import (
	"crypto/rand"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// Clock reads the wall clock; its times carry the monotonic reading too.
type Clock struct{}

// Now is the time.
func (Clock) Now() time.Time { return time.Now() }

// At returns a channel that delivers once, at or after t.
func (Clock) At(t time.Time) <-chan time.Time { return time.After(time.Until(t)) }

// IDs makes ULIDs, each greater than the one before. Safe for concurrent use.
type IDs struct {
	mu      sync.Mutex
	entropy *ulid.MonotonicEntropy
}

// NewIDs makes a source of ids.
func NewIDs() *IDs { return &IDs{entropy: ulid.Monotonic(rand.Reader, 0)} }

// New makes an id.
func (i *IDs) New(now time.Time) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	id, err := ulid.New(ulid.Timestamp(now), i.entropy)
	if err != nil {
		// The clock stands before 1970, or 2^80 ids were made in one
		// millisecond: no id that is honest can be given.
		panic("wall: no id: " + err.Error())
	}
	return id.String()
}
