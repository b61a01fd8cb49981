package messages

import (
	"time"

	"labgate/lab"
)

// KindStock is the kind of the journal's entries about lots, samples and
// calibrations: a StockChange that was made.
const KindStock = "stock/v1"

// What a StockChange does.
const (
	LotAdd      = "lot_add"     // register Lot
	LotLoad     = "lot_load"    // put lot ID into Instrument
	LotUnload   = "lot_unload"  // take lot ID out of where it is
	LotDiscard  = "lot_discard" // lot ID is not to be used any more
	SampleAdd   = "sample_add"  // register Sample
	SampleMove  = "sample_move" // sample ID is at Place now
	SampleUse   = "sample_use"  // sample ID is used up
	Calibration = "calibrate"   // Calibrated was calibrated
)

// StockChange is what a person does about matter and instruments. The reason of
// the control message goes with it.
type StockChange struct {
	What       string      `json:"what"`
	ID         string      `json:"id,omitempty"`
	Lot        *Lot        `json:"lot,omitempty"`
	Sample     *Sample     `json:"sample,omitempty"`
	Calibrated *Calibrated `json:"calibrated,omitempty"`
	Instrument string      `json:"instrument,omitempty"`
	Place      string      `json:"place,omitempty"`
}

// Lot is so much of one substance: where it came from, until when it is good.
type Lot struct {
	ID            string        `json:"id"`
	Substance     string        `json:"substance"`
	Concentration *lab.Quantity `json:"concentration,omitempty"`
	Amount        lab.Quantity  `json:"amount"` // when it was registered
	Expires       *time.Time    `json:"expires,omitempty"`

	// Told, never asked.
	In        string        `json:"in,omitempty"`       // the instrument that it is loaded in
	Left      *lab.Quantity `json:"left,omitempty"`     // at worst: what is in doubt counts as taken
	Reserved  *lab.Quantity `json:"reserved,omitempty"` // of what is left, for runs that are not over
	Discarded string        `json:"discarded,omitempty"`
}

// Sample is one thing that is made or looked at.
type Sample struct {
	ID    string `json:"id"`
	About string `json:"about,omitempty"`
	At    string `json:"at,omitempty"` // its place

	// Told, never asked.
	Run  string `json:"run,omitempty"`  // that made it; empty: a person registered it
	Used string `json:"used,omitempty"` // why it is not there any more
	Path []Stay `json:"path,omitempty"` // where it has been, the newest last
}

// Stay is a sample's time at a place.
type Stay struct {
	At    string    `json:"at"`
	Since time.Time `json:"since"`
	By    string    `json:"by"`
}

// Calibrated says that a property of an instrument was calibrated, and until
// when that holds.
type Calibrated struct {
	ID         string    `json:"id"`
	Instrument string    `json:"instrument"`
	Property   string    `json:"property,omitempty"` // component.property; empty: all of them
	Until      time.Time `json:"until"`
	By         string    `json:"by,omitempty"` // told, never asked
}

// Stock is everything that is registered.
type Stock struct {
	Lots         []Lot        `json:"lots,omitempty"`
	Samples      []Sample     `json:"samples,omitempty"`
	Calibrations []Calibrated `json:"calibrations,omitempty"`
}
