package service

import (
	"context"
	"fmt"
	"sync"
	"time"

	"labgate/gateway"
	"labgate/internal/bus"
	"labgate/internal/failpoint"
	"labgate/messages"
)

// Bounds of what waits for the bus.
const (
	mostWaiting  = 16 * gateway.DefaultMaxLive // documents; more than live commands and their refusals can make in a minute
	publishIn    = 2 * time.Second             // for one document
	publishAgain = 100 * time.Millisecond      // after the bus did not take one
)

// outgoing is a document on its way to the bus.
type outgoing struct {
	subject string
	data    []byte
	reply   func([]byte) error // instead of a subject
}

// outbox holds what waits for the bus: documents in order, which are kept until
// the bus has taken them, and the latest reading of each property, which a
// later one replaces. Both are bounded: documents by mostWaiting, readings by
// the number of properties.
type outbox struct {
	mu       sync.Mutex
	docs     []outgoing
	readings map[string][]byte
	order    []string // of the readings' subjects
	lost     int      // documents for which there was no room
	ready    chan struct{}
}

func newOutbox() *outbox {
	return &outbox{readings: map[string][]byte{}, ready: make(chan struct{}, 1)}
}

// put adds a document. It never blocks.
func (b *outbox) put(o outgoing) {
	b.mu.Lock()
	if len(b.docs) < mostWaiting {
		b.docs = append(b.docs, o)
	} else {
		b.lost++ // the journal has it; who waits for it asks again
	}
	b.mu.Unlock()
	b.wake()
}

// reading puts the latest reading of a property.
func (b *outbox) reading(subject string, data []byte) {
	b.mu.Lock()
	if _, ok := b.readings[subject]; !ok {
		b.order = append(b.order, subject)
	}
	b.readings[subject] = data
	b.mu.Unlock()
	b.wake()
}

func (b *outbox) wake() {
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// next is a document if there is one, else a reading. done says that it has
// left; a document that has not stays the first.
func (b *outbox) next() (o outgoing, document, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.docs) > 0 {
		return b.docs[0], true, true
	}
	if len(b.order) == 0 {
		return outgoing{}, false, false
	}
	subject := b.order[0]
	b.order = b.order[1:]
	o = outgoing{subject: subject, data: b.readings[subject]}
	delete(b.readings, subject)
	return o, false, true
}

// done takes the first document out.
func (b *outbox) done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.docs[0] = outgoing{}
	b.docs = b.docs[1:]
}

// takeLost is how many documents found no room since the last call.
func (b *outbox) takeLost() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.lost
	b.lost = 0
	return n
}

// full reports whether documents wait that a bus in order would have taken:
// new commands are then refused, so that theirs find room.
func (b *outbox) full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.docs) > mostWaiting/2
}

// publish puts a document of the core on its subject.
func (s *Service) publish(now time.Time, doc any) {
	subject := ""
	switch d := doc.(type) {
	case messages.Outcome:
		subject = bus.Outcome(s.o.Lab.Name, s.o.Name, d.Instrument)
	case messages.Safety:
		subject = bus.Safety(s.o.Lab.Name, s.o.Name, d.What)
		if d.Priority == "critical" || d.Priority == "high" || d.What == messages.SafetyRefusal {
			s.o.Log(d.What + ": " + d.Say)
		}
	}
	s.out.put(outgoing{subject: subject, data: messages.Body(s.stamp.document(now, doc))})
}

// runPublisher is the one goroutine that writes to the bus, so that a bus that
// hangs never holds up the core. Documents leave in order, and one that the
// bus does not take is tried again until it does; only readings are replaced
// by later ones. An answer is tried once: who asked has gone when it fails.
func (s *Service) runPublisher(ctx context.Context) {
	last := ""
	for ctx.Err() == nil {
		o, document, ok := s.out.next()
		if !ok {
			s.tellLost()
			select {
			case <-ctx.Done():
			case <-s.out.ready:
			}
			continue
		}
		err := s.toBus(ctx, o)
		hopeless := len(o.data) > messages.MaxMessage // no bus ever takes it
		if err == nil || o.reply != nil || !document || hopeless {
			if document {
				s.out.done()
			}
			last = ""
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		if say := fmt.Sprintf("not published on %s: %v", o.subject, err); say != last {
			last = say
			s.o.Log(say)
		}
		if o.reply == nil && document && !hopeless {
			select {
			case <-ctx.Done():
			case <-s.o.Clock.At(s.o.Clock.Now().Add(publishAgain)):
			}
		}
	}
}

func (s *Service) toBus(ctx context.Context, o outgoing) error {
	failpoint.Here("gateway/publishes")
	if o.reply != nil {
		return o.reply(o.data)
	}
	ctx, cancel := context.WithTimeout(ctx, publishIn)
	defer cancel()
	return s.o.Bus.Publish(ctx, o.subject, o.data)
}

// tellLost says that documents found no room while the bus was away: the
// journal has them, and outcomes can be asked for.
func (s *Service) tellLost() {
	n := s.out.takeLost()
	if n == 0 {
		return
	}
	say := fmt.Sprintf("the bus was away for so long that %d documents were not published; the journal has what they said", n)
	s.publish(s.o.Clock.Now(), messages.Safety{What: messages.SafetyAlarm, Rule: "bus", Priority: "critical", Say: say})
}
