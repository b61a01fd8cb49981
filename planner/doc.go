// Package planner is the reference planner: the stand-in for an AI agent. It
// closes the loop on the bus with an agent's permissions and nothing else: it
// proposes an experiment with a hypothesis and a prediction, reads the
// verdict, follows the run to its stop document, learns, and proposes the next
// one, to bring the plasmon peak of gold nanoparticles to a target wavelength.
//
// It promises that every prediction is made before its proposal is sent, that
// the same seed, measurements and ids give the same proposals, and that every
// experiment it proposed is in its record: refused, aborted and unanswered
// ones too. It knows the protocol's inputs, outputs and bounds and what came
// back over the bus; it never looks at how the laboratory, simulated or not,
// is made. It never proposes one experiment twice by accident: what may have
// been lost is sent again under the same key, which is the same proposal.
//
// The optimiser is a Gaussian process over the normalised inputs and the
// expected improvement of the distance to the target.
//
// Run works on its caller's goroutine and starts none. The bus calls its
// handlers on goroutines of the bus's own; they only enqueue.
package planner
