// Package dst tries to break every promise of Labgate in a simulation.
//
// The real cores (runner, gateway, safety engine) run in package twin's virtual
// time against the simulated world, and everything around them goes wrong:
// messages are lost, late, repeated and out of order; the disk fails, lies and
// stalls; the clock steps and drifts; the process is killed at any event, and
// again while it recovers, paused past its leases, started with other rules;
// instruments freeze, lie, forget and do nothing; people come late, stop things
// and settle doubts; agents are honest, clumsy, flooding and hostile.
//
// A seed decides all of it, so one number repeats a failure, on every machine.
// After every event a checker holds what happened against the promises, each
// by its name (S1 to S11, D1 to D3, O1 to O4, A1 to A3, L1; docs/reliability.md
// says them in words). The checker keeps its own books from what became durable
// and from what reached the instruments; for effects the world's own count is
// the judge. When a promise is broken, what happened is shrunk to what it
// takes, and told as a short story.
//
// It starts no goroutine and reads no clock.
package dst
