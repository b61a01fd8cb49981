package dst

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
	"labgate/runner"
)

// gatewayTells looks at a document of the gateway that others will see.
func (c *checker) gatewayTells(doc any) {
	switch d := doc.(type) {
	case messages.Outcome:
		c.outcomeTold(&d.Outcome)
	case messages.Safety:
		if d.What == messages.SafetyAlarm {
			c.alarms = append(c.alarms, alarm{c.now, d.Instruments})
		}
	}
}

// outcomeTold: no result is visible before its outcome is durable. A refusal
// has no result.
func (c *checker) outcomeTold(o *lab.Outcome) {
	if o.State == lab.Refused {
		return
	}
	k := c.commands[o.Command]
	switch {
	case k == nil:
		c.breaks("O3", "an outcome of %s is told, which nobody has sent", o.Command)
	case k.outcome == nil && o.State == lab.InDoubt:
	case k.outcome == nil:
		c.breaks("O3", "command %s is told to be %s before that is durable", o.Command, o.State)
	case k.outcome.State != o.State && o.State != lab.InDoubt:
		c.breaks("O2", "command %s is told to be %s; the journal says %s", o.Command, o.State, k.outcome.State)
	}
}

// runnerDoes looks at what the runner asks for.
func (c *checker) runnerDoes(a runner.Action) {
	switch a := a.(type) {
	case runner.Publish:
		c.runnerTells(a)
	case runner.Answer:
		c.answered(a.Message)
	}
}

// runnerTells: what is published is durable before.
func (c *checker) runnerTells(a runner.Publish) {
	kind := ""
	switch d := a.Document.(type) {
	case messages.Verdict:
		if d.Run != "" {
			if r := c.runs[d.Run]; r == nil || r.principal != d.Principal {
				c.breaks("D1", "the verdict on run %s is told before it is durable", d.Run)
			}
		}
		return
	case messages.RunStart:
		kind = "start/v1"
	case messages.RunDescriptor:
		kind = "descriptor/v1"
	case messages.RunEvent:
		kind = "event/v1"
	case messages.RunResource:
		kind = "resource/v1"
	case messages.RunStop:
		kind = "stop_document/v1"
	default:
		return
	}
	r := c.run(a.Run)
	r.told[kind]++
	if r.durable[kind] == 0 {
		c.breaks("O3", "a %s document of run %s is told before it is durable", kind, a.Run)
	}
}

// proposed: somebody proposes something; what can be read has an answer by its
// key.
func (c *checker) proposed(who string, data []byte, readable bool) {
	var m struct{ Key string }
	if readable && json.Unmarshal(data, &m) == nil && m.Key != "" {
		c.keyed["verdict/"+who+"/key/"+m.Key] = true
	}
	key := who + "\x00" + string(data)
	if c.proposals[key] == nil {
		c.proposals[key] = &proposal{}
		c.inlined(data)
	}
	c.proposals[key].times++
}

func (c *checker) asking(who string, m messages.Control) {
	c.asked[m.ID] = asked{who: who, action: m.Action, run: m.Run}
}

func (c *checker) approving(who string, a messages.Approval, wrong bool) {
	c.asked[a.ID] = asked{wrong: wrong, who: who, action: a.Decision, content: a.Content, run: a.Run}
}

// answered looks at the answer to what somebody asked for.
func (c *checker) answered(r messages.ControlReply) {
	q, ok := c.asked[r.ID]
	if ok && q.wrong && r.OK && !strings.Contains(r.Say, "already") {
		c.breaks("A1", "%s approves something else than run %s: %s", q.who, q.run, r.Say)
	}
	if !ok || !r.OK || c.s.role(q.who) != "agent" {
		return
	}
	own := c.runs[q.run] != nil && c.runs[q.run].principal == q.who
	if own && (q.action == messages.ControlAbort || q.action == messages.ControlCancel) {
		return
	}
	c.breaks("A2", "an agent (%s) is granted %s: %s", q.who, q.action, r.Say)
}

func (c *checker) leaseAsked(r messages.LeaseRequest) {
	in := c.instruments[r.Instrument]
	if in == nil || r.Action == messages.LeaseRelease {
		return
	}
	if d, err := r.TTL.Duration(); err == nil && (in.holder == r.Run || in.holder == "") {
		in.asked, in.ttl = c.now, d
	}
}

// stopBound is how long a stop may take to its instrument: one exchange that
// is under way, and the stops before it on the same wire.
const (
	stopBound  = 2 * time.Second
	toldWithin = 15 * time.Second // until people are told of one that has not arrived
)

// stopAsked: an emergency stop has arrived at the gateway.
func (c *checker) stopAsked(e gateway.StopAsked) {
	for _, n := range sortedKeys(c.instruments) {
		in := c.instruments[n]
		if e.Instrument != "" && e.Instrument != n || len(in.Safe) == 0 || !in.linked {
			continue
		}
		c.stops = append(c.stops, &stop{instrument: n, at: c.now, by: c.now.Add(stopBound), id: e.ID})
	}
}

// stopDue: by now a stop has reached its instrument, or people have been told
// that it did not.
func (c *checker) stopDue(s *stop) {
	in := c.instruments[s.instrument]
	if !in.stopSeen.Before(s.at.Add(-stopBound)) || !c.now.Before(c.pausedTill) && c.now.Sub(c.pausedTill) < 2*stopBound {
		return
	}
	if c.s.troubled(s.instrument) || !in.faulty.Before(s.at.Add(-stopBound)) {
		if c.now.Sub(s.at) < toldWithin {
			c.stops = append(c.stops, &stop{s.instrument, s.at, s.at.Add(toldWithin), s.id})
			return
		}
		if !slices.ContainsFunc(c.alarms, func(a alarm) bool { return !a.at.Before(s.at) && slices.Contains(a.instruments, s.instrument) }) {
			c.breaks("S7", "a stop has not reached %s, and nobody is told", s.instrument)
		}
		return
	}
	c.breaks("S7", "a stop has not reached %s within %s", s.instrument, stopBound)
}
