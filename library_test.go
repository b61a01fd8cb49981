package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"labgate/internal/twin"
	"labgate/lab/frame"
	"labgate/messages"
	"labgate/protocols"
	"labgate/runner"
	"labgate/safety/preflight"
)

// TestLibrary: every protocol of the library passes check for all inputs,
// nothing refused, and finds its lab by itself; it ends well on the twin with
// every seed; and no reading of a property leaves the range that preflight says
// its commands may bring it to, or what lies between that and where it began.
func TestLibrary(t *testing.T) {
	seeds := 2
	if heavy {
		seeds = 20
	}
	names := sortedNames(protocols.Library())
	if len(names) < 10 {
		t.Errorf("only %d protocols: %v", len(names), names)
	}
	// In a group of their own: they need the processors, which the acceptance tests
	// then have to themselves.
	t.Run("all", func(t *testing.T) { libraryWithin(t, names, seeds) })
}

func libraryWithin(t *testing.T, names []string, seeds int) {
	for _, file := range names {
		name := strings.TrimSuffix(file, ".yaml")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, p, err := loadProtocol(name, "")
			if err != nil {
				t.Fatal(err)
			}
			said, issues := preflight.All(cfg.Rules)(p, cfg.Lab)
			if len(issues) > 0 || len(said.Refused) > 0 {
				t.Fatal(issues, said.Refused)
			}
			wantAllJudged(t, p, said)
			for seed := range seeds {
				w, err := twin.New(twin.Options{Lab: cfg.Lab, Rules: cfg.Rules, Classes: cfg.Classes, Library: []*protocols.Protocol{p}, Encodable: frame.Encodable,
					Seed: uint64(seed + 1), Principals: []runner.Principal{{Name: "scientist", Role: "scientist"}}, Quiet: true, Sparse: true})
				if err != nil {
					t.Fatal(err)
				}
				simulateWithin(t, w, p, said.Reach)
			}
		})
	}
}

// wantAllJudged: each command of a step is proved or checked live.
func wantAllJudged(t *testing.T, p *protocols.Protocol, said preflight.Result) {
	t.Helper()
	judged := slices.Clone(said.Proved)
	for _, l := range said.Live {
		judged = append(judged, l.Step)
	}
	p.Walk(func(s *protocols.Step) {
		if s.Kind == protocols.Do && !slices.Contains(judged, s.Path) {
			t.Errorf("nothing is said of %s; proved %v, live %v", s.Path, said.Proved, said.Live)
		}
	})
}

// simulateWithin runs a protocol with its defaults and holds every reading
// against the ranges.
func simulateWithin(t *testing.T, w *twin.Twin, p *protocols.Protocol, reach []preflight.Reach) {
	t.Helper()
	if err := w.Run(func(w *twin.Twin) bool { return w.Status().Ready }, time.Minute); err != nil {
		t.Fatal(err)
	}
	type span struct{ low, up float64 }
	spans := make([]span, len(reach))
	read := func(i int) float64 {
		id := reach[i].Property
		v, err := w.World().Read(id.Instrument, id.Component, id.Property)
		if err != nil {
			t.Fatal(id, err)
		}
		return v.Num
	}
	for i, r := range reach {
		began := read(i)
		spans[i] = span{math.Min(began, r.Low.Value), math.Max(began, r.Up.Value)}
		noise := 0.02*math.Max(math.Abs(spans[i].low), math.Abs(spans[i].up)) + 1e-3 // what the sensors themselves add
		spans[i].low, spans[i].up = spans[i].low-noise, spans[i].up+noise
	}
	w.Submit("scientist", messages.Body(messages.Proposal{Kind: messages.KindProposal, ID: "p", Key: "p", Protocol: &messages.ProtocolRef{Name: p.Name, Version: p.Version}}))
	left := ""
	done := func(w *twin.Twin) bool {
		for i, r := range reach {
			if v := read(i); !(v >= spans[i].low && v <= spans[i].up) && left == "" {
				left = fmt.Sprintf("%s is %v at %s; it may be from %s to %s", r.Property, v, w.Now().Format("15:04:05.000"), r.Low, r.Up)
			}
		}
		v := w.Verdicts("scientist")
		if len(v) == 0 {
			return false
		}
		if v[0].Decision != messages.AcceptedDecision {
			return true
		}
		_, over := w.Stopped(v[0].Run)
		return over
	}
	if err := w.Run(done, 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	if left != "" {
		t.Error(left)
	}
	v := w.Verdicts("scientist")[0]
	if stop, _ := w.Stopped(v.Run); stop.ExitStatus != messages.ExitSuccess {
		t.Errorf("%s: %s %s %v", v.Say, stop.ExitStatus, stop.Reason, v.Issues)
	}
	for _, r := range w.Runs() {
		if len(r.InDoubt) > 0 {
			t.Errorf("in doubt: %v", r.InDoubt)
		}
	}
}
