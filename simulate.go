package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"labgate/configs"
	"labgate/internal/twin"
	"labgate/lab"
	"labgate/lab/frame"
	"labgate/messages"
	"labgate/protocols"
	"labgate/report"
	"labgate/runner"
)

type simulateCmd struct {
	Protocol    string            `arg:"" help:"A protocol file, or the name of a built-in one."`
	Lab         string            `help:"The lab folder, or a built-in lab (default: the one that the protocol names, else demo)." placeholder:"DIR"`
	Input       map[string]string `help:"An input, name=value; again for each." short:"i"`
	Seed        uint64            `help:"Of the world's noise and of every delay." default:"1"`
	Seeds       string            `help:"Several, one run each: 1-20." placeholder:"A-B"`
	Fault       []string          `help:"A fault from the start, or from a time on: pump_a:actuator_dead or room:nan@30s; again for each." placeholder:"INSTRUMENT:FAULT[@TIME]"`
	Answers     string            `help:"What people answer to steps that ask: yes or no." enum:"yes,no" default:"yes"`
	AnswerAfter string            `help:"How long they take, in the lab's time." default:"30 s" placeholder:"DURATION"`
	Trace       string            `help:"Write everything that happened to a file." type:"path" placeholder:"FILE"`
}

// simulated is what simulate says of one run; with --json it is one line.
type simulated struct {
	Type      string               `json:"type"` // run
	Seed      uint64               `json:"seed"`
	Decision  string               `json:"decision"`
	Issues    lab.Issues           `json:"issues,omitempty"`
	Exit      string               `json:"exit_status,omitempty"`
	Reason    string               `json:"reason,omitempty"`
	Rule      string               `json:"rule,omitempty"`
	Outputs   map[string]lab.Value `json:"outputs,omitempty"`
	Events    int                  `json:"events"`
	Latched   []string             `json:"latched,omitempty"`
	Synthetic bool                 `json:"synthetic"`
	LabTime   lab.Quantity         `json:"lab_time"` // of the run, in the lab
	Seconds   float64              `json:"seconds"`  // that it took here
}

// Run carries a protocol out on the twin, in virtual time.
func (c *simulateCmd) Run(a *app) error {
	cfg, p, err := loadProtocol(c.Protocol, c.Lab)
	if err != nil {
		if list, ok := err.(lab.Issues); ok && !a.json {
			for _, i := range list {
				a.say("%s", i.Error())
			}
			return errRefused
		}
		return err
	}
	seeds, err := c.seeds()
	if err != nil {
		return err
	}
	// A run makes little that lasts: memory for time, of which people have less.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	good := 0
	for _, seed := range seeds {
		if a.ctx.Err() != nil {
			return a.ctx.Err()
		}
		r, err := c.once(a, cfg, p, seed)
		if err != nil {
			return err
		}
		if r.Exit == messages.ExitSuccess {
			good++
		}
		if a.json {
			a.line(r)
		}
	}
	if len(seeds) > 1 {
		a.say("%d of %d runs ended well", good, len(seeds))
	}
	if a.json {
		a.line(map[string]any{"type": "summary", "protocol": p.Name, "version": p.Version, "lab": cfg.Lab.Name, "runs": len(seeds), "succeeded": good})
	}
	if good < len(seeds) {
		return errRefused
	}
	return nil
}

// loadProtocol finds a protocol, by its file or its name, and the lab that it
// is for: the one that is given, else the one that it names, else demo.
func loadProtocol(name, dir string) (*configs.Config, *protocols.Protocol, error) {
	file, data := builtIn(name)
	if st, err := os.Stat(name); err == nil && !st.IsDir() {
		file = name
		if data, err = readBounded(name); err != nil {
			return nil, nil, err
		}
	}
	if data == nil {
		return nil, nil, fmt.Errorf("there is no protocol file %s, and none of that name is built in (%s)", name, strings.ReplaceAll(strings.Join(sortedNames(protocols.Library()), ", "), ".yaml", ""))
	}
	if dir == "" {
		dir = labOf(file, data)
	}
	cfg, err := loadLab(dir)
	if err != nil {
		return nil, nil, err
	}
	p, issues := protocols.Parse(file, data, cfg.Classes, finderOf(cfg, file))
	return cfg, p, issues.Err()
}

// builtIn is the library's protocol of a name that is no file or folder here.
func builtIn(name string) (file string, data []byte) {
	file = strings.TrimSuffix(name, ".yaml") + ".yaml"
	if _, err := os.Stat(name); err == nil {
		return file, nil
	}
	return file, protocols.Library()[file]
}

// labOf is the lab that a protocol names, by its own folder's side or built
// in; demo where it names none.
func labOf(file string, data []byte) string {
	for _, line := range strings.Split(string(data), "\n") {
		name, ok := strings.CutPrefix(line, "lab:")
		if name = strings.TrimSpace(strings.SplitN(name, "#", 2)[0]); !ok || !lab.ValidName(name) {
			continue
		}
		for _, dir := range []string{filepath.Dir(filepath.Dir(file)), filepath.Join(filepath.Dir(file), name), filepath.Join("configs", "labs", name)} {
			if head, err := os.ReadFile(filepath.Join(dir, "lab.yaml")); err == nil && strings.Contains("\n"+string(head), "\nlab: "+name+"\n") {
				return dir
			}
		}
		return name
	}
	return "demo"
}

func (c *simulateCmd) seeds() ([]uint64, error) {
	if c.Seeds == "" {
		return []uint64{c.Seed}, nil
	}
	from, to, ok := strings.Cut(c.Seeds, "-")
	lo, err := strconv.ParseUint(from, 10, 32)
	hi := lo
	if ok && err == nil {
		hi, err = strconv.ParseUint(to, 10, 32)
	}
	if err != nil || hi < lo || hi-lo >= 10_000 {
		return nil, fmt.Errorf("%w: --seeds %s: write the first and the last, as in 1-20", errUsage, c.Seeds)
	}
	var list []uint64
	for s := lo; s <= hi; s++ {
		list = append(list, s)
	}
	return list, nil
}

// simulatedWithin bounds the lab time of one simulation beyond what the plan
// may take at worst: verdict, leases, and what nobody foresaw.
const simulatedWithin = 10 * time.Minute

func (c *simulateCmd) once(a *app, cfg *configs.Config, p *protocols.Protocol, seed uint64) (r simulated, err error) {
	began := time.Now()
	r = simulated{Type: "run", Seed: seed, Synthetic: true}
	var w *twin.Twin
	told, err := c.answers(func() *twin.Twin { return w })
	if err != nil {
		return r, err
	}
	w, err = twin.New(twin.Options{Lab: cfg.Lab, Rules: cfg.Rules, Classes: cfg.Classes, Encodable: frame.Encodable, Seed: seed, Library: []*protocols.Protocol{p},
		Principals: append([]runner.Principal{{Name: "scientist", Role: "scientist", Inline: true}}, simulatedPeople...), Told: told, Quiet: c.Trace == "", Sparse: true})
	if err != nil {
		return r, err
	}
	if c.Trace != "" {
		defer func() { err = errors.Join(err, os.WriteFile(c.Trace, w.Trace(), 0o644)) }()
	}
	if err := w.Run(func(w *twin.Twin) bool { return w.Status().Ready }, time.Minute); err != nil {
		return r, fmt.Errorf("the simulated lab was not ready: %w", err)
	}
	if err := c.faults(w); err != nil {
		return r, err
	}
	given := map[string]lab.Value{}
	for n, s := range c.Input {
		given[n] = parseInput(s)
	}
	w.Submit("scientist", messages.Body(messages.Proposal{Kind: messages.KindProposal, ID: "simulate", Key: "simulate", Inputs: given,
		Protocol: &messages.ProtocolRef{Name: p.Name, Version: p.Version}}))
	if err := w.Run(func(w *twin.Twin) bool { return len(w.Verdicts("scientist")) > 0 }, time.Minute); err != nil {
		return r, err
	}
	v := w.Verdicts("scientist")[0]
	r.Decision, r.Issues = v.Decision, v.Issues
	if v.Decision != messages.AcceptedDecision {
		for _, i := range v.Issues {
			a.say("%s", i.Error())
		}
		a.say("rejected: %s", v.Say)
		return r, nil
	}
	stop, err := c.follow(a, w, v)
	if err != nil {
		return r, err
	}
	r.Exit, r.Reason, r.Rule, r.Outputs, r.LabTime, r.Seconds = stop.ExitStatus, stop.Reason, stop.Rule, stop.Outputs, lab.Q(math.Round(stop.Seconds*1000)/1000, "s"), time.Since(began).Seconds()
	for _, n := range stop.NumEvents {
		r.Events += n
	}
	for _, l := range w.Status().Latches {
		r.Latched = append(r.Latched, l.Rule)
	}
	c.summary(a, r)
	return r, nil
}

// follow runs until the run's stop document, and shows its events.
func (c *simulateCmd) follow(a *app, w *twin.Twin, v messages.Verdict) (messages.RunStop, error) {
	began, shown := w.Now(), 0
	limit := simulatedWithin
	if v.Bill != nil {
		if d, err := v.Bill.Worst.Duration(); err == nil {
			limit += d
		}
	}
	err := w.Run(func(w *twin.Twin) bool {
		_, over := w.Stopped(v.Run)
		return over || a.ctx.Err() != nil
	}, limit)
	if err == nil {
		err = a.ctx.Err()
	}
	if err != nil {
		return messages.RunStop{}, err
	}
	for _, d := range w.Documents(v.Run) {
		if e, ok := d.(messages.RunEvent); ok && shown < 1000 {
			shown++
			a.say("%9.1f s  %-20s %s %s", e.Time.Sub(began).Seconds(), e.Step, e.Outcome, strings.TrimSpace(report.Values(e.Data)+" "+e.Say))
		}
	}
	stop, _ := w.Stopped(v.Run)
	return stop, nil
}

func (c *simulateCmd) summary(a *app, r simulated) {
	a.say("seed %d: %s%s after %s of lab time, in %.2f s", r.Seed, r.Exit, inBrackets(r.Reason), r.LabTime, r.Seconds)
	names := sortedNames(r.Outputs)
	for _, n := range names {
		a.say("  %-12s %s", n, report.Short(r.Outputs[n]))
	}
	for _, l := range r.Latched {
		a.say("  latched: %s", l)
	}
}

func inBrackets(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

// faults switches on what --fault names.
func (c *simulateCmd) faults(w *twin.Twin) error {
	for _, f := range c.Fault {
		what, at, _ := strings.Cut(f, "@")
		instrument, name, ok := strings.Cut(what, ":")
		after := time.Duration(0)
		if at != "" {
			q, err := lab.ParseQuantity(at)
			if err == nil {
				after, err = q.Duration()
			}
			if err != nil {
				return fmt.Errorf("%w: --fault %s: %v", errUsage, f, err)
			}
		}
		base, _, _ := strings.Cut(name, ".")
		if !ok || !slices.Contains(w.World().Faults()[instrument], base) {
			var names bytes.Buffer
			for _, n := range sortedNames(w.World().Faults()) {
				fmt.Fprintf(&names, "\n  %s: %s", n, strings.Join(w.World().Faults()[n], ", "))
			}
			return fmt.Errorf("%w: --fault %s: write INSTRUMENT:FAULT or INSTRUMENT:FAULT@TIME; there are%s", errUsage, f, names.String())
		}
		// Tried at once, so that a limit that is none is told before the run.
		if err := w.World().Fault(instrument, name, after == 0, nil); err != nil {
			return fmt.Errorf("%w: --fault %s: %v", errUsage, f, err)
		}
		if after > 0 {
			w.At(after, f, func() { _ = w.World().Fault(instrument, name, true, nil) }) // it was taken above
		}
	}
	return nil
}
