package protocols

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// noTakes is how long a command may take whose class does not say: the
// gateway's own limit on one exchange.
const noTakes = 15 * time.Second

// RetryAfter is the pause before a command is tried again.
const RetryAfter = 200 * time.Millisecond

// bound is the hint for arguments that nothing bounds.
const bound = "bound its arguments, as in min(0.4 mL, …), or by inputs with min and max"

// maxAmount is more of anything than a laboratory has, in SI base units.
const maxAmount = 1e6

// Bill is what a plan costs. Expected is an estimate: commands take what their
// class expects, a wait a tenth of the way from its for to its timeout, a person a tenth of theirs, a
// repeat with an until half of its max. Everything else is at worst, with every
// wait at its timeout, every repeat at its max and every retry used; cleanup
// and finally are counted too.
type Bill struct {
	Expected    time.Duration
	Worst       time.Duration
	Exposures   int                      // tries of commands that acquire
	Commands    int                      // tries of any command
	Consumption map[string]lab.Quantity  // by substance, or instrument where it is not known what that holds
	Takes       []Take                   // by instrument and dimension: what its commands take from what it holds
	Occupation  map[string]time.Duration // by instrument: how long its commands may take, all tries together
}

// Take is an amount of matter that an instrument takes from what it holds.
type Take struct {
	Instrument string
	Amount     lab.Quantity
}

// Taking is what a plan takes from an instrument at worst, in a unit.
func (b *Bill) Taking(instrument string, u lab.Unit) float64 {
	for _, t := range b.Takes {
		if q, err := t.Amount.In(u); err == nil && t.Instrument == instrument {
			return q.Value
		}
	}
	return 0
}

// Takes is what a command of a step takes, with its arguments as they are.
func (pl *Plan) Takes(s *Step, args map[string]lab.Value) []lab.Quantity {
	c := pl.Protocol.costs[s.Spec]
	if c == nil || len(c.uses) == 0 {
		return nil
	}
	exact := make([]expr.Range, len(s.With))
	for i := range s.With {
		exact[i] = expr.Exactly(args[s.With[i].Name])
	}
	var list []lab.Quantity
	for _, u := range c.uses {
		if iv, ok := u.amount.NumberOver(exact); ok && iv.Hi > 0 {
			list = append(list, lab.Quantity{Value: u.unit.FromBase(iv.Hi), Unit: u.unit})
		}
	}
	return list
}

// MarshalJSON writes times as quantities.
func (b Bill) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Expected    lab.Quantity            `json:"expected"`
		Worst       lab.Quantity            `json:"worst"`
		Exposures   int                     `json:"exposures"`
		Commands    int                     `json:"commands"`
		Consumption map[string]lab.Quantity `json:"consumption,omitempty"`
	}{lab.Seconds(b.Expected), lab.Seconds(b.Worst), b.Exposures, b.Commands, b.Consumption})
}

// cost is the compiled cost of a command: programs whose slots are its
// arguments, by index.
type cost struct {
	expected, worst *expr.Program // nil: none given
	uses            []use
}

// use is one property that a command adds to and that is an amount of matter:
// what an instrument consumes.
type use struct {
	amount *expr.Program
	unit   lab.Unit
}

// matter are the dimensions of what can be used up.
var matter = map[lab.Dim]bool{{L: 3}: true, {M: 1}: true, {N: 1}: true}

// checkCost compiles the cost of a step's command, once.
func (r *parser) checkCost(s *Step) {
	if s.Spec == nil || r.p.costs[s.Spec] != nil {
		return
	}
	c := &cost{}
	r.p.costs[s.Spec] = c
	args := expr.MapScope{}
	for i, a := range s.Spec.Args {
		args[a.Name] = expr.Symbol{Slot: i, Type: a.Type}
	}
	all, slot := expr.MapScope{}, len(args)
	for _, p := range s.Class.Properties {
		for _, n := range []string{p.Name, "self." + p.Name, "before." + p.Name} {
			all[n] = expr.Symbol{Slot: slot, Type: p.Type}
			slot++
		}
	}
	for n, x := range args {
		all[n] = x
	}
	duration := lab.Type{Kind: lab.Number, Unit: lab.Second}
	c.expected = r.classProgram(s.Spec.Expected, args, duration)
	c.worst = r.classProgram(s.Spec.Worst, args, duration)
	for _, ch := range s.Spec.Changes {
		p := s.Class.Property(ch.Property)
		if !ch.Add || p == nil || p.Type.Kind != lab.Number || !matter[p.Type.Unit.Dim()] {
			continue
		}
		if amount := r.classProgram(ch.To, all, p.Type); amount != nil {
			c.uses = append(c.uses, use{amount, p.Type.Unit})
		}
	}
}

// classProgram compiles an expression of a class. The class was checked when
// it was loaded, so that an issue here means a class that was not.
func (r *parser) classProgram(src lab.Source, s expr.Scope, t lab.Type) *expr.Program {
	if src.Text == "" {
		return nil
	}
	p, err := expr.Compile(src, s)
	var list lab.Issues
	switch {
	case errors.As(err, &list):
		r.Issues = append(r.Issues, list...)
		return nil
	case err == nil:
		err = p.Fits(t)
	}
	if err != nil {
		r.add(src.Pos, "wrong_type", "", "%v", err)
		return nil
	}
	return p
}

// ranges is what each slot may hold: inputs anything that is allowed, or just
// the given value.
func (p *Protocol) ranges(inputs map[string]lab.Value) []expr.Range {
	out := make([]expr.Range, len(p.slots))
	for i := range p.slots {
		switch x := &p.slots[i]; x.Kind {
		case InputSlot:
			if v, ok := inputs[x.Input]; ok {
				out[i] = expr.Exactly(v)
			} else if in := p.Input(x.Input); in != nil {
				out[i] = in.Range()
			}
		case CountSlot:
			out[i] = expr.Between(lab.Quantity{Value: 1}, lab.Quantity{Value: float64(max(1, x.Step.Max))}).OrUnknown()
		case ItemSlot:
			out[i] = x.Step.itemRange(i)
		case ResultSlot:
			if a := x.Step.saidAt(i); a != nil {
				out[i] = a.Range().OrUnknown()
			}
		case LetSlot:
			for _, l := range x.Step.Use.Lets {
				if l.slot == i {
					out[i] = l.Input.Range().OrUnknown()
				}
			}
		}
	}
	return out
}

// saidAt finds what the answer to an ask step holds, by its slot.
func (s *Step) saidAt(slot int) *Input {
	for i := range s.Answers {
		if s.gives[s.Answers[i].Name] == slot {
			return &s.Answers[i]
		}
	}
	return nil
}

// itemRange is what a value of a repeat may be, by its slot.
func (s *Step) itemRange(slot int) expr.Range {
	for _, it := range s.Over {
		if it.slot != slot {
			continue
		}
		if it.Values[0].Kind == lab.Enum {
			words := make([]string, len(it.Values))
			for i, v := range it.Values {
				words[i] = v.Text
			}
			return expr.OneOf(words...).OrUnknown()
		}
		if it.Values[0].Kind == lab.Bool {
			return expr.EitherWay().OrUnknown()
		}
		low, high := it.Values[0], it.Values[0]
		for _, v := range it.Values {
			if v.Num < low.Num {
				low = v
			}
			if v.Num > high.Num {
				high = v
			}
		}
		return expr.Between(low.Quantity(), high.Quantity()).OrUnknown()
	}
	return expr.Range{}
}

// Range is everything that the input may be.
func (in *Input) Range() expr.Range {
	switch {
	case in.Type.Kind == lab.Bool:
		return expr.EitherWay()
	case in.Type.Kind == lab.Enum:
		return expr.OneOf(in.Type.Enum...)
	case in.Min != nil && in.Max != nil:
		return expr.Between(in.Min.Quantity(), in.Max.Quantity())
	}
	return expr.Range{}
}

// sum is the cost of a part of a plan; times in seconds.
type sum struct {
	expected, worst     float64
	exposures, commands float64
}

// biller adds up a plan.
type biller struct {
	plan   *Plan
	ranges []expr.Range
	uses   map[string]lab.Quantity
	takes  []Take
	busy   map[string]float64 // seconds, by instrument
	issues lab.Issues
}

// bill computes the plan's bill, and reports what can't be bounded or exceeds
// the protocol's own budget.
func (pl *Plan) bill() lab.Issues {
	b := &biller{plan: pl, ranges: pl.Protocol.ranges(pl.Inputs), uses: map[string]lab.Quantity{}, busy: map[string]float64{}}
	var all sum
	for _, list := range [][]*Step{pl.Protocol.Steps, pl.Protocol.Cleanup, pl.Protocol.Finally} {
		all = all.then(b.list(list, 1))
	}
	p := pl.Protocol
	if all.worst > MaxTime.Seconds() && len(b.issues) == 0 {
		b.issues.Add(p.Pos, "too_long", "", "at worst the plan takes %s; at most %s", lab.Q(all.worst/86400, "d"), lab.Q(MaxTime.Hours()/24, "d"))
	}
	if all.commands > MaxCommands {
		b.issues.Add(p.Pos, "too_many", "", "at worst the plan has %s commands; at most %d", lab.FormatNumber(all.commands), MaxCommands)
	}
	if len(b.issues) > 0 {
		return b.issues
	}
	pl.Bill = Bill{Expected: seconds(all.expected), Worst: seconds(all.worst), Exposures: int(all.exposures), Commands: int(all.commands), Consumption: b.uses, Takes: b.takes, Occupation: map[string]time.Duration{}}
	for name, busy := range b.busy {
		pl.Bill.Occupation[name] = seconds(busy)
	}
	if t := p.Budget.Time; t > 0 && pl.Bill.Expected > t {
		b.over("time", lab.Seconds(t).String(), lab.Seconds(pl.Bill.Expected).String(), "takes about")
	}
	if n := p.Budget.Exposures; n > 0 && pl.Bill.Exposures > n {
		b.over("exposures", strconv.Itoa(n), strconv.Itoa(pl.Bill.Exposures), "may take up to")
	}
	return b.issues
}

// over reports a plan that can't fit the protocol's own budget: of time, if
// not even what is expected fits (the rest is cut off at run time); of
// exposures, if the most that it may take does not.
func (b *biller) over(what, budget, need, takes string) {
	if what == "exposures" {
		need, budget = need+" exposures", budget+" exposures"
	}
	b.issues = append(b.issues, lab.Issue{Code: "budget_exceeded", Path: "protocol.budget." + what, Got: budget, Allowed: "at least " + need,
		Say: "the plan " + takes + " " + need + "; the protocol's own budget is " + budget}.At(b.plan.Protocol.Pos))
}

// seconds rounds up to a microsecond, but for what arithmetic added.
func seconds(s float64) time.Duration {
	return time.Duration(math.Ceil(s*1e6-1e-3)) * time.Microsecond
}

func (a sum) then(b sum) sum {
	return sum{a.expected + b.expected, a.worst + b.worst, a.exposures + b.exposures, a.commands + b.commands}
}

// list adds up steps one after the other, each done so many times.
func (b *biller) list(steps []*Step, times float64) (all sum) {
	for _, s := range steps {
		all = all.then(b.step(s, times))
	}
	return all
}

// step is the cost of a step done once; consumption is noted for all of its
// times.
func (b *biller) step(s *Step, times float64) sum {
	all := b.once(s, times)
	if s.Expect > 0 {
		all.expected = min(s.Expect.Seconds(), all.worst)
	}
	if len(s.OnError.Steps) > 0 { // at worst it fails, and then they are done too
		expected := all.expected
		all = all.then(b.list(s.OnError.Steps, times))
		all.expected = expected
	}
	all.worst += s.OnError.Hold.Seconds()
	return all
}

func (b *biller) once(s *Step, times float64) sum {
	switch s.Kind {
	case Do:
		return b.do(s, times)
	case Wait:
		if s.Until == nil {
			return sum{expected: s.For.Seconds(), worst: s.For.Seconds()}
		}
		return sum{expected: s.For.Seconds() + (s.Timeout-s.For).Seconds()/10, worst: s.Timeout.Seconds()}
	case Ask: // a person is slower than an instrument, and nobody knows how much
		return sum{expected: s.Timeout.Seconds() / 10, worst: s.Timeout.Seconds()}
	case Parallel:
		var all sum
		for _, x := range s.Steps {
			c := b.step(x, times)
			all = sum{max(all.expected, c.expected), max(all.worst, c.worst), all.exposures + c.exposures, all.commands + c.commands}
		}
		return all
	case Use:
		return b.list(s.Steps, times)
	case If:
		then, other := b.list(s.Steps, times), b.list(s.Otherwise, times)
		wait := 0.0
		if b.plan.LooksAt(s) {
			wait = UnknownFor.Seconds()
		}
		return sum{max(then.expected, other.expected), wait + max(then.worst, other.worst), max(then.exposures, other.exposures), max(then.commands, other.commands)}
	case Repeat:
		most := float64(s.Max)
		body := b.list(s.Steps, times*most)
		usual := most
		if s.Until != nil {
			usual = math.Ceil(most / 2)
		}
		every := s.Every.Seconds()
		return sum{usual * max(every, body.expected), most * max(every, body.worst), most * body.exposures, most * body.commands}
	}
	return sum{}
}

// do is the cost of one command with its retries.
func (b *biller) do(s *Step, times float64) sum {
	c := b.plan.Protocol.costs[s.Spec]
	args := b.args(s)
	tries := float64(1 + s.OnError.Retry)
	all := sum{commands: tries, worst: noTakes.Seconds() * tries}
	if s.Spec.Within > 0 {
		all.worst = s.Spec.Within.Seconds() * tries
	}
	if s.Spec.Effect == lab.Acquire {
		all.exposures = tries
	}
	if c.worst != nil {
		all.worst = b.bound(c.worst, args, s) * tries
	}
	b.busy[b.plan.Bindings[s.Role].Instrument.Name] += all.worst * times
	all.worst += float64(s.OnError.Retry) * RetryAfter.Seconds()
	if c.expected != nil {
		if iv, ok := c.expected.NumberOver(args); ok {
			all.expected = max(0, min(iv.Lo/2+iv.Hi/2, all.worst))
		}
	}
	for _, u := range c.uses {
		if iv, ok := u.amount.NumberOver(args); ok && iv.Hi > 0 {
			b.use(s, lab.Quantity{Value: u.unit.FromBase(iv.Hi) * tries * times, Unit: u.unit})
		}
	}
	return all
}

// bound is the longest time that a command can take, in seconds.
func (b *biller) bound(p *expr.Program, args []expr.Range, s *Step) float64 {
	iv, ok := p.NumberOver(args)
	if !ok || iv.Hi > MaxTime.Seconds() {
		b.issues.Add(s.Pos, "unbounded_time", bound,
			"nothing bounds how long %s.%s takes", s.Role, s.Command)
		return 0
	}
	return max(0, iv.Hi)
}

// args is what the arguments of a step may be. What they can't be is refused
// when the step begins, so the class's bounds hold.
func (b *biller) args(s *Step) []expr.Range {
	out := make([]expr.Range, len(s.With))
	for i := range s.With {
		a := &s.With[i]
		switch {
		case a.Expr == nil:
			out[i] = expr.Exactly(a.Value)
		case b.plan.fixed(a):
			out[i] = expr.Exactly(b.plan.fixedArgs[a])
		default:
			out[i] = within(a, b.ranges)
		}
	}
	return out
}

// within is the range of an expression, cut to the class's bounds.
func within(a *Arg, ranges []expr.Range) expr.Range {
	p, u := a.Param, a.Param.Type.Unit
	if p.Type.Kind != lab.Number && p.Type.Kind != lab.Integer {
		r, ok := a.Expr.RangeOver(ranges)
		if !ok {
			return expr.Range{}
		}
		return r
	}
	iv, ok := a.Expr.NumberOver(ranges)
	if !ok {
		return expr.Range{}
	}
	for _, low := range []*lab.Value{p.Min, p.MoreThan} {
		if low != nil {
			iv.Lo = max(iv.Lo, low.Base())
		}
	}
	if p.Max != nil {
		iv.Hi = min(iv.Hi, p.Max.Base())
	}
	iv.Maybe = false // an unknown argument is an error, and the command is not sent
	return expr.Within(iv, u)
}

// take notes what an instrument takes, each dimension apart.
func (b *biller) take(instrument string, q lab.Quantity) {
	for i := range b.takes {
		t := &b.takes[i]
		if more, err := q.In(t.Amount.Unit); err == nil && t.Instrument == instrument {
			t.Amount.Value += more.Value
			return
		}
	}
	b.takes = append(b.takes, Take{instrument, q})
}

// use notes a consumption under the substance, or the instrument.
func (b *biller) use(s *Step, q lab.Quantity) {
	in := b.plan.Bindings[s.Role].Instrument
	b.take(in.Name, q)
	key := in.Name
	if in.Holds != nil && in.Holds.Substance != "" {
		key = in.Holds.Substance
	}
	if have, ok := b.uses[key]; ok && have.Unit.Dim() != q.Unit.Dim() { // grams here, litres there: they stay apart
		key += " (" + q.Unit.Dim().String() + ")"
	}
	have, ok := b.uses[key]
	if !ok {
		have.Unit = q.Unit
	}
	more, err := q.In(have.Unit)
	if err != nil || !more.Finite() || math.Abs(more.Base()) > maxAmount {
		b.issues.Add(s.Pos, "unbounded_consumption", bound,
			"nothing bounds how much %s.%s uses", s.Role, s.Command)
		return
	}
	have.Value += more.Value
	b.uses[key] = have
}
