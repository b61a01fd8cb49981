package planner

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"labgate/lab"
	"labgate/messages"
)

// maxExperiments bounds one campaign.
const maxExperiments = 1000

// maxTries is how often one experiment is proposed, repaired from the nearest
// legal values each time.
const maxTries = 3

// model names what proposes, as a proposal's model field says it.
const modelName = "labgate/reference-planner@1"

// Options make a campaign. Everything but Seed, Campaign and Progress is
// mandatory.
type Options struct {
	Lab         string
	Principal   string
	Conn        lab.Bus // connected as Principal
	Clock       lab.Clock
	IDs         lab.IDs
	Target      float64 // nm
	Experiments int     // 1 to 1000
	Seed        uint64
	Campaign    string      // at most 64 bytes; "" is "planner"
	Progress    func(Event) // called on Run's goroutine; must not block for long
}

// Phase is what an Event tells of.
type Phase string

// The phases of an experiment.
const (
	Proposing Phase = "proposing" // Experiment has inputs, prediction and hypothesis
	Verdict   Phase = "verdict"   // Verdict is set
	Started   Phase = "started"   // the run has its instruments
	Step      Phase = "step"      // a step's measurement or end: Step, Data, Outcome
	Late      Phase = "late"      // something was lost or is late, and is asked for; Say says what
	Measured  Phase = "measured"  // Experiment is over, however it ended
)

// Event is progress, for people.
type Event struct {
	Phase      Phase
	N, Of      int // the experiment, and how many there are to be
	Run        string
	Step       string
	Data       map[string]lab.Value
	Outcome    lab.State
	Say        string
	Verdict    *messages.Verdict
	Experiment Experiment // as far as it is
}

func (o *Options) check() error {
	var err error
	switch {
	case !lab.ValidName(o.Lab):
		err = lab.CheckName("lab", o.Lab)
	case !lab.ValidName(o.Principal):
		err = lab.CheckName("principal", o.Principal)
	case o.Conn == nil || o.Clock == nil || o.IDs == nil:
		err = errors.New("a connection, a clock and a source of ids are needed")
	case !(o.Target > 0) || math.IsInf(o.Target, 0):
		err = fmt.Errorf("%v nm is no wavelength to aim at", o.Target)
	case o.Experiments < 1 || o.Experiments > maxExperiments:
		err = fmt.Errorf("%d experiments; 1 to %d can be asked for", o.Experiments, maxExperiments)
	case len(o.Campaign) > 64:
		err = errors.New("the campaign's name has more than 64 bytes")
	}
	if err != nil {
		return lab.E("planner: run", "", lab.KindInvalid, err)
	}
	return nil
}

// Run proposes one experiment after the other and returns them all, in order.
// What was refused or did not succeed is among them and is no error. It stops
// early, with what it has and an error, when ctx is done (KindCancelled), when
// nobody answers a proposal any more (KindUnavailable) and when a run does not
// end in its time (KindOutcomeUnknown): going on would only queue behind it.
func Run(ctx context.Context, o Options) ([]Experiment, error) {
	if o.Campaign == "" {
		o.Campaign = "planner"
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Progress == nil {
		o.Progress = func(Event) {}
	}
	ctx, cancel := context.WithCancel(ctx) // ends the subscriptions
	defer cancel()
	s := &session{o: o, inbox: make(chan lab.Message, maxInbox)}
	if err := s.listen(ctx); err != nil {
		return nil, err
	}
	c := &campaign{session: s, opt: newOptimiser(o.Target, o.Experiments, o.Seed), prefix: o.Campaign + "/" + s.id()}
	for n := 1; n <= o.Experiments; n++ {
		if ctx.Err() != nil {
			return c.done, cancelled(ctx)
		}
		choice, err := c.opt.next()
		if err != nil {
			return c.done, err
		}
		if err := c.experiment(ctx, n, choice); err != nil {
			return c.done, err
		}
	}
	return c.done, nil
}

// campaign is a Run under way.
type campaign struct {
	*session
	opt    *optimiser
	prefix string // of keys: a campaign of the same name may have run before
	done   []Experiment
}

// experiment proposes one setting, follows it to its end and learns from it.
// It is on record whatever happens.
func (c *campaign) experiment(ctx context.Context, n int, ch choice) (err error) {
	e := &Experiment{N: n, Exit: ExitUnanswered}
	defer func() {
		c.done = append(c.done, *e)
		c.tell(e, Event{Phase: Measured, Run: e.Run, Say: e.Say})
	}()
	v, ch, err := c.decide(ctx, e, ch)
	if err != nil || v.Decision != messages.AcceptedDecision {
		return err
	}
	e.Run, e.Exit, e.Say = v.Run, ExitUnfinished, "it was not followed to its end"
	if err := c.follow(ctx, e, v); err != nil {
		return err
	}
	if peak, ok := e.Peak(); ok && e.Exit == messages.ExitSuccess {
		c.opt.learn(ch.setting, peak)
	}
	return nil
}

// decide proposes until there is an acceptance, a refusal that can't be
// repaired, or maxTries. It returns the last verdict and what was proposed.
func (c *campaign) decide(ctx context.Context, e *Experiment, ch choice) (messages.Verdict, choice, error) {
	version := protocolVersion
	for try := 1; ; try++ {
		p := c.proposal(e.N, try, ch, version)
		e.Key, e.Tries, e.Inputs, e.Predicted, e.Hypothesis = p.Key, try, ch.inputs(), p.Predicts, p.Hypothesis
		c.tell(e, Event{Phase: Proposing, Say: p.Hypothesis})
		v, err := c.propose(ctx, e, p)
		if err != nil {
			e.Say = err.Error()
			return v, ch, err
		}
		c.tell(e, Event{Phase: Verdict, Run: v.Run, Verdict: &v, Say: v.Say})
		e.Say = v.Say
		e.Issues = append(e.Issues, v.Issues...)
		switch v.Decision {
		case messages.AcceptedDecision:
			return v, ch, nil
		case messages.NeedsApprovalDecision:
			e.Exit = ExitNeedsApproval
			return v, ch, nil
		}
		e.Exit = ExitRejected
		fixed, fixedVersion, ok := c.opt.repair(ch.setting, version, v.Issues)
		if !ok || try == maxTries {
			return v, ch, nil
		}
		if ch, err = c.opt.moved(fixed); err != nil {
			return v, ch, err
		}
		version = fixedVersion
	}
}

// proposal writes one try. Each has a key of its own.
func (c *campaign) proposal(n, try int, ch choice, version string) messages.Proposal {
	key := fmt.Sprintf("%s/%d", c.prefix, n)
	if try > 1 {
		key = fmt.Sprintf("%s-%d", key, try)
	}
	until := c.o.Clock.Now().Add(beginWithin).UTC()
	inputs := map[string]lab.Value{}
	for name, q := range ch.inputs() {
		inputs[name] = lab.NumberValue(q)
	}
	return messages.Proposal{Kind: messages.KindProposal, ID: c.id(), Key: key, Campaign: c.o.Campaign,
		Protocol: &messages.ProtocolRef{Name: protocolName, Version: version}, Inputs: inputs, Hypothesis: ch.hypothesis,
		Predicts: map[string]messages.Prediction{outPeak: {Value: milli(ch.mean), SD: milli(ch.sd), Unit: nanometre.String()}},
		NotAfter: &until, Model: modelName}
}

// repair puts every nearest legal value in its place, and never proposes
// beyond it again. It gives up where one issue can't be repaired so, or where
// the repair would be another experiment altogether.
func (o *optimiser) repair(s setting, version string, issues lab.Issues) (setting, string, bool) {
	was, wasVersion := s, version
	for _, i := range issues {
		if !i.Repairable || i.Nearest == nil {
			return s, version, false
		}
		if i.Path == "protocol.version" && i.Nearest.Kind == lab.Text {
			version = i.Nearest.Text
			continue
		}
		name, ok := inputOf(i.Path)
		if !ok {
			return s, version, false
		}
		v, err := lab.Type{Kind: lab.Number, Unit: inputUnits[name]}.Conform(*i.Nearest)
		if err != nil {
			return s, version, false
		}
		o.space.tighten(name, s.get(name), v.Num)
		s = s.with(name, v.Num)
	}
	return s, version, s != was || version != wasVersion
}

// inputOf is the input that an issue's path speaks of.
func inputOf(path string) (string, bool) {
	for name := range inputUnits {
		if path == "inputs."+name {
			return name, true
		}
	}
	return "", false
}

// Times of the conversation.
const (
	beginWithin   = 10 * time.Minute // a proposal that has not begun by then never does
	verdictAsk    = 5 * time.Second  // without a verdict it is asked for
	verdictWithin = time.Minute      // then nobody is there
	documentAsk   = 10 * time.Second // without a document the run is asked for
	runGrace      = time.Minute      // beyond its worst case
	replyWithin   = 3 * time.Second
	resendAfter   = time.Second // a proposal that was not stored
)
