package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"labgate/internal/bus"
	"labgate/messages"
	"labgate/report"
)

type queueListCmd struct{ client }

// Run lists what waits, in order, and why.
func (c *queueListCmd) Run(a *app) error {
	s, err := c.connect(a.ctx, "operator_1")
	if err != nil {
		return err
	}
	defer s.Close()
	r, err := s.control(a.ctx, messages.Control{Action: messages.ControlQueue})
	if err != nil {
		return err
	}
	if !r.OK {
		return errors.New(r.Say)
	}
	if !a.json {
		return report.Queue(a.out, r.Queue)
	}
	for _, i := range r.Queue {
		a.line(struct {
			Type string `json:"type"`
			messages.QueueInfo
		}{"waiting", i})
	}
	a.line(map[string]any{"type": "summary", "waiting": len(r.Queue)})
	return nil
}

type queueMoveCmd struct {
	client
	ID     string `arg:"" help:"The run that waits."`
	First  bool   `help:"Before all others." xor:"where" required:""`
	Before string `help:"Directly before this run." xor:"where" required:"" placeholder:"RUN"`
	Reason string `help:"Why." default:"labgate queue move"`
}

// Run puts a waiting run before another.
func (c *queueMoveCmd) Run(a *app) error {
	return c.ask(a, messages.Control{Action: messages.ControlMove, Run: c.ID, Before: c.Before, Reason: c.Reason})
}

type queueRemoveCmd struct {
	client
	ID     string `arg:"" help:"The run that waits."`
	Reason string `help:"Why." required:""`
}

// Run takes a run out of the queue; one that has begun is left alone.
func (c *queueRemoveCmd) Run(a *app) error {
	return c.ask(a, messages.Control{Action: messages.ControlRemove, Run: c.ID, Reason: c.Reason})
}

type cancelCmd struct {
	client
	ID     string `arg:"" help:"The run."`
	Reason string `help:"Why." default:"labgate cancel"`
}

// Help tells the verbs apart that stop a run.
func (c *cancelCmd) Help() string { return verbsHelp }

// Run takes a run out of the queue, or ends it in an orderly way.
func (c *cancelCmd) Run(a *app) error {
	return c.ask(a, messages.Control{Action: messages.ControlCancel, Run: c.ID, Reason: c.Reason})
}

type approveCmd struct {
	client
	ID      string `arg:"" help:"The run (labgate queue lists them)."`
	Content string `help:"The hash of what was shown: approve exactly that, without being asked." placeholder:"HASH"`
}

// Run shows what would be approved, and approves it: by its hash, or after a
// question on a terminal.
func (c *approveCmd) Run(a *app) error {
	s, err := c.connect(a.ctx, "operator_1")
	if err != nil {
		return err
	}
	defer s.Close()
	if c.Content != "" {
		return s.approval(a, messages.Approval{Run: c.ID, Decision: messages.ApproveDecision, Content: c.Content})
	}
	r, err := s.control(a.ctx, messages.Control{Action: messages.ControlApproval, Run: c.ID})
	if err != nil {
		return err
	}
	if !r.OK || r.Shown == nil {
		return errors.New(r.Say)
	}
	hash := r.Shown.ContentHash() // of what is shown here, whatever the station says it is
	if a.json {
		a.line(map[string]any{"type": "approvable", "content": hash, "shown": r.Shown, "say": r.Say})
		return nil
	}
	if err := report.Approvable(a.out, r.Shown, r.Say); err != nil {
		return err
	}
	if !onTerminal(os.Stdin) {
		a.say("\nto approve exactly this: labgate approve %s --content %s", c.ID, hash)
		return nil
	}
	fmt.Fprintf(a.out, "\ncontent %s\napprove exactly this as %s? [y/N] ", hash, s.name)
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || strings.ToLower(strings.TrimSpace(answer)) != "y" {
		a.say("not approved")
		return errRefused
	}
	return s.approval(a, messages.Approval{Run: c.ID, Decision: messages.ApproveDecision, Content: hash})
}

// onTerminal reports whether a person types there.
func onTerminal(f *os.File) bool {
	st, err := f.Stat()
	if err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull) // a character device, too, and nobody is there
	return err == nil && !os.SameFile(st, null)
}

type rejectCmd struct {
	client
	ID     string `arg:"" help:"The run."`
	Reason string `help:"Why." required:""`
}

// Run rejects a run that waits for approval.
func (c *rejectCmd) Run(a *app) error {
	s, err := c.connect(a.ctx, "operator_1")
	if err != nil {
		return err
	}
	defer s.Close()
	return s.approval(a, messages.Approval{Run: c.ID, Decision: messages.RejectDecision, Reason: c.Reason})
}

// approval sends a person's word on a run and prints what was answered.
func (s *session) approval(a *app, m messages.Approval) error {
	m.Kind, m.ID = messages.KindApproval, newID()
	ctx, cancel := context.WithTimeout(a.ctx, 5*time.Second)
	defer cancel()
	b, err := s.Request(ctx, bus.Approvals(s.lab, s.name), messages.Body(m))
	var r messages.ControlReply
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return fmt.Errorf("%s was not heard: the station is down, or %s is nobody who may approve (%w)", m.Decision, s.name, err)
	}
	return a.answered(r)
}
