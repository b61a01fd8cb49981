package main

import (
	"fmt"
	"strings"

	"labgate/internal/rulecases"
	"labgate/lab"
	"labgate/report"
)

type interlocksTryCmd struct {
	Lab string   `help:"The lab whose rules decide." default:"demo" placeholder:"DIR"`
	Set []string `help:"What a property is, name=value, or frozen, bad, missing …; again for each. Everything else is healthy." placeholder:"NAME=VALUE" sep:"none"`
	Do  string   `help:"The command, as in pump_a.dose(volume = 5 mL, rate = 1 mL/min)." required:""`
}

// tried is what try says; with --json it is one line.
type tried struct {
	Type    string     `json:"type"` // decision
	Allow   bool       `json:"allow"`
	Rule    string     `json:"rule,omitempty"` // of the first reason
	Say     string     `json:"say"`
	Inputs  []input    `json:"inputs"`
	Nearest *lab.Value `json:"nearest"`
	Issues  lab.Issues `json:"issues,omitempty"` // every reason
	Rules   []string   `json:"rules"`            // that were asked
	Wait    string     `json:"wait,omitempty"`   // what waiting may change
}

// input is a reading that the rules stand on, and where it is from.
type input struct {
	lab.Used
	Given bool `json:"given"` // else it is the nominal one
}

// Run explains one decision.
func (c *interlocksTryCmd) Run(a *app) error {
	cfg, err := loadLab(c.Lab)
	if err != nil {
		return err
	}
	var given []rulecases.Setting
	set := map[string]bool{}
	for _, text := range c.Set {
		s, is := rulecases.Set(cfg.Lab, text)
		if len(is) > 0 {
			return fmt.Errorf("%w: --set %s: %s", errUsage, text, is[0].Error())
		}
		given = append(given, s)
		set[s.Property().String()] = true
	}
	d, err := rulecases.NewRunner(cfg.Lab, cfg.Rules, rulecases.Nominal(cfg.Lab, cfg.Rules)).Try(given, c.Do)
	if err != nil {
		return fmt.Errorf("%w: --do: %v", errUsage, err)
	}
	t := tried{Type: "decision", Allow: d.Allow, Issues: d.Issues, Rules: d.Rules, Say: c.Do + " would be allowed", Inputs: []input{}}
	for _, u := range d.Inputs {
		t.Inputs = append(t.Inputs, input{u, set[u.Signal]})
	}
	for i, x := range d.Issues {
		if i == 0 {
			t.Rule, t.Say, t.Wait = x.Rule, x.Say, x.Wait
		}
		if t.Nearest == nil && x.Nearest != nil {
			t.Nearest = x.Nearest
		}
	}
	c.tell(a, t)
	if !d.Allow {
		return errRefused
	}
	return nil
}

func (c *interlocksTryCmd) tell(a *app, t tried) {
	if a.json {
		a.line(t)
		return
	}
	word := "ALLOWED"
	if !t.Allow {
		word = "REFUSED"
	}
	a.say("%s  %s", word, c.Do)
	for _, i := range t.Issues {
		a.say("  %-24s %s", i.Rule, i.Say)
		if i.Nearest != nil {
			a.say("  %-24s the nearest that would pass it: %s", "", report.Short(*i.Nearest))
		}
		if i.Wait != "" {
			a.say("  %-24s waiting may help: %s", "", i.Wait)
		}
	}
	a.say("  asked: %s", strings.Join(t.Rules, ", "))
	for _, u := range t.Inputs {
		v, from := "unknown", "nominal"
		if u.Value != nil {
			v = report.Short(*u.Value)
		}
		if u.Given {
			from = "given"
		}
		why := ""
		if u.Why != "" {
			why = ", " + u.Why
		}
		a.say("  %-32s %s (%s, %s, %.0f ms old%s)", u.Signal, v, from, u.Quality, u.AgeMS, why)
	}
}
