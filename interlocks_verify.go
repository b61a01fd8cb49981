package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"labgate/configs"
	"labgate/safety"
	"labgate/safety/analysis"
)

// enough is the share of mutants that a lab's cases have to kill.
const enough = 0.95

type interlocksVerifyCmd struct {
	Lab     string   `help:"The lab whose rules are looked at." default:"demo" placeholder:"DIR"`
	Cases   []string `help:"Case files beside the lab's own *cases*.yaml." placeholder:"FILE"`
	Mutants bool     `help:"Weaken every rule in turn, and see whether a case notices." default:"true" negatable:""`
}

// verified is what verify found out about one lab.
type verified struct {
	findings  []analysis.Finding
	mutants   int
	killed    int
	excused   int // survivors that the interlocks file explains
	survivors []survivor
	cases     int // that passed under the true rules, and were tried
}

// survivor is a mutant that no case kills.
type survivor struct {
	analysis.Mutant
	Explained string `json:"explained,omitempty"`
}

// open counts the findings that nobody has explained.
func (v verified) open() int {
	n := 0
	for _, f := range v.findings {
		if f.Explained == "" {
			n++
		}
	}
	return n
}

// score is the share of mutants that were killed, among those that can be.
func (v verified) score() float64 {
	if v.mutants == v.excused {
		return 1
	}
	return float64(v.killed) / float64(v.mutants-v.excused)
}

func (v verified) ok() bool { return v.open() == 0 && v.score() >= enough }

// Run reports what is odd about a lab's rules, and which weaker rules its
// cases would not notice.
func (c *interlocksVerifyCmd) Run(a *app) error {
	cfg, err := loadLab(c.Lab)
	if err != nil {
		return err
	}
	trials, err := c.trials(a)
	if err != nil {
		return err
	}
	v, err := verifyLab(a.ctx, cfg, trials)
	if err != nil {
		return err
	}
	if a.json {
		v.lines(a)
	} else {
		v.tell(a)
	}
	if !v.ok() {
		return errRefused
	}
	return nil
}

// trials are the cases that the rules' mutants are tried with: those of the
// lab's folder, and those that are named.
func (c *interlocksVerifyCmd) trials(a *app) ([]trial, error) {
	if !c.Mutants {
		return nil, nil
	}
	files := slices.Clone(c.Cases)
	dir := c.Lab
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		dir = filepath.Join("configs", "labs", c.Lab) // a built-in lab: its cases lie in the source
	}
	if own, err := caseFiles([]string{dir}); err == nil {
		files = append(files, own...)
	}
	if len(files) == 0 && !a.json {
		a.say("no cases: whether anybody would notice a weaker rule is not known")
	}
	return trialsOf(a.ctx, files)
}

// trial is one case: whether it passes under some rules.
type trial struct {
	name  string
	about map[string]bool // the rules that it names: tried first on their mutants
	pass  func(*safety.Rules) bool
}

// verifyLab analyses the rules, and, with trials, their mutants.
func verifyLab(ctx context.Context, cfg *configs.Config, trials []trial) (verified, error) {
	v := verified{findings: analysis.Verify(cfg.Rules)}
	if len(trials) == 0 {
		return v, nil
	}
	for _, t := range trials {
		if !t.pass(cfg.Rules) {
			return v, fmt.Errorf("case %q fails under the rules as they are: run labgate interlocks test first", t.name)
		}
	}
	list := analysis.Mutants(cfg.InterlocksFile, cfg.Interlocks, cfg.Rules)
	v.mutants, v.cases = len(list), len(trials)
	killed, err := tryMutants(ctx, list, trials)
	if err != nil {
		return v, err
	}
	because := map[string]string{}
	for _, e := range cfg.Rules.Explained {
		because[e.Finding] = e.Because
	}
	alive := map[string]bool{}
	for i, m := range list {
		if killed[i] {
			v.killed++
			continue
		}
		alive[m.ID] = true
		v.survivors = append(v.survivors, survivor{m, because[m.ID]})
		if because[m.ID] != "" {
			v.excused++
		}
	}
	v.findings = append(v.findings, analysis.Stale(cfg.Rules, alive)...)
	return v, nil
}

// tryMutants runs the cases on every mutant until one of them fails, with as
// many workers as there are processors; it joins them.
func tryMutants(ctx context.Context, list []analysis.Mutant, trials []trial) ([]bool, error) {
	killed := make([]bool, len(list))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), 8) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(list) {
					return
				}
				killed[i] = kills(ctx, list[i], trials)
			}
		}()
	}
	workers.Wait()
	return killed, ctx.Err()
}

// kills tries the cases that name the mutant's rule first: they are the likely
// ones.
func kills(ctx context.Context, m analysis.Mutant, trials []trial) bool {
	for _, named := range []bool{true, false} {
		for _, t := range trials {
			if ctx.Err() == nil && t.about[m.Rule] == named && !t.pass(m.Rules) {
				return true
			}
		}
	}
	return false
}

// tell prints for people.
func (v verified) tell(a *app) {
	for _, explained := range []bool{false, true} {
		for _, f := range v.findings {
			if (f.Explained != "") != explained {
				continue
			}
			a.say("%s: %s: %s%s", f.Pos, f.Code, f.Say, bracket(f.Hint, !explained))
			a.say("    %s%s", f.ID, because(f.Explained))
		}
	}
	for _, s := range v.survivors {
		a.say("%s: survived: %s %s, from %q to %q%s", s.Pos, s.Rule, s.Kind, s.From, s.To, bracket("it takes "+s.Hint, s.Explained == ""))
		a.say("    %s%s", s.ID, because(s.Explained))
	}
	a.say("%d findings, %d of them explained", len(v.findings), len(v.findings)-v.open())
	if v.cases > 0 {
		a.say("%d mutants, %d killed by %d cases, %d survive, %d of them explained: %.1f %% (at least %.0f %% is wanted)",
			v.mutants, v.killed, v.cases, len(v.survivors), v.excused, 100*v.score(), 100*enough)
	} else {
		a.say("no mutants were tried: there are no cases")
	}
}

func bracket(s string, show bool) string {
	if s == "" || !show {
		return ""
	}
	return " (" + s + ")"
}

func because(s string) string {
	if s == "" {
		return ""
	}
	return ": explained: " + s
}

// lines prints for machines.
func (v verified) lines(a *app) {
	for _, f := range v.findings {
		a.line(struct {
			Type string `json:"type"`
			analysis.Finding
			File   string `json:"file,omitempty"`
			Line   int    `json:"line,omitempty"`
			Column int    `json:"column,omitempty"`
		}{"finding", f, f.Pos.File, f.Pos.Line, f.Pos.Column})
	}
	for _, s := range v.survivors {
		a.line(struct {
			Type string `json:"type"`
			survivor
			File   string `json:"file,omitempty"`
			Line   int    `json:"line,omitempty"`
			Column int    `json:"column,omitempty"`
		}{"survivor", s, s.Pos.File, s.Pos.Line, s.Pos.Column})
	}
	a.line(map[string]any{"type": "summary", "ok": v.ok(), "findings": len(v.findings), "unexplained": v.open(), "cases": v.cases,
		"mutants": v.mutants, "killed": v.killed, "survived": len(v.survivors), "explained": v.excused, "score": v.score()})
}
