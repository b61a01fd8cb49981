package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"labgate/configs"
	"labgate/internal/rulecases"
	"labgate/lab"
	"labgate/safety"
)

// interlocksCmd are the tools of the safety officer. None connects to anything.
type interlocksCmd struct {
	Test   interlocksTestCmd   `cmd:"" help:"Run rule cases."`
	Try    interlocksTryCmd    `cmd:"" help:"One decision, explained."`
	Matrix interlocksMatrixCmd `cmd:"" help:"The cause-and-effect table."`
	Verify interlocksVerifyCmd `cmd:"" help:"What is odd about the rules, and what no case would notice."`
}

type interlocksTestCmd struct {
	Files   []string `arg:"" help:"Case files, folders, or folder/... for all below."`
	Only    string   `name:"run" help:"Only the cases whose names match." placeholder:"REGEXP"`
	Verbose bool     `short:"v" help:"List the cases that pass, too."`
}

// caseLine is what test says of one case; with --json it is one line.
type caseLine struct {
	Type         string `json:"type"` // case
	Name         string `json:"name"`
	File         string `json:"file"`
	OK           bool   `json:"ok"`
	Expected     string `json:"expected,omitempty"`
	Got          string `json:"got,omitempty"`
	Why          string `json:"why,omitempty"`
	Escape       bool   `json:"escape"`
	FalseRefusal bool   `json:"false_refusal"`
}

// tally counts cases.
type tally struct {
	Type          string  `json:"type"` // summary
	Cases         int     `json:"cases"`
	Passed        int     `json:"passed"`
	MustAct       int     `json:"must_refuse"`
	MustPass      int     `json:"must_allow"`
	Escapes       int     `json:"escapes"`
	FalseRefusals int     `json:"false_refusals"`
	Files         int     `json:"files"`
	Seconds       float64 `json:"seconds"`
}

// Run runs every case of every file.
func (c *interlocksTestCmd) Run(a *app) error {
	began := time.Now()
	only, err := regexp.Compile(c.Only)
	if err != nil {
		return fmt.Errorf("%w: --run: %v", errUsage, err)
	}
	files, err := caseFiles(c.Files)
	if err != nil {
		return err
	}
	t := tally{Type: "summary", Files: len(files)}
	broken := false
	for _, file := range files {
		s, err := loadCases(file)
		if err != nil {
			broken = true
			sayIssues(a, file, err)
			continue
		}
		if err := c.file(a, s, only, &t); err != nil {
			return err
		}
	}
	t.Seconds = time.Since(began).Seconds()
	if a.json {
		a.line(t)
	}
	a.say("%d cases in %d files, %d of what must be refused or acted on, %d of what must be allowed", t.Cases, t.Files, t.MustAct, t.MustPass)
	a.say("%d passed, %d escapes, %d false refusals, in %.1f s", t.Passed, t.Escapes, t.FalseRefusals, t.Seconds)
	if broken || t.Passed < t.Cases {
		return errRefused
	}
	if t.Cases == 0 {
		return errors.New("no case was run: nothing is shown by that")
	}
	return nil
}

func sayIssues(a *app, file string, err error) {
	var list lab.Issues
	if !errors.As(err, &list) {
		list = lab.Issues{{Code: "unreadable", File: file, Say: err.Error()}}
	}
	for _, i := range list {
		if a.json {
			a.line(map[string]any{"type": "issue", "file": file, "issue": i})
		}
		a.say("%s", i.Error())
	}
}

func (c *interlocksTestCmd) file(a *app, s *suite, only *regexp.Regexp, t *tally) error {
	r := rulecases.NewRunner(s.config.Lab, s.rules, s.nominal)
	for _, x := range s.file.Cases {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		if !only.MatchString(x.Name) {
			continue
		}
		res := r.Run(x)
		t.count(res)
		if a.json {
			a.line(caseLine{"case", x.Name, s.file.Path, res.OK, res.Expected, res.Got, x.Why, res.Escape, res.FalseRefusal})
			continue
		}
		switch {
		case !res.OK:
			a.say("FAIL  %s\n      %s: %s\n      expected %s\n      got      %s\n      why      %s", x.Name, res.Pos, verdictOf(res), res.Expected, res.Got, x.Why)
		case c.Verbose:
			a.say("ok    %s", x.Name)
		}
	}
	return nil
}

func verdictOf(r rulecases.Result) string {
	switch {
	case r.Escape:
		return "an ESCAPE: something passed that must not"
	case r.FalseRefusal:
		return "a false refusal: something was stopped that must pass"
	}
	return "the case itself does not work"
}

func (t *tally) count(r rulecases.Result) {
	t.Cases++
	if r.Case.MustAct() {
		t.MustAct++
	} else {
		t.MustPass++
	}
	if r.OK {
		t.Passed++
	}
	if r.Escape {
		t.Escapes++
	}
	if r.FalseRefusal {
		t.FalseRefusals++
	}
}

// suite is a file of cases with its lab and its rules.
type suite struct {
	file    *rulecases.File
	config  *configs.Config
	rules   *safety.Rules
	nominal map[lab.PropertyID]lab.Value
}

// caseFiles lists the case files that the arguments name: files, the
// *cases*.yaml of a folder, or with /... of all folders below.
func caseFiles(args []string) ([]string, error) {
	var list []string
	for _, arg := range args {
		dir, deep := strings.CutSuffix(arg, "...")
		st, err := os.Stat(filepath.Clean(dir))
		if err != nil {
			return nil, err
		}
		if !st.IsDir() {
			list = append(list, arg)
			continue
		}
		root := filepath.Clean(dir)
		before := len(list)
		err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && path != root && (!deep || strings.HasPrefix(d.Name(), ".")):
				return fs.SkipDir
			case !d.IsDir() && strings.Contains(d.Name(), "cases") && filepath.Ext(path) == ".yaml":
				list = append(list, path)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(list) == before {
			return nil, fmt.Errorf("%s: there is no *cases*.yaml", arg)
		}
	}
	return list, nil
}

// loadCases reads a file of cases with the lab that it names.
func loadCases(file string) (*suite, error) {
	data, err := readBounded(file)
	if err != nil {
		return nil, err
	}
	head, is := rulecases.ReadHead(file, data)
	if len(is) > 0 {
		return nil, is
	}
	dir := filepath.Join(filepath.Dir(file), head.Lab)
	cfg, err := configs.Load(os.DirFS(dir), dir)
	if err != nil {
		return nil, err
	}
	s := &suite{config: cfg, rules: cfg.Rules}
	if head.Interlocks != "" {
		name := filepath.Join(filepath.Dir(file), head.Interlocks)
		text, err := readBounded(name)
		if err != nil {
			return nil, err
		}
		if s.rules, is = safety.Parse(name, text, cfg.Lab); len(is) > 0 {
			return nil, is
		}
	}
	s.nominal = rulecases.Nominal(cfg.Lab, s.rules)
	if s.file, is = rulecases.Parse(file, data, cfg.Lab, s.rules); len(is) > 0 {
		return nil, is
	}
	return s, nil
}

// trialsOf makes the trials of a lab's mutants from its files of cases.
func trialsOf(ctx context.Context, files []string) ([]trial, error) {
	var list []trial
	for _, file := range files {
		s, err := loadCases(file)
		if err != nil {
			return nil, err
		}
		for _, x := range s.file.Cases {
			list = append(list, trial{name: x.Name, about: x.Rules(), pass: func(rules *safety.Rules) bool {
				return rulecases.NewRunner(s.config.Lab, rules, s.nominal).Run(x).OK
			}})
		}
	}
	return list, ctx.Err()
}
