package messages

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"labgate/lab"
)

// The priorities of a proposal.
const (
	PriorityLow    = "low"
	PriorityNormal = "normal"
	PriorityHigh   = "high"
)

// Priorities are the words, the least first.
var Priorities = []string{PriorityLow, PriorityNormal, PriorityHigh}

// Place is where a run waits, as its verdict says it.
type Place struct {
	Position int    `json:"position"` // from 1, when the verdict was given
	Priority string `json:"priority"`
	// Counts is the instant by which the queue is ordered: when the run was
	// accepted, but no sooner than those of its principal before it are expected
	// to be done, less the head start of its priority.
	Counts time.Time `json:"counts"`
}

// QueueInfo is one run that waits.
type QueueInfo struct {
	Position  int         `json:"position"`
	Run       string      `json:"run"`
	Principal string      `json:"principal"`
	Protocol  string      `json:"protocol"`
	Priority  string      `json:"priority"`
	Since     time.Time   `json:"since"`            // when it was accepted
	Counts    time.Time   `json:"counts"`           // its place in the order
	Waits     []QueueWait `json:"waits,omitempty"`  // every reason; none: it is about to begin
	Begins    *time.Time  `json:"begins,omitempty"` // when it is expected to begin, where that can be told
	NotAfter  *time.Time  `json:"not_after,omitempty"`
	Approval  *Approvals  `json:"approval,omitempty"`
}

// What a run waits for.
const (
	WaitApproval = "approval" // by people
	WaitLatch    = "latch"    // a trip or a stop that nobody has reset
	WaitLease    = "lease"    // a gateway refused an instrument; it is asked again
	WaitPerson   = "person"   // a run that has an instrument waits for a person
	WaitRun      = "run"      // a run has an instrument
	WaitBehind   = "behind"   // a run before it waits for an instrument
)

// QueueWait is one reason why a run waits.
type QueueWait struct {
	For        string `json:"for"`
	Instrument string `json:"instrument,omitempty"`
	Run        string `json:"run,omitempty"`
	Principal  string `json:"principal,omitempty"` // whose run that is
	Rule       string `json:"rule,omitempty"`
	Say        string `json:"say"`
}

// Approvals say what has to be approved, and who has done so.
type Approvals struct {
	Content string    `json:"content"` // hash of what is shown: ContentHash of an Approvable
	Persons int       `json:"persons"` // how many different people
	By      []string  `json:"by"`      // in which roles
	Until   time.Time `json:"until"`   // then it has expired
	Given   []string  `json:"given,omitempty"`
}

// Complete reports whether nobody else has to approve.
func (a *Approvals) Complete() bool { return len(a.Given) >= a.Persons }

// Approvable is exactly what is approved: whoever approves has seen this, and
// the approval holds for nothing else.
type Approvable struct {
	Run        string                `json:"run"`
	Proposal   string                `json:"proposal"`
	Principal  string                `json:"principal"`
	Role       string                `json:"role"`
	Protocol   ProtocolRef           `json:"protocol"`
	Inline     string                `json:"protocol_inline,omitempty"` // its text, where it is not the library's
	Inputs     map[string]lab.Value  `json:"inputs"`
	Bindings   map[string]string     `json:"bindings"` // role to instrument
	Bill       Bill                  `json:"bill"`
	Budget     *BudgetAsk            `json:"budget,omitempty"`
	Priority   string                `json:"priority"`
	NotAfter   *time.Time            `json:"not_after,omitempty"`
	Campaign   string                `json:"campaign,omitempty"`
	Hypothesis string                `json:"hypothesis,omitempty"`
	Predicts   map[string]Prediction `json:"predicts,omitempty"`
	Model      string                `json:"model,omitempty"`
	Labels     map[string]string     `json:"labels,omitempty"`
	Samples    []string              `json:"samples,omitempty"`
	Hashes     Hashes                `json:"hashes"`
}

// ContentHash is "sha256:" and the hash of the canonical JSON: no white space,
// keys in the order of their bytes, numbers and texts as Go writes them,
// without escapes for HTML.
func (a *Approvable) ContentHash() string {
	var v any
	d := json.NewDecoder(bytes.NewReader(Body(a)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		panic("messages: " + err.Error()) // it was written just now
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("messages: " + err.Error())
	}
	sum := sha256.Sum256(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// The decisions of an approval.
const (
	ApproveDecision = "approve"
	RejectDecision  = "reject"
)

// DecodeApproval reads an approval strictly, with every issue.
func DecodeApproval(data []byte) (Approval, lab.Issues) {
	var a Approval
	c := &collector{}
	if !decode(data, &a, c) {
		return a, c.issues()
	}
	c.need("kind", a.Kind, 64)
	if a.Kind != "" && a.Kind != KindApproval {
		c.add(lab.Issue{Code: "wrong_kind", Path: "kind", Got: cut(a.Kind, maxWord), Allowed: KindApproval, Say: fmt.Sprintf("kind is %.*q; %s is understood here", maxWord, a.Kind, KindApproval)})
	}
	c.need("id", a.ID, 64)
	c.need("run", a.Run, 64)
	c.need("decision", a.Decision, 64)
	if len(a.Content) > 100 || len(a.Reason) > maxReason {
		c.add(lab.Issue{Code: "too_long", Path: "reason", Say: fmt.Sprintf("a content is a hash, and a reason has at most %d bytes", maxReason)})
	}
	return a, c.issues()
}

// maxReason bounds what a person gives as a reason.
const maxReason = 2000

// Approval is one person's word on a run that needs approval.
type Approval struct {
	Kind     string `json:"kind"`
	ID       string `json:"id"`
	Run      string `json:"run"`
	Decision string `json:"decision"`          // approve, reject
	Content  string `json:"content,omitempty"` // approve: the hash of what was shown
	Reason   string `json:"reason,omitempty"`  // reject: needed
}
