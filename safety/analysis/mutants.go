package analysis

import (
	"fmt"
	"strings"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/safety"
)

// The kinds of mutants.
const (
	Dropped    = "dropped"    // a rule, one of its conditions, steps or commands is gone
	Flipped    = "flipped"    // a comparison turned, and for or, a condition negated
	Moved      = "moved"      // a threshold by a tenth, a limit also to twice as much
	Lengthened = "lengthened" // a delay or window to ten times, at least a minute more
	Lowered    = "lowered"    // fewer have to agree, or agree less closely
	Loosened   = "loosened"   // asked only at the start, or counted for less
)

// maxMutants bounds what is made of one file.
const maxMutants = 5000

// Mutant is a set of rules that is weaker in one place than the one that it
// was made of.
type Mutant struct {
	ID    string  `json:"id"`   // mutant:RULE:KIND:WHERE, stable as long as the rule is
	Rule  string  `json:"rule"` // as in the file; "signals.NAME" for a signal
	Kind  string  `json:"kind"`
	Where string  `json:"where"` // the key, and which place in it
	Pos   lab.Pos `json:"-"`
	From  string  `json:"from"`
	To    string  `json:"to"`
	Hint  string  `json:"hint"` // a case that would notice

	Data  []byte        `json:"-"` // the changed file
	Rules *safety.Rules `json:"-"` // compiled
}

// Mutants weakens each rule of an interlocks file in turn. rules is what the
// file compiles to. What would be stricter, or provably no weaker, is not made,
// nor what the loader refuses: it never comes to a lab.
func Mutants(file string, data []byte, rules *safety.Rules) []Mutant {
	root, is := strict.Parse(file, data)
	if root == nil || len(is) > 0 || rules == nil {
		return nil
	}
	m := &mutator{doc: newDocument(file, data), rules: rules, d: &strict.Decoder{}, seen: map[string]bool{}, ids: map[string]int{}}
	f := m.d.Map(root, "file")
	list := f.Get("rules")
	items := m.d.List(list)
	m.senses(f, items)
	for i, n := range items {
		m.one(list, items, i, m.d.Map(n, "rule"))
	}
	signals := m.d.Map(orNil(f.Get("signals")), "signals")
	for _, name := range signals.Keys() {
		m.signal(name, m.d.Map(signals.Get(name), "signal"))
	}
	return m.list
}

func orNil(n *strict.Node) *strict.Node {
	if n.Kind() != strict.Map {
		return nil
	}
	return n
}

type mutator struct {
	doc   *document
	rules *safety.Rules
	d     *strict.Decoder // its issues are of no interest: the file has compiled
	list  []Mutant
	seen  map[string]bool // changed files
	ids   map[string]int
	uses  map[string]sense // of signals

	rule   string // that is being weakened
	fields *strict.Fields
}

// add compiles a changed file and enters it, if it is new and loads.
func (m *mutator) add(kind, where, from, to, hint string, weaker func(*safety.Rules) bool, edits ...edit) bool {
	if len(m.list) >= maxMutants || len(edits) == 0 {
		return false
	}
	data := apply(m.doc.data, append([]edit(nil), edits...))
	if m.seen[string(data)] {
		return false
	}
	rules, is := safety.Parse(m.doc.file, data, m.rules.Lab())
	if len(is) > 0 || rules == nil {
		return false
	}
	if weaker != nil && !weaker(rules) {
		return false
	}
	m.seen[string(data)] = true
	id := mutantPrefix + m.rule + ":" + kind + ":" + where
	if m.ids[id]++; m.ids[id] > 1 {
		id = fmt.Sprintf("%s.%d", id, m.ids[id])
	}
	m.list = append(m.list, Mutant{ID: id, Rule: m.rule, Kind: kind, Where: where, Pos: m.doc.pos(edits[0].pos),
		From: short(from), To: short(to), Hint: hint, Data: data, Rules: rules})
	return true
}

func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 80 {
		return string(r[:77]) + "…"
	}
	return s
}

// one weakens one rule in every way that its kind has.
func (m *mutator) one(list *strict.Node, items []*strict.Node, i int, f *strict.Fields) {
	m.rule, m.fields = f.Get("id").Text(), f
	m.dropRule(list, items, i)
	switch {
	case f.Get("limit") != nil:
		m.limit(f)
	case f.Get("permissive") != nil:
		m.expression("require", f.Get("require"), +1)
		m.duration("grace", f.Get("grace"))
		m.atStart(f)
	case f.Get("trip") != nil:
		m.trip(f)
	case f.Get("sequence") != nil:
		m.sequence(f)
	case f.Get("zone") != nil:
		m.zone(f)
	case f.Get("budget") != nil:
		m.budget(f)
	case f.Get("alarm") != nil:
		a := m.d.Map(f.Get("alarm"), "alarm")
		m.expression("when", a.Get("when"), -1)
		m.duration("on_delay", f.Get("on_delay"))
		m.duration("unknown_for", f.Get("unknown_for"))
	}
}

// dropRule takes the whole rule out. A trip whose group is named elsewhere
// can't go; it is made deaf.
func (m *mutator) dropRule(list *strict.Node, items []*strict.Node, i int) {
	e, ok := m.doc.drop(list, items, i)
	hint := "a case that this rule refuses, trips or raises"
	if ok && m.add(Dropped, "rule", m.rule, "nothing", hint, nil, e) {
		return
	}
	if when := m.doc.scalar(m.fields.Get("when")); when != nil && len(when.text) > 0 {
		edits := []edit{when.edit(0, len(when.text), "false")}
		if e, ok := m.doc.dropKey(m.fields, "healthy"); ok && m.fields.Get("healthy") != nil {
			edits = append(edits, e)
		}
		if e, ok := m.doc.dropKey(m.fields, "unknown_for"); ok && m.fields.Get("unknown_for") != nil {
			edits = append(edits, e)
		}
		m.add(Dropped, "rule", when.text, "false", hint, nil, edits...)
	}
}

// atStart stops asking once the command has begun.
func (m *mutator) atStart(f *strict.Fields) {
	if f.Get("at") != nil || !m.readsWorld() {
		return
	}
	if e, ok := m.doc.addKey(f, "permissive", "at", "start"); ok {
		m.add(Loosened, "at", "until it is done", "at: start", "a case where the condition is lost while the command runs (expect: stopped c1)", nil, e)
	}
}

// readsWorld reports whether the rule reads anything that can change while its
// command runs.
func (m *mutator) readsWorld() bool {
	for _, r := range m.rules.Rules {
		if r.ID != m.rule && !strings.HasPrefix(r.ID, m.rule+"@") {
			continue
		}
		for _, f := range r.Formulas() {
			for _, slot := range f.Program.Slots() {
				if _, arg := m.rules.ArgumentAt(slot); !arg {
					return true
				}
			}
		}
	}
	return false
}

func (m *mutator) trip(f *strict.Fields) {
	m.expression("when", f.Get("when"), -1)
	m.duration("on_delay", f.Get("on_delay"))
	m.duration("unknown_for", f.Get("unknown_for"))
	m.duration("hold_for", f.Get("hold_for"))
	if h := f.Get("healthy"); h != nil {
		m.expression("healthy", h, +1)
		if e, ok := m.doc.dropKey(f, "healthy"); ok {
			m.add(Dropped, "healthy", h.Text(), "that when is false", "a case that resets while when is false and healthy is not (expect: not reset)", nil, e)
		}
	}
	m.elements("do", f.Get("do"), "a case that expects this step to be ordered")
	m.elements("mitigates", f.Get("mitigates"), "a case that sends this command while the trip is latched (expect: allowed)")
}

// elements drops each entry of a list.
func (m *mutator) elements(key string, n *strict.Node, hint string) {
	items := m.d.List(n)
	if len(items) == 1 && key == "mitigates" {
		if e, ok := m.doc.dropKey(m.fields, key); ok {
			m.add(Dropped, key+".1", items[0].Text(), "nothing", hint, nil, e)
		}
	}
	for i, x := range items {
		if e, ok := m.dropStep(n, items, i); ok {
			m.add(Dropped, fmt.Sprintf("%s.%d", key, i+1), x.Text(), "nothing", hint, nil, e)
		}
	}
}

// dropStep drops an entry, and with the first or last step of a trip the wait
// that would stand beside nothing.
func (m *mutator) dropStep(n *strict.Node, items []*strict.Node, i int) (edit, bool) {
	wait := func(j int) bool { return j > 0 && j < len(items)-1 && strings.HasPrefix(items[j].Text(), "wait ") }
	e, ok := m.doc.drop(n, items, i)
	switch {
	case ok && i == 0 && wait(1):
		next, ok := m.doc.drop(n, items, 1)
		return edit{e.pos, next.end, ""}, ok
	case ok && i == len(items)-1 && wait(i-1):
		before, ok := m.doc.drop(n, items[:i], i-1)
		return edit{before.pos, e.end, ""}, ok
	}
	return e, ok
}

func (m *mutator) sequence(f *strict.Fields) {
	m.duration("within", f.Get("within"))
	if w := f.Get("within"); w != nil {
		if e, ok := m.doc.dropKey(f, "within"); ok {
			m.add(Dropped, "within", w.Text(), "ever", "a case where it happened longer ago", nil, e)
		}
	}
	n := f.Get("not_since")
	hint := "a case where this has happened since"
	m.elements("not_since", n, hint)
	if items := m.d.List(n); len(items) == 1 {
		if e, ok := m.doc.dropKey(f, "not_since"); ok {
			m.add(Dropped, "not_since.1", items[0].Text(), "nothing", hint, nil, e)
		}
	}
	if a := f.Get("after"); a.Kind() == strict.Scalar {
		m.happening("after", a, +1)
	}
	for i, x := range m.d.List(n) {
		m.happening(fmt.Sprintf("not_since.%d", i+1), x, -1)
	}
}

// happening weakens a condition; a command has nothing to weaken.
func (m *mutator) happening(key string, n *strict.Node, want sense) {
	if _, _, err := m.rules.Lab().ResolveCommand(n.Text()); err != nil && n.Kind() == strict.Scalar {
		m.expression(key, n, want)
	}
}

func (m *mutator) zone(f *strict.Fields) {
	n := f.Get("claim")
	c := m.d.Map(n, "claim")
	for _, key := range c.Keys() {
		hint := "a case where " + key + " holds the zone against another, and one where another holds it against " + key
		if e, ok := m.doc.dropKey(c, key); ok && len(c.Keys()) > 1 {
			m.add(Dropped, "claim."+key, key, "nothing", hint, nil, e)
		}
		v := m.doc.scalar(c.Get(key))
		if v == nil || v.text == "until done" {
			continue
		}
		m.add(Loosened, "claim."+key, v.text, "until done", "a case where "+key+" is done and still holds the zone", nil, v.edit(0, len(v.text), "until done"))
	}
}
