// Package messages holds the JSON documents that travel on the bus: their
// types, strict decoding, and what each field means.
//
// Every document carries its kind with a version. Decoding reports every
// problem at once and never guesses: an unknown, repeated or wrongly cased
// key, a missing field and a wrong type are issues with a path. The package
// does no I/O and starts no goroutine.
package messages

import (
	"encoding/json"
	"time"

	"labgate/lab"
)

// Kinds of documents. A kind never changes its meaning; a new meaning is a
// new version.
const (
	KindProposal      = "proposal/v1"
	KindVerdict       = "verdict/v1"
	KindCommand       = "command/v1"
	KindCommandReply  = "command_reply/v1"
	KindOutcome       = "outcome/v1"
	KindOutcomeQuery  = "outcome_query/v1"
	KindLeaseRequest  = "lease_request/v1"
	KindLeaseReply    = "lease_reply/v1"
	KindTelemetry     = "telemetry/v1"
	KindSafety        = "safety/v1"
	KindStop          = "stop/v1"
	KindStopReply     = "stop_reply/v1"
	KindApproval      = "approval/v1"
	KindControl       = "control/v1"
	KindControlReply  = "control_reply/v1"
	KindRunStart      = "start/v1"
	KindRunDescriptor = "descriptor/v1"
	KindRunEvent      = "event/v1"
	KindRunResource   = "resource/v1"
	KindRunStop       = "stop_document/v1"
)

// Limits on what comes from outside.
const (
	MaxProposal = 256 << 10 // bytes
	MaxMessage  = 8 << 20   // bytes; the server's own limit
	MaxKey      = 200       // bytes of a proposal's key
)

// Envelope is the head of every message that a part of Labgate sends.
type Envelope struct {
	Kind      string    `json:"kind"`
	Lab       string    `json:"lab"`
	Origin    string    `json:"origin"`     // which part: "runner", "gateway/bench"
	OriginSeq uint64    `json:"origin_seq"` // counts from 1 within origin and boot
	Boot      string    `json:"boot"`       // grows with each start of the origin
	Time      time.Time `json:"time"`
	Synthetic bool      `json:"synthetic"` // nothing physical stands behind it
}

// ProtocolRef names a protocol of the library.
type ProtocolRef struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Hash    string `json:"hash,omitempty"` // if given, it must be this content
}

// Prediction is what the planner expects of an output.
type Prediction struct {
	Value float64 `json:"value"`
	SD    float64 `json:"sd"` // standard deviation, in the same unit
	Unit  string  `json:"unit"`
}

// BudgetAsk bounds what a run may use; it may only tighten.
type BudgetAsk struct {
	Time      *lab.Quantity `json:"time,omitempty"`
	Exposures *int          `json:"exposures,omitempty"`
}

// Proposal is a request to run a protocol with inputs.
type Proposal struct {
	Kind       string                `json:"kind"`
	ID         string                `json:"id"`
	Key        string                `json:"key"` // (principal, key) is one proposal, for ever
	Campaign   string                `json:"campaign,omitempty"`
	Protocol   *ProtocolRef          `json:"protocol,omitempty"`
	Inline     string                `json:"protocol_inline,omitempty"` // the text of a protocol file
	Inputs     map[string]lab.Value  `json:"inputs,omitempty"`
	Hypothesis string                `json:"hypothesis,omitempty"`
	Predicts   map[string]Prediction `json:"predicts,omitempty"`
	NotAfter   *time.Time            `json:"not_after,omitempty"`
	Budget     *BudgetAsk            `json:"budget,omitempty"`
	Priority   string                `json:"priority,omitempty"` // low, normal, high; empty: normal
	Model      string                `json:"model,omitempty"`
	Labels     map[string]string     `json:"labels,omitempty"`
	Samples    []string              `json:"samples,omitempty"`
}

// The decisions of a verdict.
const (
	AcceptedDecision      = "accepted"
	RejectedDecision      = "rejected"
	NeedsApprovalDecision = "needs_approval"
)

// Verdict is the answer to a proposal, with every issue at once.
type Verdict struct {
	Envelope
	Proposal  string      `json:"proposal"`
	Key       string      `json:"key,omitempty"`
	Principal string      `json:"principal"`
	Decision  string      `json:"decision"`
	Run       string      `json:"run,omitempty"`
	Issues    lab.Issues  `json:"issues,omitempty"`
	Proved    []string    `json:"proved,omitempty"` // steps that no allowed reading can make break a rule
	Live      []LiveCheck `json:"live,omitempty"`   // steps that are checked when they run
	Bill      *Bill       `json:"bill,omitempty"`
	Hashes    Hashes      `json:"hashes"`
	Queue     *Place      `json:"queue,omitempty"`      // of a run: where it waits
	Approval  *Approvals  `json:"approval,omitempty"`   // needs_approval: of what, by whom, until when
	Stream    uint64      `json:"stream_seq,omitempty"` // where the proposal had no readable id
	Say       string      `json:"say"`
}

// LiveCheck is a step that stands under rules which only readings can decide.
type LiveCheck struct {
	Step    string   `json:"step"`
	Rules   []string `json:"rules,omitempty"`
	Signals []string `json:"signals,omitempty"`
}

// Bill is what a plan costs.
type Bill struct {
	Expected    lab.Quantity            `json:"expected"` // time
	Worst       lab.Quantity            `json:"worst"`    // time
	Exposures   int                     `json:"exposures"`
	Commands    int                     `json:"commands"` // at worst
	Consumption map[string]lab.Quantity `json:"consumption,omitempty"`
}

// Hashes say exactly what a verdict is about.
type Hashes struct {
	Protocol string `json:"protocol,omitempty"`
	Plan     string `json:"plan,omitempty"`
	Lab      string `json:"lab,omitempty"`
	Rules    string `json:"rules,omitempty"`
}

// Command asks a gateway for one operation.
type Command struct {
	Envelope
	ID         string               `json:"id"`
	Instrument string               `json:"instrument"`
	Component  string               `json:"component"`
	Command    string               `json:"command"`
	Args       map[string]lab.Value `json:"args,omitempty"`
	Principal  string               `json:"principal"`
	Run        string               `json:"run,omitempty"`
	Campaign   string               `json:"campaign,omitempty"` // budgets may count by it
	Step       string               `json:"step,omitempty"`
	Lease      uint64               `json:"lease"`
	Finally    bool                 `json:"finally,omitempty"` // a step of the run's finally
	NotAfter   time.Time            `json:"not_after"`
	Samples    []string             `json:"samples,omitempty"`
	Labels     map[string]string    `json:"labels,omitempty"`
}

// Lab turns the document into the vocabulary's command.
func (c *Command) Lab() lab.Command {
	return lab.Command{ID: c.ID, Target: lab.CommandID{Instrument: c.Instrument, Component: c.Component, Command: c.Command},
		Args: c.Args, Principal: c.Principal, Run: c.Run, Campaign: c.Campaign, Step: c.Step, Lease: c.Lease, NotAfter: c.NotAfter, Samples: c.Samples, Labels: c.Labels}
}

// OutcomeQuery asks what became of a command, at any later time.
type OutcomeQuery struct {
	Envelope
	Command string `json:"command"`
}

// CommandReply answers a command or an outcome query: taken or not, and the
// outcome where there already is one.
type CommandReply struct {
	Envelope
	Command  string       `json:"command"`
	Known    bool         `json:"known"`    // the gateway has this id on record
	Accepted bool         `json:"accepted"` // the outcome follows on the outcome subject
	State    lab.State    `json:"state"`
	Issues   lab.Issues   `json:"issues,omitempty"`
	Outcome  *lab.Outcome `json:"outcome,omitempty"`
}

// Outcome says what became of a command. It is published after it is durable.
type Outcome struct {
	Envelope
	Instrument string      `json:"instrument"`
	Component  string      `json:"component"`
	Name       string      `json:"name"` // the command's
	Run        string      `json:"run,omitempty"`
	Step       string      `json:"step,omitempty"`
	Principal  string      `json:"principal,omitempty"`
	Outcome    lab.Outcome `json:"outcome"`
	Ref        lab.Ref     `json:"ref"` // its place in the gateway's journal
}

// The actions of a lease request.
const (
	LeaseTake    = "take"
	LeaseRenew   = "renew"
	LeaseRelease = "release"
)

// LeaseRequest asks for, prolongs or gives back a run's exclusive hold on one
// instrument.
type LeaseRequest struct {
	Envelope
	Action     string       `json:"action"`
	Instrument string       `json:"instrument"`
	Run        string       `json:"run"`
	Principal  string       `json:"principal"`
	Lease      uint64       `json:"lease,omitempty"` // renew, release
	TTL        lab.Quantity `json:"ttl"`
	PlanHash   string       `json:"plan_hash"`
	RulesHash  string       `json:"rules_hash"`
	Limits     []string     `json:"limits,omitempty"` // expressions over the lab's properties that must hold
	Telemetry  lab.Quantity `json:"telemetry"`        // least time between readings of a property
}

// LeaseReply answers a lease request.
type LeaseReply struct {
	Envelope
	Instrument string     `json:"instrument"`
	OK         bool       `json:"ok"`
	Lease      uint64     `json:"lease,omitempty"` // the fencing number
	Expires    time.Time  `json:"expires"`
	Issues     lab.Issues `json:"issues,omitempty"`
}

// Telemetry is one reading.
type Telemetry struct {
	Envelope
	Instrument string      `json:"instrument"`
	Component  string      `json:"component"`
	Property   string      `json:"property"`
	Reading    lab.Reading `json:"reading"`
}

// What a safety message says.
const (
	SafetyTrip        = "trip"
	SafetyReset       = "reset"
	SafetyAlarm       = "alarm" // raised, acknowledged or returned to normal
	SafetyRefusal     = "refusal"
	SafetyStop        = "stop"
	SafetyLeaseLost   = "lease_lost"
	SafetyLink        = "link"   // an instrument's link went up or down
	SafetyBypass      = "bypass" // a person set a rule aside, until a moment
	SafetyRearm       = "rearm"  // a bypass has ended
	SafetyAcknowledge = "acknowledge"
	SafetyRules       = "rules" // other rules are in force
	SafetyState       = "state" // what stands now; told every ten seconds, for whoever missed a message
)

// Safety tells of a trip, a reset, an alarm, a refusal, a stop, a lost lease,
// a bypass or new rules.
type Safety struct {
	Envelope
	What        string     `json:"what"`
	Rule        string     `json:"rule,omitempty"`
	Group       string     `json:"group,omitempty"`
	FirstOut    bool       `json:"first_out,omitempty"`
	Priority    string     `json:"priority,omitempty"` // alarms: low, medium, high, critical
	Instruments []string   `json:"instruments,omitempty"`
	Runs        []string   `json:"runs,omitempty"`       // that are touched
	RunAction   string     `json:"run_action,omitempty"` // abort, hold
	Command     string     `json:"command,omitempty"`
	Principal   string     `json:"principal,omitempty"`
	Inputs      []lab.Used `json:"inputs,omitempty"`
	Say         string     `json:"say"`

	Mitigates []string      `json:"mitigates,omitempty"`  // trip: commands that pass in spite of its latch
	HoldFor   *lab.Quantity `json:"hold_for,omitempty"`   // run_action hold: then it is an abort
	Until     *time.Time    `json:"until,omitempty"`      // bypass: re-armed then
	Alarm     *Alarm        `json:"alarm,omitempty"`      // alarms of the rules: their whole state
	RulesHash string        `json:"rules_hash,omitempty"` // rules: those in force now
	Issues    lab.Issues    `json:"issues,omitempty"`     // an alarm about a file: what is wrong with it
	Latches   []Standing    `json:"latches,omitempty"`    // state: every latch of this gateway
}

// Standing is a latch that stands.
type Standing struct {
	Rule        string   `json:"rule"`
	Instruments []string `json:"instruments,omitempty"` // empty: all
	Mitigates   []string `json:"mitigates,omitempty"`   // commands that pass all the same
	Say         string   `json:"say"`
}

// Stop asks every gateway to bring one or all instruments to their safe state.
type Stop struct {
	Kind       string `json:"kind"`
	ID         string `json:"id"`
	Instrument string `json:"instrument,omitempty"` // empty: all
	Principal  string `json:"principal"`
	Reason     string `json:"reason"`
}

// StopReply says what a gateway did about a stop.
type StopReply struct {
	Envelope
	ID          string            `json:"id"`
	Gateway     string            `json:"gateway"`
	Instruments map[string]string `json:"instruments"` // name to "confirmed", "ordered", "kept" or what went wrong
}

// The actions of a control message.
const (
	ControlQueue    = "queue"    // query: what waits, in order, and why
	ControlMove     = "move"     // put a run that waits before another
	ControlRemove   = "remove"   // take a run that waits out of the queue
	ControlApproval = "approval" // query: what is to be approved, in full

	ControlStock       = "stock"        // query: lots, samples and calibrations
	ControlStockChange = "stock_change" // a person changes them; not for agents

	ControlAbort   = "abort"   // end a run through its finally
	ControlCancel  = "cancel"  // the same, asked by the owner: the result is not wanted
	ControlHold    = "hold"    // keep a run where it is, for a time
	ControlRelease = "resume"  // let a held run go on
	ControlAnswer  = "answer"  // a person answers a step that asks
	ControlReset   = "reset"   // clear a latch
	ControlResolve = "resolve" // settle a command in doubt
	ControlVerdict = "verdict" // query: the verdict of a proposal
	ControlOutcome = "outcome" // query: a command's outcome
	ControlRuns    = "runs"    // query: the runs, with their states
	ControlStatus  = "status"  // query: latches, doubts, links

	ControlTrips       = "trips"       // query: the status with trips, bypasses and alarms in full; not for agents
	ControlBypass      = "bypass"      // set a rule aside for a time
	ControlRearm       = "rearm"       // end a bypass now
	ControlAcknowledge = "acknowledge" // an alarm was seen
	ControlReload      = "reload"      // read the interlocks file again
)

// GatewayActions are the control actions that gateways serve; the rest are the
// runner's.
var GatewayActions = []string{ControlReset, ControlResolve, ControlStatus, ControlOutcome, ControlTrips, ControlBypass, ControlRearm, ControlAcknowledge, ControlReload}

// Control is what a principal asks of the runner and the gateways. Agents may
// only query, and abort or cancel their own runs.
type Control struct {
	Kind    string        `json:"kind"`
	ID      string        `json:"id"`
	Action  string        `json:"action"`
	Run     string        `json:"run,omitempty"`
	Rule    string        `json:"rule,omitempty"`    // reset, bypass, rearm, acknowledge: the rule's id; reset: or "stop"
	Command string        `json:"command,omitempty"` // resolve, outcome
	Key     string        `json:"key,omitempty"`     // verdict
	As      string        `json:"as,omitempty"`      // resolve: done, not_done, partly; answer: yes, no
	Step    string        `json:"step,omitempty"`    // answer: the path of the step that asks
	Before  string        `json:"before,omitempty"`  // move: the run that it goes before; empty: first of all
	For     *lab.Quantity `json:"for,omitempty"`     // bypass, hold: how long
	Amount  *lab.Quantity `json:"amount,omitempty"`  // resolve: how much was done, of partly
	Reason  string        `json:"reason,omitempty"`
	// Stock is what a stock_change does.
	Stock *StockChange `json:"stock,omitempty"`
	// Values are what the answer holds, by the names that the step gives.
	Values map[string]lab.Value `json:"values,omitempty"`
}

// ControlReply answers a control message.
type ControlReply struct {
	Envelope
	ID      string       `json:"id"`
	OK      bool         `json:"ok"`
	Say     string       `json:"say"`
	Issues  lab.Issues   `json:"issues,omitempty"`
	Verdict *Verdict     `json:"verdict,omitempty"`
	Outcome *lab.Outcome `json:"outcome,omitempty"`
	Runs    []RunInfo    `json:"runs,omitempty"`
	Queue   []QueueInfo  `json:"queue,omitempty"`
	Shown   *Approvable  `json:"shown,omitempty"` // approval: what is approved, in full
	Stock   *Stock       `json:"stock,omitempty"`
	Status  *Status      `json:"status,omitempty"`
}

// Ask is what a step asks of a person.
type Ask struct {
	Step   string     `json:"step"`
	Text   string     `json:"text"`
	By     string     `json:"by"` // operator, scientist, safety, anyone
	Until  time.Time  `json:"until"`
	Sample string     `json:"sample,omitempty"`
	Gives  []AskedFor `json:"gives,omitempty"` // what a yes holds
}

// AskedFor is one value of an answer.
type AskedFor struct {
	Name    string     `json:"name"`
	About   string     `json:"about,omitempty"`
	Type    string     `json:"type"` // number, integer, bool, enum
	Unit    string     `json:"unit,omitempty"`
	Choices []string   `json:"choices,omitempty"`
	Min     *lab.Value `json:"min,omitempty"`
	Max     *lab.Value `json:"max,omitempty"`
	Default *lab.Value `json:"default,omitempty"` // none: it must be given
}

// RunInfo is one run in a list.
type RunInfo struct {
	Run       string               `json:"run"`
	Principal string               `json:"principal"`
	Protocol  string               `json:"protocol"`
	State     string               `json:"state"`
	Step      string               `json:"step,omitempty"`
	Started   time.Time            `json:"started"`
	Ended     *time.Time           `json:"ended,omitempty"`
	HeldUntil *time.Time           `json:"held_until,omitempty"` // by a person or a trip, then it is aborted; or by a failed step, then its policy says
	Standing  []string             `json:"standing,omitempty"`   // while it is held: what it has set and not ended, and what of it is under way
	Asks      []Ask                `json:"asks,omitempty"`       // what people are asked now
	InDoubt   []string             `json:"in_doubt,omitempty"`   // commands
	Outputs   map[string]lab.Value `json:"outputs,omitempty"`
	Position  int                  `json:"position,omitempty"` // in the queue, from 1
	Priority  string               `json:"priority,omitempty"` // low, normal, high
	Approval  *Approvals           `json:"approval,omitempty"` // where it needs one
	Say       string               `json:"say,omitempty"`
}

// Status is what a gateway knows of itself. Trips, bypasses and alarms are not
// told to agents.
type Status struct {
	Gateway   string       `json:"gateway"`
	Latches   []Latch      `json:"latches,omitempty"`
	InDoubt   []Doubt      `json:"in_doubt,omitempty"`
	Unsettled []Doubt      `json:"unsettled,omitempty"` // over, and it is not known how much was done: rules count the worse way
	Links     []LinkStatus `json:"links,omitempty"`
	Ready     bool         `json:"ready"` // every instrument answered, every input is good
	RulesHash string       `json:"rules_hash,omitempty"`
	Trips     []Trip       `json:"trips,omitempty"`
	Bypasses  []Bypass     `json:"bypasses,omitempty"`
	Alarms    []Alarm      `json:"alarms,omitempty"`
}

// Trip is a latch in full: what its inputs were and are, and whether a reset
// would be taken.
type Trip struct {
	Rule        string     `json:"rule"`
	Group       string     `json:"group"`
	FirstOut    bool       `json:"first_out"` // the first of its group
	Since       time.Time  `json:"since"`
	Instruments []string   `json:"instruments,omitempty"`
	Say         string     `json:"say"`
	Then        []lab.Used `json:"inputs_then,omitempty"`
	Now         []lab.Used `json:"inputs_now,omitempty"`
	Healthy     bool       `json:"healthy"`       // a reset would be taken
	Why         string     `json:"why,omitempty"` // why it would not
}

// Bypass is a rule that a person has set aside.
type Bypass struct {
	Rule   string    `json:"rule"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"` // re-armed by itself
}

// Alarm is an alarm that is active, or that nobody has acknowledged.
type Alarm struct {
	Rule         string     `json:"rule"`
	Priority     string     `json:"priority"`
	Say          string     `json:"say"`
	Response     string     `json:"response,omitempty"` // what to do
	Since        time.Time  `json:"since"`
	Active       bool       `json:"active"`
	Acknowledged bool       `json:"acknowledged"`
	By           string     `json:"by,omitempty"` // who acknowledged it
	Inputs       []lab.Used `json:"inputs,omitempty"`
}

// Latch is a trip that a person has not reset.
type Latch struct {
	Rule  string     `json:"rule"`
	Group string     `json:"group"`
	Since time.Time  `json:"since"`
	Say   string     `json:"say"`
	Then  []lab.Used `json:"inputs_then,omitempty"`
}

// Doubt is a command that may or may not have happened.
type Doubt struct {
	Command    string    `json:"command"`
	Instrument string    `json:"instrument"`
	Component  string    `json:"component"`
	Name       string    `json:"name"`
	Run        string    `json:"run,omitempty"`
	Step       string    `json:"step,omitempty"`
	Since      time.Time `json:"since"`
	Say        string    `json:"say"`
}

// LinkStatus is an instrument's connection.
type LinkStatus struct {
	Instrument string `json:"instrument"`
	Up         bool   `json:"up"`
	Epoch      uint64 `json:"epoch"`
	Identity   string `json:"identity,omitempty"`
	Insecure   bool   `json:"insecure,omitempty"`
	Say        string `json:"say,omitempty"`
}

// Body marshals any of these documents; they always can be.
func Body(doc any) json.RawMessage {
	b, err := json.Marshal(doc)
	if err != nil {
		// Only a number that is not finite can't be written; no document is
		// made of one, so this is a bug worth a loud end.
		panic("messages: " + err.Error())
	}
	return b
}
