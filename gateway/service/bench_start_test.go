package service_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"labgate/gateway"
	"labgate/internal/journal"
	"labgate/lab"
)

// BenchmarkRestore is a gateway's start on the journal in the folder that
// LABGATE_JOURNAL names: how long the check takes, and the reading.
func BenchmarkRestore(b *testing.B) {
	dir := os.Getenv("LABGATE_JOURNAL")
	if dir == "" {
		b.Skip("LABGATE_JOURNAL names no folder")
	}
	n, _ := strconv.Atoi(os.Getenv("LABGATE_INSTRUMENTS"))
	cfg := pumpLab(b, max(n, 1))
	for b.Loop() {
		t0 := time.Now()
		j, err := journal.Open(b.Context(), journal.Options{Dir: dir, Lab: "speed"})
		if err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		core, err := gateway.New(gateway.Options{Lab: cfg.Lab, Name: "bench", Rules: cfg.Rules})
		if err != nil {
			b.Fatal(err)
		}
		entries := 0
		if err := j.Read(b.Context(), 1, func(_ lab.Ref, e lab.Entry) error { entries++; return core.Restore(e) }); err != nil {
			b.Fatal(err)
		}
		t2 := time.Now()
		core.Restored(time.Now())
		b.ReportMetric(t1.Sub(t0).Seconds(), "open-s")
		b.ReportMetric(t2.Sub(t1).Seconds(), "read-s")
		b.ReportMetric(time.Since(t2).Seconds(), "restored-s")
		b.ReportMetric(float64(entries), "entries")
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
