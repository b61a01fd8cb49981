package runner

import (
	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
	"labgate/safety/preflight"
)

// Rules are the lab's interlocks as the runner knows them: their hash, and the
// check of plans against them.
type Rules struct {
	Hash      string
	Preflight func(*protocols.Plan) preflight.Result
}

// Event is something that happened. The closed set is below.
type Event interface{ event() }

// Events. Reply and Token are opaque and come back in actions.
type (
	// Proposed: a proposal arrived; its subject said who sent it.
	Proposed struct {
		Principal string
		Data      []byte
		StreamSeq uint64
		Token     any // acknowledged once the verdict is durable
	}
	// Durable: an Append is committed, or failed.
	Durable struct {
		Token uint64
		Refs  []lab.Ref
		Err   error
	}
	// Looked: the journal was asked what was answered to a key, as a Look asks.
	// The entries with its AnswerKeys; nil: nothing was. Err: it can't be asked.
	Looked struct {
		Key               string
		Proposal, Verdict *lab.Entry
		Err               error
	}
	// LeaseReplied: a gateway answered a lease request; Err where it did not.
	LeaseReplied struct {
		Run    string
		Action string
		Reply  messages.LeaseReply
		Err    error
	}
	// CommandReplied: a gateway answered a command or an outcome query; Err
	// where it did not.
	CommandReplied struct {
		Command string
		Reply   messages.CommandReply
		Err     error
	}
	// OutcomeArrived: a gateway published an outcome.
	OutcomeArrived struct{ Outcome messages.Outcome }
	// ReadingArrived: a gateway published a reading.
	ReadingArrived struct {
		ID      lab.PropertyID
		Reading lab.Reading
	}
	// SafetyArrived: a gateway published a trip, a stop, a lost lease, …
	SafetyArrived struct{ Safety messages.Safety }
	// ControlAsked: a principal asks something of the runner.
	ControlAsked struct {
		Principal string
		Control   messages.Control
		Reply     any
	}
	// ApprovalAsked: a person approves or rejects a run.
	ApprovalAsked struct {
		Principal string
		Approval  messages.Approval
		Reply     any
	}
	// RulesLoaded: the lab's interlocks were read again, as a LoadRules asked;
	// Err where they could not be.
	RulesLoaded struct {
		Rules Rules
		Err   error
	}
	// Tick: only time has passed.
	Tick struct{}
)

func (Proposed) event()       {}
func (Durable) event()        {}
func (Looked) event()         {}
func (LeaseReplied) event()   {}
func (CommandReplied) event() {}
func (OutcomeArrived) event() {}
func (ReadingArrived) event() {}
func (SafetyArrived) event()  {}
func (ControlAsked) event()   {}
func (ApprovalAsked) event()  {}
func (RulesLoaded) event()    {}
func (Tick) event()           {}

// Action is something to do. The closed set is below.
type Action interface{ action() }

// Actions.
type (
	// Append entries durably, all or none, then step with Durable.
	Append struct {
		Token   uint64
		Entries []lab.Entry
	}
	// Note entries without waiting.
	Note struct{ Entries []lab.Entry }
	// Look in the journal for what was answered to a key, then step with
	// Looked.
	Look struct{ Key string }
	// Snap keeps a snapshot: what the actions before it wrote is in it, what
	// comes after is not.
	Snap struct{ State *Snapshot }
	// Publish a verdict or a document of a run; the shell knows its subject and
	// adds the envelope.
	Publish struct {
		Principal string
		Run       string
		Document  any
	}
	// Acknowledge a proposal's delivery: its verdict is durable.
	Acknowledge struct{ Token any }
	// Lease asks an instrument's gateway, then steps with LeaseReplied.
	Lease struct {
		Gateway string
		Request messages.LeaseRequest
	}
	// Command asks an instrument's gateway, then steps with CommandReplied.
	Command struct {
		Gateway string
		Command messages.Command
	}
	// Query asks a gateway for an outcome, then steps with CommandReplied.
	Query struct {
		Gateway, Instrument string
		Command             string
	}
	// LoadRules: a gateway has other rules than these here; read the lab's
	// interlocks again, then step with RulesLoaded.
	LoadRules struct{}
	// Answer a control message; the shell adds the envelope.
	Answer struct {
		Reply   any
		Message messages.ControlReply
	}
)

func (Append) action()      {}
func (Note) action()        {}
func (Look) action()        {}
func (Snap) action()        {}
func (Publish) action()     {}
func (Acknowledge) action() {}
func (Lease) action()       {}
func (Command) action()     {}
func (Query) action()       {}
func (LoadRules) action()   {}
func (Answer) action()      {}
