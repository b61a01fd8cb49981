// Package protocols is the protocol language: it parses, checks, binds, plans
// and bills the files in which scientists write experiments.
//
// Parse checks a file against the classes alone; CheckInputs checks what a
// proposal gives; Bind fills the roles with instruments of a lab and makes a
// Plan with its Bill; Values evaluates the plan's expressions over one run.
//
// It promises that every problem is reported at once, with file, line, column
// and a hint, and that what it returns is complete: every name resolves, every
// expression is compiled and of the right type and dimension, every loop and
// every wait ends, and the longest time, the number of exposures and the
// consumption are bounded. Values are converted between units of one dimension
// and never moved into bounds, rounded or guessed.
//
// # Values of steps
//
// A step's results have the names that its gives says, behind the step's id:
// look.image. Inside a repeat the steps of the body are named plainly, and
// stand for the current iteration; i counts the iterations from 1, last and
// previous are the last two that are complete: last.read.peak. Outside of it,
// behind the repeat's id: grow.last.read.peak, grow.i. The steps of a parallel
// stand behind its id: feed.gold_in.delivered. What was skipped is missing; a
// comparison with it is unknown, and an argument made from it is an error.
//
// # What it never does
//
// The package is pure: it reads no file but the ones built into it and no
// clock, starts no goroutine and does no I/O. A Protocol and a Plan are
// immutable and may be shared; a Values belongs to one run and one goroutine.
package protocols

import (
	"embed"
	"io/fs"
)

//go:embed library/*.yaml
var library embed.FS

// Library is the protocol files built into the program: file name to bytes.
func Library() map[string][]byte {
	files := map[string][]byte{}
	entries, err := library.ReadDir("library")
	if err != nil {
		return files // an embedded folder is there or the program does not compile
	}
	for _, e := range entries {
		if data, err := fs.ReadFile(library, "library/"+e.Name()); err == nil {
			files[e.Name()] = data
		}
	}
	return files
}
