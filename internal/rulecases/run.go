package rulecases

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
)

// Runner runs cases of one lab under one set of rules.
type Runner struct {
	lab     *lab.Lab
	rules   *safety.Rules
	nominal map[lab.PropertyID]lab.Value
}

// NewRunner makes a runner; nominal is what Nominal says of the lab under its
// true rules.
func NewRunner(l *lab.Lab, rules *safety.Rules, nominal map[lab.PropertyID]lab.Value) *Runner {
	return &Runner{l, rules, nominal}
}

// Run runs one case from a fresh start.
func (r *Runner) Run(c *Case) Result {
	res := Result{Case: c, Pos: c.Pos}
	b, err := newBench(r.lab, r.rules, r.nominal, c.given)
	if err != nil {
		res.Got = "it could not begin: " + err.Error()
		return res
	}
	for i := range c.before {
		if why := b.begin(&c.before[i]); why != "" {
			res.Expected, res.Got, res.FalseRefusal, res.Pos = c.before[i].text+" before it", why, true, c.before[i].pos
			return res
		}
	}
	began := b.now
	for _, s := range c.steps {
		b.advance(began.Add(s.at))
		b.play(s)
		if b.broken != "" {
			res.Expected, res.Got, res.Pos = "the case to go on", b.broken, s.pos
			return res
		}
		for _, x := range s.expect {
			if ok, got := b.judge(x); !ok {
				res.Expected, res.Got, res.Pos = x.text, got, x.pos
				res.Escape, res.FalseRefusal = x.acts(), !x.acts()
				return res
			}
		}
	}
	res.OK = true
	return res
}

// begin does a command that the case takes for granted.
func (b *bench) begin(c *call) string {
	b.earlier++
	id := b.ask(&step{do: c, notAfter: time.Minute, id: fmt.Sprintf("before%d", b.earlier)})
	b.n--
	if r := b.outcome(id); r.State == lab.Refused || !r.Known {
		return b.sayReply()
	}
	b.finishCommand(id)
	b.advance(b.now.Add(time.Second))
	if r := b.outcome(id); r.Outcome == nil || r.Outcome.State != lab.Confirmed {
		return fmt.Sprintf("%s is %s", c.text, r.State)
	}
	return ""
}

// play does what a step says, in the order of its fields.
func (b *bench) play(s *step) {
	for _, id := range s.done {
		b.finishCommand(id)
	}
	for _, g := range s.set {
		b.set(g)
	}
	for _, id := range s.freeze {
		b.set(setting{id: id, word: "frozen"})
	}
	for _, id := range s.stuck {
		b.byID[id].word = "stuck"
	}
	for _, id := range s.thaw {
		b.byID[id].word = ""
	}
	for _, id := range sortedKeys(s.partial) {
		b.part(id, s.partial[id])
	}
	for _, id := range s.failed {
		if x := b.known(id); x != nil {
			b.answer(x, lab.Ef("cases: exchange", x.cmd.Target.Instrument, lab.KindDeviceRefused, "the device refused"))
		}
	}
	for _, id := range s.lost {
		if x := b.known(id); x != nil {
			b.lose(x.cmd.Target.Instrument, "the command timed out")
		}
	}
	if s.epoch != "" {
		b.lose(s.epoch, "the link was lost")
	}
	b.feed()
	for _, id := range s.done {
		b.confirm(id)
	}
	if s.restart {
		b.restart()
	}
	b.people(s)
	if s.do != nil {
		b.ask(s)
	}
}

// people does what operators do in a step.
func (b *bench) people(s *step) {
	control := func(to **messages.ControlReply) func(any) {
		return func(m any) {
			if r, ok := m.(messages.ControlReply); ok && to != nil {
				*to = &r
			}
		}
	}
	for _, id := range sortedKeys(s.resolve) {
		b.step(gateway.ResolveAsked{ID: "resolve", Command: id, As: s.resolve[id], Principal: operator, Reason: "looked", Reply: control(nil)})
	}
	if s.stop != "" {
		name := s.stop
		if name == "all" {
			name = ""
		}
		b.step(gateway.StopAsked{ID: "stop", Instrument: name, Principal: operator, Reason: "pressed", Reply: func(any) {}})
	}
	if s.reset != "" {
		b.resetOK = nil
		b.step(gateway.ResetAsked{ID: "reset", Rule: s.reset, Principal: operator, Reason: "looked", Reply: control(&b.resetOK)})
		if b.resetOK != nil && b.resetOK.OK {
			delete(b.tripped, s.reset)
		}
	}
	if s.bypass != "" {
		b.bypassOK = nil
		b.step(gateway.BypassAsked{ID: "bypass", Rule: s.bypass, Principal: operator, Reason: "maintenance", Until: b.now.Add(s.bypassFor), Reply: control(&b.bypassOK)})
	}
	if s.acknowledge != "" {
		b.step(gateway.AcknowledgeAsked{ID: "ack", Rule: s.acknowledge, Principal: operator, Reply: control(nil)})
	}
}

func (b *bench) known(id string) *sent {
	x := b.sent[id]
	if x == nil {
		b.broken = fmt.Sprintf("command %s is not under way: %s", id, b.sayReply())
	}
	return x
}

// finishCommand brings a command's instrument to where the command leads, as
// far as its class tells. What a step sets beside it comes after that.
func (b *bench) finishCommand(id string) {
	x := b.known(id)
	if x == nil {
		return
	}
	b.answer(x, nil)
	b.now = b.now.Add(time.Millisecond) // what is read from here on is newer than the command
	b.changes(x.cmd.Target, x.cmd.Args, x.before)
	if b.finishDone(x) {
		b.feed()
	}
}

func (b *bench) finishDone(x *sent) bool {
	in := b.lab.Instrument(x.cmd.Target.Instrument)
	c := newClassView(in.Profile.Component(x.cmd.Target.Component).Class, b.lab.CommandSpec(x.cmd.Target))
	return b.finish(x.cmd.Target, c, x.cmd.Args, x.before)
}

// confirm makes sure that a command that the case calls done is so.
func (b *bench) confirm(id string) {
	x := b.sent[id]
	if x == nil || b.outcome(id).Outcome != nil {
		return
	}
	if !b.finishDone(x) {
		b.broken = fmt.Sprintf("done: %s could not be shown: set what its done_when wants (%s)", id, b.lab.CommandSpec(x.cmd.Target).DoneWhen.Text)
		return
	}
	b.feed()
	if r := b.outcome(id); r.Outcome == nil {
		b.broken = fmt.Sprintf("done: %s is still %s", id, r.State)
	}
}

// part ends a command after a part of it: its instrument has done so much, and
// its run stops it.
func (b *bench) part(id string, q lab.Quantity) {
	x := b.known(id)
	if x == nil {
		return
	}
	b.answer(x, nil)
	b.now = b.now.Add(time.Millisecond)
	spec := b.lab.CommandSpec(x.cmd.Target)
	for _, ch := range spec.Changes {
		s := b.byID[lab.PropertyID{Instrument: x.cmd.Target.Instrument, Component: x.cmd.Target.Component, Property: ch.Property}]
		if more, err := q.In(s.typ.Unit); ch.Add && err == nil {
			s.value.Num += more.Value
		}
	}
	b.feed()
	stop := x.cmd.Target
	stop.Command = spec.StopsWith
	if spec.StopsWith == "" {
		b.broken = fmt.Sprintf("partial: nothing stops %s", id)
		return
	}
	last, reply := b.lastID, b.lastReply
	b.ask(&step{id: id + "-stop", run: x.cmd.Run, as: x.cmd.Principal, do: &call{id: stop, args: map[string]lab.Value{}}, notAfter: time.Minute, finally: true})
	b.n--
	b.lastID, b.lastReply = last, reply
	b.advance(b.now.Add(300 * time.Millisecond))
	delete(b.stoppedBy, id)
}

// lose drops a link and brings it back, in a new epoch.
func (b *bench) lose(instrument, say string) {
	b.step(gateway.LinkLost{Instrument: instrument, Say: say})
	b.epochs[instrument]++
	b.step(gateway.LinkUp{Instrument: instrument, Epoch: b.epochs[instrument], Identity: "scripted"})
}

// restart kills the gateway and starts it from its journal.
func (b *bench) restart() {
	b.queue, b.leases = nil, map[string]*leased{}
	b.now = b.now.Add(time.Second)
	if err := b.boot(b.now.Add(30 * time.Second)); err != nil {
		b.broken = "restart: " + err.Error()
	}
	b.advance(b.now.Add(200 * time.Millisecond))
}

// judge says whether an expectation holds, and what is instead.
func (b *bench) judge(x expectation) (bool, string) {
	ok, got := b.holds(x)
	return ok != x.not, got
}

func (b *bench) holds(x expectation) (bool, string) {
	switch x.what {
	case "allowed":
		r := b.outcome(b.lastID)
		return r.Known && r.Accepted && r.State != lab.Refused, b.sayReply()
	case "refused", "refused as":
		return b.wasRefused(x)
	case "tripped":
		return x.arg == "" && len(b.tripped) > 0 || b.tripped[x.arg], b.sayAll()
	case "first out":
		return b.firstOut[x.arg], b.sayAll()
	case "alarm":
		return b.alarmed(x.arg), b.sayAll()
	case "stopped":
		by := b.stoppedBy[x.arg]
		return len(by) > 0 && (x.by == "" || slices.Contains(by, x.by)), fmt.Sprintf("%s; stopped by: %s", b.sayCommand(x.arg), strings.Join(by, ", "))
	case "running":
		r := b.outcome(x.arg)
		return r.Known && r.Accepted && r.Outcome == nil && len(b.stoppedBy[x.arg]) == 0, b.sayCommand(x.arg)
	case "in doubt":
		r := b.outcome(x.arg)
		o := r.Outcome
		return o != nil && (o.State == lab.InDoubt || o.State == lab.Failed && o.Kind == lab.KindOutcomeUnknown), b.sayCommand(x.arg)
	case "ordered":
		args := x.call.args
		if len(args) == 0 {
			args = nil
		}
		return slices.Contains(b.ordered, sayCall(x.call.id, args)), "ordered: " + strings.Join(b.ordered, ", ")
	case "reset":
		return b.resetOK != nil && b.resetOK.OK, sayControl(b.resetOK)
	case "bypassed":
		return b.bypassOK != nil && b.bypassOK.OK, sayControl(b.bypassOK)
	case "quiet":
		quiet := len(b.tripped) == 0 && !b.refused && !b.alarmed("")
		for _, by := range b.stoppedBy {
			quiet = quiet && len(by) == 0
		}
		return quiet, b.sayAll()
	}
	return false, "not understood"
}

func (b *bench) wasRefused(x expectation) (bool, string) {
	r := b.outcome(b.lastID)
	issues := append(slices.Clone(b.lastReply.Issues), r.Issues...)
	refused := r.Known && r.State == lab.Refused || len(b.lastReply.Issues) > 0 && !b.lastReply.Accepted
	if r.Outcome != nil {
		issues = append(issues, r.Outcome.Issues...)
	}
	if x.arg == "" {
		return refused, b.sayReply()
	}
	return refused && slices.ContainsFunc(issues, func(i lab.Issue) bool {
		return x.what == "refused" && i.Rule == x.arg || x.what == "refused as" && i.Code == x.arg
	}), b.sayReply()
}

// alarmed reports whether an alarm was raised; that a proof test is due is not
// of the case's making.
func (b *bench) alarmed(rule string) bool {
	for r, on := range b.alarms {
		if on && (r == rule || rule == "" && !strings.HasPrefix(r, "proof-test/")) {
			return true
		}
	}
	return false
}

func (b *bench) sayReply() string {
	r := b.outcome(b.lastID)
	issues := b.lastReply.Issues
	if r.Outcome != nil && len(r.Outcome.Issues) > 0 {
		issues = r.Outcome.Issues
	}
	var parts []string
	for _, i := range issues {
		why := i.Rule
		if why == "" {
			why = i.Code
		}
		parts = append(parts, fmt.Sprintf("%s (%s)", why, i.Say))
	}
	if len(parts) > 0 {
		return "refused by " + strings.Join(parts, "; ")
	}
	return b.sayCommand(b.lastID)
}

func (b *bench) sayCommand(id string) string {
	r := b.outcome(id)
	switch {
	case !r.Known:
		return id + " is not known"
	case r.Outcome != nil:
		return fmt.Sprintf("%s is %s %s", id, r.Outcome.State, r.Outcome.Say)
	}
	return fmt.Sprintf("%s is allowed, and %s", id, r.State)
}

func (b *bench) sayAll() string {
	say := "tripped: " + strings.Join(sortedKeys(b.tripped), ", ")
	var on []string
	for _, r := range sortedKeys(b.alarms) {
		if b.alarms[r] {
			on = append(on, r)
		}
	}
	say += "; alarms: " + strings.Join(on, ", ")
	for _, id := range sortedKeys(b.stoppedBy) {
		say += fmt.Sprintf("; %s stopped by %s", id, strings.Join(b.stoppedBy[id], ", "))
	}
	if b.refused {
		say += "; " + b.sayReply()
	}
	return say
}

func sayControl(r *messages.ControlReply) string {
	if r == nil {
		return "nothing was asked"
	}
	return r.Say
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
