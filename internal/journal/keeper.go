package journal

import (
	"context"
	"encoding/json"
	"fmt"

	"labgate/internal/mailbox"
	"labgate/lab"
)

// Keeper keeps the snapshots of one part, so that neither the part's core nor a
// commit waits for one to be written. Run is the one goroutine that does it;
// after it has ended Last keeps what is left.
type Keeper struct {
	store *Snapshots
	j     lab.Journal
	part  string
	seal  func([]lab.Entry) []lab.Entry
	log   func(string)
	due   *mailbox.Box[snapshot] // bounded by how seldom a core makes one
}

// snapshot stands for all entries before a durable one.
type snapshot struct {
	state any
	place uint64
}

// NewKeeper makes one. seal makes an entry the part's.
func NewKeeper(s *Snapshots, j lab.Journal, part string, seal func([]lab.Entry) []lab.Entry, log func(string)) *Keeper {
	return &Keeper{s, j, part, seal, log, mailbox.New[snapshot]()}
}

// Put hands a snapshot over, with the place of the entry before which
// everything is in it. The state is the keeper's from now on.
func (k *Keeper) Put(state any, place uint64) { k.due.Put(snapshot{state, place}) }

// Run keeps snapshots until ctx is done.
func (k *Keeper) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return // there will be a last one
		case <-k.due.Ready():
			k.Last(ctx)
		}
	}
}

// Last keeps the newest snapshot that waits.
func (k *Keeper) Last(ctx context.Context) {
	list := k.due.Take()
	if len(list) == 0 {
		return
	}
	newest := list[len(list)-1]
	data, err := json.Marshal(newest.state)
	if err == nil {
		err = k.store.Keep(ctx, k.j, k.part, newest.place, data, k.seal)
	}
	if err != nil && ctx.Err() == nil {
		k.log(fmt.Sprintf("no snapshot of %s was kept, the next start reads more: %v", k.part, err))
	}
}

// Recall gives a part its newest snapshot, and returns the first entry that it
// does not stand for. Without one that is the first of all; the error says why
// one that the journal names can't be used, and then what recall was given is
// to be thrown away.
func Recall[S any](ctx context.Context, s *Snapshots, j lab.Journal, part string, recall func(*S) error) (next uint64, err error) {
	data, next, err := s.Latest(ctx, j, part)
	if err != nil || data == nil {
		return 1, err
	}
	var state S
	if err = json.Unmarshal(data, &state); err == nil {
		err = recall(&state)
	}
	if err != nil {
		return 1, err
	}
	return next, nil
}
