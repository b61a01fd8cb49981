// Package wire is what the faces of the simulated laboratory share: the host
// that owns the world and lets time pass in it, and the faults that happen on
// the way between a device and whoever talks to it.
//
// It promises that everybody who touches the world sees it stepped to the
// host's clock, and that no two callers are in it at once. It starts no
// goroutine and does no I/O.
package wire
