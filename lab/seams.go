package lab

import (
	"context"
	"encoding/json"
	"time"
)

// Clock tells the time and wakes. The real one reads the wall clock; the twin
// and the tests have one of their own.
type Clock interface {
	Now() time.Time
	// At returns a channel that delivers once, at or after t.
	At(t time.Time) <-chan time.Time
}

// IDs makes identifiers: ULIDs in the real world, counted ones in virtual
// time. Safe for concurrent use.
type IDs interface{ New(now time.Time) string }

// Bus carries JSON documents between parts that may be on different machines.
// It may lose, delay and repeat; it never reorders one sender's messages on
// one subject.
type Bus interface {
	Publish(ctx context.Context, subject string, data []byte) error
	Request(ctx context.Context, subject string, data []byte) ([]byte, error)
	// Handle calls fn for each message until ctx is done. fn must not block.
	Handle(ctx context.Context, subject string, fn func(Message)) error
}

// Message is one document that arrived. Reply is nil where no answer is asked
// for.
type Message struct {
	Subject string
	Data    []byte
	Reply   func([]byte) error
}

// Journal is the append-only record; the truth. Safe for concurrent use.
type Journal interface {
	// Append returns after the entries are durable, all or none, with their
	// places in the chain. After any failure the journal is poisoned and
	// every later Append fails.
	Append(ctx context.Context, entries ...Entry) ([]Ref, error)
	// Note hands entries over without waiting; they are durable no later than
	// the next Append that returns, and in order with it.
	Note(entries ...Entry)
	// Read calls fn for each entry from seq on, in order, until fn fails.
	Read(ctx context.Context, from uint64, fn func(Ref, Entry) error) error
	// Seen returns the entry that was appended with this key, if any.
	Seen(ctx context.Context, key string) (Ref, Entry, bool, error)
	// Newest returns the newest entry of a kind and an origin, if there is one
	// among the latest entries: how far it looks back is bounded.
	Newest(ctx context.Context, kind, origin string) (Ref, Entry, bool, error)
	// Failed waits until nothing that begins an effect is taken any more, and
	// says why; nil: ctx was done first.
	Failed(ctx context.Context) error
}

// Ref is an entry's place in a journal.
type Ref struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"` // hex SHA-256 over the canonical entry and the hash before it
}

// Entry is one record of the journal. Kind carries its version ("intent/v1").
// Key, where set, is unique in the journal for ever.
type Entry struct {
	Kind       string            `json:"kind"`
	Time       time.Time         `json:"time"`
	Origin     string            `json:"origin"`     // which process part: "gateway/bench", "runner"
	OriginSeq  uint64            `json:"origin_seq"` // counts from 1 within origin and boot
	Boot       string            `json:"boot"`
	Key        string            `json:"key,omitempty"`
	Principal  string            `json:"principal,omitempty"`
	Run        string            `json:"run,omitempty"`
	Step       string            `json:"step,omitempty"`
	Instrument string            `json:"instrument,omitempty"`
	Command    string            `json:"command,omitempty"`
	Samples    []string          `json:"samples,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Synthetic  bool              `json:"synthetic"`
	Body       json.RawMessage   `json:"body,omitempty"`
}
