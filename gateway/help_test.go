package gateway_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"labgate/configs"
	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
)

// t0 is when every test begins.
var t0 = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

const testRules = `interlocks: test
rules:
  - {id: size, limit: "pump_a.dose.volume, pump_b.dose.volume", max: 0.45 mL}
  - {id: hood, permissive: "pump_a.dose, pump_b.dose", require: room.airflow >= 0.3 m/s, grace: 1 s}
  - id: hot
    trip: reactor
    when: reactor.probe.temperature > 95 degC
    unknown_for: 3 s
    do: [pump_a.stop, pump_b.stop, reactor.jacket.heat_off, quench.quench.flood]
    mitigates: [quench.pump.dose]
  - id: button
    trip: room
    when: room.emergency
    unknown_for: 10 s
    do: [stage.halt, quench.quench.flood]
    mitigates: [quench.pump.dose]
`

// tester is what rapid's and testing's T have in common.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// shell plays the gateway's shell by hand and in virtual time: it carries out
// what the core asks for when a test says so. With every action it checks what
// holds for all of them.
type shell struct {
	t     tester
	lab   *lab.Lab
	rules *safety.Rules
	core  *gateway.Core
	now   time.Time
	world map[string]lab.Value // by property
	epoch map[string]uint64

	boots     int
	manual    bool // appends and refreshes wait for the test
	broken    bool // the disk fails
	refreshes []gateway.Refresh
	appends   []gateway.Append
	sends     []gateway.Send         // not exchanged yet
	lanes     []gateway.Lane         // not written yet
	journal   []lab.Entry            // durable, in order
	recall    *gateway.Snapshot      // what the next boot begins with
	notes     []lab.Entry            // not durable before the next append
	before    map[uint64][]lab.Entry // notes that come before an append, by its token

	answers  []any
	outcomes []messages.Outcome
	safety   []messages.Safety
	trace    []string

	intended map[string]bool // durable
	ended    map[string]bool // outcome or denial
	owed     map[string]bool // denials that were told and are not on record
	sent     map[string]int
	spent    map[string]bool   // the permit was, and the link said nothing against it
	holds    map[string]uint64 // the lease in force, by instrument
	poisoned bool
}

// demoLab loads the demo lab under the rules of these tests.
func demoLab(t interface{ Fatal(...any) }) (*lab.Lab, *safety.Rules) {
	sub, err := fs.Sub(configs.Embedded(), "labs/demo")
	if err != nil {
		t.Fatal(err)
	}
	c, err := configs.Load(sub, "demo")
	if err != nil {
		t.Fatal(err)
	}
	r, is := safety.Parse("rules.yaml", []byte(testRules), c.Lab)
	if len(is) > 0 {
		t.Fatal(is)
	}
	return c.Lab, r
}

func newShell(t *testing.T) *shell {
	t.Helper()
	l, r := demoLab(t)
	s := bareShell(t, l, r, nil)
	s.connect()
	return s
}

// bareShell is a gateway that has just been made, with what the journal holds.
func bareShell(t tester, l *lab.Lab, r *safety.Rules, journal []lab.Entry) *shell {
	s := &shell{t: t, lab: l, rules: r, now: t0, world: map[string]lab.Value{}, epoch: map[string]uint64{},
		intended: map[string]bool{}, ended: map[string]bool{}, sent: map[string]int{}, spent: map[string]bool{}, holds: map[string]uint64{}}
	for _, id := range l.Properties() {
		p := l.PropertySpec(id)
		switch {
		case p.Type.Kind == lab.Number && p.Type.Unit == lab.DegC:
			s.world[id.String()] = lab.NumberValue(lab.Q(25, "degC"))
		case p.Type.Kind == lab.Number:
			s.world[id.String()] = lab.NumberValue(lab.Quantity{Value: 1, Unit: p.Type.Unit})
		case p.Type.Kind == lab.Enum:
			s.world[id.String()] = lab.EnumValue(p.Type.Enum[0])
		case p.Type.Kind == lab.Integer:
			s.world[id.String()] = lab.IntegerValue(0)
		default:
			s.world[id.String()] = lab.BoolValue(false)
		}
	}
	s.boot(journal)
	return s
}

// boot makes the core from a journal, as a process that starts.
func (s *shell) boot(journal []lab.Entry) {
	s.t.Helper()
	core, err := gateway.New(gateway.Options{Lab: s.lab, Name: "bench", Rules: s.rules, StartBy: s.now.Add(10 * time.Second), Encodable: encodable})
	if err != nil {
		s.t.Fatalf("%v", err)
	}
	s.core, s.poisoned = core, false
	s.boots++
	clear(s.holds)
	s.owed = map[string]bool{}
	s.appends, s.refreshes, s.sends, s.lanes, s.notes, s.intended, s.before = nil, nil, nil, nil, nil, map[string]bool{}, map[uint64][]lab.Entry{}
	if s.recall != nil {
		if err := core.Recall(s.recall); err != nil {
			s.t.Fatalf("%v", err)
		}
	}
	for _, e := range journal {
		if err := core.Restore(e); err != nil {
			s.t.Fatalf("%v", err)
		}
		if e.Time.After(s.now) {
			s.now = e.Time
		}
	}
	s.journal = append([]lab.Entry(nil), journal...)
	s.act(core.Restored(s.now))
}

// notExact is a value that the wire would change.
type notExact struct{ nearest lab.Value }

func (e notExact) Error() string                { return "13 um is not a whole step" }
func (e notExact) Nearest() (string, lab.Value) { return "x", e.nearest }

func encodable(in *lab.Instrument, cmd *lab.Command) error {
	if in.Name == "stage" && cmd.Args["x"] == lab.NumberValue(lab.Q(0.013, "mm")) {
		return fmt.Errorf("stage: %w", notExact{lab.NumberValue(lab.Q(0.01, "mm"))})
	}
	return nil
}

// connect brings every link up and reads everything once.
func (s *shell) connect() {
	s.t.Helper()
	for _, n := range s.lab.Names() {
		s.epoch[n]++
		s.step(gateway.LinkUp{Instrument: n, Epoch: s.epoch[n], Identity: "test"})
	}
	s.read()
	s.trace = nil
}

// read feeds all readings as they are now, or those of some instruments.
func (s *shell) read(instruments ...string) {
	s.t.Helper()
	s.now = s.now.Add(time.Millisecond)
	var samples []lab.Sample
	for _, id := range s.lab.Properties() {
		if len(instruments) == 0 || strings.Contains(" "+strings.Join(instruments, " ")+" ", " "+id.Instrument+" ") {
			samples = append(samples, s.sample(id))
		}
	}
	s.step(gateway.Readings{Samples: samples})
}

func (s *shell) sample(id lab.PropertyID) lab.Sample {
	return lab.Sample{ID: id, Reading: lab.Reading{Value: s.world[id.String()], Quality: lab.Good, Source: s.now, Received: s.now, Epoch: s.epoch[id.Instrument]}}
}

// set changes the world: "pump_a.running = true"; it is seen when it is read.
func (s *shell) set(changes ...string) {
	s.t.Helper()
	for _, c := range changes {
		path, text, _ := strings.Cut(c, " = ")
		id, p, err := s.lab.ResolveProperty(path)
		if err != nil {
			s.t.Fatalf("%v", err)
		}
		s.world[id.String()] = value(s.t, p.Type, text)
	}
}

func value(t tester, typ lab.Type, text string) lab.Value {
	v := lab.TextValue(text)
	if q, err := lab.ParseQuantity(text); err == nil {
		v = lab.NumberValue(q)
	}
	if text == "true" || text == "false" {
		v = lab.BoolValue(text == "true")
	}
	x, err := typ.Conform(v)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return x
}

// pass lets time pass with readings every 100 ms.
func (s *shell) pass(d time.Duration) {
	s.t.Helper()
	for end := s.now.Add(d); s.now.Before(end); {
		s.quiet(min(100*time.Millisecond, end.Sub(s.now)))
		s.read()
	}
}

// quiet lets time pass without a reading, stopping wherever the core wants to
// be asked.
func (s *shell) quiet(d time.Duration) {
	s.t.Helper()
	for end := s.now.Add(d); ; {
		next := s.core.Next()
		if next.IsZero() || !next.Before(end) {
			s.now = end
			s.step(gateway.Tick{})
			return
		}
		if !next.After(s.now) {
			s.t.Fatalf("at %s Next is %s: the shell would spin", s.now.Sub(t0), next.Sub(t0))
		}
		s.now = next
		s.step(gateway.Tick{})
	}
}

// step gives the core an event, and does what it asks for.
func (s *shell) step(ev gateway.Event) {
	s.t.Helper()
	s.act(s.core.Step(s.now, ev))
}

func (s *shell) act(actions []gateway.Action) {
	s.t.Helper()
	for _, a := range actions {
		s.one(a)
	}
	for !s.manual && len(s.appends) > 0 {
		s.commit()
	}
	for !s.manual && len(s.refreshes) > 0 {
		s.refresh()
	}
}

func (s *shell) log(format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf(format, args...))
}

func (s *shell) one(a gateway.Action) {
	s.t.Helper()
	switch a := a.(type) {
	case gateway.Answer:
		s.answers = append(s.answers, a.Message)
		if r, ok := a.Message.(messages.CommandReply); ok {
			s.log("answer %s", r.State)
		}
	case gateway.Refresh:
		s.refreshes = append(s.refreshes, a)
		s.log("refresh %s", a.Command)
	case gateway.Append:
		s.seal(a.Entries)
		s.appends = append(s.appends, a)
		s.before[a.Token], s.notes = s.notes, nil
		s.leases(a.Entries)
		s.log("append %s", kinds(a.Entries))
	case gateway.Note:
		s.seal(a.Entries)
		s.notes = append(s.notes, a.Entries...)
		s.leases(a.Entries)
		for _, e := range a.Entries {
			switch e.Kind {
			case "denial/v1":
				s.ended[e.Command] = true
			case "denials/v1":
				var b struct{ Commands []struct{ Command string } }
				if err := json.Unmarshal(e.Body, &b); err != nil {
					s.t.Fatalf("%v", err)
				}
				for _, x := range b.Commands {
					s.ended[x.Command] = true
					delete(s.owed, x.Command)
				}
			}
		}
		s.log("note %s", kinds(a.Entries))
	case gateway.Look:
		s.look(a.Command)
	case gateway.Send:
		s.send(a)
	case gateway.Lane:
		s.lanes = append(s.lanes, a)
		s.log("lane %s (%s)", a.Order.Target(), a.Order.Origin())
	case gateway.Publish:
		s.publish(a.Message)
	}
}

// seal says which process made the entries.
func (s *shell) seal(entries []lab.Entry) {
	for i := range entries {
		entries[i].Boot = fmt.Sprint(s.boots)
	}
}

// leases follows who holds what.
func (s *shell) leases(entries []lab.Entry) {
	s.t.Helper()
	for _, e := range entries {
		var b struct {
			What  string
			Lease uint64
		}
		if e.Kind != "lease/v1" {
			continue
		}
		if err := json.Unmarshal(e.Body, &b); err != nil {
			s.t.Fatalf("%v", err)
		}
		if s.holds[e.Instrument] = b.Lease; b.What != "take" {
			s.holds[e.Instrument] = 0
		}
	}
}

// send checks what must hold for every Send.
func (s *shell) send(a gateway.Send) {
	s.t.Helper()
	s.log("send %s", a.Command.Target)
	spec := s.lab.CommandSpec(a.Command.Target)
	s.sent[a.Command.ID]++
	switch {
	case !s.intended[a.Command.ID]:
		s.t.Fatalf("S2: %s is sent, and its intent is not durable", a.Command.ID)
	case spec.Effect == lab.Effectful && s.sent[a.Command.ID] > 1:
		s.t.Fatalf("S1: %s is sent twice", a.Command.ID)
	case s.poisoned:
		s.t.Fatalf("D3: %s is sent after the journal failed", a.Command.ID)
	case spec.Effect != lab.Read && (a.Command.Lease == 0 || a.Command.Lease != s.holds[a.Command.Target.Instrument]):
		s.t.Fatalf("S8: %s is sent under lease %d; %d is in force", a.Command.ID, a.Command.Lease, s.holds[a.Command.Target.Instrument])
	case a.Permit == nil:
		s.t.Fatalf("S5: %s is sent without a permit", a.Command.ID)
	case strings.Contains(a.Permit.Live(&a.Command).Error(), "revoked"):
		s.t.Fatalf("S5: %s is sent with a permit that was revoked: %v", a.Command.ID, a.Permit.Live(&a.Command))
	}
	s.sends = append(s.sends, a)
}

// publish checks that no result is visible before it is durable.
func (s *shell) publish(doc any) {
	s.t.Helper()
	switch d := doc.(type) {
	case messages.Outcome:
		s.outcomes = append(s.outcomes, d)
		s.log("outcome %s %s", d.Outcome.Command, d.Outcome.State)
		switch {
		case s.ended[d.Outcome.Command]:
		case d.Outcome.State == lab.Refused: // one of a flood: on record within a second
			s.owed[d.Outcome.Command] = true
		default:
			s.t.Fatalf("O3: the outcome of %s is told before it is durable", d.Outcome.Command)
		}
	case messages.Safety:
		s.safety = append(s.safety, d)
		if d.What != messages.SafetyLink {
			s.log("safety %s %s", d.What, d.Rule)
		}
	}
}

func kinds(entries []lab.Entry) string {
	var list []string
	for _, e := range entries {
		list = append(list, strings.TrimSuffix(e.Kind, "/v1"))
	}
	return strings.Join(list, "+")
}

// commit makes the oldest append durable, with the notes before it, or fails.
func (s *shell) commit() {
	s.t.Helper()
	a := s.appends[0]
	s.appends = s.appends[1:]
	if s.broken {
		s.poisoned = true
		s.step(gateway.Durable{Token: a.Token, Err: errors.New("the disk is full")})
		return
	}
	s.journal = append(append(s.journal, s.before[a.Token]...), a.Entries...)
	refs := make([]lab.Ref, len(a.Entries))
	for i, e := range a.Entries {
		refs[i] = lab.Ref{Seq: uint64(len(s.journal) - len(a.Entries) + i + 1)}
		switch e.Kind {
		case "intent/v1":
			s.intended[e.Command] = true
		case "outcome/v1":
			s.ended[e.Command] = true
		}
	}
	s.step(gateway.Durable{Token: a.Token, Refs: refs})
}

// refresh answers the oldest refresh with what the world shows.
func (s *shell) refresh() {
	s.t.Helper()
	r := s.refreshes[0]
	s.refreshes = s.refreshes[1:]
	s.now = s.now.Add(time.Millisecond)
	var samples []lab.Sample
	for _, id := range r.Properties {
		samples = append(samples, s.sample(id))
	}
	s.step(gateway.Readings{Samples: samples})
	s.step(gateway.Refreshed{Command: r.Command})
}

// exchange carries out the oldest send: the permit is spent, the device takes
// it, or err.
func (s *shell) exchange(acked bool, values map[string]lab.Value, err error) {
	s.t.Helper()
	if len(s.sends) == 0 {
		s.t.Fatalf("nothing to send; so far:\n%s", strings.Join(s.trace, "\n"))
	}
	a := s.sends[0]
	s.sends = s.sends[1:]
	if e := a.Permit.Spend(&a.Command, s.epoch[a.Command.Target.Instrument], s.now); e != nil {
		acked, values, err = false, nil, e
	} else if err == nil {
		s.spent[a.Command.ID] = true
	}
	s.now = s.now.Add(time.Millisecond)
	s.step(gateway.Exchanged{Command: a.Command.ID, Acked: acked, Values: values, Sent: s.now, Err: err})
}

// write carries out the oldest order of the safe lane.
func (s *shell) write(acked bool, err error) {
	s.t.Helper()
	if len(s.lanes) == 0 {
		s.t.Fatalf("no order; so far:\n%s", strings.Join(s.trace, "\n"))
	}
	l := s.lanes[0]
	s.lanes = s.lanes[1:]
	s.now = s.now.Add(time.Millisecond)
	s.step(gateway.LaneDone{ID: l.ID, Acked: acked, Err: err})
}

// writeAll writes every order that waits.
func (s *shell) writeAll() {
	s.t.Helper()
	for len(s.lanes) > 0 {
		s.write(true, nil)
	}
}
