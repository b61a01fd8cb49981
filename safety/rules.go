// Package safety holds the interlocks: it compiles a lab's rules, decides
// about every command, watches every reading, and makes the only two things
// that open a driver: the Permit and the safe lane's Order.
//
// It promises to fail closed: what is unknown, stale, bad or not finite, and
// what can't be decided, denies or trips. It never clamps a value, never lets
// a label decide (the safe lane belongs to an origin), and does no I/O. The
// engine is pure and has one owner; it starts no goroutine and reads no clock.
package safety

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// RuleKind is the kind of an interlock.
type RuleKind uint8

// The rule kinds.
const (
	LimitRule      RuleKind = iota + 1 // bounds an argument of commands: its value, its steps, its sum over time
	PermissiveRule                     // must be true from the decision until the command is done
	TripRule                           // acts by itself and latches
	SequenceRule                       // what must have happened before, and not since
	ZoneRule                           // one holder at a time
	BudgetRule                         // an amount that may be used up
	AlarmRule                          // tells people; no action
)

// What a trip does to the runs on its instruments.
const (
	RunAbort = "abort"
	RunHold  = "hold"
)

// Rule is one interlock.
type Rule struct {
	ID        string
	About     string
	Kind      RuleKind
	Targets   []Target // the commands that it guards: all kinds but trips and alarms
	Pos       lab.Pos
	NoBypass  bool
	FromLab   bool       // a limit of the lab file: never bypassed
	ProofTest *ProofTest // when somebody has to try it out

	Limit    Limit     // limit
	Sequence *Sequence // sequence
	Zone     string    // zone
	Claims   []Claim   // zone
	Budget   *Budget   // budget

	Grace   time.Duration // permissive: how long it may be lost in mid-command
	AtStart bool          // permissive: guards only the start

	OnDelay    time.Duration // trip, alarm: true for so long before it acts
	UnknownFor time.Duration // trip, alarm: unknown for so long is as good as true

	Group         string // trip
	RespondWithin time.Duration
	Do            []lab.SafeStep  // through the safe lane, in order
	Mitigates     []lab.CommandID // effects that pass in spite of the latch
	Run           string          // RunAbort or RunHold
	HoldFor       time.Duration   // RunHold: ends in abort

	Priority, Response string // alarm: low, medium, high, critical; what to do

	expr    *expr.Program // permissive: what is required; trip, alarm: when it fires
	n       int           // its place in Rules
	healthy *expr.Program // trip: what a reset needs; nil: that expr is false
}

// Target is a command that a rule is about, and for a limit its argument.
type Target struct {
	Command lab.CommandID
	Arg     string

	key  string        // limit: the target as a name
	from *expr.Program // limit with steps: what the argument sets, as it is now
	own  *expr.Program // permissive that names self: the condition for this command
}

// Limit bounds an argument. What is nil does not bound.
type Limit struct {
	Min, Max *lab.Quantity // of the value
	Step     *lab.Quantity // largest distance from what is in force
	Change   *Window       // largest sum of such distances in a window
	Total    *Window       // largest sum of the argument in a window
	Together bool          // the targets share Change and Total; else each has its own
}

// Window is an amount over a sliding window of time.
type Window struct {
	Max lab.Quantity
	Per time.Duration
}

// Sequence is an order of happenings.
type Sequence struct {
	After    Happening
	Within   time.Duration // at most so long ago; 0: ever
	NotSince []Happening
}

// Happening is a command that was done, or a condition that was true.
type Happening struct {
	Command lab.CommandID // zero: a condition
	Text    string        // as written
	expr    *expr.Program
}

// Claim is what holds a zone: a command, and what keeps it after that.
type Claim struct {
	Command     lab.CommandID
	UntilCmd    lab.CommandID // held until this one is confirmed
	UntilRunEnd bool          // held until the run is over
	while       *expr.Program // held while this is true or unknown
}

// Budget is an amount that commands use up.
type Budget struct {
	Terms []Term
	Max   lab.Quantity // of the sum; a plain number for a count
	Per   []Scope
}

// Term is what one command adds to a budget.
type Term struct {
	Command lab.CommandID
	Text    string        // as written; empty: it counts as one
	Arg     string        // the argument, where the term is just that: a partial delivery then counts its amount
	expr    *expr.Program // over the arguments; nil: one
}

// Scope is what a budget is for.
type Scope string

// The scopes.
const (
	PerCommand   Scope = "command"
	PerRun       Scope = "run"
	PerCampaign  Scope = "campaign"
	PerPrincipal Scope = "principal"
	PerDay       Scope = "day" // any 24 h
)

// ProofTest is a test that a rule still works, on the real thing.
type ProofTest struct {
	Every time.Duration
	Last  time.Time // zero: never
}

// Due is when it is to be done next; zero: at once.
func (p *ProofTest) Due() time.Time {
	if p.Last.IsZero() {
		return time.Time{}
	}
	return p.Last.Add(p.Every)
}

// instruments lists whose effects a trip denies while it is latched.
func (r *Rule) instruments() []string {
	var names []string
	seen := map[string]bool{}
	for _, s := range r.Do {
		if name := s.Command.Instrument; s.Wait == 0 && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// Rules is a lab's set of interlocks, compiled for that lab.
type Rules struct {
	Name      string
	Hash      string // of the file and of the lab's own limits
	Text      string // of the file
	Rules     []*Rule
	Nominal   map[lab.PropertyID]lab.Value // healthy values, for rule cases
	Bypasses  int                          // how many rules may be bypassed at once
	Explained []Explained                  // findings of the analysis that somebody has looked at

	lab        *lab.Lab
	properties []lab.PropertyID // slot to property
	ages       []time.Duration  // slot to max_age
	index      map[lab.PropertyID]int
	groups     map[string]int        // trip group to slot
	signals    map[string]lab.Source // named expressions of the file's signals section
	argNames   []string              // the arguments that expressions may name, from slot argBase on
	argBase    int
	argTypes   map[string]lab.Type
	slotCount  int
	byCommand  map[lab.CommandID][]*Rule
}

// Explained is a finding of the analysis, and why it is all right.
type Explained struct {
	Finding, Because string
	Pos              lab.Pos
}

// NoRules is a rule set without rules: what the lab file's own limits say.
func NoRules(l *lab.Lab) *Rules {
	r, _ := Parse("", []byte("interlocks: none\nrules: []\n"), l)
	return r
}

// Find returns a rule by its id.
func (r *Rules) Find(id string) *Rule {
	for _, x := range r.Rules {
		if x.ID == id {
			return x
		}
	}
	return nil
}

// For lists the ids of the rules that guard a command.
func (r *Rules) For(id lab.CommandID) []string {
	var ids []string
	for _, x := range r.byCommand[id] {
		ids = append(ids, x.ID)
	}
	return ids
}

// Limits returns the limit rules that bound a command.
func (r *Rules) Limits(id lab.CommandID) []*Rule {
	var list []*Rule
	for _, x := range r.byCommand[id] {
		if x.Kind == LimitRule {
			list = append(list, x)
		}
	}
	return list
}

// Signals lists the properties that the rules of a command read.
func (r *Rules) Signals(id lab.CommandID) []string {
	seen := map[string]bool{}
	for _, x := range r.byCommand[id] {
		if x.expr == nil {
			continue
		}
		names := x.expr.Names()
		for i, s := range x.expr.Slots() {
			if s < len(r.properties) {
				seen[names[i]] = true
			}
		}
	}
	return sortedKeys(seen)
}

// newRules numbers the slots of a lab.
func newRules(l *lab.Lab) *Rules {
	r := &Rules{lab: l, index: map[lab.PropertyID]int{}, groups: map[string]int{}, signals: map[string]lab.Source{},
		argTypes: map[string]lab.Type{}, byCommand: map[lab.CommandID][]*Rule{}}
	r.properties = l.Properties()
	for i, id := range r.properties {
		r.index[id] = i
		r.ages = append(r.ages, l.PropertySpec(id).MaxAge)
	}
	return r
}

// numberSlots gives trip groups and argument names their slots.
func (r *Rules) numberSlots(groups []string) {
	n := len(r.properties)
	for _, g := range groups {
		if _, ok := r.groups[g]; !ok {
			r.groups[g] = n
			n++
		}
	}
	r.argBase = n
	for _, in := range r.lab.Instruments {
		for _, c := range in.Profile.Components {
			for _, cmd := range c.Class.Commands {
				for _, a := range cmd.Args {
					r.argTypes[a.Name] = a.Type
				}
			}
		}
	}
	r.argNames = sortedKeys(r.argTypes)
	r.slotCount = n + len(r.argNames)
}

func (r *Rules) maxAge(slot int) time.Duration {
	if slot < len(r.ages) {
		return r.ages[slot]
	}
	return 0
}

// ruleScope resolves the names of a rule's expression: properties of the lab,
// signals, and for rules about commands args.name.
type ruleScope struct {
	rules *Rules
	args  map[string]lab.Type // nil: no arguments here
	self  string              // what self stands for: instrument.component; empty: nothing
}

func (r *Rules) scope() expr.Scope { return ruleScope{rules: r} }

// Lookup finds a property or an argument.
func (s ruleScope) Lookup(name string) (expr.Symbol, error) {
	if arg, ok := strings.CutPrefix(name, "args."); ok && s.args != nil {
		t, have := s.args[arg]
		if !have {
			return expr.Symbol{}, fmt.Errorf("%s: not every command of this rule has an argument %q%s", name, arg, hint(arg, sortedKeys(s.args)))
		}
		i := sort.SearchStrings(s.rules.argNames, arg)
		return expr.Symbol{Slot: s.rules.argBase + i, Type: t}, nil
	}
	if member, ok := strings.CutPrefix(name, "self."); ok {
		if s.self == "" {
			return expr.Symbol{}, fmt.Errorf("%s: self is the component of a rule with for, or of a permissive's command", name)
		}
		name = s.self + "." + member
	}
	if strings.HasPrefix(name, "args.") {
		return expr.Symbol{}, fmt.Errorf("%s: only a rule about commands has their arguments", name)
	}
	id, p, err := s.rules.lab.ResolveProperty(name)
	if err != nil {
		if near := lab.Nearest(name, sortedKeys(s.rules.signals)); near != "" {
			return expr.Symbol{}, fmt.Errorf("%s: no such signal; did you mean %s?", name, near)
		}
		return expr.Symbol{}, err
	}
	return expr.Symbol{Slot: s.rules.index[id], Type: p.Type, MaxAge: p.MaxAge}, nil
}

// Define gives the expression that a signal stands for.
func (s ruleScope) Define(name string) (lab.Source, bool) {
	src, ok := s.rules.signals[name]
	return src, ok
}

// Tripped finds the slot of a trip group.
func (s ruleScope) Tripped(group string) (int, error) {
	if slot, ok := s.rules.groups[group]; ok {
		return slot, nil
	}
	say := fmt.Sprintf("tripped(%s): no trip of that group", group)
	if near := lab.Nearest(group, sortedKeys(s.rules.groups)); near != "" {
		say += "; did you mean " + near + "?"
	}
	return 0, fmt.Errorf("%s", say)
}
