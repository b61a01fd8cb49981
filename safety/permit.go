package safety

import (
	"fmt"
	"sync/atomic"
	"time"

	"labgate/lab"
)

// Permit is proof that the engine allowed exactly one command, now. It can't
// be made outside this package; the zero Permit and a nil one open nothing.
//
// It is bound to the command's bytes, the link epoch, the lease and the rules
// in force, and ends at the moment when the first reading that the decision
// stood on grows stale. It is spent once. Safe for concurrent use.
type Permit struct {
	command  [32]byte
	epoch    uint64
	lease    uint64
	rules    string
	notAfter time.Time
	state    atomic.Int32
	why      atomic.Pointer[string] // why it was revoked
}

const (
	permitNone    = iota // zero: never issued
	permitFresh          // issued
	permitSpent          // the first byte may have left
	permitRevoked        // taken back; no further byte may leave
)

// Spend is called by a driver immediately before the first byte. It succeeds
// once, for the command whose hash and epoch the permit carries, until the
// permit ends. The error is of KindDenied or KindExpired: nothing may be sent.
func (p *Permit) Spend(cmd *lab.Command, epoch uint64, now time.Time) error {
	const op = "safety: permit"
	switch {
	case p == nil:
		return lab.Ef(op, cmd.Target.Instrument, lab.KindDenied, "no permit")
	case p.command == [32]byte{} || p.command != cmd.Hash():
		return lab.Ef(op, cmd.Target.Instrument, lab.KindDenied, "it is for another command")
	case p.epoch != epoch:
		return lab.E(op, cmd.Target.Instrument, lab.KindDenied, fmt.Errorf("it is for link epoch %d, the link is in %d", p.epoch, epoch))
	case !now.Before(p.notAfter):
		return lab.Ef(op, cmd.Target.Instrument, lab.KindExpired, "its readings have grown stale")
	case p.state.CompareAndSwap(permitFresh, permitSpent):
		return nil
	case p.state.Load() == permitSpent:
		return lab.Ef(op, cmd.Target.Instrument, lab.KindDenied, "it is spent")
	}
	return p.Live(cmd)
}

// Live is called by a driver between the messages of one exchange: an error
// means that the permit was taken back and no further byte may leave.
func (p *Permit) Live(cmd *lab.Command) error {
	const op = "safety: permit"
	if p == nil {
		return lab.Ef(op, cmd.Target.Instrument, lab.KindDenied, "no permit")
	}
	switch p.state.Load() {
	case permitSpent:
		return nil
	case permitRevoked:
		why := "revoked"
		if w := p.why.Load(); w != nil {
			why += ": " + *w
		}
		return lab.Ef(op, cmd.Target.Instrument, lab.KindDenied, why)
	}
	return lab.Ef(op, cmd.Target.Instrument, lab.KindDenied, "not spent")
}

// spent reports whether the first byte may have left, and nothing took it back.
func (p *Permit) spent() bool { return p.state.Load() == permitSpent }

func (p *Permit) revoked() bool { return p.state.Load() == permitRevoked }

// revoke takes it back, spent or not. It comes before the stop is queued.
func (p *Permit) revoke(why string) { p.revokeFor(&why) }

func (p *Permit) revokeFor(why *string) {
	p.why.Store(why)
	p.state.Store(permitRevoked)
}

// Lease is the fencing number that the permit was issued under.
func (p *Permit) Lease() uint64 { return p.lease }

// Rules is the hash of the rules that allowed it.
func (p *Permit) Rules() string { return p.rules }

// NotAfter is when it ends.
func (p *Permit) NotAfter() time.Time { return p.notAfter }

// Origin is what gives access to the safe lane: not a label on a command, but
// where it comes from.
type Origin string

// The origins of the safe lane.
const (
	OriginTrip      Origin = "trip"
	OriginStop      Origin = "stop"
	OriginLostLease Origin = "lost_lease"
	OriginStopsWith Origin = "lost_permissive" // the command's own stop, after its permissive was lost or its permit revoked
	OriginStart     Origin = "start"           // the gateway's start, where the lab says on_start: safe
	OriginFinally   Origin = "finally"         // a run's finally, for commands in the instrument's safe list
)

// Order is the safe lane's counterpart of a permit: proof that the engine
// found the command safe by its class and named by the instrument's safe list
// or a trip. It can't be made outside this package. It does not expire: a
// stop is never too late.
type Order struct {
	target lab.CommandID
	args   map[string]lab.Value
	wait   time.Duration
	origin Origin
	why    string
}

// Args are the command's arguments, complete and in the class's units. Nobody
// may change them.
func (o *Order) Args() map[string]lab.Value { return o.args }

// Wait is how long the orders after this one wait; an order that waits has no
// target.
func (o *Order) Wait() time.Duration { return o.wait }

// Target is the command that the order is for.
func (o *Order) Target() lab.CommandID { return o.target }

// Origin is where it comes from.
func (o *Order) Origin() Origin { return o.origin }

// Why says it in words: the rule, the person, the run.
func (o *Order) Why() string { return o.why }
