// Package cases runs rule cases: what is given in a laboratory, what is asked
// of its gate, and what must come of it.
//
// A case drives the gateway's own core, with the safety engine, the admission
// and the commit sequence that a real laboratory has, in virtual time. There is
// no world behind it: every property has its nominal value until the case says
// otherwise, a fresh reading of each comes ten times a second, and a command
// that was allowed stays under way until the case says what became of it.
//
// The package promises that the same file, rules and options give the same
// results; that a file which names what does not exist, or asserts nothing, is
// an error with a position and is never run; and that a case fails where it
// could not be carried out as it is written. It reads no file and no clock and
// starts no goroutine. A File does not change once it is parsed: its cases may
// run side by side.
package cases

import (
	"time"

	"labgate/lab"
	"labgate/safety"
)

// File is a file of cases, parsed for its lab.
type File struct {
	Name  string // for messages
	Lab   *lab.Lab
	Rules *safety.Rules // those that it was written for
	Cases []*Case
	// Encodable is what the gateway asks whether a wire carries a command's
	// values exactly. Nil: every wire does. It is set before the first run.
	Encodable func(*lab.Instrument, *lab.Command) error

	nominal Nominal
	book    *book
}

// Case is one case.
type Case struct {
	Name, Why  string
	Pos        lab.Pos
	MustRefuse bool     // the gate is to hold something back, or to act by itself
	Rules      []string // that it names

	given []setting
	steps []step
	runs  []string // that ask for something
}

// setting is what one property is set to.
type setting struct {
	id    lab.PropertyID
	value lab.Value // missing: its value stays
	fault fault
}

// fault is what is wrong with the readings of a property.
type fault uint8

const (
	sound     fault = iota
	frozen          // no newer time stamps
	stuck           // the value repeats, with newer time stamps
	bad             // of bad quality
	uncertain       // of uncertain quality
	missing         // there is none
	stale           // older than its max_age
	future          // received in the future
	notFinite       // the value that was set is no finite number
)

var faultNames = map[string]fault{"frozen": frozen, "stuck": stuck, "bad": bad, "uncertain": uncertain, "missing": missing, "stale": stale, "future": future}

// step is one instant of a case. What it does is done in the order of its
// fields, and then what is expected is looked at.
type step struct {
	at     time.Duration
	pos    lab.Pos
	before bool // one of the commands that are done before the case begins

	thaw   []lab.PropertyID
	set    []setting
	ramps  []ramp
	stuck  []lab.PropertyID
	freeze []lab.PropertyID

	epoch   []string // instruments whose link is lost and back
	restart bool
	done    []string
	partial []partial
	failed  []string
	lost    []string
	resolve []resolve
	ends    []string // runs

	reset       string
	bypass      string
	bypassFor   time.Duration
	rearm       string
	acknowledge string
	stop        string // an instrument, or all
	do          *ask
	expect      []expectation
}

type ramp struct {
	id   lab.PropertyID
	to   float64 // in the property's unit
	over time.Duration
}

type partial struct {
	id     string
	amount lab.Quantity
}

type resolve struct{ id, as string }

// ask is one command that somebody asks for.
type ask struct {
	id        string
	target    lab.CommandID
	args      map[string]lab.Value
	raw       []byte // instead of args: as JSON
	text      string
	run       string
	principal string
	campaign  string
	notAfter  time.Duration // from now
	lease     *uint64       // nil: the right one
	finally   bool
}

// Result is what came of a case.
type Result struct {
	Case     *Case
	OK       bool
	Expected string
	Got      string
	Reason   string     // why it is not what was expected
	Inputs   []lab.Used // that it rests on
	At       time.Duration
	Pos      lab.Pos // of the step that failed; of the case where all went well
	// Escape: the gate was to hold something back, or to act, and did not.
	Escape bool
	// FalseRefusal: the gate was to let something be, and did not.
	FalseRefusal bool
	// Broken: the case could not be carried out as it is written.
	Broken bool
}

// Limits on what a file may ask for.
const (
	maxCases    = 5000
	maxSteps    = 1000             // of one case
	maxTime     = 50 * time.Hour   // of one case
	maxNotAfter = 30 * 24 * time.Hour
	period      = 100 * time.Millisecond // between two readings of a property
)

// begin is the first instant of every case.
var begin = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
