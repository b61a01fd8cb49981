// Package lab is Labgate's vocabulary: quantities with units, readings with
// quality and age, classes, profiles, instruments, commands and outcomes, the
// closed set of error kinds, and the seams (clock, ids, bus, journal) behind
// which the real world or a simulated one stands.
//
// It promises that every other package means the same thing by the same word.
// It imports only the standard library, does no I/O, starts no goroutine and
// reads no clock: time, ids and randomness are arguments.
package lab
