package planner

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"labgate/internal/bus"
	"labgate/lab"
	"labgate/messages"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// quick is a clock that can run faster than the wall's.
type quick struct {
	mu    sync.Mutex
	wall  time.Time // when its pace was set
	at    time.Time // what it showed then
	hurry time.Duration
}

func newQuick() *quick {
	return &quick{wall: time.Now(), at: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), hurry: 1}
}

// pace sets how many times faster it runs from now on.
func (q *quick) pace(hurry time.Duration) {
	now := q.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wall, q.at, q.hurry = time.Now(), now, hurry
}

func (q *quick) Now() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.at.Add(time.Since(q.wall) * q.hurry)
}

func (q *quick) At(t time.Time) <-chan time.Time {
	d := t.Sub(q.Now())
	q.mu.Lock()
	defer q.mu.Unlock()
	return time.After(d / q.hurry)
}

// counter makes ids in order.
type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) New(time.Time) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return fmt.Sprintf("ID%06d", c.n)
}

// station is a real server on which a made-up runner answers. Its knobs say
// what goes wrong.
type station struct {
	t      *testing.T
	server *bus.Server
	runner *bus.Conn
	agent  *bus.Conn
	clock  *quick

	judge func(p messages.Proposal) messages.Verdict // nil: accept
	stop  func(p messages.Proposal, s *messages.RunStop)
	quiet map[string]bool // documents by subject token that are not published, "verdict" too
	first bool            // the documents come before the verdict

	mu        sync.Mutex
	proposals []messages.Proposal
	verdicts  map[string]messages.Verdict // by key
	stops     map[string]messages.RunStop // by run
	asked     map[string]int              // control actions
}

func newStation(t *testing.T) *station {
	t.Helper()
	s := &station{t: t, clock: newQuick(), quiet: map[string]bool{}, verdicts: map[string]messages.Verdict{}, stops: map[string]messages.RunStop{}, asked: map[string]int{}}
	key := func() ([]byte, string) {
		seed, public, err := bus.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		return seed, public
	}
	runnerSeed, runnerKey := key()
	agentSeed, agentKey := key()
	var err error
	s.server, err = bus.StartServer(t.Context(), bus.ServerOptions{Lab: "demo", StoreDir: t.TempDir(), Port: -1, RunnerKey: runnerKey,
		Principals: []bus.Principal{{Name: "planner_1", Role: bus.RoleAgent, Key: agentKey}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.server.Shutdown)
	connect := func(name string, seed []byte) *bus.Conn {
		c, err := bus.Connect(t.Context(), bus.ConnOptions{Server: s.server, Seed: seed, Name: name, Lab: "demo",
			OnDown: func(err error) { t.Errorf("%s: %v", name, err) }}) // a refused subject arrives here
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	s.runner, s.agent = connect("runner", runnerSeed), connect("planner_1", agentSeed)
	return s
}

// open lets the made-up runner take proposals.
func (s *station) open() {
	ctx := s.t.Context()
	if err := s.runner.Handle(ctx, bus.Control("demo", "*"), s.control); err != nil {
		s.t.Fatal(err)
	}
	if err := s.runner.ConsumeProposals(ctx, s.proposed); err != nil {
		s.t.Fatal(err)
	}
}

func (s *station) publish(subject string, doc any) {
	// What a planner that has left would not hear any more may find the bus closed.
	if err := s.runner.Publish(context.Background(), subject, messages.Body(doc)); err != nil && s.t.Context().Err() == nil {
		s.t.Errorf("%s: %v", subject, err)
	}
}

func (s *station) proposed(d bus.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, is := messages.DecodeProposal(d.Data)
	if len(is) > 0 {
		s.t.Errorf("a proposal with issues: %v", is)
	}
	if err := d.Ack(); err != nil {
		s.t.Error(err)
	}
	if v, again := s.verdicts[p.Key]; again {
		if v.Proposal != p.ID {
			s.t.Errorf("key %s carries two proposals", p.Key)
		}
		s.verdict(v)
		return
	}
	s.proposals = append(s.proposals, p)
	v := messages.Verdict{Decision: messages.AcceptedDecision, Run: fmt.Sprintf("RUN%03d", len(s.proposals)), Say: "accepted"}
	if s.judge != nil {
		v = s.judge(p)
	}
	v.Kind, v.Lab, v.Proposal, v.Key, v.Principal = messages.KindVerdict, "demo", p.ID, p.Key, d.Principal
	v.Bill = &messages.Bill{Expected: lab.Q(8, "s"), Worst: lab.Q(60, "s")}
	s.verdicts[p.Key] = v
	if !s.first {
		s.verdict(v)
	}
	if v.Decision == messages.AcceptedDecision {
		s.run(p, v.Run)
	}
	if s.first {
		s.verdict(v)
	}
}

func (s *station) verdict(v messages.Verdict) {
	if !s.quiet["verdict"] {
		s.publish(bus.Verdicts("demo", "planner_1"), v)
	}
}

// made is the chemistry of this test, and of no simulator.
func made(p messages.Proposal) float64 {
	return 541 - 7*math.Log(p.Inputs[inRatio].Num/0.2) - 0.05*(p.Inputs[inTemperature].Num-66)
}

func (s *station) run(p messages.Proposal, run string) {
	env := func(kind string) messages.Envelope {
		return messages.Envelope{Kind: kind, Lab: "demo", Origin: "runner", Time: s.clock.Now(), Synthetic: true}
	}
	doc := func(token string, d any) {
		if !s.quiet[token] {
			s.publish(bus.Runs("demo", "planner_1", run, token), d)
		}
	}
	peak := lab.NumberValue(lab.Q(made(p), "nm"))
	frame := &lab.BlobRef{Hash: lab.HashText([]byte(run)), Media: "image/png", Size: 3}
	doc("start", messages.RunStart{Envelope: env(messages.KindRunStart), UID: run, Proposal: p.ID})
	doc("descriptor", messages.RunDescriptor{Envelope: env(messages.KindRunDescriptor), UID: run + "/read", RunStart: run, Name: "read"})
	doc("event", messages.RunEvent{Envelope: env(messages.KindRunEvent), RunStart: run, Step: "read", SeqNum: 1, Data: map[string]lab.Value{"peak": peak}, Outcome: lab.Confirmed})
	doc("resource", messages.RunResource{Envelope: env(messages.KindRunResource), RunStart: run, Step: "look", Name: "image", Blob: *frame})
	stop := messages.RunStop{Envelope: env(messages.KindRunStop), UID: run + "/stop", RunStart: run, ExitStatus: messages.ExitSuccess, Seconds: 8.2154, NumEvents: map[string]int{"read": 1},
		Outputs: map[string]lab.Value{"peak": peak, "spectrum": lab.TableValue(spectrum(256, peak.Num)), "image": lab.BlobValue(frame)}}
	if s.stop != nil {
		s.stop(p, &stop)
	}
	s.stops[run] = stop
	doc("stop", stop)
}

func spectrum(n int, peak float64) *lab.TableData {
	t := &lab.TableData{Columns: []lab.Column{{Name: "wavelength", Unit: lab.Q(0, "nm").Unit}, {Name: "absorbance", Unit: lab.One}}, Data: make([][]float64, 2)}
	for i := range n {
		x := 400 + 300*float64(i)/float64(n-1)
		t.Data[0] = append(t.Data[0], x)
		t.Data[1] = append(t.Data[1], math.Exp(-math.Pow((x-peak)/40, 2)))
	}
	return t
}

func (s *station) control(m lab.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var c messages.Control
	if is := messages.Decode(m.Data, &c); len(is) > 0 || c.Kind != messages.KindControl {
		s.t.Errorf("control %s: %v", m.Data, is)
	}
	s.asked[c.Action]++
	r := messages.ControlReply{Envelope: messages.Envelope{Kind: messages.KindControlReply}, ID: c.ID, OK: true}
	switch c.Action {
	case messages.ControlVerdict:
		if v, ok := s.verdicts[c.Key]; ok {
			v.Envelope = messages.Envelope{} // as the runner keeps it
			r.Verdict = &v
		}
	case messages.ControlRuns:
		if d, ok := s.stops[c.Run]; ok {
			ended := s.clock.Now()
			state := map[string]string{messages.ExitSuccess: "done", messages.ExitAbort: "aborted", messages.ExitFail: "failed"}[d.ExitStatus]
			r.Runs = []messages.RunInfo{{Run: c.Run, State: state, Started: ended.Add(-9 * time.Second), Ended: &ended, Outputs: d.Outputs, Say: d.Reason}}
		}
	}
	if err := m.Reply(messages.Body(r)); err != nil {
		s.t.Error(err)
	}
}

func (s *station) options(n int) Options {
	return Options{Lab: "demo", Principal: "planner_1", Conn: s.agent, Clock: s.clock, IDs: &counter{}, Target: 527, Experiments: n, Seed: 1, Campaign: "test"}
}

// asLine checks that an experiment's line is JSON that says what it must.
func asLine(t *testing.T, e Experiment) map[string]any {
	t.Helper()
	b, err := ExperimentLine(e)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}
