package lab

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"
	"time"
	"unicode/utf8"
)

// Command is one operation asked of one instrument.
type Command struct {
	ID        string            `json:"id"` // ULID; the same id is the same command for ever
	Target    CommandID         `json:"-"`
	Args      map[string]Value  `json:"args,omitempty"` // complete, in the class's units
	Principal string            `json:"principal"`      // who is behind it
	Run       string            `json:"run,omitempty"`
	Campaign  string            `json:"campaign,omitempty"` // budgets may count by it
	Step      string            `json:"step,omitempty"`
	Lease     uint64            `json:"lease,omitempty"` // fencing number
	NotAfter  time.Time         `json:"not_after"`       // never runs later
	Samples   []string          `json:"samples,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// Hash is over everything that the command says: a permit is bound to it. A
// command without an exact form (a number that is not finite, text that is not
// UTF-8) has the zero hash, and no permit is ever bound to that.
//
// It is SHA-256 over the fields in a fixed order, each with its length before
// it, so that no two commands are written alike. What is the same in a message
// hashes the same: -0 is 0, and an enumeration's word is a text. It allocates
// nothing for a command of ordinary size.
func (c *Command) Hash() [32]byte {
	if !c.hashable() {
		return [32]byte{}
	}
	var space [768]byte
	b := appendText(space[:0], "command")
	b = appendText(b, c.ID)
	b = appendText(b, c.Target.Instrument)
	b = appendText(b, c.Target.Component)
	b = appendText(b, c.Target.Command)
	b = appendText(b, c.Principal)
	b = appendText(b, c.Run)
	b = appendText(b, c.Step)
	b = appendText(b, c.Campaign)
	b = appendNumber(b, c.Lease)
	b = appendNumber(b, uint64(c.NotAfter.Unix())) // nanoseconds alone would run over
	b = appendNumber(b, uint64(c.NotAfter.Nanosecond()))
	b = appendNumber(b, uint64(len(c.Samples)))
	for _, s := range c.Samples {
		b = appendText(b, s)
	}
	b = appendTexts(b, c.Labels)

	var names [16]string
	sorted := names[:0]
	for n := range c.Args {
		sorted = append(sorted, n)
	}
	slices.Sort(sorted)
	b = appendNumber(b, uint64(len(sorted)))
	for _, n := range sorted {
		v := c.Args[n]
		b = appendText(b, n)
		b = appendValue(b, &v)
	}
	return sha256.Sum256(b)
}

// hashable reports whether everything in the command has an exact form.
func (c *Command) hashable() bool {
	ok := utf8.ValidString(c.ID) && utf8.ValidString(c.Target.Instrument) && utf8.ValidString(c.Target.Component) && utf8.ValidString(c.Target.Command) &&
		utf8.ValidString(c.Principal) && utf8.ValidString(c.Run) && utf8.ValidString(c.Step) && utf8.ValidString(c.Campaign)
	for _, s := range c.Samples {
		ok = ok && utf8.ValidString(s)
	}
	for k, v := range c.Labels {
		ok = ok && utf8.ValidString(k) && utf8.ValidString(v)
	}
	for n, v := range c.Args {
		ok = ok && utf8.ValidString(n) && v.hashable()
	}
	return ok
}

func (v *Value) hashable() bool {
	if !v.Usable() || !utf8.ValidString(v.Text) {
		return false
	}
	if v.Table != nil {
		for _, col := range v.Table.Columns {
			if !utf8.ValidString(col.Name) {
				return false
			}
		}
	}
	if v.Blob != nil {
		for k, x := range v.Blob.Meta {
			if !utf8.ValidString(k) || !utf8.ValidString(x) {
				return false
			}
		}
	}
	return v.Blob == nil || utf8.ValidString(v.Blob.Hash) && utf8.ValidString(v.Blob.Media)
}

// The append functions write what they are given so that no two different
// lists of things look alike.
func appendNumber(b []byte, n uint64) []byte { return binary.LittleEndian.AppendUint64(b, n) }

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendFloat(b []byte, v float64) []byte {
	if v == 0 {
		v = 0 // it may have been -0
	}
	return appendNumber(b, math.Float64bits(v))
}

// appendTexts writes a map in the order of its keys.
func appendTexts(b []byte, m map[string]string) []byte {
	var keys [16]string
	sorted := keys[:0]
	for k := range m {
		sorted = append(sorted, k)
	}
	slices.Sort(sorted)
	b = appendNumber(b, uint64(len(sorted)))
	for _, k := range sorted {
		b = appendText(appendText(b, k), m[k])
	}
	return b
}

func appendValue(b []byte, v *Value) []byte {
	switch v.Kind {
	case Number:
		return appendText(appendFloat(append(b, byte(Number)), v.Num), v.Unit.String())
	case Integer:
		return appendFloat(append(b, byte(Integer)), v.Num)
	case Bool:
		if v.Bool {
			return append(b, byte(Bool), 1)
		}
		return append(b, byte(Bool), 0)
	case Enum, Text:
		return appendText(append(b, byte(Text)), v.Text)
	case Table:
		b = appendNumber(append(b, byte(Table)), uint64(len(v.Table.Columns)))
		for i, col := range v.Table.Columns {
			b = appendText(appendText(b, col.Name), col.Unit.String())
			b = appendNumber(b, uint64(len(v.Table.Data[i])))
			for _, x := range v.Table.Data[i] {
				b = appendFloat(b, x)
			}
		}
		return b
	case Blob:
		b = appendText(appendText(append(b, byte(Blob)), v.Blob.Hash), v.Blob.Media)
		return appendTexts(appendNumber(b, uint64(v.Blob.Size)), v.Blob.Meta)
	}
	return append(b, byte(Missing))
}

// HashText writes a content hash as in messages: "sha256:…".
func HashText(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
}

// State is where a command is in its life. A command only moves forward.
type State uint8

// The states. Everything from Confirmed on, except InDoubt, is an outcome.
const (
	Accepted     State = iota // admitted, being decided
	Decided                   // allowed or denied
	Intended                  // ALLOW and INTENT are durable
	Sent                      // the first byte may have left
	Acknowledged              // the device answered that it took it
	Confirmed                 // done, by the class's done_when or the device's reply
	Partial                   // stopped after a part; the amount is in the outcome
	Contradicted              // the device says done, the read-back says otherwise
	Failed                    // the device refused, or it ran out of time with a known state
	NotSent                   // failed before any effect began
	Unknown                   // sent; nobody can say yet whether it happened
	InDoubt                   // a restart or a lost link left it without an outcome
	Resolved                  // evidence or a person settled it
	Refused                   // denied by a rule, a lease or a check
	Superseded                // replaced by a newer idempotent command before it was sent
)

var stateNames = [...]string{"accepted", "decided", "intended", "sent", "acknowledged", "confirmed", "partial",
	"contradicted", "failed", "not_sent", "unknown", "in_doubt", "resolved", "refused", "superseded"}

// String is the state as written in messages.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return stateNames[InDoubt]
}

// Final reports whether the state is an outcome: nothing more will happen
// without a person or new evidence.
func (s State) Final() bool { return s >= Confirmed && s != InDoubt && s != Unknown }

// MarshalText writes the name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a name; an unknown one becomes in_doubt.
func (s *State) UnmarshalText(b []byte) error {
	*s = InDoubt
	for i, n := range stateNames {
		if n == string(b) {
			*s = State(i)
		}
	}
	return nil
}

// Outcome is what became of a command.
type Outcome struct {
	Command string           `json:"command"`
	State   State            `json:"state"`
	Kind    Kind             `json:"kind,omitempty"` // what went wrong, where State is no success
	Values  map[string]Value `json:"values,omitempty"`
	Amount  *Quantity        `json:"amount,omitempty"` // partial, or resolved as partly: how much was done
	Say     string           `json:"say,omitempty"`
	As      string           `json:"as,omitempty"`     // resolved: done, not_done or partly
	Issues  Issues           `json:"issues,omitempty"` // refused: every reason
	Started time.Time        `json:"started"`
	Ended   time.Time        `json:"ended"`
}

// OK reports whether the command did what it was to do.
func (o Outcome) OK() bool { return o.State == Confirmed }
