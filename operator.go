package main

import (
	"errors"
	"fmt"

	"labgate/lab"
	"labgate/messages"
	"labgate/report"
)

type tripsCmd struct{ client }

// Run shows what is tripped, bypassed and alarmed: when, why, the inputs then
// and now, and whether a reset would be taken.
func (c *tripsCmd) Run(a *app) error {
	s, err := c.connect(a.ctx, "operator_1")
	if err != nil {
		return err
	}
	defer s.Close()
	r, err := s.control(a.ctx, messages.Control{Action: messages.ControlTrips})
	if err != nil {
		return err
	}
	if !r.OK || r.Status == nil {
		return errors.New(r.Say)
	}
	if !a.json {
		return report.Trips(a.out, r.Status)
	}
	for _, t := range r.Status.Trips {
		a.line(struct {
			Type string `json:"type"`
			messages.Trip
		}{"trip", t})
	}
	for _, b := range r.Status.Bypasses {
		a.line(struct {
			Type string `json:"type"`
			messages.Bypass
		}{"bypass", b})
	}
	for _, x := range r.Status.Alarms {
		a.line(struct {
			Type string `json:"type"`
			messages.Alarm
		}{"alarm", x})
	}
	a.line(map[string]any{"type": "summary", "trips": len(r.Status.Trips), "bypasses": len(r.Status.Bypasses), "alarms": len(r.Status.Alarms), "rules_hash": r.Status.RulesHash})
	return nil
}

type bypassCmd struct {
	client
	Rule   string `arg:"" help:"The rule."`
	For    string `help:"For how long; then it is armed again by itself." placeholder:"DURATION"`
	Reason string `help:"Why, and what is done instead."`
	End    bool   `help:"Arm it again now."`
}

// Run sets a rule aside for a time, or arms it again.
func (c *bypassCmd) Run(a *app) error {
	if c.End {
		if c.For != "" {
			return fmt.Errorf("%w: --end arms the rule now; --for has no place beside it", errUsage)
		}
		return c.ask(a, messages.Control{Action: messages.ControlRearm, Rule: c.Rule, Reason: c.Reason})
	}
	if c.For == "" || c.Reason == "" {
		return fmt.Errorf("%w: a bypass needs --reason and --for (as in --for '30 min'), or --end", errUsage)
	}
	q, err := howLong(c.For)
	if err != nil {
		return err
	}
	return c.ask(a, messages.Control{Action: messages.ControlBypass, Rule: c.Rule, Reason: c.Reason, For: q})
}

// howLong reads a --for.
func howLong(s string) (*lab.Quantity, error) {
	q, err := lab.ParseQuantity(s)
	if err == nil {
		_, err = q.Duration()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: --for: %v", errUsage, err)
	}
	return &q, nil
}

type acknowledgeCmd struct {
	client
	Rule string `arg:"" help:"The alarm's rule (labgate trips lists them)."`
}

// Run notes that an alarm was seen.
func (c *acknowledgeCmd) Run(a *app) error {
	return c.ask(a, messages.Control{Action: messages.ControlAcknowledge, Rule: c.Rule})
}

type reloadCmd struct{ client }

// Run has the lab's interlocks read again. A bad file leaves the rules in force
// as they are; its issues are printed.
func (c *reloadCmd) Run(a *app) error {
	s, err := c.connect(a.ctx, "operator_1")
	if err != nil {
		return err
	}
	defer s.Close()
	r, err := s.control(a.ctx, messages.Control{Action: messages.ControlReload})
	if err != nil {
		return err
	}
	if a.json {
		a.line(r)
	}
	switch {
	case len(r.Issues) > 0:
		for _, i := range r.Issues {
			a.log(i.Error())
		}
		return fmt.Errorf("the rules of before stay in force: %d issues", len(r.Issues))
	case !r.OK:
		return errors.New(r.Say)
	}
	a.say("%s", r.Say)
	return nil
}

type holdCmd struct {
	client
	ID     string `arg:"" help:"The run."`
	For    string `help:"For how long; then it is aborted." default:"10 min" placeholder:"DURATION"`
	Reason string `help:"Why." required:""`
}

// Run keeps a run where it is.
func (c *holdCmd) Run(a *app) error {
	q, err := howLong(c.For)
	if err != nil {
		return err
	}
	return c.ask(a, messages.Control{Action: messages.ControlHold, Run: c.ID, Reason: c.Reason, For: q})
}

// Help tells the verbs apart that stop a run.
func (c *holdCmd) Help() string { return verbsHelp }

const verbsHelp = `What holds and ends runs:
  hold    nothing new of the run is begun, what is under way comes to its end, the instruments stay leased
          and as they are (labgate runs tells how). It ends: resume, or an abort when its time is up.
  resume  a held run goes on where it stands.
  abort   the run ends: what is under way is stopped, then its cleanup and its finally are carried out.
  cancel  the same, and one that has not begun leaves the queue: its result is not wanted.
  stop    not about a run: instruments go to their safe state at once, past everything; it latches until reset,
          and their runs end without a cleanup.`

type resumeCmd struct {
	client
	ID     string `arg:"" help:"The run that is held."`
	Reason string `help:"Why it may go on."`
}

// Help tells the verbs apart that stop a run.
func (c *resumeCmd) Help() string { return verbsHelp }

// Run lets a held run go on, after the reset of what tripped.
func (c *resumeCmd) Run(a *app) error {
	return c.ask(a, messages.Control{Action: messages.ControlRelease, Run: c.ID, Reason: c.Reason})
}
