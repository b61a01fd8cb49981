package twin

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"labgate/gateway"
	"labgate/lab"
	"labgate/messages"
	"labgate/runner"
)

// trace is the record of everything, one line each: seconds since the start,
// the part, < for an event that it got, > for an action that it asked for, =
// for what happened, ! for what was done to it, and what it was. Values are
// written in full, so that nothing differs unseen; what is long is cut and
// named by its hash.
type trace struct {
	start time.Time
	buf   bytes.Buffer
}

func (t *trace) line(now time.Time, part, sign, what string) {
	d := now.Sub(t.start)
	fmt.Fprintf(&t.buf, "%6d.%09d %-8s %s %s\n", d/time.Second, d%time.Second, part, sign, what)
}

const longest = 400 // bytes of a document or a value in a line

// clip writes a text on one line, cut to its beginning and a hash of it all.
func clip(b []byte) string {
	if bytes.ContainsFunc(b, unicode.IsControl) {
		b = strconv.AppendQuote(nil, string(b))
	}
	if len(b) > longest {
		sum := sha256.Sum256(b)
		return fmt.Sprintf("%s… (%d bytes, %x)", strings.ToValidUTF8(string(b[:longest]), "?"), len(b), sum[:8])
	}
	return string(b)
}

func doc(x any) string { return clip(messages.Body(x)) }

func sayErr(err error) string {
	if err == nil {
		return ""
	}
	return ", " + err.Error()
}

func sayReading(r lab.Reading) string {
	v := r.Value.String()
	if r.Value.Kind == lab.Number {
		v = strconv.FormatFloat(r.Value.Num, 'g', -1, 64) + " " + r.Value.Unit.String()
	}
	if r.Quality != lab.Good {
		v += " " + r.Quality.String()
	}
	return v
}

func sayEntry(e lab.Entry) string {
	b, err := json.Marshal(e)
	if err != nil {
		return e.Kind + " can't be written: " + err.Error()
	}
	return clip(b)
}

func sayEntries(list []lab.Entry) string {
	kinds := make([]string, len(list))
	for i, e := range list {
		kinds[i] = e.Kind
		for _, x := range []string{e.Instrument, e.Command} {
			if x != "" {
				kinds[i] += " " + x
			}
		}
	}
	return strings.Join(kinds, ", ")
}

func sayRefs(refs []lab.Ref, err error) string {
	if len(refs) > 0 {
		return fmt.Sprintf(" %d to %d", refs[0].Seq, refs[len(refs)-1].Seq)
	}
	return sayErr(err)
}

func sayCommand(c lab.Command) string { return c.Target.String() + " " + doc(c) }

func sayGatewayEvent(ev gateway.Event) string {
	switch e := ev.(type) {
	case gateway.Asked:
		return fmt.Sprintf("asked finally %v %s", e.Finally, sayCommand(e.Command))
	case gateway.OutcomeAsked:
		return "outcome asked " + e.Command
	case gateway.LeaseAsked:
		return "lease asked " + doc(e.Request)
	case gateway.StopAsked:
		return fmt.Sprintf("stop asked %s %q by %s: %s", e.ID, e.Instrument, e.Principal, e.Reason)
	case gateway.ResetAsked:
		return fmt.Sprintf("reset asked %s %s by %s: %s", e.ID, e.Rule, e.Principal, e.Reason)
	case gateway.ResolveAsked:
		return fmt.Sprintf("resolve asked %s %s as %s by %s: %s", e.ID, e.Command, e.As, e.Principal, e.Reason)
	case gateway.StatusAsked:
		return "status asked"
	case gateway.BypassAsked:
		return fmt.Sprintf("bypass asked %s %s by %s until %s: %s", e.ID, e.Rule, e.Principal, e.Until.Format(time.RFC3339Nano), e.Reason)
	case gateway.UnbypassAsked:
		return fmt.Sprintf("rearm asked %s %s by %s: %s", e.ID, e.Rule, e.Principal, e.Reason)
	case gateway.AcknowledgeAsked:
		return fmt.Sprintf("acknowledge asked %s %s by %s", e.ID, e.Rule, e.Principal)
	case gateway.RulesLoaded:
		if e.Rules == nil {
			return "rules not loaded" + sayErr(e.Err)
		}
		return "rules loaded " + e.Rules.Hash + sayErr(e.Err)
	case gateway.Readings:
		parts := make([]string, len(e.Samples))
		for i, s := range e.Samples {
			parts[i] = s.ID.String() + " " + sayReading(s.Reading)
		}
		return "readings " + strings.Join(parts, ", ")
	case gateway.Refreshed:
		return "refreshed " + e.Command
	case gateway.Durable:
		return fmt.Sprintf("durable %d%s", e.Token, sayRefs(e.Refs, e.Err))
	case gateway.Exchanged:
		return fmt.Sprintf("exchanged %s acked %v %s%s", e.Command, e.Acked, doc(e.Values), sayErr(e.Err))
	case gateway.LaneDone:
		return fmt.Sprintf("lane done %s acked %v%s", e.ID, e.Acked, sayErr(e.Err))
	case gateway.LinkUp:
		return fmt.Sprintf("link up %s epoch %d %s", e.Instrument, e.Epoch, e.Identity)
	case gateway.LinkLost:
		return fmt.Sprintf("link lost %s: %s", e.Instrument, e.Say)
	case gateway.Looked:
		return "looked " + e.Command
	case gateway.ClockTrust:
		return "clock trust " + e.Why
	case gateway.Tick:
		return "tick"
	}
	return fmt.Sprintf("%T", ev)
}

func sayGatewayAction(a gateway.Action) string {
	switch a := a.(type) {
	case gateway.Answer:
		return "answer " + doc(a.Message)
	case gateway.Look:
		return "look " + a.Command
	case gateway.Snap:
		return "snapshot"
	case gateway.Refresh:
		names := make([]string, len(a.Properties))
		for i, id := range a.Properties {
			names[i] = id.String()
		}
		return fmt.Sprintf("refresh %s %s", a.Command, strings.Join(names, ", "))
	case gateway.Append:
		return fmt.Sprintf("append %d %s", a.Token, sayEntries(a.Entries))
	case gateway.Note:
		return "note " + sayEntries(a.Entries)
	case gateway.Send:
		return fmt.Sprintf("send %s %s, permit until %s", a.Command.Target, a.Command.ID, a.Permit.NotAfter().Format(time.RFC3339Nano))
	case gateway.Lane:
		return fmt.Sprintf("lane %s %s (%s: %s)", a.ID, a.Order.Target(), a.Order.Origin(), a.Order.Why())
	case gateway.Publish:
		return "publish " + doc(a.Message)
	}
	return fmt.Sprintf("%T", a)
}

func sayRunnerEvent(ev runner.Event) string {
	switch e := ev.(type) {
	case runner.Proposed:
		return fmt.Sprintf("proposed %d by %s %s", e.StreamSeq, e.Principal, clip(e.Data))
	case runner.Durable:
		return fmt.Sprintf("durable %d%s", e.Token, sayRefs(e.Refs, e.Err))
	case runner.Looked:
		return fmt.Sprintf("looked %s, answered: %t%s", e.Key, e.Verdict != nil, sayErr(e.Err))
	case runner.LeaseReplied:
		return fmt.Sprintf("lease replied %s %s %s%s", e.Run, e.Action, doc(e.Reply), sayErr(e.Err))
	case runner.CommandReplied:
		return fmt.Sprintf("command replied %s %s%s", e.Command, doc(e.Reply), sayErr(e.Err))
	case runner.OutcomeArrived:
		return "outcome " + doc(e.Outcome)
	case runner.ReadingArrived:
		return fmt.Sprintf("reading %s %s", e.ID, sayReading(e.Reading))
	case runner.SafetyArrived:
		return "safety " + doc(e.Safety)
	case runner.ControlAsked:
		return fmt.Sprintf("control asked by %s %s", e.Principal, doc(e.Control))
	case runner.RulesLoaded:
		return "rules loaded " + e.Rules.Hash + sayErr(e.Err)
	case runner.Tick:
		return "tick"
	}
	return fmt.Sprintf("%T", ev)
}

func sayRunnerAction(a runner.Action) string {
	switch a := a.(type) {
	case runner.Append:
		return fmt.Sprintf("append %d %s", a.Token, sayEntries(a.Entries))
	case runner.Note:
		return "note " + sayEntries(a.Entries)
	case runner.Look:
		return "look " + a.Key
	case runner.Snap:
		return "snapshot"
	case runner.Publish:
		return fmt.Sprintf("publish to %s %s", a.Principal, doc(a.Document))
	case runner.Acknowledge:
		return "acknowledge"
	case runner.Lease:
		return "lease " + doc(a.Request)
	case runner.Command:
		return "command " + doc(a.Command)
	case runner.Query:
		return "query " + a.Command
	case runner.LoadRules:
		return "load rules"
	case runner.Answer:
		return "answer " + doc(a.Message)
	}
	return fmt.Sprintf("%T", a)
}
