package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"labgate/internal/journal"
	"labgate/lab"
)

// A station whose journal has 1,000,000 entries is killed in the middle of a
// dose. The next start commands on_start within 2 s, is ready within 5 s and
// lists what is in doubt; verify takes at most 5 s. The times are told, and
// held to twice as much, for a machine that is busy.
func TestMillion(t *testing.T) {
	if !heavy {
		t.Skip("it writes 1,000,000 entries: LABGATE_HEAVY=1")
	}
	l := startLab(t)
	l.submitted("pour", "--input", "temperature=40 degC", "--input", "volume=0.02 mL", "--input", "rate=10 mL/min")
	l.serve.interrupt()
	fillJournal(t, l.data, 1_000_000)

	whole := time.Now() // the newest snapshot is before all of them
	l.startServe()
	t.Logf("ready after %.1f s without a snapshot of the last 1,000,000 entries", time.Since(whole).Seconds())
	l.serve.interrupt()
	l.startServe()
	agent := connectAs(t, l.data, "planner_1")
	told := agent.propose(proposal("p1", "pour", "1.0.0", `,"inputs":{"temperature":{"value":40,"unit":"degC"},"volume":{"value":0.2,"unit":"mL"},"rate":{"value":6,"unit":"mL/min"}}`))
	eventually(t, "the second dose is under way", func() bool { return l.count("pump_a").Doses == 2 })
	l.serve.kill()

	start := time.Now()
	l.startServe()
	ready := time.Since(start)
	_, status := l.runs()
	listed := time.Since(start)
	if len(status.InDoubt) == 0 {
		t.Error("nothing is in doubt")
	}
	var ordered time.Duration
	for _, e := range l.journal("--kind", "order/v1") {
		if at := e.Time.Sub(start); at > 0 && (ordered == 0 || at < ordered) {
			ordered = at
		}
	}
	before := time.Now()
	r := run(t, "journal", "verify", l.data)
	verified := time.Since(before)
	t.Logf("on_start after %d ms, ready after %d ms, %d in doubt listed after %d ms; verify %.1f s", ordered.Milliseconds(), ready.Milliseconds(), len(status.InDoubt), listed.Milliseconds(), verified.Seconds())
	if r.code != exitDone {
		t.Errorf("%v", r)
	}
	if ordered <= 0 || ordered > 4*time.Second || ready > 10*time.Second || verified > 10*time.Second {
		t.Error("too slow")
	}
	if i := l.run(told.Run); i.State != "held" {
		t.Errorf("%+v", i)
	}
	if c := l.count("pump_a"); c.Doses != 2 {
		t.Errorf("%+v", c)
	}
}

// fillJournal appends n entries as a gateway writes them, four a command.
func fillJournal(t *testing.T, dir string, n int) {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Options{Dir: dir, Lab: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Minute)
	boot, run, commands := ulid.Make().String(), "", 0
	for n > 0 {
		var group []lab.Entry
		for range 1000 {
			id := ulid.MustNew(ulid.Timestamp(at), ulid.DefaultEntropy()).String()
			if commands++; commands%50 == 1 {
				run = id
			}
			for _, e := range []struct{ kind, key, body string }{
				{"allow/v1", "", `{"rules":["size","hood"],"rules_hash":"sha256:a1851298a3bbc077c5570374844b20c82f5fd5389e038e6a7bd3cb0c461cb38c","inputs":[{"signal":"room.airflow","value":{"value":0.5,"unit":"m/s"},"quality":"good","age_ms":12}],"epoch":1}`},
				{"intent/v1", "command/" + id, `{"component":"pump","name":"dose","args":{"volume":{"value":0.1,"unit":"mL"},"rate":{"value":6,"unit":"mL/min"}},"lease":3,"epoch":1,"hash":"5603edaa7a2f436026703495aaf980143664cc4fff67766e13e68cee0703b477","before":{"dispensed":{"value":1,"unit":"mL"},"running":false}}`},
				{"sent/v1", "", `{"acked":true}`},
				{"outcome/v1", "outcome/" + id, `{"command":"` + id + `","state":"confirmed","started":"2026-11-22T09:00:00Z","ended":"2026-11-22T09:00:01Z","content":"cfbfe25570a94f3f3e6daf983e9b35044298380c1d41d2c031b916b4f2414c9e","end":"all","values":{"delivered":{"value":0.1,"unit":"mL"}}}`},
			} {
				n--
				group = append(group, lab.Entry{Kind: e.kind, Key: e.key, Time: at, Origin: "gateway/bench", OriginSeq: uint64(len(group) + 1), Boot: boot, Principal: "planner_1", Run: run,
					Step: "feed[3]", Instrument: "pump_b", Command: id, Synthetic: true, Body: json.RawMessage(e.body)})
			}
			at = at.Add(100 * time.Microsecond)
		}
		if _, err := j.Append(t.Context(), group...); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(dir, "journal.db"))
	t.Logf("%d commands on record, %v MiB", commands, st.Size()>>20)
	if err != nil {
		t.Fatal(err)
	}
}
