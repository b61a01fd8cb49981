package runner_test

import (
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/runner"
)

// rests doses, rests at a safe point, and doses again.
const rests = `protocol: rests
version: 1.0.0
on_restart: continue
roles:
  gold: {is: pump/v1}
steps:
  - {id: first, do: gold.dose, with: {volume: 0.1 mL, rate: 1 mL/min}}
  - {id: rest, wait: {for: 1 min}, safe_point: true}
  - {id: second, do: gold.dose, with: {volume: 0.1 mL, rate: 1 mL/min}}
finally:
  - {do: gold.stop}
`

// What becomes of a run that was under way when the process went down: it goes
// on by itself only from a safe point, where protocol and lab both say so, and
// nothing is latched.
func TestOnRestart(t *testing.T) {
	for name, c := range map[string]struct {
		says    string // the protocol
		lab     bool
		early   bool // in the first dose
		latched bool
		held    bool // by a person, before
		want    runner.RunState
	}{
		"goes on":              {says: "continue", lab: true, want: runner.Running},
		"the lab is silent":    {says: "continue", want: runner.Held},
		"the file says hold":   {says: "hold", lab: true, want: runner.Held},
		"not at a safe point":  {says: "continue", lab: true, early: true, want: runner.Held},
		"latched":              {says: "continue", lab: true, latched: true, want: runner.Held},
		"a person had held it": {says: "continue", lab: true, held: true, want: runner.Held},
		"the file says abort":  {says: "abort", lab: true, want: runner.Ending},
		"abort in a dose":      {says: "abort", early: true, want: runner.Ending},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(rests, "on_restart: continue", "on_restart: "+c.says, 1)
			if c.says != "continue" {
				text = strings.Replace(text, ", safe_point: true", "", 1)
			}
			o := newOffice(t, text)
			place := *o.opts.Lab
			place.Runs.ContinueAfterRestart = c.lab
			o.opts.Lab = &place
			o.core = runner.New(o.opts)
			id := o.accepted("scientist_1", proposal("k", "rests@1.0.0", ""))
			if !c.early {
				o.ok()
				o.pass(10 * time.Second)
			}
			if c.held {
				if r := o.control("operator_1", messages.ControlHold, id); !r.OK {
					t.Fatal(r.Say)
				}
			}
			if c.latched {
				o.journal = append(o.journal, lab.Entry{Kind: "stop/v1", Time: o.now, Origin: "gateway/bench", Body: []byte(`{"rule":"stop","say":"by a person"}`)})
			}
			o.restart()
			o.pass(3 * time.Second)
			if got := o.run(id); got.State != string(c.want) {
				t.Errorf("%s: %s", got.State, got.Say)
			}
			doses := 0
			for _, cmd := range o.commands { // since the restart
				if cmd.Command == "dose" {
					doses++
				}
			}
			if doses != 0 {
				t.Errorf("%d doses", doses)
			}
			if c.want != runner.Running {
				return
			}
			o.pass(time.Minute)
			if o.last.Command != "dose" || o.last.Step != "second" {
				t.Errorf("%+v", o.last)
			}
			resumed := 0
			for _, e := range o.journal {
				if e.Kind == "run_resumed/v1" {
					resumed++
				}
			}
			if resumed != 1 {
				t.Errorf("%d entries let it go on", resumed)
			}
		})
	}
}
