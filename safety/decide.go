package safety

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// Decision is the engine's answer to one command. The zero Decision denies.
type Decision struct {
	Permit   *Permit    // nil: denied
	Refusals lab.Issues // every reason, each with its rule
	Rules    []string   // the rules that were asked

	engine   *Engine
	now      time.Time
	programs []*expr.Program // that were evaluated
}

// Used lists the readings that the decision stood on. Like the lists of the
// Decision it is to be asked for before the engine's next call.
func (d *Decision) Used() []lab.Used {
	var list []lab.Used
	for _, p := range d.programs {
		list = append(list, d.engine.used(d.now, p)...)
	}
	return list
}

// Needs lists the properties that the decision about a command will read, so
// that they can be read afresh.
func (e *Engine) Needs(target lab.CommandID) []lab.PropertyID {
	seen := map[int]bool{}
	var ids []lab.PropertyID
	for _, r := range e.rules.byCommand[target] {
		for _, f := range r.Formulas() {
			if f.Command != (lab.CommandID{}) && f.Command != target && f.Role != RoleWhile {
				continue
			}
			for _, s := range f.Program.Slots() {
				if s < len(e.rules.properties) && !seen[s] {
					seen[s] = true
					ids = append(ids, e.rules.properties[s])
				}
			}
		}
	}
	return ids
}

// Decide decides and reserves in one act: an allowed command counts from now
// on, until Done, in every later decision. The permit it returns is good for
// this command, in this epoch, until the first reading that it stood on grows
// stale. The lists of the Decision are the engine's, until the next Decide.
func (e *Engine) Decide(now time.Time, cmd *lab.Command, epoch uint64) Decision {
	e.see(now)
	e.d = Decision{Rules: e.d.Rules[:0], engine: e, now: now, programs: e.d.programs[:0]}
	d := &e.d
	spec := e.lab.CommandSpec(cmd.Target)
	if spec == nil {
		d.refuse(lab.Issue{Code: "undeclared", Path: "command", Got: cmd.Target.String(), Say: fmt.Sprintf("no command %s is declared", cmd.Target)})
		return *d
	}
	hash := cmd.Hash()
	if hash == [32]byte{} {
		d.refuse(lab.Issue{Code: "not_finite", Path: "args", Say: "an argument is not a finite value"})
		return *d
	}
	if e.underWay(cmd.ID) {
		d.refuse(lab.Issue{Code: "duplicate", Path: "id", Got: cmd.ID, Say: fmt.Sprintf("command %s is under way already", cmd.ID)})
		return *d
	}
	if spec.Effect != lab.Read && spec.Effect != lab.Safe {
		if e.never > 0 && !e.Mitigates(cmd.Target) {
			e.checkStarting(now, d)
		}
		if len(e.latches) > 0 {
			e.checkLatches(cmd.Target, d)
		}
	}
	until := now.Add(maxPermit)
	if !cmd.NotAfter.IsZero() && cmd.NotAfter.Before(until) {
		until = cmd.NotAfter
	}
	if !now.Before(until) {
		d.refuse(lab.Issue{Code: "expired", Path: "not_after", Say: fmt.Sprintf("it was to run before %s", cmd.NotAfter.UTC().Format(time.RFC3339Nano))})
	}
	o := &outstanding{cmd: cmd}
	o.held = o.theHeld[:0]
	e.asked = e.argReadings(now, cmd, e.asked[:0])
	for _, r := range e.rules.byCommand[cmd.Target] {
		e.ask(now, r, o, d, &until)
	}
	if spec.Effect != lab.Safe {
		for _, s := range e.scoped[cmd.Run] {
			d.Rules = append(d.Rules, s.rule.ID)
			o.held = append(o.held, e.checkPermissive(now, s.rule, s.rule.expr, s.windows, e.asked, d, &until))
		}
	}
	if len(d.Refusals) > 0 {
		return *d
	}
	o.thePermit.command, o.thePermit.epoch, o.thePermit.lease, o.thePermit.rules, o.thePermit.notAfter = hash, epoch, cmd.Lease, e.rules.Hash, until
	o.thePermit.state.Store(permitFresh)
	o.permit = &o.thePermit
	d.Permit = o.permit
	e.out = append(e.out, o)
	for i := range o.held {
		if e.argued(o.held[i].program) {
			o.args = slices.Clone(e.asked)
			break
		}
	}
	e.reserve(now, cmd, e.asked, true)
	e.Mitigated(cmd.Target, cmd.ID)
	return *d
}

// ask asks one rule about a command.
func (e *Engine) ask(now time.Time, r *Rule, o *outstanding, d *Decision, until *time.Time) {
	d.Rules = append(d.Rules, r.ID)
	if len(e.bypassed) > 0 {
		if _, ok := e.bypassed[r.ID]; ok {
			return
		}
	}
	cmd := o.cmd
	switch r.Kind {
	case LimitRule:
		r.checkLimit(cmd, d)
		e.checkMoves(now, r, cmd, d, until)
	case PermissiveRule:
		p := r.expr
		for i := range r.Targets {
			if t := &r.Targets[i]; t.own != nil && t.Command == cmd.Target {
				p = t.own
			}
		}
		if h := e.checkPermissive(now, r, p, e.state[r.n].memory, e.asked, d, until); !r.AtStart {
			o.held = append(o.held, h)
		}
	case BudgetRule:
		e.checkBudget(now, r, o, d)
	case SequenceRule:
		e.checkSequence(now, r, cmd, d)
	case ZoneRule:
		e.checkZone(now, r, cmd, d)
	}
}

// reserve lets an allowed command count; without live, one that the journal
// says was allowed.
func (e *Engine) reserve(now time.Time, cmd *lab.Command, args []lab.Reading, live bool) {
	for _, r := range e.rules.byCommand[cmd.Target] {
		switch r.Kind {
		case BudgetRule, LimitRule:
			e.take(now, r, cmd, args, live)
		case ZoneRule:
			e.claim(r, cmd)
		}
	}
	e.marked(cmd.Target, cmd.ID)
}

func (d *Decision) refuse(i lab.Issue) { d.Refusals = append(d.Refusals, i) }

func (e *Engine) underWay(command string) bool {
	for _, o := range e.out {
		if o.cmd.ID == command {
			return true
		}
	}
	return false
}

// checkStarting denies effects until every trip has been decidable once. One
// that never is trips when its time is up, and from then on its latch denies.
func (e *Engine) checkStarting(now time.Time, d *Decision) {
	for _, t := range e.trips {
		if !t.everKnown && !e.latched(t.rule.ID) {
			d.refuse(lab.Issue{Code: "starting", Rule: t.rule.ID, Inputs: e.used(now, t.rule.expr), Say: fmt.Sprintf("the inputs of %s were not good yet since the start", t.rule.ID), Hint: "wait and try again"})
		}
	}
}

func (e *Engine) checkLatches(target lab.CommandID, d *Decision) {
	for _, l := range e.latches {
		if !l.denies(target) {
			continue
		}
		d.refuse(lab.Issue{Code: "latched", Rule: l.Rule, Say: fmt.Sprintf("%s, at %s, and nobody has reset it", l.Say, l.Since.UTC().Format(time.RFC3339)),
			Hint: "a person must look, and reset it with a reason"})
	}
}

// checkLimit bounds an argument. A value that is no number is refused. It is
// compared in its own unit, where equal amounts are equal.
func (r *Rule) checkLimit(cmd *lab.Command, d *Decision) {
	for _, t := range r.Targets {
		if t.Command != cmd.Target {
			continue
		}
		v, ok := cmd.Args[t.Arg]
		if ok && r.within(v) {
			continue
		}
		path := "args." + t.Arg
		if !ok || !v.Usable() || v.Kind != lab.Number && v.Kind != lab.Integer {
			d.refuse(lab.Issue{Code: "limit", Rule: r.ID, Path: path, Got: v.String(), Say: fmt.Sprintf("%s: %s is %s, not a number", r.ID, t.Arg, v)})
			continue
		}
		for _, b := range []struct {
			bound *lab.Quantity
			word  string
			over  func(v, bound float64) bool
			round func(float64) float64 // inwards, where only whole numbers are legal
		}{
			{r.Limit.Max, "at most", func(v, max float64) bool { return v > max }, math.Floor},
			{r.Limit.Min, "at least", func(v, min float64) bool { return v < min }, math.Ceil},
		} {
			if b.bound == nil {
				continue
			}
			q, err := b.bound.In(v.Unit)
			if err == nil && !b.over(v.Num, q.Value) {
				continue
			}
			i := lab.Issue{Code: "limit", Rule: r.ID, Path: path, Got: v.String(), Allowed: b.word + " " + b.bound.String(),
				Say: fmt.Sprintf("%s: %s is %s; %s %s is allowed", r.ID, t.Arg, v, b.word, b.bound)}
			if n, ok := r.nearest(v, q, b.round); ok && err == nil {
				i.Nearest, i.Repairable = &n, true
			}
			d.refuse(i)
		}
	}
}

// within reports whether a value is a number between the bounds.
func (r *Rule) within(v lab.Value) bool {
	if !v.Usable() || v.Kind != lab.Number && v.Kind != lab.Integer {
		return false
	}
	if b := r.Limit.Max; b != nil {
		if q, err := b.In(v.Unit); err != nil || v.Num > q.Value {
			return false
		}
	}
	if b := r.Limit.Min; b != nil {
		if q, err := b.In(v.Unit); err != nil || v.Num < q.Value {
			return false
		}
	}
	return true
}

// nearest is the legal value next to a bound; none where the rule leaves no
// whole number.
func (r *Rule) nearest(v lab.Value, bound lab.Quantity, round func(float64) float64) (lab.Value, bool) {
	if v.Kind == lab.Number {
		return lab.NumberValue(bound), true
	}
	n := round(bound.Value)
	ok := (r.Limit.Min == nil || n >= r.Limit.Min.Base()) && (r.Limit.Max == nil || n <= r.Limit.Max.Base()) && math.Abs(n) <= 1<<53
	return lab.IntegerValue(int64(n)), ok
}

// checkPermissive asks a condition now; unknown denies. It shortens the
// permit to the life of the readings it stood on.
func (e *Engine) checkPermissive(now time.Time, r *Rule, p *expr.Program, windows *expr.State, args []lab.Reading, d *Decision, until *time.Time) heldRule {
	e.feed(now, r, windows)
	if e.argued(p) {
		e.loadArgs(args)
	}
	env := e.env(now)
	d.programs = append(d.programs, p)
	if truth := p.Truth(windows, env); truth != expr.True {
		used := e.used(now, p)
		i := lab.Issue{Code: "permissive", Rule: r.ID, Inputs: used, Allowed: p.Source().Text,
			Say: fmt.Sprintf("%s: %s is %s%s", r.ID, p.Source().Text, word(truth), sayUsed(used)), Hint: r.About}
		i.Wait = "its inputs may change"
		if truth == expr.Unknown {
			i.Wait = "its inputs may become known"
		}
		d.refuse(i)
	}
	next := e.soonest(now, p)
	if !next.IsZero() && next.Before(*until) { // one that is stale has no part in what is true
		*until = next
	}
	if p.Windows() {
		next = earlier(next, laterThan(now, p.Next(windows, now)))
	}
	return heldRule{rule: r, program: p, windows: windows, next: next}
}

// argued reports whether a formula reads arguments of the command. Slots come
// in order.
func (e *Engine) argued(p *expr.Program) bool {
	s := p.Slots()
	return len(s) > 0 && s[len(s)-1] >= e.rules.argBase
}

// live shortens a permit to the life of the readings that a formula stands on.
func (e *Engine) live(now time.Time, p *expr.Program, until *time.Time) {
	for _, s := range p.Slots() {
		if at := e.staleAt(s); at.After(now) && at.Before(*until) { // one that is stale has no part in what is true
			*until = at
		}
	}
}

func sayUsed(used []lab.Used) string {
	var parts []string
	for _, u := range used {
		switch {
		case u.Why == "stale":
			parts = append(parts, fmt.Sprintf("%s is stale, %.1f s old", u.Signal, u.AgeMS/1000))
		case u.Why != "":
			parts = append(parts, u.Signal+" is "+u.Why)
		case u.Value != nil:
			parts = append(parts, fmt.Sprintf("%s is %s", u.Signal, u.Value))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// argReadings lays a command's arguments out where rule expressions find them.
func (e *Engine) argReadings(now time.Time, cmd *lab.Command, buf []lab.Reading) []lab.Reading {
	for _, n := range e.rules.argNames {
		r := lab.Reading{}
		if v, ok := cmd.Args[n]; ok {
			r = lab.Reading{Value: v, Quality: lab.Good, Source: now, Received: now}
		}
		buf = append(buf, r)
	}
	return buf
}

// see keeps the latest time that was seen: what ends by time ends, whatever
// becomes of a clock.
func (e *Engine) see(now time.Time) {
	if now.After(e.high) {
		e.high = now
	}
}

func (e *Engine) loadArgs(args []lab.Reading) {
	copy(e.slots[e.rules.argBase:], args)
}

// End is what a command that is over has done, for the rules that count.
type End uint8

// The ends. The zero End is the careful one.
const (
	MaybeDone   End = iota // in doubt, unknown, failed after the first byte: counts the worse way until Settle
	NothingDone            // not sent, refused: its reservation is released
	AllDone                // confirmed
	PartDone               // a part, the amount
)

// Done ends a command's permit, and its reservation by what it has done. An
// amount belongs to PartDone; without one it counts as done in full.
func (e *Engine) Done(now time.Time, command string, end End, amount *lab.Quantity) {
	for i, o := range e.out {
		if o.cmd.ID != command {
			continue
		}
		o.permit.revoke("the command is done")
		e.out = slices.Delete(e.out, i, i+1)
		if end == MaybeDone {
			e.doubts[command] = o.cmd
			return
		}
		e.settle(now, o.cmd, end, amount)
		return
	}
}

// Settle resolves a command in doubt.
func (e *Engine) Settle(now time.Time, command string, end End, amount *lab.Quantity) {
	if cmd := e.doubts[command]; cmd != nil && end != MaybeDone {
		delete(e.doubts, command)
		e.settle(now, cmd, end, amount)
	}
}

// Remember restores a command that the journal says was allowed. It is in
// doubt until Settle.
func (e *Engine) Remember(at time.Time, cmd *lab.Command) {
	if e.lab.CommandSpec(cmd.Target) == nil || e.underWay(cmd.ID) || e.doubts[cmd.ID] != nil {
		return
	}
	c := *cmd
	e.doubts[cmd.ID] = &c
	e.reserve(at, &c, e.argReadings(at, &c, nil), false)
}

// settle lets what was reserved count for what it was.
func (e *Engine) settle(now time.Time, cmd *lab.Command, end End, amount *lab.Quantity) {
	for _, r := range e.rules.byCommand[cmd.Target] {
		switch r.Kind {
		case BudgetRule, LimitRule:
			e.spent(now, r, cmd, end, amount)
		case ZoneRule:
			e.unclaim(r, cmd, end)
		}
	}
	if end == NothingDone {
		e.unmark(cmd.ID)
		return
	}
	if end == AllDone {
		e.confirmed(now, cmd)
	}
}

// Revoke takes a command's permit back: no further byte of it may leave. It
// comes before the stop is queued.
func (e *Engine) Revoke(command, why string) {
	for _, o := range e.out {
		if o.cmd.ID == command {
			o.permit.revoke(why)
		}
	}
}

// maxScoped bounds the limits of one run.
const maxScoped = 64

// Scope puts a run's own limits in force: expressions over the lab's
// properties that must hold for as long as a command of the run is under way.
// They are added to the lab's rules and to those of the run that are in force
// already, so they can only tighten.
func (e *Engine) Scope(run string, limits []string) error {
	const op = "safety: run limit"
	list := e.scoped[run]
	for _, text := range limits {
		if slices.ContainsFunc(list, func(s *scoped) bool { return s.rule.expr.Source().Text == text }) {
			continue
		}
		if len(list) == maxScoped {
			return lab.E(op, "", lab.KindInvalid, fmt.Errorf("more than %d limits", maxScoped))
		}
		p, err := expr.Compile(lab.Source{Text: text}, e.rules.scope())
		if err == nil && p.Type().Kind != lab.Bool {
			err = fmt.Errorf("%s is no condition", text)
		}
		if err != nil {
			return lab.E(op, "", lab.KindInvalid, err)
		}
		r := &Rule{ID: fmt.Sprintf("run limit %d", len(list)+1), Kind: PermissiveRule, About: "a limit of the run's own protocol", expr: p}
		list = append(list, &scoped{rule: r, windows: p.NewState()})
	}
	if len(list) > 0 {
		e.scoped[run] = list
	}
	return nil
}

// Unscope ends a run: its own limits, and what it holds until its end.
func (e *Engine) Unscope(run string) {
	delete(e.scoped, run)
	e.endOfRun(run)
}
