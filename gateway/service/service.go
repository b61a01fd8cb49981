// Package service is the shell around the gateway's core: it owns the links,
// the journal's queue, the bus endpoints and the control socket.
//
// Goroutines: one runs the core and is the only one that calls it; one owns
// each link and is the only one that calls it; one hands entries to the
// journal, one publishes, one stores bytes, one reads files, one watches the
// clock. They wait neither for each other nor for the bus: readings pass
// through latest-value slots, everything else through mailboxes. Run starts
// them all and joins them all.
package service

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"labgate/drivers"
	"labgate/gateway"
	"labgate/internal/journal"
	"labgate/internal/mailbox"
	"labgate/lab"
	"labgate/safety"
)

// Blobs stores bytes by content before an outcome may name them.
type Blobs interface {
	Put(ctx context.Context, data []byte) (hash string, err error)
}

// Options make a Service. Everything is mandatory but Snapshots, Vetted,
// LoadRules, MaxLive, Log and ControlSocket.
type Options struct {
	Lab       *lab.Lab
	Name      string // the gateway's
	Rules     *safety.Rules
	StartBy   time.Time
	Encodable func(*lab.Instrument, *lab.Command) error

	Clock   lab.Clock
	IDs     lab.IDs
	Bus     lab.Bus
	Journal lab.Journal
	Blobs   Blobs
	// Snapshots spare a start the reading of the whole journal. Nil: none are
	// kept.
	Snapshots *journal.Snapshots
	Openers   map[lab.LinkKind]drivers.Opener
	Address   func(*lab.Instrument) (map[string]string, error)
	Role      func(principal string) string // agent, scientist, operator, safety; "" for nobody
	// Vetted says until when a principal counts; zero: for ever. Nil: all do.
	Vetted func(principal string) time.Time
	// LoadRules reads the lab's interlocks again, for the same lab. Its error
	// may be a lab.Issues. Nil: there is nothing to read.
	LoadRules func() (*safety.Rules, error)

	MaxLive       int          // commands between arrival and outcome; 0: gateway.DefaultMaxLive
	ControlSocket string       // path of a local socket for stops when the bus is gone; empty: none
	Log           func(string) // one line for people; nil: silent
}

// maxWaiting bounds what waits in a mailbox for the core or the journal: more
// is refused as busy where it comes from the bus.
const maxWaiting = gateway.DefaultMaxLive

// Service runs one gateway.
type Service struct {
	o         Options
	core      *gateway.Core
	boot      string
	stops     *mailbox.Box[gateway.Event] // stops that were asked for: they go before events
	events    *mailbox.Box[gateway.Event]
	appends   *mailbox.Box[appendRequest]
	slots     slots
	owners    map[string]*owner // by instrument
	stamp     stamper
	telemetry *telemetry
	out       *outbox
	blobs     *mailbox.Box[storeRequest]
	reloads   *mailbox.Box[reloadRequest]
	looks     *mailbox.Box[string] // ids that the journal is asked about
	snaps     *journal.Keeper
	seq       uint64 // of journal entries
	fatal     chan error
}

// appendRequest is work for the journal's goroutine; token 0 is a note.
type appendRequest struct {
	token   uint64
	entries []lab.Entry
	snap    *gateway.Snapshot // the one entry is its place
}

// New makes a Service and restores its core from the journal. It touches no
// instrument.
func New(ctx context.Context, o Options) (*Service, error) {
	if o.Log == nil {
		o.Log = func(string) {}
	}
	newCore := func() (*gateway.Core, error) {
		return gateway.New(gateway.Options{Lab: o.Lab, Name: o.Name, Rules: o.Rules, StartBy: o.StartBy, Encodable: o.Encodable, MaxLive: o.MaxLive})
	}
	now := o.Clock.Now()
	s := &Service{o: o, boot: o.IDs.New(now), stops: mailbox.New[gateway.Event](), events: mailbox.New[gateway.Event](), appends: mailbox.New[appendRequest](),
		owners: map[string]*owner{}, telemetry: newTelemetry(o.Lab.Instruments), out: newOutbox(),
		blobs: mailbox.New[storeRequest](), reloads: mailbox.New[reloadRequest](), looks: mailbox.New[string](), fatal: make(chan error, 1)}
	s.slots.readings = map[lab.PropertyID]lab.Reading{}
	s.slots.ready = make(chan struct{}, 1)
	s.stamp = stamper{lab: o.Lab.Name, origin: "gateway/" + o.Name, boot: s.boot, synthetic: o.Lab.Simulated}
	s.snaps = journal.NewKeeper(o.Snapshots, o.Journal, s.stamp.origin, s.sealSnapshot, o.Log)
	if err := s.restore(ctx, newCore); err != nil {
		return nil, err
	}
	return s, s.makeOwners()
}

// makeOwners gives each address one owner.
func (s *Service) makeOwners() error {
	groups := map[string][]*lab.Instrument{}
	var keys []string
	for _, in := range s.o.Lab.Instruments {
		if in.Gateway != s.o.Name {
			continue
		}
		k := drivers.Key(in)
		if groups[k] == nil {
			keys = append(keys, k)
		}
		groups[k] = append(groups[k], in)
	}
	for _, k := range keys {
		open := s.o.Openers[groups[k][0].Profile.Link.Kind]
		if open == nil {
			return lab.E("gateway/service: open", groups[k][0].Name, lab.KindInvalid, fmt.Errorf("no driver for %s links", groups[k][0].Profile.Link.Kind))
		}
		o, err := newOwner(s, groups[k], open)
		if err != nil {
			return err
		}
		for _, in := range groups[k] {
			s.owners[in.Name] = o
		}
	}
	return nil
}

// Run works until ctx is done, then joins everything it started. The
// instruments are left as their on_gateway_death says: as they are.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	start := func(f func(context.Context)) {
		wg.Add(1)
		go func() { defer wg.Done(); f(ctx) }()
	}
	defer s.lastSnapshot(context.WithoutCancel(ctx))
	defer wg.Wait()
	defer cancel()
	closeSocket, err := s.listenControl(ctx, start)
	if err != nil {
		return err
	}
	defer closeSocket()
	start(s.runJournal)
	start(s.runPublisher)
	start(s.runBlobs)
	start(s.runReloads)
	start(s.runLooks)
	start(s.snaps.Run)
	s.act(ctx, s.o.Clock.Now(), s.core.Restored(s.o.Clock.Now()))
	if err := s.subscribe(ctx); err != nil {
		return err
	}
	for _, o := range s.uniqueOwners() {
		start(o.run)
	}
	start(s.watchClock)
	start(s.watchJournal)
	return s.runCore(ctx)
}

func (s *Service) uniqueOwners() []*owner {
	seen := map[*owner]bool{}
	var list []*owner
	for _, in := range s.o.Lab.Instruments {
		if o := s.owners[in.Name]; o != nil && !seen[o] {
			seen[o] = true
			list = append(list, o)
		}
	}
	return list
}

// runCore is the one goroutine that calls the core. Stops come before anything
// else, and readings before any event that was posted after them, however many
// events wait.
func (s *Service) runCore(ctx context.Context) error {
	var timer <-chan time.Time
	for {
		next := s.core.Next()
		if t := s.telemetry.sweep; next.IsZero() || !t.IsZero() && t.Before(next) {
			next = t
		}
		if next.IsZero() {
			timer = nil
		} else {
			timer = s.o.Clock.At(next)
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.fatal:
			return err
		case <-s.stops.Ready():
		case <-s.events.Ready():
		case <-s.slots.ready:
		case <-timer:
		}
		events := s.events.Take()
		s.urgent(ctx)
		s.sweepReadings(s.o.Clock.Now())
		if len(events) == 0 {
			now := s.o.Clock.Now()
			s.act(ctx, now, s.core.Step(now, gateway.Tick{}))
		}
		for _, e := range events {
			now := s.o.Clock.Now()
			s.act(ctx, now, s.core.Step(now, e))
			s.urgent(ctx)
		}
	}
}

// urgent steps with the stops and the readings that wait.
func (s *Service) urgent(ctx context.Context) {
	if s.stops.Len() > 0 {
		for _, e := range s.stops.Take() {
			now := s.o.Clock.Now()
			s.act(ctx, now, s.core.Step(now, e))
		}
	}
	if samples := s.slots.take(); len(samples) > 0 {
		now := s.o.Clock.Now()
		s.act(ctx, now, s.core.Step(now, gateway.Readings{Samples: samples}))
		s.publishReadings(now, samples)
	}
}

// act does what the core asks for. It never blocks. Stops go before everything
// else, and their links get the processor before the rest is written down and
// told of.
func (s *Service) act(ctx context.Context, now time.Time, actions []gateway.Action) {
	stops := false
	for _, a := range actions {
		if a, ok := a.(gateway.Lane); ok {
			s.owners[a.Order.Target().Instrument].lane(a)
			stops = true
		}
	}
	if stops {
		runtime.Gosched()
	}
	for _, a := range actions {
		switch a := a.(type) {
		case gateway.Send:
			s.owners[a.Command.Target.Instrument].send(a)
		case gateway.Refresh:
			s.refresh(ctx, a)
		case gateway.Append:
			s.appends.Put(appendRequest{token: a.Token, entries: s.seal(now, a.Entries)})
		case gateway.Note:
			s.appends.Put(appendRequest{entries: s.seal(now, a.Entries)})
		case gateway.Look:
			s.looks.Put(a.Command)
		case gateway.Snap:
			s.appends.Put(s.placeOf(now, a.State))
		case gateway.Answer:
			a.Reply.(replyFunc)(s.stamp.document(now, a.Message))
		case gateway.Publish:
			s.publish(now, a.Message)
		}
	}
}

// seal adds what the core does not know: origin, boot and sequence.
func (s *Service) seal(now time.Time, entries []lab.Entry) []lab.Entry {
	for i := range entries {
		s.seq++
		e := &entries[i]
		e.Origin, e.OriginSeq, e.Boot, e.Synthetic = s.stamp.origin, s.seq, s.boot, s.o.Lab.Simulated
		if e.Time.IsZero() {
			e.Time = now
		}
	}
	return entries
}

// runJournal hands entries over in the order in which the core gave them, as
// many at once as wait: that is the group commit.
func (s *Service) runJournal(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			s.writeBatch(context.WithoutCancel(ctx), s.appends.Take()) // what the core has decided is not lost
			return
		case <-s.appends.Ready():
			s.writeBatch(ctx, s.appends.Take())
		}
	}
}

func (s *Service) writeBatch(ctx context.Context, batch []appendRequest) {
	var entries []lab.Entry
	waiters := 0
	for _, r := range batch {
		entries = append(entries, r.entries...)
		if r.token != 0 || r.snap != nil {
			waiters++
		}
	}
	switch {
	case len(entries) == 0:
		return
	case waiters == 0:
		s.o.Journal.Note(entries...)
		return
	}
	refs, err := s.o.Journal.Append(ctx, entries...)
	if err != nil && len(batch) > 1 && (lab.KindOf(err) == lab.KindConflict || errors.Is(err, journal.ErrDiskFull)) {
		for _, r := range batch {
			s.writeBatch(ctx, []appendRequest{r}) // find the one that conflicts, and what a full disk takes
		}
		return
	}
	at := 0
	for _, r := range batch {
		if r.token != 0 {
			d := gateway.Durable{Token: r.token, Err: err}
			if err == nil {
				d.Refs = refs[at : at+len(r.entries)]
			}
			s.events.Put(d)
		}
		if r.snap != nil && err == nil {
			s.snaps.Put(r.snap, refs[at].Seq)
		}
		at += len(r.entries)
	}
}

// refresh asks every link that a decision needs, at once, with a deadline.
func (s *Service) refresh(ctx context.Context, a gateway.Refresh) {
	byOwner := map[*owner][]lab.PropertyID{}
	for _, id := range a.Properties {
		o := s.owners[id.Instrument]
		byOwner[o] = append(byOwner[o], id)
	}
	left := len(byOwner)
	if left == 0 {
		s.events.Put(gateway.Refreshed{Command: a.Command})
		return
	}
	var mu sync.Mutex
	done := func() {
		mu.Lock()
		defer mu.Unlock()
		if left--; left == 0 {
			s.events.Put(gateway.Refreshed{Command: a.Command})
		}
	}
	for o, ids := range byOwner {
		o.refresh(refreshRequest{ids: ids, by: s.o.Clock.Now().Add(a.Within), done: done})
	}
}

// watchClock compares wall and monotonic time: a clock that was set makes
// every expiry meaningless.
func (s *Service) watchClock(ctx context.Context) {
	const every, tolerance = 500 * time.Millisecond, time.Second
	start := s.o.Clock.Now()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.o.Clock.At(s.o.Clock.Now().Add(every)):
		}
		now := s.o.Clock.Now()
		why := ""
		if off := now.Round(0).Sub(start.Round(0)) - now.Sub(start); off > tolerance || off < -tolerance {
			why = fmt.Sprintf("it was set by %s while this process ran; restart the gateway", off.Round(time.Millisecond))
		}
		if why != last {
			last = why
			s.events.Put(gateway.ClockTrust{Why: why})
		}
	}
}

// watchJournal tells the core that the journal has failed, though it was not
// the core's own entry that found it.
func (s *Service) watchJournal(ctx context.Context) {
	if err := s.o.Journal.Failed(ctx); err != nil {
		s.events.Put(gateway.JournalFailed{Err: err})
	}
}

// slots hold the latest reading of each property until the core takes it: a
// slow core sees fewer readings, never old ones, and a link never waits.
type slots struct {
	mu       sync.Mutex
	readings map[lab.PropertyID]lab.Reading
	order    []lab.PropertyID
	ready    chan struct{}
}

func (s *slots) put(samples []lab.Sample) {
	s.mu.Lock()
	for _, x := range samples {
		if _, ok := s.readings[x.ID]; !ok {
			s.order = append(s.order, x.ID)
		}
		s.readings[x.ID] = x.Reading
	}
	s.mu.Unlock()
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

func (s *slots) take() []lab.Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.order) == 0 {
		return nil
	}
	list := make([]lab.Sample, 0, len(s.order))
	for _, id := range s.order {
		list = append(list, lab.Sample{ID: id, Reading: s.readings[id]})
	}
	clear(s.readings)
	s.order = s.order[:0]
	return list
}
