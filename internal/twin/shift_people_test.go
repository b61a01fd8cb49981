package twin_test

import (
	"slices"
	"strings"
	"time"

	"labgate/internal/twin"
	"labgate/lab"
	"labgate/messages"
)

// trouble plans what goes wrong: instruments fail and recover, rules trip,
// somebody stops the bench, the process is killed.
func (s *shift) trouble() {
	fault := func(instrument, name string, lasts time.Duration) func() {
		return func() {
			s.counts["faults"]++
			if err := s.w.World().Fault(instrument, name, true, nil); err != nil {
				s.Fatal(err)
			}
			s.w.At(lasts, name+" of "+instrument+" is over", func() {
				if err := s.w.World().Fault(instrument, name, false, nil); err != nil {
					s.Fatal(err)
				}
			})
		}
	}
	knob := func(name string, to, back float64, lasts time.Duration) func() {
		return func() {
			s.counts["upsets"]++
			set(s, s.w, name, to)
			s.w.At(lasts, name+" is as before", func() { set(s, s.w, name, back) })
		}
	}
	for _, x := range []struct {
		what  string
		times int
		do    func() func()
	}{
		{"a pump refuses", 3, func() func() { return fault("pump_a", "refuse", s.between(time.Minute, 6*time.Minute)) }},
		{"a pump does nothing", 2, func() func() { return fault("pump_b", "actuator_dead", s.between(time.Minute, 4*time.Minute)) }},
		{"the heater does nothing", 9, func() func() {
			return fault("reactor", "actuator_dead.jacket", s.between(2*time.Minute, 9*time.Minute))
		}},
		{"the spectrometer is silent", 4, func() func() { return fault("spectrometer", "freeze", s.between(time.Minute, 8*time.Minute)) }},
		{"the stage is silent", 2, func() func() { return fault("stage", "freeze", s.between(time.Minute, 5*time.Minute)) }},
		{"the camera refuses", 3, func() func() { return fault("camera", "refuse", s.between(time.Minute, 9*time.Minute)) }},
		{"the cell breaks down", 2, func() func() { return fault("cell", "breakdown", s.between(time.Minute, 20*time.Minute)) }},
		{"the hood fails", 4, func() func() { return knob("room.airflow", 0, 0.5, s.between(time.Minute, 6*time.Minute)) }},
		{"the door is open", 12, func() func() { return knob("room.door_closed", 0, 1, s.between(20*time.Second, 4*time.Minute)) }},
		{"the button", 2, func() func() { return knob("room.emergency", 1, 0, s.between(20*time.Second, 4*time.Minute)) }},
		{"the reactor is too hot", 1, func() func() {
			return func() { s.counts["upsets"]++; set(s, s.w, "reactor.temperature", 99) }
		}},
		{"stop the stage", 1, func() func() { return func() { s.counts["stops"]++; s.w.Stop("stage") } }},
		{"stop everything", 1, func() func() { return func() { s.counts["stops"]++; s.w.Stop("") } }},
	} {
		for range x.times {
			s.w.At(s.between(s.last/60, s.last), x.what, x.do())
		}
	}
	for n := range 3 {
		from, to := time.Duration(n)*s.last/3+s.last/60, time.Duration(n+1)*s.last/3-s.last/10
		at := s.between(from, to)
		s.w.At(at, "a pump is to lose its power", func() { s.during = append(s.during, "power lost") })
		at = s.between(from, to)
		s.w.At(at, "the process is to be killed", func() { s.during = append(s.during, "killed") })
	}
}

// pumping reports whether a dose is under way.
func (s *shift) pumping(w *twin.Twin) bool {
	return w.World().Pump("pump_a").Running() || w.World().Pump("pump_b").Running()
}

// pass lets some time pass. What is planned for a moment at which a pump runs
// happens at the first such moment: that is when it hurts.
func (s *shift) pass(d time.Duration) {
	s.Helper()
	if len(s.during) == 0 {
		pass(s, s.w, d)
		return
	}
	if err := s.w.Run(s.pumping, d); err != nil {
		if lab.KindOf(err) != lab.KindExpired {
			s.Fatal(err)
		}
		return
	}
	pass(s, s.w, s.between(0, 3*time.Second))
	what := s.during[0]
	s.during = s.during[1:]
	s.counts[what+" while a pump ran"]++
	if what == "killed" {
		s.kills = append(s.kills, s.w.Now())
		if err := s.w.Restart(); err != nil {
			s.Fatal(err)
		}
		return // some instruments may be silent still
	}
	for _, pump := range []string{"pump_a", "pump_b"} {
		if s.w.World().Pump(pump).Running() {
			s.w.World().Reboot(pump)
		}
	}
}

// ask sends a control message, and counts what came of it.
func (s *shift) ask(who, what string, c messages.Control) messages.ControlReply {
	s.Helper()
	c.ID, c.Reason = s.id(), "seen"
	r := ask(s, s.w, who, c)
	if r.OK {
		s.counts[what]++
	}
	return r
}

// people look in about once a minute, and do something about what they see, or
// leave it for later.
func (s *shift) people() {
	s.Helper()
	s.settle()
	for _, l := range s.w.Status().Latches {
		if s.chance(1, 5) {
			s.ask("operator_1", "resets", messages.Control{Action: messages.ControlReset, Rule: l.Rule})
		}
	}
	for _, r := range s.w.Runs() {
		switch {
		case r.Ended != nil:
		case r.State == "needs_approval":
			s.approve(r)
		case len(r.Asks) > 0 && s.chance(1, 3):
			s.ask("operator_1", "answers", messages.Control{Action: messages.ControlAnswer, Run: r.Run, Step: r.Asks[0].Step, As: []string{"yes", "no"}[s.rand.IntN(2)]})
		case r.State == "held" && s.chance(1, 8):
			s.ask("operator_1", "held runs let go on", messages.Control{Action: messages.ControlRelease, Run: r.Run})
		case r.State == "held" && s.chance(1, 25):
			s.ask("operator_1", "held runs aborted", messages.Control{Action: messages.ControlAbort, Run: r.Run})
		case r.State == "running" && s.chance(1, 150):
			s.ask(r.Principal, "runs cancelled", messages.Control{Action: messages.ControlCancel, Run: r.Run})
		}
	}
	if waiting := s.w.Waiting(); len(waiting) > 2 && s.chance(1, 6) {
		s.reorder(waiting)
	}
}

// reorder moves a run in the queue, or takes it out.
func (s *shift) reorder(waiting []messages.QueueInfo) {
	x, y := waiting[s.rand.IntN(len(waiting))], waiting[s.rand.IntN(len(waiting))]
	if s.chance(1, 4) {
		s.ask("operator_1", "taken out of the queue", messages.Control{Action: messages.ControlRemove, Run: x.Run})
		return
	}
	if r := s.ask(x.Principal, "", messages.Control{Action: messages.ControlMove, Run: x.Run, Before: y.Run}); r.OK {
		s.Errorf("%s reorders the queue: %+v", x.Principal, r)
	}
	before := y.Run
	if s.chance(1, 3) {
		before = ""
	}
	if s.ask("operator_1", "moves", messages.Control{Action: messages.ControlMove, Run: x.Run, Before: before}).OK {
		for _, q := range waiting { // those before it now stand behind it, or it behind those
			s.moves[q.Run] = s.moves[q.Run] || q.Run == x.Run
		}
	}
}

// approve is what people do about a run that needs them: some approve, some
// reject, and some wait until it is too late.
func (s *shift) approve(r messages.RunInfo) {
	say := func(who, decision, content string) messages.ControlReply {
		id := s.id()
		s.w.Approve(who, messages.Approval{ID: id, Run: r.Run, Decision: decision, Content: content, Reason: "seen"})
		run(s, s.w, time.Second, func(w *twin.Twin) bool { _, ok := w.Reply(id); return ok })
		reply, _ := s.w.Reply(id)
		return reply
	}
	switch {
	case s.chance(1, 20):
		if reply := say("planner_3", messages.ApproveDecision, r.Approval.Content); reply.OK {
			s.Errorf("an agent approves: %+v", reply)
		}
		if reply := say("operator_1", messages.ApproveDecision, "sha256:"+strings.Repeat("0", 64)); reply.OK && !slices.Contains(r.Approval.Given, "operator_1") {
			s.Errorf("something else is approved: %+v", reply)
		}
	case s.chance(1, 26):
		if say("operator_1", messages.ApproveDecision, r.Approval.Content).OK {
			s.counts["approvals"]++
		}
	case s.chance(1, 26):
		if say("safety_1", messages.ApproveDecision, r.Approval.Content).OK {
			s.counts["approvals"]++
		}
	case s.chance(1, 60):
		if say("safety_1", messages.RejectDecision, "").OK {
			s.counts["refusals"]++
		}
	}
}

// settle is what a person does about commands in doubt: they look at the pump,
// some time later, and say whether the dose is in the vessel. Half a dose they
// call done, so that it counts the worse way.
func (s *shift) settle() {
	s.Helper()
	status := s.w.Status()
	all := slices.Concat(status.InDoubt, status.Unsettled)
	for _, d := range all {
		if !s.chance(1, 4) {
			continue
		}
		if d.Name != "dose" {
			s.ask("operator_1", "doubts settled", messages.Control{Action: messages.ControlResolve, Command: d.Command, As: "done"})
			continue
		}
		if s.w.World().Pump(d.Instrument).Running() {
			continue
		}
		doses := s.doses()
		settled := doses.mL(func(id string) bool {
			open := slices.ContainsFunc(all, func(x messages.Doubt) bool { return x.Command == id })
			return doses.instrument[id] == d.Instrument && !open
		})
		out := s.w.World().Count(d.Instrument).Dispensed - (settled - s.extra[d.Instrument])
		as, said := "done", doses.volume[d.Command]
		if out < 0.005 {
			as, said = "not_done", 0
		}
		if s.ask("operator_1", "doubts settled", messages.Control{Action: messages.ControlResolve, Command: d.Command, As: as}).OK {
			s.extra[d.Instrument] += said - out
			s.counts["doses settled as "+as]++
			return // the next one another time: the journal has to say this first
		}
	}
}
