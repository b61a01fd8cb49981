package protocols

import (
	"regexp"
	"slices"
	"strings"

	"labgate/lab"
	"labgate/lab/expr"
)

// vast is more than any reading, in SI base units: the open end of a range.
const vast = 1e150

// checkReach refuses conditions that can only turn out one way, whatever the
// inputs and the readings: waits and repeats that can't end by them, lists of an
// if that are never carried out, limits that forbid everything.
func (r *parser) checkReach() {
	free := r.mayBe(nil)
	within := free
	if len(r.p.Limits) > 0 {
		within = r.mayBe(r.p.Limits)
	}
	for _, s := range r.p.steps {
		if s.Until == nil || r.constant[s] {
			continue
		}
		switch s.Kind {
		case If:
			r.checkDecides(s, free)
		case Wait:
			r.checkComes(s, within, "make it a plain pause, with for: alone")
		case Repeat:
			r.checkComes(s, within, "leave until out")
		}
	}
	for i := range r.p.Limits {
		r.checkHolds(i, free)
	}
}

// checkComes refuses a wait or a repeat whose until is never true: it would
// always last to its end.
func (r *parser) checkComes(s *Step, within []expr.Range, hint string) {
	switch said := truths(s.Until, within); {
	case !said.Has(expr.True):
		say := "whatever the inputs and the readings"
		if truths(s.Until, r.mayBe(nil)).Has(expr.True) {
			say = "within the limits of this protocol"
		}
		r.add(s.until.Pos, "never_true", hint, "%q is never true, %s: this %s could only reach its end", s.until.Text, say, s.Kind)
	case s.Kind == Repeat && !said.Has(expr.False):
		r.add(s.until.Pos, "unreachable", "leave the repeat out, or its until", "%q is never false: there is no second iteration", s.until.Text)
	}
}

// checkDecides refuses a condition that is the same whatever happens: one of
// its lists would never be carried out.
func (r *parser) checkDecides(s *Step, free []expr.Range) {
	if len(s.Until.Slots()) == 0 {
		r.add(s.until.Pos, "constant_condition", "leave the if out", "%q is the same whatever happens", s.until.Text)
		return
	}
	never := ""
	switch said := truths(s.Until, free); {
	case !said.Has(expr.True):
		never = "then"
	case !said.Has(expr.False) && len(s.Otherwise) > 0:
		never = "else"
	default:
		return
	}
	r.add(s.until.Pos, "unreachable", "", "%q is the same for all inputs that are allowed: what stands in %s is never carried out", s.until.Text, never)
}

// checkHolds refuses a limit that never holds, alone or beside the others: no
// command of the run could ever be sent.
func (r *parser) checkHolds(i int, free []expr.Range) {
	l := &r.p.Limits[i]
	if l.Expr == nil {
		return
	}
	switch {
	case !truths(l.Expr, free).Has(expr.True):
		r.add(l.Pos, "never_true", "", "%q is never true: nothing would be allowed", l.Text)
	case !truths(l.Expr, free).Has(expr.False):
		r.add(l.Pos, "constant_condition", "leave it out", "%q is never false: it limits nothing", l.Text)
	case !truths(l.Expr, r.mayBe(r.p.Limits[:i])).Has(expr.True):
		r.add(l.Pos, "never_true", "", "%q is never true within the limits before it: nothing would be allowed", l.Text)
	}
}

// checkFails refuses an error policy of a step that can't fail: it would never
// be used.
func (r *parser) checkFails(s *Step, at lab.Pos) {
	switch {
	case s.Kind != Wait:
	case s.until.Text == "":
		r.add(at, "unreachable", "leave on_error out", "a plain pause can't fail")
	case s.Else == ElseContinue:
		r.add(at, "unreachable", "leave on_error out, or else: continue", "a wait that continues at its timeout can't fail")
	}
}

// mayBe is what each slot may hold at all: inputs what is allowed, properties
// and results what their types and the classes allow, and properties what the
// limits leave of that.
func (r *parser) mayBe(limits []Limit) []expr.Range {
	out := r.p.ranges(nil)
	for i := range out {
		x := &r.p.slots[i]
		switch x.Kind {
		case PropertySlot, ResultSlot, LastSlot, PreviousSlot:
			if x.Kind != ResultSlot || x.Step.saidAt(i) == nil {
				out[i] = ofType(x.Type)
			}
		}
	}
	for i := range limits {
		for _, part := range r.simple(limits[i].Text) {
			r.narrow(out, part)
		}
	}
	return out
}

// ofType is everything that a value of a type may be.
func ofType(t lab.Type) expr.Range {
	switch {
	case t.Kind == lab.Bool:
		return expr.EitherWay().OrUnknown()
	case t.Kind == lab.Enum:
		return expr.OneOf(t.Enum...).OrUnknown()
	case t.Kind == lab.Number && t.Unit.Dim() == lab.Temperature:
		return expr.Within(expr.Interval{Lo: 0, Hi: vast, Maybe: true}, t.Unit) // nothing is colder
	}
	return expr.Range{}
}

var simpleLimit = regexp.MustCompile(`^([a-z][a-z0-9_]*\.[a-z][a-z0-9_]*) *(<=|>=|<|>)([^<>=!]*)$`)

// simple are the parts of a limit of the form role.property <= bound, joined by
// and; none where it has another form, which then tells nothing here.
func (r *parser) simple(text string) (parts [][]string) {
	for _, part := range strings.Split(text, " and ") {
		m := simpleLimit.FindStringSubmatch(strings.TrimSpace(part))
		if m == nil || strings.Contains(m[3], " or ") {
			return nil
		}
		parts = append(parts, m[1:])
	}
	return parts
}

// narrow cuts the range of a property to what one part of a limit leaves.
func (r *parser) narrow(out []expr.Range, part []string) {
	slot, ok := r.slotOf[part[0]]
	if !ok || r.p.slots[slot].Kind != PropertySlot || r.p.slots[slot].Type.Kind != lab.Number {
		return
	}
	p, err := expr.Compile(lab.Source{Text: strings.TrimSpace(part[2])}, &scope{r: r})
	if err != nil || len(p.Slots()) > 0 && p.Windows() {
		return
	}
	bound, ok := p.NumberOver(out)
	if !ok {
		return
	}
	iv, ok := out[slot].Interval()
	if !ok {
		iv = expr.Interval{Lo: -vast, Hi: vast}
	}
	if part[1][0] == '<' {
		iv.Hi = min(iv.Hi, bound.Hi)
	} else {
		iv.Lo = max(iv.Lo, bound.Lo)
	}
	iv.Maybe = true
	out[slot] = expr.Within(iv, r.p.slots[slot].Type.Unit)
}

// maxCases bounds how many combinations of choices one condition is tried
// with.
const maxCases = 256

// truths is what a condition may be. Choices and bools are gone through one by
// one, so that what is said of one of them twice is not taken for two things.
func truths(p *expr.Program, ranges []expr.Range) expr.Truths {
	cases := [][]expr.Range{ranges}
	for _, slot := range p.Slots() {
		each := ranges[slot].Each()
		if len(each) < 2 || len(cases)*len(each) > maxCases {
			continue
		}
		var more [][]expr.Range
		for _, c := range cases {
			for _, one := range each {
				with := slices.Clone(c)
				with[slot] = one
				more = append(more, with)
			}
		}
		cases = more
	}
	var all expr.Truths
	for _, c := range cases {
		all |= p.TruthsOver(c)
	}
	return all
}
