package opcua

import (
	"errors"
	"time"

	"github.com/gopcua/opcua/ua"
)

const (
	wrongTypes      = 3                // answers of a wrong type in a row before a node is left alone
	firstQuarantine = time.Second      // for a node that its server knows nothing good about; doubled each time
	lastQuarantine  = time.Minute      // and no longer
	poisonedFor     = 10 * time.Minute // for a node that makes its server refuse whole requests: each try costs the session
)

// errWrongType is a value that can't mean anything for its property, whatever
// it is: the node is another than the profile thinks.
var errWrongType = errors.New("wrong type")

// quarantine keeps a node that can't be read from being asked for again and
// again. The zero quarantine is healthy.
type quarantine struct {
	fails int       // in a row
	odd   int       // answers of a wrong type, in a row
	until time.Time // not asked before
	why   string    // for people
	batch int       // the most nodes that it may be asked together with, itself included; 0: any
}

// out reports whether the node is left alone at now.
func (q *quarantine) out(now time.Time) bool { return now.Before(q.until) }

// healthy ends it. Its batches may grow again, step by step.
func (q *quarantine) healthy() {
	*q = quarantine{batch: 2 * q.batch}
	if q.batch > maxNodes {
		q.batch = 0
	}
}

// judge looks at one answer: a status that no repetition heals, or a value of
// the wrong type for the third time, puts the node aside.
func (q *quarantine) judge(now time.Time, status ua.StatusCode, err error) {
	switch {
	case hopeless[status]:
		q.aside(now, status.Error())
	case errors.Is(err, errWrongType):
		if q.odd++; q.odd >= wrongTypes {
			q.aside(now, err.Error())
		}
		q.why = err.Error()
	case err != nil:
		q.why = err.Error()
	default:
		q.healthy()
	}
}

func (q *quarantine) aside(now time.Time, why string) {
	q.until = now.Add(min(firstQuarantine<<min(q.fails, 10), lastQuarantine))
	q.fails++
	q.why = why
}

// spoiled takes note of a request of n nodes that the server refused as a
// whole: next time they are asked in smaller ones, and a node that was alone
// is the one that did it.
func (q *quarantine) spoiled(now time.Time, n int, err error) {
	if n > 1 {
		q.batch = n / 2
		return
	}
	q.batch = 1
	q.until = now.Add(poisonedFor)
	q.why = "its server refuses every request that names it: " + err.Error()
}

// tooMuch are refusals of a request for its size: the limits that the server
// states are not its true ones.
var tooMuch = map[ua.StatusCode]bool{
	ua.StatusBadTooManyOperations:      true,
	ua.StatusBadRequestTooLarge:        true,
	ua.StatusBadResponseTooLarge:       true,
	ua.StatusBadEncodingLimitsExceeded: true,
	ua.StatusBadTCPMessageTooLarge:     true,
}

// hopeless are answers about one node that asking again soon does not change.
var hopeless = map[ua.StatusCode]bool{
	ua.StatusBadNodeIDInvalid:            true,
	ua.StatusBadNodeIDUnknown:            true,
	ua.StatusBadAttributeIDInvalid:       true,
	ua.StatusBadIndexRangeInvalid:        true,
	ua.StatusBadIndexRangeNoData:         true,
	ua.StatusBadDataEncodingInvalid:      true,
	ua.StatusBadDataEncodingUnsupported:  true,
	ua.StatusBadNotReadable:              true,
	ua.StatusBadUserAccessDenied:         true,
	ua.StatusBadSecurityModeInsufficient: true,
	ua.StatusBadNotSupported:             true,
}
