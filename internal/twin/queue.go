package twin

import (
	"container/heap"
	"fmt"
	"time"
)

// clock is the virtual time, and what the process takes it for. It is a
// lab.Clock that nobody waits on.
type clock struct {
	now    time.Time
	off    time.Duration // what the process's clock is ahead of it
	atBoot time.Duration // off, when the process began
}

// Now is what the process takes the virtual time for.
func (c *clock) Now() time.Time { return c.now.Add(c.off) }

// truly is the virtual time that the process takes for t.
func (c *clock) truly(t time.Time) time.Time { return t.Add(-c.off) }

// At returns nil, which never delivers: whatever in the twin waits for an
// instant is in its queue.
func (c *clock) At(time.Time) <-chan time.Time { return nil }

// ids are ULIDs that are counted.
type ids struct{ n uint64 }

// New makes the next id: the time, and how many there were.
func (i *ids) New(now time.Time) string {
	i.n++
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	var id [26]byte
	for k, x := 9, uint64(max(now.UnixMilli(), 0)); k >= 0; k, x = k-1, x>>5 {
		id[k] = digits[x&31]
	}
	for k, x := 25, i.n; k >= 10; k, x = k-1, x>>5 {
		id[k] = digits[x&31]
	}
	return string(id[:])
}

// item is something that happens at an instant.
type item struct {
	at    time.Time
	seq   uint64 // of equal instants the earlier asked comes first
	world bool   // not the process's: it survives a Restart
	do    func()
}

// queue is a heap of items, the next one first.
type queue []*item

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].seq < q[j].seq
}

func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *queue) Push(x any) { *q = append(*q, x.(*item)) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	n := len(old) - 1
	x := old[n]
	old[n] = nil
	*q = old[:n]
	return x
}

// drop takes out every item that gone names.
func (q *queue) drop(gone func(*item) bool) {
	var keep queue
	for _, i := range *q {
		if !gone(i) {
			keep = append(keep, i)
		}
	}
	*q = keep
	heap.Init(q)
}

// stream is a sequence of numbers of its own, splitmix64: what one part draws
// moves nothing of another's.
type stream struct{ key, n uint64 }

// between is a duration from low to high, both included.
func (s *stream) between(low, high time.Duration) time.Duration {
	s.n++
	x := s.key + s.n*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return low + time.Duration(x%uint64(high-low+1))
}

// network carries messages between the parts. One sender's messages on one
// channel never overtake each other.
type network struct {
	t      *Twin
	delays stream
	last   map[string]time.Time // the latest arrival, by sender and channel
}

// Delays of a message within one machine.
const (
	fastest = 100 * time.Microsecond
	slowest = 900 * time.Microsecond
)

// carry brings a message to its receiver, once, unless the faults say
// otherwise.
func (n *network) carry(from, channel string, data []byte, receive func([]byte)) {
	usual := n.usual()
	if n.t.o.Faults.Carry == nil {
		n.bring(from, channel, Arrival{After: usual}, func() { receive(data) })
		return
	}
	arrivals := n.t.o.Faults.Carry(Packet{from, channel, data}, usual)
	if len(arrivals) == 0 && !n.t.o.Quiet {
		n.t.trace.line(n.t.clock.now, "network", "!", fmt.Sprintf("lost %s of %s", channel, from))
	}
	for _, a := range arrivals {
		n.bring(from, channel, a, func() { receive(data) })
	}
}

// usual is how long the next message takes.
func (n *network) usual() time.Duration { return n.delays.between(fastest, slowest) }

// bring lets something arrive after a delay, and after what was sent before it.
func (n *network) bring(from, channel string, a Arrival, arrive func()) {
	t := n.t
	at, key := t.clock.now.Add(max(a.After, 0)), from+" "+channel
	if !a.Overtakes {
		at = later(at, n.last[key])
		n.last[key] = at
	}
	if a.Survives {
		t.push(&item{at: at, world: true, do: func() {
			if !t.down {
				t.after(0, arrive)
			}
		}})
		return
	}
	t.push(&item{at: at, do: arrive})
}
