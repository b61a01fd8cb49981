// Package rulecases runs rule cases: given readings, commands, and what must
// come of them, in virtual time.
//
// It drives the gateway's own core, with its admission, its engine and its
// commit sequence; there is no world behind it, only readings that a case
// scripts. It promises that a case sees what a running gateway would do, and
// that the same case gives the same result every time. It reads no file and no
// clock and starts no goroutine; a Runner belongs to one goroutine.
package rulecases

import (
	"time"

	"labgate/lab"
)

// File is a file of cases.
type File struct {
	Path  string
	Cases []*Case
}

// Head is what a file of cases says before its lab is known.
type Head struct {
	Lab        string // folder, relative to the file
	Interlocks string // other rules for that lab, relative to the file; empty: the lab's own
}

// Case is one case.
type Case struct {
	Name, Why string
	File      string
	Pos       lab.Pos
	given     []setting
	before    []call
	steps     []*step
}

// setting is what a property is told to be.
type setting struct {
	id    lab.PropertyID
	typ   lab.Type
	word  string // bad, frozen …; empty: value
	value lab.Value
	ramp  time.Duration // over which it moves there
}

// call is a command to be asked for.
type call struct {
	id   lab.CommandID
	args map[string]lab.Value
	text string
	pos  lab.Pos
}

// step is what happens at one moment, in the order of its fields.
type step struct {
	at      time.Duration
	pos     lab.Pos
	set     []setting
	freeze  []lab.PropertyID
	stuck   []lab.PropertyID
	thaw    []lab.PropertyID
	epoch   string
	restart bool

	done, failed, lost []string
	partial            map[string]lab.Quantity
	resolve            map[string]string

	reset, acknowledge, stop string
	bypass                   string
	bypassFor                time.Duration

	do                    *call
	id, run, as, campaign string
	notAfter              time.Duration
	lease                 *uint64
	finally               bool

	expect []expectation
}

// expectation is one thing that must be so.
type expectation struct {
	text string
	what string // allowed, refused, tripped …
	not  bool
	arg  string // a rule, a code, a command's id
	by   string // stopped … by
	call *call
	pos  lab.Pos
}

// acts reports whether it is about something that must be refused, or acted
// on: to miss it is an escape. To miss any other is a false refusal.
func (x expectation) acts() bool {
	switch x.what {
	case "refused", "refused as", "tripped", "first out", "alarm", "stopped", "in doubt", "ordered":
		return !x.not
	case "reset", "bypassed":
		return x.not
	}
	return false
}

// MustAct reports whether something in the case must be refused, or acted on.
func (c *Case) MustAct() bool {
	for _, s := range c.steps {
		for _, x := range s.expect {
			if x.acts() {
				return true
			}
		}
	}
	return false
}

// Rules are the rules that a case names.
func (c *Case) Rules() map[string]bool {
	names := map[string]bool{}
	for _, s := range c.steps {
		for _, x := range s.expect {
			names[x.arg], names[x.by] = true, true
		}
	}
	delete(names, "")
	return names
}

// Result is what came of a case.
type Result struct {
	Case         *Case
	OK           bool
	Expected     string
	Got          string
	Pos          lab.Pos // of what was not so
	Escape       bool    // something that must be refused or acted on was not
	FalseRefusal bool    // something that must pass did not
}
