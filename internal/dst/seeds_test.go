package dst

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	from  = flag.Uint64("dst.from", 1, "the first seed")
	seeds = flag.Uint64("dst.seeds", 0, "how many seeds; 0: 200, and 10,000 with LABGATE_HEAVY=1")
	first = flag.Bool("dst.first", false, "stop at the first broken promise")
)

// TestSeeds runs many seeds, and every promise holds in all of them.
func TestSeeds(t *testing.T) {
	n := *seeds
	if n == 0 {
		n = 200
		if os.Getenv("LABGATE_HEAVY") != "" {
			n = 10_000
		}
	}
	cover, begun := Coverage{}, time.Now()
	var next atomic.Uint64
	var broken atomic.Int64
	var events, virtual atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				seed := next.Add(1) - 1 + *from
				if seed >= *from+n || broken.Load() > 0 && (*first || broken.Load() > 20) {
					return
				}
				rep, err := Run(seed, Options{})
				mu.Lock()
				if err != nil {
					broken.Add(1)
					t.Error(err)
				} else {
					cover.Add(rep.Coverage)
					events.Add(int64(rep.Events))
					virtual.Add(int64(rep.Virtual))
					if v := rep.Violation; v != nil {
						broken.Add(1)
						fmt.Printf("VIOLATION seed=%d promise=%s %v\n", seed, v.Promise, v)
						t.Errorf("seed %d (%s): %v", seed, rep.Site, v)
					}
				}
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	t.Logf("%d seeds, %d events, %s of virtual time, %s", n, events.Load(), time.Duration(virtual.Load()).Round(time.Minute), time.Since(begun).Round(time.Millisecond))
}
