package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	gatewayservice "labgate/gateway/service"
	"labgate/internal/bus"
	"labgate/internal/journal"
	"labgate/internal/wall"
	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
	"labgate/report"
)

// clockAndIDs are the real ones, for what the client verbs make.
var clockAndIDs = struct {
	clock wall.Clock
	ids   *wall.IDs
}{ids: wall.NewIDs()}

// client is how a verb reaches a running station.
type client struct {
	Server string `help:"The station's NATS URL (default: from the data folder's context.json)." placeholder:"URL"`
	As     string `help:"Who asks: a principal with a key in the data folder, or the path of a seed." placeholder:"KEY"`
	Data   string `help:"The data folder of the station." default:"labgate-data/demo" placeholder:"DIR"`
}

// session is a connected principal.
type session struct {
	*bus.Conn
	lab  string
	name string
}

func (c client) connect(ctx context.Context, as string) (*session, error) {
	data := folder(c.Data)
	st, err := data.readContext()
	if err != nil {
		return nil, err
	}
	if c.Server != "" {
		st.Server = c.Server
	}
	if c.As != "" {
		as = c.As
	}
	name, seed, err := data.keyFor(as)
	if err != nil {
		return nil, err
	}
	conn, err := bus.Connect(ctx, bus.ConnOptions{URL: st.Server, Seed: seed, Name: name, Lab: st.Lab})
	if err != nil {
		return nil, fmt.Errorf("%s does not answer at %s; does its serve or demo still run? (%w)", st.Lab, st.Server, err)
	}
	return &session{conn, st.Lab, name}, nil
}

// control asks one thing and reads the answer.
func (s *session) control(ctx context.Context, c messages.Control) (messages.ControlReply, error) {
	c.Kind, c.ID = messages.KindControl, newID()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	b, err := s.Request(ctx, bus.Control(s.lab, s.name), messages.Body(c))
	var r messages.ControlReply
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	return r, err
}

func newID() string { return clockAndIDs.ids.New(clockAndIDs.clock.Now()) }

type submitCmd struct {
	client
	Protocol string            `arg:"" help:"A protocol of the library (name or name@version), or a file."`
	Input    map[string]string `help:"An input, name=value; again for each." short:"i"`
	Key      string            `help:"The proposal's key (default: a new one). The same key is the same proposal, for ever."`
	Priority string            `help:"low, normal or high: how much of a head start its place in the queue has." enum:",low,normal,high" default:""`
	Within   string            `help:"Not to begin later than this from now." default:"10 min"`
}

// Run proposes, follows and prints.
func (c *submitCmd) Run(a *app) error {
	s, err := c.connect(a.ctx, "scientist_1")
	if err != nil {
		return err
	}
	defer s.Close()
	p, err := c.proposal()
	if err != nil {
		return err
	}
	body := messages.Body(p)
	if len(body) > messages.MaxProposal {
		return fmt.Errorf("the proposal would have %d bytes, with the protocol's text; at most %d are taken", len(body), messages.MaxProposal)
	}
	f := newFollower(a, s, p)
	if err := f.listen(); err != nil {
		return err
	}
	// A request to the work queue is answered once it is stored.
	ctx, cancel := context.WithTimeout(a.ctx, 5*time.Second)
	defer cancel()
	if _, err := s.Request(ctx, bus.Proposals(s.lab, s.name), body); err != nil {
		return fmt.Errorf("the proposal was not taken: %w", err)
	}
	return f.follow()
}

func (c *submitCmd) proposal() (messages.Proposal, error) {
	p := messages.Proposal{Kind: messages.KindProposal, ID: newID(), Key: c.Key, Priority: c.Priority, Inputs: map[string]lab.Value{}}
	if p.Key == "" {
		p.Key = "submit/" + p.ID
	}
	q, err := lab.ParseQuantity(c.Within)
	if err != nil {
		return p, fmt.Errorf("%w: --within: %v", errUsage, err)
	}
	d, err := q.Duration()
	if err != nil {
		return p, fmt.Errorf("%w: --within: %v", errUsage, err)
	}
	t := time.Now().Add(d).UTC()
	p.NotAfter = &t
	for name, text := range c.Input {
		p.Inputs[name] = parseInput(text)
	}
	if st, err := os.Stat(c.Protocol); err == nil && !st.IsDir() {
		data, err := readBounded(c.Protocol)
		p.Inline = string(data)
		return p, err
	}
	name, version, ok := strings.Cut(c.Protocol, "@")
	if !ok {
		version = newestVersion(name)
	}
	p.Protocol = &messages.ProtocolRef{Name: name, Version: version}
	return p, nil
}

// newestVersion finds the version of a built-in protocol; the runner says what
// it has if there is none.
func newestVersion(name string) string {
	for _, file := range sortedNames(protocols.Library()) {
		head := string(protocols.Library()[file])
		if strings.Contains(head, "protocol: "+name+"\n") {
			_, rest, _ := strings.Cut(head, "\nversion: ")
			version, _, _ := strings.Cut(rest, "\n")
			return strings.TrimSpace(version)
		}
	}
	return "1.0.0"
}

// parseInput reads an input as it is typed: 72 degC, 5, true, fast. What it
// means is for the protocol to say.
func parseInput(text string) lab.Value {
	if q, err := lab.ParseQuantity(text); err == nil {
		if q.Unit == lab.One && q.Value == float64(int64(q.Value)) {
			return lab.IntegerValue(int64(q.Value))
		}
		return lab.NumberValue(q)
	}
	if text == "true" || text == "false" {
		return lab.BoolValue(text == "true")
	}
	return lab.TextValue(text)
}

type runsCmd struct {
	client
	ID string `arg:"" optional:"" help:"One run."`
}

// Run lists runs, latches and doubts.
func (c *runsCmd) Run(a *app) error {
	s, err := c.connect(a.ctx, "operator_1")
	if err != nil {
		return err
	}
	defer s.Close()
	r, err := s.control(a.ctx, messages.Control{Action: messages.ControlRuns, Run: c.ID})
	if err != nil {
		return err
	}
	if !r.OK {
		return errors.New(r.Say)
	}
	if c.ID != "" && len(r.Runs) == 0 {
		return fmt.Errorf("there is no run %s", c.ID)
	}
	st, err := s.control(a.ctx, messages.Control{Action: messages.ControlStatus})
	if err != nil {
		return err
	}
	if a.json {
		for _, i := range r.Runs {
			a.line(struct {
				Type string `json:"type"`
				messages.RunInfo
			}{"run", i})
		}
		a.line(struct {
			Type string `json:"type"`
			*messages.Status
		}{"status", st.Status})
		return nil
	}
	if len(r.Runs) >= 1000 { // not all that there are
		a.log(r.Say)
	}
	return report.Runs(a.out, r.Runs, st.Status)
}

type exportCmd struct {
	Run_ string `arg:"" name:"run" help:"The run's id."`
	To   string `help:"The folder to write to." required:"" placeholder:"DIR"`
	Data string `help:"The data folder of the station." default:"labgate-data/demo" placeholder:"DIR"`
}

// Run exports from the data folder; no station needs to run.
func (c *exportCmd) Run(a *app) error {
	var docs []json.RawMessage
	err := journal.Show(a.ctx, c.Data, journal.Filter{Run: c.Run_}, func(_ lab.Ref, e lab.Entry) error {
		switch e.Kind {
		case messages.KindRunStart, messages.KindRunDescriptor, messages.KindRunEvent, messages.KindRunResource, messages.KindRunStop:
			docs = append(docs, withKind(e))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(docs) == 0 {
		return fmt.Errorf("the journal in %s has no run %s that began", c.Data, c.Run_)
	}
	files, err := report.Export(c.To, report.RunData{Documents: docs, Blob: journal.NewBlobs(c.Data).Get})
	if err != nil {
		return err
	}
	if a.json {
		a.line(map[string]any{"type": "export", "run": c.Run_, "to": c.To, "files": files})
		return nil
	}
	for _, f := range files {
		a.say("%s", f)
	}
	return nil
}

// withKind gives a journalled document the envelope that it had on the bus, as
// far as the journal knows it.
func withKind(e lab.Entry) json.RawMessage {
	var m map[string]any
	if err := json.Unmarshal(e.Body, &m); err != nil {
		return e.Body
	}
	m["kind"], m["time"], m["origin"], m["boot"], m["synthetic"] = e.Kind, e.Time, e.Origin, e.Boot, e.Synthetic
	return messages.Body(m)
}

type stopCmd struct {
	client
	Instrument string `arg:"" optional:"" help:"One instrument; all if left out."`
	Reason     string `help:"Why." default:"labgate stop"`
}

// Help tells the verbs apart that stop a run.
func (c *stopCmd) Help() string { return verbsHelp }

// Run stops over NATS, and over the gateway's local socket when NATS does not
// answer.
func (c *stopCmd) Run(a *app) error {
	stop := messages.Stop{Kind: messages.KindStop, ID: newID(), Instrument: c.Instrument, Principal: "local", Reason: c.Reason}
	reply, natsErr := c.overNATS(a.ctx, stop)
	way := "NATS"
	if natsErr != nil {
		way = "the local socket"
		st, err := folder(c.Data).readContext()
		if err != nil {
			return errors.Join(natsErr, err)
		}
		a.log(fmt.Sprintf("NATS does not answer (%v); trying the local socket", natsErr))
		ctx, cancel := context.WithTimeout(a.ctx, 10*time.Second)
		defer cancel()
		if err := gatewayservice.AskLocal(ctx, st.Control, stop, &reply); err != nil {
			return fmt.Errorf("THE STOP DID NOT GET THROUGH: use the hard-wired emergency stop (%w)", errors.Join(natsErr, err))
		}
	}
	bad := 0
	for _, n := range sortedNames(reply.Instruments) {
		if r := reply.Instruments[n]; r != "confirmed" && r != "kept" {
			bad++
		}
	}
	if a.json {
		a.line(struct {
			Type string `json:"type"`
			Way  string `json:"way"`
			messages.StopReply
		}{"stop", way, reply})
	} else {
		a.say("stopped over %s; latched until a person resets it (labgate trips lists what, labgate reset RULE --reason … clears one)", way)
		for _, n := range sortedNames(reply.Instruments) {
			a.say("  %-14s %s", n, reply.Instruments[n])
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d instruments are NOT confirmed to be safe", bad, len(reply.Instruments))
	}
	return nil
}

func (c *stopCmd) overNATS(ctx context.Context, stop messages.Stop) (messages.StopReply, error) {
	var reply messages.StopReply
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	s, err := c.connect(ctx, "operator_1")
	if err != nil {
		return reply, err
	}
	defer s.Close()
	stop.Principal = s.name
	b, err := s.Request(ctx, bus.Stop(s.lab), messages.Body(stop))
	if err != nil {
		return reply, err
	}
	return reply, json.Unmarshal(b, &reply)
}

type resetCmd struct {
	client
	Rule   string `arg:"" help:"The rule that tripped, or stop."`
	Reason string `help:"Why it is safe to go on." required:""`
}

// Run clears a latch.
func (c *resetCmd) Run(a *app) error {
	return c.ask(a, messages.Control{Action: messages.ControlReset, Rule: c.Rule, Reason: c.Reason})
}

type resolveCmd struct {
	client
	Command string `arg:"" help:"The command in doubt (labgate runs lists them)."`
	As      string `arg:"" enum:"done,not_done,partly" help:"done, not_done, or partly with --amount."`
	Amount  string `help:"How much of it was done, as in --amount '3 mL'." placeholder:"QUANTITY"`
	Reason  string `help:"How it is known." required:""`
}

// Run settles a doubt.
func (c *resolveCmd) Run(a *app) error {
	m := messages.Control{Action: messages.ControlResolve, Command: c.Command, As: c.As, Reason: c.Reason}
	if (c.As == "partly") != (c.Amount != "") {
		return fmt.Errorf("%w: partly goes with --amount, and nothing else does", errUsage)
	}
	if c.Amount != "" {
		q, err := lab.ParseQuantity(c.Amount)
		if err != nil {
			return fmt.Errorf("%w: --amount: %v", errUsage, err)
		}
		m.Amount = &q
	}
	return c.ask(a, m)
}

type abortCmd struct {
	client
	ID     string `arg:"" help:"The run."`
	Reason string `help:"Why." default:"labgate abort"`
}

// Help tells the verbs apart that stop a run.
func (c *abortCmd) Help() string { return verbsHelp }

// Run ends a run.
func (c *abortCmd) Run(a *app) error {
	return c.ask(a, messages.Control{Action: messages.ControlAbort, Run: c.ID, Reason: c.Reason})
}

// ask sends one control message and prints what was answered.
func (c client) ask(a *app, m messages.Control) error {
	s, err := c.connect(a.ctx, "operator_1")
	if err != nil {
		return err
	}
	defer s.Close()
	r, err := s.control(a.ctx, m)
	if err != nil {
		return err
	}
	return a.answered(r)
}

// answered prints what was answered to a request.
func (a *app) answered(r messages.ControlReply) error {
	if a.json {
		a.line(r)
	} else if r.OK {
		a.say("%s", r.Say)
	}
	if !r.OK {
		return errors.New(r.Say)
	}
	return nil
}

type keysNewCmd struct {
	Name string `arg:"" help:"The principal's name."`
	Role string `help:"agent, scientist, operator or safety." enum:"agent,scientist,operator,safety" required:""`
	Data string `help:"The data folder of the station." default:"labgate-data/demo" placeholder:"DIR"`
}

// Run makes a key and lists it.
func (c *keysNewCmd) Run(a *app) error {
	data := folder(c.Data)
	if err := data.addPrincipal(c.Name, c.Role); err != nil {
		return err
	}
	if a.json {
		a.line(map[string]string{"type": "key", "name": c.Name, "role": c.Role, "seed": data.path("keys", c.Name+".nk"), "access": data.path("access.yaml")})
		return nil
	}
	a.say("%s is a new %s\n  key     %s (keep it secret)\n  listed  %s (counts from the next start of serve)", c.Name, c.Role, data.path("keys", c.Name+".nk"), data.path("access.yaml"))
	return nil
}
