package dst

// planted is a deliberate fault: a patch of the source that only a test ever
// compiles.
type planted struct {
	name     string
	promises string // that it breaks
	does     string
	hunks    []hunk
}

// hunk replaces a text that is there exactly once.
type hunk struct{ file, old, new string }

func bug(name, promises, does, file, old, new string, more ...hunk) planted {
	return planted{name, promises, does, append([]hunk{{file, old, new}}, more...)}
}

// plantedBugs are the faults that the simulation is to notice. They are what a
// tired engineer might write: a condition dropped, an order turned round, a case
// forgotten.
var plantedBugs = []planted{
	// The commit sequence.
	bug("send before durable", "S2", "a command goes to its link while its intent is on the way to the disk", "gateway/command.go",
		"	c.append(func(now time.Time, _ []lab.Ref, err error) { c.intended(now, cmd, d.Permit, err) }, allow, intent)\n",
		"	c.append(nil, allow, intent)\n	c.intended(now, cmd, d.Permit, nil)\n"),
	bug("send after a failed commit", "S2 D3", "an intent that could not be made durable is sent all the same", "gateway/command.go",
		"	case err != nil:\n		c.finish(now, cmd, lab.Outcome{State: lab.NotSent, Kind: lab.KindUnavailable, Say: fmt.Sprintf(\"its intent could not be made durable: %v\", err)})\n", "",
		hunk{"gateway/command.go", "	case c.poisoned != nil:\n		c.finish(now, cmd, lab.Outcome{State: lab.NotSent, Kind: lab.KindUnavailable, Say: \"the journal failed\"})\n", ""}),
	bug("cancelled is sent", "S8 S11", "a command that was taken back while its intent was being written is sent", "gateway/command.go",
		"	case cmd.cancel != nil:\n		c.finish(now, cmd, *cmd.cancel)\n", ""),
	bug("outcome before durable", "O3", "an outcome is told while it is on the way to the disk", "gateway/outcome.go",
		"	en.Key = outcomeKey + cmd.ID\n	c.append(", "	en.Key = outcomeKey + cmd.ID\n	c.publishOutcome(&cmd.Command, o, nil)\n	c.append("),
	bug("duplicate is new", "S1 O2", "a second delivery of a command that is over runs it again", "gateway/command.go",
		"	if k, ok := c.known[cmd.ID]; ok {\n", "	if k, ok := c.known[cmd.ID]; ok && c.live[cmd.ID] != nil {\n"),
	bug("answered ids forgotten", "S1 O2", "a restart forgets which commands were answered", "gateway/restore.go",
		"	c.answered[e.Command] = &o\n	if _, have := c.known[e.Command]; !have || k.content != [32]byte{} {\n		c.known[e.Command] = k\n	}\n",
		"	c.answered[e.Command], _ = &o, k\n	delete(c.known, e.Command)\n"),
	bug("link takes the newest first", "O1", "what waits for a link goes out in the wrong order", "internal/twin/owner.go",
		"			a := o.sends[0]\n			o.sends = o.sends[1:]\n			o.exchange(a)\n", "			a := o.sends[len(o.sends)-1]\n			o.sends = o.sends[:len(o.sends)-1]\n			o.exchange(a)\n"),

	// Doubt.
	bug("restart forgets doubt", "S3", "an intent without an outcome is nothing special after a restart", "gateway/restore.go",
		"	c.addDoubt(&doubt{cmd: cmd, since: e.Time, say: \"the gateway went down before its outcome was known\"})\n", ""),
	bug("doubt bars nothing", "S3", "commands go to an instrument with a command in doubt", "gateway/admit.go",
		"	return p.doubts[0].cmd.ID\n", "	return \"\"\n"),
	bug("doubt settled by guess", "S3", "a dose in doubt counts as settled with the next reading", "gateway/record.go",
		"		case s.Effect == lab.Acquire:\n			say = ", "		case s.Effect != lab.Idempotent:\n			say = "),
	bug("time-out is failure", "S3 S10", "a command without an answer has failed, and that is that", "gateway/command.go",
		"		c.uncertain(now, cmd, err.Error())\n		return\n", "		o.State = lab.Failed\n"),
	bug("doubt counts nothing", "S10", "what is in doubt after a restart is in no sum", "gateway/restore.go",
		"	c.engine.Remember(e.Time, &cmd)\n", ""),
	bug("unknown frees the reservation", "S10", "an outcome that leaves open what was done gives back what was reserved", "gateway/outcome.go",
		"			return safety.AllDone // each try is charged\n		}\n	}\n	return safety.MaybeDone\n", "			return safety.AllDone // each try is charged\n		}\n	}\n	return safety.NothingDone\n"),
	bug("budgets forget what is under way", "S10", "a sum counts only what is over", "safety/count.go",
		"		return l.open.plus(l.spent)\n", "		return l.spent\n"),
	bug("part counts as nothing", "S10", "a dose that was broken off is not counted", "safety/count.go",
		"		c.led.spend(now, c.done(f, amount), c.acct.per)\n", ""),

	// Retries.
	bug("retry on time-out", "S4", "a step is tried again whatever it was", "runner/nodes.go",
		"	again := n.step.Spec.Effect != lab.Effectful && o.State != lab.InDoubt && n.tries <= n.step.OnError.Retry\n", "	again := n.tries <= max(1, n.step.OnError.Retry)\n"),
	bug("restart repeats a dose", "S4", "after a restart a step whose command is over is done again", "runner/nodes.go",
		"		return o.State == lab.NotSent || o.State == lab.Resolved && o.As == \"not_done\"\n", "		return o.State != lab.Confirmed\n"),

	// Rules.
	bug("unknown permits", "S6", "what is required may be unknown", "safety/held.go",
		"expr.True {\n		used := e.used(now, p.prog)\n		a.d.refuse(", "expr.True && truth != expr.Unknown {\n		used := e.used(now, p.prog)\n		a.d.refuse("),
	bug("stale is fresh", "S6", "a reading may be twenty times as old as it may be", "lab/reading.go",
		"	case r.Age(now) > maxAge:\n", "	case r.Age(now) > 20*maxAge:\n"),
	bug("unknown never trips", "S6", "a trip waits for ever for a reading", "safety/trip.go",
		"	case truth == expr.Unknown && now.Sub(t.unknownSince) >= t.rule.UnknownFor:\n		return because{unknown: true}\n", ""),
	bug("grace begins anew", "S6", "one good sample gives a flickering sensor its whole grace again", "safety/trip.go",
		"		if now.Sub(t.knownSince) >= t.rule.UnknownFor {\n			t.unknownSince", "		if !t.knownSince.IsZero() {\n			t.unknownSince"),
	bug("trip does nothing", "S7", "a trip latches, and orders nothing", "gateway/lane.go",
		"	c.orderAll(now, t.Do)\n", ""),
	bug("lost permissive goes on", "S5", "a command goes on when what it needs is lost", "safety/held.go",
		"	h.of.permit.revoke(lost.Say)\n	return lost\n", "	_ = lost\n	return nil\n"),
	bug("limit bounds nothing", "S5", "the upper bound of a limit is not looked at", "safety/limit.go",
		"err != nil || v.Num > q.Value {\n", "err != nil {\n"),
	bug("reload keeps permits", "S5", "a command that the old rules allowed is sent under the new ones", "safety/reload.go",
		"		if p := f.permit; p != nil && !f.doubt && p.state.CompareAndSwap(permitFresh, permitRevoked) {\n", "		if p := f.permit; p != nil && f.doubt && p.state.CompareAndSwap(permitFresh, permitRevoked) {\n"),
	bug("permit outlives the epoch", "S5 S3", "a device that has begun anew gets what was decided before", "gateway/core.go",
		"		c.engine.Revoke(cmd.ID, \"the device may have lost its state\")\n		switch {\n", "		switch {\n		case cmd.phase <= sending:\n",
		hunk{"safety/permit.go", "	case p.epoch != epoch:\n		return lab.E(op, cmd.Target.Instrument, lab.KindDenied, fmt.Errorf(\"it is for link epoch %d, the link is in %d\", p.epoch, epoch))\n", ""},
		hunk{"safety/permit.go", "	\"fmt\"\n", ""}),

	// Stops and latches.
	bug("stop waits for the disk", "S7 D3", "a safe command goes out once its order is durable", "gateway/lane.go",
		"	c.do(Lane{l.id, l.order})\n	if l.order.Origin()", "	c.append(func(_ time.Time, _ []lab.Ref, err error) {\n		if err == nil {\n			c.do(Lane{l.id, l.order})\n		}\n	}, c.orderEntry(now, l))\n	if l.order.Origin()"),
	bug("stop behind the command", "S7", "a stop waits until nothing is under way", "gateway/lane.go",
		"	c.do(Lane{l.id, l.order})\n	if l.order.Origin()", "	if len(p.live) == 0 {\n		c.do(Lane{l.id, l.order})\n	}\n	if l.order.Origin()"),
	bug("unconfirmed stop is silent", "S7", "nobody is told that a stop could not be confirmed", "gateway/lane.go",
		"	c.alarm(\"lane\", o.target.Instrument, say)\n	if next == nil", "	if next == nil"),
	bug("stop takes nothing back", "S11", "what is about to be sent is sent in spite of a stop", "gateway/lane.go",
		"	runs := c.interruptOn(now, names, nil, latch.Say)\n", "	var runs []string\n"),
	bug("trip takes nothing back", "S11", "what is about to be sent is sent in spite of a trip", "gateway/lane.go",
		"	runs := c.interruptOn(now, t.Latch.Instruments, t.Latch.Mitigates, t.Latch.Say)\n", "	var runs []string\n"),
	bug("restart forgets trips", "S11", "a latch does not survive a restart", "gateway/restore.go",
		"			c.engine.RestoreLatch(l)\n", "			_ = l\n"),
	bug("restart forgets stops", "S11", "an emergency stop does not survive a restart", "gateway/restore.go",
		"			c.engine.RestoreLatch(b.Latch)\n", "			_ = b\n"),
	bug("snapshot forgets latches", "S11 O4", "a latch does not survive a start from a snapshot", "safety/memory.go",
		"		m.Latches = append(m.Latches, k)\n", "		_ = k\n"),
	bug("restart goes on", "S11", "a run goes on after a restart though the lab does not allow it", "runner/resume.go",
		"	return l == nil && c.o.Lab.Runs.ContinueAfterRestart && r.plan.Protocol.OnRestart == protocols.ContinueOnRestart && ", "	return l == nil && r.plan.Protocol.OnRestart != protocols.AbortOnRestart && "),
	bug("lane takes any safe command", "A1", "finally goes through the lane for commands that no list names", "safety/lane.go",
		"	case origin != OriginStopsWith && !slices", "	case origin != OriginStopsWith && origin != OriginFinally && !slices"),

	// Leases and time.
	bug("lower fence accepted", "S8", "a command under an older lease is taken", "gateway/lease.go",
		"	case cmd.Lease != l.fence || cmd.Run != l.run:\n", "	case cmd.Lease > l.fence:\n",
		hunk{"gateway/lease.go", "	case cmd.Principal != l.principal:\n		return fmt.Sprintf(\"lease %d on %s is %s's, not %s's\", l.fence, cmd.Target.Instrument, l.principal, cmd.Principal)\n", ""}),
	bug("fences begin anew", "S8", "a restart gives numbers that were given before", "gateway/restore.go",
		"	p.fence = max(p.fence, b.Lease)\n", ""),
	bug("lease never ends", "S8", "nobody notices that a runner is gone", "gateway/lease.go",
		"	l.timer.do = func(now time.Time) { c.leaseLost(now, l, unrenewed) }\n", "	l.timer.do = func(time.Time) {}\n"),
	bug("lost lease leaves it running", "S7", "on_lease_loss is forgotten", "gateway/lease.go",
		"	if c.places[l.instrument].in.OnLeaseLoss == \"safe\" {\n", "	if c.places[l.instrument].in.OnLeaseLoss == \"never\" {\n",
		hunk{"gateway/lease.go", "	c.interruptUnder(now, l, lab.KindConflict, say)\n	if", "	if"}),
	bug("expired is sent", "S9", "a command runs after its time", "gateway/admit.go",
		"	case !now.Before(cmd.NotAfter):\n", "	case cmd.NotAfter.IsZero():\n",
		hunk{"safety/decide.go", "	a.ends(cmd.NotAfter)\n", ""}),
	bug("clock is trusted", "S9", "a clock that was set under way is trusted", "gateway/core.go",
		"	c.badClock = e.Why\n", ""),
	bug("clock may be behind", "S9", "a clock behind the journal is trusted", "gateway/status.go",
		"	if why == \"\" && now.Before(c.lastEntry) {\n", "	if why == \"\" && now.Before(c.lastEntry.Add(-time.Hour)) {\n"),

	// The journal and what is answered.
	bug("skip a hash", "D2", "an entry's hash is over itself alone", "internal/journal/chain/chain.go",
		"	b = append(append(append(b, before...), '\\n'), row...)\n", "	b = append(b, row...)\n"),
	bug("verdict before durable", "D1", "a verdict is told while it is on the way to the disk", "runner/answers.go",
		"	c.append(func(now time.Time, _ []lab.Ref, err error) {\n		c.coming = slices.DeleteFunc", "	c.tell(d.Proposed, v)\n	c.append(func(now time.Time, _ []lab.Ref, err error) {\n		c.coming = slices.DeleteFunc"),
	bug("acknowledged too early", "D1", "a proposal is taken off the queue before its answer is durable", "runner/answers.go",
		"	key := answerKey(e.Principal, d.p)\n", "	key := answerKey(e.Principal, d.p)\n	c.do(Acknowledge{e.Token})\n"),
	bug("proposal again, run again", "O2", "the same proposal makes a second run after a restart", "runner/answers.go",
		"	case e.Proposal == nil && e.Verdict == nil:\n		return nil, nil\n", "	case true:\n		return nil, nil\n"),
	bug("end before durable", "O3", "the end of a run is told while it is on the way to the disk", "runner/documents.go",
		"	c.document(now, r, stop)\n	c.releaseAll(r)\n", "	c.do(Publish{r.principal, r.id, stop})\n	c.document(now, r, stop)\n	c.releaseAll(r)\n"),
	bug("snapshot forgets doubts", "O4", "a run's doubts are not in its snapshot", "runner/snapshot.go",
		"Started: r.started, Doubts: slices.Clone(r.doubts)}\n", "Started: r.started}\n"),
	bug("sums lost with a snapshot", "O4 S10", "what was spent is not in a snapshot", "safety/memory.go",
		"		x := Ledger{Run: w.run, Campaign: w.campaign, Principal: w.principal, Spent: [2]uint64{l.spent.hi, l.spent.lo}, Used: l.used}\n", "		x := Ledger{Run: w.run, Campaign: w.campaign, Principal: w.principal, Used: l.used}\n"),

	// Identity.
	bug("an agent approves", "A2", "an agent may approve", "runner/approvals.go",
		"	case pr.Role == \"agent\":\n		return false, fmt.Sprintf(\"%s is an agent; only a person may approve or reject\", pr.Name)\n", "",
		hunk{"runner/approvals.go", "	case !slices.Contains(r.approval.By, pr.Role):\n		return false, fmt.Sprintf(\"%s is %s; this run is for %s to approve\", pr.Name, pr.Role, strings.Join(r.approval.By, \" or \"))\n", ""}),
	bug("an agent lets a run go on", "A2", "an agent may resume a held run", "runner/control.go",
		"		case pr.Role != \"operator\" && pr.Role != \"safety\":\n", "		case pr.Role == \"nobody\":\n"),
	bug("anything is approved", "A1", "an approval of something else counts", "runner/approvals.go",
		"	case a.Content != r.approval.Content:\n		return false, fmt.Sprintf(\"what you approve is not what this run is: its content is %s; look again (labgate approve %s)\", r.approval.Content, r.id)\n", ""),
	bug("begins unapproved", "A1", "a run that needs approval begins without", "runner/queue.go",
		"	if r.pending() {\n		return append(list, wait{what: messages.WaitApproval})\n	}\n", ""),
	bug("text becomes a principal", "A3", "who proposed is read out of what was proposed", "runner/answers.go",
		"	ve := c.entry(now, \"verdict/v1\", e.Principal, nil, v)\n", "	ve := c.entry(now, \"verdict/v1\", p.ID, nil, v)\n"),

	// Progress.
	bug("lost outcomes are not asked for", "L1", "a run waits for ever for an outcome whose message was lost", "runner/run.go",
		"			c.do(Query{cmd.gateway, cmd.instrument, id})\n", ""),
	bug("a reset resets nothing", "L1", "a latch stays though its reset was granted", "safety/latch.go",
		"	e.DropLatch(rule)\n	return nil\n", "	return nil\n"),
	bug("leases are asked for once", "L1", "a run whose lease was refused never asks again", "runner/run.go",
		"		r.state, r.say, r.tryAt = Queued, problem, now.Add(r.retry)\n", "		r.state, r.say, r.tryAt = Queued, problem, now.Add(1e6*r.retry)\n"),
}
