package dst

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/sim"
)

// proposals plans what agents and scientists ask for.
func (s *simulation) proposals(r *rand.Rand) (list []happening) {
	var who []string
	for _, p := range s.site.principals {
		if p.Role == "agent" || p.Role == "scientist" {
			who = append(who, p.Name)
		}
	}
	n := 1 + r.IntN(4)
	for i := range n {
		kind, by := agentKind(honest), pick(r, who)
		switch d := r.IntN(20); {
		case d == 0:
			kind = hostile
		case d == 1:
			kind = flooding
		case d < 5:
			kind = clumsy
		}
		at := between(r, time.Second, lastAsk)
		if i == 0 {
			at, kind = between(r, time.Second, 5*time.Second), honest
		}
		times := 1
		if chance(r, 1, 6) {
			times = 2
		}
		if kind == flooding {
			times = 3 + r.IntN(5)
		}
		list = append(list, happening{after: at, kind: "proposal", say: fmt.Sprintf("%s, who is %s, proposes (%d, %d times)", by, kind, i, times), do: func(s *simulation, r *rand.Rand) {
			data := s.site.proposal(r, kind, i, s.w.Now())
			for range times {
				s.check.proposed(by, data, kind == honest)
				s.w.Submit(by, data)
			}
		}})
	}
	return list
}

// visits plans when people look in.
func (s *simulation) visits(r *rand.Rand) (list []happening) {
	for at := between(r, 2*time.Second, 15*time.Second); at < trouble; at += between(r, 3*time.Second, 20*time.Second) {
		list = append(list, happening{after: at, kind: "visit", say: "somebody looks in", do: (*simulation).visit})
	}
	return list
}

// people of the laboratory, by role.
func (s *simulation) people(role string) (names []string) {
	for _, p := range s.site.principals {
		if p.Role == role {
			names = append(names, p.Name)
		}
	}
	return names
}

// visit is what somebody does who looks in while things go wrong: sometimes
// the right thing, sometimes something else.
func (s *simulation) visit(r *rand.Rand) {
	if !s.w.Awake() {
		return
	}
	operator := pick(r, s.people("operator"))
	s.doubts(r, operator, 3)
	for _, l := range s.w.Status().Latches {
		if chance(r, 1, 2) {
			s.ask(operator, messages.Control{Action: messages.ControlReset, Rule: l.Rule})
		}
	}
	for _, run := range s.w.Runs() {
		s.attend(r, operator, run)
	}
	if chance(r, 1, 6) {
		s.sneak(r)
	}
	if chance(r, 1, 10) {
		s.bypass(r)
	}
	if waiting := s.w.Waiting(); len(waiting) > 0 && chance(r, 1, 6) {
		c := messages.Control{Action: messages.ControlMove, Run: pick(r, waiting).Run, Before: pick(r, waiting).Run}
		if chance(r, 1, 3) {
			c = messages.Control{Action: messages.ControlRemove, Run: c.Run}
		}
		s.ask(operator, c)
	}
}

// attend does something about one run, or nothing.
func (s *simulation) attend(r *rand.Rand, operator string, run messages.RunInfo) {
	do := func(who, action string, in int) bool {
		yes := chance(r, 1, in)
		if yes {
			s.ask(who, messages.Control{Action: action, Run: run.Run})
		}
		return yes
	}
	switch {
	case run.Ended != nil:
	case run.State == "needs_approval":
		if chance(r, 1, 2) {
			s.approve(r, run)
		}
	case len(run.Asks) > 0 && chance(r, 1, 2):
		s.answer(r, operator, run)
	case run.State == "held":
		_ = do(operator, messages.ControlRelease, 2) || do(operator, messages.ControlAbort, 8)
	case run.State == "running":
		if chance(r, 1, 12) {
			d := lab.Seconds(between(r, 2*time.Second, 30*time.Second))
			s.ask(operator, messages.Control{Action: messages.ControlHold, Run: run.Run, For: &d})
			return
		}
		_ = do(operator, messages.ControlAbort, 16) || do(run.Principal, messages.ControlCancel, 16)
	}
}

func (s *simulation) answer(r *rand.Rand, operator string, run messages.RunInfo) {
	a := run.Asks[0]
	c := messages.Control{Action: messages.ControlAnswer, Run: run.Run, Step: a.Step, As: "yes"}
	for _, g := range a.Gives {
		if g.Default == nil {
			c.As = "no"
		}
	}
	if chance(r, 1, 4) {
		c.As = "no"
	}
	who := operator
	if names := s.people(a.By); len(names) > 0 {
		who = names[0]
	}
	s.ask(who, c)
}

// approve is a person's word on a run; sometimes on something else, sometimes
// an agent's.
func (s *simulation) approve(r *rand.Rand, run messages.RunInfo) {
	who := pick(r, slices.Concat(s.people("operator"), s.people("safety")))
	a := messages.Approval{ID: s.id("approval"), Run: run.Run, Decision: messages.ApproveDecision, Content: run.Approval.Content, Reason: "seen"}
	switch r.IntN(12) {
	case 0:
		a.Content = "sha256:" + strings.Repeat("0", 64)
	case 1:
		who = pick(r, s.people("agent"))
	case 2:
		a.Decision, a.Content = messages.RejectDecision, ""
	}
	s.check.approving(who, a, a.Content != run.Approval.Content && a.Decision == messages.ApproveDecision)
	s.w.Approve(who, a)
}

// doubts settles some of the commands in doubt. What reached its instrument a
// person finds done; what did not, not done.
func (s *simulation) doubts(r *rand.Rand, operator string, in int) {
	st := s.w.Status()
	for _, d := range slices.Concat(st.InDoubt, st.Unsettled) {
		if !chance(r, 1, in) {
			continue
		}
		as := "not_done"
		if s.check.reached(d.Command) {
			as = "done"
		}
		c := messages.Control{Action: messages.ControlResolve, Command: d.Command, As: as}
		if volume, ok := s.check.commands[d.Command].Args["volume"]; ok && as == "done" && d.Name == "dose" && chance(r, 1, 4) {
			part := volume.Quantity()
			part.Value /= 2
			c.As, c.Amount = "partly", &part
		}
		s.ask(operator, c)
	}
}

// sneak is an agent that asks for what only people may do.
func (s *simulation) sneak(r *rand.Rand) {
	st, runs := s.w.Status(), s.w.Runs()
	c := messages.Control{Action: messages.ControlReload}
	switch r.IntN(6) {
	case 0:
		if len(st.Latches) > 0 {
			c = messages.Control{Action: messages.ControlReset, Rule: pick(r, st.Latches).Rule}
		}
	case 1:
		if len(st.InDoubt) > 0 {
			c = messages.Control{Action: messages.ControlResolve, Command: pick(r, st.InDoubt).Command, As: "done"}
		}
	case 2:
		d := lab.Seconds(time.Minute)
		c = messages.Control{Action: messages.ControlBypass, Rule: pick(r, s.site.rules.Rules).ID, For: &d}
	case 3, 4:
		if len(runs) > 0 {
			c = messages.Control{Action: messages.ControlRelease, Run: pick(r, runs).Run}
		}
	}
	s.ask(pick(r, s.people("agent")), c)
}

func (s *simulation) bypass(r *rand.Rand) {
	d := lab.Seconds(between(r, time.Second, 20*time.Second))
	s.ask(pick(r, s.people("safety")), messages.Control{Action: messages.ControlBypass, Rule: pick(r, s.site.rules.Rules).ID, For: &d})
}

// ask sends a control message of a principal.
func (s *simulation) ask(who string, c messages.Control) {
	c.ID, c.Reason = s.id("control"), "seen"
	s.cover.met("asked: "+c.Action, s)
	s.check.asking(who, c)
	s.w.Control(who, c)
}

// comeToAnEnd ends all faults, and lets people help until everything is over:
// what is then still under way makes no progress.
func (s *simulation) comeToAnEnd() error {
	s.calm = true
	s.heal()
	if !s.w.Down() && (s.check.distrusted || s.check.failed || s.off != 0) {
		s.w.Kill()
	}
	s.setClock(0)
	s.rise(nil)
	r, since := draw(s.seed, 4), s.w.Now()
	for s.check.violation == nil {
		if err := s.pass(glance); err != nil {
			return err
		}
		past := s.w.Now().Sub(since)
		if s.help(r, past) {
			break
		}
		if past > calm {
			s.check.breaks("L1", "%s after the last fault these are not over: %s", lab.Seconds(past), s.unfinished())
		}
	}
	if s.check.violation != nil {
		return nil
	}
	if err := s.pass(20 * time.Second); err != nil { // leases run out, snapshots are taken
		return err
	}
	s.check.atTheEnd()
	return nil
}

// help is one look of people who do the right thing; true: all is over.
func (s *simulation) help(r *rand.Rand, past time.Duration) bool {
	operator := s.people("operator")[0]
	s.doubts(r, operator, 1)
	s.clearCell()
	st := s.w.Status()
	for _, l := range st.Latches {
		s.ask(operator, messages.Control{Action: messages.ControlReset, Rule: l.Rule})
	}
	over := len(st.InDoubt)+len(st.Unsettled) == 0 && len(st.Latches) == standing(st) && st.Ready && s.check.allAnswered()
	for _, run := range s.w.Runs() {
		if run.Ended != nil {
			continue
		}
		over = false
		switch {
		case run.State == "needs_approval":
			s.consent(run)
		case len(run.Asks) > 0:
			s.answer(r, operator, run)
		case run.State == "queued" && past > patience && standing(st) > 0: // it may wait for what nobody here can heal
			s.ask(operator, messages.Control{Action: messages.ControlRemove, Run: run.Run})
		case run.State == "held" && past > patience:
			s.ask(operator, messages.Control{Action: messages.ControlAbort, Run: run.Run})
		case run.State == "held":
			s.ask(operator, messages.Control{Action: messages.ControlRelease, Run: run.Run})
		}
	}
	return over
}

// standing counts the latches whose cause is there still: no reset is due.
func standing(st messages.Status) (n int) {
	for _, t := range st.Trips {
		if !t.Healthy {
			n++
		}
	}
	return n
}

// clearCell is what somebody does at the cell itself after a breakdown.
func (s *simulation) clearCell() {
	if s.site.lab.Instrument("cell") == nil {
		return
	}
	if cell := s.w.World().Cell(); cell.State() == sim.Aborted {
		if err := cell.Command(sim.PackClear); err != nil {
			panic(fmt.Sprintf("dst: the cell can't be cleared: %v", err))
		}
	}
}

// consent is everybody's approval who may approve.
func (s *simulation) consent(run messages.RunInfo) {
	for _, who := range slices.Concat(s.people("operator"), s.people("safety")) {
		if !slices.Contains(run.Approval.Given, who) {
			a := messages.Approval{ID: s.id("approval"), Run: run.Run, Decision: messages.ApproveDecision, Content: run.Approval.Content, Reason: "seen"}
			s.check.approving(who, a, false)
			s.w.Approve(who, a)
		}
	}
}

func (s *simulation) unfinished() string {
	var list []string
	for _, run := range s.w.Runs() {
		if run.Ended == nil {
			list = append(list, fmt.Sprintf("run %s is %s: %s", run.Run, run.State, run.Say))
		}
	}
	st := s.w.Status()
	for _, d := range slices.Concat(st.InDoubt, st.Unsettled) {
		list = append(list, fmt.Sprintf("command %s of %s: %s", d.Command, d.Instrument, d.Say))
	}
	for _, l := range st.Latches {
		list = append(list, "latch "+l.Rule)
	}
	for _, l := range st.Links {
		if !l.Up {
			list = append(list, "link "+l.Instrument)
		}
	}
	if !st.Ready {
		list = append(list, "the gateway is not ready")
	}
	if !s.check.allAnswered() {
		list = append(list, "a proposal has no verdict")
	}
	return strings.Join(list, "; ")
}
