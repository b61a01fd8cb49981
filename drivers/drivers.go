// Package drivers is the contract between the gateway and the wires.
//
// A Link is the live connection to all instruments at one address: a serial
// line with its pumps, an OPC UA server, a broker's client. One goroutine of
// the gateway owns a Link and makes every call; a Link is not safe for
// concurrent use, except for Epoch and Close. A Link never sends an effect
// without a Permit that it has spent, never retries, never decides.
//
// drivertest is the conformance suite that every Link passes.
package drivers

import (
	"context"
	"time"

	"labgate/lab"
	"labgate/safety"
)

// Link is one live connection. Every call takes a context and honours its
// deadline; errors are *lab.Error with a kind that says what may be assumed:
// KindNotSent before the effect began, KindOutcomeUnknown after, KindDenied
// for a permit that opens nothing, KindDeviceRefused for a device that said no.
type Link interface {
	// Connect opens the wire and runs each instrument's init exchanges. It may
	// be called again after a failure; every success begins a new epoch for
	// each instrument.
	Connect(ctx context.Context) error
	// Identify asks an instrument who it is.
	Identify(ctx context.Context, instrument string) (Identity, error)
	// Read asks for properties of one instrument, now. A property that can't
	// be read is a sample of bad quality, not an error; an error means that the
	// link itself failed.
	Read(ctx context.Context, instrument string, properties []lab.PropertyID) ([]lab.Sample, error)
	// Exchange sends one command. The permit is spent before the first byte
	// and asked again between messages. A nil error means the device took it
	// (Result.Acked) or gave no sign (not Acked): confirmation is by read-back.
	Exchange(ctx context.Context, cmd *lab.Command, permit *safety.Permit) (Result, error)
	// Stop sends a safe command, with the order's arguments, for the safe lane.
	Stop(ctx context.Context, order *safety.Order) (Result, error)
	// Epoch of an instrument; it grows whenever the device may have lost state.
	// Safe for concurrent use.
	Epoch(instrument string) uint64
	// Close releases the wire and joins the link's goroutines; it unblocks any
	// call under way. Connect may open the link again: that is how a wedged one
	// is broken open. Safe for concurrent use.
	Close() error
}

// Identity is what a device says of itself.
type Identity struct {
	Maker, Model, Serial, Version string
}

// Result is what came back from an exchange.
type Result struct {
	Acked  bool                 // the device positively took the command
	Values map[string]lab.Value // results that the device returned, in the class's units; blobs with their bytes
	Sent   time.Time            // when the effect's first byte left; zero if it had none
}

// Sink takes what arrives by itself. Calls must not block and may come from
// any goroutine of the link.
type Sink interface {
	// Samples delivers readings that the device sent unasked.
	Samples([]lab.Sample)
	// Lost says that the whole link is gone ("": the owner connects again), or
	// that one of its instruments does not answer or may have lost its state
	// (the link itself goes on; the instrument's next epoch says that it is
	// back).
	Lost(instrument string, err error)
}

// Config is what a Link is made from. The constructor does no I/O.
type Config struct {
	Instruments []*lab.Instrument // all at one address
	Sink        Sink
	Clock       lab.Clock
	// Address resolves an instrument's link at each Connect: "sim:pumps" becomes
	// a device's path, "embedded" the broker's URL with user and password.
	Address func(*lab.Instrument) (map[string]string, error)
}

// Opener makes a Link of one wire.
type Opener func(Config) (Link, error)

// Key is the address that instruments share: one Link serves all instruments
// with the same key.
func Key(in *lab.Instrument) string {
	k := string(in.Profile.Link.Kind) + " "
	switch in.Profile.Link.Kind {
	case lab.LinkSerial:
		return k + in.Link["port"]
	case lab.LinkOPCUA:
		return k + in.Link["endpoint"]
	case lab.LinkMQTT:
		// One client an instrument: a broker isolates them from each other.
		return k + in.Link["broker"] + " " + in.Link["prefix"]
	}
	return k + in.Name
}
