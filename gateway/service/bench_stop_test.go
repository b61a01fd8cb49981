package service_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"labgate/configs"
	"labgate/drivers/memory"
	"labgate/internal/bus"
	"labgate/lab"
	"labgate/messages"
)

// alarmPump reads 200 mL once it is told to, and knows when that was read and
// when its stop came.
type alarmPump struct {
	instantPump
	over    atomic.Bool
	read    atomic.Int64 // when 200 mL were first read, in nanoseconds
	stopped atomic.Int64
}

func (p *alarmPump) Read(id lab.PropertyID) (lab.Value, error) {
	if id.Property == "dispensed" && p.over.Load() {
		p.read.CompareAndSwap(0, time.Now().UnixNano())
		return lab.NumberValue(lab.Q(200, "mL")), nil
	}
	return p.instantPump.Read(id)
}

func (p *alarmPump) Do(cmd *lab.Command) (map[string]lab.Value, error) {
	if cmd.Target.Command == "stop" {
		p.stopped.CompareAndSwap(0, time.Now().UnixNano())
		return nil, nil
	}
	return p.instantPump.Do(cmd)
}

// stopLab is a lab of n pumps, each with a trip of its own.
func stopLab(b *testing.B, n int) *configs.Config {
	b.Helper()
	labFile, rules := "lab: speed\nkind: simulated\ngateway: bench\ninstruments:\n", "interlocks: speed\nrules:\n"
	for i := range n {
		labFile += fmt.Sprintf("  p%d: {profile: bench/pump@1, link: {}, safe: [pump.stop], on_lease_loss: keep}\n", i)
		rules += fmt.Sprintf("  - {id: full%d, trip: g%d, when: p%d.dispensed > 100 mL, unknown_for: 5 s, do: [p%d.stop]}\n", i, i, i, i)
	}
	labFile += "interlocks: interlocks.yaml\nnats: {embedded: {}}\n"
	profile := `profile: bench/pump@1
about: A pump that has delivered as soon as it is told.
components: {pump: pump/v1}
link: {kind: memory, reply_within: 100 ms}
properties: {rate: {unit: mL/min, poll: 500 ms}, dispensed: {unit: mL, poll: 20 ms}, running: {poll: 500 ms}}
commands: {dose: {}, stop: {}}
repeats: none
`
	cfg, err := configs.Load(fstest.MapFS{"lab.yaml": {Data: []byte(labFile)}, "interlocks.yaml": {Data: []byte(rules)}, "profiles/pump.yaml": {Data: []byte(profile)}}, "speed")
	if err != nil {
		b.Fatal(err)
	}
	return cfg
}

// BenchmarkSampleToStop is the time from a reading that trips, as its link has
// it, to the first byte of the stop, as the same link gets it: alone, and while
// commands are thrown at the gateway as fast as it takes them.
func BenchmarkSampleToStop(b *testing.B) {
	for name, flood := range map[string]bool{"alone": false, "flooded": true} {
		b.Run(name, func(b *testing.B) {
			const n = 100
			pumps := map[string]*alarmPump{}
			for i := range n {
				pumps[fmt.Sprintf("p%d", i)] = &alarmPump{}
			}
			s := startWith(b, stopLab(b, n), func(name string) memory.Device { return pumps[name] })
			lease := s.ready("p0")
			var sent atomic.Int64
			stop := make(chan struct{})
			var throwers sync.WaitGroup
			if flood {
				for range 4 {
					throwers.Add(1)
					go func() { defer throwers.Done(); s.throw(lease, &sent, stop) }()
				}
			}
			began := time.Now()
			var times []time.Duration
			for i := 1; i < n; i++ { // p0 takes the commands
				times = append(times, s.trip(pumps[fmt.Sprintf("p%d", i)]))
			}
			seconds := time.Since(began).Seconds()
			close(stop)
			throwers.Wait()
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-us")
			if flood {
				b.ReportMetric(float64(sent.Load())/seconds, "commands/s")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// trip lets one pump read too much and waits for its stop.
func (s *speed) trip(p *alarmPump) time.Duration {
	p.over.Store(true)
	for end := time.Now().Add(5 * time.Second); p.stopped.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.Fatal("no stop came")
		}
	}
	return time.Duration(p.stopped.Load() - p.read.Load())
}

// throw publishes commands without waiting for anything, at most 2,500 a
// second.
func (s *speed) throw(lease uint64, sent *atomic.Int64, stop <-chan struct{}) {
	subject := bus.Command(s.cfg.Lab.Name, "bench", "p0")
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		for range 10 {
			body := messages.Body(messages.Command{Envelope: messages.Envelope{Kind: messages.KindCommand}, ID: s.ids.New(time.Now()), Instrument: "p0", Component: "pump", Command: "dose",
				Args:      map[string]lab.Value{"volume": lab.NumberValue(lab.Q(0.01, "mL")), "rate": lab.NumberValue(lab.Q(6, "mL/min"))},
				Principal: "planner_1", Run: "run_p0", Step: "feed", Lease: lease, NotAfter: time.Now().Add(10 * time.Second)})
			if err := s.runner.Publish(s.Context(), subject, body); err != nil && !strings.Contains(err.Error(), "cancel") {
				s.Error(err)
				return
			}
			sent.Add(1)
		}
	}
}
