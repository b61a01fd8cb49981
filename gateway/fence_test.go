package gateway_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
)

// fences is a gateway whose instruments several runs want, and what was told
// of its leases so far.
type fences struct {
	*rapid.T
	s     *shell
	given map[string]uint64 // by instrument: the highest number that anybody was told
	has   map[string]held   // who has each, as far as was told
	all   []held            // every lease that was ever told
	ids   int
}

type held struct {
	instrument, run string
	fence           uint64
	until           time.Time
}

// TestFences draws takes, renewals, releases, silences and restarts of several
// runs that want the same instruments. The number of a lease only grows, over
// every restart; one run at a time has an instrument; and whatever comes late
// from a run that is fenced (a command, a renewal, a release) is refused and
// changes nothing for the one that has it now.
func TestFences(t *testing.T) {
	l, r := demoLab(t)
	had := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		f := &fences{T: t, s: bareShell(t, l, r, nil), given: map[string]uint64{}, has: map[string]held{}}
		f.s.set("room.airflow = 0.5 m/s")
		f.s.connect()
		for range rapid.IntRange(10, 60).Draw(t, "events") {
			had[f.event()]++
		}
	})
	for _, what := range []string{"taken", "taken again", "refused: held", "renewed", "released", "late command refused", "late renewal refused", "late release refused", "restarted"} {
		if had[what] == 0 {
			t.Errorf("%s: none: this shows less than it says", what)
		}
	}
	t.Log(had)
}

func (f *fences) pick(label string, n int) int { return rapid.IntRange(0, n-1).Draw(f.T, label) }

// now who has an instrument: what is over by time is nobody's.
func (f *fences) holder(in string) (held, bool) {
	h, ok := f.has[in]
	return h, ok && f.s.now.Before(h.until)
}

func (f *fences) event() string {
	in, run := []string{"pump_a", "pump_b", "stage"}[f.pick("instrument", 3)], fmt.Sprint("run", f.pick("run", 3))
	switch f.pick("event", 12) {
	case 0, 1, 2, 3:
		return f.take(in, run)
	case 4:
		return f.late()
	case 5:
		f.s.pass(time.Duration(f.pick("seconds", 12)) * time.Second)
		return "time passes"
	case 6:
		return f.restart()
	case 7, 8:
		if h, ok := f.holder(in); ok {
			return f.renew(h)
		}
	case 9:
		if h, ok := f.holder(in); ok {
			return f.release(h)
		}
	}
	return f.late()
}

func (f *fences) lease(action string, h held, ttl float64) messages.LeaseReply {
	return f.s.leaseDo(messages.LeaseRequest{Action: action, Instrument: h.instrument, Run: h.run, Principal: "planner_1", Lease: h.fence, TTL: lab.Q(ttl, "s"), RulesHash: f.s.rules.Hash})
}

func (f *fences) take(in, run string) string {
	ttl := float64(1 + f.pick("ttl", 20))
	now, taken := f.holder(in)
	r := f.lease(messages.LeaseTake, held{instrument: in, run: run}, ttl)
	h := held{in, run, r.Lease, r.Expires}
	switch {
	case taken && now.run == run:
		if !r.OK || r.Lease != now.fence {
			f.Fatalf("%s has %s under %d, takes it again, and is told %+v", run, in, now.fence, r)
		}
		f.has[in] = h
		return "taken again"
	case taken:
		if r.OK || r.Issues[0].Code != "held" {
			f.Fatalf("%s has %s, and %s is told %+v", now.run, in, run, r)
		}
		return "refused: held"
	case !r.OK || r.Lease <= f.given[in]:
		f.Fatalf("%s takes %s, of which %d was given: %+v", run, in, f.given[in], r)
	}
	f.given[in], f.has[in], f.all = r.Lease, h, append(f.all, h)
	return "taken"
}

func (f *fences) renew(h held) string {
	r := f.lease(messages.LeaseRenew, h, float64(1+f.pick("ttl", 20)))
	if !r.OK || r.Lease != h.fence {
		f.Fatalf("%+v is renewed with %+v", h, r)
	}
	h.until = r.Expires
	f.has[h.instrument] = h
	return "renewed"
}

func (f *fences) release(h held) string {
	if r := f.lease(messages.LeaseRelease, h, 1); !r.OK {
		f.Fatalf("%+v is released with %+v", h, r)
	}
	delete(f.has, h.instrument)
	return "released"
}

// late sends something under a lease that is over.
func (f *fences) late() string {
	var old []held
	for _, h := range f.all {
		if now, ok := f.holder(h.instrument); !ok || now.fence != h.fence {
			old = append(old, h)
		}
	}
	if len(old) == 0 {
		return "nothing is late"
	}
	h := old[f.pick("old", len(old))]
	now, taken := f.holder(h.instrument)
	what := ""
	switch f.pick("what", 3) {
	case 0:
		what = "late renewal refused"
		if r := f.lease(messages.LeaseRenew, h, 5); r.OK {
			f.Fatalf("%+v is renewed: %+v", h, r)
		}
	case 1:
		what = "late release refused"
		if r := f.lease(messages.LeaseRelease, h, 5); r.OK {
			f.Fatalf("%+v is released: %+v", h, r)
		}
	default:
		what = "late command refused"
		f.ids++
		text := map[string]string{"pump_a": dose, "pump_b": "pump_b.dose volume=0.1 mL, rate=6 mL/min", "stage": "stage.move x=0 mm, y=0 mm, z=1 mm"}[h.instrument]
		c := f.s.command(fmt.Sprintf("c%d %s", f.ids, text), h.fence)
		c.Run = h.run
		if r := f.s.askFor(gateway.Asked{Command: c}); r.Accepted || f.s.sent[c.ID] > 0 {
			f.Fatalf("a command under %+v: %+v", h, r)
		}
	}
	// Whoever has it now has it still.
	if taken {
		if r := f.lease(messages.LeaseRenew, now, now.until.Sub(f.s.now).Seconds()); !r.OK {
			f.Fatalf("after that %+v is told %+v", now, r)
		}
	}
	return what
}

// restart is another process with what the journal holds: every lease is over.
func (f *fences) restart() string {
	f.s.boot(f.s.journal)
	for _, n := range f.s.lab.Names() {
		f.s.epoch[n]++
		f.s.step(gateway.LinkUp{Instrument: n, Epoch: f.s.epoch[n]})
	}
	f.s.read()
	clear(f.has)
	return "restarted"
}
