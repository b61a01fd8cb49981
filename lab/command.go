package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"sort"
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
func (c *Command) Hash() [32]byte {
	type arg struct {
		Name  string
		Value Value
	}
	doc := struct {
		ID, Instrument, Component, Command string
		Principal, Run, Step, Campaign     string
		Lease                              uint64
		Seconds                            int64 // of NotAfter; nanoseconds alone would run over
		Nanoseconds                        int
		Args                               []arg
		Samples                            []string
		Labels                             map[string]string // written in the order of their names
	}{c.ID, c.Target.Instrument, c.Target.Component, c.Target.Command, c.Principal, c.Run, c.Step, c.Campaign, c.Lease,
		c.NotAfter.Unix(), c.NotAfter.Nanosecond(), nil, c.Samples, c.Labels}
	texts := append([]string{c.ID, c.Target.Instrument, c.Target.Component, c.Target.Command, c.Principal, c.Run, c.Step, c.Campaign}, c.Samples...)
	for k, v := range c.Labels {
		texts = append(texts, k, v)
	}
	names := make([]string, 0, len(c.Args))
	for n, v := range c.Args {
		if !v.Usable() {
			return [32]byte{}
		}
		names, texts = append(names, n), append(texts, n, v.Text)
		if v.Table != nil {
			for _, col := range v.Table.Columns {
				texts = append(texts, col.Name)
			}
		}
		if v.Blob != nil {
			texts = append(texts, v.Blob.Hash, v.Blob.Media)
		}
	}
	for _, s := range texts { // JSON would write one sign for all that is not UTF-8
		if !utf8.ValidString(s) {
			return [32]byte{}
		}
	}
	sort.Strings(names)
	for _, n := range names {
		doc.Args = append(doc.Args, arg{n, c.Args[n]})
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return [32]byte{}
	}
	return sha256.Sum256(b)
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
	Amount  *Quantity        `json:"amount,omitempty"` // partial: how much was done
	Say     string           `json:"say,omitempty"`
	Issues  Issues           `json:"issues,omitempty"` // refused: every reason
	Started time.Time        `json:"started"`
	Ended   time.Time        `json:"ended"`
}

// OK reports whether the command did what it was to do.
func (o Outcome) OK() bool { return o.State == Confirmed }
