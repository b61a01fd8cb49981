package opcua

import (
	"sync"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"

	"labgate/lab"
)

// skewed is the wall clock, put forward by hand.
type skewed struct {
	mu  sync.Mutex
	off time.Duration
}

func (c *skewed) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.off)
}
func (c *skewed) At(t time.Time) <-chan time.Time { return time.After(time.Until(t)) }
func (c *skewed) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off += d
}

// sampled reads properties of the bench and returns the samples.
func (b *bench) sampled(t *testing.T, names ...string) ([]lab.Sample, error) {
	t.Helper()
	ids := make([]lab.PropertyID, len(names))
	for i, n := range names {
		ids[i] = propertyID(n)
	}
	return b.link.Read(t.Context(), "dev", ids)
}

// A node that is not there costs its own property alone, is left alone for a
// while, and comes back.
func TestBadNodeIsLeftAlone(t *testing.T) {
	b := connected(t, time.Second)
	clock := &skewed{}
	b.link.(*Link).cfg.Clock = clock
	b.set("s=Made", good(int32(1)))
	var nodes []int
	b.lock(func() {
		b.asked = func(n int, _ []*ua.ReadValueID) ua.StatusCode { nodes = append(nodes, n); return 0 }
	})
	for range 3 {
		got, err := b.sampled(t, "made", "temperature")
		if err != nil {
			t.Fatal(err)
		}
		if got[0].Reading.Quality != lab.Good || got[1].Reading.Quality != lab.Bad || got[1].Why == "" {
			t.Fatalf("%+v", got)
		}
	}
	if len(nodes) != 3 || nodes[0] != 2 || nodes[1] != 1 || nodes[2] != 1 {
		t.Errorf("asked for %v nodes, want both once and then the good one", nodes)
	}
	clock.forward(firstQuarantine + time.Millisecond)
	b.set("s=T", good(1.0))
	if got, err := b.sampled(t, "made", "temperature"); err != nil || got[1].Reading.Quality != lab.Good || got[1].Why != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

// The pause grows while the node stays bad, up to a limit.
func TestQuarantineBacksOff(t *testing.T) {
	var q quarantine
	now := time.Unix(1_700_000_000, 0)
	var last time.Duration
	for range 20 {
		q.judge(now, ua.StatusBadNodeIDUnknown, nil)
		pause := q.until.Sub(now)
		if pause < last || pause > lastQuarantine {
			t.Fatalf("a pause of %v after %v", pause, last)
		}
		last, now = pause, q.until
	}
	if last != lastQuarantine {
		t.Errorf("the last pause is %v", last)
	}
	if q.judge(now, ua.StatusOK, nil); q.out(now) || q.fails != 0 {
		t.Errorf("a good answer left %+v", q)
	}
}

// What is of the wrong type for once may be right the next time; three times
// in a row it is another node than the profile thinks.
func TestWrongTypeIsLeftAlone(t *testing.T) {
	b := connected(t, time.Second)
	b.set("s=T", good("warm"))
	asked := 0
	b.lock(func() { b.asked = func(int, []*ua.ReadValueID) ua.StatusCode { asked++; return 0 } })
	for range wrongTypes + 2 {
		if got, err := b.sampled(t, "temperature"); err != nil || got[0].Reading.Quality != lab.Bad || got[0].Why == "" {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if asked != wrongTypes {
		t.Errorf("asked %d times, want %d", asked, wrongTypes)
	}
}

// healed connects and reads, again and again as the owner would, until all
// properties but the bad ones are good. It returns how often it connected.
func (b *bench) healed(t *testing.T, names []string, bad map[string]bool) int {
	t.Helper()
	for tries := range 20 {
		got, err := b.sampled(t, names...)
		if err != nil {
			if err := b.link.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			continue
		}
		for i, n := range names {
			if (got[i].Reading.Quality == lab.Good) == bad[n] {
				t.Errorf("%s is %+v", n, got[i])
			}
		}
		return tries
	}
	t.Fatal("the read never came through")
	return 0
}

var allNames = []string{"temperature", "made", "heating", "state", "lot"}

func (b *bench) allGood() {
	for node, v := range map[string]any{"s=T": 320.0, "s=Made": int32(1), "s=Heating": true, "s=State": int32(6), "s=Lot": "A"} {
		b.set(node, good(v))
	}
}

// A server that refuses a whole request for one of its nodes, which ends the
// session: the node is found by halves, and from then on left out.
func TestPoisonousNodeIsFound(t *testing.T) {
	b := connected(t, time.Second)
	b.allGood()
	b.lock(func() {
		b.asked = func(_ int, nodes []*ua.ReadValueID) ua.StatusCode {
			for _, n := range nodes {
				if n.NodeID.StringID() == "Heating" {
					return ua.StatusBadNodeIDUnknown
				}
			}
			return 0
		}
	})
	if n := b.healed(t, allNames, map[string]bool{"heating": true}); n == 0 || n > 4 {
		t.Errorf("it took %d connections", n)
	}
	epoch := b.link.Epoch("dev")
	for range 5 {
		b.healed(t, allNames, map[string]bool{"heating": true})
	}
	if b.link.Epoch("dev") != epoch {
		t.Error("the node that was found still ends sessions")
	}
}

// A server that takes less at once than it says.
func TestTrueLimitIsLearned(t *testing.T) {
	b := connected(t, time.Second)
	b.allGood()
	b.lock(func() {
		b.asked = func(n int, _ []*ua.ReadValueID) ua.StatusCode {
			if n > 2 {
				return ua.StatusBadTooManyOperations
			}
			return 0
		}
	})
	if n := b.healed(t, allNames, nil); n != 1 {
		t.Errorf("it took %d connections", n)
	}
	epoch := b.link.Epoch("dev")
	b.healed(t, allNames, nil)
	if b.link.Epoch("dev") != epoch {
		t.Error("the limit was forgotten")
	}
}

// A server that is full: each try ends with an error, and leaves nothing open.
func TestTooManySessions(t *testing.T) {
	b := unconnected(t, time.Second)
	b.lock(func() { b.full = true })
	for range 3 {
		wantKind(t, b.link.Connect(t.Context()), lab.KindUnavailable)
	}
	eventually(t, "no connection is left", func() (none bool) {
		b.lock(func() { none = len(b.conns) == 0 })
		return none
	})
	b.lock(func() { b.full = false })
	if err := b.link.Connect(t.Context()); err != nil || b.logins.Load() != 1 {
		t.Errorf("%v, %d sessions", err, b.logins.Load())
	}
}
