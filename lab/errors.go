package lab

import (
	"errors"
	"strings"
)

// Kind is the closed set of what can go wrong. Callers branch on it; nobody
// branches on text. The zero Kind is KindInternal: an error that nobody
// classified is the worst one.
type Kind uint8

// The kinds. Each says what may be assumed about the physical world.
const (
	KindInternal       Kind = iota // a fault of Labgate itself; assume nothing
	KindInvalid                    // the request is malformed or out of bounds; nothing happened
	KindDenied                     // a rule, a permission, a latch or doubt refused it; nothing happened
	KindNotSent                    // failed before the effect began; nothing happened
	KindOutcomeUnknown             // sent, no reply or a reply that proves nothing: it may have happened
	KindDeviceRefused              // the device answered that it did not do it
	KindContradicted               // the device says done, the read-back says otherwise
	KindUnavailable                // the link or a service is down; nothing happened
	KindExpired                    // too late, or no clock to tell
	KindConflict                   // somebody else holds it, or the key was used for other content
	KindBusy                       // full or occupied now; trying again later may help
	KindCancelled                  // the caller gave up before anything happened
)

var kindNames = [...]string{"internal", "invalid", "denied", "not_sent", "outcome_unknown", "device_refused",
	"contradicted", "unavailable", "expired", "conflict", "busy", "cancelled"}

// String is the kind as written in messages.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "internal"
}

// MarshalText writes the name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a name; an unknown one becomes KindInternal.
func (k *Kind) UnmarshalText(b []byte) error {
	*k = KindInternal
	for i, n := range kindNames {
		if n == string(b) {
			*k = Kind(i)
		}
	}
	return nil
}

// Error carries the operation, the instrument (may be empty), a kind and the
// cause.
type Error struct {
	Op         string // "drivers/serial: exchange"
	Instrument string
	Kind       Kind
	Err        error
}

// E makes an Error.
func E(op, instrument string, kind Kind, err error) *Error {
	return &Error{op, instrument, kind, err}
}

// Ef makes an Error from a text.
func Ef(op, instrument string, kind Kind, text string) *Error {
	return &Error{op, instrument, kind, errors.New(text)}
}

// Error writes "op: instrument: kind: cause".
func (e *Error) Error() string {
	parts := []string{e.Op}
	if e.Instrument != "" {
		parts = append(parts, e.Instrument)
	}
	parts = append(parts, strings.ReplaceAll(e.Kind.String(), "_", " "))
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of an error: that of the outermost *Error in its chain,
// KindInternal where there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}
