// Package mailbox is a queue between goroutines whose sender must never
// block: the owner of a core takes what has arrived, in order. It starts no
// goroutine. What bounds a box is its senders' own limit; each user says so.
package mailbox

import "sync"

// Box is a first-in first-out queue. The zero Box is not usable; see New.
type Box[T any] struct {
	mu    sync.Mutex
	items []T
	ready chan struct{}
}

// New makes an empty box.
func New[T any]() *Box[T] { return &Box[T]{ready: make(chan struct{}, 1)} }

// Put adds an item. It never blocks.
func (b *Box[T]) Put(x T) {
	b.mu.Lock()
	b.items = append(b.items, x)
	b.mu.Unlock()
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// Ready delivers after a Put; then Take has something, or another Take had it.
func (b *Box[T]) Ready() <-chan struct{} { return b.ready }

// Take removes and returns everything that waits.
func (b *Box[T]) Take() []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items = nil
	return items
}

// Len is how many items wait.
func (b *Box[T]) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.items)
}
