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
	LimitRule      RuleKind = iota + 1 // bounds an argument of commands
	PermissiveRule                     // must be true from the decision until the command is done
	TripRule                           // acts by itself and latches
)

// What a trip does to the runs on its instruments.
const (
	RunAbort = "abort"
	RunHold  = "hold"
)

// Rule is one interlock.
type Rule struct {
	ID      string
	About   string
	Kind    RuleKind
	Targets []Target // limit, permissive
	Pos     lab.Pos

	Min, Max *lab.Quantity // limit

	Grace   time.Duration // permissive: how long it may be lost in mid-command
	AtStart bool          // permissive: guards only the start

	Group         string // trip
	UnknownFor    time.Duration
	RespondWithin time.Duration
	Do            []lab.CommandID // through the safe lane, in order
	Mitigates     []lab.CommandID // effects that pass in spite of the latch
	Run           string          // RunAbort or RunHold
	NoBypass      bool

	expr *expr.Program // permissive: what is required; trip: when it fires
}

// Target is a command that a rule is about, and for a limit its argument.
type Target struct {
	Command lab.CommandID
	Arg     string
}

// instruments lists whose effects a trip denies while it is latched.
func (r *Rule) instruments() []string {
	var names []string
	seen := map[string]bool{}
	for _, id := range r.Do {
		if !seen[id.Instrument] {
			seen[id.Instrument] = true
			names = append(names, id.Instrument)
		}
	}
	return names
}

// Rules is a lab's set of interlocks, compiled for that lab.
type Rules struct {
	Name  string
	Hash  string // of the file and of the lab's own limits
	Rules []*Rule

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

// CheckLimit asks a limit, which needs no reading: what can be said about a
// command before anything runs.
func (r *Rule) CheckLimit(cmd *lab.Command) lab.Issues {
	var d Decision
	if r.Kind == LimitRule {
		r.checkLimit(cmd, &d)
	}
	return d.Refusals
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
}

func (r *Rules) scope() expr.Scope { return ruleScope{rules: r} }

// Lookup finds a property or an argument.
func (s ruleScope) Lookup(name string) (expr.Symbol, error) {
	if arg, ok := strings.CutPrefix(name, "args."); ok && s.args != nil {
		t, have := s.args[arg]
		if !have {
			return expr.Symbol{}, fmt.Errorf("%s: not every command of this rule has an argument %q", name, arg)
		}
		i := sort.SearchStrings(s.rules.argNames, arg)
		return expr.Symbol{Slot: s.rules.argBase + i, Type: t}, nil
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
