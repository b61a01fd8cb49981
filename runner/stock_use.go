package runner

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
)

// kindTaken is the kind of what a command takes from a lot, as it goes out and
// again when it is known better.
const kindTaken = "lot_taken/v1"

// taken is its body. What is open may still be corrected; until then it counts
// in full.
type lotTaken struct {
	Lot     string       `json:"lot"`
	Command string       `json:"command"`
	Amount  lab.Quantity `json:"amount"`
	Open    bool         `json:"open,omitempty"`
}

func (s *stock) take(run string, t lotTaken) {
	l := s.lots[t.Lot]
	q, err := t.Amount.In(lotUnit(l))
	if l == nil || err != nil {
		return // it was checked when it was written
	}
	if t.Open {
		l.Open[t.Command] = take{run, q.Value}
		return
	}
	delete(l.Open, t.Command)
	l.Taken += q.Value
}

// open reports whether what a command took is not certain yet.
func (s *stock) open(command string) bool {
	for _, l := range s.lots {
		if _, has := l.Open[command]; has {
			return true
		}
	}
	return false
}

func lotUnit(l *lot) lab.Unit {
	if l == nil {
		return lab.Unit{}
	}
	return l.Amount.Unit
}

// takes writes down what the commands that are about to go out take from lots.
func (c *Core) takes(now time.Time, r *run, commands []DoCommand) (entries []lab.Entry) {
	for _, a := range commands {
		l, s := c.stock.in(a.Command.Target.Instrument), r.plan.Protocol.Step(a.Command.Step)
		if l == nil || s == nil {
			continue
		}
		for _, q := range r.plan.Takes(s, a.Command.Args) {
			if in, err := q.In(l.Amount.Unit); err == nil {
				t := lotTaken{l.ID, a.Command.ID, in, true}
				c.stock.take(r.id, t)
				r.took(l.ID, in.Value)
				entries = append(entries, c.entry(now, kindTaken, r.principal, r, t))
			}
		}
	}
	return entries
}

func (r *run) took(lot string, amount float64) {
	if r.taken == nil {
		r.taken = map[string]float64{}
	}
	r.taken[lot] += amount
}

// settleTaken corrects what a command took, once that is certain: all of it,
// nothing, or the part that was done. What is in doubt stays as it is.
func (c *Core) settleTaken(now time.Time, o lab.Outcome) {
	for _, id := range sortedKeys(c.stock.lots) {
		l := c.stock.lots[id]
		open, has := l.Open[o.Command]
		if !has {
			continue
		}
		q := lab.Quantity{Value: open.Amount, Unit: l.Amount.Unit}
		switch {
		case o.State == lab.InDoubt || o.State == lab.Unknown || o.State == lab.Accepted:
			continue
		case o.State == lab.Refused || o.State == lab.NotSent || o.State == lab.Resolved && o.As == "not_done":
			q.Value = 0
		case o.Amount != nil:
			if part, err := o.Amount.In(q.Unit); err == nil && part.Finite() && part.Value >= 0 {
				q.Value = min(part.Value, open.Amount)
			}
		}
		t := lotTaken{id, o.Command, q, false}
		c.stock.take(open.Run, t)
		e := c.entry(now, kindTaken, "", c.runs[open.Run], t)
		if e.Run == "" {
			e.Run = open.Run
		}
		c.note(e)
	}
}

// restoreStock takes an entry of the journal.
func (c *Core) restoreStock(e lab.Entry) error {
	if e.Kind == messages.KindStock {
		var b stockBody
		err := json.Unmarshal(e.Body, &b)
		if err == nil {
			_, _ = c.stock.change(e.Time, e.Principal, b.Reason, &b.StockChange) // one that did not fit then does not fit now
		}
		return err
	}
	var t lotTaken
	err := json.Unmarshal(e.Body, &t)
	if err == nil {
		c.stock.take(e.Run, t)
		if r := c.runs[e.Run]; r != nil && t.Open {
			r.took(t.Lot, t.Amount.Value)
		}
	}
	return err
}

// reserved is what runs that are not over may still take from a lot, but for
// one run.
func (c *Core) reserved(l *lot, but *run) float64 {
	sum := 0.0
	for _, r := range append(c.live[:len(c.live):len(c.live)], c.coming...) {
		if r != but && !r.over() && r.plan != nil {
			sum += max(0, r.plan.Bill.Taking(l.In, l.Amount.Unit)-r.taken[l.ID])
		}
	}
	return sum
}

// Stock lists lots, samples and calibrations, for people.
func (c *Core) Stock() *messages.Stock {
	return c.stock.all(func(l *lot) float64 { return c.reserved(l, nil) })
}

// checkLots asks whether the lots that are loaded in a plan's instruments are
// good, and enough beside what other runs will take.
func (c *Core) checkLots(now time.Time, plan *protocols.Plan, own *run) lab.Issues {
	var is lab.Issues
	for _, in := range plan.Instruments {
		l := c.stock.in(in)
		if l == nil {
			continue
		}
		need := plan.Bill.Taking(in, l.Amount.Unit)
		left := max(0, l.left()-c.reserved(l, own))
		quantity := func(v float64) lab.Quantity { return lab.Quantity{Value: v, Unit: l.Amount.Unit} }
		switch why := l.usable(now); {
		case need <= 0:
		case why != "":
			is = append(is, lab.Issue{Code: "lot_unusable", Path: "roles", Got: l.ID, Say: fmt.Sprintf("lot %s in %s can't be used: %s", l.ID, in, why),
				Hint: "a person loads another (labgate lots load)"})
		case need > left:
			is = append(is, lab.Issue{Code: "lot_too_small", Path: "roles", Got: quantity(need).String(), Allowed: "up to " + quantity(left).String(),
				Say:  fmt.Sprintf("the plan may take %s from %s; of lot %s there are %s left, beside what other runs will take", quantity(need), in, l.ID, quantity(left)),
				Hint: "ask for less, or a person loads another lot (labgate lots load)"})
		}
	}
	return is
}

// lotsOf are the lots in a run's instruments, by instrument.
func (c *Core) lotsOf(r *run) map[string]string {
	var list map[string]string
	for _, in := range r.plan.Instruments {
		if l := c.stock.in(in); l != nil {
			if list == nil {
				list = map[string]string{}
			}
			list[in] = l.ID
		}
	}
	return list
}

// calibrations are those of what a measurement came from, and which of them are
// overdue.
func (c *Core) calibrations(now time.Time, source string) (ids, overdue []string) {
	instrument, rest, _ := strings.Cut(source, ".")
	component, _, _ := strings.Cut(rest, ".")
	for _, key := range sortedKeys(c.stock.cals) {
		x := c.stock.cals[key]
		if x.Instrument != instrument || x.Property != "" && !strings.HasPrefix(x.Property, component+".") {
			continue
		}
		ids = append(ids, x.ID)
		if !now.Before(x.Until) {
			overdue = append(overdue, fmt.Sprintf("calibration %s of %s was good until %s", x.ID, key, x.Until.UTC().Format(time.RFC3339)))
		}
	}
	return ids, overdue
}

// stockBody is what the journal keeps of a change.
type stockBody struct {
	messages.StockChange
	Reason string `json:"reason,omitempty"`
}

// stockAsked makes a change for a person: durably first. It reports whether the
// answer comes later.
func (c *Core) stockAsked(now time.Time, pr *Principal, e ControlAsked, reply messages.ControlReply) (messages.ControlReply, bool) {
	change := e.Control.Stock
	if reply.Say = c.mayChangeStock(pr, change); reply.Say != "" {
		return reply, false
	}
	en := c.entry(now, messages.KindStock, pr.Name, nil, stockBody{*change, e.Control.Reason})
	if change.Sample != nil {
		en.Samples = []string{change.Sample.ID}
	} else if change.What == messages.SampleMove || change.What == messages.SampleUse {
		en.Samples = []string{change.ID}
	}
	c.append(func(_ time.Time, _ []lab.Ref, err error) {
		if err == nil {
			reply.Say, err = c.stock.change(now, pr.Name, e.Control.Reason, change)
		} else {
			err = fmt.Errorf("it could not be made durable: %w", err)
		}
		if reply.OK = err == nil; err != nil {
			reply.Say = err.Error()
		}
		c.do(Answer{e.Reply, reply})
	}, en)
	return reply, true
}

// mayChangeStock says what speaks against a change; empty: nothing yet.
func (c *Core) mayChangeStock(pr *Principal, change *messages.StockChange) string {
	switch {
	case change == nil:
		return "what is to be changed is missing"
	case pr.Role == "agent":
		return fmt.Sprintf("%s is an agent; only a person says what lots, samples and calibrations there are", pr.Name)
	case pr.Role != "operator" && pr.Role != "safety" && change.What != messages.SampleAdd && change.What != messages.SampleMove && change.What != messages.SampleUse:
		return fmt.Sprintf("%s is %s; only an operator or a safety officer may change lots and calibrations", pr.Name, pr.Role)
	case change.What != messages.LotUnload:
		return ""
	}
	if l := c.stock.lots[change.ID]; l != nil && l.In != "" {
		for _, r := range c.live {
			if r.active() && r.plan.Bill.Taking(l.In, l.Amount.Unit) > 0 {
				return fmt.Sprintf("run %s takes from lot %s now", r.id, l.ID)
			}
		}
	}
	return ""
}

// checkSamples refuses samples that are not there any more.
func (c *Core) checkSamples(p *proposal) (is lab.Issues) {
	for i, id := range p.Samples {
		if x := c.stock.samples[id]; x != nil && x.Used != "" {
			is = append(is, lab.Issue{Code: "sample_used", Path: fmt.Sprintf("samples[%d]", i), Got: id, Say: fmt.Sprintf("sample %s is used up: %s", id, x.Used)})
		}
	}
	return is
}

// madeSamples registers the samples that a run brings, as it begins.
func (c *Core) madeSamples(now time.Time, r *run) (changes []messages.StockChange, entries []lab.Entry) {
	for _, id := range r.allSamples() {
		if c.stock.samples[id] != nil || !stockID.MatchString(id) {
			continue
		}
		change := messages.StockChange{What: messages.SampleAdd, Sample: &messages.Sample{ID: id, Run: r.id}}
		changes = append(changes, change)
		en := c.entry(now, messages.KindStock, r.principal, r, stockBody{StockChange: change})
		en.Samples = []string{id}
		entries = append(entries, en)
	}
	return changes, entries
}
