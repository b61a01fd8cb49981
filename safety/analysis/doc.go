// Package analysis looks at a lab's rules without running them: the
// cause-and-effect table (Matrix), what is odd about the rules (Verify), and
// rules weakened on purpose (Mutants), to see whether the lab's own cases
// notice.
//
// It promises to claim only what holds for every reading: "never", "always",
// "contradicts" and "shadowed" are proved over ranges, and where a proof is
// too large nothing is claimed. It judges the rules as they are compiled; it
// changes none, reads no file and no clock, and starts no goroutine.
package analysis

import (
	"labgate/lab"
	"labgate/safety"
)

// kindNames are the rule kinds as they are written in files.
var kindNames = map[safety.RuleKind]string{
	safety.LimitRule: "limit", safety.PermissiveRule: "permissive", safety.TripRule: "trip", safety.SequenceRule: "sequence",
	safety.ZoneRule: "zone", safety.BudgetRule: "budget", safety.AlarmRule: "alarm",
}

// moves reports whether a command of this effect class changes the world and
// is not itself the way out of danger.
func moves(e lab.Effect) bool { return e == lab.Effectful || e == lab.Idempotent }
