package drivertest

import (
	"context"
	"testing"
	"time"

	"labgate/drivers"
	"labgate/lab"
	"labgate/safety"
)

func (t *test) reads() {
	if e := t.epoch(); e != 0 {
		t.Errorf("epoch %d before the first connection, want 0", e)
	}
	t.connect()
	if t.epoch() == 0 {
		t.Error("connected, and still no epoch")
	}
	if t.rig.Identifies {
		id, err := t.rig.Link.Identify(t.within(), t.rig.Instrument)
		if err != nil || id == (drivers.Identity{}) {
			t.Errorf("identify: %+v, %v", id, err)
		}
	}
	Eventually(t.T, "all properties are good", t.read)
	before := time.Now()
	samples, err := t.rig.Link.Read(t.within(), t.rig.Instrument, t.rig.Properties)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range samples {
		r := s.Reading
		if s.ID != t.rig.Properties[i] {
			t.Errorf("sample %d is %s, asked was %s", i, s.ID, t.rig.Properties[i])
		}
		if r.Epoch != t.epoch() {
			t.Errorf("%s: epoch %d, the link is in %d", s.ID, r.Epoch, t.epoch())
		}
		if ok, why := r.Fresh(time.Now(), 2*patience); !ok {
			t.Errorf("%s: %s", s.ID, why)
		}
		if r.Received.After(time.Now()) || r.Received.Before(before.Add(-2*patience)) {
			t.Errorf("%s: received at %v, read at %v", s.ID, r.Received, before)
		}
	}
	t.readsNothing()
}

// readsNothing asks for what is not there.
func (t *test) readsNothing() {
	p := t.rig.Properties[0]
	p.Property = "no_such"
	samples, err := t.rig.Link.Read(t.within(), t.rig.Instrument, []lab.PropertyID{p})
	if err == nil && (len(samples) != 1 || samples[0].Reading.Quality == lab.Good) {
		t.Errorf("a property that is not there: %+v", samples)
	}
	if _, err := t.rig.Link.Read(t.within(), "no_such", nil); lab.KindOf(err) != lab.KindInvalid {
		t.Errorf("an instrument that is not there: %v", err)
	}
	if t.rig.Link.Epoch("no_such") != 0 {
		t.Error("an instrument that is not there has an epoch")
	}
}

func (t *test) oneEffect() {
	t.connect()
	cmd := t.rig.Effect()
	before := time.Now()
	res, err := t.rig.Link.Exchange(t.within(), cmd, t.permit(cmd))
	if err != nil {
		t.Fatal(err)
	}
	if res.Sent.Before(before) || res.Sent.After(time.Now()) {
		t.Errorf("sent at %v; the call began at %v", res.Sent, before)
	}
	Eventually(t.T, "the effect happened", func() bool { return t.rig.Effects() > 0 })
	t.effects(1)
}

func (t *test) noPermit() {
	t.connect()
	cmd, other := t.rig.Effect(), t.rig.Effect()
	changed := t.rig.Effect()
	kept := t.permit(changed)
	changed.Principal = "somebody_else"
	revoked := t.permit(cmd)
	safety.RevokeTestPermit(t.T, revoked, "the test took it back")
	for _, c := range []struct {
		name   string
		cmd    *lab.Command
		permit *safety.Permit
		kind   lab.Kind
	}{
		{"none", cmd, nil, lab.KindDenied},
		{"zero", cmd, &safety.Permit{}, lab.KindDenied},
		{"for another command", cmd, t.permit(other), lab.KindDenied},
		{"for the command before it was changed", changed, kept, lab.KindDenied},
		{"of an earlier epoch", cmd, t.h.Permit(t.T, cmd, t.epoch()-1), lab.KindDenied},
		{"of a later epoch", cmd, t.h.Permit(t.T, cmd, t.epoch()+1), lab.KindDenied},
		{"revoked", cmd, revoked, lab.KindDenied},
		{"ended", cmd, safety.NewTestPermit(t.T, cmd, t.epoch(), time.Now().Add(-time.Millisecond)), lab.KindExpired},
	} {
		t.Run(c.name, func(x *testing.T) {
			res, err := t.rig.Link.Exchange(t.within(), c.cmd, c.permit)
			if lab.KindOf(err) != c.kind || err == nil {
				x.Errorf("%v, want kind %s", err, c.kind)
			}
			if res.Acked || !res.Sent.IsZero() {
				x.Errorf("%+v", res)
			}
		})
	}
	t.effects(0)
}

func (t *test) spent() {
	t.connect()
	cmd := t.rig.Effect()
	permit := t.permit(cmd)
	if _, err := t.rig.Link.Exchange(t.within(), cmd, permit); err != nil {
		t.Fatal(err)
	}
	if _, err := t.rig.Link.Exchange(t.within(), cmd, permit); lab.KindOf(err) != lab.KindDenied {
		t.Errorf("a spent permit: %v", err)
	}
	t.effects(1)
}

func (t *test) notConnected() {
	cmd := t.rig.Effect()
	permit := t.h.Permit(t.T, cmd, 0)
	if _, err := t.rig.Link.Exchange(t.within(), cmd, permit); !nothingHappened(err) {
		t.Errorf("exchange: %v", err)
	}
	if _, err := t.rig.Link.Read(t.within(), t.rig.Instrument, t.rig.Properties); err == nil {
		t.Error("it reads without a connection")
	}
	t.connect()
	t.effects(0)
}

func (t *test) stops() {
	t.connect()
	cmd := t.rig.Effect()
	if _, err := t.rig.Link.Exchange(t.within(), cmd, t.permit(cmd)); err != nil {
		t.Fatal(err)
	}
	res, err := t.rig.Link.Stop(t.within(), t.h.Order(t.T, t.rig.Stop))
	if err != nil {
		t.Fatal(err)
	}
	if res.Sent.IsZero() {
		t.Error("no time of sending")
	}
	Eventually(t.T, "the stop arrived", func() bool { return t.rig.Stops() > 0 })
	t.effects(1)
}

func (t *test) noOrder() {
	t.connect()
	unsafe := t.rig.Effect().Target
	for name, order := range map[string]*safety.Order{"none": nil, "zero": {}, "for a command that is not safe": t.h.Order(t.T, unsafe),
		"for another instrument": t.h.Order(t.T, lab.CommandID{Instrument: "no_such", Component: t.rig.Stop.Component, Command: t.rig.Stop.Command})} {
		if _, err := t.rig.Link.Stop(t.within(), order); !nothingHappened(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.effects(0)
	if n := t.rig.Stops(); n != 0 {
		t.Errorf("%d stops", n)
	}
}

func (t *test) lostAnswer() {
	if t.rig.LoseAnswer == nil {
		t.Skip("the counterpart can't")
	}
	t.connect()
	t.rig.LoseAnswer()
	cmd := t.rig.Effect()
	res, err := t.rig.Link.Exchange(t.within(), cmd, t.permit(cmd))
	if lab.KindOf(err) != lab.KindOutcomeUnknown {
		t.Errorf("%v, want an unknown outcome", err)
	}
	if res.Acked || res.Sent.IsZero() {
		t.Errorf("%+v", res)
	}
	t.effects(1) // and never again
	again := t.rig.Effect()
	if _, err := t.rig.Link.Exchange(t.within(), again, t.permit(again)); err != nil {
		t.Fatalf("the next command: %v", err)
	}
	t.effects(2)
}

func (t *test) mute() {
	if t.rig.Mute == nil {
		t.Skip("the counterpart can't")
	}
	t.connect()
	before := t.epoch()
	t.rig.Mute(true)
	start := time.Now()
	Eventually(t.T, "silence shows", func() bool { return !t.read() })
	if d := time.Since(start); d > patience {
		t.Errorf("reading from a mute counterpart took %v", d)
	}
	cmd := t.rig.Effect()
	if _, err := t.rig.Link.Exchange(t.within(), cmd, t.permit(cmd)); err == nil {
		t.Error("a mute counterpart acknowledged")
	} else if k := lab.KindOf(err); !nothingHappened(err) && k != lab.KindOutcomeUnknown {
		t.Errorf("exchange: %v", err)
	}
	t.rig.Mute(false)
	if err := t.rig.Link.Connect(t.within()); err != nil {
		t.Fatal(err)
	}
	Eventually(t.T, "it reads again", t.read)
	if t.epoch() <= before {
		t.Errorf("epoch %d before, %d after", before, t.epoch())
	}
	if n := t.rig.Effects(); n > 1 {
		t.Errorf("%d effects of one command", n)
	}
}

func (t *test) reconnect() {
	t.connect()
	first := t.epoch()
	cmd := t.rig.Effect()
	old := t.permit(cmd)
	t.connect()
	if t.epoch() <= first {
		t.Fatalf("epoch %d after %d", t.epoch(), first)
	}
	if _, err := t.rig.Link.Exchange(t.within(), cmd, old); lab.KindOf(err) != lab.KindDenied {
		t.Errorf("a permit of the epoch before: %v", err)
	}
	t.effects(0)
}

func (t *test) restart() {
	if t.rig.Restart == nil {
		t.Skip("the counterpart can't")
	}
	t.connect()
	Eventually(t.T, "all properties are good", t.read)
	first := t.epoch()
	cmd := t.rig.Effect()
	old := t.permit(cmd)
	t.rig.Restart()
	Eventually(t.T, "the loss is told", func() bool { t.read(); return len(t.sink.Losses()) > 0 })
	Eventually(t.T, "it is back in a new epoch", func() bool {
		if t.read() && t.epoch() > first {
			return true
		}
		_ = t.rig.Link.Connect(t.within()) // the owner's part; the next read tells
		return false
	})
	if _, err := t.rig.Link.Exchange(t.within(), cmd, old); lab.KindOf(err) != lab.KindDenied {
		t.Errorf("a permit of the epoch before: %v", err)
	}
	t.effects(0)
}

func (t *test) cancelled() {
	t.connect()
	Eventually(t.T, "all properties are good", t.read)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	late, stop := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer stop()
	for name, ctx := range map[string]context.Context{"cancelled": cancelled, "past its deadline": late} {
		cmd := t.rig.Effect()
		res, err := t.rig.Link.Exchange(ctx, cmd, t.permit(cmd))
		if !nothingHappened(err) || !res.Sent.IsZero() {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
	t.effects(0)
}

func (t *test) closes() {
	t.connect()
	Eventually(t.T, "all properties are good", t.read)
	if t.rig.Mute != nil {
		t.rig.Mute(true)
	}
	done := make(chan bool)
	go func() {
		defer close(done)
		for t.rig.Link.Epoch(t.rig.Instrument) > 0 { // until Close makes it fail
			_, err := t.rig.Link.Read(context.Background(), t.rig.Instrument, t.rig.Properties)
			if err != nil {
				return
			}
		}
	}()
	start := time.Now()
	for range 2 {
		if err := t.rig.Link.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("a call outlives Close")
	}
	if d := time.Since(start); d > patience/2 {
		t.Errorf("closing took %v", d)
	}
	cmd := t.rig.Effect()
	if _, err := t.rig.Link.Exchange(t.within(), cmd, t.permit(cmd)); !nothingHappened(err) {
		t.Errorf("exchange after close: %v", err)
	}
	t.revives()
	if n := t.rig.Effects(); n != 0 {
		t.Errorf("%d effects", n)
	}
}

// revives checks a connection after Close: there may be none, but not half of
// one.
func (t *test) revives() {
	before := t.epoch()
	if t.rig.Mute != nil {
		t.rig.Mute(false)
	}
	if err := t.rig.Link.Connect(t.within()); err != nil {
		return
	}
	if t.epoch() <= before {
		t.Errorf("epoch %d before it was closed, %d after it was opened again", before, t.epoch())
	}
	Eventually(t.T, "it reads again", t.read)
	if err := t.rig.Link.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}
