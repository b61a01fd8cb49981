package gateway

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/safety"
)

// outcomeBody is an outcome as it is journalled.
type outcomeBody struct {
	lab.Outcome
	Content string `json:"content,omitempty"` // hash of what the command said, in hex
	End     string `json:"end,omitempty"`     // what the rules that count make of it: nothing, all, part, maybe
}

var endNames = map[safety.End]string{safety.MaybeDone: "maybe", safety.NothingDone: "nothing", safety.AllDone: "all", safety.PartDone: "part"}

// endOf says what a command with an outcome has done, for the rules that
// count. sent says that its link had it. Whatever is not known counts the
// worse way until something settles it.
func endOf(s *spec, o *lab.Outcome, sent bool) safety.End {
	switch o.State {
	case lab.Confirmed:
		return safety.AllDone
	case lab.NotSent, lab.Refused:
		return safety.NothingDone
	case lab.Superseded:
		if !sent {
			return safety.NothingDone
		}
	case lab.Partial:
		if o.Amount != nil {
			return safety.PartDone
		}
	case lab.Failed:
		switch {
		case o.Kind == lab.KindDeviceRefused:
			return safety.NothingDone
		case s != nil && s.Effect == lab.Acquire:
			return safety.AllDone // each try is charged
		}
	}
	return safety.MaybeDone
}

// finish makes an outcome durable, and publishes it after that. A command has
// one outcome: the first.
func (c *Core) finish(now time.Time, cmd *command, o lab.Outcome) {
	if cmd.phase == closing {
		return
	}
	o.Command, o.Started, o.Ended = cmd.ID, cmd.started, now
	if l := cmd.lost; l != nil && o.State != lab.Confirmed && len(o.Issues) == 0 {
		o.Issues = lab.Issues{{Code: "lost_permissive", Rule: l.Rule, Inputs: l.Inputs, Say: l.Say}} // the run's end names the rule
	}
	end := endOf(cmd.spec, &o, cmd.phase == sending || cmd.phase == watching || cmd.phase == stopping)
	cmd.phase, cmd.end = closing, end
	c.timers.remove(&cmd.timer)
	c.engine.Revoke(cmd.ID, "it is over")
	if end == safety.NothingDone {
		c.engine.NotSent(cmd.ID)
	}
	en := c.entry(now, "outcome/v1", cmd, outcomeBody{o, hex.EncodeToString(cmd.content[:]), endNames[end]})
	en.Key = outcomeKey + cmd.ID
	c.append(func(now time.Time, refs []lab.Ref, err error) {
		if err != nil {
			// Not durable, so not published. After the restart it is in doubt,
			// and so it is to everybody who asks until then.
			c.close(cmd, o.Ended, safety.MaybeDone, nil)
			c.answered[cmd.ID] = &lab.Outcome{Command: cmd.ID, State: lab.InDoubt, Kind: lab.KindOutcomeUnknown, Started: cmd.started, Ended: now,
				Say: fmt.Sprintf("its outcome could not be made durable: %v", err)}
			c.addDoubt(&doubt{cmd: cmd.Command, since: now, say: c.answered[cmd.ID].Say})
			return
		}
		c.close(cmd, o.Ended, end, o.Amount)
		c.answered[cmd.ID] = &o
		if cmd.laned { // as any order: what nobody confirmed has happened, and not in full
			if end == safety.MaybeDone {
				end = orderEnd(false)
			}
			c.engine.Settle(o.Ended, cmd.ID, end, o.Amount)
		}
		if o.State != lab.InDoubt && !cmd.laned {
			c.counted(o.Ended, &cmd.Command, &o, end)
		}
		c.publishOutcome(&cmd.Command, o, refs)
	}, en)
}

func (c *Core) publishOutcome(cmd *lab.Command, o lab.Outcome, refs []lab.Ref) {
	m := messages.Outcome{Instrument: cmd.Target.Instrument, Component: cmd.Target.Component, Name: cmd.Target.Command,
		Run: cmd.Run, Step: cmd.Step, Principal: cmd.Principal, Outcome: o}
	if len(refs) > 0 {
		m.Ref = refs[0]
	}
	c.do(Publish{m})
}

// refuse ends a command before anything of it was sent. The denial is
// journalled without waiting.
func (c *Core) refuse(now time.Time, cmd *command, issues lab.Issues) {
	o := lab.Outcome{Command: cmd.ID, State: lab.Refused, Kind: lab.KindDenied, Issues: issues, Say: issues[0].Say, Started: cmd.started, Ended: now}
	wasLive := c.live[cmd.ID] != nil
	c.timers.remove(&cmd.timer)
	c.close(cmd, now, safety.NothingDone, nil)
	c.answered[cmd.ID], c.known[cmd.ID] = &o, known{cmd.content, cmd.Principal}
	c.denial(now, cmd, o)
	c.do(Publish{messages.Safety{What: messages.SafetyRefusal, Rule: issues[0].Rule, Instruments: []string{cmd.Target.Instrument},
		Runs: nonEmpty(cmd.Run), Command: cmd.ID, Principal: cmd.Principal, Inputs: issues[0].Inputs, Say: o.Say}})
	if wasLive {
		c.publishOutcome(&cmd.Command, o, nil)
	}
}

// close forgets a live command. Its reservation ends with what it has done.
func (c *Core) close(cmd *command, at time.Time, end safety.End, amount *lab.Quantity) {
	if c.live[cmd.ID] != cmd {
		return
	}
	c.done(at, cmd.ID, end, amount)
	delete(c.live, cmd.ID)
	p := c.places[cmd.Target.Instrument]
	p.live = slices.DeleteFunc(p.live, func(o *command) bool { return o == cmd })
}

// counted keeps what has an outcome and is still counted the worse way, and
// settles what the outcome of another command has made certain: a setpoint
// that nobody could confirm is in force no more once a newer one is.
func (c *Core) counted(at time.Time, cmd *lab.Command, o *lab.Outcome, end safety.End) {
	p, s := c.places[cmd.Target.Instrument], c.specs[cmd.Target]
	if p == nil || s == nil || s.Effect == lab.Read {
		return
	}
	switch {
	case end == safety.MaybeDone:
		p.unsettled = append(p.unsettled, &doubt{cmd: *cmd, since: o.Ended, say: fmt.Sprintf("%s: %s", o.State, o.Say)})
	case o.State == lab.Confirmed && s.Effect != lab.Effectful && len(p.unsettled) > 0:
		p.unsettled = slices.DeleteFunc(p.unsettled, func(d *doubt) bool {
			if d.cmd.Target != cmd.Target || d.settling {
				return false
			}
			c.engine.Settle(at, d.cmd.ID, safety.AllDone, nil)
			return true
		})
	}
}

// addDoubt puts a command in doubt.
func (c *Core) addDoubt(d *doubt) {
	c.doubts[d.cmd.ID] = d
	if p := c.places[d.cmd.Target.Instrument]; p != nil {
		i, _ := slices.BinarySearchFunc(p.doubts, d.cmd.ID, byID)
		p.doubts = slices.Insert(p.doubts, i, d)
	}
}

func byID(d *doubt, id string) int { return strings.Compare(d.cmd.ID, id) }

// dropDoubt takes a command out of doubt, or out of what is unsettled.
func (c *Core) dropDoubt(d *doubt) {
	if c.doubts[d.cmd.ID] == d {
		delete(c.doubts, d.cmd.ID)
	}
	if p := c.places[d.cmd.Target.Instrument]; p != nil {
		is := func(x *doubt) bool { return x == d }
		p.doubts, p.unsettled = slices.DeleteFunc(p.doubts, is), slices.DeleteFunc(p.unsettled, is)
	}
}

// openDoubt finds a command that evidence or a person may settle: one in doubt,
// or one whose outcome leaves open how much was done.
func (c *Core) openDoubt(id string) *doubt {
	if d := c.doubts[id]; d != nil {
		return d
	}
	for _, n := range c.names {
		for _, d := range c.places[n].unsettled {
			if d.cmd.ID == id {
				return d
			}
		}
	}
	return nil
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
