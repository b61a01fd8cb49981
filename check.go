package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"labgate/configs"
	"labgate/internal/strict"
	"labgate/lab"
	"labgate/messages"
	"labgate/protocols"
	"labgate/report"
	"labgate/safety"
	"labgate/safety/preflight"
)

type checkCmd struct {
	Files []string          `arg:"" help:"Protocol, lab, profile, class or interlocks files, lab folders, or names of built-in protocols."`
	Lab   string            `help:"The lab that protocols and interlocks are checked against (default: the one that a protocol names, else demo)." placeholder:"DIR"`
	Input map[string]string `help:"An input of a protocol, name=value; again for each." short:"i"`
}

// checked is what check says of one file; with --json it is one line.
type checked struct {
	messages.Verdict
	File  string  `json:"file"`
	What  string  `json:"what"`                 // protocol, lab, profile, class, interlocks
	All   bool    `json:"all_inputs,omitempty"` // proved for every value that the inputs may have; the bill is for the defaults
	Reach []reach `json:"reach,omitempty"`
	// Insecure are a lab's instruments whose links have no security policy.
	Insecure []string `json:"insecure,omitempty"`
	// Occupation is how long at worst each instrument's commands take.
	Occupation map[string]lab.Quantity `json:"occupation,omitempty"`
}

// reach is what a protocol's commands may bring a property to.
type reach struct {
	Property string       `json:"property"`
	Low      lab.Quantity `json:"low"`
	Up       lab.Quantity `json:"up"`
}

// Run checks every file and reports everything that is wrong with each.
func (c *checkCmd) Run(a *app) error {
	bad := 0
	for _, path := range c.Files {
		cfg, labErr := c.labFor(path)
		r := c.check(path, cfg, labErr)
		r.Kind, r.Origin, r.Time = messages.KindVerdict, "check", time.Now()
		r.Decision, r.Say = messages.AcceptedDecision, "no issues"
		if len(r.Issues) > 0 {
			bad++
			r.Decision, r.Say = messages.RejectedDecision, fmt.Sprintf("rejected: %d issues", len(r.Issues))
			if len(r.Issues) == 1 {
				r.Say = "rejected: " + r.Issues[0].Say
			}
		}
		if a.json {
			a.line(r)
			continue
		}
		for _, i := range r.Issues {
			a.say("%s", i.Error())
		}
		if len(r.Issues) == 0 {
			a.say("%s: %s, no issues%s", path, r.What, report.Bill(r.Bill))
			c.say(a, r)
		}
	}
	if bad > 0 {
		return errRefused
	}
	return nil
}

// say shows what was proved, for people.
func (c *checkCmd) say(a *app, r checked) {
	if len(r.Insecure) > 0 {
		a.say("  INSECURE  %s: no security policy; any program on this machine could command it", strings.Join(r.Insecure, ", "))
	}
	if r.What != "protocol" {
		return
	}
	inputs := "for these inputs"
	if r.All {
		inputs = "for all inputs"
	}
	if len(r.Proved) > 0 {
		a.say("  proved %s: %s", inputs, strings.Join(r.Proved, ", "))
	}
	for _, l := range r.Live {
		a.say("  checked live: %-20s %s", l.Step, strings.Join(l.Rules, ", "))
	}
	for _, x := range r.Reach {
		a.say("  may reach:    %-30s %s to %s", x.Property, report.Short(lab.NumberValue(x.Low)), report.Short(lab.NumberValue(x.Up)))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Occupation)) {
		a.say("  occupied:     %-30s at most %s", name, report.Short(lab.NumberValue(r.Occupation[name])))
	}
}

// labFor is the lab that a file is checked against.
func (c *checkCmd) labFor(path string) (*configs.Config, error) {
	if c.Lab != "" {
		return loadLab(c.Lab)
	}
	file, data := builtIn(path)
	if data == nil {
		file = path
		data, _ = readBounded(path) // none of a folder, or of what check itself reports
	}
	return loadLab(labOf(file, data))
}

func (c *checkCmd) check(path string, cfg *configs.Config, labErr error) checked {
	r := checked{File: path}
	fail := func(err error) checked {
		if list, ok := err.(lab.Issues); ok {
			r.Issues = append(r.Issues, list...)
		} else {
			var unread *fs.PathError
			if errors.As(err, &unread) {
				err = unread.Err // the issue itself names the file
			}
			i := lab.Issue{Code: "unreadable", File: path, Say: err.Error()}
			if errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(path, "/.") {
				i.Hint = "the built-in protocols are " + strings.ReplaceAll(strings.Join(sortedNames(protocols.Library()), ", "), ".yaml", "")
			}
			r.Issues = append(r.Issues, i)
		}
		return r
	}
	if file, data := builtIn(path); data != nil && labErr == nil {
		r.What = "protocol"
		c.checkProtocol(file, data, cfg, &r)
		return r
	}
	st, err := os.Stat(path)
	if err != nil {
		return fail(err)
	}
	if st.IsDir() || filepath.Base(path) == "lab.yaml" {
		r.What = "lab"
		if !st.IsDir() {
			path = filepath.Dir(path)
		}
		own, err := loadLab(path)
		if err != nil {
			return fail(err)
		}
		r.Hashes = messages.Hashes{Lab: own.Lab.Hash, Rules: own.Rules.Hash}
		_, r.Issues = loadLibrary(own)
		r.Insecure = insecureLinks(own.Lab)
		return r
	}
	data, err := readBounded(path)
	if err != nil {
		return fail(err)
	}
	if labErr != nil {
		return fail(labErr)
	}
	r.What = kindOf(path, data)
	switch r.What {
	case "class":
		_, r.Issues = configs.ParseClass(path, data)
	case "profile":
		_, r.Issues = configs.ParseProfile(path, data, cfg.Classes)
	case "interlocks":
		_, r.Issues = safety.Parse(path, data, cfg.Lab)
	case "protocol":
		c.checkProtocol(path, data, cfg, &r)
	default:
		r.Issues = append(r.Issues, notOurs(path, data)...)
	}
	return r
}

// readBounded reads a file as far as any of ours may go: what a name stands
// for may be a device that never ends.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, strict.MaxBytes+1))
	if err == nil && len(data) > strict.MaxBytes {
		err = fmt.Errorf("more than %d bytes; that is no file of Labgate's", strict.MaxBytes)
	}
	return data, errors.Join(err, f.Close())
}

// kindOf tells by its first key what a file is.
func kindOf(path string, data []byte) string {
	root, _ := strict.Parse(path, data) // its issues are found again by the right parser
	d := &strict.Decoder{}
	keys := d.Map(root, "file").Keys()
	for _, k := range keys {
		switch k {
		case "protocol", "profile", "class", "interlocks":
			return k
		case "lab":
			return "lab"
		}
	}
	return ""
}

func notOurs(path string, data []byte) lab.Issues {
	root, is := strict.Parse(path, data)
	if root != nil && len(is) == 0 {
		is.Add(lab.Pos{File: path, Line: 1, Column: 1}, "unknown_file", "a file begins with protocol:, lab:, profile:, class: or interlocks:", "this is none of Labgate's files")
	}
	return is
}

// checkProtocol goes as far as a proposal would: parse, bind, bill, preflight.
func (c *checkCmd) checkProtocol(path string, data []byte, cfg *configs.Config, r *checked) {
	p, issues := protocols.Parse(path, data, cfg.Classes, finderOf(cfg, path))
	r.Issues = append(r.Issues, issues...)
	if p == nil || len(issues) > 0 {
		return
	}
	r.Hashes = messages.Hashes{Protocol: p.Hash, Lab: cfg.Lab.Hash, Rules: cfg.Rules.Hash}
	if len(c.Input) == 0 && len(p.Inputs) > 0 && !c.checkAll(p, cfg, r) {
		return
	}
	given := map[string]lab.Value{}
	for n, text := range c.Input {
		given[n] = parseInput(text)
	}
	inputs, issues := p.CheckInputs(given)
	if len(c.Input) == 0 && len(issues) > 0 {
		return // an input without a default: it was checked for all of them, and there is no bill
	}
	r.Issues = append(r.Issues, issues...)
	if len(issues) > 0 {
		return
	}
	plan, issues := protocols.Bind(p, cfg.Lab, inputs)
	r.Issues = append(r.Issues, issues...)
	if plan == nil || len(issues) > 0 {
		return
	}
	r.Hashes.Plan = plan.Hash
	r.Bill = &messages.Bill{Expected: lab.Seconds(plan.Bill.Expected), Worst: lab.Seconds(plan.Bill.Worst), Exposures: plan.Bill.Exposures, Commands: plan.Bill.Commands, Consumption: plan.Bill.Consumption}
	r.Occupation = map[string]lab.Quantity{}
	for name, busy := range plan.Bill.Occupation {
		r.Occupation[name] = lab.Seconds(busy)
	}
	if len(c.Input) == 0 && len(p.Inputs) > 0 {
		return // said for all inputs already
	}
	r.preflight(preflight.With(cfg.Rules)(plan))
}

// checkAll proves a protocol for all of its inputs; false if there is nothing
// more to say.
func (c *checkCmd) checkAll(p *protocols.Protocol, cfg *configs.Config, r *checked) bool {
	said, issues := preflight.All(cfg.Rules)(p, cfg.Lab)
	r.Issues = append(r.Issues, issues...)
	r.preflight(said)
	r.All = true
	return len(r.Issues) == 0
}

func (r *checked) preflight(said preflight.Result) {
	r.Issues, r.Proved = append(r.Issues, said.Refused...), said.Proved
	for _, l := range said.Live {
		r.Live = append(r.Live, messages.LiveCheck(l))
	}
	for _, x := range said.Reach {
		r.Reach = append(r.Reach, reach{x.Property.String(), x.Low, x.Up})
	}
}
