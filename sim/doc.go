// Package sim is the physical world of three laboratories. The demo: a heated
// microreactor in which gold nanoparticles grow, the pumps that feed and quench
// it, the spectrometer and the camera that look at it, the stage under the
// camera, a film-coating cell and the room around them. The wet bench: a burette
// over a beaker with a pH probe, a feeder over a balance, a crystalliser with a
// turbidity probe. The assay: a plate with a dispenser and a reader. Only the demo
// has wires.
//
// It promises that the same seed, the same start and the same calls at the
// same instants give the same world, to the bit on one kind of machine,
// however often Step is called in between: physics happens only at absolute
// instants of a fixed grid (Tick), and noise is a function of seed, sensor and
// grid instant, never of how often somebody looks. It keeps its own count of
// physical effects (Count), which tests and the twin judge by.
//
// It never reads a clock, starts a goroutine, does I/O or shares randomness
// between models. A World belongs to one owner: it is not safe for concurrent
// use. The folders under faces put it on real wires.
package sim
