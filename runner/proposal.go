package runner

import (
	"fmt"
	"strings"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
)

// proposal is a decoded proposal with what the runner found for it.
type proposal struct {
	messages.Proposal
	content string // hash of its bytes
}

func (p *proposal) protocolName() string {
	if p.Protocol != nil {
		return p.Protocol.Name + "@" + p.Protocol.Version
	}
	return "inline"
}

// tell answers one delivery. Where the proposal had no readable id its sender
// knows the answer by the delivery's place in the queue.
func (c *Core) tell(e Proposed, v messages.Verdict) {
	if v.Proposal == "" {
		v.Stream = e.StreamSeq
	}
	c.do(Publish{Principal: e.Principal, Document: v})
	c.do(Acknowledge{e.Token})
}

// proposalBody is what the journal keeps: enough to bind the plan again.
type proposalBody struct {
	Content  string            `json:"content"`
	Proposal messages.Proposal `json:"proposal"`
	Raw      string            `json:"raw,omitempty"` // the first bytes as they came
	Broken   bool              `json:"broken,omitempty"`
}

func clip(b []byte, n int) []byte {
	if len(b) > n {
		b = b[:n]
	}
	return []byte(strings.ToValidUTF8(string(b), "\uFFFD"))
}

func (c *Core) note(entries ...lab.Entry) {
	c.since += len(entries)
	c.do(Note{entries})
}

// mostIssues bounds a verdict: beyond it a sender needs the count, not the list.
const mostIssues = 100

// judge fills the verdict with every issue at once. It returns a run to queue
// if there is none.
func (c *Core) judge(now time.Time, who string, p *proposal, issues lab.Issues, v *messages.Verdict) *run {
	issues = append(issues, c.mayPropose(now, who, p)...)
	if c.outdated != "" {
		issues = append(issues, lab.Issue{Code: "rules_changing", Say: "the interlocks have changed, and the new ones are not read yet", Hint: "try again in a second, under a new key"})
	}
	if p.NotAfter != nil && !now.Before(*p.NotAfter) {
		expired := lab.Issue{Code: "expired", Path: "not_after", Got: p.NotAfter.Format(time.RFC3339), Say: "the proposal has expired: its not_after is past"}
		issues = append(issues, without(lab.Issues{expired}, issues)...)
	}
	proto, more := c.findProtocol(who, p)
	issues = append(issues, more...)
	var plan *protocols.Plan
	if proto != nil {
		v.Hashes.Protocol = proto.Hash
		plan, more = c.plan(proto, p)
		issues = append(issues, without(more, issues)...)
		issues = append(issues, checkPredicts(proto, p)...)
	}
	if plan != nil {
		v.Hashes.Plan = plan.Hash
		v.Bill = bill(&plan.Bill)
		said := c.o.Preflight(plan)
		issues = append(issues, said.Refused...)
		if len(said.Refused) > 0 {
			issues = append(issues, c.nearestInput(proto, plan.Inputs)...)
		}
		v.Proved = said.Proved
		for _, l := range said.Live {
			v.Live = append(v.Live, messages.LiveCheck(l))
		}
		issues = append(issues, checkBudget(p, plan)...)
		issues = append(issues, c.checkLots(now, plan, nil)...)
	}
	issues = append(issues, c.checkSamples(p)...)
	issues = append(issues, c.tooMany(now, who)...)
	if len(issues) == 0 {
		issues = c.full(now, who)
	}
	if more := len(issues) - mostIssues; more > 0 {
		issues = append(issues[:mostIssues:mostIssues], lab.Issue{Code: "too_many_issues", Say: fmt.Sprintf("and %s more", plural(more, "issue"))})
	}
	v.Issues = issues
	if len(issues) > 0 || plan == nil {
		v.Decision = messages.RejectedDecision
		v.Say = fmt.Sprintf("rejected: %s", plural(len(issues), "issue"))
		if len(issues) == 1 || len(issues) == 2 && issues[1].Code == refusedInput {
			v.Say = "rejected: " + issues[0].Say
		}
		return nil
	}
	v.Decision, v.Run = messages.AcceptedDecision, c.o.IDs.New(now)
	v.Say = fmt.Sprintf("accepted as run %s; it takes about %.0f s, at most %.0f s", v.Run, plan.Bill.Expected.Seconds(), plan.Bill.Worst.Seconds())
	r := newRun(v.Run, who, p, plan, now)
	r.rules, r.counts = v.Hashes.Rules, c.countsFrom(now, r)
	v.Queue = c.place(r)
	if t, yes := c.needs(who, p, proto); yes {
		c.askApproval(now, r, t, v)
	} else if v.Queue.Position > 1 {
		v.Say += fmt.Sprintf("; it is number %d in the queue", v.Queue.Position)
	}
	v.Say += c.sayLatch(r)
	return r
}

// tooMany holds a principal to its rate, and counts what it asked: every
// proposal under a new key, good or bad, except those that the rate refused.
func (c *Core) tooMany(now time.Time, who string) lab.Issues {
	pr := c.principal(who)
	if pr == nil || pr.Rate.N <= 0 {
		return nil
	}
	asked := c.asked[who]
	for len(asked) > 0 && !now.Before(asked[0].Add(pr.Rate.Per)) {
		asked = asked[1:]
	}
	c.asked[who] = asked
	if len(asked) < pr.Rate.N {
		c.asked[who] = append(asked, now)
		return nil
	}
	again := asked[len(asked)-pr.Rate.N].Add(pr.Rate.Per)
	return lab.Issues{{Code: overRate, Allowed: fmt.Sprintf("%d per %s", pr.Rate.N, pr.Rate.Per), Say: fmt.Sprintf("%s may propose %d times in %s, and has", who, pr.Rate.N, pr.Rate.Per),
		Hint: fmt.Sprintf("try again after %s, under a new key", again.UTC().Format(time.RFC3339)), Wait: "the first of them counts until " + again.UTC().Format(time.RFC3339)}}
}

// overRate is the code of a proposal that came too soon.
const overRate = "too_many_proposals"

// without drops issues whose path was reported already: a value that can't be
// read is not also missing.
func without(more, have lab.Issues) lab.Issues {
	var out lab.Issues
	for _, m := range more {
		told := false
		for _, h := range have {
			told = told || m.Path != "" && (h.Path == m.Path || strings.HasPrefix(h.Path, m.Path+"."))
		}
		if !told {
			out = append(out, m)
		}
	}
	return out
}

// mayPropose asks who it is and what they may do.
func (c *Core) mayPropose(now time.Time, who string, p *proposal) lab.Issues {
	pr := c.principal(who)
	if pr == nil {
		return lab.Issues{{Code: "not_vetted", Say: fmt.Sprintf("%s is nobody this lab knows", who)}}
	}
	var is lab.Issues
	if !pr.Until.IsZero() && !now.Before(pr.Until) {
		is = append(is, lab.Issue{Code: "not_vetted", Say: fmt.Sprintf("%s was vetted until %s", who, pr.Until.Format("2006-01-02"))})
	}
	if p.Protocol != nil && len(pr.Protocols) > 0 && !containsText(pr.Protocols, p.Protocol.Name) {
		is = append(is, lab.Issue{Code: "not_allowed", Path: "protocol.name", Got: p.Protocol.Name, Allowed: strings.Join(pr.Protocols, ", "), Say: fmt.Sprintf("%s may not run %s", who, p.Protocol.Name)})
	}
	is = append(is, pr.mayHurry(priorityOf(p))...)
	if p.Inline != "" && !pr.Inline {
		is = append(is, lab.Issue{Code: "not_allowed", Path: "protocol_inline", Say: fmt.Sprintf("%s may not bring a protocol of its own", who),
			Hint: "name an installed protocol, or have access.yaml say may: {inline: yes} for it; that is read when serve starts"})
	}
	return is
}

func containsText(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// findProtocol resolves the protocol that a proposal names or carries.
func (c *Core) findProtocol(who string, p *proposal) (*protocols.Protocol, lab.Issues) {
	if p.Inline != "" {
		proto, is := protocols.Parse("protocol_inline", []byte(p.Inline), c.o.Classes, protocols.Among(c.o.Library))
		for i := range is {
			is[i].Path = "protocol_inline"
		}
		if len(is) > 0 {
			return nil, is
		}
		return proto, nil
	}
	if p.Protocol == nil || p.Protocol.Name == "" {
		return nil, nil // reported by the decoder
	}
	versions := c.byName[p.Protocol.Name]
	if len(versions) == 0 {
		i := lab.Issue{Code: "unknown_protocol", Path: "protocol.name", Got: p.Protocol.Name, Say: fmt.Sprintf("there is no protocol %q", clipText(p.Protocol.Name)), Allowed: strings.Join(sortedKeys(c.byName), ", ")}
		if near := lab.Nearest(p.Protocol.Name, sortedKeys(c.byName)); near != "" {
			v := lab.TextValue(near)
			i.Nearest, i.Repairable, i.Hint = &v, true, fmt.Sprintf("did you mean %q?", near)
		}
		return nil, lab.Issues{i}
	}
	var have []string
	for _, x := range versions {
		if x.Version == p.Protocol.Version {
			if p.Protocol.Hash != "" && p.Protocol.Hash != x.Hash {
				return x, lab.Issues{{Code: "hash_mismatch", Path: "protocol.hash", Got: clipText(p.Protocol.Hash), Allowed: x.Hash, Say: fmt.Sprintf("%s %s has other content than the proposal says", x.Name, x.Version)}}
			}
			return x, nil
		}
		have = append(have, x.Version)
	}
	i := lab.Issue{Code: "unknown_version", Path: "protocol.version", Got: p.Protocol.Version, Allowed: strings.Join(have, ", "),
		Say: fmt.Sprintf("%s has no version %q", p.Protocol.Name, clipText(p.Protocol.Version))}
	if len(have) == 1 && p.Protocol.Version != "" {
		v := lab.TextValue(have[0])
		i.Nearest, i.Repairable = &v, true
	}
	// The inputs are still checked, against the version that there is.
	return versions[len(versions)-1], lab.Issues{i}
}

func clipText(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

// plan checks the inputs and binds the roles; both report everything.
func (c *Core) plan(proto *protocols.Protocol, p *proposal) (*protocols.Plan, lab.Issues) {
	inputs, issues := proto.CheckInputs(p.Inputs)
	if len(issues) > 0 {
		// Roles don't depend on the inputs: say now what is wrong with them.
		return nil, append(issues, protocols.CheckRoles(proto, c.o.Lab)...)
	}
	plan, more := protocols.Bind(proto, c.o.Lab, inputs)
	if len(more) > 0 {
		return nil, append(more, c.nearestInput(proto, inputs)...)
	}
	return plan, nil
}

// checkPredicts: a prediction must be of an output, in its dimension.
func checkPredicts(proto *protocols.Protocol, p *proposal) lab.Issues {
	var is lab.Issues
	for _, n := range sortedKeys(p.Predicts) {
		var out *protocols.Output
		var names []string
		for i := range proto.Outputs {
			names = append(names, proto.Outputs[i].Name)
			if proto.Outputs[i].Name == n {
				out = &proto.Outputs[i]
			}
		}
		path := "predicts." + n
		if out == nil {
			is = append(is, lab.Issue{Code: "unknown_output", Path: path, Got: n, Allowed: strings.Join(names, ", "), Say: fmt.Sprintf("%s has no output %q", proto.Name, clipText(n))})
			continue
		}
		u, err := lab.ParseUnit(p.Predicts[n].Unit)
		if out.Type.Kind != lab.Number && out.Type.Kind != lab.Integer {
			is = append(is, lab.Issue{Code: "wrong_type", Path: path, Got: out.Type.Kind.String(), Say: fmt.Sprintf("output %s is a %s; only numbers are predicted", n, out.Type.Kind)})
		} else if err == nil && u.Dim() != out.Type.Unit.Dim() {
			is = append(is, lab.Issue{Code: "wrong_dimension", Path: path + ".unit", Got: u.String(), Allowed: out.Type.Unit.String(), Say: fmt.Sprintf("%s is a %s, not a %s", n, out.Type.Unit.Dim(), u.Dim())})
		}
	}
	return is
}

// checkBudget: the proposal's own budget must leave room for the plan as it is
// expected to go; at run time it is enforced to the second.
func checkBudget(p *proposal, plan *protocols.Plan) lab.Issues {
	var is lab.Issues
	if p.Budget == nil {
		return nil
	}
	if q := p.Budget.Time; q != nil {
		d, err := q.Duration()
		switch {
		case err != nil || d <= 0: // reported by the decoder
		case d < plan.Bill.Expected:
			n := lab.NumberValue(lab.Seconds(plan.Bill.Worst))
			is = append(is, lab.Issue{Code: "over_budget", Path: "budget.time", Got: q.String(), Allowed: "at least " + lab.Seconds(plan.Bill.Expected).String(), Nearest: &n, Repairable: true, Say: fmt.Sprintf("the plan takes about %.1f s; the proposal's budget is %s", plan.Bill.Expected.Seconds(), q)})
		}
	}
	if n := p.Budget.Exposures; n != nil && *n >= 0 && *n < plan.Bill.Exposures {
		v := lab.IntegerValue(int64(plan.Bill.Exposures))
		is = append(is, lab.Issue{Code: "over_budget", Path: "budget.exposures", Got: fmt.Sprint(*n), Nearest: &v, Repairable: true, Say: fmt.Sprintf("the plan may take %s; the proposal's budget is %d", plural(plan.Bill.Exposures, "exposure"), *n)})
	}
	return is
}

func bill(b *protocols.Bill) *messages.Bill {
	return &messages.Bill{Expected: lab.Seconds(b.Expected), Worst: lab.Seconds(b.Worst), Exposures: b.Exposures, Commands: b.Commands, Consumption: b.Consumption}
}
