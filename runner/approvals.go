package runner

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
)

// Terms say who must approve a run before it may begin. The zero Terms are one
// operator or safety officer, within a day.
type Terms struct {
	Persons int
	By      []string // roles
	Within  time.Duration
}

// Approvals are the runs that need approval: those of protocols that principals
// bring, where access.yaml says so of the principal, and those of some
// protocols of the library, whoever asks.
type Approvals struct {
	Inline    Terms
	Protocols map[string]Terms // by name
}

func (t Terms) whole() Terms {
	if t.Persons <= 0 {
		t.Persons = 1
	}
	if len(t.By) == 0 {
		t.By = []string{"operator", "safety"}
	}
	if t.Within <= 0 {
		t.Within = 24 * time.Hour
	}
	return t
}

// approval is what a run needs before it may begin, or has got.
type approval struct {
	messages.Approvals
	within time.Duration
	coming []string // whose approval is being made durable
	no     string   // who rejected it and why, in a journal that does not say yet that it ended
}

// pending reports whether somebody still has to approve.
func (r *run) pending() bool { return r.approval != nil && !r.approval.Complete() }

// approvals is what lists show.
func (r *run) approvals() *messages.Approvals {
	if r.approval == nil {
		return nil
	}
	a := r.approval.Approvals
	a.Given = slices.Clone(a.Given)
	return &a
}

// approvalNeeded says what is missing.
func (r *run) approvalNeeded() string {
	a := r.approval
	say := fmt.Sprintf("it needs the approval of %s (%s) until %s", plural(a.Persons-len(a.Given), "person"), strings.Join(a.By, " or "), a.Until.UTC().Format(time.RFC3339))
	if len(a.Given) > 0 {
		say = fmt.Sprintf("approved by %s; %s more", strings.Join(a.Given, ", "), say)
	}
	return say
}

func (r *run) approvalExpired() string {
	if r.pending() {
		return fmt.Sprintf("it was not approved in time: %d of %s by %s", len(r.approval.Given), plural(r.approval.Persons, "approval"), r.approval.Until.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("its approval expired at %s, before its instruments were free", r.approval.Until.UTC().Format(time.RFC3339))
}

// needs finds the terms under which a proposal needs approval, if it does. Of
// two the stricter hold: more persons, less time, the roles of both.
func (c *Core) needs(who string, p *proposal, proto *protocols.Protocol) (Terms, bool) {
	pr := c.principal(who)
	t, yes := c.o.Approvals.Protocols[proto.Name]
	t = t.whole()
	if p.Inline == "" || pr == nil || !pr.InlineApproved {
		return t, yes
	}
	in := c.o.Approvals.Inline.whole()
	if !yes {
		return in, true
	}
	t.Persons, t.Within = max(t.Persons, in.Persons), min(t.Within, in.Within)
	t.By = slices.DeleteFunc(slices.Clone(t.By), func(role string) bool { return !slices.Contains(in.By, role) })
	return t, true
}

// askApproval makes a run wait for people, and says so in its verdict.
func (c *Core) askApproval(now time.Time, r *run, t Terms, v *messages.Verdict) {
	r.approval = &approval{within: t.Within}
	r.approval.Approvals = messages.Approvals{Content: c.approvable(r).ContentHash(), Persons: t.Persons, By: t.By, Until: now.Add(t.Within)}
	v.Decision, v.Approval = messages.NeedsApprovalDecision, r.approvals()
	v.Say = fmt.Sprintf("run %s waits: %s (labgate approve %s)", r.id, r.approvalNeeded(), r.id)
}

// approvable is exactly what people approve, as it would be carried out now.
func (c *Core) approvable(r *run) *messages.Approvable {
	a := &messages.Approvable{Run: r.id, Proposal: r.proposal.ID, Principal: r.principal,
		Protocol: messages.ProtocolRef{Name: r.plan.Protocol.Name, Version: r.plan.Protocol.Version, Hash: r.plan.Protocol.Hash}, Inline: r.proposal.Inline,
		Inputs: r.plan.Inputs, Bindings: map[string]string{}, Bill: *bill(&r.plan.Bill), Budget: r.proposal.Budget, Priority: r.priority, NotAfter: r.proposal.NotAfter,
		Campaign: r.proposal.Campaign, Hypothesis: r.proposal.Hypothesis, Predicts: r.proposal.Predicts, Model: r.proposal.Model, Labels: r.proposal.Labels, Samples: r.proposal.Samples,
		Hashes: messages.Hashes{Protocol: r.plan.Protocol.Hash, Plan: r.plan.Hash, Lab: c.o.Lab.Hash, Rules: c.o.RulesHash}}
	if pr := c.principal(r.principal); pr != nil {
		a.Role = pr.Role
	}
	for role, b := range r.plan.Bindings {
		a.Bindings[role] = b.Instrument.Name
	}
	return a
}

// show is what a person sees before they approve.
func (c *Core) show(r *run) (reply messages.ControlReply) {
	switch {
	case r == nil || r.plan == nil || r.approval == nil:
		reply.Say = "there is no such run that needs approval"
	case !r.waits():
		reply.Say = fmt.Sprintf("the run does not wait for approval: it is %s", r.state)
	case !r.pending():
		reply.Say = "the run is approved already, by " + strings.Join(r.approval.Given, ", ")
	default:
		reply.OK, reply.Shown, reply.Say = true, c.approvable(r), r.approvalNeeded()
		for _, i := range c.Runs("") {
			if i.Run == r.id {
				reply.Runs = []messages.RunInfo{i}
			}
		}
	}
	return reply
}

// approved takes a person's word on a run. It is told once it is durable.
func (c *Core) approved(now time.Time, e ApprovalAsked) {
	a, r := e.Approval, c.runs[e.Approval.Run]
	reply := messages.ControlReply{ID: a.ID}
	if done, say := c.mayApprove(now, e, r); say != "" {
		reply.OK, reply.Say = done, say
		c.do(Answer{e.Reply, reply})
		return
	}
	en := c.entry(now, messages.KindApproval, e.Principal, r, approvalBody{a.Decision, a.Content, a.Reason})
	en.Principal = e.Principal
	r.approval.coming = append(r.approval.coming, e.Principal)
	c.append(func(now time.Time, _ []lab.Ref, err error) {
		r.approval.coming = slices.DeleteFunc(r.approval.coming, func(x string) bool { return x == e.Principal })
		if err == nil && a.Decision == messages.ApproveDecision {
			r.give(en.Time, e.Principal) // the journal's time: a restart counts from it too
		}
		switch {
		case err != nil:
			reply.Say = fmt.Sprintf("it could not be made durable: %v", err)
		case a.Decision == messages.RejectDecision && r.state == Leasing && !r.held: // approved in the same moment
			r.approval.no = rejectedBy(e.Principal, a.Reason)
			r.abort = &Abort{Reason: r.approval.no, Exit: messages.ExitAbort}
			reply.OK, reply.Say = true, fmt.Sprintf("run %s is rejected", r.id)
		case !r.waits():
			reply.Say = fmt.Sprintf("the run does not wait for approval any more: it is %s", r.state)
		case a.Decision == messages.RejectDecision:
			c.neverStarted(now, r, messages.ExitAbort, rejectedBy(e.Principal, a.Reason))
			reply.OK, reply.Say = true, fmt.Sprintf("run %s is rejected", r.id)
		default:
			reply.OK, reply.Say = true, fmt.Sprintf("run %s is approved; it begins when its instruments are free", r.id)
			if r.pending() {
				reply.Say = fmt.Sprintf("your approval counts; run %s: %s", r.id, r.approvalNeeded())
			}
		}
		c.do(Answer{e.Reply, reply})
	}, en)
}

// approvalBody is what the journal keeps.
type approvalBody struct {
	Decision string `json:"decision"`
	Content  string `json:"content,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// give counts one person's approval. The last one starts the time anew, in
// which the run has to begin.
func (r *run) give(now time.Time, who string) {
	a := r.approval
	if slices.Contains(a.Given, who) || a.Complete() {
		return
	}
	if a.Given = append(a.Given, who); a.Complete() {
		a.Until = now.Add(a.within)
	}
}

// mayApprove says what speaks against it; done where it is so already.
func (c *Core) mayApprove(now time.Time, e ApprovalAsked, r *run) (done bool, say string) {
	a, pr := e.Approval, c.principal(e.Principal)
	switch {
	case pr == nil:
		return false, fmt.Sprintf("%s is nobody this lab knows", e.Principal)
	case !pr.Until.IsZero() && !now.Before(pr.Until):
		return false, fmt.Sprintf("the vetting of %s expired at %s", pr.Name, pr.Until.UTC().Format(time.RFC3339))
	case pr.Role == "agent":
		return false, fmt.Sprintf("%s is an agent; only a person may approve or reject", pr.Name)
	case a.Decision != messages.ApproveDecision && a.Decision != messages.RejectDecision:
		return false, fmt.Sprintf("%q is no decision: approve or reject", clipText(a.Decision))
	case r == nil || r.approval == nil:
		return false, fmt.Sprintf("there is no run %q that needs approval", clipText(a.Run))
	case !slices.Contains(r.approval.By, pr.Role):
		return false, fmt.Sprintf("%s is %s; this run is for %s to approve", pr.Name, pr.Role, strings.Join(r.approval.By, " or "))
	case r.principal == pr.Name:
		return false, "nobody approves their own proposal"
	case !r.waits():
		return false, fmt.Sprintf("the run does not wait for approval: it is %s", r.state)
	case a.Decision == messages.RejectDecision && a.Reason == "":
		return false, "to reject needs a reason"
	case a.Decision == messages.RejectDecision:
		return false, ""
	case slices.Contains(r.approval.Given, pr.Name) || slices.Contains(r.approval.coming, pr.Name):
		return true, "you have approved it already; another person has to"
	case !r.pending():
		return true, "the run is approved already, by " + strings.Join(r.approval.Given, ", ")
	case a.Content != r.approval.Content:
		return false, fmt.Sprintf("what you approve is not what this run is: its content is %s; look again (labgate approve %s)", r.approval.Content, r.id)
	case c.outdated != "" || c.approvable(r).ContentHash() != r.approval.Content:
		return false, voidApproval
	}
	return false, ""
}

const voidApproval = "the approval is void: the interlocks or the lab have changed since the verdict; propose it again"

// voidApprovals ends the runs whose approval was of something else than what
// would be carried out now.
func (c *Core) voidApprovals(now time.Time) {
	for _, r := range c.queue {
		if r.approval != nil && r.waits() && c.approvable(r).ContentHash() != r.approval.Content {
			c.neverStarted(now, r, messages.ExitFail, voidApproval)
		}
	}
}

// restoreApproval puts back what people said.
func (c *Core) restoreApproval(e lab.Entry) error {
	var b approvalBody
	if err := json.Unmarshal(e.Body, &b); err != nil {
		return err
	}
	r := c.runs[e.Run]
	switch {
	case r == nil || r.approval == nil || !r.waits():
	case b.Decision == messages.ApproveDecision:
		r.give(e.Time, e.Principal)
	default:
		r.approval.no = rejectedBy(e.Principal, b.Reason)
	}
	return nil
}

func rejectedBy(who, why string) string { return fmt.Sprintf("rejected by %s: %s", who, why) }
