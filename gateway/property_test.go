package gateway_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
)

// TestAnyOrder draws orders of events that no shell would produce on purpose,
// with crashes and failures between them. What must hold for every Send and
// every outcome is checked by the shell of these tests: at most one Send of an
// effectful command, across crashes (S1), none before its intent is durable
// (S2), none with a permit that was taken back (S5), none after the journal
// failed (D3), no outcome before it is durable (O3). Here: none under another
// lease than the one in force (S8), none past its expiry (S9), one outcome a
// life of the process, and Next never in the past.
func TestAnyOrder(t *testing.T) {
	l, r := demoLab(t)
	sends := 0
	rapid.Check(t, func(t *rapid.T) {
		s := bareShell(t, l, r, nil)
		s.set("room.airflow = 0.5 m/s")
		s.connect()
		s.manual = true
		d := &drawn{T: t, s: s, told: map[string]int{}, args: map[string]string{}}
		d.leaseAll()
		for range 60 {
			before := len(s.outcomes)
			d.event()
			d.check(before)
		}
		for _, n := range s.sent {
			sends += n
		}
	})
	if sends == 0 {
		t.Error("nothing was ever sent: this shows nothing")
	}
}

type drawn struct {
	*rapid.T
	s    *shell
	told map[string]int // outcomes since the process began
	args map[string]string
	seen int // sends that were checked
	snap *kept
}

func (d *drawn) pick(label string, n int) int { return rapid.IntRange(0, n-1).Draw(d.T, label) }

// event lets one thing happen.
func (d *drawn) event() {
	s := d.s
	switch d.pick("event", 20) {
	case 0, 1, 2, 3:
		d.ask()
	case 4, 5, 6:
		for len(s.appends) > 0 && d.pick("more", 3) > 0 {
			s.commit()
		}
	case 7, 8:
		if n := len(s.refreshes); n > 0 {
			i := d.pick("which", n)
			s.refreshes[0], s.refreshes[i] = s.refreshes[i], s.refreshes[0]
			s.refresh()
		}
	case 9, 10, 11:
		d.exchange()
	case 12:
		if len(s.lanes) > 0 {
			var err error
			if d.pick("fails", 4) == 0 {
				err = lab.Ef("test", "", lab.KindUnavailable, "no carrier")
			}
			s.write(d.pick("acked", 2) == 0, err)
		}
	case 13, 14:
		change := []string{"room.airflow = 0.1 m/s", "room.airflow = 0.5 m/s", "reactor.probe.temperature = 99 degC", "reactor.probe.temperature = 25 degC", "pump_a.running = true",
			"pump_a.running = false", "pump_a.dispensed = 1.1 mL", "pump_a.dispensed = 1.03 mL", "pump_a.dispensed = 1 mL", "reactor.heating = true", "reactor.setpoint = 50 degC"}
		s.set(change[d.pick("change", len(change))])
		s.read([]string{"", "pump_a", "room", "reactor", "pump_a reactor room"}[d.pick("who", 5)])
	case 15:
		s.quiet(time.Duration(d.pick("ms", 4000)) * time.Millisecond)
	case 16:
		d.lease()
	case 17:
		d.trouble()
	case 18:
		s.read()
		if !s.poisoned && d.pick("snapshot", 2) == 0 {
			d.snap = s.snapshot()
		}
	default:
		d.rare()
	}
}

// ask asks for one of a few commands, again and again.
func (d *drawn) ask() {
	s := d.s
	id := fmt.Sprint("c", d.pick("id", 8))
	if d.args[id] == "" {
		d.args[id] = []string{dose, "pump_b.dose volume=0.2 mL, rate=6 mL/min", "reactor.heat target=50 degC", "pump_a.stop", "camera.capture exposure=20 ms", "quench.dose volume=0.1 mL, rate=6 mL/min"}[d.pick("command", 6)]
	}
	c := s.command(id+" "+d.args[id], 0)
	if c.Lease = s.holds[c.Target.Instrument]; d.pick("lease", 6) == 0 {
		c.Lease = uint64(d.pick("fence", 3))
	}
	c.NotAfter = s.now.Add(time.Duration(d.pick("life", 4000)) * time.Millisecond)
	s.askFor(gateway.Asked{Command: c, Finally: d.pick("finally", 4) == 0})
}

func (d *drawn) exchange() {
	s := d.s
	n := len(s.sends)
	if n == 0 {
		return
	}
	i := d.pick("which", n)
	s.sends[0], s.sends[i] = s.sends[i], s.sends[0]
	var err error
	kinds := []lab.Kind{lab.KindOutcomeUnknown, lab.KindNotSent, lab.KindDeviceRefused, lab.KindInternal, lab.KindDenied}
	if k := d.pick("error", 12); k < len(kinds) {
		err = lab.Ef("test", "", kinds[k], "trouble")
	}
	s.exchange(d.pick("acked", 3) > 0, map[string]lab.Value{"sharpness": lab.IntegerValue(1)}, err)
}

var holders = []string{"pump_a", "pump_b", "reactor", "camera", "quench"}

// leaseAll gives the run all that it works with.
func (d *drawn) leaseAll() {
	for _, in := range holders {
		d.s.step(gateway.LeaseAsked{Request: messages.LeaseRequest{Action: messages.LeaseTake, Instrument: in, Run: "run", Principal: "planner_1", TTL: lab.Q(60, "s"), RulesHash: d.s.rules.Hash}})
	}
}

func (d *drawn) lease() {
	s := d.s
	in := holders[d.pick("instrument", len(holders))]
	action := []string{messages.LeaseTake, messages.LeaseTake, messages.LeaseRenew, messages.LeaseRelease}[d.pick("action", 4)]
	s.step(gateway.LeaseAsked{Request: messages.LeaseRequest{Action: action, Instrument: in, Run: "run", Principal: "planner_1", Lease: s.holds[in],
		TTL: lab.Quantity{Value: float64(1 + d.pick("ttl", 20)), Unit: lab.Second}, RulesHash: s.rules.Hash}})
}

func (d *drawn) trouble() {
	s := d.s
	in := []string{"pump_a", "pump_b", "reactor", "camera", "room"}[d.pick("instrument", 5)]
	switch d.pick("trouble", 4) {
	case 0:
		s.step(gateway.LinkLost{Instrument: in, Say: "no carrier"})
	case 1:
		s.step(gateway.LinkUp{Instrument: in, Epoch: s.epoch[in]})
	case 2:
		s.epoch[in]++
		s.step(gateway.LinkUp{Instrument: in, Epoch: s.epoch[in]})
	default:
		s.step(gateway.ClockTrust{Why: []string{"", "it was set"}[d.pick("trust", 2)]})
	}
}

func (d *drawn) rare() {
	s := d.s
	switch d.pick("rare", 6) {
	case 0:
		s.step(gateway.StopAsked{ID: "s", Instrument: []string{"", "pump_a"}[d.pick("all", 2)], Principal: "operator_1"})
	case 1:
		for _, x := range s.core.Engine().Latches() {
			s.step(gateway.ResetAsked{Rule: x.Rule, Principal: "operator_1", Reason: "drill"})
		}
	case 2:
		if s.broken = d.pick("broken", 3) == 0; s.broken {
			d.snap = nil // what it counts on may never become durable
		}
	case 3:
		s.step(gateway.ResolveAsked{Command: fmt.Sprint("c", d.pick("id", 8)), As: "done", Principal: "operator_1", Reason: "drill"})
	case 4:
		s.step(gateway.OutcomeAsked{Command: fmt.Sprint("c", d.pick("id", 8))})
	default: // a crash: only what is durable is left, the devices go on
		s.broken = false
		clear(d.told)
		d.seen = 0
		if d.snap != nil && d.snap.at <= len(s.journal) && d.pick("from", 2) == 0 {
			s.bootFrom(d.snap)
		} else {
			s.boot(s.journal)
		}
		d.snap = nil
		for _, n := range s.lab.Names() {
			s.epoch[n]++
			s.step(gateway.LinkUp{Instrument: n, Epoch: s.epoch[n]})
		}
		s.read()
		d.leaseAll()
	}
}

// check looks at what the last event led to.
func (d *drawn) check(before int) {
	s := d.s
	if next := s.core.Next(); !next.IsZero() && !next.After(s.now) {
		d.Fatalf("at %s Next is %s", s.now.Sub(t0), next.Sub(t0))
	}
	for ; d.seen < len(s.sends); d.seen++ {
		a := s.sends[d.seen]
		if a.Command.Lease != a.Permit.Lease() || !a.Permit.NotAfter().After(t0) || a.Permit.NotAfter().After(a.Command.NotAfter) {
			d.Fatalf("%s is sent under lease %d until %s with a permit of lease %d until %s", a.Command.ID, a.Command.Lease, a.Command.NotAfter, a.Permit.Lease(), a.Permit.NotAfter())
		}
	}
	d.seen = min(d.seen, len(s.sends))
	for _, m := range s.outcomes[min(before, len(s.outcomes)):] {
		o := m.Outcome
		if o.State == lab.Resolved {
			continue
		}
		if d.told[o.Command]++; d.told[o.Command] > 1 {
			d.Fatalf("%s has two outcomes:\n%s", o.Command, strings.Join(s.trace, "\n"))
		}
		if (o.State == lab.NotSent || o.State == lab.Refused) && s.spent[o.Command] {
			d.Fatalf("%s is %s, and its permit was spent:\n%s", o.Command, o.State, strings.Join(s.trace, "\n"))
		}
	}
}
