package protocols

import (
	"strings"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// Limits of one file. They bound what a file can make the runner do.
const (
	MaxSteps    = 2000
	MaxNesting  = 16 // of steps in steps
	MaxBranches = 16 // of a parallel
	MaxRepeats  = 100_000
	MaxRetries  = 100
	MaxInputs   = 100
	MaxRoles    = 64
	MaxLimits   = 64
	MaxOutputs  = 100
	MaxTime     = 366 * 24 * time.Hour // of anything: a wait, a budget, a whole plan
	MaxCommands = 10_000_000           // of a plan, at worst
	MaxMemories = 32                   // expressions that remember: rate, mean, held
	UnknownFor  = 5 * time.Second      // how long an if waits for readings that are not there yet

	maxName    = 64     // bytes that a hint is looked for
	maxGuesses = 30_000 // names compared in search of hints, in one file
	maxUnknown = 100    // inputs that nobody knows, reported one by one
)

// Protocol is a parsed and checked protocol file. It is immutable.
type Protocol struct {
	Name, Version, About string
	Lab                  string // the lab that it was written for, by its name; empty: any
	Hash                 string // "sha256:…" over the canonical content; white space, comments and the order of keys don't count
	Inputs               []Input
	Samples              []Sample
	Roles                []Role
	Limits               []Limit
	Budget               Budget
	OnError              Then        // of steps that don't say
	Outcome              Consequence // of a failure, where the step doesn't say
	OnRestart            OnRestart
	Outputs              []Output
	Steps                []*Step
	Cleanup              []*Step               // ordinary, gated steps after Steps; skipped after a trip
	Finally              []*Step               // safe commands only; always carried out, each whatever became of the others
	Classes              map[string]*lab.Class // those that the roles name
	Pos                  lab.Pos

	file   string
	data   []byte // the file itself: it is read again where another protocol uses it
	slots  []Slot
	steps  []*Step // every one, as in the file
	byPath map[string]*Step
	costs  map[*lab.CommandSpec]*cost
}

// Input is a value that a proposal gives.
type Input struct {
	Name     string
	About    string
	Type     lab.Type   // a quantity, a bool, an integer or one of some choices
	Min, Max *lab.Value // inclusive; in the type's unit
	Default  *lab.Value // nil: the input must be given
	Pos      lab.Pos
}

// Role is a place that an instrument of a lab fills.
type Role struct {
	Name    string
	Classes []*lab.Class // the instrument implements all of them
	Holds   *lab.Holds   // what it must carry, where that matters
	Ranges  []Span       // what it must allow
	Pos     lab.Pos

	broken bool // a class could not be resolved, and that was reported
}

// Limit is a condition over the properties of roles that must hold for as long
// as a command of the run is under way. It is added to the lab's own rules.
type Limit struct {
	Text string
	Expr *expr.Program
	Pos  lab.Pos
}

// Budget bounds a run. Zero means no bound of the protocol's own.
type Budget struct {
	Time      time.Duration
	Exposures int
}

// Output is a value that a run returns.
type Output struct {
	Name     string
	About    string
	Type     lab.Type
	From     *expr.Program // over inputs and what the steps gave; nil for rows
	Rows     *Rows         // a table that a repeat fills
	Required bool
	Pos      lab.Pos

	from    lab.Source
	rows    string
	rowsPos lab.Pos
	of      []cell
}

// StepKind is what a step does. The zero kind is none.
type StepKind uint8

// The kinds of steps.
const (
	Do       StepKind = iota + 1 // one command of one role
	Wait                         // until a condition holds
	Parallel                     // steps side by side
	Repeat                       // steps again and again
	If                           // one list of steps or the other
	Use                          // the steps of another protocol
	Ask                          // a person does or says something
	Pass                         // a sample is good
	Reject                       // a sample is not
	Rework                       // a sample is to be worked on again
	Ramp                         // in files only: it is read as a Repeat
)

var kindNames = [...]string{"step", "do", "wait", "parallel", "repeat", "if", "use", "ask", "pass", "reject", "rework", "ramp"}

// String is the kind as written in files.
func (k StepKind) String() string { return kindNames[k] }

// one is the kind with its article.
func (k StepKind) one() string {
	switch k {
	case If, Ask:
		return "an " + k.String()
	}
	return "a " + k.String()
}

// Then is what becomes of a run when a step has failed. The zero Then is
// Abort.
type Then uint8

// The ways on.
const (
	Abort    Then = iota // end the run: cleanup, finally
	Skip                 // go on with the next step; whatever the step gave is missing
	Continue             // go on with the next step; what the step gave until then stays
)

var thenNames = [...]string{"abort", "skip", "continue"}

// String is the way on as written in files.
func (t Then) String() string { return thenNames[t] }

// Policy is what to do when a step fails: first try again, then the other
// steps, then hold the run for a person, then go on.
type Policy struct {
	Retry int           // how many more times; 0 for everything but commands that may be repeated
	Steps []*Step       // to be done in its place; where they end well, so has it
	Hold  time.Duration // for how long a person may let the run go on, before Then; 0: not at all
	Then  Then
}

// GoesOn reports whether a run may go on after a failure of the step.
func (p *Policy) GoesOn() bool { return p.Then != Abort || len(p.Steps) > 0 || p.Hold > 0 }

// Consequence is what a failure means for what is being made.
type Consequence string

// The consequences. The zero Consequence is unknown.
const (
	Scrap   Consequence = "scrap"   // it can't be used
	Salvage Consequence = "salvage" // it can, after another look
	Unclear Consequence = "unknown"
)

// Branches is when a parallel has ended well.
type Branches uint8

// The zero Branches wants all of them.
const (
	AllBranches Branches = iota // one that fails stops the others
	AnyBranch                   // the first that ends well stops the others
	EachBranch                  // one that fails stops none; the step has failed once all are over
)

var branchNames = [...]string{"all", "any", "each"}

// Else is what to do when a wait times out or a repeat reaches its max.
type Else uint8

// The zero Else makes it a failure of the step.
const (
	ElseFail     Else = iota // see the step's OnError
	ElseContinue             // go on as if it had ended well
)

// Step is one step of a protocol. Only the fields of its kind are set.
type Step struct {
	ID   string // as given, or made: step_1, cleanup_1, finally_1
	Path string // unique in the protocol: "grow.read"
	Kind StepKind

	// Do
	Role, Command string
	Class         *lab.Class
	Spec          *lab.CommandSpec
	With          []Arg             // every argument of the command, in the class's order
	Gives         map[string]string // local name to the name of the command's result

	// Ask: what is asked, of whom, and what the answer holds. Pass, Reject and
	// Rework: why.
	Text    string
	By      string
	Answers []Input

	Sample *Sampled // what it is about; nil: nothing that the file names

	// Wait, Repeat and If. Until is nil for a plain pause, and for a repeat that
	// always goes to its max; of an If it is what decides.
	Until   *expr.Program
	For     time.Duration // how long Until must hold without a break; of a plain pause, how long it takes
	Timeout time.Duration // of a wait or an ask; 0 only for a plain pause
	Every   time.Duration // least time from the start of one iteration to that of the next
	Max     int           // iterations
	Over    []Items       // Repeat: values of their own for each iteration
	Else    Else

	Use       *Used    // Use
	Steps     []*Step  // Parallel: the branches; Repeat: the body; If: where it is true; Use: its steps
	Otherwise []*Step  // If: where it is false
	Policy    Branches // Parallel
	OnError   Policy
	Expect    time.Duration // as its author expects; 0: as the bill adds it up
	Outcome   Consequence   // of its failure; empty: as the protocol says
	SafePoint bool          // a run may go on from here, or from within, by itself
	Pos       lab.Pos

	named    bool // ID stands in the file
	inUsed   bool // it stands in a protocol that is used
	ramp     bool // a Repeat that was written as a ramp
	until    lab.Source
	index    int // in Protocol.steps
	end      int // index of the first step after this one that is not within it
	gives    map[string]int
	givesPos map[string]lab.Pos
	iter     *iteration
	rows     []*Rows // that a Repeat fills
}

// Arg is one argument of a do step.
type Arg struct {
	Name  string
	Param *lab.Param
	Expr  *expr.Program // = expression; nil for a plain value
	Value lab.Value     // a plain value, in the class's unit
	Pos   lab.Pos

	src    lab.Source
	within string // of a ramp: src, said so that it lies between its ends over ranges too
}

// Items are the values of one name of a repeat, one for each iteration.
type Items struct {
	Name   string
	Part   string      // spot.x: the part of a value that has several; empty: it is one value
	Values []lab.Value // of one type
	Pos    lab.Pos

	slot int
}

// full is the name that expressions use.
func (it *Items) full() string {
	if it.Part != "" {
		return it.Name + "." + it.Part
	}
	return it.Name
}

// SlotKind is where the value of a slot comes from.
type SlotKind uint8

// The kinds of slots.
const (
	InputSlot    SlotKind = iota // an input; known before the run
	PropertySlot                 // a live reading of a role's property
	ResultSlot                   // what a do step gave
	CountSlot                    // the number of the current iteration of a repeat
	LastSlot                     // a result of the last complete iteration of a repeat
	PreviousSlot                 // of the one before
	ItemSlot                     // the value of a repeat's own name in the current iteration
	LetSlot                      // an input of a used protocol
)

// Slot is one value that expressions of the protocol read; expr.Symbol.Slot is
// its index in Slots.
type Slot struct {
	Kind           SlotKind
	Name           string // in full: "grow.last.read.peak"
	Type           lab.Type
	MaxAge         time.Duration // PropertySlot
	Input          string        // InputSlot
	Role, Property string        // PropertySlot
	Step           *Step         // the do step, or the repeat
}

// Slots lists what the expressions read. It is the protocol's own list.
func (p *Protocol) Slots() []Slot { return p.slots }

// Step finds a step by its path; nil where there is none.
func (p *Protocol) Step(path string) *Step { return p.byPath[path] }

// Walk calls fn for every step, outer ones first, in the order of the file:
// steps, cleanup, finally.
func (p *Protocol) Walk(fn func(*Step)) {
	for _, s := range p.steps {
		fn(s)
	}
}

// Input finds an input; nil where there is none.
func (p *Protocol) Input(name string) *Input {
	for i := range p.Inputs {
		if p.Inputs[i].Name == name {
			return &p.Inputs[i]
		}
	}
	return nil
}

// Role finds a role; nil where there is none.
func (p *Protocol) Role(name string) *Role {
	for i := range p.Roles {
		if p.Roles[i].Name == name {
			return &p.Roles[i]
		}
	}
	return nil
}

// Output finds an output; nil where there is none.
func (p *Protocol) Output(name string) *Output {
	for i := range p.Outputs {
		if p.Outputs[i].Name == name {
			return &p.Outputs[i]
		}
	}
	return nil
}

// Arg finds an argument of a do step; nil where there is none.
func (s *Step) Arg(name string) *Arg {
	for i := range s.With {
		if s.With[i].Name == name {
			return &s.With[i]
		}
	}
	return nil
}

// didYouMean is the hint for a slip of the pen, or else what there is. Text that
// is too long for a name is no slip, and comparing it would cost too much.
func didYouMean(s string, candidates []string) string {
	if len(s) > maxName || len(candidates) == 0 {
		return ""
	}
	if n := lab.Nearest(s, candidates); n != "" {
		return "did you mean " + n + "?"
	}
	const most = 12 // names; more are no hint
	if len(candidates) > most {
		return "one of " + strings.Join(candidates[:most], ", ") + ", …"
	}
	return "one of " + strings.Join(candidates, ", ")
}
