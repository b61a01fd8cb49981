package analysis

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"labgate/lab"
	"labgate/safety"
)

// Marks of a cause-and-effect table.
const (
	markAct      = "X" // the trip does this
	markRequire  = "P" // a permissive asks
	markLimit    = "L"
	markSequence = "S"
	markZone     = "Z"
	markBudget   = "B"
	markMitigate = "M" // passes in spite of the trip's latch
)

// Legend explains the marks.
const Legend = "X acts, P permissive, L limit, B budget, S sequence, Z zone, M mitigates: passes in spite of the latch"

// Cause is one row of a table: a rule.
type Cause struct {
	Rule     string            `json:"rule"`
	Kind     string            `json:"kind"`
	Cause    string            `json:"cause"`               // the condition, or what is bounded
	Votes    string            `json:"votes,omitempty"`     // what it rests on by a vote: "2 of 3"
	Delay    string            `json:"delay,omitempty"`     // on_delay, unknown_for, grace
	Effects  map[string]string `json:"effects,omitempty"`   // by the name of a column: marks
	Run      string            `json:"run,omitempty"`       // what a trip does to runs
	NoBypass bool              `json:"no_bypass,omitempty"` // bypass: never
	Due      string            `json:"proof_due,omitempty"` // the date of the next proof test
	FromLab  bool              `json:"from_lab,omitempty"`
	About    string            `json:"about,omitempty"`
}

// Table is a cause-and-effect table.
type Table struct {
	Lab     string   `json:"lab"`
	Name    string   `json:"interlocks"`
	Effects []string `json:"effects"` // the columns: first safe commands, then guarded ones
	Causes  []Cause  `json:"causes"`  // the rows: trips, then alarms, then guards
}

// Matrix is the cause-and-effect table of a lab, as it is read in process
// safety: a row for each rule, a column for each command that a trip gives or
// a rule guards.
func Matrix(rules *safety.Rules) Table {
	t := Table{Lab: rules.Lab().Name, Name: rules.Name}
	safe, guarded := map[string]bool{}, map[string]bool{}
	for _, r := range rules.Rules {
		c := cause(rules, r)
		for name := range c.Effects {
			if strings.Contains(c.Effects[name], markAct) {
				safe[name] = true
			} else {
				guarded[name] = true
			}
		}
		t.Causes = append(t.Causes, c)
	}
	order := []string{"trip", "alarm", "permissive", "sequence", "zone", "limit", "budget"}
	rank := map[string]int{}
	for i, k := range order {
		rank[k] = i
	}
	sort.SliceStable(t.Causes, func(i, j int) bool {
		a, b := t.Causes[i], t.Causes[j]
		if a.FromLab != b.FromLab {
			return b.FromLab
		}
		return rank[a.Kind] < rank[b.Kind]
	})
	t.Effects = sorted(safe)
	for _, name := range sorted(guarded) {
		if !safe[name] {
			t.Effects = append(t.Effects, name)
		}
	}
	return t
}

func cause(rules *safety.Rules, r *safety.Rule) Cause {
	c := Cause{Rule: r.ID, Kind: kindNames[r.Kind], About: r.About, NoBypass: r.NoBypass, FromLab: r.FromLab, Effects: map[string]string{}}
	c.Cause = says(r)
	c.Votes = votes(rules, r)
	c.Delay = delays(r)
	for _, s := range r.Do {
		if s.Wait == 0 {
			c.mark(s.Command.String()+argsOf(s), markAct)
		}
	}
	for _, id := range r.Mitigates {
		c.mark(id.String(), markMitigate)
	}
	marks := map[safety.RuleKind]string{safety.PermissiveRule: markRequire, safety.LimitRule: markLimit, safety.SequenceRule: markSequence,
		safety.ZoneRule: markZone, safety.BudgetRule: markBudget}
	for _, x := range r.Targets {
		c.mark(x.Command.String(), marks[r.Kind])
	}
	if r.Kind == safety.TripRule {
		c.Run = r.Run
		if r.HoldFor > 0 {
			c.Run += " " + span(r.HoldFor)
		}
	}
	if r.ProofTest != nil {
		c.Due = "at once"
		if due := r.ProofTest.Due(); !due.IsZero() {
			c.Due = due.UTC().Format(time.DateOnly)
		}
	}
	return c
}

func (c *Cause) mark(effect, mark string) {
	if mark != "" && !strings.Contains(c.Effects[effect], mark) {
		c.Effects[effect] += mark
	}
}

// argsOf are the arguments of a safe step, as a call writes them.
func argsOf(s lab.SafeStep) string { return strings.TrimPrefix(s.String(), s.Command.String()) }

// says is what a rule is about, in a line.
func says(r *safety.Rule) string {
	switch r.Kind {
	case safety.LimitRule:
		return limitSays(r)
	case safety.SequenceRule:
		return sequenceSays(r)
	case safety.ZoneRule:
		return "zone " + r.Zone + " is free"
	case safety.BudgetRule:
		return budgetSays(r)
	}
	var own []string
	for _, f := range r.Formulas() {
		if f.Role == safety.RoleWhen || f.Role == safety.RoleRequire {
			if s := text(f.Program); len(own) == 0 || own[len(own)-1] != s {
				own = append(own, s)
			}
		}
	}
	return strings.Join(own, "; ")
}

func limitSays(r *safety.Rule) string {
	var parts []string
	add := func(what string, q *lab.Quantity) {
		if q != nil {
			parts = append(parts, what+" "+q.String())
		}
	}
	add(">=", r.Limit.Min)
	add("<=", r.Limit.Max)
	add("step <=", r.Limit.Step)
	window := func(what string, w *safety.Window) {
		if w != nil {
			parts = append(parts, fmt.Sprintf("%s <= %s per %s", what, w.Max, span(w.Per)))
		}
	}
	window("change", r.Limit.Change)
	window("total", r.Limit.Total)
	var args []string
	for _, t := range r.Targets {
		if n := len(args); n == 0 || args[n-1] != t.Arg {
			args = append(args, t.Arg)
		}
	}
	s := strings.Join(args, ", ") + " " + strings.Join(parts, ", ")
	if r.Limit.Together {
		s += ", together"
	}
	return s
}

func sequenceSays(r *safety.Rule) string {
	q := r.Sequence
	if q == nil {
		return ""
	}
	s := "after " + q.After.Text
	if q.Within > 0 {
		s += " within " + span(q.Within)
	}
	for i, h := range q.NotSince {
		s += map[bool]string{true: ", not since ", false: " or "}[i == 0] + h.Text
	}
	return s
}

func budgetSays(r *safety.Rule) string {
	b := r.Budget
	if b == nil {
		return ""
	}
	var terms, per []string
	what := "count"
	for _, t := range b.Terms {
		if t.Text != "" {
			what = "sum"
			terms = append(terms, t.Text)
		} else {
			terms = append(terms, t.Command.String())
		}
	}
	for _, p := range b.Per {
		per = append(per, string(p))
	}
	return fmt.Sprintf("%s(%s) <= %s per %s", what, strings.Join(terms, ", "), b.Max, strings.Join(per, " and "))
}

// votes says how many sensors have to agree, where a rule rests on a vote.
func votes(rules *safety.Rules, r *safety.Rule) string {
	var list []string
	for _, f := range r.Formulas() {
		if f.Role != safety.RoleHealthy {
			list = votesIn(rules, f.Program.Source().Text, list, 0)
		}
	}
	return strings.Join(list, ", ")
}

func delays(r *safety.Rule) string {
	var parts []string
	for _, d := range []struct {
		what string
		d    time.Duration
	}{{"on", r.OnDelay}, {"unknown", r.UnknownFor}, {"grace", r.Grace}} {
		if d.d > 0 {
			parts = append(parts, d.what+" "+span(d.d))
		}
	}
	if r.AtStart {
		parts = append(parts, "at start")
	}
	return strings.Join(parts, ", ")
}

// span is a duration as people write it in files.
func span(d time.Duration) string {
	for _, u := range []struct {
		name string
		d    time.Duration
	}{{"days", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}} {
		if d >= u.d && d%u.d == 0 {
			return fmt.Sprintf("%d %s", d/u.d, u.name)
		}
	}
	return lab.Seconds(d).String()
}
