package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"labgate/internal/bus"
	"labgate/lab"
	"labgate/messages"
	"labgate/report"
)

// follower prints a proposal's way: verdict, steps, measurements, end.
type follower struct {
	a    *app
	s    *session
	p    messages.Proposal
	docs chan lab.Message
	run  string
	told string // why the run waits, as it was said
	lost bool   // the station did not answer the last time
	late bool   // the run is over, by its state; its stop document has not come

	early []lab.Message // documents of runs that came before the verdict
}

// maxEarly bounds what is kept before the verdict; the end of the run is asked
// for all the same.
const maxEarly = 256

func newFollower(a *app, s *session, p messages.Proposal) *follower {
	return &follower{a: a, s: s, p: p, docs: make(chan lab.Message, 4096)}
}

// listen opens the ears before anything is asked.
func (f *follower) listen() error {
	for _, subject := range []string{bus.Verdicts(f.s.lab, f.s.name), bus.Runs(f.s.lab, f.s.name, "*", "*")} {
		if err := f.s.Handle(f.a.ctx, subject, func(m lab.Message) {
			select {
			case f.docs <- m:
			default: // 4096 behind: the end of the run is asked for instead
			}
		}); err != nil {
			return err
		}
	}
	return nil
}

// follow ends with the run. What gets lost on the way is asked for.
func (f *follower) follow() error {
	ask := time.NewTicker(3 * time.Second)
	defer ask.Stop()
	for {
		select {
		case <-f.a.ctx.Done():
			return f.leave()
		case m := <-f.docs:
			if over, err := f.document(m); over || err != nil {
				return err
			}
		case <-ask.C:
			if over, err := f.ask(); over || err != nil {
				return err
			}
		}
	}
}

// leave ends the following, not the run.
func (f *follower) leave() error {
	say := fmt.Sprintf("left alone: run %s goes on (labgate runs %s; labgate abort %s)", f.run, f.run, f.run)
	if f.run == "" {
		say = "left alone: there is no verdict yet; if it is accepted it runs all the same (labgate runs)"
	}
	if f.a.json {
		f.a.line(map[string]string{"type": "left", "run": f.run, "say": say})
	}
	f.a.say("%s", say)
	return errRefused
}

// ask asks for the verdict, or whether the run is over. No answer is no end:
// it is asked again.
func (f *follower) ask() (over bool, err error) {
	c := messages.Control{Action: messages.ControlVerdict, Key: f.p.Key}
	if f.run != "" {
		c = messages.Control{Action: messages.ControlRuns, Run: f.run}
	}
	r, err := f.s.control(f.a.ctx, c)
	if errors.Is(err, nats.ErrConnectionClosed) {
		return true, fmt.Errorf("the connection is over for good (%w); what was asked for goes on (labgate runs)", err)
	}
	if err != nil {
		if !f.lost && f.a.ctx.Err() == nil {
			f.a.log(fmt.Sprintf("the station does not answer (%v); this goes on asking", err))
		}
		f.lost = true
		return false, nil
	}
	f.lost = false
	if f.run == "" {
		if r.Verdict == nil {
			return false, nil // not decided yet
		}
		return f.verdict(*r.Verdict)
	}
	if len(r.Runs) == 0 || len(f.docs) > 0 {
		return false, nil
	}
	i := r.Runs[0]
	if i.State == "held" && i.HeldUntil == nil {
		return true, fmt.Errorf("run %s is held: %s (labgate runs; labgate abort %s)", i.Run, i.Say, i.Run)
	}
	if i.Ended == nil {
		f.waits(i)
		return false, nil
	}
	if !f.late { // the document is perhaps on its way: until the next time
		f.late = true
		return false, nil
	}
	d := messages.RunStop{Envelope: messages.Envelope{Kind: messages.KindRunStop}, UID: i.Run, RunStart: i.Run, ExitStatus: map[bool]string{true: messages.ExitSuccess, false: messages.ExitFail}[i.State == "done"], Reason: i.Say, Outputs: i.Outputs}
	if f.a.json {
		f.a.line(d)
	}
	return true, f.ended(d)
}

// waits says once why a run does not go on: it has not begun, or it is held for
// a time.
func (f *follower) waits(i messages.RunInfo) {
	if i.State != "queued" && i.State != "held" && i.State != "needs_approval" {
		f.told = ""
		return
	}
	if i.Say != "" && i.Say != f.told {
		f.told = i.Say
		f.a.log("run " + i.Run + " waits: " + i.Say)
	}
}

func (f *follower) document(m lab.Message) (over bool, err error) {
	if strings.Contains(m.Subject, ".verdicts.") {
		var v messages.Verdict
		if err := json.Unmarshal(m.Data, &v); err != nil || v.Proposal != f.p.ID || f.run != "" {
			return false, err
		}
		return f.verdict(v)
	}
	var head struct {
		Kind     string `json:"kind"`
		UID      string `json:"uid"`
		RunStart string `json:"run_start"`
	}
	if err := json.Unmarshal(m.Data, &head); err != nil {
		return false, err
	}
	if f.run == "" { // its verdict comes on another subscription, perhaps a moment later
		if len(f.early) < maxEarly {
			f.early = append(f.early, m)
		}
		return false, nil
	}
	if head.RunStart != f.run && head.UID != f.run {
		return false, nil
	}
	if f.a.json {
		fmt.Fprintln(f.a.out, string(m.Data))
	}
	switch head.Kind {
	case messages.KindRunStart:
		f.a.say("run %s has begun", f.run)
	case messages.KindRunEvent:
		var e messages.RunEvent
		if err := json.Unmarshal(m.Data, &e); err != nil {
			return false, err
		}
		if e.Ask != nil {
			f.a.say("  %-24s %s (labgate answer %s %s)", e.Step, e.Say, f.run, e.Step)
			return false, nil
		}
		f.a.say("  %-24s %s", e.Step, eventLine(e.Outcome, e.Data, e.Say))
	case messages.KindRunStop:
		var d messages.RunStop
		if err := json.Unmarshal(m.Data, &d); err != nil {
			return false, err
		}
		return true, f.ended(d)
	}
	return false, nil
}

// eventLine is what a step gave, or how it failed.
func eventLine(state lab.State, data map[string]lab.Value, say string) string {
	if state == lab.Confirmed {
		return strings.TrimSpace(report.Values(data) + " " + say)
	}
	return strings.TrimSpace(fmt.Sprintf("%s: %s %s", state, say, report.Values(data)))
}

func (f *follower) verdict(v messages.Verdict) (over bool, err error) {
	if f.a.json {
		f.a.line(v)
	}
	f.a.say("%s", v.Say)
	for _, i := range v.Issues {
		f.a.say("  %-18s %s", i.Code, i.Error())
	}
	if v.Run == "" {
		return true, errRefused
	}
	f.run = v.Run
	for _, m := range f.early {
		if over, err := f.document(m); over || err != nil {
			return over, err
		}
	}
	f.early = nil
	return false, nil
}

func (f *follower) ended(d messages.RunStop) error {
	f.a.say("run %s: %s %s", f.run, d.ExitStatus, d.Reason)
	for _, n := range sortedNames(d.Outputs) {
		f.a.say("  %-12s %s", n, d.Outputs[n])
	}
	if d.ExitStatus != messages.ExitSuccess {
		return errors.New("the run did not succeed: " + d.Reason)
	}
	f.a.say("export it: labgate export %s --to DIR", f.run)
	return nil
}
