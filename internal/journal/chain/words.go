package chain

import "slices"

// Kinds of the journal's own entries.
const (
	// DiskFull says since when the journal takes last words only, and at the end,
	// how many notes it did not take.
	DiskFull = "disk_full/v1"
	// Checkpoint signs for all entries before it.
	Checkpoint = "checkpoint/v1"
)

// lastWords are the kinds of entries that a full disk still takes, out of the
// room that the ballast had: what became of what was begun, and whatever stops
// or warns. Anything that leads to an effect is not among them.
var lastWords = []string{
	"outcome/v1", "sent/v1", "lost_permissive/v1", // of commands
	"order/v1", "order_end/v1", "stop/v1", "trip/v1", "reset/v1", "alarm/v1", "alarm_state/v1", // of the safe lane and what leads to it
	"lease/v1", "stop_document/v1", // of runs
	DiskFull, Checkpoint,
}

// LastWord reports whether a full disk still takes entries of a kind.
func LastWord(kind string) bool { return slices.Contains(lastWords, kind) }
