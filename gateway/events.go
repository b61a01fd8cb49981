package gateway

import (
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
)

// Event is something that happened. The closed set is below.
type Event interface{ event() }

// Events. Reply is an opaque token that comes back in Answer.
type (
	// Asked: a command arrived.
	Asked struct {
		Command lab.Command
		Finally bool // a step of the run's finally
		Reply   any
		looked  bool // the journal was asked whether its id came before
	}
	// OutcomeAsked: somebody wants to know what became of a command.
	OutcomeAsked struct {
		Command string
		Asker   string // who may learn only of commands of its own; empty: of all
		Reply   any
		looked  bool
	}
	// Looked: what the journal says of a command's id; Entry nil: nothing.
	Looked struct {
		Command string
		Entry   *lab.Entry // its newest outcome or denial
		Err     error
	}
	// LeaseAsked: a runner takes, renews or releases a lease.
	LeaseAsked struct {
		Request messages.LeaseRequest
		Reply   any
	}
	// StopAsked: an emergency stop of one instrument, or of all ("").
	StopAsked struct {
		ID, Instrument, Principal, Reason string
		Reply                             any
	}
	// ResetAsked: a person clears a latch.
	ResetAsked struct {
		ID, Rule, Principal, Reason string
		Reply                       any
	}
	// ResolveAsked: a person settles a command in doubt; As is done, not_done or
	// partly, with the amount.
	ResolveAsked struct {
		ID, Command, As, Principal, Reason string
		Amount                             *lab.Quantity
		Reply                              any
	}
	// BypassAsked: a person sets a rule aside until an instant.
	BypassAsked struct {
		ID, Rule, Principal, Reason string
		Until                       time.Time
		Reply                       any
	}
	// UnbypassAsked: a person ends a bypass now.
	UnbypassAsked struct {
		ID, Rule, Principal, Reason string
		Reply                       any
	}
	// AcknowledgeAsked: a person has seen an alarm.
	AcknowledgeAsked struct {
		ID, Rule, Principal string
		Reply               any
	}
	// RulesLoaded: the interlocks file was read again, or could not be: then
	// Err says why (a lab.Issues carries every reason), and the rules in force
	// stay. Reply may be nil where nobody asked.
	RulesLoaded struct {
		Rules         *safety.Rules
		Err           error
		ID, Principal string
		Reply         any
	}
	// StatusAsked: somebody wants latches, doubts and links. Brief leaves out
	// what agents are not told.
	StatusAsked struct {
		Brief bool
		Reply any
	}
	// Readings arrived.
	Readings struct{ Samples []lab.Sample }
	// Refreshed: the links were asked for what a decision needs; their
	// readings came before as Readings.
	Refreshed struct{ Command string }
	// Durable: an Append is committed, or failed.
	Durable struct {
		Token uint64
		Refs  []lab.Ref
		Err   error
	}
	// Exchanged: the link has sent a command, or could not.
	Exchanged struct {
		Command string
		Acked   bool
		Values  map[string]lab.Value // blobs are stored already
		Sent    time.Time
		Ended   time.Time // when the link came back; readings received later tell of it. Zero: now
		Err     error
	}
	// LaneDone: the link has written a safe command, or could not.
	LaneDone struct {
		ID    string
		Acked bool
		Err   error
	}
	// LinkUp: an instrument answered; Epoch is the link's.
	LinkUp struct {
		Instrument string
		Epoch      uint64
		Identity   string
	}
	// LinkLost: an instrument can't be reached.
	LinkLost struct{ Instrument, Say string }
	// ClockTrust: wall and monotonic time agree (""), or why not.
	ClockTrust struct{ Why string }
	// JournalFailed: nothing that begins an effect can be made durable any more.
	JournalFailed struct{ Err error }
	// Tick: only time has passed.
	Tick struct{}
)

func (Asked) event()            {}
func (OutcomeAsked) event()     {}
func (LeaseAsked) event()       {}
func (StopAsked) event()        {}
func (ResetAsked) event()       {}
func (ResolveAsked) event()     {}
func (StatusAsked) event()      {}
func (BypassAsked) event()      {}
func (UnbypassAsked) event()    {}
func (AcknowledgeAsked) event() {}
func (RulesLoaded) event()      {}
func (Readings) event()         {}
func (Refreshed) event()        {}
func (Durable) event()          {}
func (Exchanged) event()        {}
func (LaneDone) event()         {}
func (Looked) event()           {}
func (LinkUp) event()           {}
func (LinkLost) event()         {}
func (ClockTrust) event()       {}
func (JournalFailed) event()    {}
func (Tick) event()             {}

// Action is something to do. The closed set is below.
type Action interface{ action() }

// Actions.
type (
	// Answer a request; the shell adds the envelope.
	Answer struct {
		Reply   any
		Message any // a document of package messages, without its envelope
	}
	// Refresh asks the links for properties, then steps with Refreshed.
	Refresh struct {
		Command    string
		Properties []lab.PropertyID
		Within     time.Duration
	}
	// Append entries durably, all or none, then step with Durable.
	Append struct {
		Token   uint64
		Entries []lab.Entry
	}
	// Note entries without waiting.
	Note struct{ Entries []lab.Entry }
	// Send a command over its link, then step with Exchanged.
	Send struct {
		Command lab.Command
		Permit  *safety.Permit
	}
	// Look asks the journal for the newest outcome or denial of a command, then
	// steps with Looked.
	Look struct{ Command string }
	// Snap keeps a snapshot: what the actions before it wrote is in it, what
	// those after it write is not. Nothing waits for it.
	Snap struct{ State *Snapshot }
	// Lane sends a safe command before anything else that its link has to do,
	// then steps with LaneDone.
	Lane struct {
		ID    string
		Order *safety.Order
	}
	// Publish a document; the shell knows its subject and adds the envelope.
	Publish struct{ Message any }
)

func (Answer) action()  {}
func (Refresh) action() {}
func (Append) action()  {}
func (Note) action()    {}
func (Send) action()    {}
func (Lane) action()    {}
func (Look) action()    {}
func (Snap) action()    {}
func (Publish) action() {}
