package runner_test

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"labgate/messages"
)

// leasing looks at a request for a lease as it is asked: in sorted order, one
// after the other, with all that came before in hand; and nobody is passed.
func (w *anyOffice) leasing(r messages.LeaseRequest) {
	if r.Action != messages.LeaseTake {
		return
	}
	var wants []string
	for _, i := range w.core.Runs("") {
		if i.Run == r.Run {
			wants = wantsOf(i.Protocol)
		}
	}
	n := slices.Index(wants, r.Instrument)
	for k, in := range wants {
		if (w.held[in] == r.Run) != (k < n) && !w.released(in, r.Run) {
			w.t.Fatalf("run %s asks for %s of %v, and these are held: %v", r.Run, r.Instrument, wants, w.held)
		}
	}
	if n > 0 || w.begun[r.Run] || w.moved[r.Run] {
		return
	}
	for _, q := range w.core.Queue(w.now, "") {
		own := slices.ContainsFunc(q.Waits, func(x messages.QueueWait) bool { return x.For != messages.WaitRun && x.For != messages.WaitBehind })
		shared := slices.ContainsFunc(wantsOf(q.Protocol), func(in string) bool { return slices.Contains(wants, in) })
		if shared && !own && q.Counts.Before(w.counts[r.Run]) && !w.moved[q.Run] && !w.begun[q.Run] {
			w.t.Fatalf("run %s, from %s, passes run %s, from %s, which waits for %+v", r.Run, w.counts[r.Run], q.Run, q.Counts, q.Waits)
		}
	}
}

// released reports whether a run has given an instrument back, and the gateway
// has not heard it yet.
func (w *anyOffice) released(instrument, run string) bool {
	return slices.ContainsFunc(w.leases, func(r messages.LeaseRequest) bool {
		return r.Action == messages.LeaseRelease && r.Instrument == instrument && r.Run == run
	})
}

func wantsOf(protocol string) []string {
	name, _, _ := strings.Cut(protocol, "@")
	return anyInstruments[name]
}

// check holds what has happened to the promises.
func (w *anyOffice) check() {
	for ; w.docs < len(w.office.docs); w.docs++ {
		switch d := w.office.docs[w.docs].(type) {
		case messages.RunStart:
			w.begins(d)
		case messages.RunStop:
			if strings.Contains(d.Reason, "not approved in time") || strings.Contains(d.Reason, "its approval expired") {
				w.had["approval too late"]++
			}
		}
	}
	last := time.Time{}
	for _, q := range w.core.Queue(w.now, "") {
		if q.Counts.Before(last) {
			w.t.Fatalf("the queue is out of order: %+v", w.core.Queue(w.now, ""))
		}
		if len(q.Waits) == 0 && !w.begun[q.Run] {
			w.t.Fatalf("run %s waits for nothing", q.Run)
		}
		last = q.Counts
		for _, in := range wantsOf(q.Protocol) {
			if w.held[in] == q.Run && !w.released(in, q.Run) {
				w.t.Fatalf("run %s waits, and keeps %s", q.Run, in)
			}
		}
	}
}

// begins: a run has all of its instruments, and the approvals that it needs, by
// what the journal says.
func (w *anyOffice) begins(d messages.RunStart) {
	if w.begun[d.UID] {
		w.t.Fatalf("run %s begins twice", d.UID)
	}
	w.begun[d.UID] = true
	w.had["begun"]++
	for _, r := range w.answers {
		if r.OK && (r.Say == "run "+d.UID+" is rejected" || w.off[r.ID] == d.UID && strings.Contains(r.Say, "taken out of the queue")) {
			w.t.Fatalf("run %s begins, and somebody was told %q", d.UID, r.Say)
		}
	}
	over := w.office.run(d.UID).Ended != nil // ended by a person while its start was being written down
	for _, in := range anyInstruments[d.Protocol.Name] {
		if w.held[in] != d.UID && !over {
			w.t.Fatalf("run %s begins without %s: %v", d.UID, in, w.held)
		}
	}
	if d.Protocol.Name != "grave" {
		return
	}
	var people []string
	var until, start time.Time
	content := ""
	for _, e := range w.journal {
		switch {
		case e.Run != d.UID:
		case e.Kind == messages.KindRunStart:
			start = e.Time
		case e.Kind == "verdict/v1":
			var v messages.Verdict
			if err := json.Unmarshal(e.Body, &v); err != nil {
				w.t.Fatal(err)
			}
			content, until = v.Approval.Content, v.Approval.Until
		case e.Kind == messages.KindApproval:
			var b struct{ Decision, Content string }
			if err := json.Unmarshal(e.Body, &b); err != nil {
				w.t.Fatal(err)
			}
			if b.Decision == messages.RejectDecision { // too late, else it would not begin
				continue
			}
			if b.Content != content || !e.Time.Before(until) || slices.Contains(people, e.Principal) || e.Principal == d.Principal || strings.HasPrefix(e.Principal, "planner") {
				w.t.Fatalf("run %s of %s begins on the word of %v and %s: %s, until %s", d.UID, d.Principal, people, e.Principal, e.Body, until)
			}
			if people = append(people, e.Principal); len(people) == 2 {
				until = e.Time.Add(anyWithin)
			}
		}
	}
	if len(people) < 2 || !start.Before(until) {
		w.t.Fatalf("run %s begins at %s on the word of %v, until %s", d.UID, start, people, until)
	}
	w.had["begun with approvals"]++
}
