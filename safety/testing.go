package safety

import (
	"testing"
	"time"

	"labgate/lab"
)

// NewTestPermit makes a permit for the tests of drivers and their owners: for
// exactly cmd in the given link epoch, until notAfter. Outside a test binary
// it panics: no running gateway can make a permit but by its engine.
func NewTestPermit(t testing.TB, cmd *lab.Command, epoch uint64, notAfter time.Time) *Permit {
	t.Helper()
	onlyInTests()
	p := &Permit{command: cmd.Hash(), epoch: epoch, lease: cmd.Lease, rules: "sha256:test", notAfter: notAfter}
	p.state.Store(permitFresh)
	return p
}

// RevokeTestPermit takes a test's permit back, as the engine would.
func RevokeTestPermit(t testing.TB, p *Permit, why string) {
	t.Helper()
	onlyInTests()
	p.revoke(why)
}

// NewTestOrder makes an order of the safe lane, as from a person's stop. Only
// in test binaries.
func NewTestOrder(t testing.TB, target lab.CommandID) *Order {
	t.Helper()
	onlyInTests()
	return &Order{target: target, origin: OriginStop, why: t.Name()}
}

func onlyInTests() {
	if !testing.Testing() {
		panic("safety: test permits exist only in test binaries")
	}
}
