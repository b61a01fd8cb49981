package twin_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"labgate/configs"
	"labgate/internal/twin"
	"labgate/lab"
	"labgate/lab/frame"
	"labgate/messages"
	"labgate/protocols"
	"labgate/runner"
)

// shiftRules are what the laboratory adds to its rules for the shift: a trip
// that holds, and two budgets that last longer than a run.
const shiftRules = `
  - id: door-open
    about: Somebody stands beside the stage.
    trip: door
    when: not room.door_closed
    unknown_for: 10 s
    respond_within: 20 s
    do: [stage.halt]
    run: hold
    hold_for: 10 min
  - id: day-of-reagent
    about: What the bottles hold.
    budget: sum(pump_a.dose.volume, pump_b.dose.volume) per day
    max: 60 mL
  - id: share-of-reagent
    about: Nobody uses up what is there for all.
    budget: sum(pump_a.dose.volume, pump_b.dose.volume) per principal and day
    max: 2.5 mL
`

// shiftProtocols are the work of the shift: most of it wants the reactor.
var shiftProtocols = []string{`protocol: mix
version: 1.0.0
inputs:
  volume: {unit: mL, min: 0.02, max: 0.15}
  settle: {type: integer, min: 1, max: 8, about: minutes}
roles:
  reactor: {is: [thermostat/v1, stirrer/v1, vessel/v1]}
  gold:    {is: pump/v1, holds: {substance: HAuCl4, concentration: 1 mmol/L}}
  citrate: {is: pump/v1, holds: {substance: trisodium citrate, concentration: 10 mmol/L}}
  optics:  {is: spectrometer/v1}
budget: {time: 40 min, exposures: 4}
steps:
  - {do: reactor.drain}
  - {do: reactor.stir, with: {speed: 400 rpm}}
  - parallel:
      - {id: gold_in, do: gold.dose, with: {volume: = volume, rate: 1 mL/min}}
      - {id: citrate_in, do: citrate.dose, with: {volume: = volume, rate: 2 mL/min}}
  - {repeat: {max: 8, until: i >= settle}, steps: [{wait: {for: 1 min}}], else: continue}
  - {id: read, do: optics.spectrum, on_error: {retry: 1, hold: 6 min, then: skip}}
cleanup:
  - {do: reactor.drain}
finally:
  - {do: gold.stop}
  - {do: citrate.stop}
`, `protocol: warm
version: 1.0.0
inputs:
  target: {unit: degC, min: 30, max: 80}
  settle: {type: integer, min: 1, max: 8, about: minutes}
roles:
  reactor: {is: [thermostat/v1, stirrer/v1, vessel/v1]}
budget: {time: 40 min}
steps:
  - {do: reactor.stir, with: {speed: 400 rpm}}
  - {do: reactor.heat, with: {target: = target}}
  - {wait: {until: abs(reactor.temperature - target) < 2 K, timeout: 2 min}, on_error: {hold: 8 min, then: abort}}
  - {repeat: {max: 8, until: i >= settle}, steps: [{wait: {for: 1 min}}], else: continue}
finally:
  - {do: reactor.heat_off}
`, `protocol: strong
version: 1.0.0
inputs:
  volume: {unit: mL, min: 0.1, max: 0.3}
roles:
  reactor: {is: [thermostat/v1, stirrer/v1, vessel/v1]}
  gold:    {is: pump/v1, holds: {substance: HAuCl4, concentration: 1 mmol/L}}
budget: {time: 40 min}
steps:
  - {do: reactor.drain}
  - {do: reactor.stir, with: {speed: 400 rpm}}
  - {do: gold.dose, with: {volume: = volume, rate: 1 mL/min}}
  - {wait: {for: 2 min}}
cleanup:
  - {do: reactor.drain}
finally:
  - {do: gold.stop}
`, `protocol: scan
version: 1.0.0
inputs:
  settle: {type: integer, min: 1, max: 8, about: minutes}
roles:
  stage:  {is: stage/v1}
  camera: {is: camera/v1}
budget: {time: 40 min, exposures: 6}
steps:
  - {do: stage.move, with: {x: 1 mm, y: 0 mm, z: 1.2 mm}}
  - {do: camera.capture, with: {exposure: 20 ms}, on_error: {retry: 1, then: skip}}
  - {repeat: {max: 8, until: i >= settle}, steps: [{wait: {for: 1 min}}], else: continue}
  - {ask: "Is it sharp?", by: operator, timeout: 5 min, on_error: skip}
  - {do: stage.move, with: {x: 0 mm, y: 0 mm, z: 1.2 mm}}
  - {do: camera.capture, with: {exposure: 20 ms}, on_error: {retry: 1, then: skip}}
finally:
  - {do: stage.halt}
`, `protocol: glance
version: 1.0.0
inputs:
  settle: {type: integer, min: 1, max: 8, about: minutes}
roles:
  optics: {is: spectrometer/v1}
budget: {time: 40 min, exposures: 4}
steps:
  - {do: optics.spectrum, on_error: {retry: 1, then: skip}}
  - {repeat: {max: 8, until: i >= settle}, steps: [{wait: {for: 1 min}}], else: continue}
`}

// shiftLab is the demo laboratory with the rules and the work of the shift,
// loaded once.
var shiftLab = sync.OnceValues(func() (*twin.Options, error) {
	folder := fstest.MapFS{}
	for _, name := range []string{"lab.yaml", "interlocks.yaml"} {
		data, err := fs.ReadFile(configs.Embedded(), "labs/demo/"+name)
		if err != nil {
			return nil, err
		}
		if name == "interlocks.yaml" {
			data = append(data, shiftRules...)
		}
		folder[name] = &fstest.MapFile{Data: data}
	}
	cfg, err := configs.Load(folder, "demo")
	if err != nil {
		return nil, err
	}
	o := &twin.Options{Lab: cfg.Lab, Rules: cfg.Rules, Classes: cfg.Classes, Encodable: frame.Encodable, Quiet: true, Sparse: true,
		MaxQueueEach: 5, SnapshotEvery: 2000,
		Principals: []runner.Principal{
			{Name: "planner_1", Role: "agent"}, {Name: "planner_2", Role: "agent", Inline: true, InlineApproved: true}, {Name: "planner_3", Role: "agent"},
			{Name: "chemist", Role: "scientist"}, {Name: "physicist", Role: "scientist"},
			{Name: "operator_1", Role: "operator"}, {Name: "safety_1", Role: "safety"}},
		Approvals: runner.Approvals{Inline: runner.Terms{Persons: 1, By: []string{"operator", "safety"}, Within: 50 * time.Minute},
			Protocols: map[string]runner.Terms{"strong": {Persons: 2, By: []string{"operator", "safety"}, Within: time.Hour}}}}
	library := protocols.Library()
	list, issues := protocols.Load(cfg.Classes, protocols.Files(library), library)
	for i, text := range shiftProtocols {
		p, is := protocols.Parse(fmt.Sprintf("shift-%d.yaml", i), []byte(text), cfg.Classes)
		list, issues = append(list, p), append(issues, is...)
	}
	o.Library = list
	return o, issues.Err()
})

// The shift.
const (
	shiftHours     = 12 * time.Hour
	shiftProposals = 200
	shiftLast      = 10 * time.Hour // when the last proposal has come
)

var shiftAgents = []string{"planner_1", "planner_2", "planner_3", "chemist", "physicist"}

// shift is one laboratory over twelve hours.
type shift struct {
	testing.TB
	w       *twin.Twin
	options *twin.Options
	n       int           // proposals
	last    time.Duration // when the last of them has come
	every   int           // looks between two times at which all is made again from the journal
	seed    uint64
	rand    *rand.Rand
	ids     int

	sent     map[string][]string // by principal: keys, in the order in which they were sent
	accepted map[string]*shiftRun
	begun    []*shiftRun
	extra    map[string]float64 // by pump: what people said too much of, in mL
	moves    map[string]bool    // runs that a person has moved
	during   []string           // what is to happen while a pump runs
	kills    []time.Time
	counts   map[string]int // what happened, for the table
	worst    map[string]time.Duration
	figures  map[string]float64
}

// shiftRun is what the shift has seen of one accepted run.
type shiftRun struct {
	id, priority  string
	instruments   []string
	since, counts time.Time // accepted; its place in time
	start, end    time.Time
	own           []span // when it was seen to wait for something of its own
}

func newShift(t testing.TB, seed uint64, proposals int, last time.Duration) *shift {
	t.Helper()
	o, err := shiftLab()
	if err != nil {
		t.Fatal(err)
	}
	s := &shift{TB: t, options: o, n: proposals, last: last, every: int(2 * time.Hour / lookEvery), seed: seed, worst: map[string]time.Duration{}, figures: map[string]float64{}, rand: rand.New(rand.NewPCG(seed, 12)), sent: map[string][]string{}, accepted: map[string]*shiftRun{},
		extra: map[string]float64{}, moves: map[string]bool{}, counts: map[string]int{}}
	opts := *o
	opts.Seed, opts.Told = seed, s.told
	if s.w, err = twin.New(opts); err != nil {
		t.Fatal(err)
	}
	run(t, s.w, 5*time.Second, ready)
	return s
}

func (s *shift) chance(one, of int) bool { return s.rand.IntN(of) < one }

func (s *shift) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.rand.Int64N(int64(high-low)))
}

func (s *shift) id() string { s.ids++; return fmt.Sprintf("S%d", s.ids) }

// proposal makes one of the shift's proposals: mostly for the reactor, some of
// them inline, some that nobody can accept, some that expire while they wait.
func (s *shift) proposal(n int, who string) []byte {
	p := map[string]any{"kind": messages.KindProposal, "id": s.id(), "key": fmt.Sprintf("shift/%d", n), "campaign": "shift"}
	in := map[string]any{}
	settle := 1 + s.rand.IntN(7)
	name := "mix"
	switch d := s.rand.IntN(20); {
	case who == "planner_2" && d < 6:
		p["protocol_inline"] = strings.Replace(shiftProtocols[3], "protocol: scan", fmt.Sprintf("protocol: own-%d", n), 1)
		name, in["settle"] = "", settle
	case d < 10:
		in["volume"], in["settle"] = lab.Q(float64(2+s.rand.IntN(13))/100, "mL"), settle
	case d < 12:
		name, in["target"], in["settle"] = "warm", lab.Q(float64(30+s.rand.IntN(40)), "degC"), settle
	case d < 14:
		name, in["volume"] = "strong", lab.Q(float64(10+s.rand.IntN(20))/100, "mL")
	case d < 16:
		name, in["settle"] = "scan", settle
	case d < 18:
		name, in["settle"] = "glance", settle
	case d < 19:
		name, in["films"] = "coat-films", 1+s.rand.IntN(8)
	default:
		in["volume"], in["settle"] = lab.Q(7, "mL"), settle // out of bounds
	}
	if name != "" {
		p["protocol"] = map[string]any{"name": name, "version": "1.0.0"}
	}
	p["inputs"] = in
	if s.chance(1, 3) {
		p["priority"] = []string{messages.PriorityLow, messages.PriorityHigh, messages.PriorityNormal}[s.rand.IntN(3)]
	}
	if s.chance(1, 12) {
		at := s.w.Now().Add(s.between(2*time.Minute, 30*time.Minute))
		p["not_after"] = at.Format(time.RFC3339)
	}
	return messages.Body(p)
}

// propose plans the arrival of every proposal: half of them in bursts.
func (s *shift) propose() {
	at := time.Duration(0)
	for n := range s.n {
		if !s.chance(1, 2) {
			at += s.between(0, 4*s.last/time.Duration(s.n))
		}
		at = min(at, s.last)
		who := shiftAgents[s.rand.IntN(len(shiftAgents))]
		s.w.At(at, "a proposal", func() {
			data := s.proposal(n, who)
			s.sent[who] = append(s.sent[who], fmt.Sprintf("shift/%d", n))
			s.w.Submit(who, data)
			if s.chance(1, 10) { // the same again: the same answer, no second run
				s.sent[who] = append(s.sent[who], fmt.Sprintf("shift/%d", n))
				s.w.Submit(who, data)
			}
		})
	}
}

// told looks at the order in which runs begin.
func (s *shift) told(id string, doc any) {
	switch d := doc.(type) {
	case messages.RunStart:
		s.began(s.run(id, d.Principal), d)
	case messages.RunStop:
		if r := s.accepted[id]; r != nil {
			r.end = s.w.Now()
		}
		s.counts["ended: "+d.ExitStatus]++
	}
}

// run is an accepted run as its verdict has it.
func (s *shift) run(id, principal string) *shiftRun {
	if r := s.accepted[id]; r != nil {
		return r
	}
	for _, v := range s.w.Verdicts(principal) {
		if v.Run == id {
			s.accepted[id] = &shiftRun{id: id, priority: v.Queue.Priority, since: v.Time, counts: v.Queue.Counts}
		}
	}
	return s.accepted[id]
}

// look samples the queue: what waits for something of its own.
func (s *shift) look() {
	now := s.w.Now()
	for _, q := range s.w.Waiting() {
		r := s.run(q.Run, q.Principal)
		if r.instruments = wants(q.Protocol); ownReason(q) {
			r.own = append(r.own, span{now.Add(-lookEvery), now})
		}
		s.counts["longest queue"] = max(s.counts["longest queue"], q.Position)
	}
}

// ownReason reports whether a run waits for something that no other run's end
// brings: an approval, a reset, a gateway, a person.
func ownReason(q messages.QueueInfo) bool {
	return slices.ContainsFunc(q.Waits, func(w messages.QueueWait) bool {
		return w.For != messages.WaitRun && w.For != messages.WaitBehind
	})
}

const lookEvery = 5 * time.Second

// work lets the twelve hours pass.
func (s *shift) work() {
	s.Helper()
	s.propose()
	s.trouble()
	began := s.w.Now()
	for n := 1; ; n++ {
		s.pass(lookEvery)
		s.look()
		if n%12 == 0 {
			s.people()
		}
		if n%s.every == 0 {
			s.rebuild()
		}
		past := s.w.Now().Sub(began)
		if past > s.last+time.Minute && s.idle() {
			s.counts["minutes until all was done"] = int(past.Minutes())
			break
		}
		if past > shiftHours {
			s.Fatalf("after twelve hours %d runs wait, and these are not over: %+v\nlatches %+v", len(s.w.Waiting()), s.unfinished(), s.w.Status().Latches)
		}
	}
	pass(s, s.w, 30*time.Second) // leases run out, snapshots are taken
}

func (s *shift) unfinished() (list []messages.RunInfo) {
	for _, r := range s.w.Runs() {
		if r.Ended == nil {
			list = append(list, r)
		}
	}
	return list
}

func (s *shift) idle() bool { return len(s.w.Waiting()) == 0 && len(s.unfinished()) == 0 }

// Twelve hours of a busy laboratory: two hundred proposals of five principals,
// trouble of every kind, people who come and go, and three restarts. Nobody
// starves, every amount is accounted for, every proposal has one answer and
// every accepted run one end, and the journal tells all of it again.
func TestShift(t *testing.T) {
	seeds := []uint64{1}
	if os.Getenv("LABGATE_HEAVY") != "" {
		seeds = []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	}
	all := map[string]int{}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			begun := time.Now()
			s := newShift(t, seed, shiftProposals, shiftLast)
			s.work()
			s.nothingLeft()
			s.oneAnswerEach()
			s.oneRunAnInstrument()
			s.nobodyStarved()
			s.budgetsExact()
			s.rebuild()
			s.table(time.Since(begun))
			for what, n := range s.counts {
				all[what] += n
			}
		})
	}
	must := []string{"faults", "upsets", "stops", "resets", "power lost while a pump ran", "killed while a pump ran", "doses settled as done", "approvals", "moves", "taken out of the queue"}
	if len(seeds) > 1 { // what one shift may happen not to have
		must = append(must, "answers", "held runs let go on", "holds timed out", "refusals", "approvals expired", "expired in the queue", "runs cancelled",
			"rejected: busy", "refused by share-of-reagent", "refused by dosing-needs-hood")
	}
	for _, what := range must {
		if all[what] == 0 {
			t.Errorf("%s: none; the shift shows less than it says", what)
		}
	}
}

// What the runner keeps (its queue, approvals, runs with their records, latches)
// is what its journal says, at any moment of a laboratory in which everything
// goes wrong at once. So are the gateway's accounts and latches.
func TestRunnerIsItsJournal(t *testing.T) {
	seeds := []uint64{1}
	if os.Getenv("LABGATE_HEAVY") != "" {
		seeds = []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}
	}
	for _, seed := range seeds {
		s := newShift(t, seed, 24, 80*time.Minute)
		s.every = 4
		s.work()
		if n := s.counts["times made again from the journal"]; n < 150 {
			t.Errorf("only %d times", n)
		}
	}
}
