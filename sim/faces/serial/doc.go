// Package serial puts the pumps and the stage of the simulated laboratory on
// serial lines, each a pseudo terminal: three New Era NE-1000 on one line, by
// address, and an ASI MS-2000 on another.
//
// It speaks the devices' side, after their makers' manuals: it takes commands
// that end in CR and answers each one, a few milliseconds later, one at a time.
// It keeps a line's far end open, so that a line outlives whoever opens and
// closes the near one.
//
// A Line has two goroutines, one that reads and one that acts and answers;
// they end when the context of Pumps or Stage is done, and Wait joins them. A
// device never speaks first and never acts on a command that is cut off.
package serial
