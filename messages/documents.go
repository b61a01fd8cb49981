package messages

import (
	"time"

	"labgate/lab"
)

// The documents of a run use the names and meaning of the Bluesky event model:
// a start, descriptors that say what the events will hold, events, resources
// for what is too large, and a stop.

// RunStart opens a run.
type RunStart struct {
	Envelope
	UID        string                `json:"uid"` // the run
	Principal  string                `json:"principal"`
	Proposal   string                `json:"proposal"`
	Campaign   string                `json:"campaign,omitempty"`
	Protocol   ProtocolRef           `json:"protocol"`
	Inputs     map[string]lab.Value  `json:"inputs"`
	Roles      map[string]string     `json:"roles"` // role to instrument
	Hypothesis string                `json:"hypothesis,omitempty"`
	Predicts   map[string]Prediction `json:"predicts,omitempty"`
	Hashes     Hashes                `json:"hashes"`
	Labels     map[string]string     `json:"labels,omitempty"`
	Samples    []string              `json:"samples,omitempty"`
	Lots       map[string]string     `json:"lots,omitempty"`   // sample to lot, of those that the protocol names
	Loaded     map[string]string     `json:"loaded,omitempty"` // instrument to lot, as it begins
}

// RunDescriptor says what the events of one step will hold.
type RunDescriptor struct {
	Envelope
	UID      string             `json:"uid"`
	RunStart string             `json:"run_start"`
	Name     string             `json:"name"` // the step
	DataKeys map[string]DataKey `json:"data_keys"`
}

// DataKey is the type of one value of an event.
type DataKey struct {
	DType  string `json:"dtype"` // number, integer, boolean, string, table, image
	Unit   string `json:"units,omitempty"`
	Source string `json:"source"` // instrument.component.command
}

// RunEvent is one measurement or one step's end.
type RunEvent struct {
	Envelope
	UID        string               `json:"uid"`
	Descriptor string               `json:"descriptor"`
	RunStart   string               `json:"run_start"`
	SeqNum     int                  `json:"seq_num"` // from 1 within the descriptor
	Step       string               `json:"step"`
	Command    string               `json:"command,omitempty"`
	Data       map[string]lab.Value `json:"data"`
	Outcome    lab.State            `json:"outcome"`
	Ref        lab.Ref              `json:"ref"` // the outcome in the gateway's journal
	Say        string               `json:"say,omitempty"`
	Samples    []string             `json:"samples,omitempty"` // that it is about
	// Lots are those that were loaded, by instrument; Calibrations those of what
	// it was measured by. Quality is uncertain where one of them is overdue.
	Lots         map[string]string `json:"lots,omitempty"`
	Calibrations []string          `json:"calibrations,omitempty"`
	Quality      string            `json:"quality,omitempty"`
	Ask          *Ask              `json:"ask,omitempty"` // a person is asked; the answer is another event
}

// RunResource announces bytes that lie beside the journal.
type RunResource struct {
	Envelope
	UID      string      `json:"uid"`
	RunStart string      `json:"run_start"`
	Step     string      `json:"step"`
	Name     string      `json:"name"`
	Blob     lab.BlobRef `json:"blob"`
}

// Exit statuses of a run.
const (
	ExitSuccess = "success"
	ExitAbort   = "abort"
	ExitFail    = "fail"
)

// Score compares a prediction with the measurement.
type Score struct {
	Predicted Prediction   `json:"predicted"`
	Measured  lab.Quantity `json:"measured"`
	Error     float64      `json:"error"`       // measured - predicted, in the prediction's unit
	Z         *float64     `json:"z,omitempty"` // error in standard deviations, where one was given
}

// RunStop closes a run.
type RunStop struct {
	Envelope
	UID        string               `json:"uid"`
	RunStart   string               `json:"run_start"`
	ExitStatus string               `json:"exit_status"`
	Reason     string               `json:"reason,omitempty"`
	Rule       string               `json:"rule,omitempty"` // the interlock that ended it
	NumEvents  map[string]int       `json:"num_events"`
	Outputs    map[string]lab.Value `json:"outputs,omitempty"`
	Scores     map[string]Score     `json:"scores,omitempty"`
	Seconds    float64              `json:"seconds"`
	Started    time.Time            `json:"started"`
	// Consequence of a run that did not end well, for what was being made:
	// scrap, salvage or unknown.
	Consequence string `json:"consequence,omitempty"`
	// Samples is what became of those that a step judged: pass, reject, rework.
	Samples map[string]string `json:"samples,omitempty"`
}
