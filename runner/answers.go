package runner

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"labgate/lab"
	"labgate/messages"
)

// What was answered to a key is answered again, for ever. The latest answers
// are at hand; the rest is asked of the journal.

// record is what was answered to a key.
type record struct {
	content string // hash of the proposal
	verdict messages.Verdict
	durable bool
	looking bool           // the journal is being asked whether there was an answer
	waiters []delivery     // of it, that came before it was durable, or was found
	asked   []ControlAsked // queries that came before it was found
}

// delivery is a proposal that has come, decoded, with what is wrong with it.
type delivery struct {
	Proposed
	p      *proposal
	issues lab.Issues
}

// AnswerKeys are the keys of the entries that hold a proposal and its verdict.
func AnswerKeys(key string) (proposal, verdict string) { return "proposal/" + key, "verdict/" + key }

// answerKey is one principal's key. What has no readable key counts by its
// content.
func answerKey(principal string, p *proposal) string {
	if p.Key == "" || len(p.Key) > messages.MaxKey {
		return principal + "/content/" + p.content
	}
	return principal + "/key/" + p.Key
}

// proposed answers a proposal: as it was answered before, or by a verdict of
// now.
func (c *Core) proposed(now time.Time, e Proposed) {
	decoded, issues := messages.DecodeProposal(e.Data)
	d := delivery{e, &proposal{decoded, lab.HashText(e.Data)}, issues}
	key := answerKey(e.Principal, d.p)
	if rec := c.verdicts[key]; rec != nil && !rec.looking {
		c.repeated(now, d, rec)
		return
	}
	rec := c.look(key)
	rec.waiters = append(rec.waiters, d)
}

// verdictAsked answers a query for a late verdict. It reports whether the
// answer comes later.
func (c *Core) verdictAsked(e ControlAsked, reply messages.ControlReply) (messages.ControlReply, bool) {
	key := answerKey(e.Principal, &proposal{Proposal: messages.Proposal{Key: e.Control.Key}})
	rec := c.verdicts[key]
	if rec == nil || rec.looking {
		rec = c.look(key)
		rec.asked = append(rec.asked, e)
		return reply, true
	}
	return tellVerdict(e, reply, rec), false
}

func tellVerdict(e ControlAsked, reply messages.ControlReply, rec *record) messages.ControlReply {
	if rec == nil || !rec.durable {
		reply.Say = fmt.Sprintf("nothing was answered to key %q of %s", clipText(e.Control.Key), e.Principal)
		return reply
	}
	v := rec.verdict
	reply.OK, reply.Verdict, reply.Say = true, &v, v.Say
	return reply
}

// look asks the journal, once, what was answered to a key.
func (c *Core) look(key string) *record {
	rec := c.verdicts[key]
	if rec == nil {
		rec = &record{looking: true}
		c.verdicts[key] = rec
		c.do(Look{key})
	}
	return rec
}

// looked goes on with what the journal says. Where it can't be asked nothing is
// answered: the delivery comes again.
func (c *Core) looked(now time.Time, e Looked) {
	old := c.verdicts[e.Key]
	if old == nil || !old.looking {
		return
	}
	delete(c.verdicts, e.Key)
	rec, err := answerOf(e)
	if rec != nil {
		c.keepAnswer(e.Key, rec)
	}
	for _, q := range old.asked {
		reply := tellVerdict(q, messages.ControlReply{ID: q.Control.ID}, rec)
		if err != nil {
			reply.Say = fmt.Sprintf("what was answered can't be told now: %v", err)
		}
		c.do(Answer{q.Reply, reply})
	}
	if err != nil {
		return
	}
	for _, d := range old.waiters {
		if rec := c.verdicts[e.Key]; rec != nil {
			c.repeated(now, d, rec)
		} else {
			c.judgeNew(now, e.Key, d)
		}
	}
}

// answerOf reads an answer out of its entries; nil: there was none. Half an
// answer is none to rely on.
func answerOf(e Looked) (*record, error) {
	switch {
	case e.Err != nil:
		return nil, e.Err
	case e.Proposal == nil && e.Verdict == nil:
		return nil, nil
	case e.Proposal == nil || e.Verdict == nil:
		return nil, fmt.Errorf("the journal has only half of what was answered to %s", e.Key)
	}
	var b proposalBody
	rec := &record{durable: true}
	if err := json.Unmarshal(e.Proposal.Body, &b); err != nil {
		return nil, err
	}
	rec.content = b.Content
	return rec, json.Unmarshal(e.Verdict.Body, &rec.verdict)
}

// keepAnswer has an answer at hand until it is one of the oldest.
func (c *Core) keepAnswer(key string, rec *record) {
	c.verdicts[key] = rec
	if c.answered = append(c.answered, key); len(c.answered) > c.o.MaxAnswered {
		delete(c.verdicts, c.answered[0])
		c.answered = c.answered[1:]
	}
}

// judgeNew answers a key for the first time: the verdict is durable before it
// is published and before the delivery is acknowledged.
func (c *Core) judgeNew(now time.Time, key string, d delivery) {
	if c.flooding(now, d) {
		return
	}
	e, p := d.Proposed, d.p
	v := messages.Verdict{Proposal: p.ID, Key: p.Key, Principal: e.Principal, Hashes: messages.Hashes{Lab: c.o.Lab.Hash, Rules: c.o.RulesHash}}
	r := c.judge(now, e.Principal, p, d.issues, &v)
	rec := &record{content: p.content, verdict: v, waiters: []delivery{d}}
	c.verdicts[key] = rec
	pe := c.entry(now, "proposal/v1", e.Principal, nil, proposalBody{p.content, p.Proposal, string(clip(e.Data, 4096)), len(d.issues) > 0})
	ve := c.entry(now, "verdict/v1", e.Principal, nil, v)
	pe.Key, ve.Key = AnswerKeys(key)
	pe.Run, ve.Run = v.Run, v.Run
	if v.Decision == messages.RejectedDecision {
		c.rejected(now, e.Principal)
	}
	if r != nil {
		r.verdict = &v
		c.coming = append(c.coming, r)
	}
	c.append(func(now time.Time, _ []lab.Ref, err error) {
		c.coming = slices.DeleteFunc(c.coming, func(x *run) bool { return x == r })
		if err != nil {
			delete(c.verdicts, key) // not answered: the delivery comes again
			return
		}
		rec.durable = true
		for _, w := range rec.waiters {
			c.tell(w.Proposed, v)
		}
		rec.waiters = nil
		c.keepAnswer(key, rec)
		if r != nil {
			c.addRun(r)
			c.enqueue(r)
		}
	}, pe, ve)
}

// repeated answers a key that was answered before: the same verdict for the
// same content, a rejection for any other. Neither makes a run.
func (c *Core) repeated(now time.Time, d delivery, rec *record) {
	if rec.content != d.p.content {
		v := messages.Verdict{Proposal: d.p.ID, Key: d.p.Key, Principal: d.Principal, Decision: messages.RejectedDecision, Hashes: messages.Hashes{Lab: c.o.Lab.Hash, Rules: c.o.RulesHash},
			Issues: lab.Issues{{Code: "key_reused", Path: "key", Got: d.p.Key, Say: fmt.Sprintf("key %q was used for another proposal", d.p.Key), Hint: "a new proposal needs a new key"}}}
		v.Say = v.Issues[0].Say
		c.note(c.entry(now, "key_reused/v1", d.Principal, nil, v))
		c.tell(d.Proposed, v)
		return
	}
	if !rec.durable {
		d.Data = nil
		rec.waiters = append(rec.waiters, d)
		return
	}
	c.tell(d.Proposed, rec.verdict)
}
