package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// BenchmarkVerdict is the time from the publishing of a proposal to its verdict
// at an agent's plain NATS client, at 200 proposals a second, through a real
// station: strict decoding, all checks, the proof against the interlocks, the
// durable record. Of eleven proposals one is out of bounds and one names an
// unknown input; the others are good, and most of them find the queue full,
// which is asked last. The figures come after b.N proposals: give it
// -benchtime 2000x.
func BenchmarkVerdict(b *testing.B) {
	const every = time.Second / 200
	l := startLab(b)
	agent := connectAs(b, l.data, "scientist_1")
	sent := make([]time.Time, b.N)
	go func() {
		next := time.Now()
		for i := range sent {
			time.Sleep(time.Until(next))
			next = next.Add(every)
			inputs := fmt.Sprintf(`"temperature":{"value":%d,"unit":"degC"}`, 40+i%50)
			switch i % 11 {
			case 9:
				inputs = `"temperature":{"value":200,"unit":"degC"}`
			case 10:
				inputs = `"temprature":{"value":50,"unit":"degC"}`
			}
			sent[i] = time.Now()
			if err := agent.nc.Publish("lab.demo.proposals.scientist_1", fmt.Appendf(nil, `{"kind":"proposal/v1","id":"b%d","key":"b%d","protocol":{"name":"gold-nanoparticles","version":"1.2.0"},"inputs":{%s}}`, i, i, inputs)); err != nil {
				b.Error(err)
			}
		}
	}()
	var took []time.Duration
	decisions := map[string]int{}
	for len(took) < b.N {
		m := agent.next("lab.demo.verdicts.")
		now := time.Now()
		var v verdictDoc
		var i int
		if err := json.Unmarshal(m.Data, &v); err != nil {
			b.Fatal(err)
		}
		if _, err := fmt.Sscanf(v.Proposal, "b%d", &i); err != nil {
			b.Fatal(v.Proposal, err)
		}
		took = append(took, now.Sub(sent[i]))
		decisions[strings.TrimSpace(v.Decision+" "+v.codes())]++
	}
	slices.Sort(took)
	b.Log(decisions)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
	b.ReportMetric(0, "ns/op") // it waits for its schedule
}
