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
// it, to the first byte of the stop, as the same link gets it; and that from a
// person's stop on the bus. Each alone, and while commands are thrown at the
// gateway, 10,000 a second.
func BenchmarkSampleToStop(b *testing.B) {
	for _, c := range []struct {
		name           string
		asked, flooded bool
	}{{"trip", false, false}, {"trip-flooded", false, true}, {"asked", true, false}, {"asked-flooded", true, true}} {
		b.Run(c.name, func(b *testing.B) {
			const rounds = 11 // of 99: the 99.9th of a hundred is no number
			var times []time.Duration
			rate := 0.0
			for range rounds {
				took, per := stopRound(b, c.asked, c.flooded)
				times, rate = append(times, took...), rate+per/rounds
			}
			slices.Sort(times)
			at := func(part float64) float64 { return float64(times[int(part*float64(len(times)-1))].Microseconds()) }
			b.ReportMetric(at(0.5), "p50-us")
			b.ReportMetric(at(0.99), "p99-us")
			b.ReportMetric(at(0.999), "p99.9-us")
			if c.flooded {
				b.ReportMetric(rate, "commands/s")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// stopRound stops the pumps of a gateway one after the other.
func stopRound(b *testing.B, asked, flooded bool) (times []time.Duration, rate float64) {
	const n = 100
	pumps := map[string]*alarmPump{}
	for i := range n {
		pumps[fmt.Sprintf("p%d", i)] = &alarmPump{}
	}
	s, end := startRound(b, stopLab(b, n), func(name string) memory.Device { return pumps[name] })
	defer end()
	lease := s.ready("p0")
	var sent atomic.Int64
	stop := make(chan struct{})
	var throwers sync.WaitGroup
	if flooded {
		for range 4 {
			throwers.Add(1)
			go func() { defer throwers.Done(); s.throw(lease, &sent, stop) }()
		}
	}
	began := time.Now()
	for i := 1; i < n; i++ { // p0 takes the commands
		name := fmt.Sprintf("p%d", i)
		if asked {
			times = append(times, s.ask(name, pumps[name]))
		} else {
			times = append(times, s.trip(pumps[name]))
		}
	}
	seconds := time.Since(began).Seconds()
	close(stop)
	throwers.Wait()
	return times, float64(sent.Load()) / seconds
}

// ask publishes a person's stop of one pump and waits until it is there.
func (s *speed) ask(name string, p *alarmPump) time.Duration {
	time.Sleep(5 * time.Millisecond)
	began := time.Now().UnixNano()
	if err := s.runner.Publish(s.Context(), bus.Stop(s.cfg.Lab.Name), messages.Body(messages.Stop{Kind: messages.KindStop, ID: s.ids.New(time.Now()), Instrument: name, Principal: "a person", Reason: "a benchmark"})); err != nil {
		s.Fatal(err)
	}
	s.await(p)
	return time.Duration(p.stopped.Load() - began)
}

// trip lets one pump read too much and waits for its stop.
func (s *speed) trip(p *alarmPump) time.Duration {
	p.over.Store(true)
	s.await(p)
	return time.Duration(p.stopped.Load() - p.read.Load())
}

func (s *speed) await(p *alarmPump) {
	for end := time.Now().Add(5 * time.Second); p.stopped.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.Fatal("no stop came")
		}
	}
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
