package drivers

import (
	"context"
	"sync"
)

// Life is the time between a link's Connect and its Close. A link may be
// connected again after a Close: that is how a wedged one is broken open. The
// zero Life is over. Safe for concurrent use.
type Life struct {
	mu  sync.Mutex
	ctx context.Context
	end context.CancelFunc
}

// Begin begins a life, unless one is under way.
func (l *Life) Begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil || l.ctx.Err() != nil {
		l.ctx, l.end = context.WithCancel(context.Background())
	}
}

// Context ends with the life.
func (l *Life) Context() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil {
		l.ctx, l.end = context.WithCancel(context.Background())
		l.end()
	}
	return l.ctx
}

// Err is nil while the life goes on.
func (l *Life) Err() error { return l.Context().Err() }

// End ends it.
func (l *Life) End() {
	l.Context() // makes one that is over, where there was none
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
}
