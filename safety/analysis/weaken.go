package analysis

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/lab/expr"
	"labgate/safety"
)

// sense says what makes a rule weaker: +1 that a condition is true more often,
// -1 less often, 0 either may.
type sense int

// senses finds how each signal is used: a signal that makes rules weaker when
// it is true more often is weakened that way, and one that is used both ways,
// both ways.
func (m *mutator) senses(f *strict.Fields, items []*strict.Node) {
	m.uses = map[string]sense{}
	known := map[string]bool{}
	note := func(n *strict.Node, want sense) { m.use(n.Text(), want, known, 0) }
	for _, n := range items {
		r := m.d.Map(n, "rule")
		note(r.Get("require"), +1)
		note(r.Get("when"), -1)
		note(r.Get("healthy"), +1)
		if r.Get("after") != nil {
			note(r.Get("after"), +1)
			for _, x := range m.d.List(r.Get("not_since")) {
				note(x, -1)
			}
		}
		if a := r.Get("alarm"); a.Kind() == strict.Map {
			note(m.d.Map(a, "alarm").Get("when"), -1)
		}
	}
}

func (m *mutator) use(text string, want sense, known map[string]bool, depth int) {
	if depth > 16 {
		return
	}
	for _, s := range expr.Spots(text) {
		if s.Kind != expr.SpotName && s.Kind != expr.SpotValue {
			continue
		}
		def, ok := m.rules.Definition(s.Text)
		if !ok {
			continue
		}
		w := want * sense(s.Sense)
		if known[s.Text] && m.uses[s.Text] != w {
			w = 0
		}
		known[s.Text], m.uses[s.Text] = true, w
		m.use(def.Text, w, known, depth+1)
	}
}

// signal weakens a named signal for the rules that use it.
func (m *mutator) signal(name string, f *strict.Fields) {
	m.rule, m.fields = "signals."+name, f
	if n := f.Get("is"); n != nil {
		m.expression("is", n, m.uses[name])
	}
	if v := f.Get("vote"); v.Kind() == strict.Map {
		vote := m.d.Map(v, "vote")
		m.number(Lowered, "need", vote.Get("need"), func(x float64) float64 { return x - 1 }, "a case where only one sensor says so")
		for _, k := range []float64{2, 10} {
			m.number(Lowered, "within", vote.Get("within"), func(x float64) float64 { return k * x }, "a case where the sensors disagree by more than this")
		}
		for i, x := range m.d.List(vote.Get("of")) {
			if e, ok := m.doc.drop(vote.Get("of"), m.d.List(vote.Get("of")), i); ok {
				m.add(Dropped, fmt.Sprintf("of.%d", i+1), x.Text(), "nothing", "a case where this sensor is needed to agree", nil, e)
			}
		}
	}
}

// expression weakens a condition in each of its places. want is what makes the
// rule weaker.
func (m *mutator) expression(key string, n *strict.Node, want sense) {
	s := m.doc.scalar(n)
	if s == nil {
		return
	}
	skip := len(s.text) - len(strings.TrimLeft(s.text, "\n")) // as the loader reads it
	count := map[expr.SpotKind]int{}
	for _, spot := range expr.Spots(s.text[skip:]) {
		count[spot.Kind]++
		spot.Pos, spot.End = spot.Pos+skip, spot.End+skip
		w := &weakening{m: m, s: s, key: key, spot: spot, n: count[spot.Kind], skip: skip, dir: want * sense(spot.Sense)}
		w.weaker = m.weaker(key, want)
		w.do()
	}
}

// weakening is one spot of one expression. dir is what makes the rule weaker
// here: +1 more often true, or greater.
type weakening struct {
	m      *mutator
	s      *scalar
	key    string
	spot   expr.Spot
	n      int // of its kind
	skip   int
	dir    sense
	weaker func(*safety.Rules) bool
}

func (w *weakening) do() {
	switch w.spot.Kind {
	case expr.SpotCompare:
		turned := map[string]string{"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}
		w.put(Flipped, "compare", turned[w.spot.Text], "a case on each side of it")
	case expr.SpotName:
		if !w.isEnum() {
			w.put(Flipped, "name", "not "+w.spot.Text, "a case with "+w.spot.Text+" true and one with it false")
		}
	case expr.SpotJoin:
		w.swap()
	case expr.SpotOperand:
		if w.dir == 0 || (w.dir > 0) == (w.spot.Join == "and") {
			w.add(Dropped, "part", w.spot.Text, "nothing", "a case that only "+short(w.spot.Text)+" decides", w.s.edit(w.spot.Pos, w.spot.End, ""))
		}
	case expr.SpotNumber:
		w.move()
	case expr.SpotSpan:
		w.span()
	case expr.SpotNeed:
		w.need()
	}
}

// isEnum: a bare word of an enumeration is no condition.
func (w *weakening) isEnum() bool { return w.spot.Text == "true" || w.spot.Text == "false" }

func (w *weakening) put(kind, what, to, hint string) {
	w.add(kind, what, w.spot.Text, to, hint, w.s.edit(w.spot.Pos, w.spot.End, to))
}

func (w *weakening) add(kind, what, from, to, hint string, edits ...edit) {
	w.m.add(kind, fmt.Sprintf("%s.%s%d", w.key, what, w.n), from, to, hint, w.weaker, edits...)
}

func (w *weakening) swap() {
	other := map[string]string{"and": "or", "or": "and"}[w.spot.Text]
	if w.dir > 0 && other == "and" || w.dir < 0 && other == "or" {
		return // stricter
	}
	var edits []edit
	for _, p := range w.spot.Places {
		edits = append(edits, w.s.edit(p[0]+w.skip, p[1]+w.skip, other))
	}
	w.add(Flipped, "join", w.spot.Text, other, "a case where one side holds and the other does not", edits...)
}

// move shifts a literal by a tenth, to the weaker side; to both, where the
// form does not tell.
func (w *weakening) move() {
	hint := "a case just beyond " + w.spot.Text
	for _, d := range []sense{+1, -1} {
		if w.dir == 0 || w.dir == d {
			what := "number"
			if w.dir == 0 {
				what = map[sense]string{+1: "up", -1: "down"}[d]
			}
			w.put(Moved, what, scaled(w.spot.Text, func(v float64) float64 { return v + float64(d)*step(v, w.spot.Text) }), hint)
		}
	}
}

// step is a tenth of a number; of 0, half a unit; of a count, at least one.
func step(v float64, text string) float64 {
	switch {
	case v == 0:
		return 0.5
	case v == math.Trunc(v) && numberEnd(text) == len(strings.TrimSpace(text)): // a plain whole number
		return math.Max(1, math.Ceil(math.Abs(v)/10))
	}
	return math.Abs(v) / 10
}

func (w *weakening) span() {
	if w.dir < 0 {
		w.put(Lengthened, "span", scaled(w.spot.Text, func(v float64) float64 { return v / 10 }), "a case that needs the whole "+w.spot.Text)
		return
	}
	w.put(Lengthened, "span", longer(w.spot.Text), "a case that lasts little longer than "+w.spot.Text)
}

func (w *weakening) need() {
	d := 1.0
	if w.dir < 0 || w.dir == 0 {
		d = -1
	}
	w.put(Lowered, "need", scaled(w.spot.Text, func(v float64) float64 { return v + d }), "a case where just so many say so")
}

// weaker makes a test for changed rules: that a rule in question may let
// something pass that it did not, as far as can be proved. Only main conditions
// are compared.
func (m *mutator) weaker(key string, want sense) func(*safety.Rules) bool {
	role := safety.Role(key)
	if want == 0 || !slices.Contains([]safety.Role{safety.RoleRequire, safety.RoleWhen, safety.RoleHealthy}, role) {
		return nil
	}
	rule := m.rule
	return func(changed *safety.Rules) bool {
		for _, r := range m.rules.Rules {
			if r.ID != rule && !strings.HasPrefix(r.ID, rule+"@") {
				continue
			}
			c := changed.Find(r.ID)
			if c == nil {
				return true
			}
			if m.weakens(r, c, role, want) {
				return true
			}
		}
		return false
	}
}

func (m *mutator) weakens(r, c *safety.Rule, role safety.Role, want sense) bool {
	old, now := r.Formulas(), c.Formulas()
	if len(old) != len(now) {
		return true
	}
	for i, f := range old {
		if f.Role != role {
			continue
		}
		for _, cmd := range commandsOf(r, f) {
			s := newSpace(m.rules, cmd, nil, f.Program, now[i].Program)
			// weaker: true where it was false (or the other way round)
			a, b := f.Program, now[i].Program
			if want > 0 {
				a, b = b, a
			}
			if !s.implies(a, b) {
				return true
			}
		}
	}
	return false
}

func commandsOf(r *safety.Rule, f safety.Formula) []lab.CommandID {
	if f.Command != (lab.CommandID{}) || len(r.Targets) == 0 {
		return []lab.CommandID{f.Command}
	}
	var ids []lab.CommandID
	for _, t := range r.Targets {
		ids = append(ids, t.Command)
	}
	return ids
}

// duration lengthens a delay; a trip's promise to respond grows with it.
func (m *mutator) duration(key string, n *strict.Node) {
	s := m.doc.scalar(n)
	if s == nil {
		return
	}
	to := longer(s.text)
	edits := []edit{s.edit(0, len(s.text), to)}
	if rw := m.doc.scalar(m.fields.Get("respond_within")); rw != nil {
		edits = append(edits, rw.edit(0, len(rw.text), sum(rw.text, to)))
	}
	m.add(Lengthened, key, s.text, to, "a case that acts little later than "+s.text, nil, edits...)
}

// longer is ten times a duration, at least a minute more.
func longer(text string) string {
	q, err := lab.ParseQuantity(text)
	if err != nil {
		return scaled(text, func(v float64) float64 { return 10 * v })
	}
	d, err := q.Duration()
	if err != nil || q.Unit.Dim() != lab.Time || 9*d.Seconds() >= 60 {
		return scaled(text, func(v float64) float64 { return 10 * v })
	}
	return format(d.Seconds()+60) + " s"
}

// sum adds two durations, in seconds.
func sum(a, b string) string {
	total := 0.0
	for _, text := range []string{a, b} {
		if q, err := lab.ParseQuantity(text); err == nil {
			total += q.Base()
		}
	}
	return format(total) + " s"
}

// scaled changes the number of a quantity and keeps its unit.
func scaled(text string, f func(float64) float64) string {
	text = strings.TrimSpace(strings.Replace(text, "- ", "-", 1))
	n := numberEnd(text)
	v, err := lab.ParseNumber(text[:n])
	if err != nil {
		return text
	}
	return format(f(v)) + text[n:]
}

func numberEnd(text string) int {
	n := len(text) - len(strings.TrimLeft(text, "+-0123456789.eE"))
	for n > 0 && strings.ContainsRune("eE", rune(text[n-1])) { // of a unit: 5eV
		n--
	}
	return n
}

// format writes a number with at most six digits, as files have it.
func format(v float64) string {
	r, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 6, 64), 64)
	if err != nil {
		r = v
	}
	return strconv.FormatFloat(r, 'f', -1, 64)
}

// number changes the number of a scalar.
func (m *mutator) number(kind, where string, n *strict.Node, f func(float64) float64, hint string) {
	s := m.doc.scalar(n)
	if s == nil {
		return
	}
	to := scaled(s.text, f)
	m.add(kind, where, s.text, to, hint, nil, s.edit(0, len(s.text), to))
}
