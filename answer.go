package main

import (
	"fmt"

	"labgate/lab"
	"labgate/messages"
)

type answerCmd struct {
	client
	ID     string            `arg:"" name:"run" help:"The run (labgate runs lists what is asked)."`
	Step   string            `arg:"" help:"The step that asks."`
	No     bool              `help:"It was not done, or is not so: the step has failed."`
	Value  map[string]string `help:"What the answer holds, name=value; again for each." short:"v"`
	Reason string            `help:"A remark, for the record."`
}

// Run answers a step that asks a person. Agents can't.
func (c *answerCmd) Run(a *app) error {
	m := messages.Control{Action: messages.ControlAnswer, Run: c.ID, Step: c.Step, As: "yes", Reason: c.Reason}
	if c.No {
		if m.As = "no"; len(c.Value) > 0 {
			return fmt.Errorf("%w: --no says that it was not done; --value has no place beside it", errUsage)
		}
	}
	for name, text := range c.Value {
		if m.Values == nil {
			m.Values = map[string]lab.Value{}
		}
		m.Values[name] = parseInput(text)
	}
	return c.ask(a, m)
}
