package protocols

import (
	"slices"
	"strings"

	"labgate/internal/strict"
	"labgate/lab"
)

// OnRestart is what becomes of a run that was under way when the process went
// down. The zero OnRestart waits for a person.
type OnRestart uint8

// The ways on.
const (
	HoldOnRestart     OnRestart = iota // nothing moves until a person lets it go on or ends it
	AbortOnRestart                     // its finally is carried out
	ContinueOnRestart                  // from a safe point it goes on by itself, where the lab allows that
)

var onRestartNames = [...]string{"hold", "abort", "continue"}

// String is the way on as written in files.
func (o OnRestart) String() string { return onRestartNames[o] }

func (r *parser) onRestart(n *strict.Node) {
	if n == nil {
		return
	}
	r.restartPos = n.Pos()
	before := len(r.Issues)
	word := r.Text(n)
	if i := slices.Index(onRestartNames[:], word); i >= 0 {
		r.p.OnRestart = OnRestart(i)
	} else if len(r.Issues) == before {
		r.add(n.Pos(), "bad_value", "hold, abort or continue", "on_restart: %q is not understood", clip(word))
	}
}

// safePoint reads whether a run may go on by itself from a step. Nothing that
// must not happen twice may be under way there.
func (r *parser) safePoint(s *Step, n *strict.Node) {
	if n == nil {
		return
	}
	s.SafePoint = r.Bool(n)
	if !s.SafePoint {
		return
	}
	for _, x := range r.p.steps[s.index:s.end] {
		if x.Spec != nil && x.Spec.Effect == lab.Effectful {
			r.add(n.Pos(), "bad_value", "mark the steps around it", "%s.%s, at %s, is effectful: where it is under way is no safe point", x.Role, x.Command, x.Pos)
			return
		}
	}
}

// checkRestart: going on needs a place to go on from, and the other way round.
func (r *parser) checkRestart(inSteps int) {
	marked := slices.IndexFunc(r.p.steps[:inSteps], func(s *Step) bool { return s.SafePoint })
	if r.p.OnRestart == ContinueOnRestart && marked < 0 {
		r.add(r.restartPos, "missing_key", "mark the steps from which it may with safe_point: true", "on_restart: continue, and nothing to go on from")
	}
	for _, s := range r.p.steps {
		if s.SafePoint && !s.inUsed && (r.p.OnRestart != ContinueOnRestart || s.index >= inSteps) {
			hint := "add on_restart: continue to the file, or leave it out"
			if s.index >= inSteps {
				hint = "leave it out"
			}
			r.add(s.Pos, "unused", hint, "step %s is a safe point, and no run goes on from there by itself", s.ID)
			return
		}
	}
}

// SafePoint reports whether a run that is at all of these steps may go on from
// there by itself.
func (p *Protocol) SafePoint(paths []string) bool {
	for _, path := range paths {
		if !p.safeAt(path) {
			return false
		}
	}
	return len(paths) > 0
}

// safeAt looks at a step and at those that it is within.
func (p *Protocol) safeAt(path string) bool {
	for {
		if s := p.byPath[path]; s != nil && s.SafePoint {
			return true
		}
		i := strings.LastIndexByte(path, '.')
		if i < 0 {
			return false
		}
		path = path[:i]
	}
}
