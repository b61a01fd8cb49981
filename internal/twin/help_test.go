package twin_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"labgate/configs"
	"labgate/internal/twin"
	"labgate/lab"
	"labgate/lab/frame"
	"labgate/messages"
	"labgate/protocols"
	"labgate/runner"
)

// demo is the demo lab with its library, loaded once: nothing of it changes.
var demo = sync.OnceValues(func() (*twin.Options, error) {
	folder, err := fs.Sub(configs.Embedded(), "labs/demo")
	if err != nil {
		return nil, err
	}
	cfg, err := configs.Load(folder, "demo")
	if err != nil {
		return nil, err
	}
	o := &twin.Options{Lab: cfg.Lab, Rules: cfg.Rules, Classes: cfg.Classes, Encodable: frame.Encodable,
		Principals: []runner.Principal{{Name: "planner", Role: "agent", Inline: true}, {Name: "operator", Role: "operator"}}}
	library := protocols.Library()
	list, issues := protocols.Load(cfg.Classes, protocols.Files(library), library)
	o.Library = list
	return o, issues.Err()
})

// makeTwin makes a twin of the demo lab whose instruments all answer.
func makeTwin(t testing.TB, seed uint64, faults twin.Faults) *twin.Twin {
	t.Helper()
	o, err := demo()
	if err != nil {
		t.Fatal(err)
	}
	opts := *o
	opts.Seed, opts.Faults = seed, faults
	opts.SnapshotEvery = int(seed%3) * 20 // every test that restarts does it from snapshots too
	w, err := twin.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	run(t, w, 5*time.Second, ready)
	return w
}

func ready(w *twin.Twin) bool { return w.Status().Ready }

// run lets time pass until something holds; the end of the trace tells why it
// did not.
func run(t testing.TB, w *twin.Twin, limit time.Duration, until func(*twin.Twin) bool) {
	t.Helper()
	if err := w.Run(until, limit); err != nil {
		t.Fatalf("%v\nruns %+v\nlatches %+v\nthe trace ends:\n%s", err, w.Runs(), w.Status().Latches, tail(w.Trace(), 30))
	}
}

func pass(t testing.TB, w *twin.Twin, d time.Duration) { t.Helper(); run(t, w, d, nil) }

func tail(trace []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(trace)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// proposal writes a proposal; inputs are pairs of name and value, a value as
// in "70 degC", or a number.
func proposal(key, protocol, version string, inputs ...any) []byte {
	p := map[string]any{"kind": messages.KindProposal, "id": "P-" + key, "key": key, "hypothesis": "it works",
		"protocol": map[string]any{"name": protocol, "version": version}}
	in := map[string]any{}
	for i := 0; i < len(inputs); i += 2 {
		in[inputs[i].(string)] = inputs[i+1]
		if s, ok := inputs[i+1].(string); ok {
			q, err := lab.ParseQuantity(s)
			if err != nil {
				panic(err)
			}
			in[inputs[i].(string)] = q
		}
	}
	p["inputs"] = in
	b, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return b
}

// inline writes a proposal that carries its protocol.
func inline(key, protocol string) []byte {
	return messages.Body(map[string]any{"kind": messages.KindProposal, "id": "P-" + key, "key": key, "protocol_inline": protocol})
}

func gold(key string) []byte {
	return proposal(key, "gold-nanoparticles", "1.2.0", "temperature", "72 degC", "ratio", "1.2 1", "volume", "0.15 mL")
}

// accepted submits a proposal and returns its run.
func accepted(t testing.TB, w *twin.Twin, data []byte) string {
	t.Helper()
	n := len(w.Verdicts("planner"))
	w.Submit("planner", data)
	run(t, w, time.Second, func(w *twin.Twin) bool { return len(w.Verdicts("planner")) > n })
	v := w.Verdicts("planner")[n]
	if v.Decision != messages.AcceptedDecision {
		t.Fatalf("verdict %+v", v)
	}
	return v.Run
}

// ended waits for a run's stop document.
func ended(t testing.TB, w *twin.Twin, id string, limit time.Duration) messages.RunStop {
	t.Helper()
	run(t, w, limit, func(w *twin.Twin) bool { _, ok := w.Stopped(id); return ok })
	s, _ := w.Stopped(id)
	return s
}

// outcomes lists the final outcomes of commands in the journal, as
// "pump_a.dose confirmed", in order.
func outcomes(t testing.TB, w *twin.Twin) []string {
	t.Helper()
	names := map[string]string{}
	var list []string
	for _, e := range w.Entries() {
		switch e.Kind {
		case "intent/v1":
			var b struct{ Name string }
			if err := json.Unmarshal(e.Body, &b); err != nil {
				t.Fatal(err)
			}
			names[e.Command] = e.Instrument + "." + b.Name
		case "outcome/v1":
			var o lab.Outcome
			if err := json.Unmarshal(e.Body, &o); err != nil {
				t.Fatal(err)
			}
			name := names[e.Command]
			if name == "" {
				name = e.Instrument // a safe command of a finally has no intent
			}
			list = append(list, fmt.Sprintf("%s %s", name, o.State))
		}
	}
	return list
}

func has(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// dosing waits until both pumps run.
func dosing(w *twin.Twin) bool {
	return w.World().Count("pump_a").Doses == 1 && w.World().Count("pump_b").Doses == 1
}

// entries counts the journal's entries of a kind.
func entries(w *twin.Twin, kind string) int {
	n := 0
	for _, e := range w.Entries() {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func set(t testing.TB, w *twin.Twin, knob string, v float64) {
	t.Helper()
	if err := w.World().Set(knob, v); err != nil {
		t.Fatal(err)
	}
}

// ask sends a control message and returns the answer.
func ask(t testing.TB, w *twin.Twin, principal string, c messages.Control) messages.ControlReply {
	t.Helper()
	w.Control(principal, c)
	run(t, w, time.Second, func(w *twin.Twin) bool { _, ok := w.Reply(c.ID); return ok })
	r, _ := w.Reply(c.ID)
	return r
}
