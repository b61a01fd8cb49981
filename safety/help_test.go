package safety_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"labgate/configs"
	"labgate/lab"
	"labgate/safety"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestMain lets the property tests try more than the usual hundred: here a try
// costs little, and what goes wrong takes a rare order of things.
func TestMain(m *testing.M) {
	checks := "400"
	if os.Getenv("LABGATE_HEAVY") != "" {
		checks = "5000"
	}
	if err := flag.Set("rapid.checks", checks); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// t0 is when every test begins.
var t0 = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }

// demo loads the demo lab, once for each caller: tests change it.
func demo(t testing.TB) *configs.Config {
	t.Helper()
	sub, err := fs.Sub(configs.Embedded(), "labs/demo")
	if err != nil {
		t.Fatal(err)
	}
	c, err := configs.Load(sub, "demo")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s is\n%s\nnow it says\n%s", file, want, got)
	}
}

// desk is an engine under rules of a test, with every reading of the demo lab
// at hand.
type desk struct {
	testing.TB
	lab    *lab.Lab
	rules  *safety.Rules
	engine *safety.Engine
	n      int
}

// rulesOf compiles rules over the demo lab without its own limits.
func rulesOf(t testing.TB, l *lab.Lab, text string) *safety.Rules {
	t.Helper()
	r, is := safety.Parse("rules.yaml", []byte(text), l)
	if len(is) > 0 {
		t.Fatal(is)
	}
	return r
}

func newDesk(t testing.TB, text string) *desk {
	t.Helper()
	l := demo(t).Lab
	r := rulesOf(t, l, "interlocks: test\n"+text)
	return &desk{TB: t, lab: l, rules: r, engine: safety.NewEngine(l, r, t0)}
}

func (d *desk) property(path string) lab.PropertyID {
	d.Helper()
	id, _, err := d.lab.ResolveProperty(path)
	if err != nil {
		d.Fatal(err)
	}
	return id
}

func (d *desk) target(path string) lab.CommandID {
	d.Helper()
	id, _, err := d.lab.ResolveCommand(path)
	if err != nil {
		d.Fatal(err)
	}
	return id
}

// good is a good reading, taken and received at once.
func good(now time.Time, v lab.Value) lab.Reading {
	return lab.Reading{Value: v, Quality: lab.Good, Source: now, Received: now, Epoch: 1}
}

// value reads "true", "idle" or "3 mL/min".
func value(text string) lab.Value {
	if text == "true" || text == "false" {
		return lab.BoolValue(text == "true")
	}
	q, err := lab.ParseQuantity(text)
	if err != nil {
		return lab.EnumValue(text)
	}
	return lab.NumberValue(q)
}

// see feeds good readings, given as "path = value".
func (d *desk) see(now time.Time, readings ...string) []safety.Event {
	d.Helper()
	var samples []lab.Sample
	for _, r := range readings {
		path, v, ok := strings.Cut(r, " = ")
		if !ok {
			d.Fatalf("%q is no reading", r)
		}
		samples = append(samples, lab.Sample{ID: d.property(path), Reading: good(now, value(v))})
	}
	return d.engine.Observe(now, samples)
}

func (d *desk) put(now time.Time, path string, r lab.Reading) []safety.Event {
	d.Helper()
	return d.engine.Observe(now, []lab.Sample{{ID: d.property(path), Reading: r}})
}

// command makes a command with a new id: "pump_a.dose volume=5 mL rate=1 mL/min".
func (d *desk) command(text string) *lab.Command {
	d.Helper()
	d.n++
	parts := strings.SplitN(text, " ", 2)
	c := &lab.Command{ID: fmt.Sprintf("c%d", d.n), Target: d.target(parts[0]), Args: map[string]lab.Value{}, Principal: "planner_1", Run: "run", Lease: 7, NotAfter: t0.Add(100 * time.Hour)}
	if len(parts) == 2 {
		for _, a := range strings.Split(parts[1], ", ") {
			n, v, _ := strings.Cut(a, "=")
			x := value(v)
			if spec := d.lab.CommandSpec(c.Target).Arg(n); spec != nil {
				y, err := spec.Type.Conform(x)
				if err != nil {
					d.Fatal(err)
				}
				x = y
			}
			c.Args[n] = x
		}
	}
	return c
}

func (d *desk) decide(now time.Time, text string) safety.Decision {
	d.Helper()
	return d.engine.Decide(now, d.command(text), 1)
}

// refused fails unless the decision denies, and returns what it says.
func (d *desk) refused(x safety.Decision) string {
	d.Helper()
	if x.Permit != nil || len(x.Refusals) == 0 {
		d.Fatalf("it was allowed: %+v", x)
	}
	return x.Refusals.Error()
}

func (d *desk) allowed(x safety.Decision) *safety.Permit {
	d.Helper()
	if x.Permit == nil {
		d.Fatalf("refused: %v", x.Refusals)
	}
	return x.Permit
}

// names writes events for comparison: "trip hot (first out)", "lost c1".
func names(events []safety.Event) string {
	var list []string
	for _, e := range events {
		switch e := e.(type) {
		case *safety.Trip:
			s := "trip " + e.Latch.Rule
			if e.Latch.FirstOut {
				s += " first"
			}
			list = append(list, s)
		case *safety.Lost:
			list = append(list, "lost "+e.Command+" by "+e.Rule)
		case *safety.AlarmChanged:
			list = append(list, map[bool]string{true: "alarm ", false: "normal "}[e.Active]+e.Rule)
		case *safety.Rearmed:
			list = append(list, "rearmed "+e.Rule)
		}
	}
	return strings.Join(list, ", ")
}

// ask decides about a command of a run and a principal, "" for the usual ones.
func (d *desk) ask(now time.Time, run, principal, text string) (string, safety.Decision) {
	d.Helper()
	c := d.command(text)
	if run != "" {
		c.Run = run
	}
	if principal != "" {
		c.Principal = principal
	}
	return c.ID, d.engine.Decide(now, c, 1)
}

// run lets a command be allowed and done at once.
func (d *desk) run(now time.Time, text string) {
	d.Helper()
	id, x := d.ask(now, "", "", text)
	d.allowed(x)
	d.engine.Done(now, id, safety.AllDone, nil)
}

// only fails unless one rule refuses, and returns its issue.
func (d *desk) only(x safety.Decision, rule string) lab.Issue {
	d.Helper()
	d.refused(x)
	if len(x.Refusals) != 1 || x.Refusals[0].Rule != rule {
		d.Fatalf("it is refused by %v; by %s alone is wanted", x.Refusals, rule)
	}
	return x.Refusals[0]
}
